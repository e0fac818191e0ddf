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
mod checking;
mod connection;
mod contexts;
mod counting;
mod orphans;
mod pace;
mod request;
mod rest;
mod seal;
mod session;
mod shown;
mod spool;
mod stopping;
mod stream;
mod turns;
mod upload;
mod upstream;

use std::path::PathBuf;
use std::sync::Arc;

use hyper::header::HeaderName;

use self::aliases::Catalogs;
use self::contexts::Contexts;
use self::orphans::Orphans;
use self::spool::Spool;
use self::upstream::Upstreams;
use crate::config::Bodies;
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
    /// Headers that pass, each way.
    sent_on: Vec<HeaderName>,
    told: Vec<HeaderName>,
    shared: Arc<Shared>,
    upstreams: Arc<Upstreams>,
    catalogs: Catalogs,
    contexts: Arc<Contexts>,
    /// Room for bodies of all requests together.
    spool: Spool,
}

impl HttpDoor {
    pub fn new(
        (name, api): (&'static str, &'static dyn Api),
        shared: Arc<Shared>,
        secrets: Arc<Secrets>,
        base: PathBuf,
        bodies: &Bodies,
    ) -> Self {
        let contexts = Arc::new(Contexts::new(shared.ledger.keys().http_ids()));
        Self {
            name,
            api,
            sent_on: api.sent_on().iter().map(|name| HeaderName::from_static(name)).collect(),
            told: api.told().iter().map(|name| HeaderName::from_static(name)).collect(),
            contexts,
            shared,
            upstreams: Arc::new(Upstreams::new(secrets, base)),
            catalogs: Catalogs::default(),
            spool: Spool::new(bodies.directory.join(name), bodies.person_bytes_max, bodies.bytes_max),
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
        let (upstreams, contexts) = (self.upstreams.clone(), self.contexts.clone());
        let ledger = self.shared.ledger.clone();
        let orphans = Orphans {
            protocol: self.name,
            actions: self.api.goes_on_with().into_iter().collect(),
            ledger: ledger.clone(),
            upstreams: upstreams.clone(),
            contexts: contexts.clone(),
        };
        Box::pin(async move {
            tokio::spawn(orphans.look());
            let mut tick = tokio::time::interval(limits::HTTP_SWEEP);
            let mut changed = ledger.changed();
            loop {
                tokio::select! {
                    _ = tick.tick() => upstreams.sweep(),
                    Ok(()) = changed.changed() => {}
                }
                contexts.close_ended(&ledger);
            }
        })
    }

    /// A login that a target refuses is said with each request that meets it.
    fn refused(&self) -> Vec<Refused> {
        Vec::new()
    }

    fn finish(&self) -> BoxFuture<'static, ()> {
        let contexts = self.contexts.clone();
        Box::pin(async move {
            let stopped = contexts.stop_tasks();
            while !stopped.iter().all(|(place, marked)| place.stops.is_over(marked)) {
                tokio::time::sleep(limits::HTTP_STOP_PAUSE).await;
            }
        })
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
