//! A session: one client connection with one identity under one grant. It has a seat and a place in the list, and a
//! task that watches what may end it; its requests learn of the end from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::credential::{Identity, Proof};
use crate::grant::{Admission, Standing};
use crate::identity::Seat;
use crate::model::{
    Ending, Event, GrantId, Name, Refusal, SessionContext, SessionEnd, SessionId, SessionStart, limits,
};
use crate::observe::SessionMeter;
use crate::proxy::clock;
use crate::proxy::door::{Drain, History, Shared};
use crate::proxy::login::row;
use crate::proxy::peer::Peer;
use crate::proxy::registry::{Command, Entry, Listed, Mailbox, State, Stats};
use crate::proxy::session::{how_word, sleep_until};

/// A live session, held by its connection and by its requests: when the last one lets go, it has closed.
pub(super) struct Session {
    pub id: SessionId,
    pub user: Name,
    proof: Proof,
    listed: Arc<Listed>,
    /// What every line of the trail says of it.
    context: ArcSwap<SessionContext>,
    /// Set when it is over.
    pub ended: watch::Receiver<Option<Refusal>>,
    active: AtomicUsize,
    numbers: AtomicU64,
    /// When its last request ended, as the monotonic clock says it.
    last: AtomicU64,
    /// The store knows of it.
    is_stored: AtomicBool,
    first_grant: GrantId,
    _held: oneshot::Sender<()>,
}

/// One request of a session, for as long as it lasts.
pub(super) struct Running {
    pub session: Arc<Session>,
    /// Counts up, from 1.
    pub number: u64,
    _busy: Busy,
}

/// Something that a session that ends waits for a moment for.
pub(super) struct Busy(Arc<Session>);

impl Drop for Busy {
    fn drop(&mut self) {
        let session = &self.0;
        session.last.store(clock::monotonic_micros(), Relaxed);
        if session.active.fetch_sub(1, Relaxed) == 1 {
            session.listed.stats.see(session.numbers.load(Relaxed), State::Idle);
        }
    }
}

/// What a session begins with.
pub(super) struct Beginning<'a> {
    pub admission: &'a Admission,
    pub seat: Seat,
    pub protocol: &'static str,
    pub peer: Peer,
    pub tls: bool,
}

/// What its task owns.
struct Watch {
    shared: Arc<Shared>,
    admission: Arc<Admission>,
    seat: Option<Seat>,
    entry: Entry,
    meter: SessionMeter,
    first_grant: GrantId,
    began: Instant,
    ended: watch::Sender<Option<Refusal>>,
    session: std::sync::Weak<Session>,
}

impl Session {
    /// Begins one: in the trail first, then in the list.
    pub fn begin(shared: &Arc<Shared>, beginning: Beginning<'_>) -> Result<Arc<Self>, Refusal> {
        let Beginning { admission, seat, protocol, peer, tls } = beginning;
        let id = shared.ids.next();
        let start = SessionStart {
            session: id,
            user: admission.user().clone(),
            target: admission.target().clone(),
            level: admission.level().clone(),
            grant: admission.grant(),
            database: None,
            peer: peer.to_string(),
            via: peer.via(),
            protocol,
            tls,
        };
        let accepted = Event::LoginAccepted {
            start: start.clone(),
            credential: admission.credential(),
            certificate: admission.proof().certificate().cloned(),
            others: admission.others().len() as u32,
            settings: Default::default(),
        };
        let started = Event::SessionStart { start, upstream: None, wait_ms: 0 };
        for event in [accepted, started] {
            shared.trail.event(&event).map_err(|_| Refusal::TrailUnavailable)?;
        }
        let kept = Arc::new(admission.of_session());
        let entry = shared.registry.enter(Listed {
            session: id,
            peer,
            // Nobody is told a number here.
            process: 0,
            protocol,
            started_at: shared.ledger.now(),
            admission: ArcSwap::new(kept.clone()),
            upstream: ArcSwapOption::empty(),
            stats: Stats::default(),
            commands: Mailbox::default(),
        });
        let row = row(&entry.listed, &kept, kept.grant());
        let _ = shared.history.try_send(History::Row(Box::new(row)));
        let (ended, over) = watch::channel(None);
        let (held, released) = oneshot::channel();
        let session = Arc::new(Self {
            id,
            user: admission.user().clone(),
            proof: admission.proof().clone(),
            listed: entry.listed.clone(),
            context: ArcSwap::from_pointee(context(id, protocol, admission)),
            ended: over,
            active: AtomicUsize::new(0),
            numbers: AtomicU64::new(0),
            last: AtomicU64::new(clock::monotonic_micros()),
            is_stored: AtomicBool::new(false),
            first_grant: kept.grant(),
            _held: held,
        });
        let watch = Watch {
            shared: shared.clone(),
            meter: shared.metrics.session(kept.target()),
            first_grant: kept.grant(),
            admission: kept,
            seat: Some(seat),
            entry,
            began: Instant::now(),
            ended,
            session: Arc::downgrade(&session),
        };
        tokio::spawn(watch.run(released));
        Ok(session)
    }

