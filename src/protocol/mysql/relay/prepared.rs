//! The prepared statements of a session: their texts, and what the server told of their parameters.

use std::collections::HashMap;

use super::outstanding::Offered;
use crate::model::limits::{
    AUDIT_PARAMETERS_BYTES_MAX, LONG_PARAMETERS_MAX, PREPARED_MAX, PREPARED_TEXT_BYTES_MAX,
    RECYCLED_BYTES_MAX,
};

/// In place of a number: the statement that was prepared last, whose number the client may not know yet (MariaDB).
pub(super) const LAST: u32 = u32::MAX;

/// More than a session may have.
pub(super) struct TooMany;

#[derive(Debug, Default)]
pub(super) struct Statement {
    /// Counts up in its session: what the trail calls it.
    pub number: u64,
    /// The server's, once it has been told.
    id: Option<u32>,
    /// As much of it as we look at; empty where a limit has dropped it.
    pub text: Vec<u8>,
    /// How long the text really is.
    pub length: u64,
    pub secret: bool,
    /// The files of the client's that it offers.
    pub offered: Offered,
    /// How many parameters it has.
    pub parameters: usize,
    /// Their types as they were sent last, two bytes each.
    pub types: Vec<u8>,
    /// Parameters whose values were sent ahead, and how long those are.
    pub long: Vec<(u16, u64)>,
    /// The number of the statement that ran it last, which opened its cursor.
    pub last_run: u64,
    /// Resets of the connection that were sent before it.
    generation: u64,
    /// The client closed it before the server told its number.
    closing: bool,
    is_used: bool,
}

/// What one value that was sent ahead takes.
const LONG_BYTES: usize = size_of::<(u16, u64)>();
/// As many as most statements have are kept room for.
const LONG_KEPT: usize = 4;

impl Statement {
    fn offered_bytes(&self) -> usize {
        self.offered.iter().flat_map(|names| names.iter()).map(|name| size_of::<Vec<u8>>() + name.len()).sum()
    }
}

/// All of them; a place is used again once its statement is closed, with its buffers.
#[derive(Debug, Default)]
pub(super) struct Table {
    slots: Vec<Statement>,
    free: Vec<usize>,
    by_id: HashMap<u32, usize>,
    last: Option<usize>,
    /// What was it before.
    last_before: Option<usize>,
    weight: usize,
    generation: u64,
    count: u64,
}

impl Table {
    #[cfg(any(test, feature = "testing"))]
    pub fn weight(&self) -> usize {
        self.weight
    }

    pub fn get(&self, slot: usize) -> &Statement {
        &self.slots[slot]
    }

    pub fn get_mut(&mut self, slot: usize) -> &mut Statement {
        &mut self.slots[slot]
    }

