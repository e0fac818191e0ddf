//! However the right to a session ends, the session is cut within a second, in whatever state it is: the
//! client is told in its protocol, nothing of it goes on at the server, and the trail says how it went.
//!
//! One test per [`End`]; each brings one session into every [`State`] of the fixture and then ends the right
//! to all of them at once. [`fate`] says for each pair what must happen.

use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use rustix::process::Signal;
use serde_json::Value;

use super::{Door, Fixture, LastWords, Names};
use crate::support::node::LISTENER_WITHOUT_TARGET;
use crate::support::{CUT, Node, Options, PATIENCE, Person, wait_until};

/// For a machine that is busy with other tests: on top of the second that a cut may take.
const BUSY_MACHINE: Duration = Duration::from_secs(9);

/// What the living get to finish in, in whole seconds.
const DRAIN: Duration = Duration::from_secs(2);

/// How a right ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Expired,
    Revoked,
    UserRemoved,
    LeftGroup,
    CredentialRevoked,
    TargetSuspended,
    /// The grant allows other networks now.
    NetworkChanged,
    /// The grant is for another level now.
    LevelChanged,
    /// The target has no connector of this level any more.
    ConnectorRemoved,
    Idle,
    TooLong,
    Killed,
    Drained,
}

impl End {
    fn code(self) -> &'static str {
        match self {
            Self::Expired => "TG003",
            Self::Revoked => "TG004",
            Self::CredentialRevoked => "TG005",
            Self::UserRemoved => "TG006",
            Self::TargetSuspended => "TG007",
            Self::LeftGroup | Self::NetworkChanged | Self::LevelChanged | Self::ConnectorRemoved => "TG008",
            Self::Drained => "TG014",
            Self::Idle => "TG015",
            Self::TooLong => "TG016",
            Self::Killed => "TG018",
        }
    }
}

/// What the proxy takes a state for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Has not proved who it is.
    Login,
    /// Is let in and waits for a connection.
    Line,
    /// Has a connection and nothing to do.
    Idle,
    /// Has asked for something that is not over.
    Busy,
}

/// A state that a session can be in.
pub struct State<F: Fixture> {
    pub name: &'static str,
    pub kind: Kind,
    /// Whether it can be told: a message that is under way must be finished first.
    pub hears: Hears,
    /// What `session list` must call it before anything ends.
    pub listed: &'static str,
    pub enter: fn(&F, &Stage<'_, F>) -> Entered<F>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hears {
    Always,
    /// A message is on its way: its end is waited for at the end, but not to tell it ahead of that. Where a busy
    /// server takes too long for it, it is broken off and nothing is said.
    Streaming,
    /// It does not read: whether the words still find room is chance, and the trail knows.
    Perhaps,
    /// It does not read, in the middle of a message that is longer than all buffers.
    Never,
}

/// A client in its state, and what its session is called if there is one already.
pub struct Entered<F: Fixture> {
    pub client: F::Client,
    pub names: Option<Names>,
}

/// What becomes of a session in this state at this end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Cut,
    /// There is no session yet: the login is refused.
    TurnedAway,
    /// It is no end for this state.
    GoesOn,
    /// The two cannot come together.
    Never,
}

fn fate(end: End, kind: Kind) -> Fate {
    match (end, kind) {
        // These are limits of sessions and a command upon one; a login has `login_seconds`.
        (End::Idle | End::TooLong | End::Killed, Kind::Login | Kind::Line) => Fate::Never,
        (_, Kind::Login | Kind::Line) => Fate::TurnedAway,
        // A running statement is never idle, nor is one that waits for something.
        (End::Idle, Kind::Busy) => Fate::GoesOn,
        _ => Fate::Cut,
    }
}

/// A node with one person who may enter `shop`, and `narrow`, which has one connection only.
pub struct Stage<'a, F: Fixture> {
    pub fixture: &'a F,
    pub node: Node<F::Place>,
    pub person: Person,
    /// A session of the same person that has been in `narrow` from the beginning.
    early: Mutex<Option<(F::Client, Names)>>,
    holder: OnceLock<F::Client>,
}

const LEVEL: &str = "read_write";
/// Of what a busy machine may keep from happening: MariaDB's `KILL` waits for a lock that all share who sleep.
const TRIES: u32 = 40;
/// Encryption towards the server makes no difference here, but in the time that it takes.
const PLAIN: &str = "tls = \"disable\"";

