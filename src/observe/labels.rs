//! Labels for the lines of statements: made once for each form of statement, kept for the next of the
//! same form, and left out, in words, when there is no time for them. They are made by the trail's writer
//! alone: no session waits for one.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

use super::line::put_string;
use crate::model::limits::{LABEL_BURST, LABEL_CACHE_BYTES_MAX, LABEL_SHARE, LABEL_TEXT_BYTES_MAX};
use crate::protocol::LabelStatement;
use crate::protocol::label::Label;

/// What an entry takes beside the bytes of its members.
const ENTRY_BYTES: usize = 64;

pub struct Labels {
    /// Seeded at random: nobody can make a text whose form is taken for another's.
    forms: RandomState,
    kept: Kept,
    time: Allowance,
    /// The journal waits for its writer: only what is kept is labelled.
    pub hurried: bool,
    /// Statements that were written down without a label for lack of time.
    pub skipped: u64,
}

impl Labels {
    pub fn new() -> Self {
        Self {
            forms: RandomState::new(),
            kept: Kept::default(),
            time: Allowance::new(),
            hurried: false,
            skipped: 0,
        }
    }

    /// Appends the members of a statement's label to a line. `is_whole`: no limit has cut the text.
    pub fn put(&mut self, out: &mut Vec<u8>, text: &[u8], is_whole: bool, label: LabelStatement) {
        let fits = is_whole && text.len() <= LABEL_TEXT_BYTES_MAX;
        let mut form = self.forms.build_hasher();
        form.write_usize(label as usize);
        form.write_u8(u8::from(fits));
        put_form(&mut form, text);
        let form = form.finish();
        if let Some(members) = self.kept.find(form) {
            out.extend_from_slice(members);
            return;
        }
        let began = Instant::now();
        if self.hurried || !self.time.is_left(began) {
            self.skipped += 1;
            put_members(out, &Label::skipped("the trail's writer was busy"));
            return;
        }
        let start = out.len();
        put_members(out, &label(text, is_whole));
        self.kept.keep(form, out.get(start..).unwrap_or_default());
        self.time.spend(began.elapsed());
    }
}

/// `,"verbs":["DELETE"],"reads":["items"],"writes":["orders"]`.
pub fn put_members(out: &mut Vec<u8>, label: &Label) {
    let lists = [
        (b",\"verbs\":[".as_slice(), &label.verbs),
        (b",\"reads\":[", &label.reads),
        (b",\"writes\":[", &label.writes),
        (b",\"calls\":[", &label.calls),
    ];
    for (key, names) in lists {
        if names.is_empty() {
            continue;
        }
        out.extend_from_slice(key);
        for (at, name) in names.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            put_string(out, name);
        }
        out.push(b']');
    }
    if let Some(why) = label.why {
        out.extend_from_slice(b",\"label\":");
        put_string(out, why);
    }
}

/// Whether there is a quote between here and the next such byte.
fn has_quote(text: &[u8], at: usize, end: u8) -> bool {
    let rest = text.get(at + 1..).unwrap_or_default();
    rest.iter().take_while(|byte| **byte != end).any(|byte| matches!(byte, b'\'' | b'"'))
}

/// Stands for a literal in the form of a text.
const LITERAL: u8 = 0xff;

/// Feeds the form of a text: the text with a mark in place of each number and of what is between single
/// quotes. Two texts of one form have the same label. Where it is not plain what is a literal, the form is
/// the text itself.
fn put_form(form: &mut impl Hasher, text: &[u8]) {
    let is_odd = |pair: &[u8; 2]| match pair {
        [b'\\' | LITERAL, _] => true,
        [b'$', behind] => !behind.is_ascii_digit(),
        _ => false,
    };
    let last = text.last().is_some_and(|byte| matches!(byte, b'\\' | b'$' | &LITERAL));
    if last || text.array_windows().any(is_odd) {
        form.write_u8(0);
        form.write(text);
        return;
    }
    form.write_u8(1);
    let (mut start, mut at) = (0, 0);
    // Within a name, where digits are no number.
    let mut in_name = false;
    let until =
        |from: usize, byte: u8| text[from..].iter().position(|b| *b == byte).map(|count| from + count + 1);
    while let Some(byte) = text.get(at) {
        match byte {
            b'0'..=b'9' if !in_name => {
                form.write(&text[start..at]);
                form.write_u8(LITERAL);
                at += text[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                // `1e5`: what follows belongs to it.
                (start, in_name) = (at, true);
                continue;
            }
            b'\'' => {
                form.write(&text[start..at]);
                form.write_u8(LITERAL);
                // A doubled quote is two literals side by side here: another form, no wrong one.
                let Some(end) = until(at + 1, b'\'') else {
                    // Never closed.
                    form.write(&text[at..]);
                    return;
                };
                (start, at, in_name) = (end, end, false);
                continue;
            }
            // To MySQL this begins a comment, and a backtick a name; to others they are operators. What is in them
            // ends nothing, unless somebody would take a quote there for one.
            b'#' if has_quote(text, at, b'\n') => break,
            b'`' if has_quote(text, at, b'`') => break,
            b'"' | b'`' => {
                at = until(at + 1, *byte).unwrap_or(text.len());
                in_name = false;
                continue;
            }
            // MySQL wants a blank behind it, else it is two operators.
            b'-' if text.get(at + 1) == Some(&b'-') => {
                let is_sure = text.get(at + 2).is_none_or(|byte| *byte <= b' ');
                if !is_sure && has_quote(text, at, b'\n') {
                    break;
                }
                at = until(at, b'\n').unwrap_or(text.len());
                in_name = false;
                continue;
            }
            // A comment may hold others, and then its end is not plain: the rest as it is.
            b'/' if text.get(at + 1) == Some(&b'*') => break,
            _ => in_name = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..),
        }
        at += 1;
    }
    form.write(&text[start..]);
}

