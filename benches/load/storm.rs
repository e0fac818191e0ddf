//! New connections as fast as they come: connect, SCRAM, one query, goodbye; over TLS too.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;

use crate::client::Login;
use crate::keys;

/// What came of it.
pub struct Storm {
    pub logins: f64,
    /// TLS handshakes that took up an earlier one.
    pub resumed: f64,
}

/// How many logins `threads` finished together in `seconds`.
pub fn run(login: &Login, threads: usize, seconds: u64) -> Storm {
    // Once before the clock runs: the pool is warm and the keys are made.
    once(login, &AtomicU64::new(0));
    let (count, resumed) = (AtomicU64::new(0), AtomicU64::new(0));
    let deadline = Instant::now() + Duration::from_secs(seconds);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while Instant::now() < deadline {
                    once(login, &resumed);
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    Storm { logins: count.into_inner() as f64, resumed: resumed.into_inner() as f64 }
}

struct Connection<S> {
    stream: S,
    /// What was read and not looked at yet.
    buffer: Vec<u8>,
}

impl<S: Read + Write> Connection<S> {
    fn send(&mut self, tag: Option<u8>, body: &[u8]) {
        let mut bytes: Vec<u8> = tag.into_iter().collect();
        bytes.extend((body.len() as u32 + 4).to_be_bytes());
        bytes.extend(body);
        self.stream.write_all(&bytes).expect("the peer reads");
        self.stream.flush().expect("the peer reads");
    }

    fn read(&mut self) -> (u8, Vec<u8>) {
        loop {
            if let Some(head) = self.buffer.first_chunk::<5>() {
                let end = 1 + u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
                if self.buffer.len() >= end {
                    let tag = head[0];
                    let body = self.buffer[5..end].to_vec();
                    self.buffer.drain(..end);
                    return (tag, body);
                }
            }
            let mut piece = [0; 4096];
            let count = self.stream.read(&mut piece).expect("the peer answers");
            assert!(count > 0, "closed in the middle of a login");
            self.buffer.extend(&piece[..count]);
        }
    }

    /// The SASL data of the next message, which must be that kind of AuthenticationRequest.
    fn authentication(&mut self, kind: u32) -> String {
        let (tag, body) = self.read();
        assert!(tag == b'R' && body[..4] == kind.to_be_bytes(), "{}", String::from_utf8_lossy(&body));
        String::from_utf8(body[4..].to_vec()).expect("SCRAM is text")
    }

    fn until_ready(&mut self) {
        loop {
            let (tag, body) = self.read();
            match tag {
                b'Z' => return,
                b'E' => panic!("{}", String::from_utf8_lossy(&body)),
                _ => {}
            }
        }
    }

    fn visit(&mut self, login: &Login) {
        let strings = ["user", &login.user, "database", &login.database, ""].join("\0");
        self.send(None, &[&196_608u32.to_be_bytes()[..], strings.as_bytes(), &[0]].concat());
        self.authentication(10);
        self.send(Some(b'p'), &keys::first());
        let challenge = self.authentication(11);
        self.send(Some(b'p'), &keys::last(&login.password, &challenge));
        self.authentication(12);
        self.until_ready();
        self.send(Some(b'Q'), b"select 1\0");
        self.until_ready();
        self.send(Some(b'X'), &[]);
    }
}

fn once(login: &Login, resumed: &AtomicU64) {
    let mut socket = TcpStream::connect(("127.0.0.1", login.port)).expect("it listens");
    socket.set_nodelay(true).expect("no delay");
    socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a time limit");
    let Some(config) = &login.tls else {
        return Connection { stream: socket, buffer: Vec::new() }.visit(login);
    };
    socket.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).expect("the peer reads");
    let mut answer = [0];
    socket.read_exact(&mut answer).expect("the peer answers");
    assert_eq!(answer, *b"S", "TLS is refused");
    let name = ServerName::try_from("localhost").expect("a name");
    let tls = rustls::ClientConnection::new(Arc::clone(config), name).expect("a client");
    let mut connection = Connection { stream: rustls::StreamOwned::new(tls, socket), buffer: Vec::new() };
    connection.visit(login);
    if connection.stream.conn.handshake_kind() == Some(rustls::HandshakeKind::Resumed) {
        resumed.fetch_add(1, Ordering::Relaxed);
    }
}
