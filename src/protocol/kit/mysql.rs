//! MySQL's machines for the tests and the fuzz targets, and a client and a server that behave, each by one method
//! of authentication. Of a target's data the first two bytes choose how a machine is set up and how its input is
//! cut, the rest is what the peer sends.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};

use bytes::{BufMut, BytesMut};
use zeroize::Zeroizing;

use super::postgres::{certificate, lenient};
use super::{RIGHT, check, contains};
use crate::credential::mysql::{
    Candidate, Exchange, PARSEC_SALT_BYTES, answer_caching_sha2, answer_ed25519, answer_native,
    answer_parsec, under_nonce,
};
use crate::credential::{Keys, Secret, by_certificate, testing};
use crate::model::{Name, Time};
use crate::protocol::mysql::greeting::{self, Greeting, Opening, Request, Response};
use crate::protocol::mysql::{Capabilities, Goal, Learned, MySqlAccept, MySqlDial, packet};
use crate::protocol::session::{AcceptContext, Answer, DialTls, DialTlsFacts, Question, TlsFacts, TlsOffer};

/// The methods that a client may begin with.
pub const CLIENT_METHODS: [&str; 6] = [
    "caching_sha2_password",
    "client_ed25519",
    "parsec",
    "mysql_clear_password",
    "mysql_native_password",
    "sha256_password",
];
/// The methods that a server may have for an account.
pub const SERVER_METHODS: [&str; 6] = CLIENT_METHODS;

/// What stands for random bytes of the machines.
pub const RANDOM: [u8; 128] = [b'r'; 128];
/// A peer's.
const PEER_RANDOM: [u8; 32] = [b'p'; 32];
const SALT: [u8; PARSEC_SALT_BYTES] = [7; PARSEC_SALT_BYTES];

static SECRET: LazyLock<Secret> = LazyLock::new(|| secret("tg_secret"));
/// Of alice.
static KNOWN: LazyLock<Option<(Arc<Keys>, Candidate)>> =
    LazyLock::new(|| testing::mysql_candidate(&Name::parse("alice").ok()?, "tg_secret"));

pub fn secret(password: &str) -> Secret {
    Secret::new("alice".into(), Zeroizing::new(password.into()), 1)
}

/// Knows alice, whose secret is `tg_secret`, and nobody else.
pub fn answer(question: Question) -> Answer {
    let (user, sent) = match question {
        Question::MySql { user, sent } => (user, sent),
        Question::Scram { user, sent } => (user, sent),
        Question::Certificate { user, certificate } => {
            return Answer::Certificate(by_certificate(&certificate, &user, Time::UNIX_EPOCH));
        }
    };
    let (keys, candidate) = match &*KNOWN {
        Some((keys, candidate)) => (keys.clone(), Some(candidate.clone())),
        None => (Arc::new(Keys::new(&[0; 32])), None),
    };
    let is_alice = user.as_ref().is_some_and(|user| user.as_str() == "alice");
    let candidates = candidate.filter(|_| is_alice).into_iter().collect();
    Answer::MySql(Box::new(Exchange::new(user, &sent, candidates, keys)))
}

/// The packets in these bytes: number and payload.
pub fn packets(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let mut packets = Vec::new();
    while let Some(header) = packet::peek(bytes) {
        let Some((whole, rest)) = bytes.split_at_checked(header.total()) else { break };
        packets.push((header.sequence, &whole[packet::HEADER_BYTES..]));
        bytes = rest;
    }
    packets
}

/// One packet.
pub fn packet(sequence: u8, body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    packet::put(&mut out, sequence, |out| out.put_slice(body));
    out.to_vec()
}

/// A client that behaves.
pub struct Client {
    pub user: Vec<u8>,
    pub secret: Secret,
    /// The method that it begins with; it follows every switch.
    pub method: &'static str,
    pub capabilities: Capabilities,
    pub database: Option<Vec<u8>>,
    pub attributes: Vec<(String, String)>,
    greeting: Option<Greeting>,
    /// It has asked for TLS.
    asked: bool,
    scramble: [u8; 32],
}

