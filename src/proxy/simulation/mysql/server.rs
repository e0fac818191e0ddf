//! A server as the engine needs it: logins, commands, transactions, state of a session, requests to stop and to
//! end. Of SQL it knows what the clients of the simulation and the scripts of the pool say.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;

use super::super::Plan;
use super::super::stage::DATABASE;
use super::super::witness::{Tag, Witness};
use super::capability;
use super::lane::{Lane, Packet, lost, string};
use crate::protocol::mysql::RESET_MARK;
use crate::tls::memory::{Dice, Pipe};

/// How often a statement that takes long looks whether its client is there.
const LOOK: Duration = Duration::from_millis(500);
/// A connection sends what it has when it has this much.
const BUFFER: usize = 8 << 10;
const VERSION: &str = "5.5.5-10.11.6-MariaDB";
const AUTOCOMMIT: u16 = 2;
const IN_TRANSACTION: u16 = 1;

/// The whole server.
pub struct MySql {
    witness: Arc<Witness>,
    state: Mutex<State>,
    size_max: u32,
    crashes: u64,
}

#[derive(Default)]
struct State {
    threads: BTreeMap<u32, Thread>,
    next: u32,
}

/// What others see of a connection.
struct Thread {
    role: String,
    /// What runs on it.
    running: Option<Tag>,
    signals: watch::Sender<Signals>,
    /// It has been lent: whether the proxy's end still is there.
    lent: Option<Box<dyn Fn() -> bool + Send + Sync>>,
}

#[derive(Clone, Copy, Default)]
struct Signals {
    stop: bool,
    end: bool,
}

impl MySql {
    pub fn start(witness: Arc<Witness>, plan: &Plan) -> Self {
        Self { witness, state: Mutex::default(), size_max: plan.size_max, crashes: plan.crashes }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// `KILL`: false where there is no such thread of this role.
    fn kill(&self, number: u32, ends: bool, role: &str) -> bool {
        let state = self.state();
        let Some(thread) = state.threads.get(&number).filter(|thread| thread.role == role) else {
            return false;
        };
        if ends {
            thread.signals.send_modify(|signals| signals.end = true);
        }
        if let Some(tag) = thread.running {
            thread.signals.send_modify(|signals| signals.stop = true);
            self.witness.stopped(tag, if ends { "end" } else { "cancel" });
        }
        true
    }
}

/// Somebody's mark on a connection.
struct Left {
    what: &'static str,
    maker: u32,
    /// `COM_RESET_CONNECTION` does away with it.
    reset: bool,
}

struct Session<'a> {
    server: &'a MySql,
    lane: Lane,
    dice: Dice,
    thread: u32,
    number: u64,
    role: String,
    agreed: u32,
    signals: watch::Receiver<Signals>,
    settings: BTreeMap<&'static str, String>,
    left: Vec<Left>,
    acting: Option<Tag>,
    stamp: Option<String>,
    in_transaction: bool,
}

/// The connection ends.
struct Over;

impl From<io::Error> for Over {
    fn from(_: io::Error) -> Self {
        Self
    }
}

pub async fn serve(server: &MySql, pipe: Pipe, dice: Dice) {
    let number = pipe.number;
    let (signal, signals) = watch::channel(Signals::default());
    let thread = {
        let mut state = server.state();
        state.next += 1;
        state.next
    };
    let mut lane = Lane::new(pipe);
    let Ok((role, agreed)) = log_in(&mut lane, thread).await else { return };
    let entry = Thread { role: role.clone(), running: None, signals: signal, lent: None };
    server.state().threads.insert(thread, entry);
    let mut session = Session {
        server,
        lane,
        dice,
        thread,
        number,
        role,
        agreed,
        signals,
        settings: BTreeMap::new(),
        left: Vec::new(),
        acting: None,
        stamp: None,
        in_transaction: false,
    };
    let Err(Over) = session.run().await;
    server.witness.tell(format_args!("server {number}: closed"));
    server.state().threads.remove(&thread);
}

