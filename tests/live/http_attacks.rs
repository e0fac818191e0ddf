//! What somebody who means ill makes of HTTP: a person with a grant of their own, a page in their browser, a target
//! that answers strangely.

use std::io::Write;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::support::http::{Answer, HttpClient, HttpPlace, request};
use crate::support::{CUT, Node, Options, PATIENCE, Person, field, wait_until};

fn of(person: &Person) -> String {
    format!("Basic {}", STANDARD.encode(format!("{}:{}", person.name, person.secret)))
}

/// Alice may read and write `logs-*`.
fn node_with(options: Options<'_>) -> (Node<HttpPlace>, Person) {
    let target = format!("tls = \"disable\"\n{}", options.target);
    let node = Node::with(HttpPlace::default(), Options { target: &target, ..options });
    let alice = node.user("alice");
    node.grant("alice", "read_write", "1h", &["--database", "logs-*"]);
    (node, alice)
}

fn node() -> (Node<HttpPlace>, Person) {
    node_with(Options::default())
}

fn other(node: &Node<HttpPlace>, name: &str) -> Person {
    let person = node.user(name);
    node.grant(name, "read_write", "1h", &["--database", "logs-*"]);
    person
}

fn revoke_all(node: &Node<HttpPlace>) {
    for grant in node.json(&["grant", "list"]).as_array().expect("a list") {
        node.done(&["grant", "revoke", &field(grant, "id")]);
    }
}

#[track_caller]
fn refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert!(answer.body.contains(code), "{answer:?}");
}

/// The first bytes of an upload that does not go on.
fn stalled_upload(person: &Person, path: &str) -> String {
    format!(
        "PUT {path} HTTP/1.1\r\nHost: a\r\nAuthorization: {}\r\nContent-Type: application/json\r\n\
         Content-Length: 100000\r\n\r\n{{",
        of(person)
    )
}

/// Whose client has stopped to take its answer is not polled any more: its end must come all the same.
#[test]
fn who_does_not_read_is_cut_like_who_does() {
    let (node, alice) = node();
    let mut client = node.client();
    client.send(&request(&of(&alice), "GET /logs-1/_doc/flood", ""));
    node.place.wait_seen("flood");
    // Until all that can be on its way is.
    std::thread::sleep(Duration::from_millis(500));
    let closed = node.place.closed();
    revoke_all(&node);
    wait_until("the exchange is closed at the target", CUT, || node.place.closed() > closed);
    let end = node.wait_event("session_end", |_| true);
    assert_eq!((&end["how"], &end["code"]), (&"cut".into(), &"TG004".into()), "{end}");
    // The connection is closed as well, and what had come of the answer is not taken for all of it.
    let result = node.wait_event("result", |line| line["session"] == end["session"]);
    assert_eq!(result["sqlstate"], "unfinished", "{result}");
    let answer = client.answer(false);
    assert!(answer.status == 200 && !answer.whole, "{} {}", answer.status, answer.whole);
}

