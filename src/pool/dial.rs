//! Connecting to a target: TCP or a unix socket, TLS as the mode says, login or interruption.

use std::io;
use std::time::Duration;

use aws_lc_rs::rsa::{OAEP_SHA1_MGF1SHA1, OaepPublicEncryptingKey, PublicEncryptingKey};
use bytes::BytesMut;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{ServerName, SubjectPublicKeyInfoDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use zeroize::Zeroize;

use crate::credential::Secret;
use crate::model::{UnixAddress, Upstream, limits};
use crate::protocol::session::{
    Dial, DialInput, DialPurpose, DialStep, DialTls, DialTlsFacts, DialWay, Facts, Framing, Interruption,
    ServerError, ServerErrorKind, Upkeep, Wire, WireError,
};
use crate::tls::{self, Attempt, Codec, Compressed, Stream, UpstreamTls};

/// Why a connection could not be made. For logs and metrics; a client only learns that the target
/// cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum DialFault {
    #[error("{address}: {source}")]
    Connect { address: String, source: io::Error },
    #[error("{address}: TLS: {source}")]
    Tls { address: String, source: io::Error },
    #[error("{address}: the server broke the protocol: {source}")]
    Wire { address: String, source: WireError },
    #[error("{address}: the server refused: {source}")]
    Refused { address: String, source: ServerError },
    #[error("{address}: no answer within {seconds} s")]
    Timeout { address: String, seconds: u64 },
    #[error("{0}")]
    Setup(String),
}

/// Everything it takes to connect to one target, but the secret.
#[derive(Clone)]
pub struct Dialer {
    /// `host:port`, or `unix:` and a path.
    pub address: String,
    pub tls: UpstreamTls,
    pub rules: Upstream,
    pub timeout: Duration,
}

enum End<F> {
    Ready(Stream, F),
    Sent(Stream),
}

impl Dialer {
    /// Logs in. Not cancel safe, but dropping it only closes the half-made connection.
    pub(super) async fn login<W: Wire>(
        &self,
        wire: &W,
        upkeep: &Upkeep,
        (database, flavour): (&str, &str),
        secret: &Secret,
    ) -> Result<(Stream, W::Facts), DialFault> {
        let login =
            |plain| self.run(wire, move || DialPurpose::Login { upkeep, database, flavour, plain }, secret);
        let end = match login(false).await {
            Err(DialFault::Refused { source, .. }) if source.kind == ServerErrorKind::UnknownOption => {
                login(true).await?
            }
            // Some services in front of servers hang up on a version of the protocol that they do not know.
            Err(DialFault::Connect { source, .. })
                if matches!(source.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) =>
            {
                login(true).await?
            }
            other => other?,
        };
        match end {
            End::Ready(stream, facts) => Ok((framed(stream, facts.framing()), facts)),
            End::Sent(_) => Err(self.wire(WireError::new("login", "it ended without one"))),
        }
    }

    /// Asks the server to stop what runs on another connection. Returns when the server has closed
    /// this one, which it does after it has passed the request on.
    pub async fn interrupt<W: Wire>(
        &self,
        wire: &W,
        interruption: &Interruption,
        secret: &Secret,
    ) -> Result<(), DialFault> {
        let end = self.run(wire, || DialPurpose::Interrupt(interruption), secret).await?;
        let (End::Sent(mut stream) | End::Ready(mut stream, _)) = end;
        let mut rest = [0u8; 64];
        let closed = async {
            while let Ok(count) = stream.read(&mut rest).await {
                if count == 0 {
                    break;
                }
            }
        };
        tokio::time::timeout(self.timeout, closed).await.map_err(|_| self.too_slow())
    }

