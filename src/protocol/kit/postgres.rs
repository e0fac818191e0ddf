//! PostgreSQL's machines for the fuzz targets: the first two bytes of the data choose how a machine is
//! set up and how its input is cut, the rest is what the peer sends. Whatever it is: no panic, an end, an
//! answer of bounded size, and the same outcome however the bytes arrive. Each gives that outcome in words.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{RIGHT, check, contains, find};
use crate::credential::scram::{Candidate, Client, Exchange};
use crate::credential::{Secret, by_certificate};
use crate::model::{AuthMethod, ClientCertificate, CredentialId, Name, Parameters, Time, Upstream, Window};
use crate::protocol::postgres::{
    Goal, Job, PostgresAccept, PostgresDial, PostgresFacts, PostgresScript, Settings,
};
use crate::protocol::session::{
    AcceptContext, Answer, DialTls, DialWay, Interruption, Question, TlsFacts, TlsOffer,
};

const OUR_NONCE: &str = "machine";
const PEER_NONCE: &str = "peer";
const SALT: [u8; 16] = [7; 16];
const ROUNDS: u32 = 4_096;

static SECRET: LazyLock<Secret> =
    LazyLock::new(|| Secret::new("alice".into(), Zeroizing::new("tg_secret".into()), 1));
static CANDIDATE: LazyLock<Candidate> = LazyLock::new(|| candidate(SECRET.password(), SALT, ROUNDS));

/// The verifier of a password, as the server keeps it (RFC 5802 section 3).
pub fn candidate(password: &str, salt: [u8; 16], rounds: u32) -> Candidate {
    let mut salted = [0; 32];
    pbkdf2::pbkdf2_hmac::<Sha256>(password.as_bytes(), &salt, rounds, &mut salted);
    let key = |text: &[u8]| -> [u8; 32] {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&salted) else { return [0; 32] };
        mac.update(text);
        mac.finalize().into_bytes().into()
    };
    Candidate {
        credential: CredentialId::from_u64(1),
        until: Time::MAX,
        stored_key: Sha256::digest(key(b"Client Key")).into(),
        server_key: key(b"Server Key"),
    }
}

/// The text of a statement, as the relay reads it: for secrets, for what it leaves behind, for settings, for
/// its first words; under both readings of a backslash.
pub fn text(data: &[u8]) {
    crate::protocol::postgres::fuzz_text(data);
}

/// Bound values, shown as people read them: as many types as the first byte says, then the message.
pub fn value(data: &[u8]) {
    let Some((count, rest)) = data.split_first() else { return };
    let (types, values) = rest.split_at(rest.len().min(usize::from(*count) * 4));
    let parameters = Parameters { types, values, length: values.len() as u64 };
    let shown = crate::protocol::postgres::describe_parameters(&parameters);
    assert!(shown.len() <= values.len() / 4 + 1, "{} values in {} bytes", shown.len(), values.len());
    let text = serde_json::Value::from(shown).to_string();
    assert!(text.len() <= 16 * values.len() + 64, "{} bytes of text for {}", text.len(), values.len());
}

/// A statement's text, which is read for its label: on a thread as deep as the one that reads them, for
/// the parser is recursive. The same text has the same label.
pub fn label(data: &[u8]) {
    let text = data.to_vec();
    let thread = std::thread::Builder::new().stack_size(crate::model::limits::LABEL_STACK_BYTES);
    let labelled = thread.spawn(move || {
        let label = crate::protocol::postgres::label_statement(&text, true);
        assert_eq!(label, crate::protocol::postgres::label_statement(&text, true));
        let lists = [&label.verbs, &label.reads, &label.writes, &label.calls];
        lists.iter().all(|names| names.len() <= crate::model::limits::LABEL_NAMES_MAX)
    });
    let bounded = labelled.map(std::thread::JoinHandle::join);
    assert!(matches!(bounded, Ok(Ok(true))), "a label broke its limits, or its maker");
}

/// One login of a client.
pub fn accept(data: &[u8]) -> String {
    check(data, &mut |setup, turns, cut| {
        let context = AcceptContext {
            target: (setup & 4 != 0).then(|| Name::parse("orders").ok()).flatten(),
            peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
            tls: [TlsOffer::Unavailable, TlsOffer::Optional, TlsOffer::Required][usize::from(setup & 3) % 3],
            server_name_suffix: (setup & 32 != 0).then(|| ".example".into()),
            certificate_required: setup & 128 != 0,
            greeting: Default::default(),
        };
        let tls = TlsFacts {
            server_name: Some("orders.example".into()),
            alpn: setup & 16 != 0,
            end_point: (setup & 16 != 0).then(|| [5; 32].into()),
            certificate: (setup & 64 != 0).then(certificate),
        };
        let mut machine = PostgresAccept::new(&context);
        machine.fix_nonce(OUR_NONCE);
        let mut client = Client::new(&SECRET, PEER_NONCE);
        let mut turns = turns.into_iter();
        let mut heard = Vec::new();
        let mut peer = |said: &[u8]| {
            heard.extend_from_slice(said);
            turns.next().map(|turn| if turn == RIGHT { client_message(&mut client, &heard) } else { turn })
        };
        let outcome =
            super::accept_with(&mut machine, &tls, &mut peer, cut, &mut |question| answer(question, setup));
        assert!(!contains(&outcome.said, b"R\0\0\0\x08\0\0\0\0"), "AuthenticationOk without an admission");
        outcome
    })
}

