//! The client's commands: looked at, noted, judged, passed on
//! (<https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_command_phase.html>).

use super::super::capability::Capabilities;
use super::super::packet::{self, HEADER_BYTES, Header, PAYLOAD_MAX};
use super::super::value::{self, Form};
use super::super::{command, lexer};
use super::outstanding::{Answer, Offered, Run, Stage};
use super::prepared::TooMany;
use super::{MySqlRelay, Passing, cut_text};
use crate::model::limits::{
    AUDIT_PARAMETERS_BYTES_MAX, INSPECT_BYTES_MAX, NOTES_BYTES_MAX, PENDING_BYTES_MAX, PREPARED_MAX,
    SMALL_MESSAGE_BYTES_MAX, STARTUP_BYTES_MAX,
};
use crate::model::{Note, Operation, Parameters, Refusal, StatementKind, Verdict};
use crate::protocol::session::{Flow, Kill, RelayStep, WireError};

/// Why the walk over the client's packets stops.
pub(super) enum Stop {
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
        Self::Step(RelayStep::Refuse(Refusal::NotSupported(
            "a session with more than 65,536 prepared statements",
        )))
    }
}

fn violation(what: &'static str) -> Stop {
    Stop::Step(RelayStep::Refuse(Refusal::ProtocolViolation(what)))
}

/// What we see of one command.
struct Seen<'a> {
    /// What follows its first byte, up to [`INSPECT_BYTES_MAX`] of the packet.
    body: &'a [u8],
    /// All of the command is in `body`.
    whole: bool,
    header: Header,
    available: usize,
}

impl Seen<'_> {
    /// How long the body is, in its first packet.
    fn length(&self) -> usize {
        self.header.length - 1
    }
}

/// How much of a command must be here.
fn needed(code: u8, header: Header) -> Option<usize> {
    match code {
        command::QUERY | command::STMT_PREPARE | command::STMT_EXECUTE | command::STMT_BULK_EXECUTE => {
            Some(header.total().min(INSPECT_BYTES_MAX))
        }
        // The statement and the parameter; then the value.
        command::STMT_SEND_LONG_DATA if header.length >= 7 => Some(HEADER_BYTES + 7),
        command::CHANGE_USER => (header.length <= STARTUP_BYTES_MAX).then_some(header.total()),
        _ if is_served(code) => (header.length <= SMALL_MESSAGE_BYTES_MAX).then_some(header.total()),
        _ => Some(HEADER_BYTES + 1),
    }
}

fn is_served(code: u8) -> bool {
    use command::{
        FIELD_LIST, INIT_DB, PING, PROCESS_INFO, PROCESS_KILL, QUIT, RESET_CONNECTION, SET_OPTION,
        STATISTICS, STMT_CLOSE, STMT_FETCH, STMT_RESET, STMT_SEND_LONG_DATA,
    };
    matches!(
        code,
        QUIT | INIT_DB
            | FIELD_LIST
            | STATISTICS
            | PROCESS_INFO
            | PROCESS_KILL
            | PING
            | STMT_SEND_LONG_DATA
            | STMT_CLOSE
            | STMT_RESET
            | SET_OPTION
            | STMT_FETCH
            | RESET_CONNECTION
    )
}

/// What is not served, in words.
fn unserved(code: u8) -> &'static str {
    match code {
        command::BINLOG_DUMP
        | command::BINLOG_DUMP_GTID
        | command::REGISTER_SLAVE
        | command::TABLE_DUMP
        | command::CONNECT_OUT
        | command::SUBSCRIBE_GROUP_REPLICATION_STREAM => "replication",
        command::CLONE => "cloning the server",
        command::SHUTDOWN => "shutting the server down",
        command::REFRESH | command::DEBUG => "this command of the server's administration",
        command::DAEMON => "a command of the server's own",
        _ => "a command that this protocol does not have now",
    }
}

impl MySqlRelay {
    pub(super) fn pump_client(&mut self, input: &[u8], flow: &mut Flow<'_>) -> Result<RelayStep, WireError> {
        let step = self.client_packets(input, flow);
        self.settle(flow.back, flow.notes, flow.clock_micros);
        step
    }

