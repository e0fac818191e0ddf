//! Transcripts of real servers and clients, replayed. A line is one write: `>` from the client, `<`
//! from the server, its bytes escaped as in Rust; `#` says where it came from.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{LazyLock, OnceLock};

use bytes::BytesMut;
use proptest::prelude::*;
use zeroize::Zeroizing;

use super::super::{Goal, Job, PostgresAccept, PostgresDial, PostgresFacts, PostgresScript, Settings, frame};
use crate::credential::Secret;
use crate::credential::scram::{Candidate, Exchange};
use crate::model::Name;
use crate::protocol::kit::{self, Outcome};
use crate::protocol::session::{AcceptContext, Answer, DialTls, Question, Report, Severity, TlsOffer};

/// Our nonce in the recorded logins.
pub(super) const NONCE: &str = "rOprNGfwEbeRWgbNEkqO1234";

/// One write as a line of a transcript.
pub(super) fn line(side: char, bytes: &[u8]) -> String {
    format!("{side} {}\n", bytes.escape_ascii())
}

pub(super) fn settings(time_zone: &str) -> Settings {
    let parameters = [
        ("client_encoding", "UTF8"),
        ("search_path", "a, b"),
        ("timezone", time_zone),
        ("extra_float_digits", "2"),
    ];
    Settings {
        parameters: parameters.map(|(name, value)| (name.into(), value.into())).to_vec(),
        application_name: Some("psql".into()),
    }
}

/// Of the user of all recorded logins, whose salt is the same in all; it takes time to make.
static CANDIDATE: OnceLock<Candidate> = OnceLock::new();
static ALICE: LazyLock<Secret> = LazyLock::new(|| secret("alice", "tg_golden"));

struct Transcript {
    client: Vec<Vec<u8>>,
    server: Vec<Vec<u8>>,
}

macro_rules! golden {
    ($name:literal) => {
        Transcript::parse(include_str!(concat!("../golden/", $name, ".txt")))
    };
}

impl Transcript {
    fn parse(text: &str) -> Self {
        let of = |side: &str| text.lines().filter_map(|line| line.strip_prefix(side)).map(unescape).collect();
        Self { client: of("> "), server: of("< ") }
    }

    /// Where TCP cut the server's answer is of no account.
    fn answers(&self) -> Vec<u8> {
        self.server.concat()
    }
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

fn find<'a>(text: &'a [u8], start: &str, end: u8) -> &'a str {
    let at = text.windows(start.len()).position(|window| window == start.as_bytes()).unwrap() + start.len();
    let length = text[at..].iter().position(|byte| *byte == end).unwrap();
    std::str::from_utf8(&text[at..at + length]).unwrap()
}

// ---------------------------------------------------------------------------------------------
// Accept: we stand in for the server

/// Replays a client against our machine, which is given the recorded server's nonce, salt and rounds.
fn accept(transcript: &Transcript, cut: kit::Cut<'_>) -> Outcome {
    use base64::Engine;
    let challenge = transcript.answers();
    let nonces = find(&challenge, "r=", b',').to_owned();
    let first = transcript.client.iter().find(|message| message.starts_with(b"p")).unwrap();
    let theirs = std::str::from_utf8(first).unwrap().split_once("n,,n=,r=").unwrap().1;
    let salt = base64::engine::general_purpose::STANDARD.decode(find(&challenge, ",s=", b',')).unwrap();
    let salt: [u8; 16] = salt.try_into().unwrap();
    let orders = Some(Name::parse("orders").unwrap());
    let context = AcceptContext::new(orders, IpAddr::V4(Ipv4Addr::LOCALHOST), TlsOffer::Unavailable);
    let mut machine = PostgresAccept::new(&context);
    machine.fix_nonce(nonces.strip_prefix(theirs).unwrap());
    let turns: Vec<&[u8]> = transcript.client.iter().map(Vec::as_slice).collect();
    kit::accept(&mut machine, &mut kit::script(&turns), cut, &mut |question| {
        let Question::Scram { user, sent } = question else { panic!("{question:?}") };
        assert_eq!(sent, "alice");
        let known = CANDIDATE.get_or_init(|| kit::postgres::candidate("tg_golden", salt, 4_096));
        Answer::Scram(Box::new(Exchange::new(user, vec![known.clone()], salt, 4_096)))
    })
}

