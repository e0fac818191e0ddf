//! The established conversation: what the client sends, what the server answers, and our own words in
//! between (<https://www.postgresql.org/docs/current/protocol-flow.html>).
//!
//! Two streams of messages are walked by their headers. Both sides meet in one queue
//! ([`outstanding`]): each client message that will be answered puts in what is due, each answer must
//! fit the front. An answer that nobody asked for ends the session, so a connection whose answers could
//! belong to somebody else is never used again.
//!
//! ```text
//!   client ──> Query Parse Bind Execute … ──> note, judge, pass ──> server
//!                                 │ what is due
//!                           [ Outstanding ]      + Prepared: texts and values by name
//!                                 │ what came
//!   client <── pass, swallow, note the result <── ParseComplete, rows, ReadyForQuery …
//! ```
//!
//! The states, each a field of [`PostgresRelay`]:
//!
//! | state | entered by | left by |
//! |---|---|---|
//! | idle | ReadyForQuery with nothing due | any client message |
//! | `unsynced` | Parse, Bind, Describe, Execute, Close | Sync, or ReadyForQuery with nothing more due |
//! | `skipping` | an error in a batch whose Sync we have not passed yet: the server ignores all up to it | Sync |
//! | `slack` | an extended COPY failed behind which Syncs stood: the server may have read them as part of the COPY (and ignored them) or not | an answer that is not ReadyForQuery; a fence of ours makes one |
//! | `resync` | the same, and no Sync passed that surely is none of those | Sync or ReadyForQuery |
//! | `gate` | a Query that undoes start-up settings | its ReadyForQuery |
//! | detached | `detach` | `attach` |
//! | over | a FATAL error | never |
//!
//! What the server does with a message, and so what is due, follows `src/backend/tcop/postgres.c`: an error in
//! the extended protocol skips everything up to the next Sync, also a Query; an error in the simple one
//! does not; during COPY FROM STDIN, Sync and Flush are ignored.

mod client;
mod known;
#[cfg(test)]
mod model;
mod outstanding;
mod prepared;
mod proof;
#[cfg(any(test, feature = "testing"))]
mod rig;
mod server;
mod stamp;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod transcript;
mod words;

use std::sync::Arc;

use bytes::{BufMut, BytesMut};

use outstanding::{Due, Outstanding, Purpose};
use prepared::{Portal, Statement, Table, Tables};
#[cfg(any(test, feature = "testing"))]
pub use rig::fuzz_relay;
use stamp::Stamp;
pub(crate) use stamp::{DIAL_APPLICATION_NAME, stamped_name};

use super::facts::{PostgresFacts, Settings};
use super::frame;
use super::refusal::{Severity, put_error, put_notice};
use crate::model::limits::AUDIT_TEXT_BYTES_MAX;
use crate::model::{Note, Notes, Refusal};
use crate::protocol::session::{
    Ask, Boundary, CancelKey, Entry, Flow, Pinned, Plan, Prepared, Proof, Relay, RelayStep, Restore, Side,
    WireError,
};

const APPLICATION_NAME: &str = "application_name";

/// About as long as what a client is told on entering beside the server's settings.
const ENTRY_BYTES: usize = 256;

/// The SQLSTATE in the result of a statement that was sent but that the server skipped, because
/// something before it in its batch failed. Five letters no server uses.
pub const SKIPPED: &[u8] = b"skipped";

/// The SQLSTATE in the result of a statement whose session ended before it did: whether it took effect
/// is for the server's own log to say. No server uses these letters.
pub const UNFINISHED: &[u8] = b"unfinished";

