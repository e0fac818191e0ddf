//! The server's messages: matched with what is due, counted, passed on or swallowed
//! (<https://www.postgresql.org/docs/current/protocol-message-formats.html>).

use super::super::frame::{self, HEADER_BYTES, Header};
use super::super::refusal::{Severity, put_error, sqlstate};
use super::outstanding::{CopyTail, Due, Purpose, Run, Stage};
use super::prepared::UNNAMED;
use super::stamp::Shown;
use super::{APPLICATION_NAME, PostgresRelay, proof, words};
use crate::model::limits::{ERROR_HEAD_BYTES_MAX, INSPECT_BYTES_MAX, SMALL_MESSAGE_BYTES_MAX};
use crate::model::{Note, Refusal};
use crate::protocol::session::{Flow, Plan, RelayStep, WireError};

/// Tags for results that have none.
const SUSPENDED: &[u8] = b"PortalSuspended";
const EMPTY: &[u8] = b"EmptyQueryResponse";
const FUNCTION: &[u8] = b"FunctionCallResponse";
/// What an error without a SQLSTATE is noted as: internal error.
const NO_SQLSTATE: &[u8] = b"XX000";

/// What happens to a message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Pass,
    Swallow,
}

const fn unasked(place: &'static str) -> WireError {
    WireError::new(place, "the server answered something that was not asked")
}

pub(super) fn note_result(
    run: Run,
    tag: &[u8],
    rows: u64,
    bytes_down: u64,
    sqlstate: &[u8],
    flow: &mut Flow<'_>,
) {
    flow.notes.push(&Note::Result {
        number: run.number,
        tag,
        rows,
        bytes_up: run.bytes_up,
        bytes_down,
        micros: flow.clock_micros.saturating_sub(run.sent),
        sqlstate,
        more: b"",
    });
}

impl PostgresRelay {
    pub(super) fn pump_server(&mut self, input: &[u8], flow: &mut Flow<'_>) -> Result<RelayStep, WireError> {
        if self.from_server.left > 0 {
            self.from_server.go_on(input.len(), flow.plan);
        }
        loop {
            if self.over && self.from_server.left == 0 {
                return Ok(RelayStep::Close);
            }
            let rest = &input[flow.plan.consumed()..];
            if rest.is_empty() {
                return Ok(RelayStep::Continue);
            }
            if self.winding_down {
                flow.plan.drop(rest.len());
                return Ok(RelayStep::Continue);
            }
            if self.detached {
                return Err(WireError::new("detached", "the server speaks to nobody"));
            }
            let Some(header) = frame::peek(rest)? else { return Ok(RelayStep::Continue) };
            if header.tag == b'D' && matches!(self.due.front(), Some(Due::Own { .. })) {
                let needed = proof::row_needs(header.total);
                if rest.len() < needed {
                    return Ok(RelayStep::Continue);
                }
                self.proof_row(&rest[HEADER_BYTES..needed], needed == header.total)?;
                self.from_server.start(header.total, false, rest.len(), flow.plan);
                continue;
            }
            if matches!(header.tag, b't' | b'T' | b'n') && self.describes_for_us() {
                let needed = proof::row_needs(header.total);
                if rest.len() < needed {
                    return Ok(RelayStep::Continue);
                }
                let body = &rest[HEADER_BYTES..needed];
                self.own_description(header.tag, (needed == header.total).then_some(body));
                self.own_answer();
                self.from_server.start(header.total, false, rest.len(), flow.plan);
                continue;
            }
            if matches!(header.tag, b'D' | b'd') {
                self.settle_slack();
                self.data(header.tag, rest, flow)?;
                continue;
            }
            let needed = needed(header)?;
            if rest.len() < needed {
                return Ok(RelayStep::Continue);
            }
            if header.tag == b'W' {
                return Ok(RelayStep::Refuse(Refusal::NotSupported("replication")));
            }
            if header.tag == b'A' {
                let own = self.is_own_notification(&rest[HEADER_BYTES..needed])?;
                let head = if own { self.tell_as_own(&rest[..HEADER_BYTES], flow.plan) } else { 0 };
                self.from_server.start(header.total - head, true, rest.len() - head, flow.plan);
                continue;
            }
            let fate = self.answer(header, &rest[HEADER_BYTES..needed], flow)?;
            self.from_server.start(header.total, fate == Fate::Pass, rest.len(), flow.plan);
            if header.tag == b'Z' {
                self.close_misfits(flow.back);
                self.speak(flow.back);
                if std::mem::take(&mut self.proven) {
                    return Ok(RelayStep::Proven);
                }
            }
        }
    }