impl<'a, F: Fixture> Stage<'a, F> {
    fn new(fixture: &'a F) -> Self {
        let options = Options {
            pool: "size_max = 40\nwait_seconds_max = 60",
            limits: &format!(
                "login_seconds = 60\npark_seconds = 1\nnotice_seconds = 600\ndrain_seconds = {}",
                DRAIN.as_secs()
            ),
            node: LISTENER_WITHOUT_TARGET,
            target: PLAIN,
            ..Options::default()
        };
        let node = fixture.node(options);
        let pool = "size_max = 1\nwait_seconds_max = 60";
        let options = Options { pool, target: PLAIN, ..Options::default() };
        let narrow = node.target_file(&options).replace("name = \"shop\"", "name = \"narrow\"");
        node.write("narrow.toml", &narrow);
        node.write("people.toml", &people(&Right::default()));
        node.done(&["apply", "narrow.toml", "people.toml"]);
        let person = node.credential("alice", "8h");
        let stage = Self { fixture, node, person, early: Mutex::default(), holder: OnceLock::new() };
        if F::PARKS {
            let early = stage.enter(&stage.narrow_door());
            *stage.early.lock().expect("whole") = Some(early);
        }
        stage
    }

    /// Has somebody take the only connection of `narrow` and keep it. The early session has given it back by
    /// then, or does so soon.
    pub fn hold(&self) {
        self.holder.get_or_init(|| {
            let person = self.node.credential("holder", "8h");
            let (mut client, _) = self.enter(&self.narrow(&person));
            self.fixture.occupy(&mut client);
            client
        });
    }

    /// The session that has been in `narrow` from the beginning and has no connection there any more.
    pub fn early(&self) -> (F::Client, Names) {
        self.hold();
        let (client, names) = self.early.lock().expect("whole").take().expect("there is one");
        (client, Names { connection: String::new(), ..names })
    }

    /// Where there is a connection for everybody.
    pub fn door(&self) -> Door {
        Door::of(&self.node, &self.person, LEVEL)
    }

    /// Where there is none free.
    pub fn narrow_door(&self) -> Door {
        self.narrow(&self.person)
    }

    fn narrow(&self, person: &Person) -> Door {
        let name = format!("{}+{LEVEL}@narrow", person.name);
        Door { port: self.node.second_port, name, secret: person.secret.clone() }
    }

    pub fn login(&self) -> (F::Client, Names) {
        self.enter(&self.door())
    }

    fn enter(&self, door: &Door) -> (F::Client, Names) {
        let connected = self.fixture.connect(door, &[]);
        let mut client = connected.unwrap_or_else(|told| panic!("not let in: {told:?}"));
        let names = self.fixture.names(&mut client);
        (client, names)
    }

    /// Ends the right; `sessions` are those that there are. From this moment on it has ended.
    fn end(&self, end: End, sessions: &[&Names]) -> SystemTime {
        let node = &self.node;
        let began = SystemTime::now();
        let apply = |right: Right<'_>| {
            node.write("people.toml", &people(&right));
            node.done(&["apply", "people.toml"]);
        };
        let limit = |key: &str| {
            let file = std::fs::read_to_string(node.folder.join("tidegate.toml")).expect("the node file");
            node.write("tidegate.toml", &file.replace("[limits]\n", &format!("[limits]\n{key} = 1\n")));
            node.done(&["reload"]);
        };
        match end {
            End::Expired => {
                let until = Timestamp::now() + Duration::from_millis(1_500);
                apply(Right { until, ..Right::default() });
                return until.into();
            }
            End::Revoked => {
                for grant in ["crew-shop", "crew-narrow"] {
                    node.done(&["grant", "revoke", grant, "--reason", "end of the shift"]);
                }
            }
            End::UserRemoved => drop(node.done(&["user", "remove", "alice"])),
            End::LeftGroup => apply(Right { group_of_alice: "", ..Right::default() }),
            End::CredentialRevoked => {
                node.done(&["credential", "revoke", &self.person.credential]);
            }
            End::TargetSuspended => {
                for target in ["shop", "narrow"] {
                    node.done(&["target", "suspend", target, "--reason", "maintenance"]);
                }
            }
            End::NetworkChanged => apply(Right { cidr: "10.0.0.0/8", ..Right::default() }),
            End::LevelChanged => apply(Right { level: "read", ..Right::default() }),
            End::ConnectorRemoved => {
                for file in ["target.toml", "narrow.toml"] {
                    let text = std::fs::read_to_string(node.folder.join(file)).expect("a target");
                    let connector = format!("[target.connector.{LEVEL}]\nsecret = \"file:{LEVEL}.json\"\n");
                    assert!(text.contains(&connector), "{text}");
                    node.write(file, &text.replace(&connector, ""));
                }
                node.done(&["apply", "target.toml", "narrow.toml"]);
            }
            End::Idle => limit("idle_seconds"),
            End::TooLong => limit("session_seconds"),
            End::Killed => {
                for names in sessions {
                    node.done(&["session", "kill", &names.session, "--reason", "a mistake"]);
                }
            }
            End::Drained => node.signal(Signal::TERM),
        }
        began
    }
}

