//! The traits through which every session protocol plugs in.
//!
//! A protocol never sees a socket, a clock or a thread: it is a set of small state machines that the
//! one engine (`proxy`) drives. So any byte sequence can be replayed, split anywhere and fuzzed
//! without a runtime, and the engine's rules (time limits, order of the audit, cutting) hold for a
//! protocol nobody has written yet.
//!
//! ```text
//!   client --> Accept --Login(Identity, Claim)--> [Admission] --> Relay <--> server
//!                                                    |
//!                                         Dial (once per connection)
//!                                         Script (Probe, Prepare, Reset, Ping, Check)
//! ```

use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use bytes::BytesMut;
use zeroize::Zeroizing;

use crate::credential::{Identity, Secret, mysql, scram};
use crate::grant::Admission;
use crate::model::{Claim, ClientCertificate, LoginName, Name, Notes, Operation, Refusal, Upstream, Verdict};

/// The peer broke the protocol. Says what and where, never payload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}")]
pub struct WireError {
    /// The message or state in which it happened, in the protocol's own words.
    pub place: &'static str,
    pub what: &'static str,
}

impl WireError {
    pub const fn new(place: &'static str, what: &'static str) -> Self {
        Self { place, what }
    }
}

/// An error that a server told us while we logged in or ran a script of our own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ServerError {
    pub kind: ServerErrorKind,
    /// The protocol's code, such as a SQLSTATE.
    pub code: String,
    pub message: String,
}

/// What a server's error means for the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerErrorKind {
    /// Our user name or password; the secret is read again.
    BadSecret,
    /// Not our login from here, or not to this database, or not without showing more; where the database is a
    /// client's choice this says nothing of the secret.
    NotAdmitted,
    NoDatabase,
    /// The server has no connection left.
    Full,
    /// Starting, stopping, in recovery: worth another try later.
    Unready,
    /// A start-up setting of the client; the error's message is its name.
    BadParameter,
    /// The server does not know an option that we dialled with ourselves: worth one more attempt
    /// with `plain`, at once.
    UnknownOption,
    Other,
}

impl ServerErrorKind {
    /// Whether the server closes the connection that it said this on.
    pub fn ends_connection(self) -> bool {
        self == Self::Unready
    }
}

/// Permission for traffic of the pool's own: connecting, probing, resetting. Made by `pool` only
/// (`tests/tidy.rs` looks), and nothing turns it into a lease.
#[derive(Debug)]
pub struct Upkeep(());

impl Upkeep {
    // Its maker, the pool, is not part of the half without IO.
    #[cfg_attr(not(feature = "server"), expect(dead_code))]
    pub(crate) const fn new() -> Self {
        Self(())
    }
}

