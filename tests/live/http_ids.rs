//! Ids of what a target keeps open: given to one person under one grant, and closed with it.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::cluster::Kind;
use crate::support::http::{Answer, HttpPlace, Seen, request};
use crate::support::{Node, PATIENCE, Person, wait_until};

fn of(person: &Person) -> String {
    format!("Basic {}", STANDARD.encode(format!("{}:{}", person.name, person.secret)))
}

fn member(answer: &Answer, name: &str) -> String {
    assert_eq!(answer.status, 200, "{answer:?}");
    let body: Value = serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("{answer:?}"));
    body[name].as_str().unwrap_or_else(|| panic!("no {name}: {answer:?}")).to_owned()
}

#[track_caller]
fn refused(answer: &Answer, code: &str) {
    assert!(answer.status == 403 && answer.body.contains(code), "{answer:?}");
}

fn last(node: &Node<HttpPlace>) -> Seen {
    node.place.seen().pop().expect("something was sent")
}

/// The id of the last grant of a person.
fn grant_of(node: &Node<HttpPlace>, person: &str) -> String {
    let grants = node.json(&["grant", "list"]);
    let grants = grants.as_array().expect("a list");
    let theirs = grants.iter().rfind(|grant| grant["subject"]["user"] == person).expect("they have one");
    crate::support::field(theirs, "id")
}

