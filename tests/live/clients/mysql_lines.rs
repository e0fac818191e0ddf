//! The lines that `tidegate connect` prints for MySQL and MariaDB, run as they stand, by what they are for.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::lines::{Lines, session_starts};
use super::{client, installed, source};
use crate::support::mysql::{Place, Release, on_all_releases, shared};
use crate::support::{Node, Options, Person, text, tls};

on_all_releases!(
    the_lines_for_a_private_authority_work,
    the_lines_without_tls_work,
    the_lines_for_a_socket_work,
);

const QUESTION: &str = "select database(), current_user()";

/// A node whose first listener is what `change` makes of it, and a person who may come in there.
fn node(release: Release, change: impl Fn(&Node<Place>, &str) -> String) -> (Node<Place>, Person) {
    let node = Node::prepare(shared(release).place(), Options::default());
    let file = std::fs::read_to_string(node.folder.join("tidegate.toml")).expect("the node's file");
    node.write("tidegate.toml", &change(&node, &file));
    node.resume();
    node.done(&["apply", "target.toml"]);
    let alice = node.person("alice", "read");
    (node, alice)
}

fn said(node: &Node<Place>, what: &str, mut command: Command) {
    let output = command.env("HOME", &node.folder).output().expect("timeout is part of coreutils");
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    let expected = format!("{} {}@%", node.place.database, node.place.role("read"));
    assert!(output.status.success() && out.trim() == expected, "{what}: {}\n{out}{err}", output.status);
}

