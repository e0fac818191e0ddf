//! Waiting for a connection of the pool, in one way for who logs in and for who is in already: whatever ends
//! a session ends its waiting too, and with the same words.

use super::door::{Drain, SessionDoor};
use super::login::Entered;
use super::pump::VANISH_LOOK;
use super::registry::Command;
use super::session::sleep_until;
use crate::grant::Admission;
use crate::model::Refusal;
use crate::pool::Lease;
use crate::protocol::session::Wire;

/// Why nothing came of it.
pub(super) enum WaitEnd {
    /// The client is told this; the second is for the trail.
    Refused(Refusal, &'static str),
    /// There is nobody left to tell.
    Gone,
}

/// Who waits.
pub(super) trait Waiter<W: Wire>: Send {
    fn admission(&self) -> &Admission;
    /// Looks at the grant again.
    fn look(&mut self, door: &SessionDoor<W>) -> Result<(), Refusal>;
    /// Ends when the client, a command or a limit ends the waiting. Cancel safe.
    fn interrupted(&mut self, door: &SessionDoor<W>) -> impl Future<Output = WaitEnd> + Send;
}

impl<W: Wire> SessionDoor<W> {
    /// Waits in the pool's line, but not longer than the client, its grant, its limits and the trail do.
    /// Cancel safe: a connection that is dropped half way is closed.
    pub(super) async fn wait_for_lease(
        &self,
        waiter: &mut impl Waiter<W>,
        stamp: &str,
        settings: &W::Settings,
    ) -> Result<Lease<W>, WaitEnd> {
        const ENDED: &str = "the grant ended while waiting";
        let mut changed = self.shared.ledger.changed();
        // What changed between the last look and here.
        changed.mark_changed();
        let mut drain = self.shared.drain.clone();
        let refused = self.shared.trail.refused();
        let asked = waiter.admission().clone();
        let lease = self.lease(&asked, stamp, settings);
        tokio::pin!(refused, lease);
        let lease = loop {
            tokio::select! {
                biased;
                _ = changed.changed() => {
                    waiter.look(self).map_err(|refusal| WaitEnd::Refused(refusal, ENDED))?;
                }
                () = &mut refused => {
                    return Err(WaitEnd::Refused(Refusal::TrailUnavailable, "the trail cannot be written"));
                }
                () = Drain::now(&mut drain) => {
                    return Err(WaitEnd::Refused(Refusal::ShuttingDown, "the proxy is shutting down"));
                }
                lease = &mut lease => break lease,
                end = waiter.interrupted(self) => return Err(end),
            }
        };
        // What happened while the connection was made counts as well, and more than that there is none: a
        // target that is suspended lends nothing.
        waiter.look(self).map_err(|refusal| WaitEnd::Refused(refusal, ENDED))?;
        lease.map_err(|refusal| WaitEnd::Refused(refusal, "no connection to the target"))
    }
}

/// A session that wants a connection again.
pub(super) struct Resuming<'a, W: Wire> {
    pub entered: &'a mut Entered<W>,
}

impl<W: Wire> Waiter<W> for Resuming<'_, W> {
    fn admission(&self) -> &Admission {
        &self.entered.admission
    }

    fn look(&mut self, door: &SessionDoor<W>) -> Result<(), Refusal> {
        door.look_at_grant(self.entered)
    }

    async fn interrupted(&mut self, door: &SessionDoor<W>) -> WaitEnd {
        // Asked for anew after each look, for a reload may have changed it.
        let deadline = door.shared.limits.load().session.map(|limit| self.entered.began + limit);
        loop {
            // Nothing is read from the client meanwhile: what it sends stays with it, in order.
            tokio::select! {
                biased;
                command = self.entered.entry.listed.commands.next() => match command {
                    Command::Kill => return WaitEnd::Refused(Refusal::Killed, "killed while waiting"),
                    Command::End => return WaitEnd::Gone,
                    Command::Park => {}
                    // Nothing of it runs yet.
                    Command::Cancel { peer, landing } => {
                        drop(door.cancel(self.entered, peer, false, landing));
                    }
                },
                () = sleep_until(deadline) => {
                    return WaitEnd::Refused(Refusal::SessionTimeout, "too long a session");
                }
                () = tokio::time::sleep(VANISH_LOOK) => {
                    if self.entered.pump.client_is_gone() {
                        return WaitEnd::Gone;
                    }
                }
            }
        }
    }
}
