//! TLS on both sides: what listeners show and ask for, which can be changed while running, and the six modes
//! towards targets. And [`Stream`], the one type of socket that the engine drives.

mod binding;
mod client;
mod compressed;
#[cfg(test)]
pub(crate) mod memory;
mod server;
mod stream;
mod upstream;

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

pub use binding::end_point;
pub use client::NameFrom;
pub use compressed::{Codec, Compressed};
pub use server::{ClientCheck, Loaded, ServerTls, ServerTlsSettings};
pub use stream::{Socket, StdSocket, Stream};
pub use upstream::{Attempt, UpstreamTls};

/// One sentence that names the file and what is wrong with it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct TlsError(pub String);

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(file).and_then(|certificates| certificates.collect());
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(TlsError(format!("{}: holds no certificate in PEM form", file.display()))),
        Err(error) => Err(TlsError(format!("{}: no certificate can be read: {error}", file.display()))),
    }
}

/// The one cryptography provider of the process.
fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
