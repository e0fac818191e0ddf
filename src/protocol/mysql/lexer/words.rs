//! What the words of a text say at its statements' beginnings.

use std::borrow::Cow;

use super::{Kind, Lexer, Mode, Token, meaningful, readings, signs};
use crate::model::limits::LOCAL_FILES_MAX;

/// No keyword is longer.
const WORD_BYTES_MAX: usize = 24;

/// The first word of each statement: in capitals, in order, each once, at most `words_max`. As much as can be said of
/// a text that is too long to be read, or that the parser does not know.
pub(crate) fn first_words(text: &[u8], words_max: usize) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let (mut depth, mut at_start) = (0usize, true);
    for token in Lexer::new(text, Mode::DEFAULT) {
        match token.kind {
            Kind::Space | Kind::Comment | Kind::Runs => continue,
            Kind::Symbol(b';') if depth == 0 => at_start = true,
            Kind::Symbol(symbol) => {
                depth = match symbol {
                    b'(' => depth + 1,
                    b')' => depth.saturating_sub(1),
                    _ => depth,
                };
                // `(SELECT …) UNION …` begins with its first word too.
                at_start &= symbol == b'(';
            }
            Kind::Word if at_start => {
                at_start = false;
                let word = &text[token.all];
                if word.len() <= WORD_BYTES_MAX && word.iter().all(u8::is_ascii_alphabetic) {
                    let word = String::from_utf8_lossy(word).to_ascii_uppercase();
                    if !words.contains(&word) && words.len() < words_max {
                        words.push(word);
                    }
                }
            }
            _ => at_start = false,
        }
    }
    words
}

/// Whether every `USE` statement of a text names a database that passes
/// (<https://dev.mysql.com/doc/refman/8.4/en/use.html>).
pub(crate) fn used_databases(text: &[u8], mode: Mode, mut passes: impl FnMut(&str) -> bool) -> bool {
    let (mut at_start, mut names) = (true, false);
    for (token, _) in meaningful(text, mode) {
        match token.kind {
            Kind::Runs => continue,
            Kind::Symbol(b';') => (at_start, names) = (true, false),
            Kind::Word | Kind::Quoted if names => {
                names = false;
                let name = unquoted(text, &token);
                if !passes(&String::from_utf8_lossy(&name)) {
                    return false;
                }
            }
            Kind::Word if at_start => {
                at_start = false;
                names = text[token.all].eq_ignore_ascii_case(b"use");
            }
            _ => (at_start, names) = (false, false),
        }
    }
    true
}

fn unquoted<'a>(text: &'a [u8], token: &Token) -> Cow<'a, [u8]> {
    let inner = &text[token.inner.clone()];
    let quote = text[token.all.start];
    if token.kind != Kind::Quoted || !inner.contains(&quote) {
        return inner.into();
    }
    let mut name = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        name.push(byte);
        if byte == quote {
            bytes.next_if_eq(&quote);
        }
    }
    name.into()
}

/// The files of the client's that a text offers to the server, `LOAD DATA LOCAL INFILE …` or `LOAD XML LOCAL …`, in
/// any reading: it is the client's own text, and only opens what it says
/// (<https://dev.mysql.com/doc/refman/8.4/en/load-data.html>).
pub(crate) fn local_files(text: &[u8]) -> Vec<Vec<u8>> {
    let mut names = Vec::new();
    if signs(text).local {
        readings(text).for_each(|mode| offered_files(text, mode, &mut names));
    }
    names
}

fn offered_files(text: &[u8], mode: Mode, names: &mut Vec<Vec<u8>>) {
    let mut place = 0;
    for (token, free) in meaningful(text, mode) {
        let word = match token.kind {
            Kind::Runs => continue,
            Kind::Word if free => &text[token.all.clone()],
            _ => b"",
        };
        let is = |other: &[u8]| word.eq_ignore_ascii_case(other);
        place = match place {
            _ if is(b"load") => 1,
            1 if is(b"data") || is(b"xml") => 2,
            2 if is(b"low_priority") || is(b"concurrent") => 2,
            2 if is(b"local") => 3,
            3 if is(b"infile") => 4,
            4 if token.kind == Kind::Literal => {
                let name = literal(&text[token.inner], text[token.all.start], mode);
                // Each is looked for among the others.
                if names.len() < LOCAL_FILES_MAX && !names.contains(&name) {
                    names.push(name);
                }
                0
            }
            _ => 0,
        };
    }
}