    /// Whether a notification was sent by this very session.
    fn is_own_notification(&self, body: &[u8]) -> Result<bool, WireError> {
        let Some(process) = body.first_chunk() else {
            return Err(WireError::new("NotificationResponse", "too short"));
        };
        let (server, told) = self.process;
        Ok(server != told && u32::from_be_bytes(*process) == server)
    }

    /// Clients know their own notifications by the process id that they were told, which is not the server's
    /// where the session may move. The head of such a message is ours then; gives its length.
    fn tell_as_own(&self, header: &[u8], plan: &mut Plan) -> usize {
        plan.own(header);
        plan.own(&self.process.1.to_be_bytes());
        let head = header.len() + size_of::<u32>();
        plan.drop(head);
        head
    }

    /// Rows and COPY data: counted and passed, as many as there are.
    fn data(&mut self, tag: u8, input: &[u8], flow: &mut Flow<'_>) -> Result<(), WireError> {
        let fits = matches!(
            (tag, self.due.front(), self.due.stage),
            (b'D', Some(Due::Query(_)), Stage::Rows)
                | (b'D', Some(Due::Execute(_)), Stage::Begin)
                | (b'd', Some(Due::Query(_) | Due::Execute(_)), Stage::CopyOut)
        );
        if !fits {
            return Err(unasked("DataRow or CopyData"));
        }
        let mut end = 0;
        while let Some(header) = frame::peek(&input[end..])?.filter(|header| header.tag == tag) {
            self.due.rows += 1;
            self.due.bytes_down += header.total as u64;
            let available = input.len() - end;
            if header.total > available {
                flow.plan.pass(end);
                self.from_server.start(header.total, true, available, flow.plan);
                return Ok(());
            }
            end += header.total;
        }
        flow.plan.pass(end);
        Ok(())
    }

    /// An answer other than ReadyForQuery shows that the Syncs in front of what it answers are through.
    fn settle_slack(&mut self) {
        while self.slack > 0 && matches!(self.due.front(), Some(Due::Sync)) {
            self.slack -= 1;
            self.pop();
        }
    }

    /// Whole messages, or the heads of long ones.
    fn answer(&mut self, header: Header, body: &[u8], flow: &mut Flow<'_>) -> Result<Fate, WireError> {
        match header.tag {
            b'N' if matches!(self.due.front(), Some(Due::Own { .. })) => return Ok(Fate::Swallow),
            b'N' => return Ok(Fate::Pass),
            b'S' => return self.parameter_status(body, flow),
            b'Z' => return self.ready(body, flow),
            _ => self.settle_slack(),
        }
        if header.tag == b'E' {
            return self.error(header, body, flow);
        }
        self.due.bytes_down += header.total as u64;
        if let Some(Due::Own { .. }) = self.due.front() {
            if !matches!(header.tag, b'1' | b'2' | b'3' | b'C') {
                return Err(unasked("an answer to words of ours"));
            }
            self.own_answer();
            return Ok(Fate::Swallow);
        }
        match header.tag {
            b'1' => self.parsed(),
            b'2' => self.bound(),
            b'3' => self.closed(),
            b't' => self.described(header, body),
            b'T' | b'n' => self.row_description(header.tag),
            b'C' => self.complete(body, flow),
            b'I' => self.result(EMPTY, 0, flow),
            b's' => self.result(SUSPENDED, self.due.rows, flow),
            b'V' => self.function_result(flow),
            _ => self.copy_response(header.tag),
        }?;
        Ok(Fate::Pass)
    }

    /// One answer to words of ours has come.
    fn own_answer(&mut self) {
        if let Some(Due::Own { answers, .. }) = self.due.front_mut() {
            *answers -= 1;
            if *answers == 0 {
                self.pop();
            }
        }
    }

