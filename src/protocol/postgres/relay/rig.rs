//! A relay with buffers where an engine has sockets: for tests, and the entry for fuzzing.

use bytes::BytesMut;

use super::super::facts::{Parameters, PostgresFacts, Settings};
use super::PostgresRelay;
use crate::model::limits::{
    INSPECT_BYTES_MAX, OUTSTANDING_MAX, PREPARED_TEXT_BYTES_MAX, SMALL_MESSAGE_BYTES_MAX,
};
use crate::model::{Notes, Operation, Refusal, Verdict};
use crate::protocol::session::{Ask, Boundary, CancelKey, Flow, Plan, Relay, RelayStep, Side, WireError};

/// How a conversation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    Closed,
    Refused(Refusal),
    Broken(WireError),
}

pub(super) struct Rig {
    pub relay: PostgresRelay,
    pub to_client: Vec<u8>,
    pub to_server: Vec<u8>,
    pub notes: Vec<u8>,
    /// The most that one turn noted.
    pub notes_max: usize,
    /// The most words of ours that one turn wrote.
    pub own_max: usize,
    pub end: Option<End>,
    pub needs_lease: bool,
    pub proven: bool,
    pub held: bool,
    pub judge: fn(&Operation<'_>) -> Verdict,
    from_client: Vec<u8>,
    from_server: Vec<u8>,
    plan: Plan,
    clock: u64,
}

/// As a PostgreSQL 15 describes itself, prepared for [`STAMP`].
pub(super) fn facts(client_name: &str) -> PostgresFacts {
    let name = super::stamped_name(STAMP, client_name);
    let parameters = [
        ("application_name", &*name),
        ("client_encoding", "UTF8"),
        ("server_version", "15.14"),
        ("standard_conforming_strings", "on"),
    ];
    let parameters: Parameters = parameters.map(|(name, value)| (name.into(), value.into())).into();
    PostgresFacts {
        dialled: parameters.clone(),
        parameters,
        user: "connector".into(),
        process_id: 4711,
        secret_key: [1, 2, 3, 4].into(),
        termination: None,
        version: "15.14".into(),
    }
}

pub(super) const STAMP: &str = "alice/s-1";

impl Rig {
    pub fn new(settings: Settings) -> Self {
        let key = CancelKey { process: 1, secret: vec![0; 4] };
        let mut out = BytesMut::new();
        let facts = facts(settings.application_name.as_deref().unwrap_or_default());
        let relay = PostgresRelay::enter(STAMP, &key, None, settings, &facts, &mut out);
        Self {
            relay,
            to_client: out.to_vec(),
            to_server: Vec::new(),
            notes: Vec::new(),
            notes_max: 0,
            own_max: 0,
            end: None,
            needs_lease: false,
            proven: false,
            held: false,
            judge: |_| Verdict::Allow,
            from_client: Vec::new(),
            from_server: Vec::new(),
            plan: Plan::default(),
            clock: 0,
        }
    }

    /// One side sent these.
    pub fn feed(&mut self, from: Side, bytes: &[u8]) {
        match from {
            Side::Downstream => self.from_client.extend_from_slice(bytes),
            Side::Upstream => self.from_server.extend_from_slice(bytes),
        }
        if from == Side::Upstream || !self.held {
            self.pump(from);
        }
        if from == Side::Upstream && self.held {
            self.pump(Side::Downstream);
        }
    }

    /// Pumps a side with what it has sent.
    pub fn pump(&mut self, from: Side) {
        if self.end.is_some() {
            return;
        }
        let input = match from {
            Side::Downstream => &mut self.from_client,
            Side::Upstream => &mut self.from_server,
        };
        self.clock += 1;
        self.plan.clear();
        let mut back = BytesMut::new();
        let mut judge = self.judge;
        let mut notes = Vec::new();
        let step = self.relay.pump(
            from,
            input,
            &mut Flow {
                plan: &mut self.plan,
                back: &mut back,
                notes: &mut Notes::new(&mut notes, 0),
                judge: &mut judge,
                clock_micros: self.clock,
            },
        );
        let (ahead, behind) = match from {
            Side::Downstream => (&mut self.to_server, &mut self.to_client),
            Side::Upstream => (&mut self.to_client, &mut self.to_server),
        };
        for piece in self.plan.pieces() {
            ahead.extend_from_slice(self.plan.bytes(piece, input));
        }
        behind.extend_from_slice(&back);
        self.own_max = self.own_max.max(self.plan.own_bytes());
        self.notes_max = self.notes_max.max(notes.len());
        self.notes.append(&mut notes);
        input.drain(..self.plan.consumed());
        if from == Side::Downstream {
            self.held = step == Ok(RelayStep::Hold);
            self.needs_lease = step == Ok(RelayStep::NeedLease);
        }
        self.proven |= step == Ok(RelayStep::Proven);
        if step == Ok(RelayStep::Again) {
            return self.pump(from);
        }
        self.end = match step {
            // A session of this protocol has one login.
            Ok(RelayStep::Close | RelayStep::LoginAgain) => Some(End::Closed),
            Ok(RelayStep::Refuse(refusal)) => Some(End::Refused(refusal)),
            Err(error) => Some(End::Broken(error)),
            Ok(
                RelayStep::Continue
                | RelayStep::Again
                | RelayStep::Hold
                | RelayStep::NeedLease
                | RelayStep::Kill(_)
                | RelayStep::Proven,
            ) => None,
        };
    }

