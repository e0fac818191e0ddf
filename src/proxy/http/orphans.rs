//! What a proxy that was killed left behind at its targets: tasks of sessions that ended with it, or of which nobody
//! knows any more under which grant they go on. When the node starts it looks for them, target by target, and stops
//! them.
//!
//! A task is ours if its mark names a session that this installation's own store says has ended, of the same person at
//! the same target: a session of another installation is in no store of ours, and one that lives has not ended.

use std::collections::BTreeSet;
use std::sync::Arc;

use hyper::Method;

use super::contexts::Contexts;
use super::stopping::{self, Marked};
use super::upstream::{Aside, Place, Upstreams};
use crate::identity::Ledger;
use crate::model::{Name, SessionId, Target, limits};
use crate::protocol::http::tasks;

pub(super) struct Orphans {
    pub protocol: &'static str,
    /// What they are called.
    pub actions: BTreeSet<&'static str>,
    pub ledger: Arc<Ledger>,
    pub upstreams: Arc<Upstreams>,
    pub contexts: Arc<Contexts>,
}

impl Orphans {
    /// Looks at each target of which sessions of an earlier time are known, until each has said what runs there.
    pub async fn look(self) {
        if self.actions.is_empty() {
            return;
        }
        let mut targets = match self.ledger.store().targets_of_ended().await {
            Ok(targets) => targets,
            Err(error) => {
                tracing::error!(%error, "what was left behind at targets cannot be looked for");
                return;
            }
        };
        let mut pause = limits::HTTP_ORPHANS_PAUSE;
        while !targets.is_empty() {
            for name in targets.clone() {
                let book = self.ledger.book();
                let is_over = match book.target(name.as_str()) {
                    Some(target) if target.protocol == self.protocol => self.look_at(target).await,
                    // It may come back by this name, as another target; then nothing of it is known there.
                    _ => true,
                };
                if is_over {
                    targets.remove(&name);
                }
            }
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(limits::HTTP_ORPHANS_PAUSE_MAX);
        }
    }

    /// Whether that is all there is to do.
    async fn look_at(&self, target: &Target) -> bool {
        let place = target.connectors.keys().find_map(|level| self.upstreams.place(target, level).ok());
        // What is suspended now may come back.
        let Some(place) = place else { return false };
        let mut aside = Aside::default();
        for actions in &self.actions {
            let question = tasks::question([*actions]);
            let Ok((status, answer)) = place.aside(&mut aside, Method::GET, &question).await else {
                return false;
            };
            let found = tasks::running(&answer).filter(|_| status.is_success());
            if found.is_none() && status.is_success() {
                // A part of the cluster has not answered.
                return false;
            }
            let Some(found) = found else {
                let target = &target.name;
                tracing::error!(%target, %status, "a target does not say what was left behind there");
                return true;
            };
            let marks: BTreeSet<String> = found.into_iter().map(|task| task.mark).collect();
            self.stop(&target.name, &place, marks, actions).await;
        }
        true
    }

    async fn stop(&self, target: &Name, place: &Arc<Place>, marks: BTreeSet<String>, actions: &'static str) {
        for mark in &marks {
            // Asked last: what is begun by now is somebody's.
            if self.is_orphan(target, mark).await && !self.contexts.marks().contains(mark) {
                tracing::warn!(%target, mark, "what was left behind at a target is stopped");
                stopping::stop_marked(place, &Marked { mark: mark.as_str().into(), actions });
            }
        }
    }

    async fn is_orphan(&self, target: &Name, mark: &str) -> bool {
        let Some((user, session)) = parts(mark) else { return false };
        let row = self.ledger.store().session(session).await.ok().flatten();
        row.is_some_and(|row| row.user.as_str() == user && row.target == *target && row.ended_at.is_some())
    }
}

/// Whose, and of which session: `PERSON/SESSION/NUMBER`.
fn parts(mark: &str) -> Option<(&str, SessionId)> {
    let (user, rest) = mark.split_once('/')?;
    let (session, number) = rest.split_once('/')?;
    number.parse::<u64>().ok()?;
    Some((user, session.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_names_a_person_and_a_session() {
        let session = SessionId::from_u64(7);
        let mark = format!("alice/{session}/12");
        assert_eq!(parts(&mark), Some(("alice", session)));
        for other in ["", "alice", "alice/s-1/1", "a/b/c/d", "alice//1"] {
            assert_eq!(parts(other), None, "{other}");
        }
        assert_eq!(parts(&format!("alice/{session}")), None);
        assert_eq!(parts(&format!("alice/{session}/x")), None);
    }
}
