//! Who saw what: both ends of every connection report here, and what must never be is found here. Nothing
//! in it asks the engine what it believes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

/// A statement: which client sent it, and which of that client's it is. Part of its text or values, and
/// of every answer to it: `c3.17`. Who logs in again on the same connection is another client from then on:
/// see [`connection`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag {
    pub client: u32,
    pub number: u32,
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}.{}", self.client, self.number)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Tag {
    /// Every tag in a text.
    pub fn all(text: &str) -> BTreeSet<Self> {
        let mut found = BTreeSet::new();
        for (at, _) in text.match_indices('c') {
            let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
            let rest = &text[at + 1..];
            let client = &rest[..digits(rest)];
            let Some(rest) = rest[client.len()..].strip_prefix('.') else { continue };
            if let (Ok(client), Ok(number)) = (client.parse(), rest[..digits(rest)].parse()) {
                found.insert(Self { client, number });
            }
        }
        found
    }

    pub fn first(text: &str) -> Option<Self> {
        Self::all(text).into_iter().next()
    }
}

/// Client 3 is client 1003 after its first other login, and 2003 after the second.
const ANOTHER_LOGIN: u32 = 1_000;

/// The number of the connection that a client is on: that of the client whom it began with.
pub fn connection(client: u32) -> u32 {
    client % ANOTHER_LOGIN
}

/// How long after its end a grant's last bytes may leave (design 1.5.2).
const CUT_WITHIN: Duration = Duration::from_secs(1);
/// How long after that the last words may take to reach a client that reads, beside the way itself: the
/// rest of a message, and the words.
const TOLD_WITHIN: Duration = Duration::from_secs(1);
/// How long after the end of a grant a statement may run at a server that can be reached: the cut, the
/// request to stop it, and the login over which it is ended where that did not help.
const STOPPED_WITHIN: Duration = Duration::from_secs(4);
/// A session is older than its client knows by no more than this.
const LOGIN: Duration = Duration::from_secs(1);

/// What may be done, when: kept by those who change it, beside the book that the engine decides by.
#[derive(Default)]
pub struct Authority {
    pub grants: Vec<Given>,
    /// By user and number of the credential: from when to when.
    pub credentials: BTreeMap<(String, usize), (Instant, Option<Instant>)>,
    /// When the target was suspended and resumed.
    pub suspended: Vec<(Instant, Option<Instant>)>,
    /// What ended somebody's access, and with which code: user, when.
    pub ends: Vec<(Option<String>, Instant, &'static str)>,
    /// Whenever anything changed.
    pub moments: Vec<Instant>,
}

pub struct Given {
    pub id: crate::model::GrantId,
    pub user: String,
    pub level: &'static str,
    pub from: Instant,
    pub until: Instant,
    pub ended: Option<Instant>,
}

fn within(at: Instant, (from, until): (Instant, Option<Instant>)) -> bool {
    from <= at && until.is_none_or(|until| at < until)
}

impl Authority {
    fn open_at(&self, who: &Who, at: Instant) -> bool {
        self.grants.iter().any(|given| {
            given.user == who.user
                && given.level == who.level
                && within(at, (given.from, Some(given.ended.map_or(given.until, |end| end.min(given.until)))))
        }) && self.credentials.get(&(who.user.clone(), who.credential)).is_some_and(|held| within(at, *held))
            && !self.suspended.iter().any(|pause| within(at, *pause))
    }

    /// Whether it was open at every moment of these.
    fn open_throughout(&self, who: &Who, from: Instant, to: Instant) -> bool {
        let moments = self.moments.iter().filter(|moment| (from..=to).contains(moment));
        moments.chain([&from, &to]).all(|moment| self.open_at(who, *moment))
    }