    /// Words of ours that ask what a prepared statement is are being answered.
    fn describes_for_us(&self) -> bool {
        let ours = matches!(self.due.front(), Some(Due::Own { .. }));
        let purpose = self.due.get(1);
        ours && matches!(purpose, Some(Due::OwnSync(Purpose::Attach(_) | Purpose::Describe(_))))
    }

    /// The front is through. A COPY has no bytes left to count when nothing is due.
    fn pop(&mut self) -> Option<Due> {
        let due = self.due.pop();
        if self.due.is_empty() {
            self.copy_up = 0;
        }
        due
    }

    fn parsed(&mut self) -> Result<(), WireError> {
        let Some(&Due::Parse { entry, statement }) = self.due.front() else {
            return Err(unasked("ParseComplete"));
        };
        self.statements.confirm(entry, Some(statement), |_| {});
        self.pop();
        Ok(())
    }

    fn bound(&mut self) -> Result<(), WireError> {
        let Some(&Due::Bind { entry, portal }) = self.due.front() else {
            return Err(unasked("BindComplete"));
        };
        let statements = &mut self.statements;
        self.portals.confirm(entry, Some(portal), |portal| super::release_statement(statements, portal));
        self.pop();
        Ok(())
    }

    fn closed(&mut self) -> Result<(), WireError> {
        let statements = &mut self.statements;
        match self.due.front() {
            Some(Due::CloseStatement(Some(entry))) => statements.confirm(*entry, None, |_| {}),
            Some(Due::ClosePortal(Some(entry))) => {
                self.portals.confirm(*entry, None, |portal| super::release_statement(statements, portal));
            }
            Some(Due::CloseStatement(None) | Due::ClosePortal(None)) => {}
            _ => return Err(unasked("CloseComplete")),
        }
        self.pop();
        Ok(())
    }

    /// ParameterDescription: the oids that the server found out itself.
    fn described(&mut self, header: Header, body: &[u8]) -> Result<(), WireError> {
        let (Some(&Due::DescribeStatement(statement)), Stage::Begin) = (self.due.front(), self.due.stage)
        else {
            return Err(unasked("ParameterDescription"));
        };
        self.due.stage = Stage::Described;
        let Some((count, types)) = body.split_first_chunk::<2>() else {
            return Err(WireError::new("ParameterDescription", "too short"));
        };
        // A statement may have more parameters than the count can say, and then cannot be executed: the
        // server's count is cut to its 16 bits.
        let bytes = header.total - HEADER_BYTES - 2;
        if !bytes.is_multiple_of(4) || (bytes / 4) as u16 != u16::from_be_bytes(*count) {
            return Err(WireError::new("ParameterDescription", "a count that does not fit its length"));
        }
        if let Some(statement) = statement {
            self.statements.change(statement, |statement| {
                statement.described.clear();
                statement.described.extend_from_slice(&types[..types.len() / 4 * 4]);
            });
        }
        Ok(())
    }

    /// RowDescription or NoData.
    fn row_description(&mut self, tag: u8) -> Result<(), WireError> {
        match (self.due.front(), self.due.stage) {
            (Some(Due::Query(_)), Stage::Begin) if tag == b'T' => {
                self.due.stage = Stage::Rows;
                return Ok(());
            }
            (Some(&Due::DescribeStatement(statement)), Stage::Described) => {
                if let Some(statement) = statement {
                    self.statements.release(statement, |_| {});
                }
            }
            (Some(Due::DescribePortal), Stage::Begin) => {}
            _ => return Err(unasked("RowDescription or NoData")),
        }
        self.pop();
        Ok(())
    }

    fn copy_response(&mut self, tag: u8) -> Result<(), WireError> {
        use Stage::{Begin, CopyIn, CopyOut, CopyOutDone};
        if !matches!(self.due.front(), Some(Due::Query(_) | Due::Execute(_))) {
            return Err(unasked("a COPY message"));
        }
        self.due.stage = match (tag, self.due.stage) {
            (b'G', Begin) => CopyIn,
            (b'H', Begin) => CopyOut,
            (b'c', CopyOut) => CopyOutDone,
            _ => return Err(unasked("a COPY message")),
        };
        Ok(())
    }

