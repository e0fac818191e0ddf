//! Searches, read by their grammar: each kind of clause that is known here is known to hold queries, values or names in
//! certain places. One that is not known may look anywhere, so only a grant for everything covers it.
//!
//! <https://www.elastic.co/docs/reference/query-languages/querydsl>, <https://docs.opensearch.org/latest/query-dsl/>

use super::json::{Json, Members};
use super::{Wrong, names};
use crate::model::Reach;

type Walked = Result<(), Wrong>;

const UNKNOWN: &str = "something in the search that the proxy does not know";
const SCRIPT: &str = "a script";

/// What a search may say that holds neither queries nor names.
const PLAIN: [&str; 18] = [
    "size",
    "from",
    "_source",
    "fields",
    "docvalue_fields",
    "stored_fields",
    "track_total_hits",
    "track_scores",
    "min_score",
    "timeout",
    "terminate_after",
    "search_after",
    "explain",
    "version",
    "seq_no_primary_term",
    "profile",
    "stats",
    "include_named_queries_score",
];

/// The body of a search.
pub(super) fn search(body: &Members, reach: &mut Reach) -> Walked {
    for (name, value) in body {
        match name.as_ref() {
            "query" | "post_filter" => clause(value, reach)?,
            "aggs" | "aggregations" => aggregations(value, reach)?,
            "highlight" => highlight(value, reach)?,
            "rescore" => each(value, reach, rescore)?,
            "collapse" => collapse(value, reach)?,
            "knn" => each(value, reach, knn)?,
            "sort" => each(value, reach, sort)?,
            "pit" => reach.everything("a point in time"),
            name if PLAIN.contains(&name) => plain(value, reach),
            _ => reach.everything(UNKNOWN),
        }
    }
    Ok(())
}

/// The body of what takes a query alone.
pub(super) fn only_query(body: &Members, reach: &mut Reach) -> Walked {
    for (name, value) in body {
        match name.as_ref() {
            "query" => clause(value, reach)?,
            "max_docs" | "conflicts" => scalar(value, reach),
            _ => reach.everything(UNKNOWN),
        }
    }
    Ok(())
}

/// Values that hold no queries. A script among them may be a stored one, which is not here to be read.
pub(super) fn plain(value: &Json, reach: &mut Reach) {
    match value {
        Json::Object(members) => members.iter().for_each(|(name, value)| {
            match (name.as_ref(), value) {
                ("script" | "scripts", _) => reach.everything(SCRIPT),
                // The words of a match are a text; what is more is a query in a place where none is known.
                ("filter" | "query" | "nested_filter", Json::Object(_) | Json::List(_)) => {
                    reach.everything(UNKNOWN);
                }
                _ => {}
            }
            plain(value, reach);
        }),
        Json::List(list) => list.iter().for_each(|value| plain(value, reach)),
        Json::Other | Json::Text(_) => {}
    }
}

/// A value, or a list of values: where queries stand beside it, a member of another name may be one under a name that
/// servers know besides (`mustNot` is `must_not` to Elasticsearch).
pub(super) fn scalar(value: &Json, reach: &mut Reach) {
    let single = |value: &Json| matches!(value, Json::Other | Json::Text(_));
    match value {
        Json::List(list) if list.iter().all(single) => {}
        value if single(value) => {}
        _ => reach.everything(UNKNOWN),
    }
}

/// `"field"`, `{"field": "asc"}`, `{"field": {"order": "asc"}}`, or a list of these.
fn sort(value: &Json, reach: &mut Reach) -> Walked {
    if let Json::Object(fields) = value {
        for (field, rules) in fields {
            match rules {
                _ if field == "_script" => reach.everything(SCRIPT),
                Json::Object(rules) => rules.values().for_each(|rule| scalar(rule, reach)),
                rules => scalar(rules, reach),
            }
        }
    }
    Ok(())
}

fn each(value: &Json, reach: &mut Reach, walk: fn(&Json, &mut Reach) -> Walked) -> Walked {
    match value {
        Json::List(list) => list.iter().try_for_each(|value| walk(value, reach)),
        value => walk(value, reach),
    }
}

