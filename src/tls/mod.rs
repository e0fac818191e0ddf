//! TLS on both sides: the node's certificate, which can be changed while running, and the six modes
//! towards targets. And [`Stream`], the one type of socket that the engine drives.

#[cfg(test)]
pub(crate) mod memory;
mod stream;
mod upstream;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub use stream::Stream;
pub use upstream::{Attempt, UpstreamTls};

/// One sentence that names the file and what is wrong with it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct TlsError(pub String);

/// The node's certificate and key. A reload that fails keeps the last good pair.
pub struct ServerTls {
    certificate: PathBuf,
    key: PathBuf,
    current: ArcSwap<rustls::ServerConfig>,
}

impl ServerTls {
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let config = server_config(certificate, key)?;
        Ok(Self { certificate: certificate.into(), key: key.into(), current: ArcSwap::new(config) })
    }

    /// Reads both files again. New connections use them; the living keep theirs.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.current.store(server_config(&self.certificate, &self.key)?);
        Ok(())
    }

    pub fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        tokio_rustls::TlsAcceptor::from(self.current.load_full())
    }

    /// Where the certificate chain is, for the lines that tell users what to trust.
    pub fn certificate(&self) -> &Path {
        &self.certificate
    }
}

fn server_config(certificate: &Path, key: &Path) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    let chain = certificates(certificate)?;
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| TlsError(format!("{}: no private key can be read: {error}", key.display())))?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError(error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| {
            TlsError(format!(
                "{} and {} do not belong together or are not usable: {error}",
                certificate.display(),
                key.display()
            ))
        })?;
    // A database session lives long; one ticket is enough to resume the next.
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

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
