//! Who is at the other end of an accepted connection.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::throttle::network;

/// A client, and how it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Peer {
    /// Where the client is: the socket's peer, or what a believed PROXY header says. Loopback for a unix socket.
    address: SocketAddr,
    /// The balancer that brought it.
    via: Option<SocketAddr>,
    /// Who it is on this machine, where it came by a unix socket.
    uid: Option<u32>,
}

impl Peer {
    pub fn tcp(address: SocketAddr) -> Self {
        Self { address, via: None, uid: None }
    }

    pub fn unix(uid: u32) -> Self {
        Self { address: (Ipv4Addr::LOCALHOST, 0).into(), via: None, uid: Some(uid) }
    }

    /// The client that this peer, a balancer, brings.
    pub fn brings(self, client: SocketAddr) -> Self {
        Self { address: client, via: Some(self.address), uid: None }
    }

    pub fn ip(&self) -> IpAddr {
        self.address.ip().to_canonical()
    }

    /// Whom its failures and its connections are counted for.
    pub fn source(&self) -> IpAddr {
        network(self.ip())
    }

    /// The balancer, for the trail.
    pub fn via(&self) -> Option<String> {
        self.via.map(|via| via.to_string())
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.uid {
            Some(uid) => write!(f, "unix:uid={uid}"),
            None => write!(f, "{}", self.address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_where_the_client_is() {
        let balancer = Peer::tcp("10.0.0.5:4000".parse().unwrap());
        assert_eq!((balancer.to_string().as_str(), balancer.via()), ("10.0.0.5:4000", None));
        let client = balancer.brings("[2001:db8::7]:5000".parse().unwrap());
        assert_eq!(client.to_string(), "[2001:db8::7]:5000");
        assert_eq!(client.via().as_deref(), Some("10.0.0.5:4000"));
        assert_eq!(client.source(), "2001:db8::".parse::<IpAddr>().unwrap());
        let local = Peer::unix(1_000);
        assert!(local.ip().is_loopback());
        assert_eq!(local.to_string(), "unix:uid=1000");
    }
}
