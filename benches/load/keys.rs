//! The client's half of SCRAM with its key derivation done once per password and salt: 4,096 rounds are by far
//! the dearest part of a login, and drivers that keep the salted password do them once. Otherwise it would be the
//! client that is measured.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// What one salt and password come to.
struct Keys {
    client: [u8; 32],
    stored: [u8; 32],
}

/// By password and salt.
type Known = HashMap<(String, String), Arc<Keys>>;

static KNOWN: Mutex<Option<Known>> = Mutex::new(None);

/// Ours may be the same each time: the server's nonce is not.
const FIRST_BARE: &str = "n=,r=Y2xpZW50IG5vbmNlIG9m";

/// The body of SASLInitialResponse.
pub fn first() -> Vec<u8> {
    let first = format!("n,,{FIRST_BARE}");
    [&b"SCRAM-SHA-256\0"[..], &(first.len() as u32).to_be_bytes(), first.as_bytes()].concat()
}

/// The body of SASLResponse to the server's challenge.
pub fn last(password: &str, challenge: &str) -> Vec<u8> {
    let field = |name: &str| {
        let found = challenge.split(',').find_map(|field| field.strip_prefix(name));
        found.unwrap_or_else(|| panic!("no {name} in {challenge}"))
    };
    let keys = keys(password, field("s="), field("i=").parse().expect("a number"));
    let without_proof = format!("c=biws,r={}", field("r="));
    let signature = mac(&keys.stored, format!("{FIRST_BARE},{challenge},{without_proof}").as_bytes());
    let proof: Vec<u8> = keys.client.iter().zip(signature).map(|(key, sign)| key ^ sign).collect();
    format!("{without_proof},p={}", STANDARD.encode(proof)).into_bytes()
}

fn keys(password: &str, salt: &str, rounds: u32) -> Arc<Keys> {
    let mut known = KNOWN.lock().expect("nobody panics with it");
    let name = (password.to_owned(), format!("{salt} {rounds}"));
    let make = || Arc::new(derive(password, salt, rounds));
    known.get_or_insert_default().entry(name).or_insert_with(make).clone()
}

fn mac(key: &[u8], data: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length is a key");
    mac.update(data);
    mac.finalize().into_bytes().into()
}

fn derive(password: &str, salt: &str, rounds: u32) -> Keys {
    let mut salted = [0; 32];
    let bytes = STANDARD.decode(salt).expect("base64");
    pbkdf2::pbkdf2::<Hmac<Sha256>>(password.as_bytes(), &bytes, rounds, &mut salted)
        .expect("a length that fits");
    let client = mac(&salted, b"Client Key");
    Keys { client, stored: Sha256::digest(client).into() }
}