/// One session protocol. The only thing its folder exports.
pub trait Wire: Send + Sync + 'static {
    const NAME: &'static str;
    const PORT: u16;
    /// What TLS clients call the protocol (RFC 7301); empty where it has no name there. Who offers other names
    /// only is turned away in the handshake.
    const ALPN: &'static [&'static [u8]] = &[];
    /// What comes before the port in the name of a unix socket that clients look for in a folder; `None` where they
    /// are told the file itself.
    const SOCKET_NAME: Option<&'static str> = None;
    /// Its servers speak first: the greeting says the number of the client's connection, and what a server is.
    /// So a cancel key is issued before a word is said, and [`Facts::learned`] of the target is looked for.
    const GREETS: bool = false;
    /// What is said before an idle connection to a server is closed; servers may note it down as an accident where
    /// nothing is.
    const GOODBYE: &'static [u8] = &[];
    /// What to do where people under one login can read, stop or end what others run.
    const SHARED_LOGIN: &'static str = "the SQL of --sql closes that";
    /// Stopping a statement takes a login, see [`Wire::stop`]; else a request of its own, [`DialPurpose::Interrupt`].
    const INTERRUPTS_LOGGED_IN: bool = false;
    /// How many connections one [`Purpose::Terminate`] ends, or one [`Purpose::Halt`] stops.
    const TERMINATIONS_MAX: usize = 1;
    type Accept: Accept;
    /// What the client said that must be put on every connection it is lent (start-up settings).
    type Settings: Clone + Send + Sync;
    /// What the server told us while we logged in; kept with the connection.
    type Facts: Facts;
    type Dial: Dial<Facts = Self::Facts>;
    type Relay: Relay<Facts = Self::Facts>;
    type Script: Script;

    fn accept(&self, context: &AcceptContext) -> Self::Accept;
    /// The start-up settings of a client that has logged in.
    fn settings(&self, accept: &Self::Accept) -> Self::Settings;
    /// The same for the trail: names and values, secrets masked, of bounded length.
    fn settings_shown(&self, settings: &Self::Settings) -> Vec<(String, String)>;
    /// The settings with which a connection must be prepared for a session that has these to put back.
    fn dressed(&self, settings: &Self::Settings, restore: &Restore) -> Self::Settings;
    fn dial(&self, purpose: DialPurpose<'_>, way: DialWay, secret: &Secret) -> Self::Dial;
    /// The file of a server's unix socket, for the folder that an address names and its port.
    fn unix_socket(&self, path: &str, port: Option<u16>) -> String;
    fn script(&self, purpose: Purpose<'_, Self::Settings>, facts: &Self::Facts) -> Self::Script;
    /// What stops the statement that runs on another connection, over one that is logged in. Done when the server has
    /// taken the request, also where there is nothing left to stop.
    fn stop(&self, _: &Upkeep, _: &Interruption, _: &Self::Facts) -> Option<Self::Script> {
        None
    }
    /// What must be the same for two connections to be interchangeable beyond target, level and database,
    /// because it cannot be changed after the login. Empty where everything can.
    fn flavour(&self, settings: &Self::Settings) -> String;
    /// Tells the client it is in. Success cannot be said without an `Admission`.
    fn relay(
        &self,
        accept: Self::Accept,
        entry: Entry<'_>,
        facts: &Self::Facts,
        out: &mut BytesMut,
    ) -> Self::Relay;
    /// The login that a conversation ended for with [`RelayStep::LoginAgain`]: on the same connection, which is past
    /// its greeting, TLS and framing. It goes by what the listener and TLS said then. `None`: there is none.
    fn accept_again(&self, _relay: Self::Relay) -> Option<Self::Accept> {
        None
    }
}

/// What an established conversation starts with.
pub struct Entry<'a> {
    pub admission: &'a Admission,
    /// The cancel key that we issue to the client: ours, never the server's.
    pub key: CancelKey,
    /// Person and session, at most 63 bytes: what the server itself is shown (`alice/s-0f…`).
    pub stamp: &'a str,
    /// A sentence for the client on entering, such as that other grants were open too.
    pub greeting: Option<&'a str>,
}

// ---------------------------------------------------------------------------------------------
// Accept: a client logs in to us

/// What the listener knows before the client speaks.
#[derive(Debug, Clone)]
pub struct AcceptContext {
    /// The listener's fixed target.
    pub target: Option<Name>,
    pub peer: IpAddr,
    pub tls: TlsOffer,
    /// What follows the target in a TLS server name, in lower case: `.db.example.com`. `None`: the name says
    /// nothing.
    pub server_name_suffix: Option<Arc<str>>,
    /// Nobody logs in without a certificate of their own.
    pub certificate_required: bool,
    /// Where the protocol greets.
    pub greeting: Greeting,
}

/// What a protocol whose servers speak first says ([`Wire::GREETS`]).
#[derive(Debug, Clone, Default)]
pub struct Greeting {
    /// The number of this client's connection: the `process` of its cancel key.
    pub process: u32,
    /// What the servers that the listener may lead to said of themselves at their last login
    /// ([`Facts::learned`]); none of those that are not known yet.
    pub learned: Vec<Arc<str>>,
    /// The version to greet with where nothing is known, if the listener names one.
    pub version: Option<Arc<str>>,
    /// The engine knows every [`Framing`].
    pub compresses: bool,
    /// A proof that is stolen more easily than others is taken from clients that have no other
    /// (mysql_native_password).
    pub takes_native: bool,
}

