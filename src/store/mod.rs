//! Grants, users, targets, credentials and the history of sessions, kept in one SQLite file.
//!
//! One connection writes, in turn; a few others read. Changes of resources are synced to the disk before
//! they count ([`Store::apply`]); the history of sessions is written without waiting for the disk, since
//! the audit trail has the same facts: a killed process loses none of it, a power loss may cost its last
//! rows.

mod apply;
mod backup;
mod failure;
mod history;
mod open;
mod rows;
mod snapshot;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use serde::{Deserialize, Serialize};
use sqlx::SqlitePool;
use tokio::sync::{Mutex, MutexGuard};

use crate::model::{AccessLevel, Change, GrantId, Name, SessionId, Snapshot, Time};
use failure::Trouble;

pub(crate) use open::database_path;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The change itself is wrong: it names something that is not there, for example. Shown to the
    /// administrator as it is.
    #[error("{0}")]
    Refused(String),
    #[error("the store at {place} {what}")]
    Failed { place: String, what: String },
}

/// One session in the history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionRow {
    pub session: SessionId,
    pub user: Name,
    pub target: Name,
    pub level: AccessLevel,
    pub grant: GrantId,
    pub database: Option<String>,
    pub peer: String,
    pub protocol: String,
    pub started_at: Time,
    pub ended_at: Option<Time>,
    /// `cut`, `close`, `drain`; `lost` where the process died with it.
    pub how: Option<String>,
    pub code: Option<String>,
    pub statements: u64,
    pub bytes_up: u64,
    pub bytes_down: u64,
}

/// A handle; cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    /// One connection that waits for the disk at each commit.
    writer: SqlitePool,
    /// One connection that does not.
    history: SqlitePool,
    readers: SqlitePool,
    /// Held while either of the two writes: SQLite takes one writer at a time, and waits by sleeping.
    turn: Mutex<()>,
    /// Sessions since the history was last cut to size.
    unswept: AtomicU32,
    /// Kept locked as long as the store is open: a second process would take this one's sessions for lost.
    _lock: std::fs::File,
}

impl Store {
    /// Opens or makes the database, migrates it, closes sessions that a dead process left open.
    /// `url` is `sqlite:PATH`, a relative path starting at `base`.
    pub async fn open(url: &str, base: &Path) -> Result<Self, StoreError> {
        open::open(url, base).await
    }

    /// Whether [`Self::open`] has a chance, as far as can be seen without making or changing anything. An
    /// open store is left alone. Not to be called in the process that has this store open.
    pub fn check(url: &str, base: &Path) -> Result<(), StoreError> {
        open::check(url, base)
    }

    /// All that decides who may go where: what is live, what ended within
    /// [`ENDED_KEPT`](crate::model::limits::ENDED_KEPT), and ended grants whose window is not over.
    pub async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        snapshot::read(&self.inner.readers, Time::now()).await.map_err(|trouble| self.failed(trouble))
    }

    /// All of it or nothing, durable when it returns. What is refused names the change that is wrong.
    ///
    /// Cancel safe in that it stays all or nothing; whether it was all is then unknown.
    pub async fn apply(&self, changes: &[Change], at: Time) -> Result<(), StoreError> {
        let _turn = self.turn().await;
        apply::apply(&self.inner.writer, changes, at).await.map_err(|trouble| self.failed(trouble))
    }

    /// Writes rows of the session history, each in the place of an earlier one of the same session.
    pub async fn keep_sessions(&self, rows: &[&SessionRow]) -> Result<(), StoreError> {
        let _turn = self.turn().await;
        history::put(&self.inner.history, rows).await.map_err(|trouble| self.failed(trouble))?;
        self.sweep_sometimes(rows.len()).await
    }

    /// Newest first.
    pub async fn sessions(&self, limit: u32) -> Result<Vec<SessionRow>, StoreError> {
        history::newest(&self.inner.readers, limit).await.map_err(|trouble| self.failed(trouble))
    }

    pub async fn session(&self, id: SessionId) -> Result<Option<SessionRow>, StoreError> {
        history::one(&self.inner.readers, id).await.map_err(|trouble| self.failed(trouble))
    }

    /// Targets that had sessions which have ended.
    pub async fn targets_of_ended(&self) -> Result<BTreeSet<Name>, StoreError> {
        history::targets_of_ended(&self.inner.readers).await.map_err(|trouble| self.failed(trouble))
    }

    /// A consistent copy while in use (`VACUUM INTO`), of mode 600, on the disk when it returns; refuses
    /// to overwrite. `file` is not there until it is whole.
    pub async fn backup(&self, file: &Path) -> Result<(), StoreError> {
        backup::backup(&self.inner.path, file).await
    }

    /// Closes the database in order, so that no `-wal` file is left beside it. Not needed for safety.
    pub async fn close(self) {
        self.inner.readers.close().await;
        self.inner.history.close().await;
        self.inner.writer.close().await;
    }

    async fn turn(&self) -> MutexGuard<'_, ()> {
        self.inner.turn.lock().await
    }

    fn failed(&self, trouble: Trouble) -> StoreError {
        trouble.at(&self.inner.path)
    }
}

#[cfg(test)]
mod tests;
