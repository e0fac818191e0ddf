//! New connections as fast as they come: connect, SCRAM, one query, goodbye. The client's own key
//! derivation (4,096 rounds, by far the dearest part of a login) is done once, as drivers that keep the
//! salted password do; or it would be the client that is measured.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// What one salt and password come to.
struct Keys {
    salt: String,
    client: [u8; 32],
    stored: [u8; 32],
}

/// How many logins `threads` finished together in `seconds`.
pub fn run(port: u16, user: &str, password: &str, database: &str, threads: usize, seconds: u64) -> f64 {
    // Once before the clock runs: the pool is warm and the keys are made.
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let counts: Vec<u64> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(move || {
                    let mut keys = None;
                    let mut count = 0;
                    while Instant::now() < deadline {
                        login(port, user, password, database, &mut keys);
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("a worker ends")).collect()
    });
    counts.iter().sum::<u64>() as f64
}

fn mac(key: &[u8], data: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length is a key");
    mac.update(data);
    mac.finalize().into_bytes().into()
}

fn derive(password: &str, salt: &str, rounds: u32) -> Keys {
    let mut salted = [0; 32];
    let bytes = STANDARD.decode(salt).expect("base64");
    pbkdf2::pbkdf2::<Hmac<Sha256>>(password.as_bytes(), &bytes, rounds, &mut salted)
        .expect("a length that fits");
    let client = mac(&salted, b"Client Key");
    Keys { salt: salt.to_owned(), client, stored: Sha256::digest(client).into() }
}

struct Connection {
    socket: TcpStream,
    /// What was read and not looked at yet.
    buffer: Vec<u8>,
}

impl Connection {
    fn send(&mut self, tag: Option<u8>, body: &[u8]) {
        let mut bytes: Vec<u8> = tag.into_iter().collect();
        bytes.extend((body.len() as u32 + 4).to_be_bytes());
        bytes.extend(body);
        self.socket.write_all(&bytes).expect("the peer reads");
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
            let count = self.socket.read(&mut piece).expect("the peer answers");
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
}

fn login(port: u16, user: &str, password: &str, database: &str, keys: &mut Option<Keys>) {
    let socket = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    socket.set_nodelay(true).expect("no delay");
    socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a time limit");
    let mut connection = Connection { socket, buffer: Vec::new() };
    let strings = ["user", user, "database", database, ""].join("\0");
    connection.send(None, &[&196_608u32.to_be_bytes()[..], strings.as_bytes(), &[0]].concat());
    connection.authentication(10);
    // Our nonce may be the same each time: the server's is not.
    let first_bare = "n=,r=Y2xpZW50IG5vbmNlIG9m";
    let first = format!("n,,{first_bare}");
    let body = [&b"SCRAM-SHA-256\0"[..], &(first.len() as u32).to_be_bytes(), first.as_bytes()].concat();
    connection.send(Some(b'p'), &body);
    let challenge = connection.authentication(11);
    let field = |name: &str| {
        let found = challenge.split(',').find_map(|field| field.strip_prefix(name));
        found.unwrap_or_else(|| panic!("no {name} in {challenge}"))
    };
    let (nonce, salt) = (field("r="), field("s="));
    if keys.as_ref().is_none_or(|keys| keys.salt != salt) {
        *keys = Some(derive(password, salt, field("i=").parse().expect("a number")));
    }
    let keys = keys.as_ref().expect("just made");
    let without_proof = format!("c=biws,r={nonce}");
    let signature = mac(&keys.stored, format!("{first_bare},{challenge},{without_proof}").as_bytes());
    let proof: Vec<u8> = keys.client.iter().zip(signature).map(|(key, sign)| key ^ sign).collect();
    connection.send(Some(b'p'), format!("{without_proof},p={}", STANDARD.encode(proof)).as_bytes());
    connection.authentication(12);
    connection.until_ready();
    connection.send(Some(b'Q'), b"select 1\0");
    connection.until_ready();
    connection.send(Some(b'X'), &[]);
}
