//! Who is let in, who is not, and what each of them learns.

use std::io::Read;

use crate::support::node::LISTENER_WITHOUT_TARGET;
use crate::support::wire::{self, Wire};
use crate::support::{
    Client, Node, Options, PATIENCE, Server, Told, Version, on_both_servers, psql, refused, shared, text,
    tls, wait_until,
};

on_both_servers!(a_grant_opens_the_way_and_a_connector_goes_in, psql_comes_in_with_tls_and_without);

fn node() -> Node {
    Node::start(shared(Version::Distribution))
}

fn a_grant_opens_the_way_and_a_connector_goes_in(server: &'static Server) {
    let node = Node::start(server);
    let alice = node.person("alice", "read").login();
    assert_eq!(alice.one("select current_user"), node.place.role("read"));
    assert_eq!(alice.one("select current_database()"), node.place.database);
    assert_eq!(alice.one("select count(*) from items"), "1000");
    // The server itself sees who is there.
    let session = node.session_of("alice");
    let seen = node
        .place
        .ask(&format!("select application_name from pg_stat_activity where pid = {}", alice.backend_pid()));
    assert!(seen.starts_with(&format!("alice/{session}")), "{seen} for {session}");
    // The wall is the connector's rights.
    assert_eq!(alice.told("delete from items").code, "42501");
}

fn psql_comes_in_with_tls_and_without(server: &'static Server) {
    let node = Node::start(server);
    let alice = node.person("alice", "read");
    let ca = node.folder.join("ca.pem");
    let verified = format!("sslmode=verify-full sslrootcert={}", ca.display());
    let modes =
        [(verified.as_str(), true), ("sslmode=disable", false), ("sslmode=prefer gssencmode=prefer", true)];
    for (count, (mode, tls)) in (1..).zip(modes) {
        let done = psql(&alice.conninfo(mode), &alice.secret, &["-c", "select name from items where id = 7"]);
        assert_eq!(text(&done.stdout), "item 7\n", "{mode}: {}", text(&done.stderr));
        wait_until("the session is in the trail", PATIENCE, || node.events("session_start").len() == count);
        assert_eq!(node.events("session_start")[count - 1]["tls"], tls, "{mode}");
    }
    // Another authority's certificate is not believed, so no credential travels.
    let other = tls::Authority::new("somebody else");
    node.write("other.pem", &other.pem);
    let mode = format!("sslmode=verify-full sslrootcert={}", node.folder.join("other.pem").display());
    assert_eq!(psql(&alice.conninfo(&mode), &alice.secret, &["-c", "select 1"]).status.code(), Some(2));
}

#[test]
fn tokio_postgres_comes_in_over_tls() {
    let node = node();
    let alice = node.person("alice", "read");
    let mut config = alice.config();
    config.host("localhost");
    let client =
        Client::connect(alice.config().hostaddr("127.0.0.1".parse().unwrap()), Some(tls::authority()));
    assert_eq!(client.expect("TLS").one("select 1"), "1");
    assert!(Client::connect(&alice.config(), Some(&tls::Authority::new("somebody else"))).is_err());
}

#[test]
fn without_an_open_grant_nobody_goes_in() {
    let node = node();
    let alice = node.user("alice");
    let none = Told { code: "28000".into(), message: "TG002: no grant of yours is open for this now".into() };
    assert_eq!(alice.refused(), none);
    node.grant("alice", "read", "1h", &["--from", "2h"]);
    assert_eq!(alice.refused(), none, "a grant of the future");
    node.grant("alice", "read", "1h", &["--cidr", "10.0.0.0/8"]);
    assert_eq!(alice.refused(), none, "from elsewhere only");
    node.grant("alice", "read", "1h", &["--database", "postgres"]);
    assert_eq!(alice.refused(), none, "another database only");
    // Right passwords without a grant never lock anyone out.
    node.grant("alice", "read", "1h", &["--cidr", "127.0.0.0/8"]);
    alice.login();
    let line = node.wait_event("login_refused", |line| line["code"] == "TG002");
    assert_eq!((&line["user"], &line["authenticated"]), (&"alice".into(), &true.into()));
}

