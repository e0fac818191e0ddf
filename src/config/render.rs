//! Writes resources as a resource file that reads back as the same resources: `tidegate export`.

use std::fmt::{self, Write};

use super::checks::{bodies_name, loss_name, park_name, tls_name};
use super::resources::{GrantResource, Resources, TargetResource};
use super::upstream;
use crate::model::{BodyMode, Databases, Parking, PoolSettings, Subject, User};

/// The text of one resource file. Values that are the default are left out.
pub fn render(resources: &Resources) -> String {
    let mut text = String::new();
    // Writing to a `String` does not fail.
    let _ = write_all(&mut text, resources);
    text
}

fn write_all(to: &mut String, resources: &Resources) -> fmt::Result {
    for resource in &resources.targets {
        target(to, resource)?;
    }
    for user in &resources.users {
        write_user(to, user)?;
    }
    for grant in &resources.grants {
        write_grant(to, grant)?;
    }
    Ok(())
}

fn target(to: &mut String, resource: &TargetResource) -> fmt::Result {
    let target = &resource.target;
    begin(to, "[[target]]")?;
    pair(to, "name", target.name.as_str())?;
    pair(to, "protocol", &target.protocol)?;
    pair(to, "address", &target.address)?;
    option(to, "secret_confirmed_for", resource.secret_confirmed_for.as_deref())?;
    option(to, "database", target.database.as_deref())?;
    pair(to, "tls", tls_name(target.tls))?;
    option(to, "tls_ca", target.tls_ca.as_deref())?;
    upstream::write_keys(to, &target.upstream)?;
    option(to, "details", Some(target.details.as_str()).filter(|details| !details.is_empty()))?;
    list(to, "owners", target.owners.iter().map(|name| name.as_str()))?;
    list(to, "accept_extensions", target.accept_extensions.iter().map(String::as_str))?;
    if target.bodies != BodyMode::default() {
        pair(to, "bodies", bodies_name(target.bodies))?;
    }
    if target.park != Parking::default() {
        pair(to, "park", park_name(target.park))?;
    }
    list(to, "park_accepts", target.park_accepts.iter().map(|loss| loss_name(*loss)))?;
    pool(to, &target.pool)?;
    for (level, connector) in &target.connectors {
        writeln!(to, "[target.connector.{}]", key(level.as_str()))?;
        pair(to, "secret", &connector.secret)?;
    }
    if let Some(upkeep) = &target.upstream.upkeep {
        writeln!(to, "[target.upkeep]")?;
        pair(to, "secret", &upkeep.secret)?;
    }
    Ok(())
}

fn pool(to: &mut String, pool: &PoolSettings) -> fmt::Result {
    let default = PoolSettings::default();
    if *pool == default {
        return Ok(());
    }
    writeln!(to, "[target.pool]")?;
    for (name, value, usual) in [
        ("size_max", pool.size_max, default.size_max),
        ("warm_min", pool.warm_min, default.warm_min),
        ("wait_seconds_max", pool.wait_seconds_max, default.wait_seconds_max),
        ("waiting_max", pool.waiting_max, default.waiting_max),
        ("age_seconds_max", pool.age_seconds_max, default.age_seconds_max),
        ("idle_seconds_max", pool.idle_seconds_max, default.idle_seconds_max),
        ("connect_seconds_max", pool.connect_seconds_max, default.connect_seconds_max),
    ] {
        if value != usual {
            writeln!(to, "{name} = {value}")?;
        }
    }
    Ok(())
}

fn write_user(to: &mut String, user: &User) -> fmt::Result {
    begin(to, "[[user]]")?;
    pair(to, "name", user.name.as_str())?;
    list(to, "groups", user.groups.iter().map(|name| name.as_str()))
}

fn write_grant(to: &mut String, grant: &GrantResource) -> fmt::Result {
    begin(to, "[[grant]]")?;
    pair(to, "name", grant.name.as_str())?;
    match &grant.subject {
        Subject::User(name) => pair(to, "user", name.as_str())?,
        Subject::Group(name) => pair(to, "group", name.as_str())?,
    }
    pair(to, "target", grant.target.as_str())?;
    pair(to, "level", grant.level.as_str())?;
    writeln!(to, "from = {}", grant.window.start)?;
    writeln!(to, "until = {}", grant.window.end)?;
    match &grant.databases {
        Databases::Default => {}
        Databases::All => list(to, "databases", ["*"].into_iter())?,
        Databases::Listed(names) => list(to, "databases", names.iter().map(String::as_str))?,
    }
    let cidrs: Vec<_> = grant.cidrs.iter().map(ToString::to_string).collect();
    list(to, "cidrs", cidrs.iter().map(String::as_str))?;
    if let Some(sessions) = grant.sessions_max {
        writeln!(to, "sessions = {sessions}")?;
    }
    option(to, "reason", grant.reason.as_deref())
}