    fn client_packets(&mut self, input: &[u8], flow: &mut Flow<'_>) -> Result<RelayStep, WireError> {
        loop {
            let available = input.len() - flow.plan.consumed();
            if self.from_client.left > 0 {
                let start = flow.plan.consumed();
                self.from_client.go_on(available, flow.plan);
                if let Some(file) = &mut self.file {
                    file.see(&input[start..flow.plan.consumed()]);
                }
            }
            let rest = &input[flow.plan.consumed()..];
            if rest.is_empty() {
                return Ok(RelayStep::Continue);
            }
            if flow.notes.bytes_pending() >= NOTES_BYTES_MAX || flow.plan.own_bytes() >= PENDING_BYTES_MAX {
                return Ok(RelayStep::Again);
            }
            match self.client_packet(rest, flow) {
                Ok(()) => {}
                Err(Stop::Step(step)) => return Ok(step),
                Err(Stop::Broken(error)) => return Err(error),
            }
        }
    }

    /// Deals with the packet at the front of `rest`.
    fn client_packet(&mut self, rest: &[u8], flow: &mut Flow<'_>) -> Result<(), Stop> {
        let Some(header) = packet::peek(rest) else { return Err(Stop::Step(RelayStep::Continue)) };
        if self.over {
            flow.plan.drop(rest.len());
            return Err(Stop::Step(RelayStep::Close));
        }
        if self.from_client.goes_on || self.is_sending_file() {
            return self.further_packet(header, rest, flow);
        }
        if header.sequence != 0 {
            return Err(violation("a command that is out of order"));
        }
        let code = *match rest.get(HEADER_BYTES) {
            Some(code) if header.length > 0 => code,
            _ if header.length == 0 => return Err(violation("an empty command")),
            _ => return Err(Stop::Step(RelayStep::Continue)),
        };
        let needed = needed(code, header).ok_or(violation("an overlong command"))?;
        if rest.len() < needed {
            return Err(Stop::Step(RelayStep::Continue));
        }
        if code == command::QUIT {
            flow.plan.drop(rest.len());
            return Err(Stop::Step(RelayStep::Close));
        }
        if code == command::CHANGE_USER {
            return self.change_user(&rest[HEADER_BYTES + 1..needed], flow);
        }
        self.before_work(flow)?;
        let seen = Seen {
            body: &rest[HEADER_BYTES + 1..needed],
            whole: needed == header.total() && !header.goes_on(),
            header,
            available: rest.len(),
        };
        self.client_sequence = 1;
        self.command(code, &seen, flow)
    }

    /// Another login is another session, which begins when this one has nothing more to say.
    fn change_user(&mut self, body: &[u8], flow: &mut Flow<'_>) -> Result<(), Stop> {
        // Our own answers among what is due wait for nobody else.
        self.settle(flow.back, flow.notes, flow.clock_micros);
        if !self.due.is_empty() || self.from_server.is_under_way() {
            return Err(Stop::Step(RelayStep::Hold));
        }
        self.change = Some(body.to_vec().into());
        flow.plan.drop(HEADER_BYTES + 1 + body.len());
        Err(Stop::Step(RelayStep::LoginAgain))
    }

    /// The payload goes on, or it is of a file that the server asked for: nothing in it is a command.
    fn further_packet(&mut self, header: Header, rest: &[u8], flow: &mut Flow<'_>) -> Result<(), Stop> {
        if header.sequence != self.client_sequence {
            return Err(violation("a packet that is out of order"));
        }
        self.client_sequence = self.client_sequence.wrapping_add(1);
        let is_end = self.is_sending_file() && header.length == 0 && !self.from_client.goes_on;
        let keep = self.from_client.keep || self.is_sending_file();
        if self.is_sending_file() {
            if let Some(due) = self.due.front_mut() {
                due.run.bytes_up += header.total() as u64;
            }
        } else if self.lengthens {
            self.due.lengthen_last(header.total());
        }
        self.from_client.start(header, keep, rest.len(), flow.plan);
        if let Some(file) = &mut self.file {
            file.see(&rest[HEADER_BYTES..header.total().min(rest.len())]);
        }
        if is_end {
            self.end_file(true, flow.notes);
            self.due.stage = Stage::First;
            self.due.sequence = self.client_sequence;
        }
        Ok(())
    }

