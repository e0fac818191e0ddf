//! Resource files: targets, users and grants (design 1.2).

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::resource_file::Reader;
use super::table::listed;
use super::{Mistake, NodeConfig, checks, protocols, upstream};
use crate::model::{AccessLevel, Databases, Grant, Name, Snapshot, Subject, Target, User, Window};
use crate::secret::Reference;

/// What one or more resource files say; also the body of `POST /v1/apply` and the answer of
/// `GET /v1/export`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Resources {
    pub targets: Vec<TargetResource>,
    pub users: Vec<User>,
    pub grants: Vec<GrantResource>,
}

/// A target as a file gives it. What the running system adds (`suspended`, `baseline`) is not read from it.
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

/// Names that a grant may use.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Known {
    pub users: BTreeSet<Name>,
    pub groups: BTreeSet<Name>,
    /// With the levels that each has a connector for.
    pub targets: BTreeMap<Name, BTreeSet<AccessLevel>>,
}

/// What is around resource files when they are read.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// The protocols that are built in.
    pub protocols: Vec<&'a str>,
    /// What grants may name besides what the files have; `None`: anything, to be checked later by
    /// [`super::diff`].
    pub known: Option<&'a Known>,
    /// Where to look whether CA files and secrets can be read; `None`: they are not looked at.
    pub node: Option<&'a NodeConfig>,
}

impl Resources {
    /// Reads and checks the files together: a grant may name a target of another file, but nothing
    /// that is in none of them. All mistakes of all files are listed.
    pub fn load(paths: &[PathBuf]) -> Result<Self, Vec<Mistake>> {
        let known = Known::default();
        Self::load_with(paths, &Surroundings { protocols: protocols(), known: Some(&known), node: None })
    }

    /// The same with what is around the files: the store's names, the node's folders.
    pub fn load_with(paths: &[PathBuf], around: &Surroundings<'_>) -> Result<Self, Vec<Mistake>> {
        let mut reader = Reader::new(around);
        paths.iter().for_each(|path| reader.read(path));
        reader.finish()
    }

    /// What the store has now, as a file would say it: without what has ended and what only the
    /// running system knows. A grant without a name gets its id for one, which [`super::diff`] knows it by.
    pub fn from_snapshot(snapshot: &Snapshot) -> Self {
        let plain = |target: &Target| {
            let mut target = target.clone();
            target.suspended = None;
            target.remembered.clear();
            for connector in target.connectors.values_mut() {
                (connector.baseline, connector.suspended) = (None, None);
            }
            TargetResource { target, secret_confirmed_for: None }
        };
        let live = snapshot.grants.iter().filter(|grant| grant.ended.is_none());
        Self {
            targets: snapshot.targets.iter().map(plain).collect(),
            users: snapshot.users.clone(),
            grants: live.filter_map(GrantResource::of).collect(),
        }
    }

