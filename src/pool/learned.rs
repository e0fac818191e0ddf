//! What each target's server says of itself, for protocols whose clients are greeted with it before they have said
//! a word ([`Wire::GREETS`](crate::protocol::session::Wire::GREETS)).

use std::sync::Arc;

use dashmap::DashMap;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::model::{Name, limits};

/// All of one protocol.
#[derive(Default)]
pub(super) struct Learned {
    known: DashMap<Name, Known>,
}

struct Known {
    /// Where it was said: another server may say something else.
    address: String,
    text: Option<Arc<str>>,
    /// When it was last asked for in vain; held by who asks, so that one asks for all.
    tried: Arc<Mutex<Option<Instant>>>,
}

impl Known {
    fn new(address: &str) -> Self {
        Self { address: address.to_owned(), text: None, tried: Arc::default() }
    }
}

impl Learned {
    pub fn get(&self, target: &Name, address: &str) -> Option<Arc<str>> {
        let known = self.known.get(target)?;
        known.text.clone().filter(|_| known.address == address)
    }

    pub fn note(&self, target: &Name, address: &str, text: String) {
        let mut known = self.known.entry(target.clone()).or_insert_with(|| Known::new(address));
        if known.address != address {
            *known = Known::new(address);
        }
        if known.text.as_deref() != Some(&text) {
            known.text = Some(text.into());
        }
    }

    /// The same as [`Self::get`], once `ask` has been done where nothing is known: by one for all who wait, and not
    /// again for a while where it came to nothing. Cancel safe.
    pub async fn ask(&self, target: &Name, address: &str, ask: impl Future<Output = ()>) -> Option<Arc<str>> {
        if let Some(text) = self.get(target, address) {
            return Some(text);
        }
        let tried = self.known.entry(target.clone()).or_insert_with(|| Known::new(address)).tried.clone();
        let mut tried = tried.lock().await;
        let known = self.get(target, address);
        if known.is_some() || tried.is_some_and(|at| at.elapsed() < limits::LEARN_AGAIN) {
            return known;
        }
        // Who goes away in the middle has tried as well.
        *tried = Some(Instant::now());
        ask.await;
        self.get(target, address)
    }

    /// Forgets those that are gone.
    pub fn retain(&self, is_there: impl Fn(&Name) -> bool) {
        self.known.retain(|target, _| is_there(target));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_asks_for_all_and_not_again_at_once() {
        let (learned, target, asked) = (Learned::default(), "orders".parse().unwrap(), AtomicU32::new(0));
        let ask = |text: Option<&'static str>| {
            let (learned, target, asked) = (&learned, &target, &asked);
            learned.ask(target, "a:1", async move {
                asked.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                if let Some(text) = text {
                    learned.note(target, "a:1", text.to_owned());
                }
            })
        };
        let (one, other) = tokio::join!(ask(None), ask(None));
        assert_eq!((one, other, asked.load(Ordering::Relaxed)), (None, None, 1));
        tokio::time::advance(limits::LEARN_AGAIN).await;
        let (one, other) = tokio::join!(ask(Some("8.4")), ask(Some("8.4")));
        assert_eq!((one.as_deref(), other.as_deref()), (Some("8.4"), Some("8.4")));
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        assert_eq!(learned.get(&target, "b:1"), None, "another server");
        learned.note(&target, "b:1", "9.0".into());
        assert_eq!(learned.get(&target, "b:1").as_deref(), Some("9.0"));
        assert_eq!(learned.get(&target, "a:1"), None);
        learned.retain(|_| false);
        assert_eq!(learned.get(&target, "b:1"), None);
    }
}
