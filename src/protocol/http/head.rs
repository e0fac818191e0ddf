//! What the head of a request says of who sends it and of its body, and which headers pass.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::model::{LoginName, limits};

/// Headers of a client that are sent on, beside those that the proxy makes itself. Everything else stays here: who one
/// is (`Authorization`, `es-security-runas-user`, `x-proxy-user`, …), where one is, what concerns one connection alone.
pub const SENT_ON: [&str; 5] =
    ["accept", "accept-encoding", "content-type", "user-agent", "x-elastic-client-meta"];

/// Headers of an answer that are told to the client.
pub const TOLD: [&str; 9] = [
    "content-type",
    "content-encoding",
    "content-length",
    "location",
    "warning",
    "deprecation",
    "x-elastic-product",
    "x-opensearch-version",
    "vary",
];

/// Who somebody says to be, with the secret that proves it.
pub enum Credentials {
    /// Basic (RFC 7617) or ApiKey: the login name as sent, and the secret.
    Named(Login),
    /// Bearer (RFC 6750): the secret alone.
    Bearer(Zeroizing<String>),
}

pub struct Login {
    pub sent: String,
    /// `None`: it cannot be one of ours.
    pub name: Option<LoginName>,
    pub secret: Zeroizing<String>,
}

/// Reads an `Authorization` header. `None`: it is none of the three.
pub fn credentials(header: &str) -> Option<Credentials> {
    if header.len() > limits::HTTP_AUTHORIZATION_BYTES_MAX {
        return None;
    }
    let (scheme, rest) = header.split_once(' ')?;
    let rest = rest.trim_matches(' ');
    if scheme.eq_ignore_ascii_case("bearer") {
        return (!rest.is_empty()).then(|| Credentials::Bearer(Zeroizing::new(rest.to_owned())));
    }
    if !scheme.eq_ignore_ascii_case("basic") && !scheme.eq_ignore_ascii_case("apikey") {
        return None;
    }
    let mut decoded = Zeroizing::new(Vec::with_capacity(rest.len()));
    STANDARD.decode_vec(rest, &mut decoded).ok()?;
    let (sent, secret) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    let name = LoginName::parse(sent).ok();
    let secret = Zeroizing::new(secret.to_owned());
    Some(Credentials::Named(Login { sent: sent.to_owned(), name, secret }))
}

/// What a body says to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentType {
    Json,
    /// One JSON object a line.
    Lines,
}

impl ContentType {
    /// `None`: neither; a parser of another kind may find other names in the same bytes.
    pub fn parse(header: &str) -> Option<Self> {
        let mut parts = header.split(';').map(str::trim);
        let kind = match parts.next()?.to_ascii_lowercase().as_str() {
            "application/json" | "application/vnd.elasticsearch+json" | "application/vnd.opensearch+json" => {
                Self::Json
            }
            "application/x-ndjson"
            | "application/vnd.elasticsearch+x-ndjson"
            | "application/vnd.opensearch+x-ndjson" => Self::Lines,
            _ => return None,
        };
        let known = |part: &str| {
            let (name, value) = part.split_once('=')?;
            let value = value.to_ascii_lowercase();
            match name.to_ascii_lowercase().as_str() {
                "charset" => (value == "utf-8").then_some(()),
                "compatible-with" => (value.len() == 1 && value.as_bytes()[0].is_ascii_digit()).then_some(()),
                _ => None,
            }
        };
        parts.all(|part| known(part).is_some()).then_some(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(header: &str) -> Option<(String, Option<LoginName>, String)> {
        match credentials(header)? {
            Credentials::Named(login) => Some((login.sent, login.name, login.secret.to_string())),
            Credentials::Bearer(_) => None,
        }
    }

    #[test]
    fn three_ways_to_say_who_one_is() {
        let of = |text: &str| STANDARD.encode(text);
        let (sent, name, secret) = named(&format!("Basic {}", of("alice+read@logs:tg_a:b"))).unwrap();
        assert_eq!((sent.as_str(), secret.as_str()), ("alice+read@logs", "tg_a:b"));
        assert_eq!(name.unwrap().target.unwrap().as_str(), "logs");
        assert!(named(&format!("ApiKey {}", of("alice:x"))).unwrap().1.is_some());
        assert!(named(&format!("aPIkEY {}", of("No Such:x"))).unwrap().1.is_none());
        assert!(matches!(credentials("Bearer tg_x"), Some(Credentials::Bearer(secret)) if *secret == "tg_x"));
        let long = format!("Basic {}", of(&"a".repeat(limits::HTTP_AUTHORIZATION_BYTES_MAX)));
        for bad in [
            "",
            "Basic",
            "Basic !",
            "Bearer ",
            "Digest x",
            &format!("Basic {}", of("alice")),
            "Basic /w==",
            &long,
        ] {
            assert!(credentials(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_body_is_json_or_lines_of_it() {
        for json in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/vnd.elasticsearch+json;compatible-with=8",
        ] {
            assert_eq!(ContentType::parse(json), Some(ContentType::Json), "{json}");
        }
        assert_eq!(ContentType::parse("application/x-ndjson"), Some(ContentType::Lines));
        for bad in [
            "",
            "application/x-www-form-urlencoded",
            "application/yaml",
            "application/cbor",
            "application/smile",
            "text/plain",
            "application/json, application/cbor",
            "application/json; charset=utf-16",
            "application/json;",
            "multipart/form-data",
        ] {
            assert_eq!(ContentType::parse(bad), None, "{bad}");
        }
    }
}
