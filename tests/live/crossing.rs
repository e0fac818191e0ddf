//! Attempts to cross from one person's session into another's, around the trail, or past an end.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::support::wire::{self, packet, string};
use crate::support::{
    CUT, Node, Options, PATIENCE, Person, Place, Server, Version, on_both_servers, shared, wait_until,
};

on_both_servers!(a_shared_role_has_no_walls_of_the_servers, what_runs_without_an_execute_is_in_the_trail,);

fn one_connection(server: &'static Server) -> Node {
    Node::with(server.place(), Options { pool: "size_max = 1\nwait_seconds_max = 20", ..Options::default() })
}

/// People of one level are one role to the server, which lets a role do as it likes with its own sessions. The
/// guide says so, and `target check` offers the SQL that closes it.
fn a_shared_role_has_no_walls_of_the_servers(server: &'static Server) {
    let node = Node::start(server);
    let (alice, bob) = (node.person("alice", "read"), node.person("bob", "read").login());
    let client = alice.login();
    let pid = client.backend_pid();
    client.run("listen news");
    bob.run("notify news, 'to everybody'");
    wait_until("alice hears it", PATIENCE, || client.notifications().len() == 1);
    let running = client.start("select pg_sleep(60), 'secret'");
    node.place.wait_running("secret");
    let seen = bob.one(&format!("select query from pg_stat_activity where pid = {pid}"));
    assert!(seen.contains("secret"), "{seen}");
    assert_eq!(bob.one(&format!("select pg_cancel_backend({pid})")), "t");
    assert_eq!(running.told().code, "57014");
    assert_eq!(bob.one(&format!("select pg_terminate_backend({pid})")), "t");
    assert_eq!(client.end().expect_err("the server says so").code, "57P01");
    let end = node.wait_event("session_end", |line| line["user"] == "alice");
    assert_eq!((&end["how"], &end["reused"]), (&"close".into(), &false.into()), "{end}");
    let found = node.done(&["target", "check", "shop"]);
    assert!(found.contains("can read, cancel and end what another one runs"), "{found}");
}

/// Planning runs functions that call themselves immutable, and reading a literal runs the checks of its
/// domain: a Bind, or even a Parse, may do things that no Execute follows.
fn what_runs_without_an_execute_is_in_the_trail(server: &'static Server) {
    let node = Node::start(server);
    let alice = node.person("alice", "read_write");
    let client = alice.login();
    client.run(
        "create function evil(what text) returns int language plpgsql as
           $$begin insert into items values (6000 + length(what), what); return 1; end$$;
         create function calm(what text) returns int language plpgsql immutable as
           $$begin return evil(what); end$$;
         create domain watched as text check (evil(value) = 1);
         create type pair as (a watched)",
    );
    let mut wire = alice.wire(&[]);
    let parse = |name: &str, sql: &str| packet('P', &[&string(name)[..], &string(sql), &[0, 0]].concat());
    let bind = packet('B', &[&[0, 0, 0, 0, 0, 1][..], &3u32.to_be_bytes(), b"xyz", &[0, 0]].concat());
    let sync = packet('S', &[]);
    wire.send(&[parse("", "select calm($1)"), bind, sync.clone()].concat());
    assert_eq!(wire.tags(), "12Z");
    wire.send(&[parse("", "select '(four)'::pair"), sync.clone()].concat());
    assert_eq!(wire.tags(), "1Z");
    wire.send(&[parse("", "select '(first)'::pair"), parse("", "select 'second'"), sync].concat());
    assert_eq!(wire.tags(), "11Z");
    assert_eq!(
        client.one("select string_agg(name, ' ' order by id) from items where id between 6000 and 6900"),
        "xyz four first",
        "it does run"
    );
    let bound = node.wait_event("statement", |line| line["text"] == "select calm($1)");
    assert!(bound.to_string().contains("xyz"), "{bound}");
    for text in ["select '(four)'::pair", "select '(first)'::pair", "select 'second'"] {
        node.wait_event("prepare", |line| line["text"] == text);
    }
}

