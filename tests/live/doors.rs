//! The ways in: versions of the protocol, direct TLS, channel binding, client certificates, server names, load
//! balancers, unix sockets, and what becomes of those who are one too many.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::tls::{self, Tunnel};
use crate::support::wire::{self, VERSION_3, Wire, startup_packet};
use crate::support::{
    Client, Node, Options, PATIENCE, Person, Server, Version, on_both_servers, psql, shared, text, wait_until,
};

on_both_servers!(
    newer_versions_have_longer_cancel_keys,
    a_client_may_begin_with_tls,
    a_login_is_bound_to_its_tls_connection,
    a_client_certificate_logs_in,
    a_unix_socket_is_a_way_in,
);

const VERSION_3_2: u32 = VERSION_3 + 2;

/// A node with a second listener, which has these keys.
fn node_with(server: &'static Server, keys: &str) -> Node {
    let listener = format!("[[listener]]\naddress = \"127.0.0.1:SECOND\"\nprotocol = \"postgres\"\n{keys}\n");
    Node::with(server.place(), Options { node: &listener, ..Options::default() })
}

fn any() -> &'static Server {
    shared(Version::Distribution)
}

/// A libpq string for the second listener, where nothing but the server name tells of a host.
fn second(node: &Node, user: &str, more: &str) -> String {
    format!("host=localhost hostaddr=127.0.0.1 port={} user={user} sslmode=require {more}", node.second_port)
}

fn newer_versions_have_longer_cancel_keys(server: &'static Server) {
    let node = Node::start(server);
    let alice = node.person("alice", "read");
    for (version, bytes) in [(VERSION_3, 4), (VERSION_3 + 1, 4), (VERSION_3_2, 32), (VERSION_3 + 9_999, 32)] {
        let login = Wire::connect(node.port).log_in(version, "alice", &alice.secret, &[("_pq_.x", "1")]);
        let mut wire = login.unwrap_or_else(|refused| panic!("{version:x}: {:?}", refused.0));
        // The unknown option is told of, once and ahead of the login, whatever the version.
        assert!(wire.steps.starts_with("vR10R11R12R0"), "{}", wire.steps);
        assert_eq!(wire.steps.matches('v').count(), 1);
        assert_eq!(wire.key.len(), bytes, "{version:x}");
        wire.query("select pg_sleep(30)");
        let busy = || {
            node.place.ask("select count(*) from pg_stat_activity where query like '%sleep(30)' and state = 'active' and pid <> pg_backend_pid()")
        };
        wait_until("it sleeps", PATIENCE, || busy() == "1");
        // Keys that are too short, too long or wrong do nothing, and are not answered either.
        for key in [&wire.key[..bytes - 1], &[&wire.key[..], &[0]].concat(), &vec![0; bytes], &[0; 256]] {
            wire::cancel(node.port, wire.process, key);
        }
        assert_eq!(busy(), "1");
        wire::cancel(node.port, wire.process, &wire.key);
        let messages = wire.until_ready();
        assert!(
            messages.iter().any(|message| message.tag == 'E' && message.field(b'C') == "57014"),
            "{messages:?}"
        );
        wire.goodbye();
    }
}

