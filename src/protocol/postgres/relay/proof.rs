//! May this session give its connection back? One question to the server decides (`query::proof`), asked
//! between the client's statements under a name of ours, so that the client's unnamed statement survives it
//! and nothing of it is seen.
//!
//! The client is not held up: what it sends meanwhile goes to the server right behind the question, and the
//! answer is then of no use any more. An error in the answer (the client's own `statement_timeout`, for
//! example) pins: nothing was proven.

use std::hash::Hasher;

use bytes::BytesMut;

use super::super::frame;
use super::super::lexer::Pins;
use super::super::message::row;
use super::super::query;
use super::PostgresRelay;
use super::outstanding::Purpose;
use super::prepared::{Id, Tables};
use super::words::{self, OWN_NAME, put_own_close, put_own_run, put_parse};
use crate::model::limits::{
    INSPECT_BYTES_MAX, PROOF_ROWS_MAX, RESTORED_SETTING_BYTES_MAX, RESTORED_STATEMENTS_MAX, SETTINGS_MAX,
};
use crate::protocol::session::{Ask, Boundary, Pinned, Prepared, Proof, Restore, WireError};

/// What texts may have left at the server, and from which statement on.
#[derive(Debug, Default)]
pub(super) struct Left {
    pins: Pins,
    /// The number of the last statement that left `pins.state` or `pins.inserts`.
    last: u64,
}

/// A question to the server that is on its way, or its answer.
#[derive(Debug, Default)]
pub(super) struct Proving {
    rows: Vec<[String; 3]>,
    failed: bool,
    /// The client has sent something since.
    stale: bool,
    /// What the server says of prepared statements, by entry.
    described: Vec<(Id, u64)>,
    /// A prepared statement is one no more.
    broken: bool,
    /// Answered.
    through: bool,
    accept_sequences: bool,
    /// What must be put back elsewhere; `Some` once nothing pins.
    settings: Option<Vec<(String, String)>>,
}

/// Prepared statements that are being put back on another connection.
#[derive(Debug, Default)]
pub(super) struct Moving {
    /// With what they were.
    waiting: Vec<(Id, u64)>,
    /// The ones that are not what they were.
    misfits: Vec<Id>,
}

impl Moving {
    pub fn expect(&mut self, entry: Id, described: u64) {
        self.waiting.push((entry, described));
    }

    pub fn is_under_way(&self) -> bool {
        !self.waiting.is_empty()
    }
}

const UNPROVEN: Pinned = Pinned("the server does not confirm that nothing would be lost");
const FOREIGN_SETTING: Pinned = Pinned("a setting that cannot be put back");
const SEQUENCE: Pinned = Pinned("the current value of a sequence");

impl PostgresRelay {
    /// A text goes to the server. `number`: of the statement, or of the next where it is only prepared.
    pub(super) fn leaves(&mut self, pins: Pins, number: u64) {
        if !pins.is_none() {
            self.left.pins = self.left.pins.and(pins);
            self.left.last = number;
        }
    }

    /// `DISCARD ALL` or `DISCARD SEQUENCES` was run as statement `number`.
    pub(super) fn discarded(&mut self, all: bool, number: u64) {
        if self.left.last <= number {
            self.left.pins.inserts = false;
            if all {
                self.left.pins.state = None;
            }
        }
    }

    /// Whether the client's encoding has the ASCII characters, and nothing else, in the lower half of the bytes.
    pub(super) fn ascii_safe(&self) -> bool {
        const UNSAFE: [&[u8]; 7] =
            [b"SJIS", b"SHIFT_JIS_2004", b"BIG5", b"GBK", b"UHC", b"GB18030", b"JOHAB"];
        self.parameters.value(b"client_encoding").is_none_or(|value| !UNSAFE.contains(&value))
    }

