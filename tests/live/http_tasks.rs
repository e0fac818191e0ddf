//! Tasks: begun by somebody who does not wait, seen and stopped by nobody else, and gone with the grant, or with the
//! proxy; on real clusters.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::cluster::{ClusterPlace, Kind, shared};
use crate::support::http::{Answer, HttpClient, HttpPlace, request};
use crate::support::{Node, Options, PATIENCE, Person, wait_until};

/// How soon after a cut nothing is left, on a machine that has other things to do.
const GONE: Duration = Duration::from_millis(1_500);
const DOCUMENTS: usize = 200;
/// Two batches take 40 seconds, so that what is cancelled is asleep.
const SLOWLY: &str = "wait_for_completion=false&requests_per_second=0.5&scroll_size=20&conflicts=proceed";

/// They count the tasks that people of one name have on one cluster.
static ALONE: Mutex<()> = Mutex::new(());

fn of(person: &Person) -> String {
    format!("Basic {}", STANDARD.encode(format!("{}:{}", person.name, person.secret)))
}

/// In front of a cluster of which another node may be in front as well.
fn node(kind: Kind, prefix: &str) -> Node<ClusterPlace> {
    let target = if kind == Kind::Secured { "" } else { "tls = \"disable\"" };
    let pool = "size_max = 10\nwait_seconds_max = 30";
    Node::with(ClusterPlace::new(shared(kind), prefix), Options { target, pool, ..Options::default() })
}

fn person(node: &Node<ClusterPlace>, name: &str, level: &str) -> Person {
    let person = node.user(name);
    node.grant(name, level, "1h", &["--database", &node.place.name("logs-*")]);
    person
}

fn fill(node: &Node<ClusterPlace>, index: &str) {
    let lines: String = (0..DOCUMENTS).map(|n| format!("{{\"index\":{{}}}}\n{{\"n\":{n}}}\n")).collect();
    node.place.cluster.done(&format!("POST /{index}/_bulk?refresh"), &lines);
}

fn ask(node: &Node<ClusterPlace>, person: &Person, line: &str, body: &str) -> Answer {
    node.client().ask(&of(person), line, body)
}

fn said(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("{answer:?}"))
}

#[track_caller]
fn refused(answer: &Answer, code: &str) {
    assert!(answer.status == 403 && answer.body.contains(code), "{answer:?}");
}

