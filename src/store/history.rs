//! The history of sessions: for lists and look-ups. The audit trail is the record.

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::sync::atomic::Ordering;

use sqlx::SqlitePool;

use super::failure::Trouble;
use super::rows::{Reader, time};
use super::{SessionRow, Store, StoreError};
use crate::model::limits::{SESSION_ROWS_MAX, SESSION_ROWS_SWEEP};
use crate::model::{Name, SessionId, Time};

/// Rows of one statement. Each number is a statement of its own, which stays prepared.
const PIECES: [usize; 3] = [64, 8, 1];
const COLUMNS: usize = 15;

/// Writes these rows in one transaction, each in the place of an earlier one of its session: a crowd that comes
/// and goes costs one write and not one each.
pub(super) async fn put(pool: &SqlitePool, mut rows: &[&SessionRow]) -> Result<(), Trouble> {
    static TEXTS: LazyLock<[String; PIECES.len()]> = LazyLock::new(|| PIECES.map(insert));
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    for (count, text) in PIECES.into_iter().zip(&*TEXTS) {
        while let Some((piece, rest)) = rows.split_at_checked(count) {
            let query = sqlx::query(text.as_str());
            piece.iter().fold(query, |query, row| bind(query, row)).execute(&mut *transaction).await?;
            rows = rest;
        }
    }
    transaction.commit().await?;
    Ok(())
}

fn insert(rows: usize) -> String {
    let row = format!("({})", ["?"; COLUMNS].join(", "));
    format!(
        "INSERT OR REPLACE INTO sessions (id, user_name, target, level, grant_id, database, peer, protocol, \
         started_at, ended_at, how, code, statements, bytes_up, bytes_down) VALUES {}",
        vec![row; rows].join(", ")
    )
}

type Insert<'a> = sqlx::query::Query<'a, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

fn bind<'a>(insert: Insert<'a>, row: &'a SessionRow) -> Insert<'a> {
    // SQLite's numbers have a sign; nobody transfers 9 exabytes in a session.
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    insert
        .bind(row.session.to_string())
        .bind(row.user.as_str())
        .bind(row.target.as_str())
        .bind(row.level.as_str())
        .bind(row.grant.to_string())
        .bind(row.database.as_deref())
        .bind(row.peer.as_str())
        .bind(row.protocol.as_str())
        .bind(time(row.started_at))
        .bind(row.ended_at.map(time))
        .bind(row.how.as_deref())
        .bind(row.code.as_deref())
        .bind(number(row.statements))
        .bind(number(row.bytes_up))
        .bind(number(row.bytes_down))
}

pub(super) async fn newest(pool: &SqlitePool, limit: u32) -> Result<Vec<SessionRow>, Trouble> {
    let rows =
        sqlx::query("SELECT * FROM sessions ORDER BY id DESC LIMIT ?").bind(limit).fetch_all(pool).await?;
    rows.iter().map(|row| Reader::new(row, "sessions").session()).collect()
}

pub(super) async fn one(pool: &SqlitePool, id: SessionId) -> Result<Option<SessionRow>, Trouble> {
    let row =
        sqlx::query("SELECT * FROM sessions WHERE id = ?").bind(id.to_string()).fetch_optional(pool).await?;
    row.map(|row| Reader::new(&row, "sessions").session()).transpose()
}

/// Targets of sessions that have ended.
pub(super) async fn targets_of_ended(pool: &SqlitePool) -> Result<BTreeSet<Name>, Trouble> {
    let rows = sqlx::query("SELECT DISTINCT target FROM sessions WHERE ended_at IS NOT NULL")
        .fetch_all(pool)
        .await?;
    rows.iter().map(|row| Reader::new(row, "sessions").parsed("target")).collect()
}

/// What a dead process left open has ended, nobody knows when.
pub(super) async fn close_lost(pool: &SqlitePool, at: Time) -> Result<(), Trouble> {
    sqlx::query("UPDATE sessions SET ended_at = ?, how = 'lost' WHERE ended_at IS NULL")
        .bind(time(at))
        .execute(pool)
        .await?;
    Ok(())
}

impl Store {
    /// Cuts the history to size now and then. The caller has the turn.
    pub(super) async fn sweep_sometimes(&self, written: usize) -> Result<(), StoreError> {
        let written = u32::try_from(written).unwrap_or(u32::MAX);
        if self.inner.unswept.fetch_add(written, Ordering::Relaxed).saturating_add(written)
            >= SESSION_ROWS_SWEEP
        {
            self.sweep().await?;
        }
        Ok(())
    }

    /// Removes the oldest sessions that have ended, down to [`SESSION_ROWS_MAX`] rows.
    pub(super) async fn sweep(&self) -> Result<(), StoreError> {
        self.inner.unswept.store(0, Ordering::Relaxed);
        sweep(&self.inner.history, SESSION_ROWS_MAX).await.map_err(|trouble| self.failed(trouble))
    }
}

pub(super) async fn sweep(pool: &SqlitePool, rows_max: u32) -> Result<(), Trouble> {
    sqlx::query(
        "DELETE FROM sessions WHERE ended_at IS NOT NULL AND id <= \
         (SELECT id FROM sessions ORDER BY id DESC LIMIT 1 OFFSET ?)",
    )
    .bind(rows_max)
    .execute(pool)
    .await?;
    Ok(())
}
