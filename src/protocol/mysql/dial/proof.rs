//! What a server asks of us and what we are willing to show it
//! (<https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase_authentication_methods.html>,
//! <https://mariadb.com/docs/server/reference/plugins/authentication-plugins>).
//!
//! A server chooses what it asks for, so whoever stands in its place does: the target's rules
//! ([`crate::model::Upstream::accepts`]) decide what is answered, and on which connection. The answer to a
//! challenge shows nothing but what guesses can be tried against. The password itself goes to servers that are
//! known only (by a certificate that was checked, or by a unix socket) or where `require_auth` names `password`,
//! and then inside TLS, on a unix socket, or sealed under the server's RSA key: never in clear.

use zeroize::Zeroizing;

use super::super::accept::random;
use crate::credential::Secret;
use crate::credential::mysql::{
    self, PARSEC_SALT_BYTES, answer_caching_sha2, answer_ed25519, answer_native, answer_parsec,
};
use crate::model::{AuthMethod, ChannelBinding, Surety, limits};
use crate::protocol::session::{DialTlsFacts, DialWay, ServerError, ServerErrorKind, WireError};

const PLACE: &str = "authentication";

const NATIVE: &str = "mysql_native_password";
const CACHING_SHA2: &str = "caching_sha2_password";
const SHA256: &str = "sha256_password";
const ED25519: &str = "client_ed25519";
const PARSEC: &str = "parsec";
const CLEAR: &str = "mysql_clear_password";

/// Second byte of what caching_sha2_password says: the fast path was good, or the password itself is needed.
const FAST_OK: u8 = 3;
const FULL: u8 = 4;
/// Asks for the server's RSA key.
const CACHING_SHA2_KEY: u8 = 2;
const SHA256_KEY: u8 = 1;

const NOT_WITHOUT_PASSWORD: &str = "the server does not know the answer to its challenge: the password is wrong, or \
    nobody has logged in with it since the server started, and the password itself is only sent where the server's \
    certificate is checked (tls = \"verify-full\") or where require_auth names password";

type Nonce = [u8; 20];

/// How far we have proven who we are.
pub(super) enum Proof {
    /// Nothing of ours was shown: there is no password, or the method that the server announced is none of ours.
    None,
    /// All was said.
    Said,
    /// caching_sha2_password: whether the fast path was good is due.
    Fast(Nonce),
    /// caching_sha2_password or sha256_password: the server's RSA key is due.
    Key(Nonce),
    /// parsec: the salt is due.
    Salt([u8; 32]),
}

/// What goes out.
pub(super) enum Said {
    Nothing,
    This(Zeroizing<Vec<u8>>),
    /// No more: it does not let us in as we are willing to come.
    Refuse(ServerError),
    /// This, under this key.
    Sealed {
        key: Vec<u8>,
        text: Zeroizing<Vec<u8>>,
    },
}

/// What we prove with, and under which rules.
pub(super) struct Prover {
    pub secret: Secret,
    pub way: DialWay,
    /// What TLS showed of the server; `None` outside TLS.
    pub tls: Option<DialTlsFacts>,
    switches: u8,
    /// What our random bytes are where a test fixes them.
    pub fixed: Vec<u8>,
}

impl Prover {
    pub fn new(secret: Secret, way: DialWay) -> Self {
        Self { secret, way, tls: None, switches: 0, fixed: Vec::new() }
    }

    /// What goes with our answer to the greeting: the method, what we say by it. Where we do not answer what was
    /// announced we name a method that speaks second, so that nothing is no password: the server switches to what it
    /// really wants.
    pub fn first(&self, announced: &str, nonce: &Nonce) -> Result<(&'static str, Said, Proof), WireError> {
        self.may_log_in()?;
        if !self.secret.has_password() {
            return Ok((NATIVE, say(b""), Proof::None));
        }
        let password = self.secret.password();
        Ok(match announced {
            CACHING_SHA2 if self.accepts(AuthMethod::CachingSha2) => {
                (CACHING_SHA2, say(&answer_caching_sha2(password, nonce)), Proof::Fast(*nonce))
            }
            NATIVE if self.accepts(AuthMethod::NativePassword) => {
                (NATIVE, say(&answer_native(password, nonce)), Proof::Said)
            }
            _ => (ED25519, say(b""), Proof::None),
        })
    }

