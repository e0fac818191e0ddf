use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::credential::Proof;
use crate::model::{AccessLevel, Claim, CredentialId, Databases, GrantId, Name, Reach, Time, Touch, pattern};

/// An open grant was found for an authenticated person. Made in this layer only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    pub(super) user: Name,
    pub(super) proof: Proof,
    pub(super) target: Name,
    pub(super) level: AccessLevel,
    pub(super) grant: GrantId,
    /// The database to enter, the target's default one where the client named none.
    pub(super) database: Option<String>,
    pub(super) scope: Scope,
    pub(super) peer: IpAddr,
    /// What was asked for, for moving to another grant that admits the same.
    pub(super) claim: Claim,
    /// What the request touches, where it is one request that was admitted.
    pub(super) touch: Option<Arc<Touch>>,
    /// The grant's or the proof's end, whichever is earlier.
    pub(super) until: Time,
    /// Other open grants that matched too: level and end.
    pub(super) others: Vec<(AccessLevel, Time)>,
}

impl Admission {
    pub fn user(&self) -> &Name {
        &self.user
    }
    /// What the person proved with who they are.
    pub fn proof(&self) -> &Proof {
        &self.proof
    }
    /// `None`: it was no credential.
    pub fn credential(&self) -> Option<CredentialId> {
        self.proof.credential()
    }
    pub fn target(&self) -> &Name {
        &self.target
    }
    pub fn level(&self) -> &AccessLevel {
        &self.level
    }
    pub fn grant(&self) -> GrantId {
        self.grant
    }
    pub fn database(&self) -> Option<&str> {
        self.database.as_deref()
    }
    /// The databases that may be gone to, where a protocol lets a session change it.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }
    pub fn peer(&self) -> IpAddr {
        self.peer
    }
    pub fn until(&self) -> Time {
        self.until
    }
    pub fn others(&self) -> &[(AccessLevel, Time)] {
        &self.others
    }

    /// What was admitted for one request, as a session of requests keeps it: the grant, whatever it covers.
    #[must_use]
    pub fn of_session(&self) -> Self {
        let touch = Touch::new(self.level.clone(), Reach::nothing());
        Self { touch: Some(Arc::new(touch)), ..self.clone() }
    }

    /// The same for a request that turned out to touch this: it is no admission of that before a recheck says so.
    #[must_use]
    pub fn touching(&self, touch: Touch) -> Self {
        Self { touch: Some(Arc::new(touch)), ..self.clone() }
    }

    /// What was admitted for one request, as what it leaves open is kept: under this grant and no other.
    #[must_use]
    pub fn of_grant(&self) -> Self {
        let touch =
            self.touch.as_deref().map(|touch| Arc::new(Touch { grant: Some(self.grant), ..touch.clone() }));
        Self { touch, ..self.clone() }
    }

    /// What the request touches that was admitted.
    pub fn touch(&self) -> Option<&Touch> {
        self.touch.as_deref()
    }

    /// The same, with the end that a recheck found.
    pub fn with_until(self, until: Time) -> Self {
        Self { until, ..self }
    }
}

/// The databases that a grant covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope(Names);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Names {
    All,
    None,
    /// Nearly always. A set of one takes ten times as much, in every session.
    One(Arc<str>),
    Many(Arc<BTreeSet<String>>),
}

impl Scope {
    /// `entered`: the database of the login, which is the default one where only that is covered.
    pub(super) fn new(databases: &Databases, entered: Option<&str>) -> Self {
        Self(match databases {
            Databases::All => Names::All,
            Databases::Default => entered.map_or(Names::None, |entered| Names::One(entered.into())),
            Databases::Listed(names) => Names::Many(Arc::new(names.clone())),
        })
    }

    /// For the tests of those who ask.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn of(names: &[&str]) -> Self {
        Self(Names::Many(Arc::new(names.iter().map(|name| (*name).to_owned()).collect())))
    }

    /// Whether there is nothing that it does not cover.
    pub fn is_everything(&self) -> bool {
        self.0 == Names::All
    }

    /// Whether it covers this name of what requests are about: what it lists are patterns then.
    pub fn fits(&self, name: &str) -> bool {
        match &self.0 {
            Names::All => true,
            Names::None => false,
            Names::One(listed) => pattern::fits(listed, name),
            Names::Many(patterns) => patterns.iter().any(|listed| pattern::fits(listed, name)),
        }
    }

    pub fn covers(&self, database: &str) -> bool {
        match &self.0 {
            Names::All => true,
            Names::None => false,
            Names::One(name) => **name == *database,
            Names::Many(names) => names.contains(database),
        }
    }

    /// The one name that its patterns stand for, where it is just one.
    pub fn only(&self) -> Option<&str> {
        let one = match &self.0 {
            Names::All | Names::None => return None,
            Names::One(name) => &**name,
            Names::Many(names) => names.first().filter(|_| names.len() == 1)?,
        };
        (!one.contains('*')).then_some(one)
    }
}
