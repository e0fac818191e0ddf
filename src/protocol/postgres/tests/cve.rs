//! What was published as a hole in a pooler, a server or a client library that stands where we do: each as
//! a test by its number. Those of one machine's own rules stand beside these, under the same kind of name:
//! CVE-2021-23214 and CVE-2026-107350 in [`super::accept`], CVE-2021-23222 in [`super::dial`]. What needs
//! sockets, or a grant that ends, is in `tests/live/cve.rs`.

use std::sync::LazyLock;

use bytes::BytesMut;
use zeroize::Zeroizing;

use super::super::startup::{SSL_REQUEST, VERSION_3_0};
use super::super::{Goal, Job, PostgresDial, PostgresScript, Settings};
use super::accept::{answer, machine};
use super::{message, packet};
use crate::credential::Secret;
use crate::model::limits;
use crate::protocol::kit::{self, Outcome};
use crate::protocol::session::{Accept, AcceptInput, AcceptStep, DialTls, Facts, Question, TlsOffer};

static SECRET: LazyLock<Secret> =
    LazyLock::new(|| Secret::new("connector".into(), Zeroizing::new("right".into()), 1));

/// Lengths that are wrong in every place: below what counts itself, beyond what there is, negative.
const LENGTHS: [u32; 12] = [
    0,
    1,
    3,
    5,
    0x7fff,
    0xffff,
    0x3fff_ffff,
    0x4000_0000,
    0x7fff_fffb,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
];

fn startup(pairs: &[(&str, &str)]) -> Vec<u8> {
    let body: Vec<u8> =
        pairs.iter().flat_map(|(name, value)| format!("{name}\0{value}\0").into_bytes()).collect();
    packet(VERSION_3_0, &[&body[..], b"\0"].concat())
}

fn client_says(turns: &[Vec<u8>]) -> Outcome {
    let turns: Vec<&[u8]> = turns.iter().map(Vec::as_slice).collect();
    let mut machine = machine(TlsOffer::Optional, Some("orders"));
    kit::accept(&mut machine, &mut kit::script(&turns), &mut kit::whole, &mut answer)
}

fn server_says(turns: &[Vec<u8>]) -> Outcome {
    let turns: Vec<&[u8]> = turns.iter().map(Vec::as_slice).collect();
    let goal = Goal::Login { database: "shop".into(), plain: false };
    let mut machine = PostgresDial::towards(goal, DialTls::Without, &SECRET);
    machine.fix_nonce("client");
    kit::dial(&mut machine, &mut kit::script(&turns), &mut kit::whole).0
}

fn authentication(kind: u32, body: &[u8]) -> Vec<u8> {
    message(b'R', &[&kind.to_be_bytes()[..], body].concat())
}

