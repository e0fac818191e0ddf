//! The trail as a whole: random runs against a model, failures, reading it back.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::Value;

use super::audit_file::Fault;
use super::trail::{Trail, TrailSettings};
use super::{Follower, Query, search, tail, verify};
use crate::model::{
    AccessLevel, Event, GrantId, Note, Notes, Parameters, SessionContext, SessionId, StatementKind,
};

pub fn settings(directory: &Path) -> TrailSettings {
    TrailSettings {
        directory: directory.to_owned(),
        sync: Duration::from_millis(2),
        lag_bytes_max: 8 << 20,
        segment_bytes: 1 << 20,
        shards: 3,
        continue_on_failure: false,
    }
}

pub fn context(session: u64) -> SessionContext {
    SessionContext::new(
        SessionId::from_u64(session),
        "postgres",
        &"alice".parse().unwrap(),
        &"orders".parse().unwrap(),
        &AccessLevel::Read,
        GrantId::from_u64(1),
        Some("shop"),
    )
}

/// One statement for each number, with a text of that length.
pub fn notes(numbers: impl Iterator<Item = u64>, length: usize) -> Vec<u8> {
    let mut buffer = Vec::new();
    let mut notes = Notes::new(&mut buffer, super::trail::now_micros());
    let text = vec![b'x'; length];
    for number in numbers {
        notes.push(&Note::Statement {
            number,
            kind: StatementKind::Simple,
            text: &text,
            length: length as u64,
            prepared: b"",
            parameters: Parameters::default(),
        });
    }
    buffer
}

pub fn lines(directory: &Path) -> Vec<Value> {
    let mut all = Vec::new();
    search(directory, &Query::default(), &mut |line| {
        all.push(serde_json::from_str(line).unwrap());
        ControlFlow::Continue(())
    })
    .unwrap();
    all
}

/// The statements' numbers by session, in the order of the file.
pub fn statements(directory: &Path) -> HashMap<String, Vec<u64>> {
    let mut all: HashMap<String, Vec<u64>> = HashMap::new();
    for line in lines(directory).iter().filter(|line| line["event"] == "statement") {
        let session = line["session"].as_str().unwrap().to_owned();
        all.entry(session).or_default().push(line["number"].as_u64().unwrap());
    }
    all
}

fn alarm(what: &str) -> Event {
    Event::Alarm { target: "orders".parse().unwrap(), level: AccessLevel::Read, what: what.to_owned() }
}

// ---------------------------------------------------------------------------------------------
// Against a model

