//! Conversations with a simple model of a server: what each command may be answered with, as whole bytes. Whatever the
//! pieces in which both sides' bytes arrive, all of them pass untouched and the same is noted.

use bytes::BytesMut;
use proptest::prelude::*;

use super::super::capability::{Capabilities, status};
use super::super::packet::{self, put, put_bytes};
use super::super::{command, refusal};
use super::rig::{End, Rig};
use crate::model::{Note, NoteReader, Refusal, StatementKind, Verdict};
use crate::protocol::session::{Boundary, Kill, Killed, Relay, Side, WireError};

const DEPRECATE: Capabilities = Capabilities::DEPRECATE_EOF;

/// A command as one packet.
fn asked(code: u8, body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    command::put(&mut out, code, body);
    out.to_vec()
}

fn query(text: &str) -> Vec<u8> {
    asked(command::QUERY, text.as_bytes())
}

/// What a server says, packet by packet.
struct Said {
    out: BytesMut,
    sequence: u8,
    agreed: Capabilities,
}

impl Said {
    fn new(agreed: Capabilities) -> Self {
        Self { out: BytesMut::new(), sequence: 1, agreed }
    }

    fn from(agreed: Capabilities, sequence: u8) -> Self {
        Self { sequence, ..Self::new(agreed) }
    }

    fn packet(mut self, payload: &[u8]) -> Self {
        put(&mut self.out, self.sequence, |out| out.extend_from_slice(payload));
        self.sequence = self.sequence.wrapping_add(1);
        self
    }

    fn ok(self, affected: u8, flags: u16) -> Self {
        self.packet(&[&[packet::OK, affected, 0][..], &flags.to_le_bytes(), &[0, 0]].concat())
    }

    /// The end of rows.
    fn end(self, flags: u16) -> Self {
        let flags = flags.to_le_bytes();
        match self.agreed.has(DEPRECATE) {
            true => self.packet(&[&[packet::EOF, 0, 0][..], &flags, &[0, 0]].concat()),
            false => self.packet(&[&[packet::EOF, 0, 0][..], &flags].concat()),
        }
    }

    /// So many definitions and their end, where it is sent.
    fn defined(mut self, count: u8, flags: u16) -> Self {
        for _ in 0..count {
            self = self.packet(b"\x03def\x04shop\x01t");
        }
        match count > 0 && !self.agreed.has(DEPRECATE) {
            true => self.packet(&[&[packet::EOF, 0, 0][..], &flags.to_le_bytes()].concat()),
            false => self,
        }
    }

    fn columns(self, count: u8) -> Self {
        self.packet(&[count]).defined(count, 2)
    }

    fn rows(mut self, count: usize) -> Self {
        for at in 0..count {
            let mut row = BytesMut::new();
            put_bytes(&mut row, format!("row {at}").as_bytes());
            self = self.packet(&row);
        }
        self
    }

    fn error(mut self, number: u16) -> Self {
        refusal::put_report(
            &mut self.out,
            self.sequence,
            Capabilities::ALWAYS,
            number,
            "42S02",
            "no such table",
        );
        self.sequence = self.sequence.wrapping_add(1);
        self
    }

    fn prepared(self, id: u32, columns: u8, parameters: u8) -> Self {
        let head = [&[0][..], &id.to_le_bytes(), &[columns, 0, parameters, 0, 0, 0, 0]].concat();
        self.packet(&head).defined(parameters, 2).defined(columns, 2)
    }

    fn bytes(self) -> Vec<u8> {
        self.out.to_vec()
    }
}

/// One command and its answer, and how its results are noted.
#[derive(Debug, Clone)]
struct Turn {
    command: Vec<u8>,
    answer: Vec<u8>,
    noted: Vec<String>,
}

fn turn(command: Vec<u8>, answer: Said, noted: &[&str]) -> Turn {
    Turn { command, answer: answer.bytes(), noted: noted.iter().map(|tag| (*tag).to_owned()).collect() }
}

/// Every kind of turn that needs nothing before it.
fn turns(agreed: Capabilities) -> Vec<Turn> {
    let said = || Said::new(agreed);
    let text = |text: &str| match agreed.has(Capabilities::QUERY_ATTRIBUTES) {
        true => asked(command::QUERY, &[&[0, 1], text.as_bytes()].concat()),
        false => query(text),
    };
    let more = status::MORE_RESULTS | 2;
    let execute = |id: u32| asked(command::STMT_EXECUTE, &[&id.to_le_bytes()[..], &[0, 1, 0, 0, 0]].concat());
    let mut all = vec![
        turn(text("select 1"), said().columns(1).rows(1).end(2), &["ROWS 1"]),
        turn(text("select 2"), said().columns(3).rows(40).end(2), &["ROWS 40"]),
        turn(text("update t set a = 1"), said().ok(3, 2), &["OK 3"]),
        turn(text("selct"), said().error(1064), &["42S02/1064"]),
        turn(
            text("select 1; update t; select 2"),
            said().columns(1).rows(2).end(more).ok(1, more).columns(1).end(2),
            &["ROWS 2", "OK 1", "ROWS 0"],
        ),
        turn(text("select a from broken"), said().columns(1).rows(3).error(1242), &["42S02/1242"]),
        turn(asked(command::PING, b""), said().ok(0, 2), &[]),
        turn(asked(command::INIT_DB, b"shop"), said().ok(0, 2), &["OK 0"]),
        turn(asked(command::STATISTICS, b""), said().packet(b"Uptime: 1  Threads: 2"), &["OK 0"]),
        turn(asked(command::FIELD_LIST, b"t\0"), said().rows(2).end(2), &["ROWS 2"]),
        turn(asked(command::SET_OPTION, &[0, 0]), said().end(2), &["OK 0"]),
        turn(asked(command::STMT_PREPARE, b"select ?, a from t"), said().prepared(7, 2, 1), &[]),
        turn(asked(command::STMT_PREPARE, b"do 1"), said().prepared(8, 0, 0), &[]),
        turn(asked(command::STMT_PREPARE, b"selct"), said().error(1064), &[]),
        turn(execute(99), said().error(1243), &["42S02/1243"]),
        turn(asked(command::STMT_CLOSE, &[99, 0, 0, 0]), said(), &[]),
        turn(asked(command::STMT_RESET, &[99, 0, 0, 0]), said().error(1243), &[]),
    ];
    if agreed.has(Capabilities::MARIADB_PROGRESS) {
        let progress = [packet::ERR, 0xff, 0xff, 1, 1, 2, 0, 0, 0];
        all.push(turn(text("alter table t"), said().packet(&progress).packet(&progress).ok(0, 2), &["OK 0"]));
    }
    if agreed.has(Capabilities::OPTIONAL_RESULTSET_METADATA) && agreed.has(DEPRECATE) {
        all.push(turn(text("select 3"), said().packet(&[2, 0]).rows(2).end(2), &["ROWS 2"]));
        all.push(turn(text("select 4"), said().packet(&[1, 1]).defined(1, 2).rows(2).end(2), &["ROWS 2"]));
    }
    all
}

