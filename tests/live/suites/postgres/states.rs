//! The states that a session with PostgreSQL can be in.

use std::time::Duration;

use serde_json::Value;

use super::super::cut::{Entered, Hears, Kind, Stage, State};
use super::{Hand, Postgres, extended, halfway, read_out};
use crate::support::wire::{Wire, packet, string};
use crate::support::{Client, PATIENCE, tls, wait_until};

type There = Entered<Postgres>;
type Scene<'a, 'b> = &'a Stage<'b, Postgres>;

fn state(
    name: &'static str,
    kind: Kind,
    hears: Hears,
    enter: fn(&Postgres, Scene<'_, '_>) -> There,
) -> State<Postgres> {
    State { name, kind, hears, listed: if kind == Kind::Busy { "running" } else { "in transaction" }, enter }
}

/// One that the proxy calls otherwise than by its kind.
fn listed(listed: &'static str, state: State<Postgres>) -> State<Postgres> {
    State { listed, ..state }
}

/// Keeps an idle session on its connection.
const PIN: &str = "select pg_advisory_lock_shared(4711)";

pub fn all() -> Vec<State<Postgres>> {
    use Hears::{Always, Never, Perhaps, Streaming};
    vec![
        state("in the middle of a login", Kind::Login, Always, |_, stage| {
            let (wire, scram) = halfway(&stage.door());
            Entered { client: Hand::Halfway(wire, scram), names: None }
        }),
        listed(
            "pinned",
            state("idle", Kind::Idle, Always, |_, stage| at_hand(stage, |wire| done(wire, PIN))),
        ),
        listed("pinned", state("idle, with TLS", Kind::Idle, Always, |_, stage| with_tls(stage, PIN, None))),
        listed("parked", state("parked", Kind::Idle, Always, |_, stage| at_hand(stage, |_| {}))),
        listed(
            "parked",
            state("parked, with TLS", Kind::Idle, Always, |_, stage| with_tls(stage, "select 1", None)),
        ),
        state("in a transaction", Kind::Idle, Always, |_, stage| {
            at_hand(stage, |wire| done(wire, "begin; insert into items values (7000, 'in a transaction')"))
        }),
        state("in a failed transaction", Kind::Idle, Always, |_, stage| {
            at_hand(stage, |wire| {
                done(wire, "begin; insert into items values (7001, 'in a failed transaction')");
                wire.query("select nonsense");
                assert_eq!(wire.tags(), "EZ");
            })
        }),
        listed(
            "idle",
            state("half a query sent", Kind::Idle, Always, |_, stage| {
                at_hand(stage, |wire| wire.send(&packet('Q', &string("select 'half of it'"))[..9]))
            }),
        ),
        state("half a long query sent", Kind::Busy, Always, |_, stage| {
            at_hand(stage, |wire| {
                let long = format!("select length('{}')", "x".repeat(2_000_000));
                wire.send(&packet('Q', &string(&long))[..1_000_000]);
            })
        }),
        state("in a query", Kind::Busy, Always, |_, stage| running(stage, "select pg_sleep(600)")),
        state("in a query, with TLS", Kind::Busy, Always, |_, stage| {
            with_tls(stage, "select 1", Some("select pg_sleep(600)"))
        }),
        state("in a query within a transaction", Kind::Busy, Always, |_, stage| {
            running(stage, "begin; insert into items values (7002, 'in a query'); select pg_sleep(600)")
        }),
        state("in a row of a pipeline", Kind::Busy, Always, |_, stage| {
            let one = [extended("select pg_sleep(0.2)"), packet('S', &[])].concat();
            sent(stage, one.repeat(500))
        }),
        state("in a pipeline without its end", Kind::Busy, Always, |_, stage| {
            at_hand(stage, |wire| {
                let sql = "insert into items values (7003, 'in a pipeline')";
                wire.send(&[extended(sql), packet('H', &[])].concat());
                let answers: String = (0..3).map(|_| wire.read().expect("an answer").tag).collect();
                assert_eq!(answers, "12C");
            })
        }),
        state("copying in", Kind::Busy, Always, |_, stage| {
            at_hand(stage, |wire| {
                wire.query("copy items from stdin");
                assert_eq!(wire.read().expect("an answer").tag, 'G');
                wire.send(&packet('d', b"7004\tcopied\n").repeat(10));
            })
        }),
        // The server fills a buffer of 8 kB before it sends, so it nearly always stops within a row, and goes on
        // with it a moment later.
        state("copying out", Kind::Busy, Streaming, |_, stage| {
            let rows = "select repeat('x', 3000), pg_sleep(0.005), generate_series(1, 1000000000)";
            reading(running(stage, &format!("copy ({rows}) to stdout")))
        }),
        state("rows on their way", Kind::Busy, Streaming, |_, stage| {
            let rows = "select repeat('x', 3000), pg_sleep(0.005), generate_series(1, 1000000000)";
            reading(running(stage, rows))
        }),
        // Stopping the statement is what brings the rest out.
        state("a row that the server has a part of", Kind::Busy, Streaming, |_, stage| {
            deaf(running(stage, "select repeat('x', 9000) union all select pg_sleep(600)::text"))
        }),
        state("not reading", Kind::Busy, Perhaps, |_, stage| {
            let sql = "copy (select repeat('x', 1000), generate_series(1, 1000000000)) to stdout";
            deaf(running(stage, sql))
        }),
        state("not reading within a long row", Kind::Busy, Never, |_, stage| {
            deaf(running(stage, "select repeat('x', 20000000)"))
        }),
        // Last, because somebody else takes the connection that these wait for.
        state("waiting for a connection", Kind::Line, Always, waiting),
        listed("waiting", state("waiting for a connection again", Kind::Busy, Always, waiting_again)),
    ]
}

