//! `_bulk`, read as it comes, however it is cut into pieces: a line with an action, then, unless it deletes, one with a
//! document. The document is never looked into, and nothing of it is kept: the cluster ends it at the same byte.

use std::collections::{BTreeMap, BTreeSet};

use memchr::memchr;

use super::{Asked, Catalog, Wrong, body, names};
use crate::model::{Reach, Touch, limits};

/// What an action may say besides `_index`. A pipeline may write elsewhere.
const ACTION: [&str; 8] = [
    "_id",
    "routing",
    "version",
    "version_type",
    "if_seq_no",
    "if_primary_term",
    "retry_on_conflict",
    "require_alias",
];

/// What an index may be called; a date in its name may be written as long as anybody likes.
const INDEX_BYTES_MAX: usize = 255;

/// What the actions of a `_bulk` are: so many of each kind for each index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Actions {
    /// By the action, then by the index as it was named.
    named: BTreeMap<String, BTreeMap<String, u64>>,
    /// Indices in that, each as often as it has an action.
    pairs: usize,
    /// Those of indices for which there was no room, by the action.
    others: BTreeMap<String, u64>,
    /// What of the names stands for something else.
    stands_for: BTreeMap<String, Vec<String>>,
}

impl Actions {
    fn add(&mut self, action: &str, index: &str) {
        if let Some(count) = self.named.get_mut(action).and_then(|indices| indices.get_mut(index)) {
            *count += 1;
        } else if self.pairs < limits::HTTP_COUNTED_INDICES_MAX && index.len() <= INDEX_BYTES_MAX {
            self.pairs += 1;
            self.named.entry(action.to_owned()).or_default().insert(index.to_owned(), 1);
        } else {
            *self.others.entry(action.to_owned()).or_default() += 1;
        }
    }

    /// All of them.
    pub fn count(&self) -> u64 {
        self.named.values().flat_map(BTreeMap::values).chain(self.others.values()).sum()
    }

    /// Whether there is one that deletes.
    pub fn deletes(&self) -> bool {
        [self.named.contains_key("delete"), self.others.contains_key("delete")].contains(&true)
    }

    /// Adds what the names stand for at the cluster.
    pub fn resolve(&mut self, catalog: &Catalog) {
        let mut room = limits::HTTP_COUNTED_INDICES_MAX;
        self.stands_for.clear();
        for index in self.named.values().flat_map(BTreeMap::keys) {
            let mut behind = catalog.stands_for(index);
            if behind.is_empty() || self.stands_for.contains_key(index) {
                continue;
            }
            let is_cut = behind.len() > room;
            behind.truncate(room);
            room -= behind.len();
            behind.extend(is_cut.then(|| "…".to_owned()));
            self.stands_for.insert(index.clone(), behind);
        }
    }

    /// As members of an object, without its braces.
    pub fn members(&self) -> String {
        let mut members = format!("\"actions\":{}", json(&self.named));
        if !self.others.is_empty() {
            members += &format!(",\"actions_of_others\":{}", json(&self.others));
        }
        if !self.stands_for.is_empty() {
            members += &format!(",\"stands_for\":{}", json(&self.stands_for));
        }
        members
    }
}

fn json<T: serde::Serialize>(map: &BTreeMap<String, T>) -> String {
    serde_json::to_string(map).unwrap_or_else(|_| "{}".to_owned())
}

/// A `_bulk` as far as it has come.
#[derive(Debug)]
pub struct Bulk {
    asked: Asked,
    /// What the path names, and an action may leave out.
    index: Option<String>,
    /// What has come of an action and has not been read.
    begun: Vec<u8>,
    actions: Actions,
    /// What actions name, also where that is not all that they touch: none of it may lead to the cluster's own
    /// accounts.
    named: BTreeSet<String>,
    /// The name that was looked at last: many actions in a row have the same.
    last: String,
    next: Next,
}

/// What the next bytes are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Action,
    Document { begun: bool, is_object: bool },
}

impl Bulk {
    pub(super) fn new(asked: Asked, index: Option<String>) -> Self {
        Self {
            asked,
            index,
            begun: Vec::new(),
            actions: Actions::default(),
            named: BTreeSet::new(),
            last: String::new(),
            next: Next::Action,
        }
    }

    /// Reads more of it.
    pub fn push(&mut self, mut piece: &[u8]) -> Result<(), Wrong> {
        if memchr(b'\r', piece).is_some() {
            return Err(Wrong::Bad("the body's lines must end with \\n alone"));
        }
        while let Some(end) = memchr(b'\n', piece) {
            self.end_line(&piece[..end])?;
            piece = &piece[end + 1..];
        }
        match self.next {
            Next::Action => self.keep(piece),
            Next::Document { .. } => self.document(piece),
        }
    }

