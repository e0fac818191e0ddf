use std::collections::HashMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use tokio::time::Instant;

use super::dial::Dialer;
use super::learned::Learned;
use super::pool::{Plan, Pool, PoolStatus};
use super::trouble::{Refused, Troubles};
use crate::grant::Book;
use crate::model::{AccessLevel, Name, Refusal, Target, TlsMode, Upstream, limits};
use crate::observe::Metrics;
use crate::protocol::session::Wire;
use crate::secret::Secrets;
use crate::tls::UpstreamTls;

/// What pools report, and to whom: the ledger keeps baselines and suspends levels.
pub trait Keeper: Send + Sync {
    /// Whether these role settings are the known ones. The first ever seen become the known ones;
    /// others suspend the level.
    fn is_known<'a>(
        &'a self,
        target: &'a Name,
        level: &'a AccessLevel,
        fingerprint: &'a str,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>>;

    /// Raises an alarm that suspends nothing in the store: it ends by itself.
    fn report(&self, target: &Name, level: &AccessLevel, what: &str);

    /// Suspends the level.
    fn alarm<'a>(
        &'a self,
        target: &'a Name,
        level: &'a AccessLevel,
        what: &'a str,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}

/// Two connections are interchangeable only if all of this is the same, and their flavour.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct PoolKey {
    target: Name,
    level: AccessLevel,
    database: String,
}

/// Where and as whom; a change of it retires the pool.
#[derive(Clone, PartialEq, Eq)]
struct Place {
    address: String,
    tls: TlsMode,
    tls_ca: Option<String>,
    upstream: Upstream,
    secret: String,
}

struct Entry<W: Wire> {
    pool: Arc<Pool<W>>,
    place: Place,
}

/// Every pool of one protocol.
pub struct Pools<W: Wire> {
    wire: Arc<W>,
    pools: DashMap<PoolKey, Entry<W>>,
    secrets: Arc<Secrets>,
    keeper: Arc<dyn Keeper>,
    metrics: Arc<Metrics>,
    troubles: Arc<Troubles>,
    learned: Arc<Learned>,
    /// Relative CA files start here.
    base: PathBuf,
}

impl<W: Wire> Pools<W> {
    pub fn new(
        wire: Arc<W>,
        secrets: Arc<Secrets>,
        keeper: Arc<dyn Keeper>,
        metrics: Arc<Metrics>,
        base: PathBuf,
    ) -> Self {
        let (troubles, learned) = Default::default();
        Self { wire, pools: DashMap::new(), secrets, keeper, metrics, troubles, learned, base }
    }

    /// The pool for this target and level, made where there is none or where the target has moved.
    pub fn pool(
        &self,
        target: &Target,
        level: &AccessLevel,
        database: &str,
    ) -> Result<Arc<Pool<W>>, Refusal> {
        let key =
            PoolKey { target: target.name.clone(), level: level.clone(), database: database.to_owned() };
        let place = place(target, level).ok_or(Refusal::TargetUnavailable)?;
        if let Some(entry) = self.pools.get(&key)
            && entry.place == place
        {
            return Ok(entry.pool.clone());
        }
        let plan = self.plan(target, level, database).map_err(|error| {
            tracing::error!(target_name = %target.name, %level, error, "the target cannot be used");
            Refusal::TargetUnavailable
        })?;
        let made = Pool::new(
            self.wire.clone(),
            (target.name.clone(), level.clone(), database.to_owned()),
            plan,
            self.secrets.clone(),
            self.keeper.clone(),
            self.metrics.clone(),
            (self.troubles.clone(), self.learned.clone()),
        );
        let mut entry =
            self.pools.entry(key).or_insert_with(|| Entry { pool: made.clone(), place: place.clone() });
        if entry.place != place {
            // Another server, or another login there.
            self.troubles.mended(&(target.name.clone(), level.clone()));
            std::mem::replace(&mut *entry, Entry { pool: made, place }).pool.retire();
        }
        Ok(entry.pool.clone())
    }

    /// What the target's server says of itself, as far as it is known.
    pub fn learned(&self, target: &Target) -> Option<Arc<str>> {
        self.learned.get(&target.name, &target.address)
    }

    /// The same; where it is not known, a connection is made for it. Cancel safe.
    pub async fn learn(&self, target: &Target) -> Option<Arc<str>> {
        let hear = async {
            let database = target.database.as_deref().unwrap_or_default();
            for level in target.connectors.iter().filter(|(_, known)| known.suspended.is_none()) {
                // What is wrong with it has been logged.
                let Ok(pool) = self.pool(target, level.0, database) else { continue };
                pool.hear().await;
                if self.learned(target).is_some() {
                    return;
                }
            }
        };
        self.learned.ask(&target.name, &target.address, hear).await
    }

    fn plan(&self, target: &Target, level: &AccessLevel, database: &str) -> Result<Plan, String> {
        let connector = target.connectors.get(level).ok_or("it has no connector of this level")?;
        let ca = target.tls_ca.as_ref().map(|file| self.base.join(file));
        let tls = UpstreamTls::new(target.tls, target.upstream.tls_negotiation, W::ALPN, ca.as_deref())
            .map_err(|error| error.to_string())?;
        Ok(Plan {
            dialer: Dialer {
                address: target.address.clone(),
                tls,
                rules: target.upstream.clone(),
                timeout: Duration::from_secs(target.pool.connect_seconds_max.max(1).into()),
            },
            secret: connector.secret.clone(),
            upkeep: target.upstream.upkeep.as_ref().map(|upkeep| upkeep.secret.clone()),
            settings: target.pool,
            accepted: target.accept_extensions.clone(),
            is_default: target.database.as_deref() == Some(database),
        })
    }

