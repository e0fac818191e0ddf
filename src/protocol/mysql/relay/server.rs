//! The server's packets: matched with what is due, counted, passed on or swallowed
//! (<https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_com_query_response.html>,
//! <https://mariadb.com/docs/server/reference/clientserver-protocol/4-server-response-packets>).

use std::io::Write;

use super::super::capability::{Capabilities, status};
use super::super::packet::{self, EOF, ERR, HEADER_BYTES, Header, LOCAL_INFILE, OK, PROGRESS};
use super::file::File;
use super::outstanding::{Answer, Run, Stage, Then};
use super::{ERROR_BYTES_MAX, MySqlRelay, XA_STATE, result};
use crate::model::limits::SMALL_MESSAGE_BYTES_MAX;
use crate::protocol::session::{Flow, RelayStep, WireError};

/// As much of a packet as says what it is: two numbers of up to nine bytes, status flags, warnings.
const HEAD_BYTES_MAX: usize = 32;
/// `OK 18446744073709551615, 65535 warnings`.
const TAG_BYTES_MAX: usize = 48;

const fn unasked(place: &'static str) -> WireError {
    WireError::new(place, "the server answered something that was not asked")
}

const fn malformed(place: &'static str) -> WireError {
    WireError::new(place, "malformed")
}

/// How an error is noted: `42S02/1146`.
pub(super) fn error_text<'a>(
    number: u16,
    sqlstate: &[u8],
    buffer: &'a mut [u8; ERROR_BYTES_MAX],
) -> &'a [u8] {
    let left = {
        let mut rest = &mut buffer[..];
        // As long as the longest that can be.
        let _ = rest.write_all(sqlstate);
        let _ = write!(rest, "/{number}");
        rest.len()
    };
    &buffer[..ERROR_BYTES_MAX - left]
}

/// What ends a result.
#[derive(Debug, Clone, Copy, Default)]
struct End {
    /// Rows that were changed.
    affected: u64,
    status: u16,
    warnings: u16,
}

impl End {
    /// An OK packet, whatever its first byte.
    fn of_ok(body: &[u8]) -> Option<Self> {
        let mut rest = body.get(1..)?;
        let affected = packet::take_number(&mut rest)?;
        // The number of the last row that was inserted.
        packet::take_number(&mut rest)?;
        let status = u16::from_le_bytes(packet::take(&mut rest)?);
        let warnings = u16::from_le_bytes(packet::take(&mut rest)?);
        Some(Self { affected, status, warnings })
    }

    /// An EOF packet.
    fn of_eof(body: &[u8]) -> Option<Self> {
        let mut rest = body.get(1..)?;
        let warnings = u16::from_le_bytes(packet::take(&mut rest)?);
        let status = u16::from_le_bytes(packet::take(&mut rest)?);
        Some(Self { affected: 0, status, warnings })
    }

    fn has_more(self) -> bool {
        self.status & status::MORE_RESULTS != 0
    }

    /// What a result is noted as: `OK` where rows were changed, `ROWS` where some were given.
    fn tag(self, kind: &str, count: u64, buffer: &mut [u8; TAG_BYTES_MAX]) -> usize {
        let left = {
            let mut rest = &mut buffer[..];
            let _ = write!(rest, "{kind} {count}");
            let _ = match self.warnings {
                0 => Ok(()),
                1 => write!(rest, ", 1 warning"),
                more => write!(rest, ", {more} warnings"),
            };
            rest.len()
        };
        TAG_BYTES_MAX - left
    }
}

