//! The facts that are written while bytes wait: one note per statement and one per result. A relay
//! encodes them into a buffer of its worker; the engine copies that buffer into the audit journal
//! before the bytes leave; the trail's writer decodes and formats them later.
//!
//! The encoding is ours and lives only between a journal and its reader: `kind` (1 byte), wall time in
//! microseconds (8 bytes, little endian, like all numbers here), then the fields of the kind in the order
//! of [`Note`], numbers as 8 bytes, byte strings behind a 4 byte length.

use super::{AccessLevel, GrantId, Name, SessionId};

/// What every line of a session says first, encoded once per session: members of a JSON object
/// without the braces.
#[derive(Debug, Clone)]
pub struct SessionContext {
    pub session: SessionId,
    members: Box<str>,
}

impl SessionContext {
    pub fn new(
        session: SessionId,
        protocol: &'static str,
        user: &Name,
        target: &Name,
        level: &AccessLevel,
        grant: GrantId,
        database: Option<&str>,
    ) -> Self {
        let database = database.map(|database| format!("\"database\":{},", json_string(database)));
        // Of the others none can hold what JSON has to escape.
        let members = format!(
            "{}\"grant\":\"{grant}\",\"level\":\"{}\",\"protocol\":\"{protocol}\",\"session\":\"{session}\",\
             \"target\":\"{}\",\"user\":\"{}\"",
            database.unwrap_or_default(),
            level.as_str(),
            target.as_str(),
            user.as_str(),
        );
        Self { session, members: members.into() }
    }

    pub fn members(&self) -> &str {
        &self.members
    }
}

fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum StatementKind {
    Simple = 1,
    /// An Execute of the extended protocol: text from its Parse, values from its Bind.
    Extended = 2,
    FunctionCall = 3,
    /// A command that is no statement, in words of ours: `INIT_DB shop`.
    Command = 4,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum NoteKind {
    Statement = 1,
    Result = 2,
    Prepare = 3,
    File = 4,
    /// A result with more members.
    ResultMore = 5,
}

/// Bound values as they came over the wire; the protocol's own decoder makes JSON of them later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Parameters<'a> {
    /// What the protocol needs to read the values (PostgreSQL: the type oids, 4 bytes each, big endian; MySQL: what
    /// its `value::Head` writes).
    pub types: &'a [u8],
    /// PostgreSQL: the Bind message from its format codes on, to the end of its values; MySQL: from the bitmap of
    /// NULLs on; cut at a limit.
    pub values: &'a [u8],
    /// How long the values really were.
    pub length: u64,
}

/// One fact on the hot path. Text that a limit cut is shorter than its `length`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note<'a> {
    /// About to be sent to the server.
    Statement {
        /// Counts up in its session, from 1.
        number: u64,
        kind: StatementKind,
        text: &'a [u8],
        length: u64,
        /// The prepared statement's name, empty for none.
        prepared: &'a [u8],
        parameters: Parameters<'a>,
    },
    /// What came of it.
    Result {
        number: u64,
        /// `SELECT 5`, `COPY 100`; empty when it failed.
        tag: &'a [u8],
        rows: u64,
        bytes_up: u64,
        bytes_down: u64,
        micros: u64,
        /// Empty when it succeeded. MySQL's has the server's own number behind a slash: `42S02/1146`.
        sqlstate: &'a [u8],
        /// More members of the line: those of a JSON object, without its braces. Empty for most.
        more: &'a [u8],
    },
    /// A statement prepared by name, not run yet.
    Prepare { name: &'a [u8], text: &'a [u8], length: u64 },
    /// A file of the client's own that a statement had it send, and what of it went to the server.
    File {
        /// The statement's.
        number: u64,
        /// As the server asked for it.
        name: &'a [u8],
        bytes: u64,
        sha256: &'a [u8],
        /// Sent to its end.
        whole: bool,
    },
}

/// Encodes notes at the end of a buffer that is used again and again: no allocation once it has grown.
pub struct Notes<'a> {
    buffer: &'a mut Vec<u8>,
    /// Wall time in microseconds since 1970, taken once per read.
    pub now_micros: i64,
}

impl<'a> Notes<'a> {
    pub fn new(buffer: &'a mut Vec<u8>, now_micros: i64) -> Self {
        Self { buffer, now_micros }
    }

    /// Bytes that wait to be committed.
    pub fn bytes_pending(&self) -> usize {
        self.buffer.len()
    }

    pub fn push(&mut self, note: &Note<'_>) {
        let kind = match note {
            Note::Statement { .. } => NoteKind::Statement,
            Note::Result { more: b"", .. } => NoteKind::Result,
            Note::Result { .. } => NoteKind::ResultMore,
            Note::Prepare { .. } => NoteKind::Prepare,
            Note::File { .. } => NoteKind::File,
        };
        self.buffer.push(kind as u8);
        self.buffer.extend_from_slice(&self.now_micros.to_le_bytes());
        match *note {
            Note::Statement { number, kind, text, length, prepared, parameters } => {
                self.number(number);
                self.buffer.push(kind as u8);
                self.bytes(text);
                self.number(length);
                self.bytes(prepared);
                self.bytes(parameters.types);
                self.bytes(parameters.values);
                self.number(parameters.length);
            }
            Note::Result { number, tag, rows, bytes_up, bytes_down, micros, sqlstate, more } => {
                self.number(number);
                self.bytes(tag);
                self.number(rows);
                self.number(bytes_up);
                self.number(bytes_down);
                self.number(micros);
                self.bytes(sqlstate);
                if !more.is_empty() {
                    self.bytes(more);
                }
            }
            Note::Prepare { name, text, length } => {
                self.bytes(name);
                self.bytes(text);
                self.number(length);
            }
            Note::File { number, name, bytes, sha256, whole } => {
                self.number(number);
                self.bytes(name);
                self.number(bytes);
                self.bytes(sha256);
                self.buffer.push(whole.into());
            }
        }
    }

