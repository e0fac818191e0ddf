use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};

/// Crockford's base 32, lower case: no i, l, o, u, so an id can be read aloud.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const DIGITS: usize = 13;
/// A letter and a dash.
const PREFIX_BYTES: usize = 2;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an id looks like {0}0123456789abc")]
pub struct IdError(&'static str);

/// The text of an id, without an allocation: each line of the trail has several.
fn encode<'a>(
    prefix: &str,
    value: u64,
    text: &'a mut [u8; PREFIX_BYTES + DIGITS],
) -> Result<&'a str, fmt::Error> {
    let (head, digits) = text.split_at_mut(PREFIX_BYTES);
    head.copy_from_slice(prefix.as_bytes());
    for (i, digit) in digits.iter_mut().enumerate() {
        *digit = ALPHABET[(value >> (5 * (DIGITS - 1 - i)) & 31) as usize];
    }
    // The alphabet is ASCII.
    std::str::from_utf8(text).map_err(|_| fmt::Error)
}

fn decode(prefix: &'static str, text: &str) -> Result<u64, IdError> {
    let digits = text.strip_prefix(prefix).ok_or(IdError(prefix))?.as_bytes();
    if digits.len() != DIGITS || digits[0] > b'f' {
        return Err(IdError(prefix));
    }
    digits.iter().try_fold(0u64, |value, digit| {
        let position = ALPHABET.iter().position(|d| d == digit).ok_or(IdError(prefix))?;
        Ok(value << 5 | position as u64)
    })
}

macro_rules! id {
    ($name:ident, $prefix:literal, $doc:literal) => {
        #[doc = $doc]
        ///
        /// 64 bits: milliseconds since 2020 in the upper 42, random or counted bits in the lower 22,
        /// so ids sort by the time they were made.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(u64);

        impl $name {
            /// Makes an id from a wall time and bits that nobody else uses in that millisecond.
            pub fn new(now: super::Time, unique: u32) -> Self {
                const EPOCH_MS: i64 = 1_577_836_800_000; // 2020-01-01T00:00:00Z
                let ms = (now.as_millisecond() - EPOCH_MS).max(0) as u64;
                Self(ms << 22 | u64::from(unique & 0x3f_ffff))
            }
            pub const fn from_u64(value: u64) -> Self {
                Self(value)
            }
            pub const fn as_u64(self) -> u64 {
                self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                const { assert!($prefix.len() == PREFIX_BYTES) };
                f.pad(encode($prefix, self.0, &mut [0; PREFIX_BYTES + DIGITS])?)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut text = [0; PREFIX_BYTES + DIGITS];
                let text = encode($prefix, self.0, &mut text).map_err(serde::ser::Error::custom)?;
                serializer.serialize_str(text)
            }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                decode($prefix, text).map(Self)
            }
        }
        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }
    };
}

id!(SessionId, "s-", "One client connection.");
id!(GrantId, "g-", "One grant.");
id!(CredentialId, "c-", "One generated secret of a user.");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_text_and_sort_by_time() {
        let early = SessionId::new("2026-11-22T08:00:00Z".parse().unwrap(), 0x3f_ffff);
        let late = SessionId::new("2026-11-22T08:00:00.001Z".parse().unwrap(), 0);
        assert!(early < late && early.to_string() < late.to_string());
        assert_eq!(early.to_string().parse::<SessionId>().unwrap(), early);
        assert_eq!(
            SessionId::from_u64(u64::MAX).to_string().parse::<SessionId>().unwrap().as_u64(),
            u64::MAX
        );
        for bad in ["", "s-", "g-0000000000000", "s-g000000000000", "s-000000000000", "s-000000000000u"] {
            assert!(bad.parse::<SessionId>().is_err(), "{bad}");
        }
    }
}
