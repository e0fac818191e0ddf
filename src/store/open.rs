//! Finds the file, makes it privately, locks it, brings its schema up to date.

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use rustix::fs::{Access, FlockOperation};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqlSafeStr};
use tokio::sync::Mutex;

use super::failure::{Trouble, failed, migration_failed};
use super::{Inner, Store, StoreError};
use crate::model::Time;
use crate::model::limits::{STORE_BUSY, STORE_READERS};

/// What the first migration sets.
const APPLICATION_ID: u32 = u32::from_be_bytes(*b"TIDG");
/// The first bytes of a database (<https://www.sqlite.org/fileformat.html>, section 1.3).
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// How long a reader may wait for one of the few connections.
const ACQUIRE: Duration = Duration::from_secs(10);

/// How often, and after what pause, a lock that another process holds is tried again.
const LOCK_TRIES: u32 = 25;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// The file that `url` names. The error is a sentence about the url.
pub(crate) fn database_path(url: &str, base: &Path) -> Result<PathBuf, String> {
    const RIGHT: &str = "must be sqlite:PATH, such as \"sqlite:state/tidegate.db\"";
    if url.starts_with("postgres:") || url.starts_with("postgresql:") {
        return Err(format!("a PostgreSQL store is not built yet; {RIGHT}"));
    }
    let path = url.strip_prefix("sqlite:").ok_or(RIGHT)?;
    // sqlite://PATH, as other programs write it.
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() || path.ends_with('/') || path.contains(['?', '\0']) {
        return Err(RIGHT.to_owned());
    }
    if path == ":memory:" {
        return Err(format!("a store in memory forgets every grant; {RIGHT}"));
    }
    // SQLite takes a name that begins with `file:` for a URL; an absolute one cannot.
    std::path::absolute(base.join(path)).map_err(|error| format!("cannot be found: {error}"))
}

pub(super) fn check(url: &str, base: &Path) -> Result<(), StoreError> {
    let path = database_path(url, base).map_err(|what| failed(Path::new(url), what))?;
    match std::fs::metadata(&path) {
        Ok(metadata) => {
            inspect(&path, &metadata)?;
            if !usable(&path, Access::READ_OK | Access::WRITE_OK) {
                return Err(failed(&path, "cannot be read and written by this user"));
            }
            writable_folder(&path)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => writable_folder(&path),
        Err(error) => Err(failed(&path, format!("cannot be looked at: {error}"))),
    }
}

/// The nearest folder above `path` that exists can be written to.
fn writable_folder(path: &Path) -> Result<(), StoreError> {
    let there = path.ancestors().skip(1).find(|folder| folder.as_os_str().is_empty() || folder.exists());
    let folder = there.filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(failed(path, format!("cannot be made: {} is not a folder", folder.display())));
    }
    if !usable(folder, Access::WRITE_OK | Access::EXEC_OK) {
        return Err(failed(
            path,
            format!("cannot be used: this user may not write to the folder {}", folder.display()),
        ));
    }
    Ok(())
}

fn usable(path: &Path, access: Access) -> bool {
    rustix::fs::access(path, access).is_ok()
}

/// Whether the file may be our database.
fn inspect(path: &Path, metadata: &Metadata) -> Result<(), StoreError> {
    if !metadata.is_file() {
        return Err(failed(path, "is not a file; name a file in [store] url"));
    }
    if metadata.mode() & 0o077 != 0 {
        let mode = metadata.mode() & 0o777;
        return Err(failed(
            path,
            format!("can be read or written by other users (mode {mode:03o}); run chmod 600 on it"),
        ));
    }
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(100).read_to_end(&mut head));
    read.map_err(|error| failed(path, format!("cannot be read: {error}")))?;
    if head.is_empty() {
        return Ok(());
    }
    if !head.starts_with(MAGIC) {
        return Err(failed(
            path,
            "is not an SQLite database; name another file in [store] url, or restore a backup",
        ));
    }
    // Bytes 68 to 71: the application id. It is 0 while the first migration is still in the `-wal` file.
    match head.get(68..72) {
        Some(id) if id == APPLICATION_ID.to_be_bytes() || id == [0; 4] => Ok(()),
        _ => Err(foreign(path)),
    }
}

fn foreign(path: &Path) -> StoreError {
    failed(path, "is a database of another program; name another file in [store] url")
}

