//! What a cluster goes on with when a connection is closed is stopped there with the grant it was begun under, and when
//! its client goes away; on real clusters.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::cluster::{ClusterPlace, Kind, shared};
use crate::support::http::{HttpClient, HttpPlace, request};
use crate::support::{CUT, Node, Options, PATIENCE, Person, field, wait_until};

/// How soon after a cut nothing is left, on a machine that has other things to do.
const GONE: Duration = Duration::from_millis(1_500);
const DOCUMENTS: usize = 20_000;

fn of(person: &Person) -> String {
    format!("Basic {}", STANDARD.encode(format!("{}:{}", person.name, person.secret)))
}

/// Alice and bob with `PREFIXlogs-*`, and no more connections than they need.
fn node(kind: Kind, prefix: &str) -> (Node<ClusterPlace>, [Person; 2]) {
    let tls = if kind == Kind::Secured { "" } else { "tls = \"disable\"" };
    let options = Options { target: tls, pool: "size_max = 2\nwait_seconds_max = 2", ..Options::default() };
    let node = Node::with(ClusterPlace::new(shared(kind), prefix), options);
    let people = ["alice", "bob"].map(|name| {
        let person = node.user(name);
        node.grant(name, "read_write", "1h", &["--database", &node.place.name("logs-*")]);
        person
    });
    (node, people)
}

/// Digits that look like chance (Knuth's MMIX).
fn digits(state: &mut u64) -> String {
    let mut more = || {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *state >> 33
    };
    format!("{:010}{:010}{:010}", more(), more(), more())
}

/// An index of so many documents, each with some words of its own.
fn fill(node: &Node<ClusterPlace>, index: &str) {
    let mapping = json!({"mappings": {"properties": {"word": {"type": "keyword"}}}});
    node.place.cluster.done(&format!("PUT /{index}"), &mapping.to_string());
    let mut state = 1;
    for _ in 0..4 {
        let mut document = || {
            let words = [(); 5].map(|()| digits(&mut state));
            json!({"word": words})
        };
        let lines: String =
            (0..DOCUMENTS / 4).map(|_| format!("{{\"index\":{{}}}}\n{}\n", document())).collect();
        node.place.cluster.done(&format!("POST /{index}/_bulk"), &lines);
    }
    node.place.cluster.done(&format!("POST /{index}/_refresh"), "");
}

/// A query that takes some seconds, without a script.
fn slow() -> Value {
    let mut state = 2;
    let mut pattern = || format!("*1*2*3*4*5*{}*", &digits(&mut state)[10..16]);
    let clauses: Vec<_> = (0..300).map(|_| json!({"wildcard": {"word": {"value": pattern()}}})).collect();
    json!({"bool": {"should": clauses}})
}

fn running(node: &Node<ClusterPlace>, action: &str) -> Vec<Value> {
    let answer = node.place.cluster.done(&format!("GET /_tasks?group_by=none&actions={action}"), "");
    answer["tasks"].as_array().expect("a list").clone()
}

fn mark(task: &Value) -> String {
    task["headers"]["X-Opaque-Id"].as_str().unwrap_or_default().to_owned()
}

/// Those that somebody began through the proxy.
fn marks(node: &Node<ClusterPlace>, action: &str, session: &str) -> Vec<String> {
    running(node, action).iter().map(mark).filter(|mark| mark.starts_with(session)).collect()
}

fn revoke(node: &Node<ClusterPlace>, person: &str) {
    let grants = node.json(&["grant", "list"]);
    let grants = grants.as_array().expect("a list").iter();
    for grant in grants.filter(|grant| grant["subject"]["user"] == person) {
        node.done(&["grant", "revoke", &field(grant, "id")]);
    }
}

fn count(node: &Node<ClusterPlace>, index: &str) -> u64 {
    node.place.cluster.done(&format!("POST /{index}/_refresh"), "");
    node.place.cluster.done(&format!("GET /{index}/_count"), "")["count"].as_u64().expect("a number")
}

fn begin(node: &Node<ClusterPlace>, person: &Person, line: &str, body: &Value) -> HttpClient {
    let mut client = node.client();
    client.send(&request(&of(person), line, &body.to_string()));
    client
}

/// Waits for a task of this person, whose session this is.
fn begun(node: &Node<ClusterPlace>, action: &str, person: &str) -> String {
    let mut found = None;
    wait_until(&format!("{action} of {person} runs"), PATIENCE, || {
        found = marks(node, action, &format!("{person}/s-")).pop();
        found.is_some()
    });
    found.expect("just found")
}

