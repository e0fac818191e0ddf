//! The consoles of Kibana and OpenSearch Dashboards: what they send (`dev_tools.txt`) works for who may do it, as it
//! would without the proxy, and is refused for others in words that a console shows.

use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::Node;
use crate::support::cluster::{ClusterPlace, Kind};
use crate::support::http::{Answer, HttpClient};

const REQUESTS: &str = include_str!("dev_tools.txt");
/// Who asks; what each of them may do, the ones before may do less.
const PEOPLE: [&str; 4] = ["read", "read_write", "admin", "everything"];

#[derive(Debug)]
struct Request {
    /// The first of [`PEOPLE`] who may do it, by place; behind the last: nobody.
    level: usize,
    from: &'static str,
    line: String,
    /// What is the same around the proxy.
    same: String,
    body: String,
}

fn requests(kind: Kind, prefix: &str) -> Vec<Request> {
    let text = REQUESTS.replace('@', prefix);
    let mut lines = text.lines().filter(|line| !line.starts_with('#') && !line.starts_with("==")).peekable();
    let mut requests = Vec::new();
    while let Some(line) = lines.next() {
        let Some((level, from)) = first(line) else {
            assert!(line.is_empty(), "{line} stands between requests");
            continue;
        };
        let line = lines.next().expect("a request").to_owned();
        let (method, target) = line.split_once(' ').expect("a method and a target");
        let same = lines.next_if(|line| line.starts_with("= ")).map_or(target, |same| &same[2..]);
        let same = format!("{method} {same}");
        let mut body = String::new();
        while let Some(next) = lines.next_if(|line| !line.is_empty() && first(line).is_none()) {
            body += &format!("{next}\n");
        }
        if kind == Kind::Elasticsearch && level.ends_with('!') {
            continue;
        }
        let level = level.trim_end_matches('!');
        let level = PEOPLE.iter().position(|person| *person == level).unwrap_or(PEOPLE.len());
        requests.push(Request { level, from, line, same, body });
    }
    requests
}

/// LEVEL and FROM.
fn first(line: &str) -> Option<(&str, &'static str)> {
    let (level, rest) = line.split_once(' ')?;
    let known = PEOPLE.contains(&level.trim_end_matches('!')) || level == "nobody";
    let from = ["kibana", "client"].into_iter().find(|from| rest.split(' ').next() == Some(from));
    from.filter(|_| known).map(|from| (level, from))
}

impl Request {
    /// As that console frames it.
    fn send(&self, client: &mut HttpClient, proof: &str, line: &str) -> Answer {
        let mut head = format!("{line} HTTP/1.1\r\n");
        if !proof.is_empty() {
            let _ = write!(head, "authorization: {proof}\r\n");
        }
        let chunked = match self.body.as_str() {
            "" => "0\r\n\r\n".to_owned(),
            body => format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()),
        };
        let rest = match (self.from, self.body.is_empty()) {
            ("kibana", _) => {
                head += "x-forwarded-for: 10.1.2.3\r\nx-forwarded-port: 51000\r\nx-forwarded-proto: http\r\n\
                         x-forwarded-host: kibana.example:5601\r\nx-elastic-product-origin: kibana\r\n\
                         content-type: application/json\r\ntransfer-encoding: chunked\r\n";
                chunked
            }
            (_, is_empty) => {
                head += "user-agent: opensearch-js/2.13.0 (linux 6.1.0-x64; Node.js v20.18.3)\r\n\
                         x-opaque-id: 0d1c2f3e\r\n";
                match is_empty {
                    true => String::new(),
                    false => {
                        head += "content-type: application/json\r\ntransfer-encoding: chunked\r\n";
                        chunked
                    }
                }
            }
        };
        client.send(&format!("{head}Host: localhost\r\nConnection: keep-alive\r\n\r\n{rest}"));
        client.answer(line.starts_with("HEAD"))
    }
}

/// `@logs-1` and `@logs-2` with an alias for both, and `@secret`.
fn make(node: &Node<ClusterPlace>) {
    let (cluster, name) = (node.place.cluster, |name: &str| node.place.name(name));
    let fields = json!({"user": {"type": "keyword"}, "text": {"type": "text"}});
    let about = json!({"settings": {"number_of_replicas": 0, "number_of_shards": 1},
        "mappings": {"properties": fields}});
    for (index, user) in [("logs-1", "kim"), ("logs-2", "lee"), ("secret", "ann")] {
        cluster.done(&format!("PUT /{}", name(index)), &about.to_string());
        let document = json!({"user": user, "text": "hello world"});
        cluster.done(&format!("PUT /{}/_doc/1?refresh", name(index)), &document.to_string());
    }
    let both = json!({"indices": [name("logs-1"), name("logs-2")], "alias": name("logs-both")});
    cluster.done("POST /_aliases", &json!({"actions": [{"add": both}]}).to_string());
}

