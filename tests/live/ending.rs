//! What ends a session and what does not. That every end cuts in every state is looked at in `suites::cut`.

use std::time::Duration;

use crate::support::{CUT, Node, Options, PATIENCE, Server, Version, on_both_servers, shared, wait_until};

on_both_servers!(a_session_that_is_killed_is_told_so);

fn a_session_that_is_killed_is_told_so(server: &'static Server) {
    let node = Node::start(server);
    let person = node.person("alice", "read");
    let alice = person.login();
    let running = alice.start("select pg_sleep(60)");
    node.place.wait_running("pg_sleep");
    node.done(&["session", "kill", &node.session_of("alice"), "--reason", "a mistake"]);
    node.place.wait_quiet(CUT);
    let told = running.told();
    assert_eq!((told.code.as_str(), &told.message[..5]), ("57P01", "TG018"), "{told:?}");
    assert_eq!(person.login().one("select 1"), "1", "the grant stands");
    let gone = node.tg(&["session", "kill", "s-0000000000000"]);
    assert_eq!(gone.status.code(), Some(1));
}

#[test]
fn a_session_moves_to_another_grant_that_admits_the_same() {
    let node = Node::start(shared(Version::Distribution));
    let alice = node.user("alice");
    let grants = ["1h", "2h"].map(|lasts| node.grant("alice", "read", lasts, &[]));
    let client = alice.login();
    let pid = client.backend_pid();
    let used = node.sessions()[0]["grant"].as_str().expect("an id").to_owned();
    assert_eq!(used, grants[1], "the latest end is chosen");
    node.done(&["grant", "revoke", &used]);
    let moved = node.wait_event("session_moved", |line| line["user"] == "alice");
    assert_eq!((&moved["from"], &moved["to"]), (&grants[1].as_str().into(), &grants[0].as_str().into()));
    assert_eq!(client.backend_pid(), pid);
    node.done(&["grant", "revoke", &grants[0]]);
    assert_eq!(client.end().expect_err("cut").code, "57P01");
}

#[test]
fn an_extended_grant_goes_on() {
    let node = Node::start(shared(Version::Distribution));
    let alice = node.user("alice");
    let grant = node.grant("alice", "read", "4s", &[]);
    let client = alice.login();
    node.done(&["grant", "extend", &grant, "--for", "1h"]);
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(client.one("select 1"), "1");
    // What has ended stays ended.
    node.done(&["grant", "revoke", &grant]);
    assert_eq!(node.tg(&["grant", "extend", &grant, "--for", "1h"]).status.code(), Some(1));
    assert_eq!(alice.refused().code, "28000");
}

#[test]
fn an_idle_session_ends_and_a_running_statement_is_never_idle() {
    let options = Options { limits: "idle_seconds = 2", ..Options::default() };
    let node = Node::with(shared(Version::Distribution).place(), options);
    let alice = node.person("alice", "read").login();
    assert_eq!(alice.rows("select pg_sleep(4), 'done'").expect("not idle")[0][1].as_deref(), Some("done"));
    assert!(alice.is_open());
    let told = alice.end().expect_err("idle for too long");
    assert!(told.message.starts_with("TG015"), "{told:?}");
    node.wait_event("session_end", |line| line["code"] == "TG015" && line["how"] == "cut");
}

#[test]
fn a_session_has_a_longest_duration() {
    let options = Options { limits: "session_seconds = 2", ..Options::default() };
    let node = Node::with(shared(Version::Distribution).place(), options);
    let alice = node.person("alice", "read").login();
    let told = alice.start("select pg_sleep(60)").told();
    assert!(told.message.starts_with("TG016"), "{told:?}");
    node.place.wait_quiet(PATIENCE);
}

#[test]
fn a_cut_leaves_the_neighbours_alone() {
    let node = Node::start(shared(Version::Distribution));
    let neighbour = node.person("neighbour", "read").login();
    let running = neighbour.start("select pg_sleep(3), 'whole'");
    let alice = node.user("alice");
    for _ in 0..10 {
        let grant = node.grant("alice", "read", "1h", &[]);
        let client = alice.login();
        let sleeping = client.start("select pg_sleep(60)");
        node.place.wait_running("pg_sleep(60)");
        node.done(&["grant", "revoke", &grant]);
        assert_eq!(sleeping.told().code, "57P01");
    }
    wait_until("only the neighbour is left", PATIENCE, || node.sessions().len() == 1);
    assert_eq!(running.wait().expect("untouched")[0][1].as_deref(), Some("whole"));
}
