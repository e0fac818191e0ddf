use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A socket of either side, in clear or with TLS.
pub enum Stream {
    Plain(TcpStream),
    Downstream(Box<tokio_rustls::server::TlsStream<TcpStream>>),
    Upstream(Box<tokio_rustls::client::TlsStream<TcpStream>>),
    /// A pipe of a simulation.
    #[cfg(test)]
    Memory(Box<super::memory::Pipe>),
    /// Taken out for a TLS handshake that did not come back.
    Closed,
}

impl Stream {
    fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(tcp) => Some(tcp),
            Self::Downstream(tls) => Some(tls.get_ref().0),
            Self::Upstream(tls) => Some(tls.get_ref().0),
            #[cfg(test)]
            Self::Memory(_) => None,
            Self::Closed => None,
        }
    }

    /// Registers the socket with the runtime that this is called in, whatever runtime it was made in. The
    /// bytes in flight and the state of TLS are not touched.
    pub fn move_here(&mut self) -> io::Result<()> {
        let tcp = match self {
            Self::Plain(tcp) => tcp,
            Self::Downstream(tls) => tls.get_mut().0,
            Self::Upstream(tls) => tls.get_mut().0,
            #[cfg(test)]
            Self::Memory(_) => return Ok(()),
            Self::Closed => return Ok(()),
        };
        // A second descriptor of the same socket; the first goes with its registration.
        let here = std::net::TcpStream::from(rustix::io::fcntl_dupfd_cloexec(&*tcp, 0)?);
        *tcp = TcpStream::from_std(here)?;
        Ok(())
    }

    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Downstream(_) | Self::Upstream(_))
    }

    /// Whether the peer has closed or reset the connection, even while bytes of it are unread.
    /// One system call; for moments when we do not read.
    pub fn peer_is_gone(&self) -> bool {
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
        let Some(tcp) = self.tcp() else { return true };
        let mut watched = [PollFd::new(tcp, what)];
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
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            Self::Downstream(tls) => Pin::new(tls).poll_read(cx, buffer),
            Self::Upstream(tls) => Pin::new(tls).poll_read(cx, buffer),
            #[cfg(test)]
            Self::Memory(pipe) => Pin::new(pipe).poll_read(cx, buffer),
            Self::Closed => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Downstream(tls) => Pin::new(tls).poll_write(cx, bytes),
            Self::Upstream(tls) => Pin::new(tls).poll_write(cx, bytes),
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
            #[cfg(test)]
            Self::Memory(pipe) => Pin::new(pipe).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Downstream(tls) => Pin::new(tls).poll_shutdown(cx),
            Self::Upstream(tls) => Pin::new(tls).poll_shutdown(cx),
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
        let stream = Stream::Plain(tcp);
        assert!(stream.is_silent());
        peer.write_all(b"x").unwrap();
        assert!(!stream.is_silent() && !stream.peer_is_gone());
        drop(peer);
        assert!(stream.peer_is_gone());
        assert!(!Stream::Closed.is_silent());
    }
}
