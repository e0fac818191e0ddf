//! Answers to scripts that are not what they must be.

use super::super::relay::stamped_name;
use super::super::{Job, PostgresFacts, PostgresScript, Settings, frame};
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
    assert!(findings.restored && findings.parameters.is_empty());

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

/// The row of a glance: who, who acts, temporary schema, three leftovers, extensions, languages, history, seed,
/// TimeZone.
fn glanced(columns: [&str; 12]) -> Vec<u8> {
    let mut body = 12u16.to_be_bytes().to_vec();
    for column in columns {
        body.extend_from_slice(&(column.len() as u32).to_be_bytes());
        body.extend_from_slice(column.as_bytes());
    }
    [message(b'T', b"\0\0"), message(b'D', &body), message(b'C', b"SELECT 1\0"), message(b'Z', b"I")].concat()
}

const CLEAN: [&str; 12] = [
    "alice",
    "alice",
    "0",
    "false",
    "false",
    "false",
    "plpgsql",
    "internal\nc\nsql\nplpgsql",
    "false",
    "7:7:",
    "",
    "UTC",
];
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
    assert!(findings.restored && findings.parameters.is_empty());
    let unclean = |what: &str| Some(Report::Unclean(what.into()));
    assert_eq!(end(with(0, "root")), unclean("we are \"root\" acting as \"alice\" there"));
    assert_eq!(end(with(1, "root")), unclean("we are \"alice\" acting as \"root\" there"));
    assert_eq!(end(with(3, "true")), unclean("a prepared statement is left"));
    assert_eq!(end(with(4, "true")), unclean("a cursor is left"));
    // Not a clear no.
    assert_eq!(end(with(5, "")), unclean("a channel that is listened to is left"));
    assert_eq!(end(with(11, "Asia/Tokyo")), unclean("the setting TimeZone is not what it was after login"));
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

/// The rows of a glimpse: who, who acts, temporary schema, history, seed, TimeZone; beside each what is left.
fn glimpsed(values: &[&str], left: [&[&str]; 3]) -> Vec<u8> {
    let count = left.iter().map(|left| left.len()).fold(values.len(), usize::max);
    let mut answer = message(b'T', b"\0\0");
    for at in 0..count {
        let mut body = 4u16.to_be_bytes().to_vec();
        for cell in [values.get(at)].into_iter().chain(left.map(|left| left.get(at))) {
            body.extend_from_slice(&cell.map_or(-1, |cell| cell.len() as i32).to_be_bytes());
            body.extend_from_slice(cell.map_or("", |cell| cell).as_bytes());
        }
        answer.extend(message(b'D', &body));
    }
    [answer, message(b'C', b"SELECT 7\0"), message(b'Z', b"I")].concat()
}

const AT_REST: [&str; 7] = ["alice", "alice", "0", "false", "7:7:", "", "UTC"];

fn known_at(way: &str) -> String {
    format!("{way}\n{KNOWN}")
}

#[test]
fn a_glimpse_is_enough_where_nothing_was_committed() {
    let known = known_at("glimpse 7:7:");
    let glimpse = Job::Glance { in_transaction: false, known: &known, random: 1 };
    let end = |values: &[&str], left| run(glimpse, &[discarded(), glimpsed(values, left)]);
    let with = |at: usize, value: &'static str| {
        let mut values = AT_REST;
        values[at] = value;
        end(&values, [&[]; 3]).1
    };
    let Some(Report::Done(findings)) = end(&AT_REST, [&[]; 3]).1 else { panic!() };
    assert_eq!((findings.catalogs, findings.glanced), (None, None), "it did not look");
    assert!(findings.restored && findings.parameters.is_empty());
    let unclean = |what: &str| Some(Report::Unclean(what.into()));
    assert_eq!(with(0, "root"), unclean("we are \"root\" acting as \"alice\" there"));
    assert_eq!(with(1, "root"), unclean("we are \"alice\" acting as \"root\" there"));
    assert_eq!(with(6, "Asia/Tokyo"), unclean("the setting TimeZone is not what it was after login"));
    // One of each, in any number, also more than there are values; and what has no text but is there.
    let many = ["x"; 9];
    for some in [&[""][..], &["(a)"], &["(a)", "(b)"], &many] {
        for (left, what) in [
            ([some, &[], &[]], "a prepared statement is left"),
            ([&[], some, &[]], "a cursor is left"),
            ([&[], &[], some], "a channel that is listened to is left"),
        ] {
            assert_eq!(end(&AT_REST, left).1, unclean(what));
        }
    }
    // Too few values, too many, columns that were not asked for, none.
    let more = [&AT_REST[..], &["x"]].concat();
    for values in [&AT_REST[..6], &AT_REST[..4], &more, &[]] {
        let (end, report) = end(values, [&[]; 3]);
        assert!(report.is_none() && end.starts_with("error"), "{values:?}: {end}");
    }
    let (end, report) = run(glimpse, &[discarded(), glanced(CLEAN)]);
    assert!(report.is_none() && end.starts_with("error"), "{end}");
}

