//! We log in to a server, or ask it to stop a statement
//! (<https://www.postgresql.org/docs/current/protocol-flow.html>).
//!
//! ```text
//! Fresh --SSLRequest--> Answer --S--> Handshaking --TlsReady--> Login
//!   |                     '--N, where TLS is only tried-------> Login
//!   '--without TLS--------------------------------------------> Login
//!                          Login --AuthenticationOk--> Starting --ReadyForQuery--> Over
//! ```
//!
//! Nothing that a server says is believed before it is due: bytes behind its answer to `SSLRequest`
//! (CVE-2021-23222), success in the middle of SCRAM, a request for the password in clear outside TLS.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::message::frontend;

use super::accept::{AUTH_SASL, AUTH_SASL_CONTINUE, AUTH_SASL_FINAL, MECHANISM};
use super::facts::{PostgresFacts, put_parameter};
use super::frame;
use super::message::{Complaint, Message, Reader, parameter, status, take};
use super::relay::DIAL_APPLICATION_NAME;
use super::startup::CANCEL_REQUEST;
use crate::credential::Secret;
use crate::credential::scram::{self, Client, ScramError};
use crate::model::limits;
use crate::protocol::session::{
    Dial, DialInput, DialPurpose, DialStep, DialTls, Interruption, ServerError, ServerErrorKind, WireError,
};

/// Ends a statement whose client is gone, also when it was us who went (measured: without it
/// `pg_sleep` runs on to its end). PostgreSQL 14 and newer.
const CHECK_INTERVAL: &str = "client_connection_check_interval";
const OPTIONS: &str = "-c client_connection_check_interval=500";

const AUTH_OK: u32 = 0;
const AUTH_CLEARTEXT: u32 = 3;
const AUTH_MD5: u32 = 5;

/// One attempt at one server.
pub struct PostgresDial {
    goal: Goal,
    tls: DialTls,
    secret: Secret,
    encrypted: bool,
    state: State,
    reader: Reader,
    parameters: Vec<(String, String)>,
    /// Process id and key.
    key: Option<(u32, Vec<u8>)>,
    /// Our nonce where a test fixes it.
    nonce: Option<String>,
}

/// What an attempt is for.
pub(crate) enum Goal {
    Login { database: String, plain: bool },
    Interrupt(Interruption),
}

impl Goal {
    fn of(purpose: &DialPurpose<'_>) -> Self {
        match purpose {
            DialPurpose::Login { database, plain, .. } => {
                Self::Login { database: (*database).to_owned(), plain: *plain }
            }
            DialPurpose::Interrupt(interruption) => Self::Interrupt((*interruption).clone()),
        }
    }
}

enum State {
    Fresh,
    /// The one byte that answers SSLRequest is due.
    Answer,
    Handshaking,
    Login(Proof),
    /// AuthenticationOk came; the server starts up.
    Starting,
    Over,
}

/// How far we have proven who we are.
enum Proof {
    /// Nothing was asked of us yet.
    None,
    /// A password went out, in clear or hashed.
    Password,
    /// AuthenticationSASLContinue is due.
    First(Box<Client>),
    /// AuthenticationSASLFinal is due.
    Final(Box<Client>),
    /// The server has shown that it knows our password too.
    Verified,
}

impl PostgresDial {
    pub(super) fn new(purpose: &DialPurpose<'_>, tls: DialTls, secret: &Secret) -> Self {
        Self::towards(Goal::of(purpose), tls, secret)
    }

    pub(crate) fn towards(goal: Goal, tls: DialTls, secret: &Secret) -> Self {
        Self {
            goal,
            tls,
            secret: secret.clone(),
            encrypted: false,
            state: State::Fresh,
            reader: Reader::new(limits::LOGIN_MESSAGES_MAX),
            parameters: Vec::new(),
            key: None,
            nonce: None,
        }
    }

