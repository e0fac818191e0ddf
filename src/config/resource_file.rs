//! Reads resource files: tables in, [`Resources`] and mistakes with their lines out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::node::{name_of, narrow};
use super::resources::{
    GrantResource, Known, NO_CONNECTOR, Resources, Surroundings, TargetResource, confirmed,
};
use super::table::{Table, Value, read_file};
use super::{Mistake, checks, upstream};
use crate::model::{
    AccessLevel, BodyMode, Connector, Databases, Name, Parking, PoolSettings, Subject, Target, TlsMode, User,
    Window,
};
use crate::secret::{Reference, Secrets};

/// Reads file after file.
pub(super) struct Reader<'r> {
    around: &'r Surroundings<'r>,
    secrets: Option<Secrets>,
    resources: Resources,
    /// What the grants name, also of those grants that are wrong otherwise.
    mentions: Vec<Mention>,
    /// A file is missing from what was read.
    incomplete: bool,
    /// Where the first of each kind and name stands.
    places: BTreeMap<(&'static str, Name), String>,
    mistakes: Vec<Mistake>,
}

impl<'r> Reader<'r> {
    pub fn new(around: &'r Surroundings<'r>) -> Self {
        Self {
            around,
            secrets: around.node.map(|node| Secrets::new(node.secret_directory.clone())),
            resources: Resources::default(),
            mentions: Vec::new(),
            incomplete: false,
            places: BTreeMap::new(),
            mistakes: Vec::new(),
        }
    }

    pub fn read(&mut self, path: &Path) {
        let mut mistakes = std::mem::take(&mut self.mistakes);
        let read = read_file(path, &mut mistakes, |root| {
            self.file(root);
            Some(())
        });
        self.incomplete |= read.is_none();
        self.mistakes = mistakes;
    }

    pub fn finish(mut self) -> Result<Resources, Vec<Mistake>> {
        // Where a file is missing, what the others name may well be in it.
        if let (Some(known), false) = (self.around.known, self.incomplete) {
            let known = self.all_known(known);
            // What is wrong itself may be the reason that a name or level is not known.
            let sound = |kind| !self.mistakes.iter().any(|mistake| mistake.key.starts_with(kind));
            let (users_sound, targets_sound) = (sound("user"), sound("target"));
            let mut found = Vec::new();
            for Mention { subject, target, level } in &self.mentions {
                let mut note = |place: &Mistake, checked: Result<(), String>| {
                    found.extend(checked.err().map(|what| Mistake { what, ..place.clone() }));
                };
                if let (Some((subject, place)), true) = (subject, users_sound) {
                    note(place, known.subject(subject));
                }
                let Some((target, place)) = target else { continue };
                note(place, known.target(target));
                if let (Some((level, place)), true) = (level, targets_sound) {
                    note(place, known.level(target, level));
                }
            }
            self.mistakes.append(&mut found);
        }
        if self.mistakes.is_empty() { Ok(self.resources) } else { Err(self.mistakes) }
    }

    /// What the files have, also where it is wrong, and what is known besides.
    fn all_known(&self, besides: &Known) -> Known {
        let targets = self.resources.targets.iter().map(|resource| resource.target.clone());
        let mut known = Known::of(&self.resources.users, targets);
        known.users.extend(besides.users.iter().cloned());
        known.groups.extend(besides.groups.iter().cloned());
        for (target, levels) in &besides.targets {
            known.targets.entry(target.clone()).or_insert_with(|| levels.clone());
        }
        for (_, name) in self.places.keys().filter(|(kind, _)| *kind == "target") {
            known.targets.entry(name.clone()).or_default();
        }
        known
    }

    fn file(&mut self, root: &Table<'_>) {
        let targets = root.list("target", |table| self.target(table));
        self.resources.targets.extend(targets);
        let users = root.list("user", |table| self.user(table));
        self.resources.users.extend(users);
        let grants = root.list("grant", |table| self.grant(table));
        self.resources.grants.extend(grants);
    }

    /// The name, which must be the only one of its kind in all files.
    fn name(&mut self, kind: &'static str, table: &Table<'_>) -> Option<Name> {
        let name = table.need("name", "\"orders\"", name_of)?;
        if let Some(first) = self.places.get(&(kind, name.clone())) {
            table.mistake("name", format!("a second {kind} {name}; the first is at {first}"));
        } else {
            self.places.insert((kind, name.clone()), table.place());
        }
        Some(name)
    }

