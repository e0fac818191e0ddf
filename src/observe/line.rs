//! The lines of the audit file: one JSON object each, in the form of section "Audit file" of the
//! documents. Written by hand into a buffer that is used again: there is one line for each statement
//! and each result of everybody.

use jiff::Timestamp;

use super::labels::{Labels, put_members};
use super::record::{Kind, Record};
use crate::model::{Note, NoteReader, Parameters, StatementKind};
use crate::protocol::label::Label;
use crate::protocol::{DescribeParameters, LabelStatement};

/// How a protocol reads statements and bound values.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    pub describe: DescribeParameters,
    pub label: LabelStatement,
}

/// By the protocol's name.
pub type Readers = fn(&str) -> Option<Reading>;

const CHAIN_MEMBER: &[u8; 10] = b",\"chain\":\"";

/// Writes the inside of lines: everything but the chain and the closing brace.
pub struct LineWriter {
    readers: Readers,
    pub labels: Labels,
    /// The last context, and how its protocol's statements are read: the next is often the same.
    context: Vec<u8>,
    reading: Option<Reading>,
    /// The last second written, as text: most lines share it with their neighbours.
    second: i64,
    second_text: String,
}

impl LineWriter {
    pub fn new(readers: Readers) -> Self {
        let (labels, context) = (Labels::new(), Vec::new());
        Self { readers, labels, context, reading: None, second: i64::MIN, second_text: String::new() }
    }

    /// Calls `each` with a sequence number and a function that writes that line, for every line of the
    /// record whose number is above `after`.
    pub fn record<E>(
        &mut self,
        record: &Record<'_>,
        after: u64,
        mut each: impl FnMut(u64, &mut dyn FnMut(&mut Vec<u8>)) -> Result<(), E>,
    ) -> Result<(), E> {
        match record.kind {
            Kind::Event if record.sequence > after => {
                each(record.sequence, &mut |out| self.event(out, record))
            }
            Kind::Event => Ok(()),
            Kind::Notes => {
                if self.context != record.context {
                    self.context.clear();
                    self.context.extend_from_slice(record.context);
                    self.reading = protocol_of(record.context).and_then(self.readers);
                }
                for ((micros, note), sequence) in NoteReader::new(record.payload).zip(record.sequence..) {
                    if sequence > after {
                        each(sequence, &mut |out| self.note(out, sequence, micros, record.context, &note))?;
                    }
                }
                Ok(())
            }
        }
    }

