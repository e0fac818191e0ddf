//! The facts of the audit trail that are not statements. Statements travel as [`super::Note`]s,
//! because they are written on the hot path.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;

use super::{AccessLevel, GrantId, Name, SessionId};

/// One fact. Serialised with a `"event"` tag; the writer adds time, sequence and chain.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    NodeStart {
        version: &'static str,
    },
    NodeStop {
        sessions_cut: u64,
    },
    /// After a crash: the last process left this many records that were not yet formatted.
    JournalRecovered {
        records: u64,
    },
    LoginAccepted {
        #[serde(flatten)]
        start: SessionStart,
        /// `None`: it was a certificate.
        #[serde(skip_serializing_if = "Option::is_none")]
        credential: Option<super::CredentialId>,
        /// The client certificate that proved who it is.
        #[serde(skip_serializing_if = "Option::is_none")]
        certificate: Option<std::sync::Arc<super::ClientCertificate>>,
        /// Other open grants that matched too.
        others: u32,
        /// What the client asked to be set from the start, by name; secrets masked, long values cut.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        settings: BTreeMap<String, String>,
    },
    LoginRefused(Denied),
    /// A request of somebody who is known was not sent on.
    RequestRefused {
        #[serde(flatten)]
        denied: Denied,
        /// Method and path, cut.
        request: String,
    },
    /// Refused logins of one source that got no line of their own, because there were too many.
    LoginsRefused {
        /// The network, as failures are counted; `None`: of many others together.
        #[serde(skip_serializing_if = "Option::is_none")]
        source: Option<String>,
        count: u64,
        /// How many by the code of their refusal.
        codes: std::collections::BTreeMap<&'static str, u64>,
        /// In which they came.
        seconds: u64,
    },
    SessionStart {
        #[serde(flatten)]
        start: SessionStart,
        /// The server's own number for the leased connection, such as a backend pid.
        #[serde(skip_serializing_if = "Option::is_none")]
        upstream: Option<String>,
        wait_ms: u64,
    },
    SessionEnd(SessionEnd),
    /// The session moved from a grant that ended to another that admits the same claim.
    SessionMoved {
        session: SessionId,
        user: Name,
        from: GrantId,
        to: GrantId,
    },
    /// An idle session gave its connection back.
    SessionParked {
        session: SessionId,
        user: Name,
        upstream: String,
    },
    /// It was lent another for its next statement.
    SessionResumed {
        session: SessionId,
        user: Name,
        /// The server's own number for the connection.
        upstream: String,
        wait_ms: u64,
    },
    /// Somebody asked to cancel the session's running statement, with its key.
    Cancel {
        session: SessionId,
        user: Name,
        peer: String,
        sent: bool,
    },
    /// A person asked, in a statement, to stop another session of theirs or what it runs.
    Kill {
        session: SessionId,
        user: Name,
        /// As the client said it.
        number: u64,
        /// The session is to end.
        ends: bool,
        /// `None`: none of theirs has the number.
        #[serde(skip_serializing_if = "Option::is_none")]
        meant: Option<SessionId>,
    },
    Admin(Box<Admin>),
    /// Something an operator must look at.
    Alarm {
        target: Name,
        level: AccessLevel,
        what: String,
    },
}

#[derive(Debug, Clone, Serialize)]
pub struct SessionStart {
    pub session: SessionId,
    pub user: Name,
    pub target: Name,
    pub level: AccessLevel,
    pub grant: GrantId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    pub peer: String,
    /// The load balancer that brought the client and said where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
    pub protocol: &'static str,
    pub tls: bool,
}

/// A login that was not accepted. What the client was told says less than this.
#[derive(Debug, Clone, Serialize)]
pub struct Denied {
    pub session: SessionId,
    pub peer: String,
    /// The load balancer that brought the client and said where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
    pub protocol: &'static str,
    /// As claimed, cut to a name's length; not proven unless `authenticated`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    pub authenticated: bool,
    pub code: &'static str,
    /// What was wrong, for the operator: `unknown user`, `wrong secret`, `outside cidr`, …
    pub why: Cow<'static, str>,
}

#[derive(Debug, Clone, Serialize)]
pub struct SessionEnd {
    pub session: SessionId,
    pub user: Name,
    pub target: Name,
    pub grant: GrantId,
    pub how: Ending,
    /// The code of the refusal that the client was sent, where there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Whether the client was told in its protocol; absent where there was nothing to tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_delivered: Option<bool>,
    pub statements: u64,
    pub bytes_up: u64,
    pub bytes_down: u64,
    pub seconds: f64,
    /// Whether the upstream connection went back to its pool, clean.
    pub reused: bool,
}

/// Three different outcomes: ended by us, by a peer, by shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    Cut,
    Close,
    Drain,
}

/// Who changes something: a uid on the local socket, or the proxy itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    Local {
        uid: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    Proxy,
}

impl std::fmt::Display for Actor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Local { name: Some(name), .. } => f.write_str(name),
            Self::Local { uid, name: None } => write!(f, "uid {uid}"),
            Self::Proxy => f.write_str("tidegate"),
        }
    }
}

/// An administrative change, or the refusal of one.
#[derive(Debug, Clone, Serialize)]
pub struct Admin {
    pub actor: Actor,
    /// `grant.create`, `user.remove`, `session.kill`, …
    pub action: &'static str,
    /// The name or id of what was changed.
    pub object: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