    async fn run<'a, W: Wire>(
        &self,
        wire: &W,
        purpose: impl Fn() -> DialPurpose<'a>,
        secret: &Secret,
    ) -> Result<End<W::Facts>, DialFault> {
        let socket = match UnixAddress::parse(&self.address) {
            None => None,
            Some(Ok(address)) => Some(wire.unix_socket(address.path, address.port)),
            Some(Err(what)) => return Err(DialFault::Setup(format!("{}: {what}", self.address))),
        };
        // Nothing of a unix socket's bytes leaves the machine: there is no TLS, as with libpq.
        let attempts = if socket.is_some() { &[Attempt::Without] } else { self.tls.attempts() };
        let mut last = None;
        for attempt in attempts {
            let tls = match attempt {
                Attempt::Without => DialTls::Without,
                Attempt::Try => DialTls::Try,
                Attempt::Demand => DialTls::Demand,
                Attempt::Direct => DialTls::Direct,
            };
            let way = DialWay { tls, local: socket.is_some(), rules: self.rules.clone() };
            let machine = wire.dial(purpose(), way, secret);
            let attempt = self.attempt::<W>(machine, socket.as_deref(), secret);
            match tokio::time::timeout(self.timeout, attempt).await {
                Ok(Ok(end)) => return Ok(end),
                // Wrong passwords and missing databases are the same with and without TLS; what a
                // server says of "no encryption" is not among them.
                Ok(Err(fault)) => match &fault {
                    DialFault::Refused { source, .. } if source.kind != ServerErrorKind::BadSecret => {
                        last = Some(fault);
                    }
                    DialFault::Refused { .. } | DialFault::Tls { .. } => last = Some(fault),
                    _ => return Err(fault),
                },
                Err(_) => return Err(self.too_slow()),
            }
        }
        Err(last.unwrap_or_else(|| DialFault::Setup("no way to connect is configured".into())))
    }

    /// Connects, with TLS as the mode says, for a protocol that begins with a request of ours. Says as well whether the
    /// server is known to be who it should be: by its certificate, or because nothing leaves the machine. Cancel safe:
    /// dropping it closes the connection.
    pub async fn reach(&self, secret: &Secret) -> Result<(Stream, bool), DialFault> {
        let socket = match UnixAddress::parse(&self.address) {
            None => None,
            Some(Ok(address)) => Some(address.path),
            Some(Err(what)) => return Err(DialFault::Setup(format!("{}: {what}", self.address))),
        };
        let attempts = if socket.is_some() { &[Attempt::Without] } else { self.tls.attempts() };
        let mut last = None;
        for attempt in attempts {
            let reached = async {
                let stream = self.open(socket).await.map_err(|source| self.connect(source))?;
                match attempt {
                    Attempt::Without => Ok((stream, socket.is_some() || is_loopback(&self.address))),
                    Attempt::Try | Attempt::Demand | Attempt::Direct => {
                        let (stream, facts) = self.secure(stream, secret).await?;
                        Ok((stream, facts.verified))
                    }
                }
            };
            match tokio::time::timeout(self.timeout, reached).await {
                Ok(Ok(reached)) => return Ok(reached),
                Ok(Err(fault)) => last = Some(fault),
                Err(_) => return Err(self.too_slow()),
            }
        }
        Err(last.unwrap_or_else(|| DialFault::Setup("no way to connect is configured".into())))
    }

    async fn open(&self, socket: Option<&str>) -> io::Result<Stream> {
        #[cfg(test)]
        if let Some(pipe) = crate::tls::memory::connect(&self.address) {
            return pipe.await;
        }
        match socket {
            Some(path) => UnixStream::connect(path).await.map(|unix| Stream::Plain(unix.into())),
            None => {
                let tcp = TcpStream::connect(&self.address).await?;
                prepare_socket(&tcp);
                Ok(Stream::Plain(tcp.into()))
            }
        }
    }

    async fn attempt<W: Wire>(
        &self,
        mut machine: W::Dial,
        socket: Option<&str>,
        secret: &Secret,
    ) -> Result<End<W::Facts>, DialFault> {
        let mut stream = self.open(socket).await.map_err(|source| self.connect(source))?;
        let mut input = BytesMut::new();
        let mut out = BytesMut::new();
        let mut step = machine.step(DialInput::Start, &mut out).map_err(|source| self.wire(source))?;
        loop {
            if !out.is_empty() {
                stream.write_all(&out).await.map_err(|source| self.connect(source))?;
                stream.flush().await.map_err(|source| self.connect(source))?;
                // The connector's password may have been in it.
                out.as_mut().zeroize();
                out.clear();
            }
            step = match step {
                DialStep::NeedBytes => {
                    if input.len() > limits::SCRIPT_MESSAGE_BYTES_MAX {
                        return Err(self.wire(WireError::new("login", "a message that is too long")));
                    }
                    input.reserve(limits::SCRIPT_READ_BYTES);
                    let count = stream.read_buf(&mut input).await.map_err(|source| self.connect(source))?;
                    if count == 0 {
                        return Err(self.connect(io::ErrorKind::UnexpectedEof.into()));
                    }
                    machine.step(DialInput::Bytes(&mut input), &mut out)
                }
                DialStep::StartTls => {
                    // What came ahead of TLS was not protected by it (CVE-2021-23222).
                    if !input.is_empty() {
                        return Err(self.wire(WireError::new("TLS", "bytes ahead of the handshake")));
                    }
                    let facts;
                    (stream, facts) = self.secure(stream, secret).await?;
                    machine.step(DialInput::TlsReady(&facts), &mut out)
                }
                DialStep::Seal { key, text } => machine.step(DialInput::Sealed(seal(&key, &text)), &mut out),
                DialStep::Refused(source) => {
                    return Err(DialFault::Refused { address: self.address.clone(), source });
                }
                DialStep::Ready(facts) if input.is_empty() => return Ok(End::Ready(stream, facts)),
                DialStep::Ready(_) => {
                    return Err(self.wire(WireError::new("login", "bytes after it was over")));
                }
                DialStep::Sent => return Ok(End::Sent(stream)),
            }
            .map_err(|source| self.wire(source))?;
        }
    }

    async fn secure(&self, stream: Stream, secret: &Secret) -> Result<(Stream, DialTlsFacts), DialFault> {
        let fault = |source| DialFault::Tls { address: self.address.clone(), source };
        let connector = self.tls.connector(secret).map_err(|error| fault(io::Error::other(error)))?;
        let (Stream::Plain(tcp), Some(connector)) = (stream, connector) else {
            return Err(DialFault::Setup("TLS is asked for twice or not configured".into()));
        };
        let host = self.address.rsplit_once(':').map_or(self.address.as_str(), |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(|error| fault(io::Error::other(error)))?;
        let tls = connector.connect(name, tcp).await.map_err(fault)?;
        let (_, connection) = tls.get_ref();
        if let Some(wanted) = self.tls.alpn()
            && !connection.alpn_protocol().is_some_and(|agreed| wanted.contains(&agreed))
        {
            let what = "the server did not agree to the protocol (ALPN), so it does not know TLS from the first byte";
            return Err(fault(io::Error::other(what)));
        }
        let shown = connection.peer_certificates().and_then(|chain| chain.first());
        let facts = DialTlsFacts {
            verified: self.tls.verifies(),
            end_point: shown.and_then(|certificate| tls::end_point(certificate)),
        };
        Ok((Stream::Upstream(Box::new(tls)), facts))
    }

    fn connect(&self, source: io::Error) -> DialFault {
        DialFault::Connect { address: self.address.clone(), source }
    }

    fn wire(&self, source: WireError) -> DialFault {
        DialFault::Wire { address: self.address.clone(), source }
    }

    fn too_slow(&self) -> DialFault {
        DialFault::Timeout { address: self.address.clone(), seconds: self.timeout.as_secs() }
    }
}

