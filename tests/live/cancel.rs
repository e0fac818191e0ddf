//! Cancel requests that arrive late, in numbers, or from the wrong people.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::wire::{self, CANCEL_REQUEST};
use crate::support::{Node, Options, PATIENCE, Version, shared, wait_until};

/// Stands between the proxy and the server: passes everything on, but keeps cancel requests back until
/// it is told to let them go, as a server does whose queue of new connections is long.
struct Gate {
    port: u16,
    open: Arc<AtomicBool>,
    held: Arc<AtomicUsize>,
}

impl Gate {
    fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let gate = Self {
            port: listener.local_addr().expect("bound").port(),
            open: Arc::default(),
            held: Arc::default(),
        };
        let (open, held) = (gate.open.clone(), gate.held.clone());
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (open, held) = (open.clone(), held.clone());
                std::thread::spawn(move || pass(client.expect("a connection"), server, &open, &held));
            }
        });
        gate
    }

    /// A node whose connections to the server all come through here; one connection for everybody.
    fn node(&self, node: Node) -> Node {
        let options = Options {
            pool: "size_max = 1\nwait_seconds_max = 20\nconnect_seconds_max = 1",
            target: "tls = \"disable\"\n",
            ..Options::default()
        };
        let direct = format!(":{}\"", node.place.port);
        let target = node.target_file(&options);
        assert!(target.contains(&direct), "{target}");
        node.write("target.toml", &target.replace(&direct, &format!(":{}\"", self.port)));
        node.resume();
        node.done(&["apply", "target.toml"]);
        node
    }
}

fn pass(mut client: TcpStream, server: u16, open: &AtomicBool, held: &AtomicUsize) {
    let mut head = [0; 8];
    if client.read_exact(&mut head).is_err() {
        return;
    }
    let mut server = TcpStream::connect(("127.0.0.1", server)).expect("the server");
    if head[4..] == CANCEL_REQUEST.to_be_bytes() {
        held.fetch_add(1, Ordering::SeqCst);
        wait_until("the gate opens", PATIENCE, || open.load(Ordering::SeqCst));
    }
    let _ = server.write_all(&head);
    let (mut from, mut to) = (client.try_clone().expect("a handle"), server.try_clone().expect("a handle"));
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let _ = std::io::copy(&mut server, &mut client);
    let _ = client.shutdown(Shutdown::Write);
}

#[test]
fn a_cancel_that_lands_late_hits_nobody_else() {
    let node = Node::prepare(shared(Version::Distribution).place(), Options::default());
    let gate = Gate::before(node.place.port);
    let node = gate.node(node);
    let (alice, bob) = (node.person("alice", "read"), node.person("bob", "read"));
    let mut first = alice.wire(&[]);
    first.query("select pg_sleep(2.5)");
    node.place.wait_running("pg_sleep");
    wire::cancel(node.port, first.process, &first.key);
    wait_until("the request is on its way", PATIENCE, || gate.held.load(Ordering::SeqCst) == 1);
    // Long enough for the proxy to give the request up; the statement ends by itself.
    assert_eq!(first.tags(), "TDCZ");
    first.goodbye();
    wait_until("the session has ended", PATIENCE, || node.events("session_end").len() == 1);

    let neighbour = bob.login();
    let running = neighbour.start("select pg_sleep(1.5), 'untouched'");
    node.place.wait_running("untouched");
    gate.open.store(true, Ordering::SeqCst);
    let rows = running.wait().expect("the cancel of one person hit another");
    assert_eq!(rows[0][1].as_deref(), Some("untouched"));
}

#[test]
fn a_key_that_is_used_again_and_again_costs_the_server_a_few_connections() {
    let node = Node::prepare(shared(Version::Distribution).place(), Options::default());
    let gate = Gate::before(node.place.port);
    let node = gate.node(node);
    let mut alice = node.person("alice", "read").wire(&[]);
    alice.query("select pg_sleep(60)");
    node.place.wait_running("pg_sleep");
    // Each waits until the server has it, or for as long as a client may be kept waiting: all at once.
    let (port, process, key) = (node.port, alice.process, alice.key.clone());
    let asking: Vec<_> = (0..20)
        .map(|_| {
            let key = key.clone();
            std::thread::spawn(move || wire::cancel(port, process, &key))
        })
        .collect();
    wait_until("one is at the server", PATIENCE, || gate.held.load(Ordering::SeqCst) > 0);
    std::thread::sleep(Duration::from_millis(200));
    let held = gate.held.load(Ordering::SeqCst);
    assert!((1..=8).contains(&held), "{held} connections to the server at once");
    asking.into_iter().for_each(|asking| asking.join().expect("asked"));
    gate.open.store(true, Ordering::SeqCst);
    assert!(alice.tags().ends_with("EZ"));
}

#[test]
fn who_guesses_keys_does_not_hold_up_a_right_one() {
    let node = Node::start(shared(Version::Distribution));
    let mut alice = node.person("alice", "read").wire(&[]);
    let wrong: Vec<u8> = alice.key.iter().map(|byte| byte ^ 0x55).collect();
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| wire::cancel(node.port, alice.process, &wrong));
        }
    });
    alice.query("select pg_sleep(60)");
    node.place.wait_running("pg_sleep");
    let (process, key) = (alice.process, alice.key.clone());
    let began = Instant::now();
    let request = std::thread::spawn(move || wire::cancel(node.port, process, &key));
    assert!(alice.tags().ends_with("EZ"));
    assert!(began.elapsed() < Duration::from_secs(2), "stopped only after {:?}", began.elapsed());
    // The connection is kept as long as one with a wrong key would be.
    request.join().expect("closed without an answer");
    assert!(began.elapsed() > Duration::from_secs(3), "closed after {:?}", began.elapsed());
}

#[test]
fn a_slowed_cancel_is_not_answered_when_the_time_for_logins_is_short() {
    let options = Options { limits: "login_seconds = 1", ..Options::default() };
    let node = Node::with(shared(Version::Distribution).place(), options);
    for _ in 0..2 {
        std::thread::scope(|scope| {
            for _ in 0..10 {
                // Fails where anything is answered.
                scope.spawn(|| wire::cancel(node.port, 1, &[1, 2, 3, 4]));
            }
        });
    }
    assert_eq!(node.events("login_refused").len(), 0);
}
