//! A client that speaks MySQL's protocol by hand, so that it may stop anywhere and break its rules.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustls::pki_types::ServerName;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::support::{PATIENCE, Told, text, tls};

/// Capabilities by their names in the protocol's documents.
pub mod flag {
    pub const LONG_PASSWORD: u32 = 1;
    pub const FOUND_ROWS: u32 = 1 << 1;
    pub const CONNECT_WITH_DB: u32 = 1 << 3;
    pub const COMPRESS: u32 = 1 << 5;
    pub const LOCAL_FILES: u32 = 1 << 7;
    pub const PROTOCOL_41: u32 = 1 << 9;
    pub const SSL: u32 = 1 << 11;
    pub const TRANSACTIONS: u32 = 1 << 13;
    pub const SECURE_CONNECTION: u32 = 1 << 15;
    pub const MULTI_STATEMENTS: u32 = 1 << 16;
    pub const MULTI_RESULTS: u32 = 1 << 17;
    pub const PS_MULTI_RESULTS: u32 = 1 << 18;
    pub const PLUGIN_AUTH: u32 = 1 << 19;
    pub const CONNECT_ATTRS: u32 = 1 << 20;
    pub const PLUGIN_AUTH_LENENC: u32 = 1 << 21;
    pub const SESSION_TRACK: u32 = 1 << 23;
    pub const DEPRECATE_EOF: u32 = 1 << 24;
    pub const QUERY_ATTRIBUTES: u32 = 1 << 27;
}

pub mod command {
    pub const QUIT: u8 = 1;
    pub const INIT_DB: u8 = 2;
    pub const QUERY: u8 = 3;
    pub const FIELD_LIST: u8 = 4;
    pub const REFRESH: u8 = 7;
    pub const SHUTDOWN: u8 = 8;
    pub const STATISTICS: u8 = 9;
    pub const PROCESS_KILL: u8 = 12;
    pub const DEBUG: u8 = 13;
    pub const PING: u8 = 14;
    pub const CHANGE_USER: u8 = 17;
    pub const BINLOG_DUMP: u8 = 18;
    pub const REGISTER_SLAVE: u8 = 21;
    pub const STMT_PREPARE: u8 = 22;
    pub const STMT_EXECUTE: u8 = 23;
    pub const STMT_SEND_LONG_DATA: u8 = 24;
    pub const STMT_CLOSE: u8 = 25;
    pub const STMT_RESET: u8 = 26;
    pub const SET_OPTION: u8 = 27;
    pub const STMT_FETCH: u8 = 28;
    pub const RESET_CONNECTION: u8 = 31;
}

/// What ordinary drivers ask for.
pub const USUAL: u32 = flag::LONG_PASSWORD
    | flag::PROTOCOL_41
    | flag::TRANSACTIONS
    | flag::SECURE_CONNECTION
    | flag::MULTI_STATEMENTS
    | flag::MULTI_RESULTS
    | flag::PS_MULTI_RESULTS
    | flag::PLUGIN_AUTH
    | flag::PLUGIN_AUTH_LENENC;

/// More results follow.
const MORE_RESULTS: u16 = 8;
const CURSOR_EXISTS: u16 = 0x40;

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<rustls::StreamOwned<rustls::ClientConnection, TcpStream>>),
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(into),
            Self::Unix(stream) => stream.read(into),
            // What closes without TLS's goodbye closes all the same.
            Self::Tls(stream) => match stream.read(into) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
                other => other,
            },
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.flush(),
            Self::Unix(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// What a server says first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Greeting {
    pub version: String,
    pub connection: u32,
    pub capabilities: u32,
    /// The upper half, of MariaDB only.
    pub extended: u32,
    pub collation: u8,
    pub status: u16,
    pub plugin: String,
    nonce: Vec<u8>,
}

/// How somebody logs in.
#[derive(Clone, Default)]
pub struct Login<'a> {
    pub user: &'a str,
    pub password: &'a str,
    pub database: Option<&'a str>,
    /// On top of, and out of, the usual ones.
    pub more: u32,
    pub less: u32,
    pub tls: bool,
    /// The plugin that is named, and answered by.
    pub plugin: &'a str,
    pub attributes: &'a [(&'a str, &'a str)],
}

/// How many bytes of a packet are before its payload.
pub const HEAD: usize = 4;

