//! The answer on its way to the client: passed on as it comes, ended with its session, and written down when it is
//! over.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::connection::{self, Underway};
use super::contexts::Given;
use super::counting::Counting;
use super::pace::Pace;
use super::session::Running;
use super::spool::Taken;
use super::stopping::Lasting;
use super::upload::Gone;
use super::upstream::{Lent, Place};
use crate::model::{Note, Notes, Refusal, limits};
use crate::observe::Trail;
use crate::protocol::http::Scanner;
use crate::proxy::clock;

/// Resolves when the request may not go on.
pub(super) type Ends = Pin<Box<dyn Future<Output = Refusal> + Send>>;

/// What is written down of a request when it is over, however it ends.
pub(super) struct Account {
    running: Running,
    trail: Trail,
    gone: Arc<Gone>,
    began: Instant,
    status: u16,
    down: u64,
    whole: bool,
    counting: Counting,
}

impl Account {
    pub fn new(running: Running, trail: Trail, gone: Arc<Gone>, counting: Counting) -> Self {
        Self { running, trail, gone, began: Instant::now(), status: 0, down: 0, whole: false, counting }
    }

    /// Its answer is JSON, and may say how much it is about.
    pub fn is_counted(&mut self) {
        self.counting.begin();
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let up = self.gone.pace.bytes();
        let mut buffer = Vec::with_capacity(128);
        let status = if self.status == 0 { String::new() } else { self.status.to_string() };
        let (rows, more) = self.counting.said(self.status, self.whole);
        Notes::new(&mut buffer, clock::wall_micros()).push(&Note::Result {
            number: self.running.number,
            tag: status.as_bytes(),
            rows,
            bytes_up: up,
            bytes_down: self.down,
            micros: self.began.elapsed().as_micros() as u64,
            sqlstate: if self.whole { b"" } else { b"unfinished" },
            more: more.as_bytes(),
        });
        self.running.session.moved(up, self.down);
        // It is over whether this can be written or not; a trail that fails ends the session itself.
        let _ = self.trail.notes(&self.running.session.context(), &buffer);
    }
}

/// Whether an answer may be of something that stands before the target, which itself goes on with the request (bad
/// gateway, unavailable, gateway timeout: RFC 9110, section 15.6).
pub(super) fn says_nothing_of_it(status: u16) -> bool {
    matches!(status, 502..=504)
}

/// What clients are sent.
pub(super) enum Answered {
    /// Words of our own.
    Ours(Option<Bytes>),
    Theirs(Box<Theirs>),
}

impl Answered {
    /// The request goes on for as long as its answer.
    pub fn keep(&mut self, underway: Underway) {
        if let Self::Theirs(theirs) = self {
            theirs.underway = Some(underway);
        }
    }
}

pub(super) struct Theirs {
    from: From,
    hold: Arc<Hold>,
    /// `None`: the guard has it.
    ends: Option<Ends>,
    guard: Option<AbortHandle>,
    /// The proxy reads it itself: its client is not waited for.
    is_read_here: bool,
    /// It is a stream of HTTP/2, whose client may leave even the last of it untaken for as long as it likes.
    is_stream: bool,
    /// Why it was cut, where that was seen here.
    pub cut: Option<Refusal>,
    account: Account,
    seals: Option<Seals>,
    /// Stopped at the target where the answer does not come to its end.
    lasting: Option<Lasting>,
    underway: Option<Underway>,
}

/// What puts a sealed id in the place of the target's.
pub(super) struct Seals {
    scanner: Scanner,
    given: Given,
}

impl Seals {
    pub fn new(given: Given) -> Self {
        Self { scanner: Scanner::new(given.gives.member), given }
    }

    fn pass(&mut self, data: Bytes) -> Result<Bytes, &'static str> {
        if self.scanner.is_done() {
            return Ok(data);
        }
        let given = &self.given;
        self.scanner.pass(&data, &mut |id| given.seal(id)).map(Bytes::from)
    }
}

/// What an answer under way holds.
struct Hold {
    place: Arc<Place>,
    /// `None`: it has gone back, or was closed.
    lent: Mutex<Option<Lent>>,
    /// We ended it.
    cut: AtomicBool,
    /// The client's, in taking the answer.
    pace: Pace,
    /// Told when the client's connection has to go because nothing moves on it.
    stuck: Arc<Notify>,
}

