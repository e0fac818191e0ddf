//! Protocols as machines without IO: bytes in, bytes and decisions out. One folder each; the
//! registry below is the one line that a new protocol adds.

pub mod http;
#[cfg(any(test, feature = "testing"))]
pub mod kit;
pub mod label;
pub(crate) mod masking;
pub mod mysql;
pub mod postgres;
pub mod proxy_header;
mod scan;
pub mod session;

/// Turns the bound values of a [`crate::model::Note`] into JSON for the trail.
pub type DescribeParameters = fn(&crate::model::Parameters<'_>) -> Vec<serde_json::Value>;

/// Says what a statement's text does, for the trail. The flag: the text is whole, no limit has cut it.
pub type LabelStatement = fn(&[u8], bool) -> label::Label;

/// What is known of a protocol without driving it.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    pub name: &'static str,
    pub port: u16,
    /// See [`session::Wire::ALPN`].
    pub alpn: &'static [&'static [u8]],
    /// See [`session::Wire::SOCKET_NAME`].
    pub socket_name: Option<&'static str>,
    /// See [`session::Wire::GREETS`].
    pub greets: bool,
    pub describe_parameters: DescribeParameters,
    pub label_statement: LabelStatement,
}

/// Who is shown every protocol that is built in.
pub trait Visitor {
    fn visit<W: session::Wire>(&mut self, wire: W);
}

macro_rules! protocols {
    ($($module:ident :: $wire:ident),* $(,)?) => {
        /// Every session protocol that is built in.
        pub const SESSION_PROTOCOLS: &[Entry] = &[$(Entry {
            name: <$module::$wire as session::Wire>::NAME,
            port: <$module::$wire as session::Wire>::PORT,
            alpn: <$module::$wire as session::Wire>::ALPN,
            socket_name: <$module::$wire as session::Wire>::SOCKET_NAME,
            greets: <$module::$wire as session::Wire>::GREETS,
            describe_parameters: $module::describe_parameters,
            label_statement: $module::label_statement,
        }),*];

        /// Shows all of them to somebody who needs their types.
        pub fn visit_all(visitor: &mut impl Visitor) {
            $(visitor.visit($module::$wire);)*
        }
    };
}

protocols! { postgres::Postgres, mysql::MySql }

/// Every protocol that is built in: those of sessions, then those of requests.
pub fn every() -> impl Iterator<Item = &'static Entry> {
    SESSION_PROTOCOLS.iter().chain(http::PROTOCOLS)
}

/// The entry of a protocol by its configuration name.
pub fn by_name(name: &str) -> Option<&'static Entry> {
    every().find(|entry| entry.name == name)
}
