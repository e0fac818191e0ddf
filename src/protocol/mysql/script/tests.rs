//! Scripts against what real servers answered: recorded between a node and the server, a line for each write, `>` from
//! us, `<` from the server, its bytes escaped as in Rust.

use std::sync::Arc;

use bytes::BytesMut;

use super::super::capability::status;
use super::super::facts::Learned;
use super::super::packet;
use super::*;
use crate::protocol::session::Facts;

struct Transcript {
    ours: Vec<Vec<u8>>,
    server: Vec<Vec<u8>>,
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = text.bytes();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        out.push(match (byte, byte == b'\\') {
            (_, false) => byte,
            _ => match bytes.next().unwrap() {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'x' => {
                    let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                    u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                }
                other => other,
            },
        });
    }
    out
}

impl Transcript {
    fn parse(text: &str) -> Self {
        let of = |side: &str| text.lines().filter_map(|line| line.strip_prefix(side)).map(unescape).collect();
        Self { ours: of("> "), server: of("< ") }
    }
}

/// Each: the version, whether it is MariaDB, what was agreed to, and the writes: two of a probe, one each of a
/// preparation, of a client's `select 1`, of a reset, and of one with a thorough look.
fn transcripts() -> Vec<(MySqlFacts, Transcript)> {
    let multi = Capabilities::DEPRECATE_EOF | Capabilities::MULTI_STATEMENTS;
    macro_rules! golden {
        ($($name:literal, $version:literal, $agreed:expr;)*) => {
            vec![$((facts($version, $agreed), Transcript::parse(include_str!(concat!("../golden/", $name, ".txt"))))),*]
        };
    }
    golden! {
        "talk-mariadb-10-deprecate", "5.5.5-10.11.19-MariaDB-0+deb12u1", multi;
        "talk-mariadb-10", "5.5.5-10.11.19-MariaDB-0+deb12u1", Capabilities::NONE;
        "talk-mariadb-11-deprecate", "11.8.9-MariaDB-0+deb13u1 from Debian", multi;
        "talk-mariadb-11", "11.8.9-MariaDB-0+deb13u1 from Debian", Capabilities::NONE;
        "talk-mysql-9-deprecate", "9.7.4-2", multi;
        "talk-mysql-9", "9.7.4-2", Capabilities::NONE;
    }
}

fn facts(version: &str, agreed: Capabilities) -> MySqlFacts {
    MySqlFacts {
        learned: Arc::new(Learned {
            version: version.into(),
            capabilities: Capabilities::ALWAYS | Capabilities::LONG_PASSWORD,
            collation: 45,
            status: status::AUTOCOMMIT,
        }),
        capabilities: agreed | Capabilities::ALWAYS,
        user: "tidegate".into(),
        database: "shop".into(),
        collation: 45,
        thread: 1,
        status: status::AUTOCOMMIT,
        termination: None,
        stamps_comments: false,
        baseline: None,
    }
}

/// Runs a script against these writes of a server, in pieces of this size.
fn run(job: Job<'_>, facts: &MySqlFacts, answers: &[Vec<u8>], piece: usize) -> (Vec<u8>, Report) {
    let mut script = MySqlScript::run(job, facts);
    let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
    if let ScriptStep::Done(report) = script.step(&mut input, &mut out).unwrap() {
        return (out.to_vec(), report);
    }
    for piece in answers.iter().flat_map(|answer| answer.chunks(piece)) {
        input.extend_from_slice(piece);
        if let ScriptStep::Done(report) = script.step(&mut input, &mut out).unwrap() {
            assert!(input.is_empty(), "nothing is left unread");
            return (out.to_vec(), report);
        }
    }
    panic!("not done: {}", out.escape_ascii());
}

/// The commands but for the seed of RAND(), which is always another and always of the same length.
fn without_seed(sent: &[u8]) -> Vec<Vec<u8>> {
    let (mut rest, mut commands) = (sent, Vec::new());
    while let Some(header) = packet::peek(rest) {
        let (command, behind) = rest.split_at(header.total());
        rest = behind;
        let mut command = command.to_vec();
        if command[packet::HEADER_BYTES..].starts_with(b"\x03SET rand_seed1=") {
            command.drain(20..52);
        }
        commands.push(command);
    }
    commands
}

