//! PostgreSQL's frontend/backend protocol, versions 3.0 and 3.2
//! (<https://www.postgresql.org/docs/current/protocol.html>).
//!
//! Refused: protocol 2, replication, GSSAPI encryption. A client that asks for another minor version or for
//! protocol options is told what it gets instead.

use bytes::BytesMut;
use sqlparser::dialect::PostgreSqlDialect;

use crate::credential::Secret;
use crate::model::limits;
use crate::protocol::label::{self, Label};
use crate::protocol::session::{AcceptContext, DialPurpose, DialWay, Entry, Purpose, Restore, Wire};

mod accept;
mod check;
mod dial;
pub mod facts;
pub(crate) mod frame;
mod lexer;
mod message;
mod query;
pub(crate) mod refusal;
pub(crate) mod relay;
mod script;
mod startup;
mod stateful;
pub mod value;

/// Every reading of a statement's text that decides something. Panics when a promise is broken.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn fuzz_text(text: &[u8]) {
    for conforming in [true, false] {
        let masked = lexer::mask(text, conforming);
        assert!(masked.len() <= 4 * text.len() + 16, "{} bytes became {}", text.len(), masked.len());
        assert!(lexer::setting_changes(text, conforming).len() <= text.len());
        let pins = lexer::pins(text, conforming, true);
        // Less is known of a text whose bytes may be parts of other characters: it pins as much, or more.
        let unsafe_pins = lexer::pins(text, conforming, false);
        assert!(pins.lasting.is_none() || unsafe_pins.lasting.is_some());
    }
    assert!(lexer::first_words(text, 5).len() <= 5);
}

#[cfg(test)]
mod tests;

/// The statements of the scripts, for those who play a server.
#[cfg(test)]
pub(crate) mod texts {
    use super::query;

    pub(crate) use super::script::SET_CONFIG;

    pub fn probe() -> String {
        query::probe(true)
    }

    /// Whatever the server reports.
    pub fn is_reset(text: &str) -> bool {
        let text_of_none = query::reset(std::iter::empty(), true);
        let (head, _) = text_of_none.split_once("ARRAY[").unwrap();
        text.starts_with(head)
    }

    /// The settings that a glance asks for.
    pub fn glanced(text: &str) -> Option<Vec<&str>> {
        text.strip_prefix(query::GLANCE).map(settings)
    }

    /// The settings that a glimpse asks for.
    pub fn glimpsed(text: &str) -> Option<Vec<&str>> {
        text.strip_prefix(query::GLIMPSE).map(settings)
    }

    fn settings(asked: &str) -> Vec<&str> {
        asked.split("current_setting('").skip(1).filter_map(|rest| rest.split('\'').next()).collect()
    }

    /// Whatever is known of the code.
    pub fn is_proof(text: &str) -> bool {
        let proof = query::proof(false, false);
        let (head, _) = proof.split_once("SELECT 'code'").unwrap();
        text.starts_with(head)
    }

    pub fn is_reseed(text: &str) -> bool {
        let seeded = query::reseed(0);
        let (head, _) = seeded.split_once("0.0").unwrap();
        text.starts_with(head)
    }

    /// The processes that are to be ended, with when they began.
    pub fn terminated(text: &str) -> Option<Vec<(u32, String)>> {
        let ended = query::terminate(&[query::Backend { process: 0, began: 0 }]);
        let (head, _) = ended.split_once("0]").unwrap();
        let mut lists =
            text.strip_prefix(head)?.split("ARRAY[").map(|list| list.split_once(']').map(|list| list.0));
        let (processes, began) = (lists.next()??, lists.next()??);
        processes
            .split(',')
            .zip(began.split(','))
            .map(|(process, began)| Some((process.parse().ok()?, began.into())))
            .collect()
    }
}

pub use accept::PostgresAccept;
#[cfg(any(test, feature = "testing"))]
pub(crate) use dial::Goal;
pub use dial::PostgresDial;
pub use facts::{PostgresFacts, Settings};
pub use relay::PostgresRelay;
#[cfg(any(test, feature = "testing"))]
pub use relay::fuzz_relay;
#[cfg(any(test, feature = "testing"))]
pub(crate) use script::Job;
pub use script::PostgresScript;
pub use value::describe as describe_parameters;

/// What a statement's text does, for the trail.
pub fn label_statement(text: &[u8], is_whole: bool) -> Label {
    label::of(&PostgreSqlDialect {}, text, is_whole, lexer::first_words)
}

/// The protocol's entry in the registry.
#[derive(Debug, Clone, Copy, Default)]
pub struct Postgres;

impl Wire for Postgres {
    const NAME: &'static str = "postgres";
    const PORT: u16 = 5432;
    const ALPN: &'static [&'static [u8]] = &[b"postgresql"];
    const SOCKET_NAME: Option<&'static str> = Some(".s.PGSQL.");
    const TERMINATIONS_MAX: usize = limits::TERMINATIONS_MAX;
    type Accept = PostgresAccept;
    type Settings = Settings;
    type Facts = PostgresFacts;
    type Dial = PostgresDial;
    type Relay = PostgresRelay;
    type Script = PostgresScript;

    fn accept(&self, context: &AcceptContext) -> PostgresAccept {
        PostgresAccept::new(context)
    }

    fn settings(&self, accept: &PostgresAccept) -> Settings {
        accept.settings()
    }

    fn settings_shown(&self, settings: &Settings) -> Vec<(String, String)> {
        settings.shown()
    }

    /// Everything else that a client may choose can be set after the login.
    fn flavour(&self, _: &Settings) -> String {
        String::new()
    }

    fn dressed(&self, settings: &Settings, restore: &Restore) -> Settings {
        settings.with(&restore.settings)
    }

    fn dial(&self, purpose: DialPurpose<'_>, way: DialWay, secret: &Secret) -> PostgresDial {
        PostgresDial::new(&purpose, way, secret)
    }

    /// libpq's convention: `.s.PGSQL.5432` in the folder; the socket's own path is taken as well.
    fn unix_socket(&self, path: &str, port: Option<u16>) -> String {
        let is_socket = path.rsplit('/').next().is_some_and(|name| name.starts_with(".s."));
        match port {
            None if is_socket => path.to_owned(),
            port => format!("{}/.s.PGSQL.{}", path.trim_end_matches('/'), port.unwrap_or(Self::PORT)),
        }
    }

    fn script(&self, purpose: Purpose<'_, Settings>, facts: &PostgresFacts) -> PostgresScript {
        PostgresScript::new(&purpose, facts)
    }

    fn relay(
        &self,
        accept: PostgresAccept,
        entry: Entry<'_>,
        facts: &PostgresFacts,
        out: &mut BytesMut,
    ) -> PostgresRelay {
        PostgresRelay::new(entry, accept.settings(), facts, out)
    }
}