/// Whoever comes is let in.
async fn log_in(lane: &mut Lane, thread: u32) -> io::Result<(String, u32)> {
    let offered = capability::ALWAYS | capability::FOUND_ROWS | capability::DEPRECATE_EOF;
    let mut greeting = vec![10];
    greeting.extend_from_slice(VERSION.as_bytes());
    greeting.push(0);
    greeting.extend_from_slice(&thread.to_le_bytes());
    greeting.extend_from_slice(b"nonceabc\0");
    greeting.extend_from_slice(&offered.to_le_bytes()[..2]);
    greeting.push(45);
    greeting.extend_from_slice(&AUTOCOMMIT.to_le_bytes());
    greeting.extend_from_slice(&offered.to_le_bytes()[2..]);
    greeting.push(21);
    greeting.extend_from_slice(&[0; 10]);
    greeting.extend_from_slice(b"defghijklmno\0mysql_native_password\0");
    lane.say(&greeting);
    lane.flush().await?;
    let response = lane.next().await?;
    let agreed = u32::from_le_bytes(*response.body.first_chunk().unwrap());
    let user = response.body[32..].split(|byte| *byte == 0).next().unwrap();
    lane.number = response.number + 1;
    lane.say(&[0, 0, 0, AUTOCOMMIT as u8, 0, 0, 0]);
    Ok((String::from_utf8(user.to_vec()).unwrap(), agreed))
}

