//! The server side, for a user with several live credentials.

use std::mem;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::ScramError;
use super::message::{Attributes, check_extension, decode_32, is_nonce, text};
use crate::credential::digest::{hmac_sha256, sha256, xor};
use crate::credential::{Identity, Proof};
use crate::model::limits::CREDENTIALS_PER_USER_MAX;
use crate::model::{Credential, CredentialId, Name, Time};

/// One live credential that the proof may be of.
#[derive(Clone)]
pub struct Candidate {
    pub credential: CredentialId,
    pub until: Time,
    pub stored_key: [u8; 32],
    pub server_key: [u8; 32],
}

impl Candidate {
    /// `None`: the stored verifiers do not have the length of SHA-256.
    pub fn new(credential: &Credential) -> Option<Self> {
        Some(Self {
            credential: credential.id,
            until: credential.window.end,
            stored_key: credential.verifiers.scram_stored_key.as_slice().try_into().ok()?,
            server_key: credential.verifiers.scram_server_key.as_slice().try_into().ok()?,
        })
    }
}

/// One exchange. All candidates share salt and rounds, derived from the user's name, so an unknown
/// name costs and looks the same as a known one.
pub struct Exchange {
    user: Option<Name>,
    /// At most [`CREDENTIALS_PER_USER_MAX`], none where there is no user.
    candidates: Vec<Candidate>,
    salt: [u8; 16],
    rounds: u32,
    channel: ChannelBinding,
    state: State,
}

/// What was offered of channel binding (RFC 5802 section 6), and what the client chose by the name of its
/// mechanism.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelBinding {
    /// There is nothing to bind to.
    NotOffered,
    /// SCRAM-SHA-256-PLUS was offered and SCRAM-SHA-256 chosen.
    Declined,
    /// SCRAM-SHA-256-PLUS was chosen; the `tls-server-end-point` of the connection.
    EndPoint(Arc<[u8]>),
}

/// Each step takes the state out, so that a step that failed cannot be tried again.
enum State {
    Fresh,
    /// The server-first-message was given out.
    Challenged {
        /// What `c=` must be: the base64 of the gs2 header that the client really sent, and of the channel's own
        /// data where that is bound.
        binding: String,
        bound: bool,
        /// Client's part and ours.
        nonce: String,
        /// `client-first-message-bare "," server-first-message`.
        auth_message: String,
    },
    Done,
}

impl Exchange {
    /// `user` is `None` for a name that is not ours: the exchange runs to its end and fails. Only the
    /// first [`CREDENTIALS_PER_USER_MAX`] candidates are looked at.
    pub fn new(user: Option<Name>, mut candidates: Vec<Candidate>, salt: [u8; 16], rounds: u32) -> Self {
        candidates.truncate(if user.is_some() { CREDENTIALS_PER_USER_MAX } else { 0 });
        Self { user, candidates, salt, rounds, channel: ChannelBinding::NotOffered, state: State::Fresh }
    }

    /// Says what was offered and chosen, ahead of the first message; without it nothing was offered.
    pub fn channel(&mut self, channel: ChannelBinding) {
        self.channel = channel;
    }

    /// Takes client-first-message, gives server-first-message. `nonce` is our random part (printable ASCII).
    pub fn client_first(&mut self, message: &[u8], nonce: &str) -> Result<Vec<u8>, ScramError> {
        let State::Fresh = mem::replace(&mut self.state, State::Done) else {
            return Err(ScramError::OutOfOrder);
        };
        let (gs2_header, bare) = split_gs2_header(text(message)?, &self.channel)?;
        let mut attributes = Attributes::new(bare);
        // The name is ignored, as PostgreSQL does: who logs in was said in the start-up message.
        attributes.expect(b'n', "the user name (n=) is missing")?;
        let theirs = attributes.expect(b'r', "the nonce (r=) is missing")?;
        attributes.finish()?;
        if !is_nonce(theirs) {
            return Err(ScramError::Malformed("a nonce is printable ASCII without commas"));
        }
        if !is_nonce(nonce) {
            return Err(ScramError::Malformed("the nonce of our own is not printable ASCII"));
        }
        let nonce = format!("{theirs}{nonce}");
        let server_first = format!("r={nonce},s={},i={}", STANDARD.encode(self.salt), self.rounds);
        let data = match &self.channel {
            ChannelBinding::EndPoint(data) => &data[..],
            ChannelBinding::NotOffered | ChannelBinding::Declined => &[],
        };
        self.state = State::Challenged {
            binding: STANDARD.encode([gs2_header.as_bytes(), data].concat()),
            bound: !data.is_empty(),
            nonce,
            auth_message: format!("{bare},{server_first}"),
        };
        Ok(server_first.into_bytes())
    }

