//! What people did, as the trail tells it.

use serde_json::{Value, json};

use crate::support::client::config;
use crate::support::wire::{packet, string};
use crate::support::{Node, PATIENCE, Server, Version, block, on_both_servers, shared, text, wait_until};

on_both_servers!(statements_and_their_results_are_told, bound_values_are_decoded_by_their_type);

fn statements_and_their_results_are_told(server: &'static Server) {
    let node = Node::start(server);
    let alice = node.person("alice", "read_write").login();
    let pid = alice.backend_pid();
    alice.run("update items set name = 'new' where id <= 10");
    assert_eq!(alice.told("select no_such_column from items").code, "42703");
    alice.rows("select 1; select 2 from items").expect("two");
    let session = node.session_of("alice");
    alice.close();
    node.wait_event("session_end", |line| line["session"] == session.as_str());
    let lines: Vec<Value> =
        node.trail().into_iter().filter(|line| line["session"] == session.as_str()).collect();
    let names: Vec<&str> = lines.iter().filter_map(|line| line["event"].as_str()).collect();
    assert_eq!(names[..2], ["login_accepted", "session_start"], "{names:?}");
    assert_eq!(names.last(), Some(&"session_end"));
    for line in &lines {
        assert_eq!((&line["user"], &line["target"]), (&"alice".into(), &"shop".into()), "{line}");
        assert!(line["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{line}");
    }
    let start = &lines[1];
    assert_eq!((&start["upstream"], &start["level"]), (&pid.into(), &"read_write".into()), "{start}");
    let update = node.wait_statement("update items set name = 'new' where id <= 10");
    assert_eq!(
        (&update["kind"], &update["database"]),
        (&"simple".into(), &node.place.database.as_str().into())
    );
    let result = node.result_of(&update);
    assert_eq!((&result["tag"], &result["rows"]), (&"UPDATE 10".into(), &10.into()), "{result}");
    assert!(result["duration_us"].as_u64().is_some_and(|micros| micros > 0), "{result}");
    assert!(result["bytes_down"].as_u64().is_some_and(|bytes| bytes > 0), "{result}");
    let failed = node.result_of(&node.wait_statement("select no_such_column from items"));
    assert_eq!(failed["sqlstate"], "42703", "{failed}");
    let both = node.wait_statement("select 1; select 2 from items");
    let of_both = |line: &&Value| line["event"] == "result" && line["number"] == both["number"];
    let rows: u64 = lines.iter().filter(of_both).filter_map(|line| line["rows"].as_u64()).sum();
    assert_eq!(rows, 1001, "all rows of a text of several statements");
    let end = lines.last().expect("lines");
    assert_eq!(
        (&end["how"], &end["reused"], &end["statements"]),
        (&"close".into(), &true.into(), &4.into()),
        "{end}"
    );
    // In the order of the sequence, without a gap.
    let numbers: Vec<u64> = node.trail().iter().filter_map(|line| line["seq"].as_u64()).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    node.done(&["audit", "verify"]);
}

fn bound_values_are_decoded_by_their_type(server: &'static Server) {
    let node = Node::start(server);
    let alice = node.person("alice", "read").login();
    let when = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_764_000_000);
    let sql = "select $1::int4, $2::int8, $3::bool, $4::text, $5::float8, $6::bytea, $7::timestamptz, $8::text, $9::int2";
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 9] = [
        &-7i32,
        &9_000_000_000i64,
        &true,
        &"it's ä",
        &2.5f64,
        &&b"\x00\xff"[..],
        &when,
        &None::<String>,
        &3i16,
    ];
    block(alice.inner.query(sql, &values)).expect("a row");
    let line = node.wait_statement(sql);
    let expected =
        json!([-7, 9_000_000_000i64, true, "it's ä", 2.5, "\\x00ff", "2025-11-24 16:00:00+00", null, 3]);
    let shown = line["parameters"].as_array().unwrap_or_else(|| panic!("no values in {line}"));
    // Numbers and texts that say the same are the same to a reader.
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    for (i, (shown, expected)) in shown.iter().zip(expected.as_array().expect("a list")).enumerate() {
        let same = plain(shown) == plain(expected) || (i == 6 && plain(shown).starts_with("2025-11-24"));
        assert!(same, "value {}: {shown} for {expected}", i + 1);
    }
    assert_eq!(shown.len(), 9);
    assert_eq!(line["kind"], "extended");
}

