//! Logins of clients that do not behave.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

use zeroize::Zeroizing;

use super::super::startup::{CANCEL_REQUEST, GSSENC_REQUEST, SSL_REQUEST, VERSION_3_0, VERSION_3_2};
use super::super::{PostgresAccept, Settings};
use super::{message, packet};
use crate::credential::scram::{Candidate, Client, Exchange};
use crate::credential::{Secret, by_certificate};
use crate::model::{Name, Refusal, Time};
use crate::protocol::kit::{self, Outcome};
use crate::protocol::session::{
    Accept, AcceptContext, AcceptInput, AcceptStep, Answer, Question, TlsFacts, TlsOffer, TlsStart,
};

static ALICE: LazyLock<Secret> =
    LazyLock::new(|| Secret::new("alice".into(), Zeroizing::new("tg_right".into()), 1));
static CANDIDATE: LazyLock<Candidate> =
    LazyLock::new(|| kit::postgres::candidate(ALICE.password(), [1; 16], 4_096));

pub(super) fn machine(tls: TlsOffer, target: Option<&str>) -> PostgresAccept {
    let target = target.map(|name| Name::parse(name).unwrap());
    PostgresAccept::new(&AcceptContext::new(target, IpAddr::V4(Ipv4Addr::LOCALHOST), tls))
}

pub(super) fn answer(question: Question) -> Answer {
    let user = match question {
        Question::Scram { user, .. } => user,
        Question::Certificate { user, certificate } => {
            return Answer::Certificate(by_certificate(&certificate, &user, Time::UNIX_EPOCH));
        }
        other => panic!("{other:?}"),
    };
    let known = user.is_some().then(|| CANDIDATE.clone());
    Answer::Scram(Box::new(Exchange::new(user, known.into_iter().collect(), [1; 16], 4_096)))
}

/// What a client says that knows alice's secret, after these turns.
fn login(machine: &mut PostgresAccept, before: &[Vec<u8>]) -> Outcome {
    let mut client = Client::new(&ALICE, "client");
    let mut before = before.iter();
    let mut peer = |said: &[u8]| {
        if let Some(turn) = before.next() {
            return Some(turn.clone());
        }
        let body = match said.windows(4).position(|window| window == [0, 0, 0, 11]) {
            None => initial(&client.client_first()),
            Some(at) => client.server_first(&said[at + 4..]).unwrap(),
        };
        Some(message(b'p', &body))
    };
    kit::accept(machine, &mut peer, &mut kit::whole, &mut answer)
}

fn initial(first: &[u8]) -> Vec<u8> {
    [b"SCRAM-SHA-256\0", &(first.len() as u32).to_be_bytes()[..], first].concat()
}

fn startup(pairs: &str) -> Vec<u8> {
    packet(VERSION_3_0, pairs.replace(' ', "\0").as_bytes())
}

fn say(tls: TlsOffer, turns: &[Vec<u8>]) -> Outcome {
    let turns: Vec<&[u8]> = turns.iter().map(Vec::as_slice).collect();
    kit::accept(&mut machine(tls, None), &mut kit::script(&turns), &mut kit::whole, &mut answer)
}

/// How a login of alice ends that begins like this.
fn end(pairs: &str) -> String {
    login(&mut machine(TlsOffer::Optional, Some("orders")), &[startup(pairs)]).end
}

#[test]
fn a_login_gives_identity_claim_and_settings() {
    let mut machine = machine(TlsOffer::Required, None);
    let outcome = login(
        &mut machine,
        &[
            packet(GSSENC_REQUEST, b""),
            packet(SSL_REQUEST, b""),
            startup("user alice+read_write@orders database shop application_name psql TimeZone UTC  "),
        ],
    );
    assert!(outcome.said.starts_with(b"NSR"));
    assert_eq!(
        outcome.end,
        "login alice Claim { user: \"alice\", level: Some(read_write), target: \"orders\", \
         database: Some(\"shop\"), peer: 127.0.0.1 }"
    );
    assert_eq!(
        machine.settings(),
        Settings {
            parameters: vec![("timezone".into(), "UTC".into())],
            application_name: Some("psql".into())
        }
    );
    assert_eq!(machine.claimed().user, Some("alice+read_write@orders"));
    assert_eq!(machine.claimed().database, Some("shop"));
}

