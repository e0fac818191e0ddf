use crate::model::{CredentialId, Name, Time};

/// Who proved to be whom, with what, and until when that proof is good. Made in this layer only,
/// from a proof that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    user: Name,
    credential: CredentialId,
    until: Time,
}

impl Identity {
    pub(super) fn proven(user: Name, credential: CredentialId, until: Time) -> Self {
        Self { user, credential, until }
    }

    pub fn user(&self) -> &Name {
        &self.user
    }

    pub fn credential(&self) -> CredentialId {
        self.credential
    }

    /// The credential's end.
    pub fn until(&self) -> Time {
        self.until
    }
}