fn results(notes: &[u8]) -> Vec<String> {
    let mut reader = NoteReader::new(notes);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let results = reader.by_ref().filter_map(|(_, note)| match note {
        Note::Result { tag, sqlstate: b"", .. } => Some(text(tag)),
        Note::Result { sqlstate, .. } => Some(text(sqlstate)),
        _ => None,
    });
    let results = results.collect();
    assert!(!reader.damaged);
    results
}

fn statements(rig: &Rig) -> Vec<(StatementKind, String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let notes = NoteReader::new(&rig.notes).filter_map(|(_, note)| match note {
        Note::Statement { kind, text: shown, parameters, .. } => {
            let values = super::super::value::describe(&parameters);
            let values = if parameters.values.is_empty() {
                String::new()
            } else {
                serde_json::json!(values).to_string()
            };
            Some((kind, text(shown), values))
        }
        _ => None,
    });
    notes.collect()
}

const FORMS: [Capabilities; 5] = [
    Capabilities::NONE,
    DEPRECATE,
    Capabilities(
        DEPRECATE.0 | Capabilities::QUERY_ATTRIBUTES.0 | Capabilities::OPTIONAL_RESULTSET_METADATA.0,
    ),
    Capabilities(Capabilities::MARIADB_PROGRESS.0 | Capabilities::SESSION_TRACK.0),
    Capabilities(DEPRECATE.0 | Capabilities::MARIADB_PROGRESS.0),
];

fn feed_in_pieces(rig: &mut Rig, side: Side, bytes: &[u8], pieces: &mut impl Iterator<Item = usize>) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(pieces.next().unwrap_or(1).clamp(1, rest.len()));
        rig.feed(side, piece);
        rest = behind;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn everything_passes_untouched_in_any_pieces(
        form in 0..FORMS.len(),
        chosen in proptest::collection::vec(any::<prop::sample::Index>(), 1..12),
        pieces in proptest::collection::vec(1usize..60, 1..40),
        pipelined: bool,
    ) {
        let agreed = FORMS[form];
        let all = turns(agreed);
        let chosen: Vec<&Turn> = chosen.iter().map(|index| index.get(&all)).collect();
        let mut pieces = pieces.into_iter().cycle();
        let mut rig = Rig::new(agreed);
        let commands: Vec<u8> = chosen.iter().flat_map(|turn| turn.command.clone()).collect();
        let answers: Vec<u8> = chosen.iter().flat_map(|turn| turn.answer.clone()).collect();
        if pipelined {
            feed_in_pieces(&mut rig, Side::Downstream, &commands, &mut pieces);
            feed_in_pieces(&mut rig, Side::Upstream, &answers, &mut pieces);
        } else {
            for turn in &chosen {
                feed_in_pieces(&mut rig, Side::Downstream, &turn.command, &mut pieces);
                feed_in_pieces(&mut rig, Side::Upstream, &turn.answer, &mut pieces);
            }
        }
        prop_assert_eq!(&rig.end, &None);
        prop_assert!(rig.to_server == commands, "what the server gets");
        prop_assert!(rig.to_client == answers, "what the client gets");
        prop_assert_eq!(rig.relay.boundary(), Boundary::Idle);
        let noted: Vec<String> = chosen.iter().flat_map(|turn| turn.noted.clone()).collect();
        prop_assert_eq!(results(&rig.notes), noted);
    }

    #[test]
    fn no_bytes_break_it(data in proptest::collection::vec(any::<u8>(), 0..400)) {
        super::fuzz_relay(&data);
    }
}

fn rig(agreed: Capabilities) -> Rig {
    Rig::new(agreed)
}