/// All that a server said up to, and without, AuthenticationOk.
fn before_ok(answers: &[u8]) -> &[u8] {
    let ok = b"R\0\0\0\x08\0\0\0\0";
    let at = answers.windows(ok.len()).position(|window| window == ok).unwrap();
    &answers[..at]
}

#[test]
fn psql_is_let_in_with_the_very_bytes_of_a_server() {
    for transcript in [golden!("accept-psql-15"), golden!("accept-psql-15-prefer")] {
        let outcome = accept(&transcript, &mut kit::whole);
        assert_eq!(
            outcome.said.escape_ascii().to_string(),
            before_ok(&transcript.answers()).escape_ascii().to_string()
        );
        assert!(outcome.end.starts_with("login alice Claim { user: \"alice\""), "{}", outcome.end);
        assert!(outcome.end.contains("database: Some(\"shop\")"), "{}", outcome.end);
    }
}

#[test]
fn psql_with_a_wrong_password_is_refused_where_a_server_refuses() {
    let transcript = golden!("accept-psql-15-wrong-password");
    let outcome = accept(&transcript, &mut kit::whole);
    assert_eq!(outcome.end, "refused BadCredentials: wrong secret or unknown user");
    let answers = transcript.answers();
    let error = answers.windows(7).position(|window| window == b"SFATAL\0").unwrap() - 5;
    assert_eq!(outcome.said[..error], answers[..error]);
    assert!(
        outcome.said[error..].ends_with(b"SFATAL\0VFATAL\0C28P01\0MTG001: the login was not accepted\0\0")
    );
}

#[test]
fn a_greased_start_up_is_answered_with_the_very_bytes_of_a_server() {
    let transcript = golden!("accept-grease");
    let context = AcceptContext::new(None, IpAddr::V4(Ipv4Addr::LOCALHOST), TlsOffer::Unavailable);
    let turns: Vec<&[u8]> = transcript.client.iter().map(Vec::as_slice).collect();
    let mut answer = |_| Answer::Scram(Box::new(Exchange::new(None, Vec::new(), [0; 16], 4_096)));
    let outcome = kit::accept(
        &mut PostgresAccept::new(&context),
        &mut kit::script(&turns),
        &mut kit::whole,
        &mut answer,
    );
    assert_eq!(outcome.said.escape_ascii().to_string(), transcript.answers().escape_ascii().to_string());
}

// ---------------------------------------------------------------------------------------------
// Dial: we stand in for the client

fn dial(
    transcript: &Transcript,
    goal: Goal,
    secret: &Secret,
    cut: kit::Cut<'_>,
) -> (Outcome, Option<PostgresFacts>) {
    let mut machine = PostgresDial::towards(goal, kit::postgres::lenient(DialTls::Without), secret);
    machine.fix_nonce(NONCE);
    let turns: Vec<&[u8]> = transcript.server.iter().map(Vec::as_slice).collect();
    kit::dial(&mut machine, &mut kit::script(&turns), cut)
}

fn login(plain: bool) -> Goal {
    Goal::Login { database: "shop".into(), plain }
}

fn secret(user: &str, password: &str) -> Secret {
    Secret::new(user.into(), Zeroizing::new(password.into()), 1)
}

#[test]
fn a_server_lets_us_in() {
    for (transcript, goal, secret) in [
        (golden!("dial-scram"), login(false), secret("alice", "tg_golden")),
        (golden!("dial-md5"), login(true), secret("plain_md5", "tg_md5")),
        (golden!("dial-trust"), login(true), secret("plain_trust", "")),
    ] {
        let (outcome, facts) = dial(&transcript, goal, &secret, &mut kit::whole);
        assert_eq!(outcome.end, "ready");
        assert_eq!(
            outcome.said.escape_ascii().to_string(),
            transcript.client.concat().escape_ascii().to_string()
        );
        let facts = facts.unwrap();
        assert!(facts.process_id > 0 && facts.secret_key.len() == 4);
        assert!(facts.version.starts_with("15."), "{}", facts.version);
        assert!(facts.parameters.contains(&("application_name".into(), "tidegate".into())));
        assert_eq!(&*facts.user, secret.username());
    }
}

