//! Logins at servers that behave, and at those that do not.

use bytes::BytesMut;
use proptest::prelude::*;

use super::super::capability::Capabilities;
use super::super::dial::{Goal, MySqlDial};
use super::super::facts::MySqlFacts;
use super::super::greeting::{Opening, put_switch};
use crate::model::{AuthMethod, ChannelBinding, Upstream};
use crate::protocol::kit::mysql::{KEY, RANDOM, SERVER_METHODS, Server, packet, packets, secret};
use crate::protocol::kit::{self, Outcome};
use crate::protocol::session::{
    Dial, DialInput, DialPurpose, DialTls, DialTlsFacts, DialWay, Facts, Interruption,
};

fn goal() -> Goal {
    Goal { database: "shop".into(), flavour: String::new() }
}

fn machine(goal: Goal, way: impl Into<DialWay>) -> MySqlDial {
    let mut machine = MySqlDial::towards(goal, way, &secret("tg_secret"));
    machine.fix_random(&RANDOM);
    machine
}

/// Under rules that name these methods.
fn naming(tls: DialTls, methods: &[AuthMethod]) -> DialWay {
    let require_auth = Some(methods.iter().copied().collect());
    DialWay { rules: Upstream { require_auth, ..Upstream::default() }, ..DialWay::from(tls) }
}

fn verified() -> DialTlsFacts {
    DialTlsFacts { verified: true, end_point: None }
}

fn log_in(machine: &mut MySqlDial, server: &mut Server, tls: &DialTlsFacts) -> (Outcome, Option<MySqlFacts>) {
    kit::dial_inside(machine, &mut |said| Some(server.answer(said)), &mut kit::whole, tls)
}

/// How a login ends at a server that says these things behind its greeting.
fn end(way: impl Into<DialWay>, turns: &[Vec<u8>]) -> String {
    let mut server = Server::new("tg_secret", "mysql_native_password");
    let greeting = server.answer(b"");
    let turns: Vec<&[u8]> = std::iter::once(&greeting[..]).chain(turns.iter().map(Vec::as_slice)).collect();
    kit::dial(&mut machine(goal(), way), &mut kit::script(&turns), &mut kit::whole).0.end
}

fn switch(sequence: u8, method: &str, data: &[u8]) -> Vec<u8> {
    let mut body = BytesMut::new();
    put_switch(&mut body, method, data);
    packet(sequence, &body)
}

const OK: &[u8] = b"\0\0\0\x02\0\0\0";

#[test]
fn every_method_of_a_server_lets_us_in() {
    for announced in ["mysql_native_password", "caching_sha2_password", "sha256_password"] {
        for method in SERVER_METHODS {
            let mut server = Server::new("tg_secret", method);
            server.announced = announced;
            let (outcome, facts) = log_in(&mut machine(goal(), DialTls::Demand), &mut server, &verified());
            assert_eq!(outcome.end, "ready", "{announced} {method}");
            let facts = facts.unwrap();
            assert_eq!((facts.thread, facts.login(), &*facts.database), (7, "alice", "shop"));
            assert_eq!(facts.server_version(), "9.7.4");
            assert_eq!(facts.upstream_name(), "7");
            assert!(facts.learned().unwrap().ends_with(" 9.7.4"));
        }
    }
}

#[test]
fn a_wrong_password_is_a_bad_secret() {
    for method in SERVER_METHODS {
        let mut server = Server::new("tg_other", method);
        let (outcome, _) = log_in(&mut machine(goal(), DialTls::Demand), &mut server, &verified());
        assert!(
            outcome.end.starts_with("refused BadSecret 1045: Access denied"),
            "{method}: {}",
            outcome.end
        );
    }
}