    /// Takes client-final-message, gives the identity and server-final-message.
    pub fn client_final(&mut self, message: &[u8]) -> Result<(Identity, Vec<u8>), ScramError> {
        let State::Challenged { binding, bound, nonce, mut auth_message } =
            mem::replace(&mut self.state, State::Done)
        else {
            return Err(ScramError::OutOfOrder);
        };
        let text = text(message)?;
        let mut attributes = Attributes::new(text);
        if attributes.expect(b'c', "the channel binding (c=) is missing")? != binding {
            if bound {
                return Err(ScramError::OtherChannel);
            }
            return Err(ScramError::Malformed("the channel binding (c=) is not that of the first message"));
        }
        if attributes.expect(b'r', "the nonce (r=) is missing")? != nonce {
            return Err(ScramError::Malformed("the nonce (r=) is not that of this exchange"));
        }
        let proof = read_proof(&mut attributes)?;
        auth_message.push(',');
        // The proof was the last attribute, so the last comma is the one before it.
        auth_message.push_str(text.rsplit_once(',').map_or("", |(before, _)| before));
        self.check(&proof, auth_message.as_bytes())
    }

    /// Checks the proof against every candidate, and against a mock in every free place: the same
    /// work whoever asks, however many credentials they hold and whichever of them fits.
    fn check(&self, proof: &[u8; 32], auth_message: &[u8]) -> Result<(Identity, Vec<u8>), ScramError> {
        const MOCK: [u8; 32] = [0; 32];
        let mut found = Choice::from(0);
        let mut place = 0u8;
        let mut server_key = MOCK;
        for i in 0..CREDENTIALS_PER_USER_MAX as u8 {
            let (stored, server, real) = match self.candidates.get(usize::from(i)) {
                Some(candidate) => (&candidate.stored_key, &candidate.server_key, Choice::from(1)),
                None => (&MOCK, &MOCK, Choice::from(0)),
            };
            let signature = hmac_sha256(stored, &[auth_message]);
            // Where the proof is right this is ClientKey, which is as good as the password.
            let client_key = xor(proof, &signature);
            let fits = sha256(&[&*client_key]).ct_eq(stored) & real & !found;
            place.conditional_assign(&i, fits);
            for (kept, byte) in server_key.iter_mut().zip(server) {
                kept.conditional_assign(byte, fits);
            }
            found |= fits;
        }
        let signature = hmac_sha256(&server_key, &[auth_message]);
        if !bool::from(found) {
            return Err(ScramError::WrongProof);
        }
        match (&self.user, self.candidates.get(usize::from(place))) {
            (Some(user), Some(candidate)) => {
                let proof = Proof::Credential(candidate.credential);
                let identity = Identity::proven(user.clone(), proof, candidate.until);
                Ok((identity, format!("v={}", STANDARD.encode(*signature)).into_bytes()))
            }
            _ => Err(ScramError::WrongProof),
        }
    }
}

/// `gs2-header = gs2-cbind-flag "," [authzid] ","`, and what follows it. The flag must be what follows from the
/// offer: a client that could bind and did not see our offer met somebody who took it out.
fn split_gs2_header<'a>(
    message: &'a str,
    channel: &ChannelBinding,
) -> Result<(&'a str, &'a str), ScramError> {
    let malformed = |what| Err(ScramError::Malformed(what));
    let (flag, rest) =
        message.split_once(',').ok_or(ScramError::Malformed("the channel binding flag is missing"))?;
    match (flag, channel) {
        // "y" says that the client could bind and believes that we cannot: right where it is not offered.
        ("n", ChannelBinding::NotOffered | ChannelBinding::Declined)
        | ("y", ChannelBinding::NotOffered)
        | ("p=tls-server-end-point", ChannelBinding::EndPoint(_)) => {}
        ("y", ChannelBinding::Declined) => return Err(ScramError::Downgrade),
        ("n" | "y", ChannelBinding::EndPoint(_)) => {
            return malformed("the mechanism binds the channel and the message does not");
        }
        (_, ChannelBinding::EndPoint(_)) if flag.starts_with("p=") => {
            return malformed("a type of channel binding other than tls-server-end-point");
        }
        (_, ChannelBinding::NotOffered) if flag.starts_with("p=") => {
            return malformed("channel binding was not offered and cannot be used");
        }
        _ if flag.starts_with("p=") => {
            return malformed("the message binds the channel and the mechanism does not");
        }
        _ => return malformed("the channel binding flag is one of n, y and p="),
    }
    match rest.split_once(',') {
        Some(("", bare)) => Ok((&message[..flag.len() + 2], bare)),
        _ => malformed("acting for another user (a=) is not supported"),
    }
}

/// Skips extensions up to the proof, which comes last.
fn read_proof(attributes: &mut Attributes<'_>) -> Result<[u8; 32], ScramError> {
    loop {
        match attributes.next()? {
            Some((b'p', proof)) => {
                let proof = decode_32(proof, "the proof (p=) is the base64 of 32 bytes")?;
                return match attributes.next()? {
                    None => Ok(proof),
                    Some(_) => Err(ScramError::Malformed("the proof (p=) is not the last attribute")),
                };
            }
            Some((name, value)) => check_extension(name, value)?,
            None => return Err(ScramError::Malformed("the proof (p=) is missing")),
        }
    }
}
