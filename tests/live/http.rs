//! The proxy authorizes: what of a person's requests reaches a target, and what never does.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::support::http::{Answer, HttpPlace, Seen, request};
use crate::support::node::Options;
use crate::support::{CUT, Node, PATIENCE, Person, wait_until};

fn basic(name: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{secret}")))
}

fn of(person: &Person) -> String {
    basic(&person.name, &person.secret)
}

/// Alice may read and write `logs-*`.
fn node() -> (Node<HttpPlace>, Person) {
    let node = Node::opensearch();
    let alice = node.user("alice");
    node.grant("alice", "read_write", "1h", &["--database", "logs-*"]);
    (node, alice)
}

fn last(node: &Node<HttpPlace>) -> Seen {
    node.place.seen().pop().expect("something was sent")
}

#[track_caller]
fn refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    let body: serde_json::Value = serde_json::from_str(&answer.body).expect("the API's error body");
    assert_eq!(body["status"], status, "{body}");
    assert!(body["error"]["reason"].as_str().is_some_and(|reason| reason.contains(code)), "{body}");
}

#[test]
fn three_proofs_let_in_and_nothing_of_them_goes_on() {
    let (node, alice) = node();
    let bearer = format!("Bearer {}", alice.secret);
    let key = format!("ApiKey {}", STANDARD.encode(format!("alice:{}", alice.secret)));
    let mut client = node.client();
    for proof in [of(&alice), bearer, key] {
        let line = "GET /logs-1/_doc/a%2Fb?_source=x%2Cy HTTP/1.1\r\nHost: localhost\r\n";
        client.send(&format!(
            "{line}Authorization: {proof}\r\nes-security-runas-user: root\r\nX-Proxy-User: root\r\n\
             opendistro_security_impersonate_as: root\r\nX-Opaque-Id: forged\r\nX-Forwarded-For: 10.0.0.1\r\n\
             Connection: X-Elastic-Product\r\nCookie: a=b\r\nAccept: application/json\r\n\r\n"
        ));
        let answer = client.answer(false);
        assert_eq!((answer.status, answer.body.as_str()), (200, "{\"took\":1}"), "{answer:?}");
        assert!(answer.head.contains("x-elastic-product: elasticsearch"), "{answer:?}");
        assert!(!answer.head.contains("x-inner") && !answer.head.contains("set-cookie"), "{answer:?}");
        let seen = last(&node);
        assert_eq!(seen.line, "GET /logs-1/_doc/a%2Fb?_source=x,y HTTP/1.1");
        let password = crate::support::server::ROLE_PASSWORD;
        // The lowest level that is enough, and alice has one grant.
        assert_eq!(seen.header("authorization"), Some(basic("connector-read_write", password).as_str()));
        assert!(seen.header("x-opaque-id").is_some_and(|id| id.starts_with("alice/s-")), "{seen:?}");
        let mut names: Vec<_> = seen.headers.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "authorization", "host", "x-opaque-id"]);
    }
    assert_eq!(node.sessions().len(), 1, "one connection, one person, one grant: {:?}", node.sessions());
    client.close();
    wait_until("the session has ended", PATIENCE, || node.sessions().is_empty());
    let lines = node.trail();
    assert!(!lines.iter().any(|line| line.to_string().contains(&alice.secret)), "a secret is in the trail");
}

#[test]
fn each_request_brings_its_own_proof() {
    let (node, alice) = node();
    let (mut client, before) = (node.client(), node.place.seen().len());
    assert_eq!(client.ask(&of(&alice), "GET /logs-1/_count", "").status, 200);
    let nobody = client.ask("", "GET /logs-1/_count", "");
    refused(&nobody, 401, "TG001");
    assert!(nobody.head.contains("www-authenticate: basic"), "{nobody:?}");
    for wrong in [
        basic("alice", "tg_wrong"),
        basic("bob", &alice.secret),
        basic("Alice", &alice.secret),
        "Bearer tg_wrong".to_owned(),
        format!("Digest {}", alice.secret),
        "Basic !".to_owned(),
    ] {
        refused(&client.ask(&wrong, "GET /logs-1/_count", ""), 401, "TG001");
    }
    // Another person on the same connection has what is theirs.
    let bob = node.user("bob");
    refused(&client.ask(&of(&bob), "GET /logs-1/_count", ""), 403, "TG002");
    assert_eq!(client.ask(&of(&alice), "GET /logs-1/_count", "").status, 200);
    assert_eq!(node.place.seen().len(), before + 2);
    node.wait_event("request_refused", |line| {
        line["user"] == "bob" && line["request"] == "GET /logs-1/_count"
    });
    node.wait_event("login_refused", |line| line["user"] == "alice" && line["code"] == "TG001");
}

const SECRET_LOOKUP: &str = r#"{"query":{"terms":{"u":{"index":"secret","id":"1","path":"p"}}}}"#;

