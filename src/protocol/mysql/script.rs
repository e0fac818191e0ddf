//! Short exchanges of our own on an upstream connection.

use bytes::BytesMut;

use super::facts::{MySqlFacts, Settings};
use crate::protocol::session::{Findings, Purpose, Report, Script, ScriptStep, WireError};

/// One script on one connection.
pub struct MySqlScript {
    report: Option<Report>,
}

impl MySqlScript {
    pub(super) fn new(purpose: &Purpose<'_, Settings>, _: &MySqlFacts) -> Self {
        let report = match purpose {
            Purpose::Probe(_) | Purpose::Prepare { .. } | Purpose::Ping(_) => {
                Report::Done(Findings::default())
            }
            _ => Report::Unclean("not looked at".into()),
        };
        Self { report: Some(report) }
    }
}

impl Script for MySqlScript {
    fn step(&mut self, _: &mut BytesMut, _: &mut BytesMut) -> Result<ScriptStep, WireError> {
        self.report.take().map(ScriptStep::Done).ok_or(WireError::new("script", "a step after its end"))
    }
}
