//! From an accepted connection to a session: the login, the decision, the lease. Each step is a value
//! that only the one before it can make: Claim, Identity, Admission, Lease.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::cancel::IssuedKey;
use super::door::{Caller, Drain, Entrance, History, SessionDoor};
use super::parking::Berth;
use super::peer::Peer;
use super::pump::Pump;
use super::registry::{Entry, Listed, Mailbox, Stats};
use super::waiting::{WaitEnd, Waiter};
use crate::credential::Identity;
use crate::grant::{Admission, Standing};
use crate::identity::{Ledger, Seat};
use crate::model::{
    Claim, Denied, Ending, Event, GrantId, LoginName, Refusal, SessionContext, SessionEnd, SessionId,
    SessionStart, limits,
};
use crate::pool::Lease;
use crate::protocol::session::{
    Accept, AcceptContext, AcceptInput, AcceptStep, Answer, CancelKey, Entry as RelayEntry, Facts, Framing,
    Greeting, Question, TlsFacts, TlsOffer, TlsStart, Wire, WireError,
};
use crate::store::SessionRow;
use crate::tls::{Codec, Compressed, Stream};

/// A session that has begun.
pub(super) struct Entered<W: Wire> {
    pub session: SessionId,
    pub pump: Pump<W>,
    /// The same that the registry shows.
    pub admission: Arc<Admission>,
    pub seat: Seat,
    pub entry: Entry,
    pub settings: W::Settings,
    pub berth: Berth,
    /// The end that the client has been told of ahead of time, in microseconds.
    pub noticed: Option<i64>,
    /// The grant by which it came in.
    pub first_grant: GrantId,
    pub began: Instant,
    /// What its client knows it by.
    pub key: IssuedKey,
}

/// A client that logs in again on the connection of a session that has ended: as another session.
pub(super) struct Again<W: Wire> {
    pub session: SessionId,
    pub peer: Peer,
    pub stream: Stream,
    pub accept: W::Accept,
    /// What it has sent behind its wish.
    pub input: BytesMut,
    /// What it has not taken yet of the session before.
    pub out: BytesMut,
    pub key: IssuedKey,
}

/// A login that did not become a session.
enum Stop {
    /// The client went away, or has had all the answer it gets.
    Silent,
    /// Say no.
    Refuse { refusal: Refusal, why: std::borrow::Cow<'static, str>, authenticated: bool },
}

impl Stop {
    fn refuse(refusal: Refusal, why: &'static str) -> Self {
        Self::Refuse { refusal, why: why.into(), authenticated: false }
    }
}

/// An admitted client that waits for its first connection.
struct Entering<'a, W: Wire> {
    guest: &'a mut Guest<W>,
    admission: Admission,
    seat: &'a mut Seat,
    /// The end of the login.
    deadline: Instant,
}

impl<W: Wire> Waiter<W> for Entering<'_, W> {
    fn admission(&self) -> &Admission {
        &self.admission
    }

    fn look(&mut self, door: &SessionDoor<W>) -> Result<(), Refusal> {
        match door.shared.ledger.recheck(&self.admission, self.seat) {
            Standing::Open { .. } => {}
            Standing::Moved(to) => self.admission = *to,
            Standing::Ended(cause) => return Err(Refusal::Ended(cause)),
        }
        Ok(())
    }

    /// A client that talks before it was told that it is in, or goes away.
    async fn interrupted(&mut self, _: &SessionDoor<W>) -> WaitEnd {
        let guest = &mut *self.guest;
        let talk = async {
            loop {
                match guest.stream.read_buf(&mut guest.input).await {
                    Ok(count) if count > 0 && guest.input.len() <= limits::STARTUP_BYTES_MAX => {}
                    Ok(count) if count > 0 => {
                        let refusal = Refusal::ProtocolViolation("bytes ahead of the end of the login");
                        return WaitEnd::Refused(refusal, "too many bytes");
                    }
                    _ => return WaitEnd::Gone,
                }
            }
        };
        let late = WaitEnd::Refused(Refusal::LoginTimeout, "it took too long");
        tokio::time::timeout_at(self.deadline, talk).await.unwrap_or(late)
    }
}

