//! Nobody holds a connection by sitting there: an idle session gives it back when nothing would be lost, and
//! goes on with any other as if nothing had been. What cannot be put back keeps it where it is.

use std::time::Duration;

use crate::support::wire::{Wire, packet, string};
use crate::support::{
    CUT, Client, Node, Options, PATIENCE, Person, Server, Version, block, on_both_servers, shared, wait_until,
};

on_both_servers!(
    what_can_be_put_back_moves_and_what_cannot_stays,
    more_sessions_than_connections_take_turns,
    what_hides_a_catalog_hides_nothing,
    functions_that_hide_what_they_do_keep_everybody_where_they_are,
    prepared_statements_are_put_back_or_are_an_error,
    a_parked_session_ends_in_every_way,
    the_end_of_access_is_told_ahead,
);

fn node(server: &'static Server, size: u32) -> Node {
    let pool = format!("size_max = {size}\nwait_seconds_max = 20");
    Node::with(server.place(), Options { limits: "park_seconds = 1", pool: &pool, ..Options::default() })
}

/// State and reason of each live session of this user, in the order in which they came.
fn states(node: &Node, user: &str) -> Vec<(String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let mut sessions = node.sessions();
    sessions.retain(|session| session["user"] == user);
    sessions.iter().map(|session| (text(&session["state"]), text(&session["pinned"]))).collect()
}

fn wait_parked(node: &Node, user: &str) {
    wait_until(&format!("{user} is parked"), PATIENCE, || {
        states(node, user).iter().all(|(state, _)| state == "parked")
    });
}

/// What an idle session has that its connection alone can give, why it is kept there, and how to see that it is
/// still there.
const PINNING: [(&str, &str, &str, &str); 18] = [
    ("create temp table mine as select 41 as a", "a temporary object", "select a + 1 from mine", "42"),
    ("create temp sequence s; select 1", "a temporary object", "select count(*) from s", "1"),
    (
        "create function pg_temp.f() returns int language sql as 'select 42'",
        "a function that was changed",
        "select pg_temp.f()",
        "42",
    ),
    ("listen news", "a channel that is listened to", "select pg_listening_channels()", "news"),
    ("select pg_advisory_lock(42)", "an advisory lock", "select pg_advisory_unlock(42)", "t"),
    ("begin; declare c cursor with hold for select 42; commit", "a cursor", "fetch c", "42"),
    ("prepare p as select 42", "a prepared statement made by PREPARE", "execute p", "42"),
    ("set my.thing = '42'", "a setting that no catalog shows", "show my.thing", "42"),
    (
        "select set_config('my.' || 'thing', '42', false)",
        "a setting that no catalog shows",
        "show my.thing",
        "42",
    ),
    ("select nextval('numbers')", "the current value of a sequence", "select currval('numbers') > 0", "t"),
    (
        "insert into serials (name) values ('x')",
        "the current value of a sequence",
        "select lastval() > 0",
        "t",
    ),
    (
        "with x as (insert into serials (name) values ('x') returning id) select id from x",
        "the current value of a sequence",
        "select lastval() > 0",
        "t",
    ),
    ("select setseed(0.5)", "the seed of random()", "select 42", "42"),
    ("set seed to 0.5", "the seed of random()", "select 42", "42"),
    (
        "do $$ begin perform set_config('my.thing', '42', false); end $$",
        "code that was run by DO or CALL",
        "show my.thing",
        "42",
    ),
    ("set random_page_cost = 1.123456789", "a setting that cannot be put back", "select 42", "42"),
    ("set role pg_monitor", "another role was taken on", "select current_user", "pg_monitor"),
    (
        "set search_path to \"sch\u{e9}ma\"",
        "a setting that cannot be put back",
        "show search_path",
        "\"sch\u{e9}ma\"",
    ),
];

