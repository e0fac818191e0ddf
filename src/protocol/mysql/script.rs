//! Short exchanges of our own on an upstream connection: probing, dressing, resetting, checking it.
//!
//! The commands of one part are sent together; the server takes them one after the other. What each answer must be
//! is listed beforehand ([`Due`]), and anything else is an error, so a connection that is out of step is never taken
//! for a clean one.
//!
//! What `COM_RESET_CONNECTION` leaves, seen on MariaDB 10.11 and 11.8 and on MySQL 9.7, and what is done about it:
//!
//! | left | by | answer |
//! |---|---|---|
//! | the default database | all | `COM_INIT_DB`, or closed where it was none |
//! | the role | all | `SET ROLE` |
//! | `COM_SET_OPTION` | all | said again |
//! | the character set is the server's, or that of the login | all | set, to the same for the baseline too |
//! | a prepared XA transaction that breaks later writes of the connection | MariaDB | seen by a refused `ROLLBACK`:
//! closed |
//! | texts of profiled statements | MariaDB | closed |
//! | how statements were planned, with their texts | MySQL | forgotten as that setting is set |
//! | `BACKUP LOCK` | MariaDB, for logins that may take it | `BACKUP UNLOCK` |
//! | the resource group | MySQL, for logins that may set it | set back |
//!
//! Gone are: transactions, locks of every kind else, temporary tables, user variables, prepared statements, handlers,
//! last ids and values of sequences, the state of packages, warnings, and all variables; which hashes prove:
//! [`query::state`] says which of them when, and why that is enough.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Buf, BytesMut};

use super::answer::{Answer, Answers, Row};
use super::capability::{Capabilities, status};
use super::facts::{MySqlFacts, Settings};
use super::query::{self, Baseline, Server, Variable};
use super::{check, command};
use crate::model::limits;
use crate::protocol::session::{
    Act, Findings, Interruption, Logins, Purpose, Report, Script, ScriptStep, ServerError, ServerErrorKind,
    Termination, WireError,
};

/// ER_XAER_RMFAIL.
const XA_STATE: u16 = 1399;
/// ER_NO_SUCH_THREAD.
const NO_SUCH_THREAD: u16 = 1094;

/// One script on one connection.
pub struct MySqlScript {
    task: Task,
    server: Server,
    /// The user that we must be there, without a host.
    user: Arc<str>,
    /// The database that we must be in; empty for none.
    database: Arc<str>,
    agreed: Capabilities,
    /// The connection's number at the server itself, once it is known.
    connection: Option<Termination>,
    /// How the session was when it was new.
    baseline: Option<Arc<Baseline>>,
    /// What is sent where the client's character set was refused.
    undressed: Option<String>,
    /// What is to be sent, until it has been.
    request: BytesMut,
    due: VecDeque<Due>,
    answers: Answers,
    found: Found,
    outcome: Option<Report>,
}

/// What a script is for: a [`Purpose`] without its permits.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Job<'a> {
    Probe,
    Prepare {
        stamp: &'a str,
        settings: &'a Settings,
    },
    Reset {
        random: Option<u64>,
        /// Whether to look at what the next login will be, too.
        look: bool,
    },
    Ping,
    Check {
        level: &'a str,
    },
    Form {
        logins: &'a Logins,
    },
    /// One act of a trial.
    Try(Act<'a>),
    Terminate {
        terminations: &'a [Termination],
    },
    /// Only what runs on them.
    Halt {
        terminations: &'a [Termination],
    },
    /// Stops what runs on another connection.
    Stop {
        interruption: &'a Interruption,
    },
}

impl<'a> Job<'a> {
    fn of(purpose: &Purpose<'a, Settings>) -> Self {
        match *purpose {
            Purpose::Probe(_) => Self::Probe,
            Purpose::Prepare { stamp, settings, .. } => Self::Prepare { stamp, settings },
            // Rolled back it is in any case.
            Purpose::Reset { known, .. } => {
                Self::Reset { random: getrandom::u64().ok(), look: known.is_none() }
            }
            Purpose::Ping(_) => Self::Ping,
            Purpose::Check { level, .. } => Self::Check { level },
            Purpose::Form { logins, .. } => Self::Form { logins },
            Purpose::Try { act, .. } => Self::Try(act),
            Purpose::Terminate { terminations, .. } => Self::Terminate { terminations },
            Purpose::Halt { terminations, .. } => Self::Halt { terminations },
        }
    }
}