/// A client that is logging in.
struct Guest<W: Wire> {
    session: SessionId,
    peer: Peer,
    stream: Stream,
    accept: W::Accept,
    /// There is something in `input` that the machine has not seen.
    fresh: bool,
    input: BytesMut,
    out: BytesMut,
    /// The key that the greeting has told the number of.
    key: Option<IssuedKey>,
}

impl<W: Wire> SessionDoor<W> {
    /// Runs a login to its end. `None`: there is no session; all has been said and written down.
    pub(super) async fn login(
        &self,
        session: SessionId,
        caller: Caller,
        entrance: &Entrance,
    ) -> Option<Box<Entered<W>>> {
        let began = Instant::now();
        let learned = if W::GREETS { Box::pin(self.learned(entrance)).await } else { Vec::new() };
        let guest = self.guest(session, caller, entrance, learned).ok()?;
        self.receive(guest, entrance, began).await
    }

    /// The same for a client that is there already. Where it fails the connection ends.
    pub(super) async fn login_again(
        &self,
        again: Box<Again<W>>,
        entrance: &Entrance,
    ) -> Option<Box<Entered<W>>> {
        let Again { session, peer, stream, accept, input, out, key } = *again;
        let fresh = !input.is_empty();
        let guest = Guest { session, peer, stream, accept, fresh, input, out, key: Some(key) };
        self.receive(guest, entrance, Instant::now()).await
    }

    async fn receive(
        &self,
        mut guest: Guest<W>,
        entrance: &Entrance,
        began: Instant,
    ) -> Option<Box<Entered<W>>> {
        let deadline = began + self.shared.limits.load().login;
        let proof = tokio::time::timeout_at(deadline, self.prove(&mut guest, entrance)).await;
        let stop = match proof {
            Ok(Ok((identity, claim))) => match self.admit(&mut guest, &identity, &claim).await {
                Ok((admission, seat)) => match self.enter(guest, admission, seat, began).await {
                    Ok(entered) => return Some(entered),
                    Err((back, stop)) => {
                        guest = *back;
                        stop
                    }
                },
                Err(stop) => stop,
            },
            Ok(Err(stop)) => stop,
            Err(_) => Stop::refuse(Refusal::LoginTimeout, "it took too long"),
        };
        // Apart, as TLS below: a login is in memory for as long as its largest part.
        Box::pin(self.turn_away(guest, stop)).await;
        None
    }

    /// What the servers that this listener leads to say of themselves, for the greeting; of a fixed target that is
    /// not known yet it is asked for.
    async fn learned(&self, entrance: &Entrance) -> Vec<Arc<str>> {
        let book = self.shared.ledger.book();
        let Some(name) = &entrance.target else {
            let targets = book.snapshot().targets.iter().filter(|target| target.protocol == W::NAME);
            let all: BTreeSet<_> = targets.filter_map(|target| self.pools.learned(target)).collect();
            return all.into_iter().collect();
        };
        let Some(target) = book.target(name.as_str()).filter(|target| target.protocol == W::NAME) else {
            return Vec::new();
        };
        let known = match target.suspended {
            None => tokio::time::timeout(limits::LEARN_WAIT, self.pools.learn(target)).await.ok().flatten(),
            Some(_) => self.pools.learned(target),
        };
        known.into_iter().collect()
    }