#[test]
fn a_stream_that_never_pauses_is_cut_in_time() {
    let node = Node::start(shared(Version::Distribution));
    let people: Vec<Person> = (0..4).map(|i| node.person(&format!("p{i}"), "read")).collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for person in &people {
            let mut wire = person.wire(&[]);
            wire.query("copy (select repeat('x', 100000) from generate_series(1, 100000000)) to stdout");
            let done = &done;
            scope.spawn(move || {
                let mut space = vec![0; 1 << 20];
                while wire.socket.read(&mut space).is_ok_and(|count| count > 0) {
                    if done.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
        }
        std::thread::sleep(Duration::from_secs(2));
        let began = Instant::now();
        for person in &people {
            node.done(&["session", "kill", &node.session_of(&person.name)]);
        }
        let deadline = Instant::now() + Duration::from_secs(15);
        while node.place.count("state <> 'idle'") > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        let took = began.elapsed();
        done.store(true, Ordering::Relaxed);
        node.kill();
        assert!(took < 4 * CUT, "{took:?}");
    });
}

/// Stands between the proxy and the server and holds cancel requests back for a while.
fn slow_canceller(to: u16, hold: Duration) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("it is bound").port();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut client = client;
                let mut head = [0; 8];
                if client.read_exact(&mut head).is_err() {
                    return;
                }
                if head[4..] == wire::CANCEL_REQUEST.to_be_bytes() {
                    std::thread::sleep(hold);
                }
                let Ok(mut server) = TcpStream::connect(("127.0.0.1", to)) else { return };
                if server.write_all(&head).is_err() {
                    return;
                }
                let (mut from, mut into) =
                    (client.try_clone().expect("a copy"), server.try_clone().expect("a copy"));
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut into);
                    let _ = into.shutdown(std::net::Shutdown::Write);
                });
                let _ = std::io::copy(&mut server, &mut client);
                let _ = client.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    port
}

fn behind_a_slow_canceller(hold: Duration, pool: &str) -> Node {
    let place = shared(Version::Distribution).place();
    let port = slow_canceller(place.port, hold);
    behind(place, port, pool)
}

/// A node that comes to its server by way of `port`.
fn behind(place: Place, port: u16, pool: &str) -> Node {
    let options = Options { target: "tls = \"disable\"\n", pool, ..Options::default() };
    let node = Node::prepare(place, options);
    let file = std::fs::read_to_string(node.folder.join("target.toml")).expect("the target");
    node.write("target.toml", &file.replace(&format!(":{}\"", node.place.port), &format!(":{port}\"")));
    node.resume();
    node.done(&["apply", "target.toml"]);
    node
}

#[test]
fn a_cancel_that_comes_late_does_not_hit_the_next_person() {
    let pool = "size_max = 1\nwait_seconds_max = 20\nconnect_seconds_max = 1";
    let node = behind_a_slow_canceller(Duration::from_secs(4), pool);
    let (alice, bob) = (node.person("alice", "read"), node.person("bob", "read"));
    let mut wire = alice.wire(&[]);
    wire.query("select pg_sleep(2)");
    node.place.wait_running("pg_sleep(2)");
    wire::cancel(node.port, wire.process, &wire.key);
    assert_eq!(wire.tags(), "TDCZ", "the cancel is on its way still");
    wire.goodbye();
    let running = bob.login().start("select pg_sleep(5), 'whole'");
    assert_eq!(running.wait().expect("not cancelled by alice")[0][1].as_deref(), Some("whole"));
}

#[test]
fn a_cancel_on_its_way_does_not_hold_up_a_cut() {
    let node = behind_a_slow_canceller(Duration::from_secs(4), "connect_seconds_max = 8");
    let alice = node.person("alice", "read");
    let mut wire = alice.wire(&[]);
    wire.query("select pg_sleep(60)");
    node.place.wait_running("pg_sleep(60)");
    wire::cancel(node.port, wire.process, &wire.key);
    node.wait_event("cancel", |_| true);
    let began = Instant::now();
    node.done(&["session", "kill", &node.session_of("alice")]);
    let (messages, _) = wire.until_closed();
    assert_eq!(messages.last().expect("told").tag, 'E');
    assert!(began.elapsed() < CUT + Duration::from_millis(500), "{:?}", began.elapsed());
}

