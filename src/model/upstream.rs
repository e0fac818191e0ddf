//! How a target is reached and what a login there must prove: the words are libpq's
//! (<https://www.postgresql.org/docs/current/libpq-connect.html>).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// The keys of a target that say how the proxy logs in there, and what it shows there of who is lent a connection.
/// They stand among the target's own keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Upstream {
    #[serde(default, skip_serializing_if = "is_default")]
    pub channel_binding: ChannelBinding,
    /// Proofs that are accepted there. `None`: what is safe on that connection, see
    /// [`Upstream::accepts`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_auth: Option<BTreeSet<AuthMethod>>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub tls_negotiation: TlsNegotiation,
    /// How the conversation with the server is compressed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub compression: Compression,
    /// A login that ends connections of the connectors, where they may not do that themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upkeep: Option<UpkeepLogin>,
    /// The server sees the person and the session in front of each text, as a comment.
    #[serde(default, skip_serializing_if = "is_default")]
    pub stamp_comment: bool,
    /// What becomes of wildcards in requests of who may not do everything, where the proxy authorizes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub wildcards: Wildcards,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Whether a SCRAM proof is bound to the TLS connection that it travels in, so that nobody in the middle
/// can pass it on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelBinding {
    Disable,
    /// Wherever the server offers it inside TLS.
    #[default]
    Prefer,
    /// A login without it is refused.
    Require,
}

/// How TLS begins on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TlsNegotiation {
    /// The protocol asks for it.
    #[default]
    Postgres,
    /// With the first byte (PostgreSQL 17 and newer, and what ends TLS in front of a server).
    Direct,
}

/// How the bytes to and from a server are compressed, where its protocol has that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    #[default]
    Off,
    Zlib,
    Zstd,
}

/// What a wildcard in a request stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wildcards {
    /// What the grant covers of all that it matches.
    #[default]
    Narrow,
    /// All that it matches, and all of that must be covered.
    Resolve,
}

/// What a server may ask of us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AuthMethod {
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    #[serde(rename = "md5")]
    Md5,
    /// The password as it is. Never outside TLS or a unix socket, whatever a target says.
    #[serde(rename = "password")]
    Password,
    /// Nothing, or what TLS and the system have shown already: a client certificate, `peer`, `trust`.
    #[serde(rename = "none")]
    None,
    #[serde(rename = "caching_sha2_password")]
    CachingSha2,
    #[serde(rename = "mysql_native_password")]
    NativePassword,
    #[serde(rename = "client_ed25519")]
    Ed25519,
    #[serde(rename = "parsec")]
    Parsec,
}

impl AuthMethod {
    pub const ALL: [(&'static str, Self); 8] = [
        ("scram-sha-256", Self::ScramSha256),
        ("md5", Self::Md5),
        ("password", Self::Password),
        ("none", Self::None),
        ("caching_sha2_password", Self::CachingSha2),
        ("mysql_native_password", Self::NativePassword),
        ("client_ed25519", Self::Ed25519),
        ("parsec", Self::Parsec),
    ];

    pub fn as_str(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, known)| *known == self).map_or("none", |(name, _)| name)
    }
}

/// A login of the proxy's own for upkeep.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpkeepLogin {
    /// As a connector's.
    pub secret: String,
}

/// What is known of a connection when a server asks for a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Surety {
    /// The server is who it should be: its certificate was checked, or it holds a unix socket.
    pub server_known: bool,
    /// We have a password that could be proven.
    pub has_password: bool,
}

impl Upstream {
    /// Whether this proof may be given. Without `require_auth`: SCRAM everywhere, since it shows nothing
    /// to a stranger and has the server prove itself; a hash or the password only to a server that is
    /// known; and no proof at all to one that is known, or where there is nothing to prove. MySQL and MariaDB have
    /// no method by which the server proves itself: what answers a challenge of theirs is given everywhere (all
    /// that a stranger can do with it is to try guesses), the password itself as above.
    pub fn accepts(&self, method: AuthMethod, surety: Surety) -> bool {
        match &self.require_auth {
            Some(methods) => methods.contains(&method),
            None => match method {
                AuthMethod::ScramSha256
                | AuthMethod::CachingSha2
                | AuthMethod::NativePassword
                | AuthMethod::Ed25519
                | AuthMethod::Parsec => true,
                AuthMethod::Md5 | AuthMethod::Password => surety.server_known,
                AuthMethod::None => surety.server_known || !surety.has_password,
            },
        }
    }
}