/// Each of them is cut in its middle; bob's of the same kind, and one that nobody sent through the proxy, go on.
fn by_query(kind: Kind, prefix: &str) {
    let (node, [alice, bob]) = node(kind, prefix);
    let [logs, copy, other] = ["logs-1", "logs-2", "logs-other"].map(|name| node.place.name(name));
    fill(&node, &logs);
    fill(&node, &other);
    let all = json!({"query": {"match_all": {}}});
    let around =
        format!("POST /{other}/_update_by_query?requests_per_second=1&scroll_size=10&conflicts=proceed");
    let mut direct = node.place.cluster.client();
    direct.send(&request(&node.place.cluster.proof(), &around, ""));
    let bobs =
        begin(&node, &bob, &format!("POST /{other}/_update_by_query?scroll_size=10&conflicts=proceed"), &all);
    let bobs_mark = begun(&node, "*byquery", "bob");
    for (action, line, body) in [
        (
            "indices:data/write/reindex",
            "POST /_reindex".to_owned(),
            json!({"source": {"index": logs, "size": 10}, "dest": {"index": copy}}),
        ),
        (
            "indices:data/write/update/byquery",
            format!("POST /{logs}/_update_by_query?scroll_size=10&conflicts=proceed"),
            all.clone(),
        ),
        (
            "indices:data/write/delete/byquery",
            format!("POST /{logs}/_delete_by_query?scroll_size=10&conflicts=proceed"),
            all.clone(),
        ),
    ] {
        for goes_away in [true, false] {
            let mut client = begin(&node, &alice, &line, &body);
            let mark = begun(&node, action, "alice");
            // PERSON/SESSION/NUMBER: as the trail has it.
            let parts: Vec<_> = mark.split('/').collect();
            assert!(parts.len() == 3 && parts[2] == "1", "{mark}");
            let (began, ended) = (Instant::now(), Instant::now);
            match goes_away {
                true => client.close(),
                false => {
                    revoke(&node, "alice");
                    let answer = client.answer(false);
                    assert!(answer.status == 403 && answer.body.contains("TG004"), "{action}: {answer:?}");
                }
            }
            wait_until(&format!("nothing of {mark} is left"), GONE, || {
                !running(&node, "*").iter().any(|task| self::mark(task) == mark)
            });
            assert!(ended() - began < GONE + CUT, "{action}");
            let end = node.wait_event("result", |line| line["session"] == parts[1]);
            assert!(end["sqlstate"] == "unfinished" && end["number"] == 1, "{end}");
            node.grant("alice", "read_write", "1h", &["--database", &node.place.name("logs-*")]);
        }
    }
    // It was in the middle each time, and it stays there.
    let left = count(&node, &logs);
    assert!(left > 0 && left < DOCUMENTS as u64, "{left}");
    let copied = count(&node, &copy);
    assert!(copied > 0 && copied < DOCUMENTS as u64, "{copied}");
    assert_eq!(marks(&node, "*byquery", "bob/s-"), [bobs_mark]);
    let direct_goes_on = running(&node, "*byquery").iter().filter(|task| mark(task).is_empty()).count();
    assert_eq!(direct_goes_on, 1, "what was not begun through the proxy is not touched");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!((count(&node, &logs), count(&node, &copy)), (left, copied));
    drop(bobs);
    node.place.cluster.done("POST /_tasks/_cancel?actions=*byquery", "");
}

#[test]
fn what_goes_on_is_stopped_on_opensearch() {
    by_query(Kind::OpenSearch, "stop-");
}

#[test]
fn what_goes_on_is_stopped_on_opensearch_with_security() {
    by_query(Kind::Secured, "stop-");
}

/// What reads, and takes long: whether the cluster stops it by itself or goes on with it. Elasticsearch goes on with a
/// count, OpenSearch with ratings.
fn reads(kind: Kind, prefix: &str) {
    let (node, [alice, _]) = node(kind, prefix);
    let logs = node.place.name("logs-1");
    fill(&node, &logs);
    let query = json!({"query": slow()});
    let mut searches = vec![
        (format!("POST /{logs}/_search"), query.clone()),
        (format!("POST /{logs}/_search?scroll=1m"), query.clone()),
        (format!("POST /{logs}/_count"), query.clone()),
    ];
    if kind == Kind::OpenSearch {
        let rated =
            json!({"requests": [{"id": "a", "request": query, "ratings": []}], "metric": {"precision": {}}});
        searches.push((format!("POST /{logs}/_rank_eval"), rated));
    }
    for (line, body) in searches {
        let mut client = begin(&node, &alice, &line, &body);
        let session = begun(&node, "indices:data/read/*", "alice");
        revoke(&node, "alice");
        let began = Instant::now();
        let answer = client.answer(false);
        assert!(answer.status == 403 && answer.body.contains("TG004"), "{line}: {answer:?}");
        assert!(began.elapsed() < CUT, "{line}: {:?}", began.elapsed());
        // The server's threads look at that when they have time; what only waits for others ends with them.
        wait_until(&format!("all of {line} is cancelled"), GONE, || {
            let tasks = running(&node, "indices:data/read/*");
            tasks.iter().all(|task| {
                !mark(task).starts_with(&session) || task["cancelled"] == true || task["cancellable"] == false
            })
        });
        wait_until(&format!("nothing of {line} is left"), PATIENCE, || {
            marks(&node, "indices:data/read/*", &session).is_empty()
        });
        let again = client.ask(&of(&alice), "GET /", "");
        assert!(again.status == 403, "{again:?}");
        node.grant("alice", "read_write", "1h", &["--database", &node.place.name("logs-*")]);
    }
}