    /// `{"seq":…,"time":"…"`, with which every line begins.
    pub fn begin(&mut self, out: &mut Vec<u8>, sequence: u64, micros: i64) {
        out.extend_from_slice(b"{\"seq\":");
        put_number(out, sequence);
        out.extend_from_slice(b",\"time\":\"");
        let second = micros.div_euclid(1_000_000);
        if second != self.second || self.second_text.is_empty() {
            let time = Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH);
            self.second = second;
            self.second_text = time.to_string();
            self.second_text.truncate(self.second_text.trim_end_matches('Z').len());
        }
        out.extend_from_slice(self.second_text.as_bytes());
        let mut fraction = *b".000000Z\"";
        let mut rest = micros.rem_euclid(1_000_000);
        for digit in fraction[1..7].iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        out.extend_from_slice(&fraction);
    }

    fn event(&mut self, out: &mut Vec<u8>, record: &Record<'_>) {
        self.begin(out, record.sequence, record.micros);
        // An object that begins with its `"event"` member; its brace is replaced by ours.
        if let [b'{', members @ .., b'}'] = record.payload
            && !members.is_empty()
        {
            out.push(b',');
            out.extend_from_slice(members);
        }
    }

    fn note(&mut self, out: &mut Vec<u8>, sequence: u64, micros: i64, context: &[u8], note: &Note<'_>) {
        self.begin(out, sequence, micros);
        let name = match note {
            Note::Statement { .. } => "statement",
            Note::Result { .. } => "result",
            Note::Prepare { .. } => "prepare",
            Note::File { .. } => "file",
        };
        out.extend_from_slice(b",\"event\":\"");
        out.extend_from_slice(name.as_bytes());
        out.push(b'"');
        if !context.is_empty() {
            out.push(b',');
            out.extend_from_slice(context);
        }
        let mut members = Members { out, lossy: false };
        match *note {
            Note::Statement { number, kind, text, length, prepared, parameters } => {
                members.number("number", number);
                let kind_of = kind;
                let kind = match kind {
                    StatementKind::Simple => b"simple".as_slice(),
                    StatementKind::Extended => b"extended",
                    StatementKind::FunctionCall => b"function",
                    StatementKind::Command => b"command",
                };
                members.text("kind", kind);
                members.cut_text(text, length);
                if !prepared.is_empty() {
                    members.text("prepared", prepared);
                }
                let reading = self.reading;
                members.parameters(&parameters, reading.map(|reading| reading.describe));
                match kind_of {
                    StatementKind::FunctionCall => put_members(members.out, &Label::call()),
                    // Its first word says all.
                    StatementKind::Command => {}
                    _ => members.label(&mut self.labels, reading, text, length),
                }
            }
            Note::Result { number, tag, rows, bytes_up, bytes_down, micros, sqlstate, more } => {
                members.number("number", number);
                members.text("tag", tag);
                members.number("rows", rows);
                members.number("bytes_up", bytes_up);
                members.number("bytes_down", bytes_down);
                members.number("duration_us", micros);
                if !sqlstate.is_empty() {
                    members.text("sqlstate", sqlstate);
                }
                if !more.is_empty() {
                    members.out.push(b',');
                    members.out.extend_from_slice(more);
                }
            }
            Note::Prepare { name, text, length } => {
                members.text("name", name);
                members.cut_text(text, length);
                let reading = self.reading;
                members.label(&mut self.labels, reading, text, length);
            }
            Note::File { number, name, bytes, sha256, whole } => {
                members.number("number", number);
                members.text("name", name);
                members.number("bytes", bytes);
                members.hex("sha256", sha256);
                members.key("whole");
                members.out.extend_from_slice(if whole { b"true" } else { b"false" });
            }
        }
        if members.lossy {
            out.extend_from_slice(b",\"text_encoding\":\"lossy\"");
        }
    }
}

/// Appends further members to an object.
struct Members<'a> {
    out: &'a mut Vec<u8>,
    /// Something was not UTF-8 and is shown with replacement characters.
    lossy: bool,
}

impl Members<'_> {
    fn key(&mut self, key: &str) {
        self.out.extend_from_slice(b",\"");
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        put_number(self.out, value);
    }

    fn text(&mut self, key: &str, value: &[u8]) {
        self.key(key);
        match std::str::from_utf8(value) {
            Ok(text) => put_string(self.out, text),
            Err(_) => {
                self.lossy = true;
                put_string(self.out, &String::from_utf8_lossy(value));
            }
        }
    }

    fn hex(&mut self, key: &str, bytes: &[u8]) {
        self.key(key);
        self.out.push(b'"');
        put_hex(self.out, bytes);
        self.out.push(b'"');
    }

    /// A statement's text; how long it was where a limit cut it. A character that the limit cut in two
    /// is left out whole: that is no fault of the text's encoding.
    fn cut_text(&mut self, text: &[u8], length: u64) {
        let cut = length > text.len() as u64;
        let whole = match std::str::from_utf8(text) {
            Err(error) if cut && error.error_len().is_none() => &text[..error.valid_up_to()],
            _ => text,
        };
        self.text("text", whole);
        if cut {
            self.number("text_bytes", length);
        }
    }

    /// What the text says that it does. A protocol that is not built in has no labels.
    fn label(&mut self, labels: &mut Labels, reading: Option<Reading>, text: &[u8], length: u64) {
        if let Some(reading) = reading {
            labels.put(self.out, text, length <= text.len() as u64, reading.label);
        }
    }

    fn parameters(&mut self, parameters: &Parameters<'_>, describe: Option<DescribeParameters>) {
        if parameters.values.is_empty() && parameters.length > 0 {
            // Of a statement with a password in it; or a limit has dropped them.
            self.key("parameters");
            self.out.extend_from_slice(b"[\"***\"]");
            self.number("parameters_bytes", parameters.length);
            return;
        }
        // Most statements have none, and then it is all the same whose they would be.
        match (!parameters.values.is_empty()).then_some(describe) {
            Some(Some(describe)) => {
                self.key("parameters");
                let values = serde_json::Value::Array(describe(parameters));
                // A vector takes every byte, and every value has a JSON form.
                let _ = serde_json::to_writer(&mut *self.out, &values);
            }
            Some(None) => {
                self.hex("parameters_raw", parameters.values);
            }
            None => {
                self.key("parameters");
                self.out.extend_from_slice(b"[]");
            }
        }
        if parameters.length > parameters.values.len() as u64 {
            self.number("parameters_bytes", parameters.length);
        }
    }
}

