//! The established conversation's bytes: one task, both directions, one buffer per worker.
//!
//! Bytes are read into a buffer of the worker, looked at there by the relay machine, noted in the
//! journal, and written to the other side from that same buffer. A session owns a buffer only for what
//! could not be consumed or written yet; an idle session owns none.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::clock;
use super::registry::{Listed, State};
use crate::model::{Notes, Refusal, SessionContext, Verdict, limits};
use crate::observe::Trail;
use crate::pool::Lease;
use crate::protocol::session::{
    Ask, Boundary, Flow, Kill, Killed, Pinned, Plan, Relay, RelayStep, Side, Wire, WireError,
};
use crate::tls::Stream;

/// Why the pump stopped.
#[derive(Debug)]
pub(super) enum PumpEnd {
    /// The side closed its connection without saying goodbye, or it broke.
    Gone(Side),
    /// The side said goodbye in its protocol.
    Goodbye(Side),
    /// The side broke the protocol.
    Violation(Side, WireError),
    Refuse(Refusal),
    /// The client wants something done and has no connection.
    NeedLease,
    /// The server has answered whether the session can be parked.
    Proven,
    /// The client asks to stop another session, and is not listened to until [`Pump::killed`] says what came of it.
    Kill(Kill),
    /// The client logs in again.
    LoginAgain,
}

/// What one worker reads with: one for all of its sessions.
struct Scratch {
    read: Box<[u8]>,
    plan: Plan,
    notes: Vec<u8>,
    back: BytesMut,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        read: vec![0; limits::READ_BYTES].into_boxed_slice(),
        plan: Plan::default(),
        notes: Vec::with_capacity(limits::READ_BYTES),
        back: BytesMut::new(),
    });
}

/// What waits on one side.
#[derive(Default)]
struct Half {
    /// Read from this side, not consumed yet.
    rest: BytesMut,
    /// To be written to this side.
    out: BytesMut,
    /// A TLS record or a compressed packet may still be in the session's own buffer.
    flush: bool,
    /// Not read until the other side has been pumped.
    held: bool,
    /// Not read until what it asked of us has been done.
    asks: bool,
}

/// A connection that the session is lent, and what waits on it.
struct Upstream<W: Wire> {
    lease: Lease<W>,
    half: Half,
}

/// How often a client that we do not read from is looked at.
pub(super) const VANISH_LOOK: Duration = Duration::from_millis(500);

pub(super) struct Pump<W: Wire> {
    pub relay: W::Relay,
    pub context: SessionContext,
    downstream: Stream,
    client: Half,
    /// Apart: a session that sits there has none.
    upstream: Option<Box<Upstream<W>>>,
    trail: Trail,
    /// Where others see what it does.
    listed: Arc<Listed>,
    /// The client's bytes are to be looked at although no new ones have come.
    look_again: bool,
    /// Until the trail's writer has caught up.
    room: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Runs while the client is not read from.
    watch: Option<Pin<Box<tokio::time::Sleep>>>,
    /// Monotonic microseconds of the last byte either way.
    pub last_activity: u64,
}

impl<W: Wire> Pump<W> {
    pub fn new(
        relay: W::Relay,
        context: SessionContext,
        downstream: Stream,
        lease: Lease<W>,
        trail: Trail,
        listed: Arc<Listed>,
    ) -> Self {
        Self {
            relay,
            context,
            downstream,
            client: Half::default(),
            upstream: Some(Box::new(Upstream { lease, half: Half::default() })),
            trail,
            listed,
            look_again: false,
            room: None,
            watch: None,
            last_activity: clock::monotonic_micros(),
        }
    }

    /// What the client is told on entering, and what it has sent ahead.
    pub fn welcome(&mut self, words: &[u8], ahead: BytesMut) {
        self.client.out.extend_from_slice(words);
        // The words may be in the stream already, ahead of what it frames.
        self.client.flush = self.downstream.holds_back();
        self.look_again = !ahead.is_empty();
        // An empty one still has the memory that the login was read into.
        if self.look_again {
            self.client.rest = ahead;
        }
    }

