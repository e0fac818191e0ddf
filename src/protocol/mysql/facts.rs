//! What the two ends of a conversation said at its start.

use std::sync::Arc;

use super::capability::Capabilities;
use super::query::Baseline;
use crate::model::limits::{SETTINGS_MAX, SHOWN_SETTING_BYTES_MAX};
use crate::protocol::session::{Facts, Findings, Framing, Interruption, Termination};

/// What a client asked for in its handshake; each connection that it is lent has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// What it and we agreed to.
    pub capabilities: Capabilities,
    /// The number of the collation that its statements and results are in; 0 where the server chooses.
    pub collation: u16,
    /// What it says of itself (`program_name`, `_client_name`, …).
    pub attributes: Vec<(String, String)>,
    /// The level of its zstd, where it has agreed to it.
    pub zstd_level: u8,
}

impl Settings {
    /// For the trail: what looks like a secret by its name is masked.
    pub fn shown(&self) -> Vec<(String, String)> {
        let shown = |(name, value): &(String, String)| {
            let lower = name.to_ascii_lowercase();
            let value = match SECRET_NAMES.iter().any(|part| lower.contains(part)) {
                true => "***",
                false => &value[..value.floor_char_boundary(SHOWN_SETTING_BYTES_MAX)],
            };
            (name[..name.floor_char_boundary(SHOWN_SETTING_BYTES_MAX)].to_owned(), value.to_owned())
        };
        self.attributes.iter().take(SETTINGS_MAX).map(shown).collect()
    }
}

/// The level of zstd that we ask servers for: their own default.
pub(super) const ZSTD_LEVEL: u8 = 3;

/// Parts of names whose values have no place in a trail.
const SECRET_NAMES: [&str; 5] = ["passw", "secret", "token", "credential", "api_key"];

/// What a server says of itself in its greeting: what a client of ours is greeted with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learned {
    /// As it sent it: MariaDB's may begin with `5.5.5-`.
    pub version: String,
    pub capabilities: Capabilities,
    /// The number of its collation, as far as a byte holds it.
    pub collation: u8,
    pub status: u16,
}

/// What a server told us while we logged in, and what it reported since.
#[derive(Clone)]
pub struct MySqlFacts {
    /// Of its greeting.
    pub learned: Arc<Learned>,
    /// What this connection was dialled with.
    pub capabilities: Capabilities,
    /// The user that we logged in as, without a host.
    pub user: Arc<str>,
    /// The database that we logged in to; empty for none.
    pub database: Arc<str>,
    /// The collation that we logged in with.
    pub collation: u8,
    /// The number of the connection as its greeting says it.
    pub thread: u32,
    /// The status flags of the login's OK.
    pub status: u16,
    /// The target wants to see who is there in front of each text.
    pub stamps_comments: bool,
    /// The connection's number as the server itself says it when asked: what stands in front of a server may greet
    /// with numbers of its own.
    pub termination: Option<Termination>,
    /// How the session was when it was new, for the reset to compare with: what the probe found, once it has.
    pub(super) baseline: Option<Arc<Baseline>>,
}

impl MySqlFacts {
    pub fn is_mariadb(&self) -> bool {
        self.learned.is_mariadb()
    }
}

impl Learned {
    pub fn is_mariadb(&self) -> bool {
        !self.capabilities.has(Capabilities::LONG_PASSWORD) || self.version.contains("MariaDB")
    }

    /// The text that [`Facts::learned`] gives.
    pub fn to_text(&self) -> String {
        format!("{:x} {:x} {:x} {}", self.capabilities.0, self.collation, self.status, self.version)
    }

    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, ' ');
        let mut number = || parts.next().and_then(|part| u64::from_str_radix(part, 16).ok());
        let (capabilities, collation, status) = (number()?, number()?, number()?);
        Some(Self {
            version: parts.next()?.to_owned(),
            capabilities: Capabilities(capabilities),
            collation: collation.try_into().ok()?,
            status: status.try_into().ok()?,
        })
    }
}

impl std::fmt::Debug for MySqlFacts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MySqlFacts({} {} {}, ..)", self.user, self.thread, self.learned.version)
    }
}

impl Facts for MySqlFacts {
    fn upstream_name(&self) -> String {
        match &self.termination {
            Some(Termination(number)) => number.clone(),
            None => self.thread.to_string(),
        }
    }

    fn process(&self) -> Option<u32> {
        Some(self.thread)
    }

    fn server_version(&self) -> &str {
        &self.learned.version
    }

    /// The server's number of the connection, in digits.
    fn interruption(&self) -> Interruption {
        Interruption(self.upstream_name().into_bytes())
    }

    fn termination(&self) -> Option<Termination> {
        self.termination.clone()
    }

    fn login(&self) -> &str {
        &self.user
    }

    fn learned(&self) -> Option<String> {
        Some(self.learned.to_text())
    }

    fn framing(&self) -> Framing {
        match () {
            () if self.capabilities.has(Capabilities::ZSTD) => Framing::Zstd(ZSTD_LEVEL),
            () if self.capabilities.has(Capabilities::COMPRESS) => Framing::Zlib,
            () => Framing::Plain,
        }
    }

    fn apply(&mut self, findings: &Findings) {
        if findings.termination.is_some() {
            self.termination.clone_from(&findings.termination);
        }
        if let Some((_, baseline)) = findings.parameters.iter().find(|(name, _)| name == "baseline") {
            self.baseline = Baseline::parse(baseline).map(Arc::new);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_learned_survives_as_text() {
        let learned = Learned {
            version: "5.5.5-10.11.6-MariaDB-0+deb12u1 with blanks".into(),
            capabilities: Capabilities::ALWAYS | Capabilities::MARIADB,
            collation: 45,
            status: 2,
        };
        assert_eq!(Learned::parse(&learned.to_text()), Some(learned));
        for bad in ["", "1", "1 2", "1 2 3", "x 2 3 v", "1 fff 3 v"] {
            assert_eq!(Learned::parse(bad), None, "{bad}");
        }
    }
}
