//! SCRAM-SHA-256 (RFC 5802, RFC 7677), both sides: [`Exchange`] checks the proof of a user who may
//! hold several live credentials, [`Client`] logs a connector in to its target. Both bind the channel
//! (SCRAM-SHA-256-PLUS, `tls-server-end-point`) where they are told what to.

mod client;
mod exchange;
mod message;
#[cfg(test)]
mod tests;

pub use client::{Binding, Client};
pub use exchange::{Candidate, ChannelBinding, Exchange};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::digest::{hmac_sha256, sha256};
use crate::model::limits;

/// What went wrong in an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// Not a SCRAM message, or one that breaks its rules.
    #[error("malformed SCRAM message: {0}")]
    Malformed(&'static str),
    /// A well-formed proof that fits no live credential. The same for an unknown user.
    #[error("the proof fits no live credential")]
    WrongProof,
    /// The client could bind the channel and was not shown that we can: somebody took our offer out.
    #[error("the client did not see that channel binding was offered")]
    Downgrade,
    /// The proof was made for another TLS connection: somebody stands in between.
    #[error("the channel binding is that of another connection")]
    OtherChannel,
    /// A step was taken twice, or before the one that it follows.
    #[error("a SCRAM step was taken out of order")]
    OutOfOrder,
    /// The server says that the exchange failed: its `e=` (RFC 5802 section 7).
    #[error("the server refused the SCRAM exchange: {0}")]
    Refused(&'static str),
    /// The server's signature is wrong: it does not know the connector's password.
    #[error("the server did not prove that it knows the password")]
    ServerNotProven,
    /// The server asks for fewer rounds than is safe, or for more than we compute.
    #[error(
        "the server asks for {0} SCRAM rounds; from {min} to {max} are accepted",
        min = limits::SCRAM_ROUNDS_MIN,
        max = limits::SCRAM_ROUNDS_MAX
    )]
    Rounds(u32),
}

/// A fresh random part of a nonce, in printable ASCII. Fails when the system has no random bytes.
pub fn nonce() -> Result<String, getrandom::Error> {
    let mut bytes = [0u8; limits::SCRAM_NONCE_BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(STANDARD.encode(bytes))
}

/// SaltedPassword: `Hi(password, salt, rounds)`. Costly: two compressions a round.
pub(super) fn salt_password(password: &[u8], salt: &[u8], rounds: u32) -> Zeroizing<[u8; 32]> {
    let mut salted = Zeroizing::new([0u8; 32]);
    pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, rounds, &mut *salted);
    salted
}

/// What proves a password (`client_key`, a secret) and what checks the proof (RFC 5802 section 3).
pub(super) struct ProofKeys {
    pub client_key: Zeroizing<[u8; 32]>,
    pub stored_key: [u8; 32],
    pub server_key: Zeroizing<[u8; 32]>,
}

impl ProofKeys {
    pub fn derive(salted_password: &[u8; 32]) -> Self {
        let client_key = hmac_sha256(salted_password, &[b"Client Key"]);
        let stored_key = *sha256(&[&*client_key]);
        let server_key = hmac_sha256(salted_password, &[b"Server Key"]);
        Self { client_key, stored_key, server_key }
    }
}
