use std::sync::atomic::AtomicU8;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use dashmap::DashMap;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, oneshot};

use super::peer::Peer;
use crate::grant::{Admission, Book, Standing};
use crate::model::{AccessLevel, GrantId, Name, SessionId, Time};
use crate::protocol::session::Boundary;

/// One live session, for `session list`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionInfo {
    pub session: SessionId,
    pub user: Name,
    pub target: Name,
    pub level: AccessLevel,
    pub grant: GrantId,
    pub database: Option<String>,
    pub peer: String,
    pub protocol: String,
    pub started_at: Time,
    /// When its grant or credential ends.
    pub until: Time,
    /// `idle`, `running`, `in transaction`, `parked`, `pinned`, `waiting`.
    pub state: String,
    /// What keeps an idle session on its connection.
    pub pinned: Option<String>,
    pub statements: u64,
    pub bytes_up: u64,
    pub bytes_down: u64,
    /// The server's own name of the leased connection.
    pub upstream: Option<String>,
}

/// What a session is doing, as it last said itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum State {
    Idle = 0,
    Busy = 1,
    InTransaction = 2,
    /// It has no connection.
    Parked = 3,
    /// It waits for one.
    Waiting = 4,
}

impl State {
    pub fn of(boundary: Boundary) -> Self {
        match boundary {
            Boundary::Busy => Self::Busy,
            Boundary::Idle => Self::Idle,
            Boundary::InTransaction => Self::InTransaction,
        }
    }

    fn words(value: u8) -> &'static str {
        match value {
            1 => "running",
            2 => "in transaction",
            3 => "parked",
            4 => "waiting",
            _ => "idle",
        }
    }
}

/// Counters that a session writes and others read.
#[derive(Default)]
pub(super) struct Stats {
    pub bytes_up: AtomicU64,
    pub bytes_down: AtomicU64,
    pub statements: AtomicU64,
    state: AtomicU8,
    pinned: Mutex<Option<&'static str>>,
}

impl Stats {
    pub fn see(&self, statements: u64, state: State) {
        self.statements.store(statements, Relaxed);
        self.state.store(state as u8, Relaxed);
    }

    /// What keeps the session on its connection, as was last found.
    pub fn pin(&self, why: Option<&'static str>) {
        *self.pinned.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// The state in words, and what pins an idle session.
    fn words(&self) -> (&'static str, Option<&'static str>) {
        let state = State::words(self.state.load(Relaxed));
        let pinned = *self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        match pinned.filter(|_| state == "idle") {
            Some(why) => ("pinned", Some(why)),
            None => (state, None),
        }
    }
}

/// Kept for as long as a cancel request is on its way: dropped when the server has it, or when nothing is
/// sent.
#[derive(Debug)]
pub(super) struct Landing(#[expect(dead_code, reason = "what counts is its drop")] oneshot::Sender<()>);

impl Landing {
    /// The other end resolves, with an error, when this one is dropped.
    pub fn new() -> (Self, oneshot::Receiver<()>) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), receiver)
    }
}

/// What can be asked of a session from outside. It decides itself what to do.
#[derive(Debug)]
pub(super) enum Command {
    /// A cancel request with its key has come.
    Cancel {
        peer: String,
        landing: Landing,
    },
    Kill,
    /// Another session of the same person has asked for the end of this one.
    End,
    /// Give the connection back if nothing would be lost, and take another at the next statement.
    Park,
}

/// Commands for one session, of which few ever get any.
#[derive(Default)]
pub(super) struct Mailbox {
    queue: Mutex<Vec<Command>>,
    filled: Notify,
}

impl Mailbox {
    /// A client can fill it with cancels, and more of them are dropped then: it has been asked already. A kill always
    /// fits.
    pub fn put(&self, command: Command) {
        let mut queue = self.queue();
        if queue.len() < COMMANDS_MAX || matches!(command, Command::Kill | Command::End) {
            queue.push(command);
        }
        drop(queue);
        self.filled.notify_one();
    }

