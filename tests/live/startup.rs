//! What a client says at its start is put on its lease, stays there, and is nobody else's.

use crate::support::wire::{Wire, packet, string};
use crate::support::{Node, Options, Server, on_both_servers};

on_both_servers!(
    start_up_settings_are_applied,
    settings_come_back_after_a_reset,
    settings_come_back_ahead_of_the_next_pipelined_message,
    the_stamp_always_begins_with_the_person,
    a_setting_that_the_server_refuses_is_named,
    the_servers_own_parameters_are_shown,
);

const SETTINGS: &[(&str, &str)] = &[
    ("application_name", "tool"),
    ("search_path", "shelf, public"),
    ("options", "-c work_mem=5MB -c statement_timeout=77s"),
    ("DateStyle", "German"),
    ("TimeZone", "Asia/Tokyo"),
];

/// The first value of a simple query.
fn one(wire: &mut Wire, sql: &str) -> String {
    wire.query(sql);
    first_value(wire)
}

fn first_value(wire: &mut Wire) -> String {
    let messages = wire.until_ready();
    let row = messages
        .iter()
        .find(|message| message.tag == 'D')
        .unwrap_or_else(|| panic!("no row in {messages:?}"));
    let length = i32::from_be_bytes(row.body[2..6].try_into().expect("four bytes")).max(0) as usize;
    crate::support::text(&row.body[6..6 + length])
}

const SHOW_ALL: &str = "select current_setting('search_path') || '|' || current_setting('work_mem') || '|' || \
     current_setting('statement_timeout') || '|' || current_setting('TimeZone')";
const ALL: &str = "shelf, public|5MB|77s|Asia/Tokyo";

fn start_up_settings_are_applied(server: &'static Server) {
    // One connection: the next person gets the same one.
    let node = Node::with(server.place(), Options { pool: "size_max = 1", ..Options::default() });
    let (alice, bob) = (node.person("alice", "read"), node.person("bob", "read"));
    let mut wire = alice.wire(SETTINGS);
    assert_eq!(one(&mut wire, SHOW_ALL), ALL);
    assert_eq!(one(&mut wire, "select current_date::text ~ '^\\d\\d\\.\\d\\d\\.\\d{4}$'"), "t");
    let pid = one(&mut wire, "select pg_backend_pid()");
    wire.goodbye();
    let mut other = bob.wire(&[]);
    assert_eq!(one(&mut other, "select pg_backend_pid()"), pid);
    assert!(!one(&mut other, SHOW_ALL).contains("shelf"), "settings of one person met the next");
    other.goodbye();
    // Text in the client's encoding, both ways: in Latin 1 an umlaut is one byte.
    let mut latin = alice.wire(&[("client_encoding", "LATIN1")]);
    latin.send(&packet('Q', b"select '\xe4' || length('\xe4')\0"));
    let messages = latin.until_ready();
    assert!(messages[1].body.ends_with(b"\xe41"), "{messages:?}");
}

fn settings_come_back_after_a_reset(server: &'static Server) {
    let node = Node::start(server);
    let alice = node.person("alice", "read");
    let mut wire = alice.wire(SETTINGS);
    for reset in ["reset all", "discard all", "RESET ALL;", "select 1; reset all", "/* so */ Discard All"] {
        one_or_none(&mut wire, "set search_path to elsewhere");
        one_or_none(&mut wire, reset);
        assert_eq!(one(&mut wire, SHOW_ALL), ALL, "after {reset}");
        assert!(one(&mut wire, "show application_name").starts_with("alice/"), "after {reset}");
    }
    // A plain RESET of one setting goes back to what the client asked for, as it would without a proxy.
    one_or_none(&mut wire, "set work_mem = '9MB'");
    one_or_none(&mut wire, "reset work_mem");
    assert_eq!(one(&mut wire, "show work_mem"), "5MB");
}