    /// Whether it was open at any moment of these.
    fn open_between(&self, who: &Who, from: Instant, to: Instant) -> bool {
        let moments = self.moments.iter().filter(|moment| (from..=to).contains(moment));
        moments.chain([&from, &to]).any(|moment| self.open_at(who, *moment))
    }
}

/// Whose a client is.
#[derive(Clone, Debug)]
pub struct Who {
    pub user: String,
    pub level: &'static str,
    pub credential: usize,
}

/// One client, as its own end knows it.
pub struct Known {
    pub who: Who,
    pub sent: u32,
    /// The last statement that it was given an answer of.
    heard: u32,
    /// When it said who it is.
    asked: Instant,
    /// It was asked for a proof on a connection on which there was another before.
    pub returned: bool,
    entered: Option<Instant>,
    /// When it was told that it is over, with what, or saw that it is.
    pub ended: Option<(Instant, Option<String>)>,
    /// It went away, or said that it does.
    pub left: Option<Instant>,
    /// It has asked to stop a statement.
    pub asked_to_stop: bool,
    /// It does not read at this moment, or the way to it is lost: it cannot be expected to hear anything.
    pub deaf: bool,
    /// An administrator ended its session.
    pub killed: bool,
}

impl Known {
    pub fn was_let_in(&self) -> bool {
        self.entered.is_some()
    }
}

#[derive(Default)]
pub struct Seen {
    pub authority: Authority,
    pub clients: BTreeMap<u32, Known>,
    /// What the server read in full, wherever it came to.
    pub reached: BTreeSet<Tag>,
    /// What it began to do, on which connection.
    pub ran: BTreeMap<Tag, u64>,
    pub wrong: Vec<String>,
    story: Vec<String>,
    hash: u64,
}

pub struct Witness {
    seen: Mutex<Seen>,
    began: Instant,
    sky: Sky,
}

/// What nobody can be blamed for.
#[derive(Debug, Clone, Copy)]
pub struct Sky {
    /// The way takes at most this long.
    pub latency: Duration,
    /// No connection of a client is lost.
    pub clients_calm: bool,
    /// The server can be reached, and neither it nor the way to it fails.
    pub servers_calm: bool,
    /// Messages arrive as fast as they are sent.
    pub fast: bool,
    /// The longest session.
    pub session: Option<Duration>,
}

impl Witness {
    pub fn new(sky: Sky) -> Self {
        Self { seen: Mutex::default(), began: Instant::now(), sky }
    }

