//! However a grant ends, its sessions are cut within a second and nothing of them goes on at the server.

use std::time::{Duration, Instant, SystemTime};

use crate::support::client::Pending;
use crate::support::wire::Wire;
use crate::support::{
    CUT, Client, Node, Options, PATIENCE, Person, Server, Told, Version, on_both_servers, shared, wait_until,
};

on_both_servers!(
    a_revoked_grant_cuts_in_every_state,
    an_expired_grant_cuts_in_every_state,
    a_removed_user_is_cut_in_every_state,
    a_revoked_credential_cuts_in_every_state,
    a_suspended_target_cuts_in_every_state,
    a_left_group_cuts_in_every_state,
    a_session_that_is_killed_is_told_so,
);

/// One person in each state that a session can be in, all by way of a group.
struct Crew<'a> {
    node: &'a Node,
    people: Vec<Person>,
    idle: Client,
    busy: Client,
    running: Pending,
    open: Client,
    /// Copies out more than all buffers hold, and does not read.
    copying: Wire,
    pids: Vec<String>,
    grant: String,
}

const PEOPLE: [&str; 4] = ["idle", "busy", "open", "copying"];

fn with_group(group: &str) -> String {
    PEOPLE.map(|name| format!("[[user]]\nname = \"{name}\"\ngroups = [{group}]\n")).concat()
}

impl<'a> Crew<'a> {
    fn board(node: &'a Node, lasts: &str) -> Self {
        node.write("people.toml", &with_group("\"crew\""));
        node.done(&["apply", "people.toml"]);
        let people = PEOPLE.map(|name| node.credential(name, "1h")).into_iter().collect::<Vec<_>>();
        // Enough rows that the COPY is still running when it is cut, whatever the sockets swallow.
        let args = [
            "grant",
            "create",
            "--group",
            "crew",
            "--target",
            "shop",
            "--level",
            "read_write",
            "--for",
            lasts,
        ];
        let grant = crate::support::field(&node.json(&args), "id");
        let [idle, busy, open] = [0, 1, 2].map(|i| people[i].login());
        let mut pids: Vec<String> = [&idle, &busy, &open].map(Client::backend_pid).into();
        let running = busy.start("select pg_sleep(60)");
        open.run("begin; insert into items values (7000, 'never committed')");
        let mut copying = people[3].wire(&[]);
        copying.query("copy (select repeat('x', 1000) from generate_series(1, 100000000)) to stdout");
        node.place.wait_running("pg_sleep");
        node.place.wait_running("generate_series(1, 100000000)");
        pids.push(node.place.ask(&format!(
            "select pid from pg_stat_activity where datname = '{}' and query like 'copy (select repeat%'",
            node.place.database
        )));
        assert_eq!(node.place.count("state <> 'idle'"), 3);
        Self { node, people, idle, busy, running, open, copying, pids, grant }
    }

    /// What must hold once it has ended, with this code.
    fn must_be_cut(mut self, code: &str) {
        let node = self.node;
        node.place.wait_quiet(CUT);
        assert_eq!(node.place.ask("select count(*) from items where id = 7000"), "0");
        let fits = |told: &Told| told.code == "57P01" && told.message.starts_with(&format!("{code}: "));
        let told = self.running.told();
        assert!(fits(&told), "in a statement: {told:?}");
        for (state, client) in [("idle", &self.idle), ("in a transaction", &self.open)] {
            let told = client.end().expect_err("cut and not closed");
            assert!(fits(&told), "{state}: {told:?}");
        }
        let _ = self.busy.end();
        // The one that did not read finds whole messages only, and the error if it was deliverable.
        let (messages, _) = self.copying.until_closed();
        let last = messages.last().expect("it was copying");
        assert!(
            messages.iter().rev().skip(1).all(|message| "HdN".contains(message.tag)),
            "something else came between"
        );
        assert!(last.tag == 'd' || fits(&last.told()), "{last:?}");
        let ends: Vec<_> =
            PEOPLE.map(|name| node.wait_event("session_end", |line| line["user"] == name)).into();
        for (line, name) in ends.iter().zip(PEOPLE) {
            assert_eq!(
                (&line["how"], &line["code"], &line["reused"]),
                (&"cut".into(), &code.into(), &false.into()),
                "{line}"
            );
            let delivered = name != "copying" || last.tag == 'E';
            assert_eq!(line["error_delivered"], delivered, "{line}");
        }
        // Nobody gets those connections.
        for pid in &self.pids {
            assert_eq!(
                node.place.count(&format!("pid = {pid}")),
                0,
                "the connection of a cut session lives on"
            );
        }
        for person in &self.people {
            assert!(person.try_login().is_err(), "{} comes back", person.name);
        }
        node.done(&["session", "list"]);
        assert!(node.sessions().is_empty());
    }
}

fn a_revoked_grant_cuts_in_every_state(server: &'static Server) {
    let node = Node::start(server);
    let crew = Crew::board(&node, "1h");
    node.done(&["grant", "revoke", &crew.grant, "--reason", "end of the shift"]);
    let grant = crew.grant.clone();
    crew.must_be_cut("TG004");
    assert_eq!(node.wait_admin("grant.revoke", &grant)["reason"], "end of the shift");
    assert!(node.http("/metrics").contains("revo"), "how long it took is a metric");
}

fn an_expired_grant_cuts_in_every_state(server: &'static Server) {
    let node = Node::start(server);
    let began = Instant::now();
    let crew = Crew::board(&node, "12s");
    assert!(
        began.elapsed() < Duration::from_secs(11),
        "too slow a machine for this test: {:?}",
        began.elapsed()
    );
    let shown = node.json(&["grant", "show", &crew.grant]);
    let until: jiff::Timestamp = shown["window"]["end"].as_str().expect("an end").parse().expect("a time");
    while SystemTime::now() < SystemTime::from(until) {
        assert_eq!(crew.idle.one("select 1"), "1", "cut before its end");
        std::thread::sleep(Duration::from_millis(50));
    }
    crew.must_be_cut("TG003");
}

fn a_removed_user_is_cut_in_every_state(server: &'static Server) {
    let node = Node::start(server);
    let crew = Crew::board(&node, "1h");
    for name in PEOPLE {
        node.done(&["user", "remove", name]);
    }
    crew.must_be_cut("TG006");
}

fn a_revoked_credential_cuts_in_every_state(server: &'static Server) {
    let node = Node::start(server);
    let crew = Crew::board(&node, "1h");
    for person in &crew.people {
        node.done(&["credential", "revoke", &person.credential]);
    }
    crew.must_be_cut("TG005");
}

fn a_suspended_target_cuts_in_every_state(server: &'static Server) {
    let node = Node::start(server);
    let crew = Crew::board(&node, "1h");
    node.done(&["target", "suspend", "shop", "--reason", "maintenance"]);
    let secret = (crew.people[0].name.clone(), crew.people[0].secret.clone());
    crew.must_be_cut("TG007");
    node.done(&["target", "resume", "shop"]);
    let config = crate::support::client::config(node.port, &secret.0, &secret.1, None);
    assert_eq!(Client::connect(&config, None).expect("open again").one("select 1"), "1");
}

fn a_left_group_cuts_in_every_state(server: &'static Server) {
    let node = Node::start(server);
    let crew = Crew::board(&node, "1h");
    node.write("people.toml", &with_group(""));
    node.done(&["apply", "people.toml"]);
    crew.must_be_cut("TG008");
}

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
