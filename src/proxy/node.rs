//! A running node: everything that `serve` starts but the admin API, which sits above.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};

use super::cancel::Cancels;
use super::control::{
    BoxFuture, LevelTrouble, ListenerStatus, ListenerTlsStatus, NodeControl, NodeStatus, TargetChecks,
};
use super::door::{Drain, Entrance, History, SessionLimits, Shared};
use super::endpoint::Endpoint;
use super::engine::{Engine, Engines};
use super::ids;
use super::keeper::LedgerKeeper;
use super::listener::Gate;
use super::registry::Registry;
use super::tally::Tally;
use super::throttle::Throttle;
use super::workers::Workers;
use crate::config::{Listener, ListenerTls, NodeConfig, TlsFiles};
use crate::credential::Keys;
use crate::identity::Ledger;
use crate::model::{Event, Name, Time, limits};
use crate::observe::{Metrics, Trail, TrailSettings};
use crate::pool::{Keeper, Refused};
use crate::protocol::session::TlsOffer;
use crate::secret::Secrets;
use crate::store::Store;
use crate::tls::{ServerTls, ServerTlsSettings, TlsError};

/// Takes a new log filter over; the error says what is wrong with it.
pub type SetLog = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

pub struct Node {
    file: PathBuf,
    config: ArcSwap<NodeConfig>,
    started_at: Time,
    pub ledger: Arc<Ledger>,
    pub keys: Arc<Keys>,
    pub trail: Trail,
    pub metrics: Arc<Metrics>,
    pub registry: Arc<Registry>,
    engines: Engines,
    shared: Arc<Shared>,
    drain: watch::Sender<Drain>,
    /// Of each listener that has any.
    tls: Vec<Arc<ServerTls>>,
    listeners: Vec<ListenerStatus>,
    set_log: SetLog,
    /// The listeners let go of them when the node drains; the sessions still need them.
    _workers: Arc<Workers>,
}

impl Node {
    /// Opens the store and the trail, binds every listener, and serves. The error is one sentence.
    pub async fn start(file: &Path, config: NodeConfig, set_log: SetLog) -> Result<Arc<Self>, String> {
        let say = |error: &dyn std::fmt::Display| error.to_string();
        let tls = config.listeners.iter().map(|listener| server_tls(listener, config.tls.as_ref()));
        let tls = tls.collect::<Result<Vec<_>, _>>()?;
        // The ports first: a second process must not touch the first one's store and journal.
        let sockets = bind(&config).await?;
        let key = crate::secret::installation_key(&config.keys_file).map_err(|error| say(&error))?;
        let takes_native = config.listeners.iter().any(|listener| listener.mysql_native_password);
        let keys = Arc::new(Keys::new(&key).keeping_mysql_native(takes_native));
        let store = Store::open(&config.store_url, &config.base).await.map_err(|error| say(&error))?;
        let trail = Trail::open(trail_settings(&config)).map_err(|error| say(&error))?;
        let ledger = Ledger::open(store, trail.clone(), keys.clone()).await.map_err(|error| say(&error))?;
        trail.event(&Event::NodeStart { version: env!("CARGO_PKG_VERSION") }).map_err(|error| say(&error))?;

        let metrics = Arc::new(Metrics::new().map_err(|error| say(&error))?);
        let registry = Arc::new(Registry::default());
        let (drain, draining) = watch::channel(Drain::No);
        let (history, rows) = mpsc::channel(limits::HISTORY_QUEUE_MAX);
        let shared = Arc::new(Shared {
            ledger: ledger.clone(),
            trail: trail.clone(),
            metrics: metrics.clone(),
            registry: registry.clone(),
            cancels: Cancels::new(registry.clone()).map_err(|error| say(&error))?,
            throttle: Throttle::default(),
            refusals: Tally::default(),
            limits: ArcSwap::from_pointee(session_limits(&config)),
            drain: draining,
            history,
            ids: ids::SessionIds::new().map_err(|error| say(&error))?,
        });
        let keeper: Arc<dyn Keeper> = Arc::new(LedgerKeeper { ledger: ledger.clone(), trail: trail.clone() });
        let secrets = Arc::new(Secrets::new(config.secret_directory.clone()));
        let engines = Engines::new(&shared, &secrets, &keeper, config.base.clone(), config.bodies.clone());

        let workers = Arc::new(Workers::start(config.limits.workers)?);
        let mut listeners = Vec::new();
        for ((endpoint, configured), tls) in sockets.into_iter().zip(&config.listeners).zip(&tls) {
            let address = endpoint.address().map_err(|error| say(&error))?;
            listeners.push(ListenerStatus {
                name: configured.name.clone(),
                address: address.clone(),
                protocol: configured.protocol.clone(),
                target: configured.target.clone(),
                tls: match configured.tls {
                    ListenerTls::Off => ListenerTlsStatus::Off,
                    ListenerTls::Optional => ListenerTlsStatus::Optional,
                    ListenerTls::Require => ListenerTlsStatus::Require,
                },
            });
            let entrance = Arc::new(Entrance {
                name: configured.name.clone(),
                target: configured.target.clone(),
                tls: match configured.tls {
                    ListenerTls::Off => TlsOffer::Unavailable,
                    ListenerTls::Optional => TlsOffer::Optional,
                    ListenerTls::Require => TlsOffer::Required,
                },
                certificate: tls.clone(),
                server_name_suffix: configured.server_name_suffix.clone(),
                certificate_required: configured
                    .client_certificates
                    .as_ref()
                    .is_some_and(|asked| asked.required),
                server_version: configured.server_version.clone(),
                takes_native: configured.mysql_native_password,
                proxy_from: configured.proxy_from.clone(),
            });
            tracing::info!(listener = configured.name, %address, protocol = configured.protocol, "listening");
            let Some(engine) = engines.of(&configured.protocol) else {
                return Err(format!("listener {}: {} is not built in", configured.name, configured.protocol));
            };
            let gate = Gate::new(engine.clone(), entrance, configured.connections_max, shared.clone());
            let accepting = Arc::new(gate).accept(endpoint, workers.clone());
            workers.host(listeners.len(), accepting);
        }
        tokio::spawn(end_grants(ledger.clone()));
        tokio::spawn(follow_targets(ledger.clone(), engines.all().cloned().collect()));
        for engine in engines.all() {
            tokio::spawn(engine.maintain());
        }
        tokio::spawn(ring_for_trail(ledger.clone(), trail.failed()));
        tokio::spawn(keep_history(ledger.store().clone(), rows));
        tokio::spawn(count_refusals(shared.clone()));
        let tls: Vec<_> = tls.into_iter().flatten().collect();
        tokio::spawn(watch_certificates(tls.clone()));
        Ok(Arc::new(Self {
            file: file.to_owned(),
            config: ArcSwap::from_pointee(config),
            started_at: Time::now(),
            ledger,
            keys,
            trail,
            metrics,
            registry,
            engines,
            shared,
            drain,
            tls,
            listeners,
            set_log,
            _workers: workers,
        }))
    }

