//! Reads resource files: tables in, [`Resources`] and mistakes with their lines out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::node::{name_of, narrow};
use super::resources::{
    GrantResource, Known, NO_CONNECTOR, Resources, Surroundings, TargetResource, confirmed,
};
use super::table::{Table, Value, read_file};
use super::{Mistake, checks};
use crate::model::{
    AccessLevel, Connector, Databases, Name, PoolSettings, Subject, Target, TlsMode, User, Window,
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
        let tls_ca = self.tls_ca(table, tls);
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
            tls: tls.unwrap_or_default(),
            tls_ca,
            details: table.read_or("details", String::new(), |value| checked(value, checks::details)),
            owners: table.read_or("owners", BTreeSet::new(), names_of),
            pool: table.section("pool", pool),
            accept_extensions: table.read_or("accept_extensions", BTreeSet::new(), |value| {
                let names = value.texts(|text| checks::extension(text).map(|()| text.to_owned()))?;
                Ok(names.into_iter().collect())
            }),
            name: name?,
            protocol: protocol?,
            address: address?,
            connectors,
            suspended: None,
        };
        Some(TargetResource { target, secret_confirmed_for })
    }

    fn tls_ca(&self, table: &Table<'_>, tls: Option<TlsMode>) -> Option<String> {
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
        if mode_known && let Err(what) = checks::tls_ca(tls.unwrap_or_default(), ca) {
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
        if !table.has("secret") {
            table.need("secret", "\"file:orders-read.json\"", |_| Ok(()));
            return None;
        }
        let secret = table.value("secret").and_then(|value| {
            // What stands here may be the secret itself.
            let value = value.hidden();
            let known = value.text().and_then(|text| Reference::parse(text).map(|_| text.to_owned()));
            let read = known.and_then(|text| match &self.secrets {
                Some(secrets) => secrets.read(&text).map(|_| text).map_err(|error| error.to_string()),
                None => Ok(text),
            });
            read.map_err(|what| value.mistake(what)).ok()
        });
        Some((level?, Connector { secret: secret?, baseline: None, suspended: None }))
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
mod tests {
    use std::path::PathBuf;

    use super::*;

    const PROTOCOLS: [&str; 1] = ["postgres"];

    /// Writes the texts as `0.toml`, `1.toml` … and loads them; mistakes without the folder.
    fn load(texts: &[&str], known: Option<&Known>) -> Result<Resources, Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = (0..texts.len()).map(|i| folder.path().join(format!("{i}.toml"))).collect();
        for (path, text) in paths.iter().zip(texts) {
            std::fs::write(path, text).unwrap();
        }
        let around = Surroundings { protocols: PROTOCOLS.to_vec(), known, node: None };
        let folder = format!("{}/", folder.path().display());
        Resources::load_with(&paths, &around)
            .map_err(|mistakes| mistakes.iter().map(|one| one.to_string().replace(&folder, "")).collect())
    }

    fn expect(mistakes: &[String], expected: &[&str]) {
        assert_eq!(mistakes.len(), expected.len(), "{mistakes:#?}");
        for (mistake, expected) in mistakes.iter().zip(expected) {
            assert!(mistake.starts_with(expected), "{mistake}\n  is not\n{expected}");
        }
    }

    const TARGET: &str = "[[target]]\nname = 'orders'\nprotocol = 'postgres'\naddress = 'db:5432'\ntls = 'require'\n\
                          [target.connector.read]\nsecret = 'file:a.json'\n";

    #[test]
    fn the_example_in_the_repository_loads() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples/orders.toml");
        let around =
            Surroundings { protocols: PROTOCOLS.to_vec(), known: Some(&Known::default()), node: None };
        let resources = Resources::load_with(&[path], &around).unwrap();
        let target = &resources.targets[0].target;
        assert_eq!((target.name.as_str(), target.tls), ("orders", TlsMode::VerifyFull));
        assert_eq!(target.connectors[&AccessLevel::ReadWrite].secret, "env:TIDEGATE_SECRET_ORDERS_RW");
        assert_eq!(target.pool, PoolSettings::default());
        let users: Vec<_> = resources.users.iter().map(|user| user.name.as_str()).collect();
        assert_eq!(users, ["alice", "bob"]);
        let grant = &resources.grants[1];
        assert_eq!(grant.subject, Subject::Group(Name::parse("backend").unwrap()));
        assert_eq!(grant.databases, Databases::Listed(["shop".to_owned(), "shop_archive".to_owned()].into()));
        assert_eq!((grant.cidrs.len(), grant.sessions_max), (2, Some(4)));
        assert_eq!(grant.window.start, "2026-11-23T20:00:00Z".parse().unwrap());
    }

    #[test]
    fn all_mistakes_of_all_files_are_listed() {
        let first = "[[target]]\nname = 'Orders'\nprotocol = 'mysql'\naddress = 'db'\ntls = 'verify'\ndetails = \"a\\u0007\"\nowner = 'x'\n\
                     [target.connector.read-write]\nsecret = 'hunter2'\n\
                     [target.connector.admin]\npassword = 'hunter2'\n\
                     [target.pool]\nsize_max = 0\nwarm_max = 1\n\
                     [[target]]\nname = 'empty'\nprotocol = 'postgres'\naddress = '[::1]:5432'\n";
        let second = "[[user]]\nname = 'alice'\n[[user]]\nname = 'alice'\ngroups = 'x'\n[[user]]\npassword = 'hunter2'\n\
                      [[grant]]\nname = 'g'\nuser = 'alice'\ngroup = 'b'\ntarget = 'empty'\nlevel = 'rw'\nfrom = '2026-11-22T08:00:00Z'\n\
                      until = 2026-11-22T08:00:00\ndatabases = []\ncidrs = ['10.0.0.1']\nsessions = 0\n";
        let mistakes = load(&[first, second, "a = ["], None).unwrap_err();
        assert!(!mistakes.iter().any(|mistake| mistake.contains("hunter2")), "{mistakes:#?}");
        expect(
            &mistakes,
            &[
                "0.toml:2: target.name = 'Orders': a name is made of a-z",
                "0.toml:3: target.protocol = 'mysql': not a protocol that is built in; there is postgres",
                "0.toml:4: target.address = 'db': must be host:port",
                "0.toml:5: target.tls = 'verify': not a TLS mode; one of disable, allow, prefer, require, verify-ca, verify-full",
                "0.toml:6: target.details = \"a\\u0007\": has the control character '\\u{7}'",
                "0.toml:7: target.owner: not a key that exists here; did you mean owners?",
                "0.toml:8: target.connector.read-write: not the name of a level; did you mean read_write?",
                "0.toml:9: target.connector.read-write.secret: not a reference to a secret",
                "0.toml:10: target.connector.admin.secret: missing",
                "0.toml:11: target.connector.admin.password: no login stands in a resource file",
                "0.toml:13: target.pool.size_max = 0: must be a whole number from 1 to 10000",
                "0.toml:14: target.pool.warm_max: not a key that exists here; did you mean warm_min?",
                "0.toml:15: target.tls_ca: missing; tls = \"verify-full\" (the default is verify-full)",
                "0.toml:15: target.connector: missing",
                "1.toml:4: user.name: a second user alice; the first is at 1.toml:1",
                "1.toml:5: user.groups = 'x': must be a list of texts",
                "1.toml:6: user.name: missing",
                "1.toml:7: user.password: no login stands in a resource file",
                "1.toml:11: grant.group: a grant is given to a user or to a group, not to both",
                "1.toml:13: grant.level = 'rw': not the name of a level; did you mean read_write?",
                "1.toml:14: grant.from = '2026-11-22T08:00:00Z': must be a date, time and offset without quotes",
                "1.toml:15: grant.until = 2026-11-22T08:00:00: must be a date, time and offset without quotes",
                "1.toml:16: grant.databases = []: empty; leave it out",
                "1.toml:17: grant.cidrs = ['10.0.0.1']: \"10.0.0.1\" has no prefix length; one address alone is \"10.0.0.1/32\"",
                "1.toml:18: grant.sessions = 0: must be a whole number from 1",
                "2.toml:1: not TOML:",
            ],
        );
    }

    const GRANT: &str = "[[grant]]\nname = 'g'\nuser = 'alice'\ntarget = 'orders'\nlevel = 'read'\n\
                         from = 2026-11-22T08:00:00Z\nuntil = 2026-11-22T18:00:00+01:00\n";

    #[test]
    fn grants_name_what_some_file_or_the_store_has() {
        let nothing = Known::default();
        assert!(load(&[GRANT, TARGET, "[[user]]\nname = 'alice'\n"], Some(&nothing)).is_ok());
        assert!(load(&[GRANT], None).is_ok());
        expect(
            &load(&[GRANT], Some(&nothing)).unwrap_err(),
            &[
                "0.toml:3: grant.user = 'alice': there is no user alice; add a [[user]] of that name",
                "0.toml:4: grant.target = 'orders': there is no target orders; add a [[target]]",
            ],
        );
        let mut stored = Known::default();
        stored.users.insert(Name::parse("alice").unwrap());
        stored.targets.insert(Name::parse("orders").unwrap(), [AccessLevel::Admin].into());
        expect(
            &load(&[GRANT], Some(&stored)).unwrap_err(),
            &["0.toml:5: grant.level = 'read': target orders has no connector for read; it has admin"],
        );
        // The files come first: they will replace what is stored.
        assert!(load(&[TARGET, GRANT], Some(&stored)).is_ok());
        // A target or file that is wrong is no reason to call its name unknown.
        let wrong = TARGET.replace("db:5432", "db");
        expect(&load(&[&wrong, GRANT], Some(&stored)).unwrap_err(), &["0.toml:4: target.address = 'db'"]);
        expect(&load(&["[", GRANT], Some(&nothing)).unwrap_err(), &["0.toml:1: not TOML"]);
    }

    #[test]
    fn windows_and_confirmations_are_checked() {
        let backwards = GRANT.replace("18:00:00+01:00", "09:00:00+01:00");
        expect(
            &load(&[&backwards], None).unwrap_err(),
            &["0.toml:7: grant.until: must be later than from, which is 2026-11-22T08:00:00Z"],
        );
        let confirmed = format!("secret_confirmed_for = 'db:5433'\n[target.connector.read]");
        let target = TARGET.replace("[target.connector.read]", &confirmed);
        expect(
            &load(&[&target], None).unwrap_err(),
            &["0.toml:6: target.secret_confirmed_for = 'db:5433': must repeat the target's address, which is \"db:5432\""],
        );
        let target = target.replace("5433", "5432");
        let resources = load(&[&target], None).unwrap();
        assert_eq!(resources.targets[0].secret_confirmed_for.as_deref(), Some("db:5432"));
    }

    #[test]
    fn a_login_in_the_place_of_a_table_is_not_shown() {
        for text in [
            "[target.connector]\nread = 'hunter2'\n",
            "[target]\nconnector.read = { username = 'u', password = 'hunter2' }\n",
            "connector = 'hunter2'\n",
        ] {
            let body = "name = 'a'\nprotocol = 'postgres'\naddress = 'db:1'\ntls = 'require'\n";
            let text = match text.strip_prefix("[target]\n") {
                Some(rest) => format!("[[target]]\n{body}{rest}"),
                None => format!("[[target]]\n{body}{text}"),
            };
            let mistakes = load(&[&text], None).unwrap_err();
            assert!(!mistakes.is_empty() && !mistakes.iter().any(|one| one.contains("hunter2")), "{mistakes:#?}");
        }
    }

    #[test]
    fn a_check_reads_what_is_named() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            path
        };
        let node = file("node.toml", "[[listener]]\naddress = '127.0.0.1:1'\nprotocol = 'postgres'\n");
        let node = crate::config::NodeConfig::load_with(&node, &PROTOCOLS, false).unwrap();
        let resources = file(
            "r.toml",
            &TARGET.replace("'require'", "'verify-full'\ntls_ca = 'ca.pem'"),
        );
        let around = Surroundings { protocols: PROTOCOLS.to_vec(), known: None, node: Some(&node) };
        let mistakes = Resources::load_with(std::slice::from_ref(&resources), &around).unwrap_err();
        let said: Vec<_> = mistakes.iter().map(|mistake| (mistake.line.unwrap(), mistake.what.as_str())).collect();
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].0 == 6 && said[0].1.contains("ca.pem cannot be read: No such file"), "{said:?}");
        assert!(said[1].0 == 8 && said[1].1.contains("the secret directory"), "{said:?}");
        std::fs::create_dir(folder.path().join("secrets")).unwrap();
        file("ca.pem", "");
        file("secrets/a.json", "{\"username\": \"u\", \"password\": \"p\"}");
        assert!(Resources::load_with(&[resources], &around).is_ok());
    }
}
