use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use super::limits::NAME_BYTES_MAX;

/// The name of a user, group, target or grant: `[a-z0-9._-]`, 1 to 63 characters.
///
/// Cheap to clone. Neither `+` nor `@` can be part of it, so a login name splits in one way only.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Name(Arc<str>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("a name has 1 to {NAME_BYTES_MAX} characters")]
    Length,
    #[error("a name is made of a-z, 0-9, '.', '_' and '-': {0:?} is none of them")]
    Character(char),
}

impl Name {
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.is_empty() || text.len() > NAME_BYTES_MAX {
            return Err(NameError::Length);
        }
        match text.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-')) {
            Some(bad) => Err(NameError::Character(bad)),
            None => Ok(Self(text.into())),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl std::str::FromStr for Name {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_the_contract_says() {
        assert!(Name::parse("orders-eu.1_x").is_ok());
        assert_eq!(Name::parse(""), Err(NameError::Length));
        assert_eq!(Name::parse(&"a".repeat(64)), Err(NameError::Length));
        assert_eq!(Name::parse("Alice"), Err(NameError::Character('A')));
        assert_eq!(Name::parse("a@b"), Err(NameError::Character('@')));
        assert_eq!(Name::parse("a+b"), Err(NameError::Character('+')));
    }
}