    /// The server asks for another method.
    pub fn switch(&mut self, plugin: &[u8], data: &[u8]) -> Result<(Proof, Said), WireError> {
        self.switches += 1;
        if self.switches > limits::AUTH_SWITCHES_MAX {
            return Err(WireError::new(PLACE, "the server switches the method again and again"));
        }
        if data.len() > limits::SASL_BYTES_MAX {
            return Err(WireError::new(PLACE, "too long"));
        }
        let name = std::str::from_utf8(plugin).unwrap_or_default();
        if !self.secret.has_password() {
            // MySQL's library sends one zero byte for some of them; a server takes either.
            return Ok((Proof::None, Said::This(Zeroizing::new(Vec::new()))));
        }
        match name {
            NATIVE => {
                self.allow(
                    AuthMethod::NativePassword,
                    "the server asks for mysql_native_password, which require_auth leaves out",
                )?;
                Ok((Proof::Said, say(&answer_native(self.secret.password(), &nonce(data)?))))
            }
            CACHING_SHA2 => {
                self.allow(
                    AuthMethod::CachingSha2,
                    "the server asks for caching_sha2_password, which require_auth leaves out",
                )?;
                let nonce = nonce(data)?;
                let answer = answer_caching_sha2(self.secret.password(), &nonce);
                Ok((Proof::Fast(nonce), say(&answer)))
            }
            SHA256 => self.show_password(nonce(data)?, SHA256_KEY),
            ED25519 => {
                self.allow(
                    AuthMethod::Ed25519,
                    "the server asks for client_ed25519, which require_auth leaves out",
                )?;
                let scramble = scramble(data)?;
                Ok((Proof::Said, say(&answer_ed25519(self.secret.password(), &scramble))))
            }
            PARSEC => {
                self.allow(AuthMethod::Parsec, "the server asks for parsec, which require_auth leaves out")?;
                // An empty packet asks for the salt.
                Ok((Proof::Salt(scramble(data)?), say(b"")))
            }
            CLEAR => {
                self.may_show_password()?;
                if !self.is_private() {
                    return Err(WireError::new(
                        PLACE,
                        "the server asks for the password in clear, which is only sent inside TLS",
                    ));
                }
                Ok((Proof::Said, self.clear()?))
            }
            "mysql_old_password" => Err(WireError::new(
                PLACE,
                "the server asks for the method from before 4.1, which is not supported",
            )),
            "dialog" | "auth_gssapi_client" | "authentication_kerberos_client" => {
                Err(WireError::new(PLACE, "the server asks for PAM or Kerberos, which is not supported"))
            }
            _ => Err(WireError::new(PLACE, "the server asks for a method that we do not know")),
        }
    }

    /// What a method of the server's says once it has begun.
    pub fn more(&mut self, proof: Proof, data: &[u8]) -> Result<(Proof, Said), WireError> {
        if data.len() > limits::SASL_BYTES_MAX {
            return Err(WireError::new(PLACE, "too long"));
        }
        match (proof, data) {
            (Proof::Fast(_), [FAST_OK]) => Ok((Proof::Said, Said::Nothing)),
            // A wrong password looks like one that the server has not seen since it started.
            (Proof::Fast(_), [FULL]) if self.may_show_password().is_err() => {
                let error = ServerError {
                    kind: ServerErrorKind::NotAdmitted,
                    code: CACHING_SHA2.into(),
                    message: NOT_WITHOUT_PASSWORD.into(),
                };
                Ok((Proof::Said, Said::Refuse(error)))
            }
            (Proof::Fast(nonce), [FULL]) => self.show_password(nonce, CACHING_SHA2_KEY),
            (Proof::Key(nonce), key) => {
                let text = mysql::under_nonce(self.secret.password(), &nonce);
                Ok((Proof::Said, Said::Sealed { key: key.to_vec(), text }))
            }
            (Proof::Salt(scramble), salt) => self.sign_parsec(&scramble, salt),
            _ => Err(WireError::new(PLACE, "words of the server that are not due")),
        }
    }

