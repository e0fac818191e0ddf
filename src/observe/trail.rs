//! The audit trail (section 1.5.4 of the design): what a person did is in the journal before its bytes
//! leave, and in the audit file a moment later.
//!
//! ```text
//!   sessions --notes, event--> journal (mapped memory, survives the process) --writer--> audit-NNNNNN.jsonl
//! ```
//!
//! What always holds: when [`Trail::notes`] or [`Trail::event`] has returned, no death of this process
//! loses the record; it becomes lines of the audit file exactly once, by this process or by the next
//! that opens the trail. A power loss may cost what was committed since the last sync.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use tokio::sync::watch;

use super::audit_file::{AuditFile, Found};
use super::health::Health;
use super::journal::{Journal, NoRoom};
use super::line::{LineWriter, Reading};
use super::metrics::TrailMeters;
use super::record::{Draft, Kind};
use super::recovery;
use super::writer::Writer;
use crate::model::limits::{
    AUDIT_FILE_BYTES_MAX, AUDIT_NOTES_BYTES_MAX, AUDIT_RETRY_MAX, AUDIT_RETRY_MIN, AUDIT_SEGMENT_BYTES_MIN,
    AUDIT_SHARDS_MAX, LABEL_STACK_BYTES,
};
use crate::model::{Event, NoteReader, Notes, SessionContext, SessionId};
use crate::protocol;

#[derive(Debug, Clone)]
pub struct TrailSettings {
    /// Holds the journal segments and the audit files.
    pub directory: PathBuf,
    /// How often what is committed is written and synced.
    pub sync: Duration,
    /// A writer that is this far behind ends the sessions.
    pub lag_bytes_max: u64,
    pub segment_bytes: usize,
    /// About as many as there are workers: two that commit at the same time do not meet.
    pub shards: usize,
    /// `on_failure = "continue"`: a record that cannot be had is counted and dropped, not an error.
    pub continue_on_failure: bool,
}

#[derive(Debug, Clone, thiserror::Error)]
#[error("the audit trail cannot be written: {0}")]
pub struct TrailError(pub String);

/// How the trail is doing, for `/v1/status`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TrailStatus {
    /// Why records cannot be had or written now; `None` when all is well.
    pub failed: Option<String>,
    /// The sequence number up to which everything is safe in the audit file.
    pub safe_to: u64,
    /// Bytes that are committed and not yet safe in the audit file.
    pub backlog_bytes: u64,
    pub records: u64,
    pub lines: u64,
    /// Facts that were dropped (`on_failure = "continue"` only).
    pub dropped: u64,
    /// Journal segments that were not ready in time and had to be made while a session waited.
    pub late_segments: u64,
}

/// A handle; cheap to clone. When the last one is dropped, everything is written first.
#[derive(Clone)]
pub struct Trail {
    handle: Arc<Handle>,
}

/// What the handles and the writer share.
pub(super) struct Shared {
    pub journal: Journal,
    pub health: Health,
    pub meters: TrailMeters,
    /// Facts dropped and not yet said in the file.
    pub dropped: AtomicU64,
    lag_bytes_max: u64,
    /// Everything up to this number is safe in the audit file.
    safe: watch::Sender<u64>,
    stopping: AtomicBool,
    stopped: watch::Sender<bool>,
    thread: OnceLock<Thread>,
}

struct Handle {
    shared: Arc<Shared>,
    join: Mutex<Option<JoinHandle<()>>>,
}

