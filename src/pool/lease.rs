use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::connection::run_script;
use super::pool::{Cutting, Held, Pool, upstream_name};
use crate::grant::Admission;
use crate::model::{Name, Refusal, limits};
use crate::protocol::session::{
    Boundary, Facts, Findings, Interruption, Purpose, Report, ServerErrorKind, Upkeep, Wire,
};
use crate::tls::Stream;

/// An upstream connection while a session has it. Dropping it closes the connection: forgetting is
/// safe, only [`Lease::finish`] returns it.
pub struct Lease<W: Wire> {
    held: Held<W>,
    pool: Arc<Pool<W>>,
    user: Name,
    facts: W::Facts,
}

/// How a session leaves its connection.
#[derive(Debug, Clone, Copy)]
pub struct Leased {
    pub boundary: Boundary,
    /// Nothing read from the server is unconsumed, nothing for it is unwritten.
    pub empty: bool,
    /// Every interruption that was sent for it has landed.
    pub settled: bool,
}

/// What became of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finished {
    Reused,
    Closed(&'static str),
}

/// Proof of a clean reset: the script is done, the server confirmed it, the boundary before it was
/// clean. Made here only.
struct Clean(Findings);

impl<W: Wire> Pool<W> {
    /// Lends a connection to an admitted person, dressed with the stamp and the client's start-up
    /// settings. Cancel safe: a connection that is dropped half dressed is closed.
    pub async fn lease(
        self: &Arc<Self>,
        admission: &Admission,
        stamp: &str,
        settings: &W::Settings,
    ) -> Result<Lease<W>, Refusal> {
        // An idle connection may have died unseen; then the next one is tried, and in the end a new one.
        let flavour = self.wire.flavour(settings);
        let tries = self.plan.load().settings.size_max.saturating_add(1);
        for _ in 0..tries {
            let mut held = self.obtain(admission.user(), &flavour).await?;
            if let Err(error) = held.connection.move_here() {
                tracing::warn!(pool = ?self, %error, "a connection could not be moved to its session's thread");
                return Err(Refusal::TargetUnavailable);
            }
            let mut facts = held.connection.facts.clone();
            let purpose = Purpose::Prepare { admission, stamp, settings };
            let mut script = self.wire.script(purpose, &held.connection.facts);
            let prepare = run_script(&mut held.connection.stream, &mut script);
            match tokio::time::timeout(limits::RESET_WAIT, prepare).await {
                Ok(Ok(Report::Done(findings))) => {
                    facts.apply(&findings);
                    held.connection.used = true;
                    return Ok(Lease { held, pool: self.clone(), user: admission.user().clone(), facts });
                }
                Ok(Ok(Report::Refused(error))) if error.kind == ServerErrorKind::BadParameter => {
                    let lease = Lease { held, pool: self.clone(), user: admission.user().clone(), facts };
                    lease.finish(Leased { boundary: Boundary::Idle, empty: true, settled: true }).await;
                    return Err(Refusal::BadParameter(error.message));
                }
                Ok(Err(error)) if held.connection.used => {
                    tracing::debug!(pool = ?self, %error, "an idle connection had died");
                }
                other => {
                    tracing::warn!(pool = ?self, outcome = ?other, "a connection could not be prepared");
                    return Err(Refusal::TargetUnavailable);
                }
            }
        }
        Err(Refusal::TargetUnavailable)
    }
}

impl<W: Wire> Lease<W> {
    pub fn stream(&mut self) -> &mut Stream {
        &mut self.held.connection.stream
    }

    /// What the server told at login, with what `Prepare` changed of it.
    pub fn facts(&self) -> &W::Facts {
        &self.facts
    }

    pub fn pool(&self) -> &Arc<Pool<W>> {
        &self.pool
    }

    /// The server's own name of the connection.
    pub fn upstream_name(&self) -> String {
        upstream_name(&self.held)
    }

    /// Resets the connection and gives it back, or closes it. Never fails: what is not proven clean
    /// is closed. Not cancel safe, but dropping it closes the connection.
    pub async fn finish(mut self, left: Leased) -> Finished {
        let clean = match self.reset(left).await {
            Ok(clean) => clean,
            Err(why) => {
                self.pool.metrics.reset(&self.pool.target, false);
                return Finished::Closed(why);
            }
        };
        self.pool.metrics.reset(&self.pool.target, true);
        self.put_back(clean)
    }

    /// Where a reset does not prove that nothing is left, says why.
    async fn reset(&mut self, left: Leased) -> Result<Clean, &'static str> {
        if !left.empty {
            return Err("bytes were on their way");
        }
        if !left.settled {
            return Err("an interruption may still land");
        }
        let in_transaction = match left.boundary {
            Boundary::Busy => return Err("something was running"),
            Boundary::Idle => false,
            Boundary::InTransaction => true,
        };
        // Thoroughly now and then: see `look`.
        let known = if self.pool.looks.is_due() { None } else { self.held.connection.catalogs.clone() };
        reset(&self.pool, &mut self.held, in_transaction, known.as_deref()).await
    }

    fn put_back(self, clean: Clean) -> Finished {
        let Self { mut held, pool, user, .. } = self;
        held.connection.last_user = Some(user);
        put_back(&pool, held, clean);
        Finished::Reused
    }
}