    /// CommandComplete.
    fn complete(&mut self, body: &[u8], flow: &mut Flow<'_>) -> Result<(), WireError> {
        let Some((0, tag)) = body.split_last() else {
            return Err(WireError::new("CommandComplete", "without its end"));
        };
        match self.due.stage {
            Stage::Begin | Stage::Rows | Stage::CopyOutDone => {}
            Stage::CopyIn => self.copied_in()?,
            _ => return Err(unasked("CommandComplete")),
        }
        match tag {
            b"DISCARD ALL" | b"DEALLOCATE ALL" => {
                if tag == b"DISCARD ALL" {
                    self.discarded(true, self.front_number());
                }
                if let Some(statements) = self.statements.made() {
                    statements.forget_confirmed(false, |_| {});
                }
                self.dropped_by_sql = false;
            }
            b"DISCARD SEQUENCES" => self.discarded(false, self.front_number()),
            b"DEALLOCATE" => self.dropped_by_sql = true,
            b"LOAD" | b"CREATE EXTENSION" | b"ALTER EXTENSION" | b"DROP EXTENSION" | b"CREATE LANGUAGE"
            | b"DROP LANGUAGE" => self.spoiled = true,
            _ => {}
        }
        let last = tag.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
        let rows = std::str::from_utf8(last).ok().and_then(|number| number.parse().ok());
        self.result(tag, rows.unwrap_or(self.due.rows), flow)
    }

    /// The number of the statement that is being answered.
    fn front_number(&self) -> u64 {
        match self.due.front() {
            Some(Due::Query(run) | Due::Execute(run)) => run.number,
            _ => 0,
        }
    }

    /// COPY FROM STDIN succeeded: so the client has ended its data, and the server has ignored the Syncs
    /// among them. In the extended protocol the client owes one more.
    fn copied_in(&mut self) -> Result<(), WireError> {
        let (syncs, CopyTail::Ended) = self.due.copy_syncs() else {
            return Err(WireError::new("CommandComplete", "a COPY ended whose data did not"));
        };
        self.due.forget_copy(syncs);
        if syncs > 0 && matches!(self.due.front(), Some(Due::Execute(_))) && self.due.is_last() {
            self.unsynced = true;
        }
        Ok(())
    }

    /// The front statement, or a part of it, is done.
    fn result(&mut self, tag: &[u8], rows: u64, flow: &mut Flow<'_>) -> Result<(), WireError> {
        let copied = std::mem::take(&mut self.copy_up);
        let (bytes_down, stage) = (self.due.bytes_down, self.due.stage);
        let at_once = matches!(tag, SUSPENDED | EMPTY);
        let wrong_stage = at_once && stage != Stage::Begin || matches!(stage, Stage::Ended { .. });
        match self.due.front_mut() {
            Some(Due::Query(run)) if !wrong_stage && tag != SUSPENDED => {
                run.bytes_up += copied;
                note_result(*run, tag, rows, bytes_down, b"", flow);
                (run.sent, run.bytes_up) = (flow.clock_micros, 0);
                self.due.results += 1;
                (self.due.stage, self.due.rows, self.due.bytes_down) = (Stage::Begin, 0, 0);
            }
            Some(Due::Execute(run)) if !wrong_stage => {
                run.bytes_up += copied;
                note_result(*run, tag, rows, bytes_down, b"", flow);
                self.last_ended = run.number;
                self.pop();
            }
            _ => return Err(unasked("the end of a statement")),
        }
        Ok(())
    }

    fn function_result(&mut self, flow: &mut Flow<'_>) -> Result<(), WireError> {
        let (Some(Due::Function(run)), Stage::Begin) = (self.due.front(), self.due.stage) else {
            return Err(unasked("FunctionCallResponse"));
        };
        note_result(*run, FUNCTION, 0, self.due.bytes_down, b"", flow);
        self.due.stage = Stage::Ended { failed: false };
        Ok(())
    }

