//! What the node itself answers for: the engine implements it, the admin API asks.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

use serde::{Deserialize, Serialize};

use crate::config::ListenAddress;
use crate::model::{AccessLevel, Name, Time};
use crate::protocol::session::Check;

/// A future behind a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The running node, as far as the admin API may steer it.
pub trait NodeControl: Send + Sync + 'static {
    /// Reads the node file again and takes over what can change without dropping a session. Says what
    /// changed; the error is one sentence, and everything stays as it was then.
    fn reload(&self) -> BoxFuture<'_, Result<Vec<String>, String>>;
    /// Connects to a target at each of its levels and reads what the connectors' rights allow.
    fn check_target(&self, name: &Name) -> BoxFuture<'_, Result<TargetChecks, String>>;
    fn status(&self) -> NodeStatus;
    /// Whether the node takes no new sessions because it shuts down.
    fn draining(&self) -> bool;
}

/// What `target check` found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetChecks {
    pub levels: Vec<LevelChecks>,
    /// SQL that makes well-formed logins for all levels; empty where no level could be looked at.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub form: String,
}

/// What `target check` found at one level.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LevelChecks {
    pub level: AccessLevel,
    pub checks: Vec<Check>,
    /// Why the level could not be looked at, or not to the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// A level that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LevelTrouble {
    pub target: Name,
    pub level: AccessLevel,
    pub what: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    pub version: String,
    pub started_at: Time,
    pub listeners: Vec<ListenerStatus>,
    /// The listeners' certificate chain, PEM; `None` where there is no TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// Levels whose login the target refuses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<LevelTrouble>,
    /// What keeps the node from serving logins beyond draining and the trail, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerStatus {
    pub name: String,
    /// As bound: the port is the real one.
    pub address: ListenAddress,
    pub protocol: String,
    /// `None`: the client names the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Name>,
    pub tls: ListenerTlsStatus,
}

/// Whether clients of a listener use TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListenerTlsStatus {
    Off,
    Optional,
    Require,
}