impl MySqlRelay {
    pub(super) fn pump_server(&mut self, input: &[u8], flow: &mut Flow<'_>) -> Result<RelayStep, WireError> {
        loop {
            let available = input.len() - flow.plan.consumed();
            if self.from_server.left > 0 {
                self.from_server.go_on(available, flow.plan);
            }
            self.settle_in_plan(flow);
            if self.over && !self.from_server.is_under_way() {
                return Ok(RelayStep::Close);
            }
            let rest = &input[flow.plan.consumed()..];
            if rest.is_empty() {
                return Ok(RelayStep::Continue);
            }
            if self.winding_down && !self.from_server.goes_on {
                flow.plan.drop(rest.len());
                return Ok(RelayStep::Continue);
            }
            let Some(header) = packet::peek(rest) else { return Ok(RelayStep::Continue) };
            if self.from_server.goes_on {
                let number = self.number(header)?;
                self.due.bytes_down += header.total() as u64;
                self.from_server.start_as(number, header, self.from_server.keep, rest.len(), flow.plan);
                continue;
            }
            let Some(first) = rest.get(HEADER_BYTES).copied() else {
                if header.length == 0 {
                    return Err(WireError::new("packet", "an empty one"));
                }
                return Ok(RelayStep::Continue);
            };
            if header.length == 0 {
                return Err(WireError::new("packet", "an empty one"));
            }
            if self.due.stage == Stage::Rows && !self.ends_rows(first, header) {
                self.rows(rest, flow)?;
                continue;
            }
            if let Stage::Definitions { .. } = self.due.stage
                && first != ERR
            {
                self.definitions(rest, flow)?;
                continue;
            }
            let needed = self.needed(first, header)?;
            if rest.len() < needed {
                return Ok(RelayStep::Continue);
            }
            let (number, keep) = self.answer(header, &rest[HEADER_BYTES..needed], flow)?;
            self.from_server.start_as(number, header, keep, rest.len(), flow.plan);
        }
    }

    fn settle_in_plan(&mut self, flow: &mut Flow<'_>) {
        if self.due.front().is_none_or(|due| !due.answer.is_ours()) {
            return;
        }
        let mut words = std::mem::take(&mut self.scratch);
        words.clear();
        self.settle(&mut words, flow.notes, flow.clock_micros);
        flow.plan.own(&words);
        words.clear();
        self.scratch = words;
    }

    /// The number that the packet must have, and the client is to see.
    fn number(&mut self, header: Header) -> Result<u8, WireError> {
        let number = self.due.sequence;
        if header.sequence != number && !self.renumbers {
            return Err(WireError::new("sequence", "the server's packets are out of order"));
        }
        self.due.sequence = number.wrapping_add(1);
        Ok(number)
    }

    fn ends_rows(&self, first: u8, header: Header) -> bool {
        match first {
            ERR => true,
            // A row may begin with this too, then it is longer.
            EOF if self.agreed.has(Capabilities::DEPRECATE_EOF) => !header.goes_on(),
            EOF => header.length < 9,
            _ => false,
        }
    }

    /// Rows: counted and passed, as many as there are.
    fn rows(&mut self, input: &[u8], flow: &mut Flow<'_>) -> Result<(), WireError> {
        let mut end = 0;
        while let Some(header) = packet::peek(&input[end..]) {
            let Some(first) = input.get(end + HEADER_BYTES).copied() else { break };
            if header.length == 0 || self.ends_rows(first, header) {
                break;
            }
            let number = self.number(header)?;
            self.due.rows += 1;
            self.due.bytes_down += header.total() as u64;
            let available = input.len() - end;
            if header.total() > available || header.goes_on() || number != header.sequence {
                flow.plan.pass(end);
                self.from_server.start_as(number, header, true, available, flow.plan);
                return Ok(());
            }
            end += header.total();
        }
        flow.plan.pass(end);
        Ok(())
    }

