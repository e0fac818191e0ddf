//! The node file: what this process listens on and where it keeps things (design 1.2).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::table::{Table, Value, listed, read_file};
use super::{Listener, Mistake, protocols};
use crate::model::Name;
use crate::model::limits::{AUDIT_TEXT_BYTES_MAX, INSPECT_BYTES_MAX};
use crate::store::Store;

/// The node file, validated, with every path resolved against the file's own folder.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeConfig {
    pub listeners: Vec<Listener>,
    /// One certificate for all listeners.
    pub tls: Option<TlsFiles>,
    /// As it stands in the file; the store resolves a relative path against `base`.
    pub store_url: String,
    /// The folder of the node file.
    pub base: PathBuf,
    pub secret_directory: PathBuf,
    pub audit: Audit,
    pub admin: Admin,
    pub limits: Limits,
    pub bodies: Bodies,
    /// 32 random bytes as hexadecimal digits; made at the first start.
    pub keys_file: PathBuf,
    pub log: Log,
}

/// PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, the listener's own certificate first.
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// The audit trail (design 1.5.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    pub directory: PathBuf,
    /// How often the trail is synced to disk: what a power loss may cost.
    pub sync: Duration,
    /// A writer that is further behind counts as failed.
    pub lag_bytes_max: u64,
    /// Size of one preallocated journal segment.
    pub segment_bytes: usize,
    /// Sessions go on when the trail cannot be written.
    pub continue_on_failure: bool,
    /// Statement text kept in one audit line.
    pub text_bytes_max: usize,
}

/// Where administrators reach this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    pub socket: PathBuf,
    /// May use the socket besides root and the node's own uid.
    pub uids: Vec<u32>,
    /// `/metrics` and `/health` over HTTP; `None`: not served.
    pub address: Option<SocketAddr>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Worker threads, at least one.
    pub workers: usize,
    /// From the accepted connection to the end of the login.
    pub login: Duration,
    /// A session without a running query is ended after this long; `None`: never.
    pub idle: Option<Duration>,
    /// A session is ended after this long; `None`: never.
    pub session: Option<Duration>,
    /// A session that has been idle this long gives its connection back if it can; `None`: never.
    pub park: Option<Duration>,
    /// How long ahead of the end of its access a client is told; `None`: not at all.
    pub notice: Option<Duration>,
    /// What living sessions get when the node shuts down.
    pub drain: Duration,
}

/// Where the bodies of HTTP requests lie that are too long for memory, until they are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bodies {
    pub directory: PathBuf,
    /// All of them together, per API.
    pub bytes_max: u64,
    /// Those of one person.
    pub person_bytes_max: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// `tracing` filter syntax: `info`, `tidegate::pool=debug,info`, …
    pub level: String,
    pub json: bool,
}

impl NodeConfig {
    /// Reads and checks the file at `path`. All mistakes are listed, not only the first. The files that
    /// it names are not looked at: a command that only needs the socket may not be allowed to read them.
    pub fn load(path: &Path) -> Result<Self, Vec<Mistake>> {
        Self::load_with(path, &protocols(), false)
    }

    /// The same, and looks whether what the file names is there and can be used: certificate, key,
    /// secret directory, store. Makes and changes nothing. Not for the process that serves: see
    /// [`Store::check`].
    pub fn check(path: &Path) -> Result<Self, Vec<Mistake>> {
        Self::load_with(path, &protocols(), true)
    }

    /// `known`: the protocols that are built in. `look`: as [`Self::check`] does.
    pub fn load_with(path: &Path, known: &[&str], look: bool) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let base = match std::path::absolute(path) {
            Ok(absolute) => absolute.parent().unwrap_or(Path::new("/")).to_owned(),
            Err(error) => {
                let what = format!("cannot be found: {error}");
                return Err(vec![Mistake { file: path.to_owned(), line: None, key: String::new(), what }]);
            }
        };
        let reader = Reader { base, known, look };
        let config = read_file(path, &mut mistakes, |root| reader.root(root));
        match config {
            Some(config) if mistakes.is_empty() => Ok(config),
            _ => Err(mistakes),
        }
    }
}

