//! The established conversation: what the client asks, what the server answers, and our own words in between
//! (<https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_command_phase.html>,
//! <https://mariadb.com/docs/server/reference/clientserver-protocol/2-text-protocol>).
//!
//! Two streams of packets are walked by their headers. Both sides meet in one queue ([`outstanding`]): each command
//! that will be answered puts in what is due, each answer must fit the front, packet by packet and with the number
//! that it must have. An answer that nobody asked for ends the session.
//!
//! ```text
//!   client ──> QUERY PREPARE EXECUTE … ──> note, judge, pass ──> server
//!                     │ what is due
//!               [ Outstanding ]      + Table: prepared statements by number
//!                     │ what came
//!   client <── pass, swallow, note the result <── OK ERR definitions rows EOF …
//! ```
//!
//! What an answer may be hangs on what the two ends agreed to (`DEPRECATE_EOF`, optional metadata); the connection
//! was dialled with what this very client agreed to, so all of it is passed as it is.
//!
//! Refusals, and what becomes of a `KILL`, are answers of our own that stand in the same queue: they are given when
//! everything before them is.

mod client;
mod file;
mod outstanding;
mod prepared;
#[cfg(any(test, feature = "testing"))]
mod rig;
mod server;
#[cfg(test)]
mod tests;

use bytes::BytesMut;
use zeroize::Zeroizing;

use file::File;
use outstanding::{Answer, Outstanding, Run, Stage};
use prepared::Table;
#[cfg(any(test, feature = "testing"))]
pub use rig::fuzz_relay;

use super::accept::{Doorway, MySqlAccept};
use super::capability::{Capabilities, status};
use super::facts::MySqlFacts;
use super::lexer::Mode;
use super::packet::{self, HEADER_BYTES, Header};
use super::{command, refusal};
use crate::grant::Scope;
use crate::model::limits::AUDIT_TEXT_BYTES_MAX;
use crate::model::{Note, Notes, Refusal};
use crate::protocol::session::{
    Ask, Boundary, Entry, Facts, Flow, Framing, Killed, Pinned, Plan, Proof, Relay, RelayStep, Restore, Side,
    WireError,
};

/// The error in the result of a statement whose session ended before it did: whether it took effect is for the
/// server's own log to say. No server uses these letters.
const UNFINISHED: &[u8] = b"unfinished";

/// One client and the connection it is lent.
pub struct MySqlRelay {
    due: Outstanding,
    prepared: Table,
    /// The file that the client is sending.
    file: Option<Box<File>>,
    /// How the client came in, and with what words it asks to come in anew.
    doorway: Box<Doorway>,
    change: Option<Zeroizing<Vec<u8>>>,
    /// The databases that the grant covers.
    scope: Scope,
    agreed: Capabilities,
    /// What says to the server who is there, as a whole packet.
    stamp: Box<[u8]>,
    /// The same as a comment, where the target wants it in front of each text.
    comment: Option<Box<[u8]>>,
    /// It is to be said again.
    unstamped: bool,
    /// The packet under way from each side.
    from_client: Passing,
    from_server: Passing,
    /// The number of the client's next packet, within a command or a file of several.
    client_sequence: u8,
    /// The last entry of the queue is that of the command under way.
    lengthens: bool,
    /// Resets of the connection that were sent and not answered.
    resets: u64,
    /// The server is MariaDB.
    is_mariadb: bool,
    /// The server numbers its packets in its own way, and the client is to see the right ones.
    renumbers: bool,
    /// The connection must not be lent again, whatever a reset says.
    spoiled: bool,
    /// The status flags that the server told last.
    status: u16,
    /// Statements so far.
    count: u64,
    over: bool,
    /// Only the rest of the server's packet under way is passed on.
    winding_down: bool,
    scratch: BytesMut,
}

/// A packet, or a payload of several, of which a part is still to come.
#[derive(Debug, Clone, Copy, Default)]
struct Passing {
    left: usize,
    /// The payload goes on in another packet.
    goes_on: bool,
    /// It is passed on; else it is swallowed.
    keep: bool,
}

impl Passing {
    /// Deals with what has come of the packet under way.
    fn go_on(&mut self, available: usize, plan: &mut Plan) {
        let count = self.left.min(available);
        self.left -= count;
        if self.keep { plan.pass(count) } else { plan.drop(count) }
    }

    fn start(&mut self, header: Header, keep: bool, available: usize, plan: &mut Plan) {
        (self.left, self.goes_on, self.keep) = (header.total(), header.goes_on(), keep);
        self.go_on(available, plan);
    }