    fn error(&mut self, header: Header, body: &[u8], flow: &mut Flow<'_>) -> Result<Fate, WireError> {
        let (sqlstate, fatal) = error_fields(body);
        self.due.bytes_down += header.total as u64;
        if fatal {
            self.over = true;
            self.fail_all(sqlstate, flow);
            return Ok(Fate::Pass);
        }
        let (bytes_down, rows) = (self.due.bytes_down, self.due.rows);
        let stage = self.due.stage;
        match self.due.front_mut() {
            _ if matches!(stage, Stage::Ended { .. }) => return Err(unasked("ErrorResponse")),
            Some(Due::Query(run) | Due::Function(run)) => {
                let mut run = *run;
                run.bytes_up += std::mem::take(&mut self.copy_up);
                if stage == Stage::CopyIn && self.due.copy_syncs().0 > 0 {
                    return Err(WireError::new("ErrorResponse", "a COPY failed with Syncs among its data"));
                }
                note_result(run, b"", rows, bytes_down, sqlstate, flow);
                self.due.stage = Stage::Ended { failed: true };
            }
            Some(Due::Execute(run)) => {
                let mut run = *run;
                run.bytes_up += std::mem::take(&mut self.copy_up);
                note_result(run, b"", rows, bytes_down, sqlstate, flow);
                if stage == Stage::CopyIn {
                    return self.copy_in_failed(flow);
                }
                self.pop();
                self.skip_batch(flow);
            }
            // A commit that failed, of a deferred constraint for example.
            Some(Due::Sync) => {
                let run = Run { number: self.last_ended, sent: flow.clock_micros, bytes_up: 0 };
                if run.number > 0 {
                    note_result(run, b"", 0, bytes_down, sqlstate, flow);
                }
                self.due.stage = Stage::Ended { failed: true };
            }
            Some(Due::Refused { .. }) => return self.refused(flow),
            Some(Due::Own { .. } | Due::OwnSync(_)) => return self.own_error(),
            Some(_) => self.failed(sqlstate, flow),
            None => return Err(unasked("ErrorResponse")),
        }
        Ok(Fate::Pass)
    }

    /// A message of the extended protocol that is no Execute failed. The Execute that belongs to it is
    /// what the error is noted for, if it has been sent.
    fn failed(&mut self, sqlstate: &[u8], flow: &mut Flow<'_>) {
        let Some(due) = self.pop() else { return };
        let mut binds = usize::from(matches!(due, Due::Parse { .. }));
        let unnamed = matches!(due, Due::Parse { entry: UNNAMED, .. });
        if let Due::Bind { portal, .. } = due {
            self.note_unbound(portal, sqlstate, flow);
        }
        self.take_back(due, flow);
        if unnamed {
            // The server drops the old one before it looks at the new one.
            self.forget_unnamed();
        }
        loop {
            match self.due.front() {
                Some(Due::Bind { .. }) if binds > 0 => binds -= 1,
                Some(Due::DescribeStatement(_) | Due::DescribePortal) => {}
                Some(&Due::Execute(run)) => {
                    note_result(run, b"", 0, 0, sqlstate, flow);
                    self.pop();
                    break;
                }
                _ => break,
            }
            if let Some(due) = self.pop() {
                if let Due::Bind { portal, .. } = due {
                    self.note_unbound(portal, sqlstate, flow);
                }
                self.take_back(due, flow);
            }
        }
        self.skip_batch(flow);
    }

    /// In place of the statement that was refused something of ours has failed; the client is shown the
    /// refusal where its error belongs.
    fn refused(&mut self, flow: &mut Flow<'_>) -> Result<Fate, WireError> {
        let simple = match self.due.front() {
            Some(Due::Refused { run, refusal, simple }) => {
                note_result(*run, b"", 0, 0, sqlstate(refusal).as_bytes(), flow);
                self.scratch.clear();
                put_error(&mut self.scratch, Severity::Error, refusal);
                *simple
            }
            _ => return Err(unasked("ErrorResponse")),
        };
        flow.plan.own(&self.scratch);
        self.scratch.clear();
        if simple {
            self.due.stage = Stage::Ended { failed: true };
        } else {
            self.pop();
            self.skip_batch(flow);
        }
        Ok(Fate::Swallow)
    }

