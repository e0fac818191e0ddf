use std::sync::atomic::AtomicU8;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use dashmap::DashMap;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

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

/// What can be asked of a session from outside. It decides itself what to do.
#[derive(Debug)]
pub(super) enum Command {
    /// A cancel request with its key has come.
    Cancel {
        peer: String,
    },
    Kill,
    /// Give the connection back if nothing would be lost, and take another at the next statement.
    Park,
}

/// What the registry knows of one session.
pub(super) struct Listed {
    pub session: SessionId,
    pub peer: String,
    pub protocol: &'static str,
    pub started_at: Time,
    pub admission: ArcSwap<Admission>,
    pub upstream: ArcSwapOption<String>,
    pub stats: Arc<Stats>,
    pub commands: mpsc::Sender<Command>,
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
        listed.is_some_and(|listed| deliver(&listed.commands, command))
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

/// False: there is nobody any more.
fn deliver(commands: &mpsc::Sender<Command>, command: Command) -> bool {
    match commands.try_send(command) {
        Ok(()) => true,
        Err(mpsc::error::TrySendError::Closed(_)) => false,
        // A client can fill its queue with cancels; that must not save it.
        Err(mpsc::error::TrySendError::Full(kill @ Command::Kill)) => {
            let commands = commands.clone();
            tokio::spawn(async move {
                // Closed by then: it has ended.
                let _ = commands.send(kill).await;
            });
            true
        }
        // It has been asked already.
        Err(mpsc::error::TrySendError::Full(_)) => true,
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
            peer: self.peer.clone(),
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
        let (sender, mut commands) = mpsc::channel(2);
        for _ in 0..5 {
            assert!(deliver(&sender, Command::Cancel { peer: String::new() }));
        }
        assert!(deliver(&sender, Command::Kill));
        drop(sender);
        let mut came = Vec::new();
        while let Some(command) = commands.recv().await {
            came.push(command);
        }
        assert!(
            matches!(came[..], [Command::Cancel { .. }, Command::Cancel { .. }, Command::Kill]),
            "{came:?}"
        );
        let (gone, _) = mpsc::channel(1);
        assert!(!deliver(&gone, Command::Kill));
    }
}
