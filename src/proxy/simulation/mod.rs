//! A simulation of the whole: the real engine, pool, machines, ledger and trail on one thread, with
//! virtual time and pipes in memory where sockets would be; around them a server, clients and an
//! administrator that do what a seed says. Bytes come late, in pieces, or not at all; grants end at any
//! moment. [`witness`] says what must always hold, from what the two ends saw alone.
//!
//! A run is decided by its seed: one thread, paused time, and chance that is rolled from it. What is
//! random in the engine itself (nonces, keys, ids) has a fixed length and decides nothing.
//!
//! ```text
//!   TIDEGATE_SIMULATION_SEED=4711   cargo test --features testing simulation -- --nocapture    one run, told
//!   TIDEGATE_SIMULATION_RUNS=10000  cargo test --features testing simulation                   so many runs
//!   … every_run_of_mysql                                                                       of MySQL only
//! ```
//!
//! Another protocol adds a [`Cast`]: how its server behaves and what its clients do.

mod audit;
mod mysql;
mod postgres;
mod stage;
mod witness;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::protocol::session::Wire;
use crate::tls::memory::{self, Dice, Pipe, Weather};
use stage::{LEVELS, Stage, USERS};
use witness::{Sky, Who, Witness};

/// Where the simulated server is.
const ADDRESS: &str = "simulated:1";
/// Client 1 comes from the port behind this.
const PORTS: u32 = 10_000;
/// Of the connectors there.
const PASSWORD: &str = "connector";
/// A client that is not served within this waits for ever.
const PATIENCE: Duration = Duration::from_secs(120);
/// By then whatever a client left behind has ended: every wait of the engine is shorter.
const AFTERWARDS: Duration = Duration::from_secs(90);

/// One protocol's server and clients.
trait Cast: Send + Sync + Sized + 'static {
    type Wire: Wire;

    fn wire() -> Self::Wire;

    /// The server, which is there from the start.
    fn new(witness: Arc<Witness>, plan: &Plan, dice: &mut Dice) -> Self;

    /// Plays the server on one connection until that ends. Every statement that arrives is reported to the
    /// witness, before anything is done: [`Witness::reached`], and [`Witness::ran`].
    fn serve(self: Arc<Self>, pipe: Pipe, dice: Dice) -> impl Future<Output = ()> + Send;

    /// Plays one client from its first byte to its last. Every answer is reported to the witness.
    fn play(player: Player, pipe: Pipe) -> impl Future<Output = ()> + Send;

    /// Asks to stop what runs for a client, over a connection of its own.
    fn ask_to_stop(key: Vec<u8>, pipe: Pipe) -> impl Future<Output = ()> + Send;
}

/// One client and what it may do.
struct Player {
    number: u32,
    who: Who,
    witness: Arc<Witness>,
    dice: Dice,
    plan: Plan,
    /// Connects once more, to say that what has this key is to be stopped.
    stop: Box<dyn Fn(Vec<u8>) + Send + Sync>,
}

/// What a run is like, from its seed.
#[derive(Debug, Clone)]
struct Plan {
    clients: u32,
    operations: u64,
    size_max: u32,
    warm_min: u32,
    wait_seconds: u32,
    idle: Option<Duration>,
    session: Option<Duration>,
    park: Option<Duration>,
    /// How long ahead a session is told of its end.
    notice: Option<Duration>,
    clients_weather: Weather,
    servers_weather: Weather,
    /// So many changes at once, at most.
    changes: u64,
    /// Servers that cannot be reached, one connection in so many.
    unreachable: u64,
    /// The server ends a connection at one in so many messages.
    crashes: u64,
}

impl Plan {
    fn new(dice: &mut Dice) -> Self {
        let weather = |dice: &mut Dice, lossy: bool| Weather {
            latency_max: Duration::from_millis(*pick(dice, &[0, 1, 5, 40, 200])),
            piece_max: *pick(dice, &[2, 9, 100, 5_000, 100_000]),
            capacity: *pick(dice, &[500, 4_000, 100_000]),
            lost_once_in: if lossy { *pick(dice, &[30, 200, 1_000]) } else { 0 },
        };
        let lossy = dice.once_in(3);
        let servers_lossy = lossy && dice.once_in(2);
        Self {
            clients: dice.range(1, 8) as u32,
            operations: dice.range(1, 25),
            size_max: dice.range(1, 4) as u32,
            warm_min: dice.below(2) as u32,
            wait_seconds: *pick(dice, &[1, 10, 30]),
            idle: dice.once_in(4).then(|| Duration::from_secs(5)),
            session: dice.once_in(4).then(|| Duration::from_secs(20)),
            park: pick(dice, &[None, Some(300), Some(1_000), Some(2_000)]).map(Duration::from_millis),
            notice: dice.once_in(2).then(|| Duration::from_secs(10)),
            clients_weather: weather(dice, lossy),
            servers_weather: weather(dice, servers_lossy),
            changes: *pick(dice, &[0, 1, 2, 4]),
            unreachable: if servers_lossy { 5 } else { 0 },
            crashes: if servers_lossy { 40 } else { 0 },
        }
    }
}

