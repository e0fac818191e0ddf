//! The client side: a connector proves its password to a target, and the target proves that it
//! knows it.

use std::mem;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::message::{Attributes, MANDATORY_EXTENSION, decode_32, is_nonce, text};
use super::{ProofKeys, ScramError, salt_password};
use crate::credential::Secret;
use crate::credential::digest::{hmac_sha256, xor};
use crate::model::limits::{SCRAM_ROUNDS_MAX, SCRAM_ROUNDS_MIN};

/// How an exchange is tied to the TLS connection that it travels in (RFC 5802, section 6). No other
/// identity to act as in any of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Binding {
    /// We do not bind.
    #[default]
    None,
    /// We could, and the server does not offer it. One that did offer it refuses then: its offer was
    /// taken out on the way.
    NotOffered,
    /// `tls-server-end-point` (RFC 5929, section 4): the hash of the certificate that the server showed.
    EndPoint(Vec<u8>),
}

impl Binding {
    fn header(&self) -> &'static str {
        match self {
            Self::None => "n,,",
            Self::NotOffered => "y,,",
            Self::EndPoint(_) => "p=tls-server-end-point,,",
        }
    }

    /// `cbind-input`.
    fn input(&self) -> Vec<u8> {
        let data: &[u8] = match self {
            Self::EndPoint(hash) => hash,
            _ => &[],
        };
        [self.header().as_bytes(), data].concat()
    }
}

/// One exchange. The login has succeeded only when [`Client::server_final`] returned `Ok`.
pub struct Client {
    secret: Secret,
    binding: Binding,
    nonce: String,
    bare: String,
    state: State,
}

enum State {
    /// The server-first-message is due.
    Greeted,
    /// The server-final-message is due, with this signature.
    Proven {
        signature: Zeroizing<[u8; 32]>,
    },
    Done,
}

impl Client {
    /// `nonce` is our random part: printable ASCII without commas, such as [`super::nonce`] makes.
    pub fn new(secret: &Secret, nonce: &str) -> Self {
        // The name stays empty as libpq's does: PostgreSQL takes it from the start-up message.
        Self::bound(secret, nonce, Binding::None)
    }

    /// The same, tied to a connection.
    pub fn bound(secret: &Secret, nonce: &str, binding: Binding) -> Self {
        Self::named(secret, "", nonce, binding)
    }

    pub(super) fn named(secret: &Secret, name: &str, nonce: &str, binding: Binding) -> Self {
        Self {
            secret: secret.clone(),
            binding,
            nonce: nonce.to_owned(),
            bare: format!("n={name},r={nonce}"),
            state: State::Greeted,
        }
    }

    /// The client-first-message.
    pub fn client_first(&self) -> Vec<u8> {
        format!("{}{}", self.binding.header(), self.bare).into_bytes()
    }

    /// Takes server-first-message, gives client-final-message. Costs up to
    /// [`SCRAM_ROUNDS_MAX`] rounds the first time a server names this salt, and little after that.
    pub fn server_first(&mut self, message: &[u8]) -> Result<Vec<u8>, ScramError> {
        let State::Greeted = mem::replace(&mut self.state, State::Done) else {
            return Err(ScramError::OutOfOrder);
        };
        let server_first = text(message)?;
        let challenge = Challenge::parse(server_first)?;
        if !is_nonce(&self.nonce) {
            return Err(ScramError::Malformed("the nonce of our own is not printable ASCII"));
        }
        match challenge.nonce.strip_prefix(self.nonce.as_str()) {
            Some(theirs) if is_nonce(theirs) => {}
            _ => return Err(ScramError::Malformed("the server's nonce does not extend ours")),
        }
        let salted = self.secret.salted_password(&challenge.salt, challenge.rounds, |password| {
            salt_password(&normalise(password), &challenge.salt, challenge.rounds)
        });
        let keys = ProofKeys::derive(&salted);
        let without_proof = format!("c={},r={}", STANDARD.encode(self.binding.input()), challenge.nonce);
        let auth_message = format!("{},{server_first},{without_proof}", self.bare);
        let proof = xor(&keys.client_key, &hmac_sha256(&keys.stored_key, &[auth_message.as_bytes()]));
        let signature = hmac_sha256(&keys.server_key, &[auth_message.as_bytes()]);
        self.state = State::Proven { signature };
        Ok(format!("{without_proof},p={}", STANDARD.encode(*proof)).into_bytes())
    }

