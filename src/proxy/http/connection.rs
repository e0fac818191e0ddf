//! One client connection: TLS, then requests, one after the other or in streams of HTTP/2.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, watch};

use super::HttpDoor;
use super::session::Session;
use super::stream::Rewound;
use crate::model::{EndCause, GrantId, Name, Refusal, SessionId, limits};
use crate::protocol::http::Api;
use crate::protocol::session::{TlsFacts, TlsOffer};
use crate::proxy::clock;
use crate::proxy::door::{Caller, Drain, Entrance};
use crate::proxy::listener::Arrival;
use crate::proxy::peer::Peer;
use crate::tls::Stream;

/// What the requests of one connection share.
pub(super) struct Connection {
    pub door: Arc<HttpDoor>,
    pub entrance: Arc<Entrance>,
    pub peer: Peer,
    /// What TLS told us, where there is any.
    pub tls: Option<TlsFacts>,
    /// For the trail, of what has no session.
    pub id: SessionId,
    /// Told when it has to go because nothing moves on it; see [`stuck`].
    stuck: Arc<Notify>,
    /// One at a time is decided on and gets its session, so that what comes at once has one session and one seat.
    pub entering: Mutex<()>,
    /// Requests that have not ended, and when the last one did.
    underway: AtomicUsize,
    last: AtomicU64,
    /// Requests that were taken back, since one got its answer; told when they are too many.
    taken_back: AtomicUsize,
    flooded: Notify,
    state: Mutex<State>,
}

/// A request of a connection, until its answer has ended.
pub(super) struct Underway {
    connection: Arc<Connection>,
    answered: bool,
}

impl Underway {
    pub fn on(connection: &Arc<Connection>) -> Self {
        connection.underway.fetch_add(1, Relaxed);
        Self { connection: connection.clone(), answered: false }
    }

    /// It has an answer, which may go on for long.
    pub fn answered(mut self) -> Self {
        self.answered = true;
        self.connection.taken_back.store(0, Relaxed);
        self
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        let connection = &self.connection;
        connection.last.store(clock::monotonic_micros(), Relaxed);
        connection.underway.fetch_sub(1, Relaxed);
        let taken_back =
            !self.answered && connection.taken_back.fetch_add(1, Relaxed) + 1 > limits::HTTP_TAKEN_BACK_MAX;
        if taken_back {
            connection.flooded.notify_one();
        }
    }
}

/// Runs the streams of a connection of HTTP/2. One that nothing moves on is dropped when it is told so, and the client
/// learns of that by a reset: hyper itself asks nothing of a stream whose client takes nothing.
#[derive(Clone)]
struct Streams;

tokio::task_local! {
    static STUCK: Arc<Notify>;
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let stuck = Arc::new(Notify::new());
        let told = stuck.clone();
        tokio::spawn(STUCK.scope(stuck, async move {
            tokio::select! {
                () = stream => {}
                () = told.notified() => {}
            }
        }));
    }
}

/// What is told when nothing moves on the request that is being answered: its stream, or the connection.
pub(super) fn stuck(connection: &Connection) -> Arc<Notify> {
    STUCK.try_with(Clone::clone).unwrap_or_else(|_| connection.stuck.clone())
}

/// Whether what runs is a stream of HTTP/2.
pub(super) fn is_stream() -> bool {
    STUCK.try_with(|_| ()).is_ok()
}

#[derive(Default)]
struct State {
    /// The last one used comes last.
    sessions: Vec<Arc<Session>>,
    /// Given up when somebody has proven who they are.
    arrival: Option<Arrival>,
    /// Whose session of this connection ended last and why, for when they ask again.
    last_end: Option<(Name, EndCause)>,
}

impl Connection {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody has proven who they are.
    pub fn arrived(&self) {
        self.state().arrival = None;
    }

    /// The grants under which this connection has sessions.
    pub fn held(&self, is_theirs: impl Fn(&Session) -> bool) -> Vec<GrantId> {
        let mut state = self.state();
        let State { sessions, last_end, .. } = &mut *state;
        sessions.retain(|session| {
            if let Some(Refusal::Ended(cause)) = &*session.ended.borrow() {
                *last_end = Some((session.user.clone(), *cause));
            }
            !session.is_over()
        });
        sessions.iter().filter(|session| is_theirs(session)).map(|session| session.grant()).collect()
    }