impl AcceptContext {
    /// Of a listener that leaves everything else out.
    pub fn new(target: Option<Name>, peer: IpAddr, tls: TlsOffer) -> Self {
        let greeting = Greeting::default();
        Self { target, peer, tls, server_name_suffix: None, certificate_required: false, greeting }
    }

    /// The target of a login: the listener, the TLS server name and the login name each may say it, and all that
    /// do must say the same.
    pub fn target(&self, login: &LoginName, tls: Option<&TlsFacts>) -> Result<Name, &'static str> {
        let by_server_name = self.server_name_target(tls);
        match (&self.target, &login.target) {
            (Some(fixed), Some(named)) if fixed != named => {
                Err("the login name says another target than the listener's")
            }
            (fixed, named) => match (fixed.as_ref().or(named.as_ref()), by_server_name) {
                (Some(target), Some(by_name)) if *target != by_name => {
                    Err("the TLS server name says another target than the login")
                }
                (Some(target), _) => Ok(target.clone()),
                (None, Some(by_name)) => Ok(by_name),
                (None, None) => Err("neither login name, TLS server name nor listener says a target"),
            },
        }
    }

    /// The target in the name by which the client called us: what stands ahead of the listener's suffix.
    fn server_name_target(&self, tls: Option<&TlsFacts>) -> Option<Name> {
        let suffix = self.server_name_suffix.as_deref()?;
        let name = tls?.server_name.as_ref()?.to_ascii_lowercase();
        Name::parse(name.trim_end_matches('.').strip_suffix(suffix)?).ok()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsOffer {
    /// No certificate is configured; only possible on loopback.
    Unavailable,
    Optional,
    /// Who does not ask for TLS is refused before any credential travels.
    Required,
}

/// What TLS told us, once it stands.
#[derive(Debug, Clone, Default)]
pub struct TlsFacts {
    pub server_name: Option<String>,
    /// Client and we agreed on the protocol's name ([`Wire::ALPN`]).
    pub alpn: bool,
    /// `tls-server-end-point` of RFC 5929: the hash of the certificate that this very connection was shown.
    /// `None` where the certificate's signature has no hash of its own.
    pub end_point: Option<Arc<[u8]>>,
    /// The client's own certificate, verified.
    pub certificate: Option<Arc<ClientCertificate>>,
}

/// How TLS begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsStart {
    /// The client asked and waits for our word: bytes that came already are not protected by TLS and an error
    /// (CVE-2021-23214).
    Asked,
    /// The client goes on with it unasked: what came already is its first record, not consumed by the machine.
    Direct,
}

/// A client logs in. `step` is called with `Start` first, then with what the last step asked for.
pub trait Accept: Send {
    /// Consumes what it understood from the front of `Bytes`; answers go to `out`.
    fn step(&mut self, input: AcceptInput<'_>, out: &mut BytesMut) -> Result<AcceptStep, WireError>;
    /// Words a refusal for this moment of the login.
    fn refuse(&mut self, refusal: &Refusal, out: &mut BytesMut);
    /// Shows a line; false where the protocol has no way to at this moment.
    fn notice(&mut self, text: &str, out: &mut BytesMut) -> bool;
    /// What the client claims so far, for the audit of a login that fails: user, target, database.
    fn claimed(&self) -> Claimed<'_>;
    /// How long the secret of the client's cancel key is, in bytes.
    fn cancel_key_bytes(&self) -> usize {
        4
    }
    /// How the conversation travels once the client has been told that it is in.
    fn framing(&self) -> Framing {
        Framing::Plain
    }
}

/// How a conversation's bytes travel, between the machines and TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Framing {
    #[default]
    Plain,
    /// MySQL's compressed packets, with zlib.
    Zlib,
    /// The same with zstd at this level.
    Zstd(u8),
}

/// Unproven words of a client, as sent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Claimed<'a> {
    pub user: Option<&'a str>,
    pub database: Option<&'a str>,
    /// Who they are has been proven; whether they may go in is another question.
    pub proven: bool,
}