#[test]
fn a_servers_refusals_are_told_apart() {
    let alice = secret("alice", "wrong");
    let (outcome, _) = dial(&golden!("dial-wrong-password"), login(false), &alice, &mut kit::whole);
    assert_eq!(outcome.end, "refused BadSecret 28P01: password authentication failed for user \"alice\"");
    let nowhere = Goal::Login { database: "no_such_database".into(), plain: false };
    let alice = secret("alice", "tg_golden");
    let (outcome, _) = dial(&golden!("dial-no-database"), nowhere, &alice, &mut kit::whole);
    assert_eq!(outcome.end, "refused NoDatabase 3D000: database \"no_such_database\" does not exist");
}

#[test]
fn a_server_that_does_not_know_the_password_is_not_believed() {
    let transcript = golden!("dial-scram");
    let alice = secret("alice", "another");
    let (outcome, _) = dial(&transcript, login(false), &alice, &mut kit::whole);
    assert_eq!(outcome.end, "error: SCRAM: the server did not prove that it knows the password");
    // The same, where the server leaves its proof out.
    let answers = transcript.answers();
    let at = before_ok(&answers).len();
    let last = 1 + usize::from(answers[at - 51]);
    assert_eq!(answers[at - 55], b'R', "the message before AuthenticationOk is AuthenticationSASLFinal");
    assert_eq!(last, 55);
    let without = [&answers[..at - last], &answers[at..]].concat();
    let cheat = Transcript { client: Vec::new(), server: vec![without] };
    let (outcome, _) = dial(&cheat, login(false), &secret("alice", "tg_golden"), &mut kit::whole);
    assert_eq!(outcome.end, "error: authentication request: success before the server has proven itself");
}

// ---------------------------------------------------------------------------------------------
// Script

/// The facts of the connection that the scripts were recorded on.
fn facts() -> PostgresFacts {
    dial(&golden!("dial-scram"), login(false), &ALICE, &mut kit::whole).1.unwrap()
}

fn run(transcript: &Transcript, job: Job<'_>, cut: kit::Cut<'_>) -> (Outcome, Option<Report>) {
    let turns: Vec<&[u8]> = transcript.server.iter().map(Vec::as_slice).collect();
    kit::run(&mut PostgresScript::run(job, &facts()), &mut kit::script(&turns), cut)
}

fn report(transcript: &Transcript, job: Job<'_>) -> Report {
    let (outcome, report) = run(transcript, job, &mut kit::whole);
    report.unwrap_or_else(|| panic!("{}", outcome.end))
}

#[test]
fn a_probe_finds_nothing_to_fear_in_a_fresh_database() {
    let Report::Done(findings) = report(&golden!("script-probe"), Job::Probe) else { panic!() };
    assert_eq!(findings.fingerprint, "");
    assert_eq!(findings.stateful, Vec::<String>::new());
}

#[test]
fn a_prepared_connection_reports_what_changed() {
    let settings = settings("UTC");
    let job = Job::Prepare { stamp: "alice/s-0", settings: &settings };
    let transcript = golden!("script-prepare");
    let Report::Done(findings) = report(&transcript, job) else { panic!() };
    assert_eq!(
        findings.parameters,
        [("application_name".into(), "alice/s-0 psql".into()), ("TimeZone".into(), "UTC".into())]
    );
    let (outcome, _) = run(&transcript, job, &mut kit::whole);
    assert_eq!(
        outcome.said.escape_ascii().to_string(),
        transcript.client.concat().escape_ascii().to_string()
    );
}

#[test]
fn a_setting_that_is_refused_is_named() {
    let settings = settings("Nowhere");
    let job = Job::Prepare { stamp: "alice/s-0", settings: &settings };
    let (outcome, _) = run(&golden!("script-prepare-refused"), job, &mut kit::whole);
    assert!(
        outcome.end.contains("BadParameter") && outcome.end.contains("message: \"timezone\""),
        "{}",
        outcome.end
    );
}

