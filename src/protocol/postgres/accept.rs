//! A client logs in to us: encryption requests, one `StartupMessage`, then a certificate or SCRAM-SHA-256
//! (<https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP>,
//! <https://www.postgresql.org/docs/current/sasl-authentication.html>).
//!
//! ```text
//! Opening --SSLRequest, or a TLS record as the very first bytes--> Handshaking --TlsReady--> Opening
//!    |--CancelRequest--> Over
//!    '--StartupMessage--> Asking --Answer--> Initial --SASLInitialResponse--> Final --SASLResponse--> Over
//!                            '--Answer to a certificate--> Over
//! ```
//!
//! Nothing but SCRAM-SHA-256, inside TLS with channel binding (PLUS), is offered: no MD5, no clear text.
//!
//! Who logs in is fixed by the one `StartupMessage` before the exchange begins; a second one is an
//! error (pgbouncer took it, CVE-2026-107350). `AuthenticationOk` is not in this file: only the relay
//! says it, and the relay needs an admission.

use bytes::{Buf, BufMut, BytesMut};

use super::facts::Settings;
use super::frame;
use super::refusal::{Severity, put_error};
use super::startup::{Packet, Startup, TLS_HANDSHAKE, VERSION_3_0, VERSION_3_2};
use crate::credential::Identity;
use crate::credential::scram::{self, ChannelBinding, Exchange, ScramError};
use crate::model::{Claim, Refusal, limits};
use crate::protocol::session::{
    Accept, AcceptContext, AcceptInput, AcceptStep, Answer, Claimed, Question, TlsFacts, TlsOffer, TlsStart,
    WireError,
};

/// The mechanism that we always offer.
pub(super) const MECHANISM: &str = "SCRAM-SHA-256";
/// The same bound to the TLS connection, offered inside TLS.
pub(super) const MECHANISM_PLUS: &str = "SCRAM-SHA-256-PLUS";
/// Second word of an authentication message.
pub(super) const AUTH_SASL: u32 = 10;
pub(super) const AUTH_SASL_CONTINUE: u32 = 11;
pub(super) const AUTH_SASL_FINAL: u32 = 12;

/// A login of one client.
pub struct PostgresAccept {
    context: AcceptContext,
    state: State,
    /// Each request for encryption may come once.
    asked_tls: bool,
    asked_gss: bool,
    /// The client began with TLS (`sslnegotiation=direct`).
    direct: bool,
    /// What TLS told us, once it stands.
    tls: Option<TlsFacts>,
    startup: Option<Startup>,
    /// Who it is has been proven.
    proven: bool,
    /// Our part of the nonce where a test fixes it.
    nonce: Option<String>,
}

enum State {
    /// Packets without a type byte are due.
    Opening,
    /// We said `S`; whatever comes now is TLS.
    Handshaking,
    /// The verifiers are being looked up.
    Asking,
    /// SASLInitialResponse is due.
    Initial(Box<Exchange>),
    /// SASLResponse is due.
    Final(Box<Exchange>),
    /// Nothing is read any more.
    Over,
}

impl PostgresAccept {
    pub(crate) fn new(context: &AcceptContext) -> Self {
        Self {
            context: context.clone(),
            state: State::Opening,
            asked_tls: false,
            asked_gss: false,
            direct: false,
            tls: None,
            startup: None,
            proven: false,
            nonce: None,
        }
    }

