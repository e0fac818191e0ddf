//! Connectors that deserve trust: what `target check` finds and tries, the SQL that it prints, further
//! levels, and what happens when somebody changes a connector's password.

use std::io::{Read, Write};

use serde_json::Value;

use crate::support::client::config;
use crate::support::server::ROLE_PASSWORD;
use crate::support::{
    Client, Node, Options, PATIENCE, Person, Place, Server, field, on_both_servers, refused, text,
    write_private,
};

on_both_servers!(
    the_printed_sql_makes_connectors_that_deserve_trust,
    what_a_connector_may_do_too_much_is_found,
    without_a_login_for_upkeep_cuts_still_end_what_resists,
    a_further_level_is_asked_for_by_its_name,
    a_changed_password_is_an_alarm_and_no_storm,
    behind_a_pooler_nobody_else_is_ended,
);

fn upkeep(place: &Place) -> String {
    format!("{}_upkeep", place.database)
}

/// With a login of upkeep that is there and may nothing yet.
fn with_upkeep(server: &'static Server) -> Node {
    let place = server.place();
    let role = upkeep(&place);
    place.admin("postgres").run(&format!("create role {role} login password '{ROLE_PASSWORD}'"));
    let node = Node::prepare(
        place,
        Options { target: "[target.upkeep]\nsecret = \"file:upkeep.json\"\n", ..Options::default() },
    );
    let secret = serde_json::json!({ "username": role, "password": ROLE_PASSWORD });
    write_private(&node.folder.join("secrets/upkeep.json"), &secret.to_string());
    node.resume();
    node.done(&["apply", "target.toml"]);
    node
}

/// What `target check` found at a level, as severity and words.
fn checks(node: &Node, level: &str) -> Vec<(String, String)> {
    let output = text(&node.tg(&["target", "check", "shop", "--json"]).stdout);
    let found: Value = serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error}: {output}"));
    let levels = found["levels"].as_array().expect("levels");
    let level = levels.iter().find(|of| of["level"] == level).unwrap_or_else(|| panic!("{found}"));
    assert!(level["failed"].is_null(), "{level}");
    let checks = level["checks"].as_array().expect("checks");
    checks.iter().map(|check| (field(check, "severity"), field(check, "what"))).collect()
}