pub(super) struct Reader<'r> {
    pub base: PathBuf,
    pub known: &'r [&'r str],
    pub look: bool,
}

impl Reader<'_> {
    fn root(&self, root: &Table<'_>) -> Option<NodeConfig> {
        let tls = if root.has("tls") { root.section("tls", |table| self.tls(table)) } else { None };
        let listeners = self.listeners(root, root.has("tls"));
        root.refuse("recording", "recordings are not built yet; take the table out");
        let store_url = root.section("store", |table| self.store(table));
        let secret_directory = root.section("secret", |table| {
            let directory = self.path(table, "directory", "secrets");
            if self.look && !directory.is_dir() {
                table.mistake("directory", format!("there is no folder {}", directory.display()));
            }
            directory
        });
        let keys_file = root.section("keys", |table| self.path(table, "file", "state/installation.key"));
        Some(NodeConfig {
            listeners,
            tls,
            store_url,
            base: self.base.clone(),
            secret_directory,
            audit: root.section("audit", |table| self.audit(table)),
            admin: root.section("admin", |table| self.admin(table)),
            limits: root.section("limits", limits),
            bodies: root.section("bodies", |table| self.bodies(table)),
            keys_file,
            log: root.section("log", log),
        })
    }

    fn tls(&self, table: &Table<'_>) -> Option<TlsFiles> {
        let file = |key, example| {
            table.need(key, example, |value| {
                let path = self.resolve(value)?;
                if self.look {
                    std::fs::File::open(&path).map_err(|error| format!("cannot be read: {error}"))?;
                }
                Ok(path)
            })
        };
        let (certificate, key) =
            (file("certificate", "\"tls/server.pem\""), file("key", "\"tls/server.key\""));
        Some(TlsFiles { certificate: certificate?, key: key? })
    }

    fn store(&self, table: &Table<'_>) -> String {
        const DEFAULT: &str = "sqlite:state/tidegate.db";
        let url = table.read_or("url", DEFAULT.to_owned(), |value| {
            let url = value.text()?;
            crate::store::database_path(url, &self.base).map(|_| url.to_owned())
        });
        if self.look
            && let Err(error) = Store::check(&url, &self.base)
        {
            table.mistake("url", error.to_string());
        }
        url
    }

    fn bodies(&self, table: &Table<'_>) -> Bodies {
        let bytes = |key, default| table.read_or(key, default, |value| value.number(0..=1 << 44));
        Bodies {
            directory: self.path(table, "directory", "state/bodies"),
            bytes_max: bytes("bytes_max", 8 << 30),
            person_bytes_max: bytes("person_bytes_max", 2 << 30),
        }
    }

    fn audit(&self, table: &Table<'_>) -> Audit {
        const SEGMENT: u64 = 2 << 20;
        let segment_bytes = table.read_or("segment_bytes", SEGMENT, |value| {
            // Mapped memory comes in pages, of at most 64 KiB on the machines that we run on.
            let bytes = value.number(1 << 20..=1 << 30)?;
            if bytes % (64 << 10) == 0 { Ok(bytes) } else { Err("must be a multiple of 65536".to_owned()) }
        });
        let lag_bytes_max = table.read_or("lag_bytes_max", 64 << 20, |value| value.number(1 << 20..=1 << 40));
        if lag_bytes_max < segment_bytes {
            table.mistake(
                "lag_bytes_max",
                format!("must not be below segment_bytes, which is {segment_bytes}: a full segment is waiting for the writer"),
            );
        }
        Audit {
            directory: self.path(table, "directory", "state/audit"),
            sync: Duration::from_millis(table.read_or("sync_ms", 100, |value| value.number(1..=10_000))),
            lag_bytes_max,
            segment_bytes: segment_bytes as usize,
            continue_on_failure: table.read_or("on_failure", false, |value| match value.text()? {
                "close" => Ok(false),
                "continue" => Ok(true),
                _ => {
                    Err("must be \"close\" (sessions end) or \"continue\" (they go on unaudited)".to_owned())
                }
            }),
            text_bytes_max: table.read_or("text_bytes_max", AUDIT_TEXT_BYTES_MAX, |value| {
                Ok(value.number(256..=INSPECT_BYTES_MAX as u64)? as usize)
            }),
        }
    }

    fn admin(&self, table: &Table<'_>) -> Admin {
        // `sun_path` has 108 bytes and ends with a zero.
        const SOCKET_BYTES_MAX: usize = 107;
        let socket = self.path(table, "socket", "state/admin.sock");
        if socket.as_os_str().len() > SOCKET_BYTES_MAX {
            let what = format!(
                "{} is longer than the {SOCKET_BYTES_MAX} bytes that the address of a socket may have",
                socket.display()
            );
            table.mistake("socket", what);
        }
        Admin {
            socket,
            uids: table.read_or("uids", Vec::new(), Value::numbers),
            address: table.read("address", socket_address),
        }
    }

    fn path(&self, table: &Table<'_>, key: &'static str, default: &str) -> PathBuf {
        table.read(key, |value| self.resolve(value)).unwrap_or_else(|| self.base.join(default))
    }

    pub(super) fn resolve(&self, value: &Value<'_>) -> Result<PathBuf, String> {
        match value.text()? {
            "" => Err("empty; a path, which starts at the folder of this file if it is relative".to_owned()),
            text if text.contains('\0') => Err("a path has no zero byte".to_owned()),
            text => Ok(self.base.join(text)),
        }
    }
}

