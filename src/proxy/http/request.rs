//! One request: who asks, what it touches, whether a grant covers that; then it is written down, and goes.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap,
    HeaderName, HeaderValue, ORIGIN, RETRY_AFTER, TRANSFER_ENCODING, UPGRADE, WWW_AUTHENTICATE,
};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode, Version};
use tokio::sync::OwnedSemaphorePermit;

use super::answer::{Account, Answered, Ends, Theirs};
use super::connection::Connection;
use super::session::{Beginning, Running, Session};
use super::shown::{self, Shown};
use super::upload::{Upload, read_whole};
use super::upstream::{Lent, Place};
use crate::credential::Identity;
use crate::grant::Admission;
use crate::identity::Seat;
use crate::model::{
    Claim, Denied, Event, LoginName, Name, Note, Notes, Parameters, Reach, Refusal, StatementKind, Touch,
    limits,
};
use crate::protocol::http::{Api, Asked, Credentials, Path, Routed, Wrong, credentials};
use crate::protocol::session::AcceptContext;
use crate::proxy::clock;
use crate::proxy::door::Drain;
use crate::proxy::login::{cut, source};

/// Why a request is not served, and what is known of who asked.
struct Refused {
    refusal: Refusal,
    why: String,
    /// As claimed, or proven.
    user: Option<String>,
    target: Option<Name>,
    authenticated: bool,
    /// In the trail already, or nothing that belongs there.
    told: bool,
}

/// A request that may go.
struct Admitted {
    admission: Admission,
    seat: Option<Seat>,
    place: Arc<Place>,
}

enum Held {
    Nothing,
    Read(Bytes, OwnedSemaphorePermit),
    Streamed(Incoming),
}

impl Refused {
    fn of(refusal: Refusal) -> Self {
        let why = refusal.to_string();
        Self { refusal, why, user: None, target: None, authenticated: false, told: false }
    }

    fn stranger(refusal: Refusal, why: &'static str, user: Option<&str>) -> Self {
        Self { why: why.to_owned(), user: user.map(cut), ..Self::of(refusal) }
    }
}

impl From<Wrong> for Refused {
    fn from(wrong: Wrong) -> Self {
        Self::of(wrong.into())
    }
}

impl Connection {
    /// Answers one request, whatever it is.
    pub async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Answered> {
        let (head, body) = request.into_parts();
        // The path alone may be shown of what was not understood, and not much of it.
        let line = format!("{} {}", head.method, cut_line(head.uri.path()));
        match self.handle(&head, body).await {
            Ok(response) => response,
            Err(refused) => {
                self.write_down(&refused, &line);
                refusal(self.door.api, &refused.refusal)
            }
        }
    }

    async fn handle(&self, head: &Parts, body: Incoming) -> Result<Response<Answered>, Refused> {
        plain(head)?;
        let target = head.uri.path_and_query().map_or("", |target| target.as_str());
        if let Some(said) = self.door.api.said_to_anybody(head.method.as_str(), target) {
            return Ok(ours(StatusCode::OK, said.to_owned()));
        }
        let (identity, claim) = self.prove(&head.headers).await?;
        self.arrived();
        let known = |refused: Refused| Refused {
            user: Some(claim.user.to_string()),
            target: Some(claim.target.clone()),
            authenticated: true,
            ..refused
        };
        self.serve(head, body, &identity, &claim).await.map_err(known)
    }

    async fn serve(
        &self,
        head: &Parts,
        body: Incoming,
        identity: &Identity,
        claim: &Claim,
    ) -> Result<Response<Answered>, Refused> {
        if *self.door.shared.drain.borrow() != Drain::No {
            return Err(Refused::of(Refusal::ShuttingDown));
        }
        let target = head.uri.path_and_query().map_or("", |target| target.as_str());
        let path = Path::parse(target).map_err(Wrong::Bad)?;
        let routed = self.door.api.route(head.method.as_str(), &path)?;
        let held = self.hold(head, body, &*routed).await?;
        let text: &[u8] = if let Held::Read(bytes, _) = &held { bytes } else { b"" };
        let Asked { touch, part, is_secret } = routed.touch(text)?;
        let forgets = matches!(head.method, Method::PUT | Method::POST | Method::DELETE)
            && touch.level == crate::model::AccessLevel::Admin;
        let Admitted { admission, seat, place } = self.admit(identity, claim, touch).await?;
        let session = self.enter(&admission, seat)?;
        let ends = self.ends(&session, &admission);
        let running = session.run();
        let written = if is_secret { None } else { Some(&held) };
        self.note(&running, head.method.as_str(), &self.door.api.render(&path), written)?;
        let shown = Shown::new(path, part, &admission);
        let response = self.exchange(head, &shown, held, (running, ends, place)).await;
        if forgets {
            self.door.aliases.forget(admission.target());
        }
        response
    }