pub struct Wire {
    stream: Stream,
    pub greeting: Greeting,
    pub capabilities: u32,
    sequence: u8,
    /// The number of the next compressed packet, and what is left of one that came.
    compressed: Option<(u8, Vec<u8>)>,
    /// What the server asked for during login, for comparing refusals.
    pub steps: String,
}

/// One answer of the server to a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Done { affected: u64, last: u64, warnings: u16 },
    Rows { columns: Vec<String>, rows: Vec<Vec<Option<String>>> },
    Failed(Told),
}

/// A packet with its head, split where it must be.
pub fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(payload.len() + HEAD);
    let mut sequence = sequence;
    let mut rest = payload;
    loop {
        let (now, behind) = rest.split_at(rest.len().min(0xff_ffff));
        bytes.extend(&(now.len() as u32).to_le_bytes()[..3]);
        bytes.push(sequence);
        bytes.extend(now);
        if now.len() < 0xff_ffff {
            return bytes;
        }
        sequence = sequence.wrapping_add(1);
        rest = behind;
    }
}

/// A command as it is sent.
pub fn say(command: u8, body: &[u8]) -> Vec<u8> {
    packet(0, &[&[command], body].concat())
}

pub fn lenenc(number: u64) -> Vec<u8> {
    match number {
        0..=250 => vec![number as u8],
        251..=0xffff => [&[0xfc][..], &(number as u16).to_le_bytes()].concat(),
        0x1_0000..=0xff_ffff => [&[0xfd][..], &(number as u32).to_le_bytes()[..3]].concat(),
        _ => [&[0xfe][..], &number.to_le_bytes()].concat(),
    }
}

pub fn lenenc_string(text: &[u8]) -> Vec<u8> {
    [&lenenc(text.len() as u64)[..], text].concat()
}

/// Takes numbers and texts off the front of a payload.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (now, rest) = self.0.split_at(count);
        self.0 = rest;
        now
    }

    pub fn number(&mut self, bytes: usize) -> u64 {
        let mut all = [0; 8];
        all[..bytes].copy_from_slice(self.take(bytes));
        u64::from_le_bytes(all)
    }

    pub fn lenenc(&mut self) -> u64 {
        match self.number(1) {
            0xfc => self.number(2),
            0xfd => self.number(3),
            0xfe => self.number(8),
            small => small,
        }
    }

    pub fn string(&mut self) -> String {
        let length = self.lenenc() as usize;
        text(self.take(length))
    }

    pub fn until_nul(&mut self) -> &'a [u8] {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(self.0.len());
        let now = self.take(end);
        self.0 = self.0.get(1..).unwrap_or_default();
        now
    }
}

fn inflated(bytes: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    flate2::read::ZlibDecoder::new(bytes).read_to_end(&mut whole).expect("zlib's form");
    whole
}

fn sha256(parts: &[&[u8]]) -> Vec<u8> {
    Sha256::digest(parts.concat()).to_vec()
}

fn sha1(parts: &[&[u8]]) -> Vec<u8> {
    Sha1::digest(parts.concat()).to_vec()
}

fn xor(one: &[u8], other: &[u8]) -> Vec<u8> {
    one.iter().zip(other).map(|(one, other)| one ^ other).collect()
}

/// The proof that a plugin wants to see of a password, without a round trip of its own.
pub fn proof(plugin: &str, password: &str, nonce: &[u8]) -> Vec<u8> {
    let password = password.as_bytes();
    match plugin {
        _ if password.is_empty() => Vec::new(),
        "caching_sha2_password" => {
            let once = sha256(&[password]);
            xor(&once, &sha256(&[&sha256(&[&once]), nonce]))
        }
        "mysql_native_password" => {
            let once = sha1(&[password]);
            xor(&once, &sha1(&[nonce, &sha1(&[&once])]))
        }
        "mysql_clear_password" => [password, &[0]].concat(),
        other => panic!("the hand-made client knows no {other}"),
    }
}

/// Of an ERR packet: its number and its words. Ahead of the client's first word there is no SQLSTATE.
pub fn told(payload: &[u8]) -> Told {
    let mut reader = Reader(payload);
    assert_eq!(reader.number(1), 0xff, "no error: {payload:?}");
    let code = reader.number(2).to_string();
    if reader.0.first() == Some(&b'#') {
        reader.take(6);
    }
    Told { code, message: text(reader.0) }
}

