use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::time::Instant;

use super::clock;
use super::describe::describe;
use super::pending::{Pending, Waiting};
use crate::credential::{Identity, Keys, by_bearer, by_certificate, by_secret, mysql, scram};
use crate::grant::{Admission, Book, NotAdmitted, Scope, Standing};
use crate::model::{
    Actor, Admin, Change, Claim, ClientCertificate, Credential, EndCause, Ended, Event, GrantId, Name,
    Snapshot, Time, Touch, limits,
};
use crate::observe::Trail;
use crate::store::{Store, StoreError};

/// Why a change was not made. Nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}; nothing was changed")]
    Trail(String),
    /// Of what takes away: done all the same. See [`Ledger::take_away`].
    #[error(
        "it is in force: sessions are being cut and nobody gets in by it any more. But {0}. That is tried again \
         until it is done; if the node ends before it is stored, its next start does not know of it"
    )]
    Unstored(String),
}

/// The one place through which resources change and logins are decided.
///
/// A change is written to the trail, then stored, then put in force by a new [`Book`]; readers take
/// the book without a lock. Live sessions watch [`Ledger::changed`] and look at their own grant again.
pub struct Ledger {
    pub(super) store: Store,
    pub(super) trail: Trail,
    keys: Arc<Keys>,
    book: ArcSwap<Book>,
    /// When it last changed.
    changed: watch::Sender<Instant>,
    /// One change at a time: what a plan saw is what it is applied to.
    pub(super) changing: tokio::sync::Mutex<()>,
    pub(super) pending: Pending,
    seats: Arc<Seats>,
    /// The ends of client certificates that let somebody in, which no book knows of.
    certificate_ends: Mutex<BTreeSet<Time>>,
    /// The latest wall time seen, in microseconds: a clock that is set back does not reopen a grant.
    latest_micros: AtomicI64,
    /// What is stored could not be read back: the book is empty until it can.
    pub(super) stale: AtomicBool,
}

/// What the trail says of a change before it is made.
pub(super) fn told(
    actor: &Actor,
    action: &'static str,
    reason: Option<&str>,
    change: &Change,
    snapshot: &Snapshot,
) -> Event {
    let (object, before, after) = describe(change, snapshot);
    let reason = reason.map(str::to_owned);
    Event::Admin(Box::new(Admin { actor: actor.clone(), action, object, before, after, reason }))
}

/// Live sessions per grant.
#[derive(Default)]
struct Seats(Mutex<HashMap<GrantId, u32>>);

impl Seats {
    fn lock(&self) -> MutexGuard<'_, HashMap<GrantId, u32>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A place under a grant's session limit; given back when dropped.
pub struct Seat {
    grant: GrantId,
    seats: Arc<Seats>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        release(&mut self.seats.lock(), self.grant);
    }
}

fn release(seats: &mut HashMap<GrantId, u32>, grant: GrantId) {
    if let Some(count) = seats.get_mut(&grant) {
        *count -= 1;
        if *count == 0 {
            seats.remove(&grant);
        }
    }
}

impl Ledger {
    pub async fn open(store: Store, trail: Trail, keys: Arc<Keys>) -> Result<Arc<Self>, StoreError> {
        let book = Book::new(store.snapshot().await?);
        Ok(Arc::new(Self {
            store,
            trail,
            keys,
            book: ArcSwap::from_pointee(book),
            changed: watch::Sender::new(Instant::now()),
            changing: tokio::sync::Mutex::new(()),
            pending: Pending::default(),
            seats: Arc::default(),
            certificate_ends: Mutex::default(),
            latest_micros: AtomicI64::new(i64::MIN),
            stale: AtomicBool::new(false),
        }))
    }