impl Trail {
    /// Finishes what an earlier process left in its journal, checks the end of the chain, starts the writer.
    ///
    /// Reads the whole last audit file, so it may take a second; blocking.
    ///
    /// # Errors
    /// The folder cannot be written, another process uses it, or the segments do not fit the disk.
    pub fn open(settings: TrailSettings) -> Result<Self, TrailError> {
        if settings.segment_bytes < AUDIT_SEGMENT_BYTES_MIN {
            return Err(TrailError(format!(
                "audit.segment_bytes = {} is less than {AUDIT_SEGMENT_BYTES_MIN}, the least there can be",
                settings.segment_bytes
            )));
        }
        // What a dead process has left becomes lines here, on a stack as deep as the writer's.
        let (shared, mut writer, lock) = std::thread::scope(|scope| {
            let preparing = std::thread::Builder::new()
                .stack_size(LABEL_STACK_BYTES)
                .spawn_scoped(scope, || prepare(&settings, AUDIT_FILE_BYTES_MAX))
                .map_err(|error| TrailError(format!("its thread cannot be started: {error}")))?;
            preparing.join().map_err(|_| TrailError("its journal could not be finished".into()))?
        })?;
        let (sync, of_thread) = (settings.sync.max(Duration::from_millis(1)), shared.clone());
        let join = std::thread::Builder::new()
            .name("audit".into())
            .stack_size(LABEL_STACK_BYTES)
            .spawn(move || {
                run(&of_thread, &mut writer, sync);
                // The folder is another process's to use only after the last write.
                drop((writer, lock));
                of_thread.stopped.send_replace(true);
            })
            .map_err(|error| TrailError(format!("its thread cannot be started: {error}")))?;
        // Only set here, once.
        let _ = shared.thread.set(join.thread().clone());
        Ok(Self { handle: Arc::new(Handle { shared, join: Mutex::new(Some(join)) }) })
    }

    /// A trail whose writer is turned by hand, and whose limits may be tiny.
    #[cfg(test)]
    pub(super) fn by_hand(
        settings: &TrailSettings,
        file_bytes_max: u64,
    ) -> Result<(Self, Writer, std::fs::File), TrailError> {
        let (shared, writer, lock) = prepare(settings, file_bytes_max)?;
        Ok((Self { handle: Arc::new(Handle { shared, join: Mutex::new(None) }) }, writer, lock))
    }

    #[cfg(test)]
    pub(super) fn hesitate(&self) {
        self.handle.shared.journal.hesitate.store(true, Ordering::Relaxed);
    }

    /// The notes of one read, copied into the journal. No system call, no allocation; microseconds.
    /// When it returns, the death of this process cannot lose them.
    ///
    /// # Errors
    /// The record cannot be had (see [`Self::failed`]): nothing of what the notes tell of may happen. Never
    /// with `continue_on_failure`, unless the trail is closed or the notes are malformed.
    pub fn notes(&self, context: &SessionContext, notes: &[u8]) -> Result<(), TrailError> {
        let mut reader = NoteReader::new(notes);
        let Some((micros, _)) = reader.next() else {
            return if notes.is_empty() { Ok(()) } else { Err(malformed()) };
        };
        let lines = 1 + reader.by_ref().count() as u32;
        if reader.damaged {
            return Err(malformed());
        }
        if notes.len() > AUDIT_NOTES_BYTES_MAX && lines > 1 {
            return self.split(context, notes);
        }
        let members = context.members().as_bytes();
        let draft = Draft { kind: Kind::Notes, lines, micros, context: members, payload: notes };
        self.handle.shared.submit(context.session, &draft)
    }

    /// Many or long notes become several records. Seldom, so it may allocate.
    #[cold]
    fn split(&self, context: &SessionContext, notes: &[u8]) -> Result<(), TrailError> {
        let mut part = Vec::with_capacity(AUDIT_NOTES_BYTES_MAX * 2);
        let (mut lines, mut first) = (0, 0);
        let submit = |part: &mut Vec<u8>, lines: &mut u32, micros: i64| {
            let members = context.members().as_bytes();
            let draft = Draft { kind: Kind::Notes, lines: *lines, micros, context: members, payload: part };
            let done = self.handle.shared.submit(context.session, &draft);
            part.clear();
            *lines = 0;
            done
        };
        for (micros, note) in NoteReader::new(notes) {
            if lines == 0 {
                first = micros;
            }
            Notes::new(&mut part, micros).push(&note);
            lines += 1;
            if part.len() >= AUDIT_NOTES_BYTES_MAX {
                submit(&mut part, &mut lines, first)?;
            }
        }
        if lines > 0 { submit(&mut part, &mut lines, first) } else { Ok(()) }
    }

