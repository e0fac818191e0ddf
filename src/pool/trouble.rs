//! Logins that a target refuses: a password that somebody changed at the server, a certificate that ran out.
//! Such a level lends nothing until a login succeeds again. It is tried again at once when the secret has
//! changed, and else more and more seldom, whoever asks: failed logins fill a server's log and may lock the
//! role out.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::model::{AccessLevel, Name, limits};

/// One level of one target.
pub(super) type Place = (Name, AccessLevel);

/// A level whose login is refused, for lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub target: Name,
    pub level: AccessLevel,
    /// In the server's words.
    pub what: String,
}

/// All of one protocol.
#[derive(Default)]
pub(super) struct Troubles {
    known: Mutex<HashMap<Place, Trouble>>,
}

struct Trouble {
    what: String,
    /// Of the secret that was refused.
    epoch: u64,
    tries: u32,
    next: Instant,
    /// Somebody is trying.
    trying: bool,
}

impl Troubles {
    fn known(&self) -> MutexGuard<'_, HashMap<Place, Trouble>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn holds(&self, place: &Place) -> bool {
        self.known().contains_key(place)
    }

    /// Whether a login may be tried with the secret of this epoch; where there is trouble, one at a time.
    /// Who may must say how it went, or let go of it with [`Troubles::let_go`].
    pub fn may_try(&self, place: &Place, epoch: u64, now: Instant) -> bool {
        match self.known().get_mut(place) {
            None => true,
            Some(trouble) if trouble.trying || (epoch == trouble.epoch && now < trouble.next) => false,
            Some(trouble) => {
                trouble.trying = true;
                true
            }
        }
    }

    /// Whether it is time to try, for somebody who only looks.
    pub fn is_due(&self, place: &Place, now: Instant) -> bool {
        self.known().get(place).is_some_and(|trouble| !trouble.trying && now >= trouble.next)
    }

    /// Whether the secret that was refused is another one by now.
    pub fn is_news(&self, place: &Place, epoch: u64) -> bool {
        self.known().get(place).is_some_and(|trouble| trouble.epoch != epoch)
    }

    /// The try came to nothing that says anything of the login.
    pub fn let_go(&self, place: &Place) {
        if let Some(trouble) = self.known().get_mut(place) {
            trouble.trying = false;
        }
    }

    /// True: there was none before.
    pub fn failed(&self, place: &Place, epoch: u64, what: String, now: Instant) -> bool {
        let mut known = self.known();
        let tries = known.get(place).map_or(0, |trouble| trouble.tries);
        let wait = limits::LOGIN_RETRY_MIN.saturating_mul(1 << tries.min(16)).min(limits::LOGIN_RETRY_MAX);
        let trouble = Trouble { what, epoch, tries: tries + 1, next: now + wait, trying: false };
        known.insert(place.clone(), trouble).is_none()
    }

    /// True: there was some.
    pub fn mended(&self, place: &Place) -> bool {
        self.known().remove(place).is_some()
    }

    pub fn list(&self) -> Vec<Refused> {
        let refused = |((target, level), trouble): (&Place, &Trouble)| Refused {
            target: target.clone(),
            level: level.clone(),
            what: trouble.what.clone(),
        };
        self.known().iter().map(refused).collect()
    }
}

/// A try under way; gives the turn back when it is dropped without a result.
pub(super) struct Try<'t> {
    pub troubles: &'t Troubles,
    pub place: &'t Place,
}

impl Drop for Try<'_> {
    fn drop(&mut self) {
        self.troubles.let_go(self.place);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;

    fn place() -> Place {
        ("orders".parse().unwrap(), AccessLevel::Read)
    }

    #[test]
    fn a_refused_login_is_tried_seldom_and_one_at_a_time() {
        let (troubles, now, place) = (Troubles::default(), Instant::now(), place());
        assert!(troubles.may_try(&place, 1, now) && troubles.may_try(&place, 1, now));
        assert!(troubles.failed(&place, 1, "no".into(), now), "news");
        assert!(!troubles.may_try(&place, 1, now));
        let later = now + limits::LOGIN_RETRY_MIN;
        assert!(troubles.may_try(&place, 1, later));
        assert!(!troubles.may_try(&place, 1, later), "somebody is at it");
        assert!(!troubles.failed(&place, 1, "no".into(), later), "no news");
        assert!(!troubles.may_try(&place, 1, later + limits::LOGIN_RETRY_MIN), "half as often");
        assert!(troubles.may_try(&place, 1, later + 2 * limits::LOGIN_RETRY_MIN));
        troubles.let_go(&place);
        assert!(troubles.holds(&place));
        assert!(troubles.mended(&place) && !troubles.mended(&place) && troubles.list().is_empty());
    }

    #[test]
    fn a_changed_secret_is_tried_at_once() {
        let (troubles, now, place) = (Troubles::default(), Instant::now(), place());
        for _ in 0..40 {
            troubles.failed(&place, 1, "no".into(), now);
        }
        assert!(!troubles.may_try(&place, 1, now + limits::LOGIN_RETRY_MAX - Duration::from_secs(1)));
        assert!(troubles.may_try(&place, 2, now));
        assert_eq!(troubles.list()[0].what, "no");
        drop(Try { troubles: &troubles, place: &place });
        assert!(troubles.may_try(&place, 1, now + limits::LOGIN_RETRY_MAX));
    }
}