    /// What must be settled before the server is given something new to do.
    fn before_work(&mut self, flow: &mut Flow<'_>) -> Result<(), Stop> {
        if self.due.is_full() || self.is_waiting() {
            return Err(Stop::Step(RelayStep::Hold));
        }
        if let Some(stamp) = self.speak() {
            flow.plan.own(stamp);
        }
        Ok(())
    }

    /// What the client sends next may be a file; or another session is being stopped.
    fn is_waiting(&self) -> bool {
        matches!(
            self.due.back().map(|due| &due.answer),
            Some(Answer::Results { offered: Some(_) } | Answer::Killed(None))
        )
    }

    fn command(&mut self, code: u8, seen: &Seen<'_>, flow: &mut Flow<'_>) -> Result<(), Stop> {
        match code {
            command::QUERY => self.query(seen, flow),
            command::STMT_EXECUTE => self.execute(seen, flow),
            command::STMT_PREPARE => self.prepare(seen, flow),
            command::STMT_BULK_EXECUTE => self.bulk_execute(seen, flow),
            command::STMT_SEND_LONG_DATA => self.long_data(seen, flow),
            command::STMT_CLOSE | command::STMT_RESET => self.close_or_reset(code, seen, flow),
            command::STMT_FETCH => self.fetch(seen, flow),
            command::PING => {
                self.pass(Answer::Done, Run::default(), seen, flow);
                Ok(())
            }
            command::INIT_DB => self.init_db(seen, flow),
            command::PROCESS_KILL => self.process_kill(seen, flow),
            command::FIELD_LIST => {
                let table = seen.body.split(|byte| *byte == 0).next().unwrap_or_default();
                let run = self.note_command("FIELD_LIST", table, seen, flow);
                self.pass(Answer::Fields, run, seen, flow);
                Ok(())
            }
            command::STATISTICS => {
                let run = self.note_command("STATISTICS", b"", seen, flow);
                self.pass(Answer::Text, run, seen, flow);
                Ok(())
            }
            command::PROCESS_INFO => {
                let run = self.note_command("PROCESS_INFO", b"", seen, flow);
                self.pass(Answer::Results { offered: None }, run, seen, flow);
                Ok(())
            }
            command::SET_OPTION => {
                let what: &[u8] = match seen.body.first() {
                    Some(0) => b"MULTI_STATEMENTS_ON",
                    _ => b"MULTI_STATEMENTS_OFF",
                };
                let run = self.note_command("SET_OPTION", what, seen, flow);
                self.pass(Answer::Done, run, seen, flow);
                Ok(())
            }
            command::RESET_CONNECTION => {
                let run = self.note_command("RESET_CONNECTION", b"", seen, flow);
                self.prepared.expect_reset();
                self.resets += 1;
                // Upon a prepared XA transaction MariaDB's reset leaves a connection that cannot write any more; it
                // would roll back all others itself.
                if self.is_mariadb {
                    self.scratch.clear();
                    command::put_query(&mut self.scratch, self.agreed, "ROLLBACK");
                    flow.plan.own(&self.scratch);
                    self.scratch.clear();
                    self.due.push(Answer::Own, Run::default());
                }
                self.pass(Answer::Reset, run, seen, flow);
                Ok(())
            }
            code => {
                let words = format!("COMMAND {code}");
                let run = self.note_command(&words, b"", seen, flow);
                self.refuse_command(run, Refusal::NotSupported(unserved(code)), seen, flow);
                Ok(())
            }
        }
    }

    /// The command goes, and this answers it.
    fn pass(&mut self, answer: Answer, run: Run, seen: &Seen<'_>, flow: &mut Flow<'_>) {
        self.from_client.start(seen.header, true, seen.available, flow.plan);
        self.due.push(answer, run);
        self.lengthens = true;
    }

