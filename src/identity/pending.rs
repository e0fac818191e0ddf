//! What has been taken away and is not stored yet. It is in force from the moment at which it was asked
//! for, whatever store and trail do; every book is made with it until the store has it.

use std::sync::{Mutex, MutexGuard};

use crate::model::{Change, EndCause, Ended, Event, Snapshot, Subject, Time};

/// One act of taking away, with what is left to do about it.
pub(super) struct Ending {
    pub number: u64,
    pub at: Time,
    pub changes: Vec<Change>,
    /// What the trail must say of it and does not say yet.
    pub untold: Vec<Event>,
    pub stored: bool,
    /// The trail has said that it could not be stored.
    pub complained: bool,
}

#[derive(Default)]
pub(super) struct Pending(Mutex<Waiting>);

#[derive(Default)]
pub(super) struct Waiting {
    endings: Vec<Ending>,
    /// Of all there ever were.
    count: u64,
}

impl Pending {
    pub fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn len(&self) -> usize {
        self.lock().endings.len()
    }
}

impl Waiting {
    /// Returns its number.
    pub fn add(&mut self, changes: Vec<Change>, untold: Vec<Event>, at: Time) -> u64 {
        self.count += 1;
        let (number, stored, complained) = (self.count, false, false);
        self.endings.push(Ending { number, at, changes, untold, stored, complained });
        self.count
    }

    pub fn numbers(&self) -> Vec<u64> {
        self.endings.iter().map(|ending| ending.number).collect()
    }

    pub fn find(&mut self, number: u64) -> Option<&mut Ending> {
        self.endings.iter_mut().find(|ending| ending.number == number)
    }

    pub fn remove(&mut self, number: u64) {
        self.endings.retain(|ending| ending.number != number);
    }

    /// What is stored, as it is in force.
    pub fn put_in_force(&self, snapshot: &mut Snapshot) {
        for ending in &self.endings {
            for change in &ending.changes {
                take_away(snapshot, change, ending.at);
            }
        }
    }
}

/// Whether a change can only close doors.
pub(super) fn takes_away(change: &Change) -> bool {
    match change {
        Change::EndGrant { .. }
        | Change::EndCredential { .. }
        | Change::RemoveUser { .. }
        | Change::SuspendTarget { .. }
        | Change::SuspendLevel { .. } => true,
        Change::PutTarget { .. }
        | Change::RemoveTarget { .. }
        | Change::ResumeTarget { .. }
        | Change::ResumeLevel { .. }
        | Change::SetBaseline { .. }
        | Change::PutUser { .. }
        | Change::PutGrant { .. }
        | Change::ExtendGrant { .. }
        | Change::AddCredential { .. } => false,
    }
}

/// As the store will do it. What has ended stays as it ended.
pub(super) fn take_away(snapshot: &mut Snapshot, change: &Change, at: Time) {
    match change {
        Change::EndGrant { id, ended } => {
            let grants = snapshot.grants.iter_mut().filter(|grant| grant.id == *id);
            grants.for_each(|grant| end(&mut grant.ended, ended));
        }
        Change::EndCredential { id, ended } => {
            let credentials = snapshot.credentials.iter_mut().filter(|credential| credential.id == *id);
            credentials.for_each(|credential| end(&mut credential.ended, ended));
        }
        Change::RemoveUser { name } => {
            let ended = Ended { at, cause: EndCause::UserRemoved, reason: None };
            snapshot.users.retain(|user| user.name != *name);
            let subject = Subject::User(name.clone());
            let grants = snapshot.grants.iter_mut().filter(|grant| grant.subject == subject);
            grants.for_each(|grant| end(&mut grant.ended, &ended));
            let credentials = snapshot.credentials.iter_mut().filter(|credential| credential.user == *name);
            credentials.for_each(|credential| end(&mut credential.ended, &ended));
        }
        Change::SuspendTarget { name, reason } => {
            let targets = snapshot.targets.iter_mut().filter(|target| target.name == *name);
            targets.for_each(|target| target.suspended = Some(reason.clone()));
        }
        Change::SuspendLevel { target, level, reason } => {
            let targets = snapshot.targets.iter_mut().filter(|known| known.name == *target);
            targets
                .filter_map(|target| target.connectors.get_mut(level))
                .for_each(|connector| connector.suspended = Some(reason.clone()));
        }
        // The others give, or change what is given: see `takes_away`.
        _ => {}
    }
}

fn end(known: &mut Option<Ended>, ended: &Ended) {
    known.get_or_insert_with(|| ended.clone());
}
