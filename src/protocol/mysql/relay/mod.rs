//! The established conversation.

use bytes::BytesMut;

use super::accept::MySqlAccept;
use super::facts::{MySqlFacts, Settings};
use super::{packet, refusal};
use crate::model::{Notes, Refusal};
use crate::protocol::session::{
    Ask, Boundary, Entry, Flow, Pinned, Proof, Relay, RelayStep, Restore, Side, WireError,
};

/// The conversation of one client with the connection it is lent.
pub struct MySqlRelay {
    settings: Settings,
}

impl MySqlRelay {
    pub(super) fn new(accept: &MySqlAccept, _: Entry<'_>, facts: &MySqlFacts, out: &mut BytesMut) -> Self {
        // The login's OK: no rows, no number, the server's status, no warnings.
        let sequence = accept.admit(out);
        packet::put(out, sequence, |out| {
            out.extend_from_slice(&[packet::OK, 0, 0]);
            out.extend_from_slice(&facts.status.to_le_bytes());
            out.extend_from_slice(&[0, 0]);
        });
        Self { settings: accept.settings() }
    }
}

impl Relay for MySqlRelay {
    type Facts = MySqlFacts;

    fn pump(&mut self, _: Side, input: &[u8], flow: &mut Flow<'_>) -> Result<RelayStep, WireError> {
        flow.plan.pass(input.len());
        Ok(RelayStep::Continue)
    }

    fn boundary(&self) -> Boundary {
        Boundary::Busy
    }

    fn at_unit_boundary(&self, _: Side) -> bool {
        true
    }

    fn notice(&mut self, _: &str, _: &mut BytesMut) -> bool {
        false
    }

    fn refuse(&mut self, refusal: &Refusal, out: &mut BytesMut) {
        refusal::put_error(out, 1, self.settings.capabilities, refusal);
    }

    fn prove(&mut self, _: Ask, _: &mut BytesMut) -> Result<(), Pinned> {
        Err(Pinned("not looked at"))
    }

    fn is_proving(&self) -> bool {
        false
    }

    fn proof(&mut self) -> Option<Proof> {
        None
    }

    fn detach(&mut self) -> Result<Restore, Pinned> {
        Err(Pinned("not looked at"))
    }

    fn attach(&mut self, _: &MySqlFacts, _: Restore, _: &mut BytesMut) {}

    fn wind_down(&mut self) {}

    fn unfinished(&mut self, _: &mut Notes<'_>, _: u64) {}

    fn statements(&self) -> u64 {
        0
    }
}
