//! Failed attempts are slowed per source: the first few are free, then each costs twice the wait of the one before.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Failures that cost nothing: a mistyped or expired credential in a tool's settings.
const FREE: u32 = 3;
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);
/// A source is forgotten after this long without a failure.
const MEMORY: Duration = Duration::from_secs(600);
/// Sources remembered at once; past it the oldest are forgotten first.
const SOURCES_MAX: usize = 100_000;

pub(super) struct Throttle<K> {
    failures: Mutex<Generations<K>>,
}

/// Who failed last is in `young`. When that is full it becomes `old`, and the `old` before it is
/// forgotten: a flood of sources costs neither memory nor a search for the oldest.
struct Generations<K> {
    young: HashMap<K, Failures>,
    old: HashMap<K, Failures>,
}

#[derive(Clone, Copy)]
struct Failures {
    count: u32,
    last: Instant,
}

/// Whom an address stands for: of IPv6 a host has 2^64 addresses to change between.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address => address,
    }
}

impl<K> Default for Throttle<K> {
    fn default() -> Self {
        Self { failures: Mutex::new(Generations { young: HashMap::new(), old: HashMap::new() }) }
    }
}

impl<K: Eq + Hash> Throttle<K> {
    /// How long the next answer to this source is held back.
    pub fn penalty(&self, source: &K) -> Duration {
        self.penalty_at(source, Instant::now())
    }

    pub fn failed(&self, source: K) {
        self.failed_at(source, Instant::now());
    }

    pub fn succeeded(&self, source: &K) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.young.remove(source);
        failures.old.remove(source);
    }

    fn penalty_at(&self, source: &K, now: Instant) -> Duration {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        match failures.count(source, now).checked_sub(FREE) {
            None | Some(0) => Duration::ZERO,
            Some(doublings) => (FIRST * 2u32.pow((doublings - 1).min(10))).min(LONGEST),
        }
    }

    fn failed_at(&self, source: K, now: Instant) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.count(&source, now).saturating_add(1);
        if failures.young.len() >= SOURCES_MAX / 2 {
            failures.old = std::mem::take(&mut failures.young);
        }
        failures.young.insert(source, Failures { count, last: now });
    }
}

impl<K: Eq + Hash> Generations<K> {
    /// Failures that are not forgotten.
    fn count(&self, source: &K, now: Instant) -> u32 {
        let known = self.young.get(source).or_else(|| self.old.get(source));
        known.filter(|known| now.duration_since(known.last) <= MEMORY).map_or(0, |known| known.count)
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

    #[test]
    fn what_is_forgotten_does_not_come_back() {
        let throttle = Throttle::default();
        let now = Instant::now();
        for _ in 0..100 {
            throttle.failed_at("a", now);
        }
        let later = now + MEMORY + Duration::from_secs(1);
        assert_eq!(throttle.penalty_at(&"a", later), Duration::ZERO);
        throttle.failed_at("a", later);
        assert_eq!(throttle.penalty_at(&"a", later), Duration::ZERO, "one failure is free again");
    }

    #[test]
    fn a_flood_of_sources_is_bounded_and_keeps_the_latest() {
        let throttle = Throttle::default();
        for source in 0..3 * SOURCES_MAX {
            for _ in 0..if source % 1_000 == 0 { FREE + 1 } else { 1 } {
                throttle.failed(source);
            }
        }
        let remembered = {
            let failures = throttle.failures.lock().unwrap();
            failures.young.len() + failures.old.len()
        };
        assert!(remembered <= SOURCES_MAX, "{remembered}");
        assert_eq!(throttle.penalty(&(3 * SOURCES_MAX - 1_000)), FIRST);
        assert_eq!(throttle.penalty(&0), Duration::ZERO);
    }

    #[test]
    fn one_network_of_ipv6_is_one_source() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1:2:3"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.7"), of("192.0.2.7"));
        assert_ne!(of("192.0.2.7"), of("192.0.2.8"));
    }
}
