//! The body of a request on its way to a target: read whole first, or passed on as it comes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::model::{Refusal, limits};

/// How much of a body has gone, and whether that is all of it.
#[derive(Default)]
pub(super) struct Gone {
    pub bytes: AtomicU64,
    pub whole: AtomicBool,
}

pub(super) struct Upload {
    from: From,
    gone: Arc<Gone>,
}

enum From {
    Nothing,
    /// Read already; the place that it takes is given back when it has gone.
    Read(Bytes, OwnedSemaphorePermit),
    Client(Incoming),
}

impl Upload {
    pub fn nothing() -> (Self, Arc<Gone>) {
        Self::of(From::Nothing)
    }

    pub fn read(body: Bytes, place: OwnedSemaphorePermit) -> (Self, Arc<Gone>) {
        Self::of(From::Read(body, place))
    }

    pub fn client(body: Incoming) -> (Self, Arc<Gone>) {
        Self::of(From::Client(body))
    }

    fn of(from: From) -> (Self, Arc<Gone>) {
        let gone = Arc::new(Gone::default());
        gone.whole.store(matches!(from, From::Nothing), Relaxed);
        (Self { from, gone: gone.clone() }, gone)
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let next = match &mut self.from {
            From::Nothing => None,
            From::Read(..) => match std::mem::replace(&mut self.from, From::Nothing) {
                From::Read(bytes, _place) if !bytes.is_empty() => Some(Ok(bytes)),
                _ => None,
            },
            From::Client(body) => match std::task::ready!(Pin::new(&mut *body).poll_frame(cx)) {
                None => None,
                Some(Err(error)) => Some(Err(io::Error::other(error))),
                // Trailers say more of a request than was authorized.
                Some(Ok(frame)) => Some(frame.into_data().map_err(|_| io::Error::other("trailers"))),
            },
        };
        match &next {
            Some(Ok(bytes)) => {
                self.gone.bytes.fetch_add(bytes.len() as u64, Relaxed);
            }
            Some(Err(_)) => {}
            None => self.gone.whole.store(true, Relaxed),
        }
        // What has an end that is known is not asked again after its last byte.
        if self.is_end_stream() && !matches!(next, Some(Err(_))) {
            self.gone.whole.store(true, Relaxed);
        }
        Poll::Ready(next.map(|next| next.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.from {
            From::Nothing => true,
            From::Read(bytes, _) => bytes.is_empty(),
            From::Client(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.from {
            From::Nothing => SizeHint::with_exact(0),
            From::Read(bytes, _) => SizeHint::with_exact(bytes.len() as u64),
            From::Client(body) => body.size_hint(),
        }
    }
}

/// Reads a body whole. Cancel safe: dropping it drops the request.
pub(super) async fn read_whole(
    mut body: Incoming,
    bodies: &Arc<Semaphore>,
) -> Result<(Bytes, OwnedSemaphorePermit), Refusal> {
    const TOO_LONG: Refusal =
        Refusal::ProtocolViolation("the body is longer than what the proxy reads whole");
    const BROKEN: Refusal = Refusal::ProtocolViolation("the body is broken");
    if body.size_hint().lower() > limits::HTTP_BODY_BYTES_MAX as u64 {
        return Err(TOO_LONG);
    }
    let mut place: Option<OwnedSemaphorePermit> = None;
    let mut whole = BytesMut::new();
    loop {
        let frame = tokio::time::timeout(limits::HTTP_BODY_WAIT, body.frame()).await;
        let frame = match frame.map_err(|_| Refusal::ProtocolViolation("the body came too slowly"))? {
            None => break,
            Some(frame) => frame.map_err(|_| BROKEN)?,
        };
        let data = frame.into_data().map_err(|_| Refusal::ProtocolViolation("trailers are not taken"))?;
        if whole.len() + data.len() > limits::HTTP_BODY_BYTES_MAX {
            return Err(TOO_LONG);
        }
        grow(&mut place, bodies, whole.len() + data.len())?;
        whole.extend_from_slice(&data);
    }
    Ok((whole.freeze(), held(place, bodies)?))
}

/// Makes the place in memory fit for so many bytes.
pub(super) fn grow(
    place: &mut Option<OwnedSemaphorePermit>,
    bodies: &Arc<Semaphore>,
    bytes: usize,
) -> Result<(), Refusal> {
    let held = place.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
    let Some(more) = bytes.div_ceil(1 << 10).checked_sub(held).filter(|more| *more > 0) else {
        return Ok(());
    };
    let more = u32::try_from(more).map_err(|_| Refusal::PoolExhausted)?;
    let more = bodies.clone().try_acquire_many_owned(more).map_err(|_| Refusal::PoolExhausted)?;
    match place {
        Some(place) => place.merge(more),
        None => *place = Some(more),
    }
    Ok(())
}

/// The place, if there is none an empty one.
pub(super) fn held(
    place: Option<OwnedSemaphorePermit>,
    bodies: &Arc<Semaphore>,
) -> Result<OwnedSemaphorePermit, Refusal> {
    match place {
        Some(place) => Ok(place),
        None => bodies.clone().try_acquire_many_owned(0).map_err(|_| Refusal::PoolExhausted),
    }
}
