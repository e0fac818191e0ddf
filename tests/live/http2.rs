//! HTTP/2: several requests at once on one connection, each for itself.

use std::io::Write;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::join_all;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::support::http::HttpPlace;
use crate::support::tls::{Tunnel, authority, tunnel};
use crate::support::{CUT, Node, Options, PATIENCE, Person, block, field, runtime, wait_until};

type Sender = SendRequest<Full<Bytes>>;

fn of(person: &Person) -> String {
    format!("Basic {}", STANDARD.encode(format!("{}:{}", person.name, person.secret)))
}

fn node(sessions: &str) -> (Node<HttpPlace>, Person) {
    let node = Node::opensearch();
    let alice = node.user("alice");
    node.grant("alice", "read_write", "1h", &["--database", "logs-*", "--sessions", sessions]);
    (node, alice)
}

fn connect(port: u16) -> Sender {
    block(async {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("the tunnel listens");
        let shaken = handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (sender, connection) = shaken.expect("it speaks HTTP/2");
        tokio::spawn(connection);
        sender
    })
}

fn h2(node: &Node<HttpPlace>) -> u16 {
    tunnel(node.port, Tunnel { direct: true, alpn: &["h2"], server_name: "localhost" }).0
}

fn request(proof: &str, line: &str, body: &str) -> Request<Full<Bytes>> {
    let (method, path) = line.split_once(' ').expect("a method and a path");
    let mut request = Request::builder().method(method).uri(format!("https://localhost{path}"));
    if !proof.is_empty() {
        request = request.header("authorization", proof);
    }
    if !body.is_empty() {
        request = request.header("content-type", "application/json");
    }
    request.body(Full::new(Bytes::from(body.to_owned()))).expect("a request")
}

