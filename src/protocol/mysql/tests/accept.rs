//! Logins of clients that behave, and of those that do not.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::BytesMut;
use proptest::prelude::*;

use super::super::accept::MySqlAccept;
use super::super::capability::Capabilities;
use super::super::facts::{Learned, Settings};
use super::super::greeting::Greeting;
use crate::model::{Name, Refusal};
use crate::protocol::kit::mysql::{CLIENT_METHODS, Client, RANDOM, answer, packet, packets};
use crate::protocol::kit::{self, Outcome, postgres::certificate};
use crate::protocol::session::{
    Accept, AcceptContext, AcceptInput, AcceptStep, Framing, Question, TlsFacts, TlsOffer,
};

fn context(tls: TlsOffer) -> AcceptContext {
    let orders = Some(Name::parse("orders").unwrap());
    let mut context = AcceptContext::new(orders, IpAddr::V4(Ipv4Addr::LOCALHOST), tls);
    context.greeting.process = 0x1234_5678;
    context
}

fn machine(tls: TlsOffer) -> MySqlAccept {
    machine_of(&context(tls))
}

fn machine_of(context: &AcceptContext) -> MySqlAccept {
    let mut machine = MySqlAccept::new(context);
    machine.fix_random(&RANDOM);
    machine
}

fn login(machine: &mut MySqlAccept, client: &mut Client) -> Outcome {
    kit::accept(machine, &mut |said| Some(client.answer(said)), &mut kit::whole, &mut answer)
}

fn say(machine: &mut MySqlAccept, turns: &[Vec<u8>]) -> Outcome {
    let turns: Vec<&[u8]> = turns.iter().map(Vec::as_slice).collect();
    kit::accept(machine, &mut kit::script(&turns), &mut kit::whole, &mut answer)
}

/// The last packet of these, as the number and text of an error.
fn error(said: &[u8]) -> (u8, u16, String) {
    let (sequence, body) = packets(said).pop().unwrap();
    let [0xff, one, two, rest @ ..] = body else { panic!("{}", body.escape_ascii()) };
    (sequence, u16::from_le_bytes([*one, *two]), String::from_utf8_lossy(rest).into_owned())
}

const IN: &str =
    "login alice Claim { user: \"alice\", level: None, target: \"orders\", database: None, peer: 127.0.0.1 }";

#[test]
fn a_login_gives_identity_claim_and_settings() {
    let mut machine = machine_of(&AcceptContext { target: None, ..context(TlsOffer::Required) });
    let mut client = Client::new("alice+read_write@orders", "tg_secret", "caching_sha2_password").with_tls();
    client.database = Some(b"shop".to_vec());
    let outcome = login(&mut machine, &mut client);
    assert_eq!(
        outcome.end,
        "login alice Claim { user: \"alice\", level: Some(read_write), target: \"orders\", \
         database: Some(\"shop\"), peer: 127.0.0.1 }"
    );
    let agreed = client.capabilities | Capabilities::CONNECT_WITH_DB;
    assert_eq!(
        machine.settings(),
        Settings {
            capabilities: agreed,
            collation: 45,
            attributes: vec![("_client_name".into(), "kit".into())],
            zstd_level: 0,
        }
    );
    assert_eq!(machine.claimed().user, Some("alice+read_write@orders"));
    assert_eq!(machine.claimed().database, Some("shop"));
    assert!(machine.claimed().proven);
    // Greeting 0, request 1, answer 2: the word ahead of the OK is 3, the OK is 4.
    let mut out = BytesMut::new();
    assert_eq!(machine.admit(&mut out), 4);
    assert_eq!(&out[..], b"\x02\0\0\x03\x01\x03");
}

#[test]
fn every_method_of_a_client_leads_in() {
    // Whether a word comes ahead of the OK, and how many packets have passed before.
    for (method, tls, ok) in [
        ("caching_sha2_password", false, 3),
        ("client_ed25519", false, 4),
        ("parsec", false, 6),
        ("mysql_native_password", false, 5),
        ("sha256_password", true, 6),
        ("mysql_clear_password", true, 3),
    ] {
        let mut machine = machine(TlsOffer::Optional);
        let mut client = Client::new("alice", "tg_secret", method);
        if tls {
            client = client.with_tls();
        }
        let outcome = login(&mut machine, &mut client);
        assert_eq!(outcome.end, IN, "{method}");
        assert_eq!(machine.admit(&mut BytesMut::new()), ok, "{method}");
    }
}

