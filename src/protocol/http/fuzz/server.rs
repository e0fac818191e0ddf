//! What a server would touch for a request, read slowly and leniently: no grammar says where a name may stand, but
//! each place in which servers take one is looked for wherever it is, and what is said twice counts twice. What is not
//! known to name anything touches everything.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::languages;
use crate::model::pattern;

/// In the place of a name: all that there is, and more.
const EVERYTHING: &str = "(everything)";
/// Each name of the cluster, and the indices that it stands for.
const STANDS_FOR: [(&str, &[&str]); 14] = [
    ("granted-1", &["granted-1"]),
    ("granted-2", &["granted-2"]),
    ("secret", &["secret"]),
    ("other", &["other"]),
    (".hidden", &[".hidden"]),
    ("put-into", &["put-into"]),
    ("granted-own", &[".ds-granted-own-000001"]),
    ("granted-ds", &[".ds-granted-ds-000001", "put-into"]),
    ("granted-all", &["granted-1", "granted-2"]),
    ("granted-mixed", &["granted-1", "secret"]),
    ("granted-veiled", &["secret"]),
    ("granted-stream", &[".ds-granted-own-000001"]),
    ("mine", &["granted-2"]),
    ("theirs", &["secret"]),
];

pub(super) type Names = BTreeSet<String>;

/// Whether somebody with `granted-*` and `mine` may reach this index. What is not there is what it is called.
pub(super) fn is_granted(name: &str) -> bool {
    name.starts_with("granted-") || name == ".ds-granted-own-000001"
}

/// A target as servers take it apart: each part decoded once.
pub(super) fn split(target: &str) -> (Vec<String>, Vec<(String, String)>) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let segments = path.split('/').filter(|part| !part.is_empty()).map(|part| decoded(part, false)).collect();
    let pairs = query.split('&').filter(|part| !part.is_empty());
    let pair = |part: &str| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (decoded(name, true), decoded(value, true))
    };
    (segments, pairs.map(pair).collect())
}

