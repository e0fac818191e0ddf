//! The client's messages: looked at, noted, judged, passed on
//! (<https://www.postgresql.org/docs/current/protocol-message-formats.html>).

use super::super::frame::{self, HEADER_BYTES, Header};
use super::super::lexer::{self, Pins};
use super::outstanding::{CopyTail, Due, Run, Stage};
use super::prepared::{self, Id, TooMany, UNNAMED};
use super::{PostgresRelay, SKIPPED, cut_text, words};
use crate::model::limits::{
    AUDIT_PARAMETERS_BYTES_MAX, INSPECT_BYTES_MAX, NOTES_BYTES_MAX, PENDING_BYTES_MAX, PREPARED_MAX,
    SMALL_MESSAGE_BYTES_MAX,
};
use crate::model::{Note, Operation, Parameters, Refusal, StatementKind, Verdict};
use crate::protocol::session::{Flow, RelayStep, WireError};

/// Why the walk over the client's messages stops.
enum Stop {
    Step(RelayStep),
    Broken(WireError),
}

impl From<WireError> for Stop {
    fn from(error: WireError) -> Self {
        Self::Broken(error)
    }
}

impl From<TooMany> for Stop {
    fn from(TooMany: TooMany) -> Self {
        const { assert!(PREPARED_MAX == 65_536) };
        let what = "a session with more than 65,536 prepared statements or portals";
        Self::Step(RelayStep::Refuse(Refusal::NotSupported(what)))
    }
}

fn violation(what: &'static str) -> Stop {
    Stop::Step(RelayStep::Refuse(Refusal::ProtocolViolation(what)))
}

/// A note without its texts.
const NOTE_HEAD_BYTES: usize = 64;

/// What was passed on in this turn and has no note yet: statements without a name, portals. An Execute in the
/// same turn notes them; for the rest see [`PostgresRelay::note_unrun`].
#[derive(Default)]
pub(super) struct Unrun {
    statements: Vec<Id>,
    portals: Vec<Id>,
    /// About how long their notes will be.
    bytes: usize,
}

/// What we see of one message.
struct Seen<'a> {
    /// The body, up to [`INSPECT_BYTES_MAX`] of the message.
    body: &'a [u8],
    /// All of the body is in `body`.
    whole: bool,
    /// How long the body is.
    length: usize,
    header: Header,
    available: usize,
}

/// The largest head that we wait for; `None`: not a message of this protocol.
fn needed(header: Header) -> Option<usize> {
    match header.tag {
        b'Q' | b'P' | b'B' | b'F' => Some(header.total.min(INSPECT_BYTES_MAX)),
        b'D' | b'E' | b'C' | b'S' | b'H' | b'c' | b'f' | b'X' => {
            (header.total <= SMALL_MESSAGE_BYTES_MAX).then_some(header.total)
        }
        b'd' => Some(HEADER_BYTES),
        _ => None,
    }
}

impl PostgresRelay {
    pub(super) fn pump_client(&mut self, input: &[u8], flow: &mut Flow<'_>) -> Result<RelayStep, WireError> {
        let step = self.client_messages(input, flow);
        self.note_unrun(flow);
        step
    }

    fn client_messages(&mut self, input: &[u8], flow: &mut Flow<'_>) -> Result<RelayStep, WireError> {
        if self.from_client.left > 0 {
            self.from_client.go_on(input.len(), flow.plan);
        }
        loop {
            let rest = &input[flow.plan.consumed()..];
            if rest.is_empty() {
                return Ok(RelayStep::Continue);
            }
            // Words of ours can be a thousand times as long as the Execute that they follow.
            if flow.notes.bytes_pending() + self.unrun.as_ref().map_or(0, |unrun| unrun.bytes)
                >= NOTES_BYTES_MAX
                || flow.plan.own_bytes() >= PENDING_BYTES_MAX
            {
                return Ok(RelayStep::Again);
            }
            match self.client_message(rest, flow) {
                Ok(()) => {}
                Err(Stop::Step(step)) => return Ok(step),
                Err(Stop::Broken(error)) => return Err(error),
            }
        }
    }

