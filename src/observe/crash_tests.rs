//! The promise of the trail with real processes: this test program runs itself as a child that commits
//! from several threads, kills it at a random moment, opens the trail again and compares with what the
//! child said it had been promised.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use super::trail::{Trail, TrailSettings};
use super::trail_tests::{context, lines, notes, settings, statements};
use super::verify;

const DIRECTORY: &str = "TIDEGATE_TEST_TRAIL";
const ROUND: &str = "TIDEGATE_TEST_ROUND";
const THREADS: u64 = 4;
const SIGXFSZ: i32 = 25;

/// Runs one of the tests below as a child, whose parent's part is skipped there.
fn child(test: &str, directory: &Path, round: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([&format!("observe::crash_tests::{test}"), "--exact", "--nocapture"])
        .env(DIRECTORY, directory)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The folder, when this process is such a child.
fn as_child() -> Option<(PathBuf, u64)> {
    Some((std::env::var_os(DIRECTORY)?.into(), std::env::var(ROUND).ok()?.parse().ok()?))
}

fn busy(directory: &Path) -> TrailSettings {
    TrailSettings { sync: Duration::from_millis(3), lag_bytes_max: 64 << 20, ..settings(directory) }
}

/// Commits from several threads for ever, and says on stdout what has been accepted.
fn commit_for_ever(directory: &Path, round: u64) {
    let trail = Trail::open(busy(directory)).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let trail = &trail;
            scope.spawn(move || {
                let session = round * THREADS + thread;
                let context = context(session);
                let mut number = 1;
                loop {
                    // Of one fact and of several, short and long.
                    let count = 1 + number % 3;
                    let length = if number % 50 == 0 { 20_000 } else { 200 };
                    match trail.notes(&context, &notes(number..number + count, length)) {
                        Ok(()) => number += count,
                        // Too far behind for a moment.
                        Err(_) => {
                            std::thread::sleep(Duration::from_millis(1));
                            continue;
                        }
                    }
                    let ack = format!("\nack {} {}\n", context.session, number - 1);
                    std::io::stdout().lock().write_all(ack.as_bytes()).unwrap();
                }
            });
        }
    });
}

#[test]
fn no_record_that_was_accepted_is_lost_when_the_process_is_killed() {
    if let Some((directory, round)) = as_child() {
        return commit_for_ever(&directory, round);
    }
    let directory = tempfile::tempdir().unwrap();
    let mut accepted: HashMap<String, u64> = HashMap::new();
    for round in 0..7u64 {
        let name = "no_record_that_was_accepted_is_lost_when_the_process_is_killed";
        let mut child = child(name, directory.path(), round);
        let output = BufReader::new(child.stdout.take().unwrap());
        let pid = Pid::from_child(&child);
        if round % 3 == 2 {
            // At a moment that may be within the recovery of what the round before has left.
            std::thread::sleep(Duration::from_millis(3 + 11 * round));
            kill_process(pid, Signal::KILL).unwrap();
            read_acks(output, u64::MAX, pid, &mut accepted);
        } else {
            // In the middle of committing: the child never waits for us.
            read_acks(output, 300 + 170 * round, pid, &mut accepted);
        }
        let status = child.wait().unwrap();
        assert_eq!(status.code(), None, "the child ended by itself");
        // Every other time the next child finds what this one has left.
        if round % 2 == 0 {
            drop(Trail::open(busy(directory.path())).unwrap());
            check(directory.path(), &accepted);
        }
    }
    assert!(accepted.len() >= 5, "five children came to commit: {accepted:?}");
    let recovered = lines(directory.path()).iter().filter(|l| l["event"] == "journal_recovered").count();
    assert!(recovered > 0, "no child died with something left to write");
}

/// Notes what the child says until its end; kills it after so many acks.
fn read_acks(mut output: impl BufRead, most: u64, pid: Pid, accepted: &mut HashMap<String, u64>) {
    let (mut line, mut count) = (String::new(), 0);
    while output.read_line(&mut line).unwrap() > 0 {
        // The last line may be torn.
        if line.ends_with('\n')
            && let Some(ack) = line.trim_end().strip_prefix("ack ")
        {
            let (session, number) = ack.split_once(' ').unwrap();
            accepted.insert(session.to_owned(), number.parse().unwrap());
            count += 1;
            if count == most {
                kill_process(pid, Signal::KILL).unwrap();
            }
        }
        line.clear();
    }
}

fn check(directory: &Path, accepted: &HashMap<String, u64>) {
    verify(directory).unwrap();
    let there = statements(directory);
    for (session, last) in accepted {
        let numbers = there.get(session).unwrap_or_else(|| panic!("{session} is missing"));
        // Each once, in order, none left out; and at least all that was accepted. What was committed
        // without having been said may be there too.
        let expected: Vec<u64> = (1..=numbers.len() as u64).collect();
        assert_eq!(*numbers, expected, "{session}");
        assert!(numbers.len() as u64 >= *last, "{session}: {} of {last}", numbers.len());
    }
}

// ---------------------------------------------------------------------------------------------

/// The audit file may not grow any further, as on a full disk: the kernel refuses the write itself.
#[test]
fn a_full_disk_fails_the_trail_and_loses_nothing() {
    if let Some((directory, _)) = as_child() {
        return fill_the_disk(&directory);
    }
    let directory = tempfile::tempdir().unwrap();
    let child = child("a_full_disk_fails_the_trail_and_loses_nothing", directory.path(), 0);
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let accepted: u64 = text.lines().find_map(|line| line.strip_prefix("accepted ")?.parse().ok()).unwrap();
    let there = statements(directory.path());
    assert_eq!(there[&context(1).session.to_string()], (1..=accepted).collect::<Vec<_>>());
    verify(directory.path()).unwrap();
}

fn limit_files(bytes: Option<u64>) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    setrlimit(Resource::Fsize, Rlimit { current: bytes.or(maximum), maximum }).unwrap();
}

fn fill_the_disk(directory: &Path) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        // Without a handler the signal that comes with the error would end the process.
        let kind = tokio::signal::unix::SignalKind::from_raw(SIGXFSZ);
        let _handler = tokio::signal::unix::signal(kind).unwrap();
        let trail = Trail::open(settings(directory)).unwrap();
        let (context, mut failed) = (context(1), trail.failed());
        let mut accepted = 0;
        for round in 0..2u64 {
            // Segments of 1 MiB can still be made in the first round, in the second nothing can.
            limit_files(Some(if round == 0 { 2 << 20 } else { 16 << 10 }));
            while trail.notes(&context, &notes(accepted + 1..accepted + 2, 300)).is_ok() {
                accepted += 1;
            }
            assert!(*failed.wait_for(|failed| *failed).await.unwrap());
            assert!(trail.flush().await.is_err());
            let reason = trail.status().failed.unwrap();
            assert!(reason.contains("File too large"), "{reason}");
            tokio::time::sleep(Duration::from_millis(150)).await;
            assert!(*failed.borrow(), "it cannot write yet");
            limit_files(None);
            let well = failed.wait_for(|failed| !*failed);
            tokio::time::timeout(Duration::from_secs(20), well).await.unwrap().unwrap();
            accepted += 1;
            trail.notes(&context, &notes(accepted..accepted + 1, 300)).unwrap();
        }
        trail.close().await.unwrap();
        println!("\naccepted {accepted}");
    });
}