    /// Whether it is this person's, by this proof.
    pub fn is_by(&self, identity: &Identity) -> bool {
        self.user == *identity.user() && self.proof == *identity.proof()
    }

    /// Whether it is this person's, by this proof, under this grant.
    pub fn is_of(&self, admission: &Admission) -> bool {
        self.user == *admission.user()
            && self.proof == *admission.proof()
            && self.grant() == admission.grant()
    }

    pub fn grant(&self) -> GrantId {
        self.listed.admission.load().grant()
    }

    pub fn is_over(&self) -> bool {
        self.ended.borrow().is_some()
    }

    pub fn context(&self) -> Arc<SessionContext> {
        self.context.load_full()
    }

    /// What the target is shown of it.
    pub fn stamp(&self) -> String {
        format!("{}/{}", self.user, self.id)
    }

    pub fn run(self: &Arc<Self>) -> Running {
        let busy = self.busy();
        let number = self.numbers.fetch_add(1, Relaxed) + 1;
        self.listed.stats.see(number, State::Busy);
        Running { session: self.clone(), number, _busy: busy }
    }

    pub fn busy(self: &Arc<Self>) -> Busy {
        self.active.fetch_add(1, Relaxed);
        Busy(self.clone())
    }

    /// Waits until the store knows of it, so that a later process knows whose what it leaves behind is. A store that
    /// does not keep up is not waited for long. Cancel safe.
    pub async fn stored(&self, shared: &Shared) {
        if self.is_stored.load(Relaxed) {
            return;
        }
        let (done, written) = oneshot::channel();
        // The row that was sent when it began may have found no room.
        let row = row(&self.listed, &self.listed.admission.load(), self.first_grant);
        let stored = async {
            let (history, row) = (&shared.history, History::Row(Box::new(row)));
            let sent = history.send(row).await.is_ok() && history.send(History::Flush(done)).await.is_ok();
            sent && written.await.is_ok()
        };
        if tokio::time::timeout(limits::HISTORY_FINISH, stored).await == Ok(true) {
            self.is_stored.store(true, Relaxed);
        }
    }

    pub fn moved(&self, up: u64, down: u64) {
        self.listed.stats.bytes_up.fetch_add(up, Relaxed);
        self.listed.stats.bytes_down.fetch_add(down, Relaxed);
    }
}

fn context(id: SessionId, protocol: &'static str, admission: &Admission) -> SessionContext {
    SessionContext::new(
        id,
        protocol,
        admission.user(),
        admission.target(),
        admission.level(),
        admission.grant(),
        None,
    )
}