impl Client {
    pub fn new(user: &str, password: &str, method: &'static str) -> Self {
        Self {
            user: user.into(),
            secret: secret(password),
            method,
            capabilities: Capabilities::ALWAYS
                | Capabilities::LONG_PASSWORD
                | Capabilities::CONNECT_ATTRS
                | Capabilities::PLUGIN_AUTH_LENENC
                | Capabilities::MULTI_STATEMENTS
                | Capabilities::DEPRECATE_EOF,
            database: None,
            attributes: vec![("_client_name".into(), "kit".into())],
            greeting: None,
            asked: false,
            scramble: [0; 32],
        }
    }

    pub fn with_tls(mut self) -> Self {
        self.capabilities |= Capabilities::SSL;
        self
    }

    /// What it says to the last packet of these. An empty answer where there is none.
    pub fn answer(&mut self, said: &[u8]) -> Vec<u8> {
        let Some((sequence, body)) = packets(said).pop() else {
            // TLS stands, about which nothing is said.
            return if self.asked { self.respond(2) } else { Vec::new() };
        };
        let next = sequence.wrapping_add(1);
        if self.greeting.is_none() {
            let Ok(greeting) = Greeting::parse(body) else { return Vec::new() };
            let offered = greeting.capabilities;
            self.greeting = Some(greeting);
            if self.capabilities.has(Capabilities::SSL) && offered.has(Capabilities::SSL) {
                self.asked = true;
                let mut out = BytesMut::new();
                packet::put(&mut out, next, |out| self.request().put(out));
                return out.to_vec();
            }
            return self.respond(next);
        }
        let answer = match body.split_first() {
            Some((&packet::EOF, rest)) => match greeting::switch(rest) {
                Some((method, data)) => self.prove(method, data),
                None => Vec::new(),
            },
            Some((b'P', _)) => {
                let power = u32::from(body.get(1).copied().unwrap_or(0) & 3);
                let salt = body.get(2..).and_then(|salt| salt.try_into().ok()).unwrap_or(SALT);
                let scrambles = [&self.scramble, &PEER_RANDOM];
                let signature = answer_parsec(&self.secret, &salt, 1_024 << power, scrambles);
                [&PEER_RANDOM[..], &signature].concat()
            }
            _ => Vec::new(),
        };
        packet(next, &answer)
    }

    /// What it would prove with by its method, had it just been greeted.
    pub fn proof_of_greeting(&mut self) -> Vec<u8> {
        let nonce = self.greeting.as_ref().map(|greeting| greeting.nonce).unwrap_or_default();
        match self.method {
            // They speak second.
            "client_ed25519" | "parsec" => Vec::new(),
            method => self.prove(method.as_bytes(), &nonce),
        }
    }

    fn request(&self) -> Request {
        Request { capabilities: self.capabilities, packet_bytes: 1 << 24, collation: 45 }
    }

    fn respond(&mut self, sequence: u8) -> Vec<u8> {
        let proof = self.proof_of_greeting();
        let mut request = self.request();
        if self.database.is_some() {
            request.capabilities |= Capabilities::CONNECT_WITH_DB;
        }
        let response = Response {
            request,
            user: self.user.clone(),
            proof: proof.into(),
            database: self.database.clone(),
            plugin: self.method.into(),
            attributes: self.attributes.clone(),
            zstd_level: 3,
        };
        let mut out = BytesMut::new();
        packet::put(&mut out, sequence, |out| response.put(out));
        out.to_vec()
    }

    fn prove(&mut self, method: &[u8], data: &[u8]) -> Vec<u8> {
        let password = self.secret.password().to_owned();
        let nonce = data.get(..20).unwrap_or(data);
        if password.is_empty() {
            return Vec::new();
        }
        match method {
            b"caching_sha2_password" => answer_caching_sha2(&password, nonce).to_vec(),
            b"mysql_native_password" => answer_native(&password, nonce).to_vec(),
            b"client_ed25519" => answer_ed25519(&password, data).to_vec(),
            b"parsec" => {
                self.scramble = data.try_into().unwrap_or_default();
                Vec::new()
            }
            _ => [password.as_bytes(), b"\0"].concat(),
        }
    }
}

