//! Keep-alive connections to targets, per target and level. One is lent for one exchange; it goes back when request and
//! answer have both ended, and hyper finds nothing behind them. Dropping one closes its socket.
//!
//! A connection has no task of its own: who has it moves its bytes, so that an exchange is the work of one task from
//! one socket to the other, and nobody has to be woken for it.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::ThreadId;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, Builder, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, rt};
use hyper_util::rt::TokioIo;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::stopping::{Lasting, Stops};
use super::upload::Upload;
use crate::credential::Secret;
use crate::grant::Book;
use crate::model::{
    AccessLevel, AuthMethod, Connector, Name, PoolSettings, Refusal, Surety, Target, TlsMode, TlsNegotiation,
    Upstream, limits,
};
use crate::pool::Dialer;
use crate::secret::Secrets;
use crate::tls::{Stream, UpstreamTls};

/// The places where requests go.
pub(super) struct Upstreams {
    secrets: Arc<Secrets>,
    base: PathBuf,
    places: Mutex<HashMap<(Name, AccessLevel), Arc<Place>>>,
}

/// Where and as whom; what differs in any of it is another place.
struct Plan {
    address: String,
    tls: TlsMode,
    tls_ca: Option<String>,
    upstream: Upstream,
    secret: String,
    settings: PoolSettings,
}

/// One level of one target.
pub(super) struct Place {
    plan: Plan,
    dialer: Dialer,
    secrets: Arc<Secrets>,
    /// Connections that may be.
    slots: Arc<Semaphore>,
    /// Requests that wait for one of them.
    waiting: Arc<Semaphore>,
    known: Mutex<Option<(Instant, Arc<Login>)>>,
    idle: Mutex<Idle>,
    /// What has to be stopped there.
    pub stops: Stops,
}

/// Who the proxy is there, as it is said in each request.
struct Login {
    secret: Secret,
    host: HeaderValue,
    authorization: Option<HeaderValue>,
}

#[derive(Default)]
struct Idle {
    /// The last one that came back is the next to go.
    connections: Vec<Connection>,
    /// Nothing comes back here any more.
    retired: bool,
}

struct Connection {
    sender: SendRequest<Upload>,
    /// What moves its bytes. `None`: it has ended.
    bytes: Option<Box<http1::Connection<Wire, Upload>>>,
    unsent: Arc<AtomicBool>,
    /// The worker that made it, whose driver sees what comes on it.
    home: ThreadId,
    born: Instant,
    since: Instant,
    epoch: u64,
}

/// A socket that tells whether all that hyper has of requests has gone out. hyper is ready for the next one when the
/// last of a body is in its own buffer, and flushes when nothing is in that any more.
struct Wire {
    stream: TokioIo<Stream>,
    unsent: Arc<AtomicBool>,
}

impl rt::Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl rt::Write for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.unsent.store(true, Relaxed);
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.unsent.store(false, Relaxed);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Connection {
    /// Moves what can be moved now; the task is woken when there may be more.
    fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(bytes) = &mut self.bytes
            && Pin::new(bytes).poll(cx).is_ready()
        {
            self.bytes = None;
        }
    }

    /// Whether another exchange may begin. What came on it while it was idle, its end as well, is seen here. What the
    /// system has taken of a request and not sent yet is not: a target that answers early and does not read on has to
    /// keep to where the request ends.
    fn is_ready(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.sender.is_ready() && !self.unsent.load(Relaxed)
    }

    /// Sends a request and waits for the head of its answer.
    async fn exchange(
        &mut self,
        request: Request<Upload>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Upload>>> {
        let mut answered = pin!(self.sender.try_send_request(request));
        std::future::poll_fn(|cx| {
            self.drive(cx);
            answered.as_mut().poll(cx)
        })
        .await
    }

    /// An answer to the end, which is bounded.
    async fn whole(&mut self, response: Response<Incoming>) -> Result<(StatusCode, Vec<u8>), Refusal> {
        let (head, body) = response.into_parts();
        let mut body = pin!(http_body_util::Limited::new(body, limits::HTTP_ALIASES_BYTES_MAX).collect());
        let body = std::future::poll_fn(|cx| {
            self.drive(cx);
            body.as_mut().poll(cx)
        });
        let body = body.await.map_err(|_| Refusal::UpstreamLost)?.to_bytes();
        Ok((head.status, body.to_vec()))
    }
}

/// A connection beside the pool's, for orders that must not wait for one of those; made when it is needed.
#[derive(Default)]
pub(super) struct Aside(Option<Connection>);

