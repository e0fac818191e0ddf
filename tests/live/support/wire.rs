//! A client that speaks PostgreSQL's protocol by hand, so that it may break its rules.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};

use super::{PATIENCE, client::Told};

/// One message of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub tag: char,
    pub body: Vec<u8>,
}

impl Message {
    /// The field of an ErrorResponse or NoticeResponse: 'C' the code, 'M' the message, …
    pub fn field(&self, name: u8) -> String {
        let fields = self.body.split(|byte| *byte == 0);
        fields
            .filter(|field| field.first() == Some(&name))
            .map(|field| super::text(&field[1..]))
            .next()
            .unwrap_or_default()
    }

    pub fn told(&self) -> Told {
        assert_eq!(self.tag, 'E', "{self:?}");
        Told { code: self.field(b'C'), message: self.field(b'M') }
    }
}

pub struct Wire {
    pub socket: TcpStream,
    /// Of BackendKeyData.
    pub process: u32,
    pub key: Vec<u8>,
    /// ParameterStatus, in the order they came.
    pub parameters: Vec<(String, String)>,
    /// The tags of the answers during login, for comparing refusals.
    pub steps: String,
    /// Notices during login.
    pub notices: Vec<String>,
    /// The server's first SCRAM message.
    pub challenge: String,
}

pub fn packet(tag: char, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag as u8];
    bytes.extend((body.len() as u32 + 4).to_be_bytes());
    bytes.extend(body);
    bytes
}

/// `name` and `value` strings, zero-terminated, behind a protocol version.
pub fn startup_packet(version: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for (name, value) in parameters {
        body.extend([name.as_bytes(), &[0], value.as_bytes(), &[0]].concat());
    }
    body.push(0);
    [&(body.len() as u32 + 4).to_be_bytes()[..], &body].concat()
}

pub const VERSION_3: u32 = 196_608;
pub const SSL_REQUEST: u32 = 80_877_103;
pub const GSSENC_REQUEST: u32 = 80_877_104;
pub const CANCEL_REQUEST: u32 = 80_877_102;

pub fn string(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

impl Wire {
    pub fn connect(port: u16) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", port)).expect("the listener accepts");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        socket.set_write_timeout(Some(PATIENCE)).expect("a time limit");
        socket.set_nodelay(true).expect("no delay");
        Self {
            socket,
            process: 0,
            key: Vec::new(),
            parameters: Vec::new(),
            steps: String::new(),
            challenge: String::new(),
            notices: Vec::new(),
        }
    }

    /// Logs in; gives the refusal where there is one, and what was seen up to it.
    pub fn login(
        port: u16,
        user: &str,
        password: &str,
        parameters: &[(&str, &str)],
    ) -> Result<Self, Box<(Told, Self)>> {
        Self::connect(port).log_in(VERSION_3, user, password, parameters)
    }

    /// The same on a connection that stands, in this version.
    pub fn log_in(
        mut self,
        version: u32,
        user: &str,
        password: &str,
        parameters: &[(&str, &str)],
    ) -> Result<Self, Box<(Told, Self)>> {
        let parameters = [&[("user", user)], parameters].concat();
        self.send(&startup_packet(version, &parameters));
        match self.authenticate(password) {
            Ok(()) => Ok(self),
            Err(told) => Err(Box::new((told, self))),
        }
    }

    fn authenticate(&mut self, password: &str) -> Result<(), Told> {
        let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        loop {
            let message = self.read().unwrap_or_else(|error| panic!("closed during login: {error}"));
            self.steps.push(message.tag);
            match message.tag {
                'R' => {
                    let kind = u32::from_be_bytes(message.body[..4].try_into().expect("four bytes"));
                    self.steps.push_str(&kind.to_string());
                    let data = &message.body[4..];
                    match kind {
                        0 => {}
                        10 => {
                            let first = scram.message();
                            let body =
                                [&string("SCRAM-SHA-256")[..], &(first.len() as u32).to_be_bytes(), first];
                            self.send(&packet('p', &body.concat()));
                        }
                        11 => {
                            self.challenge = super::text(data);
                            scram.update(data).expect("a SCRAM challenge");
                            self.send(&packet('p', scram.message()));
                        }
                        12 => scram.finish(data).expect("the server's own proof"),
                        other => panic!("authentication request {other}"),
                    }
                }
                'S' => {
                    let mut strings = message.body.split(|byte| *byte == 0).map(super::text);
                    let pair = (strings.next().unwrap_or_default(), strings.next().unwrap_or_default());
                    self.parameters.push(pair);
                }
                'K' => {
                    self.process = u32::from_be_bytes(message.body[..4].try_into().expect("four bytes"));
                    self.key = message.body[4..].to_vec();
                }
                'E' => return Err(message.told()),
                'N' => self.notices.push(message.field(b'M')),
                'v' => {}
                'Z' => return Ok(()),
                other => panic!("{other} during login"),
            }
        }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).expect("the proxy reads");
    }

    /// For input after which the proxy may close at any moment.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)
    }

    pub fn query(&mut self, sql: &str) {
        self.send(&packet('Q', &string(sql)));
    }

    pub fn read(&mut self) -> io::Result<Message> {
        let mut head = [0; 5];
        self.socket.read_exact(&mut head)?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let mut body = vec![0; length.checked_sub(4).ok_or(io::ErrorKind::InvalidData)?];
        self.socket.read_exact(&mut body)?;
        Ok(Message { tag: head[0] as char, body })
    }

    /// Reads up to and with ReadyForQuery.
    pub fn until_ready(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        loop {
            let message = self.read().unwrap_or_else(|error| panic!("{error} after {messages:?}"));
            let ready = message.tag == 'Z';
            messages.push(message);
            if ready {
                return messages;
            }
        }
    }

    /// Reads to the end of the connection: the messages until then, and whether it ended in good order (FIN).
    pub fn until_closed(&mut self) -> (Vec<Message>, bool) {
        let mut messages = Vec::new();
        loop {
            match self.read() {
                Ok(message) => messages.push(message),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return (messages, true),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return (messages, false),
                Err(error) => panic!("the proxy does not close: {error} after {messages:?}"),
            }
        }
    }

    /// The tags of the messages up to ReadyForQuery.
    pub fn tags(&mut self) -> String {
        self.until_ready().iter().map(|message| message.tag).collect()
    }

    /// Vanishes with a reset, as a process that is killed with unread data, or a firewall, does.
    pub fn reset(self) {
        socket2::SockRef::from(&self.socket).set_linger(Some(Duration::ZERO)).expect("linger");
        drop(self.socket);
    }

    /// Vanishes with a FIN and no goodbye.
    pub fn vanish(self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    pub fn goodbye(mut self) {
        let _ = self.try_send(&packet('X', &[]));
        let _ = self.until_closed();
    }
}

/// Sends a CancelRequest and waits until the proxy closes; it never answers.
pub fn cancel(port: u16, process: u32, key: &[u8]) {
    let mut wire = Wire::connect(port);
    let body = [&CANCEL_REQUEST.to_be_bytes()[..], &process.to_be_bytes(), key].concat();
    let _ = wire.try_send(&[&(body.len() as u32 + 4).to_be_bytes()[..], &body].concat());
    let mut rest = Vec::new();
    let _ = wire.socket.read_to_end(&mut rest);
    assert!(rest.is_empty(), "a cancel request was answered with {rest:?}");
}