    /// What only we know to keep the session where it is.
    pub(super) fn pinned(&self) -> Option<Pinned> {
        if self.spoiled {
            return Some(Pinned("code that the server's process has loaded"));
        }
        if let Some(why) = self.left.pins.lasting.or(self.left.pins.state) {
            return Some(Pinned(why));
        }
        if self.dropped_by_sql {
            return Some(Pinned("a prepared statement was deallocated by name"));
        }
        let cut = |statement: &super::Statement| statement.is_cut || statement.is_shed;
        if self.statements.confirmed().iter().any(|(_, statement)| cut(statement)) {
            return Some(Pinned("a prepared statement is too long to be kept"));
        }
        None
    }

    pub(super) fn ask_for_proof(&mut self, ask: Ask, out: &mut BytesMut) -> Result<(), Pinned> {
        let at_rest = !self.detached && self.boundary_now() == Boundary::Idle && self.unsaid.is_empty();
        if !at_rest || self.stamp.wants_words() || self.from_server.left > 0 {
            return Err(Pinned("the conversation is not at rest"));
        }
        if let Some(pinned) = self.pinned() {
            return Err(pinned);
        }
        // What is asked for is not there before; an error at each question would fill the server's log.
        let version = self.parameters.value(b"server_version").unwrap_or_default();
        let major = version.split(|byte| !byte.is_ascii_digit()).next().unwrap_or_default();
        if std::str::from_utf8(major)
            .ok()
            .and_then(|major| major.parse().ok())
            .is_none_or(|major: u32| major < 14)
        {
            return Err(Pinned("a server older than PostgreSQL 14"));
        }
        let entries: Vec<(Id, Vec<u8>)> = self
            .statements
            .confirmed()
            .iter()
            .filter_map(|(name, _)| Some((self.statements.entry(name)?, name.to_vec())))
            .collect();
        if entries.len() > RESTORED_STATEMENTS_MAX {
            return Err(Pinned("too many prepared statements"));
        }
        // Each by itself, since one that is an error by now must not take the rest along.
        for (entry, name) in entries {
            words::put_describe_statement(out, &name);
            self.sync_own(2, Purpose::Describe(entry), out);
        }
        let sequences = self.left.pins.inserts && !ask.sequences;
        put_own_close(out);
        put_parse(out, OWN_NAME.as_bytes(), query::proof(ask.code, sequences).as_bytes(), &[]);
        put_own_run(out);
        put_own_close(out);
        // CloseComplete, ParseComplete, BindComplete, CommandComplete, CloseComplete twice.
        self.sync_own(6, Purpose::Proof, out);
        self.proving = Some(Box::new(Proving { accept_sequences: !sequences, ..Proving::default() }));
        Ok(())
    }

    /// A ParameterDescription, RowDescription or NoData in answer to words of ours. `None`: it is too long to be
    /// looked at.
    pub(super) fn own_description(&mut self, tag: u8, body: Option<&[u8]>) {
        match body {
            None => self.undescribed = true,
            Some(body) => {
                let hasher = self.description.get_or_insert_default();
                hasher.write_u8(tag);
                hasher.write(body);
            }
        }
    }

    /// The description of one statement is whole; `None`: there is none that could be compared.
    fn take_description(&mut self) -> Option<u64> {
        let unseen = std::mem::take(&mut self.undescribed);
        self.description.take().filter(|_| !unseen).map(|hasher| hasher.finish())
    }

    /// What a prepared statement is, before the session moves.
    pub(super) fn described_before(&mut self, entry: Id, failed: bool) {
        let description = self.take_description().filter(|_| !failed);
        if let Some(proving) = &mut self.proving {
            match description {
                Some(description) => proving.described.push((entry, description)),
                None => proving.broken = true,
            }
        }
    }

    /// What a prepared statement is on the new connection. One that is not what it was, because a table was
    /// altered meanwhile, would give its rows in a form that the client does not expect: to the client it does not
    /// exist any more, as one that cannot be put back.
    pub(super) fn described_after(&mut self, entry: Id, failed: bool) {
        let description = self.take_description();
        let moving = self.moving.get_or_insert_default();
        let at = moving.waiting.iter().position(|(waiting, _)| *waiting == entry);
        let expected = at.map(|at| moving.waiting.remove(at).1);
        if failed {
            // There is nothing to close.
            self.statements.set_confirmed(entry, None, |_| {});
        } else if description.is_none() || description != expected {
            moving.misfits.push(entry);
        }
    }