fn one_or_none(wire: &mut Wire, sql: &str) {
    wire.query(sql);
    let messages = wire.until_ready();
    assert!(messages.iter().all(|message| message.tag != 'E'), "{sql}: {messages:?}");
}

fn settings_come_back_ahead_of_the_next_pipelined_message(server: &'static Server) {
    let node = Node::start(server);
    let alice = node.person("alice", "read");
    let mut wire = alice.wire(SETTINGS);
    // As Npgsql does it: the reset and the first statement in one write.
    for reset in ["discard all", "reset all"] {
        wire.send(&[packet('Q', &string(reset)), packet('Q', &string(SHOW_ALL))].concat());
        assert_eq!(wire.tags().replace('S', ""), "CZ");
        assert_eq!(first_value(&mut wire), ALL, "after {reset}");
    }
    // As JDBC does: with the extended protocol.
    let extended = |sql: &str| {
        [
            packet('P', &[&[0][..], &string(sql), &[0, 0]].concat()),
            packet('B', &[0, 0, 0, 0, 0, 0, 0, 0]),
            packet('E', &[0, 0, 0, 0, 0]),
            packet('S', &[]),
        ]
        .concat()
    };
    wire.send(&[extended("reset all"), extended(SHOW_ALL)].concat());
    assert_eq!(wire.tags().replace('S', ""), "12CZ");
    assert_eq!(first_value(&mut wire), ALL);
}

fn the_stamp_always_begins_with_the_person(server: &'static Server) {
    let node = Node::start(server);
    let alice = node.person("alice", "read");
    let mut wire = alice.wire(&[("application_name", "DBeaver 24")]);
    let pid = one(&mut wire, "select pg_backend_pid()");
    let seen = || node.place.ask(&format!("select application_name from pg_stat_activity where pid = {pid}"));
    let session = node.session_of("alice");
    let stamp = format!("alice/{session}");
    assert!(seen().starts_with(&stamp), "{} for {stamp}", seen());
    for change in [
        "set application_name to 'somebody else'",
        "SET SESSION application_name = 'bob/s-0000000000000'",
        "select set_config('application_name', 'hidden', false)",
        "set application_name to default",
        "reset application_name",
        "reset all",
        "discard all",
        "do $$ begin perform set_config('application_name', 'hidden', false); end $$",
    ] {
        one_or_none(&mut wire, change);
        assert_eq!(one(&mut wire, "select 1"), "1");
        assert!(seen().starts_with(&stamp), "after {change}: {}", seen());
    }
}

fn a_setting_that_the_server_refuses_is_named(server: &'static Server) {
    let node = Node::start(server);
    let alice = node.person("alice", "read");
    for (name, value) in
        [("nonsense_setting", "1"), ("work_mem", "much"), ("options", "-c nonsense_setting=1")]
    {
        let login = Wire::login(node.port, "alice", &alice.secret, &[(name, value)]);
        let (told, _) = *login.err().unwrap_or_else(|| panic!("{name} was taken"));
        assert!(told.message.starts_with("TG022"), "{told:?}");
        let named = if name == "options" { "nonsense_setting" } else { name };
        assert!(told.message.contains(named), "{told:?} does not name {named}");
    }
    // The connection that refused a setting is not spoilt for the next.
    assert_eq!(alice.login().one("select 1"), "1");
}

fn the_servers_own_parameters_are_shown(server: &'static Server) {
    let node = Node::start(server);
    let wire = node.person("alice", "read").wire(&[("application_name", "tool")]);
    let shown =
        |name: &str| wire.parameters.iter().rev().find(|(n, _)| n == name).map(|(_, value)| value.clone());
    assert_eq!(shown("server_version"), Some(node.place.ask("show server_version")));
    assert_eq!(shown("standard_conforming_strings").as_deref(), Some("on"));
    assert_eq!(shown("client_encoding").as_deref(), Some("UTF8"));
    assert_eq!(shown("is_superuser").as_deref(), Some("off"));
    assert!(shown("TimeZone").is_some() && shown("integer_datetimes").is_some());
}
