//! Looks through an answer as it passes for one text among the members of its outermost object, and puts another in its
//! place. What is held back is that text alone.

use crate::model::limits;

/// Names of members that are looked for are shorter.
const NAME_BYTES_MAX: usize = 32;

/// Where in an answer one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Ahead of the outermost value.
    Start,
    /// Within the outermost object, between its members.
    Between,
    /// In the name of one of its members.
    Name,
    /// Behind that name, and behind the colon.
    Named,
    Value,
    /// Within a value that is none of ours.
    Inside,
    InsideText,
    /// In the text that is looked for.
    Wanted,
    /// It was found, or will not be: all that comes passes.
    Passing,
}

/// One answer.
#[derive(Debug)]
pub struct Scanner {
    member: &'static str,
    at: At,
    /// Objects and lists that are open within the outermost object.
    depth: u64,
    escaped: bool,
    name: Vec<u8>,
    is_wanted: bool,
    held: Vec<u8>,
}

/// Gives the text that takes the place of another. `None`: there is none, and the answer may not go on.
pub type Replace<'a> = dyn FnMut(&str) -> Option<String> + 'a;

impl Scanner {
    pub fn new(member: &'static str) -> Self {
        Self {
            member,
            at: At::Start,
            depth: 0,
            escaped: false,
            name: Vec::new(),
            is_wanted: false,
            held: Vec::new(),
        }
    }

