//! The same on MariaDB, by MySQL's protocol: direct, the relay, HAProxy, Tidegate.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::party::{Proxy, cpu_seconds, memory, setup, start_haproxy, start_relay, version};
use crate::report::Report;
use crate::support::mysql::wire::{Login, command, say};
use crate::support::mysql::{Place, Release, Wire};
use crate::support::server::ROLE_PASSWORD;
use crate::support::{Node, Options, text};
use crate::work::{Plan, Run};

const ACCOUNTS: u32 = 100_000;
const STORM_THREADS: usize = 4;
const PACE_CLIENTS: u32 = 8;
const PACE_RATE: u32 = 2_000;
/// Sessions that do nothing, each with a connection and a thread at the server, as nothing is parked.
const IDLE: usize = 2_000;
const IDLE_QUICK: usize = 500;
/// For those through the relay and HAProxy, which keep the same for each.
const IDLE_FEW: usize = 300;

const TIDEGATE: &str = "Tidegate";

struct Party {
    name: &'static str,
    port: u16,
    user: String,
    password: String,
    database: String,
    pid: Option<u32>,
}

#[derive(Clone, Copy)]
enum Work {
    Text {
        clients: usize,
    },
    Prepared {
        clients: usize,
    },
    /// Connect, log in, one query, goodbye.
    Storm,
    /// So many rows of 100 bytes.
    Rows(u32),
    /// So many queries a second and no more.
    Pace,
}

/// Measures all; gives the tables.
pub fn run(plan: &Plan) -> String {
    let options = ["--general-log=0", "--max-connections=2600", "--back-log=1000"];
    let place = Place::alone(Release::Distribution, &options);
    fill(&place);
    let programs = setup();
    let direct = Party {
        name: "direct",
        port: place.port,
        user: place.role("read"),
        password: ROLE_PASSWORD.into(),
        database: place.database.clone(),
        pid: None,
    };
    let mut versions = vec![format!("MariaDB {}", place.ask("select version()"))];
    versions.push(version(&programs[1].0, &programs[1].1));
    let (relay, relay_port) = start_relay(place.port, plan.workers, None);
    let (haproxy, haproxy_port) = start_haproxy(&programs[1].1, place.port);
    let limits = format!("workers = {}", plan.workers);
    let options = Options {
        pool: "size_max = 2500",
        limits: &limits,
        target: "tls = \"disable\"\n",
        audit: "",
        log: "warn",
        ..Default::default()
    };
    let node = Node::with(place, options);
    let alice = node.user("alice");
    node.grant("alice", "read", "8h", &[]);
    versions.push(text(&node.tg(&["--version"]).stdout).trim().to_owned());
    let proxied = |name, port, proxy: &Proxy| Party {
        name,
        port,
        user: direct.user.clone(),
        password: direct.password.clone(),
        database: direct.database.clone(),
        pid: Some(proxy.id()),
    };
    let (relay_party, haproxy_party) =
        (proxied("tokio relay", relay_port, &relay), proxied("HAProxy", haproxy_port, &haproxy));
    let tidegate = Party {
        name: TIDEGATE,
        port: node.port,
        user: alice.name.clone(),
        password: alice.secret.clone(),
        database: direct.database.clone(),
        pid: Some(node.pid()),
    };
    let mut all = vec![direct, relay_party, haproxy_party, tidegate];
    let mut report = Report::new(all.iter().map(|party| party.name).collect(), versions.join(", "));
    // First: memory that a proxy has had from the system it keeps, and takes again without asking.
    if plan.wants("idle") {
        idle_sessions(plan, &node, &mut all, &mut report);
    }
    measure(plan, &all, &mut report);
    let Plan { rounds, seconds, workers, .. } = plan;
    report
        .finish(&format!("{rounds} rounds of {seconds} s; {workers} threads for the relay and for Tidegate"))
}

