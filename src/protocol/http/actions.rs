//! Bodies that say what is done with several indices, or with one that they name themselves: copies, aliases, vectors,
//! ratings.

use super::json::{Json, Members};
use super::{Wrong, body, names, query};
use crate::model::Reach;

type Walked = Result<(), Wrong>;

const UNKNOWN: &str = "something in the body that the proxy does not know";

/// `_reindex`: from where to where. A script, a pipeline and another cluster may be anything.
pub(super) fn reindex(body: &Members, reach: &mut Reach) -> Walked {
    for (name, value) in body {
        match (name.as_ref(), value) {
            ("source", Json::Object(source)) => copied(source, reach)?,
            ("dest", Json::Object(dest)) => {
                for name in dest.keys() {
                    if !["index", "op_type", "version_type", "routing"].contains(&name.as_ref()) {
                        reach.everything(UNKNOWN);
                    }
                }
                body::one_index(dest.get("index"), false, reach)?;
            }
            ("conflicts" | "max_docs" | "size", Json::Text(_) | Json::Other) => {}
            _ => reach.everything(UNKNOWN),
        }
    }
    match body.contains_key("source") && body.contains_key("dest") {
        true => Ok(()),
        false => Err(Wrong::Bad("the body must have source and dest")),
    }
}

/// Whether it copies from another cluster.
pub(super) fn has_remote(body: &Members) -> bool {
    let source = body.get("source").and_then(Json::object);
    source.is_some_and(|source| source.contains_key("remote"))
}

fn copied(source: &Members, reach: &mut Reach) -> Walked {
    body::indices(source.get("index"), reach)?;
    for (name, value) in source {
        match (name.as_ref(), value) {
            ("index", _) => {}
            ("query", query) => query::clause(query, reach)?,
            ("size" | "_source", value) => query::plain(value, reach),
            _ => reach.everything(UNKNOWN),
        }
    }
    Ok(())
}

/// `_aliases`: each alias is as much a name as the index that it is given to.
pub(super) fn aliases(body: &Members, reach: &mut Reach) -> Walked {
    for (name, value) in body {
        let ("actions", Json::List(actions)) = (name.as_ref(), value) else {
            return Err(Wrong::Bad("the body must have a list of actions"));
        };
        for action in actions {
            let mut members = action.object().into_iter().flatten();
            let (Some((verb, Json::Object(rules))), None) = (members.next(), members.next()) else {
                return Err(Wrong::Bad("an action of _aliases must be an object with one member"));
            };
            if !["add", "remove", "remove_index"].contains(&verb.as_ref()) {
                return Err(Wrong::Bad("an action of _aliases is none of add, remove and remove_index"));
            }
            let named = ["index", "indices", "alias", "aliases"];
            for name in named.iter().filter_map(|name| rules.get(*name)) {
                body::indices(Some(name), reach)?;
            }
            if !["index", "indices"].iter().any(|name| rules.contains_key(*name)) {
                reach.everything("an action that names no index");
            }
            let mut others = rules.iter().filter(|(name, _)| !named.contains(&name.as_ref()));
            others.try_for_each(|(name, value)| rule(name, value, reach))?;
        }
    }
    Ok(())
}

/// What an alias may say of itself.
pub(super) fn alias(body: &Members, reach: &mut Reach) -> Walked {
    body.iter().try_for_each(|(name, value)| rule(name, value, reach))
}

fn rule(name: &str, value: &Json, reach: &mut Reach) -> Walked {
    match name {
        "filter" => query::clause(value, reach)?,
        "routing" | "index_routing" | "search_routing" | "is_write_index" | "is_hidden" | "must_exist" => {
            query::scalar(value, reach);
        }
        _ => reach.everything(UNKNOWN),
    }
    Ok(())
}

/// What is said of a document whose vectors are wanted. `_index` in there counts more than the path does.
const VECTORS: [&str; 15] = [
    "_id",
    "doc",
    "fields",
    "offsets",
    "payloads",
    "positions",
    "term_statistics",
    "termStatistics",
    "field_statistics",
    "fieldStatistics",
    "per_field_analyzer",
    "routing",
    "version",
    "version_type",
    "filter",
];

pub(super) fn vectors(body: &Members, named: bool, reach: &mut Reach) -> Walked {
    if body.keys().any(|name| name != "_index" && !VECTORS.contains(&name.as_ref())) {
        return Err(Wrong::Bad("the body says something of vectors that the proxy does not know"));
    }
    body::one_index(body.get("_index"), named, reach)
}

pub(super) fn many_vectors(body: &Members, named: bool, reach: &mut Reach) -> Walked {
    for (name, value) in body {
        match (name.as_ref(), value) {
            ("docs", Json::List(documents)) => {
                for document in documents {
                    let document = document.object().ok_or(Wrong::Bad("docs must be objects"))?;
                    vectors(document, named, reach)?;
                }
            }
            ("ids", Json::List(_)) if named => {}
            // What is said of all of them: the index too.
            ("parameters", Json::Object(all)) => vectors(all, true, reach)?,
            _ => return Err(Wrong::Bad("the body must have docs, or ids where the path names an index")),
        }
    }
    Ok(())
}

