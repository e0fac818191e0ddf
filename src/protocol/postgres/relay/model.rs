//! A relay between a client that pipelines anything and a model of the server, compared with the same
//! client at the same server without a relay: it must see the same, and the notes must say what ran.
//!
//! The model follows `PostgresMain` and `CopyGetData` in the server's sources.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::facts::Settings;
use super::super::frame;
use super::rig::{End, Rig, STAMP};
use super::stamp::{DIAL_APPLICATION_NAME, stamped_name};
use super::tests::{
    bind, complete, describe, error, execute, message, name_status, parse, query, ready, sync,
};
use crate::model::{Note, NoteReader, Refusal, Verdict};
use crate::protocol::session::{Boundary, Relay, Side};

const CLIENT_NAME: &str = "psql";

struct Server {
    out: Vec<u8>,
    /// What ran to its end.
    ran: Vec<String>,
    statements: BTreeMap<String, String>,
    portals: BTreeMap<String, String>,
    status: char,
    skipping: bool,
    /// The text of the COPY going on; whether it came by the simple protocol.
    copy: Option<(String, bool)>,
    /// What a reset goes back to.
    first_name: String,
    name: String,
    told: String,
    /// Servers before 14 tell at once.
    tells_at_once: bool,
    dead: bool,
}

enum Outcome {
    Done,
    Failed,
    Copying,
}

impl Server {
    fn new(first_name: &str, name: &str, tells_at_once: bool) -> Self {
        Self {
            out: Vec::new(),
            ran: Vec::new(),
            statements: BTreeMap::new(),
            portals: BTreeMap::new(),
            status: 'I',
            skipping: false,
            copy: None,
            first_name: first_name.into(),
            name: name.into(),
            told: name.into(),
            tells_at_once,
            dead: false,
        }
    }

    fn say(&mut self, message: Vec<u8>) {
        self.out.extend(message);
    }

    fn tell_name(&mut self) {
        if self.name != self.told {
            self.told.clone_from(&self.name);
            self.say(name_status(&self.name.clone()));
        }
    }

    fn ready(&mut self) {
        if self.status == 'I' {
            self.portals.clear();
        }
        self.tell_name();
        self.say(ready(self.status));
    }

    fn fail(&mut self, code: &str) {
        self.say(error(code));
        if self.status == 'T' {
            self.status = 'E';
        }
    }