fn at_hand(stage: Scene<'_, '_>, go_on: impl FnOnce(&mut Wire)) -> There {
    let (mut client, names) = stage.login();
    go_on(client.wire());
    Entered { client, names: Some(names) }
}

fn done(wire: &mut Wire, sql: &str) {
    wire.query(sql);
    let answers = wire.until_ready();
    assert!(answers.iter().all(|message| message.tag != 'E'), "{sql}: {answers:?}");
}

/// Has sent something that does not come to an end.
fn sent(stage: Scene<'_, '_>, bytes: Vec<u8>) -> There {
    let entered = at_hand(stage, |wire| wire.send(&bytes));
    let pid = &entered.names.as_ref().expect("it is in").connection;
    let condition = format!("pid = {pid} and state = 'active'");
    wait_until("it runs", PATIENCE, || stage.node.place.count(&condition) > 0);
    entered
}

fn running(stage: Scene<'_, '_>, sql: &str) -> There {
    sent(stage, packet('Q', &string(sql)))
}

/// Takes what comes.
fn reading(entered: There) -> There {
    let Entered { client: Hand::Wire(mut wire), names } = entered else { panic!("not at hand") };
    let reader = std::thread::spawn(move || read_out(&mut wire));
    Entered { client: Hand::Reading(reader), names }
}

/// Takes nothing, so that everything on the way to it is full soon.
fn deaf(mut entered: There) -> There {
    let socket = &entered.client.wire().socket;
    let mut first = [0; 4 << 10];
    wait_until("it has begun", PATIENCE, || socket.peek(&mut first).is_ok_and(|count| count == first.len()));
    std::thread::sleep(Duration::from_millis(200));
    entered
}

fn waiting(_: &Postgres, stage: Scene<'_, '_>) -> There {
    stage.hold();
    let (mut wire, scram) = halfway(&stage.narrow_door());
    wire.send(&packet('p', scram.message()));
    // The early session is the other one.
    let accepted = |line: &Value| line["user"] == "alice" && line["target"] == "narrow";
    wait_until("it is let in", PATIENCE, || {
        stage.node.events("login_accepted").iter().filter(|line| accepted(line)).count() == 2
    });
    Entered { client: Hand::Wire(wire), names: None }
}

fn waiting_again(_: &Postgres, stage: Scene<'_, '_>) -> There {
    let (mut client, names) = stage.early();
    client.wire().query("select pg_sleep(600)");
    Entered { client, names: Some(names) }
}

/// Says something `first`, and leaves the other running.
fn with_tls(stage: Scene<'_, '_>, first: &str, sql: Option<&str>) -> There {
    let door = stage.door();
    let config = crate::support::client::config(door.port, &door.name, &door.secret, None);
    let client = Client::connect(&config, Some(tls::authority())).expect("let in");
    let stamp = client.one("show application_name");
    let session = stamp.split(['/', ' ']).nth(1).unwrap_or_default().to_owned();
    let names = super::Names { session, connection: client.backend_pid() };
    client.one(first);
    let running = sql.map(|sql| {
        let running = client.start(sql);
        let condition = format!("pid = {} and state = 'active'", names.connection);
        wait_until("it runs", PATIENCE, || stage.node.place.count(&condition) > 0);
        running
    });
    Entered { client: Hand::Tls(client, running), names: Some(names) }
}
