//! The prepared statements and portals of a session, as far as the server has confirmed them and as the
//! client has asked for them.
//!
//! A pipelining client is ahead of the server's answers, so a name has two meanings at once: the
//! *confirmed* one and the *latest* one asked for. Within one batch (up to a Sync) the latest is what an
//! Execute runs, if it runs at all, because a failure skips the rest of the batch. Across a Sync that is
//! not so: a Bind that follows there is held until the name is settled ([`Table::is_settled`]), or a
//! client could have the trail show another text than the one that runs.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, LazyLock};

use crate::model::limits::{
    NAME_BYTES_MAX, PREPARED_MAX, PREPARED_TEXT_BYTES_MAX, RECYCLED_BUFFERS_MAX, RECYCLED_BYTES_MAX,
};

use super::super::lexer::Pins;
use super::stamp::Resets;

pub(super) type Id = u32;

/// The entry of the unnamed statement or portal.
pub(super) const UNNAMED: Id = 0;

/// What the server makes of a name: it keeps NAMEDATALEN - 1 bytes, so longer ones that begin alike
/// are the same.
pub(super) fn key(name: &[u8]) -> &[u8] {
    &name[..name.len().min(NAME_BYTES_MAX)]
}

/// What is kept under a name. Records are used again, so that the hot path does not allocate.
pub(super) trait Record: Default + 'static {
    /// What is seen where there is no table.
    fn none() -> &'static Table<Self>;
    fn clear(&mut self);
    /// Bytes that count against the limit.
    fn weight(&self) -> usize;
    /// Lets go of what takes space; what remains still says that it did.
    fn shed(&mut self);
}

struct Slot<R> {
    /// Of entries, queue items and portals. Zero: free.
    holders: u32,
    /// Older records have lower numbers.
    age: u64,
    record: R,
}

struct Entry {
    name: Arc<[u8]>,
    confirmed: Option<Id>,
    latest: Option<Id>,
    /// Answers due that will change `confirmed`.
    pending: u32,
    /// The batch in which `latest` was asked for.
    batch: u64,
    /// Where it stands in [`Table::settled`] while it has a confirmed meaning and a name.
    place: usize,
}

impl Entry {
    fn new(name: Arc<[u8]>) -> Self {
        Self { name, confirmed: None, latest: None, pending: 0, batch: 0, place: 0 }
    }
}

/// Names and their records, of one kind.
pub(super) struct Table<R> {
    names: HashMap<Arc<[u8]>, Id>,
    entries: Vec<Entry>,
    free_entries: Vec<Id>,
    /// The named entries with a confirmed meaning, so that forgetting them takes no longer than having
    /// made them, however many are pending.
    settled: Vec<Id>,
    slots: Vec<Slot<R>>,
    free_slots: Vec<Id>,
    ages: u64,
    weight: usize,
}

/// A table that is made when something is put into it: sessions that sit there, and those that only ever ask simple
/// questions, have none.
pub(super) struct Tables<R>(Option<Box<Table<R>>>);

impl<R> Default for Tables<R> {
    fn default() -> Self {
        Self(None)
    }
}

impl<R> Tables<R> {
    /// What there is; for what has nothing to do where there is nothing.
    pub fn made(&mut self) -> Option<&mut Table<R>> {
        self.0.as_deref_mut()
    }
}

impl<R: Record> Deref for Tables<R> {
    type Target = Table<R>;

    fn deref(&self) -> &Table<R> {
        self.0.as_deref().unwrap_or_else(|| R::none())
    }
}

impl<R: Record> DerefMut for Tables<R> {
    fn deref_mut(&mut self) -> &mut Table<R> {
        self.0.get_or_insert_with(|| Box::new(Table::new()))
    }
}

/// More names than a session may have.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMany;

impl<R: Record> Table<R> {
    pub fn new() -> Self {
        Self {
            names: HashMap::new(),
            entries: vec![Entry::new([].into())],
            settled: Vec::new(),
            free_entries: Vec::new(),
            slots: Vec::new(),
            free_slots: Vec::new(),
            ages: 0,
            weight: 0,
        }
    }

    pub fn record(&self, id: Id) -> &R {
        &self.slots[id as usize].record
    }

    /// A fresh record, held once.
    pub fn add(&mut self, fill: impl FnOnce(&mut R)) -> Id {
        let id = self.free_slots.pop().unwrap_or_else(|| {
            self.slots.push(Slot { holders: 0, age: 0, record: R::default() });
            (self.slots.len() - 1) as Id
        });
        self.ages += 1;
        let slot = &mut self.slots[id as usize];
        (slot.holders, slot.age) = (1, self.ages);
        fill(&mut slot.record);
        self.weight += slot.record.weight();
        id
    }

    pub fn change(&mut self, id: Id, change: impl FnOnce(&mut R)) {
        let record = &mut self.slots[id as usize].record;
        self.weight -= record.weight();
        change(record);
        self.weight += record.weight();
    }