#[test]
fn who_is_not_authenticated_learns_nothing() {
    let node = node();
    let alice = node.person("alice", "read");
    let expired = node.credential("alice", "1s");
    let revoked = node.credential("alice", "1h");
    node.done(&["credential", "revoke", &revoked.credential]);
    // An end is a whole second, so up to one more.
    std::thread::sleep(std::time::Duration::from_millis(2_100));
    let attempts = [
        ("wrong secret", "alice", "tg_00000000000000000000000000"),
        ("unknown user", "nobody", alice.secret.as_str()),
        ("not a name at all", "Al ice!", alice.secret.as_str()),
        ("unknown user and target", "nobody@nowhere", alice.secret.as_str()),
        ("expired credential", "alice", expired.secret.as_str()),
        ("revoked credential", "alice", revoked.secret.as_str()),
    ];
    let rounds = |challenge: &str| {
        let fields: Vec<&str> = challenge.split(',').collect();
        (fields.len(), fields[1].len(), fields[2].to_owned())
    };
    let good = alice.wire(&[]);
    for (what, user, secret) in attempts {
        let (told, wire) =
            *Wire::login(node.port, user, secret, &[]).err().unwrap_or_else(|| panic!("{what} is let in"));
        assert_eq!(
            (told.code.as_str(), told.message.as_str()),
            ("28P01", "TG001: the login was not accepted"),
            "{what}"
        );
        assert_eq!(wire.steps, "R10R11E", "{what}");
        assert_eq!(rounds(&wire.challenge), rounds(&good.challenge), "{what}");
    }
    // The salt of a name stays, known or not, or two attempts would tell them apart.
    let salt = |user: &str| {
        let (_, wire) = *Wire::login(node.port, user, "wrong", &[]).err().expect("wrong");
        wire.challenge.split(',').nth(1).expect("a salt").to_owned()
    };
    assert_eq!(salt("nobody"), salt("nobody"));
    assert_eq!(salt("alice"), salt("alice"));
    assert_ne!(salt("nobody"), salt("alice"));
    // The operator learns it all.
    node.wait_event("login_refused", |line| line["why"].as_str().is_some_and(|why| why.contains("unknown")));
    assert_eq!(alice.login().one("select 1"), "1", "the right secret still works");
}

#[test]
fn several_credentials_of_one_user_work_at_the_same_time() {
    let node = node();
    let first = node.person("alice", "read");
    let second = node.credential("alice", "1h");
    assert_eq!(first.login().one("select 1"), "1");
    assert_eq!(second.login().one("select 1"), "1");
    node.done(&["credential", "revoke", &first.credential]);
    assert_eq!(first.refused().code, "28P01");
    assert_eq!(second.login().one("select 1"), "1");
}

#[test]
fn the_login_name_chooses_level_and_target() {
    let server = shared(Version::Distribution);
    let node = Node::with(server.place(), Options { node: LISTENER_WITHOUT_TARGET, ..Options::default() });
    let alice = node.person("alice", "read_write");
    node.grant("alice", "read", "1h", &[]);
    let login = |name: &str, port: u16| {
        let mut config = alice.config();
        config.user(name);
        if port != node.port {
            config = crate::support::client::config(port, name, &alice.secret, None);
        }
        Client::connect(&config, None)
    };
    let role = |name: &str, port: u16| login(name, port).map(|client| client.one("select current_user")).ok();
    let [read, write] = ["read", "read_write"].map(|level| Some(node.place.role(level)));
    assert_eq!(role("alice", node.port), read, "the lowest level wins");
    assert_eq!(role("alice+read_write", node.port), write);
    assert_eq!(role("alice@shop", node.port), read);
    assert_eq!(role("alice+read_write@shop", node.port), write);
    assert_eq!(role("alice+admin", node.port), None);
    assert_eq!(role("alice@other", node.port), None, "the listener's target is fixed");
    assert_eq!(role("alice@shop", node.second_port), read);
    assert_eq!(role("alice", node.second_port), None, "no target is named");
    let notices = |name: &str| {
        let wire = Wire::login(node.port, name, &alice.secret, &[]).map_err(|refused| refused.0);
        wire.expect("let in").notices.join(" ")
    };
    assert!(notices("alice").contains("read_write"), "other open grants are told: {:?}", notices("alice"));
    assert_eq!(notices("alice+read_write"), "");
}

