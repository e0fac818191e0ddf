//! Looking things up in the audit files, and checking their chain. Reads the files as they are, next to
//! the writer; blocking, so async callers use a blocking task. Memory does not grow with the files.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::Deserialize;

use super::line::{link, put_string};
use super::scan::{Backward, Check, FileName, Forward, Piece, files, start_of};
use crate::model::limits::AUDIT_SEARCH_LINES_MAX;
use crate::model::{SessionId, Time};
use crate::protocol::label::{SKIPPED, UNPARSED};

/// What to look for; a line must fit all that is set.
#[derive(Debug, Clone, Default)]
pub struct Query {
    pub user: Option<String>,
    pub session: Option<SessionId>,
    pub target: Option<String>,
    pub event: Option<String>,
    /// A table that the statement names, as read or as written, with or without its schema.
    pub table: Option<String>,
    /// A verb of the statement, in any case: `DELETE`; `unparsed` and `skipped` are such too.
    pub verb: Option<String>,
    /// Part of the line as it would be read: quotes and line ends as they are.
    pub text: Option<String>,
    /// From this time on.
    pub since: Option<Time>,
    /// Before this time.
    pub until: Option<Time>,
    /// The newest so many; with `newest_first` false they are still shown oldest first.
    pub limit: Option<usize>,
    pub newest_first: bool,
}

/// Shows each audit line that fits, without its newline, until `each` breaks. Returns how many were shown.
///
/// With a limit, the files are read from their end and only as far as needed. A limit is at most
/// [`AUDIT_SEARCH_LINES_MAX`].
///
/// # Errors
/// A file cannot be read.
pub fn search(
    directory: &Path,
    query: &Query,
    each: &mut dyn FnMut(&str) -> ControlFlow<()>,
) -> io::Result<u64> {
    let fits = Fits::new(query);
    let limit = query.limit.map(|limit| limit.min(AUDIT_SEARCH_LINES_MAX));
    match (query.newest_first, limit) {
        (false, None) => forwards(directory, &fits, each),
        (true, limit) => {
            backwards(directory, &fits, limit.unwrap_or(usize::MAX), &mut |_, _, line| each(line))
        }
        (false, Some(limit)) => {
            // Where they are, newest first; then read once more in order.
            let mut places = Vec::new();
            backwards(directory, &fits, limit, &mut |file, at, line| {
                places.push((file, at, line.len() as u32));
                ControlFlow::Continue(())
            })?;
            show(directory, &places, each)
        }
    }
}

fn forwards(directory: &Path, fits: &Fits, each: &mut dyn FnMut(&str) -> ControlFlow<()>) -> io::Result<u64> {
    let mut shown = 0;
    for name in files(directory)? {
        let mut reader = Forward::open(&name.path(directory))?;
        while let Some(Piece::Line(line)) = reader.next()? {
            if let Some(line) = fits.line(line) {
                shown += 1;
                if each(line).is_break() {
                    return Ok(shown);
                }
            }
        }
    }
    Ok(shown)
}

/// `each` gets the file, the line's place in it, and the line.
fn backwards(
    directory: &Path,
    fits: &Fits,
    limit: usize,
    each: &mut dyn FnMut(FileName, u64, &str) -> ControlFlow<()>,
) -> io::Result<u64> {
    let mut shown = 0;
    if limit == 0 {
        return Ok(shown);
    }
    for name in files(directory)?.into_iter().rev() {
        let mut reader = Backward::open(&name.path(directory))?;
        while let Some((at, line)) = reader.next()? {
            if let Some(line) = fits.line(line) {
                shown += 1;
                if each(name, at, line).is_break() || shown as usize >= limit {
                    return Ok(shown);
                }
            }
        }
    }
    Ok(shown)
}

/// Shows lines by their places, given last first.
fn show(
    directory: &Path,
    places: &[(FileName, u64, u32)],
    each: &mut dyn FnMut(&str) -> ControlFlow<()>,
) -> io::Result<u64> {
    let mut shown = 0;
    let mut open: Option<(FileName, File)> = None;
    let mut line = Vec::new();
    for (name, at, length) in places.iter().rev() {
        let file = match open.take() {
            Some((of, file)) if of == *name => file,
            _ => File::open(name.path(directory))?,
        };
        line.resize(*length as usize, 0);
        file.read_exact_at(&mut line, *at)?;
        open = Some((*name, file));
        shown += 1;
        if each(&String::from_utf8_lossy(&line)).is_break() {
            break;
        }
    }
    Ok(shown)
}

