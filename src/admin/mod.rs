//! The admin API: HTTP and JSON over a unix socket for everything, and a TCP address that serves
//! nothing but `/metrics` and `/health` (design 1.2, 1.4).
//!
//! Every change of a resource goes through [`Ledger::change`], which writes who did what to the trail
//! before it is in force. Whoever may use the socket is an administrator; who that is, the kernel says
//! (the peer's uid), not the request.

mod access;
mod answer;
mod apply;
mod audit;
pub mod body;
mod connect;
mod credentials;
mod difference;
mod explain;
mod grants;
mod node;
mod public;
mod router;
mod server;
mod sessions;
mod targets;
mod users;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use crate::credential::Keys;
use crate::identity::{ChangeError, Ledger};
use crate::model::{Actor, Change, EndCause, Ended, Event, Snapshot};
use crate::observe::{Metrics, Trail};
use crate::proxy::{NodeControl, Registry};

pub use server::{Listening, listen};

use answer::Problem;

/// What the admin API works on.
pub struct Admin {
    pub ledger: Arc<Ledger>,
    pub keys: Arc<Keys>,
    pub registry: Arc<Registry>,
    pub trail: Trail,
    /// Where the trail's files are.
    pub audit_directory: PathBuf,
    pub metrics: Arc<Metrics>,
    pub node: Arc<dyn NodeControl>,
}

impl Admin {
    /// Changes resources. Runs to its end even when the administrator hangs up: a change is stored
    /// and published, or neither, and a dropped future must not stop in between.
    async fn change(
        self: &Arc<Self>,
        actor: &Actor,
        action: &'static str,
        reason: Option<String>,
        plan: impl FnOnce(&Snapshot) -> Result<Vec<Change>, ChangeError> + Send + 'static,
    ) -> Result<Vec<Change>, Problem> {
        let admin = Arc::clone(self);
        let actor = actor.clone();
        let task = tokio::spawn(async move {
            admin.ledger.change(&actor, action, reason.as_deref(), plan).await.map_err(Problem::from)
        });
        task.await.map_err(|_| Problem::internal("the change was interrupted; look at the log"))?
    }

    /// Takes something away: in force at once, whatever store and trail do. See [`Ledger::take_away`].
    async fn take_away(
        self: &Arc<Self>,
        actor: &Actor,
        action: &'static str,
        reason: Option<String>,
        plan: impl FnOnce(&Snapshot) -> Result<Vec<Change>, ChangeError> + Send + 'static,
    ) -> Result<Vec<Change>, Problem> {
        let admin = Arc::clone(self);
        let actor = actor.clone();
        let task = tokio::spawn(async move {
            admin.ledger.take_away(&actor, action, reason.as_deref(), plan).await.map_err(Problem::from)
        });
        task.await.map_err(|_| Problem::internal("the change was interrupted; look at the log"))?
    }

    /// Revokes one grant or credential, called `called`: `plan` makes the change of what it is at that moment.
    async fn revoke(
        self: &Arc<Self>,
        actor: &Actor,
        action: &'static str,
        called: &str,
        request: body::ReasonRequest,
        plan: impl FnOnce(&Snapshot, Ended) -> Result<Change, String> + Send + 'static,
    ) -> Result<axum::Json<body::Done>, Problem> {
        let reason = grants::check_reason(request.reason)?;
        let ended = Ended { at: self.ledger.now(), cause: EndCause::Revoked, reason: reason.clone() };
        let change = move |snapshot: &Snapshot| {
            plan(snapshot, ended).map(|change| vec![change]).map_err(ChangeError::Refused)
        };
        self.take_away(actor, action, reason, change).await?;
        Ok(axum::Json(body::Done { done: format!("{called} is revoked; its sessions are being cut") }))
    }

    /// Writes an act that changes no resource (a killed session, a reload, a backup) to the trail.
    /// It comes before the act, and where it cannot be written the act is not done.
    fn note(
        &self,
        actor: &Actor,
        action: &'static str,
        object: String,
        reason: Option<String>,
    ) -> Result<(), Problem> {
        let act =
            crate::model::Admin { actor: actor.clone(), action, object, before: None, after: None, reason };
        self.trail
            .event(&Event::Admin(Box::new(act)))
            .map_err(|error| Problem::unavailable(error.to_string()))
    }
}