/// Without a certificate that was checked: an answer to a challenge goes out, the password does not.
#[test]
fn the_password_itself_goes_to_known_servers_only() {
    let refused =
        "the server asks for the password itself, which is only sent where its certificate is checked";
    for (method, cached, shows) in [
        ("mysql_native_password", true, false),
        ("client_ed25519", true, false),
        ("parsec", true, false),
        ("caching_sha2_password", true, false),
        ("caching_sha2_password", false, true),
        ("sha256_password", true, true),
        ("mysql_clear_password", true, true),
    ] {
        for tls in [DialTls::Without, DialTls::Demand] {
            let mut server = Server::new("tg_secret", method);
            server.cached = cached;
            let (outcome, _) = log_in(&mut machine(goal(), tls), &mut server, &DialTlsFacts::default());
            match shows {
                false => assert_eq!(outcome.end, "ready", "{method} {tls:?}"),
                true if method == "caching_sha2_password" => {
                    assert!(outcome.end.starts_with("refused NotAdmitted"), "{}", outcome.end);
                }
                true => assert!(outcome.end.contains(refused), "{method} {tls:?}: {}", outcome.end),
            }
            assert!(!contains(&outcome.said, b"tg_secret"));
        }
    }
}

#[test]
fn outside_tls_the_password_is_sealed_where_the_target_allows_it() {
    let allowed = [AuthMethod::CachingSha2, AuthMethod::Password];
    for method in ["caching_sha2_password", "sha256_password"] {
        let mut server = Server::new("tg_secret", method);
        server.cached = false;
        let mut machine = machine(goal(), naming(DialTls::Without, &allowed));
        let (outcome, _) = log_in(&mut machine, &mut server, &DialTlsFacts::default());
        assert_eq!(outcome.end, "ready", "{method}");
        assert!(!contains(&outcome.said, b"tg_secret"), "under the nonce at least");
    }
    // In clear never.
    let mut server = Server::new("tg_secret", "mysql_clear_password");
    let mut machine = machine(goal(), naming(DialTls::Without, &allowed));
    let (outcome, _) = log_in(&mut machine, &mut server, &DialTlsFacts::default());
    assert!(outcome.end.ends_with("in clear, which is only sent inside TLS"), "{}", outcome.end);
}

#[test]
fn over_a_unix_socket_the_password_goes_as_it_is() {
    for method in ["caching_sha2_password", "mysql_clear_password"] {
        let mut server = Server::new("tg_secret", method);
        server.cached = false;
        let way = DialWay { local: true, ..DialWay::from(DialTls::Without) };
        let (outcome, _) = log_in(&mut machine(goal(), way), &mut server, &DialTlsFacts::default());
        assert_eq!(outcome.end, "ready", "{method}");
        assert!(contains(&outcome.said, b"tg_secret\0"));
    }
}

#[test]
fn what_a_target_leaves_out_is_not_answered() {
    for (method, named, what) in [
        ("mysql_native_password", AuthMethod::Parsec, "asks for mysql_native_password, which require_auth"),
        (
            "caching_sha2_password",
            AuthMethod::NativePassword,
            "asks for caching_sha2_password, which require_auth",
        ),
        (
            "client_ed25519",
            AuthMethod::NativePassword,
            "asks for client_ed25519, which require_auth leaves out",
        ),
        ("parsec", AuthMethod::NativePassword, "asks for parsec, which require_auth leaves out"),
        ("sha256_password", AuthMethod::NativePassword, "asks for the password itself"),
    ] {
        let mut server = Server::new("tg_secret", method);
        let mut machine = machine(goal(), naming(DialTls::Demand, &[named]));
        let (outcome, _) = log_in(&mut machine, &mut server, &verified());
        assert!(outcome.end.contains(what), "{method}: {}", outcome.end);
    }
    let rules = Upstream { channel_binding: ChannelBinding::Require, ..Upstream::default() };
    let way = DialWay { rules, ..DialWay::from(DialTls::Demand) };
    let mut server = Server::new("tg_secret", "mysql_native_password");
    let (outcome, _) = log_in(&mut machine(goal(), way), &mut server, &verified());
    assert!(outcome.end.contains("channel_binding"), "{}", outcome.end);
}

