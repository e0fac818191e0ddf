//! The keys of a target that say how the proxy logs in there, read, checked and written back.

use std::collections::BTreeSet;
use std::fmt;

use super::checks::tls_name;
use super::table::{Table, Value};
use crate::model::{
    AuthMethod, ChannelBinding, Compression, TlsMode, TlsNegotiation, UpkeepLogin, Upstream, Wildcards,
    is_unix,
};

const BINDINGS: [(&str, ChannelBinding); 3] = [
    ("disable", ChannelBinding::Disable),
    ("prefer", ChannelBinding::Prefer),
    ("require", ChannelBinding::Require),
];

const NEGOTIATIONS: [(&str, TlsNegotiation); 2] =
    [("postgres", TlsNegotiation::Postgres), ("direct", TlsNegotiation::Direct)];

const COMPRESSIONS: [(&str, Compression); 3] =
    [("off", Compression::Off), ("zlib", Compression::Zlib), ("zstd", Compression::Zstd)];
const COMMENTS: [(&str, bool); 2] = [("off", false), ("on", true)];
const WILDCARDS: [(&str, Wildcards); 2] = [("narrow", Wildcards::Narrow), ("resolve", Wildcards::Resolve)];

/// Reads them; `secret` reads the reference in `[target.upkeep]`.
pub(super) fn read(table: &Table<'_>, secret: impl FnOnce(&Table<'_>) -> Option<String>) -> Upstream {
    let channel_binding =
        table.read_or("channel_binding", ChannelBinding::default(), |value| one_of(value.text()?, &BINDINGS));
    let tls_negotiation = table
        .read_or("tls_negotiation", TlsNegotiation::default(), |value| one_of(value.text()?, &NEGOTIATIONS));
    let compression =
        table.read_or("compression", Compression::default(), |value| one_of(value.text()?, &COMPRESSIONS));
    let require_auth = table.read("require_auth", methods);
    let upkeep = match table.has("upkeep") {
        true => table.section("upkeep", secret).map(|secret| UpkeepLogin { secret }),
        false => None,
    };
    let stamp_comment = table.read_or("stamp_comment", false, |value| one_of(value.text()?, &COMMENTS));
    let wildcards =
        table.read_or("wildcards", Wildcards::default(), |value| one_of(value.text()?, &WILDCARDS));
    Upstream { channel_binding, require_auth, tls_negotiation, compression, upkeep, stamp_comment, wildcards }
}

fn one_of<T: Copy>(text: &str, known: &[(&str, T)]) -> Result<T, String> {
    let found = known.iter().find(|(name, _)| *name == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
        format!("must be one of {}", names.join(", "))
    })
}

/// One name or a list of them.
fn methods(value: &Value<'_>) -> Result<BTreeSet<AuthMethod>, String> {
    if let Ok(text) = value.text() {
        return text.split(',').map(|name| method(name.trim())).collect();
    }
    Ok(value.texts(method)?.into_iter().collect())
}

fn method(name: &str) -> Result<AuthMethod, String> {
    match name {
        "gss" | "sspi" | "oauth" | "creds" => {
            Err(format!("{name} is not supported towards servers; there are {}", all_methods()))
        }
        _ if name.starts_with('!') => {
            Err(format!("names what is allowed, not what is not; there are {}", all_methods()))
        }
        _ => one_of(name, &AuthMethod::ALL),
    }
}

fn all_methods() -> String {
    AuthMethod::ALL.map(|(name, _)| name).join(", ")
}

/// What the target's `tls` is where it says nothing.
pub(super) fn default_tls(address: Option<&str>) -> TlsMode {
    match address.is_some_and(is_unix) {
        true => TlsMode::Disable,
        false => TlsMode::default(),
    }
}

const POSTGRES: &str = "postgres";
const MYSQL: &str = "mysql";
/// Where the proxy itself looks at indices.
pub(super) const AUTHORIZED: [&str; 2] = ["elasticsearch", "opensearch"];

/// Whether servers of this protocol know the method.
fn serves(method: AuthMethod, protocol: &str) -> bool {
    match method {
        AuthMethod::ScramSha256 | AuthMethod::Md5 => protocol == POSTGRES,
        AuthMethod::Password | AuthMethod::None => true,
        AuthMethod::CachingSha2 | AuthMethod::NativePassword | AuthMethod::Ed25519 | AuthMethod::Parsec => {
            protocol != POSTGRES
        }
    }
}