    /// A text goes, behind who is there where the target wants that. One that needs several packets goes as it is: its
    /// ends would move.
    fn pass_text(&mut self, answer: Answer, run: Run, text: &[u8], seen: &Seen<'_>, flow: &mut Flow<'_>) {
        let Some(comment) = self.comment.as_deref().filter(|_| !text.is_empty()) else {
            return self.pass(answer, run, seen, flow);
        };
        let length = seen.header.length + comment.len();
        if length >= PAYLOAD_MAX {
            return self.pass(answer, run, seen, flow);
        }
        flow.plan.own(&Header { length, ..seen.header }.to_bytes());
        flow.plan.drop(HEADER_BYTES);
        // The command's byte and attributes.
        let front = 1 + seen.body.len() - text.len();
        flow.plan.pass(front);
        flow.plan.own(comment);
        let (left, done) = (seen.header.length - front, HEADER_BYTES + front);
        self.from_client = Passing { left, goes_on: false, keep: true };
        self.from_client.go_on(seen.available - done, flow.plan);
        self.due.push(answer, run);
        self.lengthens = true;
    }

    /// It goes, and nothing answers it.
    fn pass_silent(&mut self, seen: &Seen<'_>, flow: &mut Flow<'_>) {
        self.from_client.start(seen.header, true, seen.available, flow.plan);
        self.lengthens = false;
    }

    /// It does not go; the client is told why when that is what it waits for.
    fn refuse_command(&mut self, run: Run, refusal: Refusal, seen: &Seen<'_>, flow: &mut Flow<'_>) {
        self.swallow(Answer::Refused(Box::new(refusal)), run, seen, flow);
    }

    fn swallow(&mut self, answer: Answer, run: Run, seen: &Seen<'_>, flow: &mut Flow<'_>) {
        self.from_client.start(seen.header, false, seen.available, flow.plan);
        self.due.push(answer, run);
        self.lengthens = true;
    }

    fn next_run(&mut self, seen: &Seen<'_>, flow: &Flow<'_>) -> Run {
        self.count += 1;
        Run { number: self.count, sent: flow.clock_micros, bytes_up: seen.header.total() as u64 }
    }

    /// A command that is no statement.
    fn note_command(&mut self, name: &str, argument: &[u8], seen: &Seen<'_>, flow: &mut Flow<'_>) -> Run {
        let run = self.next_run(seen, flow);
        self.scratch.clear();
        self.scratch.extend_from_slice(name.as_bytes());
        if !argument.is_empty() {
            self.scratch.extend_from_slice(b" ");
            self.scratch.extend_from_slice(argument);
        }
        flow.notes.push(&Note::Statement {
            number: run.number,
            kind: StatementKind::Command,
            text: &self.scratch,
            length: self.scratch.len() as u64,
            prepared: b"",
            parameters: Parameters::default(),
        });
        self.scratch.clear();
        run
    }

    /// A database that the grant does not cover is not entered.
    fn init_db(&mut self, seen: &Seen<'_>, flow: &mut Flow<'_>) -> Result<(), Stop> {
        let run = self.note_command("INIT_DB", seen.body, seen, flow);
        if !self.scope.covers(&String::from_utf8_lossy(seen.body)) {
            self.refuse_command(run, Refusal::NoDatabase, seen, flow);
            return Ok(());
        }
        self.pass(Answer::Done, run, seen, flow);
        Ok(())
    }

    fn process_kill(&mut self, seen: &Seen<'_>, flow: &mut Flow<'_>) -> Result<(), Stop> {
        let Some(id) = seen.body.first_chunk().map(|id| u32::from_le_bytes(*id)) else {
            return Err(violation("a PROCESS_KILL without its number"));
        };
        let run = self.note_command("PROCESS_KILL", id.to_string().as_bytes(), seen, flow);
        self.kill(Kill { process: id.into(), ends: true }, run, seen, flow)
    }

