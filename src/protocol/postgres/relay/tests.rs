//! Conversations written by hand; recorded ones are in `golden`.

use bytes::{BufMut, BytesMut};
use proptest::prelude::*;

use super::super::frame;
use super::rig::{End, Rig};
use super::*;
use crate::model::{Note, NoteReader, Verdict};

pub(super) fn message(tag: char, body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    frame::put(&mut out, tag as u8, |out| out.put_slice(body));
    out.to_vec()
}

pub(super) fn query(text: &str) -> Vec<u8> {
    message('Q', format!("{text}\0").as_bytes())
}

pub(super) fn parse(name: &str, text: &str) -> Vec<u8> {
    message('P', format!("{name}\0{text}\0\0\0").as_bytes())
}

pub(super) fn bind(portal: &str, name: &str) -> Vec<u8> {
    message('B', format!("{portal}\0{name}\0\0\0\0\0\0\0").as_bytes())
}

pub(super) fn execute(portal: &str) -> Vec<u8> {
    message('E', format!("{portal}\0\0\0\0\0").as_bytes())
}

pub(super) fn describe(kind: char, name: &str) -> Vec<u8> {
    message('D', format!("{kind}{name}\0").as_bytes())
}

pub(super) fn sync() -> Vec<u8> {
    message('S', b"")
}

pub(super) fn complete(tag: &str) -> Vec<u8> {
    message('C', format!("{tag}\0").as_bytes())
}

pub(super) fn ready(status: char) -> Vec<u8> {
    message('Z', &[status as u8])
}

pub(super) fn error(code: &str) -> Vec<u8> {
    message('E', format!("SERROR\0VERROR\0C{code}\0Mno\0\0").as_bytes())
}

pub(super) fn name_status(name: &str) -> Vec<u8> {
    message('S', format!("application_name\0{name}\0").as_bytes())
}

/// The types of the messages in a stream.
fn tags(mut bytes: &[u8]) -> String {
    let mut tags = String::new();
    while let Ok(Some(header)) = frame::peek(bytes) {
        tags.push(header.tag as char);
        bytes = &bytes[header.total.min(bytes.len())..];
    }
    assert!(bytes.is_empty(), "a part of a message is left");
    tags
}

/// The notes in short: statements as `number kind text`, results as `number tag|sqlstate rows`.
fn notes(rig: &Rig) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut reader = NoteReader::new(&rig.notes);
    let notes = reader.by_ref().map(|(_, note)| match note {
        Note::Statement { number, text: sql, .. } => format!("{number}: {}", text(sql)),
        Note::Result { number, tag, rows, sqlstate: b"", .. } => {
            format!("{number}= {} ({rows})", text(tag))
        }
        Note::Result { number, sqlstate, .. } => format!("{number}! {}", text(sqlstate)),
        Note::Prepare { name, text: sql, .. } => format!("{} := {}", text(name), text(sql)),
        Note::File { .. } => panic!("a file of the client's"),
    });
    let notes = notes.collect();
    assert!(!reader.damaged);
    notes
}

fn rig() -> Rig {
    let mut rig = Rig::new(Settings {
        application_name: Some("psql".into()),
        parameters: vec![("search_path".into(), "a, b".into())],
    });
    rig.to_client.clear();
    rig
}

impl Rig {
    fn client(&mut self, messages: &[Vec<u8>]) -> String {
        let before = self.to_server.len();
        self.feed(Side::Downstream, &messages.concat());
        tags(&self.to_server[before..])
    }

    fn server(&mut self, messages: &[Vec<u8>]) -> String {
        let before = self.to_client.len();
        self.feed(Side::Upstream, &messages.concat());
        tags(&self.to_client[before..])
    }
}

#[test]
fn entering_shows_the_client_its_own_name() {
    let rig = Rig::new(Settings { application_name: Some("psql".into()), parameters: vec![] });
    assert_eq!(tags(&rig.to_client), "RSSSSKZ");
    let text = String::from_utf8_lossy(&rig.to_client).into_owned();
    assert!(text.contains("application_name\0psql\0") && !text.contains("alice"));
}

#[test]
fn a_simple_query_is_noted_before_it_passes_and_when_it_ends() {
    let mut rig = rig();
    assert_eq!(rig.client(&[query("select 1; select 2")]), "Q");
    assert_eq!(notes(&rig), ["1: select 1; select 2"]);
    assert_eq!(rig.relay.boundary(), Boundary::Busy);
    let row = message('D', b"\0\x01\0\0\0\x011");
    let head = message('T', b"\0\0");
    let answers =
        [head.clone(), row.clone(), complete("SELECT 1"), head, row, complete("SELECT 1"), ready('T')];
    assert_eq!(rig.server(&answers), "TDCTDCZ");
    assert_eq!(notes(&rig)[1..], ["1= SELECT 1 (1)", "1= SELECT 1 (1)"]);
    assert_eq!(rig.relay.boundary(), Boundary::InTransaction);
    assert_eq!(rig.relay.statements(), 1);
}

#[test]
fn an_error_in_a_batch_skips_the_rest_and_nothing_looks_as_if_it_ran() {
    let mut rig = rig();
    let batch = |portal: &str| [parse("", "select 1"), bind(portal, ""), execute(portal)].concat();
    rig.client(&[batch(""), batch("x"), query("select 2"), sync(), query("select 3")]);
    assert_eq!(rig.server(&[message('1', b""), message('2', b""), error("22012")]), "12E");
    rig.server(&[ready('I'), message('I', b""), ready('I')]);
    let notes = notes(&rig);
    assert_eq!(notes[..4], ["1: select 1", "2: select 1", "3: select 2", "4: select 3"]);
    assert_eq!(notes[4..], ["1! 22012", "2! skipped", "3! skipped", "4= EmptyQueryResponse (0)"]);
    assert_eq!(rig.relay.boundary(), Boundary::Idle);
}