    pub fn see(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    /// A line of the story, which a failing seed is shown with; the same seed tells the same story.
    pub fn tell(&self, line: impl fmt::Display) {
        self.see().tell(self.began, line);
    }

    pub fn wrong(&self, line: impl fmt::Display) {
        let mut seen = self.see();
        seen.tell(self.began, format_args!("WRONG: {line}"));
        seen.wrong.push(line.to_string());
    }

    /// Nothing is lost on the way to a client.
    pub fn is_calm(&self) -> bool {
        self.sky.clients_calm
    }

    /// A number for all that happened.
    pub fn fingerprint(&self) -> u64 {
        self.see().hash
    }

    pub fn story(&self) -> Vec<String> {
        self.see().story.clone()
    }

    pub fn client(&self, client: u32, who: Who) {
        let known = Known {
            who,
            sent: 0,
            heard: 0,
            asked: Instant::now(),
            returned: false,
            entered: None,
            ended: None,
            left: None,
            asked_to_stop: false,
            deaf: false,
            killed: false,
        };
        self.see().clients.insert(client, known);
    }

    /// It begins to say who it is.
    pub fn asks(&self, client: u32) {
        self.with(client, |known| known.asked = Instant::now());
    }

    /// The client asks to be somebody else from now on, and is another client then.
    pub fn turns_into(&self, client: u32, who: Who) -> u32 {
        let next = client + ANOTHER_LOGIN;
        self.tell(format_args!("c{client} is to be c{next}, {who:?}"));
        self.client(next, who);
        next
    }

    /// An administrator ends the session that there is on a connection.
    pub fn killed(&self, on: u32) {
        let mut seen = self.see();
        seen.clients.iter_mut().filter(|(client, _)| connection(**client) == on).for_each(|(_, known)| {
            known.killed = true;
        });
    }

    pub fn next_tag(&self, client: u32) -> Tag {
        let mut seen = self.see();
        let known = seen.clients.get_mut(&client).unwrap();
        known.sent += 1;
        Tag { client, number: known.sent }
    }

    pub fn with<T>(&self, client: u32, change: impl FnOnce(&mut Known) -> T) -> T {
        change(self.see().clients.get_mut(&client).unwrap())
    }

    pub fn entered(&self, client: u32) {
        self.tell(format_args!("c{client} is in"));
        let now = Instant::now();
        let wrong = {
            let mut seen = self.see();
            seen.clients.get_mut(&client).unwrap().entered = Some(now);
            let known = &seen.clients[&client];
            !seen.authority.open_between(&known.who, known.asked, now)
        };
        if wrong {
            self.wrong(format_args!("c{client} was let in without an open grant"));
        }
    }

    // -- at the server

    /// The server has read all of a statement, the last byte of which was written to it `written_at`, on
    /// a connection of `level`.
    pub fn reached(&self, tag: Tag, written_at: Instant, connection: u64, level: &str) {
        let mut wrong = None;
        {
            let mut seen = self.see();
            seen.reached.insert(tag);
            match seen.clients.get(&tag.client) {
                None => wrong = Some(format!("{tag} is of nobody")),
                Some(known) if known.who.level != level => {
                    wrong = Some(format!("{tag} of {:?} came to a connection of {level}", known.who));
                }
                Some(known) => {
                    let from = written_at.checked_sub(CUT_WITHIN).unwrap_or(written_at).max(self.began);
                    if !seen.authority.open_between(&known.who, from, written_at) {
                        wrong = Some(format!("{tag} of {:?} left without an open grant", known.who));
                    }
                    if known.entered.is_none() {
                        wrong = Some(format!("{tag} left before its client was in"));
                    }
                }
            }
        }
        self.tell(format_args!("server {connection}: {tag}"));
        if let Some(wrong) = wrong {
            self.wrong(wrong);
        }
    }

    /// The server does it.
    pub fn ran(&self, tag: Tag, connection: u64) {
        if self.see().ran.insert(tag, connection).is_some() {
            self.wrong(format_args!("{tag} ran twice"));
        }
    }

    /// Something of `maker` is there while `client` uses the connection.
    pub fn found(&self, what: &str, maker: u32, client: u32, connection: u64) {
        if maker != client {
            self.wrong(format_args!("c{client} finds {what} of c{maker} on connection {connection}"));
        }
    }

    /// A long statement came to its own end although it may have been cut.
    pub fn ran_out(&self, tag: Tag) {
        let now = Instant::now();
        let late = {
            let seen = self.see();
            let known = &seen.clients[&tag.client];
            let from = now.checked_sub(STOPPED_WITHIN + 8 * self.sky.latency).unwrap_or(now).max(self.began);
            self.sky.servers_calm && !seen.authority.open_between(&known.who, from, now)
        };
        if late {
            self.wrong(format_args!("{tag} ran on after its grant had ended"));
        }
    }

    /// The server was asked to stop `tag`, or to end the connection on which it runs.
    pub fn stopped(&self, tag: Tag, how: &str) {
        let now = Instant::now();
        let unasked = {
            let seen = self.see();
            let known = &seen.clients[&tag.client];
            let from = now.checked_sub(STOPPED_WITHIN + 8 * self.sky.latency).unwrap_or(now).max(self.began);
            let theirs = known.asked_to_stop && how == "cancel";
            let old =
                self.sky.session.zip(known.entered).is_some_and(|(limit, at)| at.elapsed() + LOGIN >= limit);
            let over = known.left.is_some() || known.ended.is_some() || known.killed || known.deaf || old;
            !theirs && !over && seen.authority.open_throughout(&known.who, from, now)
        };
        self.tell(format_args!("server: {how} of {tag}"));
        if unasked {
            self.wrong(format_args!("{how} of {tag}, which nobody asked for"));
        }
    }

    // -- at the client

    /// `client` was given an answer to `tag`.
    pub fn answered(&self, client: u32, tag: Tag) {
        let mut wrong = None;
        {
            let mut seen = self.see();
            let known = seen.clients.get_mut(&client).unwrap();
            if tag.client != client || tag.number > known.sent {
                wrong = Some(format!("c{client} was given an answer to {tag}"));
            } else if tag.number < known.heard {
                wrong = Some(format!("c{client} was given an answer to {tag} out of turn"));
            } else {
                known.heard = tag.number;
            }
        }
        if let Some(wrong) = wrong {
            self.wrong(wrong);
        }
    }

    /// It is over for `client`: with a code of ours, or without a word.
    pub fn ended(&self, client: u32, code: Option<&str>) {
        let now = Instant::now();
        let mut wrong = None;
        {
            let mut seen = self.see();
            let known = seen.clients.get_mut(&client).unwrap();
            if known.ended.is_none() {
                known.ended = Some((now, code.map(str::to_owned)));
            }
            let (user, killed) = (known.who.user.clone(), known.killed);
            let entered = known.entered.is_some();
            match code {
                Some(code @ ("TG003" | "TG004" | "TG005" | "TG006" | "TG007" | "TG008")) => {
                    let caused = |(whom, at, known): &(Option<String>, Instant, &str)| {
                        *known == code && *at <= now && whom.as_ref().is_none_or(|whom| *whom == user)
                    };
                    if !seen.authority.ends.iter().any(caused) {
                        wrong = Some(format!("c{client} was told {code}, which has not happened"));
                    }
                }
                Some("TG018") if !killed => {
                    wrong = Some(format!("c{client} was told that it was killed, and was not"));
                }
                Some(code @ ("TG009" | "TG013" | "TG014" | "TG019" | "TG020" | "TG021" | "TG024")) => {
                    wrong = Some(format!("c{client} was told {code}"));
                }
                Some(code @ ("TG001" | "TG002")) if !entered && seen.open_since_it_asked(client) => {
                    wrong = Some(format!("c{client} was told {code} although a grant is open"));
                }
                Some("TG001" | "TG002") if entered => {
                    wrong = Some(format!("c{client} was told {code:?} after it was let in"));
                }
                Some("TG023") if self.sky.servers_calm => {
                    wrong = Some(format!("c{client} was told that a server is lost which is not"));
                }
                Some("TG012") if self.sky.servers_calm && seen.authority.suspended.is_empty() => {
                    wrong = Some(format!("c{client} was told that a server cannot be reached which can"));
                }
                None if self.sky.clients_calm => wrong = seen.without_a_word(client, &self.sky),
                _ => {}
            }
        }
        self.tell(format_args!("c{client} is over: {}", code.unwrap_or("no word")));
        if let Some(wrong) = wrong {
            self.wrong(wrong);
        }
    }

    /// The trail says that the client at `peer` was told `code`.
    pub fn delivered(&self, peer: &str, code: &str) {
        let on = peer.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or(0) - super::PORTS;
        let (client, heard) = {
            let seen = self.see();
            // Words that end a connection are for the last who was let in on it.
            let mut of = seen.clients.iter().filter(|(client, _)| connection(**client) == on);
            let (client, known) =
                of.clone().rfind(|(_, known)| known.entered.is_some()).or(of.next_back()).unwrap();
            let heard = known.ended.as_ref().is_none_or(|(_, heard)| heard.as_deref() == Some(code));
            (*client, heard || known.left.is_some() || !self.sky.clients_calm)
        };
        if !heard {
            self.wrong(format_args!("c{client} was not told {code}, as the trail says"));
        }
    }

    /// Looked at now and then: who is in must have an open grant, or hear of its end in time.
    pub fn look(&self) {
        let now = Instant::now();
        let mut wrong = Vec::new();
        {
            let seen = self.see();
            let since = CUT_WITHIN + TOLD_WITHIN + 2 * self.sky.latency;
            let Some(from) = now.checked_sub(since) else { return };
            for (client, known) in &seen.clients {
                let Some(entered) = known.entered.filter(|entered| *entered < from) else { continue };
                let over = known.ended.is_some() || known.left.is_some() || known.deaf;
                if !over && !seen.authority.open_between(&known.who, from.max(entered), now) {
                    wrong.push(format!("c{client} has not heard that its grant has ended"));
                }
            }
        }
        for wrong in wrong {
            self.wrong(wrong);
        }
    }
}

impl Seen {
    /// Whether it could have been let in at every moment since it said who it is.
    fn open_since_it_asked(&self, client: u32) -> bool {
        let known = &self.clients[&client];
        self.authority.open_throughout(&known.who, known.asked, Instant::now())
    }

    /// Whoever listens is told why it is over, or the grant has ended in the middle of a message.
    fn without_a_word(&self, client: u32, sky: &Sky) -> Option<String> {
        let (now, known) = (Instant::now(), &self.clients[&client]);
        if known.left.is_some() {
            return None;
        }
        let from = now.checked_sub(2 * (CUT_WITHIN + TOLD_WITHIN) + sky.latency)?;
        let open = self.authority.open_at(&known.who, from) && self.authority.open_at(&known.who, now);
        let quiet = !self.authority.moments.iter().any(|moment| (from..=now).contains(moment));
        if open && quiet && !known.killed {
            return Some(format!("c{client} was dropped without a word"));
        }
        let must_hear = sky.fast && sky.servers_calm && !known.deaf && known.entered.is_some();
        must_hear.then(|| format!("c{client} was cut without a word"))
    }

    fn tell(&mut self, began: Instant, line: impl fmt::Display) {
        let line = format!("{:>9.3} {line}", began.elapsed().as_secs_f64());
        let mut hasher = DefaultHasher::new();
        (self.hash, &line).hash(&mut hasher);
        self.hash = hasher.finish();
        self.story.push(line);
    }
}
