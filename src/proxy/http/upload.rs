//! The body of a request on its way to a target: read whole first, or passed on as it comes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::fs::File;
use tokio::io::AsyncRead;
use tokio::sync::{mpsc, oneshot};

use super::pace::Pace;
use super::spool::{Kept, Spooled};
use crate::model::{Refusal, limits};

/// How much of a body has gone, and whether that is all of it.
#[derive(Default)]
pub(super) struct Gone {
    pub pace: Pace,
    pub whole: AtomicBool,
}

/// What has been checked of a body on its way. Where the end of the pieces does not come as [`Checked::End`], the
/// body has none.
pub(super) enum Checked {
    Piece(Bytes),
    End,
}

pub(super) struct Upload {
    from: From,
    gone: Arc<Gone>,
}

enum From {
    Nothing,
    /// Kept whole; the room that it takes is given back when it has gone.
    Kept(Spooled, u64),
    Ours(Bytes),
    Client(Streamed),
    /// As it is found to be covered.
    Checked(mpsc::Receiver<Checked>),
}

/// Whether the end of a body may go on.
pub(super) type Look = Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send>>;

/// A client's body.
struct Streamed {
    body: Incoming,
    /// What is held back until that is known: all that there is left, if anything.
    last: Option<Option<Bytes>>,
    /// `None`: it may.
    look: Option<(Look, oneshot::Sender<Refusal>)>,
}

impl Streamed {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.last.is_none() {
            let piece = match std::task::ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => None,
                Some(Err(error)) => return Poll::Ready(Some(Err(io::Error::other(error)))),
                // Trailers say more of a request than was authorized.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => Some(piece),
                    Err(_) => return Poll::Ready(Some(Err(io::Error::other("trailers")))),
                },
            };
            if piece.is_some() && !self.body.is_end_stream() {
                return Poll::Ready(piece.map(Ok));
            }
            self.last = Some(piece);
        }
        if let Some((look, _)) = &mut self.look {
            let seen = std::task::ready!(look.as_mut().poll(cx));
            let say = self.look.take();
            if let (Err(refusal), Some((_, say))) = (seen, say) {
                let _ = say.send(refusal);
                // This is no end.
                self.last = None;
                return Poll::Ready(Some(Err(io::Error::other("cut"))));
            }
        }
        Poll::Ready(self.last.take().flatten().map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.last.is_none() && self.look.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.last {
            Some(last) => SizeHint::with_exact(last.as_ref().map_or(0, |last| last.len() as u64)),
            None => self.body.size_hint(),
        }
    }
}

impl Upload {
    pub fn nothing() -> (Self, Arc<Gone>) {
        Self::of(From::Nothing)
    }

    pub fn kept(body: Spooled) -> (Self, Arc<Gone>) {
        match body.length {
            0 => Self::of(From::Nothing),
            length => Self::of(From::Kept(body, length)),
        }
    }

    pub fn checked(pieces: mpsc::Receiver<Checked>) -> (Self, Arc<Gone>) {
        Self::of(From::Checked(pieces))
    }

    /// A body of our own.
    pub fn ours(body: Bytes) -> (Self, Arc<Gone>) {
        Self::of(From::Ours(body))
    }

    /// A body as it comes. Its end goes on when the last look says so; where that says no, it is told why.
    pub fn client(body: Incoming, look: Look) -> (Self, Arc<Gone>, oneshot::Receiver<Refusal>) {
        let (say, refused) = oneshot::channel();
        let streamed = Streamed { body, last: None, look: Some((look, say)) };
        let (upload, gone) = Self::of(From::Client(streamed));
        (upload, gone, refused)
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
        let this = &mut *self;
        let next = match &mut this.from {
            From::Nothing => None,
            From::Ours(bytes) => match std::mem::take(bytes) {
                bytes if bytes.is_empty() => None,
                bytes => Some(Ok(bytes)),
            },
            From::Kept(body, left) => {
                let piece = match &mut body.kept {
                    Kept::Memory(bytes) => Ok(std::mem::take(bytes)),
                    Kept::File(file) => std::task::ready!(read(file, cx)),
                };
                // The length has been said: what is shorter or longer is not the body.
                let piece = piece.and_then(|piece| match left.checked_sub(piece.len() as u64) {
                    Some(rest) if !piece.is_empty() => Ok((piece, rest)),
                    _ => Err(io::ErrorKind::UnexpectedEof.into()),
                });
                Some(piece.map(|(piece, rest)| {
                    *left = rest;
                    piece
                }))
            }
            From::Checked(pieces) => {
                let next = pieces.poll_recv(cx);
                this.gone.pace.waits_for_client(next.is_pending());
                match std::task::ready!(next) {
                    Some(Checked::Piece(bytes)) => Some(Ok(bytes)),
                    Some(Checked::End) => {
                        this.from = From::Nothing;
                        None
                    }
                    None => Some(Err(io::Error::other("cut"))),
                }
            }
            From::Client(body) => {
                let next = body.poll(cx);
                this.gone.pace.waits_for_client(next.is_pending());
                std::task::ready!(next)
            }
        };
        match &next {
            Some(Ok(bytes)) => {
                self.gone.pace.moved(bytes.len());
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
            From::Kept(_, left) => *left == 0,
            From::Ours(bytes) => bytes.is_empty(),
            From::Checked(_) => false,
            From::Client(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.from {
            From::Nothing => SizeHint::with_exact(0),
            From::Kept(_, left) => SizeHint::with_exact(*left),
            From::Ours(bytes) => SizeHint::with_exact(bytes.len() as u64),
            From::Checked(_) => SizeHint::default(),
            From::Client(body) => body.size_hint(),
        }
    }
}

fn read(file: &mut File, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
    let mut piece = BytesMut::zeroed(limits::HTTP_BODY_READ_BYTES);
    let mut buffer = tokio::io::ReadBuf::new(&mut piece);
    std::task::ready!(Pin::new(file).poll_read(cx, &mut buffer))?;
    let count = buffer.filled().len();
    piece.truncate(count);
    Poll::Ready(Ok(piece.freeze()))
}
