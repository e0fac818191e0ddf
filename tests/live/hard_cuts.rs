//! Cuts that something stands in the way of: bytes at full speed, a server that hangs, a client that has
//! switched the server's own watch off, a trail that fails.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Signal, kill_process};

use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;

use crate::support::server::Options as ServerOptions;
use crate::support::wire::{packet, string};
use crate::support::{
    CUT, Node, Options, PATIENCE, Place, Server, Version, block, on_both_servers, shared, wait_until,
};

on_both_servers!(
    bytes_at_full_speed_do_not_hold_up_a_cut,
    a_statement_is_stopped_that_the_server_would_not_stop_by_itself,
    a_server_that_hangs_keeps_no_session_that_is_cut,
    a_statement_that_refuses_to_be_stopped_is_ended,
    statements_that_wait_at_the_server_do_not_run_after_a_cut,
    a_crowd_that_is_cut_at_once_is_told_and_stopped,
);

/// For what the proxy does by itself after it has said its last words to the client.
const GIVEN_UP: Duration = Duration::from_secs(8);

fn bytes_at_full_speed_do_not_hold_up_a_cut(server: &'static Server) {
    let node = Node::start(server);
    let alice = node.user("alice");
    // Both sides are always ready: there is always something more to move.
    let out = node.grant("alice", "read", "1h", &[]);
    let mut reader = alice.wire(&[]);
    reader.query("copy (select 1 from generate_series(1, 1000000000)) to stdout");
    std::thread::scope(|scope| {
        let socket = reader.socket.try_clone().expect("a second handle");
        scope.spawn(move || read_all(socket));
        std::thread::sleep(Duration::from_millis(500));
        node.done(&["grant", "revoke", &out]);
        node.place.wait_quiet(CUT);
    });
    let into = node.grant("alice", "read_write", "1h", &[]);
    let mut writer = alice.wire(&[]);
    writer.query("copy items from stdin");
    std::thread::scope(|scope| {
        let mut socket = writer.socket.try_clone().expect("a second handle");
        let answers = writer.socket.try_clone().expect("a second handle");
        scope.spawn(move || read_all(answers));
        scope.spawn(move || {
            let line = format!("{}\t{}\n", 1_000_000, "y".repeat(8_000));
            let data = packet('d', line.as_bytes());
            while socket.write_all(&data).is_ok() {}
        });
        std::thread::sleep(Duration::from_millis(500));
        node.done(&["grant", "revoke", &into]);
        node.place.wait_quiet(CUT);
    });
    wait_until("both are gone", PATIENCE, || node.sessions().is_empty());
}

fn read_all(mut socket: std::net::TcpStream) {
    let mut space = vec![0; 1 << 20];
    while socket.read(&mut space).is_ok_and(|count| count > 0) {}
}

/// `client_connection_check_interval` is a client's to change; without it only a request to stop ends
/// a statement that neither reads nor writes.
fn a_statement_is_stopped_that_the_server_would_not_stop_by_itself(server: &'static Server) {
    let node = Node::start(server);
    let alice = node.user("alice");
    let unwatched = "set client_connection_check_interval = 0";
    let grant = node.grant("alice", "read", "1h", &[]);
    let client = alice.login();
    client.run(unwatched);
    let running = client.start("select pg_sleep(60)");
    node.place.wait_running("pg_sleep");
    node.done(&["grant", "revoke", &grant]);
    node.place.wait_quiet(CUT);
    assert_eq!(running.told().code, "57P01");
    // The same where the client goes away.
    node.grant("alice", "read", "1h", &[]);
    let mut wire = alice.wire(&[]);
    wire.query(unwatched);
    wire.until_ready();
    wire.query("select pg_sleep(61)");
    node.place.wait_running("pg_sleep(61)");
    wire.vanish();
    node.place.wait_quiet(PATIENCE);
}

/// Procedural code may catch the stop and go on.
fn a_statement_that_refuses_to_be_stopped_is_ended(server: &'static Server) {
    let node = Node::start(server);
    let alice = node.user("alice");
    let grant = node.grant("alice", "read", "1h", &[]);
    let client = alice.login();
    client.run("set client_connection_check_interval = 0");
    let running = client.start(
        "do $$ begin loop begin perform pg_sleep(10); exception when query_canceled then null; end; end loop; end $$",
    );
    node.place.wait_running("query_canceled");
    node.done(&["grant", "revoke", &grant]);
    node.place.wait_quiet(CUT);
    assert_eq!(running.told().code, "57P01");
    wait_until("the session is gone", PATIENCE, || node.sessions().is_empty());
}

