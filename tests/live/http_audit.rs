//! What the trail says of requests on real clusters: how much each is about, and what a `_bulk` does to which index.

use serde_json::{Value, json};

use crate::support::cluster::{ClusterPlace, Kind};
use crate::support::{Node, Person};

fn proof(person: &Person) -> String {
    use base64::Engine;
    let login = format!("{}:{}", person.name, person.secret);
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(login))
}

/// Alice with `PREFIXlogs-*`; `logs-a` is another name for `logs-1`.
fn node(kind: Kind, bodies: &str) -> (Node<ClusterPlace>, Person) {
    let node = Node::cluster_with(kind, &format!("bodies = \"{bodies}\"\n"));
    let alice = node.user("alice");
    let name = |name: &str| node.place.name(name);
    node.grant("alice", "read_write", "1h", &["--database", &name("logs-*")]);
    let cluster = node.place.cluster;
    cluster.done(&format!("PUT /{}", name("logs-1")), "");
    let actions = json!({"actions": [{"add": {"index": name("logs-1"), "alias": name("logs-a")}}]});
    cluster.done("POST /_aliases", &actions.to_string());
    (node, alice)
}

/// Sends it, and gives what the trail says of its result.
fn told(node: &Node<ClusterPlace>, alice: &Person, line: &str, body: &str) -> (u16, Value) {
    let mut client = node.client();
    let answer = client.ask(&proof(alice), line, body);
    let begins = |text: &Value| text.as_str().is_some_and(|text| text.starts_with(line));
    // The same line may have been sent before.
    let of_event = |event: &str| node.events(event).into_iter().rfind(|found| begins(&found["text"]));
    node.wait_event("statement", |found| begins(&found["text"]));
    let statement = of_event("statement").expect("just seen");
    (answer.status, node.result_of(&statement))
}

/// An action, with a document of this size.
fn action(action: &str, index: &str, id: usize, bytes: usize) -> String {
    let line = json!({action: {"_index": index, "_id": id.to_string()}});
    match action {
        "delete" => format!("{line}\n"),
        _ => format!("{line}\n{}\n", json!({"user": "kim", "text": "x".repeat(bytes)})),
    }
}

fn bulks(kind: Kind, bodies: &str) {
    let (node, alice) = node(kind, bodies);
    let name = |name: &str| node.place.name(name);
    let (one, two, alias) = (name("logs-1"), name("logs-2"), name("logs-a"));
    // Some of it comes behind what is decided on at first where bodies are streamed.
    let mut body = String::new();
    (0..300).for_each(|id| body += &action("index", &one, id, 1_000));
    (0..20).for_each(|id| body += &action("create", &two, id, 10));
    (300..310).for_each(|id| body += &action("index", &alias, id, 10));
    assert!(body.len() > 256 << 10);
    let (status, result) = told(&node, &alice, "POST /_bulk?refresh", &body);
    assert_eq!((status, &result["tag"]), (200, &json!("200")), "{result}");
    assert_eq!((&result["rows"], &result["counted"]), (&json!(330), &json!("documents")), "{result}");
    let actions = json!({"index": {one.clone(): 300, alias.clone(): 10}, "create": {two.clone(): 20}});
    assert_eq!(result["actions"], actions, "{result}");
    assert_eq!(result["stands_for"], json!({alias.clone(): [one.clone()]}), "{result}");
    // Names that the path says, and actions of which some come to nothing.
    let mut body = String::from("{\"index\":{}}\n{\"user\":\"lee\"}\n");
    body += &action("create", &two, 0, 10);
    body += &action("delete", &two, 1, 0);
    body += &action("delete", &two, 999, 0);
    let (status, result) = told(&node, &alice, &format!("POST /{one}/_bulk?refresh=true"), &body);
    assert_eq!((status, &result["rows"]), (200, &json!(2)), "{result}");
    assert_eq!(
        result["actions"],
        json!({"index": {one.clone(): 1}, "create": {two.clone(): 1}, "delete": {two.clone(): 2}}),
        "{result}"
    );
    // What its client does not want to know of the answer is not made up.
    let body = action("index", &two, 5, 10);
    let (_, result) = told(&node, &alice, &format!("POST /{two}/_bulk?filter_path=took"), &body);
    assert_eq!((&result["rows"], &result["counted"]), (&json!(0), &Value::Null), "{result}");
    assert_eq!(result["actions"], json!({"index": {two.clone(): 1}}), "{result}");
    // As people read it.
    let shown = node.done(&["audit", "search", "--user", "alice"]);
    let counts = format!("200, 330 documents, [create 20 {two}, index 300 {one}, index 10 {alias} ({one})]");
    assert!(shown.contains(&counts), "{shown}");
    let lines = node.done(&["audit", "search", "--user", "alice", "--event", "result", "--json"]);
    assert!(lines.contains("\"counted\":\"documents\",\"actions\":{\"create\":{"), "{lines}");
    // More names than have counts of their own; a grant for everything, whose names are looked up too.
    let root = node.user("root");
    node.grant("root", "read_write", "1h", &["--database", "*"]);
    let body: String = (0..70).map(|id| action("delete", &name(&format!("none-{id:02}")), id, 0)).collect();
    let (_, result) =
        told(&node, &root, "POST /_bulk?refresh=false", &(body + &action("delete", &alias, 0, 0)));
    assert_eq!(result["actions"]["delete"].as_object().map(serde_json::Map::len), Some(64), "{result}");
    assert_eq!(result["actions_of_others"], json!({"delete": 7}), "{result}");
    assert_eq!(result["rows"], 1, "{result}");
}

