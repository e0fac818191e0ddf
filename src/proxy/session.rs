//! One session from its first statement to its end: watches its own grant and ends itself.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::clock;
use super::door::{Drain, History, SessionDoor};
use super::login::{Again, Entered, context, row};
use super::pump::PumpEnd;
use super::registry::{Command, Landing};
use super::waiting::WaitEnd;
use crate::grant::{Admission, Standing};
use crate::model::{EndCause, Ending, Event, Refusal, SessionEnd, SessionId, limits};
use crate::observe::SessionMeter;
use crate::pool::{Finished, Lease, Leased};
use crate::protocol::session::{Boundary, Facts, Kill, Killed, Relay, Side, Wire};
use crate::tls::Stream;

/// How a session comes to its end.
enum Outcome {
    /// Ended by us: the client is told why.
    Cut(Refusal, Ending),
    /// The client said goodbye.
    Goodbye,
    /// The client logs in again, which is another session.
    LoginAgain,
    /// The client is gone without a word, or broke the protocol so that nothing can be said.
    Vanished(&'static str),
    /// The server ended the conversation in its protocol: the client has read why.
    ServerSaidGoodbye,
    /// The server is gone, or broke the protocol.
    ServerLost(String),
}

/// Cancels that are on their way to the server: hardly ever any, so that they cost a session nothing.
#[derive(Default)]
struct Interruptions(Vec<Pin<Box<dyn Future<Output = bool> + Send>>>);

impl Interruptions {
    /// Whether the next one of them to end has landed; never ends where there is none. Cancel safe.
    async fn next(&mut self) -> bool {
        std::future::poll_fn(|cx| {
            for at in 0..self.0.len() {
                if let Poll::Ready(landed) = self.0[at].as_mut().poll(cx) {
                    drop(self.0.swap_remove(at));
                    return Poll::Ready(landed);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Whether every one of them lands, in time.
    async fn all_land(mut self) -> bool {
        let all = async {
            while !self.0.is_empty() {
                if !self.next().await {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(limits::INTERRUPT_WAIT, all).await.unwrap_or(false)
    }
}

/// What became of the two connections.
struct Closed<W: Wire> {
    how: Ending,
    refusal: Option<Refusal>,
    why: Option<String>,
    delivered: Option<bool>,
    reused: bool,
    /// What another login of the same client goes on with.
    again: Option<Left<W>>,
}

impl<W: Wire> Closed<W> {
    /// By one of the peers, of which nothing more is known.
    fn peacefully() -> Self {
        Self { how: Ending::Close, refusal: None, why: None, delivered: None, reused: false, again: None }
    }
}

/// A client's connection between two sessions.
struct Left<W: Wire> {
    session: SessionId,
    accept: W::Accept,
    stream: Stream,
    input: BytesMut,
    out: BytesMut,
}

impl<W: Wire> SessionDoor<W> {
    /// Runs an entered session to its end and writes down how it ended. Gives what goes on where its client logs in
    /// again.
    pub(super) async fn converse(&self, mut entered: Box<Entered<W>>) -> Option<Box<Again<W>>> {
        let live = self.shared.metrics.session(entered.admission.target());
        let (outcome, settled) = self.run(&mut entered).await;
        // Apart: what a session takes while it lasts need not have room for its end.
        Box::pin(self.end(entered, live, outcome, settled)).await
    }

    async fn end(
        &self,
        entered: Box<Entered<W>>,
        live: SessionMeter,
        outcome: Outcome,
        settled: bool,
    ) -> Option<Box<Again<W>>> {
        let since = self.ended_since(&outcome, &entered);
        let Entered { session, pump, admission, seat, entry, first_grant, began, key, .. } = *entered;
        let statements = pump.relay.statements();
        // Whoever is cut gives its place under the grant back at once.
        drop(seat);
        let closed = self.close(outcome, pump, settled, since).await;
        let code = closed.refusal.as_ref().map(Refusal::code);
        if let Some(refusal) = &closed.refusal {
            self.shared.metrics.cut(refusal);
        }
        use std::sync::atomic::Ordering::Relaxed;
        let stats = &entry.listed.stats;
        let (bytes_up, bytes_down) = (stats.bytes_up.load(Relaxed), stats.bytes_down.load(Relaxed));
        // The session has ended whether this can be written or not.
        let _ = self.shared.trail.end(&Event::SessionEnd(SessionEnd {
            session,
            user: admission.user().clone(),
            target: admission.target().clone(),
            grant: admission.grant(),
            how: closed.how,
            code,
            why: closed.why,
            error_delivered: closed.delivered,
            statements,
            bytes_up,
            bytes_down,
            seconds: began.elapsed().as_secs_f64(),
            reused: closed.reused,
        }));
        live.statements(statements);
        live.bytes_up(bytes_up);
        live.bytes_down(bytes_down);
        let mut row = row(&entry.listed, &admission, first_grant);
        row.ended_at = Some(self.shared.ledger.now());
        row.how = Some(how_word(closed.how).into());
        row.code = code.map(str::to_owned);
        (row.statements, row.bytes_up, row.bytes_down) = (statements, bytes_up, bytes_down);
        let _ = self.shared.history.try_send(History::Row(Box::new(row)));
        let peer = entry.listed.peer;
        drop((live, entry));
        let Left { session, accept, stream, input, out } = closed.again?;
        key.lead_to(session);
        Some(Box::new(Again { session, peer, stream, accept, input, out, key }))
    }

    /// The moment from which a cut is measured: that of the change or the end of time that caused it,
    /// not the one at which this session came to see it.
    fn ended_since(&self, outcome: &Outcome, entered: &Entered<W>) -> Instant {
        let now = Instant::now();
        match outcome {
            Outcome::Cut(Refusal::Ended(EndCause::Expired | EndCause::CredentialEnded), _) => {
                let over = self.shared.ledger.now().duration_since(entered.admission.until());
                match Duration::try_from(over) {
                    Ok(over) => now.checked_sub(over).unwrap_or(now),
                    // Revoked ahead of its time.
                    Err(_) => *self.shared.ledger.changed().borrow(),
                }
            }
            Outcome::Cut(Refusal::Ended(_), _) => *self.shared.ledger.changed().borrow(),
            _ => now,
        }
    }

    /// The session's life. Returns how it ends, and whether every interruption sent for it has landed.
    async fn run(&self, entered: &mut Entered<W>) -> (Outcome, bool) {
        let mut changed = self.shared.ledger.changed();
        let mut interruptions = Interruptions::default();
        let mut killing = None;
        let mut all_landed = true;
        // What changed between the login and here.
        changed.mark_changed();
        let outcome = loop {
            let timer = [self.next_look(entered), self.tell_of_the_end(entered)].into_iter().flatten().min();
            let settled = all_landed && interruptions.0.is_empty();
            // The pump comes last: where both sides always have more to move, it leaves nothing of a
            // turn's budget, and whatever came after it would not be looked at.
            tokio::select! {
                biased;
                _ = changed.changed() => if let Err(outcome) = self.look_around(entered) {
                    break outcome;
                },
                command = entered.entry.listed.commands.next() => match command {
                    Command::Kill => break Outcome::Cut(Refusal::Killed, Ending::Cut),
                    Command::End => break Outcome::Vanished("another session of the same user ended it"),
                    // Not while a cancel is on its way to the connection: it would hit the next one's work.
                    Command::Park if settled => self.ask_whether_to_park(entered),
                    Command::Park => {}
                    Command::Cancel { peer, landing } => {
                        let room = interruptions.0.len() < limits::INTERRUPTIONS_MAX;
                        let interruption = self.cancel(entered, peer, room, landing);
                        if let Some(interruption) = interruption { interruptions.0.push(Box::pin(interruption)) }
                    }
                },
                killed = finished(&mut killing), if killing.is_some() => {
                    killing = None;
                    entered.pump.killed(killed);
                }
                landed = interruptions.next(), if !interruptions.0.is_empty() => all_landed &= landed,
                () = sleep_until(timer) => match self.look_at_clock(entered) {
                    Some(outcome) => break outcome,
                    None => self.look_whether_to_park(entered, settled),
                },
                end = entered.pump.run() => match end {
                    // Apart: its state is large, and most of the time nobody waits.
                    PumpEnd::NeedLease => match Box::pin(self.resume(entered)).await {
                        Ok(()) => {}
                        Err(WaitEnd::Gone) => break Outcome::Vanished("the client is gone"),
                        Err(WaitEnd::Refused(refusal, _)) => {
                            let drains = refusal == Refusal::ShuttingDown;
                            break Outcome::Cut(refusal, if drains { Ending::Drain } else { Ending::Cut });
                        }
                    },
                    PumpEnd::Kill(kill) => match self.kill(entered, kill) {
                        Ok(under_way) => killing = Some(Box::pin(under_way)),
                        Err(refusal) => break Outcome::Cut(refusal, Ending::Cut),
                    },
                    PumpEnd::Proven => if let Err(refusal) = self.answered(entered, settled) {
                        break Outcome::Cut(refusal, Ending::Cut);
                    },
                    other => break outcome_of(other),
                },
            }
        };
        // A cancel that is on its way must land before anybody else can have the connection. Where nobody
        // will have it, nothing waits for that: a cut is not to be held up.
        let busy = entered.pump.relay.boundary() == Boundary::Busy;
        let settled = match outcome {
            Outcome::Goodbye | Outcome::LoginAgain => true,
            Outcome::Vanished(_) => !busy,
            _ => false,
        } && all_landed
            // Apart, as it is not for long.
            && Box::pin(interruptions.all_land()).await;
        (outcome, settled)
    }

    /// Looks at all that may end the session from outside. All of it rings the ledger's one bell
    /// ([`Ledger::wake`](crate::identity::Ledger::wake)): a session that sits there has room for one to listen for.
    fn look_around(&self, entered: &mut Entered<W>) -> Result<(), Outcome> {
        self.look_at_grant(entered).map_err(|refusal| Outcome::Cut(refusal, Ending::Cut))?;
        if self.shared.trail.is_refusing() {
            return Err(Outcome::Cut(Refusal::TrailUnavailable, Ending::Cut));
        }
        if *self.shared.drain.borrow() == Drain::Now {
            return Err(Outcome::Cut(Refusal::ShuttingDown, Ending::Drain));
        }
        Ok(())
    }

    /// Looks at the session's own grant again.
    pub(super) fn look_at_grant(&self, entered: &mut Entered<W>) -> Result<(), Refusal> {
        match self.shared.ledger.recheck(&entered.admission, &mut entered.seat) {
            Standing::Open { until } if until == entered.admission.until() => Ok(()),
            Standing::Open { until } => {
                entered.admission = Arc::new(Admission::clone(&entered.admission).with_until(until));
                entered.entry.listed.admission.store(entered.admission.clone());
                Ok(())
            }
            Standing::Moved(to) => {
                let event = Event::SessionMoved {
                    session: entered.session,
                    user: to.user().clone(),
                    from: entered.admission.grant(),
                    to: to.grant(),
                };
                entered.admission = Arc::new(*to);
                entered.pump.context = context::<W>(entered.session, &entered.admission);
                entered.entry.listed.admission.store(entered.admission.clone());
                self.shared.trail.event(&event).map_err(|_| Refusal::TrailUnavailable)
            }
            Standing::Ended(cause) => Err(Refusal::Ended(cause)),
        }
    }

    /// Tells the client once that its access is about to end. Returns when to look at that again.
    fn tell_of_the_end(&self, entered: &mut Entered<W>) -> Option<Instant> {
        let ahead = self.shared.limits.load().notice?;
        let until = entered.admission.until();
        if entered.noticed == Some(until.as_microsecond()) {
            return None;
        }
        let left = Duration::try_from(until.duration_since(self.shared.ledger.now())).ok()?;
        if let Some(early) = left.checked_sub(ahead).filter(|early| !early.is_zero()) {
            return Some(Instant::now() + early);
        }
        let text = format!("your access ends at {until:.0}; this session ends with it");
        let (relay, out) = entered.pump.words_for_client();
        if !relay.notice(&text, out) {
            return Some(Instant::now() + IDLE_LOOK);
        }
        entered.noticed = Some(until.as_microsecond());
        None
    }

    /// When the idle and session limits have to be looked at next.
    fn next_look(&self, entered: &Entered<W>) -> Option<Instant> {
        let limits = self.shared.limits.load();
        let session = limits.session.map(|limit| entered.began + limit);
        let idle = limits.idle.map(|limit| {
            let due = clock::instant(entered.pump.last_activity) + limit;
            // It is over while something runs, and begins again with the answer.
            due.max(Instant::now() + IDLE_LOOK)
        });
        [session, idle, self.park_due(entered)].into_iter().flatten().min()
    }

    fn look_at_clock(&self, entered: &mut Entered<W>) -> Option<Outcome> {
        let limits = self.shared.limits.load();
        if limits.session.is_some_and(|limit| entered.began.elapsed() >= limit) {
            return Some(Outcome::Cut(Refusal::SessionTimeout, Ending::Cut));
        }
        let idle_for = clock::instant(entered.pump.last_activity).elapsed();
        // A running query is never idle, however long it takes.
        let busy = is_busy(&entered.pump.relay);
        if !busy && limits.idle.is_some_and(|limit| idle_for >= limit) {
            return Some(Outcome::Cut(Refusal::IdleTimeout, Ending::Cut));
        }
        None
    }

    /// Stops the running statement on behalf of its own client, where there is `room` for one more
    /// request. What is returned ends when the request has landed (true), or when nobody can tell any
    /// more whether it still will: one that a busy server has not taken yet stays in its queue.
    pub(super) fn cancel(
        &self,
        entered: &Entered<W>,
        peer: String,
        room: bool,
        landing: Landing,
    ) -> Option<impl Future<Output = bool> + use<W>> {
        let busy = is_busy(&entered.pump.relay);
        let lease = entered.pump.lease().filter(|_| busy && room);
        let event = Event::Cancel {
            session: entered.session,
            user: entered.admission.user().clone(),
            peer,
            sent: lease.is_some(),
        };
        if self.shared.trail.event(&event).is_err() {
            return None;
        }
        let lease = lease?;
        self.shared.metrics.cancel(true);
        let (pool, interruption) = (lease.pool().clone(), lease.facts().interruption());
        Some(async move {
            let landed = pool.interrupt(&interruption).await;
            drop(landing);
            if let Err(error) = &landed {
                tracing::warn!(?pool, error, "a cancel request may not have reached the target");
            }
            landed.is_ok()
        })
    }

    /// Stops another session of the same person, or what it runs. What is returned ends with the answer for the
    /// client, when the other session's server has the request or nobody knows when it will.
    fn kill(
        &self,
        entered: &Entered<W>,
        kill: Kill,
    ) -> Result<impl Future<Output = Killed> + Send + use<W>, Refusal> {
        let listed = &entered.entry.listed;
        let meant = self.shared.registry.sibling(listed, kill.process);
        let event = Event::Kill {
            session: entered.session,
            user: entered.admission.user().clone(),
            number: kill.process,
            ends: kill.ends,
            meant,
        };
        self.shared.trail.event(&event).map_err(|_| Refusal::TrailUnavailable)?;
        let (landing, landed) = Landing::new();
        let sent = meant.is_some_and(|session| {
            let command = match kill.ends {
                true => Command::End,
                false => Command::Cancel { peer: listed.peer.to_string(), landing },
            };
            self.shared.registry.send(session, command)
        });
        Ok(async move {
            if !sent {
                tokio::time::sleep(limits::KILL_PAUSE).await;
                return Killed::Unknown;
            }
            if !kill.ends {
                let _ = tokio::time::timeout(limits::CANCEL_LANDING_WAIT, landed).await;
            }
            Killed::Done
        })
    }

    /// Ends both connections in the order of design 1.5.2: the protocol's own error to the client, the
    /// upstream socket shut, the statement stopped at the database.
    async fn close(
        &self,
        outcome: Outcome,
        mut pump: super::pump::Pump<W>,
        settled: bool,
        since: Instant,
    ) -> Closed<W> {
        if !matches!(outcome, Outcome::Goodbye) {
            pump.note_unfinished();
        }
        match outcome {
            Outcome::Cut(refusal, how) => {
                let running = pump.relay.boundary() != Boundary::Idle;
                let cutting = pump.lease().map(Lease::cutting);
                // Apart, as all that hardly any session comes to: most just say goodbye.
                let delivered = Box::pin(tell(&mut pump, &refusal)).await;
                cutting.as_ref().inspect(|cutting| cutting.told());
                // Of many that are cut at once each has its turn before it is looked whether they are many.
                tokio::task::yield_now().await;
                let lease = pump.take_lease();
                let stream = pump.into_downstream();
                // In parallel: a client that is slow to hear must not keep the statement running.
                let (_, silent) = tokio::join!(say_goodbye(stream), Box::pin(abandon(lease, since, running)));
                if let (Refusal::Ended(_), Some(silent)) = (&refusal, silent) {
                    self.shared.metrics.revoked(silent);
                }
                Closed { how, refusal: Some(refusal), delivered: Some(delivered), ..Closed::peacefully() }
            }
            Outcome::Goodbye => {
                // What was asked for just before is let finish, if it does so at once.
                let _ = tokio::time::timeout(limits::CUT_FLUSH, pump.run_out()).await;
                pump.note_unfinished();
                let reused = self.leave(&mut pump, settled, since).await;
                Closed { reused, ..Closed::peacefully() }
            }
            Outcome::LoginAgain => {
                let reused = self.leave(&mut pump, settled, since).await;
                let session = self.shared.ids.next();
                let (relay, stream, input, out) = pump.into_client();
                let accept = self.wire.accept_again(relay);
                let again = accept.map(|accept| Left { session, accept, stream, input, out });
                let why = Some(format!("the client logs in again, as session {session}"));
                Closed { why, reused, again, ..Closed::peacefully() }
            }
            Outcome::Vanished(why) => {
                let reused = self.leave(&mut pump, settled, since).await;
                Closed { why: Some(why.into()), reused, ..Closed::peacefully() }
            }
            Outcome::ServerSaidGoodbye => {
                drop(pump.take_lease());
                let _ = tokio::time::timeout(limits::CUT_FLUSH, pump.flush_client()).await;
                say_goodbye(pump.into_downstream()).await;
                Closed { why: Some("the server ended it".into()), ..Closed::peacefully() }
            }
            Outcome::ServerLost(why) => {
                // A server that broke the protocol may still be running something.
                let running = pump.relay.boundary() != Boundary::Idle;
                let lease = pump.take_lease();
                let refusal = Refusal::UpstreamLost;
                let delivered = Box::pin(tell(&mut pump, &refusal)).await;
                let abandoned = Box::pin(abandon(lease, since, running));
                tokio::join!(say_goodbye(pump.into_downstream()), abandoned);
                Closed {
                    refusal: Some(refusal),
                    why: Some(why),
                    delivered: Some(delivered),
                    ..Closed::peacefully()
                }
            }
        }
    }

    /// Gives the connection back at a clean boundary, else ends it and what runs on it.
    async fn leave(&self, pump: &mut super::pump::Pump<W>, settled: bool, since: Instant) -> bool {
        let boundary = pump.relay.boundary();
        let empty = pump.server_is_empty();
        let Some(lease) = pump.take_lease() else { return false };
        if boundary == Boundary::Busy || !empty || pump.relay.is_spoiled() {
            Box::pin(abandon(Some(lease), since, true)).await;
            return false;
        }
        lease.finish(Leased { boundary, empty, settled }).await == Finished::Reused
    }
}

/// Ends a connection and what runs on it. Returns how long after `since` the server was silent.
async fn abandon<W: Wire>(lease: Option<Lease<W>>, since: Instant, running: bool) -> Option<Duration> {
    let lease = lease?;
    let (target, name) = (lease.pool().target.clone(), lease.upstream_name());
    let silent = lease.abandon(since, running).await;
    if silent.is_none() {
        tracing::warn!(target_name = %target, upstream = name, "a statement did not stop in time");
    }
    silent
}

/// The result of what is under way, if something is. Cancel safe.
async fn finished<T>(under_way: &mut Option<Pin<Box<impl Future<Output = T>>>>) -> T {
    match under_way {
        Some(future) => future.as_mut().await,
        None => std::future::pending().await,
    }
}

/// Whether something of the client's is under way.
fn is_busy<R: Relay>(relay: &R) -> bool {
    relay.boundary() == Boundary::Busy && !relay.is_proving()
}

/// The idle limit is kept to within this.
const IDLE_LOOK: Duration = Duration::from_millis(200);

fn outcome_of(end: PumpEnd) -> Outcome {
    match end {
        PumpEnd::Goodbye(Side::Downstream) => Outcome::Goodbye,
        PumpEnd::Goodbye(Side::Upstream) => Outcome::ServerSaidGoodbye,
        PumpEnd::Gone(Side::Downstream) => Outcome::Vanished("the client is gone"),
        PumpEnd::Gone(Side::Upstream) => Outcome::ServerLost("the server closed the connection".into()),
        PumpEnd::Violation(Side::Downstream, error) => {
            tracing::info!(%error, "a client broke the protocol");
            Outcome::Cut(Refusal::ProtocolViolation(error.what), Ending::Cut)
        }
        PumpEnd::Violation(Side::Upstream, error) => {
            tracing::error!(%error, "a server broke the protocol");
            Outcome::ServerLost(format!("the server broke the protocol: {error}"))
        }
        PumpEnd::Refuse(refusal) => Outcome::Cut(refusal, Ending::Cut),
        PumpEnd::LoginAgain => Outcome::LoginAgain,
        // Dealt with where it is seen; there is no connection here to end.
        PumpEnd::NeedLease | PumpEnd::Proven | PumpEnd::Kill(_) => {
            Outcome::Cut(Refusal::TargetUnavailable, Ending::Cut)
        }
    }
}

/// Tells the client why it ends. In the middle of a message the rest is passed on first, if it comes
/// in time; else nothing is said: a message is never padded. Returns whether the words were written.
///
/// What a server has of a message may wait in its buffer for more of the result: where the rest is not here at once
/// the statement is stopped now, upon which the server writes out what it has, and not after the client was told.
async fn tell<W: Wire>(pump: &mut super::pump::Pump<W>, refusal: &Refusal) -> bool {
    let within = !pump.relay.at_unit_boundary(Side::Downstream);
    let stop = pump.lease().filter(|_| within).map(|lease| lease.stop_soon(limits::CUT_REST));
    let words = async {
        pump.finish_unit().await?;
        let (relay, out) = pump.words_for_client();
        relay.refuse(refusal, out);
        pump.flush_client().await
    };
    tokio::select! {
        biased;
        told = tokio::time::timeout(limits::CUT_FLUSH, words) => matches!(told, Ok(Ok(()))),
        () = until_dropped(stop) => false,
    }
}

/// Does this, and does not end.
async fn until_dropped(work: Option<impl Future<Output = ()>>) {
    if let Some(work) = work {
        work.await;
    }
    std::future::pending().await
}

/// Closes our side and gives the client a moment to read what was said: closing a socket with unread
/// bytes in it would reset the connection and destroy the last words.
async fn say_goodbye(mut stream: Stream) {
    let _ = tokio::time::timeout(limits::CUT_FLUSH, linger(&mut stream)).await;
}

/// Shuts our side and reads until the peer has shut its own. Cancel safe.
pub(super) async fn linger(stream: &mut Stream) -> io::Result<()> {
    stream.shutdown().await?;
    let mut rest = vec![0u8; 4 << 10];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

pub(super) async fn sleep_until(at: Option<Instant>) {
    match at {
        // Apart: most have nothing to wait for.
        Some(at) => Box::pin(tokio::time::sleep_until(at)).await,
        None => std::future::pending().await,
    }
}

pub(super) fn how_word(how: Ending) -> &'static str {
    match how {
        Ending::Cut => "cut",
        Ending::Close => "close",
        Ending::Drain => "drain",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::postgres::{Postgres, PostgresRelay};

    fn size_of_future<A, B, F: Future>(_: impl FnOnce(A, B) -> F) -> usize {
        size_of::<F>()
    }

    /// What sits in memory for every session that is idle or parked, without its buffers, which it has none of.
    #[test]
    fn a_session_that_sits_there_is_small() {
        let parts = [
            ("relay", size_of::<PostgresRelay>()),
            ("pump", size_of::<super::super::pump::Pump<Postgres>>()),
            ("entered", size_of::<Entered<Postgres>>()),
            (
                "conversation",
                size_of_future::<&'static SessionDoor<Postgres>, Box<Entered<Postgres>>, _>(
                    SessionDoor::converse,
                ),
            ),
        ];
        // Smaller still where the optimiser has seen it.
        assert!(parts[2].1 <= 980 && parts[3].1 <= 640, "{parts:?}");
    }
}