    pub fn config(&self) -> Arc<NodeConfig> {
        self.config.load_full()
    }

    /// Takes no new sessions, gives the living `drain_seconds`, tells those that are left, and finishes
    /// the trail. `hurry` ends the waiting early. Returns how many sessions were told to go.
    pub async fn stop(&self, hurry: impl Future<Output = ()>) -> usize {
        self.drain.send_replace(Drain::Wait);
        let drain = self.config().limits.drain;
        tracing::info!(sessions = self.registry.len(), seconds = drain.as_secs(), "draining");
        tokio::select! {
            () = self.empty() => {}
            () = tokio::time::sleep(drain) => {}
            () = hurry => {}
        }
        let left = self.registry.len();
        self.drain.send_replace(Drain::Now);
        self.ledger.wake();
        let gone = tokio::time::timeout(limits::INTERRUPT_WAIT + 2 * limits::CUT_FLUSH, self.empty()).await;
        if gone.is_err() {
            tracing::warn!(sessions = self.registry.len(), "sessions did not end in time");
        }
        let finished = futures_util::future::join_all(self.engines.all().map(|engine| engine.finish()));
        if tokio::time::timeout(limits::HTTP_STOP_FINISH, finished).await.is_err() {
            tracing::warn!("tasks go on at their targets; the next start stops them");
        }
        self.engines.all().for_each(|engine| engine.close());
        write_refusals(&self.shared);
        if self.ledger.unstored() > 0 {
            // The last chance to keep what was revoked.
            let _ = tokio::time::timeout(2 * limits::STORE_BUSY, self.ledger.store_ends()).await;
        }
        let _ = self.trail.event(&Event::NodeStop { sessions_cut: left as u64 });
        if let Err(error) = self.trail.flush().await {
            tracing::error!(%error, "the trail could not be finished; the next start does it");
        }
        self.finish_history().await;
        left
    }

    /// Or the sessions that have just ended would be called lost at the next start.
    async fn finish_history(&self) {
        let (done, written) = tokio::sync::oneshot::channel();
        let flush = async {
            if self.shared.history.send(History::Flush(done)).await.is_ok() {
                let _ = written.await;
            }
        };
        let _ = tokio::time::timeout(limits::HISTORY_FINISH, flush).await;
    }

