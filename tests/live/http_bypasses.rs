//! What somebody might try to get round their grant, on real servers: `http_bypasses.txt` says what, and here each
//! attempt first does its harm around the proxy, and then is refused by it.

use std::fmt::Write as _;
use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::cluster::{Cluster, ClusterPlace, Kind};
use crate::support::http::{Answer, HttpClient};
use crate::support::{Node, PATIENCE, wait_until};

const ATTEMPTS: &str = include_str!("http_bypasses.txt");
const COUNT_MIN: usize = 150;

/// What a document of `secret` says, and says in a world in which it says something else.
const WORLDS: [(&str, &str); 2] = [("kim", "the crown jewels"), ("nobody", "plain stones of no worth")];

struct Attempt {
    harm: &'static str,
    what: &'static str,
    line: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    body: Vec<u8>,
}

fn attempts(kind: Kind) -> Vec<Attempt> {
    let mut lines =
        ATTEMPTS.lines().filter(|line| !line.starts_with('#') && !line.starts_with("==")).peekable();
    let mut attempts = Vec::new();
    while let Some(line) = lines.next() {
        let Some((harm, what)) = first(line) else {
            assert!(line.is_empty(), "{line} stands between attempts");
            continue;
        };
        let mut headers = Vec::new();
        while let Some(header) = lines.next_if(|line| line.starts_with("> ")) {
            headers.push(header[2..].split_once(": ").expect("a header"));
        }
        let line = lines.next().expect("a request");
        let mut body = Vec::new();
        // An empty line within a body is one that something else than an attempt follows.
        while let Some(next) = lines.next_if(|line| first(line).is_none()) {
            body.push(next);
        }
        let elsewhere = match kind {
            Kind::Elasticsearch => harm.ends_with('!'),
            _ => harm.ends_with('+'),
        };
        // Still refused there, but it would do nothing.
        let harm = if elsewhere { "" } else { harm.trim_end_matches(['!', '+']) };
        attempts.push(Attempt { harm, what, line, body: bytes(&body, &mut headers), headers });
    }
    attempts
}

/// HARM and what it is.
fn first(line: &'static str) -> Option<(&'static str, &'static str)> {
    let (harm, what) = line.split_once(' ')?;
    let known = ["reads", "learns", "tells", "changes", "copies", "works"];
    known.contains(&harm.trim_end_matches(['!', '+'])).then_some((harm, what))
}

fn bytes(lines: &[&str], headers: &mut Vec<(&'static str, &'static str)>) -> Vec<u8> {
    let mut is = |name: &str| {
        let place = headers.iter().position(|(known, _)| *known == name);
        place.map(|place| headers.remove(place)).is_some()
    };
    let end = if is("Ends") { "\r\n" } else { "\n" };
    let text = lines.join(end);
    match is("Hex") {
        true => (0..text.trim().len() / 2)
            .map(|place| u8::from_str_radix(&text[place * 2..place * 2 + 2], 16).expect("digits"))
            .collect(),
        false => text.into_bytes(),
    }
}

impl Attempt {
    fn send(&self, port: u16, proof: &str) -> Answer {
        let mut head = format!("{} HTTP/1.1\r\nHost: localhost\r\n", self.line);
        if !proof.is_empty() {
            let _ = write!(head, "Authorization: {proof}\r\n");
        }
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if !self.body.is_empty() {
            if !self.headers.iter().any(|(name, _)| *name == "Content-Type") {
                head += "Content-Type: application/json\r\n";
            }
            let _ = write!(head, "Content-Length: {}\r\n", self.body.len());
        }
        let mut client = HttpClient::new(port);
        client.socket.write_all(&[head.as_bytes(), b"\r\n", &self.body].concat()).expect("it reads");
        client.answer(self.line.starts_with("HEAD"))
    }

    /// Without what differs from time to time.
    fn plain(&self, port: u16) -> (u16, String) {
        let answer = self.send(port, "");
        let mut parts = answer.body.split("\"took\":");
        let mut text = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            text += part.trim_start_matches(|c: char| c.is_ascii_digit());
        }
        (answer.status, text)
    }
}