    /// Definitions of columns or parameters: as many as were announced.
    fn definitions(&mut self, input: &[u8], flow: &mut Flow<'_>) -> Result<(), WireError> {
        let Stage::Definitions { mut left, then } = self.due.stage else { return Ok(()) };
        let mut end = 0;
        while left > 0
            && let Some(header) = packet::peek(&input[end..])
        {
            let Some(first) = input.get(end + HEADER_BYTES).copied() else { break };
            if header.length == 0 || first == ERR {
                break;
            }
            if header.goes_on() {
                return Err(malformed("a definition"));
            }
            let number = self.number(header)?;
            self.due.bytes_down += header.total() as u64;
            left -= 1;
            let available = input.len() - end;
            if header.total() > available || number != header.sequence {
                self.defined(left, then, flow);
                flow.plan.pass(end);
                self.from_server.start_as(number, header, true, available, flow.plan);
                return Ok(());
            }
            end += header.total();
        }
        self.defined(left, then, flow);
        flow.plan.pass(end);
        Ok(())
    }

    /// So many are still to come.
    fn defined(&mut self, left: u64, then: Then, flow: &mut Flow<'_>) {
        self.due.stage = Stage::Definitions { left, then };
        if left == 0 {
            self.all_defined(then, flow);
        }
    }

    fn all_defined(&mut self, then: Then, flow: &mut Flow<'_>) {
        if self.agreed.has(Capabilities::DEPRECATE_EOF) {
            self.go_to(then, flow);
        } else {
            self.due.stage = Stage::DefinitionsEnd { then };
        }
    }

    fn go_to(&mut self, then: Then, flow: &mut Flow<'_>) {
        match then {
            Then::Rows => self.due.stage = Stage::Rows,
            Then::Columns(0) | Then::Nothing => self.ended(flow),
            Then::Columns(count) => {
                self.due.stage = Stage::Definitions { left: count.into(), then: Then::Nothing };
            }
        }
    }

    /// The front is through.
    fn ended(&mut self, flow: &mut Flow<'_>) {
        let was_reset = matches!(self.pop().map(|due| due.answer), Some(Answer::Reset));
        if was_reset {
            self.unstamped = true;
            if let Some(stamp) = self.speak() {
                flow.back.extend_from_slice(stamp);
            }
        }
    }

    /// The largest head that we wait for.
    fn needed(&self, first: u8, header: Header) -> Result<usize, WireError> {
        if first == LOCAL_INFILE && self.due.stage == Stage::First {
            // The file's name goes to the client whole, or not at all.
            return match header.length <= SMALL_MESSAGE_BYTES_MAX {
                true => Ok(header.total()),
                false => Err(malformed("LOCAL INFILE")),
            };
        }
        Ok(HEADER_BYTES + header.length.min(HEAD_BYTES_MAX))
    }

    /// A packet that is neither a row nor a definition: the number that the client sees, and whether it is passed on.
    fn answer(&mut self, header: Header, body: &[u8], flow: &mut Flow<'_>) -> Result<(u8, bool), WireError> {
        let is_error = body[0] == ERR;
        let Some(due) = self.due.front().filter(|due| !due.answer.is_ours()) else {
            // A server that ends a connection says why, where it can.
            if !is_error {
                return Err(unasked("packet"));
            }
            self.over = true;
            return Ok((header.sequence, true));
        };
        let is_text = matches!(due.answer, Answer::Text);
        let swallowed = matches!(due.answer, Answer::Own);
        if is_error && self.lengthens && self.due.len() == 1 && self.from_client.is_under_way() {
            // The server did not wait for the rest of a command that is too long for it.
            self.due.sequence = header.sequence;
        }
        if self.due.stage == Stage::File {
            let number = if self.renumbers { self.client_sequence } else { header.sequence };
            return self.early_answer(is_error, body, flow).map(|keep| (number, keep));
        }
        let number = self.number(header)?;
        self.due.bytes_down += header.total() as u64;
        if is_error {
            self.error(body, flow)?;
            return Ok((number, !swallowed));
        }
        match self.due.stage {
            _ if is_text => self.done(End { status: self.status, ..End::default() }, "OK", flow),
            Stage::First => self.first(header, body, flow)?,
            Stage::DefinitionsEnd { then } => self.definitions_end(header, body, then, flow)?,
            Stage::Rows => {
                let end = match self.agreed.has(Capabilities::DEPRECATE_EOF) {
                    true => End::of_ok(body),
                    false => End::of_eof(body),
                };
                self.done(end.ok_or(malformed("the end of rows"))?, "ROWS", flow);
            }
            Stage::Definitions { .. } | Stage::File => return Err(unasked("packet")),
        }
        Ok((number, !swallowed))
    }