    pub fn hold(&mut self, id: Id) -> Id {
        self.slots[id as usize].holders += 1;
        id
    }

    /// Lets go of one hold. `last` sees the record when it was the last one.
    pub fn release(&mut self, id: Id, last: impl FnOnce(&mut R)) {
        let slot = &mut self.slots[id as usize];
        slot.holders -= 1;
        if slot.holders > 0 {
            return;
        }
        self.weight -= slot.record.weight();
        last(&mut slot.record);
        if self.free_slots.len() < RECYCLED_BUFFERS_MAX {
            slot.record.clear();
        } else {
            slot.record = R::default();
        }
        self.free_slots.push(id);
    }

    pub fn entry(&self, name: &[u8]) -> Option<Id> {
        if name.is_empty() { Some(UNNAMED) } else { self.names.get(key(name)).copied() }
    }

    pub fn name(&self, entry: Id) -> &[u8] {
        &self.entries[entry as usize].name
    }

    pub fn entry_or_new(&mut self, name: &[u8]) -> Result<Id, TooMany> {
        if let Some(entry) = self.entry(name) {
            return Ok(entry);
        }
        if self.names.len() >= PREPARED_MAX {
            return Err(TooMany);
        }
        let name: Arc<[u8]> = key(name).into();
        let fresh = Entry::new(name.clone());
        let id = match self.free_entries.pop() {
            Some(id) => {
                self.entries[id as usize] = fresh;
                id
            }
            None => {
                self.entries.push(fresh);
                (self.entries.len() - 1) as Id
            }
        };
        self.names.insert(name, id);
        Ok(id)
    }

    /// The record that a message of `batch` finds under the name.
    pub fn latest(&self, entry: Id) -> Option<Id> {
        self.entries[entry as usize].latest
    }

    /// Whether `latest` is what the server will find in `batch`, whatever answers are still to come.
    pub fn is_settled(&self, entry: Id, batch: u64) -> bool {
        let entry = &self.entries[entry as usize];
        entry.pending == 0 || entry.batch == batch
    }

    /// The client asked for `record` under this name (`None`: to close it). Every call is followed by
    /// one [`Self::confirm`] or [`Self::abandon`] with the same record.
    pub fn propose(&mut self, entry: Id, record: Option<Id>, batch: u64, last: impl FnOnce(&mut R)) {
        if let Some(record) = record {
            self.hold(record);
        }
        let entry = &mut self.entries[entry as usize];
        let before = std::mem::replace(&mut entry.latest, record);
        entry.pending += 1;
        entry.batch = batch;
        if let Some(before) = before {
            self.release(before, last);
        }
    }

    /// The server did it. Takes over the caller's hold of `record`.
    pub fn confirm(&mut self, entry: Id, record: Option<Id>, mut last: impl FnMut(&mut R)) {
        let at = entry as usize;
        self.entries[at].pending -= 1;
        self.set_confirmed(entry, record, &mut last);
    }

    /// The server did not do it. Takes over the caller's hold of `record`.
    pub fn abandon(&mut self, entry: Id, record: Option<Id>, mut last: impl FnMut(&mut R)) {
        if let Some(record) = record {
            self.release(record, &mut last);
        }
        self.entries[entry as usize].pending -= 1;
        self.settle(entry, &mut last);
    }

    /// What the server has under this name from now on, with a hold for it.
    pub fn set_confirmed(&mut self, entry: Id, record: Option<Id>, mut last: impl FnMut(&mut R)) {
        let before = std::mem::replace(&mut self.entries[entry as usize].confirmed, record);
        if entry != UNNAMED {
            match (before, record) {
                (None, Some(_)) => {
                    self.entries[entry as usize].place = self.settled.len();
                    self.settled.push(entry);
                }
                (Some(_), None) => {
                    let place = self.entries[entry as usize].place;
                    self.settled.swap_remove(place);
                    if let Some(moved) = self.settled.get(place) {
                        self.entries[*moved as usize].place = place;
                    }
                }
                _ => {}
            }
        }
        if let Some(before) = before {
            self.release(before, &mut last);
        }
        self.settle(entry, &mut last);
    }

    /// With no answers due, the confirmed meaning is the only one.
    fn settle(&mut self, id: Id, mut last: impl FnMut(&mut R)) {
        let entry = &mut self.entries[id as usize];
        if entry.pending > 0 {
            return;
        }
        if entry.latest != entry.confirmed {
            let before = std::mem::replace(&mut entry.latest, entry.confirmed);
            if let Some(record) = entry.confirmed {
                self.hold(record);
            }
            if let Some(before) = before {
                self.release(before, &mut last);
            }
        }
        let entry = &mut self.entries[id as usize];
        if id != UNNAMED && entry.confirmed.is_none() {
            let name = std::mem::replace(&mut entry.name, [].into());
            self.names.remove(&name);
            self.free_entries.push(id);
        }
    }