/// Without what another moment changes.
fn steady(answer: &Answer) -> (u16, Value) {
    let body = match serde_json::from_str(&answer.body) {
        Ok(body) => timeless(body),
        // A table: how wide it is depends on what is in it.
        _ => answer.body.split_whitespace().collect::<Vec<_>>().join(" ").into(),
    };
    (answer.status, body)
}

fn timeless(value: Value) -> Value {
    const MOVED: [&str; 2] = ["took", "task_max_waiting_in_queue_millis"];
    match value {
        Value::Object(mut members) => {
            members.retain(|name, _| !MOVED.contains(&name.as_str()));
            Value::Object(members.into_iter().map(|(name, value)| (name, timeless(value))).collect())
        }
        Value::Array(list) => list.into_iter().map(timeless).collect(),
        value => value,
    }
}

/// A console shows the body of an answer, and 401 would ask for a login again.
fn is_shown(answer: &Answer, request: &Request) {
    assert_eq!(answer.status, 403, "{request:?}: {answer:?}");
    if request.line.starts_with("HEAD") {
        return;
    }
    assert!(answer.head.contains("content-type: application/json"), "{answer:?}");
    let body: Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!(body["status"], 403, "{answer:?}");
    assert_eq!(body["error"]["type"], "security_exception", "{answer:?}");
    assert!(body["error"]["reason"].as_str().is_some_and(|reason| reason.contains("[TG0")), "{answer:?}");
}

fn consoles_work_on(kind: Kind) {
    let node = Node::cluster(kind);
    make(&node);
    let pattern = node.place.name("logs-*");
    let mut people: Vec<(HttpClient, String)> = PEOPLE
        .iter()
        .map(|person| {
            let name = person.replace('_', "-");
            let who = node.user(&name);
            let (level, database) = match *person {
                "everything" => ("admin", "*"),
                level => (level, pattern.as_str()),
            };
            node.grant(&name, level, "1h", &["--database", database]);
            let proof = STANDARD.encode(format!("{name}:{}", who.secret));
            (HttpClient::new(node.port), format!("Basic {proof}"))
        })
        .collect();
    let mut direct = node.place.cluster.client();
    let requests = requests(kind, &node.place.prefix);
    let (mut same, mut refused) = (0, 0);
    for request in &requests {
        let reads = ["GET", "HEAD"].iter().any(|method| request.line.starts_with(method));
        let expected = reads.then(|| steady(&request.send(&mut direct, "", &request.same)));
        for (place, (client, proof)) in people.iter_mut().enumerate() {
            // A change that can be made once is made by the one who may do least.
            let once = request.level == 2 && request.line.contains("logs-new");
            if once && place > request.level {
                continue;
            }
            // Who may see everything is asked for what is the same as what others see.
            let line = if place == 3 { &request.same } else { &request.line };
            let answer = request.send(client, proof, line);
            if place < request.level {
                is_shown(&answer, request);
                refused += 1;
                continue;
            }
            match &expected {
                Some(expected) => assert_eq!(&steady(&answer), expected, "{} {request:?}", PEOPLE[place]),
                // What is gone already is not there.
                None => {
                    let done = matches!(answer.status, 200 | 201);
                    let gone = answer.status == 404 && request.line.starts_with("DELETE");
                    assert!(done || gone, "{} {request:?}: {answer:?}", PEOPLE[place]);
                }
            }
            same += 1;
        }
    }
    // A body that is announced and empty is none; one with something in it is not taken where there must be none.
    let (client, proof) = &mut people[2];
    let line = format!("GET /{}/_mapping", node.place.name("logs-1"));
    let request = Request { level: 0, from: "kibana", same: line.clone(), line, body: "{}".into() };
    let answer = request.send(client, proof, &request.line);
    assert!(answer.status == 400 && answer.body.contains("takes no body"), "{answer:?}");
    println!("{kind:?}: {} requests; {same} answered, {refused} refused", requests.len());
    assert!(same >= 100 && refused >= 40, "{same} {refused}");
}

#[test]
fn consoles_work_on_opensearch() {
    consoles_work_on(Kind::OpenSearch);
}

#[test]
fn consoles_work_on_elasticsearch() {
    consoles_work_on(Kind::Elasticsearch);
}
