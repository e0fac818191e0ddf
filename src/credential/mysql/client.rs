//! What we prove with to servers: the client's side of each method. None of them has the server prove anything.

use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::Scalar;
use sha1::{Digest, Sha1};
use sha2::Sha512;
use zeroize::Zeroizing;

use super::PARSEC_SALT_BYTES;
use crate::credential::Secret;
use crate::credential::digest::{sha256, sha512, xor};

/// mysql_native_password: `SHA1(password) XOR SHA1(nonce ‖ SHA1(SHA1(password)))`.
pub fn answer_native(password: &str, nonce: &[u8]) -> [u8; 20] {
    let once = Zeroizing::new(<[u8; 20]>::from(Sha1::digest(password)));
    let twice = Zeroizing::new(<[u8; 20]>::from(Sha1::digest(*once)));
    let mask: [u8; 20] = Sha1::new().chain_update(nonce).chain_update(*twice).finalize().into();
    std::array::from_fn(|at| once[at] ^ mask[at])
}

/// The fast path of caching_sha2_password: `SHA256(password) XOR SHA256(SHA256(SHA256(password)) ‖ nonce)`.
pub fn answer_caching_sha2(password: &str, nonce: &[u8]) -> [u8; 32] {
    mask_caching_sha2(&sha256(&[password.as_bytes()]), nonce)
}

/// The same from SHA256(password).
pub(in crate::credential) fn mask_caching_sha2(once: &[u8; 32], nonce: &[u8]) -> [u8; 32] {
    *xor(once, &sha256(&[&*sha256(&[once]), nonce]))
}

/// The password and its zero byte under the nonce, which is what caching_sha2_password and sha256_password seal
/// with the server's RSA key.
pub fn under_nonce(password: &str, nonce: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut text = Zeroizing::new(Vec::with_capacity(password.len() + 1));
    text.extend_from_slice(password.as_bytes());
    text.push(0);
    for (byte, mask) in text.iter_mut().zip(nonce.iter().cycle()) {
        *byte ^= mask;
    }
    text
}

/// client_ed25519: a signature over the server's bytes under a key that is SHA-512 of the password.
pub fn answer_ed25519(password: &str, scramble: &[u8]) -> [u8; 64] {
    sign(&sha512(&[password.as_bytes()]), &[scramble])
}

/// parsec: a signature over the server's bytes and our own, under a key whose seed is PBKDF2 of the password.
pub fn answer_parsec(
    secret: &Secret,
    salt: &[u8; PARSEC_SALT_BYTES],
    rounds: u32,
    scrambles: [&[u8; 32]; 2],
) -> [u8; 64] {
    let seed = secret.salted_password(salt, rounds, |password| {
        let mut seed = Zeroizing::new([0u8; 32]);
        pbkdf2::pbkdf2_hmac::<Sha512>(password.as_bytes(), salt, rounds, &mut *seed);
        seed
    });
    sign(&sha512(&[&*seed]), &[scrambles[0], scrambles[1]])
}

/// An Ed25519 signature (RFC 8032 section 5.1.6) under an expanded key.
pub(in crate::credential) fn sign(expanded: &[u8; 64], parts: &[&[u8]]) -> [u8; 64] {
    let mut clamped = Zeroizing::new([0u8; 32]);
    clamped.copy_from_slice(&expanded[..32]);
    clamped[0] &= 248;
    clamped[31] = clamped[31] & 127 | 64;
    let public = EdwardsPoint::mul_base_clamped(*clamped).compress();
    let mut hashed = vec![&expanded[32..]];
    hashed.extend(parts);
    let nonce = Zeroizing::new(Scalar::from_bytes_mod_order_wide(&sha512(&hashed)));
    let commitment = EdwardsPoint::mul_base(&nonce).compress();
    let mut hashed: Vec<&[u8]> = vec![commitment.as_bytes(), public.as_bytes()];
    hashed.extend(parts);
    let challenge = Scalar::from_bytes_mod_order_wide(&sha512(&hashed));
    let key = Zeroizing::new(Scalar::from_bytes_mod_order(*clamped));
    let response = *nonce + challenge * *key;
    let mut signature = [0u8; 64];
    signature[..32].copy_from_slice(commitment.as_bytes());
    signature[32..].copy_from_slice(response.as_bytes());
    signature
}

#[cfg(test)]
mod tests {
    use super::super::{check_caching_sha2, check_ed25519, ed25519_public_key, parsec_public_key};
    use super::*;

    /// Computed with Python's hashlib.
    #[test]
    fn scrambles_agree_with_the_formulas() {
        let nonce = b"the server's 20 byte";
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(
            hex(&answer_caching_sha2("s3cret", nonce)),
            "085179725124715ed2ab8bce8ffbe52e77d7297e762d28a35bf7a0701d7bada3"
        );
        assert_eq!(hex(&answer_native("s3cret", nonce)), "83fb0c85c8160c62f1d2d7e4a0e2915af2ff8798");
    }

    #[test]
    fn what_a_client_proves_a_server_accepts() {
        let secret = Secret::new("alice".into(), Zeroizing::new("s3cret".into()), 1);
        let (ours, theirs) = ([1u8; 32], [2u8; 32]);
        let once = sha256(&[b"s3cret"]);
        let answer = answer_caching_sha2("s3cret", &ours[..20]);
        assert!(check_caching_sha2(&*sha256(&[&*once]), &ours[..20], &answer));
        let key = ed25519_public_key(b"s3cret");
        assert!(check_ed25519(&key, &[&ours], &answer_ed25519("s3cret", &ours)));
        let salt = [7; PARSEC_SALT_BYTES];
        let key = parsec_public_key(b"s3cret", &salt, 2_048);
        let signature = answer_parsec(&secret, &salt, 2_048, [&ours, &theirs]);
        assert!(check_ed25519(&key, &[&ours, &theirs], &signature));
    }

    #[test]
    fn a_password_is_sealed_under_the_nonce_from_its_beginning() {
        let text = under_nonce("abc", b"\x01\x02");
        assert_eq!(&text[..], [b'a' ^ 1, b'b' ^ 2, b'c' ^ 1, 2]);
        assert_eq!(&under_nonce("", b"\x05")[..], [5]);
    }
}