    /// Another session is the engine's business; the client waits for what comes of it.
    fn kill(&mut self, kill: Kill, run: Run, seen: &Seen<'_>, flow: &mut Flow<'_>) -> Result<(), Stop> {
        self.swallow(Answer::Killed(None), run, seen, flow);
        Err(Stop::Step(RelayStep::Kill(kill)))
    }

    fn query(&mut self, seen: &Seen<'_>, flow: &mut Flow<'_>) -> Result<(), Stop> {
        let mut head = std::mem::take(&mut self.scratch);
        head.clear();
        let (values, text) = match self.agreed.has(Capabilities::QUERY_ATTRIBUTES) {
            true => value::attributes(seen.body, &mut head)
                .ok_or(violation("a QUERY whose attributes do not fit it"))?,
            false => (&[][..], seen.body),
        };
        let length = (seen.length() - (seen.body.len() - text.len())) as u64;
        let signs = lexer::signs(text);
        let run = self.next_run(seen, flow);
        let masked = if signs.secret { lexer::mask(text, self.mode()) } else { text.into() };
        let shown =
            if signs.secret { &[][..] } else { &values[..values.len().min(AUDIT_PARAMETERS_BYTES_MAX)] };
        flow.notes.push(&Note::Statement {
            number: run.number,
            kind: StatementKind::Simple,
            text: cut_text(&masked),
            length,
            prepared: b"",
            parameters: Parameters { types: &head, values: shown, length: values.len() as u64 },
        });
        head.clear();
        self.scratch = head;
        if let Verdict::Refuse(refusal) = (flow.judge)(&Operation { text }) {
            self.refuse_command(run, refusal, seen, flow);
            return Ok(());
        }
        if signs.kill {
            match lexer::kill(text, self.backslash()) {
                lexer::Kill::None => {}
                lexer::Kill::Plain { id, ends } if seen.whole => {
                    return self.kill(Kill { process: id, ends }, run, seen, flow);
                }
                lexer::Kill::Plain { .. } | lexer::Kill::Other => {
                    self.refuse_command(run, Refusal::NotSupported(OTHER_KILL), seen, flow);
                    return Ok(());
                }
            }
        }
        if signs.enters && !self.enters_covered(text) {
            self.refuse_command(run, Refusal::NoDatabase, seen, flow);
            return Ok(());
        }
        let offered = if signs.local { self.offered(text) } else { None };
        self.pass_text(Answer::Results { offered }, run, text, seen, flow);
        Ok(())
    }

    /// The files that a text offers, from a client that is able to.
    fn offered(&self, text: &[u8]) -> Offered {
        let names = match self.agreed.has(Capabilities::LOCAL_FILES) {
            true => lexer::local_files(text),
            false => Vec::new(),
        };
        (!names.is_empty()).then(|| names.into())
    }

    fn enters_covered(&self, text: &[u8]) -> bool {
        lexer::used_databases(text, self.mode(), |name| self.scope.covers(name))
    }

    fn prepare(&mut self, seen: &Seen<'_>, flow: &mut Flow<'_>) -> Result<(), Stop> {
        let text = seen.body;
        let (length, signs, mode) = (seen.length() as u64, lexer::signs(text), self.mode());
        let offered = if signs.local { self.offered(text) } else { None };
        let slot = self.prepared.add(text, |statement| {
            (statement.length, statement.secret, statement.offered) = (length, signs.secret, offered);
            statement.parameters = lexer::placeholders(text, mode);
        })?;
        let masked = if signs.secret { lexer::mask(text, mode) } else { text.into() };
        let (name, start) = name_of(self.prepared.get(slot).number);
        flow.notes.push(&Note::Prepare { name: &name[start..], text: cut_text(&masked), length });
        let refusal = match (flow.judge)(&Operation { text }) {
            Verdict::Refuse(refusal) => Some(refusal),
            _ if signs.kill && lexer::kill(text, self.backslash()) != lexer::Kill::None => {
                Some(Refusal::NotSupported(OTHER_KILL))
            }
            _ if signs.enters && !self.enters_covered(text) => Some(Refusal::NoDatabase),
            _ => None,
        };
        if let Some(refusal) = refusal {
            self.prepared.withdraw(slot);
            let run = self.next_run(seen, flow);
            flow.notes.push(&Note::Statement {
                number: run.number,
                kind: StatementKind::Extended,
                text: cut_text(&masked),
                length,
                prepared: &name[start..],
                parameters: Parameters::default(),
            });
            self.refuse_command(run, refusal, seen, flow);
            return Ok(());
        }
        self.pass_text(Answer::Prepared { slot }, Run::default(), text, seen, flow);
        Ok(())
    }

