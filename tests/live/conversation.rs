//! What people do with a database, unchanged by the proxy in the middle.

use std::io::{Read, Write};
use std::process::Stdio;
use std::time::SystemTime;

use futures_util::{SinkExt, StreamExt};
use tokio_postgres::CancelToken;

use crate::support::client::{code_of, psql_command};
use crate::support::wire::{self, packet, string};
use crate::support::{Client, Node, PATIENCE, Server, block, on_both_servers, psql, text, wait_until};

on_both_servers!(
    statements_run_one_by_one_and_many_at_once,
    binary_values_of_many_types_arrive_and_come_back,
    requests_are_pipelined,
    an_error_in_a_pipeline_skips_to_the_next_sync,
    a_million_rows_come_through,
    rows_are_copied_in_and_out,
    a_notification_reaches_an_idle_client,
    a_cancel_ends_the_statement_that_it_was_meant_for,
    prepared_statements_live_as_long_as_the_session,
    a_large_value_passes,
    a_portal_is_read_in_parts,
);

fn statements_run_one_by_one_and_many_at_once(server: &'static Server) {
    let node = Node::start(server);
    let alice = node.person("alice", "read_write").login();
    assert_eq!(alice.rows("").expect("an empty statement"), Vec::<Vec<_>>::new());
    let rows = alice
        .rows("select 1; select 'b', null; update items set name = 'x' where id < 3; select 4")
        .expect("all");
    let expected = [vec![Some("1")], vec![Some("b"), None], vec![Some("4")]];
    assert_eq!(rows, expected.map(|row| row.into_iter().map(|v| v.map(str::to_owned)).collect::<Vec<_>>()));
    let told = alice.told("select 1; select 1/0; select 2");
    assert_eq!(told.code, "22012");
    alice.run("begin; insert into items values (2000, 'kept'); commit; begin; insert into items values (2001, 'not'); rollback");
    assert_eq!(alice.one("select string_agg(name, ',') from items where id >= 2000"), "kept");
    // An error within a transaction leaves it failed until its end.
    alice.run("begin");
    assert_eq!(alice.told("select nonsense").code, "42703");
    assert_eq!(alice.told("select 1").code, "25P02");
    alice.run("rollback");
    assert_eq!(alice.one("select 1"), "1");
}

fn binary_values_of_many_types_arrive_and_come_back(server: &'static Server) {
    let node = Node::start(server);
    let alice = node.person("alice", "read").login();
    let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_800_000_000);
    let bytes: Vec<u8> = (0..=255).collect();
    let ids = vec![1i32, -2, 3];
    let address: std::net::IpAddr = "2001:db8::7".parse().unwrap();
    let row = block(alice.inner.query_one(
        "select $1::bool, $2::int2, $3::int4, $4::int8, $5::float4, $6::float8, $7::text, $8::bytea, \
         $9::timestamptz, $10::int4[], $11::inet, $12::text, $13::\"char\", $14::oid",
        &[
            &true,
            &-7i16,
            &i32::MIN,
            &i64::MAX,
            &1.5f32,
            &-2.25f64,
            &"ä'\"\\\n",
            &bytes,
            &now,
            &ids,
            &address,
            &None::<String>,
            &7i8,
            &4_000_000_000u32,
        ],
    ))
    .expect("the row");
    assert_eq!((row.get::<_, bool>(0), row.get::<_, i16>(1), row.get::<_, i32>(2)), (true, -7, i32::MIN));
    assert_eq!((row.get::<_, i64>(3), row.get::<_, f32>(4), row.get::<_, f64>(5)), (i64::MAX, 1.5, -2.25));
    assert_eq!((row.get::<_, &str>(6), row.get::<_, Vec<u8>>(7)), ("ä'\"\\\n", bytes));
    assert_eq!((row.get::<_, SystemTime>(8), row.get::<_, Vec<i32>>(9)), (now, ids));
    assert_eq!((row.get::<_, std::net::IpAddr>(10), row.get::<_, Option<&str>>(11)), (address, None));
    assert_eq!((row.get::<_, i8>(12), row.get::<_, u32>(13)), (7, 4_000_000_000));
}