    /// What became of this person's session, and of nobody else's.
    pub fn last_end(&self, user: &Name) -> Option<EndCause> {
        self.state().last_end.as_ref().filter(|(whose, _)| whose == user).map(|(_, cause)| *cause)
    }

    /// A session that is there.
    pub fn session(&self, fits: impl Fn(&Session) -> bool) -> Option<Arc<Session>> {
        let mut state = self.state();
        let place = state.sessions.iter().position(|session| fits(session) && !session.is_over())?;
        let session = state.sessions.remove(place);
        state.sessions.push(session.clone());
        Some(session)
    }

    /// Keeps a new one; of too many, the one that was not used for longest is let go, and closes when its requests have
    /// ended.
    pub fn keep(&self, session: Arc<Session>) {
        let mut state = self.state();
        if state.sessions.len() >= limits::HTTP_SESSIONS_MAX {
            state.sessions.remove(0);
        }
        state.sessions.push(session);
    }
}

pub(super) async fn serve(door: Arc<HttpDoor>, caller: Caller, entrance: Arc<Entrance>, arrival: Arrival) {
    let login = door.shared.limits.load().login;
    let peer = caller.peer;
    let secured = tokio::time::timeout(login, secure(caller, &entrance, door.api)).await;
    let Ok(Some((stream, tls, is_h2))) = secured else { return };
    let mut drain = door.shared.drain.clone();
    let state = State { arrival: Some(arrival), ..State::default() };
    let id = door.shared.ids.next();
    let connection = Arc::new(Connection {
        door,
        entrance,
        peer,
        tls,
        id,
        stuck: Arc::default(),
        entering: Mutex::default(),
        underway: AtomicUsize::new(0),
        last: AtomicU64::new(clock::monotonic_micros()),
        taken_back: AtomicUsize::new(0),
        flooded: Notify::new(),
        state: Mutex::new(state),
    });
    let answering = connection.clone();
    let service = service_fn(move |request| {
        let connection = answering.clone();
        async move { Ok::<_, Infallible>(connection.answer(request).await) }
    });
    if is_h2 {
        let serving = http2::Builder::new(Streams)
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits::HTTP_STREAMS_MAX)
            .max_pending_accept_reset_streams(limits::HTTP_RESETS_MAX)
            .max_local_error_reset_streams(limits::HTTP_TAKEN_BACK_MAX)
            .max_header_list_size(limits::HTTP_HEAD_BYTES_MAX as u32)
            .initial_stream_window_size(limits::HTTP_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(limits::HTTP_CONNECTION_WINDOW_BYTES)
            .max_send_buf_size(limits::HTTP_STREAM_WINDOW_BYTES as usize)
            .keep_alive_interval(limits::HTTP_HEAD_WAIT)
            .keep_alive_timeout(limits::HTTP_PING_WAIT)
            .serve_connection(TokioIo::new(stream), service);
        // Who does not read loses the stream: others may share the connection.
        let ends = async {
            tokio::select! {
                () = idle(&connection) => {}
                () = connection.flooded.notified() => {}
            }
        };
        attend(serving, |serving| serving.graceful_shutdown(), ends, &mut drain, peer).await;
    } else {
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits::HTTP_HEAD_WAIT)
            .max_buf_size(limits::HTTP_HEAD_BYTES_MAX)
            .half_close(false)
            .serve_connection(TokioIo::new(stream), service);
        let stuck = connection.stuck.notified();
        attend(serving, |serving| serving.graceful_shutdown(), stuck, &mut drain, peer).await;
    }
}

/// Drives a connection to its end, which comes at once with `ends`.
async fn attend<C: Future<Output = hyper::Result<()>>>(
    serving: C,
    shut_down: impl FnOnce(Pin<&mut C>),
    ends: impl Future<Output = ()>,
    drain: &mut watch::Receiver<Drain>,
    peer: Peer,
) {
    tokio::pin!(serving, ends);
    tokio::select! {
        ended = serving.as_mut() => return said(ended, peer),
        () = ends.as_mut() => return,
        _ = drain.wait_for(|drain| *drain != Drain::No) => shut_down(serving.as_mut()),
    }
    tokio::select! {
        ended = serving.as_mut() => return said(ended, peer),
        () = ends => return,
        () = Drain::now(drain) => {}
    }
    // Its sessions end what is under way; what is said of that is given a moment.
    let _ = tokio::time::timeout(limits::CUT_FLUSH, serving).await;
}