async fn said(response: Response<Incoming>) -> (u16, String) {
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a whole body").to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

/// With TLS, and in clear to who begins with it.
#[test]
fn each_stream_brings_its_own_proof() {
    each_stream_brings_its_own_proof_by(h2);
    each_stream_brings_its_own_proof_by(|node| node.port);
}

fn each_stream_brings_its_own_proof_by(port: impl Fn(&Node<HttpPlace>) -> u16) {
    let (node, alice) = node("1");
    let bob = node.user("bob");
    let sender = connect(port(&node));
    let asked = [
        (of(&alice), "GET /logs-1/_doc/1", "", 200),
        (of(&bob), "GET /logs-1/_doc/2", "", 403),
        (String::new(), "GET /logs-1/_doc/3", "", 401),
        (of(&alice), "POST /logs-1/_doc", "{\"a\":1}", 200),
        (of(&alice), "GET /secret/_doc/1", "", 403),
        (format!("Bearer {}", alice.secret), "GET /logs-1/_doc/4", "", 200),
        ("Bearer tg_wrong".to_owned(), "GET /logs-1/_doc/5", "", 401),
        (of(&alice), "POST /_bulk", "{\"index\":{\"_index\":\"logs-1\"}}\n{}\n", 200),
        (of(&alice), "GET /logs-1/../secret/_doc/1", "", 400),
    ];
    // All at once, and again: one connection, one person, one grant, so one session.
    for _ in 0..3 {
        let answers =
            asked.iter().map(|(proof, line, body, _)| {
                let mut sender = sender.clone();
                async move {
                    said(sender.send_request(request(proof, line, body)).await.expect("an answer")).await
                }
            });
        let answers = block(join_all(answers));
        for ((_, line, _, status), (said, body)) in asked.iter().zip(answers) {
            assert_eq!(said, *status, "{line}: {body}");
        }
    }
    assert_eq!(node.sessions().len(), 1, "{:?}", node.sessions());
    let seen = node.place.seen();
    assert_eq!(seen.len(), 12, "{seen:?}");
    assert!(seen.iter().all(|seen| seen.line.ends_with("HTTP/1.1") && !seen.line.contains("secret")));
    assert!(seen.iter().any(|seen| seen.body == "{\"a\":1}"));
}

#[test]
fn what_is_under_way_ends_with_its_grant() {
    let (node, alice) = node("9");
    let mut sender = connect(h2(&node));
    let (slow, never) = (
        request(&of(&alice), "GET /logs-1/_doc/slow", ""),
        request(&of(&alice), "GET /logs-1/_doc/never", ""),
    );
    let download = block(sender.send_request(slow)).expect("it begins");
    let search = runtime().spawn(sender.send_request(never));
    node.place.wait_seen("never");
    let (closed, began) = (node.place.closed(), Instant::now());
    for grant in node.json(&["grant", "list"]).as_array().expect("a list") {
        node.done(&["grant", "revoke", &field(grant, "id")]);
    }
    wait_until("both are closed at the target", CUT, || node.place.closed() >= closed + 2);
    assert!(block(download.into_body().collect()).is_err(), "what was cut is no whole answer");
    let (status, body) = block(async { said(search.await.expect("it ran").expect("an answer")).await });
    assert!(status == 403 && body.contains("TG004"), "{status} {body}");
    assert!(began.elapsed() < CUT + Duration::from_millis(500), "{:?}", began.elapsed());
}

/// Streams that are opened and reset at once (CVE-2023-44487) end the connection, and little of them reaches the
/// target.
#[test]
fn a_flood_of_resets_ends_its_connection() {
    let (node, alice) = node("9");
    let port = h2(&node);
    let mut sender = connect(port);
    let mut sent = 0;
    let ended = block(async {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let mut begun = Vec::new();
            for _ in 0..16 {
                if sender.ready().await.is_err() {
                    return true;
                }
                begun.push(sender.send_request(request(&of(&alice), "GET /logs-1/_doc/never", "")));
                sent += 1;
            }
            // They are on their way; each is reset when it is dropped.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        false
    });
    assert!(ended, "{sent} streams were reset and the connection is still there");
    let mut other = connect(port);
    let answer = block(async { other.send_request(request(&of(&alice), "GET /logs-1/_doc/1", "")).await });
    assert_eq!(answer.expect("others are served").status(), 200);
    wait_until("nothing is left under way", PATIENCE, || node.place.connections() - node.place.closed() <= 2);
}

/// Who asks for more at once than a connection may is told to wait, and gets all of it.
#[test]
fn streams_are_bounded() {
    let (node, alice) = node("9");
    let sender = connect(h2(&node));
    let answers = (0..200).map(|number| {
        let mut sender = sender.clone();
        let request = request(&of(&alice), &format!("GET /logs-1/_doc/{number}"), "");
        async move { sender.send_request(request).await.map(|answer| answer.status().as_u16()) }
    });
    let answers = block(join_all(answers));
    let served = answers.iter().filter(|answer| matches!(answer, Ok(200))).count();
    assert_eq!(served, 200, "{answers:?}");
    let long = Request::builder()
        .uri("https://localhost/logs-1/_doc/1")
        .header("authorization", of(&alice))
        .header("x-long", "x".repeat(100_000))
        .body(Full::default())
        .expect("a request");
    let mut sender = sender.clone();
    let answer = block(sender.send_request(long));
    assert!(!answer.is_ok_and(|answer| answer.status() == 200), "a head that is too long was taken");
}

/// Whose client does not take its answer is not asked for more of it: the stream ends with its grant all the same, and
/// it alone.
#[test]
fn a_stream_that_nobody_reads_is_cut_by_itself() {
    let (node, alice) = node("9");
    let bob = node.user("bob");
    node.grant("bob", "read", "1h", &["--database", "logs-*"]);
    let mut sender = connect(h2(&node));
    let flood =
        block(sender.send_request(request(&of(&alice), "GET /logs-1/_doc/flood", ""))).expect("it begins");
    // Until all that can be on its way is.
    std::thread::sleep(Duration::from_millis(500));
    let grants = node.json(&["grant", "list"]);
    let hers = grants.as_array().expect("a list").iter().find(|grant| grant["subject"]["user"] == "alice");
    let (closed, began) = (node.place.closed(), Instant::now());
    node.done(&["grant", "revoke", &field(hers.expect("she has one"), "id")]);
    wait_until("it is closed at the target", CUT, || node.place.closed() > closed);
    let result = node.wait_event("result", |line| line["user"] == "alice");
    assert_eq!(result["sqlstate"], "unfinished", "{result}");
    assert!(began.elapsed() < CUT + Duration::from_millis(500), "{:?}", began.elapsed());
    let error = block(flood.into_body().collect()).expect_err("what was cut is no whole answer");
    assert!(format!("{error:?}").contains("CANCEL"), "{error:?}");
    for (person, status) in [(&bob, 200), (&alice, 403)] {
        let answer = block(async {
            said(
                sender.send_request(request(&of(person), "GET /logs-1/_doc/1", "")).await.expect("an answer"),
            )
            .await
        });
        assert_eq!(answer.0, status, "{answer:?}");
    }
}

/// The last of an answer that a client does not take holds nothing at the target, and goes with the grant.
#[test]
fn a_short_answer_that_nobody_takes_holds_nothing() {
    let options = Options {
        target: "tls = \"disable\"",
        pool: "size_max = 1\nwait_seconds_max = 1",
        ..Options::default()
    };
    let node = Node::with(HttpPlace::default(), options);
    let (alice, bob) = (node.user("alice"), node.user("bob"));
    let grant = |user: &str| node.grant(user, "read", "1h", &["--database", "logs-*"]);
    let (hers, _) = (grant("alice"), grant("bob"));
    let port = h2(&node);
    let mut sender: Sender = block(async {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("the tunnel listens");
        let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        let shaken = builder.initial_stream_window_size(0).handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.expect("it speaks HTTP/2");
        tokio::spawn(connection);
        sender
    });
    let ask = |sender: &mut Sender| {
        let asked = request(&of(&alice), "GET /logs-1/_doc/1", "");
        block(sender.send_request(asked)).expect("its head comes")
    };
    let untaken = [ask(&mut sender), ask(&mut sender)];
    let others = node.client().ask(&of(&bob), "GET /logs-1/_doc/2", "");
    assert_eq!(others.status, 200, "{others:?}");
    let began = Instant::now();
    node.done(&["grant", "revoke", &hers]);
    for response in untaken {
        let ended = block(async { tokio::time::timeout(PATIENCE, response.into_body().collect()).await });
        let error = ended.expect("it ends").expect_err("what was cut is no whole answer");
        assert!(format!("{error:?}").contains("CANCEL"), "{error:?}");
    }
    assert!(began.elapsed() < CUT + Duration::from_secs(1), "{:?}", began.elapsed());
}

/// What a program does that everybody has.
#[test]
fn curl_speaks_it() {
    let (node, alice) = node("9");
    let ca = node.folder.join("authority.pem");
    std::fs::write(&ca, &authority().pem).expect("a file");
    for (way, url) in [
        ("--http2", format!("https://localhost:{}", node.port)),
        ("--http2-prior-knowledge", format!("http://127.0.0.1:{}", node.port)),
        ("--http1.1", format!("https://localhost:{}", node.port)),
    ] {
        let version = if way == "--http1.1" { "1.1" } else { "2" };
        // Debian's curl breaks off the second request of such a connection, whoever it talks to.
        for (path, status) in [("/logs-1/_doc/1", 200), ("/secret/_doc/1", 403)] {
            let output = std::process::Command::new("curl")
                .args(["--silent", "--show-error", way, "--cacert"])
                .arg(&ca)
                .args([
                    "--user",
                    &format!("alice:{}", alice.secret),
                    "--write-out",
                    " %{http_version} %{http_code}",
                ])
                .arg(format!("{url}{path}"))
                .output()
                .expect("curl runs");
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(said.ends_with(&format!(" {version} {status}")), "{way} {path}: {output:?}");
        }
    }
}

/// A frame (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A head without end (CVE-2024-27316 and its like) is neither kept nor listened to.
#[test]
fn a_head_without_end_ends_its_connection() {
    let (node, _) = node("9");
    let before = node.resident_bytes();
    let mut socket = std::net::TcpStream::connect(("127.0.0.1", node.port)).expect("it listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    // A literal that is not indexed, with a name and a value of its own (RFC 7541, section 6.2.2).
    let field = [&[0x00, 0x01, b'a', 0x7f, 0x81, 0x1f][..], &[b'x'; 4_096]].concat();
    let mut sent =
        [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, 0, b""), &frame(1, 0, 1, b"")].concat();
    let mut frames = 0;
    while socket.write_all(&sent).is_ok() && frames < 50_000 {
        sent = frame(9, 0, 1, &field);
        frames += 1;
    }
    assert!(frames < 50_000, "it takes all of them");
    let grown = node.resident_bytes().saturating_sub(before);
    assert!(grown < 4 << 20, "{grown} bytes for {frames} frames");
    assert!(node.place.seen().is_empty());
}
