//! What the trail says of statements beyond their text, of logins beyond their name, and of revocations
//! that cannot be stored.

use serde_json::{Value, json};
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;

use crate::support::{
    Node, Options, PATIENCE, Server, Version, block, on_both_servers, runtime, shared, text, wait_until,
};

on_both_servers!(statements_are_labelled);

fn statements_are_labelled(server: &'static Server) {
    let node = Node::start(server);
    let person = node.person("alice", "read_write");
    let alice = person.login();
    alice.run("update items set name = 'x' where id = 1; select count(*) from items");
    alice.run("with gone as (delete from items where id = 990 returning *) select * from gone");
    alice.run("explain analyze delete from public.items where id = 991");
    assert_eq!(alice.told("refresh materialized view no_such_view").code, "42P01");
    let statement = block(alice.inner.prepare("delete from items where id = $1")).expect("prepared");
    for id in [992, 993] {
        block(alice.inner.execute(&statement, &[&id])).expect("deleted");
    }
    alice.close();
    let mut wire = person.wire(&[]);
    wire.query("copy items to stdout");
    wire.until_ready();
    for (text, verbs, reads, writes) in [
        (
            "update items set name = 'x' where id = 1; select count(*) from items",
            json!(["UPDATE", "SELECT"]),
            json!(["items"]),
            json!(["items"]),
        ),
        (
            "with gone as (delete from items where id = 990 returning *) select * from gone",
            json!(["SELECT", "DELETE"]),
            Value::Null,
            json!(["items"]),
        ),
        (
            "explain analyze delete from public.items where id = 991",
            json!(["EXPLAIN", "DELETE"]),
            Value::Null,
            json!(["public.items"]),
        ),
        ("refresh materialized view no_such_view", json!(["unparsed", "REFRESH"]), Value::Null, Value::Null),
        ("delete from items where id = $1", json!(["DELETE"]), Value::Null, json!(["items"])),
        ("copy items to stdout", json!(["COPY"]), json!(["items"]), Value::Null),
    ] {
        let line = node.wait_statement(text);
        assert_eq!((&line["verbs"], &line["reads"], &line["writes"]), (&verbs, &reads, &writes), "{line}");
    }
    // Two of the prepared statement, its preparation, and the two that delete on the way.
    let found = |arguments: &[&str]| {
        let output = node.done(&[&["audit", "search", "--json"], arguments].concat());
        output.lines().map(|line| serde_json::from_str(line).expect("a line")).collect::<Vec<Value>>()
    };
    let deletes = found(&["--table", "items", "--verb", "delete"]);
    let named: Vec<&str> = deletes.iter().filter_map(|line| line["event"].as_str()).collect();
    assert_eq!(named, ["statement", "statement", "prepare", "statement", "statement"], "{deletes:?}");
    assert_eq!(found(&["--table", "public.items"]).len(), 1);
    assert_eq!(found(&["--verb", "unparsed"]).len(), 1);
    assert!(found(&["--table", "item"]).is_empty() && found(&["--verb", "DROP"]).is_empty());
    let shown = node.done(&["audit", "search", "--verb", "EXPLAIN"]);
    assert!(shown.contains("{EXPLAIN DELETE, writes public.items}"), "{shown}");
    node.done(&["audit", "verify"]);
}

#[test]
fn start_up_settings_and_values_beside_a_password_are_told_with_care() {
    let node = Node::start(shared(Version::Distribution));
    let alice = node.person("alice", "read");
    let mut config = alice.config();
    config.application_name("reports").options("-c work_mem=5MB -c my.api_token=s3cret-token");
    let client = crate::support::Client::connect(&config, None).expect("alice is let in");
    let accepted = node.wait_event("login_accepted", |line| line["user"] == "alice");
    let settings = &accepted["settings"];
    assert_eq!((&settings["application_name"], &settings["work_mem"]), (&json!("reports"), &json!("5MB")));
    assert_eq!(settings["my.api_token"], "***", "{accepted}");
    let sql = "select $1::text as password, $2::int4";
    block(client.inner.query(sql, &[&"s3cret-value", &5])).expect("a row");
    let line = node.wait_statement(sql);
    assert_eq!(line["parameters"], json!(["***"]), "{line}");
    assert!(line["parameters_bytes"].as_u64().is_some_and(|bytes| bytes > 12), "{line}");
    client.close();
    node.wait_event("session_end", |line| line["user"] == "alice");
    for (place, said) in
        [("the trail", serde_json::to_string(&node.trail()).expect("JSON")), ("the log", node.log())]
    {
        assert!(!said.contains("s3cret"), "a secret is in {place}");
    }
}

#[test]
fn an_accepted_login_has_an_end_even_if_its_client_does_not_wait() {
    let pool = "size_max = 1\nwait_seconds_max = 20";
    let node = Node::with(shared(Version::Distribution).place(), Options { pool, ..Options::default() });
    let (alice, bob) = (node.person("alice", "read").login(), node.person("bob", "read"));
    let waiting = runtime().spawn(async move { bob.config().connect(tokio_postgres::NoTls).await.map(drop) });
    let accepted = node.wait_event("login_accepted", |line| line["user"] == "bob");
    waiting.abort();
    let end = node.wait_event("session_end", |line| line["session"] == accepted["session"]);
    assert_eq!(
        (&end["how"], &end["user"], &end["statements"]),
        (&json!("close"), &json!("bob"), &json!(0)),
        "{end}"
    );
    assert!(end["why"].as_str().is_some_and(|why| why.contains("the client left")), "{end}");
    assert_eq!(alice.one("select 1"), "1");
}

#[test]
fn a_revocation_that_cannot_be_stored_cuts_at_once_and_is_stored_later() {
    let node = Node::start(shared(Version::Distribution));
    let alice = node.user("alice");
    let grant = node.grant("alice", "read", "1h", &[]);
    let client = alice.login();
    client.run("select 1");
    let file = node.folder.join("state/tidegate.db");
    let mut other = block(SqliteConnectOptions::new().filename(file).connect()).expect("it opens");
    block(sqlx::query("BEGIN IMMEDIATE").execute(&mut other)).expect("the store is locked");
    std::thread::scope(|scope| {
        let revoking = scope.spawn(|| node.tg(&["grant", "revoke", &grant, "--reason", "now"]));
        wait_until("the session is cut while the store is locked", PATIENCE, || !client.is_open());
        assert_eq!(alice.refused().code, "28000", "nobody gets in by it");
        let answer = revoking.join().expect("it answers");
        let said = text(&answer.stderr);
        assert_eq!(answer.status.code(), Some(1), "{said}");
        assert!(said.contains("it is in force") && said.contains("locked by another program"), "{said}");
    });
    let status = node.done(&["status"]);
    assert!(status.contains("not stored"), "{status}");
    block(sqlx::query("ROLLBACK").execute(&mut other)).expect("the store is free");
    wait_until("it is stored", PATIENCE, || {
        let ends = sqlx::query_scalar(
            "SELECT count(*) FROM grants WHERE end_cause = 'revoked' AND end_reason = 'now'",
        );
        block(ends.fetch_one(&mut other)).is_ok_and(|count: i64| count == 1)
    });
    wait_until("and it says so no more", PATIENCE, || !node.done(&["status"]).contains("not stored"));
    node.kill();
    node.resume();
    assert_eq!(alice.refused().code, "28000");
    let told = |action: &str| node.events("admin").iter().filter(|line| line["action"] == action).count();
    assert_eq!((told("grant.revoke"), told("change.unstored")), (1, 1));
}