#[test]
fn a_database_is_covered_or_not() {
    let node = node();
    let alice = node.person("alice", "read");
    let other = node.place.sibling();
    let mut config = alice.config();
    let mut enter = |database: &str| {
        config.dbname(database);
        Client::connect(&config, None)
            .map(|client| client.one("select current_database()"))
            .map_err(|e| Told::from(&e))
    };
    assert_eq!(enter(&node.place.database).as_deref(), Ok(node.place.database.as_str()));
    assert_eq!(enter("alice").as_deref(), Ok(node.place.database.as_str()), "libpq's default is no choice");
    assert_eq!(enter(&other.database).unwrap_err().message.split(':').next(), Some("TG002"));
    node.grant("alice", "read", "1h", &["--database", &other.database]);
    assert_eq!(enter(&other.database).as_deref(), Ok(other.database.as_str()));
    node.grant("alice", "read", "1h", &["--database", "*"]);
    let none = enter("nowhere").unwrap_err();
    assert_eq!((none.code.as_str(), none.message.split(':').next()), ("3D000", Some("TG024")));
}

#[test]
fn a_grant_counts_its_sessions() {
    let node = node();
    let alice = node.user("alice");
    node.grant("alice", "read", "1h", &["--sessions", "1"]);
    let first = alice.login();
    assert_eq!(alice.refused().code, "28000");
    first.close();
    wait_until("the place is free again", PATIENCE, || alice.try_login().is_ok());
}

#[test]
fn a_listener_that_requires_tls_takes_no_credential_in_clear() {
    let server = shared(Version::Distribution);
    let listener = format!("{LISTENER_WITHOUT_TARGET}tls = \"require\"\n");
    let node = Node::with(server.place(), Options { node: &listener, ..Options::default() });
    let alice = node.person("alice", "read");
    let (told, wire) =
        *Wire::login(node.second_port, "alice@shop", &alice.secret, &[]).err().expect("refused");
    assert!(told.message.starts_with("TG020"), "{told:?}");
    assert_eq!(wire.steps, "E", "nothing was asked for");
    let config = crate::support::client::config(node.second_port, "alice@shop", &alice.secret, None);
    assert_eq!(Client::connect(&config, Some(tls::authority())).expect("TLS").one("select 1"), "1");
}

#[test]
fn encryption_requests_follow_the_protocol() {
    let node = node();
    let request = |code: u32| [&8u32.to_be_bytes()[..], &code.to_be_bytes()].concat();
    let answer = |wire: &mut Wire| {
        let mut byte = [0];
        wire.socket.read_exact(&mut byte).map(|()| byte[0] as char).ok()
    };
    let mut wire = Wire::connect(node.port);
    wire.send(&request(wire::GSSENC_REQUEST));
    assert_eq!(answer(&mut wire), Some('N'));
    wire.send(&request(wire::SSL_REQUEST));
    assert_eq!(answer(&mut wire), Some('S'), "TLS may be asked for after GSS was declined");
    // Bytes sent ahead of the handshake would be taken for encrypted ones.
    let mut wire = Wire::connect(node.port);
    let early = wire::startup_packet(wire::VERSION_3, &[("user", "alice")]);
    wire.send(&[request(wire::SSL_REQUEST), early].concat());
    let mut rest = Vec::new();
    let _ = wire.socket.read_to_end(&mut rest);
    assert!(!rest.contains(&b'R'), "a login went on in clear: {rest:?}");
}