#[test]
fn what_follows_an_error_before_the_sync_is_skipped_too() {
    let mut rig = rig();
    rig.client(&[parse("", "bad")]);
    rig.server(&[error("42601")]);
    assert_eq!(rig.relay.boundary(), Boundary::Busy);
    assert_eq!(rig.client(&[bind("", ""), execute(""), query("x")]), "BEQ");
    assert_eq!(notes(&rig), [" := bad", "1: <portal >", "1! skipped", "2: x", "2! skipped"]);
    rig.client(&[sync()]);
    assert_eq!(rig.server(&[ready('I')]), "Z");
    assert_eq!(rig.relay.boundary(), Boundary::Idle);
}

#[test]
fn a_name_means_what_the_server_confirmed() {
    let mut rig = rig();
    rig.client(&[parse("s", "delete"), sync()]);
    rig.server(&[message('1', b""), ready('I')]);
    // The second Parse of the name will fail. Whoever runs it in the next batch runs the first text.
    assert_eq!(rig.client(&[parse("s", "select"), sync(), bind("", "s"), execute(""), sync()]), "PS");
    assert!(rig.held);
    assert_eq!(rig.server(&[error("42P05"), ready('I')]), "EZ");
    assert_eq!(tags(&rig.to_server), "PSPSBES");
    assert_eq!(notes(&rig), ["s := delete", "s := select", "1: delete"]);
}

#[test]
fn unasked_answers_end_the_session() {
    for answer in [ready('I'), message('1', b""), complete("SELECT 1"), message('D', b"\0\0"), error("22012")]
    {
        let mut rig = rig();
        rig.server(&[answer]);
        assert!(matches!(rig.end, Some(End::Broken(_))));
    }
    for answer in [message('T', b"\0\0"), message('2', b""), ready('I'), message('G', b"\0\0\0")] {
        let mut rig = rig();
        rig.client(&[parse("", "select 1"), sync()]);
        rig.server(&[answer]);
        assert!(matches!(rig.end, Some(End::Broken(_))));
    }
}

#[test]
fn malformed_messages_are_refused_before_anything_passes() {
    for bad in [
        message('Q', b"select 1"),
        message('Q', b"a\0b\0"),
        message('P', b"s\0select 1"),
        message('P', b"s\0select 1\0\0\x01"),
        message('B', b"\0\0\0\x02\0\0\0\0\0\0"),
        message('B', b"\0\0\0\0\0\x01\0\0\0\x09x\0\0"),
        message('B', b"\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0"),
        message('E', b"\0\0\0"),
        message('D', b"X\0"),
        message('C', b"S"),
        message('S', b"x"),
        message('F', b"\0\0\0"),
        message('f', b"no end"),
        message('p', b"password\0"),
        message('R', b""),
        vec![b'Q', 0, 0, 0, 3],
        vec![0, 0, 0, 8, 4, 210, 22, 47, 0],
    ] {
        let mut rig = rig();
        rig.client(std::slice::from_ref(&bad));
        assert!(matches!(rig.end, Some(End::Refused(Refusal::ProtocolViolation(_)))), "{bad:?}");
        assert!(rig.to_server.is_empty() && rig.notes.is_empty(), "{bad:?}");
    }
}

#[test]
fn what_leaves_without_its_execute_is_noted_by_itself() {
    let mut rig = rig();
    rig.client(&[parse("", "select 1"), parse("", "select 2"), bind("", ""), execute(""), sync()]);
    assert_eq!(notes(&rig), ["1: select 2", " := select 1"], "what is run is noted once");
    rig.server(&[message('1', b""), message('1', b""), message('2', b""), complete("SELECT 1"), ready('I')]);
    rig.notes.clear();
    // A Bind under the number that its Execute has later.
    rig.client(&[parse("", "select 3"), bind("", ""), message('H', b"")]);
    assert_eq!(notes(&rig), ["2: select 3"]);
    rig.client(&[execute(""), execute(""), sync()]);
    assert_eq!(notes(&rig), ["2: select 3", "3: select 3"]);
    rig.server(&[message('1', b""), message('2', b""), complete("SELECT 7"), error("55000"), ready('I')]);
    assert_eq!(notes(&rig)[2..], ["2= SELECT 7 (7)", "3! 55000"]);
    rig.notes.clear();
    // One that fails, and one that is skipped for it.
    rig.client(&[bind("", "none"), bind("p", "none"), sync()]);
    rig.server(&[error("26000"), ready('I')]);
    assert_eq!(notes(&rig), ["4: <prepared none>", "5: <prepared none>", "4! 26000", "5! skipped"]);
    // What the server surely ignores is not said to have been there.
    rig.notes.clear();
    rig.client(&[bind("", "none"), message('H', b"")]);
    rig.server(&[error("26000")]);
    rig.client(&[parse("", "select 4"), bind("", ""), sync()]);
    assert_eq!(notes(&rig), ["6: <prepared none>", "6! 26000"]);
}

#[test]
fn our_words_behind_resets_are_written_in_portions() {
    let value = "\u{e9}".repeat(4_000);
    let mut rig = Rig::new(Settings { application_name: None, parameters: vec![("my.own".into(), value)] });
    rig.client(&[parse("", "reset all"), bind("", "")]);
    rig.feed(Side::Downstream, &execute("").repeat(1_000));
    assert_eq!(rig.to_server.windows(9).filter(|window| window == b"SET \"my\".").count(), 1_000);
    assert!(rig.own_max < crate::model::limits::PENDING_BYTES_MAX + (64 << 10), "{}", rig.own_max);
}

#[test]
fn many_binds_of_a_long_text_are_noted_in_portions() {
    let mut rig = rig();
    let text = format!("select '{}'", "x".repeat(30_000));
    rig.client(&[parse("s", &text), sync()]);
    rig.server(&[message('1', b""), ready('I')]);
    rig.notes.clear();
    rig.notes_max = 0;
    rig.client(&vec![bind("", "s"); 1_000]);
    assert_eq!(notes(&rig).len(), 1_000);
    assert!(rig.notes_max < crate::model::limits::NOTES_BYTES_MAX + 2 * text.len(), "{}", rig.notes_max);
}

