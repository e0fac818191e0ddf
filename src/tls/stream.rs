//! The one type of socket that the engine drives, and what it stands on.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::compressed::Compressed;

/// A connection of the operating system.
#[derive(Debug)]
pub enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// The same while no runtime has it.
#[derive(Debug)]
pub enum StdSocket {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl Socket {
    /// Takes it from its runtime.
    pub fn into_std(self) -> io::Result<StdSocket> {
        Ok(match self {
            Self::Tcp(tcp) => StdSocket::Tcp(tcp.into_std()?),
            Self::Unix(unix) => StdSocket::Unix(unix.into_std()?),
        })
    }

    /// Registers it with the runtime that this is called in.
    pub fn from_std(socket: StdSocket) -> io::Result<Self> {
        Ok(match socket {
            StdSocket::Tcp(tcp) => Self::Tcp(TcpStream::from_std(tcp)?),
            StdSocket::Unix(unix) => Self::Unix(UnixStream::from_std(unix)?),
        })
    }

    /// A second descriptor of the same socket, registered here; the first goes with its registration.
    fn move_here(&mut self) -> io::Result<()> {
        let here = rustix::io::fcntl_dupfd_cloexec(&*self, 0)?;
        *self = match self {
            Self::Tcp(_) => Self::from_std(StdSocket::Tcp(here.into()))?,
            Self::Unix(_) => Self::from_std(StdSocket::Unix(here.into()))?,
        };
        Ok(())
    }
}

impl From<TcpStream> for Socket {
    fn from(tcp: TcpStream) -> Self {
        Self::Tcp(tcp)
    }
}

impl From<UnixStream> for Socket {
    fn from(unix: UnixStream) -> Self {
        Self::Unix(unix)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(tcp) => tcp.as_fd(),
            Self::Unix(unix) => unix.as_fd(),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            Self::Unix(unix) => Pin::new(unix).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Unix(unix) => Pin::new(unix).poll_write(cx, bytes),
        }
    }

    /// Sockets have no buffer of their own on this side of the system.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Unix(unix) => Pin::new(unix).poll_shutdown(cx),
        }
    }
}

/// A socket of either side, in clear or with TLS.
pub enum Stream {
    Plain(Socket),
    Downstream(Box<tokio_rustls::server::TlsStream<Socket>>),
    Upstream(Box<tokio_rustls::client::TlsStream<Socket>>),
    /// One of the others, with compressed packets in it.
    Compressed(Box<Compressed>),
    /// A pipe of a simulation.
    #[cfg(test)]
    Memory(Box<super::memory::Pipe>),
    /// Taken out for a TLS handshake that did not come back.
    Closed,
}

impl Stream {
    fn socket(&self) -> Option<&Socket> {
        match self {
            Self::Plain(socket) => Some(socket),
            Self::Downstream(tls) => Some(tls.get_ref().0),
            Self::Upstream(tls) => Some(tls.get_ref().0),
            Self::Compressed(packets) => packets.stream().socket(),
            #[cfg(test)]
            Self::Memory(_) => None,
            Self::Closed => None,
        }
    }

    /// Registers the socket with the runtime that this is called in, whatever runtime it was made in. The
    /// bytes in flight and the state of TLS are not touched.
    pub fn move_here(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.move_here(),
            Self::Downstream(tls) => tls.get_mut().0.move_here(),
            Self::Upstream(tls) => tls.get_mut().0.move_here(),
            Self::Compressed(packets) => packets.stream_mut().move_here(),
            #[cfg(test)]
            Self::Memory(_) => Ok(()),
            Self::Closed => Ok(()),
        }
    }

    pub fn is_tls(&self) -> bool {
        match self {
            Self::Downstream(_) | Self::Upstream(_) => true,
            Self::Compressed(packets) => packets.stream().is_tls(),
            _ => false,
        }
    }

    /// Whether what was written may still be here: it is to be flushed.
    pub fn holds_back(&self) -> bool {
        matches!(self, Self::Downstream(_) | Self::Upstream(_) | Self::Compressed(_))
    }

    /// Whether the peer has closed or reset the connection, even while bytes of it are unread.
    /// One system call; for moments when we do not read.
    pub fn peer_is_gone(&self) -> bool {
        if let Self::Compressed(packets) = self {
            return packets.stream().peer_is_gone();
        }
        #[cfg(test)]
        if let Self::Memory(pipe) = self {
            return pipe.peer_is_gone();
        }
        use rustix::event::PollFlags;
        self.shows(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR)
    }

    /// Whether there is nothing to be read and nobody has gone away, as the system sees it now: what tokio
    /// knows of a socket is as old as its last look. One system call.
    pub fn is_silent(&self) -> bool {
        if let Self::Compressed(packets) = self {
            return !packets.is_within() && packets.stream().is_silent();
        }
        #[cfg(test)]
        if let Self::Memory(pipe) = self {
            return pipe.is_silent();
        }
        use rustix::event::PollFlags;
        !self.shows(PollFlags::IN | PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR)
    }

    /// Whether one of these is the case now; all are of a socket that is closed.
    fn shows(&self, what: rustix::event::PollFlags) -> bool {
        use rustix::event::{PollFd, Timespec, poll};
        let Some(socket) = self.socket() else { return true };
        let mut watched = [PollFd::new(socket, what)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut watched, Some(&now)).is_ok_and(|count| count > 0) && watched[0].revents().intersects(what)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buffer),
            Self::Downstream(tls) => Pin::new(tls).poll_read(cx, buffer),
            Self::Upstream(tls) => Pin::new(tls).poll_read(cx, buffer),
            Self::Compressed(packets) => Pin::new(packets).poll_read(cx, buffer),
            #[cfg(test)]
            Self::Memory(pipe) => Pin::new(pipe).poll_read(cx, buffer),
            Self::Closed => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Downstream(tls) => Pin::new(tls).poll_write(cx, bytes),
            Self::Upstream(tls) => Pin::new(tls).poll_write(cx, bytes),
            Self::Compressed(packets) => Pin::new(packets).poll_write(cx, bytes),
            #[cfg(test)]
            Self::Memory(pipe) => Pin::new(pipe).poll_write(cx, bytes),
            Self::Closed => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(_) | Self::Closed => Poll::Ready(Ok(())),
            Self::Downstream(tls) => Pin::new(tls).poll_flush(cx),
            Self::Upstream(tls) => Pin::new(tls).poll_flush(cx),
            Self::Compressed(packets) => Pin::new(packets).poll_flush(cx),
            #[cfg(test)]
            Self::Memory(pipe) => Pin::new(pipe).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Downstream(tls) => Pin::new(tls).poll_shutdown(cx),
            Self::Upstream(tls) => Pin::new(tls).poll_shutdown(cx),
            Self::Compressed(packets) => Pin::new(packets).poll_shutdown(cx),
            #[cfg(test)]
            Self::Memory(pipe) => Pin::new(pipe).poll_shutdown(cx),
            Self::Closed => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn what_has_come_is_seen_before_tokio_has_looked() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        let stream = Stream::Plain(tcp.into());
        assert!(stream.is_silent());
        peer.write_all(b"x").unwrap();
        assert!(!stream.is_silent() && !stream.peer_is_gone());
        drop(peer);
        assert!(stream.peer_is_gone());
        assert!(!Stream::Closed.is_silent());
    }
}
