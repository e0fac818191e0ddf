//! Where a listener meets a protocol. The engine is generic over the protocol and erased once, here.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::BytesMut;
use tokio::sync::{mpsc, oneshot, watch};

use super::cancel::Cancels;
use super::listener::{Allowed, Served};
use super::peer::Peer;
use super::registry::Registry;
use super::tally::Tally;
use super::throttle::Throttle;
use crate::identity::Ledger;
use crate::model::{Name, Refusal, SessionId};
use crate::observe::{Metrics, Trail};
use crate::pool::Pools;
use crate::protocol::session::{TlsOffer, Wire};
use crate::store::SessionRow;
use crate::tls::{ServerTls, Stream};

/// What every session of the node shares.
pub(super) struct Shared {
    pub ledger: Arc<Ledger>,
    pub trail: Trail,
    pub metrics: Arc<Metrics>,
    pub registry: Arc<Registry>,
    pub cancels: Arc<Cancels>,
    /// Failed logins, per user as claimed and source (see `throttle::network`) together.
    pub throttle: Throttle<(String, std::net::IpAddr)>,
    pub refusals: Tally,
    pub limits: ArcSwap<SessionLimits>,
    pub drain: watch::Receiver<Drain>,
    /// Rows of the session history. The trail is the truth, so a full queue loses nothing that was promised.
    pub history: mpsc::Sender<History>,
    pub ids: super::ids::SessionIds,
}

impl Shared {
    /// Who failed lately waits.
    pub async fn slow_down(&self, source: &(String, std::net::IpAddr)) {
        let penalty = self.throttle.penalty(source).min(self.longest_penalty());
        // A timer that is due at once would wake this very thread by a system call.
        if !penalty.is_zero() {
            tokio::time::sleep(penalty).await;
        }
    }

    /// Slowed, not locked out: there must be time left for a right proof.
    pub fn longest_penalty(&self) -> Duration {
        self.limits.load().login / 2
    }
}

pub(super) enum History {
    /// What is known of a session now.
    Row(Box<SessionRow>),
    /// Answered when all that was sent before is in the store; dropped where it could not be stored.
    Flush(oneshot::Sender<()>),
}

/// The limits of sessions that a reload may change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SessionLimits {
    pub login: Duration,
    pub idle: Option<Duration>,
    pub session: Option<Duration>,
    /// An idle session is looked at after this; `None`: sessions are never parked.
    pub park: Option<Duration>,
    /// How long ahead of its end a client is told.
    pub notice: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Drain {
    No,
    /// No new sessions; the living go on.
    Wait,
    /// The living are told to go.
    Now,
}

impl Drain {
    /// Waits until the living are told to go. Cancel safe.
    pub async fn now(drain: &mut watch::Receiver<Self>) {
        // The sender lives as long as the node; without one there is nobody left to wait for.
        let _ = drain.wait_for(|drain| *drain == Self::Now).await;
    }
}

/// What a session must know of the listener it came in by.
pub(super) struct Entrance {
    pub name: String,
    pub target: Option<Name>,
    pub tls: TlsOffer,
    pub certificate: Option<Arc<ServerTls>>,
    /// What follows the target in a TLS server name.
    pub server_name_suffix: Option<Arc<str>>,
    /// Nobody logs in without a client certificate.
    pub certificate_required: bool,
    /// What clients are greeted with where nothing is known of a server yet.
    pub server_version: Option<Arc<str>>,
    /// See [`crate::protocol::session::Greeting::takes_native`].
    pub takes_native: bool,
    /// Who connects from here brings a PROXY header.
    pub proxy_from: Vec<ipnet::IpNet>,
}

/// A connection that has been accepted.
pub(super) struct Caller {
    pub stream: Stream,
    pub peer: Peer,
    /// What has been read of it already.
    pub input: BytesMut,
}

/// A protocol at a listener.
pub(super) trait Door: Send + Sync {
    /// Serves one client connection to its end.
    fn serve(self: Arc<Self>, caller: Caller, entrance: Arc<Entrance>, allowed: Allowed) -> Served;

    /// Tells a connection that is one too many so, in its protocol. A cancel request is served all the same.
    fn turn_away(self: Arc<Self>, caller: Caller, entrance: Arc<Entrance>, refusal: Refusal) -> Served;
}

/// One protocol's engine: its machines and its pools.
pub(super) struct SessionDoor<W: Wire> {
    pub wire: Arc<W>,
    pub pools: Arc<Pools<W>>,
    pub shared: Arc<Shared>,
}

impl<W: Wire> Door for SessionDoor<W> {
    fn serve(self: Arc<Self>, caller: Caller, entrance: Arc<Entrance>, allowed: Allowed) -> Served {
        let session = self.shared.ids.next();
        self.session(session, caller, entrance, allowed)
    }

    fn turn_away(self: Arc<Self>, caller: Caller, entrance: Arc<Entrance>, refusal: Refusal) -> Served {
        Box::pin(async move {
            let session = self.shared.ids.next();
            self.send_away(session, caller, &entrance, &refusal).await;
        })
    }
}

impl<W: Wire> SessionDoor<W> {
    /// From a connection to the session's end.
    pub(super) fn session(
        self: Arc<Self>,
        session: SessionId,
        caller: Caller,
        entrance: Arc<Entrance>,
        allowed: Allowed,
    ) -> Served {
        let Allowed { arrival, place } = allowed;
        let (door, gate) = (self.clone(), entrance.clone());
        // The login's state is given back before the conversation begins: it may last for days.
        let login = Box::pin(async move {
            let entered = door.login(session, caller, &gate).await;
            drop(arrival);
            entered
        });
        Box::pin(async move {
            let mut login = login.await;
            while let Some(entered) = login {
                let Some(again) = self.converse(entered).await else { break };
                login = Box::pin(self.login_again(again, &entrance)).await;
            }
            drop(place);
        })
    }
}
