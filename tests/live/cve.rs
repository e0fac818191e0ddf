//! Published holes of poolers and servers that need a socket, a server or a grant that ends to be tried; those
//! of the machines alone are in `src/protocol/postgres/tests/cve.rs`.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::support::wire::{self, Wire, packet, startup_packet, string};
use crate::support::{Node, Options, PATIENCE, Version, shared, wait_until};

fn node() -> Node {
    Node::start(shared(Version::Distribution))
}

/// The look-up of a user ran with the `search_path` of a client that was not yet known, and with it code of
/// the client's. Nothing reaches the server before the proof, and nothing of a client is ever part of a text.
#[test]
fn cve_2025_12819_who_is_not_proven_reaches_no_server() {
    let node = node();
    let alice = node.person("alice", "read");
    let server = shared(Version::Distribution);
    let before = server.log().matches("connection authorized").count();
    let hostile =
        [("search_path", "pg_temp, \"'; select pg_sleep(9); --\""), ("options", "-c search_path=evil")];
    for password in ["wrong", ""] {
        let told = match Wire::login(node.port, &alice.name, password, &hostile) {
            Ok(_) => panic!("let in with a wrong secret"),
            Err(refused) => refused.0,
        };
        assert!(told.message.starts_with("TG001"), "{told:?}");
    }
    assert_eq!(node.events("session_start").len(), 0);
    assert_eq!(server.log().matches("connection authorized").count(), before);
    // Whoever has proven it gets the setting as a value, however it reads.
    let mut wire = alice.wire(&[("search_path", "\"x'; select 1/0; --\"")]);
    wire.query("show search_path");
    let answers = wire.until_ready();
    let row = answers.iter().find(|message| message.tag == 'D').expect("a row");
    assert!(crate::support::text(&row.body).contains("x'; select 1/0; --"), "{row:?}");
}

/// Passwords whose `VALID UNTIL` had passed went on working.
#[test]
fn cve_2025_2291_an_expired_credential_opens_nothing() {
    let node = node();
    let keeps = node.person("alice", "read");
    let ends = node.credential("alice", "2s");
    let living = ends.login();
    assert_eq!(living.one("select 1"), "1");
    wait_until("the credential has ended", PATIENCE, || ends.try_login().is_err());
    assert!(ends.refused().message.starts_with("TG001"), "an expired credential is a wrong one");
    assert!(living.end().is_err_and(|told| told.message.starts_with("TG005")), "who came in by it is cut");
    assert_eq!(keeps.login().one("select 1"), "1", "the other credential of the same person works");
}

/// One start-up packet kept a worker turning for ever.
#[test]
fn cve_2026_107349_options_that_are_none_keep_no_worker() {
    let node = node();
    let alice = node.person("alice", "read");
    for options in ["-c=", "-c", "--", "-c=-c=-c=", "\\"] {
        let began = Instant::now();
        let refused = Wire::login(node.port, &alice.name, &alice.secret, &[("options", options)]);
        let Err(refused) = refused else { panic!("let in with {options:?}") };
        assert!(refused.0.message.starts_with("TG022"), "{options:?}: {:?}", refused.0);
        assert!(began.elapsed() < PATIENCE, "{options:?}");
    }
    assert_eq!(alice.login().one("select 1"), "1");
}

/// A second start-up message during SCRAM changed the user that the proof was of.
#[test]
fn cve_2026_107350_a_second_start_up_message_makes_nobody_else() {
    let node = node();
    let mallory = node.person("mallory", "read");
    node.person("alice", "admin");
    for moment in ["at once", "after the challenge"] {
        let mut wire = Wire::connect(node.port);
        wire.send(&startup_packet(wire::VERSION_3, &[("user", &mallory.name)]));
        if moment == "after the challenge" {
            wire.read().expect("a request for a proof");
            let first = b"n,,n=,r=abcdefgh";
            let body = [&string("SCRAM-SHA-256")[..], &(first.len() as u32).to_be_bytes(), first].concat();
            wire.send(&packet('p', &body));
            wire.read().expect("a challenge");
        }
        let _ = wire.try_send(&startup_packet(wire::VERSION_3, &[("user", "alice")]));
        let (messages, _) = wire.until_closed();
        let said = messages.iter().find(|message| message.tag == 'E').expect("an error").told();
        assert!(said.message.starts_with("TG013"), "{moment}: {said:?}");
    }
    assert_eq!(node.events("session_start").len(), 0);
}

