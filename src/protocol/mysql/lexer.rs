//! As much of the lexical structure of MySQL and MariaDB as it takes to split a text into statements and to find
//! its literals (<https://dev.mysql.com/doc/refman/8.4/en/language-structure.html>,
//! <https://mariadb.com/docs/server/reference/sql-structure>).
//!
//! How a text is read hangs on `sql_mode` and, for comments that are run (`/*! … */`, `/*M! … */`), on the server's
//! version, neither of which we always know. So whatever refuses a text looks at every reading that it may have, and
//! nothing here permits anything but the one file that a client itself offers with `LOAD DATA LOCAL`. A text that is
//! read wrongly still goes to the server as it is.

mod kill;
mod mask;
mod words;

use std::ops::Range;

use crate::protocol::masking::password_in_address;
use crate::protocol::scan;

pub(crate) use kill::{Kill, kill};
pub(crate) use mask::mask;
pub(crate) use words::{first_words, local_files, placeholders, used_databases};

/// Words in a text that make a closer look necessary. Found in one pass over each text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Signs {
    /// It may hold a password.
    pub secret: bool,
    /// It may stop another session.
    pub kill: bool,
    /// It may offer a file of the client's.
    pub local: bool,
    /// It may enter another database.
    pub enters: bool,
}

const CLASS: [bool; 256] = {
    let mut class = [false; 256];
    let marks = b"pPiIkKlLuU:";
    let mut i = 0;
    while i < marks.len() {
        class[marks[i] as usize] = true;
        i += 1;
    }
    class
};

/// Looks for [`Signs`].
pub(crate) fn signs(text: &[u8]) -> Signs {
    let mut signs = Signs::default();
    for (at, byte) in text.iter().enumerate() {
        if !CLASS[*byte as usize] {
            continue;
        }
        let rest = &text[at..];
        match byte | 0x20 {
            b'p' => signs.secret |= begins_with(rest, b"passw"),
            b':' => signs.secret |= password_in_address(rest).is_some(),
            b'i' => signs.secret |= begins_with(rest, b"identified"),
            b'k' => signs.kill |= begins_with(rest, b"kill"),
            b'l' => signs.local |= begins_with(rest, b"local"),
            _ => signs.enters |= begins_with(rest, b"use") && !in_word(rest.get(3).copied().unwrap_or(b' ')),
        }
    }
    signs
}

/// Case is ignored; `word` is in lower case.
fn begins_with(text: &[u8], word: &[u8]) -> bool {
    text.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word))
}

/// What decides how a text is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mode {
    /// A backslash in a literal escapes; not so in the mode `NO_BACKSLASH_ESCAPES`.
    pub backslash: bool,
    /// `"…"` is a name: the mode `ANSI_QUOTES`.
    pub names: bool,
    /// What is in `/*! … */` is run.
    pub runs: bool,
}

impl Mode {
    /// Of a server that was set up by nobody.
    pub const DEFAULT: Self = Self { backslash: true, names: false, runs: true };

    /// The first reading that is likely, where the status of the server's last answer is known.
    pub fn of_status(no_backslash: bool) -> Self {
        Self { backslash: !no_backslash, ..Self::DEFAULT }
    }
}

