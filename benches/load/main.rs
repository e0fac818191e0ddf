//! Tidegate against the direct connection, a plain relay, HAProxy and PgBouncer, on a real server, in one run.
//!
//! ```text
//! cargo bench --bench load -- [--quick] [--rounds N] [--seconds N] [--workers N] [--only PART]… [--write]
//! cargo bench --bench load -- crowd [--quick] [--write]
//! cargo bench --bench load -- mysql [--quick] [--rounds N] [--seconds N] [--workers N] [--only PART]… [--write]
//! cargo bench --bench load -- http [--quick] [--rounds N] [--seconds N] [--workers N] [--only PART]… [--write]
//! ```
//!
//! They take turns in every round and the order rotates, so that what else the machine does meets all of them.
//! Throughput is told as a ratio to the direct connection of the same round, cost as CPU seconds of the proxy: on a
//! machine where client, proxy and server share the cores only the latter carries over to another one. `--write`
//! puts the tables into `docs/performance.md`. PARTs are `query`, `calls`, `storm`, `tls`, `copy`, `pace`, `idle`,
//! `cut`; with `mysql`, which is MariaDB, `query`, `storm`, `rows`, `idle`, `pace`; with `http`
//! `backend`, `opensearch`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod client;
mod crowd;
mod http;
mod keys;
mod mysql;
mod party;
mod relay;
mod report;
mod storm;
#[path = "../../tests/live/support/mod.rs"]
#[allow(dead_code, unused_imports, unused_macros)]
mod support;
mod work;

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use client::Login;
use party::{Parties, Party};
use report::{Report, spread};
use work::{Plan, Run, Work};

struct Arguments {
    /// What is measured, as the page calls its section.
    section: &'static str,
    plan: Plan,
    write: bool,
}

fn main() {
    let given: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if given.first().is_some_and(|word| word == "relay") {
        return relay::serve(&relay_plan(&given[1..]));
    }
    if given.first().is_some_and(|word| word == "backend") {
        return http::backend(given[1].parse().expect("a port"));
    }
    let Some(arguments) = arguments(&given) else {
        eprintln!(
            "usage: [crowd | mysql | http] [--quick] [--rounds N] [--seconds N] [--workers N] [--only PART]… [--write]"
        );
        std::process::exit(2);
    };
    with_servers();
    // As many descriptors as there may be: ten thousand clients are to fit, and the proxies inherit it.
    let limits = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let most = rustix::process::Rlimit { current: limits.maximum, ..limits };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, most).expect("the limit may be raised");
    let Arguments { section, plan, write } = arguments;
    let tables = match section {
        "crowd" => crowd(&plan),
        "mysql" => mysql::run(&plan),
        "http" => http::run(&plan),
        _ => postgres(plan),
    };
    println!("{tables}");
    if write {
        report::write(section, &tables);
    }
}

fn crowd(plan: &Plan) -> String {
    let (sessions, connections, revoked, lasts) = match plan.quick {
        true => (2_000, 20, 200, 60),
        false => (10_000, 100, 1_000, 600),
    };
    let lasts = Duration::from_secs(lasts);
    crowd::crowd(&crowd::Plan { sessions, connections, revoked, lasts }, plan.workers)
}

fn postgres(plan: Plan) -> String {
    let parties = Parties::start(plan.workers);
    let names = parties.all.iter().map(|party| party.name).collect();
    let report = Report::new(names, parties.versions.join(", "));
    let mut bench = Bench { report, parties, plan };
    bench.run();
    let Plan { rounds, seconds, workers, .. } = bench.plan;
    bench
        .report
        .finish(&format!("{rounds} rounds of {seconds} s; {workers} threads for the relay and for Tidegate"))
}