    /// The same login again needs the same nonce.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn fix_nonce(&mut self, nonce: &str) {
        self.nonce = Some(nonce.to_owned());
    }

    /// Says the first thing that is not about encryption.
    fn open(&mut self, out: &mut BytesMut) -> Result<DialStep<PostgresFacts>, WireError> {
        match &self.goal {
            Goal::Interrupt(Interruption(key)) => {
                out.put_u32(8 + key.len() as u32);
                out.put_u32(CANCEL_REQUEST);
                out.put_slice(key);
                self.state = State::Over;
                Ok(DialStep::Sent)
            }
            Goal::Login { database, plain } => {
                let mut parameters = vec![
                    ("user", self.secret.username()),
                    ("database", database),
                    ("application_name", DIAL_APPLICATION_NAME),
                    // The answers to our own scripts are read as UTF-8.
                    ("client_encoding", "UTF8"),
                ];
                if !plain {
                    parameters.push(("options", OPTIONS));
                }
                frontend::startup_message(parameters, out)
                    .map_err(|_| WireError::new("StartupMessage", "a name with a zero byte"))?;
                self.state = State::Login(Proof::None);
                Ok(DialStep::NeedBytes)
            }
        }
    }

    /// The answer to SSLRequest is one byte, and nothing may come behind it: what is not inside TLS
    /// could be anybody's (CVE-2021-23222).
    fn answer(
        &mut self,
        input: &mut BytesMut,
        out: &mut BytesMut,
    ) -> Result<DialStep<PostgresFacts>, WireError> {
        const PLACE: &str = "answer to SSLRequest";
        match input.first() {
            None => Ok(DialStep::NeedBytes),
            // An error instead, from a server that cannot even start to talk. A server that is too
            // old for TLS says it too, so it is read as any error of a login.
            Some(b'E') => match self.reader.next(input)? {
                Some(message) => Ok(self.refused(&message.body)),
                None => Ok(DialStep::NeedBytes),
            },
            Some(b'S' | b'N') if input.len() > 1 => {
                Err(WireError::new(PLACE, "bytes behind it that are not inside TLS"))
            }
            Some(b'S') => {
                input.clear();
                self.state = State::Handshaking;
                Ok(DialStep::StartTls)
            }
            Some(b'N') if self.tls == DialTls::Try => {
                input.clear();
                self.open(out)
            }
            Some(b'N') => Err(WireError::new(PLACE, "the server has no TLS, and the target demands it")),
            Some(_) => Err(WireError::new(PLACE, "neither S nor N: this is no PostgreSQL server")),
        }
    }

    /// Goes on for as long as there are whole messages.
    fn read(
        &mut self,
        input: &mut BytesMut,
        out: &mut BytesMut,
    ) -> Result<DialStep<PostgresFacts>, WireError> {
        while let Some(message) = self.reader.next(input)? {
            let step = match std::mem::replace(&mut self.state, State::Over) {
                State::Login(proof) => self.log_in(proof, message, out)?,
                State::Starting => self.start(&message)?,
                _ => return Err(WireError::new("login", "a message that is not due")),
            };
            if let Some(step) = step {
                return Ok(step);
            }
        }
        Ok(DialStep::NeedBytes)
    }

    /// Until AuthenticationOk.
    fn log_in(
        &mut self,
        proof: Proof,
        message: Message,
        out: &mut BytesMut,
    ) -> Result<Option<DialStep<PostgresFacts>>, WireError> {
        match message.tag {
            b'R' => {
                self.state = self.authenticate(proof, message.body, out)?;
                Ok(None)
            }
            b'E' => Ok(Some(self.refused(&message.body))),
            // A notice, or that it speaks 3.0 only, which is what we asked for.
            b'N' | b'v' => {
                self.state = State::Login(proof);
                Ok(None)
            }
            _ => Err(WireError::new("login", "a message that is not due before AuthenticationOk")),
        }
    }

    fn authenticate(&mut self, proof: Proof, body: Bytes, out: &mut BytesMut) -> Result<State, WireError> {
        const PLACE: &str = "authentication request";
        let mut rest = &body[..];
        let kind = take(&mut rest).map(u32::from_be_bytes).ok_or(WireError::new(PLACE, "too short"))?;
        if rest.len() > limits::SASL_BYTES_MAX {
            return Err(WireError::new(PLACE, "too long"));
        }
        let proof = match (kind, proof) {
            // Without a proof of ours: the server trusts whoever reaches it (`trust`, or a
            // certificate). That is its own affair.
            (AUTH_OK, Proof::None | Proof::Password | Proof::Verified) if rest.is_empty() => {
                return Ok(State::Starting);
            }
            (AUTH_OK, Proof::First(_) | Proof::Final(_)) => {
                return Err(WireError::new(PLACE, "success before the server has proven itself"));
            }
            (AUTH_CLEARTEXT, Proof::None) if !self.encrypted => {
                return Err(WireError::new(
                    PLACE,
                    "the server asks for the password in clear, which is only sent inside TLS",
                ));
            }
            (AUTH_CLEARTEXT, Proof::None) => {
                put_password(out, self.secret.password().as_bytes())?;
                Proof::Password
            }
            (AUTH_MD5, Proof::None) => {
                let salt =
                    rest.try_into().map_err(|_| WireError::new(PLACE, "an md5 salt of a wrong length"))?;
                let (user, password) = (self.secret.username(), self.secret.password());
                put_password(out, md5_hash(user.as_bytes(), password.as_bytes(), salt).as_bytes())?;
                Proof::Password
            }
            (AUTH_SASL, Proof::None) => Proof::First(self.offer_scram(rest, out)?),
            (AUTH_SASL_CONTINUE, Proof::First(mut client)) => {
                let answer = client.server_first(rest).map_err(scram_error)?;
                frame::put(out, b'p', |out| out.put_slice(&answer));
                Proof::Final(client)
            }
            (AUTH_SASL_FINAL, Proof::Final(mut client)) => {
                client.server_final(rest).map_err(scram_error)?;
                Proof::Verified
            }
            (kind, Proof::None) => return Err(WireError::new(PLACE, unsupported(kind))),
            _ => return Err(WireError::new(PLACE, "one that is not due")),
        };
        Ok(State::Login(proof))
    }

    fn offer_scram(&mut self, mut mechanisms: &[u8], out: &mut BytesMut) -> Result<Box<Client>, WireError> {
        const PLACE: &str = "AuthenticationSASL";
        let mut offered = false;
        let mut bound = false;
        while let Some(mechanism) = frame::take_string(&mut mechanisms).filter(|name| !name.is_empty()) {
            offered |= mechanism == MECHANISM.as_bytes();
            bound |= mechanism == b"SCRAM-SHA-256-PLUS";
        }
        if !offered {
            let what = match bound {
                true => "the server offers SCRAM-SHA-256-PLUS only, and channel binding is not supported yet",
                false => "the server offers no SASL mechanism that we know; SCRAM-SHA-256 is",
            };
            return Err(WireError::new(PLACE, what));
        }
        let nonce = match self.nonce.take() {
            Some(nonce) => nonce,
            None => scram::nonce().map_err(|_| WireError::new(PLACE, "no random bytes to be had"))?,
        };
        let client = Client::new(&self.secret, &nonce);
        frontend::sasl_initial_response(MECHANISM, &client.client_first(), out)
            .map_err(|_| WireError::new(PLACE, "an answer that cannot be written"))?;
        Ok(Box::new(client))
    }

    /// From AuthenticationOk to the first ReadyForQuery.
    fn start(&mut self, message: &Message) -> Result<Option<DialStep<PostgresFacts>>, WireError> {
        let mut body = &message.body[..];
        match message.tag {
            b'S' => {
                let (name, value) = parameter(body).ok_or(WireError::new("ParameterStatus", "malformed"))?;
                put_parameter(&mut self.parameters, &name, &value);
            }
            b'K' => match take(&mut body).map(u32::from_be_bytes) {
                Some(process) if (4..=limits::CANCEL_KEY_BYTES_MAX).contains(&body.len()) => {
                    self.key = Some((process, body.to_vec()));
                }
                _ => return Err(WireError::new("BackendKeyData", "a key of a wrong length")),
            },
            b'N' => {}
            b'E' => return Ok(Some(self.refused(body))),
            b'Z' if status(body) == Some(b'I') => {
                return self.ready().map(|facts| Some(DialStep::Ready(facts)));
            }
            b'Z' => return Err(WireError::new("ReadyForQuery", "a transaction is open right after login")),
            _ => return Err(WireError::new("login", "a message that is not due before ReadyForQuery")),
        }
        self.state = State::Starting;
        Ok(None)
    }

    fn ready(&mut self) -> Result<PostgresFacts, WireError> {
        let (process_id, secret_key) = self.key.take().ok_or(WireError::new(
            "login",
            "no BackendKeyData: a statement there could not be stopped when a grant ends",
        ))?;
        let dialled: Arc<[_]> = std::mem::take(&mut self.parameters).into();
        let version = dialled.iter().find(|(name, _)| name == "server_version");
        Ok(PostgresFacts {
            version: version.map(|(_, value)| value.clone()).unwrap_or_default(),
            parameters: dialled.clone(),
            dialled,
            user: self.secret.username().into(),
            process_id,
            secret_key,
        })
    }

    fn refused(&mut self, body: &[u8]) -> DialStep<PostgresFacts> {
        self.state = State::Over;
        let mut error: ServerError = Complaint::parse(body).into_error();
        let asked = matches!(self.goal, Goal::Login { plain: false, .. });
        if asked && is_unknown_option(&error) {
            error.kind = ServerErrorKind::UnknownOption;
        }
        DialStep::Refused(error)
    }
}

