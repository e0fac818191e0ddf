//! A thief has the whole store: what can be sent with what is in it? (Design 1.6.)

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use sha1::{Digest, Sha1};
use sha2::{Sha256, Sha512};

use super::Keys;
use super::digest::{hmac_sha256, sha256, sha512, xor};
use super::mysql::tests::{answer_caching_sha2, sign};
use super::mysql::{answer_native, check_caching_sha2, check_ed25519, check_native, parsec_public_key};
use super::scram::{Candidate, Exchange, ProofKeys, salt_password};
use crate::model::limits::{PARSEC_ROUNDS, SCRAM_ROUNDS};
use crate::model::{CredentialId, Name, Verifiers};

const NONCE: [u8; 20] = *b"the server's 20 byte";
const SCRAMBLE: [u8; 32] = *b"the server's scramble, 32 bytes.";

struct Store {
    keys: Keys,
    user: Name,
    verifiers: Verifiers,
}

impl Store {
    fn new() -> (Self, String) {
        let keys = Keys::new(&[3; 32]).keeping_mysql_native(true);
        let user = Name::parse("alice").unwrap();
        let (secret, verifiers) = keys.issue(&user).unwrap();
        (Self { keys, user, verifiers }, secret.to_string())
    }

    fn stored_forms(&self) -> Vec<Vec<u8>> {
        let Verifiers {
            scram_stored_key,
            scram_server_key,
            caching_sha2,
            ed25519,
            parsec,
            check,
            mysql_native,
        } = self.verifiers.clone();
        vec![
            scram_stored_key,
            scram_server_key,
            caching_sha2,
            ed25519,
            parsec,
            check,
            mysql_native.expect("it is kept"),
        ]
    }

    /// As the proxy has it while it checks: opened with the installation's key.
    fn opened_native(&self) -> [u8; 20] {
        let sealed = self.verifiers.mysql_native.clone().unwrap().try_into().unwrap();
        *self.keys.seal_mysql_native(&sealed, self.verifiers.check.as_slice().try_into().unwrap())
    }

    fn scram_accepts(&self, client_key: &[u8; 32]) -> bool {
        let candidate = Candidate {
            credential: CredentialId::from_u64(1),
            until: "2026-11-22T18:00:00Z".parse().unwrap(),
            stored_key: self.verifiers.scram_stored_key.clone().try_into().unwrap(),
            server_key: self.verifiers.scram_server_key.clone().try_into().unwrap(),
        };
        let salt = self.keys.scram_salt(self.user.as_str());
        let mut exchange = Exchange::new(Some(self.user.clone()), vec![candidate], salt, SCRAM_ROUNDS);
        let challenge = exchange.client_first(b"n,,n=,r=theirs", "ours").unwrap();
        let auth_message = [b"n=,r=theirs,".as_slice(), &challenge, b",c=biws,r=theirsours"].concat();
        // A thief knows StoredKey, so this part of the proof is no obstacle.
        let stored: [u8; 32] = self.verifiers.scram_stored_key.clone().try_into().unwrap();
        let proof = xor(client_key, &hmac_sha256(&stored, &[&auth_message]));
        let message = format!("c=biws,r=theirsours,p={}", STANDARD.encode(*proof));
        exchange.client_final(message.as_bytes()).is_ok()
    }

