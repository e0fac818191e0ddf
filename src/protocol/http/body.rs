//! The bodies that hold names of indices, read as the cluster will read them.

use super::asked::{Asked, At};
use super::expression::Expand;
use super::ids::{self, Gives};
use super::json::{Json, Members};
use super::{Wrong, actions, esql, names, query};
use crate::model::{Reach, limits};

/// What a route's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    None,
    Opaque,
    Search,
    Query,
    FieldCaps,
    Bulk,
    Msearch,
    Mget,
    Create,
    Mapping,
    Settings,
    Reindex,
    Aliases,
    Alias,
    Vectors,
    ManyVectors,
    Analyze,
    RankEval,
    Rollover,
    Everything,
    /// What new indices become, by patterns of their names.
    Template,
    /// An id, and for how much longer it is to be kept.
    Scroll,
    /// Ids of what is to be closed.
    Close,
    /// A query in the language of this name.
    Eql,
    Esql,
}

/// What the rest of the request says of names that a body leaves out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The path names them.
    pub named: bool,
    pub expand: Expand,
}

impl Kind {
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "none" => Self::None,
            "opaque" => Self::Opaque,
            "search" => Self::Search,
            "query" => Self::Query,
            "fieldcaps" => Self::FieldCaps,
            "bulk" => Self::Bulk,
            "msearch" => Self::Msearch,
            "mget" => Self::Mget,
            "create" => Self::Create,
            "mapping" => Self::Mapping,
            "settings" => Self::Settings,
            "reindex" => Self::Reindex,
            "aliases" => Self::Aliases,
            "alias" => Self::Alias,
            "vectors" => Self::Vectors,
            "manyvectors" => Self::ManyVectors,
            "analyze" => Self::Analyze,
            "rankeval" => Self::RankEval,
            "rollover" => Self::Rollover,
            "everything" => Self::Everything,
            "template" => Self::Template,
            "scroll" => Self::Scroll,
            "close" => Self::Close,
            "eql" => Self::Eql,
            "esql" => Self::Esql,
            _ => return None,
        })
    }

    /// Adds what a whole body asks for.
    pub fn walk(self, body: &[u8], place: Place, asked: &mut Asked) -> Result<(), Wrong> {
        let empty = body.iter().all(u8::is_ascii_whitespace);
        let reach = &mut asked.reach;
        match self {
            // These are read line by line: see `super::bulk` and `super::several`.
            Self::None | Self::Opaque | Self::Bulk | Self::Msearch => Ok(()),
            Self::Mget => mget(&object(body)?, place.named, reach),
            Self::ManyVectors => actions::many_vectors(&object(body)?, place.named, reach),
            Self::Reindex => {
                let body = object(body)?;
                // The login of another cluster.
                asked.is_secret = actions::has_remote(&body);
                actions::reindex(&body, reach)
            }
            Self::Eql => eql(&object(body)?, asked),
            Self::Esql => esql::body(&object(body)?, asked),
            _ if empty => Ok(()),
            Self::Aliases => actions::aliases(&object(body)?, reach),
            Self::Alias => actions::alias(&object(body)?, reach),
            Self::Vectors => actions::vectors(&object(body)?, place.named, reach),
            Self::RankEval => actions::rank_eval(&object(body)?, place.named, reach),
            Self::Analyze => {
                actions::analyze(&object(body)?, reach);
                Ok(())
            }
            Self::Everything => {
                reach.everything("something in the body that the proxy does not look at");
                actions::unsealed(&Json::Object(object(body)?))
            }
            Self::Template => {
                reach.everything("a template");
                let body = object(body)?;
                template(&body)?;
                actions::unsealed(&Json::Object(body))
            }
            Self::Rollover => rollover(object(body)?, reach),
            Self::Search => search(object(body)?, asked),
            Self::Scroll => scroll(&object(body)?, asked),
            Self::Close => close(&object(body)?, asked),
            Self::Query => query::only_query(&object(body)?, reach),
            Self::FieldCaps => field_caps(&object(body)?, reach),
            Self::Create => create(&object(body)?, reach),
            Self::Mapping => {
                mapping(&object(body)?, reach);
                Ok(())
            }
            Self::Settings => {
                settings(&object(body)?, reach);
                Ok(())
            }
        }
    }
}