fn begin(to: &mut String, header: &str) -> fmt::Result {
    let gap = if to.is_empty() { "" } else { "\n" };
    writeln!(to, "{gap}{header}")
}

fn pair(to: &mut String, key: &str, value: &str) -> fmt::Result {
    writeln!(to, "{key} = {}", quoted(value))
}

fn option(to: &mut String, key: &str, value: Option<&str>) -> fmt::Result {
    value.map_or(Ok(()), |value| pair(to, key, value))
}

/// Nothing where the list is empty.
fn list<'v>(to: &mut String, key: &str, values: impl Iterator<Item = &'v str>) -> fmt::Result {
    let values: Vec<_> = values.map(quoted).collect();
    if values.is_empty() {
        return Ok(());
    }
    writeln!(to, "{key} = [{}]", values.join(", "))
}

/// A name of ours as a part of a TOML key: one with a dot stands in quotes.
fn key(name: &str) -> String {
    if name.contains('.') { quoted(name) } else { name.to_owned() }
}

/// A TOML basic string (TOML 1.0, "String").
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, btree_set, vec};
    use proptest::option;
    use proptest::prelude::*;

    use super::*;
    use crate::config::Surroundings;
    use crate::model::{
        AccessLevel, AuthMethod, ChannelBinding, Compression, Connector, Name, Target, Time, TlsMode,
        TlsNegotiation, UpkeepLogin, Upstream, Window,
    };

    fn name() -> impl Strategy<Value = Name> {
        "[a-z0-9._-]{1,12}".prop_map(|text| Name::parse(&text).unwrap())
    }

    fn level() -> impl Strategy<Value = AccessLevel> {
        let named =
            "[a-z0-9._-]{4,12}".prop_filter_map("a slip", |text| super::super::checks::level(&text).ok());
        prop_oneof![Just(AccessLevel::Read), Just(AccessLevel::ReadWrite), Just(AccessLevel::Admin), named]
    }

    /// Text as people may write it: quotes, backslashes, line ends, other scripts.
    fn text() -> impl Strategy<Value = String> {
        vec(prop_oneof![Just('"'), Just('\\'), Just('\n'), Just('\''), Just('#'), any::<char>()], 1..30)
            .prop_map(|chars| chars.into_iter().filter(|c| !c.is_control() || *c == '\n').collect::<String>())
            .prop_filter("empty", |text| !text.is_empty())
    }

    fn line() -> impl Strategy<Value = String> {
        text().prop_map(|text| text.replace('\n', " ")).prop_filter("all", |text| text != "*")
    }

    fn pool() -> impl Strategy<Value = PoolSettings> {
        (1..10_000u32, 0..600u32, 1..300u32).prop_map(|(size_max, wait_seconds_max, connect_seconds_max)| {
            PoolSettings {
                size_max,
                warm_min: size_max / 2,
                wait_seconds_max,
                connect_seconds_max,
                ..PoolSettings::default()
            }
        })
    }

    fn reached() -> impl Strategy<Value = Upstream> {
        use AuthMethod::{Md5, None, Password, ScramSha256};
        let methods = vec![ScramSha256, Md5, Password, None];
        (
            proptest::sample::select(vec![ChannelBinding::Disable, ChannelBinding::Prefer]),
            option::of(btree_set(proptest::sample::select(methods), 1..4)),
            option::of("file:[a-z]{1,8}\\.json"),
        )
            .prop_map(|(channel_binding, require_auth, upkeep)| Upstream {
                channel_binding,
                require_auth,
                stamp_comment: false,
                wildcards: Default::default(),
                tls_negotiation: TlsNegotiation::Postgres,
                compression: Compression::Off,
                upkeep: upkeep.map(|secret| UpkeepLogin { secret }),
            })
    }

    fn target() -> impl Strategy<Value = TargetResource> {
        let secret =
            prop_oneof!["file:[a-z]{1,8}(/[a-z]{1,8})?\\.json", "env:TIDEGATE_SECRET_[A-Z0-9_]{1,8}"];
        let connector = secret.prop_map(|secret| Connector { secret, baseline: None, suspended: None });
        let modes = proptest::sample::select(super::super::checks::TLS_MODES.map(|(_, mode)| mode).to_vec());
        (
            (name(), option::of(line()), modes, option::of(line()), prop_oneof![Just(String::new()), text()]),
            (btree_set(name(), 0..3), btree_map(level(), connector, 1..4), btree_set(line(), 0..3)),
            (prop_oneof![Just(PoolSettings::default()), pool()], any::<bool>(), reached()),
            (
                proptest::sample::select(vec![Parking::Proven, Parking::Never]),
                btree_set(
                    proptest::sample::select(vec![
                        crate::model::Loss::Functions,
                        crate::model::Loss::Sequences,
                    ]),
                    0..2,
                ),
            ),
        )
            .prop_map(
                |(
                    (name, database, tls, tls_ca, details),
                    (owners, connectors, accept_extensions),
                    (pool, confirmed, upstream),
                    (park, park_accepts),
                )| {
                    let needed = matches!(tls, TlsMode::VerifyCa | TlsMode::VerifyFull);
                    let address = "[2001:db8::1]:5432".to_owned();
                    TargetResource {
                        secret_confirmed_for: confirmed.then(|| address.clone()),
                        target: Target {
                            name,
                            protocol: "postgres".to_owned(),
                            address,
                            database,
                            tls,
                            upstream,
                            tls_ca: tls_ca.or(needed.then(|| "ca.pem".to_owned())),
                            details,
                            owners,
                            connectors,
                            pool,
                            remembered: Default::default(),
                            accept_extensions,
                            park,
                            park_accepts,
                            bodies: BodyMode::Whole,
                            suspended: None,
                        },
                    }
                },
            )
    }

    fn window() -> impl Strategy<Value = Window> {
        // The years that TOML can write.
        (0..4_102_444_800i64, 1..100_000_000i64, 0..1_000_000_000i32).prop_map(|(start, length, nanos)| {
            Window {
                start: Time::new(start, nanos).unwrap(),
                end: Time::from_second(start + length + 1).unwrap(),
            }
        })
    }

    fn grant() -> impl Strategy<Value = GrantResource> {
        let subject = prop_oneof![name().prop_map(Subject::User), name().prop_map(Subject::Group)];
        let databases = prop_oneof![
            Just(Databases::Default),
            Just(Databases::All),
            btree_set(line(), 1..3).prop_map(Databases::Listed)
        ];
        let cidr = prop_oneof![
            (any::<u32>(), 0..=32u8).prop_map(|(ip, prefix)| ipnet::IpNet::new(
                std::net::Ipv4Addr::from(ip).into(),
                prefix
            )
            .unwrap()),
            (any::<u128>(), 0..=128u8).prop_map(|(ip, prefix)| ipnet::IpNet::new(
                std::net::Ipv6Addr::from(ip).into(),
                prefix
            )
            .unwrap()),
        ];
        (
            (name(), subject, name(), level(), databases),
            (window(), vec(cidr, 0..3), option::of(1..=u32::MAX), option::of(text())),
        )
            .prop_map(
                |((name, subject, target, level, databases), (window, cidrs, sessions_max, reason))| {
                    GrantResource {
                        name,
                        subject,
                        target,
                        level,
                        databases,
                        window,
                        cidrs,
                        sessions_max,
                        reason,
                    }
                },
            )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn what_is_written_reads_back(
            targets in vec(target(), 0..3),
            users in vec((name(), btree_set(name(), 0..3)).prop_map(|(name, groups)| User { name, groups }), 0..3),
            grants in vec(grant(), 0..3),
        ) {
            let mut resources = Resources { targets, users, grants };
            // A file names each once.
            let mut seen = std::collections::HashSet::new();
            resources.targets.retain(|one| seen.insert(("target", one.target.name.clone())));
            resources.users.retain(|one| seen.insert(("user", one.name.clone())));
            resources.grants.retain(|one| seen.insert(("grant", one.name.clone())));

            let text = render(&resources);
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("export.toml");
            std::fs::write(&path, &text).unwrap();
            let around = Surroundings { protocols: vec!["postgres"], known: None, node: None };
            match Resources::load_with(&[path], &around) {
                Ok(read) => prop_assert_eq!(read, resources, "{}", text),
                Err(mistakes) => prop_assert!(false, "{:?}\n{}", mistakes, text),
            }
        }
    }
}