    fn target(&mut self, table: &Table<'_>) -> Option<TargetResource> {
        let name = self.name("target", table);
        let protocol = table.need("protocol", "\"postgres\"", |value| {
            let text = value.text()?;
            checks::protocol(text, &self.around.protocols).map(|()| text.to_owned())
        });
        let address = table.need("address", "\"127.0.0.1:5432\"", |value| checked(value, checks::address));
        let tls = table.read("tls", |value| checks::tls_mode(value.text()?));
        let tls_default = upstream::default_tls(address.as_deref());
        let tls_ca = self.tls_ca(table, tls, tls_default);
        let secret_confirmed_for = table.read("secret_confirmed_for", |value| {
            let text = value.text()?;
            confirmed(Some(text), address.as_deref().unwrap_or(text)).map(|()| text.to_owned())
        });
        note_clear_secrets(table);
        let connectors: BTreeMap<_, _> =
            table.named("connector", |level, table| self.connector(level, table)).into_iter().collect();
        if !table.has("connector") {
            table.mistake("connector", NO_CONNECTOR);
        }
        let target = Target {
            database: table.read("database", |value| checked(value, checks::database)),
            tls: tls.unwrap_or(tls_default),
            tls_ca,
            upstream: upstream::read(table, |table| {
                note_clear_secrets(table);
                self.secret(table)
            }),
            details: table.read_or("details", String::new(), |value| checked(value, checks::details)),
            owners: table.read_or("owners", BTreeSet::new(), names_of),
            pool: table.section("pool", pool),
            remembered: Default::default(),
            accept_extensions: table.read_or("accept_extensions", BTreeSet::new(), |value| {
                let names = value.texts(|text| checks::extension(text).map(|()| text.to_owned()))?;
                Ok(names.into_iter().collect())
            }),
            park: table.read_or("park", Parking::default(), |value| checks::park(value.text()?)),
            park_accepts: table.read_or("park_accepts", BTreeSet::new(), |value| {
                Ok(value.texts(checks::park_loss)?.into_iter().collect())
            }),
            bodies: table.read_or("bodies", BodyMode::default(), |value| checks::bodies(value.text()?)),
            name: name?,
            protocol: protocol?,
            address: address?,
            connectors,
            suspended: None,
        };
        // RabbitMQ's bodies are all read for names, each whole.
        let streams = upstream::AUTHORIZED.contains(&target.protocol.as_str());
        if target.bodies != BodyMode::Whole && !streams {
            let (of, this) = (upstream::AUTHORIZED.join(" and "), &target.protocol);
            table.mistake("bodies", format!("is for {of}, and this is {this}: leave it out"));
        }
        for (key, what) in
            upstream::contradictions(&target.upstream, &target.protocol, &target.address, target.tls)
        {
            table.mistake(key, what);
        }
        Some(TargetResource { target, secret_confirmed_for })
    }

    fn tls_ca(&self, table: &Table<'_>, tls: Option<TlsMode>, default: TlsMode) -> Option<String> {
        let file = table.read("tls_ca", |value| {
            let text = value.text()?;
            let Some(node) = self.around.node else { return Ok(text.to_owned()) };
            let path = node.base.join(text);
            match std::fs::File::open(&path) {
                Ok(_) => Ok(text.to_owned()),
                Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
            }
        });
        // A mode that is not one has been noted already, and so has a CA that cannot be read.
        let mode_known = tls.is_some() || !table.has("tls");
        let ca = if table.has("tls_ca") { Some(file.as_deref().unwrap_or("noted")) } else { None };
        if mode_known && let Err(what) = checks::tls_ca(tls.unwrap_or(default), ca) {
            table.mistake("tls_ca", what);
        }
        file
    }

    fn connector(&self, level: &str, table: &Table<'_>) -> Option<(AccessLevel, Connector)> {
        let level = match checks::level(level) {
            Ok(level) => Some(level),
            Err(what) => {
                table.mistake("", what);
                None
            }
        };
        note_clear_secrets(table);
        let secret = self.secret(table);
        Some((level?, Connector { secret: secret?, baseline: None, suspended: None }))
    }

    /// The reference in `secret`, which must be there.
    fn secret(&self, table: &Table<'_>) -> Option<String> {
        if !table.has("secret") {
            table.need("secret", "\"file:orders-read.json\"", |_| Ok(()));
            return None;
        }
        table.value("secret").and_then(|value| {
            // What stands here may be the secret itself.
            let value = value.hidden();
            let known = value.text().and_then(|text| Reference::parse(text).map(|_| text.to_owned()));
            let read = known.and_then(|text| match &self.secrets {
                Some(secrets) => secrets.read(&text).map(|_| text).map_err(|error| error.to_string()),
                None => Ok(text),
            });
            read.map_err(|what| value.mistake(what)).ok()
        })
    }

    fn user(&mut self, table: &Table<'_>) -> Option<User> {
        let name = self.name("user", table);
        note_clear_secrets(table);
        let groups = table.read_or("groups", BTreeSet::new(), names_of);
        Some(User { name: name?, groups })
    }

