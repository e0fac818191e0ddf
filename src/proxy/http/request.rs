//! One request: who asks, what it touches, whether a grant covers that; then it is written down, and goes.

use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use futures_util::FutureExt;
use hyper::body::{Body, Incoming};
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST,
    HeaderMap, HeaderName, HeaderValue, LOCATION, ORIGIN, RETRY_AFTER, TRANSFER_ENCODING, UPGRADE,
    WWW_AUTHENTICATE,
};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode, Version};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::HttpDoor;
use super::answer::{Account, Answered, Ends, Seals, Theirs, says_nothing_of_it};
use super::checking::{ACCOUNTS, Checking, Cover, SLOW, piece};
use super::connection::{self, Connection, Underway};
use super::contexts::Given;
use super::counting::Counting;
use super::rest::{self, Rest};
use super::seal::Owner;
use super::session::{Beginning, Running, Session};
use super::shown::{self, Shown};
use super::spool::{Spooled, Spooling};
use super::stopping::Lasting;
use super::turns;
use super::upload::Upload;
use super::upstream::{Lent, Place};
use crate::credential::Identity;
use crate::grant::Admission;
use crate::identity::Seat;
use crate::model::{
    AccessLevel, BodyMode, Claim, Denied, Event, LoginName, Name, Note, Notes, Parameters, Reach, Refusal,
    StatementKind, Touch, limits,
};
use crate::protocol::http::{
    Api, Asked, Bulk, Catalog, ContentType, Credentials, IdKind, Narrowed, Opened, Path, Routed, Wrong,
    credentials, tasks,
};
use crate::protocol::masking::mask_addresses;
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
    /// It is in doubt where the request ends, so nothing behind it is a request.
    closes: bool,
}

/// What a note takes beside its text, or nearly.
const NOTE_BYTES: usize = 96;

/// A request that may go.
struct Admitted {
    admission: Admission,
    session: Arc<Session>,
    place: Arc<Place>,
    /// What is sent for wildcards.
    narrowed: Option<Narrowed>,
    /// What names stand for, where that was looked up.
    catalog: Option<Arc<Catalog>>,
}

/// What goes with a request.
enum Held {
    Nothing,
    Kept(Spooled),
    Streamed(Incoming),
    Checked(Box<Checking>),
}

/// How a body is read for names.
enum Reads {
    /// As it comes.
    Bulk(Box<Bulk>),
    /// When it is whole, if at all.
    Whole(Box<dyn Routed>),
}

impl Held {
    /// How it begins and how long it is, of what may be shown.
    fn shown(&self, is_read: bool) -> Option<(&[u8], u64)> {
        match self {
            Self::Kept(body) if is_read => Some((&body.start, body.length)),
            Self::Checked(checking) => Some(checking.start()),
            _ => None,
        }
    }

    fn in_memory(&self) -> Option<&Bytes> {
        match self {
            Self::Kept(body) => body.in_memory(),
            _ => None,
        }
    }

    /// The same with what is sent for wildcards in it.
    async fn narrowed(mut self, narrowed: &Narrowed) -> Result<Self, Refusal> {
        if let Self::Kept(body) = &mut self
            && let Some(bytes) = body.in_memory()
            && let Some(sent) = turns::narrowed(narrowed, bytes).await?
        {
            body.replace(sent.into())?;
        }
        Ok(self)
    }
}

impl Refused {
    fn of(refusal: Refusal) -> Self {
        let why = refusal.to_string();
        Self { refusal, why, user: None, target: None, authenticated: false, told: false, closes: false }
    }

    fn stranger(refusal: Refusal, why: &'static str, user: Option<&str>) -> Self {
        Self { why: why.to_owned(), user: user.map(cut), ..Self::of(refusal) }
    }
}

/// Whatever became of a request that may have changed aliases, they are asked for anew.
struct Forget {
    door: Arc<HttpDoor>,
    target: Name,
}

