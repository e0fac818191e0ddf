//! The audit trail and the metrics. Nothing here is on the byte path but one copy into the journal.
//!
//! Reading order: [`Trail`], then `journal` (why the order is exact), `region`, `writer`, `recovery`.

mod audit_file;
mod follow;
mod health;
mod journal;
mod labels;
mod line;
mod metrics;
mod record;
mod recovery;
mod region;
mod scan;
mod search;
mod trail;
mod writer;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod trail_tests;

pub use follow::Follower;
pub use metrics::{Metrics, PoolMeter, Raised, SessionMeter};
pub use search::{Broken, Query, Verified, search, tail, verify};
pub use trail::{Trail, TrailError, TrailSettings, TrailStatus};
