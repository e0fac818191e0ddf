//! How the proxy comes to the server: its ways to log in, the six TLS modes, secrets that change.

use std::time::{Duration, Instant};

use crate::support::server::{self, ROLE_PASSWORD};
use crate::support::{
    Client, Node, Options, PATIENCE, Place, Server, Told, Version, on_both_servers, shared, tls, wait_until,
};

on_both_servers!(every_way_to_log_in_works, the_six_tls_modes_keep_what_they_promise);

/// Roles are members of a group for each case, so that one server serves them all.
const HBA: &str = "host all +use_md5 127.0.0.1/32 md5
hostssl all +use_password 127.0.0.1/32 password
host all +use_clear 127.0.0.1/32 password
hostnossl all +only_plain 127.0.0.1/32 scram-sha-256
hostssl all +only_plain 127.0.0.1/32 reject
hostssl all +only_tls 127.0.0.1/32 scram-sha-256
hostnossl all +only_tls 127.0.0.1/32 reject
host all +use_trust 127.0.0.1/32 trust";

fn alone(server: &Server) -> Place {
    let place = Place::alone(server.version, server::Options { hba: HBA, ..server::Options::default() });
    for group in ["use_md5", "use_password", "use_clear", "only_plain", "only_tls", "use_trust"] {
        place.master().run(&format!("create role {group}"));
    }
    place
}

/// A node whose reader is in `group`; what a login through it comes to: whether TLS is used, or the refusal.
fn way(place: &Place, group: &str, target: &str, host: &str) -> (Node, Result<String, Told>) {
    let place = place.sibling();
    let role = place.role("read");
    if !group.is_empty() {
        place.master().run(&format!("grant {group} to {role}"));
    }
    if group == "use_md5" {
        place
            .master()
            .run(&format!("set password_encryption = md5; alter role {role} password '{ROLE_PASSWORD}'"));
    }
    let node = Node::with(place, Options { target, host: Some(host), ..Options::default() });
    let alice = node.person("alice", "read");
    let answer = alice.try_login().map_err(|error| Told::from(&error));
    let answer = answer.map(|client| client.one("select ssl from pg_stat_ssl where pid = pg_backend_pid()"));
    (node, answer)
}

const VERIFIED: &str = "tls = \"verify-full\"\ntls_ca = \"ca.pem\"\n";

fn every_way_to_log_in_works(server: &'static Server) {
    let place = alone(server);
    let (inside, plain) = (VERIFIED, "tls = \"disable\"\n");
    for (group, target, expected) in [
        ("", inside, Some("t")),
        ("", plain, Some("f")),
        ("use_md5", inside, Some("t")),
        ("use_password", inside, Some("t")),
        ("use_trust", inside, Some("t")),
        // Nothing that a password is guessed from is shown to a stranger, and one that asks for nothing is not
        // believed, unless the target says so.
        ("use_md5", plain, None),
        ("use_md5", "tls = \"require\"\n", None),
        ("use_md5", "tls = \"disable\"\nrequire_auth = \"md5\"\n", Some("f")),
        ("use_password", "tls = \"require\"\n", None),
        ("use_password", "tls = \"require\"\nrequire_auth = [\"password\"]\n", Some("t")),
        ("use_trust", plain, None),
        ("use_trust", "tls = \"disable\"\nrequire_auth = \"none\"\n", Some("f")),
        ("", "tls = \"disable\"\nrequire_auth = [\"md5\", \"password\"]\n", None),
        // A password never travels in clear.
        ("use_clear", plain, None),
        ("use_clear", "tls = \"disable\"\nrequire_auth = \"password\"\n", None),
    ] {
        let (_node, answer) = way(&place, group, target, "127.0.0.1");
        match expected {
            Some(tls) => assert_eq!(answer.as_deref(), Ok(tls), "{group} {target}"),
            None => {
                assert_eq!(answer.unwrap_err().message.split(':').next(), Some("TG012"), "{group} {target}")
            }
        }
    }
}

fn the_six_tls_modes_keep_what_they_promise(server: &'static Server) {
    let place = alone(server);
    let other_ca = "tls_ca = \"listener.pem\"\n";
    let ca = "tls_ca = \"ca.pem\"\n";
    for (mode, more, host, group, expected) in [
        ("disable", "", "127.0.0.1", "only_plain", Some("f")),
        ("disable", "", "127.0.0.1", "only_tls", None),
        ("allow", "", "127.0.0.1", "", Some("f")),
        ("allow", "", "127.0.0.1", "only_tls", Some("t")),
        ("prefer", "", "127.0.0.1", "", Some("t")),
        ("prefer", "", "127.0.0.1", "only_plain", Some("f")),
        ("require", "", "127.0.0.1", "", Some("t")),
        ("require", "", "127.0.0.1", "only_plain", None),
        ("verify-ca", ca, "127.0.0.1", "", Some("t")),
        ("verify-ca", other_ca, "127.0.0.1", "", None),
        ("verify-full", ca, "localhost", "", Some("t")),
        ("verify-full", ca, "127.0.0.1", "", Some("t")),
        ("verify-full", other_ca, "127.0.0.1", "", None),
        ("verify-full", ca, "127.0.0.1", "only_plain", None),
    ] {
        let target = format!("tls = \"{mode}\"\n{more}");
        let (_node, answer) = way(&place, group, &target, host);
        match expected {
            Some(tls) => assert_eq!(answer.as_deref(), Ok(tls), "{mode} {more} {host} {group}"),
            None => assert_eq!(answer.unwrap_err().code, "08006", "{mode} {more} {host} {group}"),
        }
    }
}