/// The tests' support asks the environment where the server's programs are, which `scripts/test` fills. Whoever runs
/// this alone gets it filled by being run again.
fn with_servers() {
    const SERVERS: [(&str, &str); 3] = [
        ("postgres", "TIDEGATE_TEST_PG15_BIN"),
        ("mariadb", "TIDEGATE_TEST_MARIADB10_BIN"),
        ("http", "TIDEGATE_TEST_HTTP_SERVERS"),
    ];
    if SERVERS.iter().all(|(_, variable)| std::env::var_os(variable).is_some()) {
        return;
    }
    let found = party::setup();
    let mut again = Command::new(std::env::current_exe().expect("our own file"));
    for (server, variable) in SERVERS {
        let folder = &found.iter().find(|(name, _)| name == server).expect("setup names it").1;
        again.env(variable, folder);
    }
    let error = again.args(std::env::args_os().skip(1)).exec();
    panic!("it cannot be run again: {error}");
}

fn arguments(given: &[String]) -> Option<Arguments> {
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    let plan = Plan { quick: false, rounds: 3, seconds: 2, workers, only: Vec::new() };
    let mut arguments = Arguments { section: "figures", plan, write: false };
    let plan = &mut arguments.plan;
    let mut given = given.iter();
    while let Some(word) = given.next() {
        match word.as_str() {
            "crowd" => arguments.section = "crowd",
            "mysql" => arguments.section = "mysql",
            "http" => arguments.section = "http",
            "--quick" => (plan.quick, plan.rounds, plan.seconds) = (true, 1, 1),
            "--rounds" => plan.rounds = given.next()?.parse().ok()?,
            "--seconds" => plan.seconds = given.next()?.parse().ok()?,
            "--workers" => plan.workers = given.next()?.parse().ok()?,
            "--only" => plan.only.push(given.next()?.clone()),
            "--write" => arguments.write = true,
            _ => return None,
        }
    }
    (plan.rounds > 0 && plan.seconds > 0).then_some(arguments)
}