fn requests_are_pipelined(server: &'static Server) {
    let node = Node::start(server);
    let alice = node.person("alice", "read").login();
    // tokio-postgres sends each request when it is first polled and does not wait for the one before.
    let answers = block(async {
        let statement = alice.inner.prepare("select $1::int4 * 2").await.expect("prepared");
        let all = (0..500i32).map(|i| {
            let (client, statement) = (alice.inner.clone(), statement.clone());
            async move { client.query_one(&statement, &[&i]).await.map(|row| row.get::<_, i32>(0)) }
        });
        futures_util::future::join_all(all).await
    });
    for (i, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.expect("an answer"), i as i32 * 2);
    }
}

/// Parse, Bind, Execute of a statement without parameters.
fn extended(sql: &str) -> Vec<u8> {
    [
        packet('P', &[&[0][..], &string(sql), &[0, 0]].concat()),
        packet('B', &[0, 0, 0, 0, 0, 0, 0, 0]),
        packet('E', &[0, 0, 0, 0, 0]),
    ]
    .concat()
}

fn an_error_in_a_pipeline_skips_to_the_next_sync(server: &'static Server) {
    let node = Node::start(server);
    let mut wire = node.person("alice", "read_write").wire(&[]);
    let sync = packet('S', &[]);
    let one = extended("insert into items values (3000, 'a')");
    let bad = extended("select 1 / (id - 1) from items where id = 1");
    let two = extended("insert into items values (3001, 'b')");
    // The first three are one implicit transaction; the last is one of its own.
    wire.send(&[&one[..], &bad, &two, &sync, &extended("select 7"), &sync].concat());
    assert_eq!(wire.tags(), "12C12EZ");
    assert_eq!(wire.tags(), "12DCZ");
    assert_eq!(node.place.ask("select count(*) from items where id >= 3000"), "0");
    // A flush gives the answers without the end of the request.
    wire.send(&[extended("select 8"), packet('H', &[])].concat());
    let answers: String = (0..4).map(|_| wire.read().expect("an answer").tag).collect();
    assert_eq!(answers, "12DC");
    wire.send(&sync);
    assert_eq!(wire.tags(), "Z");
    // Simple queries, one behind the other.
    wire.send(
        &[
            packet('Q', &string("select 1")),
            packet('Q', &string("select 1/0")),
            packet('Q', &string("select 3")),
        ]
        .concat(),
    );
    assert_eq!([wire.tags(), wire.tags(), wire.tags()], ["TDCZ", "EZ", "TDCZ"],);
}

fn a_million_rows_come_through(server: &'static Server) {
    let node = Node::start(server);
    let alice = node.person("alice", "read").login();
    let (count, sum) = block(async {
        let no_values: [i32; 0] = [];
        let sql = "select i, 'row ' || i from generate_series(1, 1000000) i";
        let rows = alice.inner.query_raw(sql, no_values).await.expect("it runs");
        let mut rows = std::pin::pin!(rows);
        let (mut count, mut sum) = (0u64, 0u64);
        while let Some(row) = rows.next().await {
            let row = row.expect("a row");
            let number: i32 = row.get(0);
            assert_eq!(row.get::<_, &str>(1), format!("row {number}"));
            count += 1;
            sum += number as u64;
        }
        (count, sum)
    });
    assert_eq!((count, sum), (1_000_000, 500_000_500_000));
    let statement =
        node.wait_event("statement", |line| line["text"].as_str().is_some_and(|t| t.contains("1000000")));
    let result = node.result_of(&statement);
    assert_eq!(result["rows"], 1_000_000, "{result}");
    assert!(result["bytes_down"].as_u64().expect("a number") > 20_000_000, "{result}");
}