    /// Deals with the message at the front of `rest`.
    fn client_message(&mut self, rest: &[u8], flow: &mut Flow<'_>) -> Result<(), Stop> {
        let header = match frame::peek(rest) {
            Ok(Some(header)) => header,
            Ok(None) => return Err(Stop::Step(RelayStep::Continue)),
            Err(_) => return Err(violation("a message's length cannot be")),
        };
        let needed = needed(header).ok_or(violation("an unknown or overlong message"))?;
        if rest.len() < needed {
            return Err(Stop::Step(RelayStep::Continue));
        }
        if header.tag == b'X' || self.over {
            flow.plan.drop(rest.len());
            return Err(Stop::Step(RelayStep::Close));
        }
        if self.detached {
            return Err(Stop::Step(RelayStep::NeedLease));
        }
        self.client_goes_on();
        let seen = Seen {
            body: &rest[HEADER_BYTES..needed],
            whole: needed == header.total,
            length: header.total - HEADER_BYTES,
            header,
            available: rest.len(),
        };
        if matches!(header.tag, b'Q' | b'P' | b'B' | b'D' | b'E' | b'C' | b'F') {
            self.before_work(flow)?;
        }
        match header.tag {
            b'Q' => self.query(&seen, flow),
            b'P' => self.parse(&seen, flow),
            b'B' => self.bind(&seen, flow),
            b'D' => self.describe(&seen, flow),
            b'E' => self.execute(&seen, flow),
            b'C' => self.close(&seen, flow),
            b'F' => self.function(&seen, flow),
            b'S' => self.sync(&seen, flow),
            _ => self.copy(&seen, flow),
        }
    }

    /// What must be settled before the server is given something new to do. COPY data is nothing new:
    /// holding that back could hold the answer back that we wait for.
    fn before_work(&mut self, flow: &mut Flow<'_>) -> Result<(), Stop> {
        if self.due.is_full() {
            return Err(Stop::Step(RelayStep::Hold));
        }
        if self.resync {
            return Err(violation("a COPY failed and no Sync followed"));
        }
        // What a name stands for is certain when all are back.
        if self.moving.as_ref().is_some_and(|moving| moving.is_under_way()) {
            return Err(Stop::Step(RelayStep::Hold));
        }
        let words = self.stamp.wants_words() && self.client_at_sync();
        // While the server waits for COPY data nothing would come; what is no data is an error that it
        // must tell.
        if (self.gate || words) && !self.due.is_empty() {
            let data_is_due = self.due.stage == Stage::CopyIn && self.due.copy_syncs().1 != CopyTail::Ended;
            if !data_is_due {
                return Err(Stop::Step(RelayStep::Hold));
            }
        }
        self.gate &= !self.due.is_empty();
        if words {
            self.speak_in_plan(flow.plan);
        }
        Ok(())
    }

    fn pass(&mut self, seen: &Seen<'_>, flow: &mut Flow<'_>) {
        self.from_client.start(seen.header.total, true, seen.available, flow.plan);
    }

    fn swallow(&mut self, seen: &Seen<'_>, flow: &mut Flow<'_>) {
        self.from_client.start(seen.header.total, false, seen.available, flow.plan);
    }

    fn next_run(&mut self, bytes_up: u64, flow: &Flow<'_>) -> Run {
        self.count += 1;
        Run { number: self.count, sent: flow.clock_micros, bytes_up }
    }

    /// What will be answered goes into the queue, unless the server is skipping.
    fn expect(&mut self, due: Due, flow: &mut Flow<'_>) {
        if self.skipping {
            self.take_back(due, flow);
        } else {
            self.due.push(due);
        }
    }

