//! We log in to a server, or ask it to stop a statement
//! (<https://www.postgresql.org/docs/current/protocol-flow.html>).
//!
//! ```text
//! Fresh --SSLRequest--> Answer --S--> Handshaking --TlsReady--> Login
//!   |                     '--N, where TLS is only tried-------> Login
//!   |--direct TLS----------------------> Handshaking
//!   '--without TLS--------------------------------------------> Login
//!                          Login --AuthenticationOk--> Starting --ReadyForQuery--> Over
//! ```
//!
//! Nothing that a server says is believed before it is due: bytes behind its answer to `SSLRequest`
//! (CVE-2021-23222), success in the middle of SCRAM, a request for the password in clear outside TLS.

mod proof;

use bytes::{BufMut, BytesMut};
use postgres_protocol::message::frontend;

use self::proof::{Proof, Prover};
use super::facts::{Parameters, PostgresFacts, put_parameter};
use super::message::{Complaint, Message, Reader, parameter, status, take};
use super::relay::DIAL_APPLICATION_NAME;
use super::startup::CANCEL_REQUEST;
use crate::credential::Secret;
use crate::model::limits;
use crate::protocol::session::{
    Dial, DialInput, DialPurpose, DialStep, DialTls, DialWay, Interruption, ServerError, ServerErrorKind,
    WireError,
};

/// Ends a statement whose client is gone, also when it was us who went (measured: without it
/// `pg_sleep` runs on to its end). PostgreSQL 14 and newer.
const CHECK_INTERVAL: &str = "client_connection_check_interval";
const OPTIONS: &str = "-c client_connection_check_interval=500";

/// What we ask for: its cancel keys are too long to be guessed. A server that knows 3.0 only says so and goes
/// on (PostgreSQL 17 and older).
const VERSION: u32 = 0x0003_0002;

/// One attempt at one server.
pub struct PostgresDial {
    goal: Goal,
    prover: Prover,
    state: State,
    reader: Reader,
    /// The server has said which version it speaks.
    negotiated: bool,
    parameters: Vec<(String, String)>,
    /// Process id and key.
    key: Option<(u32, Vec<u8>)>,
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

impl PostgresDial {
    pub(super) fn new(purpose: &DialPurpose<'_>, way: DialWay, secret: &Secret) -> Self {
        Self::towards(Goal::of(purpose), way, secret)
    }

    pub(crate) fn towards(goal: Goal, way: impl Into<DialWay>, secret: &Secret) -> Self {
        Self {
            goal,
            prover: Prover { secret: secret.clone(), way: way.into(), tls: None, nonce: None },
            state: State::Fresh,
            reader: Reader::new(limits::LOGIN_MESSAGES_MAX),
            negotiated: false,
            parameters: Vec::new(),
            key: None,
        }
    }

    /// The same login again needs the same nonce.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn fix_nonce(&mut self, nonce: &str) {
        self.prover.nonce = Some(nonce.to_owned());
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
                    ("user", self.prover.secret.username()),
                    ("database", database),
                    ("application_name", DIAL_APPLICATION_NAME),
                    // The answers to our own scripts are read as UTF-8.
                    ("client_encoding", "UTF8"),
                ];
                if !plain {
                    parameters.push(("options", OPTIONS));
                }
                let at = out.len();
                frontend::startup_message(parameters, out)
                    .map_err(|_| WireError::new("StartupMessage", "a name with a zero byte"))?;
                if let Some(version) = out.get_mut(at + 4..at + 8).filter(|_| !plain) {
                    version.copy_from_slice(&VERSION.to_be_bytes());
                }
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
            Some(b'N') if self.prover.way.tls == DialTls::Try => {
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
                self.state = match self.prover.answer(proof, message.body, out)? {
                    Some(proof) => State::Login(proof),
                    None => State::Starting,
                };
                Ok(None)
            }
            b'E' => Ok(Some(self.refused(&message.body))),
            b'N' => {
                self.state = State::Login(proof);
                Ok(None)
            }
            b'v' => {
                self.negotiate(&message.body)?;
                self.state = State::Login(proof);
                Ok(None)
            }
            _ => Err(WireError::new("login", "a message that is not due before AuthenticationOk")),
        }
    }

    /// NegotiateProtocolVersion: an older version of 3 than we asked for, and no option, since we asked for
    /// none. Said once.
    fn negotiate(&mut self, mut body: &[u8]) -> Result<(), WireError> {
        const PLACE: &str = "NegotiateProtocolVersion";
        let version = take(&mut body).map(u32::from_be_bytes);
        let options = take(&mut body).map(u32::from_be_bytes);
        let (Some(version), Some(options)) = (version, options) else {
            return Err(WireError::new(PLACE, "too short"));
        };
        if std::mem::replace(&mut self.negotiated, true) {
            return Err(WireError::new(PLACE, "a second one"));
        }
        // The documents say the minor version, servers send the whole.
        if version >> 16 != 3 && version >> 16 != 0 || version & 0xffff > VERSION & 0xffff {
            return Err(WireError::new(PLACE, "a version that we did not ask for"));
        }
        if options != 0 || !body.is_empty() {
            return Err(WireError::new(PLACE, "an option that we did not ask for"));
        }
        Ok(())
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
        let parameters = std::mem::take(&mut self.parameters).into_iter();
        let dialled: Parameters = parameters.map(|(name, value)| (name.into(), value.into())).collect();
        let version = dialled.iter().find(|(name, _)| **name == *"server_version");
        Ok(PostgresFacts {
            version: version.map(|(_, value)| value.clone()).unwrap_or_default(),
            parameters: dialled.clone(),
            dialled,
            user: self.prover.secret.username().into(),
            process_id,
            secret_key: secret_key.into(),
            termination: None,
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
            (DialInput::Start, State::Fresh) if self.prover.way.tls == DialTls::Without => self.open(out),
            (DialInput::Start, State::Fresh) if self.prover.way.tls == DialTls::Direct => {
                self.state = State::Handshaking;
                Ok(DialStep::StartTls)
            }
            (DialInput::Start, State::Fresh) => {
                frontend::ssl_request(out);
                self.state = State::Answer;
                Ok(DialStep::NeedBytes)
            }
            (DialInput::TlsReady(facts), State::Handshaking) => {
                self.prover.tls = Some(facts.clone());
                self.open(out)
            }
            (DialInput::Bytes(input), State::Answer) => self.answer(input, out),
            (DialInput::Bytes(input), State::Login(_) | State::Starting) => self.read(input, out),
            (DialInput::Bytes(input), _) if input.is_empty() => Ok(DialStep::NeedBytes),
            _ => Err(WireError::new("login", "a step that is not due")),
        }
    }
}

/// An older server, or a pooler in front of one, refuses the one setting that we ask for (undefined_object
/// from PostgreSQL before 14, `unsupported startup parameter` from PgBouncer), or our version of the protocol.
fn is_unknown_option(error: &ServerError) -> bool {
    error.code == "42704"
        || error.message.contains(CHECK_INTERVAL)
        || error.message.contains("startup parameter")
        || error.code == "0A000"
        || error.message.contains("protocol")
}
