//! Who is let in by MySQL's protocol, by which method, on both sides of the proxy.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use crate::support::mysql::wire::{Reader, command, flag, packet};
use crate::support::mysql::{Login, Place, Release, Wire, on_all_releases, shared};
use crate::support::node::LISTENER_WITHOUT_TARGET;
use crate::support::server::ROLE_PASSWORD;
use crate::support::{Node, Options, PATIENCE, Person, Told, text, tls, wait_until};

on_all_releases!(
    a_grant_opens_the_way_and_a_connector_goes_in,
    the_command_line_client_comes_in_with_tls_and_without,
    every_way_to_log_in_at_the_server_works,
    the_six_tls_modes_keep_what_they_promise,
    the_greeting_is_the_server_s,
);

/// A command line client of this release at a node, without any settings of who runs the tests.
pub fn cli(release: Release, node: &Node<Place>, person: &Person, args: &[&str]) -> Command {
    let mut command = crate::clients::client(release.client());
    command
        .args(["--protocol=tcp", "--host=localhost", "--batch", "--skip-column-names"])
        .arg(format!("--port={}", node.port))
        .arg(format!("--user={}", person.name))
        .arg(format!("--password={}", person.secret))
        .args(args)
        .env("HOME", &node.folder);
    command
}

/// TLS, and the server checked, in the words of each client.
pub fn verified(release: Release, node: &Node<Place>) -> Vec<String> {
    let ca = format!("--ssl-ca={}", node.folder.join("ca.pem").display());
    match release {
        Release::MySql9 => vec![ca, "--ssl-mode=VERIFY_IDENTITY".into()],
        _ => vec![ca, "--ssl-verify-server-cert".into()],
    }
}

pub fn plain(release: Release) -> &'static str {
    if release == Release::MySql9 { "--ssl-mode=DISABLED" } else { "--skip-ssl" }
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}{}", text(&output.stderr), text(&output.stdout));
    text(&output.stdout)
}

fn a_grant_opens_the_way_and_a_connector_goes_in(release: Release) {
    let node = Node::mysql(release);
    let mut alice = node.person("alice", "read").mysql_login();
    assert_eq!(alice.ask("select current_user()"), format!("{}@%", node.place.role("read")));
    assert_eq!(alice.ask("select database()"), node.place.database);
    assert_eq!(alice.ask("select count(*) from items"), "1000");
    // The session itself knows whose it is.
    let session = node.session_of("alice");
    let seen = alice.ask("select @tidegate");
    assert!(seen.starts_with(&format!("alice/{session}")), "{seen} for {session}");
    if release == Release::MySql9 {
        let seen = node.place.ask(
            "select count(*) from performance_schema.user_variables_by_thread \
             where variable_name = 'tidegate' and variable_value like 'alice/%'",
        );
        assert_ne!(seen, "0", "who runs the server sees who is there");
    }
    // The wall is the connector's rights.
    assert_eq!(alice.told("delete from items").code, "1142");
    alice.goodbye();
    let end = node.wait_end_of(&session);
    assert_eq!((&end["how"], &end["reused"]), (&"close".into(), &true.into()), "{end}");
}

fn the_command_line_client_comes_in_with_tls_and_without(release: Release) {
    let node = Node::mysql(release);
    let alice = node.person("alice", "read");
    let query = ["-e", "select name from items where id = 7"];
    for client in [Release::Distribution, Release::MariaDb11, Release::MySql9] {
        let with_tls = verified(client, &node);
        let with_tls: Vec<&str> = with_tls.iter().map(String::as_str).collect();
        let done = cli(client, &node, &alice, &[&with_tls[..], &query].concat()).output().expect("it runs");
        assert_eq!(said(&done), "item 7\n", "{client:?}");
        let done = cli(client, &node, &alice, &[&[plain(client)], &query[..]].concat()).output();
        assert_eq!(said(&done.expect("it runs")), "item 7\n", "{client:?}");
        // Another secret is not let in, and no other authority is believed.
        let mut wrong = node.credential("alice", "1h");
        wrong.secret = "tg_00000000000000000000000000".into();
        let done = cli(client, &node, &wrong, &[&with_tls[..], &query].concat()).output().expect("it runs");
        assert!(text(&done.stderr).contains("1045 (28000): TG001: the login was not accepted"), "{done:?}");
    }
    let tls: Vec<_> = node.events("session_start").iter().map(|line| line["tls"].clone()).collect();
    assert_eq!(tls, [true, false, true, false, true, false].map(serde_json::Value::from));
    // The methods that a client may ask for itself.
    let all = ["caching_sha2_password", "client_ed25519", "parsec", "mysql_clear_password"];
    for plugin in all {
        let client = if plugin == "mysql_clear_password" { Release::MySql9 } else { Release::MariaDb11 };
        let auth = format!("--default-auth={plugin}");
        let mut args = verified(client, &node);
        args.push(auth);
        if plugin == "mysql_clear_password" {
            args.push("--enable-cleartext-plugin".into());
        }
        args.extend(query.iter().map(|word| (*word).to_owned()));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let done = cli(client, &node, &alice, &args).output().expect("it runs");
        assert_eq!(said(&done), "item 7\n", "{plugin}");
    }
}