fn limits(table: &Table<'_>) -> Limits {
    const DAYS_30: u64 = 30 * 86_400;
    let seconds = |key, default, least, most| {
        Duration::from_secs(table.read_or(key, default, |value| value.number(least..=most)))
    };
    let unless_zero = |duration: Duration| (!duration.is_zero()).then_some(duration);
    let workers = match table.read_or("workers", 0, |value| value.number(0..=1_024)) {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        workers => workers as usize,
    };
    Limits {
        workers,
        login: seconds("login_seconds", 20, 1, 600),
        idle: unless_zero(seconds("idle_seconds", 0, 0, DAYS_30)),
        session: unless_zero(seconds("session_seconds", 0, 0, DAYS_30)),
        park: unless_zero(seconds("park_seconds", 5, 0, 86_400)),
        notice: unless_zero(seconds("notice_seconds", 300, 0, DAYS_30)),
        drain: seconds("drain_seconds", 30, 0, 86_400),
    }
}

fn log(table: &Table<'_>) -> Log {
    Log {
        level: table.read_or("level", "info".to_owned(), |value| {
            let text = value.text()?;
            log_filter(text).map(|()| text.to_owned())
        }),
        json: table.read_or("format", false, |value| match value.text()? {
            "text" => Ok(false),
            "json" => Ok(true),
            _ => Err("must be \"text\" or \"json\"".to_owned()),
        }),
    }
}

/// `tracing` takes a bare word that is no level for the name of a module; here it is a mistake.
fn log_filter(text: &str) -> Result<(), String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let bare =
        text.split(',').map(str::trim).find(|part| !part.contains(['=', '[']) && !LEVELS.contains(part));
    let sound = tracing_subscriber::EnvFilter::try_new(text).is_ok();
    if bare.is_some() || !sound {
        return Err(format!(
            "must be one of {}, or such a list: \"info,tidegate::pool=debug\"",
            listed(&LEVELS)
        ));
    }
    Ok(())
}

pub(super) fn name_of(value: &Value<'_>) -> Result<Name, String> {
    Name::parse(value.text()?).map_err(|error| error.to_string())
}

fn socket_address(value: &Value<'_>) -> Result<SocketAddr, String> {
    value.text()?.parse().map_err(|_| {
        "must be an IP address and a port, such as \"127.0.0.1:6432\", \"0.0.0.0:6432\" or \"[::1]:6432\""
            .to_owned()
    })
}

/// A whole number that fits 32 bits.
pub(super) fn narrow(value: &Value<'_>, least: u32, most: u32) -> Result<u32, String> {
    // The range is one of 32 bits.
    Ok(value.number(u64::from(least)..=u64::from(most))? as u32)
}

#[cfg(test)]
mod tests;