    async fn empty(&self) {
        while !self.registry.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn take_over(&self) -> Result<Vec<String>, String> {
        let old = self.config();
        let new = NodeConfig::load(&self.file).map_err(|mistakes| {
            let lines: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
            format!("nothing was changed: {}", lines.join("; "))
        })?;
        let mut changed = Vec::new();
        if !self.tls.is_empty() {
            reload_certificates(&self.tls).map_err(|error| format!("nothing was changed: {error}"))?;
            changed.push("certificate read again".to_owned());
        }
        if new.log.level != old.log.level {
            (self.set_log)(&new.log.level).map_err(|error| format!("nothing was changed: {error}"))?;
            changed.push(format!("log.level = {:?}", new.log.level));
        }
        if session_limits(&new) != session_limits(&old) || new.limits.drain != old.limits.drain {
            self.shared.limits.store(Arc::new(session_limits(&new)));
            self.ledger.wake();
            changed.push("limits".to_owned());
        }
        let mut kept = (*old).clone();
        kept.limits = crate::config::Limits { workers: old.limits.workers, ..new.limits.clone() };
        kept.log.level = new.log.level.clone();
        if kept != new {
            changed.push("the rest of the file needs a restart".to_owned());
        }
        self.config.store(Arc::new(kept));
        let book = self.ledger.book();
        self.engines.all().for_each(|engine| engine.refresh(&book));
        Ok(changed)
    }

    async fn check(&self, name: &Name) -> Result<TargetChecks, String> {
        let target = self.ledger.book().target(name.as_str()).cloned();
        let target = target.ok_or_else(|| format!("there is no target {name}"))?;
        let engine = self.engines.of(&target.protocol);
        let engine = engine.ok_or_else(|| format!("target {name}: {} is not built in", target.protocol))?;
        engine.check(target).await
    }
}

impl NodeControl for Node {
    fn reload(&self) -> BoxFuture<'_, Result<Vec<String>, String>> {
        Box::pin(async {
            let result = self.take_over();
            match &result {
                Ok(changed) => tracing::info!(?changed, "reloaded"),
                Err(error) => tracing::error!(error, "not reloaded"),
            }
            result
        })
    }

    fn check_target(&self, name: &Name) -> BoxFuture<'_, Result<TargetChecks, String>> {
        let name = name.clone();
        Box::pin(async move { self.check(&name).await })
    }

    fn status(&self) -> NodeStatus {
        NodeStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: self.started_at,
            listeners: self.listeners.clone(),
            certificate: self.tls.first().map(|tls| tls.certificate().to_owned()),
            troubles: self.engines.all().flat_map(|engine| engine.refused()).map(trouble).collect(),
            problems: Vec::new(),
        }
    }

    fn draining(&self) -> bool {
        *self.shared.drain.borrow() != Drain::No
    }
}

fn trouble(refused: Refused) -> LevelTrouble {
    let Refused { target, level, what } = refused;
    LevelTrouble { target, level, what }
}

async fn bind(config: &NodeConfig) -> Result<Vec<Endpoint>, String> {
    let mut endpoints = Vec::new();
    for listener in &config.listeners {
        endpoints.push(Endpoint::bind(listener).await?);
    }
    Ok(endpoints)
}

/// `None`: the listener has none. The error is one sentence.
fn server_tls(listener: &Listener, files: Option<&TlsFiles>) -> Result<Option<Arc<ServerTls>>, String> {
    let Some(files) = files.filter(|_| listener.tls != ListenerTls::Off) else { return Ok(None) };
    let settings = ServerTlsSettings {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
        clients: listener.client_certificates.as_ref().map(|asked| asked.check.clone()),
    };
    let alpn = crate::protocol::by_name(&listener.protocol).map_or(&[][..], |protocol| protocol.alpn);
    let loaded = ServerTls::load(settings, alpn).map_err(|error| error.to_string())?;
    Ok(Some(Arc::new(loaded)))
}

/// All listeners take over what their files hold now, or none does.
fn reload_certificates(listeners: &[Arc<ServerTls>]) -> Result<(), TlsError> {
    let loaded = listeners.iter().map(|tls| tls.read_again()).collect::<Result<Vec<_>, _>>()?;
    for (tls, loaded) in listeners.iter().zip(loaded) {
        tls.take_over(loaded);
    }
    Ok(())
}

