//! What passes through MySQL's protocol and what does not: commands, files, long packets, compression, and who may
//! stop whom.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use sha2::Digest;

use crate::support::mysql::wire::{Reader, command, flag, say, told};
use crate::support::mysql::{Answer, Login, Place, Release, Wire, on_all_releases, shared};
use crate::support::{Node, Options, PATIENCE, text, wait_until};

on_all_releases!(
    the_server_shows_who_is_there_in_front_of_each_text,
    commands_that_are_not_a_person_s_are_refused_and_it_goes_on,
    several_results_and_what_is_sent_ahead_keep_their_order,
    packets_may_be_longer_than_one,
    a_file_is_sent_when_its_client_says_so,
    everything_passes_compressed_too,
    one_may_stop_one_s_own_statements_and_nobody_else_s,
    a_prepared_statement_is_executed_and_fetched,
    how_long_a_slow_reader_is_waited_for_is_no_other_s_choice,
    a_server_of_its_own_is_locked_dies_and_comes_back,
);

/// A reset puts the variable back; the server's socket follows it by a SET only.
fn how_long_a_slow_reader_is_waited_for_is_no_other_s_choice(release: Release) {
    let options = Options { pool: "size_max = 1\nwait_seconds_max = 20", ..Options::default() };
    let node = Node::with(shared(release).place(), options);
    let mut alice = node.person("alice", "read").mysql_login();
    let connection = alice.ask("select connection_id()");
    alice.run("set net_write_timeout = 1");
    let session = node.session_of("alice");
    alice.goodbye();
    assert_eq!(node.wait_end_of(&session)["reused"], true);
    let mut bob = node.person("bob", "read").mysql_login();
    assert_eq!(bob.ask("select connection_id()"), connection);
    bob.query("select repeat('x', 1000000) from items limit 40");
    std::thread::sleep(std::time::Duration::from_secs(4));
    let Answer::Rows { rows, .. } = bob.answers().remove(0) else { panic!("no rows") };
    assert_eq!(rows.len(), 40);
    assert_eq!(bob.ask("select 'goes on'"), "goes on");
}

