//! What a server asks of us and what we are willing to show it
//! (<https://www.postgresql.org/docs/current/sasl-authentication.html>).
//!
//! A server chooses what it asks for, so whoever stands in its place does: the target's rules
//! ([`crate::model::Upstream::accepts`]) decide what is answered, and on which connection.

use bytes::{Bytes, BytesMut};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::message::frontend;

use super::super::accept::{AUTH_SASL, AUTH_SASL_CONTINUE, AUTH_SASL_FINAL, MECHANISM};
use super::super::frame;
use super::super::message::take;
use crate::credential::Secret;
use crate::credential::scram::{self, Binding, Client, ScramError};
use crate::model::{AuthMethod, ChannelBinding, Surety, limits};
use crate::protocol::session::{DialTlsFacts, DialWay, WireError};

const AUTH_OK: u32 = 0;
const AUTH_CLEARTEXT: u32 = 3;
const AUTH_MD5: u32 = 5;

const MECHANISM_PLUS: &str = "SCRAM-SHA-256-PLUS";

const PLACE: &str = "authentication request";

/// How far we have proven who we are.
pub(super) enum Proof {
    /// Nothing was asked of us yet.
    None,
    /// A password went out, in clear or hashed.
    Password,
    /// AuthenticationSASLContinue is due. With whether the exchange is bound to the connection.
    First(Box<Client>, bool),
    /// AuthenticationSASLFinal is due.
    Final(Box<Client>, bool),
    /// The server has shown that it knows our password too.
    Verified { bound: bool },
}

/// What we prove with, and under which rules.
pub(super) struct Prover {
    pub secret: Secret,
    pub way: DialWay,
    /// What TLS showed of the server; `None` outside TLS.
    pub tls: Option<DialTlsFacts>,
    /// Our nonce where a test fixes it.
    pub nonce: Option<String>,
}

impl Prover {
    /// Answers one authentication request. `None`: AuthenticationOk, and we agree.
    pub fn answer(
        &mut self,
        proof: Proof,
        body: Bytes,
        out: &mut BytesMut,
    ) -> Result<Option<Proof>, WireError> {
        let mut rest = &body[..];
        let kind = take(&mut rest).map(u32::from_be_bytes).ok_or(WireError::new(PLACE, "too short"))?;
        if rest.len() > limits::SASL_BYTES_MAX {
            return Err(WireError::new(PLACE, "too long"));
        }
        let proof = match (kind, proof) {
            (AUTH_OK, proof) if rest.is_empty() => {
                self.check_end(&proof)?;
                return Ok(None);
            }
            (AUTH_CLEARTEXT, Proof::None) => {
                if self.tls.is_none() && !self.way.local {
                    return Err(WireError::new(
                        PLACE,
                        "the server asks for the password in clear, which is only sent inside TLS",
                    ));
                }
                self.allow(
                    AuthMethod::Password,
                    "the server asks for the password in clear, which is only sent where its certificate is checked \
                     (tls = \"verify-full\") or where require_auth names password",
                )?;
                put_password(out, self.password()?.as_bytes())?;
                Proof::Password
            }
            (AUTH_MD5, Proof::None) => {
                self.allow(
                    AuthMethod::Md5,
                    "the server asks for an md5 hash, which is only sent where its certificate is checked (tls = \
                     \"verify-full\") or where require_auth names md5; better give the role a SCRAM password",
                )?;
                let salt =
                    rest.try_into().map_err(|_| WireError::new(PLACE, "an md5 salt of a wrong length"))?;
                let (user, password) = (self.secret.username(), self.password()?);
                put_password(out, md5_hash(user.as_bytes(), password.as_bytes(), salt).as_bytes())?;
                Proof::Password
            }
            (AUTH_SASL, Proof::None) => {
                self.allow(
                    AuthMethod::ScramSha256,
                    "the server asks for SCRAM, which require_auth leaves out",
                )?;
                self.password()?;
                self.offer_scram(rest, out)?
            }
            (AUTH_SASL_CONTINUE, Proof::First(mut client, bound)) => {
                let answer = client.server_first(rest).map_err(scram_error)?;
                frame::put(out, b'p', |out| out.extend_from_slice(&answer));
                Proof::Final(client, bound)
            }
            (AUTH_SASL_FINAL, Proof::Final(mut client, bound)) => {
                client.server_final(rest).map_err(scram_error)?;
                Proof::Verified { bound }
            }
            (kind, Proof::None) => return Err(WireError::new(PLACE, unsupported(kind))),
            _ => return Err(WireError::new(PLACE, "one that is not due")),
        };
        Ok(Some(proof))
    }

