//! We log in to a server
//! (<https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase.html>).
//!
//! ```text
//! Fresh --Start--> Greeting --its greeting, without TLS----------> Login --OK--> Over
//!   |                 '--its greeting, SSLRequest--> Handshaking --TlsReady--> Login
//!   '--direct TLS--> Handshaking --TlsReady--> Greeting
//! ```
//!
//! Nothing that a server says is believed before it is due, and what it asks for is answered under the target's
//! rules (`proof.rs`). It is dialled with exactly the capabilities of the pool's flavour: a server without one of
//! them is refused, since a client was promised it.

mod proof;

use std::sync::Arc;

use bytes::{BufMut, BytesMut};

use self::proof::{Proof, Prover, Said};
use super::capability::Capabilities;
use super::facts::{Learned, MySqlFacts, ZSTD_LEVEL};
use super::greeting::{self, Greeting, Request, Response};
use super::message::{self, Reader};
use super::packet;
use crate::credential::Secret;
use crate::model::{Compression, limits};
use crate::protocol::session::{Dial, DialInput, DialPurpose, DialStep, DialTls, DialWay, WireError};

/// utf8mb4_general_ci, which every version has: the answers to our own scripts are read as UTF-8.
const COLLATION: u8 = 45;
/// The longest packet that a server may send, as clients of MySQL's own say it.
const PACKET_BYTES: u32 = 1 << 30;

type Step = DialStep<MySqlFacts>;

/// One attempt at one server.
pub struct MySqlDial {
    database: String,
    /// What the conversation is to have.
    flavour: Option<Capabilities>,
    prover: Prover,
    state: State,
    reader: Reader,
    greeting: Option<Greeting>,
    /// What was agreed to.
    capabilities: Capabilities,
    /// How the conversation is compressed: not where only we speak.
    compression: Capabilities,
}

/// Where an attempt leads to.
pub(crate) struct Goal {
    pub database: String,
    pub flavour: String,
}

enum State {
    Fresh,
    /// The server speaks first.
    Greeting,
    Handshaking,
    Login(Proof),
    /// Our password is being sealed.
    Sealing(Proof),
    Over,
}

impl MySqlDial {
    pub(super) fn new(purpose: &DialPurpose<'_>, way: DialWay, secret: &Secret) -> Self {
        match purpose {
            DialPurpose::Login { database, flavour, .. } => {
                let goal = Goal { database: (*database).to_owned(), flavour: (*flavour).to_owned() };
                Self::towards(goal, way, secret)
            }
            // Statements are stopped over a login: `Wire::stop`. No step of this is due.
            DialPurpose::Interrupt(_) => {
                let goal = Goal { database: String::new(), flavour: String::new() };
                Self { state: State::Over, ..Self::towards(goal, way, secret) }
            }
        }
    }

    pub(crate) fn towards(goal: Goal, way: impl Into<DialWay>, secret: &Secret) -> Self {
        let way = way.into();
        let compression = match way.rules.compression {
            _ if goal.flavour.is_empty() => Capabilities::NONE,
            Compression::Off => Capabilities::NONE,
            Compression::Zlib => Capabilities::COMPRESS,
            Compression::Zstd => Capabilities::ZSTD,
        };
        Self {
            flavour: Capabilities::of_flavour(&goal.flavour),
            database: goal.database,
            compression,
            prover: Prover::new(secret.clone(), way),
            state: State::Fresh,
            reader: Reader::new(limits::MYSQL_LOGIN_PACKETS_MAX),
            greeting: None,
            capabilities: Capabilities::NONE,
        }
    }

