//! As much of PostgreSQL's lexical structure as it takes to split a text into statements and to find
//! its literals (<https://www.postgresql.org/docs/current/sql-syntax-lexical.html>).
//!
//! Nothing here permits anything: it labels a text, finds the statements that undo a client's start-up
//! settings, and masks passwords. A text that it reads wrongly still goes to the server as it is.

mod mask;
mod pins;
mod words;

pub(crate) use mask::mask;
pub(crate) use pins::{Pins, pins};
pub(crate) use words::first_words;

use std::ops::Range;

use crate::protocol::masking::password_in_address;
use crate::protocol::scan;

/// Words in a text that make a closer look necessary. Found in one pass over each text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Signs {
    /// There is a zero byte.
    pub nul: bool,
    /// It may hold a password.
    pub secret: bool,
    /// It may undo a setting.
    pub reset: bool,
}

const CLASS: [u8; 256] = {
    let mut class = [0; 256];
    let marks = b"pPiIrRdD:";
    let mut i = 0;
    while i < marks.len() {
        class[marks[i] as usize] = 1;
        i += 1;
    }
    class[0] = 2;
    class
};

/// Looks for [`Signs`].
pub(crate) fn signs(text: &[u8]) -> Signs {
    let mut signs = Signs::default();
    for (at, byte) in text.iter().enumerate() {
        match CLASS[*byte as usize] {
            0 => {}
            2 => signs.nul = true,
            _ => {
                let rest = &text[at..];
                match byte | 0x20 {
                    b'p' => signs.secret |= begins_with(rest, b"passw"),
                    b'i' => signs.secret |= begins_with(rest, b"identified"),
                    b':' => signs.secret |= password_in_address(rest).is_some(),
                    b'r' => signs.reset |= begins_with(rest, b"reset"),
                    _ => signs.reset |= begins_with(rest, b"discard") || begins_with(rest, b"default"),
                }
            }
        }
    }
    signs
}

/// Case is ignored; `word` is in lower case.
fn begins_with(text: &[u8], word: &[u8]) -> bool {
    text.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Space,
    Comment,
    /// A keyword or an identifier without quotes.
    Word,
    /// `"…"` and `U&"…"`.
    Quoted,
    /// `'…'` with any prefix. A backslash may escape in it.
    Literal,
    /// `$tag$…$tag$`.
    Dollar,
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
    /// `standard_conforming_strings`: a backslash in `'…'` is nothing special.
    conforming: bool,
}

impl<'a> Lexer<'a> {
    fn new(text: &'a [u8], conforming: bool) -> Self {
        Self { text, at: 0, conforming }
    }

    fn byte(&self, at: usize) -> u8 {
        self.text.get(at).copied().unwrap_or(0)
    }

    fn comment_end(&self, from: usize) -> usize {
        let (mut depth, mut at) = (1, from);
        while at < self.text.len() {
            match (self.byte(at), self.byte(at + 1)) {
                (b'/', b'*') => (depth, at) = (depth + 1, at + 2),
                (b'*', b'/') => {
                    (depth, at) = (depth - 1, at + 2);
                    if depth == 0 {
                        return at;
                    }
                }
                _ => at += 1,
            }
        }
        self.text.len()
    }

    /// `$tag$` at `from`: the end of the tag.
    fn dollar_tag(&self, from: usize) -> Option<usize> {
        let first = self.byte(from + 1);
        if first == b'$' {
            return Some(from + 2);
        }
        if !starts_word(first) {
            return None;
        }
        let end = scan::end_of(self.text, from + 1, |byte| byte != b'$' && in_word(byte));
        (self.byte(end) == b'$').then_some(end + 1)
    }

