//! Protocols as machines without IO: bytes in, bytes and decisions out. One folder each; the
//! registry below is the one line that a new protocol adds.

#[cfg(any(test, feature = "testing"))]
pub mod kit;
pub mod label;
mod masking;
pub mod mysql;
pub mod postgres;
pub mod proxy_header;
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
    pub describe_parameters: DescribeParameters,
    pub label_statement: LabelStatement,
}

macro_rules! protocols {
    ($($module:ident :: $wire:ident),* $(,)?) => {
        /// Every session protocol that is built in.
        pub const SESSION_PROTOCOLS: &[Entry] = &[$(Entry {
            name: <$module::$wire as session::Wire>::NAME,
            port: <$module::$wire as session::Wire>::PORT,
            describe_parameters: $module::describe_parameters,
            label_statement: $module::label_statement,
        }),*];
    };
}

protocols! { postgres::Postgres, mysql::MySql }

/// The entry of a protocol by its configuration name.
pub fn by_name(name: &str) -> Option<&'static Entry> {
    SESSION_PROTOCOLS.iter().find(|entry| entry.name == name)
}