fn members<'a, 'b>(value: &'a Json<'b>) -> Result<&'a Members<'b>, Wrong> {
    value.object().ok_or(Wrong::Bad("a part of the search must be an object and is not"))
}

/// Queries whose members are fields, or which have none: no query and no name can stand in them.
const LEAVES: [&str; 25] = [
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

/// One query: `{"match": {…}}`.
pub(super) fn clause(value: &Json, reach: &mut Reach) -> Walked {
    let members = members(value)?;
    if members.len() > 1 {
        return Err(Wrong::Bad("a query must have one member"));
    }
    members.iter().try_for_each(|(kind, value)| query(kind, value, reach))
}

fn query(kind: &str, value: &Json, reach: &mut Reach) -> Walked {
    match kind {
        "bool" => parts(value, reach, &["must", "must_not", "should", "filter"]),
        "constant_score" => parts(value, reach, &["filter"]),
        "dis_max" => parts(value, reach, &["queries"]),
        "boosting" => parts(value, reach, &["positive", "negative"]),
        "function_score" => function_score(value, reach),
        "nested" | "has_child" | "has_parent" => relative(value, reach),
        "terms" => members(value)?.values().try_for_each(|value| terms(value, reach)),
        "geo_shape" | "shape" => members(value)?.values().try_for_each(|value| shape(value, reach)),
        "more_like_this" => more_like_this(members(value)?, reach),
        "percolate" => percolate(members(value)?, reach),
        "pinned" => pinned(members(value)?, reach),
        kind if LEAVES.contains(&kind) => {
            plain(value, reach);
            Ok(())
        }
        "script" | "script_score" | "terms_set" => {
            reach.everything(SCRIPT);
            Ok(())
        }
        _ => {
            reach.everything(UNKNOWN);
            Ok(())
        }
    }
}

/// A query of queries: those members hold one or a list of them, the others are values.
fn parts(value: &Json, reach: &mut Reach, queries: &[&str]) -> Walked {
    for (name, value) in members(value)? {
        match queries.contains(&name.as_ref()) {
            true => each(value, reach, clause)?,
            false => scalar(value, reach),
        }
    }
    Ok(())
}

fn relative(value: &Json, reach: &mut Reach) -> Walked {
    for (name, value) in members(value)? {
        match name.as_ref() {
            "query" => clause(value, reach)?,
            "inner_hits" => inner_hits(value, reach)?,
            _ => scalar(value, reach),
        }
    }
    Ok(())
}

/// Functions of a score that take fields and values.
const CURVES: [&str; 5] = ["gauss", "linear", "exp", "field_value_factor", "random_score"];

fn function_score(value: &Json, reach: &mut Reach) -> Walked {
    for (name, value) in members(value)? {
        match name.as_ref() {
            "query" => clause(value, reach)?,
            "functions" => each(value, reach, function)?,
            "script_score" => reach.everything(SCRIPT),
            name if CURVES.contains(&name) => plain(value, reach),
            _ => scalar(value, reach),
        }
    }
    Ok(())
}

fn function(value: &Json, reach: &mut Reach) -> Walked {
    for (name, value) in members(value)? {
        match name.as_ref() {
            "filter" => clause(value, reach)?,
            "script_score" => reach.everything(SCRIPT),
            name if CURVES.contains(&name) => plain(value, reach),
            _ => scalar(value, reach),
        }
    }
    Ok(())
}

/// Terms that stand in a document elsewhere.
fn terms(value: &Json, reach: &mut Reach) -> Walked {
    let Json::Object(lookup) = value else {
        plain(value, reach);
        return Ok(());
    };
    document(lookup, &["id", "path", "routing", "store"], None, reach)
}

/// A document in another index, named by `index`; `default` where that is left out.
fn document(lookup: &Members, known: &[&str], default: Option<&str>, reach: &mut Reach) -> Walked {
    if lookup.keys().any(|name| name != "index" && !known.contains(&name.as_ref())) {
        reach.everything(UNKNOWN);
    }
    match (lookup.get("index"), default) {
        (Some(Json::Text(index)), _) => names::expression(index, reach),
        (Some(_), _) => Err(Wrong::Bad("the index of a document in a query must be a text")),
        (None, Some(default)) => names::name(default, reach),
        (None, None) => {
            reach.everything(UNKNOWN);
            Ok(())
        }
    }
}

fn shape(value: &Json, reach: &mut Reach) -> Walked {
    let Json::Object(rules) = value else { return Ok(()) };
    for (name, value) in rules {
        match (name.as_ref(), value) {
            // The index that shapes are looked for in where none is named.
            ("indexed_shape", Json::Object(lookup)) => {
                document(lookup, &["id", "path", "routing"], Some("shapes"), reach)?;
            }
            ("indexed_shape", _) => return Err(Wrong::Bad("indexed_shape must be an object")),
            // GeoJSON or WKT: coordinates.
            ("shape", _) => {}
            _ => scalar(value, reach),
        }
    }
    Ok(())
}

fn more_like_this(rules: &Members, reach: &mut Reach) -> Walked {
    for (name, value) in rules {
        match name.as_ref() {
            "like" | "unlike" => each(value, reach, liked)?,
            // Names that older versions know.
            "docs" | "ids" | "like_text" => reach.everything(UNKNOWN),
            _ => scalar(value, reach),
        }
    }
    Ok(())
}

/// A text, or a document; of the searched indices where none is named.
fn liked(value: &Json, reach: &mut Reach) -> Walked {
    let like = match value {
        Json::Text(_) => return Ok(()),
        Json::Object(like) => like,
        Json::Other | Json::List(_) => {
            reach.everything(UNKNOWN);
            return Ok(());
        }
    };
    for (name, value) in like {
        match (name.as_ref(), value) {
            ("_index", Json::Text(index)) => names::expression(index, reach)?,
            ("_id" | "_routing" | "routing", _) => {}
            ("doc", _) => {}
            _ => reach.everything(UNKNOWN),
        }
    }
    Ok(())
}

fn percolate(rules: &Members, reach: &mut Reach) -> Walked {
    const ELSEWHERE: [&str; 6] = ["index", "id", "routing", "preference", "version", "field"];
    if rules.contains_key("index") || rules.contains_key("id") {
        return document(rules, &ELSEWHERE, None, reach);
    }
    if rules.keys().any(|name| !["field", "document", "documents", "name", "boost"].contains(&name.as_ref()))
    {
        reach.everything(UNKNOWN);
    }
    Ok(())
}

fn pinned(rules: &Members, reach: &mut Reach) -> Walked {
    for (name, value) in rules {
        match (name.as_ref(), value) {
            ("organic", value) => clause(value, reach)?,
            ("ids", Json::List(_)) => {}
            ("docs", Json::List(docs)) => {
                for doc in docs {
                    liked(doc, reach)?;
                }
            }
            _ => reach.everything(UNKNOWN),
        }
    }
    Ok(())
}

fn knn(value: &Json, reach: &mut Reach) -> Walked {
    for (name, value) in members(value)? {
        match name.as_ref() {
            "filter" => each(value, reach, clause)?,
            "field" | "query_vector" | "k" | "num_candidates" | "boost" | "similarity" => {}
            _ => reach.everything(UNKNOWN),
        }
    }
    Ok(())
}

fn rescore(value: &Json, reach: &mut Reach) -> Walked {
    for (name, value) in members(value)? {
        match (name.as_ref(), value) {
            ("window_size", _) => {}
            ("query", Json::Object(rules)) => {
                for (name, value) in rules {
                    match name.as_ref() {
                        "rescore_query" => clause(value, reach)?,
                        _ => scalar(value, reach),
                    }
                }
            }
            _ => reach.everything(UNKNOWN),
        }
    }
    Ok(())
}

fn collapse(value: &Json, reach: &mut Reach) -> Walked {
    for (name, value) in members(value)? {
        match name.as_ref() {
            "inner_hits" => each(value, reach, inner_hits)?,
            _ => scalar(value, reach),
        }
    }
    Ok(())
}

fn inner_hits(value: &Json, reach: &mut Reach) -> Walked {
    for (name, value) in members(value)? {
        match name.as_ref() {
            "name" | "ignore_unmapped" => {}
            "sort" => each(value, reach, sort)?,
            "collapse" => collapse(value, reach)?,
            "highlight" => highlight(value, reach)?,
            name if PLAIN.contains(&name) => plain(value, reach),
            _ => reach.everything(UNKNOWN),
        }
    }
    Ok(())
}

fn highlight(value: &Json, reach: &mut Reach) -> Walked {
    for (name, value) in members(value)? {
        match (name.as_ref(), value) {
            ("highlight_query", value) => clause(value, reach)?,
            ("fields", Json::List(fields)) => {
                for field in fields {
                    members(field)?.values().try_for_each(|rules| highlighted(rules, reach))?;
                }
            }
            ("fields", fields) => {
                members(fields)?.values().try_for_each(|rules| highlighted(rules, reach))?;
            }
            _ => scalar(value, reach),
        }
    }
    Ok(())
}

fn highlighted(rules: &Json, reach: &mut Reach) -> Walked {
    for (name, value) in members(rules)? {
        match name.as_ref() {
            "highlight_query" => clause(value, reach)?,
            _ => scalar(value, reach),
        }
    }
    Ok(())
}

/// Aggregations whose members are values.
const COUNTED: [&str; 44] = [
    "terms",
    "rare_terms",
    "multi_terms",
    "histogram",
    "date_histogram",
    "auto_date_histogram",
    "variable_width_histogram",
    "range",
    "date_range",
    "ip_range",
    "geo_distance",
    "geohash_grid",
    "geotile_grid",
    "avg",
    "sum",
    "min",
    "max",
    "stats",
    "extended_stats",
    "value_count",
    "cardinality",
    "percentiles",
    "percentile_ranks",
    "median_absolute_deviation",
    "weighted_avg",
    "matrix_stats",
    "geo_bounds",
    "geo_centroid",
    "string_stats",
    "missing",
    "nested",
    "reverse_nested",
    "global",
    "sampler",
    "diversified_sampler",
    "composite",
    "children",
    "parent",
    "bucket_sort",
    "derivative",
    "cumulative_sum",
    "avg_bucket",
    "sum_bucket",
    "max_bucket",
];

fn aggregations(value: &Json, reach: &mut Reach) -> Walked {
    for aggregation in members(value)?.values() {
        for (kind, value) in members(aggregation)? {
            match kind.as_ref() {
                "aggs" | "aggregations" => aggregations(value, reach)?,
                "meta" => {}
                "filter" => clause(value, reach)?,
                "filters" | "adjacency_matrix" => filters(value, reach)?,
                "top_hits" => inner_hits(value, reach)?,
                kind if COUNTED.contains(&kind) => plain(value, reach),
                _ => reach.everything(UNKNOWN),
            }
        }
    }
    Ok(())
}

fn filters(value: &Json, reach: &mut Reach) -> Walked {
    for (name, value) in members(value)? {
        match (name.as_ref(), value) {
            ("filters", Json::List(list)) => list.iter().try_for_each(|value| clause(value, reach))?,
            ("filters", named) => {
                members(named)?.values().try_for_each(|value| clause(value, reach))?;
            }
            _ => scalar(value, reach),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: &str) -> Result<Reach, Wrong> {
        let json = Json::parse(body.as_bytes()).unwrap();
        let mut reach = Reach::nothing();
        search(json.object().unwrap(), &mut reach).map(|()| reach)
    }

    fn names(body: &str) -> Vec<String> {
        match of(body) {
            Ok(Reach::Names(names)) => names.into_iter().collect(),
            other => panic!("{body}: {other:?}"),
        }
    }

    #[test]
    fn common_searches_name_nothing() {
        for body in [
            "{}",
            r#"{"query":{"match_all":{}},"size":3,"sort":[{"@timestamp":"desc"},"_doc"],"_source":["a"]}"#,
            r#"{"query":{"bool":{"must":[{"match":{"index":"x"}}],"filter":{"term":{"_index":"y"}},
                "should":[{"range":{"a":{"gte":1}}}],"minimum_should_match":1}}}"#,
            r#"{"aggs":{"a":{"terms":{"field":"b","order":{"_count":"asc"}},"aggs":{"c":{"avg":{"field":"d"}}}},
                "f":{"filters":{"filters":{"x":{"term":{"a":1}}}}},"t":{"top_hits":{"size":1}}}}"#,
            r#"{"query":{"terms":{"user":["a","b"],"boost":1.0}},"highlight":{"fields":{"a":{}}}}"#,
            r#"{"query":{"match":{"title":{"query":"a b","operator":"and"}}},"timeout":"1s"}"#,
            r#"{"sort":{"a":"asc","b":{"order":"desc","missing":"_last"}},"query":{"geo_shape":{"l":{"shape":{"type":"point","coordinates":[1,2]},"relation":"within"}}}}"#,
            r#"{"query":{"nested":{"path":"p","query":{"exists":{"field":"p.a"}}}},"track_total_hits":true}"#,
            r#"{"query":{"more_like_this":{"fields":["a"],"like":["text",{"_id":"1"}]}}}"#,
            r#"{"query":{"function_score":{"query":{"match_all":{}},"functions":[{"filter":{"term":{"a":1}},"weight":2}]}}}"#,
        ] {
            assert_eq!(names(body), Vec::<String>::new(), "{body}");
        }
    }

    /// Each kind of place in which a query names another index, wherever a query may stand.
    #[test]
    fn names_are_found_wherever_a_query_stands() {
        let queries = [
            (r#"{"terms":{"u":{"index":"secret","id":"1","path":"p"}}}"#, "secret"),
            (r#"{"geo_shape":{"l":{"indexed_shape":{"index":"secret","id":"1","path":"p"}}}}"#, "secret"),
            (r#"{"geo_shape":{"l":{"indexed_shape":{"id":"1"},"relation":"within"}}}"#, "shapes"),
            (r#"{"more_like_this":{"like":{"_index":"secret","_id":"1"}}}"#, "secret"),
            (r#"{"more_like_this":{"like":["a"],"unlike":[{"_index":"secret","_id":"1"}]}}"#, "secret"),
            (r#"{"percolate":{"field":"q","index":"secret","id":"1"}}"#, "secret"),
            (r#"{"pinned":{"docs":[{"_index":"secret","_id":"1"}],"organic":{"match_all":{}}}}"#, "secret"),
        ];
        let places = [
            r#"{"query":@}"#,
            r#"{"post_filter":@}"#,
            r#"{"query":{"bool":{"must":@}}}"#,
            r#"{"query":{"bool":{"must_not":[{"match_all":{}},@]}}}"#,
            r#"{"query":{"bool":{"should":[{"bool":{"filter":[@]}}]}}}"#,
            r#"{"query":{"constant_score":{"filter":@}}}"#,
            r#"{"query":{"dis_max":{"queries":[@]}}}"#,
            r#"{"query":{"boosting":{"positive":{"match_all":{}},"negative":@}}}"#,
            r#"{"query":{"nested":{"path":"p","query":@}}}"#,
            r#"{"query":{"has_child":{"type":"p","query":@}}}"#,
            r#"{"query":{"function_score":{"query":@}}}"#,
            r#"{"query":{"function_score":{"functions":[{"filter":@,"weight":1}]}}}"#,
            r#"{"query":{"pinned":{"ids":["1"],"organic":@}}}"#,
            r#"{"aggs":{"a":{"filter":@}}}"#,
            r#"{"aggregations":{"a":{"filters":{"filters":[@]}}}}"#,
            r#"{"aggs":{"a":{"terms":{"field":"x"},"aggs":{"b":{"filters":{"filters":{"c":@}}}}}}}"#,
            r#"{"highlight":{"highlight_query":@,"fields":{}}}"#,
            r#"{"highlight":{"fields":{"a":{"highlight_query":@}}}}"#,
            r#"{"highlight":{"fields":[{"a":{"highlight_query":@}}]}}"#,
            r#"{"rescore":{"window_size":1,"query":{"rescore_query":@}}}"#,
            r#"{"rescore":[{"query":{"rescore_query":@}}]}"#,
            r#"{"knn":{"field":"v","query_vector":[1],"k":1,"filter":@}}"#,
            r#"{"collapse":{"field":"a","inner_hits":{"name":"n","highlight":{"highlight_query":@,"fields":{}}}}}"#,
        ];
        for place in places {
            for (query, name) in queries {
                assert_eq!(names(&place.replace('@', query)), [name], "{place} {query}");
            }
        }
    }

    #[test]
    fn what_is_not_known_takes_a_grant_for_everything() {
        for body in [
            r#"{"query":{"wrapper":{"query":"e30="}}}"#,
            r#"{"query":{"script":{"script":"x"}}}"#,
            r#"{"query":{"script_score":{"query":{"match_all":{}},"script":{"id":"stored"}}}}"#,
            r#"{"query":{"function_score":{"script_score":{"script":"x"}}}}"#,
            r#"{"query":{"neural":{"f":{}}}}"#,
            r#"{"query":{"terms":{"u":{"index":"a","id":"1","path":"p","query":{}}}}}"#,
            r#"{"query":{"terms":{"u":{"id":"1"}}}}"#,
            r#"{"query":{"bool":{"must":[{"new_kind":{}}]}}}"#,
            r#"{"runtime_mappings":{"a":{"type":"lookup","target_index":"secret"}}}"#,
            r#"{"pit":{"id":"x"}}"#,
            r#"{"indices_boost":[{"secret":1}]}"#,
            r#"{"script_fields":{"a":{"script":"x"}}}"#,
            r#"{"sort":{"_script":{"script":"x","type":"number"}}}"#,
            r#"{"sort":[{"a.b":{"nested":{"path":"a","filter":{"terms":{"u":{"index":"secret"}}}}}}]}"#,
            // The older names of members that hold queries.
            r#"{"query":{"bool":{"mustNot":{"terms":{"u":{"index":"secret","id":"1","path":"p"}}}}}}"#,
            r#"{"query":{"bool":{"mustNot":[{"terms":{"u":{"index":"secret","id":"1","path":"p"}}}]}}}"#,
            r#"{"query":{"geo_shape":{"l":{"indexedShape":{"index":"secret","id":"1"}}}}}"#,
            r#"{"rescore":{"query":{"rescoreQuery":{"terms":{"u":{"index":"secret","id":"1","path":"p"}}}}}}"#,
            r#"{"highlight":{"highlightQuery":{"terms":{"u":{"index":"secret","id":"1","path":"p"}}}}}"#,
            r#"{"sort":[{"a":{"order":"asc","nestedFilter":{"terms":{"u":{"index":"secret"}}}}}]}"#,
            r#"{"sort":{"a":{"nested":{"path":"a"}}}}"#,
            r#"{"query":{"nested":{"path":"a","otherQuery":{"terms":{}}}}}"#,
            r#"{"query":{"function_score":{"filter":{"terms":{"u":{"index":"secret","id":"1","path":"p"}}}}}}"#,
            r#"{"query":{"more_like_this":{"likes":[{"_index":"secret"}]}}}"#,
            r#"{"suggest":{"a":{}}}"#,
            r#"{"slice":{"id":0,"max":2}}"#,
            r#"{"ext":{}}"#,
            r#"{"retriever":{}}"#,
            r#"{"aggs":{"a":{"scripted_metric":{}}}}"#,
            r#"{"aggs":{"a":{"avg":{"script":"x"}}}}"#,
            r#"{"aggs":{"a":{"significant_terms":{"background_filter":{}}}}}"#,
            r#"{"aggs":{"a":{"top_hits":{"script_fields":{}}}}}"#,
            r#"{"rescore":{"learning_to_rank":{}}}"#,
            r#"{"query":{"more_like_this":{"docs":[{"_index":"secret"}]}}}"#,
        ] {
            assert!(matches!(of(body), Ok(Reach::Everything(_))), "{body}");
        }
        for bad in [
            r#"{"query":[]}"#,
            r#"{"query":{"match":{},"terms":{}}}"#,
            r#"{"query":{"terms":{"u":{"index":["secret"],"id":"1","path":"p"}}}}"#,
            r#"{"query":{"terms":{"u":{"index":".security","id":"1","path":"p"}}}}"#,
            r#"{"aggs":[]}"#,
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
