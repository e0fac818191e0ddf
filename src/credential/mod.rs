//! Pure proof checking, and the only maker of [`Identity`].

mod identity;
pub mod scram;
mod secret;

pub use identity::Identity;
pub use secret::Secret;
