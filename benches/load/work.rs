//! What is asked of each way to the server, and what one run of it came to.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::client::Login;
use crate::party::{Party, cpu_seconds};
use crate::storm;
use crate::support::text;
use crate::support::wire::{Wire, packet};

const STORM_THREADS: usize = 4;
const PACE_CLIENTS: u32 = 8;
const PACE_RATE: u32 = 2_000;
/// One line of the bulk, 100 bytes with its newline.
const LINE: [u8; 100] = {
    let mut line = [b'x'; 100];
    line[99] = b'\n';
    line
};

#[derive(Clone, Copy)]
pub enum Work {
    Query {
        mode: &'static str,
        clients: u32,
    },
    Storm,
    /// Over TLS, each with a whole handshake, or resuming.
    TlsStorm {
        resume: bool,
    },
    CopyOut,
    CopyIn,
    /// So many queries a second and no more.
    Pace,
}

/// What one run came to.
#[derive(Clone, Copy, Default)]
pub struct Run {
    /// Queries, connections, bytes.
    pub units: f64,
    pub seconds: f64,
    /// CPU seconds of the proxy.
    pub cpu: f64,
    /// Microseconds in the middle, of paced queries.
    pub middle: f64,
}

impl Run {
    pub fn rate(&self) -> f64 {
        self.units / self.seconds
    }

    /// CPU seconds for so many units.
    pub fn cost(&self, per: f64) -> f64 {
        self.cpu / self.units * per
    }
}

/// How much is measured.
pub struct Plan {
    pub quick: bool,
    pub rounds: usize,
    pub seconds: u64,
    pub workers: usize,
    pub only: Vec<String>,
}

impl Plan {
    pub fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.names(part)
    }

    /// Of parts of one kind: those that are named, or all where none of them is.
    pub fn wants_of(&self, all: &[&str], part: &str) -> bool {
        self.names(part) || !all.iter().any(|part| self.names(part))
    }

    fn names(&self, part: &str) -> bool {
        self.only.iter().any(|only| only == part)
    }

    /// The runs of each party, in turns; none of one that has no part in it.
    pub fn turns<P>(&self, all: &[P], run: impl Fn(&P) -> Option<Run>) -> Vec<Vec<Run>> {
        let mut runs: Vec<Vec<Run>> = vec![Vec::new(); all.len()];
        for round in 0..self.rounds {
            for turn in 0..all.len() {
                let who = (turn + round) % all.len();
                runs[who].extend(run(&all[who]));
            }
        }
        runs
    }
}

/// Lines of a COPY.
pub fn lines(quick: bool) -> u32 {
    if quick { 1_000_000 } else { 4_000_000 }
}

impl Work {
    pub fn run(self, party: &Party, seconds: u64, lines: u32) -> Run {
        // What a run left over (resets, closing connections) is not the next one's.
        std::thread::sleep(Duration::from_millis(300));
        let pid = if matches!(self, Self::TlsStorm { .. }) { party.tls_pid } else { party.pid };
        let login = match self {
            Self::TlsStorm { resume } => party.with_tls(resume),
            _ => party.login.clone(),
        };
        let before = pid.map_or(0.0, cpu_seconds);
        let began = Instant::now();
        let mut run = Run::default();
        match self {
            // pgbench counts its own time, without its start.
            Self::Query { mode, clients } => {
                run = Run { units: queries(&login, mode, clients, seconds), seconds: seconds as f64, ..run };
            }
            Self::Storm => run.units = storm::run(&login, STORM_THREADS, seconds).logins,
            Self::TlsStorm { resume } => {
                let storm = storm::run(&login, STORM_THREADS, seconds);
                assert!(resume || storm.resumed == 0.0, "{}: resumed", party.name);
                assert!(
                    !resume || party.name != "Tidegate" || storm.resumed > 0.9 * storm.logins,
                    "{}: {} of {} resumed",
                    party.name,
                    storm.resumed,
                    storm.logins
                );
                run.units = storm.logins;
            }
            Self::CopyOut => run.units = copy_out(&login, lines),
            Self::CopyIn => run.units = copy_in(&login, lines),
            Self::Pace => (run.units, run.middle) = pace(&login, seconds),
        }
        if run.seconds == 0.0 {
            run.seconds = began.elapsed().as_secs_f64();
        }
        run.cpu = pid.map_or(0.0, cpu_seconds) - before;
        run
    }
}