/// The sealed id of what is begun, and the cluster's own.
fn begin(node: &Node<ClusterPlace>, person: &Person, line: &str, body: &str) -> (String, String) {
    let before: Vec<_> =
        running(node, &format!("{}/", person.name)).into_iter().map(|task| id(&task)).collect();
    let answer = said(&ask(node, person, line, body));
    let sealed = answer["task"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
    let mut raw = None;
    wait_until(&format!("{line} runs"), PATIENCE, || {
        let tasks = running(node, &format!("{}/", person.name));
        raw = tasks.iter().map(id).find(|id| !before.contains(id));
        raw.is_some()
    });
    let raw = raw.expect("just found");
    assert!(!sealed.contains(':') && !sealed.contains(raw.split(':').next().expect("a node")), "{sealed}");
    (sealed, raw)
}

fn id(task: &Value) -> String {
    format!("{}:{}", task["node"].as_str().expect("a node"), task["id"])
}

/// Tasks of which the mark begins so, without those that they began.
fn running(node: &Node<ClusterPlace>, mark: &str) -> Vec<Value> {
    let answer = node.place.cluster.done("GET /_tasks?group_by=none&actions=*byquery,*reindex", "");
    let mut tasks = answer["tasks"].as_array().expect("a list").clone();
    tasks.retain(|task| {
        let is_theirs = task["headers"]["X-Opaque-Id"].as_str().is_some_and(|known| known.starts_with(mark));
        is_theirs && task["parent_task_id"].is_null()
    });
    tasks
}

fn is_running(node: &Node<ClusterPlace>, raw: &str) -> bool {
    running(node, "").iter().any(|task| id(task) == raw)
}

fn revoke(node: &Node<ClusterPlace>, person: &str) {
    let grants = node.json(&["grant", "list"]);
    for grant in grants.as_array().expect("a list").iter().filter(|grant| grant["subject"]["user"] == person)
    {
        node.done(&["grant", "revoke", &crate::support::field(grant, "id")]);
    }
}

/// What may not be told of the cluster.
fn tells_nothing(node: &Node<ClusterPlace>, answer: &Answer, raw: &str) {
    let name = raw.split(':').next().expect("a node");
    let transport = node.place.cluster.transport.to_string();
    for what in [raw, name, "127.0.0.1", &transport, "X-Opaque-Id", "carol/s-"] {
        assert!(!answer.body.contains(what) && !answer.head.contains(what), "{what}: {answer:?}");
    }
}

/// Begun without waiting; looked at, hurried, slowed down and cancelled by whose it is.
fn detached(kind: Kind, prefix: &str) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let node = node(kind, prefix);
    let [carol, dave] = ["carol", "dave"].map(|name| person(&node, name, "read_write"));
    let root = node.user("root");
    node.grant("root", "admin", "1h", &["--database", "*"]);
    let [logs, copy] = ["logs-1", "logs-2"].map(|name| node.place.name(name));
    fill(&node, &logs);
    let copying = json!({"source": {"index": logs}, "dest": {"index": copy}}).to_string();
    for (line, body) in [
        (format!("POST /{logs}/_update_by_query?{SLOWLY}"), "{\"query\":{\"match_all\":{}}}"),
        (format!("POST /{logs}/_delete_by_query?{SLOWLY}"), "{\"query\":{\"match_all\":{}}}"),
        ("POST /_reindex?wait_for_completion=false&requests_per_second=0.5".to_owned(), copying.as_str()),
    ] {
        let (sealed, raw) = begin(&node, &carol, &line, body);
        let about = ask(&node, &carol, &format!("GET /_tasks/{sealed}"), "");
        tells_nothing(&node, &about, &raw);
        let about = said(&about);
        assert!(about["completed"] == false && about["task"]["description"].is_string(), "{about}");
        let kind = line.split(['/', '?']).find(|part| part.starts_with('_')).expect("its route");
        let faster = format!("POST /{kind}/{sealed}/_rethrottle?requests_per_second=0.25");
        let cancel = format!("POST /_tasks/{sealed}/_cancel");
        for line in [&format!("GET /_tasks/{sealed}"), &faster, &cancel] {
            for other in [&dave, &root] {
                refused(&ask(&node, other, line, ""), "TG009");
            }
            refused(&ask(&node, &carol, &line.replace(&sealed, &raw), ""), "TG009");
            refused(&ask(&node, &root, &line.replace(&sealed, &raw), ""), "TG009");
        }
        assert!(is_running(&node, &raw));
        let told = ask(&node, &carol, &faster, "");
        tells_nothing(&node, &told, &raw);
        assert_eq!(
            said(&told)["nodes"]["-"]["tasks"][&sealed]["status"]["requests_per_second"],
            0.25,
            "{told:?}"
        );
        let told = ask(&node, &carol, &cancel, "");
        tells_nothing(&node, &told, &raw);
        assert_eq!(said(&told)["nodes"]["-"]["tasks"][&sealed]["cancellable"], true, "{told:?}");
        wait_until("what sleeps is cancelled at once", GONE, || !is_running(&node, &raw));
        // What has ended is told of as well, to the same person.
        let mut ended = Value::Null;
        wait_until("its result is kept", PATIENCE, || {
            let about = ask(&node, &carol, &format!("GET /_tasks/{sealed}"), "");
            tells_nothing(&node, &about, &raw);
            ended = said(&about);
            ended["completed"] == true
        });
        assert!(ended["task"]["status"]["canceled"].is_string(), "{ended}");
        refused(&ask(&node, &dave, &format!("GET /_tasks/{sealed}"), ""), "TG009");
        tells_nothing(&node, &ask(&node, &carol, &cancel, ""), &raw);
        tells_nothing(&node, &ask(&node, &carol, &faster, ""), &raw);
    }
    for (person, line) in [
        (&carol, "GET /_tasks"),
        (&carol, "POST /_tasks/_cancel"),
        (&carol, "GET /_cat/tasks"),
        (&root, "GET /_tasks"),
        (&root, "POST /_tasks/_cancel?actions=*"),
        (&root, "GET /_tasks/_all"),
    ] {
        refused(&ask(&node, person, line, ""), "TG009");
    }
    // A scroll is no task, and a task no scroll.
    let scroll =
        said(&ask(&node, &carol, &format!("GET /{logs}/_search?scroll=1m"), ""))["_scroll_id"].clone();
    let scroll = scroll.as_str().expect("an id");
    refused(&ask(&node, &carol, &format!("GET /_tasks/{scroll}"), ""), "TG009");
    // One that comes to its end.
    let line = format!("POST /{logs}/_update_by_query?wait_for_completion=false&conflicts=proceed");
    let answer = said(&ask(&node, &carol, &line, ""));
    let sealed = answer["task"].as_str().expect("an id");
    refused(&ask(&node, &carol, &format!("GET /_search/scroll/{sealed}?scroll=1m"), ""), "TG009");
    let about =
        said(&ask(&node, &carol, &format!("GET /_tasks/{sealed}?wait_for_completion=true&pretty"), ""));
    assert!(about["completed"] == true && about["response"]["updated"].as_u64() > Some(0), "{about}");
}