#[derive(Debug, Clone)]
enum Act {
    Notes { session: u64, count: u64, length: usize },
    Event,
    Turn,
    Fault { after: u32, times: u32 },
    Crash,
    Close,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        12 => (0u64..7, 1u64..4, prop_oneof![4 => 0usize..200, 1 => 1000usize..2000])
            .prop_map(|(session, count, length)| Act::Notes { session, count, length }),
        2 => Just(Act::Event),
        5 => Just(Act::Turn),
        1 => (0u32..4, 1u32..3).prop_map(|(after, times)| Act::Fault { after, times }),
        1 => Just(Act::Crash),
        1 => Just(Act::Close),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happens in whatever order: every fact that was accepted is in the file exactly once, in
    /// the order of its session, nothing that was refused is, and the chain holds.
    #[test]
    fn what_was_accepted_is_there_exactly_once(acts in proptest::collection::vec(act(), 1..120)) {
        let directory = tempfile::tempdir().unwrap();
        let tiny = TrailSettings {
            lag_bytes_max: 40 << 10, segment_bytes: 9 << 10, ..settings(directory.path())
        };
        let open = || Trail::by_hand(&tiny, 12 << 10).unwrap();
        let (mut trail, mut writer, mut lock) = open();
        let contexts: Vec<_> = (0..7).map(context).collect();
        let mut accepted: HashMap<String, Vec<u64>> = HashMap::new();
        let (mut next, mut events) = (1, Vec::new());
        for act in acts {
            match act {
                Act::Notes { session, count, length } => {
                    let context = &contexts[session as usize];
                    if trail.notes(context, &notes(next..next + count, length)).is_ok() {
                        accepted.entry(context.session.to_string()).or_default().extend(next..next + count);
                    }
                    next += count;
                }
                Act::Event => {
                    if trail.event(&alarm(&next.to_string())).is_ok() {
                        events.push(next.to_string());
                    }
                    next += 1;
                }
                Act::Turn => { writer.turn(); }
                Act::Fault { after, times } => *writer.fault() = Fault { after, times },
                Act::Crash | Act::Close => {
                    if matches!(act, Act::Close) {
                        *writer.fault() = Fault::default();
                        prop_assert!(writer.turn());
                    }
                    drop((trail, writer, lock));
                    (trail, writer, lock) = open();
                }
            }
        }
        *writer.fault() = Fault::default();
        prop_assert!(writer.turn());
        prop_assert_eq!(trail.status().backlog_bytes, 0);
        prop_assert_eq!(trail.status().failed, None);
        drop((trail, writer, lock));
        prop_assert_eq!(statements(directory.path()), accepted);
        let alarms = lines(directory.path()).iter().filter(|line| line["event"] == "alarm")
            .map(|line| line["what"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
        prop_assert_eq!(alarms, events);
        verify(directory.path()).unwrap();
    }

    /// Nothing that lies in the folder makes opening panic, and what is written after it is sound.
    #[test]
    fn any_bytes_in_the_folder_are_survived(
        segment in proptest::collection::vec(any::<u8>(), 0..400),
        file in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..400)),
        cut in any::<prop::sample::Index>(), flip in any::<u8>(),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let tiny = TrailSettings { segment_bytes: 9 << 10, ..settings(directory.path()) };
        let (trail, _, lock) = Trail::by_hand(&tiny, 1 << 20).unwrap();
        trail.notes(&context(1), &notes(1..5, 20)).unwrap();
        drop((trail, lock));
        // One segment that is nonsense, and a byte changed somewhere in the front of each other one.
        let journal = directory.path().join("journal");
        for entry in std::fs::read_dir(&journal).unwrap() {
            let path = entry.unwrap().path();
            let mut bytes = std::fs::read(&path).unwrap();
            if !bytes.is_empty() {
                let at = cut.index(bytes.len().min(1500));
                bytes[at] ^= flip;
                std::fs::write(&path, bytes).unwrap();
            }
        }
        std::fs::write(journal.join("000099.seg"), &segment).unwrap();
        if let Some(file) = &file {
            std::fs::write(directory.path().join("audit-000002.jsonl"), file).unwrap();
        }
        let (trail, mut writer, _lock) = Trail::by_hand(&tiny, 1 << 20).unwrap();
        trail.notes(&context(2), &notes(1..2, 20)).unwrap();
        prop_assert!(writer.turn());
        prop_assert_eq!(&statements(directory.path())[&context(2).session.to_string()], &vec![1]);
        verify(directory.path()).unwrap();
    }
}

// ---------------------------------------------------------------------------------------------
// Failures

#[tokio::test]
async fn a_writer_that_cannot_write_fails_the_trail_and_recovers() {
    let directory = tempfile::tempdir().unwrap();
    let (trail, mut writer, _lock) = Trail::by_hand(&settings(directory.path()), 1 << 20).unwrap();
    let failed = trail.failed();
    trail.notes(&context(1), &notes(1..2, 10)).unwrap();
    *writer.fault() = Fault { after: 1, times: 1 };
    assert!(!writer.turn());
    assert!(*failed.borrow());
    let error = trail.notes(&context(1), &notes(2..3, 10)).unwrap_err();
    assert!(error.to_string().contains("audit-000001.jsonl"), "{error}");
    assert!(trail.event(&alarm("x")).is_err());
    assert!(trail.flush().await.is_err());
    assert!(writer.turn());
    assert!(!*failed.borrow());
    trail.notes(&context(1), &notes(3..4, 10)).unwrap();
    assert!(writer.turn());
    trail.flush().await.unwrap();
    assert_eq!(statements(directory.path()).into_values().collect::<Vec<_>>(), [[1, 3]]);
    verify(directory.path()).unwrap();
}