    /// The server has dropped them all; what is due is not touched. `unnamed`: that one too.
    pub fn forget_confirmed(&mut self, unnamed: bool, mut last: impl FnMut(&mut R)) {
        if unnamed {
            self.set_confirmed(UNNAMED, None, &mut last);
        }
        while let Some(entry) = self.settled.last() {
            self.set_confirmed(*entry, None, &mut last);
        }
    }

    /// Names with their confirmed records, oldest first, the unnamed one last.
    pub fn confirmed(&self) -> Vec<(&[u8], &R)> {
        let mut all: Vec<_> = self
            .settled
            .iter()
            .filter_map(|id| {
                let entry = &self.entries[*id as usize];
                let slot = &self.slots[entry.confirmed? as usize];
                Some((slot.age, &*entry.name, &slot.record))
            })
            .collect();
        all.sort_by_key(|(age, ..)| *age);
        let mut all: Vec<_> = all.into_iter().map(|(_, name, record)| (name, record)).collect();
        if let Some(record) = self.entries[UNNAMED as usize].confirmed {
            all.push((&[], self.record(record)));
        }
        all
    }

    pub fn is_over_limit(&self) -> bool {
        self.weight > PREPARED_TEXT_BYTES_MAX
    }

    /// Lets the oldest records shed what they hold, until three quarters of the limit are left. `shed`
    /// sees each before.
    pub fn shrink(&mut self, mut shed: impl FnMut(&R)) {
        let mut ages: Vec<(u64, usize)> = self
            .slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.holders > 0)
            .map(|(at, slot)| (slot.age, at))
            .collect();
        ages.sort_unstable();
        for (_, at) in ages {
            if self.weight <= PREPARED_TEXT_BYTES_MAX / 4 * 3 {
                return;
            }
            let record = &mut self.slots[at].record;
            let weight = record.weight();
            shed(record);
            record.shed();
            self.weight = self.weight + record.weight() - weight;
        }
    }

    #[cfg(any(test, feature = "testing"))]
    pub fn weight(&self) -> usize {
        self.weight
    }
}

/// One prepared statement.
#[derive(Default)]
pub(super) struct Statement {
    /// As the client sent it, up to what we see of a message.
    pub text: Vec<u8>,
    /// How long it really is.
    pub length: u64,
    /// The oids of its parameters as Parse gave them, 4 bytes each, big endian; zero where the server
    /// is to find them out.
    pub types: Vec<u8>,
    /// The oids as the server described them; empty until a client asked.
    pub described: Vec<u8>,
    /// Parse was longer than what we see of a message: text or oids are not whole.
    pub is_cut: bool,
    pub named: bool,
    /// The text may hold a password.
    pub secret: bool,
    /// What running it undoes.
    pub resets: Resets,
    /// What running it may leave at the server.
    pub pins: Pins,
    /// The text was dropped for the limit.
    pub is_shed: bool,
    /// Without a name, and in no note yet.
    pub is_unrun: bool,
}

impl Record for Statement {
    fn none() -> &'static Table<Self> {
        static NONE: LazyLock<Table<Statement>> = LazyLock::new(Table::new);
        &NONE
    }

    fn clear(&mut self) {
        recycle(&mut self.text);
        recycle(&mut self.types);
        recycle(&mut self.described);
        (self.named, self.secret, self.is_shed, self.is_cut) = (false, false, false, false);
        self.is_unrun = false;
        self.resets = Resets::default();
        self.pins = Pins::default();
        self.length = 0;
    }

    fn weight(&self) -> usize {
        self.text.len() + self.types.len() + self.described.len()
    }

    fn shed(&mut self) {
        self.is_shed |= !self.text.is_empty();
        self.text = Vec::new();
        self.types = Vec::new();
        self.described = Vec::new();
    }
}

/// Empties a buffer for the next one; a large one is not worth keeping.
fn recycle(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.shrink_to(RECYCLED_BYTES_MAX);
}

/// One portal: a statement with its values.
#[derive(Default)]
pub(super) struct Portal {
    /// `None`: prepared in a way that we did not see, by PREPARE.
    pub statement: Option<Id>,
    /// The name that Bind gave, as much of it as the server keeps.
    pub prepared: Vec<u8>,
    /// As [`crate::model::Parameters`] has them.
    pub values: Vec<u8>,
    pub length: u64,
    /// The size of the Bind message, until an Execute has counted it.
    pub bytes: u64,
    /// In no note yet.
    pub is_unrun: bool,
    /// The number under which it was noted although nothing ran it yet.
    pub noted: Option<u64>,
}

impl Record for Portal {
    fn none() -> &'static Table<Self> {
        static NONE: LazyLock<Table<Portal>> = LazyLock::new(Table::new);
        &NONE
    }

    fn clear(&mut self) {
        self.statement = None;
        recycle(&mut self.prepared);
        recycle(&mut self.values);
        (self.length, self.bytes) = (0, 0);
        (self.is_unrun, self.noted) = (false, None);
    }

    fn weight(&self) -> usize {
        self.values.len() + self.prepared.len()
    }

    fn shed(&mut self) {
        self.values = Vec::new();
    }
}
