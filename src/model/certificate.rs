use serde::Serialize;

use super::{Name, Window};

/// A client's certificate that TLS has verified, as far as we need it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClientCertificate {
    /// Whom it names, read as the listener says; `None`: nobody, or more than one.
    pub name: Option<Name>,
    /// From `notBefore` until just after `notAfter`.
    #[serde(flatten)]
    pub window: Window,
    pub serial: String,
    /// The issuer's name, cut.
    pub issuer: String,
    /// Of the whole certificate, in hexadecimal digits.
    pub sha256: String,
}
