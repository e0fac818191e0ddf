//! What one person leaves on a connection, the next one on the same connection must not meet.
//!
//! Each trace is one row of a table of the fixture. Somebody looks, goes; somebody else leaves the trace and
//! looks too, so that it is sure to be there; the first one comes back and must see what was seen at first.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Door, Fixture, Names};
use crate::support::server::LEVELS;
use crate::support::{Backend, Node, Options, PATIENCE, Person, wait_until};

/// How a trace is kept from the next person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Met {
    /// The same connection, put back to how it was.
    Clean,
    /// A connection that was left like that is closed.
    Closed,
    /// Either of the two: the server may or may not have answered in time.
    CleanOrClosed,
    /// Kept for the one who left it, since no reset clears it.
    Private,
    /// The level is suspended, with an alarm, until an operator has looked.
    Suspended,
    /// It belongs to the server and not to a session, so all of one level share it: `docs/guide.md` says so
    /// in these words.
    Shared(&'static str),
}

pub enum Step<F: Fixture> {
    /// Succeeds.
    Says(&'static str),
    /// Is refused by the server, with this code.
    Fails(&'static str, &'static str),
    Does(fn(&F, &Node<F::Place>, &mut F::Client)),
}

/// `{role}`, `{database}` in texts stand for the connector's role and the database.
pub struct Trace<F: Fixture> {
    name: &'static str,
    met: Met,
    level: &'static str,
    before: &'static str,
    after: &'static str,
    settings: &'static [(&'static str, &'static str)],
    steps: Vec<Step<F>>,
    questions: Vec<&'static str>,
    seen: bool,
    vanishes: bool,
}

impl<F: Fixture> Trace<F> {
    pub fn new(name: &'static str, met: Met) -> Self {
        Self {
            name,
            met,
            level: "read_write",
            before: "",
            after: "",
            settings: &[],
            steps: Vec::new(),
            questions: Vec::new(),
            seen: true,
            vanishes: false,
        }
    }

    /// Left by somebody at this level.
    pub fn at(self, level: &'static str) -> Self {
        Self { level, ..self }
    }

    /// What the server's operator does before and after.
    pub fn prepared(self, before: &'static str, after: &'static str) -> Self {
        Self { before, after, ..self }
    }

    /// Start-up settings of the one who leaves it.
    pub fn starts(self, settings: &'static [(&'static str, &'static str)]) -> Self {
        Self { settings, ..self }
    }

    pub fn says(mut self, statements: &[&'static str]) -> Self {
        self.steps.extend(statements.iter().map(|statement| Step::Says(statement)));
        self
    }

    pub fn fails(mut self, statement: &'static str, code: &'static str) -> Self {
        self.steps.push(Step::Fails(statement, code));
        self
    }

    pub fn does(mut self, step: fn(&F, &Node<F::Place>, &mut F::Client)) -> Self {
        self.steps.push(Step::Does(step));
        self
    }

    /// What tells whether it is there.
    pub fn asked(mut self, questions: &[&'static str]) -> Self {
        self.questions.extend(questions);
        self
    }

    /// Who leaves it cannot ask any more, or it was refused and is not there.
    pub fn unseen(self) -> Self {
        Self { seen: false, ..self }
    }

    /// Leaves without a word.
    pub fn vanishing(self) -> Self {
        Self { vanishes: true, ..self }
    }
}

/// One connection at each level, many people.
pub fn run<F: Fixture>(fixture: &F) {
    let options = Options { pool: "size_max = 1\nwait_seconds_max = 20", ..Options::default() };
    let node = fixture.node(options);
    let [leaver, next] = ["alice", "bob"].map(|name| {
        let person = node.user(name);
        for level in LEVELS {
            node.grant(name, level, "8h", F::GRANT);
        }
        person
    });
    let mut failed = Vec::new();
    let traces = fixture.traces();
    for trace in &traces {
        let visit = Visit { fixture, node: &node, leaver: &leaver, next: &next, trace };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| visit.run())) {
            failed.push(format!("{}: {}", trace.name, words(&*panic)));
            visit.mend();
        }
    }
    assert!(failed.is_empty(), "{} of {} traces:\n{}", failed.len(), traces.len(), failed.join("\n"));
}

pub fn words(panic: &(dyn std::any::Any + Send)) -> &str {
    match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
        (Some(words), _) => words,
        (None, Some(words)) => words,
        _ => "a panic",
    }
}

struct Visit<'a, F: Fixture> {
    fixture: &'a F,
    node: &'a Node<F::Place>,
    leaver: &'a Person,
    next: &'a Person,
    trace: &'a Trace<F>,
}

