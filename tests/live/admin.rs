//! Starting, wrong files, and what the node says of itself.

use std::process::{Command, Stdio};

use crate::support::node::tidegate;
use crate::support::{Node, Options, PATIENCE, Version, shared, text};

fn node() -> Node {
    Node::start(shared(Version::Distribution))
}

/// Runs `tidegate serve` where it must end at once: one sentence and exit code 1.
fn fails_to_start(node: &Node, says: &[&str]) {
    let output = Command::new("timeout")
        .args(["20", env!("CARGO_BIN_EXE_tidegate"), "serve", "--config", "tidegate.toml"])
        .current_dir(&node.folder)
        .stdin(Stdio::null())
        .output()
        .expect("timeout is part of coreutils");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in says {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }
    assert!(!said.contains("panicked") && said.lines().count() <= 4, "not one clear sentence: {said}");
}

#[test]
fn a_node_that_cannot_start_says_why_in_one_sentence() {
    let node = Node::prepare(shared(Version::Distribution).place(), Options::default());
    let good = std::fs::read_to_string(node.folder.join("tidegate.toml")).expect("the node file");
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        node.write("tidegate.toml", &good.replace(from, to));
    };
    with("[limits]", "[limits]\nwrokers = 3");
    fails_to_start(&node, &["tidegate.toml:", "wrokers"]);
    with("tls = \"optional\"", "tls = \"perhaps\"");
    fails_to_start(&node, &["tidegate.toml:", "perhaps", "require"]);
    with("\"listener.pem\"", "\"nowhere.pem\"");
    fails_to_start(&node, &["nowhere.pem"]);
    with("\"listener.key\"", "\"ca.pem\"");
    fails_to_start(&node, &["ca.pem"]);
    with("address = \"127.0.0.1:", "address = \"somewhere:");
    fails_to_start(&node, &["tidegate.toml:", "address"]);
    with("sqlite:state/tidegate.db", "oracle:x");
    fails_to_start(&node, &["oracle"]);
    // In clear off loopback.
    with(&format!("127.0.0.1:{}\"\nprotocol", node.port), &format!("0.0.0.0:{}\"\nprotocol", node.port));
    fails_to_start(&node, &["tls", "require"]);
    let taken = std::net::TcpListener::bind(("127.0.0.1", node.port)).expect("the port");
    node.write("tidegate.toml", &good);
    fails_to_start(&node, &[&node.port.to_string(), "in use"]);
    drop(taken);
    node.write("tidegate.toml", "listener = [");
    fails_to_start(&node, &["tidegate.toml:"]);
    std::fs::remove_file(node.folder.join("tidegate.toml")).expect("it was there");
    fails_to_start(&node, &["tidegate.toml"]);
    // And after all of this it starts.
    node.write("tidegate.toml", &good);
    node.resume();
}

#[test]
fn a_second_process_on_the_same_state_is_refused() {
    let node = node();
    let file = std::fs::read_to_string(node.folder.join("tidegate.toml")).expect("the node file");
    let other = file.replace(&format!(":{}\"", node.port), &format!(":{}\"", node.second_port));
    node.write("tidegate.toml", &other.replace(&format!(":{}\"", node.admin_port), ":0\""));
    fails_to_start(&node, &[]);
    let alice = node.person("alice", "read");
    assert_eq!(alice.login().one("select 1"), "1", "the first one goes on");
}

#[test]
fn a_file_is_applied_as_a_whole_or_not_at_all() {
    let node = node();
    let now = jiff::Timestamp::now();
    let [from, until] = [-1, 24].map(|hours| now + jiff::SignedDuration::from_hours(hours));
    let good = &format!(
        "[[user]]\nname = \"alice\"\n[[grant]]\nname = \"week\"\nuser = \"alice\"\ntarget = \"shop\"\n\
         level = \"read\"\nfrom = {from:.0}\nuntil = {until:.0}\n"
    );
    node.write("people.toml", &format!("{good}sesions = 3\n[[user]]\nname = \"Bob\"\n"));
    let refused = node.tg(&["apply", "people.toml"]);
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("people.toml:10") && said.contains("sesions"), "{said}");
    assert!(said.contains("Bob"), "every mistake is named: {said}");
    assert!(!node.done(&["user", "list"]).contains("alice"), "half of a bad file was applied");

    node.write("people.toml", good);
    assert!(node.done(&["apply", "people.toml", "--dry-run"]).contains("alice"));
    assert!(!node.done(&["user", "list"]).contains("alice"));
    node.done(&["apply", "people.toml"]);
    let alice = node.credential("alice", "1h");
    assert_eq!(alice.login().one("select current_user"), node.place.role("read"));
    // What the proxy notes by itself, such as a first fingerprint, may come in between.
    let changes = || node.events("admin").iter().filter(|line| !line["actor"]["local"].is_null()).count();
    let before = changes();
    node.done(&["apply", "people.toml"]);
    assert_eq!(changes(), before, "a second run changes nothing");

    // What is written back can be applied again, and changes nothing.
    let exported = node.done(&["export"]);
    node.write("all.toml", &exported);
    node.done(&["apply", "all.toml"]);
    assert_eq!(node.done(&["export"]), exported);

    // Only --prune takes away what the files do not name; the session is listed and cut.
    let client = alice.login();
    let target = std::fs::read_to_string(node.folder.join("target.toml")).expect("written before");
    node.write("all.toml", &target);
    node.done(&["apply", "all.toml"]);
    assert_eq!(client.one("select 1"), "1");
    let session = node.session_of("alice");
    let planned = node.tg(&["apply", "all.toml", "--prune", "--dry-run"]);
    assert!((text(&planned.stdout) + &text(&planned.stderr)).contains(&session), "{planned:?}");
    node.done(&["apply", "all.toml", "--prune"]);
    assert_eq!(client.end().expect_err("cut").code, "57P01");
}