#[test]
fn a_prepared_statement_is_told_when_it_is_made_and_when_it_runs() {
    let node = Node::start(shared(Version::Distribution));
    let mut wire = node.person("alice", "read").wire(&[]);
    let bind = |value: &[u8]| {
        let value = [&(value.len() as u32).to_be_bytes()[..], value].concat();
        packet('B', &[&[0][..], b"s1\0", &[0, 0, 0, 1], &value, &[0, 0]].concat())
    };
    let execute = packet('E', &[0, 0, 0, 0, 0]);
    wire.send(&packet('P', &[b"s1\0", &string("select $1 || 'x'")[..], &[0, 1, 0, 0, 0, 25]].concat()));
    wire.send(&[bind(b"one"), execute.clone(), bind(b"two"), execute, packet('S', &[])].concat());
    assert_eq!(wire.tags(), "12DC2DCZ");
    node.wait_event("prepare", |line| line["name"] == "s1" && line["text"] == "select $1 || 'x'");
    for value in ["one", "two"] {
        let line = node.wait_event("statement", |line| line["parameters"] == json!([value]));
        assert_eq!((&line["prepared"], &line["text"]), (&"s1".into(), &"select $1 || 'x'".into()));
        assert_eq!(node.result_of(&line)["tag"], "SELECT 1");
    }
}

#[test]
fn long_texts_are_cut_and_their_length_is_kept() {
    let node = Node::start(shared(Version::Distribution));
    let alice = node.person("alice", "read").login();
    let sql = format!("select length('{}') as a_long_one", "ä".repeat(100_000));
    assert_eq!(alice.one(&sql), "100000");
    let line = node.wait_event("statement", |line| line["text_bytes"].is_number());
    assert_eq!(line["text_bytes"], sql.len());
    let kept = line["text"].as_str().expect("a text");
    assert!(
        kept.len() <= 32 << 10 && sql.starts_with(kept.trim_end_matches(['\u{fffd}', '…'])),
        "{} bytes",
        kept.len()
    );
    // Text that is not UTF-8 is told all the same.
    let mut wire = node.credential("alice", "1h").wire(&[("client_encoding", "LATIN1")]);
    wire.send(&packet('Q', b"select 'caf\xe9' as latin\0"));
    assert_eq!(wire.tags(), "TDCZ");
    node.wait_event("statement", |line| line["text"].as_str().is_some_and(|text| text.contains("as latin")));
}

#[test]
fn secrets_are_nowhere_but_where_they_belong() {
    let node = Node::start(shared(Version::Distribution));
    let alice = node.person("alice", "admin");
    let client = alice.login();
    client.told("alter role nobody_here password 'hush-hush-1'");
    client.told("create user MAPPED with encrypted password 'hush-hush-2' valid until 'infinity'");
    client.told(&format!("alter role {} PASSWORD\n E'hush-hush-3'", node.place.role("read")));
    let _ = crate::support::refused(&config(node.port, "alice", "wrong-secret-hush", None));
    client.close();
    node.wait_event("session_end", |line| line["user"] == "alice");
    node.signal(rustix::process::Signal::TERM);
    node.wait_ended(PATIENCE);
    let mut looked_at = 0;
    let mut folders = vec![node.folder.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                if !path.ends_with("secrets") {
                    folders.push(path);
                }
                continue;
            }
            let contents = text(&std::fs::read(&path).unwrap_or_default());
            for secret in
                ["hush-hush", "wrong-secret", alice.secret.as_str(), crate::support::server::ROLE_PASSWORD]
            {
                assert!(!contents.contains(secret), "{} holds {secret:?}", path.display());
            }
            looked_at += 1;
        }
    }
    assert!(looked_at > 5);
    assert!(
        node.trail()
            .iter()
            .any(|line| line["text"].as_str().is_some_and(|text| text.contains("nobody_here")))
    );
}