    /// Fails when the system has no random bytes.
    fn guest(
        &self,
        session: SessionId,
        caller: Caller,
        entrance: &Entrance,
        learned: Vec<Arc<str>>,
    ) -> Result<Guest<W>, getrandom::Error> {
        let key = match W::GREETS {
            true => Some(self.shared.cancels.issue(session, limits::CANCEL_SECRET_BYTES, None)?),
            false => None,
        };
        let Caller { stream, peer, input } = caller;
        let context = AcceptContext {
            target: entrance.target.clone(),
            peer: peer.ip(),
            tls: entrance.tls,
            server_name_suffix: entrance.server_name_suffix.clone(),
            certificate_required: entrance.certificate_required,
            greeting: Greeting {
                process: key.as_ref().map_or(0, |issued| issued.key.process),
                learned,
                version: entrance.server_version.clone(),
                compresses: true,
                takes_native: entrance.takes_native,
            },
        };
        Ok(Guest {
            session,
            peer,
            stream,
            accept: self.wire.accept(&context),
            fresh: !input.is_empty(),
            input,
            out: BytesMut::new(),
            key,
        })
    }

    /// Tells a connection that there is no place for it, as soon as it has said what it wants. It costs neither a
    /// look-up nor a line of the trail; a cancel request gets its way, for it may free a place.
    pub(super) async fn send_away(
        &self,
        session: SessionId,
        caller: Caller,
        entrance: &Entrance,
        refusal: &Refusal,
    ) {
        // Who is turned away is greeted with anything.
        let Ok(mut guest) = self.guest(session, caller, entrance, Vec::new()) else { return };
        let told = async {
            let first = guest.accept.step(AcceptInput::Start, &mut guest.out);
            match self.drive(&mut guest, entrance, first).await {
                Ok(AcceptStep::Cancel(key)) => {
                    self.shared.cancels.request(&key, guest.peer, limits::TURNED_AWAY_WAIT).await;
                    guest.close().await;
                }
                Ok(_) => guest.farewell(refusal).await,
                Err(_) => {}
            }
        };
        let _ = tokio::time::timeout(limits::TURNED_AWAY_WAIT, told).await;
    }

    /// Moves bytes until the machine wants something else. Cancel safe: dropping it drops the login.
    async fn drive(
        &self,
        guest: &mut Guest<W>,
        entrance: &Entrance,
        mut step: Result<AcceptStep, WireError>,
    ) -> Result<AcceptStep, Stop> {
        loop {
            let next = step.map_err(|error| {
                tracing::debug!(session = %guest.session, peer = %guest.peer, %error, "a login broke the protocol");
                Stop::refuse(Refusal::ProtocolViolation(error.what), "the protocol was broken")
            })?;
            // The last word of a login goes out with what is said next, whether the client is told that it is in or
            // that it is not: one packet less, and the client is woken once.
            if !matches!(next, AcceptStep::Login(_)) {
                guest.flush().await.map_err(|_| Stop::Silent)?;
            }
            step = match next {
                AcceptStep::NeedBytes => {
                    guest.hear().await?;
                    guest.accept.step(AcceptInput::Bytes(&mut guest.input), &mut guest.out)
                }
                AcceptStep::StartTls(start) => {
                    let facts = Box::pin(guest.secure(entrance, start)).await?;
                    guest.accept.step(AcceptInput::TlsReady(&facts), &mut guest.out)
                }
                other => return Ok(other),
            };
        }
    }

    /// Drives the accept machine until the client has proven who it is. Cancel safe: dropping it drops
    /// the login.
    async fn prove(&self, guest: &mut Guest<W>, entrance: &Entrance) -> Result<(Identity, Claim), Stop> {
        let mut step = guest.accept.step(AcceptInput::Start, &mut guest.out);
        loop {
            step = match self.drive(guest, entrance, step).await? {
                AcceptStep::Ask(Question::Scram { user, sent }) => {
                    self.slow_down(&sent, guest.peer).await;
                    let exchange = self.shared.ledger.scram(user, &sent);
                    guest.answer(Answer::Scram(Box::new(exchange)))
                }
                AcceptStep::Ask(Question::MySql { user, sent }) => {
                    self.slow_down(&sent, guest.peer).await;
                    let exchange = self.shared.ledger.mysql(user, &sent);
                    guest.answer(Answer::MySql(Box::new(exchange)))
                }
                AcceptStep::Ask(Question::Certificate { user, certificate }) => {
                    let answer = self.shared.ledger.certificate(&user, &certificate);
                    let answer = AcceptInput::Answer(Answer::Certificate(answer));
                    guest.accept.step(answer, &mut guest.out)
                }
                AcceptStep::Cancel(key) => {
                    self.shared.cancels.request(&key, guest.peer, self.shared.longest_penalty()).await;
                    guest.close().await;
                    return Err(Stop::Silent);
                }
                AcceptStep::Login(proven) => return Ok(*proven),
                AcceptStep::Refuse(refusal, why) => {
                    let authenticated = guest.accept.claimed().proven;
                    return Err(Stop::Refuse { refusal, why: why.into(), authenticated });
                }
                // `drive` deals with these.
                AcceptStep::NeedBytes | AcceptStep::StartTls(_) => return Err(Stop::Silent),
            };
        }
    }