#[test]
fn a_backlog_over_the_limit_fails_the_trail_until_it_is_half() {
    let directory = tempfile::tempdir().unwrap();
    let small = TrailSettings { lag_bytes_max: 8 << 10, ..settings(directory.path()) };
    let (trail, mut writer, _lock) = Trail::by_hand(&small, 1 << 20).unwrap();
    let mut accepted = 0;
    let error = loop {
        match trail.notes(&context(1), &notes(accepted + 1..accepted + 2, 500)) {
            Ok(()) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("lag_bytes_max"), "{error}");
    assert!(accepted > 5 && *trail.failed().borrow() && trail.crowded());
    assert!(trail.notes(&context(2), &notes(1..2, 1)).is_err(), "all are refused, not only the long ones");
    assert!(writer.turn());
    assert!(!*trail.failed().borrow() && !trail.crowded());
    trail.notes(&context(2), &notes(1..2, 1)).unwrap();
    assert!(writer.turn());
    assert_eq!(statements(directory.path())[&context(1).session.to_string()].len() as u64, accepted);
}

#[test]
fn going_on_without_the_trail_counts_what_is_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let small =
        TrailSettings { lag_bytes_max: 8 << 10, continue_on_failure: true, ..settings(directory.path()) };
    let (trail, mut writer, _lock) = Trail::by_hand(&small, 1 << 20).unwrap();
    *writer.fault() = Fault { after: 0, times: 1 };
    trail.notes(&context(1), &notes(1..2, 10)).unwrap();
    assert!(!writer.turn());
    // The journal still takes what fits.
    for number in 0..50 {
        trail.notes(&context(1), &notes(2 * number + 2..2 * number + 4, 500)).unwrap();
    }
    let dropped = trail.status().dropped;
    assert!(dropped > 60 && dropped % 2 == 0 && *trail.failed().borrow());
    assert!(writer.turn() && writer.turn());
    assert!(!*trail.failed().borrow());
    let all = lines(directory.path());
    let gaps: u64 = all.iter().filter_map(|line| line["dropped"].as_u64()).sum();
    assert_eq!(gaps, dropped);
    assert_eq!(statements(directory.path()).into_values().next().unwrap().len() as u64 + dropped, 101);
    verify(directory.path()).unwrap();
}

#[test]
fn a_segment_that_cannot_be_had_is_an_error_and_not_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let small = TrailSettings { segment_bytes: 4 << 10, shards: 1, ..settings(directory.path()) };
    let (trail, mut writer, _lock) = Trail::by_hand(&small, 1 << 20).unwrap();
    let (journal, away) = (directory.path().join("journal"), directory.path().join("away"));
    std::fs::rename(&journal, &away).unwrap();
    let mut accepted = 0;
    let error = loop {
        match trail.notes(&context(1), &notes(accepted + 1..accepted + 2, 500)) {
            Ok(()) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("segment can be had"), "{error}");
    assert!(accepted > 8, "current and spare were used up first");
    // What is written gives segments back: nothing new is needed.
    assert!(writer.turn());
    std::fs::rename(&away, &journal).unwrap();
    assert!(writer.turn());
    assert!(!*trail.failed().borrow());
    trail.notes(&context(1), &notes(accepted + 1..accepted + 2, 500)).unwrap();
    assert!(writer.turn());
    let numbers: Vec<u64> = (1..accepted + 2).collect();
    assert_eq!(statements(directory.path()).into_values().next().unwrap(), numbers);
}

