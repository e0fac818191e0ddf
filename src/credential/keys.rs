//! What the installation's key makes: salts, new secrets, and the verifiers that the store keeps of
//! them (design 1.6).

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::digest::{hmac_sha256, sha256};
use super::mysql;
use super::scram::{ProofKeys, salt_password};
use crate::model::limits::{PARSEC_ROUNDS, SCRAM_ROUNDS};
use crate::model::{Name, Verifiers};

/// RFC 4648's base 32 in lower case.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// What every secret of ours begins with, so that a scanner for leaked secrets can know it.
const SECRET_PREFIX: &str = "tg_";
/// Five random bits each: 130 in all.
const SECRET_DIGITS: usize = 26;
/// The domain of the check; it separates the code from any other use of the same key.
const CHECK_DOMAIN: &[u8] = b"tidegate/check/v1";

/// Keys derived from the installation's key, which lives in a file outside the store: the store
/// alone cannot check a guess against `check`, nor say which salt belongs to whom.
pub struct Keys {
    pepper: Zeroizing<[u8; 32]>,
    scram_salt: Zeroizing<[u8; 32]>,
    parsec_salt: Zeroizing<[u8; 32]>,
    /// Seals what is kept for mysql_native_password.
    mysql_native: Zeroizing<[u8; 32]>,
    keeps_mysql_native: bool,
    /// Seals ids of HTTP targets that people are given.
    http_ids: Zeroizing<[u8; 32]>,
}

impl Keys {
    /// One derived key per use. The labels can never change: what is stored depends on them.
    pub fn new(installation: &[u8; 32]) -> Self {
        Self {
            pepper: hmac_sha256(installation, &[CHECK_DOMAIN]),
            scram_salt: hmac_sha256(installation, &[b"tidegate/scram-salt/v1"]),
            parsec_salt: hmac_sha256(installation, &[b"tidegate/parsec-salt/v1"]),
            mysql_native: hmac_sha256(installation, &[b"tidegate/mysql-native/v1"]),
            keeps_mysql_native: false,
            http_ids: hmac_sha256(installation, &[b"tidegate/http-ids/v1"]),
        }
    }

    /// Whether what is issued from now on can log in by mysql_native_password, which costs something: who has the
    /// store, the installation's key and has heard one such login can log in.
    pub fn keeping_mysql_native(self, keeps: bool) -> Self {
        Self { keeps_mysql_native: keeps, ..self }
    }

    /// Seals ids of HTTP targets that people are given; the same on all nodes.
    pub fn http_ids(&self) -> &[u8; 32] {
        &self.http_ids
    }

    /// The SCRAM salt of a name, ours or not: the same for all credentials of a user and on all
    /// nodes. For a login name that can be split it is the user's part that must be given; for any
    /// other, the name as it was sent.
    pub fn scram_salt(&self, user_sent: &str) -> [u8; 16] {
        first(&self.scram_salt, user_sent)
    }

    /// The parsec salt of a name, as [`Keys::scram_salt`]. Sent as [`mysql::parsec_ext_salt`].
    pub fn parsec_salt(&self, user_sent: &str) -> [u8; mysql::PARSEC_SALT_BYTES] {
        first(&self.parsec_salt, user_sent)
    }

    /// A new secret, to be shown once, and what is kept of it. Costs the rounds of SCRAM and parsec,
    /// some milliseconds. Fails when the system has no random bytes.
    pub fn issue(&self, user: &Name) -> Result<(Zeroizing<String>, Verifiers), getrandom::Error> {
        let secret = random_secret()?;
        let verifiers = self.verifiers(user, &secret);
        Ok((secret, verifiers))
    }

    /// Whether this is the secret, for proofs that carry it (HTTP, clear text inside TLS). The time it
    /// takes depends on the length of what was sent and on nothing else.
    pub fn check(&self, secret: &str, verifiers: &Verifiers) -> bool {
        let code = self.check_code(secret);
        bool::from(code.as_slice().ct_eq(&verifiers.check))
    }

    pub(super) fn verifiers(&self, user: &Name, secret: &str) -> Verifiers {
        let salted = salt_password(secret.as_bytes(), &self.scram_salt(user.as_str()), SCRAM_ROUNDS);
        let scram = ProofKeys::derive(&salted);
        let once = sha256(&[secret.as_bytes()]);
        let parsec_salt = self.parsec_salt(user.as_str());
        let check = self.check_code(secret);
        let native = self.keeps_mysql_native.then(|| mysql::native_verifier(secret));
        Verifiers {
            scram_stored_key: scram.stored_key.to_vec(),
            scram_server_key: scram.server_key.to_vec(),
            caching_sha2: sha256(&[&*once]).to_vec(),
            ed25519: mysql::ed25519_public_key(secret.as_bytes()).to_vec(),
            parsec: mysql::parsec_public_key(secret.as_bytes(), &parsec_salt, PARSEC_ROUNDS).to_vec(),
            mysql_native: native.map(|native| self.seal_mysql_native(&native, &check).to_vec()),
            check: check.to_vec(),
        }
    }

    /// Seals SHA1(SHA1(secret)), or opens it again: a mask of its own for each secret, which `check` stands for.
    pub(super) fn seal_mysql_native(
        &self,
        native: &[u8; mysql::NATIVE_BYTES],
        check: &[u8; 32],
    ) -> Zeroizing<[u8; mysql::NATIVE_BYTES]> {
        let mask = hmac_sha256(&self.mysql_native, &[check]);
        let mut out = Zeroizing::new(*native);
        out.iter_mut().zip(mask.iter()).for_each(|(byte, mask)| *byte ^= mask);
        out
    }