#[test]
fn a_server_that_asks_for_nothing_must_be_known() {
    let mut nothing = MySqlDial::towards(goal(), DialTls::Without, &secret(""));
    let mut server = Server::new("", "mysql_native_password");
    let greeting = server.answer(b"");
    let turns = [&greeting[..], &packet(2, OK)];
    let (outcome, _) = kit::dial(&mut nothing, &mut kit::script(&turns), &mut kit::whole);
    assert_eq!(outcome.end, "ready", "there is nothing to prove");
    // An announced method that is none of ours is not answered; an OK to that is no proof asked for.
    server = Server::new("tg_secret", "mysql_native_password");
    server.announced = "sha256_password";
    let greeting = server.answer(b"");
    let turns = [&greeting[..], &packet(2, OK)];
    let (outcome, _) =
        kit::dial(&mut machine(goal(), DialTls::Without), &mut kit::script(&turns), &mut kit::whole);
    assert!(outcome.end.contains("asks for no proof"), "{}", outcome.end);
}

#[test]
fn tls_is_what_the_attempt_says() {
    for (tls, has, end) in [
        (DialTls::Without, true, "ready"),
        (DialTls::Try, false, "ready"),
        (DialTls::Try, true, "ready"),
        (DialTls::Demand, true, "ready"),
        (DialTls::Direct, true, "ready"),
        (DialTls::Direct, false, "ready"),
        (DialTls::Demand, false, "error: greeting: the server has no TLS, and the target demands it"),
    ] {
        let mut server = Server::new("tg_secret", "mysql_native_password");
        if !has {
            server.capabilities = server.capabilities - Capabilities::SSL;
        }
        let (outcome, facts) = log_in(&mut machine(goal(), tls), &mut server, &verified());
        assert_eq!(outcome.end, end, "{tls:?} {has}");
        let asks = facts.is_some_and(|facts| facts.capabilities.has(Capabilities::SSL));
        assert_eq!(asks, has && matches!(tls, DialTls::Try | DialTls::Demand), "{tls:?}");
    }
}

#[test]
fn a_server_is_dialled_with_what_the_client_was_promised() {
    let flavour = Capabilities::MULTI_STATEMENTS | Capabilities::MARIADB_PROGRESS;
    let goal = || Goal { database: String::new(), flavour: flavour.flavour() };
    let mut server = Server::new("tg_secret", "mysql_native_password");
    server.capabilities = Capabilities::ALWAYS | Capabilities::CONVERSATION;
    let (outcome, facts) = log_in(&mut machine(goal(), DialTls::Without), &mut server, &verified());
    assert_eq!(outcome.end, "ready");
    assert_eq!(facts.unwrap().capabilities & Capabilities::CONVERSATION, flavour);
    let (_, body) = packets(&outcome.said)[0];
    let Ok(Opening::Response(response)) = Opening::parse(body, server.capabilities) else { panic!() };
    assert_eq!(response.request.capabilities & Capabilities::CONVERSATION, flavour);
    assert_eq!(response.database, None);
    // Where nothing of MariaDB's is wanted it is told so.
    let mut server = Server::new("tg_secret", "mysql_native_password");
    server.capabilities = Capabilities::ALWAYS | Capabilities::CONVERSATION;
    let plain = Goal { database: "shop".into(), flavour: "0".into() };
    let (outcome, _) = log_in(&mut machine(plain, DialTls::Without), &mut server, &verified());
    let (_, body) = packets(&outcome.said)[0];
    assert_eq!(body[0] & 1, 1);
    // A server without it is not the one that the client was greeted for.
    let mut server = Server::new("tg_secret", "mysql_native_password");
    let (outcome, _) = log_in(&mut machine(goal(), DialTls::Without), &mut server, &verified());
    assert!(outcome.end.contains("lacks a capability"), "{}", outcome.end);
    let broken = Goal { database: String::new(), flavour: "x".into() };
    let mut server = Server::new("tg_secret", "mysql_native_password");
    let (outcome, _) = log_in(&mut machine(broken, DialTls::Without), &mut server, &verified());
    assert!(outcome.end.starts_with("error"), "{}", outcome.end);
}

