//! Short exchanges of our own on an upstream connection: probing, dressing, resetting, checking it.
//!
//! Every script is written in one piece and answered in one piece. What each answer must be is
//! listed beforehand ([`Due`]); anything else is an error, so a connection that is out of step is
//! never taken for a clean one. Asynchronous messages (notices, notifications, parameter reports)
//! may come anywhere.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::BytesMut;
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend;

use super::facts::{PostgresFacts, Settings, put_parameter};
use super::message::{Complaint, Message, Reader, kind_of, parameter, row, status};
use super::relay::stamped_name;
use super::{check, query, stateful};
use crate::model::limits;
use crate::protocol::session::{
    Act, Findings, Logins, Purpose, Report, Script, ScriptStep, ServerError, ServerErrorKind, Termination,
    WireError,
};

/// The oid of `text`.
const TEXT: u32 = 25;

/// One script on one connection.
pub struct PostgresScript {
    task: Task,
    /// The role that we must be there.
    user: Arc<str>,
    dialled: Arc<[(String, String)]>,
    /// What is to be sent, until it has been.
    request: BytesMut,
    due: VecDeque<Due>,
    reader: Reader,
    rows: Vec<Row>,
    /// Settings that were taken so far.
    taken: usize,
    /// The first error of the server's; the rest up to its next ReadyForQuery is skipped.
    error: Option<ServerError>,
    /// The transaction status at the last ReadyForQuery.
    status: u8,
    parameters: Vec<(String, String)>,
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
        in_transaction: bool,
    },
    /// A reset that is verified by one row, where nothing looks otherwise than it did.
    Glance {
        in_transaction: bool,
        known: &'a str,
        random: u64,
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
        termination: &'a Termination,
    },
}

impl<'a> Job<'a> {
    fn of(purpose: &Purpose<'a, Settings>) -> Self {
        match *purpose {
            Purpose::Probe(_) => Self::Probe,
            Purpose::Prepare { stamp, settings, .. } => Self::Prepare { stamp, settings },
            Purpose::Reset { in_transaction, known, .. } => match (known, getrandom::u64()) {
                (Some(known), Ok(random)) => Self::Glance { in_transaction, known, random },
                _ => Self::Reset { in_transaction },
            },
            Purpose::Ping(_) => Self::Ping,
            Purpose::Check { level, .. } => Self::Check { level },
            Purpose::Form { logins, .. } => Self::Form { logins },
            Purpose::Try { act, .. } => Self::Try(act),
            Purpose::Terminate { termination, .. } => Self::Terminate { termination },
        }
    }
}

enum Task {
    Probe,
    /// With the names of the settings, in the order in which they are set.
    Prepare(Vec<String>),
    Reset,
    /// With what was seen before.
    Glance(String),
    Ping,
    Check(String),
    Form(Logins),
    /// A statement of which nothing but its end is of interest.
    Run,
    See,
    Terminate,
}

/// The message that must come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    ParseComplete,
    BindComplete,
    /// `RowDescription` of a simple Query.
    Description,
    /// Rows that are kept, then `CommandComplete`.
    Rows,
    /// The row of one `set_config`, then `CommandComplete`.
    Setting,
    /// The row of a glance, then `CommandComplete`.
    Glance,
    /// `CommandComplete` with this tag.
    Command(&'static str),
    EmptyQuery,
    CloseComplete,
    Ready,
}

/// One row of our queries: what it is about, of what, and a detail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub topic: String,
    pub subject: String,
    pub detail: String,
}

impl PostgresScript {
    pub(super) fn new(purpose: &Purpose<'_, Settings>, facts: &PostgresFacts) -> Self {
        let mut script = Self::run(Job::of(purpose), facts);
        if matches!(script.task, Task::Reset) {
            script.reseed();
        }
        script
    }

    /// The state behind `random()` is no setting, so no reset touches it: without this, whoever has called
    /// `setseed()`, or has seen enough numbers, knows those of the next person.
    fn reseed(&mut self) {
        match getrandom::u64() {
            Ok(random) => self.select(&query::reseed(random)),
            // Nothing is sent then, and the connection is closed.
            Err(_) => {
                self.due.clear();
                self.error = Some(ServerError {
                    kind: ServerErrorKind::Other,
                    code: "58000".into(),
                    message: "no random bytes to be had".into(),
                });
            }
        }
    }

