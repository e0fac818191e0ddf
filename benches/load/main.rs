//! Tidegate against the direct connection and PgBouncer, on a real server, in one run.
//!
//! ```text
//! cargo bench --bench load -- [--rounds N] [--seconds N] [--only NAME] [--without tidegate|pgbouncer] [--write]
//! ```
//!
//! The three take turns in every round and the order rotates, so that what else the machine does meets
//! all of them. Throughput is told as a ratio to the direct connection of the same round, cost as CPU
//! seconds of the proxy: on a machine where client, proxy and server share the cores only the latter
//! carries over to another one. `--write` puts the tables into `benches/load/results.md`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod storm;
#[path = "../../tests/live/support/mod.rs"]
#[allow(dead_code, unused_imports, unused_macros)]
mod support;

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::server::{self, ROLE_PASSWORD, as_server, own};
use support::wire::Wire;
use support::{Node, PATIENCE, Place, Version, janitor, text, wait_until, write_private};

const SCALE: &str = "10";
const STORM_THREADS: usize = 4;
/// Rows of 100 bytes with their newline.
const COPY: &str = "copy (select repeat('x', 99) from generate_series(1, 5000000)) to stdout";

struct Arguments {
    rounds: usize,
    seconds: u64,
    only: Option<String>,
    without: Vec<String>,
    write: bool,
}

/// One way to the server.
struct Party {
    name: &'static str,
    port: u16,
    user: String,
    password: String,
    /// Of the proxy; the direct way has none.
    pid: Option<u32>,
}

#[derive(Clone, Copy)]
enum Kind {
    Query { mode: &'static str, clients: u32 },
    Storm,
    Copy,
}

struct Measure {
    name: &'static str,
    kind: Kind,
    /// What one unit of work is, and how many of them the CPU is told for.
    unit: &'static str,
    per: f64,
}

const MEASURES: &[Measure] = &[
    query("simple c=8", "simple", 8),
    query("simple c=32", "simple", 32),
    query("extended c=8", "extended", 8),
    query("extended c=32", "extended", 32),
    query("prepared c=8", "prepared", 8),
    query("prepared c=32", "prepared", 32),
    Measure { name: "new connections", kind: Kind::Storm, unit: "connections/s", per: 1_000.0 },
    Measure { name: "COPY out", kind: Kind::Copy, unit: "bytes/s", per: 1e9 },
];

const fn query(name: &'static str, mode: &'static str, clients: u32) -> Measure {
    Measure { name, kind: Kind::Query { mode, clients }, unit: "queries/s", per: 10_000.0 }
}

/// What one run came to.
#[derive(Clone, Copy)]
struct Run {
    units: f64,
    seconds: f64,
    cpu: f64,
}

fn main() {
    let Some(arguments) = arguments() else {
        eprintln!("usage: [--rounds N] [--seconds N] [--only NAME] [--without PARTY]… [--write]");
        std::process::exit(2);
    };
    let bench = Bench::start(&arguments);
    let mut report = bench.heading(&arguments);
    println!("{report}");
    for measure in
        MEASURES.iter().filter(|m| arguments.only.as_ref().is_none_or(|only| m.name.contains(only.as_str())))
    {
        let table = bench.table(measure, &arguments);
        println!("{table}");
        report.push('\n');
        report.push_str(&table);
    }
    if arguments.write {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/load/results.md");
        std::fs::write(&file, report).expect("the results are written");
    }
}

fn arguments() -> Option<Arguments> {
    let mut arguments = Arguments { rounds: 3, seconds: 3, only: None, without: Vec::new(), write: false };
    let mut given = std::env::args().skip(1);
    while let Some(word) = given.next() {
        match word.as_str() {
            // Cargo's own.
            "--bench" => {}
            "--rounds" => arguments.rounds = given.next()?.parse().ok()?,
            "--seconds" => arguments.seconds = given.next()?.parse().ok()?,
            "--only" => arguments.only = Some(given.next()?),
            "--without" => arguments.without.push(given.next()?),
            "--write" => arguments.write = true,
            _ => return None,
        }
    }
    (arguments.rounds > 0).then_some(arguments)
}

// ---------------------------------------------------------------------------------------------
// The parties

struct Bench {
    parties: Vec<Party>,
    database: String,
    versions: Vec<String>,
    _node: Option<Node>,
    _place: Option<Place>,
    _bouncer: Option<Bouncer>,
}

struct Bouncer(Child);

impl Drop for Bouncer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        janitor::forget(self.0.id());
    }
}

