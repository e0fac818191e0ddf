//! Cancel keys of our own. A key leads to a session, never to a connection: the session knows what
//! it has at that moment, so a cancel can not hit a connection that has moved on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dashmap::DashMap;

use super::peer::Peer;
use super::registry::{Command, Registry};
use super::throttle::Throttle;
use crate::model::SessionId;
use crate::protocol::session::CancelKey;

pub(super) struct Cancels {
    /// By process id, which is ours and unique while it is in use; the secret is compared apart.
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

    /// A key for one session: the process id is unique among the living, the rest, so many bytes, random.
    pub fn issue(
        self: &Arc<Self>,
        session: SessionId,
        secret_bytes: usize,
    ) -> Result<IssuedKey, getrandom::Error> {
        let mut secret = vec![0; secret_bytes];
        getrandom::fill(&mut secret)?;
        loop {
            // Zero and negative numbers would look odd to clients that print it.
            let process = self.next.fetch_add(1, Ordering::Relaxed) & 0x7fff_ffff;
            if process == 0 {
                continue;
            }
            if let dashmap::Entry::Vacant(place) = self.keys.entry(process) {
                let key = CancelKey { process, secret };
                place.insert((key.clone(), session));
                return Ok(IssuedKey { cancels: self.clone(), key });
            }
        }
    }

    /// Never answered, so that nothing can be learnt by trying. Who guesses is slowed: gives how long the
    /// connection is to stay open, and to count, whether the key was right or not. A right one works at
    /// once, for it may come from the same address as the guesses.
    pub fn request(&self, key: &CancelKey, peer: Peer) -> Duration {
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
                self.registry.send(session, Command::Cancel { peer: peer.to_string() });
            }
            None => self.throttle.failed(source),
        }
        penalty
    }
}