fn a_client_may_begin_with_tls(server: &'static Server) {
    let node = node_with(server, "target = \"shop\"\ntls = \"off\"");
    let alice = node.person("alice", "read");
    let (direct, errors) = tls::tunnel(node.port, Tunnel::default());
    let mut wire =
        Wire::login(direct, "alice", &alice.secret, &[]).map_err(|refused| refused.0).expect("let in");
    assert_eq!(node.wait_event("session_start", |line| line["user"] == "alice")["tls"], true);
    wire.query("select pg_sleep(30)");
    wait_until("it sleeps", PATIENCE, || {
        node.place.count("query like '%sleep(30)' and state = 'active'") == 1
    });
    // libpq 17 cancels in the way it came, and wants to see TLS ended in good order.
    wire::cancel(direct, wire.process, &wire.key);
    assert!(errors.lock().expect("whole").is_empty(), "{errors:?}");
    assert!(wire.until_ready().iter().any(|message| message.field(b'C') == "57014"));
    // Without the protocol's name nobody is answered, neither a login nor a cancel request.
    let (nameless, _) = tls::tunnel(node.port, Tunnel { alpn: &[], ..Tunnel::default() });
    let mut silent = Wire::connect(nameless);
    let _ = silent.try_send(&startup_packet(VERSION_3, &[("user", "alice")]));
    let mut heard = Vec::new();
    let _ = silent.socket.read_to_end(&mut heard);
    assert!(heard.is_empty(), "{heard:?}");
    let (browser, errors) = tls::tunnel(node.port, Tunnel { alpn: &["h2", "http/1.1"], ..Tunnel::default() });
    let _ = Wire::connect(browser).socket.read_to_end(&mut heard);
    wait_until("the handshake fails", PATIENCE, || !errors.lock().expect("whole").is_empty());
    let said = errors.lock().expect("whole").join("; ");
    assert!(said.contains("NoApplicationProtocol"), "{said}");
    // Who asks first needs no name, for older clients have none.
    let (older, _) = tls::tunnel(node.port, Tunnel { direct: false, alpn: &[], ..Tunnel::default() });
    assert!(Wire::login(older, "alice", &alice.secret, &[]).is_ok());
    // A listener without TLS closes, without a word that nobody would understand.
    let mut plain = Wire::connect(node.second_port);
    plain.send(&[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0]);
    let _ = plain.socket.read_to_end(&mut heard);
    assert!(heard.is_empty(), "{heard:?}");
    // Bytes in clear between the request and the handshake are not taken for protected ones.
    let mut early = Wire::connect(node.port);
    early.send(&[[0, 0, 0, 8, 4, 210, 22, 47].as_slice(), &[0x16, 3, 1]].concat());
    let _ = early.socket.read_to_end(&mut heard);
    assert_eq!(heard, b"S");
}

fn a_login_is_bound_to_its_tls_connection(server: &'static Server) {
    let node = Node::start(server);
    let alice = node.person("alice", "read");
    let ca = node.folder.join("ca.pem");
    let verified = format!("sslmode=verify-full sslrootcert={}", ca.display());
    let bound = |port: u16, binding: &str| {
        let conninfo = format!(
            "host=localhost hostaddr=127.0.0.1 port={port} user=alice {verified} channel_binding={binding}"
        );
        psql(&conninfo, &alice.secret, &["-c", "select 'in'"])
    };
    let done = bound(node.port, "require");
    assert_eq!(text(&done.stdout), "in\n", "{}", text(&done.stderr));
    // Somebody in the middle has a certificate that the client believes: only the binding tells.
    tls::authority().write_certificate(&node.folder, "other", tls::HOSTS);
    let middle = tls::man_in_the_middle(node.port, &node.folder, "other");
    assert_eq!(text(&bound(middle, "disable").stdout), "in\n", "what the binding is for");
    for binding in ["prefer", "require"] {
        let done = bound(middle, binding);
        assert_eq!((done.status.code(), text(&done.stdout).as_str()), (Some(2), ""), "{binding}");
        assert!(text(&done.stderr).contains("TG001"), "{}", text(&done.stderr));
    }
    let line = node
        .wait_event("login_refused", |line| line["why"].as_str().is_some_and(|why| why.contains("between")));
    assert_eq!((&line["authenticated"], &line["code"]), (&false.into(), &"TG001".into()));
    // In clear there is nothing to bind to, and the client that wants it knows.
    let done =
        psql(&alice.conninfo("sslmode=disable channel_binding=require"), &alice.secret, &["-c", "select 1"]);
    assert!(text(&done.stderr).contains("channel binding"), "{}", text(&done.stderr));
}

const CERTIFICATES: &str =
    "target = \"shop\"\ntls = \"require\"\nclient_ca = \"clients.pem\"\nclient_certificates = ";

/// A node whose second listener takes certificates of `clients`.
fn node_with_certificates(server: &'static Server, clients: &tls::Authority, how: &str) -> Node {
    let listener = format!(
        "[[listener]]\naddress = \"127.0.0.1:SECOND\"\nprotocol = \"postgres\"\n{CERTIFICATES}\"{how}\"\n"
    );
    let node = Node::prepare(server.place(), Options { node: &listener, ..Options::default() });
    node.write("clients.pem", &clients.pem);
    node.resume();
    node.done(&["apply", "target.toml"]);
    node
}

fn with_certificate(node: &Node, name: &str) -> String {
    let folder = node.folder.display();
    format!("sslcert={folder}/{name}.pem sslkey={folder}/{name}.key")
}

