use std::path::PathBuf;
use std::time::Duration;

use crate::model::{Event, SessionContext};

#[derive(Debug, Clone)]
pub struct TrailSettings {
    /// Holds the journal segments and the audit files.
    pub directory: PathBuf,
    pub sync: Duration,
    /// A writer that is this far behind ends the sessions.
    pub lag_bytes_max: u64,
    pub segment_bytes: usize,
    pub shards: usize,
    /// `on_failure = "continue"`: a record that cannot be had is counted and dropped, not an error.
    pub continue_on_failure: bool,
}

#[derive(Debug, Clone, thiserror::Error)]
#[error("the audit trail cannot be written: {0}")]
pub struct TrailError(pub String);

/// A handle; cheap to clone.
#[derive(Clone)]
pub struct Trail {}

impl Trail {
    /// Finishes what an earlier process left in its journal, checks the end of the chain, starts the writer.
    pub fn open(_settings: TrailSettings) -> Result<Self, TrailError> {
        todo!()
    }
    /// The notes of one read, copied into the journal. No system call, no allocation; microseconds.
    /// When it returns, the death of this process cannot lose them.
    pub fn notes(&self, _context: &SessionContext, _notes: &[u8]) -> Result<(), TrailError> {
        todo!()
    }
    /// The same for a fact that is not a statement.
    pub fn event(&self, _event: &Event) -> Result<(), TrailError> {
        todo!()
    }
    /// Waits until everything committed so far is in the audit file and synced.
    pub async fn flush(&self) -> Result<(), TrailError> {
        todo!()
    }
    /// Whether records can be had now; for `/health` and for the sessions' watch.
    pub fn failed(&self) -> tokio::sync::watch::Receiver<bool> {
        todo!()
    }
}
