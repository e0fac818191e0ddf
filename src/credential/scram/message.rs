//! The grammar of RFC 5802 section 7, as far as both sides share it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::ScramError;
use crate::model::limits::SASL_BYTES_MAX;

/// The attributes of one message, read from the front.
pub(super) struct Attributes<'a> {
    /// What is left; `None` after the last one, so that a trailing comma is an empty attribute and
    /// an error.
    rest: Option<&'a str>,
}

impl<'a> Attributes<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { rest: Some(text) }
    }

    /// The value of the next attribute, which must be this one.
    pub fn expect(&mut self, name: u8, missing: &'static str) -> Result<&'a str, ScramError> {
        match self.next()? {
            Some((found, value)) if found == name => Ok(value),
            Some((b'm', _)) => Err(MANDATORY_EXTENSION),
            _ => Err(ScramError::Malformed(missing)),
        }
    }

    /// The next attribute, whichever it is; `None` at the end.
    pub fn next(&mut self) -> Result<Option<(u8, &'a str)>, ScramError> {
        let Some(text) = self.rest else { return Ok(None) };
        let (attribute, rest) = match text.split_once(',') {
            Some((attribute, rest)) => (attribute, Some(rest)),
            None => (text, None),
        };
        self.rest = rest;
        match attribute.as_bytes() {
            [name, b'=', ..] if name.is_ascii_alphabetic() => Ok(Some((*name, &attribute[2..]))),
            _ => Err(ScramError::Malformed("an attribute is a letter, an equals sign and a value")),
        }
    }

    /// Everything else is optional extensions: to be ignored, unless one calls itself mandatory.
    pub fn finish(&mut self) -> Result<(), ScramError> {
        while let Some((name, value)) = self.next()? {
            check_extension(name, value)?;
        }
        Ok(())
    }
}

pub(super) const MANDATORY_EXTENSION: ScramError =
    ScramError::Malformed("a mandatory extension (m=) is demanded and none is supported");

/// An extension that we may ignore: `attr-val = ALPHA "=" value`, the value not empty.
pub(super) fn check_extension(name: u8, value: &str) -> Result<(), ScramError> {
    match name {
        b'm' => Err(MANDATORY_EXTENSION),
        _ if value.is_empty() => Err(ScramError::Malformed("an extension has an empty value")),
        _ => Ok(()),
    }
}

/// A message as text, its length and character set checked.
pub(super) fn text(message: &[u8]) -> Result<&str, ScramError> {
    if message.len() > SASL_BYTES_MAX {
        return Err(ScramError::Malformed("the message is longer than SCRAM needs"));
    }
    let text = std::str::from_utf8(message).map_err(|_| ScramError::Malformed("the message is not UTF-8"))?;
    if text.contains('\0') {
        return Err(ScramError::Malformed("the message holds a zero byte"));
    }
    Ok(text)
}

/// `printable = %x21-2B / %x2D-7E`, at least one.
pub(super) fn is_nonce(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, 0x21..=0x2b | 0x2d..=0x7e))
}

/// Base64 of exactly 32 bytes, in its one canonical form.
pub(super) fn decode_32(text: &str, wrong: &'static str) -> Result<[u8; 32], ScramError> {
    // The decoder wants room for whole groups of three.
    let mut bytes = [0u8; 33];
    match STANDARD.decode_slice(text, &mut bytes) {
        Ok(32) => {
            let mut exact = [0u8; 32];
            exact.copy_from_slice(&bytes[..32]);
            Ok(exact)
        }
        _ => Err(ScramError::Malformed(wrong)),
    }
}
