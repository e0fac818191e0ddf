//! Pure proof checking, and the only maker of [`Identity`].

mod digest;
mod identity;
mod keys;
pub mod mysql;
pub mod scram;
mod secret;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

#[cfg(test)]
mod theft;

pub use identity::Identity;
pub use keys::Keys;
pub use secret::{ClientCertificate, Secret};