#[test]
fn a_glimpse_that_sees_another_history_is_followed_by_a_glance() {
    let known = known_at("glimpse 7:7:");
    let glimpse = Job::Glance { in_transaction: false, known: &known, random: 1 };
    let glanced_at = |snapshot: &'static str, extensions: &'static str| {
        let mut columns = CLEAN;
        (columns[6], columns[9]) = (extensions, snapshot);
        glanced(columns)
    };
    let later = glimpsed(&["alice", "alice", "0", "false", "7:8:7", "", "UTC"], [&[]; 3]);
    assert!(run(glimpse, &[discarded(), later.clone()]).1.is_none(), "the glimpse alone is not enough");
    // Nothing but that is new: the next one glances at once, and one that finds the same history again after it
    // may be followed by a glimpse.
    let turns = [discarded(), later.clone(), glanced_at("7:8:7", "plpgsql")];
    let Some(Report::Done(findings)) = run(glimpse, &turns).1 else { panic!() };
    assert_eq!(
        (findings.catalogs, findings.fingerprint.as_str()),
        (None, ""),
        "it looked at the names alone"
    );
    assert_eq!(findings.glanced.as_deref(), Some(&known_at("glance 7:8:7")[..]));
    for (snapshot, next) in [("7:8:7", "glimpse 7:8:7"), ("9:9:", "glance 9:9:")] {
        let known = known_at("glance 7:8:7");
        let glance = Job::Glance { in_transaction: false, known: &known, random: 1 };
        let turns = [discarded(), glanced_at(snapshot, "plpgsql")];
        let Some(Report::Done(findings)) = run(glance, &turns).1 else { panic!() };
        assert_eq!(findings.glanced.as_deref(), Some(&known_at(next)[..]));
    }
    // A new extension is seen, and the whole is asked for.
    let new = [US, ["extension", "dblink", ""], ["snapshot", "8:8:", "false"]];
    let turns = [discarded(), later.clone(), glanced_at("7:8:7", "plpgsql\ndblink"), answer(&new, b'I')];
    assert!(run(glimpse, &turns[..3]).1.is_none());
    let Some(Report::Done(findings)) = run(glimpse, &turns).1 else { panic!() };
    assert_eq!(findings.catalogs.as_deref(), Some("glimpse 8:8:\nextension dblink"));
    assert_eq!(findings.stateful, ["dblink"]);
    // What is left is left, whatever was committed.
    let dirty = glimpsed(&["alice", "alice", "0", "false", "9:9:", "", "UTC"], [&[], &["(a)"], &[]]);
    let left = Some(Report::Unclean("a cursor is left".into()));
    assert_eq!(run(glimpse, &[discarded(), dirty]).1, left);
    // A temporary schema calls for the whole at once.
    let temporary = glimpsed(&["alice", "alice", "16403", "false", "7:7:", "", "UTC"], [&[]; 3]);
    assert!(run(glimpse, &[discarded(), temporary.clone()]).1.is_none());
    let left = answer(&[US, ["leftover", "a temporary object", ""]], b'I');
    let unclean = Some(Report::Unclean("a temporary object is left".into()));
    assert_eq!(run(glimpse, &[discarded(), temporary, left]).1, unclean);
}