#[test]
fn encryption_is_asked_for_in_any_order_each_at_most_once() {
    let (ssl, gss) = (packet(SSL_REQUEST, b""), packet(GSSENC_REQUEST, b""));
    let hello = startup("user alice  ");
    for (turns, said) in [
        (vec![ssl.clone(), gss.clone(), hello.clone()], "NNR"),
        (vec![gss.clone(), ssl.clone(), hello.clone()], "NNR"),
        (vec![hello], "R"),
    ] {
        assert!(say(TlsOffer::Unavailable, &turns).said.starts_with(said.as_bytes()));
    }
    for (tls, turns) in [
        (TlsOffer::Unavailable, [&ssl, &ssl]),
        (TlsOffer::Unavailable, [&gss, &gss]),
        // Inside TLS.
        (TlsOffer::Optional, [&ssl, &ssl]),
        (TlsOffer::Optional, [&ssl, &gss]),
    ] {
        let outcome = say(tls, &turns.map(Clone::clone));
        assert!(outcome.end.starts_with("error"), "{}", outcome.end);
    }
}

/// CVE-2021-23214: what came before TLS stays outside of it.
#[test]
fn cve_2021_23214_bytes_behind_an_ssl_request_are_not_touched() {
    let early = [packet(SSL_REQUEST, b""), startup("user mallory  ")].concat();
    let outcome = say(TlsOffer::Required, std::slice::from_ref(&early));
    assert_eq!((outcome.said.as_slice(), outcome.end.as_str()), (&b"S"[..], "bytes ahead of TLS"));
    let mut input = bytes::BytesMut::from(&early[..]);
    let mut machine = machine(TlsOffer::Required, None);
    let step = machine.step(AcceptInput::Bytes(&mut input), &mut bytes::BytesMut::new());
    assert!(matches!(step, Ok(AcceptStep::StartTls(TlsStart::Asked))));
    assert_eq!(input, early[8..]);
    assert_eq!(machine.claimed().user, None);
}

#[test]
fn without_tls_no_sasl_message_is_said_where_it_is_required() {
    let outcome = say(TlsOffer::Required, &[startup("user alice  ")]);
    assert_eq!(outcome.end, "refused TlsRequired: did not ask for TLS");
    assert_eq!(outcome.said[0], b'E');
    assert!(!outcome.said.windows(5).any(|window| window == b"SCRAM"));
}

#[test]
fn nothing_is_said_between_the_s_and_the_handshake() {
    let mut machine = machine(TlsOffer::Optional, None);
    let mut input = bytes::BytesMut::from(&packet(SSL_REQUEST, b"")[..]);
    let mut out = bytes::BytesMut::new();
    assert!(machine.step(AcceptInput::Bytes(&mut input), &mut out).is_ok());
    machine.refuse(&Refusal::LoginTimeout, &mut out);
    assert_eq!(&out[..], b"S");
}

/// CVE-2026-107350: who logs in is said once.
#[test]
fn cve_2026_107350_a_second_start_up_message_is_an_error_at_every_moment() {
    let hello = startup("user bob  ");
    let second = startup("user alice  ");
    let first = message(b'p', &initial(b"n,,n=,r=x"));
    for turns in [
        vec![[&hello[..], &second].concat()],
        vec![hello.clone(), second.clone()],
        vec![hello, first, second],
    ] {
        let outcome = say(TlsOffer::Optional, &turns);
        assert_eq!(outcome.end, "error: SASL exchange: a message that is not part of it");
    }
}