/// One client and the connection it is lent.
pub struct PostgresRelay {
    due: Outstanding,
    statements: Tables<Statement>,
    portals: Tables<Portal>,
    stamp: Stamp,
    /// What the client was last told of the server's settings.
    parameters: known::Known,
    /// `standard_conforming_strings` is on.
    conforming: bool,
    /// The message under way from each side.
    from_client: Passing,
    from_server: Passing,
    /// As of the last ReadyForQuery: I, T or E.
    status: u8,
    /// Counts the client's Syncs.
    batch: u64,
    unsynced: bool,
    skipping: bool,
    slack: usize,
    resync: bool,
    /// A fence of ours is on its way.
    fenced: bool,
    gate: bool,
    /// The server answered words of ours with an error.
    own_failed: bool,
    /// COPY data passed since the last COPY ended.
    copy_up: u64,
    /// Statements so far.
    count: u64,
    /// The last one that ended in the batch going on: what a failing commit is told of.
    last_ended: u64,
    /// A prepared statement was dropped by SQL, we do not know which.
    dropped_by_sql: bool,
    /// What texts may have left at the server that no catalog shows.
    left: proof::Left,
    /// The server's process may have loaded code that keeps what no reset undoes. Where it came and went with an
    /// extension, the names that a reset looks at show nothing of it.
    spoiled: bool,
    /// The server is asked whether the session may move.
    proving: Option<Box<proof::Proving>>,
    /// Prepared statements that are being put back; the client is held until they are.
    moving: Option<Box<proof::Moving>>,
    /// What the server says of the one that is being described.
    description: Option<Box<std::hash::DefaultHasher>>,
    undescribed: bool,
    /// The answer is there, and the engine has not been told.
    proven: bool,
    /// The role that we are at the server.
    user: Arc<str>,
    /// The process id of the server's connection, and the one that the client was told.
    process: (u32, u32),
    detached: bool,
    over: bool,
    /// Only the rest of the server's message under way is passed on.
    winding_down: bool,
    unrun: Option<Box<client::Unrun>>,
    /// For the client, at the next chance.
    unsaid: BytesMut,
    scratch: BytesMut,
}

/// A message of which a part is still to come.
#[derive(Debug, Clone, Copy, Default)]
struct Passing {
    left: usize,
    /// It is passed on; else it is swallowed.
    keep: bool,
}

impl Passing {
    /// Deals with what has come of the message under way.
    fn go_on(&mut self, available: usize, plan: &mut Plan) {
        let count = self.left.min(available);
        self.left -= count;
        if self.keep { plan.pass(count) } else { plan.drop(count) }
    }

    fn start(&mut self, total: usize, keep: bool, available: usize, plan: &mut Plan) {
        (self.left, self.keep) = (total, keep);
        self.go_on(available, plan);
    }

    /// In the middle of a message that the other side has a part of.
    fn is_partial(&self) -> bool {
        self.keep && self.left > 0
    }
}

impl PostgresRelay {
    /// Tells the client that it is in: the server's settings, our cancel key, the greeting.
    pub fn new(entry: Entry<'_>, settings: Settings, facts: &PostgresFacts, out: &mut BytesMut) -> Self {
        Self::enter(entry.stamp, &entry.key, entry.greeting, settings, facts, out)
    }

    fn enter(
        stamp: &str,
        key: &CancelKey,
        greeting: Option<&str>,
        settings: Settings,
        facts: &PostgresFacts,
        out: &mut BytesMut,
    ) -> Self {
        let mut relay = Self {
            due: Outstanding::default(),
            statements: Tables::default(),
            portals: Tables::default(),
            stamp: Stamp::new(stamp, settings),
            parameters: known::Known::new(facts.dialled.clone()),
            conforming: true,
            from_client: Passing::default(),
            from_server: Passing::default(),
            status: b'I',
            batch: 0,
            unsynced: false,
            skipping: false,
            slack: 0,
            resync: false,
            fenced: false,
            gate: false,
            own_failed: false,
            copy_up: 0,
            count: 0,
            last_ended: 0,
            dropped_by_sql: false,
            left: proof::Left::default(),
            spoiled: false,
            proving: None,
            moving: None,
            description: None,
            undescribed: false,
            proven: false,
            user: facts.user.clone(),
            process: (facts.process_id, key.process),
            detached: false,
            over: false,
            winding_down: false,
            unrun: None,
            unsaid: BytesMut::new(),
            scratch: BytesMut::new(),
        };
        // In one go: a new client's buffer is empty.
        let told: usize = facts.parameters.iter().map(|(name, value)| name.len() + value.len() + 7).sum();
        out.reserve(told + ENTRY_BYTES);
        frame::put(out, b'R', |body| body.put_u32(0));
        for (name, value) in facts.parameters.iter() {
            if **name == *APPLICATION_NAME {
                // The stamp remembers what was shown of it.
                words::put_parameter_status(out, name, relay.stamp.shown());
            } else {
                words::put_parameter_status(out, name, value.as_bytes());
                relay.remember_parameter(name, value.as_bytes());
            }
        }
        frame::put(out, b'K', |body| {
            body.put_u32(key.process);
            body.put_slice(&key.secret);
        });
        if let Some(greeting) = greeting {
            put_notice(out, greeting);
        }
        words::put_ready(out, b'I');
        relay
    }

