//! Certificates of our own making, and TLS for tokio-postgres.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_postgres::Socket;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect};

/// A certificate authority that nobody else knows.
pub struct Authority {
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Writes `NAME.pem` and `NAME.key` into `folder`: a server certificate for these host names.
    pub fn write_certificate(&self, folder: &Path, name: &str, hosts: &[&str]) {
        let hosts: Vec<String> = hosts.iter().map(|host| host.to_string()).collect();
        let key = KeyPair::generate().expect("a key");
        let certificate = CertificateParams::new(hosts)
            .expect("host names")
            .signed_by(&key, &self.issuer)
            .expect("a certificate");
        super::write_private(&folder.join(format!("{name}.pem")), &certificate.pem());
        super::write_private(&folder.join(format!("{name}.key")), &key.serialize_pem());
    }
}

impl Authority {
    /// Writes `NAME.pem` and `NAME.key`: a client certificate with this common name, which ends so soon.
    pub fn write_client_certificate(&self, folder: &Path, name: &str, common: &str, lasts: Duration) {
        let (certificate, key) = self.client_certificate_for(common, lasts);
        super::write_private(&folder.join(format!("{name}.pem")), &certificate);
        super::write_private(&folder.join(format!("{name}.key")), &key);
    }

    /// PEM of a certificate for this name of a client, and of its key.
    pub fn client_certificate(&self, name: &str) -> (String, String) {
        self.client_certificate_for(name, Duration::from_secs(86_400))
    }

    fn client_certificate_for(&self, common: &str, lasts: Duration) -> (String, String) {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + now + lasts;
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }
}

/// How a [`tunnel`] reaches a listener.
pub struct Tunnel {
    /// TLS from the first byte, instead of asking for it.
    pub direct: bool,
    pub alpn: &'static [&'static str],
    pub server_name: &'static str,
}

impl Default for Tunnel {
    fn default() -> Self {
        Self { direct: true, alpn: &["postgresql"], server_name: "localhost" }
    }
}

/// A port of this machine behind which is TLS to a listener: a client in clear, such as the hand-made one, speaks
/// TLS through it. A handshake that fails closes the connection, and says why in the errors.
pub fn tunnel(port: u16, tunnel: Tunnel) -> (u16, Arc<Mutex<Vec<String>>>) {
    let mut config = (*client_config(authority())).clone();
    config.alpn_protocols = tunnel.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from(tunnel.server_name).expect("a name");
    let listener = super::block(TcpListener::bind("127.0.0.1:0")).expect("a port");
    let own = listener.local_addr().expect("bound").port();
    let errors = Arc::new(Mutex::new(Vec::new()));
    let kept = errors.clone();
    super::runtime().spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let (connector, name, kept) = (connector.clone(), name.clone(), kept.clone());
            tokio::spawn(async move {
                let passed = async {
                    let mut far = TcpStream::connect(("127.0.0.1", port)).await?;
                    if !tunnel.direct {
                        far.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await?;
                        assert_eq!(far.read_u8().await?, b'S');
                    }
                    let mut far = connector.connect(name, far).await?;
                    tokio::io::copy_bidirectional(&mut near, &mut far).await
                };
                if let Err(error) = passed.await {
                    kept.lock().expect("whole").push(error.to_string());
                }
            });
        }
    });
    (own, errors)
}

/// Somebody between a client and a listener: ends TLS with a certificate of its own, and begins it anew.
pub fn man_in_the_middle(port: u16, folder: &Path, name: &str) -> u16 {
    let chain = CertificateDer::pem_file_iter(folder.join(format!("{name}.pem"))).expect("a chain");
    let key = rustls::pki_types::PrivateKeyDer::from_pem_file(folder.join(format!("{name}.key")));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("known versions")
        .with_no_client_auth()
        .with_single_cert(chain.map(|each| each.expect("a certificate")).collect(), key.expect("a key"))
        .expect("they belong together");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let (onward, _) = tunnel(port, Tunnel { direct: false, ..Tunnel::default() });
    let listener = super::block(TcpListener::bind("127.0.0.1:0")).expect("a port");
    let own = listener.local_addr().expect("bound").port();
    super::runtime().spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut request = [0; 8];
                near.read_exact(&mut request).await?;
                near.write_all(b"S").await?;
                let mut near = acceptor.accept(near).await?;
                let mut far = TcpStream::connect(("127.0.0.1", onward)).await?;
                tokio::io::copy_bidirectional(&mut near, &mut far).await
            });
        }
    });
    own
}

/// The authority of this run: of the database servers and of Tidegate's listeners.
pub fn authority() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(|| Authority::new("live tests"))
}

pub const HOSTS: &[&str] = &["localhost", "127.0.0.1"];

/// What a client needs to believe servers of `authority`, and no others.
pub fn client_config(authority: &Authority) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).expect("our own PEM"))
        .expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("known versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

#[derive(Clone)]
pub struct Connector(pub Arc<rustls::ClientConfig>);

pub struct Connect(tokio_rustls::TlsConnector, ServerName<'static>);

impl MakeTlsConnect<Socket> for Connector {
    type Stream = Stream;
    type TlsConnect = Connect;
    type Error = io::Error;

    fn make_tls_connect(&mut self, domain: &str) -> io::Result<Connect> {
        let name = ServerName::try_from(domain.to_owned()).map_err(io::Error::other)?;
        Ok(Connect(tokio_rustls::TlsConnector::from(self.0.clone()), name))
    }
}

impl TlsConnect<Socket> for Connect {
    type Stream = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn connect(self, stream: Socket) -> Self::Future {
        Box::pin(async move { Ok(Stream(self.0.connect(self.1, stream).await?)) })
    }
}

pub struct Stream(tokio_rustls::client::TlsStream<Socket>);

impl tokio_postgres::tls::TlsStream for Stream {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