impl Plan {
    fn sky(&self) -> Sky {
        let (clients, servers) = (&self.clients_weather, &self.servers_weather);
        Sky {
            latency: clients.latency_max.max(servers.latency_max),
            clients_calm: clients.lost_once_in == 0,
            servers_calm: servers.lost_once_in == 0 && self.unreachable == 0 && self.crashes == 0,
            fast: [clients, servers]
                .iter()
                .all(|weather| weather.latency_max <= Duration::from_millis(5) && weather.capacity > 1_000),
            session: self.session,
        }
    }
}

fn pick<'a, T>(dice: &mut Dice, of: &'a [T]) -> &'a T {
    &of[dice.below(of.len() as u64) as usize]
}

fn peer(number: u32) -> SocketAddr {
    ([127, 0, 0, 1], (PORTS + number) as u16).into()
}

/// What came of a run.
struct Run {
    wrong: Vec<String>,
    story: Vec<String>,
    fingerprint: u64,
    statements: usize,
}

/// One run from its seed to its end. `break_it`: what a test breaks on purpose.
fn run<C: Cast>(seed: u64) -> Run {
    // Before virtual time begins, or it would begin ahead of it.
    let _ = super::clock::monotonic_micros();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let witness = runtime.block_on(simulate::<C>(seed));
    memory::close();
    drop(runtime);
    let statements = witness.see().ran.len();
    let wrong = std::mem::take(&mut witness.see().wrong);
    Run { wrong, story: witness.story(), fingerprint: witness.fingerprint(), statements }
}

async fn simulate<C: Cast>(seed: u64) -> Arc<Witness> {
    let mut dice = Dice::new(seed);
    let plan = Plan::new(&mut dice);
    let witness = Arc::new(Witness::new(plan.sky()));
    witness.tell(format_args!("{plan:?}"));
    let server = Arc::new(C::new(witness.clone(), &plan, &mut dice));
    open::<C>(server, &plan, dice.fork());
    let stage = Stage::<C>::build(witness.clone(), plan.clone()).await;
    for user in USERS {
        stage.add_user(user);
        stage.issue(user, 0, &mut dice);
        for level in LEVELS {
            let seconds = dice.range(5, 60);
            stage.grant(user, level, seconds, &mut dice);
        }
    }
    let mut sessions = JoinSet::new();
    let mut players = JoinSet::new();
    for number in 1..=plan.clients {
        let who = Who {
            user: (*pick(&mut dice, &USERS)).to_owned(),
            level: pick::<&str>(&mut dice, &LEVELS),
            credential: 0,
        };
        witness.client(number, who.clone());
        let delay = dice.millis(0, 5_000);
        let (ours, theirs) = memory::pair(&mut dice, plan.clients_weather, u64::from(number));
        sessions.spawn(arrive(stage.clone(), theirs, peer(number), delay));
        let player = Player {
            number,
            who,
            witness: witness.clone(),
            dice: dice.fork(),
            plan: plan.clone(),
            stop: stopper(stage.clone(), dice.fork()),
        };
        players.spawn(async move {
            tokio::time::sleep(delay).await;
            C::play(player, ours).await;
        });
    }
    administer(&stage, &mut players, dice).await;
    let ended = tokio::time::timeout(AFTERWARDS, async { while sessions.join_next().await.is_some() {} });
    if ended.await.is_err() {
        witness.wrong("a session goes on although its client is gone");
    }
    // What runs on at the server, and is being ended.
    tokio::time::sleep(Duration::from_secs(10)).await;
    if !stage.registry.is_empty() {
        witness.wrong("a session is listed that has ended");
    }
    audit::check(&stage);
    witness
}

async fn arrive<C: Cast>(stage: Arc<Stage<C>>, pipe: Pipe, peer: SocketAddr, delay: Duration) {
    tokio::time::sleep(delay).await;
    stage.serve(pipe, peer).await;
}

/// Makes the server reachable.
fn open<C: Cast>(server: Arc<C>, plan: &Plan, mut dice: Dice) {
    let (weather, unreachable) = (plan.servers_weather, plan.unreachable);
    let mut number = 0;
    memory::listen(
        ADDRESS,
        Box::new(move || {
            let delay = dice.millis(0, weather.latency_max.as_millis() as u64);
            if dice.once_in(unreachable) {
                return (delay, Err(std::io::ErrorKind::ConnectionRefused.into()));
            }
            number += 1;
            let (ours, theirs) = memory::pair(&mut dice, weather, number);
            tokio::spawn(server.clone().serve(theirs, dice.fork()));
            (delay, Ok(ours))
        }),
    );
}