fn decoded(text: &str, plus_is_space: bool) -> String {
    let mut parts = text.split('%');
    let plain = |part: &str| match plus_is_space {
        true => part.replace('+', " "),
        false => part.to_owned(),
    };
    let mut bytes = plain(parts.next().unwrap_or_default()).into_bytes();
    for part in parts {
        match part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend(plain(part.get(2..).unwrap_or_default()).into_bytes());
            }
            None => bytes.extend(format!("%{part}").into_bytes()),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The vhost that a request of RabbitMQ's is about.
pub(super) fn vhost(target: &str) -> Option<String> {
    const THIRD: [&str; 15] = [
        "vhosts",
        "queues",
        "exchanges",
        "bindings",
        "consumers",
        "policies",
        "operator-policies",
        "vhost-limits",
        "aliveness-test",
        "definitions",
        "permissions",
        "topic-permissions",
        "federation-links",
        "shovels",
        "parameters",
    ];
    let (segments, _) = split(target);
    let kind = segments.get(1).filter(|_| segments.first().is_some_and(|first| first == "api"))?;
    // All of them, of which what is covered is shown.
    if kind == "queues" && segments.get(2).is_some_and(|word| word == "detailed") && segments.len() == 3 {
        return None;
    }
    let place = THIRD.contains(&kind.as_str()).then_some(if kind == "parameters" { 3 } else { 2 })?;
    segments.get(place).cloned()
}

/// The indices that a server would touch.
pub(super) fn touched(method: &str, target: &str, body: &[u8]) -> Names {
    let (segments, query) = split(target);
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let mut names = Names::new();
    // These say elsewhere what is to be done, or where.
    let elsewhere = ["source", "source_content_type", "index", "pipeline", "scroll_id"];
    if query.iter().any(|(name, _)| elsewhere.contains(&name.as_str())) {
        names.insert(EVERYTHING.into());
    }
    let help = query.iter().any(|(name, value)| name == "help" && matches!(value.as_str(), "" | "true"));
    let path = in_path(method, &segments, help);
    names.extend(in_body(&segments, body, &path));
    names.extend(path);
    names.iter().flat_map(|name| resolved(name)).collect()
}

/// An expression stands for these.
fn resolved(text: &str) -> Names {
    // What is sent where nothing is left: for indices, and for aliases.
    if matches!(text, "*,-*" | "\"") {
        return Names::new();
    }
    let mut found = Names::new();
    for name in text.split(',') {
        let behind = STANDS_FOR.iter().find(|(known, _)| *known == name);
        match (behind, name) {
            (Some((_, indices)), _) => found.extend(indices.iter().map(|index| (*index).to_owned())),
            // A date, another cluster, or what only one server knows.
            (None, name) if matches!(name, "" | "_all") || name.contains(['<', '>', ':', '{', '%']) => {
                found.insert(EVERYTHING.into());
            }
            (None, name) if name.contains('*') => {
                let fits = STANDS_FOR.iter().filter(|(known, _)| pattern::matches(name, known));
                found.extend(fits.flat_map(|(_, indices)| *indices).map(|index| (*index).to_owned()));
            }
            // It may be made by this, and be called so.
            (None, name) => {
                found.insert(name.to_owned());
            }
        }
    }
    found
}

/// What the path names; nothing that names is everything.
fn in_path(method: &str, segments: &[&str], help: bool) -> Names {
    let changes = ["PUT", "POST", "DELETE"].contains(&method);
    let names: &[&str] = match segments {
        [] => &[],
        ["_bulk" | "_mget" | "_msearch" | "_mtermvectors" | "_reindex" | "_aliases"] => &[],
        ["_query"] | ["_query", "async"] => &[],
        ["_cat", _] if help => &[],
        ["_cat", "indices" | "shards" | "segments" | "recovery" | "count" | "aliases", name] => &[*name],
        ["_cat", "segment_replication", name] => &[*name],
        ["_cluster", "health", name] | ["_resolve", "index", name] | ["_alias", name] => &[*name],
        ["_data_stream", name] | ["_data_stream", name, "_stats"] => &[*name],
        [first, ..] if first.starts_with('_') && *first != "_all" => &[EVERYTHING],
        [name, "_alias" | "_aliases", target] if changes => &[*name, *target],
        [name, "_clone" | "_shrink" | "_split" | "_rollover", target] => &[*name, *target],
        [_, "_rollover"] | [_, "_search" | "_msearch", "template"] => &[EVERYTHING],
        [name, ..] => &[*name],
    };
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// What the body names. `path`: what stands in where it says nothing.
fn in_body(segments: &[&str], body: &[u8], path: &Names) -> Names {
    let default: Vec<&str> = path.iter().map(String::as_str).collect();
    let route = match segments {
        [first, ..] if first.starts_with('_') && *first != "_all" => *first,
        [_, word, ..] => *word,
        _ => "",
    };
    match (route, segments) {
        // A document is what it is.
        ("_doc" | "_create" | "_update" | "_source", [_, _, ..]) => return Names::new(),
        ("_bulk", _) => return bulk_names(body, &default),
        ("_msearch", _) => return many_searches(body, &default),
        _ => {}
    }
    let Ok(body) = serde_json::from_slice::<Value>(body) else {
        let empty = body.iter().all(u8::is_ascii_whitespace);
        return if empty { Names::new() } else { Names::from([EVERYTHING.to_owned()]) };
    };
    let mut names = Names::new();
    let Value::Object(members) = &body else { return Names::from([EVERYTHING.to_owned()]) };
    texts(members, &["index", "_index", "indices"], &mut names);
    match route {
        "_search" | "_count" | "_explain" | "_validate" | "_field_caps" | "_terms_enum" | "_async_search"
        | "_delete_by_query" | "_update_by_query" => search(&body, &mut names),
        "_eql" | "_query" => language(route, members, &mut names),
        "_rank_eval" => rated(members, &mut names),
        "_mget" => documents(members, &default, &mut names),
        "_termvectors" => {}
        "_mtermvectors" => {
            documents(members, &default, &mut names);
            if let Some(Value::Object(all)) = members.get("parameters") {
                texts(all, &["_index", "index"], &mut names);
            }
        }
        "_reindex" => copied(members, &mut names),
        "_alias" | "_aliases" => actions(members, &mut names),
        "_analyze" => {}
        "_mapping" | "_mappings" => lookups(&body, &mut names),
        "_settings" => {}
        "" | "_clone" | "_shrink" | "_split" | "_rollover" => created(members, &mut names),
        _ if members.is_empty() => {}
        _ => {
            names.insert(EVERYTHING.into());
        }
    }
    names
}

/// A query in a language, and one beside it.
fn language(route: &str, members: &Map<String, Value>, names: &mut Names) {
    let further = ["runtime_mappings", "tables", "pragma", "project_routing", "settings"];
    if further.iter().any(|name| members.contains_key(*name)) {
        names.insert(EVERYTHING.into());
    }
    if let Some(filter) = members.get("filter") {
        search(filter, names);
    }
    if let (Some(Value::String(text)), "_query") = (members.get("query"), route) {
        languages::esql(text, EVERYTHING, names);
    }
}

/// The texts under these names, and those in lists there.
fn texts(members: &Map<String, Value>, known: &[&str], names: &mut Names) {
    for value in known.iter().filter_map(|name| members.get(*name)) {
        match value {
            Value::String(text) => names.extend([text.clone()]),
            Value::Array(list) => {
                let texts: Vec<_> = list.iter().filter_map(Value::as_str).collect();
                names.extend(if texts == ["*", "-*"] { None } else { Some(texts.join(",")) });
            }
            _ => {}
        }
    }
}

fn objects(value: Option<&Value>) -> impl Iterator<Item = &Map<String, Value>> {
    let list = match value {
        Some(Value::Array(list)) => list.as_slice(),
        Some(one) => std::slice::from_ref(one),
        None => &[],
    };
    list.iter().filter_map(Value::as_object)
}

fn documents(members: &Map<String, Value>, default: &[&str], names: &mut Names) {
    for document in objects(members.get("docs")) {
        let before = names.len();
        texts(document, &["_index", "index"], names);
        let says = document.contains_key("_index") || names.len() > before;
        if !says && default.is_empty() {
            names.insert(EVERYTHING.into());
        }
    }
    if members.contains_key("ids") && default.is_empty() {
        names.insert(EVERYTHING.into());
    }
}

fn copied(members: &Map<String, Value>, names: &mut Names) {
    for place in ["source", "dest"] {
        for part in objects(members.get(place)) {
            texts(part, &["index", "_index"], names);
            if !part.contains_key("index") || part.contains_key("remote") || part.contains_key("pipeline") {
                names.insert(EVERYTHING.into());
            }
            part.get("query").into_iter().for_each(|query| scan(query, &mut vec!["query"], names));
        }
    }
    if members.contains_key("script") {
        names.insert(EVERYTHING.into());
    }
}

fn actions(members: &Map<String, Value>, names: &mut Names) {
    let rules =
        objects(members.get("actions")).flat_map(|action| action.values()).filter_map(Value::as_object);
    for rules in rules.chain([members]) {
        texts(rules, &["index", "indices", "alias", "aliases"], names);
        rules.get("filter").into_iter().for_each(|filter| scan(filter, &mut vec!["filter"], names));
    }
}

fn created(members: &Map<String, Value>, names: &mut Names) {
    for (alias, rules) in objects(members.get("aliases")).flatten() {
        names.insert(alias.clone());
        let filter = rules.get("filter");
        filter.into_iter().for_each(|filter| scan(filter, &mut vec!["filter"], names));
    }
    members.get("mappings").into_iter().for_each(|mappings| lookups(mappings, names));
}

/// Fields that look up what others say.
fn lookups(value: &Value, names: &mut Names) {
    match value {
        Value::Object(members) => {
            texts(members, &["target_index"], names);
            members.values().for_each(|value| lookups(value, names));
        }
        Value::Array(list) => list.iter().for_each(|value| lookups(value, names)),
        _ => {}
    }
}

fn rated(members: &Map<String, Value>, names: &mut Names) {
    for request in objects(members.get("requests")) {
        request.get("request").into_iter().for_each(|body| search(body, names));
        for rating in objects(request.get("ratings")) {
            texts(rating, &["_index"], names);
        }
        if request.contains_key("template_id") {
            names.insert(EVERYTHING.into());
        }
    }
}

fn search(body: &Value, names: &mut Names) {
    if let Value::Object(members) = body {
        texts(members, &["index", "indices"], names);
        let elsewhere = ["indices_boost", "runtime_mappings", "suggest", "retriever", "pit", "ext", "slice"];
        if elsewhere.iter().any(|name| members.contains_key(*name)) {
            names.insert(EVERYTHING.into());
        }
    }
    scan(body, &mut Vec::new(), names);
}

/// Lines of `_bulk`: what each action names, wherever it says that.
pub(super) fn bulk_names(body: &[u8], default: &[&str]) -> Names {
    let mut names = Names::new();
    let mut lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    while let Some(line) = lines.next() {
        let Ok(Value::Object(action)) = serde_json::from_slice(line) else { break };
        for meta in action.values() {
            names.extend(default.iter().map(|name| (*name).to_owned()));
            let before = names.len();
            if let Value::Object(meta) = meta {
                texts(meta, &["_index", "index"], &mut names);
                if !meta.contains_key("_index") && default.is_empty() && names.len() == before {
                    names.insert(EVERYTHING.into());
                }
                if meta.contains_key("pipeline") {
                    names.insert(EVERYTHING.into());
                }
            }
        }
        if !action.contains_key("delete") {
            lines.next();
        }
    }
    names
}

fn many_searches(body: &[u8], default: &[&str]) -> Names {
    let mut names = Names::new();
    let mut lines = body.split(|byte| *byte == b'\n');
    while let Some(line) = lines.next() {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match serde_json::from_slice(line) {
            Ok(Value::Object(head)) => {
                texts(&head, &["index", "indices", "_index"], &mut names);
                let says = head.get("index").is_some_and(|index| index != &Value::Array(Vec::new()));
                if !says && default.is_empty() {
                    names.insert(EVERYTHING.into());
                }
            }
            _ => names.extend([EVERYTHING.to_owned()]),
        }
        let body = lines.next().and_then(|line| serde_json::from_slice::<Value>(line).ok());
        body.iter().for_each(|body| search(body, &mut names));
    }
    names
}

/// Members under which one query stands, or several in a list.
const HOLDERS: [&str; 14] = [
    "query",
    "post_filter",
    "filter",
    "must",
    "must_not",
    "mustNot",
    "should",
    "queries",
    "positive",
    "negative",
    "organic",
    "rescore_query",
    "highlight_query",
    "index_filter",
];
/// Queries in which there are fields and values alone.
const VALUES: [&str; 25] = [
    "match_all",
    "match_none",
    "match",
    "match_phrase",
    "match_phrase_prefix",
    "match_bool_prefix",
    "multi_match",
    "combined_fields",
    "query_string",
    "simple_query_string",
    "term",
    "range",
    "exists",
    "prefix",
    "wildcard",
    "regexp",
    "fuzzy",
    "ids",
    "geo_distance",
    "geo_bounding_box",
    "geo_polygon",
    "rank_feature",
    "distance_feature",
    "parent_id",
    "span_term",
];
const AGGREGATIONS: [&str; 2] = ["aggs", "aggregations"];
/// Aggregations that may hold queries.
const FILTERING: [&str; 8] = [
    "filter",
    "filters",
    "adjacency_matrix",
    "top_hits",
    "significant_terms",
    "significant_text",
    "aggs",
    "aggregations",
];

/// The key that is so many above the last one.
fn above<'a>(chain: &[&'a str], count: usize) -> &'a str {
    chain.len().checked_sub(count + 1).and_then(|place| chain.get(place)).copied().unwrap_or_default()
}

