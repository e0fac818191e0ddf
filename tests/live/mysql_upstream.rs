//! The other side of MySQL's protocol: how the proxy speaks to the server.

use std::collections::BTreeSet;

use crate::support::mysql::wire::{command, flag, say};
use crate::support::mysql::{Answer, Login, Place, Release, Wire, on_all_releases, shared};
use crate::support::{CUT, Node, Options, PATIENCE, text, wait_until};

on_all_releases!(
    everything_passes_to_a_server_that_compresses,
    a_crowd_is_cut_over_few_connections,
    a_password_that_a_person_changes_opens_nothing,
);

const LOAD: &str = "load data local infile 'a name' into table items";

fn everything_passes_to_a_server_that_compresses(release: Release) {
    let codecs: &[&str] = if release.is_mariadb() { &["zlib"] } else { &["zlib", "zstd"] };
    for codec in codecs {
        for tls in ["", "tls = \"disable\"\n"] {
            let target = format!("{tls}compression = \"{codec}\"");
            let pool = "size_max = 1";
            let node =
                Node::with(shared(release).place(), Options { target: &target, pool, ..Options::default() });
            let person = node.person("alice", "read_write");
            // The client may compress as well, or not, with another codec than the server.
            for more in [0, flag::COMPRESS | flag::DEPRECATE_EOF] {
                let login = Login { more: more | flag::LOCAL_FILES, ..Login::default() };
                let mut alice = person.mysql(&login).expect("let in");
                let said = alice.ask("show session status like 'Compression%'");
                assert!(said.contains("Compression|ON"), "{codec}: {said}");
                converse(&mut alice);
                send_a_file(&mut alice);
                alice.goodbye();
                // Reset, proven, and lent again.
                node.wait_event("session_end", |line| line["reused"] == true);
            }
        }
    }
}

fn converse(alice: &mut Wire) {
    assert_eq!(alice.ask("select 1; select 'two' union select 'three'; select 4"), "1; two; three; 4");
    alice.query("select 1; update items set name = uuid() where id < 4; select nonsense; select 5");
    let answers = alice.answers();
    assert!(
        matches!(&answers[..], [Answer::Rows { .. }, Answer::Done { affected: 3, .. }, Answer::Failed(_)]),
        "{answers:?}"
    );
    // In one packet and in more than one, both ways.
    for length in [100, 3_000_000, 17_000_000usize] {
        alice.query(&format!("select repeat('x', {length}), 2; select 'more'"));
        match alice.answers().as_slice() {
            [Answer::Rows { rows, .. }, Answer::Rows { .. }] => {
                assert_eq!(rows[0][0].as_ref().map(String::len), Some(length))
            }
            other => panic!("{length}: {} answers", other.len()),
        }
        let long = "x".repeat(length);
        assert_eq!(alice.ask(&format!("select length('{long}')")), length.to_string());
    }
    // What does not become smaller, in rows.
    assert_eq!(alice.ask("select count(*) from (select sha2(a.id, 512) from items a limit 900) t"), "900");
    alice.query("select sha2(a.id * 1000 + b.id, 512) from items a, items b where b.id < 30");
    match alice.answers().as_slice() {
        [Answer::Rows { rows, .. }] => assert_eq!(rows.len(), 29_000),
        other => panic!("{} answers", other.len()),
    }
    // Ahead of answers.
    let long = format!("select length('{}')", "y".repeat(200_000));
    let ahead = [
        say(command::QUERY, b"select 'one'; select 'two'"),
        say(command::QUERY, long.as_bytes()),
        say(command::PING, &[]),
        say(command::QUERY, b"select 'four'"),
    ];
    alice.send(&ahead.concat());
    let seen: Vec<_> = (0..4).map(|_| format!("{:?}", alice.answers())).collect();
    for (answer, word) in seen.iter().zip(["two", "200000", "Done", "four"]) {
        assert!(answer.contains(word), "{seen:?}");
    }
    let (id, _) = alice.prepare("select length(?)").expect("prepared");
    for length in [10, 20_000_000usize] {
        alice.send(&Wire::execution(id, 0, &[Some(&"x".repeat(length))]));
        assert_eq!(alice.binary_answers().len(), 1);
    }
    alice.say(command::STMT_CLOSE, &id.to_le_bytes());
    alice.say(command::RESET_CONNECTION, &[]);
    assert_eq!(alice.read().expect("an answer")[0], 0);
    assert!(alice.ask("select @tidegate").starts_with("alice/"));
}