impl Dial for PostgresDial {
    type Facts = PostgresFacts;

    fn step(
        &mut self,
        input: DialInput<'_>,
        out: &mut BytesMut,
    ) -> Result<DialStep<PostgresFacts>, WireError> {
        match (input, &self.state) {
            (DialInput::Start, State::Fresh) if self.tls == DialTls::Without => self.open(out),
            (DialInput::Start, State::Fresh) => {
                frontend::ssl_request(out);
                self.state = State::Answer;
                Ok(DialStep::NeedBytes)
            }
            (DialInput::TlsReady, State::Handshaking) => {
                self.encrypted = true;
                self.open(out)
            }
            (DialInput::Bytes(input), State::Answer) => self.answer(input, out),
            (DialInput::Bytes(input), State::Login(_) | State::Starting) => self.read(input, out),
            (DialInput::Bytes(input), _) if input.is_empty() => Ok(DialStep::NeedBytes),
            _ => Err(WireError::new("login", "a step that is not due")),
        }
    }
}

/// An older server, or a pooler in front of one, refuses the one setting that we ask for:
/// undefined_object from PostgreSQL before 14, `unsupported startup parameter` from PgBouncer.
fn is_unknown_option(error: &ServerError) -> bool {
    error.code == "42704"
        || error.message.contains(CHECK_INTERVAL)
        || error.message.contains("startup parameter")
}

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