/// Whether an object under these keys says which document of which index is looked up.
fn is_lookup(chain: &[&str]) -> bool {
    let terms = above(chain, 1) == "terms"
        && !AGGREGATIONS.contains(&above(chain, 2))
        && !AGGREGATIONS.contains(&above(chain, 3));
    terms || ["indexed_shape", "like", "unlike", "docs", "percolate"].contains(&above(chain, 0))
}

/// Whether what is below this is a value to every server, or is refused by each.
fn is_value(chain: &[&str]) -> bool {
    const ANYWHERE: [&str; 16] = [
        "_source",
        "fields",
        "docvalue_fields",
        "stored_fields",
        "search_after",
        "gauss",
        "linear",
        "exp",
        "field_value_factor",
        "random_score",
        "doc",
        "document",
        "documents",
        "ids",
        "window_size",
        "meta",
    ];
    // What a search says of itself.
    const SEARCH: [&str; 11] = [
        "size",
        "from",
        "track_total_hits",
        "track_scores",
        "min_score",
        "timeout",
        "terminate_after",
        "explain",
        "version",
        "profile",
        "stats",
    ];
    let (last, parent) = (above(chain, 0), above(chain, 1));
    let is_query = HOLDERS.contains(&parent) || above(chain, 2) == "filters";
    let of_aggregation = AGGREGATIONS.contains(&above(chain, 2)) && !FILTERING.contains(&last);
    let of_shape = last == "shape" && ["geo_shape", "shape"].contains(&above(chain, 2));
    ANYWHERE.contains(&last)
        || (chain.len() == 1 || ["inner_hits", "top_hits", "request"].contains(&parent))
            && SEARCH.contains(&last)
        || is_query && VALUES.contains(&last)
        || of_aggregation
        || of_shape
        || parent == "knn" && last != "filter"
        || parent == "inner_hits" && ["name", "ignore_unmapped"].contains(&last)
        || ["like", "unlike", "docs"].contains(&parent) && ["_id", "routing", "_routing"].contains(&last)
}