    /// What always holds, whatever came.
    fn check(&self) {
        assert!(self.relay.due.len() <= OUTSTANDING_MAX + 2);
        // One message may be above the limit until the next one.
        let slack = INSPECT_BYTES_MAX * 2;
        assert!(self.relay.statements.weight() <= PREPARED_TEXT_BYTES_MAX + slack);
        assert!(self.relay.portals.weight() <= PREPARED_TEXT_BYTES_MAX + slack);
        let waits = self.held || self.needs_lease || self.end.is_some();
        assert!(waits || self.from_client.len() < INSPECT_BYTES_MAX);
        assert!(self.end.is_some() || self.from_server.len() < INSPECT_BYTES_MAX + SMALL_MESSAGE_BYTES_MAX);
    }
}

/// Runs a conversation made of arbitrary bytes: chunks, each behind a byte that says which side sends it
/// and how long it is (a seventh bit: sixteen times as long); those of no length are for the engine to do
/// something about the connection. Panics when a promise is broken.
pub fn fuzz_relay(data: &[u8]) {
    let Some((&first, mut rest)) = data.split_first() else { return };
    let mut rig = Rig::new(Settings {
        application_name: Some("fuzz".into()),
        parameters: vec![("search_path".into(), "a, b".into())],
    });
    if first & 1 == 1 {
        rig.judge = |operation| match operation.text.starts_with(b"drop") {
            true => Verdict::Refuse(Refusal::OperationDenied("it drops")),
            false => Verdict::Allow,
        };
    }
    while let Some((&mark, behind)) = rest.split_first() {
        let wanted = usize::from(mark & 0x3f) << if mark & 0x40 == 0 { 0 } else { 4 };
        let (chunk, behind) = behind.split_at(wanted.min(behind.len()));
        rest = behind;
        rig.feed(if mark & 0x80 == 0 { Side::Downstream } else { Side::Upstream }, chunk);
        rig.check();
        match mark {
            0 => move_upstream(&mut rig),
            0x80 => ask(&mut rig),
            0xc0 => part(&mut rig),
            _ => {}
        }
    }
}

/// Whether an engine may do something between the client's statements.
fn is_quiet(rig: &Rig) -> bool {
    let empty = rig.from_client.is_empty() && rig.from_server.is_empty();
    empty && !rig.held && rig.end.is_none() && rig.relay.boundary() == Boundary::Idle
}

/// Asks the server whether anything would be lost.
fn ask(rig: &mut Rig) {
    let mut out = BytesMut::new();
    if is_quiet(rig) && rig.relay.prove(Ask { code: true, sequences: false }, &mut out).is_ok() {
        rig.to_server.extend_from_slice(&out);
    }
}

/// Takes the server's answer, and gives the lease back where it says that nothing would be lost.
fn part(rig: &mut Rig) {
    if let Some(proof) = rig.relay.proof()
        && proof.pinned.is_none()
        && is_quiet(rig)
    {
        go_elsewhere(rig);
    }
}

/// Gives the lease back and goes on with another, if the relay can.
fn move_upstream(rig: &mut Rig) {
    if rig.relay.boundary() == Boundary::Idle {
        rig.relay.assume_proven(0);
        go_elsewhere(rig);
    }
}

fn go_elsewhere(rig: &mut Rig) {
    if let Ok(restore) = rig.relay.detach() {
        let facts = facts("fuzz");
        let parameters: Parameters =
            facts.parameters.iter().cloned().chain([("x".into(), "y".into())]).collect();
        let mut out = BytesMut::new();
        rig.relay.attach(&PostgresFacts { parameters, ..facts }, restore, &mut out);
        rig.to_server.extend_from_slice(&out);
    }
}