/// What these keys cannot mean together: the key and a sentence for each.
pub(super) fn contradictions(
    upstream: &Upstream,
    protocol: &str,
    address: &str,
    tls: TlsMode,
) -> Vec<(&'static str, String)> {
    let mut wrong = Vec::new();
    let unix = is_unix(address);
    let always_tls = matches!(tls, TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull);
    if unix && always_tls {
        wrong.push((
            "tls",
            format!("tls = \"{}\" cannot be kept: a unix socket has no TLS; leave it out", tls_name(tls)),
        ));
    }
    let needs_tls = "needs TLS that is always used: tls = \"require\", \"verify-ca\" or \"verify-full\", and no unix socket";
    if upstream.tls_negotiation == TlsNegotiation::Direct && (unix || !always_tls) {
        wrong.push(("tls_negotiation", format!("\"direct\" {needs_tls}")));
    }
    if upstream.channel_binding == ChannelBinding::Require {
        if unix || !always_tls {
            wrong.push(("channel_binding", format!("\"require\" {needs_tls}")));
        }
        if upstream.require_auth.as_ref().is_some_and(|methods| !methods.contains(&AuthMethod::ScramSha256)) {
            wrong.push((
                "require_auth",
                "channel_binding = \"require\" needs scram-sha-256 among them".into(),
            ));
        }
    }
    if protocol != POSTGRES {
        let set = [
            ("channel_binding", upstream.channel_binding != ChannelBinding::default()),
            ("tls_negotiation", upstream.tls_negotiation != TlsNegotiation::default()),
        ];
        for (key, _) in set.into_iter().filter(|(_, set)| *set) {
            wrong.push((key, format!("is for {POSTGRES}, and this is {protocol}: leave it out")));
        }
    }
    if protocol != MYSQL && upstream.compression != Compression::default() {
        wrong.push(("compression", format!("is for {MYSQL}, and this is {protocol}: leave it out")));
    }
    if protocol == POSTGRES && upstream.stamp_comment {
        let what = "is for servers that show no other name: PostgreSQL's has application_name; leave it out";
        wrong.push(("stamp_comment", what.into()));
    }
    if !AUTHORIZED.contains(&protocol) && upstream.wildcards != Wildcards::default() {
        wrong.push((
            "wildcards",
            format!("is for {}, and this is {protocol}: leave it out", AUTHORIZED.join(" and ")),
        ));
    }
    let foreign = upstream.require_auth.iter().flatten().find(|method| !serves(**method, protocol));
    if let Some(method) = foreign {
        let there = AuthMethod::ALL.iter().filter(|(_, method)| serves(*method, protocol));
        let there: Vec<_> = there.map(|(name, _)| *name).collect();
        let what = format!("{} is not of {protocol}; there are {}", method.as_str(), there.join(", "));
        wrong.push(("require_auth", what));
    }
    if upstream.require_auth.as_ref().is_some_and(BTreeSet::is_empty) {
        let what =
            format!("empty, so no login would be accepted; name some of {}, or leave it out", all_methods());
        wrong.push(("require_auth", what));
    }
    wrong
}