/// Many more than requests to stop a statement that may be on their way at once; by none of them does the server see
/// that its client is gone.
fn a_crowd_that_is_cut_at_once_is_told_and_stopped(server: &'static Server) {
    const CROWD: usize = 48;
    let options = Options { pool: "size_max = 50", ..Options::default() };
    let node = Node::with(server.place(), options);
    let alice = node.user("alice");
    let grant = node.grant("alice", "read", "1h", &[]);
    let busy: Vec<_> = (0..CROWD)
        .map(|_| {
            let mut wire = alice.wire(&[]);
            wire.query("set client_connection_check_interval = 0");
            wire.until_ready();
            wire.query("select pg_sleep(62)");
            wire
        })
        .collect();
    let running = "state = 'active' and query like '%pg_sleep(62)%'";
    wait_until("all run", PATIENCE, || node.place.count(running) as usize == CROWD);
    node.done(&["grant", "revoke", &grant]);
    node.place.wait_quiet(PATIENCE);
    for mut wire in busy {
        let (messages, in_order) = wire.until_closed();
        let told = messages.last().expect("the end is told").told();
        assert!(in_order && told.code == "57P01" && told.message.starts_with("TG004"), "{told:?}");
    }
    wait_until("all are gone", PATIENCE, || node.sessions().is_empty());
}

/// Each of them short, so that a stop hits one and the next one runs.
fn statements_that_wait_at_the_server_do_not_run_after_a_cut(server: &'static Server) {
    let node = Node::start(server);
    let alice = node.user("alice");
    let grant = node.grant("alice", "read", "1h", &[]);
    let mut wire = alice.wire(&[]);
    wire.query("set client_connection_check_interval = 0");
    wire.until_ready();
    wire.send(&packet('Q', b"select pg_sleep(0.15), 'in line'\0").repeat(200));
    node.place.wait_running("in line");
    node.done(&["grant", "revoke", &grant]);
    node.place.wait_quiet(CUT);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(node.place.count("query like '%in line%'"), 0, "the connection lives on");
}

/// Stopped in the middle of a COPY, with all buffers on the way to it full.
fn a_server_that_hangs_keeps_no_session_that_is_cut(server: &'static Server) {
    let node = Node::start(server);
    let alice = node.user("alice");
    let grant = node.grant("alice", "read_write", "1h", &[]);
    let mut wire = alice.wire(&[]);
    wire.query("select pg_backend_pid()");
    let pid = wire.until_ready();
    let pid = std::str::from_utf8(&pid[1].body[6..]).expect("a number").parse().expect("a number");
    let backend = Pid::from_raw(pid).expect("a pid");
    wire.query("copy items from stdin");
    kill_process(backend, Signal::STOP).expect("the server is ours");
    wire.socket.set_write_timeout(Some(Duration::from_secs(1))).expect("a time limit");
    let data = packet('d', format!("1000000\t{}\n", "y".repeat(8_000)).as_bytes());
    while wire.socket.write_all(&data).is_ok() {}
    node.done(&["grant", "revoke", &grant]);
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wait_until("the session ends", GIVEN_UP, || node.sessions().is_empty());
        let end = node.wait_event("session_end", |line| line["user"] == "alice");
        assert_eq!((&end["code"], &end["reused"]), (&"TG004".into(), &false.into()), "{end}");
    }));
    kill_process(backend, Signal::CONT).expect("the server is ours");
    ended.expect("a server that hangs keeps it");
    node.place.wait_quiet(PATIENCE);
    assert_eq!(node.place.ask("select count(*) from items where id = 1000000"), "0");
}

/// Clients that send without a pause.
const LOAD: usize = 4;