    /// How many of the bytes that came have not been read yet. What all before them touch is known.
    pub fn unread(&self) -> usize {
        self.begun.len()
    }

    /// What is touched by what was read so far.
    pub fn touch(&self) -> Touch {
        self.asked.touch()
    }

    /// What is asked for by what was read so far.
    pub fn so_far(&self) -> Asked {
        let mut asked = Asked::new(self.asked.level.clone());
        asked.reach = self.asked.reach.clone();
        asked.counts = self.asked.counts;
        asked.sources = self.sources();
        asked
    }

    /// How many names there are in its actions, and whether they are all of that.
    pub fn names(&self) -> (usize, bool) {
        (self.named.len(), matches!(self.asked.reach, Reach::Names(_)))
    }

    /// Whether an action names the cluster's own accounts by another name.
    pub fn leads_to_accounts(&self, catalog: &Catalog) -> bool {
        self.named.iter().any(|name| catalog.is_veil(name))
    }

    /// What its actions were so far.
    pub fn actions(&mut self) -> &mut Actions {
        &mut self.actions
    }

    /// It has come whole.
    pub fn finish(mut self) -> Result<Asked, Wrong> {
        match self.next {
            Next::Action if self.actions.count() > 0 && self.begun.is_empty() => {
                self.asked.sources = self.sources();
                self.asked.actions = Some(self.actions);
                Ok(self.asked)
            }
            Next::Document { begun: false, .. } => Err(Wrong::Bad("an action of _bulk has no document")),
            _ => Err(Wrong::Bad("the body must end with a new line")),
        }
    }

    /// Where what it touches says no names.
    fn sources(&self) -> BTreeSet<String> {
        match self.asked.reach {
            Reach::Names(_) => BTreeSet::new(),
            Reach::Everything(_) => self.named.clone(),
        }
    }

    fn keep(&mut self, piece: &[u8]) -> Result<(), Wrong> {
        if self.begun.len() + piece.len() > limits::HTTP_QUERY_BYTES_MAX {
            return Err(Wrong::Bad("a line of the body is longer than what the proxy reads for names"));
        }
        self.begun.extend_from_slice(piece);
        Ok(())
    }

    fn document(&mut self, piece: &[u8]) -> Result<(), Wrong> {
        let Next::Document { begun, is_object } = &mut self.next else { return Ok(()) };
        *begun |= !piece.is_empty();
        match piece.trim_ascii_start().first() {
            Some(_) if *is_object => {}
            Some(b'{') => *is_object = true,
            Some(_) => return Err(Wrong::Bad("a document of _bulk must be an object")),
            None => {}
        }
        Ok(())
    }

    /// `rest`: of the line, behind what has come of it before.
    fn end_line(&mut self, rest: &[u8]) -> Result<(), Wrong> {
        if let Next::Document { .. } = self.next {
            self.document(rest)?;
            return match std::mem::replace(&mut self.next, Next::Action) {
                Next::Document { is_object: false, .. } => {
                    Err(Wrong::Bad("a document of _bulk must be an object"))
                }
                _ => Ok(()),
            };
        }
        if self.begun.is_empty() {
            return self.action(rest);
        }
        self.keep(rest)?;
        let line = std::mem::take(&mut self.begun);
        self.action(&line)
    }

    fn action(&mut self, line: &[u8]) -> Result<(), Wrong> {
        match Plain::read(line) {
            Some(Plain { verb, index: Some(index) }) if index == self.last && !index.is_empty() => {
                self.acts(verb, Some(index))
            }
            Some(Plain { verb, index: Some(index) }) => {
                names::name(index, &mut self.asked.reach)?;
                index.clone_into(&mut self.last);
                self.named.insert(index.to_owned());
                self.acts(verb, Some(index))
            }
            _ => self.strange_action(line),
        }
    }

    /// One that is not [`Plain`].
    fn strange_action(&mut self, line: &[u8]) -> Result<(), Wrong> {
        let (action, reach) = (body::object(line)?, &mut self.asked.reach);
        let mut members = action.iter();
        let (Some((verb, meta)), None) = (members.next(), members.next()) else {
            return Err(Wrong::Bad("an action of _bulk must have one member"));
        };
        let meta = meta.object().ok_or(Wrong::Bad("an action of _bulk must be an object"))?;
        for name in meta.keys().filter(|name| *name != "_index") {
            match name.as_ref() {
                "pipeline" => reach.everything("a pipeline"),
                name if ACTION.contains(&name) => {}
                _ => {
                    return Err(Wrong::Bad("an action of _bulk says something that the proxy does not know"));
                }
            }
        }
        body::one_index(meta.get("_index"), self.index.is_some(), reach)?;
        let index = meta.get("_index").and_then(|index| index.text());
        self.named.extend(index.map(str::to_owned));
        self.acts(verb, index)
    }

