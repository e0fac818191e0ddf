//! What the live tests share: real servers, a real proxy, real clients, and a hand-made one.

pub mod client;
pub mod cluster;
pub mod http;
pub mod janitor;
pub mod mysql;
pub mod node;
pub mod rabbit;
pub mod server;
pub mod tls;
pub mod wire;

use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

pub use client::{Client, Told, psql, text};
pub use node::{Backend, Node, Options, Person, field, refused};
pub use server::{Place, Server, Version, shared};

/// How long a test waits for what must come, on a busy machine. Not a claim about the product.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// The contract's limit for what a cut must have done at the server.
pub const CUT: Duration = Duration::from_secs(1);

/// One runtime for all clients, so that tests read top-down and their connections live on meanwhile.
pub fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
    })
}

pub fn block<F: Future>(future: F) -> F::Output {
    runtime().block_on(future)
}

pub fn wait_until(what: &str, within: Duration, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !done() {
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        std::thread::sleep(Duration::from_millis(15));
    }
}

/// A file that only its owner reads, as servers want their keys.
pub fn write_private(path: &Path, contents: &str) {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .expect("a file");
    file.write_all(contents.as_bytes()).expect("its contents");
}

/// Runs each of these tests on both servers: as `on_15::NAME` and `on_18::NAME`.
macro_rules! on_both_servers {
    ($($name:ident),* $(,)?) => {
        mod on_15 {
            $(#[test] fn $name() { super::$name(crate::support::shared(crate::support::Version::Distribution)); })*
        }
        mod on_18 {
            $(#[test] fn $name() { super::$name(crate::support::shared(crate::support::Version::Newest)); })*
        }
    };
}
pub(crate) use on_both_servers;
