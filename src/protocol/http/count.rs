//! How much an answer is about, read as it passes: hits, documents, messages. Nothing is kept of it but numbers, it is
//! never changed or held back, and what says nothing of that is skipped. Where the number has been said, or the limit
//! is reached, the rest is not looked at.

use crate::model::limits;

/// What the answers of a route say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counts {
    /// It is about one document: there is nothing to be read.
    One,
    /// What a search has found.
    Hits,
    /// The same of each of many searches, together.
    Searches,
    Count,
    /// What was changed by a query, or copied.
    Changed,
    /// Documents of which each says whether it was found.
    Documents,
    /// What became of the actions of a `_bulk`.
    Actions,
    /// The elements of a list.
    Messages,
    /// What a query in ES|QL has read.
    Found,
}

/// What an answer has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    pub rows: u64,
    /// There may be more.
    pub at_least: bool,
}

/// What is looked for in one value of an answer.
#[derive(Debug)]
enum Want {
    /// These members of an object; `*` is any.
    Members(&'static [(&'static str, Want)]),
    Elements(&'static Want),
    /// Each element is one, as long as no total is said.
    Each,
    /// A number, or an object with it: `{"value": 10000, "relation": "gte"}`.
    Total,
    /// A number that is added.
    Number,
    /// `gte`: what was said is a lower bound.
    Relation,
    /// One, where it is true.
    True,
    /// One, where it is a status of success.
    Status,
    /// Where it is false, all that was asked for has been done.
    Errors,
}

use Want::{Each, Elements, Errors, Members, Number, Relation, Status, Total, True};

const FOUND: Want = Members(&[("total", Total), ("hits", Each)]);
const SEARCH: Want = Members(&[("hits", FOUND)]);
static HITS: Want = Members(&[("hits", FOUND), ("response", SEARCH)]);
static SEARCHES: Want = Members(&[("responses", Elements(&SEARCH))]);
static COUNT: Want = Members(&[("count", Number)]);
static CHANGED: Want = Members(&[("updated", Number), ("created", Number), ("deleted", Number)]);
static DOCUMENTS: Want = Members(&[("docs", Elements(&Members(&[("found", True)])))]);
static ACTIONS: Want =
    Members(&[("errors", Errors), ("items", Elements(&Members(&[("*", Members(&[("status", Status)]))])))]);
static MESSAGES: Want = Each;
static QUERIED: Want = Members(&[("documents_found", Number)]);
static TOTAL: Want = Members(&[("value", Number), ("relation", Relation)]);

/// Names of members and plain values that are looked at are shorter: a number has 20 digits.
const WORD_BYTES_MAX: usize = 24;

impl Counts {
    /// By its name in a table of routes.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "one" => Self::One,
            "hits" => Self::Hits,
            "searches" => Self::Searches,
            "count" => Self::Count,
            "changed" => Self::Changed,
            "documents" => Self::Documents,
            "actions" => Self::Actions,
            "messages" => Self::Messages,
            "found" => Self::Found,
            _ => return None,
        })
    }

    /// What is counted, for the trail.
    pub fn what(self) -> &'static str {
        match self {
            Self::Hits | Self::Searches => "hits",
            Self::Messages => "messages",
            Self::One | Self::Count | Self::Changed | Self::Documents | Self::Actions | Self::Found => {
                "documents"
            }
        }
    }

    fn want(self) -> Option<&'static Want> {
        Some(match self {
            Self::One => return None,
            Self::Hits => &HITS,
            Self::Searches => &SEARCHES,
            Self::Count => &COUNT,
            Self::Changed => &CHANGED,
            Self::Documents => &DOCUMENTS,
            Self::Actions => &ACTIONS,
            Self::Messages => &MESSAGES,
            Self::Found => &QUERIED,
        })
    }
}

/// Where in an answer one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Ahead of a value.
    Value,
    /// Ahead of the name of a member.
    Name,
    InName,
    /// Behind a name.
    Colon,
    /// In a number or a word.
    Word,
    /// In a text that is looked at.
    Text,
    /// Behind a value.
    Behind,
    /// In a value that is not followed, and in a text there.
    Skipped,
    SkippedText,
}

