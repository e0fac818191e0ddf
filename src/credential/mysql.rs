//! What MySQL's and MariaDB's clients send as proof: checking it, and making it. Pure; the packets are the
//! protocol's.

use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use sha1::{Digest, Sha1};
use sha2::Sha512;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::digest::{sha256, sha512, xor};
use crate::model::limits::PARSEC_ROUNDS;

mod client;
mod exchange;

pub use client::{answer_caching_sha2, answer_ed25519, answer_native, answer_parsec, under_nonce};
pub use exchange::{Candidate, Exchange, WrongProof};

/// MariaDB's parsec: `CHALLENGE_SALT_LENGTH`.
pub const PARSEC_SALT_BYTES: usize = 18;

/// What SHA-1 gives.
pub const NATIVE_BYTES: usize = 20;

/// What a server keeps for mysql_native_password: SHA1(SHA1(secret)).
pub(super) fn native_verifier(secret: &str) -> Zeroizing<[u8; NATIVE_BYTES]> {
    let once = Zeroizing::new(<[u8; NATIVE_BYTES]>::from(Sha1::digest(secret)));
    Zeroizing::new(Sha1::digest(*once).into())
}

/// mysql_native_password. The client sends `SHA1(secret) XOR SHA1(nonce ‖ SHA1(SHA1(secret)))`; `stored` is
/// `SHA1(SHA1(secret))`. Whoever has that and hears one proof has `SHA1(secret)`, with which one logs in.
pub fn check_native(stored: &[u8; NATIVE_BYTES], nonce: &[u8], proof: &[u8]) -> bool {
    let Ok(proof) = <&[u8; NATIVE_BYTES]>::try_from(proof) else { return false };
    let mask: [u8; NATIVE_BYTES] = Sha1::new().chain_update(nonce).chain_update(stored).finalize().into();
    let mut once = Zeroizing::new(*proof);
    once.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    let twice: [u8; NATIVE_BYTES] = Sha1::digest(*once).into();
    bool::from(twice.as_slice().ct_eq(stored))
}

/// The fast path of caching_sha2_password. The client sends
/// `SHA256(secret) XOR SHA256(SHA256(SHA256(secret)) ‖ nonce)`; `stored` is `SHA256(SHA256(secret))`,
/// with which the proof can be opened and not made.
pub fn check_caching_sha2(stored: &[u8], nonce: &[u8], proof: &[u8]) -> bool {
    let (Ok(stored), Ok(proof)) = (<&[u8; 32]>::try_from(stored), <&[u8; 32]>::try_from(proof)) else {
        return false;
    };
    // Where the proof is right this is SHA256(secret), which logs in: it is zeroed on drop.
    let once = xor(proof, &sha256(&[stored, nonce]));
    bool::from(sha256(&[&*once]).as_slice().ct_eq(stored))
}

/// A signature of client_ed25519 or parsec over `parts`, one after the other. For client_ed25519
/// these are the server's 32 bytes; for parsec the server's 32 and the client's 32. Both check
/// as RFC 8032 says (section 5.1.7, without cofactor), only their keys are made differently.
pub fn check_ed25519(public_key: &[u8], parts: &[&[u8]], signature: &[u8]) -> bool {
    let (Ok(public_key), Ok(signature)) =
        (<&[u8; 32]>::try_from(public_key), <&[u8; 64]>::try_from(signature))
    else {
        return false;
    };
    let (mut commitment, mut response) = ([0u8; 32], [0u8; 32]);
    commitment.copy_from_slice(&signature[..32]);
    response.copy_from_slice(&signature[32..]);
    let Some(point) = CompressedEdwardsY(*public_key).decompress() else { return false };
    let Some(response) = Option::<Scalar>::from(Scalar::from_canonical_bytes(response)) else {
        return false;
    };
    let mut hashed: Vec<&[u8]> = vec![&commitment, public_key];
    hashed.extend(parts);
    let challenge = Scalar::from_bytes_mod_order_wide(&sha512(&hashed));
    let expected = EdwardsPoint::vartime_double_scalar_mul_basepoint(&challenge, &-point, &response);
    // A key of small order signs anything; ours never are, so this only guards a damaged store.
    !point.is_small_order() && expected.compress().as_bytes() == &commitment
}

/// What parsec calls ext-salt, as sent to the client: the KDF's letter, the rounds as the binary
/// logarithm of their 1,024s, the salt.
pub fn parsec_ext_salt(salt: &[u8; PARSEC_SALT_BYTES]) -> [u8; 2 + PARSEC_SALT_BYTES] {
    let mut out = [0u8; 2 + PARSEC_SALT_BYTES];
    out[0] = b'P';
    out[1] = (PARSEC_ROUNDS / 1_024).trailing_zeros() as u8;
    out[2..].copy_from_slice(salt);
    out
}

/// client_ed25519: the key pair of ref10 made from SHA-512 of the password itself, of any length,
/// where RFC 8032 has a seed of 32 bytes.
pub(super) fn ed25519_public_key(password: &[u8]) -> [u8; 32] {
    let expanded = sha512(&[password]);
    let mut scalar = Zeroizing::new([0u8; 32]);
    scalar.copy_from_slice(&expanded[..32]);
    EdwardsPoint::mul_base_clamped(*scalar).compress().to_bytes()
}

/// parsec: an RFC 8032 key pair whose seed is PBKDF2-HMAC-SHA-512 of the password.
pub(super) fn parsec_public_key(password: &[u8], salt: &[u8; PARSEC_SALT_BYTES], rounds: u32) -> [u8; 32] {
    let mut seed = Zeroizing::new([0u8; 32]);
    pbkdf2::pbkdf2_hmac::<Sha512>(password, salt, rounds, &mut *seed);
    ed25519_public_key(&*seed)
}