fn node_for(place: Place, target: &str, host: &str) -> Node<Place> {
    Node::with(place, Options { target, host: Some(host), ..Options::default() })
}

/// What a login through the proxy comes to: whether TLS is used at the server, or the refusal.
fn way(node: &Node<Place>) -> Result<bool, Told> {
    let mut alice = node.person("alice", "read").mysql(&Login::default())?;
    Ok(alice.ask("show session status like 'Ssl_cipher'") != "Ssl_cipher|")
}

const VERIFIED: &str = "tls = \"verify-full\"\ntls_ca = \"ca.pem\"\n";
const PLAIN: &str = "tls = \"disable\"\n";
const SEALED: &str = "tls = \"disable\"\nrequire_auth = [\"caching_sha2_password\", \"password\"]\n";

fn every_way_to_log_in_at_the_server_works(release: Release) {
    let place = shared(release).place();
    let mariadb = release.is_mariadb();
    let identified = |plugin: &str| match mariadb {
        true => format!("identified via {plugin} using password('{ROLE_PASSWORD}')"),
        false => format!("identified with {plugin} by '{ROLE_PASSWORD}'"),
    };
    let mut ways = match release {
        Release::Distribution | Release::MariaDb11 => vec![
            ("mysql_native_password", VERIFIED, Some(true)),
            ("mysql_native_password", PLAIN, Some(false)),
            ("ed25519", VERIFIED, Some(true)),
            ("ed25519", PLAIN, Some(false)),
        ],
        Release::MySql9 => vec![
            ("caching_sha2_password", VERIFIED, Some(true)),
            // The server knows nothing of this password yet, and who stands there may be anybody.
            ("caching_sha2_password", PLAIN, None),
            // Sealed under the key that it shows, where an operator has said that it may have it.
            ("caching_sha2_password", SEALED, Some(false)),
            ("sha256_password", VERIFIED, Some(true)),
            ("sha256_password", PLAIN, None),
            ("sha256_password", SEALED, Some(false)),
        ],
    };
    if release == Release::MariaDb11 {
        ways.extend([("parsec", VERIFIED, Some(true)), ("parsec", PLAIN, Some(false))]);
    }
    for (plugin, target, expected) in ways {
        let place = place.sibling();
        let role = place.role("read");
        place.run(&format!("alter user {role}@'%' {}", identified(plugin)));
        let node = node_for(place, target, "127.0.0.1");
        let answer = way(&node);
        match expected {
            Some(tls) => assert_eq!(answer, Ok(tls), "{plugin} {target}\n{}", node.log()),
            None => assert!(answer.unwrap_err().message.starts_with("TG0"), "{plugin} {target}"),
        }
    }
    // A wrong secret of ours is not the client's business.
    let node = node_for(place.sibling(), VERIFIED, "127.0.0.1");
    node.write_secret("read", "not the right one");
    let told = way(&node).unwrap_err();
    assert!(told.message.starts_with("TG025") && !told.message.contains("password"), "{told:?}");
    node.write_secret("read", ROLE_PASSWORD);
    let alice = node.person("alicia", "read");
    wait_until("the new secret is used", PATIENCE, || alice.mysql(&Login::default()).is_ok());
}

