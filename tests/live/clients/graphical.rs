//! What graphical clients send, as their published sources show it (pgAdmin's `psycopg3/connection.py` and its
//! templates, DBeaver's PostgreSQL plug-in), by the drivers that they use; and what it leaves behind in a
//! session that then idles all day.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use super::{ALL_MODES, Mode, Way, client, installed, same_both_ways, source};
use crate::support::{Node, Options, PATIENCE, Server, on_both_servers, wait_until};

on_both_servers!(like_dbeaver, like_pgadmin, people_who_leave_their_clients_open_hold_no_connection);

fn dbeaver() -> Command {
    let mut command = client("java");
    let path = format!("{0}:{0}/postgresql.jar", installed("java").display());
    command.args(["-XX:TieredStopAtLevel=1", "-Xmx256m", "-cp", &path, "LikeDbeaver"]);
    command
}

fn pgadmin(arguments: &[&str]) -> Command {
    let mut command = client(installed("python/bin/python"));
    command.arg("-B").arg(source("python/like_pgadmin.py")).args(arguments);
    command
}

fn like_dbeaver(server: &'static Server) {
    same_both_ways(server, ALL_MODES, 30, || {
        let mut command = dbeaver();
        command.arg("sets its search path");
        command
    });
}

/// With its stop button, which names the server's process to another connection.
fn like_pgadmin(server: &'static Server) {
    same_both_ways(server, ALL_MODES, 10, || pgadmin(&["stop"]));
}

/// A client that has done its start-up traffic and sits there.
fn sitting(way: &Way, mode: Mode, mut command: Command) -> Child {
    way.set(mode, &mut command);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("timeout runs");
    let out = child.stdout.as_mut().expect("piped");
    let idle =
        BufReader::with_capacity(1, out).lines().map_while(Result::ok).any(|line| line.starts_with("idle"));
    assert!(idle, "a client ended before it was idle");
    child
}

/// Start-up traffic of either leaves nothing that pins: seven sessions sit on no connection at all, and take
/// turns on two.
fn people_who_leave_their_clients_open_hold_no_connection(server: &'static Server) {
    let options = Options {
        pool: "size_max = 2\nwait_seconds_max = 60",
        limits: "park_seconds = 1",
        ..Options::default()
    };
    let node = Node::with(server.place(), options);
    let (alice, bob, carol) =
        (node.person("alice", "read"), node.person("bob", "read"), node.person("carol", "read"));
    let mut clients = [
        sitting(&Way::proxied(&node, &alice), Mode::Tls, dbeaver()),
        sitting(&Way::proxied(&node, &bob), Mode::Tls, pgadmin(&[])),
        sitting(&Way::proxied(&node, &carol), Mode::Plain, pgadmin(&[])),
    ];
    wait_until("all seven are parked", PATIENCE, || {
        let sessions = node.sessions();
        let pinned: Vec<_> = sessions.iter().filter(|session| session["pinned"].is_string()).collect();
        assert!(pinned.is_empty(), "start-up traffic pins: {pinned:?}");
        sessions.len() == 7 && sessions.iter().all(|session| session["state"] == "parked")
    });
    for child in &mut clients {
        child.stdin.take().expect("piped").write_all(b"\n").expect("it reads");
    }
    for child in &mut clients {
        assert!(child.wait().expect("it ends").success(), "a client did not find its session again");
    }
}