/// The protocol's name among a context's members. A string within JSON cannot pass for the member: each
/// quote in it has a backslash before it.
fn protocol_of(context: &[u8]) -> Option<&str> {
    const MEMBER: &[u8] = b"\"protocol\":\"";
    let quote = |bytes: &[u8]| bytes.iter().position(|byte| *byte == b'"');
    let mut rest = context;
    loop {
        rest = &rest[quote(rest)?..];
        if let Some(name) = rest.strip_prefix(MEMBER) {
            return std::str::from_utf8(&name[..quote(name)?]).ok();
        }
        rest = &rest[1..];
    }
}

/// Closes a line that begins at `start` of `out`, without newline, and returns its chain value:
/// SHA-256 over the previous value (32 bytes) and the line as it would be without its last member.
pub fn close(out: &mut Vec<u8>, start: usize, previous: &[u8; 32]) -> [u8; 32] {
    let chain = link(previous, out.get(start..).unwrap_or_default());
    out.extend_from_slice(CHAIN_MEMBER);
    put_hex(out, &chain);
    out.extend_from_slice(b"\"}");
    chain
}

/// The chain value of a line of which `body` is all but the chain member and the closing brace.
pub fn link(previous: &[u8; 32], body: &[u8]) -> [u8; 32] {
    use sha2::{Digest, Sha256};
    Sha256::new().chain_update(previous).chain_update(body).chain_update(b"}").finalize().into()
}

/// A line as it is read back, without its newline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    pub sequence: u64,
    pub chain: [u8; 32],
    /// All but the chain member and the closing brace.
    pub body: &'a [u8],
}

impl<'a> Line<'a> {
    /// `,"chain":"` + 64 digits + `"}`: what a line has behind its body.
    pub const TAIL_BYTES: usize = CHAIN_MEMBER.len() + 64 + 2;

    /// `None`: it does not begin and end as a line of ours does.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let (body, tail) = line.split_at_checked(line.len().checked_sub(Self::TAIL_BYTES)?)?;
        let digits = tail.strip_prefix(CHAIN_MEMBER)?.strip_suffix(b"\"}")?;
        let rest = body.strip_prefix(b"{\"seq\":")?;
        let end = rest.iter().position(|byte| *byte == b',')?;
        let sequence = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
        Some(Self { sequence, chain: parse_hex(digits)?, body })
    }
}

pub fn put_string(out: &mut Vec<u8>, text: &str) {
    // A vector takes every byte, and every string has a JSON form.
    let _ = serde_json::to_writer(out, text);
}

fn put_number(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

pub fn put_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend(bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]));
}