    /// The same for a fact that is not a statement.
    pub fn event(&self, event: &Event) -> Result<(), TrailError> {
        if self.handle.shared.health.refusing() {
            return Err(self.handle.shared.error());
        }
        self.end(event)
    }

    /// The same for the fact that something has ended. A trail that cannot be written at the moment, which
    /// ends the sessions, takes it all the same where the journal has room: it is written later.
    pub fn end(&self, event: &Event) -> Result<(), TrailError> {
        let mut payload = Vec::with_capacity(EVENT_BYTES);
        serde_json::to_writer(&mut payload, event)
            .map_err(|error| TrailError(format!("an event has no JSON form: {error}")))?;
        let draft =
            Draft { kind: Kind::Event, lines: 1, micros: now_micros(), context: b"", payload: &payload };
        // Events of no session go where session 0 goes; all that is needed is that it is always the same.
        self.handle.shared.commit(session_of(event).unwrap_or(SessionId::from_u64(0)), &draft)
    }

    /// Waits until everything committed so far is in the audit file and synced. Cancel safe.
    ///
    /// # Errors
    /// The file cannot be written now. What is committed stays in the journal and is written later.
    pub async fn flush(&self) -> Result<(), TrailError> {
        let shared = &self.handle.shared;
        let goal = shared.journal.sequence() - 1;
        let (mut safe, mut stuck, mut stopped) =
            (shared.safe.subscribe(), shared.health.stuck(), shared.stopped.subscribe());
        if *safe.borrow_and_update() >= goal {
            return Ok(());
        }
        shared.wake();
        // The senders live as long as `self`, so no wait ends because one is gone.
        tokio::select! {
            biased;
            _ = safe.wait_for(|safe| *safe >= goal) => return Ok(()),
            _ = stuck.wait_for(|stuck| *stuck) => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
        if *safe.borrow() >= goal { Ok(()) } else { Err(shared.error()) }
    }

    /// Whether the writer is so far behind that no more should be read from clients for a moment.
    /// One load: for the engine to look at before each read, and then to wait for [`Self::room`].
    pub fn crowded(&self) -> bool {
        !self.handle.shared.has_room()
    }

    /// Waits until the backlog is below half of what it may be, or the trail has failed (the next record
    /// says so). Cancel safe.
    pub async fn room(&self) {
        let shared = &self.handle.shared;
        let (mut safe, mut failed) = (shared.safe.subscribe(), shared.health.subscribe());
        shared.wake();
        tokio::select! {
            _ = safe.wait_for(|_| shared.has_room()) => {}
            _ = failed.wait_for(|failed| *failed) => {}
        }
    }

    /// Whether records can be had now; for `/health` and for the sessions' watch.
    pub fn failed(&self) -> watch::Receiver<bool> {
        self.handle.shared.health.subscribe()
    }

    /// Whether records are refused now because the trail has failed; never with `continue_on_failure`.
    pub fn is_refusing(&self) -> bool {
        self.handle.shared.health.refusing()
    }

    /// Waits until records are refused because the trail has failed; never ends with
    /// `continue_on_failure`. Cancel safe.
    pub async fn refused(&self) {
        let health = &self.handle.shared.health;
        let mut failed = health.subscribe();
        // The sender lives as long as `self`.
        if !health.refuses() || failed.wait_for(|failed| *failed).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    pub fn status(&self) -> TrailStatus {
        let shared = &self.handle.shared;
        TrailStatus {
            failed: shared.health.reason(),
            safe_to: shared.safe_to(),
            backlog_bytes: shared.journal.backlog(),
            records: shared.meters.records.get(),
            lines: shared.meters.lines.get(),
            dropped: shared.meters.dropped.get(),
            late_segments: shared.journal.late_segments(),
        }
    }

    pub(super) fn meters(&self) -> &TrailMeters {
        &self.handle.shared.meters
    }

    /// Refuses further records, writes everything, ends the writer. Cancel safe: it goes on by itself.
    ///
    /// # Errors
    /// The file could not be written; the next process that opens the trail finishes it.
    pub async fn close(&self) -> Result<(), TrailError> {
        let shared = &self.handle.shared;
        shared.stop();
        let mut stopped = shared.stopped.subscribe();
        // The sender lives as long as `self`.
        let _ = stopped.wait_for(|stopped| *stopped).await;
        if shared.safe_to() + 1 == shared.journal.sequence() { Ok(()) } else { Err(shared.error()) }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.stop();
        let join = self.join.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(join) = join {
            // The writer does not panic; and if it did, the journal has everything.
            let _ = join.join();
        }
    }
}

impl Shared {
    fn submit(&self, session: SessionId, draft: &Draft<'_>) -> Result<(), TrailError> {
        if self.health.refusing() {
            return Err(self.error());
        }
        self.commit(session, draft)
    }

    fn commit(&self, session: SessionId, draft: &Draft<'_>) -> Result<(), TrailError> {
        // The upper bits of an id are its time, the lower ones are random or counted: mix them.
        let shard = session.as_u64().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        match self.journal.commit(shard as usize, draft) {
            Ok(wake) => {
                if wake {
                    self.wake();
                }
                Ok(())
            }
            Err(reason) => self.not_committed(&reason, draft.lines),
        }
    }

    #[cold]
    fn not_committed(&self, reason: &NoRoom, lines: u32) -> Result<(), TrailError> {
        if matches!(reason, NoRoom::Closed) {
            return Err(TrailError(reason.to_string()));
        }
        if !matches!(reason, NoRoom::TooLong(..)) {
            self.health.starved(Some(reason.to_string()));
        }
        self.wake();
        if self.health.refuses() {
            return Err(TrailError(reason.to_string()));
        }
        self.dropped.fetch_add(u64::from(lines), Ordering::Relaxed);
        self.meters.dropped.inc_by(u64::from(lines));
        Ok(())
    }

    fn error(&self) -> TrailError {
        TrailError(self.health.reason().unwrap_or_else(|| NoRoom::Closed.to_string()))
    }

    /// A system call only if the writer sleeps.
    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.wake();
    }

    /// Half of what may wait, so that a trail that has failed does not come and go.
    pub fn has_room(&self) -> bool {
        self.journal.backlog() <= self.lag_bytes_max / 2
    }

    /// A quarter of what may wait does.
    pub fn is_behind(&self) -> bool {
        self.journal.backlog() > self.lag_bytes_max / 4
    }

    pub fn safe_to(&self) -> u64 {
        *self.safe.borrow()
    }

    pub fn set_safe(&self, sequence: u64) {
        self.safe.send_replace(sequence);
    }
}

/// The writer's thread: a turn every `sync`, and at once when woken. After a failure it waits longer
/// each time, and cannot be woken but to stop.
fn run(shared: &Shared, writer: &mut Writer, sync: Duration) {
    let mut retry = AUDIT_RETRY_MIN;
    loop {
        let stopping = shared.stopping.load(Ordering::Acquire);
        if stopping {
            shared.journal.close();
        }
        let done = writer.turn();
        if stopping {
            // A last batch that only just made the file full leaves a new file to begin: the next
            // process does that.
            return;
        }
        if done {
            retry = AUDIT_RETRY_MIN;
            std::thread::park_timeout(sync);
        } else {
            let until = Instant::now() + retry;
            while let Some(rest) = until.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero())
                && !shared.stopping.load(Ordering::Acquire)
            {
                std::thread::park_timeout(rest);
            }
            retry = (retry * 2).min(AUDIT_RETRY_MAX);
        }
    }
}

