//! The journal of a running process: shards, each with a current segment and a spare one, and the
//! sequence that runs through all of them.
//!
//! # Why the order is exact
//!
//! A committer takes its sequence numbers and commits its record *within* the lock of its shard. The
//! writer first reads the sequence (`end`, in [`Journal::cut`]) and then takes each shard's lock once.
//! Take any number below `end` that was ever given out, and the critical section C that took it. C
//! cannot come after the writer's own critical section of that shard: the writer's read of the
//! sequence would then happen before C's addition, and could not have seen it. So C came before, and
//! its record is committed and visible once the writer has had the lock. Hence
//!
//! - a batch, which is every record below `end`, is complete when it is taken: nothing with a lower
//!   number appears later, in whatever shard;
//! - batches follow each other without overlap, so the audit file is in strict order of sequence, and
//!   its highest number H says everything: what has a number up to H is in the file, what has a higher
//!   one is not. That is all that start-up needs to write each record exactly once
//!   ([`super::recovery`]).
//!
//! Numbers that the writer needs for lines of its own are taken at the cut, too, by adding to the
//! sequence instead of only reading it: they are above the whole batch and below the next one.
//! A number that is given out is always committed, unless the process dies in between: everything
//! that may fail happens before. So the sequence has gaps only where a process was killed.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::record::Draft;
use super::region::{Appender, DATA_AT, Header, Region};
use crate::model::limits::{AUDIT_RECORD_BYTES_MAX, AUDIT_WAKE_BYTES};

/// Why a record could not be committed.
#[derive(Debug, thiserror::Error)]
pub enum NoRoom {
    #[error("a record of {0} bytes is longer than {1}, the most a record may have")]
    TooLong(usize, usize),
    #[error("{0} bytes wait to be written, and audit.lag_bytes_max allows no more")]
    Lag(u64),
    #[error("the journal has all the {0} segments that audit.lag_bytes_max allows, and they are full")]
    Full(usize),
    #[error("no further journal segment can be had: {0}")]
    Segment(io::Error),
    #[error("it is closed")]
    Closed,
}

pub struct Journal {
    directory: PathBuf,
    segment_bytes: usize,
    segments_max: usize,
    lag_bytes_max: u64,
    shards: Box<[Shard]>,
    /// The next number to give out.
    sequence: AtomicU64,
    /// Bytes that are committed and not yet safe in the audit file.
    backlog: AtomicU64,
    /// Segment files that exist.
    segments: AtomicUsize,
    /// Names the next segment file.
    number: AtomicU64,
    generation: AtomicU64,
    /// Segments that a committer had to make itself.
    late: AtomicU64,
    /// Committers give way to others between their number and their record.
    #[cfg(test)]
    pub hesitate: std::sync::atomic::AtomicBool,
}

/// Apart from its neighbours, so that two workers share no cache line.
#[repr(align(128))]
struct Shard(Mutex<ShardState>);

struct ShardState {
    current: Appender,
    spare: Option<Appender>,
    /// Segments that were taken into use since the writer last looked, in order.
    started: VecDeque<Arc<Region>>,
    closed: bool,
}

/// Where a journal begins.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    pub sequence: u64,
    pub generation: u64,
    pub number: u64,
}

impl Journal {
    /// Makes a current and a spare segment for every shard.
    pub fn create(
        directory: PathBuf,
        shards: usize,
        segment_bytes: usize,
        lag_bytes_max: u64,
        start: Start,
    ) -> io::Result<Self> {
        let shards = shards.max(1);
        // What may wait, a partly used segment and a spare one for every shard, and one to go on with.
        let lag = usize::try_from(lag_bytes_max / segment_bytes as u64).unwrap_or(usize::MAX);
        let mut journal = Self {
            directory,
            segment_bytes,
            segments_max: lag.saturating_add(2 * shards + 2),
            lag_bytes_max,
            shards: Box::default(),
            sequence: AtomicU64::new(start.sequence),
            backlog: AtomicU64::new(0),
            segments: AtomicUsize::new(0),
            number: AtomicU64::new(start.number),
            generation: AtomicU64::new(start.generation),
            late: AtomicU64::new(0),
            #[cfg(test)]
            hesitate: Default::default(),
        };
        journal.shards = (0..shards).map(|_| journal.shard()).collect::<io::Result<_>>()?;
        Ok(journal)
    }

    fn shard(&self) -> io::Result<Shard> {
        let (current, spare) = (self.segment()?, self.segment()?);
        // So that taking a segment into use allocates nothing.
        let mut started = VecDeque::with_capacity(self.segments_max.min(1024));
        started.push_back(current.region().clone());
        Ok(Shard(Mutex::new(ShardState { current, spare: Some(spare), started, closed: false })))
    }