/// The rig's client was told 1 of the server's 4711.
#[test]
fn a_clients_own_notifications_bear_the_process_id_that_it_was_told() {
    let mut rig = rig();
    rig.to_client.clear();
    let notification = |process: u32| {
        let body = [&process.to_be_bytes()[..], b"news\0hello\0"].concat();
        [&b"A"[..], &(body.len() as u32 + 4).to_be_bytes(), &body].concat()
    };
    for cut in 0..notification(0).len() {
        for (sent, told) in [(4711, 1), (4712, 4712)] {
            let sent = notification(sent);
            rig.feed(Side::Upstream, &sent[..cut]);
            rig.feed(Side::Upstream, &sent[cut..]);
            assert_eq!(std::mem::take(&mut rig.to_client), notification(told));
        }
    }
    rig.feed(Side::Upstream, b"A\0\0\0\x06\0\0");
    assert!(rig.end.is_some(), "a notification of nobody");
}

#[test]
fn goodbye_is_not_passed() {
    let mut rig = rig();
    assert_eq!(rig.client(&[message('X', b"")]), "");
    assert_eq!(rig.end, Some(End::Closed));
}

fn refusing() -> Rig {
    let mut rig = rig();
    rig.judge = |operation| match operation.text.starts_with(b"drop") {
        true => Verdict::Refuse(Refusal::OperationDenied("it drops")),
        false => Verdict::Allow,
    };
    rig
}

#[test]
fn a_refused_query_fails_in_its_place() {
    let mut rig = refusing();
    assert_eq!(rig.client(&[query("select 1"), query("drop"), query("select 2")]), "QQQ");
    assert!(!String::from_utf8_lossy(&rig.to_server).contains("drop"));
    assert!(rig.to_client.is_empty(), "nothing overtakes what is due");
    rig.server(&[
        complete("SELECT 1"),
        ready('I'),
        error("42601"),
        ready('I'),
        complete("SELECT 1"),
        ready('I'),
    ]);
    assert_eq!(tags(&rig.to_client), "CZEZCZ");
    let shown = String::from_utf8_lossy(&rig.to_client).into_owned();
    assert!(shown.contains("C42501\0") && shown.contains("TG009") && !shown.contains("42601"));
    assert_eq!(notes(&rig)[3..], ["1= SELECT 1 (1)", "2! 42501", "3= SELECT 1 (1)"]);
}

#[test]
fn a_refused_parse_fails_its_batch() {
    let mut rig = refusing();
    let batch = [parse("", "drop"), bind("", ""), execute(""), sync()];
    assert_eq!(rig.client(&batch), "BBES");
    assert_eq!(rig.server(&[error("08P01"), ready('E')]), "EZ");
    assert!(String::from_utf8_lossy(&rig.to_client).contains("C42501\0"));
    assert_eq!(notes(&rig), ["1: drop", "2: <prepared >", "1! 42501", "2! skipped"]);
    assert_eq!(rig.relay.boundary(), Boundary::InTransaction);
}

#[test]
fn passwords_do_not_reach_the_notes() {
    let mut rig = rig();
    rig.client(&[query("alter role a password 'cret'"), parse("s", "alter role b password 'cret'"), sync()]);
    assert_eq!(notes(&rig), ["1: alter role a password '***'", "s := alter role b password '***'"]);
    assert!(!String::from_utf8_lossy(&rig.notes).contains("cret"));
    assert!(String::from_utf8_lossy(&rig.to_server).contains("cret"));
}

#[test]
fn copy_in_swallows_the_syncs_before_its_end() {
    let mut rig = rig();
    let data = message('d', b"1\n");
    rig.client(&[parse("", "copy t from stdin"), bind("", ""), execute(""), sync()]);
    rig.server(&[message('1', b""), message('2', b""), message('G', b"\0\0\0")]);
    rig.client(&[data.clone(), data, message('c', b"")]);
    assert_eq!(rig.server(&[complete("COPY 2")]), "C");
    assert_eq!(rig.relay.boundary(), Boundary::Busy, "its Sync was swallowed, it owes another");
    rig.client(&[sync()]);
    rig.server(&[ready('I')]);
    assert_eq!(rig.relay.boundary(), Boundary::Idle);
    assert_eq!(notes(&rig), ["1: copy t from stdin", "1= COPY 2 (2)"]);
}

#[test]
fn a_failed_copy_in_is_sorted_out_with_a_fence() {
    // (what the server made of the first Sync, the answers)
    for swallowed in [true, false] {
        let mut rig = rig();
        rig.client(&[parse("", "copy t from stdin"), bind("", ""), execute(""), sync()]);
        rig.server(&[message('1', b""), message('2', b""), message('G', b"\0\0\0")]);
        rig.server(&[error("22P02")]);
        if !swallowed {
            assert_eq!(rig.server(&[ready('I')]), "Z");
            assert_eq!(rig.relay.boundary(), Boundary::Idle);
        }
        let sent = rig.client(&[message('d', b"x"), message('f', b"no\0"), sync()]);
        assert_eq!(sent, if swallowed { "dfSCS" } else { "dfS" });
        assert_eq!(rig.server(&[ready('I')]), "Z");
        if swallowed {
            assert_eq!(rig.relay.boundary(), Boundary::Busy);
            assert_eq!(rig.server(&[message('3', b""), ready('I')]), "");
        }
        assert_eq!(rig.relay.boundary(), Boundary::Idle, "{swallowed}");
        rig.client(&[query("select 1")]);
        assert_eq!(rig.server(&[complete("SELECT 1"), ready('I')]), "CZ");
        assert_eq!(notes(&rig)[1..], ["1! 22P02", "2: select 1", "2= SELECT 1 (1)"]);
    }
}

#[test]
fn a_failed_copy_in_with_everything_sent_ahead() {
    for swallowed in [true, false] {
        let mut rig = rig();
        let ahead = [message('d', b"x"), message('c', b""), sync()].concat();
        rig.client(&[parse("", "copy t from stdin"), bind("", ""), execute(""), sync(), ahead]);
        rig.server(&[message('1', b""), message('2', b""), message('G', b"\0\0\0"), error("22P02")]);
        assert_eq!(tags(&rig.to_server), "PBESdcSCS", "the fence went at once");
        let readies = if swallowed { 1 } else { 2 };
        rig.server(&vec![ready('I'); readies]);
        assert_eq!(rig.relay.boundary(), Boundary::Busy);
        rig.server(&[message('3', b""), ready('I')]);
        assert_eq!(tags(&rig.to_client), format!("12GE{}", "Z".repeat(readies)));
        assert_eq!(rig.relay.boundary(), Boundary::Idle);
    }
}