    /// The same login again needs the same nonce.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn fix_nonce(&mut self, nonce: &str) {
        self.nonce = Some(nonce.to_owned());
    }

    pub(super) fn settings(&self) -> Settings {
        self.startup.as_ref().map(|startup| startup.settings.clone()).unwrap_or_default()
    }

    /// Goes on for as long as there are whole messages.
    fn read(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<AcceptStep, WireError> {
        loop {
            let step = match std::mem::replace(&mut self.state, State::Over) {
                State::Opening if self.begins_with_tls(input) => Some(self.direct_tls()?),
                State::Opening => match Packet::take(input)? {
                    Some(packet) => self.open(packet, out)?,
                    None => return Ok(self.wait(State::Opening)),
                },
                State::Initial(exchange) => match take_sasl(input)? {
                    Some(message) => self.initial(exchange, &message, out)?,
                    None => return Ok(self.wait(State::Initial(exchange))),
                },
                State::Final(mut exchange) => match take_sasl(input)? {
                    Some(message) => Some(self.finish(&mut exchange, &message, out)?),
                    None => return Ok(self.wait(State::Final(exchange))),
                },
                // What came too early stays where it is until it is due, and is then no SASL message.
                other => return Ok(self.wait(other)),
            };
            if let Some(step) = step {
                return Ok(step);
            }
        }
    }

    fn wait(&mut self, state: State) -> AcceptStep {
        self.state = state;
        AcceptStep::NeedBytes
    }

    /// Whether the very first byte is that of a TLS record. No length of a packet begins with it.
    fn begins_with_tls(&self, input: &[u8]) -> bool {
        let first = !self.asked_tls && !self.asked_gss;
        first && input.first() == Some(&TLS_HANDSHAKE)
    }

    fn direct_tls(&mut self) -> Result<AcceptStep, WireError> {
        // Whether it goes on or not: nothing can be said before TLS stands.
        self.state = State::Handshaking;
        if self.context.tls == TlsOffer::Unavailable {
            return Err(WireError::new("TLS", "the client began with it and there is none here"));
        }
        (self.asked_tls, self.direct) = (true, true);
        Ok(AcceptStep::StartTls(TlsStart::Direct))
    }

    fn tls_ready(&mut self, facts: &TlsFacts) -> Result<AcceptStep, WireError> {
        if !matches!(self.state, State::Handshaking) {
            return Err(WireError::new("TLS", "it stands without having been agreed"));
        }
        if self.direct && !facts.alpn {
            // As PostgreSQL 17 does. Who did not say what it wants to speak may have been led here by somebody
            // (ALPACA), so it gets no answer: the state stays the one in which nothing is said.
            return Err(WireError::new("TLS", "began at once and without the ALPN name postgresql"));
        }
        self.tls = Some(facts.clone());
        self.state = State::Opening;
        Ok(AcceptStep::NeedBytes)
    }

    /// One of the first packets. GSS and TLS may be asked for in either order, each once; once TLS
    /// stands neither may be.
    fn open(&mut self, packet: Packet, out: &mut BytesMut) -> Result<Option<AcceptStep>, WireError> {
        match packet {
            Packet::Ssl if self.asked_tls => Err(WireError::new("SSLRequest", "TLS was asked for already")),
            Packet::Ssl => {
                self.asked_tls = true;
                if self.context.tls == TlsOffer::Unavailable {
                    out.put_u8(b'N');
                    self.state = State::Opening;
                    return Ok(None);
                }
                out.put_u8(b'S');
                self.state = State::Handshaking;
                Ok(Some(AcceptStep::StartTls(TlsStart::Asked)))
            }
            Packet::GssEnc if self.asked_gss || self.tls.is_some() => {
                Err(WireError::new("GSSENCRequest", "it comes once, and not inside TLS"))
            }
            Packet::GssEnc => {
                self.asked_gss = true;
                out.put_u8(b'N');
                self.state = State::Opening;
                Ok(None)
            }
            // Also without TLS where it is required: libpq before 17 cancels in clear, always, and a
            // key is all that such a packet gives away.
            Packet::Cancel(key) => Ok(Some(AcceptStep::Cancel(key))),
            Packet::OtherMajor => Ok(Some(AcceptStep::Refuse(
                Refusal::NotSupported("a version of the protocol other than 3"),
                "asked for another major version of the protocol",
            ))),
            Packet::Startup(startup) => Ok(Some(self.start(*startup))),
        }
    }

    fn start(&mut self, startup: Startup) -> AcceptStep {
        let user = startup.login.as_ref().map(|login| login.user.clone());
        let sent = startup.user.clone();
        self.startup = Some(startup);
        if self.context.tls == TlsOffer::Required && self.tls.is_none() {
            // Before a single SASL message: no proof travels in clear.
            return AcceptStep::Refuse(Refusal::TlsRequired, "did not ask for TLS");
        }
        self.state = State::Asking;
        let certificate = self.tls.as_ref().and_then(|tls| tls.certificate.clone());
        match (certificate, user) {
            // Who shows a certificate is who it says, or nobody: a secret does not make up for it.
            (Some(certificate), Some(user)) => AcceptStep::Ask(Question::Certificate { user, certificate }),
            (Some(_), None) => AcceptStep::Refuse(Refusal::BadCredentials, "the login name is malformed"),
            (None, _) if self.context.certificate_required => AcceptStep::Refuse(
                Refusal::NotSupported("a login without a client certificate"),
                "no client certificate",
            ),
            (None, user) => AcceptStep::Ask(Question::Scram { user, sent }),
        }
    }

    /// `NegotiateProtocolVersion` where the client asked for what we do not speak; once, ahead of anything about
    /// who it is.
    fn negotiate(&self, out: &mut BytesMut) {
        let Some(startup) = &self.startup else { return };
        let spoken = startup.spoken();
        if spoken != startup.asked() || !startup.unrecognised.is_empty() {
            put_negotiation(out, spoken, &startup.unrecognised);
        }
    }

    /// What the channel can be bound to.
    fn end_point(&self) -> Option<std::sync::Arc<[u8]>> {
        self.tls.as_ref().and_then(|tls| tls.end_point.clone())
    }

    /// The verifiers are here, so the exchange may begin.
    fn offer(&mut self, exchange: Box<Exchange>, out: &mut BytesMut) {
        self.negotiate(out);
        let plus = self.end_point().is_some();
        put_authentication(out, AUTH_SASL, |out| {
            if plus {
                frame::put_string(out, MECHANISM_PLUS);
            }
            frame::put_string(out, MECHANISM);
            // The end of the list.
            out.put_u8(0);
        });
        self.state = State::Initial(exchange);
    }

    fn initial(
        &mut self,
        mut exchange: Box<Exchange>,
        message: &[u8],
        out: &mut BytesMut,
    ) -> Result<Option<AcceptStep>, WireError> {
        const PLACE: &str = "SASLInitialResponse";
        let mut rest = message;
        let mechanism = frame::take_string(&mut rest).ok_or(WireError::new(PLACE, "no mechanism"))?;
        let end_point = self.end_point();
        exchange.channel(match end_point {
            Some(data) if mechanism == MECHANISM_PLUS.as_bytes() => ChannelBinding::EndPoint(data),
            Some(_) if mechanism == MECHANISM.as_bytes() => ChannelBinding::Declined,
            None if mechanism == MECHANISM.as_bytes() => ChannelBinding::NotOffered,
            _ => return Err(WireError::new(PLACE, "a mechanism that was not offered")),
        });
        let length = super::message::take(&mut rest).map(u32::from_be_bytes);
        // A length of -1 says that there is no response yet; SCRAM's client speaks first.
        if length.map(u64::from) != Some(rest.len() as u64) {
            return Err(WireError::new(PLACE, "its length is not that of its response"));
        }
        let nonce = match self.nonce.take() {
            Some(nonce) => nonce,
            None => scram::nonce().map_err(|_| WireError::new(PLACE, "no random bytes to be had"))?,
        };
        let challenge = match exchange.client_first(rest, &nonce) {
            Ok(challenge) => challenge,
            Err(ScramError::Downgrade) => {
                let what = "the client did not see that SCRAM-SHA-256-PLUS is offered";
                return Ok(Some(AcceptStep::Refuse(Refusal::ProtocolViolation(what), what)));
            }
            Err(error) => return Err(wire_error(PLACE, error)),
        };
        put_authentication(out, AUTH_SASL_CONTINUE, |out| out.put_slice(&challenge));
        self.state = State::Final(exchange);
        Ok(None)
    }

    fn finish(
        &mut self,
        exchange: &mut Exchange,
        message: &[u8],
        out: &mut BytesMut,
    ) -> Result<AcceptStep, WireError> {
        match exchange.client_final(message) {
            Ok((identity, signature)) => {
                put_authentication(out, AUTH_SASL_FINAL, |out| out.put_slice(&signature));
                Ok(self.enter(identity))
            }
            Err(ScramError::WrongProof) => {
                Ok(AcceptStep::Refuse(Refusal::BadCredentials, "wrong secret or unknown user"))
            }
            Err(ScramError::OtherChannel) => Ok(AcceptStep::Refuse(
                Refusal::BadCredentials,
                "the channel binding is that of another TLS connection: somebody stands in between",
            )),
            Err(error) => Err(wire_error("SASLResponse", error)),
        }
    }

    /// The proof was right: now, and not before, the rest of the claim is looked at.
    fn enter(&mut self, identity: Identity) -> AcceptStep {
        let Some((startup, login)) = self.startup.as_ref().and_then(|s| Some((s, s.login.as_ref()?))) else {
            return AcceptStep::Refuse(Refusal::BadCredentials, "the login name is malformed");
        };
        if *identity.user() != login.user {
            return AcceptStep::Refuse(
                Refusal::BadCredentials,
                "proven to be another than the login name says",
            );
        }
        self.proven = true;
        if startup.replication {
            return AcceptStep::Refuse(Refusal::NotSupported("replication"), "asked for replication");
        }
        if let Some(name) = &startup.complaint {
            return AcceptStep::Refuse(
                Refusal::BadParameter(name.clone()),
                "a start-up setting that cannot be put on a shared connection",
            );
        }
        let target = match self.context.target(login, self.tls.as_ref()) {
            Ok(target) => target,
            Err(why) => return AcceptStep::Refuse(Refusal::NotGranted, why),
        };
        if startup.database.as_ref().is_some_and(|name| name.len() > limits::DATABASE_BYTES_MAX) {
            return AcceptStep::Refuse(Refusal::NoDatabase, "a database name longer than any can be");
        }
        let claim = Claim {
            user: login.user.clone(),
            level: login.level.clone(),
            target,
            database: startup.database.clone(),
            peer: self.context.peer,
        };
        AcceptStep::Login(Box::new((identity, claim)))
    }
}