fn measure(plan: &Plan, all: &[Party], report: &mut Report) {
    if plan.wants("query") {
        for clients in [8, 32] {
            for (name, work) in [("text", Work::Text { clients }), ("prepared", Work::Prepared { clients })] {
                let runs = plan.turns(all, |party| Some(work.run(party, plan.seconds)));
                report.costs(
                    &format!("point query, {name}, {clients} clients: CPU s per 10,000"),
                    &runs,
                    10_000.0,
                );
                report.ratios(&format!("point query, {name}, {clients} clients: throughput / direct"), &runs);
            }
        }
    }
    if plan.wants("storm") {
        let runs = plan.turns(all, |party| Some(Work::Storm.run(party, plan.seconds)));
        report.ratios("new connection, one query: connections/s / direct", &runs);
        report.costs("new connection: CPU s per 1,000", &runs, 1_000.0);
    }
    if plan.wants("rows") {
        let rows = if plan.quick { 1_000_000 } else { 4_000_000 };
        let runs = plan.turns(all, |party| Some(Work::Rows(rows).run(party, plan.seconds)));
        report.costs("rows of 100 bytes: CPU s per GB", &runs, 1e9);
        report.ratios("rows of 100 bytes: bytes/s / direct", &runs);
    }
    if plan.wants("pace") {
        let runs = plan.turns(all, |party| Some(Work::Pace.run(party, plan.seconds)));
        report.added("added p50 at 2,000 queries a second, microseconds", &runs);
        report.costs("CPU s per 10,000 at that rate", &runs, 10_000.0);
    }
}

impl Work {
    fn run(self, party: &Party, seconds: u64) -> Run {
        // What a run left over (resets, closing connections) is not the next one's.
        std::thread::sleep(Duration::from_millis(300));
        let before = party.pid.map_or(0.0, cpu_seconds);
        let began = Instant::now();
        let mut run = Run::default();
        let lasts = Duration::from_secs(seconds);
        match self {
            Self::Text { clients } => (run.units, run.seconds) = queries(party, clients, lasts, false),
            Self::Prepared { clients } => (run.units, run.seconds) = queries(party, clients, lasts, true),
            Self::Storm => run.units = storm(party, lasts),
            Self::Rows(rows) => run.units = bulk(party, rows),
            Self::Pace => (run.units, run.middle) = pace(party, lasts),
        }
        if run.seconds == 0.0 {
            run.seconds = began.elapsed().as_secs_f64();
        }
        run.cpu = party.pid.map_or(0.0, cpu_seconds) - before;
        run
    }
}

/// Leaves Tidegate newly started.
fn idle_sessions(plan: &Plan, node: &Node<Place>, all: &mut [Party], report: &mut Report) {
    for (name, tls) in [("plain", false), ("TLS", true)] {
        let cells = all.iter().map(|party| {
            let pid = party.pid.filter(|_| !tls || party.name == TIDEGATE)?;
            let sessions = match (party.name, plan.quick) {
                (TIDEGATE, false) => IDLE,
                (TIDEGATE, true) => IDLE_QUICK,
                _ => IDLE_FEW,
            };
            let bytes = idle(party, pid, sessions, tls);
            eprintln!("{} {name}: {sessions} idle sessions, {bytes:.0} bytes each", party.name);
            Some(bytes / 1e3)
        });
        let cells = cells.collect();
        report.row(&format!("idle session, {name}: kB"), cells, 1);
        node.kill();
        node.resume();
        all.iter_mut().filter(|party| party.name == TIDEGATE).for_each(|party| party.pid = Some(node.pid()));
    }
}

/// What each of so many sessions takes of the proxy's memory that have asked something and do nothing now.
fn idle(party: &Party, pid: u32, sessions: usize, tls: bool) -> f64 {
    let arrive = |count: usize| -> Vec<Wire> {
        std::thread::scope(|scope| {
            let some = || {
                let one = |_| {
                    let mut wire = party.login_by(tls);
                    assert_eq!(wire.ask("select 1"), "1");
                    wire
                };
                (0..count / STORM_THREADS).map(one).collect::<Vec<_>>()
            };
            let threads: Vec<_> = (0..STORM_THREADS).map(|_| scope.spawn(some)).collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("they log in")).collect()
        })
    };
    // Once before, so that what a first crowd leaves behind for the next is not counted twice.
    arrive(100).into_iter().for_each(Wire::goodbye);
    std::thread::sleep(Duration::from_secs(1));
    let before = memory(pid);
    let all = arrive(sessions);
    std::thread::sleep(Duration::from_secs(2));
    let bytes = (memory(pid) - before) / all.len() as f64;
    all.into_iter().for_each(Wire::goodbye);
    std::thread::sleep(Duration::from_secs(1));
    bytes
}

impl Party {
    fn login(&self) -> Wire {
        self.login_by(false)
    }

    fn login_by(&self, tls: bool) -> Wire {
        let login = Login {
            user: &self.user,
            password: &self.password,
            database: Some(&self.database),
            tls,
            ..Login::default()
        };
        Wire::login(self.port, &login).unwrap_or_else(|refused| panic!("{}: {:?}", self.name, refused.0))
    }
}

