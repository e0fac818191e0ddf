//! The client/server protocol of MySQL 5.7 and newer and MariaDB 10.3 and newer
//! (<https://dev.mysql.com/doc/dev/mysql-server/latest/PAGE_PROTOCOL.html>,
//! <https://mariadb.com/docs/server/reference/clientserver-protocol>).
//!
//! Refused: the protocol before 4.1, replication.

use bytes::BytesMut;
use sqlparser::dialect::MySqlDialect;

use crate::credential::Secret;
use crate::protocol::label::{self, Label};
use crate::protocol::session::{
    AcceptContext, DialPurpose, DialWay, Entry, Interruption, Purpose, Restore, Upkeep, Wire,
};

mod accept;
mod answer;
mod capability;
mod check;
mod command;
mod dial;
pub mod facts;
pub(crate) mod greeting;
mod lexer;
mod message;
pub(crate) mod packet;
mod query;
pub(crate) mod refusal;
mod relay;
mod script;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod talk;
#[cfg(test)]
mod tests;
pub mod value;

pub use accept::MySqlAccept;
pub use capability::Capabilities;
#[cfg(any(test, feature = "testing"))]
pub(crate) use dial::Goal;
pub use dial::MySqlDial;
pub use facts::{Learned, MySqlFacts, Settings};
pub use query::{GLANCED as GLANCED_VARIABLES, MARK as RESET_MARK, VOLATILE as UNSTEADY_VARIABLES};
pub use relay::MySqlRelay;
#[cfg(any(test, feature = "testing"))]
pub use relay::fuzz_relay;
#[cfg(any(test, feature = "testing"))]
pub(crate) use script::Job;
pub use script::MySqlScript;
pub use value::describe as describe_parameters;

/// What a statement's text does, for the trail.
pub fn label_statement(text: &[u8], is_whole: bool) -> Label {
    label::of(&MySqlDialect {}, text, is_whole, lexer::first_words)
}

/// The protocol's entry in the registry.
#[derive(Debug, Clone, Copy, Default)]
pub struct MySql;

impl Wire for MySql {
    const NAME: &'static str = "mysql";
    const PORT: u16 = 3306;
    const GREETS: bool = true;
    const INTERRUPTS_LOGGED_IN: bool = true;
    const SHARED_LOGIN: &'static str = "the server cannot forbid it, and a KILL of one person's goes no further than Tidegate (docs/mysql.md)";
    // COM_QUIT.
    const GOODBYE: &'static [u8] = &[1, 0, 0, 0, 1];
    type Accept = MySqlAccept;
    type Settings = Settings;
    type Facts = MySqlFacts;
    type Dial = MySqlDial;
    type Relay = MySqlRelay;
    type Script = MySqlScript;

    fn accept(&self, context: &AcceptContext) -> MySqlAccept {
        MySqlAccept::new(context)
    }

    fn settings(&self, accept: &MySqlAccept) -> Settings {
        accept.settings()
    }

    fn settings_shown(&self, settings: &Settings) -> Vec<(String, String)> {
        settings.shown()
    }

    fn dressed(&self, settings: &Settings, _: &Restore) -> Settings {
        settings.clone()
    }

    fn dial(&self, purpose: DialPurpose<'_>, way: DialWay, secret: &Secret) -> MySqlDial {
        MySqlDial::new(&purpose, way, secret)
    }

    /// The socket's own path; in a folder the name that MySQL's packages give it.
    fn unix_socket(&self, path: &str, _: Option<u16>) -> String {
        match path.ends_with(".sock") {
            true => path.to_owned(),
            false => format!("{}/mysqld.sock", path.trim_end_matches('/')),
        }
    }

    fn script(&self, purpose: Purpose<'_, Settings>, facts: &MySqlFacts) -> MySqlScript {
        MySqlScript::new(&purpose, facts)
    }

    fn stop(&self, _: &Upkeep, interruption: &Interruption, facts: &MySqlFacts) -> Option<MySqlScript> {
        Some(MySqlScript::run(script::Job::Stop { interruption }, facts))
    }

    /// What was agreed to in the handshake cannot be changed after it.
    fn flavour(&self, settings: &Settings) -> String {
        settings.capabilities.flavour()
    }

    fn relay(
        &self,
        accept: MySqlAccept,
        entry: Entry<'_>,
        facts: &MySqlFacts,
        out: &mut BytesMut,
    ) -> MySqlRelay {
        MySqlRelay::new(accept, entry, facts, out)
    }

    fn accept_again(&self, relay: MySqlRelay) -> Option<MySqlAccept> {
        relay.into_accept()
    }
}
