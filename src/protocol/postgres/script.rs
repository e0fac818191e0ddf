//! Short exchanges of our own on an upstream connection: probing, dressing, resetting, checking it.
//!
//! Every script is written in one piece and answered in one piece. What each answer must be is
//! listed beforehand ([`Due`]); anything else is an error, so a connection that is out of step is
//! never taken for a clean one. Asynchronous messages (notices, notifications, parameter reports)
//! may come anywhere.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use postgres_protocol::message::frontend;

use super::facts::{Parameters, PostgresFacts, Settings, put_parameter};
use super::message::{Complaint, Message, Reader, cells, kind_of, lossy, parameter, row, status};
use super::relay::stamped_name;
use super::{check, frame, query, stateful};
use crate::model::limits;
use crate::protocol::session::{
    Act, Findings, Logins, Purpose, Report, Script, ScriptStep, ServerError, ServerErrorKind, Termination,
    WireError,
};

/// The oid of `pg_catalog.set_config`, the same in every version.
pub(crate) const SET_CONFIG: u32 = 2078;

/// One script on one connection.
pub struct PostgresScript {
    task: Task,
    /// The role that we must be there.
    user: Arc<str>,
    dialled: Parameters,
    /// The server tells what of the database's history is seen.
    snapshots: bool,
    /// What is to be sent, until it has been.
    request: BytesMut,
    due: VecDeque<Due>,
    reader: Reader,
    rows: Vec<Row>,
    /// The values of a glimpse.
    values: Vec<String>,
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
    /// A reset that is verified by one short look, where nothing looks otherwise than it did.
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
        terminations: &'a [Termination],
    },
    /// Only what runs on them.
    Halt {
        terminations: &'a [Termination],
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
            Purpose::Terminate { terminations, .. } => Self::Terminate { terminations },
            Purpose::Halt { terminations, .. } => Self::Halt { terminations },
        }
    }
}

fn backends(terminations: &[Termination]) -> Vec<query::Backend> {
    terminations.iter().filter_map(query::Backend::parse).collect()
}

enum Task {
    Probe,
    /// With the names of the settings, in the order in which they are set.
    Prepare(Vec<String>),
    Reset,
    /// The shortest look: with what was seen before, and the seed.
    Glimpse(String, u64),
    /// With what was seen before.
    Glance(String),
    Ping,
    Check(String),
    Form(Logins),
    /// A statement of which nothing but its end is of interest.
    Run,
    See,
    /// Another connection, or what runs on it.
    TryToEnd,
    Terminate,
}

/// The message that must come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// `RowDescription` of a simple Query.
    Description,
    /// Rows that are kept, then `CommandComplete`.
    Rows,
    /// The answer to one `set_config`.
    Setting,
    /// The rows of a glimpse, then `CommandComplete`.
    Glimpse,
    /// The row of a glance, then `CommandComplete`.
    Glance,
    /// `CommandComplete` with this tag.
    Command(&'static str),
    EmptyQuery,
    Ready,
}

