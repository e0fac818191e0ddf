//! A client logs in to us: our greeting, TLS where it is asked for, one answer, then a certificate or a proof of
//! its credential
//! (<https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase.html>).
//!
//! ```text
//! Fresh --Start--> Greeted --SSLRequest--> Handshaking --TlsReady--> Greeted
//!                     '--HandshakeResponse--> Asking --Answer--> a proof of what was announced ---------> Over
//!                                                |--> Switched --AuthSwitchResponse--> (parsec: Salted) --> Over
//!                                                '--Answer to a certificate--> (Waved) ------------------> Over
//! ```
//!
//! caching_sha2_password is announced, and of it the fast path is all there is: what is stored
//! (SHA256(SHA256(secret))) opens every right answer, so the secret itself is never asked for. A client that names
//! client_ed25519 or parsec is switched to that, one that names mysql_clear_password is heard inside TLS; all
//! others are switched to what was announced. mysql_native_password is there for who names it, where the listener
//! says so; it is never announced.
//!
//! A client that is in may log in again (`COM_CHANGE_USER`). That is a login of its own, which begins with the
//! client's answer. What it has sent along as proof is of a nonce that has been used, so it is always asked anew:
//!
//! ```text
//! Returned --Start--> Asking --Answer--> Switched --> … (as above)
//! ```
//!
//! Who logs in is fixed by the one answer; a second one is an error. The OK that ends a login is not in this file:
//! only the relay says it, and the relay needs an admission.

use bytes::{Buf, BufMut, BytesMut};
use zeroize::{Zeroize, Zeroizing};

use super::capability::{Capabilities, status};
use super::facts::{Learned, Settings};
use super::greeting::{self, ChangeUser, Greeting, NONCE_BYTES, Opening, Response};
use super::packet;
use super::refusal::put_error;
use crate::credential::Identity;
use crate::credential::mysql::{Exchange, WrongProof};
use crate::model::{Claim, LoginName, Refusal, limits};
use crate::protocol::session::{
    Accept, AcceptContext, AcceptInput, AcceptStep, Answer, Claimed, Framing, Question, TlsFacts, TlsOffer,
    TlsStart, WireError,
};

const CACHING_SHA2: &str = "caching_sha2_password";
const ED25519: &str = "client_ed25519";
const PARSEC: &str = "parsec";
const CLEAR: &str = "mysql_clear_password";
const NATIVE: &str = "mysql_native_password";

/// caching_sha2_password: the proof fits, an OK follows.
const FAST_OK: [u8; 2] = [1, 3];

/// What client_ed25519 and parsec sign.
const SCRAMBLE_BYTES: usize = 32;

/// What a client may be offered of which no server has to know.
const OFFERED: Capabilities = Capabilities(
    Capabilities::ALWAYS.0
        | Capabilities::CONNECT_WITH_DB.0
        | Capabilities::CONNECT_ATTRS.0
        | Capabilities::PLUGIN_AUTH_LENENC.0
        | Capabilities::ODBC.0
        | Capabilities::IGNORE_SIGPIPE.0,
);

/// What MySQL since 5.7 and MariaDB since 10.2 have: what is offered while no server is known.
const COMMON: Capabilities = Capabilities(
    Capabilities::FOUND_ROWS.0
        | Capabilities::IGNORE_SPACE.0
        | Capabilities::INTERACTIVE.0
        | Capabilities::LOCAL_FILES.0
        | Capabilities::MULTI_STATEMENTS.0
        | Capabilities::MULTI_RESULTS.0
        | Capabilities::PS_MULTI_RESULTS.0
        | Capabilities::SESSION_TRACK.0
        | Capabilities::DEPRECATE_EOF.0,
);

/// The version to greet with while no server is known: drivers take it for what they may ask for.
const VERSION: &str = "8.0.36-tidegate";
/// utf8mb4_general_ci, which every version has.
const COLLATION: u8 = 45;

