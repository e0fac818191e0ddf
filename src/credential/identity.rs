use std::sync::Arc;

use crate::model::{ClientCertificate, CredentialId, Name, Time};

/// Who proved to be whom, with what, and until when that proof is good. Made in this layer only,
/// from a proof that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    user: Name,
    proof: Proof,
    until: Time,
}

/// What somebody proved with who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// A secret that we issued.
    Credential(CredentialId),
    /// A certificate whose private key they have.
    Certificate(Arc<ClientCertificate>),
}

impl Identity {
    pub(super) fn proven(user: Name, proof: Proof, until: Time) -> Self {
        Self { user, proof, until }
    }

    pub fn user(&self) -> &Name {
        &self.user
    }

    pub fn proof(&self) -> &Proof {
        &self.proof
    }

    /// `None`: it was no credential.
    pub fn credential(&self) -> Option<CredentialId> {
        self.proof.credential()
    }

    /// The end of the credential or certificate.
    pub fn until(&self) -> Time {
        self.until
    }
}

impl Proof {
    /// `None`: it was no credential.
    pub fn credential(&self) -> Option<CredentialId> {
        match self {
            Self::Credential(id) => Some(*id),
            Self::Certificate(_) => None,
        }
    }

    /// `None`: it was no certificate.
    pub fn certificate(&self) -> Option<&Arc<ClientCertificate>> {
        match self {
            Self::Credential(_) => None,
            Self::Certificate(certificate) => Some(certificate),
        }
    }
}
