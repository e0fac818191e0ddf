//! Which texts can leave state that no catalog of the server shows, so that a session must stay on its
//! connection: settings of one's own (`my.thing`), current values of sequences, the seed of `random()`,
//! loaded libraries, anonymous code.
//!
//! A text that is read wrongly, or not at all, pins. Nothing here permits anything: what the catalogs show is
//! asked of the server itself (`relay::proof`).

use super::{HEAD_TOKENS, Kind, Lexer, Token};

/// What a text may leave behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pins {
    /// For as long as the session lives.
    pub lasting: Option<&'static str>,
    /// Until the session discards everything (`DISCARD ALL`).
    pub state: Option<&'static str>,
    /// Rows may have been inserted, and a default may have drawn a number from a sequence.
    pub inserts: bool,
}

impl Pins {
    pub const fn lasting(why: &'static str) -> Self {
        Self { lasting: Some(why), state: None, inserts: false }
    }

    const fn state(why: &'static str) -> Self {
        Self { lasting: None, state: Some(why), inserts: false }
    }

    pub fn is_none(self) -> bool {
        self == Self::default()
    }

    /// The first reason of each kind stays.
    pub fn and(self, other: Self) -> Self {
        Self {
            lasting: self.lasting.or(other.lasting),
            state: self.state.or(other.state),
            inserts: self.inserts || other.inserts,
        }
    }
}

const CUSTOM: &str = "a setting that no catalog shows";
const SEQUENCE: &str = "the current value of a sequence";
const SEED: &str = "the seed of random()";
const CODE: &str = "code that was run by DO or CALL";
const LIBRARY: &str = "a library that was loaded";
const CHANGED: &str = "a function that was changed";
const TEXT_RUN: &str = "a function that runs a text";
const ORIGIN: &str = "an origin of replication";
const TWO_PHASE: &str = "a prepared transaction";
const PROGRAM: &str = "a program that was run by COPY";
const UNREAD: &str = "a text that cannot be read";

/// What running `text` may leave behind. `ascii_safe`: in the client's encoding every byte below 128 is the
/// ASCII character.
pub(crate) fn pins(text: &[u8], conforming: bool, ascii_safe: bool) -> Pins {
    if !ascii_safe && !text.is_ascii() {
        return Pins::lasting(UNREAD);
    }
    let Words { look, inserts } = words(text);
    let mut pins = Pins { inserts, ..Pins::default() };
    if look {
        pins = pins.and(read(text, conforming));
        // What a backslash means may change between here and there, in a pipeline.
        if text.contains(&b'\\') {
            pins = pins.and(read(text, !conforming));
        }
    }
    pins
}

/// What a first pass over a text has found.
struct Words {
    /// There is a word that makes a closer look necessary.
    look: bool,
    inserts: bool,
}

const fn in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// One pass over the words, wherever they stand. Most texts have none of these.
fn words(text: &[u8]) -> Words {
    let mut found = Words { look: false, inserts: false };
    let mut at = 0;
    while at < text.len() {
        if !in_word(text[at]) {
            at += 1;
            continue;
        }
        let end = text[at..].iter().position(|byte| !in_word(*byte)).map_or(text.len(), |count| at + count);
        let word = &text[at..end];
        let is = |other: &[u8]| word.eq_ignore_ascii_case(other);
        match word[0] | 0x20 {
            b'0'..=b'9' => {
                // Servers before PostgreSQL 15 read `1set` as a number and a word.
                let ends = |other: &[u8]| {
                    let start = word.len().saturating_sub(other.len());
                    word[start..].eq_ignore_ascii_case(other)
                };
                found.look |= ends(b"set") || NOTED.iter().any(|noted| ends(noted));
                found.look |= ends(b"u") && text[end..].starts_with(b"&");
                found.inserts |= [&b"insert"[..], b"merge", b"default"].into_iter().any(ends);
            }
            b's' if is(b"set") => found.look |= sets_more_than_a_plain_name(&text[end..]),
            b'i' => found.inserts |= is(b"insert"),
            b'm' => found.inserts |= is(b"merge"),
            b'd' if is(b"default") => found.inserts = true,
            b's' | b'r' | b'n' | b'l' | b'c' | b'd' | b'p' | b'q' | b't' | b'a' | b'u' | b'x' => {
                found.look |= NOTED.iter().any(|noted| is(noted));
                // U&"…" can spell anything.
                found.look |= is(b"u") && text[end..].starts_with(b"&");
            }
            _ => {}
        }
        at = end;
    }
    found
}