/// Nobody can hold all connections of a target by taking or sending nothing.
#[test]
fn who_takes_or_sends_nothing_gives_way_to_others() {
    let options = Options { pool: "size_max = 2\nwait_seconds_max = 20", ..Options::default() };
    let (node, alice) = node_with(options);
    let bob = other(&node, "bob");
    let mut downloads = [node.client(), node.client()];
    for client in &mut downloads {
        client.send(&request(&of(&alice), "GET /logs-1/_doc/flood", ""));
    }
    wait_until("both are under way", PATIENCE, || node.place.seen().len() == 2);
    std::thread::sleep(Duration::from_millis(500));
    let began = Instant::now();
    let answer = node.client().ask(&of(&bob), "GET /logs-1/_doc/1", "");
    assert_eq!(answer.status, 200, "{answer:?} after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
}

/// An upload takes no connection of the target before it is there.
#[test]
fn slow_uploads_hold_nobody_up() {
    let options = Options { pool: "size_max = 1\nwait_seconds_max = 1", ..Options::default() };
    let (node, alice) = node_with(options);
    let bob = other(&node, "bob");
    let mut uploads: Vec<HttpClient> = (0..4).map(|_| node.client()).collect();
    for (place, client) in uploads.iter_mut().enumerate() {
        client.send(&stalled_upload(&alice, &format!("/logs-1/_doc/{place}")));
    }
    std::thread::sleep(Duration::from_millis(300));
    for _ in 0..5 {
        let answer = node.client().ask(&of(&bob), "POST /logs-1/_doc", "{}");
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

/// A target that says nothing is waited for once, not once for each that asks.
#[test]
fn a_target_that_says_nothing_holds_each_up_once() {
    let (node, alice) = node();
    node.place.set_aliases("never");
    let mut clients: Vec<HttpClient> = (0..6).map(|_| node.client()).collect();
    let began = Instant::now();
    for client in &mut clients {
        client.send(&request(&of(&alice), "GET /logs-1/_doc/1", ""));
    }
    for client in &mut clients {
        refused(&client.answer(false), 502, "TG012");
    }
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
}

/// Whoever sends wrong secrets from somewhere holds up nobody there who sends a right one.
#[test]
fn wrong_bearers_slow_down_no_right_one() {
    let (node, alice) = node();
    for wrong in 0..7 {
        refused(
            &node.client().ask(&format!("Bearer tg_wrong{wrong}"), "GET /logs-1/_count", ""),
            401,
            "TG001",
        );
    }
    let began = Instant::now();
    let right = format!("Bearer {}", alice.secret);
    assert_eq!(node.client().ask(&right, "GET /logs-1/_count", "").status, 200);
    assert!(began.elapsed() < Duration::from_millis(700), "{:?}", began.elapsed());
    // Who goes on guessing waits, whatever right ones come in between.
    let began = Instant::now();
    refused(&node.client().ask("Bearer tg_wrong", "GET /logs-1/_count", ""), 401, "TG001");
    assert!(began.elapsed() > Duration::from_millis(700), "{:?}", began.elapsed());
}

/// A browser sends the proof that it knows with whatever a page of another site makes it send.
#[test]
fn pages_of_other_sites_send_nothing() {
    let (node, alice) = node();
    let ask = |line: &str, headers: &str| {
        let mut client = node.client();
        client.send(&format!(
            "{line} HTTP/1.1\r\nHost: logs.example:9201\r\nAuthorization: {}\r\n{headers}\r\n",
            of(&alice)
        ));
        client.answer(false)
    };
    for headers in [
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
        "Origin: https://evil.example\r\n",
        "Origin: null\r\n",
        "Origin: https://logs.example:9201.evil.example\r\n",
        "Origin: https://logs.example:9201\r\nOrigin: https://evil.example\r\n",
        "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Site: cross-site\r\n",
    ] {
        let answer = ask("POST /logs-1/_refresh", headers);
        assert!(matches!(answer.status, 400 | 403), "{headers}: {answer:?}");
        assert_eq!(node.place.seen().len(), 0, "{headers} was sent");
    }
    for headers in [
        "",
        "Sec-Fetch-Site: none\r\n",
        "Sec-Fetch-Site: same-origin\r\nOrigin: https://outside.example\r\n",
        "Origin: https://logs.example:9201\r\n",
    ] {
        assert_eq!(ask("POST /logs-1/_refresh", headers).status, 200, "{headers}");
    }
}

/// A gateway may bring several people over one connection: what became of one's session is not told to another.
#[test]
fn why_a_session_ended_is_told_to_nobody_else() {
    let (node, alice) = node();
    let bob = node.user("bob");
    let mut client = node.client();
    assert_eq!(client.ask(&of(&alice), "GET /logs-1/_count", "").status, 200);
    revoke_all(&node);
    wait_until("the session is over", PATIENCE, || node.sessions().is_empty());
    refused(&client.ask(&of(&bob), "GET /logs-1/_count", ""), 403, "TG002");
    refused(&client.ask(&of(&alice), "GET /logs-1/_count", ""), 403, "TG004");
    refused(&client.ask(&of(&bob), "GET /logs-1/_count", ""), 403, "TG002");
}

#[test]
fn an_answer_does_not_tell_where_the_target_is() {
    let (node, alice) = node();
    let mut client = node.client();
    let away = client.ask(&of(&alice), "GET /logs-1/_doc/moved-away", "");
    assert!(away.status == 302 && !away.head.contains("location"), "{away:?}");
    let here = client.ask(&of(&alice), "GET /logs-1/_doc/moved", "");
    assert!(here.head.contains("location: /logs-1/_doc/1"), "{here:?}");
}

/// Bytes that a target sends where none belong are not the next person's answer.
#[test]
fn a_body_where_none_belongs_reaches_nobody() {
    let (node, alice) = node();
    let bob = other(&node, "bob");
    for line in ["HEAD /logs-1/_doc/unasked", "GET /logs-1/_doc/unasked-204", "GET /logs-1/_doc/unasked-304"]
    {
        let mut client = node.client();
        client.send(&request(&of(&alice), line, ""));
        let answer = client.answer(true);
        assert!(matches!(answer.status, 200 | 204 | 304), "{line}: {answer:?}");
        let bobs = node.client().ask(&of(&bob), "GET /logs-1/_doc/1", "");
        assert_eq!((bobs.status, bobs.body.as_str()), (200, "{\"took\":1}"), "{line}");
        let again = client.ask(&of(&alice), "GET /logs-1/_doc/2", "");
        assert_eq!((again.status, again.body.as_str()), (200, "{\"took\":1}"), "{line}");
    }
}

/// What a target does not send whole is not passed on as if it were.
#[test]
fn half_an_answer_is_not_a_whole_one() {
    let (node, alice) = node();
    let answer = node.client().ask(&of(&alice), "GET /logs-1/_doc/halfway", "");
    assert!(answer.status == 200 && !answer.whole, "{answer:?}");
    let result = node.wait_event("result", |_| true);
    assert_eq!(result["sqlstate"], "unfinished", "{result}");
}

/// Whatever a request says of its own length, nothing in it becomes a request of its own.
#[test]
fn nothing_is_smuggled_in_a_body() {
    let (node, alice) = node();
    let proof = format!("Host: a\r\nAuthorization: {}\r\nContent-Type: application/json\r\n", of(&alice));
    let hidden = format!("DELETE /logs-1/_doc/smuggled HTTP/1.1\r\n{proof}\r\n");
    let length = hidden.len();
    for framing in [
        format!("Content-Length: {length}\r\nTransfer-Encoding: chunked"),
        "Transfer-Encoding: chunked\r\nContent-Length: 0".to_owned(),
        "Transfer-Encoding: xchunked".to_owned(),
        "Transfer-Encoding: chunked, identity".to_owned(),
        "Transfer-Encoding: identity, chunked".to_owned(),
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity".to_owned(),
        "Transfer-Encoding: \x0bchunked".to_owned(),
        "Transfer-Encoding : chunked".to_owned(),
        "Transfer-Encoding:\r\n chunked".to_owned(),
        "X: y\nTransfer-Encoding: chunked\r\nContent-Length: 0".to_owned(),
        format!("Content-Length: {length}, {length}"),
        format!("Content-Length: +{length}"),
        format!("Content-Length: 0{length}x"),
        format!("Content-Length: -{length}"),
        format!("Content-Length: {length}\r\nContent-Length: 0"),
        "Content-Length: 99999999999999999999999".to_owned(),
    ] {
        // As chunks it is one of a length that is not its own, then more.
        for body in
            [format!("0\r\n\r\n{hidden}"), format!("1;a=b\r\nZ\r\n0\r\nContent-Length: 5\r\n\r\n{hidden}")]
        {
            let mut client = node.client();
            client.send(&format!("POST /logs-1/_doc HTTP/1.1\r\n{proof}{framing}\r\n\r\n{body}"));
            while client.answer(false).status != 0 {}
            let seen = node.place.seen();
            let smuggled = seen.iter().find(|seen| seen.line.contains("smuggled"));
            assert!(smuggled.is_none(), "{framing:?} {body:?}: {smuggled:?}");
        }
    }
    // Sizes of chunks that two readers take for two numbers.
    for size in ["-1", "+1", "0x1", "1_0", "ffffffffffffffff1", "1\n", "1 2", "", ";1"] {
        let (mut client, before) = (node.client(), node.place.seen().len());
        client.send(&format!(
            "POST /logs-1/_doc HTTP/1.1\r\n{proof}Transfer-Encoding: chunked\r\n\r\n{size}\r\nZ\r\n0\r\n\r\n"
        ));
        client.socket.shutdown(std::net::Shutdown::Write).unwrap();
        let answer = client.answer(false);
        assert!(!(200..300).contains(&answer.status), "{size:?}: {answer:?}");
        assert_eq!(node.place.seen().len(), before, "{size:?}");
    }
}

/// Requests that are sent ahead are answered one after the other, each by its own proof.
#[test]
fn requests_that_are_sent_ahead_are_each_decided_for_themselves() {
    let (node, alice) = node();
    let bob = node.user("bob");
    let mut client = node.client();
    let wait = "POST /logs-1/_doc HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n";
    let document = format!(
        "{wait}Authorization: {}\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}",
        of(&alice)
    );
    client.send(
        &[
            request(&of(&alice), "GET /logs-1/_doc/1", ""),
            request(&of(&bob), "GET /logs-1/_doc/2", ""),
            document,
            request("", "GET /logs-1/_doc/3", ""),
            request(&of(&alice), "GET /logs-1/_doc/4", ""),
        ]
        .concat(),
    );
    let said: Vec<_> = (0..5).map(|_| client.answer(false).status).collect();
    assert_eq!(said, [200, 403, 200, 401, 200]);
    let lines: Vec<_> = node.place.seen().into_iter().map(|seen| seen.line).collect();
    assert_eq!(
        lines,
        ["GET /logs-1/_doc/1 HTTP/1.1", "POST /logs-1/_doc HTTP/1.1", "GET /logs-1/_doc/4 HTTP/1.1"]
    );
    // Nobody is asked for a body that will not be read.
    let mut nobody = node.client();
    nobody.send("POST /logs-1/_doc HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    let mut first = [0; 12];
    std::io::Read::read_exact(&mut nobody.socket, &mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 401");
}

#[test]
fn a_long_method_does_not_fill_the_trail() {
    let (node, alice) = node();
    let mut client = node.client();
    let line = format!("{} /logs-1", "X".repeat(50_000));
    let answer = client.ask(&of(&alice), &line, "");
    assert!((400..500).contains(&answer.status), "{answer:?}");
    let refused = node.wait_event("request_refused", |_| true);
    assert!(refused.to_string().len() < 2_000, "{} bytes", refused.to_string().len());
}

/// An answer that is not taken at all holds its connection no longer than the limit says, whoever waits.
#[test]
fn who_takes_nothing_for_long_is_closed() {
    let (node, alice) = node();
    let mut client = node.client();
    client.send(&request(&of(&alice), "GET /logs-1/_doc/flood", ""));
    node.place.wait_seen("flood");
    let closed = node.place.closed();
    wait_until("the exchange is closed", Duration::from_secs(75), || node.place.closed() > closed);
    let _ = client.socket.write_all(b"x");
}

/// Who begins to send a document to an alias, and ends when it has become another, does not write to that.
#[test]
fn an_alias_that_moves_meanwhile_is_not_followed() {
    let options = Options { target: "bodies = \"stream\"", ..Options::default() };
    let (node, alice) = node_with(options);
    let to =
        |index: &str| node.place.set_aliases(&format!("{{\"{index}\":{{\"aliases\":{{\"logs-x\":{{}}}}}}}}"));
    let proof = format!("Host: a\r\nAuthorization: {}\r\nContent-Type: application/json\r\n", of(&alice));
    let whole = |path: &str, body: &str| {
        let length = body.len();
        format!("POST {path} HTTP/1.1\r\n{proof}Content-Length: {length}\r\n\r\n{body}")
    };
    let pieces = |path: &str, body: &str| {
        let length = body.len();
        format!(
            "POST {path} HTTP/1.1\r\n{proof}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n"
        )
    };
    let bulk = action("logs-x").repeat(6_000);
    assert!(bulk.len() > 250_000);
    for (request, rest) in [
        (whole("/logs-x/_doc", "{\"a\":1}"), 3),
        (pieces("/logs-x/_doc", "{\"a\":1}"), 7),
        (whole("/_bulk", &bulk), 9),
        (pieces("/_bulk", &bulk), 9),
    ] {
        for (then, status) in [("logs-2", 200), ("secret", 403)] {
            to("logs-1");
            std::thread::sleep(Duration::from_millis(1_100));
            let (mut client, sent) = (node.client(), node.place.seen().len());
            let (begin, end) = request.split_at(request.len() - rest);
            client.send(begin);
            std::thread::sleep(Duration::from_millis(1_200));
            to(then);
            std::thread::sleep(Duration::from_millis(1_200));
            client.send(end);
            let answer = client.answer(false);
            assert_eq!(answer.status, status, "{:.40} {then}: {answer:?}", begin);
            let came = node.place.seen().len() - sent;
            assert_eq!(came, usize::from(status == 200), "{:.40} {then}", begin);
        }
    }
}

/// Whose grant has ended does not wait for a target that does not say what a name stands for.
#[test]
fn who_waits_for_names_is_cut_too() {
    let (node, alice) = node();
    node.place.set_aliases("never");
    for line in ["GET /logs-1/_doc/1", "GET /logs-*/_search"] {
        if line.contains('*') {
            node.grant("alice", "read", "1h", &["--database", "logs-*"]);
        }
        let mut client = node.client();
        client.send(&request(&of(&alice), line, ""));
        std::thread::sleep(Duration::from_millis(500));
        let began = Instant::now();
        revoke_all(&node);
        refused(&client.answer(false), 403, "TG00");
        assert!(began.elapsed() < CUT + Duration::from_millis(500), "{line}: {:?}", began.elapsed());
    }
}

/// A little body that would become a huge one takes nobody's memory, nor the time of all.
#[test]
fn wildcards_of_many_searches_do_not_take_the_memory_of_all() {
    let (node, alice) = node();
    let names: Vec<String> = (0..200).map(|number| format!("logs-{number:03}")).collect();
    node.place.set_indices(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let began = Instant::now();
    for (searches, words) in [(100_000, "too many searches"), (9_000, "more indices than a body can name")] {
        let answer = node.client().ask(&of(&alice), "POST /_msearch", &"{}\n{}\n".repeat(searches));
        refused(&answer, 400, "TG013");
        assert!(answer.body.contains(words), "{answer:?}");
    }
    let path = format!("GET /{}/_count", vec!["*,-*"; 1_000].join(","));
    refused(&node.client().ask(&of(&alice), &path, ""), 400, "TG013");
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    assert_eq!(node.place.seen().len(), 0, "nothing of it is sent");
    // Who asks for the same a thousand times is served.
    let answer = node.client().ask(&of(&alice), "POST /_msearch", &"{}\n{}\n".repeat(1_000));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(node.place.seen()[0].body.starts_with("{\"index\":[\"logs-000\",\"logs-001\","));
}

fn action(index: &str) -> String {
    format!("{{\"index\":{{\"_index\":\"{index}\"}}}}\n{{\"text\":\"{}\"}}\n", "x".repeat(1 << 10))
}

/// Files without a name are seen by their bytes alone.
fn open_bodies(node: &Node<HttpPlace>) -> Vec<u64> {
    let folder = format!("/proc/{}/fd", node.pid());
    let links = std::fs::read_dir(folder).expect("it runs").flatten();
    let deleted = |path: &std::path::Path| {
        std::fs::read_link(path).is_ok_and(|to| to.to_string_lossy().contains("/bodies/opensearch/body-"))
    };
    links
        .map(|link| link.path())
        .filter(|path| deleted(path))
        .filter_map(|path| path.metadata().ok())
        .map(|is| is.len())
        .collect()
}

/// All of a `_bulk` is known to be covered before anything of it is sent, and it costs next to no memory meanwhile.
#[test]
fn a_long_bulk_is_checked_whole() {
    let (node, alice) = node();
    let bulk = action("logs-1").repeat(20_000);
    let mut client = node.client();
    assert_eq!(client.ask(&of(&alice), "GET /logs-1/_doc/1", "").status, 200);
    let (before, sent) = (node.resident_bytes(), node.place.seen().len());
    let long = format!("{bulk}{}", action("secret"));
    refused(&client.ask(&of(&alice), "POST /_bulk", &long), 403, "TG002");
    assert_eq!(node.place.seen().len(), sent, "nothing of it was sent");
    let mut client = node.client();
    // All but its end has come.
    let whole = request(&of(&alice), "POST /_bulk", &bulk);
    client.send(&whole[..whole.len() - 10]);
    wait_until("it lies on the disk", PATIENCE, || open_bodies(&node).iter().any(|bytes| *bytes > 19 << 20));
    let grown = node.resident_bytes().saturating_sub(before);
    assert!(grown < 4 << 20, "{grown} bytes of memory for {} of a body", bulk.len());
    assert_eq!(node.place.seen().len(), sent);
    client.send(&whole[whole.len() - 10..]);
    assert_eq!(client.answer(false).status, 200);
    let seen = node.place.seen().pop().expect("it was sent");
    assert!(seen.body == bulk, "{} of {} bytes", seen.body.len(), bulk.len());
    wait_until("nothing is left of it", PATIENCE, || open_bodies(&node).is_empty());
    let left = std::fs::read_dir(node.folder.join("state/bodies/opensearch")).expect("its folder").count();
    assert_eq!(left, 0);
}

#[test]
fn nobody_uses_up_the_room_for_bodies() {
    let options =
        Options { node: "[bodies]\nperson_bytes_max = 2000000\nbytes_max = 3000000\n", ..Options::default() };
    let (node, alice) = node_with(options);
    let bob = other(&node, "bob");
    let document = |bytes: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(bytes));
    let mut held = node.client();
    let whole = request(&of(&alice), "POST /logs-1/_doc", &document(1_500_000));
    held.send(&whole[..1_000_000]);
    wait_until("it lies on the disk", PATIENCE, || !open_bodies(&node).is_empty());
    let ask = |person: &Person, bytes: usize| {
        let mut client = node.client();
        client.send(&request(&of(person), "POST /logs-1/_doc", &document(bytes)));
        client.answer(false)
    };
    let more = ask(&alice, 1_000_000);
    assert!(more.status == 507 || more.status == 0, "{more:?}");
    assert_eq!(ask(&alice, 1_000).status, 200, "what fits into memory needs no room on the disk");
    assert_eq!(ask(&bob, 1_000_000).status, 200);
    assert!(matches!(ask(&bob, 1_800_000).status, 507 | 0));
    held.send(&whole[1_000_000..]);
    assert_eq!(held.answer(false).status, 200);
    assert_eq!(ask(&alice, 1_000_000).status, 200);
    let refused = node.wait_event("request_refused", |line| line["code"] == "TG026");
    assert_eq!(refused["user"], "alice");
}

/// A grant that ends is not listened to any longer, wherever its bodies are kept.
#[test]
fn an_upload_ends_with_its_grant() {
    for bodies in ["whole", "stream"] {
        let options = Options { target: &format!("bodies = \"{bodies}\""), ..Options::default() };
        let (node, alice) = node_with(options);
        let bulk = request(&of(&alice), "POST /_bulk", &action("logs-1").repeat(2_000));
        let mut client = node.client();
        client.send(&bulk[..1_000_000]);
        wait_until("it is under way", PATIENCE, || node.sessions().len() == 1);
        std::thread::sleep(Duration::from_millis(300));
        let began = Instant::now();
        revoke_all(&node);
        refused(&client.answer(false), 403, "TG004");
        assert!(began.elapsed() < CUT + Duration::from_millis(500), "{bodies}: {:?}", began.elapsed());
        assert!(node.place.seen().is_empty(), "{bodies}");
        wait_until("nothing is left of it", PATIENCE, || open_bodies(&node).is_empty());
    }
}

#[test]
fn a_streamed_bulk_goes_as_far_as_it_is_covered() {
    let options = Options { target: "bodies = \"stream\"", ..Options::default() };
    let (node, alice) = node_with(options);
    node.place.set_aliases(r#"{"secret":{"aliases":{"logs-x":{}}}}"#);
    let bulk = action("logs-1").repeat(1_000);
    let mut client = node.client();
    assert_eq!(client.ask(&of(&alice), "POST /_bulk", &bulk).status, 200);
    let seen = node.place.seen().pop().expect("it was sent");
    assert!(seen.body == bulk, "{} of {} bytes", seen.body.len(), bulk.len());
    assert_eq!(seen.header("transfer-encoding"), Some("chunked"));
    // The connection that was streamed over is as good as any other.
    assert_eq!(client.ask(&of(&alice), "GET /logs-1/_doc/1", "").status, 200);
    for bad in [action("secret"), action("logs-x"), "{\"index\":{}}\n{}\n".into(), "{\"delete\"".into()] {
        let (sent, closed) = (node.place.seen().len(), node.place.closed());
        let answer = node.client().ask(&of(&alice), "POST /_bulk", &format!("{bulk}{bad}{bulk}"));
        assert!(matches!(answer.status, 400 | 403 | 0), "{bad}: {answer:?}");
        wait_until("it is broken off", PATIENCE, || node.place.closed() > closed);
        assert_eq!(node.place.seen().len(), sent, "{bad}: it came to its end");
    }
    let result = node.wait_event("result", |line| line["sqlstate"] == "unfinished");
    assert!(result["bytes_up"].as_u64().is_some_and(|bytes| bytes < 2 * bulk.len() as u64), "{result}");
}
