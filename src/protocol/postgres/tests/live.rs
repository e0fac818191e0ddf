//! Against a running server, over a plain blocking socket. Not run by default: name the server first.
//!
//! ```text
//! TIDEGATE_PG=127.0.0.1:5432 TIDEGATE_PG_USER=… TIDEGATE_PG_PASSWORD=… TIDEGATE_PG_DATABASE=… \
//!     cargo test --lib postgres::tests::live -- --ignored --test-threads=1
//! ```
//!
//! The user must not be a superuser, and may create tables in the schema `public`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::BytesMut;
use zeroize::Zeroizing;

use super::super::{Goal, Job, PostgresDial, PostgresFacts, PostgresScript, Settings};
use crate::credential::Secret;
use crate::protocol::session::{
    Dial, DialInput, DialStep, DialTls, Facts, Findings, Report, Script, ScriptStep, ServerErrorKind,
    Severity,
};

fn environment(name: &str) -> String {
    std::env::var(format!("TIDEGATE_PG{name}")).unwrap_or_else(|_| panic!("TIDEGATE_PG{name} is not set"))
}

/// A connection, with everything that went over it when a transcript is wanted.
struct Server {
    socket: TcpStream,
    input: BytesMut,
    transcript: String,
}

impl Server {
    fn connect() -> Self {
        let socket = TcpStream::connect(environment("")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self { socket, input: BytesMut::new(), transcript: String::new() }
    }

    fn write(&mut self, out: &mut BytesMut) {
        self.socket.write_all(out).unwrap();
        self.note('>', out);
        out.clear();
    }

    /// False at the end.
    fn read(&mut self) -> bool {
        let mut buffer = [0; 8192];
        let count = self.socket.read(&mut buffer).unwrap();
        self.note('<', &buffer[..count]);
        self.input.extend_from_slice(&buffer[..count]);
        count > 0
    }

    fn note(&mut self, side: char, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.transcript.push_str(&super::golden::line(side, bytes));
        }
    }

    fn dial(&mut self, mut machine: PostgresDial) -> Result<DialStep<PostgresFacts>, String> {
        let mut out = BytesMut::new();
        let mut step = machine.step(DialInput::Start, &mut out);
        loop {
            self.write(&mut out);
            match step.map_err(|error| error.to_string())? {
                DialStep::NeedBytes if self.read() => {
                    step = machine.step(DialInput::Bytes(&mut self.input), &mut out);
                }
                DialStep::NeedBytes => return Err("gone".into()),
                DialStep::Seal { .. } => return Err("seals".into()),
                end => return Ok(end),
            }
        }
    }

    fn run(&mut self, job: Job<'_>, facts: &PostgresFacts) -> Report {
        let mut machine = PostgresScript::run(job, facts);
        let mut out = BytesMut::new();
        loop {
            let step = machine.step(&mut self.input, &mut out).unwrap();
            self.write(&mut out);
            match step {
                ScriptStep::Done(report) => return report,
                ScriptStep::NeedBytes => assert!(self.read(), "the server closed"),
            }
        }
    }

    fn done(&mut self, job: Job<'_>, facts: &mut PostgresFacts) -> Findings {
        match self.run(job, facts) {
            Report::Done(findings) => {
                facts.apply(&findings);
                findings
            }
            other => panic!("{other:?}"),
        }
    }

    /// What a client does: one simple Query; gives its rows and ends at ReadyForQuery.
    fn query(&mut self, text: &str) -> Vec<String> {
        let mut out = BytesMut::new();
        postgres_protocol::message::frontend::query(text, &mut out).unwrap();
        self.write(&mut out);
        let mut reader = super::super::message::Reader::new(10_000);
        let mut rows = Vec::new();
        loop {
            while let Some(message) = reader.next(&mut self.input).unwrap() {
                match message.tag {
                    b'D' => rows.push(super::super::message::row(&message.body).unwrap().join("|")),
                    b'E' => panic!("{text}: {}", String::from_utf8_lossy(&message.body)),
                    b'Z' => return rows,
                    _ => {}
                }
            }
            assert!(self.read());
        }
    }
}

fn secret(user: &str, password: &str) -> Secret {
    Secret::new(user.into(), Zeroizing::new(password.into()), 1)
}

fn ours() -> Secret {
    secret(&environment("_USER"), &environment("_PASSWORD"))
}

fn login(plain: bool) -> Goal {
    Goal::Login { database: environment("_DATABASE"), plain }
}