    pub(crate) fn run(job: Job<'_>, facts: &PostgresFacts) -> Self {
        let task = match job {
            Job::Probe => Task::Probe,
            Job::Prepare { .. } => Task::Prepare(Vec::new()),
            Job::Reset { .. } => Task::Reset,
            Job::Glance { known, .. } => Task::Glance(known.to_owned()),
            Job::Ping => Task::Ping,
            Job::Check { level } => Task::Check(level.to_owned()),
            Job::Form { logins } => Task::Form(logins.clone()),
            Job::Try(Act::Run) => Task::Run,
            Job::Try(Act::See(_) | Act::SeeBehind(_)) => Task::See,
            Job::Try(Act::Stop(_) | Act::End(_)) | Job::Terminate { .. } => Task::Terminate,
        };
        let mut script = Self {
            task,
            user: facts.user.clone(),
            dialled: facts.dialled.clone(),
            request: BytesMut::new(),
            due: VecDeque::new(),
            reader: Reader::new(limits::SCRIPT_MESSAGES_MAX),
            rows: Vec::new(),
            taken: 0,
            error: None,
            status: b'I',
            parameters: Vec::new(),
        };
        match job {
            Job::Probe => script.select(&query::probe()),
            Job::Prepare { stamp, settings } => script.prepare(stamp, settings),
            Job::Reset { in_transaction } => {
                script.discard(in_transaction);
                script.verify();
            }
            Job::Glance { in_transaction, random, .. } => {
                script.discard(in_transaction);
                let text = query::glance(script.dialled.iter().map(|(name, _)| name.as_str()), random);
                script.simple(&text, [Due::Description, Due::Glance]);
            }
            Job::Ping => script.simple("", [Due::EmptyQuery]),
            Job::Check { .. } => script.select(&query::check(major(&facts.version))),
            Job::Form { .. } => script.select(&query::form()),
            Job::Try(Act::Run) => script.select(&query::trial(limits::TRIAL.as_secs())),
            Job::Try(Act::See(of)) => script.aim(of, query::see),
            Job::Try(Act::SeeBehind(of)) => script.aim(of, query::see_behind),
            Job::Try(Act::Stop(of)) => script.aim(of, query::stop),
            Job::Try(Act::End(of)) | Job::Terminate { termination: of } => script.aim(of, query::terminate),
        }
        script
    }

    /// A statement about one backend.
    fn aim(&mut self, termination: &Termination, text: fn(query::Backend) -> String) {
        match query::Backend::parse(termination) {
            Some(backend) => self.select(&text(backend)),
            None => {
                self.error = Some(ServerError {
                    kind: ServerErrorKind::Other,
                    code: "XX000".into(),
                    message: "which connection is meant is not known".into(),
                });
            }
        }
    }

    /// What follows `DISCARD ALL`, without it.
    #[cfg(test)]
    pub(super) fn verify_only(facts: &PostgresFacts) -> Self {
        let mut script = Self::run(Job::Ping, facts);
        script.due.clear();
        script.request.clear();
        script.task = Task::Reset;
        script.verify();
        script
    }

    fn verify(&mut self) {
        self.select(&query::reset(self.dialled.iter().map(|(name, _)| name.as_str())));
    }

    fn select(&mut self, text: &str) {
        self.simple(text, [Due::Description, Due::Rows]);
    }

    fn discard(&mut self, in_transaction: bool) {
        if in_transaction {
            self.simple("ROLLBACK", [Due::Command("ROLLBACK")]);
        }
        // By itself: inside a transaction block, which several statements in one Query are, it is
        // refused.
        self.simple("DISCARD ALL", [Due::Command("DISCARD ALL")]);
    }

    /// One statement of ours, as a simple Query.
    fn simple<const N: usize>(&mut self, text: &str, due: [Due; N]) {
        // Our texts have no zero byte, the one thing that cannot be written.
        if frontend::query(text, &mut self.request).is_ok() {
            self.due.extend(due);
            self.due.push_back(Due::Ready);
        }
    }