    /// The body as far as it must be known. A body where none belongs, or of another kind, is refused.
    async fn hold(&self, head: &Parts, body: Incoming, routed: &dyn Routed) -> Result<Held, Refused> {
        if body.is_end_stream() {
            return Ok(Held::Nothing);
        }
        if !routed.takes_body() {
            return Err(Wrong::Bad("this route takes no body").into());
        }
        let kind = single(&head.headers, &CONTENT_TYPE)?;
        if !kind.is_some_and(|kind| self.door.api.reads(kind)) {
            let what = "the body must be JSON or lines of it, and content-type must say so";
            return Err(Wrong::Bad(what).into());
        }
        if !routed.needs_body() {
            return Ok(Held::Streamed(body));
        }
        let (bytes, place) = read_whole(body, &self.door.bodies).await.map_err(Refused::of)?;
        Ok(Held::Read(bytes, place))
    }

    /// The decision, with what aliases stand for taken into it: nothing is asked of a target before a grant covers the
    /// names as they were said.
    async fn admit(&self, identity: &Identity, claim: &Claim, touch: Touch) -> Result<Admitted, Refused> {
        let (admission, seat) = self.decide(identity, claim, &touch)?;
        let place = self.place(&admission)?;
        let named = matches!(&touch.reach, Reach::Names(names) if !names.is_empty());
        if !self.door.api.has_aliases() || admission.scope().is_everything() || !named {
            return Ok(Admitted { admission, seat, place });
        }
        let aliases = self.door.aliases.of(admission.target(), admission.level(), &place).await;
        let resolved = aliases.map_err(Refused::of)?.resolve(&touch);
        if resolved == touch {
            // It may have taken a while.
            return match self.door.shared.ledger.request_ended(&admission) {
                None => Ok(Admitted { admission, seat, place }),
                Some(cause) => Err(Refused::of(Refusal::Ended(cause))),
            };
        }
        drop(seat);
        let (admission, seat) = self.decide(identity, claim, &resolved)?;
        let place = self.place(&admission)?;
        Ok(Admitted { admission, seat, place })
    }

    fn decide(
        &self,
        identity: &Identity,
        claim: &Claim,
        touch: &Touch,
    ) -> Result<(Admission, Option<Seat>), Refused> {
        let held = self.held(|session| session.is_by(identity));
        let decided = self.door.shared.ledger.admit_request(identity, claim, touch.clone(), &held);
        decided.map_err(|not| {
            let refusal = match (self.last_end(), not.refusal) {
                // Its grant ended under it, and there is no other.
                (Some(cause), Refusal::NotGranted) => Refusal::Ended(cause),
                (_, refusal) => refusal,
            };
            Refused { why: not.why, ..Refused::of(refusal) }
        })
    }

    fn place(&self, admission: &Admission) -> Result<Arc<Place>, Refused> {
        let book = self.door.shared.ledger.book();
        let target = book.target(admission.target().as_str());
        let target = target.ok_or_else(|| Refused::of(Refusal::TargetUnavailable))?;
        if target.protocol != self.door.name {
            return Err(Refused::of(Refusal::NotSupported("this protocol for this target")));
        }
        self.door.upstreams.place(target, admission.level()).map_err(Refused::of)
    }

    /// The session that this connection has under the grant, or a new one.
    fn enter(&self, admission: &Admission, seat: Option<Seat>) -> Result<Arc<Session>, Refused> {
        let Some(seat) = seat else {
            let session = self.session(|session| session.is_of(admission));
            // It has ended in this very moment.
            return session.ok_or_else(|| Refused::of(Refusal::NotGranted));
        };
        let beginning = Beginning {
            admission,
            seat,
            protocol: self.door.name,
            peer: self.peer.to_string(),
            via: self.peer.via(),
            tls: self.tls.is_some(),
        };
        let session = Session::begin(&self.door.shared, beginning).map_err(Refused::of)?;
        self.keep(session.clone());
        Ok(session)
    }