fn dialled() -> (Server, PostgresFacts) {
    let mut server = Server::connect();
    match server.dial(PostgresDial::towards(login(false), DialTls::Without, &ours())).unwrap() {
        DialStep::Ready(facts) => (server, facts),
        DialStep::Refused(error) => panic!("{error}"),
        _ => panic!("not ready"),
    }
}

const DIRTY: [&str; 12] = [
    "BEGIN",
    "PREPARE remnant AS SELECT 1",
    "DECLARE remnant CURSOR WITH HOLD FOR SELECT 1",
    "COMMIT",
    "CREATE TEMPORARY TABLE remnant_table (i int)",
    "CREATE FUNCTION pg_temp.remnant_function() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "SELECT pg_advisory_lock(42)",
    "LISTEN remnant_channel",
    "SET TimeZone = 'Asia/Tokyo'",
    "SET statement_timeout = '1h'",
    "SET search_path = pg_temp",
    "SET application_name = 'somebody else'",
];

#[test]
#[ignore = "needs a running server"]
fn a_connection_is_dressed_used_and_reset() {
    let (mut server, mut facts) = dialled();
    assert!(facts.process_id > 0 && facts.secret_key.len() >= 4 && !facts.version.is_empty());
    let probe = server.done(Job::Probe, &mut facts);
    assert_eq!((probe.fingerprint.as_str(), probe.stateful.len()), ("", 0), "{probe:?}");
    server.done(Job::Ping, &mut facts);

    let settings = Settings {
        parameters: [
            ("client_encoding", "LATIN1"),
            ("search_path", "\"$user\", \"é'; DROP TABLE x\""),
            ("timezone", "Asia/Tokyo"),
        ]
        .map(|(name, value)| (name.into(), value.into()))
        .to_vec(),
        application_name: Some("psql".into()),
    };
    let findings = server.done(Job::Prepare { stamp: "alice/s-0", settings: &settings }, &mut facts);
    let reported = |facts: &PostgresFacts, name: &str| {
        facts
            .parameters
            .iter()
            .find(|(known, _)| **known == *name)
            .map(|(_, value)| value.to_string())
            .unwrap()
    };
    assert!(!findings.parameters.is_empty());
    assert_eq!(reported(&facts, "TimeZone"), "Asia/Tokyo");
    assert_eq!(reported(&facts, "application_name"), "alice/s-0 psql");
    assert_eq!(reported(&facts, "client_encoding"), "LATIN1");
    server.query("SET client_encoding = UTF8");
    assert_eq!(server.query("SHOW search_path"), ["\"$user\", \"é'; DROP TABLE x\""]);
    assert_eq!(server.query("SHOW client_connection_check_interval"), ["500ms"]);

    for text in DIRTY {
        server.query(text);
    }
    server.query("BEGIN");
    let reset = server.done(Job::Reset { in_transaction: true }, &mut facts);
    assert_eq!(reset.stateful, Vec::<String>::new());
    assert_eq!(facts.parameters, facts.dialled);
    assert_eq!(server.query("SHOW client_connection_check_interval"), ["500ms"]);
    assert_eq!(server.query("SHOW TimeZone"), [reported(&facts, "TimeZone")]);
    assert_eq!(server.query("SHOW application_name"), ["tidegate"]);
}

#[test]
#[ignore = "needs a running server"]
fn each_thing_that_is_left_is_seen() {
    for (text, what) in [
        ("PREPARE remnant AS SELECT 1", "a prepared statement is left"),
        ("BEGIN; DECLARE remnant CURSOR WITH HOLD FOR SELECT 1; COMMIT", "a cursor is left"),
        ("CREATE TEMPORARY TABLE remnant_table (i int)", "a temporary object is left"),
        (
            "CREATE FUNCTION pg_temp.remnant_function() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "a temporary object is left",
        ),
        ("CREATE TYPE pg_temp.remnant_type AS (i int)", "a temporary object is left"),
        ("SELECT pg_advisory_lock(42)", "an advisory lock is left"),
        ("SELECT pg_advisory_lock_shared(1, 2)", "an advisory lock is left"),
        ("LISTEN remnant_channel", "a channel that is listened to is left"),
        ("SET TimeZone = 'Asia/Tokyo'", "the setting TimeZone is not what it was after login"),
        ("SET application_name = 'x'", "the setting application_name is not what it was after login"),
        ("SET DateStyle = 'German'", "the setting DateStyle is not what it was after login"),
        ("SET ROLE pg_monitor", "acting as"),
        ("BEGIN", "a transaction is open"),
    ] {
        // The verification alone, without the DISCARD ALL that would clear it: the whole, and by a glimpse.
        for glimpse in [false, true] {
            let (mut server, mut facts) = dialled();
            let known = server.done(Job::Probe, &mut facts).catalogs.unwrap();
            assert!(known.starts_with("glimpse "), "{known}");
            if text.starts_with("SET ROLE") {
                server.query("SET client_min_messages = error");
            }
            server.query(text);
            let mut machine = PostgresScript::verify_only(&facts, glimpse.then_some(&known[..]));
            let mut out = BytesMut::new();
            let report = loop {
                let step = machine.step(&mut server.input, &mut out).unwrap();
                server.write(&mut out);
                match step {
                    ScriptStep::Done(report) => break report,
                    ScriptStep::NeedBytes => assert!(server.read()),
                }
            };
            // DISCARD ALL itself is what frees those, and it has no error that would leave one.
            if glimpse && what.contains("advisory") {
                continue;
            }
            let Report::Unclean(found) = report else { panic!("{text}: {report:?}") };
            assert!(found.contains(what), "{text}: {found}");
        }
    }
}

