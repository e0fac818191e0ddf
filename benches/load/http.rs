//! The same for requests: direct, nginx and HAProxy as plain reverse proxies with basic authentication, Tidegate with a
//! grant for some indices and its audit; in front of a backend that says at once what it always says, so that the proxy
//! is what is measured, and in front of OpenSearch.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::party::{Proxy, cpu_seconds, setup, spawn, version};
use crate::report::{Report, spread};
use crate::support::cluster::{Cluster, Kind};
use crate::support::node::Backend;
use crate::support::{Node, Options, block, janitor, runtime, text, write_private};
use crate::work::{Plan, Run};

const USER: &str = "alice";
const PASSWORD: &str = "of-alice";
const TIDEGATE: &str = "Tidegate";
const BULK_BYTES: usize = 5_000_000;
const SEARCH_BYTES: usize = 2_000;

/// A server that is there already.
struct Behind(u16);

impl Backend for Behind {
    const PROTOCOL: &'static str = "opensearch";

    fn port(&self) -> u16 {
        self.0
    }

    fn database(&self) -> &str {
        "logs-*"
    }

    fn role(&self, level: &str) -> String {
        format!("connector-{level}")
    }
}

struct Party {
    name: &'static str,
    port: u16,
    /// As a header, with its end.
    proof: String,
    pid: Option<u32>,
}

/// All of them in front of one server, and what must not be dropped before.
struct Parties {
    all: Vec<Party>,
    _proxies: [Proxy; 2],
    _nodes: [Node<Behind>; 2],
}

struct Asked {
    connections: usize,
    line: &'static str,
    kind: &'static str,
    body: String,
}

/// Measures all; gives the table.
pub fn run(plan: &Plan) -> String {
    let programs = setup();
    let program = |name: &str| &programs.iter().find(|(known, _)| known == name).expect("setup names it").1;
    let backend = janitor::free_port();
    let mut command = Command::new(std::env::current_exe().expect("our own file"));
    let _backend = spawn(command.arg("backend").arg(backend.to_string()), backend, "the backend listens");
    let parties = Parties::start(backend, plan, program("nginx"), program("haproxy"));
    let nginx = Command::new(program("nginx")).arg("-v").output().expect("it runs");
    let nginx = text(&nginx.stderr).trim().trim_start_matches("nginx version: ").to_owned();
    let tidegate = parties._nodes[0].tg(&["--version"]);
    let versions = format!(
        "{nginx}, {}, {}, OpenSearch 3.4.0",
        version("haproxy", program("haproxy")),
        text(&tidegate.stdout).trim()
    );
    let names = parties.all.iter().map(|party| party.name).collect();
    let mut report = Report::new(names, versions);
    let wants = |server: &str| plan.wants_of(&["backend", "opensearch"], server);
    if wants("backend") {
        measure(plan, &parties.all, "backend", &mut report);
    }
    drop(parties);
    if wants("opensearch") {
        let cluster = Cluster::start(Kind::OpenSearch);
        fill(&cluster);
        let parties = Parties::start(cluster.port, plan, program("nginx"), program("haproxy"));
        measure(plan, &parties.all, "OpenSearch", &mut report);
        cluster.stop();
    }
    let Plan { rounds, seconds, workers, .. } = plan;
    report.finish(&format!(
        "{rounds} rounds of {seconds} s; {workers} threads for Tidegate, one for nginx and for HAProxy"
    ))
}