impl Wire {
    /// Has a connection and has read the greeting, or the refusal that came in its place.
    pub fn connect(port: u16) -> Result<Self, Told> {
        let socket = TcpStream::connect(("127.0.0.1", port)).expect("the listener accepts");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        socket.set_write_timeout(Some(PATIENCE)).expect("a time limit");
        socket.set_nodelay(true).expect("no delay");
        Self::greeted(Stream::Tcp(socket))
    }

    fn greeted(stream: Stream) -> Result<Self, Told> {
        let mut wire = Self {
            stream,
            greeting: Greeting::default(),
            capabilities: 0,
            sequence: 0,
            compressed: None,
            steps: String::new(),
        };
        let payload = wire.read().unwrap_or_else(|error| panic!("closed ahead of a greeting: {error}"));
        if payload[0] == 0xff {
            return Err(told(&payload));
        }
        wire.greeting = greeting(&payload);
        Ok(wire)
    }

    pub fn login(port: u16, login: &Login<'_>) -> Result<Self, Box<(Told, Option<Self>)>> {
        match Self::connect(port) {
            Ok(wire) => wire.log_in(login).map_err(|refused| Box::new((refused.0, Some(refused.1)))),
            Err(told) => Err(Box::new((told, None))),
        }
    }

    /// As root, around everything.
    pub fn root(socket: &Path) -> Result<Self, Told> {
        let stream = UnixStream::connect(socket)
            .map_err(|error| Told { code: String::new(), message: error.to_string() })?;
        stream.set_read_timeout(Some(PATIENCE * 2)).expect("a time limit");
        let login = Login { user: "root", ..Login::default() };
        Self::greeted(Stream::Unix(stream))?.log_in(&login).map_err(|refused| refused.0)
    }

    pub fn log_in(mut self, login: &Login<'_>) -> Result<Self, Box<(Told, Self)>> {
        let plugin = match login.plugin {
            "" => self.greeting.plugin.clone(),
            named => named.to_owned(),
        };
        let response = self.response(login, &plugin);
        if login.tls {
            self = self.start_tls(login);
        }
        self.send_next(&response);
        match self.authenticate(login.password, plugin) {
            Ok(()) => {
                if self.capabilities & flag::COMPRESS != 0 {
                    self.compressed = Some((0, Vec::new()));
                }
                Ok(self)
            }
            Err(told) => Err(Box::new((told, self))),
        }
    }

    /// Says what it can, and goes on within TLS.
    pub fn start_tls(mut self, login: &Login<'_>) -> Self {
        let head = self.head(self.wanted(login));
        self.send_next(&head);
        let Stream::Tcp(socket) = self.stream else { panic!("TLS is for TCP") };
        let name = ServerName::try_from("localhost").expect("a name");
        let connection = rustls::ClientConnection::new(tls::client_config(tls::authority()), name);
        let connection = connection.expect("a configuration");
        Self { stream: Stream::Tls(Box::new(rustls::StreamOwned::new(connection, socket))), ..self }
    }

    fn wanted(&self, login: &Login<'_>) -> u32 {
        let mut wanted = (USUAL | login.more) & !login.less;
        wanted |= if login.database.is_some() { flag::CONNECT_WITH_DB } else { 0 };
        wanted |= if login.attributes.is_empty() { 0 } else { flag::CONNECT_ATTRS };
        wanted |= if login.tls { flag::SSL } else { 0 };
        wanted
    }

    fn head(&self, capabilities: u32) -> Vec<u8> {
        let collation = 45; // utf8mb4_general_ci
        [&capabilities.to_le_bytes()[..], &0x0100_0000u32.to_le_bytes(), &[collation], &[0; 23]].concat()
    }

    /// The whole answer to the greeting.
    pub fn response(&mut self, login: &Login<'_>, plugin: &str) -> Vec<u8> {
        self.capabilities = self.wanted(login);
        // A password in clear is sent when it is asked for.
        let proof = match plugin {
            "mysql_clear_password" | "sha256_password" => Vec::new(),
            _ => proof(plugin, login.password, &self.greeting.nonce),
        };
        let mut bytes = self.head(self.capabilities);
        bytes.extend([login.user.as_bytes(), &[0]].concat());
        bytes.extend(lenenc_string(&proof));
        if let Some(database) = login.database {
            bytes.extend([database.as_bytes(), &[0]].concat());
        }
        if self.capabilities & flag::PLUGIN_AUTH != 0 {
            bytes.extend([plugin.as_bytes(), &[0]].concat());
        }
        if !login.attributes.is_empty() {
            let pairs = login.attributes.iter();
            let pairs: Vec<u8> = pairs
                .flat_map(|(name, value)| {
                    [lenenc_string(name.as_bytes()), lenenc_string(value.as_bytes())].concat()
                })
                .collect();
            bytes.extend(lenenc_string(&pairs));
        }
        bytes
    }