#[test]
#[ignore = "needs a running server"]
fn a_glance_sees_what_a_thorough_look_saw() {
    let (mut server, mut facts) = dialled();
    let known = server.done(Job::Probe, &mut facts).catalogs.unwrap();
    let glance = Job::Glance { in_transaction: false, known: &known, random: 1 };
    for text in &DIRTY {
        server.query(text);
    }
    // A temporary schema is there from now on: the whole is asked for, and finds nothing in it.
    let findings = server.done(glance, &mut facts);
    let names = |known: &str| known.split_once('\n').unwrap().1.to_owned();
    assert_eq!(findings.catalogs.as_deref().map(names), Some(names(&known)));
    let (mut server, mut facts) = dialled();
    for text in DIRTY.iter().filter(|text| !text.contains("TEMP") && !text.contains("pg_temp")) {
        server.query(text);
    }
    let findings = server.done(glance, &mut facts);
    assert_eq!(findings.catalogs, None, "a glance was enough");
    // The DDL above was committed meanwhile: a glimpse was not. Now nothing is.
    let known = findings.glanced.unwrap();
    assert!(known.starts_with("glance "), "{known}");
    let next = |server: &mut Server, facts: &mut PostgresFacts, known: &str| {
        server.done(Job::Glance { in_transaction: false, known, random: 1 }, facts)
    };
    let known = next(&mut server, &mut facts, &known).glanced.unwrap();
    assert!(known.starts_with("glimpse "), "{known}");
    assert_eq!(next(&mut server, &mut facts, &known).glanced, None, "a glimpse was enough");
    // Something that somebody else commits between two returns.
    let (mut other, _) = dialled();
    other.query("CREATE TABLE remnant_of_another (i int)");
    let findings = next(&mut server, &mut facts, &known);
    assert!(
        findings.catalogs.is_none() && findings.glanced.is_some_and(|known| known.starts_with("glance "))
    );
    other.query("DROP TABLE remnant_of_another");
    assert_eq!(facts.parameters, facts.dialled);
    assert_eq!(server.query("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"), ["0"]);
}