#[test]
fn every_administrative_change_says_who_before_and_after() {
    let node = Node::start(shared(Version::Distribution));
    node.person("alice", "read");
    let grant = node.grant("alice", "read_write", "1h", &["--reason", "ticket 7"]);
    node.done(&["grant", "revoke", &grant]);
    node.done(&["user", "remove", "alice"]);
    let made = node.wait_admin("grant.create", &grant);
    assert!(made["before"].is_null() && made["after"]["level"] == "read_write", "{made}");
    assert_eq!(made["after"]["reason"], "ticket 7", "{made}");
    let uid = rustix::process::getuid().as_raw();
    assert_eq!(made["actor"]["local"]["uid"], uid, "{made}");
    let ended = node.wait_admin("grant.revoke", &grant);
    assert!(!ended["before"].is_null() && !ended["after"].is_null(), "{ended}");
    node.wait_admin("user.remove", "alice");
    let trail = node.trail();
    assert!(trail.iter().any(|line| line["action"] == "credential.issue"), "{trail:?}");
    assert!(
        !trail.iter().any(|line| line.to_string().contains("verifier")),
        "verifiers are not for the trail"
    );
}

#[test]
fn the_trail_is_searched_and_followed() {
    let node = Node::start(shared(Version::Distribution));
    let (alice, bob) = (node.person("alice", "read").login(), node.person("bob", "read").login());
    alice.run("select 'a needle'");
    bob.run("select 'another needle'");
    node.wait_statement("select 'another needle'");
    let found = node.done(&["audit", "search", "--user", "alice", "--text", "needle", "--json"]);
    assert!(found.contains("a needle") && !found.contains("another"), "{found}");
    let tail = node.done(&["audit", "tail"]);
    assert!(tail.contains("bob") && tail.contains("needle"), "{tail}");
}

#[test]
fn the_chain_shows_what_was_changed() {
    let node = Node::start(shared(Version::Distribution));
    node.person("alice", "read").login().run("select 'evidence'");
    node.wait_statement("select 'evidence'");
    let file = node.folder.join("state/audit/audit-000001.jsonl");
    let whole = std::fs::read_to_string(&file).expect("the trail");
    let place = whole.find("'evidence'").expect("just written") as u64 + 1;
    let file = std::fs::File::options().write(true).open(file).expect("the trail");
    // In place, as the node goes on appending.
    let write = |text: &str| {
        std::os::unix::fs::FileExt::write_all_at(&file, text.as_bytes(), place).expect("written")
    };
    write("innocent");
    let checked = node.tg(&["audit", "verify"]);
    assert_eq!(checked.status.code(), Some(1), "{}{}", text(&checked.stdout), text(&checked.stderr));
    write("evidence");
    node.done(&["audit", "verify"]);
}

#[test]
fn where_the_trail_cannot_be_written_nothing_runs() {
    let node = Node::start(shared(Version::Distribution));
    let alice = node.person("alice", "read");
    let client = alice.login();
    client.run("select 1");
    // Files that may not grow fail writes as a full disk does.
    node.limit_files("1");
    let mut told = None;
    wait_until("sessions end when the trail fails", PATIENCE, || {
        told = client.rows(&format!("select '{}'", "x".repeat(20_000))).err();
        told.is_some()
    });
    assert!(alice.try_login().is_err(), "somebody comes in unseen");
    assert!(!node.http("/health").starts_with("HTTP/1.1 200"), "it says that it is well");
    node.limit_files("unlimited");
    wait_until("it goes on when there is room", PATIENCE, || alice.try_login().is_ok());
    node.done(&["audit", "verify"]);
}
