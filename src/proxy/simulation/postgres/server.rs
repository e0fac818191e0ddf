//! A server as the engine needs it: logins, both query protocols, transactions, COPY, state of a session,
//! requests to stop and to end. It follows `PostgresMain`; of SQL it knows what the clients of the
//! simulation and the scripts of the pool say.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::BufMut;
use tokio::sync::watch;

use super::super::witness::{Tag, Witness};
use super::super::{PASSWORD, Plan};
use super::lane::{Lane, Message, lost};
use crate::credential::scram::{Candidate, Exchange};
use crate::protocol::kit::postgres::candidate;
use crate::protocol::postgres::texts;
use crate::tls::memory::{Dice, Pipe};

const SALT: [u8; 16] = [9; 16];
/// As `client_connection_check_interval` is asked for.
const LOOK: Duration = Duration::from_millis(500);
/// What the server says of itself at a login, beside the name of the application.
const REPORTED: [(&str, &str); 4] = [
    ("TimeZone", "UTC"),
    ("client_encoding", "UTF8"),
    ("server_version", "18.1"),
    ("standard_conforming_strings", "on"),
];
/// A start-up setting of every client.
pub const OWNER: &str = "my.owner";
/// A backend sends what it has when it has this much.
const BUFFER: usize = 8 << 10;

/// The whole server.
pub struct Postgres {
    witness: Arc<Witness>,
    state: Mutex<State>,
    size_max: u32,
    crashes: u64,
    with_password: bool,
    candidate: Candidate,
}

#[derive(Default)]
struct State {
    backends: BTreeMap<u32, Backend>,
    next: u32,
    /// What was committed.
    history: u64,
    /// What a connection held of its client when it was reset, by client.
    given_back: BTreeMap<u32, Held>,
}

/// What a session may rely on.
struct Held {
    settings: BTreeMap<String, String>,
    statements: BTreeMap<String, String>,
    /// What cannot be put back.
    lasting: Option<&'static str>,
}