impl Hold {
    fn lent(&self) -> MutexGuard<'_, Option<Lent>> {
        self.lent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<Lent> {
        self.lent().take()
    }

    /// Moves what can be moved of the answer.
    fn drive(&self, cx: &mut Context<'_>) {
        if let Some(lent) = &mut *self.lent() {
            lent.drive(cx);
        }
    }

    /// Closes the connection to the target. What comes of the answer after that is not its end, whatever it looks like.
    fn close(&self) {
        self.cut.store(true, Relaxed);
        drop(self.take());
    }

    /// Ends the exchange in its time, whether its client goes on reading or not: who does not read is not asked for
    /// more of an answer, so nothing else would learn of the end.
    async fn guard(self: Arc<Self>, ends: Ends, gone: Arc<Gone>) {
        tokio::select! {
            _ = ends => {}
            () = self.pace.too_slow(&self.place) => {}
            () = gone.pace.too_slow(&self.place) => {}
        }
        self.close();
        tokio::time::sleep(limits::CUT_FLUSH).await;
        self.stuck.notify_one();
    }
}

enum From {
    Target(Incoming),
    /// What is shown of an answer that was read; its room in memory is given back with it.
    Kept {
        bytes: Bytes,
        _room: Taken,
    },
}

impl Theirs {
    /// `stuck`: told when the client's connection has to go.
    pub fn new(
        body: Incoming,
        status: u16,
        (lent, seals, lasting): (Lent, Option<Seals>, Option<Lasting>),
        ends: Ends,
        mut account: Account,
        stuck: Arc<Notify>,
    ) -> Self {
        account.status = status;
        let place = lent.place().clone();
        let hold = Hold {
            place,
            lent: Mutex::new(Some(lent)),
            cut: AtomicBool::new(false),
            pace: Pace::default(),
            stuck,
        };
        Self {
            from: From::Target(body),
            hold: Arc::new(hold),
            ends: Some(ends),
            guard: None,
            is_read_here: false,
            is_stream: connection::is_stream(),
            cut: None,
            account,
            seals,
            lasting,
            underway: None,
        }
    }