/// A login of one client.
pub struct MySqlAccept {
    context: AcceptContext,
    state: State,
    /// What the greeting offers.
    learned: Learned,
    offered: Capabilities,
    /// What a client has to prove with next, where that is caching_sha2_password.
    nonce: [u8; NONCE_BYTES],
    /// The number of the next packet, whoever sends it.
    sequence: u8,
    /// What TLS told us, once it stands.
    tls: Option<TlsFacts>,
    response: Option<Response>,
    /// The name as sent, and what it says.
    user: String,
    database: Option<String>,
    login: Option<LoginName>,
    settings: Settings,
    /// Who it is has been proven.
    proven: bool,
    /// Its method waits for a word ahead of the OK.
    fast: bool,
    /// It has been in before, on this connection.
    again: bool,
    /// It was greeted by a version that looks older than words in the middle of a login are.
    old: bool,
    /// What random bytes are where a test fixes them, used up from the front.
    fixed: Vec<u8>,
}

/// How a client came in, for another login on the same connection.
pub(super) struct Doorway {
    context: AcceptContext,
    tls: Option<TlsFacts>,
    agreed: Capabilities,
    zstd_level: u8,
    old: bool,
}

impl Doorway {
    /// What the two ends agreed to.
    pub fn agreed(&self) -> Capabilities {
        self.agreed
    }

    /// Of a client that came in without anything more to say.
    #[cfg(any(test, feature = "testing"))]
    pub fn plain(agreed: Capabilities) -> Self {
        let peer = std::net::Ipv4Addr::LOCALHOST.into();
        let context = AcceptContext::new(None, peer, TlsOffer::Unavailable);
        Self { context, tls: None, agreed, zstd_level: 0, old: false }
    }
}

enum State {
    Fresh,
    /// The client is in, and has asked for another login with these words.
    Returned(Zeroizing<Vec<u8>>),
    /// The client's first packet is due.
    Greeted,
    /// It wants TLS; whatever comes now is TLS.
    Handshaking,
    /// The verifiers are being looked up.
    Asking,
    /// The answer to a switch of the method is due.
    Switched(Box<Exchange>, Method),
    /// parsec: the signature is due.
    Salted(Box<Exchange>, [u8; SCRAMBLE_BYTES]),
    /// A certificate has proven who it is, and whatever answers our switch of the method is of no interest.
    Waved(Box<Identity>),
    /// Nothing is read any more.
    Over,
}

/// What a client proves with.
#[derive(Debug, Clone, Copy)]
enum Method {
    CachingSha2,
    Ed25519([u8; SCRAMBLE_BYTES]),
    Parsec([u8; SCRAMBLE_BYTES]),
    Native,
    Clear,
}

impl MySqlAccept {
    pub(crate) fn new(context: &AcceptContext) -> Self {
        let learned = learned(context);
        let mut offered = OFFERED | (learned.capabilities & Capabilities::CONVERSATION);
        // Without the one bit a client looks for MariaDB's own.
        offered |= learned.capabilities & Capabilities::LONG_PASSWORD;
        if context.tls != TlsOffer::Unavailable {
            offered |= Capabilities::SSL;
        }
        if context.greeting.compresses {
            offered |= Capabilities::COMPRESS | Capabilities::ZSTD;
        }
        Self {
            context: context.clone(),
            state: State::Fresh,
            old: learned.version.starts_with("5.5.5-"),
            learned,
            offered,
            nonce: [0; NONCE_BYTES],
            sequence: 0,
            tls: None,
            response: None,
            user: String::new(),
            database: None,
            login: None,
            settings: Settings::default(),
            proven: false,
            fast: false,
            again: false,
            fixed: Vec::new(),
        }
    }

    /// Another login of a client that came in this way: `body` is what follows the first byte of its
    /// `COM_CHANGE_USER`.
    pub(super) fn again(doorway: Doorway, body: Zeroizing<Vec<u8>>) -> Self {
        let Doorway { context, tls, agreed, zstd_level, old } = doorway;
        let mut machine = Self::new(&context);
        // Its command was the first packet.
        (machine.state, machine.sequence, machine.again) = (State::Returned(body), 1, true);
        (machine.tls, machine.offered, machine.old) = (tls, agreed, old);
        (machine.settings.capabilities, machine.settings.zstd_level) = (agreed, zstd_level);
        machine
    }