/// Under what alice may do something.
struct Right<'a> {
    group_of_alice: &'a str,
    level: &'a str,
    cidr: &'a str,
    until: Timestamp,
}

impl Default for Right<'_> {
    fn default() -> Self {
        let until = Timestamp::now() + Duration::from_secs(3_600);
        Self { group_of_alice: "\"crew\"", level: LEVEL, cidr: "127.0.0.0/8", until }
    }
}

/// By way of a group; `holder` goes on whatever becomes of alice.
fn people(right: &Right<'_>) -> String {
    let Right { group_of_alice, level, cidr, until } = right;
    let grant = |name: &str, who: &str, target: &str, level: &str, until: &Timestamp, cidr: &str| {
        format!(
            "[[grant]]\nname = \"{name}\"\n{who}\ntarget = \"{target}\"\nlevel = \"{level}\"\n\
             from = 2026-01-01T00:00:00Z\nuntil = {until}\ncidrs = [\"{cidr}\"]\n"
        )
    };
    let long: Timestamp = "2027-01-01T00:00:00Z".parse().expect("a time");
    [
        format!("[[user]]\nname = \"alice\"\ngroups = [{group_of_alice}]\n"),
        // Keeps the group alive when alice has left it.
        "[[user]]\nname = \"holder\"\ngroups = [\"crew\"]\n".to_owned(),
        grant("crew-shop", "group = \"crew\"", "shop", level, until, cidr),
        grant("crew-narrow", "group = \"crew\"", "narrow", level, until, cidr),
        grant("holder-narrow", "user = \"holder\"", "narrow", LEVEL, &long, "127.0.0.0/8"),
    ]
    .concat()
}

struct Cell<F: Fixture> {
    state: State<F>,
    fate: Fate,
    client: F::Client,
    names: Option<Names>,
}

pub fn run<F: Fixture>(fixture: &F, end: End) {
    let stage = Stage::new(fixture);
    let mut cells: Vec<Cell<F>> = Vec::new();
    for state in fixture.states() {
        let fate = fate(end, state.kind);
        if fate != Fate::Never {
            let Entered { client, names } = (state.enter)(fixture, &stage);
            cells.push(Cell { state, fate, client, names });
        }
    }
    for kind in [Kind::Login, Kind::Line, Kind::Idle, Kind::Busy] {
        let there = cells.iter().any(|cell| cell.state.kind == kind);
        assert!(there || fate(end, kind) == Fate::Never, "the fixture has no state of the kind {kind:?}");
    }
    stage.wait_listed(&mut cells);
    let sessions: Vec<&Names> = cells.iter().filter_map(|cell| cell.names.as_ref()).collect();
    let since = stage.end(end, &sessions);
    std::thread::sleep(since.duration_since(SystemTime::now()).unwrap_or_default());
    let mut failed = Vec::new();
    let mut judge = |cell: Cell<F>| {
        let name = cell.state.name;
        if let Err(what) = stage.judge(end, since, cell) {
            failed.push(format!("{name}: {what}"));
        }
    };
    // While there is somebody to talk to, whatever ends.
    let (logins, cells): (Vec<_>, Vec<_>) =
        cells.into_iter().partition(|cell| cell.state.kind == Kind::Login);
    logins.into_iter().for_each(&mut judge);
    let cut = |cell: &&Cell<F>| cell.fate == Fate::Cut;
    let alive = |cell: &Cell<F>| {
        cell.names.as_ref().is_some_and(|names| fixture.lives(&stage.node, &names.connection))
    };
    wait_until("the connections of those that are cut are gone at the server", PATIENCE, || {
        !cells.iter().filter(cut).any(alive)
    });
    cells.into_iter().for_each(&mut judge);
    assert_eq!(fixture.residue(&stage.node), "", "something was committed");
    stage.nobody_comes_back(end);
    assert!(failed.is_empty(), "{end:?}:\n{}", failed.join("\n"));
}