impl Session<'_> {
    async fn run(&mut self) -> Result<std::convert::Infallible, Over> {
        self.flush().await?;
        loop {
            let packet = self.listen().await?;
            assert_eq!(packet.number, 0, "a command begins anew");
            self.lane.number = 1;
            if self.dice.once_in(self.server.crashes) {
                return Err(Over);
            }
            let text = String::from_utf8_lossy(&packet.body[1..]).into_owned();
            match packet.body[0] {
                1 => return Err(Over),
                3 => self.query(&text, &packet).await?,
                // COM_INIT_DB.
                2 => self.ok(0),
                // COM_PING.
                14 => self.ok(0),
                // COM_SET_OPTION.
                27 => self.end_of_rows(),
                // COM_RESET_CONNECTION.
                31 => {
                    self.reset();
                    self.ok(0);
                }
                other => {
                    self.server.witness.wrong(format_args!("the server is sent command {other}"));
                    return Err(Over);
                }
            }
        }
    }

    /// The next command, or the end.
    async fn listen(&mut self) -> Result<Packet, Over> {
        // What was asked of an idle connection is forgotten.
        self.server.state().threads.get(&self.thread).inspect(|thread| {
            thread.signals.send_modify(|signals| signals.stop = false);
        });
        if let Some(packet) = self.lane.take() {
            return Ok(packet);
        }
        self.flush().await?;
        let mut signals = self.signals.clone();
        tokio::select! {
            biased;
            _ = signals.wait_for(|signals| signals.end) => Err(Over),
            packet = self.lane.next() => Ok(packet?),
        }
    }

    async fn flush(&mut self) -> Result<(), Over> {
        let mut signals = self.signals.clone();
        tokio::select! {
            biased;
            _ = signals.wait_for(|signals| signals.end) => Err(Over),
            flushed = self.lane.flush() => Ok(flushed?),
        }
    }

    fn reset(&mut self) {
        self.in_transaction = false;
        self.settings.clear();
        self.stamp = None;
        self.left.retain(|left| !left.reset);
    }

    // -- answers

    fn status(&self) -> [u8; 2] {
        let open = if self.in_transaction { IN_TRANSACTION } else { 0 };
        (AUTOCOMMIT | open).to_le_bytes()
    }

    fn ok(&mut self, affected: u8) {
        let [low, high] = self.status();
        self.lane.say(&[0, affected, 0, low, high, 0, 0]);
    }

    fn error(&mut self, number: u16, state: &str, what: &str) {
        let body = [&[0xff][..], &number.to_le_bytes(), b"#", state.as_bytes(), what.as_bytes()].concat();
        self.lane.say(&body);
    }

    fn deprecates(&self) -> bool {
        self.agreed & capability::DEPRECATE_EOF != 0
    }

    fn end_of_rows(&mut self) {
        let [low, high] = self.status();
        match self.deprecates() {
            true => self.lane.say(&[0xfe, 0, 0, low, high, 0, 0]),
            false => self.lane.say(&[0xfe, 0, 0, low, high]),
        }
    }

    fn head(&mut self, columns: usize) {
        self.lane.say(&[columns as u8]);
        for _ in 0..columns {
            let mut definition = Vec::new();
            for text in ["def", "", "", "", "c", ""] {
                string(&mut definition, text);
            }
            definition.extend_from_slice(&[12, 45, 0, 255, 0, 0, 0, 253, 0, 0, 0, 0, 0]);
            self.lane.say(&definition);
        }
        if !self.deprecates() {
            self.end_of_rows();
        }
    }

    fn row(&mut self, values: &[Option<&str>]) {
        let mut body = Vec::new();
        for value in values {
            match value {
                None => body.push(0xfb),
                Some(value) => string(&mut body, value),
            }
        }
        self.lane.say(&body);
    }

    fn rows(&mut self, rows: &[Vec<Option<&str>>]) {
        self.head(rows.first().map_or(1, Vec::len));
        rows.iter().for_each(|row| self.row(row));
        self.end_of_rows();
    }

    // -- statements

    async fn query(&mut self, text: &str, packet: &Packet) -> Result<(), Over> {
        let Some(tag) = Tag::first(text) else {
            self.own(text);
            return Ok(());
        };
        let witness = &self.server.witness;
        witness.reached(tag, packet.written_at, self.number, &self.role);
        witness.ran(tag, self.number);
        let known = capability::FOUND_ROWS | capability::DEPRECATE_EOF;
        if self.agreed & known != capability::of_client(tag.client) & known {
            witness.wrong(format_args!("{tag} came to a connection of another kind: {:x}", self.agreed));
        }
        self.look_around(tag);
        self.running(Some(tag));
        let done = self.of_client(tag, text).await;
        self.running(None);
        done
    }

    fn running(&self, tag: Option<Tag>) {
        if let Some(thread) = self.server.state().threads.get_mut(&self.thread) {
            thread.running = tag;
        }
    }

    /// All that is here must be of the one who is.
    fn look_around(&self, tag: Tag) {
        let witness = &self.server.witness;
        let settings =
            self.settings.values().filter_map(|value| Some(("a setting", Tag::first(value)?.client)));
        let left = self.left.iter().map(|left| (left.what, left.maker));
        let acting = self.acting.iter().map(|tag| ("a role", tag.client));
        for (what, maker) in settings.chain(left).chain(acting) {
            witness.found(what, maker, tag.client, self.number);
        }
        let user = witness.with(tag.client, |known| known.who.user.clone());
        if !self.stamp.as_ref().is_some_and(|stamp| stamp.starts_with(&format!("'{user}/"))) {
            witness.wrong(format_args!("{tag} of {user} runs on a connection of {:?}", self.stamp));
        }
    }

    fn leave(&mut self, what: &'static str, tag: Tag, reset: bool) {
        self.left.push(Left { what, maker: tag.client, reset });
    }

    async fn of_client(&mut self, tag: Tag, text: &str) -> Result<(), Over> {
        let between = |from: &str, to: &str| -> Option<&str> {
            let rest = &text[text.find(from)? + from.len()..];
            Some(&rest[..rest.find(to)?])
        };
        let mut words = text.split_whitespace();
        match (words.next().unwrap_or_default(), words.next().unwrap_or_default()) {
            ("SELECT", _) => {
                if let Some(seconds) = between("SLEEP(", ")") {
                    let seconds = Duration::from_secs_f64(seconds.parse().unwrap());
                    if !self.sleep(tag, seconds).await? {
                        self.error(1317, "70100", "Query execution was interrupted");
                        return Ok(());
                    }
                }
                if text.contains("GET_LOCK") {
                    self.leave("a lock", tag, true);
                }
                let count = between("seq_1_to_", " ").map_or(1, |count| count.parse().unwrap());
                self.head(1);
                for _ in 0..count {
                    self.row(&[Some(&tag.to_string())]);
                    if self.lane.out.len() > BUFFER {
                        self.flush().await?;
                    }
                }
                self.end_of_rows();
                return Ok(());
            }
            ("BEGIN", _) => self.in_transaction = true,
            ("COMMIT" | "ROLLBACK", _) => self.in_transaction = false,
            ("SET", "ROLE") => self.acting = Some(tag),
            ("SET", "profiling") => self.leave("a profile", tag, false),
            ("SET", name) if name.starts_with('@') => self.leave("a variable", tag, true),
            ("SET", _) => drop(self.settings.insert("sql_mode", tag.to_string())),
            ("CREATE", _) => self.leave("a temporary table", tag, true),
            _ => {
                self.error(1064, "42000", text);
                return Ok(());
            }
        }
        self.ok(1);
        Ok(())
    }

    /// False: it was stopped.
    async fn sleep(&mut self, tag: Tag, time: Duration) -> Result<bool, Over> {
        let mut signals = self.signals.clone();
        let end = tokio::time::Instant::now() + time;
        loop {
            let look = tokio::time::Instant::now() + LOOK;
            tokio::select! {
                biased;
                signal = signals.wait_for(|signals| signals.end || signals.stop) => {
                    return if signal.is_ok_and(|signals| signals.end) { Err(Over) } else { Ok(false) };
                }
                () = tokio::time::sleep_until(end.min(look)) => {}
            }
            if self.lane.pipe.peer_is_gone() {
                return Err(lost().into());
            }
            if end <= tokio::time::Instant::now() {
                self.server.witness.ran_out(tag);
                return Ok(true);
            }
        }
    }

    /// What is not a client's is of the engine: its scripts.
    fn own(&mut self, text: &str) {
        let (thread, account) = (self.thread.to_string(), format!("{}@%", self.role));
        let acting = self.acting.map(|tag| tag.to_string());
        let identity = vec![Some(&*thread), Some(&*account), Some(DATABASE), acting.as_deref()];
        if text.starts_with("SELECT CONNECTION_ID(),") && text.contains(",SHA2(") {
            let hash = format!("hash{:?}", self.settings);
            let unnamed = if self.stamp.is_none() { "1" } else { "0" };
            // Looked at thoroughly there is a second one.
            let all = (text.matches(",SHA2(").count() == 2).then_some(&*hash);
            let mut row = identity;
            row.extend([Some(unnamed), Some(&*hash), all]);
            self.rows(&[row]);
        } else if text == "SHOW PROFILES" {
            let profiled = self.left.iter().any(|left| left.what == "a profile");
            self.head(1);
            if profiled {
                self.row(&[Some("SELECT")]);
            }
            self.end_of_rows();
        } else if text == RESET_MARK {
            self.settings.insert("div_precision_increment", "29".into());
            self.ok(0);
        } else if text.starts_with("SELECT CONNECTION_ID(),") {
            self.rows(&[identity]);
        } else if text.contains("information_schema.SYSTEM_VARIABLES") {
            let names = ["autocommit", "div_precision_increment", "sql_mode"];
            self.rows(&names.map(|name| vec![Some(name), Some("0")]));
        } else if text.contains("information_schema.APPLICABLE_ROLES") {
            self.rows(&[]);
        } else if text == "BACKUP UNLOCK" {
            self.error(1227, "42000", "Access denied");
        } else if text == "ROLLBACK" {
            self.in_transaction = false;
            self.ok(0);
        } else if text == "SET ROLE NONE" {
            self.acting = None;
            self.ok(0);
        } else if let Some(stamp) = text.strip_prefix("SET @tidegate=") {
            self.stamp = Some(stamp.to_owned());
            self.lent();
            self.ok(0);
        } else if text.starts_with("SET rand_seed1=") || text == "SET tcp_nodelay=DEFAULT" {
            self.ok(0);
        } else if let Some(rest) = text.strip_prefix("KILL ") {
            let (what, number) = rest.split_once(' ').unwrap();
            match self.server.kill(number.parse().unwrap(), what == "CONNECTION", &self.role) {
                true => self.ok(0),
                false => self.error(1094, "HY000", "Unknown thread id"),
            }
        } else {
            self.server.witness.wrong(format_args!("the server is sent {text:?}"));
            self.error(1064, "42000", "what?");
        }
    }

    /// It is dressed for somebody: the pool has at most so many of them, of whatever kind.
    fn lent(&self) {
        let mut state = self.server.state();
        let watch = self.lane.pipe.watch();
        state.threads.get_mut(&self.thread).unwrap().lent = Some(Box::new(watch));
        let lent = state.threads.values().filter(|thread| {
            thread.role == self.role && thread.lent.as_ref().is_some_and(|is_dropped| !is_dropped())
        });
        let count = lent.count();
        drop(state);
        if count > self.server.size_max as usize {
            self.server.witness.wrong(format_args!("{count} connections of {} at once", self.role));
        }
    }
}