fn commands_that_are_not_a_person_s_are_refused_and_it_goes_on(release: Release) {
    let node = Node::mysql(release);
    let mut alice = node.person("alice", "admin").mysql_login();
    let commands: [(u8, &[u8]); 8] = [
        (command::SHUTDOWN, &[0]),
        (command::DEBUG, &[]),
        (command::REFRESH, &[1]),
        (command::BINLOG_DUMP, &[4, 0, 0, 0, 0, 0, 1, 0, 0, 0]),
        (command::REGISTER_SLAVE, &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        (0x1e, &[0; 10]), // COM_BINLOG_DUMP_GTID
        (0x20, &[]),      // COM_CLONE
        (0x13, &[0; 4]),  // COM_TABLE_DUMP
    ];
    for (number, body) in commands {
        alice.say(number, body);
        let payload = alice.read().unwrap_or_else(|error| panic!("command {number}: {error}"));
        assert!(told(&payload).message.starts_with("TG0"), "command {number}: {}", text(&payload));
        assert_eq!(alice.ask("select 'goes on'"), "goes on", "command {number}");
    }
    // Those that are.
    alice.say(command::PING, &[]);
    assert_eq!(alice.read().expect("an answer")[0], 0);
    alice.say(command::STATISTICS, &[]);
    assert!(text(&alice.read().expect("an answer")).contains("Uptime"));
    alice.say(command::FIELD_LIST, b"items\0");
    let mut columns = 0;
    while alice.read().expect("a column")[0] != 0xfe {
        columns += 1;
    }
    assert_eq!(columns, 2);
    alice.say(command::SET_OPTION, &[1, 0]);
    alice.read().expect("an answer");
    assert_eq!(alice.told("select 1; select 2").code, "1064");
    alice.say(command::SET_OPTION, &[0, 0]);
    alice.read().expect("an answer");
    assert_eq!(alice.ask("select 1; select 2"), "1; 2");
    alice.say(command::RESET_CONNECTION, &[]);
    assert_eq!(alice.read().expect("an answer")[0], 0);
    assert!(alice.ask("select @tidegate").starts_with("alice/"));
    alice.goodbye();
}

fn several_results_and_what_is_sent_ahead_keep_their_order(release: Release) {
    let node = Node::mysql(release);
    let mut alice = node.person("alice", "read_write").mysql_login();
    alice.query("select 1; update items set name = 'x' where id < 4; select 2, 3; select nonsense; select 5");
    let answers = alice.answers();
    let [Answer::Rows { .. }, Answer::Done { affected: 3, .. }, Answer::Rows { .. }, Answer::Failed(failed)] =
        &answers[..]
    else {
        panic!("{answers:?}")
    };
    assert_eq!(failed.code, "1054");
    // Ahead of answers, with a refusal among them.
    let ahead = [
        say(command::QUERY, b"select 'one'"),
        say(command::SHUTDOWN, &[0]),
        say(command::QUERY, b"select sleep(0.2), 'two'; select 'three'"),
        say(command::PING, &[]),
        say(command::QUERY, b"select 'four'"),
    ];
    alice.send(&ahead.concat());
    let mut seen = Vec::new();
    for _ in 0..5 {
        seen.push(alice.answers());
    }
    let shown = format!("{seen:?}");
    let places: Vec<_> = ["one", "TG0", "two", "three", "Done", "four"].map(|word| shown.find(word)).to_vec();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{shown}");
}

fn packets_may_be_longer_than_one(release: Release) {
    let node = Node::mysql(release);
    let mut alice = node.person("alice", "read_write").mysql_login();
    // Of exactly one packet's length, which another, empty one follows, and around it.
    for length in [0xff_ffff - 20, 0xff_ffff - 17, 0xff_ffff - 16, 0xff_ffff, 20_000_000, 34_000_000usize] {
        let long = "x".repeat(length);
        alice.query(&format!("select length('{long}')"));
        match alice.answers().as_slice() {
            [Answer::Rows { rows, .. }] => assert_eq!(rows[0][0].as_deref(), Some(&length.to_string()[..])),
            other => panic!("{length}: {other:?}"),
        }
        alice.query(&format!("select repeat('x', {length})"));
        match alice.answers().as_slice() {
            [Answer::Rows { rows, .. }] => assert_eq!(rows[0][0].as_ref().map(String::len), Some(length)),
            other => panic!("{length}: {other:?}"),
        }
    }
    let (id, _) = alice.prepare("select length(?)").expect("prepared");
    let long = "x".repeat(20_000_000);
    alice.send(&Wire::execution(id, 0, &[Some(&long)]));
    assert_eq!(alice.binary_answers().len(), 1);
    assert_eq!(alice.ask("select 'in step'"), "in step");
    let line = node.wait_event("statement", |line| {
        line["text"].as_str().is_some_and(|text| text.starts_with("select length('xx"))
    });
    assert!(line.to_string().len() < 1_000_000, "a long text is cut in the trail");
    alice.goodbye();
}

const LOAD: &str = "load data local infile 'a name' into table items";

fn a_file_is_sent_when_its_client_says_so(release: Release) {
    let node = Node::mysql(release);
    let person = node.person("alice", "read_write");
    let mut alice = person.mysql(&Login { more: flag::LOCAL_FILES, ..Login::default() }).expect("let in");
    alice.query(LOAD);
    let asked = alice.read().expect("an answer");
    assert_eq!((asked[0], text(&asked[1..])), (0xfb, "a name".into()));
    for i in 5000..6000 {
        alice.send_next(format!("{i}\tsent {i}\n").as_bytes());
    }
    // What looks like a command is one line more.
    alice.send_next(b"\x01\n");
    alice.send_next(&[]);
    let Answer::Done { affected, .. } = alice.answers().remove(0) else { panic!("not loaded") };
    assert!(affected >= 1000, "{affected}");
    assert_eq!(alice.ask("select count(*) from items where id between 5000 and 5999"), "1000");
    let line = node.wait_statement(LOAD);
    let result = node.result_of(&line);
    assert!(result["bytes_up"].as_u64().is_some_and(|bytes| bytes > 15_000), "{result}");
    let sent: String = (5000..6000).map(|i| format!("{i}\tsent {i}\n")).collect::<String>() + "\x01\n";
    let told = node
        .wait_event("file", |told| told["number"] == line["number"] && told["session"] == line["session"]);
    let hash: String = sha2::Sha256::digest(&sent).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!((&told["name"], &told["bytes"]), (&"a name".into(), &sent.len().into()), "{told}");
    assert_eq!((&told["sha256"], &told["whole"]), (&hash.into(), &true.into()), "{told}");
    // Given up, as clients do that find no such file.
    alice.query(LOAD);
    assert_eq!(alice.read().expect("an answer")[0], 0xfb);
    alice.send_next(&[]);
    alice.answers();
    assert_eq!(alice.ask("select 'in step'"), "in step");
    alice.goodbye();
    // Who has not said that it sends files is asked for none.
    let mut careful = person.mysql_login();
    careful.told(LOAD);
    assert_eq!(careful.ask("select 'in step'"), "in step");
}

fn everything_passes_compressed_too(release: Release) {
    let node = Node::mysql(release);
    let person = node.person("alice", "read_write");
    for tls in [false, true] {
        let login = Login { more: flag::COMPRESS, tls, ..Login::default() };
        let mut alice = person.mysql(&login).expect("let in");
        assert_eq!(alice.ask("select 1; select 'two'"), "1; two");
        assert_eq!(alice.ask("select length(repeat('x', 3000000))"), "3000000");
        alice.query("select repeat('x', 17000000)");
        match alice.answers().as_slice() {
            [Answer::Rows { rows, .. }] => assert_eq!(rows[0][0].as_ref().map(String::len), Some(17_000_000)),
            other => panic!("{other:?}"),
        }
        let long = "x".repeat(17_000_000);
        assert_eq!(alice.ask(&format!("select length('{long}')")), "17000000");
        alice.goodbye();
    }
}

fn one_may_stop_one_s_own_statements_and_nobody_else_s(release: Release) {
    let node = Node::mysql(release);
    let person = node.person("alice", "read");
    let (mut first, mut second) = (person.mysql_login(), person.mysql_login());
    let mut bob = node.person("bob", "read").mysql_login();
    let long = "select sum(a.id * b.id + c.id * d.id) from items a, items b, items c, items d";
    // By the number that the client was told, and by the one that the server has.
    let server_s = first.ask("select connection_id()");
    for id in [first.greeting.connection.to_string(), server_s] {
        for words in ["kill query", "KILL /* this one */ QUERY"] {
            first.query(long);
            node.place.wait_running("a.id * b.id");
            assert_eq!(bob.told(&format!("{words} {id}")).code, "1094", "somebody else's");
            assert_eq!(second.ask(&format!("{words} {id}")), "");
            match first.answers().as_slice() {
                [Answer::Failed(told)] => assert_eq!(told.code, "1317"),
                other => panic!("{other:?}"),
            }
        }
    }
    first.query(long);
    node.place.wait_running("a.id * b.id");
    // Of nobody, and among others.
    assert_eq!(second.told("kill query 4000000000").code, "1094");
    assert!(second.told("select 1; kill 5").message.starts_with("TG0"));
    // By protocol, the whole connection.
    bob.say(command::PROCESS_KILL, &first.greeting.connection.to_le_bytes());
    assert_eq!(told(&bob.read().expect("an answer")).code, "1094");
    second.say(command::PROCESS_KILL, &first.greeting.connection.to_le_bytes());
    assert_eq!(second.read().expect("an answer")[0], 0);
    let (_, _) = first.until_closed();
    wait_until("it is gone", PATIENCE, || node.sessions().len() == 2);
    node.place.wait_quiet(PATIENCE);
    assert_eq!(bob.ask("select 'untouched'"), "untouched");
}

fn a_prepared_statement_is_executed_and_fetched(release: Release) {
    let node = Node::mysql(release);
    let person = node.person("alice", "read_write");
    for more in [0, flag::DEPRECATE_EOF] {
        let mut alice = person.mysql(&Login { more, ..Login::default() }).expect("let in");
        let (id, parameters) =
            alice.prepare("select id, name from items where id > ? and name <> ?").expect("prepared");
        assert_eq!(parameters, 2);
        alice.send(&Wire::execution(id, 0, &[Some("997"), Some("x")]));
        match alice.binary_answers().as_slice() {
            [Answer::Rows { rows, .. }] => assert_eq!(rows.len(), 3),
            other => panic!("{other:?}"),
        }
        alice.send(&Wire::execution(id, 0, &[None, Some("x")]));
        assert!(matches!(alice.binary_answers().as_slice(), [Answer::Rows { rows, .. }] if rows.is_empty()));
        assert_eq!(alice.prepare("select nonsense").unwrap_err().code, "1054");
        // A value in parts, and a statement that is closed in the middle of others.
        let (insert, _) = alice.prepare("insert into items values (6000, ?)").expect("prepared");
        for part in ["a part, ", "and another"] {
            let body = [&insert.to_le_bytes()[..], &[0, 0], part.as_bytes()].concat();
            alice.say(command::STMT_SEND_LONG_DATA, &body);
        }
        let execution = [&insert.to_le_bytes()[..], &[0], &1u32.to_le_bytes(), &[0, 1, 0xfc, 0]].concat();
        alice.say(command::STMT_EXECUTE, &execution);
        assert!(matches!(alice.binary_answers().as_slice(), [Answer::Done { affected: 1, .. }]));
        alice.say(command::STMT_CLOSE, &insert.to_le_bytes());
        assert_eq!(alice.ask("select name from items where id = 6000"), "a part, and another");
        alice.run("delete from items where id = 6000");
        alice.say(command::STMT_RESET, &id.to_le_bytes());
        assert_eq!(alice.read().expect("an answer")[0], 0);
        alice.goodbye();
    }
}

/// On a server of its own, as all others would wait for that lock.
fn a_server_of_its_own_is_locked_dies_and_comes_back(release: Release) {
    let place = Place::alone(release, &[]);
    let admin = place.role("admin");
    place.run(&format!("grant reload on *.* to {admin}@'%'"));
    let node = Node::with(place, Options { pool: "size_max = 3", ..Options::default() });
    let (alice, bob) = (node.person("alice", "admin"), node.person("bob", "read_write"));
    let mut writes = bob.mysql_login();
    for vanishes in [false, true] {
        let mut locks = alice.mysql_login();
        locks.run("flush tables with read lock");
        writes.query("update items set name = name where id = 1");
        node.place.wait_running("name = name");
        if vanishes {
            locks.vanish()
        } else {
            locks.goodbye()
        }
        assert!(matches!(writes.answers()[..], [Answer::Done { .. }]), "the lock is gone with who had it");
    }
    node.place.stop_immediately();
    // Who is in is told that the server is lost, and whoever comes that it is not there.
    let (payloads, _) = writes.until_closed();
    assert!(payloads.iter().all(|payload| told(payload).message.starts_with("TG0")), "{payloads:?}");
    let refused = bob.mysql(&Login::default()).err().expect("the server is not there");
    assert_eq!((&refused.code[..], &refused.message[..5]), ("1429", "TG012"), "{refused:?}");
    node.place.resume();
    wait_until("the server is used again", PATIENCE, || bob.mysql(&Login::default()).is_ok());
}

/// Somebody between the proxy and the server who asks for a file when a client says a certain word.
fn asks_for_files(server_port: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let far = TcpStream::connect(("127.0.0.1", server_port)).expect("the server");
            let (mut down_from, mut down_to) =
                (far.try_clone().expect("a handle"), near.try_clone().expect("a handle"));
            std::thread::spawn(move || std::io::copy(&mut down_from, &mut down_to));
            std::thread::spawn(move || up(near, far));
        }
    });
    port
}