/// Resolves when nothing has been asked for as long as a connection of HTTP/1 may wait for its next request.
async fn idle(connection: &Connection) {
    loop {
        tokio::time::sleep(limits::HTTP_HEAD_WAIT / 4).await;
        let last = clock::instant(connection.last.load(Relaxed));
        if connection.underway.load(Relaxed) == 0 && last.elapsed() >= limits::HTTP_HEAD_WAIT {
            return;
        }
    }
}

fn said(ended: hyper::Result<()>, peer: Peer) {
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection ended");
    }
}

/// TLS as the listener says, told by the first byte, and whether it is HTTP/2. `None`: it is over.
async fn secure(
    caller: Caller,
    entrance: &Entrance,
    api: &dyn Api,
) -> Option<(Rewound, Option<TlsFacts>, bool)> {
    /// The first byte of a TLS handshake record (RFC 8446, section 5.1).
    const HANDSHAKE: u8 = 0x16;
    let Caller { mut stream, peer, mut input } = caller;
    if input.is_empty() && stream.read_buf(&mut input).await.ok()? == 0 {
        return None;
    }
    let is_tls = input.first() == Some(&HANDSHAKE);
    let certificate = entrance.certificate.as_ref().filter(|_| entrance.tls != TlsOffer::Unavailable);
    match (is_tls, certificate) {
        (true, Some(certificate)) => {
            let Stream::Plain(socket) = stream else { return None };
            let shaken = certificate.accept(socket, &input).await;
            let (tls, facts) =
                shaken.map_err(|error| tracing::debug!(%peer, %error, "a TLS handshake failed")).ok()?;
            let is_h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
            let stream = Rewound::new(BytesMut::new().freeze(), Stream::Downstream(Box::new(tls)));
            Some((stream, Some(facts), is_h2))
        }
        // Nothing that we could say would be understood.
        (true, None) => None,
        (false, _) if entrance.tls == TlsOffer::Required => {
            say(&mut stream, api, &Refusal::TlsRequired).await;
            None
        }
        (false, _) => {
            let is_h2 = begins_h2(&mut stream, &mut input).await?;
            Some((Rewound::new(input.freeze(), stream), None, is_h2))
        }
    }
}

/// Whether a client speaks HTTP/2 without having asked (RFC 9113, section 3.3). `None`: it is over. Not cancel safe.
async fn begins_h2(stream: &mut Stream, input: &mut BytesMut) -> Option<bool> {
    /// No method of HTTP/1 is called so.
    const PREFACE: &[u8] = b"PRI * HTTP/2.0";
    while input.len() < PREFACE.len() && PREFACE.starts_with(input) {
        if stream.read_buf(input).await.ok()? == 0 {
            return None;
        }
    }
    Some(input.starts_with(PREFACE))
}

/// Tells a connection that is one too many so.
pub(super) async fn turn_away(caller: Caller, entrance: &Entrance, api: &dyn Api, refusal: &Refusal) {
    let Caller { mut stream, .. } = caller;
    // Where TLS is needed nothing is said outside of it.
    if entrance.tls != TlsOffer::Required {
        say(&mut stream, api, refusal).await;
    }
}

/// An answer without a request that was read.
async fn say(stream: &mut Stream, api: &dyn Api, refusal: &Refusal) {
    let answer = api.answer(refusal);
    let reason = hyper::StatusCode::from_u16(answer.status).ok().and_then(|status| status.canonical_reason());
    let text = format!(
        "HTTP/1.1 {} {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{}",
        answer.status,
        reason.unwrap_or_default(),
        answer.body.len(),
        answer.body
    );
    let said = async {
        stream.write_all(text.as_bytes()).await?;
        crate::proxy::session::linger(stream).await
    };
    let _ = tokio::time::timeout(limits::CUT_FLUSH, said).await;
}
