//! SCRAM-SHA-256, server side (RFC 5802, RFC 7677), for a user with several live credentials.

use crate::credential::Identity;
use crate::model::{CredentialId, Name, Time};

/// One live credential that the proof may be of.
#[derive(Clone)]
pub struct Candidate {
    pub credential: CredentialId,
    pub until: Time,
    pub stored_key: [u8; 32],
    pub server_key: [u8; 32],
}

/// What is wrong with a client's message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// Not a SCRAM message, or one that breaks its rules.
    #[error("malformed SCRAM message: {0}")]
    Malformed(&'static str),
    /// A well-formed proof that fits no live credential. The same for an unknown user.
    #[error("the proof fits no live credential")]
    WrongProof,
}

/// One exchange. All candidates share salt and rounds, derived from the user's name, so an unknown
/// name costs and looks the same as a known one.
pub struct Exchange {
    _user: Option<Name>,
    _candidates: Vec<Candidate>,
}

impl Exchange {
    /// `user` is `None` for a name that is not ours: the exchange runs to its end and fails.
    pub fn new(_user: Option<Name>, _candidates: Vec<Candidate>, _salt: [u8; 16], _rounds: u32) -> Self {
        todo!()
    }
    /// Takes client-first-message, gives server-first-message. `nonce` is our random part (printable ASCII).
    pub fn client_first(&mut self, _message: &[u8], _nonce: &str) -> Result<Vec<u8>, ScramError> {
        todo!()
    }
    /// Takes client-final-message, gives the identity and server-final-message.
    pub fn client_final(&mut self, _message: &[u8]) -> Result<(Identity, Vec<u8>), ScramError> {
        todo!()
    }
}