    pub(super) fn into_doorway(self) -> Doorway {
        let Self { mut context, tls, settings, old, .. } = self;
        // Nobody is greeted twice.
        (context.greeting.learned, context.greeting.version) = (Vec::new(), None);
        Doorway { context, tls, agreed: settings.capabilities, zstd_level: settings.zstd_level, old }
    }

    /// The client's wish to be somebody else, which is its answer to a greeting of long ago.
    fn change(&mut self, body: &[u8]) -> Result<AcceptStep, WireError> {
        let ChangeUser { mut response, collation } = ChangeUser::parse(body, self.settings.capabilities)?;
        response.zstd_level = self.settings.zstd_level;
        let step = self.start(response);
        self.settings.collation = collation;
        Ok(step)
    }

    /// The same login again needs the same random bytes.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn fix_random(&mut self, bytes: &[u8]) {
        self.fixed = bytes.to_vec();
    }

    pub(super) fn settings(&self) -> Settings {
        self.settings.clone()
    }

    /// What the client's method waits for ahead of the OK, and the number that the OK has.
    pub(super) fn admit(&self, out: &mut BytesMut) -> u8 {
        if !self.fast {
            return self.sequence;
        }
        packet::put(out, self.sequence, |out| out.put_slice(&FAST_OK));
        self.sequence.wrapping_add(1)
    }

    fn random<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        random(&mut self.fixed)
    }

    /// Clients read it as a text, so no byte is zero; servers leave the dollar sign out as well.
    fn fresh_nonce(&mut self) -> Result<(), WireError> {
        self.nonce = self.random::<NONCE_BYTES>()?.map(|byte| match byte & 0x7f {
            byte @ (0 | b'$') => byte + 1,
            byte => byte,
        });
        Ok(())
    }

    fn put(&mut self, out: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) {
        packet::put(out, self.sequence, body);
        self.sequence = self.sequence.wrapping_add(1);
    }

    fn greet(&mut self, out: &mut BytesMut) -> Result<AcceptStep, WireError> {
        self.fresh_nonce()?;
        let greeting = Greeting {
            version: self.learned.version.clone(),
            thread: self.context.greeting.process,
            nonce: self.nonce,
            capabilities: self.offered,
            collation: self.learned.collation,
            status: self.learned.status,
            plugin: CACHING_SHA2.into(),
        };
        self.put(out, |out| greeting.put(out));
        self.state = State::Greeted;
        Ok(AcceptStep::NeedBytes)
    }

    /// Goes on for as long as there are whole packets.
    fn read(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<AcceptStep, WireError> {
        loop {
            let longest = match &self.state {
                State::Greeted => limits::STARTUP_BYTES_MAX,
                State::Switched(..) | State::Salted(..) | State::Waved(_) => limits::SASL_BYTES_MAX,
                // What came too early stays where it is until it is due, and is then no proof.
                _ => return Ok(AcceptStep::NeedBytes),
            };
            let Some(mut body) = take_packet(input, self.sequence, longest)? else {
                return Ok(AcceptStep::NeedBytes);
            };
            self.sequence = self.sequence.wrapping_add(1);
            let step = self.see(&body, out);
            // It may be the secret itself, and it is where it was read.
            body.as_mut().zeroize();
            if let Some(step) = step? {
                return Ok(step);
            }
        }
    }

    /// Looks at a whole packet.
    fn see(&mut self, body: &[u8], out: &mut BytesMut) -> Result<Option<AcceptStep>, WireError> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Greeted => self.open(body).map(Some),
            State::Switched(exchange, method) => self.answered(exchange, method, body, out),
            State::Salted(exchange, scramble) => self.signed(*exchange, &scramble, body).map(Some),
            State::Waved(identity) => {
                self.fast = self.waits_for_word(body);
                Ok(Some(self.enter(*identity)))
            }
            _ => Ok(None),
        }
    }

    fn open(&mut self, body: &[u8]) -> Result<AcceptStep, WireError> {
        match Opening::parse(body, self.offered)? {
            Opening::Tls(_) if self.tls.is_some() => Err(WireError::new("SSLRequest", "TLS stands already")),
            Opening::Tls(request) => {
                self.settings.capabilities = request.capabilities;
                self.state = State::Handshaking;
                // It waits for no word of ours: what came behind its request is its first record.
                Ok(AcceptStep::StartTls(TlsStart::Direct))
            }
            Opening::Old => Ok(AcceptStep::Refuse(
                Refusal::NotSupported("the protocol before 4.1"),
                "asked for the protocol before 4.1",
            )),
            Opening::Response(response) => Ok(self.start(*response)),
        }
    }

    fn start(&mut self, response: Response) -> AcceptStep {
        self.user = String::from_utf8_lossy(&response.user).into_owned();
        self.database = response.database.as_ref().map(|name| String::from_utf8_lossy(name).into_owned());
        self.login = std::str::from_utf8(&response.user).ok().and_then(|name| LoginName::parse(name).ok());
        self.settings = Settings {
            capabilities: response.request.capabilities,
            collation: response.request.collation.into(),
            attributes: response.attributes.clone(),
            zstd_level: response.zstd_level,
        };
        let has_plugins = response.request.capabilities.has(Capabilities::PLUGIN_AUTH);
        self.response = Some(response);
        if self.context.tls == TlsOffer::Required && self.tls.is_none() {
            // It has sent its answer to our nonce along, which opens nothing without a secret of 128 bits.
            return AcceptStep::Refuse(Refusal::TlsRequired, "did not ask for TLS");
        }
        if !has_plugins {
            return AcceptStep::Refuse(
                Refusal::NotSupported("a client without pluggable authentication"),
                "a client from before 5.5",
            );
        }
        self.state = State::Asking;
        let certificate = self.tls.as_ref().and_then(|tls| tls.certificate.clone());
        let user = self.login.as_ref().map(|login| login.user.clone());
        match (certificate, user) {
            // Who shows a certificate is who it says, or nobody: a secret does not make up for it.
            (Some(certificate), Some(user)) => AcceptStep::Ask(Question::Certificate { user, certificate }),
            (Some(_), None) => AcceptStep::Refuse(Refusal::BadCredentials, "the login name is malformed"),
            (None, _) if self.context.certificate_required => AcceptStep::Refuse(
                Refusal::NotSupported("a login without a client certificate"),
                "no client certificate",
            ),
            (None, user) => AcceptStep::Ask(Question::MySql { user, sent: self.user.clone() }),
        }
    }

    /// The verifiers are here: judges what came with the answer to the greeting, or asks for something else.
    fn judge(&mut self, exchange: Box<Exchange>, out: &mut BytesMut) -> Result<AcceptStep, WireError> {
        let Some(response) = &mut self.response else {
            return Err(WireError::new("login", "an answer to no question"));
        };
        let (proof, plugin) = (std::mem::take(&mut response.proof), response.plugin.clone());
        let method = match &plugin[..] {
            name if name == CACHING_SHA2.as_bytes() && !self.again => {
                return self.check_announced(*exchange, &proof);
            }
            name if name == ED25519.as_bytes() => Method::Ed25519(self.random()?),
            name if name == PARSEC.as_bytes() => Method::Parsec(self.random()?),
            name if name == CLEAR.as_bytes() && self.tls.is_some() => match proof.is_empty() {
                true => Method::Clear,
                false => return self.check_clear(*exchange, &proof),
            },
            name if name == CLEAR.as_bytes() && !proof.is_empty() => {
                return Ok(AcceptStep::Refuse(
                    Refusal::NotSupported("a password in clear outside TLS"),
                    "sent a password in clear outside TLS",
                ));
            }
            // What it has sent along may be of a nonce for another method: clients of that age send nothing then.
            name if name == NATIVE.as_bytes() && self.context.greeting.takes_native => Method::Native,
            _ => Method::CachingSha2,
        };
        self.switch(method, out)?;
        self.state = State::Switched(exchange, method);
        Ok(AcceptStep::NeedBytes)
    }

    /// Asks for a proof by this method.
    fn switch(&mut self, method: Method, out: &mut BytesMut) -> Result<(), WireError> {
        match method {
            Method::CachingSha2 => self.switch_under_nonce(CACHING_SHA2, out)?,
            Method::Native => self.switch_under_nonce(NATIVE, out)?,
            Method::Ed25519(scramble) => self.put(out, |out| greeting::put_switch(out, ED25519, &scramble)),
            Method::Parsec(scramble) => self.put(out, |out| greeting::put_switch(out, PARSEC, &scramble)),
            Method::Clear => self.put(out, |out| greeting::put_switch(out, CLEAR, b"")),
        }
        Ok(())
    }

    fn switch_under_nonce(&mut self, method: &str, out: &mut BytesMut) -> Result<(), WireError> {
        self.fresh_nonce()?;
        let mut data = [0; NONCE_BYTES + 1];
        data[..NONCE_BYTES].copy_from_slice(&self.nonce);
        self.put(out, |out| greeting::put_switch(out, method, &data));
        Ok(())
    }

    /// What a client answered to a switch.
    fn answered(
        &mut self,
        exchange: Box<Exchange>,
        method: Method,
        body: &[u8],
        out: &mut BytesMut,
    ) -> Result<Option<AcceptStep>, WireError> {
        let proven = match method {
            Method::CachingSha2 => return self.check_announced(*exchange, body).map(Some),
            Method::Clear => return self.check_clear(*exchange, body).map(Some),
            Method::Native => exchange.native(&self.nonce, body),
            Method::Ed25519(scramble) => exchange.ed25519(&scramble, body),
            Method::Parsec(scramble) => {
                if !body.is_empty() {
                    return Err(WireError::new("parsec", "words ahead of the salt"));
                }
                let salt = exchange.parsec_ext_salt();
                self.put(out, |out| out.put_slice(&salt));
                self.state = State::Salted(exchange, scramble);
                return Ok(None);
            }
        };
        Ok(Some(self.decide(proven)))
    }

    /// parsec: the client's own bytes, and its signature over ours and them.
    fn signed(&mut self, exchange: Exchange, scramble: &[u8], body: &[u8]) -> Result<AcceptStep, WireError> {
        match body.split_at_checked(SCRAMBLE_BYTES) {
            Some((theirs, signature)) if signature.len() == 64 => {
                let proven = exchange.parsec(scramble, theirs, signature);
                Ok(self.decide(proven))
            }
            _ => Err(WireError::new("parsec", "a signature of a wrong length")),
        }
    }

    fn check_announced(&mut self, exchange: Exchange, proof: &[u8]) -> Result<AcceptStep, WireError> {
        if proof.len() != 32 && !says_nothing(proof) {
            return Err(WireError::new(CACHING_SHA2, "an answer of a wrong length"));
        }
        // A client without a secret sends nothing, or one zero byte; it fails as a wrong one does.
        let proven = exchange.caching_sha2(&self.nonce, proof);
        self.fast = self.takes_words();
        Ok(self.decide(proven))
    }

    /// A client of caching_sha2_password with something to prove waits for a word ahead of the OK; one that has sent
    /// nothing, or one zero byte, does not.
    fn waits_for_word(&self, proof: &[u8]) -> bool {
        !says_nothing(proof) && self.takes_words()
    }

    /// MySQL's Connector/J reads the version of MariaDB 10 (`5.5.5-10.11`) as 5.5.5, and a word in the middle of a
    /// login as servers before 5.5.16 said it, without the byte in front: it takes ours for one that it does not
    /// know. An OK at once it understands.
    fn takes_words(&self) -> bool {
        let names = ("_client_name".to_owned(), "MySQL Connector/J".to_owned());
        !(self.old && self.settings.attributes.contains(&names))
    }

    /// The secret itself, up to its zero byte.
    fn check_clear(&mut self, exchange: Exchange, proof: &[u8]) -> Result<AcceptStep, WireError> {
        let secret = proof.strip_suffix(b"\0").unwrap_or(proof);
        // What is no text is no secret of ours, and costs the same.
        let secret = std::str::from_utf8(secret).unwrap_or_default();
        let proven = exchange.clear(secret);
        Ok(self.decide(proven))
    }

    fn decide(&mut self, proven: Result<Identity, WrongProof>) -> AcceptStep {
        match proven {
            Ok(identity) => self.enter(identity),
            Err(WrongProof) => AcceptStep::Refuse(Refusal::BadCredentials, "wrong secret or unknown user"),
        }
    }

    /// A certificate was good. Where the client's method waits for a word of the server's before it looks for an
    /// OK, it gets one.
    fn wave(&mut self, identity: Identity, out: &mut BytesMut) -> Result<AcceptStep, WireError> {
        let Some(response) = &self.response else {
            return Err(WireError::new("certificate", "an answer to no question"));
        };
        match &response.plugin[..] {
            name if name == CACHING_SHA2.as_bytes() && !self.again => {
                self.fast = self.waits_for_word(&response.proof);
                Ok(self.enter(identity))
            }
            name if name == NATIVE.as_bytes() && !self.again => Ok(self.enter(identity)),
            _ => {
                self.switch(Method::CachingSha2, out)?;
                self.state = State::Waved(Box::new(identity));
                Ok(AcceptStep::NeedBytes)
            }
        }
    }

    /// The proof was right: now, and not before, the rest of the claim is looked at.
    fn enter(&mut self, identity: Identity) -> AcceptStep {
        self.state = State::Over;
        let Some(login) = &self.login else {
            return AcceptStep::Refuse(Refusal::BadCredentials, "the login name is malformed");
        };
        if *identity.user() != login.user {
            return AcceptStep::Refuse(
                Refusal::BadCredentials,
                "proven to be another than the login name says",
            );
        }
        self.proven = true;
        let target = match self.context.target(login, self.tls.as_ref()) {
            Ok(target) => target,
            Err(why) => return AcceptStep::Refuse(Refusal::NotGranted, why),
        };
        if self.database.as_ref().is_some_and(|name| name.chars().count() > limits::MYSQL_NAME_CHARS_MAX) {
            return AcceptStep::Refuse(Refusal::NoDatabase, "a database name longer than any can be");
        }
        let claim = Claim {
            user: login.user.clone(),
            level: login.level.clone(),
            target,
            database: self.database.clone(),
            peer: self.context.peer,
        };
        AcceptStep::Login(Box::new((identity, claim)))
    }
}