/// `_analyze`: words may come from files of the server and from sets that it keeps.
pub(super) fn analyze(body: &Members, reach: &mut Reach) {
    const KNOWN: [&str; 10] = [
        "analyzer",
        "attributes",
        "char_filter",
        "explain",
        "field",
        "filter",
        "normalizer",
        "text",
        "tokenizer",
        "token_filter",
    ];
    if body.keys().any(|name| !KNOWN.contains(&name.as_ref())) || !body.values().all(body::plain_words) {
        reach.everything(UNKNOWN);
    }
}

/// `_rank_eval`: searches, and documents that they should find.
pub(super) fn rank_eval(body: &Members, named: bool, reach: &mut Reach) -> Walked {
    for (name, value) in body {
        match (name.as_ref(), value) {
            ("requests", Json::List(requests)) => {
                for request in requests {
                    let request = request.object().ok_or(Wrong::Bad("requests must be objects"))?;
                    rated(request, named, reach)?;
                }
            }
            ("metric", Json::Object(_)) | ("max_concurrent_searches", Json::Other) => {}
            _ => reach.everything(UNKNOWN),
        }
    }
    Ok(())
}

fn rated(request: &Members, named: bool, reach: &mut Reach) -> Walked {
    for (name, value) in request {
        match (name.as_ref(), value) {
            ("id", Json::Text(_)) | ("summary_fields", Json::List(_)) => {}
            ("request", Json::Object(search)) => query::search(search, reach)?,
            ("ratings", Json::List(ratings)) => {
                for rating in ratings {
                    let rating = rating.object().ok_or(Wrong::Bad("ratings must be objects"))?;
                    body::one_index(rating.get("_index"), named, reach)?;
                }
            }
            // A stored template with parameters.
            _ => reach.everything(UNKNOWN),
        }
    }
    Ok(())
}

/// The same of a body that is JSON, or lines of it.
pub(super) fn texts(body: &[u8], holds: &dyn Fn(&str) -> bool) -> bool {
    let said = |text: &[u8]| Json::parse(text).map(|json| says(&json, holds));
    said(body).unwrap_or_else(|_| {
        let mut lines = body.split(|byte| *byte == b'\n');
        lines.any(|line| said(line).unwrap_or_default())
    })
}

/// Whether this holds for a text anywhere in it, or for the name of a member.
pub(super) fn says(value: &Json, holds: &dyn Fn(&str) -> bool) -> bool {
    match value {
        Json::Text(text) => holds(text),
        Json::List(list) => list.iter().any(|value| says(value, holds)),
        Json::Object(members) => members.iter().any(|(name, value)| holds(name) || says(value, holds)),
        Json::Other => false,
    }
}