    /// The same with another number, of a packet whose header is there.
    fn start_as(&mut self, number: u8, header: Header, keep: bool, available: usize, plan: &mut Plan) {
        if !keep || number == header.sequence {
            return self.start(header, keep, available, plan);
        }
        plan.own(&Header { sequence: number, ..header }.to_bytes());
        plan.drop(HEADER_BYTES);
        (self.left, self.goes_on, self.keep) = (header.length, header.goes_on(), keep);
        self.go_on(available - HEADER_BYTES, plan);
    }

    fn is_under_way(&self) -> bool {
        self.left > 0 || self.goes_on
    }

    /// In the middle of what the other side has a part of.
    fn is_partial(&self) -> bool {
        self.keep && self.is_under_way()
    }
}

impl MySqlRelay {
    /// Tells the client that it is in.
    pub(super) fn new(accept: MySqlAccept, entry: Entry<'_>, facts: &MySqlFacts, out: &mut BytesMut) -> Self {
        let sequence = accept.admit(out);
        let scope = entry.admission.scope().clone();
        let relay = Self::enter(accept.into_doorway(), scope, entry.stamp, facts);
        relay.put_ok(out, sequence, entry.greeting.unwrap_or_default());
        relay
    }

    fn enter(doorway: Doorway, scope: Scope, stamp: &str, facts: &MySqlFacts) -> Self {
        let agreed = doorway.agreed();
        let comment = facts.stamps_comments.then(|| command::comment(stamp).into_bytes().into_boxed_slice());
        let mut scratch = BytesMut::new();
        command::put_query(&mut scratch, agreed, &command::stamp(stamp));
        let stamp = scratch.to_vec().into_boxed_slice();
        scratch.clear();
        Self {
            due: Outstanding::default(),
            prepared: Table::default(),
            file: None,
            doorway: Box::new(doorway),
            change: None,
            scope,
            agreed,
            stamp,
            comment,
            unstamped: false,
            from_client: Passing::default(),
            from_server: Passing::default(),
            client_sequence: 0,
            lengthens: false,
            resets: 0,
            is_mariadb: facts.is_mariadb(),
            renumbers: facts.framing() != Framing::Plain,
            spoiled: false,
            status: facts.status,
            count: 0,
            over: false,
            winding_down: false,
            scratch,
        }
    }

    /// The login that it has ended for.
    pub(super) fn into_accept(self) -> Option<MySqlAccept> {
        let change = self.change?;
        Some(MySqlAccept::again(*self.doorway, change))
    }

    /// An OK of our own: no rows, no number, the server's status, no warnings, a text for people.
    fn put_ok(&self, out: &mut BytesMut, sequence: u8, text: &str) {
        packet::put(out, sequence, |out| {
            out.extend_from_slice(&[packet::OK, 0, 0]);
            out.extend_from_slice(
                &(self.status & !status::MORE_RESULTS & !status::SESSION_STATE_CHANGED).to_le_bytes(),
            );
            out.extend_from_slice(&[0, 0]);
            match self.agreed.has(Capabilities::SESSION_TRACK) {
                true if !text.is_empty() => packet::put_bytes(out, text.as_bytes()),
                _ => out.extend_from_slice(text.as_bytes()),
            }
        });
    }

    /// How texts are read, as far as the server tells.
    fn mode(&self) -> Mode {
        Mode::of_status(self.status & status::NO_BACKSLASH_ESCAPES != 0)
    }

    /// Whether a backslash escapes, where nothing is under way that may change that.
    fn backslash(&self) -> Option<bool> {
        self.due.is_empty().then(|| self.mode().backslash)
    }

    /// Gives the answers of our own that are due next, unless the client has a part of another packet.
    fn settle(&mut self, out: &mut BytesMut, notes: &mut Notes<'_>, clock_micros: u64) {
        while !self.from_server.is_under_way() {
            // How many packets the command has is known when all of it is here.
            if self.due.len() == 1 && self.lengthens && self.from_client.is_under_way() {
                return;
            }
            let sequence = self.due.sequence;
            let Some(due) = self.due.front() else { return };
            let mut text = [0; ERROR_BYTES_MAX];
            let (tag, error): (&[u8], _) = match &due.answer {
                Answer::Refused(why) => {
                    refusal::put_error(out, sequence, self.agreed, why);
                    let (number, sqlstate) = refusal::number(why);
                    (b"", server::error_text(number, sqlstate.as_bytes(), &mut text))
                }
                Answer::Killed(Some(Killed::Done)) => {
                    self.put_ok(out, sequence, "");
                    (b"OK 0", &b""[..])
                }
                Answer::Killed(Some(Killed::Unknown)) => {
                    refusal::put_report(
                        out,
                        sequence,
                        self.agreed,
                        NO_SUCH_THREAD,
                        "HY000",
                        "Unknown thread id",
                    );
                    (b"", server::error_text(NO_SUCH_THREAD, b"HY000", &mut text))
                }
                _ => return,
            };
            if due.run.number > 0 {
                notes.push(&result(due.run, tag, 0, 0, error, clock_micros));
            }
            self.pop();
        }
    }

