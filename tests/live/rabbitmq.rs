//! RabbitMQ's management API on a real server: what reaches it for a person with one vhost, and what never does.

use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::clients::{client, source};
use crate::support::http::{Answer, HttpClient, request};
use crate::support::rabbit::{Amqp, RabbitPlace, esc, installed};
use crate::support::{CUT, Node, PATIENCE, Person, text, wait_until};

type Rabbit = Node<RabbitPlace>;

fn proof(person: &Person) -> String {
    format!("Basic {}", STANDARD.encode(format!("{}:{}", person.name, person.secret)))
}

/// As this person, through the proxy; `{T}` and `{S}` stand for the granted and the other vhost.
fn through(node: &Rabbit, person: &Person, line: &str, body: &str) -> Answer {
    HttpClient::new(node.port).ask(&proof(person), &node.place.line(line), body)
}

fn json_of(answer: &Answer) -> Value {
    serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

/// The names in a list.
fn names(answer: &Answer) -> Vec<String> {
    let json = json_of(answer);
    let items = json.get("items").unwrap_or(&json);
    let items = items.as_array().unwrap_or_else(|| panic!("a list was expected: {answer:?}"));
    items.iter().map(|item| item["name"].as_str().unwrap_or_default().to_owned()).collect()
}

#[track_caller]
fn refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    let body = json_of(answer);
    assert!(body["reason"].as_str().is_some_and(|reason| reason.contains(code)), "{body}");
}