#[derive(Debug)]
struct Open {
    want: &'static Want,
    is_list: bool,
}

/// One answer.
#[derive(Debug)]
pub struct Counter {
    counts: Counts,
    /// What is followed, outermost first: no deeper than what is wanted.
    open: Vec<Open>,
    /// What is looked for in the value that is next, or that is read.
    want: Option<&'static Want>,
    at: At,
    /// Objects and lists that are open in what is skipped.
    depth: u64,
    escaped: bool,
    word: Vec<u8>,
    looked: usize,
    rows: u64,
    /// Elements of the list of hits at hand, which are in `rows` too.
    elements: u64,
    is_totalled: bool,
    /// The answer says how many there are.
    is_said: bool,
    at_least: bool,
    /// An answer without errors says that all has been done.
    trusts_errors: bool,
    all_done: bool,
    is_done: bool,
}

impl Counter {
    /// `trusts_errors`: where a `_bulk` says that nothing has failed, all of its actions were done. One that deletes
    /// says that of documents which are not there, too. `None`: there is nothing to be read.
    pub fn new(counts: Counts, trusts_errors: bool) -> Option<Self> {
        let want = counts.want()?;
        Some(Self {
            counts,
            open: Vec::new(),
            want: Some(want),
            at: At::Value,
            depth: 0,
            escaped: false,
            word: Vec::new(),
            looked: 0,
            rows: 0,
            elements: 0,
            is_totalled: false,
            is_said: false,
            at_least: false,
            trusts_errors,
            all_done: false,
            is_done: false,
        })
    }

    /// Reads more of it.
    pub fn push(&mut self, part: &[u8]) {
        if self.is_done {
            return;
        }
        let left = limits::HTTP_COUNTED_BYTES_MAX - self.looked;
        let looked = &part[..part.len().min(left)];
        self.looked += looked.len();
        let mut rest = looked;
        while !rest.is_empty() && !self.is_done {
            rest = match self.at {
                At::Skipped => self.skip(rest),
                At::SkippedText => self.skip_text(rest),
                _ => {
                    self.step(rest[0]);
                    &rest[1..]
                }
            };
        }
        if !self.is_done && looked.len() < part.len() {
            (self.is_done, self.at_least) = (true, true);
        }
    }

    /// What has been said. `asked`: actions of the request; `is_whole`: the answer has come to its end.
    pub fn counted(&self, asked: u64, is_whole: bool) -> Option<Counted> {
        if self.all_done {
            return Some(Counted { rows: asked, at_least: false });
        }
        let at_least = self.at_least || !(self.is_done || is_whole);
        self.is_said.then_some(Counted { rows: self.rows, at_least })
    }