fn answer(question: Question, setup: u8) -> Answer {
    let user = match question {
        Question::Scram { user, sent: _ } => user,
        Question::Certificate { user, certificate } => {
            return Answer::Certificate(by_certificate(&certificate, &user, Time::UNIX_EPOCH));
        }
        Question::MySql { .. } => None,
    };
    let known = if setup & 8 == 0 { vec![CANDIDATE.clone()] } else { Vec::new() };
    Answer::Scram(Box::new(Exchange::new(user, known, SALT, ROUNDS)))
}

/// Names alice, for all time.
pub fn certificate() -> Arc<ClientCertificate> {
    Arc::new(ClientCertificate {
        name: Name::parse("alice").ok(),
        window: Window { start: Time::MIN, end: Time::MAX },
        serial: "01".into(),
        issuer: "CN=test".into(),
        sha256: "00".into(),
    })
}

/// What a client that knows the secret says to the last thing it heard.
fn client_message(client: &mut Client, heard: &[u8]) -> Vec<u8> {
    let mut message = bytes::BytesMut::new();
    let body = match find(heard, b"\0\0\0\x0br=") {
        None => {
            let first = client.client_first();
            [b"SCRAM-SHA-256\0", &(first.len() as u32).to_be_bytes()[..], &first].concat()
        }
        Some(at) => client.server_first(&heard[at + 4..]).unwrap_or_default(),
    };
    crate::protocol::postgres::frame::put(&mut message, b'p', |out| out.extend_from_slice(&body));
    message.to_vec()
}

/// Under rules that accept every proof, wherever it is asked for.
pub fn lenient(tls: DialTls) -> DialWay {
    let require_auth = Some(AuthMethod::ALL.map(|(_, method)| method).into());
    DialWay { rules: Upstream { require_auth, ..Upstream::default() }, ..DialWay::from(tls) }
}

/// One attempt at a server.
pub fn dial(data: &[u8]) -> String {
    check(data, &mut |setup, turns, cut| {
        let tls = [DialTls::Without, DialTls::Try, DialTls::Demand, DialTls::Direct][usize::from(setup & 3)];
        let goal = match setup & 4 {
            0 => Goal::Login { database: "shop".into(), plain: setup & 8 != 0 },
            _ => Goal::Interrupt(Interruption(vec![1; 8])),
        };
        let way = if setup & 0x80 == 0 { lenient(tls) } else { tls.into() };
        let mut machine = PostgresDial::towards(goal, way, &SECRET);
        machine.fix_nonce(OUR_NONCE);
        let mut server = Exchange::new(Name::parse("alice").ok(), vec![CANDIDATE.clone()], SALT, ROUNDS);
        let mut turns = turns.into_iter();
        // What comes behind the one byte that answers SSLRequest is judged by whether it is there
        // already, which is as it must be, and is not the same however it is cut.
        let mut is_first = matches!(tls, DialTls::Try | DialTls::Demand);
        let mut peer = |said: &[u8]| {
            let turn = turns.next()?;
            Some(match is_first && !turn.is_empty() {
                true => {
                    is_first = false;
                    turn[..1].to_vec()
                }
                false if turn == RIGHT => server_message(&mut server, said),
                false => turn,
            })
        };
        super::dial(&mut machine, &mut peer, cut).0
    })
}

/// What a server that knows the password says to a SASL message.
fn server_message(server: &mut Exchange, said: &[u8]) -> Vec<u8> {
    let mut message = bytes::BytesMut::new();
    let first = find(said, b"n,,n=").map(|at| server.client_first(&said[at..], PEER_NONCE));
    let (kind, body) = match first {
        Some(challenge) => (11u32, challenge.unwrap_or_default()),
        None => {
            let answer = said.get(5..).map(|message| server.client_final(message));
            (12, answer.and_then(Result::ok).map(|(_, signature)| signature).unwrap_or_default())
        }
    };
    crate::protocol::postgres::frame::put(&mut message, b'R', |out| {
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(&body);
    });
    message.to_vec()
}

/// One script on one connection.
pub fn script(data: &[u8]) -> String {
    check(data, &mut |setup, turns, cut| {
        let settings = Settings {
            parameters: vec![
                ("client_encoding".into(), "UTF8".into()),
                ("search_path".into(), "a, b".into()),
            ],
            application_name: Some("psql".into()),
        };
        let job = match setup % 8 {
            0 | 1 => Job::Probe,
            2 | 3 => Job::Prepare { stamp: "alice/s-0", settings: &settings },
            4 => Job::Reset { in_transaction: false },
            5 => Job::Reset { in_transaction: true },
            6 if setup & 8 == 0 => Job::Ping,
            6 if setup & 16 == 0 => Job::Glance { in_transaction: false, known: "", random: 1 },
            6 => Job::Glance { in_transaction: false, known: "glimpse 7:7:\n", random: 1 },
            _ => Job::Check { level: if setup & 8 == 0 { "read" } else { "admin" } },
        };
        let mut machine = PostgresScript::run(job, &facts());
        let mut turns = turns.into_iter();
        super::run(&mut machine, &mut |_| turns.next(), cut).0
    })
}

/// An established conversation: chunks of either side, each behind a byte that says whose it is and
/// how long.
pub fn relay(data: &[u8]) {
    crate::protocol::postgres::fuzz_relay(data);
}

/// A connection as `alice`, with one reported parameter.
pub fn facts() -> PostgresFacts {
    let parameters: std::sync::Arc<[_]> = [("TimeZone".into(), "UTC".into())].into();
    PostgresFacts {
        dialled: parameters.clone(),
        parameters,
        user: "alice".into(),
        process_id: 1,
        secret_key: [1; 4].into(),
        termination: None,
        version: "15.0".into(),
    }
}