/// The console of a pooler took KILL_CLIENT from whoever could connect to it. There is no console at a listener:
/// what poolers call one is a database like any other, which a grant covers or not, and their commands are
/// statements for the server.
#[test]
fn cve_2026_6667_a_listener_has_no_console() {
    let node = node();
    let alice = node.person("alice", "read");
    let bob = node.person("bob", "read").login();
    for console in ["pgbouncer", "tidegate", "admin", "pgcat", "odyssey", "console"] {
        let config = crate::support::client::config(node.port, &alice.name, &alice.secret, Some(console));
        let told = crate::support::node::refused(&config);
        assert!(told.message.starts_with("TG002"), "{console}: {told:?}");
    }
    let session = node.session_of("bob");
    let client = alice.login();
    for command in
        [format!("KILL_CLIENT {session}"), "SHOW CLIENTS".into(), "SHUTDOWN".into(), "KILL shop".into()]
    {
        let told = client.told(&command);
        assert!(["42601", "42704"].contains(&told.code.as_str()), "{command}: {told:?}");
    }
    assert_eq!(bob.one("select 1"), "1");
    assert_eq!(node.session_of("bob"), session);
}

/// Plays a server that says these things to whoever connects, each when it has heard something, and then
/// goes on with the last until nobody listens. Gives its port.
fn hostile(words: Vec<Vec<u8>>, endless: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let Ok(mut socket) = socket else { return };
            let words = words.clone();
            std::thread::spawn(move || {
                let mut heard = [0; 4_096];
                for word in &words {
                    if !socket.read(&mut heard).is_ok_and(|count| count > 0) {
                        return;
                    }
                    if socket.write_all(word).is_err() {
                        return;
                    }
                }
                while endless && socket.write_all(words.last().expect("a word")).is_ok() {}
                let _ = socket.read(&mut heard);
            });
        }
    });
    port
}

fn authentication(kind: u32, body: &[u8]) -> Vec<u8> {
    packet('R', &[&kind.to_be_bytes()[..], body].concat())
}

/// A malicious server overflowed a pooler during SCRAM, lied about lengths, or sent an error without a
/// SQLSTATE: here it costs its own target, for a moment, and no memory.
#[test]
fn cve_2026_6665_and_6666_and_107348_a_hostile_server_wastes_its_own_allowance() {
    let options =
        || Options { pool: "connect_seconds_max = 2", target: "tls = \"disable\"", ..Options::default() };
    let server = shared(Version::Distribution);
    let node = Node::with(server.place(), options());
    let alice = node.person("alice", "read");
    let file = node.target_file(&options());
    let offer = authentication(10, b"SCRAM-SHA-256\0\0");
    let huge = "A".repeat(900_000);
    let cases: Vec<(&str, Vec<Vec<u8>>, bool)> = vec![
        ("a nonce that is not ours", vec![offer.clone(), authentication(11, b"r=x,s=QUJD,i=4096")], false),
        (
            "a long salt",
            vec![offer.clone(), authentication(11, format!("r=x,s={huge},i=4096").as_bytes())],
            false,
        ),
        ("two billion rounds", vec![offer.clone(), authentication(11, b"r=x,s=QUJD,i=2000000000")], false),
        ("a length of two gigabytes", vec![[&b"R"[..], &0x7fff_ffffu32.to_be_bytes()].concat()], false),
        ("a negative length", vec![[&b"E"[..], &0xffff_fff0u32.to_be_bytes()].concat()], false),
        ("an error without a SQLSTATE", vec![packet('E', b"Mwhy\0\0")], false),
        ("an error of nothing", vec![packet('E', b"")], false),
        ("endless notices", vec![packet('N', b"Mhello\0\0").repeat(1_000)], true),
        (
            "endless parameters",
            vec![[authentication(0, b""), packet('S', b"name\0value\0").repeat(1_000)].concat()],
            true,
        ),
        ("silence", vec![authentication(0, b"")], false),
    ];
    let before = node.resident_bytes();
    for (what, words, endless) in cases {
        let port = hostile(words, endless);
        let moved = file.replace(&format!("127.0.0.1:{}", server.port), &format!("127.0.0.1:{port}"));
        let confirmed = format!("secret_confirmed_for = \"127.0.0.1:{port}\"\n[target.pool]");
        node.write("target.toml", &moved.replace("[target.pool]", &confirmed));
        node.done(&["apply", "target.toml"]);
        let began = Instant::now();
        let told = alice.refused();
        assert!(told.message.starts_with("TG012"), "{what}: {told:?}");
        assert!(began.elapsed() < Duration::from_secs(15), "{what}: {:?}", began.elapsed());
    }
    let grown = node.resident_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes of memory");
    let confirmed = format!("secret_confirmed_for = \"127.0.0.1:{}\"\n[target.pool]", server.port);
    node.write("target.toml", &file.replace("[target.pool]", &confirmed));
    node.done(&["apply", "target.toml"]);
    assert_eq!(alice.login().one("select 1"), "1", "the node is as it was");
}
