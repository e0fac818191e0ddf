//! The one that turns committed records into audit lines: takes a batch, merges the shards in order of
//! sequence, formats, chains, writes, syncs, and only then lets go of the journal's segments. A batch
//! that fails is kept and done again from its start; formatting the same records at the same place of
//! the chain gives the same bytes.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use super::audit_file::{AuditFile, FileStart};
use super::line::LineWriter;
use super::record::Record;
use super::region::Region;
use super::trail::Shared;

/// Everything the writer's thread owns.
pub struct Writer {
    shared: Arc<Shared>,
    file: AuditFile,
    lines: LineWriter,
    /// One for each shard.
    queues: Vec<VecDeque<Arc<Region>>>,
    /// How far each shard has been written: bytes of the first region in its queue.
    positions: Vec<usize>,
    /// Emptied segments at hand.
    free: Vec<Region>,
    batch: Option<Batch>,
    file_bytes_max: u64,
    /// No spare segment could be prepared the last time; said once.
    short: bool,
}

/// A batch that is being written. Its parts are done one after the other and never twice.
#[derive(Debug, Clone, Copy)]
struct Batch {
    /// Records below this sequence number.
    end: u64,
    recorded: bool,
    /// The number of a line that says how many facts were dropped.
    gap: Option<(u64, u64)>,
    /// The number of the first line of a new file.
    rotate: Option<u64>,
    /// When it was taken.
    micros: i64,
}

/// What the records of a batch came to.
#[derive(Default)]
struct Sum {
    records: u64,
    lines: u64,
    /// Of the journal.
    bytes: u64,
    oldest_micros: Option<i64>,
}

impl Writer {
    pub fn new(shared: Arc<Shared>, file: AuditFile, lines: LineWriter, file_bytes_max: u64) -> Self {
        let shards = shared.journal.shards();
        Self {
            shared,
            file,
            lines,
            queues: (0..shards).map(|_| VecDeque::new()).collect(),
            positions: vec![0; shards],
            free: Vec::new(),
            batch: None,
            file_bytes_max,
            short: false,
        }
    }

    /// Brings the audit file up to what is committed now, and the journal's spares with it. Returns
    /// whether the file is up to date; the reason why not is in the trail's health.
    pub fn turn(&mut self) -> bool {
        let written = self.write();
        if let Err(error) = &written {
            // A failure here only means that the same is tried once more: the next attempt writes from
            // the same place.
            let _ = self.file.roll_back();
            self.shared.health.writer(Some(format!("{}: {error}", self.file.name())));
        } else {
            self.shared.health.writer(None);
        }
        self.prepare();
        if written.is_ok() && !self.short && self.shared.health.is_starved() && self.shared.has_room() {
            self.shared.health.starved(None);
        }
        written.is_ok()
    }

    /// A shard without a spare still has its current segment: only a committer that finds it full fails.
    fn prepare(&mut self) {
        let journal = &self.shared.journal;
        let done = journal.prepare(&mut self.free).and_then(|()| journal.trim(&mut self.free));
        if let Err(error) = &done
            && !self.short
        {
            tracing::warn!(%error, "no spare journal segment can be had");
        }
        self.short = done.is_err();
    }

    #[cfg(test)]
    pub fn fault(&mut self) -> &mut super::audit_file::Fault {
        &mut self.file.fault
    }

    fn write(&mut self) -> io::Result<()> {
        let Some(mut batch) = self.batch.take().or_else(|| self.take()) else { return Ok(()) };
        let done = self.work_off(&mut batch);
        if done.is_err() {
            self.batch = Some(batch);
        }
        done
    }

    /// Takes the next batch, if there is anything to say.
    fn take(&mut self) -> Option<Batch> {
        let dropped = self.shared.dropped.swap(0, std::sync::atomic::Ordering::Relaxed);
        let full = self.file.length() >= self.file_bytes_max;
        if dropped == 0 && !full && self.shared.safe_to() + 1 == self.shared.journal.sequence() {
            return None;
        }
        // Labels are the first thing that a writer who is behind leaves out.
        self.lines.labels.hurried = self.shared.is_behind();
        let own = u64::from(dropped > 0) + u64::from(full);
        let end = self.shared.journal.cut(own, &mut self.queues);
        Some(Batch {
            end,
            recorded: false,
            gap: (dropped > 0).then_some((end, dropped)),
            rotate: full.then_some(end + own.saturating_sub(1)),
            micros: super::trail::now_micros(),
        })
    }