/// Everything of `open` but the thread.
fn prepare(
    settings: &TrailSettings,
    file_bytes_max: u64,
) -> Result<(Arc<Shared>, Writer, std::fs::File), TrailError> {
    let directory = settings.directory.as_path();
    let journal = directory.join("journal");
    let fail = |what: &Path| {
        let what = what.display().to_string();
        move |error: io::Error| TrailError(format!("{what}: {error}"))
    };
    make_folder(directory).and_then(|()| make_folder(&journal)).map_err(fail(&journal))?;
    let lock = lock(&journal.join("lock"))?;

    let mut lines = LineWriter::new(|name| {
        let entry = protocol::by_name(name)?;
        Some(Reading { describe: entry.describe_parameters, label: entry.label_statement })
    });
    let Found { mut file, highest } =
        AuditFile::open(directory, &mut lines, now_micros()).map_err(fail(directory))?;
    let mut left = recovery::read(&journal, highest).map_err(fail(&journal))?;
    left.start.sequence = recover(&left, highest, &mut file, &mut lines).map_err(fail(directory))?;
    for path in &left.files {
        std::fs::remove_file(path).map_err(fail(path))?;
    }
    let shards = settings.shards.clamp(1, AUDIT_SHARDS_MAX);
    let created =
        Journal::create(journal.clone(), shards, settings.segment_bytes, settings.lag_bytes_max, left.start);
    let shared = Arc::new(Shared {
        journal: created.map_err(fail(&journal))?,
        health: Health::new(!settings.continue_on_failure),
        meters: TrailMeters::new().map_err(|error| TrailError(error.to_string()))?,
        dropped: AtomicU64::new(0),
        lag_bytes_max: settings.lag_bytes_max,
        safe: watch::Sender::new(left.start.sequence - 1),
        stopping: AtomicBool::new(false),
        stopped: watch::Sender::new(false),
        thread: OnceLock::new(),
    });
    let writer = Writer::new(shared.clone(), file, lines, file_bytes_max);
    Ok((shared, writer, lock))
}