    /// Who we are there, then the stamp, then each setting of the client as bound values: nothing of
    /// theirs is ever part of a statement's text.
    fn prepare(&mut self, stamp: &str, settings: &Settings) {
        let stamped = stamped_name(stamp, settings.application_name.as_deref().unwrap_or_default());
        let mut all = vec![("application_name", stamped.as_str())];
        all.extend(settings.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        // Last, since it decides how the bytes of what follows are read.
        // Just before it what could end this very script.
        all.sort_by_key(|(name, _)| match *name {
            "client_encoding" => 2,
            "statement_timeout" | "transaction_timeout" | "lock_timeout" => 1,
            _ => 0,
        });
        let written = write_prepare(&all, &mut self.request);
        if let Err(name) = written {
            self.error = Some(bad_parameter("22023", name));
            return;
        }
        self.due.extend([Due::ParseComplete, Due::BindComplete, Due::Rows, Due::ParseComplete]);
        for _ in &all {
            self.due.extend([Due::BindComplete, Due::Setting]);
        }
        self.due.extend([Due::CloseComplete, Due::Ready]);
        self.task = Task::Prepare(all.iter().map(|(name, _)| (*name).to_owned()).collect());
    }

    /// `Some`: the script is over.
    fn take(&mut self, message: &Message) -> Result<Option<Report>, WireError> {
        const PLACE: &str = "answers to a script";
        let body = &message.body[..];
        match (message.tag, self.due.front().copied()) {
            // May come anywhere.
            (b'N' | b'A', _) => {}
            (b'S', _) => {
                let (name, value) = parameter(body).ok_or(WireError::new("ParameterStatus", "malformed"))?;
                put_parameter(&mut self.parameters, &name, &value);
            }
            (b'E', Some(_)) => return Ok(self.fail(Complaint::parse(body))),
            (b'Z', Some(Due::Ready)) => {
                self.status = status(body).ok_or(WireError::new("ReadyForQuery", "malformed"))?;
                self.due.pop_front();
                if self.due.is_empty() && !self.looks_again() {
                    return Ok(Some(self.report()));
                }
            }
            (b'1', Some(Due::ParseComplete))
            | (b'2', Some(Due::BindComplete))
            | (b'3', Some(Due::CloseComplete))
            | (b'T', Some(Due::Description))
            | (b'I', Some(Due::EmptyQuery)) => {
                self.due.pop_front();
            }
            (b'D', Some(Due::Setting)) => {}
            (b'D', Some(Due::Rows)) => {
                let columns = row(body).and_then(|columns| <[String; 3]>::try_from(columns).ok());
                let [topic, subject, detail] = columns.ok_or(WireError::new("DataRow", "malformed"))?;
                self.rows.push(Row { topic, subject, detail });
            }
            (b'D', Some(Due::Glance)) => {
                self.glanced(row(body).ok_or(WireError::new("DataRow", "malformed"))?)?;
            }
            (b'C', Some(due @ (Due::Setting | Due::Rows | Due::Glance))) if body.starts_with(b"SELECT ") => {
                self.taken += usize::from(due == Due::Setting);
                self.due.pop_front();
            }
            (b'C', Some(Due::Command(tag))) if body.strip_suffix(b"\0") == Some(tag.as_bytes()) => {
                self.due.pop_front();
            }
            _ => return Err(WireError::new(PLACE, "a message that is not due")),
        }
        Ok(None)
    }

    /// Takes the row of a glance for the rows that the whole question would have given.
    fn glanced(&mut self, columns: Vec<String>) -> Result<(), WireError> {
        let mut columns = columns.into_iter();
        let (fixed, settings): (Vec<String>, _) = (columns.by_ref().take(query::GLANCED).collect(), columns);
        let [session, current, temporary, prepared, cursor, channel, extensions, languages, _seed] =
            <[String; query::GLANCED]>::try_from(fixed)
                .map_err(|_| WireError::new("DataRow", "not the columns that were asked for"))?;
        let mut add = |topic: &str, subject: &str, detail: &str| {
            let [topic, subject, detail] = [topic, subject, detail].map(str::to_owned);
            self.rows.push(Row { topic, subject, detail });
        };
        add(query::IDENTITY, &session, &current);
        for (what, is_left) in [
            ("a prepared statement", prepared),
            ("a cursor", cursor),
            ("a channel that is listened to", channel),
        ] {
            // Whatever is not a clear no.
            if is_left != "false" {
                add(query::LEFTOVER, what, "");
            }
        }
        // It stays where there ever was one; whether something is in it is another question.
        if temporary != "0" {
            add(query::TEMPORARY, &temporary, "");
        }
        for (topic, names) in [(query::EXTENSION, &extensions), (query::LANGUAGE, &languages)] {
            names.lines().for_each(|name| add(topic, name, ""));
        }
        let dialled = self.dialled.clone();
        let mut names = query::reported(dialled.iter().map(|(name, _)| name.as_str()));
        for value in settings {
            let name = names.next().ok_or(WireError::new("DataRow", "more settings than were asked for"))?;
            let (topic, subject) = (query::REPORTED.to_owned(), name.to_owned());
            self.rows.push(Row { topic, subject, detail: value });
        }
        match names.next() {
            None => Ok(()),
            Some(_) => Err(WireError::new("DataRow", "fewer settings than were asked for")),
        }
    }

    /// After a glance that shows something new: asks for the whole.
    fn looks_again(&mut self) -> bool {
        let Task::Glance(before) = &self.task else { return false };
        let is_new =
            self.rows.iter().any(|row| row.topic == query::TEMPORARY) || *before != catalogs(&self.rows);
        if !is_new || self.error.is_some() || self.status != b'I' || self.unclean().is_some() {
            return false;
        }
        self.task = Task::Reset;
        self.rows.clear();
        self.verify();
        true
    }

    fn fail(&mut self, complaint: Complaint) -> Option<Report> {
        let fatal = complaint.fatal;
        let mut error = complaint.into_error();
        if let Task::Prepare(names) = &self.task
            && error.kind != ServerErrorKind::Unready
            && error.kind != ServerErrorKind::Full
            && !fatal
            && let Some(Due::Setting | Due::BindComplete) = self.due.front()
            && let Some(name) = names.get(self.taken)
            && !self.rows.is_empty()
        {
            error = bad_parameter(&error.code, name);
        } else if kind_of(&error.code) == ServerErrorKind::NoDatabase {
            // Those codes mean a database at login only.
            error.kind = ServerErrorKind::Other;
        }
        self.error.get_or_insert(error);
        if fatal {
            // No ReadyForQuery follows.
            return Some(self.report());
        }
        while self.due.front().is_some_and(|due| *due != Due::Ready) {
            self.due.pop_front();
        }
        None
    }

    fn report(&mut self) -> Report {
        self.due.clear();
        if let Some(error) = self.error.take() {
            return Report::Refused(error);
        }
        if self.status != b'I' {
            return Report::Unclean("a transaction is open".into());
        }
        match self.unclean() {
            Some(what) => Report::Unclean(what),
            None => Report::Done(self.findings()),
        }
    }

    /// What is not as it must be, in the words of a log line.
    fn unclean(&self) -> Option<String> {
        let asked = !matches!(self.task, Task::Ping);
        let identity = self.rows.iter().find(|row| row.topic == query::IDENTITY);
        match identity {
            None if asked => return Some("the server does not say who we are there".into()),
            Some(row) if row.subject != *self.user || row.detail != *self.user => {
                return Some(format!("we are {:?} acting as {:?} there", row.subject, row.detail));
            }
            _ => {}
        }
        if let Some(row) = self.rows.iter().find(|row| row.topic == query::LEFTOVER) {
            return Some(format!("{} is left", row.subject));
        }
        if let Some(row) = self.rows.iter().find(|row| row.topic == query::APPLIED && !self.is_known(row)) {
            return Some(format!("the role's setting {} changed while we logged in", row.subject));
        }
        if matches!(self.task, Task::Terminate) && !self.has(query::ENDED, "true") {
            return Some("there is no such connection any more".into());
        }
        if !matches!(self.task, Task::Reset | Task::Glance(_)) {
            return None;
        }
        // What it reported on the way, and what it says when asked.
        let reported = self.parameters.iter().map(|(name, value)| (name, value));
        let asked = self.rows.iter().filter(|row| row.topic == query::REPORTED);
        reported.chain(asked.map(|row| (&row.subject, &row.detail))).find_map(|(name, value)| {
            let (_, dialled) = self.dialled.iter().find(|(known, _)| known == name)?;
            (dialled != value).then(|| format!("the setting {name} is not what it was after login"))
        })
    }

    fn has(&self, topic: &str, subject: &str) -> bool {
        self.rows.iter().any(|row| row.topic == topic && row.subject == subject)
    }

    /// Whether a setting that came with the role is one that the role still has. The value only counts where
    /// it decides whose code runs: the server may show others in another form than they were given in.
    fn is_known(&self, applied: &Row) -> bool {
        let of_role = self.rows.iter().filter(|row| row.topic == query::ROLE_SETTING);
        of_role.filter_map(|row| row.detail.split_once('=')).any(|(name, value)| {
            name.eq_ignore_ascii_case(&applied.subject) && (name != "search_path" || value == applied.detail)
        })
    }

    fn findings(&mut self) -> Findings {
        let mut findings =
            Findings { parameters: std::mem::take(&mut self.parameters), ..Default::default() };
        match &self.task {
            Task::Ping | Task::Prepare(_) | Task::Terminate | Task::Run => return findings,
            Task::See => {
                findings.seen = self.rows.iter().any(|row| row.topic == query::SEEN);
                return findings;
            }
            Task::Form(logins) => {
                findings.form = check::form(&self.rows, logins);
                return findings;
            }
            // All that it reports is back to what it was, as was just verified.
            Task::Glance(_) => {
                findings.parameters = self.dialled.to_vec();
                return findings;
            }
            Task::Reset => findings.parameters = self.dialled.to_vec(),
            Task::Probe | Task::Check(_) => {}
        }
        findings.fingerprint = fingerprint(&self.rows);
        findings.catalogs = Some(catalogs(&self.rows));
        findings.stateful = stateful(&self.rows);
        let backend = self.rows.iter().find(|row| row.topic == query::BACKEND && !row.detail.is_empty());
        findings.termination = backend.map(|row| Termination(format!("{} {}", row.subject, row.detail)));
        if let Task::Check(level) = &self.task {
            findings.checks = check::judge(&self.rows, level, &self.user, &findings.stateful);
        }
        findings
    }
}

impl Script for PostgresScript {
    fn step(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<ScriptStep, WireError> {
        if self.due.is_empty() {
            return Ok(ScriptStep::Done(self.report()));
        }
        out.extend_from_slice(&self.request.split());
        while let Some(message) = self.reader.next(input)? {
            if let Some(report) = self.take(&message)? {
                return Ok(ScriptStep::Done(report));
            }
        }
        // A second question, where the answer to the first calls for one.
        out.extend_from_slice(&self.request.split());
        Ok(ScriptStep::NeedBytes)
    }
}

/// The server's version without what follows its first number; 0 where it says none.
fn major(version: &str) -> u32 {
    version.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// The error names what cannot be written.
fn write_prepare<'a>(settings: &[(&'a str, &str)], out: &mut BytesMut) -> Result<(), &'a str> {
    let unwritten = "a statement of ours";
    frontend::parse("", &query::identity(), [], out).map_err(|_| unwritten)?;
    bind(&[], out).ok_or(unwritten)?;
    frontend::parse("", query::SET_CONFIG, [TEXT, TEXT], out).map_err(|_| unwritten)?;
    for (name, value) in settings {
        bind(&[name, value], out).ok_or(*name)?;
    }
    // Nothing of ours is left for the client to run.
    frontend::close(b'S', "", out).map_err(|_| unwritten)?;
    frontend::sync(out);
    Ok(())
}