/// It takes the version for that of a server which has no words in the middle of a login.
#[test]
fn connector_j_is_let_in_by_mariadb_10_without_a_word() {
    let of = |version: &str, client: &str| {
        let mut context = context(TlsOffer::Unavailable);
        context.greeting.learned = vec![learned(version, Capabilities::PLUGIN_AUTH)];
        let mut machine = machine_of(&context);
        let mut client_of = Client::new("alice", "tg_secret", "caching_sha2_password");
        client_of.attributes = vec![("_client_name".into(), client.into())];
        assert_eq!(login(&mut machine, &mut client_of).end, IN);
        let mut out = BytesMut::new();
        machine.admit(&mut out);
        out.is_empty()
    };
    assert!(of("5.5.5-10.11.6-MariaDB", "MySQL Connector/J"));
    assert!(!of("5.5.5-10.11.6-MariaDB", "libmariadb"));
    assert!(!of("11.8.2-MariaDB", "MySQL Connector/J"));
}

#[test]
fn a_wrong_secret_an_unknown_user_and_no_name_at_all_look_the_same() {
    for method in CLIENT_METHODS {
        let said = |user: &str, password: &str| {
            let mut client = Client::new(user, password, method).with_tls();
            let mut machine = machine(TlsOffer::Optional);
            let outcome = login(&mut machine, &mut client);
            assert_eq!(
                outcome.end, "refused BadCredentials: wrong secret or unknown user",
                "{method} {user}"
            );
            assert!(!machine.claimed().proven);
            let (_, number, text) = error(&outcome.said);
            assert_eq!((number, text.as_str()), (1045, "#28000TG001: the login was not accepted"));
            outcome.said
        };
        let wrong = said("alice", "tg_other");
        for (user, password) in [
            ("mallory", "tg_secret"),
            ("Not a name", "tg_secret"),
            ("alice@@", "tg_secret"),
            ("", "tg_secret"),
            ("alice", "\0"),
        ] {
            let other = said(user, password);
            if method == "parsec" {
                // The salt is that of the name, the same each time.
                assert_eq!(other.len(), wrong.len());
                assert_eq!(other, said(user, password));
            } else {
                assert_eq!(other.escape_ascii().to_string(), wrong.escape_ascii().to_string());
            }
        }
    }
}

#[test]
fn a_client_without_a_secret_is_refused_like_one_with_a_wrong_one() {
    for method in ["caching_sha2_password", "mysql_native_password"] {
        let mut client = Client::new("alice", "", method);
        let outcome = login(&mut machine(TlsOffer::Optional), &mut client);
        assert_eq!(outcome.end, "refused BadCredentials: wrong secret or unknown user", "{method}");
    }
}

#[test]
fn the_greeting_says_the_number_that_we_gave_and_a_nonce_that_is_a_text() {
    let greeting = |bytes: &[u8]| {
        let mut machine = MySqlAccept::new(&context(TlsOffer::Optional));
        machine.fix_random(bytes);
        let mut out = BytesMut::new();
        assert!(matches!(machine.step(AcceptInput::Start, &mut out), Ok(AcceptStep::NeedBytes)));
        let (sequence, body) = packets(&out)[0];
        assert_eq!(sequence, 0);
        Greeting::parse(body).unwrap()
    };
    let all: Vec<u8> = (0..=255).collect();
    for bytes in all.chunks(20).filter(|bytes| bytes.len() == 20) {
        let read = greeting(bytes);
        assert_eq!(read.thread, 0x1234_5678);
        assert_eq!(read.plugin, "caching_sha2_password");
        assert!(read.nonce.iter().all(|byte| (1..0x80).contains(byte) && *byte != b'$'));
    }
    assert_ne!(greeting(b"").nonce, greeting(b"").nonce, "random");
}

#[test]
fn a_second_start_and_answers_to_no_question_are_errors() {
    let mut machine = machine(TlsOffer::Optional);
    let mut out = BytesMut::new();
    assert!(machine.step(AcceptInput::Start, &mut out).is_ok());
    assert!(machine.step(AcceptInput::Start, &mut out).is_err());
    assert!(machine.step(AcceptInput::TlsReady(&TlsFacts::default()), &mut out).is_err());
    let question = Question::MySql { user: None, sent: String::new() };
    assert!(machine.step(AcceptInput::Answer(answer(question)), &mut out).is_err());
}

// ---------------------------------------------------------------------------------------------
// What is greeted with

