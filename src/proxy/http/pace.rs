//! How fast a client sends or takes what holds a connection to a target. One that keeps it waiting gives the connection
//! up: soon where others wait for one, else after a while.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::upstream::Place;
use crate::model::limits;

/// One direction of an exchange.
#[derive(Default)]
pub(super) struct Pace {
    bytes: AtomicU64,
    waits: AtomicBool,
}

impl Pace {
    pub fn moved(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Whether the client is what is waited for, and not the target.
    pub fn waits_for_client(&self, waits: bool) {
        self.waits.store(waits, Relaxed);
    }

    /// Resolves when the client has been too slow. Cancel safe.
    pub async fn too_slow(&self, place: &Place) {
        let (mut looks, mut before) = (0, self.bytes());
        loop {
            tokio::time::sleep(limits::HTTP_PACE_LOOK).await;
            if self.bytes() - before >= limits::HTTP_PACE_BYTES_MIN {
                (looks, before) = (0, self.bytes());
            } else if self.waits.load(Relaxed) {
                looks += 1;
            }
            let most = match place.others_wait() {
                true => limits::HTTP_PACE_LOOKS_WANTED,
                false => limits::HTTP_PACE_LOOKS_MAX,
            };
            if looks >= most {
                return;
            }
        }
    }
}