    /// What there is next, for the proxy itself. Cancel safe.
    pub async fn next(&mut self) -> Option<io::Result<Bytes>> {
        self.is_read_here = true;
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    /// What is said to come at least, in bytes.
    pub fn lower_bound(&self) -> u64 {
        self.size_hint().lower()
    }

    /// Shows this instead of an answer that has been read to its end. `room`: what it takes of memory.
    pub fn show(&mut self, instead: Bytes, room: Taken) {
        self.from = From::Kept { bytes: instead, _room: room };
        self.is_read_here = false;
        self.account.down = 0;
        self.account.whole = false;
    }

    fn size_hint(&self) -> SizeHint {
        match &self.from {
            From::Target(_) if self.seals.is_some() => SizeHint::default(),
            From::Target(body) => body.size_hint(),
            From::Kept { bytes, .. } => SizeHint::with_exact(bytes.len() as u64),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.from {
            From::Target(body) => body.is_end_stream(),
            From::Kept { bytes, .. } => bytes.is_empty(),
        }
    }

    /// The answer has ended. The connection goes back only if the request has ended too: a target that answers before
    /// it has read everything may take the rest for the next request.
    fn finish(&mut self) {
        self.account.whole = true;
        // What stands before a target may have given it up, and it goes on.
        let is_theirs = !says_nothing_of_it(self.account.status);
        if let Some(lasting) = self.lasting.take().filter(|_| is_theirs) {
            lasting.ended();
        }
        // One without an id in it has opened nothing.
        if let Some(seals) = self.seals.as_ref().filter(|_| is_theirs) {
            seals.given.is_refused();
        }
        if let Some(lent) = self.hold.take()
            && self.account.gone.whole.load(Relaxed)
        {
            lent.put_back();
        }
    }

    fn fail(
        &mut self,
        error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Poll<Option<io::Result<Bytes>>> {
        self.hold.close();
        Poll::Ready(Some(Err(io::Error::other(error))))
    }

    /// From now on it may be that nobody asks for more.
    fn keep_guard(&mut self) {
        if self.is_read_here {
            return;
        }
        if let Some(ends) = self.ends.take() {
            let guard = self.hold.clone().guard(ends, self.account.gone.clone());
            self.guard = Some(tokio::spawn(guard).abort_handle());
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if let Some(ends) = &mut self.ends
            && let Poll::Ready(refusal) = ends.as_mut().poll(cx)
        {
            let code = refusal.code();
            self.cut = Some(refusal);
            return self.fail(code);
        }
        loop {
            let body = match &mut self.from {
                From::Target(body) => body,
                From::Kept { bytes, .. } => {
                    // In parts, so that its end is seen between them.
                    let part = bytes.split_to(bytes.len().min(limits::HTTP_PART_BYTES_MAX));
                    let is_last = bytes.is_empty();
                    return self.pass_kept(part, is_last);
                }
            };
            self.hold.drive(cx);
            let next = Pin::new(body).poll_frame(cx);
            self.hold.pace.waits_for_client(next.is_ready());
            if self.hold.cut.load(Relaxed) {
                return self.fail("cut");
            }
            let frame = match next {
                Poll::Pending => {
                    // A client that still sends may stop to.
                    if !self.account.gone.whole.load(Relaxed) {
                        self.keep_guard();
                    }
                    return Poll::Pending;
                }
                Poll::Ready(None) if self.seals.as_ref().is_some_and(|seals| !seals.scanner.may_end()) => {
                    return self.broken("the answer ends within an id");
                }
                Poll::Ready(None) => {
                    self.finish();
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(Err(error))) => {
                    tracing::debug!(%error, "an answer of a target broke off");
                    self.hold.close();
                    // What came before that goes first: the client gets what there is of the answer.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(frame))) => frame,
            };
            // Trailers stay here.
            let Ok(data) = frame.into_data() else { continue };
            self.account.down += data.len() as u64;
            self.account.counting.push(&data);
            self.hold.pace.moved(data.len());
            let is_last = self.is_end_stream();
            if !is_last || self.is_stream {
                self.keep_guard();
            }
            let data = match self.seals.as_mut().map_or(Ok(data.clone()), |seals| seals.pass(data)) {
                Ok(data) => data,
                Err(why) => return self.broken(why),
            };
            // Its connection goes back at once: the client may take its time.
            if is_last && self.seals.as_ref().is_none_or(|seals| seals.scanner.may_end()) {
                self.finish();
            }
            // All of it may be held back.
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(data)));
            }
        }
    }

    fn pass_kept(&mut self, part: Bytes, is_last: bool) -> Poll<Option<io::Result<Bytes>>> {
        if self.hold.cut.load(Relaxed) {
            return self.fail("cut");
        }
        self.hold.pace.waits_for_client(true);
        self.account.down += part.len() as u64;
        self.hold.pace.moved(part.len());
        if !is_last || self.is_stream {
            self.keep_guard();
        }
        if is_last {
            self.finish();
        }
        Poll::Ready(Some(part).filter(|part| !part.is_empty()).map(Ok))
    }

    fn broken(&mut self, why: &'static str) -> Poll<Option<io::Result<Bytes>>> {
        tracing::warn!(why, "an answer of a target cannot be passed on");
        self.fail(why)
    }
}

impl Drop for Theirs {
    fn drop(&mut self) {
        if let Some(guard) = &self.guard {
            guard.abort();
        }
        // An answer without a body is not asked for one.
        if self.is_end_stream() && !self.hold.cut.load(Relaxed) {
            self.finish();
        } else {
            self.hold.close();
        }
    }
}

impl Body for Answered {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut *self {
            Self::Ours(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Theirs(theirs) => theirs.poll(cx).map(|next| next.map(|next| next.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Ours(bytes) => bytes.is_none(),
            // What is held back may not be let through at the end.
            Self::Theirs(theirs) => theirs.seals.is_none() && theirs.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Ours(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Theirs(theirs) => theirs.size_hint(),
        }
    }
}
