//! For the tests of the layers above: an [`Identity`] as a client with the right key gets it. Only
//! built for tests; a proxy that people use must not have the feature `testing`.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::digest::{hmac_sha256, sha256, xor};
use super::scram::{Candidate, Exchange, ScramError};
use super::{Identity, Keys, mysql};
use crate::model::{Credential, CredentialId, Name, Time, Window};

/// Runs a whole SCRAM exchange, without the costly rounds: whoever knows ClientKey needs no password.
pub fn identity(user: &Name, credential: CredentialId, until: Time) -> Result<Identity, ScramError> {
    let client_key = [7u8; 32];
    let candidate =
        Candidate { credential, until, stored_key: *sha256(&[&client_key]), server_key: [8u8; 32] };
    let mut exchange = Exchange::new(Some(user.clone()), vec![candidate], [9u8; 16], 1);
    let challenge = exchange.client_first(b"n,,n=,r=client", "server")?;
    let bare_final = "c=biws,r=clientserver";
    let auth_message = [b"n=,r=client,", challenge.as_slice(), b",", bare_final.as_bytes()].concat();
    let signature = hmac_sha256(&sha256(&[&client_key]), &[&auth_message]);
    let proof = STANDARD.encode(*xor(&client_key, &signature));
    Ok(exchange.client_final(format!("{bare_final},p={proof}").as_bytes())?.0)
}

/// What the store keeps of this secret, for MySQL's methods, without an end; and the keys that made it.
pub fn mysql_candidate(user: &Name, secret: &str) -> Option<(Arc<Keys>, mysql::Candidate)> {
    let keys = Arc::new(Keys::new(&[3; 32]).keeping_mysql_native(true));
    let credential = Credential {
        id: CredentialId::from_u64(1),
        user: user.clone(),
        verifiers: keys.verifiers(user, secret),
        window: Window { start: Time::MIN, end: Time::MAX },
        created_by: String::new(),
        ended: None,
    };
    mysql::Candidate::new(&credential).map(|candidate| (keys, candidate))
}
