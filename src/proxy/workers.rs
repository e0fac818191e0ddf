//! One thread and one single-threaded runtime per core. A session stays on the worker that accepted it,
//! and the connection it is lent is registered there, so moving a message crosses no thread.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;

use crate::tls::Socket;

/// Ends its threads when it is dropped; what still runs on them then is dropped with them.
pub(super) struct Workers {
    handles: Vec<Handle>,
    next: AtomicUsize,
    _stop: watch::Sender<()>,
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
                    // An error says that the sender is gone, which is what is waited for.
                    let _ = runtime.block_on(stopped.changed());
                    runtime.shutdown_background();
                })
                .map_err(say)?;
        }
        Ok(Self { handles, next: AtomicUsize::new(0), _stop: stop })
    }

    /// Serves a connection on the next worker in turn; `serve` is called there, with the socket
    /// registered there.
    pub fn spawn<F: Future<Output = ()> + Send + 'static>(
        &self,
        socket: Socket,
        serve: impl FnOnce(Socket) -> F + Send + 'static,
    ) {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.handles.len();
        let Ok(socket) = socket.into_std() else { return };
        self.handles[turn].spawn(async move {
            if let Ok(socket) = Socket::from_std(socket) {
                serve(socket).await;
            }
        });
    }
}