/// `unix:DIRECTORY`, `unix:DIRECTORY:PORT` or `unix:FILE` of an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixAddress<'a> {
    /// Absolute.
    pub path: &'a str,
    pub port: Option<u16>,
}

impl<'a> UnixAddress<'a> {
    /// `None`: not the address of a unix socket.
    pub fn parse(address: &'a str) -> Option<Result<Self, &'static str>> {
        const RIGHT: &str = "must be unix: and an absolute path: a folder such as unix:/run/postgresql, a folder and a \
                             port such as unix:/run/postgresql:5433, or the socket itself";
        let rest = address.strip_prefix("unix:")?;
        let (path, port) = match rest.rsplit_once(':') {
            Some((path, port)) => match port.parse::<u16>() {
                // `parse` would take a leading plus.
                Ok(port) if port > 0 && !rest.contains(":+") => (path, Some(port)),
                _ => return Some(Err(RIGHT)),
            },
            None => (rest, None),
        };
        if !path.starts_with('/') || path.contains(char::is_control) || path.contains(':') {
            return Some(Err(RIGHT));
        }
        Some(Ok(Self { path, port }))
    }
}

/// Whether this is the address of a unix socket, well formed or not.
pub fn is_unix(address: &str) -> bool {
    address.starts_with("unix:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_shown_to_servers_that_are_known_only() {
        let default = Upstream::default();
        let surety = |server_known, has_password| Surety { server_known, has_password };
        for (method, stranger, known) in [
            (AuthMethod::ScramSha256, true, true),
            (AuthMethod::Md5, false, true),
            (AuthMethod::Password, false, true),
            (AuthMethod::None, false, true),
            (AuthMethod::CachingSha2, true, true),
            (AuthMethod::NativePassword, true, true),
            (AuthMethod::Ed25519, true, true),
            (AuthMethod::Parsec, true, true),
        ] {
            assert_eq!(default.accepts(method, surety(false, true)), stranger, "{method:?}");
            assert_eq!(default.accepts(method, surety(true, true)), known, "{method:?}");
        }
        assert!(default.accepts(AuthMethod::None, surety(false, false)), "there is nothing to prove");
        let md5 = Upstream { require_auth: Some([AuthMethod::Md5].into()), ..Upstream::default() };
        assert!(md5.accepts(AuthMethod::Md5, surety(false, true)));
        assert!(!md5.accepts(AuthMethod::ScramSha256, surety(true, true)));
    }

    #[test]
    fn unix_addresses() {
        let parsed = |text| UnixAddress::parse(text).map(|parsed| parsed.map(|of| (of.path, of.port)));
        assert_eq!(parsed("db:5432"), None);
        assert_eq!(parsed("unix:/run/postgresql"), Some(Ok(("/run/postgresql", None))));
        assert_eq!(parsed("unix:/run/postgresql:5433"), Some(Ok(("/run/postgresql", Some(5433)))));
        for bad in
            ["unix:", "unix:run", "unix:/run:", "unix:/run:0", "unix:/run:+1", "unix:/a:b:1", "unix:/a\0"]
        {
            assert!(matches!(parsed(bad), Some(Err(_))), "{bad}");
        }
    }

    #[test]
    fn names_are_those_of_libpq() {
        for (name, method) in AuthMethod::ALL {
            assert_eq!(serde_json::to_string(&method).unwrap(), format!("\"{name}\""));
            assert_eq!(method.as_str(), name);
        }
        assert_eq!(serde_json::to_string(&Upstream::default()).unwrap(), "{}");
    }
}
