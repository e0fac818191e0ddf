//! Resource files: targets, users and grants (design 1.2).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::Mistake;
use crate::model::{AccessLevel, Databases, Name, Subject, Target, User, Window};

/// What one or more resource files say.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Resources {
    pub targets: Vec<TargetResource>,
    pub users: Vec<User>,
    pub grants: Vec<GrantResource>,
}

/// A target as a file gives it: no state of the running system in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetResource {
    #[serde(flatten)]
    pub target: Target,
    /// The address that the connectors' secrets may be sent to, repeated: needed where the address of
    /// a known target changes and a secret reference stays (design 1.2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_confirmed_for: Option<String>,
}

/// A grant as a file gives it: known by its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantResource {
    pub name: Name,
    pub subject: Subject,
    pub target: Name,
    pub level: AccessLevel,
    #[serde(default)]
    pub databases: Databases,
    pub window: Window,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cidrs: Vec<ipnet::IpNet>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions_max: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Resources {
    /// Reads and checks all files together: a grant may name a target of another file. All mistakes of
    /// all files are listed.
    pub fn load(_paths: &[PathBuf]) -> Result<Self, Vec<Mistake>> {
        todo!()
    }
}