    /// While the client sends a file, nothing is due. Where the server has given up, what is left of the file would
    /// be read as commands, so nothing follows.
    fn early_answer(&mut self, is_error: bool, body: &[u8], flow: &mut Flow<'_>) -> Result<bool, WireError> {
        if !is_error {
            return Err(unasked("packet"));
        }
        if self.is_progress(body) {
            return Ok(true);
        }
        self.end_file(false, flow.notes);
        self.error(body, flow)?;
        self.over = true;
        Ok(true)
    }

    /// The first packet of an answer, or of a further result.
    fn first(&mut self, header: Header, body: &[u8], flow: &mut Flow<'_>) -> Result<(), WireError> {
        let Some(due) = self.due.front() else { return Err(unasked("packet")) };
        match &due.answer {
            Answer::Results { .. } if body[0] == OK => {
                let end = End::of_ok(body).ok_or(malformed("OK"))?;
                self.done(end, "OK", flow);
            }
            Answer::Results { offered } if body[0] == LOCAL_INFILE => {
                // Another name than the client's own statement has would be any file of its machine.
                let is_offered =
                    offered.as_ref().is_some_and(|names| names.iter().any(|name| *name == body[1..]));
                if !is_offered || !self.can_send_file() {
                    return Err(WireError::new(
                        "LOCAL INFILE",
                        "the server asks for a file that was not offered",
                    ));
                }
                self.file = Some(Box::new(File::new(due.run.number, &body[1..])));
                self.due.stage = Stage::File;
                self.client_sequence = self.due.sequence;
            }
            Answer::Results { .. } => {
                let mut rest = body;
                let count = packet::take_number(&mut rest).filter(|_| header.length <= HEAD_BYTES_MAX);
                let left = count.ok_or(malformed("the number of columns"))?;
                // Optional metadata: a byte says whether there is any.
                match rest {
                    [] | [1] => self.due.stage = Stage::Definitions { left, then: Then::Rows },
                    [0] => self.all_defined(Then::Rows, flow),
                    _ => return Err(malformed("the number of columns")),
                }
            }
            Answer::Prepared { slot } => self.prepared_ok(*slot, header, body, flow)?,
            Answer::Done | Answer::Reset | Answer::Own => {
                let end = match (body[0], header.length) {
                    (OK, _) => End::of_ok(body),
                    // What older servers say to SET_OPTION.
                    (EOF, 5) => End::of_eof(body),
                    (EOF, _) => End::of_ok(body),
                    _ => None,
                };
                let end = end.ok_or(unasked("an answer to a command"))?;
                if end.has_more() {
                    return Err(WireError::new("OK", "more results of a command that has none"));
                }
                if matches!(due.answer, Answer::Reset) {
                    self.resets = self.resets.saturating_sub(1);
                    self.prepared.reset(self.resets);
                }
                self.done(end, "OK", flow);
            }
            Answer::Fetched | Answer::Fields | Answer::Text | Answer::Refused(_) | Answer::Killed(_) => {
                return Err(unasked("packet"));
            }
        }
        Ok(())
    }

    /// What the client sends next can only be the file.
    fn can_send_file(&self) -> bool {
        self.due.len() == 1 && !self.from_client.is_under_way()
    }

    fn definitions_end(
        &mut self,
        header: Header,
        body: &[u8],
        then: Then,
        flow: &mut Flow<'_>,
    ) -> Result<(), WireError> {
        if body[0] != EOF || header.length >= 9 {
            return Err(unasked("the end of definitions"));
        }
        let end = End::of_eof(body).ok_or(malformed("EOF"))?;
        if then == Then::Rows && end.status & status::CURSOR_EXISTS != 0 {
            // The rows are fetched later.
            self.done(end, "ROWS", flow);
        } else {
            self.go_to(then, flow);
        }
        Ok(())
    }