impl Watch {
    async fn run(mut self, mut released: oneshot::Receiver<()>) {
        let (shared, listed) = (self.shared.clone(), self.entry.listed.clone());
        let mut changed = shared.ledger.changed();
        let mut drain = shared.drain.clone();
        changed.mark_changed();
        let (refusal, how) = loop {
            let look = self.next_look();
            tokio::select! {
                biased;
                // A request that was cut takes its connection with it, and may be ahead of what is seen here.
                _ = &mut released => break match self.look_at_grant() {
                    Ok(()) => (None, Ending::Close),
                    Err(refusal) => (Some(refusal), Ending::Cut),
                },
                _ = changed.changed() => if let Err(refusal) = self.look_at_grant() {
                    break (Some(refusal), Ending::Cut);
                },
                () = shared.trail.refused() => break (Some(Refusal::TrailUnavailable), Ending::Cut),
                command = listed.commands.next() => match command {
                    Command::Kill | Command::End => break (Some(Refusal::Killed), Ending::Cut),
                    // There is no key to cancel by, and nothing to give back.
                    Command::Cancel { .. } | Command::Park => {}
                },
                () = Drain::now(&mut drain) => break (Some(Refusal::ShuttingDown), Ending::Drain),
                () = sleep_until(look) => if let Some(refusal) = self.look_at_clock() {
                    break (Some(refusal), Ending::Cut);
                },
            }
        };
        // Its place is free at once, and its requests end by themselves.
        self.seat = None;
        self.ended.send_replace(refusal.clone());
        let silent = async {
            while self.session.upgrade().is_some_and(|session| session.active.load(Relaxed) > 0) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let _ = tokio::time::timeout(limits::CUT_FLUSH, silent).await;
        self.end(refusal, how);
    }

    fn look_at_grant(&mut self) -> Result<(), Refusal> {
        let Some(seat) = &mut self.seat else { return Ok(()) };
        match self.shared.ledger.recheck(&self.admission, seat) {
            Standing::Open { until } if until == self.admission.until() => {}
            Standing::Open { until } => self.keep(Admission::clone(&self.admission).with_until(until)),
            Standing::Moved(to) => {
                let event = Event::SessionMoved {
                    session: self.entry.listed.session,
                    user: to.user().clone(),
                    from: self.admission.grant(),
                    to: to.grant(),
                };
                self.keep(to.of_session());
                self.shared.trail.event(&event).map_err(|_| Refusal::TrailUnavailable)?;
            }
            Standing::Ended(cause) => return Err(Refusal::Ended(cause)),
        }
        Ok(())
    }

    fn keep(&mut self, admission: Admission) {
        let listed = &self.entry.listed;
        if let Some(session) = self.session.upgrade() {
            session.context.store(Arc::new(context(listed.session, listed.protocol, &admission)));
        }
        self.admission = Arc::new(admission);
        listed.admission.store(self.admission.clone());
    }

    fn next_look(&self) -> Option<Instant> {
        let limits = self.shared.limits.load();
        let session = limits.session.map(|limit| self.began + limit);
        let idle = limits.idle.map(|limit| (self.last() + limit).max(Instant::now() + IDLE_LOOK));
        [session, idle].into_iter().flatten().min()
    }

    fn last(&self) -> Instant {
        let last = self.session.upgrade().map(|session| clock::instant(session.last.load(Relaxed)));
        last.unwrap_or_else(Instant::now)
    }

    fn look_at_clock(&self) -> Option<Refusal> {
        let limits = self.shared.limits.load();
        if limits.session.is_some_and(|limit| self.began.elapsed() >= limit) {
            return Some(Refusal::SessionTimeout);
        }
        let busy = self.session.upgrade().is_some_and(|session| session.active.load(Relaxed) > 0);
        let idle = limits.idle.is_some_and(|limit| self.last().elapsed() >= limit);
        (idle && !busy).then_some(Refusal::IdleTimeout)
    }

    /// Writes down how it ended.
    fn end(self, refusal: Option<Refusal>, how: Ending) {
        let stats = &self.entry.listed.stats;
        let count = |counter: &AtomicU64| counter.load(Relaxed);
        let (up, down, requests) =
            (count(&stats.bytes_up), count(&stats.bytes_down), count(&stats.statements));
        if let Some(refusal) = &refusal {
            self.shared.metrics.cut(refusal);
        }
        let code = refusal.as_ref().map(Refusal::code);
        // The session has ended whether this can be written or not.
        let _ = self.shared.trail.end(&Event::SessionEnd(SessionEnd {
            session: self.entry.listed.session,
            user: self.admission.user().clone(),
            target: self.admission.target().clone(),
            grant: self.admission.grant(),
            how,
            code,
            why: None,
            error_delivered: None,
            statements: requests,
            bytes_up: up,
            bytes_down: down,
            seconds: self.began.elapsed().as_secs_f64(),
            reused: false,
        }));
        self.meter.statements(requests);
        self.meter.bytes_up(up);
        self.meter.bytes_down(down);
        let mut row = row(&self.entry.listed, &self.admission, self.first_grant);
        row.ended_at = Some(self.shared.ledger.now());
        row.how = Some(how_word(how).into());
        row.code = code.map(str::to_owned);
        (row.statements, row.bytes_up, row.bytes_down) = (requests, up, down);
        let _ = self.shared.history.try_send(History::Row(Box::new(row)));
    }
}

/// The idle limit is kept to within this.
const IDLE_LOOK: Duration = Duration::from_millis(200);
