//! The lines that `tidegate connect` prints for PostgreSQL, run as they stand, by what they are for.

use std::path::PathBuf;
use std::process::Command;

use super::tools::distribution;
use super::{client, installed, source};
use crate::support::{
    Backend, Node, Options, PATIENCE, Person, Server, on_both_servers, text, tls, wait_until,
};

on_both_servers!(
    the_lines_for_a_private_authority_work,
    the_lines_without_tls_work,
    the_lines_for_a_socket_work,
);

const QUESTION: &str = "select current_database(), current_user";

/// What the lines say, by the word in front of each; what has none is of the one before.
pub struct Lines(Vec<(String, String)>);

impl Lines {
    pub fn of<P: Backend>(node: &Node<P>) -> Self {
        let said = node.done(&["connect", "shop", "--user", "alice", "--level", "read"]);
        let mut lines: Vec<(String, String)> = Vec::new();
        for line in said.lines().take_while(|line| !line.is_empty()) {
            let (word, rest) = line.split_at(9.min(line.len()));
            let word = match (word.trim(), lines.last()) {
                ("", Some((last, _))) => last.clone(),
                (word, _) => word.to_owned(),
            };
            lines.push((word, rest.to_owned()));
        }
        Self(lines)
    }

    pub fn all<'a>(&'a self, word: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(of, _)| of == word).map(|(_, line)| line.as_str())
    }

    pub fn one(&self, word: &str) -> &str {
        let all: Vec<&str> =
            self.0.iter().filter(|(of, _)| of == word).map(|(_, line)| line.as_str()).collect();
        assert_eq!(all.len(), 1, "{word} in {:?}", self.0);
        all[0]
    }

    /// The words in front, each once.
    pub fn words(&self) -> Vec<&str> {
        let mut words: Vec<&str> = self.0.iter().map(|(word, _)| word.as_str()).collect();
        words.dedup();
        words
    }
}

/// The beginnings of sessions in the trail, of which there are so many.
pub fn session_starts<P: Backend>(node: &Node<P>, count: usize) -> Vec<serde_json::Value> {
    wait_until("all are in the trail", PATIENCE, || node.events("session_start").len() >= count);
    let starts = node.events("session_start");
    assert_eq!(starts.len(), count, "{starts:#?}");
    starts
}

/// A node whose file is what `change` makes of it, and a person who may come in there.
fn node(server: &'static Server, change: impl Fn(&Node, String) -> String) -> (Node, Person) {
    let node = Node::prepare(server.place(), Options::default());
    let file = std::fs::read_to_string(node.folder.join("tidegate.toml")).expect("the node's file");
    node.write("tidegate.toml", &change(&node, file));
    node.resume();
    node.done(&["apply", "target.toml"]);
    let alice = node.person("alice", "read");
    (node, alice)
}

fn said(node: &Node, alice: &Person, what: &str, mut command: Command) {
    command.env("HOME", &node.folder).env("PGPASSWORD", &alice.secret);
    let output = command.output().expect("timeout is part of coreutils");
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    let expected = format!("{} {}", node.place.database, node.place.role("read"));
    assert!(output.status.success() && out.trim() == expected, "{what}: {}\n{out}{err}", output.status);
}

fn both_psqls() -> [PathBuf; 2] {
    [distribution("psql"), installed("pg18/psql")]
}

const PSQL: [&str; 6] = ["-X", "-A", "-t", "-F ", "-c", QUESTION];

/// As a shell takes it.
fn psql(node: &Node, lines: &Lines, alice: &Person) {
    let line = lines.one("psql");
    let words = line.strip_prefix("psql ").expect("the program's own name first");
    for program in both_psqls() {
        let mut command = client("sh");
        command
            .args(["-c", &format!("program=$1; shift; \"$program\" \"$@\" {words}"), "sh"])
            .arg(&program)
            .args(PSQL);
        said(node, alice, line, command);
    }
}

fn uri(node: &Node, lines: &Lines, alice: &Person) {
    for program in both_psqls() {
        let mut command = client(program);
        command.args(PSQL).arg(lines.one("URI"));
        said(node, alice, lines.one("URI"), command);
    }
}

fn psycopg(node: &Node, lines: &Lines, alice: &Person) {
    let line = lines.one("psycopg");
    let mut command = client(installed("python/bin/python"));
    command.args(["-c", &format!("import psycopg\nprint(*{line}.execute('{QUESTION}').fetchone())")]);
    said(node, alice, line, command);
}

fn jdbc(node: &Node, lines: &Lines, alice: &Person) {
    let line = lines.one("JDBC");
    let mut command = client("java");
    command
        .args(["-XX:TieredStopAtLevel=1", "-cp"])
        .arg(installed("java/postgresql.jar"))
        .arg(source("jdbc/Connect.java"))
        .args([line, &alice.secret, QUESTION]);
    said(node, alice, line, command);
}

fn over_the_network(node: &Node, alice: &Person, tls: bool) {
    let lines = Lines::of(node);
    assert_eq!(lines.one("psql").contains("sslmode=verify-full"), tls, "{}", lines.one("psql"));
    psql(node, &lines, alice);
    uri(node, &lines, alice);
    psycopg(node, &lines, alice);
    jdbc(node, &lines, alice);
    let starts = session_starts(node, 6);
    assert!(starts.iter().all(|line| line["tls"] == tls), "{starts:#?}");
}

/// The certificate's file has the authority behind it: that is what clients are told to trust.
fn the_lines_for_a_private_authority_work(server: &'static Server) {
    let (node, alice) = node(server, |node, file| {
        let chain = node.folder.join("listener.pem");
        let own = std::fs::read_to_string(&chain).expect("a certificate");
        std::fs::write(&chain, own + &tls::authority().pem).expect("a file");
        file
    });
    over_the_network(&node, &alice, true);
}

fn the_lines_without_tls_work(server: &'static Server) {
    let (node, alice) = node(server, |_, file| file.replacen("tls = \"optional\"", "tls = \"off\"", 1));
    over_the_network(&node, &alice, false);
}

/// Which no driver of JDBC reaches.
fn the_lines_for_a_socket_work(server: &'static Server) {
    let (node, alice) = node(server, |node, file| {
        std::fs::create_dir(node.folder.join("run")).expect("a folder");
        let address = "unix:run/.s.PGSQL.7001";
        format!("[[listener]]\naddress = \"{address}\"\nprotocol = \"postgres\"\ntarget = \"shop\"\n{file}")
    });
    let lines = Lines::of(&node);
    assert!(lines.one("psql").contains("/run port=7001 "), "{}", lines.one("psql"));
    assert_eq!(lines.words(), ["psql", "psycopg"]);
    psql(&node, &lines, &alice);
    psycopg(&node, &lines, &alice);
    let starts = session_starts(&node, 3);
    let by_socket =
        |line: &serde_json::Value| line["peer"].as_str().is_some_and(|peer| peer.starts_with("unix:"));
    assert!(starts.iter().all(by_socket), "{starts:#?}");
}