    pub fn lease(&self) -> Option<&Lease<W>> {
        self.upstream.as_ref().map(|upstream| &upstream.lease)
    }

    /// Takes the lease out. What is unread or unwritten towards the server is lost: ask
    /// [`Pump::server_is_empty`] before.
    pub fn take_lease(&mut self) -> Option<Lease<W>> {
        self.upstream.take().map(|upstream| upstream.lease)
    }

    /// Goes on with another connection; `first` is written to it ahead of anything else.
    pub fn put_lease(&mut self, lease: Lease<W>, first: &[u8]) {
        let half = Half { out: BytesMut::from(first), ..Half::default() };
        self.upstream = Some(Box::new(Upstream { lease, half }));
        self.client.held = false;
        self.look_again = true;
        // However long the wait was, its end is a sign of life.
        self.last_activity = clock::monotonic_micros();
    }

    /// Nothing read from the server is unconsumed, nothing for it is unwritten.
    pub fn server_is_empty(&self) -> bool {
        let Some(Upstream { half, .. }) = self.upstream.as_deref() else { return true };
        half.rest.is_empty() && half.out.is_empty() && !half.flush
    }

    /// Bytes for the server that it has not taken yet.
    fn server_waits_for(&self) -> usize {
        self.upstream.as_ref().map_or(0, |upstream| upstream.half.out.len())
    }

    /// Nothing waits on either side.
    pub fn is_quiet(&self) -> bool {
        let client = self.client.rest.is_empty() && self.client.out.is_empty() && !self.client.flush;
        client && !self.client.held && !self.client.asks && !self.look_again && self.server_is_empty()
    }

    /// Asks the server whether anything would be lost without this connection.
    pub fn prove(&mut self, ask: Ask) -> Result<(), Pinned> {
        match &mut self.upstream {
            Some(upstream) => self.relay.prove(ask, &mut upstream.half.out),
            None => Err(Pinned("it has no connection")),
        }
    }

    /// What came of the client's wish to stop another session.
    pub fn killed(&mut self, outcome: Killed) {
        self.client.asks = false;
        self.relay.killed(outcome);
        self.look_again = true;
    }

    /// A client that is not read from has gone.
    pub fn client_is_gone(&self) -> bool {
        self.downstream.peer_is_gone()
    }

    pub fn into_downstream(self) -> Stream {
        self.downstream
    }

    /// What is left for another conversation with the same client: what it has sent and has not been looked at, and
    /// what it has not taken yet.
    pub fn into_client(self) -> (W::Relay, Stream, BytesMut, BytesMut) {
        (self.relay, self.downstream, self.client.rest, self.client.out)
    }

    /// Where the client is written to outside of the conversation.
    pub fn words_for_client(&mut self) -> (&mut W::Relay, &mut BytesMut) {
        (&mut self.relay, &mut self.client.out)
    }

    /// Whether bytes of the client are left unread, because the server does not take any more or because
    /// an answer is waited for: then its end is not seen by reading.
    fn reading_is_paused(&self) -> bool {
        let waits = self.client.held || self.client.asks || self.room.is_some();
        waits || self.server_waits_for() >= limits::PENDING_BYTES_MAX
    }