    /// The server will not do this: an earlier failure makes it skip. Nothing may look as if it ran.
    pub(super) fn take_back(&mut self, due: Due, flow: &mut Flow<'_>) {
        match due {
            Due::Query(run) | Due::Function(run) | Due::Execute(run) | Due::Refused { run, .. } => {
                super::server::note_result(run, b"", 0, 0, SKIPPED, flow);
            }
            Due::Parse { entry, statement } => self.statements.abandon(entry, Some(statement), |_| {}),
            Due::Bind { entry, portal } => {
                self.note_unbound(portal, SKIPPED, flow);
                let statements = &mut self.statements;
                self.portals
                    .abandon(entry, Some(portal), |portal| super::release_statement(statements, portal));
            }
            Due::DescribeStatement(Some(statement)) => self.statements.release(statement, |_| {}),
            Due::CloseStatement(Some(entry)) => self.statements.abandon(entry, None, |_| {}),
            Due::ClosePortal(Some(entry)) => {
                let statements = &mut self.statements;
                self.portals.abandon(entry, None, |portal| super::release_statement(statements, portal));
            }
            Due::DescribeStatement(None)
            | Due::DescribePortal
            | Due::CloseStatement(None)
            | Due::ClosePortal(None)
            | Due::Sync
            | Due::CopyEnd
            | Due::Own { .. }
            | Due::OwnSync(_) => {}
        }
    }

    fn query(&mut self, seen: &Seen<'_>, flow: &mut Flow<'_>) -> Result<(), Stop> {
        let text = match seen.whole {
            true => seen.body.strip_suffix(&[0]).ok_or(violation("a Query without its end"))?,
            false => seen.body,
        };
        let signs = lexer::signs(text);
        if signs.nul {
            return Err(violation("a Query that goes on behind its end"));
        }
        let kind = StatementKind::Simple;
        let run = self.next_run(seen.header.total as u64, flow);
        let length = seen.length as u64 - 1;
        self.note(run, kind, (text, signs.secret, length), b"", Parameters::default(), flow);
        if let Verdict::Refuse(refusal) = (flow.judge)(&Operation { text }) {
            self.refuse_simple(seen, run, refusal, flow);
            return Ok(());
        }
        self.leaves(self.pins_of(text, seen.whole), run.number);
        if signs.reset && !self.skipping {
            let resets = self.stamp.resets(text, self.conforming);
            if !resets.is_none() {
                self.stamp.await_resets(run.number, resets);
                self.gate = true;
            }
        }
        self.pass(seen, flow);
        self.expect(Due::Query(run), flow);
        Ok(())
    }

    /// The statement does not go; one that surely fails goes in its place, so that the transaction and
    /// the order of the answers are what the client expects of an error.
    fn refuse_simple(&mut self, seen: &Seen<'_>, run: Run, refusal: Refusal, flow: &mut Flow<'_>) {
        self.scratch.clear();
        words::put_failing_query(&mut self.scratch);
        flow.plan.own(&self.scratch);
        self.scratch.clear();
        self.swallow(seen, flow);
        self.expect(Due::Refused { run, refusal: Box::new(refusal), simple: true }, flow);
    }

    /// `text`: what we saw of it, whether it may hold a password, and how long it really is.
    fn note(
        &self,
        run: Run,
        kind: StatementKind,
        (text, secret, length): (&[u8], bool, u64),
        prepared: &[u8],
        parameters: Parameters<'_>,
        flow: &mut Flow<'_>,
    ) {
        let masked = if secret { lexer::mask(text, self.conforming) } else { text.into() };
        // Which of them is the password cannot be told.
        let parameters = match secret && has_values(parameters.values) {
            true => Parameters { types: &[], values: &[], ..parameters },
            false => parameters,
        };
        flow.notes.push(&Note::Statement {
            number: run.number,
            kind,
            text: cut_text(&masked),
            length,
            prepared,
            parameters,
        });
    }

    /// What running a text may leave behind. `whole`: all of it is here.
    pub(super) fn pins_of(&self, text: &[u8], whole: bool) -> Pins {
        match whole {
            true => lexer::pins(text, self.conforming, self.ascii_safe()),
            false => Pins::lasting("a statement too long to be looked at"),
        }
    }