    pub fn book(&self) -> Arc<Book> {
        self.book.load_full()
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Wall time as grants see it: never goes back while the process lives.
    pub fn now(&self) -> Time {
        let wall = clock::wall();
        let latest = self.latest_micros.fetch_max(wall.as_microsecond(), Ordering::Relaxed);
        if latest > wall.as_microsecond() { Time::from_microsecond(latest).unwrap_or(wall) } else { wall }
    }

    /// Changes whenever a live session should look at its grant again; says since when.
    pub fn changed(&self) -> watch::Receiver<Instant> {
        self.changed.subscribe()
    }

    /// Acts that took something away, are in force, and are not stored or not in the trail yet.
    pub fn unstored(&self) -> usize {
        self.pending.len()
    }

    /// Validates, writes to the trail (who, before, after), stores, publishes. The change is in force
    /// when it returns. `plan` sees the state it will be applied to. Not cancel safe in the sense that
    /// a caller that goes away may leave the change made; run it in a task of its own.
    pub async fn change(
        &self,
        actor: &Actor,
        action: &'static str,
        reason: Option<&str>,
        plan: impl FnOnce(&Snapshot) -> Result<Vec<Change>, ChangeError> + Send,
    ) -> Result<Vec<Change>, ChangeError> {
        let _one_at_a_time = self.changing.lock().await;
        if self.stale.load(Ordering::Relaxed) {
            // An empty book is no state to plan from.
            self.publish().await?;
        }
        // In the order in which they were asked for: a user who is removed and added again is there.
        self.store_pending().await.map_err(|failed| ChangeError::Refused(failed.of_others()))?;
        let book = self.book();
        let changes = plan(book.snapshot())?;
        if changes.is_empty() {
            return Ok(changes);
        }
        for change in &changes {
            let event = told(actor, action, reason, change, book.snapshot());
            self.trail.event(&event).map_err(|error| ChangeError::Trail(error.to_string()))?;
        }
        if let Err(error) = self.apply(&changes).await {
            let object = format!("{} changes", changes.len());
            // The trail said that it was going to happen; it must not stay the last word.
            let _ = self.trail.event(&Event::Admin(Box::new(Admin {
                actor: actor.clone(),
                action: "change.failed",
                object,
                before: None,
                after: None,
                reason: Some(error.to_string()),
            })));
            return Err(error.into());
        }
        Ok(changes)
    }

    async fn apply(&self, changes: &[Change]) -> Result<(), StoreError> {
        clock::stored(self.store.apply(changes, self.now())).await?;
        self.publish().await
    }

    /// What is stored is in force even if reading it back fails: then nobody gets in by an old book, and
    /// reading is tried again with the next tick.
    pub(super) async fn publish(&self) -> Result<(), StoreError> {
        let read = clock::stored(self.store.snapshot()).await;
        self.stale.store(read.is_err(), Ordering::Relaxed);
        let (snapshot, result) = match read {
            Ok(snapshot) => (snapshot, Ok(())),
            Err(error) => (Snapshot::default(), Err(error)),
        };
        self.put_in_force(&self.pending.lock(), snapshot);
        result
    }

    /// A new book, with what is pending, which stays as it is until then.
    pub(super) fn put_in_force(&self, pending: &Waiting, mut snapshot: Snapshot) {
        pending.put_in_force(&mut snapshot);
        self.book.store(Arc::new(Book::new(snapshot)));
        self.wake();
    }

    /// Has every live session look at its grant and its limits again: one that sleeps has no other way to
    /// learn that a limit was changed.
    pub fn wake(&self) {
        self.changed.send_replace(Instant::now());
    }

    /// The verifiers of a user for one exchange. Unknown names cost and look the same.
    pub fn scram(&self, user: Option<Name>, sent: &str) -> scram::Exchange {
        let candidates = self.candidates(user.as_ref(), |credential| {
            Some(scram::Candidate {
                credential: credential.id,
                until: credential.window.end,
                stored_key: credential.verifiers.scram_stored_key.as_slice().try_into().ok()?,
                server_key: credential.verifiers.scram_server_key.as_slice().try_into().ok()?,
            })
        });
        let salt = self.keys.scram_salt(user.as_ref().map_or(sent, Name::as_str));
        scram::Exchange::new(user, candidates, salt, limits::SCRAM_ROUNDS)
    }

    /// The same for what MySQL's and MariaDB's clients prove with.
    pub fn mysql(&self, user: Option<Name>, sent: &str) -> mysql::Exchange {
        let candidates = self.candidates(user.as_ref(), mysql::Candidate::new);
        mysql::Exchange::new(user, sent, candidates, self.keys.clone())
    }

    /// Who sent this secret as this user; of nobody's name it costs the same and is nobody.
    pub fn secret(&self, user: Option<&Name>, secret: &str) -> Option<Identity> {
        let (now, book) = (self.now(), self.book());
        let candidates = user.map_or(Vec::new(), |name| book.credentials(name.as_str(), now));
        by_secret(&self.keys, secret, &candidates)
    }

    /// Who sent this secret without a name.
    pub fn bearer(&self, secret: &str) -> Option<Identity> {
        let (now, book) = (self.now(), self.book());
        by_bearer(&self.keys, secret, |check| book.credential_by_check(check, now))
    }

    /// What each live credential of a user brings to an exchange; of nobody's name there is none.
    fn candidates<T>(&self, user: Option<&Name>, of: impl Fn(&Credential) -> Option<T>) -> Vec<T> {
        let Some(name) = user else { return Vec::new() };
        let (now, book) = (self.now(), self.book());
        let live = book.credentials(name.as_str(), now).into_iter().filter_map(of);
        live.take(limits::CREDENTIALS_PER_USER_MAX).collect()
    }

    /// Whether a client certificate proves its owner to be this user now; the error says why not.
    pub fn certificate(
        &self,
        user: &Name,
        certificate: &Arc<ClientCertificate>,
    ) -> Result<Identity, &'static str> {
        by_certificate(certificate, user, self.now())
    }

