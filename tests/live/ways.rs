//! The ways to a server: proofs that are bound to TLS, client certificates, unix sockets, TLS from the first
//! byte.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::server::{self, ROLE_PASSWORD, own};
use crate::support::{
    Node, Options, PATIENCE, Place, Server, Told, Version, janitor, on_both_servers, runtime, tls,
    wait_until, write_private,
};

on_both_servers!(
    a_proof_is_bound_to_its_connection,
    a_proof_is_of_no_use_to_somebody_in_the_middle,
    client_certificates_are_shown,
    a_unix_socket_is_a_way_too,
    tls_may_begin_with_the_first_byte,
    what_hangs_up_on_a_new_version_gets_the_old_one,
    a_database_that_is_not_admitted_closes_nothing_for_others,
);

/// Logs alice in at a node for this target; what she is told, or whether TLS is used there.
fn attempt(node: &Node) -> Result<String, Told> {
    let alice = node.person("alice", "read");
    let answer = alice.try_login().map_err(|error| Told::from(&error));
    answer.map(|client| client.one("select ssl from pg_stat_ssl where pid = pg_backend_pid()"))
}

/// A node whose target file was altered before it is applied.
fn node(place: Place, target: &str, alter: impl FnOnce(&Node, String) -> String) -> Node {
    let options = Options { target, ..Options::default() };
    let node = Node::prepare(place, options);
    let file = node.target_file(&Options { target, ..Options::default() });
    let file = alter(&node, file);
    node.write("target.toml", &file);
    node.resume();
    node.done(&["apply", "target.toml"]);
    node
}

fn a_proof_is_bound_to_its_connection(server: &'static Server) {
    let inside = |more: &str| format!("tls = \"verify-full\"\ntls_ca = \"ca.pem\"\n{more}");
    for (target, expected) in [
        // Only SCRAM-SHA-256-PLUS passes.
        (inside("channel_binding = \"require\"\n"), Some("t")),
        ("tls = \"require\"\nchannel_binding = \"require\"\n".to_owned(), Some("t")),
        (inside("channel_binding = \"disable\"\n"), Some("t")),
    ] {
        let node = node(server.place(), &target, |_, file| file);
        assert_eq!(attempt(&node).ok().as_deref(), expected, "{target}");
    }
    // An old md5 password cannot be bound.
    let hba = "hostssl all +use_md5 127.0.0.1/32 md5";
    let place = Place::alone(server.version, server::Options { hba, ..server::Options::default() });
    let role = place.role("read");
    place.master().run(&format!(
        "create role use_md5; grant use_md5 to {role}; set password_encryption = md5;
         alter role {role} password '{ROLE_PASSWORD}'"
    ));
    let node = node(place, &inside("channel_binding = \"require\"\n"), |_, file| file);
    assert_eq!(attempt(&node).unwrap_err().code, "08006");
    assert!(node.log().contains("channel_binding"), "the log says why");
}