/// Takes changed certificate files over without a signal. A file that is being written, or is no good, changes
/// nothing: the last good state stays, and the next change is looked at again.
async fn watch_certificates(listeners: Vec<Arc<ServerTls>>) {
    use std::os::unix::fs::MetadataExt;
    let stamp = || -> Vec<_> {
        let files = listeners.iter().flat_map(|tls| tls.files());
        files
            .map(|file| {
                std::fs::metadata(file).ok().map(|at| (at.ino(), at.mtime(), at.mtime_nsec(), at.len()))
            })
            .collect()
    };
    let mut known = stamp();
    loop {
        tokio::time::sleep(limits::CERTIFICATE_LOOK).await;
        let now = stamp();
        if now == known {
            continue;
        }
        known = now;
        match reload_certificates(&listeners) {
            Ok(()) => tracing::info!("changed certificates are used for new connections"),
            Err(error) => {
                tracing::error!(%error, "changed certificates cannot be used; the last good ones stay")
            }
        }
    }
}

/// Writes the refused logins that got no line of their own.
fn write_refusals(shared: &Shared) {
    for line in shared.refusals.take() {
        // Nothing ran, so a trail that cannot be written changes nothing here.
        let _ = shared.trail.event(&line);
    }
}

async fn count_refusals(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(limits::REFUSALS_INTERVAL).await;
        write_refusals(&shared);
    }
}

fn trail_settings(config: &NodeConfig) -> TrailSettings {
    TrailSettings {
        directory: config.audit.directory.clone(),
        sync: config.audit.sync,
        lag_bytes_max: config.audit.lag_bytes_max,
        segment_bytes: config.audit.segment_bytes,
        shards: config.limits.workers,
        continue_on_failure: config.audit.continue_on_failure,
    }
}

fn session_limits(config: &NodeConfig) -> SessionLimits {
    let limits = &config.limits;
    SessionLimits {
        login: limits.login,
        idle: limits.idle,
        session: limits.session,
        park: limits.park,
        notice: limits.notice,
    }
}

/// Ends grants and credentials against wall time.
pub(super) async fn end_grants(ledger: Arc<Ledger>) {
    let mut tick = tokio::time::interval(limits::GRANT_TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut storing: Option<tokio::task::JoinHandle<()>> = None;
    loop {
        tick.tick().await;
        // Apart, for a store may take seconds to say that it is locked; the next grant ends meanwhile.
        if ledger.tick() && storing.as_ref().is_none_or(tokio::task::JoinHandle::is_finished) {
            storing = Some(tokio::spawn(store_ends(ledger.clone())));
        }
    }
}

async fn store_ends(ledger: Arc<Ledger>) {
    if let Err(error) = ledger.store_ends().await {
        // The sessions have been woken and end all the same; storing it is tried again.
        tracing::error!(%error, "the end of a grant could not be stored");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Makes the pools follow changes of the targets.
pub(super) async fn follow_targets(ledger: Arc<Ledger>, engines: Vec<Arc<dyn Engine>>) {
    let mut changed = ledger.changed();
    loop {
        let book = ledger.book();
        engines.iter().for_each(|engine| engine.refresh(&book));
        if changed.changed().await.is_err() {
            return;
        }
    }
}

/// Has every session look around when the trail fails, and when it is well again. Ends with the trail.
pub(super) async fn ring_for_trail(ledger: Arc<Ledger>, mut failed: watch::Receiver<bool>) {
    while failed.changed().await.is_ok() {
        ledger.wake();
    }
}

/// Writes the session history, what comes in a while together. Of a session that has ended by then only the
/// end is written: its row holds all of it.
async fn keep_history(store: Store, mut rows: mpsc::Receiver<History>) {
    let mut batch = Vec::new();
    while rows.recv_many(&mut batch, limits::HISTORY_BATCH_MAX).await > 0 {
        let (mut latest, mut waiting) = (HashMap::new(), Vec::new());
        for item in batch.drain(..) {
            match item {
                History::Row(row) => drop(latest.insert(row.session, row)),
                History::Flush(done) => waiting.push(done),
            }
        }
        let latest: Vec<_> = latest.values().map(|row| &**row).collect();
        let kept = if latest.is_empty() { Ok(()) } else { store.keep_sessions(&latest).await };
        let in_a_hurry = !waiting.is_empty();
        match kept {
            Ok(()) => {
                for done in waiting {
                    // Whoever asked may have given up.
                    let _ = done.send(());
                }
            }
            Err(error) => {
                tracing::warn!(%error, rows = latest.len(), "rows of the session history could not be stored");
            }
        }
        if !in_a_hurry {
            tokio::time::sleep(limits::HISTORY_PAUSE).await;
        }
    }
}