    /// `index`: where the action names it, and it has been counted.
    fn acts(&mut self, verb: &str, index: Option<&str>) -> Result<(), Wrong> {
        if self.named.len() > limits::HTTP_NAMES_MAX {
            return Err(Wrong::Bad("the body names too many indices"));
        }
        self.next = match verb {
            "index" | "create" | "update" => Next::Document { begun: false, is_object: false },
            "delete" => Next::Action,
            _ => return Err(Wrong::Bad("an action of _bulk is none of index, create, update and delete")),
        };
        self.actions.add(verb, index.or(self.index.as_deref()).unwrap_or_default());
        Ok(())
    }
}

/// An action as nearly all of them are written: one member, whose members are known, each there once, and are texts
/// without escapes or whole numbers. It is read in place. What is anything else is not refused by that, but read as
/// JSON.
#[derive(Debug, PartialEq)]
struct Plain<'a> {
    verb: &'a str,
    index: Option<&'a str>,
}

impl<'a> Plain<'a> {
    fn read(line: &'a [u8]) -> Option<Self> {
        let mut rest = Rest(std::str::from_utf8(line).ok()?);
        rest.token(b'{')?;
        let verb = rest.text()?;
        rest.token(b':')?;
        rest.token(b'{')?;
        let (mut index, mut seen) = (None, 0_u16);
        while rest.token(b'}').is_none() {
            if seen > 0 {
                rest.token(b',')?;
            }
            let name = rest.text()?;
            rest.token(b':')?;
            let place = match name {
                "_index" => ACTION.len(),
                _ => ACTION.iter().position(|known| *known == name)?,
            };
            if seen & (1 << place) != 0 {
                return None;
            }
            seen |= 1 << place;
            match name {
                "_index" => index = Some(rest.text()?),
                _ => rest.text().or_else(|| rest.number()).map(drop)?,
            }
        }
        rest.token(b'}')?;
        rest.blank().is_empty().then_some(Self { verb, index })
    }
}

