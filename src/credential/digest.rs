//! The hashes that every proof is made of, for keys and outputs of fixed length.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256, Sha512};
use zeroize::Zeroizing;

pub(super) const SHA256_BYTES: usize = 32;
/// The block that HMAC-SHA-256 pads its key to (RFC 2104).
const BLOCK_BYTES: usize = 64;

/// HMAC-SHA-256 over the parts, one after the other. The parts are not separated: whoever calls with
/// more than one makes sure that only the last has a length of its own.
pub(super) fn hmac_sha256(key: &[u8; SHA256_BYTES], parts: &[&[u8]]) -> Zeroizing<[u8; SHA256_BYTES]> {
    // A key shorter than a block is padded with zeros by the definition of HMAC, so a padded one
    // gives the same result without the fallible constructor for keys of any length.
    let mut block = Zeroizing::new([0u8; BLOCK_BYTES]);
    block[..SHA256_BYTES].copy_from_slice(key);
    let mut mac = Hmac::<Sha256>::new((&*block).into());
    for part in parts {
        mac.update(part);
    }
    Zeroizing::new(mac.finalize().into_bytes().into())
}

pub(super) fn sha256(parts: &[&[u8]]) -> Zeroizing<[u8; SHA256_BYTES]> {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    Zeroizing::new(hash.finalize().into())
}

pub(super) fn sha512(parts: &[&[u8]]) -> Zeroizing<[u8; 64]> {
    let mut hash = Sha512::new();
    for part in parts {
        hash.update(part);
    }
    Zeroizing::new(hash.finalize().into())
}

pub(super) fn xor(left: &[u8; SHA256_BYTES], right: &[u8; SHA256_BYTES]) -> Zeroizing<[u8; SHA256_BYTES]> {
    let mut out = Zeroizing::new(*left);
    for (out, right) in out.iter_mut().zip(right) {
        *out ^= right;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test case 6 has a key longer than a block; ours are 32 bytes, so the oracle is the
    /// constructor for keys of any length.
    #[test]
    fn a_padded_key_gives_the_same_code() {
        let key = [7u8; 32];
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&key).unwrap();
        mac.update(b"a message");
        let expected: [u8; 32] = mac.finalize().into_bytes().into();
        assert_eq!(*hmac_sha256(&key, &[b"a ", b"message"]), expected);
    }
}
