//! Cancel keys of our own. A key leads to a session, never to a connection: the session knows what
//! it has at that moment, so a cancel can not hit a connection that has moved on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::oneshot;

use super::peer::Peer;
use super::registry::{Command, Landing, Registry};
use super::throttle::Throttle;
use crate::model::{SessionId, limits};
use crate::protocol::session::CancelKey;

pub(super) struct Cancels {
    /// By process id, which is unique while it is in use; the secret is compared apart.
    keys: DashMap<u32, (CancelKey, SessionId)>,
    next: AtomicU32,
    registry: Arc<Registry>,
    throttle: Throttle<std::net::IpAddr>,
}

/// Forgets the key when dropped.
pub(super) struct IssuedKey {
    cancels: Arc<Cancels>,
    pub key: CancelKey,
}

impl IssuedKey {
    /// From now on it leads to this session: another one of the same client, that knows no other number.
    pub fn lead_to(&self, session: SessionId) {
        if let Some(mut known) = self.cancels.keys.get_mut(&self.key.process) {
            known.1 = session;
        }
    }
}

impl Drop for IssuedKey {
    fn drop(&mut self) {
        self.cancels.keys.remove(&self.key.process);
    }
}

impl Cancels {
    pub fn new(registry: Arc<Registry>) -> Result<Arc<Self>, getrandom::Error> {
        let first = getrandom::u32()?;
        Ok(Arc::new(Self {
            keys: DashMap::new(),
            next: AtomicU32::new(first),
            registry,
            throttle: Throttle::default(),
        }))
    }

    /// A key for one session: the process id is unique among the living, the secret, so many bytes, random.
    ///
    /// `server` is the process id of the connection that the session has, for as long as it lives: tools
    /// hand it to `pg_cancel_backend` (pgAdmin's stop button does) and look for it in
    /// `pg_stat_activity`. It is no secret, as every client can ask for it. Where another server's
    /// process has the same one, or the session may move to another connection (which would make the
    /// number somebody else's), it is an invented one that is no process of any server.
    pub fn issue(
        self: &Arc<Self>,
        session: SessionId,
        secret_bytes: usize,
        server: Option<u32>,
    ) -> Result<IssuedKey, getrandom::Error> {
        let mut secret = vec![0; secret_bytes];
        getrandom::fill(&mut secret)?;
        let mut wanted = server;
        loop {
            let process = wanted.take().unwrap_or_else(|| self.invent());
            if let dashmap::Entry::Vacant(place) = self.keys.entry(process) {
                let key = CancelKey { process, secret };
                place.insert((key.clone(), session));
                return Ok(IssuedKey { cancels: self.clone(), key });
            }
        }
    }

    /// A number above all process ids and below the negative ones, which look odd where they are printed.
    fn invent(&self) -> u32 {
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        limits::PROCESS_ID_MAX + 1 + count % (i32::MAX as u32 - limits::PROCESS_ID_MAX)
    }

    /// Never answered, so that nothing can be learnt by trying. Who guesses is slowed: gives how long the
    /// connection is to stay open, and to count, whether the key was right or not. A right one works at
    /// once, for it may come from the same address as the guesses.
    ///
    /// A client may take the end of the connection for the sign that its request has arrived (libpq
    /// documents it so, and drivers send their next statement then), so it also stays open until the
    /// server has been asked. Cancel safe.
    pub async fn request(&self, key: &CancelKey, peer: Peer, longest: Duration) {
        let (penalty, landed) = self.send(key, peer);
        let landed = tokio::time::timeout(limits::CANCEL_LANDING_WAIT.min(longest), landed);
        let _ = tokio::join!(tokio::time::sleep(penalty.min(longest)), landed);
    }

    fn send(&self, key: &CancelKey, peer: Peer) -> (Duration, oneshot::Receiver<()>) {
        let (landing, landed) = Landing::new();
        let source = peer.source();
        let penalty = self.throttle.penalty(&source);
        let known = self.keys.get(&key.process).map(|entry| entry.value().clone());
        let session = known.and_then(|(known, session)| {
            let same: bool =
                subtle::ConstantTimeEq::ct_eq(known.secret.as_slice(), key.secret.as_slice()).into();
            same.then_some(session)
        });
        match session {
            Some(session) => {
                self.registry.send(session, Command::Cancel { peer: peer.to_string(), landing });
            }
            None => self.throttle.failed(source),
        }
        (penalty, landed)
    }
}