impl Bench {
    fn start(arguments: &Arguments) -> Self {
        let with = |name: &str| !arguments.without.iter().any(|other| other == name);
        // The servers' own logs and the tests' settings cost what nobody measures here.
        let settings = "log_statement = 'none'\nshared_buffers = 256MB";
        let place = Place::alone(Version::Distribution, server::Options { settings, ..Default::default() });
        let (database, role) = (place.database.clone(), place.role("read"));
        fill(&place);
        let mut versions = vec![format!("PostgreSQL {}", place.ask("show server_version"))];
        let direct = Party {
            name: "direct",
            port: place.port,
            user: role.clone(),
            password: ROLE_PASSWORD.into(),
            pid: None,
        };
        let mut parties = vec![direct];
        let mut bouncer = None;
        if with("pgbouncer") {
            let (child, port, version) = start_pgbouncer(&place);
            versions.push(version);
            let pid = Some(child.0.id());
            parties.push(Party { name: "PgBouncer", port, user: role, password: ROLE_PASSWORD.into(), pid });
            bouncer = Some(child);
        }
        let (mut node, mut rest) = (None, None);
        if with("tidegate") {
            let options = support::Options {
                pool: "size_max = 100",
                limits: "workers = 2",
                target: "tls = \"disable\"\n",
                audit: "",
                log: "warn",
                ..Default::default()
            };
            let started = Node::with(place, options);
            let alice = started.person("alice", "read");
            versions.push(text(&started.tg(&["--version"]).stdout).trim().to_owned());
            let pid = Some(started.pid());
            parties.push(Party {
                name: "Tidegate",
                port: started.port,
                user: alice.name,
                password: alice.secret,
                pid,
            });
            node = Some(started);
        } else {
            rest = Some(place);
        }
        Self { parties, database, versions, _node: node, _place: rest, _bouncer: bouncer }
    }

    fn heading(&self, arguments: &Arguments) -> String {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        format!(
            "# Load\n\n{}; {cores} cores shared by client, proxy and server; loopback without TLS; PgBouncer pools by \
             session, Tidegate writes its audit trail.\n{} rounds of {} s each; ratio to the direct connection of the \
             same round as min / median / max.\n",
            self.versions.join(", "),
            arguments.rounds,
            arguments.seconds,
        )
    }

    fn table(&self, measure: &Measure, arguments: &Arguments) -> String {
        let mut runs: Vec<Vec<Run>> = vec![Vec::new(); self.parties.len()];
        for round in 0..arguments.rounds {
            for turn in 0..self.parties.len() {
                let who = (turn + round) % self.parties.len();
                runs[who].push(self.run(&self.parties[who], measure.kind, arguments.seconds));
            }
        }
        let speed = |run: &Run| run.units / run.seconds;
        let mut table = format!(
            "## {}\n\n| | {} | ratio to direct | CPU s per {} |\n|---|---|---|---|\n",
            measure.name,
            measure.unit,
            match measure.kind {
                Kind::Query { .. } => "10,000 queries",
                Kind::Storm => "1,000 connections",
                Kind::Copy => "GB",
            }
        );
        for (party, own) in self.parties.iter().zip(&runs) {
            let ratios = spread(own.iter().zip(&runs[0]).map(|(run, direct)| speed(run) / speed(direct)));
            let [_, middle, _] = spread(own.iter().map(speed));
            let [_, cpu, _] = spread(own.iter().map(|run| run.cpu / run.units * measure.per));
            let cpu = if party.pid.is_some() { format!("{cpu:.3}") } else { "-".into() };
            let ratios = ratios.map(|ratio| format!("{ratio:.2}")).join(" / ");
            writeln!(table, "| {} | {middle:.0} | {ratios} | {cpu} |", party.name).expect("a string grows");
        }
        table
    }

    fn run(&self, party: &Party, kind: Kind, seconds: u64) -> Run {
        // What a run left over (resets, closing connections) is not the next one's.
        std::thread::sleep(Duration::from_millis(500));
        let before = party.pid.map_or(0.0, cpu_seconds);
        let began = Instant::now();
        let units = match kind {
            Kind::Query { mode, clients } => self.queries(party, mode, clients, seconds),
            Kind::Storm => {
                storm::run(party.port, &party.user, &party.password, &self.database, STORM_THREADS, seconds)
            }
            Kind::Copy => self.copy(party),
        };
        let elapsed = match kind {
            // pgbench counts its own time, without its start.
            Kind::Query { .. } => seconds as f64,
            _ => began.elapsed().as_secs_f64(),
        };
        let cpu = party.pid.map_or(0.0, cpu_seconds) - before;
        Run { units, seconds: elapsed, cpu }
    }

