//! Peers that vanish, break the rules or die; a proxy that is killed, drained, told to look again.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::server;
use crate::support::wire::{self, Message, Wire, packet, startup_packet, string};
use crate::support::{
    CUT, Client, Node, Options, PATIENCE, Place, Server, Version, on_both_servers, shared, tls, wait_until,
};

on_both_servers!(
    the_statement_of_a_client_that_vanished_ends_at_the_server,
    a_server_that_dies_ends_its_sessions_properly_and_is_found_again,
);

/// How long a vanished client's statement may go on: the cancel is sent at once; this is for a busy machine.
const VANISHED: Duration = Duration::from_secs(5);

fn the_statement_of_a_client_that_vanished_ends_at_the_server(server: &'static Server) {
    let node = Node::start(server);
    let alice = node.person("alice", "read");
    for how in ["RST", "FIN"] {
        let leave = if how == "RST" { Wire::reset } else { Wire::vanish };
        let mut wire = alice.wire(&[]);
        wire.query("select pg_sleep(60)");
        node.place.wait_running("pg_sleep");
        leave(wire);
        node.place.wait_quiet(VANISHED);
        // The same while we have stopped reading from the server, because the client does not read from us.
        let mut wire = alice.wire(&[]);
        wire.query("select repeat('x', 1000) from generate_series(1, 100000000)");
        node.place.wait_running("100000000");
        std::thread::sleep(Duration::from_millis(500));
        leave(wire);
        node.place.wait_quiet(VANISHED);
        wait_until(&format!("no session is left after {how}"), PATIENCE, || node.sessions().is_empty());
    }
    wait_until("each end is in the trail", PATIENCE, || node.events("session_end").len() == 4);
    let ends = node.events("session_end");
    assert!(ends.iter().all(|line| line["how"] == "close" && line["reused"] == false), "{ends:?}");
    // In a transaction, and with a half-sent message.
    let writer = node.person("bob", "read_write");
    let mut wire = writer.wire(&[]);
    wire.query("begin; insert into items values (8000, 'x')");
    wire.until_ready();
    wire.send(&packet('Q', &string("commit"))[..6]);
    wire.vanish();
    node.place.wait_quiet(VANISHED);
    assert_eq!(node.place.ask("select count(*) from items where id = 8000"), "0");
}

fn a_server_that_dies_ends_its_sessions_properly_and_is_found_again(server: &'static Server) {
    let node = Node::with(Place::alone(server.version, server::Options::default()), Options::default());
    let alice = node.person("alice", "read");
    let (idle, busy) = (alice.login(), alice.login());
    let running = busy.start("select pg_sleep(60)");
    node.place.wait_running("pg_sleep");
    node.place.stop_immediately();
    let told = running.told();
    // Either the server's own last words or ours, but words.
    assert!(
        ["57P02", "57P01"].contains(&told.code.as_str()) || told.message.starts_with("TG023"),
        "{told:?}"
    );
    assert!(!idle.end().expect_err("its connection is gone").code.is_empty());
    let told = alice.refused();
    assert_eq!((told.code.as_str(), &told.message[..5]), ("08006", "TG012"), "{told:?}");
    node.place.resume();
    wait_until("the pool recovers", PATIENCE, || {
        alice.try_login().is_ok_and(|client| client.one("select 1") == "1")
    });
    assert_eq!(node.http("/health").split_whitespace().nth(1), Some("200"));
}