fn up(mut near: TcpStream, mut far: TcpStream) -> std::io::Result<()> {
    loop {
        let mut head = [0; 4];
        near.read_exact(&mut head)?;
        let mut payload = vec![0; Reader(&head).number(3) as usize];
        near.read_exact(&mut payload)?;
        if text(&payload).contains("hostile") {
            near.write_all(&crate::support::mysql::wire::packet(1, b"\xfb/etc/passwd"))?;
            continue;
        }
        far.write_all(&head)?;
        far.write_all(&payload)?;
    }
}

#[test]
fn a_server_that_asks_for_a_file_unasked_gets_none() {
    let place = shared(Release::Distribution).place();
    let port = asks_for_files(place.port);
    let node = Node::prepare(place, Options { target: "tls = \"disable\"", ..Options::default() });
    let file = node.target_file(&Options { target: "tls = \"disable\"", ..Options::default() });
    node.write(
        "target.toml",
        &file.replace(&format!("127.0.0.1:{}", node.place.port), &format!("127.0.0.1:{port}")),
    );
    node.resume();
    node.done(&["apply", "target.toml"]);
    let person = node.person("alice", "read");
    for more in [0, flag::LOCAL_FILES] {
        let mut alice = person.mysql(&Login { more, ..Login::default() }).expect("let in");
        assert_eq!(alice.ask("select 1"), "1");
        alice.query("select 'hostile'");
        let (payloads, _) = alice.until_closed();
        // It is told that the session ends, and is never asked.
        assert!(payloads.iter().all(|payload| payload[0] == 0xff), "{payloads:?}");
    }
    let lines = node.events("session_end");
    assert!(lines.iter().all(|line| line["reused"] == false), "{lines:?}");
}