#[test]
fn a_certificate_for_another_host_is_refused_by_verify_full_only() {
    let authority = tls::authority();
    let place = Place::alone(Version::Distribution, server::Options::default());
    place.replace_certificate(authority, &["db.elsewhere.example"]);
    let (_node, answer) = way(&place, "", VERIFIED, "127.0.0.1");
    assert_eq!(answer.unwrap_err().code, "08006");
    let (_node, answer) = way(&place, "", "tls = \"verify-ca\"\ntls_ca = \"ca.pem\"\n", "127.0.0.1");
    assert_eq!(answer.as_deref(), Ok("t"));
}

#[test]
fn a_secret_that_changed_is_read_again_without_a_restart() {
    let node = Node::start(shared(Version::Distribution));
    let alice = node.person("alice", "read");
    let before = alice.login();
    let role = node.place.role("read");
    node.place.master().run(&format!("alter role {role} password 'rotated'"));
    node.write_secret("read", "rotated");
    assert_eq!(before.one("select 1"), "1", "who is in stays in");
    let during = alice.login();
    assert_eq!(during.one("select 1"), "1");
    // The other order: the server first, then, after a refused login, the file.
    node.place.master().run(&format!("alter role {role} password 'again'"));
    before.close();
    during.close();
    node.place.ask(&format!(
        "select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity where usename = '{role}'"
    ));
    let told = alice.refused();
    assert_eq!(told.message.split(':').next(), Some("TG025"), "{told:?}");
    assert!(!told.message.contains("password"), "what is wrong with our secret is not the client's business");
    node.write_secret("read", "again");
    wait_until("the new secret is used", PATIENCE, || alice.try_login().is_ok());
}

#[test]
fn a_target_that_is_not_there_is_said_quickly_and_one_that_hangs_within_its_time() {
    let server = shared(Version::Distribution);
    let node = Node::with(server.place(), Options { pool: "connect_seconds_max = 1", ..Options::default() });
    let alice = node.person("alice", "read");
    // Accepts and never says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let file = node.target_file(&Options { pool: "connect_seconds_max = 1", ..Options::default() });
    let address =
        |port: u16| file.replace(&format!("127.0.0.1:{}", server.port), &format!("127.0.0.1:{port}"));
    for port in [1, silent.local_addr().expect("bound").port()] {
        let moved = address(port);
        node.write("target.toml", &moved);
        // A changed address does not take its secret along unless that is said.
        assert_eq!(node.tg(&["apply", "target.toml"]).status.code(), Some(1));
        let confirmed = format!("secret_confirmed_for = \"127.0.0.1:{port}\"\n[target.pool]");
        node.write("target.toml", &moved.replace("[target.pool]", &confirmed));
        node.done(&["apply", "target.toml"]);
        let began = Instant::now();
        let told = alice.refused();
        assert_eq!((told.code.as_str(), &told.message[..5]), ("08006", "TG012"), "{told:?}");
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    }
    let back = format!("secret_confirmed_for = \"127.0.0.1:{}\"\n[target.pool]", server.port);
    node.write("target.toml", &file.replace("[target.pool]", &back));
    node.done(&["apply", "target.toml"]);
    assert_eq!(alice.login().one("select 1"), "1");
}

#[test]
fn a_server_without_room_is_told_apart() {
    let settings = "max_connections = 6\nsuperuser_reserved_connections = 3";
    let place =
        Place::alone(Version::Distribution, server::Options { settings, ..server::Options::default() });
    let node = Node::with(place, Options::default());
    let alice = node.person("alice", "read");
    let mut held: Vec<Client> = Vec::new();
    let told = loop {
        match alice.try_login() {
            Ok(client) => held.push(client),
            Err(error) => break Told::from(&error),
        }
        assert!(held.len() < 7, "the server took more than it has");
    };
    assert!(["53300", "08006"].contains(&told.code.as_str()), "{told:?}");
    held.pop().expect("somebody came in").close();
    wait_until("there is room again", PATIENCE, || alice.try_login().is_ok());
}