/// The indices of the attempts on one cluster.
struct World<'a>(&'a Cluster);

impl World<'_> {
    fn is_elasticsearch(&self) -> bool {
        self.0.kind == Kind::Elasticsearch
    }

    fn make(&self) {
        for index in ["logs-1", "logs-2"] {
            self.0.ask(&format!("DELETE /{index}"), "");
        }
        let mut fields = json!({
            "user": {"type": "keyword"}, "text": {"type": "text"}, "users": {"type": "text"},
            "part": {"type": "nested", "properties": {"user": {"type": "keyword"}}},
        });
        let mut one = json!({
            "user": "kim", "text": "hello crown", "part": [{"user": "kim", "n": 1}, {"user": "lee", "n": 2}]
        });
        let mut two = json!({"user": "lee", "text": "hello stones", "part": [{"user": "lee", "n": 3}]});
        if self.is_elasticsearch() {
            fields["vector"] = json!({"type": "dense_vector", "dims": 2, "similarity": "l2_norm"});
            one["vector"] = json!([1, 2]);
            two["vector"] = json!([2, 1]);
        } else {
            fields["area"] = json!({"type": "geo_shape"});
            fields["query"] = json!({"type": "percolator"});
            fields["relation"] = json!({"type": "join", "relations": {"question": "answer"}});
            for (document, place, word) in [(&mut one, 5, "crown"), (&mut two, 55, "stones")] {
                document["area"] = json!({"type": "point", "coordinates": [place, place]});
                document["query"] = json!({"match": {"text": word}});
            }
            let set = json!({"processors": [{"set": {"field": "_index", "value": "secret"}}]});
            self.0.done("PUT /_ingest/pipeline/to-secret", &set.to_string());
            let look = r#"{"script": {"lang": "mustache", "source":
                {"query": {"terms": {"user": {"index": "{{index}}", "id": "1", "path": "users"}}}}}}"#;
            self.0.done("PUT /_scripts/look", look);
            self.make_stream();
        }
        let seeds =
            json!({"persistent": {"cluster.remote.me.seeds": [format!("127.0.0.1:{}", self.0.transport)]}});
        self.0.done("PUT /_cluster/settings", &seeds.to_string());
        let about = json!({
            "settings": {"number_of_replicas": 0}, "mappings": {"properties": fields}, "aliases": {"logs-both": {}},
        });
        self.0.done("PUT /logs-1", &about.to_string());
        self.0.done("PUT /logs-2", r#"{"settings": {"number_of_replicas": 0}}"#);
        self.0.done("PUT /logs-1/_doc/1", &one.to_string());
        self.0.done("PUT /logs-1/_doc/2?refresh", &two.to_string());
        self.make_secret();
    }

    fn make_stream(&self) {
        let template = json!({
            "index_patterns": ["secret-stream"], "data_stream": {}, "template": {"settings": {"number_of_replicas": 0}}
        });
        self.0.done("PUT /_index_template/stream", &template.to_string());
        self.0.ask("PUT /_data_stream/secret-stream", "");
        self.0.done(
            "POST /secret-stream/_doc?refresh",
            r#"{"@timestamp": "2026-01-01", "text": "more jewels"}"#,
        );
    }

    fn make_secret(&self) {
        for index in ["secret", "secret-2", "logs-3"] {
            self.0.ask(&format!("DELETE /{index}"), "");
        }
        let mut fields = json!({
            "users": {"type": "text", "fields": {"whole": {"type": "keyword"}}},
            "text": {"type": "text", "fielddata": true}, "at": {"type": "date"},
        });
        if !self.is_elasticsearch() {
            fields["area"] = json!({"type": "geo_shape"});
        }
        let about = json!({
            "settings": {"number_of_replicas": 0}, "mappings": {"properties": fields},
            "aliases": {"treasure": {}, "logs-alias": {}, "logs-both": {}},
        });
        self.0.done("PUT /secret", &about.to_string());
        self.says(0);
    }

    /// Has the secret document say what it says in this world.
    fn says(&self, world: usize) {
        let (user, text) = WORLDS[world];
        let mut document = json!({"users": [user], "text": text, "at": "2026-01-01"});
        if !self.is_elasticsearch() {
            let corners = [json!([[0, 10], [10, 0]]), json!([[50, 60], [60, 50]])];
            document["area"] = json!({"type": "envelope", "coordinates": corners[world]});
        }
        self.0.done("PUT /secret/_doc/1?refresh", &document.to_string());
    }

    /// All that is to be known of `secret`.
    fn state(&self) -> Vec<(u16, Value)> {
        self.0.ask("POST /secret/_refresh", "");
        [
            "/secret/_search?size=100&version=true",
            "/secret",
            "/_cat/indices/secret?h=status,docs.count&format=json",
        ]
        .iter()
        .map(|target| {
            let answer = self.0.ask(&format!("GET {target}"), "");
            let mut value: Value = serde_json::from_str(&answer.body).unwrap_or_default();
            value.as_object_mut().map(|members| members.remove("took"));
            (answer.status, value)
        })
        .collect()
    }

    /// Sends it around the proxy; whether it did its harm, and what was answered.
    fn is_harmed_by(&self, attempt: &Attempt) -> (bool, String) {
        let port = self.0.port;
        let shown = |answer: &Answer| format!("{} {}", answer.status, answer.body);
        match attempt.harm {
            "reads" | "tells" | "works" => {
                let answer = attempt.send(port, "");
                let harmed = match attempt.harm {
                    "reads" => answer.body.contains("jewels"),
                    "tells" => answer.status == 200 && answer.body.contains("secret"),
                    _ => (200..300).contains(&answer.status),
                };
                if attempt.harm == "works" {
                    self.make_secret();
                }
                (harmed, shown(&answer))
            }
            "learns" => {
                let one = attempt.plain(port);
                if attempt.line.contains("_by_query") {
                    self.make();
                }
                self.says(1);
                let other = attempt.plain(port);
                if attempt.line.contains("_by_query") {
                    self.make();
                }
                self.says(0);
                // A document's being there is what HEAD tells.
                (one != other || attempt.line.starts_with("HEAD") && one.0 == 200, format!("{one:?}"))
            }
            "changes" => {
                let before = self.state();
                let answer = attempt.send(port, "");
                let mut harmed = before != self.state();
                if attempt.line.contains("wait_for_completion") {
                    wait_until("it has gone on by itself", PATIENCE, || before != self.state());
                    harmed = true;
                }
                match self.0.ask("HEAD /logs-1", "").status {
                    200 => self.make_secret(),
                    _ => self.make(),
                }
                (harmed, shown(&answer))
            }
            "copies" => {
                let answer = attempt.send(port, "");
                self.0.done("POST /logs-2/_refresh", "");
                let harmed = self.0.done("GET /logs-2/_search", "").to_string().contains("jewels");
                self.make();
                (harmed, shown(&answer))
            }
            harm => panic!("{harm} is no harm"),
        }
    }
}

