//! The states that a session of MySQL's protocol can be in.

use std::time::Duration;

use serde_json::Value;

use super::super::cut::{Entered, Hears, Kind, Stage, State};
use super::super::{Fixture, Names};
use super::{Hand, MySql, halfway, read_out, with};
use crate::support::mysql::Wire;
use crate::support::mysql::wire::{command, flag, packet, say};
use crate::support::{PATIENCE, wait_until};

type There = Entered<MySql>;
type Scene<'a, 'b> = &'a Stage<'b, MySql>;

fn state(
    name: &'static str,
    kind: Kind,
    hears: Hears,
    enter: fn(&MySql, Scene<'_, '_>) -> There,
) -> State<MySql> {
    State { name, kind, hears, listed: if kind == Kind::Busy { "running" } else { "pinned" }, enter }
}

/// One that the proxy calls otherwise than by its kind.
fn listed(listed: &'static str, state: State<MySql>) -> State<MySql> {
    State { listed, ..state }
}

const ROWS: &str = "select repeat('x', 3000), sleep(0.005) from items a, items b";

pub fn all() -> Vec<State<MySql>> {
    use Hears::{Always, Never, Perhaps, Streaming};
    vec![
        state("in the middle of a login", Kind::Login, Always, |_, stage| {
            let (wire, response) = halfway(&stage.door());
            Entered { client: Hand::Halfway(wire, response), names: None }
        }),
        state("idle", Kind::Idle, Always, |_, stage| at_hand(stage, |_| {})),
        state("idle, with TLS", Kind::Idle, Always, |_, stage| dressed(stage, 0, true, |_| {})),
        state("idle, compressed", Kind::Idle, Always, |_, stage| {
            dressed(stage, flag::COMPRESS, false, |wire| wire.run("select repeat('x', 10000)"))
        }),
        listed(
            "in transaction",
            state("in a transaction", Kind::Idle, Always, |_, stage| {
                at_hand(stage, |wire| wire.run("begin; insert into items values (7000, 'in a transaction')"))
            }),
        ),
        listed(
            "in transaction",
            state("in a transaction with a statement that failed", Kind::Idle, Always, |_, stage| {
                at_hand(stage, |wire| {
                    wire.run("begin; insert into items values (7001, 'in a transaction')");
                    wire.told("select nonsense");
                })
            }),
        ),
        state("with a cursor that is open", Kind::Idle, Always, |_, stage| {
            at_hand(stage, |wire| {
                let (id, _) = wire.prepare("select id from items order by id").expect("prepared");
                wire.send(&Wire::execution(id, 1, &[]));
                assert_eq!(wire.binary_answers().len(), 1);
                wire.say(command::STMT_FETCH, &[id.to_le_bytes(), 3u32.to_le_bytes()].concat());
                (0..4).for_each(|_| drop(wire.read().expect("three rows and an end")));
            })
        }),
        listed(
            "idle",
            state("half a query sent", Kind::Idle, Always, |_, stage| {
                at_hand(stage, |wire| wire.send(&say(command::QUERY, b"select 'half of it'")[..9]))
            }),
        ),
        state("half a long query sent", Kind::Busy, Always, |_, stage| {
            at_hand(stage, |wire| {
                let long = format!("select length('{}')", "x".repeat(2_000_000));
                wire.send(&say(command::QUERY, long.as_bytes())[..1_000_000]);
            })
        }),
        state("in a query", Kind::Busy, Always, |_, stage| running(stage, "select sleep(600)")),
        state("in a query, with TLS", Kind::Busy, Always, |_, stage| {
            seen_running(stage, dressed(stage, 0, true, |wire| wire.query("select sleep(600)")))
        }),
        state("in a query, compressed", Kind::Busy, Always, |_, stage| {
            seen_running(stage, dressed(stage, flag::COMPRESS, false, |wire| wire.query("select sleep(600)")))
        }),
        state("in a query, compressed, with TLS", Kind::Busy, Always, |_, stage| {
            seen_running(stage, dressed(stage, flag::COMPRESS, true, |wire| wire.query("select sleep(600)")))
        }),
        state("in a query within a transaction", Kind::Busy, Always, |_, stage| {
            running(stage, "begin; insert into items values (7002, 'in a query'); select sleep(600)")
        }),
        state("in the last of several statements", Kind::Busy, Always, |_, stage| {
            running(stage, "select 1; select 2; select sleep(600)")
        }),
        state("in a prepared statement", Kind::Busy, Always, |_, stage| {
            let entered = at_hand(stage, |wire| {
                let (id, _) = wire.prepare("select sleep(?)").expect("prepared");
                wire.send(&Wire::execution(id, 0, &[Some("600")]));
            });
            seen_running(stage, entered)
        }),
        state("in a row of statements sent ahead", Kind::Busy, Always, |_, stage| {
            sent(stage, say(command::QUERY, b"select sleep(0.2)").repeat(500))
        }),
        state("with a value that is sent in parts", Kind::Idle, Always, |_, stage| {
            at_hand(stage, |wire| {
                let (id, _) = wire.prepare("insert into items values (7005, ?)").expect("prepared");
                let part = [&id.to_le_bytes()[..], &[0, 0], b"a part"].concat();
                wire.say(command::STMT_SEND_LONG_DATA, &part);
                wire.run("select 1");
            })
        }),
        state("sending a file", Kind::Busy, Always, |_, stage| {
            dressed(stage, flag::LOCAL_FILES, false, |wire| {
                wire.query("load data local infile 'a file' into table items");
                assert_eq!(wire.read().expect("an answer")[0], 0xfb);
                (0..10).for_each(|_| wire.send_next(b"7004\tsent\n"));
            })
        }),
        // The server fills a buffer of 16 kB before it sends, so it nearly always stops within a row. The next buffer
        // may take longer than a cut waits: then it is the stopping that brings the rest out.
        state("rows on their way", Kind::Busy, Streaming, |_, stage| reading(running(stage, ROWS))),
        state("rows of a prepared statement on their way", Kind::Busy, Streaming, |_, stage| {
            let entered = at_hand(stage, |wire| {
                let (id, _) = wire.prepare(ROWS).expect("prepared");
                wire.send(&Wire::execution(id, 0, &[]));
            });
            reading(seen_running(stage, entered))
        }),
        state("rows on their way, compressed", Kind::Busy, Streaming, |_, stage| {
            reading(seen_running(stage, dressed(stage, flag::COMPRESS, false, |wire| wire.query(ROWS))))
        }),
        state("rows on their way, with TLS", Kind::Busy, Streaming, |_, stage| {
            reading(seen_running(stage, dressed(stage, 0, true, |wire| wire.query(ROWS))))
        }),
        // It does by itself in ten minutes.
        state("a row that the server has a part of", Kind::Busy, Streaming, |_, stage| {
            deaf(running(stage, "select repeat('x', 20000) union all select sleep(600)"))
        }),
        state("not reading", Kind::Busy, Perhaps, |_, stage| {
            deaf(running(stage, "select repeat('x', 1000) from items a, items b, items c"))
        }),
        state("not reading within a long row", Kind::Busy, Never, |_, stage| {
            deaf(running(stage, "select repeat('x', 20000000)"))
        }),
        // Last, because somebody else takes the connection that it waits for.
        state("waiting for a connection", Kind::Line, Always, waiting),
    ]
}