fn a_client_certificate_logs_in(server: &'static Server) {
    let clients = tls::Authority::new("people");
    let node = node_with_certificates(server, &clients, "optional");
    let day = Duration::from_secs(86_400);
    let alice = node.person("alice", "read");
    node.person("bob", "read");
    clients.write_client_certificate(&node.folder, "alice", "alice", day);
    clients.write_client_certificate(&node.folder, "nobody", "nobody", day);
    tls::Authority::new("strangers").write_client_certificate(&node.folder, "stranger", "alice", day);
    let try_as = |user: &str, name: &str, secret: &str| {
        let done = psql(&second(&node, user, &with_certificate(&node, name)), secret, &["-c", "select 'in'"]);
        (text(&done.stdout), text(&done.stderr))
    };
    assert_eq!(try_as("alice", "alice", "").0, "in\n", "{:?}", try_as("alice", "alice", ""));
    assert_eq!(try_as("alice+read@shop", "alice", "").0, "in\n");
    let line = node.wait_event("login_accepted", |line| line["user"] == "alice");
    assert!(line["credential"].is_null() && line["certificate"]["name"] == "alice", "{line}");
    assert_eq!(line["certificate"]["sha256"].as_str().map(str::len), Some(64));
    // Somebody else's certificate is refused, and a secret does not make up for it.
    for (user, name) in [("bob", "alice"), ("alice", "nobody")] {
        assert!(try_as(user, name, &alice.secret).1.contains("TG001"), "{user} {name}");
    }
    let named = |line: &serde_json::Value| line["why"] == "the client certificate names somebody else";
    assert_eq!(node.wait_event("login_refused", named)["authenticated"], false);
    // A name that is proven and unknown opens nothing; an authority that is not believed ends the handshake.
    assert!(try_as("nobody", "nobody", "").1.contains("TG002"));
    assert!(!try_as("alice", "stranger", &alice.secret).1.contains("TG0"));
    // Without one it is the secret.
    let done = psql(&second(&node, "alice", "sslcert=none"), &alice.secret, &["-c", "select 'in'"]);
    assert_eq!(text(&done.stdout), "in\n", "{}", text(&done.stderr));
    // On the other listener nobody asks for one.
    let done = psql(
        &alice.conninfo(&format!("sslmode=require {}", with_certificate(&node, "alice"))),
        "",
        &["-c", "select 1"],
    );
    assert_eq!(done.status.code(), Some(2));
}

#[test]
fn where_a_certificate_is_required_a_secret_is_not_enough() {
    let clients = tls::Authority::new("people");
    let node = node_with_certificates(any(), &clients, "require");
    let alice = node.person("alice", "read");
    clients.write_client_certificate(&node.folder, "alice", "alice", Duration::from_secs(86_400));
    let done = psql(&second(&node, "alice", "sslcert=none"), &alice.secret, &["-c", "select 1"]);
    assert!(
        text(&done.stderr).contains("TG021: a login without a client certificate"),
        "{}",
        text(&done.stderr)
    );
    let conninfo = second(&node, "alice", &with_certificate(&node, "alice"));
    let mut sleeping = crate::support::client::psql_command(&conninfo, "", &["-c", "select pg_sleep(30)"]);
    let mut sleeping = sleeping.stderr(std::process::Stdio::piped()).spawn().expect("psql");
    let asleep = || node.place.count("query like '%sleep(30)' and state = 'active'") == 1;
    wait_until("it sleeps", PATIENCE, asleep);
    // psql cancels on another connection, in clear and without a certificate.
    let pid = rustix::process::Pid::from_raw(sleeping.id() as i32).expect("a pid");
    rustix::process::kill_process(pid, Signal::INT).expect("our child");
    let mut said = String::new();
    sleeping.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    assert!(said.contains("canceling statement"), "{said}");
    let _ = sleeping.wait();
}

#[test]
fn a_session_ends_with_its_certificate() {
    let clients = tls::Authority::new("people");
    let node = node_with_certificates(any(), &clients, "optional");
    node.person("alice", "read");
    clients.write_client_certificate(&node.folder, "alice", "alice", Duration::from_secs(8));
    let began = Instant::now();
    let conninfo = second(&node, "alice", &with_certificate(&node, "alice"));
    let done = psql(&conninfo, "", &["-c", "select pg_sleep(60)"]);
    assert!(text(&done.stderr).contains("TG005"), "{}", text(&done.stderr));
    assert!(began.elapsed() < Duration::from_secs(40), "its end was not seen");
    assert_eq!(node.wait_event("session_end", |_| true)["code"], "TG005");
    // It is over: the handshake fails.
    assert!(!psql(&conninfo, "", &["-c", "select 1"]).status.success());
}

