use std::net::IpAddr;

use super::level::AccessLevel;
use super::name::Name;

/// What a login name says: `USER[+LEVEL][@TARGET]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginName {
    pub user: Name,
    pub level: Option<AccessLevel>,
    pub target: Option<Name>,
}

/// Deliberately says nothing about which part is wrong: who is not authenticated learns nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a login name looks like USER[+LEVEL][@TARGET]")]
pub struct LoginNameError;

impl LoginName {
    pub fn parse(text: &str) -> Result<Self, LoginNameError> {
        let (rest, target) = match text.split_once('@') {
            Some((rest, target)) => (rest, Some(Name::parse(target).map_err(|_| LoginNameError)?)),
            None => (text, None),
        };
        let (user, level) = match rest.split_once('+') {
            Some((user, level)) => (user, Some(level.parse().map_err(|_| LoginNameError)?)),
            None => (rest, None),
        };
        Ok(Self { user: Name::parse(user).map_err(|_| LoginNameError)?, level, target })
    }
}

/// What a client asks for when it logs in. A claim proves nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub user: Name,
    pub level: Option<AccessLevel>,
    /// From the listener, the login name or the TLS server name; they must agree.
    pub target: Name,
    /// `None`: the target's default one.
    pub database: Option<String>,
    /// Where the client really is: the socket's peer, or what a trusted PROXY header says.
    pub peer: IpAddr,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_name_splits_in_one_way() {
        let name = LoginName::parse("alice+read_write@orders").unwrap();
        assert_eq!(name.user.as_str(), "alice");
        assert_eq!(name.level, Some(AccessLevel::ReadWrite));
        assert_eq!(name.target.unwrap().as_str(), "orders");
        let name = LoginName::parse("alice").unwrap();
        assert_eq!((name.level, name.target), (None, None));
        for bad in ["", "@orders", "alice@", "alice+", "alice@orders+read", "a@b@c", "a+b+c", "Alice"] {
            assert!(LoginName::parse(bad).is_err(), "{bad}");
        }
    }
}