/// A query made ready: most lines are told apart without reading them as JSON.
struct Fits {
    /// Bytes that every line that fits has in it.
    needles: Vec<Vec<u8>>,
    members: Vec<(Member, String)>,
    table: Option<String>,
    verb: Option<String>,
    since: Option<String>,
    until: Option<String>,
}

#[derive(Clone, Copy)]
enum Member {
    User,
    Session,
    Target,
    Event,
}

#[derive(Deserialize, Default)]
struct Fields {
    user: Option<String>,
    session: Option<String>,
    target: Option<String>,
    event: Option<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    reads: Vec<String>,
    #[serde(default)]
    writes: Vec<String>,
}

impl Fits {
    fn new(query: &Query) -> Self {
        let mut fits = Self {
            needles: Vec::new(),
            members: Vec::new(),
            table: query.table.clone(),
            verb: query.verb.as_deref().map(verb),
            since: query.since.map(|time| format!("{time:.6}")),
            until: query.until.map(|time| format!("{time:.6}")),
        };
        let session = query.session.map(|session| session.to_string());
        for (member, key, value) in [
            (Member::Session, "session", &session),
            (Member::User, "user", &query.user),
            (Member::Target, "target", &query.target),
            (Member::Event, "event", &query.event),
        ] {
            if let Some(value) = value {
                let mut needle = format!("\"{key}\":").into_bytes();
                put_string(&mut needle, value);
                fits.needles.push(needle);
                fits.members.push((member, value.clone()));
            }
        }
        if let Some(verb) = &fits.verb {
            let mut needle = Vec::new();
            put_string(&mut needle, verb);
            fits.needles.push(needle);
        }
        if let Some(text) = &query.text {
            let mut needle = Vec::new();
            put_string(&mut needle, text);
            fits.needles.push(needle[1..needle.len() - 1].to_vec());
        }
        fits
    }

    fn line<'a>(&self, line: &'a [u8]) -> Option<&'a str> {
        if self.since.is_some() || self.until.is_some() {
            // All times have the same form, so that their order is that of their text.
            let time = time_of(line)?;
            if self.since.as_ref().is_some_and(|since| time < since.as_bytes())
                || self.until.as_ref().is_some_and(|until| time >= until.as_bytes())
            {
                return None;
            }
        }
        if !self.needles.iter().all(|needle| contains(line, needle)) {
            return None;
        }
        // What was found may have been within something else.
        if !self.members.is_empty() || self.table.is_some() || self.verb.is_some() {
            let fields: Fields = serde_json::from_slice(line).ok()?;
            let same = self.members.iter().all(|(member, value)| {
                let field = match member {
                    Member::User => &fields.user,
                    Member::Session => &fields.session,
                    Member::Target => &fields.target,
                    Member::Event => &fields.event,
                };
                field.as_ref() == Some(value)
            });
            let verb = self.verb.as_ref().is_none_or(|verb| fields.verbs.contains(verb));
            let mut tables = fields.reads.iter().chain(&fields.writes);
            let table = self.table.as_ref().is_none_or(|asked| tables.any(|table| is_table(asked, table)));
            if !same || !verb || !table {
                return None;
            }
        }
        std::str::from_utf8(line).ok()
    }
}

/// A verb as lines have it.
fn verb(asked: &str) -> String {
    match asked.to_ascii_lowercase() {
        own if own == UNPARSED || own == SKIPPED => own,
        other => other.to_ascii_uppercase(),
    }
}

/// Whether `orders` or `public.orders` is asked for where a line says `public.orders`. As in a statement,
/// a name in capitals may mean the one in lower case.
fn is_table(asked: &str, table: &str) -> bool {
    let same =
        |asked: &str| table.strip_suffix(asked).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    same(asked) || same(&asked.to_ascii_lowercase())
}

/// The time with which a line begins, behind its number.
fn time_of(line: &[u8]) -> Option<&[u8]> {
    let comma = line.iter().position(|byte| *byte == b',')?;
    let rest = line.get(comma..)?.strip_prefix(b",\"time\":\"")?;
    rest.split(|byte| *byte == b'"').next()
}