#[test]
#[ignore = "needs a running server"]
fn a_hostile_role_and_search_path_change_no_answer() {
    let (mut server, mut facts) = dialled();
    server.query("DROP SCHEMA IF EXISTS hostile CASCADE");
    server.query("CREATE SCHEMA hostile");
    for text in [
        "CREATE FUNCTION hostile.lie(text, text) RETURNS bool LANGUAGE sql AS 'SELECT false'",
        "CREATE FUNCTION hostile.lie(oid, oid) RETURNS bool LANGUAGE sql AS 'SELECT false'",
        "CREATE FUNCTION hostile.lie(name, name) RETURNS bool LANGUAGE sql AS 'SELECT false'",
        "CREATE FUNCTION hostile.lie(int, int) RETURNS bool LANGUAGE sql AS 'SELECT false'",
        "CREATE OPERATOR hostile.= (LEFTARG = text, RIGHTARG = text, FUNCTION = hostile.lie)",
        "CREATE OPERATOR hostile.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = hostile.lie)",
        "CREATE OPERATOR hostile.= (LEFTARG = name, RIGHTARG = name, FUNCTION = hostile.lie)",
        "CREATE OPERATOR hostile.= (LEFTARG = int, RIGHTARG = int, FUNCTION = hostile.lie)",
        "CREATE FUNCTION hostile.pg_backend_pid() RETURNS int LANGUAGE sql AS 'SELECT 0'",
        "CREATE FUNCTION hostile.set_config(text, text, bool) RETURNS text LANGUAGE sql AS 'SELECT NULL::text'",
        "CREATE FUNCTION hostile.current_setting(text, bool) RETURNS text LANGUAGE sql AS 'SELECT NULL::text'",
        "CREATE VIEW hostile.pg_prepared_statements AS SELECT 1 AS x WHERE false",
        "CREATE VIEW hostile.pg_roles AS SELECT 1 AS x WHERE false",
    ] {
        server.query(text);
    }
    let user = facts.user.clone();
    server.query(&format!("ALTER ROLE \"{user}\" SET search_path = hostile, pg_catalog"));
    server.query(&format!("ALTER ROLE \"{user}\" SET standard_conforming_strings = off"));
    server.query(&format!("ALTER ROLE \"{user}\" SET quote_all_identifiers = on"));
    let probe = server.done(Job::Probe, &mut facts);
    let (mut next, mut next_facts) = dialled();
    assert_eq!(next.query("SELECT 1 = 1"), ["f"], "the trap is not set");
    let second = next.done(Job::Probe, &mut next_facts);
    next.done(Job::Prepare { stamp: "alice/s-0", settings: &Settings::default() }, &mut next_facts);
    assert_eq!(next.query("SHOW application_name"), ["alice/s-0"]);
    let reset = next.done(Job::Reset { in_transaction: false }, &mut next_facts);
    next.query("PREPARE remnant AS SELECT 1");
    server.query(&format!("ALTER ROLE \"{user}\" RESET ALL"));
    server.query("DROP SCHEMA hostile CASCADE");

    assert_eq!(probe.fingerprint.lines().count(), 3, "{}", probe.fingerprint);
    assert_eq!(probe.fingerprint, second.fingerprint);
    assert_eq!(probe.fingerprint, reset.fingerprint);
    assert!(
        probe.fingerprint.contains("role \"\": \"search_path=hostile, pg_catalog\""),
        "{}",
        probe.fingerprint
    );
    assert_eq!(server.done(Job::Probe, &mut facts).fingerprint, "");
}

#[test]
#[ignore = "needs a running server"]
fn a_setting_that_the_server_refuses_is_named_and_costs_no_connection() {
    let (mut server, mut facts) = dialled();
    for (name, value) in [
        ("no_such_setting", "1"),
        ("timezone", "Nowhere"),
        ("log_statement", "none"),
        ("log_connections", "on"),
    ] {
        let settings = Settings {
            parameters: vec![("datestyle".into(), "German".into()), (name.into(), value.into())],
            application_name: None,
        };
        let Report::Refused(error) =
            server.run(Job::Prepare { stamp: "alice/s-0", settings: &settings }, &facts)
        else {
            panic!("{name} was taken");
        };
        assert_eq!((error.kind, error.message.as_str()), (ServerErrorKind::BadParameter, name), "{error:?}");
        server.done(Job::Reset { in_transaction: false }, &mut facts);
        assert_ne!(server.query("SHOW datestyle"), ["German, DMY"]);
    }
}

#[test]
#[ignore = "needs a running server"]
fn refusals_of_a_server_are_understood() {
    let attempt = |goal, secret: &Secret| match Server::connect()
        .dial(PostgresDial::towards(goal, DialTls::Without, secret))
        .unwrap()
    {
        DialStep::Refused(error) => error.kind,
        _ => panic!("not refused"),
    };
    let user = environment("_USER");
    assert_eq!(attempt(login(false), &secret(&user, "wrong")), ServerErrorKind::BadSecret);
    assert_eq!(attempt(login(false), &secret("nobody_there", "wrong")), ServerErrorKind::BadSecret);
    let nowhere = Goal::Login { database: "no_such_database".into(), plain: false };
    assert_eq!(attempt(nowhere, &ours()), ServerErrorKind::NoDatabase);
}

#[test]
#[ignore = "needs a running server"]
fn a_statement_is_interrupted() {
    let (mut server, facts) = dialled();
    let mut out = BytesMut::new();
    postgres_protocol::message::frontend::query("SELECT pg_sleep(60)", &mut out).unwrap();
    server.write(&mut out);
    std::thread::sleep(Duration::from_millis(200));
    let mut other = Server::connect();
    let goal = Goal::Interrupt(facts.interruption());
    assert!(matches!(other.dial(PostgresDial::towards(goal, DialTls::Without, &ours())), Ok(DialStep::Sent)));
    assert!(!other.read(), "the server answers a cancel request by closing");
    assert!(server.read());
    assert!(server.input.windows(5).any(|code| code == b"57014"));
}