    /// Every way in that these bytes open, each by its name.
    fn ways_in(&self, loot: &[u8]) -> Vec<&'static str> {
        let mut ways = vec![];
        if std::str::from_utf8(loot).is_ok_and(|text| self.keys.check(text, &self.verifiers)) {
            ways.push("as the secret");
        }
        let salted = salt_password(loot, &self.keys.scram_salt(self.user.as_str()), SCRAM_ROUNDS);
        if self.scram_accepts(&ProofKeys::derive(&salted).client_key) {
            ways.push("as the password of SCRAM");
        }
        let once = sha256(&[loot]);
        if check_caching_sha2(&self.verifiers.caching_sha2, &NONCE, &answer_caching_sha2(&once, &NONCE)) {
            ways.push("as the password of caching_sha2");
        }
        let parsec_salt = self.keys.parsec_salt(self.user.as_str());
        if check_ed25519(&self.verifiers.ed25519, &[&SCRAMBLE], &sign(&sha512(&[loot]), &[&SCRAMBLE])) {
            ways.push("as the password of ed25519");
        }
        if parsec_public_key(loot, &parsec_salt, PARSEC_ROUNDS).as_slice() == self.verifiers.parsec {
            ways.push("as the password of parsec");
        }
        let native = self.opened_native();
        if check_native(&native, &NONCE, &mask_native(&Sha1::digest(loot).into(), &native)) {
            ways.push("as the password of native");
        }
        if let Ok(loot) = <&[u8; 20]>::try_from(loot) {
            // The mask can be made with what is stored; it is not the answer.
            for (proof, way) in [
                (mask_native(loot, &native), "as SHA1(secret) of native"),
                (*loot, "as the answer of native"),
            ] {
                if check_native(&native, &NONCE, &proof) {
                    ways.push(way);
                }
            }
        }
        if let Ok(loot) = <&[u8; 32]>::try_from(loot) {
            self.ways_in_with_32_bytes(loot, &mut ways);
        }
        if let Ok(expanded) = <&[u8; 64]>::try_from(loot) {
            for (key, way) in [
                (&self.verifiers.ed25519, "as the expanded key of ed25519"),
                (&self.verifiers.parsec, "as the expanded key of parsec"),
            ] {
                if check_ed25519(key, &[&SCRAMBLE], &sign(expanded, &[&SCRAMBLE])) {
                    ways.push(way);
                }
            }
            if check_ed25519(&self.verifiers.ed25519, &[&SCRAMBLE], loot) {
                ways.push("as a signature");
            }
        }
        ways
    }

    fn ways_in_with_32_bytes(&self, loot: &[u8; 32], ways: &mut Vec<&'static str>) {
        if self.scram_accepts(loot) {
            ways.push("as ClientKey");
        }
        if self.scram_accepts(&ProofKeys::derive(loot).client_key) {
            ways.push("as SaltedPassword");
        }
        let stored = &self.verifiers.caching_sha2;
        if check_caching_sha2(stored, &NONCE, &answer_caching_sha2(loot, &NONCE)) {
            ways.push("as SHA256(secret) of caching_sha2");
        }
        if check_caching_sha2(stored, &NONCE, loot) {
            ways.push("as the answer of caching_sha2");
        }
        // The mask of the answer can be made from what is stored; it is not the answer.
        if check_caching_sha2(stored, &NONCE, &*xor(loot, &sha256(&[stored, &NONCE]))) {
            ways.push("under the mask of caching_sha2");
        }
        // The scalar itself, with any nonce key behind it; and the seed that RFC 8032 expands.
        let scalar: [u8; 64] = [*loot, [0; 32]].concat().try_into().unwrap();
        for key in [&self.verifiers.ed25519, &self.verifiers.parsec] {
            for expanded in [scalar, *sha512(&[loot])] {
                if check_ed25519(key, &[&SCRAMBLE], &sign(&expanded, &[&SCRAMBLE])) {
                    ways.push("as a private key");
                }
            }
        }
    }
}

/// What a client of native with SHA1(secret) sends.
fn mask_native(once: &[u8; 20], stored: &[u8; 20]) -> [u8; 20] {
    let mask: [u8; 20] = Sha1::new().chain_update(NONCE).chain_update(stored).finalize().into();
    std::array::from_fn(|at| once[at] ^ mask[at])
}

/// The bytes, and what is simply made of them.
fn derivations(form: &[u8]) -> Vec<Vec<u8>> {
    let hex: String = form.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut all = vec![
        form.to_vec(),
        Sha1::digest(form).to_vec(),
        Sha256::digest(form).to_vec(),
        Sha256::digest(Sha256::digest(form)).to_vec(),
        Sha512::digest(form).to_vec(),
        hex.to_uppercase().into_bytes(),
        STANDARD.encode(form).into_bytes(),
        STANDARD_NO_PAD.encode(form).into_bytes(),
        URL_SAFE_NO_PAD.encode(form).into_bytes(),
        format!("tg_{}", &hex[..26]).into_bytes(),
        form.iter().rev().copied().collect(),
    ];
    all.push(Sha256::digest(hex.as_bytes()).to_vec());
    all.push(hex.into_bytes());
    all
}

#[test]
fn nothing_that_is_stored_logs_in() {
    let (store, secret) = Store::new();
    let forms = store.stored_forms();
    for form in &forms {
        assert!([20, 32].contains(&form.len()));
        for loot in derivations(form) {
            assert_eq!(store.ways_in(&loot), [""; 0], "{loot:02x?}");
        }
    }
    // Pairs, put together as a thief might: the two SCRAM keys, the forms masked with each other.
    let pairs: Vec<_> = forms.iter().filter(|form| form.len() == 32).collect();
    for one in &pairs {
        for other in &pairs {
            let (one, other) = (one.as_slice().try_into().unwrap(), other.as_slice().try_into().unwrap());
            for loot in [*xor(one, other), *hmac_sha256(one, &[other]), *sha256(&[one, other])] {
                let mut ways = vec![];
                store.ways_in_with_32_bytes(&loot, &mut ways);
                assert_eq!(ways, [""; 0]);
            }
        }
    }
    // The secret itself opens every door, so these doors are real ones.
    assert_eq!(
        store.ways_in(secret.as_bytes()),
        [
            "as the secret",
            "as the password of SCRAM",
            "as the password of caching_sha2",
            "as the password of ed25519",
            "as the password of parsec",
            "as the password of native",
        ]
    );
}

