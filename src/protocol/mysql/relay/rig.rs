//! A relay with buffers where an engine has sockets: for tests, and the entry for fuzzing.

use std::sync::Arc;

use bytes::BytesMut;

use super::super::accept::Doorway;
use super::super::capability::{Capabilities, status};
use super::super::facts::{Learned, MySqlFacts};
use super::MySqlRelay;
use crate::grant::Scope;
use crate::model::limits::{INSPECT_BYTES_MAX, OUTSTANDING_MAX, PREPARED_TEXT_BYTES_MAX};
use crate::model::{Notes, Operation, Refusal, Verdict};
use crate::protocol::session::{Flow, Kill, Killed, Plan, Relay, RelayStep, Side, WireError};

/// How a conversation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    Closed,
    LoginAgain,
    Refused(Refusal),
    Broken(WireError),
}

pub(super) struct Rig {
    pub relay: MySqlRelay,
    pub to_client: Vec<u8>,
    pub to_server: Vec<u8>,
    pub notes: Vec<u8>,
    pub end: Option<End>,
    pub held: bool,
    /// What the client asked to stop, and what it is told then.
    pub kills: Vec<Kill>,
    pub killed: Killed,
    pub judge: fn(&Operation<'_>) -> Verdict,
    from_client: Vec<u8>,
    from_server: Vec<u8>,
    plan: Plan,
    clock: u64,
}

pub(super) fn facts(capabilities: Capabilities) -> MySqlFacts {
    MySqlFacts {
        learned: Arc::new(Learned {
            version: "8.4.0".into(),
            capabilities: Capabilities::ALWAYS | Capabilities::LONG_PASSWORD,
            collation: 45,
            status: status::AUTOCOMMIT,
        }),
        capabilities,
        user: "connector".into(),
        database: "shop".into(),
        collation: 45,
        thread: 4711,
        status: status::AUTOCOMMIT,
        termination: None,
        stamps_comments: false,
        baseline: None,
    }
}

impl Rig {
    pub fn new(agreed: Capabilities) -> Self {
        Self::between(agreed, agreed)
    }

    /// The conversation with the server is compressed.
    #[cfg(test)]
    pub fn compressed(agreed: Capabilities) -> Self {
        Self::between(agreed, agreed | Capabilities::COMPRESS)
    }

    /// What was agreed with the client, and with the server.
    fn between(agreed: Capabilities, upstream: Capabilities) -> Self {
        let agreed = agreed | Capabilities::ALWAYS;
        let upstream = upstream | Capabilities::ALWAYS;
        Self {
            relay: MySqlRelay::enter(
                Doorway::plain(agreed),
                Scope::of(&["shop", "hr"]),
                "alice/s-1",
                &facts(upstream),
            ),
            to_client: Vec::new(),
            to_server: Vec::new(),
            notes: Vec::new(),
            end: None,
            held: false,
            kills: Vec::new(),
            killed: Killed::Done,
            judge: |_| Verdict::Allow,
            from_client: Vec::new(),
            from_server: Vec::new(),
            plan: Plan::default(),
            clock: 0,
        }
    }

    /// The target wants to see who is there in front of each text.
    #[cfg(test)]
    pub fn commenting(agreed: Capabilities) -> Self {
        let agreed = agreed | Capabilities::ALWAYS;
        let facts = MySqlFacts { stamps_comments: true, ..facts(agreed) };
        let relay =
            MySqlRelay::enter(Doorway::plain(agreed), Scope::of(&["shop", "hr"]), "alice/s-1", &facts);
        Self { relay, ..Self::new(agreed) }
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
        self.notes.append(&mut notes);
        input.drain(..self.plan.consumed());
        if from == Side::Downstream {
            self.held = step == Ok(RelayStep::Hold);
        }
        self.end = match step {
            Ok(RelayStep::Again) => return self.pump(from),
            Ok(RelayStep::Kill(kill)) => {
                self.kills.push(kill);
                self.relay.killed(self.killed);
                return self.pump(Side::Downstream);
            }
            Ok(RelayStep::Close) => Some(End::Closed),
            Ok(RelayStep::LoginAgain) => Some(End::LoginAgain),
            Ok(RelayStep::Refuse(refusal)) => Some(End::Refused(refusal)),
            Err(error) => Some(End::Broken(error)),
            Ok(RelayStep::Continue | RelayStep::Hold | RelayStep::NeedLease | RelayStep::Proven) => None,
        };
    }

    /// What always holds, whatever came.
    fn check(&self) {
        assert!(self.relay.due.len() <= OUTSTANDING_MAX + 2);
        assert!(self.relay.prepared.weight() <= PREPARED_TEXT_BYTES_MAX);
        let waits = self.held || self.end.is_some();
        assert!(waits || self.from_client.len() <= INSPECT_BYTES_MAX);
        assert!(self.end.is_some() || self.from_server.len() <= INSPECT_BYTES_MAX);
    }
}

/// What the first byte of a fuzzed conversation chooses from.
const AGREED: [Capabilities; 6] = [
    Capabilities::DEPRECATE_EOF,
    Capabilities::LOCAL_FILES,
    Capabilities::QUERY_ATTRIBUTES,
    Capabilities::MARIADB_STMT_BULK_OPERATIONS,
    Capabilities::MARIADB_PROGRESS,
    Capabilities::SESSION_TRACK,
];

/// Runs a conversation made of arbitrary bytes: chunks, each behind a byte that says which side sends it
/// and how long it is (a seventh bit: sixteen times as long). Panics when a promise is broken.
pub fn fuzz_relay(data: &[u8]) {
    let Some((&first, mut rest)) = data.split_first() else { return };
    let chosen = AGREED.iter().enumerate().filter(|(bit, _)| first >> bit & 1 == 1);
    let mut rig = Rig::new(chosen.fold(Capabilities::NONE, |all, (_, one)| all | *one));
    if first & 0x40 != 0 {
        rig.judge = |operation| match operation.text.starts_with(b"drop") {
            true => Verdict::Refuse(Refusal::OperationDenied("it drops")),
            false => Verdict::Allow,
        };
    }
    if first & 0x80 != 0 {
        rig.killed = Killed::Unknown;
    }
    while let Some((&mark, behind)) = rest.split_first() {
        let wanted = usize::from(mark & 0x3f) << if mark & 0x40 == 0 { 0 } else { 4 };
        let (chunk, behind) = behind.split_at(wanted.min(behind.len()));
        rest = behind;
        rig.feed(if mark & 0x80 == 0 { Side::Downstream } else { Side::Upstream }, chunk);
        rig.check();
    }
    let mut notes = Vec::new();
    rig.relay.unfinished(&mut Notes::new(&mut notes, 0), 0);
}
