//! What targets keep open for people, by grant: so many at most, and closed when the grant ends.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::Method;
use tokio::time::Instant;

use super::seal::{Owner, Seal};
use super::upstream::Place;
use crate::grant::Admission;
use crate::identity::Ledger;
use crate::model::{GrantId, Reach, Refusal, limits};
use crate::protocol::http::{Gives, IdKind, Opened};

pub(super) struct Contexts {
    /// `None`: nothing can be sealed, and so nothing is opened.
    seal: Option<Seal>,
    open: Mutex<HashMap<GrantId, Vec<Context>>>,
}

/// One thing that is open at a target.
struct Context {
    kind: IdKind,
    /// As the target gave it.
    id: String,
    place: Arc<Place>,
    admission: Arc<Admission>,
    /// When the target lets go of it by itself.
    until: Instant,
}

/// What one request may be answered with the id of.
pub(super) struct Given {
    contexts: Arc<Contexts>,
    pub gives: Gives,
    kind: IdKind,
    /// The id that it goes on with.
    before: Option<String>,
    place: Arc<Place>,
    admission: Arc<Admission>,
}

impl Contexts {
    pub fn new(key: &[u8; 32]) -> Self {
        Self { seal: Seal::new(key), open: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<GrantId, Vec<Context>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What sealed ids stand for. An error where one is not this person's: what it is, is not said.
    pub fn opened<'a>(
        &self,
        owner: &Owner,
        sealed: impl Iterator<Item = &'a str>,
    ) -> Result<Vec<Opened>, Refusal> {
        let seal = self.seal.as_ref().ok_or(NOT_THEIRS)?;
        sealed.map(|sealed| seal.open(owner, sealed).ok_or(NOT_THEIRS)).collect()
    }

    /// Before something that opens one is sent.
    pub fn given(
        self: &Arc<Self>,
        gives: Gives,
        opened: &[Opened],
        admission: &Admission,
        place: &Arc<Place>,
    ) -> Result<Given, Refusal> {
        if self.seal.is_none() {
            return Err(Refusal::NotSupported("what stays open at the target"));
        }
        let kind = gives.kind.or(opened.first().map(|one| one.kind)).ok_or(NOT_THEIRS)?;
        if opened.is_empty() {
            let now = Instant::now();
            let mut open = self.lock();
            let open = open.entry(admission.grant()).or_default();
            open.retain(|context| context.until > now);
            if open.len() >= limits::HTTP_CONTEXTS_MAX {
                let what =
                    "this grant has as many scrolls, points in time and searches open as it may: close some";
                return Err(Refusal::OperationDenied(what));
            }
        }
        Ok(Given {
            contexts: self.clone(),
            gives,
            kind,
            before: opened.first().map(|one| one.raw.clone()),
            place: place.clone(),
            admission: Arc::new(admission.of_grant()),
        })
    }

    /// They have been closed at the target.
    pub fn forget(&self, opened: &[Opened]) {
        let mut open = self.lock();
        for one in opened {
            if let Some(of_grant) = open.get_mut(&one.grant) {
                of_grant.retain(|context| context.id != one.raw);
            }
        }
    }

    /// Closes what was opened under grants that have ended since, in the background.
    pub fn close_ended(&self, ledger: &Ledger) {
        let now = Instant::now();
        let mut ended: Vec<Context> = Vec::new();
        self.lock().retain(|_, of_grant| {
            of_grant.retain(|context| context.until > now);
            let over = |context: &mut Context| ledger.request_ended(&context.admission).is_some();
            ended.extend(of_grant.extract_if(.., over));
            !of_grant.is_empty()
        });
        if !ended.is_empty() {
            tokio::spawn(close(ended));
        }
    }
}

const NOT_THEIRS: Refusal =
    Refusal::OperationDenied("an id is none that was given to this person for this target");

impl Given {
    /// The id that is given out for one of the target's; from here on it is known, and closed with its grant.
    pub fn seal(&self, id: &str) -> Option<String> {
        let admission = &self.admission;
        let names = match &admission.touch()?.reach {
            Reach::Names(names) => Some(names.clone()),
            Reach::Everything(_) => None,
        };
        let opened = Opened { grant: admission.grant(), kind: self.kind, names, raw: id.to_owned() };
        let owner = Owner { user: admission.user().clone(), target: admission.target().clone() };
        let sealed = self.contexts.seal.as_ref()?.close(&owner, &opened)?;
        self.keep(id);
        Some(sealed)
    }

    fn keep(&self, id: &str) {
        let keep = self.gives.keep.map(|keep| keep.min(limits::HTTP_CONTEXT_KEPT_MAX));
        let until = Instant::now() + keep.unwrap_or(limits::HTTP_CONTEXT_KEPT_MAX);
        let mut open = self.contexts.lock();
        let of_grant = open.entry(self.admission.grant()).or_default();
        // An id takes the place of the one before it.
        let known =
            of_grant.iter_mut().find(|context| context.id == id || Some(&context.id) == self.before.as_ref());
        match known {
            Some(context) => {
                id.clone_into(&mut context.id);
                if keep.is_some() {
                    context.until = until.max(context.until);
                }
            }
            None => of_grant.push(Context {
                kind: self.kind,
                id: id.to_owned(),
                place: self.place.clone(),
                admission: self.admission.clone(),
                until,
            }),
        }
    }
}

/// One request for as many as can be closed by it.
async fn close(mut ended: Vec<Context>) {
    while let Some(first) = ended.last() {
        let (kind, place) = (first.kind, first.place.clone());
        let alike = |context: &mut Context| context.kind == kind && Arc::ptr_eq(&context.place, &place);
        let together: Vec<_> = ended.extract_if(.., alike).collect();
        let ids: Vec<&str> = together.iter().map(|context| context.id.as_str()).collect();
        for (target, body) in kind.close(&ids) {
            match place.order(Method::DELETE, &target, body).await {
                Ok(status) if status.is_success() || status == hyper::StatusCode::NOT_FOUND => {}
                Ok(status) => tracing::warn!(%status, "the target does not close what a grant left open"),
                Err(refusal) => tracing::warn!(%refusal, "what a grant left open cannot be closed"),
            }
        }
    }
}