/// A search; one in a point in time touches what that was opened for, and names nothing itself.
fn search(mut body: Members, asked: &mut Asked) -> Result<(), Wrong> {
    let Some(pit) = body.remove("pit") else { return query::search(&body, &mut asked.reach) };
    let pit = pit.object().ok_or(Wrong::Bad("pit must be an object"))?;
    if pit.keys().any(|name| !["id", "keep_alive"].contains(&name.as_ref())) {
        return Err(Wrong::Bad("pit says something that the proxy does not know"));
    }
    let id = pit.get("id").filter(|id| id.text().is_some()).ok_or(Wrong::Bad("pit must have an id"))?;
    if !matches!(asked.places.as_slice(), [place] if matches!(place.at, At::Missing(_))) {
        return Err(Wrong::Bad("a search in a point in time names no index"));
    }
    asked.forget_places();
    asked.ids.push(ids::of_member("pit", id)?);
    let keep = pit.get("keep_alive").map(|keep| keep.text().ok_or(Wrong::Bad("keep_alive must be a text")));
    let keep = keep.transpose()?.map(ids::keep).transpose()?;
    if asked.gives.is_some() {
        return Err(Wrong::Bad("a search in a point in time cannot be scrolled"));
    }
    asked.gives = Some(Gives { kind: None, member: "pit_id", keep });
    query::search(&body, &mut asked.reach)
}

fn scroll(body: &Members, asked: &mut Asked) -> Result<(), Wrong> {
    for (name, value) in body {
        match (name.as_ref(), value) {
            ("scroll", Json::Text(text)) => {
                let keep = Some(ids::keep(text)?);
                asked.gives = asked.gives.map(|gives| Gives { keep, ..gives });
            }
            ("scroll_id", Json::Text(_)) => asked.ids.push(ids::of_member("scroll_id", value)?),
            _ => return Err(Wrong::Bad("the body must have scroll and scroll_id, and nothing else")),
        }
    }
    Ok(())
}

fn close(body: &Members, asked: &mut Asked) -> Result<(), Wrong> {
    for (name, value) in body {
        let member = ["scroll_id", "pit_id", "id"].into_iter().find(|known| known == name);
        let member = member.ok_or(Wrong::Bad("the body must have ids, and nothing else"))?;
        asked.ids.push(ids::of_member(member, value)?);
    }
    Ok(())
}

/// An EQL search: its text names categories of events and their fields, and no index; those are in the path alone.
///
/// <https://www.elastic.co/docs/api/doc/elasticsearch/operation/operation-eql-search>
fn eql(body: &Members, asked: &mut Asked) -> Result<(), Wrong> {
    if body.get("query").and_then(Json::text).is_none() {
        return Err(Wrong::Bad("query must be a text"));
    }
    for (name, value) in body {
        match (name.as_ref(), value) {
            ("query", _) => {}
            ("filter", filter) => query::clause(filter, &mut asked.reach)?,
            ("fields", fields) => query::plain(fields, &mut asked.reach),
            ("keep_alive", Json::Text(keep)) => {
                // Of two the one in the URL is what counts there.
                let keep = Some(ids::keep(keep)?);
                asked.gives = asked.gives.map(|gives| Gives { keep: gives.keep.max(keep), ..gives });
            }
            (
                "allow_partial_search_results"
                | "allow_partial_sequence_results"
                | "case_sensitive"
                | "event_category_field"
                | "fetch_size"
                | "keep_on_completion"
                | "max_samples_per_key"
                | "result_position"
                | "size"
                | "tiebreaker_field"
                | "timestamp_field"
                | "wait_for_completion_timeout",
                value,
            ) => query::scalar(value, &mut asked.reach),
            // Fields that are made while it is searched hold scripts, or look into another index.
            _ => asked.reach.everything("something in the body that the proxy does not know"),
        }
    }
    Ok(())
}