#[test]
fn the_server_name_says_the_target() {
    let node = node_with(any(), "tls = \"require\"\nserver_name_suffix = \".db.example\"");
    let alice = node.person("alice", "read");
    let try_as = |host: &str, user: &str| {
        let conninfo =
            format!("host={host} hostaddr=127.0.0.1 port={} user={user} sslmode=require", node.second_port);
        let done = psql(&conninfo, &alice.secret, &["-c", "select 'in'"]);
        text(if done.status.success() { &done.stdout } else { &done.stderr })
    };
    assert_eq!(try_as("shop.db.example", "alice"), "in\n");
    assert_eq!(try_as("SHOP.DB.example", "alice@shop"), "in\n");
    assert_eq!(try_as("localhost", "alice@shop"), "in\n");
    assert!(try_as("shop.db.example", "alice@other").contains("TG002"));
    assert!(try_as("other.db.example", "alice@shop").contains("TG002"));
    assert!(try_as("other.db.example", "alice").contains("TG002"));
    assert!(try_as("localhost", "alice").contains("TG002"));
    let contradiction =
        |line: &serde_json::Value| line["why"] == "the TLS server name says another target than the login";
    assert_eq!(node.wait_event("login_refused", contradiction)["authenticated"], true);
}

/// A PROXY header of version 2 for a client at this address, with an addition behind it.
fn header_2(address: [u8; 4]) -> Vec<u8> {
    let body = [&address[..], &[127, 0, 0, 1, 0x11, 0x22, 0x33, 0x44], &[0xe0, 0, 2, 7, 7]].concat();
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11".as_slice(), &(body.len() as u16).to_be_bytes(), &body].concat()
}

fn behind_balancer(port: u16, alice: &Person, header: &[u8]) -> Result<Wire, String> {
    let mut wire = Wire::connect(port);
    wire.send(header);
    wire.log_in(VERSION_3, "alice", &alice.secret, &[]).map_err(|refused| refused.0.message)
}

#[test]
fn a_balancer_says_where_the_client_is() {
    let node =
        node_with(any(), "target = \"shop\"\ntls = \"optional\"\nproxy_protocol.from = [\"127.0.0.0/8\"]");
    let alice = node.user("alice");
    node.grant("alice", "read", "1h", &["--cidr", "203.0.113.0/24", "--cidr", "2001:db8::/32"]);
    let enter = |header: &[u8]| behind_balancer(node.second_port, &alice, header);
    let v1 = |address: &str, family: &str| {
        format!("PROXY {family} {address} {address} 4242 6432\r\n").into_bytes()
    };
    for (header, peer) in [
        (v1("203.0.113.9", "TCP4"), "203.0.113.9:4242"),
        (v1("2001:db8::9", "TCP6"), "[2001:db8::9]:4242"),
        (header_2([203, 0, 113, 77]), "203.0.113.77:4386"),
    ] {
        let wire = enter(&header).unwrap_or_else(|told| panic!("{peer}: {told}"));
        let line = node.wait_event("session_start", |line| line["peer"] == peer);
        assert!(line["via"].as_str().is_some_and(|via| via.starts_with("127.0.0.1:")), "{line}");
        assert_eq!(node.sessions()[0]["peer"], peer);
        wire.goodbye();
    }
    // Elsewhere; and the balancer itself, which speaks for nobody.
    for header in [
        v1("198.51.100.1", "TCP4"),
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec(),
    ] {
        assert!(enter(&header).err().is_some_and(|told| told.starts_with("TG002")), "{header:?}");
    }
    // Header, request and all in one piece; and byte by byte.
    let whole = [v1("203.0.113.9", "TCP4"), startup_packet(VERSION_3, &[("user", "alice")])].concat();
    let mut wire = Wire::connect(node.second_port);
    for byte in &whole {
        wire.send(&[*byte]);
    }
    assert_eq!(wire.read().expect("an answer").tag, 'R');
    let mut wire = Wire::connect(node.second_port);
    wire.send(&whole);
    assert_eq!(wire.read().expect("an answer").tag, 'R');
    // Over TLS, as people come: the request for it is behind the header too.
    let mut wire = Wire::connect(node.second_port);
    wire.send(&[&v1("203.0.113.9", "TCP4")[..], &[0, 0, 0, 8, 4, 210, 22, 47]].concat());
    let mut answer = [0];
    wire.socket.read_exact(&mut answer).expect("an answer");
    assert_eq!(answer, *b"S");
}