    /// The server lets us in: is that what may be, now?
    pub fn check_end(&self, proof: &Proof) -> Result<(), WireError> {
        match proof {
            // Of caching_sha2_password's fast path the OK may come at once (some services in front of servers).
            Proof::Said | Proof::Fast(_) => Ok(()),
            Proof::None => self.allow(
                AuthMethod::None,
                "the server asks for no proof, so it may be anybody: it must show a certificate that is checked (tls \
                 = \"verify-full\"), or require_auth must name none",
            ),
            Proof::Key(_) | Proof::Salt(_) => Err(WireError::new(PLACE, "success in the middle of a proof")),
        }
    }

    /// The password itself: inside TLS or on a unix socket as it is, elsewhere under the server's RSA key, which is
    /// asked for.
    fn show_password(&self, nonce: Nonce, ask: u8) -> Result<(Proof, Said), WireError> {
        self.may_show_password()?;
        match self.is_private() {
            true => Ok((Proof::Said, self.clear()?)),
            false => Ok((Proof::Key(nonce), say(&[ask]))),
        }
    }

    fn sign_parsec(&mut self, scramble: &[u8; 32], data: &[u8]) -> Result<(Proof, Said), WireError> {
        const PLACE: &str = "parsec";
        let [b'P', power, salt @ ..] = data else {
            return Err(WireError::new(PLACE, "a salt of another kind"));
        };
        let salt = <&[u8; PARSEC_SALT_BYTES]>::try_from(salt)
            .map_err(|_| WireError::new(PLACE, "a salt of a wrong length"))?;
        if *power > limits::PARSEC_POWER_MAX {
            return Err(WireError::new(PLACE, "the server asks for more rounds than we compute"));
        }
        let ours = random(&mut self.fixed)?;
        let signature = answer_parsec(&self.secret, salt, 1_024 << power, [scramble, &ours]);
        Ok((Proof::Said, Said::This(Zeroizing::new([&ours[..], &signature].concat()))))
    }

    fn clear(&self) -> Result<Said, WireError> {
        if self.secret.password().contains('\0') {
            return Err(WireError::new(PLACE, "a password with a zero byte"));
        }
        // Made at its full length: one that grows leaves copies of its bytes behind.
        let mut text = Zeroizing::new(Vec::with_capacity(self.secret.password().len() + 1));
        text.extend_from_slice(self.secret.password().as_bytes());
        text.push(0);
        Ok(Said::This(text))
    }

    /// Nobody can listen.
    fn is_private(&self) -> bool {
        self.tls.is_some() || self.way.local
    }

    fn may_show_password(&self) -> Result<(), WireError> {
        self.allow(
            AuthMethod::Password,
            "the server asks for the password itself, which is only sent where its certificate is checked (tls = \
             \"verify-full\") or where require_auth names password",
        )
    }

    fn may_log_in(&self) -> Result<(), WireError> {
        match self.way.rules.channel_binding {
            ChannelBinding::Require => {
                Err(WireError::new(PLACE, "channel_binding = \"require\", and MySQL has no such thing"))
            }
            ChannelBinding::Disable | ChannelBinding::Prefer => Ok(()),
        }
    }

    fn accepts(&self, method: AuthMethod) -> bool {
        let surety = Surety {
            server_known: self.way.local || self.tls.as_ref().is_some_and(|tls| tls.verified),
            has_password: self.secret.has_password(),
        };
        self.way.rules.accepts(method, surety)
    }

    /// Before anything is shown.
    fn allow(&self, method: AuthMethod, otherwise: &'static str) -> Result<(), WireError> {
        match self.accepts(method) {
            true => Ok(()),
            false => Err(WireError::new(PLACE, otherwise)),
        }
    }
}

fn say(said: &[u8]) -> Said {
    Said::This(Zeroizing::new(said.to_vec()))
}

/// 20 bytes, and mostly a zero byte behind them.
fn nonce(data: &[u8]) -> Result<Nonce, WireError> {
    let nonce = data.strip_suffix(b"\0").filter(|nonce| nonce.len() == 20).unwrap_or(data);
    nonce.try_into().map_err(|_| WireError::new(PLACE, "a nonce of a wrong length"))
}

fn scramble(data: &[u8]) -> Result<[u8; 32], WireError> {
    data.try_into().map_err(|_| WireError::new(PLACE, "a scramble of a wrong length"))
}