/// Looks for lookups everywhere.
fn scan<'a>(value: &'a Value, chain: &mut Vec<&'a str>, names: &mut Names) {
    match value {
        Value::Array(list) => list.iter().for_each(|value| scan(value, chain, names)),
        Value::Object(members) => {
            if is_lookup(chain) {
                texts(members, &["index", "_index"], names);
                if above(chain, 0) == "indexed_shape" && !members.contains_key("index") {
                    names.insert("shapes".into());
                }
            }
            texts(members, &["target_index"], names);
            for (name, value) in members {
                chain.push(name);
                match name.as_str() {
                    "wrapper" | "script" | "script_score" | "scripted_metric" if !is_value(chain) => {
                        names.insert(EVERYTHING.into());
                    }
                    // Of rules that queries are in, and fields in any place.
                    "highlight" => below("highlight_query", value, names),
                    "sort" => {
                        below("filter", value, names);
                        below("nested_filter", value, names);
                    }
                    _ if is_value(chain) => {}
                    _ => scan(value, chain, names),
                }
                chain.pop();
            }
        }
        _ => {}
    }
}

/// Looks below each member of that name.
fn below(wanted: &str, value: &Value, names: &mut Names) {
    match value {
        Value::Array(list) => list.iter().for_each(|value| below(wanted, value, names)),
        Value::Object(members) => {
            for (name, value) in members {
                match name == wanted {
                    true => scan(value, &mut vec!["query"], names),
                    false => below(wanted, value, names),
                }
            }
        }
        _ => {}
    }
}