#[test]
fn without_a_right_header_nobody_behind_a_balancer_is_heard() {
    let node =
        node_with(any(), "target = \"shop\"\ntls = \"optional\"\nproxy_protocol.from = [\"127.0.0.0/8\"]");
    node.person("alice", "read");
    let hello = startup_packet(VERSION_3, &[("user", "alice")]);
    let close = |input: &[u8]| {
        let mut wire = Wire::connect(node.second_port);
        wire.send(input);
        let mut heard = Vec::new();
        let _ = wire.socket.read_to_end(&mut heard);
        assert!(heard.is_empty(), "{input:?} was answered with {heard:?}");
    };
    close(&hello);
    close(b"PROXY TCP4 203.0.113.9 203.0.113.9 99999 1\r\n");
    close(b"PROXY ");
    close(&[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0]);
    let metrics = node.http("/metrics");
    let count =
        format!("tidegate_proxy_headers_refused_total{{listener=\"127.0.0.1:{}\"}} 4", node.second_port);
    assert!(metrics.contains(&count), "{metrics}");
    assert!(node.log().contains("PROXY header"));
    // A listener that names no network reads no header.
    let mut wire = Wire::connect(node.port);
    let _ = wire.try_send(&[b"PROXY TCP4 203.0.113.9 203.0.113.9 1 1\r\n".as_slice(), &hello].concat());
    let (messages, _) = wire.until_closed();
    assert!(
        messages.iter().all(|message| message.tag == 'E' && message.field(b'M').starts_with("TG013")),
        "{messages:?}"
    );
}

#[test]
fn places_count_for_the_client_and_not_for_its_balancer() {
    let listener = "[[listener]]\naddress = \"127.0.0.1:SECOND\"\nprotocol = \"postgres\"\ntarget = \"shop\"\n\
                    tls = \"optional\"\nmax_connections = 8\nproxy_protocol.from = [\"127.0.0.0/8\"]\n";
    let options = Options { node: listener, limits: "login_seconds = 300", ..Options::default() };
    let node = Node::with(any().place(), options);
    let alice = node.person("alice", "read");
    let header = |last: u8| format!("PROXY TCP4 203.0.113.{last} 127.0.0.1 1 1\r\n").into_bytes();
    // One source may hold half of the places without logging in: two of these are too many.
    let idle: Vec<Wire> = (0..6)
        .map(|_| {
            let mut wire = Wire::connect(node.second_port);
            wire.send(&header(9));
            wire
        })
        .collect();
    let refused = "tidegate_logins_total{code=\"TG011\"} 2\n";
    wait_until("two are too many", PATIENCE, || node.http("/metrics").contains(refused));
    // Those two give their places back as soon as they have been told.
    wait_until("others come in", PATIENCE, || behind_balancer(node.second_port, &alice, &header(10)).is_ok());
    let told = behind_balancer(node.second_port, &alice, &header(9)).err();
    assert!(told.as_ref().is_some_and(|told| told.starts_with("TG011")), "{told:?}");
    drop(idle);
}

#[test]
fn one_connection_too_many_is_told_so_and_can_still_cancel() {
    let node = node_with(any(), "target = \"shop\"\ntls = \"optional\"\nmax_connections = 2");
    let alice = node.person("alice", "read");
    let login = || Wire::login(node.second_port, "alice", &alice.secret, &[]).map_err(|refused| refused.0);
    let mut first = login().expect("room");
    let _second = login().expect("room");
    for mode in ["sslmode=disable", "sslmode=require"] {
        let conninfo = format!("host=127.0.0.1 port={} user=alice {mode}", node.second_port);
        let done = psql(&conninfo, &alice.secret, &["-c", "select 1"]);
        assert!(text(&done.stderr).contains("TG011: too many"), "{mode}: {}", text(&done.stderr));
    }
    assert_eq!(login().err().expect("full").code, "53400");
    first.query("select pg_sleep(30)");
    wait_until("it sleeps", PATIENCE, || {
        node.place.count("query like '%sleep(30)' and state = 'active'") == 1
    });
    wire::cancel(node.second_port, first.process, &first.key);
    assert!(first.until_ready().iter().any(|message| message.field(b'C') == "57014"));
    first.goodbye();
    wait_until("there is room again", PATIENCE, || login().is_ok());
    // Nothing of this was worth a line: whoever is not logged in does not fill the trail.
    assert!(node.events("login_refused").is_empty(), "{:?}", node.events("login_refused"));
}