#[test]
fn statements_are_not_stopped_by_a_request_of_its_own() {
    let nobody = Interruption(b"1234".to_vec());
    let mut machine = MySqlDial::new(&DialPurpose::Interrupt(&nobody), DialTls::Without.into(), &secret("x"));
    let mut out = BytesMut::new();
    assert!(machine.step(DialInput::Start, &mut out).is_err() && out.is_empty());
}

// ---------------------------------------------------------------------------------------------
// Servers that do not behave

#[test]
fn errors_in_place_of_a_greeting_are_understood() {
    for (body, end) in [
        (&b"\xff\x10\x04Too many connections"[..], "refused Full 1040: Too many connections"),
        (
            b"\xff\x6a\x04Host '10.0.0.1' is not allowed",
            "refused NotAdmitted 1130: Host '10.0.0.1' is not allowed",
        ),
        (b"\x09old", "error: greeting: not of version 10: this is no MySQL or MariaDB server"),
        (b"", "error: greeting: not of version 10: this is no MySQL or MariaDB server"),
        (b"\x0aversion", "error: greeting: malformed, or of a server before 5.5"),
    ] {
        let turn = packet(0, body);
        let mut machine = machine(goal(), DialTls::Without);
        assert_eq!(kit::dial(&mut machine, &mut kit::script(&[&turn]), &mut kit::whole).0.end, end);
    }
}

#[test]
fn a_server_that_asks_again_and_again_is_left() {
    let mut sequence = 0u8;
    let mut server = Server::new("tg_secret", "mysql_native_password");
    let mut peer = |said: &[u8]| {
        let turn = match sequence {
            0 => server.answer(said),
            _ => switch(sequence, "mysql_native_password", b"the server's 20 byte\0"),
        };
        sequence = sequence.wrapping_add(2);
        Some(turn)
    };
    let mut machine = machine(goal(), DialTls::Without);
    let (outcome, _) = kit::dial(&mut machine, &mut peer, &mut kit::whole);
    assert_eq!(outcome.end, "error: authentication: the server switches the method again and again");
}

#[test]
fn words_that_are_not_due_are_errors() {
    let long = vec![b'x'; 5_000];
    let key = [b"\x01", KEY].concat();
    for (turns, end) in [
        (vec![packet(2, b"")], "error: login: an empty packet"),
        (vec![packet(2, b"\xfb/etc/passwd")], "error: login: the server asks for a file of ours"),
        (vec![packet(2, b"\xfe")], "error: login: the server asks for the method from before 4.1"),
        (vec![packet(2, b"\x01\x03")], "error: authentication: words of the server that are not due"),
        (vec![packet(2, b"\x01\x04")], "error: authentication: words of the server that are not due"),
        (vec![packet(2, &key)], "error: authentication: words of the server that are not due"),
        (vec![packet(2, b"\x02")], "error: authentication: words of the server that are not due"),
        (vec![packet(3, OK)], "error: packet header: out of order"),
        (vec![packet(2, b"\0")], "error: OK: malformed"),
        (vec![packet(2, b"\0\0\0\x01\0\0\0")], "error: OK: a transaction is open right after login"),
        (vec![b"\xff\xff\xff\x02".to_vec()], "error: packet header: longer than any packet we asked for"),
        (
            vec![switch(2, "mysql_native_password", b"short")],
            "error: authentication: a nonce of a wrong length",
        ),
        (vec![switch(2, "mysql_native_password", &long)], "error: authentication: too long"),
        (vec![switch(2, "client_ed25519", b"short")], "error: authentication: a scramble of a wrong length"),
        (vec![switch(2, "parsec", &[0; 31])], "error: authentication: a scramble of a wrong length"),
        (
            vec![switch(2, "mysql_old_password", b"12345678")],
            "error: authentication: the server asks for the method from before 4.1, which is not supported",
        ),
        (
            vec![switch(2, "dialog", b"\x04Password: ")],
            "error: authentication: the server asks for PAM or Kerberos, which is not supported",
        ),
        (
            vec![switch(2, "another", b"")],
            "error: authentication: the server asks for a method that we do not know",
        ),
        (
            vec![switch(2, "parsec", &[0; 32]), packet(4, b"\0\0\0\x02\0\0\0")],
            "error: authentication: success in the middle of a proof",
        ),
    ] {
        assert_eq!(super::dial::end(DialTls::Without, &turns), end);
    }
}