    /// HMAC-SHA256(pepper, domain ‖ secret). The domain has a fixed length, so the two cannot run
    /// into each other.
    pub(super) fn check_code(&self, secret: &str) -> Zeroizing<[u8; 32]> {
        hmac_sha256(&self.pepper, &[CHECK_DOMAIN, secret.as_bytes()])
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(..)")
    }
}

fn random_secret() -> Result<Zeroizing<String>, getrandom::Error> {
    let mut random = Zeroizing::new([0u8; SECRET_DIGITS]);
    getrandom::fill(&mut *random)?;
    // Made at its full length: a string that grows leaves copies of its bytes behind.
    let mut secret = Zeroizing::new(String::with_capacity(SECRET_PREFIX.len() + SECRET_DIGITS));
    secret.push_str(SECRET_PREFIX);
    for byte in random.iter() {
        // 32 divides 256, so the low five bits are uniform.
        secret.push(char::from(ALPHABET[usize::from(byte & 31)]));
    }
    Ok(secret)
}

/// The first `N` bytes of a name's code under this key.
fn first<const N: usize>(key: &[u8; 32], name: &str) -> [u8; N] {
    let code = hmac_sha256(key, &[name.as_bytes()]);
    let mut out = [0u8; N];
    out.copy_from_slice(&code[..N]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::Secret;
    use crate::credential::scram::{Candidate, Client, Exchange};
    use crate::model::{Credential, CredentialId, Window};

    fn alice() -> Name {
        Name::parse("alice").unwrap()
    }

    #[test]
    fn a_secret_has_130_random_bits_and_checks() {
        let keys = Keys::new(&[1; 32]);
        let (secret, verifiers) = keys.issue(&alice()).unwrap();
        assert_eq!(secret.len(), 29);
        let digits = secret.strip_prefix("tg_").unwrap();
        assert!(digits.bytes().all(|digit| ALPHABET.contains(&digit)));
        assert!(keys.check(&secret, &verifiers));

        let (other, others) = keys.issue(&alice()).unwrap();
        assert_ne!(secret, other);
        assert!(!keys.check(&other, &verifiers) && !keys.check(&secret, &others));
        assert!(!keys.check("", &verifiers) && !keys.check(&secret[..28], &verifiers));
        // Another installation's pepper, and a verifier that was lost: nothing fits.
        assert!(!Keys::new(&[2; 32]).check(&secret, &verifiers));
        assert!(!keys.check(&secret, &Verifiers { check: vec![], ..verifiers }));
    }

    /// All 32 digits at all 26 places: none is left out by the way they are drawn.
    #[test]
    fn every_digit_comes_up() {
        let mut seen = vec![[false; 32]; SECRET_DIGITS];
        for _ in 0..2_000 {
            let secret = random_secret().unwrap();
            for (place, digit) in secret[SECRET_PREFIX.len()..].bytes().enumerate() {
                seen[place][ALPHABET.iter().position(|known| *known == digit).unwrap()] = true;
            }
        }
        assert!(seen.iter().flatten().all(|seen| *seen));
    }

    #[test]
    fn an_issued_secret_logs_in_by_scram() {
        let keys = Keys::new(&[1; 32]);
        let (password, verifiers) = keys.issue(&alice()).unwrap();
        let window = Window {
            start: "2026-11-22T08:00:00Z".parse().unwrap(),
            end: "2026-11-22T18:00:00Z".parse().unwrap(),
        };
        let credential = Credential {
            id: CredentialId::from_u64(3),
            user: alice(),
            window,
            verifiers,
            created_by: "uid 0".into(),
            ended: None,
        };
        let candidate = Candidate::new(&credential).unwrap();
        let mut server =
            Exchange::new(Some(alice()), vec![candidate], keys.scram_salt("alice"), SCRAM_ROUNDS);
        let mut client = Client::new(&Secret::new("alice".into(), password, 0), "theirs");
        let challenge = server.client_first(&client.client_first(), "ours").unwrap();
        let (identity, signature) = server.client_final(&client.server_first(&challenge).unwrap()).unwrap();
        client.server_final(&signature).unwrap();
        assert_eq!((identity.user(), identity.credential()), (&alice(), Some(credential.id)));

        let mut broken = credential;
        broken.verifiers.scram_stored_key.pop();
        assert!(Candidate::new(&broken).is_none());
    }

    #[test]
    fn salts_are_fixed_per_name_and_installation_and_tell_nothing() {
        let keys = Keys::new(&[1; 32]);
        assert_eq!(keys.scram_salt("alice"), Keys::new(&[1; 32]).scram_salt("alice"));
        assert_ne!(keys.scram_salt("alice"), keys.scram_salt("bob"));
        assert_ne!(keys.scram_salt("alice"), Keys::new(&[2; 32]).scram_salt("alice"));
        assert_ne!(keys.scram_salt("alice")[..], keys.parsec_salt("alice")[..16]);
        // A name that cannot be one of ours has a salt like any other.
        assert_ne!(keys.scram_salt("No Such User"), [0; 16]);
    }

    /// Computed apart, with Python's `hmac`. What is stored depends on these values: a changed label
    /// would lock everybody out.
    #[test]
    fn derived_values_never_change() {
        let keys = Keys::new(&[1; 32]);
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(hex(&keys.scram_salt("alice")), "fe00f91b560d5276703921ae7b21b811");
        assert_eq!(hex(&keys.parsec_salt("alice")), "ded9f3e646d883a869c525b98eb915c60c9c");
        let code = keys.check_code("tg_aaaaaaaaaaaaaaaaaaaaaaaaaa");
        assert_eq!(hex(&*code), "679f348b240fc203d41a155e8e9f893255f49a667242d3d27ca42f1fe84cf16e");
    }

    #[test]
    fn nothing_is_printed() {
        assert_eq!(format!("{:?}", Keys::new(&[1; 32])), "Keys(..)");
    }
}
