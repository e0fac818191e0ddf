//! What a real cluster says that it touched. Requests of all kinds are made at random, from a seed, for somebody who
//! may do everything with a part of the cluster, and sent through the proxy; of what is not theirs, no counter of the
//! server may have moved, nothing may be another than before, and no answer may tell of it. Then the same requests are
//! sent around the proxy, where a good part of them does move something: what is counted here can be moved.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::cluster::{Cluster, ClusterPlace, Kind, shared};
use crate::support::http::{Answer, HttpClient};
use crate::support::{Node, Person};

/// Requests to one server.
const REQUESTS: usize = 1_200;
/// So many are sent before the server is asked what it touched.
const BATCH: usize = 60;
/// Of those that were refused, so many are sent around the proxy, one by one.
const DIRECT: usize = 250;

/// Not granted, by their names behind the prefix.
const FORBIDDEN: [&str; 3] = ["secret", "secret-2", "others"];

/// SplitMix64: the same requests for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, count: usize) -> usize {
        (self.next() % count as u64) as usize
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }
}

#[derive(Clone, Debug)]
struct Asked {
    line: String,
    body: String,
}

/// Makes requests about the indices of one test.
struct Maker {
    random: Random,
    prefix: String,
    kind: Kind,
}

impl Maker {
    fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// A name, of one's own more often than not.
    fn index(&mut self) -> String {
        const OWN: [&str; 6] = ["granted-1", "granted-1", "granted-2", "granted-all", "mine", "granted-new"];
        const OTHER: [&str; 7] =
            ["secret", "secret-2", "others", "granted-mixed", "granted-veiled", "theirs", "secret"];
        let name = if self.random.one_in(8) { self.random.of(&OTHER) } else { self.random.of(&OWN) };
        self.name(name)
    }

    /// What may stand where indices are named in a path: a list, with wildcards and exclusions, encoded or not.
    fn expression(&mut self) -> String {
        let count = self.random.of(&[1, 1, 1, 2, 3]);
        let mut parts = Vec::new();
        for _ in 0..count {
            let wild =
                ["*", "granted-*", "g*", "s*", "*ret*", "granted-*,-granted-1", "*,-secret", "*-1", "m*"];
            let part = match self.random.below(8) {
                0 | 1 => {
                    let own = self.prefix.clone();
                    // `*` alone is the whole cluster, where other tests are.
                    self.random
                        .of(&wild)
                        .split(',')
                        .map(|part| in_prefix(&own, part))
                        .collect::<Vec<_>>()
                        .join(",")
                }
                2 => {
                    let dated = [
                        "granted-1",
                        "secret",
                        "granted-{now/y{yyyy}}",
                        "sec{now/d{'ret'}}",
                        "s{now{'ec'}}ret",
                    ];
                    let dated = self.random.of(&dated);
                    format!("<{}>", self.name(dated))
                }
                3 if self.kind == Kind::Elasticsearch => format!("me:{}", self.index()),
                _ => self.index(),
            };
            parts.push(part);
        }
        let text = parts.join(",");
        let hard = |c: char| "<>{}/'".contains(c);
        let encoded: String = match self.random.below(5) {
            0 => text.bytes().map(|byte| format!("%{byte:02x}")).collect(),
            1 => text.replace(',', "%2C").replace('*', "%2A"),
            2 => text.replace('e', "%65"),
            _ => text,
        };
        encoded.chars().map(|c| if hard(c) { format!("%{:02X}", c as u32) } else { c.into() }).collect()
    }