/// Resets a connection and has the server say that nothing is left. Where that is not proven, says why.
async fn reset<W: Wire>(
    pool: &Pool<W>,
    held: &mut Held<W>,
    in_transaction: bool,
    known: Option<&str>,
) -> Result<Clean, &'static str> {
    let connection = &mut held.connection;
    let upkeep = Upkeep::new();
    let purpose = Purpose::Reset { upkeep: &upkeep, in_transaction, known };
    let mut script = pool.wire.script(purpose, &connection.facts);
    let reset = run_script(&mut connection.stream, &mut script);
    let findings = match tokio::time::timeout(pool.reset_limit(), reset).await {
        Ok(Ok(Report::Done(findings))) => findings,
        Ok(Ok(Report::Unclean(what))) => {
            tracing::warn!(?pool, what, "a reset left something behind");
            return Err("the server shows that something was left");
        }
        Ok(Ok(Report::Refused(error))) => {
            tracing::warn!(?pool, %error, "a reset was refused");
            return Err("the server refused the reset");
        }
        Ok(Err(error)) => {
            tracing::debug!(?pool, %error, "a reset failed");
            return Err("the reset failed");
        }
        Err(_) => return Err("the reset took too long"),
    };
    if findings.catalogs.is_some() && findings.fingerprint != connection.fingerprint {
        pool.keeper.alarm(&pool.target, &pool.level, super::pool::ROLE_CHANGED).await;
        return Err("the role's own settings were changed");
    }
    Ok(Clean(findings))
}

fn put_back<W: Wire>(pool: &Arc<Pool<W>>, held: Held<W>, clean: Clean) {
    let Held { mut connection, slot } = held;
    if let Some(known) = clean.0.catalogs.or(clean.0.glanced) {
        connection.catalogs = Some(known);
    }
    // What was found once stays: a reset looks for less than the probe did.
    connection.stateful.extend(clean.0.stateful);
    pool.give_back(Held { connection, slot });
}

/// Looks at an idle connection as thoroughly as at one that was just made, and gives it back.
pub(super) async fn look<W: Wire>(pool: &Arc<Pool<W>>, mut held: Held<W>) {
    match reset(pool, &mut held, false, None).await {
        Ok(clean) => put_back(pool, held, clean),
        Err(why) => tracing::debug!(?pool, why, "an idle connection is not kept"),
    }
}

/// Has what runs there stopped. Where that fails, only the log says so: whoever is cut does not wait for it.
async fn stop<W: Wire>(pool: &Arc<Pool<W>>, interruption: &Interruption) {
    if let Err(error) = pool.interrupt(interruption).await {
        tracing::warn!(?pool, error, "a statement could not be interrupted");
    }
}

/// How long an upstream that is being left is given to fall silent after its statement was stopped.
pub const SILENCE_WAIT: Duration = limits::INTERRUPT_WAIT;

impl<W: Wire> Lease<W> {
    /// Has what runs on it stopped, after a while. The connection must not be lent again: the request may land at any
    /// time. Cancel safe.
    pub fn stop_soon(&self, wait: Duration) -> impl Future<Output = ()> + Send + use<W> {
        let (pool, interruption) = (self.pool.clone(), self.facts.interruption());
        async move {
            tokio::time::sleep(wait).await;
            stop(&pool, &interruption).await;
        }
    }

    /// Of hundreds that are cut at once. A server process that sees its client gone ends, which takes it ten times as
    /// long as to stop a statement, and hundreds that do so leave next to no time to whoever tells the other clients.
    /// So all are told first, then all statements are stopped by a few orders, and only then may the processes see
    /// it: nobody can say anything on these connections any more. Returns whether its own was stopped. Cancel safe.
    async fn stop_with_the_crowd(&self, since: Instant, running: bool) -> bool {
        self.pool.crowd_is_told(since).await;
        let Some(of) = self.facts.termination().filter(|_| running) else { return false };
        self.pool.halt(&of).await.is_ok()
    }

    /// Says that its session is being cut, before that session is told.
    pub fn cutting(&self) -> Cutting<W> {
        Cutting::begin(&self.pool)
    }

    /// Ends the connection for good, and with it what runs on it: shuts our side, has the running
    /// statement stopped, and waits until the server has closed its side. Returns how long that took
    /// from `since`, or `None` where the server did not within [`SILENCE_WAIT`].
    ///
    /// Cancel safe in that dropping it closes the socket; the statement may then run until the server
    /// notices (`client_connection_check_interval`).
    pub async fn abandon(mut self, since: Instant, running: bool) -> Option<Duration> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let interruption = self.facts.interruption();
        let termination = self.facts.termination();
        let pool = self.pool.clone();
        let is_stopped = pool.is_cutting_many() && self.stop_with_the_crowd(since, running).await;
        let stream = &mut self.held.connection.stream;
        let silent = async {
            // A server that hangs with full buffers takes no goodbye of TLS: it gets no longer than a
            // client gets, and the statement is being stopped meanwhile.
            let _ = tokio::time::timeout(limits::CUT_FLUSH, stream.shutdown()).await;
            let mut rest = vec![0u8; 16 << 10];
            while let Ok(count) = stream.read(&mut rest).await {
                if count == 0 {
                    break;
                }
            }
        };
        // Asked once. A request that lands between two statements of a pipeline stops nothing, and code can
        // catch it: who is not silent soon after is ended without being asked.
        let ask = async {
            if running && !is_stopped {
                stop(&pool, &interruption).await;
            }
        };
        let end = async {
            loop {
                tokio::time::sleep(limits::INTERRUPT_AGAIN).await;
                if !running {
                    continue;
                }
                let ended = match &termination {
                    Some(of) => pool.terminate(of).await,
                    None => Err("which one it is there is not known".to_owned()),
                };
                if let Err(error) = ended {
                    tracing::warn!(?pool, error, "a connection could not be ended at the server");
                    // Each request stops one statement more.
                    let _ = pool.interrupt(&interruption).await;
                }
            }
        };
        tokio::select! {
            // Our side is shut before anything else is begun.
            biased;
            () = silent => Some(since.elapsed()),
            _ = async { tokio::join!(ask, end) } => None,
            () = tokio::time::sleep(SILENCE_WAIT) => None,
        }
    }
}