/// Looks for the needle's rarest-looking byte with a quick search, then compares.
fn contains(line: &[u8], needle: &[u8]) -> bool {
    let Some(first) = needle.first() else { return true };
    let mut rest = line;
    while let Some(at) = rest.iter().position(|byte| byte == first) {
        rest = &rest[at..];
        if rest.starts_with(needle) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

/// The newest lines, oldest of them first.
///
/// # Errors
/// A file cannot be read.
pub fn tail(directory: &Path, lines: usize) -> io::Result<Vec<String>> {
    let mut all = Vec::new();
    let query = Query { limit: Some(lines), newest_first: true, ..Query::default() };
    search(directory, &query, &mut |line| {
        all.push(line.to_owned());
        ControlFlow::Continue(())
    })?;
    all.reverse();
    Ok(all)
}

/// An audit trail whose chain is whole.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Verified {
    pub lines: u64,
    pub files: u64,
    /// Sequence numbers of the first and last line; 0 when there is none.
    pub first: u64,
    pub last: u64,
    /// The chain value of the last line, hex: who keeps it elsewhere can tell later that nothing before it
    /// was changed or taken away.
    pub chain: String,
}

/// The first place at which a chain does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, serde::Serialize)]
#[error("{file}, line {line}: {what}")]
pub struct Broken {
    pub file: String,
    /// From 1; 0 for the file as a whole.
    pub line: u64,
    pub what: String,
}

/// Computes the chain of all audit files again. Older files may have been put away; a missing one between
/// two others, and a missing line anywhere but at the end, is found. A line at the very end that has no
/// newline is being written at this moment and does not count.
///
/// # Errors
/// The first line that does not fit, or a file that cannot be read.
pub fn verify(directory: &Path) -> Result<Verified, Broken> {
    let unreadable =
        |name: String| move |error: io::Error| Broken { file: name, line: 0, what: error.to_string() };
    let names = files(directory).map_err(unreadable(directory.display().to_string()))?;
    let mut verified = Verified { lines: 0, files: 0, first: 0, last: 0, chain: String::new() };
    let mut before: Option<(FileName, [u8; 32])> = None;
    for name in &names {
        let newest = Some(name) == names.last();
        let mut reader = Forward::open(&name.path(directory)).map_err(unreadable(name.to_string()))?;
        let mut check = Check::default();
        let mut number = 0;
        while let Some(piece) = reader.next().map_err(unreadable(name.to_string()))? {
            number += 1;
            if newest && matches!(piece, Piece::Rest(_)) {
                break;
            }
            let broken = |what: &str| Broken { file: name.to_string(), line: number, what: what.to_owned() };
            let line = check.line(piece).map_err(broken)?;
            if number == 1 {
                carries_on(&line, before).map_err(broken)?;
            }
            if verified.lines > 0 && line.sequence <= verified.last {
                return Err(broken("its number is not above that of the line before"));
            }
            if verified.lines == 0 {
                verified.first = line.sequence;
            }
            verified.lines += 1;
            verified.last = line.sequence;
            before = Some((*name, line.chain));
        }
        verified.files += 1;
    }
    if let Some((_, chain)) = before {
        let mut digits = Vec::new();
        super::line::put_hex(&mut digits, &chain);
        verified.chain = String::from_utf8(digits).unwrap_or_default();
    }
    Ok(verified)
}

/// Whether a file's first line names the file and the chain value before it.
fn carries_on(
    line: &super::line::Line<'_>,
    before: Option<(FileName, [u8; 32])>,
) -> Result<(), &'static str> {
    let start = start_of(line).ok_or("a file begins with file_start")?;
    match before {
        Some((name, _)) if start.previous.as_deref() != Some(name.to_string().as_str()) => {
            Err("it does not carry on the file before: one is missing")
        }
        Some((_, chain)) if start.previous_chain != chain => {
            Err("it does not carry on the chain: the end of the file before is missing or was changed")
        }
        // The oldest there is: with `link` its own line was checked, older ones cannot be.
        None if start.previous.is_none() && link(&[0; 32], line.body) != line.chain => {
            Err("the first file does not begin with an empty chain")
        }
        _ => Ok(()),
    }
}
