//! What a person with a grant for everything does not get from real clusters either: the addresses of their nodes, and
//! the cluster's own accounts by another name.

use serde_json::json;

use crate::support::cluster::{ClusterPlace, Kind};
use crate::support::{Node, Person};

fn proof(person: &Person) -> String {
    use base64::Engine;
    let login = format!("{}:{}", person.name, person.secret);
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(login))
}

fn node(kind: Kind) -> (Node<ClusterPlace>, Person) {
    let node = Node::cluster(kind);
    let root = node.user("root");
    node.grant("root", "admin", "1h", &["--database", "*"]);
    node.place.cluster.done(&format!("PUT /{}/_doc/1?refresh", node.place.name("logs-1")), "{}");
    (node, root)
}

/// Where the tests' clusters are.
const ADDRESS: &str = "127.0.0.1";

fn addresses(kind: Kind) {
    let (node, root) = node(kind);
    let (mut client, proof) = (node.client(), proof(&root));
    let one = node.place.name("logs-1");
    let (mut told, mut held) = (0, 0);
    for target in [
        "/_cat/shards",
        "/_cat/shards/@?format=json",
        "/_cat/segments/@?v",
        "/_cat/recovery/@?v",
        "/_cat/segment_replication",
        "/_cat/allocation?v",
        "/_cat/master?v",
        "/_cat/cluster_manager?format=json",
        "/_cat/fielddata?v",
        "/_cat/thread_pool",
        "/_cat/indices/@?v",
        "/_recovery",
        "/@/_recovery?detailed=true",
        "/@/_recovery?filter_path=**.ip,**.host,**.transport_address,*.shards.id",
        "/@/_shard_stores?status=all",
        "/_shard_stores?status=all&filter_path=**.transport_address,**.allocation",
        "/_cluster/state",
        "/_cluster/state/nodes",
        "/_cluster/state/nodes?filter_path=nodes",
        "/_cluster/settings?include_defaults=true",
        "/_cluster/settings?include_defaults=true&flat_settings=true",
        "/_cluster/stats",
        "/@/_segments",
        "/@/_stats?level=shards",
        "/@/_settings",
    ] {
        let target = target.replace('@', &one);
        let line = format!("GET {target}");
        let (ours, direct) = (client.ask(&proof, &line, ""), node.place.cluster.ask(&line, ""));
        // Elasticsearch's core has not all of them, and OpenSearch's security keeps some.
        if direct.status != 200 {
            continue;
        }
        assert_eq!(ours.status, 200, "{target}: {ours:?}");
        assert!(!ours.body.contains(ADDRESS), "{target}: {}", ours.body);
        told += usize::from(direct.body.contains(ADDRESS));
        // The rest is there: what the nodes are called, and of tables every other column.
        if target.contains("_cat") && !target.contains("format") {
            held += usize::from(!ours.body.is_empty() && direct.body.contains(ADDRESS));
            let words = |body: &str| body.lines().next().map_or(0, |line| line.split_whitespace().count());
            let missing = words(&direct.body).saturating_sub(words(&ours.body));
            assert!(missing <= 2, "{target}: {missing} columns less\n{}{}", direct.body, ours.body);
            assert!(missing > 0 || !direct.body.contains(ADDRESS), "{target}: {}{}", direct.body, ours.body);
        }
    }
    assert!(told >= 12 && held >= 3, "it is told directly: {told}, {held}");
    for target in [
        "/_cat/shards?h=index,ip",
        "/_cat/shards?h=*",
        "/_cat/recovery?h=thost",
        "/_search_shards",
        "/_nodes",
    ] {
        let answer = client.ask(&proof, &format!("GET {target}"), "");
        assert_eq!(answer.status, 403, "{target}: {answer:?}");
        assert!(!answer.body.contains(ADDRESS), "{answer:?}");
    }
    let chosen = client.ask(&proof, &format!("GET /_cat/shards/{one}?h=index,node&format=json"), "");
    assert!(chosen.body.contains("\"node\":\"one\""), "{chosen:?}");
    let named = client.ask(&proof, &format!("GET /{one}/_recovery"), "");
    assert!(named.body.contains("\"name\":\"one\"") || named.body == "{}", "{named:?}");
}