fn probed(facts: &MySqlFacts, transcript: &Transcript, piece: usize) -> MySqlFacts {
    let (_, report) = run(Job::Probe, facts, &transcript.server[..2], piece);
    let Report::Done(findings) = report else { panic!("{report:?}") };
    assert_eq!(findings.catalogs.as_deref(), Some(""));
    let mut facts = facts.clone();
    facts.apply(&findings);
    facts
}

#[test]
fn real_servers_are_probed_prepared_and_reset() {
    let settings = Settings { collation: 224, ..Settings::default() };
    for (facts, transcript) in transcripts() {
        let facts = probed(&facts, &transcript, usize::MAX);
        let baseline = facts.baseline.as_deref().unwrap();
        let nullable = baseline.variables.iter().filter(|variable| variable.nullable).count();
        assert!(baseline.variables.len() > 150 && (10..60).contains(&nullable), "{baseline:?}");
        assert!(baseline.hash.len() == 64 && baseline.glance.len() == 64, "{baseline:?}");
        assert_eq!((&*baseline.account, baseline.socket), ("tidegate@%", facts.is_mariadb()));
        assert!(!baseline.extras && facts.termination.is_some());
        let jobs = [
            (2, Job::Prepare { stamp: stamp_in(&transcript.ours[2]), settings: &settings }),
            (4, Job::Reset { random: Some(7), look: false }),
            (5, Job::Reset { random: Some(7), look: true }),
        ];
        for (at, job) in jobs {
            for piece in [usize::MAX, 1, 7] {
                let (sent, report) = run(job, &facts, &transcript.server[at..=at], piece);
                assert!(matches!(report, Report::Done(_)), "{report:?}");
                assert!(
                    without_seed(&sent) == without_seed(&transcript.ours[at]),
                    "what is sent is what was"
                );
            }
        }
    }
}

/// The stamp that a recorded preparation had.
fn stamp_in(sent: &[u8]) -> &str {
    let at = sent.windows(6).position(|window| window == b"alice/").unwrap();
    let end = sent[at..].iter().position(|byte| *byte == b'\'').unwrap();
    std::str::from_utf8(&sent[at..at + end]).unwrap()
}

#[test]
fn what_is_not_as_it_was_is_seen() {
    for (facts, transcript) in transcripts() {
        let facts = probed(&facts, &transcript, usize::MAX);
        let answer = &transcript.server[4];
        let unclean = |facts: &MySqlFacts, answer: &[u8]| match run(
            Job::Reset { random: Some(7), look: false },
            facts,
            &[answer.to_vec()],
            usize::MAX,
        )
        .1
        {
            Report::Unclean(what) => what,
            other => panic!("{other:?}"),
        };
        let other = |change: &dyn Fn(&mut MySqlFacts)| {
            let mut facts = facts.clone();
            change(&mut facts);
            unclean(&facts, answer)
        };
        let changed = |change: fn(&mut Baseline)| {
            let mut facts = facts.clone();
            change(Arc::make_mut(facts.baseline.as_mut().unwrap()));
            facts
        };
        let facts_of = |change| unclean(&changed(change), answer);
        assert!(facts_of(|known| known.glance = "00".into()).contains("variables of the session"));
        // From where we are let in decides what we may do there.
        assert!(facts_of(|known| known.account = "tidegate@10.%".into()).contains("we are"));
        assert!(facts_of(|known| known.account = "root@%".into()).contains("we are"));
        // All variables are hashed where it is looked at thoroughly, and seen then.
        let thorough = &transcript.server[5];
        let looked = |facts: &MySqlFacts| {
            let job = Job::Reset { random: Some(7), look: true };
            run(job, facts, std::slice::from_ref(thorough), usize::MAX).1
        };
        assert!(matches!(looked(&facts), Report::Done(_)), "{:?}", looked(&facts));
        let Report::Unclean(what) = looked(&changed(|known| known.hash = "00".into())) else { panic!() };
        assert!(what.contains("variables of the session"), "{what}");
        assert!(matches!(
            run(
                Job::Reset { random: Some(7), look: false },
                &changed(|known| known.hash = "00".into()),
                std::slice::from_ref(answer),
                usize::MAX
            )
            .1,
            Report::Done(_)
        ));
        assert!(other(&|facts| facts.termination = Some(Termination("1".into()))).contains("the connection"));
        // The row of the state is the last packet but one: our variable is left there.
        let text = answer.escape_ascii().to_string();
        let dirty = unescape(&text.replace("\\x011@", "\\x010@"));
        assert_ne!(&dirty, answer);
        assert_eq!(unclean(&facts, &dirty), "a variable of ours is left");
        let dirty = unescape(&text.replace("\\x04shop", "\\x04hr!!"));
        assert!(unclean(&facts, &dirty).contains("the database there"));
    }
}