    fn queries(&self, party: &Party, mode: &str, clients: u32, seconds: u64) -> f64 {
        let output = Command::new("pgbench")
            .args(["-n", "-S", "-M", mode, "-j", "2", "-h", "127.0.0.1"])
            .args(["-c", &clients.to_string(), "-T", &seconds.to_string()])
            .args(["-p", &party.port.to_string(), "-U", &party.user, &self.database])
            .envs([
                ("PGPASSWORD", party.password.as_str()),
                ("PGSSLMODE", "disable"),
                ("PGGSSENCMODE", "disable"),
            ])
            .output()
            .expect("pgbench runs");
        let said = text(&output.stdout);
        assert!(output.status.success(), "{}: {said}{}", party.name, text(&output.stderr));
        let line =
            said.lines().find_map(|line| line.strip_prefix("number of transactions actually processed: "));
        line.and_then(|line| line.split('/').next()?.trim().parse().ok()).expect("pgbench says how many")
    }

    fn copy(&self, party: &Party) -> f64 {
        use std::io::Read;
        let parameters = [("database", self.database.as_str())];
        let wire =
            Wire::login(party.port, &party.user, &party.password, &parameters).map_err(|refused| refused.0);
        let mut wire = wire.unwrap_or_else(|told| panic!("{}: {told:?}", party.name));
        wire.query(COPY);
        let mut buffer = vec![0; 256 << 10];
        let mut total = 0;
        loop {
            let count = wire.socket.read(&mut buffer).expect("the rows come");
            assert!(count > 0, "{} closed in the middle", party.name);
            total += count;
            // ReadyForQuery, as the last message: nothing else ends in these bytes.
            if buffer[..count].ends_with(b"Z\0\0\0\x05I") {
                break;
            }
        }
        wire.goodbye();
        total as f64
    }
}

/// The least, the median and the greatest.
fn spread(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    [values[0], values[values.len() / 2], values[values.len() - 1]]
}

/// User and system time of all threads of a process.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the proxy runs");
    // The name in parentheses may hold anything; utime and stime are fields 14 and 15.
    let fields: Vec<&str> = stat[stat.rfind(')').expect("a name") + 2..].split(' ').collect();
    let ticks: u64 =
        [fields[11], fields[12]].iter().map(|field| field.parse::<u64>().expect("a number")).sum();
    // USER_HZ, which Linux keeps at 100 for all that reads /proc.
    ticks as f64 / 100.0
}

fn fill(place: &Place) {
    let config = place.superuser(&place.database);
    let password = text(config.get_password().expect("it has one"));
    let made = Command::new("pgbench")
        .args(["-i", "-q", "-s", SCALE, "-h", "127.0.0.1", "-U", "postgres"])
        .args(["-p", &place.port.to_string(), &place.database])
        .env("PGPASSWORD", password)
        .stdin(Stdio::null())
        .output()
        .expect("pgbench is installed: benches/load/setup");
    assert!(made.status.success(), "{}", text(&made.stderr));
    let role = place.role("read");
    place.master().run(&format!("grant select on all tables in schema public to {role}"));
    place.master().run("vacuum analyze");
}

fn start_pgbouncer(place: &Place) -> (Bouncer, u16, String) {
    let setup = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/load/setup");
    let found = Command::new(setup).stderr(Stdio::inherit()).output().expect("benches/load/setup runs");
    assert!(found.status.success(), "benches/load/setup failed");
    let program = text(&found.stdout).trim().to_owned();
    let version = Command::new(&program).arg("--version").output().expect("it runs");
    let version = text(&version.stdout).lines().next().expect("a line").to_owned();
    let folder = janitor::new_folder("bouncer");
    let port = janitor::free_port();
    let role = place.role("read");
    // The server's own verifier: PgBouncer then derives nothing on its login path, towards either side.
    let verifier = place.ask(&format!("select rolpassword from pg_authid where rolname = '{role}'"));
    write_private(&folder.join("users.txt"), &format!("\"{role}\" \"{verifier}\"\n"));
    write_private(
        &folder.join("pgbouncer.ini"),
        &format!(
            "[databases]\n{database} = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {folder}/users.txt\npool_mode = session\n\
             default_pool_size = 100\nmax_client_conn = 2000\nlog_connections = 0\nlog_disconnections = 0\n\
             ignore_startup_parameters = extra_float_digits\nlogfile = {folder}/log\n",
            place.port,
            database = place.database,
            folder = folder.display(),
        ),
    );
    [&folder, &folder.join("users.txt"), &folder.join("pgbouncer.ini")]
        .into_iter()
        .for_each(|path| own(path));
    let child = as_server(Path::new(&program))
        .arg("-q")
        .arg(folder.join("pgbouncer.ini"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("PgBouncer runs");
    janitor::watch(child.id());
    let child = Bouncer(child);
    wait_until("PgBouncer listens", PATIENCE, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    (child, port, version)
}