/// Whether `host:port` is this machine: by number, for a name is what somebody says that it is.
fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.parse::<std::net::IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// How the conversation travels from the end of the login on.
fn framed(stream: Stream, framing: Framing) -> Stream {
    match Codec::of(framing) {
        Some(codec) => Stream::Compressed(Box::new(Compressed::towards_server(stream, codec))),
        None => stream,
    }
}

/// Seals with RSA-OAEP under a public key in PEM form, as MySQL's servers show theirs.
fn seal(key: &[u8], text: &[u8]) -> Result<Vec<u8>, &'static str> {
    let key = SubjectPublicKeyInfoDer::from_pem_slice(key).map_err(|_| "it is no public key in PEM form")?;
    let key = PublicEncryptingKey::from_der(&key).map_err(|_| "it is no RSA key of 2,048 bits or more")?;
    if key.key_size_bits() > limits::RSA_BITS_MAX {
        return Err("it is longer than any that is in use");
    }
    let key = OaepPublicEncryptingKey::new(key).map_err(|_| "it cannot be used")?;
    if text.len() > key.max_plaintext_size(&OAEP_SHA1_MGF1SHA1) {
        return Err("it is too short for the password");
    }
    let mut sealed = vec![0; key.ciphertext_size()];
    let length = key
        .encrypt(&OAEP_SHA1_MGF1SHA1, text, &mut sealed, None)
        .map_err(|_| "nothing can be sealed under it")?
        .len();
    sealed.truncate(length);
    Ok(sealed)
}