/// Where the last answer begins: with a packet that has the first number.
fn last_answer(answers: &[u8]) -> usize {
    let (mut at, mut found) = (0, 0);
    while let Some(header) = packet::peek(&answers[at..]) {
        if header.sequence == 1 {
            found = at;
        }
        at += header.total();
    }
    found
}

/// A session that has left another role is given the login's own, and looked at once more.
#[test]
fn a_role_that_was_left_is_set_back() {
    for (facts, transcript) in transcripts() {
        let facts = probed(&facts, &transcript, usize::MAX);
        let clean = &transcript.server[4];
        let mut again = answers(&[b"\0\0\0\x02\0\0\0"]);
        again.extend_from_slice(&clean[last_answer(clean)..]);
        let reset = |facts: &MySqlFacts, left: Vec<u8>| {
            let all = [left, again.clone()].concat();
            run(Job::Reset { random: Some(7), look: false }, facts, &[all], usize::MAX)
        };
        if facts.is_mariadb() {
            // It begins with a role, which the session does not have, nor gets.
            let mut facts = facts.clone();
            Arc::make_mut(facts.baseline.as_mut().unwrap()).role = "reader".into();
            let (sent, report) = reset(&facts, clean.clone());
            assert!(sent.escape_ascii().to_string().contains("SET ROLE `reader`"));
            assert!(matches!(&report, Report::Unclean(what) if what.contains("the role")), "{report:?}");
        } else {
            let text = clean.escape_ascii().to_string();
            let (sent, report) = reset(&facts, unescape(&text.replace("\\x04NONE", "\\x04evil")));
            assert!(sent.escape_ascii().to_string().contains("SET ROLE DEFAULT"));
            let Report::Done(findings) = report else { panic!("{report:?}") };
            assert_eq!(findings.fingerprint, "role \"NONE\"");
        }
    }
}

/// Whoever has the login may choose the role of the next one.
#[test]
fn another_role_of_the_next_login_is_told_by_the_fingerprint() {
    for (facts, transcript) in transcripts() {
        let facts = probed(&facts, &transcript, usize::MAX);
        let mut answer = transcript.server[5].clone();
        if facts.is_mariadb() {
            answer.truncate(last_answer(&answer));
            let mut more = BytesMut::new();
            let deprecates = facts.capabilities.has(Capabilities::DEPRECATE_EOF);
            let end: &[u8] = if deprecates { b"\xfe\0\0\x02\0\0\0" } else { b"\xfe\0\0\x02\0" };
            let between = [end].into_iter().filter(|_| !deprecates);
            let packets = [&b"\x01"[..], b"\x03def"].into_iter().chain(between).chain([b"\x04evil", end]);
            for (payload, sequence) in packets.zip(1..) {
                packet::put(&mut more, sequence, |out| out.extend_from_slice(payload));
            }
            answer.extend_from_slice(&more);
        } else {
            let text = answer.escape_ascii().to_string();
            answer = unescape(&text.replace("\\x04NONE", "\\x04evil"));
        }
        let reset = Job::Reset { random: Some(7), look: true };
        let Report::Done(findings) = run(reset, &facts, &[answer], usize::MAX).1 else { panic!() };
        assert_eq!(findings.fingerprint, "role \"evil\"");
        let reset = Job::Reset { random: Some(7), look: false };
        let Report::Done(findings) = run(reset, &facts, &transcript.server[4..=4], usize::MAX).1 else {
            panic!()
        };
        assert!(["role \"\"", "role \"NONE\""].contains(&&*findings.fingerprint), "{}", findings.fingerprint);
    }
}

/// One packet after the other, each the first of its answer.
fn answers(payloads: &[&[u8]]) -> Vec<u8> {
    let mut out = BytesMut::new();
    payloads.iter().for_each(|payload| packet::put(&mut out, 1, |out| out.extend_from_slice(payload)));
    out.to_vec()
}

