use serde::{Deserialize, Serialize};

use crate::model::{AccessLevel, GrantId, Name, SessionId, Time};

/// One live session, for `session list`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionInfo {
    pub session: SessionId,
    pub user: Name,
    pub target: Name,
    pub level: AccessLevel,
    pub grant: GrantId,
    pub database: Option<String>,
    pub peer: String,
    pub protocol: String,
    pub started_at: Time,
    /// When its grant or credential ends.
    pub until: Time,
    /// `idle`, `busy`, `in transaction`, `waiting`.
    pub state: String,
    pub statements: u64,
    pub bytes_up: u64,
    pub bytes_down: u64,
    /// The server's own name of the leased connection.
    pub upstream: Option<String>,
}

/// Lists and addresses the live sessions; ends none by itself.
#[derive(Default)]
pub struct Registry {}

impl Registry {
    pub fn list(&self) -> Vec<SessionInfo> {
        todo!()
    }
    /// Asks a session to end with `Refusal::Killed`. False: there is none of that id.
    pub fn kill(&self, _session: SessionId, _by: &str) -> bool {
        todo!()
    }
}