#[test]
fn secrets_are_read_below_their_folder_only() {
    let node = node();
    std::fs::write(node.folder.join("outside.json"), "{}").expect("a file");
    std::os::unix::fs::symlink(node.folder.join("outside.json"), node.folder.join("secrets/link.json"))
        .expect("a link");
    let file = std::fs::read_to_string(node.folder.join("target.toml")).expect("written before");
    for (secret, login) in [
        ("file:../outside.json", false),
        ("file:/etc/passwd", false),
        ("env:HOME", false),
        ("file:link.json", true),
        ("file:missing.json", true),
    ] {
        node.write("target.toml", &file.replace("file:read.json", secret));
        let applied = node.tg(&["apply", "target.toml"]);
        // Where the name is well-formed it may only come out at the first login.
        if applied.status.success() {
            assert!(login, "{secret} was taken");
            let alice = node.credential_of_new_person();
            assert_eq!(alice.refused().message.split(':').next(), Some("TG012"), "{secret}");
        }
    }
}

#[test]
fn the_node_says_how_it_is() {
    let node = node();
    let alice = node.person("alice", "read");
    alice.login().run("select 1");
    assert!(node.http("/health").starts_with("HTTP/1.1 200"));
    let metrics = node.http("/metrics");
    assert!(metrics.contains("# TYPE tidegate_") && metrics.contains("_bucket{"), "{metrics}");
    assert!(node.http("/v1/grants").starts_with("HTTP/1.1 404"), "the API is not on the network");
    let explained = node.done(&["explain", "--user", "alice", "--target", "shop"]);
    assert!(explained.contains("let in") && explained.contains("read"), "{explained}");
    assert!(node.done(&["connect", "shop"]).contains(&node.port.to_string()));
    let check = node.done(&["target", "check", "shop", "--json"]);
    assert!(check.contains("severity") || check.contains("checks"), "{check}");
    let checked = tidegate(&node.folder, &["check", "--config", "tidegate.toml", "target.toml"]);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
}

#[test]
fn a_backup_holds_everything_and_overwrites_nothing() {
    let node = node();
    let alice = node.person("alice", "read");
    node.done(&["backup", "copy.db"]);
    assert!(node.folder.join("copy.db").exists());
    assert_eq!(node.tg(&["backup", "copy.db"]).status.code(), Some(1));
    node.done(&["user", "remove", "alice"]);
    assert!(alice.try_login().is_err());
    node.signal(rustix::process::Signal::TERM);
    node.wait_ended(PATIENCE);
    for leftover in ["tidegate.db-wal", "tidegate.db-shm"] {
        let _ = std::fs::remove_file(node.folder.join("state").join(leftover));
    }
    std::fs::copy(node.folder.join("copy.db"), node.folder.join("state/tidegate.db")).expect("restored");
    node.resume();
    assert_eq!(alice.login().one("select 1"), "1");
}

#[test]
fn resources_outlive_the_process() {
    let node = node();
    let alice = node.person("alice", "read");
    let grant = node.grant("alice", "read_write", "1h", &[]);
    node.signal(rustix::process::Signal::TERM);
    assert_eq!(node.wait_ended(PATIENCE), Some(0));
    node.resume();
    assert_eq!(alice.login().one("select 1"), "1");
    node.done(&["grant", "revoke", &grant]);
    node.kill();
    node.resume();
    let shown = node.json(&["grant", "show", &grant]);
    assert!(!shown["ended"].is_null(), "what has ended stays ended: {shown}");
    // Sessions that died with a process are not listed as living ones.
    assert!(node.sessions().is_empty());
}