pub enum AcceptInput<'a> {
    /// The connection stands; protocols whose server speaks first do so now.
    Start,
    /// Everything read and not yet consumed. May be empty: a step may finish what is buffered.
    Bytes(&'a mut BytesMut),
    /// After `StartTls`. Bytes that came before the handshake are the engine's to refuse, see [`TlsStart`].
    TlsReady(&'a TlsFacts),
    /// After `Ask`.
    Answer(Answer),
}

pub enum AcceptStep {
    NeedBytes,
    /// Write `out`, then shake hands, then step with `TlsReady`.
    StartTls(TlsStart),
    Ask(Question),
    /// The connection only carries a cancel request: never answered.
    Cancel(CancelKey),
    Login(Box<(Identity, Claim)>),
    /// Refuse with this; `why` is for the trail. The machine has not written anything yet: the
    /// engine slows failed logins down and then calls `refuse`.
    Refuse(Refusal, &'static str),
}

#[derive(Debug)]
pub enum Question {
    /// The verifiers of this user for SCRAM-SHA-256. `None`: the name cannot be one of ours, a mock
    /// exchange under the name as sent keeps the client from learning that.
    Scram { user: Option<Name>, sent: String },
    /// Whether the client's certificate is good for this user now.
    Certificate { user: Name, certificate: Arc<ClientCertificate> },
    /// The verifiers of this user for what MySQL's and MariaDB's clients prove with. `None`: as above.
    MySql { user: Option<Name>, sent: String },
}

pub enum Answer {
    Scram(Box<scram::Exchange>),
    /// The error says why not, for the trail.
    Certificate(Result<Identity, &'static str>),
    MySql(Box<mysql::Exchange>),
}

// ---------------------------------------------------------------------------------------------
// Dial: we log in to a server

/// What TLS may and must be on this attempt; the engine walks the six modes (a second attempt for
/// `allow` and `prefer`), the machine only asks or does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DialTls {
    /// Do not ask.
    Without,
    /// Ask; go on in clear where the server says no (`prefer`).
    Try,
    /// Ask; a server that says no is a fault.
    Demand,
    /// Do not ask: it begins with the first byte.
    Direct,
}

/// How an attempt is made, and under which rules of its target.
#[derive(Debug, Clone)]
pub struct DialWay {
    pub tls: DialTls,
    /// Over a unix socket: the system keeps strangers away.
    pub local: bool,
    pub rules: Upstream,
}

impl From<DialTls> for DialWay {
    fn from(tls: DialTls) -> Self {
        Self { tls, local: false, rules: Upstream::default() }
    }
}

/// What TLS showed of a server.
#[derive(Debug, Clone, Default)]
pub struct DialTlsFacts {
    /// Its certificate was checked against an authority.
    pub verified: bool,
    /// `tls-server-end-point` (RFC 5929): the hash of its certificate; `None` where that has none.
    pub end_point: Option<Vec<u8>>,
}

pub enum DialPurpose<'a> {
    /// A connection for the pool. `plain`: without the options that older servers refuse, after
    /// they answered [`ServerErrorKind::UnknownOption`]. `flavour`: that of the pool ([`Wire::flavour`]), empty for
    /// connections on which only we speak.
    Login { upkeep: &'a Upkeep, database: &'a str, flavour: &'a str, plain: bool },
    /// Stop a statement that runs on another connection, where that takes no login.
    Interrupt(&'a Interruption),
}

/// What it takes to stop the running statement of one connection, in the protocol's own form (for
/// PostgreSQL the server's process id and key).
#[derive(Clone, PartialEq, Eq)]
pub struct Interruption(pub Vec<u8>);

impl std::fmt::Debug for Interruption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Interruption(..)")
    }
}

/// What it takes to end one connection at the server for good, in the protocol's own form, and not by
/// accident another one: a number that a server (or what stands in front of it) gave out may belong to
/// somebody else there (for PostgreSQL the backend's own process id and the moment it began).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Termination(pub String);

pub trait Dial: Send {
    type Facts;
    fn step(&mut self, input: DialInput<'_>, out: &mut BytesMut) -> Result<DialStep<Self::Facts>, WireError>;
}

pub enum DialInput<'a> {
    Start,
    Bytes(&'a mut BytesMut),
    /// TLS stands.
    TlsReady(&'a DialTlsFacts),
    /// After `Seal`. `Err`: the key is none that we seal with, and why.
    Sealed(Result<Vec<u8>, &'static str>),
}

pub enum DialStep<F> {
    NeedBytes,
    /// Write `out`, then shake hands, then step with `TlsReady`.
    StartTls,
    /// Write `out`, then step with this sealed with RSA-OAEP (SHA-1) under a public key in PEM form.
    Seal {
        key: Vec<u8>,
        text: Zeroizing<Vec<u8>>,
    },
    Refused(ServerError),
    Ready(F),
    /// An interruption has been sent; it has landed when the server closes the connection.
    Sent,
}

/// What a server told us at login.
pub trait Facts: Clone + Send + Sync + 'static {
    /// The server's own name for this connection (a backend process id), for the trail.
    fn upstream_name(&self) -> String;
    /// The number by which the server would have this connection's own client know it, where the
    /// protocol has one: what drivers show as the connection's process id, and what people and tools
    /// hand to functions like `pg_cancel_backend`.
    fn process(&self) -> Option<u32> {
        None
    }
    fn server_version(&self) -> &str;
    /// How to stop what runs on this connection.
    fn interruption(&self) -> Interruption;
    /// How to end this connection from another one; `None` where it cannot be told apart for sure.
    fn termination(&self) -> Option<Termination>;
    /// The login that the server knows us by.
    fn login(&self) -> &str;
    /// What the server said of itself, for the greetings of clients ([`Greeting::learned`]); the same for
    /// every connection to the same server.
    fn learned(&self) -> Option<String> {
        None
    }
    /// How the conversation travels from the end of the login on.
    fn framing(&self) -> Framing {
        Framing::Plain
    }
    /// Takes over what a script learnt: call it with the findings of every script that was done.
    fn apply(&mut self, findings: &Findings);
    /// Takes over from another connection to the same server what is equal, so that it is in memory once.
    fn share(&mut self, _other: &Self) {}
}

// ---------------------------------------------------------------------------------------------
// Relay: the established conversation

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Downstream,
    Upstream,
}

impl Side {
    pub fn other(self) -> Self {
        match self {
            Self::Downstream => Self::Upstream,
            Self::Upstream => Self::Downstream,
        }
    }
}

/// The established conversation between one client and the connection it is lent.
pub trait Relay: Send {
    type Facts;
    /// Looks at `input`, everything read from `from` and not yet consumed, and plans what to do
    /// with its front; what it consumed is in `flow.plan`. Returns with unconsumed bytes when it
    /// needs more of them, or when it holds.
    fn pump(&mut self, from: Side, input: &[u8], flow: &mut Flow<'_>) -> Result<RelayStep, WireError>;
    /// Where the conversation stands as seen from the server.
    fn boundary(&self) -> Boundary;
    /// May words of ours be put in here, towards that side?
    fn at_unit_boundary(&self, towards: Side) -> bool;
    /// A line shown to the client outside of any answer; false where the protocol cannot now.
    fn notice(&mut self, text: &str, out: &mut BytesMut) -> bool;
    /// Words a refusal that ends the session, correct for this very moment. Only called when
    /// `at_unit_boundary(Downstream)`.
    fn refuse(&mut self, refusal: &Refusal, out: &mut BytesMut);
    /// Begins to ask the server, unseen by the client, whether anything would be lost if the connection were
    /// given back; the question goes to `upstream`. Only at `Boundary::Idle`, when nothing of the client waits
    /// in the engine's buffers. `Err`: something is known to keep the session where it is.
    ///
    /// The answer is said by [`RelayStep::Proven`], and by nothing where the client went on meanwhile.
    fn prove(&mut self, ask: Ask, upstream: &mut BytesMut) -> Result<(), Pinned>;
    /// The client has nothing under way; what makes the conversation busy is our own question.
    fn is_proving(&self) -> bool;
    /// What the server answered; once.
    fn proof(&mut self) -> Option<Proof>;
    /// Gives the lease back: what must be put on the next connection, or why that cannot be.
    /// Only after a proof that nothing pins, and only until the client goes on.
    fn detach(&mut self) -> Result<Restore, Pinned>;
    /// Goes on with another connection that `Prepare` was run on. Writes to `upstream` what must be
    /// put back first; the answers to it are swallowed.
    fn attach(&mut self, facts: &Self::Facts, restore: Restore, upstream: &mut BytesMut);
    /// What came of the client's last [`RelayStep::Kill`]; pumping its side again says so to it.
    fn killed(&mut self, _outcome: Killed) {}
    /// From now on passes only the rest of the message that is on its way to the client, and drops what
    /// comes after it: the session is about to be ended with a refusal.
    fn wind_down(&mut self);
    /// Something happened that no reset undoes and none shows: the connection must not be lent again.
    fn is_spoiled(&self) -> bool {
        false
    }
    /// Notes what becomes of statements whose end this session will not see: it is being ended.
    fn unfinished(&mut self, notes: &mut Notes<'_>, clock_micros: u64);
    /// Statements so far.
    fn statements(&self) -> u64;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayStep {
    /// Go on; needs more bytes of this side for what is unconsumed.
    Continue,
    /// Enough for one turn (notes or words of ours would outgrow their limit): pump the rest again as soon as
    /// the other side takes more.
    Again,
    /// The server has answered the question of [`Relay::prove`].
    Proven,
    /// Detached, and the client wants something done: lease, `attach`, then pump the same again.
    NeedLease,
    /// Read no more of this side until the other side has been pumped; then pump the rest again.
    Hold,
    /// The client asks to stop another session. Its command is consumed and goes nowhere: what came of it is
    /// told to [`Relay::killed`], after which this side's input is pumped again, also where nothing new came.
    Kill(Kill),
    /// The client wants to be somebody else, or itself anew. Nothing is due to it; its session ends here, and what
    /// comes next is [`Wire::accept_again`].
    LoginAgain,
    /// The client said goodbye (downstream), or the server ended the conversation (upstream).
    Close,
    /// Ends the session with this.
    Refuse(Refusal),
}

/// What a client asks with [`RelayStep::Kill`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kill {
    /// As the client knows it: the `process` of a [`CancelKey`] of ours, or the server's own number of a
    /// connection that a session has ([`Facts::process`], [`Facts::upstream_name`]).
    pub process: u64,
    /// The whole session is meant, not only the statement that runs there.
    pub ends: bool,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Killed {
    /// It was asked for; as with the server itself, that is no promise that it has happened yet.
    Done,
    /// None of this person's sessions has the number, which may be anybody else's.
    Unknown,
}

/// Where a conversation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boundary {
    /// Answers are due, or a message is on its way.
    Busy,
    /// Nothing is due and no transaction is open.
    Idle,
    /// Nothing is due; a transaction is open (or failed and not yet rolled back).
    InTransaction,
}

/// Why a session cannot give its lease back, in stable words that lists and metrics show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pinned(pub &'static str);

/// What [`Relay::prove`] is told.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    /// Look through the code in the database, too.
    pub code: bool,
    /// The operator accepts that current values of sequences are lost.
    pub sequences: bool,
}

/// What a server answered to [`Relay::prove`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Stands for the code that is in the database now; empty where the server did not say.
    pub code: String,
    /// Code that may leave state which nothing shows, behind a plain statement; where [`Ask::code`] asked for it.
    pub hidden: Vec<String>,
    pub pinned: Option<Pinned>,
}

/// A prepared statement that is put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    pub name: Vec<u8>,
    pub text: Vec<u8>,
    pub types: Vec<u32>,
    /// Stands for what the server said of its parameters and columns.
    pub described: u64,
}

/// What a detached session must have put back on its next connection, in the protocol's own form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restore {
    /// Bounded by [`crate::model::limits::PREPARED_TEXT_BYTES_MAX`].
    pub prepared: Vec<Prepared>,
    /// Settings of the session: name and value.
    pub settings: Vec<(String, String)>,
}