    fn own_error(&mut self) -> Result<Fate, WireError> {
        if let Some(Due::Own { inline, .. }) = self.due.front() {
            if *inline {
                // The client's next messages are skipped for a failure that it did not see.
                return Err(WireError::new("SET", "a start-up setting could not be put back"));
            }
            self.pop();
        }
        match self.due.front() {
            Some(Due::OwnSync(Purpose::Stamp)) => self.own_failed = true,
            Some(Due::OwnSync(Purpose::Attach(_) | Purpose::Describe(_))) => self.own_failed = true,
            Some(Due::OwnSync(Purpose::Proof)) => self.proof_failed(),
            _ => return Err(unasked("ErrorResponse")),
        }
        Ok(Fate::Swallow)
    }

    /// After an error in the extended protocol the server ignores everything up to the next Sync.
    fn skip_batch(&mut self, flow: &mut Flow<'_>) {
        loop {
            match self.due.front() {
                Some(Due::Sync | Due::OwnSync(_)) => return,
                Some(_) => {
                    if let Some(due) = self.pop() {
                        self.take_back(due, flow);
                    }
                }
                None => {
                    self.skipping = true;
                    return;
                }
            }
        }
    }

    /// COPY FROM STDIN of an Execute failed. Syncs sent before the end of the data may have been read as
    /// part of it, and ignored; which ones, the answers will show.
    fn copy_in_failed(&mut self, flow: &mut Flow<'_>) -> Result<Fate, WireError> {
        let (syncs, tail) = self.due.copy_syncs();
        if syncs > 0 {
            if tail == CopyTail::Other {
                return Err(WireError::new("ErrorResponse", "a COPY failed with statements behind it"));
            }
            self.due.forget_copy_end(syncs);
            self.slack = syncs;
        }
        self.pop();
        if syncs == 0 {
            self.skip_batch(flow);
            return Ok(Fate::Pass);
        }
        match self.due.get(syncs) {
            Some(Due::Sync) => self.speak(flow.back),
            // The client will send the Sync that is surely none of these.
            None => self.resync = true,
            Some(_) => {
                return Err(WireError::new("ErrorResponse", "a COPY failed with statements behind it"));
            }
        }
        Ok(Fate::Pass)
    }

    /// The session is over: what was running failed, the rest never ran.
    fn fail_all(&mut self, sqlstate: &[u8], flow: &mut Flow<'_>) {
        let (bytes_down, rows, stage) = (self.due.bytes_down, self.due.rows, self.due.stage);
        let has_result = matches!(stage, Stage::Ended { .. });
        match self.pop() {
            Some(Due::Query(_) | Due::Function(_) | Due::Refused { .. }) if has_result => {}
            Some(Due::Query(run) | Due::Function(run) | Due::Execute(run)) => {
                note_result(run, b"", rows, bytes_down, sqlstate, flow);
            }
            Some(due) => self.take_back(due, flow),
            None => return,
        }
        while let Some(due) = self.pop() {
            self.take_back(due, flow);
        }
    }

    fn parameter_status(&mut self, body: &[u8], flow: &mut Flow<'_>) -> Result<Fate, WireError> {
        let mut rest = body;
        let (Some(name), Some(value)) = (frame::take_string(&mut rest), frame::take_string(&mut rest)) else {
            return Err(WireError::new("ParameterStatus", "without its end"));
        };
        if name != APPLICATION_NAME.as_bytes() {
            if let Ok(name) = std::str::from_utf8(name) {
                self.remember_parameter(name, value);
            }
            return Ok(Fate::Pass);
        }
        let fate = match self.stamp.told(value) {
            Shown::Nothing => Fate::Swallow,
            Shown::AsIs => Fate::Pass,
            Shown::Instead(name) => {
                self.scratch.clear();
                words::put_parameter_status(&mut self.scratch, APPLICATION_NAME, name);
                flow.plan.own(&self.scratch);
                self.scratch.clear();
                Fate::Swallow
            }
        };
        if self.due.is_empty() {
            self.stamp.ready();
            self.speak(flow.back);
        }
        Ok(fate)
    }

