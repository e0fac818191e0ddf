//! What can go wrong below, as one sentence each.

use std::path::Path;

use sqlx::migrate::MigrateError;

use super::StoreError;

/// An error before it is known which store it is about.
#[derive(Debug)]
pub(super) enum Trouble {
    Refused(String),
    Sql(sqlx::Error),
    /// A row holds what we never wrote.
    Row(String),
}

impl Trouble {
    pub fn at(self, place: &Path) -> StoreError {
        match self {
            Self::Refused(sentence) => StoreError::Refused(sentence),
            Self::Sql(error) => failed(place, sentence(&error)),
            Self::Row(what) => failed(
                place,
                format!("holds what this version never writes ({what}); restore it from a backup"),
            ),
        }
    }
}

impl From<sqlx::Error> for Trouble {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

pub(super) fn failed(place: &Path, what: impl Into<String>) -> StoreError {
    StoreError::Failed { place: place.display().to_string(), what: what.into() }
}

pub(super) fn migration_failed(place: &Path, error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            failed(place, sentence(&error))
        }
        MigrateError::VersionMissing(version) => failed(
            place,
            format!(
                "was last used by a newer version of tidegate (schema {version}); run that version, or restore a backup \
                 made before it"
            ),
        ),
        error => failed(place, format!("has a schema that is not ours: {error}")),
    }
}

/// The predicate of "the store at PLACE …". Codes: <https://www.sqlite.org/rescode.html>; the lowest
/// eight bits of an extended code are the primary one.
fn sentence(error: &sqlx::Error) -> String {
    let code = match error {
        sqlx::Error::Database(error) => error.code().and_then(|code| code.parse::<i32>().ok()),
        sqlx::Error::PoolTimedOut => return "is too busy: no connection to it came free in time".to_owned(),
        sqlx::Error::Io(error) => return format!("cannot be used: {error}"),
        _ => None,
    };
    match code.map(|code| code & 0xff) {
        Some(13) => "is on a full disk: nothing was changed; free some space and try again".to_owned(),
        Some(8) => "cannot be written: the file, its folder or the disk is read-only".to_owned(),
        Some(10) => "cannot be read or written: the disk reports an error (see the system's log)".to_owned(),
        Some(11) => "is damaged: restore it from a backup (tidegate backup makes them)".to_owned(),
        Some(26) => {
            "is not an SQLite database; name another file in [store] url, or restore a backup".to_owned()
        }
        Some(14) => {
            "cannot be opened: check that its folder exists and that this user may write to it".to_owned()
        }
        Some(5 | 6) => "is locked by another program; stop what holds it and try again".to_owned(),
        _ => format!("does not work: {error}"),
    }
}
