//! What is printed: data to stdout, the rest to stderr. A reader who leaves early (`| head`) ends the
//! command quietly.

use std::fmt::Write as _;
use std::io::{self, Write};

use serde::Serialize;

use crate::cli::failure::{Failure, Outcome};

/// Writes to stdout, whole or not at all as far as the reader is there.
pub fn print(text: &str) -> Outcome {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::silent(),
        _ => Failure::new(format!("the output cannot be written: {error}")),
    })
}

/// A line for people, not for programs. Where stderr is closed nobody wants it.
pub fn tell(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// One JSON document.
pub fn print_json(value: &impl Serialize) -> Outcome {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::new(format!("the answer is not JSON: {error}")))?;
    print(&(text + "\n"))
}

/// Text from elsewhere, safe on a terminal: one line, nothing that moves the cursor, changes colours
/// or turns the direction of writing.
pub fn plain(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    let mut blank = false;
    for c in text.chars() {
        if c.is_whitespace() {
            // Statements are indented over several lines; one space says as much.
            blank = !line.is_empty();
            continue;
        }
        if std::mem::take(&mut blank) {
            line.push(' ');
        }
        match c {
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => {
                // Writing to a String cannot fail.
                let _ = write!(line, "\\u{{{:x}}}", c as u32);
            }
            c if c.is_control() => {
                let _ = write!(line, "\\x{:02x}", c as u32);
            }
            c => line.push(c),
        }
    }
    line
}

/// Rows under a header, columns as wide as they must be.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new<const N: usize>(header: [&str; N]) -> Self {
        Self { rows: vec![header.map(str::to_owned).to_vec()] }
    }

    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.iter().map(|cell| plain(cell)).collect());
    }

    pub fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    pub fn text(&self) -> String {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
        };
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let _ = write!(line, "{cell:<width$}  ");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// `name: value` lines, the values aligned; those without a value are left out.
pub fn facts(lines: &[(&str, String)]) -> String {
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 1;
    let mut text = String::new();
    for (name, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
        let _ = writeln!(text, "{:<width$} {}", format!("{name}:"), plain(value));
    }
    text
}

/// `-` for what is not there.
pub fn or_dash(text: Option<impl ToString>) -> String {
    text.map_or_else(|| "-".to_owned(), |text| text.to_string())
}

/// `1 session`, `2 sessions`.
pub fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_move_the_cursor() {
        assert_eq!(plain("select\n    1,\t2 "), "select 1, 2");
        assert_eq!(plain("a\u{1b}[2Jb\u{7}"), "a\\x1b[2Jb\\x07");
        assert_eq!(plain("a\u{202e}b"), "a\\u{202e}b");
        assert_eq!(plain("Grüße"), "Grüße");
    }

    #[test]
    fn columns_are_aligned_and_lines_have_no_tail() {
        let mut table = Table::new(["NAME", "GROUPS", ""]);
        table.row(["alice".into(), "backend".into(), "".into()]);
        table.row(["bärbel".into(), "".into(), "x".into()]);
        assert_eq!(table.text(), "NAME    GROUPS\nalice   backend\nbärbel           x\n");
    }

    #[test]
    fn facts_without_a_value_are_left_out() {
        let text = facts(&[("id", "g-1".into()), ("reason", String::new()), ("target", "orders".into())]);
        assert_eq!(text, "id:     g-1\ntarget: orders\n");
    }
}
