//! What one API is to the proxy. The door, the session and the connections to targets are the same for all of them; a
//! new one is an implementation of [`Api`], its [`Entry`](crate::protocol::Entry), and nothing else. No method has a
//! default: each API says each of these itself.

use std::fmt;

use super::{Answer, Asked, Bulk, Path, Several, Wrong};
use crate::model::{AccessLevel, Refusal, Time, Touch};

/// One API, known by the name of its protocol.
pub trait Api: Send + Sync {
    /// The route of a request; one that is not known is refused.
    fn route(&self, method: &str, path: &Path) -> Result<Box<dyn Routed>, Wrong>;

    /// The same path with names in the place of dates in them. `None`: there are none, or not where names stand.
    fn dated(&self, method: &str, path: &Path, now: Time) -> Option<Result<Path, Wrong>>;

    /// The target that is sent on: parsed again it is the same.
    fn render(&self, path: &Path) -> String;

    /// What anybody may know without a login, said by the proxy itself: no target is asked.
    fn said_to_anybody(&self, method: &str, path: &str) -> Option<&'static str>;

    /// A refusal in the words of the API: its error body, so that clients show it as they show their server's own.
    fn answer(&self, refusal: &Refusal) -> Answer;

    /// Whether names may stand for others, which must be looked up at the target and be covered as well.
    fn has_aliases(&self) -> bool;

    /// Whether bodies of this `content-type` are read here as the target will read them.
    fn reads(&self, content_type: &str) -> bool;

    /// Headers of a client that are sent on, beside those that the proxy makes itself.
    fn sent_on(&self) -> &'static [&'static str];

    /// Headers of an answer that are told to the client.
    fn told(&self) -> &'static [&'static str];

    /// Headers of our own answers, without which clients do not take them.
    fn marks(&self) -> &'static [(&'static str, &'static str)];

    /// What is asked of a target to see whether a connector's login holds.
    fn probe(&self) -> &'static str;

    /// Actions of what a target of this API may go on with when nobody waits for it any more, as [`super::tasks`].
    fn goes_on_with(&self) -> Vec<&'static str>;

    /// Whether an answer with status 401 says that the login is not known, and not that it may not do this.
    fn says_login_failed(&self, body: &[u8]) -> bool;
}

/// A request whose route is known; what its body touches may be still to be found.
pub trait Routed: Send + Sync {
    /// Whether there may be a body at all.
    fn takes_body(&self) -> bool;

    /// Whether the body must be read before it is known what the request touches.
    fn needs_body(&self) -> bool;

    /// What is touched whatever the body says.
    fn named(&self) -> Touch;

    /// What reads its body as it comes. The error: this is none that is read so.
    fn bulk(self: Box<Self>) -> Result<Bulk, Box<dyn Routed>>;

    /// What reads its body search by search. The error: this is none that is read so.
    fn several(self: Box<Self>) -> Result<Several, Box<dyn Routed>>;

    /// The same body with names in the place of dates in them. `None`: there are none, or it is not made anew.
    fn dated(&self, body: &[u8], now: Time) -> Option<Result<Vec<u8>, Wrong>>;

    /// What the request asks for. `body`: all of it where it is needed, else nothing.
    fn asked(self: Box<Self>, body: &[u8]) -> Result<Asked, Wrong>;
}

/// Who an answer is for.
pub struct Viewer<'a> {
    pub user: &'a str,
    pub level: &'a AccessLevel,
    /// There is nothing that the grant does not cover.
    pub sees_everything: bool,
    /// The one name that the grant covers, where it is just one.
    pub only: Option<&'a str>,
    pub covers: &'a dyn Fn(&str) -> bool,
}

/// How an answer is made fit for its viewer.
#[derive(Debug, PartialEq, Eq)]
pub enum View {
    /// It is shown as it comes.
    Whole,
    /// This is asked instead, and shown as it comes.
    Instead(Path),
    /// This is asked instead, and of its answer what [`Part::show`] leaves.
    Filtered(Path),
}

/// An answer that may tell of more than what its viewer's grant covers.
pub trait Part: fmt::Debug + Send + Sync {
    /// `path`: as the client sent it.
    fn view(&self, path: &Path, viewer: &Viewer<'_>) -> View;

    /// Whether answers of every status are shown so, and not those with status 200 alone.
    fn every_status(&self) -> bool;

    /// What is said, with which status, where the answer is about something that the grant does not cover, and where
    /// the target answers with another status than 200: so the one looks like the other. `None`: that answer is shown.
    fn absent(&self) -> Option<(u16, &'static str)>;

    /// What is shown of a whole answer. What cannot be read is not shown.
    fn show(&self, path: &Path, viewer: &Viewer<'_>, answer: &[u8]) -> Result<Vec<u8>, Hidden>;
}

/// Why nothing of an answer is shown.
#[derive(Debug, PartialEq, Eq)]
pub enum Hidden {
    /// It is about something that the grant does not cover.
    NotThere,
    /// The request cannot be answered so.
    Wrong(Wrong),
    /// It has another form than this API's answers.
    Strange,
}
