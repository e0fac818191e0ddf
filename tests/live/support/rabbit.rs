//! A real RabbitMQ with its management plugin, private to this run, and a hand-made AMQP client for what only a
//! connection shows.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Child;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::http::{Answer, HttpClient};
use super::node::{Backend, Node, Options};
use super::server::{LEVELS, ROLE_PASSWORD, as_server, own};
use super::{PATIENCE, janitor, wait_until};

/// What setup made; a missing server fails the tests and never skips them.
pub fn installed(name: &str) -> PathBuf {
    let Some(folder) = std::env::var_os("TIDEGATE_TEST_RABBITMQ_BIN") else {
        panic!(
            "TIDEGATE_TEST_RABBITMQ_BIN does not say where RabbitMQ is: run these tests with scripts/test live"
        );
    };
    let file = PathBuf::from(folder).join(name);
    assert!(file.exists(), "no {}: run scripts/setup", file.display());
    file
}

pub struct Server {
    pub amqp_port: u16,
    pub port: u16,
    _processes: [Child; 2],
}

/// One server for all tests of a run; each test has vhosts of its own.
pub fn shared() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(Server::start)
}

impl Server {
    fn start() -> Self {
        let folder = janitor::new_folder("rabbit");
        own(&folder);
        let [amqp_port, port, distribution, epmd] = [(); 4].map(|()| janitor::free_port());
        let log = File::create(folder.join("log.txt")).expect("the server's log");
        let start = |program: &str, arguments: &[String]| {
            let child = as_server(&installed(program))
                .args(arguments)
                .stdout(log.try_clone().expect("a second handle"))
                .stderr(log.try_clone().expect("a second handle"))
                .process_group(0)
                .spawn()
                .expect("it runs");
            janitor::watch(child.id());
            child
        };
        let names = start("epmd", &[epmd.to_string()]);
        let ports = [amqp_port, port, distribution, epmd].map(|port| port.to_string());
        let arguments = [&[folder.display().to_string()], &ports[..]].concat();
        let mut server = start("server", &arguments);
        wait_until("RabbitMQ answers", Duration::from_secs(240), || {
            if let Some(status) = server.try_wait().expect("our child") {
                let log = std::fs::read_to_string(folder.join("log.txt")).unwrap_or_default();
                panic!("RabbitMQ ended with {status}:\n{log}");
            }
            TcpStream::connect(("127.0.0.1", port)).is_ok()
                && ask(port, "guest", "guest", "GET /api/whoami", "").status == 200
        });
        let server = Self { amqp_port, port, _processes: [names, server] };
        for level in LEVELS {
            // As docs/rabbitmq.md says, but for the level that must be able to do harm.
            let tags = if level == "admin" { "administrator" } else { "monitoring" };
            let user = json!({"password": ROLE_PASSWORD, "tags": tags});
            server.done(&format!("PUT /api/users/connector-{level}"), &user.to_string());
        }
        server
    }

    /// As the server's own administrator, around the proxy.
    pub fn ask(&self, line: &str, body: &str) -> Answer {
        ask(self.port, "guest", "guest", line, body)
    }

    #[track_caller]
    pub fn done(&self, line: &str, body: &str) -> Value {
        let answer = self.ask(line, body);
        assert!((200..300).contains(&answer.status), "{line} {body}: {answer:?}");
        serde_json::from_str(&answer.body).unwrap_or_default()
    }
}

fn ask(port: u16, user: &str, password: &str, line: &str, body: &str) -> Answer {
    let proof = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    HttpClient::new(port).ask(&proof, line, body)
}

/// Two vhosts of one test: one that people are granted, and one that they are not.
pub struct RabbitPlace {
    pub server: &'static Server,
    pub team: String,
    pub secret: String,
}

impl Default for RabbitPlace {
    /// With a slash, a space and more than ASCII in the granted one's name.
    fn default() -> Self {
        Self::named("te am/ü")
    }
}

impl RabbitPlace {
    pub fn named(team: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let place =
            Self { server: shared(), team: format!("{team}{number}"), secret: format!("secret{number}") };
        for vhost in [&place.team, &place.secret] {
            let vhost = esc(vhost);
            place.server.done(&format!("PUT /api/vhosts/{vhost}"), "");
            for user in ["guest", "connector-read", "connector-read_write", "connector-admin"] {
                let all = json!({"configure": ".*", "write": ".*", "read": ".*"}).to_string();
                place.server.done(&format!("PUT /api/permissions/{vhost}/{user}"), &all);
            }
        }
        place
    }

