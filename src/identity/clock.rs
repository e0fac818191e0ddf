//! Wall time, and the one thing of the outside world that decisions wait for: the store. A simulation
//! drives the first and lets no virtual time pass during the second.

use crate::model::Time;

/// Wall time: what grants end by.
pub(crate) fn wall() -> Time {
    #[cfg(test)]
    if let Some(time) = virtually::wall() {
        return time;
    }
    Time::now()
}

/// Waits for work of the store. Cancel safe if the work is.
pub(super) async fn stored<F: Future<Output: Send> + Send>(work: F) -> F::Output {
    #[cfg(test)]
    if virtually::is_on() {
        return virtually::at_once(work);
    }
    work.await
}

/// Virtual wall time of one thread, for tests whose runtime has its time paused.
#[cfg(test)]
pub(crate) mod virtually {
    use std::cell::Cell;
    use std::sync::LazyLock;

    use tokio::runtime::{Builder, Runtime};
    use tokio::time::Instant;

    use crate::model::Time;

    thread_local! {
        static ORIGIN: Cell<Option<(Time, Instant)>> = const { Cell::new(None) };
    }

    /// Ends virtual wall time when it is dropped.
    pub struct Virtual;

    /// From here on wall time on this thread is `now` and what tokio's clock moves on by.
    pub fn begin(now: Time) -> Virtual {
        ORIGIN.set(Some((now, Instant::now())));
        Virtual
    }

    impl Drop for Virtual {
        fn drop(&mut self) {
            ORIGIN.set(None);
        }
    }

    pub fn is_on() -> bool {
        ORIGIN.get().is_some()
    }

    pub fn wall() -> Option<Time> {
        let (time, at) = ORIGIN.get()?;
        time.checked_add(at.elapsed()).ok()
    }

    /// The store's own time is real.
    static OUTSIDE: LazyLock<Runtime> =
        LazyLock::new(|| Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());

    /// Runs work in the world outside to its end while this thread, and so its clock, stands still: how long
    /// it really takes must not decide what happens next.
    pub fn at_once<F: Future<Output: Send> + Send>(work: F) -> F::Output {
        std::thread::scope(|scope| scope.spawn(|| OUTSIDE.block_on(work)).join().unwrap())
    }
}