pub struct Flow<'a> {
    pub plan: &'a mut Plan,
    /// Back to the sender of the input: our own words.
    pub back: &'a mut BytesMut,
    /// In the journal before the bytes of `plan` leave.
    pub notes: &'a mut Notes<'a>,
    /// Policy: synchronous, in memory.
    pub judge: &'a mut dyn FnMut(&Operation<'_>) -> Verdict,
    /// A monotonic clock, in microseconds, read once per call.
    pub clock_micros: u64,
}

/// What leaves for the other side: pieces of the input and words of our own, in order. Used again
/// and again without allocating.
#[derive(Debug, Default)]
pub struct Plan {
    pieces: Vec<Piece>,
    own: Vec<u8>,
    consumed: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// This range of the input, as it is.
    Pass(Range<usize>),
    /// This range of [`Plan::own`].
    Own(Range<usize>),
}

impl Plan {
    pub fn clear(&mut self) {
        self.pieces.clear();
        self.own.clear();
        self.consumed = 0;
    }

    /// Passes the next `count` bytes of the input on.
    pub fn pass(&mut self, count: usize) {
        let end = self.consumed + count;
        match self.pieces.last_mut() {
            Some(Piece::Pass(range)) if range.end == self.consumed => range.end = end,
            _ if count == 0 => {}
            _ => self.pieces.push(Piece::Pass(self.consumed..end)),
        }
        self.consumed = end;
    }

