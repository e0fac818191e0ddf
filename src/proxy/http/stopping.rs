//! Requests with which a target goes on when their connection is closed. One whose answer does not come to its end,
//! because its session ended or its client went away, is stopped there: its tasks are looked for by the mark that it
//! was sent with, and cancelled, over a connection beside the pool's.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::{Method, StatusCode};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::session::{Busy, Running};
use super::upstream::{Aside, Place};
use crate::model::{Refusal, limits};
use crate::protocol::http::tasks;

/// What has to be stopped at one place.
#[derive(Default)]
pub(super) struct Stops {
    state: Mutex<State>,
    /// There is more.
    more: Notify,
}

#[derive(Default)]
struct State {
    /// By its mark.
    wanted: HashMap<String, Wanted>,
    /// Somebody sees to it.
    is_seen_to: bool,
}

struct Wanted {
    actions: &'static str,
    since: Instant,
    /// It has been looked for since.
    looked: bool,
    /// It was there when it was.
    found: bool,
    /// Its session waits a moment with its end until it has been told to stop.
    busy: Option<Busy>,
}

/// What one request's tasks are found by.
#[derive(Debug, Clone)]
pub(super) struct Marked {
    pub mark: Arc<str>,
    /// What they are called.
    pub actions: &'static str,
}

/// A request that goes on unless it is stopped. Dropping it after it was sent, and before it has [ended](Self::ended),
/// stops it.
pub(super) struct Lasting {
    place: Arc<Place>,
    mark: String,
    actions: &'static str,
    sent: AtomicBool,
    busy: Option<Busy>,
}

impl Lasting {
    /// Before it is sent. An error where so many have to be stopped already that the place does not keep up.
    pub fn new(place: &Arc<Place>, running: &Running, actions: &'static str) -> Result<Self, Refusal> {
        if place.stops.lock().wanted.len() >= limits::HTTP_STOPS_MAX {
            return Err(Refusal::PoolExhausted);
        }
        let mark = format!("{}/{}", running.session.stamp(), running.number);
        let busy = Some(running.session.busy());
        Ok(Self { place: place.clone(), mark, actions, sent: AtomicBool::new(false), busy })
    }

    /// What it is found by: no other request has it.
    pub fn mark(&self) -> &str {
        &self.mark
    }

    /// What its tasks are found by when it has been answered.
    pub fn marked(&self) -> Marked {
        Marked { mark: self.mark.as_str().into(), actions: self.actions }
    }

    /// From now on the target may have it.
    pub fn sent(&self) {
        self.sent.store(true, Relaxed);
    }

    /// Its answer has come whole.
    pub fn ended(self) {
        self.sent.store(false, Relaxed);
    }
}

impl Drop for Lasting {
    fn drop(&mut self) {
        if self.sent.load(Relaxed) {
            stop(&self.place, std::mem::take(&mut self.mark), self.actions, self.busy.take());
        }
    }
}

/// Stops what goes on at a place under this mark.
pub(super) fn stop_marked(place: &Arc<Place>, marked: &Marked) {
    stop(place, marked.mark.to_string(), marked.actions, None);
}

/// One at a time sees to all of them.
fn stop(place: &Arc<Place>, mark: String, actions: &'static str, busy: Option<Busy>) {
    let wanted = Wanted { actions, since: Instant::now(), looked: false, found: false, busy };
    let is_seen_to = {
        let mut state = place.stops.lock();
        state.wanted.insert(mark, wanted);
        std::mem::replace(&mut state.is_seen_to, true)
    };
    place.stops.more.notify_one();
    // Where the process is about to end there is nobody to do it.
    if !is_seen_to && let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(see_to(place.clone()));
    }
}

/// Stops all that is wanted, until there is nothing more.
async fn see_to(place: Arc<Place>) {
    let mut aside = Aside::default();
    let mut pause = limits::HTTP_STOP_PAUSE;
    while let Some(question) = place.stops.question() {
        let asked = Instant::now();
        let looked = look(&place, &mut aside, &question, asked).await;
        if let Err(why) = &looked {
            aside = Aside::default();
            tracing::error!(address = place.address(), why, "what a target goes on with cannot be stopped");
        }
        place.stops.looked(asked, looked.is_ok());
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (2 * pause).min(limits::HTTP_STOP_PAUSE_MAX),
            () = place.stops.more.notified() => pause = limits::HTTP_STOP_PAUSE,
        }
    }
}

/// Cancels what is there, and forgets what is there no more.
async fn look(place: &Place, aside: &mut Aside, question: &str, asked: Instant) -> Result<(), String> {
    let say = |refusal: Refusal| refusal.to_string();
    let (status, answer) = place.aside(aside, Method::GET, question).await.map_err(say)?;
    if !status.is_success() {
        return Err(format!("the connector may not ask for tasks (cluster:monitor/tasks/lists): {status}"));
    }
    let tasks = tasks::running(&answer).ok_or("the answer about tasks has a form that is not known")?;
    for task in place.stops.found(tasks, asked) {
        let (status, _) = place.aside(aside, Method::POST, &tasks::cancel(&task)).await.map_err(say)?;
        if !status.is_success() && status != StatusCode::NOT_FOUND {
            return Err(format!("the connector may not cancel tasks (cluster:admin/tasks/cancel): {status}"));
        }
    }
    Ok(())
}

impl Stops {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing of this was there any more when that was looked at.
    pub fn is_over(&self, marked: &Marked) -> bool {
        self.lock().wanted.get(&*marked.mark).is_none_or(|wanted| wanted.looked && !wanted.found)
    }

    /// What is asked next; `None`: there is nothing more to do, and nobody sees to it any longer.
    fn question(&self) -> Option<String> {
        let mut state = self.lock();
        state.is_seen_to = !state.wanted.is_empty();
        state.is_seen_to.then(|| tasks::question(state.wanted.values().map(|wanted| wanted.actions)))
    }

    /// Which of these have to be stopped. What was there before and is not now has been. `asked`: when the question
    /// was.
    fn found(&self, tasks: Vec<tasks::Task>, asked: Instant) -> Vec<tasks::Task> {
        let mut state = self.lock();
        let theirs: Vec<_> = tasks.into_iter().filter(|task| state.wanted.contains_key(&task.mark)).collect();
        state.wanted.retain(|mark, wanted| {
            let is_there = theirs.iter().any(|task| task.mark == *mark);
            let is_over = !is_there && wanted.found && wanted.since <= asked;
            if is_over {
                tracing::info!(mark, "a request that was not awaited has been stopped at its target");
            }
            wanted.found |= is_there;
            !is_over
        });
        theirs
    }

    /// What has not turned up has ended by itself, or never began; what does not end is not waited for without end.
    fn looked(&self, asked: Instant, is_answered: bool) {
        self.lock().wanted.retain(|mark, wanted| {
            if wanted.since <= asked {
                wanted.busy = None;
                wanted.looked |= is_answered;
            }
            let waited = wanted.since.elapsed();
            if waited >= limits::HTTP_STOP_WAIT {
                tracing::error!(mark, "a request that was not awaited may go on at its target");
                return false;
            }
            !wanted.looked || wanted.found || waited < limits::HTTP_STOP_LOOK
        });
    }
}