#[test]
fn after_kill_9_under_load_everything_that_ran_is_in_the_trail() {
    let node =
        Node::with(Place::alone(Version::Distribution, server::Options::default()), Options::default());
    let alice = node.person("alice", "read");
    let stop = AtomicBool::new(false);
    let mut acknowledged = Vec::new();
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let (alice, stop) = (&alice, &stop);
            scope.spawn(move || {
                let mut wire = alice.wire(&[]);
                for number in 0.. {
                    let sql = format!("select 'mark-{worker}-{number}'");
                    // Pipelined, so that statements are on their way at the moment of the kill.
                    let four =
                        [0, 1, 2, 3].map(|part| packet('Q', &string(&format!("{sql} || {part}")))).concat();
                    if wire.try_send(&four).is_err() {
                        return;
                    }
                    for _ in 0..4 {
                        if !read_to_ready(&mut wire) {
                            return;
                        }
                    }
                    assert!(!stop.load(Ordering::Relaxed) || number < 1_000_000, "the kill did not reach it");
                }
            });
        }
        for _ in 0..10 {
            acknowledged.push(node.grant("alice", "read_write", "1h", &[]));
        }
        std::thread::sleep(Duration::from_millis(700));
        node.kill();
        stop.store(true, Ordering::Relaxed);
    });
    node.place.wait_quiet(PATIENCE);
    let log = node.place.log();
    let ran: HashSet<&str> = log
        .lines()
        .filter_map(|line| line.split_once("LOG:  statement: "))
        .map(|(_, sql)| sql)
        .filter(|sql| sql.starts_with("select 'mark-"))
        .collect();
    assert!(ran.len() > 500, "too little load to prove anything: {}", ran.len());
    node.resume();
    // What the dead process had left is written ahead of the new one's first line.
    wait_until("the journal is finished", PATIENCE, || node.events("node_start").len() == 2);
    let trail = node.events("statement");
    let written: HashSet<&str> = trail.iter().filter_map(|line| line["text"].as_str()).collect();
    let missing: Vec<_> = ran.difference(&written).collect();
    assert!(missing.is_empty(), "{} of {} ran unseen, such as {:?}", missing.len(), ran.len(), missing[0]);
    node.done(&["audit", "verify"]);
    let grants = node.json(&["grant", "list"]).to_string();
    assert!(acknowledged.iter().all(|id| grants.contains(id.as_str())), "an acknowledged grant is lost");
    assert!(node.trail().iter().any(|line| line["event"] == "node_start"));
    assert!(node.sessions().is_empty());
    // The old process is really gone and the new one serves.
    assert_eq!(alice.login().one("select 1"), "1");
}

