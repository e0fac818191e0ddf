//! What targets keep open for people, by grant: so many at most, and closed when the grant ends.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::Method;
use tokio::time::Instant;

use super::seal::{Owner, Seal};
use super::stopping::{self, Marked};
use super::upstream::{Aside, Place};
use crate::grant::Admission;
use crate::identity::Ledger;
use crate::model::{GrantId, Reach, Refusal, limits};
use crate::protocol::http::{Gives, IdKind, Opened, tasks};

pub(super) struct Contexts {
    /// `None`: nothing can be sealed, and so nothing is opened.
    seal: Option<Seal>,
    open: Mutex<HashMap<GrantId, Vec<Context>>>,
    numbers: AtomicU64,
}

/// One thing that is open at a target, or may be.
struct Context {
    number: u64,
    kind: IdKind,
    /// As the target gave it. `None`: it has not, or its answer was lost.
    id: Option<String>,
    place: Arc<Place>,
    admission: Arc<Admission>,
    /// When the target lets go of it by itself.
    until: Instant,
    /// Of a task: what it is found by.
    marked: Option<Marked>,
}

impl Context {
    /// Whether it may be open still. No target lets go of a task by itself.
    fn is_open(&self, now: Instant) -> bool {
        self.until > now || (self.marked.is_some() && self.id.is_some())
    }
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
    /// Of the context that has been reserved for it.
    reserved: Option<u64>,
    state: AtomicU8,
    marked: Option<Marked>,
}

/// How far a request has come that may open something.
mod state {
    /// Nothing is open.
    pub const UNSENT: u8 = 0;
    /// It may be open, and nobody knows its id.
    pub const SENT: u8 = 1;
    /// What there is to know of it is known.
    pub const DONE: u8 = 2;
}