    fn take(&mut self, tag: u8, body: &[u8]) {
        let strings: Vec<String> =
            body.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned()).collect();
        if self.dead {
            return;
        }
        if self.copy.is_some() {
            return self.take_copy(tag, body);
        }
        if self.skipping && tag != b'S' {
            return;
        }
        match tag {
            b'Q' => {
                self.statements.remove("");
                match self.run(&strings[0], true) {
                    Outcome::Copying => {}
                    Outcome::Done | Outcome::Failed => self.ready(),
                }
            }
            b'P' => {
                let (name, text) = (&strings[0], &strings[1]);
                if text == "drop" {
                    return self.fail_batch("22012");
                }
                if name.is_empty() {
                    self.statements.remove("");
                }
                if text == "bad" || self.statements.contains_key(name) {
                    return self.fail_batch("42601");
                }
                self.statements.insert(name.clone(), text.clone());
                self.say(message('1', b""));
            }
            b'B' => {
                let formats = body[strings[0].len() + strings[1].len() + 3];
                let Some(text) = self.statements.get(&strings[1]).filter(|_| formats == 0) else {
                    return self.fail_batch("26000");
                };
                if !strings[0].is_empty() && self.portals.contains_key(&strings[0]) {
                    return self.fail_batch("42P03");
                }
                self.portals.insert(strings[0].clone(), text.clone());
                self.say(message('2', b""));
            }
            b'D' => {
                let (kind, name) = strings[0].split_at(1);
                let known = if kind == "S" { self.statements.get(name) } else { self.portals.get(name) };
                if known.is_none() {
                    return self.fail_batch("34000");
                }
                if kind == "S" {
                    self.say(message('t', b"\0\0"));
                }
                self.say(message('n', b""));
            }
            b'C' => {
                let (kind, name) = strings[0].split_at(1);
                if kind == "S" {
                    self.statements.remove(name)
                } else {
                    self.portals.remove(name)
                };
                self.say(message('3', b""));
            }
            b'E' => {
                let Some(text) = self.portals.get(&strings[0]).cloned() else {
                    return self.fail_batch("34000");
                };
                if let Outcome::Failed = self.run(&text, false) {
                    self.skipping = true;
                }
            }
            b'S' => {
                self.skipping = false;
                self.ready();
            }
            _ => {}
        }
    }

    fn fail_batch(&mut self, code: &str) {
        self.fail(code);
        self.skipping = true;
    }

    fn take_copy(&mut self, tag: u8, body: &[u8]) {
        let Some((text, simple)) = self.copy.take() else { return };
        let failed = match tag {
            b'd' if body != b"bad" => {
                self.copy = Some((text, simple));
                return;
            }
            b'H' | b'S' => {
                self.copy = Some((text, simple));
                return;
            }
            b'd' | b'f' => true,
            b'c' => false,
            _ => {
                self.say(error("08P01"));
                self.say(message('E', b"SFATAL\0VFATAL\0C08P01\0Mlost\0\0"));
                self.dead = true;
                return;
            }
        };
        if failed {
            self.fail("57014");
            self.skipping = !simple;
        } else {
            self.ran.push(text);
            self.say(complete("COPY 1"));
        }
        if simple {
            self.ready();
        }
    }

    fn run(&mut self, text: &str, simple: bool) -> Outcome {
        let refused = matches!(text, "drop" | "tidegate: statement refused");
        if self.status == 'E' && text != "rollback" && !refused {
            self.fail("25P02");
            return Outcome::Failed;
        }
        let tag = match text {
            _ if refused || text == "fail" => {
                self.fail("22012");
                return Outcome::Failed;
            }
            "copy" => {
                self.say(message('G', b"\0\0\0"));
                self.copy = Some((text.into(), simple));
                return Outcome::Copying;
            }
            "copy trigger" => {
                self.say(message('G', b"\0\0\0"));
                self.fail("P0001");
                return Outcome::Failed;
            }
            "out" => {
                self.say(message('H', b"\0\0\0"));
                self.say(message('d', b"x"));
                self.say(message('c', b""));
                "COPY 1"
            }
            "begin" => {
                self.status = 'T';
                "BEGIN"
            }
            "commit" | "rollback" => {
                self.status = 'I';
                "COMMIT"
            }
            "reset all" | "discard all" => {
                self.name.clone_from(&self.first_name);
                if text == "discard all" {
                    self.statements.retain(|name, _| name.is_empty());
                }
                if text == "reset all" { "RESET" } else { "DISCARD ALL" }
            }
            // A function that we cannot look into.
            "do reset" => {
                self.name.clone_from(&self.first_name);
                "DO"
            }
            _ if text.starts_with("set ") => {
                self.name = text[4..].into();
                "SET"
            }
            _ if text.starts_with("SET ") => {
                if text.contains("\"application_name\"") {
                    self.name = text.split('\'').nth(1).unwrap().into();
                }
                "SET"
            }
            _ => {
                if simple {
                    self.say(message('T', b"\0\0"));
                }
                self.say(message('D', b"\0\0"));
                "SELECT 1"
            }
        };
        if !text.starts_with("SET ") {
            self.ran.push(text.into());
        }
        self.say(complete(tag));
        if self.tells_at_once {
            self.tell_name();
        }
        Outcome::Done
    }

    /// Takes every whole message at the front.
    fn read(&mut self, bytes: &mut Vec<u8>, messages: usize) {
        for _ in 0..messages {
            let Ok(Some(header)) = frame::peek(bytes) else { return };
            if bytes.len() < header.total {
                return;
            }
            let message: Vec<u8> = bytes.drain(..header.total).collect();
            self.take(message[0], &message[5..]);
        }
    }
}

/// The stream without ParameterStatus, whose moments differ.
fn without_names(mut bytes: &[u8]) -> String {
    let mut shown = String::new();
    while let Ok(Some(header)) = frame::peek(bytes) {
        let (message, rest) = bytes.split_at(header.total.min(bytes.len()));
        if header.tag != b'S' {
            // The wording of a refusal is ours.
            let text = message.escape_ascii().to_string();
            let text = if text.contains("TG009") { error("22012").escape_ascii().to_string() } else { text };
            shown.push_str(&text);
            shown.push('\n');
        }
        bytes = rest;
    }
    shown
}

/// The texts whose statements have a result that is no error, in the order of the results.
fn noted_as_run(notes: &[u8]) -> Vec<String> {
    let mut texts = BTreeMap::new();
    let mut ran = Vec::new();
    for (_, note) in NoteReader::new(notes) {
        match note {
            Note::Statement { number, text, .. } => {
                texts.insert(number, String::from_utf8_lossy(text).into_owned());
            }
            Note::Result { number, sqlstate: b"", .. } => ran.push(texts[&number].clone()),
            _ => {}
        }
    }
    ran
}

fn text() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "select 1",
        "select 2",
        "select 3",
        "bad",
        "fail",
        "drop",
        "copy",
        "copy trigger",
        "out",
        "begin",
        "commit",
        "rollback",
        "reset all",
        "discard all",
        "do reset",
        "set x",
        "set y",
    ])
}

