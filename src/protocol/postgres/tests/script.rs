//! Answers to scripts that are not what they must be.

use super::super::relay::stamped_name;
use super::super::{Job, PostgresScript, Settings, frame};
use super::message;
use crate::model::limits;
use crate::protocol::kit;
use crate::protocol::session::{Report, ServerErrorKind};

fn run(job: Job<'_>, turns: &[Vec<u8>]) -> (String, Option<Report>) {
    let turns: Vec<&[u8]> = turns.iter().map(Vec::as_slice).collect();
    let mut machine = PostgresScript::run(job, &kit::postgres::facts());
    let (outcome, report) = kit::run(&mut machine, &mut kit::script(&turns), &mut kit::whole);
    (outcome.end, report)
}

fn row(columns: [&str; 3]) -> Vec<u8> {
    let mut body = 3u16.to_be_bytes().to_vec();
    for column in columns {
        body.extend_from_slice(&(column.len() as u32).to_be_bytes());
        body.extend_from_slice(column.as_bytes());
    }
    message(b'D', &body)
}

/// A whole answer to one Query of ours.
fn answer(rows: &[[&str; 3]], status: u8) -> Vec<u8> {
    let rows: Vec<u8> = rows.iter().flat_map(|columns| row(*columns)).collect();
    [message(b'T', b"\0\0"), rows, message(b'C', b"SELECT 1\0"), message(b'Z', &[status])].concat()
}

fn discarded() -> Vec<u8> {
    [message(b'C', b"DISCARD ALL\0"), message(b'Z', b"I")].concat()
}

const US: [&str; 3] = ["identity", "alice", "alice"];

#[test]
fn a_reset_needs_every_proof() {
    let reset = Job::Reset { in_transaction: false };
    let end = |rows: &[[&str; 3]], status| run(reset, &[discarded(), answer(rows, status)]).1.unwrap();
    let unclean = |what: &str| Report::Unclean(what.into());
    let zone = ["reported", "TimeZone", "UTC"];
    let Report::Done(findings) = end(&[US, zone, ["extension", "dblink", ""], ["role", "shop", "a=b"]], b'I')
    else {
        panic!()
    };
    assert_eq!(findings.stateful, ["dblink"]);
    assert_eq!(findings.fingerprint, "role \"shop\": \"a=b\"");
    assert_eq!(findings.parameters, [("TimeZone".into(), "UTC".into())]);

    assert_eq!(end(&[], b'I'), unclean("the server does not say who we are there"));
    assert_eq!(end(&[US], b'T'), unclean("a transaction is open"));
    assert_eq!(end(&[US], b'E'), unclean("a transaction is open"));
    assert_eq!(
        end(&[["identity", "alice", "root"]], b'I'),
        unclean("we are \"alice\" acting as \"root\" there")
    );
    assert_eq!(
        end(&[["identity", "root", "root"]], b'I'),
        unclean("we are \"root\" acting as \"root\" there")
    );
    assert_eq!(end(&[US, ["leftover", "a cursor", ""]], b'I'), unclean("a cursor is left"));
    let other = unclean("the setting TimeZone is not what it was after login");
    assert_eq!(end(&[US, ["reported", "TimeZone", "Asia/Tokyo"]], b'I'), other);
    // Only reported on the way.
    let report = message(b'S', b"TimeZone\0Asia/Tokyo\0");
    assert_eq!(run(reset, &[discarded(), report, answer(&[US], b'I')]).1.unwrap(), other);
}

/// The row of a glance: who, who acts, temporary schema, three leftovers, extensions, languages, seed, TimeZone.
fn glanced(columns: [&str; 10]) -> Vec<u8> {
    let mut body = 10u16.to_be_bytes().to_vec();
    for column in columns {
        body.extend_from_slice(&(column.len() as u32).to_be_bytes());
        body.extend_from_slice(column.as_bytes());
    }
    [message(b'T', b"\0\0"), message(b'D', &body), message(b'C', b"SELECT 1\0"), message(b'Z', b"I")].concat()
}

