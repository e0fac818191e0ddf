//! Time, in one place: wall time for what people read and grants end by, a monotonic clock for
//! durations. Both are read without a system call.

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Microseconds since the process began to look at the clock.
pub(super) fn monotonic_micros() -> u64 {
    START.elapsed().as_micros() as u64
}

/// The instant of a [`monotonic_micros`] reading.
pub(super) fn instant(micros: u64) -> Instant {
    *START + Duration::from_micros(micros)
}

/// Wall time in microseconds since 1970.
pub(super) fn wall_micros() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}