    fn work_off(&mut self, batch: &mut Batch) -> io::Result<()> {
        if !batch.recorded {
            let mut positions = self.positions.clone();
            let sum = self.records(batch.end, &mut positions)?;
            if let Some((sequence, dropped)) = batch.gap {
                let lines = &mut self.lines;
                self.file.line(|out| {
                    lines.begin(out, sequence, batch.micros);
                    let members = format!(",\"event\":\"gap\",\"dropped\":{dropped}");
                    out.extend_from_slice(members.as_bytes());
                })?;
            }
            self.file.sync()?;
            batch.recorded = true;
            self.let_go(&positions);
            self.account(&sum, batch);
        }
        if let Some(sequence) = batch.rotate {
            let start = FileStart { sequence, micros: batch.micros, damage: None };
            self.file.rotate(start, &mut self.lines)?;
            self.shared.set_safe(sequence);
        }
        Ok(())
    }

    /// Formats every record below `end`, lowest number first.
    fn records(&mut self, end: u64, positions: &mut [usize]) -> io::Result<Sum> {
        let mut sum = Sum::default();
        let mut cursors: Vec<_> = self
            .queues
            .iter()
            .zip(positions.iter_mut())
            .map(|(queue, position)| Cursor::new(queue, position, end))
            .collect();
        while let Some(cursor) = cursors
            .iter_mut()
            .filter(|cursor| cursor.head.is_some())
            .min_by_key(|cursor| cursor.head.map(|(record, _)| record.sequence))
        {
            let Some((record, size)) = cursor.head else { break };
            let file = &mut self.file;
            self.lines.record(&record, 0, |_, write| file.line(write))?;
            sum.records += 1;
            sum.lines += u64::from(record.lines);
            sum.bytes += size as u64;
            sum.oldest_micros = Some(sum.oldest_micros.map_or(record.micros, |m| m.min(record.micros)));
            cursor.advance(size);
        }
        if cursors.iter().any(|cursor| cursor.damaged) {
            // Something wrote over our memory. To go on would be to leave records out in silence.
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a journal segment was damaged while in use",
            ));
        }
        Ok(sum)
    }

    /// Lets go of the segments that are written to their end. Positions are in bytes from the start of
    /// each queue; they become bytes of the queue's first region.
    fn let_go(&mut self, positions: &[usize]) {
        for ((queue, position), written) in self.queues.iter_mut().zip(&mut self.positions).zip(positions) {
            *position = *written;
            // The last of a queue is in use. One before it gets no further records, and its length was
            // final when the next one was seen.
            while queue.len() > 1
                && let Some(length) = queue.front().map(|region| region.bytes().len())
                && length <= *position
            {
                *position -= length;
                if let Some(region) = queue.pop_front().and_then(Arc::into_inner) {
                    self.free.push(region);
                }
            }
        }
    }

    fn account(&mut self, sum: &Sum, batch: &Batch) {
        let unlabelled = std::mem::take(&mut self.lines.labels.skipped);
        let shared = &self.shared;
        shared.meters.unlabelled.inc_by(unlabelled);
        shared.journal.settle(sum.bytes);
        shared.meters.records.inc_by(sum.records);
        shared.meters.lines.inc_by(sum.lines);
        shared.meters.bytes.inc_by(sum.bytes);
        shared.meters.backlog.set(shared.journal.backlog() as i64);
        if let Some(oldest) = sum.oldest_micros {
            let micros = super::trail::now_micros().saturating_sub(oldest).max(0);
            shared.meters.lag.observe(micros as f64 / 1e6);
        }
        shared.set_safe(batch.gap.map_or(batch.end - 1, |(sequence, _)| sequence));
    }
}

/// Walks one shard's records below `end`.
struct Cursor<'a> {
    queue: &'a VecDeque<Arc<Region>>,
    index: usize,
    /// What of the current region is still to come.
    rest: &'a [u8],
    /// Bytes from the start of the queue.
    position: &'a mut usize,
    end: u64,
    /// The record that comes next, and its size.
    head: Option<(Record<'a>, usize)>,
    /// There is something that is no record.
    damaged: bool,
}

impl<'a> Cursor<'a> {
    fn new(queue: &'a VecDeque<Arc<Region>>, position: &'a mut usize, end: u64) -> Self {
        let rest = queue.front().map_or(&[][..], |region| region.bytes());
        let rest = rest.get(*position..).unwrap_or_default();
        let mut cursor = Self { queue, index: 0, rest, position, end, head: None, damaged: false };
        cursor.look();
        cursor
    }

    fn look(&mut self) {
        while self.rest.is_empty() {
            let Some(region) = self.queue.get(self.index + 1) else {
                self.head = None;
                return;
            };
            self.index += 1;
            self.rest = region.bytes();
        }
        let next = Record::parse(self.rest);
        self.damaged = next.is_none();
        self.head = next.filter(|(record, _)| record.sequence < self.end);
    }

    fn advance(&mut self, size: usize) {
        self.rest = self.rest.get(size..).unwrap_or_default();
        *self.position += size;
        self.look();
    }
}
