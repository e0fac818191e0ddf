//! EQL and ES|QL. No Elasticsearch that has them is published whole, so what is seen here is what a target is sent, and
//! what it is not.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::http::{Answer, HttpPlace, Seen};
use crate::support::{Node, Person, field, wait_until};

fn of(person: &Person) -> String {
    format!("Basic {}", STANDARD.encode(format!("{}:{}", person.name, person.secret)))
}

/// Alice with `logs-*`; beside that an alias of a secret, and one of her own.
fn node() -> (Node<HttpPlace>, Person) {
    let node = Node::opensearch();
    let alice = node.user("alice");
    node.grant("alice", "read", "1h", &["--database", "logs-*"]);
    node.place.set_indices(&["logs-1", "logs-2", "secret"]);
    node.place.set_aliases(r#"{"secret":{"aliases":{"logs-both":{}}},"logs-1":{"aliases":{"logs-all":{}}}}"#);
    (node, alice)
}

fn last(node: &Node<HttpPlace>) -> Seen {
    node.place.seen().pop().expect("something was sent")
}

fn member(answer: &Answer, name: &str) -> String {
    let body: Value = serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("{answer:?}"));
    body[name].as_str().unwrap_or_else(|| panic!("no {name}: {answer:?}")).to_owned()
}

