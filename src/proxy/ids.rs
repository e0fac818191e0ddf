use std::sync::atomic::{AtomicU32, Ordering};

use crate::identity::clock;
use crate::model::SessionId;

/// Session ids: the time and a counter that starts anywhere.
pub(super) struct SessionIds(AtomicU32);

impl SessionIds {
    pub fn new() -> Result<Self, getrandom::Error> {
        Ok(Self(AtomicU32::new(getrandom::u32()?)))
    }

    pub fn next(&self) -> SessionId {
        SessionId::new(clock::wall(), self.0.fetch_add(1, Ordering::Relaxed))
    }
}