    /// Checks each value by itself, as reading a file does, for resources that came another way.
    /// Sentences, as many as there are mistakes.
    pub fn check(&self, known: &[&str]) -> Result<(), Vec<String>> {
        let mut wrong = Vec::new();
        let mut names = BTreeSet::new();
        let kinds = [
            ("target", self.targets.iter().map(|target| &target.target.name).collect::<Vec<_>>()),
            ("user", self.users.iter().map(|user| &user.name).collect()),
            ("grant", self.grants.iter().map(|grant| &grant.name).collect()),
        ];
        for (kind, name) in kinds.iter().flat_map(|(kind, names)| names.iter().map(move |name| (kind, name)))
        {
            if !names.insert((kind, name)) {
                wrong.push(format!("{kind} {name} is named twice"));
            }
        }
        for resource in &self.targets {
            for (key, what) in resource.wrong(known) {
                wrong.push(format!("target {}: {key}: {what}", resource.target.name));
            }
        }
        for grant in &self.grants {
            if let Err((key, what)) = grant.conditions() {
                wrong.push(format!("grant {}: {key}: {what}", grant.name));
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

impl Known {
    pub fn of(users: &[User], targets: impl IntoIterator<Item = Target>) -> Self {
        Self {
            users: users.iter().map(|user| user.name.clone()).collect(),
            groups: users.iter().flat_map(|user| user.groups.iter().cloned()).collect(),
            targets: targets
                .into_iter()
                .map(|target| (target.name, target.connectors.into_keys().collect()))
                .collect(),
        }
    }

    pub(super) fn subject(&self, subject: &Subject) -> Result<(), String> {
        match subject {
            Subject::User(name) if !self.users.contains(name) => {
                Err(format!("there is no user {name}; add a [[user]] of that name"))
            }
            Subject::Group(name) if !self.groups.contains(name) => {
                Err(format!("no user is in a group {name}; add it to the groups of a [[user]]"))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn target(&self, name: &Name) -> Result<(), String> {
        if self.targets.contains_key(name) {
            return Ok(());
        }
        Err(format!("there is no target {name}; add a [[target]] of that name"))
    }

    /// Says nothing where there is no such target: [`Self::target`] does.
    pub(super) fn level(&self, target: &Name, level: &AccessLevel) -> Result<(), String> {
        match self.targets.get(target) {
            Some(levels) if !levels.contains(level) => {
                let levels: Vec<_> = levels.iter().map(AccessLevel::as_str).collect();
                Err(format!("target {target} has no connector for {level}; it has {}", listed(&levels)))
            }
            _ => Ok(()),
        }
    }
}

impl TargetResource {
    fn wrong(&self, known: &[&str]) -> Vec<(String, String)> {
        let target = &self.target;
        let mut wrong = Vec::new();
        let mut note = |key: &str, result: Result<(), String>| {
            wrong.extend(result.err().map(|what| (key.to_owned(), what)));
        };
        note("protocol", checks::protocol(&target.protocol, known));
        note("address", checks::address(&target.address));
        note("database", target.database.as_deref().map_or(Ok(()), checks::database));
        note("tls_ca", checks::tls_ca(target.tls, target.tls_ca.as_deref()));
        note("details", checks::details(&target.details));
        note("secret_confirmed_for", confirmed(self.secret_confirmed_for.as_deref(), &target.address));
        for extension in &target.accept_extensions {
            note("accept_extensions", checks::extension(extension));
        }
        if let Err((key, what)) = checks::pool(&target.pool) {
            note(key, Err(what));
        }
        if target.connectors.is_empty() {
            note("connector", Err(NO_CONNECTOR.to_owned()));
        }
        for (key, what) in
            upstream::contradictions(&target.upstream, &target.protocol, &target.address, target.tls)
        {
            note(key, Err(what));
        }
        if let Some(upkeep) = &target.upstream.upkeep {
            note("upkeep", Reference::parse(&upkeep.secret).map(drop));
        }
        for (level, connector) in &target.connectors {
            note("connector", checks::level(level.as_str()).map(drop));
            note(level.as_str(), Reference::parse(&connector.secret).map(drop));
        }
        wrong
    }
}

impl GrantResource {
    /// `None`: a grant whose name and id are both no name, which cannot be.
    pub(super) fn of(grant: &Grant) -> Option<Self> {
        Some(Self {
            name: grant.name.clone().or_else(|| Name::parse(&grant.id.to_string()).ok())?,
            subject: grant.subject.clone(),
            target: grant.target.clone(),
            level: grant.level.clone(),
            databases: grant.databases.clone(),
            window: grant.window,
            cidrs: grant.cidrs.clone(),
            sessions_max: grant.sessions_max,
            reason: grant.reason.clone(),
        })
    }

    pub(super) fn conditions(&self) -> Result<(), (&'static str, String)> {
        checks::conditions(&self.window, &self.databases, self.sessions_max, self.reason.as_deref())
    }
}

pub(super) const NO_CONNECTOR: &str =
    "missing; a target has at least one [target.connector.LEVEL] with a secret";

pub(super) fn confirmed(confirmed: Option<&str>, address: &str) -> Result<(), String> {
    match confirmed {
        Some(confirmed) if confirmed != address => {
            Err(format!("must repeat the target's address, which is \"{address}\"; or leave it out"))
        }
        _ => Ok(()),
    }
}