/// A server that behaves, with one account: alice's.
pub struct Server {
    pub password: String,
    /// The account's.
    pub method: &'static str,
    /// What its greeting names.
    pub announced: &'static str,
    pub capabilities: Capabilities,
    pub version: &'static str,
    /// Whether caching_sha2_password knows the password since somebody has logged in.
    pub cached: bool,
    greeted: bool,
    nonce: [u8; 20],
    state: ServerState,
}

enum ServerState {
    Response,
    Switched,
    Full,
    Key,
    Signature,
    In,
}

/// What stands for a key; the driver seals nothing.
pub const KEY: &[u8] = b"-----BEGIN PUBLIC KEY-----";

impl Server {
    pub fn new(password: &str, method: &'static str) -> Self {
        Self {
            password: password.into(),
            method,
            announced: "mysql_native_password",
            capabilities: Capabilities(0xffff_ffff) - Capabilities::COMPRESS,
            version: "9.7.4",
            cached: true,
            greeted: false,
            nonce: [b'n'; 20],
            state: ServerState::Response,
        }
    }

    /// What it says to the last packet of these.
    pub fn answer(&mut self, said: &[u8]) -> Vec<u8> {
        if !std::mem::replace(&mut self.greeted, true) {
            return self.greet();
        }
        let Some((sequence, body)) = packets(said).pop() else { return Vec::new() };
        let next = sequence.wrapping_add(1);
        match self.state {
            ServerState::Response => {
                let Ok(Opening::Response(response)) = Opening::parse(body, self.capabilities) else {
                    return packet(next, b"\xff\x13\x04malformed");
                };
                let speaks_first = !matches!(self.method, "client_ed25519" | "parsec");
                if speaks_first && response.plugin == self.method.as_bytes() {
                    return self.judge(next, &response.proof);
                }
                self.state = ServerState::Switched;
                let data = match self.method {
                    "client_ed25519" | "parsec" => PEER_RANDOM.to_vec(),
                    _ => [&self.nonce[..], b"\0"].concat(),
                };
                let mut out = BytesMut::new();
                packet::put(&mut out, next, |out| greeting::put_switch(out, self.method, &data));
                out.to_vec()
            }
            ServerState::Switched => self.judge(next, body),
            ServerState::Full if body.len() == 1 => {
                self.state = ServerState::Key;
                packet(next, &[b"\x01", KEY].concat())
            }
            ServerState::Full => self.end(next, body == [self.password.as_bytes(), b"\0"].concat()),
            ServerState::Key => self.end(next, body == under_nonce(&self.password, &self.nonce).as_slice()),
            ServerState::Signature => {
                let (theirs, signature) = body.split_at_checked(32).unwrap_or((b"", b""));
                let right = theirs.try_into().is_ok_and(|theirs: &[u8; 32]| {
                    answer_parsec(&secret(&self.password), &SALT, 2_048, [&PEER_RANDOM, theirs]) == signature
                });
                self.end(next, right)
            }
            // Whatever it is told, it is done.
            ServerState::In => packet(next, b"\0\0\0\x02\0\0\0"),
        }
    }

    fn greet(&self) -> Vec<u8> {
        let greeting = Greeting {
            version: self.version.into(),
            thread: 7,
            nonce: self.nonce,
            capabilities: self.capabilities,
            collation: 45,
            status: 2,
            plugin: self.announced.into(),
        };
        let mut out = BytesMut::new();
        packet::put(&mut out, 0, |out| greeting.put(out));
        out.to_vec()
    }