    /// Who failed lately waits.
    async fn slow_down(&self, sent: &str, peer: Peer) {
        self.shared.slow_down(&source(sent, peer)).await;
    }

    /// The decision, in the trail either way.
    async fn admit(
        &self,
        guest: &mut Guest<W>,
        identity: &Identity,
        claim: &Claim,
    ) -> Result<(Admission, Seat), Stop> {
        let refuse = |refusal, why: String| Stop::Refuse { refusal, why: why.into(), authenticated: true };
        if let Some(sent) = guest.accept.claimed().user {
            self.shared.throttle.succeeded(&source(sent, guest.peer));
        }
        if *self.shared.drain.borrow() != Drain::No {
            return Err(refuse(Refusal::ShuttingDown, "the proxy is shutting down".into()));
        }
        let (admission, seat) = self
            .shared
            .ledger
            .admit(identity, claim)
            .map_err(|not_admitted| refuse(not_admitted.refusal, not_admitted.why))?;
        let event = Event::LoginAccepted {
            start: start::<W>(guest, &admission),
            credential: admission.credential(),
            certificate: admission.proof().certificate().cloned(),
            others: admission.others().len() as u32,
            settings: self.wire.settings_shown(&self.wire.settings(&guest.accept)).into_iter().collect(),
        };
        self.shared
            .trail
            .event(&event)
            .map_err(|_| refuse(Refusal::TrailUnavailable, "the trail cannot be written".into()))?;
        Ok((admission, seat))
    }

    /// Lends the admitted person a connection and tells the client that it is in.
    async fn enter(
        &self,
        mut guest: Guest<W>,
        admission: Admission,
        mut seat: Seat,
        began: Instant,
    ) -> Result<Box<Entered<W>>, (Box<Guest<W>>, Stop)> {
        let settings = self.wire.settings(&guest.accept);
        let stamp = stamp(&admission, guest.session);
        let waited = Instant::now();
        let deadline = began + self.shared.limits.load().login;
        let mut waiter = Entering { guest: &mut guest, admission, seat: &mut seat, deadline };
        let leased = self.wait_for_lease(&mut waiter, &stamp, &settings).await;
        let admission = waiter.admission;
        let lease = match leased {
            Ok(lease) => lease,
            Err(WaitEnd::Gone) => {
                self.left(&guest, &admission, waited.elapsed());
                return Err((Box::new(guest), Stop::Silent));
            }
            Err(WaitEnd::Refused(refusal, why)) => {
                let stop = Stop::Refuse { refusal, why: why.into(), authenticated: true };
                return Err((Box::new(guest), stop));
            }
        };
        let wait = waited.elapsed();
        self.shared.metrics.leased(wait);
        let lasting = !self.may_park(admission.target().as_str());
        let process = lease.facts().process().filter(|_| lasting);
        let secret_bytes = guest.accept.cancel_key_bytes();
        let issued = match guest.key.take() {
            Some(issued) => Ok(issued),
            None => self.shared.cancels.issue(guest.session, secret_bytes, process),
        };
        let issued = match issued {
            Ok(issued) => issued,
            Err(_) => {
                let stop = Stop::refuse(Refusal::TargetUnavailable, "no random numbers can be had");
                return Err((Box::new(guest), stop));
            }
        };
        let event = Event::SessionStart {
            start: start::<W>(&guest, &admission),
            upstream: Some(lease.upstream_name()),
            wait_ms: wait.as_millis() as u64,
        };
        if self.shared.trail.event(&event).is_err() {
            let stop = Stop::refuse(Refusal::TrailUnavailable, "the trail cannot be written");
            return Err((Box::new(guest), stop));
        }
        Ok(self.begin(guest, admission, seat, lease, settings, stamp, issued, began).await)
    }