    /// When this request may not go on: its session has ended, or its grant does not cover what it touches any more.
    fn ends(&self, session: &Session, admission: &Admission) -> Ends {
        let (ledger, admission) = (self.door.shared.ledger.clone(), admission.clone());
        let mut ended = session.ended.clone();
        let mut changed = ledger.changed();
        changed.mark_changed();
        Box::pin(async move {
            loop {
                tokio::select! {
                    biased;
                    over = ended.wait_for(Option::is_some) => {
                        // A session whose watch is gone has ended as well.
                        let refusal = over.ok().and_then(|refusal| refusal.clone());
                        return refusal.unwrap_or(Refusal::ShuttingDown);
                    }
                    _ = changed.changed() => if let Some(cause) = ledger.request_ended(&admission) {
                        return Refusal::Ended(cause);
                    },
                }
            }
        })
    }

    /// In the trail before a byte of it goes.
    fn note(
        &self,
        running: &Running,
        method: &str,
        target: &str,
        held: Option<&Held>,
    ) -> Result<(), Refused> {
        let mut text = format!("{method} {target}").into_bytes();
        if let Some(Held::Read(bytes, _)) = held {
            text.push(b'\n');
            let room = limits::AUDIT_TEXT_BYTES_MAX.saturating_sub(text.len());
            text.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        let body = if let Some(Held::Read(bytes, _)) = held { bytes.len() + 1 } else { 0 };
        let length = (method.len() + 1 + target.len() + body) as u64;
        text.truncate(limits::AUDIT_TEXT_BYTES_MAX);
        let mut buffer = Vec::new();
        Notes::new(&mut buffer, clock::wall_micros()).push(&Note::Statement {
            number: running.number,
            kind: StatementKind::Command,
            text: &text,
            length,
            prepared: b"",
            parameters: Parameters::default(),
        });
        let noted = self.door.shared.trail.notes(&running.session.context(), &buffer);
        noted.map_err(|_| Refused { told: true, ..Refused::of(Refusal::TrailUnavailable) })
    }

    /// Sends it and takes the answer. From here on what happens is in the trail by its own line.
    async fn exchange(
        &self,
        head: &Parts,
        shown: &Shown,
        held: Held,
        (running, mut ends, place): (Running, Ends, Arc<Place>),
    ) -> Result<Response<Answered>, Refused> {
        let told = |refusal| Refused { told: true, ..Refused::of(refusal) };
        let stamp = running.session.stamp();
        let (upload, gone) = match held {
            Held::Nothing => Upload::nothing(),
            Held::Read(bytes, room) => Upload::read(bytes, room),
            Held::Streamed(body) => Upload::client(body),
        };
        let account = Account::new(running, self.door.shared.trail.clone(), gone);
        let request = rebuilt(self.door.api, head, shown.sent(), &stamp, upload);
        let mut request = request.ok_or_else(|| told(Refusal::TargetUnavailable))?;
        if shown.is_filtered() {
            request.headers_mut().remove(ACCEPT_ENCODING);
        }
        let sent = tokio::select! {
            biased;
            refusal = &mut ends => Err(refusal),
            sent = place.send(request) => sent,
        };
        let (lent, response) = sent.map_err(told)?;
        self.pass_on(shown, (lent, response), ends, account).await.map_err(told)
    }

    async fn pass_on(
        &self,
        shown: &Shown,
        (lent, response): (Lent, Response<Incoming>),
        ends: Ends,
        account: Account,
    ) -> Result<Response<Answered>, Refusal> {
        let (mut head, body) = response.into_parts();
        if head.status == StatusCode::SWITCHING_PROTOCOLS || head.status.is_informational() {
            return Err(Refusal::UpstreamLost);
        }
        let mut theirs = Theirs::new(body, head.status.as_u16(), lent, ends, account);
        if head.status == StatusCode::UNAUTHORIZED {
            return Err(self.not_let_in(theirs).await);
        }
        if shown.is_filtered() && head.status == StatusCode::OK {
            if head.headers.contains_key(CONTENT_ENCODING) {
                return Err(shown::strange(self.door.name));
            }
            match shown.read(&mut theirs, &self.door.bodies, self.door.name).await? {
                Ok(()) => {}
                Err(hidden) => return Ok(ours(StatusCode::NOT_FOUND, hidden.to_owned())),
            }
            head.headers.remove(CONTENT_LENGTH);
        }
        let mut response = Response::new(Answered::Theirs(Box::new(theirs)));
        *response.status_mut() = head.status;
        for name in self.door.api.told() {
            for value in head.headers.get_all(*name) {
                response.headers_mut().append(HeaderName::from_static(name), value.clone());
            }
        }
        Ok(response)
    }

    /// The target does not know the connector's login, or does not let it do this.
    async fn not_let_in(&self, mut theirs: Theirs) -> Refusal {
        let said = shown::read(&mut theirs, &self.door.bodies, limits::HTTP_SAID_BYTES_MAX).await;
        if said.is_ok_and(|(said, _)| !self.door.api.says_login_failed(&said)) {
            return Refusal::OperationDenied("the connector's login may not do this at the target");
        }
        tracing::error!(protocol = self.door.name, "a target refuses the connector's login");
        Refusal::ConnectorRefused
    }

    /// Who asks, by what is in this request alone, and the client certificate of the connection.
    async fn prove(&self, headers: &HeaderMap) -> Result<(Identity, Claim), Refused> {
        let header = single(headers, &AUTHORIZATION)?;
        let sent = header.and_then(credentials);
        if let Some(certificate) = self.tls.as_ref().and_then(|tls| tls.certificate.clone()) {
            let login = match sent {
                Some(Credentials::Named(login)) => login.name,
                _ => certificate.name.clone().map(|user| LoginName { user, level: None, target: None }),
            };
            let no = |why| Refused::stranger(Refusal::BadCredentials, why, None);
            let login = login.ok_or_else(|| no("the client certificate does not name exactly one user"))?;
            // Who shows a certificate is who it says, or nobody: a secret does not make up for it.
            let identity = self.door.shared.ledger.certificate(&login.user, &certificate).map_err(no)?;
            return self.claim(identity, login);
        }
        if self.entrance.certificate_required {
            let what = Refusal::NotSupported("a login without a client certificate");
            return Err(Refused::stranger(what, "no client certificate", None));
        }
        let Some(sent) = sent else {
            // Clients ask first and prove when they are told to.
            let told = header.is_none();
            return Err(Refused { told, ..Refused::stranger(Refusal::BadCredentials, "no proof", None) });
        };
        let name = match &sent {
            Credentials::Named(login) => login.sent.as_str(),
            Credentials::Bearer(_) => "",
        };
        let (throttle, source) = (&self.door.shared.throttle, source(name, self.peer));
        self.door.shared.slow_down(&source).await;
        let (identity, login) = match &sent {
            Credentials::Named(login) => {
                let user = login.name.as_ref().map(|name| &name.user);
                (self.door.shared.ledger.secret(user, &login.secret), login.name.clone())
            }
            Credentials::Bearer(secret) => {
                let identity = self.door.shared.ledger.bearer(secret);
                let user = identity.as_ref().map(|identity| identity.user().clone());
                (identity, user.map(|user| LoginName { user, level: None, target: None }))
            }
        };
        let Some((identity, login)) = identity.zip(login) else {
            throttle.failed(source);
            return Err(Refused::stranger(Refusal::BadCredentials, "wrong secret or user", Some(name)));
        };
        throttle.succeeded(&source);
        self.claim(identity, login)
    }

    fn claim(&self, identity: Identity, login: LoginName) -> Result<(Identity, Claim), Refused> {
        let context = AcceptContext {
            server_name_suffix: self.entrance.server_name_suffix.clone(),
            ..AcceptContext::new(self.entrance.target.clone(), self.peer.ip(), self.entrance.tls)
        };
        let target = context.target(&login, self.tls.as_ref()).map_err(|why| Refused {
            why: why.to_owned(),
            user: Some(login.user.to_string()),
            authenticated: true,
            ..Refused::of(Refusal::NotGranted)
        })?;
        let claim =
            Claim { user: login.user, level: login.level, target, database: None, peer: self.peer.ip() };
        Ok((identity, claim))
    }

    /// What was refused, for the trail. Nothing ran, so one that cannot be written changes nothing here.
    fn write_down(&self, refused: &Refused, line: &str) {
        let shared = &self.door.shared;
        let Refused { refusal, why, user, target, authenticated, told } = refused;
        shared.metrics.login_refused(refusal);
        if *told || !(*authenticated || shared.refusals.shows(self.peer.source(), refusal.code())) {
            return;
        }
        let denied = Denied {
            session: self.id,
            peer: self.peer.to_string(),
            via: self.peer.via(),
            protocol: self.door.name,
            user: user.clone(),
            target: target.as_ref().map(ToString::to_string),
            database: None,
            authenticated: *authenticated,
            code: refusal.code(),
            why: why.clone().into(),
        };
        let _ = shared.trail.event(&match authenticated {
            true => Event::RequestRefused { denied, request: line.to_owned() },
            false => Event::LoginRefused(denied),
        });
    }
}

/// What could be understood in two ways by two programs, or leads away from HTTP.
fn plain(head: &Parts) -> Result<(), Wrong> {
    let absolute = head.uri.scheme().is_some() || head.uri.authority().is_some();
    if absolute || head.method == Method::CONNECT {
        return Err(Wrong::Bad("the URL must begin with a slash"));
    }
    if !matches!(head.version, Version::HTTP_10 | Version::HTTP_11) {
        return Err(Wrong::Bad("this version of HTTP is not spoken here"));
    }
    // hyper takes a length away that contradicts a coding, and closes; one that it would leave is refused.
    if head.headers.contains_key(TRANSFER_ENCODING) && head.headers.contains_key(CONTENT_LENGTH) {
        return Err(Wrong::Bad("content-length and transfer-encoding contradict each other"));
    }
    if head.headers.get_all(TRANSFER_ENCODING).iter().any(|coding| coding != "chunked") {
        return Err(Wrong::Bad("the only transfer-encoding that is taken is chunked"));
    }
    if head.headers.contains_key(UPGRADE) {
        return Err(Wrong::Bad("upgrades are not taken"));
    }
    if head.headers.contains_key(CONTENT_ENCODING) {
        return Err(Wrong::Bad("compressed bodies are not taken"));
    }
    own_site(head)
}

/// A browser that knows a login by the dialog of its own puts it on whatever any page asks for. A page of another site
/// cannot read the answer, but what it has asked for would be done.
fn own_site(head: &Parts) -> Result<(), Wrong> {
    const FOREIGN: Wrong = Wrong::Denied("a page of another site asks for it");
    if matches!(head.method, Method::GET | Method::HEAD) {
        return Ok(());
    }
    // Browsers send it where the connection is safe from others (<https://www.w3.org/TR/fetch-metadata/>).
    if let Some(site) = single(&head.headers, &HeaderName::from_static("sec-fetch-site"))? {
        return if matches!(site, "same-origin" | "none") { Ok(()) } else { Err(FOREIGN) };
    }
    let Some(origin) = single(&head.headers, &ORIGIN)? else { return Ok(()) };
    let host = single(&head.headers, &HOST)?;
    match origin.split_once("://") {
        Some((_, authority)) if Some(authority) == host => Ok(()),
        _ => Err(FOREIGN),
    }
}

/// The value of a header that may be there once. One that is not visible ASCII is none.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Wrong> {
    let mut values = headers.get_all(name).iter();
    let value = values.next();
    if values.next().is_some() {
        return Err(Wrong::Bad("a header is there twice"));
    }
    value.map(|value| value.to_str().map_err(|_| Wrong::Bad("a header is not ASCII"))).transpose()
}