    /// The decision, and a place under the grant's session limit, taken in one step.
    pub fn admit(&self, identity: &Identity, claim: &Claim) -> Result<(Admission, Seat), NotAdmitted> {
        let mut seats = self.seats.lock();
        let count = |grant| seats.get(&grant).copied().unwrap_or(0);
        let admission = self.book().admit(identity, claim, self.now(), &count)?;
        *seats.entry(admission.grant()).or_insert(0) += 1;
        drop(seats);
        self.watch_certificate(identity);
        let seat = Seat { grant: admission.grant(), seats: self.seats.clone() };
        Ok((admission, seat))
    }

    /// The decision for one request, and a place for the session that it begins; none where the connection has a
    /// session of that grant already, as `held` says.
    pub fn admit_request(
        &self,
        identity: &Identity,
        claim: &Claim,
        touch: Touch,
        held: &[GrantId],
    ) -> Result<(Admission, Option<Seat>), NotAdmitted> {
        let mut seats = self.seats.lock();
        let count = |grant| match held.contains(&grant) {
            true => 0,
            false => seats.get(&grant).copied().unwrap_or(0),
        };
        let admission = self.book().admit_request(identity, claim, touch, self.now(), &count)?;
        let grant = admission.grant();
        if held.contains(&grant) {
            return Ok((admission, None));
        }
        *seats.entry(grant).or_insert(0) += 1;
        drop(seats);
        self.watch_certificate(identity);
        Ok((admission, Some(Seat { grant, seats: self.seats.clone() })))
    }

    /// What the grants cover that are open for a request that touches this, the one that would be chosen first.
    pub fn scopes(&self, identity: &Identity, claim: &Claim, touch: &Touch, held: &[GrantId]) -> Vec<Scope> {
        let seats = self.seats.lock();
        let count = |grant| match held.contains(&grant) {
            true => 0,
            false => seats.get(&grant).copied().unwrap_or(0),
        };
        self.book().scopes(identity, claim, touch, self.now(), &count)
    }

    /// Has [`Ledger::tick`] wake the sessions when the certificate that let this one in ends.
    fn watch_certificate(&self, identity: &Identity) {
        if let Some(certificate) = identity.proof().certificate() {
            // One entry however often it logs in; it goes when its time has come.
            self.ends_of_certificates().insert(certificate.window.end);
        }
    }