    /// Closes what an accepted login has opened in the trail, for a client that went away before there
    /// was a session.
    fn left(&self, guest: &Guest<W>, admission: &Admission, waited: Duration) {
        let event = Event::SessionEnd(SessionEnd {
            session: guest.session,
            user: admission.user().clone(),
            target: admission.target().clone(),
            grant: admission.grant(),
            how: Ending::Close,
            code: None,
            why: Some("the client left before there was a connection for it".into()),
            error_delivered: None,
            statements: 0,
            bytes_up: 0,
            bytes_down: 0,
            seconds: waited.as_secs_f64(),
            reused: false,
        });
        // Nothing ran, so a trail that cannot be written changes nothing here.
        let _ = self.shared.trail.end(&event);
    }

    /// A connection from the pool that this admission leads to.
    pub(super) async fn lease(
        &self,
        admission: &Admission,
        stamp: &str,
        settings: &W::Settings,
    ) -> Result<Lease<W>, Refusal> {
        let pool = {
            let book = self.shared.ledger.book();
            let target = book.target(admission.target().as_str()).ok_or(Refusal::TargetUnavailable)?;
            if target.protocol != W::NAME {
                return Err(Refusal::NotSupported("this protocol for this target"));
            }
            let database = admission.database().unwrap_or_default();
            self.pools.pool(target, admission.level(), database)?
        };
        pool.lease(admission, stamp, settings).await
    }

    #[allow(clippy::too_many_arguments)] // One call, each of them a different thing.
    async fn begin(
        &self,
        guest: Guest<W>,
        admission: Admission,
        seat: Seat,
        lease: Lease<W>,
        settings: W::Settings,
        stamp: String,
        mut issued: IssuedKey,
        began: Instant,
    ) -> Box<Entered<W>> {
        let Guest { session, peer, stream, accept, input, mut out, fresh: _, key: _ } = guest;
        let admission = Arc::new(admission);
        let now = self.shared.ledger.now();
        let upstream = lease.upstream_name();
        let entry = self.shared.registry.enter(Listed {
            session,
            peer,
            process: issued.key.process,
            protocol: W::NAME,
            started_at: now,
            admission: arc_swap::ArcSwap::new(admission.clone()),
            upstream: arc_swap::ArcSwapOption::from_pointee(upstream),
            stats: Stats::default(),
            commands: Mailbox::default(),
        });
        let first_grant = admission.grant();
        let row = row(&entry.listed, &admission, first_grant);
        let _ = self.shared.history.try_send(History::Row(Box::new(row)));
        self.shared.metrics.login_accepted(began.elapsed());
        let greeting = Ledger::greeting(&admission);
        let framing = accept.framing();
        // The secret is said once more, to the client, and kept where requests are compared with it.
        let key = CancelKey { process: issued.key.process, secret: std::mem::take(&mut issued.key.secret) };
        let process_known = lease.facts().process() == Some(key.process);
        let relay = self.wire.relay(
            accept,
            RelayEntry { admission: &admission, key, stamp: &stamp, greeting: greeting.as_deref() },
            lease.facts(),
            &mut out,
        );
        let context = context::<W>(session, &admission);
        // The words that end the login are the last that are not framed.
        let (stream, input) = framed(stream, framing, &mut out, input);
        let mut pump =
            Pump::new(relay, context, stream, lease, self.shared.trail.clone(), entry.listed.clone());
        pump.welcome(&out, input);
        Box::new(Entered {
            session,
            pump,
            admission,
            seat,
            entry,
            settings,
            berth: Berth::new(process_known),
            noticed: None,
            first_grant,
            began: Instant::now(),
            key: issued,
        })
    }