#[test]
fn values_are_noted_with_their_statement() {
    let mut rig = rig(DEPRECATE);
    rig.feed(Side::Downstream, &asked(command::STMT_PREPARE, b"select ?, ?"));
    rig.feed(Side::Upstream, &Said::new(DEPRECATE).prepared(5, 2, 2).bytes());
    let execute =
        |rest: &[u8]| asked(command::STMT_EXECUTE, &[&[5, 0, 0, 0, 0, 1, 0, 0, 0][..], rest].concat());
    rig.feed(Side::Downstream, &execute(b"\0\x01\x03\0\xfe\0\x07\0\0\0\x02hi"));
    rig.feed(Side::Upstream, &Said::new(DEPRECATE).columns(2).rows(1).end(2).bytes());
    // The types are not sent again.
    rig.feed(Side::Downstream, &execute(b"\x01\0\x02yo"));
    rig.feed(Side::Upstream, &Said::new(DEPRECATE).columns(2).end(2).bytes());
    // A value ahead.
    rig.feed(Side::Downstream, &asked(command::STMT_SEND_LONG_DATA, b"\x05\0\0\0\x01\0long long"));
    rig.feed(Side::Downstream, &execute(b"\0\0\x09\0\0\0"));
    rig.feed(Side::Upstream, &Said::new(DEPRECATE).columns(2).end(2).bytes());
    let noted: Vec<String> = statements(&rig).into_iter().map(|(_, _, values)| values).collect();
    assert_eq!(noted, [r#"[7,"hi"]"#, r#"[null,"yo"]"#, r#"[9,{"bytes":9}]"#]);
    assert_eq!(rig.end, None);
}

#[test]
fn the_last_prepared_statement_is_known_before_its_number() {
    let agreed = DEPRECATE;
    let mut rig = rig(agreed);
    rig.feed(Side::Downstream, &asked(command::STMT_PREPARE, b"select ?"));
    let last = b"\xff\xff\xff\xff\0\x01\0\0\0\0\x01\xfe\0\x02hi";
    rig.feed(Side::Downstream, &asked(command::STMT_EXECUTE, last));
    rig.feed(Side::Upstream, &Said::new(agreed).prepared(5, 1, 1).bytes());
    rig.feed(Side::Upstream, &Said::new(agreed).columns(1).rows(1).end(2).bytes());
    assert_eq!(statements(&rig)[0], (StatementKind::Extended, "select ?".into(), r#"["hi"]"#.into()));
    assert_eq!((rig.end, results(&rig.notes)), (None, vec!["ROWS 1".to_owned()]));
}

#[test]
fn rows_of_a_cursor_are_results_of_its_statement() {
    for agreed in [Capabilities::NONE, DEPRECATE] {
        let mut rig = rig(agreed);
        rig.feed(Side::Downstream, &asked(command::STMT_PREPARE, b"select a"));
        rig.feed(Side::Upstream, &Said::new(agreed).prepared(5, 1, 0).bytes());
        rig.feed(Side::Downstream, &asked(command::STMT_EXECUTE, &[5, 0, 0, 0, 1, 1, 0, 0, 0]));
        let open = status::CURSOR_EXISTS | 2;
        let said = Said::new(agreed).packet(&[1]).defined(1, open);
        let said = if agreed == DEPRECATE { said.end(open) } else { said };
        rig.feed(Side::Upstream, &said.bytes());
        assert_eq!(rig.relay.boundary(), Boundary::Idle);
        rig.feed(Side::Downstream, &asked(command::STMT_FETCH, &[5, 0, 0, 0, 2, 0, 0, 0]));
        rig.feed(Side::Upstream, &Said::new(agreed).rows(2).end(open).bytes());
        assert_eq!((rig.end, results(&rig.notes)), (None, vec!["ROWS 0".to_owned(), "ROWS 2".to_owned()]));
    }
}

#[test]
fn refusals_keep_their_place() {
    let mut rig = rig(DEPRECATE);
    rig.judge = |operation| match operation.text.starts_with(b"drop") {
        true => Verdict::Refuse(Refusal::OperationDenied("it drops")),
        false => Verdict::Allow,
    };
    let sent =
        [query("select 1"), query("drop table t"), asked(command::BINLOG_DUMP, b"x"), query("select 2")];
    rig.feed(Side::Downstream, &sent.concat());
    assert_eq!(rig.to_server, [query("select 1"), query("select 2")].concat());
    assert!(rig.to_client.is_empty(), "the first is not answered yet");
    let one = Said::new(DEPRECATE).columns(1).rows(1).end(2).bytes();
    rig.feed(Side::Upstream, &[one.clone(), one.clone()].concat());
    let mut due = BytesMut::from(&one[..]);
    refusal::put_error(&mut due, 1, Capabilities::ALWAYS, &Refusal::OperationDenied("it drops"));
    refusal::put_error(&mut due, 1, Capabilities::ALWAYS, &Refusal::NotSupported("replication"));
    due.extend_from_slice(&one);
    assert_eq!(rig.to_client, due);
    assert_eq!(results(&rig.notes), ["ROWS 1", "42000/1227", "42000/1235", "ROWS 1"]);
}

#[test]
fn a_refusal_of_a_long_command_waits_for_its_end_and_has_its_number() {
    let mut rig = rig(DEPRECATE);
    let mut long = vec![0xff, 0xff, 0xff, 0, command::BINLOG_DUMP];
    long.resize(4 + packet::PAYLOAD_MAX, b'x');
    rig.feed(Side::Downstream, &long);
    assert!(rig.to_client.is_empty());
    rig.feed(Side::Downstream, b"\x02\0\0\x01xy");
    assert_eq!((&rig.to_client[3..7], rig.to_server.len()), (&b"\x02\xff\xd3\x04"[..], 0));
    rig.feed(Side::Downstream, &asked(command::PING, b""));
    assert_eq!(rig.to_server, asked(command::PING, b""));
}

#[test]
fn long_packets_pass_in_both_directions() {
    let mut rig = rig(DEPRECATE);
    let mut long = vec![0xff, 0xff, 0xff, 0, command::QUERY];
    long.resize(4 + packet::PAYLOAD_MAX, b'x');
    long.extend_from_slice(b"\0\0\0\x01");
    for piece in long.chunks(1 << 20) {
        rig.feed(Side::Downstream, piece);
    }
    assert!(rig.to_server == long);
    // Its answer begins behind the two packets of the question; its row is as long and goes on in an empty packet.
    let mut said = Said::from(DEPRECATE, 2).columns(1);
    let mut row = vec![0xff, 0xff, 0xff, said.sequence, 0xfe];
    row.resize(4 + packet::PAYLOAD_MAX, b'x');
    row.extend_from_slice(&[0, 0, 0, said.sequence + 1]);
    said.out.extend_from_slice(&row);
    said.sequence += 2;
    let answer = said.rows(1).end(2).bytes();
    for piece in answer.chunks(1 << 20) {
        rig.feed(Side::Upstream, piece);
    }
    assert!(rig.to_client == answer);
    assert_eq!((rig.end, results(&rig.notes)), (None, vec!["ROWS 2".to_owned()]));
}

#[test]
fn another_database_is_entered_only_where_the_grant_covers_it() {
    let mut rig = rig(DEPRECATE);
    for (sent, passes) in [
        (asked(command::INIT_DB, b"hr"), true),
        (asked(command::INIT_DB, b"secret"), false),
        (query("use `hr`"), true),
        (query("/* x */ USE secret"), false),
        (query("select 1; use secret"), false),
        (asked(command::STMT_PREPARE, b"use secret"), false),
    ] {
        let (before, told) = (rig.to_server.len(), rig.to_client.len());
        rig.feed(Side::Downstream, &sent);
        assert_eq!(rig.to_server.len() > before, passes);
        match passes {
            true => rig.feed(Side::Upstream, &Said::new(DEPRECATE).ok(0, 2).bytes()),
            // ER_BAD_DB_ERROR.
            false => assert_eq!(rig.to_client[told + 4..told + 7], [0xff, 0x19, 0x04]),
        }
    }
    assert_eq!(rig.end, None);
}

#[test]
fn other_sessions_are_stopped_by_the_engine_and_answered_in_place() {
    let mut rig = rig(DEPRECATE);
    rig.feed(Side::Downstream, &[query("select 1"), query("kill query 5"), query("select 2")].concat());
    assert_eq!(rig.kills, [Kill { process: 5, ends: false }]);
    assert_eq!(rig.to_server, [query("select 1"), query("select 2")].concat());
    let one = Said::new(DEPRECATE).columns(1).rows(1).end(2).bytes();
    rig.feed(Side::Upstream, &[one.clone(), one].concat());
    assert_eq!(results(&rig.notes), ["ROWS 1", "OK 0", "ROWS 1"]);
    rig.killed = Killed::Unknown;
    rig.feed(Side::Downstream, &asked(command::PROCESS_KILL, &[9, 0, 0, 0]));
    assert_eq!(rig.kills[1], Kill { process: 9, ends: true });
    assert!(rig.to_client.ends_with(b"Unknown thread id"));
    // In a form that is not taken over it goes nowhere.
    let before = rig.to_server.len();
    for sent in [query("select 1; kill 5"), asked(command::STMT_PREPARE, b"kill ?"), query("/*!1 kill 5*/")] {
        rig.feed(Side::Downstream, &sent);
    }
    assert_eq!((rig.to_server.len(), rig.kills.len(), rig.end), (before, 2, None));
}

#[test]
fn after_a_reset_of_the_clients_own_the_stamp_is_put_back() {
    let mut rig = rig(DEPRECATE);
    rig.feed(Side::Downstream, &asked(command::RESET_CONNECTION, b""));
    let ok = Said::new(DEPRECATE).ok(0, 2).bytes();
    rig.feed(Side::Upstream, &ok);
    assert_eq!(
        rig.to_server,
        [asked(command::RESET_CONNECTION, b""), query("SET @tidegate='alice/s-1'")].concat()
    );
    rig.feed(Side::Downstream, &query("select 1"));
    rig.feed(Side::Upstream, &[&ok[..], &Said::new(DEPRECATE).columns(1).end(2).bytes()].concat());
    assert_eq!(rig.to_client, [&ok[..], &Said::new(DEPRECATE).columns(1).end(2).bytes()].concat());
    assert_eq!((rig.end, results(&rig.notes)), (None, vec!["OK 0".to_owned(), "ROWS 0".to_owned()]));
}

// ---------------------------------------------------------------------------------------------
// Files of the client's

const LOCAL: Capabilities = Capabilities(Capabilities::LOCAL_FILES.0 | Capabilities::DEPRECATE_EOF.0);
const LOAD: &str = "load data local infile 'a' into table t";

fn file_packet(sequence: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    put(&mut out, sequence, |out| out.extend_from_slice(bytes));
    out.to_vec()
}

#[test]
fn a_file_that_the_client_offered_passes_and_nothing_in_it_is_a_command() {
    let mut rig = rig(LOCAL);
    // What is sent ahead waits: it could be taken for the file.
    rig.feed(Side::Downstream, &[query(LOAD), query("select 1")].concat());
    assert_eq!(rig.to_server, query(LOAD));
    let mut rig = self::rig(LOCAL);
    rig.feed(Side::Downstream, &query(LOAD));
    let asks = Said::new(LOCAL).packet(b"\xfba").bytes();
    rig.feed(Side::Upstream, &asks);
    assert_eq!(rig.to_client, asks);
    let file = [file_packet(2, b"\x03drop table t"), file_packet(3, b"\x01"), file_packet(4, b"")].concat();
    for byte in &file {
        rig.feed(Side::Downstream, &[*byte]);
    }
    assert_eq!(rig.to_server, [query(LOAD), file].concat());
    rig.feed(Side::Upstream, &Said::from(LOCAL, 5).ok(2, 2).bytes());
    assert_eq!(statements(&rig).len(), 1);
    assert_eq!((rig.end, results(&rig.notes)), (None, vec!["OK 2".to_owned()]));
}

#[test]
fn a_file_that_was_not_offered_is_not_asked_for() {
    for (agreed, text) in [
        (LOCAL, "select 1"),
        (LOCAL, "select 'load data local infile'"),
        (LOCAL, "load data infile 'a' into table t"),
        (DEPRECATE, LOAD),
        // Offered was another one.
        (LOCAL, LOAD),
    ] {
        let mut rig = rig(agreed);
        rig.feed(Side::Downstream, &query(text));
        rig.feed(Side::Upstream, &Said::new(agreed).packet(b"\xfb/etc/passwd").bytes());
        assert!(matches!(rig.end, Some(End::Broken(WireError { place: "LOCAL INFILE", .. }))), "{text}");
        assert!(rig.to_client.is_empty(), "{text}");
    }
}

#[test]
fn nothing_of_a_file_follows_once_the_server_gave_up() {
    let mut rig = rig(LOCAL);
    rig.feed(Side::Downstream, &query(LOAD));
    rig.feed(Side::Upstream, &Said::new(LOCAL).packet(b"\xfba").bytes());
    rig.feed(Side::Downstream, &file_packet(2, b"one"));
    rig.feed(Side::Upstream, &Said::from(LOCAL, 3).error(1317).bytes());
    let sent = rig.to_server.len();
    rig.feed(Side::Downstream, &file_packet(3, b"\x03drop table t"));
    assert_eq!((rig.end, rig.to_server.len()), (Some(End::Closed), sent));
    let mut rig = self::rig(LOCAL);
    rig.feed(Side::Downstream, &query(LOAD));
    rig.feed(Side::Upstream, &Said::new(LOCAL).packet(b"\xfba").bytes());
    rig.feed(Side::Upstream, &Said::from(LOCAL, 2).ok(0, 2).bytes());
    assert!(matches!(rig.end, Some(End::Broken(_))));
}

// ---------------------------------------------------------------------------------------------
// Hostile servers and clients

#[test]
fn an_answer_that_was_not_asked_ends_the_session() {
    let ok = || Said::new(DEPRECATE).ok(0, 2).bytes();
    let answered = |sent: &[u8], said: &[u8]| {
        let mut rig = rig(DEPRECATE);
        rig.feed(Side::Downstream, sent);
        rig.feed(Side::Upstream, said);
        rig
    };
    let said = |payload: &[u8]| Said::new(DEPRECATE).packet(payload).bytes();
    for (sent, said, what) in [
        (vec![], ok(), "nothing was asked"),
        (query("x"), [ok(), ok()].concat(), "answered twice"),
        (query("x"), Said::from(DEPRECATE, 2).ok(0, 2).bytes(), "a wrong number"),
        (query("x"), said(b"\0\xfe\x01"), "an OK that ends early"),
        (query("x"), said(&[0xfc, 1]), "a count that ends early"),
        (query("x"), said(b"\x02\x05"), "metadata of no kind"),
        (query("x"), b"\0\0\0\x01".to_vec(), "an empty packet"),
        (
            query("x"),
            Said::new(DEPRECATE).columns(1).packet(b"\xfe\0").bytes(),
            "an end of rows that ends early",
        ),
        (
            asked(command::PING, b""),
            Said::new(DEPRECATE).ok(0, status::MORE_RESULTS).bytes(),
            "more of a ping",
        ),
        (asked(command::PING, b""), said(b"\x01"), "columns of a ping"),
        (asked(command::STMT_PREPARE, b"x"), said(b"\0\x01\0\0\0\x02\0"), "a short answer to PREPARE"),
        (asked(command::STMT_PREPARE, b"x"), said(b"\0\x01\0\0\0\x02\0\x02\0\0\0\0\0\0\0"), "a long one"),
        (asked(command::STMT_CLOSE, &[1, 0, 0, 0]), ok(), "an answer to CLOSE"),
    ] {
        let rig = answered(&sent, &said);
        assert!(matches!(rig.end, Some(End::Broken(_))), "{what}: {:?}", rig.end);
    }
    // What a server says as it ends a connection is passed on, and that is all.
    let rig = answered(&[], &Said::from(DEPRECATE, 0).error(1927).bytes());
    assert_eq!((rig.end, rig.to_client.len() > 9), (Some(End::Closed), true));
    // What is in the state of a session is between the server and the client.
    let garbage = said(b"\0\0\0\x02\x40\0\0\xfb\xff\xff\xff\xff\xff");
    let rig = answered(&query("x"), &garbage);
    assert_eq!((rig.end, rig.to_client), (None, garbage));
}

#[test]
fn rows_without_end_take_no_memory_and_can_be_cut_between_two() {
    let mut rig = rig(DEPRECATE);
    rig.feed(Side::Downstream, &query("select"));
    rig.feed(Side::Upstream, &Said::new(DEPRECATE).columns(1).bytes());
    let mut sequence = 3;
    for _ in 0..20_000 {
        rig.to_client.clear();
        rig.feed(Side::Upstream, &file_packet(sequence, b"\x05hello"));
        sequence = sequence.wrapping_add(1);
    }
    assert_eq!(rig.end, None);
    // In the middle of a row nothing can be said; at its end an error is what may come next.
    rig.feed(Side::Upstream, &file_packet(sequence, b"\x05hello")[..6]);
    assert!(!rig.relay.at_unit_boundary(Side::Downstream));
    rig.relay.wind_down();
    rig.feed(Side::Upstream, b"\x05hello\x06\0\0\0\x05again"[2..].as_ref());
    assert!(rig.relay.at_unit_boundary(Side::Downstream));
    let mut out = BytesMut::new();
    rig.relay.refuse(&Refusal::Killed, &mut out);
    assert_eq!((out[3], out[4]), (sequence.wrapping_add(1), packet::ERR));
}

#[test]
fn a_client_that_breaks_the_protocol_is_told() {
    for (sent, what) in [
        (b"\x01\0\0\x01\x0e".to_vec(), "a wrong number"),
        (b"\0\0\0\0".to_vec(), "an empty command"),
        (asked(command::INIT_DB, &[b'x'; 20_000]), "an overlong name"),
        (asked(command::STMT_EXECUTE, b"\x01\0"), "an EXECUTE that ends early"),
        (asked(command::STMT_CLOSE, b""), "a CLOSE of nothing"),
        (asked(command::PROCESS_KILL, b"\x01"), "a KILL of nothing"),
    ] {
        let mut rig = rig(DEPRECATE);
        rig.feed(Side::Downstream, &sent);
        assert!(
            matches!(rig.end, Some(End::Refused(Refusal::ProtocolViolation(_)))),
            "{what}: {:?}",
            rig.end
        );
        assert!(rig.to_server.is_empty(), "{what}");
    }
    let mut rig = rig(Capabilities::QUERY_ATTRIBUTES);
    rig.feed(Side::Downstream, &query("\u{5}"));
    assert!(matches!(rig.end, Some(End::Refused(Refusal::ProtocolViolation(_)))));
    // MySQL takes the third of a byte for a number of its own, which has no bytes of its own: the text begins there.
    let mut rig = self::rig(Capabilities::QUERY_ATTRIBUTES);
    rig.feed(Side::Downstream, &asked(command::QUERY, b"\x01\x01\0\x01\x09\0\x01n\0KILL 5"));
    assert_eq!((rig.kills, rig.to_server.len()), (vec![Kill { process: 5, ends: true }], 0));
    // A bulk that was not agreed to goes nowhere, and the session goes on.
    let mut rig = self::rig(DEPRECATE);
    rig.feed(Side::Downstream, &asked(command::STMT_BULK_EXECUTE, &[1, 0, 0, 0, 128, 0]));
    assert_eq!((rig.end, rig.to_server.len()), (None, 0));
}

#[test]
fn a_connection_whose_reset_hides_a_transaction_is_not_lent_again() {
    let mut rig = rig(DEPRECATE);
    rig.relay.is_mariadb = true;
    rig.feed(Side::Downstream, &asked(command::RESET_CONNECTION, b""));
    assert_eq!(rig.to_server, [query("ROLLBACK"), asked(command::RESET_CONNECTION, b"")].concat());
    rig.feed(Side::Upstream, &Said::new(DEPRECATE).error(1399).bytes());
    let ok = Said::new(DEPRECATE).ok(0, 2).bytes();
    rig.feed(Side::Upstream, &ok);
    assert_eq!((rig.to_client, rig.relay.is_spoiled()), (ok, true));
}

#[test]
fn what_did_not_end_is_noted_as_that() {
    let mut rig = rig(DEPRECATE);
    rig.feed(Side::Downstream, &[query("select 1"), asked(command::PING, b""), query("select 2")].concat());
    rig.feed(Side::Upstream, &Said::new(DEPRECATE).columns(1).rows(2).bytes());
    let mut notes = Vec::new();
    rig.relay.unfinished(&mut crate::model::Notes::new(&mut notes, 0), 0);
    assert_eq!(results(&notes), ["unfinished", "unfinished"]);
    assert_eq!(rig.relay.statements(), 2);
}

// ---------------------------------------------------------------------------------------------
// What real servers said

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = text.bytes();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        let escaped = if byte == b'\\' { bytes.next().unwrap() } else { 0 };
        out.push(match escaped {
            0 => byte,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'x' => {
                let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            other => other,
        });
    }
    out
}

/// All that is noted, a line each.
fn noted(notes: &[u8]) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let lines = NoteReader::new(notes).map(|(_, note)| match note {
        Note::Statement { number, kind, text: shown, prepared, parameters, .. } => {
            let values = match parameters.values.is_empty() {
                true => String::new(),
                false => format!(" {}", serde_json::json!(super::super::value::describe(&parameters))),
            };
            let name = if prepared.is_empty() { String::new() } else { format!(" {}", text(prepared)) };
            format!("{number} {kind:?}{name}: {}{values}\n", text(shown))
        }
        Note::Result { number, tag, rows, bytes_up, bytes_down, sqlstate, .. } => {
            format!(
                "  {number} {}{}: {rows} rows, {bytes_up} up, {bytes_down} down\n",
                text(tag),
                text(sqlstate)
            )
        }
        Note::Prepare { name, text: shown, .. } => format!("{}: {}\n", text(name), text(shown)),
        Note::File { number, name, bytes, whole, .. } => {
            format!("  {number} file {}: {bytes} bytes, whole: {whole}\n", text(name))
        }
    });
    lines.collect()
}

#[test]
fn conversations_with_real_servers_pass_and_are_noted() {
    macro_rules! golden {
        ($name:literal) => {
            include_str!(concat!("../golden/conversation-", $name, ".txt"))
        };
    }
    let mariadb = Capabilities::MARIADB | Capabilities::SESSION_TRACK | LOCAL;
    let mysql = Capabilities::QUERY_ATTRIBUTES | Capabilities::SESSION_TRACK | LOCAL;
    let plain = Capabilities::LOCAL_FILES | Capabilities::OPTIONAL_RESULTSET_METADATA;
    let all = [
        ("mariadb-10", golden!("mariadb-10"), Capabilities::NONE),
        ("mariadb-11", golden!("mariadb-11"), mariadb),
        ("mysql-9", golden!("mysql-9"), mysql),
        ("mysql-9-plain", golden!("mysql-9-plain"), plain),
    ];
    for (name, text, agreed) in all {
        for piece in [usize::MAX, 1, 5] {
            let mut rig = rig(agreed);
            let (mut asked, mut said) = (Vec::new(), Vec::new());
            for line in text.lines() {
                let (side, bytes) = match line.split_at(2) {
                    ("> ", rest) => (Side::Downstream, unescape(rest)),
                    ("< ", rest) => (Side::Upstream, unescape(rest)),
                    _ => continue,
                };
                let sent = if side == Side::Downstream { &mut asked } else { &mut said };
                sent.extend_from_slice(&bytes);
                bytes.chunks(piece).for_each(|piece| rig.feed(side, piece));
                // The answer to words of ours.
                if rig.to_server.ends_with(&rig.relay.stamp) {
                    asked.extend_from_slice(&rig.relay.stamp);
                    rig.feed(Side::Upstream, &Said::new(agreed).ok(0, 2).bytes());
                }
                assert_eq!(rig.end, None, "{name}: {line}");
            }
            assert!(rig.to_server == asked && rig.to_client == said, "{name}");
            assert_eq!(rig.relay.boundary(), Boundary::Idle, "{name}");
            insta::allow_duplicates! {
                insta::with_settings!({ snapshot_suffix => name }, { insta::assert_snapshot!(noted(&rig.notes)) });
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------
// What is published of servers that cannot be had

#[test]
fn published_results_pass_and_are_noted() {
    macro_rules! golden {
        ($name:literal) => {
            include_str!(concat!("../golden/result-mysql-", $name, ".txt"))
        };
    }
    let tracked = DEPRECATE | Capabilities::SESSION_TRACK;
    for (text, agreed, noted) in [
        (golden!("eof"), Capabilities::NONE, &["ROWS 1"][..]),
        (golden!("ok"), DEPRECATE, &["ROWS 1, 1 warning"]),
        (golden!("tracked"), tracked, &["ROWS 1", "OK 0", "OK 4", "42S02/1146"]),
    ] {
        for piece in [usize::MAX, 1, 5] {
            let (mut rig, mut said) = (rig(agreed), Vec::new());
            for line in text.lines() {
                let (side, bytes) = match line.split_at(2) {
                    ("> ", rest) => (Side::Downstream, unescape(rest)),
                    ("< ", rest) => (Side::Upstream, unescape(rest)),
                    _ => continue,
                };
                bytes.chunks(piece).for_each(|piece| rig.feed(side, piece));
                if side == Side::Upstream {
                    said.extend_from_slice(&bytes);
                }
            }
            assert_eq!(rig.end, None);
            assert!(rig.to_client == said);
            assert_eq!(results(&rig.notes), noted);
            assert_eq!(rig.relay.boundary(), Boundary::Idle);
        }
    }
    // Read by the rules of the other kind, the first is not taken for what it is not.
    let mut rig = rig(DEPRECATE);
    for line in golden!("eof").lines() {
        match line.split_at(2) {
            ("> ", rest) => rig.feed(Side::Downstream, &unescape(rest)),
            ("< ", rest) => rig.feed(Side::Upstream, &unescape(rest)),
            _ => {}
        }
    }
    assert!(matches!(rig.end, Some(End::Broken(_))), "{:?}", rig.end);
}

// ---------------------------------------------------------------------------------------------
// Servers that compress

/// Their numbers go their own way; the client sees those that it must.
#[test]
fn packets_of_a_server_that_compresses_are_numbered_anew() {
    let more = status::MORE_RESULTS | 2;
    for agreed in [Capabilities::NONE, DEPRECATE] {
        let commands = [query("select 1; select 2"), asked(command::PING, b"")];
        let first = Said::new(agreed).columns(2).rows(3).end(more);
        let next = first.sequence;
        // It goes on with the number of the compressed packet that is under way.
        let second = Said::from(agreed, 2).columns(1).rows(4).end(2);
        let right = [
            first.out.to_vec(),
            Said::from(agreed, next).columns(1).rows(4).end(2).bytes(),
            Said::new(agreed).ok(0, 2).bytes(),
        ]
        .concat();
        let answers = [first.bytes(), second.bytes(), Said::from(agreed, 7).ok(0, 2).bytes()].concat();
        for piece in [usize::MAX, 1, 5, 6, 60] {
            let mut rig = Rig::compressed(agreed);
            rig.feed(Side::Downstream, &commands.concat());
            answers.chunks(piece).for_each(|piece| rig.feed(Side::Upstream, piece));
            assert_eq!(rig.end, None);
            assert_eq!(rig.to_client.escape_ascii().to_string(), right.escape_ascii().to_string());
            assert_eq!(results(&rig.notes), ["ROWS 3", "ROWS 4"]);
            assert_eq!(rig.relay.boundary(), Boundary::Idle);
        }
        // Of any other server they are wrong.
        let mut rig = rig(agreed);
        rig.feed(Side::Downstream, &commands.concat());
        rig.feed(Side::Upstream, &answers);
        assert!(matches!(rig.end, Some(End::Broken(_))));
    }
}

/// Another login is no command of this conversation: it waits until nothing is due, and nothing of it goes on.
#[test]
fn another_login_ends_the_conversation_when_all_is_said() {
    let mut rig = Rig::new(DEPRECATE);
    let first = query("select 1");
    let change = asked(command::CHANGE_USER, b"bob\0\0\0");
    rig.feed(Side::Downstream, &[&first[..], &asked(command::SHUTDOWN, &[0]), &change, b"ahead"].concat());
    assert!(rig.held && rig.end.is_none());
    let answer = Said::new(DEPRECATE).columns(1).rows(1).end(2).out;
    rig.feed(Side::Upstream, &answer[..answer.len() - 3]);
    assert_eq!(rig.end, None);
    rig.feed(Side::Upstream, &answer[answer.len() - 3..]);
    assert_eq!(rig.end, Some(End::LoginAgain));
    assert_eq!(rig.to_server, first);
    assert!(String::from_utf8_lossy(&rig.to_client).contains("TG021"), "the refusal before it is told");
    assert_eq!(rig.relay.boundary(), Boundary::Idle);
    assert!(rig.relay.into_accept().is_some());

    // Nothing but refusals due, which nobody else answers.
    let mut rig = Rig::new(DEPRECATE);
    rig.feed(Side::Downstream, &[asked(command::SHUTDOWN, &[0]), change.clone()].concat());
    assert_eq!(rig.end, Some(End::LoginAgain));
    assert!(rig.to_server.is_empty());

    // In pieces; in a transaction, which the reset of the connection ends.
    let mut rig = Rig::new(DEPRECATE);
    rig.feed(Side::Downstream, &query("begin"));
    rig.feed(Side::Upstream, &Said::new(DEPRECATE).ok(0, status::IN_TRANSACTION).out);
    rig.feed(Side::Downstream, &change[..7]);
    assert_eq!(rig.end, None);
    rig.feed(Side::Downstream, &change[7..]);
    assert_eq!((rig.end, rig.relay.boundary()), (Some(End::LoginAgain), Boundary::InTransaction));

    let mut rig = Rig::new(DEPRECATE);
    rig.feed(Side::Downstream, &asked(command::CHANGE_USER, &[b'a'; 10_001]));
    assert!(matches!(rig.end, Some(End::Refused(Refusal::ProtocolViolation(_)))), "{:?}", rig.end);
    assert!(Rig::new(DEPRECATE).relay.into_accept().is_none());
}

/// Size and hash are of the file alone, however its packets and their pieces are cut.
#[test]
fn what_a_client_sends_of_a_file_is_told() {
    use sha2::{Digest, Sha256};
    let agreed = DEPRECATE | Capabilities::LOCAL_FILES;
    let file = |notes: &[u8]| {
        let found = NoteReader::new(notes).find_map(|(_, note)| match note {
            Note::File { number, name, bytes, sha256, whole } => {
                Some((number, name.to_vec(), bytes, sha256.to_vec(), whole))
            }
            _ => None,
        });
        found.expect("a file")
    };
    let packet = |sequence, body: &[u8]| {
        let mut out = BytesMut::new();
        put(&mut out, sequence, |out| out.extend_from_slice(body));
        out.to_vec()
    };
    let text = query("load data local infile 'a name' into table t");
    let ask = Said::new(agreed).packet(b"\xfba name").out;
    let whole =
        [packet(2, b"one\n"), packet(3, b"\x01 and two\n"), packet(4, &[b'x'; 300]), packet(5, b"")].concat();
    let expected = [b"one\n\x01 and two\n".as_slice(), &[b'x'; 300]].concat();
    let hash = Sha256::digest(&expected).to_vec();
    for size in [1, 3, 4, 5, 7, 400] {
        let mut rig = Rig::new(agreed);
        rig.feed(Side::Downstream, &text);
        rig.feed(Side::Upstream, &ask);
        whole.chunks(size).for_each(|chunk| rig.feed(Side::Downstream, chunk));
        rig.feed(Side::Upstream, &Said::from(agreed, 6).ok(3, 2).out);
        assert_eq!((&rig.end, rig.relay.boundary()), (&None, Boundary::Idle));
        assert_eq!(file(&rig.notes), (1, b"a name".to_vec(), 314, hash.clone(), true), "{size}");
        assert_eq!(rig.to_server, [&text[..], &whole].concat());
    }
    // A client that has no such file says so by an empty one.
    let mut rig = Rig::new(agreed);
    rig.feed(Side::Downstream, &text);
    rig.feed(Side::Upstream, &ask);
    rig.feed(Side::Downstream, &packet(2, b""));
    assert_eq!(file(&rig.notes), (1, b"a name".to_vec(), 0, Sha256::digest(b"").to_vec(), true));
    // Cut short by the server, and by the session's end.
    let part = Sha256::digest(b"one\n\x01 an").to_vec();
    let mut rig = Rig::new(agreed);
    rig.feed(Side::Downstream, &text);
    rig.feed(Side::Upstream, &ask);
    rig.feed(Side::Downstream, &whole[..16]);
    rig.relay.unfinished(&mut crate::model::Notes::new(&mut rig.notes, 0), 9);
    assert_eq!(file(&rig.notes), (1, b"a name".to_vec(), 8, part.clone(), false));
    let mut rig = Rig::new(agreed);
    rig.feed(Side::Downstream, &text);
    rig.feed(Side::Upstream, &ask);
    rig.feed(Side::Downstream, &whole[..16]);
    rig.feed(Side::Upstream, &Said::from(agreed, 2).packet(b"\xff\x29\x05#70100stopped").out);
    assert_eq!(file(&rig.notes), (1, b"a name".to_vec(), 8, part, false));
}

/// What goes to the server has who is there in front; what is noted and judged is the person's own.
#[test]
fn a_text_goes_behind_who_is_there_where_the_target_wants_it() {
    let comment = b"/* tidegate alice/s-1 */ ";
    let attributes = Capabilities::QUERY_ATTRIBUTES;
    let long = format!("select '{}'", "x".repeat(100_000));
    for (agreed, front) in [(DEPRECATE, &b""[..]), (DEPRECATE | attributes, &[0, 1])] {
        for text in ["select 1", "", long.as_str()] {
            let sent = asked(command::QUERY, &[front, text.as_bytes()].concat());
            let expected = match text {
                "" => sent.clone(),
                _ => asked(command::QUERY, &[front, comment, text.as_bytes()].concat()),
            };
            for size in [1, 5, 6, 1_000, 70_000, 200_000] {
                let mut rig = Rig::commenting(agreed);
                sent.chunks(size).for_each(|chunk| rig.feed(Side::Downstream, chunk));
                assert_eq!(rig.end, None);
                assert!(rig.to_server == expected, "{size} {}", text.len());
                rig.feed(Side::Upstream, &Said::new(agreed).ok(0, 2).out);
                assert_eq!(rig.relay.boundary(), Boundary::Idle);
                let (_, note) = NoteReader::new(&rig.notes).next().unwrap();
                let Note::Statement { text: noted, length, .. } = note else { panic!() };
                assert_eq!(length, text.len() as u64);
                assert!(text.as_bytes().starts_with(noted), "the person's own text");
            }
        }
    }
    // What is prepared; what is no text; several at once.
    let mut rig = Rig::commenting(DEPRECATE);
    let ping = asked(command::PING, b"");
    rig.feed(
        Side::Downstream,
        &[asked(command::STMT_PREPARE, b"select ?"), ping.clone(), query("do 1")].concat(),
    );
    let expected = [
        asked(command::STMT_PREPARE, &[comment, &b"select ?"[..]].concat()),
        ping,
        asked(command::QUERY, &[comment, &b"do 1"[..]].concat()),
    ];
    assert_eq!(rig.to_server, expected.concat());
    // A refusal goes nowhere, with or without.
    let mut rig = Rig::commenting(DEPRECATE);
    rig.judge = |operation| match operation.text {
        b"drop table t" => Verdict::Refuse(Refusal::OperationDenied("it drops")),
        _ => Verdict::Allow,
    };
    rig.feed(Side::Downstream, &query("drop table t"));
    assert!(rig.to_server.is_empty() && !rig.to_client.is_empty());
    // As much as one packet holds, and more than that with the comment.
    for (length, fits) in [
        (0xff_ffff - comment.len() - 2, true),
        (0xff_ffff - comment.len() - 1, false),
        (0xff_fffe - 1, false),
    ] {
        let text = format!("select '{}'", "x".repeat(length - 9));
        let sent = query(&text);
        let mut rig = Rig::commenting(DEPRECATE);
        rig.feed(Side::Downstream, &sent);
        assert_eq!(rig.to_server.len(), sent.len() + if fits { comment.len() } else { 0 });
        assert_eq!(packet::peek(&rig.to_server).unwrap().total(), rig.to_server.len());
        rig.feed(Side::Upstream, &Said::new(DEPRECATE).ok(0, 2).out);
        assert_eq!(rig.relay.boundary(), Boundary::Idle);
    }
}
