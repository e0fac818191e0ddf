//! Accepting connections: how many there may be, who brings whom, and who is one too many.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::door::{Caller, Door, Drain, Entrance, Shared};
use super::endpoint::Endpoint;
use super::peer::Peer;
use super::workers::Workers;
use crate::model::{Refusal, limits};
use crate::protocol::proxy_header::{self, Brought};
use crate::tls::{Socket, Stream};

/// A listener that turns connections away says so this often at most: who causes it is not logged in.
const COMPLAINTS: Duration = Duration::from_secs(1);

/// One listener and what is behind it.
pub(super) struct Gate {
    door: Arc<dyn Door>,
    entrance: Arc<Entrance>,
    shared: Arc<Shared>,
    connections_max: u32,
    places: Arc<Semaphore>,
    arrivals: Arrivals,
    /// Connections that are being told that they are one too many.
    turned_away: Arc<Semaphore>,
    crowded: Mutex<Seldom>,
    bad_headers: Mutex<Seldom>,
}

impl Gate {
    pub fn new(
        door: Arc<dyn Door>,
        entrance: Arc<Entrance>,
        connections_max: u32,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            door,
            entrance,
            shared,
            connections_max,
            places: Arc::new(Semaphore::new(connections_max as usize)),
            // Half of the places: whoever only connects must not keep everybody else out.
            arrivals: Arrivals::new((connections_max / 2).max(1)),
            turned_away: Arc::new(Semaphore::new(limits::TURNED_AWAY_MAX)),
            crowded: Mutex::default(),
            bad_headers: Mutex::default(),
        }
    }

    /// Accepts until the node drains. Errors of one connection never end the loop; running out of file
    /// descriptors makes it wait instead of spin.
    pub async fn accept(self: Arc<Self>, endpoint: Endpoint, workers: Arc<Workers>) {
        let mut drain = self.shared.drain.clone();
        let endpoint = match endpoint.move_here() {
            Ok(endpoint) => endpoint,
            Err(error) => {
                tracing::error!(listener = self.entrance.name, %error, "the listener cannot be served");
                return;
            }
        };
        loop {
            let accepted = tokio::select! {
                accepted = endpoint.accept() => accepted,
                _ = drain.wait_for(|drain| *drain != Drain::No) => return,
            };
            match accepted {
                Ok((socket, peer)) => self.receive(socket, peer, &workers),
                Err(error) => {
                    tracing::warn!(listener = self.entrance.name, %error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// Finds a place for a connection, or somebody to tell it that there is none.
    fn receive(self: &Arc<Self>, socket: Socket, peer: Peer, workers: &Workers) {
        // Whom a balancer brings is counted once that is known.
        let brings = self.entrance.proxy_from.iter().any(|network| network.contains(&peer.ip()));
        let place = self.places.clone().try_acquire_owned().ok();
        let arrival = if brings { None } else { self.arrivals.arrive(peer.source()) };
        let welcome = place.is_some() && (brings || arrival.is_some());
        let told = if welcome { None } else { self.too_many(peer) };
        if welcome || told.is_some() {
            let gate = self.clone();
            // What each step needs goes with it: the last one may last for days.
            workers.spawn(socket, move |socket| {
                let caller = Caller { stream: Stream::Plain(socket), peer, input: BytesMut::new() };
                let place = place.filter(|_| welcome);
                Visit::Greeted(Box::pin(gate.greet(caller, brings, place, arrival, told)))
            });
        }
    }

    /// A connection that is one too many: counted, complained about, and where there is room told so.
    fn too_many(&self, peer: Peer) -> Option<OwnedSemaphorePermit> {
        self.shared.metrics.login_refused(&Refusal::RateLimited);
        if let Some(unsaid) = due(&self.crowded) {
            let (listener, connections_max) = (&self.entrance.name, self.connections_max);
            tracing::warn!(listener, %peer, connections_max, unsaid, "too many connections");
        }
        self.turned_away.clone().try_acquire_owned().ok()
    }

    /// Reads the PROXY header where one is due. Returns what serves the connection or tells it that it is one too
    /// many.
    async fn greet(
        self: Arc<Self>,
        mut caller: Caller,
        brings: bool,
        place: Option<OwnedSemaphorePermit>,
        mut arrival: Option<Arrival>,
        mut told: Option<OwnedSemaphorePermit>,
    ) -> Option<Served> {
        if brings {
            if !self.meet(&mut caller).await {
                return None;
            }
            if place.is_some() {
                arrival = self.arrivals.arrive(caller.peer.source());
                if arrival.is_none() {
                    told = self.too_many(caller.peer);
                }
            }
        }
        let entrance = self.entrance.clone();
        match (place, arrival) {
            (Some(place), Some(arrival)) => {
                Some(self.door.clone().serve(caller, entrance, Allowed { arrival, place: Some(place) }))
            }
            _ => told.map(|told| {
                let turned = self.door.clone().turn_away(caller, entrance, Refusal::RateLimited);
                Box::pin(async move {
                    turned.await;
                    drop(told);
                }) as Served
            }),
        }
    }

    /// Learns whom a balancer brings. False: it did not say so as it must, and there is nobody to tell.
    async fn meet(&self, caller: &mut Caller) -> bool {
        let header = tokio::time::timeout(limits::PROXY_HEADER_WAIT, read_header(caller));
        let why = match header.await {
            Ok(Ok(Brought::Client(client))) => {
                caller.peer = caller.peer.brings(client);
                return true;
            }
            Ok(Ok(Brought::Balancer)) => return true,
            Ok(Err(None)) => return false,
            Ok(Err(Some(why))) => why,
            Err(_) => "it took too long",
        };
        self.shared.metrics.proxy_header_refused(&self.entrance.name);
        if let Some(unsaid) = due(&self.bad_headers) {
            let (listener, balancer) = (&self.entrance.name, &caller.peer);
            tracing::warn!(listener, %balancer, why, unsaid, "a connection without a right PROXY header is closed");
        }
        false
    }
}

/// The error says what is wrong with the header; `None`: the balancer has closed without a byte, as a health check
/// does. What is behind the header stays in `input`. Cancel safe: dropping it drops the connection.
async fn read_header(caller: &mut Caller) -> Result<Brought, Option<&'static str>> {
    loop {
        match caller.stream.read_buf(&mut caller.input).await {
            Ok(count) if count > 0 => {}
            _ if caller.input.is_empty() => return Err(None),
            _ => return Err(Some("it ends in the middle")),
        }
        if let Some((brought, length)) =
            proxy_header::parse(&caller.input).map_err(|error| Some(error.what))?
        {
            bytes::Buf::advance(&mut caller.input, length);
            return Ok(brought);
        }
    }
}

fn due(complaint: &Mutex<Seldom>) -> Option<u64> {
    complaint.lock().unwrap_or_else(PoisonError::into_inner).due(Instant::now())
}

/// Serves a connection to its end.
pub(super) type Served = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection from its acceptance to its end. By hand, as it is in memory for as long as the client is there.
enum Visit {
    Greeted(Pin<Box<dyn Future<Output = Option<Served>> + Send>>),
    Served(Served),
}

impl Future for Visit {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut *self {
                Self::Greeted(greeted) => match ready!(greeted.as_mut().poll(cx)) {
                    Some(served) => *self = Self::Served(served),
                    None => return Poll::Ready(()),
                },
                Self::Served(served) => return served.as_mut().poll(cx),
            }
        }
    }
}

/// What a connection takes of what there is of its listener.
pub(super) struct Allowed {
    /// Until it has logged in.
    pub arrival: Arrival,
    /// Until its end.
    pub place: Option<OwnedSemaphorePermit>,
}

/// How many connections of each source have not logged in yet.
#[derive(Clone)]
struct Arrivals {
    counts: Arc<Mutex<HashMap<IpAddr, u32>>>,
    source_max: u32,
}

/// A connection that has not logged in yet; to be dropped when it has.
pub(super) struct Arrival {
    arrivals: Arrivals,
    source: IpAddr,
}

impl Arrivals {
    fn new(source_max: u32) -> Self {
        Self { counts: Arc::default(), source_max }
    }

    /// `None`: this source has as many already as it may have.
    fn arrive(&self, source: IpAddr) -> Option<Arrival> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(source).or_insert(0);
        if *count >= self.source_max {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Arrival { arrivals: self.clone(), source })
    }
}