/// No delay for small messages, and keepalive so that a peer whose machine died is noticed.
pub(crate) fn prepare_socket(socket: &impl std::os::fd::AsFd) {
    let socket = socket2::SockRef::from(socket);
    let _ = socket.set_tcp_nodelay(true);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(30))
        .with_interval(Duration::from_secs(10))
        .with_retries(3);
    let _ = socket.set_tcp_keepalive(&keepalive);
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
    use aws_lc_rs::rsa::{KeySize, OaepPrivateDecryptingKey, PrivateDecryptingKey};
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    /// As MySQL writes it.
    fn pem(der: &[u8]) -> Vec<u8> {
        let mut pem = "-----BEGIN PUBLIC KEY-----\n".to_owned();
        for line in STANDARD.encode(der).as_bytes().chunks(64) {
            pem.push_str(std::str::from_utf8(line).unwrap());
            pem.push('\n');
        }
        pem.push_str("-----END PUBLIC KEY-----\n");
        pem.into_bytes()
    }

    #[test]
    fn what_is_sealed_is_opened_by_the_private_key_alone() {
        let key = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
        let der: PublicKeyX509Der<'_> = key.public_key().as_der().unwrap();
        let public = pem(der.as_ref());
        let sealed = seal(&public, b"secret\0").unwrap();
        assert_ne!(sealed, seal(&public, b"secret\0").unwrap(), "another each time");
        let key = OaepPrivateDecryptingKey::new(key).unwrap();
        let mut opened = vec![0; key.min_output_size()];
        let opened = key.decrypt(&OAEP_SHA1_MGF1SHA1, &sealed, &mut opened, None).unwrap();
        assert_eq!(opened, b"secret\0");
        assert_eq!(seal(&public, &[1; 300]), Err("it is too short for the password"));
    }

    #[test]
    fn garbage_is_no_key() {
        for garbage in [
            b"".to_vec(),
            b"-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n".to_vec(),
            b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n".to_vec(),
            vec![0xff; 4_000],
            pem(&[0x30; 300]),
            // Of another kind: an Ed25519 key.
            pem(&[&b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00"[..], &[7; 32]].concat()),
        ] {
            assert!(seal(&garbage, b"secret\0").is_err(), "{}", garbage.escape_ascii());
        }
    }

    /// What only TLS and the engine show: caching_sha2_password's full authentication, in clear inside TLS that is
    /// verified and sealed outside of it, by a server that has forgotten everybody's password. Not run by default:
    /// `TIDEGATE_MYSQL_FULL='HOST:PORT USER PASSWORD CA-FILE'` names the server, whose user may reload its privileges.
    #[tokio::test]
    #[ignore = "needs a running server"]
    async fn mysql_is_shown_the_password_inside_tls_or_sealed() {
        use crate::model::{AuthMethod, TlsMode, TlsNegotiation};
        use crate::protocol::mysql::MySql;

        let text = std::env::var("TIDEGATE_MYSQL_FULL").unwrap();
        let [address, user, password, ca] = text.split(' ').collect::<Vec<_>>()[..] else { panic!("{text}") };
        let secret = Secret::new(user.into(), zeroize::Zeroizing::new(password.into()), 1);
        let upkeep = Upkeep::new();
        let sealing = Upstream {
            require_auth: Some([AuthMethod::Password, AuthMethod::CachingSha2].into()),
            ..Upstream::default()
        };
        for (mode, rules, is_in) in [
            (TlsMode::VerifyFull, Upstream::default(), true),
            (TlsMode::Disable, sealing, true),
            // Not shown to whoever may be there.
            (TlsMode::Require, Upstream::default(), false),
            (TlsMode::Disable, Upstream::default(), false),
        ] {
            let ca = Some(ca.as_ref()).filter(|_| mode == TlsMode::VerifyFull);
            let tls = UpstreamTls::new(mode, TlsNegotiation::Postgres, &[], ca).unwrap();
            let dialer = Dialer { address: address.into(), tls, rules, timeout: Duration::from_secs(10) };
            let outcome = dialer.login(&MySql, &upkeep, ("", ""), &secret).await;
            assert_eq!(outcome.is_ok(), is_in, "{mode:?}: {:?}", outcome.as_ref().err());
            match outcome {
                Ok((mut stream, _)) => {
                    stream.write_all(b"\x11\0\0\0\x03FLUSH PRIVILEGES").await.unwrap();
                    let mut answer = [0; 64];
                    assert!(stream.read(&mut answer).await.unwrap() > 4);
                    assert_eq!(answer[4], 0, "{}", answer.escape_ascii());
                }
                Err(DialFault::Refused { source, .. }) => {
                    assert_eq!(source.kind, ServerErrorKind::NotAdmitted);
                }
                Err(fault) => panic!("{fault}"),
            }
        }
    }
}
