//! The program as a script meets it: exit codes, what goes to stdout and what to stderr.

// Clippy knows the tests, and not the functions that they share.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::{Command, Output, Stdio};

fn tidegate(arguments: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(arguments).current_dir(folder).env_remove("TIDEGATE_CONFIG").env_remove("TIDEGATE_SOCKET");
    command.output().expect("the program starts")
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn wrong_usage_is_2_and_says_what_is_right() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, words) in [
        (&["nonsense"][..], "unrecognized subcommand"),
        (&["grant", "create", "--target", "orders", "--level", "read", "--for", "2h"], "--user"),
        (&["credential", "issue", "--user", "alice", "--for", "soon"], "8h"),
        (&["user", "show", "Alice"], "a name is made of"),
        (&["audit", "search", "--since", "yesterday"], "2026-11-22T08:00:00Z"),
    ] {
        let said = tidegate(arguments, folder.path());
        assert_eq!(said.status.code(), Some(2), "{arguments:?}");
        assert!(err(&said).contains(words) && out(&said).is_empty(), "{arguments:?}: {}", err(&said));
    }
    assert_eq!(tidegate(&["--help"], folder.path()).status.code(), Some(0));
}

#[test]
fn without_a_server_there_is_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let said = tidegate(&["status"], folder.path());
    assert_eq!(said.status.code(), Some(1));
    assert!(err(&said).contains("there is no node file") && err(&said).contains("hint: "), "{}", err(&said));
    let said = tidegate(&["grant", "list", "--socket", "nobody.sock"], folder.path());
    assert_eq!(said.status.code(), Some(1));
    let expected = "error: nothing answers on the admin socket nobody.sock\n\
                    hint: is tidegate running? start it with tidegate serve --config FILE\n";
    assert_eq!(err(&said), expected);
    assert!(out(&said).is_empty());
}

#[test]
fn check_lists_every_mistake_of_every_file() {
    let folder = tempfile::tempdir().unwrap();
    let node = folder.path().join("tidegate.toml");
    std::fs::write(&node, "[[listener]]\naddress = \"0.0.0.0:1\"\nprotocol = \"postgres\"\ncolour = 1\n")
        .unwrap();
    let resources = folder.path().join("orders.toml");
    std::fs::write(
        &resources,
        "[[user]]\nname = \"Alice\"\n[[target]]\nname = \"orders\"\ntls = \"verify\"\n",
    )
    .unwrap();
    let arguments = ["check", "--config", "tidegate.toml", "orders.toml"];
    let said = tidegate(&arguments, folder.path());
    assert_eq!(said.status.code(), Some(1));
    let lines = err(&said);
    for words in ["colour", "orders.toml:2", "Alice", "orders.toml:5", "verify-full"] {
        assert!(lines.contains(words), "{words} is not in:\n{lines}");
    }
    assert!(out(&said).is_empty());
    let said = tidegate(&[&arguments[..], &["--json"]].concat(), folder.path());
    let json: serde_json::Value = serde_json::from_str(&out(&said)).unwrap();
    assert_eq!(json["right"], false);
    assert!(json["mistakes"].as_array().unwrap().len() >= 3, "{json}");
}

#[test]
fn a_reader_that_leaves_early_is_no_accident() {
    let folder = tempfile::tempdir().unwrap();
    let node = folder.path().join("tidegate.toml");
    std::fs::write(&node, "[[listener]]\naddress = \"127.0.0.1:1\"\nprotocol = \"postgres\"\n").unwrap();
    std::fs::create_dir(folder.path().join("secrets")).unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let said = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["check", "--config"])
        .arg(&node)
        .stdout(Stdio::from(writer))
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert!(err(&said).is_empty(), "{}", err(&said));
    assert_eq!(said.status.code(), Some(1));
}

#[test]
fn a_node_that_cannot_start_says_so_in_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let node =
        format!("[[listener]]\naddress = \"{}\"\nprotocol = \"postgres\"\n", taken.local_addr().unwrap());
    std::fs::write(folder.path().join("tidegate.toml"), node).unwrap();
    std::fs::create_dir(folder.path().join("secrets")).unwrap();
    let said = tidegate(&["serve"], folder.path());
    assert_eq!(said.status.code(), Some(1));
    let sentences: Vec<_> = std::str::from_utf8(&said.stderr)
        .unwrap()
        .lines()
        .filter(|line| line.starts_with("error: "))
        .map(str::to_owned)
        .collect();
    assert_eq!(sentences.len(), 1, "{}", err(&said));
    assert!(sentences[0].contains("is in use"), "{sentences:?}");
}