/// What a literal stands for (<https://dev.mysql.com/doc/refman/8.4/en/string-literals.html>).
fn literal(inner: &[u8], quote: u8, mode: Mode) -> Vec<u8> {
    let mut value = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if byte == quote {
            bytes.next_if_eq(&quote);
        }
        let stands_for = match (byte, mode.backslash) {
            (b'\\', true) => match bytes.next() {
                Some(b'0') => 0,
                Some(b'b') => 0x08,
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(b'Z') => 0x1a,
                Some(escaped @ (b'%' | b'_')) => {
                    value.push(b'\\');
                    escaped
                }
                Some(escaped) => escaped,
                None => break,
            },
            _ => byte,
        };
        value.push(stands_for);
    }
    value
}

/// How many parameters a statement that is prepared has: its question marks.
pub(crate) fn placeholders(text: &[u8], mode: Mode) -> usize {
    Lexer::new(text, mode).filter(|token| token.kind == Kind::Symbol(b'?')).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_of_each_statement_is_found() {
        let words = |text: &str| first_words(text.as_bytes(), 3).join(" ");
        assert_eq!(words("optimize table t"), "OPTIMIZE");
        assert_eq!(
            words("/* a; */ ((select 1)) ; 'delete'; `drop`; update t set a = (1; b)"),
            "SELECT UPDATE"
        );
        assert_eq!(words("select 1; select 2; Delete from t"), "SELECT DELETE");
        assert_eq!(words("/*!40101 SET NAMES utf8 */; # x; y\nanalyze table t"), "SET ANALYZE");
        assert_eq!(words(""), "");
    }

    #[test]
    fn the_databases_that_are_entered_are_found() {
        let used = |text: &str| {
            let mut names = Vec::new();
            used_databases(text.as_bytes(), Mode::DEFAULT, |name| {
                names.push(name.to_owned());
                true
            });
            names.join(",")
        };
        assert_eq!(used("use shop"), "shop");
        assert_eq!(used("/* x */ USE `a``b`;select 1; use c ;"), "a`b,c");
        assert_eq!(used("/*!50000 use shop */"), "shop");
        assert_eq!(used("select 'x'; select 1 from t use index (i); 'use' x"), "");
        assert_eq!(used("update use set a = 1"), "");
        assert!(!used_databases(b"select 1; use hr", Mode::DEFAULT, |name| name != "hr"));
    }

    #[test]
    fn a_file_is_offered_by_the_statement_only() {
        let offered = |text: &str| {
            let names = local_files(text.as_bytes());
            names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect::<Vec<_>>().join("|")
        };
        assert_eq!(offered("LOAD DATA LOCAL INFILE 'a''b' INTO TABLE t"), "a'b");
        assert_eq!(offered("select 1; load xml /* x */ concurrent local infile \"b\" into table t"), "b");
        // Where a backslash may or may not escape both are offered.
        assert_eq!(offered(r"load data local infile 'c:\\tmp\\x' into table t"), r"c:\tmp\x|c:\\tmp\\x");
        assert_eq!(offered("load data infile 'local' into table t"), "");
        assert_eq!(offered("select 'load data local infile'"), "");
        assert_eq!(offered("select load, data, local"), "");
        assert_eq!(offered("load data local infile @x into table t"), "");
        let many: String =
            (0..1_000).map(|at| format!("load data local infile '{at}' into table t;")).collect();
        assert_eq!(local_files(many.as_bytes()).len(), LOCAL_FILES_MAX);
    }

    #[test]
    fn question_marks_are_counted() {
        assert_eq!(placeholders(b"select ?, '?', `?` -- ?\n, ?", Mode::DEFAULT), 2);
    }
}