/// What is put back on another connection: how it is made, what shows it, and what it shows.
const RESTORED: [(&str, &str, &str); 9] = [
    ("set search_path to \"My schema\", pg_catalog", "show search_path", "\"My schema\", pg_catalog"),
    ("set datestyle to 'German, DMY'", "select '2026-11-22'::date", "22.11.2026"),
    ("set time zone -3", "select extract(timezone from '2026-11-22'::timestamptz)::int", "-10800"),
    ("set client_encoding to 'LATIN1'", "show client_encoding", "LATIN1"),
    ("set statement_timeout to '3min'", "show statement_timeout", "3min"),
    ("select set_config('work_mem', '5MB', false)", "show work_mem", "5MB"),
    (
        "set session characteristics as transaction isolation level serializable",
        "show transaction_isolation",
        "serializable",
    ),
    ("set standard_conforming_strings to off", r"select length('a\\b')", "3"),
    ("set extra_float_digits to 3; set bytea_output to escape", "show bytea_output", "escape"),
];

fn what_can_be_put_back_moves_and_what_cannot_stays(server: &'static Server) {
    let node = node(server, 40);
    node.place.master().run(&format!(
        "create sequence numbers; create table serials (id serial, name text);
         grant usage on sequence numbers, serials_id_seq to public; grant insert on serials to public;
         grant select on serials to public;
         grant temporary on database {0} to public; grant pg_monitor to {1}",
        node.place.database,
        node.place.role("read_write")
    ));
    let (alice, bob) = (node.person("alice", "read_write"), node.person("bob", "read_write"));
    let pinned: Vec<Client> = PINNING
        .iter()
        .map(|(sql, ..)| {
            let client = alice.login();
            client.run(sql);
            client
        })
        .collect();
    let moving: Vec<(Client, String)> = RESTORED
        .iter()
        .map(|(sql, ..)| {
            let client = bob.login();
            client.run(sql);
            let pid = client.backend_pid();
            (client, pid)
        })
        .collect();
    let pids: Vec<String> = pinned.iter().map(Client::backend_pid).collect();
    let wanted: Vec<_> =
        PINNING.iter().map(|(_, why, ..)| ("pinned".to_owned(), (*why).to_owned())).collect();
    wait_until("each is pinned for its reason", PATIENCE, || states(&node, "alice") == wanted);
    wait_parked(&node, "bob");
    let metrics = node.http("/metrics");
    assert!(metrics.contains("tidegate_sessions_parked{target=\"shop\"} 9"), "{metrics}");
    assert!(metrics.contains("tidegate_sessions_pinned{reason=\"an advisory lock\"} 1"), "{metrics}");
    assert!(node.done(&["session", "list"]).contains("pinned: a cursor"));

    // Somebody else has the connections meanwhile, all of them. They are back when they have been reset.
    let left: std::collections::BTreeSet<&str> = moving.iter().map(|(_, pid)| pid.as_str()).collect();
    let pids_left = left.iter().copied().collect::<Vec<_>>().join(", ");
    let back = format!("application_name = 'tidegate' and pid in ({pids_left})");
    wait_until("they are back", PATIENCE, || node.place.count(&back) as usize == left.len());
    let others: Vec<Client> = moving.iter().map(|_| bob.login()).collect();
    let taken: Vec<String> = others
        .iter()
        .map(|client| {
            client.run("set work_mem to '7MB'; set datestyle to 'SQL'");
            client.run("begin");
            client.backend_pid()
        })
        .collect();
    assert!(moving.iter().all(|(_, pid)| taken.contains(pid)), "the very connections");
    for ((client, before), (sql, look, shown)) in moving.iter().zip(RESTORED) {
        assert_eq!(client.one(look), shown, "{sql}");
        assert_ne!(&client.backend_pid(), before);
        let name = client.one("show application_name");
        assert!(name.starts_with("bob/s-"), "{name}");
        if !sql.contains("work_mem") {
            assert_eq!(client.one("show work_mem"), "4MB", "nothing of the other's: {sql}");
        }
    }
    for ((client, pid), (sql, why, look, shown)) in pinned.iter().zip(&pids).zip(PINNING) {
        assert_eq!(client.one(look), shown, "{sql}: {why}");
        assert_eq!(&client.backend_pid(), pid, "{sql}");
    }
    // Which connection a statement ran on is in the trail.
    let parked = node.wait_event("session_parked", |line| line["user"] == "bob");
    let resumed = node.wait_event("session_resumed", |line| line["session"] == parked["session"]);
    assert_ne!(parked["upstream"], resumed["upstream"]);
}

