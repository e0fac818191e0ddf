//! The leg of the HTTP APIs: the same nouns as everywhere, and the proxy authorizes.
//!
//! ```text
//! connection --hyper--> request --proof--> Identity --Touch--> Ledger::admit_request --> Admission
//!      |                                                                                    |
//!      +-- Session, one per identity and grant: in the list, has a seat, watches its grant  v
//!                     answer <--streamed-- Upstream connection <--the connector's login-- note in the trail
//! ```
//!
//! Every request brings its own proof. An upstream connection goes back to its pool when request and answer have ended
//! whole; whatever else happens, it is closed.

mod aliases;
mod answer;
mod connection;
mod request;
mod session;
mod shown;
mod stream;
mod upload;
mod upstream;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Semaphore;

use self::aliases::KnownAliases;
use self::upstream::Upstreams;
use crate::grant::Book;
use crate::model::{Refusal, Target, limits};
use crate::pool::Refused;
use crate::protocol::http::Api;
use crate::proxy::control::{BoxFuture, LevelChecks, TargetChecks};
use crate::proxy::door::{Caller, Door, Entrance, Shared};
use crate::proxy::engine::Engine;
use crate::proxy::listener::{Allowed, Served};
use crate::secret::Secrets;

/// One API's engine.
pub(super) struct HttpDoor {
    /// The protocol's name.
    name: &'static str,
    api: &'static dyn Api,
    shared: Arc<Shared>,
    upstreams: Arc<Upstreams>,
    aliases: KnownAliases,
    /// KiB of bodies that may be in memory at once, of all requests together.
    bodies: Arc<Semaphore>,
}

impl HttpDoor {
    pub fn new(
        name: &'static str,
        api: &'static dyn Api,
        shared: Arc<Shared>,
        secrets: Arc<Secrets>,
        base: PathBuf,
    ) -> Self {
        Self {
            name,
            api,
            shared,
            upstreams: Arc::new(Upstreams::new(secrets, base)),
            aliases: KnownAliases::default(),
            bodies: Arc::new(Semaphore::new(limits::HTTP_BODIES_BYTES_MAX >> 10)),
        }
    }
}

impl Door for HttpDoor {
    fn serve(self: Arc<Self>, caller: Caller, entrance: Arc<Entrance>, allowed: Allowed) -> Served {
        let Allowed { arrival, place } = allowed;
        Box::pin(async move {
            connection::serve(self, caller, entrance, arrival).await;
            drop(place);
        })
    }

    fn turn_away(self: Arc<Self>, caller: Caller, entrance: Arc<Entrance>, refusal: Refusal) -> Served {
        Box::pin(async move {
            let told = connection::turn_away(caller, &entrance, self.api, &refusal);
            let _ = tokio::time::timeout(limits::TURNED_AWAY_WAIT, told).await;
        })
    }
}

impl Engine for HttpDoor {
    fn refresh(&self, book: &Book) {
        self.upstreams.refresh(book, self.name);
    }

    fn maintain(&self) -> BoxFuture<'static, ()> {
        let upstreams = self.upstreams.clone();
        Box::pin(async move {
            let mut tick = tokio::time::interval(limits::HTTP_SWEEP);
            loop {
                tick.tick().await;
                upstreams.sweep();
            }
        })
    }

    /// A login that a target refuses is said with each request that meets it.
    fn refused(&self) -> Vec<Refused> {
        Vec::new()
    }

    fn close(&self) {
        self.upstreams.close();
    }

    fn check(&self, target: Target) -> BoxFuture<'_, Result<TargetChecks, String>> {
        Box::pin(async move {
            let mut levels = Vec::new();
            for level in target.connectors.keys() {
                let failed = self.upstreams.check(&target, level, self.api.probe()).await.err();
                levels.push(LevelChecks { level: level.clone(), checks: Vec::new(), failed });
            }
            Ok(TargetChecks { levels, form: String::new() })
        })
    }
}
