use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

use super::name::{Name, NameError};

/// How much a connector may do. `read` < `read_write` < `admin`; any further name that a target
/// defines has no place in that order and must be asked for by name.
#[derive(Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub enum AccessLevel {
    Read,
    ReadWrite,
    Admin,
    Named(Name),
}

impl AccessLevel {
    pub fn as_str(&self) -> &str {
        match self {
            Self::Read => "read",
            Self::ReadWrite => "read_write",
            Self::Admin => "admin",
            Self::Named(name) => name.as_str(),
        }
    }

    /// Whether a claim that names no level may be given this one.
    pub fn is_ordered(&self) -> bool {
        !matches!(self, Self::Named(_))
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Read => 0,
            Self::ReadWrite => 1,
            Self::Admin => 2,
            Self::Named(_) => 3,
        }
    }
}

impl Serialize for AccessLevel {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl PartialOrd for AccessLevel {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for AccessLevel {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank()).then_with(|| self.as_str().cmp(other.as_str()))
    }
}

impl std::str::FromStr for AccessLevel {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Ok(match text {
            "read" => Self::Read,
            "read_write" => Self::ReadWrite,
            "admin" => Self::Admin,
            other => Self::Named(Name::parse(other)?),
        })
    }
}

impl TryFrom<String> for AccessLevel {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl fmt::Display for AccessLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for AccessLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