fn more_sessions_than_connections_take_turns(server: &'static Server) {
    let node = node(server, 1);
    let people: Vec<Person> = ["alice", "bob", "carol"].map(|name| node.person(name, "read")).into();
    let mut clients = Vec::new();
    for person in &people {
        let client = person.login();
        client.run(&format!(
            "set application_name to 'of {}'; set work_mem to '{}MB'",
            person.name,
            4 + clients.len()
        ));
        let prepared =
            block(client.inner.prepare("select $1::int + 1, current_setting('work_mem')")).unwrap();
        wait_parked(&node, &person.name);
        clients.push((client, prepared));
    }
    for round in 0..2 {
        for (at, (client, prepared)) in clients.iter().enumerate() {
            let row = block(client.inner.query_one(prepared, &[&round])).expect("it runs");
            assert_eq!((row.get::<_, i32>(0), row.get::<_, String>(1)), (round + 1, format!("{}MB", 4 + at)));
            assert!(client.one("show application_name").ends_with(&format!(" of {}", people[at].name)));
            assert_eq!(
                client.one("select count(*) from pg_prepared_statements where name not like 's%'"),
                "0"
            );
            wait_parked(&node, &people[at].name);
        }
    }
    // Who holds it in a transaction makes the others wait, and no longer than that.
    clients[0].0.run("begin");
    let waiting = clients[1].0.start("select 'at last'");
    wait_until("bob waits", PATIENCE, || states(&node, "bob")[0].0 == "waiting");
    // Longer than it takes to be parked: with a connection at last, the statement comes before that question.
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    clients[0].0.run("commit");
    assert_eq!(waiting.wait().expect("a turn")[0][0].as_deref(), Some("at last"));
}

fn what_hides_a_catalog_hides_nothing(server: &'static Server) {
    let node = node(server, 4);
    node.place.master().run(&format!("grant temporary on database {} to public", node.place.database));
    let alice = node.person("alice", "read_write");
    let client = alice.login();
    client.run(
        "create temp view pg_settings as select 'x'::text as name, 'y'::text as setting, 'default'::text as source, ''::text as vartype where false;
         create temp view pg_locks as select 1 as pid where false;
         create temp view pg_prepared_statements as select 1 as a where false;
         create temp view pg_depend as select 1 as a where false;
         set search_path to pg_temp, pg_catalog",
    );
    let held = alice.login();
    held.run("select pg_advisory_lock(7); set search_path to public, pg_catalog");
    // Operators and functions of one's own in front of those of the catalog.
    held.run(
        "create function public.always(text, text) returns bool language sql as 'select false';
         create operator public.= (leftarg = text, rightarg = text, function = public.always)",
    );
    wait_until("both are pinned", PATIENCE, || {
        states(&node, "alice").iter().all(|(state, _)| state == "pinned")
    });
    assert_eq!(states(&node, "alice")[0].1, "a temporary object");
    assert_eq!(held.one("select pg_advisory_unlock(7)"), "t");
}