    /// Every pool, in an order that is always the same.
    fn in_order(&self) -> Vec<(PoolKey, Arc<Pool<W>>, Place)> {
        let known = |entry: dashmap::mapref::multiple::RefMulti<'_, PoolKey, Entry<W>>| {
            (entry.key().clone(), entry.pool.clone(), entry.place.clone())
        };
        let mut pools: Vec<_> = self.pools.iter().map(known).collect();
        pools.sort_by(|(one, ..), (other, ..)| one.cmp(other));
        pools
    }

    /// Makes the pools follow the targets: new limits at once; a place that changed, a target or level
    /// that is gone or suspended, retires its pools. Warm pools that are missing are made.
    pub fn refresh(&self, book: &Book) {
        for (key, pool, at) in self.in_order() {
            let target = book.target(key.target.as_str());
            let plan = target
                .filter(|target| target.protocol == W::NAME && target.suspended.is_none())
                .filter(|target| place(target, &key.level).as_ref() == Some(&at))
                .filter(|target| {
                    target.connectors.get(&key.level).is_some_and(|level| level.suspended.is_none())
                })
                .and_then(|target| self.plan(target, &key.level, &key.database).ok());
            match plan {
                Some(plan) => pool.plan.store(Arc::new(plan)),
                None => {
                    self.troubles.mended(&(key.target.clone(), key.level.clone()));
                    pool.retire();
                }
            }
        }
        self.pools.retain(|_, entry| !entry.pool.is_retired());
        self.learned.retain(|target| book.target(target.as_str()).is_some());
        for target in &book.snapshot().targets {
            let Some(database) = target.database.as_deref().filter(|_| target.pool.warm_min > 0) else {
                continue;
            };
            if target.protocol != W::NAME || target.suspended.is_some() {
                continue;
            }
            for level in target.connectors.iter().filter(|(_, known)| known.suspended.is_none()) {
                // What is wrong with it has been logged; the next login says it again.
                let _ = self.pool(target, level.0, database);
            }
        }
    }

    /// Once a second: sweeps idle connections and keeps the warm ones. Never returns.
    pub async fn maintain(self: Arc<Self>) {
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut looked = Instant::now();
        loop {
            tick.tick().await;
            let look = looked.elapsed() >= limits::SECRET_LOOK;
            if look {
                looked = Instant::now();
            }
            let pools = self.in_order();
            // The pools of one target and level, one per database, are shown together.
            let mut shown = HashMap::<_, (u32, usize, usize)>::new();
            for (_, pool, _) in pools {
                if look {
                    pool.look_at_secret();
                }
                let missing = pool.sweep();
                pool.look_in_background();
                let status = pool.status();
                let sum = shown.entry((pool.target.clone(), pool.level.clone())).or_default();
                *sum = (sum.0 + status.total, sum.1 + status.idle, sum.2 + status.waiting);
                if missing > 0 && !pool.is_in_trouble() || pool.is_to_try() {
                    // One at a time and in the background: a target that is down must not hold up the rest.
                    pool.warm_in_background();
                }
            }
            // A grant for all databases lets a person name any: pools that nobody uses do not stay. The
            // map's own handle is the only one, so nobody has it and nobody can get it meanwhile.
            self.pools.retain(|_, entry| {
                Arc::strong_count(&entry.pool) > 1
                    || entry.pool.status().total > 0
                    || entry.pool.is_warm()
                    || entry.pool.is_in_trouble()
                    || entry.pool.has_sides()
            });
            for ((target, level), (total, idle, waiting)) in shown {
                self.metrics.pool(&target, &level).show(total, idle, waiting);
            }
        }
    }

    pub fn status(&self) -> Vec<(Name, AccessLevel, String, PoolStatus)> {
        let of =
            |pool: &Pool<W>| (pool.target.clone(), pool.level.clone(), pool.database.clone(), pool.status());
        self.pools.iter().map(|entry| of(&entry.pool)).collect()
    }

    /// Levels whose login the target refuses.
    pub fn refused(&self) -> Vec<Refused> {
        self.troubles.list()
    }

    /// The login that a secret holds.
    pub fn login_of(&self, secret: &str) -> Result<String, String> {
        let read = self.secrets.read(secret).map_err(|error| error.to_string());
        read.map(|secret| secret.username().to_owned())
    }

    /// Closes everything that is idle, for the end of the process.
    pub fn close(&self) {
        self.pools.iter().for_each(|entry| entry.pool.retire());
        self.pools.clear();
    }
}

fn place(target: &Target, level: &AccessLevel) -> Option<Place> {
    Some(Place {
        address: target.address.clone(),
        tls: target.tls,
        tls_ca: target.tls_ca.clone(),
        upstream: target.upstream.clone(),
        secret: target.connectors.get(level)?.secret.clone(),
    })
}