pub(super) fn object(body: &[u8]) -> Result<Members<'_>, Wrong> {
    if body.len() > limits::HTTP_QUERY_BYTES_MAX {
        return Err(Wrong::Bad("the body, or one line of it, is longer than what the proxy reads for names"));
    }
    match Json::parse(body).map_err(Wrong::Bad)? {
        Json::Object(members) => Ok(members),
        _ => Err(Wrong::Bad("the body must be a JSON object")),
    }
}

/// A text or a list of texts; none at all is all indices.
pub(super) fn indices(index: Option<&Json>, reach: &mut Reach) -> Result<(), Wrong> {
    match index {
        Some(Json::Text(text)) => names::expression(text, reach),
        Some(Json::List(list)) if !list.is_empty() => list.iter().try_for_each(|name| {
            let text = name.text().ok_or(Wrong::Bad("indices must be a text or a list of texts"))?;
            names::expression(text, reach)
        }),
        Some(Json::List(_)) | None => {
            reach.everything("what names no index");
            Ok(())
        }
        Some(_) => Err(Wrong::Bad("indices must be a text or a list of texts")),
    }
}

/// The index of one document: not a list.
pub(super) fn one_index(index: Option<&Json>, named: bool, reach: &mut Reach) -> Result<(), Wrong> {
    match (index, named) {
        (Some(Json::Text(name)), _) => names::name(name, reach),
        (Some(_), _) => Err(Wrong::Bad("_index must be a text")),
        // Counted already.
        (None, true) => Ok(()),
        (None, false) => Err(Wrong::Bad("neither the path nor the body names an index")),
    }
}

/// What a document of `_mget` may say besides `_index`.
const WANTED: [&str; 7] =
    ["_id", "routing", "stored_fields", "_source", "version", "version_type", "preference"];

fn mget(body: &Members, named: bool, reach: &mut Reach) -> Result<(), Wrong> {
    for (name, value) in body {
        match (name.as_ref(), value) {
            ("ids", Json::List(_)) if named => {}
            ("docs", Json::List(documents)) => {
                for document in documents {
                    let document = document.object().ok_or(Wrong::Bad("docs must be objects"))?;
                    let strange = |name: &str| name != "_index" && !WANTED.contains(&name);
                    if document.keys().any(|name| strange(name)) {
                        return Err(Wrong::Bad("docs say something that the proxy does not know"));
                    }
                    one_index(document.get("_index"), named, reach)?;
                }
            }
            _ => return Err(Wrong::Bad("the body must have docs, or ids where the path names an index")),
        }
    }
    Ok(())
}

fn field_caps(body: &Members, reach: &mut Reach) -> Result<(), Wrong> {
    for (name, value) in body {
        match name.as_ref() {
            "fields" | "field" | "string" | "size" | "timeout" | "case_insensitive" | "search_after" => {}
            "index_filter" => query::clause(value, reach)?,
            _ => reach.everything("something in the body that the proxy does not know"),
        }
    }
    Ok(())
}

fn create(body: &Members, reach: &mut Reach) -> Result<(), Wrong> {
    for (name, value) in body {
        match (name.as_ref(), value) {
            ("settings", Json::Object(members)) => settings(members, reach),
            ("mappings", Json::Object(members)) => mapping(members, reach),
            ("aliases", Json::Object(aliases)) => {
                for (alias, rules) in aliases {
                    names::name(alias, reach)?;
                    let rules = rules.object().ok_or(Wrong::Bad("an alias must be an object"))?;
                    actions::alias(rules, reach)?;
                }
            }
            _ => reach.everything("something in the body that the proxy does not know"),
        }
    }
    Ok(())
}

/// A pattern that is not for everything there is must not be one for the cluster's accounts.
fn template(body: &Members) -> Result<(), Wrong> {
    let patterns = ["index_patterns", "template"].into_iter().filter_map(|name| body.get(name));
    let texts = patterns.flat_map(|value| match value {
        Json::List(list) => list.iter().filter_map(Json::text).collect(),
        value => value.text().into_iter().collect::<Vec<_>>(),
    });
    texts.flat_map(|text| text.split(',')).try_for_each(names::unmatched)
}

/// What is to hold before it happens, and what the new index is.
fn rollover(mut body: Members, reach: &mut Reach) -> Result<(), Wrong> {
    body.remove("conditions");
    create(&body, reach)
}