/// The request that is sent: made anew from what was understood. `None`: it cannot be said.
fn rebuilt(
    api: &dyn Api,
    head: &Parts,
    target: &Path,
    stamp: &str,
    upload: Upload,
) -> Option<Request<Upload>> {
    let mut request = Request::new(upload);
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = api.render(target).parse().ok()?;
    for name in api.sent_on() {
        for value in head.headers.get_all(*name) {
            request.headers_mut().append(HeaderName::from_static(name), value.clone());
        }
    }
    request.headers_mut().insert(HeaderName::from_static("x-opaque-id"), HeaderValue::from_str(stamp).ok()?);
    Some(request)
}

/// An answer of the proxy's own, in JSON.
fn ours(status: StatusCode, body: String) -> Response<Answered> {
    let mut response = Response::new(Answered::Ours(Some(Bytes::from(body))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// No, in the API's own words.
fn refusal(api: &dyn Api, refusal: &Refusal) -> Response<Answered> {
    let said = api.answer(refusal);
    let mut response = ours(StatusCode::from_u16(said.status).unwrap_or(StatusCode::FORBIDDEN), said.body);
    let headers = response.headers_mut();
    for (name, value) in api.marks() {
        headers.insert(*name, HeaderValue::from_static(value));
    }
    if let Some(seconds) = said.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if *refusal == Refusal::BadCredentials {
        for scheme in ["Basic realm=\"tidegate\", charset=\"UTF-8\"", "Bearer realm=\"tidegate\"", "ApiKey"] {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
        }
    }
    response
}

/// The start of a path that may be anything.
fn cut_line(path: &str) -> String {
    path.chars().take(limits::HTTP_SHOWN_CHARS_MAX).collect()
}