fn learned(version: &str, capabilities: Capabilities) -> Arc<str> {
    Learned { version: version.into(), capabilities, collation: 255, status: 2 }.to_text().into()
}

fn greeted(known: &[Arc<str>]) -> Greeting {
    let mut context = context(TlsOffer::Unavailable);
    context.greeting.learned = known.to_vec();
    let mut out = BytesMut::new();
    machine_of(&context).step(AcceptInput::Start, &mut out).unwrap();
    Greeting::parse(packets(&out)[0].1).unwrap()
}

#[test]
fn the_greeting_is_that_of_the_target() {
    let mysql = Capabilities(0xffff_ffff);
    let mariadb = Capabilities(0xffff_ffff)
        - (Capabilities::LONG_PASSWORD
            | Capabilities::QUERY_ATTRIBUTES
            | Capabilities::OPTIONAL_RESULTSET_METADATA);
    let mariadb = mariadb | Capabilities::MARIADB | Capabilities::MARIADB_COM_MULTI;
    let nine = greeted(&[learned("9.7.4", mysql)]);
    assert_eq!((nine.version.as_str(), nine.collation, nine.status), ("9.7.4", 255, 2));
    assert!(nine.capabilities.has(Capabilities::LONG_PASSWORD | Capabilities::QUERY_ATTRIBUTES));
    assert!((nine.capabilities & Capabilities::MARIADB).is_empty());
    for never in [
        Capabilities::SSL,
        Capabilities::COMPRESS,
        Capabilities::ZSTD,
        Capabilities::CAN_HANDLE_EXPIRED_PASSWORDS,
        Capabilities::MULTI_FACTOR,
        Capabilities::NO_SCHEMA,
    ] {
        assert!(!nine.capabilities.has(never), "{never:?}");
    }
    let maria = greeted(&[learned("5.5.5-10.11.6-MariaDB", mariadb)]);
    assert_eq!(maria.version, "5.5.5-10.11.6-MariaDB");
    assert!(!maria.capabilities.has(Capabilities::LONG_PASSWORD));
    assert!(maria.capabilities.has(Capabilities::MARIADB));
    assert!(!maria.capabilities.has(Capabilities::MARIADB_COM_MULTI));
    assert!(!maria.capabilities.has(Capabilities::QUERY_ATTRIBUTES));
    // Several: the lowest version, what all have; of both kinds, MySQL's.
    let both = greeted(&[learned("11.8.9-MariaDB", mariadb), learned("5.5.5-10.11.6-MariaDB", mariadb)]);
    assert_eq!(both.version, "5.5.5-10.11.6-MariaDB");
    assert!(both.capabilities.has(Capabilities::MARIADB));
    for known in [
        [learned("5.5.5-10.11.6-MariaDB", mariadb), learned("9.7.4", mysql)],
        [learned("9.7.4", mysql), learned("5.5.5-10.11.6-MariaDB", mariadb)],
    ] {
        let mixed = greeted(&known);
        assert_eq!(mixed.version, "9.7.4");
        assert!(mixed.capabilities.has(Capabilities::LONG_PASSWORD));
        assert!((mixed.capabilities & Capabilities::MARIADB).is_empty());
        assert!(!mixed.capabilities.has(Capabilities::QUERY_ATTRIBUTES));
    }
    let unknown = greeted(&[]);
    assert_eq!(unknown.version, "8.0.36-tidegate");
    assert!(!unknown.capabilities.has(Capabilities::QUERY_ATTRIBUTES));
    assert!(unknown.capabilities.has(Capabilities::DEPRECATE_EOF));
    assert_eq!(greeted(&["nothing".into()]).version, "8.0.36-tidegate");
}

#[test]
fn mariadbs_own_capabilities_are_agreed_to_where_neither_side_is_mysqls() {
    let mut context = context(TlsOffer::Unavailable);
    let server = Capabilities::ALWAYS | Capabilities::CONVERSATION;
    context.greeting.learned = vec![learned("11.8.9-MariaDB", server)];
    for (mysql, own) in [(false, true), (true, false)] {
        let mut machine = machine_of(&context);
        let mut client = Client::new("alice", "tg_secret", "caching_sha2_password");
        client.capabilities |= Capabilities::MARIADB_PROGRESS | Capabilities::MARIADB_COM_MULTI;
        if !mysql {
            client.capabilities = client.capabilities - Capabilities::LONG_PASSWORD;
        }
        assert_eq!(login(&mut machine, &mut client).end, IN);
        let agreed = machine.settings().capabilities;
        assert_eq!(agreed.has(Capabilities::MARIADB_PROGRESS), own);
        assert!(!agreed.has(Capabilities::MARIADB_COM_MULTI));
        assert!(!agreed.has(Capabilities::LONG_PASSWORD));
    }
}

