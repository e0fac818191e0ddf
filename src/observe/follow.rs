//! The end of the audit file as it grows, over rotations.

use std::collections::VecDeque;
use std::io;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::line::Line;
use super::scan::{Backward, FileName, files};
use super::search::tail;
use crate::model::limits::{
    AUDIT_FOLLOW_BYTES_MAX, AUDIT_FOLLOW_TICK, AUDIT_LINE_BYTES_MAX, AUDIT_READ_BYTES,
};

/// Reads new lines of the audit files, first some of the past.
pub struct Follower {
    state: Arc<Mutex<State>>,
}

struct State {
    directory: PathBuf,
    /// The file that is being read, and how far.
    place: Option<(FileName, u64)>,
    /// The highest sequence number that was read: a batch that was written a second time is shown once.
    seen: u64,
    /// Read, and not yet taken.
    ready: VecDeque<String>,
}

impl Follower {
    /// Begins with the last `lines` lines there are. Blocking.
    ///
    /// # Errors
    /// The files cannot be read.
    pub fn open(directory: &Path, lines: usize) -> io::Result<Self> {
        // The place first and the past after it: what is written in between is read twice and shown once.
        let place = match files(directory)?.last() {
            Some(name) => {
                let newest = Backward::open(&name.path(directory))?.next()?.map_or(0, |(at, _)| at);
                Some((*name, newest))
            }
            None => None,
        };
        let ready: VecDeque<String> = tail(directory, lines.max(1))?.into();
        let seen = ready.back().and_then(|line| Line::parse(line.as_bytes())).map_or(0, |line| line.sequence);
        let mut state = State { directory: directory.to_owned(), place, seen, ready };
        if lines == 0 {
            state.ready.clear();
        }
        Ok(Self { state: Arc::new(Mutex::new(state)) })
    }

    /// The next line; waits for it to be written. Cancel safe: a line that was read is not lost.
    ///
    /// # Errors
    /// A file cannot be read.
    pub async fn next(&mut self) -> io::Result<String> {
        loop {
            let state = self.state.clone();
            let work = move || {
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                if state.ready.is_empty() {
                    state.poll()?;
                }
                Ok::<_, io::Error>(())
            };
            if let Some(line) = self.pop() {
                return Ok(line);
            }
            tokio::task::spawn_blocking(work).await.map_err(io::Error::other)??;
            if let Some(line) = self.pop() {
                return Ok(line);
            }
            tokio::time::sleep(AUDIT_FOLLOW_TICK).await;
        }
    }

    fn pop(&self) -> Option<String> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).ready.pop_front()
    }
}

impl State {
    /// Reads what is new, up to a limit.
    fn poll(&mut self) -> io::Result<()> {
        let Some((name, at)) = self.place else {
            self.place = files(&self.directory)?.first().map(|name| (*name, 0));
            return Ok(());
        };
        let mut file = match std::fs::File::open(name.path(&self.directory)) {
            Ok(file) => file,
            // Put away while it was read, or a new file that never began: go on with what there is.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let names = files(&self.directory)?;
                self.place =
                    names.iter().find(|other| **other > name).or(names.last()).map(|name| (*name, 0));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        // A file that became shorter was rolled back to its last synced line; what follows is written again.
        let mut at = at.min(file.metadata()?.len());
        // Asked before the last line of this file is looked for: once there is a next one, this one is done.
        let next = name.next();
        let ended = next.path(&self.directory).exists();
        file.seek(SeekFrom::Start(at))?;
        let mut reader = BufReader::with_capacity(AUDIT_READ_BYTES, file);
        let mut bytes = 0;
        let mut line = Vec::new();
        while bytes < AUDIT_FOLLOW_BYTES_MAX {
            line.clear();
            io::Read::take(&mut reader, AUDIT_LINE_BYTES_MAX as u64).read_until(b'\n', &mut line)?;
            if line.pop() != Some(b'\n') {
                if ended {
                    self.place = Some((next, 0));
                    return Ok(());
                }
                break;
            }
            at += line.len() as u64 + 1;
            match Line::parse(&line) {
                Some(parsed) if parsed.sequence <= self.seen => continue,
                Some(parsed) => self.seen = parsed.sequence,
                None => {}
            }
            bytes += line.len();
            self.ready.push_back(String::from_utf8_lossy(&line).into_owned());
        }
        self.place = Some((name, at));
        Ok(())
    }
}