    pub(super) fn add_statement(&mut self, name: &[u8], text: &[u8], length: u64, is_cut: bool) -> Id {
        let signs = lexer::signs(text);
        let resets = if signs.reset { self.stamp.resets(text, self.conforming) } else { Default::default() };
        self.statements.add(|statement| {
            statement.text.extend_from_slice(text);
            statement.named = !name.is_empty();
            (statement.length, statement.is_cut) = (length, is_cut);
            (statement.secret, statement.resets) = (signs.secret, resets);
        })
    }

    fn parse(&mut self, seen: &Seen<'_>, flow: &mut Flow<'_>) -> Result<(), Stop> {
        let mut rest = seen.body;
        let name = frame::take_string(&mut rest).ok_or(violation("a Parse without its name"))?;
        let before_text = seen.body.len() - rest.len();
        let (text, length, types) = match frame::take_string(&mut rest) {
            Some(text) => (text, text.len(), parse_types(rest, seen)?),
            None if seen.whole => return Err(violation("a Parse without its text")),
            // Two bytes at least follow the text and its end.
            None => (rest, (seen.length - before_text).saturating_sub(3), &[][..]),
        };
        if let Verdict::Refuse(refusal) = (flow.judge)(&Operation { text }) {
            let run = self.next_run(seen.header.total as u64, flow);
            let text = (text, lexer::signs(text).secret, length as u64);
            self.note(run, StatementKind::Extended, text, name, Parameters::default(), flow);
            self.scratch.clear();
            words::put_failing_bind(&mut self.scratch);
            flow.plan.own(&self.scratch);
            self.scratch.clear();
            self.swallow(seen, flow);
            self.expect(Due::Refused { run, refusal: Box::new(refusal), simple: false }, flow);
            self.unsynced = true;
            return Ok(());
        }
        let entry = self.statements.entry_or_new(name)?;
        let statement = self.add_statement(name, text, length as u64, !seen.whole);
        let pins = self.pins_of(text, seen.whole);
        // Planning may run it, so may each Bind.
        self.leaves(pins, self.count + 1);
        self.statements.change(statement, |statement| {
            statement.types.extend_from_slice(types);
            statement.pins = pins;
        });
        if !name.is_empty() {
            let secret = self.statements.record(statement).secret;
            let masked = if secret { lexer::mask(text, self.conforming) } else { text.into() };
            flow.notes.push(&Note::Prepare { name, text: cut_text(&masked), length: length as u64 });
        }
        if name.is_empty() && !self.skipping {
            self.statements.change(statement, |statement| statement.is_unrun = true);
            self.unrun.get_or_insert_default().statements.push(statement);
        }
        self.statements.propose(entry, Some(statement), self.batch, |_| {});
        self.pass(seen, flow);
        self.expect(Due::Parse { entry, statement }, flow);
        self.unsynced = true;
        self.keep_within_limits(flow);
        Ok(())
    }

    /// An unnamed statement whose text goes for the limit was in no note yet: it is now.
    fn keep_within_limits(&mut self, flow: &mut Flow<'_>) {
        if self.statements.is_over_limit() {
            let conforming = self.conforming;
            self.statements.shrink(|statement| {
                if !statement.named && !statement.text.is_empty() {
                    let text = lexer::mask(&statement.text, conforming);
                    let length = statement.length;
                    flow.notes.push(&Note::Prepare { name: b"", text: cut_text(&text), length });
                }
            });
        }
        if self.portals.is_over_limit() {
            self.portals.shrink(|_| {});
        }
    }