/// Every reading of a text that some mode and some server may have.
pub(crate) fn readings(text: &[u8]) -> impl Iterator<Item = Mode> {
    let has = |part: &[u8]| find(text, part).is_some();
    let both = |differs: bool| if differs { &[true, false][..] } else { &[true][..] };
    let (escapes, runs) = (both(has(b"\\")), both(has(b"/*!") || has(b"/*M!")));
    // A name in double quotes differs from a literal in them by its backslashes only.
    let names = if escapes.len() == 2 && has(b"\"") { &[false, true][..] } else { &[false][..] };
    escapes.iter().flat_map(move |backslash| {
        names.iter().flat_map(move |names| {
            runs.iter().map(move |runs| Mode { backslash: *backslash, names: *names, runs: *runs })
        })
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Space,
    Comment,
    /// The start of a comment that is run, with its version, or the end of it.
    Runs,
    /// A keyword, a name without quotes, a number.
    Word,
    /// In backticks, or a double-quoted name.
    Quoted,
    /// In single quotes, or double ones.
    Literal,
    Symbol(u8),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    kind: Kind,
    all: Range<usize>,
    /// What is between the quotes, or the whole of other tokens.
    inner: Range<usize>,
}

/// Tokens in order, without gaps. What is not closed ends with the text.
#[derive(Clone)]
struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    mode: Mode,
    /// Within a comment that is run.
    inside: bool,
}

impl<'a> Lexer<'a> {
    fn new(text: &'a [u8], mode: Mode) -> Self {
        Self { text, at: 0, mode, inside: false }
    }

    fn byte(&self, at: usize) -> u8 {
        self.text.get(at).copied().unwrap_or(0)
    }

    fn token(&mut self) -> Token {
        let from = self.at;
        let plain = |kind, end: usize| Token { kind, all: from..end, inner: from..end };
        let line = |lexer: &Self| scan::end_of(lexer.text, from, |byte| byte != b'\n');
        match (self.byte(from), self.byte(from + 1)) {
            (byte, _) if is_space(byte) => plain(Kind::Space, scan::end_of(self.text, from, is_space)),
            (b'#', _) => plain(Kind::Comment, line(self)),
            // Two dashes begin a comment only in front of a blank or a control character, or at the end.
            (b'-', b'-') if from + 2 >= self.text.len() || self.byte(from + 2) <= b' ' => {
                plain(Kind::Comment, line(self))
            }
            (b'/', b'*') => self.comment(from),
            (b'*', b'/') if self.inside => {
                self.inside = false;
                plain(Kind::Runs, from + 2)
            }
            (quote @ (b'\'' | b'"' | b'`'), _) => {
                let is_name = quote == b'`' || (quote == b'"' && self.mode.names);
                let (inner, end) = scan::quoted(self.text, from + 1, quote, self.mode.backslash && !is_name);
                let kind = if is_name { Kind::Quoted } else { Kind::Literal };
                // A backslash at the end of the text would escape what is behind it.
                let (inner, end) = (inner.min(self.text.len()), end.min(self.text.len()));
                Token { kind, all: from..end, inner: from + 1..inner }
            }
            (byte, _) if in_word(byte) => plain(Kind::Word, scan::end_of(self.text, from, in_word)),
            (symbol, _) => plain(Kind::Symbol(symbol), from + 1),
        }
    }

    fn comment(&mut self, from: usize) -> Token {
        let mark = match (self.byte(from + 2), self.byte(from + 3)) {
            (b'!', _) => 3,
            (b'M', b'!') => 4,
            _ => 0,
        };
        if mark > 0 && self.mode.runs {
            self.inside = true;
            // The version is five or six digits.
            let digits =
                scan::end_of(self.text, (from + mark).min(self.text.len()), |byte| byte.is_ascii_digit());
            let end = digits.min(from + mark + 6);
            return Token { kind: Kind::Runs, all: from..end, inner: from..end };
        }
        let body = (from + 2).min(self.text.len());
        let end = find(&self.text[body..], b"*/").map_or(self.text.len(), |length| body + length + 2);
        Token { kind: Kind::Comment, all: from..end, inner: from..end }
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        if self.at >= self.text.len() {
            return None;
        }
        let token = self.token();
        self.at = token.all.end;
        Some(token)
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

fn in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

/// The tokens that mean something, each with whether it is a keyword's place: behind a dot or an at sign every word
/// is a name.
fn meaningful(text: &[u8], mode: Mode) -> impl Iterator<Item = (Token, bool)> {
    let mut before = 0u8;
    Lexer::new(text, mode).filter_map(move |token| {
        // Blanks between make no difference to a dot: `a . kill` is a name too. To an at sign they would.
        if matches!(token.kind, Kind::Space | Kind::Comment) {
            if before == b'@' {
                before = 0;
            }
            return None;
        }
        let free = !matches!(before, b'.' | b'@');
        before = match token.kind {
            Kind::Symbol(symbol) => symbol,
            _ => 0,
        };
        Some((token, free))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kinds(text: &str, mode: Mode) -> Vec<(Kind, &str)> {
        Lexer::new(text.as_bytes(), mode)
            .filter(|token| token.kind != Kind::Space)
            .map(|token| (token.kind, &text[token.inner]))
            .collect()
    }

    #[test]
    fn literals_comments_and_names_end_where_the_server_ends_them() {
        use Kind::{Comment, Literal, Quoted, Runs, Symbol, Word};
        let mode = Mode::DEFAULT;
        assert_eq!(kinds("a 'b''c' d", mode), [(Word, "a"), (Literal, "b''c"), (Word, "d")]);
        assert_eq!(kinds(r"'a\' b'c", mode), [(Literal, r"a\' b"), (Word, "c")]);
        let plain = Mode { backslash: false, ..mode };
        assert_eq!(kinds(r"'a\' b", plain), [(Literal, r"a\"), (Word, "b")]);
        assert_eq!(kinds(r#""a\" b""#, mode), [(Literal, r#"a\" b"#)]);
        let names = Mode { names: true, ..mode };
        assert_eq!(kinds(r#""a\" b"#, names), [(Quoted, r"a\"), (Word, "b")]);
        assert_eq!(kinds(r"`a\` b", mode), [(Quoted, r"a\"), (Word, "b")]);
        assert_eq!(kinds("a--b", mode).len(), 4);
        assert_eq!(kinds("a-- b\nc", mode), [(Word, "a"), (Comment, "-- b"), (Word, "c")]);
        assert_eq!(kinds("a--", mode), [(Word, "a"), (Comment, "--")]);
        assert_eq!(kinds("a#b\nc", mode), [(Word, "a"), (Comment, "#b"), (Word, "c")]);
        assert_eq!(kinds("/* a /* b */ c", mode), [(Comment, "/* a /* b */"), (Word, "c")]);
        assert_eq!(
            kinds("/*!50003 a */ b", mode),
            [(Runs, "/*!50003"), (Word, "a"), (Runs, "*/"), (Word, "b")]
        );
        assert_eq!(kinds("/*M!100203 a*/", mode), [(Runs, "/*M!100203"), (Word, "a"), (Runs, "*/")]);
        let skips = Mode { runs: false, ..mode };
        assert_eq!(kinds("/*!99999 ' */ b", skips), [(Comment, "/*!99999 ' */"), (Word, "b")]);
        assert_eq!(kinds("a*/b", mode), [(Word, "a"), (Symbol(b'*'), "*"), (Symbol(b'/'), "/"), (Word, "b")]);
        assert_eq!(kinds(r"'a\", mode), [(Literal, r"a\")]);
    }

    #[test]
    fn signs_are_seen_in_any_case() {
        assert_eq!(signs(b"select 1"), Signs::default());
        assert!(signs(b"set PassWord = 'x'").secret && signs(b"... IDENTIFIED by").secret);
        assert!(signs(b"KiLL 1").kill && signs(b"load data LOCAL infile").local);
        assert!(signs(b"... 'mysql://u:p@h/d'").secret && !signs(b"... 'https://h:80/a@b:c@'").secret);
        assert!(signs(b"USE shop").enters && signs(b"use`shop`").enters && signs(b"x; use").enters);
        assert_eq!(signs(b"user used_ pass loca"), Signs::default());
    }

    proptest! {
        #[test]
        fn any_text_is_split_without_gaps(text in proptest::collection::vec(
            prop_oneof![any::<u8>(), proptest::sample::select(b"'\"`a;/*-\\ \n#!M@.".to_vec())], 0..200
        )) {
            for mode in readings(&text) {
                let mut at = 0;
                for token in Lexer::new(&text, mode) {
                    prop_assert_eq!(token.all.start, at);
                    prop_assert!(token.all.end > at && token.inner.start <= token.inner.end);
                    prop_assert!(token.inner.end <= token.all.end);
                    at = token.all.end;
                }
                prop_assert_eq!(at, text.len());
            }
            kill(&text, None);
            used_databases(&text, Mode::DEFAULT, |_| true);
            local_files(&text);
            placeholders(&text, Mode::DEFAULT);
            mask(&text, Mode::DEFAULT);
            prop_assert!(first_words(&text, 5).len() <= 5);
        }
    }
}