#[test]
fn compression_is_agreed_to_where_the_engine_knows_it() {
    for (asked, knows, framing) in [
        (Capabilities::NONE, true, Framing::Plain),
        (Capabilities::COMPRESS, true, Framing::Zlib),
        (Capabilities::ZSTD, true, Framing::Zstd(3)),
        (Capabilities::ZSTD | Capabilities::COMPRESS, true, Framing::Zlib),
        (Capabilities::ZSTD | Capabilities::COMPRESS, false, Framing::Plain),
    ] {
        let mut context = context(TlsOffer::Unavailable);
        context.greeting.compresses = knows;
        let mut machine = machine_of(&context);
        let mut client = Client::new("alice", "tg_secret", "caching_sha2_password");
        client.capabilities |= asked;
        assert_eq!(login(&mut machine, &mut client).end, IN);
        assert_eq!(machine.framing(), framing);
    }
}

// ---------------------------------------------------------------------------------------------
// TLS and certificates

#[test]
fn without_tls_nobody_gets_far_where_it_is_required() {
    let mut client = Client::new("alice", "tg_secret", "caching_sha2_password");
    let outcome = login(&mut machine(TlsOffer::Required), &mut client);
    assert_eq!(outcome.end, "refused TlsRequired: did not ask for TLS");
    assert_eq!(error(&outcome.said), (2, 3159, "#HY000TG020: this listener requires TLS".into()));
}

#[test]
fn a_password_in_clear_is_heard_inside_tls_only() {
    let mut client = Client::new("alice", "tg_secret", "mysql_clear_password");
    let outcome = login(&mut machine(TlsOffer::Optional), &mut client);
    assert_eq!(
        outcome.end,
        "refused NotSupported(\"a password in clear outside TLS\"): sent a password in clear outside TLS"
    );
}

/// Nothing that came before TLS is looked at, and nothing is said until it stands.
#[test]
fn bytes_behind_a_request_for_tls_are_not_touched() {
    let mut client = Client::new("alice", "tg_secret", "caching_sha2_password").with_tls();
    let mut machine = machine(TlsOffer::Required);
    let mut out = BytesMut::new();
    machine.step(AcceptInput::Start, &mut out).unwrap();
    let request = client.answer(&out);
    let mut early = BytesMut::from(&request[..]);
    early.extend_from_slice(&packet(2, b"early"));
    out.clear();
    assert!(matches!(machine.step(AcceptInput::Bytes(&mut early), &mut out), Ok(AcceptStep::StartTls(_))));
    assert_eq!(&early[..], packet(2, b"early"));
    machine.refuse(&Refusal::LoginTimeout, &mut out);
    assert!(out.is_empty());
}

#[test]
fn tls_is_asked_for_once() {
    let mut client = Client::new("alice", "tg_secret", "caching_sha2_password").with_tls();
    let mut machine = machine(TlsOffer::Optional);
    let mut turns = 0;
    let mut peer = |said: &[u8]| {
        turns += 1;
        let mut answer = client.answer(said);
        if turns == 2 {
            answer = packet(2, &client_request(&client));
        }
        Some(answer)
    };
    let outcome = kit::accept(&mut machine, &mut peer, &mut kit::whole, &mut answer);
    assert_eq!(outcome.end, "error: SSLRequest: TLS stands already");
}

fn client_request(client: &Client) -> Vec<u8> {
    let mut body = (client.capabilities.0 as u32).to_le_bytes().to_vec();
    body.resize(32, 0);
    body
}

