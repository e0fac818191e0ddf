//! What people did by MySQL's protocol, as the trail tells it.

use serde_json::Value;

use crate::support::mysql::wire::{command, flag};
use crate::support::mysql::{Login, Release, Wire, on_all_releases};
use crate::support::{Node, text};

on_all_releases!(statements_and_their_results_are_told, values_are_told_and_passwords_are_not);

fn statements_and_their_results_are_told(release: Release) {
    let node = Node::mysql(release);
    let mut alice = node.person("alice", "read_write").mysql_login();
    let connection = alice.ask("select connection_id()");
    alice.run("update items set name = 'new' where id <= 10");
    assert_eq!(alice.told("select no_such_column from items").code, "1054");
    alice.run("select 1; select 2 from items");
    let session = node.session_of("alice");
    alice.goodbye();
    let end = node.wait_end_of(&session);
    let lines: Vec<Value> =
        node.trail().into_iter().filter(|line| line["session"] == session.as_str()).collect();
    for line in &lines {
        assert_eq!((&line["user"], &line["target"]), (&"alice".into(), &"shop".into()), "{line}");
    }
    let start = lines.iter().find(|line| line["event"] == "session_start").expect("a beginning");
    assert_eq!((&start["level"], &start["protocol"]), (&"read_write".into(), &"mysql".into()), "{start}");
    assert_eq!(start["upstream"].to_string().trim_matches('"'), connection, "{start}");
    let update = node.wait_statement("update items set name = 'new' where id <= 10");
    assert_eq!(update["database"], node.place.database.as_str(), "{update}");
    let result = node.result_of(&update);
    assert!(result["duration_us"].as_u64().is_some_and(|micros| micros > 0), "{result}");
    assert!(result["tag"].as_str().is_some_and(|tag| tag.contains("10")), "{result}");
    let failed = node.result_of(&node.wait_statement("select no_such_column from items"));
    assert_eq!(failed["sqlstate"], "42S22/1054", "{failed}");
    let both = node.wait_statement("select 1; select 2 from items");
    let of_both = |line: &&Value| line["event"] == "result" && line["number"] == both["number"];
    let rows: u64 = lines.iter().filter(of_both).filter_map(|line| line["rows"].as_u64()).sum();
    assert_eq!(rows, 1001, "all rows of a text of several statements");
    assert_eq!((&end["how"], &end["reused"]), (&"close".into(), &true.into()), "{end}");
    node.done(&["audit", "verify"]);
}

/// The types of attributes that MySQL reads in another way than its documents say: what it takes for the text is what
/// is told. MariaDB has no attributes.
#[test]
fn a_text_hidden_behind_attributes_is_told_whole_by_mysql_9() {
    let node = Node::mysql(Release::MySql9);
    let login = Login { more: flag::QUERY_ATTRIBUTES, ..Login::default() };
    let mut alice = node.person("alice", "read_write").mysql(&login).expect("let in");
    let kinds: [[u8; 2]; 6] = [[9, 0], [13, 0], [6, 0], [3, 1], [8, 1], [254, 127]];
    for (at, kind) in kinds.into_iter().enumerate() {
        let text = format!("select 'hidden {at}'");
        let body = [&[1, 1, 0, 1][..], &kind, b"\x01n\0", text.as_bytes()].concat();
        alice.say(command::QUERY, &body);
        let answers = format!("{:?}", alice.answers());
        assert!(
            answers.contains(&format!("hidden {at}")),
            "the server reads {kind:?} in another way: {answers}"
        );
        node.wait_statement(&text);
    }
}

fn values_are_told_and_passwords_are_not(release: Release) {
    let node = Node::mysql(release);
    let mut alice = node.person("alice", "admin").mysql_login();
    let sql = "select name from items where id = ? or name = ? or name = ?";
    let (id, _) = alice.prepare(sql).expect("prepared");
    alice.send(&Wire::execution(id, 0, &[Some("7"), Some("a täxt"), None]));
    assert_eq!(alice.binary_answers().len(), 1);
    let line = node.wait_event("statement", |line| line.to_string().contains("a täxt"));
    assert_eq!(line["text"], sql, "{line}");
    let values = line["parameters"].to_string();
    assert!(values.contains('7') && values.contains("null"), "{line}");
    // Numbers as the wire has them.
    let (id, _) = alice.prepare("select ?, ?, ?").expect("prepared");
    let mut body = [&id.to_le_bytes()[..], &[0], &1u32.to_le_bytes(), &[0, 1]].concat();
    body.extend([8, 0, 5, 0, 12, 0]);
    body.extend((-42i64).to_le_bytes());
    body.extend(2.5f64.to_le_bytes());
    body.extend([11, 0xea, 7, 2, 28, 12, 34, 56, 0, 0, 0, 0]);
    alice.say(command::STMT_EXECUTE, &body);
    assert_eq!(alice.binary_answers().len(), 1);
    let line = node.wait_event("statement", |line| line["parameters"].to_string().contains("-42"));
    let values = line["parameters"].to_string();
    assert!(values.contains("2.5") && values.contains("2026-02-28"), "{line}");
    for sql in [
        "create user nobody_at_all identified by 'a secret word'",
        "set password = 'a secret word'",
        "alter user nobody_at_all identified by 'a secret word'",
    ] {
        // Refused, or of no effect: the text is in the trail.
        if !sql.starts_with("set") {
            let _ = alice.ask(sql);
        } else {
            let _ = alice.ask(&format!("{sql} for"));
        }
    }
    alice.goodbye();
    node.wait_event("session_end", |_| true);
    let trail = std::fs::read_dir(node.folder.join("state/audit")).expect("the trail").flatten();
    for file in trail {
        let held = text(&std::fs::read(file.path()).unwrap_or_default());
        assert!(!held.contains("a secret word"), "{}", file.path().display());
    }
    let log = node.log();
    assert!(!log.contains("a secret word"));
}