impl Parties {
    fn start(server: u16, plan: &Plan, nginx: &str, haproxy: &str) -> Self {
        let limits = format!("workers = {}", plan.workers);
        let node = |target: &str| {
            let target = format!("tls = \"disable\"\n{target}");
            let pool = "size_max = 300";
            let options = Options {
                target: &target,
                pool,
                limits: &limits,
                audit: "",
                log: "warn",
                ..Default::default()
            };
            let node = Node::with(Behind(server), options);
            let person = node.user(USER);
            ["read", "read_write"].iter().for_each(|level| drop(node.grant(USER, level, "8h", &[])));
            (node, proof(USER, &person.secret))
        };
        let ((whole, whole_proof), (streaming, streaming_proof)) = (node(""), node("bodies = \"stream\"\n"));
        let (nginx, nginx_port) = start_nginx(nginx, server);
        let (haproxy, haproxy_port) = start_haproxy(haproxy, server);
        let basic = proof(USER, PASSWORD);
        let all = vec![
            Party { name: "direct", port: server, proof: String::new(), pid: None },
            Party { name: "nginx", port: nginx_port, proof: basic.clone(), pid: Some(nginx.id()) },
            Party { name: "HAProxy", port: haproxy_port, proof: basic, pid: Some(haproxy.id()) },
            Party { name: TIDEGATE, port: whole.port, proof: whole_proof, pid: Some(whole.pid()) },
            Party {
                name: "Tidegate, bodies = \"stream\"",
                port: streaming.port,
                proof: streaming_proof,
                pid: Some(streaming.pid()),
            },
        ];
        Self { all, _proxies: [nginx, haproxy], _nodes: [whole, streaming] }
    }
}

fn proof(user: &str, password: &str) -> String {
    format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("{user}:{password}")))
}

/// One process does it all, so that its time is one number.
fn start_nginx(program: &str, server: u16) -> (Proxy, u16) {
    let (folder, port) = (janitor::new_folder("nginx"), janitor::free_port());
    // The cheapest way there is to look a password up.
    write_private(&folder.join("users"), &format!("{USER}:{{PLAIN}}{PASSWORD}\n"));
    let file = folder.join("nginx.conf");
    let path = folder.display();
    let settings = format!(
        "daemon off;\nmaster_process off;\npid {path}/pid;\nerror_log {path}/error.log;\n\
         events {{ worker_connections 4096; }}\nhttp {{\n  access_log {path}/access.log;\n  \
         keepalive_requests 100000000;\n  client_max_body_size 64m;\n  \
         client_body_temp_path {path}/body;\n  proxy_temp_path {path}/proxy;\n  \
         fastcgi_temp_path {path}/f;\n  uwsgi_temp_path {path}/u;\n  scgi_temp_path {path}/s;\n  \
         upstream backend {{ server 127.0.0.1:{server}; keepalive 300; keepalive_requests 100000000; }}\n  \
         server {{\n    listen 127.0.0.1:{port};\n    auth_basic \"it\";\n    auth_basic_user_file {path}/users;\n    \
         location / {{\n      proxy_pass http://backend;\n      proxy_http_version 1.1;\n      \
         proxy_set_header Connection \"\";\n    }}\n  }}\n}}\n"
    );
    std::fs::write(&file, settings).expect("its configuration");
    (spawn(Command::new(program).arg("-c").arg(&file), port, "nginx listens"), port)
}

fn start_haproxy(program: &str, server: u16) -> (Proxy, u16) {
    let (folder, port) = (janitor::new_folder("haproxy"), janitor::free_port());
    let file = folder.join("haproxy.cfg");
    let settings = format!(
        "global\n  nbthread 1\n  maxconn 4000\nuserlist people\n  user {USER} insecure-password {PASSWORD}\n\
         defaults\n  mode http\n  timeout connect 10s\n  timeout client 1h\n  timeout server 1h\n  \
         http-reuse always\nlisten search\n  bind 127.0.0.1:{port}\n  \
         http-request auth unless {{ http_auth(people) }}\n  server search 127.0.0.1:{server} pool-max-conn 300\n"
    );
    std::fs::write(&file, settings).expect("its configuration");
    (spawn(Command::new(program).arg("-db").arg("-f").arg(&file), port, "HAProxy listens"), port)
}

fn fill(cluster: &Cluster) {
    let settings = r#"{"settings":{"number_of_shards":1,"number_of_replicas":0}}"#;
    cluster.done("PUT /logs-1", settings);
    cluster.done("POST /_bulk?refresh=true", &bulk(1_000_000));
}