    /// All prepared statements are back: those that are not what they were go.
    pub(super) fn close_misfits(&mut self, out: &mut BytesMut) {
        let Some(moving) = self.moving.take_if(|moving| !moving.is_under_way()) else { return };
        let misfits = moving.misfits;
        if misfits.is_empty() {
            return;
        }
        for entry in &misfits {
            words::put_close_statement(out, self.statements.name(*entry));
        }
        for entry in &misfits {
            self.statements.set_confirmed(*entry, None, |_| {});
        }
        self.sync_own(misfits.len() as u32, Purpose::Misfits, out);
    }

    /// The client sends something: whatever was proven holds no more.
    pub(super) fn client_goes_on(&mut self) {
        if let Some(proving) = &mut self.proving {
            proving.stale = true;
            if proving.through {
                self.proving = None;
            }
        }
    }

    /// A row of the answer. `body`: as much of it as there is.
    pub(super) fn proof_row(&mut self, body: &[u8], whole: bool) -> Result<(), WireError> {
        let Some(proving) = &mut self.proving else {
            return Err(WireError::new("DataRow", "in answer to words of ours that ask for none"));
        };
        if !whole || proving.rows.len() >= PROOF_ROWS_MAX {
            // More than any session should need to have put back.
            proving.failed = true;
            return Ok(());
        }
        let columns = row(body).and_then(|columns| <[String; 3]>::try_from(columns).ok());
        proving.rows.push(columns.ok_or(WireError::new("DataRow", "malformed"))?);
        Ok(())
    }

    pub(super) fn proof_failed(&mut self) {
        if let Some(proving) = &mut self.proving {
            proving.failed = true;
        }
    }

    /// The answer is whole. True: somebody waits for it.
    pub(super) fn proof_through(&mut self) -> bool {
        match &mut self.proving {
            Some(proving) if !proving.stale => {
                proving.through = true;
                true
            }
            _ => {
                self.proving = None;
                false
            }
        }
    }

    /// Only our question is under way.
    pub(super) fn only_proving(&self) -> bool {
        self.proving.as_ref().is_some_and(|proving| !proving.stale && !proving.through)
    }

    pub(super) fn take_proof(&mut self) -> Option<Proof> {
        let mut proving = self.proving.take_if(|proving| proving.through && proving.settings.is_none())?;
        let rows = std::mem::take(&mut proving.rows);
        let mut proof = Proof { code: String::new(), hidden: Vec::new(), pinned: None };
        for [topic, subject, _] in &rows {
            match topic.as_str() {
                query::CODE => proof.code.clone_from(subject),
                query::HIDDEN => proof.hidden.push(subject.clone()),
                _ => {}
            }
        }
        match self.judge(&proving, &rows) {
            Err(pinned) => proof.pinned = Some(pinned),
            Ok(settings) => {
                proving.settings = Some(settings);
                self.proving = Some(proving);
            }
        }
        Some(proof)
    }