fn stopper<C: Cast>(stage: Arc<Stage<C>>, dice: Dice) -> Box<dyn Fn(Vec<u8>) + Send + Sync> {
    let dice = std::sync::Mutex::new(dice);
    Box::new(move |key| {
        let (ours, theirs) = memory::pair(&mut dice.lock().unwrap(), stage.plan.clients_weather, 0);
        tokio::spawn(stage.clone().serve(theirs, peer(9_999)));
        tokio::spawn(C::ask_to_stop(key, ours));
    })
}

/// Gives and takes while the clients play, and looks at them.
async fn administer<C: Cast>(stage: &Arc<Stage<C>>, players: &mut JoinSet<()>, mut dice: Dice) {
    let deadline = Instant::now() + 4 * PATIENCE;
    let mut issued = [0; USERS.len()];
    loop {
        let pause = tokio::time::sleep(dice.millis(10, 1_990));
        tokio::select! {
            biased;
            () = pause => {}
            next = players.join_next() => match next {
                None => return,
                Some(played) => {
                    played.unwrap();
                    continue;
                }
            },
        }
        stage.witness.look();
        if Instant::now() > deadline {
            stage.witness.wrong("the clients do not come to an end");
            return;
        }
        for _ in 0..dice.below(stage.plan.changes + 1) {
            let at = dice.below(USERS.len() as u64) as usize;
            let user = USERS[at];
            match dice.below(12) {
                0..4 => stage.revoke(user),
                4..7 => {
                    let (level, seconds) = (*pick(&mut dice, &LEVELS), dice.range(1, 40));
                    stage.grant(user, level, seconds, &mut dice);
                }
                7 => stage.revoke_credentials(user),
                8 => {
                    stage.remove_user(user);
                    stage.add_user(user);
                }
                9 if issued[at] < 3 => {
                    issued[at] += 1;
                    stage.issue(user, issued[at], &mut dice);
                }
                10 => {
                    stage.suspend();
                    tokio::time::sleep(dice.millis(0, 3_000)).await;
                    stage.resume();
                }
                _ => {
                    let client = dice.range(1, u64::from(stage.plan.clients)) as u32;
                    stage.kill(peer(client), client);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many runs at each test; some 0.1 s each without optimisation.
    const RUNS: u64 = 150;

    fn number(variable: &str) -> Option<u64> {
        std::env::var(variable).ok().map(|text| text.parse().expect(variable))
    }

    fn fail(seed: u64, run: &Run) -> ! {
        for line in run.story.iter().rev().take(400).rev() {
            println!("{line}");
        }
        panic!("seed {seed}: {:#?}\nagain: TIDEGATE_SIMULATION_SEED={seed}", run.wrong);
    }

    #[test]
    fn what_must_hold_holds_in_every_run() {
        every_run::<postgres::Postgres>();
    }

    #[test]
    fn what_must_hold_holds_in_every_run_of_mysql() {
        every_run::<mysql::MySql>();
    }

    fn every_run<C: Cast>() {
        if let Some(seed) = number("TIDEGATE_SIMULATION_SEED") {
            // What the engine itself says of it, too.
            let log = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).without_time();
            let _ = log.try_init();
            let run = run::<C>(seed);
            println!("{}", run.story.join("\n"));
            assert!(run.wrong.is_empty(), "seed {seed}: {:#?}", run.wrong);
            return;
        }
        let first = number("TIDEGATE_SIMULATION_FIRST").unwrap_or(1);
        let runs = number("TIDEGATE_SIMULATION_RUNS").unwrap_or(RUNS);
        let mut statements = 0;
        for seed in first..first + runs {
            let run = run::<C>(seed);
            if !run.wrong.is_empty() {
                fail(seed, &run);
            }
            statements += run.statements;
        }
        println!("{runs} runs from seed {first}, {statements} statements");
        assert!(
            runs < RUNS || statements as u64 > 10 * runs,
            "hardly anything was done: {statements} statements"
        );
    }

    #[test]
    fn a_seed_tells_the_same_story_again() {
        for seed in [3, 35, 117] {
            let (one, other) = again::<postgres::Postgres>(seed);
            assert_eq!(one.fingerprint, other.fingerprint);
            again::<mysql::MySql>(seed);
        }
    }

    fn again<C: Cast>(seed: u64) -> (Run, Run) {
        let (mut one, mut other) = (run::<C>(seed), run::<C>(seed));
        // What happens at one moment, after a change that several tasks wait for, may have no order: tokio wakes them
        // by chance.
        for run in [&mut one, &mut other] {
            run.story.sort();
        }
        let differs = one.story.iter().zip(&other.story).find(|(one, other)| one != other);
        assert_eq!(differs, None);
        assert_eq!(one.story.len(), other.story.len());
        (one, other)
    }
}