#[test]
fn a_trail_that_fails_stops_what_runs() {
    let place = Place::alone(Version::Distribution, ServerOptions::default());
    let node = Node::with(place, Options::default());
    let alice = node.person("alice", "read");
    let [idle, busy] = [(); 2].map(|()| alice.login());
    let running = busy.start("select pg_sleep(60)");
    node.place.wait_running("pg_sleep");
    // Statements come without a pause, so that some are on their way at the moment of the failure.
    std::thread::scope(|scope| {
        for worker in 0..LOAD {
            let wire = alice.wire(&[]);
            let answers = wire.socket.try_clone().expect("a second handle");
            scope.spawn(move || read_all(answers));
            scope.spawn(move || {
                let mut socket = wire.socket;
                for number in 0.. {
                    let some =
                        |part| packet('Q', &string(&format!("select 'mark-{worker}-{number}-{part}'")));
                    if socket.write_all(&(0..20).map(some).collect::<Vec<_>>().concat()).is_err() {
                        return;
                    }
                }
            });
        }
        std::thread::sleep(Duration::from_millis(200));
        // Files that may not grow fail writes as a full disk does.
        node.limit_files("1");
    });
    node.place.wait_quiet(CUT);
    assert!(running.told().message.starts_with("TG0"), "it is told why");
    assert!(idle.end().is_err());
    // What was not in the trail did not reach the server.
    let log = node.place.log();
    node.limit_files("unlimited");
    wait_until("it goes on when there is room", PATIENCE, || alice.try_login().is_ok());
    let ran = log.lines().filter_map(|line| line.split_once("LOG:  statement: ")).map(|(_, sql)| sql);
    let ran: HashSet<&str> = ran.filter(|sql| sql.starts_with("select 'mark-")).collect();
    assert!(ran.len() > 500, "too little load to prove anything: {}", ran.len());
    // The journal held what the file could not.
    wait_until("everything that ran is in the trail", PATIENCE, || {
        let trail = node.events("statement");
        let seen: HashSet<&str> = trail.iter().filter_map(|line| line["text"].as_str()).collect();
        ran.is_subset(&seen)
    });
    let ends = node.events("session_end");
    let cut = ends.iter().filter(|line| line["how"] == "cut" && line["code"] == "TG019").count();
    assert_eq!(cut, LOAD + 2, "the trail says how they ended: {ends:?}");
    node.done(&["audit", "verify"]);
}

#[test]
fn a_store_that_is_locked_delays_no_end() {
    cut_while_the_store_is_locked(CUT);
}

#[test]
fn what_a_locked_store_could_not_take_is_stored_when_it_is_free() {
    let node = cut_while_the_store_is_locked(PATIENCE);
    // Asked of the file: a list shows what is over as expired before anything is stored.
    let file = node.folder.join("state/tidegate.db");
    let mut store = block(SqliteConnectOptions::new().filename(file).connect()).expect("it opens");
    wait_until("both ends are stored", PATIENCE, || {
        let ends = sqlx::query_scalar("SELECT count(*) FROM grants WHERE end_cause = 'expired'");
        block(ends.fetch_one(&mut store)).is_ok_and(|count: i64| count == 2)
    });
}

/// Each session is cut `within` this much of its grant's end.
fn cut_while_the_store_is_locked(within: Duration) -> Node {
    let node = Node::start(shared(Version::Distribution));
    let mut people = [("alice", "10s"), ("bob", "12s")].map(|(name, lasts)| {
        let person = node.user(name);
        let shown = node.json(&["grant", "show", &node.grant(name, "read", lasts, &[])]);
        let end: jiff::Timestamp = shown["window"]["end"].as_str().expect("an end").parse().expect("a time");
        let client = person.login();
        client.run("select 1");
        (client, SystemTime::from(end))
    });
    // As a backup tool does that takes its time.
    let file = node.folder.join("state/tidegate.db");
    let mut other = block(SqliteConnectOptions::new().filename(file).connect()).expect("it opens");
    block(sqlx::query("BEGIN IMMEDIATE").execute(&mut other)).expect("the store is locked");
    for (client, end) in &mut people {
        // On a busy machine it may be over by now.
        assert!(client.is_open() || SystemTime::now() >= *end, "cut before its end");
        std::thread::sleep(end.duration_since(SystemTime::now()).unwrap_or_default());
        wait_until("the session is cut", within, || !client.is_open());
    }
    block(sqlx::query("ROLLBACK").execute(&mut other)).expect("the store is free");
    node
}

#[test]
fn a_drain_with_a_server_that_hangs_loses_no_end() {
    let options = Options { limits: "drain_seconds = 1", ..Options::default() };
    let node = Node::with(shared(Version::Distribution).place(), options);
    let mut wire = node.person("alice", "read").wire(&[]);
    wire.query("select pg_backend_pid()");
    let pid = wire.until_ready();
    let pid = std::str::from_utf8(&pid[1].body[6..]).expect("a number").parse().expect("a number");
    let backend = Pid::from_raw(pid).expect("a pid");
    kill_process(backend, Signal::STOP).expect("the server is ours");
    wire.query("select 1");
    node.wait_statement("select 1");
    node.signal(Signal::TERM);
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| node.wait_ended(GIVEN_UP)));
    kill_process(backend, Signal::CONT).expect("the server is ours");
    assert_eq!(ended.expect("it ends"), Some(0));
    let trail = node.trail();
    let places =
        ["session_end", "node_stop"].map(|event| trail.iter().position(|line| line["event"] == event));
    assert!(places[0].is_some() && places[0] < places[1], "{places:?}");
}
