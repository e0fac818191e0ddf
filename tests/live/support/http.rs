//! A target that speaks HTTP and answers as it is told, and a client that says exactly what a test wants. What is seen
//! here is what goes over the wire; what a real cluster makes of it is another test's.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::node::{Backend, Node, Options};
use super::{PATIENCE, wait_until};

/// What the target was sent.
#[derive(Debug, Clone)]
pub struct Seen {
    /// As it came: method, target, version.
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// Which of the target's connections it came by, from 1.
    pub connection: usize,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Vec<Seen>>,
    aliases: Mutex<String>,
    /// The answer about indices.
    indices: Mutex<String>,
    connections: AtomicUsize,
    /// Connections that have ended.
    closed: AtomicUsize,
}

/// A target of its own for one test. It answers by words in the path: `slow` bit by bit without end, `never` not at
/// all, `early` before it has read the body, which with `stall` it does only after a second, `extra` with bytes behind
/// the answer, `denied` 401, `flood` without end and as fast as it is taken, `halfway` not to the end, `moved` with a
/// redirect; and `unasked` with a body where there is none. What is to be thrown away (`discard`) is.
pub struct HttpPlace {
    port: u16,
    shared: Arc<Shared>,
}

impl Backend for HttpPlace {
    const PROTOCOL: &'static str = "opensearch";

    fn port(&self) -> u16 {
        self.port
    }

    fn database(&self) -> &str {
        "logs-*"
    }

    fn role(&self, level: &str) -> String {
        format!("connector-{level}")
    }
}

impl Default for HttpPlace {
    fn default() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("it is bound").port();
        let shared = Shared { aliases: Mutex::new("{}".into()), ..Shared::default() };
        *shared.indices.lock().unwrap() = r#"{"indices":[],"aliases":[],"data_streams":[]}"#.into();
        let shared = Arc::new(shared);
        let serving = shared.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let shared = serving.clone();
                std::thread::spawn(move || {
                    let number = shared.connections.fetch_add(1, Ordering::SeqCst) + 1;
                    serve(socket, number, &shared);
                    shared.closed.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        Self { port, shared }
    }
}

impl HttpPlace {
    /// What came for clients; the proxy's own questions are left out.
    pub fn seen(&self) -> Vec<Seen> {
        let mut seen = self.shared.seen.lock().unwrap().clone();
        seen.retain(|seen| !OWN.iter().any(|own| seen.line.starts_with(own)));
        seen
    }

    /// Open indices of these names.
    pub fn set_indices(&self, names: &[&str]) {
        let indices: Vec<_> =
            names.iter().map(|name| serde_json::json!({"name": name, "attributes": ["open"]})).collect();
        let answer = serde_json::json!({"indices": indices, "aliases": [], "data_streams": []});
        *self.shared.indices.lock().unwrap() = answer.to_string();
    }