    /// A query that may look up what is elsewhere.
    fn query(&mut self) -> Value {
        let index = self.index();
        let mut query = match self.random.below(9) {
            0 | 1 => json!({"terms": {"user": {"index": index, "id": "1", "path": "user"}}}),
            2 => json!({"more_like_this": {"fields": ["text"], "like": [{"_index": index, "_id": "1"}],
                "min_term_freq": 1, "min_doc_freq": 1}}),
            3 => {
                json!({"geo_shape": {"area": {"indexed_shape": {"index": index, "id": "1", "path": "area"}}}})
            }
            4 => json!({"percolate": {"field": "query", "index": index, "id": "1"}}),
            5 => json!({"wrapper": {"query": STANDARD.encode(
                json!({"terms": {"user": {"index": index, "id": "1", "path": "user"}}}).to_string())}}),
            6 => json!({"match": {"text": "hello"}}),
            _ => json!({"match_all": {}}),
        };
        for _ in 0..self.random.below(4) {
            query = match self.random.below(9) {
                0 => json!({"bool": {"must": query}}),
                1 => json!({"bool": {"filter": [{"match_all": {}}, query]}}),
                2 => json!({"bool": {"must_not": [query]}}),
                3 => json!({"constant_score": {"filter": query}}),
                4 => json!({"dis_max": {"queries": [query, {"match_all": {}}]}}),
                5 => json!({"function_score": {"functions": [{"filter": query, "weight": 2}]}}),
                6 => {
                    json!({"boosting": {"positive": {"match_all": {}}, "negative": query, "negative_boost": 0.5}})
                }
                7 => json!({"bool": {"mustNot": query}}),
                _ => json!({"span_multi": {"match": query}}),
            };
        }
        query
    }

    fn search(&mut self) -> Value {
        let query = self.query();
        match self.random.below(12) {
            0 => json!({}),
            1 => json!({"post_filter": query}),
            2 => json!({"aggs": {"a": {"filter": query}}, "size": 1}),
            3 => json!({"aggs": {"a": {"filters": {"filters": {"x": query}}}}}),
            4 => {
                json!({"highlight": {"fields": {"text": {"highlight_query": query}}}, "query": {"match_all": {}}})
            }
            5 => {
                json!({"query": {"match_all": {}}, "rescore": {"query": {"rescore_query": query}, "window_size": 5}})
            }
            6 => json!({"sort": [{"at": {"order": "asc", "nested": {"path": "part", "filter": query}}}]}),
            7 => {
                let near = json!({"field": "vector", "query_vector": [1, 2], "k": 2, "num_candidates": 3});
                json!({"knn": with(near, "filter", query)})
            }
            8 => json!({"indices_boost": [{self.index(): 2}], "query": query}),
            9 => json!({"aggs": {"a": {"significant_terms": {"field": "user", "background_filter": query}}}}),
            _ => json!({"query": query}),
        }
    }

    /// What stands in a body of a list of documents.
    fn documents(&mut self, member: &str) -> Value {
        let count = 1 + self.random.below(3);
        let document = |maker: &mut Self| match maker.random.below(3) {
            0 => json!({"_id": "1"}),
            _ => json!({member: maker.index(), "_id": "1"}),
        };
        (0..count).map(|_| document(self)).collect()
    }

    fn bulk(&mut self) -> String {
        let mut body = String::new();
        for _ in 0..1 + self.random.below(4) {
            let (verb, index) = (self.random.of(&["index", "create", "update", "delete"]), self.index());
            let key = self.random.of(&["_index", "_index", "_index", "\\u005findex", "index"]);
            let id = 10 + self.random.below(20);
            body += &match self.random.below(4) {
                0 => format!("{{\"{verb}\":{{\"_id\":\"{id}\"}}}}\n"),
                1 => format!("{{ \"{verb}\" : {{\"{key}\" : \"{index}\", \"_id\":\"{id}\" }} }}\n"),
                _ => format!("{{\"{verb}\":{{\"_id\":\"{id}\",\"{key}\":\"{index}\"}}}}\n"),
            };
            if verb != "delete" {
                let other = self.index();
                body += &match verb {
                    "update" => format!("{{\"doc\":{{\"seen\":\"{id}\"}}}}\n"),
                    _ => format!("{{\"delete\":{{\"_index\":{}}}}}\n", json!(other.len())),
                };
            }
        }
        body
    }

    fn many_searches(&mut self) -> String {
        let mut body = String::new();
        for _ in 0..1 + self.random.below(3) {
            let head = match self.random.below(5) {
                0 => json!({}),
                1 => json!({"index": [self.index(), self.index()]}),
                2 => json!({"index": format!("{},{}", self.index(), in_prefix(&self.prefix, "g*"))}),
                3 => json!({"index": in_prefix(&self.prefix, "*"), "expand_wildcards": "all"}),
                _ => json!({"index": self.index()}),
            };
            body += &format!("{head}\n{}\n", self.search());
        }
        body
    }