/// The keys among the target's own; the table of `upkeep` is [`write_upkeep`]'s.
pub(super) fn write_keys(to: &mut impl fmt::Write, upstream: &Upstream) -> fmt::Result {
    if let Some((name, _)) = BINDINGS
        .iter()
        .find(|(_, known)| *known == upstream.channel_binding && *known != ChannelBinding::default())
    {
        writeln!(to, "channel_binding = \"{name}\"")?;
    }
    if let Some(methods) = &upstream.require_auth {
        let names: Vec<_> = methods.iter().map(|method| format!("\"{}\"", method.as_str())).collect();
        writeln!(to, "require_auth = [{}]", names.join(", "))?;
    }
    if let Some((name, _)) = NEGOTIATIONS
        .iter()
        .find(|(_, known)| *known == upstream.tls_negotiation && *known != TlsNegotiation::default())
    {
        writeln!(to, "tls_negotiation = \"{name}\"")?;
    }
    if let Some((name, _)) = COMPRESSIONS
        .iter()
        .find(|(_, known)| *known == upstream.compression && *known != Compression::default())
    {
        writeln!(to, "compression = \"{name}\"")?;
    }
    if upstream.stamp_comment {
        writeln!(to, "stamp_comment = \"on\"")?;
    }
    if upstream.wildcards == Wildcards::Resolve {
        writeln!(to, "wildcards = \"resolve\"")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradictions_are_named() {
        let default = Upstream::default();
        let keys = |upstream: &Upstream, address, tls| -> Vec<&str> {
            contradictions(upstream, "postgres", address, tls).into_iter().map(|(key, _)| key).collect()
        };
        assert_eq!(keys(&default, "db:1", TlsMode::VerifyFull), Vec::<&str>::new());
        assert_eq!(keys(&default, "unix:/run", TlsMode::Disable), Vec::<&str>::new());
        assert_eq!(keys(&default, "unix:/run", TlsMode::Prefer), Vec::<&str>::new());
        assert_eq!(keys(&default, "unix:/run", TlsMode::VerifyFull), ["tls"]);
        let direct = Upstream { tls_negotiation: TlsNegotiation::Direct, ..default.clone() };
        assert_eq!(keys(&direct, "db:1", TlsMode::Require), Vec::<&str>::new());
        assert_eq!(keys(&direct, "db:1", TlsMode::Prefer), ["tls_negotiation"]);
        let bound = Upstream {
            channel_binding: ChannelBinding::Require,
            require_auth: Some([AuthMethod::Md5].into()),
            ..default.clone()
        };
        assert_eq!(keys(&bound, "unix:/run", TlsMode::Disable), ["channel_binding", "require_auth"]);
        let none = Upstream { require_auth: Some(BTreeSet::new()), ..default };
        assert_eq!(keys(&none, "db:1", TlsMode::Require), ["require_auth"]);
    }

    #[test]
    fn a_protocol_has_its_own_methods() {
        let of = |methods: &[AuthMethod], protocol| {
            let upstream =
                Upstream { require_auth: Some(methods.iter().copied().collect()), ..Upstream::default() };
            contradictions(&upstream, protocol, "db:1", TlsMode::VerifyFull)
        };
        assert_eq!(of(&[AuthMethod::CachingSha2, AuthMethod::Password], "mysql"), []);
        assert_eq!(of(&[AuthMethod::ScramSha256, AuthMethod::None], "postgres"), []);
        let [(key, what)] = &of(&[AuthMethod::ScramSha256], "mysql")[..] else { panic!() };
        assert!(*key == "require_auth" && what.contains("there are password, none, caching_sha2"), "{what}");
        assert_eq!(of(&[AuthMethod::Parsec], "postgres").len(), 1);
        let direct = Upstream { tls_negotiation: TlsNegotiation::Direct, ..Upstream::default() };
        let wrong = contradictions(&direct, "mysql", "db:1", TlsMode::VerifyFull);
        assert_eq!(wrong[0].0, "tls_negotiation");
        let zlib = Upstream { compression: Compression::Zlib, ..Upstream::default() };
        assert_eq!(contradictions(&zlib, "mysql", "db:1", TlsMode::VerifyFull), []);
        assert_eq!(contradictions(&zlib, "postgres", "db:1", TlsMode::VerifyFull)[0].0, "compression");
        let mut written = String::new();
        write_keys(&mut written, &zlib).unwrap();
        assert_eq!(written, "compression = \"zlib\"\n");
        let commented = Upstream { stamp_comment: true, ..Upstream::default() };
        assert_eq!(contradictions(&commented, "mysql", "db:1", TlsMode::VerifyFull), []);
        assert_eq!(contradictions(&commented, "postgres", "db:1", TlsMode::VerifyFull)[0].0, "stamp_comment");
        written.clear();
        write_keys(&mut written, &commented).unwrap();
        assert_eq!(written, "stamp_comment = \"on\"\n");
        let resolving = Upstream { wildcards: Wildcards::Resolve, ..Upstream::default() };
        assert_eq!(contradictions(&resolving, "opensearch", "db:1", TlsMode::VerifyFull), []);
        assert_eq!(contradictions(&resolving, "mysql", "db:1", TlsMode::VerifyFull)[0].0, "wildcards");
        written.clear();
        write_keys(&mut written, &resolving).unwrap();
        assert_eq!(written, "wildcards = \"resolve\"\n");
    }

    #[test]
    fn methods_have_libpqs_names() {
        assert_eq!(method("scram-sha-256"), Ok(AuthMethod::ScramSha256));
        assert!(method("gss").unwrap_err().contains("not supported"));
        assert!(method("!md5").unwrap_err().contains("names what is allowed"));
        assert!(method("scram").unwrap_err().contains("scram-sha-256"));
    }
}