/// A granted vhost with a queue, and a person with this level on it.
fn node(place: RabbitPlace, level: &str) -> (Rabbit, Person) {
    let node = Node::rabbit(place);
    let place = &node.place;
    place.server.done(&place.line("PUT /api/queues/{T}/orders"), r#"{"durable":true}"#);
    let person = node.user("alice");
    node.grant("alice", level, "1h", &["--database", &node.place.team]);
    (node, person)
}

const HELLO: &str =
    r#"{"properties":{},"routing_key":"orders","payload":"hello","payload_encoding":"string"}"#;
const GET: &str = r#"{"count":1,"ackmode":"ack_requeue_false","encoding":"auto"}"#;

#[test]
fn each_level_may_do_what_it_says() {
    let (node, alice) = node(RabbitPlace::default(), "read");
    for line in [
        "GET /api/queues/{T}/orders",
        "GET /api/queues/{T}/orders/bindings",
        "GET /api/exchanges/{T}/amq.topic",
        "GET /api/bindings/{T}",
        "GET /api/cluster-name",
        "GET /js/main.js",
        "GET /cli/rabbitmqadmin",
    ] {
        assert_eq!(through(&node, &alice, line, "").status, 200, "{line}");
    }
    let publish = ("POST /api/exchanges/{T}/amq.default/publish", HELLO);
    let get = ("POST /api/queues/{T}/orders/get", GET);
    let declare = ("PUT /api/queues/{T}/new%2Fone", r#"{"durable":true}"#);
    let bind = ("POST /api/bindings/{T}/e/amq.topic/q/new%2Fone", r#"{"routing_key":"k"}"#);
    let policy = ("PUT /api/policies/{T}/p", r#"{"pattern":"^new","definition":{"max-length":9}}"#);
    let purge = ("DELETE /api/queues/{T}/orders/contents", "");
    let remove = ("DELETE /api/queues/{T}/new%2Fone", r#"{"vhost":"VHOST","mode":"delete"}"#);
    let allow = |level: &str, allowed: &[(&str, &str)], not: &[(&str, &str)]| {
        let person = node.user(&format!("some-{}", level.replace('_', "-")));
        node.grant(&person.name, level, "1h", &["--database", &node.place.team]);
        for (line, body) in not {
            refused(&through(&node, &person, line, body), 403, "TG002");
        }
        for (line, body) in allowed {
            let answer = through(&node, &person, line, &body.replace("VHOST", &node.place.team));
            assert!((200..300).contains(&answer.status), "{level} {line}: {answer:?}");
        }
    };
    allow("read", &[], &[publish, get, declare, bind, policy, purge, ("DELETE /api/queues/{T}/orders", "")]);
    allow("read_write", &[publish, get, publish], &[declare, bind, policy, purge]);
    allow("admin", &[publish, get, declare, bind, policy, purge, remove], &[]);
    let left = node.place.server.done(&node.place.line("GET /api/queues/{T}"), "");
    assert_eq!(left.as_array().map(Vec::len), Some(1), "{left}");
    assert_eq!(left[0]["name"], "orders");
}

#[test]
fn names_go_as_they_were_sent() {
    for team in ["a/b", "a b", "ü€", "a%2Fb", "a+b&c?d#e;f"] {
        let (node, alice) = node(RabbitPlace::named(team), "admin");
        for queue in ["q/1", "q 2", "ß%2F", "a+b", "x?y#z", "..x", "%"] {
            let queue = esc(queue);
            let line = format!("PUT /api/queues/{{T}}/{queue}");
            assert_eq!(through(&node, &alice, &line, "{}").status, 201, "{team} {queue}");
            let line = format!("GET /api/queues/{{T}}/{queue}?columns=name,vhost");
            let (ours, direct) =
                (through(&node, &alice, &line, ""), node.place.direct("admin", &node.place.line(&line), ""));
            assert_eq!((ours.status, &ours.body), (200, &direct.body), "{team} {queue}");
        }
        // In small letters as well.
        let line = format!("GET /api/queues/{}", esc(&node.place.team).to_ascii_lowercase());
        if !team.contains(char::is_uppercase) {
            assert_eq!(names(&through(&node, &alice, &line, "")).len(), 8, "{line}");
        }
    }
}

#[test]
fn lists_are_those_of_the_grant() {
    let (node, alice) = node(RabbitPlace::default(), "read");
    let place = &node.place;
    for line in ["PUT /api/queues/{S}/theirs", "PUT /api/queues/{T}/Another"] {
        place.server.done(&place.line(line), "{}");
    }
    // Of one vhost, so that it is asked for, and of more, so that what is shown is filtered.
    let carol = node.user("carol");
    node.grant("carol", "read", "1h", &["--database", &place.team, "--database", "no such vhost"]);
    for person in [&alice, &carol] {
        let ask = |line: &str| through(&node, person, line, "");
        let mut queues = names(&ask("GET /api/queues"));
        queues.sort();
        assert_eq!(queues, ["Another", "orders"]);
        assert_eq!(names(&ask("GET /api/vhosts")), [place.team.as_str()]);
        assert_eq!(names(&ask("GET /api/exchanges?columns=name&sort=name")).len(), 7);
        assert_eq!(
            json_of(&ask("GET /api/queues?columns=name&sort=name&sort_reverse=true")),
            json!([
                {"name": "orders"}, {"name": "Another"}
            ])
        );
        let page = json_of(&ask("GET /api/queues?page=2&page_size=1&sort=name&columns=name"));
        assert_eq!(
            page,
            json!({
                "filtered_count": 2, "item_count": 1, "items": [{"name": "orders"}], "page": 2, "page_count": 2,
                "page_size": 1, "total_count": 2
            })
        );
        let named = json_of(&ask("GET /api/queues?page=1&name=ANO&use_regex=false&pagination=true"));
        assert_eq!((&named["filtered_count"], &named["total_count"]), (&json!(1), &json!(2)));
        assert_eq!(ask("GET /api/queues?page=9").status, 400);
        let overview = json_of(&ask("GET /api/overview?lengths_age=60&lengths_incr=5"));
        assert_eq!((&overview["queue_totals"], &overview["object_totals"]), (&json!({}), &Value::Null));
        assert_eq!(
            overview["rabbitmq_version"],
            place.server.done("GET /api/overview", "")["rabbitmq_version"]
        );
        assert_eq!(json_of(&ask("GET /api/whoami")), json!({"name": person.name, "tags": ["management"]}));
    }
    // A grant for everything sees what the connector sees, and is still who one is.
    let root = node.user("root");
    node.grant("root", "admin", "1h", &["--database", "*"]);
    let everything = names(&through(&node, &root, "GET /api/vhosts", ""));
    assert_eq!(everything, names(&node.place.direct("admin", "GET /api/vhosts", "")));
    assert_eq!(
        json_of(&through(&node, &root, "GET /api/whoami", "")),
        json!({"name": "root", "tags": ["administrator"]})
    );
}

/// Connections, channels and consumers of both vhosts.
#[test]
fn who_is_connected_elsewhere_is_not_seen() {
    let (node, alice) = node(RabbitPlace::default(), "read");
    let place = &node.place;
    place.server.done(&place.line("PUT /api/queues/{S}/secret-q"), "{}");
    let mut ours = Amqp::open(place.server.amqp_port, &place.team);
    ours.consume("orders");
    let mut theirs = Amqp::open(place.server.amqp_port, &place.secret);
    theirs.consume("secret-q");
    let of = |vhost: &str, kind: &str| {
        let all = place.server.done(&format!("GET /api/{kind}"), "");
        let all = all.as_array().cloned().unwrap_or_default();
        all.into_iter().find(|one| one["vhost"] == vhost || one["queue"]["vhost"] == vhost)
    };
    let name = |vhost: &str, kind: &str| {
        esc(of(vhost, kind).expect("it is there")["name"].as_str().expect("a name"))
    };
    wait_until("the server tells of both", PATIENCE, || {
        [&place.team, &place.secret].iter().all(|vhost| {
            ["connections", "channels", "consumers"].iter().all(|kind| of(vhost, kind).is_some())
        })
    });
    let carol = node.user("carol");
    node.grant("carol", "read", "1h", &["--database", &place.team, "--database", "no such vhost"]);
    for person in [&alice, &carol] {
        let ask = |line: &str| through(&node, person, line, "");
        for kind in ["connections", "channels"] {
            for more in ["", "?columns=name", "?page=1&page_size=5"] {
                let shown = names(&ask(&format!("GET /api/{kind}{more}")));
                assert_eq!(shown.len(), 1, "{kind}{more}: {shown:?}");
                assert_eq!(esc(&shown[0]), name(&place.team, kind), "{kind}{more}");
                let paged = json_of(&ask(&format!("GET /api/{kind}{more}"))).get("items").is_some();
                assert_eq!(paged, more.contains("page"), "{kind}{more}");
            }
            let one = ask(&format!("GET /api/{kind}/{}", name(&place.team, kind)));
            assert_eq!(json_of(&one)["vhost"], place.team, "{one:?}");
            let other = ask(&format!("GET /api/{kind}/{}", name(&place.secret, kind)));
            let missing = ask(&format!("GET /api/{kind}/no%20such"));
            assert_eq!((other.status, &other.body), (404, &missing.body), "{other:?}");
            assert_eq!(
                header_names(&other),
                header_names(&missing),
                "{kind}: what is hidden looks like nothing"
            );
        }
        let consumers = json_of(&ask("GET /api/consumers"));
        assert_eq!(consumers.as_array().map(Vec::len), Some(1), "{consumers}");
        assert_eq!(consumers[0]["queue"]["vhost"], place.team);
        let channels =
            |vhost: &str| ask(&format!("GET /api/connections/{}/channels", name(vhost, "connections")));
        assert_eq!(names(&channels(&place.team)).len(), 1);
        // Whatever is asked of a connection or a channel: one that is hidden looks like one that there is not. The
        // server itself says 200 of the one and 500 of the other, and something else where it is asked wrongly.
        let (connection, channel) = (name(&place.secret, "connections"), name(&place.secret, "channels"));
        for (hidden, route) in [
            (&connection, "/api/connections/@"),
            (&connection, "/api/connections/@/channels"),
            (&connection, "/api/connections/@?columns=name"),
            (&connection, "/api/connections/@?msg_rates_age=x&msg_rates_incr=y"),
            (&connection, "/api/connections/@/channels?columns=name,vhost"),
            (&connection, "/api/connections/@/channels?sort=name&sort_reverse=true"),
            (&connection, "/api/connections/@/channels?lengths_age=x&lengths_incr=y"),
            (&channel, "/api/channels/@"),
            (&channel, "/api/channels/@?columns=number"),
            (&channel, "/api/channels/@?data_rates_age=x&data_rates_incr=y"),
            (&esc("guest"), "/api/connections/username/@"),
            (&esc(&place.secret), "/api/consumers/@"),
            (&esc(&place.secret), "/api/queues/@"),
            (&esc(&place.secret), "/api/queues/@/secret-q"),
            (&esc(&place.secret), "/api/vhosts/@"),
            (&esc(&place.secret), "/api/vhosts/@/connections"),
            (&esc(&place.secret), "/api/vhosts/@/channels"),
        ] {
            let of = |name: &str| ask(&format!("GET {}", route.replace('@', name)));
            let (hidden, missing) = (of(hidden), of("no%20such"));
            if route.contains("username") {
                // The tests' own connections are all this user's: of them hers are shown.
                assert_eq!((names(&hidden).len(), missing.body.as_str()), (1, "[]"), "{hidden:?}");
                continue;
            }
            assert_eq!((hidden.status, &hidden.body), (missing.status, &missing.body), "{route}");
            assert_eq!(header_names(&hidden), header_names(&missing), "{route}");
            let said = if hidden.status == 200 { "[]" } else { "" };
            assert!(
                [200, 403, 404].contains(&hidden.status) && hidden.body.starts_with(said),
                "{route}: {hidden:?}"
            );
        }
    }
}

#[test]
fn explain_speaks_of_vhosts() {
    let (node, alice) = node(RabbitPlace::default(), "read_write");
    let explained = |line: &str| {
        let line = node.place.line(line);
        let said = node.tg(&["explain", "--user", &alice.name, "--target", "shop", "--request", &line]);
        (said.status.code(), text(&said.stdout))
    };
    let (code, said) = explained("GET /api/queues/{T}/orders");
    assert!(code == Some(0) && said.contains(&format!("read on {}", node.place.team)), "{said}");
    let (code, said) = explained("PUT /api/queues/{T}/new");
    assert!(code == Some(1) && said.contains("admin on") && said.contains("takes more"), "{said}");
    let (code, said) = explained("GET /api/queues/{S}");
    assert!(code == Some(1) && said.contains(&format!("does not cover {:?}", node.place.secret)), "{said}");
    let (code, said) = explained("GET /api/queues");
    let whole = said.contains("read, and names no vhosts") && said.contains("is shown what the grant covers");
    assert!(code == Some(0) && whole, "{said}");
    let (code, said) = explained("PUT /api/users/x");
    assert!(code == Some(1) && said.contains("nobody may send it"), "{said}");
}

/// Got messages are counted in the trail.
#[test]
fn messages_that_are_got_are_counted() {
    let (node, alice) = node(RabbitPlace::default(), "read_write");
    for _ in 0..3 {
        assert_eq!(through(&node, &alice, "POST /api/exchanges/{T}/amq.default/publish", HELLO).status, 200);
    }
    let get = GET.replace("\"count\":1", "\"count\":5");
    assert_eq!(through(&node, &alice, "POST /api/queues/{T}/orders/get", &get).status, 200);
    let got =
        node.wait_event("statement", |line| line["text"].as_str().is_some_and(|text| text.contains("/get")));
    let result = node.result_of(&got);
    assert_eq!((&result["rows"], &result["counted"]), (&json!(3), &json!("messages")), "{result}");
}

fn header_names(answer: &Answer) -> Vec<String> {
    let names = answer.head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let mut names: Vec<_> = names.map(|(name, _)| name.to_ascii_lowercase()).collect();
    names.sort();
    names
}

/// What shows that an attempt did harm, or would have.
#[derive(Clone, Copy)]
enum Harm {
    /// The answer tells of the other vhost or of accounts: their names all hold this word.
    Tells,
    /// It is done.
    Done,
}
use Harm::{Done, Tells};

const SECRET: &str = "secret";

/// What a person with `admin` on one vhost must not get done. All of it works with the connector's own login.
const BYPASSES: &[(Harm, &str, &str)] = &[
    (Tells, "GET /api/queues/{S}", ""),
    (Tells, "GET /api/queues/{S}/secret-q", ""),
    (Tells, "GET /api/queues/{S}/secret-q/bindings", ""),
    (Tells, "GET /api/queues/{T}/../{S}", ""),
    (Tells, "GET /api/queues/{T}/%2e%2e/{S}", ""),
    (Tells, "GET /api/queues/{T}/.%2E/{S}/secret-q", ""),
    (Tells, "GET /api/queues/./{S}", ""),
    (Tells, "GET /api/queues/%73{S}", ""),
    (Tells, "GET /api/queues/{S}/", ""),
    (Tells, "GET /api/vhosts/{T}/../{S}/connections", ""),
    (Tells, "GET /api/exchanges/{S}", ""),
    (Tells, "GET /api/exchanges/{S}/secret-x", ""),
    (Tells, "GET /api/exchanges/{S}/secret-x/bindings/source", ""),
    (Tells, "GET /api/exchanges/{S}/secret-y/bindings/destination", ""),
    (Tells, "GET /api/bindings/{S}", ""),
    (Tells, "GET /api/bindings/{S}/e/secret-x/q/secret-q", ""),
    (Tells, "GET /api/bindings/{S}/e/secret-x/q/secret-q/secret-k", ""),
    (Tells, "GET /api/bindings/{S}/e/secret-x/e/secret-y", ""),
    (Tells, "GET /api/policies/{S}", ""),
    (Tells, "GET /api/policies/{S}/secret-p", ""),
    (Tells, "GET /api/operator-policies/{S}", ""),
    (Tells, "GET /api/operator-policies/{S}/secret-o", ""),
    (Tells, "GET /api/vhost-limits/{S}", ""),
    (Tells, "GET /api/vhosts/{S}", ""),
    (Tells, "GET /api/vhosts/{S}/permissions", ""),
    (Tells, "GET /api/vhosts/{S}/connections", ""),
    (Tells, "GET /api/vhosts/{S}/channels", ""),
    (Tells, "GET /api/consumers/{S}", ""),
    (Tells, "GET /api/definitions", ""),
    (Tells, "GET /api/definitions/{S}", ""),
    (Tells, "GET /api/all-configuration", ""),
    (Tells, "GET /api/parameters", ""),
    (Tells, "GET /api/parameters/vhost-limits", ""),
    (Tells, "GET /api/parameters/vhost-limits/{S}", ""),
    (Tells, "GET /api/global-parameters", ""),
    (Tells, "GET /api/global-parameters/{S}-g", ""),
    (Tells, "GET /api/users", ""),
    (Tells, "GET /api/users/{S}-user", ""),
    (Tells, "GET /api/users/connector-admin/permissions", ""),
    (Tells, "GET /api/permissions", ""),
    (Tells, "GET /api/permissions/{S}/guest", ""),
    (Tells, "GET /api/user-limits", ""),
    (Tells, "GET /api/user-limits/{S}-user", ""),
    (
        Tells,
        "POST /api/queues/{S}/secret-q/get",
        r#"{"count":1,"ackmode":"ack_requeue_true","encoding":"auto"}"#,
    ),
    (Done, "GET /api/nodes", ""),
    (Done, "GET /api/aliveness-test/{S}", ""),
    (Done, "GET /api/health/checks/virtual-hosts", ""),
    (Done, "GET /api/feature-flags", ""),
    (
        Done,
        "POST /api/exchanges/{S}/amq.default/publish",
        r#"{"properties":{},"routing_key":"secret-q","payload":"a","payload_encoding":"string"}"#,
    ),
    (Done, "PUT /api/queues/{S}/secret-new", "{}"),
    (Done, "PUT /api/queues/{T}/../../queues/{S}/secret-new2", "{}"),
    (Done, "PUT /api/exchanges/{S}/secret-new", r#"{"type":"topic"}"#),
    (Done, "POST /api/bindings/{S}/e/secret-y/q/secret-q", r#"{"routing_key":"a"}"#),
    (Done, "POST /api/bindings/{S}/e/secret-x/e/secret-y", r#"{"routing_key":"a"}"#),
    (Done, "PUT /api/policies/{S}/new", r#"{"pattern":"^","definition":{"max-length":1}}"#),
    (Done, "PUT /api/operator-policies/{S}/new", r#"{"pattern":"^","definition":{"max-length":1}}"#),
    (Done, "PUT /api/operator-policies/{T}/new", r#"{"pattern":"^","definition":{"max-length":1}}"#),
    (Done, "PUT /api/vhost-limits/{S}/max-queues", r#"{"value":300}"#),
    (Done, "PUT /api/vhost-limits/{T}/max-queues", r#"{"value":300}"#),
    (Done, "PUT /api/parameters/vhost-limits/{S}/limits", r#"{"value":{"max-queues":400}}"#),
    (Done, "PUT /api/parameters/vhost-limits/{T}/limits", r#"{"value":{"max-queues":400}}"#),
    (Done, "PUT /api/global-parameters/{S}-h", r#"{"value":1}"#),
    (Done, "PUT /api/vhosts/{S}-new", ""),
    (Done, "PUT /api/vhosts/{T}", r#"{"tracing":true}"#),
    (Done, "PUT /api/users/{S}-admin", r#"{"password":"a","tags":"administrator"}"#),
    (Done, "PUT /api/permissions/{S}/{S}-user", r#"{"configure":".*","write":".*","read":".*"}"#),
    (Done, "PUT /api/topic-permissions/{S}/{S}-user", r#"{"exchange":"amq.topic","write":".*","read":".*"}"#),
    (Done, "PUT /api/user-limits/{S}-user/max-channels", r#"{"value":3}"#),
    (
        Done,
        "POST /api/definitions",
        r#"{"queues":[{"name":"secret-d","vhost":"SECRET","durable":true,"auto_delete":false,"arguments":{}}]}"#,
    ),
    (
        Done,
        "POST /api/definitions",
        r#"{"users":[{"name":"SECRET-e","password_hash":"","tags":["administrator"]}]}"#,
    ),
    (
        Done,
        "POST /api/definitions/{S}",
        r#"{"queues":[{"name":"secret-f","durable":true,"auto_delete":false,"arguments":{}}]}"#,
    ),
    (Done, "PUT /api/cluster-name", r#"{"name":"secret-cluster"}"#),
    (Done, "POST /api/rebalance/queues", "{}"),
    (Done, "DELETE /api/reset", ""),
    (Done, "POST /api/users/bulk-delete", r#"{"users":["SECRET-admin"]}"#),
    (Done, "DELETE /api/user-limits/{S}-user/max-channels", ""),
    (Done, "DELETE /api/permissions/{S}/{S}-user", ""),
    (Done, "DELETE /api/topic-permissions/{S}/{S}-user", ""),
    (Done, "DELETE /api/users/{S}-user", ""),
    (Done, "DELETE /api/vhost-limits/{T}/max-queues", ""),
    (Done, "DELETE /api/global-parameters/{S}-g", ""),
    (Done, "DELETE /api/queues/{S}/secret-q/contents", ""),
    (Done, "DELETE /api/bindings/{S}/e/secret-x/q/secret-q/secret-k", ""),
    (Done, "DELETE /api/policies/{S}/secret-p", ""),
    (Done, "DELETE /api/operator-policies/{S}/secret-o", ""),
    (Done, "DELETE /api/exchanges/{S}/secret-x", ""),
    (Done, "DELETE /api/queues/{S}/secret-q", ""),
    (Done, "DELETE /api/vhosts/{S}", ""),
];

/// What lists of the whole server would tell, in each way of asking that hides what one asks for.
const HIDDEN: [&str; 17] = [
    "GET /api/queues",
    "GET /api/queues?columns=name",
    "GET /api/queues?columns=name,messages&sort=name&sort_reverse=true",
    "GET /api/queues?page=1&page_size=500&name=secret&use_regex=false",
    "GET /api/queues?disable_stats=true&enable_queue_totals=true",
    "GET /api/exchanges?columns=name",
    "GET /api/exchanges?page=1&page_size=500",
    "GET /api/bindings",
    "GET /api/bindings?columns=source,destination",
    "GET /api/policies",
    "GET /api/operator-policies",
    "GET /api/vhost-limits",
    "GET /api/vhosts",
    "GET /api/vhosts?columns=name",
    "GET /api/connections",
    "GET /api/channels",
    "GET /api/consumers",
];

fn fill_secret(place: &RabbitPlace) {
    for (line, body) in [
        ("PUT /api/queues/{S}/secret-q", r#"{"durable":true}"#),
        ("PUT /api/queues/{S}/secret-c", r#"{"durable":true}"#),
        ("PUT /api/exchanges/{S}/secret-x", r#"{"type":"direct"}"#),
        ("PUT /api/exchanges/{S}/secret-y", r#"{"type":"direct"}"#),
        ("POST /api/bindings/{S}/e/secret-x/q/secret-q", r#"{"routing_key":"secret-k"}"#),
        ("POST /api/bindings/{S}/e/secret-x/e/secret-y", r#"{"routing_key":"secret-k"}"#),
        ("PUT /api/policies/{S}/secret-p", r#"{"pattern":"^x","definition":{"max-length":9}}"#),
        ("PUT /api/operator-policies/{S}/secret-o", r#"{"pattern":"^x","definition":{"max-length":9}}"#),
        ("PUT /api/vhost-limits/{S}/max-connections", r#"{"value":99}"#),
        ("PUT /api/global-parameters/{S}-g", r#"{"value":"secret"}"#),
        ("PUT /api/users/{S}-user", r#"{"password":"a","tags":"administrator"}"#),
        ("PUT /api/user-limits/{S}-user/max-connections", r#"{"value":99}"#),
        (
            "POST /api/exchanges/{S}/amq.default/publish",
            r#"{"properties":{},"routing_key":"secret-q","payload":"secret","payload_encoding":"string"}"#,
        ),
    ] {
        place.server.done(&place.line(line), &body.replace("SECRET", &place.secret));
    }
}

#[test]
fn nobody_gets_round_their_grant() {
    let (node, alice) = node(RabbitPlace::default(), "admin");
    let place = &node.place;
    fill_secret(place);
    let mut theirs = Amqp::open(place.server.amqp_port, &place.secret);
    theirs.consume("secret-c");
    wait_until("the server tells of the channel and the consumer", PATIENCE, || {
        let of = |line: &str| place.server.done(&place.line(line), "").as_array().map(Vec::len);
        of("GET /api/vhosts/{S}/channels") == Some(1) && of("GET /api/consumers/{S}") == Some(1)
    });
    let spelt = |line: &str| {
        // One letter of the name encoded is the same name.
        place.line(&line.replace("%73{S}", &format!("%73{}", &place.secret[1..])))
    };
    // Other tests change what is theirs.
    let state = || {
        let all = place.server.done("GET /api/definitions", "");
        let ours = |item: &Value| {
            let text = item.to_string();
            text.contains(&place.secret) || text.contains(&place.team)
        };
        let kinds = all.as_object().cloned().unwrap_or_default();
        let items = kinds.into_iter().flat_map(|(_, items)| items.as_array().cloned().unwrap_or_default());
        items.filter(ours).map(|item| item.to_string()).collect::<std::collections::BTreeSet<_>>()
    };
    let before = state();
    for (_, line, body) in BYPASSES {
        let answer = HttpClient::new(node.port).ask(
            &proof(&alice),
            &spelt(line),
            &body.replace("SECRET", &place.secret),
        );
        assert!(matches!(answer.status, 400 | 403 | 404), "{line} {body}: {answer:?}");
        assert!(!answer.body.contains(SECRET) || answer.body.contains("TG0"), "{line}: {answer:?}");
    }
    for line in HIDDEN {
        let answer = through(&node, &alice, line, "");
        assert_eq!(answer.status, 200, "{line}: {answer:?}");
        assert!(!answer.body.contains(SECRET), "{line}: {answer:?}");
        let direct = place.direct("admin", line, "");
        assert!(
            direct.status == 200 && direct.body.contains(SECRET),
            "{line} tells nothing directly: {direct:?}"
        );
    }
    // A header says the vhost that the path leaves out.
    let line = |proof: &str| {
        format!(
            "GET /api/queues HTTP/1.1\r\nHost: a\r\nAuthorization: {proof}\r\nX-Vhost: {}\r\n\r\n",
            place.secret
        )
    };
    let mut client = HttpClient::new(node.port);
    client.send(&line(&proof(&alice)));
    assert_eq!(names(&client.answer(false)), ["orders"]);
    assert_eq!(state(), before, "something was done");
    assert!(before.len() > 10, "{before:?}");
    let login = format!(
        "Basic {}",
        STANDARD.encode(format!("connector-admin:{}", crate::support::server::ROLE_PASSWORD))
    );
    let mut client = HttpClient::new(place.server.port);
    client.send(&line(&login));
    assert_eq!(names(&client.answer(false)), ["secret-c", "secret-q"]);
    // The same words do what they are feared for.
    drop(theirs);
    for (harm, line, body) in BYPASSES {
        let keeps_consumer =
            line.contains("connections") || line.contains("channels") || line.contains("consumers");
        let answer = place.direct("admin", &spelt(line), &body.replace("SECRET", &place.secret));
        assert!((200..300).contains(&answer.status), "{line} {body} is harmless: {answer:?}");
        if matches!(harm, Tells) && !keeps_consumer {
            assert!(answer.body.contains(SECRET), "{line} tells nothing: {answer:?}");
        }
    }
}

/// A key that a requester gave out leads to its channel, in whatever vhost that is.
#[test]
fn replies_do_not_leave_the_vhost() {
    const REPLIES: &str = "amq.rabbitmq.reply-to";
    let (node, alice) = node(RabbitPlace::default(), "admin");
    let place = &node.place;
    place.server.done(&place.line("PUT /api/queues/{S}/secret-q"), "{}");
    let mut theirs = Amqp::open(place.server.amqp_port, &place.secret);
    theirs.consume(REPLIES);
    theirs.publish("secret-q", REPLIES, "a question");
    let mut key = String::new();
    wait_until("the question is there", PATIENCE, || {
        let got = place.server.done(&place.line("POST /api/queues/{S}/secret-q/get"), GET);
        key = got[0]["properties"]["reply_to"].as_str().unwrap_or_default().to_owned();
        !key.is_empty()
    });
    assert!(key.starts_with(REPLIES), "{key}");
    let line = "POST /api/exchanges/{T}/amq.default/publish";
    let by_key = |text: &str| json!({"properties": {}, "routing_key": key, "payload": text, "payload_encoding": "string"});
    let by_copy = |text: &str| {
        let properties = json!({"headers": {"CC": [key]}});
        json!({"properties": properties, "routing_key": "orders", "payload": text, "payload_encoding": "string"})
    };
    for body in [by_key("through"), by_copy("through")] {
        refused(&through(&node, &alice, line, &body.to_string()), 403, "TG002");
    }
    // What dies in a queue goes on by a key of its own: of the queue, or of a policy.
    let arguments =
        json!({"x-dead-letter-exchange": "", "x-dead-letter-routing-key": key, "x-message-ttl": 0});
    let queue = json!({"arguments": arguments}).to_string();
    let definition = json!({"dead-letter-exchange": "", "dead-letter-routing-key": key, "message-ttl": 0});
    let policy = json!({"pattern": "^dies", "definition": definition}).to_string();
    for (line, body) in [("PUT /api/queues/{T}/dead", &queue), ("PUT /api/policies/{T}/dies", &policy)] {
        refused(&through(&node, &alice, line, body), 403, "TG002");
        assert_eq!(place.direct("admin", &place.line(line), body).status, 201, "{line}");
    }
    place.server.done(&place.line("PUT /api/queues/{T}/dies"), "{}");
    let to = |queue: &str, text: &str| json!({"properties": {}, "routing_key": queue, "payload": text, "payload_encoding": "string"});
    for (body, text) in [
        (by_key("one"), "one"),
        (by_copy("two"), "two"),
        (to("dead", "three"), "three"),
        (to("dies", "four"), "four"),
    ] {
        assert_eq!(place.direct("admin", &place.line(line), &body.to_string()).status, 200);
        assert_eq!(theirs.delivered(), text, "it reaches the other vhost directly, and nothing came before");
    }
}

#[test]
fn a_grant_for_everything_administers_the_cluster_and_not_its_accounts() {
    let (node, _) = node(RabbitPlace::default(), "read");
    let root = node.user("root");
    node.grant("root", "admin", "1h", &["--database", "*"]);
    fill_secret(&node.place);
    let ask = |line: &str, body: &str| through(&node, &root, line, body);
    let definitions = json_of(&ask("GET /api/definitions", ""));
    assert!(definitions["queues"].is_array() && definitions["vhosts"].is_array(), "{definitions}");
    for account in ["users", "permissions", "topic_permissions"] {
        assert!(definitions.get(account).is_none(), "{account} in {definitions}");
    }
    assert_eq!(ask("POST /api/definitions", &definitions.to_string()).status, 204);
    let users = ask("GET /api/users", "");
    assert!(users.status == 200 && users.body.contains("connector-admin"), "{users:?}");
    assert!(!users.body.contains("hash"), "{users:?}");
    for (line, body) in [
        ("PUT /api/users/{S}-new", r#"{"password":"a","tags":"administrator"}"#),
        ("DELETE /api/users/{S}-user", ""),
        ("POST /api/users/bulk-delete", r#"{"users":["nobody"]}"#),
        ("PUT /api/permissions/{S}/{S}-user", r#"{"configure":".*","write":".*","read":".*"}"#),
        ("POST /api/definitions", r#"{"users":[]}"#),
    ] {
        refused(&ask(line, body), 403, "TG009");
    }
    for (line, body, status) in [
        ("PUT /api/vhosts/{S}-made", "", 201),
        ("PUT /api/operator-policies/{S}/o", r#"{"pattern":"^","definition":{"max-length":5}}"#, 201),
        ("PUT /api/global-parameters/{S}-uri", r#"{"value":"amqp://a:a-password@b"}"#, 201),
        ("GET /api/parameters", "", 200),
        ("GET /api/nodes", "", 200),
        ("DELETE /api/vhosts/{S}-made", "", 204),
    ] {
        assert_eq!(ask(line, body).status, status, "{line}");
    }
    node.wait_statement(&node.place.line("PUT /api/global-parameters/{S}-uri"));
    assert!(node.trail_about("a-password").is_empty(), "a login of another server is in the trail");
}

#[test]
fn what_the_connector_may_not_is_no_question_of_a_login() {
    let (node, alice) = node(RabbitPlace::default(), "read");
    let place = &node.place;
    place.server.done(&place.line("DELETE /api/permissions/{T}/connector-read"), "");
    let answer = through(&node, &alice, "GET /api/queues/{T}", "");
    assert_eq!(place.direct("read", &place.line("GET /api/queues/{T}"), "").status, 401);
    refused(&answer, 403, "TG009");
    node.write_secret("read", "another password");
    wait_until("the new password is tried", PATIENCE, || {
        through(&node, &alice, "GET /api/queues/{T}", "").status == 502
    });
}

#[test]
fn who_is_nobody_reaches_no_target() {
    let (node, alice) = node(RabbitPlace::default(), "read");
    let ask = |authorization: &str, line: &str| {
        let answer = HttpClient::new(node.port).ask(authorization, line, "");
        (answer.status, answer)
    };
    for line in
        ["GET /", "GET /js/main.js", "GET /api/whoami", "GET /api/overview", "GET /api/auth/", "GET /none"]
    {
        let (status, answer) = ask("", line);
        assert_eq!(status, 401, "{line}: {answer:?}");
        assert!(answer.head.contains("www-authenticate: basic"), "{answer:?}");
        assert_eq!(ask("Basic bm9ib2R5OngK", line).0, 401, "{line}");
    }
    // How one logs in is said to anybody, with whatever the console sends before somebody has.
    for authorization in ["", "null", &proof(&alice)] {
        let (status, answer) = ask(authorization, "GET /api/auth");
        assert_eq!((status, &json_of(&answer)["enable_uaa"]), (200, &json!(false)), "{answer:?}");
    }
    let place = &node.place;
    let bob = node.user("bob");
    refused(&through(&node, &bob, "GET /js/main.js", ""), 403, "TG002");
    node.done(&["target", "check", "shop"]);
    assert!(place.server.ask("GET /api/whoami", "").status == 200);
}

/// A browser puts a login that it knows on what any page asks for.
#[test]
fn pages_of_other_sites_do_nothing() {
    let (node, alice) = node(RabbitPlace::default(), "read_write");
    let line = node.place.line("POST /api/exchanges/{T}/amq.default/publish");
    let ask = |headers: &str| {
        let mut client = HttpClient::new(node.port);
        client.send(&format!(
            "{line} HTTP/1.1\r\nHost: proxy:1\r\nAuthorization: {}\r\nContent-Type: text/plain\r\n{headers}\
             Content-Length: {}\r\n\r\n{HELLO}",
            proof(&alice),
            HELLO.len()
        ));
        client.answer(false)
    };
    for foreign in [
        "Origin: http://evil\r\n",
        "Origin: null\r\n",
        "Origin: http://proxy:1.evil\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\nOrigin: http://proxy:1\r\n",
    ] {
        refused(&ask(foreign), 403, "TG009");
    }
    for own in ["", "Origin: http://proxy:1\r\n", "Sec-Fetch-Site: same-origin\r\nOrigin: https://other\r\n"]
    {
        assert_eq!(ask(own).status, 200, "{own}");
    }
}

#[test]
fn a_revoked_grant_cuts_a_long_answer() {
    let (node, alice) = node(RabbitPlace::default(), "read_write");
    let place = &node.place;
    let payload = "x".repeat(6 << 20);
    let message =
        json!({"properties": {}, "routing_key": "orders", "payload": payload, "payload_encoding": "string"});
    for _ in 0..6 {
        place.server.done(&place.line("POST /api/exchanges/{T}/amq.default/publish"), &message.to_string());
    }
    let get = r#"{"count":6,"ackmode":"ack_requeue_true","encoding":"auto"}"#;
    let mut client = HttpClient::new(node.port);
    client.send(&request(&proof(&alice), &place.line("POST /api/queues/{T}/orders/get"), get));
    // Its head has come, and the rest waits for somebody who does not read.
    let mut first = [0; 64];
    std::io::Read::read_exact(&mut client.socket, &mut first).expect("the answer begins");
    assert!(first.starts_with(b"HTTP/1.1 200"), "{:?}", String::from_utf8_lossy(&first));
    let grants = node.json(&["grant", "list"]);
    let revoked = Instant::now();
    node.done(&["grant", "revoke", &crate::support::field(&grants[0], "id")]);
    wait_until("the session has ended", CUT, || node.sessions().is_empty());
    let mut rest = Vec::new();
    let _ = std::io::Read::read_to_end(&mut client.socket, &mut rest);
    assert!(rest.len() < 6 * (6 << 20), "it came whole: {} bytes", rest.len());
    assert!(revoked.elapsed() < CUT + Duration::from_secs(2), "{:?}", revoked.elapsed());
    refused(&through(&node, &alice, "GET /api/queues/{T}", ""), 403, "TG002");
    let result = node.wait_event("result", |line| line["sqlstate"] == "unfinished");
    assert_eq!(result["tag"], "200", "{result}");
}

/// The path of a route with its placeholders alike.
fn shape(path: &str) -> String {
    let parts = path.trim_end_matches('/').split('/');
    let parts: Vec<_> = parts.map(|part| if part.starts_with('{') { "{}" } else { part }).collect();
    parts.join("/")
}

/// Every route of the server's own documentation is in the table, as one that passes or as one that is refused.
#[test]
fn every_documented_route_is_decided() {
    let page = crate::support::rabbit::shared().ask("GET /api/index.html", "").body;
    let table = include_str!("../../src/protocol/http/rabbit.routes");
    let known: std::collections::BTreeSet<(String, String)> = table
        .lines()
        .filter(|line| line.starts_with("route ") || line.starts_with("refused "))
        .flat_map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            words[1].split(',').map(|method| (method.to_owned(), shape(words[2]))).collect::<Vec<_>>()
        })
        .collect();
    let (mut count, mut missing) = (0, Vec::new());
    for row in page.split("<tr>").skip(1) {
        let cells: Vec<_> = row.split("<td").skip(1).filter_map(|cell| cell.split_once('>')).collect();
        let Some((_, path)) = cells.get(4).filter(|_| cells.len() >= 6) else { continue };
        let path = path.split("</td>").next().unwrap_or_default();
        let path = path.replace("<i>", "{").replace("</i>", "}").replace("<em>(deprecated)</em>", "");
        let path: String = path.chars().filter(|c| !c.is_whitespace()).collect();
        for path in path.split("<br/>").filter(|path| path.starts_with("/api/")) {
            for (method, (_, cell)) in ["GET", "PUT", "DELETE", "POST"].iter().zip(&cells) {
                // How one logs in is answered by the proxy.
                if !cell.split("</td>").next().unwrap_or_default().contains('X') || path == "/api/auth" {
                    continue;
                }
                count += 1;
                if !known.contains(&((*method).to_owned(), shape(path))) {
                    missing.push(format!("{method} {path}"));
                }
            }
        }
    }
    assert!(count > 100, "only {count} routes were found in the server's page");
    assert!(missing.is_empty(), "nobody has decided: {missing:#?}");
}

#[test]
fn the_trail_and_explain_say_the_vhost() {
    let (node, alice) = node(RabbitPlace::default(), "read_write");
    let line = node.place.line("POST /api/exchanges/{T}/amq.default/publish");
    let answer = through(&node, &alice, &line, HELLO);
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"routed":true}"#));
    let statement = node.wait_statement(&format!("{line}\n{HELLO}"));
    assert_eq!((&statement["user"], &statement["protocol"]), (&"alice".into(), &"rabbitmq".into()));
    assert_eq!(node.result_of(&statement)["tag"], "200");
    // What was narrowed is counted as it was shown.
    let list = through(&node, &alice, "GET /api/vhosts", "");
    let result = node.result_of(&node.wait_statement("GET /api/vhosts"));
    assert_eq!(result["bytes_down"], list.body.len(), "{result}");
    let explain = |request: &str| {
        let request = node.place.line(request);
        let said = node.tg(&["explain", "--user", "alice", "--target", "shop", "--request", &request]);
        (said.status.code(), text(&said.stdout))
    };
    let (code, said) = explain("GET /api/queues/{T}/orders");
    assert!(code == Some(0) && said.contains(&format!("read on {}", node.place.team)), "{said}");
    let (code, said) = explain("GET /api/queues/{S}");
    assert!(code == Some(1) && said.contains(&format!("does not cover {:?}", node.place.secret)), "{said}");
    let (code, said) = explain("PUT /api/users/x");
    assert!(code == Some(1) && said.contains("accounts are not changed through the proxy"), "{said}");
    let (code, said) = explain("PUT /api/vhosts/{T}");
    assert!(code == Some(1) && said.contains("something of the whole cluster"), "{said}");
}

#[test]
fn rabbitmqadmin_works_for_one_vhost() {
    let (node, alice) = node(RabbitPlace::named("te/äm"), "admin");
    node.place.server.done(&node.place.line("PUT /api/queues/{S}/secret-q"), "{}");
    let home = node.folder.join("home");
    std::fs::create_dir(&home).expect("a folder");
    let run = |arguments: &[&str]| {
        let mut command = client("python3");
        command.arg(installed("rabbitmqadmin")).env("HOME", &home).env("PYTHONIOENCODING", "utf-8");
        command.args(["--host", "127.0.0.1", "--port", &node.port.to_string()]);
        command.args(["--username", "alice", "--password", &alice.secret, "--vhost", &node.place.team]);
        let output = command.args(arguments).output().expect("python runs");
        (output.status.success(), text(&output.stdout) + &text(&output.stderr))
    };
    let done = |arguments: &[&str]| {
        let (success, said) = run(arguments);
        assert!(success, "{arguments:?}: {said}");
        said
    };
    assert!(done(&["list", "queues", "name", "messages"]).contains("orders"));
    done(&["declare", "queue", "name=new/one", "durable=true"]);
    done(&["declare", "exchange", "name=ex", "type=topic"]);
    done(&["declare", "binding", "source=ex", "destination=new/one", "routing_key=a.*"]);
    assert!(done(&["list", "bindings"]).contains("a.*"));
    assert!(
        done(&["publish", "exchange=ex", "routing_key=a.b", "payload=hello"]).contains("Message published")
    );
    assert!(done(&["get", "queue=new/one", "ackmode=ack_requeue_false"]).contains("hello"));
    done(&["declare", "policy", "name=p", "pattern=^new", "definition={\"max-length\":5}"]);
    done(&["purge", "queue", "name=new/one"]);
    done(&["delete", "queue", "name=new/one"]);
    let vhosts = done(&["list", "vhosts", "name"]);
    assert!(vhosts.contains(&node.place.team) && !vhosts.contains("secret"), "{vhosts}");
    for arguments in
        [&["list", "users"][..], &["list", "nodes"], &["export", "file"], &["declare", "vhost", "name=x"]]
    {
        let (success, said) = run(arguments);
        assert!(!success && said.contains("not_authorised"), "{arguments:?}: {said}");
    }
}

#[test]
fn the_console_works_in_a_browser() {
    let (node, alice) = node(RabbitPlace::default(), "read_write");
    node.place.server.done(&node.place.line("PUT /api/queues/{S}/secret-q"), "{}");
    let message = "hello from a browser: ü€";
    let mut command: Command = client("node");
    command
        .arg(source("browser/console.js"))
        .arg(installed("browser"))
        .arg(format!("http://127.0.0.1:{}/", node.port))
        .args(["alice", &alice.secret, &node.place.team, "orders", message])
        .env("NODE_PATH", installed("node_modules"))
        .env("HOME", &node.folder);
    let output = command.output().expect("node runs");
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    let seen: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
    assert_eq!(seen["errors"], json!([]), "{seen}");
    // The browser is asked once who somebody is.
    let failed: Vec<_> = seen["failed"].as_array().into_iter().flatten().collect();
    assert!(failed.iter().all(|failed| **failed == "401 /"), "{failed:?}");
    assert!(!said.contains(&node.place.secret) && !said.contains("secret-q"), "{said}");
    let shows = |page: &str, words: &str| {
        assert!(seen[page].as_str().is_some_and(|text| text.contains(words)), "{page}: {}", seen[page]);
    };
    shows("header", "User alice");
    shows("queues", "orders");
    shows("exchanges", "amq.topic");
    // With one vhost the console leaves its name out.
    shows("queue", "Queue orders\nOverview");
    shows("published", "Message published");
    shows("got", message);
    // It was the person, with the right that it takes.
    let line = node.place.line("POST /api/exchanges/{T}/amq.default/publish");
    let statement = node
        .wait_event("statement", |event| event["text"].as_str().is_some_and(|text| text.starts_with(&line)));
    assert_eq!((&statement["user"], &statement["protocol"]), (&"alice".into(), &"rabbitmq".into()));
}