/// One row of our queries: what it is about, of what, and a detail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub topic: Cow<'static, str>,
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
            Job::Glance { known, random, .. } if known.starts_with(GLIMPSE) => {
                Task::Glimpse(known.to_owned(), random)
            }
            Job::Glance { known, .. } => Task::Glance(known.to_owned()),
            Job::Ping => Task::Ping,
            Job::Check { level } => Task::Check(level.to_owned()),
            Job::Form { logins } => Task::Form(logins.clone()),
            Job::Try(Act::Run) => Task::Run,
            Job::Try(Act::See(_) | Act::SeeBehind(_)) => Task::See,
            Job::Try(Act::Stop(_) | Act::End(_)) => Task::TryToEnd,
            Job::Terminate { .. } | Job::Halt { .. } => Task::Terminate,
        };
        let mut script = Self {
            task,
            user: facts.user.clone(),
            dialled: facts.dialled.clone(),
            snapshots: query::has_snapshots(&facts.version),
            request: BytesMut::new(),
            due: VecDeque::new(),
            reader: Reader::new(limits::SCRIPT_MESSAGES_MAX),
            rows: Vec::new(),
            values: Vec::new(),
            taken: 0,
            error: None,
            status: b'I',
            parameters: Vec::new(),
        };
        match job {
            Job::Probe => script.select(&query::probe(script.snapshots)),
            Job::Prepare { stamp, settings } => script.prepare(stamp, settings),
            Job::Reset { in_transaction } => {
                script.discard(in_transaction);
                script.verify();
            }
            Job::Glance { in_transaction, random, .. } => {
                script.discard(in_transaction);
                match script.task {
                    Task::Glimpse(..) => script.glimpse(random),
                    _ => script.glance(random),
                }
            }
            Job::Ping => script.simple("", [Due::EmptyQuery]),
            Job::Check { .. } => script.select(&query::check(major(&facts.version))),
            Job::Form { .. } => script.select(&query::form()),
            Job::Try(Act::Run) => script.select(&query::trial(limits::TRIAL.as_secs())),
            Job::Try(Act::See(of)) => script.aim(of, query::see),
            Job::Try(Act::SeeBehind(of)) => script.aim(of, query::see_behind),
            Job::Try(Act::Stop(of)) => script.aim(of, query::stop),
            Job::Try(Act::End(of)) => script.aim(of, |backend| query::terminate(&[backend])),
            Job::Terminate { terminations } => script.select(&query::terminate(&backends(terminations))),
            Job::Halt { terminations } => script.select(&query::halt(&backends(terminations))),
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

    /// What follows `DISCARD ALL`, without it. `known`: by a glimpse.
    #[cfg(test)]
    pub(super) fn verify_only(facts: &PostgresFacts, known: Option<&str>) -> Self {
        let mut script = Self::run(Job::Ping, facts);
        script.due.clear();
        script.request.clear();
        match known {
            Some(known) => {
                script.task = Task::Glimpse(known.to_owned(), 1);
                script.glimpse(1);
            }
            None => {
                script.task = Task::Reset;
                script.verify();
            }
        }
        script
    }

    fn verify(&mut self) {
        self.select(&query::reset(self.dialled.iter().map(|(name, _)| &**name), self.snapshots));
    }

    fn glance(&mut self, random: u64) {
        let names = self.dialled.iter().map(|(name, _)| &**name);
        let text = query::glance(names, random, self.snapshots);
        self.simple(&text, [Due::Description, Due::Glance]);
    }

    fn glimpse(&mut self, random: u64) {
        let text = query::glimpse(self.dialled.iter().map(|(name, _)| &**name), random);
        self.simple(&text, [Due::Description, Due::Glimpse]);
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

    /// The stamp, then each setting of the client, as the values of a function call: nothing of theirs is ever
    /// part of a statement's text, and there is none to be parsed and planned, or to be counted as one of many by
    /// `pg_stat_statements`. Who we are there was said when the connection was made or reset, and it has been
    /// silent since.
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
        for (name, value) in &all {
            put_set_config(name, value, &mut self.request);
            self.due.extend([Due::Setting, Due::Ready]);
        }
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
            (b'T', Some(Due::Description)) | (b'I', Some(Due::EmptyQuery)) => {
                self.due.pop_front();
            }
            (b'V', Some(Due::Setting)) => {
                self.taken += 1;
                self.due.pop_front();
            }
            (b'D', Some(Due::Rows)) => {
                let columns = row(body).and_then(|columns| <[String; 3]>::try_from(columns).ok());
                let [topic, subject, detail] = columns.ok_or(WireError::new("DataRow", "malformed"))?;
                self.rows.push(Row { topic: topic.into(), subject, detail });
            }
            (b'D', Some(Due::Glance)) => {
                self.glanced(row(body).ok_or(WireError::new("DataRow", "malformed"))?.into_iter())?;
            }
            (b'D', Some(Due::Glimpse)) => {
                self.glimpsed(
                    cells(body).ok_or(WireError::new("DataRow", "not the columns that were asked for"))?,
                );
            }
            (b'C', Some(Due::Glimpse)) if body.starts_with(b"SELECT ") => {
                self.due.pop_front();
                let values = std::mem::take(&mut self.values).into_iter();
                self.seen(values, true)?;
            }
            (b'C', Some(Due::Rows | Due::Glance)) if body.starts_with(b"SELECT ") => {
                self.due.pop_front();
            }
            (b'C', Some(Due::Command(tag))) if body.strip_suffix(b"\0") == Some(tag.as_bytes()) => {
                self.due.pop_front();
            }
            _ => return Err(WireError::new(PLACE, "a message that is not due")),
        }
        Ok(None)
    }

    /// Takes one value of a glimpse, and what is left beside it.
    fn glimpsed(&mut self, [value, prepared, cursor, channel]: [Option<&[u8]>; 4]) {
        for (what, is_left) in REMAINS.into_iter().zip([prepared, cursor, channel]) {
            if is_left.is_some() {
                self.add(query::LEFTOVER, what, "");
            }
        }
        self.values.push(value.map(lossy).unwrap_or_default());
    }

    /// Takes the row of a glance for the rows that the whole question would have given.
    fn glanced(&mut self, mut columns: impl Iterator<Item = String>) -> Result<(), WireError> {
        let mut fixed = Vec::from_iter(columns.by_ref().take(3));
        let others = <[String; 5]>::try_from(Vec::from_iter(columns.by_ref().take(5)));
        let [prepared, cursor, channel, extensions, languages] =
            others.map_err(|_| WireError::new("DataRow", "not the columns that were asked for"))?;
        for (what, is_left) in REMAINS.into_iter().zip([prepared, cursor, channel]) {
            // Whatever is not a clear no.
            if is_left != "false" {
                self.add(query::LEFTOVER, what, "");
            }
        }
        for (topic, names) in [(query::EXTENSION, &extensions), (query::LANGUAGE, &languages)] {
            names.lines().for_each(|name| self.add(topic, name, ""));
        }
        fixed.extend(columns);
        self.seen(fixed.into_iter(), false)
    }

    /// Takes what glance and glimpse have in common: who, who acts, the temporary schema, the history where the
    /// server tells it, the seed, the settings.
    fn seen(&mut self, mut values: impl Iterator<Item = String>, glimpse: bool) -> Result<(), WireError> {
        let mut next = || values.next().ok_or(WireError::new("DataRow", "fewer values than were asked for"));
        let (session, current, temporary) = (next()?, next()?, next()?);
        let history = if self.snapshots || glimpse { Some((next()?, next()?)) } else { None };
        let _seed = next()?;
        self.add(query::IDENTITY, session, current);
        // It stays where there ever was one; whether something is in it is another question.
        if temporary != "0" {
            self.add(query::TEMPORARY, temporary, "");
        }
        if let Some((follows, snapshot)) = history {
            self.add(query::SNAPSHOT, snapshot, follows);
        }
        let dialled = self.dialled.clone();
        for (name, before) in dialled.iter().filter(|(name, _)| query::asks_for(name, glimpse)) {
            let value = values.next().ok_or(WireError::new("DataRow", "fewer values than were asked for"))?;
            // What is as it was after the login has nothing to tell.
            if *value != **before {
                self.add(query::REPORTED, &**name, value);
            }
        }
        // Beside what is left there may be more rows than values.
        match values.next() {
            Some(_) if !self.rows.iter().any(|row| row.topic == query::LEFTOVER) => {
                Err(WireError::new("DataRow", "more values than were asked for"))
            }
            _ => Ok(()),
        }
    }

    fn add(&mut self, topic: &'static str, subject: impl Into<String>, detail: impl Into<String>) {
        self.rows.push(Row { topic: topic.into(), subject: subject.into(), detail: detail.into() });
    }

    /// After a look that shows something new: takes the next longer one.
    fn looks_again(&mut self) -> bool {
        let is_new = match &self.task {
            Task::Glimpse(before, _) => history(before) != told(&self.rows),
            Task::Glance(before) => names(before) != catalogs(&self.rows),
            _ => return false,
        };
        let is_new = is_new || self.has_temporary();
        if !is_new || self.error.is_some() || self.status != b'I' || self.unclean().is_some() {
            return false;
        }
        let thorough = self.has_temporary();
        self.rows.clear();
        match std::mem::replace(&mut self.task, Task::Reset) {
            Task::Glimpse(before, random) if !thorough => {
                self.task = Task::Glance(before);
                // The same seed once more: nobody has drawn from it.
                self.glance(random);
            }
            _ => self.verify(),
        }
        true
    }

    fn has_temporary(&self) -> bool {
        self.rows.iter().any(|row| row.topic == query::TEMPORARY)
    }

    fn fail(&mut self, complaint: Complaint) -> Option<Report> {
        let fatal = complaint.fatal;
        let mut error = complaint.into_error();
        if let Task::Prepare(names) = &self.task
            && error.kind != ServerErrorKind::Unready
            && error.kind != ServerErrorKind::Full
            && !fatal
            && let Some(name) = names.get(self.taken)
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
        let asked = !matches!(self.task, Task::Ping | Task::Prepare(_));
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
        for (applied, known) in
            [(query::APPLIED, query::ROLE_SETTING), (query::APPLIED_DATABASE, query::DATABASE_SETTING)]
        {
            let mut applied = self.rows.iter().filter(|row| row.topic == applied);
            if let Some(row) = applied.find(|row| !self.is_known(row, known)) {
                return Some(format!("the {known}'s setting {} changed while we logged in", row.subject));
            }
        }
        if matches!(self.task, Task::TryToEnd) && !self.has(query::ENDED, "true") {
            return Some("there is no such connection any more".into());
        }
        if !matches!(self.task, Task::Reset | Task::Glimpse(..) | Task::Glance(_)) {
            return None;
        }
        // What it reported on the way, and what it says when asked.
        let reported = self.parameters.iter().map(|(name, value)| (name, value));
        let asked = self.rows.iter().filter(|row| row.topic == query::REPORTED);
        reported.chain(asked.map(|row| (&row.subject, &row.detail))).find_map(|(name, value)| {
            let (_, dialled) = self.dialled.iter().find(|(known, _)| **known == **name)?;
            (**dialled != **value).then(|| format!("the setting {name} is not what it was after login"))
        })
    }

    fn has(&self, topic: &str, subject: &str) -> bool {
        self.rows.iter().any(|row| row.topic == topic && row.subject == subject)
    }

    /// Whether a setting that came with the role or the database is one that it still has. The value only counts
    /// where it decides whose code runs: the server may show others in another form than they were given in.
    fn is_known(&self, applied: &Row, topic: &str) -> bool {
        let now = self.rows.iter().filter(|row| row.topic == topic);
        now.filter_map(|row| row.detail.split_once('=')).any(|(name, value)| {
            name.eq_ignore_ascii_case(&applied.subject) && (name != "search_path" || value == applied.detail)
        })
    }

    fn findings(&mut self) -> Findings {
        let mut findings =
            Findings { parameters: std::mem::take(&mut self.parameters), ..Default::default() };
        match &self.task {
            Task::Ping | Task::Prepare(_) | Task::TryToEnd | Task::Run => return findings,
            Task::Terminate => {
                let ended = self.rows.iter().filter(|row| row.topic == query::ENDED && row.subject == "true");
                findings.ended = ended.map(|row| Termination(row.detail.clone())).collect();
                return findings;
            }
            Task::See => {
                findings.seen = self.rows.iter().any(|row| row.topic == query::SEEN);
                return findings;
            }
            Task::Form(logins) => {
                findings.form = check::form(&self.rows, logins);
                return findings;
            }
            // All that it reports is back to what it was, as was just verified.
            Task::Glimpse(..) => {
                findings.restore();
                return findings;
            }
            Task::Glance(before) => {
                findings.restore();
                // Where much is written a glimpse finds another history each time, and is asked for in vain.
                let same = history(before) == told(&self.rows);
                findings.glanced = told(&self.rows).map(|_| known(&self.rows, same));
                return findings;
            }
            Task::Reset => findings.restore(),
            Task::Probe | Task::Check(_) => {}
        }
        findings.fingerprint = fingerprint(&self.rows);
        findings.catalogs = Some(known(&self.rows, true));
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

/// FunctionCall of `set_config(name, value, false)`: for the whole session.
fn put_set_config(name: &str, value: &str, out: &mut BytesMut) {
    frame::put(out, b'F', |out| {
        out.put_u32(SET_CONFIG);
        // All in text format.
        out.put_u16(0);
        out.put_u16(3);
        for argument in [name, value, "f"] {
            out.put_u32(argument.len() as u32);
            out.put_slice(argument.as_bytes());
        }
        out.put_u16(0);
    });
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

/// What may be left that a short look sees, in the order of its columns.
const REMAINS: [&str; 3] = ["a prepared statement", "a cursor", "a channel that is listened to"];

/// At the head of what is known: the next reset may be verified by a glimpse.
const GLIMPSE: &str = "glimpse ";
/// It had better not.
const GLANCE: &str = "glance ";

/// What is kept for the next reset to compare with: the history, if the server tells it, in a line of its own, then
/// the [`catalogs`].
fn known(rows: &[Row], may_glimpse: bool) -> String {
    let Some(snapshot) = rows.iter().find(|row| row.topic == query::SNAPSHOT) else { return catalogs(rows) };
    let way = if may_glimpse && told(rows).is_some() { GLIMPSE } else { GLANCE };
    format!("{way}{}\n{}", snapshot.subject, catalogs(rows))
}

/// The history in what is known.
fn history(known: &str) -> Option<&str> {
    let (first, _) = known.split_once('\n')?;
    first.strip_prefix(GLIMPSE).or_else(|| first.strip_prefix(GLANCE))
}

/// The [`catalogs`] in what is known.
fn names(known: &str) -> &str {
    match (history(known), known.split_once('\n')) {
        (Some(_), Some((_, names))) => names,
        _ => known,
    }
}

/// The history that the server tells, where it is one: see `query::HISTORY`.
fn told(rows: &[Row]) -> Option<&str> {
    let snapshot = rows.iter().find(|row| row.topic == query::SNAPSHOT)?;
    (snapshot.detail == "false").then_some(snapshot.subject.as_str())
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