#[test]
#[ignore = "needs a running server"]
fn a_connector_is_checked() {
    let (mut server, mut facts) = dialled();
    server.query("DROP TABLE IF EXISTS public.owned_by_connector");
    server.query("CREATE TABLE public.owned_by_connector (i int)");
    let read = server.done(Job::Check { level: "read" }, &mut facts).checks;
    let admin = server.done(Job::Check { level: "admin" }, &mut facts).checks;
    server.query("DROP TABLE public.owned_by_connector");
    for check in read.iter().chain(&admin) {
        println!("{:?} {} [{}]", check.severity, check.what, check.sql.as_deref().unwrap_or("-"));
    }
    let severity = |checks: &[crate::protocol::session::Check], what: &str| {
        checks.iter().find(|check| check.what.contains(what)).map(|check| check.severity)
    };
    assert_eq!(severity(&read, "owns public.owned_by_connector"), Some(Severity::Danger));
    assert_eq!(severity(&admin, "owns public.owned_by_connector"), Some(Severity::Note));
    assert_eq!(severity(&read, "pg_terminate_backend"), Some(Severity::Note));
    assert_eq!(severity(&read, "ALTER ROLE CURRENT_USER SET"), Some(Severity::Note));
    assert!(read.is_sorted_by_key(|check| std::cmp::Reverse(check.severity)));
}

/// Writes the transcripts that `golden.rs` replays. Besides the user of all tests it needs the logins
/// `plain_md5` (password `tg_md5`) and `plain_trust`.
#[test]
#[ignore = "needs a running server, and writes into the tree"]
fn record_transcripts() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/protocol/postgres/golden");
    let save = |name: &str, about: &str, server: &Server| {
        let text =
            format!("# {about}\n# Recorded by `record_transcripts` in tests/live.rs.\n{}", server.transcript);
        std::fs::write(folder.join(format!("{name}.txt")), text).unwrap();
    };
    let attempt = |name: &str, about: &str, goal: Goal, secret: &Secret| {
        let mut server = Server::connect();
        let way = crate::protocol::kit::postgres::lenient(DialTls::Without);
        let mut machine = PostgresDial::towards(goal, way, secret);
        machine.fix_nonce(super::golden::NONCE);
        let step = server.dial(machine).unwrap();
        let version = match &step {
            DialStep::Ready(facts) => format!(" {}", facts.version),
            _ => String::new(),
        };
        save(name, &format!("{about} PostgreSQL{version}."), &server);
    };
    let wrong = secret(&environment("_USER"), "wrong");
    attempt("dial-scram", "Tidegate logs in with SCRAM-SHA-256 to", login(false), &ours());
    attempt("dial-md5", "Tidegate logs in with md5 to", login(true), &secret("plain_md5", "tg_md5"));
    attempt("dial-trust", "Tidegate logs in without a password to", login(true), &secret("plain_trust", ""));
    attempt("dial-wrong-password", "Tidegate logs in with a wrong password to", login(false), &wrong);
    let nowhere = Goal::Login { database: "no_such_database".into(), plain: false };
    attempt("dial-no-database", "Tidegate asks for a database that is not there, of", nowhere, &ours());

    let settings = super::golden::settings("UTC");
    let refused = super::golden::settings("Nowhere");
    let dress = |settings| Job::Prepare { stamp: "alice/s-0", settings };
    for (name, before, job) in [
        ("script-probe", "", Job::Probe),
        ("script-prepare", "", dress(&settings)),
        ("script-prepare-refused", "", dress(&refused)),
        (
            "script-reset",
            "BEGIN; PREPARE remnant AS SELECT 1; SET TimeZone = 'Asia/Tokyo'",
            Job::Reset { in_transaction: true },
        ),
        ("script-reset-failed", "BEGIN; SELECT 1", Job::Reset { in_transaction: false }),
        ("script-ping", "", Job::Ping),
        ("script-ping-unclean", "BEGIN", Job::Ping),
        ("script-check", "", Job::Check { level: "read" }),
    ] {
        let (mut server, facts) = dialled();
        if !before.is_empty() {
            server.query(before);
        }
        server.transcript.clear();
        server.run(job, &facts);
        save(name, &format!("{name} on PostgreSQL {}, after {before:?}.", facts.version), &server);
    }
}