    /// Takes server-final-message. `Ok` says that the server knows the password (or its verifier).
    pub fn server_final(&mut self, message: &[u8]) -> Result<(), ScramError> {
        let State::Proven { signature } = mem::replace(&mut self.state, State::Done) else {
            return Err(ScramError::OutOfOrder);
        };
        let mut attributes = Attributes::new(text(message)?);
        let theirs = match attributes.next()? {
            Some((b'v', theirs)) => decode_32(theirs, "the signature (v=) is the base64 of 32 bytes")?,
            Some((b'e', error)) => return Err(ScramError::Refused(server_error(error))),
            _ => return Err(ScramError::Malformed("neither a signature (v=) nor an error (e=)")),
        };
        attributes.finish()?;
        if bool::from(theirs.ct_eq(&*signature)) { Ok(()) } else { Err(ScramError::ServerNotProven) }
    }
}

/// What a server-first-message says.
struct Challenge<'a> {
    nonce: &'a str,
    salt: Vec<u8>,
    rounds: u32,
}

impl<'a> Challenge<'a> {
    fn parse(text: &'a str) -> Result<Self, ScramError> {
        let mut attributes = Attributes::new(text);
        let nonce = match attributes.next()? {
            Some((b'r', nonce)) => nonce,
            Some((b'e', error)) => return Err(ScramError::Refused(server_error(error))),
            Some((b'm', _)) => return Err(MANDATORY_EXTENSION),
            _ => return Err(ScramError::Malformed("the nonce (r=) is missing")),
        };
        let salt = attributes.expect(b's', "the salt (s=) is missing")?;
        let salt = match STANDARD.decode(salt) {
            Ok(salt) if !salt.is_empty() => salt,
            _ => return Err(ScramError::Malformed("the salt (s=) is not base64")),
        };
        let rounds = attributes.expect(b'i', "the number of rounds (i=) is missing")?;
        attributes.finish()?;
        Ok(Self { nonce, salt, rounds: parse_rounds(rounds)? })
    }
}

/// `posit-number = %x31-39 *DIGIT`, within our limits.
fn parse_rounds(text: &str) -> Result<u32, ScramError> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || text.is_empty() || text.starts_with('0') {
        return Err(ScramError::Malformed("the number of rounds (i=) is not a positive number"));
    }
    // All digits and too long for 32 bits: a number beyond our limit, whichever it is.
    let rounds = text.parse().unwrap_or(u32::MAX);
    if (SCRAM_ROUNDS_MIN..=SCRAM_ROUNDS_MAX).contains(&rounds) {
        Ok(rounds)
    } else {
        Err(ScramError::Rounds(rounds))
    }
}

/// SASLprep as PostgreSQL and libpq apply it: where the profile prohibits the password, or leaves
/// nothing of it, its bytes are used as they are.
fn normalise(password: &str) -> Zeroizing<Vec<u8>> {
    match stringprep::saslprep(password) {
        Ok(prepared) if !prepared.is_empty() => Zeroizing::new(prepared.into_owned().into_bytes()),
        _ => Zeroizing::new(password.as_bytes().to_vec()),
    }
}

/// The `server-error-value`s of RFC 5802 section 7. Words of a server's own are not passed on.
fn server_error(text: &str) -> &'static str {
    const KNOWN: [&str; 10] = [
        "invalid-encoding",
        "extensions-not-supported",
        "invalid-proof",
        "channel-bindings-dont-match",
        "server-does-support-channel-binding",
        "channel-binding-not-supported",
        "unsupported-channel-binding-type",
        "unknown-user",
        "invalid-username-encoding",
        "no-resources",
    ];
    KNOWN.into_iter().find(|known| *known == text).unwrap_or("other-error")
}