#[test]
fn a_certificate_proves_who_it_is_by_every_method() {
    let facts = TlsFacts { certificate: Some(certificate()), ..TlsFacts::default() };
    for (method, password, ok) in [
        // Whoever waits for a word of caching_sha2_password gets it.
        ("caching_sha2_password", "whatever", 4),
        ("caching_sha2_password", "", 3),
        ("mysql_native_password", "whatever", 3),
        ("client_ed25519", "whatever", 6),
        ("parsec", "whatever", 6),
        ("mysql_clear_password", "whatever", 6),
    ] {
        let mut client = Client::new("alice", password, method).with_tls();
        let mut machine = machine(TlsOffer::Required);
        let mut peer = |said: &[u8]| Some(client.answer(said));
        let outcome = kit::accept_with(&mut machine, &facts, &mut peer, &mut kit::whole, &mut answer);
        assert_eq!(outcome.end, IN, "{method}");
        assert_eq!(machine.admit(&mut BytesMut::new()), ok, "{method} {password:?}");
    }
    let mut client = Client::new("bob", "tg_secret", "caching_sha2_password").with_tls();
    let mut peer = |said: &[u8]| Some(client.answer(said));
    let outcome =
        kit::accept_with(&mut machine(TlsOffer::Required), &facts, &mut peer, &mut kit::whole, &mut answer);
    assert!(outcome.end.starts_with("refused BadCredentials"), "{}", outcome.end);
    let required = AcceptContext { certificate_required: true, ..context(TlsOffer::Required) };
    let mut client = Client::new("alice", "tg_secret", "caching_sha2_password").with_tls();
    let outcome = login(&mut machine_of(&required), &mut client);
    assert!(outcome.end.ends_with("no client certificate"), "{}", outcome.end);
}

// ---------------------------------------------------------------------------------------------
// Clients that do not behave

#[test]
fn who_names_another_target_is_refused_after_the_proof() {
    for (user, why) in [
        ("alice@shop", "refused NotGranted: the login name says another target than the listener's"),
        ("alice@orders", "login alice"),
    ] {
        let mut client = Client::new(user, "tg_secret", "caching_sha2_password");
        let mut machine = machine(TlsOffer::Optional);
        let outcome = login(&mut machine, &mut client);
        assert!(outcome.end.starts_with(why), "{}", outcome.end);
        assert!(machine.claimed().proven);
    }
}

#[test]
fn a_database_name_is_as_long_as_one_can_be() {
    for (name, end) in [
        ("ä".repeat(64), "login"),
        ("x".repeat(65), "refused NoDatabase: a database name longer than any can be"),
        (String::new(), "login"),
    ] {
        let mut client = Client::new("alice", "tg_secret", "caching_sha2_password");
        client.database = Some(name.clone().into());
        let mut machine = machine(TlsOffer::Optional);
        let outcome = login(&mut machine, &mut client);
        assert!(outcome.end.starts_with(end), "{}", outcome.end);
        assert_eq!(machine.claimed().database, Some(name.as_str()).filter(|name| !name.is_empty()));
    }
}

#[test]
fn old_clients_are_refused_in_words() {
    let mut old = machine(TlsOffer::Optional);
    let outcome = say(&mut old, &[packet(1, b"\x05\x24\0\0\0alice\0scramble\0")]);
    assert_eq!(
        outcome.end,
        "refused NotSupported(\"the protocol before 4.1\"): asked for the protocol before 4.1"
    );
    // It would not understand a SQLSTATE.
    assert_eq!(error(&outcome.said), (2, 1235, "TG021: the protocol before 4.1 is not served here".into()));
    let mut client = Client::new("alice", "tg_secret", "caching_sha2_password");
    client.capabilities = client.capabilities - Capabilities::PLUGIN_AUTH;
    let outcome = login(&mut machine(TlsOffer::Optional), &mut client);
    assert!(outcome.end.ends_with("a client from before 5.5"), "{}", outcome.end);
}

#[test]
fn what_is_malformed_too_long_or_out_of_order_is_an_error_at_once() {
    let right = |sequence: u8| {
        let mut client = Client::new("alice", "tg_secret", "caching_sha2_password");
        let mut out = BytesMut::new();
        machine(TlsOffer::Optional).step(AcceptInput::Start, &mut out).unwrap();
        let mut answer = client.answer(&out);
        answer[3] = sequence;
        answer
    };
    for (turn, end) in [
        (right(0), "error: packet of a login: out of order"),
        (right(2), "error: packet of a login: out of order"),
        // By its header alone.
        (b"\x11\x27\0\x01".to_vec(), "error: packet of a login: too long"),
        (b"\xff\xff\xff\x01".to_vec(), "error: packet of a login: too long"),
        (packet(1, b""), "error: answer to the greeting: too short"),
        (packet(1, b"\0"), "error: answer to the greeting: too short"),
        (packet(1, b"\0\x02\0\0"), "error: answer to the greeting: too short"),
        (packet(1, &right(1)[4..44]), "error: answer to the greeting: malformed"),
    ] {
        assert_eq!(say(&mut machine(TlsOffer::Optional), &[turn]).end, end);
    }
    // Every way to cut the answer short, and to make one of its lengths a lie.
    let whole = right(1);
    for cut in 4..whole.len() - 1 {
        let outcome = say(&mut machine(TlsOffer::Optional), &[packet(1, &whole[4..cut])]);
        // What comes behind the proof may be left out.
        assert!(cut > 76 || !outcome.end.starts_with("login"), "{cut}: {}", outcome.end);
    }
    for at in 36..whole.len() {
        for lie in [0xfb, 0xfc, 0xfd, 0xfe, 0xff] {
            let mut turn = whole.clone();
            turn[at] = lie;
            say(&mut machine(TlsOffer::Optional), &[turn]);
        }
    }
}