    /// What must be put back elsewhere, or why that cannot be.
    fn judge(&self, proving: &Proving, rows: &[[String; 3]]) -> Result<Vec<(String, String)>, Pinned> {
        if proving.failed {
            return Err(UNPROVEN);
        }
        if proving.broken {
            return Err(Pinned("a prepared statement whose tables were changed"));
        }
        let mut identity = rows.iter().filter(|row| row[0] == query::IDENTITY);
        let Some([_, login, acting]) = identity.next() else { return Err(UNPROVEN) };
        let role = rows.iter().find(|row| row[0] == query::ACTING).map(|row| row[1].as_str());
        if login != &*self.user || acting != &*self.user || role != Some("none") {
            return Err(Pinned("another role was taken on"));
        }
        let mut settings = Vec::new();
        let mut prepared = 0;
        for [topic, subject, detail] in rows {
            match topic.as_str() {
                query::PIN => return Err(pin_of(subject)),
                query::PREPARED if subject == "sql" => {
                    return Err(Pinned("a prepared statement made by PREPARE"));
                }
                query::PREPARED => prepared = detail.parse().map_err(|_| UNPROVEN)?,
                query::SEQUENCE if !proving.accept_sequences => return Err(SEQUENCE),
                query::REAL => return Err(FOREIGN_SETTING),
                query::SETTING => {
                    let fits = detail.len() <= RESTORED_SETTING_BYTES_MAX && detail.is_ascii();
                    if !fits || NOT_RESTORED.contains(&subject.as_str()) || settings.len() >= SETTINGS_MAX {
                        return Err(FOREIGN_SETTING);
                    }
                    settings.push((subject.to_ascii_lowercase(), detail.clone()));
                }
                _ => {}
            }
        }
        let named = self.statements.confirmed().iter().filter(|(name, _)| !name.is_empty()).count();
        if named != prepared {
            return Err(Pinned("a prepared statement that is not as it was made"));
        }
        Ok(settings)
    }

    /// What only the relay itself must have put back elsewhere, with what the server said of settings.
    pub(super) fn let_go(&mut self) -> Result<Restore, Pinned> {
        let proving = self.proving.take().ok_or(UNPROVEN)?;
        let mut settings = proving.settings.ok_or(UNPROVEN)?;
        settings.shrink_to_fit();
        if self.detached || self.boundary_now() != Boundary::Idle || !self.unsaid.is_empty() {
            return Err(Pinned("the conversation is not at rest"));
        }
        if let Some(pinned) = self.pinned() {
            return Err(pinned);
        }
        let mut restore = Restore { prepared: Vec::new(), settings };
        for (name, statement) in self.statements.confirmed() {
            let types = statement.types.chunks_exact(4);
            let types = types.map(|oid| u32::from_be_bytes([oid[0], oid[1], oid[2], oid[3]]));
            let entry = self.statements.entry(name);
            let described = proving.described.iter().find(|(known, _)| Some(*known) == entry);
            restore.prepared.push(Prepared {
                name: name.to_vec(),
                text: statement.text.clone(),
                types: types.collect(),
                described: described.map(|(_, description)| *description).ok_or(UNPROVEN)?,
            });
        }
        self.portals = Tables::default();
        self.statements = Tables::default();
        // Who sits there and does nothing owns no buffers.
        self.unrun = None;
        self.due = super::Outstanding::default();
        (self.scratch, self.unsaid) = (BytesMut::new(), BytesMut::new());
        self.moving = None;
        self.detached = true;
        Ok(restore)
    }

    /// As if the server had confirmed that nothing would be lost, and had described every statement like this.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn assume_proven(&mut self, described: u64) {
        let settings = Some(Vec::new());
        let names = self.statements.confirmed();
        let described =
            names.iter().filter_map(|(name, _)| Some((self.statements.entry(name)?, described))).collect();
        self.proving = Some(Box::new(Proving { settings, described, through: true, ..Proving::default() }));
    }
}

/// Settings that `set_config` does not put back as they were: they belong to a transaction or a role.
const NOT_RESTORED: [&str; 5] = [
    "transaction_isolation",
    "transaction_read_only",
    "transaction_deferrable",
    "role",
    "session_authorization",
];

/// The reasons that the question itself gives; the server's word is not repeated.
fn pin_of(subject: &str) -> Pinned {
    let known = query::PINS.iter().find(|known| **known == subject);
    known.map_or(UNPROVEN, |known| Pinned(known))
}

/// How much of a row is looked at.
pub(super) fn row_needs(total: usize) -> usize {
    const { assert!(frame::HEADER_BYTES < INSPECT_BYTES_MAX) };
    total.min(INSPECT_BYTES_MAX)
}
