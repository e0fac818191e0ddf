//! What wildcards and answers that list names come to on real clusters, where indices of others lie beside one's own.

use serde_json::Value;

use crate::support::cluster::{ClusterPlace, Kind};
use crate::support::http::Answer;
use crate::support::{Node, Person};

fn proof(person: &Person) -> String {
    use base64::Engine;
    let login = format!("{}:{}", person.name, person.secret);
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(login))
}

/// Alice with `PREFIXlogs-*`, and beside that: an alias over a secret, one with a filter, a closed and a hidden index.
fn node(kind: Kind) -> (Node<ClusterPlace>, Person) {
    let node = Node::cluster(kind);
    let alice = node.user("alice");
    let name = |name: &str| node.place.name(name);
    node.grant("alice", "read_write", "1h", &["--database", &name("logs-*")]);
    let cluster = node.place.cluster;
    for (index, user) in [("logs-1", "kim"), ("logs-2", "lee"), ("secret", "kim"), ("logs-closed", "kim")] {
        cluster.done(&format!("PUT /{}/_doc/1?refresh", name(index)), &format!("{{\"user\":\"{user}\"}}"));
    }
    cluster.done(&format!("POST /{}/_close", name("logs-closed")), "");
    cluster.done(&format!("PUT /{}", name("logs-hidden")), r#"{"settings":{"index.hidden":true}}"#);
    let (one, two, secret) = (name("logs-1"), name("logs-2"), name("secret"));
    let actions = serde_json::json!({"actions": [
        {"add": {"indices": [one, secret], "alias": name("logs-both")}},
        {"add": {"index": two, "alias": name("logs-none"), "filter": {"term": {"user.keyword": "nobody"}}}},
        {"add": {"index": secret, "alias": name("other")}},
    ]});
    cluster.done("POST /_aliases", &actions.to_string());
    (node, alice)
}

fn total(answer: &Answer) -> Value {
    let body: Value = serde_json::from_str(&answer.body).expect("JSON");
    body["hits"]["total"]["value"].clone()
}

/// The words of an answer that are names of indices which tests of this run have made, and not alice's.
fn others<'a>(node: &Node<ClusterPlace>, body: &'a str) -> Vec<&'a str> {
    let own = node.place.name("logs-");
    let words = body.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')));
    let is_name = |word: &&str| {
        let rest = word.trim_start_matches('.').strip_prefix('t').unwrap_or_default();
        rest.split_once('-').is_some_and(|(number, _)| number.parse::<u32>().is_ok())
            || word.contains("secret")
    };
    words.filter(is_name).filter(|word| !word.starts_with(&own)).collect()
}