    fn authenticate(&mut self, password: &str, mut plugin: String) -> Result<(), Told> {
        loop {
            let payload = self.read().unwrap_or_else(|error| panic!("closed during login: {error}"));
            match payload[0] {
                0 => return Ok(()),
                0xff => {
                    self.steps.push('E');
                    return Err(told(&payload));
                }
                0xfe => {
                    let mut reader = Reader(&payload[1..]);
                    plugin = text(reader.until_nul());
                    self.steps.push_str(&format!("S{plugin} "));
                    let nonce = reader.until_nul().to_vec();
                    let answer = proof(&plugin, password, &nonce);
                    self.greeting.nonce = nonce;
                    self.send_next(&answer);
                }
                1 => {
                    self.steps.push_str(&format!("M{} ", payload.get(1).copied().unwrap_or_default()));
                    match (&plugin[..], &payload[1..]) {
                        ("caching_sha2_password", [3]) => {}
                        ("caching_sha2_password", [4]) => {
                            assert!(
                                !matches!(self.stream, Stream::Tcp(_)),
                                "a password is asked for in clear"
                            );
                            self.send_next(&[password.as_bytes(), &[0]].concat());
                        }
                        _ => panic!("{plugin} goes on with {payload:?}"),
                    }
                }
                other => panic!("{other} during login"),
            }
        }
    }

    /// Becomes somebody else. What it sends along is a proof under the first nonce.
    pub fn change_user(&mut self, login: &Login<'_>) -> Result<(), Told> {
        let plugin = if login.plugin.is_empty() { "caching_sha2_password" } else { login.plugin };
        let proof = proof(plugin, login.password, &self.greeting.nonce);
        let parts: [&[u8]; 8] = [
            login.user.as_bytes(),
            &[0, proof.len() as u8],
            &proof,
            login.database.unwrap_or_default().as_bytes(),
            &[0, 45, 0],
            plugin.as_bytes(),
            &[0],
            &[0][..usize::from(self.capabilities & flag::CONNECT_ATTRS != 0)],
        ];
        self.say(command::CHANGE_USER, &parts.concat());
        self.steps.clear();
        self.authenticate(login.password, plugin.to_owned())
    }