/// Does harm around the proxy, and nothing through it.
fn nobody_gets_round_their_grant_on(kind: Kind, count_min: usize) {
    // One of its own, as an attempt may remove all there is.
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start(kind)));
    let world = World(cluster);
    world.make();
    let attempts = attempts(kind);
    let mut harmless = Vec::new();
    let harmful = attempts.iter().filter(|attempt| !attempt.harm.is_empty());
    for attempt in harmful.clone() {
        let (harmed, answer) = world.is_harmed_by(attempt);
        if !harmed {
            harmless.push(format!("{} {}: {}\n    {answer:.400}", attempt.harm, attempt.what, attempt.line));
        }
    }
    assert!(harmless.is_empty(), "these do no harm:\n{}", harmless.join("\n"));
    let count = harmful.count();
    println!("{count} of {} attempts do harm to {kind:?}", attempts.len());
    assert!(count >= count_min, "{count} attempts");
    world.make();
    are_refused(&world, &attempts);
    world.make();
    find_nothing(&world, &attempts);
    cluster.stop();
}

/// A node, and the proof of who has `logs-*` on it. Whatever is refused is not refused for its level.
fn alice(world: &World<'static>, target: &str) -> (Node<ClusterPlace>, String) {
    let node: Node<ClusterPlace> = Node::in_front_of(world.0, "", target);
    let alice = node.user("alice");
    for level in ["read", "read_write", "admin"] {
        node.grant("alice", level, "1h", &["--database", "logs-*"]);
    }
    let proof = format!("Basic {}", STANDARD.encode(format!("alice:{}", alice.secret)));
    (node, proof)
}