fn a_unix_socket_is_a_way_in(server: &'static Server) {
    let listener = "[[listener]]\naddress = \"unix:run/.s.PGSQL.7001\"\nprotocol = \"postgres\"\ntarget = \"shop\"\nsocket_mode = 0o600\n";
    let node = Node::prepare(server.place(), Options { node: listener, ..Options::default() });
    let folder = node.folder.join("run");
    std::fs::create_dir(&folder).expect("a folder");
    let socket = folder.join(".s.PGSQL.7001");
    node.resume();
    node.done(&["apply", "target.toml"]);
    let alice = node.user("alice");
    // It counts as this machine.
    node.grant("alice", "read", "1h", &["--cidr", "127.0.0.0/8"]);
    let conninfo = format!("host={} port=7001 user=alice", folder.display());
    let enter = || {
        let done = psql(&conninfo, &alice.secret, &["-c", "select 'in'"]);
        assert_eq!(text(&done.stdout), "in\n", "{}", text(&done.stderr));
    };
    enter();
    let uid = rustix::process::getuid().as_raw();
    let line = node.wait_event("session_start", |line| line["user"] == "alice");
    assert_eq!((&line["peer"], &line["tls"]), (&format!("unix:uid={uid}").into(), &false.into()));
    assert!(!psql(&conninfo, "wrong", &["-c", "select 1"]).status.success(), "the uid alone is no proof");
    let mode = std::fs::metadata(&socket).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // A statement is cancelled through it too.
    let mut sleeping =
        crate::support::client::psql_command(&conninfo, &alice.secret, &["-c", "select pg_sleep(30)"]);
    let mut sleeping = sleeping.stderr(std::process::Stdio::piped()).spawn().expect("psql");
    wait_until("it sleeps", PATIENCE, || {
        node.place.count("query like '%sleep(30)' and state = 'active'") == 1
    });
    let pid = rustix::process::Pid::from_raw(sleeping.id() as i32).expect("a pid");
    rustix::process::kill_process(pid, Signal::INT).expect("our child");
    let mut said = String::new();
    sleeping.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    assert!(said.contains("canceling statement"), "{said}");
    let _ = sleeping.wait();
    // The lines that are printed for it work.
    let doors = node.json(&["connect", "shop"]);
    let hosts: Vec<_> =
        doors["doors"].as_array().expect("doors").iter().map(|door| door["host"].clone()).collect();
    assert!(hosts.contains(&folder.display().to_string().into()), "{hosts:?}");
    // A killed process leaves it behind, the next one takes it over, and one that stops removes it.
    node.kill();
    assert!(socket.exists());
    node.resume();
    enter();
    node.signal(Signal::TERM);
    assert_eq!(node.wait_ended(PATIENCE), Some(0));
    assert!(!socket.exists());
}

#[test]
fn strangers_do_not_fill_the_trail() {
    let node = Node::start(any());
    // Each name once: nobody is slowed.
    for number in 0..30 {
        let login = Wire::login(node.port, &format!("stranger{number}"), "tg_wrong", &[]);
        assert_eq!(login.err().expect("refused").0.code, "28P01");
    }
    node.signal(Signal::TERM);
    assert_eq!(node.wait_ended(PATIENCE), Some(0));
    assert_eq!(node.events("login_refused").len(), 20);
    let counted = node.events("logins_refused");
    assert_eq!(counted.len(), 1, "{counted:?}");
    assert_eq!((&counted[0]["count"], &counted[0]["codes"]["TG001"]), (&10.into(), &10.into()));
    assert_eq!(counted[0]["source"], "127.0.0.1");
}

#[test]
fn changed_certificates_are_used_without_a_signal() {
    let node = Node::start(any());
    let person = node.person("alice", "read");
    let old = Client::connect(&person.config(), Some(tls::authority())).expect("TLS");
    let renewed = tls::Authority::new("next year");
    renewed.write_certificate(&node.folder, "listener", tls::HOSTS);
    wait_until("the new certificate is shown", PATIENCE, || {
        Client::connect(&person.config(), Some(&renewed)).is_ok()
    });
    assert_eq!(old.one("select 1"), "1");
    // A file that is no good is complained about, and the last good one stays.
    node.write("listener.pem", "-----BEGIN CERTIFICATE-----\n");
    wait_until("it is complained about", PATIENCE, || node.log().contains("the last good ones stay"));
    assert!(Client::connect(&person.config(), Some(&renewed)).is_ok());
    let refused = node.tg(&["reload"]);
    assert!(text(&refused.stderr).contains("listener.pem"), "{}", text(&refused.stderr));
    assert!(Client::connect(&person.config(), Some(&renewed)).is_ok());
}