    /// The next command. Cancel safe.
    pub async fn next(&self) -> Command {
        loop {
            let filled = self.filled.notified();
            let command = {
                let mut queue = self.queue();
                let command = (!queue.is_empty()).then(|| queue.remove(0));
                if queue.is_empty() {
                    *queue = Vec::new();
                }
                command
            };
            match command {
                Some(command) => return command,
                None => filled.await,
            }
        }
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, Vec<Command>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Commands that wait for a session to take them.
const COMMANDS_MAX: usize = 8;

/// What the registry knows of one session.
pub(super) struct Listed {
    pub session: SessionId,
    pub peer: Peer,
    /// The number by which its own client knows it.
    pub process: u32,
    pub protocol: &'static str,
    pub started_at: Time,
    pub admission: ArcSwap<Admission>,
    pub upstream: ArcSwapOption<String>,
    pub stats: Stats,
    pub commands: Mailbox,
}

/// Lists and addresses the live sessions; ends none by itself.
#[derive(Default)]
pub struct Registry {
    sessions: DashMap<SessionId, Arc<Listed>>,
}

/// Takes the session off the list when dropped.
pub(super) struct Entry {
    registry: Arc<Registry>,
    pub listed: Arc<Listed>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.registry.sessions.remove(&self.listed.session);
    }
}

impl Registry {
    pub(super) fn enter(self: &Arc<Self>, listed: Listed) -> Entry {
        let listed = Arc::new(listed);
        self.sessions.insert(listed.session, listed.clone());
        Entry { registry: self.clone(), listed }
    }

    /// Newest last.
    pub fn list(&self) -> Vec<SessionInfo> {
        let mut list: Vec<_> = self.sessions.iter().map(|entry| entry.info()).collect();
        list.sort_by_key(|info| info.session);
        list
    }

    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Asks a session to end with `Refusal::Killed`. False: there is none of that id.
    pub fn kill(&self, session: SessionId) -> bool {
        self.send(session, Command::Kill)
    }

    /// Asks an idle session to give its connection back until it needs one again.
    pub fn park(&self, session: SessionId) -> bool {
        self.send(session, Command::Park)
    }

    pub(super) fn send(&self, session: SessionId, command: Command) -> bool {
        // Out of the map first: nothing is held while sending.
        let listed = self.sessions.get(&session).map(|entry| entry.value().clone());
        listed.is_some_and(|listed| {
            listed.commands.put(command);
            true
        })
    }

    /// The session of this one's person that has the number: the one that its client was told, or the server's own
    /// for a connection to the same target.
    pub(super) fn sibling(&self, of: &Listed, number: u64) -> Option<SessionId> {
        let asks = of.admission.load();
        let upstream = number.to_string();
        let is_meant = |other: &Listed| {
            let has = other.admission.load();
            let at_server = || other.upstream.load().as_ref().is_some_and(|name| **name == upstream);
            has.user() == asks.user()
                && (u64::from(other.process) == number || has.target() == asks.target() && at_server())
        };
        self.sessions.iter().find(|entry| is_meant(entry)).map(|entry| entry.session)
    }

    /// The live sessions that this book would end.
    pub fn would_cut(&self, book: &Book, now: Time) -> Vec<SessionId> {
        let mut cut: Vec<_> = self
            .sessions
            .iter()
            .filter(|entry| matches!(book.recheck(&entry.admission.load(), now, &|_| 0), Standing::Ended(_)))
            .map(|entry| entry.session)
            .collect();
        cut.sort_unstable();
        cut
    }
}

impl Listed {
    fn info(&self) -> SessionInfo {
        let admission = self.admission.load();
        let (state, pinned) = self.stats.words();
        SessionInfo {
            session: self.session,
            user: admission.user().clone(),
            target: admission.target().clone(),
            level: admission.level().clone(),
            grant: admission.grant(),
            database: admission.database().map(str::to_owned),
            peer: self.peer.to_string(),
            protocol: self.protocol.to_owned(),
            started_at: self.started_at,
            until: admission.until(),
            state: state.to_owned(),
            pinned: pinned.map(str::to_owned),
            statements: self.stats.statements.load(Relaxed),
            bytes_up: self.stats.bytes_up.load(Relaxed),
            bytes_down: self.stats.bytes_down.load(Relaxed),
            upstream: self.upstream.load().as_ref().map(|name| name.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_kill_is_not_lost_behind_cancels() {
        let mailbox = Mailbox::default();
        for _ in 0..20 {
            mailbox.put(Command::Cancel { peer: String::new(), landing: Landing::new().0 });
        }
        mailbox.put(Command::Kill);
        for _ in 0..COMMANDS_MAX {
            assert!(matches!(mailbox.next().await, Command::Cancel { .. }));
        }
        assert!(matches!(mailbox.next().await, Command::Kill));
        // Who waits is woken.
        let (command, ()) = tokio::join!(mailbox.next(), async { mailbox.put(Command::Park) });
        assert!(matches!(command, Command::Park));
    }
}