/// By MariaDB's PAM plugin. Those of MySQL that ask so are in none of its free builds.
#[test]
fn a_password_in_clear_is_sent_inside_tls_and_nowhere_else() {
    const SERVICE: &str = "tidegate-tests";
    assert!(Path::new("/etc/pam.d").join(SERVICE).exists(), "no PAM service {SERVICE}: run scripts/setup");
    const GOODBYE: &[u8] = &[1, 0, 0, 0, command::QUIT];
    let named = |tls: &str| format!("tls = \"{tls}\"\nrequire_auth = [\"password\"]\n");
    for release in [Release::Distribution, Release::MariaDb11] {
        for (target, expected) in [
            (VERIFIED.to_owned(), Ok(true)),
            (named("require"), Ok(true)),
            // Nobody has said that whoever stands there may have it.
            ("tls = \"require\"\n".to_owned(), Err("verify-full")),
            (PLAIN.to_owned(), Err("verify-full")),
            (named("disable"), Err("only sent inside TLS")),
        ] {
            let place = shared(release).place();
            place.run(&format!("alter user {}@'%' identified via pam using '{SERVICE}'", place.role("read")));
            let (port, heard) = overheard(place.port);
            let node = node_at(place, &target, port);
            match (way(&node), expected) {
                (Ok(tls), Ok(expected)) => assert_eq!(tls, expected, "{release:?} {target}"),
                (Err(told), Err(why)) => {
                    assert!(told.message.starts_with("TG0"), "{told:?}");
                    assert!(node.log().contains(why), "{release:?} {target}\n{}", node.log());
                }
                (came, _) => panic!("{release:?} {target}: {came:?}\n{}", node.log()),
            }
            let heard = heard.lock().expect("nobody panics with it");
            let of_password = |said: &Vec<u8>| text(said).contains(ROLE_PASSWORD);
            assert!(!heard.is_empty() && !heard.iter().any(of_password), "{release:?} {target}");
            // Where it could have been heard, nothing but a goodbye follows the answer to the greeting.
            let login = format!("{}\0", node.place.role("read"));
            for said in heard.iter().filter(|said| target.contains("disable") && text(said).contains(&login))
            {
                let rest = &said[4 + Reader(said).number(3) as usize..];
                assert!(rest.is_empty() || rest == GOODBYE, "{rest:?}");
            }
        }
    }
    // The server does ask for it: who has another password is not let in.
    let place = shared(Release::Distribution).place();
    place.run(&format!("alter user {}@'%' identified via pam using '{SERVICE}'", place.role("read")));
    let node = node_for(place, VERIFIED, "127.0.0.1");
    node.write_secret("read", "not the right one");
    assert!(way(&node).unwrap_err().message.starts_with("TG025"));
}

/// What was said on each connection.
type Heard = Arc<Mutex<Vec<Vec<u8>>>>;

/// Somebody between the proxy and the server who passes everything on, and keeps what the proxy says.
fn overheard(server_port: u16) -> (u16, Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let heard = Heard::default();
    let all = heard.clone();
    std::thread::spawn(move || {
        for (number, near) in listener.incoming().map_while(Result::ok).enumerate() {
            all.lock().expect("nobody panics with it").push(Vec::new());
            let far = TcpStream::connect(("127.0.0.1", server_port)).expect("the server");
            let (mut down_from, mut down_to) =
                (far.try_clone().expect("a handle"), near.try_clone().expect("a handle"));
            std::thread::spawn(move || std::io::copy(&mut down_from, &mut down_to));
            let all = all.clone();
            std::thread::spawn(move || {
                pass_on(near, far, |said| all.lock().expect("as above")[number].extend(said))
            });
        }
    });
    (port, heard)
}