    /// What the connector itself can do, around the proxy.
    pub fn direct(&self, level: &str, line: &str, body: &str) -> Answer {
        ask(self.server.port, &format!("connector-{level}"), ROLE_PASSWORD, line, body)
    }

    /// Puts the names of the two vhosts in the place of T and S.
    pub fn line(&self, line: &str) -> String {
        line.replace("{T}", &esc(&self.team)).replace("{S}", &esc(&self.secret))
    }
}

impl Backend for RabbitPlace {
    const PROTOCOL: &'static str = "rabbitmq";

    fn port(&self) -> u16 {
        self.server.port
    }

    fn database(&self) -> &str {
        &self.team
    }

    fn role(&self, level: &str) -> String {
        format!("connector-{level}")
    }
}

impl Node<RabbitPlace> {
    pub fn rabbit(place: RabbitPlace) -> Self {
        Self::with(place, Options { target: "tls = \"disable\"", ..Options::default() })
    }
}

/// As the console encodes a part of a path.
pub fn esc(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    text.bytes()
        .map(|byte| if plain(&byte) { char::from(byte).into() } else { format!("%{byte:02X}") })
        .collect()
}

/// A connection with one channel (AMQP 0-9-1).
pub struct Amqp {
    socket: TcpStream,
}

fn short(text: &str) -> Vec<u8> {
    [&[text.len() as u8], text.as_bytes()].concat()
}

impl Amqp {
    pub fn open(port: u16, vhost: &str) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", port)).expect("RabbitMQ listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        let mut amqp = Self { socket };
        amqp.socket.write_all(b"AMQP\0\0\x09\x01").expect("sent");
        amqp.wait(10, 10);
        let login = b"\0guest\0guest";
        let start =
            [&[0; 4][..], &short("PLAIN"), &(login.len() as u32).to_be_bytes(), login, &short("en_US")];
        amqp.method(0, 10, 11, &start.concat());
        let tune = amqp.wait(10, 30);
        // Its limits for channels and frames are ours; no heartbeat.
        amqp.method(0, 10, 31, &[&tune[4..10], &[0, 0]].concat());
        amqp.method(0, 10, 40, &[short(vhost), vec![0, 0]].concat());
        amqp.wait(10, 41);
        amqp.method(1, 20, 10, &[0]);
        amqp.wait(20, 11);
        amqp
    }

    pub fn consume(&mut self, queue: &str) {
        const NO_ACK: u8 = 2;
        self.method(1, 60, 20, &[vec![0, 0], short(queue), short(""), vec![NO_ACK], vec![0; 4]].concat());
        self.wait(60, 21);
    }

    pub fn publish(&mut self, queue: &str, reply_to: &str, body: &str) {
        const REPLY_TO: u16 = 1 << 9;
        self.method(1, 60, 40, &[vec![0, 0], short(""), short(queue), vec![0]].concat());
        let size = (body.len() as u64).to_be_bytes();
        let head = [&[0, 60, 0, 0][..], &size, &REPLY_TO.to_be_bytes(), &short(reply_to)].concat();
        self.frame(2, 1, &head);
        self.frame(3, 1, body.as_bytes());
    }

    /// The body of the next message that is delivered.
    pub fn delivered(&mut self) -> String {
        loop {
            let (kind, payload) = self.read();
            if kind == 3 {
                return String::from_utf8(payload).expect("text");
            }
        }
    }

    fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) {
        let head = [&[kind][..], &channel.to_be_bytes(), &(payload.len() as u32).to_be_bytes()].concat();
        self.socket.write_all(&[&head, payload, &[0xCE]].concat()).expect("sent");
    }

    fn method(&mut self, channel: u16, class: u16, method: u16, arguments: &[u8]) {
        let payload = [&class.to_be_bytes()[..], &method.to_be_bytes(), arguments].concat();
        self.frame(1, channel, &payload);
    }

    fn read(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 7];
        self.socket.read_exact(&mut head).expect("a frame");
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        let mut payload = vec![0; size + 1];
        self.socket.read_exact(&mut payload).expect("a frame");
        payload.pop();
        (head[0], payload)
    }

    /// The payload of the next method of this kind.
    fn wait(&mut self, class: u16, method: u16) -> Vec<u8> {
        let wanted = [class.to_be_bytes(), method.to_be_bytes()].concat();
        loop {
            let (kind, payload) = self.read();
            if kind == 1 && payload.starts_with(&wanted) {
                return payload;
            }
        }
    }
}
