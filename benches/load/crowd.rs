//! Many sessions at once: what an idle one costs, how they are cut together, and whether a crowd on few server
//! connections ever gets an answer that is not its own.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::Semaphore;

use crate::client::{Client, Login, Refused};
use crate::party::{cpu_seconds, memory};
use crate::support::{Node, Options, Person, Place, Version, block, server, wait_until};

/// Logins at the same time: a crowd comes one after the other.
const ARRIVING: usize = 32;

/// So many sessions, all logged in.
async fn arrive(logins: Vec<Login>) -> Vec<Client> {
    let door = Arc::new(Semaphore::new(ARRIVING));
    let arriving = logins.into_iter().map(|login| {
        let door = door.clone();
        tokio::spawn(async move {
            let _turn = door.acquire().await.expect("never closed");
            Client::login(&login).await.unwrap_or_else(|error| panic!("a login of {}: {error}", login.user))
        })
    });
    join_all(arriving).await.into_iter().map(|client| client.expect("a login ends")).collect()
}

/// What an idle session costs.
pub struct Idle {
    pub sessions: usize,
    /// Bytes of the proxy's memory for each.
    pub bytes: f64,
    /// Of one core, while they are idle, in percent.
    pub core: f64,
}

/// Memory of `pid` with so many idle sessions, less what it is without. `settled` says when they are at rest.
pub fn idle(login: &Login, pid: u32, sessions: usize, settled: impl FnMut() -> bool) -> Idle {
    // Once before, so that what a first crowd leaves behind for the next is not counted twice.
    let few = block(arrive(vec![login.clone(); 50]));
    block(leave(few));
    std::thread::sleep(Duration::from_secs(1));
    let before = memory(pid);
    let clients = block(arrive(vec![login.clone(); sessions]));
    wait_until("they are at rest", Duration::from_secs(120), settled);
    let bytes = (memory(pid) - before) / sessions as f64;
    let cpu = cpu_seconds(pid);
    std::thread::sleep(Duration::from_secs(3));
    let core = (cpu_seconds(pid) - cpu) / 3.0 * 100.0;
    block(leave(clients));
    Idle { sessions, bytes, core }
}

async fn leave(clients: Vec<Client>) {
    for client in clients {
        // The proxy may have gone first.
        let _ = client.goodbye().await;
    }
}

/// How long after the order to revoke a grant its sessions felt it.
pub struct Cut {
    pub sessions: usize,
    /// Milliseconds to the client's error.
    pub middle: f64,
    pub p99: f64,
    pub last: f64,
    /// Until nothing of theirs ran at the server.
    pub silent: f64,
}

/// Revokes the grant of so many sessions that all have a statement running.
pub fn cut(node: &Node, login: &Login, grant: &str, sessions: usize) -> Cut {
    const BUSY: &str = "select pg_sleep(600)";
    let clients = block(arrive(vec![login.clone(); sessions]));
    let waiting: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            crate::support::runtime().spawn(async move {
                client.ask(BUSY).await?;
                let told: Refused = match client.rows().await? {
                    Err(refused) => refused,
                    Ok(_) => return Err(io::Error::other("an answer")),
                };
                let at = Instant::now();
                assert!(told.text.starts_with("TG"), "{told:?}");
                Ok::<_, io::Error>(at)
            })
        })
        .collect();
    let running = format!("state = 'active' and query = '{BUSY}'");
    wait_until("all are busy", Duration::from_secs(120), || node.place.count(&running) as usize == sessions);
    let began = Instant::now();
    revoke(node, grant);
    let ended = std::thread::scope(|scope| {
        let silent = scope.spawn(|| {
            wait_until("the server is idle", Duration::from_secs(60), || node.place.count(&running) == 0);
            began.elapsed()
        });
        let ended: Vec<Instant> = block(join_all(waiting))
            .into_iter()
            .map(|ended| ended.expect("no panic").expect("told why"))
            .collect();
        (ended, silent.join().expect("it is idle"))
    });
    let mut millis: Vec<f64> =
        ended.0.iter().map(|at| at.saturating_duration_since(began).as_secs_f64() * 1e3).collect();
    millis.sort_by(f64::total_cmp);
    let at = |share: f64| millis[((millis.len() - 1) as f64 * share) as usize];
    Cut { sessions, middle: at(0.5), p99: at(0.99), last: at(1.0), silent: ended.1.as_secs_f64() * 1e3 }
}