/// Random bytes, or those that a test fixed.
pub(super) fn random<const N: usize>(fixed: &mut Vec<u8>) -> Result<[u8; N], WireError> {
    let mut bytes = [0; N];
    if fixed.is_empty() {
        getrandom::fill(&mut bytes).map_err(|_| WireError::new("login", "no random bytes to be had"))?;
    }
    let count = fixed.len().min(N);
    bytes[..count].copy_from_slice(&fixed[..count]);
    fixed.drain(..count);
    Ok(bytes)
}

/// No proof at all, in either way of saying so.
fn says_nothing(proof: &[u8]) -> bool {
    matches!(proof, [] | [0])
}

/// What to greet with: what all servers have that the listener may lead to, under the lowest version. Where some
/// are MySQL's and some MariaDB's, MySQL's.
fn learned(context: &AcceptContext) -> Learned {
    let known = context.greeting.learned.iter().filter_map(|text| Learned::parse(text));
    let shared = known.reduce(|one, other| {
        let capabilities = match (one.is_mariadb(), other.is_mariadb()) {
            (true, true) => one.capabilities & other.capabilities,
            _ => {
                ((one.capabilities & other.capabilities) - Capabilities::MARIADB)
                    | Capabilities::LONG_PASSWORD
            }
        };
        let rank = |learned: &Learned| (learned.is_mariadb(), version(&learned.version));
        let lower = if rank(&one) <= rank(&other) { one } else { other };
        Learned { capabilities, ..lower }
    });
    shared.unwrap_or_else(|| Learned {
        version: context.greeting.version.as_deref().unwrap_or(VERSION).to_owned(),
        capabilities: COMMON | Capabilities::LONG_PASSWORD,
        collation: COLLATION,
        status: status::AUTOCOMMIT,
    })
}