#[cfg(test)]
impl Allowed {
    /// Of a connection that came by no listener.
    pub fn unlimited() -> Self {
        let source = IpAddr::from([127, 0, 0, 1]);
        Self { arrival: Arrival { arrivals: Arrivals::new(u32::MAX), source }, place: None }
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        let mut counts = self.arrivals.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.source);
            }
        }
    }
}

/// Lets one in so much time through.
#[derive(Default)]
struct Seldom {
    last: Option<Instant>,
    unsaid: u64,
}

impl Seldom {
    /// How many were not said before this one; `None`: nor is this one.
    fn due(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.duration_since(last) < COMPLAINTS) {
            self.unsaid += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_so_many_arrivals_and_no_more() {
        let arrivals = Arrivals::new(2);
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse::<IpAddr>().unwrap());
        let (first, second) = (arrivals.arrive(one), arrivals.arrive(one));
        assert!(first.is_some() && second.is_some());
        assert!(arrivals.arrive(one).is_none());
        assert!(arrivals.arrive(other).is_some(), "another source is not touched");
        drop(first);
        assert!(arrivals.arrive(one).is_some());
        drop(second);
        assert!(arrivals.counts.lock().unwrap().is_empty(), "nothing is remembered of who has gone");
    }

    #[test]
    fn complaints_are_counted_and_seldom_said() {
        let (mut complaint, now) = (Seldom::default(), Instant::now());
        assert_eq!(complaint.due(now), Some(0));
        assert_eq!((complaint.due(now), complaint.due(now)), (None, None));
        assert_eq!(complaint.due(now + COMPLAINTS), Some(2));
        assert_eq!(complaint.due(now + 2 * COMPLAINTS), Some(0));
    }
}