    fn pop(&mut self) -> Option<outstanding::Due> {
        let due = self.due.pop();
        self.lengthens &= !self.due.is_empty();
        due
    }

    /// Says again who is there, where the server may be spoken to.
    fn speak(&mut self) -> Option<&[u8]> {
        if !self.unstamped || self.from_client.is_under_way() || self.over || self.is_sending_file() {
            return None;
        }
        self.unstamped = false;
        self.due.push(Answer::Own, Run::default());
        Some(&self.stamp)
    }

    /// Notes the file under way, if there is one.
    fn end_file(&mut self, whole: bool, notes: &mut Notes<'_>) {
        if let Some(file) = self.file.take() {
            file.note(whole, notes);
        }
    }

    fn is_sending_file(&self) -> bool {
        self.due.stage == Stage::File
    }

    fn boundary_now(&self) -> Boundary {
        let under_way = self.from_client.is_under_way() || self.from_server.is_under_way();
        match self.status & (status::IN_TRANSACTION | status::IN_READ_ONLY_TRANSACTION) {
            _ if !self.due.is_empty() || under_way || self.over => Boundary::Busy,
            0 => Boundary::Idle,
            _ => Boundary::InTransaction,
        }
    }
}

/// ER_XAER_RMFAIL.
const XA_STATE: u16 = 1399;

/// ER_NO_SUCH_THREAD.
const NO_SUCH_THREAD: u16 = 1094;

/// SQLSTATE, a slash and a number.
const ERROR_BYTES_MAX: usize = 11;

fn result<'a>(
    run: Run,
    tag: &'a [u8],
    rows: u64,
    bytes_down: u64,
    error: &'a [u8],
    clock_micros: u64,
) -> Note<'a> {
    Note::Result {
        number: run.number,
        tag,
        rows,
        bytes_up: run.bytes_up,
        bytes_down,
        micros: clock_micros.saturating_sub(run.sent),
        sqlstate: error,
        more: b"",
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

impl Relay for MySqlRelay {
    type Facts = MySqlFacts;

    fn pump(&mut self, from: Side, input: &[u8], flow: &mut Flow<'_>) -> Result<RelayStep, WireError> {
        match from {
            Side::Downstream => self.pump_client(input, flow),
            Side::Upstream => self.pump_server(input, flow),
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

    /// Nothing may come between the packets of an answer, or when none is due.
    fn notice(&mut self, _: &str, _: &mut BytesMut) -> bool {
        false
    }

    /// An error may stand in place of every packet that is due. When none is, it is what the client's next command
    /// is answered with.
    fn refuse(&mut self, refusal: &Refusal, out: &mut BytesMut) {
        let sequence = if self.is_sending_file() { self.client_sequence } else { self.due.sequence };
        refusal::put_error(out, sequence, self.agreed, refusal);
    }

    /// Of a session of this protocol too little is shown to everyone: roles, sequences, user-level locks.
    fn prove(&mut self, _: Ask, _: &mut BytesMut) -> Result<(), Pinned> {
        Err(Pinned("a session of MySQL"))
    }

    fn is_proving(&self) -> bool {
        false
    }

    fn proof(&mut self) -> Option<Proof> {
        None
    }

    fn detach(&mut self) -> Result<Restore, Pinned> {
        Err(Pinned("a session of MySQL"))
    }

    /// It never was detached.
    fn attach(&mut self, _: &MySqlFacts, _: Restore, _: &mut BytesMut) {}

    fn killed(&mut self, outcome: Killed) {
        // The client is held behind it.
        if let Some(Answer::Killed(answer)) = self.due.back_mut().map(|due| &mut due.answer) {
            *answer = Some(outcome);
        }
    }

    fn is_spoiled(&self) -> bool {
        self.spoiled
    }

    fn unfinished(&mut self, notes: &mut Notes<'_>, clock_micros: u64) {
        self.end_file(false, notes);
        let (rows, bytes_down) = (self.due.rows, self.due.bytes_down);
        // Only the first can have given rows; of those behind it we know that they were sent.
        for (place, run) in self.due.statements().enumerate() {
            let (rows, bytes_down) = if place == 0 { (rows, bytes_down) } else { (0, 0) };
            notes.push(&result(*run, b"", rows, bytes_down, UNFINISHED, clock_micros));
        }
    }

    fn wind_down(&mut self) {
        self.winding_down = true;
    }

    fn statements(&self) -> u64 {
        self.count
    }
}
