//! Who may log in, answered from memory: the [`Ledger`] joins store, book and trail.

pub(crate) mod clock;
mod describe;
mod ledger;
mod pending;
mod take_away;
#[cfg(test)]
pub(crate) use ledger::tests as ledger_tests;

pub use ledger::{ChangeError, Ledger, Seat};