/// mysql_native_password costs what is kept for it: with the bare value a login that was heard gives the next one.
/// So it is sealed, and what is in the store and a login that was heard give none.
#[test]
fn a_login_of_native_that_was_heard_opens_nothing_with_the_store_alone() {
    let (store, secret) = Store::new();
    let heard = answer_native(&secret, &NONCE);
    let open = |stored: &[u8]| -> [u8; 20] {
        let mask: [u8; 20] = Sha1::new().chain_update(NONCE).chain_update(stored).finalize().into();
        std::array::from_fn(|at| heard[at] ^ mask[at])
    };
    assert_eq!(
        store.ways_in(&open(&store.opened_native())),
        ["as SHA1(secret) of native"],
        "the thief's tool works"
    );
    for form in store.stored_forms() {
        for loot in derivations(&form) {
            assert_eq!(store.ways_in(&open(&loot)), [""; 0], "{loot:02x?}");
        }
    }
    // Under another installation's key it is of no use either; and where nobody asks for it nothing is kept.
    let sealed = store.verifiers.mysql_native.clone().unwrap().try_into().unwrap();
    let check = store.verifiers.check.as_slice().try_into().unwrap();
    let other = Keys::new(&[4; 32]).seal_mysql_native(&sealed, check);
    assert_eq!(store.ways_in(&open(&*other)), [""; 0]);
    assert_eq!(Keys::new(&[3; 32]).issue(&store.user).unwrap().1.mysql_native, None);
}

/// No stored form is what some client sends, or makes its proof from.
#[test]
fn no_stored_form_is_what_a_client_would_send() {
    let (store, secret) = Store::new();
    let secret = secret.as_bytes();
    let salted = salt_password(secret, &store.keys.scram_salt("alice"), SCRAM_ROUNDS);
    let mut seed = [0u8; 32];
    pbkdf2::pbkdf2_hmac::<Sha512>(secret, &store.keys.parsec_salt("alice"), PARSEC_ROUNDS, &mut seed);
    let sent: Vec<Vec<u8>> = vec![
        secret.to_vec(),
        Sha1::digest(secret).to_vec(),
        // Nobody sends it, and with it a login that was heard is worth a secret.
        Sha1::digest(Sha1::digest(secret)).to_vec(),
        answer_native(std::str::from_utf8(secret).unwrap(), &NONCE).to_vec(),
        Sha256::digest(secret).to_vec(),
        Sha512::digest(secret).to_vec(),
        Sha512::digest(secret)[..32].to_vec(),
        Sha512::digest(seed)[..32].to_vec(),
        seed.to_vec(),
        salted.to_vec(),
        ProofKeys::derive(&salted).client_key.to_vec(),
        answer_caching_sha2(&sha256(&[secret]), &NONCE).to_vec(),
    ];
    for form in store.stored_forms() {
        for sent in &sent {
            assert!(!sent.starts_with(&form) && !form.starts_with(sent), "{form:02x?}");
        }
    }
}

/// The thief's tools work: each finds its way in where a store keeps one hash too few.
#[test]
fn what_must_not_be_stored_would_log_in() {
    let (store, secret) = Store::new();
    let secret = secret.as_bytes();
    let salted = salt_password(secret, &store.keys.scram_salt("alice"), SCRAM_ROUNDS);
    let mut seed = [0u8; 32];
    pbkdf2::pbkdf2_hmac::<Sha512>(secret, &store.keys.parsec_salt("alice"), PARSEC_ROUNDS, &mut seed);
    let answer = answer_caching_sha2(&sha256(&[secret]), &NONCE);
    let native = answer_native(std::str::from_utf8(secret).unwrap(), &NONCE);
    for (loot, way) in [
        (sha256(&[secret]).to_vec(), "as SHA256(secret) of caching_sha2"),
        (Sha1::digest(secret).to_vec(), "as SHA1(secret) of native"),
        (native.to_vec(), "as the answer of native"),
        (answer.to_vec(), "as the answer of caching_sha2"),
        (sha256(&[secret]).to_vec(), "under the mask of caching_sha2"),
        (salted.to_vec(), "as SaltedPassword"),
        (ProofKeys::derive(&salted).client_key.to_vec(), "as ClientKey"),
        (seed.to_vec(), "as a private key"),
        (sha512(&[secret])[..32].to_vec(), "as a private key"),
        (sha512(&[secret]).to_vec(), "as the expanded key of ed25519"),
        (sha512(&[&seed]).to_vec(), "as the expanded key of parsec"),
        (sign(&sha512(&[secret]), &[&SCRAMBLE]).to_vec(), "as a signature"),
    ] {
        assert!(store.ways_in(&loot).contains(&way), "{way}");
    }
}
