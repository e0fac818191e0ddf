//! One login of a client, for a user with several live credentials.

use std::sync::{Arc, LazyLock};

use curve25519_dalek::constants::ED25519_BASEPOINT_COMPRESSED;
use subtle::ConstantTimeEq;

use super::{
    NATIVE_BYTES, PARSEC_SALT_BYTES, check_caching_sha2, check_ed25519, check_native, parsec_ext_salt,
};
use crate::credential::{Identity, Keys, Proof};
use crate::model::limits::CREDENTIALS_PER_USER_MAX;
use crate::model::{Credential, CredentialId, Name, Time};

/// One live credential that the proof may be of.
#[derive(Clone)]
pub struct Candidate {
    credential: CredentialId,
    until: Time,
    caching_sha2: [u8; 32],
    ed25519: [u8; 32],
    parsec: [u8; 32],
    check: [u8; 32],
    /// Sealed.
    native: Option<[u8; NATIVE_BYTES]>,
}

impl Candidate {
    /// `None`: the stored verifiers do not have their lengths.
    pub fn new(credential: &Credential) -> Option<Self> {
        let verifiers = &credential.verifiers;
        Some(Self {
            credential: credential.id,
            until: credential.window.end,
            caching_sha2: verifiers.caching_sha2.as_slice().try_into().ok()?,
            ed25519: verifiers.ed25519.as_slice().try_into().ok()?,
            parsec: verifiers.parsec.as_slice().try_into().ok()?,
            check: verifiers.check.as_slice().try_into().ok()?,
            native: match &verifiers.mysql_native {
                Some(sealed) => Some(sealed.as_slice().try_into().ok()?),
                None => None,
            },
        })
    }
}

/// Stands in every free place, so that the same is computed however many credentials there are. What it is made
/// of is public, and it never proves anything.
static MOCK: LazyLock<Candidate> = LazyLock::new(|| Candidate {
    credential: CredentialId::from_u64(0),
    until: Time::MIN,
    caching_sha2: [0; 32],
    ed25519: ED25519_BASEPOINT_COMPRESSED.to_bytes(),
    parsec: ED25519_BASEPOINT_COMPRESSED.to_bytes(),
    check: [0; 32],
    native: None,
});

/// What a client sent is no proof of any credential of this user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrongProof;

/// One exchange. It ends with the one proof that is looked at; an unknown name costs and looks the same as a
/// known one.
pub struct Exchange {
    user: Option<Name>,
    /// At most [`CREDENTIALS_PER_USER_MAX`], none where there is no user.
    candidates: Vec<Candidate>,
    parsec_salt: [u8; PARSEC_SALT_BYTES],
    keys: Arc<Keys>,
}

impl Exchange {
    /// `user` is `None` for a name that is not ours, which is `sent`: the exchange runs to its end and fails.
    pub fn new(user: Option<Name>, sent: &str, mut candidates: Vec<Candidate>, keys: Arc<Keys>) -> Self {
        candidates.truncate(if user.is_some() { CREDENTIALS_PER_USER_MAX } else { 0 });
        let parsec_salt = keys.parsec_salt(user.as_ref().map_or(sent, Name::as_str));
        Self { user, candidates, parsec_salt, keys }
    }

    /// The fast path of caching_sha2_password, for the nonce of 20 bytes that we sent.
    pub fn caching_sha2(self, nonce: &[u8], proof: &[u8]) -> Result<Identity, WrongProof> {
        self.prove(|candidate| check_caching_sha2(&candidate.caching_sha2, nonce, proof))
    }

    /// mysql_native_password, for the nonce of 20 bytes that we sent. A credential that keeps nothing for it costs
    /// the same.
    pub fn native(self, nonce: &[u8], proof: &[u8]) -> Result<Identity, WrongProof> {
        self.prove(|candidate| {
            let sealed = candidate.native.unwrap_or_default();
            let stored = self.keys.seal_mysql_native(&sealed, &candidate.check);
            check_native(&stored, nonce, proof) & candidate.native.is_some()
        })
    }

    /// client_ed25519, for the 32 bytes that we sent.
    pub fn ed25519(self, scramble: &[u8], signature: &[u8]) -> Result<Identity, WrongProof> {
        self.prove(|candidate| check_ed25519(&candidate.ed25519, &[scramble], signature))
    }

    /// What parsec's client asks for before it can sign.
    pub fn parsec_ext_salt(&self) -> [u8; 2 + PARSEC_SALT_BYTES] {
        parsec_ext_salt(&self.parsec_salt)
    }

    /// parsec, for the 32 bytes that we sent and the 32 that the client did.
    pub fn parsec(self, scramble: &[u8], theirs: &[u8], signature: &[u8]) -> Result<Identity, WrongProof> {
        self.prove(|candidate| check_ed25519(&candidate.parsec, &[scramble, theirs], signature))
    }

    /// The secret itself, which only travels inside TLS.
    pub fn clear(self, secret: &str) -> Result<Identity, WrongProof> {
        let code = self.keys.check_code(secret);
        self.prove(|candidate| bool::from(code.as_slice().ct_eq(&candidate.check)))
    }

    /// Looks at every place, whichever fits.
    fn prove(&self, fits: impl Fn(&Candidate) -> bool) -> Result<Identity, WrongProof> {
        let mut found = None;
        for place in 0..CREDENTIALS_PER_USER_MAX {
            match self.candidates.get(place) {
                Some(candidate) => {
                    if fits(candidate) && found.is_none() {
                        found = Some(candidate);
                    }
                }
                None => {
                    std::hint::black_box(fits(&MOCK));
                }
            }
        }
        match (&self.user, found) {
            (Some(user), Some(candidate)) => {
                let proof = Proof::Credential(candidate.credential);
                Ok(Identity::proven(user.clone(), proof, candidate.until))
            }
            _ => Err(WrongProof),
        }
    }
}
