//! What one value of a resource must be: the same for a file and for the admin API.

use std::net::Ipv6Addr;

use crate::model::limits::{DATABASE_CHARS_MAX, DETAILS_CHARS_MAX};
use crate::model::{AccessLevel, BodyMode, Loss, Parking, PoolSettings, TlsMode, UnixAddress};

pub(super) use crate::model::conditions::{conditions, database, free_text, reason};

use super::table::listed;

/// The names of `tls` and what they stand for.
pub(super) const TLS_MODES: [(&str, TlsMode); 6] = [
    ("disable", TlsMode::Disable),
    ("allow", TlsMode::Allow),
    ("prefer", TlsMode::Prefer),
    ("require", TlsMode::Require),
    ("verify-ca", TlsMode::VerifyCa),
    ("verify-full", TlsMode::VerifyFull),
];

pub(super) fn tls_mode(text: &str) -> Result<TlsMode, String> {
    let known = TLS_MODES.iter().find(|(name, _)| *name == text);
    known.map(|(_, mode)| *mode).ok_or_else(|| {
        let names = TLS_MODES.map(|(name, _)| name);
        format!("not a TLS mode; one of {}", names.join(", "))
    })
}

/// A server's certificate can be checked against something.
pub(super) fn tls_ca(mode: TlsMode, ca: Option<&str>) -> Result<(), String> {
    match (mode, ca) {
        (TlsMode::VerifyCa | TlsMode::VerifyFull, None) => Err(format!(
            "missing; tls = \"{}\" (the default is verify-full) checks the server's certificate: name the \
             CA file, or say tls = \"require\" to accept any certificate",
            tls_name(mode)
        )),
        (_, Some("")) => Err("empty; name the CA file".to_owned()),
        _ => Ok(()),
    }
}

pub(super) fn tls_name(mode: TlsMode) -> &'static str {
    TLS_MODES.iter().find(|(_, known)| *known == mode).map_or("verify-full", |(name, _)| name)
}

pub(super) fn bodies(text: &str) -> Result<BodyMode, String> {
    match text {
        "whole" => Ok(BodyMode::Whole),
        "stream" => Ok(BodyMode::Stream),
        _ => Err("must be \"whole\" (checked whole before anything is sent) or \"stream\" (line by line)"
            .to_owned()),
    }
}

pub(super) fn bodies_name(bodies: BodyMode) -> &'static str {
    match bodies {
        BodyMode::Whole => "whole",
        BodyMode::Stream => "stream",
    }
}

pub(super) fn park(text: &str) -> Result<Parking, String> {
    match text {
        "proven" => Ok(Parking::Proven),
        "never" => Ok(Parking::Never),
        _ => Err(
            "must be \"proven\" (idle sessions give their connection back when nothing would be lost) or \
                  \"never\""
                .to_owned(),
        ),
    }
}

pub(super) fn park_name(park: Parking) -> &'static str {
    match park {
        Parking::Proven => "proven",
        Parking::Never => "never",
    }
}

pub(super) fn park_loss(text: &str) -> Result<Loss, String> {
    match text {
        "functions" => Ok(Loss::Functions),
        "sequences" => Ok(Loss::Sequences),
        _ => Err("must be \"functions\" or \"sequences\"".to_owned()),
    }
}

pub(super) fn loss_name(loss: Loss) -> &'static str {
    match loss {
        Loss::Functions => "functions",
        Loss::Sequences => "sequences",
    }
}

pub(super) fn protocol(text: &str, known: &[&str]) -> Result<(), String> {
    if known.contains(&text) {
        return Ok(());
    }
    Err(format!("not a protocol that is built in; there is {}", listed(known)))
}

/// `host:port`; an IPv6 address stands in brackets. Or `unix:` and a path.
pub(super) fn address(text: &str) -> Result<(), String> {
    const RIGHT: &str = "must be host:port, such as db.example.com:5432, 10.0.0.5:5432 or [::1]:5432; or unix:/run/postgresql, unix:/run/mysqld/mysqld.sock";
    if let Some(unix) = UnixAddress::parse(text) {
        return unix.map(drop).map_err(str::to_owned);
    }
    let (host, port) = text.rsplit_once(':').ok_or(RIGHT)?;
    let host_fits = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().is_ok(),
        None => {
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
            // 253: the longest name that DNS has.
            !host.is_empty() && host.len() <= 253 && host.chars().all(allowed)
        }
    };
    // `parse` would take a leading plus.
    let port_fits =
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    if host_fits && port_fits { Ok(()) } else { Err(RIGHT.to_owned()) }
}

pub(super) fn details(text: &str) -> Result<(), String> {
    free_text(text, DETAILS_CHARS_MAX)
}

/// The name of an extension or language on the target.
pub(super) fn extension(text: &str) -> Result<(), String> {
    if text.is_empty() || text.chars().count() > DATABASE_CHARS_MAX || text.contains(char::is_control) {
        return Err("an extension is named as the server lists it, such as \"plpython3u\"".to_owned());
    }
    Ok(())
}

