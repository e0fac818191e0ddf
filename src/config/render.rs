//! Writes resources as a resource file that reads back as the same resources: `tidegate export`.

use std::fmt::{self, Write};

use super::checks::tls_name;
use super::resources::{GrantResource, Resources, TargetResource};
use crate::model::{Databases, PoolSettings, Subject, User};

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
    option(to, "details", Some(target.details.as_str()).filter(|details| !details.is_empty()))?;
    list(to, "owners", target.owners.iter().map(|name| name.as_str()))?;
    list(to, "accept_extensions", target.accept_extensions.iter().map(String::as_str))?;
    pool(to, &target.pool)?;
    for (level, connector) in &target.connectors {
        writeln!(to, "[target.connector.{}]", key(level.as_str()))?;
        pair(to, "secret", &connector.secret)?;
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