/// A command line as it stands, at a terminal, at which the password is typed when it is asked for.
fn typed(node: &Node<Place>, of: Release, line: &str, person: &Person) {
    let programs = node.folder.join(format!("bin-{of:?}"));
    let _ = std::fs::create_dir(&programs);
    let name = line.split(' ').next().expect("a program");
    let program = programs.join(name);
    std::fs::write(&program, format!("#!/bin/sh\nexec '{}' \"$@\"\n", of.client().display()))
        .expect("a file");
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("its mode");
    let path = std::env::var("PATH").unwrap_or_default();
    let mut child = client("script")
        .args(["--quiet", "--return", "--command"])
        .arg(format!("{line} --batch --skip-column-names --execute='{QUESTION}'"))
        .arg("/dev/null")
        .env("PATH", format!("{}:{path}", programs.display()))
        .env("HOME", &node.folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("script is part of util-linux");
    let (mut stdin, mut stdout) = (child.stdin.take().expect("ours"), child.stdout.take().expect("ours"));
    let (mut seen, mut space) = (Vec::new(), [0; 512]);
    while !text(&seen).contains("assword:") {
        match stdout.read(&mut space).expect("what the terminal shows") {
            0 => panic!("{line}: {}", text(&seen)),
            count => seen.extend_from_slice(&space[..count]),
        }
    }
    stdin.write_all(format!("{}\n", person.secret).as_bytes()).expect("it reads");
    seen.clear();
    stdout.read_to_end(&mut seen).expect("what the terminal shows");
    drop(stdin);
    let status = child.wait().expect("it ends");
    let shown = text(&seen);
    let expected = format!("{}\t{}@%", node.place.database, node.place.role("read"));
    assert!(status.success() && shown.contains(&expected), "{of:?}: {line}: {status}\n{shown}");
}

fn command_lines(node: &Node<Place>, lines: &Lines, alice: &Person) {
    typed(node, Release::MySql9, lines.one("mysql"), alice);
    typed(node, Release::Distribution, lines.one("mariadb"), alice);
    typed(node, Release::MariaDb11, lines.one("mariadb"), alice);
}

fn pymysql(node: &Node<Place>, lines: &Lines, alice: &Person) {
    let mut command = client(installed("python/bin/python"));
    let program = format!(
        "import pymysql\nSECRET = '{}'\ncursor = {}.cursor()\ncursor.execute('{QUESTION}')\nprint(*cursor.fetchone())",
        alice.secret,
        lines.one("PyMySQL")
    );
    command.args(["-c", &program]);
    said(node, "PyMySQL", command);
}

/// As it stands, and compressed.
fn go(node: &Node<Place>, lines: &Lines, alice: &Person) {
    let line = lines.one("Go");
    for more in ["", if line.contains('?') { "&compress=true" } else { "?compress=true" }] {
        let mut command = client(installed("go/clients"));
        let dsn = format!("{}{more}", line.replacen("SECRET", &alice.secret, 1));
        command.arg("mysql-dsn").env("DB_DSN", dsn).env("DB_CA", node.folder.join("ca.pem"));
        said(node, "Go", command);
    }
}

/// `store`: where MySQL's driver finds the authority.
fn jdbc(node: &Node<Place>, lines: &Lines, alice: &Person, store: Option<&Path>) {
    let both: Vec<_> = lines.all("JDBC").collect();
    assert_eq!(both.len(), 2, "{both:?}");
    for address in both {
        let driver = if address.starts_with("jdbc:mysql:") { "mysql" } else { "mariadb" };
        let mut command = client("java");
        command
            .args(["-XX:TieredStopAtLevel=1", "-cp"])
            .arg(installed(&format!("java/{driver}.jar")))
            .arg(source("jdbc/Connect.java"))
            .args([address, &alice.secret, QUESTION]);
        if let Some(store) = store.filter(|_| driver == "mysql") {
            command
                .arg(format!("trustCertificateKeyStoreUrl=file:{}", store.display()))
                .args(["trustCertificateKeyStorePassword=changeit", "trustCertificateKeyStoreType=PKCS12"]);
        }
        said(node, address, command);
    }
}

/// The certificate's file has the authority behind it: that is what clients are told to trust.
fn the_lines_for_a_private_authority_work(release: Release) {
    let (node, alice) = node(release, |node, file| {
        let chain = node.folder.join("listener.pem");
        let own = std::fs::read_to_string(&chain).expect("a certificate");
        std::fs::write(&chain, own + &tls::authority().pem).expect("a file");
        file.to_owned()
    });
    let lines = Lines::of(&node);
    assert!(lines.one("mysql").contains("VERIFY_IDENTITY"), "{}", lines.one("mysql"));
    command_lines(&node, &lines, &alice);
    pymysql(&node, &lines, &alice);
    go(&node, &lines, &alice);
    let store = node.folder.join("ca.p12");
    let made = Command::new("keytool")
        .args([
            "-importcert",
            "-noprompt",
            "-alias",
            "ca",
            "-storetype",
            "PKCS12",
            "-storepass",
            "changeit",
            "-file",
        ])
        .arg(node.folder.join("ca.pem"))
        .arg("-keystore")
        .arg(&store)
        .output();
    assert!(made.expect("keytool comes with Java").status.success());
    jdbc(&node, &lines, &alice, Some(&store));
    let starts = session_starts(&node, 8);
    assert!(starts.iter().all(|line| line["tls"] == true), "{starts:#?}");
}

fn the_lines_without_tls_work(release: Release) {
    let (node, alice) = node(release, |_, file| file.replacen("tls = \"optional\"", "tls = \"off\"", 1));
    let lines = Lines::of(&node);
    command_lines(&node, &lines, &alice);
    pymysql(&node, &lines, &alice);
    go(&node, &lines, &alice);
    jdbc(&node, &lines, &alice, None);
    let starts = session_starts(&node, 8);
    assert!(starts.iter().all(|line| line["tls"] == false), "{starts:#?}");
}

/// Which no driver of JDBC reaches.
fn the_lines_for_a_socket_work(release: Release) {
    let (node, alice) = node(release, |node, file| {
        std::fs::create_dir(node.folder.join("run")).expect("a folder");
        format!(
            "[[listener]]\naddress = \"unix:run/mysqld.sock\"\nprotocol = \"mysql\"\ntarget = \"shop\"\n{file}"
        )
    });
    let lines = Lines::of(&node);
    assert!(lines.one("mysql").contains("/run/mysqld.sock"), "{}", lines.one("mysql"));
    assert_eq!(lines.words(), ["mysql", "mariadb", "PyMySQL", "Go"]);
    command_lines(&node, &lines, &alice);
    pymysql(&node, &lines, &alice);
    go(&node, &lines, &alice);
    let starts = session_starts(&node, 6);
    let by_socket =
        |line: &serde_json::Value| line["peer"].as_str().is_some_and(|peer| peer.starts_with("unix:"));
    assert!(starts.iter().all(by_socket), "{starts:#?}");
}