    fn grant(&mut self, table: &Table<'_>) -> Option<GrantResource> {
        let name = self.name("grant", table);
        let (user, group) = (table.read("user", name_of), table.read("group", name_of));
        match (table.has("user"), table.has("group")) {
            (true, true) => table.mistake("group", "a grant is given to a user or to a group, not to both"),
            (false, false) => table.mistake("user", "missing; a grant has a user or a group"),
            _ => {}
        }
        let target = table.need("target", "\"orders\"", name_of);
        let level = table.need("level", "\"read\"", |value| checks::level(value.text()?));
        let subject = user.map(Subject::User).or(group.map(Subject::Group));
        let subject_key = if matches!(subject, Some(Subject::Group(_))) { "group" } else { "user" };
        self.mentions.push(Mention {
            subject: subject.clone().map(|subject| (subject, table.possible_mistake(subject_key))),
            target: target.clone().map(|target| (target, table.possible_mistake("target"))),
            level: level.clone().map(|level| (level, table.possible_mistake("level"))),
        });
        let from = table.need("from", "2026-11-22T08:00:00Z", Value::time);
        let until = table.need("until", "2026-11-22T18:00:00Z", Value::time);
        let databases = table.read_or("databases", Databases::Default, databases);
        let cidrs = table.read_or("cidrs", Vec::new(), |value| value.texts(cidr));
        let sessions_max = table.read("sessions", |value| narrow(value, 1, u32::MAX));
        let reason = table.read("reason", |value| checked(value, checks::reason));
        let grant = GrantResource {
            name: name?,
            subject: subject?,
            target: target?,
            level: level?,
            databases,
            window: Window { start: from?, end: until? },
            cidrs,
            sessions_max,
            reason,
        };
        if let Err((key, what)) = grant.conditions() {
            table.mistake(key, what);
        }
        Some(grant)
    }
}

/// The names in one grant, each with the mistake that it would be if it named nothing.
struct Mention {
    subject: Option<(Subject, Mistake)>,
    target: Option<(Name, Mistake)>,
    level: Option<(AccessLevel, Mistake)>,
}

/// Keys that somebody may write a login into; none of them is shown.
fn note_clear_secrets(table: &Table<'_>) {
    for key in ["password", "passwd", "pass", "passphrase", "username", "token"] {
        table.refuse(
            key,
            "no login stands in a resource file; write {\"username\": \"…\", \"password\": \"…\"} to a \
                 file of mode 600 in the secret directory and name it in [target.connector.LEVEL]: \
                 secret = \"file:NAME\"",
        );
    }
}

fn pool(table: &Table<'_>) -> PoolSettings {
    let default = PoolSettings::default();
    let read = |key: &'static str, default: u32| {
        let range = checks::POOL_RANGES.iter().find(|range| range.0 == key);
        let (least, most) = range.map_or((0, u32::MAX), |range| (range.1, range.2));
        table.read_or(key, default, |value| narrow(value, least, most))
    };
    let settings = PoolSettings {
        size_max: read("size_max", default.size_max),
        warm_min: read("warm_min", default.warm_min),
        wait_seconds_max: read("wait_seconds_max", default.wait_seconds_max),
        waiting_max: read("waiting_max", default.waiting_max),
        age_seconds_max: read("age_seconds_max", default.age_seconds_max),
        idle_seconds_max: read("idle_seconds_max", default.idle_seconds_max),
        connect_seconds_max: read("connect_seconds_max", default.connect_seconds_max),
    };
    // All that is left to be wrong is what two of them say together.
    if let Err((key, what)) = checks::pool(&settings) {
        table.mistake(key, what);
    }
    settings
}

fn databases(value: &Value<'_>) -> Result<Databases, String> {
    let names = value.texts(|text| Ok(text.to_owned()))?;
    if names.is_empty() {
        return Err(
            "empty; leave it out for the target's default database, or say [\"*\"] for all".to_owned()
        );
    }
    if names == ["*"] {
        return Ok(Databases::All);
    }
    names.iter().try_for_each(|name| checks::database(name))?;
    Ok(Databases::Listed(names.into_iter().collect()))
}

fn cidr(text: &str) -> Result<ipnet::IpNet, String> {
    text.parse().map_err(|_| match text.parse::<std::net::IpAddr>() {
        Ok(address) => {
            let bits = if address.is_ipv4() { 32 } else { 128 };
            format!("\"{text}\" has no prefix length; one address alone is \"{text}/{bits}\"")
        }
        Err(_) => format!("\"{text}\" is not a network; such as \"10.0.0.0/8\" or \"2001:db8::/32\""),
    })
}

fn names_of(value: &Value<'_>) -> Result<BTreeSet<Name>, String> {
    let names = value.texts(|text| Name::parse(text).map_err(|error| error.to_string()))?;
    Ok(names.into_iter().collect())
}

fn checked(value: &Value<'_>, check: fn(&str) -> Result<(), String>) -> Result<String, String> {
    let text = value.text()?;
    check(text).map(|()| text.to_owned())
}

#[cfg(test)]
mod tests;