    /// Copies a record into the journal. Microseconds; no system call and no allocation unless the
    /// shard's spare segment is not ready. True: the writer should be woken.
    pub fn commit(&self, shard: usize, draft: &Draft<'_>) -> Result<bool, NoRoom> {
        let size = draft.size();
        let most = AUDIT_RECORD_BYTES_MAX.min(self.segment_bytes - DATA_AT);
        if size > most {
            return Err(NoRoom::TooLong(size, most));
        }
        let waiting = self.backlog();
        if waiting + size as u64 > self.lag_bytes_max {
            return Err(NoRoom::Lag(waiting));
        }
        let mut state = self.shards[shard % self.shards.len()].lock();
        if state.closed {
            return Err(NoRoom::Closed);
        }
        let mut wake = false;
        if state.current.room() < size {
            self.next_segment(&mut state)?;
            wake = true;
        }
        // Nothing below can fail: the numbers that are taken here are committed.
        let before = self.backlog.fetch_add(size as u64, Ordering::Relaxed);
        let sequence = self.sequence.fetch_add(u64::from(draft.lines), Ordering::Relaxed);
        #[cfg(test)]
        if self.hesitate.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
        let head = draft.head(sequence, state.current.region().generation());
        state.current.append([&head, draft.context, draft.payload]);
        drop(state);
        Ok(wake || before / AUDIT_WAKE_BYTES != (before + size as u64) / AUDIT_WAKE_BYTES)
    }

    fn next_segment(&self, state: &mut ShardState) -> Result<(), NoRoom> {
        let next = match state.spare.take() {
            Some(spare) => spare,
            None => {
                if self.segments.load(Ordering::Relaxed) >= self.segments_max {
                    return Err(NoRoom::Full(self.segments_max));
                }
                self.late.fetch_add(1, Ordering::Relaxed);
                self.segment().map_err(NoRoom::Segment)?
            }
        };
        state.started.push_back(next.region().clone());
        state.current = next;
        Ok(())
    }

    fn segment(&self) -> io::Result<Appender> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let path = self.directory.join(format!("{number:06}.seg"));
        let appender = Region::create(&path, self.segment_bytes, self.header())?;
        self.segments.fetch_add(1, Ordering::Relaxed);
        Ok(appender)
    }

    fn header(&self) -> Header {
        Header {
            generation: self.generation.fetch_add(1, Ordering::Relaxed),
            sequence: self.sequence.load(Ordering::Relaxed),
        }
    }

    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// The next number that will be given out.
    pub fn sequence(&self) -> u64 {
        self.sequence.load(Ordering::Relaxed)
    }

    /// Bytes that are committed and not yet safe in the audit file.
    pub fn backlog(&self) -> u64 {
        self.backlog.load(Ordering::Relaxed)
    }

    /// Segments that were made by a committer because no spare one was ready.
    pub fn late_segments(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }

    // -----------------------------------------------------------------------------------------
    // For the writer

    /// Ends a batch: everything committed below the returned number. Takes `own` numbers from there on
    /// for lines of the writer. `started` gets, for each shard, the segments taken into use since.
    pub fn cut(&self, own: u64, started: &mut [VecDeque<Arc<Region>>]) -> u64 {
        // Before the locks: see the argument at the top.
        let end = self.sequence.fetch_add(own, Ordering::Relaxed);
        for (shard, started) in self.shards.iter().zip(started) {
            started.append(&mut shard.lock().started);
        }
        end
    }

    /// What was committed is safe elsewhere now.
    pub fn settle(&self, bytes: u64) {
        self.backlog.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Gives every shard that has none a spare segment: of `free`, or a new one.
    pub fn prepare(&self, free: &mut Vec<Region>) -> io::Result<()> {
        for shard in &self.shards {
            if shard.lock().spare.is_none() {
                let spare = match free.pop() {
                    Some(region) => region.restart(self.header()),
                    None => self.segment()?,
                };
                // Only the writer puts spares in, so the place is still empty.
                shard.lock().spare = Some(spare);
            }
        }
        Ok(())
    }

    /// Keeps a few emptied segments at hand and gives the space of the others back.
    pub fn trim(&self, free: &mut Vec<Region>) -> io::Result<()> {
        while free.len() > self.shards.len() {
            if let Some(region) = free.pop() {
                self.segments.fetch_sub(1, Ordering::Relaxed);
                region.remove()?;
            }
        }
        Ok(())
    }

    /// From now on nothing is committed any more.
    pub fn close(&self) {
        self.shards.iter().for_each(|shard| shard.lock().closed = true);
    }
}

impl Shard {
    fn lock(&self) -> MutexGuard<'_, ShardState> {
        // Nothing panics under the lock; and a record is committed as a whole or not at all.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
