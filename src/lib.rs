//! Tidegate: people log in to databases as themselves, through connections that are not theirs.
//!
//! ```text
//! downstream (people, programs)                             upstream (databases)
//!        |                                                          ^
//!        v                                                          |
//!  listener -> Accept machine -> Identity -> Book::admit -> Admission -> Lease -> Relay machine
//! ```
//!
//! The layers, lowest first; a lower one never imports a higher one (`tests/tidy.rs` checks it):
//!
//! ```text
//!  7  main, cli
//!  6  admin
//!  5  proxy
//!  4  pool      observe      identity
//!  3  store     secret       tls      config          (IO, feature "server")
//!  2  protocol                                        (no IO below this line)
//!  1  credential      grant
//!  0  model
//! ```
//!
//! Reading order: [`model`], [`grant`], [`protocol::session`], then `proxy::session`.

#![deny(unsafe_op_in_unsafe_fn)]

pub mod credential;
pub mod grant;
pub mod model;
pub mod protocol;

#[cfg(feature = "server")]
pub mod admin;
#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod identity;
#[cfg(feature = "server")]
pub mod observe;
#[cfg(feature = "server")]
pub mod pool;
#[cfg(feature = "server")]
pub mod proxy;
#[cfg(feature = "server")]
pub mod secret;
#[cfg(feature = "server")]
pub mod store;
#[cfg(feature = "server")]
pub mod tls;