fn name() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec!["", "", "a", "b"])
}

fn client_message() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        2 => text().prop_map(query),
        3 => (name(), text()).prop_map(|(name, text)| parse(name, text)),
        3 => (name(), name()).prop_map(|(portal, name)| bind(portal, name)),
        3 => name().prop_map(execute),
        // What drivers send.
        4 => (name(), text()).prop_map(|(name, text)| {
            [parse(name, text), bind("", name), execute(""), sync()].concat()
        }),
        2 => Just([message('d', b"1"), message('c', b""), sync()].concat()),
        1 => (proptest::sample::select(vec!['S', 'P']), name()).prop_map(|(kind, name)| describe(kind, name)),
        2 => (proptest::sample::select(vec!['S', 'P']), name())
            .prop_map(|(kind, name)| message('C', format!("{kind}{name}\0").as_bytes())),
        4 => Just(sync()),
        1 => Just(message('H', b"")),
        1 => Just(message('d', b"1")),
        1 => Just(message('d', b"bad")),
        1 => Just(message('c', b"")),
        1 => Just(message('f', b"no\0")),
    ]
}

/// What the relay gives up on, by its documents.
fn gives_up(end: &End) -> bool {
    match end {
        End::Closed => true,
        End::Refused(refusal) => *refusal == Refusal::ProtocolViolation("a COPY failed and no Sync followed"),
        End::Broken(error) => {
            ["a COPY failed with Syncs among its data", "a COPY failed with statements behind it"]
                .contains(&error.what)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 800, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_client_sees_what_it_would_see_without_us(
        messages in proptest::collection::vec(client_message(), 1..25),
        turns in proptest::collection::vec((0usize..3, 0usize..60, 0usize..4), 1..40),
        tells_at_once: bool,
    ) {
        // Whatever the script leaves open is closed.
        let mut script: Vec<u8> = messages.concat();
        script.extend([message('f', b"no\0"), sync(), message('f', b"no\0"), sync()].concat());

        let mut alone = Server::new(CLIENT_NAME, CLIENT_NAME, tells_at_once);
        alone.read(&mut script.clone(), usize::MAX);

        let settings = Settings { application_name: Some(CLIENT_NAME.into()), parameters: vec![] };
        let mut rig = Rig::new(settings);
        rig.to_client.clear();
        rig.judge = |operation| match operation.text {
            b"drop" => Verdict::Refuse(Refusal::OperationDenied("it drops")),
            _ => Verdict::Allow,
        };
        let stamped = stamped_name(STAMP, CLIENT_NAME);
        let mut server = Server::new(DIAL_APPLICATION_NAME, &stamped, tells_at_once);
        let (mut unsent, mut turns) = (&script[..], turns.iter().cycle());
        while rig.end.is_none() {
            let &turn = turns.next().unwrap();
            let moved = act(turn, &mut unsent, &mut server, &mut rig);
            // Turns that leave one of them out would go on forever.
            if !moved && (0..3).all(|who| !act((who, 1, 1), &mut unsent, &mut server, &mut rig)) {
                break;
            }
        }
        if let Some(end) = &rig.end {
            prop_assert!(gives_up(end), "{:?}", end);
            let shown = without_names(&rig.to_client);
            prop_assert!(without_names(&alone.out).starts_with(&shown) || *end == End::Closed);
            return Ok(());
        }
        prop_assert_eq!(without_names(&rig.to_client), without_names(&alone.out));
        prop_assert_ne!(rig.relay.boundary(), Boundary::Busy);
        prop_assert_eq!(noted_as_run(&rig.notes), server.ran.clone());
        prop_assert_eq!(server.ran, alone.ran);
        if server.status != 'E' {
            prop_assert!(server.name.starts_with(STAMP), "{}", server.name);
            prop_assert_eq!(String::from_utf8_lossy(rig.relay.stamp.shown()), alone.name);
        }
    }
}

/// The client sends bytes, or the server reads messages, or the server's bytes arrive. False where there
/// was nothing to do.
fn act(
    (who, bytes, messages): (usize, usize, usize),
    unsent: &mut &[u8],
    server: &mut Server,
    rig: &mut Rig,
) -> bool {
    match who {
        0 => {
            let (head, tail) = unsent.split_at(bytes.min(unsent.len()));
            rig.feed(Side::Downstream, head);
            *unsent = tail;
            !head.is_empty()
        }
        1 => {
            let before = rig.to_server.len();
            server.read(&mut rig.to_server, messages);
            rig.to_server.len() < before
        }
        _ => {
            let head: Vec<u8> = server.out.drain(..bytes.min(server.out.len())).collect();
            if !head.is_empty() {
                rig.feed(Side::Upstream, &head);
            }
            !head.is_empty()
        }
    }
}