/// The numbers of a version, without what MariaDB 10 puts in front for replicas' sake.
fn version(text: &str) -> [u32; 3] {
    let text = text.strip_prefix("5.5.5-").unwrap_or(text);
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    std::array::from_fn(|_| numbers.next().unwrap_or(0))
}

/// Takes one packet off the front of what a client sent; never a byte more. `None`: not whole yet. What is too
/// long or out of order is refused by its header.
fn take_packet(input: &mut BytesMut, sequence: u8, longest: usize) -> Result<Option<BytesMut>, WireError> {
    const PLACE: &str = "packet of a login";
    let Some(header) = packet::peek(input) else { return Ok(None) };
    if header.sequence != sequence {
        return Err(WireError::new(PLACE, "out of order"));
    }
    if header.length > longest {
        return Err(WireError::new(PLACE, "too long"));
    }
    if input.len() < header.total() {
        return Ok(None);
    }
    let mut body = input.split_to(header.total());
    body.advance(packet::HEADER_BYTES);
    Ok(Some(body))
}

impl Accept for MySqlAccept {
    fn step(&mut self, input: AcceptInput<'_>, out: &mut BytesMut) -> Result<AcceptStep, WireError> {
        match input {
            AcceptInput::Start => match std::mem::replace(&mut self.state, State::Over) {
                State::Fresh => self.greet(out),
                State::Returned(body) => self.change(&body),
                begun => {
                    self.state = begun;
                    Err(WireError::new("login", "it has begun already"))
                }
            },
            AcceptInput::Bytes(input) => self.read(input, out),
            AcceptInput::TlsReady(facts) => {
                if !matches!(self.state, State::Handshaking) {
                    return Err(WireError::new("TLS", "it stands without having been agreed"));
                }
                self.tls = Some(facts.clone());
                self.state = State::Greeted;
                Ok(AcceptStep::NeedBytes)
            }
            AcceptInput::Answer(answer) => {
                if !matches!(self.state, State::Asking) {
                    return Err(WireError::new("login", "an answer to no question"));
                }
                self.state = State::Over;
                match answer {
                    Answer::MySql(exchange) => self.judge(exchange, out),
                    Answer::Certificate(Ok(identity)) => self.wave(identity, out),
                    Answer::Certificate(Err(why)) => Ok(AcceptStep::Refuse(Refusal::BadCredentials, why)),
                    Answer::Scram(_) => Err(WireError::new("login", "an answer to another question")),
                }
            }
        }
    }

    fn refuse(&mut self, refusal: &Refusal, out: &mut BytesMut) {
        // Once the client wants TLS only TLS can be said.
        if !matches!(self.state, State::Handshaking) {
            put_error(out, self.sequence, self.settings.capabilities, refusal);
        }
        self.state = State::Over;
    }

    fn notice(&mut self, _text: &str, _out: &mut BytesMut) -> bool {
        // There is no such packet.
        false
    }

    fn claimed(&self) -> Claimed<'_> {
        self.response.as_ref().map_or_else(Claimed::default, |_| Claimed {
            user: Some(&self.user),
            database: self.database.as_deref(),
            proven: self.proven,
        })
    }

    fn framing(&self) -> Framing {
        let has = |one| self.settings.capabilities.has(one);
        match () {
            // It is framed already.
            () if self.again => Framing::Plain,
            // A client that names both means the older, as servers take it.
            () if has(Capabilities::COMPRESS) => Framing::Zlib,
            () if has(Capabilities::ZSTD) => Framing::Zstd(self.settings.zstd_level),
            () => Framing::Plain,
        }
    }
}