/// Writes what a dead process has left; returns the next sequence number.
fn recover(
    left: &recovery::Leftover,
    highest: u64,
    file: &mut AuditFile,
    lines: &mut LineWriter,
) -> io::Result<u64> {
    let next = left.start.sequence;
    if left.records.is_empty() {
        return Ok(next);
    }
    for record in left.records.iter().filter_map(recovery::Owned::record) {
        lines.record(&record, highest, |_, write| file.line(write))?;
    }
    let records = left.records.len() as u64;
    let event = serde_json::to_vec(&Event::JournalRecovered { records })?;
    let draft = Draft { kind: Kind::Event, lines: 1, micros: now_micros(), context: b"", payload: &event };
    lines.record(&draft.at(next), highest, |_, write| file.line(write))?;
    file.sync()?;
    tracing::info!(records, "finished the journal of a process that had ended early");
    Ok(next + 1)
}

fn make_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// One process per trail: two writers would break the chain. Held as long as the file is open.
fn lock(path: &Path) -> Result<std::fs::File, TrailError> {
    let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(path);
    let file = file.map_err(|error| TrailError(format!("{}: {error}", path.display())))?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|error| {
        let why = if error == rustix::io::Errno::WOULDBLOCK {
            "another process writes this trail".to_owned()
        } else {
            error.to_string()
        };
        TrailError(format!("{}: {why}", path.display()))
    })?;
    Ok(file)
}

/// As long as most events are at most.
const EVENT_BYTES: usize = 512;

fn malformed() -> TrailError {
    TrailError("the notes of a session are malformed".into())
}

pub(super) fn now_micros() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

fn session_of(event: &Event) -> Option<SessionId> {
    match event {
        Event::LoginAccepted { start, .. } | Event::SessionStart { start, .. } => Some(start.session),
        Event::LoginRefused(denied) | Event::RequestRefused { denied, .. } => Some(denied.session),
        Event::SessionEnd(end) => Some(end.session),
        Event::SessionMoved { session, .. }
        | Event::SessionParked { session, .. }
        | Event::SessionResumed { session, .. }
        | Event::Cancel { session, .. }
        | Event::Kill { session, .. } => Some(*session),
        Event::NodeStart { .. }
        | Event::NodeStop { .. }
        | Event::JournalRecovered { .. }
        | Event::LoginsRefused { .. }
        | Event::Admin(_)
        | Event::Alarm { .. } => None,
    }
}
