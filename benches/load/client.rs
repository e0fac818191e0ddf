//! A PostgreSQL client that costs little, so that a thousand of them fit beside what is measured.

use std::io;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::keys;

/// Where and as whom.
#[derive(Clone)]
pub struct Login {
    pub port: u16,
    pub user: String,
    pub password: String,
    pub database: String,
    pub tls: Option<Arc<rustls::ClientConfig>>,
}

trait Both: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Both for T {}

pub struct Client {
    stream: Box<dyn Both>,
    /// What was read and not looked at yet; holds nothing while the client is idle.
    buffer: Vec<u8>,
}

/// Told by the server.
#[derive(Debug)]
pub struct Refused {
    pub text: String,
}

impl Client {
    pub async fn login(login: &Login) -> io::Result<Self> {
        let mut tcp = TcpStream::connect(("127.0.0.1", login.port)).await?;
        tcp.set_nodelay(true)?;
        let stream: Box<dyn Both> = match &login.tls {
            None => Box::new(tcp),
            Some(config) => {
                tcp.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await?;
                let mut answer = [0];
                tcp.read_exact(&mut answer).await?;
                assert_eq!(answer, *b"S", "TLS is refused");
                let name = ServerName::try_from("localhost").expect("a name");
                Box::new(TlsConnector::from(config.clone()).connect(name, tcp).await?)
            }
        };
        let mut client = Self { stream, buffer: Vec::new() };
        let strings = ["user", &login.user, "database", &login.database, ""].join("\0");
        client.send(None, &[&196_608u32.to_be_bytes()[..], strings.as_bytes(), &[0]].concat()).await?;
        client.authentication(10).await?;
        client.send(Some(b'p'), &keys::first()).await?;
        let challenge = client.authentication(11).await?;
        client.send(Some(b'p'), &keys::last(&login.password, &challenge)).await?;
        client.authentication(12).await?;
        client.rows().await?.map_err(|refused| io::Error::other(format!("{refused:?}")))?;
        Ok(client)
    }

    async fn send(&mut self, tag: Option<u8>, body: &[u8]) -> io::Result<()> {
        let mut bytes: Vec<u8> = tag.into_iter().collect();
        bytes.extend((body.len() as u32 + 4).to_be_bytes());
        bytes.extend(body);
        self.stream.write_all(&bytes).await?;
        self.stream.flush().await
    }

    pub async fn read(&mut self) -> io::Result<(u8, Vec<u8>)> {
        loop {
            if let Some(head) = self.buffer.first_chunk::<5>() {
                let end = 1 + u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
                if self.buffer.len() >= end {
                    let (tag, body) = (head[0], self.buffer[5..end].to_vec());
                    self.buffer.drain(..end);
                    if self.buffer.is_empty() {
                        self.buffer = Vec::new();
                    }
                    return Ok((tag, body));
                }
            }
            let mut piece = [0; 4096];
            let count = self.stream.read(&mut piece).await?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.buffer.extend(&piece[..count]);
        }
    }

    /// The SASL data of the next message, which must be that kind of AuthenticationRequest.
    async fn authentication(&mut self, kind: u32) -> io::Result<String> {
        let (tag, body) = self.read().await?;
        if tag != b'R' || body.get(..4) != Some(&kind.to_be_bytes()) {
            return Err(io::Error::other(String::from_utf8_lossy(&body).into_owned()));
        }
        Ok(String::from_utf8_lossy(&body[4..]).into_owned())
    }

    pub async fn ask(&mut self, sql: &str) -> io::Result<()> {
        self.send(Some(b'Q'), &[sql.as_bytes(), &[0]].concat()).await
    }

    /// The first columns of the rows up to ReadyForQuery; the error ends it, whether or not one comes.
    pub async fn rows(&mut self) -> io::Result<Result<Vec<String>, Refused>> {
        let mut rows = Vec::new();
        loop {
            let (tag, body) = self.read().await?;
            match tag {
                b'Z' => return Ok(Ok(rows)),
                b'E' => return Ok(Err(refused(&body))),
                b'D' => {
                    let length = u32::from_be_bytes(body[2..6].try_into().expect("four bytes")) as usize;
                    rows.push(String::from_utf8_lossy(&body[6..6 + length]).into_owned());
                }
                _ => {}
            }
        }
    }

    pub async fn query(&mut self, sql: &str) -> io::Result<Result<Vec<String>, Refused>> {
        self.ask(sql).await?;
        self.rows().await
    }

    pub async fn goodbye(mut self) -> io::Result<()> {
        self.send(Some(b'X'), &[]).await
    }
}

pub fn refused(body: &[u8]) -> Refused {
    let field = |name: u8| {
        let found = body.split(|byte| *byte == 0).find(|field| field.first() == Some(&name));
        found.map(|field| String::from_utf8_lossy(&field[1..]).into_owned()).unwrap_or_default()
    };
    Refused { text: field(b'M') }
}
