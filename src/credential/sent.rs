//! Proofs that carry the secret itself: HTTP's Basic, Bearer and ApiKey. The secret has 130 random bits, so one keyed
//! hash is all that it takes to check it, each time anew.

use subtle::ConstantTimeEq;

use super::{Identity, Keys, Proof};
use crate::model::Credential;

/// Whose secret this is among these live credentials of one user. All are looked at: how long it takes depends on the
/// length of what was sent and on how many there are.
pub fn by_secret(keys: &Keys, secret: &str, candidates: &[&Credential]) -> Option<Identity> {
    let code = keys.check_code(secret);
    let mut found = None;
    for credential in candidates {
        if bool::from(code.as_slice().ct_eq(&credential.verifiers.check)) {
            found = Some(*credential);
        }
    }
    found.map(identity)
}

/// Whose secret this is, where it names nobody: `find` looks a credential up by its check code.
pub fn by_bearer<'a>(
    keys: &Keys,
    secret: &str,
    find: impl FnOnce(&[u8]) -> Option<&'a Credential>,
) -> Option<Identity> {
    find(keys.check_code(secret).as_slice()).map(identity)
}

fn identity(credential: &Credential) -> Identity {
    Identity::proven(credential.user.clone(), Proof::Credential(credential.id), credential.window.end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CredentialId, Name, Time, Window};

    #[test]
    fn the_secret_that_fits_is_the_one_that_answers() {
        let keys = Keys::new(&[1; 32]);
        let alice = Name::parse("alice").unwrap();
        let of = |id: i64| {
            let (secret, verifiers) = keys.issue(&alice).unwrap();
            let window =
                Window { start: Time::from_second(0).unwrap(), end: Time::from_second(10 + id).unwrap() };
            let id = CredentialId::from_u64(id as u64);
            let ended = None;
            (secret, Credential { id, user: alice.clone(), window, verifiers, created_by: "x".into(), ended })
        };
        let ((_, one), (secret, other)) = (of(1), of(2));
        let identity = by_secret(&keys, &secret, &[&one, &other]).unwrap();
        assert_eq!((identity.user(), identity.credential()), (&alice, Some(other.id)));
        assert_eq!(identity.until(), other.window.end);
        assert_eq!(by_secret(&keys, &secret, &[&one]), None);
        assert_eq!(by_secret(&keys, "", &[&one, &other]), None);
        assert_eq!(by_secret(&keys, &secret, &[]), None);
        // What the store keeps proves nothing.
        let stolen: String = other.verifiers.check.iter().map(|byte| char::from(*byte)).collect();
        assert_eq!(by_secret(&keys, &stolen, &[&one, &other]), None);
        let mut lost = other.clone();
        lost.verifiers.check = Vec::new();
        assert_eq!(by_secret(&keys, &secret, &[&lost]), None);

        let find = |code: &[u8]| (code == other.verifiers.check).then_some(&other);
        assert_eq!(by_bearer(&keys, &secret, find).unwrap().credential(), Some(other.id));
        assert_eq!(by_bearer(&keys, "tg_", |code| (code == other.verifiers.check).then_some(&other)), None);
    }
}