    fn word(&self, from: usize) -> Token {
        let first = self.byte(from) | 0x20;
        let (next, behind) = (self.byte(from + 1), self.byte(from + 2));
        if next == b'\'' && matches!(first, b'e' | b'b' | b'x' | b'n') {
            let escapes = first == b'e' || (first == b'n' && !self.conforming);
            return self.literal(from, from + 2, escapes);
        }
        if first == b'u' && next == b'&' && behind == b'\'' {
            return self.literal(from, from + 3, !self.conforming);
        }
        if first == b'u' && next == b'&' && behind == b'"' {
            let (inner, end) = scan::quoted(self.text, from + 3, b'"', false);
            return Token { kind: Kind::Quoted, all: from..end, inner: from + 3..inner };
        }
        let end = scan::end_of(self.text, from, in_word);
        Token { kind: Kind::Word, all: from..end, inner: from..end }
    }

    fn literal(&self, from: usize, inner: usize, escapes: bool) -> Token {
        let (inner_end, end) = scan::quoted(self.text, inner, b'\'', escapes);
        Token { kind: Kind::Literal, all: from..end, inner: inner..inner_end }
    }

    fn token(&self) -> Token {
        let from = self.at;
        let plain = |kind, end: usize| Token { kind, all: from..end, inner: from..end };
        match (self.byte(from), self.byte(from + 1)) {
            (b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c, _) => plain(
                Kind::Space,
                scan::end_of(self.text, from, |byte| {
                    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
                }),
            ),
            (b'-', b'-') => {
                plain(Kind::Comment, scan::end_of(self.text, from, |byte| byte != b'\n' && byte != b'\r'))
            }
            (b'/', b'*') => plain(Kind::Comment, self.comment_end(from + 2)),
            (b'\'', _) => self.literal(from, from + 1, !self.conforming),
            (b'"', _) => {
                let (inner, end) = scan::quoted(self.text, from + 1, b'"', false);
                Token { kind: Kind::Quoted, all: from..end, inner: from + 1..inner }
            }
            (b'$', _) => match self.dollar_tag(from) {
                Some(body) => {
                    let tag = &self.text[from..body];
                    let length = find(&self.text[body..], tag);
                    let inner = body..length.map_or(self.text.len(), |length| body + length);
                    let end = length.map_or(self.text.len(), |length| body + length + tag.len());
                    Token { kind: Kind::Dollar, all: from..end, inner }
                }
                None => plain(Kind::Symbol(b'$'), from + 1),
            },
            (first, _) if starts_word(first) => self.word(from),
            // Digits go together, so that a `$1` or `1e5` cannot be taken for words.
            (b'0'..=b'9', _) => plain(
                Kind::Symbol(b'0'),
                scan::end_of(self.text, from, |byte| byte.is_ascii_digit() || byte == b'.'),
            ),
            (symbol, _) => plain(Kind::Symbol(symbol), from + 1),
        }
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

fn starts_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn in_word(byte: u8) -> bool {
    starts_word(byte) || byte.is_ascii_digit() || byte == b'$'
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

/// What a statement does to settings of the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SettingChange {
    /// `RESET ALL` or `DISCARD ALL`.
    ResetAll,
    /// Back to the value that the connection began with; the name in lower case.
    Reset(String),
    Set(String),
}

/// The head of a statement says what it is; no setting's name has more parts than this.
const HEAD_TOKENS: usize = 10;

/// The changes of settings that the statements of a text make, in order. `SET LOCAL` is none: it
/// ends with its transaction.
pub(crate) fn setting_changes(text: &[u8], conforming: bool) -> Vec<SettingChange> {
    let mut changes = Vec::new();
    let mut head: Vec<Token> = Vec::with_capacity(HEAD_TOKENS);
    let mut depth = 0usize;
    for token in Lexer::new(text, conforming) {
        match token.kind {
            Kind::Space | Kind::Comment => continue,
            Kind::Symbol(b';') if depth == 0 => {
                changes.extend(setting_change(text, &head));
                head.clear();
                continue;
            }
            Kind::Symbol(b'(') => depth += 1,
            Kind::Symbol(b')') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if head.len() < HEAD_TOKENS {
            head.push(token);
        }
    }
    changes.extend(setting_change(text, &head));
    changes
}

/// The tokens of one statement's head, read from the left.
struct Head<'a> {
    text: &'a [u8],
    tokens: &'a [Token],
}

impl Head<'_> {
    /// Takes these keywords if they all come next.
    fn take(&mut self, words: &[&str]) -> bool {
        let found = self.tokens.len() >= words.len()
            && words.iter().zip(self.tokens).all(|(word, token)| {
                token.kind == Kind::Word && self.text[token.all.clone()].eq_ignore_ascii_case(word.as_bytes())
            });
        if found {
            self.tokens = &self.tokens[words.len()..];
        }
        found
    }

    fn take_symbol(&mut self, symbol: u8) -> bool {
        let found = self.tokens.first().is_some_and(|token| token.kind == Kind::Symbol(symbol));
        if found {
            self.tokens = &self.tokens[1..];
        }
        found
    }

    /// A setting's name: words or quoted words with dots between.
    fn name(&mut self) -> Option<String> {
        let mut name = String::new();
        loop {
            let token = self.tokens.first()?;
            if !matches!(token.kind, Kind::Word | Kind::Quoted) {
                return None;
            }
            name.push_str(&String::from_utf8_lossy(&self.text[token.inner.clone()]).to_ascii_lowercase());
            self.tokens = &self.tokens[1..];
            if !self.take_symbol(b'.') {
                return Some(name.replace("\"\"", "\""));
            }
            name.push('.');
        }
    }
}

/// <https://www.postgresql.org/docs/current/sql-set.html> and its neighbours RESET and DISCARD.
fn setting_change(text: &[u8], tokens: &[Token]) -> Option<SettingChange> {
    let mut head = Head { text, tokens };
    if head.take(&["discard"]) {
        return head.take(&["all"]).then_some(SettingChange::ResetAll);
    }
    if head.take(&["reset"]) {
        return match () {
            () if head.take(&["all"]) => Some(SettingChange::ResetAll),
            () if head.take(&["session", "authorization"]) => None,
            () if head.take(&["time", "zone"]) => Some(SettingChange::Reset("timezone".into())),
            () => head.name().map(SettingChange::Reset),
        };
    }
    if !head.take(&["set"]) || head.take(&["local"]) {
        return None;
    }
    head.take(&["session"]);
    if head.take(&["authorization"]) || head.take(&["characteristics"]) || head.take(&["role"]) {
        return None;
    }
    if head.take(&["time", "zone"]) {
        let back = head.take(&["default"]) || head.take(&["local"]);
        let name = "timezone".to_owned();
        return Some(if back { SettingChange::Reset(name) } else { SettingChange::Set(name) });
    }
    if head.take(&["names"]) {
        let back = head.tokens.is_empty() || head.take(&["default"]);
        let name = "client_encoding".to_owned();
        return Some(if back { SettingChange::Reset(name) } else { SettingChange::Set(name) });
    }
    if head.take(&["schema"]) {
        return Some(SettingChange::Set("search_path".into()));
    }
    let name = head.name()?;
    if !head.take_symbol(b'=') && !head.take(&["to"]) {
        return None;
    }
    Some(if head.take(&["default"]) { SettingChange::Reset(name) } else { SettingChange::Set(name) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kinds(text: &str, conforming: bool) -> Vec<(Kind, &str)> {
        Lexer::new(text.as_bytes(), conforming)
            .filter(|token| token.kind != Kind::Space)
            .map(|token| (token.kind, &text[token.inner]))
            .collect()
    }

    #[test]
    fn literals_comments_and_names_end_where_the_server_ends_them() {
        use Kind::{Comment, Dollar, Literal, Quoted, Symbol, Word};
        assert_eq!(kinds("a 'b''c' d", true), [(Word, "a"), (Literal, "b''c"), (Word, "d")]);
        assert_eq!(kinds(r"'a\' b", true), [(Literal, r"a\"), (Word, "b")]);
        assert_eq!(kinds(r"'a\' b'c", false), [(Literal, r"a\' b"), (Word, "c")]);
        assert_eq!(kinds(r"e'a\' b'c", true), [(Literal, r"a\' b"), (Word, "c")]);
        assert_eq!(kinds(r#""a""b";"#, true), [(Quoted, r#"a""b"#), (Symbol(b';'), ";")]);
        assert_eq!(kinds("$a$ $$ $b$ $a$x", true), [(Dollar, " $$ $b$ "), (Word, "x")]);
        assert_eq!(kinds("$1$2", true)[0], (Symbol(b'$'), "$"));
        assert_eq!(kinds("a$b$c", true), [(Word, "a$b$c")]);
        assert_eq!(kinds("/* a /* b */ ; */x--;\ny", true)[1], (Word, "x"));
        assert_eq!(kinds("x--;\ny", true), [(Word, "x"), (Comment, "--;"), (Word, "y")]);
        assert_eq!(kinds("U&'a' u&\"b\"", true), [(Literal, "a"), (Quoted, "b")]);
        assert_eq!(kinds("'not closed", true), [(Literal, "not closed")]);
    }

    #[test]
    fn statements_that_undo_settings_are_found_and_nothing_else() {
        use SettingChange::{Reset, ResetAll, Set};
        let changes = |text: &str| setting_changes(text.as_bytes(), true);
        for text in [
            "reset all",
            " /* x */ RESET\n--;\nALL ;",
            "discard all",
            "select ';'; Discard All",
            "select $$;$$;reset all",
        ] {
            assert_eq!(changes(text), [ResetAll], "{text}");
        }
        for text in [
            "select 'a; reset all'",
            "discard temp",
            "set local search_path to default",
            "reset session authorization",
            "set session authorization default",
            "set role none",
            "-- reset all",
            "create rule r as on insert to t do (select 1; reset all)",
            "set session characteristics as transaction read only",
            "",
        ] {
            assert_eq!(changes(text), [], "{text}");
        }
        assert_eq!(changes("SET Search_Path = DEFAULT"), [Reset("search_path".into())]);
        assert_eq!(changes("set session \"my\".Thing to default"), [Reset("my.thing".into())]);
        assert_eq!(changes("reset time zone"), [Reset("timezone".into())]);
        assert_eq!(changes("set time zone local"), [Reset("timezone".into())]);
        assert_eq!(
            changes("reset all; set search_path to a, b; reset x"),
            [ResetAll, Set("search_path".into()), Reset("x".into())]
        );
    }

    #[test]
    fn signs_are_seen_in_any_case() {
        assert_eq!(signs(b"select 1"), Signs::default());
        assert!(signs(b"alter role a PassWord 'x'").secret);
        assert!(signs(b"... IDENTIFIED by").secret);
        assert!(signs(b"... 'postgres://u:p@h/d'").secret && !signs(b"'https://h:80/a@b:c@'::text").secret);
        assert!(signs(b"DISCARD all").reset && signs(b"set a to default").reset && signs(b"ReSet a").reset);
        assert!(signs(b"a\0").nul);
        assert_eq!(signs(b"pass res dis"), Signs::default());
    }

    proptest! {
        #[test]
        fn any_text_is_split_without_gaps(text in proptest::collection::vec(
            prop_oneof![any::<u8>(), proptest::sample::select(b"'\"$ae;/*-\\ \n&uU".to_vec())], 0..200
        ), conforming: bool) {
            let mut at = 0;
            for token in Lexer::new(&text, conforming) {
                prop_assert_eq!(token.all.start, at);
                prop_assert!(token.all.end > at && token.inner.start <= token.inner.end);
                prop_assert!(token.inner.end <= token.all.end);
                at = token.all.end;
            }
            prop_assert_eq!(at, text.len());
            setting_changes(&text, conforming);
        }
    }
}