fn pass_on(mut near: TcpStream, mut far: TcpStream, keep: impl Fn(&[u8])) {
    let mut buffer = [0; 16 << 10];
    while let Ok(count @ 1..) = near.read(&mut buffer) {
        keep(&buffer[..count]);
        if far.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
    let _ = far.shutdown(Shutdown::Write);
}

/// A node whose target is at this port.
fn node_at(place: Place, target: &str, port: u16) -> Node<Place> {
    let options = || Options { target, ..Options::default() };
    let node = Node::prepare(place, options());
    let file = node.target_file(&options());
    node.write("target.toml", &file.replace(&format!(":{}\"", node.place.port), &format!(":{port}\"")));
    node.resume();
    node.done(&["apply", "target.toml"]);
    node
}

fn the_six_tls_modes_keep_what_they_promise(release: Release) {
    let place = shared(release).place();
    let (other, ca) = ("tls_ca = \"listener.pem\"\n", "tls_ca = \"ca.pem\"\n");
    for (mode, more, host, only_tls, expected) in [
        ("disable", "", "127.0.0.1", false, Some(false)),
        ("disable", "", "127.0.0.1", true, None),
        ("allow", "", "127.0.0.1", false, Some(false)),
        ("allow", "", "127.0.0.1", true, Some(true)),
        ("prefer", "", "127.0.0.1", false, Some(true)),
        ("require", "", "127.0.0.1", false, Some(true)),
        ("verify-ca", ca, "127.0.0.1", false, Some(true)),
        ("verify-ca", other, "127.0.0.1", false, None),
        ("verify-full", ca, "localhost", true, Some(true)),
        ("verify-full", other, "127.0.0.1", false, None),
    ] {
        let place = place.sibling();
        if only_tls {
            place.run(&format!("alter user {}@'%' require ssl", place.role("read")));
        }
        let node = node_for(place, &format!("tls = \"{mode}\"\n{more}"), host);
        let answer = way(&node);
        match expected {
            Some(tls) => assert_eq!(answer, Ok(tls), "{mode} {more} {host} {only_tls}\n{}", node.log()),
            None => {
                assert!(answer.unwrap_err().message.starts_with("TG0"), "{mode} {more} {host} {only_tls}")
            }
        }
    }
}

fn the_greeting_is_the_server_s(release: Release) {
    let node = Node::mysql(release);
    let alice = node.person("alice", "read");
    let direct = {
        let role = node.place.role("read");
        node.place.login(&role, ROLE_PASSWORD).expect("around the proxy").greeting
    };
    let proxied = alice.mysql_login().greeting;
    assert_eq!(proxied.version, direct.version);
    assert_eq!(proxied.collation, direct.collation);
    // What changes the conversation is what the server can; how a login is proven is ours.
    let conversation = flag::FOUND_ROWS
        | flag::LOCAL_FILES
        | flag::MULTI_STATEMENTS
        | flag::MULTI_RESULTS
        | flag::PS_MULTI_RESULTS
        | flag::SESSION_TRACK
        | flag::DEPRECATE_EOF
        | flag::LONG_PASSWORD;
    assert_eq!(proxied.capabilities & conversation, direct.capabilities & conversation);
    assert_eq!(proxied.plugin, "caching_sha2_password");
}

fn node() -> Node<Place> {
    Node::mysql(Release::Distribution)
}

#[test]
fn who_is_not_authenticated_learns_nothing() {
    let node = node();
    let alice = node.person("alice", "read");
    let revoked = node.credential("alice", "1h");
    node.done(&["credential", "revoke", &revoked.credential]);
    let attempts = [
        ("wrong secret", "alice", "tg_00000000000000000000000000"),
        ("unknown user", "nobody", alice.secret.as_str()),
        ("not a name at all", "Al ice!", alice.secret.as_str()),
        ("unknown user and target", "nobody@nowhere", alice.secret.as_str()),
        ("revoked credential", "alice", revoked.secret.as_str()),
        ("no secret", "alice", ""),
        ("no secret of nobody", "nobody", ""),
    ];
    for (what, user, password) in attempts {
        for (plugin, tls) in [("", false), ("mysql_native_password", false), ("mysql_clear_password", true)] {
            let login = Login { user, password, plugin, tls, ..Login::default() };
            let refused = Wire::login(node.port, &login).err().unwrap_or_else(|| panic!("{what} is let in"));
            let (told, wire) = *refused;
            assert_eq!(
                (&told.code[..], &told.message[..]),
                ("1045", "TG001: the login was not accepted"),
                "{what}"
            );
            let steps = match plugin {
                "" => "E",
                "mysql_native_password" => "Scaching_sha2_password E",
                _ => "Smysql_clear_password E",
            };
            assert_eq!(wire.expect("a greeting came").steps, steps, "{what} {plugin}");
        }
    }
    node.wait_event("login_refused", |line| line["why"].as_str().is_some_and(|why| why.contains("unknown")));
    alice.mysql_login().goodbye();
}

#[test]
fn without_an_open_grant_nobody_goes_in() {
    let node = node();
    let alice = node.user("alice");
    let refused = || alice.mysql(&Login::default()).err().expect("not let in");
    let none = Told { code: "1045".into(), message: "TG002: no grant of yours is open for this now".into() };
    assert_eq!(refused(), none);
    node.grant("alice", "read", "1h", &["--cidr", "10.0.0.0/8"]);
    assert_eq!(refused(), none, "from elsewhere only");
    node.grant("alice", "read", "1h", &[]);
    alice.mysql_login().goodbye();
}

#[test]
fn the_login_name_chooses_level_and_target() {
    let options = Options { node: LISTENER_WITHOUT_TARGET, ..Options::default() };
    let node = Node::with(shared(Release::Distribution).place(), options);
    let alice = node.person("alice", "read_write");
    node.grant("alice", "read", "1h", &[]);
    let role = |user: &str, port: u16| {
        let login = Login { user, password: &alice.secret, ..Login::default() };
        let mut wire = Wire::login(port, &login).ok()?;
        Some(wire.ask("select current_user()"))
    };
    let [read, write] = ["read", "read_write"].map(|level| Some(format!("{}@%", node.place.role(level))));
    assert_eq!(role("alice", node.port), read, "the lowest level wins");
    assert_eq!(role("alice+read_write", node.port), write);
    assert_eq!(role("alice@shop", node.port), read);
    assert_eq!(role("alice+admin", node.port), None);
    assert_eq!(role("alice@other", node.port), None, "the listener's target is fixed");
    assert_eq!(role("alice@shop", node.second_port), read);
    assert_eq!(role("alice", node.second_port), None, "no target is named");
}

#[test]
fn a_database_is_covered_or_not() {
    let node = node();
    let alice = node.person("alice", "read");
    let other = node.place.sibling();
    let role = node.place.role("read");
    node.place.run(&format!("grant select on {}.* to {role}@'%'", other.database));
    let enter = |database: &str| {
        let login = Login { database: Some(database), ..Login::default() };
        alice.mysql(&login).map(|mut wire| wire.ask("select database()"))
    };
    let code = |answer: Result<String, Told>| answer.unwrap_err().message[..5].to_owned();
    assert_eq!(enter(&node.place.database), Ok(node.place.database.clone()));
    assert_eq!(code(enter(&other.database)), "TG002");
    let mut wire = alice.mysql_login();
    let told = wire.told(&format!("use {}", other.database));
    assert!(told.message.starts_with("TG0"), "{told:?}");
    assert_eq!(wire.ask("select database()"), node.place.database, "and it goes on");
    wire.say(crate::support::mysql::wire::command::INIT_DB, other.database.as_bytes());
    assert_eq!(wire.read().expect("an answer")[0], 0xff);
    wire.goodbye();
    node.grant("alice", "read", "1h", &["--database", "*"]);
    assert_eq!(enter(&other.database), Ok(other.database.clone()));
    let mut wire =
        alice.mysql(&Login { database: Some(&other.database), ..Login::default() }).expect("let in");
    wire.run(&format!("use {}", node.place.database));
    assert_eq!(wire.ask("select database()"), node.place.database);
    let none = enter("nowhere").unwrap_err();
    // MySQL does not say of a database that it is not there to who may not look.
    assert!(none.message.starts_with("TG024") || none.code == "1044", "{none:?}");
}

#[test]
fn no_credential_travels_where_tls_is_required() {
    let node = {
        let place = shared(Release::Distribution).place();
        let node = Node::prepare(place, Options::default());
        let file = std::fs::read_to_string(node.folder.join("tidegate.toml")).expect("the node file");
        node.write("tidegate.toml", &file.replace("tls = \"optional\"", "tls = \"require\""));
        node.resume();
        node.done(&["apply", "target.toml"]);
        node
    };
    let alice = node.person("alice", "read");
    let told = alice.mysql(&Login::default()).err().expect("not in clear");
    assert!(told.message.contains("TLS"), "{told:?}");
    let mut wire = alice.mysql(&Login { tls: true, ..Login::default() }).expect("inside TLS");
    assert_eq!(wire.ask("select 1"), "1");
    // What came before TLS is not believed behind it.
    let mut early = Wire::connect(node.port).expect("a greeting");
    let login = Login { user: &alice.name, password: &alice.secret, tls: true, ..Login::default() };
    let plugin = early.greeting.plugin.clone();
    let response = early.response(&login, &plugin);
    let request = packet(1, &response[..32]);
    early.send(&[&request[..], &packet(2, &response)].concat());
    let (payloads, _) = early.until_closed();
    assert!(payloads.iter().all(|payload| payload[0] == 0xff), "{payloads:?}");
}

#[test]
fn a_client_certificate_is_a_proof() {
    let place = shared(Release::Distribution).place();
    let node = Node::prepare(place, Options::default());
    let file = std::fs::read_to_string(node.folder.join("tidegate.toml")).expect("the node file");
    let asks = "tls = \"optional\"\nclient_ca = \"ca.pem\"\nclient_certificates = \"optional\"";
    node.write("tidegate.toml", &file.replace("tls = \"optional\"", asks));
    node.resume();
    node.done(&["apply", "target.toml"]);
    node.person("alice", "read");
    tls::authority().write_client_certificate(
        &node.folder,
        "alice",
        "alice",
        std::time::Duration::from_secs(3600),
    );
    let mut shows_only = node.credential("alice", "1h");
    shows_only.secret = String::new();
    let shown = [
        format!("--ssl-cert={}", node.folder.join("alice.pem").display()),
        format!("--ssl-key={}", node.folder.join("alice.key").display()),
    ];
    for client in [Release::Distribution, Release::MySql9] {
        let mut args = verified(client, &node);
        args.extend(shown.iter().cloned());
        args.extend(["-e".to_owned(), "select name from items where id = 7".to_owned()]);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let done = cli(client, &node, &shows_only, &args).output().expect("it runs");
        assert_eq!(said(&done), "item 7\n", "{client:?}");
    }
}

#[test]
fn the_first_words_of_a_refusal_are_a_server_s() {
    let node = node();
    let mut wire = Wire::connect(node.port).expect("a greeting");
    // The protocol before 4.1.
    wire.send(&packet(1, &[&0u16.to_le_bytes()[..], &[0, 0, 1], b"alice", &[0]].concat()));
    let (payloads, _) = wire.until_closed();
    let payload = payloads.last().expect("a refusal");
    let mut reader = Reader(payload);
    assert_eq!(reader.number(1), 0xff);
    assert!(text(payload).contains("TG0"), "{}", text(payload));
}

#[test]
fn an_old_method_is_there_where_a_listener_offers_it() {
    let node = node();
    let before = node.person("alice", "read");
    let login = |person: &Person, password: &str| {
        let login =
            Login { user: &person.name, password, plugin: "mysql_native_password", ..Login::default() };
        Wire::login(node.port, &login)
    };
    assert_eq!(login(&before, &before.secret).ok().expect("let in").steps, "Scaching_sha2_password M3 ");
    node.kill();
    let file = std::fs::read_to_string(node.folder.join("tidegate.toml")).expect("the node file");
    let offers = "tls = \"optional\"\nmysql_native_password = \"offer\"";
    node.write("tidegate.toml", &file.replace("tls = \"optional\"", offers));
    node.resume();
    let after = node.credential("alice", "1h");
    let mut wire = login(&after, &after.secret).ok().expect("let in");
    assert_eq!(wire.steps, "Smysql_native_password ");
    assert_eq!(wire.ask("select 1"), "1");
    // By the same method as somebody else, and back.
    let same =
        Login { user: "alice", password: &after.secret, plugin: "mysql_native_password", ..Login::default() };
    wire.change_user(&same).expect("it is alice");
    assert_eq!(wire.steps, "Smysql_native_password ");
    wire.goodbye();
    // What was issued before has nothing kept for it, which looks like a wrong secret; it goes on as it did.
    for (person, secret) in
        [(&before, &before.secret[..]), (&after, "tg_00000000000000000000000000"), (&after, "")]
    {
        let (told, wire) = *login(person, secret).err().expect("not let in");
        assert_eq!(told.message, "TG001: the login was not accepted");
        assert_eq!(wire.expect("a greeting").steps, "Smysql_native_password E");
    }
    before.mysql_login().goodbye();
    after.mysql_login().goodbye();
    for client in [Release::Distribution, Release::MariaDb11] {
        let mut args = verified(client, &node);
        args.extend(["--default-auth=mysql_native_password".to_owned(), "-e".to_owned()]);
        args.push("select name from items where id = 7".to_owned());
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let done = cli(client, &node, &after, &args).output().expect("it runs");
        assert_eq!(said(&done), "item 7\n", "{client:?}");
    }
}
