use std::sync::atomic::{AtomicU32, Ordering};

use crate::model::{SessionId, Time};

/// Session ids: the time and a counter that starts anywhere.
pub(super) struct SessionIds(AtomicU32);

impl SessionIds {
    pub fn new() -> Result<Self, getrandom::Error> {
        Ok(Self(AtomicU32::new(getrandom::u32()?)))
    }

    pub fn next(&self) -> SessionId {
        SessionId::new(Time::now(), self.0.fetch_add(1, Ordering::Relaxed))
    }
}