/// What a person with `logs-*` must not get done, each by way of something that reaches `secret` or more.
const BYPASSES: [(&str, &str); 58] = [
    ("GET /secret/_search", ""),
    ("GET /secret/_doc/1", ""),
    ("HEAD /secret", ""),
    ("GET /logs-1,secret/_search", ""),
    ("GET /logs-1%2Csecret/_search", ""),
    ("GET /%73ecret/_search", ""),
    ("GET /-logs-1/_search", ""),
    ("GET /logs-*,secret/_search", ""),
    ("GET /logs-*,_all/_search", ""),
    ("GET /logs-*,far:*/_search", ""),
    ("GET /logs-*/_doc/1", ""),
    ("POST /_bulk", "{\"index\":{\"_index\":\"logs-*\"}}\n{}\n"),
    ("GET /%3Csecret%3E/_search", ""),
    ("GET /far:logs-1/_search", ""),
    ("GET /logs-1::failures/_search", ""),
    ("GET /.security-7/_search", ""),
    ("GET /.ds-logs-1/_search", ""),
    ("POST /logs-1/_search", SECRET_LOOKUP),
    ("POST /logs-1/_count", SECRET_LOOKUP),
    ("POST /logs-1/_delete_by_query", SECRET_LOOKUP),
    (
        "POST /logs-1/_search",
        r#"{"query":{"bool":{"must":{"more_like_this":{"like":{"_index":"secret","_id":"1"}}}}}}"#,
    ),
    (
        "POST /logs-1/_search",
        r#"{"query":{"geo_shape":{"l":{"indexed_shape":{"index":"secret","id":"1"}}}}}"#,
    ),
    ("POST /logs-1/_search", r#"{"query":{"geo_shape":{"l":{"indexed_shape":{"id":"1"}}}}}"#),
    ("POST /logs-1/_search", r#"{"query":{"percolate":{"field":"q","index":"secret","id":"1"}}}"#),
    ("POST /logs-1/_search", r#"{"query":{"wrapper":{"query":"e30="}}}"#),
    ("POST /logs-1/_search", r#"{"query":{"script":{"script":"true"}}}"#),
    ("POST /logs-1/_search", r#"{"runtime_mappings":{"a":{"type":"lookup","target_index":"secret"}}}"#),
    ("POST /logs-1/_search", r#"{"pit":{"id":"x"}}"#),
    ("POST /logs-1/_search", r#"{"query":{"match_all":{}},"query":{"wrapper":{}}}"#),
    (
        "POST /logs-1/_search",
        r#"{"aggs":{"a":{"filter":{"terms":{"u":{"index":"secret","id":"1","path":"p"}}}}}}"#,
    ),
    ("POST /_bulk", "{\"index\":{\"_index\":\"secret\"}}\n{}\n"),
    ("POST /logs-1/_bulk", "{\"index\":{}}\n{}\n{\"delete\":{\"_index\":\"secret\",\"_id\":\"1\"}}\n"),
    ("POST /logs-1/_bulk", "{\"index\":{\"_ind\\u0065x\":\"secret\"}}\n{}\n"),
    ("POST /logs-1/_bulk", "{\"index\":{\"_index\":\"logs-1\",\"_index\":\"secret\"}}\n{}\n"),
    ("POST /logs-1/_bulk", "{\"index\":{\"pipeline\":\"p\"}}\n{}\n"),
    ("POST /logs-1/_bulk?pipeline=p", "{\"index\":{}}\n{}\n"),
    ("POST /_msearch", "{\"index\":\"logs-1\"}\n{}\n{\"index\":\"secret\"}\n{}\n"),
    ("POST /logs-1/_msearch", "{\"index\":[\"logs-1\",\"secret\"]}\n{}\n"),
    ("POST /_mget", r#"{"docs":[{"_index":"logs-1","_id":"1"},{"_index":"secret","_id":"1"}]}"#),
    ("POST /_reindex", r#"{"source":{"index":"secret"},"dest":{"index":"logs-1"}}"#),
    ("POST /_aliases", r#"{"actions":[{"add":{"index":"secret","alias":"logs-x"}}]}"#),
    ("PUT /secret/_alias/logs-x", ""),
    ("POST /logs-1/_update_by_query", SECRET_LOOKUP),
    ("POST /logs-1/_update_by_query", r#"{"script":{"source":"ctx._index = 'secret'"}}"#),
    ("DELETE /logs-1", ""),
    ("PUT /logs-9", ""),
    ("PUT /logs-1/_mapping", r#"{"properties":{}}"#),
    ("GET /_cluster/state", ""),
    ("GET /_nodes/http", ""),
    ("GET /_tasks", ""),
    ("GET /_security/user", ""),
    ("POST /_sql", r#"{"query":"select * from secret"}"#),
    ("POST /_query", r#"{"query":"FROM secret"}"#),
    ("POST /_plugins/_sql", "{}"),
    ("POST /_search/scroll", r#"{"scroll_id":"x"}"#),
    ("GET /logs-1/_search?source=%7B%7D&source_content_type=application%2Fjson", ""),
    ("GET /logs-1/_search?index=secret", ""),
    ("POST /logs-1/_search/template", r#"{"source":"{}"}"#),
];

#[test]
fn nobody_gets_round_their_grant() {
    let (node, alice) = node();
    let mut client = node.client();
    for (line, body) in BYPASSES {
        let answer = client.ask(&of(&alice), line, body);
        assert!(matches!(answer.status, 400 | 403), "{line} {body}: {answer:?}");
        assert_eq!(node.place.seen().len(), 0, "{line} {body} was sent");
    }
    // What a grant for everything covers reaches the target: the same words do what they are feared for.
    node.user("root");
    let root = node.credential("root", "1h");
    node.grant("root", "admin", "1h", &["--database", "*"]);
    for (line, body) in [
        ("GET /secret/_search", ""),
        ("GET /logs-*/_search", ""),
        ("POST /logs-1/_search", SECRET_LOOKUP),
        ("POST /logs-1/_search", r#"{"query":{"wrapper":{"query":"e30="}}}"#),
        ("POST /_msearch", "{}\n{}\n"),
        ("DELETE /logs-1", ""),
    ] {
        let answer = client.ask(&of(&root), line, body);
        assert_eq!(answer.status, 200, "{line}: {answer:?}");
        assert_eq!(last(&node).body, body, "the bytes that were read are the bytes that are sent");
    }
}

/// What comes of a body after its refusal is no request, and its sender comes to the answer.
#[test]
fn who_is_refused_before_the_body_has_come_hears_of_it() {
    let (node, alice) = node();
    let mut client = node.client();
    refused(&client.ask(&of(&alice), "POST /secret/_doc", "{}"), 403, "TG002");
    // A short one has been read, and the connection goes on.
    assert_eq!(client.ask(&of(&alice), "GET /logs-1/_count", "").status, 200);
    let hidden = request(&of(&alice), "GET /logs-1/_count", "");
    let answer = client.ask(&of(&alice), "POST /secret/_doc", &hidden.repeat(20_000));
    refused(&answer, 403, "TG002");
    assert!(answer.whole && answer.head.contains("connection: close"), "{answer:?}");
    assert_eq!(client.answer(false).status, 0);
    // Who waits to be asked for a body is not asked.
    let mut client = node.client();
    client.send(&format!(
        "POST /secret/_doc HTTP/1.1\r\nHost: a\r\nAuthorization: {}\r\nContent-Type: application/json\r\n\
         Expect: 100-continue\r\nContent-Length: 2\r\n\r\n",
        of(&alice)
    ));
    let answer = client.answer(false);
    refused(&answer, 403, "TG002");
    assert!(answer.head.contains("connection: close"), "{answer:?}");
    assert_eq!(node.place.seen().len(), 1);
}

#[test]
fn two_readings_of_one_request_are_refused() {
    let (node, alice) = node();
    let proof = format!("Host: a\r\nAuthorization: {}\r\n", of(&alice));
    let json = "Content-Type: application/json\r\n";
    for (what, bytes) in [
        (
            "two lengths",
            format!(
                "POST /logs-1/_doc HTTP/1.1\r\n{proof}{json}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{{}}"
            ),
        ),
        (
            "another coding",
            format!(
                "POST /logs-1/_doc HTTP/1.1\r\n{proof}{json}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"
            ),
        ),
        ("absolute form", format!("GET http://a/logs-1/_count HTTP/1.1\r\n{proof}\r\n")),
        ("folded", format!("GET /logs-1/_count HTTP/1.1\r\n{proof}X-A: b\r\n c\r\n\r\n")),
        (
            "space before the colon",
            format!("GET /logs-1/_count HTTP/1.1\r\n{proof}Content-Length : 5\r\n\r\n"),
        ),
        (
            "an upgrade",
            format!("GET /logs-1/_count HTTP/1.1\r\n{proof}Connection: upgrade\r\nUpgrade: h2c\r\n\r\n"),
        ),
        ("a tunnel", format!("CONNECT secret:9200 HTTP/1.1\r\n{proof}\r\n")),
        ("encoded ?", format!("GET /logs-1%3F/_count HTTP/1.1\r\n{proof}\r\n")),
        ("encoded #", format!("GET /logs-1%23/_count HTTP/1.1\r\n{proof}\r\n")),
        ("a zero byte", format!("GET /logs-1%00/_count HTTP/1.1\r\n{proof}\r\n")),
        ("dots", format!("GET /logs-1/../secret/_count HTTP/1.1\r\n{proof}\r\n")),
        ("encoded dots", format!("GET /logs-1/%2e%2e/secret HTTP/1.1\r\n{proof}\r\n")),
        ("two slashes", format!("GET //secret/_count HTTP/1.1\r\n{proof}\r\n")),
        ("an encoded slash", format!("GET /logs-1%2F_count HTTP/1.1\r\n{proof}\r\n")),
        ("encoded twice", format!("GET /logs-1%252F..%252Fsecret/_count HTTP/1.1\r\n{proof}\r\n")),
        ("two proofs", format!("GET /logs-1/_count HTTP/1.1\r\n{proof}Authorization: Bearer x\r\n\r\n")),
        (
            "another kind of body",
            format!(
                "POST /logs-1/_doc HTTP/1.1\r\n{proof}Content-Type: application/cbor\r\nContent-Length: 2\r\n\r\n{{}}"
            ),
        ),
        ("no kind of body", format!("POST /logs-1/_doc HTTP/1.1\r\n{proof}Content-Length: 2\r\n\r\n{{}}")),
        (
            "a compressed body",
            format!(
                "POST /logs-1/_doc HTTP/1.1\r\n{proof}{json}Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{{}}"
            ),
        ),
        (
            "a body where none belongs",
            format!("DELETE /logs-1/_doc/1 HTTP/1.1\r\n{proof}{json}Content-Length: 2\r\n\r\n{{}}"),
        ),
        (
            "trailers",
            format!(
                "POST /logs-1/_bulk HTTP/1.1\r\n{proof}{json}Transfer-Encoding: chunked\r\nTrailer: x-a\r\n\r\n2\r\n{{}}\r\n0\r\nx-a: b\r\n\r\n"
            ),
        ),
        (
            "a long head",
            format!("GET /logs-1/_count HTTP/1.1\r\n{proof}X-A: {}\r\n\r\n", "a".repeat(100_000)),
        ),
    ] {
        let mut client = node.client();
        client.send(&bytes);
        let answer = client.answer(false);
        assert!((400..500).contains(&answer.status) || answer.status == 0, "{what}: {answer:?}");
        assert_eq!(node.place.seen().len(), 0, "{what} was sent: {:?}", node.place.seen());
    }
    // Of two lengths the coding counts (RFC 9112, section 6.3): what is sent is framed anew, and nothing behind it is
    // taken for another request.
    let mut client = node.client();
    let head = format!("POST /logs-1/_doc HTTP/1.1\r\n{proof}{json}Content-Length: 7\r\n");
    client.send(&format!(
        "{head}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\nGET /logs-1 HTTP/1.1\r\n{proof}\r\n"
    ));
    let answer = client.answer(false);
    assert!(answer.head.contains("connection: close"), "{answer:?}");
    assert_eq!(client.answer(false).status, 0);
    assert_eq!((node.place.seen().len(), last(&node).body.as_str()), (1, "{}"));
}

#[test]
fn an_alias_is_as_granted_as_what_is_behind_it() {
    let (node, alice) = node();
    node.place.set_aliases(
        r#"{"secret":{"aliases":{"logs-x":{}}},"logs-1":{"aliases":{"logs-x":{},"logs-y":{}}}}"#,
    );
    let mut client = node.client();
    refused(&client.ask(&of(&alice), "GET /logs-x/_search", ""), 403, "TG002");
    refused(
        &client.ask(&of(&alice), "POST /_bulk", "{\"index\":{\"_index\":\"logs-x\"}}\n{}\n"),
        403,
        "TG002",
    );
    assert_eq!(client.ask(&of(&alice), "GET /logs-y/_search", "").status, 200);
    assert_eq!(node.place.seen().len(), 1);
    assert_eq!(last(&node).line, "GET /logs-y/_search HTTP/1.1");
    node.place.set_aliases(r#"{"secret":{"aliases":{"logs-y":{}}}}"#);
    std::thread::sleep(Duration::from_millis(1_100));
    refused(&client.ask(&of(&alice), "GET /logs-y/_search", ""), 403, "TG002");
    assert_eq!(client.ask(&of(&alice), "GET /logs-x/_search", "").status, 200);
    // What the cluster does not say is not guessed.
    node.place.set_aliases("[]");
    std::thread::sleep(Duration::from_millis(1_100));
    refused(&client.ask(&of(&alice), "GET /logs-1/_search", ""), 502, "TG012");
}

/// Alice has `logs-*`; nothing of what else there is is asked for, whatever she asks for.
#[test]
fn wildcards_become_names() {
    let (node, alice) = node();
    let indices = ["logs-1", "logs-2", "secret", ".kibana_1"];
    node.place.set_indices(&indices);
    node.place.set_aliases(
        r#"{"secret":{"aliases":{"logs-x":{}}},"logs-2":{"aliases":{"logs-y":{},"logs-z":{"filter":{}}}}}"#,
    );
    let mut client = node.client();
    for (line, body, sent, sent_body) in [
        ("GET /_search?size=1", "", "/logs-1,logs-2,logs-z/_search?size=1", ""),
        ("GET /_all/_count", "", "/logs-1,logs-2,logs-z/_count", ""),
        ("GET /logs-*,-logs-1/_search", "", "/logs-2,logs-z/_search", ""),
        ("GET /s*/_search", "", "/*,-*/_search", ""),
        ("GET /.k*/_search", "", "/*,-*/_search", ""),
        ("GET /_cat/indices?v", "", "/_cat/indices/logs-1,logs-2,logs-z?v", ""),
        ("GET /_cat/aliases", "", "/_cat/aliases/logs-y,logs-z", ""),
        ("GET /_mapping", "", "/logs-1,logs-2,logs-z/_mapping", ""),
        ("GET /_cluster/health?level=indices", "", "/_cluster/health/logs-1,logs-2,logs-z?level=indices", ""),
        (
            "POST /_msearch",
            "{}\n{}\n{\"index\":\"*-1\"}\n{}\n{\"index\":\"s*\"}\n{}\n",
            "/_msearch",
            "{\"index\":[\"logs-1\",\"logs-2\",\"logs-z\"]}\n{}\n{\"index\":[\"logs-1\"]}\n{}\n\
             {\"index\":[\"*\",\"-*\"]}\n{}\n",
        ),
        (
            "POST /logs-*/_delete_by_query",
            r#"{"query":{"match_all":{}}}"#,
            "/logs-1,logs-2,logs-z/_delete_by_query",
            r#"{"query":{"match_all":{}}}"#,
        ),
    ] {
        let answer = client.ask(&of(&alice), line, body);
        assert_eq!(answer.status, 200, "{line}: {answer:?}");
        let seen = last(&node);
        assert_eq!(seen.line.split(' ').nth(1), Some(sent), "{line}");
        assert_eq!(seen.body, sent_body, "{line}");
    }
    // The trail has what was sent.
    node.wait_statement("GET /logs-1,logs-2,logs-z/_search?size=1");
    // What changes something is not done to nothing, and what deletes is told by name.
    let sent = node.place.seen().len();
    for (line, body) in
        [("POST /s*/_delete_by_query", "{}"), ("POST /s*/_refresh", ""), ("GET /sec*,secret/_search", "")]
    {
        refused(&client.ask(&of(&alice), line, body), 403, "TG002");
    }
    // More than a URL can name.
    let many: Vec<_> = (0..400).map(|n| format!("logs-2026-11-{n:03}")).collect();
    node.place.set_indices(&many.iter().map(String::as_str).collect::<Vec<_>>());
    std::thread::sleep(Duration::from_millis(1_100));
    let answer = client.ask(&of(&alice), "GET /logs-*/_search", "");
    assert!(answer.status == 400 && answer.body.contains("more indices than a URL can name"), "{answer:?}");
    // What a change through the proxy makes is known at once.
    node.grant("alice", "admin", "1h", &["--database", "logs-*"]);
    assert_eq!(client.ask(&of(&alice), "PUT /logs-9", "").status, 200);
    node.place.set_indices(&["logs-9"]);
    node.place.set_aliases("{}");
    refused(&client.ask(&of(&alice), "DELETE /logs-*", ""), 403, "TG002");
    let asked = client.ask(&of(&alice), "PUT /logs-9", "{}");
    assert_eq!(asked.status, 200, "{asked:?}");
    assert_eq!(client.ask(&of(&alice), "GET /logs-*/_search", "").status, 200);
    assert_eq!(last(&node).line, "GET /logs-9/_search HTTP/1.1");
    assert_eq!(node.place.seen().len(), sent + 3);
    // With a grant for two kinds of names, the one that covers most is used.
    node.grant("alice", "read", "1h", &["--database", "metrics"]);
    node.place.set_indices(&["logs-9", "metrics"]);
    std::thread::sleep(Duration::from_millis(1_100));
    assert_eq!(client.ask(&of(&alice), "GET /m*/_search", "").status, 200);
    assert_eq!(last(&node).line, "GET /metrics/_search HTTP/1.1");
    // What a cluster does not say is not guessed.
    node.place.set_aliases("[]");
    std::thread::sleep(Duration::from_millis(1_100));
    refused(&client.ask(&of(&alice), "GET /logs-*/_search", ""), 502, "TG012");
}

#[test]
fn where_wildcards_are_resolved_all_of_it_must_be_covered() {
    let target = "tls = \"disable\"\nwildcards = \"resolve\"";
    let node = Node::with(HttpPlace::default(), Options { target, ..Options::default() });
    let alice = node.user("alice");
    node.grant("alice", "read", "1h", &["--database", "logs-*"]);
    node.place.set_indices(&["logs-1", "logs-2", "secret"]);
    let mut client = node.client();
    for line in ["GET /logs-*/_search", "GET /l*/_search", "GET /*,-secret/_search"] {
        assert_eq!(client.ask(&of(&alice), line, "").status, 200, "{line}");
        assert_eq!(last(&node).line, "GET /logs-1,logs-2/_search HTTP/1.1", "{line}");
    }
    let sent = node.place.seen().len();
    for line in
        ["GET /*/_search", "GET /_search", "GET /_cat/indices", "GET /sec*/_search", "GET /sed*/_search"]
    {
        refused(&client.ask(&of(&alice), line, ""), 403, "TG002");
    }
    assert_eq!(node.place.seen().len(), sent);
    assert_eq!(client.ask(&of(&alice), "GET /logs-9*/_search", "").status, 200);
    assert_eq!(last(&node).line, "GET /*,-*/_search HTTP/1.1");
}

#[test]
fn a_connection_is_lent_again_after_a_whole_exchange_only() {
    let options = Options { target: "tls = \"disable\"\nbodies = \"stream\"", ..Options::default() };
    let node = Node::with(HttpPlace::default(), options);
    let alice = node.user("alice");
    node.grant("alice", "read_write", "1h", &["--database", "logs-*"]);
    node.place.set_indices(&["logs-1"]);
    let mut client = node.client();
    let mut ask = |line: &str, body: &str| client.ask(&of(&alice), line, body);
    let again = |place: &HttpPlace| place.seen().last().map(|seen| seen.connection);
    for (line, body) in [
        ("GET /logs-1/_doc/1", ""),
        ("HEAD /logs-1", ""),
        ("POST /logs-1/_doc", "{}"),
        ("POST /_bulk", "{\"index\":{\"_index\":\"logs-1\"}}\n{}\n"),
        ("GET /logs-1/_doc/2", ""),
    ] {
        assert_eq!(ask(line, body).status, 200, "{line}");
        // It goes back a moment after the answer.
        std::thread::sleep(Duration::from_millis(50));
    }
    let connections = node.place.connections();
    assert!(
        connections <= 3,
        "two for the proxy's own questions at the same time as the first: {connections}"
    );
    // Bytes behind an answer are nobody's: the connection is closed.
    assert_eq!(ask("GET /logs-1/_doc/extra", "").status, 200);
    let extra = again(&node.place);
    std::thread::sleep(Duration::from_millis(100));
    let after = ask("GET /logs-1/_doc/3", "");
    assert_eq!((after.status, after.body.as_str()), (200, "{\"took\":1}"));
    assert_ne!(again(&node.place), extra);
    // Who answers before the request has ended may take its rest for another.
    let mut early = node.client();
    let head = format!(
        "POST /logs-1/_doc/early HTTP/1.1\r\nHost: a\r\nAuthorization: {}\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n{{",
        of(&alice)
    );
    early.send(&head);
    node.place.wait_seen("early");
    early.answer(false);
    early.close();
    let used = again(&node.place);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(ask("GET /logs-1/_doc/4", "").status, 200);
    assert_ne!(again(&node.place), used);
    // A client that goes away takes its connection with it.
    let closed = node.place.closed();
    let mut gone = node.client();
    gone.send(&request(&of(&alice), "GET /logs-1/_doc/never", ""));
    node.place.wait_seen("never");
    gone.close();
    wait_until("the exchange that nobody waits for is closed", PATIENCE, || node.place.closed() > closed);
}

/// A target that has answered takes what comes next for the rest of the request, or for the next one.
#[test]
fn what_has_not_gone_out_is_nobody_elses() {
    let (node, alice) = node();
    let search = format!("{{}}\n{{\"query\":{{\"term\":{{\"user\":\"{}\"}}}}}}\n", "a".repeat(1_000_000));
    let answer = node.client().ask(&of(&alice), "POST /logs-early-stall/_msearch", &search.repeat(14));
    assert_eq!((answer.status, answer.body.as_str()), (200, "{}"));
    assert_eq!(node.client().ask(&of(&alice), "GET /logs-1/_doc/next", "").status, 200);
    let seen = node.place.seen();
    let on = |word: &str| seen.iter().find(|seen| seen.line.contains(word)).expect("it came").connection;
    assert_ne!(on("early"), on("next"), "{:?}", seen.iter().map(|seen| &seen.line).collect::<Vec<_>>());
}

#[test]
fn a_grant_that_ends_cuts_what_is_under_way() {
    let (node, alice) = node();
    let (mut download, mut search, mut upload) = (node.client(), node.client(), node.client());
    download.send(&request(&of(&alice), "GET /logs-1/_doc/slow", ""));
    search.send(&request(&of(&alice), "GET /logs-1/_doc/never", ""));
    upload.send(&format!(
        "PUT /logs-1/_doc/upload HTTP/1.1\r\nHost: a\r\nAuthorization: {}\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n{{",
        of(&alice)
    ));
    for path in ["slow", "never"] {
        node.place.wait_seen(path);
    }
    // What has not come whole is not sent, but it is under way.
    wait_until("all three are there", PATIENCE, || node.sessions().len() == 3);
    download.wait_for("more");
    let grants = node.json(&["grant", "list"]);
    let grant = crate::support::field(&grants[0], "id");
    let closed = node.place.closed();
    let revoked = Instant::now();
    node.done(&["grant", "revoke", &grant]);
    refused(&search.answer(false), 403, "TG004");
    let cut = download.answer(false);
    assert!(cut.status == 200 && !cut.whole && cut.body.starts_with("more"), "{cut:?}");
    let answer = upload.answer(false);
    refused(&answer, 403, "TG004");
    wait_until("both exchanges are closed at the target", CUT, || node.place.closed() >= closed + 2);
    assert!(revoked.elapsed() < CUT + Duration::from_millis(500), "{:?}", revoked.elapsed());
    // The next request of the connection is told why.
    refused(&search.ask(&of(&alice), "GET /logs-1/_count", ""), 403, "TG004");
    refused(&node.client().ask(&of(&alice), "GET /logs-1/_count", ""), 403, "TG002");
    let ends = || node.events("session_end");
    wait_until("the trail tells of three cuts", PATIENCE, || ends().len() == 3);
    assert!(ends().iter().all(|end| end["how"] == "cut" && end["code"] == "TG004"), "{:?}", ends());
    let results = node.events("result");
    assert!(results.iter().all(|result| result["sqlstate"] == "unfinished"), "{results:?}");
    assert!(node.sessions().is_empty());
}

#[test]
fn a_grant_that_expires_ends_an_idle_session() {
    let node = Node::opensearch();
    let bob = node.user("bob");
    node.grant("bob", "read", "2s", &["--database", "logs-*"]);
    let mut client = node.client();
    assert_eq!(client.ask(&of(&bob), "GET /logs-1/_count", "").status, 200);
    wait_until("the session ends with its grant", Duration::from_secs(5), || node.sessions().is_empty());
    refused(&client.ask(&of(&bob), "GET /logs-1/_count", ""), 403, "TG003");
}

#[test]
fn levels_and_seats_are_kept() {
    let node = Node::opensearch();
    let carol = node.user("carol");
    node.grant("carol", "read", "1h", &["--database", "logs-*", "--sessions", "1"]);
    let mut client = node.client();
    for line in ["GET /logs-1/_doc/1", "GET /logs-1/_mapping", "GET /", "GET /logs-1/_doc/2"] {
        assert_eq!(client.ask(&of(&carol), line, "").status, 200, "{line}");
    }
    for (line, body) in
        [("POST /logs-1/_doc", "{}"), ("DELETE /logs-1/_doc/1", ""), ("POST /logs-1/_refresh", "")]
    {
        refused(&client.ask(&of(&carol), line, body), 403, "TG002");
    }
    let mut second = node.client();
    refused(&second.ask(&of(&carol), "GET /logs-1/_doc/1", ""), 403, "TG002");
    // The lowest level that is enough is the one whose connector is used.
    node.grant("carol", "admin", "1h", &["--database", "logs-*"]);
    let levels: Vec<_> = [("GET /logs-1/_doc/1", ""), ("POST /logs-1/_doc", "{}")]
        .map(|(line, body)| {
            assert_eq!(client.ask(&of(&carol), line, body).status, 200, "{line}");
            let seen = last(&node);
            let login =
                seen.header("authorization").and_then(|text| text.strip_prefix("Basic ")).unwrap().to_owned();
            String::from_utf8(STANDARD.decode(login).unwrap()).unwrap().split(':').next().unwrap().to_owned()
        })
        .into();
    assert_eq!(levels, ["connector-read", "connector-admin"]);
    let named = basic("carol+admin", &carol.secret);
    assert_eq!(client.ask(&named, "GET /logs-1/_doc/1", "").status, 200);
    assert!(
        last(&node)
            .header("authorization")
            .is_some_and(|text| *text == basic("connector-admin", crate::support::server::ROLE_PASSWORD))
    );
    refused(&client.ask(&basic("carol+read_write", &carol.secret), "GET /logs-1/_doc/1", ""), 403, "TG002");
    refused(&client.ask(&basic("carol@other", &carol.secret), "GET /logs-1/_doc/1", ""), 403, "TG002");
    // A login that the target refuses is our trouble, and no question for the client.
    refused(&client.ask(&of(&carol), "GET /logs-1/_doc/denied", ""), 502, "TG025");
}

#[test]
fn the_trail_has_each_request_and_what_came_of_it() {
    let (node, alice) = node();
    let mut client = node.client();
    let search = r#"{"query":{"match":{"user":"alice"}}}"#;
    assert_eq!(client.ask(&of(&alice), "POST /logs-1/_search?size=1", search).status, 200);
    let line = node.wait_statement(&format!("POST /logs-1/_search?size=1\n{search}"));
    assert_eq!(
        (&line["user"], &line["protocol"], &line["kind"]),
        (&"alice".into(), &"opensearch".into(), &"command".into())
    );
    let result = node.result_of(&line);
    assert_eq!((&result["tag"], &result["bytes_down"]), (&"200".into(), &10.into()), "{result}");
    assert_eq!(result["bytes_up"], search.len(), "{result}");
    client.close();
    let session = crate::support::field(&line, "session");
    let end = node.wait_end_of(&session);
    assert_eq!((&end["how"], &end["statements"]), (&"close".into(), &1.into()), "{end}");
    node.done(&["audit", "verify"]);
    // What is named behind the cut of a long body is not left out.
    let padded = format!("{}{{\"docs\":[{{\"_index\":\"logs-9\",\"_id\":\"1\"}}]}}", " ".repeat(64 << 10));
    assert_eq!(node.client().ask(&of(&alice), "POST /logs-1/_mget", &padded).status, 200);
    let line = node.wait_event("statement", |line| {
        line["text"].as_str().is_some_and(|text| text.starts_with("POST /logs-1/_mget\n"))
    });
    assert!(line["text"].as_str().unwrap().starts_with("POST /logs-1/_mget\n[logs-1,logs-9]\n  "), "{line}");
    // Long documents pass through and are not kept.
    let document = format!("{{\"a\":\"{}\"}}", "x".repeat(3 << 20));
    let mut client = node.client();
    assert_eq!(client.ask(&of(&alice), "POST /logs-1/_doc", &document).status, 200);
    assert_eq!(last(&node).body.len(), document.len());
    let line = node.wait_statement("POST /logs-1/_doc");
    assert_eq!(node.result_of(&line)["bytes_up"], document.len());
    // What would have to be read whole and is too long is not sent in part.
    let bulk = format!("{{\"index\":{{\"_index\":\"logs-1\"}}}}\n{document}\n").repeat(6);
    let sent = node.place.seen().len();
    let answer = node.client().ask(&of(&alice), "POST /_msearch", &bulk);
    assert!(answer.status == 400 || answer.status == 0, "{answer:?}");
    assert_eq!(node.place.seen().len(), sent);
}

/// As alice, or another; the exit code and what is printed.
fn explained(node: &Node<HttpPlace>, user: &str, request: &str, body: &str) -> (Option<i32>, String) {
    std::fs::write(node.folder.join("body"), body).unwrap();
    let mut words = vec!["explain", "--user", user, "--target", "shop", "--request", request];
    if !body.is_empty() {
        words.extend(["--body", "body"]);
    }
    let said = node.tg(&words);
    (said.status.code(), crate::support::text(&said.stdout))
}

#[test]
fn explain_says_what_a_request_touches() {
    let (node, _) = node();
    node.user("root");
    node.grant("root", "admin", "1h", &["--database", "*"]);
    let two = "{\"index\":\"logs-1\"}\n{}\n{\"index\":\"secret\"}\n{}\n{\"index\":\"other\"}\n{}\n";
    let lookup = r#"{"query":{"terms":{"u":{"index":"logs-9","id":"1","path":"p"}}}}"#;
    for (user, request, body, allowed, parts) in [
        (
            "alice",
            "POST /_msearch",
            two,
            false,
            &["refused", "read on logs-1, other, secret", "does not cover \"other\" and 1 more"][..],
        ),
        ("root", "POST /_msearch", two, true, &["let in", "read on logs-1, other, secret", "level:   admin"]),
        ("alice", "GET /logs-1/_search", "", true, &["let in", "read on logs-1", "may be an alias"]),
        ("alice", "POST /logs-1/_search", lookup, true, &["read on logs-1, logs-9"]),
        ("alice", "get /logs-1/_search", "", true, &["let in"]),
        ("alice", "PUT /logs-1/_mapping", r#"{"properties":{}}"#, false, &["admin on logs-1", "takes more"]),
        (
            "alice",
            "POST /logs-*,-logs-2/_search",
            "{}",
            true,
            &["read on what logs-* stands for", "become what the grant covers", "has not been asked"],
        ),
        ("alice", "GET /_search", "", true, &["read on what * stands for"]),
        (
            "alice",
            "POST /_msearch",
            "{\"index\":[\"logs-1\",\"m*\"]}\n{}\n",
            true,
            &["read on logs-1 and what m* stands for", "may be an alias"],
        ),
        ("root", "GET /logs-*/_search", "", true, &["let in", "wildcards are sent as they are"]),
        (
            "alice",
            "POST /logs-1/_search",
            r#"{"query":{"wrapper":{"query":"e30="}}}"#,
            false,
            &["read on everything (", "is not for everything ('*'), which this takes"],
        ),
        (
            "alice",
            "POST /_bulk",
            "{\"delete\":{\"_index\":\"x\"}}\n",
            false,
            &["read_write on x", "does not cover \"x\""],
        ),
        ("alice", "GET /", "", true, &["read, and names no indices"]),
        // What nobody may send says why, without a word of grants.
        ("root", "POST /_sql", "{}", false, &["nobody may send it", "its language"]),
        (
            "root",
            "GET /logs/_unheard_of",
            "",
            false,
            &["nobody may send it", "none of those that the proxy knows"],
        ),
        ("root", "GET /.security-7/_search", "", false, &["nobody may send it", "own accounts"]),
        (
            "root",
            "GET /_cat/shards?h=ip",
            "",
            false,
            &["nobody may send it", "addresses of the cluster's nodes"],
        ),
        ("root", "POST /logs-1/_search", "{\"query\":", false, &["nobody may send it", "not the JSON"]),
        ("root", "POST /_msearch", "", false, &["nobody may send it", "(no body was given)"]),
        ("root", "GET /logs-1/_doc/1", "{}", false, &["takes no body"]),
        ("root", "GET logs-1", "", false, &["must begin with a slash"]),
        ("carol", "GET /logs-1/_search", "", false, &["there is no user \"carol\""]),
    ] {
        let (code, text) = explained(&node, user, request, body);
        assert_eq!(code, Some(if allowed { 0 } else { 1 }), "{request}: {text}");
        for part in parts {
            assert!(text.contains(part), "{user} {request}: no {part:?} in\n{text}");
        }
    }
    // Where wildcards are resolved it is said so; nothing was asked of the target for any of this.
    assert_eq!(node.place.seen().len(), 0);
    let target = "tls = \"disable\"\nwildcards = \"resolve\"";
    let node = Node::with(HttpPlace::default(), Options { target, ..Options::default() });
    node.user("alice");
    node.grant("alice", "read", "1h", &["--database", "logs-*"]);
    let (_, text) = explained(&node, "alice", "GET /m*/_search", "");
    assert!(text.contains("one grant must cover all of it"), "{text}");
    let answer = node.tg(&[
        "explain",
        "--user",
        "alice",
        "--target",
        "shop",
        "--request",
        "GET /m*/_search",
        "--json",
    ]);
    let answer: serde_json::Value = serde_json::from_slice(&answer.stdout).expect("JSON");
    assert_eq!(
        (&answer["needs"]["wildcards"][0], &answer["needs"]["kind"]),
        (&"m*".into(), &"indices".into())
    );
}