/// A connection that is lent for one exchange.
pub(super) struct Lent {
    connection: Connection,
    place: Arc<Place>,
    _slot: OwnedSemaphorePermit,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who serves a level of a target, if anybody does.
fn connector<'a>(target: &'a Target, level: &AccessLevel) -> Option<&'a Connector> {
    let connector = target.connectors.get(level).filter(|connector| connector.suspended.is_none());
    connector.filter(|_| target.suspended.is_none())
}

impl Plan {
    fn new(target: &Target, connector: &Connector) -> Self {
        Self {
            address: target.address.clone(),
            tls: target.tls,
            tls_ca: target.tls_ca.clone(),
            upstream: target.upstream.clone(),
            secret: connector.secret.clone(),
            settings: target.pool,
        }
    }

    /// Whether a new one would be the same.
    fn holds(&self, target: &Target, connector: &Connector) -> bool {
        let Self { address, tls, tls_ca, upstream, secret, settings } = self;
        *address == target.address
            && *tls == target.tls
            && *tls_ca == target.tls_ca
            && *upstream == target.upstream
            && *secret == connector.secret
            && *settings == target.pool
    }
}

impl Upstreams {
    pub fn new(secrets: Arc<Secrets>, base: PathBuf) -> Self {
        Self { secrets, base, places: Mutex::default() }
    }

    pub fn place(&self, target: &Target, level: &AccessLevel) -> Result<Arc<Place>, Refusal> {
        let connector = connector(target, level).ok_or(Refusal::TargetUnavailable)?;
        let key = (target.name.clone(), level.clone());
        let mut places = lock(&self.places);
        if let Some(place) = places.get(&key).filter(|place| place.plan.holds(target, connector)) {
            return Ok(place.clone());
        }
        let made = self.make(Plan::new(target, connector)).map_err(|error| {
            tracing::error!(target_name = %target.name, %level, error, "the target cannot be used");
            Refusal::TargetUnavailable
        })?;
        if let Some(before) = places.insert(key, made.clone()) {
            before.retire();
        }
        Ok(made)
    }

    fn make(&self, plan: Plan) -> Result<Arc<Place>, String> {
        let ca = plan.tls_ca.as_ref().map(|file| self.base.join(file));
        let tls = UpstreamTls::new(plan.tls, TlsNegotiation::default(), &[], ca.as_deref())
            .map_err(|error| error.to_string())?;
        let dialer = Dialer {
            address: plan.address.clone(),
            tls,
            rules: plan.upstream.clone(),
            timeout: Duration::from_secs(plan.settings.connect_seconds_max.max(1).into()),
        };
        Ok(Arc::new(Place {
            slots: Arc::new(Semaphore::new(plan.settings.size_max as usize)),
            waiting: Arc::new(Semaphore::new(plan.settings.waiting_max as usize)),
            plan,
            dialer,
            secrets: self.secrets.clone(),
            known: Mutex::default(),
            idle: Mutex::default(),
            stops: Stops::default(),
        }))
    }

    /// Makes the places follow the targets.
    pub fn refresh(&self, book: &Book, protocol: &str) {
        lock(&self.places).retain(|(name, level), place| {
            let target = book.target(name.as_str()).filter(|target| target.protocol == protocol);
            let stays = target.is_some_and(|target| {
                connector(target, level).is_some_and(|connector| place.plan.holds(target, connector))
            });
            if !stays {
                place.retire();
            }
            stays
        });
    }

    pub fn sweep(&self) {
        lock(&self.places).values().for_each(|place| place.sweep());
    }

    pub fn close(&self) {
        lock(&self.places).drain().for_each(|(_, place)| place.retire());
    }

    /// Asks a target whether it knows the connector, as `target check` does; the error is one sentence.
    pub async fn check(
        &self,
        target: &Target,
        level: &AccessLevel,
        probe: &'static str,
    ) -> Result<(), String> {
        let cannot = |refusal: Refusal| format!("{refusal}; the log says why");
        let place = self.place(target, level).map_err(cannot)?;
        let (status, _) = place.ask(probe).await.map_err(cannot)?;
        match status {
            status if status.is_success() => Ok(()),
            status => Err(format!("the target answers GET {probe} with {status}")),
        }
    }
}

impl Place {
    fn retire(&self) {
        let mut idle = lock(&self.idle);
        idle.retired = true;
        idle.connections.clear();
    }

    fn sweep(&self) {
        let now = Instant::now();
        let most = Duration::from_secs(self.plan.settings.idle_seconds_max.into());
        lock(&self.idle)
            .connections
            .retain_mut(|connection| now - connection.since < most && connection.is_ready());
    }

    /// Whether requests wait for a connection.
    pub fn others_wait(&self) -> bool {
        self.waiting.available_permits() < self.plan.settings.waiting_max as usize
    }

