use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sqlx::Connection;

use super::failure::{Trouble, failed};
use super::{StoreError, open};

/// Copies into a private file beside `file`, syncs it, and gives it its name only then. A connection of its
/// own, which neither waits for writers nor keeps them waiting.
pub(super) async fn backup(store: &Path, file: &Path) -> Result<(), StoreError> {
    let not_written = |error: io::Error| {
        StoreError::Refused(format!("the backup {} cannot be written: {error}", file.display()))
    };
    if file.symlink_metadata().is_ok() {
        return Err(exists(file));
    }
    let file = std::path::absolute(file).map_err(not_written)?;
    let mut aside = file.as_os_str().to_owned();
    // Its own name each time: of two backups to one place neither removes what the other writes.
    let random = getrandom::u64().map_err(|error| not_written(io::Error::other(error.to_string())))?;
    aside.push(format!(".new-{random:016x}"));
    let aside = PathBuf::from(aside);
    let name = aside.to_str().ok_or_else(|| {
        StoreError::Refused(format!(
            "the backup {} cannot be written: SQLite needs a name in UTF-8",
            file.display()
        ))
    })?;
    // Made here for its mode: SQLite writes into an empty file as it is.
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside).map_err(not_written)?;
    let aside = Aside(&aside);

    let at_place = |error: sqlx::Error| match error {
        // Of the copy, or of the store: either way the message says what is full or unwritable.
        sqlx::Error::Database(error) => StoreError::Refused(format!(
            "the backup {} cannot be written: SQLite says: {}",
            file.display(),
            error.message()
        )),
        error => Trouble::from(error).at(store),
    };
    let mut connection = open::connect_once(store).await.map_err(at_place)?;
    let copied = sqlx::query("VACUUM INTO ?").bind(name).execute(&mut connection).await;
    connection.close().await.map_err(at_place)?;
    copied.map_err(at_place)?;

    let (file, from) = (file.clone(), aside.0.to_owned());
    let place = store.to_owned();
    let named = tokio::task::spawn_blocking(move || name_it(&from, &file)).await;
    named.unwrap_or_else(|error| Err(failed(&place, format!("could not be copied: {error}"))))
}

fn name_it(from: &Path, file: &Path) -> Result<(), StoreError> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    let named = File::open(from).and_then(|copy| copy.sync_all()).and_then(|()| {
        // Unlike a rename this never replaces what is there.
        std::fs::hard_link(from, file)
    });
    let synced = named.and_then(|()| File::open(folder)?.sync_all());
    synced.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => exists(file),
        _ => StoreError::Refused(format!("the backup {} cannot be written: {error}", file.display())),
    })
}

fn exists(file: &Path) -> StoreError {
    StoreError::Refused(format!(
        "{} exists already and is not overwritten; name another file",
        file.display()
    ))
}

/// Removed however the backup ends.
struct Aside<'a>(&'a Path);

impl Drop for Aside<'_> {
    fn drop(&mut self) {
        // A failure leaves a file behind that the next message of the file system will be about.
        let _ = std::fs::remove_file(self.0);
    }
}