    fn prepared_ok(
        &mut self,
        slot: usize,
        header: Header,
        body: &[u8],
        flow: &mut Flow<'_>,
    ) -> Result<(), WireError> {
        let (Some([OK, id @ ..]), true) = (body.first_chunk::<5>(), (12..=13).contains(&header.length))
        else {
            return Err(malformed("the answer to PREPARE"));
        };
        let short = |at: usize| u16::from_le_bytes([body[at], body[at + 1]]);
        let (columns, parameters) = (short(5), short(7));
        self.prepared.confirm(slot, u32::from_le_bytes(*id), parameters);
        // Without metadata only the ends of both lists are there, as far as those are sent at all.
        let has_none = body.get(12) == Some(&0);
        let then = Then::Columns(if has_none { 0 } else { columns });
        match parameters {
            0 => self.go_to(then, flow),
            _ if has_none => self.ended(flow),
            _ => self.due.stage = Stage::Definitions { left: parameters.into(), then },
        }
        Ok(())
    }

    /// A result ended; more may follow.
    fn done(&mut self, end: End, kind: &str, flow: &mut Flow<'_>) {
        self.status = end.status;
        let (rows, bytes_down) = (self.due.rows, self.due.bytes_down);
        let count = if kind == "OK" { end.affected } else { rows };
        let mut buffer = [0; TAG_BYTES_MAX];
        let length = end.tag(kind, count, &mut buffer);
        if let Some(due) = self.due.front_mut().filter(|due| due.run.number > 0) {
            flow.notes.push(&result(due.run, &buffer[..length], count, bytes_down, b"", flow.clock_micros));
            (due.run.sent, due.run.bytes_up) = (flow.clock_micros, 0);
        }
        let is_results = matches!(self.due.front().map(|due| &due.answer), Some(Answer::Results { .. }));
        if is_results && end.has_more() {
            self.due.next_result();
        } else {
            self.ended(flow);
        }
    }

    /// An error of MariaDB's that is none: how far a long statement has come.
    fn is_progress(&self, body: &[u8]) -> bool {
        let number = body.get(1..3).map(|number| u16::from_le_bytes([number[0], number[1]]));
        number == Some(PROGRESS) && self.agreed.has(Capabilities::MARIADB_PROGRESS)
    }

    fn error(&mut self, body: &[u8], flow: &mut Flow<'_>) -> Result<(), WireError> {
        if self.is_progress(body) {
            return Ok(());
        }
        let Some(number) = body.get(1..3).map(|number| u16::from_le_bytes([number[0], number[1]])) else {
            return Err(malformed("ERR"));
        };
        let sqlstate = match body.get(3..9) {
            Some([b'#', sqlstate @ ..]) if sqlstate.iter().all(u8::is_ascii_alphanumeric) => sqlstate,
            _ => b"HY000",
        };
        let (rows, bytes_down) = (self.due.rows, self.due.bytes_down);
        match self.due.front().map(|due| (&due.answer, due.run)) {
            Some((_, run @ Run { number: 1.., .. })) => {
                let mut buffer = [0; ERROR_BYTES_MAX];
                let error = error_text(number, sqlstate, &mut buffer);
                flow.notes.push(&result(run, b"", rows, bytes_down, error, flow.clock_micros));
            }
            Some((Answer::Own, _)) => self.spoiled |= number == XA_STATE,
            Some((Answer::Prepared { slot }, _)) => {
                let slot = *slot;
                // Once it is confirmed an error among its definitions is not told from one before.
                if self.due.stage == Stage::First {
                    self.prepared.abandon(slot);
                }
            }
            _ => {}
        }
        if matches!(self.due.front().map(|due| &due.answer), Some(Answer::Reset)) {
            self.resets = self.resets.saturating_sub(1);
        }
        self.pop();
        Ok(())
    }
}