#[test]
fn proofs_of_a_wrong_length_are_errors() {
    for (method, first, then, end) in [
        (
            "caching_sha2_password",
            vec![1; 31],
            None,
            "error: caching_sha2_password: an answer of a wrong length",
        ),
        (
            "caching_sha2_password",
            vec![1; 4_000],
            None,
            "error: caching_sha2_password: an answer of a wrong length",
        ),
        ("client_ed25519", vec![], Some(vec![1; 63]), "refused BadCredentials: wrong secret or unknown user"),
        ("client_ed25519", vec![], Some(vec![1; 5_000]), "error: packet of a login: too long"),
        ("parsec", vec![], Some(vec![1]), "error: parsec: words ahead of the salt"),
    ] {
        let mut client = Client::new("alice", "tg_secret", method);
        let mut machine = machine(TlsOffer::Optional);
        let mut out = BytesMut::new();
        machine.step(AcceptInput::Start, &mut out).unwrap();
        let greeting = client.answer(&out);
        let mut response =
            match super::super::greeting::Opening::parse(&greeting[4..], Capabilities(u64::MAX)) {
                Ok(super::super::greeting::Opening::Response(response)) => *response,
                other => panic!("{other:?}"),
            };
        response.proof = first.into();
        let mut body = BytesMut::new();
        response.put(&mut body);
        let mut turns = vec![packet(1, &body)];
        turns.extend(then.map(|then| packet(3, &then)));
        let mut machine = machine_of(&context(TlsOffer::Optional));
        assert_eq!(say(&mut machine, &turns).end, end, "{method}");
    }
}

#[test]
fn attributes_are_kept_within_a_limit() {
    let mut client = Client::new("alice", "tg_secret", "caching_sha2_password");
    client.attributes = (0..200).map(|at| (format!("name{at}"), "value".into())).collect();
    client.attributes[0] = ("_password".into(), "hidden".into());
    client.attributes[1] = ("program".into(), "ä".repeat(1_000));
    let mut machine = machine(TlsOffer::Optional);
    assert_eq!(login(&mut machine, &mut client).end, IN);
    let settings = machine.settings();
    assert_eq!(settings.attributes.len(), 64);
    let shown = settings.shown();
    assert_eq!(shown[0], ("_password".into(), "***".into()));
    assert_eq!(shown[1].1.len(), 256);
    // More than a login may be.
    client = Client::new("alice", "tg_secret", "caching_sha2_password");
    client.attributes = vec![("name".into(), "x".repeat(20_000))];
    assert_eq!(
        login(&mut machine_of(&context(TlsOffer::Optional)), &mut client).end,
        "error: packet of a login: too long"
    );
}

proptest! {
    #[test]
    fn a_login_is_the_same_however_its_bytes_arrive(
        method in 0..CLIENT_METHODS.len(),
        with_tls: bool,
        right: bool,
        seed: u32,
    ) {
        let conversation = |cut: kit::Cut<'_>| {
            let password = if right { "tg_secret" } else { "tg_other" };
            let mut client = Client::new("alice", password, CLIENT_METHODS[method]);
            if with_tls {
                client = client.with_tls();
            }
            let mut machine = machine(TlsOffer::Optional);
            kit::accept(&mut machine, &mut |said| Some(client.answer(said)), cut, &mut answer)
        };
        let mut state = seed;
        let uneven = &mut |left: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            1 + (state >> 24) as usize % left
        };
        let whole = conversation(&mut kit::whole);
        prop_assert_eq!(&whole, &conversation(&mut |_| 1));
        prop_assert_eq!(&whole, &conversation(uneven));
        let may = with_tls || CLIENT_METHODS[method] != "mysql_clear_password";
        prop_assert_eq!(whole.end.starts_with("login"), right && may);
    }

    #[test]
    fn whatever_a_client_sends_there_is_an_end(
        turns in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..4),
    ) {
        let turns: Vec<Vec<u8>> =
            turns.iter().enumerate().map(|(at, body)| packet(1 + 2 * at as u8, body)).collect();
        let outcome = say(&mut machine(TlsOffer::Optional), &turns);
        prop_assert!(!outcome.end.starts_with("login"));
        prop_assert!(outcome.said.len() < 1_000);
    }
}

