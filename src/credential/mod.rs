//! Pure proof checking, and the only maker of [`Identity`].

mod certificate;
mod digest;
mod identity;
mod keys;
pub mod mysql;
pub mod scram;
mod secret;
mod sent;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

#[cfg(test)]
mod theft;

pub use certificate::by_certificate;
pub use identity::{Identity, Proof};
pub use keys::Keys;
pub use secret::{ClientCertificate, Secret};
pub use sent::{by_bearer, by_secret};