#[test]
fn only_well_formed_sasl_messages_are_taken() {
    let hello = startup("user alice  ");
    for body in [
        &b""[..],
        b"SCRAM-SHA-256",
        b"SCRAM-SHA-256\0",
        b"SCRAM-SHA-256\0\0\0",
        b"SCRAM-SHA-256\0\xff\xff\xff\xff",
        b"SCRAM-SHA-256\0\0\0\0\x0an,,n=,r=x",
        b"SCRAM-SHA-256\0\0\0\0\x08n,,n=,r=x",
        b"SCRAM-SHA-256\0\xff\xff\xff\xf7n,,n=,r=x",
        b"SCRAM-SHA-256-PLUS\0\0\0\0\x09n,,n=,r=x",
        b"PLAIN\0\0\0\0\x09n,,n=,r=x",
        b"SCRAM-SHA-256\0\0\0\0\x03abc",
    ] {
        let outcome = say(TlsOffer::Optional, &[hello.clone(), message(b'p', body)]);
        assert!(outcome.end.starts_with("error: SASLInitialResponse"), "{body:?}: {}", outcome.end);
    }
    for tag in [b'Q', b'X', b'R', 0] {
        let outcome = say(TlsOffer::Optional, &[hello.clone(), vec![tag]]);
        assert!(outcome.end.starts_with("error: SASL exchange"), "{}", outcome.end);
    }
    // Refused by its header.
    let long = say(TlsOffer::Optional, &[hello, b"p\0\x01\0\0".to_vec()]);
    assert_eq!(long.end, "error: SASL exchange: a message that is too long");
}