fn send_a_file(alice: &mut Wire) {
    alice.query(LOAD);
    let asked = alice.read().expect("an answer");
    assert_eq!((asked[0], text(&asked[1..])), (0xfb, "a name".into()));
    // More packets than there are numbers.
    for i in 5000..6000 {
        alice.send_next(format!("{i}\tsent {i}\n").as_bytes());
    }
    alice.send_next(&[]);
    let answers = alice.answers();
    assert!(matches!(answers[..], [Answer::Done { affected: 1000, .. }]), "{answers:?}");
    assert_eq!(alice.ask("select count(*) from items where id >= 5000"), "1000");
    alice.run("delete from items where id >= 5000");
}

/// A login for each would come when the server is to be quick. What they wait for is nobody's `SLEEP`: MariaDB's has a
/// lock that all sleepers of the server share, under which one `KILL` can hang for two seconds (docs/mysql.md).
fn a_crowd_is_cut_over_few_connections(release: Release) {
    const CROWD: usize = 30;
    let options =
        Options { pool: "size_max = 40", target: "tls = \"disable\"", log: "warn", ..Options::default() };
    let node: Node<Place> = Node::with(shared(release).place(), options);
    let lock = format!("select get_lock('{}', 600)", node.place.database);
    let mut holder = node.place.root();
    assert_eq!(holder.ask(&lock), "1");
    let person = node.person("alice", "read");
    let mut crowd: Vec<Wire> = (0..CROWD).map(|_| person.mysql_login()).collect();
    crowd.iter_mut().for_each(|wire| wire.query(&lock));
    let waiting = format!(
        "select id from information_schema.processlist where user like '{}\\_%' and info like '%get\\_lock(%'",
        node.place.database
    );
    let mut numbers: BTreeSet<u64> = BTreeSet::new();
    wait_until("all of them run", PATIENCE, || {
        numbers = node.place.ask(&waiting).split("; ").filter_map(|number| number.parse().ok()).collect();
        numbers.len() == CROWD
    });
    node.done(&["credential", "revoke", &person.credential]);
    node.place.wait_quiet(CUT);
    for mut wire in crowd {
        let (payloads, _) = wire.until_closed();
        let told: Vec<_> = payloads.iter().map(|payload| text(payload)).collect();
        assert!(told.iter().any(|text| text.contains("TG005")), "{told:?}");
    }
    let log = node.place.general_log();
    let entries = || log.lines().filter_map(entry);
    let own = format!("{}_read@", node.place.database);
    let ours: BTreeSet<u64> = entries()
        .filter(|(_, word, what)| *word == "Connect" && what.starts_with(&own))
        .map(|e| e.0)
        .collect();
    let (mut killed, mut connections) = (BTreeSet::new(), BTreeSet::new());
    for (id, _, what) in entries().filter(|(id, _, what)| ours.contains(id) && what.starts_with("KILL ")) {
        killed.extend(what.rsplit(' ').next().and_then(|number| number.parse::<u64>().ok()));
        connections.insert(id);
    }
    assert_eq!(killed, numbers, "what was stopped, and what ran");
    assert!(connections.len() <= 2, "over {} connections", connections.len());
    // They do not stay.
    wait_until("they are gone", PATIENCE, || node.place.count("true") == 0);
}

/// What its own login can change of the account: the connections that stand go on, and there are no new ones.
fn a_password_that_a_person_changes_opens_nothing(release: Release) {
    let options = Options { pool: "size_max = 2", ..Options::default() };
    let node: Node<Place> = Node::with(shared(release).place(), options);
    let (alice, bob) = (node.person("alice", "read"), node.person("bob", "read"));
    let mut first = alice.mysql_login();
    first.run(match release {
        Release::MySql9 => "alter user user() identified by 'of mallory'",
        _ => "set password = password('of mallory')",
    });
    let refused = bob.mysql(&Login::default()).err().expect("a new connection is needed");
    assert!(refused.message.starts_with("TG025"), "{refused:?}");
    node.wait_event("alarm", |line| line["target"] == "shop" && line["level"] == "read");
    assert_eq!(first.ask("select 'goes on'"), "goes on");
    first.goodbye();
}

/// A line of the general log: the connection, what it did, and with what.
fn entry(line: &str) -> Option<(u64, &str, &str)> {
    let (at, what) = line.rsplit_once('\t')?;
    let (id, word) = at.rsplit('\t').next()?.trim().split_once(' ')?;
    Some((id.parse().ok()?, word, what))
}
