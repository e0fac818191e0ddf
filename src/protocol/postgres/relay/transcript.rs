//! Recorded conversations, replayed whole and in pieces.
//!
//! Each file in `golden` was recorded between a real client and a real server, whose login we had dealt with
//! before. Lines, with bytes in the escapes of Rust's byte strings:
//!
//! ```text
//! # a remark        A the client's application_name     P a start-up setting and its value
//! C from the client     s what went to the server for it (and what went back to either side)
//! S from the server     c what went to the client for it
//! N a note
//! ```

use proptest::prelude::*;

use super::super::facts::Settings;
use super::rig::Rig;
use crate::model::{Note, NoteReader, Refusal, Verdict};
use crate::protocol::session::{Boundary, Relay, Side};

/// The notes, without times.
pub(super) fn note_lines(notes: &[u8]) -> Vec<String> {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    NoteReader::new(notes)
        .map(|(_, note)| match note {
            Note::Statement { number, kind, text: sql, prepared, parameters, .. } => {
                let values = super::super::value::describe(&parameters);
                let values = serde_json::Value::Array(values);
                format!("{number} {kind:?} [{}] {} {values}", text(prepared), text(sql))
            }
            Note::Result { number, tag, rows, bytes_up, bytes_down, sqlstate, .. } => {
                let what = if sqlstate.is_empty() { tag } else { sqlstate };
                format!("{number} {} rows {rows} up {bytes_up} down {bytes_down}", text(what))
            }
            Note::Prepare { name, text: sql, .. } => format!("Prepare [{}] {}", text(name), text(sql)),
            Note::File { .. } => "a file of the client's".to_owned(),
        })
        .collect()
}

#[derive(Default)]
struct Transcript {
    settings: Settings,
    sent: Vec<(Side, Vec<u8>)>,
    to_client: Vec<u8>,
    to_server: Vec<u8>,
    notes: Vec<String>,
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match (byte, byte == b'\\') {
            (byte, false) => byte,
            _ => match rest.next().unwrap() {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'x' => {
                    let digits = [rest.next().unwrap(), rest.next().unwrap()];
                    u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                }
                same => same,
            },
        });
    }
    bytes
}

fn read(text: &str) -> Transcript {
    let mut transcript = Transcript::default();
    for line in text.lines() {
        let (kind, rest) = line.split_once(' ').unwrap();
        match kind {
            "A" => transcript.settings.application_name = Some(rest.into()),
            "P" => {
                let (name, value) = rest.split_once(' ').unwrap();
                transcript.settings.parameters.push((name.into(), value.into()));
            }
            "C" => transcript.sent.push((Side::Downstream, unescape(rest))),
            "S" => transcript.sent.push((Side::Upstream, unescape(rest))),
            "c" => transcript.to_client.extend(unescape(rest)),
            "s" => transcript.to_server.extend(unescape(rest)),
            "N" => transcript.notes.push(rest.into()),
            _ => assert_eq!(kind, "#"),
        }
    }
    transcript
}

/// Replays with every chunk split at what `cut` says for its length.
fn replay(transcript: &Transcript, mut cut: impl FnMut(usize) -> usize) {
    let mut rig = Rig::new(transcript.settings.clone());
    rig.to_client.clear();
    rig.judge = |operation| match operation.text.starts_with(b"drop table forbidden") {
        true => Verdict::Refuse(Refusal::OperationDenied("it is forbidden")),
        false => Verdict::Allow,
    };
    for (side, bytes) in &transcript.sent {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (head, tail) = rest.split_at(cut(rest.len()).clamp(1, rest.len()));
            rig.feed(*side, head);
            rest = tail;
        }
    }
    let shown = |bytes: &[u8]| bytes.escape_ascii().to_string();
    assert_eq!(shown(&rig.to_server), shown(&transcript.to_server));
    assert_eq!(shown(&rig.to_client), shown(&transcript.to_client));
    assert_eq!(note_lines(&rig.notes), transcript.notes);
    assert_ne!(rig.relay.boundary(), Boundary::Busy, "{:?}", rig.end);
}

const GOLDEN: &[&str] = &[
    include_str!("../golden/psql.txt"),
    include_str!("../golden/tokio-postgres.txt"),
    include_str!("../golden/pgbench-pipeline.txt"),
];

#[test]
fn recorded_conversations_come_out_the_same() {
    for text in GOLDEN {
        let transcript = read(text);
        assert!(transcript.sent.len() > 10 && !transcript.notes.is_empty());
        replay(&transcript, |length| length);
        replay(&transcript, |_| 1);
        replay(&transcript, |_| 3);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_split_comes_out_the_same(which in 0..GOLDEN.len(), cuts in proptest::collection::vec(1usize..40, 1..50)) {
        let mut cuts = cuts.iter().cycle();
        replay(&read(GOLDEN[which]), |_| *cuts.next().unwrap());
    }
}