/// Stands between the proxy and the server; says when the first look around after a login is due, and waits
/// for a word before it lets it through.
fn slow_looker(to: u16) -> (u16, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("it is bound").port();
    let ((due, is_due), (go_on, may_go_on)) = (mpsc::channel(), mpsc::channel());
    std::thread::spawn(move || {
        let mut once = Some((due, may_go_on));
        for mut client in listener.incoming().flatten() {
            let Ok(mut server) = TcpStream::connect(("127.0.0.1", to)) else { return };
            let (mut from, mut into) =
                (server.try_clone().expect("a copy"), client.try_clone().expect("a copy"));
            std::thread::spawn(move || std::io::copy(&mut from, &mut into));
            let mut gate = once.take();
            std::thread::spawn(move || {
                let mut space = [0; 64 << 10];
                while let Ok(count @ 1..) = client.read(&mut space) {
                    if space[0] == b'Q'
                        && let Some((due, may_go_on)) = gate.take()
                    {
                        let _ = due.send(());
                        let _ = may_go_on.recv();
                    }
                    if server.write_all(&space[..count]).is_err() {
                        return;
                    }
                }
                let _ = server.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    (port, is_due, go_on)
}

/// Settings of the role are put on a connection as it begins, and looked at a moment later. Somebody who sets
/// and resets them all the time must not get between the two: no reset would take them off again.
#[test]
fn a_role_setting_that_is_gone_again_is_not_lent() {
    for (before, meanwhile) in [
        ("alter role ROLE set search_path = evil, public", "alter role ROLE reset search_path"),
        ("alter role ROLE set search_path = evil, public", "alter role ROLE set search_path = good, public"),
    ] {
        let place = shared(Version::Distribution).place();
        let role = place.role("read");
        let (port, is_due, go_on) = slow_looker(place.port);
        let node = behind(place, port, "size_max = 1");
        let alice = node.person("alice", "read");
        node.place.master().run(&before.replace("ROLE", &role));
        std::thread::scope(|scope| {
            let first = scope.spawn(|| alice.try_login());
            is_due.recv_timeout(PATIENCE).expect("it looks around");
            node.place.master().run(&meanwhile.replace("ROLE", &role));
            go_on.send(()).expect("it waits");
            let met = first.join().expect("no panic").map(|client| client.one("show search_path"));
            assert!(met.is_err(), "{met:?}");
        });
        node.place.master().run(&format!("alter role {role} reset all"));
        assert_eq!(alice.login().one("show search_path"), "\"$user\", public");
    }
}

#[test]
fn who_has_left_the_line_takes_no_place_in_it() {
    let pool = "size_max = 1\nwait_seconds_max = 20\nwaiting_max = 2";
    let node = Node::with(shared(Version::Distribution).place(), Options { pool, ..Options::default() });
    let alice = node.person("alice", "read");
    let holder = alice.login();
    for _ in 0..4 {
        // Waits for a second, and goes away.
        let limit = Duration::from_secs(1);
        assert!(
            crate::support::block(async {
                tokio::time::timeout(limit, alice.config().connect(tokio_postgres::NoTls)).await
            })
            .is_err()
        );
    }
    let began = Instant::now();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| alice.try_login().map(|client| client.one("select 1")));
        std::thread::sleep(Duration::from_secs(1));
        holder.close();
        let answer = waiter.join().expect("no panic");
        assert_eq!(answer.expect("there was room to wait"), "1");
    });
    assert!(began.elapsed() < PATIENCE);
}

#[test]
fn more_room_is_given_to_those_who_wait_already() {
    let node = one_connection(shared(Version::Distribution));
    let alice = node.person("alice", "read");
    let holder = alice.login();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| alice.login().one("select 1"));
        std::thread::sleep(Duration::from_millis(500));
        let options = Options { pool: "size_max = 2\nwait_seconds_max = 20", ..Options::default() };
        node.write("target.toml", &node.target_file(&options));
        node.done(&["apply", "target.toml"]);
        let began = Instant::now();
        assert_eq!(waiter.join().expect("no panic"), "1");
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    });
    holder.close();
}

#[test]
fn our_own_words_cannot_be_multiplied_into_memory() {
    let node = Node::start(shared(Version::Distribution));
    let alice = node.person("alice", "read");
    let long = "\u{e9}".repeat(4_500);
    let before = node.resident_bytes();
    let mut wires: Vec<_> = (0..2).map(|_| alice.wire(&[("my.own", &long)])).collect();
    for wire in &mut wires {
        let parse = packet('P', &[&string("")[..], &string("reset all"), &[0, 0]].concat());
        let bind = packet('B', &[0; 8]);
        let execute = packet('E', &[0; 5]).repeat(5_000);
        wire.send(&[parse, bind, execute].concat());
    }
    wait_until("the first is through", PATIENCE, || wires[0].read().is_ok());
    std::thread::sleep(Duration::from_millis(500));
    let grown = node.resident_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes of memory for 110 kB");
}

#[test]
fn long_names_in_binds_are_not_kept() {
    let node = Node::start(shared(Version::Distribution));
    let alice = node.person("alice", "read");
    let mut wire = alice.wire(&[]);
    wire.query("begin");
    wire.until_ready();
    let name = "x".repeat(60_000);
    let before = node.resident_bytes();
    wire.send(&packet('P', &[&string(&name[..63])[..], &string("select 1"), &[0, 0]].concat()));
    for i in 0..1_500 {
        wire.send(&packet('B', &[&string(&format!("p{i}"))[..], &string(&name), &[0; 6]].concat()));
    }
    wire.send(&packet('S', &[]));
    assert_eq!(wire.tags().len(), 1_502);
    let grown = node.resident_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes of memory");
}
