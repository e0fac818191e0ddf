//! What the vendors' own tests of their API ask, around the proxy and through it: the answers are the same.

use crate::clients::{client, installed, source};
use crate::support::cluster::{Cluster, Kind, fetched};
use crate::support::{Node, text};

/// Folders, or files, of the vendor's tests: those of reads that are served, and enough of the others to have something
/// to read.
const FOLDERS: [&str; 32] = [
    "count",
    "create/10*",
    "get",
    "exists",
    "get_source",
    "mget",
    "msearch/1*",
    "explain",
    "field_caps/1*",
    "termvectors",
    "mtermvectors",
    "bulk/1*",
    "update/10*",
    "info",
    "search/10*",
    "search/20*",
    "search/30*",
    "search.aggregation/20*",
    "search.highlight",
    "search.inner_hits",
    "suggest",
    "cat.count",
    "cat.aliases",
    "cluster.health",
    "indices.get_mapping/1*",
    "indices.get_settings",
    "indices.get_alias/1*",
    "indices.exists",
    "indices.stats/1*",
    "indices.analyze",
    "indices.validate_query",
    "indices.resolve_index",
];

/// Of requests that were compared for each person.
const COMPARED_MIN: u64 = 250;

fn answers_are_the_same_on(kind: Kind, specification: &str) {
    // One of its own, as all there is is removed now and then.
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start(kind)));
    let node = Node::in_front_of(cluster, "");
    let root = node.user("root");
    node.grant("root", "admin", "1h", &["--database", "*"]);
    // Whatever an index is called, and still not everything.
    let alice = node.user("alice");
    let every: Vec<String> = ('a'..='z').chain('0'..='9').map(|first| format!("{first}*")).collect();
    let every: Vec<&str> = every.iter().flat_map(|pattern| ["--database", pattern]).collect();
    node.grant("alice", "admin", "1h", &every);
    let mut command = client(installed("http-python/bin/python"));
    command.arg(source("http/python/differential.py"));
    command.arg(fetched("specifications").join(specification)).args(FOLDERS);
    let output = command
        .env("TEST_DIRECT", cluster.port.to_string())
        .env("TEST_PROXIED", node.port.to_string())
        .env("TEST_EVERYTHING", format!("root:{}", root.secret))
        .env("TEST_NAMES", format!("alice:{}", alice.secret))
        .output()
        .expect("timeout is part of coreutils");
    cluster.stop();
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    let last = said.lines().last().expect("it counts");
    println!("{kind:?}: {last}");
    assert!(said.lines().count() == 1, "{said}");
    let counts: serde_json::Value = serde_json::from_str(last).expect("JSON");
    for person in ["everything", "names"] {
        let same = counts[format!("{person}, the same")].as_u64().unwrap_or_default();
        assert!(same >= COMPARED_MIN, "{person}: {last}");
    }
}

#[test]
fn answers_are_the_same_on_opensearch() {
    answers_are_the_same_on(Kind::OpenSearch, "opensearch-3.1.0");
}

#[test]
fn answers_are_the_same_on_elasticsearch() {
    answers_are_the_same_on(Kind::Elasticsearch, "elasticsearch-7.10.2");
}
