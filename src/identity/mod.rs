//! Who may log in, answered from memory: the [`Ledger`] joins store, book and trail.

mod describe;
mod ledger;

pub use ledger::{ChangeError, Ledger, Seat};
