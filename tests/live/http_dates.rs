//! Dates in the names of indices: the proxy works them out as the cluster does, decides on what comes of them, and
//! sends that; on real clusters.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::cluster::{ClusterPlace, Kind};
use crate::support::http::Answer;
use crate::support::{Node, Person};

fn of(person: &Person) -> String {
    format!("Basic {}", STANDARD.encode(format!("{}:{}", person.name, person.secret)))
}

/// As it stands in a path.
fn encoded(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._".contains(byte);
    text.bytes()
        .map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// The index that the cluster says it has not got.
fn missing(answer: &Answer) -> String {
    assert_eq!(answer.status, 404, "{answer:?}");
    let body: Value = serde_json::from_str(&answer.body).expect("JSON");
    body["error"]["index"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

const MATHS: [&str; 24] = [
    "now",
    "now/d",
    "now/w",
    "now/M",
    "now/y",
    "now/h",
    "now/H",
    "now/m",
    "now+1d",
    "now-1d/d",
    "now-1M",
    "now-1M/M",
    "now/M-1d",
    "now+13M",
    "now-1y/y",
    "now-3w/w",
    "now+36h",
    "now-90m/h",
    "now/d+1d-1w",
    "now+1M-1M",
    "now-d",
    "now+y/y",
    "now/w-1w",
    "now-100d",
];
/// Nothing finer than an hour: both ask at their own moment.
const FORMATS: [&str; 12] = [
    "",
    "{yyyy.MM.dd}",
    "{yyyy.MM}",
    "{yyyy}",
    "{uuuu-MM-dd}",
    "{yyyy.M.d}",
    "{yyyyMMdd}",
    "{yyyy_MM_dd_HH}",
    "{dd.MM.yyyy|Z}",
    "{yyyy.MM.dd|+14:00}",
    "{yyyy.MM.dd.H|-05:30}",
    "{yyyy-MM-dd|UTC}",
];

/// What the cluster makes of a date is what the proxy makes of it.
fn worked_out(kind: Kind) {
    let node = Node::cluster(kind);
    let alice = node.user("alice");
    node.grant("alice", "read", "1h", &["--database", &node.place.name("logs-*")]);
    let (mut through, mut around) = (node.client(), node.place.cluster.client());
    for math in MATHS {
        for format in FORMATS {
            let name = format!("<{}-{{{math}{format}}}-x>", node.place.name("logs"));
            let line = format!("GET /{}/_doc/1", encoded(&name));
            let mut both = || {
                node.place.tap.forget();
                let through = missing(&through.ask(&of(&alice), &line, ""));
                let sent = node.place.tap.asked();
                (through, missing(&around.ask(&node.place.cluster.proof(), &line, "")), sent)
            };
            let (mut ours, mut theirs, mut sent) = both();
            if ours != theirs {
                // An hour may have ended in between.
                (ours, theirs, sent) = both();
            }
            assert_eq!(ours, theirs, "{name}");
            if kind != Kind::Secured {
                assert_eq!(sent, [format!("GET /{ours}/_doc/1")], "{name}");
            }
        }
    }
}

#[test]
fn dates_are_worked_out_as_opensearch_does() {
    worked_out(Kind::OpenSearch);
}

#[test]
fn dates_are_worked_out_as_elasticsearch_does() {
    worked_out(Kind::Elasticsearch);
}

struct Asking<'a> {
    node: &'a Node<ClusterPlace>,
    person: &'a Person,
}

impl Asking<'_> {
    fn ask(&self, line: &str, body: &str) -> Answer {
        self.node.client().ask(&of(self.person), line, body)
    }

    #[track_caller]
    fn done(&self, line: &str, body: &str) -> Value {
        let answer = self.ask(line, body);
        assert!((200..300).contains(&answer.status), "{line}: {answer:?}");
        serde_json::from_str(&answer.body).unwrap_or(Value::Null)
    }
}

/// A person writes to the index of the day and reads what there is of days, and nothing of what is not granted.
fn used(kind: Kind) {
    let node = Node::cluster(kind);
    let person = node.user("alice");
    node.grant("alice", "admin", "1h", &["--database", &node.place.name("logs-*")]);
    let alice = Asking { node: &node, person: &person };
    let dated = |name: &str| encoded(&format!("<{}>", node.place.name(name)));
    let made = alice.done(&format!("PUT /{}", dated("logs-{now/d}-a")), "")["index"].clone();
    let made = made.as_str().expect("its name");
    assert!(made.starts_with(&node.place.name("logs-2")) && made.ends_with("-a"), "{made}");
    alice.done(&format!("PUT /{}/_doc/1?refresh", dated("logs-{now/d}-a")), "{\"n\":1}");
    let secret = node.place.name("secret-2026");
    node.place.cluster.done(&format!("PUT /{secret}/_doc/1?refresh"), "{\"n\":1}");
    let hits = |answer: &Value| answer["hits"]["total"]["value"].clone();
    assert_eq!(hits(&alice.done(&format!("GET /{}/_search", dated("logs-{now/d}-a")), "")), 1);
    assert_eq!(hits(&alice.done(&format!("GET /{}/_search", dated("logs-{now/y{yyyy}}*")), "")), 1);
    let two = format!("{},{}", dated("logs-{now/d}-*"), dated("logs-{now-1M/M}-*"));
    assert_eq!(hits(&alice.done(&format!("GET /{two}/_search"), "")), 1);
    let without = format!("{}*,-{}", node.place.name("logs-"), dated("logs-{now/d}-a"));
    assert_eq!(hits(&alice.done(&format!("GET /{without}/_search"), "")), 0);
    let names =
        json!({"index": [format!("<{}>", node.place.name("logs-{now/d}-a")), node.place.name("logs-*")]});
    let one = json!({"index": format!("<{}>", node.place.name("logs-{now/d}-*"))});
    let many = alice.done("POST /_msearch", &format!("{names}\n{{}}\n{one}\n{{\"size\":0}}\n"));
    assert!(
        many["responses"]
            .as_array()
            .is_some_and(|all| all.len() == 2 && all.iter().all(|one| hits(one) == 1)),
        "{many}"
    );
    // A document may be called so.
    alice.done(&format!("PUT /{made}/_doc/{}?refresh", encoded("<x-{now/d}>")), "{}");
    assert_eq!(alice.done(&format!("GET /{made}/_doc/{}", encoded("<x-{now/d}>")), "")["_id"], "<x-{now/d}>");
    let by_alias = format!("PUT /{made}/_alias/{}", dated("logs-{now/M{yyyy.MM}}"));
    alice.done(&by_alias, "");
    assert_eq!(hits(&alice.done(&format!("GET /{}/_search", dated("logs-{now/M{yyyy.MM}}")), "")), 2);
    let year = "{now/y{yyyy}}";
    for (line, body, status) in [
        (format!("GET /{}/_search", dated("secret-{now/y{yyyy}}")), String::new(), 403),
        (format!("GET /{}/_doc/1", dated("secret-{now{yyyy}}")), String::new(), 403),
        (format!("DELETE /{}", dated("secret-{now/y{yyyy}}")), String::new(), 403),
        (format!("GET /{}/_search", encoded(&format!("<{secret}>"))), String::new(), 403),
        (format!("GET /{made},{}/_search", dated("secret-{now/y{yyyy}}")), String::new(), 403),
        (
            "POST /_msearch".to_owned(),
            format!("{{\"index\":\"<{}>\"}}\n{{}}\n", node.place.name(&format!("secret-{year}"))),
            403,
        ),
        (format!("PUT /{made}/_alias/{}", dated("secret-{now/d}")), String::new(), 403),
        // What is not made anew is not decided on by what it may come to.
        (
            "POST /_bulk".to_owned(),
            format!("{{\"index\":{{\"_index\":\"<{}>\"}}}}\n{{}}\n", node.place.name("logs-{now/d}-a")),
            403,
        ),
        (
            "POST /_mget".to_owned(),
            json!({"docs": [{"_index": format!("<{}>", node.place.name("logs-{now/d}-a")), "_id": "1"}]})
                .to_string(),
            403,
        ),
        (format!("GET /{}/_search", dated("logs-{now/d{YYYY.ww}}")), String::new(), 400),
        (format!("GET /{}/_search", dated("logs-{now/d{yyyy|Europe/Paris}}")), String::new(), 400),
        (format!("GET /{}/_search", dated("logs-{now/d{'x'}}")), String::new(), 403),
    ] {
        let answer = alice.ask(&line, &body);
        assert_eq!(answer.status, status, "{line} {body}: {answer:?}");
    }
    alice.done(&format!("DELETE /{}", dated("logs-{now/d}-a")), "");
    assert_eq!(node.place.cluster.ask(&format!("HEAD /{made}"), "").status, 404);
    // For who may do everything what was said is sent.
    let root = node.user("root");
    node.grant("root", "read", "1h", &["--database", "*"]);
    node.place.tap.forget();
    let line = format!("GET /{}/_search", dated("secret-2026"));
    assert_eq!(node.client().ask(&of(&root), &line, "").status, 200);
    assert_eq!(node.place.tap.asked(), [line]);
    let line = format!("GET /{}/_search", dated("logs-{now/d}"));
    let told = node.json(&["explain", "--user", "alice", "--target", "shop", "--request", &line]);
    assert_eq!(told["allowed"], true, "{told}");
}

#[test]
fn the_index_of_the_day_on_opensearch() {
    used(Kind::OpenSearch);
}

#[test]
fn the_index_of_the_day_on_elasticsearch() {
    used(Kind::Elasticsearch);
}