fn answers(kind: Kind) {
    let (node, alice) = node(kind, "whole");
    let name = |name: &str| node.place.name(name);
    let (one, two) = (name("logs-1"), name("logs-2"));
    let documents: String = (0..30).map(|id| action("index", [&one, &two][id % 3 % 2], id, 10)).collect();
    node.place.cluster.done("POST /_bulk?refresh", &documents);
    let all = name("logs-*");
    let mget = json!({"docs": [{"_index": one, "_id": "0"}, {"_index": two, "_id": "1"}, {"_index": one, "_id": "no"}]});
    let searches = format!("{{\"index\":\"{one}\"}}\n{{}}\n{{\"index\":\"{two}\"}}\n{{\"size\":0}}\n");
    for (line, body, rows, counted) in [
        (format!("GET /{one},{two}/_search?size=3"), String::new(), 30, "hits"),
        (format!("GET /{one}/_search?rest_total_hits_as_int=true"), String::new(), 20, "hits"),
        (format!("GET /{one}/_search?track_total_hits=false&size=7"), String::new(), 7, "hits"),
        (format!("GET /{two}/_search?q=user:nobody"), String::new(), 0, "hits"),
        (format!("POST /{one}/_search?scroll=1m&size=2"), "{}".into(), 20, "hits"),
        ("POST /_msearch".into(), searches, 30, "hits"),
        (format!("GET /{two}/_count"), String::new(), 10, "documents"),
        ("POST /_mget".into(), mget.to_string(), 2, "documents"),
        (format!("GET /{one}/_doc/0"), String::new(), 1, "documents"),
        (format!("GET /{one}/_doc/no"), String::new(), 0, "documents"),
        (format!("PUT /{two}/_doc/new?refresh=true"), "{}".into(), 1, "documents"),
        (format!("POST /{two}/_update/new"), r#"{"doc":{"a":1}}"#.into(), 1, "documents"),
        (format!("DELETE /{two}/_doc/new?refresh=true"), String::new(), 1, "documents"),
        (format!("DELETE /{two}/_doc/gone"), String::new(), 0, "documents"),
    ] {
        let (_, result) = told(&node, &alice, &line, &body);
        assert_eq!(
            (&result["rows"], &result["counted"]),
            (&json!(rows), &json!(counted)),
            "{line}: {result}"
        );
        assert_eq!(result["at_least"], Value::Null, "{line}: {result}");
    }
    // What says nothing of that.
    for line in [format!("GET /{one}/_mapping"), format!("POST /{one}/_refresh"), "GET /".to_owned()] {
        let (_, result) = told(&node, &alice, &line, "");
        assert_eq!((&result["rows"], &result["counted"]), (&json!(0), &Value::Null), "{line}: {result}");
    }
    // There may be more than are counted, and the cluster says so.
    let (_, result) = told(&node, &alice, &format!("GET /{one}/_search?track_total_hits=5"), "");
    assert_eq!((&result["rows"], &result["at_least"]), (&json!(5), &json!(true)), "{result}");
    if kind == Kind::Elasticsearch {
        // Its core changes and copies by no query.
        return;
    }
    let copy = json!({"source": {"index": two}, "dest": {"index": name("logs-3")}});
    for (line, body, rows) in [
        ("POST /_reindex?refresh=true".to_owned(), copy.to_string(), 10),
        (format!("POST /{all}/_update_by_query?refresh=true"), "{}".to_owned(), 40),
        (
            format!("POST /{two}/_delete_by_query?refresh=true"),
            r#"{"query":{"match_all":{}}}"#.to_owned(),
            10,
        ),
    ] {
        let mut client = node.client();
        let answer = client.ask(&proof(&alice), &line, &body);
        assert_eq!(answer.status, 200, "{line}: {answer:?}");
        let action = line.rsplit('/').next().expect("a part");
        let statement = node.wait_event("statement", |found| {
            found["text"].as_str().is_some_and(|text| text.contains(action))
        });
        let result = node.result_of(&statement);
        assert_eq!(
            (&result["rows"], &result["counted"]),
            (&json!(rows), &json!("documents")),
            "{line}: {result}"
        );
    }
}

#[test]
fn bulks_are_counted_on_opensearch() {
    bulks(Kind::OpenSearch, "whole");
}

#[test]
fn bulks_that_are_streamed_are_counted_on_opensearch() {
    bulks(Kind::OpenSearch, "stream");
}

#[test]
fn bulks_are_counted_on_elasticsearch() {
    bulks(Kind::Elasticsearch, "whole");
}

#[test]
fn bulks_that_are_streamed_are_counted_on_elasticsearch() {
    bulks(Kind::Elasticsearch, "stream");
}

#[test]
fn answers_are_counted_on_opensearch() {
    answers(Kind::OpenSearch);
}

#[test]
fn answers_are_counted_on_elasticsearch() {
    answers(Kind::Elasticsearch);
}
