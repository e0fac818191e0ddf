//! One thread and one single-threaded runtime per core. A session stays on the worker that accepted it,
//! and the connection it is lent is registered there, so moving a message crosses no thread.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;

use crate::tls::Socket;

/// A timer that is due before all others of its thread wakes that very thread, by a system call, when it is set:
/// each login and each session would pay for that. With this one there always is an earlier one.
const BEAT: Duration = Duration::from_millis(200);

thread_local! {
    /// The number of the worker that this thread is.
    static HERE: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Ends its threads when it is dropped; what still runs on them then is dropped with them.
pub(super) struct Workers {
    handles: Vec<Handle>,
    /// How many connections each of them serves.
    loads: Arc<[AtomicUsize]>,
    _stop: watch::Sender<()>,
}

/// One connection of a worker's load.
struct Load {
    loads: Arc<[AtomicUsize]>,
    worker: usize,
}

impl Drop for Load {
    fn drop(&mut self) {
        self.loads[self.worker].fetch_sub(1, Ordering::Relaxed);
    }
}

/// What serves a connection, and its part of the load. By hand: an async block would have room for it twice.
struct Loaded<F> {
    served: F,
    _load: Load,
}

impl<F: Future<Output = ()> + Unpin> Future for Loaded<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.served).poll(cx)
    }
}

impl Workers {
    /// Starts `count` threads, at least one. The error is one sentence.
    pub fn start(count: usize) -> Result<Self, String> {
        let say = |error: std::io::Error| format!("no worker thread can be started: {error}");
        let (stop, stopped) = watch::channel(());
        let mut handles = Vec::new();
        for number in 0..count.max(1) {
            let runtime = Builder::new_current_thread().enable_all().build().map_err(say)?;
            handles.push(runtime.handle().clone());
            let mut stopped = stopped.clone();
            std::thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || {
                    HERE.set(Some(number));
                    // An error says that the sender is gone, which is what is waited for.
                    runtime.block_on(async {
                        while tokio::time::timeout(BEAT, stopped.changed()).await.is_err() {}
                    });
                    runtime.shutdown_background();
                })
                .map_err(say)?;
        }
        let loads = handles.iter().map(|_| AtomicUsize::new(0)).collect();
        Ok(Self { handles, loads, _stop: stop })
    }

    /// Runs a listener on one of the workers: what it accepts for its own worker then wakes no other
    /// thread.
    pub fn host(&self, listener: usize, accept: impl Future<Output = ()> + Send + 'static) {
        self.handles[listener % self.handles.len()].spawn(accept);
    }

    /// Serves a connection on the worker that serves the fewest, which is this one where it is a tie;
    /// `serve` is called there, with the socket registered there.
    pub fn spawn<F: Future<Output = ()> + Send + Unpin + 'static>(
        &self,
        socket: Socket,
        serve: impl FnOnce(Socket) -> F + Send + 'static,
    ) {
        let here = HERE.get();
        let load = |worker: usize| self.loads[worker].load(Ordering::Relaxed);
        let fewest = (0..self.handles.len()).min_by_key(|worker| (load(*worker), Some(*worker) != here));
        let Some(worker) = fewest else { return };
        self.loads[worker].fetch_add(1, Ordering::Relaxed);
        let load = Load { loads: self.loads.clone(), worker };
        // A task is as large as the largest of what it ever holds, so what it begins with is apart.
        if Some(worker) == here {
            self.handles[worker].spawn(Loaded { served: serve(socket), _load: load });
            return;
        }
        let Ok(socket) = socket.into_std() else { return };
        let begin: Box<dyn FnOnce() -> std::io::Result<F> + Send> =
            Box::new(move || Socket::from_std(socket).map(serve));
        self.handles[worker].spawn(async move {
            if let Ok(served) = begin() {
                Loaded { served, _load: load }.await;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn connections_are_spread_and_end() {
        let workers = Arc::new(Workers::start(3).unwrap());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let listener = listener.into_std().unwrap();
        let (names, mut named) = mpsc::unbounded_channel();
        let spawning = workers.clone();
        workers.host(1, async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let names = names.clone();
                spawning.spawn(tcp.into(), |mut socket| {
                    Box::pin(async move {
                        names.send(HERE.get().unwrap()).unwrap();
                        // Until the peer closes.
                        let _ = tokio::io::AsyncReadExt::read(&mut socket, &mut [0]).await;
                    })
                });
            }
        });
        let mut clients = Vec::new();
        for _ in 0..6 {
            clients.push(TcpStream::connect(address).await.unwrap());
        }
        let mut all = Vec::new();
        for _ in 0..6 {
            all.push(named.recv().await.unwrap());
        }
        all.sort_unstable();
        assert_eq!(all, [0, 0, 1, 1, 2, 2]);
        clients.clear();
        while workers.loads.iter().any(|load| load.load(Ordering::Relaxed) > 0) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let _first = TcpStream::connect(address).await.unwrap();
        assert_eq!(named.recv().await, Some(1), "a tie is served where it was accepted");
    }
}