fn wildcards(kind: Kind) {
    let (node, alice) = node(kind);
    let (mut client, proof) = (node.client(), proof(&alice));
    let name = |name: &str| node.place.name(name);
    let mut ask = |line: &str, body: &str| client.ask(&proof, line, body);
    let (one, two, all) = (name("logs-1"), name("logs-2"), name("logs-*"));
    for (line, hits) in [
        ("GET /_search".to_owned(), 2),
        ("GET /*/_search".to_owned(), 2),
        ("GET /_all/_search".to_owned(), 2),
        (format!("GET /{all}/_search"), 2),
        (format!("GET /*,-{one}/_search"), 1),
        (format!("GET /{one},{}/_search", name("logs-2*")), 2),
        (format!("GET /{}/_search", name("logs-no*")), 0),
        (format!("GET /{}/_search", name("sec*")), 0),
        (format!("GET /{}/_search", name("oth*")), 0),
        ("GET /nothing-like-this*/_search".to_owned(), 0),
        ("GET /.*/_search?expand_wildcards=all".to_owned(), 0),
    ] {
        let answer = ask(&line, "");
        assert_eq!(answer.status, 200, "{line}: {answer:?}");
        assert_eq!(total(&answer), hits, "{line}: {answer:?}");
        assert_eq!(others(&node, &answer.body), Vec::<&str>::new(), "{line}");
    }
    // Every name that is sent is hers, or it is the list that means nothing.
    for line in node.place.tap.asked() {
        let names = line.split('/').nth(1).unwrap_or_default();
        let own = names.split(',').all(|sent| sent.starts_with(&name("logs-")));
        assert!(own || names == "*,-*", "{line}");
    }
    let body = "{}\n{}\n{\"index\":\"*-1\"}\n{}\n{\"index\":\"nothing-like-this*\"}\n{}\n";
    let answer = ask("POST /_msearch", body);
    let said: Value = serde_json::from_str(&answer.body).expect("JSON");
    let totals: Vec<_> = said["responses"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["hits"]["total"]["value"].clone())
        .collect();
    assert_eq!(totals, [2, 1, 0], "{answer:?}");
    assert_eq!(others(&node, &answer.body), Vec::<&str>::new());
    // What is not there and what is not hers are answered alike, and what is hers and not there is the
    // cluster's to say.
    for names in
        [name("secret"), name("secrets"), name("other"), name("logs-both"), format!("{one},{}", name("x"))]
    {
        let answer = ask(&format!("GET /{names}/_search"), "");
        assert_eq!(answer.status, 403, "{names}: {answer:?}");
        assert_eq!(others(&node, &answer.body), Vec::<&str>::new());
    }
    assert_eq!(ask(&format!("GET /{}/_search", name("logs-9")), "").status, 404);
    // A change through the proxy counts at once: what it makes, a wildcard stands for.
    assert_eq!(ask(&format!("PUT /{}/_doc/1?refresh", name("logs-3")), r#"{"user":"kim"}"#).status, 201);
    assert_eq!(total(&ask(&format!("GET /{all}/_search"), "")), 3);
    if kind == Kind::Elasticsearch {
        // Its core deletes by no query.
        return;
    }
    let answer =
        ask(&format!("POST /{all},-{two}/_delete_by_query?refresh"), r#"{"query":{"match_all":{}}}"#);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(total(&node.place.cluster.ask(&format!("GET /{}/_search", name("secret")), "")), 1);
    assert_eq!(total(&node.place.cluster.ask(&format!("GET /{two}/_search"), "")), 1);
}

const LISTS: [(&str, &str); 17] = [
    ("/_cat/indices", "/_cat/indices/@"),
    ("/_cat/indices?format=json", "/_cat/indices/@?format=json"),
    ("/_cat/shards", "/_cat/shards/@"),
    ("/_cat/segments", "/_cat/segments/@"),
    ("/_cat/recovery", "/_cat/recovery/@"),
    ("/_cat/count", "/_cat/count/@"),
    ("/_cat/aliases", "/_cat/aliases/@"),
    ("/_resolve/index/*", "/_resolve/index/@"),
    ("/_alias", "/@/_alias"),
    ("/_mapping", "/@/_mapping"),
    ("/_settings", "/@/_settings"),
    ("/_stats", "/@/_stats"),
    ("/_stats?level=shards", "/@/_stats?level=shards"),
    ("/_cluster/health?level=indices", "/_cluster/health/@?level=indices"),
    ("/_cluster/health?level=shards", "/_cluster/health/@?level=shards"),
    ("/_field_caps?fields=*&include_unmapped", "/@/_field_caps?fields=*&include_unmapped"),
    ("/*", "/@"),
];

fn lists(kind: Kind) {
    let (node, alice) = node(kind);
    let (mut client, proof) = (node.client(), proof(&alice));
    let mut ask = |line: &str| -> Option<Answer> {
        let answer = client.ask(&proof, line, "");
        // Elasticsearch's core has not all of them.
        let there = answer.status != 400 || !answer.body.contains("no handler found");
        there.then_some(answer)
    };
    let mut seen = 0;
    for (whole, named) in LISTS {
        let line = format!("GET {whole}");
        let Some(answer) = ask(&line) else { continue };
        assert_eq!(answer.status, 200, "{line}: {answer:?}");
        // An alias is shown with its index.
        let aliases = [node.place.name("logs-both"), node.place.name("other")];
        let others: Vec<_> = others(&node, &answer.body)
            .into_iter()
            .filter(|word| !aliases.contains(&(*word).to_owned()))
            .collect();
        assert_eq!(others, Vec::<&str>::new(), "{line}: {}", answer.body);
        if !["/_cat/count", "/_cat/aliases", "/_field_caps?fields=*&include_unmapped", "/_stats"]
            .contains(&whole)
        {
            assert!(answer.body.contains(&node.place.name("logs-1")), "{line}: {}", answer.body);
        }
        seen += 1;
        // Nothing of hers: what there is besides is not in the answer, and it is no error of the proxy's.
        let line = format!("GET {}", named.replace('@', &node.place.name("sec*")));
        let answer = ask(&line).expect("it was there");
        assert!(matches!(answer.status, 200 | 404 | 408), "{line}: {answer:?}");
        assert!(!answer.body.contains("secret"), "{line}: {}", answer.body);
        let words: Vec<_> = answer.body.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').collect();
        let own = node.place.name("logs-");
        assert!(!words.iter().any(|word| word.starts_with(&own)), "{line}: {}", answer.body);
        // Hers, by name and by wildcard, is the same.
        let both = [node.place.name("logs-1"), node.place.name("logs-1*")];
        let [named, wild] =
            both.map(|names| ask(&format!("GET {}", named.replace('@', &names))).expect("there").body);
        let steady = |body: &str| {
            body.replace(|c: char| c.is_ascii_digit(), "").split_whitespace().collect::<String>()
        };
        if !whole.contains("aliases") {
            assert_eq!(steady(&named), steady(&wild), "{whole}");
        }
    }
    assert!(seen >= 12, "{seen}");
}

#[test]
fn wildcards_on_opensearch() {
    wildcards(Kind::OpenSearch);
}

#[test]
fn wildcards_on_opensearch_with_security() {
    wildcards(Kind::Secured);
}

#[test]
fn wildcards_on_elasticsearch() {
    wildcards(Kind::Elasticsearch);
}

#[test]
fn lists_on_opensearch() {
    lists(Kind::OpenSearch);
}

#[test]
fn lists_on_elasticsearch() {
    lists(Kind::Elasticsearch);
}