const CLEAN: [&str; 10] =
    ["alice", "alice", "0", "false", "false", "false", "plpgsql", "internal\nc\nsql\nplpgsql", "", "UTC"];
const KNOWN: &str = "extension plpgsql\nlanguage c\nlanguage internal\nlanguage plpgsql\nlanguage sql";

#[test]
fn a_glance_is_enough_where_nothing_is_new() {
    let glance = Job::Glance { in_transaction: false, known: KNOWN, random: 1 };
    let end = |columns| run(glance, &[discarded(), glanced(columns)]).1;
    let with = |at: usize, value: &'static str| {
        let mut columns = CLEAN;
        columns[at] = value;
        columns
    };
    let Some(Report::Done(findings)) = end(CLEAN) else { panic!() };
    assert_eq!((findings.catalogs, findings.fingerprint.as_str()), (None, ""), "it did not look");
    assert_eq!(findings.parameters, [("TimeZone".into(), "UTC".into())]);
    let unclean = |what: &str| Some(Report::Unclean(what.into()));
    assert_eq!(end(with(0, "root")), unclean("we are \"root\" acting as \"alice\" there"));
    assert_eq!(end(with(1, "root")), unclean("we are \"alice\" acting as \"root\" there"));
    assert_eq!(end(with(3, "true")), unclean("a prepared statement is left"));
    assert_eq!(end(with(4, "true")), unclean("a cursor is left"));
    // Not a clear no.
    assert_eq!(end(with(5, "")), unclean("a channel that is listened to is left"));
    assert_eq!(end(with(9, "Asia/Tokyo")), unclean("the setting TimeZone is not what it was after login"));
    // Inside a transaction it is nothing, and only the last word counts.
    let open = [&glanced(CLEAN)[..glanced(CLEAN).len() - 6], &message(b'Z', b"T")[..]].concat();
    assert_eq!(run(glance, &[discarded(), open]).1, unclean("a transaction is open"));
    // Too few columns, too many.
    for short in [row(US), row(["alice", "alice", "0"])] {
        let answer = [message(b'T', b"\0\0"), short].concat();
        assert!(run(glance, &[discarded(), answer]).0.starts_with("error"));
    }
    // No row at all.
    let none = [message(b'T', b"\0\0"), message(b'C', b"SELECT 0\0"), message(b'Z', b"I")].concat();
    assert_eq!(run(glance, &[discarded(), none]).1, unclean("the server does not say who we are there"));
}

#[test]
fn a_glance_that_sees_something_new_asks_for_the_whole() {
    let glance = Job::Glance { in_transaction: false, known: KNOWN, random: 1 };
    for (at, value) in [(2, "16403"), (6, "plpgsql\ndblink"), (7, "internal\nc\nsql"), (6, "")] {
        let mut columns = CLEAN;
        columns[at] = value;
        let turns =
            |rows: &[[&str; 3]]| [discarded(), glanced(columns), answer(&[&[US], rows].concat(), b'I')];
        let new = [["extension", "dblink", ""], ["role", "shop", "a=b"]];
        let Some(Report::Done(findings)) = run(glance, &turns(&new)).1 else { panic!("{at}") };
        assert_eq!(findings.catalogs.as_deref(), Some("extension dblink"));
        assert_eq!(
            (findings.fingerprint.as_str(), &findings.stateful[..]),
            ("role \"shop\": \"a=b\"", &["dblink".to_owned()][..])
        );
        let left = [["leftover", "a temporary object", ""]];
        assert_eq!(run(glance, &turns(&left)).1, Some(Report::Unclean("a temporary object is left".into())));
        assert!(run(glance, &turns(&new)[..2]).1.is_none(), "the glance alone is not enough");
    }
}