#[test]
fn a_task_is_its_beginners_on_opensearch() {
    detached(Kind::OpenSearch, "task-");
}

#[test]
fn a_task_is_its_beginners_on_opensearch_with_security() {
    detached(Kind::Secured, "task-");
}

/// Elasticsearch as it is given out has no `_update_by_query`, and can be told not to wait for a merge.
#[test]
fn a_task_is_its_beginners_on_elasticsearch() {
    let node = node(Kind::Elasticsearch, "taskmerge-");
    let [carol, dave] = ["carol", "dave"].map(|name| person(&node, name, "admin"));
    let logs = node.place.name("logs-1");
    fill(&node, &logs);
    let line = format!("POST /{logs}/_forcemerge?max_num_segments=1&wait_for_completion=false");
    let answer = said(&ask(&node, &carol, &line, ""));
    let sealed = answer["task"].as_str().expect("an id");
    let about = ask(&node, &carol, &format!("GET /_tasks/{sealed}?wait_for_completion=true"), "");
    tells_nothing(&node, &about, "9300");
    let about = said(&about);
    assert!(about["completed"] == true && about["task"]["node"] == "-", "{about}");
    assert!(about["task"]["action"] == "indices:admin/forcemerge", "{about}");
    refused(&ask(&node, &dave, &format!("GET /_tasks/{sealed}"), ""), "TG009");
    let whole = said(&ask(&node, &carol, &format!("POST /{logs}/_forcemerge?max_num_segments=1"), ""));
    assert!(whole["_shards"].is_object(), "{whole}");
    revoke(&node, "carol");
    refused(&ask(&node, &carol, &format!("GET /_tasks/{sealed}"), ""), "TG00");
}