// ---------------------------------------------------------------------------------------------
// Another login on the same connection

/// Of a client that is in, and what it sends as proof: the one that has let it in, which is known by now.
fn login_again(client: &mut Client, first: MySqlAccept, user: &str) -> (MySqlAccept, Outcome) {
    let body = change_user(user, &client.proof_of_greeting(), client.method);
    let mut machine = MySqlAccept::again(first.into_doorway(), body.into());
    machine.fix_random(&RANDOM);
    let outcome = login(&mut machine, client);
    (machine, outcome)
}

fn change_user(user: &str, proof: &[u8], method: &str) -> Vec<u8> {
    let mut body =
        [user.as_bytes(), &[0, proof.len() as u8], proof, b"shop\0\xff\0", method.as_bytes()].concat();
    body.extend(b"\0\x05\x01a\x02bc");
    body
}

#[test]
fn another_login_asks_for_a_proof_of_its_own_by_every_method() {
    for (method, tls, asked, ok) in [
        ("caching_sha2_password", false, true, 4),
        ("client_ed25519", false, true, 3),
        ("parsec", false, true, 5),
        ("mysql_native_password", false, true, 4),
        ("sha256_password", true, true, 4),
        // There is no nonce in it.
        ("mysql_clear_password", true, false, 1),
    ] {
        let mut machine = machine(TlsOffer::Optional);
        let mut client = Client::new("alice", "tg_secret", method);
        if tls {
            client = client.with_tls();
        }
        assert_eq!(login(&mut machine, &mut client).end, IN, "{method}");
        let agreed = machine.settings().capabilities;
        let (machine, outcome) = login_again(&mut client, machine, "alice+read@orders");
        assert_eq!(
            outcome.end,
            "login alice Claim { user: \"alice\", level: Some(read), target: \"orders\", \
             database: Some(\"shop\"), peer: 127.0.0.1 }",
            "{method}"
        );
        assert_eq!(!outcome.said.is_empty(), asked, "{method}");
        if asked {
            assert_eq!((packets(&outcome.said)[0].0, packets(&outcome.said)[0].1[0]), (1, 0xfe), "{method}");
        }
        assert_eq!(machine.admit(&mut BytesMut::new()), ok, "{method}");
        let attributes = vec![("a".into(), "bc".into())];
        let expected = Settings { capabilities: agreed, collation: 255, attributes, zstd_level: 0 };
        assert_eq!(machine.settings(), expected);
    }
}

#[test]
fn another_login_fails_like_the_first() {
    for (user, password) in
        [("alice", "tg_other"), ("mallory", "tg_secret"), ("Not a name", "tg_secret"), ("", "")]
    {
        let mut client = Client::new("alice", "tg_secret", "caching_sha2_password");
        let mut first = machine(TlsOffer::Optional);
        assert_eq!(login(&mut first, &mut client).end, IN);
        client.secret = kit::mysql::secret(password);
        let (machine, outcome) = login_again(&mut client, first, user);
        assert_eq!(outcome.end, "refused BadCredentials: wrong secret or unknown user", "{user}");
        assert!(!machine.claimed().proven);
        assert_eq!(error(&outcome.said).1, 1045);
    }
}

/// It stays inside what it came in by: a compressed stream is not compressed once more.
#[test]
fn another_login_is_not_framed_again() {
    let mut context = context(TlsOffer::Unavailable);
    context.greeting.compresses = true;
    let mut first = machine_of(&context);
    let mut client = Client::new("alice", "tg_secret", "caching_sha2_password");
    client.capabilities |= Capabilities::ZSTD;
    assert_eq!(login(&mut first, &mut client).end, IN);
    assert_eq!(first.framing(), Framing::Zstd(3));
    let (machine, _) = login_again(&mut client, first, "alice");
    assert_eq!(machine.framing(), Framing::Plain);
    assert_eq!(machine.settings().zstd_level, 3);
}

