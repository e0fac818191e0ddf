//! What the demo prints: headings, sentences, commands, and their output.

use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::print;

/// Lines are folded here, so that they fit a terminal beside an editor.
const COLUMNS: usize = 98;
const INDENT: &str = "  ";

/// A step of the story.
pub fn heading(number: usize, title: &str) -> Outcome {
    let line = format!("━━ {number}. {title} ");
    let rest = COLUMNS.saturating_sub(line.chars().count());
    print(&format!("\n{line}{}\n", "━".repeat(rest)))
}

/// Sentences of ours.
pub fn line(text: &str) -> Outcome {
    let folded: String = text.lines().map(|line| fold(line, COLUMNS, "") + "\n").collect();
    print(&folded)
}

/// Lines that somebody will copy: never folded.
pub fn ready(text: &str) -> Outcome {
    print(&format!("\n{text}\n"))
}

pub fn closing(text: &str) -> Outcome {
    print(&format!("\n{text}\n"))
}

/// A command as it could be typed: `$ tidegate grant list`.
pub fn command(prompt: &str, text: &str) -> Outcome {
    print(&format!("\n{}\n", fold(&format!("{prompt} {text}"), COLUMNS, "    ")))
}

/// What a program printed, line by line.
pub fn output<'a>(lines: impl IntoIterator<Item = &'a str>) -> Outcome {
    let mut text = String::new();
    for line in lines {
        text += INDENT;
        text += &fold(line.trim_end(), COLUMNS - INDENT.len(), "      ");
        text.push('\n');
    }
    print(&text)
}

/// Breaks a long line at blanks where there are some.
fn fold(line: &str, columns: usize, indent: &str) -> String {
    let mut folded = String::new();
    let mut rest = line;
    let mut room = columns;
    while let Some((limit, _)) = rest.char_indices().nth(room) {
        let at = rest[..limit].rfind(' ').filter(|at| *at > room / 2).map_or(limit, |at| at + 1);
        folded += rest[..at].trim_end();
        folded.push('\n');
        folded += INDENT;
        folded += indent;
        rest = &rest[at..];
        room = columns - indent.len();
    }
    folded + rest
}

/// What was shown must be what was promised.
pub fn expect(holds: bool, expected: &str, found: impl std::fmt::Display) -> Outcome {
    match holds {
        true => Ok(()),
        false => Err(Failure::new(format!("expected {expected}, found: {found}"))),
    }
}

/// The same, said aloud where it holds.
pub fn proven(holds: bool, claim: &str, found: impl std::fmt::Display) -> Outcome {
    expect(holds, claim, found)?;
    line(&format!("✓ {claim}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_folded_at_blanks() {
        assert_eq!(fold("short", 10, ""), "short");
        assert_eq!(fold("one two three four", 10, ""), "one two\n  three four");
        assert_eq!(fold("0123456789abc", 10, ""), "0123456789\n  abc");
        assert_eq!(fold("äöü äöü äöü", 8, ""), "äöü äöü\n  äöü");
    }

    #[test]
    fn a_mismatch_says_both_sides() {
        let failure = expect(false, "one row", "none").unwrap_err();
        assert_eq!(failure.message, "expected one row, found: none");
    }
}