#[test]
fn a_server_cannot_make_us_compute() {
    let salt = |head: &[u8], bytes: usize| [head, &vec![7; bytes]].concat();
    for (salt, end) in [
        (salt(b"P\x03", 18), "gone"),
        (salt(b"P\x04", 18), "error: parsec: the server asks for more rounds than we compute"),
        (salt(b"P\xff", 18), "error: parsec: the server asks for more rounds than we compute"),
        (salt(b"P\0", 17), "error: parsec: a salt of a wrong length"),
        (salt(b"P\0", 19), "error: parsec: a salt of a wrong length"),
        (salt(b"Q\0", 18), "error: parsec: a salt of another kind"),
        (salt(b"P", 0), "error: parsec: a salt of another kind"),
    ] {
        let turns = [switch(2, "parsec", &[0; 32]), packet(4, &salt)];
        assert_eq!(super::dial::end(DialTls::Without, &turns), end);
    }
}

#[test]
fn what_is_no_key_seals_nothing() {
    use crate::protocol::session::{Dial, DialInput, DialStep};
    let way = naming(DialTls::Without, &[AuthMethod::Password, AuthMethod::CachingSha2]);
    let mut machine = machine(goal(), way);
    let mut server = Server::new("tg_secret", "caching_sha2_password");
    server.cached = false;
    let mut out = BytesMut::new();
    let mut step = machine.step(DialInput::Start, &mut out).unwrap();
    loop {
        step = match step {
            DialStep::NeedBytes => {
                let mut input = BytesMut::from(&server.answer(&out)[..]);
                out.clear();
                machine.step(DialInput::Bytes(&mut input), &mut out).unwrap()
            }
            DialStep::Seal { key, text } => {
                assert_eq!(key, KEY);
                assert_eq!(text[0], b't' ^ b'n');
                let refused = machine.step(DialInput::Sealed(Err("it is garbage")), &mut out);
                assert_eq!(refused.err().unwrap().to_string(), "the server's RSA key: it is garbage");
                break;
            }
            _ => panic!("over"),
        };
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

proptest! {
    #[test]
    fn a_login_is_the_same_however_its_bytes_arrive(
        method in 0..SERVER_METHODS.len(),
        cached: bool,
        tls in 0..3usize,
        right: bool,
        seed: u32,
    ) {
        let conversation = |cut: kit::Cut<'_>| {
            let mut server = Server::new(if right { "tg_secret" } else { "tg_other" }, SERVER_METHODS[method]);
            server.cached = cached;
            let tls = [DialTls::Without, DialTls::Demand, DialTls::Direct][tls];
            let mut machine = machine(goal(), tls);
            kit::dial_inside(&mut machine, &mut |said| Some(server.answer(said)), cut, &verified()).0
        };
        let mut state = seed;
        let uneven = &mut |left: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            1 + (state >> 24) as usize % left
        };
        let whole = conversation(&mut kit::whole);
        prop_assert_eq!(&whole, &conversation(&mut |_| 1));
        prop_assert_eq!(&whole, &conversation(uneven));
        prop_assert!(right || !whole.end.starts_with("ready"));
    }

    #[test]
    fn whatever_a_server_sends_there_is_an_end(
        bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 0..4),
    ) {
        let turns: Vec<Vec<u8>> =
            bodies.iter().enumerate().map(|(at, body)| packet(2 + 2 * at as u8, body)).collect();
        prop_assert!(end(DialTls::Without, &turns) != "endless");
    }
}