/// So many bytes of documents.
fn bulk(bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 400);
    for number in 0.. {
        if text.len() >= bytes {
            break;
        }
        let id = number % 3_000;
        text += &format!("{{\"index\":{{\"_index\":\"logs-1\",\"_id\":\"{id}\"}}}}\n");
        text +=
            &format!("{{\"user\":\"kim\",\"n\":{number},\"text\":\"{}\"}}\n", "words of a line ".repeat(12));
    }
    text
}

/// A search whose body is long because it asks for many users.
fn search() -> String {
    let mut users = Vec::new();
    while users.join(",").len() < SEARCH_BYTES - 100 {
        users.push(format!("\"user-{}\"", users.len()));
    }
    format!(
        "{{\"size\":5,\"query\":{{\"bool\":{{\"filter\":[{{\"terms\":{{\"user\":[{}]}}}}]}}}}}}",
        users.join(",")
    )
}

fn measure(plan: &Plan, all: &[Party], behind: &str, report: &mut Report) {
    let wants = |kind: &str| plan.wants_of(&["get", "search", "bulk"], kind);
    let crowds: &[usize] = match (wants("get"), plan.quick) {
        (false, _) => &[],
        (true, true) => &[1, 32],
        (true, false) => &[1, 32, 256],
    };
    for &connections in crowds {
        let asked = Asked { connections, line: "GET /logs-1/_doc/1", kind: "", body: String::new() };
        let runs = plan.turns(all, |party| Some(one(party, &asked, Duration::from_secs(plan.seconds))));
        let what = format!("{behind}, GET by id, {connections} connections");
        report.costs(&format!("{what}: CPU s per 10,000"), &runs, 10_000.0);
        report.ratios(&format!("{what}: requests/s / direct"), &runs);
        report.added(&format!("{what}: added p50, microseconds"), &runs);
    }
    if wants("search") {
        let asked =
            Asked { connections: 32, line: "POST /logs-1/_search", kind: "application/json", body: search() };
        let runs = plan.turns(all, |party| Some(one(party, &asked, Duration::from_secs(plan.seconds))));
        let what = format!("{behind}, _search of 2 kB, 32 connections");
        report.costs(&format!("{what}: CPU s per 10,000"), &runs, 10_000.0);
        report.ratios(&format!("{what}: requests/s / direct"), &runs);
    }
    if !wants("bulk") {
        return;
    }
    let body = bulk(BULK_BYTES);
    let bytes = body.len() as f64;
    let asked = Asked { connections: 2, line: "POST /_bulk", kind: "application/x-ndjson", body };
    let mut runs = plan.turns(all, |party| Some(one(party, &asked, Duration::from_secs(plan.seconds))));
    runs.iter_mut().flatten().for_each(|run| run.units *= bytes);
    report.costs(&format!("{behind}, _bulk of 5 MB, 2 connections: CPU s per GB"), &runs, 1e9);
    report.ratios(&format!("{behind}, _bulk of 5 MB, 2 connections: bytes/s / direct"), &runs);
}

fn one(party: &Party, asked: &Asked, lasts: Duration) -> Run {
    std::thread::sleep(Duration::from_millis(300));
    let length = match asked.body.len() {
        0 => String::new(),
        length => format!("Content-Type: {}\r\nContent-Length: {length}\r\n", asked.kind),
    };
    let request: std::sync::Arc<[u8]> =
        format!("{} HTTP/1.1\r\nHost: localhost\r\n{}{length}\r\n{}", asked.line, party.proof, asked.body)
            .into_bytes()
            .into();
    let ready = std::sync::Arc::new(tokio::sync::Barrier::new(asked.connections + 1));
    let clients: Vec<_> = (0..asked.connections)
        .map(|_| {
            let (request, ready, port) = (request.clone(), ready.clone(), party.port);
            runtime().spawn(async move {
                let mut client = Client::connect(port).await;
                // The first is another one: it logs in, opens a connection, fills caches.
                client.ask(&request).await;
                ready.wait().await;
                let began = Instant::now();
                let mut took = Vec::new();
                while began.elapsed() < lasts {
                    let asked = Instant::now();
                    client.ask(&request).await;
                    took.push(asked.elapsed().as_secs_f64() * 1e6);
                }
                took
            })
        })
        .collect();
    block(ready.wait());
    let before = party.pid.map_or(0.0, cpu_seconds);
    let began = Instant::now();
    let took: Vec<Vec<f64>> =
        clients.into_iter().map(|client| block(client).expect("a client ends")).collect();
    let seconds = began.elapsed().as_secs_f64();
    let cpu = party.pid.map_or(0.0, cpu_seconds) - before;
    let units = took.iter().map(Vec::len).sum::<usize>() as f64;
    let middle = spread(took.into_iter().flatten()).map_or(0.0, |[_, middle, _]| middle);
    Run { units, seconds, cpu, middle }
}