#[test]
fn a_late_committer_makes_its_own_segments_up_to_the_limit() {
    let directory = tempfile::tempdir().unwrap();
    let small = TrailSettings { segment_bytes: 4 << 10, shards: 1, ..settings(directory.path()) };
    let (trail, mut writer, _lock) = Trail::by_hand(&small, 1 << 20).unwrap();
    for number in 1..100 {
        trail.notes(&context(1), &notes(number..number + 1, 1000)).unwrap();
    }
    assert!(trail.status().late_segments > 20);
    assert!(writer.turn() && writer.turn());
    let segments = std::fs::read_dir(directory.path().join("journal")).unwrap().count() - 1;
    assert!(segments <= 3, "emptied segments give their space back: {segments}");
    assert_eq!(statements(directory.path()).into_values().next().unwrap().len(), 99);
}

#[test]
fn notes_that_are_no_notes_and_facts_that_are_too_long_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (trail, _writer, _lock) = Trail::by_hand(&settings(directory.path()), 1 << 20).unwrap();
    let whole = notes(1..3, 10);
    assert!(trail.notes(&context(1), &whole[..whole.len() - 1]).is_err());
    assert!(trail.notes(&context(1), b"?").is_err());
    trail.notes(&context(1), b"").unwrap();
    let error = trail.notes(&context(1), &notes(1..2, 2 << 20)).unwrap_err();
    assert!(error.to_string().contains("longer than"), "{error}");
    assert!(!*trail.failed().borrow(), "one fact that is too long is no state of the trail");
    assert_eq!(trail.status().backlog_bytes, 0);
}

#[test]
fn the_notes_of_one_read_may_be_longer_than_a_segment() {
    let directory = tempfile::tempdir().unwrap();
    let (trail, mut writer, _lock) = Trail::by_hand(&settings(directory.path()), 1 << 30).unwrap();
    trail.notes(&context(1), &notes(1..101, 30 << 10)).unwrap();
    assert!(writer.turn());
    assert_eq!(statements(directory.path()).into_values().next().unwrap(), (1..101).collect::<Vec<_>>());
}

// ---------------------------------------------------------------------------------------------
// With its own thread