/// It goes on when its client goes away, and not when its grant ends.
fn with_its_grant(kind: Kind, prefix: &str) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let node = node(kind, prefix);
    let [carol, dave] = ["carol", "dave"].map(|name| person(&node, name, "read_write"));
    let [logs, other] = ["logs-1", "logs-2"].map(|name| node.place.name(name));
    fill(&node, &logs);
    fill(&node, &other);
    let (_, bobs) = begin(&node, &dave, &format!("POST /{other}/_update_by_query?{SLOWLY}"), "");
    let (sealed, raw) = begin(
        &node,
        &carol,
        &format!("POST /{logs}/_delete_by_query?{SLOWLY}"),
        "{\"query\":{\"match_all\":{}}}",
    );
    wait_until("nobody is connected", PATIENCE, || node.sessions().is_empty());
    std::thread::sleep(GONE);
    assert!(is_running(&node, &raw), "what nobody waits for goes on");
    let count =
        || node.place.cluster.done(&format!("GET /{logs}/_count"), "")["count"].as_u64().expect("a number");
    revoke(&node, "carol");
    wait_until("it ends with its grant", GONE, || !is_running(&node, &raw));
    refused(&ask(&node, &carol, &format!("GET /_tasks/{sealed}"), ""), "TG00");
    node.grant("carol", "read_write", "1h", &["--database", &node.place.name("logs-*")]);
    refused(&ask(&node, &carol, &format!("GET /_tasks/{sealed}"), ""), "TG00");
    node.place.cluster.done(&format!("POST /{logs}/_refresh"), "");
    let left = count();
    assert!(left > 0, "it was in the middle");
    assert!(is_running(&node, &bobs), "another's goes on");
    // The same where its client waits for it, asleep.
    let mut waiting = node.client();
    waiting.send(&request(
        &of(&carol),
        &format!("POST /{logs}/_update_by_query?{}", SLOWLY.replace("false", "true")),
        "",
    ));
    wait_until("it runs", PATIENCE, || running(&node, "carol/").len() == 1);
    revoke(&node, "carol");
    refused(&waiting.answer(false), "TG004");
    wait_until("what is waited for ends with its grant", GONE, || running(&node, "carol/").is_empty());
    node.grant("carol", "read_write", "1h", &["--database", &node.place.name("logs-*")]);
    // An id that never came to its client is nobody's, and so is what it is of.
    let mut client: HttpClient = node.client();
    client.send(&request(&of(&carol), &format!("POST /{logs}/_update_by_query?{SLOWLY}"), ""));
    client.close();
    wait_until("an answer that nobody waits for is stopped", PATIENCE, || {
        running(&node, "carol/").is_empty() && node.sessions().is_empty()
    });
    // Those that have ended do not count.
    let empty = node.place.name("logs-empty");
    node.place.cluster.done(&format!("PUT /{empty}"), "");
    let line = format!("POST /{empty}/_update_by_query?wait_for_completion=false");
    let mut client = node.client();
    for round in 0..130 {
        let answer = client.ask(&of(&carol), &line, "");
        assert_eq!(answer.status, 200, "{round}: {answer:?}");
    }
    revoke(&node, "dave");
    wait_until("dave's ends with his", GONE, || !is_running(&node, &bobs));
}

#[test]
fn a_task_ends_with_its_grant_on_opensearch() {
    with_its_grant(Kind::OpenSearch, "taskend-");
}

#[test]
fn a_task_ends_with_its_grant_on_opensearch_with_security() {
    with_its_grant(Kind::Secured, "taskend-");
}