    /// Leaves the next `count` bytes of the input out.
    pub fn drop(&mut self, count: usize) {
        self.consumed += count;
    }

    /// Puts words of ours in.
    pub fn own(&mut self, bytes: &[u8]) {
        let start = self.own.len();
        self.own.extend_from_slice(bytes);
        match self.pieces.last_mut() {
            Some(Piece::Own(range)) if range.end == start => range.end = self.own.len(),
            _ if bytes.is_empty() => {}
            _ => self.pieces.push(Piece::Own(start..self.own.len())),
        }
    }

    /// How many bytes of our own are in it.
    pub fn own_bytes(&self) -> usize {
        self.own.len()
    }

    /// How much of the input has been dealt with.
    pub fn consumed(&self) -> usize {
        self.consumed
    }

    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The bytes of one piece; `input` is what `pump` was given.
    pub fn bytes<'a>(&'a self, piece: &Piece, input: &'a [u8]) -> &'a [u8] {
        match piece {
            Piece::Pass(range) => &input[range.clone()],
            Piece::Own(range) => &self.own[range.clone()],
        }
    }
}

// ---------------------------------------------------------------------------------------------
// Script: a short exchange of our own on an upstream connection

pub enum Purpose<'a, S> {
    /// Once after login and as a health check: who we are there, what may outlive a reset.
    Probe(&'a Upkeep),
    /// Dresses a connection for one person: the stamp, the client's start-up settings.
    Prepare { admission: &'a Admission, stamp: &'a str, settings: &'a S },
    /// Back to how it was after login, verified at the server. With `known`, which is [`Findings::catalogs`] of an
    /// earlier look, what only changes together with the catalogs is not asked for again while the server
    /// shows the same as then.
    Reset { upkeep: &'a Upkeep, in_transaction: bool, known: Option<&'a str> },
    /// Is the connection alive?
    Ping(&'a Upkeep),
    /// `target check`: what the connector's rights allow, judged for the level it serves.
    Check { upkeep: &'a Upkeep, level: &'a str },
    /// `target check`: what one person can do to another who has the same login, tried.
    Try { upkeep: &'a Upkeep, act: Act<'a> },
    /// `target check --sql`: what makes logins that may do what their levels say and no more.
    Form { upkeep: &'a Upkeep, logins: &'a Logins },
    /// Ends other connections at the server, whatever runs on them: one at least, [`Wire::TERMINATIONS_MAX`] at most.
    /// Done with [`Findings::ended`].
    Terminate { upkeep: &'a Upkeep, terminations: &'a [Termination] },
    /// The same, but it only stops what runs on them, if anything does. Done with [`Findings::ended`].
    Halt { upkeep: &'a Upkeep, terminations: &'a [Termination] },
}

/// One act of a trial with two connections of one login.
#[derive(Debug, Clone, Copy)]
pub enum Act<'a> {
    /// Runs a statement for some seconds, to be seen and stopped.
    Run,
    /// Looks for that statement's text. Done with [`Findings::seen`].
    See(&'a Termination),
    /// The same by what is behind the server's views.
    SeeBehind(&'a Termination),
    /// Asks the server to stop it.
    Stop(&'a Termination),
    /// Asks the server to end that connection.
    End(&'a Termination),
}

/// The logins of one target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Logins {
    /// Level and login.
    pub levels: Vec<(String, String)>,
    /// Who ends connections where the levels' logins may not.
    pub upkeep: Option<String>,
    /// How many connections each level may need.
    pub connections: u32,
}

pub trait Script: Send {
    /// Called first with an empty input. `Done` is only said when every answer has arrived.
    fn step(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<ScriptStep, WireError>;
}

#[expect(clippy::large_enum_variant, reason = "one for each script, which is read where it lies")]
pub enum ScriptStep {
    NeedBytes,
    Done(Report),
}

/// What a script found. Data only: the pool decides what follows from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    Done(Findings),
    /// The server answered one of our own statements with an error.
    Refused(ServerError),
    /// The server answered, but the state is not what it must be. Says what.
    Unclean(String),
}

/// What a script read from the server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Settings of the role that outlive a session, as one comparable text; empty where the
    /// script did not look.
    pub fingerprint: String,
    /// What the server's catalogs show that a connection's state may hang on, as one comparable text;
    /// `None` where the script did not look, at the fingerprint neither.
    pub catalogs: Option<String>,
    /// What takes the place of `catalogs` for the next reset to compare with, after one that looked at them in
    /// part: the fingerprint was not looked at.
    pub glanced: Option<String>,
    /// Extensions, languages and C code whose state a reset does not clear.
    pub stateful: Vec<String>,
    pub checks: Vec<Check>,
    /// Whether a trial saw what it looked for.
    pub seen: bool,
    /// What makes well-formed logins, as text to be read and then run by an administrator of the server.
    pub form: String,
    /// For [`Facts::termination`]; `None` where the script did not look.
    pub termination: Option<Termination>,
    /// Which of the connections that were to be ended were there, and are being ended.
    pub ended: Vec<Termination>,
    /// What the server reported of itself meanwhile (PostgreSQL: `ParameterStatus`), in order; for
    /// [`Facts::apply`].
    pub parameters: Vec<(String, String)>,
    /// All that it reports of itself is as it was after the login; what it reported meanwhile is not in `parameters`.
    pub restored: bool,
}

impl Findings {
    /// Whatever it reported meanwhile, it is back to what it was after the login.
    pub fn restore(&mut self) {
        self.parameters.clear();
        self.restored = true;
    }
}

/// One finding of `target check`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Check {
    pub severity: Severity,
    pub what: String,
    /// SQL that mends it, where there is some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Note,
    Warning,
    Danger,
}

// ---------------------------------------------------------------------------------------------

/// The key with which a client asks to cancel: ours. The process id may be the server's own, the secret
/// never is.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CancelKey {
    pub process: u32,
    pub secret: Vec<u8>,
}

impl std::fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CancelKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_keeps_order_and_merges_neighbours() {
        let mut plan = Plan::default();
        plan.pass(2);
        plan.pass(1);
        plan.own(b"x");
        plan.own(b"y");
        plan.drop(1);
        plan.pass(1);
        assert_eq!(plan.pieces(), [Piece::Pass(0..3), Piece::Own(0..2), Piece::Pass(4..5)]);
        assert_eq!(plan.consumed(), 5);
        let text: Vec<u8> =
            plan.pieces().iter().flat_map(|piece| plan.bytes(piece, b"abcde").to_vec()).collect();
        assert_eq!(text, b"abcxye");
    }
}
