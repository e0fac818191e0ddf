//! The six TLS modes of libpq towards a target
//! (<https://www.postgresql.org/docs/current/libpq-ssl.html>, "SSL Mode Descriptions").

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::{TlsError, certificates, provider};
use crate::credential::Secret;
use crate::model::{TlsMode, TlsNegotiation};

/// How one connection attempt asks for TLS. A mode is a list of attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    Without,
    Try,
    Demand,
    /// TLS with the first byte.
    Direct,
}

/// What is needed to connect to one target.
#[derive(Clone)]
pub struct UpstreamTls {
    mode: TlsMode,
    negotiation: TlsNegotiation,
    verifies: bool,
    alpn: &'static [&'static [u8]],
    /// `None`: never TLS.
    verifier: Option<Arc<dyn ServerCertVerifier>>,
    /// Configurations by the epoch of the secret whose client certificate they hold: what is there to be
    /// resumed is kept in them. `None`: without a certificate, for whatever secret.
    kept: Arc<Mutex<HashMap<Option<u64>, Arc<rustls::ClientConfig>>>>,
}

/// A connector's certificate, the one before it, that of upkeep, and none.
const KEPT_MAX: usize = 4;

impl UpstreamTls {
    /// `ca`: the file that signs the target's certificate. As in libpq, `require` with a CA checks the
    /// chain as well. `alpn`: what direct TLS asks for.
    pub fn new(
        mode: TlsMode,
        negotiation: TlsNegotiation,
        alpn: &'static [&'static [u8]],
        ca: Option<&Path>,
    ) -> Result<Self, TlsError> {
        let new =
            |verifies, verifier| Self { mode, negotiation, verifies, alpn, verifier, kept: Arc::default() };
        if mode == TlsMode::Disable {
            return Ok(new(false, None));
        }
        let check = match (mode, ca) {
            (TlsMode::VerifyFull, _) => Check::Full,
            (TlsMode::VerifyCa, _) | (TlsMode::Require, Some(_)) => Check::Chain,
            _ => Check::Nothing,
        };
        let provider = provider();
        let verifier: Arc<dyn ServerCertVerifier> = match check {
            Check::Nothing => Arc::new(Unverified { provider: provider.clone() }),
            Check::Chain | Check::Full => {
                let ca = ca.ok_or_else(|| {
                    TlsError("tls = verify-ca and verify-full need tls_ca, the file that signs the target's certificate".into())
                })?;
                let mut roots = RootCertStore::empty();
                for certificate in certificates(ca)? {
                    roots.add(certificate).map_err(|error| TlsError(format!("{}: {error}", ca.display())))?;
                }
                let full = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                    .build()
                    .map_err(|error| TlsError(format!("{}: {error}", ca.display())))?;
                if check == Check::Full { full } else { Arc::new(ChainOnly { full }) }
            }
        };
        Ok(new(check != Check::Nothing, Some(verifier)))
    }

    /// Whether a server must show a certificate of the authority.
    pub fn verifies(&self) -> bool {
        self.verifies
    }

    /// The protocol that a server must agree to when TLS begins with the first byte: without that, it may
    /// be a server of another protocol that is talked into something (ALPACA).
    pub fn alpn(&self) -> Option<&'static [&'static [u8]]> {
        (self.negotiation == TlsNegotiation::Direct).then_some(self.alpn)
    }

    /// The attempts of this mode, in order; the next is made when the server turned the one before
    /// away.
    pub fn attempts(&self) -> &'static [Attempt] {
        if self.negotiation == TlsNegotiation::Direct {
            return &[Attempt::Direct];
        }
        match self.mode {
            TlsMode::Disable => &[Attempt::Without],
            TlsMode::Allow => &[Attempt::Without, Attempt::Demand],
            TlsMode::Prefer => &[Attempt::Try, Attempt::Without],
            TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => &[Attempt::Demand],
        }
    }

    /// For a login with this secret, which may hold a client certificate. `None`: there is no TLS.
    pub fn connector(&self, secret: &Secret) -> Result<Option<tokio_rustls::TlsConnector>, TlsError> {
        let Some(verifier) = &self.verifier else { return Ok(None) };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let key = secret.certificate().map(|_| secret.epoch());
        if let Some(config) = kept.get(&key) {
            return Ok(Some(config.clone().into()));
        }
        let builder = rustls::ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone());
        let mut config = match secret.certificate() {
            None => builder.with_no_client_auth(),
            Some(certificate) => {
                let chain: Vec<_> =
                    CertificateDer::pem_slice_iter(&certificate.chain).collect::<Result<_, _>>().map_err(
                        |_| TlsError("the client certificate of the secret is not in PEM form".into()),
                    )?;
                let key = PrivateKeyDer::from_pem_slice(&certificate.key)
                    .map_err(|_| TlsError("the client key of the secret is not in PEM form".into()))?;
                builder.with_client_auth_cert(chain, key).map_err(|error| {
                    TlsError(format!("the client certificate and key of the secret do not fit: {error}"))
                })?
            }
        };
        config.alpn_protocols = self.alpn().unwrap_or_default().iter().map(|name| name.to_vec()).collect();
        let config = Arc::new(config);
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(key, config.clone());
        Ok(Some(config.into()))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    Nothing,
    Chain,
    Full,
}

/// `verify-ca`: the chain must lead to the CA, the name does not matter.
#[derive(Debug)]
struct ChainOnly {
    full: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for ChainOnly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // The name is compared last, so a failure of it says that the chain was good.
        match self.full.verify_server_cert(end_entity, intermediates, server_name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.full.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.full.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.full.supported_verify_schemes()
    }
}

/// `allow`, `prefer` and `require` protect against listeners only, as in libpq: any certificate goes,
/// but its key must have signed the handshake.
#[derive(Debug)]
struct Unverified {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