fn rows_are_copied_in_and_out(server: &'static Server) {
    let node = Node::start(server);
    let person = node.person("alice", "read_write");
    let alice = person.login();
    let copied = block(async {
        let sink = alice.inner.copy_in("copy items from stdin").await.expect("COPY starts");
        let mut sink = std::pin::pin!(sink);
        for block in 0..10 {
            let lines: String =
                (0..1_000).map(|i| format!("{}\tcopied\n", 10_000 + block * 1_000 + i)).collect();
            sink.send(bytes::Bytes::from(lines)).await.expect("sent");
        }
        sink.finish().await.expect("COPY ends")
    });
    assert_eq!(copied, 10_000);
    let out = block(async {
        let stream =
            alice.inner.copy_out("copy (select * from items where id >= 10000 order by id) to stdout").await;
        let parts: Vec<_> = stream.expect("COPY starts").collect().await;
        parts.into_iter().flat_map(|part| part.expect("a part").to_vec()).collect::<Vec<u8>>()
    });
    assert_eq!(text(&out).lines().count(), 10_000);
    assert!(text(&out).ends_with("19999\tcopied\n"));
    // A COPY that the client gives up, and one that the server refuses, leave a usable session.
    block(async {
        let sink =
            alice.inner.copy_in::<_, bytes::Bytes>("copy items from stdin").await.expect("COPY starts");
        drop(sink);
    });
    let bad = block(async {
        let sink = alice.inner.copy_in("copy items from stdin").await.expect("COPY starts");
        let mut sink = std::pin::pin!(sink);
        let _ = sink.send(bytes::Bytes::from_static(b"not a number\tx\n")).await;
        sink.finish().await.expect_err("not a number")
    });
    assert_eq!(code_of(&bad), "22P02");
    assert_eq!(alice.one("select count(*) from items where name = 'copied'"), "10000");
    // psql's own way.
    let done = psql(&person.conninfo(""), &person.secret, &["-c", "\\copy (select 1, 'x') to stdout"]);
    assert_eq!(text(&done.stdout), "1\tx\n", "{}", text(&done.stderr));
    let statement = node.wait_event("statement", |line| line["text"] == "copy items from stdin");
    let result = node.result_of(&statement);
    assert_eq!((&result["tag"], &result["rows"]), (&"COPY 10000".into(), &10_000.into()));
    assert!(result["bytes_up"].as_u64().expect("a number") >= 130_000, "{result}");
}

fn a_notification_reaches_an_idle_client(server: &'static Server) {
    let node = Node::start(server);
    let alice = node.person("alice", "read").login();
    let bob = node.person("bob", "read").login();
    alice.run("listen news");
    bob.run("notify news, 'one'; notify news, 'two'");
    node.place.master().run("notify news, 'three'");
    wait_until("three notifications", PATIENCE, || alice.notifications().len() == 3);
    assert_eq!(alice.notifications().concat_payloads(), "one two three");
    assert!(bob.notifications().is_empty());
    alice.run("unlisten *; notify news, 'four'");
    assert_eq!(alice.one("select 1"), "1");
    assert_eq!(alice.notifications().len(), 3);
}

trait Payloads {
    fn concat_payloads(&self) -> String;
}

impl Payloads for Vec<(String, String)> {
    fn concat_payloads(&self) -> String {
        self.iter().map(|(_, payload)| payload.as_str()).collect::<Vec<_>>().join(" ")
    }
}

fn cancel(token: &CancelToken) {
    block(token.cancel_query(tokio_postgres::NoTls)).expect("the proxy takes the request");
}