#[test]
fn what_is_out_of_step_is_an_error_and_never_clean() {
    let reset = Job::Reset { in_transaction: false };
    for stray in [
        message(b'Z', b"I"),
        message(b'I', b""),
        message(b'1', b""),
        message(b'G', b"\0\0\0"),
        message(b'H', b"\0\0\0"),
        message(b'R', b"\0\0\0\0"),
        message(b'C', b"ROLLBACK\0"),
        message(b'C', b"DISCARD ALL"),
        row(US),
        answer(&[US], b'I'),
        vec![b'Z', 0, 0, 0, 3],
    ] {
        let (end, report) = run(reset, &[stray.clone(), discarded(), answer(&[US], b'I')]);
        assert!(report.is_none() && end.starts_with("error"), "{stray:?}: {end}");
    }
    for malformed in [message(b'D', b"\0\x01\0\0\0\x01x"), message(b'D', b"\0\x03"), message(b'S', b"x")] {
        let rest = [message(b'T', b"\0\0"), malformed].concat();
        assert!(run(reset, &[discarded(), rest]).0.starts_with("error"));
    }
}

#[test]
fn notices_and_notifications_may_come_anywhere() {
    let notice = message(b'N', b"SWARNING\0\0");
    let notification = message(b'A', b"\0\0\0\x07channel\0payload\0");
    let between = [notice, notification].concat();
    let turns = [between.clone(), discarded(), between.clone(), answer(&[US], b'I')];
    assert!(matches!(run(Job::Reset { in_transaction: false }, &turns).1, Some(Report::Done(_))));
}

#[test]
fn a_setting_that_the_role_has_no_more_is_seen() {
    let run = |rows: &[[&str; 3]]| run(Job::Probe, &[answer(&[&[US], rows].concat(), b'I')]).1;
    let path = ["role", "", "search_path=a, b"];
    assert!(matches!(run(&[path, ["applied", "search_path", "a, b"]]), Some(Report::Done(_))));
    assert!(matches!(
        run(&[["role", "", "work_mem=1GB"], ["applied", "work_mem", "1048576"]]),
        Some(Report::Done(_))
    ));
    for rows in [
        &[["applied", "search_path", "a, b"]][..],
        &[path, ["applied", "search_path", "evil"]],
        &[["database", "shop", "search_path=evil"], ["applied", "search_path", "evil"]],
    ] {
        assert!(matches!(run(rows), Some(Report::Unclean(_))), "{rows:?}");
    }
}

#[test]
fn an_error_is_reported_once_all_has_been_answered() {
    let error = message(b'E', b"SERROR\0VERROR\0C25001\0Mno\0\0");
    let ready = message(b'Z', b"I");
    let reset = Job::Reset { in_transaction: false };
    let (end, report) = run(reset, &[[error.clone(), ready.clone()].concat()]);
    assert!(report.is_none(), "{end}");
    let Some(Report::Refused(refused)) = run(reset, &[[error, ready, answer(&[US], b'I')].concat()]).1 else {
        panic!()
    };
    assert_eq!((refused.kind, refused.code.as_str()), (ServerErrorKind::Other, "25001"));
    // A fatal one is the last thing that a server says.
    let fatal = message(b'E', b"SFATAL\0VFATAL\0C57P01\0Mterminating\0\0");
    let Some(Report::Refused(refused)) = run(reset, &[fatal]).1 else { panic!() };
    assert_eq!(refused.kind, ServerErrorKind::Unready);
}