    /// Keeps a setting of the server; false where it is what we knew.
    fn remember_parameter(&mut self, name: &str, value: &[u8]) -> bool {
        if name == "standard_conforming_strings" {
            self.conforming = value != b"off";
        }
        self.parameters.put(name.as_bytes(), value)
    }

    /// Everything that the client sent so far is passed whole, and ends with a Sync or with what surely is
    /// answered by ReadyForQuery.
    fn client_at_sync(&self) -> bool {
        !self.unsynced && !self.skipping && !self.resync && self.from_client.left == 0
    }

    /// Says to the server what is due from us, where it may be said. What a caller writes to is what goes
    /// to the server behind everything passed so far.
    fn speak(&mut self, out: &mut BytesMut) {
        if !self.client_at_sync() || self.detached || self.over {
            return;
        }
        if self.slack > 0 && !self.fenced {
            self.fenced = true;
            words::put_own_close(out);
            self.sync_own(1, Purpose::Fence, out);
        }
        if self.due.is_empty() && self.status != b'E' && self.stamp.wants_words() {
            let answers = self.stamp.write_due(self.status == b'T', out);
            self.sync_own(answers, Purpose::Stamp, out);
        }
    }

    fn sync_own(&mut self, answers: u32, purpose: Purpose, out: &mut BytesMut) {
        words::put_sync(out);
        self.due.push(Due::Own { answers, inline: false });
        self.due.push(Due::OwnSync(purpose));
    }

    /// [`Self::speak`] into a plan.
    fn speak_in_plan(&mut self, plan: &mut Plan) {
        let mut words = std::mem::take(&mut self.scratch);
        self.speak(&mut words);
        plan.own(&words);
        words.clear();
        self.scratch = words;
    }

    fn boundary_now(&self) -> Boundary {
        if self.detached {
            return Boundary::Idle;
        }
        let busy = !self.due.is_empty() || !self.client_at_sync() || self.from_server.left > 0 || self.over;
        match self.status {
            _ if busy => Boundary::Busy,
            b'I' => Boundary::Idle,
            _ => Boundary::InTransaction,
        }
    }

    fn forget_portals(&mut self) {
        let Some(portals) = self.portals.made() else { return };
        let statements = &mut self.statements;
        portals.forget_confirmed(true, |portal| release_statement(statements, portal));
    }
}

/// A portal that goes lets go of its statement.
fn release_statement(statements: &mut Table<Statement>, portal: &mut Portal) {
    if let Some(statement) = portal.statement.take() {
        statements.release(statement, |_| {});
    }
}

/// What an audit line keeps of a text, cut between characters where it is UTF-8.
fn cut_text(text: &[u8]) -> &[u8] {
    if text.len() <= AUDIT_TEXT_BYTES_MAX {
        return text;
    }
    let inside = |at: usize| text[at] & 0xc0 == 0x80;
    let end = (AUDIT_TEXT_BYTES_MAX - 3..=AUDIT_TEXT_BYTES_MAX).rev().find(|at| !inside(*at));
    &text[..end.unwrap_or(AUDIT_TEXT_BYTES_MAX)]
}

impl Relay for PostgresRelay {
    type Facts = PostgresFacts;