/// One session alone, whose server has the time: the rest of its message is brought out, and it is told.
pub fn run_alone<F: Fixture>(fixture: &F) {
    let stage = Stage::new(fixture);
    let streaming = || fixture.states().into_iter().filter(|state| state.hears == Hears::Streaming);
    for at in 0..streaming().count() {
        let mut state = "";
        let is_told = (0..TRIES).any(|_| {
            let mut cells: Vec<_> = streaming()
                .skip(at)
                .take(1)
                .map(|state| {
                    let Entered { client, names } = (state.enter)(fixture, &stage);
                    Cell { state, fate: Fate::Cut, client, names }
                })
                .collect();
            stage.wait_listed(&mut cells);
            let cell = cells.pop().expect("the one");
            state = cell.state.name;
            stage.end(End::Killed, &[cell.names.as_ref().expect("it has a session")]);
            fixture.last_words(cell.client).told.is_some()
        });
        assert!(is_told, "{state}: not told in {TRIES} tries");
    }
}

/// Gives what is wrong instead of panicking, so that one cell does not hide the others.
macro_rules! must {
    ($holds:expr, $($words:tt)+) => {
        if !$holds {
            return Err(format!($($words)+));
        }
    };
}

impl<F: Fixture> Stage<'_, F> {
    /// Waits until the proxy takes each session for what it is to be.
    fn wait_listed(&self, cells: &mut [Cell<F>]) {
        let not_yet = |cells: &[Cell<F>]| -> Vec<String> {
            let sessions = self.node.sessions();
            let listed =
                |names: &Names| sessions.iter().find(|line| line["session"] == names.session.as_str());
            let other = |cell: &Cell<F>| {
                let line = listed(cell.names.as_ref()?);
                let state = line.map_or(&Value::Null, |line| &line["state"]);
                (state != cell.state.listed).then(|| format!("{}: {state}", cell.state.name))
            };
            cells.iter().filter_map(other).collect()
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let others = not_yet(cells);
            if others.is_empty() {
                break;
            }
            assert!(Instant::now() < deadline, "not in their states: {others:?}");
            std::thread::sleep(Duration::from_millis(150));
        }
        for names in
            cells.iter_mut().filter(|cell| cell.state.listed == "parked").filter_map(|c| c.names.as_mut())
        {
            names.connection.clear();
        }
    }

    fn judge(&self, end: End, since: SystemTime, cell: Cell<F>) -> Result<(), String> {
        let Cell { state, fate, client, names } = cell;
        match fate {
            Fate::GoesOn => {
                let names = names.ok_or("it has no session")?;
                let lives = names.connection.is_empty() || self.fixture.lives(&self.node, &names.connection);
                must!(lives, "it does not go on at the server");
                let listed =
                    self.node.sessions().iter().any(|line| line["session"] == names.session.as_str());
                must!(listed, "it is no session any more");
                self.fixture.vanish(client);
                Ok(())
            }
            Fate::TurnedAway => {
                // Who waits has been let in, and is told why that is over; who has not proved a thing is not.
                let codes = match (end, state.kind) {
                    (End::Drained, _) | (_, Kind::Line) => vec![end.code()],
                    _ => vec!["TG001", "TG002"],
                };
                let told = self.heard(&state, &codes, self.fixture.last_words(client))?;
                let code = told.ok_or("it is not told")?;
                let fits = |line: &Value| line["user"] != "holder" && line["code"] == code.as_str();
                self.node.wait_event("login_refused", fits);
                Ok(())
            }
            Fate::Cut => {
                let words = self.fixture.last_words(client);
                self.warned(end, &state, &words)?;
                let told = self.heard(&state, &[end.code()], words)?;
                let names = names.ok_or("it has no session")?;
                self.trail_must_say(end, since, &names, told.is_some())
            }
            Fate::Never => Ok(()),
        }
    }

    /// Where it was the right that ended, and not a session alone.
    fn nobody_comes_back(&self, end: End) {
        match end {
            End::Idle | End::TooLong | End::Killed => {
                // A limit of one second may end it again at once.
                assert!(self.fixture.connect(&self.door(), &[]).is_ok(), "the right stands");
            }
            End::Drained => assert_eq!(self.node.wait_ended(PATIENCE), Some(0)),
            _ => {
                let told = self.fixture.connect(&self.door(), &[]).err().expect("nobody comes back");
                assert!(told.message.starts_with("TG00"), "{told:?}");
                let measured = self.node.http("/metrics").lines().any(|line| {
                    line.starts_with("tidegate_revocation_seconds_count") && !line.ends_with(" 0")
                });
                assert!(measured, "how long it took is a metric");
            }
        }
        if end == End::Revoked {
            self.node.wait_event("admin", |line| {
                line["action"] == "grant.revoke" && line["reason"] == "end of the shift"
            });
        }
    }

    /// Where time is what ends it, that is said ahead: once, and in the middle of no message.
    fn warned(&self, end: End, state: &State<F>, words: &LastWords) -> Result<(), String> {
        let expected = match (end, state.hears) {
            (End::Expired, Hears::Always) if state.listed != "waiting" => 1..=1,
            (End::Expired, Hears::Never) => 0..=0,
            (End::Expired, _) => 0..=1,
            _ => 0..=0,
        };
        must!(words.warned.is_none_or(|count| expected.contains(&count)), "it is warned {words:?}");
        Ok(())
    }

    /// Whether the client was told as it must; gives the code.
    fn heard(&self, state: &State<F>, codes: &[&str], words: LastWords) -> Result<Option<String>, String> {
        must!(words.wrong.is_none(), "it reads {words:?}");
        let Some(told) = &words.told else {
            must!(state.hears != Hears::Always, "it is not told: {words:?}");
            must!(state.hears == Hears::Perhaps || words.broken_off, "a message was padded: {words:?}");
            return Ok(None);
        };
        must!(state.hears != Hears::Never, "it is told in the middle of a message: {words:?}");
        let code = codes.iter().find(|code| told.message.starts_with(&format!("{code}: ")));
        let code = code.ok_or(format!("it is told {told:?} and not {codes:?}"))?;
        must!(told.code == self.fixture.code(code), "it is told {told:?}");
        Ok(Some((*code).to_owned()))
    }

    fn trail_must_say(&self, end: End, since: SystemTime, names: &Names, told: bool) -> Result<(), String> {
        let line = self.node.wait_end_of(&names.session);
        let how = if end == End::Drained { "drain" } else { "cut" };
        let said = (&line["how"], &line["code"], &line["error_delivered"], &line["reused"]);
        let expected = (&how.into(), &end.code().into(), &told.into(), &false.into());
        must!(said == expected, "the trail says {said:?} and not {expected:?}");
        // The line is written when the server has closed its side too. Ends that have a moment of their own
        // are measured from it, the others from the last word of an administrator ahead of it.
        let began = match end {
            End::Expired => since,
            End::Idle | End::TooLong => since + Duration::from_secs(1),
            End::Drained => since + DRAIN,
            End::Killed => self.admin_before(&line, &names.session).ok_or("no administrator did that")?,
            _ => self.admin_before(&line, "").ok_or("no administrator did that")?,
        };
        let took = moment(&line).duration_since(began).unwrap_or_default();
        must!(took < CUT + BUSY_MACHINE, "it took {took:?}");
        Ok(())
    }

    /// The last word of an administrator upon an object that ends like this.
    fn admin_before(&self, line: &Value, object: &str) -> Option<SystemTime> {
        let seq = |line: &Value| line["seq"].as_u64().unwrap_or_default();
        let fits = |admin: &&Value| {
            seq(admin) < seq(line) && admin["object"].as_str().is_some_and(|text| text.ends_with(object))
        };
        self.node.events("admin").iter().rfind(fits).map(moment)
    }
}

fn moment(line: &Value) -> SystemTime {
    let time: Timestamp = line["time"].as_str().expect("each line has a time").parse().expect("a time");
    time.into()
}
