//! A process that is killed while it writes leaves whole transactions and nothing else.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use super::*;

const FOLDER: &str = "TIDEGATE_TEST_CRASH_FOLDER";

/// Run by the test below in a process of its own, which is killed: writes pairs of users and a session,
/// and prints each number once it was told that they are stored.
#[tokio::test]
#[ignore = "the child of a_killed_process_leaves_whole_transactions"]
async fn the_child_that_writes() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let store = Store::open(URL, Path::new(&folder)).await.unwrap();
    for number in store.snapshot().await.unwrap().users.len() / 2.. {
        let pair = ["a", "b"].map(|letter| put_user(user(&format!("{letter}-{number}"), &[])));
        store.apply(&pair, at(0)).await.unwrap();
        store.keep_sessions(&[&session(number as u64)]).await.unwrap();
        println!("stored {number}");
        std::io::stdout().flush().unwrap();
    }
}

#[tokio::test]
async fn a_killed_process_leaves_whole_transactions() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..4 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["store::tests::crash::the_child_that_writes", "--exact", "--ignored", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // The first line may stand behind what the test harness prints.
        let number =
            |line: &str| line.rsplit_once("stored ").and_then(|(_, number)| number.parse::<usize>().ok());
        let mut told = None;
        for _ in 0..20 + 7 * round {
            told = told.max(number(&lines.next().expect("the child writes until it is killed").unwrap()));
        }
        // Into the middle of whatever it is doing.
        std::thread::sleep(Duration::from_micros(300 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        let told = lines.filter_map(|line| number(&line.unwrap())).max().max(told).unwrap();

        let store = Store::open(URL, folder.path()).await.unwrap();
        let users = store.snapshot().await.unwrap().users;
        let pairs = users.len() / 2;
        // What was told, and at most the one that was being written.
        assert!(pairs == told + 1 || pairs == told + 2, "{pairs} pairs, {told} told");
        let mut expected: Vec<_> = (0..pairs).flat_map(|n| [format!("a-{n}"), format!("b-{n}")]).collect();
        expected.sort();
        let names: Vec<_> = users.iter().map(|user| user.name.as_str()).collect();
        assert_eq!(names, expected, "half a transaction is there");
        let sessions = store.sessions(10_000).await.unwrap();
        assert!(sessions.iter().all(|row| row.how.as_deref() == Some("lost")));
        assert!(sessions.iter().any(|row| row.session.as_u64() == told as u64));
        store.close().await;
    }
}