#[test]
fn long_searches_are_stopped_on_opensearch() {
    reads(Kind::OpenSearch, "stopread-");
}

#[test]
fn long_searches_are_stopped_on_elasticsearch() {
    reads(Kind::Elasticsearch, "stopread-");
}

fn line(index: &str) -> String {
    format!("{{\"index\":{{\"_index\":\"{index}\"}}}}\n{{\"text\":\"{}\"}}\n", "x".repeat(1 << 10))
}

struct Sending {
    thread: std::thread::JoinHandle<()>,
    sent: Arc<AtomicUsize>,
}

impl Sending {
    fn wait(&self, bytes: usize) {
        wait_until("most of it has come", PATIENCE, || self.sent.load(Ordering::Relaxed) > bytes);
    }
}

/// Sends the head, then the body as fast as it is taken up to `fast` bytes, and the rest slowly, until it is hung up
/// on.
fn send_slowly(client: &HttpClient, head: String, (piece, times): (String, usize), fast: usize) -> Sending {
    let mut socket = client.socket.try_clone().expect("a second handle");
    let counted = Arc::new(AtomicUsize::new(0));
    let (sent, many) = (counted.clone(), piece.repeat(times));
    let thread = std::thread::spawn(move || {
        let mut gone = socket.write_all(head.as_bytes()).is_err();
        while !gone {
            if sent.load(Ordering::Relaxed) < fast {
                gone = socket.write_all(many.as_bytes()).is_err();
            } else {
                std::thread::sleep(Duration::from_millis(20));
                gone = socket.write_all(piece.as_bytes()).is_err();
            }
            sent.fetch_add(many.len(), Ordering::Relaxed);
        }
    });
    Sending { thread, sent: counted }
}

fn head(person: &Person, target: &str, length: usize) -> String {
    format!(
        "POST {target} HTTP/1.1\r\nHost: a\r\nAuthorization: {}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n",
        of(person)
    )
}

/// A bulk of 90 MB that is cut when most of it has come: nothing of it is indexed.
#[test]
fn a_long_bulk_ends_with_its_grant() {
    for bodies in ["whole", "stream"] {
        let node = Node::cluster_with(Kind::OpenSearch, &format!("bodies = \"{bodies}\""));
        let alice = node.user("alice");
        node.grant("alice", "read_write", "1h", &["--database", &node.place.name("logs-*")]);
        let logs = node.place.name("logs-1");
        node.place.cluster.done(&format!("PUT /{logs}"), "");
        let piece = (line(&logs), 1_000);
        let mut client = node.client();
        let sending = send_slowly(&client, head(&alice, "/_bulk", 90_000_000), piece, 80_000_000);
        sending.wait(80_000_000);
        let before = node.resident_bytes();
        let began = Instant::now();
        revoke(&node, "alice");
        let answer = client.answer(false);
        assert!(answer.status == 403 && answer.body.contains("TG004"), "{bodies}: {answer:?}");
        assert!(began.elapsed() < CUT, "{bodies}: {:?}", began.elapsed());
        sending.thread.join().expect("it ends");
        wait_until("it has ended", PATIENCE, || node.sessions().is_empty());
        assert_eq!(running(&node, "indices:data/write/*").len(), 0, "{bodies}");
        assert_eq!(count(&node, &logs), 0, "{bodies}");
        assert!(before < 200 << 20, "{bodies}: {before} bytes of memory");
    }
}

/// A gigabyte on its way to a target that takes whatever comes.
#[test]
fn a_gigabyte_ends_with_its_grant() {
    for (bodies, fast) in [("whole", 300_000_000), ("stream", 600_000_000)] {
        let target = format!("tls = \"disable\"\nbodies = \"{bodies}\"");
        let node = Node::with(HttpPlace::default(), Options { target: &target, ..Options::default() });
        let alice = node.user("alice");
        node.grant("alice", "read_write", "1h", &["--database", "logs-*"]);
        let mut client = node.client();
        // A document is not looked into, so this is as fast as it goes.
        let head = head(&alice, "/logs-1/_doc?routing=discard", 1_000_000_000);
        let sending = send_slowly(&client, head, ("x".repeat(1 << 10), 1 << 10), fast);
        sending.wait(fast);
        let (began, before) = (Instant::now(), node.resident_bytes());
        for grant in node.json(&["grant", "list"]).as_array().expect("a list") {
            node.done(&["grant", "revoke", &field(grant, "id")]);
        }
        let answer = client.answer(false);
        assert!(answer.status == 403 && answer.body.contains("TG004"), "{bodies}: {answer:?}");
        assert!(began.elapsed() < CUT, "{bodies}: {:?}", began.elapsed());
        sending.thread.join().expect("it ends");
        wait_until("it has ended", PATIENCE, || node.sessions().is_empty());
        wait_until("nothing is open at the target", PATIENCE, || {
            node.place.connections() - node.place.closed() <= 2
        });
        assert!(node.place.seen().is_empty(), "{bodies}: it came to its end");
        assert!(before < 200 << 20, "{bodies}: {before} bytes of memory");
    }
}