#[test]
fn the_setting_that_failed_is_the_one_that_is_named() {
    let settings = Settings {
        parameters: [("client_encoding", "LATIN1"), ("a", "1"), ("b", "2")]
            .map(|(name, value)| (name.into(), value.into()))
            .to_vec(),
        application_name: None,
    };
    let job = Job::Prepare { stamp: "alice/s-0", settings: &settings };
    let parsed = message(b'1', b"");
    let bound = message(b'2', b"");
    let done = message(b'C', b"SELECT 1\0");
    let value = message(b'D', b"\0\x01\0\0\0\x01x");
    let who = [parsed.clone(), bound.clone(), row(US), done.clone(), parsed].concat();
    let taken = [bound.clone(), value, done].concat();
    let error = |code: &str| message(b'E', format!("SERROR\0VERROR\0C{code}\0Mno\0\0").as_bytes());
    let ready = message(b'Z', b"I");
    let fail = |count: usize, code: &str| {
        let turn = [who.clone(), taken.repeat(count), error(code), ready.clone()].concat();
        let Some(Report::Refused(error)) = run(job, &[turn]).1 else { panic!() };
        (error.kind, error.message)
    };
    // Our own, then theirs in order, the encoding last.
    for (count, name) in [(0, "application_name"), (1, "a"), (2, "b"), (3, "client_encoding")] {
        assert_eq!(fail(count, "22023"), (ServerErrorKind::BadParameter, name.into()));
    }
    assert_eq!(fail(1, "57P01").0, ServerErrorKind::Unready);
    assert_eq!(fail(1, "42501"), (ServerErrorKind::BadParameter, "a".into()));
    // Before the settings it is no setting's fault.
    let Some(Report::Refused(early)) = run(job, &[[error("42501"), ready.clone()].concat()]).1 else {
        panic!()
    };
    assert_eq!((early.kind, early.message.as_str()), (ServerErrorKind::Other, "no"));
    // All taken: done only with the statement closed and at rest.
    let all = [who, taken.repeat(4), message(b'3', b"")].concat();
    let Some(Report::Done(_)) = run(job, &[[all.clone(), ready].concat()]).1 else { panic!() };
    let open = [all, message(b'Z', b"T")].concat();
    assert_eq!(run(job, &[open]).1, Some(Report::Unclean("a transaction is open".into())));
}

#[test]
fn nothing_of_a_client_is_part_of_a_statement() {
    let hostile = "'; DROP TABLE x; --";
    let settings =
        Settings { parameters: vec![("a".into(), hostile.into())], application_name: Some(hostile.into()) };
    let job = Job::Prepare { stamp: "alice/s-0", settings: &settings };
    let mut machine = PostgresScript::run(job, &kit::postgres::facts());
    let (outcome, _) = kit::run(&mut machine, &mut |_| None, &mut kit::whole);
    let mut rest = &outcome.said[..];
    let mut tags = String::new();
    while let Some(header) = frame::peek(rest).unwrap() {
        let is_hostile =
            rest[..header.total].windows(hostile.len()).any(|window| window == hostile.as_bytes());
        assert!(!is_hostile || header.tag == b'B', "{}", rest[..header.total].escape_ascii());
        tags.push(header.tag.into());
        rest = &rest[header.total..];
    }
    assert_eq!(tags, "PBEPBEBECS");
}

#[test]
fn the_person_comes_first_in_the_application_name() {
    assert_eq!(stamped_name("alice/s-0", "psql"), "alice/s-0 psql");
    assert_eq!(stamped_name("alice/s-0", ""), "alice/s-0");
    let long = stamped_name("alice/s-0", &"ä".repeat(100));
    assert!(long.starts_with("alice/s-0 ???") && long.len() <= limits::APPLICATION_NAME_BYTES_MAX);
    assert_eq!(stamped_name(&"a".repeat(80), "psql"), "a".repeat(63));
}

#[test]
fn a_server_cannot_answer_without_end() {
    let endless = message(b'N', b"\0").repeat(limits::SCRIPT_MESSAGES_MAX + 1);
    assert_eq!(run(Job::Ping, &[endless]).0, "error: message header: more messages than we asked for");
}

#[test]
fn a_ping_is_one_round_trip() {
    let pong = [message(b'I', b""), message(b'Z', b"I")].concat();
    assert!(matches!(run(Job::Ping, &[pong]).1, Some(Report::Done(_))));
    let bad = [message(b'I', b""), message(b'Z', b"E")].concat();
    assert_eq!(run(Job::Ping, &[bad]).1, Some(Report::Unclean("a transaction is open".into())));
}