/// What a proxy that is killed leaves behind ends when it is started again, and what is not its own does not.
fn left_behind(kind: Kind, prefix: &str) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let node = node(kind, prefix);
    let neighbour = self::node(kind, &format!("{prefix}n"));
    let carol = person(&node, "carol", "read_write");
    let theirs = person(&neighbour, "carol", "read_write");
    let logs = node.place.name("logs-1");
    let neighbours = neighbour.place.name("logs-1");
    fill(&node, &logs);
    fill(&neighbour, &neighbours);
    let (_, others) =
        begin(&neighbour, &theirs, &format!("POST /{neighbours}/_update_by_query?{SLOWLY}"), "");
    let before: Vec<_> = running(&node, "carol/").iter().map(id).collect();
    assert_eq!(before, std::slice::from_ref(&others));
    // Whoever has such a mark without having been here.
    let mut client = node.place.cluster.client();
    let forged = format!(
        "POST /{logs}/_update_by_query?{SLOWLY} HTTP/1.1\r\nHost: a\r\nX-Opaque-Id: carol/s-0123456789abc/1\r\n\
         Authorization: {}\r\nContent-Length: 0\r\n\r\n",
        node.place.cluster.proof()
    );
    client.send(&forged);
    let forged = said(&client.answer(false))["task"].as_str().expect("an id").to_owned();
    let (sealed, begun) = begin(&node, &carol, &format!("POST /{logs}/_update_by_query?{SLOWLY}"), "");
    let mut waiting = node.client();
    let line =
        format!("POST /{logs}/_update_by_query?requests_per_second=0.5&scroll_size=20&conflicts=proceed");
    waiting.send(&request(&of(&carol), &line, ""));
    wait_until("both run", PATIENCE, || running(&node, "carol/s-").len() == 4);
    node.kill();
    std::thread::sleep(GONE);
    assert_eq!(running(&node, "carol/s-").len(), 4, "nobody is there to cancel them");
    node.resume();
    wait_until("what was left behind is stopped", PATIENCE, || running(&node, "carol/s-").len() == 2);
    std::thread::sleep(GONE);
    let mut left: Vec<_> = running(&node, "carol/s-").iter().map(id).collect();
    left.sort();
    let mut expected = vec![others.clone(), forged.clone()];
    expected.sort();
    assert_eq!(left, expected, "what others began goes on");
    assert!(!is_running(&node, &begun));
    let about = said(&ask(&node, &carol, &format!("GET /_tasks/{sealed}"), ""));
    assert!(about["completed"] == true, "{about}");
    // In order it leaves nothing behind to begin with.
    let (_, again) = begin(&node, &carol, &format!("POST /{logs}/_update_by_query?{SLOWLY}"), "");
    node.signal(Signal::TERM);
    node.wait_ended(PATIENCE);
    assert!(!is_running(&node, &again), "it is stopped before the proxy ends");
    assert!(is_running(&node, &others));
    for task in [others, forged] {
        node.place.cluster.done(&format!("POST /_tasks/{task}/_cancel"), "");
    }
}

#[test]
fn what_a_killed_proxy_left_behind_is_stopped_on_opensearch() {
    left_behind(Kind::OpenSearch, "taskkill-");
}

#[test]
fn what_a_killed_proxy_left_behind_is_stopped_on_opensearch_with_security() {
    left_behind(Kind::Secured, "taskkill-");
}

/// When a node of the cluster is started again it counts its tasks anew, so an id may mean another one.
#[test]
fn an_id_that_came_to_mean_another_task_shows_nothing() {
    let node: Node<HttpPlace> = Node::opensearch();
    let carol = node.user("carol");
    node.grant("carol", "read_write", "1h", &["--database", "logs-*"]);
    let mut client = node.client();
    let answer = client.ask(&of(&carol), "POST /logs-1/_update_by_query?wait_for_completion=false", "");
    let sealed = said(&answer)["task"].as_str().expect("an id").to_owned();
    assert!(!answer.body.contains("raw"), "{answer:?}");
    let seen = node.place.seen().pop().expect("it was sent");
    assert!(
        seen.header("x-opaque-id").is_some_and(|mark| mark.starts_with("carol/s-") && mark.ends_with("/1"))
    );
    // The stand-in says that it is dave's.
    let about = client.ask(&of(&carol), &format!("GET /_tasks/{sealed}"), "");
    assert!(about.status == 404 && !about.body.contains("dave") && !about.body.contains("raw"), "{about:?}");
    for line in ["POST /_tasks/ID/_cancel", "POST /_update_by_query/ID/_rethrottle?requests_per_second=-1"] {
        let sent = node.place.seen().len();
        refused(&client.ask(&of(&carol), &line.replace("ID", &sealed), ""), "TG009");
        let orders: Vec<_> = node.place.seen().split_off(sent).into_iter().map(|seen| seen.line).collect();
        assert_eq!(orders, ["GET /_tasks/raw:1 HTTP/1.1"], "an order was given to it");
    }
}
