//! JSON as it must be where names are looked for in it: no name twice in an object, nothing behind the end, so deep and
//! so many values at most. What Elasticsearch's own parser might take besides (comments, single quotes) is refused.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};

use crate::model::limits;

/// Texts without escapes are those of the body itself.
#[derive(Debug, Clone, PartialEq)]
pub enum Json<'a> {
    /// null, a truth value or a number: never a name.
    Other,
    Text(Cow<'a, str>),
    List(Vec<Json<'a>>),
    Object(Members<'a>),
}

/// What an object has.
pub type Members<'a> = BTreeMap<Cow<'a, str>, Json<'a>>;

impl<'a> Json<'a> {
    /// The error says what is wrong, for the client.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, &'static str> {
        let budget = Budget { left: Cell::new(limits::HTTP_JSON_VALUES_MAX), wrong: Cell::new(None) };
        let mut from = serde_json::Deserializer::from_slice(bytes);
        let parsed = Seed { budget: &budget, depth: 0 }.deserialize(&mut from);
        let parsed = parsed.and_then(|json| from.end().map(|()| json));
        parsed.map_err(|_| budget.wrong.get().unwrap_or("the body is not the JSON that it should be"))
    }

    pub fn object(&self) -> Option<&Members<'a>> {
        match self {
            Self::Object(members) => Some(members),
            _ => None,
        }
    }

    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

struct Budget {
    left: Cell<usize>,
    wrong: Cell<Option<&'static str>>,
}

impl Budget {
    fn refuse<E: Error>(&self, what: &'static str) -> E {
        self.wrong.set(Some(what));
        E::custom(what)
    }
}

#[derive(Clone, Copy)]
struct Seed<'a> {
    budget: &'a Budget,
    depth: usize,
}

impl Seed<'_> {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        match self.depth < limits::HTTP_JSON_DEPTH_MAX {
            true => Ok(Self { depth: self.depth + 1, ..self }),
            false => Err(self.budget.refuse("the body is nested too deeply")),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Json<'de>;

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<Json<'de>, D::Error> {
        match self.budget.left.get().checked_sub(1) {
            Some(left) => self.budget.left.set(left),
            None => return Err(self.budget.refuse("the body holds too many values")),
        }
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Other)
    }
    fn visit_bool<E>(self, _: bool) -> Result<Json<'de>, E> {
        Ok(Json::Other)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Json<'de>, E> {
        Ok(Json::Other)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Json<'de>, E> {
        Ok(Json::Other)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Json<'de>, E> {
        Ok(Json::Other)
    }
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Borrowed(text)))
    }
    fn visit_str<E>(self, text: &str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Json<'de>, A::Error> {
        let inner = self.deeper()?;
        let mut list = Vec::new();
        while let Some(value) = values.next_element_seed(inner)? {
            list.push(value);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json<'de>, A::Error> {
        let inner = self.deeper()?;
        let mut object = BTreeMap::new();
        while let Some(name) = members.next_key_seed(Text)? {
            let value = members.next_value_seed(inner)?;
            if object.insert(name, value).is_some() {
                return Err(self.budget.refuse("the body has a name twice in one object"));
            }
        }
        Ok(Json::Object(object))
    }
}

/// A member's name.
struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Cow<'de, str>;

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<Cow<'de, str>, D::Error> {
        from.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(text))
    }
    fn visit_str<E>(self, text: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_read_strictly() {
        let json = Json::parse(br#" {"a": [1, "x\u0041", null], "b": {"c": true}} "#).unwrap();
        let object = json.object().unwrap();
        assert_eq!(object["a"], Json::List(vec![Json::Other, Json::Text("xA".into()), Json::Other]));
        assert!(Json::parse(br#"{"a":1,"\u0061":2}"#).unwrap_err().contains("twice"));
        for bad in [
            "",
            "{",
            "{} {}",
            "{}x",
            "{'a':1}",
            "{a:1}",
            "{/**/}",
            "\u{feff}{}",
            "[1,]",
            "NaN",
            "{\"a\":1,}",
            r#""\ud800""#,
            "\"\x01\"",
            "01",
        ] {
            assert!(Json::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Json::parse(b"\"\xff\"").is_err());
    }

    #[test]
    fn depth_and_count_are_bounded() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(Json::parse(nested(limits::HTTP_JSON_DEPTH_MAX).as_bytes()).is_ok());
        for depth in [limits::HTTP_JSON_DEPTH_MAX + 1, 100_000] {
            assert!(Json::parse(nested(depth).as_bytes()).unwrap_err().contains("deep"), "{depth}");
        }
        let list = |count| format!("[{}1]", "1,".repeat(count - 2));
        assert!(Json::parse(list(limits::HTTP_JSON_VALUES_MAX).as_bytes()).is_ok());
        assert!(Json::parse(list(limits::HTTP_JSON_VALUES_MAX + 1).as_bytes()).unwrap_err().contains("many"));
    }
}
