//! The audit trail and the metrics. Nothing here is on the byte path but one copy into the journal.

mod metrics;
mod trail;

pub use metrics::Metrics;
pub use trail::{Trail, TrailError, TrailSettings};