    /// Says no, in the protocol and in the trail, and slows down who fails.
    async fn turn_away(&self, mut guest: Guest<W>, stop: Stop) {
        let Stop::Refuse { refusal, why, authenticated } = stop else { return };
        let claimed = guest.accept.claimed();
        let user = claimed.user.map(cut);
        let shown = authenticated || self.shared.refusals.shows(guest.peer.source(), refusal.code());
        let event = Event::LoginRefused(Denied {
            session: guest.session,
            peer: guest.peer.to_string(),
            via: guest.peer.via(),
            protocol: W::NAME,
            user,
            target: None,
            database: claimed.database.map(cut),
            authenticated,
            code: refusal.code(),
            why,
        });
        if shown {
            // Nothing ran, so a trail that cannot be written changes nothing here.
            let _ = self.shared.trail.event(&event);
        }
        self.shared.metrics.login_refused(&refusal);
        if refusal == Refusal::BadCredentials {
            self.shared.throttle.failed(source(claimed.user.unwrap_or_default(), guest.peer));
        }
        guest.farewell(&refusal).await;
    }
}

impl<W: Wire> Guest<W> {
    /// Gives the machine what it asked for.
    fn answer(&mut self, answer: Answer) -> Result<AcceptStep, WireError> {
        // What came behind the question is looked at now: nothing more may come.
        self.fresh = !self.input.is_empty();
        self.accept.step(AcceptInput::Answer(answer), &mut self.out)
    }

    async fn flush(&mut self) -> std::io::Result<()> {
        if !self.out.is_empty() {
            self.stream.write_all(&self.out).await?;
            self.stream.flush().await?;
            self.out.clear();
        }
        Ok(())
    }

    /// Says no in the protocol, and closes in good order.
    async fn farewell(&mut self, refusal: &Refusal) {
        self.accept.refuse(refusal, &mut self.out);
        let farewell = async {
            self.flush().await?;
            super::session::linger(&mut self.stream).await
        };
        let _ = tokio::time::timeout(2 * limits::CUT_FLUSH, farewell).await;
    }

    /// The end that a cancel request is answered with. Over TLS, an end without its goodbye looks like an attack:
    /// libpq 17 would say that the cancel failed.
    async fn close(&mut self) {
        let _ = tokio::time::timeout(limits::CUT_FLUSH, self.stream.shutdown()).await;
    }

    /// Waits for more of the client, unless there is something that the machine has not seen.
    async fn hear(&mut self) -> Result<(), Stop> {
        if std::mem::take(&mut self.fresh) {
            return Ok(());
        }
        // The machine refuses what is too long when it sees the length; this bounds the rest.
        if self.input.len() > limits::STARTUP_BYTES_MAX + limits::SASL_BYTES_MAX {
            let refusal = Refusal::ProtocolViolation("too many bytes for a login");
            return Err(Stop::refuse(refusal, "too many bytes"));
        }
        // Without room of its own the buffer would be given 64 bytes at a time.
        self.input.reserve(limits::LOGIN_READ_BYTES);
        match self.stream.read_buf(&mut self.input).await {
            Ok(count) if count > 0 => Ok(()),
            _ => Err(Stop::Silent),
        }
    }