/// Binds the unnamed statement to text values and runs it.
fn bind(values: &[&str], out: &mut BytesMut) -> Option<()> {
    let value = |value: &&str, out: &mut BytesMut| {
        out.extend_from_slice(value.as_bytes());
        Ok(IsNull::No)
    };
    frontend::bind("", "", [], values, value, [], out).ok()?;
    frontend::execute("", 0, out).ok()
}

fn bad_parameter(code: &str, name: &str) -> ServerError {
    ServerError { kind: ServerErrorKind::BadParameter, code: code.to_owned(), message: name.to_owned() }
}

/// Settings that outlive the session, a line each, sorted here since a server sorts by its locale.
/// Quoted, so that no value can pass for two.
fn fingerprint(rows: &[Row]) -> String {
    let mut lines: Vec<String> = rows
        .iter()
        .filter(|row| row.topic == query::ROLE_SETTING || row.topic == query::DATABASE_SETTING)
        .map(|row| format!("{} {:?}: {:?}", row.topic, row.subject, row.detail))
        .collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// The extensions and languages, in an order of ours: the server's is that of its files.
fn catalogs(rows: &[Row]) -> String {
    let mut lines: Vec<String> = rows
        .iter()
        .filter(|row| row.topic == query::EXTENSION || row.topic == query::LANGUAGE)
        .map(|row| format!("{} {}", row.topic, row.subject))
        .collect();
    lines.sort_unstable();
    lines.join("\n")
}

fn stateful(rows: &[Row]) -> Vec<String> {
    let of = |topic: &'static str| {
        rows.iter().filter(move |row| row.topic == topic).map(|row| row.subject.as_str())
    };
    stateful::pick(of(query::EXTENSION), of(query::LANGUAGE), of(query::LIBRARY))
}
