//! PostgreSQL's frontend/backend protocol, version 3.0
//! (<https://www.postgresql.org/docs/current/protocol.html>).

pub(crate) mod frame;

pub mod facts;
mod lexer;
pub(crate) mod relay;
pub mod value;

pub use relay::fuzz_relay;
