//! What a node does with each of its protocols, whichever it is: a door, pools, checks.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::control::{BoxFuture, LevelChecks, TargetChecks};
use super::door::{Door, SessionDoor, Shared};
use super::http::HttpDoor;
use crate::config::Bodies;
use crate::grant::Book;
use crate::model::{Target, limits};
use crate::pool::{Keeper, Pools, Refused};
use crate::protocol::session::{Logins, Wire};
use crate::protocol::{Visitor, http, visit_all};
use crate::secret::Secrets;

/// One protocol's engine.
pub(super) trait Engine: Door {
    /// Makes the pools follow the targets.
    fn refresh(&self, book: &Book);
    /// The upkeep of the pools. Never ends.
    fn maintain(&self) -> BoxFuture<'static, ()>;
    /// Levels whose login the target refuses.
    fn refused(&self) -> Vec<Refused>;
    /// Ends at targets what would go on without this process.
    fn finish(&self) -> BoxFuture<'static, ()>;
    /// Closes everything that is idle, for the end of the process.
    fn close(&self);
    /// Connects to a target of this protocol and reads what its connectors' rights allow.
    fn check(&self, target: Target) -> BoxFuture<'_, Result<TargetChecks, String>>;
}

/// The engines of all protocols that are built in, by name.
pub(super) struct Engines(BTreeMap<&'static str, Arc<dyn Engine>>);

impl Engines {
    pub fn new(
        shared: &Arc<Shared>,
        secrets: &Arc<Secrets>,
        keeper: &Arc<dyn Keeper>,
        base: PathBuf,
        bodies: Bodies,
    ) -> Self {
        let (shared, secrets, keeper) = (shared.clone(), secrets.clone(), keeper.clone());
        let mut builder = Builder { shared, secrets, keeper, base, bodies, engines: BTreeMap::new() };
        visit_all(&mut builder);
        for entry in http::PROTOCOLS {
            if let Some(api) = http::api(entry.name) {
                builder.request_protocol(entry.name, api);
            }
        }
        Self(builder.engines)
    }

    pub fn of(&self, protocol: &str) -> Option<&Arc<dyn Engine>> {
        self.0.get(protocol)
    }

    pub fn all(&self) -> impl Iterator<Item = &Arc<dyn Engine>> {
        self.0.values()
    }
}

struct Builder {
    shared: Arc<Shared>,
    secrets: Arc<Secrets>,
    keeper: Arc<dyn Keeper>,
    base: PathBuf,
    bodies: Bodies,
    engines: BTreeMap<&'static str, Arc<dyn Engine>>,
}

impl Builder {
    /// One whose requests the proxy authorizes, and which has no machines of its own.
    fn request_protocol(&mut self, name: &'static str, api: &'static dyn http::Api) {
        let (shared, secrets, base) = (self.shared.clone(), self.secrets.clone(), self.base.clone());
        let door = HttpDoor::new((name, api), shared, secrets, base, &self.bodies);
        self.engines.insert(name, Arc::new(door));
    }
}

impl Visitor for Builder {
    fn visit<W: Wire>(&mut self, wire: W) {
        let wire = Arc::new(wire);
        let pools = Pools::new(
            wire.clone(),
            self.secrets.clone(),
            self.keeper.clone(),
            self.shared.metrics.clone(),
            self.base.clone(),
        );
        let door = SessionDoor { wire, pools: Arc::new(pools), shared: self.shared.clone() };
        self.engines.insert(W::NAME, Arc::new(door));
    }
}

impl<W: Wire> Engine for SessionDoor<W> {
    fn refresh(&self, book: &Book) {
        self.pools.refresh(book);
    }

    fn maintain(&self) -> BoxFuture<'static, ()> {
        Box::pin(self.pools.clone().maintain())
    }

    fn refused(&self) -> Vec<Refused> {
        self.pools.refused()
    }

    /// A connection takes all that runs on it with it.
    fn finish(&self) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }

    fn close(&self) {
        self.pools.close();
    }

    fn check(&self, target: Target) -> BoxFuture<'_, Result<TargetChecks, String>> {
        Box::pin(async move { self.check_levels(&target).await })
    }
}

impl<W: Wire> SessionDoor<W> {
    async fn check_levels(&self, target: &Target) -> Result<TargetChecks, String> {
        let name = &target.name;
        let database = target.database.as_deref().ok_or_else(|| {
            format!("target {name} has no default database to look at; give it one with database = \"…\"")
        })?;
        let mut pools = Vec::new();
        for level in target.connectors.keys() {
            let pool = self.pools.pool(target, level, database);
            pools.push(
                pool.map_err(|_| format!("target {name} level {level} cannot be used; the log says why"))?,
            );
        }
        // Side by side: a trial waits some seconds for what nobody may stop.
        let checked = futures_util::future::join_all(pools.iter().map(|pool| pool.check())).await;
        let levels: Vec<LevelChecks> = pools
            .iter()
            .zip(checked)
            .map(|(pool, checked)| {
                let (checks, failed) = match checked {
                    Ok(checks) => (checks, None),
                    Err(error) => (Vec::new(), Some(error)),
                };
                LevelChecks { level: pool.level.clone(), checks, failed }
            })
            .collect();
        let logins = self.logins(target);
        let usable = pools.iter().zip(&levels).find(|(_, level)| level.failed.is_none());
        let form = match usable {
            Some((pool, _)) => pool.form(&logins).await?,
            None => String::new(),
        };
        Ok(TargetChecks { levels, form })
    }

    /// The target's logins by name. One whose secret cannot be read is left out: its check says so.
    fn logins(&self, target: &Target) -> Logins {
        let login = |secret: &str| self.pools.login_of(secret).ok();
        let levels = target.connectors.iter();
        Logins {
            levels: levels.filter_map(|(level, of)| Some((level.to_string(), login(&of.secret)?))).collect(),
            upkeep: target.upstream.upkeep.as_ref().and_then(|upkeep| login(&upkeep.secret)),
            connections: target.pool.size_max.saturating_add(limits::SPARE_CONNECTIONS),
        }
    }
}