pub(super) async fn open(url: &str, base: &Path) -> Result<Store, StoreError> {
    let path = database_path(url, base).map_err(|what| failed(Path::new(url), what))?;
    let lock = make_private(&path).await?;
    let options = SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(false)
        .foreign_keys(true)
        .busy_timeout(STORE_BUSY)
        .disable_statement_logging();
    refuse_foreign(&path, &options).await?;

    let options = options.journal_mode(SqliteJournalMode::Wal);
    let full = options.clone().synchronous(SqliteSynchronous::Full);
    let normal = options.clone().synchronous(SqliteSynchronous::Normal);
    let at_place = |error: sqlx::Error| Trouble::from(error).at(&path);
    let writer = one_connection().connect_with(full).await.map_err(at_place)?;
    migrations().run(&writer).await.map_err(|error| migration_failed(&path, error))?;
    let history = one_connection().connect_with(normal).await.map_err(at_place)?;
    let readers = SqlitePoolOptions::new()
        .max_connections(STORE_READERS)
        .acquire_timeout(ACQUIRE)
        .connect_lazy_with(options.read_only(true));

    super::history::close_lost(&writer, Time::now()).await.map_err(|trouble| trouble.at(&path))?;
    let inner = Inner {
        path,
        writer,
        history,
        readers,
        turn: Mutex::new(()),
        unswept: AtomicU32::new(0),
        _lock: lock,
    };
    let store = Store { inner: Arc::new(inner) };
    store.sweep().await?;
    Ok(store)
}

/// One connection that stays: opening one anew costs more than anything that it is asked.
fn one_connection() -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(1)
        .min_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(ACQUIRE)
}

/// Makes folder and file where they are missing, for us alone, and locks the store.
async fn make_private(path: &Path) -> Result<File, StoreError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| failed(path, format!("cannot be made: the folder {}: {error}", folder.display())))?;
    let lock = lock(path).await?;
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(lock),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let metadata = std::fs::metadata(path);
            let metadata = metadata.map_err(|error| failed(path, format!("cannot be looked at: {error}")))?;
            inspect(path, &metadata)?;
            Ok(lock)
        }
        Err(error) => Err(failed(path, format!("cannot be made: {error}"))),
    }
}

/// In a file of its own: closing any handle of the database itself would drop SQLite's own locks
/// (<https://www.sqlite.org/howtocorrupt.html>, section 2.2).
async fn lock(path: &Path) -> Result<File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&name);
    let file = file.map_err(|error| {
        failed(path, format!("cannot be locked: {}: {error}", Path::new(&name).display()))
    })?;
    for _ in 0..LOCK_TRIES {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            // A process that was told to stop, or a child between fork and exec, is about to let go.
            Err(rustix::io::Errno::WOULDBLOCK) => tokio::time::sleep(LOCK_PAUSE).await,
            Err(errno) => return Err(failed(path, format!("cannot be locked: {errno}"))),
        }
    }
    Err(failed(path, "is in use by another tidegate process; stop that one first"))
}

/// Looks at the tables before anything is changed.
async fn refuse_foreign(path: &Path, options: &SqliteConnectOptions) -> Result<(), StoreError> {
    let at_place = |error: sqlx::Error| Trouble::from(error).at(path);
    let mut connection = options.connect().await.map_err(at_place)?;
    let id: i64 =
        sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut connection).await.map_err(at_place)?;
    // A first start that died early may have left the table of migrations alone.
    let tables: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM sqlite_schema WHERE name NOT LIKE '\\_sqlx\\_%' ESCAPE '\\' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
    )
    .fetch_one(&mut connection)
    .await
    .map_err(at_place)?;
    connection.close().await.map_err(at_place)?;
    if id == i64::from(APPLICATION_ID) || (id == 0 && tables == 0) { Ok(()) } else { Err(foreign(path)) }
}

fn migrations() -> Migrator {
    let first = include_str!("migrations/0001_first.sql").into_sql_str();
    let mysql_native = include_str!("migrations/0002_mysql_native.sql").into_sql_str();
    Migrator::with_migrations(vec![
        Migration::new(1, "first".into(), MigrationType::Simple, first, false),
        Migration::new(2, "mysql native".into(), MigrationType::Simple, mysql_native, false),
    ])
}

/// One connection for one thing, as a backup needs it.
pub(super) async fn connect_once(path: &Path) -> Result<sqlx::SqliteConnection, sqlx::Error> {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .busy_timeout(STORE_BUSY)
        .disable_statement_logging()
        .connect()
        .await
}