fn the_server_shows_who_is_there_in_front_of_each_text(release: Release) {
    let options = Options { target: "stamp_comment = \"on\"\n", ..Options::default() };
    let node = Node::with(shared(release).place(), options);
    let alice = node.person("alice", "read_write");
    let mut wire = alice.mysql(&Login { more: flag::LOCAL_FILES, ..Login::default() }).expect("let in");
    let mark = format!("/* tidegate alice/{} */ ", node.session_of("alice"));
    wire.query("select sleep(60)");
    node.place.wait_running("sleep(60)");
    let seen = node
        .place
        .ask("select info from information_schema.processlist where info like '%tidegate%sleep(60)'");
    assert!(seen.contains(&format!("{mark}select sleep(60)")), "{seen}");
    let number = wire.greeting.connection;
    let mut other = alice.mysql_login();
    other.run(&format!("kill query {number}"));
    other.goodbye();
    wire.answers();
    // Text of several statements, prepared, a file, and one that is longer than a packet.
    assert_eq!(wire.ask("select 1; select 'two'"), "1; two");
    let (id, parameters) = wire.prepare("select name from items where id = ?").expect("prepared");
    assert_eq!(parameters, 1);
    wire.send(&Wire::execution(id, 0, &[Some("7")]));
    assert!(format!("{:?}", wire.binary_answers()).contains("item 7"));
    wire.query(LOAD);
    assert_eq!(wire.read().expect("an answer")[0], 0xfb);
    wire.send_next(b"5000\tsent\n");
    wire.send_next(&[]);
    assert!(matches!(wire.answers()[..], [Answer::Done { affected: 1, .. }]));
    for length in [0xff_ffff - 100, 0xff_ffff - 17, 17_000_000] {
        let long = "x".repeat(length);
        assert_eq!(wire.ask(&format!("select length('{long}')")), length.to_string());
    }
    let none = wire.told("select nonsense from nowhere");
    assert!(["1054", "1146"].contains(&&none.code[..]), "{none:?}");
    assert_eq!(wire.ask("select 'in step'"), "in step");
    node.wait_statement("select 'in step'");
    assert!(
        node.events("statement").iter().all(|line| !line.to_string().contains("/* tidegate")),
        "the text is the person's"
    );
    assert!(node.place.general_log().contains(&format!("{mark}select 'in step'")));
    wire.goodbye();
}
