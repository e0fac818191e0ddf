//! One client connection: TLS, then requests one after the other.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

use super::HttpDoor;
use super::session::Session;
use super::stream::Rewound;
use crate::model::{EndCause, GrantId, Name, Refusal, SessionId, limits};
use crate::protocol::http::Api;
use crate::protocol::session::{TlsFacts, TlsOffer};
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
    /// Told when it has to go because nothing moves on it.
    pub stuck: Arc<Notify>,
    state: Mutex<State>,
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
    let Ok(Some((stream, tls))) = secured else { return };
    let mut drain = door.shared.drain.clone();
    let state = State { arrival: Some(arrival), ..State::default() };
    let id = door.shared.ids.next();
    let stuck = Arc::new(Notify::new());
    let connection = Arc::new(Connection {
        door,
        entrance,
        peer,
        tls,
        id,
        stuck: stuck.clone(),
        state: Mutex::new(state),
    });
    let service = service_fn(move |request| {
        let connection = connection.clone();
        async move { Ok::<_, Infallible>(connection.answer(request).await) }
    });
    let serving = Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HTTP_HEAD_WAIT)
        .max_buf_size(limits::HTTP_HEAD_BYTES_MAX)
        .half_close(false)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    tokio::select! {
        ended = serving.as_mut() => return said(ended, peer),
        () = stuck.notified() => return,
        _ = drain.wait_for(|drain| *drain != Drain::No) => serving.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        ended = serving.as_mut() => return said(ended, peer),
        () = stuck.notified() => return,
        () = Drain::now(&mut drain) => {}
    }
    // Its sessions end what is under way; what is said of that is given a moment.
    let _ = tokio::time::timeout(limits::CUT_FLUSH, serving).await;
}

fn said(ended: hyper::Result<()>, peer: Peer) {
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection ended");
    }
}

/// TLS as the listener says, told by the first byte. `None`: it is over.
async fn secure(caller: Caller, entrance: &Entrance, api: &dyn Api) -> Option<(Rewound, Option<TlsFacts>)> {
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
            Some((Rewound::new(BytesMut::new().freeze(), Stream::Downstream(Box::new(tls))), Some(facts)))
        }
        // Nothing that we could say would be understood.
        (true, None) => None,
        (false, _) if entrance.tls == TlsOffer::Required => {
            say(&mut stream, api, &Refusal::TlsRequired).await;
            None
        }
        (false, _) => Some((Rewound::new(input.freeze(), stream), None)),
    }
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
