//! Transcripts of real servers and clients, replayed. A line is one write: `>` from the client, `<` from the
//! server, its bytes escaped as in Rust; `#` says where it came from.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};

use super::super::accept::MySqlAccept;
use super::super::dial::{Goal, MySqlDial};
use crate::credential::mysql::{Candidate, Exchange};
use crate::credential::{Keys, Secret, testing};
use crate::model::Name;
use crate::protocol::kit::{self, mysql::RANDOM, postgres::lenient};
use crate::protocol::session::{AcceptContext, Answer, DialTls, Question, TlsOffer};

static ALICE: LazyLock<(Arc<Keys>, Candidate)> =
    LazyLock::new(|| testing::mysql_candidate(&Name::parse("alice").unwrap(), "tg_golden").unwrap());

/// One write as a line of a transcript.
pub(super) fn line(side: char, bytes: &[u8]) -> String {
    format!("{side} {}\n", bytes.escape_ascii())
}

/// Knows alice and the password of all transcripts.
pub(super) fn answer(question: Question) -> Answer {
    let Question::MySql { user, sent } = question else { panic!("{question:?}") };
    let candidates = user.iter().filter(|user| user.as_str() == "alice").map(|_| ALICE.1.clone()).collect();
    Answer::MySql(Box::new(Exchange::new(user, &sent, candidates, ALICE.0.clone())))
}

pub(super) struct Transcript {
    pub client: Vec<Vec<u8>>,
    pub server: Vec<Vec<u8>>,
}

/// Every transcript whose name begins so, with its name.
pub(super) fn transcripts(kind: &str) -> Vec<(String, Transcript)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/protocol/mysql/golden");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if name.starts_with(kind) {
            let text = std::fs::read_to_string(path).unwrap();
            let of =
                |side: &str| text.lines().filter_map(|line| line.strip_prefix(side)).map(unescape).collect();
            found.push((name, Transcript { client: of("> "), server: of("< ") }));
        }
    }
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    found
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match (byte == b'\\').then(|| rest.next().unwrap()) {
            None => byte,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'x') => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            Some(other) => other,
        });
    }
    bytes
}

fn escaped(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// The user in a client's answer to a greeting.
fn user(response: &[u8]) -> String {
    let name = response[36..].split(|byte| *byte == 0).next().unwrap();
    String::from_utf8(name.to_vec()).unwrap()
}

/// Uneven pieces, always the same.
fn uneven(mut state: u32) -> impl FnMut(usize) -> usize {
    move |left| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        1 + (state >> 24) as usize % left
    }
}

#[test]
fn we_log_in_with_the_very_bytes_that_real_servers_took() {
    let transcripts = transcripts("dial-");
    assert!(transcripts.len() >= 10, "{} transcripts", transcripts.len());
    for (name, transcript) in transcripts {
        let password = if name.ends_with("-wrong") { "wrong" } else { "tg_golden" };
        let secret = Secret::new(user(&transcript.client[0]), zeroize::Zeroizing::new(password.into()), 1);
        let replay = |cut: kit::Cut<'_>| {
            let goal = Goal { database: "shop".into(), flavour: String::new() };
            let mut machine = MySqlDial::towards(goal, lenient(DialTls::Without), &secret);
            machine.fix_random(&RANDOM);
            let turns: Vec<&[u8]> = transcript.server.iter().map(Vec::as_slice).collect();
            kit::dial(&mut machine, &mut kit::script(&turns), cut).0
        };
        let outcome = replay(&mut kit::whole);
        assert_eq!(escaped(&outcome.said), escaped(&transcript.client.concat()), "{name}");
        match password {
            "wrong" => {
                assert!(outcome.end.starts_with("refused BadSecret 1045: "), "{name}: {}", outcome.end)
            }
            _ => assert_eq!(outcome.end, "ready", "{name}"),
        }
        assert_eq!(outcome, replay(&mut |_| 1), "{name}");
        assert_eq!(outcome, replay(&mut uneven(7)), "{name}");
    }
}

#[test]
fn real_clients_log_in_with_the_bytes_that_they_sent() {
    let transcripts = transcripts("accept-");
    assert!(transcripts.len() >= 6, "{} transcripts", transcripts.len());
    for (name, transcript) in transcripts {
        let replay = |cut: kit::Cut<'_>| {
            let orders = Some(Name::parse("orders").unwrap());
            let context = AcceptContext::new(orders, IpAddr::V4(Ipv4Addr::LOCALHOST), TlsOffer::Unavailable);
            let mut machine = MySqlAccept::new(&context);
            machine.fix_random(&RANDOM);
            let turns: Vec<&[u8]> = transcript.client.iter().map(Vec::as_slice).collect();
            kit::accept(&mut machine, &mut kit::script(&turns), cut, &mut answer)
        };
        let outcome = replay(&mut kit::whole);
        let is_right = !name.ends_with("-wrong");
        assert_eq!(outcome.end.starts_with("login alice"), is_right, "{name}: {}", outcome.end);
        // What follows is the relay's.
        let answers = transcript.server.concat();
        assert!(escaped(&answers).starts_with(&escaped(&outcome.said)), "{name}");
        assert_eq!(outcome, replay(&mut |_| 1), "{name}");
        assert_eq!(outcome, replay(&mut uneven(11)), "{name}");
    }
}

/// A corpus that does not get past the first packet would fuzz nothing.
#[test]
fn the_corpus_reaches_the_depths() {
    let run = |target: fn(&[u8]) -> String, path: &str| {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        target(&std::fs::read(folder.join(path)).unwrap())
    };
    for name in ["login", "login-mariadb", "ed25519", "parsec", "clear-tls", "tls", "certificate"] {
        let end = run(kit::mysql::accept, &format!("mysql_accept/{name}"));
        assert!(end.starts_with("login alice"), "{name}: {end}");
    }
    for (name, end) in [
        ("caching", "ready"),
        ("caching-full", "ready"),
        ("caching-sealed", "ready"),
        ("caching-strict", "refused NotAdmitted"),
        ("ed25519", "ready"),
        ("parsec", "ready"),
        ("clear", "ready"),
        ("native", "ready"),
        ("sha256", "ready"),
        ("no-database", "ready"),
        ("refused", "refused Full"),
        ("file", "error: login: the server asks for a file of ours"),
    ] {
        let ended = run(kit::mysql::dial, &format!("mysql_dial/{name}"));
        assert!(ended.starts_with(end), "{name}: {ended}");
    }
}
