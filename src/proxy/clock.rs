//! Time, in one place: wall time for what people read and grants end by, a monotonic clock for
//! durations. Both are read without a system call, and both can be driven by a test: wall time through
//! `identity::clock`, the monotonic one as tokio's own.

use std::sync::LazyLock;
use std::time::Duration;

use tokio::time::Instant;

use crate::identity::clock;

static START: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);

/// Microseconds since the process began to look at the clock.
pub(super) fn monotonic_micros() -> u64 {
    Instant::now().into_std().saturating_duration_since(*START).as_micros() as u64
}

/// The instant of a [`monotonic_micros`] reading.
pub(super) fn instant(micros: u64) -> Instant {
    Instant::from_std(*START + Duration::from_micros(micros))
}

/// Wall time in microseconds since 1970.
pub(super) fn wall_micros() -> i64 {
    clock::wall().as_microsecond()
}