/// Where only a grant for everything gets to: the cluster's own accounts are not named all the same.
pub(super) fn unsealed(value: &Json) -> Walked {
    if says(value, &names::is_sealed) { Err(names::ACCOUNTS) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::super::asked::Asked;
    use super::super::body::{Kind, Place};
    use super::super::expression::Expand;
    use super::*;
    use crate::model::AccessLevel;

    fn of(kind: &str, body: &str, path: Option<&str>) -> Result<Reach, Wrong> {
        let mut asked = Asked::new(AccessLevel::Read);
        let place = Place { named: path.is_some(), expand: Expand::OPEN };
        Kind::named(kind).unwrap().walk(body.as_bytes(), place, &mut asked).map(|()| asked.touch().reach)
    }

    #[test]
    fn each_index_that_a_body_names_is_touched() {
        for (kind, body, path, expected) in [
            (
                "reindex",
                r#"{"source":{"index":["a","b"],"query":{"terms":{"u":{"index":"c","id":"1","path":"p"}}}},
                    "dest":{"index":"d","op_type":"create"},"conflicts":"proceed","max_docs":1}"#,
                None,
                "a b c d",
            ),
            (
                "aliases",
                r#"{"actions":[{"add":{"index":"a","alias":"b","filter":{"term":{"x":1}}}},
                    {"remove":{"indices":["c"],"aliases":["d","e"]}},{"remove_index":{"index":"f"}},
                    {"add":{"index":"a","alias":"g","filter":{"terms":{"u":{"index":"h","id":"1","path":"p"}}}}}]}"#,
                None,
                "a b c d e f g h",
            ),
            ("alias", r#"{"filter":{"term":{"x":1}},"routing":"1","is_write_index":true}"#, Some("a"), ""),
            ("alias", r#"{"filter":{"more_like_this":{"like":[{"_index":"b","_id":"1"}]}}}"#, Some("a"), "b"),
            ("vectors", r#"{"_index":"b","_id":"1","fields":["x"]}"#, Some("a"), "b"),
            ("manyvectors", r#"{"docs":[{"_index":"b","_id":"1"},{"_id":"2"}]}"#, Some("a"), "b"),
            ("manyvectors", r#"{"ids":["1"],"parameters":{"_index":"b","fields":["x"]}}"#, Some("a"), "b"),
            ("analyze", r#"{"field":"x","text":["a","b"],"filter":["lowercase"]}"#, Some("a"), ""),
            (
                "rankeval",
                r#"{"requests":[{"id":"q","request":{"query":{"terms":{"u":{"index":"b","id":"1","path":"p"}}}},
                    "ratings":[{"_index":"c","_id":"1","rating":1}]}],"metric":{"precision":{}}}"#,
                Some("a"),
                "b c",
            ),
            ("rollover", r#"{"conditions":{"max_docs":1},"aliases":{"b":{}}}"#, Some("a"), "b"),
        ] {
            let Ok(Reach::Names(names)) = of(kind, body, path) else { panic!("{kind} {body}") };
            assert_eq!(names.into_iter().collect::<Vec<_>>().join(" "), expected, "{kind} {body}");
        }
    }

    #[test]
    fn the_login_of_another_cluster_is_not_written_down() {
        for (source, secret) in [(r#""remote":{"host":"http://h","password":"x"},"#, true), ("", false)] {
            let mut asked = Asked::new(AccessLevel::ReadWrite);
            let body = format!("{{\"source\":{{{source}\"index\":\"a\"}},\"dest\":{{\"index\":\"b\"}}}}");
            let place = Place { named: false, expand: Expand::OPEN };
            Kind::Reindex.walk(body.as_bytes(), place, &mut asked).unwrap();
            assert_eq!(asked.is_secret(), secret, "{body}");
        }
    }

    #[test]
    fn what_is_not_known_takes_a_grant_for_everything_or_is_refused() {
        for (kind, body) in [
            ("reindex", r#"{"source":{"index":"a"},"dest":{"index":"b"},"script":{"source":"x"}}"#),
            ("reindex", r#"{"source":{"index":"a"},"dest":{"index":"b","pipeline":"p"}}"#),
            ("reindex", r#"{"source":{"index":"a","remote":{"host":"http://h"}},"dest":{"index":"b"}}"#),
            ("reindex", r#"{"source":{},"dest":{"index":"b"}}"#),
            ("reindex", r#"{"source":{"index":"a*"},"dest":{"index":"b"}}"#),
            ("reindex", r#"{"source":{"index":"a","runtime_mappings":{}},"dest":{"index":"b"}}"#),
            ("aliases", r#"{"actions":[{"remove":{"alias":"a"}}]}"#),
            ("aliases", r#"{"actions":[{"remove":{"index":"a","alias":"*"}}]}"#),
            ("aliases", r#"{"actions":[{"add":{"index":"a","alias":"b","other":1}}]}"#),
            ("alias", r#"{"filter":{"script":{"script":"x"}}}"#),
            ("analyze", r#"{"text":"x","filter":[{"type":"stop","stopwords_path":"/etc/passwd"}]}"#),
            ("analyze", r#"{"text":"x","index":"secret"}"#),
            ("rankeval", r#"{"requests":[{"id":"q","template_id":"t","ratings":[]}]}"#),
            ("rankeval", r#"{"templates":[]}"#),
            ("everything", r#"{}"#),
        ] {
            assert!(matches!(of(kind, body, Some("a")), Ok(Reach::Everything(_))), "{kind} {body}");
        }
        for (kind, body) in [
            ("reindex", ""),
            ("reindex", "{}"),
            ("reindex", r#"{"source":{"index":"a"}}"#),
            ("reindex", r#"{"source":{"index":"a"},"dest":{}}"#),
            ("reindex", r#"{"source":{"index":"a"},"dest":{"index":"b,c"}}"#),
            (
                "aliases",
                r#"{"actions":[{"add":{"index":"a","alias":"b"},"remove":{"index":"c","alias":"b"}}]}"#,
            ),
            ("aliases", r#"{"actions":[{"swap":{}}]}"#),
            ("aliases", r#"{"index":"a"}"#),
            ("vectors", r#"{"_index":["b"],"_id":"1"}"#),
            ("vectors", r#"{"index":"b","_id":"1"}"#),
            ("manyvectors", r#"{"docs":[{"index":"b","_id":"1"}]}"#),
            ("rankeval", r#"{"requests":[{"id":"q","ratings":[{"_index":5}]}]}"#),
            ("everything", r#"{"a":[{"b":".Security-7"}]}"#),
            ("everything", r#"{".security":1}"#),
        ] {
            assert!(of(kind, body, Some("a")).is_err(), "{kind} {body}");
        }
        assert!(of("manyvectors", r#"{"ids":["1"]}"#, None).is_err());
    }
}