    /// The place of the statement that a command is about, and what follows its number.
    fn statement<'a>(&self, seen: &Seen<'a>) -> Result<(u32, Option<usize>, &'a [u8]), Stop> {
        let Some((id, rest)) = seen.body.split_first_chunk() else {
            return Err(violation("a command without its statement"));
        };
        let id = u32::from_le_bytes(*id);
        Ok((id, self.prepared.find(id), rest))
    }

    fn execute(&mut self, seen: &Seen<'_>, flow: &mut Flow<'_>) -> Result<(), Stop> {
        let (id, slot, rest) = self.statement(seen)?;
        // Flags and a count that is always one.
        let Some((&[flags, ..], values)) = rest.split_first_chunk::<5>() else {
            return Err(violation("an EXECUTE without its flags"));
        };
        let run = self.next_run(seen, flow);
        let mut head = std::mem::take(&mut self.scratch);
        head.clear();
        let mut shown = values;
        if let Some(slot) = slot {
            let form = Form {
                attributes: self.agreed.has(Capabilities::QUERY_ATTRIBUTES),
                counted: flags & value::PARAMETER_COUNT_AVAILABLE != 0,
                is_mariadb: self.is_mariadb,
            };
            let statement = self.prepared.get(slot);
            let known = (statement.parameters, &statement.types[..], &statement.long[..]);
            match value::execute(values, form, known, &mut head) {
                Some((values, true)) => {
                    shown = values;
                    self.prepared.set_types(slot, value::types(&head));
                }
                Some((values, false)) => shown = values,
                None if seen.whole => {
                    return Err(violation("an EXECUTE whose parameters do not fit its length"));
                }
                None => head.clear(),
            }
        }
        self.note_execute(run, slot, id, (&head, shown, seen), flow);
        head.clear();
        self.scratch = head;
        let mut offered = None;
        if let Some(slot) = slot {
            let statement = self.prepared.get_mut(slot);
            (statement.last_run, offered) = (run.number, statement.offered.clone());
            self.prepared.forget_long(slot);
        }
        self.pass(Answer::Results { offered }, run, seen, flow);
        Ok(())
    }

    fn bulk_execute(&mut self, seen: &Seen<'_>, flow: &mut Flow<'_>) -> Result<(), Stop> {
        if !self.agreed.has(Capabilities::MARIADB_STMT_BULK_OPERATIONS) {
            let run = self.note_command("BULK_EXECUTE", b"", seen, flow);
            let why = "a command that this connection has not agreed to";
            self.refuse_command(run, Refusal::NotSupported(why), seen, flow);
            return Ok(());
        }
        let (id, slot, rest) = self.statement(seen)?;
        let Some((flags, values)) = rest.split_first_chunk() else {
            return Err(violation("a BULK_EXECUTE without its flags"));
        };
        let has_types = u16::from_le_bytes(*flags) & value::BULK_SENDS_TYPES != 0;
        let run = self.next_run(seen, flow);
        let mut head = std::mem::take(&mut self.scratch);
        head.clear();
        let mut shown = values;
        if let Some(slot) = slot {
            let statement = self.prepared.get(slot);
            let known = (statement.parameters, &statement.types[..]);
            let Some(values) = value::bulk(values, has_types, known, &mut head) else {
                return Err(violation("a BULK_EXECUTE whose types do not fit its length"));
            };
            shown = values;
            if has_types {
                self.prepared.set_types(slot, value::types(&head));
            }
        }
        self.note_execute(run, slot, id, (&head, shown, seen), flow);
        head.clear();
        self.scratch = head;
        self.pass(Answer::Results { offered: None }, run, seen, flow);
        Ok(())
    }

    fn note_execute(
        &self,
        run: Run,
        slot: Option<usize>,
        id: u32,
        (head, values, seen): (&[u8], &[u8], &Seen<'_>),
        flow: &mut Flow<'_>,
    ) {
        let length = (seen.length() - (seen.body.len() - values.len())) as u64;
        let kept = &values[..values.len().min(AUDIT_PARAMETERS_BYTES_MAX)];
        let known = slot.map(|slot| self.prepared.get(slot)).filter(|statement| !statement.text.is_empty());
        let Some(statement) = known else {
            // Not there at all, or a limit has dropped its text.
            let text = match slot {
                Some(slot) => format!("<prepared p{}>", self.prepared.get(slot).number),
                None => format!("<statement {id}>"),
            };
            flow.notes.push(&Note::Statement {
                number: run.number,
                kind: StatementKind::Extended,
                text: text.as_bytes(),
                length: text.len() as u64,
                prepared: b"",
                parameters: Parameters { types: &[], values: &[], length: 0 },
            });
            return;
        };
        let masked = match statement.secret {
            true => lexer::mask(&statement.text, self.mode()),
            false => (&statement.text[..]).into(),
        };
        let (name, start) = name_of(statement.number);
        // Which of them is the password cannot be told.
        let hidden = statement.secret && !head.is_empty();
        flow.notes.push(&Note::Statement {
            number: run.number,
            kind: StatementKind::Extended,
            text: cut_text(&masked),
            length: statement.length,
            prepared: &name[start..],
            parameters: Parameters {
                types: if hidden { &[] } else { head },
                values: if hidden || head.is_empty() { &[] } else { kept },
                length: if head.is_empty() { 0 } else { length },
            },
        });
    }

    /// The value of one parameter, ahead of the EXECUTE.
    fn long_data(&mut self, seen: &Seen<'_>, flow: &mut Flow<'_>) -> Result<(), Stop> {
        let (_, slot, rest) = self.statement(seen)?;
        let Some(parameter) = rest.first_chunk().map(|number| u16::from_le_bytes(*number)) else {
            return Err(violation("SEND_LONG_DATA without its parameter"));
        };
        if let Some(slot) = slot {
            self.prepared.add_long(slot, parameter, (seen.header.length - 7) as u64);
        }
        self.pass_silent(seen, flow);
        Ok(())
    }

    fn close_or_reset(&mut self, code: u8, seen: &Seen<'_>, flow: &mut Flow<'_>) -> Result<(), Stop> {
        let (id, slot, _) = self.statement(seen)?;
        if code == command::STMT_CLOSE {
            self.prepared.close(id);
            self.pass_silent(seen, flow);
        } else {
            if let Some(slot) = slot {
                self.prepared.forget_long(slot);
            }
            self.pass(Answer::Done, Run::default(), seen, flow);
        }
        Ok(())
    }

    /// More rows of a cursor: results of the statement that opened it.
    fn fetch(&mut self, seen: &Seen<'_>, flow: &mut Flow<'_>) -> Result<(), Stop> {
        let (_, slot, _) = self.statement(seen)?;
        let number = slot.map_or(0, |slot| self.prepared.get(slot).last_run);
        let run = Run { number, sent: flow.clock_micros, bytes_up: seen.header.total() as u64 };
        self.pass(Answer::Fetched, run, seen, flow);
        Ok(())
    }
}

const OTHER_KILL: &str = "KILL, other than by itself and with a number,";

/// What the trail calls a prepared statement: `p` and its number. Where in the array it begins.
fn name_of(number: u64) -> ([u8; 21], usize) {
    let mut name = [b'0'; 21];
    let (mut at, mut rest) = (name.len(), number);
    loop {
        at -= 1;
        name[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    // A number has 20 digits at most.
    let start = at.saturating_sub(1);
    name[start] = b'p';
    (name, start)
}