/// What others see of a connection.
struct Backend {
    key: u32,
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

impl Postgres {
    pub fn start(witness: Arc<Witness>, plan: &Plan, dice: &mut Dice) -> Self {
        Self {
            witness,
            state: Mutex::default(),
            size_max: plan.size_max,
            crashes: plan.crashes,
            with_password: dice.once_in(2),
            candidate: candidate(PASSWORD, SALT, 4_096),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// A request to stop what runs there.
    fn stop(&self, process: u32, key: u32) {
        let state = self.state();
        let Some(backend) = state.backends.get(&process).filter(|backend| backend.key == key) else { return };
        if let Some(tag) = backend.running {
            backend.signals.send_modify(|signals| signals.stop = true);
            self.witness.stopped(tag, "cancel");
        }
    }

    fn terminate(&self, process: u32, role: &str) -> bool {
        let state = self.state();
        let Some(backend) = state.backends.get(&process).filter(|backend| backend.role == role) else {
            return false;
        };
        backend.signals.send_modify(|signals| signals.end = true);
        if let Some(tag) = backend.running {
            self.witness.stopped(tag, "end");
        }
        true
    }
}

/// Somebody's mark on a connection.
struct Left {
    what: &'static str,
    maker: u32,
    /// `DISCARD ALL` does away with it.
    discarded: bool,
}

/// Whose a name or a value is that was made for a client: `of3`.
fn owner(text: &str) -> Option<u32> {
    let digits = &text[text.find("of")? + 2..];
    digits[..digits.bytes().take_while(u8::is_ascii_digit).count()].parse().ok()
}

struct Session<'a> {
    server: &'a Postgres,
    lane: Lane,
    dice: Dice,
    process: u32,
    number: u64,
    role: String,
    signals: watch::Receiver<Signals>,
    settings: BTreeMap<String, String>,
    login_name: String,
    told_name: String,
    left: Vec<Left>,
    acting: String,
    statements: BTreeMap<String, String>,
    portals: BTreeMap<String, (String, Vec<String>)>,
    status: u8,
    skipping: bool,
    /// There is a temporary schema of this connection.
    temporary: bool,
    /// Who had something done since it was reset last.
    user: Option<u32>,
}

/// Why a connection ends.
enum Over {
    Lost,
    /// A word first.
    Fatal(&'static str),
}

impl From<io::Error> for Over {
    fn from(_: io::Error) -> Self {
        Self::Lost
    }
}

/// A statement failed, with this SQLSTATE.
struct Failed(&'static str);

pub async fn serve(server: &Postgres, pipe: Pipe, dice: Dice) {
    let number = pipe.number;
    let mut lane = Lane::new(pipe);
    let Ok(packet) = lane.packet().await else { return };
    let code = u32::from_be_bytes(*packet.first_chunk().unwrap());
    if code == 80_877_102 {
        let process = u32::from_be_bytes(packet[4..8].try_into().unwrap());
        server.stop(process, u32::from_be_bytes(packet[8..12].try_into().unwrap()));
        return;
    }
    assert_eq!(code >> 16, 3);
    let texts: Vec<&str> =
        packet[4..].split(|byte| *byte == 0).map(|t| std::str::from_utf8(t).unwrap()).collect();
    let parameters: BTreeMap<&str, &str> = texts.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
    let role = parameters["user"].to_owned();
    if log_in(server, &mut lane).await.is_err() {
        return;
    }
    let name = parameters["application_name"].to_owned();
    let (signal, signals) = watch::channel(Signals::default());
    let process = {
        let mut state = server.state();
        state.next += 1;
        let process = state.next;
        let backend =
            Backend { key: process * 7, role: role.clone(), running: None, signals: signal, lent: None };
        state.backends.insert(process, backend);
        process
    };
    let mut session = Session {
        server,
        lane,
        dice,
        process,
        number,
        acting: role.clone(),
        role,
        signals,
        settings: BTreeMap::from([("application_name".to_owned(), name.clone())]),
        login_name: name.clone(),
        told_name: name,
        left: Vec::new(),
        statements: BTreeMap::new(),
        portals: BTreeMap::new(),
        status: b'I',
        skipping: false,
        temporary: false,
        user: None,
    };
    if let Err(Over::Fatal(state)) = session.run().await {
        session.complain("FATAL", state, "the end");
        let _ = session.lane.flush().await;
    }
    server.witness.tell(format_args!("server {number}: closed"));
    server.state().backends.remove(&process);
}

async fn log_in(server: &Postgres, lane: &mut Lane) -> io::Result<()> {
    if server.with_password {
        let user = "connector".parse().ok();
        let mut exchange = Exchange::new(user, vec![server.candidate.clone()], SALT, 4_096);
        lane.say(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0");
        lane.flush().await?;
        let first = lane.next().await?;
        let challenge = exchange.client_first(&first.body[18..], "servernonce").map_err(io::Error::other)?;
        lane.say(b'R', &[b"\0\0\0\x0b", &challenge[..]].concat());
        lane.flush().await?;
        let last = lane.next().await?;
        let (_, signature) = exchange.client_final(&last.body).map_err(io::Error::other)?;
        lane.say(b'R', &[b"\0\0\0\x0c", &signature[..]].concat());
    }
    lane.say(b'R', &[0; 4]);
    Ok(())
}

impl Session<'_> {
    async fn run(&mut self) -> Result<(), Over> {
        self.lane.say(b'S', format!("application_name\0{}\0", self.told_name).as_bytes());
        for (name, value) in REPORTED {
            self.lane.say(b'S', format!("{name}\0{value}\0").as_bytes());
        }
        self.lane.say(b'K', &[self.process.to_be_bytes(), (self.process * 7).to_be_bytes()].concat());
        self.ready().await?;
        loop {
            let message = self.listen().await?;
            if message.tag == b'X' {
                return Ok(());
            }
            if self.dice.once_in(self.server.crashes) {
                return Err(Over::Lost);
            }
            self.take(message).await?;
        }
    }

    /// The next message, or the end.
    async fn listen(&mut self) -> Result<Message, Over> {
        // What was asked of an idle connection is forgotten.
        self.server.state().backends.get(&self.process).inspect(|backend| {
            backend.signals.send_modify(|signals| signals.stop = false);
        });
        if let Some(message) = self.lane.take()? {
            return Ok(message);
        }
        self.flush().await?;
        let mut signals = self.signals.clone();
        tokio::select! {
            biased;
            _ = signals.wait_for(|signals| signals.end) => Err(Over::Fatal("57P01")),
            message = self.lane.next() => Ok(message?),
        }
    }

    async fn flush(&mut self) -> Result<(), Over> {
        let mut signals = self.signals.clone();
        tokio::select! {
            biased;
            _ = signals.wait_for(|signals| signals.end) => Err(Over::Lost),
            flushed = self.lane.flush() => Ok(flushed?),
        }
    }

    async fn ready(&mut self) -> Result<(), Over> {
        if self.status == b'I' {
            self.portals.clear();
        }
        let name = self.settings["application_name"].clone();
        if name != self.told_name {
            self.lane.say(b'S', format!("application_name\0{name}\0").as_bytes());
            self.told_name = name;
        }
        self.lane.say(b'Z', &[self.status]);
        self.flush().await
    }

    fn complain(&mut self, severity: &str, state: &str, what: &str) {
        let text = format!("S{severity}\0V{severity}\0C{state}\0M{what}\0\0");
        self.lane.say(b'E', text.as_bytes());
    }

    fn fail(&mut self, state: &str, what: &str) {
        self.complain("ERROR", state, what);
        if self.status == b'T' {
            self.status = b'E';
        }
    }

    fn fail_batch(&mut self, state: &str, what: &str) {
        self.fail(state, what);
        self.skipping = true;
    }

    /// Everything of a client's is reported as soon as it is here.
    fn report(&self, message: &Message) {
        let text = String::from_utf8_lossy(&message.body);
        for tag in Tag::all(&text) {
            self.server.witness.reached(tag, message.written_at, self.number, &self.role);
        }
    }

    async fn take(&mut self, message: Message) -> Result<(), Over> {
        self.report(&message);
        let strings = message.strings();
        if self.skipping && message.tag != b'S' {
            return Ok(());
        }
        match message.tag {
            b'Q' => {
                self.statements.remove("");
                self.portals.remove("");
                let text = strings[0].clone();
                if let Err(Failed(state)) = self.execute(&text, &[], true).await? {
                    self.fail(state, &text);
                }
                self.ready().await?;
            }
            b'P' => match (strings[0].as_str(), strings[1].as_str()) {
                (name, _) if !name.is_empty() && self.statements.contains_key(name) => {
                    self.fail_batch("42P05", name);
                }
                (name, text) => {
                    self.statements.insert(name.to_owned(), text.to_owned());
                    self.lane.say(b'1', b"");
                }
            },
            b'B' => self.bind(&message.body, &strings),
            b'D' => match strings[0].split_at(1) {
                ("S", name) if !self.statements.contains_key(name) => self.fail_batch("26000", name),
                (kind, _) => {
                    if kind == "S" {
                        self.lane.say(b't', &[0, 0]);
                    }
                    self.lane.say(b'n', b"");
                }
            },
            b'C' => {
                let (kind, name) = strings[0].split_at(1);
                match kind {
                    "S" => drop(self.statements.remove(name)),
                    _ => drop(self.portals.remove(name)),
                }
                self.lane.say(b'3', b"");
            }
            b'E' => match self.portals.get(&strings[0]).cloned() {
                None => self.fail_batch("34000", &strings[0]),
                Some((text, values)) => {
                    if let Err(Failed(state)) = self.execute(&text, &values, false).await? {
                        self.fail_batch(state, &format!("{text} {values:?}"));
                    }
                }
            },
            b'S' => {
                self.skipping = false;
                self.ready().await?;
            }
            b'F' => {
                self.call(&message.body);
                self.ready().await?;
            }
            b'H' => self.flush().await?,
            // Of a COPY that is over.
            b'd' | b'c' | b'f' => {}
            _ => return Err(Over::Fatal("08P01")),
        }
        Ok(())
    }

    /// The one function that is called as such.
    fn call(&mut self, body: &[u8]) {
        let mut rest = &body[8..];
        let mut values = Vec::new();
        while let Some((head, tail)) = rest.split_first_chunk::<4>() {
            let (value, tail) = tail.split_at(u32::from_be_bytes(*head) as usize);
            values.push(String::from_utf8_lossy(value).into_owned());
            rest = tail;
        }
        match (u32::from_be_bytes(*body.first_chunk().unwrap()), &values[..]) {
            (texts::SET_CONFIG, [name, value, local]) if local == "f" && self.status == b'I' => {
                self.settings.insert(name.clone(), value.clone());
                if name == "application_name" {
                    self.lent();
                }
                self.lane.say(b'V', &[&(value.len() as u32).to_be_bytes()[..], value.as_bytes()].concat());
            }
            (function, _) => {
                self.server.witness.wrong(format_args!("the server is to call {function} {values:?}"));
                self.fail("42883", "no such function");
            }
        }
    }

    fn bind(&mut self, body: &[u8], strings: &[String]) {
        let (portal, statement) = (&strings[0], &strings[1]);
        let mut rest = &body[portal.len() + statement.len() + 2..];
        let mut number = || {
            let (head, tail) = rest.split_first_chunk::<2>()?;
            rest = tail;
            Some(usize::from(u16::from_be_bytes(*head)))
        };
        let formats = number().unwrap_or_default();
        if formats > 0 {
            return self.fail_batch("08P01", "formats");
        }
        let count = number().unwrap_or_default();
        let mut values = Vec::new();
        for _ in 0..count {
            let Some((head, tail)) = rest.split_first_chunk::<4>() else { break };
            let (value, tail) = tail.split_at(u32::from_be_bytes(*head) as usize);
            values.push(String::from_utf8_lossy(value).into_owned());
            rest = tail;
        }
        match self.statements.get(statement).cloned() {
            None => self.fail_batch("26000", &values.concat()),
            Some(text) => {
                self.portals.insert(portal.clone(), (text, values));
                self.lane.say(b'2', b"");
            }
        }
    }

    fn rows(&mut self, described: bool, rows: &[Vec<String>]) {
        if described {
            self.lane.say(b'T', &[0, 0]);
        }
        for row in rows {
            let mut body = Vec::new();
            body.put_u16(row.len() as u16);
            for value in row {
                body.put_u32(value.len() as u32);
                body.extend_from_slice(value.as_bytes());
            }
            self.lane.say(b'D', &body);
        }
        self.done(&format!("SELECT {}", rows.len()));
    }

    fn done(&mut self, tag: &str) {
        self.lane.say(b'C', format!("{tag}\0").as_bytes());
    }

    async fn execute(
        &mut self,
        text: &str,
        values: &[String],
        simple: bool,
    ) -> Result<Result<(), Failed>, Over> {
        // A value that is put back still bears the mark of the statement that made it.
        let whole = format!("{text} {values:?}");
        let Some(tag) = Tag::first(&whole) else {
            return Ok(self.own(text, values, simple));
        };
        let failed = self.status == b'E' && !text.starts_with("ROLLBACK") && !text.starts_with("COMMIT");
        if failed {
            return Ok(Err(Failed("25P02")));
        }
        self.server.witness.ran(tag, self.number);
        self.look_around(tag);
        if self.user.replace(tag.client) != Some(tag.client) {
            self.look_for_all(tag.client);
        }
        self.running(Some(tag));
        let done = self.of_client(tag, text, simple).await;
        self.running(None);
        done
    }

    fn running(&self, tag: Option<Tag>) {
        if let Some(backend) = self.server.state().backends.get_mut(&self.process) {
            backend.running = tag;
        }
    }

    /// All that is here must be of the one who is.
    fn look_around(&self, tag: Tag) {
        let witness = &self.server.witness;
        let names = self.statements.keys().filter_map(|name| Some(("a prepared statement", owner(name)?)));
        let settings = self.settings.values().filter_map(|value| {
            Some(("a setting", owner(value).or_else(|| Tag::first(value).map(|tag| tag.client))?))
        });
        let left = self.left.iter().map(|left| (left.what, left.maker));
        for (what, maker) in names.chain(settings).chain(left) {
            witness.found(what, maker, tag.client, self.number);
        }
        if let Some(maker) = Tag::first(&self.acting).map(|tag| tag.client) {
            witness.found("a role", maker, tag.client, self.number);
        }
    }

    /// What the session of a client made on another connection that was given back must be here.
    fn look_for_all(&self, client: u32) {
        let Some(held) = self.server.state().given_back.remove(&client) else { return };
        let witness = &self.server.witness;
        witness.tell(format_args!("server {}: c{client} goes on here", self.number));
        if let Some(what) = held.lasting {
            witness.wrong(format_args!("c{client} has lost {what}"));
        }
        for (kind, made, here) in
            [("setting", &held.settings, &self.settings), ("statement", &held.statements, &self.statements)]
        {
            for (name, value) in made.iter().filter(|(name, value)| here.get(*name) != Some(value)) {
                let found = here.get(name);
                witness.wrong(format_args!("c{client} has lost the {kind} {name:?} {value:?}: {found:?}"));
            }
        }
    }

    /// The connection is reset: what its session had, if that goes on elsewhere.
    fn give_back(&mut self) {
        let Some(client) = self.user.take() else { return };
        let custom = |name: &str| name.contains('.') && name != OWNER;
        let lasting = if self.acting != self.role {
            Some("a role")
        } else if self.settings.keys().any(|name| custom(name)) {
            Some("a setting of its own")
        } else {
            self.left.first().map(|left| left.what)
        };
        let mut settings = self.settings.clone();
        settings.remove("application_name");
        let statements = self.statements.clone().into_iter();
        let statements = statements.filter(|(name, _)| owner(name).is_some()).collect();
        self.server.state().given_back.insert(client, Held { settings, statements, lasting });
    }

    fn leave(&mut self, what: &'static str, tag: Tag) {
        self.left.push(Left { what, maker: tag.client, discarded: true });
    }

    fn discard_all(&mut self) {
        self.left.retain(|left| !left.discarded);
        self.statements.clear();
        self.portals.clear();
        self.acting.clone_from(&self.role);
        self.settings = BTreeMap::from([("application_name".to_owned(), self.login_name.clone())]);
    }

    async fn of_client(&mut self, tag: Tag, text: &str, simple: bool) -> Result<Result<(), Failed>, Over> {
        let row = |rest: &str| vec![tag.to_string(), rest.to_owned()];
        let between = |from: &str, to: &str| -> Option<&str> {
            let rest = &text[text.find(from)? + from.len()..];
            Some(&rest[..rest.find(to)?])
        };
        let first = text.split_whitespace().next().unwrap_or_default();
        match first {
            "SELECT" if text.contains("1/0") => return Ok(Err(Failed("22012"))),
            "SELECT" => {
                if let Some(seconds) = between("pg_sleep(", ")") {
                    let seconds = Duration::from_secs_f64(seconds.parse().unwrap());
                    if let Err(failed) = self.sleep(tag, seconds).await? {
                        return Ok(Err(failed));
                    }
                }
                if text.contains("pg_advisory_lock") {
                    self.leave("a lock", tag);
                }
                if text.contains("setseed") {
                    self.left.push(Left { what: "a seed", maker: tag.client, discarded: false });
                }
                let count = between("generate_series(1, ", ")").map_or(1, |count| count.parse().unwrap());
                return self.many(tag, count, simple, false).await.map(Ok);
            }
            "COPY" if text.contains("FROM STDIN") => return self.copy_in(tag).await,
            "COPY" => {
                let count = between("generate_series(1, ", ")").map_or(1, |count| count.parse().unwrap());
                return self.many(tag, count, simple, true).await.map(Ok);
            }
            "BEGIN" => self.status = b'T',
            "COMMIT" | "ROLLBACK" => self.status = b'I',
            "SET" if text.starts_with("SET ROLE") => self.acting = row("").concat(),
            "SET" => {
                let name = text.split_whitespace().nth(1).unwrap_or_default().trim_matches('"').to_owned();
                self.settings.insert(name, tag.to_string());
            }
            "CREATE" => {
                self.server.state().history += 1;
                self.temporary = true;
                self.leave("a temporary table", tag);
            }
            "LISTEN" => self.leave("a channel", tag),
            "PREPARE" => self.leave("a prepared statement", tag),
            "DECLARE" => self.leave("a cursor", tag),
            "DISCARD" if self.status != b'I' => return Ok(Err(Failed("25001"))),
            "DISCARD" => {
                self.discard_all();
                self.done("DISCARD ALL");
                return Ok(Ok(()));
            }
            _ => return Ok(Err(Failed("42601"))),
        }
        self.done(first);
        Ok(Ok(()))
    }

    /// Many rows, sent as they come to be.
    async fn many(&mut self, tag: Tag, count: u64, simple: bool, copy: bool) -> Result<(), Over> {
        match (copy, simple) {
            (true, _) => self.lane.say(b'H', &[0, 0, 0]),
            (false, true) => self.lane.say(b'T', &[0, 0]),
            _ => {}
        }
        for _ in 0..count {
            let text = tag.to_string();
            match copy {
                true => self.lane.say(b'd', format!("{text}\n").as_bytes()),
                false => {
                    let head = [&1u16.to_be_bytes()[..], &(text.len() as u32).to_be_bytes()].concat();
                    self.lane.say(b'D', &[&head[..], text.as_bytes()].concat());
                }
            }
            if self.lane.out.len() > BUFFER {
                self.flush().await?;
            }
        }
        if copy {
            self.lane.say(b'c', b"");
        }
        self.done(&format!("{} {count}", if copy { "COPY" } else { "SELECT" }));
        Ok(())
    }

    async fn copy_in(&mut self, tag: Tag) -> Result<Result<(), Failed>, Over> {
        self.lane.say(b'G', &[0, 0, 0]);
        self.flush().await?;
        let mut rows = 0;
        loop {
            let mut signals = self.signals.clone();
            let message = tokio::select! {
                biased;
                signal = signals.wait_for(|signals| signals.end || signals.stop) => {
                    let ends = signal.is_ok_and(|signals| signals.end);
                    return if ends { Err(Over::Fatal("57P01")) } else { Ok(Err(Failed("57014"))) };
                }
                message = self.lane.next() => message?,
            };
            self.report(&message);
            match message.tag {
                b'd' => rows += 1,
                b'H' | b'S' => {}
                b'c' => break,
                b'f' => return Ok(Err(Failed("57014"))),
                // "Unexpected message type during COPY from stdin": the connection is lost.
                _ => return Err(Over::Fatal("08P01")),
            }
        }
        self.done(&format!("COPY {rows}"));
        self.server.state().history += 1;
        self.server.witness.ran_out(tag);
        Ok(Ok(()))
    }

    async fn sleep(&mut self, tag: Tag, time: Duration) -> Result<Result<(), Failed>, Over> {
        let mut signals = self.signals.clone();
        let end = tokio::time::Instant::now() + time;
        loop {
            let look = tokio::time::Instant::now() + LOOK;
            tokio::select! {
                biased;
                signal = signals.wait_for(|signals| signals.end || signals.stop) => {
                    let ends = signal.is_ok_and(|signals| signals.end);
                    return if ends { Err(Over::Fatal("57P01")) } else { Ok(Err(Failed("57014"))) };
                }
                () = tokio::time::sleep_until(end.min(look)) => {}
            }
            if self.lane.pipe.peer_is_gone() {
                return Err(lost().into());
            }
            if end <= tokio::time::Instant::now() {
                self.server.witness.ran_out(tag);
                return Ok(Ok(()));
            }
        }
    }

    /// What is not a client's is of the engine: its scripts, and what it puts back.
    fn own(&mut self, text: &str, values: &[String], simple: bool) -> Result<(), Failed> {
        let row = |topic: &str, subject: &str, detail: &str| {
            vec![topic.to_owned(), subject.to_owned(), detail.to_owned()]
        };
        let identity = row("identity", &self.role, &self.acting);
        if self.status == b'E' && text != "ROLLBACK" {
            return Err(Failed("25P02"));
        }
        if text.is_empty() {
            self.lane.say(b'I', b"");
        } else if text == texts::probe() {
            let (process, began) = (self.process.to_string(), self.number.to_string());
            let backend = row("backend", &process, &began);
            self.rows(
                simple,
                &[
                    identity,
                    backend,
                    row("extension", "plpgsql", ""),
                    row("language", "plpgsql", ""),
                    row("snapshot", &self.history(), "false"),
                ],
            );
        } else if texts::is_reset(text) {
            let mut rows = vec![
                identity,
                row("extension", "plpgsql", ""),
                row("language", "plpgsql", ""),
                row("snapshot", &self.history(), "false"),
            ];
            let left = self.left.iter().filter(|left| left.discarded);
            rows.extend(left.map(|left| row("leftover", left.what, "")));
            rows.extend(self.statements.keys().map(|_| row("leftover", "a prepared statement", "")));
            rows.push(row("reported", "application_name", &self.settings["application_name"]));
            rows.push(row("reported", "TimeZone", "UTC"));
            self.rows(simple, &rows);
        } else if let Some(names) = texts::glanced(text) {
            self.left.retain(|left| left.what != "a seed");
            self.glance(&names, simple);
        } else if let Some(names) = texts::glimpsed(text) {
            self.left.retain(|left| left.what != "a seed");
            self.glimpse(&names, simple);
        } else if texts::is_reseed(text) {
            self.left.retain(|left| left.what != "a seed");
            self.rows(simple, &[row("seed", "", "")]);
        } else if let Some(processes) = texts::terminated(text) {
            let mut rows = vec![identity];
            for (process, began) in processes {
                let done = self.server.terminate(process, &self.role);
                rows.push(row("ended", if done { "true" } else { "false" }, &format!("{process} {began}")));
            }
            self.rows(simple, &rows);
        } else if texts::is_proof(text) {
            self.prove(identity);
        } else if text == "DISCARD ALL" {
            self.give_back();
            self.discard_all();
            self.done(text);
        } else if text == "ROLLBACK" {
            self.status = b'I';
            self.done(text);
        } else if let Some(rest) = text.strip_prefix("SET LOCAL ").or(text.strip_prefix("SET ")) {
            let (name, value) = rest.split_once(" TO ").unwrap_or_default();
            let name: String = name.chars().filter(|c| *c != '"').collect();
            self.settings.insert(name, value.trim_start_matches('E').trim_matches('\'').to_owned());
            self.done("SET");
        } else {
            self.server.witness.wrong(format_args!("the server is sent {text:?} {values:?}"));
            return Err(Failed("42601"));
        }
        Ok(())
    }

    /// The short form of a reset's question.
    fn glance(&mut self, names: &[&str], simple: bool) {
        let left = |what: &str| self.left.iter().any(|left| left.what == what).to_string();
        let prepared = !self.statements.is_empty() || left("a prepared statement") == "true";
        let mut row = vec![
            self.role.clone(),
            self.acting.clone(),
            // A temporary schema stays, whatever becomes of what was in it.
            u32::from(self.temporary).to_string(),
            prepared.to_string(),
            left("a cursor"),
            left("a channel"),
            "plpgsql".into(),
            "plpgsql".into(),
            "false".into(),
            self.history(),
            String::new(),
        ];
        row.extend(names.iter().map(|name| self.setting(name).to_owned()));
        self.rows(simple, &[row]);
    }

    /// The shortest one: a row for each value, and what is left beside them.
    fn glimpse(&mut self, names: &[&str], simple: bool) {
        let left = |what: &str| usize::from(self.left.iter().any(|left| left.what == what));
        let prepared = self.statements.len() + left("a prepared statement");
        let counts = [prepared, left("a cursor"), left("a channel")];
        let temporary = u32::from(self.temporary).to_string();
        let fixed = [self.role.clone(), self.acting.clone(), temporary, "false".into(), self.history()];
        let mut values = Vec::from(fixed);
        values.push(String::new());
        values.extend(names.iter().map(|name| self.setting(name).to_owned()));
        let count = counts.into_iter().fold(values.len(), usize::max);
        if simple {
            self.lane.say(b'T', &[0, 0]);
        }
        for at in 0..count {
            let mut body = 4u16.to_be_bytes().to_vec();
            let cells = counts.map(|count| (at < count).then_some("x"));
            for cell in std::iter::once(values.get(at).map(String::as_str)).chain(cells) {
                body.put_i32(cell.map_or(-1, |cell| cell.len() as i32));
                body.extend_from_slice(cell.unwrap_or_default().as_bytes());
            }
            self.lane.say(b'D', &body);
        }
        self.done(&format!("SELECT {count}"));
    }

    fn history(&self) -> String {
        let history = self.server.state().history;
        format!("{history}:{history}:")
    }

    /// The value of a setting that is reported at login.
    fn setting(&self, name: &str) -> &str {
        let reported = REPORTED.iter().find(|(reported, _)| *reported == name).map(|(_, value)| *value);
        self.settings.get(name).map(String::as_str).or(reported).unwrap_or_default()
    }

    /// What the catalogs show of this session.
    fn prove(&mut self, identity: Vec<String>) {
        let row = |topic: &str, subject: &str, detail: &str| {
            vec![topic.to_owned(), subject.to_owned(), detail.to_owned()]
        };
        let acting = if self.acting == self.role { "none" } else { &self.acting };
        let mut rows = vec![identity, row("acting", acting, ""), row("code", "0:", "")];
        let prepared = self.statements.keys().filter(|name| owner(name).is_some()).count();
        if prepared > 0 {
            rows.push(row("prepared", "protocol", &prepared.to_string()));
        }
        for left in &self.left {
            match left.what {
                "a prepared statement" => rows.push(row("prepared", "sql", "1")),
                "a cursor" => rows.push(row("pin", "a cursor", "")),
                "a channel" => rows.push(row("pin", "a channel that is listened to", "")),
                "a lock" => rows.push(row("pin", "an advisory lock", "")),
                "a temporary table" => rows.push(row("pin", "a temporary object", "")),
                _ => {}
            }
        }
        // No catalog shows one with a dot.
        let plain =
            self.settings.iter().filter(|(name, _)| !name.contains('.') && *name != "application_name");
        rows.extend(plain.map(|(name, value)| row("setting", name, value)));
        self.rows(false, &rows);
    }

    /// It is dressed for somebody: the pool has at most so many of them.
    fn lent(&self) {
        let mut state = self.server.state();
        let watch = self.lane.pipe.watch();
        state.backends.get_mut(&self.process).unwrap().lent = Some(Box::new(watch));
        let lent = state.backends.values().filter(|backend| {
            backend.role == self.role && backend.lent.as_ref().is_some_and(|is_dropped| !is_dropped())
        });
        let count = lent.count();
        drop(state);
        if count > self.server.size_max as usize {
            self.server.witness.wrong(format_args!("{count} connections of {} at once", self.role));
        }
    }
}
