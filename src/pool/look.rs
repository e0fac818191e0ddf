//! How often a connection that comes back is looked at thoroughly.
//!
//! What one session can leave behind on its own connection is verified at every return. What a session can
//! change in the server's catalogs (the role's own settings) works on connections that are *made*, and those
//! are looked at when they are; an early alarm is all that a look at a return adds, and it is by far the
//! dearest part of one. So a pool looks at most once in
//! [`POOL_LOOK_INTERVAL`](crate::model::limits::POOL_LOOK_INTERVAL), and after a return without a look it
//! owes one.
//!
//! MySQL's servers have little that outlives a session, and no row that says cheaply what a session has left: hashing
//! all of its variables is the dearest part of a reset there. Each return has the server hash those that matter to the
//! next person, behind a reset that had something to put back; a look hashes all of them. What that leaves unseen, and
//! why it is enough, stands at `protocol::mysql::query::state`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crate::model::limits::POOL_LOOK_INTERVAL;

pub(super) struct Looks {
    born: Instant,
    /// Milliseconds since `born` at which the last look began, and one; 0 where there was none.
    last: AtomicU64,
    owed: AtomicBool,
}

impl Looks {
    pub fn new() -> Self {
        Self { born: Instant::now(), last: AtomicU64::new(0), owed: AtomicBool::new(false) }
    }

    /// Whether the connection that comes back now is the one to look at. If not, a look is owed.
    pub fn is_due(&self) -> bool {
        let now = self.now();
        let last = self.last.load(Ordering::Acquire);
        let is_due = last == 0 || now.saturating_sub(last) >= POOL_LOOK_INTERVAL.as_millis() as u64;
        // Two at the same moment: one of them looks, and as it has not begun yet it sees what both have left.
        if is_due && self.last.compare_exchange(last, now, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            self.owed.store(false, Ordering::Release);
            return true;
        }
        self.owed.store(true, Ordering::Release);
        false
    }

    /// Whether a look is owed; the caller takes the debt over.
    pub fn take_debt(&self) -> bool {
        let owed = self.owed.swap(false, Ordering::AcqRel);
        if owed {
            self.last.store(self.now(), Ordering::Release);
        }
        owed
    }

    /// It could not be done now.
    pub fn owe(&self) {
        self.owed.store(true, Ordering::Release);
    }

    fn now(&self) -> u64 {
        self.born.elapsed().as_millis() as u64 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_looked_at_and_the_others_owe() {
        let looks = Looks::new();
        assert!(!looks.take_debt());
        assert!(looks.is_due());
        assert!(!looks.take_debt());
        assert!(!looks.is_due() && !looks.is_due());
        assert!(looks.take_debt());
        assert!(!looks.take_debt(), "a debt is paid once");
        looks.owe();
        assert!(looks.take_debt());
        looks.last.store(0, Ordering::Release);
        assert!(looks.is_due());
        assert!(!looks.take_debt());
    }
}