    /// The connector's login; read again from time to time.
    fn login(&self) -> Result<Arc<Login>, Refusal> {
        let mut known = lock(&self.known);
        if let Some((read, login)) = &*known
            && read.elapsed() < limits::SECRET_LOOK
        {
            return Ok(login.clone());
        }
        match self.secrets.read(&self.plan.secret) {
            Ok(secret) => {
                let login = Arc::new(Login::new(&self.plan.address, secret)?);
                *known = Some((Instant::now(), login.clone()));
                Ok(login)
            }
            Err(error) => {
                tracing::error!(address = self.plan.address, %error, "a connector's secret cannot be read");
                // The last good one is kept.
                known.as_ref().map(|(_, login)| login.clone()).ok_or(Refusal::TargetUnavailable)
            }
        }
    }

    /// A connection for one exchange, with the login for its head. Cancel safe.
    async fn lend(self: &Arc<Self>, fresh: bool) -> Result<(Lent, Arc<Login>), Refusal> {
        let login = self.login()?;
        let slot = self.slot().await?;
        let most = Duration::from_secs(self.plan.settings.age_seconds_max.into());
        while !fresh && let Some(mut connection) = self.take() {
            let fits = connection.epoch == login.secret.epoch() && connection.born.elapsed() < most;
            if fits && connection.is_ready() {
                connection.since = Instant::now();
                return Ok((Lent { connection, place: self.clone(), _slot: slot }, login));
            }
        }
        let connection = self.dial(&login.secret).await?;
        Ok((Lent { connection, place: self.clone(), _slot: slot }, login))
    }

    /// One of this worker's where there is one: what comes on another's wakes two threads.
    fn take(&self) -> Option<Connection> {
        let here = std::thread::current().id();
        let connections = &mut lock(&self.idle).connections;
        let ours = connections.iter().rposition(|connection| connection.home == here);
        Some(connections.remove(ours.or(connections.len().checked_sub(1))?))
    }

    async fn slot(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        if let Ok(slot) = self.slots.clone().try_acquire_owned() {
            return Ok(slot);
        }
        let _waiting = self.waiting.try_acquire().map_err(|_| Refusal::PoolExhausted)?;
        let wait = Duration::from_secs(self.plan.settings.wait_seconds_max.into());
        let slot = tokio::time::timeout(wait, self.slots.clone().acquire_owned()).await;
        slot.map_err(|_| Refusal::PoolExhausted)?.map_err(|_| Refusal::PoolExhausted)
    }

    async fn dial(&self, secret: &Secret) -> Result<Connection, Refusal> {
        let unreachable = |error: &dyn std::fmt::Display| {
            tracing::warn!(address = self.plan.address, %error, "the target cannot be reached");
            Refusal::TargetUnavailable
        };
        let (stream, server_known) = self.dialer.reach(secret).await.map_err(|error| unreachable(&error))?;
        let surety = Surety { server_known, has_password: secret.has_password() };
        let clear = !stream.is_tls() && !server_known;
        let method = if secret.has_password() { AuthMethod::Password } else { AuthMethod::None };
        if (secret.has_password() && clear) || !self.plan.upstream.accepts(method, surety) {
            let what =
                "the connector's password is not shown to a server that is not known: set tls to verify-full";
            return Err(unreachable(&what));
        }
        let unsent = Arc::new(AtomicBool::new(false));
        let (sender, bytes) = Builder::new()
            .max_buf_size(limits::HTTP_HEAD_BYTES_MAX)
            .handshake(Wire { stream: TokioIo::new(stream), unsent: unsent.clone() })
            .await
            .map_err(|error| unreachable(&error))?;
        let now = Instant::now();
        let home = std::thread::current().id();
        let bytes = Some(Box::new(bytes));
        Ok(Connection { sender, bytes, unsent, home, born: now, since: now, epoch: secret.epoch() })
    }

