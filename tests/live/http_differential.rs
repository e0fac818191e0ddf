//! What the vendors' own tests of their API ask, around the proxy and through it: the answers are the same.

use crate::clients::{client, installed, source};
use crate::support::cluster::{Cluster, Kind, fetched};
use crate::support::{Node, text};

/// Folders, or files, of the vendor's tests: those of reads that are served, and enough of the others to have something
/// to read.
const FOLDERS: [&str; 23] = [
    "count",
    "create/10*",
    "get",
    "exists/1*",
    "get_source/1*",
    "mget/1*",
    "msearch/10*",
    "explain/1*",
    "field_caps/10*",
    "termvectors/10*",
    "mtermvectors/10*",
    "bulk/10*",
    "info",
    "search/10*",
    "search/20*",
    "search.highlight/10*",
    "suggest/10*",
    "cat.count",
    "cat.aliases",
    "indices.get_settings",
    "indices.get_alias/10*",
    "indices.stats/10*",
    "indices.analyze/10*",
];

/// Of requests that were compared, for somebody with a grant for everything.
const COMPARED_MIN: u64 = 150;
/// The same for somebody whose grant covers names.
const NAMED_MIN: u64 = 80;

fn answers_are_the_same_on(kind: Kind, specification: &str) {
    // One of its own, as all there is is removed now and then.
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start(kind)));
    let node = Node::in_front_of(cluster, "", "");
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
    for (person, min) in [("everything", COMPARED_MIN), ("names", NAMED_MIN)] {
        let same = counts[format!("{person}, the same")].as_u64().unwrap_or_default();
        assert!(same >= min, "{person}: {last}");
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