#[test]
fn a_standby_and_an_older_server_are_glanced_at() {
    // The same history says nothing on a standby.
    let known = known_at("glimpse 7:7:");
    let job = Job::Glance { in_transaction: false, known: &known, random: 1 };
    let follows = glimpsed(&["alice", "alice", "0", "true", "7:7:", "", "UTC"], [&[]; 3]);
    assert!(run(job, &[discarded(), follows.clone()]).1.is_none());
    let mut columns = CLEAN;
    columns[8] = "true";
    let Some(Report::Done(findings)) = run(job, &[discarded(), follows, glanced(columns)]).1 else {
        panic!()
    };
    assert_eq!(findings.glanced, None);
    let look = answer(&[US, ["snapshot", "7:7:", "true"]], b'I');
    let Some(Report::Done(findings)) = run(Job::Reset { in_transaction: false }, &[discarded(), look]).1
    else {
        panic!()
    };
    assert_eq!(findings.catalogs.as_deref(), Some("glance 7:7:\n"));
    // One that tells no history is never asked for it.
    let facts = PostgresFacts { version: "12.22".into(), ..kit::postgres::facts() };
    let glance = Job::Glance { in_transaction: false, known: KNOWN, random: 1 };
    for job in [Job::Probe, Job::Reset { in_transaction: false }, glance] {
        let mut machine = PostgresScript::run(job, &facts);
        let said = kit::run(&mut machine, &mut |_| None, &mut kit::whole).0.said;
        assert!(!String::from_utf8_lossy(&said).contains("snapshot"), "{job:?}");
    }
    let columns = [&CLEAN[..8], &CLEAN[10..]].concat();
    let mut body = (columns.len() as u16).to_be_bytes().to_vec();
    for column in columns {
        body.extend_from_slice(&(column.len() as u32).to_be_bytes());
        body.extend_from_slice(column.as_bytes());
    }
    let row = [message(b'T', b"\0\0"), message(b'D', &body), message(b'C', b"SELECT 1\0")].concat();
    let turns = [discarded(), row, message(b'Z', b"I")];
    let turns: Vec<&[u8]> = turns.iter().map(Vec::as_slice).collect();
    let mut machine = PostgresScript::run(glance, &facts);
    let (_, report) = kit::run(&mut machine, &mut kit::script(&turns), &mut kit::whole);
    let Some(Report::Done(findings)) = report else { panic!("{report:?}") };
    assert_eq!((findings.catalogs, findings.glanced), (None, None));
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
        // Of the database, which the role owns.
        &[["applied to the database", "search_path", "evil"]],
        &[["database", "shop", "search_path=a"], ["applied to the database", "search_path", "evil"]],
        &[path, ["applied to the database", "search_path", "a, b"]],
    ] {
        assert!(matches!(run(rows), Some(Report::Unclean(_))), "{rows:?}");
    }
    for rows in [
        &[["database", "shop", "search_path=a"], ["applied to the database", "search_path", "a"]][..],
        &[["database", "shop", "work_mem=1GB"], ["applied to the database", "work_mem", "1048576"]],
    ] {
        assert!(matches!(run(rows), Some(Report::Done(_))), "{rows:?}");
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
    let value = message(b'V', b"\0\0\0\x01x");
    let error = |code: &str| message(b'E', format!("SERROR\0VERROR\0C{code}\0Mno\0\0").as_bytes());
    let ready = message(b'Z', b"I");
    let taken = [value.clone(), ready.clone()].concat();
    let fail = |count: usize, code: &str| {
        // The server goes on with the next one.
        let (before, behind) = (taken.repeat(count), taken.repeat(3 - count));
        let turn = [before, error(code), ready.clone(), behind].concat();
        let Some(Report::Refused(error)) = run(job, &[turn]).1 else { panic!() };
        (error.kind, error.message)
    };
    // Our own, then theirs in order, the encoding last.
    for (count, name) in [(0, "application_name"), (1, "a"), (2, "b"), (3, "client_encoding")] {
        assert_eq!(fail(count, "22023"), (ServerErrorKind::BadParameter, name.into()));
    }
    assert_eq!(fail(1, "57P01").0, ServerErrorKind::Unready);
    assert_eq!(fail(1, "42501"), (ServerErrorKind::BadParameter, "a".into()));
    // The first that failed, where two did.
    let two = [error("22023"), ready.clone(), taken.clone(), error("22023"), ready.clone(), taken.clone()];
    let Some(Report::Refused(first)) = run(job, &[two.concat()]).1 else { panic!() };
    assert_eq!(first.message, "application_name");
    // All taken: done only when each has been answered, and at rest.
    let Some(Report::Done(_)) = run(job, &[taken.repeat(4)]).1 else { panic!() };
    assert!(run(job, &[taken.repeat(3)]).1.is_none());
    let open = [taken.repeat(3), value, message(b'Z', b"T")].concat();
    assert_eq!(run(job, &[open]).1, Some(Report::Unclean("a transaction is open".into())));
    for stray in [message(b'D', b"\0\x01\0\0\0\x01x"), message(b'C', b"SELECT 1\0"), ready] {
        assert!(run(job, &[stray]).0.starts_with("error"));
    }
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
        assert!(!is_hostile || header.tag == b'F', "{}", rest[..header.total].escape_ascii());
        tags.push(header.tag.into());
        rest = &rest[header.total..];
    }
    // Calls of a function, by its number.
    assert_eq!(tags, "FF");
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