fn pgbench(login: &Login, mode: &str, clients: u32, seconds: u64) -> Command {
    let mut command = Command::new("pgbench");
    command
        .args(["-n", "-S", "-M", mode, "-j", "2", "-h", "127.0.0.1"])
        .args(["-c", &clients.to_string(), "-T", &seconds.to_string()])
        .args(["-p", &login.port.to_string(), "-U", &login.user, &login.database])
        .envs([
            ("PGPASSWORD", login.password.as_str()),
            ("PGSSLMODE", "disable"),
            ("PGGSSENCMODE", "disable"),
        ])
        .stdin(Stdio::null());
    command
}

fn queries(login: &Login, mode: &str, clients: u32, seconds: u64) -> f64 {
    let output = pgbench(login, mode, clients, seconds).output().expect("pgbench runs");
    transactions(&output)
}

fn transactions(output: &std::process::Output) -> f64 {
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    let line = said.lines().find_map(|line| line.strip_prefix("number of transactions actually processed: "));
    line.and_then(|line| line.split('/').next()?.trim().parse().ok()).expect("pgbench says how many")
}

/// System calls of a proxy for each query, counted by the kernel while they run; the logins are among them.
pub fn calls(party: &Party, mode: &str, seconds: u64) -> Option<f64> {
    let pgbench = pgbench(&party.login, mode, 8, seconds);
    let mut counting = Command::new("perf");
    counting
        .args(["stat", "-x", ";", "-e", "raw_syscalls:sys_enter", "-p", &party.pid?.to_string(), "--"])
        .arg(pgbench.get_program())
        .args(pgbench.get_args())
        .stdin(Stdio::null());
    for (name, value) in pgbench.get_envs() {
        counting.env(name, value.unwrap_or_default());
    }
    let counted = counting.output().expect("perf is installed: benches/load/setup");
    let said = text(&counted.stderr);
    let count = said.lines().find_map(|line| line.split_once(';')?.0.parse::<f64>().ok());
    // Where the kernel lets nobody count, there is nothing to tell.
    Some(count? / transactions(&counted))
}

fn wire(login: &Login) -> Wire {
    let parameters = [("database", login.database.as_str())];
    let wire = Wire::login(login.port, &login.user, &login.password, &parameters);
    wire.unwrap_or_else(|refused| panic!("{}: {:?}", login.user, refused.0))
}

fn copy_out(login: &Login, lines: u32) -> f64 {
    let mut wire = wire(login);
    wire.query(&format!("copy (select repeat('x', 99) from generate_series(1, {lines})) to stdout"));
    let mut buffer = vec![0; 256 << 10];
    let mut total = 0;
    loop {
        let count = wire.socket.read(&mut buffer).expect("the rows come");
        assert!(count > 0, "closed in the middle");
        total += count;
        // ReadyForQuery, as the last message: nothing else ends in these bytes.
        if buffer[..count].ends_with(b"Z\0\0\0\x05I") {
            break;
        }
    }
    wire.goodbye();
    total as f64
}

/// Into nowhere: the server reads the lines and keeps none.
fn copy_in(login: &Login, lines: u32) -> f64 {
    let mut wire = wire(login);
    wire.query("copy sink from stdin where false");
    assert_eq!(wire.read().expect("an answer").tag, 'G');
    // As psql does: 8 kB a message; and several of them a write.
    let message = packet('d', &LINE.repeat(80));
    let piece = message.repeat(8);
    let pieces = lines / 640;
    for _ in 0..pieces {
        wire.socket.write_all(&piece).expect("the peer reads");
    }
    wire.send(&packet('c', &[]));
    let answers = wire.until_ready();
    assert!(answers.iter().any(|message| message.tag == 'C'), "{answers:?}");
    wire.goodbye();
    (piece.len() * pieces as usize) as f64
}

/// Queries at a fixed rate: how many, and the middle of the times they took in microseconds.
fn pace(login: &Login, seconds: u64) -> (f64, f64) {
    let gap = Duration::from_secs(1) * PACE_CLIENTS / PACE_RATE;
    let mut took: Vec<f64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..PACE_CLIENTS)
            .map(|number| {
                scope.spawn(move || {
                    let mut wire = wire(login);
                    let mut took = Vec::new();
                    let mut next = Instant::now() + gap * number / PACE_CLIENTS;
                    let end = next + Duration::from_secs(seconds);
                    while next < end {
                        std::thread::sleep(next.saturating_duration_since(Instant::now()));
                        let began = Instant::now();
                        wire.query("select abalance from pgbench_accounts where aid = 4711");
                        wire.until_ready();
                        took.push(began.elapsed().as_secs_f64() * 1e6);
                        next += gap;
                    }
                    wire.goodbye();
                    took
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a client ends")).collect()
    });
    took.sort_by(f64::total_cmp);
    (took.len() as f64, took[took.len() / 2])
}