    /// What goes on of a part of the answer. An error: what was found cannot be replaced, and nothing may go on.
    pub fn pass(&mut self, part: &[u8], replace: &mut Replace<'_>) -> Result<Vec<u8>, &'static str> {
        let mut on = Vec::with_capacity(part.len());
        let mut rest = part;
        while let Some((byte, after)) = rest.split_first() {
            if self.at == At::Passing {
                on.extend_from_slice(rest);
                return Ok(on);
            }
            rest = after;
            self.step(*byte, &mut on, replace)?;
        }
        Ok(on)
    }

    /// Whether all that comes passes as it is.
    pub fn is_done(&self) -> bool {
        self.at == At::Passing
    }

    /// Whether an answer may end here.
    pub fn may_end(&self) -> bool {
        self.at != At::Wanted
    }

    fn step(&mut self, byte: u8, on: &mut Vec<u8>, replace: &mut Replace<'_>) -> Result<(), &'static str> {
        if self.at == At::Wanted {
            return self.wanted(byte, on, replace);
        }
        on.push(byte);
        match self.at {
            _ if byte.is_ascii_whitespace() && !matches!(self.at, At::Name | At::InsideText) => {}
            At::Start => self.at = if byte == b'{' { At::Between } else { At::Passing },
            At::Between => match byte {
                b'"' => {
                    self.name.clear();
                    self.at = At::Name;
                }
                b'}' => self.at = At::Passing,
                _ => {}
            },
            At::Name => self.name(byte),
            At::Named => self.at = At::Value,
            At::Value => match (self.is_wanted, byte) {
                (true, b'"') => {
                    on.pop();
                    self.held.clear();
                    self.at = At::Wanted;
                }
                _ => {
                    self.at = At::Inside;
                    self.inside(byte);
                }
            },
            At::Inside => self.inside(byte),
            At::InsideText => self.text(byte),
            At::Wanted | At::Passing => {}
        }
        Ok(())
    }

    /// A name that is spelt with escapes is not known: what it says passes, and means nothing to who gets it.
    fn name(&mut self, byte: u8) {
        match (self.escaped, byte) {
            (false, b'"') => {
                self.is_wanted = self.name == self.member.as_bytes();
                self.at = At::Named;
            }
            _ => {
                self.escaped = !self.escaped && byte == b'\\';
                if self.name.len() < NAME_BYTES_MAX {
                    self.name.push(byte);
                }
            }
        }
    }

    fn inside(&mut self, byte: u8) {
        match byte {
            b'"' => self.at = At::InsideText,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' if self.depth == 0 => self.at = At::Passing,
            b'}' | b']' => self.depth -= 1,
            b',' if self.depth == 0 => self.at = At::Between,
            _ => {}
        }
    }

    fn text(&mut self, byte: u8) {
        match (self.escaped, byte) {
            (false, b'"') => self.at = At::Inside,
            _ => self.escaped = !self.escaped && byte == b'\\',
        }
    }

    fn wanted(&mut self, byte: u8, on: &mut Vec<u8>, replace: &mut Replace<'_>) -> Result<(), &'static str> {
        match (self.escaped, byte) {
            (false, b'"') => {
                let held = [b"\"", self.held.as_slice(), b"\""].concat();
                let id: String =
                    serde_json::from_slice(&held).map_err(|_| "an id of the target is no text")?;
                let other = replace(&id).ok_or("an id of the target cannot be given out")?;
                on.extend(serde_json::to_vec(&other).map_err(|_| "an id cannot be written")?);
                self.held = Vec::new();
                self.at = At::Passing;
            }
            _ => {
                self.escaped = !self.escaped && byte == b'\\';
                self.held.push(byte);
            }
        }
        match self.held.len() <= limits::HTTP_ID_BYTES_MAX {
            true => Ok(()),
            false => Err("an id of the target is too long"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn passed(answer: &str, parts: usize) -> Result<String, &'static str> {
        let mut scanner = Scanner::new("_scroll_id");
        let mut on = Vec::new();
        for part in answer.as_bytes().chunks(parts.max(1)) {
            on.extend(scanner.pass(part, &mut |id| Some(format!("<{id}>")))?);
        }
        match scanner.may_end() {
            true => Ok(String::from_utf8(on).unwrap()),
            false => Err("ended within it"),
        }
    }

    #[test]
    fn the_id_is_replaced_and_nothing_else() {
        for (answer, on) in [
            (r#"{"_scroll_id":"abc==","took":1}"#, r#"{"_scroll_id":"<abc==>","took":1}"#),
            (
                " { \"took\" : 1 ,\n \"_scroll_id\" :\t\"a\\\"b\" } ",
                " { \"took\" : 1 ,\n \"_scroll_id\" :\t\"<a\\\"b>\" } ",
            ),
            (
                r#"{"hits":{"_scroll_id":"no","h":[{"_scroll_id":"no"}]},"t":"\"_scroll_id\":\"no\"","_scroll_id":"x"}"#,
                r#"{"hits":{"_scroll_id":"no","h":[{"_scroll_id":"no"}]},"t":"\"_scroll_id\":\"no\"","_scroll_id":"<x>"}"#,
            ),
            (
                r#"{"a":"_scroll_id","_scroll_id":null,"b":2}"#,
                r#"{"a":"_scroll_id","_scroll_id":null,"b":2}"#,
            ),
            (r#"{"_scroll_id":{"_scroll_id":"a"}}"#, r#"{"_scroll_id":{"_scroll_id":"a"}}"#),
            (r#"{"x_scroll_id":"a","_scroll_idx":"b"}"#, r#"{"x_scroll_id":"a","_scroll_idx":"b"}"#),
            (r#"[{"_scroll_id":"a"}]"#, r#"[{"_scroll_id":"a"}]"#),
            (r#"{"a\\":1,"_scroll_id":"a"}"#, r#"{"a\\":1,"_scroll_id":"<a>"}"#),
            ("", ""),
            ("{}", "{}"),
        ] {
            for parts in 1..=answer.len().max(1) {
                assert_eq!(passed(answer, parts).as_deref(), Ok(on), "in parts of {parts}");
            }
        }
    }

    #[test]
    fn what_cannot_be_replaced_does_not_go_on() {
        assert!(passed(r#"{"_scroll_id":"abc"#, 100).is_err());
        assert!(passed(r#"{"_scroll_id":"\x"}"#, 100).is_err());
        let long = format!("{{\"_scroll_id\":\"{}\"}}", "a".repeat(limits::HTTP_ID_BYTES_MAX + 1));
        assert!(passed(&long, 1_000).is_err());
        let mut scanner = Scanner::new("id");
        assert!(scanner.pass(b"{\"id\":\"a\"}", &mut |_| None).is_err());
    }

    proptest! {
        /// For JSON of any kind, in parts of any size, the result is what one gets by reading all of it.
        #[test]
        fn it_is_what_reading_all_of_it_gives(
            members in proptest::collection::btree_map("_scroll_id|[a-z\\\\\"{},:\\[\\]]{0,12}", value(), 0..5),
            parts in 1..40usize,
            pretty in any::<bool>(),
        ) {
            let json = serde_json::to_value(&members).unwrap();
            let text = if pretty { serde_json::to_string_pretty(&json) } else { serde_json::to_string(&json) }.unwrap();
            let mut expected = json;
            if let Some(serde_json::Value::String(id)) = expected.get_mut("_scroll_id") {
                *id = format!("<{id}>");
            }
            let on = passed(&text, parts).unwrap();
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&on).unwrap(), expected);
        }
    }

    fn value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<i32>().prop_map(Into::into),
            "\\PC{0,12}".prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(3, 12, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
                proptest::collection::btree_map("_scroll_id|id", inner, 0..3)
                    .prop_map(|members| serde_json::to_value(members).unwrap()),
            ]
        })
    }
}