#[test]
fn a_reset_is_clean_only_when_the_server_says_so() {
    let reset = Job::Reset { in_transaction: true };
    let transcript = golden!("script-reset");
    let Report::Done(findings) = report(&transcript, reset) else { panic!() };
    assert!(findings.restored && findings.parameters.is_empty());

    let (outcome, _) =
        run(&golden!("script-reset-failed"), Job::Reset { in_transaction: false }, &mut kit::whole);
    assert!(outcome.end.contains("25001"), "DISCARD ALL in a transaction: {}", outcome.end);

    // Every answer is needed: cut short at any message, the script is not over.
    let answers = transcript.answers();
    let mut rest = BytesMut::from(&answers[..]);
    let mut at = 0;
    while let Some(header) = frame::peek(&rest).unwrap().filter(|header| header.total < rest.len()) {
        at += header.total;
        let _ = rest.split_to(header.total);
        let short = Transcript { client: Vec::new(), server: vec![answers[..at].to_vec()] };
        assert_eq!(run(&short, reset, &mut kit::whole).0.end, "gone", "after {at} bytes");
    }
    assert!(at > 100);
}

#[test]
fn a_reset_that_left_something_is_not_clean() {
    let reset = Job::Reset { in_transaction: true };
    let answers = golden!("script-reset").answers();
    // The last ReadyForQuery with an open transaction; another role; another time zone.
    for (from, to, what) in [
        (&b"Z\0\0\0\x05I"[..], &b"Z\0\0\0\x05T"[..], "a transaction is open"),
        (b"alice\0\0\0\x05alice", b"alice\0\0\0\x05mally", "we are \"alice\" acting as \"mally\" there"),
        (
            b"TimeZone\0\0\0\x07Etc/UTC",
            b"TimeZone\0\0\0\x07Etc/GMT",
            "the setting TimeZone is not what it was after login",
        ),
        (b"reported\0\0\0\x08TimeZone", b"leftover\0\0\0\x08TimeZone", "TimeZone is left"),
    ] {
        let at = answers
            .windows(from.len())
            .rposition(|window| window == from)
            .unwrap_or_else(|| panic!("{what}"));
        let mut changed = answers.clone();
        changed[at..at + to.len()].copy_from_slice(to);
        let transcript = Transcript { client: Vec::new(), server: vec![changed] };
        let (outcome, _) = run(&transcript, reset, &mut kit::whole);
        assert_eq!(outcome.end, format!("{:?}", Report::Unclean(what.into())));
    }
}

#[test]
fn a_ping_sees_an_open_transaction() {
    assert!(matches!(report(&golden!("script-ping"), Job::Ping), Report::Done(_)));
    assert!(matches!(report(&golden!("script-ping-unclean"), Job::Ping), Report::Unclean(_)));
}

#[test]
fn a_check_names_what_the_connector_may_do() {
    let Report::Done(findings) = report(&golden!("script-check"), Job::Check { level: "read" }) else {
        panic!()
    };
    let has = |severity, what: &str, sql: Option<&str>| {
        assert!(
            findings.checks.iter().any(|check| {
                check.severity == severity && check.what.contains(what) && check.sql.as_deref() == sql
            }),
            "{what}: {:#?}",
            findings.checks
        );
    };
    has(
        Severity::Danger,
        "in the schema \"public\"",
        Some("REVOKE CREATE ON SCHEMA \"public\" FROM \"alice\";"),
    );
    has(Severity::Warning, "member of \"pg_monitor\"", Some("REVOKE \"pg_monitor\" FROM \"alice\";"));
    has(Severity::Note, "end each other's sessions", None);
    has(Severity::Note, "ALTER ROLE CURRENT_USER SET", None);
}