impl Accept for PostgresAccept {
    fn step(&mut self, input: AcceptInput<'_>, out: &mut BytesMut) -> Result<AcceptStep, WireError> {
        match input {
            AcceptInput::Start => Ok(AcceptStep::NeedBytes),
            AcceptInput::Bytes(input) => self.read(input, out),
            AcceptInput::TlsReady(facts) => self.tls_ready(facts),
            AcceptInput::Answer(Answer::Scram(exchange)) => {
                if !matches!(self.state, State::Asking) {
                    return Err(WireError::new("AuthenticationSASL", "an answer to no question"));
                }
                self.offer(exchange, out);
                Ok(AcceptStep::NeedBytes)
            }
            AcceptInput::Answer(Answer::Certificate(answer)) => {
                if !matches!(self.state, State::Asking) {
                    return Err(WireError::new("certificate", "an answer to no question"));
                }
                self.state = State::Over;
                match answer {
                    Ok(identity) => {
                        self.negotiate(out);
                        Ok(self.enter(identity))
                    }
                    Err(why) => Ok(AcceptStep::Refuse(Refusal::BadCredentials, why)),
                }
            }
            AcceptInput::Answer(Answer::MySql(_)) => {
                Err(WireError::new("AuthenticationSASL", "an answer to another question"))
            }
        }
    }