    fn pump(&mut self, from: Side, input: &[u8], flow: &mut Flow<'_>) -> Result<RelayStep, WireError> {
        match from {
            Side::Downstream => {
                if !self.unsaid.is_empty() && !self.from_server.is_partial() {
                    flow.back.extend_from_slice(&self.unsaid);
                    self.unsaid.clear();
                }
                self.pump_client(input, flow)
            }
            Side::Upstream => {
                if !self.unsaid.is_empty() && !self.from_server.is_partial() {
                    flow.plan.own(&self.unsaid);
                    self.unsaid.clear();
                }
                self.pump_server(input, flow)
            }
        }
    }

    fn boundary(&self) -> Boundary {
        self.boundary_now()
    }

    fn at_unit_boundary(&self, towards: Side) -> bool {
        match towards {
            Side::Downstream => !self.from_server.is_partial(),
            Side::Upstream => !self.from_client.is_partial(),
        }
    }

    /// A NoticeResponse, which may come between any two messages.
    fn notice(&mut self, text: &str, out: &mut BytesMut) -> bool {
        let can = self.at_unit_boundary(Side::Downstream);
        if can {
            put_notice(out, text);
        }
        can
    }

    fn refuse(&mut self, refusal: &Refusal, out: &mut BytesMut) {
        put_error(out, Severity::Fatal, refusal);
    }

    fn prove(&mut self, ask: Ask, upstream: &mut BytesMut) -> Result<(), Pinned> {
        self.ask_for_proof(ask, upstream)
    }

    fn is_proving(&self) -> bool {
        self.only_proving()
    }

    fn proof(&mut self) -> Option<Proof> {
        self.take_proof()
    }

    fn detach(&mut self) -> Result<Restore, Pinned> {
        self.let_go()
    }

    /// Settings are on the connection already (`Wire::dressed`). A prepared statement that cannot be put back,
    /// because a table is gone, or that would be another, because a table was altered, is one that does not
    /// exist: an error when the client uses it, upon which drivers prepare it again.
    fn attach(&mut self, facts: &PostgresFacts, restore: Restore, upstream: &mut BytesMut) {
        self.detached = false;
        self.user = facts.user.clone();
        self.process.0 = facts.process_id;
        self.status = b'I';
        for (name, value) in facts.parameters.iter().filter(|(name, _)| **name != *APPLICATION_NAME) {
            if self.remember_parameter(name, value.as_bytes()) {
                words::put_parameter_status(&mut self.unsaid, name, value.as_bytes());
            }
        }
        for Prepared { name, text, types, described } in &restore.prepared {
            // They were confirmed once, so there is room for the name. Each by itself: one that cannot be put
            // back takes no other along.
            let Ok(entry) = self.statements.entry_or_new(name) else { continue };
            words::put_parse(upstream, name, text, types);
            words::put_describe_statement(upstream, name);
            self.moving.get_or_insert_default().expect(entry, *described);
            let statement = self.add_statement(name, text, text.len() as u64, false);
            let pins = self.pins_of(text, true);
            self.statements.change(statement, |statement| {
                statement.pins = pins;
                types.iter().for_each(|oid| statement.types.extend_from_slice(&oid.to_be_bytes()));
            });
            self.statements.set_confirmed(entry, Some(statement), |_| {});
            self.sync_own(3, Purpose::Attach(entry), upstream);
        }
        self.stamp.moved();
        self.speak(upstream);
    }

    fn is_spoiled(&self) -> bool {
        self.spoiled
    }

    fn unfinished(&mut self, notes: &mut Notes<'_>, clock_micros: u64) {
        let (rows, bytes_down) = (self.due.rows, self.due.bytes_down);
        // Only the first can have given rows; of those behind it we know that they were sent.
        for (place, run) in self.due.statements().enumerate() {
            let first = place == 0;
            notes.push(&Note::Result {
                number: run.number,
                tag: b"",
                rows: if first { rows } else { 0 },
                bytes_up: run.bytes_up,
                bytes_down: if first { bytes_down } else { 0 },
                micros: clock_micros.saturating_sub(run.sent),
                sqlstate: UNFINISHED,
                more: b"",
            });
        }
    }

    fn wind_down(&mut self) {
        self.winding_down = true;
    }

    fn statements(&self) -> u64 {
        self.count
    }
}