    fn step(&mut self, byte: u8) {
        if byte.is_ascii_whitespace() && !matches!(self.at, At::InName | At::Text | At::Word) {
            return;
        }
        match self.at {
            At::Value => self.value(byte),
            At::Name => match byte {
                b'"' => self.read(At::InName),
                b'}' => self.close(),
                _ => self.is_done = true,
            },
            At::InName => {
                if self.in_text(byte) {
                    self.want = self.member();
                    self.at = At::Colon;
                }
            }
            At::Colon => self.at = At::Value,
            At::Text => {
                if self.in_text(byte) {
                    self.at_least |= matches!(self.want, Some(Relation)) && self.word == b"gte";
                    self.at = At::Behind;
                }
            }
            At::Word => match byte {
                b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t' => {
                    self.take();
                    self.at = At::Behind;
                    if !byte.is_ascii_whitespace() && !self.is_done {
                        self.behind(byte);
                    }
                }
                _ => self.keep(byte),
            },
            At::Behind => self.behind(byte),
            At::Skipped | At::SkippedText => {}
        }
    }

    fn value(&mut self, byte: u8) {
        // The end of a list that has no element.
        if byte == b']' {
            return self.close();
        }
        let is_element = self.open.last().is_some_and(|open| open.is_list);
        if is_element {
            self.element();
        }
        let (list, object) = match self.want {
            Some(want @ (Elements(_) | Each)) => (Some(want), None),
            Some(want @ Members(_)) => (None, Some(want)),
            Some(Total) => (None, Some(&TOTAL)),
            _ => (None, None),
        };
        match (byte, list, object) {
            (b'[', Some(want), _) => {
                // It says how many it has, none too.
                self.is_said |= matches!(want, Each);
                self.open.push(Open { want, is_list: true });
                self.at = At::Value;
            }
            (b'{', _, Some(want)) => {
                self.open.push(Open { want, is_list: false });
                self.at = At::Name;
            }
            (b'{' | b'[', ..) => (self.at, self.depth) = (At::Skipped, 1),
            (b'"', ..) if matches!(self.want, Some(Relation)) => self.read(At::Text),
            (b'"', ..) => (self.at, self.depth) = (At::SkippedText, 0),
            _ => {
                self.read(At::Word);
                self.keep(byte);
            }
        }
    }

    /// One more element of the list at hand begins.
    fn element(&mut self) {
        match self.open.last().map(|open| open.want) {
            Some(Elements(inner)) => {
                self.want = Some(inner);
                (self.is_totalled, self.elements) = (false, 0);
            }
            Some(Each) => {
                self.want = None;
                if !self.is_totalled {
                    self.rows += 1;
                    self.elements += 1;
                }
            }
            _ => self.want = None,
        }
    }

    fn member(&self) -> Option<&'static Want> {
        let Members(members) = self.open.last()?.want else { return None };
        let fits = |(name, _): &&(&str, Want)| *name == "*" || name.as_bytes() == self.word;
        members.iter().find(fits).map(|(_, want)| want)
    }

    fn behind(&mut self, byte: u8) {
        match byte {
            b',' => {
                let is_list = self.open.last().is_some_and(|open| open.is_list);
                self.at = if is_list { At::Value } else { At::Name };
            }
            b'}' | b']' => self.close(),
            _ => self.is_done = true,
        }
    }

    fn close(&mut self) {
        let closed = self.open.pop();
        let is_total = closed.is_some_and(|closed| std::ptr::eq(closed.want, &raw const TOTAL));
        // Whatever is behind it says no more.
        self.is_done = self.open.is_empty() || is_total && self.counts == Counts::Hits && self.is_said;
        self.at = At::Behind;
    }

    /// A number or a word has ended.
    fn take(&mut self) {
        let number = || std::str::from_utf8(&self.word).ok()?.parse::<u64>().ok();
        match self.want {
            Some(Total | Number) => {
                let Some(number) = number() else { return };
                let is_total = self.want.is_some_and(|want| matches!(want, Total)) || self.is_in_total();
                if is_total {
                    self.rows -= self.elements;
                    (self.elements, self.is_totalled) = (0, true);
                }
                self.rows = self.rows.saturating_add(number);
                self.is_said = true;
                let is_all =
                    self.counts == Counts::Count || self.counts == Counts::Hits && !self.is_in_total();
                self.is_done |= is_all;
            }
            Some(True) => {
                self.rows += u64::from(self.word == b"true");
                self.is_said = true;
            }
            Some(Status) => {
                self.rows += u64::from(number().is_some_and(|status| (200..300).contains(&status)));
                self.is_said = true;
            }
            Some(Errors) if self.trusts_errors && self.word == b"false" => {
                (self.all_done, self.is_done) = (true, true)
            }
            _ => {}
        }
    }

    fn is_in_total(&self) -> bool {
        self.open.last().is_some_and(|open| std::ptr::eq(open.want, &raw const TOTAL))
    }

    /// Whether a text has ended. One that is spelt with escapes, or is longer, is none that is looked for.
    fn in_text(&mut self, byte: u8) -> bool {
        if !self.escaped && byte == b'"' {
            return true;
        }
        self.escaped = !self.escaped && byte == b'\\';
        self.keep(byte);
        false
    }

    /// A name, a text or a word begins.
    fn read(&mut self, at: At) {
        self.word.clear();
        self.at = at;
    }

    fn keep(&mut self, byte: u8) {
        if self.word.len() <= WORD_BYTES_MAX {
            self.word.push(byte);
        }
    }

    fn skip<'a>(&mut self, part: &'a [u8]) -> &'a [u8] {
        for (place, byte) in part.iter().enumerate() {
            match byte {
                b'"' => {
                    self.at = At::SkippedText;
                    return &part[place + 1..];
                }
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        self.at = At::Behind;
                        return &part[place + 1..];
                    }
                }
                _ => {}
            }
        }
        &[]
    }

    fn skip_text<'a>(&mut self, part: &'a [u8]) -> &'a [u8] {
        let mut from = 0;
        if self.escaped {
            (self.escaped, from) = (false, 1);
        }
        while let Some(found) = part[from..].iter().position(|byte| matches!(byte, b'"' | b'\\')) {
            let place = from + found;
            if part[place] == b'"' {
                self.at = if self.depth == 0 { At::Behind } else { At::Skipped };
                return &part[place + 1..];
            }
            from = place + 2;
            if from > part.len() {
                self.escaped = true;
                return &[];
            }
        }
        &[]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counter(counts: Counts, answer: &[u8], parts: usize) -> Counter {
        let mut counter = Counter::new(counts, true).unwrap();
        answer.chunks(parts.max(1)).for_each(|part| counter.push(part));
        counter
    }

    /// However it is cut, it says the same.
    fn counted(counts: Counts, answer: &str) -> Option<(u64, bool)> {
        let of = |parts| counter(counts, answer.as_bytes(), parts).counted(7, true);
        let whole = of(answer.len());
        for parts in [1, 2, 3, 5] {
            assert_eq!(of(parts), whole, "{answer} in parts of {parts}");
        }
        whole.map(|counted| (counted.rows, counted.at_least))
    }

    #[test]
    fn a_search_says_how_much_it_has_found() {
        for (answer, said) in [
            (
                r#"{"took":1,"_shards":{"total":5},"hits":{"total":{"value":3,"relation":"eq"},"hits":[{},{}]}}"#,
                Some((3, false)),
            ),
            (
                r#"{"hits":{"total":{"value":10000,"relation":"gte"},"hits":[{"total":4}]},"total":9}"#,
                Some((10_000, true)),
            ),
            (r#"{"hits":{"total":{"relation":"gte","value":10000}}}"#, Some((10_000, true))),
            (r#"{ "hits" : { "total" : 12 , "hits" : [ ] } }"#, Some((12, false))),
            (r#"{"hits":{"hits":[{"_id":"]}\"["},{"a":[{},{}]},3],"total":12}}"#, Some((12, false))),
            // No total was asked for: what is shown is what there is to say.
            (r#"{"hits":{"max_score":1.0,"hits":[{"_id":"]}\"\\"},{"a":[{},{}]},3]}}"#, Some((3, false))),
            (r#"{"hits":{"hits":[]}}"#, Some((0, false))),
            (r#"{"hits":{"total":-1,"hits":[{}]}}"#, Some((1, false))),
            (r#"{"id":"x","response":{"hits":{"total":{"value":2,"relation":"eq"}}}}"#, Some((2, false))),
            (r#"{"aggregations":{"hits":{"total":5}}}"#, None),
            (r#"{"error":{"hits":{"total":5}},"status":500}"#, None),
            (r#"{"took":1}"#, None),
            ("[]", None),
            ("", None),
            ("hits", None),
            ("}", None),
            (r#""hits""#, None),
        ] {
            assert_eq!(counted(Counts::Hits, answer), said, "{answer}");
        }
    }

    #[test]
    fn others_say_it_in_their_own_ways() {
        use Counts::{Actions, Changed, Count, Documents, Found, Messages, Searches};
        for (counts, answer, said) in [
            (Count, r#"{"count":41,"_shards":{"count":3}}"#, Some((41, false))),
            (Count, r#"{"_shards":{"count":3}}"#, None),
            (Found, r#"{"took":1,"documents_found":7,"values":[[1],[2]]}"#, Some((7, false))),
            (Found, r#"{"took":1,"columns":[],"values":[[1]]}"#, None),
            (
                Changed,
                r#"{"took":9,"updated":2,"created":3,"deleted":4,"retries":{"deleted":7},"failures":[{"deleted":8}]}"#,
                Some((9, false)),
            ),
            (
                Searches,
                r#"{"took":1,"responses":[{"hits":{"total":{"value":3,"relation":"eq"},"hits":[{}]}},{"error":{}},
                    {"hits":{"hits":[{},{}]}},{"hits":{"total":4,"hits":[{}]}}]}"#,
                Some((9, false)),
            ),
            (
                Documents,
                r#"{"docs":[{"_index":"a","found":true,"_source":{"found":true}},{"found":false},{"error":{}}]}"#,
                Some((1, false)),
            ),
            // All that was asked for, of which the request says how much it is.
            (Actions, r#"{"took":3,"errors":false,"items":[{}]}"#, Some((7, false))),
            (
                Actions,
                r#"{"errors":true,"items":[{"index":{"_index":"a","status":201}},{"delete":{"status":404}},
                    {"create":{"error":{"status":200},"status":409}},{"update":{"status":200}}]}"#,
                Some((2, false)),
            ),
            (Actions, r#"{"took":3}"#, None),
            (Actions, r#"{"errors":true,"items":[{"index":{"error":{"status":200}}}]}"#, None),
            (Messages, r#"[{"payload":"]"},{"payload":"["}]"#, Some((2, false))),
            (Messages, "[]", Some((0, false))),
            (Messages, "{}", None),
        ] {
            assert_eq!(counted(counts, answer), said, "{answer}");
        }
        assert!(Counter::new(Counts::One, true).is_none());
        let mut deletes = Counter::new(Counts::Actions, false).unwrap();
        deletes.push(br#"{"errors":false,"items":[{"delete":{"status":404}},{"delete":{"status":200}}]}"#);
        assert_eq!(deletes.counted(7, true), Some(Counted { rows: 1, at_least: false }));
    }

    #[test]
    fn what_is_looked_at_is_bounded_and_says_so() {
        let document = r#"{"_source":{"a":"0123456789"}},"#;
        let many = format!("{{\"hits\":{{\"hits\":[{}{{}}]}}}}", document.repeat(100_000));
        assert!(many.len() > 2 * limits::HTTP_COUNTED_BYTES_MAX);
        let counted = |answer: &str, is_whole| {
            let counter = counter(Counts::Hits, answer.as_bytes(), 16 << 10);
            assert!(counter.looked <= limits::HTTP_COUNTED_BYTES_MAX && counter.open.len() <= 6);
            counter.counted(0, is_whole).unwrap()
        };
        let first = counted(&many, true);
        assert!(first.at_least && first.rows > 1_000 && first.rows < 100_000, "{first:?}");
        // One that has a total is not looked at behind it.
        let early =
            many.replacen("{\"hits\":[", "{\"total\":{\"value\":5,\"relation\":\"eq\"},\"hits\":[", 1);
        assert_eq!(counted(&early, false), Counted { rows: 5, at_least: false });
        let counter = counter(Counts::Hits, early.as_bytes(), 1);
        assert!(counter.looked < 100);
        // What is cut may have said more.
        assert_eq!(counted("{\"hits\":{\"hits\":[{},{", false), Counted { rows: 2, at_least: true });
    }

    proptest! {
        #[test]
        fn nothing_panics(answer in "[\\[\\]{}\":,0-9a-z\\\\ ]{0,60}", parts in 1usize..9) {
            for counts in [Counts::Hits, Counts::Searches, Counts::Actions, Counts::Messages] {
                counter(counts, answer.as_bytes(), parts).counted(1, true);
            }
        }

        /// What it counts is what a reader of JSON counts.
        #[test]
        fn documents_are_counted_as_a_reader_would(
            texts in proptest::collection::vec("\\PC{0,8}", 0..9), parts in 1usize..9,
        ) {
            let list: Vec<_> = texts.iter().map(|text| serde_json::json!({text: [text, {"hits": text}]})).collect();
            let answer = serde_json::json!({"a": texts, "hits": {"hits": list}}).to_string();
            let counted = counter(Counts::Hits, answer.as_bytes(), parts).counted(0, true);
            prop_assert_eq!(counted, Some(Counted { rows: list.len() as u64, at_least: false }));
        }
    }
}
