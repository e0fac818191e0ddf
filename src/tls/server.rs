//! TLS towards clients: what one listener shows and asks for. All of it can be changed while running.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::client::{self, NameFrom};
use super::stream::Socket;
use super::{TlsError, binding, certificates, provider};
use crate::model::limits;
use crate::protocol::session::TlsFacts;

/// The files and wishes that a listener's TLS is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTlsSettings {
    /// The chain in PEM, the listener's own certificate first.
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// `None`: clients are not asked for a certificate.
    pub clients: Option<ClientCheck>,
}

/// Which client certificates are believed, and whom they name. Whether there must be one is decided at the login:
/// a cancel request comes without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCheck {
    /// The authorities, PEM.
    pub ca: PathBuf,
    /// Certificates that they took back, PEM.
    pub crl: Option<PathBuf>,
    pub name_from: NameFrom,
}

/// One listener's TLS. A reload that fails keeps the last good state.
pub struct ServerTls {
    settings: ServerTlsSettings,
    alpn: &'static [&'static [u8]],
    current: ArcSwap<Loaded>,
}

/// What the files held when they were read.
pub struct Loaded {
    config: Arc<rustls::ServerConfig>,
    /// Of the certificate in `config`, so that a login is bound to what its own connection was shown, whatever is
    /// loaded meanwhile.
    end_point: Option<Arc<[u8]>>,
}

impl ServerTls {
    pub fn load(settings: ServerTlsSettings, alpn: &'static [&'static [u8]]) -> Result<Self, TlsError> {
        let current = ArcSwap::from_pointee(Loaded::read(&settings, alpn)?);
        Ok(Self { settings, alpn, current })
    }

    /// Reads the files again and changes nothing yet: of several listeners all change or none.
    pub fn read_again(&self) -> Result<Loaded, TlsError> {
        Loaded::read(&self.settings, self.alpn)
    }

    /// New connections use this; the living keep what they have.
    pub fn take_over(&self, loaded: Loaded) {
        self.current.store(Arc::new(loaded));
    }

    /// Where the certificate chain is, for the lines that tell users what to trust.
    pub fn certificate(&self) -> &Path {
        &self.settings.certificate
    }

    /// Every file that it was read from.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let clients = self.settings.clients.iter();
        let clients = clients.flat_map(|clients| [Some(&clients.ca), clients.crl.as_ref()]).flatten();
        [&self.settings.certificate, &self.settings.key].into_iter().chain(clients).map(PathBuf::as_path)
    }

    /// Shakes hands. `early` is what has been read of the client's first record already. Cancel safe: dropping it
    /// drops the connection.
    pub async fn accept(
        &self,
        mut socket: Socket,
        early: &[u8],
    ) -> io::Result<(tokio_rustls::server::TlsStream<Socket>, TlsFacts)> {
        let loaded = self.current.load_full();
        let mut connection = ServerConnection::new(loaded.config.clone()).map_err(io::Error::other)?;
        shake_hands(&mut connection, &mut socket, early).await?;
        let acceptor = tokio_rustls::TlsAcceptor::from(loaded.config.clone());
        // Nothing is left to be done of the handshake, so this waits for nothing.
        let stream = acceptor.accept_with(socket, |fresh| std::mem::swap(fresh, &mut connection)).await?;
        let connection = stream.get_ref().1;
        let name_from = self.settings.clients.as_ref().map(|clients| clients.name_from);
        let certificate = connection.peer_certificates().and_then(<[_]>::first).zip(name_from);
        let certificate = match certificate {
            Some((certificate, name_from)) => Some(
                client::read(certificate, name_from)
                    .ok_or_else(|| io::Error::other("the client certificate cannot be read"))?,
            ),
            None => None,
        };
        let facts = TlsFacts {
            server_name: connection.server_name().map(str::to_owned),
            alpn: connection.alpn_protocol().is_some(),
            end_point: loaded.end_point.clone(),
            certificate,
        };
        Ok((stream, facts))
    }
}

/// The handshake by hand: it begins with bytes that have been read already, and where it fails the client is sent
/// all of the answer, the alert at its end, which tells people what is wrong.
async fn shake_hands(connection: &mut ServerConnection, socket: &mut Socket, early: &[u8]) -> io::Result<()> {
    const READ_BYTES: usize = 4 << 10;
    let mut buffer = early.to_vec();
    loop {
        let mut taken = Ok(());
        let mut input = buffer.as_slice();
        while !input.is_empty() && taken.is_ok() {
            connection.read_tls(&mut input)?;
            taken = connection.process_new_packets().map(drop);
        }
        let mut answer = Vec::new();
        while connection.wants_write() {
            connection.write_tls(&mut answer)?;
        }
        socket.write_all(&answer).await?;
        if let Err(error) = taken {
            // What it sent meanwhile must not turn the alert into a reset.
            let _ = socket.shutdown().await;
            let drained = async { while socket.read(&mut [0; 256]).await.is_ok_and(|count| count > 0) {} };
            let _ = tokio::time::timeout(limits::CUT_FLUSH, drained).await;
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        if !connection.is_handshaking() {
            return Ok(());
        }
        buffer.resize(READ_BYTES, 0);
        let count = socket.read(&mut buffer).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer.truncate(count);
    }
}

impl Loaded {
    fn read(settings: &ServerTlsSettings, alpn: &[&[u8]]) -> Result<Self, TlsError> {
        let (certificate, key) = (&settings.certificate, &settings.key);
        let chain = certificates(certificate)?;
        let end_point = chain.first().and_then(|own| binding::end_point(own)).map(Into::into);
        let private = PrivateKeyDer::from_pem_file(key)
            .map_err(|error| TlsError(format!("{}: no private key can be read: {error}", key.display())))?;
        let builder = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError(error.to_string()))?;
        let builder = match &settings.clients {
            None => builder.with_no_client_auth(),
            Some(clients) => builder.with_client_cert_verifier(verifier(clients)?),
        };
        let mut config = builder.with_single_cert(chain, private).map_err(|error| {
            TlsError(format!(
                "{} and {} do not belong together or are not usable: {error}",
                certificate.display(),
                key.display()
            ))
        })?;
        // A database session lives long; one ticket is enough to resume the next. What is resumed is this
        // listener's and this state's own: a store of sessions that were shared would let a client certificate
        // that one listener believes log in at another, or after its authority was taken out.
        config.send_tls13_tickets = 1;
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Ok(Self { config: Arc::new(config), end_point })
    }
}

/// Believes what the authorities signed and have not taken back; no certificate at all is let through.
fn verifier(clients: &ClientCheck) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&clients.ca)? {
        roots.add(certificate).map_err(|error| TlsError(format!("{}: {error}", clients.ca.display())))?;
    }
    let mut builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).allow_unauthenticated();
    if let Some(crl) = &clients.crl {
        let bad = |error: &dyn std::fmt::Display| {
            TlsError(format!("{}: no revocation list can be read: {error}", crl.display()))
        };
        let lists = CertificateRevocationListDer::pem_file_iter(crl).map_err(|error| bad(&error))?;
        let lists = lists.collect::<Result<Vec<_>, _>>().map_err(|error| bad(&error))?;
        if lists.is_empty() {
            return Err(bad(&"the file holds none in PEM form"));
        }
        // Of an authority that is not in the list nothing is known to be taken back.
        builder = builder.with_crls(lists).allow_unknown_revocation_status();
    }
    let certificates = clients.ca.display();
    builder
        .build()
        .map_err(|error| TlsError(format!("{certificates}: client certificates cannot be checked: {error}")))
}