    /// ReadyForQuery.
    fn ready(&mut self, body: &[u8], flow: &mut Flow<'_>) -> Result<Fate, WireError> {
        let &[status @ (b'I' | b'T' | b'E')] = body else {
            return Err(WireError::new("ReadyForQuery", "a transaction status that cannot be"));
        };
        let (front, stage) = (self.due.front(), self.due.stage);
        let failed = stage == Stage::Ended { failed: true };
        let through = matches!(stage, Stage::Begin | Stage::Ended { .. });
        let mut fate = Fate::Pass;
        match front {
            Some(&Due::Query(run)) if through => {
                if self.due.results == 0 && !failed {
                    note_result(run, b"", 0, self.due.bytes_down, b"", flow);
                }
                if self.stamp.statement_ended(run.number, failed) {
                    self.gate = false;
                }
                self.forget_unnamed();
            }
            Some(Due::Function(_)) if matches!(stage, Stage::Ended { .. }) => {}
            Some(Due::Refused { simple: true, .. }) if failed => self.forget_unnamed(),
            Some(Due::Sync) if through => self.last_ended = 0,
            Some(&Due::OwnSync(purpose)) => {
                self.own_ready(purpose, status)?;
                fate = Fate::Swallow;
            }
            _ => return Err(unasked("ReadyForQuery")),
        }
        self.pop();
        self.status = status;
        if self.slack > 0 {
            self.slack = self.slack.min(self.due.leading_syncs());
        }
        // One of the doubtful Syncs was answered: the server skips no more.
        self.resync = false;
        // A Query ends what came before it too, unless that failed: then it is skipped and not answered.
        self.unsynced &= !self.due.is_empty();
        if status == b'I' {
            self.forget_portals();
        }
        if fate == Fate::Pass {
            self.stamp.ready();
        }
        Ok(fate)
    }

    fn own_ready(&mut self, purpose: Purpose, status: u8) -> Result<(), WireError> {
        let failed = std::mem::take(&mut self.own_failed);
        match purpose {
            Purpose::Stamp => {
                if status != self.status {
                    return Err(WireError::new("SET", "words of ours broke the client's transaction"));
                }
                self.stamp.words_ended(failed)?;
            }
            Purpose::Attach(entry) => self.described_after(entry, failed),
            Purpose::Describe(entry) => self.described_before(entry, failed),
            Purpose::Misfits => {}
            Purpose::Proof => self.proven = self.proof_through(),
            Purpose::Fence => (self.fenced, self.slack) = (false, 0),
        }
        Ok(())
    }
}

/// The largest head that we wait for.
fn needed(header: Header) -> Result<usize, WireError> {
    let limit = match header.tag {
        b'N' | b'V' | b'T' => return Ok(HEADER_BYTES),
        // The process id is in front.
        b'A' => return Ok(header.total.min(HEADER_BYTES + size_of::<u32>())),
        b'E' => return Ok(header.total.min(ERROR_HEAD_BYTES_MAX)),
        b't' => return Ok(header.total.min(INSPECT_BYTES_MAX)),
        b'S' => INSPECT_BYTES_MAX,
        b'1' | b'2' | b'3' | b'C' | b'I' | b's' | b'n' | b'c' | b'Z' | b'G' | b'H' | b'W' => {
            SMALL_MESSAGE_BYTES_MAX
        }
        _ => return Err(WireError::new("message type", "not one that a server sends now")),
    };
    if header.total > limit {
        return Err(WireError::new("message length", "longer than this message can be"));
    }
    Ok(header.total)
}

/// The SQLSTATE, and whether the server ends the session with this
/// (<https://www.postgresql.org/docs/current/protocol-error-fields.html>).
fn error_fields(body: &[u8]) -> (&[u8], bool) {
    let (mut rest, mut sqlstate, mut severity) = (body, NO_SQLSTATE, &b""[..]);
    while let Some((field @ 1.., value)) = rest.split_first() {
        rest = value;
        let Some(value) = frame::take_string(&mut rest) else { break };
        match field {
            b'C' if !value.is_empty() && value.len() <= 5 => sqlstate = value,
            // V is not translated; servers before 9.6 only have S.
            b'V' => severity = value,
            b'S' if severity.is_empty() => severity = value,
            _ => {}
        }
    }
    (sqlstate, matches!(severity, b"FATAL" | b"PANIC"))
}