/// Some other ways to write the names of the ordered levels. As further levels of a target they would
/// have no place in the order, which is hardly ever meant.
const LEVEL_SLIPS: [(&str, &str); 10] = [
    ("readonly", "read"),
    ("ro", "read"),
    ("r", "read"),
    ("select", "read"),
    ("readwrite", "read_write"),
    ("rw", "read_write"),
    ("write", "read_write"),
    ("w", "read_write"),
    ("administrator", "admin"),
    ("root", "admin"),
];

pub(super) fn level(text: &str) -> Result<AccessLevel, String> {
    let plain: String = text.chars().filter(|c| c.is_ascii_alphanumeric()).collect::<String>().to_lowercase();
    let level = text.parse::<AccessLevel>().map_err(|error| error.to_string());
    let ordered = ["read", "read_write", "admin"];
    let slip = LEVEL_SLIPS.iter().find(|(slip, _)| *slip == plain).map(|(_, meant)| *meant);
    let meant = slip.or_else(|| ordered.into_iter().find(|name| *name == text.to_lowercase()));
    match (level, meant) {
        (Ok(level), None) => Ok(level),
        (Ok(level), _) if level.is_ordered() => Ok(level),
        (_, Some(meant)) => Err(format!("not the name of a level; did you mean {meant}?")),
        (Err(error), None) => Err(error),
    }
}

/// The key of the setting that is out of its range, the least and the most that it may be. The ranges
/// only keep out what cannot be meant.
pub(super) const POOL_RANGES: [(&str, u32, u32); 7] = [
    ("size_max", 1, 10_000),
    ("warm_min", 0, 10_000),
    ("wait_seconds_max", 0, 600),
    ("waiting_max", 0, 1_000_000),
    ("age_seconds_max", 1, 30 * 86_400),
    ("idle_seconds_max", 1, 30 * 86_400),
    ("connect_seconds_max", 1, 300),
];

pub(super) fn pool(settings: &PoolSettings) -> Result<(), (&'static str, String)> {
    let values = [
        settings.size_max,
        settings.warm_min,
        settings.wait_seconds_max,
        settings.waiting_max,
        settings.age_seconds_max,
        settings.idle_seconds_max,
        settings.connect_seconds_max,
    ];
    for ((key, least, most), value) in POOL_RANGES.into_iter().zip(values) {
        if !(least..=most).contains(&value) {
            return Err((key, format!("must be a whole number from {least} to {most}")));
        }
    }
    if settings.warm_min > settings.size_max {
        return Err(("warm_min", format!("must not be above size_max, which is {}", settings.size_max)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for good in [
            "127.0.0.1:5432",
            "db.example.com:1",
            "[::1]:65535",
            "db_1:5432",
            "unix:/run/postgresql",
            "unix:/tmp:5433",
        ] {
            assert_eq!(address(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            ":",
            "db",
            "db:",
            "db:0",
            "db:65536",
            "db:+1",
            ":5432",
            "::1:5432",
            "[::1]",
            "[x]:1",
            "a b:1",
            "http://a:1",
            "a/b:1",
            "unix:run",
            "unix:/tmp:0",
        ] {
            assert!(address(bad).is_err(), "{bad}");
        }
        assert!(address(&format!("{}:1", "a".repeat(254))).is_err());
    }

    #[test]
    fn levels_that_look_like_the_ordered_ones_are_slips() {
        assert_eq!(level("read_write"), Ok(AccessLevel::ReadWrite));
        assert!(level("reporting").is_ok_and(|level| !level.is_ordered()));
        for (slip, meant) in [
            ("read-write", "read_write"),
            ("readwrite", "read_write"),
            ("READ", "read"),
            ("Read-Only", "read"),
            ("rw", "read_write"),
        ] {
            assert!(level(slip).unwrap_err().ends_with(&format!("did you mean {meant}?")), "{slip}");
        }
        assert!(level("").is_err() && level("a b").is_err());
    }

    #[test]
    fn pools_stay_in_their_ranges() {
        let default = PoolSettings::default();
        assert_eq!(pool(&default), Ok(()));
        assert_eq!(pool(&PoolSettings { size_max: 0, ..default }).unwrap_err().0, "size_max");
        assert_eq!(pool(&PoolSettings { warm_min: 21, ..default }).unwrap_err().0, "warm_min");
        assert_eq!(
            pool(&PoolSettings { connect_seconds_max: 0, ..default }).unwrap_err().0,
            "connect_seconds_max"
        );
    }

    #[test]
    fn texts_keep_their_limits() {
        assert_eq!(details(&"ü".repeat(400)), Ok(()));
        assert!(details(&"a".repeat(401)).is_err());
        assert!(details("a\u{1b}[2J").is_err());
        assert_eq!(details("two\nlines"), Ok(()));
        assert_eq!(database("shop"), Ok(()));
        for bad in ["", "*", "a\0b"] {
            assert!(database(bad).is_err(), "{bad:?}");
        }
    }
}