#[cfg(test)]
pub(super) mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    pub(in crate::credential) use super::client::{mask_caching_sha2 as answer_caching_sha2, sign};
    use super::*;

    /// MariaDB's own vectors, plugin/auth_ed25519/ed25519-t.c: the key and signature of "foobar" over
    /// 32 times 'A'.
    #[test]
    fn client_ed25519_agrees_with_mariadb() {
        let key = ed25519_public_key(b"foobar");
        let known_key = [
            170, 253, 166, 27, 161, 214, 10, 236, 183, 217, 41, 91, 231, 24, 85, 225, 49, 210, 181, 236, 13,
            207, 101, 72, 53, 83, 219, 130, 79, 151, 0, 159,
        ];
        assert_eq!(key, known_key);
        let known_signature = [
            232, 61, 201, 63, 67, 63, 51, 53, 86, 73, 238, 35, 170, 117, 146, 214, 26, 17, 35, 9, 8, 132,
            245, 141, 48, 99, 66, 58, 36, 228, 48, 84, 115, 254, 187, 168, 88, 162, 249, 57, 35, 85, 79, 238,
            167, 106, 68, 117, 56, 135, 171, 47, 20, 14, 133, 79, 15, 229, 124, 160, 176, 100, 138, 14,
        ];
        assert_eq!(sign(&sha512(&[b"foobar"]), &[&[b'A'; 32]]), known_signature);
        assert!(check_ed25519(&key, &[&[b'A'; 32]], &known_signature));

        let mut other = [b'A'; 32];
        other[10] = b'B';
        assert!(!check_ed25519(&key, &[&other], &known_signature));
        for at in 0..64 {
            let mut signature = known_signature;
            signature[at] ^= 1;
            assert!(!check_ed25519(&key, &[&[b'A'; 32]], &signature), "{at}");
        }
        assert!(!check_ed25519(&key, &[&[b'A'; 32]], &known_signature[..63]));
        assert!(!check_ed25519(&key[..31], &[&[b'A'; 32]], &known_signature));
        // MariaDB's own empty password, from the tests of mysqldump.
        assert_eq!(STANDARD.encode(ed25519_public_key(b"")), "4LH+dBF+G5W2CKTyId8xR3SyDqZoQjUNUVNxx8aWbG4=");
    }

    /// The same point plus one of small order, or a response plus the group's order, are other
    /// spellings of a signature; they are refused.
    #[test]
    fn a_signature_has_one_spelling() {
        let key = ed25519_public_key(b"foobar");
        let mut signature = sign(&sha512(&[b"foobar"]), &[b"message"]);
        assert!(check_ed25519(&key, &[b"message"], &signature));
        let order = [
            0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10u8,
        ];
        let mut carry = 0u16;
        for (byte, add) in signature[32..].iter_mut().zip(order) {
            carry += u16::from(*byte) + u16::from(add);
            *byte = carry as u8;
            carry >>= 8;
        }
        assert!(!check_ed25519(&key, &[b"message"], &signature));
        // The neutral element as key would accept a signature of zeros over anything.
        let mut neutral = [0u8; 32];
        neutral[0] = 1;
        let forged = [neutral, [0u8; 32]].concat();
        assert!(!check_ed25519(&neutral, &[b"message"], &forged));
    }

    /// The value that MariaDB's documentation shows for `PASSWORD('MyPassword123!')`.
    #[test]
    fn parsec_agrees_with_mariadb() {
        let salt: [u8; PARSEC_SALT_BYTES] =
            STANDARD.decode("lhXyNv1cIxpB8EnTxR7ON7S7").unwrap().try_into().unwrap();
        let key = parsec_public_key(b"MyPassword123!", &salt, 1_024);
        assert_eq!(STANDARD.encode(key), "1l3rWRW1/jw45yrvYXB8eh02wzk7lcJcz4CMcWw2b+8=");

        let mut seed = [0u8; 32];
        pbkdf2::pbkdf2_hmac::<Sha512>(b"MyPassword123!", &salt, 1_024, &mut seed);
        let signature = sign(&sha512(&[&seed]), &[&[1; 32], &[2; 32]]);
        assert!(check_ed25519(&key, &[&[1; 32], &[2; 32]], &signature));
        assert!(!check_ed25519(&key, &[&[2; 32], &[1; 32]], &signature));
        let ext_salt = parsec_ext_salt(&salt);
        assert_eq!((&ext_salt[..2], &ext_salt[2..]), (&b"P\0"[..], &salt[..]));
    }

    /// Against the client's formula in another implementation's hands: the same as
    /// `answer_caching_sha2`, written out with the bare hashes.
    #[test]
    fn caching_sha2_accepts_the_clients_answer_and_no_other() {
        use sha2::{Digest, Sha256};
        let nonce = *b"01234567890123456789";
        let once: [u8; 32] = Sha256::digest(b"secret").into();
        let stored: [u8; 32] = Sha256::digest(once).into();
        let mut mask = Sha256::new();
        mask.update(stored);
        mask.update(nonce);
        let mask: [u8; 32] = mask.finalize().into();
        let answer: Vec<u8> = once.iter().zip(mask).map(|(once, mask)| once ^ mask).collect();
        assert_eq!(answer, answer_caching_sha2(&once, &nonce));
        assert!(check_caching_sha2(&stored, &nonce, &answer));
        assert!(!check_caching_sha2(&stored, b"another nonce of 20b", &answer));
        for at in 0..32 {
            let mut changed = answer.clone();
            changed[at] ^= 0x80;
            assert!(!check_caching_sha2(&stored, &nonce, &changed));
        }
        assert!(!check_caching_sha2(&stored, &nonce, &[]));
        assert!(!check_caching_sha2(&stored[..31], &nonce, &answer));
    }
}