#[test]
fn a_query_is_sent_with_what_the_grant_covers() {
    let (node, alice) = node();
    let mut client = node.client();
    let alices = of(&alice);
    for (query, sent) in [
        ("FROM logs-1 | LIMIT 1", "FROM logs-1 | LIMIT 1"),
        ("FROM logs-all | LOOKUP JOIN logs-2 ON x", "FROM logs-all | LOOKUP JOIN logs-2 ON x"),
        ("FROM logs-* | WHERE x == \"logs-*\"", "FROM logs-1, logs-2 | WHERE x == \"logs-*\""),
        ("FROM * | LIMIT 1", "FROM logs-1, logs-2 | LIMIT 1"),
        ("FROM \"*,-logs-1\" METADATA _id", "FROM logs-2 METADATA _id"),
        ("FROM logs-1*, (FROM s*, l*2)", "FROM logs-1, (FROM logs-2)"),
        ("ROW a = \"FROM secret\"", "ROW a = \"FROM secret\""),
    ] {
        let body = json!({"query": query, "params": ["secret"], "columnar": true});
        let answer = client.ask(&alices, "POST /_query?format=csv", &body.to_string());
        assert_eq!(answer.status, 200, "{query}: {answer:?}");
        let seen = last(&node);
        let body: Value = serde_json::from_str(&seen.body).expect("JSON");
        let wanted = json!({"query": sent, "params": ["secret"], "columnar": true});
        assert_eq!((seen.line.as_str(), body), ("POST /_query?format=csv HTTP/1.1", wanted));
    }
    let answer =
        client.ask(&alices, "GET /logs-*/_eql/search", r#"{"query":"any where index == \"secret\""}"#);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(last(&node).line, "GET /logs-1,logs-2/_eql/search HTTP/1.1");
}

#[test]
fn what_a_query_hides_is_not_sent() {
    let (node, alice) = node();
    let mut client = node.client();
    let alices = of(&alice);
    let sent = node.place.seen().len();
    let query = |query: &str| ("POST /_query".to_owned(), json!({"query": query}).to_string());
    let eql = |index: &str, more: Value| {
        let mut body = json!({"query": "any where true"});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        (format!("POST /{index}/_eql/search"), body.to_string())
    };
    let lookup = json!({"terms": {"f": {"index": "secret", "id": "1", "path": "p"}}});
    for (line, body) in [
        query("FROM secret"),
        query("from\n/* logs-1 */ SECRET, secret"),
        query("FROM logs-1, secret"),
        query("FROM logs-1,secret | LIMIT 1"),
        query("FROM \"secret\""),
        query("FROM \"\"\"secret\"\"\""),
        query("FROM \"logs-1,secret\""),
        query("FROM logs-both"),
        query("FROM s*"),
        query("FROM logs-b*"),
        query("FROM logs-1 | LOOKUP JOIN secret ON x"),
        query("FROM logs-1 | lookup /* x */ join \"secret\" on x"),
        query("FROM logs-1 | LOOKUP JOIN logs-both ON x"),
        query("FROM logs-1 | WHERE x == \"\\\\\" | LOOKUP JOIN secret ON y // \""),
        query("FROM logs-1, (FROM secret)"),
        query("FROM logs-1 | FORK (LIMIT 1) (LOOKUP JOIN secret ON x)"),
        query("FROM logs-1 | WHERE x IN (FROM secret | KEEP x)"),
        query("FROM logs-1 | ENRICH policy ON x"),
        query("FROM logs-1 | COMPLETION \"x\" WITH {\"inference_id\": \"y\"}"),
        query("FROM far:logs-1"),
        query("FROM *:logs-1"),
        query("FROM logs-1::failures"),
        query("FROM \"<secret>\""),
        query("FROM <secret>"),
        query("FROM ?x"),
        query("FROM logs-1; FROM secret"),
        query("FROM logs-1 | EVAL x = TEXT_EMBEDDING(\"a\", \"b\")"),
        query("EXPLAIN [FROM secret]"),
        query("PROMQL index=secret x"),
        // There is no such index: it may be a view.
        query("FROM logs-view"),
        query("FROM logs-1, logs-view"),
        query("FROM logs-*, logs-view"),
        ("POST /_query".to_owned(), json!({"query": "FROM logs-1", "filter": lookup}).to_string()),
        ("POST /_query".to_owned(), json!({"query": "FROM logs-1", "tables": {}}).to_string()),
        ("POST /_query".to_owned(), r#"{"query":"FROM logs-1","query":"FROM secret"}"#.to_owned()),
        ("POST /_query/async".to_owned(), json!({"query": "FROM secret"}).to_string()),
        ("PUT /_query/view/logs-1".to_owned(), json!({"query": "FROM secret"}).to_string()),
        ("GET /_query/view".to_owned(), String::new()),
        ("GET /_query/queries".to_owned(), String::new()),
        eql("secret", json!({})),
        eql("logs-1,secret", json!({})),
        eql("logs-both", json!({})),
        eql("far:logs-1", json!({})),
        eql("logs-1", json!({"filter": lookup})),
        eql("logs-1", json!({"filter": {"script": {"script": "x"}}})),
        eql("logs-1", json!({"runtime_mappings": {"x": {"type": "lookup", "target_index": "secret"}}})),
        eql("logs-1", json!({"index": "secret"})),
        ("POST /_sql".to_owned(), json!({"query": "SELECT * FROM secret"}).to_string()),
        ("POST /_sql/translate".to_owned(), json!({"query": "SELECT * FROM \"logs-1\""}).to_string()),
        ("POST /_plugins/_sql".to_owned(), json!({"query": "SELECT * FROM secret"}).to_string()),
        ("POST /_plugins/_ppl".to_owned(), json!({"query": "source=secret"}).to_string()),
        ("POST /_plugins/_ppl/_explain".to_owned(), json!({"query": "source=secret"}).to_string()),
    ] {
        let answer = client.ask(&alices, &line, &body);
        assert!(matches!(answer.status, 400 | 403), "{line} {body}: {answer:?}");
    }
    assert_eq!(node.place.seen().len(), sent);
    // Who may do everything is not asked what there is.
    let root = node.user("root");
    node.grant("root", "read", "1h", &["--database", "*"]);
    for query in ["FROM logs-view, far:*, s*", "FROM secret | ENRICH policy ON x", "FROM \"<a-{now/d}>\""] {
        let body = json!({"query": query}).to_string();
        assert_eq!(client.ask(&of(&root), "POST /_query", &body).status, 200, "{query}");
        assert_eq!(last(&node).body, body);
    }
    let answer = client.ask(&of(&root), "POST /_query", &json!({"query": "FROM .security-7"}).to_string());
    assert_eq!(answer.status, 403, "{answer:?}");
}

/// What goes on at the target is somebody's, and ends with their grant.
#[test]
fn a_query_that_goes_on_is_its_owners() {
    let (node, alice) = node();
    let bob = node.user("bob");
    node.grant("bob", "read", "1h", &["--database", "logs-*"]);
    let mut client = node.client();
    let query =
        json!({"query": "FROM logs-*", "wait_for_completion_timeout": "1ms", "keep_alive": "1h"}).to_string();
    let esql = member(&client.ask(&of(&alice), "POST /_query/async", &query), "id");
    let search =
        json!({"query": "any where true", "keep_on_completion": true, "keep_alive": "1h"}).to_string();
    let eql = member(&client.ask(&of(&alice), "POST /logs-1/_eql/search", &search), "id");
    assert!(![esql.as_str(), eql.as_str()].iter().any(|id| id.starts_with("raw")));
    for (line, sent) in [
        (format!("GET /_query/async/{esql}?keep_alive=1h"), "GET /_query/async/raw-esql?keep_alive=1h"),
        (format!("POST /_query/async/{esql}/stop"), "POST /_query/async/raw-esql/stop"),
        (format!("GET /_eql/search/{eql}"), "GET /_eql/search/raw-eql"),
        (format!("GET /_eql/search/status/{eql}"), "GET /_eql/search/status/raw-eql"),
    ] {
        let count = node.place.seen().len();
        let theirs = client.ask(&of(&bob), &line, "");
        assert!(theirs.status == 403 && theirs.body.contains("TG009"), "{line}: {theirs:?}");
        assert_eq!(node.place.seen().len(), count);
        let hers = client.ask(&of(&alice), &line, "");
        assert_eq!(hers.status, 200, "{line}: {hers:?}");
        assert!(!hers.body.contains("raw"), "{line}: {hers:?}");
        assert_eq!(last(&node).line, format!("{sent} HTTP/1.1"));
    }
    for raw in ["GET /_query/async/raw-esql", "GET /_eql/search/raw-eql", "DELETE /_query/async/raw-esql"] {
        assert_eq!(client.ask(&of(&alice), raw, "").status, 403, "{raw}");
    }
    let grants = node.json(&["grant", "list"]);
    let grants = grants.as_array().expect("a list");
    let hers = grants.iter().find(|grant| grant["subject"]["user"] == "alice").expect("hers");
    let sent = node.place.seen().len();
    node.done(&["grant", "revoke", &field(hers, "id")]);
    wait_until("both are closed at the target", Duration::from_secs(3), || {
        node.place.seen().len() >= sent + 2
    });
    let mut closed: Vec<_> = node.place.seen().split_off(sent).into_iter().map(|seen| seen.line).collect();
    closed.sort();
    assert_eq!(closed, ["DELETE /_eql/search/raw-eql HTTP/1.1", "DELETE /_query/async/raw-esql HTTP/1.1"]);
    assert_eq!(client.ask(&of(&alice), &format!("GET /_query/async/{esql}"), "").status, 403);
}