struct Client {
    socket: TcpStream,
    read: Vec<u8>,
}

impl Client {
    async fn connect(port: u16) -> Self {
        let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.expect("it listens");
        socket.set_nodelay(true).expect("no delay");
        Self { socket, read: Vec::with_capacity(64 << 10) }
    }

    /// Sends it and reads the answer, which must be a good one.
    async fn ask(&mut self, request: &[u8]) {
        self.socket.write_all(request).await.expect("it takes a request");
        self.read.clear();
        let (mut head, mut length) = (None, None);
        loop {
            let count = self.socket.read_buf(&mut self.read).await.expect("it answers");
            assert!(count > 0, "closed: {}", text(&self.read));
            if head.is_none()
                && let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n")
            {
                let said = text(&self.read[..end]).to_ascii_lowercase();
                assert!(said.starts_with("http/1.1 20"), "{}", text(&self.read));
                let of = said.lines().find_map(|line| line.strip_prefix("content-length: "));
                length = of.map(|length| length.parse::<usize>().expect("a length"));
                head = Some(end + 4);
            }
            let Some(head) = head else { continue };
            let over = match length {
                Some(length) => self.read.len() >= head + length,
                None => self.read[head - 2..].ends_with(b"\r\n0\r\n\r\n"),
            };
            if over {
                return;
            }
        }
    }
}

/// The backend: a process of its own. Never returns.
pub fn backend(port: u16) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.expect("a free port");
        loop {
            let (socket, _) = listener.accept().await.expect("a connection");
            tokio::spawn(answer(socket));
        }
    });
}

/// Whatever is asked, it has been read whole before it is answered.
async fn answer(mut socket: TcpStream) {
    const DOCUMENT: &str = r#"{"_index":"logs-1","_id":"1","_version":1,"_seq_no":0,"_primary_term":1,"found":true,
        "_source":{"user":"kim","n":1,"text":"words of a line words of a line words of a line words of a line"}}"#;
    let _ = socket.set_nodelay(true);
    let mut read = Vec::with_capacity(256 << 10);
    loop {
        let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") else {
            let Ok(1..) = socket.read_buf(&mut read).await else { return };
            continue;
        };
        let said = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
        let length = said.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.and_then(|length| length.parse::<usize>().ok());
        let mut left = length.unwrap_or(0).saturating_sub(read.len() - end - 4);
        let is_chunked = said.contains("transfer-encoding: chunked");
        while left > 0 || is_chunked && !read.ends_with(b"\r\n0\r\n\r\n") {
            // What was read is not needed but for the end of the last chunk.
            let kept = read.len().saturating_sub(7);
            read.drain(..kept);
            let Ok(count @ 1..) = socket.read_buf(&mut read).await else { return };
            left = left.saturating_sub(count);
        }
        read.clear();
        let body = match said.split_whitespace().nth(1).unwrap_or_default() {
            "/_alias" => "{}",
            path if path.starts_with("/_resolve") => {
                r#"{"indices":[{"name":"logs-1","attributes":["open"]}],"aliases":[],"data_streams":[]}"#
            }
            _ => DOCUMENT,
        };
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ";
        let answer = format!("{head}{}\r\n\r\n{body}", body.len());
        if socket.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}
