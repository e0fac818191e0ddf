//! What the aliases of each target stand for, asked of the target itself when what is known is older than a second.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use super::upstream::Place;
use crate::model::{AccessLevel, Name, Refusal, limits};
use crate::protocol::http::Aliases;

#[derive(Default)]
pub(super) struct KnownAliases {
    targets: Mutex<HashMap<(Name, AccessLevel), Arc<Known>>>,
}

/// One asks at a time, the others wait for that answer.
type Known = tokio::sync::Mutex<Option<(Instant, Arc<Aliases>)>>;

impl KnownAliases {
    /// Cancel safe.
    pub async fn of(
        &self,
        target: &Name,
        level: &AccessLevel,
        place: &Arc<Place>,
    ) -> Result<Arc<Aliases>, Refusal> {
        let known = {
            let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
            targets.entry((target.clone(), level.clone())).or_default().clone()
        };
        let mut known = known.lock().await;
        if let Some((asked, aliases)) = &*known
            && asked.elapsed() < limits::HTTP_ALIASES_AGE_MAX
        {
            return Ok(aliases.clone());
        }
        // What it says holds for the moment of the question at least.
        let asked = Instant::now();
        let (status, answer) = place.ask("/_alias").await?;
        let aliases = match status.is_success() {
            true => Aliases::parse(&answer),
            false => Err("the connector may not ask for them"),
        };
        let aliases = aliases.map_err(|why| {
            tracing::error!(target_name = %target, %level, %status, why, "aliases cannot be looked up");
            Refusal::TargetUnavailable
        })?;
        let aliases = Arc::new(aliases);
        *known = Some((asked, aliases.clone()));
        Ok(aliases)
    }

    /// What was asked through the proxy may have changed them.
    pub fn forget(&self, target: &Name) {
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        targets.retain(|(known, _), _| known != target);
    }
}