    /// A search, and others that read.
    fn reads(&mut self) -> (String, String) {
        let (names, index) = (self.expression(), self.index());
        let parameters =
            ["", "", "?expand_wildcards=all", "?ignore_unavailable=true", "?allow_no_indices=false"];
        let more = self.random.of(&parameters);
        match self.random.below(20) {
            0..=4 => (format!("POST /{names}/_search{more}"), self.search().to_string()),
            5 => (format!("GET /{names}/_search?q=text:hello"), String::new()),
            6 => (format!("POST /{names}/_count{more}"), json!({"query": self.query()}).to_string()),
            7 => (format!("POST /{index}/_explain/1"), json!({"query": self.query()}).to_string()),
            8 => (format!("POST /{names}/_validate/query{more}"), json!({"query": self.query()}).to_string()),
            9 => (format!("GET /{names}/_field_caps?fields=user,text"), String::new()),
            10 => (format!("GET /{names}/_doc/1"), String::new()),
            11 => (format!("GET /{names}/_source/1"), String::new()),
            12 => ("POST /_mget".into(), json!({"docs": self.documents("_index")}).to_string()),
            13 => (format!("POST /{index}/_mget"), json!({"docs": self.documents("_index")}).to_string()),
            14 => ("POST /_msearch".into(), self.many_searches()),
            15 => (format!("POST /{names}/_msearch"), self.many_searches()),
            16 => ("POST /_mtermvectors".into(), json!({"docs": self.documents("_index")}).to_string()),
            17 => (format!("POST /{index}/_termvectors/1"), json!({"_index": self.index()}).to_string()),
            18 => {
                let ratings = json!([{"_index": self.index(), "_id": "1", "rating": 1}]);
                let request = json!({"id": "q", "request": self.search(), "ratings": ratings});
                let body = json!({"requests": [request], "metric": {"precision": {}}});
                (format!("POST /{names}/_rank_eval"), body.to_string())
            }
            _ => {
                let list = [
                    "_cat/indices/@",
                    "_cat/shards/@",
                    "@/_stats",
                    "@/_mapping",
                    "@/_settings",
                    "_alias/@",
                    "@/_alias",
                    "_resolve/index/@",
                    "_cat/aliases/@",
                    "@",
                    "_cluster/health/@?level=indices",
                    "@/_segments",
                    "_cat/segments/@",
                    "@/_recovery",
                    "_cat/count/@",
                ];
                (format!("GET /{}", self.random.of(&list).replace('@', &names)), String::new())
            }
        }
    }

