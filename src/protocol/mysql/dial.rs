//! We log in to a server, or ask it to stop a statement.

use bytes::BytesMut;

use super::facts::MySqlFacts;
use crate::credential::Secret;
use crate::protocol::session::{Dial, DialInput, DialPurpose, DialStep, DialWay, WireError};

/// One attempt at one server.
pub struct MySqlDial;

impl MySqlDial {
    pub(super) fn new(_: &DialPurpose<'_>, _: DialWay, _: &Secret) -> Self {
        Self
    }
}

impl Dial for MySqlDial {
    type Facts = MySqlFacts;

    fn step(&mut self, _: DialInput<'_>, _: &mut BytesMut) -> Result<DialStep<MySqlFacts>, WireError> {
        Err(WireError::new("login", "not built in yet"))
    }
}
