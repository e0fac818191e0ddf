//! The sockets that clients connect to.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener};

use super::peer::Peer;
use crate::config::{ListenAddress, Listener, SocketFile};
use crate::tls::Socket;

/// A bound socket.
pub(super) enum Endpoint {
    Tcp(TcpListener),
    Unix(UnixListener, Place),
}

impl Endpoint {
    /// The error is one sentence.
    pub async fn bind(listener: &Listener) -> Result<Self, String> {
        let bound = match &listener.address {
            // What is set on a listening socket, each connection that it accepts has from the start: five
            // system calls less for each.
            ListenAddress::Tcp(address) => TcpListener::bind(address).await.map(|listener| {
                crate::pool::prepare_socket(&listener);
                Self::Tcp(listener)
            }),
            ListenAddress::Unix(path) => {
                let place = Place::take(path).map_err(|why| format!("listener {}: {why}", listener.name))?;
                place.bind(listener.socket).map(|(socket, place)| Self::Unix(socket, place))
            }
        };
        bound.map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => format!(
                "listener {}: the address {} is in use; stop what listens there or choose another",
                listener.name, listener.address
            ),
            _ => format!("listener {}: cannot listen on {}: {error}", listener.name, listener.address),
        })
    }

    /// As bound: the port is the real one.
    pub fn address(&self) -> io::Result<ListenAddress> {
        Ok(match self {
            Self::Tcp(listener) => ListenAddress::Tcp(listener.local_addr()?),
            Self::Unix(_, place) => ListenAddress::Unix(place.path.clone()),
        })
    }

    /// Registers it with the runtime that this is called in, whose threads alone are then woken by it.
    pub fn move_here(self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(listener) => Self::Tcp(TcpListener::from_std(listener.into_std()?)?),
            Self::Unix(listener, place) => Self::Unix(UnixListener::from_std(listener.into_std()?)?, place),
        })
    }

    /// Cancel safe.
    pub async fn accept(&self) -> io::Result<(Socket, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (tcp, address) = listener.accept().await?;
                Ok((tcp.into(), Peer::tcp(address)))
            }
            Self::Unix(listener, _) => {
                let (unix, _) = listener.accept().await?;
                let uid = unix.peer_cred()?.uid();
                Ok((unix.into(), Peer::unix(uid)))
            }
        }
    }
}

/// The path of a unix socket, ours alone while this lives.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    /// Which file at the path is ours: device and number. `None`: none yet.
    file: Option<(u64, u64)>,
    /// Locked: of two processes that want the same path one fails, however they race.
    _lock: File,
}

impl Place {
    /// Takes the path's lock, and looks whether what lies there may be replaced: nothing but a socket that nobody
    /// listens on any more, such as a killed process leaves.
    fn take(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let mut lock_path = path.as_os_str().to_owned();
        lock_path.push(".lock");
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(|error| format!("{}: {error}", Path::new(&lock_path).display()))?;
        let taken = || format!("the socket {shown} is in use; stop what listens there or choose another");
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(taken()),
            Err(std::fs::TryLockError::Error(error)) => return Err(format!("{shown}.lock: {error}")),
        }
        match std::fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("the socket {shown}: {error}")),
            Ok(found) if !found.file_type().is_socket() => {
                return Err(format!("{shown} is in the way of the socket and is none"));
            }
            // A full line of waiting connections says "again": somebody listens there.
            Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                _ => return Err(taken()),
            },
        }
        Ok(Self { path: path.to_owned(), file: None, _lock: lock })
    }

    /// Makes the socket under another name and puts it in place when its mode and group are right: nobody can
    /// connect before.
    fn bind(mut self, file: SocketFile) -> io::Result<(UnixListener, Self)> {
        let mut fresh = self.path.as_os_str().to_owned();
        fresh.push("~");
        let fresh = PathBuf::from(fresh);
        match std::fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = UnixListener::bind(&fresh)?;
        if file.gid.is_some() {
            std::os::unix::fs::chown(&fresh, None, file.gid)?;
        }
        std::fs::set_permissions(&fresh, Permissions::from_mode(file.mode))?;
        let made = std::fs::symlink_metadata(&fresh)?;
        std::fs::rename(&fresh, &self.path)?;
        self.file = Some((made.dev(), made.ino()));
        Ok((socket, self))
    }
}

impl Drop for Place {
    /// Removes what is still ours. The lock file stays: removing it would let two processes hold two locks.
    fn drop(&mut self) {
        let there = std::fs::symlink_metadata(&self.path).ok().map(|found| (found.dev(), found.ino()));
        if there.is_some() && there == self.file {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(path: &Path) -> Result<(UnixListener, Place), String> {
        let file = SocketFile { mode: 0o640, gid: None };
        Place::take(path)?.bind(file).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_living_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".s.PGSQL.1");
        // What a killed process leaves: the file without the lock.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let (socket, place) = bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(std::os::unix::net::UnixStream::connect(&path).is_ok());
        assert!(bind(&path).unwrap_err().contains("is in use"));
        drop((socket, place));
        assert!(!path.exists(), "it is left behind");
        // Somebody else's, who knows nothing of our lock.
        let other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(bind(&path).unwrap_err().contains("is in use"));
        drop(other);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "important").unwrap();
        assert!(bind(&path).unwrap_err().contains("is in the way"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "important");
    }

    #[tokio::test]
    async fn what_has_taken_its_place_since_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".s.PGSQL.1");
        let bound = bind(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        drop(bound);
        assert!(path.exists());
    }
}
