//! The answer on its way to the client: passed on as it comes, ended with its session, and written down when it is
//! over.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::session::Running;
use super::upload::Gone;
use super::upstream::Lent;
use crate::model::{Note, Notes, Refusal, limits};
use crate::observe::Trail;
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
}

impl Account {
    pub fn new(running: Running, trail: Trail, gone: Arc<Gone>) -> Self {
        Self { running, trail, gone, began: Instant::now(), status: 0, down: 0, whole: false }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let up = self.gone.bytes.load(Relaxed);
        let mut buffer = Vec::new();
        let status = if self.status == 0 { String::new() } else { self.status.to_string() };
        Notes::new(&mut buffer, clock::wall_micros()).push(&Note::Result {
            number: self.running.number,
            tag: status.as_bytes(),
            rows: 0,
            bytes_up: up,
            bytes_down: self.down,
            micros: self.began.elapsed().as_micros() as u64,
            sqlstate: if self.whole { b"" } else { b"unfinished" },
        });
        self.running.session.moved(up, self.down);
        // It is over whether this can be written or not; a trail that fails ends the session itself.
        let _ = self.trail.notes(&self.running.session.context(), &buffer);
    }
}

/// What clients are sent.
pub(super) enum Answered {
    /// Words of our own.
    Ours(Option<Bytes>),
    Theirs(Box<Theirs>),
}

pub(super) struct Theirs {
    from: From,
    /// `None`: it has gone back, or was closed.
    lent: Option<Lent>,
    ends: Ends,
    /// Why it was cut.
    pub cut: Option<Refusal>,
    account: Account,
}

enum From {
    Target(Incoming),
    /// What is shown of an answer that was read; its place in memory is given back with it.
    Kept {
        bytes: Bytes,
        _place: OwnedSemaphorePermit,
    },
}

impl Theirs {
    pub fn new(body: Incoming, status: u16, lent: Lent, ends: Ends, mut account: Account) -> Self {
        account.status = status;
        Self { from: From::Target(body), lent: Some(lent), ends, cut: None, account }
    }

    /// What there is next. Cancel safe.
    pub async fn next(&mut self) -> Option<io::Result<Bytes>> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    /// What is said to come at least, in bytes.
    pub fn lower_bound(&self) -> u64 {
        self.size_hint().lower()
    }

    /// Shows this instead of an answer that has been read to its end.
    pub fn show(&mut self, instead: Bytes, place: OwnedSemaphorePermit) {
        self.from = From::Kept { bytes: instead, _place: place };
        self.account.down = 0;
        self.account.whole = false;
    }

    fn size_hint(&self) -> SizeHint {
        match &self.from {
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
        if let Some(lent) = self.lent.take()
            && self.account.gone.whole.load(Relaxed)
        {
            lent.put_back();
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if let Poll::Ready(refusal) = self.ends.as_mut().poll(cx) {
            self.lent = None;
            let code = refusal.code();
            self.cut = Some(refusal);
            return Poll::Ready(Some(Err(io::Error::other(code))));
        }
        loop {
            let body = match &mut self.from {
                From::Target(body) => body,
                From::Kept { bytes, .. } if bytes.is_empty() => {
                    self.finish();
                    return Poll::Ready(None);
                }
                From::Kept { bytes, .. } => {
                    // In parts, so that its end is seen between them.
                    let part = bytes.split_to(bytes.len().min(limits::HTTP_PART_BYTES_MAX));
                    self.account.down += part.len() as u64;
                    if bytes.is_empty() {
                        self.finish();
                    }
                    return Poll::Ready(Some(Ok(part)));
                }
            };
            let frame = match std::task::ready!(Pin::new(body).poll_frame(cx)) {
                None => {
                    self.finish();
                    return Poll::Ready(None);
                }
                Some(Err(error)) => {
                    self.lent = None;
                    return Poll::Ready(Some(Err(io::Error::other(error))));
                }
                Some(Ok(frame)) => frame,
            };
            // Trailers stay here.
            if let Ok(data) = frame.into_data() {
                self.account.down += data.len() as u64;
                return Poll::Ready(Some(Ok(data)));
            }
        }
    }
}

impl Drop for Theirs {
    fn drop(&mut self) {
        // An answer without a body is not asked for one.
        if self.lent.is_some() && self.is_end_stream() {
            self.finish();
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
            Self::Theirs(theirs) => theirs.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Ours(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Theirs(theirs) => theirs.size_hint(),
        }
    }
}