    /// `never`: the question is not answered.
    pub fn set_aliases(&self, answer: &str) {
        *self.shared.aliases.lock().unwrap() = answer.to_owned();
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    pub fn closed(&self) -> usize {
        self.shared.closed.load(Ordering::SeqCst)
    }

    /// Waits until something for this path has come.
    pub fn wait_seen(&self, path: &str) {
        wait_until(&format!("{path} is seen"), PATIENCE, || {
            self.shared.seen.lock().unwrap().iter().any(|seen| seen.line.contains(path))
        });
    }
}

/// What the proxy asks for itself.
const OWN: [&str; 2] = ["GET /_alias ", "GET /_resolve/index/*?expand_wildcards=all "];

fn serve(mut socket: TcpStream, connection: usize, shared: &Shared) {
    let mut read = Vec::new();
    while let Some(head) = head(&mut socket, &mut read) {
        let mut lines = head.split("\r\n");
        let line = lines.next().unwrap_or_default().to_owned();
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut seen = Seen { line: line.clone(), headers, body: String::new(), connection };
        let early = line.contains("early");
        if early || line.contains("upload") {
            shared.seen.lock().unwrap().push(seen.clone());
        }
        if early {
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
        }
        if line.contains("stall") {
            std::thread::sleep(Duration::from_secs(1));
        }
        let body = match line.contains("discard") {
            true => discard(&mut socket, &mut read, &seen),
            false => body(&mut socket, &mut read, &seen),
        };
        let Some(body) = body else { return };
        seen.body = String::from_utf8_lossy(&body).into_owned();
        if early {
            continue;
        }
        shared.seen.lock().unwrap().push(seen);
        if !reply(&mut socket, &line, &String::from_utf8_lossy(&body), shared) {
            return;
        }
    }
}

/// The id of what it has opened, in the answer to who opens or uses it.
fn opened(line: &str, body: &str) -> &'static str {
    let is = |word: &str| line.contains(word);
    match () {
        () if line.starts_with("DELETE") => "{\"succeeded\":true}",
        () if is("scroll=") || is("/_search/scroll") => "{\"_scroll_id\":\"raw-scroll\",\"took\":1}",
        () if is("/point_in_time") => "{\"pit_id\":\"raw-pit\"}",
        () if is("/_pit") => "{\"id\":\"raw-pit\"}",
        () if is("/_eql/search") => "{\"is_partial\":true,\"id\":\"raw-eql\"}",
        () if is("/_query/async") => "{\"id\":\"raw-esql\",\"is_running\":true}",
        () if is("/_async_search") => "{\"id\":\"raw-async\",\"is_partial\":true}",
        () if is("wait_for_completion=false") => "{\"task\":\"raw:1\"}",
        () if is("/_tasks/") => {
            "{\"completed\":false,\"task\":{\"node\":\"raw\",\"id\":1,\"headers\":{\"X-Opaque-Id\":\"bob/s-1/1\"}}}"
        }
        () if body.contains("\"pit\"") => {
            "{\"took\":1,\"hits\":{\"pit_id\":\"no\"},\"pit_id\":\"raw-pit-2\"}"
        }
        () => "{\"took\":1}",
    }
}

fn reply(socket: &mut TcpStream, line: &str, body: &str, shared: &Shared) -> bool {
    let say = |socket: &mut TcpStream, status: &str, body: &str| {
        let head = format!(
            "HTTP/1.1 {status}\r\nX-Elastic-Product: Elasticsearch\r\nX-Inner: secret\r\nSet-Cookie: a=b\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let body = if line.starts_with("HEAD") { "" } else { body };
        socket.write_all(format!("{head}{body}").as_bytes()).is_ok()
    };
    if line.starts_with("GET /_alias ") && shared.aliases.lock().unwrap().as_str() == "never" {
        let _ = socket.read(&mut [0; 1]);
        return false;
    }
    if line.starts_with("GET /_alias ") {
        let aliases = shared.aliases.lock().unwrap().clone();
        return say(socket, "200 OK", &aliases);
    }
    if line.starts_with(OWN[1]) {
        let indices = shared.indices.lock().unwrap().clone();
        return say(socket, "200 OK", &indices);
    }
    if line.contains("never") {
        // Until the other side goes away.
        let _ = socket.read(&mut [0; 1]);
        return false;
    }
    if line.contains("slow") {
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while socket.write_all(b"4\r\nmore\r\n").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
        return false;
    }
    if line.contains("flood") {
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let piece = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
        while socket.write_all(piece.as_bytes()).is_ok() {}
        return false;
    }
    if line.contains("halfway") {
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nhalf");
        return false;
    }
    if line.contains("unasked") {
        let status = if line.contains("204") { "204 No Content" } else { "304 Not Modified" };
        let status = if line.starts_with("HEAD") { "200 OK" } else { status };
        let theirs = format!("HTTP/1.1 {status}\r\nContent-Length: 20\r\n\r\nHTTP/1.1 200 OK\r\n\r\n{{}}");
        return socket.write_all(theirs.as_bytes()).is_ok();
    }
    if line.contains("moved") {
        let to =
            if line.contains("away") { "http://connector:secret@10.0.0.7:9200/" } else { "/logs-1/_doc/1" };
        let theirs = format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
        return socket.write_all(theirs.as_bytes()).is_ok();
    }
    if line.contains("extra") {
        return say(socket, "200 OK", "{}")
            && socket.write_all(b"HTTP/1.1 200 OK\r\n\r\nsomebody else's").is_ok();
    }
    let status = if line.contains("denied") { "401 Unauthorized" } else { "200 OK" };
    say(socket, status, opened(line, body))
}

/// The next head, without the empty line behind it.
fn head(socket: &mut TcpStream, read: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&read[..end]).into_owned();
            read.drain(..end + 4);
            return Some(head);
        }
        more(socket, read)?;
    }
}

fn more(socket: &mut TcpStream, read: &mut Vec<u8>) -> Option<()> {
    let mut part = [0; 16 << 10];
    let count = socket.read(&mut part).ok().filter(|count| *count > 0)?;
    read.extend_from_slice(&part[..count]);
    Some(())
}

/// Takes a body of a length that is said, and keeps nothing of it.
fn discard(socket: &mut TcpStream, read: &mut Vec<u8>, seen: &Seen) -> Option<Vec<u8>> {
    let mut left: usize = seen.header("content-length")?.parse().expect("a length");
    loop {
        left -= read.drain(..read.len().min(left)).count();
        if left == 0 {
            return Some(Vec::new());
        }
        more(socket, read)?;
    }
}