/// Where wildcards are narrowed, some are answered, from what is granted alone.
fn find_nothing(world: &World<'static>, attempts: &[Attempt]) {
    let (node, proof) = alice(world, "");
    let before = world.state();
    let mut wrong = Vec::new();
    for attempt in attempts {
        let answer = attempt.send(node.port, &proof);
        let sent = node.place.tap.asked();
        let named = |line: &String| {
            line.contains("secret") || line.contains("treasure") || line.contains("logs-both")
        };
        let refused = matches!(answer.status, 400 | 403) && sent.is_empty();
        let nothing =
            !answer.body.contains("jewels") && !answer.body.contains("secret") && !sent.iter().any(named);
        if !(refused || nothing) || answer.body.contains("jewels") {
            wrong.push(format!("{}: {} -> {answer:?}, sent {sent:?}", attempt.what, attempt.line));
        }
        node.place.tap.forget();
    }
    assert!(wrong.is_empty(), "{} got through:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(before, world.state());
}

fn are_refused(world: &World<'static>, attempts: &[Attempt]) {
    // Wildcards that match more than what is granted are refused here.
    let (node, proof) = alice(world, "wildcards = \"resolve\"");
    let before = world.state();
    let others = world.0.ask("GET /_cat/indices?h=index,docs.count&s=index", "");
    let mut wrong = Vec::new();
    for attempt in attempts {
        let answer = attempt.send(node.port, &proof);
        let sent = node.place.tap.asked();
        let refused = matches!(answer.status, 400 | 403);
        if !refused || !sent.is_empty() || answer.body.contains("jewels") {
            wrong.push(format!("{}: {} -> {answer:?}, sent {sent:?}", attempt.what, attempt.line));
            node.place.tap.forget();
        }
    }
    assert!(wrong.is_empty(), "{} got through:\n{}", wrong.len(), wrong.join("\n"));
    // What must not be read any further is refused before anybody looks at who it is.
    let refused = || node.events("request_refused").len() + node.events("login_refused").len();
    wait_until("each is in the trail", PATIENCE, || refused() == attempts.len());
    assert_eq!(before, world.state());
    assert_eq!(others.body, world.0.ask("GET /_cat/indices?h=index,docs.count&s=index", "").body);
    // The same person, on what is theirs.
    let mut client = HttpClient::new(node.port);
    for (line, body) in [
        ("GET /logs-1/_search", r#"{"query":{"terms":{"user":["kim"]}}}"#),
        ("POST /logs-1/_search", r#"{"query":{"terms":{"user":{"index":"logs-1","id":"1","path":"user"}}}}"#),
        ("PUT /logs-2/_doc/9", r#"{"secret":"secret"}"#),
        ("POST /_mget", r#"{"docs":[{"_index":"logs-1","_id":"1"}]}"#),
    ] {
        let answer = client.ask(&proof, line, body);
        assert!(matches!(answer.status, 200 | 201), "{line}: {answer:?}");
    }
}

#[test]
fn nobody_gets_round_their_grant_on_opensearch() {
    nobody_gets_round_their_grant_on(Kind::OpenSearch, COUNT_MIN);
}

#[test]
fn nobody_gets_round_their_grant_on_elasticsearch() {
    nobody_gets_round_their_grant_on(Kind::Elasticsearch, COUNT_MIN);
}