/// LISTEN SERVER THREADS [CERTIFICATE, without its ending]
fn relay_plan(given: &[String]) -> relay::Plan {
    let number = |at: usize| given[at].parse::<u16>().expect("a number");
    let tls = given.get(3).map(|path| {
        let chain = CertificateDer::pem_file_iter(format!("{path}.pem")).expect("a certificate");
        let chain: Vec<_> = chain.map(|certificate| certificate.expect("PEM")).collect();
        let key = PrivateKeyDer::from_pem_file(format!("{path}.key")).expect("a key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("known versions")
            .with_no_client_auth()
            .with_single_cert(chain, key);
        Arc::new(config.expect("they belong together"))
    });
    relay::Plan { listen: number(0), server: number(1), threads: number(2).into(), tls }
}

const QUERIES: [(&str, &str, u32); 6] = [
    ("simple, 8 clients", "simple", 8),
    ("simple, 32 clients", "simple", 32),
    ("extended, 8 clients", "extended", 8),
    ("extended, 32 clients", "extended", 32),
    ("prepared, 8 clients", "prepared", 8),
    ("prepared, 32 clients", "prepared", 32),
];

struct Bench {
    parties: Parties,
    report: Report,
    plan: Plan,
}

impl Bench {
    fn run(&mut self) {
        if self.plan.wants("query") {
            for (name, mode, clients) in QUERIES {
                let runs = self.rounds(Work::Query { mode, clients }, |_| true);
                self.report.costs(&format!("point query, {name}: CPU s per 10,000"), &runs, 10_000.0);
                self.report.ratios(&format!("point query, {name}: throughput / direct"), &runs);
            }
        }
        if self.plan.wants("calls") {
            for mode in ["simple", "extended"] {
                let seconds = self.plan.seconds + 1;
                let calls = self.parties.all.iter().map(|party| work::calls(party, mode, seconds));
                self.report.row(&format!("system calls per query, {mode}, 8 clients"), calls.collect(), 2);
            }
        }
        let plain = if self.plan.wants("storm") || self.plan.wants("tls") {
            let runs = self.rounds(Work::Storm, |_| true);
            self.report.ratios("new connection, SCRAM, one query: connections/s / direct", &runs);
            self.report.costs("new connection: CPU s per 1,000", &runs, 1_000.0);
            runs
        } else {
            Vec::new()
        };
        if self.plan.wants("tls") {
            for (name, resume) in [("whole handshake", false), ("resumed", true)] {
                let runs = self.rounds(Work::TlsStorm { resume }, |party| party.tls_port.is_some());
                let cells = plain.iter().zip(&runs).map(|(plain, tls)| {
                    let cost = |runs: &[Run]| spread(runs.iter().map(|run| run.cost(1_000.0))).map(|s| s[1]);
                    Some(cost(tls)? - cost(plain)?).filter(|cost| *cost != 0.0)
                });
                let title = format!("TLS login above a plain one, {name}: CPU s per 1,000");
                self.report.row(&title, cells.collect(), 3);
            }
        }
        if self.plan.wants("copy") {
            for (name, work) in [("COPY out", Work::CopyOut), ("COPY in", Work::CopyIn)] {
                let runs = self.rounds(work, |_| true);
                self.report.costs(&format!("{name}: CPU s per GB"), &runs, 1e9);
                self.report.ratios(&format!("{name}: bytes/s / direct"), &runs);
            }
        }
        if self.plan.wants("pace") {
            let runs = self.rounds(Work::Pace, |_| true);
            self.report.added("added p50 at 2,000 queries a second, microseconds", &runs);
            self.report.costs("CPU s per 10,000 at that rate", &runs, 10_000.0);
        }
        if self.plan.wants("idle") {
            self.idle();
        }
        if self.plan.wants("cut") {
            self.cut();
        }
    }

    fn rounds(&self, work: Work, with: impl Fn(&Party) -> bool) -> Vec<Vec<Run>> {
        let lines = work::lines(self.plan.quick);
        let run = |party: &Party| work.run(party, self.plan.seconds, lines);
        self.plan.turns(&self.parties.all, |party| with(party).then(|| run(party)))
    }

    fn idle(&mut self) {
        let sessions = if self.plan.quick { 2_000 } else { 10_000 };
        // Ours have given their server connections back, which then bear no name any more. Those that go through
        // to the server need a process there for each.
        let few = 300;
        for (name, tls) in [("plain", false), ("TLS", true)] {
            self.parties.renew();
            let node = &self.parties.node;
            let cells = self.parties.all.iter().map(|party| {
                let login =
                    if tls { party.tls_port.map(|_| party.with_tls(false))? } else { party.login.clone() };
                let pid = if tls { party.tls_pid? } else { party.pid? };
                let is_tidegate = party.name == "Tidegate";
                let sessions = match party.name {
                    "Tidegate" => sessions,
                    // Before their first query they have no server connection.
                    "PgBouncer" => 2_000,
                    _ => few,
                };
                let at_rest = || !is_tidegate || node.place.count("application_name like 'alice/%'") == 0;
                let idle = crowd::idle(&login, pid, sessions, at_rest);
                eprintln!(
                    "{} {name}: {} idle sessions, {:.0} bytes each, {:.1} % of a core",
                    party.name, idle.sessions, idle.bytes, idle.core
                );
                Some(idle.bytes / 1e3)
            });
            self.report.row(&format!("idle session, {name}: kB"), cells.collect(), 1);
        }
    }

    fn cut(&mut self) {
        let sessions = if self.plan.quick { 200 } else { 1_000 };
        let (grant, login) = self.parties.crowd.clone();
        let tidegate = self.parties.party("Tidegate");
        let secured =
            Login { user: login.user.clone(), password: login.password.clone(), ..tidegate.with_tls(false) };
        let node = &self.parties.node;
        let plain = crowd::cut(node, &login, &grant, sessions);
        let again = node.grant(&login.user, "read", "8h", &[]);
        let tls = crowd::cut(node, &secured, &again, sessions);
        for (name, cut) in [("plain", plain), ("TLS", tls)] {
            let what = format!("revocation of {} busy sessions, {name}", cut.sessions);
            let cells = |value| vec![None, None, None, None, Some(value)];
            self.report.row(&format!("{what}: ms to the client's error, middle"), cells(cut.middle), 0);
            self.report.row(&format!("{what}: p99"), cells(cut.p99), 0);
            self.report.row(&format!("{what}: last"), cells(cut.last), 0);
            self.report.row(&format!("{what}: ms until all is idle at the server"), cells(cut.silent), 0);
        }
    }
}

/// The repository's page with the tables.
fn page() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/performance.md")
}