    /// A statement that is about to be sent to be prepared; `fill` gets it empty.
    pub fn add(&mut self, text: &[u8], fill: impl FnOnce(&mut Statement)) -> Result<usize, TooMany> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.slots.len() >= PREPARED_MAX => return Err(TooMany),
            None => {
                self.slots.push(Statement::default());
                self.slots.len() - 1
            }
        };
        self.count += 1;
        let (number, generation) = (self.count, self.generation);
        let statement = &mut self.slots[slot];
        (statement.number, statement.generation, statement.is_used) = (number, generation, true);
        if self.weight + text.len() <= PREPARED_TEXT_BYTES_MAX {
            statement.text.extend_from_slice(text);
            self.weight += text.len();
        }
        fill(statement);
        let offered = statement.offered_bytes();
        if self.weight + offered <= PREPARED_TEXT_BYTES_MAX {
            self.weight += offered;
        } else {
            statement.offered = None;
        }
        self.last_before = self.last.replace(slot);
        Ok(slot)
    }

    /// The place of a number of the server's, or of [`LAST`].
    pub fn find(&self, id: u32) -> Option<usize> {
        match id {
            LAST => self.last,
            id => self.by_id.get(&id).copied(),
        }
    }

    /// The server told its number and how many parameters it has.
    pub fn confirm(&mut self, slot: usize, id: u32, parameters: u16) {
        let statement = &mut self.slots[slot];
        (statement.id, statement.parameters) = (Some(id), usize::from(parameters));
        if statement.closing {
            return self.release(slot);
        }
        // A number that is told twice is that of the later one.
        if let Some(before) = self.by_id.insert(id, slot)
            && before != slot
        {
            self.slots[before].id = None;
            self.release(before);
        }
    }

    /// The server could not prepare it.
    pub fn abandon(&mut self, slot: usize) {
        self.release(slot);
    }

    /// What was added last is not sent after all: to the server the one before it is still the last.
    pub fn withdraw(&mut self, slot: usize) {
        self.release(slot);
        self.last = self.last_before;
    }

    pub fn close(&mut self, id: u32) {
        let Some(slot) = self.find(id) else { return };
        match self.slots[slot].id {
            Some(_) => self.release(slot),
            None => self.slots[slot].closing = true,
        }
    }

    /// The types of its parameters were sent along.
    pub fn set_types(&mut self, slot: usize, types: &[u8]) {
        let statement = &mut self.slots[slot];
        self.weight -= statement.types.len();
        statement.types.clear();
        if types.len() <= AUDIT_PARAMETERS_BYTES_MAX && self.weight + types.len() <= PREPARED_TEXT_BYTES_MAX {
            statement.types.extend_from_slice(types);
        }
        self.weight += statement.types.len();
    }

    /// So many bytes of the value of a parameter were sent ahead. Where there is no room for that it is not told.
    pub fn add_long(&mut self, slot: usize, parameter: u16, length: u64) {
        let statement = &mut self.slots[slot];
        let is_one = usize::from(parameter) < statement.parameters;
        let has_room =
            statement.long.len() < LONG_PARAMETERS_MAX && self.weight + LONG_BYTES <= PREPARED_TEXT_BYTES_MAX;
        match statement.long.iter_mut().find(|(number, _)| *number == parameter) {
            Some((_, before)) => *before += length,
            None if is_one && has_room => {
                statement.long.push((parameter, length));
                self.weight += LONG_BYTES;
            }
            None => {}
        }
    }

    /// They were used, or are not to be.
    pub fn forget_long(&mut self, slot: usize) {
        let long = &mut self.slots[slot].long;
        self.weight -= long.len() * LONG_BYTES;
        long.clear();
        long.shrink_to(LONG_KEPT);
    }

    /// A reset of the connection is sent: it ends what was prepared before it.
    pub fn expect_reset(&mut self) {
        self.generation += 1;
    }

    /// The server has done it; `ahead` such are still on their way.
    pub fn reset(&mut self, ahead: u64) {
        let ended = self.generation - ahead.min(self.generation);
        for slot in 0..self.slots.len() {
            if self.slots[slot].is_used && self.slots[slot].generation < ended {
                self.release(slot);
            }
        }
    }

    fn release(&mut self, slot: usize) {
        self.forget_long(slot);
        let statement = &mut self.slots[slot];
        if let Some(id) = statement.id.take() {
            self.by_id.remove(&id);
        }
        self.weight -= statement.text.len() + statement.types.len() + statement.offered_bytes();
        let keep = |mut buffer: Vec<u8>| {
            buffer.clear();
            buffer.shrink_to(RECYCLED_BYTES_MAX);
            buffer
        };
        let (text, types) = (std::mem::take(&mut statement.text), std::mem::take(&mut statement.types));
        *statement = Statement { text: keep(text), types: keep(types), ..Statement::default() };
        self.free.push(slot);
        if self.last == Some(slot) {
            self.last = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(table: &mut Table, text: &[u8]) -> usize {
        table.add(text, |_| {}).ok().unwrap()
    }

    #[test]
    fn a_statement_is_found_by_its_number_until_it_is_closed() {
        let mut table = Table::default();
        let one = add(&mut table, b"select 1");
        assert_eq!(table.find(LAST), Some(one));
        assert_eq!(table.find(7), None);
        table.confirm(one, 7, 2);
        assert_eq!(table.find(7), Some(one));
        assert_eq!((table.get(one).parameters, table.weight()), (2, 8));
        table.set_types(one, &[3, 0, 254, 0]);
        assert_eq!(table.weight(), 12);
        table.close(7);
        assert_eq!((table.find(7), table.find(LAST), table.weight()), (None, None, 0));
        let two = add(&mut table, b"x");
        assert_eq!((two, table.get(two).number), (one, 2), "its place is used again");
    }

    #[test]
    fn one_that_is_closed_early_goes_when_its_number_is_told() {
        let mut table = Table::default();
        let one = add(&mut table, b"select 1");
        table.close(LAST);
        table.confirm(one, 7, 0);
        assert_eq!((table.find(7), table.weight()), (None, 0));
    }

    #[test]
    fn a_reset_ends_what_was_sent_before_it() {
        let mut table = Table::default();
        let one = add(&mut table, b"a");
        table.confirm(one, 1, 0);
        table.expect_reset();
        let two = add(&mut table, b"b");
        table.expect_reset();
        table.reset(1);
        assert_eq!(table.find(1), None);
        table.confirm(two, 1, 0);
        assert_eq!(table.find(1), Some(two));
        table.reset(0);
        assert_eq!((table.find(1), table.weight()), (None, 0));
    }

    #[test]
    fn what_was_not_sent_is_not_the_last() {
        let mut table = Table::default();
        let one = add(&mut table, b"a");
        let two = add(&mut table, b"b");
        table.withdraw(two);
        assert_eq!(table.find(LAST), Some(one));
        let three = add(&mut table, b"c");
        table.abandon(three);
        assert_eq!(table.find(LAST), None, "the server has none either");
    }

    #[test]
    fn all_that_a_statement_keeps_has_its_weight() {
        let mut table = Table::default();
        let offer = |length: usize| -> Offered { Some([vec![b'x'; length]].into()) };
        let one = table.add(b"a", |statement| statement.offered = offer(1_000)).ok().unwrap();
        table.confirm(one, 1, u16::MAX);
        assert!((1_000..1_100).contains(&table.weight()), "{}", table.weight());
        let two =
            table.add(b"b", |statement| statement.offered = offer(PREPARED_TEXT_BYTES_MAX)).ok().unwrap();
        assert!(table.get(two).offered.is_none() && table.get(one).offered.is_some());
        let before = table.weight();
        for parameter in 0..2_000 {
            table.add_long(one, parameter, 5);
            table.add_long(one, 0, 1);
        }
        assert_eq!(table.get(one).long.len(), LONG_PARAMETERS_MAX);
        assert_eq!(table.weight(), before + LONG_PARAMETERS_MAX * 16);
        table.forget_long(one);
        assert!(table.weight() == before && table.get(one).long.capacity() <= LONG_KEPT);
        table.add_long(one, 0, 5);
        table.close(1);
        table.abandon(two);
        assert_eq!(table.weight(), 0);
    }

    #[test]
    fn texts_beyond_the_limit_are_not_kept() {
        let mut table = Table::default();
        let text = vec![b'x'; PREPARED_TEXT_BYTES_MAX];
        let one = add(&mut table, &text);
        let two = add(&mut table, b"y");
        assert_eq!((table.get(one).text.len(), table.get(two).text.len()), (text.len(), 0));
        table.abandon(one);
        assert_eq!(table.weight(), 0);
    }
}