    /// The server lets us in: is that what may be, now?
    fn check_end(&self, proof: &Proof) -> Result<(), WireError> {
        let bound = match proof {
            Proof::None => {
                self.allow(
                    AuthMethod::None,
                    "the server asks for no proof, so it may be anybody: it must show a certificate that is checked \
                     (tls = \"verify-full\"), or require_auth must name none",
                )?;
                false
            }
            Proof::Password => false,
            Proof::Verified { bound } => *bound,
            Proof::First(..) | Proof::Final(..) => {
                return Err(WireError::new(PLACE, "success before the server has proven itself"));
            }
        };
        if self.binding_is_required() && !bound {
            return Err(WireError::new(PLACE, NOT_BOUND));
        }
        Ok(())
    }

    fn binding_is_required(&self) -> bool {
        self.way.rules.channel_binding == ChannelBinding::Require
    }

    /// Before anything is shown.
    fn allow(&self, method: AuthMethod, otherwise: &'static str) -> Result<(), WireError> {
        let surety = Surety {
            server_known: self.way.local || self.tls.as_ref().is_some_and(|tls| tls.verified),
            has_password: self.secret.has_password(),
        };
        if !self.way.rules.accepts(method, surety) {
            return Err(WireError::new(PLACE, otherwise));
        }
        if self.binding_is_required() && method != AuthMethod::ScramSha256 {
            return Err(WireError::new(PLACE, NOT_BOUND));
        }
        Ok(())
    }

    fn password(&self) -> Result<&str, WireError> {
        match self.secret.has_password() {
            true => Ok(self.secret.password()),
            false => Err(WireError::new(PLACE, "the server asks for a password, and the secret has none")),
        }
    }

    fn offer_scram(&mut self, mut mechanisms: &[u8], out: &mut BytesMut) -> Result<Proof, WireError> {
        const PLACE: &str = "AuthenticationSASL";
        let (mut plain, mut plus) = (false, false);
        while let Some(mechanism) = frame::take_string(&mut mechanisms).filter(|name| !name.is_empty()) {
            plain |= mechanism == MECHANISM.as_bytes();
            plus |= mechanism == MECHANISM_PLUS.as_bytes();
        }
        let binding = self.binding(plus);
        let bound = matches!(binding, Binding::EndPoint(_));
        if self.binding_is_required() && !bound {
            return Err(WireError::new(PLACE, NOT_BOUND));
        }
        if !plain && !bound {
            let what = match plus {
                true => "the server takes SCRAM-SHA-256-PLUS only, which needs TLS and channel_binding",
                false => "the server offers no SASL mechanism that we know; SCRAM-SHA-256 is",
            };
            return Err(WireError::new(PLACE, what));
        }
        let nonce = match self.nonce.take() {
            Some(nonce) => nonce,
            None => scram::nonce().map_err(|_| WireError::new(PLACE, "no random bytes to be had"))?,
        };
        let client = Client::bound(&self.secret, &nonce, binding);
        let mechanism = if bound { MECHANISM_PLUS } else { MECHANISM };
        frontend::sasl_initial_response(mechanism, &client.client_first(), out)
            .map_err(|_| WireError::new(PLACE, "an answer that cannot be written"))?;
        Ok(Proof::First(Box::new(client), bound))
    }

    /// Bound wherever both can; said to be possible where only we can, so that a server whose offer was
    /// taken out on the way notices.
    fn binding(&self, offered: bool) -> Binding {
        let end_point = self.tls.as_ref().and_then(|tls| tls.end_point.as_ref());
        match (self.way.rules.channel_binding, end_point) {
            (ChannelBinding::Disable, _) | (_, None) => Binding::None,
            (_, Some(hash)) if offered => Binding::EndPoint(hash.clone()),
            (_, Some(_)) => Binding::NotOffered,
        }
    }
}

const NOT_BOUND: &str =
    "channel_binding = \"require\", and the server does not offer SCRAM-SHA-256-PLUS here";

fn put_password(out: &mut BytesMut, password: &[u8]) -> Result<(), WireError> {
    frontend::password_message(password, out)
        .map_err(|_| WireError::new("PasswordMessage", "a password with a zero byte"))
}

fn unsupported(kind: u32) -> &'static str {
    match kind {
        2 => "the server asks for Kerberos V5, which is not supported",
        6 => "the server asks for SCM credentials, which are not supported",
        7 | 8 => "the server asks for GSSAPI, which is not supported",
        9 => "the server asks for SSPI, which is not supported",
        _ => "the server asks for a proof that we do not know",
    }
}

fn scram_error(error: ScramError) -> WireError {
    WireError::new(
        "SCRAM",
        match error {
            ScramError::Malformed(what) | ScramError::Refused(what) => what,
            ScramError::ServerNotProven => "the server did not prove that it knows the password",
            ScramError::Rounds(_) => "the server asks for more rounds than we compute, or for too few",
            // The last three are of the other side of an exchange.
            ScramError::OutOfOrder
            | ScramError::WrongProof
            | ScramError::Downgrade
            | ScramError::OtherChannel => "a step out of order",
        },
    )
}