fn functions_that_hide_what_they_do_keep_everybody_where_they_are(server: &'static Server) {
    let node = node(server, 4);
    let alice = node.person("alice", "read_write");
    let client = alice.login();
    assert_eq!(client.one("select 1"), "1");
    wait_parked(&node, "alice");
    // A plain statement that no text could tell.
    node.place.master().run(
        "create function remember(what text) returns text language plpgsql as \
           $$ begin return set_config('my.' || 'thing', what, false); end $$;
         create view remembering as select 1 as a",
    );
    let why = "a function whose effects no catalog shows";
    assert_eq!(client.one("select remember('42')"), "42");
    wait_until("alice is pinned", PATIENCE, || states(&node, "alice") == [("pinned".into(), why.into())]);
    assert_eq!(client.one("show my.thing"), "42");
    assert!(node.log().contains("public.remember"), "the log says which");
    // Without it, and in a session that has not used it, parking goes on.
    client.close();
    node.place.master().run("drop function remember(text)");
    let client = alice.login();
    assert_eq!(client.one("select 1"), "1");
    wait_parked(&node, "alice");
    node.place.master().run(
        "create view setting as select set_config('my.thing', 'x', false); grant select on setting to public",
    );
    assert_eq!(client.one("select * from setting"), "x");
    wait_until("alice is pinned", PATIENCE, || states(&node, "alice") == [("pinned".into(), why.into())]);
    // The operator may accept it, or have nobody parked.
    let accepting = Options { target: "park_accepts = [\"functions\"]", ..Options::default() };
    node.write("target.toml", &node.target_file(&accepting));
    node.done(&["apply", "target.toml"]);
    assert_eq!(client.one("select 1"), "1");
    wait_parked(&node, "alice");
    let never = Options { target: "park = \"never\"", ..Options::default() };
    node.write("target.toml", &node.target_file(&never));
    node.done(&["apply", "target.toml"]);
    let pid = client.backend_pid();
    std::thread::sleep(Duration::from_millis(2_500));
    assert_eq!(states(&node, "alice")[0].0, "idle");
    assert_eq!(client.backend_pid(), pid);
    assert!(node.done(&["export"]).contains("park = \"never\""));
}

fn prepared_statements_are_put_back_or_are_an_error(server: &'static Server) {
    let node = node(server, 2);
    node.place.master().run("create table fleeting as select 42 as a; grant select on fleeting to public");
    let alice = node.person("alice", "read");
    let mut wire = alice.wire(&[]);
    let parse = |name: &str, sql: &str| packet('P', &[string(name), string(sql), vec![0, 0]].concat());
    let run = |name: &str| {
        let bind = packet('B', &[string(""), string(name), vec![0; 6]].concat());
        [bind, packet('E', &[string(""), vec![0; 4]].concat()), packet('S', &[])].concat()
    };
    wire.send(
        &[
            parse("gone", "select a from fleeting"),
            parse("here", "select 7"),
            parse("", "select 9"),
            packet('S', &[]),
        ]
        .concat(),
    );
    assert_eq!(wire.tags(), "111Z");
    wait_parked(&node, "alice");
    node.place.master().run("drop table fleeting");
    // One after the other, on a connection that is new to them.
    wire.send(&run(""));
    assert_eq!(wire.tags(), "2DCZ");
    wire.send(&run("here"));
    assert_eq!(wire.tags(), "2DCZ");
    wire.send(&run("gone"));
    let error = wire.read().expect("an answer");
    assert_eq!(error.told().code, "26000", "the statement does not exist any more");
    assert_eq!(wire.tags(), "Z");
    wait_parked(&node, "alice");
    wire.send(&[run("here"), run("here")].concat());
    assert_eq!(wire.tags(), "2DCZ");
    assert_eq!(wire.tags(), "2DCZ");
}