/// 64 lower case digits.
pub fn parse_hex(digits: &[u8]) -> Option<[u8; 32]> {
    let digits: &[u8; 64] = digits.try_into().ok()?;
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_chunks::<2>().0) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::model::{GrantId, Notes, SessionContext, SessionId};

    fn describe(parameters: &Parameters<'_>) -> Vec<Value> {
        vec![json!(parameters.values.len()), Value::Null]
    }

    fn label(text: &[u8], is_whole: bool) -> Label {
        let names = vec![String::from_utf8_lossy(text).into_owned()];
        Label {
            verbs: vec!["SELECT".into()],
            reads: names,
            why: (!is_whole).then_some("cut"),
            ..Label::default()
        }
    }

    fn readers(name: &str) -> Option<Reading> {
        (name == "postgres").then_some(Reading { describe, label })
    }

    fn context(database: &str, protocol: &'static str) -> SessionContext {
        SessionContext::new(
            SessionId::from_u64(1),
            protocol,
            &"alice".parse().unwrap(),
            &"orders".parse().unwrap(),
            &"read".parse().unwrap(),
            GrantId::from_u64(2),
            Some(database),
        )
    }

    fn lines(context: &SessionContext, notes: &[Note<'_>], after: u64) -> Vec<Value> {
        let mut payload = Vec::new();
        let mut encoder = Notes::new(&mut payload, 1_795_334_400_123_456);
        notes.iter().for_each(|note| encoder.push(note));
        let record = Record {
            kind: Kind::Notes,
            sequence: 7,
            lines: notes.len() as u32,
            micros: 0,
            context: context.members().as_bytes(),
            payload: &payload,
        };
        let mut all = Vec::new();
        let mut writer = LineWriter::new(readers);
        let done: Result<(), ()> = writer.record(&record, after, |sequence, write| {
            let mut line = Vec::new();
            write(&mut line);
            close(&mut line, 0, &[0; 32]);
            assert_eq!(Line::parse(&line).unwrap().sequence, sequence);
            all.push(serde_json::from_slice(&line).unwrap());
            Ok(())
        });
        done.unwrap();
        all
    }

    const STATEMENT: Note<'_> = Note::Statement {
        number: 3,
        kind: StatementKind::Simple,
        text: b"select \"x\"\n",
        length: 11,
        prepared: b"",
        parameters: Parameters { types: b"", values: b"", length: 0 },
    };

    fn without_chain(mut line: Value) -> Value {
        assert!(line.as_object_mut().unwrap().remove("chain").is_some());
        line
    }

    #[test]
    fn the_lines_of_notes_are_what_the_documents_say() {
        let result = Note::Result {
            number: 3,
            tag: b"SELECT 5",
            rows: 5,
            bytes_up: 30,
            bytes_down: 400,
            micros: 1500,
            sqlstate: b"",
            more: b"\"counted\":\"hits\"",
        };
        let prepare = Note::Prepare { name: b"s1", text: b"select $1", length: 90 };
        let file = Note::File { number: 3, name: b"/tmp/a", bytes: 70, sha256: &[0xab; 32], whole: false };
        let all = lines(&context("shop", "postgres"), &[STATEMENT, result, prepare, file], 0);
        let common = |seq: u64, event: &str, mut own: Value| {
            let all = json!({
                "seq": seq, "time": "2026-11-22T08:00:00.123456Z", "event": event,
                "session": "s-0000000000001", "user": "alice", "target": "orders", "level": "read",
                "grant": "g-0000000000002", "database": "shop", "protocol": "postgres",
            });
            own.as_object_mut().unwrap().extend(all.as_object().unwrap().clone());
            own
        };
        let expected = [
            common(
                7,
                "statement",
                json!({"number": 3, "kind": "simple", "text": "select \"x\"\n", "parameters": [],
                    "verbs": ["SELECT"], "reads": ["select \"x\"\n"]}),
            ),
            common(
                8,
                "result",
                json!({"number": 3, "tag": "SELECT 5", "rows": 5, "bytes_up": 30, "bytes_down": 400, "duration_us": 1500,
                    "counted": "hits"}),
            ),
            common(
                9,
                "prepare",
                json!({"name": "s1", "text": "select $1", "text_bytes": 90,
                "verbs": ["SELECT"], "reads": ["select $1"], "label": "cut"}),
            ),
            common(
                10,
                "file",
                json!({"number": 3, "name": "/tmp/a", "bytes": 70, "sha256": "ab".repeat(32), "whole": false}),
            ),
        ];
        assert_eq!(all.into_iter().map(without_chain).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn lines_that_are_already_there_are_left_out() {
        let all = lines(&context("shop", "postgres"), &[STATEMENT, STATEMENT, STATEMENT], 8);
        assert_eq!(all.len(), 1);
        assert_eq!(all[0]["seq"], 9);
    }

    #[test]
    fn parameters_are_described_by_their_protocol_only() {
        let note = Note::Statement {
            number: 1,
            kind: StatementKind::Extended,
            text: b"select $1",
            length: 9,
            prepared: b"s1",
            parameters: Parameters { types: &[0, 0, 0, 23], values: b"\x01\xff", length: 900 },
        };
        let line = &lines(&context("shop", "postgres"), &[note], 0)[0];
        assert_eq!(line["parameters"], json!([2, null]));
        assert_eq!(line["parameters_bytes"], 900);
        assert_eq!(line["prepared"], "s1");
        assert_eq!(line["kind"], "extended");
        // Left out for a password, or for a limit.
        let Note::Statement { parameters, .. } = note else { panic!() };
        let parameters = Parameters { types: b"", values: b"", ..parameters };
        let hidden = Note::Statement {
            number: 1,
            kind: StatementKind::Extended,
            text: b"select $1",
            length: 9,
            prepared: b"s1",
            parameters,
        };
        let line = &lines(&context("shop", "postgres"), &[hidden], 0)[0];
        assert_eq!((&line["parameters"], &line["parameters_bytes"]), (&json!(["***"]), &json!(900)));
        // A database's name cannot choose the decoder.
        let line = &lines(&context("\",\"protocol\":\"postgres", "mysql"), &[note], 0)[0];
        assert_eq!(line["parameters_raw"], "01ff");
        assert_eq!(line.get("parameters"), None);
        assert_eq!(line["protocol"], "mysql");
    }

    #[test]
    fn text_that_is_not_utf8_is_shown_and_flagged() {
        let text = |text, length| Note::Prepare { name: b"", text, length };
        let all = lines(
            &context("shop", "postgres"),
            &[text(b"a\xffb\0", 4), text(b"a\xc3", 3), text(b"a\xc3", 2)],
            0,
        );
        assert_eq!(all[0]["text"], "a\u{fffd}b\0");
        assert_eq!(all[0]["text_encoding"], "lossy");
        // Cut in the middle of a character, which is no fault of the text.
        assert_eq!(all[1]["text"], "a");
        assert_eq!(all[1]["text_bytes"], 3);
        assert_eq!(all[1].get("text_encoding"), None);
        assert_eq!(all[2]["text_encoding"], "lossy");
    }

    #[test]
    fn times_of_every_sign_are_written() {
        let mut writer = LineWriter::new(readers);
        for (micros, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (1_795_334_400_000_001, "2026-11-22T08:00:00.000001Z"),
            (i64::MAX, "1970-01-01T00:00:00.775807Z"),
        ] {
            let mut out = Vec::new();
            writer.begin(&mut out, 1, micros);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{{\"seq\":1,\"time\":\"{text}\""));
        }
    }

    #[test]
    fn numbers_and_digits_survive() {
        for value in [0, 9, 10, 1_234_567, u64::MAX] {
            let mut out = Vec::new();
            put_number(&mut out, value);
            assert_eq!(out, value.to_string().as_bytes());
        }
        let bytes: [u8; 32] = std::array::from_fn(|i| (i * 37) as u8);
        let mut digits = Vec::new();
        put_hex(&mut digits, &bytes);
        assert_eq!(parse_hex(&digits), Some(bytes));
        assert_eq!(parse_hex(&digits[1..]), None);
        digits[5] = b'G';
        assert_eq!(parse_hex(&digits), None);
    }

    #[test]
    fn a_changed_line_has_another_link() {
        let mut line = b"{\"seq\":1,\"event\":\"x\"".to_vec();
        let chain = close(&mut line, 0, &[7; 32]);
        let parsed = Line::parse(&line).unwrap();
        assert_eq!(parsed.chain, chain);
        assert_eq!(link(&[7; 32], parsed.body), chain);
        assert_ne!(link(&[8; 32], parsed.body), chain);
        for end in 0..line.len() {
            assert_eq!(Line::parse(&line[..end]), None);
        }
    }
}