impl Contexts {
    pub fn new(key: &[u8; 32]) -> Self {
        Self { seal: Seal::new(key), open: Mutex::default(), numbers: AtomicU64::default() }
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

    /// Before something that opens one is sent. `marked`: what its task is found by, where it begins one.
    pub fn given(
        self: &Arc<Self>,
        (gives, marked): (Gives, Option<Marked>),
        opened: &[Opened],
        admission: &Admission,
        place: &Arc<Place>,
    ) -> Result<Given, Refusal> {
        if self.seal.is_none() {
            return Err(Refusal::NotSupported("what stays open at the target"));
        }
        let kind = gives.kind.or(opened.first().map(|one| one.kind)).ok_or(NOT_THEIRS)?;
        let marked = marked.filter(|_| kind == IdKind::Task);
        if kind == IdKind::Task && !fits_url(admission) {
            return Err(Refusal::OperationDenied("its id would be too long for a URL: name fewer indices"));
        }
        let kept = Arc::new(admission.of_grant());
        let mut reserved = None;
        if opened.is_empty() {
            let now = Instant::now();
            let mut open = self.lock();
            let open = open.entry(admission.grant()).or_default();
            open.retain(|context| context.is_open(now));
            if open.len() >= limits::HTTP_CONTEXTS_MAX {
                return Err(Refusal::OperationDenied(MANY));
            }
            // Counted from here on: many may be asked for at once, and answers may get lost.
            let number = self.numbers.fetch_add(1, Relaxed);
            reserved = Some(number);
            open.push(Context {
                number,
                kind,
                id: None,
                place: place.clone(),
                admission: kept.clone(),
                until: now + gives.keep.map_or(KEPT_MAX, |keep| keep.min(KEPT_MAX)),
                marked: marked.clone(),
            });
        }
        Ok(Given {
            contexts: self.clone(),
            gives,
            kind,
            before: opened.first().map(|one| one.raw.clone()),
            place: place.clone(),
            admission: kept,
            reserved,
            state: AtomicU8::new(state::UNSENT),
            marked,
        })
    }

    /// Lets go of tasks of a grant that have ended, where there are so many that it matters. What cannot be found out
    /// counts on.
    pub async fn drop_ended_tasks(&self, grant: GrantId, place: &Arc<Place>) {
        let known = self.tasks_to_look_at(grant, place);
        if known.is_empty() {
            return;
        }
        let question = tasks::question(known.iter().map(|marked| marked.actions));
        let asked = place.aside(&mut Aside::default(), Method::GET, &question).await;
        let answer = asked.ok().filter(|(status, _)| status.is_success());
        let Some(running) = answer.and_then(|(_, answer)| tasks::marks(&answer)) else { return };
        let has_ended = |marked: &Marked| {
            known.iter().any(|known| known.mark == marked.mark) && !running.contains(&*marked.mark)
        };
        if let Some(open) = self.lock().get_mut(&grant) {
            open.retain(|context| !context.marked.as_ref().is_some_and(has_ended));
        }
    }

    /// Those that had begun before now.
    fn tasks_to_look_at(&self, grant: GrantId, place: &Arc<Place>) -> Vec<Marked> {
        let open = self.lock();
        let Some(open) = open.get(&grant).filter(|open| open.len() >= limits::HTTP_CONTEXTS_MAX / 2) else {
            return Vec::new();
        };
        let here = |context: &&Context| context.id.is_some() && Arc::ptr_eq(&context.place, place);
        open.iter().filter(here).filter_map(|context| context.marked.clone()).collect()
    }

    /// The marks of all tasks that are somebody's.
    pub fn marks(&self) -> BTreeSet<String> {
        let open = self.lock();
        let marked = open.values().flatten().filter_map(|context| context.marked.as_ref());
        marked.map(|marked| marked.mark.to_string()).collect()
    }

    /// Stops all tasks, for the end of the process; where they are.
    pub fn stop_tasks(&self) -> Vec<(Arc<Place>, Marked)> {
        let mut stopped = Vec::new();
        for context in self.lock().values_mut().flatten() {
            if let Some(marked) = context.marked.take() {
                stopping::stop_marked(&context.place, &marked);
                stopped.push((context.place.clone(), marked));
            }
        }
        stopped
    }

    /// They have been closed at the target.
    pub fn forget(&self, opened: &[Opened]) {
        let mut open = self.lock();
        for one in opened {
            if let Some(of_grant) = open.get_mut(&one.grant) {
                of_grant.retain(|context| context.id.as_ref() != Some(&one.raw));
            }
        }
    }

    /// Closes what was opened under grants that have ended since, in the background.
    pub fn close_ended(&self, ledger: &Ledger) {
        let now = Instant::now();
        let mut ended: Vec<Context> = Vec::new();
        self.lock().retain(|_, of_grant| {
            of_grant.retain(|context| context.is_open(now));
            let over = |context: &mut Context| ledger.request_ended(&context.admission).is_some();
            ended.extend(of_grant.extract_if(.., over));
            !of_grant.is_empty()
        });
        if !ended.is_empty() {
            tokio::spawn(close(ended));
        }
    }
}

const MANY: &str =
    "this grant has as many scrolls, points in time, searches and tasks open as it may: close some";

/// Whether the names of a request leave room in a sealed id for a URL to hold it: base 64 makes four thirds of it.
fn fits_url(admission: &Admission) -> bool {
    let quoted = "\"\",".len();
    let names: usize = match admission.touch().map(|touch| &touch.reach) {
        Some(Reach::Names(names)) => names.iter().map(|name| name.len() + quoted).sum(),
        _ => 0,
    };
    names <= limits::HTTP_TARGET_BYTES_MAX / 2
}

const KEPT_MAX: Duration = limits::HTTP_CONTEXT_KEPT_MAX;

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
        let mark = self.marked.as_ref().map(|marked| marked.mark.to_string());
        let opened = Opened { grant: admission.grant(), kind: self.kind, names, raw: id.to_owned(), mark };
        let owner = Owner { user: admission.user().clone(), target: admission.target().clone() };
        let sealed = self.contexts.seal.as_ref()?.close(&owner, &opened)?;
        self.keep(id);
        Some(sealed)
    }

    /// From here on it may be open, whatever becomes of the answer.
    pub fn is_sent(&self) {
        self.state.store(state::SENT, Relaxed);
    }

    /// The target has opened nothing.
    pub fn is_refused(&self) {
        if self.state.swap(state::DONE, Relaxed) != state::DONE {
            self.release();
        }
    }

    fn release(&self) {
        let Some(reserved) = self.reserved else { return };
        if let Some(of_grant) = self.contexts.lock().get_mut(&self.admission.grant()) {
            of_grant.retain(|context| context.number != reserved || context.id.is_some());
        }
    }

    fn keep(&self, id: &str) {
        self.state.store(state::DONE, Relaxed);
        let keep = self.gives.keep.map(|keep| keep.min(KEPT_MAX));
        let until = Instant::now() + keep.unwrap_or(KEPT_MAX);
        let mut open = self.contexts.lock();
        let of_grant = open.entry(self.admission.grant()).or_default();
        // An id takes the place of what was reserved for it, or of the one before it.
        let is_it = |context: &Context| {
            let known = context.id.as_deref();
            Some(context.number) == self.reserved
                || known == Some(id)
                || known.is_some() && known == self.before.as_deref()
        };
        let known = of_grant.iter_mut().find(|context| is_it(context));
        match known {
            Some(context) => {
                context.id = Some(id.to_owned());
                if keep.is_some() {
                    context.until = until.max(context.until);
                }
            }
            None => of_grant.push(Context {
                number: self.contexts.numbers.fetch_add(1, Relaxed),
                kind: self.kind,
                id: Some(id.to_owned()),
                place: self.place.clone(),
                admission: self.admission.clone(),
                until,
                marked: self.marked.clone(),
            }),
        }
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        if *self.state.get_mut() == state::UNSENT {
            self.release();
        }
    }
}

/// One request for as many as can be closed by it.
async fn close(mut ended: Vec<Context>) {
    for (place, marked) in ended.iter().filter_map(|one| Some((&one.place, one.marked.as_ref()?))) {
        stopping::stop_marked(place, marked);
    }
    while let Some(first) = ended.last() {
        let (kind, place) = (first.kind, first.place.clone());
        let alike = |context: &mut Context| context.kind == kind && Arc::ptr_eq(&context.place, &place);
        let together: Vec<_> = ended.extract_if(.., alike).collect();
        let ids: Vec<&str> = together.iter().filter_map(|context| context.id.as_deref()).collect();
        if ids.is_empty() {
            continue;
        }
        for (target, body) in kind.close(&ids) {
            match place.order(Method::DELETE, &target, body).await {
                Ok(status) if status.is_success() || status == hyper::StatusCode::NOT_FOUND => {}
                Ok(status) => tracing::warn!(%status, "the target does not close what a grant left open"),
                Err(refusal) => tracing::warn!(%refusal, "what a grant left open cannot be closed"),
            }
        }
    }
}