fn trial(node: &Node, level: &str) -> (String, String) {
    let mut found = checks(node, level);
    found.retain(|(_, what)| what.starts_with("tried with two connections"));
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

fn refused_with(client: &Client, sql: &str, code: &str) {
    assert_eq!(client.told(sql).code, code, "{sql}");
}

const RESISTS: &str = "do $$ begin loop begin perform pg_sleep(10); exception when query_canceled then null; end; \
                       end loop; end $$";

/// Somebody whose statement catches every request to stop is cut.
fn a_statement_that_resists_is_ended(node: &Node, person: &Person) {
    let client = person.login();
    client.run("set client_connection_check_interval = 0");
    let running = client.start(RESISTS);
    node.place.wait_running("query_canceled");
    node.done(&["session", "kill", &node.session_of(&person.name)]);
    node.place.wait_quiet(PATIENCE);
    assert_eq!(running.told().code, "57P01");
}

fn the_printed_sql_makes_connectors_that_deserve_trust(server: &'static Server) {
    let node = with_upkeep(server);
    let master = node.place.master();
    master.run("create sequence numbers; create schema shelf; create table shelf.books (id int)");
    let read = node.place.role("read");
    // Somebody was generous.
    master.run(&format!("grant insert on shelf.books to {read}; grant usage on sequence numbers to {read}"));
    for level in ["read", "read_write", "admin"] {
        let (severity, what) = trial(&node, level);
        assert_eq!(severity, "danger", "upkeep may nothing yet: {what}");
        assert!(what.contains("can read, cancel and end what another one runs"), "{what}");
    }
    let sql = text(&node.tg(&["target", "check", "shop", "--sql"]).stdout);
    assert!(sql.contains("pg_hba.conf") && sql.contains("127.0.0.1/32 scram-sha-256"), "{sql}");
    assert!(sql.contains(&format!("host all \"{}_admin\"", node.place.database)), "{sql}");
    master.run(&sql);
    for level in ["read", "read_write", "admin"] {
        let bad: Vec<_> =
            checks(&node, level).into_iter().filter(|(severity, _)| severity != "note").collect();
        assert!(bad.is_empty(), "{level}: {bad:?}");
        assert!(trial(&node, level).1.contains("neither read, cancel nor end"), "{level}");
    }
    assert_eq!(node.tg(&["target", "check", "shop"]).status.code(), Some(0));
    // A second run changes nothing that matters.
    let again = text(&node.tg(&["target", "check", "shop", "--sql"]).stdout);
    master.run(&again);
    rights_are_as_the_levels_say(&node);
    let bob = node.person("bob", "read");
    a_statement_that_resists_is_ended(&node, &bob);
}

fn rights_are_as_the_levels_say(node: &Node) {
    let (alice, carol, dave) =
        (node.person("alice", "read"), node.person("carol", "read_write"), node.person("dave", "admin"));
    let admin = dave.login();
    admin.run("create table made (id int primary key, name text); alter table made add more int");
    admin.run("insert into made values (1, 'one', 1); create index on made (name); create view seen as select 1; drop view seen");
    let reader = alice.login();
    assert_eq!(reader.one("select count(*) from items"), "1000");
    assert_eq!(reader.one("select name from made"), "one", "what an administrator makes can be read");
    for sql in [
        "insert into items values (5000, 'x')",
        "update items set name = 'x'",
        "delete from shelf.books",
        "insert into shelf.books values (1)",
        "truncate made",
        "create table mine (id int)",
        "create schema mine",
        "select nextval('numbers')",
        "select lo_create(0)",
        "select query from pg_stat_activity",
        "select pg_cancel_backend(1)",
        "select pg_terminate_backend(1)",
    ] {
        refused_with(&reader, sql, "42501");
    }
    let writer = carol.login();
    writer.run(
        "insert into items values (5001, 'x'); update items set name = 'y' where id = 5001;
         delete from items where id = 5001; insert into made values (2, 'two', 2); select nextval('numbers');
         select lo_unlink(lo_create(0))",
    );
    for sql in ["create table mine (id int)", "truncate items", "alter table made add even_more int"] {
        refused_with(&writer, sql, "42501");
    }
    admin.run("drop table made");
}

fn what_a_connector_may_do_too_much_is_found(server: &'static Server) {
    let place = server.place();
    let [read, write] = ["read", "read_write"].map(|level| place.role(level));
    let database = place.database.clone();
    let other = format!("{database}_other");
    place.master().run(&format!(
        "create role {other}; create role {other}_group;
         alter role {read} createdb; grant pg_read_server_files to {read}; grant {other}_group to {read} with admin option;
         grant trigger on items to {read}, {write};
         alter default privileges for role {other} in schema public grant insert on tables to {read};
         create function raise_rights() returns int language sql security definer as 'select 1';
         create sequence numbers; grant usage on sequence numbers to {read};
         create extension postgres_fdw;
         create server elsewhere foreign data wrapper postgres_fdw; grant usage on foreign server elsewhere to {read};
         create user mapping for {read} server elsewhere;
         create function watch() returns event_trigger language plpgsql as 'begin end';
         create event trigger watching on ddl_command_start execute function watch();
         create function tenant() returns void language plpgsql as $$ begin perform set_config('my.tenant', '1', false); end $$;
         create schema theirs authorization {read}; alter database {database} owner to {write};
         create type theirs.kind as enum ('a')"
    ));
    let node = Node::with(place, Options::default());
    let (reads, writes) = (checks(&node, "read"), checks(&node, "read_write"));
    for (severity, part) in [
        ("warning", "may create databases"),
        ("danger", "may read files of the server's machine"),
        ("danger", "may give the role"),
        ("danger", "may put triggers on public.items"),
        ("danger", "will be the connector's to write to"),
        ("warning", "raise_rights() [postgres]"),
        ("warning", "advance the sequence public.numbers"),
        ("warning", "logged in at the foreign server \"elsewhere\""),
        ("warning", "user mappings and tables of the foreign server \"elsewhere\""),
        ("note", "event trigger \"watching\""),
        ("danger", "the schema theirs"),
        ("note", "change its password"),
        ("note", "public.tenant"),
        ("note", "temporary tables"),
        ("warning", "write large objects"),
        ("warning", "can read, cancel and end what another one runs"),
    ] {
        assert!(
            reads.iter().any(|(of, what)| of == severity && what.contains(part)),
            "no {severity} {part:?} in {reads:#?}"
        );
    }
    for (severity, part) in
        [("danger", "may put triggers on public.items"), ("warning", &*format!("the database {database}"))]
    {
        assert!(
            writes.iter().any(|(of, what)| of == severity && what.contains(part)),
            "no {severity} {part:?} in {writes:#?}"
        );
    }
    assert!(!writes.iter().any(|(_, what)| what.contains("may write to")), "that is its level: {writes:#?}");
    assert_eq!(node.tg(&["target", "check", "shop"]).status.code(), Some(1), "danger is an exit code");
    // One level that cannot log in does not hide the others.
    node.write_secret("admin", "wrong");
    let output = node.tg(&["target", "check", "shop"]);
    let said = text(&output.stdout);
    assert!(
        said.contains("admin: could not be looked at") && said.contains("may create databases"),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(1));
}

/// The functions are closed, and the target names nobody to end connections.
fn without_a_login_for_upkeep_cuts_still_end_what_resists(server: &'static Server) {
    let node = Node::start(server);
    let sql = text(&node.tg(&["target", "check", "shop", "--sql"]).stdout);
    assert!(sql.contains("-- REVOKE EXECUTE ON FUNCTION pg_catalog.pg_terminate_backend"), "{sql}");
    node.place.master().run(&sql);
    let (severity, what) = trial(&node, "read");
    assert_eq!(severity, "warning");
    assert!(what.contains("can end what another one runs, but not read and cancel it"), "{what}");
    a_statement_that_resists_is_ended(&node, &node.person("alice", "read"));
    // Closed all the same, it is found.
    node.place.master().run("revoke execute on function pg_terminate_backend(integer, bigint) from public");
    let (severity, what) = trial(&node, "read");
    assert_eq!(severity, "danger");
    assert!(what.contains("[target.upkeep]"), "{what}");
    // What does not resist is stopped nevertheless.
    let bob = node.person("bob", "read");
    let client = bob.login();
    client.run("set client_connection_check_interval = 0");
    let running = client.start("select pg_sleep(60)");
    node.place.wait_running("pg_sleep(60)");
    node.done(&["session", "kill", &node.session_of("bob")]);
    node.place.wait_quiet(PATIENCE);
    assert_eq!(running.told().code, "57P01");
}

fn a_further_level_is_asked_for_by_its_name(server: &'static Server) {
    let place = server.place();
    let role = format!("{}_reporting", place.database);
    place.master().run(&format!(
        "create role {role} login password '{ROLE_PASSWORD}'; create view totals as select count(*) from items;
         grant select on totals to {role}"
    ));
    let node = Node::prepare(place, Options::default());
    let secret = serde_json::json!({ "username": role, "password": ROLE_PASSWORD });
    write_private(&node.folder.join("secrets/reporting.json"), &secret.to_string());
    let file = std::fs::read_to_string(node.folder.join("target.toml")).expect("just written");
    node.write(
        "target.toml",
        &format!("{file}[target.connector.reporting]\nsecret = \"file:reporting.json\"\n"),
    );
    node.resume();
    node.done(&["apply", "target.toml"]);

    let alice = node.user("alice");
    let grant = node.grant("alice", "reporting", "1h", &[]);
    let named = |name: &str| config(node.port, name, &alice.secret, None);
    assert_eq!(alice.refused().code, "28000", "it is never chosen by itself");
    let client = Client::connect(&named("alice+reporting"), None).expect("asked for");
    assert_eq!(client.one("select current_user"), role);
    assert_eq!(client.one("select * from totals"), "1000");
    refused_with(&client, "select * from items", "42501");
    // Also beside a level that has a place in the order.
    node.grant("alice", "read", "1h", &[]);
    assert_eq!(alice.login().one("select current_user"), node.place.role("read"));
    assert_eq!(refused(&named("alice+read_write")).code, "28000");
    assert_eq!(refused(&named("alice+nothing")).code, "28000");
    let explained = node.done(&["explain", "--user", "alice", "--target", "shop", "--level", "reporting"]);
    assert!(explained.contains("let in") && explained.contains("reporting"), "{explained}");
    assert!(checks(&node, "reporting").iter().any(|(_, what)| what.contains("tried with two connections")));
    let sql = text(&node.tg(&["target", "check", "shop", "--sql"]).stdout);
    assert!(
        sql.contains("-- level reporting") && sql.contains(&format!("ALTER ROLE \"{role}\" WITH LOGIN")),
        "{sql}"
    );
    // What is exported can be applied, and a grant in a file may name it.
    let exported = node.done(&["export"]);
    assert!(exported.contains("[target.connector.reporting]") && exported.contains("level = \"reporting\""));
    node.write("all.toml", &exported);
    node.done(&["apply", "all.toml"]);
    assert_eq!(node.done(&["export"]), exported);
    let unknown = node.tg(&[
        "grant",
        "create",
        "--user",
        "alice",
        "--target",
        "shop",
        "--level",
        "reportage",
        "--for",
        "1h",
    ]);
    assert!(text(&unknown.stderr).contains("reporting"), "the levels that there are: {unknown:?}");
    node.done(&["grant", "revoke", &grant]);
    assert_eq!(client.end().expect_err("cut").code, "57P01");
}

fn a_changed_password_is_an_alarm_and_no_storm(server: &'static Server) {
    let node = Node::start(server);
    let alice = node.person("alice", "read");
    let bob = node.person("bob", "read_write");
    let role = node.place.role("read");
    let mallory = node.person("mallory", "read");
    // Whoever uses a connector can change its password.
    let client = mallory.login();
    client.run("alter role current_user password 'known to mallory'");
    client.close();
    let connections = || {
        node.place.ask(&format!(
            "select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity where usename = '{role}'"
        ))
    };
    connections();
    let failures = || node.place.log().matches(&format!("authentication failed for user \"{role}\"")).count();
    let before = failures();
    for _ in 0..20 {
        let told = alice.refused();
        assert_eq!(
            (told.code.as_str(), told.message.split(':').next()),
            ("08006", Some("TG025")),
            "{told:?}"
        );
        assert!(!told.message.contains("mallory") && !told.message.contains(&role), "{told:?}");
    }
    let tries = failures() - before;
    assert!((1..=3).contains(&tries), "{tries} failed logins at the server for 20 of ours");
    let alarm = node.wait_event("alarm", |line| line["level"] == "read");
    assert!(field(&alarm, "what").contains("refuses the login"), "{alarm}");
    assert_eq!(node.events("alarm").len(), 1, "said once");
    assert!(node.done(&["target", "list"]).contains("login refused at read"));
    assert!(node.done(&["target", "show", "shop"]).contains("the target refuses the login"));
    assert_eq!(bob.login().one("select 1"), "1", "the other levels go on");
    // The operator puts the right one in its place: nothing has to be restarted or resumed.
    node.place.master().run(&format!("alter role {role} password 'a new one'"));
    assert!(alice.try_login().is_err());
    node.write_secret("read", "a new one");
    assert_eq!(alice.login().one("select current_user"), role);
    assert!(!node.done(&["target", "list"]).contains("refused"));
}

/// Passes a plain connection on, but for the process id that the server gives out.
fn renumbering(server_port: u16, process: i32) -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(mut client) = client else { return };
            let Ok(mut server) = std::net::TcpStream::connect(("127.0.0.1", server_port)) else { return };
            let (mut from, mut to) =
                (client.try_clone().expect("a handle"), server.try_clone().expect("a handle"));
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Write);
            });
            std::thread::spawn(move || {
                let mut buffer = [0; 16 << 10];
                while let Ok(count @ 1..) = server.read(&mut buffer) {
                    // BackendKeyData: its type, a length under 256, the process id.
                    if let Some(at) = buffer[..count].windows(4).position(|head| head == b"K\0\0\0")
                        && buffer[..count].starts_with(b"R")
                    {
                        buffer[at + 5..at + 9].copy_from_slice(&process.to_be_bytes());
                    }
                    if client.write_all(&buffer[..count]).is_err() {
                        break;
                    }
                }
                let _ = client.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    port
}

/// A number that something in front of the server gave out may be somebody else's there.
fn behind_a_pooler_nobody_else_is_ended(server: &'static Server) {
    let place = server.place();
    let role = place.role("read");
    let bystander = config(server.port, &role, ROLE_PASSWORD, Some(&place.database));
    let bystander = Client::connect(&bystander, None).expect("the role logs in");
    let process: i32 = bystander.backend_pid().parse().expect("a number");
    let port = renumbering(server.port, process);
    let node = Node::prepare(place, Options { target: "tls = \"disable\"\n", ..Options::default() });
    let file = std::fs::read_to_string(node.folder.join("target.toml")).expect("just written");
    node.write("target.toml", &file.replace(&format!(":{}\"", server.port), &format!(":{port}\"")));
    node.resume();
    node.done(&["apply", "target.toml"]);
    let alice = node.person("alice", "read");
    let client = alice.login();
    let shown = node.json(&["session", "show", &node.session_of("alice")]);
    assert_eq!(field(&shown, "upstream"), process.to_string(), "the proxy was told another's number");
    client.run("set client_connection_check_interval = 0");
    let running = client.start(RESISTS);
    node.place.wait_running("query_canceled");
    node.done(&["session", "kill", &node.session_of("alice")]);
    node.place.wait_quiet(PATIENCE);
    assert_eq!(running.told().code, "57P01");
    assert_eq!(bystander.one("select 1"), "1", "somebody else's connection was ended");
}