    /// Why a request that is under way may not go on; `None`: it may, by this grant or by another that admits the same.
    pub fn request_ended(&self, admission: &Admission) -> Option<EndCause> {
        match self.book().recheck(admission, self.now(), &|_| 0) {
            Standing::Ended(cause) => Some(cause),
            Standing::Open { .. } | Standing::Moved(_) => None,
        }
    }

    /// Whether the grant of a request that is under way covers this too.
    pub fn covers(&self, admission: &Admission, touch: Touch) -> bool {
        let standing = self.book().recheck(&admission.touching(touch), self.now(), &|_| 0);
        matches!(standing, Standing::Open { .. })
    }

    /// Looks at a live session's grant again; its seat moves along with it.
    pub fn recheck(&self, admission: &Admission, seat: &mut Seat) -> Standing {
        let mut seats = self.seats.lock();
        let count = |grant| seats.get(&grant).copied().unwrap_or(0);
        let standing = self.book().recheck(admission, self.now(), &count);
        if let Standing::Moved(to) = &standing {
            *seats.entry(to.grant()).or_insert(0) += 1;
            release(&mut seats, seat.grant);
            seat.grant = to.grant();
        }
        standing
    }

    /// Wakes the sessions when something is due, which ends what it admitted. Never waits: whatever the
    /// store does, no session outlives its grant. True: [`Ledger::store_ends`] has something to store.
    /// Called every [`limits::GRANT_TICK`].
    pub fn tick(&self) -> bool {
        let (grants, credentials) = self.book().due(self.now());
        let due = !grants.is_empty() || !credentials.is_empty();
        let certificates = {
            let mut ends = self.ends_of_certificates();
            let later = ends.split_off(&self.now());
            std::mem::replace(&mut *ends, later)
        };
        if due || !certificates.is_empty() {
            self.wake();
        }
        due || self.stale.load(Ordering::Relaxed) || self.pending.len() > 0
    }

    fn ends_of_certificates(&self) -> MutexGuard<'_, BTreeSet<Time>> {
        self.certificate_ends.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Stores that what is due has ended, for good.
    pub async fn store_ends(&self) -> Result<(), ChangeError> {
        if self.pending.len() > 0 {
            let _one_at_a_time = self.changing.lock().await;
            self.store_pending().await.map_err(|failed| ChangeError::Unstored(failed.why))?;
        }
        let now = self.now();
        let (grants, credentials) = self.book().due(now);
        let ended = Ended { at: now, cause: EndCause::Expired, reason: None };
        self.change(&Actor::Proxy, "expire", None, |snapshot| {
            let open = snapshot.grants.iter().filter(|grant| grant.ended.is_none());
            let mut changes: Vec<Change> = open
                .filter(|grant| grants.contains(&grant.id))
                .map(|grant| Change::EndGrant { id: grant.id, ended: ended.clone() })
                .collect();
            let live = snapshot.credentials.iter().filter(|credential| credential.ended.is_none());
            changes.extend(
                live.filter(|credential| credentials.contains(&credential.id))
                    .map(|credential| Change::EndCredential { id: credential.id, ended: ended.clone() }),
            );
            Ok(changes)
        })
        .await?;
        Ok(())
    }

    /// What a client is told when it was let in although more was open: never more than its own grants.
    pub fn greeting(admission: &Admission) -> Option<String> {
        let others = admission.others();
        let (level, until) = others.iter().find(|(level, _)| level != admission.level()).or(others.first())?;
        let mut text = format!(
            "you are in with level {}; {} more open grant{} matched",
            admission.level(),
            others.len(),
            if others.len() == 1 { "" } else { "s" },
        );
        if level != admission.level() {
            let user = admission.user();
            text.push_str(&format!(
                ", such as {level} until {until:.0} (log in as {user}+{level} to use it)"
            ));
        }
        Some(text)
    }
}

#[cfg(test)]
pub(crate) mod tests;
