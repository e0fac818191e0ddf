//! What the store keeps: targets, users, grants, credentials, and the changes made to them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{AccessLevel, CredentialId, GrantId, Name, Time, Upstream};

/// How TLS is used towards a target; the six modes of libpq.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsMode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    #[default]
    VerifyFull,
}

/// One database service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Target {
    pub name: Name,
    /// A name of the protocol registry: `postgres`, …
    pub protocol: String,
    /// `host:port`, or `unix:` and a path.
    pub address: String,
    /// What a client gets that names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    #[serde(default)]
    pub tls: TlsMode,
    /// A PEM file; relative to the node file's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_ca: Option<String>,
    #[serde(flatten)]
    pub upstream: Upstream,
    /// Shown to users, at most 400 characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub owners: BTreeSet<Name>,
    pub connectors: BTreeMap<AccessLevel, Connector>,
    /// What is known of levels that were taken away: it holds again when they come back.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub remembered: BTreeMap<AccessLevel, Connector>,
    #[serde(default)]
    pub pool: PoolSettings,
    /// Extensions, languages and C code whose state outlives a reset, which the operator accepts to
    /// be shared between people (see `docs/guide.md`).
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub accept_extensions: BTreeSet<String>,
    /// Whether idle sessions give their connection back.
    #[serde(default)]
    pub park: Parking,
    /// What a session may lose when it is parked, as the operator accepts.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub park_accepts: BTreeSet<Loss>,
    /// How the bodies of requests are passed on, where the proxy authorizes.
    #[serde(default, skip_serializing_if = "BodyMode::is_whole")]
    pub bodies: BodyMode,
    /// Set by `target suspend`; why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended: Option<String>,
}

/// How the body of a request goes to a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BodyMode {
    /// When all of it is there and covered.
    #[default]
    Whole,
    /// As it comes, each line when it is covered.
    Stream,
}

impl BodyMode {
    fn is_whole(&self) -> bool {
        *self == Self::Whole
    }
}

/// Whether an idle session gives its connection back until its next statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Parking {
    /// When the server confirms that nothing would be lost.
    #[default]
    Proven,
    Never,
}

/// What no catalog of a server shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// What functions and views of the database do behind a plain statement.
    Functions,
    /// Current values of sequences (`currval`, `lastval`), which every insert may set.
    Sequences,
}

/// A login on the target that only the proxy knows; one per access level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Connector {
    /// `file:NAME` below the secret directory, or `env:TIDEGATE_SECRET_…`.
    pub secret: String,
    /// What the role's own settings were when the connector was first used, as a fingerprint; a
    /// different one suspends the level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<String>,
    /// Set by an alarm (or an operator); why. No leases at this level until it is resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended: Option<String>,
}

/// Limits of the pools of one target. Durations are whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PoolSettings {
    /// Upstream connections per level and database.
    pub size_max: u32,
    /// Idle connections kept ready per level, for the default database.
    pub warm_min: u32,
    /// How long a login waits for a connection before it is refused.
    pub wait_seconds_max: u32,
    /// Logins that may wait at once.
    pub waiting_max: u32,
    /// A connection older than this is closed when it comes back.
    pub age_seconds_max: u32,
    /// An idle connection above `warm_min` is closed after this.
    pub idle_seconds_max: u32,
    /// Connecting, TLS and login at the target.
    pub connect_seconds_max: u32,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            size_max: 20,
            warm_min: 0,
            wait_seconds_max: 10,
            waiting_max: 1_000,
            age_seconds_max: 3_600,
            idle_seconds_max: 600,
            connect_seconds_max: 10,
        }
    }
}

/// A person or a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub name: Name,
    #[serde(default)]
    pub groups: BTreeSet<Name>,
}

/// Who a grant is given to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    User(Name),
    Group(Name),
}

/// Which databases of the target a grant covers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Databases {
    /// The target's default one only.
    #[default]
    Default,
    /// `'*'`.
    All,
    Listed(BTreeSet<String>),
}

/// From `start` on, until just before `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    pub start: Time,
    pub end: Time,
}

impl Window {
    pub fn contains(&self, now: Time) -> bool {
        self.start <= now && now < self.end
    }
}

/// Why something that let a person in does so no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndCause {
    Expired,
    Revoked,
    /// The credential expired or was revoked.
    CredentialEnded,
    UserRemoved,
    TargetSuspended,
    /// Group, level, database, address or target changed, so that the grant does not fit any more.
    NoLongerMatches,
}

impl EndCause {
    pub const ALL: [Self; 6] = [
        Self::Expired,
        Self::Revoked,
        Self::CredentialEnded,
        Self::UserRemoved,
        Self::TargetSuspended,
        Self::NoLongerMatches,
    ];