    /// The same login again needs the same random bytes.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn fix_random(&mut self, bytes: &[u8]) {
        self.prover.fixed = bytes.to_vec();
    }

    /// Goes on for as long as there are whole packets.
    fn read(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<Step, WireError> {
        while matches!(self.state, State::Greeting | State::Login(_)) {
            let Some(body) = self.reader.next(input)? else { return Ok(DialStep::NeedBytes) };
            let step = match std::mem::replace(&mut self.state, State::Over) {
                State::Greeting => self.greeted(&body, out)?,
                State::Login(proof) => self.log_in(proof, &body, out)?,
                _ => None,
            };
            if let Some(step) = step {
                return Ok(step);
            }
        }
        Ok(DialStep::NeedBytes)
    }

    fn greeted(&mut self, body: &[u8], out: &mut BytesMut) -> Result<Option<Step>, WireError> {
        if let Some((&packet::ERR, error)) = body.split_first() {
            // Ahead of the greeting: too many connections, or not from here.
            return Ok(Some(DialStep::Refused(message::error(error))));
        }
        let greeting = Greeting::parse(body)?;
        let has_tls = greeting.capabilities.has(Capabilities::SSL);
        self.capabilities = self.agree(&greeting)?;
        self.greeting = Some(greeting);
        let within = self.prover.tls.is_some();
        match self.prover.way.tls {
            DialTls::Demand if !has_tls => {
                Err(WireError::new("greeting", "the server has no TLS, and the target demands it"))
            }
            DialTls::Demand | DialTls::Try if has_tls && !within => {
                self.capabilities |= Capabilities::SSL;
                let request = self.request();
                self.reader.put(out, |out| request.put(out));
                self.state = State::Handshaking;
                Ok(Some(DialStep::StartTls))
            }
            _ => self.respond(out),
        }
    }

    /// What the connection is to have, all of which the server must have.
    fn agree(&self, greeting: &Greeting) -> Result<Capabilities, WireError> {
        const PLACE: &str = "greeting";
        let wanted = self.flavour.ok_or(WireError::new(PLACE, "a flavour of the pool that is none"))?;
        if !greeting.capabilities.has(wanted) {
            return Err(WireError::new(
                PLACE,
                "the server lacks a capability that the client was promised: it is not the one that was greeted for",
            ));
        }
        if !greeting.capabilities.has(self.compression) {
            return Err(WireError::new(PLACE, "the server lacks the compression that the target asks for"));
        }
        let mut agreed =
            Capabilities::ALWAYS | Capabilities::CONNECT_ATTRS | Capabilities::PLUGIN_AUTH_LENENC;
        if !self.database.is_empty() {
            agreed |= Capabilities::CONNECT_WITH_DB;
        }
        if (wanted & Capabilities::MARIADB).is_empty() {
            // To MariaDB this says that none of its own bits follow.
            agreed |= Capabilities::LONG_PASSWORD;
        }
        // What only tells the server how to read our answer may be missing in an old one.
        let known = greeting.capabilities | Capabilities::LONG_PASSWORD | Capabilities::ALWAYS;
        Ok((agreed & known) | wanted | self.compression)
    }

    fn request(&self) -> Request {
        Request { capabilities: self.capabilities, packet_bytes: PACKET_BYTES, collation: COLLATION }
    }

    /// Our answer to the greeting, with a proof for the method that it announces where that is one of ours.
    fn respond(&mut self, out: &mut BytesMut) -> Result<Option<Step>, WireError> {
        let Some(greeting) = &self.greeting else {
            return Err(WireError::new("greeting", "there is none to answer"));
        };
        let names = [self.prover.secret.username(), &*self.database];
        if names.iter().any(|name| name.contains('\0')) {
            return Err(WireError::new("answer to the greeting", "a name with a zero byte"));
        }
        let (plugin, said, proof) = self.prover.first(&greeting.plugin, &greeting.nonce)?;
        let Said::This(said) = said else {
            return Err(WireError::new("answer to the greeting", "one that cannot be said"));
        };
        let response = Response {
            request: self.request(),
            user: self.prover.secret.username().into(),
            proof: said,
            database: Some(self.database.as_bytes().into()),
            plugin: plugin.into(),
            attributes: vec![("program_name".into(), "tidegate".into())],
            zstd_level: ZSTD_LEVEL,
        };
        self.reader.put(out, |out| response.put(out));
        self.state = State::Login(proof);
        Ok(None)
    }

    /// Until OK.
    fn log_in(&mut self, proof: Proof, body: &[u8], out: &mut BytesMut) -> Result<Option<Step>, WireError> {
        const PLACE: &str = "login";
        let Some((&first, rest)) = body.split_first() else {
            return Err(WireError::new(PLACE, "an empty packet"));
        };
        let (proof, said) = match first {
            packet::OK => return self.admitted(&proof, rest),
            packet::ERR => return Ok(Some(DialStep::Refused(message::error(rest)))),
            packet::EOF => {
                let (plugin, data) = greeting::switch(rest)
                    .ok_or(WireError::new(PLACE, "the server asks for the method from before 4.1"))?;
                self.prover.switch(plugin, data)?
            }
            // What a method says; MariaDB marks it only where it could be taken for something else.
            1 => self.prover.more(proof, rest)?,
            packet::LOCAL_INFILE => {
                return Err(WireError::new(PLACE, "the server asks for a file of ours"));
            }
            _ => self.prover.more(proof, body)?,
        };
        match said {
            Said::Nothing => {}
            Said::Refuse(error) => return Ok(Some(DialStep::Refused(error))),
            Said::This(said) => self.reader.put(out, |out| out.put_slice(&said)),
            Said::Sealed { key, text } => {
                self.state = State::Sealing(proof);
                return Ok(Some(DialStep::Seal { key, text }));
            }
        }
        self.state = State::Login(proof);
        Ok(None)
    }

    fn sealed(
        &mut self,
        proof: Proof,
        sealed: Result<Vec<u8>, &'static str>,
        out: &mut BytesMut,
    ) -> Result<Step, WireError> {
        let sealed = sealed.map_err(|what| WireError::new("the server's RSA key", what))?;
        self.reader.put(out, |out| out.put_slice(&sealed));
        self.state = State::Login(proof);
        Ok(DialStep::NeedBytes)
    }

    fn admitted(&mut self, proof: &Proof, body: &[u8]) -> Result<Option<Step>, WireError> {
        self.prover.check_end(proof)?;
        let status = greeting::ok_status(body).ok_or(WireError::new("OK", "malformed"))?;
        if status & super::capability::status::IN_TRANSACTION != 0 {
            return Err(WireError::new("OK", "a transaction is open right after login"));
        }
        self.ready(status).map(|facts| Some(DialStep::Ready(facts)))
    }

    fn ready(&mut self, status: u16) -> Result<MySqlFacts, WireError> {
        let greeting = self.greeting.take().ok_or(WireError::new("login", "its end without a beginning"))?;
        let learned = Learned {
            version: greeting.version,
            capabilities: greeting.capabilities,
            collation: greeting.collation,
            status: greeting.status,
        };
        Ok(MySqlFacts {
            learned: Arc::new(learned),
            capabilities: self.capabilities,
            user: self.prover.secret.username().into(),
            database: self.database.as_str().into(),
            collation: COLLATION,
            thread: greeting.thread,
            status,
            termination: None,
            stamps_comments: self.prover.way.rules.stamp_comment,
            baseline: None,
        })
    }
}