    fn bind(&mut self, seen: &Seen<'_>, flow: &mut Flow<'_>) -> Result<(), Stop> {
        let mut rest = seen.body;
        let portal_name = frame::take_string(&mut rest).ok_or(violation("a Bind without its portal"))?;
        let name = frame::take_string(&mut rest).ok_or(violation("a Bind without its statement"))?;
        let before = seen.body.len() - rest.len();
        let length = values_length(rest, seen.length - before, seen.whole)?;
        // Which text this name stands for is certain only when the server has answered (see `prepared`).
        let known = self.statements.entry(name);
        if known.is_some_and(|entry| !self.statements.is_settled(entry, self.batch)) {
            return Err(Stop::Step(RelayStep::Hold));
        }
        let entry = self.portals.entry_or_new(portal_name)?;
        let statement = known.and_then(|entry| self.statements.latest(entry));
        let statement = statement.map(|statement| self.statements.hold(statement));
        if let Some(statement) = statement {
            self.leaves(self.statements.record(statement).pins, self.count + 1);
        }
        let portal = self.portals.add(|portal| {
            portal.statement = statement;
            portal.prepared.extend_from_slice(prepared::key(name));
            portal.values.extend_from_slice(&rest[..length.min(rest.len()).min(AUDIT_PARAMETERS_BYTES_MAX)]);
            portal.length = length as u64;
            portal.bytes = seen.header.total as u64;
            portal.is_unrun = !self.skipping;
        });
        if !self.skipping {
            let bytes = self.note_bytes(portal);
            let unrun = self.unrun.get_or_insert_default();
            unrun.portals.push(portal);
            unrun.bytes += bytes;
        }
        let statements = &mut self.statements;
        self.portals.propose(entry, Some(portal), self.batch, |portal| {
            super::release_statement(statements, portal);
        });
        self.pass(seen, flow);
        self.expect(Due::Bind { entry, portal }, flow);
        self.unsynced = true;
        self.keep_within_limits(flow);
        Ok(())
    }

    fn describe(&mut self, seen: &Seen<'_>, flow: &mut Flow<'_>) -> Result<(), Stop> {
        let due = match kind_and_name(seen.body).ok_or(violation("a Describe of neither kind"))? {
            (b'S', name) => {
                let entry = self.statements.entry(name);
                let statement = entry.and_then(|entry| self.statements.latest(entry));
                Due::DescribeStatement(statement.map(|statement| self.statements.hold(statement)))
            }
            _ => Due::DescribePortal,
        };
        self.pass(seen, flow);
        self.expect(due, flow);
        self.unsynced = true;
        Ok(())
    }

    fn close(&mut self, seen: &Seen<'_>, flow: &mut Flow<'_>) -> Result<(), Stop> {
        let due = match kind_and_name(seen.body).ok_or(violation("a Close of neither kind"))? {
            (b'S', name) => {
                let entry = self.statements.entry(name);
                if let Some(entry) = entry {
                    self.statements.propose(entry, None, self.batch, |_| {});
                }
                Due::CloseStatement(entry)
            }
            (_, name) => {
                let entry = self.portals.entry(name);
                if let Some(entry) = entry {
                    let statements = &mut self.statements;
                    self.portals.propose(entry, None, self.batch, |portal| {
                        super::release_statement(statements, portal);
                    });
                }
                Due::ClosePortal(entry)
            }
        };
        self.pass(seen, flow);
        self.expect(due, flow);
        self.unsynced = true;
        Ok(())
    }

    fn execute(&mut self, seen: &Seen<'_>, flow: &mut Flow<'_>) -> Result<(), Stop> {
        let mut rest = seen.body;
        let name = frame::take_string(&mut rest).ok_or(violation("an Execute without its portal"))?;
        if rest.len() != 4 {
            return Err(violation("an Execute of a wrong length"));
        }
        let entry = self.portals.entry(name);
        if entry.is_some_and(|entry| !self.portals.is_settled(entry, self.batch)) {
            return Err(Stop::Step(RelayStep::Hold));
        }
        let portal = entry.and_then(|entry| self.portals.latest(entry));
        let bytes_up = seen.header.total as u64;
        let noted = portal.and_then(|portal| self.will_run(portal));
        let mut run = match noted {
            Some(number) => Run { number, sent: flow.clock_micros, bytes_up },
            None => {
                let run = self.next_run(bytes_up, flow);
                self.note_execute(run, name, portal, flow);
                run
            }
        };
        let mut resets = Default::default();
        if let Some(portal) = portal {
            self.portals.change(portal, |portal| run.bytes_up += std::mem::take(&mut portal.bytes));
            if let Some(statement) = self.portals.record(portal).statement {
                let statement = self.statements.record(statement);
                resets = statement.resets;
                // Once more: something may be discarded between the Bind and this.
                let pins = statement.pins;
                self.leaves(pins, run.number);
            }
        }
        self.pass(seen, flow);
        self.expect(Due::Execute(run), flow);
        self.unsynced = true;
        if !resets.is_none() && !self.skipping {
            self.scratch.clear();
            let answers = self.stamp.write_inline(resets, &mut self.scratch);
            flow.plan.own(&self.scratch);
            self.scratch.clear();
            self.due.push(Due::Own { answers, inline: true });
        }
        Ok(())
    }