impl<F: Fixture> Visit<'_, F> {
    fn fill(&self, text: &str) -> String {
        let role = self.node.place.role(self.trace.level);
        text.replace("{role}", &role).replace("{database}", self.node.place.database())
    }

    fn connect(&self, person: &Person, settings: &[(&str, &str)]) -> (F::Client, Names) {
        let door = Door::of(self.node, person, self.trace.level);
        let connected = self.fixture.connect(&door, settings);
        let mut client = connected.unwrap_or_else(|told| panic!("{} is not let in: {told:?}", person.name));
        let names = self.fixture.names(&mut client);
        (client, names)
    }

    fn ask(&self, client: &mut F::Client) -> Vec<String> {
        let questions = self.trace.questions.iter();
        questions.map(|question| self.fixture.ask(client, &self.fill(question))).collect()
    }

    fn run(&self) {
        let Trace { met, before, .. } = *self.trace;
        if !before.is_empty() {
            self.fixture.operate(self.node, &self.fill(before));
            self.fixture.forget(self.node);
        }
        let (mut first, place) = self.connect(self.next, &[]);
        let at_first = self.ask(&mut first);
        self.fixture.goodbye(first);
        let left = self.leave(&at_first);
        if met != Met::Private {
            assert_eq!(left.connection, place.connection, "it must begin on the pooled connection");
        }
        let end = self.node.wait_end_of(&left.session);
        match met {
            Met::Suspended => self.must_be_suspended(),
            _ => self.must_be_kept_from_the_next(&at_first, &left, end["reused"] == true),
        }
        if !self.trace.after.is_empty() {
            self.mend();
        }
    }

    fn leave(&self, at_first: &[String]) -> Names {
        let fixture = self.fixture;
        let (mut client, names) = self.connect(self.leaver, self.trace.settings);
        for step in &self.trace.steps {
            match step {
                Step::Says(statement) => {
                    let answer = fixture.ask(&mut client, &self.fill(statement));
                    assert!(!answer.contains("error"), "{statement}: {answer}");
                }
                Step::Fails(statement, code) => {
                    let answer = fixture.ask(&mut client, &self.fill(statement));
                    assert!(answer.contains(&format!("error {code}")), "{statement}: {answer}");
                }
                Step::Does(step) => step(fixture, self.node, &mut client),
            }
        }
        if self.trace.seen {
            let seen = self.ask(&mut client);
            for ((seen, at_first), question) in seen.iter().zip(at_first).zip(&self.trace.questions) {
                assert_ne!(seen, at_first, "nothing was left that this would show: {question}");
            }
        }
        match self.trace.vanishes {
            true => fixture.vanish(client),
            false => fixture.goodbye(client),
        }
        names
    }

    fn must_be_kept_from_the_next(&self, at_first: &[String], left: &Names, reused: bool) {
        let (mut client, names) = self.connect(self.next, &[]);
        let met = self.ask(&mut client);
        let same = names.connection == left.connection;
        let (expected, returned) = match self.trace.met {
            Met::Clean | Met::Shared(_) => (true, true),
            Met::Closed => (false, false),
            Met::Private => (false, true),
            Met::CleanOrClosed => (same, same),
            Met::Suspended => panic!("somebody was let in"),
        };
        assert_eq!((same, reused), (expected, returned), "(the same connection, reused by the trail)");
        match self.trace.met {
            Met::Shared(words) => {
                assert_ne!(met, at_first, "it is not shared");
                let guide = include_str!("../../../docs/guide.md").split_whitespace();
                let guide = guide.collect::<Vec<_>>().join(" ");
                assert!(guide.contains(words), "docs/guide.md does not say {words:?}");
            }
            _ => assert_eq!(met, at_first, "met by the next person: {:?}", self.trace.questions),
        }
        self.fixture.goodbye(client);
    }

    fn must_be_suspended(&self) {
        let level = self.trace.level;
        let suspended = || {
            let shown = self.node.json(&["target", "show", "shop"]);
            shown["connectors"][level]["suspended"].is_string()
        };
        // A connection that comes back is not looked at this thoroughly each time, but soon; until then it is
        // one that began before the change.
        wait_until("the level is suspended", PATIENCE, suspended);
        self.node.wait_event("alarm", |line| line["target"] == "shop" && line["level"] == level);
        let door = Door::of(self.node, self.next, level);
        let told = self.fixture.connect(&door, &[]).err().expect("the level is suspended");
        assert_eq!(told.code, self.fixture.code("TG002"), "{told:?}");
        for other in LEVELS.iter().filter(|other| **other != level) {
            let door = Door::of(self.node, self.next, other);
            let client = self.fixture.connect(&door, &[]).unwrap_or_else(|told| panic!("{other}: {told:?}"));
            self.fixture.goodbye(client);
        }
    }

    /// The operator puts things right.
    fn mend(&self) {
        if !self.trace.after.is_empty() {
            self.fixture.operate(self.node, &self.fill(self.trace.after));
        }
        self.fixture.forget(self.node);
        if self.trace.met == Met::Suspended {
            let _ = self.node.tg(&["target", "resume", "shop", "--level", self.trace.level]);
        }
    }
}