/// What is left of a line.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    /// Behind the blanks of JSON (RFC 8259, section 2).
    fn blank(&mut self) -> &'a str {
        self.0 = self.0.trim_start_matches([' ', '\t', '\n', '\r']);
        self.0
    }

    fn token(&mut self, token: u8) -> Option<()> {
        let rest = self.blank();
        (*rest.as_bytes().first()? == token).then(|| self.0 = &rest[1..])
    }

    /// Where there is none, nothing is taken.
    fn text(&mut self) -> Option<&'a str> {
        let inner = self.blank().strip_prefix('"')?;
        let end = inner.bytes().position(|byte| byte < b' ' || matches!(byte, b'"' | b'\\'))?;
        let rest = inner[end..].strip_prefix('"')?;
        self.0 = rest;
        Some(&inner[..end])
    }

    fn number(&mut self) -> Option<&'a str> {
        let rest = self.blank();
        let end = rest.bytes().position(|byte| !byte.is_ascii_digit())?;
        let number = &rest[..end];
        let is_one = matches!(end, 1..=18) && (end == 1 || !number.starts_with('0'));
        // A fraction or an exponent is none of the bytes that may follow.
        is_one.then(|| self.0 = &rest[end..]).map(|()| number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::AccessLevel;

    fn bulk() -> Bulk {
        Bulk::new(Asked::new(AccessLevel::ReadWrite), Some("path".to_owned()))
    }

    #[test]
    fn actions_are_counted_by_index_and_a_bound_holds() {
        let mut read = bulk();
        let body = "{\"index\":{}}\n{}\n{\"ind\\u0065x\":{\"_index\":\"path\"}}\n{}\n\
                    {\"delete\":{\"_index\":\"a\"}}\n{\"update\":{\"_index\":\"a\"}}\n{\"doc\":{}}\n";
        read.push(body.as_bytes()).unwrap();
        let catalog = br#"{"a-1":{"aliases":{"a":{}}},"a-2":{"aliases":{"a":{},"b":{}}}}"#;
        read.actions().resolve(&Catalog::of_aliases(catalog).unwrap());
        let actions = read.finish().unwrap().actions.unwrap();
        assert_eq!(actions.count(), 4);
        assert_eq!(
            actions.members(),
            r#""actions":{"delete":{"a":1},"index":{"path":2},"update":{"a":1}},"stands_for":{"a":["a-1","a-2"]}"#
        );
        let mut many = bulk();
        for name in 0..limits::HTTP_COUNTED_INDICES_MAX + 3 {
            let line = format!("{{\"delete\":{{\"_index\":\"a{name}\"}}}}\n");
            many.push(line.repeat(2).as_bytes()).unwrap();
        }
        let actions = many.finish().unwrap().actions.unwrap();
        assert_eq!(actions.count(), 2 * (limits::HTTP_COUNTED_INDICES_MAX + 3) as u64);
        assert_eq!(actions.named["delete"].len(), limits::HTTP_COUNTED_INDICES_MAX);
        assert!(actions.members().ends_with(r#","actions_of_others":{"delete":6}"#));
    }

    #[test]
    fn what_is_read_in_place_is_what_json_says() {
        let plain = |line: &'static str| Plain::read(line.as_bytes());
        let of = |verb, index| Some(Plain { verb, index });
        assert_eq!(plain(r#"{"index":{"_index":"a","_id":"1"}}"#), of("index", Some("a")));
        assert_eq!(
            plain(" { \"delete\" : { \"version\":12 , \"_index\"\t: \"ü\" } } "),
            of("delete", Some("ü"))
        );
        assert_eq!(plain(r#"{"create":{}}"#), of("create", None));
        for strange in [
            r#"{"index":{"_index":"a","_index":"b"}}"#,
            r#"{"index":{"_index":"a","pipeline":"b"}}"#,
            r#"{"index":{"_index":"\u0061"}}"#,
            r#"{"index":{"_inde\u0078":"a"}}"#,
            r#"{"index":{"_index":"a" "_id":"b"}}"#,
            r#"{"index":{"_index":"a",}}"#,
            r#"{"index":{,"_index":"a"}}"#,
            r#"{"index":{"_index":"a"}} {}"#,
            r#"{"index":{"_index":"a"},"delete":{"_index":"b"}}"#,
            r#"{"index":{"_index":"a","version":01}}"#,
            r#"{"index":{"_index":"a","version":1e3}}"#,
            r#"{"index":{"_index":"a","version":-1}}"#,
            r#"{"index":{"_index":"a","_id":{}}}"#,
            r#"{"index":{"_index":["a"]}}"#,
            r#"{"index":{"_index":"a"}"#,
            "{\"index\":{\"_index\":\"a\nb\"}}",
            "",
        ] {
            assert_eq!(plain(strange), None, "{strange}");
        }
    }

    proptest::proptest! {
        /// Whichever way an action is read, it is refused or touches the same.
        #[test]
        fn both_ways_to_read_an_action_agree(
            line in r#"[ ]?[{]"(index|delete|create|x)" ?:[{]("(_index|_id|version|routing|pipeline)"[ ]?:[ ]?("[a-c.*_,ü\\/-]{0,3}"|[0-9]{1,3}|true|[{][}])[ ]?,?){0,3}[}][}]?[ ]?"#,
        ) {
            let (mut quick, mut whole) = (bulk(), bulk());
            let read = quick.action(line.as_bytes());
            let strange = whole.strange_action(line.as_bytes());
            proptest::prop_assert_eq!(read.is_ok(), strange.is_ok());
            if read.is_ok() {
                proptest::prop_assert_eq!(&quick.asked.reach, &whole.asked.reach);
                proptest::prop_assert_eq!(&quick.actions, &whole.actions);
                proptest::prop_assert_eq!(quick.next, whole.next);
            }
        }
    }

    #[test]
    fn what_is_kept_and_named_is_bounded() {
        let action = |name: usize| format!("{{\"delete\":{{\"_index\":\"a{name}\"}}}}\n");
        let body: String = (0..limits::HTTP_NAMES_MAX).map(action).collect();
        let mut many = bulk();
        many.push(body.as_bytes()).unwrap();
        assert_eq!(many.names(), (limits::HTTP_NAMES_MAX, true));
        many.push(action(limits::HTTP_NAMES_MAX).as_bytes()).unwrap_err();
        // Of documents nothing is kept, however long they are; of an action no more than the limit.
        let long = " ".repeat(limits::HTTP_QUERY_BYTES_MAX);
        let mut read = bulk();
        read.push(b"{\"index\":{}}\n  ").unwrap();
        read.push(format!("{{{long}").as_bytes()).unwrap();
        assert_eq!(read.unread(), 0);
        read.push(b"}\n{\"delete\":{}").unwrap();
        assert_eq!(read.unread(), 12);
        read.push(b"}\n").unwrap();
        assert_eq!(read.unread(), 0);
        read.push(long.as_bytes()).unwrap();
        read.push(b"{").unwrap_err();
    }
}