fn a_parked_session_ends_in_every_way(server: &'static Server) {
    let options = Options {
        limits: "park_seconds = 1\nidle_seconds = 12",
        pool: "size_max = 1\nwait_seconds_max = 3",
        ..Options::default()
    };
    let node = Node::with(server.place(), options);
    let people = ["revoked", "killed", "late", "idle", "gone"].map(|name| (name, node.user(name)));
    let grants = people.each_ref().map(|(name, _)| node.grant(name, "read", "1h", &[]));
    let parked = |at: usize| {
        let client = people[at].1.login();
        assert_eq!(client.one("select 1"), "1");
        wait_parked(&node, people[at].0);
        client
    };
    let revoked = parked(0);
    node.done(&["grant", "revoke", &grants[0]]);
    assert!(revoked.end().expect_err("cut").message.starts_with("TG004"));
    let killed = parked(1);
    node.done(&["session", "kill", &node.session_of("killed")]);
    assert!(killed.end().expect_err("cut").message.starts_with("TG018"));

    // Who holds the only connection makes a parked session wait.
    let idle = parked(3);
    let gone = parked(4);
    let late = parked(2);
    let holder = node.person("holder", "read").login();
    holder.run("begin");
    let wish = late.start("select 'never'");
    wait_until("it waits", PATIENCE, || states(&node, "late")[0].0 == "waiting");
    node.done(&["grant", "revoke", &grants[2]]);
    assert!(wish.told().message.starts_with("TG004"));
    node.place.wait_quiet_but(1, CUT);
    // The pool's own limit is an error that says so.
    let told = gone.start("select 'no'").told();
    assert_eq!((told.code.as_str(), &told.message[..5]), ("53300", "TG010"), "{told:?}");
    let told = idle.end().expect_err("idle for too long, parked or not");
    assert!(told.message.starts_with("TG015"), "{told:?}");
    let end = node.wait_event("session_end", |line| line["user"] == "idle");
    assert_eq!((&end["how"], &end["error_delivered"]), (&"cut".into(), &true.into()), "{end}");
}

fn the_end_of_access_is_told_ahead(server: &'static Server) {
    let options = Options { limits: "park_seconds = 1\nnotice_seconds = 5", ..Options::default() };
    let node = Node::with(server.place(), options);
    let alice = node.user("alice");
    let grant = node.grant("alice", "read", "8s", &[]);
    let mut wire: Wire = alice.wire(&[]);
    assert!(wire.notices.is_empty(), "{:?}", wire.notices);
    let notice = wire.read().expect("a notice while it is idle");
    assert_eq!(notice.tag, 'N');
    let text = notice.field(b'M');
    assert!(text.starts_with("your access ends at "), "{text}");
    // Another end, another notice.
    node.done(&["grant", "extend", &grant, "--for", "3s"]);
    let again = wire.read().expect("the next");
    assert!(again.tag == 'N' && again.field(b'M') != text, "{again:?}");
    assert!(wire.read().expect("the end").told().message.starts_with("TG003"));
}

#[test]
fn a_cancel_of_a_parked_session_does_nothing() {
    let node = node(shared(Version::Distribution), 1);
    let (alice, bob) = (node.person("alice", "read"), node.person("bob", "read"));
    let parked = alice.login();
    assert_eq!(parked.one("select 1"), "1");
    wait_parked(&node, "alice");
    let sleeping = bob.login().start("select pg_sleep(2), 'whole'");
    node.place.wait_running("pg_sleep");
    let token = parked.inner.cancel_token();
    block(token.cancel_query(tokio_postgres::NoTls)).expect("it is taken");
    node.wait_event("cancel", |line| line["user"] == "alice" && line["sent"] == false);
    assert_eq!(sleeping.wait().expect("untouched")[0][1].as_deref(), Some("whole"));
}

/// A vertical tab is white space since PostgreSQL 16.
#[test]
fn white_space_that_newer_servers_know_hides_no_setting() {
    let node = node(shared(Version::Newest), 1);
    let client = node.person("alice", "read").login();
    client.run("set my\x0b.thing = '42'");
    let pinned = ("pinned".to_owned(), "a setting that no catalog shows".to_owned());
    wait_until("alice is pinned", PATIENCE, || states(&node, "alice") == [pinned.clone()]);
    assert_eq!(client.one("show my.thing"), "42");
}

#[test]
fn discarding_everything_unpins() {
    let node = node(shared(Version::Distribution), 2);
    let alice = node.person("alice", "read_write");
    let client = alice.login();
    client.run("set my.thing = 'x'");
    client.run("prepare p as select 1");
    wait_until("alice is pinned", PATIENCE, || states(&node, "alice")[0].0 == "pinned");
    client.run("discard all");
    wait_parked(&node, "alice");
    assert_eq!(client.one("select 1"), "1");
}
