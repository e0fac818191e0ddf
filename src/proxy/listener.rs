//! Accepting connections.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::door::{Door, Drain, Entrance, Shared};

/// Accepts until the node drains. Errors of one connection never end the loop; running out of file
/// descriptors makes it wait instead of spin.
pub(super) async fn accept(
    listener: TcpListener,
    door: Arc<dyn Door>,
    entrance: Arc<Entrance>,
    connections_max: u32,
    shared: Arc<Shared>,
) {
    let places = Arc::new(Semaphore::new(connections_max as usize));
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
        let Ok(place) = places.clone().try_acquire_owned() else {
            tracing::warn!(listener = entrance.name, %peer, connections_max, "too many connections");
            shared.metrics.login_refused(&crate::model::Refusal::RateLimited);
            continue;
        };
        crate::pool::prepare_socket(&tcp);
        let serving = door.clone().serve(tcp, peer, entrance.clone());
        tokio::spawn(async move {
            serving.await;
            drop(place);
        });
    }
}