    fn note_execute(&self, run: Run, name: &[u8], portal: Option<Id>, flow: &mut Flow<'_>) {
        let kind = StatementKind::Extended;
        let Some(portal) = portal.map(|portal| self.portals.record(portal)) else {
            // Opened by DECLARE, whose text has a note of its own, or not there at all.
            let text = format!("<portal {}>", String::from_utf8_lossy(name));
            let text = (text.as_bytes(), false, text.len() as u64);
            return self.note(run, kind, text, b"", Parameters::default(), flow);
        };
        let (values, length) = (&*portal.values, portal.length);
        let Some(statement) = portal.statement.map(|statement| self.statements.record(statement)) else {
            // Prepared by PREPARE, likewise.
            let text = format!("<prepared {}>", String::from_utf8_lossy(&portal.prepared));
            let text = (text.as_bytes(), false, text.len() as u64);
            return self.note(
                run,
                kind,
                text,
                &portal.prepared,
                Parameters { types: &[], values, length },
                flow,
            );
        };
        let types = if statement.described.is_empty() { &statement.types } else { &statement.described };
        let types = &types[..types.len().min(AUDIT_PARAMETERS_BYTES_MAX)];
        let text = (&*statement.text, statement.secret, statement.length);
        self.note(run, kind, text, &portal.prepared, Parameters { types, values, length }, flow);
    }

    /// An Execute runs this portal; its number where its Bind was noted already.
    fn will_run(&mut self, portal: Id) -> Option<u64> {
        let record = self.portals.record(portal);
        if record.is_unrun {
            let bytes = self.note_bytes(portal);
            if let Some(unrun) = &mut self.unrun {
                unrun.bytes = unrun.bytes.saturating_sub(bytes);
            }
        }
        let statement = record.statement;
        if let Some(statement) = statement.filter(|statement| self.statements.record(*statement).is_unrun) {
            self.statements.change(statement, |statement| statement.is_unrun = false);
        }
        let mut noted = None;
        self.portals.change(portal, |portal| {
            portal.is_unrun = false;
            noted = portal.noted.take();
        });
        noted
    }

    /// About how long the note of a portal will be.
    fn note_bytes(&self, portal: Id) -> usize {
        let portal = self.portals.record(portal);
        let statement = portal.statement.map(|statement| self.statements.record(statement));
        let text = statement.map_or(0, |statement| cut_text(&statement.text).len() + statement.types.len());
        NOTE_HEAD_BYTES + text + portal.values.len()
    }

    /// Planning runs functions that call themselves immutable, and reading a literal runs the checks of its
    /// domain: a Bind or even a Parse may do things that no Execute follows. So whatever leaves without its
    /// Execute is noted by itself, a Bind under the number that its Execute will have.
    fn note_unrun(&mut self, flow: &mut Flow<'_>) {
        let Some(mut unrun) = self.unrun.take() else { return };
        unrun.bytes = 0;
        for portal in unrun.portals.drain(..) {
            if !self.portals.record(portal).is_unrun {
                continue;
            }
            self.will_run(portal);
            let run = self.next_run(0, flow);
            self.portals.change(portal, |portal| portal.noted = Some(run.number));
            self.note_execute(run, b"", Some(portal), flow);
        }
        for statement in unrun.statements.drain(..) {
            let record = self.statements.record(statement);
            if !record.is_unrun {
                continue;
            }
            // One that was shed meanwhile was noted then.
            if !record.is_shed {
                let text = if record.secret {
                    lexer::mask(&record.text, self.conforming)
                } else {
                    (&*record.text).into()
                };
                flow.notes.push(&Note::Prepare { name: b"", text: cut_text(&text), length: record.length });
            }
            self.statements.change(statement, |statement| statement.is_unrun = false);
        }
        self.unrun = Some(unrun);
    }

