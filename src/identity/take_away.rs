//! Revocations and their like: in force at once, in this process, and stored as soon as that is possible.
//! A store that is locked or full, or a trail that cannot be written, must not keep anybody in.

use std::sync::atomic::Ordering;

use super::ledger::{ChangeError, Ledger, told};
use super::pending::takes_away;
use crate::model::{Actor, Admin, Change, Event, Snapshot};
use crate::store::StoreError;

/// What is in force and could not be stored, or not be written to the trail.
pub(super) struct Failed {
    /// The act's number.
    number: u64,
    /// What did not work.
    pub why: String,
}

impl Failed {
    /// For somebody else whose change must wait for it.
    pub fn of_others(self) -> String {
        format!("{}; nothing was changed, for what was revoked before must be stored first", self.why)
    }
}

impl Ledger {
    /// Takes something away: ends grants or credentials, removes users, suspends. It is in force before
    /// anything waits; then it is written to the trail and stored, and it stays in force and is tried again
    /// (with every tick, by [`Ledger::store_ends`]) where that fails. A restart before it is stored forgets it.
    ///
    /// `plan` sees what is in force. Not cancel safe in the sense that the act is done whoever goes away.
    ///
    /// # Errors
    /// [`ChangeError::Unstored`]: it is in force all the same. Everything else: nothing was changed.
    pub async fn take_away(
        &self,
        actor: &Actor,
        action: &'static str,
        reason: Option<&str>,
        plan: impl FnOnce(&Snapshot) -> Result<Vec<Change>, ChangeError> + Send,
    ) -> Result<Vec<Change>, ChangeError> {
        if self.stale.load(Ordering::Relaxed) {
            // The book is empty, so nobody is in; only the store knows what there is to take away.
            return self.change(actor, action, reason, plan).await;
        }
        let (number, changes) = {
            let mut pending = self.pending.lock();
            let book = self.book();
            let changes = plan(book.snapshot())?;
            if changes.is_empty() {
                return Ok(changes);
            }
            if !changes.iter().all(takes_away) {
                return Err(ChangeError::Refused("this gives something, and cannot be done in haste".into()));
            }
            let events = changes.iter().map(|change| told(actor, action, reason, change, book.snapshot()));
            let number = pending.add(changes.clone(), events.collect(), self.now());
            self.put_in_force(&pending, book.snapshot().clone());
            (number, changes)
        };
        let _one_at_a_time = self.changing.lock().await;
        match self.store_pending().await {
            Ok(refused) => match refused.into_iter().find(|(of, _)| *of == number) {
                Some((_, sentence)) => Err(ChangeError::Refused(sentence)),
                None => Ok(changes),
            },
            Err(failed) if failed.number <= number => Err(ChangeError::Unstored(failed.why)),
            Err(_) => Ok(changes),
        }
    }

    /// Does what is left to do, in order; the caller has the turn to change. Returns which acts the store
    /// refused, and why: something else was faster, such as the removal of the grant's user.
    pub(super) async fn store_pending(&self) -> Result<Vec<(u64, String)>, Failed> {
        let numbers = self.pending.lock().numbers();
        let (mut refused, mut failed, mut stored) = (Vec::new(), None, false);
        for number in numbers {
            let told = self.tell(number);
            let result = match &failed {
                // What comes later waits for what came first.
                Some(_) => continue,
                None => self.store_one(number).await,
            };
            stored |= result.is_ok();
            let why = match result {
                Ok(()) => told.err(),
                Err(StoreError::Refused(sentence)) => {
                    self.forget(number, "change.refused", &sentence);
                    refused.push((number, sentence));
                    stored = true;
                    continue;
                }
                Err(error) => {
                    self.complain(number, &error);
                    Some(error.to_string())
                }
            };
            match why {
                Some(why) => failed = Some(Failed { number, why }),
                None => self.pending.lock().remove(number),
            }
        }
        if stored && let Err(error) = self.publish().await {
            // Stored, and read again with the next tick.
            tracing::error!(%error, "what was stored could not be read back");
        }
        match failed {
            Some(failed) => Err(failed),
            None => Ok(refused),
        }
    }

    /// Writes to the trail what it does not say yet; of a trail that ends the sessions, as long as its
    /// journal has room.
    fn tell(&self, number: u64) -> Result<(), String> {
        let mut pending = self.pending.lock();
        let Some(ending) = pending.find(number) else { return Ok(()) };
        while let Some(event) = ending.untold.first() {
            self.trail.end(event).map_err(|error| error.to_string())?;
            ending.untold.remove(0);
        }
        Ok(())
    }

    async fn store_one(&self, number: u64) -> Result<(), StoreError> {
        let changes = match self.pending.lock().find(number) {
            Some(ending) if !ending.stored => ending.changes.clone(),
            _ => return Ok(()),
        };
        super::clock::stored(self.store.apply(&changes, self.now())).await?;
        if let Some(ending) = self.pending.lock().find(number) {
            ending.stored = true;
        }
        Ok(())
    }

    /// Says once that it is not stored: the trail said that it was going to be.
    fn complain(&self, number: u64, error: &StoreError) {
        let mut pending = self.pending.lock();
        let Some(ending) = pending.find(number).filter(|ending| !ending.complained) else { return };
        ending.complained = true;
        tracing::error!(%error, "what was revoked is in force and could not be stored; it is tried again");
        ending.untold.push(after(&ending.changes, "change.unstored", error.to_string()));
        drop(pending);
        // It is tried again if it does not work.
        let _ = self.tell(number);
    }

    fn forget(&self, number: u64, action: &'static str, why: &str) {
        let mut pending = self.pending.lock();
        if let Some(ending) = pending.find(number) {
            let _ = self.trail.end(&after(&ending.changes, action, why.to_owned()));
        }
        pending.remove(number);
    }
}

/// What follows the line of an act that did not go as it said.
fn after(changes: &[Change], action: &'static str, why: String) -> Event {
    let object = format!("{} changes", changes.len());
    Event::Admin(Box::new(Admin {
        actor: Actor::Proxy,
        action,
        object,
        before: None,
        after: None,
        reason: Some(why),
    }))
}