    /// Sends a request and waits for the head of its answer. Where an idle connection turned out to be closed before
    /// anything was sent, it is sent over a new one. Not cancel safe: dropping it closes the connection.
    pub async fn send(
        self: &Arc<Self>,
        mut request: Request<Upload>,
        lasting: Option<&Lasting>,
    ) -> Result<(Lent, Response<Incoming>), Refusal> {
        let mut fresh = false;
        loop {
            let (mut lent, login) = self.lend(fresh).await?;
            login.dress(&mut request);
            if let Some(lasting) = lasting {
                lasting.sent();
            }
            match lent.connection.exchange(request).await {
                Ok(response) => return Ok((lent, response)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) if !fresh => {
                        request = unsent;
                        fresh = true;
                    }
                    _ => {
                        let error = error.into_error();
                        tracing::warn!(address = self.plan.address, %error, "an exchange with the target broke");
                        return Err(Refusal::UpstreamLost);
                    }
                },
            }
        }
    }

    /// A question of our own; the answer is bounded.
    pub async fn ask(self: &Arc<Self>, target: &str) -> Result<(StatusCode, Vec<u8>), Refusal> {
        self.exchange(Method::GET, target, None).await
    }

    /// An order of our own, with JSON where it has a body.
    pub async fn order(
        self: &Arc<Self>,
        method: Method,
        target: &str,
        body: String,
    ) -> Result<StatusCode, Refusal> {
        let body = Some(body).filter(|body| !body.is_empty());
        self.exchange(method, target, body).await.map(|(status, _)| status)
    }

    async fn exchange(
        self: &Arc<Self>,
        method: Method,
        target: &str,
        body: Option<String>,
    ) -> Result<(StatusCode, Vec<u8>), Refusal> {
        let request = own(method, target, body)?;
        let asked = async {
            let (mut lent, response) = self.send(request, None).await?;
            let said = lent.connection.whole(response).await?;
            lent.put_back();
            Ok(said)
        };
        tokio::time::timeout(limits::HTTP_ASK_WAIT, asked).await.map_err(|_| Refusal::TargetUnavailable)?
    }

    /// A question or an order of our own that does not wait for a connection of the pool. After an error the
    /// connection is not to be used again.
    pub async fn aside(
        &self,
        aside: &mut Aside,
        method: Method,
        target: &str,
    ) -> Result<(StatusCode, Vec<u8>), Refusal> {
        let mut request = own(method, target, None)?;
        let asked = async {
            let login = self.login()?;
            let kept = match aside.0.take() {
                Some(mut kept) => kept.is_ready().then_some(kept),
                None => None,
            };
            let mut connection = match kept {
                Some(kept) => kept,
                None => self.dial(&login.secret).await?,
            };
            login.dress(&mut request);
            let sent = connection.exchange(request).await;
            let said = connection.whole(sent.map_err(|_| Refusal::UpstreamLost)?).await?;
            aside.0 = Some(connection);
            Ok(said)
        };
        tokio::time::timeout(limits::HTTP_ASK_WAIT, asked).await.map_err(|_| Refusal::TargetUnavailable)?
    }

    pub fn address(&self) -> &str {
        &self.plan.address
    }
}

/// A request of our own, with JSON where it has a body.
fn own(method: Method, target: &str, body: Option<String>) -> Result<Request<Upload>, Refusal> {
    let has_body = body.is_some();
    let upload = body.map_or_else(Upload::nothing, |body| Upload::ours(body.into()));
    let mut request = Request::new(upload.0);
    if has_body {
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    *request.method_mut() = method;
    *request.uri_mut() = target.parse().map_err(|_| Refusal::TargetUnavailable)?;
    Ok(request)
}

impl Login {
    fn new(address: &str, secret: Secret) -> Result<Self, Refusal> {
        let host = if address.starts_with("unix:") { "localhost" } else { address };
        let host = HeaderValue::from_str(host).map_err(|_| Refusal::TargetUnavailable)?;
        let authorization = match secret.has_password() {
            false => None,
            true => {
                let login = Zeroizing::new(format!("{}:{}", secret.username(), secret.password()));
                let text = Zeroizing::new(format!("Basic {}", STANDARD.encode(login.as_bytes())));
                let mut value = HeaderValue::from_str(&text).map_err(|_| Refusal::TargetUnavailable)?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        Ok(Self { secret, host, authorization })
    }

    /// Puts it on.
    fn dress(&self, request: &mut Request<Upload>) {
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        match &self.authorization {
            Some(value) => drop(headers.insert(AUTHORIZATION, value.clone())),
            None => drop(headers.remove(AUTHORIZATION)),
        }
    }
}

impl Lent {
    pub fn place(&self) -> &Arc<Place> {
        &self.place
    }

    /// Moves what can be moved of the exchange; the task is woken when there may be more.
    pub fn drive(&mut self, cx: &mut Context<'_>) {
        self.connection.drive(cx);
    }

    /// For after a whole exchange: what hyper does not find ready for another is closed.
    pub fn put_back(self) {
        let Self { mut connection, place, _slot: slot } = self;
        if connection.is_ready() {
            connection.since = Instant::now();
            let mut idle = lock(&place.idle);
            if !idle.retired {
                idle.connections.push(connection);
            }
        }
        // Whoever waits finds it there.
        drop(slot);
    }
}
