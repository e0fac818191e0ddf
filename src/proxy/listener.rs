//! Accepting connections.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::door::{Door, Drain, Entrance, Shared};
use super::throttle::network;
use super::workers::Workers;

/// A listener that turns connections away says so this often at most: who causes it is not logged in.
const COMPLAINTS: Duration = Duration::from_secs(1);

/// Accepts until the node drains. Errors of one connection never end the loop; running out of file
/// descriptors makes it wait instead of spin.
pub(super) async fn accept(
    listener: TcpListener,
    door: Arc<dyn Door>,
    entrance: Arc<Entrance>,
    connections_max: u32,
    shared: Arc<Shared>,
    workers: Arc<Workers>,
) {
    let places = Arc::new(Semaphore::new(connections_max as usize));
    // Half of the places: whoever only connects must not keep everybody else out.
    let arrivals = Arrivals::new((connections_max / 2).max(1));
    let mut complaint = Seldom::default();
    let mut drain = shared.drain.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = drain.wait_for(|drain| *drain != Drain::No) => return,
        };
        let (tcp, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(listener = entrance.name, %error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let admitted = arrivals.arrive(network(peer.ip())).zip(places.clone().try_acquire_owned().ok());
        let Some((arrival, place)) = admitted else {
            shared.metrics.login_refused(&crate::model::Refusal::RateLimited);
            if let Some(unsaid) = complaint.due(Instant::now()) {
                tracing::warn!(listener = entrance.name, %peer, connections_max, unsaid, "too many connections");
            }
            continue;
        };
        crate::pool::prepare_socket(&tcp);
        let (door, entrance) = (door.clone(), entrance.clone());
        workers.spawn(tcp, move |tcp| async move {
            door.serve(tcp, peer, entrance, arrival).await;
            drop(place);
        });
    }
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
impl Arrival {
    /// Of a connection that came by no listener.
    pub fn unlimited() -> Self {
        let source = IpAddr::from([127, 0, 0, 1]);
        Self { arrivals: Arrivals::new(u32::MAX), source }
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