#[test]
fn a_failed_copy_in_with_another_batch_behind() {
    for swallowed in [true, false] {
        let mut rig = rig();
        let ahead = [message('c', b""), sync(), parse("", "select 1"), sync()].concat();
        rig.client(&[parse("", "copy t from stdin"), bind("", ""), execute(""), sync(), ahead]);
        rig.server(&[message('1', b""), message('2', b""), message('G', b"\0\0\0"), error("22P02")]);
        rig.server(&vec![ready('I'); if swallowed { 1 } else { 2 }]);
        rig.server(&[message('1', b""), ready('I'), message('3', b""), ready('I')]);
        assert_eq!(rig.end, None);
        assert_eq!(rig.relay.boundary(), Boundary::Idle, "{swallowed}");
    }
}

#[test]
fn a_simple_copy_in_that_fails() {
    let mut rig = rig();
    rig.client(&[query("copy t from stdin")]);
    rig.server(&[message('G', b"\0\0\0")]);
    rig.client(&[message('d', b"x")]);
    assert_eq!(rig.server(&[error("22P02"), ready('I')]), "EZ");
    assert_eq!(rig.relay.boundary(), Boundary::Idle);
    assert_eq!(rig.client(&[message('d', b"y"), message('c', b""), query("select 1")]), "dcQ");
    assert_eq!(rig.server(&[complete("SELECT 1"), ready('I')]), "CZ");
    assert_eq!(rig.relay.boundary(), Boundary::Idle);
}

#[test]
fn a_fatal_error_ends_it_all() {
    let mut rig = rig();
    rig.client(&[query("select 1"), query("select 2")]);
    assert_eq!(rig.server(&[message('E', b"SFATAL\0VFATAL\0C57P01\0Mbye\0\0")]), "E");
    assert_eq!(rig.end, Some(End::Closed));
    assert_eq!(notes(&rig)[2..], ["1! 57P01", "2! skipped"]);
}

#[test]
fn a_commit_that_fails_is_a_second_result() {
    let mut rig = rig();
    rig.client(&[parse("", "insert"), bind("", ""), execute(""), sync()]);
    rig.server(&[message('1', b""), message('2', b""), complete("INSERT 0 1"), error("23503"), ready('I')]);
    assert_eq!(notes(&rig), ["1: insert", "1= INSERT 0 1 (1)", "1! 23503"]);
}