fn fill(place: &Place) {
    place.run(&format!(
        "create table accounts (aid int primary key, bid int, abalance int, filler char(84)) \
         select seq as aid, 1 as bid, 0 as abalance, '' as filler from seq_1_to_{ACCOUNTS}"
    ));
    place.run("analyze table accounts");
}

/// As many as go in this time; how many, and how long it took.
fn queries(party: &Party, clients: usize, lasts: Duration, prepared: bool) -> (f64, f64) {
    let ready = Barrier::new(clients);
    let one = |number: usize| {
        let mut wire = party.login();
        let id = prepared
            .then(|| wire.prepare("select abalance from accounts where aid = ?").expect("prepared").0);
        let mut account = number as u32 * 7_919;
        ready.wait();
        let (began, mut count) = (Instant::now(), 0u32);
        while began.elapsed() < lasts {
            account = (account * 31 + 17) % ACCOUNTS + 1;
            match id {
                None => wire.query(&format!("select abalance from accounts where aid = {account}")),
                Some(id) => wire.send(&Wire::execution(id, 0, &[Some(&account.to_string())])),
            }
            let rows = if prepared { wire.binary_answers() } else { wire.answers() };
            assert_eq!(rows.len(), 1);
            count += 1;
        }
        let took = began.elapsed().as_secs_f64();
        wire.goodbye();
        (f64::from(count), took)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients).map(|number| scope.spawn(move || one(number))).collect();
        let done = threads.into_iter().map(|thread| thread.join().expect("a client ends"));
        done.fold((0.0, 0.0), |(units, longest), (count, took)| (units + count, f64::max(longest, took)))
    })
}

fn storm(party: &Party, lasts: Duration) -> f64 {
    let began = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..STORM_THREADS)
            .map(|_| {
                scope.spawn(|| {
                    let mut count = 0.0;
                    while began.elapsed() < lasts {
                        let mut wire = party.login();
                        assert_eq!(wire.ask("select 1"), "1");
                        // As clients do it: nobody waits for an answer to a goodbye.
                        let _ = wire.try_send(&say(command::QUIT, &[]));
                        drop(wire);
                        count += 1.0;
                    }
                    count
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a client ends")).sum()
    })
}

/// The bytes of so many rows.
fn bulk(party: &Party, rows: u32) -> f64 {
    let mut wire = party.login();
    wire.say(command::QUERY, format!("select repeat('x', 99) from seq_1_to_{rows}").as_bytes());
    let mut buffer = vec![0; 256 << 10];
    let (mut total, mut packets) = (0, Packets::default());
    while !packets.over {
        let count = wire.read_bytes(&mut buffer).expect("the rows come");
        assert!(count > 0, "closed in the middle");
        total += count;
        packets.see(&buffer[..count]);
    }
    wire.goodbye();
    total as f64
}

/// Follows packets to the one that ends the rows, which begins with 0xfe and is short.
#[derive(Default)]
struct Packets {
    head: Vec<u8>,
    left: usize,
    seen: u32,
    over: bool,
}

impl Packets {
    fn see(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let count = self.left.min(bytes.len());
                (self.left, bytes) = (self.left - count, &bytes[count..]);
                continue;
            }
            let count = (5 - self.head.len()).min(bytes.len());
            self.head.extend(&bytes[..count]);
            bytes = &bytes[count..];
            if let [a, b, c, _, first] = self.head[..] {
                let length = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
                self.left = length - 1;
                self.seen += 1;
                // Behind the definitions of the columns there may be one of the same kind.
                self.over |= first == 0xfe && length < 60 && self.seen > 4;
                self.head.clear();
            }
        }
    }
}

/// Queries at a fixed rate: how many, and the middle of the times they took in microseconds.
fn pace(party: &Party, lasts: Duration) -> (f64, f64) {
    let gap = Duration::from_secs(1) * PACE_CLIENTS / PACE_RATE;
    let one = |number: u32| {
        let mut wire = party.login();
        let mut took = Vec::new();
        let mut next = Instant::now() + gap * number / PACE_CLIENTS;
        let end = next + lasts;
        while next < end {
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            let began = Instant::now();
            wire.query("select abalance from accounts where aid = 4711");
            wire.answers();
            took.push(began.elapsed().as_secs_f64() * 1e6);
            next += gap;
        }
        wire.goodbye();
        took
    };
    let mut took: Vec<f64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..PACE_CLIENTS).map(|number| scope.spawn(move || one(number))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a client ends")).collect()
    });
    took.sort_by(f64::total_cmp);
    (took.len() as f64, took[took.len() / 2])
}