/// A message whose length says something else.
fn lying(tag: u8, length: u32, body: &[u8]) -> Vec<u8> {
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

/// A proxy of the same kind looked users up with a `search_path` that the client had chosen, and ran the
/// client's functions as its own role. Here the name alone is asked about; settings wait for the proof, and
/// are bound values ever after.
#[test]
fn cve_2025_12819_no_setting_of_a_client_counts_before_its_proof() {
    let mut machine = machine(TlsOffer::Optional, Some("orders"));
    let settings = [("user", "alice"), ("search_path", "mallory"), ("options", "-c role=postgres")];
    let mut input = BytesMut::from(&startup(&settings)[..]);
    let step = machine.step(AcceptInput::Bytes(&mut input), &mut BytesMut::new());
    let Ok(AcceptStep::Ask(Question::Scram { user, sent })) = step else { panic!("not asked for a proof") };
    assert_eq!((user.unwrap().as_str(), sent.as_str()), ("alice", "alice"));
    // Even the complaint about what may not be set comes after it.
    let outcome = client_says(&[startup(&settings), message(b'p', b"SCRAM-SHA-256\0\0\0\0\x08n,,n=,r=")]);
    assert!(!outcome.end.contains("role"), "{}", outcome.end);

    let hostile = Settings {
        application_name: None,
        parameters: vec![("search_path".into(), "x'; DROP TABLE orders; --".into())],
    };
    let mut script =
        PostgresScript::run(Job::Prepare { stamp: "alice/s-1", settings: &hostile }, &kit::postgres::facts());
    let said = kit::run(&mut script, &mut kit::script(&[]), &mut kit::whole).0.said;
    let text = String::from_utf8_lossy(&said);
    assert!(said.iter().filter(|byte| **byte == b'F').count() >= 2 && text.contains("DROP TABLE"), "{text}");
    assert!(!text.contains("SELECT") && !text.contains("SET "), "a setting stands in a text: {text}");
}

/// A start-up packet with `-c=` in its `options` kept a worker turning for ever.
#[test]
fn cve_2026_107349_options_that_are_none_come_to_an_end() {
    for options in ["-c=", "-c =", "-c", "--", "--=", "-c=-c=-c=", "\\", "-c \\", "- - -", "-c\u{b}=\t"] {
        let outcome = client_says(&[
            startup(&[("user", "alice"), ("options", options)]),
            message(b'p', b"SCRAM-SHA-256\0\0\0\0\x0bn,,n=,r=abc"),
        ]);
        // It is asked to prove itself, like anybody.
        assert_eq!(outcome.end, "gone", "{options:?}");
    }
    let long = "-c=".repeat(3_000);
    assert_eq!(client_says(&[startup(&[("user", "alice"), ("options", &long)])]).end, "gone");
}

/// Lengths that overflow, before anybody has said who they are: CVE-2026-107348, CVE-2026-6668, CVE-2026-6664.
#[test]
fn cve_2026_107348_and_6668_and_6664_lengths_of_a_client_that_lie() {
    let hello = startup(&[("user", "alice")]);
    for length in LENGTHS {
        for code in [VERSION_3_0, SSL_REQUEST, 80_877_102, 0, u32::MAX] {
            let lie = [&length.to_be_bytes()[..], &code.to_be_bytes(), b"user\0alice\0\0"].concat();
            let outcome = client_says(std::slice::from_ref(&lie));
            let waits = outcome.end == "gone" && (length as usize) <= limits::STARTUP_BYTES_MAX;
            // Never taken for whole, and nothing is waited for that is longer than any packet.
            let ends = outcome.end.starts_with("error") || outcome.end.starts_with("cancel");
            assert!(
                waits || ends || outcome.end == "bytes ahead of TLS",
                "{length:#x} {code:#x}: {}",
                outcome.end
            );
        }
        for tag in [b'p', b'Q', b'X'] {
            let outcome = client_says(&[hello.clone(), lying(tag, length, b"SCRAM-SHA-256\0")]);
            let waits = outcome.end == "gone" && (length as usize) < limits::SASL_BYTES_MAX;
            assert!(waits || outcome.end.starts_with("error"), "{tag} {length:#x}: {}", outcome.end);
        }
        // The length within: of the first response.
        let body = [b"SCRAM-SHA-256\0", &length.to_be_bytes()[..], b"n,,n=,r=abc"].concat();
        let outcome = client_says(&[hello.clone(), message(b'p', &body)]);
        let expected = "error: SASLInitialResponse: its length is not that of its response";
        assert_eq!(outcome.end, expected, "{length:#x}");
    }
}

/// The same from a server, at every message of a login and of a script.
#[test]
fn cve_2026_107348_and_6668_and_6664_lengths_of_a_server_that_lie() {
    let ends = |outcome: &Outcome, what: &str| {
        let known = ["error", "refused", "gone"].iter().any(|start| outcome.end.starts_with(start));
        assert!(known, "{what}: {}", outcome.end);
    };
    for length in LENGTHS {
        for tag in [b'R', b'S', b'K', b'Z', b'E', b'N', b'v', b'A', b'D', 0] {
            for before in [vec![], authentication(0, b"")] {
                let lie = [&before[..], &lying(tag, length, b"abcdefgh")].concat();
                ends(&server_says(&[lie]), &format!("{tag} {length:#x}"));
            }
            let mut script = PostgresScript::run(Job::Ping, &kit::postgres::facts());
            let lie = lying(tag, length, b"abcdefgh");
            let outcome = kit::run(&mut script, &mut kit::script(&[&lie]), &mut kit::whole).0;
            assert!(!outcome.end.starts_with("Done"), "{tag} {length:#x}: {}", outcome.end);
        }
        // Lengths within: of a column, of the number of columns, of options that are not known.
        let row = [&[0, 3][..], &length.to_be_bytes(), b"identity"].concat();
        let columns = [&(length as u16).to_be_bytes()[..], b"\0\0\0\x01a"].concat();
        for row in [row, columns] {
            let turns = [message(b'T', b"\0\0"), message(b'D', &row)].concat();
            let mut script = PostgresScript::run(Job::Probe, &kit::postgres::facts());
            let outcome = kit::run(&mut script, &mut kit::script(&[&turns]), &mut kit::whole).0;
            assert!(outcome.end.starts_with("error"), "{length:#x}: {}", outcome.end);
        }
        let options = [&3u32.to_be_bytes()[..], &length.to_be_bytes(), b"_pq_.x\0"].concat();
        ends(&server_says(&[message(b'v', &options)]), "NegotiateProtocolVersion");
    }
}

/// A malicious server overflowed the buffers of a pooler that logged in to it with SCRAM.
#[test]
fn cve_2026_6665_a_hostile_server_gains_nothing_by_scram() {
    let offer = authentication(10, b"SCRAM-SHA-256\0\0");
    let challenge = |text: &[u8]| server_says(&[offer.clone(), authentication(11, text)]);
    let long = "A".repeat(limits::SCRIPT_MESSAGE_BYTES_MAX / 2);
    let messages = [
        format!("r=client{long},s=QUJD,i=4096"),
        format!("r=clientX,s={long},i=4096,x={long}"),
        "r=clientX,s=QUJD,i=99999999999999999999999".into(),
        "r=clientX,s=QUJD,i=4294967296".into(),
        "r=clientX,s=QUJD,i=-1".into(),
        "r=clientX,s=QUJD,i=1".into(),
        "r=clientX,s=,i=4096".into(),
        "r=client,s=QUJD,i=4096".into(),
        "r=other,s=QUJD,i=4096".into(),
        "m=x,r=clientX,s=QUJD,i=4096".into(),
        ",,,,,,".into(),
        String::new(),
    ];
    for text in &messages {
        let outcome = challenge(text.as_bytes());
        let shown: String = text.chars().take(60).collect();
        // The long nonce is well formed: an answer to it is as long, and no longer.
        let answered = outcome.end == "gone" && outcome.said.len() < 2 * text.len() + 1_000;
        let words =
            ["error: SCRAM", "error: authentication request: too long", "error: message header: longer"];
        let refused = words.iter().any(|words| outcome.end.starts_with(words));
        assert!(refused || answered, "{shown}: {}", outcome.end);
    }
    let list = b"X".repeat(limits::SCRIPT_MESSAGE_BYTES_MAX - 100);
    for list in [&list[..], b"SCRAM-SHA-256", b"", b"\xff\xfe\0\0"] {
        let outcome = server_says(&[authentication(10, list)]);
        assert!(outcome.end.starts_with("error"), "{}", outcome.end);
    }
}

/// A pooler died of an error without a SQLSTATE. `relay::tests` has the same in a conversation.
#[test]
fn cve_2026_6666_an_error_without_a_sqlstate_is_an_error_like_any_other() {
    for (body, said) in [
        (&b"Mwhy\0\0"[..], "refused Other XX000: why"),
        (b"", "refused Other XX000: "),
        (b"\0", "refused Other XX000: "),
        (b"C\0\0", "refused Other XX000: "),
        (b"Cabc", "refused Other XX000: "),
        (b"SFATAL\0\0", "refused Other XX000: "),
    ] {
        let outcome = server_says(&[message(b'E', body)]);
        assert!(outcome.end.starts_with("refused Other"), "{body:?}: {}", outcome.end);
        assert_eq!(outcome.end.trim_end(), said.trim_end(), "{body:?}");
        let mut script = PostgresScript::run(Job::Ping, &kit::postgres::facts());
        let turns = [message(b'E', body), message(b'Z', b"I")].concat();
        let outcome = kit::run(&mut script, &mut kit::script(&[&turns]), &mut kit::whole).0;
        assert!(outcome.end.starts_with("Refused"), "{body:?}: {}", outcome.end);
    }
}

/// What a server reports of itself costs a bounded amount, however much it says: like the endless messages
/// of [`super::dial`], no hole of anybody's yet.
#[test]
fn a_flood_of_parameters_is_bounded() {
    let flood: Vec<u8> = (0..900).flat_map(|i| message(b'S', format!("p{i}\0v\0").as_bytes())).collect();
    let welcome = [
        authentication(0, b""),
        message(b'S', b"server_version\x0018.1\0"),
        flood,
        message(b'K', b"\0\0\0\x07\x01\x02\x03\x04"),
        message(b'Z', b"I"),
    ]
    .concat();
    let goal = Goal::Login { database: "shop".into(), plain: false };
    let mut machine = PostgresDial::towards(goal, kit::postgres::lenient(DialTls::Without), &SECRET);
    let facts = kit::dial(&mut machine, &mut kit::script(&[&welcome]), &mut kit::whole).1.unwrap();
    assert_eq!(facts.parameters.len(), limits::PARAMETERS_MAX);
    assert_eq!(facts.server_version(), "18.1");
}