    // -----------------------------------------------------------------------------------------
    // Bytes

    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("the other side reads");
    }

    /// For input after which the proxy may close at any moment.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some((sequence, _)) = &mut self.compressed {
            if bytes.get(3) == Some(&0) {
                *sequence = 0;
            }
            // Sent as it is, which the protocol calls compressed too.
            let mut wrapped = Vec::new();
            for part in bytes.chunks(0xff_0000) {
                wrapped.extend(&(part.len() as u32).to_le_bytes()[..3]);
                wrapped.extend([*sequence, 0, 0, 0]);
                wrapped.extend(part);
                *sequence = sequence.wrapping_add(1);
            }
            self.stream.write_all(&wrapped)?;
        } else {
            self.stream.write_all(bytes)?;
        }
        self.stream.flush()
    }

    /// A packet with the number behind the last one that was read.
    pub fn send_next(&mut self, payload: &[u8]) {
        let bytes = packet(self.sequence, payload);
        self.sequence = self.sequence.wrapping_add(1);
        self.send(&bytes);
    }

    pub fn say(&mut self, command: u8, body: &[u8]) {
        self.send(&say(command, body));
    }

    pub fn query(&mut self, sql: &str) {
        self.say(command::QUERY, sql.as_bytes());
    }

    pub fn read_bytes(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some((sequence, rest)) = &mut self.compressed else { return self.stream.read(into) };
        if rest.is_empty() {
            let mut head = [0; 7];
            match self.stream.read(&mut head[..1])? {
                0 => return Ok(0),
                _ => self.stream.read_exact(&mut head[1..])?,
            }
            let mut reader = Reader(&head);
            let (length, number, whole) = (reader.number(3), reader.number(1), reader.number(3));
            *sequence = (number as u8).wrapping_add(1);
            let mut bytes = vec![0; length as usize];
            self.stream.read_exact(&mut bytes)?;
            *rest = match whole {
                0 => bytes,
                _ => inflated(&bytes),
            };
        }
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        rest.drain(..count);
        Ok(count)
    }

    fn read_exact(&mut self, into: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while done < into.len() {
            match self.read_bytes(&mut into[done..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => done += count,
            }
        }
        Ok(())
    }

    /// One payload, put together where it was split.
    pub fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut payload = Vec::new();
        loop {
            let mut head = [0; HEAD];
            self.read_exact(&mut head)?;
            let length = u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize;
            self.sequence = head[3].wrapping_add(1);
            let start = payload.len();
            payload.resize(start + length, 0);
            self.read_exact(&mut payload[start..])?;
            if length < 0xff_ffff {
                return Ok(payload);
            }
        }
    }

    /// The socket below, for looking without reading.
    pub fn socket(&self) -> &TcpStream {
        match &self.stream {
            Stream::Tcp(socket) => socket,
            Stream::Tls(stream) => &stream.sock,
            Stream::Unix(_) => panic!("a local socket"),
        }
    }

    // -----------------------------------------------------------------------------------------
    // Answers

    fn deprecated_eof(&self) -> bool {
        self.capabilities & flag::DEPRECATE_EOF != 0
    }

    /// All answers to a statement.
    pub fn answers(&mut self) -> Vec<Answer> {
        self.take_answers(false).unwrap_or_else(|error| panic!("no answer: {error}"))
    }

    /// The same of an execution; a row is its bytes, as text.
    pub fn binary_answers(&mut self) -> Vec<Answer> {
        self.take_answers(true).unwrap_or_else(|error| panic!("no answer: {error}"))
    }

    fn take_answers(&mut self, binary: bool) -> io::Result<Vec<Answer>> {
        let mut answers = Vec::new();
        loop {
            let payload = self.read()?;
            let (answer, status) = match payload[0] {
                0xff => (Answer::Failed(told(&payload)), 0),
                0 => {
                    let mut reader = Reader(&payload[1..]);
                    let (affected, last) = (reader.lenenc(), reader.lenenc());
                    let (status, warnings) = (reader.number(2) as u16, reader.number(2) as u16);
                    (Answer::Done { affected, last, warnings }, status)
                }
                0xfb => panic!("the server asks for the file {:?}", text(&payload[1..])),
                _ => self.rows(&payload, binary)?,
            };
            answers.push(answer);
            if status & MORE_RESULTS == 0 {
                return Ok(answers);
            }
        }
    }

    fn rows(&mut self, first: &[u8], binary: bool) -> io::Result<(Answer, u16)> {
        let count = Reader(first).lenenc();
        let mut columns = Vec::new();
        for _ in 0..count {
            let payload = self.read()?;
            let mut reader = Reader(&payload);
            // The catalogue, the schema, the table and its original name.
            (0..4).for_each(|_| drop(reader.string()));
            columns.push(reader.string());
        }
        if !self.deprecated_eof() {
            let eof = self.read()?;
            assert_eq!(eof[0], 0xfe, "{eof:?}");
            let status = u16::from_le_bytes([eof[3], eof[4]]);
            if status & CURSOR_EXISTS != 0 {
                return Ok((Answer::Rows { columns, rows: Vec::new() }, 0));
            }
        }
        let mut rows = Vec::new();
        loop {
            let payload = self.read()?;
            match payload[0] {
                0xff => return Ok((Answer::Failed(told(&payload)), 0)),
                0xfe if payload.len() < 0xff_ffff && (self.deprecated_eof() || payload.len() < 9) => {
                    let mut reader = Reader(&payload[1..]);
                    let status = match self.deprecated_eof() {
                        true => {
                            reader.lenenc();
                            reader.lenenc();
                            reader.number(2)
                        }
                        false => {
                            reader.number(2);
                            reader.number(2)
                        }
                    };
                    return Ok((Answer::Rows { columns, rows }, status as u16));
                }
                _ if binary => rows.push(vec![Some(text(&payload))]),
                _ => rows.push(row(&payload, columns.len())),
            }
        }
    }

    /// Asks, and gives all answers as one text.
    pub fn ask(&mut self, sql: &str) -> String {
        self.query(sql);
        let words = self.answers().into_iter().filter_map(|answer| match answer {
            Answer::Done { .. } => None,
            Answer::Rows { rows, .. } => Some(joined(rows)),
            Answer::Failed(told) => Some(format!("error {}: {}", told.code, told.message)),
        });
        words.collect::<Vec<_>>().join("; ")
    }

    /// Runs statements, which must succeed.
    pub fn run(&mut self, sql: &str) {
        let said = self.ask(sql);
        assert!(!said.contains("error "), "{sql}: {said}");
    }

    /// The error that a statement must meet.
    pub fn told(&mut self, sql: &str) -> Told {
        self.query(sql);
        match self.answers().pop() {
            Some(Answer::Failed(told)) => told,
            other => panic!("{sql} gave {other:?} and no error"),
        }
    }

    /// Prepares, and gives the statement's number and how many parameters it has.
    pub fn prepare(&mut self, sql: &str) -> Result<(u32, u16), Told> {
        self.say(command::STMT_PREPARE, sql.as_bytes());
        let payload = self.read().expect("an answer");
        if payload[0] == 0xff {
            return Err(told(&payload));
        }
        let mut reader = Reader(&payload[1..]);
        let (id, columns, parameters) = (reader.number(4), reader.number(2), reader.number(2));
        for count in [parameters, columns] {
            if count > 0 {
                let eof = u64::from(!self.deprecated_eof());
                (0..count + eof).for_each(|_| drop(self.read().expect("a definition")));
            }
        }
        Ok((id as u32, parameters as u16))
    }

    /// The bytes of an execution with these texts as parameters.
    pub fn execution(id: u32, cursor: u8, parameters: &[Option<&str>]) -> Vec<u8> {
        let mut body = [&id.to_le_bytes()[..], &[cursor], &1u32.to_le_bytes()].concat();
        if !parameters.is_empty() {
            let mut nulls = vec![0; parameters.len().div_ceil(8)];
            for (number, _) in parameters.iter().enumerate().filter(|(_, value)| value.is_none()) {
                nulls[number / 8] |= 1 << (number % 8);
            }
            body.extend(nulls);
            body.push(1);
            parameters.iter().for_each(|_| body.extend([0xfd, 0]));
            parameters.iter().flatten().for_each(|value| body.extend(lenenc_string(value.as_bytes())));
        }
        say(command::STMT_EXECUTE, &body)
    }

    // -----------------------------------------------------------------------------------------
    // Ends

    /// Reads to the end of the connection: the payloads until then, and whether it ended in good order (FIN).
    pub fn until_closed(&mut self) -> (Vec<Vec<u8>>, bool) {
        let mut payloads = Vec::new();
        loop {
            match self.read() {
                Ok(payload) => payloads.push(payload),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return (payloads, true),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return (payloads, false),
                Err(error) => panic!("the proxy does not close: {error} after {payloads:?}"),
            }
        }
    }

    pub fn goodbye(mut self) {
        let _ = self.try_send(&say(command::QUIT, &[]));
        let _ = self.until_closed();
    }

    /// Vanishes with a FIN and no goodbye.
    pub fn vanish(self) {
        let _ = self.socket().shutdown(Shutdown::Both);
    }
}