    fn number(&mut self, value: u64) {
        self.buffer.extend_from_slice(&value.to_le_bytes());
    }

    fn bytes(&mut self, value: &[u8]) {
        // Limits keep every text far below 4 GiB.
        self.buffer.extend_from_slice(&(value.len() as u32).to_le_bytes());
        self.buffer.extend_from_slice(value);
    }
}

/// Reads notes back. Ends early, with `damaged`, at the first one that is not whole.
pub struct NoteReader<'a> {
    rest: &'a [u8],
    pub damaged: bool,
}

impl<'a> NoteReader<'a> {
    pub fn new(buffer: &'a [u8]) -> Self {
        Self { rest: buffer, damaged: false }
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(head)
    }

    fn number(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = u32::from_le_bytes(self.take(4)?.try_into().ok()?);
        self.take(length as usize)
    }

    fn note(&mut self) -> Option<(i64, Note<'a>)> {
        let kind = self.take(1)?[0];
        let micros = self.number()? as i64;
        let note = match kind {
            1 => Note::Statement {
                number: self.number()?,
                kind: match self.take(1)?[0] {
                    1 => StatementKind::Simple,
                    2 => StatementKind::Extended,
                    3 => StatementKind::FunctionCall,
                    4 => StatementKind::Command,
                    _ => return None,
                },
                text: self.bytes()?,
                length: self.number()?,
                prepared: self.bytes()?,
                parameters: Parameters {
                    types: self.bytes()?,
                    values: self.bytes()?,
                    length: self.number()?,
                },
            },
            2 | 5 => Note::Result {
                number: self.number()?,
                tag: self.bytes()?,
                rows: self.number()?,
                bytes_up: self.number()?,
                bytes_down: self.number()?,
                micros: self.number()?,
                sqlstate: self.bytes()?,
                more: if kind == 5 { self.bytes()? } else { b"" },
            },
            3 => Note::Prepare { name: self.bytes()?, text: self.bytes()?, length: self.number()? },
            4 => Note::File {
                number: self.number()?,
                name: self.bytes()?,
                bytes: self.number()?,
                sha256: self.bytes()?,
                whole: self.take(1)?[0] != 0,
            },
            _ => return None,
        };
        Some((micros, note))
    }
}

impl<'a> Iterator for NoteReader<'a> {
    /// Wall time in microseconds, and the note.
    type Item = (i64, Note<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let note = self.note();
        if note.is_none() {
            self.damaged = true;
            self.rest = &[];
        }
        note
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_line_says_first_is_json() {
        let name = |text: &str| text.parse().unwrap();
        let (session, grant) = (SessionId::from_u64(1), GrantId::from_u64(2));
        let of = |level: &AccessLevel, database| {
            let context = SessionContext::new(
                session,
                "postgres",
                &name("alice"),
                &name("shop.eu"),
                level,
                grant,
                database,
            );
            serde_json::from_str::<serde_json::Value>(&format!("{{{}}}", context.members())).unwrap()
        };
        let mut expected = serde_json::json!({
            "session": session, "user": "alice", "target": "shop.eu", "level": "read", "grant": grant,
            "protocol": "postgres", "database": "a\"b\\c\n",
        });
        assert_eq!(of(&AccessLevel::Read, Some("a\"b\\c\n")), expected);
        expected["level"] = "owner-x".into();
        expected.as_object_mut().unwrap().remove("database");
        assert_eq!(of(&AccessLevel::Named(name("owner-x")), None), expected);
    }

    #[test]
    fn notes_survive_the_buffer() {
        let notes = [
            Note::Statement {
                number: 7,
                kind: StatementKind::Extended,
                text: b"select $1",
                length: 9,
                prepared: b"s1",
                parameters: Parameters { types: &[0, 0, 0, 23], values: b"\0\0", length: 2 },
            },
            Note::Result {
                number: 7,
                tag: b"SELECT 1",
                rows: 1,
                bytes_up: 2,
                bytes_down: 3,
                micros: 4,
                sqlstate: b"",
                more: b"",
            },
            Note::Result {
                number: 8,
                tag: b"200",
                rows: 1,
                bytes_up: 2,
                bytes_down: 3,
                micros: 4,
                sqlstate: b"",
                more: b"\"counted\":\"hits\"",
            },
            Note::Prepare { name: b"s1", text: b"select $1", length: 9 },
            Note::File { number: 8, name: b"a name", bytes: 5, sha256: &[7; 32], whole: true },
        ];
        let mut buffer = Vec::new();
        let mut writer = Notes::new(&mut buffer, -5);
        notes.iter().for_each(|note| writer.push(note));
        let read: Vec<_> = NoteReader::new(&buffer).collect();
        assert_eq!(read, notes.map(|note| (-5, note)));
        for cut in 1..buffer.len() {
            let mut reader = NoteReader::new(&buffer[..cut]);
            let whole = reader.by_ref().count();
            assert!(whole < 5);
            let boundary = reader.damaged;
            assert_eq!(boundary, ![1, 2, 3, 4].map(|count| prefix(&notes, count)).contains(&cut));
        }
    }

    fn prefix(notes: &[Note<'_>], count: usize) -> usize {
        let mut buffer = Vec::new();
        let mut writer = Notes::new(&mut buffer, 0);
        notes[..count].iter().for_each(|note| writer.push(note));
        buffer.len()
    }
}
