use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

use super::connection::{Connection, part, run_script};
use super::dial::{DialFault, Dialer};
use super::learned::Learned;
use super::look::Looks;
use super::pools::Keeper;
use super::side::{Order, Sides};
use super::trouble::{Place, Troubles, Try};
use crate::credential::Secret;
use crate::model::{AccessLevel, Name, PoolSettings, Refusal, limits};
use crate::observe::Metrics;
use crate::protocol::session::{
    Facts, Interruption, Purpose, Report, ServerErrorKind, Termination, Upkeep, Wire,
};
use crate::secret::Secrets;
use crate::tls::Stream;

/// `ALTER ROLE CURRENT_USER SET …` is allowed to ordinary roles and outlives the session.
pub(super) const ROLE_CHANGED: &str = "the role's own settings differ from what was known";

/// The names of so many functions are logged.
const HIDDEN_SHOWN: usize = 10;

/// The code in a database, as far as it decides whether sessions can be parked.
#[derive(Debug, Default)]
pub struct Code {
    /// Changes with every function and view that is made, changed or dropped.
    pub number: String,
    /// What may change, behind a plain statement, state that no catalog shows.
    pub hidden: Vec<String>,
}

/// What a pool was made for, and how it is to behave; swapped when the target's settings change.
#[derive(Clone)]
pub(super) struct Plan {
    pub dialer: Dialer,
    /// The reference of the connector's secret.
    pub secret: String,
    /// The reference of the secret of the login that ends connections, where that is not the connector.
    pub upkeep: Option<String>,
    pub settings: PoolSettings,
    pub accepted: std::collections::BTreeSet<String>,
    /// Of the target's default database, the only one that `warm_min` is for.
    pub is_default: bool,
}

/// The connections of one target, level and database. They may be of several flavours, which share the places: a
/// session for which all others are idle takes the place of one of them.
pub struct Pool<W: Wire> {
    pub(super) wire: Arc<W>,
    pub target: Name,
    pub level: AccessLevel,
    pub database: String,
    pub(super) plan: ArcSwap<Plan>,
    pub(super) secrets: Arc<Secrets>,
    pub(super) keeper: Arc<dyn Keeper>,
    pub(super) metrics: Arc<Metrics>,
    /// What was found of the code in the database.
    code: ArcSwapOption<Code>,
    troubles: Arc<Troubles>,
    pub(super) learned: Arc<Learned>,
    /// Target and level.
    place: Place,
    state: Mutex<State<W>>,
    warming: AtomicBool,
    pub(super) looks: Looks,
    /// For requests to stop a statement that have a connection of their own each.
    interrupts: Semaphore,
    /// Sessions that are being cut.
    cuts: AtomicUsize,
    /// Clients that were told of a cut, ever.
    told: AtomicUsize,
    /// Sessions of a crowd whose statements are being stopped.
    halting: AtomicUsize,
    /// Of the connection that was made last: what others have in common with it they share.
    alike: Mutex<Option<W::Facts>>,
    pub(super) sides: Sides<W>,
    /// Of the login of upkeep, where the target has one.
    pub(super) upkeep_sides: Sides<W>,
}

struct State<W: Wire> {
    /// The one that came back last is lent first: the rest can age out.
    idle: Vec<Connection<W>>,
    /// Lent, idle and being made.
    total: u32,
    line: VecDeque<Waiter<W>>,
    /// The target is gone or was changed: what comes back is closed.
    retired: bool,
    /// The newest epoch of the secret that was seen; connections of an older one are retired.
    epoch: u64,
    /// What was asked for last: what is made ahead of need is of this kind.
    flavour: Arc<str>,
}

struct Waiter<W: Wire> {
    user: Name,
    flavour: Arc<str>,
    hand: oneshot::Sender<Handed<W>>,
}

/// What somebody in line is given.
enum Handed<W: Wire> {
    Connection(Box<Connection<W>>),
    /// The right to make one.
    Slot(Slot<W>),
}

/// One of the pool's places, counted in `total`. Dropping it gives the place to the next in line.
pub(super) struct Slot<W: Wire> {
    pool: Option<Arc<Pool<W>>>,
}