    /// Moves bytes until the conversation ends. Cancel safe: all state is kept.
    pub async fn run(&mut self) -> PumpEnd {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    /// Writes out what waits for the client. Cancel safe.
    pub async fn flush_client(&mut self) -> io::Result<()> {
        std::future::poll_fn(|cx| {
            loop {
                match self.write(cx, Side::Downstream) {
                    Ok(true) => {}
                    Ok(false) if self.client.out.is_empty() && !self.client.flush => {
                        return Poll::Ready(Ok(()));
                    }
                    Ok(false) => return Poll::Pending,
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
        })
        .await
    }

    /// Lets the server finish the message that is on its way to the client, and nothing after it.
    /// Cancel safe.
    pub async fn finish_unit(&mut self) -> io::Result<()> {
        self.relay.wind_down();
        std::future::poll_fn(|cx| {
            loop {
                if self.relay.at_unit_boundary(Side::Downstream) {
                    return Poll::Ready(Ok(()));
                }
                let moved = match (self.write(cx, Side::Downstream), self.read(cx, Side::Upstream)) {
                    (Ok(written), Ok(read)) => written || read,
                    (Err(error), _) => return Poll::Ready(Err(error)),
                    (_, Err(_)) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                };
                if !moved {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    /// Writes down what becomes of statements whose end this session will not see.
    pub fn note_unfinished(&mut self) {
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.notes.clear();
            let mut notes = Notes::new(&mut scratch.notes, clock::wall_micros());
            self.relay.unfinished(&mut notes, clock::monotonic_micros());
            if !scratch.notes.is_empty() {
                // Nothing leaves because of it, so a trail that cannot take it changes nothing more.
                let _ = self.trail.notes(&self.context, &scratch.notes);
            }
        });
    }

    /// Only the server's side: what it still answers to a client that said goodbye. Ends at a clean
    /// boundary, or with the server. Cancel safe.
    pub async fn run_out(&mut self) {
        std::future::poll_fn(|cx| {
            loop {
                if self.relay.boundary() != Boundary::Busy && self.server_is_empty() {
                    return Poll::Ready(());
                }
                // The client does not read any more.
                self.client.out.clear();
                match (self.write(cx, Side::Upstream), self.read(cx, Side::Upstream)) {
                    (Ok(false), Ok(false)) => return Poll::Pending,
                    (Ok(_), Ok(_)) => {}
                    _ => return Poll::Ready(()),
                }
            }
        })
        .await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<PumpEnd> {
        loop {
            let mut moved = false;
            let crowded = self.wait_for_room(cx);
            // Our own words come on top of what the client sends: they wait for the server like that.
            let full = self.server_waits_for() >= limits::PENDING_BYTES_MAX;
            if !crowded && !full && !self.client.asks && std::mem::take(&mut self.look_again) {
                let looked = SCRATCH.with_borrow_mut(|scratch| self.feed(cx, Side::Downstream, 0, scratch));
                if let Err(end) = looked {
                    return Poll::Ready(end);
                }
                moved = true;
            }
            for side in [Side::Upstream, Side::Downstream] {
                match self.write(cx, side) {
                    Ok(wrote) => moved |= wrote,
                    Err(_) => return Poll::Ready(PumpEnd::Gone(side)),
                }
            }
            for side in [Side::Upstream, Side::Downstream] {
                if side == Side::Downstream && (crowded || self.look_again) {
                    continue;
                }
                match self.read(cx, side) {
                    Ok(read) => moved |= read,
                    Err(end) => return Poll::Ready(end),
                }
            }
            if !moved {
                return self.watch_client(cx).map(|()| PumpEnd::Gone(Side::Downstream));
            }
        }
    }

    /// Whether the trail's writer is so far behind that nothing new is taken from the client for a
    /// moment. The task is woken when there is room.
    fn wait_for_room(&mut self, cx: &mut Context<'_>) -> bool {
        if self.room.is_none() && !self.trail.crowded() {
            return false;
        }
        let trail = self.trail.clone();
        let room = self.room.get_or_insert_with(|| Box::pin(async move { trail.room().await }));
        let crowded = room.as_mut().poll(cx).is_pending();
        if !crowded {
            self.room = None;
        }
        crowded
    }

    /// While we do not read from the client, its end is looked for from time to time. Ready: it is gone.
    fn watch_client(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.reading_is_paused() {
            self.watch = None;
            return Poll::Pending;
        }
        loop {
            let watch = self.watch.get_or_insert_with(|| Box::pin(tokio::time::sleep(VANISH_LOOK)));
            std::task::ready!(watch.as_mut().poll(cx));
            self.watch = None;
            if self.downstream.peer_is_gone() {
                return Poll::Ready(());
            }
        }
    }

    /// Writes what waits for this side. True: something was written.
    fn write(&mut self, cx: &mut Context<'_>, side: Side) -> io::Result<bool> {
        let (half, stream) = match side {
            Side::Downstream => (&mut self.client, &mut self.downstream),
            Side::Upstream => match self.upstream.as_deref_mut() {
                Some(Upstream { lease, half }) => (half, lease.stream()),
                None => return Ok(false),
            },
        };
        let mut moved = false;
        while !half.out.is_empty() {
            match Pin::new(&mut *stream).poll_write(cx, &half.out) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => {
                    half.out.advance(count);
                    half.flush = stream.holds_back();
                    moved = true;
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(moved),
            }
        }
        if moved {
            // An idle session owns no buffer.
            half.out = BytesMut::new();
        }
        if half.flush {
            match Pin::new(stream).poll_flush(cx) {
                Poll::Ready(result) => {
                    result?;
                    half.flush = false;
                }
                Poll::Pending => {}
            }
        }
        Ok(moved)
    }

    /// Reads from this side once and deals with it. True: something was moved.
    fn read(&mut self, cx: &mut Context<'_>, from: Side) -> Result<bool, PumpEnd> {
        SCRATCH.with_borrow_mut(|scratch| {
            let waits = match from {
                Side::Downstream => self.server_waits_for(),
                Side::Upstream => self.client.out.len(),
            };
            let (half, stream) = match from {
                Side::Downstream => (&self.client, &mut self.downstream),
                Side::Upstream => match self.upstream.as_deref_mut() {
                    Some(Upstream { lease, half }) => (&*half, lease.stream()),
                    None => return Ok(false),
                },
            };
            if half.held || half.asks || waits >= limits::PENDING_BYTES_MAX {
                return Ok(false);
            }
            let mut buffer = ReadBuf::new(&mut scratch.read);
            match Pin::new(stream).poll_read(cx, &mut buffer) {
                Poll::Pending => return Ok(false),
                Poll::Ready(Err(_)) => return Err(PumpEnd::Gone(from)),
                Poll::Ready(Ok(())) => {}
            }
            let count = buffer.filled().len();
            if count == 0 {
                return Err(PumpEnd::Gone(from));
            }
            // The answer to a question of ours is nothing of the client's.
            let ours = from == Side::Upstream && self.relay.is_proving();
            let counter = match from {
                Side::Downstream => &self.listed.stats.bytes_up,
                Side::Upstream => &self.listed.stats.bytes_down,
            };
            if !ours {
                counter.store(counter.load(Relaxed) + count as u64, Relaxed);
            }
            self.feed(cx, from, count, scratch)?;
            // An answer may be what the other side was held for.
            let other_is_held = match from {
                Side::Downstream => self.upstream.as_ref().is_some_and(|upstream| upstream.half.held),
                Side::Upstream => self.client.held && !self.client.asks,
            };
            if other_is_held {
                if let Some(half) = self.half(from.other()) {
                    half.held = false;
                }
                self.feed(cx, from.other(), 0, scratch)?;
            }
            Ok(true)
        })
    }

    /// `None`: there is no connection to the server.
    fn half(&mut self, side: Side) -> Option<&mut Half> {
        match side {
            Side::Downstream => Some(&mut self.client),
            Side::Upstream => self.upstream.as_mut().map(|upstream| &mut upstream.half),
        }
    }

    /// Shows the machine what was just read (`count` bytes of the worker's buffer) behind what was left
    /// of before.
    fn feed(
        &mut self,
        cx: &mut Context<'_>,
        from: Side,
        count: usize,
        scratch: &mut Scratch,
    ) -> Result<(), PumpEnd> {
        let Some(half) = self.half(from) else { return Ok(()) };
        let mut rest = std::mem::take(&mut half.rest);
        let Scratch { read, plan, notes, back } = scratch;
        let end = if rest.is_empty() {
            let input = &read[..count];
            let end = self.pump(cx, from, input, plan, notes, back);
            rest.extend_from_slice(&input[plan.consumed()..]);
            end
        } else {
            rest.extend_from_slice(&read[..count]);
            let end = self.pump(cx, from, &rest, plan, notes, back);
            rest.advance(plan.consumed());
            end
        };
        if rest.is_empty() {
            rest = BytesMut::new();
        }
        if let Some(half) = self.half(from) {
            half.rest = rest;
        }
        end
    }

    fn pump(
        &mut self,
        cx: &mut Context<'_>,
        from: Side,
        input: &[u8],
        plan: &mut Plan,
        notes: &mut Vec<u8>,
        back: &mut BytesMut,
    ) -> Result<(), PumpEnd> {
        plan.clear();
        notes.clear();
        back.clear();
        let clock_micros = clock::monotonic_micros();
        if from == Side::Downstream || !self.relay.is_proving() {
            self.last_activity = clock_micros;
        }
        let mut noted = Notes::new(notes, clock::wall_micros());
        let step = self.relay.pump(
            from,
            input,
            &mut Flow { plan, back, notes: &mut noted, judge: &mut |_| Verdict::Allow, clock_micros },
        );
        // In the trail before its bytes leave.
        if !notes.is_empty() && self.trail.notes(&self.context, notes).is_err() {
            return Err(PumpEnd::Refuse(Refusal::TrailUnavailable));
        }
        if !self.relay.is_proving() {
            self.listed.stats.see(self.relay.statements(), State::of(self.relay.boundary()));
        }
        if !back.is_empty()
            && let Some(half) = self.half(from)
        {
            half.out.extend_from_slice(back);
        }
        self.send(cx, from.other(), plan, input).map_err(|_| PumpEnd::Gone(from.other()))?;
        match step {
            Ok(RelayStep::Continue) => {
                let unconsumed = input.len() - plan.consumed();
                // A machine that wants ever more would be a fault of ours; it must not cost memory.
                if unconsumed > limits::INSPECT_BYTES_MAX + 2 * limits::READ_BYTES {
                    return Err(PumpEnd::Violation(
                        from,
                        WireError::new("relay", "a message that is too long"),
                    ));
                }
                Ok(())
            }
            Ok(RelayStep::Again) => {
                // Only a client's messages bring notes that are longer than themselves.
                debug_assert_eq!(from, Side::Downstream);
                self.look_again = true;
                Ok(())
            }
            Ok(RelayStep::Hold) => {
                if let Some(half) = self.half(from) {
                    half.held = true;
                }
                Ok(())
            }
            Ok(RelayStep::NeedLease) => Err(PumpEnd::NeedLease),
            Ok(RelayStep::Proven) => {
                self.look_again |= std::mem::take(&mut self.client.held);
                Err(PumpEnd::Proven)
            }
            Ok(RelayStep::Kill(kill)) => {
                self.client.asks = true;
                Err(PumpEnd::Kill(kill))
            }
            Ok(RelayStep::LoginAgain) => Err(PumpEnd::LoginAgain),
            Ok(RelayStep::Close) => Err(PumpEnd::Goodbye(from)),
            Ok(RelayStep::Refuse(refusal)) => Err(PumpEnd::Refuse(refusal)),
            Err(error) => Err(PumpEnd::Violation(from, error)),
        }
    }

    /// Writes a plan from where it lies; only what the socket does not take is copied.
    fn send(&mut self, cx: &mut Context<'_>, to: Side, plan: &Plan, input: &[u8]) -> io::Result<()> {
        let (half, stream) = match to {
            Side::Downstream => (&mut self.client, &mut self.downstream),
            Side::Upstream => match self.upstream.as_deref_mut() {
                Some(Upstream { lease, half }) => (half, lease.stream()),
                None => return Ok(()),
            },
        };
        if let ([piece], true) = (plan.pieces(), half.out.is_empty()) {
            let bytes = plan.bytes(piece, input);
            let count = match Pin::new(&mut *stream).poll_write(cx, bytes) {
                Poll::Ready(result) => result?,
                Poll::Pending => 0,
            };
            half.flush |= count > 0 && stream.holds_back();
            half.out.extend_from_slice(&bytes[count..]);
        } else {
            // Our own words are in between: together they are still one write.
            for piece in plan.pieces() {
                half.out.extend_from_slice(plan.bytes(piece, input));
            }
        }
        Ok(())
    }
}