/// Words that a closer look is for, but `set`.
const NOTED: [&[u8]; 27] = [
    b"set_config",
    b"setval",
    b"setseed",
    b"reset",
    b"nextval",
    b"lastval",
    b"currval",
    b"load",
    b"call",
    b"copy",
    b"create",
    b"alter",
    b"drop",
    b"do",
    b"prepare",
    b"query_to_xml",
    b"query_to_xmlschema",
    b"query_to_xml_and_xmlschema",
    b"ts_stat",
    b"ts_rewrite",
    b"crosstab",
    b"crosstab2",
    b"crosstab3",
    b"crosstab4",
    b"connectby",
    b"xpath_table",
    b"pg_replication_origin_session_setup",
];

/// Whether what stands behind the word SET is more than the ordinary `name = value`.
fn sets_more_than_a_plain_name(behind: &[u8]) -> bool {
    let rest = behind.trim_ascii_start();
    let end = rest.iter().position(|byte| !in_word(*byte)).unwrap_or(rest.len());
    let (name, rest) = rest.split_at(end);
    let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
    let next = rest.trim_ascii_start().first();
    // Behind a plain name: `=`, TO, or the value of TIME ZONE, NAMES and the like. Anything else (a dot, a quote,
    // a comment, white space that only the server knows) is for the closer look.
    let is_plain = next.is_some_and(|byte| matches!(byte, b'=' | b'\'') || byte.is_ascii_alphanumeric());
    name.is_empty() || is(b"session") || is(b"local") || is(b"seed") || !is_plain
}

/// The closer look: names of functions anywhere, and what each statement begins with.
fn read(text: &[u8], conforming: bool) -> Pins {
    let mut pins = Pins::default();
    let mut head: Vec<Token> = Vec::with_capacity(HEAD_TOKENS);
    let mut depth = 0usize;
    let mut tokens = Lexer::new(text, conforming)
        .filter(|token| !matches!(token.kind, Kind::Space | Kind::Comment))
        .peekable();
    while let Some(token) = tokens.next() {
        match token.kind {
            Kind::Symbol(b';') if depth == 0 => {
                pins = pins.and(statement(text, &head));
                head.clear();
                continue;
            }
            Kind::Symbol(b'(') => depth += 1,
            Kind::Symbol(b')') => depth = depth.saturating_sub(1),
            Kind::Quoted
                if text[token.all.clone()].starts_with(b"U") || text[token.all.clone()].starts_with(b"u") =>
            {
                pins = pins.and(Pins::lasting(UNREAD));
            }
            Kind::Word | Kind::Quoted => {
                let name = &text[token.inner.clone()];
                if name.eq_ignore_ascii_case(b"set_config") {
                    pins = pins.and(set_config(text, tokens.clone()));
                } else {
                    pins = pins.and(function(name));
                }
            }
            _ => {}
        }
        if head.len() < HEAD_TOKENS {
            head.push(token);
        }
    }
    pins.and(statement(text, &head))
}

fn function(name: &[u8]) -> Pins {
    let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
    match name.first().map_or(0, |first| first | 0x20) {
        b'n' if is(b"nextval") => Pins::state(SEQUENCE),
        b'l' if is(b"lastval") => Pins::state(SEQUENCE),
        b'c' if is(b"currval") => Pins::state(SEQUENCE),
        b's' if is(b"setval") => Pins::state(SEQUENCE),
        b's' if is(b"setseed") => Pins::lasting(SEED),
        b'p' if is(b"pg_replication_origin_session_setup") => Pins::lasting(ORIGIN),
        b'q' | b't' | b'c' | b'x' if NOTED[15..26].iter().any(|noted| is(noted)) => Pins::lasting(TEXT_RUN),
        _ => Pins::default(),
    }
}