/// Somebody with a certificate that is believed, who passes everything on.
fn middle(server_port: u16) -> u16 {
    let folder = janitor::new_folder("middle");
    tls::authority().write_certificate(&folder, "middle", tls::HOSTS);
    let chain = CertificateDer::pem_file_iter(folder.join("middle.pem")).expect("a certificate");
    let chain = chain.collect::<Result<Vec<_>, _>>().expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(folder.join("middle.key")).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("known versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("they belong together");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let connector = tokio_rustls::TlsConnector::from(tls::client_config(tls::authority()));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a socket");
    let port = listener.local_addr().expect("bound").port();
    runtime().spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
        while let Ok((mut client, _)) = listener.accept().await {
            let (acceptor, connector) = (acceptor.clone(), connector.clone());
            tokio::spawn(async move {
                let mut request = [0; 8];
                client.read_exact(&mut request).await?;
                client.write_all(b"S").await?;
                let mut client = acceptor.accept(client).await?;
                let mut server = tokio::net::TcpStream::connect(("127.0.0.1", server_port)).await?;
                server.write_all(&request).await?;
                server.read_exact(&mut request[..1]).await?;
                let name = ServerName::try_from("localhost").expect("a name");
                let mut server = connector.connect(name, server).await?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    port
}

fn a_proof_is_of_no_use_to_somebody_in_the_middle(server: &'static Server) {
    let port = middle(server.port);
    let through = |target: &str| {
        node(server.place(), target, |_, file| {
            file.replace(&format!(":{}\"", server.port), &format!(":{port}\""))
        })
    };
    for binding in ["prefer", "require"] {
        let target = format!("tls = \"verify-full\"\ntls_ca = \"ca.pem\"\nchannel_binding = \"{binding}\"\n");
        assert!(attempt(&through(&target)).is_err(), "{binding}");
    }
    // So it was the binding that stopped it.
    let without = through("tls = \"verify-full\"\ntls_ca = \"ca.pem\"\nchannel_binding = \"disable\"\n");
    assert_eq!(attempt(&without).as_deref(), Ok("t"));
}

/// A server that believes client certificates of our authority.
fn with_certificates(version: Version) -> Place {
    let folder = janitor::new_folder("ca");
    let file = folder.join("clients.pem");
    std::fs::write(&file, &tls::authority().pem).expect("the authority");
    own(&folder);
    own(&file);
    let settings = format!("ssl_ca_file = '{}'", file.display());
    let hba = "hostssl all +use_cert 127.0.0.1/32 cert
hostssl all +use_both 127.0.0.1/32 scram-sha-256 clientcert=verify-full";
    let place = Place::alone(version, server::Options { hba, settings: &settings });
    place.master().run("create role use_cert; create role use_both");
    place
}

fn client_certificates_are_shown(server: &'static Server) {
    let shared = with_certificates(server.version);
    let tls = "tls = \"verify-full\"\ntls_ca = \"ca.pem\"\n";
    for (group, password, certificate, expected) in [
        ("use_cert", false, true, true),
        ("use_cert", true, true, true),
        ("use_cert", true, false, false),
        ("use_both", true, true, true),
        ("use_both", false, true, false),
        ("use_both", true, false, false),
    ] {
        let place = shared.sibling();
        let role = place.role("read");
        place.master().run(&format!("grant {group} to {role}"));
        let node = node(place, tls, |node, file| {
            let mut secret = serde_json::json!({ "username": role });
            if password {
                secret["password"] = ROLE_PASSWORD.into();
            }
            if certificate {
                let (chain, key) = tls::authority().client_certificate(&role);
                write_private(&node.folder.join("secrets/client.key"), &key);
                secret["certificate"] = chain.into();
                secret["key"] = "file:client.key".into();
            }
            write_private(&node.folder.join("secrets/read.json"), &secret.to_string());
            file
        });
        let answer = attempt(&node);
        assert_eq!(answer.is_ok(), expected, "{group} {password} {certificate}: {answer:?}");
        assert!(!node.log().contains("PRIVATE KEY"), "a key is in the log");
    }
    a_certificate_that_changed_is_taken_over(&shared);
}

/// Connections of the old certificate are not lent any more, and nobody has to restart anything.
fn a_certificate_that_changed_is_taken_over(shared: &Place) {
    let place = shared.sibling();
    let role = place.role("read");
    place.master().run(&format!("grant use_cert to {role}"));
    let write = |node: &Node, name: &str| {
        let (chain, key) = tls::authority().client_certificate(name);
        let secret = serde_json::json!({ "username": role, "certificate": chain, "key": key });
        write_private(&node.folder.join("secrets/read.json"), &secret.to_string());
    };
    let node = node(place, "tls = \"verify-full\"\ntls_ca = \"ca.pem\"\n", |node, file| {
        write(node, &role);
        file
    });
    let alice = node.person("alice", "read");
    let first = alice.login();
    let pid = first.backend_pid();
    first.close();
    write(&node, &role);
    wait_until("the old connection is retired", PATIENCE, || node.place.count(&format!("pid = {pid}")) == 0);
    assert_ne!(alice.login().backend_pid(), pid);
    // The server does not know this one.
    write(&node, "somebody else");
    wait_until("the wrong certificate is refused", PATIENCE, || alice.try_login().is_err());
    write(&node, &role);
    wait_until("the right one is taken at once", PATIENCE, || alice.try_login().is_ok());
}

fn system_user() -> String {
    let output = std::process::Command::new("id").arg("-un").output().expect("id is part of coreutils");
    crate::support::text(&output.stdout).trim().to_owned()
}

fn a_unix_socket_is_a_way_too(server: &'static Server) {
    let hba = "local all +use_peer peer map=tidegate
local all +use_md5 md5
local all all scram-sha-256";
    let shared = Place::alone(server.version, server::Options { hba, ..server::Options::default() });
    shared.master().run("create role use_peer; create role use_md5");
    let folder: PathBuf = shared.folder().to_owned();
    let port = shared.port;
    let user = system_user();
    let with = |group: &str, address: &str, more: &str, password: bool| {
        let place = shared.sibling();
        let role = place.role("read");
        if !group.is_empty() {
            place.master().run(&format!("grant {group} to {role}"));
        }
        if group == "use_md5" {
            place
                .master()
                .run(&format!("set password_encryption = md5; alter role {role} password '{ROLE_PASSWORD}'"));
        }
        let map = format!("tidegate {user} {role}\n");
        std::fs::write(folder.join("data/pg_ident.conf"), map).expect("the map");
        place.master().run("select pg_reload_conf()");
        node(place, "tls = \"disable\"\n", |node, file| {
            if !password {
                let secret = serde_json::json!({ "username": role }).to_string();
                write_private(&node.folder.join("secrets/read.json"), &secret);
            }
            file.replace(&format!("127.0.0.1:{port}"), address).replace("tls = \"disable\"\n", more)
        })
    };
    let directory = format!("unix:{}:{port}", folder.display());
    let socket = format!("unix:{}/.s.PGSQL.{port}", folder.display());
    for (group, address, more, password) in [
        ("", &directory, "", true),
        ("", &socket, "tls = \"prefer\"\n", true),
        ("use_md5", &directory, "", true),
        ("use_peer", &directory, "require_auth = \"none\"\n", false),
        ("use_peer", &socket, "", true),
    ] {
        let node = with(group, address, more, password);
        let alice = node.person("alice", "read");
        let mut client = None;
        // The server takes a moment to read its map again.
        wait_until("alice is let in", PATIENCE, || {
            client = alice.try_login().ok();
            client.is_some()
        });
        let client = client.expect("just waited for");
        assert_eq!(client.one("select inet_client_addr() is null"), "t", "{group} {address}");
        // A statement is stopped over it too.
        let running = client.start("select pg_sleep(60)");
        node.place.wait_running("pg_sleep");
        node.done(&["session", "kill", &node.session_of("alice")]);
        node.place.wait_quiet(PATIENCE);
        assert_eq!(running.told().code, "57P01");
        assert_eq!(alice.login().one("select 1"), "1");
    }
    // What TLS would have to promise cannot be kept there.
    let node = with("", &directory, "", true);
    let file = std::fs::read_to_string(node.folder.join("target.toml")).expect("just written");
    node.write(
        "target.toml",
        &file.replace("[target.pool]", "tls = \"verify-full\"\ntls_ca = \"ca.pem\"\n[target.pool]"),
    );
    let refused = node.tg(&["apply", "target.toml"]);
    assert!(crate::support::text(&refused.stderr).contains("a unix socket has no TLS"), "{refused:?}");
}

fn tls_may_begin_with_the_first_byte(server: &'static Server) {
    let target = "tls = \"verify-full\"\ntls_ca = \"ca.pem\"\ntls_negotiation = \"direct\"\nchannel_binding = \"require\"\n";
    let node = node(server.place(), target, |_, file| file);
    let answer = attempt(&node);
    match server.version {
        Version::Newest => {
            assert_eq!(answer.as_deref(), Ok("t"));
            let alice = node.credential_of_new_person();
            let client = alice.login();
            let running = client.start("select pg_sleep(60)");
            node.place.wait_running("pg_sleep");
            node.done(&["session", "kill", &node.session_of(&alice.name)]);
            node.place.wait_quiet(PATIENCE);
            assert_eq!(running.told().code, "57P01");
        }
        Version::Distribution => assert_eq!(answer.unwrap_err().code, "08006", "15 does not know it"),
    }
}

/// Passes on what begins with version 3.0, and hangs up on anything else.
fn old(server_port: u16) -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a socket");
    let port = listener.local_addr().expect("bound").port();
    runtime().spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = [0; 8];
                client.read_exact(&mut head).await?;
                if head[4..] == [0, 3, 0, 2] {
                    return Ok((0, 0));
                }
                let mut server = tokio::net::TcpStream::connect(("127.0.0.1", server_port)).await?;
                server.write_all(&head).await?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    port
}

fn what_hangs_up_on_a_new_version_gets_the_old_one(server: &'static Server) {
    let port = old(server.port);
    let node = node(server.place(), "tls = \"disable\"\n", |_, file| {
        file.replace(&format!(":{}\"", server.port), &format!(":{port}\""))
    });
    assert_eq!(attempt(&node).as_deref(), Ok("f"));
}

/// As the lines that `target check --sql` prints for `pg_hba.conf` have it.
fn a_database_that_is_not_admitted_closes_nothing_for_others(server: &'static Server) {
    let hba = "host closed all all reject";
    let place = Place::alone(server.version, server::Options { hba, ..server::Options::default() });
    place.master().run("create database closed");
    let node = Node::with(place, Options::default());
    let (alice, bob) = (node.user("alice"), node.person("bob", "read"));
    node.grant("alice", "read", "1h", &["--database", "*"]);
    let mut config = alice.config();
    config.dbname("closed");
    assert_eq!(crate::support::refused(&config).code, "3D000");
    assert_eq!(bob.login().one("select 1"), "1");
    assert!(node.events("alarm").is_empty());
    assert!(!node.done(&["target", "list"]).contains("refused"));
}
