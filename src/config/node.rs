//! The node file: what this process listens on and where it keeps things (design 1.2).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::Mistake;
use crate::model::Name;

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
    /// 32 random bytes as hexadecimal digits; made at the first start.
    pub keys_file: PathBuf,
    pub log: Log,
}

/// One address that clients connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// The address where the file gives no name.
    pub name: String,
    pub address: SocketAddr,
    /// A name of the protocol registry.
    pub protocol: String,
    /// `None`: the client names the target.
    pub target: Option<Name>,
    pub tls: ListenerTls,
    pub connections_max: u32,
}

/// Whether clients must use TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerTls {
    /// A client that asks for TLS is told that there is none.
    Off,
    Optional,
    Require,
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
    /// What living sessions get when the node shuts down.
    pub drain: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// `tracing` filter syntax: `info`, `tidegate::pool=debug,info`, …
    pub level: String,
    pub json: bool,
}

impl NodeConfig {
    /// Reads and checks the file at `path`. All mistakes are listed, not only the first.
    pub fn load(_path: &Path) -> Result<Self, Vec<Mistake>> {
        todo!()
    }
}