impl Drop for Forget {
    fn drop(&mut self) {
        self.door.catalogs.forget(&self.target);
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
        let underway = Underway::on(&self);
        let mut rest = Rest { body: Some(body), is_begun: false };
        let handled = self.handle(&head, &mut rest).await;
        let underway = underway.answered();
        match handled {
            Ok(mut response) => {
                response.body_mut().keep(underway);
                response
            }
            Err(refused) => {
                // The path alone may be shown of what was not understood, and not much of it.
                self.write_down(&refused, &cut_line(&format!("{} {}", head.method, head.uri.path())));
                let mut response = refusal(self.door.api, &refused.refusal);
                // A stream of HTTP/2 ends by itself, and with it what is left of its body.
                if head.version != Version::HTTP_2 && (refused.closes || !rest::skip(&head, rest).await) {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                response
            }
        }
    }

    /// `rest`: what is left in it has not been read whole.
    async fn handle(&self, head: &Parts, rest: &mut Rest) -> Result<Response<Answered>, Refused> {
        plain(head).map_err(|wrong| Refused { closes: true, ..Refused::from(wrong) })?;
        same_site(head)?;
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
        self.serve(head, rest, &identity, &claim).await.map_err(known)
    }

    async fn serve(
        &self,
        head: &Parts,
        rest: &mut Rest,
        identity: &Identity,
        claim: &Claim,
    ) -> Result<Response<Answered>, Refused> {
        if *self.door.shared.drain.borrow() != Drain::No {
            return Err(Refused::of(Refusal::ShuttingDown));
        }
        let target = head.uri.path_and_query().map_or("", |target| target.as_str());
        let path = Path::parse(target).map_err(Wrong::Bad)?;
        let (path, routed) = self.routed(head.method.as_str(), path, identity, claim)?;
        let is_read = routed.needs_body();
        let (held, mut asked, early) = match self.is_expected(head, rest, &*routed).await? {
            false => (Held::Nothing, routed.asked(b"")?, None),
            true => self.hold(rest, routed, identity, claim).await?,
        };
        let level = asked.named().level;
        let forgets =
            level == AccessLevel::Admin && matches!(head.method, Method::PUT | Method::POST | Method::DELETE);
        let owner = Owner { user: identity.user().clone(), target: claim.target.clone() };
        let opened = self.door.contexts.opened(&owner, asked.ids()).map_err(Refused::of)?;
        let text = held.in_memory().map_or(&[][..], |bytes| bytes);
        let admitted = self.admit(identity, claim, (&asked, &path, text), &opened).await?;
        let Admitted { admission, session, place, narrowed, catalog } = &admitted;
        let (counting, held) = counting(&mut asked, held, catalog.as_deref());
        let (path, held) = put_ids(path, held, &asked, &opened).map_err(Refused::of)?;
        let (path, held) = match narrowed {
            None => (path, held),
            Some(narrowed) => {
                let path = narrowed.path(&path).map_err(Wrong::Bad)?;
                (path, held.narrowed(narrowed).await.map_err(Refused::of)?)
            }
        };
        let path = asked.with_parameters(path);
        if let Some(task) = asked.ordered(&opened) {
            still_is(place, &task).await?;
        }
        let ends = self.ends(session, admission);
        let running = early.filter(|early| Arc::ptr_eq(&early.session, session));
        let running = running.unwrap_or_else(|| session.run());
        let (lasting, given) = self.reserve(head, (&asked, &opened), &admitted, &running).await?;
        let written = held.shown(is_read && !asked.is_secret());
        let line = format!("{} {}", head.method, self.door.api.render(&path));
        self.note(&running, line, written, admission.touch())?;
        let shown = Shown::new(path, asked.take_part(&opened), admission);
        let _forget = forgets.then(|| Forget { door: self.door.clone(), target: admission.target().clone() });
        let response = self
            .exchange(head, &shown, held, admission, (running, ends, place.clone(), given, lasting, counting))
            .await;
        if asked.closes() && response.as_ref().is_ok_and(|response| response.status().is_success()) {
            self.door.contexts.forget(&opened);
        }
        if let (AccessLevel::ReadWrite, Some(touch)) = (&level, admission.touch()) {
            self.door.catalogs.written(admission.target(), &touch.reach);
        }
        response
    }

    /// What it may leave at the target: how it is stopped there, and what its answer may hold the id of.
    async fn reserve(
        &self,
        head: &Parts,
        (asked, opened): (&Asked, &[Opened]),
        admitted: &Admitted,
        running: &Running,
    ) -> Result<(Option<Lasting>, Option<Given>), Refused> {
        let Admitted { admission, session, place, .. } = admitted;
        let lasting = asked.tasks().map(|actions| Lasting::new(place, running, actions));
        let lasting = lasting.transpose().map_err(Refused::of)?;
        if lasting.is_some() && asked.named().level != AccessLevel::Read {
            session.stored(&self.door.shared).await;
        }
        let Some(gives) = asked.gives() else { return Ok((lasting, None)) };
        spoken(&head.headers)?;
        let contexts = &self.door.contexts;
        if gives.kind == Some(IdKind::Task) {
            contexts.drop_ended_tasks(admission.grant(), place).await;
        }
        let marked = lasting.as_ref().map(Lasting::marked);
        let given = contexts.given((gives, marked), opened, admission, place).map_err(Refused::of)?;
        Ok((lasting, Some(given)))
    }

    /// Takes the body in: whole, or where the target's operator chose so only as far as it takes to decide. Who could
    /// not be let in whatever it says is not listened to, and whose grant ends meanwhile is not any longer.
    async fn hold(
        &self,
        rest: &mut Rest,
        routed: Box<dyn Routed>,
        identity: &Identity,
        claim: &Claim,
    ) -> Result<(Held, Asked, Option<Running>), Refused> {
        let (admission, session) = self.let_in(identity, claim, &routed.named())?;
        let Some(incoming) = rest.body.as_mut() else { return Ok((Held::Nothing, routed.asked(b"")?, None)) };
        let book = self.door.shared.ledger.book();
        let target = book.target(claim.target.as_str());
        let streams = target.is_some_and(|target| target.bodies == BodyMode::Stream);
        if streams && !routed.needs_body() {
            let held = rest.body.take().map_or(Held::Nothing, Held::Streamed);
            return Ok((held, routed.asked(b"")?, None));
        }
        let mut ends = self.ends(&session, &admission);
        let running = session.run();
        let is_read = routed.needs_body();
        let mut reads = routed.bulk().map_or_else(Reads::Whole, |bulk| Reads::Bulk(Box::new(bulk)));
        // What is read when it is whole stays in memory.
        let spills = !is_read || matches!(reads, Reads::Bulk(_));
        let mut spooling = self.door.spool.begin(&claim.user, spills);
        if let (Some(length), false) = (incoming.size_hint().exact(), streams) {
            spooling.expect(length).map_err(Refused::of)?;
        }
        rest.is_begun = true;
        let is_whole = fill(incoming, &mut ends, (&mut reads, &mut spooling), streams).await?;
        let further = if is_whole { None } else { rest.body.take() };
        let reads = match (reads, further) {
            (Reads::Bulk(bulk), Some(further)) => {
                let asked = bulk.so_far();
                let checking = Checking::new(further, spooling.into_memory(), *bulk);
                return Ok((Held::Checked(Box::new(checking)), asked, Some(running)));
            }
            (reads, _) => reads,
        };
        let mut kept = spooling.finish().await.map_err(Refused::of)?;
        if let Reads::Whole(routed) = &reads {
            self.put_dates(&mut kept, &**routed, identity, claim)?;
        }
        let asked = match reads {
            Reads::Bulk(bulk) => bulk.finish()?,
            Reads::Whole(routed) => {
                let body = kept.in_memory().map_or(&[][..], |bytes| bytes);
                match routed.several() {
                    Ok(several) => turns::read(several, body).await?,
                    Err(routed) => routed.asked(body)?,
                }
            }
        };
        Ok((Held::Kept(kept), asked, Some(running)))
    }

    /// The route of a request. Dates in names become names before anything is decided on, but for who may do
    /// everything: what they said is sent.
    fn routed(
        &self,
        method: &str,
        path: Path,
        identity: &Identity,
        claim: &Claim,
    ) -> Result<(Path, Box<dyn Routed>), Refused> {
        let api = self.door.api;
        let routed = api.route(method, &path)?;
        match api.dated(method, &path, self.door.shared.ledger.now()) {
            Some(dated) if self.would_admit(identity, claim, &routed.named()).is_err() => {
                let dated = dated?;
                let routed = api.route(method, &dated)?;
                Ok((dated, routed))
            }
            _ => Ok((path, routed)),
        }
    }

    /// The same for a body.
    fn put_dates(
        &self,
        kept: &mut Spooled,
        routed: &dyn Routed,
        identity: &Identity,
        claim: &Claim,
    ) -> Result<(), Refused> {
        let Some(body) = kept.in_memory() else { return Ok(()) };
        let Some(dated) = routed.dated(body, self.door.shared.ledger.now()) else { return Ok(()) };
        let dates = Touch::new(routed.named().level, Reach::Everything("a date in an index name"));
        if self.would_admit(identity, claim, &dates).is_err() {
            kept.replace(dated?.into()).map_err(Refused::of)?;
        }
        Ok(())
    }

    /// The decision, with what aliases stand for taken into it: nothing is asked of a target before a grant covers the
    /// names as they were said.
    async fn admit(
        &self,
        identity: &Identity,
        claim: &Claim,
        (asked, path, body): (&Asked, &Path, &[u8]),
        opened: &[Opened],
    ) -> Result<Admitted, Refused> {
        let touch = asked.touch_of(opened)?;
        let admission = match self.would_admit(identity, claim, &touch) {
            Err(refused) if asked.has_wildcards() && refused.refusal == Refusal::NotGranted => {
                return self.narrow(identity, claim, asked).await;
            }
            decided => decided?,
        };
        let named = matches!(&touch.reach, Reach::Names(names) if !names.is_empty());
        let is_everything = admission.scope().is_everything();
        let looks =
            self.door.api.has_aliases() && if is_everything { asked.may_name(path, body) } else { named };
        let (touch, catalog) = match looks {
            false => (touch, None),
            true => {
                let place = self.place(&admission)?;
                let catalog = self.catalog(&admission, &place).await?;
                // Another grant, for everything, might cover it all the same.
                if asked.leads_to_accounts(&catalog, path, body) {
                    return Err(Refused::of(if is_everything { ACCOUNTS } else { Refusal::NotGranted }));
                }
                if !is_everything {
                    are_there(asked, &catalog)?;
                }
                let touch = if is_everything { touch } else { catalog.resolve(&touch) };
                (touch, Some(catalog))
            }
        };
        // It may have taken a while, and stand for more.
        let (admission, session) = self.let_in(identity, claim, &touch)?;
        // What aliases stand for was not looked at for that grant.
        if is_everything && !admission.scope().is_everything() {
            return Err(Refused::of(Refusal::NotGranted));
        }
        let place = self.place(&admission)?;
        Ok(Admitted { admission, session, place, narrowed: None, catalog })
    }

    /// The decision as it would be now, for a question that has to be asked first.
    fn would_admit(&self, identity: &Identity, claim: &Claim, touch: &Touch) -> Result<Admission, Refused> {
        let _one_at_a_time = self.entering.lock().unwrap_or_else(PoisonError::into_inner);
        self.decide(identity, claim, touch).map(|(admission, _)| admission)
    }

    /// The decision, and the session that the request is of.
    fn let_in(
        &self,
        identity: &Identity,
        claim: &Claim,
        touch: &Touch,
    ) -> Result<(Admission, Arc<Session>), Refused> {
        let _one_at_a_time = self.entering.lock().unwrap_or_else(PoisonError::into_inner);
        let (admission, seat) = self.decide(identity, claim, touch)?;
        let session = self.enter(&admission, seat)?;
        Ok((admission, session))
    }

    /// The decision where wildcards stand for more than a grant covers, or may: they become names, and those are
    /// decided on.
    async fn narrow(&self, identity: &Identity, claim: &Claim, asked: &Asked) -> Result<Admitted, Refused> {
        let named = asked.named();
        let admission = self.would_admit(identity, claim, &named)?;
        let (target, level) = (admission.target(), admission.level());
        let place = self.place(&admission)?;
        let catalog = self.catalog(&admission, &place).await?;
        if !catalog.knows_indices() {
            tracing::error!(target_name = %target, %level, "the connector may not ask which indices there are");
            return Err(Refused::of(Refusal::TargetUnavailable));
        }
        are_there(asked, &catalog)?;
        let ledger = &self.door.shared.ledger;
        let book = ledger.book();
        let target = book.target(target.as_str()).ok_or_else(|| Refused::of(Refusal::TargetUnavailable))?;
        let held = self.held(|session| session.is_by(identity));
        let scopes = ledger.scopes(identity, claim, &named, &held);
        let narrowed = asked.narrowed(&catalog, target.upstream.wildcards, &scopes)?;
        let narrowed = narrowed.ok_or_else(|| Refused {
            why: "no grant covers what the wildcards stand for".to_owned(),
            ..Refused::of(Refusal::NotGranted)
        })?;
        let (admission, session) = self.let_in(identity, claim, &catalog.resolve(&narrowed.touch))?;
        let place = self.place(&admission)?;
        Ok(Admitted { admission, session, place, narrowed: Some(narrowed), catalog: Some(catalog) })
    }

    /// What names stand for at the target. Who may not go on does not wait for it.
    async fn catalog(&self, admission: &Admission, place: &Arc<Place>) -> Result<Arc<Catalog>, Refused> {
        if let Some(catalog) = self.door.catalogs.fresh(admission.target(), admission.level()) {
            return Ok(catalog);
        }
        let ledger = &self.door.shared.ledger;
        let mut changed = ledger.changed();
        changed.mark_changed();
        let asked = self.door.catalogs.of(admission.target(), admission.level(), place);
        tokio::pin!(asked);
        loop {
            tokio::select! {
                biased;
                _ = changed.changed() => if let Some(cause) = ledger.request_ended(admission) {
                    return Err(Refused::of(Refusal::Ended(cause)));
                },
                catalog = &mut asked => return catalog.map_err(Refused::of),
            }
        }
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
            let refusal = match (self.last_end(identity.user()), not.refusal) {
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
        let beginning =
            Beginning { admission, seat, protocol: self.door.name, peer: self.peer, tls: self.tls.is_some() };
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
        line: String,
        body: Option<(&[u8], u64)>,
        touch: Option<&Touch>,
    ) -> Result<(), Refused> {
        let mut text = line.into_bytes();
        text.reserve(body.map_or(0, |(start, _)| start.len() + 1));
        if let (Some((_, whole)), Some(touch)) = (body, touch)
            && text.len() as u64 + whole >= limits::AUDIT_TEXT_BYTES_MAX as u64
        {
            // What it says of its names may be behind the cut.
            text.extend(touched(touch).into_bytes());
        }
        let mut length = text.len() as u64;
        if let Some((start, whole)) = body {
            text.push(b'\n');
            text.extend_from_slice(start);
            length += 1 + whole;
        }
        let is_cut = (text.len() as u64) < length;
        let text = mask_addresses(&text);
        // An address that lies across the cut cannot be told from other text.
        let unsure = if is_cut { limits::SMALL_MESSAGE_BYTES_MAX } else { 0 };
        let text = &text[..text.len().saturating_sub(unsure).min(limits::AUDIT_TEXT_BYTES_MAX)];
        let mut buffer = Vec::with_capacity(text.len() + NOTE_BYTES);
        Notes::new(&mut buffer, clock::wall_micros()).push(&Note::Statement {
            number: running.number,
            kind: StatementKind::Command,
            text,
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
        admission: &Admission,
        (running, mut ends, place, given, lasting, counting): (
            Running,
            Ends,
            Arc<Place>,
            Option<Given>,
            Option<Lasting>,
            Counting,
        ),
    ) -> Result<Response<Answered>, Refused> {
        let told = |refusal| Refused { told: true, ..Refused::of(refusal) };
        let stamp =
            lasting.as_ref().map_or_else(|| running.session.stamp(), |lasting| lasting.mark().to_owned());
        let cover = || Cover { door: self.door.clone(), admission: admission.clone(), place: place.clone() };
        // What is here already does not come slowly.
        let is_to_come = matches!(held, Held::Streamed(_) | Held::Checked(_));
        let (upload, gone) = match held {
            Held::Nothing => Upload::nothing(),
            Held::Kept(body) => Upload::kept(body),
            Held::Streamed(body) => {
                let (upload, gone, refused) = Upload::client(body, Box::pin(cover().still(Instant::now())));
                ends = either(ends, refused);
                (upload, gone)
            }
            Held::Checked(checking) => {
                let (pieces, refused) = checking.start_passing(cover());
                ends = either(ends, refused);
                Upload::checked(pieces)
            }
        };
        let sending = gone.clone();
        let account = Account::new(running, self.door.shared.trail.clone(), gone, counting);
        let target = self.door.api.render(shown.sent());
        let request = rebuilt(&self.door.sent_on, head, &target, &stamp, upload);
        let mut request = request.ok_or_else(|| told(Refusal::TargetUnavailable))?;
        if given.is_some() || shown.is_filtered() {
            // An answer that is looked into comes as it is.
            request.headers_mut().remove(ACCEPT_ENCODING);
        }
        if given.is_some() || shown.every_status() {
            let json = single(&head.headers, &ACCEPT).ok().flatten().and_then(json_of);
            request
                .headers_mut()
                .insert(ACCEPT, json.unwrap_or(HeaderValue::from_static("application/json")));
        }
        if let Some(given) = &given {
            given.is_sent();
        }
        let sent = tokio::select! {
            biased;
            refusal = &mut ends => Err(refusal),
            sent = place.send(request, lasting.as_ref()) => sent,
            () = sending.pace.too_slow(&place), if is_to_come => Err(SLOW),
        };
        // A body that may not go on breaks the exchange, and says why in the same moment.
        let sent = match sent {
            Err(Refusal::UpstreamLost) => Err((&mut ends).now_or_never().unwrap_or(Refusal::UpstreamLost)),
            sent => sent,
        };
        if let (Some(given), Err(refusal)) = (&given, &sent)
            && *refusal != Refusal::UpstreamLost
        {
            given.is_refused();
        }
        let (lent, response) = sent.map_err(told)?;
        self.pass_on(shown, (lent, given, lasting), response, (ends, account)).await.map_err(told)
    }

    async fn pass_on(
        &self,
        shown: &Shown,
        (lent, given, lasting): (Lent, Option<Given>, Option<Lasting>),
        response: Response<Incoming>,
        (ends, mut account): (Ends, Account),
    ) -> Result<Response<Answered>, Refusal> {
        let (head, body) = response.into_parts();
        if head.status == StatusCode::SWITCHING_PROTOCOLS || head.status.is_informational() {
            return Err(Refusal::UpstreamLost);
        }
        if let Some(given) = &given
            && !head.status.is_success()
            && !says_nothing_of_it(head.status.as_u16())
        {
            given.is_refused();
        }
        let status = head.status.as_u16();
        let stuck = connection::stuck(self);
        if head.status == StatusCode::UNAUTHORIZED {
            let theirs = Theirs::new(body, status, (lent, None, None), ends, account, stuck);
            return Err(self.not_let_in(theirs, shown).await);
        }
        let seals = given.map(Seals::new);
        if seals.is_some() && !may_be_looked_into(&head.headers) {
            tracing::warn!(protocol = self.door.name, "an answer with an id in it is no plain JSON");
            return Err(Refusal::UpstreamLost);
        }
        let filtering = shown.is_filtered() && (head.status == StatusCode::OK || shown.every_status());
        let changes = seals.is_some() || filtering;
        if !filtering && may_be_looked_into(&head.headers) {
            account.is_counted();
        }
        let mut theirs = Theirs::new(body, status, (lent, seals, lasting), ends, account, stuck);
        if filtering {
            if head.headers.contains_key(CONTENT_ENCODING) {
                return Err(shown::strange(self.door.name));
            }
            let room = self.door.spool.answer(shown.user());
            if !shown.read(&mut theirs, room, self.door.name).await? {
                return absent(shown).ok_or_else(|| shown::strange(self.door.name));
            }
        } else if let Some(absent) = absent(shown) {
            // The connection is good for the next one when this has been read.
            let mut room = self.door.spool.answer(shown.user());
            let _ = shown::read(&mut theirs, &mut room, limits::HTTP_SAID_BYTES_MAX).await;
            if let Some(refusal) = theirs.cut.take() {
                return Err(refusal);
            }
            theirs.show(Bytes::new(), room);
            return Ok(absent);
        }
        let mut response = Response::new(Answered::Theirs(Box::new(theirs)));
        *response.status_mut() = head.status;
        let but: &[_] = if changes { &[CONTENT_LENGTH] } else { &[] };
        response.headers_mut().extend(self.told(&head.headers, but));
        Ok(response)
    }

    /// The headers of an answer that clients are told, but for some.
    fn told(&self, theirs: &HeaderMap, but: &[HeaderName]) -> HeaderMap {
        let mut told = HeaderMap::new();
        for name in self.door.told.iter().filter(|name| !but.contains(name)) {
            let values = theirs.get_all(name).iter();
            for value in values.filter(|value| *name != LOCATION || is_here(value)) {
                told.append(name, value.clone());
            }
        }
        told
    }

    /// The target does not know the connector's login, or does not let it do this.
    async fn not_let_in(&self, mut theirs: Theirs, shown: &Shown) -> Refusal {
        let mut room = self.door.spool.answer(shown.user());
        let said = shown::read(&mut theirs, &mut room, limits::HTTP_SAID_BYTES_MAX);
        let said = tokio::time::timeout(limits::HTTP_ASK_WAIT, said).await;
        if let Ok(Ok(said)) = said
            && !self.door.api.says_login_failed(&said)
        {
            return Refusal::OperationDenied("the connector's login may not do this at the target");
        }
        tracing::error!(protocol = self.door.name, "a target refuses the connector's login");
        Refusal::ConnectorRefused
    }

    /// Whether there is a body. One where none belongs, or of another kind, is refused.
    async fn is_expected(&self, head: &Parts, rest: &mut Rest, routed: &dyn Routed) -> Result<bool, Wrong> {
        if rest.body.as_ref().is_none_or(Incoming::is_end_stream) {
            return Ok(false);
        }
        if !routed.takes_body() {
            return match rest::is_empty(head, rest).await {
                true => Ok(false),
                false => Err(Wrong::Bad("this route takes no body")),
            };
        }
        let kind = single(&head.headers, &CONTENT_TYPE)?;
        match kind.is_some_and(|kind| self.door.api.reads(kind)) {
            true => Ok(true),
            false => Err(Wrong::Bad("the body must be JSON or lines of it, and content-type must say so")),
        }
    }

    /// Who asks, by what is in this request alone, and the client certificate of the connection.
    async fn prove(&self, headers: &HeaderMap) -> Result<(Identity, Claim), Refused> {
        let header = single(headers, &AUTHORIZATION)?;
        let sent = header.and_then(credentials);
        if let Some(certificate) = self.tls.as_ref().and_then(|tls| tls.certificate.clone()) {
            let no = |why| Refused::stranger(Refusal::BadCredentials, why, None);
            let plain = |user: Name| LoginName { user, level: None, target: None };
            let login = match sent {
                Some(Credentials::Named(login)) => login.name,
                // A proof of somebody else is not overheard: a gateway with a certificate may bring it.
                Some(Credentials::Bearer(secret)) => {
                    self.door.shared.ledger.bearer(&secret).map(|identity| plain(identity.user().clone()))
                }
                None if header.is_some() => return Err(no("a proof of a kind that is not known")),
                None => certificate.name.clone().map(plain),
            };
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
        // Who sends a secret alone names nobody, so everybody of this source is counted as one. A right secret is no
        // guess: it does not wait for others' wrong ones.
        let is_named = matches!(sent, Credentials::Named(_));
        if is_named {
            self.door.shared.slow_down(&source).await;
        }
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
            if !is_named {
                self.door.shared.slow_down(&source).await;
            }
            throttle.failed(source);
            return Err(Refused::stranger(Refusal::BadCredentials, "wrong secret or user", Some(name)));
        };
        if is_named {
            throttle.succeeded(&source);
        }
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
        let Refused { refusal, why, user, target, authenticated, told, closes: _ } = refused;
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
    // HTTP/2 says scheme and authority apart from the path (RFC 9113, section 8.3.1).
    let is_h2 = head.version == Version::HTTP_2;
    let absolute = head.uri.scheme().is_some() || head.uri.authority().is_some();
    if (absolute && !is_h2) || head.method == Method::CONNECT {
        return Err(Wrong::Bad("the URL must begin with a slash"));
    }
    if !is_h2 && !matches!(head.version, Version::HTTP_10 | Version::HTTP_11) {
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
    Ok(())
}

/// A browser sends the proof that it knows with whatever the page of another site makes it send, so what comes from one
/// is refused (<https://www.w3.org/TR/fetch-metadata/>; browsers that do not say so yet say where a POST comes from).
fn same_site(head: &Parts) -> Result<(), Wrong> {
    let headers = &head.headers;
    const ELSEWHERE: Wrong = Wrong::Denied("it comes from a page of another site");
    const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
    if let Some(site) = single(headers, &SITE)? {
        return if matches!(site, "same-origin" | "none") { Ok(()) } else { Err(ELSEWHERE) };
    }
    let Some(origin) = single(headers, &ORIGIN)? else { return Ok(()) };
    let from = origin.split_once("://").map(|(_, from)| from);
    let host = match head.uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => single(headers, &HOST)?,
    };
    if from.is_some() && from == host { Ok(()) } else { Err(ELSEWHERE) }
}

/// Whether a location names no other place, such as the target's own address.
fn is_here(location: &HeaderValue) -> bool {
    location.as_bytes().starts_with(b"/") && !location.as_bytes().starts_with(b"//")
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

/// Takes a body in. Whether that is all of it: a `_bulk` that is streamed is read as far as it takes to decide.
async fn fill(
    incoming: &mut Incoming,
    ends: &mut Ends,
    (reads, spooling): (&mut Reads, &mut Spooling),
    streams: bool,
) -> Result<bool, Refused> {
    loop {
        let piece = tokio::select! {
            biased;
            refusal = &mut *ends => return Err(Refused::of(refusal)),
            piece = piece(incoming) => piece.map_err(Refused::of)?,
        };
        let Some(piece) = piece else { return Ok(true) };
        let beside = match reads {
            Reads::Bulk(bulk) => {
                bulk.push(&piece)?;
                bulk.unread()
            }
            Reads::Whole(_) => 0,
        };
        spooling.push(&piece, beside).await.map_err(Refused::of)?;
        let is_enough = streams && spooling.length() >= limits::HTTP_BODY_STREAM_BYTES as u64;
        // What had no room in memory is kept whole: its beginning is in a file.
        if is_enough && spooling.is_in_memory() && matches!(reads, Reads::Bulk(_)) {
            return Ok(false);
        }
    }
}

/// Ends where one of them does.
fn either(ends: Ends, refused: oneshot::Receiver<Refusal>) -> Ends {
    Box::pin(async move {
        tokio::select! { refusal = ends => refusal, Ok(refusal) = refused => refusal }
    })
}

/// Before an order is given to a task: its id may have come to mean another one, of another person.
async fn still_is(place: &Arc<Place>, task: &tasks::Task) -> Result<(), Refused> {
    let (status, answer) = place.ask(&tasks::about(task)).await.map_err(Refused::of)?;
    match status.is_success() && tasks::is_it(task, &answer) {
        true => Ok(()),
        false => Err(Refused::of(Refusal::OperationDenied("the task is not there any more"))),
    }
}

/// What is counted of a request.
fn counting(asked: &mut Asked, mut held: Held, catalog: Option<&Catalog>) -> (Counting, Held) {
    let counting = Counting::new(asked.counts());
    let counting = match (asked.take_actions(), &mut held) {
        (Some(actions), _) => counting.with_actions(actions, catalog),
        (None, Held::Checked(checking)) => {
            if let Some(catalog) = catalog {
                checking.resolve(catalog);
            }
            counting.with_told(checking.told())
        }
        (None, _) => counting,
    };
    (counting, held)
}

/// Where what is named could be something else than an index, it must be one, or an alias or a data stream.
fn are_there(asked: &Asked, catalog: &Catalog) -> Result<(), Refused> {
    const ELSE: &str = "what is named is no index, alias or data stream: a view may read what it likes";
    match asked.wants_indices() && !catalog.has(&asked.named().reach) {
        true => Err(Refused::of(Refusal::OperationDenied(ELSE))),
        false => Ok(()),
    }
}

/// The request with what its sealed ids stand for.
fn put_ids(path: Path, mut held: Held, asked: &Asked, opened: &[Opened]) -> Result<(Path, Held), Refusal> {
    if opened.is_empty() {
        return Ok((path, held));
    }
    let text = held.in_memory().map_or(&[][..], |bytes| bytes);
    let (path, body) = asked.with_ids(&path, text, opened)?;
    if let (Held::Kept(kept), Some(body)) = (&mut held, body) {
        kept.replace(body.into())?;
    }
    Ok((path, held))
}

/// Whether the client understands JSON, which is all that can be looked into.
fn spoken(headers: &HeaderMap) -> Result<(), Wrong> {
    let json = |kind: &str| {
        let kind = kind.trim();
        kind.starts_with("*/*") || kind.starts_with("application/*") || ContentType::parse(kind).is_some()
    };
    match single(headers, &ACCEPT)? {
        Some(accept) if !accept.split(',').any(json) => {
            Err(Wrong::Bad("an answer with an id in it is given as JSON alone: accept must allow that"))
        }
        _ => Ok(()),
    }
}

/// The kind of JSON that a client asks for, where it names one.
fn json_of(accept: &str) -> Option<HeaderValue> {
    let mut kinds = accept.split(',').map(str::trim);
    let json = kinds.find(|kind| ContentType::parse(kind) == Some(ContentType::Json))?;
    HeaderValue::from_str(json).ok()
}

/// Whether an answer is JSON as it is.
fn may_be_looked_into(headers: &HeaderMap) -> bool {
    let kind = single(headers, &CONTENT_TYPE).ok().flatten();
    !headers.contains_key(CONTENT_ENCODING) && kind.is_none_or(|kind| ContentType::parse(kind).is_some())
}

/// The request that is sent: made anew from what was understood. `None`: it cannot be said.
fn rebuilt(
    sent_on: &[HeaderName],
    head: &Parts,
    target: &str,
    stamp: &str,
    upload: Upload,
) -> Option<Request<Upload>> {
    let mut request = Request::new(upload);
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = target.parse().ok()?;
    let headers = request.headers_mut();
    // With who the proxy is there.
    headers.reserve(sent_on.len() + 3);
    for name in sent_on {
        for value in head.headers.get_all(name) {
            headers.append(name, value.clone());
        }
    }
    headers.insert(HeaderName::from_static("x-opaque-id"), HeaderValue::from_str(stamp).ok()?);
    Some(request)
}

/// An answer of the proxy's own, in JSON.
fn ours(status: StatusCode, body: String) -> Response<Answered> {
    let mut response = Response::new(Answered::Ours(Some(Bytes::from(body))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// What is said where it cannot be told whether something is hidden or is not there: the same to the last header.
fn absent(shown: &Shown) -> Option<Response<Answered>> {
    let (status, said) = shown.absent()?;
    Some(ours(StatusCode::from_u16(status).unwrap_or(StatusCode::NOT_FOUND), said.to_owned()))
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

/// All that a request touches, as far as half of a line of the trail has room for it.
fn touched(touch: &Touch) -> String {
    let mut text = String::from("\n[");
    let names = match &touch.reach {
        Reach::Everything(_) => return "\n[*]".to_owned(),
        Reach::Names(names) => names,
    };
    for (place, name) in names.iter().enumerate() {
        if text.len() + name.len() > limits::AUDIT_TEXT_BYTES_MAX / 2 {
            text.push_str(",…");
            break;
        }
        text.push_str(if place == 0 { "" } else { "," });
        text.push_str(name);
    }
    text.push(']');
    text
}

/// The start of a line that may be anything.
fn cut_line(line: &str) -> String {
    line.chars().take(limits::HTTP_SHOWN_CHARS_MAX).collect()
}