/// An index that is called as one with accounts, and hidden names of it, for other tests see all that is not hidden.
fn accounts(kind: Kind) {
    let (node, root) = node(kind);
    let (cluster, proof) = (node.place.cluster, proof(&root));
    let name = |name: &str| node.place.name(name);
    let (index, alias, one) = (format!(".security-{}7", node.place.prefix), name("people"), name("logs-1"));
    cluster.done(&format!("PUT /{index}"), r#"{"settings":{"index.hidden":true}}"#);
    cluster.done(&format!("PUT /{index}/_doc/1?refresh"), r#"{"hash":"THE-HASH"}"#);
    let add = json!({"actions": [{"add": {"index": index, "alias": alias, "is_hidden": true}}]});
    cluster.done("POST /_aliases", &add.to_string());
    assert!(cluster.ask(&format!("GET /{alias}/_search"), "").body.contains("THE-HASH"), "it is a way to it");
    let mut client = node.client();
    let lookup =
        json!({"query": {"terms": {"user": {"index": alias, "id": "1", "path": "hash"}}}}).to_string();
    let wrapped = json!({"query": {"bool": {"must": [{"wrapper": {"query": "eyJtYXRjaF9hbGwiOnt9fQ=="}},
        {"terms": {"user": {"index": alias, "id": "1", "path": "hash"}}}]}}});
    let searches = format!("{{\"index\":\"{one}\"}}\n{{}}\n{{\"index\":\"{alias}\"}}\n{{}}\n");
    for (line, body) in [
        (format!("GET /{alias}/_search"), String::new()),
        (format!("GET /{alias}/_doc/1"), String::new()),
        (format!("GET /{one},{alias}/_search"), String::new()),
        (format!("GET /{alias}/_mapping"), String::new()),
        (format!("GET /{}/_search?expand_wildcards=all", name("peo*")), String::new()),
        (format!("GET /*{}7/_search?expand_wildcards=all", node.place.prefix), String::new()),
        (format!("POST /{one}/_search"), lookup),
        (format!("POST /{one}/_search"), wrapped.to_string()),
        ("POST /_msearch".to_owned(), searches),
        ("POST /_mget".to_owned(), json!({"docs": [{"_index": alias, "_id": "1"}]}).to_string()),
        ("POST /_bulk".to_owned(), format!("{{\"index\":{{\"_index\":\"{alias}\"}}}}\n{{}}\n")),
        (format!("PUT /{alias}/_doc/2"), "{}".to_owned()),
        ("PUT /_index_template/t".to_owned(), json!({"index_patterns": [".sec*"]}).to_string()),
        (
            "PUT /_template/t".to_owned(),
            json!({"index_patterns": ["*ecurity-7"], "aliases": {"a": {}}}).to_string(),
        ),
        (format!("PUT /{index}/_alias/{}", name("mine")), String::new()),
    ] {
        let answer = client.ask(&proof, &line, &body);
        assert_eq!(answer.status, 403, "{line}: {answer:?}");
        assert!(answer.body.contains("accounts") && !answer.body.contains("HASH"), "{line}: {answer:?}");
    }
    // What does not lead there goes as before, as does the alias once it leads elsewhere.
    for line in
        [format!("GET /{one}/_search"), "GET /_cat/aliases".to_owned(), "GET /_cluster/settings".to_owned()]
    {
        let answer = client.ask(&proof, &line, "");
        assert_eq!(answer.status, 200, "{line}: {answer:?}");
    }
    cluster.done(&format!("DELETE /{index}"), "");
    let moved = json!({"actions": [{"add": {"index": one, "alias": alias}}]});
    cluster.done("POST /_aliases", &moved.to_string());
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    assert_eq!(client.ask(&proof, &format!("GET /{alias}/_search"), "").status, 200);
}

#[test]
fn nobody_is_shown_where_the_nodes_of_opensearch_are() {
    addresses(Kind::OpenSearch);
}

#[test]
fn nobody_is_shown_where_the_nodes_of_elasticsearch_are() {
    addresses(Kind::Elasticsearch);
}

#[test]
fn another_name_for_accounts_is_no_way_to_them_on_opensearch() {
    accounts(Kind::OpenSearch);
}

#[test]
fn another_name_for_accounts_is_no_way_to_them_on_elasticsearch() {
    accounts(Kind::Elasticsearch);
}