/// A lookup field reads another index; runtime fields and their templates may be such.
fn mapping(members: &Members, reach: &mut Reach) {
    const KNOWN: [&str; 8] = [
        "properties",
        "dynamic",
        "_source",
        "_meta",
        "_routing",
        "date_detection",
        "numeric_detection",
        "dynamic_date_formats",
    ];
    if members.keys().any(|name| !KNOWN.contains(&name.as_ref())) {
        reach.everything("something in the mapping that the proxy does not know");
    }
    let known = |name: &str, value: &Json| match (name, value) {
        ("type", Json::Text(kind)) => FIELDS.contains(&kind.as_ref()),
        ("runtime" | "target_index", _) => false,
        _ => true,
    };
    if !members.values().all(|value| everywhere(value, &known)) {
        reach.everything("a field that may look further than its index");
    }
}

/// Kinds of fields that hold what a document says. Others run queries (percolator), look into other indices (lookup) or
/// ask a model.
const FIELDS: [&str; 40] = [
    "text",
    "match_only_text",
    "keyword",
    "constant_keyword",
    "wildcard",
    "long",
    "integer",
    "short",
    "byte",
    "double",
    "float",
    "half_float",
    "scaled_float",
    "unsigned_long",
    "date",
    "date_nanos",
    "boolean",
    "binary",
    "ip",
    "integer_range",
    "float_range",
    "long_range",
    "double_range",
    "date_range",
    "ip_range",
    "object",
    "nested",
    "flattened",
    "flat_object",
    "join",
    "geo_point",
    "geo_shape",
    "point",
    "shape",
    "completion",
    "search_as_you_type",
    "token_count",
    "rank_feature",
    "rank_features",
    "dense_vector",
];

/// Whether it holds for every member of every object in there.
fn everywhere(value: &Json, holds: &dyn Fn(&str, &Json) -> bool) -> bool {
    match value {
        Json::Object(members) => {
            members.iter().all(|(name, value)| holds(name, value) && everywhere(value, holds))
        }
        Json::List(list) => list.iter().all(|value| everywhere(value, holds)),
        _ => true,
    }
}

/// Not words from files of the server or from sets that it keeps.
pub(super) fn plain_words(value: &Json) -> bool {
    everywhere(value, &|name, _| {
        let elsewhere = ["user_dictionary", "rule_files", "script"].contains(&name);
        !elsewhere && !name.ends_with("_path") && !name.contains("_set")
    })
}