    /// A Bind that was noted by itself did not do.
    pub(super) fn note_unbound(&mut self, portal: Id, sqlstate: &[u8], flow: &mut Flow<'_>) {
        let mut noted = None;
        self.portals.change(portal, |portal| noted = portal.noted.take());
        if let Some(number) = noted {
            let run = Run { number, sent: flow.clock_micros, bytes_up: 0 };
            super::server::note_result(run, b"", 0, 0, sqlstate, flow);
        }
    }

    /// FunctionCall: a call by oid of what would be a function in a statement.
    fn function(&mut self, seen: &Seen<'_>, flow: &mut Flow<'_>) -> Result<(), Stop> {
        let Some((oid, rest)) = seen.body.split_first_chunk::<4>() else {
            return Err(violation("a FunctionCall without its function"));
        };
        let length = function_values_length(rest, seen.length - 4, seen.whole)?;
        let values = &rest[..length.min(rest.len()).min(AUDIT_PARAMETERS_BYTES_MAX)];
        let text = format!("function {}", u32::from_be_bytes(*oid));
        let run = self.next_run(seen.header.total as u64, flow);
        let parameters = Parameters { types: &[], values, length: length as u64 };
        let noted = (text.as_bytes(), false, text.len() as u64);
        self.note(run, StatementKind::FunctionCall, noted, b"", parameters, flow);
        if let Verdict::Refuse(refusal) = (flow.judge)(&Operation { text: b"" }) {
            self.refuse_simple(seen, run, refusal, flow);
            return Ok(());
        }
        self.leaves(Pins::lasting("a function that was called by its number"), run.number);
        self.pass(seen, flow);
        self.expect(Due::Function(run), flow);
        Ok(())
    }

    fn sync(&mut self, seen: &Seen<'_>, flow: &mut Flow<'_>) -> Result<(), Stop> {
        if seen.length != 0 {
            return Err(violation("a Sync with a body"));
        }
        if self.due.is_full() {
            return Err(Stop::Step(RelayStep::Hold));
        }
        self.pass(seen, flow);
        self.due.push(Due::Sync);
        self.batch += 1;
        (self.unsynced, self.skipping, self.resync) = (false, false, false);
        if self.slack > 0 {
            self.speak_in_plan(flow.plan);
        }
        Ok(())
    }

    /// Flush, and the messages of COPY.
    fn copy(&mut self, seen: &Seen<'_>, flow: &mut Flow<'_>) -> Result<(), Stop> {
        match seen.header.tag {
            b'H' | b'c' if seen.length != 0 => return Err(violation("a Flush or CopyDone with a body")),
            b'f' if !seen.body.ends_with(&[0]) => return Err(violation("a CopyFail without its end")),
            b'c' | b'f' => {
                if self.due.is_full() {
                    return Err(Stop::Step(RelayStep::Hold));
                }
                if !self.skipping && !self.resync {
                    self.due.push(Due::CopyEnd);
                }
            }
            b'd' if !self.due.is_empty() => self.copy_up += seen.length as u64,
            _ => {}
        }
        self.pass(seen, flow);
        Ok(())
    }

    /// A simple statement was run: the server had dropped its unnamed statement before.
    pub(super) fn forget_unnamed(&mut self) {
        if let Some(statements) = self.statements.made() {
            statements.set_confirmed(UNNAMED, None, |_| {});
        }
    }
}