#[test]
fn an_id_is_for_who_was_given_it() {
    let node = Node::opensearch();
    let [alice, bob] = ["alice", "bob"].map(|name| {
        let person = node.user(name);
        node.grant(name, "read", "1h", &["--database", "logs-*"]);
        person
    });
    let mut client = node.client();
    let scroll = member(&client.ask(&of(&alice), "POST /logs-1/_search?scroll=1m", "{}"), "_scroll_id");
    let body = |id: &str| json!({"scroll": "1m", "scroll_id": id}).to_string();
    assert_ne!(scroll, "raw-scroll");
    let next = client.ask(&of(&alice), "POST /_search/scroll", &body(&scroll));
    let again = member(&next, "_scroll_id");
    assert!(again != "raw-scroll" && again != scroll, "{next:?}");
    assert_eq!(last(&node).body, body("raw-scroll"));
    assert_eq!(last(&node).header("accept-encoding"), None);
    // In the path and in a parameter as well.
    for (line, sent) in [
        (format!("GET /_search/scroll/{scroll}?scroll=1m"), "GET /_search/scroll/raw-scroll?scroll=1m"),
        (
            format!("GET /_search/scroll?scroll=1m&scroll_id={scroll}"),
            "GET /_search/scroll?scroll=1m&scroll_id=raw-scroll",
        ),
    ] {
        assert_ne!(member(&client.ask(&of(&alice), &line, ""), "_scroll_id"), "raw-scroll");
        assert_eq!(last(&node).line, format!("{sent} HTTP/1.1"));
    }
    let pit =
        member(&client.ask(&of(&alice), "POST /logs-1/_search/point_in_time?keep_alive=1m", ""), "pit_id");
    let search = |id: &str| json!({"pit": {"id": id, "keep_alive": "1m"}, "size": 1}).to_string();
    let answer = client.ask(&of(&alice), "POST /_search", &search(&pit));
    assert!(!answer.body.contains("raw") && answer.body.contains("\"pit_id\":\"no\""), "{answer:?}");
    assert_eq!(
        (last(&node).line.as_str(), last(&node).body.as_str()),
        ("POST /_search HTTP/1.1", search("raw-pit").as_str())
    );
    let elastic = member(&client.ask(&of(&alice), "POST /logs-*/_pit?keep_alive=1m", ""), "id");
    assert!(last(&node).line.starts_with("POST /*,-*/_pit?"), "there is no index: {:?}", last(&node));
    let running = member(&client.ask(&of(&alice), "POST /logs-1/_async_search", "{}"), "id");
    assert_ne!(
        member(&client.ask(&of(&alice), &format!("GET /_async_search/{running}"), ""), "id"),
        "raw-async"
    );
    // Nobody else's, whatever they may do; not what the target gave; and not all of them at once.
    let sent = node.place.seen().len();
    for (person, line, body) in [
        (&bob, "POST /_search/scroll".to_owned(), body(&scroll)),
        (&alice, "POST /_search/scroll".to_owned(), body("raw-scroll")),
        (&bob, "POST /_search".to_owned(), search(&pit)),
        (&alice, "POST /_search".to_owned(), search("raw-pit")),
        (&bob, "DELETE /_search/scroll".to_owned(), json!({"scroll_id": [scroll]}).to_string()),
        (&bob, format!("DELETE /_search/scroll/{scroll}"), String::new()),
        (&bob, format!("GET /_async_search/{running}"), String::new()),
        (&bob, format!("DELETE /_async_search/{running}"), String::new()),
        (&bob, "DELETE /_pit".to_owned(), json!({"id": elastic}).to_string()),
        (&bob, "DELETE /_search/point_in_time".to_owned(), json!({"pit_id": [pit]}).to_string()),
        (&alice, "DELETE /_search/scroll/_all".to_owned(), String::new()),
        (&alice, "DELETE /_search/point_in_time/_all".to_owned(), String::new()),
        (&alice, "DELETE /_search/scroll".to_owned(), json!({"scroll_id": "_all"}).to_string()),
    ] {
        refused(&client.ask(&of(person), &line, &body), "TG009");
    }
    for (line, body) in [
        ("DELETE /_search/scroll", String::new()),
        ("DELETE /_pit", String::new()),
        ("POST /logs-1/_search", search(&pit)),
        ("POST /logs-1/_search?scroll=1m&filter_path=hits", "{}".to_owned()),
        ("POST /logs-1/_search?scroll=soon", "{}".to_owned()),
    ] {
        let answer = client.ask(&of(&alice), line, &body);
        assert_eq!(answer.status, 400, "{line}: {answer:?}");
    }
    assert_eq!(node.place.seen().len(), sent);
    // Closed by who has it, and one that is of another kind of index all the same.
    let both = json!({"scroll_id": [scroll, again]}).to_string();
    assert_eq!(client.ask(&of(&alice), "DELETE /_search/scroll", &both).status, 200);
    assert_eq!(last(&node).body, r#"{"scroll_id":["raw-scroll","raw-scroll"]}"#);
    assert_eq!(client.ask(&of(&alice), "DELETE /_pit", &json!({"id": elastic}).to_string()).status, 200);
    assert_eq!(last(&node).body, r#"{"id":"raw-pit"}"#);
    // Who may do everything is no exception.
    let root = node.user("root");
    node.grant("root", "admin", "1h", &["--database", "*"]);
    refused(&client.ask(&of(&root), "POST /_search", &search("raw-pit")), "TG009");
    let own = member(&client.ask(&of(&root), "POST /_search?scroll=1m", "{}"), "_scroll_id");
    assert_eq!(client.ask(&of(&root), "POST /_search/scroll", &body(&own)).status, 200);
    refused(&client.ask(&of(&alice), "POST /_search/scroll", &body(&own)), "TG009");
}

#[test]
fn what_a_grant_left_open_is_closed_with_it() {
    let node = Node::opensearch();
    let alice = node.user("alice");
    node.grant("alice", "read", "1h", &["--database", "logs-*"]);
    let first = grant_of(&node, "alice");
    let mut client = node.client();
    let scroll = member(&client.ask(&of(&alice), "POST /logs-1/_search?scroll=1m", "{}"), "_scroll_id");
    client.ask(&of(&alice), "POST /logs-1/_async_search", "{}");
    let pit =
        member(&client.ask(&of(&alice), "POST /logs-1/_search/point_in_time?keep_alive=1m", ""), "pit_id");
    let search = json!({"pit": {"id": pit}}).to_string();
    assert_eq!(client.ask(&of(&alice), "POST /_search", &search).status, 200);
    // Another grant that covers the same is another one.
    node.grant("alice", "read", "2h", &["--database", "logs-*"]);
    let body = json!({"scroll": "1m", "scroll_id": scroll}).to_string();
    assert_eq!(
        client.ask(&of(&alice), "POST /_search/scroll", &body).status,
        200,
        "the one that it was given under"
    );
    let sent = node.place.seen().len();
    node.done(&["grant", "revoke", &first]);
    wait_until("all three are closed at the target", Duration::from_secs(3), || {
        node.place.seen().len() >= sent + 3
    });
    let mut closed: Vec<_> =
        node.place.seen().split_off(sent).into_iter().map(|seen| (seen.line, seen.body)).collect();
    closed.sort();
    let expected = [
        ("DELETE /_async_search/raw-async HTTP/1.1", ""),
        ("DELETE /_search/point_in_time HTTP/1.1", r#"{"pit_id":["raw-pit-2"]}"#),
        ("DELETE /_search/scroll HTTP/1.1", r#"{"scroll_id":["raw-scroll"]}"#),
    ];
    assert_eq!(closed, expected.map(|(line, body)| (line.to_owned(), body.to_owned())));
    refused(&client.ask(&of(&alice), "POST /_search/scroll", &body), "TG00");
    refused(&client.ask(&of(&alice), "POST /_search", &search), "TG00");
    assert_eq!(client.ask(&of(&alice), "GET /logs-1/_search", "").status, 200);
    // Somebody may leave so many open, and no more.
    for _ in 0..100 {
        // The stand-in gives one id for all, so they are one.
        assert_eq!(client.ask(&of(&alice), "POST /logs-1/_search?scroll=1m", "{}").status, 200);
    }
}

/// What may have been opened by an answer that nobody waited for is counted as well; what was not opened is not.
#[test]
fn who_does_not_wait_for_ids_leaves_no_more_open() {
    let node = Node::opensearch();
    let alice = node.user("alice");
    node.grant("alice", "read", "1h", &["--database", "logs-*"]);
    for round in 0..105 {
        let mut client = node.client();
        // The target knows no login of this name, and opens nothing.
        client.ask(&of(&alice), "POST /logs-denied/_search?scroll=1m", "{}");
        client.send(&request(&of(&alice), &format!("POST /logs-never{round}/_search?scroll=1m"), "{}"));
        match round {
            0..100 => node.place.wait_seen(&format!("never{round}/")),
            _ => refused(&client.answer(false), "TG009"),
        }
    }
    for (accept, sent) in [
        (
            "text/csv, application/vnd.elasticsearch+json; compatible-with=9",
            "application/vnd.elasticsearch+json; compatible-with=9",
        ),
        ("application/yaml;q=1, */*", "application/json"),
    ] {
        node.grant("alice", "read_write", "1h", &["--database", "other"]);
        let head = format!("Accept: {accept}\r\nContent-Type: application/json\r\nContent-Length: 2");
        let mut client = node.client();
        client.send(&format!(
            "POST /other/_search?scroll=1m HTTP/1.1\r\nHost: a\r\nAuthorization: {}\r\n{head}\r\n\r\n{{}}",
            of(&alice)
        ));
        assert_eq!(client.answer(false).status, 200);
        assert_eq!(last(&node).header("accept"), Some(sent));
    }
}

/// What is open at a cluster.
fn open(node: &Node<crate::support::cluster::ClusterPlace>) -> u64 {
    let stats = node.place.cluster.done("GET /_nodes/stats/indices/search", "");
    let nodes = stats["nodes"].as_object().expect("nodes");
    nodes.values().filter_map(|node| node["indices"]["search"]["open_contexts"].as_u64()).sum()
}

/// A scroll and a point in time go through all documents, and nothing of them is left when the grant ends.
fn real(kind: Kind) {
    let node = Node::cluster(kind);
    let [alice, bob] = ["alice", "bob"].map(|name| node.user(name));
    for name in ["alice", "bob"] {
        node.grant(name, "read", "1h", &["--database", &node.place.name("logs-*")]);
    }
    let logs = node.place.name("logs-1");
    for number in 0..5 {
        node.place
            .cluster
            .done(&format!("PUT /{logs}/_doc/{number}?refresh"), &json!({"n": number}).to_string());
    }
    let mut client = node.client();
    let mut ask = |person: &Person, line: &str, body: Value| {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        client.ask(&of(person), line, &body)
    };
    let hits = |answer: &Answer| {
        let body: Value = serde_json::from_str(&answer.body).expect("JSON");
        body["hits"]["hits"].as_array().map_or(0, Vec::len)
    };
    let mut answer = ask(&alice, &format!("POST /{logs}*/_search?scroll=1m"), json!({"size": 2}));
    let mut found = hits(&answer);
    let mut id = member(&answer, "_scroll_id");
    let first = id.clone();
    while found < 5 {
        answer = ask(&alice, "POST /_search/scroll", json!({"scroll": "1m", "scroll_id": id}));
        assert!(hits(&answer) > 0, "{found}: {answer:?}");
        found += hits(&answer);
        id = member(&answer, "_scroll_id");
    }
    refused(&ask(&bob, "POST /_search/scroll", json!({"scroll": "1m", "scroll_id": id})), "TG009");
    let (pits, member_of, close) = match kind {
        Kind::Elasticsearch => ("_pit", "id", "/_pit"),
        _ => ("_search/point_in_time", "pit_id", "/_search/point_in_time"),
    };
    let opened = client_pit(&mut ask, &alice, &format!("POST /{logs}/{pits}?keep_alive=1m"));
    if let Some(answer) = opened {
        let pit = member(&answer, member_of);
        let search = json!({"pit": {"id": pit, "keep_alive": "1m"}, "query": {"match_all": {}}});
        let answer = ask(&alice, "POST /_search", search.clone());
        assert_eq!(hits(&answer), 5, "{answer:?}");
        let again = member(&answer, "pit_id");
        refused(&ask(&bob, "POST /_search", search), "TG009");
        let id = if member_of == "id" { json!(again) } else { json!([again]) };
        let answer = ask(&alice, &format!("DELETE {close}"), json!({member_of: id}));
        assert_eq!(answer.status, 200, "{answer:?}");
        // One more, which is left open.
        assert!(client_pit(&mut ask, &alice, &format!("POST /{logs}/{pits}?keep_alive=1m")).is_some());
    }
    assert!(open(&node) > 0);
    let grants = node.json(&["grant", "list"]);
    let grant = grants
        .as_array()
        .expect("a list")
        .iter()
        .find(|grant| grant["subject"]["user"] == "alice")
        .expect("hers");
    node.done(&["grant", "revoke", &crate::support::field(grant, "id")]);
    wait_until("nothing is open at the cluster", PATIENCE, || open(&node) == 0);
    refused(&ask(&alice, "POST /_search/scroll", json!({"scroll": "1m", "scroll_id": first})), "TG00");
}

/// `None`: the server has no such route.
fn client_pit(
    ask: &mut impl FnMut(&Person, &str, Value) -> Answer,
    person: &Person,
    line: &str,
) -> Option<Answer> {
    let answer = ask(person, line, Value::Null);
    (!answer.body.contains("no handler found")).then_some(answer)
}

#[test]
fn scrolls_and_points_in_time_on_opensearch() {
    real(Kind::OpenSearch);
}

#[test]
fn scrolls_and_points_in_time_on_elasticsearch() {
    real(Kind::Elasticsearch);
}