    fn judge(&mut self, next: u8, proof: &[u8]) -> Vec<u8> {
        match self.method {
            "caching_sha2_password" if !self.cached => {
                self.state = ServerState::Full;
                packet(next, b"\x01\x04")
            }
            "caching_sha2_password" if proof == answer_caching_sha2(&self.password, &self.nonce) => {
                [packet(next, b"\x01\x03"), self.end(next.wrapping_add(1), true)].concat()
            }
            "mysql_native_password" => self.end(next, proof == answer_native(&self.password, &self.nonce)),
            "client_ed25519" => self.end(next, proof == answer_ed25519(&self.password, &PEER_RANDOM)),
            "parsec" => {
                self.state = ServerState::Signature;
                packet(next, &[b"P\x01", &SALT[..]].concat())
            }
            "sha256_password" if proof == b"\x01" => {
                self.state = ServerState::Key;
                packet(next, &[b"\x01", KEY].concat())
            }
            "sha256_password" | "mysql_clear_password" => {
                self.end(next, proof == [self.password.as_bytes(), b"\0"].concat())
            }
            _ => self.end(next, false),
        }
    }

    fn end(&mut self, next: u8, right: bool) -> Vec<u8> {
        self.state = ServerState::In;
        match right {
            true => packet(next, b"\0\0\0\x02\0\0\0"),
            false => packet(next, b"\xff\x15\x04#28000Access denied for user 'alice'@'localhost'"),
        }
    }
}

/// One login of a client.
pub fn accept(data: &[u8]) -> String {
    check(data, &mut |setup, turns, cut| {
        let mut context = AcceptContext {
            target: (setup & 4 != 0).then(|| Name::parse("orders").ok()).flatten(),
            certificate_required: setup & 128 != 0,
            ..AcceptContext::new(
                None,
                IpAddr::V4(Ipv4Addr::LOCALHOST),
                [TlsOffer::Unavailable, TlsOffer::Optional, TlsOffer::Required][usize::from(setup & 3) % 3],
            )
        };
        context.greeting.process = 7;
        if setup & 8 != 0 {
            let capabilities = Capabilities::ALWAYS | Capabilities::CONVERSATION;
            let version = "11.8.9-MariaDB".into();
            let learned = Learned { version, capabilities, collation: 45, status: 2 };
            context.greeting.learned.push(learned.to_text().into());
        }
        let tls = TlsFacts { certificate: (setup & 64 != 0).then(certificate), ..TlsFacts::default() };
        let mut machine = MySqlAccept::new(&context);
        machine.fix_random(&RANDOM);
        let mut client = Client::new("alice", "tg_secret", CLIENT_METHODS[usize::from(setup >> 4) % 4]);
        if setup & 1 != 0 {
            client = client.with_tls();
        }
        let mut turns = turns.into_iter();
        let mut peer = |said: &[u8]| {
            let right = client.answer(said);
            turns.next().map(|turn| if turn == RIGHT { right } else { turn })
        };
        let outcome = super::accept_with(&mut machine, &tls, &mut peer, cut, &mut answer);
        let says_ok =
            packets(&outcome.said).iter().skip(1).any(|(_, body)| body.first() == Some(&packet::OK));
        assert!(!says_ok, "OK without an admission");
        assert!(!contains(&outcome.said, b"tg_secret"), "the secret is said");
        outcome
    })
}

/// One attempt at a server.
pub fn dial(data: &[u8]) -> String {
    check(data, &mut |setup, turns, cut| {
        let tls = [DialTls::Without, DialTls::Try, DialTls::Demand, DialTls::Direct][usize::from(setup & 3)];
        let database = if setup & 4 == 0 { "shop" } else { "" };
        let goal = Goal { database: database.into(), flavour: String::new() };
        let way = if setup & 0x80 == 0 { lenient(tls) } else { tls.into() };
        let mut machine = MySqlDial::towards(goal, way, &SECRET);
        machine.fix_random(&RANDOM);
        let mut server = Server::new("tg_secret", SERVER_METHODS[usize::from(setup >> 3 & 7) % 6]);
        server.cached = setup & 0x40 == 0;
        let mut turns = turns.into_iter();
        let mut peer = |said: &[u8]| {
            let right = server.answer(said);
            turns.next().map(|turn| if turn == RIGHT { right } else { turn })
        };
        let facts = DialTlsFacts { verified: setup & 0x80 != 0, end_point: None };
        super::dial_inside(&mut machine, &mut peer, cut, &facts).0
    })
}