fn greeting(payload: &[u8]) -> Greeting {
    let mut reader = Reader(payload);
    assert_eq!(reader.number(1), 10, "the protocol's version");
    let version = text(reader.until_nul());
    let connection = reader.number(4) as u32;
    let mut nonce = reader.take(8).to_vec();
    reader.take(1);
    let low = reader.number(2) as u32;
    let collation = reader.number(1) as u8;
    let status = reader.number(2) as u16;
    let capabilities = low | (reader.number(2) as u32) << 16;
    let length = reader.number(1) as usize;
    reader.take(6);
    let extended = reader.number(4) as u32;
    nonce.extend(reader.take(length.saturating_sub(8).max(13)).strip_suffix(&[0]).expect("a nonce"));
    let plugin = text(reader.until_nul());
    Greeting { version, connection, capabilities, extended, collation, status, plugin, nonce }
}

fn row(payload: &[u8], columns: usize) -> Vec<Option<String>> {
    let mut reader = Reader(payload);
    let column = |_| match reader.0.first() {
        Some(0xfb) => {
            reader.take(1);
            None
        }
        _ => Some(reader.string()),
    };
    (0..columns).map(column).collect()
}

pub fn joined(rows: Vec<Vec<Option<String>>>) -> String {
    let rows = rows.into_iter().map(|row| {
        let values = row.into_iter().map(|value| value.unwrap_or_else(|| "null".into()));
        values.collect::<Vec<_>>().join("|")
    });
    rows.collect::<Vec<_>>().join("; ")
}