#[test]
fn an_open_xa_transaction_and_a_refusal_are_told() {
    let (facts, transcript) = transcripts().remove(0);
    let facts = probed(&facts, &transcript, usize::MAX);
    let reset = Job::Reset { random: Some(7), look: false };
    let refused = answers(&[b"\xff\x77\x05#XAE07XAER_RMFAIL"]);
    let (_, report) = run(reset, &facts, &[refused], usize::MAX);
    assert_eq!(report, Report::Unclean("an XA transaction is open".into()));
    let refused = answers(&[b"\0\0\0\x02\0\0\0", b"\xff\x17\x04#08S01unknown command"]);
    let (_, report) = run(reset, &facts, &[refused], usize::MAX);
    assert!(matches!(report, Report::Refused(error) if error.code == "08S01/1047"));
    // Without a baseline or random bytes nothing is sent.
    let mut unknown = facts.clone();
    unknown.baseline = None;
    for (facts, random) in [(&unknown, Some(7)), (&facts, None)] {
        let (sent, report) = run(Job::Reset { random, look: false }, facts, &[], 1);
        assert!(sent.is_empty() && matches!(report, Report::Refused(_)));
    }
}

#[test]
fn an_older_server_is_asked_for_all_of_its_variables() {
    let facts = facts("8.0.36", Capabilities::DEPRECATE_EOF);
    let mut script = MySqlScript::run(Job::Probe, &facts);
    let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
    script.step(&mut input, &mut out).unwrap();
    out.clear();
    let rows = |columns: u8, row: &[u8]| {
        let mut out = BytesMut::new();
        let mut packets = vec![vec![columns]];
        packets.extend((0..columns).map(|_| b"\x03def".to_vec()));
        packets.extend([row.to_vec(), b"\xfe\0\0\x02\0\0\0".to_vec()]);
        for (payload, sequence) in packets.iter().zip(1..) {
            packet::put(&mut out, sequence, |out| out.extend_from_slice(payload));
        }
        out.to_vec()
    };
    input.extend_from_slice(&rows(4, b"\x019\x0atidegate@%\x04shop\x04NONE"));
    input.extend_from_slice(&answers(&[b"\xff\x7a\x04#42S02no table", b"\xff\xcb\x04#42000no right"]));
    assert!(matches!(script.step(&mut input, &mut out), Ok(ScriptStep::NeedBytes)));
    assert!(out.ends_with(query::ALL_NAMES.as_bytes()));
    out.clear();
    input.extend_from_slice(&rows(2, b"\x0aautocommit\x02ON"));
    assert!(matches!(script.step(&mut input, &mut out), Ok(ScriptStep::NeedBytes)));
    // Which of them may be NULL is not known: any.
    assert!(out.ends_with(b"SHA2(CONCAT_WS(CHAR(0),IFNULL(@@autocommit,''),''),256)"));
}

#[test]
fn a_server_that_goes_on_and_on_is_left() {
    let facts = facts("9.7.4", Capabilities::DEPRECATE_EOF);
    let mut script = MySqlScript::run(Job::Try(Act::Run), &facts);
    let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
    script.step(&mut input, &mut out).unwrap();
    input.extend_from_slice(&answers(&[b"\x01"]));
    let mut sequence = 2u8;
    let end = loop {
        packet::put(&mut input, sequence, |out| out.extend_from_slice(b"\x011"));
        sequence = sequence.wrapping_add(1);
        match script.step(&mut input, &mut out) {
            Ok(ScriptStep::NeedBytes) => {}
            other => break other.err(),
        }
    };
    assert_eq!(end.unwrap().what, "more than a script is answered with");
}

#[test]
fn what_is_to_be_stopped_may_be_gone_already() {
    let facts = facts("9.7.4", Capabilities::DEPRECATE_EOF);
    let stop = |number: &[u8], answer: &[u8]| {
        let interruption = Interruption(number.to_vec());
        run(Job::Stop { interruption: &interruption }, &facts, &[answers(&[answer])], usize::MAX)
    };
    let (sent, report) = stop(b"1234", b"\0\0\0\x02\0\0\0");
    assert!(matches!(report, Report::Done(_)) && sent.ends_with(b"\x03KILL QUERY 1234"), "{report:?}");
    let (_, report) = stop(b"1234", b"\xff\x46\x04#HY000Unknown thread id: 1234");
    assert!(matches!(report, Report::Done(_)), "{report:?}");
    let (_, report) = stop(b"1234", b"\xff\x47\x04#HY000You are not owner of thread 1234");
    assert!(matches!(report, Report::Refused(error) if error.code == "HY000/1095"));
    let odd = Interruption(b"1 OR 1".to_vec());
    let (sent, report) = run(Job::Stop { interruption: &odd }, &facts, &[], 1);
    assert!(sent.is_empty() && matches!(report, Report::Refused(_)));
}
