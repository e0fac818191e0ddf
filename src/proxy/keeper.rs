use std::pin::Pin;
use std::sync::Arc;

use crate::identity::Ledger;
use crate::model::{AccessLevel, Actor, Change, Event, Name};
use crate::observe::Trail;
use crate::pool::Keeper;

/// Keeps the baselines of connectors in the ledger and suspends a level on an alarm.
///
/// What it changes runs in a task of its own: who asks is a client that may go away at any moment, and a
/// change must not stop between the store and the book.
#[derive(Clone)]
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
            .take_away(&Actor::Proxy, "level.suspend", Some(what), |_| {
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
                    self.alarm(target, level, "the role's own settings differ from what was known").await;
                    false
                }
                None => {
                    let (keeper, target, level) = (self.clone(), target.clone(), level.clone());
                    let fingerprint = fingerprint.to_owned();
                    let task = async move { keeper.remember(&target, &level, &fingerprint).await };
                    tokio::spawn(task).await.unwrap_or(false)
                }
            }
        })
    }

    fn report(&self, target: &Name, level: &AccessLevel, what: &str) {
        tracing::error!(target_name = %target, %level, what, "alarm");
        let (target, level) = (target.clone(), level.clone());
        let _ = self.trail.event(&Event::Alarm { target, level, what: what.to_owned() });
    }

    fn alarm<'a>(
        &'a self,
        target: &'a Name,
        level: &'a AccessLevel,
        what: &'a str,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        let (keeper, target, level) = (self.clone(), target.clone(), level.clone());
        let what = what.to_owned();
        let task = tokio::spawn(async move { keeper.suspend(&target, &level, &what).await });
        Box::pin(async move {
            // It panicked, or the runtime is at its end: said elsewhere.
            let _ = task.await;
        })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::identity::ledger_tests::scratch;
    use crate::model::{Connector, PoolSettings, Target, TlsMode};

    #[tokio::test]
    async fn what_an_impatient_client_has_found_is_kept() {
        let (_folder, trail, ledger) = scratch().await;
        let connector = Connector { secret: "file:read.json".into(), baseline: None, suspended: None };
        let target = Target {
            name: "orders".parse().unwrap(),
            protocol: "postgres".into(),
            address: "127.0.0.1:5432".into(),
            database: None,
            tls: TlsMode::Require,
            tls_ca: None,
            upstream: Default::default(),
            details: String::new(),
            owners: Default::default(),
            connectors: [(AccessLevel::Read, connector)].into(),
            pool: PoolSettings::default(),
            remembered: Default::default(),
            accept_extensions: Default::default(),
            park: Default::default(),
            park_accepts: Default::default(),
            bodies: Default::default(),
            suspended: None,
        };
        let name = target.name.clone();
        let put = Change::PutTarget { target: Box::new(target) };
        ledger.change(&Actor::Proxy, "apply", None, |_| Ok(vec![put])).await.unwrap();
        let keeper = LedgerKeeper { ledger: ledger.clone(), trail };
        let known = || {
            let book = ledger.book();
            let level = &book.target("orders").unwrap().connectors[&AccessLevel::Read];
            (level.baseline.clone(), level.suspended.is_some())
        };
        let soon = async |wanted: (Option<String>, bool)| {
            for _ in 0..500 {
                if known() == wanted {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            panic!("{:?} and not {wanted:?}", known());
        };
        // Asked, and gone before there is an answer.
        assert_eq!(keeper.is_known(&name, &AccessLevel::Read, "a").now_or_never(), None);
        soon((Some("a".into()), false)).await;
        assert!(keeper.is_known(&name, &AccessLevel::Read, "a").await);
        assert_eq!(keeper.is_known(&name, &AccessLevel::Read, "b").now_or_never(), None);
        soon((Some("a".into()), true)).await;
    }
}