#[test]
fn replication_is_refused_clearly() {
    let node = node();
    let alice = node.person("alice", "admin");
    for kind in ["true", "database"] {
        let (told, _) =
            *Wire::login(node.port, "alice", &alice.secret, &[("replication", kind)]).err().expect("refused");
        assert!(told.message.starts_with("TG021") && told.message.contains("replication"), "{told:?}");
    }
    // What only looks like it is let in, as the server does.
    assert_eq!(refused(alice.config().user("alice+nothing")).code, "28000");
    Wire::login(node.port, "alice", &alice.secret, &[("replication", "false")])
        .map_err(|refused| refused.0)
        .expect("in");
}

/// Only connects, from that address.
fn idle_from(address: [u8; 4], port: u16) -> std::net::TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let at =
        |address: [u8; 4], port: u16| socket2::SockAddr::from(std::net::SocketAddr::from((address, port)));
    socket.bind(&at(address, 0)).expect("an address of this machine");
    socket.connect(&at([127, 0, 0, 1], port)).expect("the listener accepts");
    socket.into()
}

#[test]
fn a_source_that_only_connects_keeps_nobody_else_out() {
    let server = shared(Version::Distribution);
    let listener = format!("{LISTENER_WITHOUT_TARGET}max_connections = 8\n");
    let node = Node::with(server.place(), Options { node: &listener, ..Options::default() });
    let alice = node.person("alice", "read");
    let idle: Vec<_> = (0..20).map(|_| idle_from([127, 0, 0, 2], node.second_port)).collect();
    std::thread::sleep(std::time::Duration::from_millis(300));
    let config = crate::support::client::config(node.second_port, "alice@shop", &alice.secret, None);
    assert_eq!(Client::connect(&config, None).expect("there is a place left").one("select 1"), "1");
    drop(idle);
    // Who has logged in does not count: more than half of the places, from one source.
    let sessions: Vec<Client> = (0..6)
        .map(|_| Client::connect(&config, None).expect("half of the places are for arrivals"))
        .collect();
    assert!(sessions.iter().all(|session| session.one("select 1") == "1"));
    // However many are turned away, the log has room for other news.
    let lines = node.log().lines().filter(|line| line.contains("too many connections")).count();
    assert!((1..=2).contains(&lines), "{lines} lines");
}

#[test]
fn failed_logins_are_slowed_per_user_and_never_lock_out() {
    let options = Options { limits: "login_seconds = 3", ..Options::default() };
    let node = Node::with(shared(Version::Distribution).place(), options);
    let (alice, bob) = (node.person("alice", "read"), node.person("bob", "read"));
    // Twelve at once, so that the test need not wait for each; under names that are all alice's.
    std::thread::scope(|scope| {
        for name in ["alice", "alice@shop", "alice+read", "alice@a", "alice@b", "alice@c"].repeat(2) {
            let port = node.port;
            scope.spawn(move || assert!(Wire::login(port, name, "wrong", &[]).is_err()));
        }
    });
    let began = std::time::Instant::now();
    assert_eq!(bob.login().one("select 1"), "1");
    assert!(began.elapsed() < std::time::Duration::from_secs(1), "another user is not slowed");
    let began = std::time::Instant::now();
    assert_eq!(alice.login().one("select 1"), "1", "slowed, not locked out");
    assert!(began.elapsed() > std::time::Duration::from_millis(1_200), "alice was not slowed");
}

#[test]
fn the_trail_calls_nobody_authenticated_who_is_not() {
    let node = node();
    let alice = node.person("alice", "read");
    let mut old = Wire::connect(node.port);
    old.send(&wire::startup_packet(0x2_0000, &[("user", "alice")]));
    old.until_closed();
    let line = node.wait_event("login_refused", |line| line["code"] == "TG021");
    assert_eq!(line["authenticated"], false, "{line}");
    let long = "x".repeat(64);
    let (told, _) =
        *Wire::login(node.port, "alice", &alice.secret, &[("database", &long)]).err().expect("refused");
    assert!(told.message.starts_with("TG024"), "{told:?}");
    let line = node.wait_event("login_refused", |line| line["code"] == "TG024");
    assert_eq!(line["authenticated"], true, "{line}");
}