#[tokio::test(flavor = "multi_thread")]
async fn many_threads_and_a_clean_close() {
    let directory = tempfile::tempdir().unwrap();
    let trail = Trail::open(settings(directory.path())).unwrap();
    let error = Trail::open(settings(directory.path())).err().unwrap();
    assert!(error.to_string().contains("another process"), "{error}");
    let tasks: Vec<_> = (0..4)
        .map(|session| {
            let trail = trail.clone();
            tokio::task::spawn_blocking(move || {
                let context = context(session);
                for number in 1..=500 {
                    trail.notes(&context, &notes(number..number + 1, 300)).unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    trail.flush().await.unwrap();
    let expected: Vec<u64> = (1..501).collect();
    let all = statements(directory.path());
    assert!(all.len() == 4 && all.values().all(|numbers| *numbers == expected));
    trail.event(&alarm("last")).unwrap();
    trail.close().await.unwrap();
    assert!(trail.notes(&context(1), &notes(1..2, 1)).is_err());
    assert_eq!(lines(directory.path()).last().unwrap()["what"], "last");
    // Nothing is left for the next one to finish.
    drop(trail);
    let trail = Trail::open(settings(directory.path())).unwrap();
    trail.event(&alarm("next")).unwrap();
    drop(trail);
    let all = lines(directory.path());
    assert_eq!(all.last().unwrap()["what"], "next");
    assert!(all.iter().all(|line| line["event"] != "journal_recovered"));
    let seqs: Vec<u64> = all.iter().map(|line| line["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=all.len() as u64).collect::<Vec<_>>(), "a life without a crash leaves no gap");
    verify(directory.path()).unwrap();
}

/// The argument at the top of `journal`, tried: a batch never misses a record with a lower number that is
/// still on its way. A line out of order would break the check of the chain.
#[test]
fn batches_taken_in_the_middle_of_commits_are_complete() {
    let directory = tempfile::tempdir().unwrap();
    let small = TrailSettings { segment_bytes: 16 << 10, shards: 4, ..settings(directory.path()) };
    let (trail, mut writer, _lock) = Trail::by_hand(&small, 64 << 10).unwrap();
    trail.hesitate();
    let expected: Vec<u64> = (1..401).collect();
    std::thread::scope(|scope| {
        let committers: Vec<_> = (0..8)
            .map(|session| {
                let (trail, expected) = (&trail, &expected);
                scope.spawn(move || {
                    for number in expected {
                        trail.notes(&context(session), &notes(*number..*number + 1, 100)).unwrap();
                    }
                })
            })
            .collect();
        while !committers.iter().all(|committer| committer.is_finished()) {
            assert!(writer.turn());
        }
    });
    assert!(writer.turn());
    verify(directory.path()).unwrap();
    assert!(statements(directory.path()).values().all(|numbers| *numbers == expected));
    let seqs: Vec<u64> = lines(directory.path()).iter().map(|line| line["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
}

#[test]
fn a_dead_process_is_finished_and_said() {
    let directory = tempfile::tempdir().unwrap();
    let (trail, mut writer, lock) = Trail::by_hand(&settings(directory.path()), 1 << 20).unwrap();
    trail.notes(&context(1), &notes(1..3, 5)).unwrap();
    assert!(writer.turn());
    trail.notes(&context(1), &notes(3..5, 5)).unwrap();
    trail.notes(&context(2), &notes(1..2, 5)).unwrap();
    drop((trail, writer, lock));
    drop(Trail::open(settings(directory.path())).unwrap());
    let all = lines(directory.path());
    let last = all.last().unwrap();
    assert_eq!((&last["event"], &last["records"]), (&"journal_recovered".into(), &2.into()));
    assert_eq!(statements(directory.path())[&context(1).session.to_string()], [1, 2, 3, 4]);
    assert_eq!(verify(directory.path()).unwrap().lines, 7);
}

#[tokio::test]
async fn the_trail_shows_its_own_metrics() {
    let directory = tempfile::tempdir().unwrap();
    let trail = Trail::open(settings(directory.path())).unwrap();
    let metrics = super::Metrics::new().unwrap();
    metrics.show_trail(&trail).unwrap();
    trail.notes(&context(1), &notes(1..3, 5)).unwrap();
    trail.flush().await.unwrap();
    let text = metrics.render();
    assert!(text.contains("tidegate_audit_lines_total 2\n"), "{text}");
    assert!(text.contains("tidegate_audit_records_total 1\n"), "{text}");
    assert!(text.contains("tidegate_audit_lag_seconds_count 1\n"), "{text}");
}

// ---------------------------------------------------------------------------------------------
// Reading

fn found(directory: &Path, query: &Query) -> Vec<u64> {
    let mut all = Vec::new();
    let count = search(directory, query, &mut |line| {
        all.push(serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64().unwrap());
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(count, all.len() as u64);
    all
}

#[test]
fn a_search_finds_by_every_field_in_both_orders() {
    let directory = tempfile::tempdir().unwrap();
    // A new file after each batch.
    let (trail, mut writer, _lock) = Trail::by_hand(&settings(directory.path()), 1).unwrap();
    let base: crate::model::Time = "2026-11-22T08:00:00Z".parse().unwrap();
    for session in 0..4 {
        let mut buffer = Vec::new();
        let micros = base.as_microsecond() + session as i64 * 1_000_000;
        Notes::new(&mut buffer, micros).push(&Note::Prepare {
            name: b"",
            text: format!("select \"{session}\"\n\"user\":\"bob\"").as_bytes(),
            length: 0,
        });
        trail.notes(&context(session), &buffer).unwrap();
        assert!(writer.turn());
    }
    assert!(super::scan::files(directory.path()).unwrap().len() > 3);
    let all = |query: Query| found(directory.path(), &Query { event: Some("prepare".into()), ..query });
    let every = all(Query::default());
    assert_eq!(every.len(), 4);
    let reversed: Vec<u64> = every.iter().rev().copied().collect();
    assert_eq!(all(Query { newest_first: true, ..Query::default() }), reversed);
    assert_eq!(all(Query { newest_first: true, limit: Some(3), ..Query::default() }), reversed[..3]);
    assert_eq!(all(Query { limit: Some(3), ..Query::default() }), every[1..]);
    assert_eq!(all(Query { limit: Some(0), ..Query::default() }), [0u64; 0]);
    assert_eq!(all(Query { user: Some("alice".into()), ..Query::default() }), every);
    // It is in every text, and nobody's name.
    assert_eq!(all(Query { user: Some("bob".into()), ..Query::default() }), [0u64; 0]);
    assert_eq!(all(Query { text: Some("\"user\":\"bob\"".into()), ..Query::default() }), every);
    assert_eq!(all(Query { text: Some("\"2\"\n".into()), ..Query::default() }), every[2..3]);
    assert_eq!(all(Query { target: Some("order".into()), ..Query::default() }), [0u64; 0]);
    assert_eq!(all(Query { target: Some("orders".into()), ..Query::default() }), every);
    assert_eq!(all(Query { session: Some(SessionId::from_u64(1)), ..Query::default() }), every[1..2]);
    let at = |seconds: i64| Some(base + jiff::SignedDuration::from_secs(seconds));
    assert_eq!(all(Query { since: at(1), until: at(3), ..Query::default() }), every[1..3]);
    // Stops when told to.
    let mut seen = 0;
    search(directory.path(), &Query::default(), &mut |_| {
        seen += 1;
        ControlFlow::Break(())
    })
    .unwrap();
    assert_eq!(seen, 1);
    let last = tail(directory.path(), 2).unwrap();
    assert!(last.len() == 2 && last[0] < last[1] && last[1].contains("file_start"), "{last:?}");
}

#[test]
fn every_change_to_the_files_breaks_the_chain() {
    let directory = tempfile::tempdir().unwrap();
    let (trail, mut writer, _lock) = Trail::by_hand(&settings(directory.path()), 600).unwrap();
    for number in 1..8 {
        trail.notes(&context(1), &notes(number..number + 1, 5)).unwrap();
        assert!(writer.turn());
    }
    let names = super::scan::files(directory.path()).unwrap();
    assert!(names.len() > 2);
    let verified = verify(directory.path()).unwrap();
    assert_eq!(verified.files, names.len() as u64);
    let middle = names[1].path(directory.path());
    let whole = std::fs::read_to_string(&middle).unwrap();
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    assert!(lines.len() > 2);
    let mut changes = vec![
        (whole.replacen("alice", "alicf", 1), 2),
        (whole.replacen("xxxxx", "xxxx", 1), 2),
        // A line taken out, at every place.
        (lines[1..].concat(), 1),
        ([lines[0], &lines[2..].concat()].concat(), 2),
        // Two lines changed round, one twice.
        ([lines[0], lines[2], lines[1]].concat() + &lines[3..].concat(), 2),
        ([lines[0], lines[0]].concat() + &lines[1..].concat(), 2),
        (whole.clone() + "{}\n", lines.len() as u64 + 1),
        (whole.trim_end().to_owned(), lines.len() as u64),
    ];
    changes.push((String::new(), 0));
    for (changed, line) in changes {
        std::fs::write(&middle, &changed).unwrap();
        let broken = verify(directory.path()).unwrap_err();
        if line > 0 {
            assert_eq!(
                (broken.file.as_str(), broken.line),
                (names[1].to_string().as_str(), line),
                "{changed}"
            );
        }
    }
    // The last line of a file, or a whole file, is missed by the next.
    std::fs::write(&middle, lines[..lines.len() - 1].concat()).unwrap();
    assert_eq!(verify(directory.path()).unwrap_err().file, names[2].to_string());
    std::fs::remove_file(&middle).unwrap();
    let broken = verify(directory.path()).unwrap_err();
    assert!(broken.to_string().contains("one is missing"), "{broken}");
    std::fs::write(&middle, &whole).unwrap();
    assert_eq!(verify(directory.path()).unwrap(), verified);
}

#[tokio::test]
async fn a_follower_sees_every_line_once_over_rotations_and_failed_writes() {
    let directory = tempfile::tempdir().unwrap();
    let (trail, mut writer, _lock) = Trail::by_hand(&settings(directory.path()), 900).unwrap();
    for number in 1..6 {
        trail.notes(&context(1), &notes(number..number + 1, 5)).unwrap();
    }
    assert!(writer.turn());
    let past = lines(directory.path());
    let mut follower = Follower::open(directory.path(), 2).unwrap();
    let mut none = Follower::open(directory.path(), 0).unwrap();
    let write = tokio::task::spawn_blocking(move || {
        for number in 6..26 {
            if number % 5 == 0 {
                *writer.fault() = Fault { after: number as u32 % 2, times: 1 };
            }
            // A failed batch is kept and written later.
            let _ = trail.notes(&context(1), &notes(number..number + 1, 5));
            writer.turn();
            std::thread::sleep(Duration::from_millis(3));
        }
        while !writer.turn() {}
        trail.event(&alarm("end")).unwrap();
        while !writer.turn() {}
    });
    let mut seen = Vec::new();
    let mut later = Vec::new();
    for (follower, seen) in [(&mut follower, &mut seen), (&mut none, &mut later)] {
        loop {
            let line: Value = serde_json::from_str(&follower.next().await.unwrap()).unwrap();
            let last = line["event"] == "alarm";
            seen.push(line);
            if last {
                break;
            }
        }
    }
    write.await.unwrap();
    let all: Vec<Value> =
        lines(directory.path()).into_iter().take_while(|line| line["event"] != "alarm").collect();
    seen.pop();
    later.pop();
    assert_eq!(seen, all[past.len() - 2..]);
    assert_eq!(later, all[past.len()..]);
    assert!(super::scan::files(directory.path()).unwrap().len() > 2);
}

// ---------------------------------------------------------------------------------------------

/// Not a test of right or wrong: prints what a commit and a line cost. Run it optimised and alone.
#[test]
#[ignore = "a measurement"]
fn what_a_record_costs() {
    let directory = tempfile::tempdir().unwrap();
    let settings = TrailSettings {
        lag_bytes_max: 1 << 30,
        segment_bytes: 8 << 20,
        shards: 2,
        ..settings(directory.path())
    };
    let (trail, mut writer, _lock) = Trail::by_hand(&settings, 256 << 20).unwrap();
    let context = context(1);
    let note = notes(1..2, 200 - 60);
    println!("one note of {} bytes, context of {}", note.len(), context.members().len());
    let (mut commits, mut writing, mut count) = (Duration::ZERO, Duration::ZERO, 0u32);
    for round in 0..60 {
        let started = std::time::Instant::now();
        for _ in 0..10_000 {
            trail.notes(&context, &note).unwrap();
        }
        let committed = started.elapsed();
        let started = cpu_time();
        assert!(writer.turn());
        if round >= 10 {
            commits += committed;
            writing += cpu_time() - started;
            count += 10_000;
        }
    }
    println!(
        "{:?} a commit, {:?} of CPU a line, {} late segments",
        commits / count,
        writing / count,
        trail.status().late_segments
    );
    verify(directory.path()).unwrap();
}

fn cpu_time() -> Duration {
    let now = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(now.split(' ').next().unwrap().parse().unwrap())
}
