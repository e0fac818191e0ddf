//! Failed attempts are slowed per source: the first few are free, then each costs twice the wait of the one before.

use std::hash::Hash;
use std::time::{Duration, Instant};

use dashmap::DashMap;

/// Failures that cost nothing: a mistyped or expired credential in a tool's settings.
const FREE: u32 = 3;
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);
/// A source is forgotten after this long without a failure.
const MEMORY: Duration = Duration::from_secs(600);
/// Sources remembered at once; past it the oldest are forgotten first.
const SOURCES_MAX: usize = 100_000;

pub(super) struct Throttle<K: Eq + Hash> {
    failures: DashMap<K, (u32, Instant)>,
}

impl<K: Eq + Hash> Default for Throttle<K> {
    fn default() -> Self {
        Self { failures: DashMap::new() }
    }
}

impl<K: Eq + Hash + Clone> Throttle<K> {
    /// How long the next answer to this source is held back.
    pub fn penalty(&self, source: &K) -> Duration {
        let Some(entry) = self.failures.get(source) else { return Duration::ZERO };
        let (count, last) = *entry;
        if last.elapsed() > MEMORY {
            return Duration::ZERO;
        }
        match count.checked_sub(FREE) {
            None | Some(0) => Duration::ZERO,
            Some(doublings) => (FIRST * 2u32.pow((doublings - 1).min(10))).min(LONGEST),
        }
    }

    pub fn failed(&self, source: K) {
        if self.failures.len() >= SOURCES_MAX {
            self.failures.retain(|_, (_, last)| last.elapsed() < MEMORY / 10);
        }
        let mut entry = self.failures.entry(source).or_insert((0, Instant::now()));
        *entry = (entry.0.saturating_add(1), Instant::now());
    }

    pub fn succeeded(&self, source: &K) {
        self.failures.remove(source);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_slowed_after_a_few_and_forgiven_after_a_success() {
        let throttle = Throttle::default();
        for _ in 0..FREE {
            throttle.failed("a");
            assert_eq!(throttle.penalty(&"a"), Duration::ZERO);
        }
        throttle.failed("a");
        assert_eq!(throttle.penalty(&"a"), FIRST);
        for _ in 0..100 {
            throttle.failed("a");
        }
        assert_eq!(throttle.penalty(&"a"), LONGEST);
        assert_eq!(throttle.penalty(&"b"), Duration::ZERO);
        throttle.succeeded(&"a");
        assert_eq!(throttle.penalty(&"a"), Duration::ZERO);
    }
}
