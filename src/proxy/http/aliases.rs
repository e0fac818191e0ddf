//! What the names of each target stand for, asked of the target itself when what is known is older than a second.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::StatusCode;
use tokio::time::Instant;

use super::upstream::Place;
use crate::model::{AccessLevel, Name, Reach, Refusal, limits};
use crate::protocol::http::Catalog;

#[derive(Default)]
pub(super) struct Catalogs {
    targets: Mutex<HashMap<(Name, AccessLevel), Arc<Known>>>,
}

/// One asks at a time, the others wait for that answer: since when it holds, or until when it was waited for in vain.
type Known = tokio::sync::Mutex<Option<(Instant, Result<Arc<Catalog>, Refusal>)>>;

/// What holds still of it.
fn still(known: &Option<(Instant, Result<Arc<Catalog>, Refusal>)>) -> Option<Arc<Catalog>> {
    let (asked, looked) = known.as_ref()?;
    looked.as_ref().ok().filter(|_| asked.elapsed() < limits::HTTP_ALIASES_AGE_MAX).cloned()
}

impl Catalogs {
    /// What is known and holds still, for who need not wait for it.
    pub fn fresh(&self, target: &Name, level: &AccessLevel) -> Option<Arc<Catalog>> {
        let targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        let known = targets.get(&(target.clone(), level.clone()))?.try_lock().ok()?;
        still(&known)
    }

    /// Cancel safe.
    pub async fn of(
        &self,
        target: &Name,
        level: &AccessLevel,
        place: &Arc<Place>,
    ) -> Result<Arc<Catalog>, Refusal> {
        let known = {
            let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
            targets.entry((target.clone(), level.clone())).or_default().clone()
        };
        let came = Instant::now();
        let mut known = known.lock().await;
        if let Some(catalog) = still(&known) {
            return Ok(catalog);
        }
        match &*known {
            // Who waited for an answer that did not come does not wait for the next one as well.
            Some((failed, Err(refusal))) if *failed >= came => return Err(refusal.clone()),
            _ => {}
        }
        // What it says holds for the moment of the first question at least.
        let asked = Instant::now();
        let looked = match look(place).await {
            Ok(looked) => looked.map(Arc::new).map_err(|why| {
                tracing::error!(target_name = %target, %level, why, "what a target has cannot be looked up");
                Refusal::TargetUnavailable
            }),
            Err(refusal) => Err(refusal),
        };
        let since = if looked.is_ok() { asked } else { Instant::now() };
        *known = Some((since, looked.clone()));
        looked
    }

    /// Documents were written: to names that are not known, there may be such indices now.
    pub fn written(&self, target: &Name, reach: &Reach) {
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        targets.retain(|(of, _), known| {
            // Who looks it up at this moment may have asked before.
            let Ok(known) = known.try_lock() else { return of != target };
            of != target
                || known
                    .as_ref()
                    .is_none_or(|(_, looked)| looked.as_ref().is_ok_and(|catalog| catalog.knows(reach)))
        });
    }

    /// What was asked through the proxy may have changed them.
    pub fn forget(&self, target: &Name) {
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        targets.retain(|(known, _), _| known != target);
    }
}

/// Asks for aliases, then for indices; the inner error says what is wrong with an answer.
async fn look(place: &Arc<Place>) -> Result<Result<Catalog, &'static str>, Refusal> {
    let (status, answer) = place.ask("/_alias").await?;
    if !status.is_success() {
        return Ok(Err("the connector may not ask for aliases"));
    }
    let catalog = match Catalog::of_aliases(&answer) {
        Ok(catalog) => catalog,
        Err(why) => return Ok(Err(why)),
    };
    let (status, answer) = place.ask("/_resolve/index/*?expand_wildcards=all").await?;
    match status {
        status if status.is_success() => return Ok(catalog.with_indices(&answer)),
        // Elasticsearch before 7.9 knows no such route.
        StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {}
        _ => return Ok(Ok(catalog)),
    }
    let (status, answer) = place.ask("/_cat/indices?format=json&h=index,status").await?;
    Ok(match status.is_success() {
        true => catalog.with_rows(&answer),
        // Names are still names; wildcards are not.
        false => Ok(catalog),
    })
}
