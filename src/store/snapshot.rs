use sqlx::SqlitePool;

use super::failure::Trouble;
use super::rows::{Reader, time};
use crate::model::limits::ENDED_KEPT;
use crate::model::{Snapshot, Time};

/// The four tables at one moment: one transaction, so one state of the database.
pub(super) async fn read(readers: &SqlitePool, now: Time) -> Result<Snapshot, Trouble> {
    let ended_since = time(now.checked_sub(ENDED_KEPT).unwrap_or(Time::MIN));
    let now = time(now);
    let mut moment = readers.begin().await?;
    let users = sqlx::query("SELECT * FROM users ORDER BY name").fetch_all(&mut *moment).await?;
    let targets = sqlx::query("SELECT * FROM targets ORDER BY name").fetch_all(&mut *moment).await?;
    // An ended grant stays in sight while its window is open, so that applying the file it came from
    // never opens it again.
    let grants = sqlx::query(
        "SELECT * FROM grants WHERE ended_at IS NULL OR ended_at >= ?1 OR ends_at > ?2 ORDER BY id",
    )
    .bind(&ended_since)
    .bind(&now)
    .fetch_all(&mut *moment)
    .await?;
    let credentials =
        sqlx::query("SELECT * FROM credentials WHERE ended_at IS NULL OR ended_at >= ?1 ORDER BY id")
            .bind(&ended_since)
            .fetch_all(&mut *moment)
            .await?;
    moment.commit().await?;
    Ok(Snapshot {
        users: users.iter().map(|row| Reader::new(row, "users").user()).collect::<Result<_, _>>()?,
        targets: targets.iter().map(|row| Reader::new(row, "targets").target()).collect::<Result<_, _>>()?,
        grants: grants.iter().map(|row| Reader::new(row, "grants").grant()).collect::<Result<_, _>>()?,
        credentials: credentials
            .iter()
            .map(|row| Reader::new(row, "credentials").credential())
            .collect::<Result<_, _>>()?,
    })
}
