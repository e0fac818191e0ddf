//! The official clients of Elasticsearch and OpenSearch on real clusters: what a scoped person does all day is what
//! they would see without the proxy, and nothing else is done.

use std::process::Command;

use crate::clients::{assert_same, client, installed, source};
use crate::support::cluster::{ClusterPlace, Kind};
use crate::support::{Node, Person, text};

fn python() -> Command {
    let mut command = client(installed("http-python/bin/python"));
    command.arg(source("http/python/session.py"));
    command
}

fn node_js() -> Command {
    let mut command = client("node");
    command.env("NODE_PATH", installed("http-node/node_modules")).arg(source("http/node/session.js"));
    command
}

/// What it prints, which must succeed.
fn output(mut command: Command, node: &Node<ClusterPlace>, person: Option<&Person>, part: &str) -> String {
    let cluster = node.place.cluster;
    let product = if cluster.kind == Kind::Elasticsearch { "elasticsearch" } else { "opensearch" };
    let (port, name, secret) = match person {
        Some(person) => (node.port, person.name.as_str(), person.secret.as_str()),
        None if cluster.kind == Kind::Secured => (cluster.clear, "admin", "admin"),
        None => (cluster.port, "", ""),
    };
    let output = command
        .args([product, part])
        .env("TEST_URL", format!("http://localhost:{port}"))
        .env("TEST_USER", name)
        .env("TEST_SECRET", secret)
        .env("TEST_PREFIX", &node.place.prefix)
        .output()
        .expect("timeout is part of coreutils");
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// The same around the proxy and through it for a person with `PREFIXlogs-*`; then what they must not.
fn same_both_ways(kind: Kind, lines: usize, command: fn() -> Command) {
    // Where wildcards are narrowed, all of that is answered from what is theirs.
    let node = Node::cluster_with(kind, "wildcards = \"resolve\"");
    let alice = node.user("alice");
    for level in ["read", "admin"] {
        node.grant("alice", level, "1h", &["--database", &node.place.name("logs-*")]);
    }
    let secret = node.place.name("secret");
    node.place.cluster.done(&format!("PUT /{secret}/_doc/1?refresh"), r#"{"users":["kim"]}"#);
    let expected = output(command(), &node, None, "day");
    assert!(expected.lines().count() >= lines, "the program did too little:\n{expected}");
    assert_same(&expected, &output(command(), &node, Some(&alice), "day"), crate::clients::Mode::Plain);
    let asked = node.place.tap.asked().len();
    let before = node.place.cluster.done(&format!("GET /{secret}/_search"), "");
    let refused = output(command(), &node, Some(&alice), "refusals");
    for line in refused.lines() {
        // The JavaScript client of OpenSearch ends that path with a slash, which is no path here.
        assert!(line.ends_with(": 403") || line == "nodes: 400", "{line}");
    }
    assert!(refused.lines().count() >= 12, "{refused}");
    assert_eq!(node.place.tap.asked().len(), asked, "something was sent");
    let after = node.place.cluster.done(&format!("GET /{secret}/_search"), "");
    assert_eq!(before["hits"], after["hits"]);
}

#[test]
fn python_on_opensearch() {
    same_both_ways(Kind::OpenSearch, 44, python);
}

#[test]
fn python_on_opensearch_with_security() {
    same_both_ways(Kind::Secured, 44, python);
}

#[test]
fn python_on_elasticsearch() {
    same_both_ways(Kind::Elasticsearch, 40, python);
}

#[test]
fn javascript_on_opensearch() {
    same_both_ways(Kind::OpenSearch, 15, node_js);
}

#[test]
fn javascript_on_opensearch_with_security() {
    same_both_ways(Kind::Secured, 15, node_js);
}

#[test]
fn javascript_on_elasticsearch() {
    same_both_ways(Kind::Elasticsearch, 15, node_js);
}