impl Dial for MySqlDial {
    type Facts = MySqlFacts;

    fn step(&mut self, input: DialInput<'_>, out: &mut BytesMut) -> Result<Step, WireError> {
        match (input, std::mem::replace(&mut self.state, State::Over)) {
            (DialInput::Start, State::Fresh) if self.prover.way.tls == DialTls::Direct => {
                self.state = State::Handshaking;
                Ok(DialStep::StartTls)
            }
            (DialInput::Start, State::Fresh) => {
                self.state = State::Greeting;
                Ok(DialStep::NeedBytes)
            }
            (DialInput::TlsReady(facts), State::Handshaking) => {
                self.prover.tls = Some(facts.clone());
                if self.greeting.is_none() {
                    self.state = State::Greeting;
                    return Ok(DialStep::NeedBytes);
                }
                Ok(self.respond(out)?.unwrap_or(DialStep::NeedBytes))
            }
            (DialInput::Bytes(input), state @ (State::Greeting | State::Login(_))) => {
                self.state = state;
                self.read(input, out)
            }
            (DialInput::Sealed(sealed), State::Sealing(proof)) => self.sealed(proof, sealed, out),
            (DialInput::Bytes(input), state) if input.is_empty() => {
                self.state = state;
                Ok(DialStep::NeedBytes)
            }
            _ => Err(WireError::new("login", "a step that is not due")),
        }
    }
}