    fn refuse(&mut self, refusal: &Refusal, out: &mut BytesMut) {
        // Between our `S` and the end of the handshake only TLS can be said.
        if !matches!(self.state, State::Handshaking) {
            put_error(out, Severity::Fatal, refusal);
        }
        self.state = State::Over;
    }

    fn notice(&mut self, _text: &str, _out: &mut BytesMut) -> bool {
        // libpq takes nothing but an authentication request or an error at this stage.
        false
    }

    fn claimed(&self) -> Claimed<'_> {
        self.startup.as_ref().map_or_else(Claimed::default, |startup| Claimed {
            user: Some(&startup.user),
            database: startup.database.as_deref(),
            proven: self.proven,
        })
    }

    fn cancel_key_bytes(&self) -> usize {
        match self.startup.as_ref().map(Startup::spoken) {
            Some(VERSION_3_2) => limits::CANCEL_SECRET_BYTES,
            _ => 4,
        }
    }
}

/// Takes a `p` message, the only one that is due during the exchange. Anything else, a second
/// `StartupMessage` too, is an error at its first byte.
fn take_sasl(input: &mut BytesMut) -> Result<Option<BytesMut>, WireError> {
    const PLACE: &str = "SASL exchange";
    if input.first().is_some_and(|tag| *tag != b'p') {
        return Err(WireError::new(PLACE, "a message that is not part of it"));
    }
    let Some(header) = frame::peek(input)? else { return Ok(None) };
    if header.total > limits::SASL_BYTES_MAX {
        return Err(WireError::new(PLACE, "a message that is too long"));
    }
    if input.len() < header.total {
        return Ok(None);
    }
    let mut message = input.split_to(header.total);
    message.advance(frame::HEADER_BYTES);
    Ok(Some(message))
}

fn wire_error(place: &'static str, error: ScramError) -> WireError {
    let what = match error {
        ScramError::Malformed(what) => what,
        _ => "a SCRAM step out of order",
    };
    WireError::new(place, what)
}

fn put_authentication(out: &mut BytesMut, kind: u32, body: impl FnOnce(&mut BytesMut)) {
    frame::put(out, b'R', |out| {
        out.put_u32(kind);
        body(out);
    });
}

/// `NegotiateProtocolVersion`: this version it is, and these options we do not know. Servers send the whole
/// version there, although the documentation spoke of the minor one alone for long; libpq expects it, and aborts
/// on a version above the one that it asked for, on 3.1, and on a message that changes nothing.
fn put_negotiation(out: &mut BytesMut, version: u32, unrecognised: &[String]) {
    debug_assert!(version >= VERSION_3_0);
    frame::put(out, b'v', |out| {
        out.put_u32(version);
        out.put_u32(unrecognised.len() as u32);
        for option in unrecognised {
            frame::put_string(out, option);
        }
    });
}
