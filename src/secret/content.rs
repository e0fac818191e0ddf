//! The content of a secret: `{"username": "…", "password": "…"}`, and in place of the password or with it
//! `"certificate"` and `"key"`, each in PEM form or the `file:NAME` of a file beside it. Parsed so that no
//! copy of the password is left behind in freed memory: serde gives slices of the (zeroed) input, and the escapes
//! are undone here into one buffer that is large enough from the start.

use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

#[derive(Debug)]
pub(super) struct Login {
    pub username: String,
    /// Empty where there is none: the server has other means to know us (a certificate, `peer`).
    pub password: Zeroizing<String>,
    /// A client certificate and its key.
    pub certificate: Option<(Pem, Pem)>,
}

/// Text in PEM form, or where it is.
#[derive(Debug)]
pub(super) enum Pem {
    Here(Zeroizing<Vec<u8>>),
    /// As [`super::Reference`] has it.
    File(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw<'a> {
    #[serde(borrow)]
    username: Option<&'a RawValue>,
    #[serde(borrow)]
    password: Option<&'a RawValue>,
    #[serde(borrow)]
    certificate: Option<&'a RawValue>,
    #[serde(borrow)]
    key: Option<&'a RawValue>,
}

pub(super) fn parse(content: &[u8]) -> Result<Login, String> {
    // serde's own message may quote the content; only its place is repeated.
    let raw: Raw<'_> = serde_json::from_slice(content).map_err(|error| {
        format!("not of the form {FORM} (line {}, column {})", error.line(), error.column())
    })?;
    let username = field("username", raw.username)?;
    let password = match raw.password {
        Some(_) => field("password", raw.password)?,
        None => Zeroizing::default(),
    };
    let certificate = match (raw.certificate, raw.key) {
        (None, None) => None,
        (Some(_), Some(_)) => Some((pem("certificate", raw.certificate)?, pem("key", raw.key)?)),
        _ => {
            return Err(
                "it has a client certificate without its key, or a key without its certificate".into()
            );
        }
    };
    Ok(Login { username: String::clone(&username), password, certificate })
}

const FORM: &str = r#"{"username": "…", "password": "…"}"#;

fn pem(name: &str, raw: Option<&RawValue>) -> Result<Pem, String> {
    let text = field(name, raw)?;
    if text.starts_with("file:") {
        return Ok(Pem::File(String::clone(&text)));
    }
    if !text.trim_start().starts_with("-----BEGIN ") {
        return Err(format!(
            "its {name} is neither in PEM form (-----BEGIN …) nor the file:NAME of such a file"
        ));
    }
    Ok(Pem::Here(Zeroizing::new(text.as_bytes().to_vec())))
}

fn field(name: &str, raw: Option<&RawValue>) -> Result<Zeroizing<String>, String> {
    let text = raw
        .and_then(|raw| unquote(raw.get()))
        .ok_or_else(|| format!("its {name} is not a text; it must be of the form {FORM}"))?;
    if text.is_empty() {
        return Err(format!("its {name} is empty"));
    }
    if text.contains('\0') {
        return Err(format!("its {name} has a zero byte, which no database takes"));
    }
    Ok(text)
}

/// Undoes a JSON string (RFC 8259, section 7). `None`: not a string, or one with half a surrogate pair.
fn unquote(json: &str) -> Option<Zeroizing<String>> {
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    // Undoing escapes makes a string shorter, never longer: the buffer does not move.
    let mut text = Zeroizing::new(String::with_capacity(inner.len()));
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let mut escape = rest[at + 1..].chars();
        match escape.next()? {
            'b' => text.push('\u{8}'),
            'f' => text.push('\u{c}'),
            'n' => text.push('\n'),
            'r' => text.push('\r'),
            't' => text.push('\t'),
            'u' => {
                rest = escape.as_str();
                let first = code_unit(&mut rest)?;
                let unit = match first {
                    0xd800..=0xdbff => {
                        rest = rest.strip_prefix("\\u")?;
                        let second = code_unit(&mut rest)?.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
                        0x1_0000 + ((first - 0xd800) << 10) + second
                    }
                    unit => unit,
                };
                text.push(char::from_u32(unit)?);
                continue;
            }
            plain @ ('"' | '\\' | '/') => text.push(plain),
            _ => return None,
        }
        rest = escape.as_str();
    }
    text.push_str(rest);
    Some(text)
}

fn code_unit(rest: &mut &str) -> Option<u32> {
    let (digits, after) = rest.split_at_checked(4)?;
    *rest = after;
    u32::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_login_is_refused() {
        for (content, said) in [
            ("", "not of the form"),
            ("{}", "its username is not a text"),
            (r#"{"username": "u", "password": 7}"#, "its password is not a text"),
            (r#"{"username": "u", "password": ""}"#, "its password is empty"),
            (r#"{"username": "u", "password": "a\u0000b"}"#, "its password has a zero byte"),
            (r#"{"username": "u", "password": "a\ud800"}"#, "its password is not a text"),
            (r#"{"username": "u", "password": "p", "more": 1}"#, "not of the form"),
            (r#"{"username": "u", "password": "p"} x"#, "not of the form"),
            (r#"{"certificate": "c", "key": "k"}"#, "its username is not a text"),
            (
                r#"{"username": "u", "certificate": "file:c.pem"}"#,
                "it has a client certificate without its key",
            ),
            (r#"{"username": "u", "password": "p", "key": "file:k"}"#, "it has a client certificate without"),
            (
                r#"{"username": "u", "certificate": "c.pem", "key": "file:k"}"#,
                "its certificate is neither in PEM",
            ),
        ] {
            let error = parse(content.as_bytes()).unwrap_err();
            assert!(error.starts_with(said), "{content}: {error}");
        }
        assert!(parse(b"{\"username\": \"u\", \"password\": \"\xff\"}").is_err());
        let alone = parse(br#"{"username": "u"}"#).unwrap();
        assert!(alone.password.is_empty() && alone.certificate.is_none());
    }

    proptest! {
        #[test]
        fn strings_are_undone_as_serde_does(text in any::<String>(), escaped in any::<bool>()) {
            let mut json = serde_json::to_string(&text).unwrap();
            if escaped {
                let units = text.encode_utf16().map(|unit| format!("\\u{unit:04x}"));
                json = format!("\"{}\"", units.collect::<String>());
            }
            prop_assert_eq!(unquote(&json).map(|text| text.to_string()), Some(text));
        }

        #[test]
        fn any_raw_json_text_agrees_with_serde(inner in r#"(\\["\\/bfnrtu]|\\u[0-9a-fA-F]{4}|[ -!#-\[\]-~é]){0,12}"#) {
            let json = format!("\"{inner}\"");
            if let Ok(expected) = serde_json::from_str::<String>(&json) {
                prop_assert_eq!(unquote(&json).map(|text| text.to_string()), Some(expected));
            } else if serde_json::from_str::<&RawValue>(&json).is_ok() {
                prop_assert!(unquote(&json).is_none());
            }
        }
    }
}