fn body(socket: &mut TcpStream, read: &mut Vec<u8>, seen: &Seen) -> Option<Vec<u8>> {
    if let Some(length) = seen.header("content-length") {
        let length: usize = length.parse().expect("a length");
        while read.len() < length {
            more(socket, read)?;
        }
        return Some(read.drain(..length).collect());
    }
    let mut body = Vec::new();
    if seen.header("transfer-encoding").is_some() {
        loop {
            while !read.windows(2).any(|two| two == b"\r\n") {
                more(socket, read)?;
            }
            let end = read.windows(2).position(|two| two == b"\r\n").expect("just found");
            let line = String::from_utf8_lossy(&read[..end]).into_owned();
            let size = usize::from_str_radix(&line, 16).expect("the size of a chunk");
            read.drain(..end + 2);
            while read.len() < size + 2 {
                more(socket, read)?;
            }
            body.extend(read.drain(..size));
            read.drain(..2);
            if size == 0 {
                break;
            }
        }
    }
    Some(body)
}

/// A client connection.
pub struct HttpClient {
    pub socket: TcpStream,
    read: VecDeque<u8>,
}

#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
    /// The body came to its end.
    pub whole: bool,
}

impl HttpClient {
    pub fn new(port: u16) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", port)).expect("the proxy listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        Self { socket, read: VecDeque::new() }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &str) {
        let _ = self.socket.write_all(bytes.as_bytes());
    }

    /// A request with this `Authorization`, and its answer.
    pub fn ask(&mut self, authorization: &str, line: &str, body: &str) -> Answer {
        self.send(&request(authorization, line, body));
        self.answer(line.starts_with("HEAD"))
    }

    /// Waits until this has come, and leaves it to be read.
    pub fn wait_for(&self, part: &str) {
        let mut seen = vec![0; 16 << 10];
        super::wait_until(part, PATIENCE, || {
            let count = self.socket.peek(&mut seen).expect("it goes on");
            String::from_utf8_lossy(&seen[..count]).contains(part)
        });
    }

    fn byte(&mut self) -> Option<u8> {
        if self.read.is_empty() {
            let mut part = [0; 16 << 10];
            let count = self.socket.read(&mut part).ok()?;
            self.read.extend(&part[..count]);
        }
        self.read.pop_front()
    }

    fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(self.byte()?);
        }
        line.truncate(line.len() - 2);
        Some(String::from_utf8_lossy(&line).into_owned())
    }

    /// Status 0: there was no answer.
    pub fn answer(&mut self, is_head: bool) -> Answer {
        let mut head = String::new();
        loop {
            match self.line() {
                None => return Answer { status: 0, head, body: String::new(), whole: false },
                Some(line) if line.is_empty() => break,
                Some(line) => head += &format!("{}\n", line.to_ascii_lowercase()),
            }
        }
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        if status == 100 {
            return self.answer(is_head);
        }
        let is_empty = is_head || status == 204;
        let (body, whole) = if is_empty { (Vec::new(), true) } else { self.body(&head) };
        Answer { status, head, body: String::from_utf8_lossy(&body).into_owned(), whole }
    }

    fn body(&mut self, head: &str) -> (Vec<u8>, bool) {
        let mut body = Vec::new();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if let Some(length) = length {
            for _ in 0..length.parse::<usize>().expect("a length") {
                match self.byte() {
                    Some(byte) => body.push(byte),
                    None => return (body, false),
                }
            }
            return (body, true);
        }
        loop {
            let Some(size) = self.line() else { return (body, false) };
            let size = usize::from_str_radix(&size, 16).expect("the size of a chunk");
            for _ in 0..size + 2 {
                match self.byte() {
                    Some(byte) => body.push(byte),
                    None => return (body, false),
                }
            }
            body.truncate(body.len() - 2);
            if size == 0 {
                return (body, true);
            }
        }
    }

    pub fn close(self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

/// `line`: method and target.
pub fn request(authorization: &str, line: &str, body: &str) -> String {
    let authorization = match authorization {
        "" => String::new(),
        authorization => format!("Authorization: {authorization}\r\n"),
    };
    let about = match body {
        "" => String::new(),
        body => format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()),
    };
    format!("{line} HTTP/1.1\r\nHost: localhost\r\n{authorization}{about}\r\n{body}")
}

impl Node<HttpPlace> {
    /// In front of a target of its own, over loopback and without TLS there.
    pub fn opensearch() -> Self {
        Self::with(HttpPlace::default(), Options { target: "tls = \"disable\"", ..Options::default() })
    }

    pub fn client(&self) -> HttpClient {
        HttpClient::new(self.port)
    }
}