/// The newest labels by form. When the younger half is full the older one goes, but for what was asked for.
#[derive(Default)]
struct Kept {
    young: HashMap<u64, Box<[u8]>>,
    old: HashMap<u64, Box<[u8]>>,
    /// Of the young.
    bytes: usize,
}

impl Kept {
    fn find(&mut self, form: u64) -> Option<&[u8]> {
        if let Some(members) = self.old.remove(&form) {
            self.put(form, members);
        }
        self.young.get(&form).map(|members| &**members)
    }

    fn keep(&mut self, form: u64, members: &[u8]) {
        self.put(form, members.into());
    }

    fn put(&mut self, form: u64, members: Box<[u8]>) {
        if self.bytes >= LABEL_CACHE_BYTES_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
            self.bytes = 0;
        }
        self.bytes += members.len() + ENTRY_BYTES;
        self.young.insert(form, members);
    }
}

/// A part of the time goes into labels, no more.
struct Allowance {
    left: Duration,
    since: Instant,
}

impl Allowance {
    fn new() -> Self {
        Self { left: LABEL_BURST, since: Instant::now() }
    }

    fn is_left(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.since);
        self.since = now;
        self.left = (self.left + passed / LABEL_SHARE).min(LABEL_BURST);
        !self.left.is_zero()
    }

    fn spend(&mut self, time: Duration) {
        self.left = self.left.saturating_sub(time);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use proptest::prelude::*;

    use super::*;
    use crate::protocol::postgres::label_statement;

    fn form(labels: &Labels, text: &str) -> u64 {
        let mut form = labels.forms.build_hasher();
        put_form(&mut form, text.as_bytes());
        form.finish()
    }

    #[test]
    fn texts_that_differ_in_their_literals_have_one_form() {
        let labels = Labels::new();
        for (one, other) in [
            ("select a from t where id = 1", "select a from t where id = 12345"),
            ("insert into t values (1, 'x', 2.50)", "insert into t values (2, 'y; z', 3.7)"),
            ("select $1, 'a'", "select $1, '--'"),
            ("select 'a' -- b'\n, 1", "select '' -- b'\n, 2"),
            ("select `a` from `t1` where `b` = 'x' # c\n", "select `a` from `t1` where `b` = 'yz' # c\n"),
        ] {
            assert_eq!(form(&labels, one), form(&labels, other), "{one}");
        }
        let different = [
            "select * from t1",
            "select * from t2",
            "select $1",
            "select $2",
            "select a$1",
            "select a$2",
            "select \"a'1\" from t where x = '2'",
            "select \"a'2\" from t where x = '2'",
            "select 'a'; delete from t --'",
            "select 'a''; delete from t --'",
            "select e'\\'; delete from t --'",
            "select e'\\\\'; delete from t --'",
            "select $$'$$; delete from t; --'",
            "select $$''$$; delete from t; --'",
            "select /* ' */ 1 from t /* ' */",
            "select /* ' */ 1 from s /* ' */",
            "select 1 -- ' from t\n, '2'",
            "select 1 -- ' from s\n, '2'",
            "select 'a",
            "select 'b",
            "select 1\\",
            "select 2\\",
            "select 0x1f",
            "select 0x2f",
            "select * from `1`",
            "select * from `2`",
            "select `'` from t where a = '`'",
            "select `'` from s where a = '`'",
            "select 1 # '\n from t where a = ' '",
            "select 1 # '\n from s where a = ' '",
            "select 1--'\n' from t where a = ' '",
            "select 1--'\n' from s where a = ' '",
        ];
        for (at, one) in different.iter().enumerate() {
            for other in &different[at + 1..] {
                assert_ne!(form(&labels, one), form(&labels, other), "{one}\n{other}");
            }
        }
    }

    static MADE: AtomicU32 = AtomicU32::new(0);

    fn counted(text: &[u8], is_whole: bool) -> Label {
        MADE.fetch_add(1, Ordering::Relaxed);
        label_statement(text, is_whole)
    }

    #[test]
    fn a_label_is_made_once_for_a_form_and_left_out_in_a_hurry() {
        let mut labels = Labels::new();
        let put = |labels: &mut Labels, text: &str, is_whole| {
            let mut out = Vec::new();
            labels.put(&mut out, text.as_bytes(), is_whole, counted);
            (String::from_utf8(out).unwrap(), MADE.swap(0, Ordering::Relaxed))
        };
        let delete = r#","verbs":["DELETE"],"writes":["orders"]"#.to_owned();
        assert_eq!(put(&mut labels, "delete from orders where id = 5", true), (delete.clone(), 1));
        assert_eq!(put(&mut labels, "delete from orders where id = 7", true), (delete.clone(), 0));
        // What a limit has cut, or what is too long, is another matter.
        let cut = r#","verbs":["skipped","DELETE"],"label":"too long""#.to_owned();
        assert_eq!(put(&mut labels, "delete from orders where id = 7", false), (cut.clone(), 1));
        let long = format!("delete from orders where id = {}", "7".repeat(LABEL_TEXT_BYTES_MAX));
        assert_eq!(put(&mut labels, &long, true), (cut, 0));
        assert_eq!(put(&mut labels, "delete from orders where id = 9", true), (delete.clone(), 0));
        labels.hurried = true;
        let busy = r#","verbs":["skipped"],"label":"the trail's writer was busy""#.to_owned();
        assert_eq!(put(&mut labels, "select 1", true), (busy.clone(), 0));
        assert_eq!(put(&mut labels, "delete from orders where id = 5", true), (delete, 0));
        labels.hurried = false;
        labels.time = Allowance { left: Duration::ZERO, since: Instant::now() + Duration::from_secs(60) };
        assert_eq!(put(&mut labels, "select 1", true), (busy, 0));
        assert_eq!(labels.skipped, 2);
        labels.time = Allowance::new();
        assert_eq!(put(&mut labels, "select 1", true), (r#","verbs":["SELECT"]"#.to_owned(), 1));
    }

    #[test]
    fn time_for_labels_is_a_part_of_all_time() {
        let began = Instant::now();
        let mut time = Allowance { left: LABEL_BURST, since: began };
        assert!(time.is_left(began));
        time.spend(LABEL_BURST * 2);
        assert!(!time.is_left(began));
        assert!(time.is_left(began + Duration::from_millis(10)));
        assert_eq!(time.left, Duration::from_millis(10) / LABEL_SHARE);
        assert!(time.is_left(began + Duration::from_secs(3_600)));
        assert_eq!(time.left, LABEL_BURST, "what is saved up has a limit");
    }

    #[test]
    fn what_is_kept_has_a_limit_and_what_is_used_stays() {
        let mut kept = Kept::default();
        kept.keep(0, b"used");
        let members = [7; 1_000];
        for form in 1..20_000 {
            kept.keep(form, &members);
            assert_eq!(kept.find(0), Some(&b"used"[..]));
        }
        let bytes: usize = [&kept.young, &kept.old]
            .into_iter()
            .flat_map(HashMap::values)
            .map(|members| members.len() + ENTRY_BYTES)
            .sum();
        assert!(bytes <= LABEL_CACHE_BYTES_MAX + 2 * (members.len() + ENTRY_BYTES), "{bytes}");
        assert_eq!(kept.find(1), None);
        assert!(kept.find(19_999).is_some());
    }

    const PIECES: &[&str] = &[
        "select ",
        "delete from ",
        "explain (analyze ",
        ") ",
        "update ",
        " set a = ",
        "copy ",
        "with ",
        " as (",
        "t",
        "1",
        "23",
        "'x'",
        "'",
        "''",
        "\"",
        "\"a\"",
        "--",
        "\n",
        "/*",
        "*/",
        "$1",
        "$$",
        "$a$",
        "\\",
        "e'",
        ";",
        " ",
        "a1",
        "_2",
        ",",
        "-",
        "/",
        "*",
        "é",
        "u&'",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Other literals, the same form, the same label.
        #[test]
        fn one_form_is_one_label(pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..14),
            number in 1u32..9_999, word in "[a-z;-]{0,6}") {
            let labels = Labels::new();
            let one = pieces.concat();
            let other: String = pieces.iter().map(|piece| match *piece {
                "1" | "23" => number.to_string(),
                "'x'" => format!("'{word}'"),
                piece => piece.to_owned(),
            }).collect();
            if form(&labels, &one) == form(&labels, &other) {
                prop_assert_eq!(label_statement(one.as_bytes(), true), label_statement(other.as_bytes(), true));
            }
        }
    }
}
