//! Parking: a session that has been idle for long enough gives its connection back, when the server itself
//! confirms that nothing would be lost, and is lent another at its next statement.

use std::time::Duration;

use tokio::time::Instant;

use super::clock;
use super::door::SessionDoor;
use super::login::{Entered, stamp};
use super::registry::State;
use super::waiting::{Resuming, WaitEnd};
use crate::model::{Event, Loss, Parking, Refusal};
use crate::observe::Raised;
use crate::pool::{Code, Leased};
use crate::protocol::session::{Ask, Boundary, Pinned, Relay, Restore, Wire};
use std::sync::Arc;

/// Where a session stands between a connection of its own and none.
#[derive(Default)]
pub(super) struct Berth {
    /// What must be put on the next connection. `Some`: it is parked.
    parked: Option<Box<Parked>>,
    /// The last sign of life that was looked at in vain: without another there is nothing new to find.
    looked_at: u64,
    /// The code that the question under way was asked with.
    asked: Option<Arc<Code>>,
    pinned: Option<(Pinned, Raised)>,
    /// The client was told the server's process id of its connection, which must stay true.
    process_known: bool,
}

impl Berth {
    pub fn new(process_known: bool) -> Self {
        Self { process_known, ..Self::default() }
    }
}

struct Parked {
    restore: Restore,
    _counted: Raised,
}

/// Code in the database that may do what no catalog shows.
const HIDDEN: Pinned = Pinned("a function whose effects no catalog shows");
/// The target may be parked only since this session began.
const PROCESS_KNOWN: Pinned = Pinned("the server's process id, which the client was told at login");

impl<W: Wire> SessionDoor<W> {
    /// May a session with this target give its connection back before it ends?
    pub(super) fn may_park(&self, target: &str) -> bool {
        let book = self.shared.ledger.book();
        self.shared.limits.load().park.is_some()
            && book.target(target).is_some_and(|target| target.park == Parking::Proven)
    }

    /// When to look next whether the session can be parked.
    pub(super) fn park_due(&self, entered: &Entered<W>) -> Option<Instant> {
        let after = self.shared.limits.load().park?;
        entered.pump.lease()?;
        let due = clock::instant(entered.pump.last_activity) + after;
        let again = entered.pump.relay.boundary() != Boundary::Idle
            || entered.berth.looked_at == entered.pump.last_activity;
        Some(if again { due.max(Instant::now() + after.max(LOOK_AGAIN)) } else { due })
    }

    /// Asks the server about a session that has been idle for long enough. `settled`: no interruption is on its
    /// way to the connection, where it would hit the next one's work.
    pub(super) fn look_whether_to_park(&self, entered: &mut Entered<W>, settled: bool) {
        let Some(after) = self.shared.limits.load().park else { return };
        let last = entered.pump.last_activity;
        if clock::instant(last).elapsed() < after || entered.berth.looked_at == last {
            return;
        }
        // Also where nothing can be asked at this moment, because bytes are on their way or an interruption is:
        // this look was in vain, and one that is due at once again would leave the bytes no turn, for ever.
        entered.berth.looked_at = last;
        if settled {
            self.ask_whether_to_park(entered);
        }
    }

    pub(super) fn ask_whether_to_park(&self, entered: &mut Entered<W>) {
        let code = entered.pump.lease().and_then(|lease| lease.pool().code());
        self.ask(entered, code);
    }

    /// `code`: what is known of the code in the database; `None`: that is asked for too.
    fn ask(&self, entered: &mut Entered<W>, code: Option<Arc<Code>>) {
        if entered.pump.lease().is_none()
            || !entered.pump.is_quiet()
            || entered.pump.relay.boundary() != Boundary::Idle
        {
            return;
        }
        let accepts = {
            let book = self.shared.ledger.book();
            let target = book.target(entered.admission.target().as_str());
            let target = target.filter(|target| target.park == Parking::Proven);
            target.map(|target| target.park_accepts.contains(&Loss::Sequences))
        };
        entered.berth.looked_at = entered.pump.last_activity;
        let Some(sequences) = accepts else { return };
        if entered.berth.process_known {
            return self.pin(entered, PROCESS_KNOWN);
        }
        match entered.pump.prove(Ask { code: code.is_none(), sequences }) {
            Ok(()) => entered.berth.asked = code,
            Err(pinned) => self.pin(entered, pinned),
        }
    }