/// Who came with a certificate is who it says, whoever it wants to be.
#[test]
fn a_certificate_is_one_person_s_at_every_login() {
    for (user, expected) in [("alice", "login alice"), ("mallory", "refused BadCredentials")] {
        for method in ["caching_sha2_password", "mysql_native_password"] {
            let facts = TlsFacts { certificate: Some(certificate()), ..TlsFacts::default() };
            let mut first = machine(TlsOffer::Optional);
            let mut client = Client::new("alice", "", method).with_tls();
            let first_outcome = kit::accept_with(
                &mut first,
                &facts,
                &mut |said| Some(client.answer(said)),
                &mut kit::whole,
                &mut answer,
            );
            assert_eq!(first_outcome.end, IN, "{method}");
            let (_, outcome) = login_again(&mut client, first, user);
            assert!(outcome.end.starts_with(expected), "{method} {user}: {}", outcome.end);
        }
    }
}

#[test]
fn a_change_of_user_may_leave_out_its_end() {
    use super::super::greeting::ChangeUser;
    let agreed = Capabilities::ALWAYS | Capabilities::CONNECT_ATTRS;
    let whole = change_user("alice", b"proof", "mysql_native_password");
    let read = ChangeUser::parse(&whole, agreed).unwrap();
    assert_eq!(
        (&read.response.user[..], &read.response.proof[..], read.collation),
        (&b"alice"[..], &b"proof"[..], 255)
    );
    assert_eq!(read.response.plugin, b"mysql_native_password");
    for short in [
        &b"alice\0\0"[..],
        b"alice\0\0\0",
        b"alice\0\0shop",
        b"alice\0\0shop\0\x2d\0",
        b"alice\0\0\0\x2d\0plugin",
    ] {
        let read = ChangeUser::parse(short, agreed).unwrap();
        assert_eq!(read.response.user, b"alice", "{short:?}");
        assert!(read.response.proof.is_empty() && read.response.attributes.is_empty());
    }
    for bad in [&b""[..], b"alice", b"alice\0", b"alice\0\x05abc", b"a\0\0\0\x2d\0p\0\x09\x01a"] {
        assert!(ChangeUser::parse(bad, agreed).is_err(), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn no_change_of_user_is_too_odd_to_answer(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let doorway = super::super::accept::Doorway::plain(Capabilities::ALWAYS | Capabilities::CONNECT_ATTRS);
        let mut machine = MySqlAccept::again(doorway, body.into());
        machine.fix_random(&RANDOM);
        let outcome = kit::accept(&mut machine, &mut |_| None, &mut kit::whole, &mut answer);
        prop_assert!(!outcome.end.starts_with("login"), "{}", outcome.end);
    }
}

// ---------------------------------------------------------------------------------------------
// mysql_native_password

#[test]
fn native_is_there_for_who_names_it_where_the_listener_says_so() {
    let mut context = context(TlsOffer::Optional);
    context.greeting.takes_native = true;
    let mut first = machine_of(&context);
    let mut client = Client::new("alice", "tg_secret", "mysql_native_password");
    let outcome = login(&mut first, &mut client);
    assert_eq!(outcome.end, IN);
    let said = packets(&outcome.said);
    assert_eq!(Greeting::parse(said[0].1).unwrap().plugin, "caching_sha2_password", "it is not announced");
    assert!(said[1].1.starts_with(b"\xfemysql_native_password\0"));
    // No word comes ahead of the OK.
    assert_eq!(first.admit(&mut BytesMut::new()), 4);
    let (second, outcome) = login_again(&mut client, first, "alice");
    assert!(outcome.end.starts_with("login alice"), "{}", outcome.end);
    assert!(packets(&outcome.said)[0].1.starts_with(b"\xfemysql_native_password\0"));
    assert_eq!(second.admit(&mut BytesMut::new()), 3);
    for method in CLIENT_METHODS {
        let mut client = Client::new("alice", "tg_secret", method).with_tls();
        assert_eq!(login(&mut machine_of(&context), &mut client).end, IN, "{method}");
    }
    let refused = |user: &str, password: &str| {
        let mut client = Client::new(user, password, "mysql_native_password");
        let outcome = login(&mut machine_of(&context), &mut client);
        assert_eq!(outcome.end, "refused BadCredentials: wrong secret or unknown user", "{user}");
        outcome.said
    };
    let wrong = refused("alice", "tg_other");
    for (user, password) in [("mallory", "tg_secret"), ("Not a name", "tg_secret"), ("alice", "")] {
        assert_eq!(refused(user, password), wrong, "{user}");
    }
}