fn at_hand(stage: Scene<'_, '_>, go_on: impl FnOnce(&mut Wire)) -> There {
    let (mut client, names) = stage.login();
    go_on(client.wire());
    Entered { client, names: Some(names) }
}

/// With other capabilities than usual, or with TLS.
fn dressed(stage: Scene<'_, '_>, more: u32, tls: bool, go_on: impl FnOnce(&mut Wire)) -> There {
    let mut client = Hand::Wire(with(&stage.door(), more, tls));
    let names: Names = stage.fixture.names(&mut client);
    go_on(client.wire());
    Entered { client, names: Some(names) }
}

/// Has sent something that does not come to an end.
fn sent(stage: Scene<'_, '_>, bytes: Vec<u8>) -> There {
    let entered = at_hand(stage, |wire| wire.send(&bytes));
    seen_running(stage, entered)
}

fn seen_running(stage: Scene<'_, '_>, entered: There) -> There {
    let id = &entered.names.as_ref().expect("it is in").connection;
    let condition = format!("id = {id} and command <> 'Sleep'");
    wait_until("it runs", PATIENCE, || stage.node.place.count(&condition) > 0);
    entered
}

fn running(stage: Scene<'_, '_>, sql: &str) -> There {
    sent(stage, say(command::QUERY, sql.as_bytes()))
}

/// Takes what comes.
fn reading(entered: There) -> There {
    let Entered { client: Hand::Wire(mut wire), names } = entered else { panic!("not at hand") };
    let reader = std::thread::spawn(move || read_out(&mut wire));
    Entered { client: Hand::Reading(reader), names }
}

/// Takes nothing, so that everything on the way to it is full soon.
fn deaf(mut entered: There) -> There {
    let socket = entered.client.wire().socket();
    let mut first = [0; 4 << 10];
    wait_until("it has begun", PATIENCE, || socket.peek(&mut first).is_ok_and(|count| count == first.len()));
    std::thread::sleep(Duration::from_millis(200));
    entered
}

fn waiting(_: &MySql, stage: Scene<'_, '_>) -> There {
    stage.hold();
    let (mut wire, response) = halfway(&stage.narrow_door());
    wire.send(&packet(1, &response));
    let accepted = |line: &Value| line["user"] == "alice" && line["target"] == "narrow";
    wait_until("it is let in", PATIENCE, || stage.node.events("login_accepted").iter().any(accepted));
    Entered { client: Hand::Wire(wire), names: None }
}
