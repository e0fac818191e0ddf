//! A client logs in to us.

use bytes::BytesMut;

use super::facts::Settings;
use super::refusal::put_error;
use crate::model::Refusal;
use crate::protocol::session::{Accept, AcceptContext, AcceptInput, AcceptStep, Claimed, WireError};

/// A login of one client.
pub struct MySqlAccept {
    settings: Settings,
    sequence: u8,
}

impl MySqlAccept {
    pub(crate) fn new(_: &AcceptContext) -> Self {
        Self { settings: Settings::default(), sequence: 0 }
    }

    pub(super) fn settings(&self) -> Settings {
        self.settings.clone()
    }

    /// The number of our next packet.
    pub(super) fn sequence(&self) -> u8 {
        self.sequence
    }
}

impl Accept for MySqlAccept {
    fn step(&mut self, _: AcceptInput<'_>, _: &mut BytesMut) -> Result<AcceptStep, WireError> {
        Ok(AcceptStep::Refuse(Refusal::NotSupported("MySQL"), "not built in yet"))
    }

    fn refuse(&mut self, refusal: &Refusal, out: &mut BytesMut) {
        put_error(out, self.sequence, self.settings.capabilities, refusal);
    }

    fn notice(&mut self, _: &str, _: &mut BytesMut) -> bool {
        false
    }

    fn claimed(&self) -> Claimed<'_> {
        Claimed::default()
    }
}