#[test]
fn an_unknown_user_and_a_malformed_name_hear_the_same_as_a_wrong_secret() {
    let wrong = Secret::new("alice".into(), Zeroizing::new("tg_wrong".into()), 1);
    let mut heard = Vec::new();
    for user in ["alice", "nobody", "Not+A+Name@@"] {
        let mut machine = machine(TlsOffer::Optional, Some("orders"));
        machine.fix_nonce("server");
        let mut client = Client::new(&wrong, "client");
        let mut step = 0;
        let mut peer = |said: &[u8]| {
            step += 1;
            match step {
                1 => Some(startup(&format!("user {user}  "))),
                2 => Some(message(b'p', &initial(&client.client_first()))),
                _ => Some(message(b'p', &client.server_first(&said[9..]).unwrap())),
            }
        };
        let outcome = kit::accept(&mut machine, &mut peer, &mut kit::whole, &mut answer);
        assert_eq!(outcome.end, "refused BadCredentials: wrong secret or unknown user");
        heard.push(outcome.said);
    }
    assert!(heard.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn target_and_listener_must_agree_and_only_the_proven_learn_of_it() {
    assert!(end("user alice  ").starts_with("login alice"));
    assert!(end("user alice@orders  ").starts_with("login alice"));
    assert_eq!(
        end("user alice@billing  "),
        "refused NotGranted: the login name says another target than the listener's"
    );
    let mut open = machine(TlsOffer::Optional, None);
    let outcome = login(&mut open, &[startup("user alice  ")]);
    assert_eq!(
        outcome.end,
        "refused NotGranted: neither login name, TLS server name nor listener says a target"
    );
    // The proof was accepted before.
    assert!(outcome.said.windows(2).any(|window| window == b"v="));
}

#[test]
fn what_is_not_served_is_refused_after_the_proof() {
    for (pairs, refusal) in [
        ("user alice replication database  ", "refused NotSupported(\"replication\")"),
        ("user alice replication true  ", "refused NotSupported(\"replication\")"),
        ("user alice role postgres  ", "refused BadParameter(\"role\")"),
        ("user alice options -cseed=1  ", "refused BadParameter(\"seed\")"),
        ("user alice options --  ", "refused BadParameter(\"options\")"),
    ] {
        assert!(end(pairs).starts_with(refusal), "{}", end(pairs));
    }
    let long = format!("user alice database {}  ", "x".repeat(64));
    assert_eq!(end(&long), "refused NoDatabase: a database name longer than any can be");
    assert!(end("user alice replication off  ").starts_with("login"));
}

#[test]
fn other_versions_are_refused_and_a_newer_minor_one_is_negotiated_once() {
    for code in [0x0002_0000, 0x0004_0000, 0] {
        let outcome = say(TlsOffer::Optional, &[packet(code, b"user\0alice\0\0")]);
        assert!(outcome.end.starts_with("refused NotSupported"), "{}", outcome.end);
    }
    // What is asked for, what is told: the version to go on in and how many options are unknown.
    for (code, options, told) in [
        (VERSION_3_0, "", None),
        (VERSION_3_2, "", None),
        // It never was; libpq aborts when it is led there.
        (0x0003_0001, "", Some((VERSION_3_0, 0))),
        (0x0003_0003, "", Some((VERSION_3_2, 0))),
        (0x0003_ffff, "", Some((VERSION_3_2, 0))),
        (VERSION_3_0, "_pq_.x 1 ", Some((VERSION_3_0, 1))),
        (VERSION_3_2, "_pq_.x 1 ", Some((VERSION_3_2, 1))),
        // What libpq 19 sends to test servers.
        (0x0003_270f, "_pq_.test_protocol_negotiation  ", Some((VERSION_3_2, 1))),
    ] {
        let body = format!("user alice {options} ").replace(' ', "\0");
        let outcome = say(TlsOffer::Optional, &[packet(code, body.as_bytes())]);
        let negotiated = (outcome.said[0] == b'v').then(|| {
            let number = |at: usize| u32::from_be_bytes(outcome.said[at..at + 4].try_into().unwrap());
            (number(5), number(9))
        });
        assert_eq!(negotiated, told, "{code:x} {options}");
        assert_eq!(outcome.said.iter().filter(|byte| **byte == b'v').count(), usize::from(told.is_some()));
    }
    // Never before TLS is refused.
    let outcome = say(TlsOffer::Required, &[packet(0x0003_0003, b"user\0alice\0\0")]);
    assert_eq!(outcome.said[0], b'E');
}

#[test]
fn a_cancel_request_is_taken_as_it_comes() {
    let key = [&7u32.to_be_bytes()[..], &[1, 2, 3, 4]].concat();
    for before in [vec![], vec![packet(SSL_REQUEST, b"")]] {
        let turns = [before, vec![packet(CANCEL_REQUEST, &key)]].concat();
        assert_eq!(say(TlsOffer::Required, &turns).end, "cancel 7 [1, 2, 3, 4]");
    }
}

#[test]
fn cancel_keys_are_as_long_as_the_version_has_them() {
    for (code, bytes) in [(VERSION_3_0, 4), (0x0003_0001, 4), (VERSION_3_2, 32), (0x0003_270f, 32)] {
        let mut machine = machine(TlsOffer::Optional, None);
        let turn = packet(code, b"user\0alice\0\0");
        kit::accept(&mut machine, &mut kit::script(&[&turn]), &mut kit::whole, &mut answer);
        assert_eq!(machine.cancel_key_bytes(), bytes, "{code:x}");
    }
}

// ---------------------------------------------------------------------------------------------
// Inside TLS

fn facts() -> TlsFacts {
    TlsFacts { alpn: true, end_point: Some([5; 32].into()), ..TlsFacts::default() }
}

/// A login inside TLS.
fn say_inside(context: &AcceptContext, facts: &TlsFacts, turns: &[Vec<u8>]) -> Outcome {
    let turns: Vec<&[u8]> = turns.iter().map(Vec::as_slice).collect();
    let mut machine = PostgresAccept::new(context);
    kit::accept_with(&mut machine, facts, &mut kit::script(&turns), &mut kit::whole, &mut answer)
}

fn context(tls: TlsOffer) -> AcceptContext {
    AcceptContext::new(Some(Name::parse("orders").unwrap()), IpAddr::V4(Ipv4Addr::LOCALHOST), tls)
}

const HELLO: &[u8] = b"\x16\x03\x01\x00\x05hello";

#[test]
fn a_client_may_begin_with_tls() {
    let startup = startup("user alice  ");
    let outcome = say_inside(&context(TlsOffer::Required), &facts(), &[HELLO.to_vec(), startup.clone()]);
    assert!(outcome.said.starts_with(b"R"), "{outcome:?}");
    // Its cancel requests come in the same way.
    let key = packet(CANCEL_REQUEST, &[&7u32.to_be_bytes()[..], &[9; 32]].concat());
    let outcome = say_inside(&context(TlsOffer::Required), &facts(), &[HELLO.to_vec(), key]);
    assert_eq!(outcome.end, format!("cancel 7 {:?}", [9; 32]));
    // Without the protocol's name in the handshake nothing is said, not even an error.
    let silent = TlsFacts { alpn: false, ..facts() };
    let mut machine = machine(TlsOffer::Optional, None);
    let turns: [&[u8]; 2] = [HELLO, &startup];
    let outcome =
        kit::accept_with(&mut machine, &silent, &mut kit::script(&turns), &mut kit::whole, &mut answer);
    assert_eq!(outcome.end, "error: TLS: began at once and without the ALPN name postgresql");
    let mut out = bytes::BytesMut::new();
    machine.refuse(&Refusal::ProtocolViolation("x"), &mut out);
    assert!(out.is_empty() && outcome.said.is_empty());
    // Negotiated TLS does not need it: clients before libpq 17 have none.
    let outcome =
        say_inside(&context(TlsOffer::Optional), &silent, &[packet(SSL_REQUEST, b""), startup.clone()]);
    assert!(outcome.said.starts_with(b"SR"), "{outcome:?}");
}

#[test]
fn tls_begins_once_and_first() {
    for (tls, turns) in [
        // There is none here; after another request; inside itself.
        (TlsOffer::Unavailable, vec![HELLO.to_vec()]),
        (TlsOffer::Unavailable, vec![packet(SSL_REQUEST, b""), HELLO.to_vec()]),
        (TlsOffer::Optional, vec![packet(GSSENC_REQUEST, b""), HELLO.to_vec()]),
        (TlsOffer::Optional, vec![packet(SSL_REQUEST, b""), HELLO.to_vec()]),
        (TlsOffer::Optional, vec![HELLO.to_vec(), HELLO.to_vec()]),
        (TlsOffer::Optional, vec![HELLO.to_vec(), packet(SSL_REQUEST, b"")]),
        (TlsOffer::Optional, vec![HELLO.to_vec(), packet(GSSENC_REQUEST, b"")]),
    ] {
        let outcome = say_inside(&context(tls), &facts(), &turns);
        assert!(outcome.end.starts_with("error"), "{turns:?}: {}", outcome.end);
    }
    let mut machine = machine(TlsOffer::Unavailable, None);
    let outcome = kit::accept(&mut machine, &mut kit::script(&[HELLO]), &mut kit::whole, &mut answer);
    let mut out = bytes::BytesMut::new();
    machine.refuse(&Refusal::ProtocolViolation("x"), &mut out);
    assert!(out.is_empty() && outcome.said.is_empty(), "an error in clear to somebody who speaks TLS");
}

/// The mechanisms that are offered, and how the login ends with this first message.
fn bound(facts: &TlsFacts, mechanism: &str, first: &str) -> (String, String) {
    let initial =
        [mechanism.as_bytes(), &[0], &(first.len() as u32).to_be_bytes(), first.as_bytes()].concat();
    let turns = [packet(SSL_REQUEST, b""), startup("user alice  "), message(b'p', &initial)];
    let outcome = say_inside(&context(TlsOffer::Optional), facts, &turns);
    // Behind our S and the head of AuthenticationSASL.
    let offer: Vec<_> =
        outcome.said[10..].split(|byte| *byte == 0).take_while(|name| !name.is_empty()).collect();
    let offer = offer.iter().map(|name| std::str::from_utf8(name).unwrap()).collect::<Vec<_>>().join(" ");
    (offer, outcome.end)
}

#[test]
fn the_channel_is_bound_where_there_is_one() {
    const PLUS: &str = "SCRAM-SHA-256-PLUS";
    let (offer, end) = bound(&facts(), PLUS, "p=tls-server-end-point,,n=,r=x");
    assert_eq!((offer.as_str(), end.as_str()), ("SCRAM-SHA-256-PLUS SCRAM-SHA-256", "gone"));
    let unbound = TlsFacts { end_point: None, ..facts() };
    for (facts, mechanism, first, ends) in [
        (&facts(), "SCRAM-SHA-256", "n,,n=,r=x", "gone"),
        (&unbound, "SCRAM-SHA-256", "n,,n=,r=x", "gone"),
        (&unbound, "SCRAM-SHA-256", "y,,n=,r=x", "gone"),
        (
            &facts(),
            "SCRAM-SHA-256",
            "y,,n=,r=x",
            "refused ProtocolViolation(\"the client did not see that SCRAM-SHA-256-PLUS is offered\")",
        ),
        (&facts(), "SCRAM-SHA-256", "p=tls-server-end-point,,n=,r=x", "error"),
        (&facts(), PLUS, "n,,n=,r=x", "error"),
        (&facts(), PLUS, "y,,n=,r=x", "error"),
        (&facts(), PLUS, "p=tls-exporter,,n=,r=x", "error"),
        (&unbound, PLUS, "p=tls-server-end-point,,n=,r=x", "error"),
    ] {
        let (_, end) = bound(facts, mechanism, first);
        assert!(end.starts_with(ends), "{mechanism} {first}: {end}");
    }
}

#[test]
fn a_certificate_logs_in_whom_it_names_and_nobody_else() {
    let certified = TlsFacts { certificate: Some(kit::postgres::certificate()), ..facts() };
    let turns = |user: &str| [packet(SSL_REQUEST, b""), startup(&format!("user {user}  "))];
    let optional = context(TlsOffer::Optional);
    let outcome = say_inside(&optional, &certified, &turns("alice+read"));
    assert_eq!(outcome.said, b"S", "nothing is said before the admission");
    assert!(
        outcome.end.starts_with("login alice Claim { user: \"alice\", level: Some(read)"),
        "{}",
        outcome.end
    );
    for (user, why) in [
        ("bob", "refused BadCredentials: the client certificate names somebody else"),
        ("Not+A+Name@@", "refused BadCredentials: the login name is malformed"),
    ] {
        let outcome = say_inside(&optional, &certified, &turns(user));
        assert_eq!(outcome.end, why);
        assert!(!outcome.said.windows(5).any(|window| window == b"SCRAM"), "a secret is no way round");
    }
    // Without one it is SCRAM, unless it must be there. A cancel request never needs it.
    assert!(say_inside(&optional, &facts(), &turns("alice")).said.starts_with(b"SR"));
    let required = AcceptContext { certificate_required: true, ..optional };
    let outcome = say_inside(&required, &facts(), &turns("alice"));
    assert_eq!(
        outcome.end,
        "refused NotSupported(\"a login without a client certificate\"): no client certificate"
    );
    let cancel = packet(CANCEL_REQUEST, &[1; 8]);
    assert!(say_inside(&required, &facts(), &[packet(SSL_REQUEST, b""), cancel]).end.starts_with("cancel"));
    // A newer version is negotiated on this way too.
    let newer = packet(0x0003_270f, b"user\0alice\0_pq_.x\0\0\0");
    let outcome = say_inside(&required, &certified, &[packet(SSL_REQUEST, b""), newer]);
    assert_eq!(outcome.said[..2], *b"Sv");
    assert!(outcome.end.starts_with("login alice"), "{}", outcome.end);
}

#[test]
fn the_tls_server_name_says_the_target() {
    let certified = |name: &str| TlsFacts {
        certificate: Some(kit::postgres::certificate()),
        server_name: Some(name.into()),
        ..facts()
    };
    let end = |fixed: Option<&str>, server_name: &str, user: &str| {
        let mut context = context(TlsOffer::Optional);
        context.target = fixed.map(|name| Name::parse(name).unwrap());
        context.server_name_suffix = Some(".db.example".into());
        let turns = [packet(SSL_REQUEST, b""), startup(&format!("user {user}  "))];
        let end = say_inside(&context, &certified(server_name), &turns).end;
        match end.split_once("target: \"") {
            Some((_, rest)) => rest.split('"').next().unwrap().to_owned(),
            None => end,
        }
    };
    const OTHER: &str = "refused NotGranted: the TLS server name says another target than the login";
    const NONE: &str = "refused NotGranted: neither login name, TLS server name nor listener says a target";
    assert_eq!(end(None, "orders.db.example", "alice"), "orders");
    assert_eq!(end(None, "ORDERS.DB.Example", "alice"), "orders");
    assert_eq!(end(None, "orders.db.example", "alice@orders"), "orders");
    assert_eq!(end(None, "orders.db.example", "alice@billing"), OTHER);
    assert_eq!(end(Some("orders"), "orders.db.example", "alice"), "orders");
    assert_eq!(end(Some("orders"), "billing.db.example", "alice"), OTHER);
    // Names of another form say nothing.
    for name in ["db.example", ".db.example", "orders.example", "proxy.internal", "-.x.db.example.org"] {
        assert_eq!(end(None, name, "alice"), NONE, "{name}");
        assert_eq!(end(None, name, "alice@orders"), "orders", "{name}");
    }
}
