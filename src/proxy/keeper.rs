use std::pin::Pin;
use std::sync::Arc;

use crate::identity::Ledger;
use crate::model::{AccessLevel, Actor, Change, Event, Name};
use crate::observe::Trail;
use crate::pool::Keeper;

/// Keeps the baselines of connectors in the ledger and suspends a level on an alarm.
pub(super) struct LedgerKeeper {
    pub ledger: Arc<Ledger>,
    pub trail: Trail,
}

impl LedgerKeeper {
    fn baseline(&self, target: &Name, level: &AccessLevel) -> Option<String> {
        let book = self.ledger.book();
        book.target(target.as_str())?.connectors.get(level)?.baseline.clone()
    }

    async fn suspend(&self, target: &Name, level: &AccessLevel, what: &str) {
        tracing::error!(target_name = %target, %level, what, "level suspended");
        // An alarm that cannot be written must still suspend.
        let _ = self.trail.event(&Event::Alarm {
            target: target.clone(),
            level: level.clone(),
            what: what.to_owned(),
        });
        let suspended = self
            .ledger
            .change(&Actor::Proxy, "level.suspend", Some(what), |_| {
                Ok(vec![Change::SuspendLevel {
                    target: target.clone(),
                    level: level.clone(),
                    reason: what.to_owned(),
                }])
            })
            .await;
        if let Err(error) = suspended {
            tracing::error!(target_name = %target, %level, %error, "the level could not be suspended");
        }
    }

    async fn remember(&self, target: &Name, level: &AccessLevel, fingerprint: &str) -> bool {
        let remembered = self
            .ledger
            .change(&Actor::Proxy, "baseline.set", None, |snapshot| {
                let connector = snapshot
                    .targets
                    .iter()
                    .find(|known| &known.name == target)
                    .and_then(|known| known.connectors.get(level));
                Ok(match connector {
                    // Somebody else was first, or there is nothing to remember it for.
                    None => vec![],
                    Some(connector) if connector.baseline.is_some() => vec![],
                    Some(_) => vec![Change::SetBaseline {
                        target: target.clone(),
                        level: level.clone(),
                        fingerprint: fingerprint.to_owned(),
                    }],
                })
            })
            .await;
        if let Err(error) = remembered {
            tracing::error!(target_name = %target, %level, %error, "the baseline could not be kept");
            return false;
        }
        self.baseline(target, level).as_deref() == Some(fingerprint)
    }
}

impl Keeper for LedgerKeeper {
    fn is_known<'a>(
        &'a self,
        target: &'a Name,
        level: &'a AccessLevel,
        fingerprint: &'a str,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        Box::pin(async move {
            match self.baseline(target, level) {
                Some(known) if known == fingerprint => true,
                Some(_) => {
                    self.suspend(target, level, "the role's own settings differ from what was known").await;
                    false
                }
                None => self.remember(target, level, fingerprint).await,
            }
        })
    }

    fn alarm<'a>(
        &'a self,
        target: &'a Name,
        level: &'a AccessLevel,
        what: &'a str,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(self.suspend(target, level, what))
    }
}