impl<W: Wire> Drop for Slot<W> {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.free();
        }
    }
}

/// For `target show` and the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolStatus {
    pub total: u32,
    pub idle: usize,
    pub waiting: usize,
}

/// A connection and the place it takes. Dropping it closes the one and frees the other.
pub(super) struct Held<W: Wire> {
    pub connection: Connection<W>,
    pub slot: Slot<W>,
}

impl<W: Wire> Pool<W> {
    pub(super) fn new(
        wire: Arc<W>,
        (target, level, database): (Name, AccessLevel, String),
        plan: Plan,
        secrets: Arc<Secrets>,
        keeper: Arc<dyn Keeper>,
        metrics: Arc<Metrics>,
        (troubles, learned): (Arc<Troubles>, Arc<Learned>),
    ) -> Arc<Self> {
        let place = (target.clone(), level.clone());
        let state = State {
            idle: Vec::new(),
            total: 0,
            line: VecDeque::new(),
            retired: false,
            epoch: 0,
            flavour: Arc::default(),
        };
        Arc::new(Self {
            wire,
            target,
            level,
            database,
            plan: ArcSwap::from_pointee(plan),
            secrets,
            keeper,
            metrics,
            code: ArcSwapOption::empty(),
            troubles,
            learned,
            place,
            state: Mutex::new(state),
            warming: AtomicBool::new(false),
            looks: Looks::new(),
            interrupts: Semaphore::new(limits::INTERRUPTS_MAX),
            cuts: AtomicUsize::new(0),
            told: AtomicUsize::new(0),
            halting: AtomicUsize::new(0),
            alike: Mutex::default(),
            sides: Sides::new(),
            upkeep_sides: Sides::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State<W>> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn status(&self) -> PoolStatus {
        let state = self.state();
        PoolStatus { total: state.total, idle: state.idle.len(), waiting: state.line.len() }
    }

    /// A connection of this flavour for this person: an idle one, a new one, or the next that comes free, first come
    /// first served. Cancel safe: who goes away leaves the line, and what was handed over is given on.
    pub(super) async fn obtain(self: &Arc<Self>, user: &Name, flavour: &str) -> Result<Held<W>, Refusal> {
        let flavour = self.ask_for(flavour);
        if self.is_in_trouble() {
            Box::pin(self.overcome()).await?;
        }
        let settings = self.plan.load().settings;
        let deadline = Instant::now() + Duration::from_secs(settings.wait_seconds_max.into());
        match self.take(user, &flavour, &settings)? {
            Taken::Held(held) => Ok(held),
            // Apart, here and below: connecting takes much room, and hardly any session has to do it.
            Taken::Slot(slot) => Box::pin(self.make(slot, &flavour)).await,
            Taken::Line(mut turn) => {
                let handed = tokio::time::timeout_at(deadline, &mut turn.turn).await;
                match handed {
                    Ok(Ok(handed)) => self.receive(handed, &flavour).await,
                    Ok(Err(_)) => Err(Refusal::TargetUnavailable),
                    Err(_) => Err(Refusal::PoolExhausted),
                }
            }
        }
    }

    /// Remembers what is asked for.
    fn ask_for(&self, flavour: &str) -> Arc<str> {
        let mut state = self.state();
        if *state.flavour != *flavour {
            state.flavour = flavour.into();
        }
        state.flavour.clone()
    }

    /// Where the target refuses the login, nothing is lent until it takes it again: it is tried here, if it is
    /// time to.
    async fn overcome(self: &Arc<Self>) -> Result<(), Refusal> {
        self.warm().await?;
        match self.troubles.holds(&self.place) {
            true => Err(Refusal::ConnectorRefused),
            false => Ok(()),
        }
    }

    pub(super) fn is_in_trouble(&self) -> bool {
        self.troubles.holds(&self.place)
    }

    /// Whether the target refuses the login and it is time to try it again: with a new secret at once.
    pub(super) fn is_to_try(&self) -> bool {
        let news = || {
            let secret = self.secrets.read(&self.plan.load().secret);
            secret.is_ok_and(|secret| self.troubles.is_news(&self.place, secret.epoch()))
        };
        self.is_in_trouble() && (self.troubles.is_due(&self.place, Instant::now()) || news())
    }

    fn take(
        self: &Arc<Self>,
        user: &Name,
        flavour: &Arc<str>,
        settings: &PoolSettings,
    ) -> Result<Taken<W>, Refusal> {
        let plan = self.plan.load();
        let mut unfit = Vec::new();
        let mut state = self.state();
        if state.retired {
            return Err(Refusal::TargetUnavailable);
        }
        // Nobody passes those who wait already.
        if state.line.is_empty() {
            let here = std::thread::current().id();
            loop {
                let suits = |connection: &Connection<W>| connection.suits(user, flavour, &plan.accepted);
                // One of this thread's own need not be moved to it.
                let at = state.idle.iter().rposition(|idle| idle.home == here && suits(idle));
                let Some(at) = at.or_else(|| state.idle.iter().rposition(suits)) else { break };
                let mut connection = state.idle.remove(at);
                if connection.epoch >= state.epoch && connection.is_quiet() {
                    return Ok(Taken::Held(Held { connection, slot: self.slot() }));
                }
                state.total -= 1;
                unfit.push(connection);
            }
            if state.total < settings.size_max {
                state.total += 1;
                return Ok(Taken::Slot(self.slot()));
            }
            // All places are taken, some by idle connections that only others may have, or that are of another flavour.
            if !state.idle.is_empty() {
                unfit.push(state.idle.remove(0));
                return Ok(Taken::Slot(self.slot()));
            }
        }
        if state.line.len() >= settings.waiting_max as usize {
            return Err(Refusal::PoolExhausted);
        }
        let (hand, turn) = oneshot::channel();
        state.line.push_back(Waiter { user: user.clone(), flavour: flavour.clone(), hand });
        drop(state);
        Ok(Taken::Line(Turn { turn, pool: self.clone() }))
    }

    fn slot(self: &Arc<Self>) -> Slot<W> {
        Slot { pool: Some(self.clone()) }
    }

    async fn receive(self: &Arc<Self>, handed: Handed<W>, flavour: &Arc<str>) -> Result<Held<W>, Refusal> {
        match handed {
            Handed::Connection(connection) => Ok(Held { connection: *connection, slot: self.slot() }),
            Handed::Slot(slot) => Box::pin(self.make(slot, flavour)).await,
        }
    }

    /// Makes a connection in this place. Where it cannot be had, the place goes to the next in line.
    async fn make(self: &Arc<Self>, slot: Slot<W>, flavour: &Arc<str>) -> Result<Held<W>, Refusal> {
        match self.dial(flavour).await {
            Ok(connection) => {
                self.metrics.connected(&self.target);
                Ok(Held { connection, slot })
            }
            Err(fault) => {
                if matches!(fault, MakeFault::Waiting) {
                    return Err(Refusal::ConnectorRefused);
                }
                self.metrics.connect_failed(&self.target);
                tracing::warn!(target_name = %self.target, level = %self.level, %fault, "no connection");
                Err(match fault {
                    MakeFault::Login(_) => Refusal::ConnectorRefused,
                    MakeFault::Dial(DialFault::Refused { source, .. })
                        if matches!(
                            source.kind,
                            ServerErrorKind::NoDatabase | ServerErrorKind::NotAdmitted
                        ) =>
                    {
                        Refusal::NoDatabase
                    }
                    MakeFault::Dial(DialFault::Refused { source, .. })
                        if source.kind == ServerErrorKind::Full =>
                    {
                        Refusal::PoolExhausted
                    }
                    _ => Refusal::TargetUnavailable,
                })
            }
        }
    }

    /// Connects and logs in. A refused secret is read again: it may have been changed at the server and in its
    /// file.
    async fn log_in(
        &self,
        plan: &Plan,
        upkeep: &Upkeep,
        flavour: &str,
    ) -> Result<((Stream, W::Facts), Secret), MakeFault> {
        let mut secret = self.secrets.read(&plan.secret).map_err(MakeFault::secret)?;
        if !self.troubles.may_try(&self.place, secret.epoch(), Instant::now()) {
            return Err(MakeFault::Waiting);
        }
        let _turn = Try { troubles: &self.troubles, place: &self.place };
        loop {
            let place = (&*self.database, flavour);
            let login = plan.dialer.login(&*self.wire, upkeep, place, &secret).await;
            let error = match login {
                Ok(connection) => {
                    if self.troubles.mended(&self.place) {
                        tracing::info!(target_name = %self.target, level = %self.level, "the login is accepted again");
                    }
                    if let Some(text) = connection.1.learned() {
                        self.learned.note(&self.target, &plan.dialer.address, text);
                    }
                    return Ok((connection, secret));
                }
                Err(DialFault::Refused { source, .. })
                    if matches!(source.kind, ServerErrorKind::BadSecret | ServerErrorKind::NotAdmitted) =>
                {
                    source
                }
                Err(fault) => return Err(fault.into()),
            };
            let again = self.secrets.read(&plan.secret).map_err(MakeFault::secret)?;
            if again.epoch() != secret.epoch() {
                secret = again;
                continue;
            }
            // A person who may name any database must not close the level for the others.
            if error.kind == ServerErrorKind::NotAdmitted && !plan.is_default {
                return Err(DialFault::Refused { address: plan.dialer.address.clone(), source: error }.into());
            }
            let what = format!("the target refuses the login: {error}");
            if self.troubles.failed(&self.place, secret.epoch(), what.clone(), Instant::now()) {
                self.keeper.report(&self.target, &self.level, &what);
            }
            return Err(MakeFault::Login(what));
        }
    }

    /// Connects and logs in, only to hear what the server says of itself.
    pub(super) async fn hear(&self) {
        let plan = self.plan.load_full();
        match self.log_in(&plan, &Upkeep::new(), "").await {
            Ok(((stream, _), _)) => part::<W>(stream),
            Err(fault) => {
                tracing::warn!(target_name = %self.target, level = %self.level, %fault, "no greeting")
            }
        }
    }

    /// Connects, logs in and looks around.
    async fn dial(&self, flavour: &Arc<str>) -> Result<Connection<W>, MakeFault> {
        let plan = self.plan.load_full();
        let upkeep = Upkeep::new();
        let ((mut stream, mut facts), secret) = self.log_in(&plan, &upkeep, flavour).await?;
        let mut probe = self.wire.script(Purpose::Probe(&upkeep), &facts);
        let report = tokio::time::timeout(plan.dialer.timeout, run_script(&mut stream, &mut probe))
            .await
            .map_err(|_| MakeFault::Probe("it took too long".into()))?
            .map_err(|error| MakeFault::Probe(error.to_string()))?;
        let findings = match report {
            Report::Done(findings) => findings,
            Report::Refused(error) => return Err(MakeFault::Probe(error.to_string())),
            Report::Unclean(what) => return Err(MakeFault::Probe(what)),
        };
        facts.apply(&findings);
        self.share(&mut facts);
        if !self.keeper.is_known(&self.target, &self.level, &findings.fingerprint).await {
            return Err(MakeFault::Probe(ROLE_CHANGED.into()));
        }
        self.see_epoch(secret.epoch());
        let now = Instant::now();
        Ok(Connection {
            stream,
            facts,
            flavour: flavour.clone(),
            born: now,
            idle_since: now,
            home: std::thread::current().id(),
            epoch: secret.epoch(),
            catalogs: findings.catalogs,
            stateful: findings.stateful.into_iter().collect(),
            fingerprint: findings.fingerprint,
            last_user: None,
            used: false,
        })
    }

    fn share(&self, facts: &mut W::Facts) {
        let mut alike = self.alike.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(other) = &*alike {
            facts.share(other);
        }
        *alike = Some(facts.clone());
    }

    /// Looks whether the secret has changed while nobody needed a new connection. What cannot be read changes
    /// nothing: the last good one is kept.
    pub(super) fn look_at_secret(&self) {
        if self.state().total > 0
            && let Ok(secret) = self.secrets.read(&self.plan.load().secret)
        {
            self.see_epoch(secret.epoch());
        }
    }

    /// A newer secret retires the connections of the older one.
    fn see_epoch(&self, epoch: u64) {
        let mut state = self.state();
        if epoch <= state.epoch {
            return;
        }
        state.epoch = epoch;
        let (old, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.idle).into_iter().partition(|connection| connection.epoch < epoch);
        state.idle = kept;
        state.total -= old.len() as u32;
        drop(state);
        old.into_iter().for_each(Connection::part);
    }

    /// A clean connection comes back: to the first in line whom it suits, else to the idle ones.
    pub(super) fn give_back(self: &Arc<Self>, held: Held<W>) {
        let Held { mut connection, mut slot } = held;
        let plan = self.plan.load();
        let settings = plan.settings;
        let too_old = connection.born.elapsed() > Duration::from_secs(settings.age_seconds_max.into());
        let mut state = self.state();
        if state.retired || too_old || connection.epoch < state.epoch || state.total > settings.size_max {
            drop(state);
            return; // `slot` frees the place, the connection closes.
        }
        // The place goes along with the connection from here on.
        slot.pool = None;
        connection.idle_since = Instant::now();
        let mut handed = Handed::Connection(Box::new(connection));
        while let Some(waiter) = state.line.pop_front() {
            handed = match handed {
                // Only the one who left state behind that no reset clears may have it again.
                Handed::Connection(connection)
                    if !connection.suits(&waiter.user, &waiter.flavour, &plan.accepted) =>
                {
                    Handed::Slot(self.slot())
                }
                other => other,
            };
            match waiter.hand.send(handed) {
                Ok(()) => return,
                Err(back) => handed = back,
            }
        }
        match handed {
            Handed::Connection(connection) => state.idle.push(*connection),
            Handed::Slot(mut slot) => {
                slot.pool = None;
                state.total -= 1;
            }
        }
    }

    /// A place is free: the next in line may make a connection.
    fn free(self: &Arc<Self>) {
        let mut state = self.state();
        let size_max = self.plan.load().settings.size_max;
        if !state.retired && state.total <= size_max {
            while let Some(waiter) = state.line.pop_front() {
                match waiter.hand.send(Handed::Slot(self.slot())) {
                    Ok(()) => return,
                    // The one in line has gone; its slot must not free itself under our lock.
                    Err(Handed::Slot(mut slot)) => slot.pool = None,
                    Err(Handed::Connection(_)) => {}
                }
            }
        }
        state.total -= 1;
    }

    /// Closes what is idle, lends no more, sends away who waits.
    pub(super) fn retire(&self) {
        let mut state = self.state();
        state.retired = true;
        let idle = std::mem::take(&mut state.idle);
        state.total -= idle.len() as u32;
        let line = std::mem::take(&mut state.line);
        drop(state);
        drop(line);
        idle.into_iter().for_each(Connection::part);
        self.each_side(Sides::close);
    }

    fn each_side(&self, act: impl Fn(&Sides<W>)) {
        [&self.sides, &self.upkeep_sides].into_iter().for_each(act);
    }

    /// Whether a connection that stops and ends others is still open.
    pub(super) fn has_sides(&self) -> bool {
        !self.sides.is_empty() || !self.upkeep_sides.is_empty()
    }

    /// Removes idle connections that are old, spent or not quiet. Returns how many are to be made
    /// to have `warm_min` again.
    pub(super) fn sweep(self: &Arc<Self>) -> u32 {
        let plan = self.plan.load();
        let settings = plan.settings;
        let idle_max = Duration::from_secs(settings.idle_seconds_max.into());
        let age_max = Duration::from_secs(settings.age_seconds_max.into());
        let warm_min = if plan.is_default { settings.warm_min.min(settings.size_max) } else { 0 };
        let mut gone = Vec::new();
        let mut state = self.state();
        let mut kept = 0;
        // The freshest are at the end: those are the ones to keep.
        for mut connection in std::mem::take(&mut state.idle).into_iter().rev() {
            let wanted = connection.flavour == state.flavour;
            let spare = (!wanted || kept >= warm_min) && connection.idle_since.elapsed() > idle_max;
            let stale = connection.born.elapsed() > age_max || connection.epoch < state.epoch;
            if spare || stale || !connection.is_quiet() {
                state.total -= 1;
                gone.push(connection);
            } else {
                kept += u32::from(wanted);
                state.idle.insert(0, connection);
            }
        }
        // Who waits since before `size_max` was raised.
        while !state.retired && state.total < settings.size_max {
            let Some(waiter) = state.line.pop_front() else { break };
            match waiter.hand.send(Handed::Slot(self.slot())) {
                Ok(()) => state.total += 1,
                // Its slot must not free itself under our lock.
                Err(Handed::Slot(mut slot)) => slot.pool = None,
                Err(Handed::Connection(_)) => {}
            }
        }
        let missing = warm_min.saturating_sub(kept);
        let room = settings.size_max.saturating_sub(state.total);
        let missing = if state.retired { 0 } else { missing.min(room) };
        drop(state);
        self.each_side(Sides::sweep);
        gone.into_iter().for_each(Connection::part);
        missing
    }

    /// Makes one connection ahead of need.
    pub(super) async fn warm(self: &Arc<Self>) -> Result<(), Refusal> {
        let (slot, flavour) = {
            let mut state = self.state();
            if state.retired || state.total >= self.plan.load().settings.size_max {
                return Ok(());
            }
            state.total += 1;
            (self.slot(), state.flavour.clone())
        };
        let held = self.make(slot, &flavour).await?;
        self.give_back(held);
        Ok(())
    }

    /// Starts making one connection ahead of need, unless one is being made.
    pub(super) fn warm_in_background(self: &Arc<Self>) {
        if self.warming.swap(true, Ordering::AcqRel) {
            return;
        }
        let pool = self.clone();
        tokio::spawn(async move {
            // What went wrong has been logged; the next sweep tries again.
            let _ = pool.warm().await;
            pool.warming.store(false, Ordering::Release);
        });
    }

    /// Pays a look that is owed, on an idle connection; where none is idle, one that comes back pays.
    pub(super) fn look_in_background(self: &Arc<Self>) {
        if !self.looks.take_debt() {
            return;
        }
        let Some(connection) = self.state().idle.pop() else { return self.looks.owe() };
        let held = Held { connection, slot: self.slot() };
        let pool = self.clone();
        tokio::spawn(async move { super::lease::look(&pool, held).await });
    }

    /// Whether connections are kept ready in it.
    pub(super) fn is_warm(&self) -> bool {
        let plan = self.plan.load();
        plan.is_default && plan.settings.warm_min > 0
    }

    pub(super) fn is_retired(&self) -> bool {
        self.state().retired
    }

    /// What was last found of the code in the database.
    pub fn code(&self) -> Option<Arc<Code>> {
        self.code.load_full()
    }

    /// Keeps what was found of the code in the database. Says it in the log: it keeps sessions from being parked.
    pub fn learn(&self, code: Code) -> Arc<Code> {
        let code = Arc::new(code);
        self.code.store(Some(code.clone()));
        if !code.hidden.is_empty() {
            let shown: Vec<_> = code.hidden.iter().take(HIDDEN_SHOWN).collect();
            tracing::info!(
                pool = ?self, count = code.hidden.len(), ?shown,
                "functions or views may change what no catalog shows: sessions are parked when park_accepts has \"functions\""
            );
        }
        code
    }

    /// Stops what runs on a connection of this pool. Returns when the request has landed.
    pub async fn interrupt(self: &Arc<Self>, interruption: &Interruption) -> Result<(), String> {
        if W::INTERRUPTS_LOGGED_IN {
            return self.order(Order::Stop(interruption.clone())).await;
        }
        let _place = self.interrupts.acquire().await.map_err(|error| error.to_string())?;
        // Proven by the connection's own key: no login, and no secret that has to be read.
        let (plan, secret) = (self.plan.load_full(), Secret::new(String::new(), Default::default(), 0));
        plan.dialer.interrupt(&*self.wire, interruption, &secret).await.map_err(|error| error.to_string())
    }

    /// Whether more are being cut than requests to stop a statement are made at once.
    pub(super) fn is_cutting_many(&self) -> bool {
        !W::INTERRUPTS_LOGGED_IN && self.cuts.load(Ordering::Relaxed) > limits::INTERRUPTS_MAX
    }

    /// Waits until for a while no client was told of a cut, so that probably all of a crowd have been. Cancel safe.
    pub(super) async fn crowd_is_told(&self, since: Instant) {
        let mut before = self.told.load(Ordering::Relaxed);
        while since.elapsed() < limits::CROWD_WAIT {
            tokio::time::sleep(limits::CROWD_PAUSE).await;
            let now = self.told.load(Ordering::Relaxed);
            if std::mem::replace(&mut before, now) == now {
                return;
            }
        }
    }

    /// Stops what runs on a connection of this pool together with what runs on others of a crowd, over a connection on
    /// the side. Returns when nobody waits for that any more, or after a while. Cancel safe.
    pub(super) async fn halt(self: &Arc<Self>, termination: &Termination) -> Result<(), String> {
        let halting = Counted::one_of(&self.halting);
        let deadline = Instant::now() + limits::CROWD_WAIT;
        let halted = tokio::time::timeout_at(deadline, self.order(Order::Halt(termination.clone()))).await;
        drop(halting);
        while Instant::now() < deadline && self.halting.load(Ordering::Relaxed) > 0 {
            tokio::time::sleep(limits::CROWD_PAUSE).await;
        }
        halted.unwrap_or_else(|_| Err("its turn did not come in time".into()))
    }

    /// Ends a connection of this pool at the server, over another one: procedural code may catch a request
    /// to stop and go on, and a pipeline's next statement runs after one; neither outlives this. By the login
    /// of upkeep where the target has one: the connectors' need not be allowed to then.
    pub(super) async fn terminate(self: &Arc<Self>, termination: &Termination) -> Result<(), String> {
        self.order(Order::End(termination.clone())).await
    }

    /// How long a reset may take: what it waits for is the server's own clean-up.
    pub(super) fn reset_limit(&self) -> Duration {
        limits::RESET_WAIT
    }
}

/// One of so many, until it is dropped.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn one_of(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A session of the pool that is being cut, until it is dropped.
pub struct Cutting<W: Wire>(Arc<Pool<W>>);

impl<W: Wire> Cutting<W> {
    pub(super) fn begin(pool: &Arc<Pool<W>>) -> Self {
        pool.cuts.fetch_add(1, Ordering::Relaxed);
        Self(pool.clone())
    }

    /// Its client has been told, or cannot be.
    pub fn told(&self) {
        self.0.told.fetch_add(1, Ordering::Relaxed);
    }
}

impl<W: Wire> Drop for Cutting<W> {
    fn drop(&mut self) {
        self.0.cuts.fetch_sub(1, Ordering::Relaxed);
    }
}

enum Taken<W: Wire> {
    Held(Held<W>),
    Slot(Slot<W>),
    Line(Turn<W>),
}

/// A place in line, left when it is dropped. What was handed to somebody who went away at that moment is given
/// on.
struct Turn<W: Wire> {
    turn: oneshot::Receiver<Handed<W>>,
    pool: Arc<Pool<W>>,
}

impl<W: Wire> Drop for Turn<W> {
    fn drop(&mut self) {
        self.turn.close();
        if let Ok(Handed::Connection(connection)) = self.turn.try_recv() {
            let slot = self.pool.slot();
            self.pool.give_back(Held { connection: *connection, slot });
        }
        // Or those who have gone away would keep others out.
        self.pool.state().line.retain(|waiter| !waiter.hand.is_closed());
    }
}

#[derive(Debug, thiserror::Error)]
enum MakeFault {
    #[error(transparent)]
    Dial(#[from] DialFault),
    /// The target did not take the login, and it is too soon to try it again.
    #[error("the login was refused before, and it is tried again in a while")]
    Waiting,
    /// The target does not take the login.
    #[error("{0}")]
    Login(String),
    #[error("{0}")]
    Secret(String),
    #[error("looking around after the login: {0}")]
    Probe(String),
}

impl MakeFault {
    fn secret(error: impl std::fmt::Display) -> Self {
        Self::Secret(error.to_string())
    }
}

impl<W: Wire> std::fmt::Debug for Pool<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({} {} {})", self.target, self.level, self.database)
    }
}

/// The server's own name of a held connection.
pub(super) fn upstream_name<W: Wire>(held: &Held<W>) -> String {
    held.connection.facts.upstream_name()
}