    fn writes(&mut self) -> (String, String) {
        let (names, index) = (self.expression(), self.index());
        let id = 10 + self.random.below(20);
        match self.random.below(14) {
            0 | 1 => ("POST /_bulk".into(), self.bulk()),
            2 | 3 => (format!("POST /{index}/_bulk?refresh=true"), self.bulk()),
            4 => (format!("PUT /{names}/_doc/{id}"), r#"{"text":"hello"}"#.into()),
            5 => (format!("PUT /{index}/_create/{id}"), r#"{"text":"hello"}"#.into()),
            6 => (format!("POST /{index}/_update/{id}"), r#"{"doc":{"seen":"now"}}"#.into()),
            7 => (format!("DELETE /{index}/_doc/{id}"), String::new()),
            8 => {
                let query = json!({"bool": {"filter": [self.query(), {"term": {"seen": "never"}}]}});
                (format!("POST /{names}/_delete_by_query"), json!({"query": query}).to_string())
            }
            9 => (format!("POST /{names}/_update_by_query"), json!({"query": self.query()}).to_string()),
            10 | 11 => {
                let source = match self.random.below(3) {
                    0 => json!([self.index(), self.index()]),
                    1 => json!(format!("{},{}", self.index(), self.index())),
                    _ => json!(self.index()),
                };
                let body = json!({"source": {"index": source, "query": self.query()},
                    "dest": {"index": self.index()}, "max_docs": 3});
                ("POST /_reindex".into(), body.to_string())
            }
            _ => (format!("POST /{names}/_refresh"), String::new()),
        }
    }

    fn administers(&mut self) -> (String, String) {
        let (names, index) = (self.expression(), self.index());
        match self.random.below(8) {
            0 => {
                let verb = self.random.of(&["add", "remove", "add"]);
                let alias = self.index();
                let one = match self.random.below(3) {
                    0 => json!({verb: {"indices": [index, self.index()], "alias": alias}}),
                    1 => json!({verb: {"index": index, "aliases": [alias, self.name("granted-new")]}}),
                    _ => json!({verb: {"index": index, "alias": self.name("granted-alias"),
                        "filter": self.query()}}),
                };
                ("POST /_aliases".into(), json!({"actions": [one]}).to_string())
            }
            1 => (format!("PUT /{names}/_alias/{}", self.name("granted-alias")), String::new()),
            2 => (format!("DELETE /{index}/_alias/{}", self.index()), String::new()),
            3 => {
                let field = format!("f{}", self.random.below(5));
                (
                    format!("PUT /{names}/_mapping"),
                    json!({"properties": {field: {"type": "keyword"}}}).to_string(),
                )
            }
            4 => (format!("PUT /{names}/_settings"), r#"{"index":{"max_result_window":20000}}"#.into()),
            5 => {
                let made = self.random.of(&["granted-9", "granted-9", "secret-9"]);
                let made = self.name(made);
                let body = json!({"aliases": {self.index(): {}}});
                (format!("PUT /{made}"), body.to_string())
            }
            6 => {
                let gone = self.random.of(&["granted-9", "secret-9"]);
                (format!("DELETE /{}", self.name(gone)), String::new())
            }
            _ => (
                format!("POST /{names}/{}", self.random.of(&["_flush", "_cache/clear", "_refresh"])),
                String::new(),
            ),
        }
    }

    fn request(&mut self) -> Asked {
        let (line, body) = match self.random.below(10) {
            0..=5 => self.reads(),
            6..=8 => self.writes(),
            _ => self.administers(),
        };
        Asked { line, body }
    }
}

fn with(mut object: Value, name: &str, value: Value) -> Value {
    object[name] = value;
    object
}

/// A wildcard among the names of one test alone.
fn in_prefix(prefix: &str, part: &str) -> String {
    match part.strip_prefix('-') {
        Some(rest) => format!("-{prefix}{rest}"),
        None => format!("{prefix}{part}"),
    }
}

/// What a server reports of indices.
struct Watch<'a> {
    cluster: &'a Cluster,
    /// All that are not granted.
    names: Vec<String>,
}

impl Watch<'_> {
    /// All that counts, by index and path; what a clock moves is left out.
    fn counters(&self) -> BTreeMap<String, Value> {
        let names = self.names.join(",");
        let mut all = BTreeMap::new();
        let stats = self.cluster.done(&format!("GET /{names}/_stats?expand_wildcards=all"), "");
        for (index, about) in stats["indices"].as_object().expect("indices") {
            for part in
                ["docs", "indexing", "get", "search", "refresh", "flush", "query_cache", "request_cache"]
            {
                numbers(&about["primaries"][part], &format!("{index} {part}"), &mut all);
            }
        }
        let state = self.cluster.done(&format!("GET /_cluster/state/metadata/{names}"), "");
        for (index, about) in state["metadata"]["indices"].as_object().expect("indices") {
            for part in
                ["version", "mapping_version", "settings_version", "aliases_version", "state", "aliases"]
            {
                all.insert(format!("{index} {part}"), about[part].clone());
            }
        }
        // What a request makes beside them.
        let made = self.cluster.ask(&format!("GET /_cat/indices/{}*?h=index&s=index", self.names[0]), "");
        all.insert("made".into(), made.body.into());
        all
    }
}

fn numbers(value: &Value, path: &str, all: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(members) => {
            let steady = |name: &str| {
                ![
                    "time",
                    "current",
                    "bytes",
                    "concurrent",
                    "suggest",
                    "throttled",
                    "listeners",
                    "rate",
                    "load",
                ]
                .iter()
                .any(|moved| name.contains(moved))
            };
            for (name, value) in members.iter().filter(|(name, _)| steady(name)) {
                numbers(value, &format!("{path}.{name}"), all);
            }
        }
        Value::Number(_) => drop(all.insert(path.to_owned(), value.clone())),
        _ => {}
    }
}

fn differences(before: &BTreeMap<String, Value>, after: &BTreeMap<String, Value>) -> Vec<String> {
    let names = before.keys().chain(after.keys()).collect::<std::collections::BTreeSet<_>>();
    let moved = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
    moved.map(|name| format!("{name}: {:?} -> {:?}", before.get(name), after.get(name))).collect()
}

fn make(cluster: &Cluster, prefix: &str) {
    let name = |name: &str| format!("{prefix}{name}");
    let is_core = cluster.kind == Kind::Elasticsearch;
    for (index, user) in [
        ("granted-1", "kim"),
        ("granted-2", "lee"),
        ("secret", "kim"),
        ("secret-2", "lee"),
        ("others", "ann"),
    ] {
        let mut fields =
            json!({"user": {"type": "keyword"}, "text": {"type": "text"}, "at": {"type": "date"}});
        let mut document = json!({"user": user, "text": "hello crown", "at": "2026-01-01"});
        if is_core {
            fields["vector"] = json!({"type": "dense_vector", "dims": 2, "similarity": "l2_norm"});
            document["vector"] = json!([1, 2]);
        } else {
            fields["area"] = json!({"type": "geo_shape"});
            fields["query"] = json!({"type": "percolator"});
            document["area"] = json!({"type": "point", "coordinates": [5, 5]});
            document["query"] = json!({"match": {"text": "crown"}});
        }
        if index.starts_with("secret") || index == "others" {
            document["canary"] = json!(format!("{prefix}jewels"));
        }
        // Nothing is done to them by themselves.
        let settings = json!({"number_of_replicas": 0, "number_of_shards": 1, "refresh_interval": "-1"});
        let about = json!({"settings": settings, "mappings": {"properties": fields}});
        cluster.done(&format!("PUT /{}", name(index)), &about.to_string());
        cluster.done(&format!("PUT /{}/_doc/1?refresh", name(index)), &document.to_string());
    }
    let actions = json!({"actions": [
        {"add": {"indices": [name("granted-1"), name("granted-2")], "alias": name("granted-all")}},
        {"add": {"indices": [name("granted-1"), name("secret")], "alias": name("granted-mixed")}},
        {"add": {"index": name("granted-2"), "alias": name("mine"), "filter": {"term": {"user": "lee"}}}},
        {"add": {"index": name("secret"), "alias": name("theirs")}},
        {"add": {"index": name("secret-2"), "alias": name("granted-veiled")}},
    ]});
    cluster.done("POST /_aliases", &actions.to_string());
    let seeds =
        json!({"persistent": {"cluster.remote.me.seeds": [format!("127.0.0.1:{}", cluster.transport)]}});
    cluster.done("PUT /_cluster/settings", &seeds.to_string());
}

/// A node in front of it, and somebody with `granted-*` and `mine` at each level.
fn node(cluster: &'static Cluster, prefix: &str, target: &str) -> (Node<ClusterPlace>, Person) {
    let node = Node::in_front_of(cluster, prefix, target);
    let alice = node.user("alice");
    let patterns = [format!("{prefix}granted-*"), format!("{prefix}mine")];
    for level in ["read", "read_write", "admin"] {
        node.grant("alice", level, "1h", &["--database", &patterns[0], "--database", &patterns[1]]);
    }
    (node, alice)
}

/// What an answer tells of the others: their documents, and their names where nobody said them before.
fn tells(asked: &Asked, answer: &Answer, prefix: &str) -> Option<String> {
    let canary = format!("{prefix}jewels");
    let said = FORBIDDEN.map(|name| format!("{prefix}{name}"));
    let listed = |name: &&String| {
        answer.status == 200
            && answer.body.contains(&format!("\"{name}\""))
            && !asked.body.contains(name.as_str())
            && !asked.line.contains("_validate")
    };
    if answer.body.contains(&canary) {
        return Some(canary);
    }
    said.iter().find(listed).cloned()
}

fn nothing_else_is_touched_on(kind: Kind, seed: u64) {
    let cluster = shared(kind);
    // The same for the same seed, and another one in the same run is in nobody's way.
    let prefix = format!("u{seed:x}-");
    make(cluster, &prefix);
    let watch = Watch { cluster, names: FORBIDDEN.iter().map(|name| format!("{prefix}{name}")).collect() };
    let doors = [node(cluster, &prefix, ""), node(cluster, &prefix, "wildcards = \"resolve\"")];
    let mut clients: Vec<(HttpClient, String)> = doors
        .iter()
        .map(|(node, alice)| {
            let proof = STANDARD.encode(format!("alice:{}", alice.secret));
            (HttpClient::new(node.port), format!("Basic {proof}"))
        })
        .collect();
    let mut maker = Maker { random: Random(seed), prefix: prefix.clone(), kind };
    let asked: Vec<Asked> = (0..REQUESTS).map(|_| maker.request()).collect();
    let (mut served, mut refused) = (0, Vec::new());
    let mut before = watch.counters();
    for batch in asked.chunks(BATCH) {
        for (number, one) in batch.iter().enumerate() {
            let (client, proof) = &mut clients[number % 2];
            let answer = client.ask(proof, &one.line, &one.body);
            assert_ne!(answer.status, 0, "seed {seed}: {one:?}");
            served += usize::from(answer.status < 300);
            refused.extend((answer.status == 403).then_some(one));
            let told = tells(one, &answer, &prefix);
            assert!(told.is_none(), "seed {seed}: {one:?} tells of {told:?}: {answer:?}");
            if answer.head.contains("connection: close") {
                *client = HttpClient::new(doors[number % 2].0.port);
            }
        }
        let after = watch.counters();
        if before != after {
            blame(&watch, batch, &mut clients, (seed, &differences(&before, &after)));
        }
        before = after;
    }
    let moved = around(&watch, &refused, &prefix);
    let refused = refused.len();
    println!(
        "{kind:?}: {served} served, {refused} refused; {moved} of {DIRECT} of these touch others around the proxy"
    );
    assert!(served >= REQUESTS / 6, "{served} were served");
    assert!(refused >= REQUESTS / 5, "{refused} were refused");
    assert!(moved >= DIRECT / 8, "{moved} of {DIRECT} touched what is not granted when nobody stood between");
}

/// Which of these it was: each again, and what it moves.
fn blame(watch: &Watch<'_>, batch: &[Asked], clients: &mut [(HttpClient, String)], what: (u64, &[String])) {
    let mut found = Vec::new();
    let mut before = watch.counters();
    for (number, one) in batch.iter().enumerate() {
        let (client, proof) = &mut clients[number % 2];
        let answer = client.ask(proof, &one.line, &one.body);
        let after = watch.counters();
        if before != after {
            found.push(format!("{one:?} -> {}: {:?}", answer.status, differences(&before, &after)));
        }
        before = after;
    }
    panic!("seed {}: others were touched: {:#?}\nagain, one by one:\n{}", what.0, what.1, found.join("\n"));
}

/// How many of these touch what is not granted where nobody is in between.
fn around(watch: &Watch<'_>, asked: &[&Asked], prefix: &str) -> usize {
    let mut client = watch.cluster.client();
    let mut moved = 0;
    let mut before = watch.counters();
    // What would remove an index is not needed for this.
    for one in
        asked.iter().filter(|one| !one.line.starts_with("DELETE") || one.line.contains("_doc")).take(DIRECT)
    {
        let answer = client.ask("", &one.line, &one.body);
        let after = watch.counters();
        moved += usize::from(before != after || tells(one, &answer, prefix).is_some());
        before = after;
    }
    moved
}

/// The day, so that a suite which is run every day looks at more as time passes; `TIDEGATE_TEST_SEED` says another.
fn seed() -> u64 {
    let day = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 86_400);
    std::env::var("TIDEGATE_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(day)
}

#[test]
fn nothing_else_is_touched_on_opensearch() {
    nothing_else_is_touched_on(Kind::OpenSearch, seed());
}

#[test]
fn nothing_else_is_touched_on_elasticsearch() {
    nothing_else_is_touched_on(Kind::Elasticsearch, seed());
}