#[test]
fn a_clients_new_name_is_stamped_behind_its_back() {
    let mut rig = rig();
    rig.client(&[query("set application_name to 'x'"), query("select 1")]);
    rig.server(&[complete("SET"), name_status("x"), ready('I')]);
    assert_eq!(tags(&rig.to_client), "CSZ");
    rig.server(&[complete("SELECT 1"), ready('I')]);
    assert_eq!(tags(&rig.to_server), "QQCPBECCS");
    let sent = String::from_utf8_lossy(&rig.to_server).into_owned();
    assert!(sent.contains(r#"SET "application_name" TO E'alice/s-1 x'"#));
    let shown = rig.to_client.len();
    let answers =
        [message('3', b""), message('1', b""), message('2', b""), complete("SET"), message('3', b"")];
    rig.server(&[answers.concat(), message('3', b""), name_status("alice/s-1 x"), ready('I')]);
    assert_eq!(rig.to_client.len(), shown, "nothing of this shows");
    assert_eq!(rig.relay.boundary(), Boundary::Idle);
}

#[test]
fn start_up_settings_are_back_before_the_next_pipelined_statement() {
    let mut rig = rig();
    assert_eq!(rig.client(&[query("discard all"), query("select 1")]), "Q");
    assert!(rig.held);
    rig.server(&[complete("DISCARD ALL"), name_status("tidegate"), ready('I')]);
    assert_eq!(tags(&rig.to_server), "QCPBECCPBECCSQ");
    assert_eq!(tags(&rig.to_client), "CZ");
    let sent = String::from_utf8_lossy(&rig.to_server).into_owned();
    assert!(sent.contains(r#"SET "search_path" TO E'a', E'b'"#));
    assert!(sent.contains(r#"SET "application_name" TO E'alice/s-1 psql'"#));
    // In a transaction that failed nothing can be said, and nothing is held.
    let mut rig = self::rig();
    rig.client(&[query("begin; reset search_path; bad"), query("rollback")]);
    assert_eq!(rig.server(&[complete("BEGIN"), complete("RESET"), error("42601"), ready('E')]), "CCEZ");
    assert_eq!(tags(&rig.to_server), "QQ");
}

#[test]
fn start_up_settings_are_back_within_a_batch() {
    let mut rig = rig();
    let batch =
        [parse("", "reset search_path"), bind("", ""), execute(""), bind("", "s"), execute(""), sync()];
    assert_eq!(rig.client(&batch), "PBECPBECCBES");
    let (one, two, three) = (message('1', b""), message('2', b""), message('3', b""));
    let own = [three.clone(), one.clone(), two.clone(), complete("SET"), three.clone(), three].concat();
    rig.server(&[one, two.clone(), complete("RESET"), own, two, complete("SELECT 1"), ready('I')]);
    assert_eq!(tags(&rig.to_client), "12C2CZ");
    assert_eq!(rig.relay.boundary(), Boundary::Idle);
    // It fails: what follows is skipped, ours too.
    let mut rig = self::rig();
    rig.client(&batch);
    rig.server(&[message('1', b""), message('2', b""), error("25P02"), ready('E')]);
    assert_eq!(tags(&rig.to_client), "12EZ");
    assert_eq!(rig.relay.boundary(), Boundary::InTransaction);
}

#[test]
fn a_stamp_waits_for_copy_data_but_never_holds_it() {
    let mut rig = rig();
    rig.client(&[query("set application_name to 'x'; copy t from stdin")]);
    // Servers before 14 tell a change at once.
    rig.server(&[complete("SET"), name_status("x"), message('G', b"\0\0\0")]);
    assert_eq!(rig.client(&[message('d', b"1"), message('c', b""), query("select 1")]), "dc");
    assert!(rig.held);
    rig.server(&[complete("COPY 1"), ready('I')]);
    assert_eq!(tags(&rig.to_server), "QdcCPBECCSQ");
}

#[test]
fn a_live_session_moves_to_another_connection() {
    let mut rig = rig();
    rig.client(&[parse("s", "select $1"), describe('S', "s"), sync()]);
    rig.relay.assume_proven(described());
    assert_eq!(rig.relay.detach(), Err(Pinned("the conversation is not at rest")));
    let answers = [message('1', b""), message('t', b"\0\x01\0\0\0\x17"), message('n', b""), ready('I')];
    rig.server(&answers);
    rig.relay.assume_proven(described());
    let restore = rig.relay.detach().unwrap();
    assert_eq!(names(&restore), ["s := select $1"]);
    assert_eq!(rig.relay.boundary(), Boundary::Idle);
    assert_eq!(rig.client(&[bind("", "s"), execute(""), sync()]), "");
    assert!(rig.needs_lease);

    let mut facts = rig::facts("psql");
    facts.parameters =
        facts.parameters.iter().cloned().chain([("is_superuser".into(), "off".into())]).collect();
    let mut upstream = BytesMut::new();
    rig.to_client.clear();
    rig.to_server.clear();
    rig.relay.attach(&facts, restore, &mut upstream);
    assert_eq!(tags(&upstream), "PDS");
    rig.pump(Side::Downstream);
    assert_eq!(tags(&rig.to_server), "", "not before it is back");
    assert_eq!(tags(&rig.to_client), "S", "it is told what is different here");
    assert_eq!(rig.server(&put_back(b"\0\0")), "", "ours");
    assert_eq!(tags(&rig.to_server), "BES");
    assert_eq!(rig.server(&[message('2', b""), complete("SELECT 1"), ready('I')]), "2CZ");
    assert_eq!(notes(&rig), ["s := select $1", "1: select $1", "1= SELECT 1 (1)"]);
    assert_eq!(rig.relay.boundary(), Boundary::Idle);
    assert!(rig.end.is_none());
}

#[test]
fn a_statement_that_cannot_be_put_back_does_not_exist() {
    let mut rig = rig();
    rig.client(&[parse("s", "select 1"), parse("t", "select 2"), parse("u", "select 3"), sync()]);
    rig.server(&[message('1', b""), message('1', b""), message('1', b""), ready('I')]);
    rig.relay.assume_proven(described());
    let restore = rig.relay.detach().unwrap();
    let mut out = BytesMut::new();
    rig.relay.attach(&rig::facts("psql"), restore, &mut out);
    assert_eq!(tags(&out), "PDSPDSPDS");
    rig.to_server.clear();
    assert_eq!(rig.client(&[bind("", "s"), execute(""), sync()]), "", "not before all are back");
    rig.server(&[error("42P01"), ready('I')]);
    rig.server(&put_back(b"\0\0"));
    assert_eq!(rig.to_server, b"");
    // The table of one was altered.
    rig.server(&put_back(b"\0\x01\0\0\0\x17"));
    assert_eq!(tags(&rig.to_server), "CSBES");
    assert_eq!(rig.server(&[message('3', b""), ready('I')]), "", "ours");
    assert_eq!(rig.server(&[error("26000"), ready('I')]), "EZ", "an error when it is used");
    assert!(rig.end.is_none());
    rig.relay.assume_proven(described());
    assert_eq!(names(&rig.relay.detach().unwrap()), ["t := select 2"]);
}

#[test]
fn what_was_deallocated_is_not_put_back() {
    let mut rig = rig();
    rig.client(&[parse("s", "select 1"), sync(), query("deallocate s")]);
    rig.server(&[message('1', b""), ready('I'), complete("DEALLOCATE"), ready('I')]);
    rig.relay.assume_proven(described());
    assert!(rig.relay.detach().is_err());
    rig.client(&[query("deallocate all")]);
    rig.server(&[complete("DEALLOCATE ALL"), ready('I')]);
    rig.relay.assume_proven(described());
    assert_eq!(rig.relay.detach().unwrap().prepared, []);
}

#[test]
fn the_unnamed_statement_moves_too_while_it_lives() {
    let mut rig = rig();
    rig.client(&[parse("", "select 1"), sync()]);
    rig.server(&[message('1', b""), ready('I')]);
    rig.relay.assume_proven(described());
    let restore = rig.relay.detach().unwrap();
    assert_eq!(names(&restore), [" := select 1"]);
    rig.relay.attach(&rig::facts("psql"), restore, &mut BytesMut::new());
    rig.server(&put_back(b"\0\0"));
    // A simple query drops it, and so does a Parse that fails.
    rig.client(&[query("")]);
    rig.server(&[message('I', b""), ready('I')]);
    rig.relay.assume_proven(described());
    assert_eq!(rig.relay.detach().unwrap().prepared, []);
}

/// What stands for a statement without parameters and columns.
fn described() -> u64 {
    let mut relay = rig().relay;
    relay.own_description(b't', Some(b"\0\0"));
    relay.own_description(b'n', Some(b""));
    relay.description.take().map(|hasher| std::hash::Hasher::finish(&hasher)).unwrap()
}

/// The server's answers to a statement that is put back.
fn put_back(types: &[u8]) -> [Vec<u8>; 4] {
    [message('1', b""), message('t', types), message('n', b""), ready('I')]
}

fn names(restore: &Restore) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    restore.prepared.iter().map(|one| format!("{} := {}", text(&one.name), text(&one.text))).collect()
}

/// A row of the server's answer.
fn proof_row(topic: &str, subject: &str, detail: &str) -> Vec<u8> {
    let mut body = 3u16.to_be_bytes().to_vec();
    for column in [topic, subject, detail] {
        body.extend((column.len() as u32).to_be_bytes());
        body.extend(column.as_bytes());
    }
    message('D', &body)
}

/// What a server answers that has these rows besides who we are there.
fn proof_answer(rows: &[(&str, &str, &str)]) -> Vec<Vec<u8>> {
    let mut answer = ["3", "1", "2"].map(|tag| message(tag.chars().next().unwrap(), b"")).to_vec();
    answer.push(proof_row("identity", "connector", "connector"));
    answer.push(proof_row("acting", "none", ""));
    answer.push(proof_row("code", "0:", ""));
    answer.extend(rows.iter().map(|(topic, subject, detail)| proof_row(topic, subject, detail)));
    answer.extend([complete("SELECT 3"), message('3', b""), message('3', b""), ready('I')]);
    answer
}

/// Asks, answers, and gives what is to be put back or what pins.
fn ask(rig: &mut Rig, rows: &[(&str, &str, &str)]) -> Result<Restore, Pinned> {
    rig.to_server.clear();
    let mut out = BytesMut::new();
    rig.relay.prove(Ask { code: true, sequences: false }, &mut out)?;
    assert_eq!(tags(&out), "CPBECCS");
    assert!(rig.relay.is_proving());
    assert_eq!(rig.server(&proof_answer(rows)), "", "nothing of it is the client's");
    assert!(std::mem::take(&mut rig.proven));
    let proof = rig.relay.proof().unwrap();
    assert_eq!((proof.code.as_str(), rig.relay.proof()), ("0:", None));
    proof.pinned.map_or_else(|| rig.relay.detach(), Err)
}

#[test]
fn the_server_says_what_is_put_back_and_what_pins() {
    let why = |rows: &[(&str, &str, &str)]| ask(&mut rig(), rows).map_err(|pinned| pinned.0);
    let settings = [("setting", "TimeZone", "Asia/Tokyo"), ("setting", "work_mem", "5120")];
    let restore = why(&settings).unwrap();
    assert_eq!(
        restore.settings,
        [("timezone".into(), "Asia/Tokyo".into()), ("work_mem".into(), "5120".into())]
    );
    for (row, reason) in [
        (("pin", "a temporary object", ""), "a temporary object"),
        (("pin", "words of the server's", ""), "the server does not confirm that nothing would be lost"),
        (("prepared", "sql", "1"), "a prepared statement made by PREPARE"),
        (("prepared", "protocol", "1"), "a prepared statement that is not as it was made"),
        (("real", "random_page_cost", "1.1"), "a setting that cannot be put back"),
        (("setting", "search_path", "\u{fffd}"), "a setting that cannot be put back"),
        (("setting", "transaction_isolation", "serializable"), "a setting that cannot be put back"),
    ] {
        assert_eq!(why(&[row]), Err(reason), "{row:?}");
    }
    // Whether there is a sequence matters to who has inserted something.
    let sequence = [("sequence", "", "")];
    let mut inserting = rig();
    inserting.client(&[query("insert into t values (1)")]);
    inserting.server(&[complete("INSERT 0 1"), ready('I')]);
    assert_eq!(ask(&mut inserting, &sequence), Err(Pinned("the current value of a sequence")));
    assert!(ask(&mut inserting, &[]).is_ok());
    let mut rig = rig();
    let mut answer = proof_answer(&[]);
    answer[3] = proof_row("identity", "connector", "somebody");
    let mut out = BytesMut::new();
    rig.relay.prove(Ask { code: true, sequences: false }, &mut out).unwrap();
    rig.server(&answer);
    assert_eq!(rig.relay.proof().unwrap().pinned, Some(Pinned("another role was taken on")));
}

#[test]
fn what_is_prepared_is_described_before_it_moves() {
    let mut rig = rig();
    rig.client(&[parse("s", "select 1"), sync()]);
    rig.server(&[message('1', b""), ready('I')]);
    let mut out = BytesMut::new();
    rig.relay.prove(Ask { code: true, sequences: false }, &mut out).unwrap();
    assert_eq!(tags(&out), "DSCPBECCS");
    assert_eq!(rig.server(&[message('t', b"\0\0"), message('n', b""), ready('I')]), "");
    rig.server(&proof_answer(&[("prepared", "protocol", "1")]));
    assert_eq!(rig.relay.proof().unwrap().pinned, None);
    assert_eq!(rig.relay.detach().unwrap().prepared[0].described, described());
    // One that is an error by now stays.
    let mut rig = Rig::new(Settings::default());
    rig.client(&[parse("s", "select 1"), sync()]);
    rig.server(&[message('1', b""), ready('I')]);
    rig.relay.prove(Ask { code: true, sequences: false }, &mut BytesMut::new()).unwrap();
    rig.server(&[error("0A000"), ready('I')]);
    rig.server(&proof_answer(&[("prepared", "protocol", "1")]));
    let pinned = rig.relay.proof().unwrap().pinned;
    assert_eq!(pinned, Some(Pinned("a prepared statement whose tables were changed")));
}

#[test]
fn a_question_that_fails_pins_and_the_client_sees_nothing() {
    let mut rig = rig();
    let mut out = BytesMut::new();
    rig.relay.prove(Ask { code: true, sequences: false }, &mut out).unwrap();
    let answer = [message('3', b""), message('1', b""), error("57014"), ready('I')];
    assert_eq!(rig.server(&answer), "");
    assert!(rig.relay.proof().unwrap().pinned.is_some());
    assert!(rig.relay.detach().is_err());
    assert_eq!(rig.relay.boundary(), Boundary::Idle);
    assert!(rig.end.is_none());
}

#[test]
fn a_client_that_goes_on_meanwhile_is_not_held_up() {
    let mut rig = rig();
    let mut out = BytesMut::new();
    rig.relay.prove(Ask { code: true, sequences: false }, &mut out).unwrap();
    rig.to_server.clear();
    rig.client(&[query("select 1")]);
    assert_eq!(tags(&rig.to_server), "Q");
    assert!(!rig.relay.is_proving());
    assert_eq!(rig.server(&proof_answer(&[])), "");
    assert!(!rig.proven, "the answer is of no use any more");
    assert_eq!(rig.server(&[complete("SELECT 0"), ready('I')]), "CZ");
    assert_eq!(rig.relay.proof(), None);
    assert!(rig.relay.detach().is_err());
    // Nor is one that was proven and went on before it was parked.
    rig.relay.prove(Ask { code: true, sequences: false }, &mut BytesMut::new()).unwrap();
    rig.server(&proof_answer(&[]));
    assert_eq!(rig.relay.proof().unwrap().pinned, None);
    rig.client(&[query("set a.b = 1")]);
    rig.server(&[complete("SET"), ready('I')]);
    assert!(rig.relay.detach().is_err());
}

#[test]
fn texts_pin_until_everything_is_discarded() {
    let pinned = |rig: &mut Rig| ask(rig, &[]).err().map(|pinned| pinned.0);
    let mut rig = rig();
    rig.client(&[query("set my.thing = 'x'")]);
    rig.server(&[complete("SET"), ready('I')]);
    assert_eq!(pinned(&mut rig), Some("a setting that no catalog shows"));
    rig.client(&[query("discard all")]);
    rig.server(&[name_status("tidegate"), complete("DISCARD ALL"), ready('I')]);
    rig.server(&own_words());
    rig.server(&[name_status("alice/s-1 psql"), ready('I')]);
    assert_eq!(pinned(&mut rig), None);
}

/// The server's answers to what puts the name and the one start-up setting back.
fn own_words() -> Vec<Vec<u8>> {
    let closed = || message('3', b"");
    let one = || [message('1', b""), message('2', b""), complete("SET"), closed(), closed()];
    [vec![closed()], one().to_vec(), one().to_vec()].concat()
}

#[test]
fn a_text_that_runs_behind_a_discard_pins_still() {
    let mut rig = rig();
    let run = |text: &str| [parse("", text), bind("", ""), execute("")].concat();
    rig.client(&[run("discard all"), run("select nextval('s')"), sync()]);
    let ran = |tag: &str| [message('1', b""), message('2', b""), complete(tag)].concat();
    rig.server(&[&[ran("DISCARD ALL")], &own_words()[..], &[ran("SELECT 1"), ready('I')]].concat());
    assert_eq!(rig.relay.boundary(), Boundary::Idle);
    assert_eq!(ask(&mut rig, &[]).unwrap_err().0, "the current value of a sequence");
    let mut other = Rig::new(Settings::default());
    other.client(&[message('F', b"\0\0\x04\xd2\0\0\0\0\0\0")]);
    other.server(&[message('V', b"\xff\xff\xff\xff"), ready('I')]);
    assert_eq!(ask(&mut other, &[]).unwrap_err().0, "a function that was called by its number");
}

#[test]
fn a_statement_that_moved_pins_as_it_did() {
    let mut rig = rig();
    // What the Parse alone may have left is discarded; the unnamed statement lives on.
    rig.client(&[parse("d", "discard all"), parse("", "select nextval('s')"), sync()]);
    rig.server(&[message('1', b""), message('1', b""), ready('I')]);
    rig.client(&[bind("", "d"), execute(""), sync()]);
    let ran = |tag: &str| [message('2', b""), complete(tag)].concat();
    rig.server(&[&[ran("DISCARD ALL")], &own_words()[..], &[ready('I')]].concat());
    rig.relay.assume_proven(described());
    let restore = rig.relay.detach().unwrap();
    assert_eq!(names(&restore), [" := select nextval('s')"]);
    rig.relay.attach(&rig::facts("psql"), restore, &mut BytesMut::new());
    rig.server(&put_back(b"\0\0"));
    rig.client(&[bind("", ""), execute(""), sync()]);
    rig.server(&[ran("SELECT 1"), ready('I')]);
    rig.relay.assume_proven(described());
    assert_eq!(rig.relay.detach(), Err(Pinned("the current value of a sequence")));
}

#[test]
fn a_portal_that_runs_behind_a_discard_pins_still() {
    let mut rig = rig();
    let run = |text: &str| [parse("", text), bind("", ""), execute("")].concat();
    let early = [parse("i", "insert into t values (1)"), bind("p", "i")].concat();
    rig.client(&[early, run("discard sequences"), execute("p"), sync()]);
    let bound = || [message('1', b""), message('2', b"")].concat();
    rig.server(&[bound(), bound(), complete("DISCARD SEQUENCES"), complete("INSERT 0 1"), ready('I')]);
    rig.client(&[message('C', b"Si\0"), message('C', b"S\0"), sync()]);
    rig.server(&[message('3', b""), message('3', b""), ready('I')]);
    assert_eq!(ask(&mut rig, &[("sequence", "", "")]).unwrap_err().0, "the current value of a sequence");
}

#[test]
fn a_process_that_loaded_code_is_not_lent_again() {
    for tag in
        ["LOAD", "CREATE EXTENSION", "ALTER EXTENSION", "DROP EXTENSION", "CREATE LANGUAGE", "DROP LANGUAGE"]
    {
        let mut rig = rig();
        rig.client(&[query("begin"), query("as may be"), query("rollback")]);
        rig.server(&[complete("BEGIN"), ready('T'), error("42601"), ready('E')]);
        rig.server(&[complete("ROLLBACK"), ready('I')]);
        assert!(!rig.relay.is_spoiled());
        // Also where the catalogs are put back.
        rig.client(&[query("begin"), query("as may be"), query("rollback")]);
        rig.server(&[complete("BEGIN"), ready('T'), complete(tag), ready('T')]);
        rig.server(&[complete("ROLLBACK"), ready('I')]);
        assert!(rig.relay.is_spoiled(), "{tag}");
        rig.relay.assume_proven(described());
        assert!(rig.relay.detach().is_err(), "{tag}");
    }
}

#[test]
fn the_error_of_a_bind_is_noted_for_its_execute() {
    let mut rig = rig();
    let batch = |text: &str| [parse("", text), bind("", ""), describe('P', ""), execute("")].concat();
    rig.client(&[batch("select 1/0"), batch("select 2"), sync()]);
    rig.server(&[message('1', b""), error("22012"), ready('I')]);
    assert_eq!(notes(&rig)[2..], ["1! 22012", "2! skipped"]);
}

#[test]
fn long_messages_pass_in_pieces_once_their_head_is_noted() {
    let mut rig = rig();
    let text = format!("select '{}'", "x".repeat(200_000));
    let long = query(&text);
    rig.feed(Side::Downstream, &long[..50_000]);
    assert!(rig.to_server.is_empty() && rig.notes.is_empty());
    rig.feed(Side::Downstream, &long[50_000..100_000]);
    assert_eq!(rig.to_server.len(), 100_000);
    assert!(!rig.relay.at_unit_boundary(Side::Upstream));
    let mut reader = NoteReader::new(&rig.notes);
    let Some((_, Note::Statement { text: noted, length, .. })) = reader.next() else { panic!() };
    assert_eq!((noted.len(), length as usize), (crate::model::limits::AUDIT_TEXT_BYTES_MAX, text.len()));
    rig.feed(Side::Downstream, &long[100_000..]);
    assert_eq!(rig.to_server, long);
    assert!(rig.relay.at_unit_boundary(Side::Upstream));
}

#[test]
fn texts_beyond_the_limit_go_oldest_first_and_leave_a_note() {
    let mut rig = rig();
    let text = "x".repeat(60_000);
    rig.client(&[parse("", "select first"), bind("p", "")]);
    for _ in 0..200 {
        rig.client(&[parse("", &text)]);
    }
    assert!(notes(&rig).contains(&" := select first".to_owned()));
    assert!(rig.relay.statements.weight() <= crate::model::limits::PREPARED_TEXT_BYTES_MAX);
}

#[test]
fn a_client_that_is_far_ahead_is_held() {
    let mut rig = rig();
    let many = vec![sync(); crate::model::limits::OUTSTANDING_MAX + 10].concat();
    rig.feed(Side::Downstream, &many);
    assert!(rig.held);
    rig.server(&vec![ready('I'); 100]);
    assert_eq!(rig.to_server.len(), many.len());
    assert!(!rig.held);
}

#[test]
fn long_names_that_begin_alike_are_the_same() {
    let mut rig = rig();
    let name = "n".repeat(63);
    rig.client(&[parse(&name, "select 1"), sync()]);
    rig.server(&[message('1', b""), ready('I')]);
    rig.client(&[bind("", &format!("{name}tail")), execute(""), sync()]);
    assert_eq!(notes(&rig)[1], "1: select 1");
}

/// A chunk as `fuzz_relay` reads it: mostly messages, whole or not, of either side.
fn chunk() -> impl Strategy<Value = Vec<u8>> {
    let tag = proptest::sample::select(b"QPBDECSHFXdcfp123tTnCDIsEZGHWNAKVS".to_vec());
    let body = prop_oneof![
        proptest::collection::vec(proptest::sample::select(b"\0\0\0\0\x01\xffaSPIT '".to_vec()), 0..40),
        proptest::sample::select(vec![
            b"\0".to_vec(),
            b"".to_vec(),
            b"I".to_vec(),
            b"reset all\0".to_vec(),
            b"drop\0".to_vec(),
            b"\0select 1\0\0\0".to_vec(),
            b"a\0drop\0\0\0".to_vec(),
            b"\0\0\0\0\0\0\0\0".to_vec(),
            b"\0a\0\0\0\0\0\0\0\0".to_vec(),
            b"\0\0\0\0\0".to_vec(),
            b"SELECT 1\0".to_vec(),
            b"DISCARD ALL\0".to_vec(),
            b"application_name\0tidegate\0".to_vec(),
            b"SERROR\0C42601\0\0".to_vec(),
        ]),
    ];
    let message = (tag, body, any::<bool>(), 0u8..40).prop_map(|(tag, body, upstream, cut)| {
        let mut bytes = message(tag as char, &body);
        if cut < 3 {
            bytes.truncate(usize::from(cut));
        }
        bytes.insert(0, bytes.len() as u8 | if upstream { 0x80 } else { 0 });
        bytes
    });
    prop_oneof![20 => message, 1 => proptest::collection::vec(any::<u8>(), 0..20), 1 => Just(vec![0])]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 800, failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_bytes_break_a_promise(first: u8, chunks in proptest::collection::vec(chunk(), 0..60)) {
        let mut data = vec![first];
        data.extend(chunks.concat());
        fuzz_relay(&data);
    }
}

/// A pooler died of an error without a SQLSTATE.
#[test]
fn cve_2026_6666_an_error_without_a_sqlstate_passes_and_is_noted() {
    for body in [&b"Mwhy\0\0"[..], b"", b"\0", b"C\0\0", b"Cabc", b"SFATAL", b"S\0V\0C\0M\0\0"] {
        let mut rig = rig();
        rig.client(&[query("select 1")]);
        rig.server(&[message('E', body), ready('I')]);
        assert!(rig.end.is_some() || notes(&rig).len() == 2, "{body:?}: {:?}", notes(&rig));
        assert!(!notes(&rig)[1..].iter().any(|note| note.contains('=')), "{body:?}: {:?}", notes(&rig));
    }
}

/// Lengths within messages that overflow, from either side: CVE-2026-107348, CVE-2026-6668, CVE-2026-6664.
#[test]
fn cve_2026_107348_and_6668_and_6664_lengths_within_a_conversation_that_lie() {
    let lengths = [0u32, 3, 5, 0x7fff, 0xffff, 0x3fff_ffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];
    for length in lengths {
        let wide = length.to_be_bytes();
        let short = (length as u16).to_be_bytes();
        for tag in "QPBEDCSHFdcfpX?".chars() {
            let mut rig = rig();
            let lie = [&[tag as u8][..], &wide, b"\0\0\0\0\0\0"].concat();
            rig.feed(Side::Downstream, &lie);
            // Nothing but the head of a long message leaves, and only where the server takes one so long.
            assert!(rig.to_server.len() <= lie.len() && notes(&rig).len() <= 1, "{tag} {length:#x}");
        }
        for body in [
            [b"\0\0", &short[..], b"\0\0"].concat(),
            [b"\0\0\0\0", &short[..], &wide].concat(),
            [b"\0\0\0\0\0\x01", &wide[..], b"abc"].concat(),
        ] {
            let mut rig = rig();
            rig.client(&[parse("", "select $1")]);
            rig.feed(Side::Downstream, &[message('B', &body), execute(""), sync()].concat());
            assert!(notes(&rig).len() <= 2, "{length:#x}");
        }
        for tag in "RSKZENATtDCI123nsGHWVdcv?".chars() {
            let mut rig = rig();
            rig.client(&[query("select 1")]);
            rig.feed(Side::Upstream, &[&[tag as u8][..], &wide, b"\0\0\0\0\0\0"].concat());
            assert!(rig.to_client.len() <= 11, "{tag} {length:#x}");
        }
    }
}