    pub fn sentence(self) -> &'static str {
        match self {
            Self::Expired => "the grant has expired",
            Self::Revoked => "the grant was revoked",
            Self::CredentialEnded => "the credential has ended",
            Self::UserRemoved => "the user was removed",
            Self::TargetSuspended => "the target is suspended",
            Self::NoLongerMatches => "the grant does not cover this session any more",
        }
    }
}

/// Stored and final.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    pub at: Time,
    pub cause: EndCause,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// User or group + target + scope + access level + time window + conditions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Grant {
    pub id: GrantId,
    /// Grants that come from a file have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    pub subject: Subject,
    pub target: Name,
    pub level: AccessLevel,
    #[serde(default)]
    pub databases: Databases,
    pub window: Window,
    /// Where the client may come from; empty: anywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cidrs: Vec<ipnet::IpNet>,
    /// Live sessions under this grant, all people together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions_max: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub created_at: Time,
    pub created_by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
}

impl Grant {
    pub fn allows_address(&self, peer: IpAddr) -> bool {
        // A dual-stack listener reports IPv4 peers as mapped addresses.
        let peer = peer.to_canonical();
        self.cidrs.is_empty() || self.cidrs.iter().any(|net| net.contains(&peer))
    }
}

/// What the store keeps of a credential instead of its secret: for each protocol the form that
/// checks a proof and cannot make one (design 1.6).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verifiers {
    /// RFC 5802 StoredKey and ServerKey for SCRAM-SHA-256; salt and rounds are the user's.
    pub scram_stored_key: Vec<u8>,
    pub scram_server_key: Vec<u8>,
    /// SHA256(SHA256(secret)), for MySQL's caching_sha2_password.
    pub caching_sha2: Vec<u8>,
    /// The public key of MariaDB's client_ed25519.
    pub ed25519: Vec<u8>,
    /// The public key of MariaDB's parsec, for the user's salt and rounds.
    pub parsec: Vec<u8>,
    /// HMAC-SHA256(pepper, "tidegate/check/v1" ‖ secret).
    pub check: Vec<u8>,
    /// SHA1(SHA1(secret)), for mysql_native_password, sealed under a key of the installation: with the bare value
    /// whoever hears one login can log in. `None` where no listener asked for it when this was issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mysql_native: Option<Vec<u8>>,
}

impl std::fmt::Debug for Verifiers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verifiers(..)")
    }
}

/// A generated secret of a user, as the store knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Credential {
    pub id: CredentialId,
    pub user: Name,
    pub window: Window,
    pub verifiers: Verifiers,
    pub created_by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
}

impl Credential {
    pub fn is_live(&self, now: Time) -> bool {
        self.ended.is_none() && self.window.contains(now)
    }
}

/// All that decides who may go where, at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    pub users: Vec<User>,
    pub targets: Vec<Target>,
    /// Those that have not ended and those that have lately.
    pub grants: Vec<Grant>,
    pub credentials: Vec<Credential>,
}

/// One change of the resources. A list of them is applied as one transaction.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// Adds or replaces.
    PutTarget {
        target: Box<Target>,
    },
    RemoveTarget {
        name: Name,
    },
    SuspendTarget {
        name: Name,
        reason: String,
    },
    ResumeTarget {
        name: Name,
    },
    /// The alarm of design 1.5.3: the role's settings differ from what was known.
    SuspendLevel {
        target: Name,
        level: AccessLevel,
        reason: String,
    },
    /// The operator looked at it; the next connection's fingerprint is the new baseline.
    ResumeLevel {
        target: Name,
        level: AccessLevel,
    },
    SetBaseline {
        target: Name,
        level: AccessLevel,
        fingerprint: String,
    },
    PutUser {
        user: User,
    },
    /// Ends the user's credentials too.
    RemoveUser {
        name: Name,
    },
    PutGrant {
        grant: Box<Grant>,
    },
    EndGrant {
        id: GrantId,
        ended: Ended,
    },
    ExtendGrant {
        id: GrantId,
        end: Time,
    },
    /// The secret's verifiers are not part of what is written to the trail.
    AddCredential {
        #[serde(serialize_with = "without_verifiers")]
        credential: Box<Credential>,
    },
    EndCredential {
        id: CredentialId,
        ended: Ended,
    },
}

fn without_verifiers<S: serde::Serializer>(credential: &Credential, to: S) -> Result<S::Ok, S::Error> {
    use serde::ser::SerializeStruct;
    let mut line = to.serialize_struct("credential", 3)?;
    line.serialize_field("id", &credential.id)?;
    line.serialize_field("user", &credential.user)?;
    line.serialize_field("window", &credential.window)?;
    line.end()
}