/// The oids behind a Parse's text, as far as we see them.
fn parse_types<'a>(rest: &'a [u8], seen: &Seen<'_>) -> Result<&'a [u8], Stop> {
    let wrong = || violation("a Parse whose types do not fit its length");
    let Some((count, types)) = rest.split_first_chunk::<2>() else {
        return if seen.whole { Err(wrong()) } else { Ok(&[]) };
    };
    let expected = usize::from(u16::from_be_bytes(*count)) * 4;
    let actual = seen.length - (seen.body.len() - types.len());
    if expected != actual {
        return Err(wrong());
    }
    Ok(&types[..types.len() / 4 * 4])
}

/// `S` or `P`, a name, nothing else.
fn kind_and_name(body: &[u8]) -> Option<(u8, &[u8])> {
    let (kind, mut rest) = body.split_first()?;
    let name = frame::take_string(&mut rest)?;
    (matches!(kind, b'S' | b'P') && rest.is_empty()).then_some((*kind, name))
}

/// The head of a body: what of it is there, and how long the whole is.
struct Counts<'a> {
    rest: &'a [u8],
    /// What the whole still has; never less than `rest`.
    left: usize,
}

impl Counts<'_> {
    /// Steps over so many bytes; `false`: the body has fewer.
    fn skip(&mut self, count: usize) -> bool {
        let fits = count <= self.left;
        self.left = self.left.saturating_sub(count);
        self.rest = self.rest.get(count..).unwrap_or_default();
        fits
    }

    /// `None`: the rest is behind what we see.
    fn count(&mut self) -> Option<usize> {
        let (count, rest) = self.rest.split_first_chunk::<2>()?;
        (self.rest, self.left) = (rest, self.left - 2);
        Some(usize::from(u16::from_be_bytes(*count)))
    }

    /// Format codes, then values behind their lengths. `Ok(false)`: they go on behind what we see.
    fn formats_and_values(&mut self) -> Result<bool, Stop> {
        let wrong = || violation("a Bind or FunctionCall whose counts do not fit its length");
        let Some(formats) = self.count() else { return Ok(false) };
        if !self.skip(formats * 2) {
            return Err(wrong());
        }
        let Some(values) = self.count() else { return Ok(false) };
        for _ in 0..values {
            let Some((length, rest)) = self.rest.split_first_chunk::<4>() else {
                return if self.left < 4 { Err(wrong()) } else { Ok(false) };
            };
            (self.rest, self.left) = (rest, self.left - 4);
            match i32::from_be_bytes(*length) {
                -1 => {}
                length => {
                    let length = usize::try_from(length).map_err(|_| wrong())?;
                    if !self.skip(length) {
                        return Err(wrong());
                    }
                }
            }
        }
        Ok(true)
    }
}

/// How long the formats and values of a Bind are, checked as far as we see.
fn values_length(rest: &[u8], length: usize, whole: bool) -> Result<usize, Stop> {
    let wrong = || violation("a Bind whose counts do not fit its length");
    let mut counts = Counts { rest, left: length };
    if !counts.formats_and_values()? {
        return if whole { Err(wrong()) } else { Ok(length) };
    }
    let values = length - counts.left;
    match counts.count() {
        Some(formats) if formats * 2 == counts.left => Ok(values),
        None if !whole && counts.left >= 2 => Ok(values),
        _ => Err(wrong()),
    }
}

/// The same for a FunctionCall, which ends with one format code.
fn function_values_length(rest: &[u8], length: usize, whole: bool) -> Result<usize, Stop> {
    let wrong = || violation("a FunctionCall whose counts do not fit its length");
    let mut counts = Counts { rest, left: length };
    if !counts.formats_and_values()? {
        return if whole { Err(wrong()) } else { Ok(length) };
    }
    if counts.left != 2 {
        return Err(wrong());
    }
    Ok(length - 2)
}

/// Whether there is a value behind the format codes of a Bind.
fn has_values(bind: &[u8]) -> bool {
    let short = |at: usize| bind.get(at..at + 2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    short(0).and_then(|formats| short(2 + 2 * usize::from(formats))).is_some_and(|values| values > 0)
}
