//! What travels over the admin API, both ways. The command line uses the same types.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::Resources;
use crate::model::{AccessLevel, CredentialId, Ended, Grant, GrantId, Name, SessionId, Target, Time, Window};
use crate::proxy::ListenerStatus;

/// The answer to what went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub error: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    pub healthy: bool,
    pub reasons: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub started_at: Time,
    pub now: Time,
    pub sessions: usize,
    pub draining: bool,
    pub trail: TrailStatus,
    pub listeners: Vec<ListenerStatus>,
    pub targets: usize,
    pub users: usize,
    pub grants_open: usize,
    /// Why the node is not healthy; empty when it is.
    pub problems: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrailStatus {
    pub directory: PathBuf,
    /// Why it cannot be written now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    pub lines: u64,
    /// Committed and not yet in an audit file.
    pub backlog_bytes: u64,
    /// Facts that were lost, which only `on_failure = "continue"` allows.
    pub dropped: u64,
}

/// Something was done, and there is nothing more to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    pub done: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    pub changed: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReasonRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupRequest {
    /// Absolute; must not exist.
    pub file: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplyRequest {
    pub resources: Resources,
    #[serde(default)]
    pub dry_run: bool,
    #[serde(default)]
    pub prune: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApplyAnswer {
    pub changes: Vec<Edit>,
    /// Sessions that would be cut (dry run) or are being cut.
    pub cut: Vec<SessionId>,
    pub applied: bool,
}

/// One resource before and after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Edit {
    pub kind: EditKind,
    /// `target`, `user`, `grant`.
    pub what: String,
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
    /// What differs, with dotted names: `pool.size_max`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldEdit>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EditKind {
    Added,
    Changed,
    Removed,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FieldEdit {
    pub field: String,
    /// `null` where the field was not there.
    pub before: Value,
    pub after: Value,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetView {
    #[serde(flatten)]
    pub target: Target,
    /// Live ones.
    pub sessions: usize,
    /// Levels whose login the target refuses, and in which words.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub troubles: BTreeMap<AccessLevel, String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResumeRequest {
    /// One level that an alarm suspended; absent: the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<AccessLevel>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserRequest {
    pub name: Name,
    #[serde(default)]
    pub groups: BTreeSet<Name>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserView {
    pub name: Name,
    pub groups: BTreeSet<Name>,
    /// Live ones.
    pub credentials: usize,
    /// Grants that are open now, those of the user's groups too.
    pub grants: usize,
    pub sessions: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialRequest {
    pub user: Name,
    pub for_seconds: u64,
}

/// The one answer that holds a secret. Its `Debug` does not show it, and it is zeroed when dropped.
#[derive(Serialize, Deserialize)]
pub struct IssuedCredential {
    pub id: CredentialId,
    pub user: Name,
    pub until: Time,
    pub secret: String,
}

impl Drop for IssuedCredential {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.secret);
    }
}

impl std::fmt::Debug for IssuedCredential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IssuedCredential({}, {}, {}, ..)", self.id, self.user, self.until)
    }
}

/// A credential without anything that checks proofs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialView {
    pub id: CredentialId,
    pub user: Name,
    pub window: Window,
    pub state: State,
    pub created_by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
}

/// Where a grant or a credential stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Starts later.
    Pending,
    Open,
    Expired,
    /// Revoked, or ended with what it hung on.
    Ended,
}

impl State {
    pub fn of(window: &Window, ended: Option<&Ended>, now: Time) -> Self {
        match ended {
            Some(Ended { cause: crate::model::EndCause::Expired, .. }) => Self::Expired,
            Some(_) => Self::Ended,
            None if now >= window.end => Self::Expired,
            None if now < window.start => Self::Pending,
            None => Self::Open,
        }
    }

    /// Whether it may still let somebody in, now or later.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Pending | Self::Open)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Open => "open",
            Self::Expired => "expired",
            Self::Ended => "ended",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Name>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Name>,
    pub target: Name,
    pub level: AccessLevel,
    /// Absent: now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_seconds: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// Empty: the target's default one; `*`: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub databases: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cidrs: Vec<ipnet::IpNet>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtendRequest {
    pub for_seconds: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GrantView {
    #[serde(flatten)]
    pub grant: Grant,
    pub state: State,
    /// Live ones.
    pub sessions: usize,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AllParams {
    /// Those that have ended too.
    pub all: bool,
}

/// A live session or one of the history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionView {
    pub session: SessionId,
    pub live: bool,
    pub user: Name,
    pub target: Name,
    pub level: AccessLevel,
    pub grant: GrantId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    pub peer: String,
    pub protocol: String,
    pub started_at: Time,
    /// Live: when its grant or credential ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// Live: `running`, `idle`, `in transaction`, `parked`, `pinned`, `waiting`; history: `cut`, `close`,
    /// `drain`, `lost`.
    pub state: String,
    /// Live: what keeps an idle session on its connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    pub statements: u64,
    pub bytes_up: u64,
    pub bytes_down: u64,
    /// Live: the server's own name of the leased connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SearchParams {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// A table that the statement reads or writes, as its label says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// A verb of its label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verb: Option<String>,
    /// A part of the statement's text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TailParams {
    pub lines: Option<usize>,
    pub follow: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectParams {
    pub target: Name,
}

/// What a client needs to know to reach a target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConnectAnswer {
    pub target: Name,
    pub protocol: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    pub levels: Vec<AccessLevel>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
    /// Those that reach the target, the ones that lead nowhere else first.
    pub doors: Vec<Door>,
}

/// One listener as a client sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Door {
    pub listener: String,
    /// A name of the certificate where one fits, so that `verify-full` can check it.
    pub host: String,
    pub port: u16,
    /// Whether the login name must say `@TARGET`.
    pub name_target: bool,
    /// `verify-full`, or `disable` where the listener has no TLS.
    pub sslmode: String,
    /// The file of a private CA on this machine, or `system` for one the system may know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sslrootcert: Option<String>,
    /// Who issued the certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    pub user: Name,
    pub target: Name,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<AccessLevel>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Absent: from anywhere; the grants' networks are not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Time>,
    /// One request of an API that the proxy authorizes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<ExplainedRequest>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainedRequest {
    /// `POST`.
    pub method: String,
    /// As in a request line: `/_msearch?pretty`.
    pub target: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub body: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainAnswer {
    pub allowed: bool,
    /// What the request takes and touches, where one was asked about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs: Option<Needs>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<GrantId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<AccessLevel>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    pub why: String,
    pub considered: Vec<Considered>,
}

/// What a request takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    pub level: AccessLevel,
    /// What the names are: `indices` or `vhosts`.
    #[serde(default = "indices")]
    pub kind: String,
    /// The indices, or vhosts, that it names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub indices: Vec<String>,
    /// Wildcards: what they stand for is asked of the cluster when the request comes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wildcards: Vec<String>,
    /// Why no list of names says what it touches: only a grant for everything covers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub everything: Option<String>,
    /// What is only known when the request comes, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

fn indices() -> String {
    "indices".to_owned()
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Considered {
    pub grant: GrantId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    pub verdict: String,
}