/// By the admin socket itself: starting a command line is no part of what is measured.
fn revoke(node: &Node, grant: &str) {
    use std::io::{Read, Write};
    let socket = node.folder.join("state/admin.sock");
    let mut socket = std::os::unix::net::UnixStream::connect(socket).expect("the admin socket");
    let body = "{\"reason\":\"a measurement\"}";
    write!(
        socket,
        "POST /v1/grants/{grant}/revoke HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("it reads");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// What a crowd is to be.
pub struct Plan {
    pub sessions: usize,
    /// Server connections, and sessions that are busy at a time.
    pub connections: usize,
    /// Of the sessions, how many lose their grant half way.
    pub revoked: usize,
    pub lasts: Duration,
}

const PEOPLE: usize = 20;
/// Queries of one turn.
const TURN: usize = 5;

struct Crowd {
    stop: AtomicBool,
    revoked_at: std::sync::OnceLock<Instant>,
    busy: Semaphore,
    answers: AtomicU64,
    turns: AtomicU64,
    /// Milliseconds from the revocation to the error of the last that felt it, and how many did.
    felt: AtomicU64,
    cut: AtomicU64,
    longest_turn: AtomicU64,
}

/// Ten thousand sessions on a hundred server connections: everybody takes turns, every answer is checked for who
/// asked and what, some lose their grant half way, and the proxy's memory is watched. Prints a Markdown section.
pub fn crowd(plan: &Plan, workers: usize) -> String {
    let settings = "log_statement = 'none'\nmax_connections = 200";
    let place = Place::alone(Version::Distribution, server::Options { settings, ..Default::default() });
    let pool = format!("size_max = {}\nwait_seconds_max = 120\nwaiting_max = 100000", plan.connections);
    let limits = format!("workers = {workers}\npark_seconds = 1\nlogin_seconds = 120");
    let options = Options {
        pool: &pool,
        limits: &limits,
        target: "tls = \"disable\"\npark = \"proven\"\npark_accepts = [\"functions\", \"sequences\"]\n",
        audit: "",
        log: "warn",
        ..Default::default()
    };
    let node = Node::with(place, options);
    let people: Vec<(Person, String)> = (0..PEOPLE)
        .map(|number| {
            let person = node.user(&format!("person{number}"));
            let grant = node.grant(&person.name, "read", "8h", &[]);
            (person, grant)
        })
        .collect();
    // The first few people are those whose grants end half way.
    let revoked = (plan.revoked * PEOPLE).div_ceil(plan.sessions);
    let logins = (0..plan.sessions).map(|number| {
        let person = &people[number % PEOPLE].0;
        Login {
            port: node.port,
            user: person.name.clone(),
            password: person.secret.clone(),
            database: node.place.database.clone(),
            tls: None,
        }
    });
    let began = Instant::now();
    let clients = block(arrive(logins.collect()));
    let arrived = began.elapsed();
    let crowd = Arc::new(Crowd {
        stop: AtomicBool::new(false),
        revoked_at: Default::default(),
        busy: Semaphore::new(plan.connections),
        answers: AtomicU64::new(0),
        turns: AtomicU64::new(0),
        felt: AtomicU64::new(0),
        cut: AtomicU64::new(0),
        longest_turn: AtomicU64::new(0),
    });
    let sessions: Vec<_> = clients
        .into_iter()
        .enumerate()
        .map(|(number, client)| {
            let user = people[number % PEOPLE].0.name.clone();
            let loses = number % PEOPLE < revoked;
            crate::support::runtime().spawn(take_turns(crowd.clone(), client, number, user, loses))
        })
        .collect();
    let mut samples = Vec::new();
    let (mut connections, mut is_revoked) = (0, false);
    let began = Instant::now();
    let cpu = cpu_seconds(node.pid());
    while began.elapsed() < plan.lasts {
        std::thread::sleep(Duration::from_secs(2));
        samples.push(memory(node.pid()));
        connections = connections.max(node.place.count("true"));
        if !is_revoked && began.elapsed() > plan.lasts / 2 {
            is_revoked = true;
            let _ = crowd.revoked_at.set(Instant::now());
            people[..revoked].iter().for_each(|(_, grant)| revoke(&node, grant));
        }
    }
    let core = (cpu_seconds(node.pid()) - cpu) / began.elapsed().as_secs_f64() * 100.0;
    crowd.stop.store(true, Relaxed);
    crowd.busy.close();
    let ended = block(join_all(sessions));
    let wrong: Vec<String> = ended
        .into_iter()
        .filter_map(|ended| ended.map_err(|panic| panic.to_string()).and_then(|ended| ended).err())
        .collect();
    let lost = (0..plan.sessions).filter(|number| number % PEOPLE < revoked).count() as u64;
    let tenth = (samples.len() / 10).max(1);
    let middle = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64 / 1e6;
    let (turns, answers) = (crowd.turns.load(Relaxed), crowd.answers.load(Relaxed));
    let report = format!(
        "{} sessions of {PEOPLE} people on at most {} server connections (seen: {connections}), {} of them busy at a \
         time, for {} s; all had logged in after {:.0} s.\n\n| | |\n|---|---|\n| turns taken | {turns}, {:.1} a session |\n\
         | answers, each checked for person and nonce | {answers} |\n| wrong answers and errors | {} |\n\
         | longest wait for a turn's first answer | {} ms |\n| sessions whose grant was revoked half way | {} of {lost} told \
         why, the last after {} ms |\n| memory in the first tenth, in the last | {:.1} MB, {:.1} MB |\n\
         | CPU of the proxy | {core:.0} % of a core |\n",
        plan.sessions,
        plan.connections,
        plan.connections,
        plan.lasts.as_secs(),
        arrived.as_secs_f64(),
        turns as f64 / plan.sessions as f64,
        wrong.len(),
        crowd.longest_turn.load(Relaxed),
        crowd.cut.load(Relaxed),
        crowd.felt.load(Relaxed),
        middle(&samples[..tenth]),
        middle(&samples[samples.len() - tenth..]),
    );
    for error in wrong.iter().take(10) {
        eprintln!("{error}");
    }
    report
}

/// One session's life: turns of a few queries, each answer being that of this person to this question. The error
/// says what was wrong.
async fn take_turns(
    crowd: Arc<Crowd>,
    mut client: Client,
    number: usize,
    user: String,
    loses: bool,
) -> Result<(), String> {
    let wrong = |what: String| format!("session {number} of {user}: {what}");
    for turn in 0u64.. {
        let permit = tokio::select! {
            permit = crowd.busy.acquire() => permit,
            // Idle and cut: told without having asked.
            told = client.read() => {
                let (tag, body) = told.map_err(|error| wrong(error.to_string()))?;
                let text = if tag == b'E' { crate::client::refused(&body).text } else { String::new() };
                return felt(&crowd, loses, &text).map_err(wrong);
            }
        };
        let Ok(_permit) = permit else { break };
        for question in 0..TURN {
            let tag = format!("{number}.{turn}.{question}");
            let began = Instant::now();
            let sql = format!("select '{tag} ' || pg_catalog.current_setting('application_name')");
            match client.query(&sql).await.map_err(|error| wrong(error.to_string()))? {
                Ok(rows) => {
                    let fits = rows.len() == 1 && rows[0].starts_with(&format!("{tag} {user}/"));
                    if !fits {
                        return Err(wrong(format!("asked {tag} and got {rows:?}")));
                    }
                }
                Err(refused) => return felt(&crowd, loses, &refused.text).map_err(wrong),
            }
            crowd.answers.fetch_add(1, Relaxed);
            if question == 0 {
                crowd.longest_turn.fetch_max(began.elapsed().as_millis() as u64, Relaxed);
            }
        }
        crowd.turns.fetch_add(1, Relaxed);
    }
    let _ = client.goodbye().await;
    Ok(())
}

/// A session was told to go: was it one of those?
fn felt(crowd: &Crowd, loses: bool, text: &str) -> Result<(), String> {
    match crowd.revoked_at.get() {
        Some(at) if loses && text.starts_with("TG") => {
            crowd.felt.fetch_max(at.elapsed().as_millis() as u64, Relaxed);
            crowd.cut.fetch_add(1, Relaxed);
            Ok(())
        }
        _ => Err(format!("was told {text:?}")),
    }
}