enum Task {
    /// Who we are there and what there is to look at; then a reset, and how it is after that.
    Probe,
    Baseline,
    Prepare,
    Reset,
    Ping,
    Check(String),
    Form(Logins),
    /// A statement of which nothing but its end is of interest.
    Run,
    See,
    Terminate(Vec<Termination>),
    /// Gone is as good as stopped.
    Stop,
}

/// The answer that must come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Ok,
    /// OK or an error, whatever it is: which one is remembered.
    Any(Note),
    /// OK, unless an XA transaction is open.
    Rollback,
    /// Rows for this.
    Rows(Topic),
    /// Rows, of which there must be none.
    NoProfiles,
    /// Rows, or an error where the server does not have that.
    RowsOrNone(Topic),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Note {
    Dress,
    Extras,
    Socket,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Topic {
    Identity,
    State,
    DefaultRole,
    /// Names, and whether each may be NULL.
    Names,
    /// Names and values.
    AllNames,
    Trial,
    Check(check::Topic),
}

/// What has come so far.
#[derive(Default)]
struct Found {
    identity: Option<Row>,
    state: Option<Row>,
    /// What the role will be that the next login begins with.
    default_role: Option<String>,
    variables: Vec<Variable>,
    asked_for_all: bool,
    extras: bool,
    socket: bool,
    /// The client's character set was refused.
    bare: bool,
    /// The role was set back, as it had changed.
    righted: bool,
    profiles: bool,
    seen: bool,
    stopped: bool,
    status: u16,
    facts: check::Facts,
}

impl MySqlScript {
    pub(super) fn new(purpose: &Purpose<'_, Settings>, facts: &MySqlFacts) -> Self {
        Self::run(Job::of(purpose), facts)
    }

    pub(crate) fn run(job: Job<'_>, facts: &MySqlFacts) -> Self {
        let task = match job {
            Job::Probe => Task::Probe,
            Job::Prepare { .. } => Task::Prepare,
            Job::Reset { .. } => Task::Reset,
            Job::Ping => Task::Ping,
            Job::Check { level } => Task::Check(level.to_owned()),
            Job::Form { logins } => Task::Form(logins.clone()),
            Job::Try(Act::Run) => Task::Run,
            Job::Try(Act::See(_) | Act::SeeBehind(_)) => Task::See,
            Job::Try(Act::Stop(of) | Act::End(of)) => Task::Terminate(vec![of.clone()]),
            Job::Terminate { terminations } | Job::Halt { terminations } => {
                Task::Terminate(terminations.to_vec())
            }
            Job::Stop { .. } => Task::Stop,
        };
        let mut script = Self {
            task,
            server: Server::new(&facts.learned.version, facts.is_mariadb()),
            user: facts.user.clone(),
            database: facts.database.clone(),
            agreed: facts.capabilities,
            connection: facts.termination.clone(),
            baseline: facts.baseline.clone(),
            undressed: None,
            request: BytesMut::new(),
            due: VecDeque::new(),
            answers: Answers::new(facts.capabilities),
            found: Found::default(),
            outcome: None,
        };
        match job {
            Job::Probe => script.probe(),
            Job::Prepare { stamp, settings } => script.prepare(stamp, settings.collation),
            Job::Reset { random, look } => script.reset(random, look),
            Job::Ping => script.command(command::PING, b"", Due::Ok),
            Job::Check { .. } | Job::Form { .. } => {
                for (topic, text) in check::QUESTIONS {
                    script.query(text, Due::RowsOrNone(Topic::Check(*topic)));
                }
            }
            Job::Try(Act::Run) => {
                script.query(&query::trial(limits::TRIAL.as_secs()), Due::Rows(Topic::Trial))
            }
            Job::Try(Act::See(of)) => script.aim(query::see(of), Due::Rows(Topic::Trial)),
            Job::Try(Act::SeeBehind(of)) => script.aim(query::see_behind(of), Due::Rows(Topic::Trial)),
            Job::Try(Act::Stop(of)) => script.aim(query::stop(of), Due::Ok),
            Job::Try(Act::End(of)) => script.aim(query::terminate(of), Due::Ok),
            Job::Terminate { terminations } => {
                terminations.iter().for_each(|of| script.aim(query::terminate(of), Due::Ok));
            }
            Job::Halt { terminations } => {
                terminations.iter().for_each(|of| script.aim(query::stop(of), Due::Ok));
            }
            Job::Stop { interruption: Interruption(number) } => {
                let of = std::str::from_utf8(number).ok().map(|number| Termination(number.to_owned()));
                script.aim(of.as_ref().and_then(query::stop), Due::Ok)
            }
        }
        script
    }

    fn query(&mut self, text: &str, due: Due) {
        command::put_query(&mut self.request, self.agreed, text);
        self.due.push_back(due);
    }

    fn command(&mut self, code: u8, body: &[u8], due: Due) {
        command::put(&mut self.request, code, body);
        self.due.push_back(due);
    }

    /// A statement about one connection.
    fn aim(&mut self, text: Option<String>, due: Due) {
        match text {
            Some(text) => self.query(&text, due),
            None => self.outcome = Some(own_fault("which connection is meant is not known")),
        }
    }

    fn probe(&mut self) {
        self.query(&query::identity(self.server), Due::Rows(Topic::Identity));
        self.query(query::names(self.server), Due::RowsOrNone(Topic::Names));
        self.query(query::extras(self.server), Due::Any(Note::Extras));
        if self.server.is_mariadb {
            self.query(query::SOCKET, Due::Any(Note::Socket));
        }
    }

    /// The second part of a probe: what a reset makes of the session is what it is compared with from then on.
    fn look_after_reset(&mut self) -> Option<Report> {
        let found = &mut self.found;
        let mut variables = std::mem::take(&mut found.variables);
        variables.retain(|variable| query::is_telling(&variable.name));
        if variables.is_empty() {
            if std::mem::replace(&mut found.asked_for_all, true) {
                return Some(Report::Unclean("the server does not tell the names of its variables".into()));
            }
            // It does not tell which are the session's: all are looked at.
            self.query(query::ALL_NAMES, Due::Rows(Topic::AllNames));
            return None;
        }
        let said =
            |at: usize| found.identity.as_ref().and_then(|row| row.get(at)?.clone()).unwrap_or_default();
        let (account, role) = (said(1), said(3));
        let (extras, socket, variables) = (found.extras, found.socket, variables.into());
        let baseline = Baseline { account, role, extras, socket, variables, ..Baseline::default() };
        self.baseline = Some(Arc::new(baseline));
        self.task = Task::Baseline;
        self.reset(getrandom::u64().ok(), false);
        None
    }

    fn reset(&mut self, random: Option<u64>, look: bool) {
        let Some(baseline) = self.baseline.clone() else {
            self.outcome = Some(own_fault("how the connection was when it was new is not known"));
            return;
        };
        let Some(random) = random else {
            self.outcome = Some(own_fault("no random bytes to be had"));
            return;
        };
        // The first look of all is what later ones compare with.
        let look = look || matches!(self.task, Task::Baseline);
        self.query("ROLLBACK", Due::Rollback);
        self.query(query::MARK, Due::Ok);
        self.command(command::RESET_CONNECTION, b"", Due::Ok);
        let option: u16 = if self.agreed.has(Capabilities::MULTI_STATEMENTS) { 0 } else { 1 };
        self.command(command::SET_OPTION, &option.to_le_bytes(), Due::Ok);
        if !self.database.is_empty() {
            let database = self.database.clone();
            self.command(command::INIT_DB, database.as_bytes(), Due::Ok);
        }
        if baseline.extras {
            self.query(query::extras(self.server), Due::Ok);
        }
        self.query(&query::undo(self.server, random, baseline.socket), Due::Ok);
        if look {
            self.right_role(&baseline);
        }
        if let Some(text) = query::profiles(self.server) {
            self.query(text, Due::NoProfiles);
        }
        self.query(&query::state(self.server, &baseline.variables, look), Due::Rows(Topic::State));
        if let Some(text) = query::default_role(self.server).filter(|_| look) {
            self.query(text, Due::RowsOrNone(Topic::DefaultRole));
        }
    }

    fn right_role(&mut self, baseline: &Baseline) {
        self.found.righted = true;
        if let Some(text) = query::role(self.server, baseline) {
            self.query(&text, Due::Ok);
        }
    }

    /// The second part of a reset, where the row shows that the session changed its role: hardly any does, so the role
    /// is not set back at each.
    fn look_after_role(&mut self) {
        let Some(baseline) = self.baseline.clone().filter(|_| !self.found.righted) else { return };
        let now = self.found.state.as_ref().and_then(|row| row.get(3)?.as_deref()).unwrap_or_default();
        if !same_role(now, &baseline.role) {
            self.right_role(&baseline);
            self.query(&query::state(self.server, &baseline.variables, false), Due::Rows(Topic::State));
        }
    }

    /// Who is there, and the client's character set, as the handshake would have set it: of one that cannot be, or is
    /// not known there, the server's own. Then who we are.
    fn prepare(&mut self, stamp: &str, collation: u16) {
        let stamp = command::stamp(stamp);
        let bare = format!("{stamp},{}", query::SERVER_COLLATION);
        match query::collation(self.server, collation).filter(|_| collation != 0) {
            Some(dress) => {
                self.query(&format!("{stamp},{dress}"), Due::Any(Note::Dress));
                self.undressed = Some(bare);
            }
            None => self.query(&bare, Due::Ok),
        }
        self.query(&query::identity(self.server), Due::Rows(Topic::Identity));
    }

    /// `Some`: the script is over.
    fn take(&mut self, answer: Answer) -> Result<Option<Report>, WireError> {
        let Some(due) = self.due.pop_front() else {
            return Err(WireError::new("answers to a script", "an answer that is not due"));
        };
        match (answer, due) {
            (Answer::Ok { status }, Due::Ok | Due::Rollback | Due::Any(_)) => {
                self.found.status = status;
                self.found.extras |= due == Due::Any(Note::Extras);
                self.found.socket |= due == Due::Any(Note::Socket);
            }
            (Answer::Error { .. }, Due::Any(Note::Dress)) => self.found.bare = true,
            (Answer::Error { .. }, Due::Any(_) | Due::RowsOrNone(_)) => {}
            (Answer::Rows { rows, status }, Due::NoProfiles) => {
                self.found.status = status;
                self.found.profiles |= !rows.is_empty();
            }
            (Answer::Error { number: XA_STATE, .. }, Due::Rollback) => {
                return Ok(Some(Report::Unclean("an XA transaction is open".into())));
            }
            (Answer::Error { number: NO_SUCH_THREAD, .. }, Due::Ok)
                if matches!(self.task, Task::Terminate(_)) =>
            {
                return Ok(Some(Report::Unclean("there is no such connection any more".into())));
            }
            (Answer::Error { number: NO_SUCH_THREAD, .. }, Due::Ok) if matches!(self.task, Task::Stop) => {}
            (Answer::Error { number, sqlstate, message }, _) => {
                return Ok(Some(Report::Refused(ServerError {
                    kind: kind_of(number),
                    code: format!("{sqlstate}/{number}"),
                    message,
                })));
            }
            (Answer::Rows { rows, status }, Due::Rows(topic) | Due::RowsOrNone(topic)) => {
                self.found.status = status;
                self.keep(topic, rows)?;
            }
            _ => return Err(WireError::new("answers to a script", "an answer of another kind")),
        }
        Ok(None)
    }

    fn keep(&mut self, topic: Topic, rows: Vec<Row>) -> Result<(), WireError> {
        let one = |rows: Vec<Row>, columns: usize| {
            let mut rows = rows.into_iter();
            let row = rows.next().filter(|row| row.len() == columns);
            row.filter(|_| rows.next().is_none())
                .ok_or(WireError::new("a row", "not the one that was asked for"))
        };
        let found = &mut self.found;
        match topic {
            Topic::Identity => found.identity = Some(one(rows, query::IDENTITY_COLUMNS)?),
            Topic::State => found.state = Some(one(rows, query::STATE_COLUMNS)?),
            Topic::DefaultRole => {
                found.default_role = Some(first_column(rows).into_iter().next().unwrap_or_default());
            }
            Topic::Names | Topic::AllNames => {
                let variable = |row: Row| {
                    let mut row = row.into_iter();
                    let name = row.next().flatten()?;
                    // Nothing is known where there is a value.
                    let nullable =
                        topic == Topic::AllNames || row.next().flatten().is_none_or(|is| is != "0");
                    Some(Variable { name, nullable })
                };
                found.variables = rows.into_iter().filter_map(variable).collect();
            }
            // MySQL's SLEEP() that was stopped says so by its value.
            Topic::Trial => {
                found.seen = !rows.is_empty();
                found.stopped =
                    rows.iter().any(|row| row.get(1).is_some_and(|value| value.as_deref() == Some("1")));
            }
            Topic::Check(topic) => found.facts.add(topic, rows),
        }
        Ok(())
    }

    fn report(&mut self) -> Report {
        if self.found.status & (status::IN_TRANSACTION | status::IN_READ_ONLY_TRANSACTION) != 0 {
            return Report::Unclean("a transaction is open".into());
        }
        if self.found.stopped && matches!(self.task, Task::Run) {
            return own_fault("the statement was stopped");
        }
        match self.unclean() {
            Some(what) => Report::Unclean(what),
            None => Report::Done(self.findings()),
        }
    }

    /// What is not as it must be, in the words of a log line.
    fn unclean(&self) -> Option<String> {
        let text = |row: &[Option<String>], at: usize| row.get(at).cloned().flatten().unwrap_or_default();
        let row = self.found.state.as_deref().or(self.found.identity.as_deref());
        if let Some(row) = row {
            let account = text(row, 1);
            let is_ours = match &self.baseline {
                Some(baseline) => account == baseline.account,
                // Before it is known from where we are let in there.
                None => account.rsplit_once('@').is_some_and(|(user, _)| user == &*self.user),
            };
            if !is_ours {
                return Some(format!("we are {account:?} there"));
            }
            if self.connection.as_ref().is_some_and(|Termination(known)| *known != text(row, 0)) {
                return Some(format!("the connection there is {:?}", text(row, 0)));
            }
            if text(row, 2) != *self.database {
                return Some(format!("the database there is {:?}", text(row, 2)));
            }
        } else if matches!(self.task, Task::Prepare | Task::Reset | Task::Baseline) {
            return Some("the server does not say who we are there".into());
        }
        if !matches!(self.task, Task::Reset | Task::Baseline) {
            return None;
        }
        let row = self.found.state.as_deref()?;
        if text(row, 4) != "1" {
            return Some("a variable of ours is left".into());
        }
        if self.found.profiles {
            return Some("texts of profiled statements are left".into());
        }
        let baseline = self.baseline.as_ref()?;
        // MySQL's is that of the next login, of which the pool hears by the fingerprint.
        if self.server.is_mariadb && !same_role(&text(row, 3), &baseline.role) {
            return Some(format!("the role there is {:?}", text(row, 3)));
        }
        if matches!(self.task, Task::Baseline) {
            return None;
        }
        // Not looked at thoroughly, it is NULL.
        let hash = row.get(6).cloned().flatten();
        let differs = text(row, 5) != baseline.glance || hash.is_some_and(|hash| hash != baseline.hash);
        differs.then(|| "variables of the session are not what they were when it was new".into())
    }

    fn findings(&mut self) -> Findings {
        let mut findings = Findings::default();
        match &self.task {
            Task::Prepare | Task::Ping | Task::Run | Task::Stop | Task::Probe => {}
            Task::Terminate(ended) => findings.ended.clone_from(ended),
            Task::See => findings.seen = self.found.seen,
            Task::Reset => self.describe(&mut findings),
            Task::Baseline => {
                let state = self.found.state.as_deref().unwrap_or_default();
                let text = |at: usize| state.get(at).cloned().flatten();
                if let (Some(baseline), Some(glance), Some(hash)) = (&mut self.baseline, text(5), text(6)) {
                    let baseline = Arc::make_mut(baseline);
                    (baseline.glance, baseline.hash) = (glance, hash);
                    findings.parameters.push(("baseline".into(), baseline.to_text()));
                }
                findings.termination = text(0).map(Termination);
                self.describe(&mut findings);
            }
            Task::Check(level) => {
                findings.checks = check::judge(&self.found.facts, level, &self.user, self.server);
            }
            Task::Form(logins) => {
                findings.form = check::form(&self.found.facts, logins, &self.database, self.server)
            }
        }
        findings
    }

    /// What outlives a session: the role that the login begins with. Whoever has the login may choose another.
    fn describe(&self, findings: &mut Findings) {
        let known = self.baseline.as_ref().map(|baseline| baseline.role.as_str()).unwrap_or_default();
        let now = match (&self.task, self.server.is_mariadb) {
            (Task::Reset, true) => self.found.default_role.as_deref(),
            (Task::Reset, false) => {
                self.found.state.as_ref().and_then(|row| row.get(3)).and_then(Option::as_deref)
            }
            _ => None,
        };
        let role = now.filter(|now| !same_role(now, known)).unwrap_or(known);
        findings.fingerprint = format!("role {role:?}");
        findings.catalogs = Some(String::new());
    }
}

fn first_column(rows: Vec<Row>) -> Vec<String> {
    rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect()
}

/// MySQL says a list in the quotes of the session's mode, and `NONE`.
fn same_role(one: &str, other: &str) -> bool {
    let plain = |role: &str| role.replace(['`', '"'], "").trim_matches(' ').to_owned();
    let none = |role: &str| role.is_empty() || role == "NONE";
    let (one, other) = (plain(one), plain(other));
    one == other || (none(&one) && none(&other))
}

fn own_fault(message: &str) -> Report {
    Report::Refused(ServerError {
        kind: ServerErrorKind::Other,
        code: "HY000".into(),
        message: message.to_owned(),
    })
}

/// What an error on a connection that stands means.
fn kind_of(number: u16) -> ServerErrorKind {
    match number {
        // ER_SERVER_SHUTDOWN, ER_NORMAL_SHUTDOWN, ER_CONNECTION_KILLED, and being idle for too long.
        1053 | 1077 | 1927 | 4031 => ServerErrorKind::Unready,
        _ => ServerErrorKind::Other,
    }
}

impl Script for MySqlScript {
    fn step(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<ScriptStep, WireError> {
        if let Some(report) = self.outcome.take() {
            return Ok(ScriptStep::Done(report));
        }
        out.extend_from_slice(&self.request.split());
        loop {
            if self.due.is_empty() {
                if let Some(report) = self.next_part() {
                    return Ok(ScriptStep::Done(report));
                }
                out.extend_from_slice(&self.request.split());
            }
            let (consumed, answer) = self.answers.next(input)?;
            input.advance(consumed);
            let Some(answer) = answer else { return Ok(ScriptStep::NeedBytes) };
            if let Some(report) = self.take(answer)? {
                return Ok(ScriptStep::Done(report));
            }
        }
    }
}

impl MySqlScript {
    /// Goes on where the answers so far call for more, else says what was found.
    fn next_part(&mut self) -> Option<Report> {
        match self.task {
            Task::Probe => {
                let unclean = self.unclean().map(Report::Unclean);
                unclean.or_else(|| self.look_after_reset()).or_else(|| self.outcome.take())
            }
            Task::Prepare if std::mem::take(&mut self.found.bare) => {
                let text = self.undressed.take()?;
                self.query(&text, Due::Ok);
                None
            }
            Task::Reset => {
                self.look_after_role();
                self.due.is_empty().then(|| self.report())
            }
            Task::Check(_) | Task::Form(_) => {
                for text in self.found.facts.further_questions(self.server) {
                    self.query(&text, Due::RowsOrNone(Topic::Check(check::Topic::Grants)));
                }
                self.due.is_empty().then(|| self.report())
            }
            _ => Some(self.report()),
        }
    }
}

#[cfg(test)]
mod tests;