fn read_to_ready(wire: &mut Wire) -> bool {
    loop {
        match wire.read() {
            Ok(Message { tag: 'Z', .. }) => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
}

#[test]
fn sigterm_lets_the_living_finish_and_nobody_in() {
    let options = Options { limits: "drain_seconds = 3", ..Options::default() };
    let node = Node::with(shared(Version::Distribution).place(), options);
    let person = node.person("alice", "read");
    let (idle, busy, long) = (person.login(), person.login(), person.login());
    let short = busy.start("select pg_sleep(1), 'finished'");
    let endless = long.start("select pg_sleep(60)");
    node.place.wait_running("pg_sleep(60)");
    let began = Instant::now();
    node.signal(Signal::TERM);
    assert_eq!(short.wait().expect("it may finish")[0][1].as_deref(), Some("finished"));
    assert!(person.try_login().is_err(), "nobody new comes in");
    let told = endless.told();
    assert_eq!((told.code.as_str(), &told.message[..5]), ("57P03", "TG014"), "{told:?}");
    assert!(began.elapsed() >= Duration::from_millis(2_800), "cut before drain_seconds");
    assert!(idle.end().expect_err("ended by us").message.starts_with("TG014"));
    assert_eq!(node.wait_ended(PATIENCE), Some(0));
    node.place.wait_quiet(CUT);
    let ends = node.events("session_end");
    assert_eq!(ends.iter().filter(|line| line["how"] == "drain").count(), 3, "{ends:?}");
    assert_eq!(node.trail().last().expect("lines")["event"], "node_stop");
    assert_eq!(node.place.count("true"), 0, "no connection is left at the server");
}

#[test]
fn a_reload_drops_no_session() {
    let node = Node::start(shared(Version::Distribution));
    let person = node.person("alice", "read");
    let alice = person.login();
    let pid = alice.backend_pid();
    let running = alice.start("select pg_sleep(2), 'whole'");
    let file = std::fs::read_to_string(node.folder.join("tidegate.toml")).expect("the node file");
    // Another certificate of another authority, and another limit.
    let other = tls::Authority::new("next year");
    other.write_certificate(&node.folder, "listener", tls::HOSTS);
    node.write("tidegate.toml", &file.replace("[limits]\n", "[limits]\nidle_seconds = 3600\n"));
    node.signal(Signal::HUP);
    wait_until("the new certificate is shown", PATIENCE, || {
        Client::connect(&person.config(), Some(&other)).is_ok()
    });
    assert_eq!(running.wait().expect("untouched")[0][1].as_deref(), Some("whole"));
    assert_eq!(alice.backend_pid(), pid);
    // A bad file changes nothing and says why.
    node.write("tidegate.toml", &file.replace("[limits]\n", "[limits]\nidle_secs = 1\n"));
    let refused = node.tg(&["reload"]);
    assert_eq!(refused.status.code(), Some(1));
    let said = crate::support::text(&refused.stderr);
    assert!(said.contains("idle_secs") && said.contains("tidegate.toml:"), "{said}");
    assert!(Client::connect(&person.config(), Some(&other)).is_ok());
    assert_eq!(alice.backend_pid(), pid);
}

#[test]
fn broken_input_before_login_is_refused_and_hurts_nobody() {
    let options = Options { limits: "login_seconds = 2", ..Options::default() };
    let node = Node::with(shared(Version::Distribution).place(), options);
    let alice = node.person("alice", "read");
    let neighbour = alice.login();
    let running = neighbour.start("select pg_sleep(5), 'whole'");
    let good = startup_packet(wire::VERSION_3, &[("user", "alice")]);
    let long_value = "x".repeat(20_000);
    let inputs: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", vec![]),
        ("one byte", vec![0]),
        ("a web browser", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ("a length of two gigabytes", [&0x7fff_ffffu32.to_be_bytes()[..], b"abc"].concat()),
        ("a length of three", vec![0, 0, 0, 3, 0, 3, 0, 0]),
        ("a length that is negative", vec![0xff, 0xff, 0xff, 0xff, 0, 3, 0, 0]),
        ("version 2", startup_packet(0x2_0000, &[("user", "alice")])),
        ("version 9", startup_packet(0x9_0000, &[("user", "alice")])),
        ("no user", startup_packet(wire::VERSION_3, &[("database", "shop")])),
        ("an empty user", startup_packet(wire::VERSION_3, &[("user", "")])),
        (
            "a packet that is too long",
            startup_packet(wire::VERSION_3, &[("user", "alice"), ("x", &long_value)]),
        ),
        ("half a packet", good[..good.len() / 2].to_vec()),
        ("no terminator", [&9u32.to_be_bytes()[..], &wire::VERSION_3.to_be_bytes(), b"u"].concat()),
        ("a query instead of a proof", [&good[..], &packet('Q', &string("select 1"))].concat()),
        ("a proof of nothing", [&good[..], &packet('p', &[])].concat()),
        (
            "an unknown mechanism",
            [&good[..], &packet('p', &[&string("PLAIN")[..], &[0, 0, 0, 1], b"x"].concat())].concat(),
        ),
        ("a huge proof", [&good[..], b"p", &0x3fff_ffffu32.to_be_bytes(), b"SCRAM-SHA-256\0"].concat()),
        (
            "half a cancel request",
            [&16u32.to_be_bytes()[..], &wire::CANCEL_REQUEST.to_be_bytes(), &[0; 3]].concat(),
        ),
        ("random bytes", (0..4_096u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()),
    ];
    let before = node.resident_bytes();
    for (what, input) in &inputs {
        let began = Instant::now();
        let mut wire = Wire::connect(node.port);
        let _ = wire.try_send(input);
        let mut answer = Vec::new();
        let _ = wire.socket.read_to_end(&mut answer);
        assert!(began.elapsed() < Duration::from_secs(10), "{what}: not closed within the login's time");
        assert!(!answer.windows(9).any(|w| w == [b'R', 0, 0, 0, 8, 0, 0, 0, 0]), "{what}: let in");
        assert!(answer.len() < 2_000, "{what}: {} bytes of answer", answer.len());
    }
    let grown = node.resident_bytes().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes of memory");
    assert_eq!(running.wait().expect("untouched")[0][1].as_deref(), Some("whole"));
    assert_eq!(alice.login().one("select 1"), "1");
}

#[test]
fn a_login_that_takes_too_long_is_ended_however_busy_it_looks() {
    let options = Options { limits: "login_seconds = 2", ..Options::default() };
    let node = Node::with(shared(Version::Distribution).place(), options);
    let began = Instant::now();
    let mut wire = Wire::connect(node.port);
    // A byte now and then.
    for byte in startup_packet(wire::VERSION_3, &[("user", "alice"), ("database", "a long name to wait for")])
    {
        if wire.try_send(&[byte]).is_err() || began.elapsed() > Duration::from_secs(8) {
            break;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    let mut rest = Vec::new();
    let _ = wire.socket.read_to_end(&mut rest);
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
    node.wait_event("login_refused", |line| line["code"] == "TG017");
}

#[test]
fn broken_input_after_login_ends_that_session_at_most() {
    let node = Node::start(shared(Version::Distribution));
    let alice = node.person("alice", "read_write");
    let neighbour = alice.login();
    let running = neighbour.start("select pg_sleep(6), 'whole'");
    let header = |tag: u8, length: u32| [&[tag][..], &length.to_be_bytes()].concat();
    let inputs: Vec<(&str, Vec<u8>)> = vec![
        ("an unknown message", packet('z', b"what")),
        ("a length of three", header(b'Q', 3)),
        ("a length of zero", header(b'Q', 0)),
        ("a length of two gigabytes", header(b'Q', 0x7fff_ffff)),
        ("a negative length", header(b'Q', 0xffff_fff0)),
        ("a huge goodbye", header(b'X', 0x1000_0000)),
        ("a query without its zero", packet('Q', b"select 1")),
        ("a query with two", packet('Q', b"select 1\0\0")),
        ("a bind that ends early", packet('B', &[0, 0, 0])),
        ("a bind with a count that lies", packet('B', &[0, 0, 0, 0, 0xff, 0xff])),
        ("a parse with a count that lies", packet('P', &[&[0][..], b"select 1\0", &[0x7f, 0xff]].concat())),
        ("a login in the middle", packet('p', b"SCRAM-SHA-256\0")),
        ("a server's message", packet('D', &[0, 1, 0, 0, 0, 1, b'x'])),
        ("random bytes", (0..4_096u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 11) as u8).collect()),
    ];
    let before = node.resident_bytes();
    for (what, input) in &inputs {
        let mut wire = alice.wire(&[]);
        wire.query("begin; insert into items values (9000, 'x')");
        wire.until_ready();
        let _ = wire.try_send(input);
        let _ = wire.try_send(&packet('S', &[]));
        wire.socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a time limit");
        let mut answer = Vec::new();
        // It is told an error, or it waits for the rest of its message; then it leaves.
        let ended = wire.socket.read_to_end(&mut answer).is_ok();
        let quiet = answer.is_empty() && (!ended || what.contains("goodbye"));
        assert!(answer.first() == Some(&b'E') || quiet, "{what}: {answer:?}");
        wire.vanish();
        node.place.wait_quiet_but(1, VANISHED);
        assert_eq!(node.place.ask("select count(*) from items where id = 9000"), "0", "{what}");
        let next = alice.login();
        assert_eq!(next.one("select count(*) from items where id = 9000"), "0", "{what}");
        next.close();
    }
    let grown = node.resident_bytes().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes of memory");
    assert_eq!(running.wait().expect("untouched")[0][1].as_deref(), Some("whole"));
}

#[test]
fn copy_data_outside_of_a_copy_is_ignored_as_the_server_does() {
    let node = Node::start(shared(Version::Distribution));
    let mut wire = node.person("alice", "read").wire(&[]);
    wire.send(&[packet('d', b"stray"), packet('c', &[]), packet('Q', &string("select 1"))].concat());
    assert_eq!(wire.tags(), "TDCZ");
    // A failed COPY: what the client had sent already is skipped.
    wire.send(
        &[packet('Q', &string("copy nowhere from stdin")), packet('d', b"1\n"), packet('c', &[])].concat(),
    );
    assert_eq!(wire.tags(), "EZ");
    wire.query("select 2");
    assert_eq!(wire.tags(), "TDCZ");
}

#[test]
fn a_slow_reader_costs_memory_to_nobody() {
    let node = Node::start(shared(Version::Distribution));
    let alice = node.person("alice", "read");
    let before = node.resident_bytes();
    let slow: Vec<Wire> = (0..10)
        .map(|_| {
            let mut wire = alice.wire(&[]);
            wire.query("select repeat('x', 1000) from generate_series(1, 1000000)");
            wire
        })
        .collect();
    std::thread::sleep(Duration::from_secs(2));
    let grown = node.resident_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "ten slow readers of a gigabyte took {grown} bytes");
    let bob = node.person("bob", "read").login();
    assert_eq!(bob.one("select 1"), "1");
    slow.into_iter().for_each(Wire::vanish);
    node.place.wait_quiet(PATIENCE);
}

#[test]
fn a_client_that_sends_and_never_reads_is_held_back() {
    let node = Node::start(shared(Version::Distribution));
    let alice = node.person("alice", "read");
    let before = node.resident_bytes();
    let mut wire = alice.wire(&[]);
    wire.socket.set_write_timeout(Some(Duration::from_secs(2))).expect("a time limit");
    let query = packet('Q', &string("select repeat('x', 1000)")).repeat(1_000);
    let mut sent = 0usize;
    while sent < 256 << 20 {
        match wire.socket.write(&query) {
            Ok(count) => sent += count,
            Err(_) => break,
        }
    }
    assert!(sent < 256 << 20, "the proxy took everything");
    let grown = node.resident_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes of memory for {sent} sent");
    wire.reset();
    node.place.wait_quiet(PATIENCE);
}