    async fn secure(&mut self, entrance: &Entrance, start: TlsStart) -> Result<TlsFacts, Stop> {
        let early = std::mem::take(&mut self.input);
        // Bytes from before the handshake are not protected by it (CVE-2021-23214).
        if start == TlsStart::Asked && !early.is_empty() {
            let error = WireError::new("TLS", "bytes ahead of the handshake");
            return Err(Stop::refuse(Refusal::ProtocolViolation(error.what), "bytes ahead of TLS"));
        }
        let certificate = entrance.certificate.as_ref().filter(|_| entrance.tls != TlsOffer::Unavailable);
        let Some(certificate) = certificate else { return Err(Stop::Silent) };
        // Taken out for the handshake; where that fails there is nobody left to talk to.
        let Stream::Plain(socket) = std::mem::replace(&mut self.stream, Stream::Closed) else {
            return Err(Stop::Silent);
        };
        let (tls, facts) = certificate.accept(socket, &early).await.map_err(|error| {
            tracing::debug!(session = %self.session, peer = %self.peer, %error, "a TLS handshake failed");
            Stop::Silent
        })?;
        self.stream = Stream::Downstream(Box::new(tls));
        Ok(facts)
    }
}

/// How the conversation travels. What was said and read until here is not framed, or is read again as framed.
fn framed(stream: Stream, framing: Framing, said: &mut BytesMut, read: BytesMut) -> (Stream, BytesMut) {
    let Some(codec) = Codec::of(framing) else { return (stream, read) };
    let framed = Compressed::new(stream, codec, std::mem::take(said), read);
    (Stream::Compressed(Box::new(framed)), BytesMut::new())
}

/// What every event of the session's start says.
fn start<W: Wire>(guest: &Guest<W>, admission: &Admission) -> SessionStart {
    SessionStart {
        session: guest.session,
        user: admission.user().clone(),
        target: admission.target().clone(),
        level: admission.level().clone(),
        grant: admission.grant(),
        database: admission.database().map(str::to_owned),
        peer: guest.peer.to_string(),
        via: guest.peer.via(),
        protocol: W::NAME,
        tls: guest.stream.is_tls(),
    }
}

/// What a connection says of the session that has it.
pub(super) fn stamp(admission: &Admission, session: SessionId) -> String {
    format!("{}/{session}", admission.user())
}

/// The row of the history of a session that has not ended.
pub(super) fn row(listed: &Listed, admission: &Admission, grant: GrantId) -> SessionRow {
    SessionRow {
        session: listed.session,
        user: admission.user().clone(),
        target: admission.target().clone(),
        level: admission.level().clone(),
        grant,
        database: admission.database().map(str::to_owned),
        peer: listed.peer.to_string(),
        protocol: listed.protocol.into(),
        started_at: listed.started_at,
        ended_at: None,
        how: None,
        code: None,
        statements: 0,
        bytes_up: 0,
        bytes_down: 0,
    }
}

pub(super) fn context<W: Wire>(session: SessionId, admission: &Admission) -> SessionContext {
    SessionContext::new(
        session,
        W::NAME,
        admission.user(),
        admission.target(),
        admission.level(),
        admission.grant(),
        admission.database(),
    )
}

/// Who is slowed down for a failed login: the user and where it came from. Level and target in the login
/// name do not make another user of it.
pub(super) fn source(sent: &str, peer: Peer) -> (String, IpAddr) {
    let user = match LoginName::parse(sent) {
        Ok(login) => login.user.into(),
        Err(_) => cut(sent),
    };
    (user, peer.source())
}

/// Unproven words of a client, cut to what a name may have.
pub(super) fn cut(text: &str) -> String {
    text.chars().take(limits::NAME_BYTES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_slowed_whatever_else_the_login_name_says() {
        let peer = |text: &str| Peer::tcp(text.parse().unwrap());
        let alice = source("alice", peer("192.0.2.7:1000"));
        for name in ["alice@orders", "alice+read", "alice+other@nowhere"] {
            assert_eq!(source(name, peer("192.0.2.7:2000")), alice, "{name}");
        }
        assert_ne!(source("bob", peer("192.0.2.7:1000")), alice);
        assert_ne!(source("alice", peer("192.0.2.8:1000")), alice);
        // What cannot be a name of ours is no shorter way to a large table.
        assert_eq!(
            source(&"ä".repeat(5_000), peer("192.0.2.7:1000")).0.chars().count(),
            limits::NAME_BYTES_MAX
        );
    }
}
