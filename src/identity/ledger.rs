use std::sync::Arc;

use tokio::sync::watch;

use crate::credential::Identity;
use crate::grant::{Admission, Book, NotAdmitted, Standing};
use crate::model::{Actor, Change, Claim, Snapshot, Time};
use crate::store::{Store, StoreError};

#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}; nothing was changed")]
    Trail(String),
}

/// The one place through which resources change and logins are decided.
pub struct Ledger {}

/// A place under a grant's session limit; given back when dropped.
pub struct Seat {}

impl Ledger {
    pub fn book(&self) -> Arc<Book> {
        todo!()
    }
    pub fn store(&self) -> &Store {
        todo!()
    }
    /// Wall time as grants see it: never goes back.
    pub fn now(&self) -> Time {
        todo!()
    }
    /// Changes whenever a live session should look at its grant again.
    pub fn changed(&self) -> watch::Receiver<u64> {
        todo!()
    }
    /// Validates, writes to the trail (who, before, after), stores, publishes. The change is in force
    /// when it returns. Serialised: one change at a time. `plan` sees the state it will be applied to.
    pub async fn change(
        &self,
        _actor: &Actor,
        _action: &'static str,
        _reason: Option<&str>,
        _plan: impl FnOnce(&Snapshot) -> Result<Vec<Change>, ChangeError> + Send,
    ) -> Result<Vec<Change>, ChangeError> {
        todo!()
    }
    pub fn admit(&self, _identity: &Identity, _claim: &Claim) -> Result<(Admission, Seat), NotAdmitted> {
        todo!()
    }
    pub fn recheck(&self, _admission: &Admission) -> Standing {
        todo!()
    }
}