    /// The server has answered.
    pub(super) fn answered(&self, entered: &mut Entered<W>, settled: bool) -> Result<(), Refusal> {
        let Some(proof) = entered.pump.relay.proof() else { return Ok(()) };
        entered.berth.looked_at = entered.pump.last_activity;
        let asked = entered.berth.asked.take();
        let Some(pool) = entered.pump.lease().map(|lease| lease.pool().clone()) else { return Ok(()) };
        let code = match asked {
            Some(asked) if asked.number == proof.code || proof.pinned.is_some() => asked,
            // There is other code now: once more, with a look at that.
            Some(_) => {
                self.ask(entered, None);
                return Ok(());
            }
            None if proof.code.is_empty() => Arc::default(),
            None => pool.learn(Code { number: proof.code, hidden: proof.hidden }),
        };
        if let Some(pinned) = proof.pinned {
            self.pin(entered, pinned);
            return Ok(());
        }
        if !code.hidden.is_empty() && !self.accepts_functions(entered) {
            self.pin(entered, HIDDEN);
            return Ok(());
        }
        // A cancel that came meanwhile, or bytes: another time.
        if !settled || !entered.pump.is_quiet() {
            return Ok(());
        }
        self.park(entered)
    }

    fn accepts_functions(&self, entered: &Entered<W>) -> bool {
        let book = self.shared.ledger.book();
        let target = book.target(entered.admission.target().as_str());
        target.is_some_and(|target| target.park_accepts.contains(&Loss::Functions))
    }

    fn park(&self, entered: &mut Entered<W>) -> Result<(), Refusal> {
        let restore = match entered.pump.relay.detach() {
            Ok(restore) => restore,
            Err(pinned) => {
                self.pin(entered, pinned);
                return Ok(());
            }
        };
        let Some(lease) = entered.pump.take_lease() else { return Ok(()) };
        let event = Event::SessionParked {
            session: entered.session,
            user: entered.admission.user().clone(),
            upstream: lease.upstream_name(),
        };
        // By itself: the session goes on watching its grant, its client and its commands.
        tokio::spawn(async move {
            lease.finish(Leased { boundary: Boundary::Idle, empty: true, settled: true }).await;
        });
        let counted = self.shared.metrics.parked(entered.admission.target());
        entered.berth.parked = Some(Box::new(Parked { restore, _counted: counted }));
        entered.berth.pinned = None;
        let listed = &entered.entry.listed;
        listed.stats.pin(None);
        listed.upstream.store(None);
        listed.stats.see(entered.pump.relay.statements(), State::Parked);
        self.shared.trail.event(&event).map_err(|_| Refusal::TrailUnavailable)
    }

    fn pin(&self, entered: &mut Entered<W>, pinned: Pinned) {
        entered.entry.listed.stats.pin(Some(pinned.0));
        if entered.berth.pinned.as_ref().is_none_or(|(known, _)| *known != pinned) {
            entered.berth.pinned = Some((pinned, self.shared.metrics.pinned(pinned.0)));
        }
    }

    /// The client of a parked session wants something done.
    pub(super) async fn resume(&self, entered: &mut Entered<W>) -> Result<(), WaitEnd> {
        let began = Instant::now();
        let parked = entered.berth.parked.take();
        let restore = parked.map_or_else(Restore::default, |parked| parked.restore);
        let settings = self.wire.dressed(&entered.settings, &restore);
        let stamp = stamp(&entered.admission, entered.session);
        entered.entry.listed.stats.see(entered.pump.relay.statements(), State::Waiting);
        let mut waiter = Resuming { entered: &mut *entered };
        let lease = self.wait_for_lease(&mut waiter, &stamp, &settings).await?;
        let wait = began.elapsed();
        self.shared.metrics.leased(wait);
        let event = Event::SessionResumed {
            session: entered.session,
            user: entered.admission.user().clone(),
            upstream: lease.upstream_name(),
            wait_ms: wait.as_millis() as u64,
        };
        self.shared
            .trail
            .event(&event)
            .map_err(|_| WaitEnd::Refused(Refusal::TrailUnavailable, "the trail cannot be written"))?;
        let mut first = bytes::BytesMut::new();
        entered.pump.relay.attach(lease.facts(), restore, &mut first);
        entered.entry.listed.upstream.store(Some(lease.upstream_name().into()));
        entered.pump.put_lease(lease, &first);
        Ok(())
    }
}

/// A session that cannot be parked is looked at again this often at most.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
