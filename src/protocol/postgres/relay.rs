//! PLACEHOLDER, not committed.
use super::{PostgresFacts, Settings};
use crate::model::Refusal;
use crate::protocol::session::*;
use bytes::BytesMut;
pub struct PostgresRelay;
impl PostgresRelay {
    pub fn new(_entry: Entry<'_>, _settings: Settings, _facts: &PostgresFacts, _out: &mut BytesMut) -> Self {
        Self
    }
}
impl Relay for PostgresRelay {
    type Facts = PostgresFacts;
    fn pump(&mut self, _: Side, _: &[u8], _: &mut Flow<'_>) -> Result<RelayStep, WireError> {
        Ok(RelayStep::Close)
    }
    fn boundary(&self) -> Boundary {
        Boundary::Busy
    }
    fn at_unit_boundary(&self, _: Side) -> bool {
        false
    }
    fn notice(&mut self, _: &str, _: &mut BytesMut) -> bool {
        false
    }
    fn refuse(&mut self, _: &Refusal, _: &mut BytesMut) {}
    fn detach(&mut self) -> Result<Restore, Pinned> {
        Err(Pinned("x"))
    }
    fn attach(&mut self, _: &PostgresFacts, _: Restore, _: &mut BytesMut) {}
    fn wind_down(&mut self) {}
    fn statements(&self) -> u64 {
        0
    }
}
