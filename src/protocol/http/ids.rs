//! Ids that a cluster gives for what it keeps open for somebody: scrolls, points in time, asynchronous searches, tasks.
//! To the cluster every person is the connector, so the proxy gives out sealed ones and opens them again when they come
//! back.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::json::Json;
use super::{Path, Wrong};
use crate::model::limits;

/// What an id is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdKind {
    Scroll,
    /// Elasticsearch's `_pit`.
    Pit,
    /// OpenSearch's `_search/point_in_time`.
    PointInTime,
    Async,
    /// What goes on when its request has been answered.
    Task,
    /// An EQL search, or an ES|QL query, that goes on.
    Eql,
    Esql,
}

impl IdKind {
    /// The request that closes these, as the body of it; for an id in the path there is none.
    pub fn close(self, ids: &[&str]) -> Vec<(String, String)> {
        let body = |member: &str, ids: serde_json::Value| serde_json::json!({member: ids}).to_string();
        match self {
            Self::Scroll => vec![("/_search/scroll".into(), body("scroll_id", ids.into()))],
            Self::PointInTime => vec![("/_search/point_in_time".into(), body("pit_id", ids.into()))],
            Self::Pit => ids.iter().map(|id| ("/_pit".to_owned(), body("id", (*id).into()))).collect(),
            Self::Async => each(&["_async_search"], ids),
            Self::Eql => each(&["_eql", "search"], ids),
            Self::Esql => each(&["_query", "async"], ids),
            // By what it is marked with: see `super::tasks`.
            Self::Task => Vec::new(),
        }
    }
}

/// One request for each, with the id behind these words of a path.
fn each(words: &[&str], ids: &[&str]) -> Vec<(String, String)> {
    let path = |id: &&str| {
        let segments = words.iter().chain([id]).map(|word| (*word).to_owned()).collect();
        Path { segments, query: Vec::new() }.render()
    };
    ids.iter().map(|id| (path(id), String::new())).collect()
}

/// An id that an answer may hold: what of, and the member of the answer that is it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gives {
    /// `None`: what the id of the request is of.
    pub kind: Option<IdKind>,
    pub member: &'static str,
    /// For how long it is kept, as the request says.
    pub keep: Option<Duration>,
}

/// Where a sealed id stands in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IdAt {
    Segment(usize),
    Query(usize),
    /// A member of the body, or the id in its `pit`.
    Body(&'static str),
}

/// Sealed ids as they stand in one place.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ids {
    pub at: IdAt,
    pub sealed: Vec<String>,
    /// They stand in a list.
    pub listed: bool,
}

/// The ids of one member: a text, or a list of texts.
pub(super) fn of_member(at: &'static str, value: &Json) -> Result<Ids, Wrong> {
    const WRONG: Wrong = Wrong::Bad("an id must be a text, or a list of texts");
    let (sealed, listed) = match value {
        Json::Text(id) => (vec![id.clone().into_owned()], false),
        Json::List(list) => {
            let texts: Option<Vec<_>> = list.iter().map(|id| id.text().map(str::to_owned)).collect();
            (texts.filter(|texts| !texts.is_empty()).ok_or(WRONG)?, true)
        }
        Json::Other | Json::Object(_) => return Err(WRONG),
    };
    if sealed.len() > limits::HTTP_CONTEXTS_MAX {
        return Err(Wrong::Bad("too many ids in one request"));
    }
    Ok(Ids { at: IdAt::Body(at), sealed, listed })
}

/// The body with these in place of its ids. `None`: it cannot be read, which it was before.
pub(super) fn put(body: &[u8], ids: &Ids, raw: &[&str]) -> Option<Vec<u8>> {
    let IdAt::Body(member) = ids.at else { return Some(body.to_vec()) };
    let value = match (ids.listed, raw) {
        (false, [id]) => serde_json::value::to_raw_value(id).ok()?,
        (false, _) => return None,
        (true, ids) => serde_json::value::to_raw_value(ids).ok()?,
    };
    let mut members = raw_members(body)?;
    let inner = match member {
        "pit" => {
            let mut inner = raw_members(members.get("pit")?.get().as_bytes())?;
            inner.insert("id".into(), &value);
            serde_json::value::to_raw_value(&inner).ok()?
        }
        _ => value,
    };
    members.insert(member.into(), &inner);
    serde_json::to_vec(&members).ok()
}

/// The members of an object, each as it is spelt.
pub(super) fn raw_members(object: &[u8]) -> Option<BTreeMap<String, &RawValue>> {
    #[derive(Deserialize)]
    #[serde(transparent)]
    struct Raw<'a>(#[serde(borrow)] BTreeMap<String, &'a RawValue>);
    serde_json::from_slice::<Raw<'_>>(object).ok().map(|raw| raw.0)
}

/// A duration as clusters write it: `30s`, `5m`, `1d`.
pub(super) fn keep(text: &str) -> Result<Duration, Wrong> {
    const WRONG: Wrong = Wrong::Bad("how long it is kept must be a number with d, h, m, s or ms");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_lowercase());
    let number: u32 = digits.parse().map_err(|_| WRONG)?;
    let millis = match &text[digits.len()..] {
        "d" => 86_400_000,
        "h" => 3_600_000,
        "m" => 60_000,
        "s" => 1_000,
        "ms" => 1,
        _ => return Err(WRONG),
    };
    Ok(Duration::from_millis(u64::from(number) * millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_clusters_write_them() {
        assert_eq!(keep("5m").unwrap(), Duration::from_secs(300));
        assert_eq!(keep("1d").unwrap(), Duration::from_secs(86_400));
        assert_eq!(keep("10ms").unwrap(), Duration::from_millis(10));
        for bad in ["", "m", "-1m", "1", "1M", "1.5h", "1m ", "99999999999s", "1y"] {
            assert!(keep(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_are_put_where_they_stood_and_nothing_else_changes() {
        let ids = |at, listed, count| Ids { at: IdAt::Body(at), sealed: vec!["s".into(); count], listed };
        let text = |body: &str, ids: Ids, raw: &[&str]| {
            put(body.as_bytes(), &ids, raw).map(|sent| String::from_utf8(sent).unwrap())
        };
        assert_eq!(
            text(r#"{"scroll":"1m","scroll_id":"s"}"#, ids("scroll_id", false, 1), &["a\"b"]).unwrap(),
            r#"{"scroll":"1m","scroll_id":"a\"b"}"#
        );
        assert_eq!(
            text(r#"{"pit_id":["s","s"]}"#, ids("pit_id", true, 2), &["a", "b"]).unwrap(),
            r#"{"pit_id":["a","b"]}"#
        );
        let search = r#"{"size":1.50,"query":{"term":{"a":1e400}},"pit":{"id":"s","keep_alive":"1m"}}"#;
        assert_eq!(
            text(search, ids("pit", false, 1), &["raw"]).unwrap(),
            r#"{"pit":{"id":"raw","keep_alive":"1m"},"query":{"term":{"a":1e400}},"size":1.50}"#
        );
        assert_eq!(text("{}", ids("pit", false, 1), &["raw"]), None);
    }
}