/// Settings that concern the index alone: pipelines and policies, for example, reach further.
fn settings(members: &Members, reach: &mut Reach) {
    for (name, value) in members {
        let short = name.strip_prefix("index.").unwrap_or(name);
        match (short, value) {
            ("index", Json::Object(inner)) => settings(inner, reach),
            (
                "number_of_shards"
                | "number_of_replicas"
                | "refresh_interval"
                | "max_result_window"
                | "auto_expand_replicas",
                Json::Text(_) | Json::Other,
            ) => {}
            ("analysis", value) if plain_words(value) => {}
            _ => reach.everything("a setting that reaches further than the index"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::bulk::Bulk;
    use super::super::several::Several;
    use super::*;
    use crate::model::AccessLevel;

    fn of(kind: Kind, body: &str, path: Option<&str>) -> Result<Reach, Wrong> {
        let mut asked = Asked::new(AccessLevel::Read);
        let place = Place { named: path.is_some(), expand: Expand::OPEN };
        match kind {
            Kind::Bulk => return bulk(body, path.map(str::to_owned)),
            Kind::Msearch => {
                return Several::new(asked, place).whole(body.as_bytes()).map(|asked| asked.touch().reach);
            }
            _ => {}
        }
        kind.walk(body.as_bytes(), place, &mut asked).map(|()| asked.touch().reach)
    }

    /// However it is cut, it reads the same.
    fn bulk(body: &str, path: Option<String>) -> Result<Reach, Wrong> {
        let of = |size: usize| {
            let mut bulk = Bulk::new(Asked::new(AccessLevel::Read), path.clone());
            body.as_bytes().chunks(size).try_for_each(|piece| bulk.push(piece))?;
            bulk.finish().map(|asked| asked.touch().reach)
        };
        let whole = of(body.len().max(1));
        for size in [1, 3] {
            assert_eq!(of(size), whole, "{body:?}");
        }
        whole
    }

    fn names(kind: Kind, body: &str, path: Option<&str>) -> Vec<String> {
        match of(kind, body, path) {
            Ok(Reach::Names(names)) => names.into_iter().collect(),
            other => panic!("{body}: {other:?}"),
        }
    }

    #[test]
    fn a_bulk_names_the_index_of_each_action() {
        let body = "{\"index\":{\"_index\":\"a\",\"_id\":\"1\"}}\n{\"delete\":{\"_index\":\"secret\"}}\n\
                    {\"\\u0063reate\":{\"_ind\\u0065x\":\"b\"}}\n{\"x\":{\"_index\":\"no\"}}\n\
                    {\"delete\":{\"_index\":\"c\",\"_id\":\"1\"}}\n{\"update\":{}}\n{\"doc\":{}}\n";
        assert_eq!(names(Kind::Bulk, body, Some("d")), ["a", "b", "c"]);
        assert!(of(Kind::Bulk, body, None).is_err(), "one action names none");
        let pipeline = "{\"index\":{\"_index\":\"a\",\"pipeline\":\"p\"}}\n{}\n";
        assert_eq!(of(Kind::Bulk, pipeline, None), Ok(Reach::Everything("a pipeline")));
        let star = "{\"index\":{\"_index\":\"*\"}}\n{}\n";
        assert_eq!(of(Kind::Bulk, star, None), Ok(Reach::Everything("a wildcard")));
    }

    #[test]
    fn a_bulk_that_is_not_plain_is_refused() {
        for bad in [
            "",
            "\n",
            "{\"index\":{\"_index\":\"a\"}}\n{}",
            "{\"index\":{\"_index\":\"a\"}}\n",
            "{\"index\":{\"_index\":\"a\"}}\r\n{}\r\n",
            "{\"index\":{\"_index\":\"a\"}}\n\n{}\n",
            "{\"index\":{\"_index\":\"a\"}}\n{}\n\n",
            "{\"index\":{\"_index\":\"a\",\"_index\":\"b\"}}\n{}\n",
            "{\"index\":{\"_index\":\"a\"},\"delete\":{\"_index\":\"b\"}}\n{}\n",
            "{\"index\":{\"_index\":[\"a\"]}}\n{}\n",
            "{\"index\":{\"_index\":\"a,b\"}}\n{}\n",
            "{\"index\":{\"_index\":\"a\",\"_type\":\"b\"}}\n{}\n",
            "{\"index\":\"a\"}\n{}\n",
            "{\"reindex\":{\"_index\":\"a\"}}\n{}\n",
            "{\"index\":{\"_index\":\"a\"}} {\"delete\":{\"_index\":\"b\"}}\n{}\n",
            "{\"index\":{\"_index\":\"a\"}}\n\"text\"\n",
            "[]\n",
            "\u{feff}{\"index\":{\"_index\":\"a\"}}\n{}\n",
        ] {
            assert!(of(Kind::Bulk, bad, Some("x")).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_msearch_names_the_indices_of_each_head_and_of_each_search() {
        let body = "{\"index\":\"a,b\"}\n{}\n{}\n{\"query\":{\"terms\":{\"f\":{\"index\":\"c\",\"id\":\"1\",\"path\":\"p\"}}}}\n\
                    {\"index\":[\"d\",\"e\"],\"preference\":\"x\"}\n{\"size\":1}\n";
        assert_eq!(names(Kind::Msearch, body, Some("path")), ["a", "b", "c", "d", "e"]);
        assert!(matches!(of(Kind::Msearch, body, None), Ok(Reach::Everything(_))));
        for bad in [
            "",
            "\n{}\n",
            "{\"indices\":\"a\"}\n{}\n",
            "{\"index\":\"a\"}\n",
            "{\"index\":{}}\n{}\n",
            "{}\n\n",
            "{}\n{}",
            "{}\r\n{}\n",
        ] {
            assert!(of(Kind::Msearch, bad, Some("x")).is_err(), "{bad:?}");
        }
        let many = of(Kind::Msearch, "{\"index\":[]}\n{}\n", Some("x"));
        assert!(matches!(many, Ok(Reach::Everything(_))));
    }

    #[test]
    fn a_template_is_none_for_the_clusters_accounts() {
        for body in [
            r#"{"index_patterns":[".security-9"]}"#,
            r#"{"index_patterns":["logs-*",".sec*"]}"#,
            r#"{"index_patterns":"*ecurity-7"}"#,
            r#"{"index_patterns":["*-7"]}"#,
            r#"{"template":"logs-*,.s*y-*"}"#,
            r#"{"index_patterns":["*opendistro*"]}"#,
            r#"{"index_patterns":["logs-*"],"template":{"aliases":{".security":{}}}}"#,
            r#"{"index_patterns":["logs-*"],"aliases":{"a":{"filter":{"term":{"x":".security-7"}}}}}"#,
        ] {
            assert!(matches!(of(Kind::Template, body, None), Err(Wrong::Denied(_))), "{body}");
        }
        for body in [
            r#"{"index_patterns":["*"]}"#,
            r#"{"index_patterns":["logs-*",".mine-*"],"template":{"aliases":{"a":{}}}}"#,
        ] {
            assert!(matches!(of(Kind::Template, body, None), Ok(Reach::Everything(_))), "{body}");
        }
    }

    #[test]
    fn an_mget_names_the_index_of_each_document() {
        let body = r#"{"docs":[{"_index":"a","_id":"1"},{"_id":"2"}]}"#;
        assert_eq!(names(Kind::Mget, body, Some("x")), ["a"]);
        assert!(of(Kind::Mget, body, None).is_err());
        assert_eq!(names(Kind::Mget, r#"{"ids":["1"]}"#, Some("x")), Vec::<String>::new());
        for bad in
            [r#"{"ids":["1"]}"#, r#"{"docs":[{"_index":["a"]}]}"#, r#"{"docs":[{"index":"a"}]}"#, "[]", ""]
        {
            assert!(of(Kind::Mget, bad, None).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_index_is_made_of_what_stays_in_it() {
        let body = r#"{"settings":{"index":{"number_of_shards":1},"index.refresh_interval":"1s"},
                       "mappings":{"properties":{"a":{"type":"keyword"}}},"aliases":{"b":{}}}"#;
        assert_eq!(names(Kind::Create, body, None), ["b"]);
        assert_eq!(names(Kind::Create, "", None), Vec::<String>::new());
        for more in [
            r#"{"settings":{"index.default_pipeline":"p"}}"#,
            r#"{"settings":{"index":{"final_pipeline":"p"}}}"#,
            r#"{"mappings":{"runtime":{"a":{"type":"lookup","target_index":"secret"}}}}"#,
            r#"{"mappings":{"dynamic_templates":[]}}"#,
            r#"{"mappings":{"properties":{"a":{"properties":{"q":{"type":"percolator"}}}}}}"#,
            r#"{"settings":{"analysis":{"filter":{"s":{"type":"synonym","synonyms_path":"/etc/passwd"}}}}}"#,
            r#"{"settings":{"analysis":{"filter":{"s":{"type":"synonym","synonyms_set":"x"}}}}}"#,
            r#"{"settings":{"analysis":{"tokenizer":{"s":{"type":"nori_tokenizer","user_dictionary":"x"}}}}}"#,
            r#"{"settings":{"analysis":{"filter":{"s":{"type":"condition","script":{"id":"x"}}}}}}"#,
            r#"{"aliases":{"b":{"filter":{"script":{"script":"x"}}}}}"#,
            r#"{"aliases":{"b":{"other":1}}}"#,
            r#"{"other":1}"#,
        ] {
            assert!(matches!(of(Kind::Create, more, None), Ok(Reach::Everything(_))), "{more}");
        }
        assert!(matches!(of(Kind::Mapping, r#"{"runtime":{}}"#, None), Ok(Reach::Everything(_))));
        assert!(matches!(of(Kind::Settings, r#"{"lifecycle.name":"x"}"#, None), Ok(Reach::Everything(_))));
        assert!(of(Kind::Settings, r#"{"a":1,"a":2}"#, None).is_err());
    }
}
