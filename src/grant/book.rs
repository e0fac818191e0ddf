use crate::credential::Identity;
use crate::grant::Admission;
use crate::model::{Claim, Credential, EndCause, GrantId, Refusal, Snapshot, Target, Time};

/// Everything that decides who may go where, indexed. Immutable: a change makes a new book.
pub struct Book {
    _snapshot: Snapshot,
}

/// What the client is told, and what the trail is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotAdmitted {
    pub refusal: Refusal,
    pub why: String,
}

/// How a live session stands with the book of now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Goes on; until when, which may have changed.
    Open {
        until: Time,
    },
    /// The grant ended and another admits the same claim at the same level.
    Moved(Box<Admission>),
    Ended(EndCause),
}

impl Book {
    pub fn new(_snapshot: Snapshot) -> Self {
        todo!()
    }
    /// The live credentials of a user, none for an unknown one. Cheap: login path.
    pub fn credentials(&self, _user: &str, _now: Time) -> Vec<&Credential> {
        todo!()
    }
    pub fn target(&self, _name: &str) -> Option<&Target> {
        todo!()
    }
    /// The decision of design 1.3. `sessions` counts the live sessions of a grant.
    pub fn admit(
        &self,
        _identity: &Identity,
        _claim: &Claim,
        _now: Time,
        _sessions: &dyn Fn(GrantId) -> u32,
    ) -> Result<Admission, NotAdmitted> {
        todo!()
    }
    /// Looks at a live session again, after a change or when time passed.
    pub fn recheck(
        &self,
        _admission: &Admission,
        _now: Time,
        _sessions: &dyn Fn(GrantId) -> u32,
    ) -> Standing {
        todo!()
    }
    /// Open grants and credentials whose end is not after `now`: their end is to be stored.
    pub fn due(&self, _now: Time) -> (Vec<GrantId>, Vec<crate::model::CredentialId>) {
        todo!()
    }
    pub fn snapshot(&self) -> &Snapshot {
        todo!()
    }
}
