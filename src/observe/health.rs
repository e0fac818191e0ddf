//! Whether records can be had, and why not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// Two independent reasons: the writer cannot write, and a committer found no room.
pub struct Health {
    reasons: Mutex<Reasons>,
    /// New records are refused at once. Never with `on_failure = "continue"`: there each is tried.
    refusing: AtomicBool,
    refuse: bool,
    failed: watch::Sender<bool>,
    /// Only the writer's part of it: for those who wait for it.
    stuck: watch::Sender<bool>,
}

#[derive(Default)]
struct Reasons {
    writer: Option<String>,
    starved: Option<String>,
}

impl Health {
    pub fn new(refuse: bool) -> Self {
        Self {
            reasons: Mutex::default(),
            refusing: AtomicBool::new(false),
            refuse,
            failed: watch::Sender::new(false),
            stuck: watch::Sender::new(false),
        }
    }

    pub fn refusing(&self) -> bool {
        self.refusing.load(Ordering::Relaxed)
    }

    /// Whether failures are errors (and not only counted).
    pub fn refuses(&self) -> bool {
        self.refuse
    }

    /// In one sentence; `None` when all is well.
    pub fn reason(&self) -> Option<String> {
        let reasons = self.lock();
        reasons.writer.clone().or_else(|| reasons.starved.clone())
    }

    pub fn subscribe(&self) -> watch::Receiver<bool> {
        self.failed.subscribe()
    }

    /// Whether the writer cannot write.
    pub fn stuck(&self) -> watch::Receiver<bool> {
        self.stuck.subscribe()
    }

    /// The writer's own state: an error, or none.
    pub fn writer(&self, reason: Option<String>) {
        let mut reasons = self.lock();
        let stuck = reason.is_some();
        reasons.writer = reason;
        self.stuck.send_if_modified(|value| std::mem::replace(value, stuck) != stuck);
        self.publish(&reasons);
    }

    /// A committer found no room, or (the writer says so) there is room again.
    pub fn starved(&self, reason: Option<String>) {
        let mut reasons = self.lock();
        reasons.starved = reason;
        self.publish(&reasons);
    }

    pub fn is_starved(&self) -> bool {
        self.lock().starved.is_some()
    }

    fn publish(&self, reasons: &Reasons) {
        let failed = reasons.writer.is_some() || reasons.starved.is_some();
        self.refusing.store(failed && self.refuse, Ordering::Relaxed);
        let changed = self.failed.send_if_modified(|value| std::mem::replace(value, failed) != failed);
        match reasons.writer.as_ref().or(reasons.starved.as_ref()) {
            Some(reason) if changed => tracing::error!(reason, "the audit trail cannot be written"),
            None if changed => tracing::info!("the audit trail is written again"),
            _ => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Reasons> {
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_well_again_when_both_reasons_are_gone() {
        let health = Health::new(true);
        health.writer(Some("disk".into()));
        health.starved(Some("lag".into()));
        assert!(*health.stuck().borrow());
        assert!(health.refusing() && *health.subscribe().borrow());
        health.writer(None);
        assert_eq!(health.reason().as_deref(), Some("lag"));
        assert!(!*health.stuck().borrow());
        assert!(health.refusing());
        health.starved(None);
        assert!(!health.refusing() && !*health.subscribe().borrow() && health.reason().is_none());
    }

    #[test]
    fn going_on_without_the_trail_says_so_but_refuses_nothing() {
        let health = Health::new(false);
        health.writer(Some("disk".into()));
        assert!(!health.refusing() && *health.subscribe().borrow());
    }
}