// ---------------------------------------------------------------------------------------------
// However the bytes arrive

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_split_gives_the_same_outcome(cuts in prop::collection::vec(1usize..200, 1..40)) {
        let uneven = || {
            let mut next = cuts.iter().cycle();
            move |_: usize| *next.next().unwrap()
        };
        for transcript in
            [golden!("accept-psql-15"), golden!("accept-psql-15-prefer"), golden!("accept-psql-15-wrong-password")]
        {
            prop_assert_eq!(accept(&transcript, &mut kit::whole), accept(&transcript, &mut uneven()));
        }
        for transcript in [golden!("dial-scram"), golden!("dial-no-database"), golden!("dial-wrong-password")] {
            let whole = dial(&transcript, login(false), &ALICE, &mut kit::whole).0;
            prop_assert_eq!(whole, dial(&transcript, login(false), &ALICE, &mut uneven()).0);
        }
        let settings = settings("UTC");
        for (transcript, job) in [
            (golden!("script-probe"), Job::Probe),
            (golden!("script-prepare"), Job::Prepare { stamp: "alice/s-0", settings: &settings }),
            (golden!("script-prepare-refused"), Job::Prepare { stamp: "alice/s-0", settings: &settings }),
            (golden!("script-reset"), Job::Reset { in_transaction: true }),
            (golden!("script-check"), Job::Check { level: "read" }),
        ] {
            prop_assert_eq!(run(&transcript, job, &mut kit::whole), run(&transcript, job, &mut uneven()));
        }
    }

    /// A transcript with a few bytes changed, or cut short: an end without a panic, the same however cut.
    #[test]
    fn damage_is_survived(
        at in any::<prop::sample::Index>(),
        bytes in prop::collection::vec(any::<u8>(), 0..6),
        end in any::<prop::sample::Index>(),
        step in 1usize..50,
    ) {
        let damage = |transcript: Transcript| {
            let mut answers = transcript.answers();
            let at = at.index(answers.len());
            for (place, byte) in answers[at..].iter_mut().zip(&bytes) {
                *place = *byte;
            }
            answers.truncate(at + 10 + end.index(answers.len()));
            Transcript { client: Vec::new(), server: vec![answers] }
        };
        for transcript in [golden!("dial-scram"), golden!("dial-md5"), golden!("dial-no-database")] {
            let transcript = damage(transcript);
            let whole = dial(&transcript, login(false), &ALICE, &mut kit::whole).0;
            prop_assert_eq!(whole, dial(&transcript, login(false), &ALICE, &mut |_| step).0);
        }
        for (transcript, job) in [
            (golden!("script-probe"), Job::Probe),
            (golden!("script-reset"), Job::Reset { in_transaction: true }),
            (golden!("script-check"), Job::Check { level: "read" }),
        ] {
            let transcript = damage(transcript);
            prop_assert_eq!(run(&transcript, job, &mut kit::whole), run(&transcript, job, &mut |_| step));
        }
    }

    /// Noise, through the doors that the fuzz targets use.
    #[test]
    fn noise_is_survived(data in prop::collection::vec(any::<u8>(), 0..400)) {
        kit::postgres::accept(&data);
        kit::postgres::dial(&data);
        kit::postgres::script(&data);
    }
}

/// A corpus that does not get past the first message would fuzz nothing.
#[test]
fn the_corpus_reaches_the_depths() {
    macro_rules! seed {
        ($path:literal) => {
            include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/", $path)).as_slice()
        };
    }
    for (end, start) in [
        (kit::postgres::accept(seed!("accept/login")), "login alice"),
        (kit::postgres::accept(seed!("accept/login-tls")), "login alice"),
        (kit::postgres::accept(seed!("accept/login-target")), "login alice"),
        (kit::postgres::accept(seed!("accept/unknown")), "refused BadCredentials"),
        (kit::postgres::accept(seed!("accept/replication")), "refused NotSupported"),
        (kit::postgres::dial(seed!("dial/scram")), "ready"),
        (kit::postgres::dial(seed!("dial/scram-tls")), "ready"),
        (kit::postgres::dial(seed!("dial/clear-tls")), "ready"),
        (kit::postgres::dial(seed!("dial/pg15-md5")), "ready"),
        (kit::postgres::dial(seed!("dial/unknown-option")), "refused UnknownOption"),
        (kit::postgres::script(seed!("script/probe")), "Done"),
        (kit::postgres::script(seed!("script/check")), "Done"),
        (kit::postgres::script(seed!("script/reset")), "Unclean"),
    ] {
        assert!(end.starts_with(start), "{start}: {end}");
    }
}