/// `set_config('plain_name', …)` is shown by the catalogs; with any other first argument it may not be.
fn set_config(text: &[u8], mut behind: impl Iterator<Item = Token>) -> Pins {
    let opens = behind.next().is_some_and(|token| token.kind == Kind::Symbol(b'('));
    let name = behind.next().filter(|token| opens && token.kind == Kind::Literal);
    let name = name.filter(|token| text[token.all.clone()].starts_with(b"'")).map(|token| &text[token.inner]);
    let ends = behind.next().is_some_and(|token| token.kind == Kind::Symbol(b','));
    match name {
        Some(name) if ends && is_plain(name) => match name.eq_ignore_ascii_case(b"seed") {
            true => Pins::lasting(SEED),
            false => Pins::default(),
        },
        _ => Pins::state(CUSTOM),
    }
}

fn is_plain(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

/// What a statement that begins so may leave behind.
fn statement(text: &[u8], head: &[Token]) -> Pins {
    let word = |at: usize| {
        let token = head.get(at).filter(|token| token.kind == Kind::Word);
        token.map_or(&b""[..], |token| &text[token.all.clone()])
    };
    let is = |at: usize, other: &str| word(at).eq_ignore_ascii_case(other.as_bytes());
    let has = |words: &[&str]| (1..head.len()).any(|at| words.iter().any(|other| is(at, other)));
    match word(0).to_ascii_lowercase().as_slice() {
        b"set" | b"reset" => setting(text, head, is(1, "session") || is(1, "local")),
        b"load" => Pins::lasting(LIBRARY),
        b"do" | b"call" => Pins::lasting(CODE),
        b"prepare" if is(1, "transaction") => Pins::lasting(TWO_PHASE),
        b"copy" if has(&["program"]) => Pins::lasting(PROGRAM),
        b"copy" => Pins { inserts: !has(&["to"]) || has(&["from"]), ..Pins::default() },
        b"create" | b"alter" | b"drop"
            if has(&["function", "procedure", "routine", "aggregate", "extension", "language", "event"]) =>
        {
            Pins::lasting(CHANGED)
        }
        b"drop" if has(&["schema", "owned"]) => Pins::lasting(CHANGED),
        // A new column may take numbers of a sequence for the rows that are there.
        b"alter" if is(1, "table") => Pins { inserts: true, ..Pins::default() },
        _ => Pins::default(),
    }
}

/// SET and RESET: names with a dot, and `seed`, are in no catalog.
fn setting(text: &[u8], head: &[Token], longer: bool) -> Pins {
    let at = 1 + usize::from(longer);
    let Some(name) = head.get(at) else { return Pins::default() };
    if head.get(at + 1).is_some_and(|token| token.kind == Kind::Symbol(b'.')) {
        return Pins::state(CUSTOM);
    }
    let name = &text[name.inner.clone()];
    if name.eq_ignore_ascii_case(b"seed") {
        return Pins::lasting(SEED);
    }
    // A quoted name may have its dot inside.
    match name.contains(&b'.') {
        true => Pins::state(CUSTOM),
        false => Pins::default(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> Pins {
        pins(text.as_bytes(), true, true)
    }

    #[test]
    fn ordinary_statements_pin_nothing() {
        for text in [
            "",
            "select 1",
            "SELECT * FROM orders WHERE note = 'do call set_config load nextval()'",
            "update t set a = 1, b = 'x' where c is null",
            "set search_path to a, b",
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            "set local work_mem = '1MB'",
            "SET DateStyle=ISO; SET client_min_messages=notice; SELECT set_config('bytea_output','hex',false) \
             FROM pg_show_all_settings() WHERE name = 'bytea_output'; SET client_encoding='UTF8';",
            "SELECT pg_catalog.set_config('search_path', '', false)",
            "begin; select 1; commit",
            "copy items to stdout",
            "create table x (a int)",
            "-- nextval('s')\nselect 1",
            "select $$ nextval('s') $$",
            "prepare p as select 1",
            "reset work_mem",
            "discard all",
            "set time zone 'UTC'",
            "set names 'UTF8'",
        ] {
            assert!(of(text).is_none(), "{text}: {:?}", of(text));
        }
    }

    #[test]
    fn what_no_catalog_shows_pins() {
        for (text, why) in [
            ("set my.thing = 'x'", CUSTOM),
            ("SET SESSION my . thing TO 'x'", CUSTOM),
            ("set/**/my.thing='x'", CUSTOM),
            ("set local \"my\".thing to 1", CUSTOM),
            // White space since PostgreSQL 16.
            ("set my\x0b.thing = 'x'", CUSTOM),
            ("set my \x0b .thing = 'x'", CUSTOM),
            ("set \"my.thing\" to 1", CUSTOM),
            ("reset my.thing", CUSTOM),
            ("select 1; set my.thing = 'x'", CUSTOM),
            ("select set_config('my.thing', 'x', false)", CUSTOM),
            ("select set_config($1, 'x', false)", CUSTOM),
            ("select set_config(name, 'x', false) from t", CUSTOM),
            ("select \"set_config\"('a' || '.b', 'x', false)", CUSTOM),
            ("select set_config(E'a\\x2eb', 'x', false)", CUSTOM),
            ("select set_config('a', 'b', false), pg_catalog . set_config('a.b', 'b', false)", CUSTOM),
            ("select nextval('s')", SEQUENCE),
            ("select a.setval('s', 1)", SEQUENCE),
            ("select lastval()", SEQUENCE),
        ] {
            assert_eq!(of(text).state, Some(why), "{text}");
            assert_eq!(of(text).lasting, None, "{text}");
        }
        for (text, why) in [
            ("select setseed(0.5)", SEED),
            ("set seed to 0.5", SEED),
            ("select set_config('seed', '0.5', false)", SEED),
            ("load 'auto_explain'", LIBRARY),
            ("/* x */ Do $$ begin end $$", CODE),
            ("select 1; call p()", CODE),
            ("prepare transaction 'x'", TWO_PHASE),
            ("copy t from program 'ls'", PROGRAM),
            ("create or replace function f() returns int language sql as 'select 1'", CHANGED),
            ("drop function f()", CHANGED),
            ("drop schema s cascade", CHANGED),
            ("select query_to_xml('select 1', true, true, '')", TEXT_RUN),
            (
                "select * from xpath_table('a', 'b', 'c', '/d', 'set_config(''a.b'', ''c'', false) is null') as t(a int)",
                TEXT_RUN,
            ),
            ("select u&\"\\0073et_config\"('a.b', 'c', false)", UNREAD),
        ] {
            assert_eq!(of(text).lasting, Some(why), "{text}");
        }
        for text in [
            "insert into t values (1)",
            "with x as (insert into t values (1)) select 1",
            "copy t from stdin",
            "merge into t using u on true when matched then delete",
            "update t set a = default",
            // Numbers of a sequence for the rows that are there.
            "alter table t add column id bigserial",
            "alter table if exists only a.b.t alter c set not null, add id int generated always as identity",
        ] {
            assert!(of(text).inserts, "{text}");
            assert_eq!((of(text).lasting, of(text).state), (None, None), "{text}");
        }
    }

    #[test]
    fn a_backslash_hides_nothing_in_either_reading() {
        for conforming in [true, false] {
            assert_eq!(
                pins(br"select '\', set_config('a.b', '1', false), '\'", conforming, true).state,
                Some(CUSTOM)
            );
            assert_eq!(
                pins(br"select '\' , ' || set_config('a.b', '1', false)", conforming, true).state,
                Some(CUSTOM)
            );
        }
        assert_eq!(pins("select 'é'".as_bytes(), true, false).lasting, Some(UNREAD));
        assert!(pins("select 'é'".as_bytes(), true, true).is_none());
    }

    proptest! {
        /// The quick pass lets nothing go by that the closer look would find.
        #[test]
        fn the_first_pass_misses_nothing(parts in proptest::collection::vec(proptest::sample::select(vec![
            "set", "SET", "my.thing", "\"my\"", ".", "session", "local", "seed", " ", "/**/", ";", "do", "call", "load",
            "nextval", "(", ")", "'", "x", "reset", "set_config", "$1", "--\n", "copy", "create", "function", "u&\"a\"",
        ]), 0..12)) {
            let text = parts.concat();
            let looked = read(text.as_bytes(), true);
            let found = pins(text.as_bytes(), true, true);
            prop_assert_eq!(looked.lasting, found.lasting, "{}", text);
            prop_assert_eq!(looked.state, found.state, "{}", text);
        }
    }
}