fn a_cancel_ends_the_statement_that_it_was_meant_for(server: &'static Server) {
    let node = Node::start(server);
    let person = node.person("alice", "read");
    let (alice, neighbour): (Client, Client) = (person.login(), person.login());
    let running = alice.start("select pg_sleep(60)");
    let other = neighbour.start("select pg_sleep(3), 'untouched'");
    wait_until("both run", PATIENCE, || {
        node.place.count("state = 'active' and query like '%pg_sleep%'") == 2
    });
    cancel(&alice.inner.cancel_token());
    assert_eq!(running.told().code, "57014");
    assert_eq!(other.wait().expect("not hit")[0][1].as_deref(), Some("untouched"));
    assert_eq!(alice.one("select 1"), "1", "the session goes on");
    node.wait_event("cancel", |line| line["user"] == "alice" && line["sent"] == true);

    // Keys that nobody was given, and a right key that finds nothing running, do nothing.
    let mut wire = person.wire(&[]);
    wire.query("select pg_sleep(2), 'done'");
    node.place.wait_running("done");
    let wrong: Vec<u8> = wire.key.iter().map(|byte| byte ^ 0x55).collect();
    wire::cancel(node.port, wire.process, &wrong);
    wire::cancel(node.port, wire.process ^ 1, &wire.key);
    wire::cancel(node.port, wire.process, &[]);
    assert_eq!(wire.tags(), "TDCZ");
    wire::cancel(node.port, wire.process, &wire.key);
    std::thread::sleep(std::time::Duration::from_millis(200));
    wire.query("select 5");
    assert_eq!(wire.tags(), "TDCZ");
    // The server's own key is never shown.
    assert_ne!(wire.process.to_string(), alice.backend_pid());

    // psql's Ctrl-C. A key of a session that has ended is nobody's.
    let (process, key) = (wire.process, wire.key.clone());
    wire.goodbye();
    let mut psql = psql_command(&person.conninfo(""), &person.secret, &[]);
    psql.args(["-c", "select pg_sleep(61)"]).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = psql.spawn().expect("psql runs");
    node.place.wait_running("pg_sleep(61)");
    wire::cancel(node.port, process, &key);
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(
        node.place.count("query like '%pg_sleep(61)%' and state = 'active'"),
        1,
        "a dead key hit somebody"
    );
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("our child");
    let mut said = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    assert!(said.contains("canceling statement due to user request"), "{said}");
    child.wait().expect("psql ends");
}

fn prepared_statements_live_as_long_as_the_session(server: &'static Server) {
    let node = Node::start(server);
    let person = node.person("alice", "read");
    let alice = person.login();
    let statement = block(alice.inner.prepare("select name from items where id = $1")).expect("prepared");
    for id in [1i32, 500, 1000] {
        let row = block(alice.inner.query_one(&statement, &[&id])).expect("a row");
        assert_eq!(row.get::<_, String>(0), format!("item {id}"));
    }
    alice.run("prepare p (int) as select $1 + 1");
    assert_eq!(alice.one("execute p(41)"), "42");
    let mut other = person.wire(&[]);
    other.query("execute p(1)");
    assert_eq!(other.until_ready()[0].told().code, "26000");
    let line =
        node.wait_event("statement", |line| line["parameters"].as_array().is_some_and(|p| !p.is_empty()));
    assert_eq!(line["text"], "select name from items where id = $1");
}

fn a_large_value_passes(server: &'static Server) {
    let node = Node::start(server);
    let alice = node.person("alice", "read").login();
    let before = node.resident_bytes();
    let large = "x".repeat(32 << 20);
    let row = block(alice.inner.query_one("select length($1::text), $1::text", &[&large])).expect("a row");
    assert_eq!(row.get::<_, i32>(0), 32 << 20);
    assert_eq!(row.get::<_, &str>(1).len(), large.len());
    assert_eq!(alice.one(&format!("select length('{large}')")), (32 << 20).to_string());
    let grown = node.resident_bytes().saturating_sub(before);
    assert!(grown < 24 << 20, "passing 32 MB on took {grown} bytes of memory");
}

fn a_portal_is_read_in_parts(server: &'static Server) {
    let node = Node::start(server);
    let alice = node.person("alice", "read");
    let mut wire = alice.wire(&[]);
    let begin = [
        packet('P', &[&[0][..], &string("select id from items order by id"), &[0, 0]].concat()),
        packet('B', &[&string("c")[..], &[0, 0, 0, 0, 0, 0, 0]].concat()),
        packet('E', &[&string("c")[..], &400u32.to_be_bytes()].concat()),
        packet('H', &[]),
    ];
    let more = [packet('E', &[&string("c")[..], &400u32.to_be_bytes()].concat()), packet('S', &[])];
    wire.socket.write_all(&begin.concat()).expect("sent");
    let first: String = (0..403).map(|_| wire.read().expect("an answer").tag).collect();
    assert_eq!((first.matches('D').count(), first.ends_with('s')), (400, true));
    wire.send(&more.concat());
    let second = wire.tags();
    assert_eq!((second.matches('D').count(), second.ends_with("sZ")), (400, true));
}
