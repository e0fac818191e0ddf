//! The sockets of the admin API: who may connect, how many at once, for how long.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::future::Future;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::{Extension, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use crate::admin::{Admin, access, public, router};
use crate::config;
use crate::model::limits::{
    ADMIN_CONNECTIONS_MAX, ADMIN_HEAD_WAIT, ADMIN_PUBLIC_CONNECTION, ADMIN_STRANGER_WAIT, ADMIN_STRANGERS_MAX,
};

/// How long accepting pauses after it failed, as it does when the process has no descriptor left.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);
/// The head of a request, and what is read ahead of it.
const BUFFER_BYTES: usize = 64 << 10;

/// The bound sockets of the admin API.
pub struct Listening {
    socket: UnixListener,
    uids: Arc<[u32]>,
    public: Option<TcpListener>,
    place: Place,
}

/// Binds the admin socket, and the admin address where there is one. Comes first at start-up: a node
/// that runs already is found here, before its store and its trail are touched. The error is one
/// sentence.
pub async fn listen(settings: &config::Admin) -> Result<Listening, String> {
    let place = Place::take(&settings.socket, settings.uids.is_empty())?;
    let socket = UnixListener::bind(&settings.socket)
        .map_err(|error| format!("the admin socket {}: {error}", settings.socket.display()))?;
    place.open_to(settings.uids.is_empty())?;
    let public = match settings.address {
        None => None,
        Some(address) => Some(
            TcpListener::bind(address)
                .await
                .map_err(|error| format!("the admin address {address} cannot be had: {error}"))?,
        ),
    };
    Ok(Listening { socket, uids: settings.uids.as_slice().into(), public, place })
}

impl Listening {
    /// Where `/metrics` and `/health` are really served.
    pub fn public_address(&self) -> Option<std::net::SocketAddr> {
        self.public.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Serves until `stop` is done, then removes the socket file. Requests that are being answered
    /// then go on as long as the runtime does.
    pub async fn serve(self, admin: Arc<Admin>, stop: impl Future<Output = ()>) {
        let Self { socket, uids, public, place } = self;
        let ours = rustix::process::geteuid().as_raw();
        let api = router::api(Arc::clone(&admin));
        let local = accept_local(socket, move |peer| access::is_allowed(peer, ours, &uids), api);
        let remote = async {
            match public {
                Some(listener) => accept_public(listener, public::router(admin)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop => {}
            () = local => {}
            () = remote => {}
        }
        drop(place);
    }
}

/// `may_enter` decides by the peer's uid, before anything that it sent is read. Who may not has few
/// places, and not for long, so that administrators always find one.
async fn accept_local(socket: UnixListener, may_enter: impl Fn(u32) -> bool, api: Router) {
    let places = Arc::new(Semaphore::new(ADMIN_CONNECTIONS_MAX));
    let strangers = Arc::new(Semaphore::new(ADMIN_STRANGERS_MAX));
    loop {
        let stream = match socket.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the admin socket does not accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let peer = match stream.peer_cred() {
            Ok(peer) => peer.uid(),
            Err(error) => {
                tracing::warn!(%error, "the admin socket's peer has no name");
                continue;
            }
        };
        if may_enter(peer) {
            // The semaphore is never closed.
            let Ok(permit) = Arc::clone(&places).acquire_owned().await else { return };
            let router = api.clone().layer(Extension(access::actor(peer)));
            tokio::spawn(async move {
                converse(stream, router).await;
                drop(permit);
            });
        } else if let Ok(permit) = Arc::clone(&strangers).try_acquire_owned() {
            tracing::warn!(uid = peer, "refused on the admin socket");
            tokio::spawn(async move {
                let refusal = converse(stream, router::refusing(peer));
                let _ = tokio::time::timeout(ADMIN_STRANGER_WAIT, refusal).await;
                drop(permit);
            });
        }
    }
}

async fn accept_public(listener: TcpListener, router: Router) {
    let places = Arc::new(Semaphore::new(ADMIN_CONNECTIONS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the admin address does not accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let router = router.clone();
        tokio::spawn(async move {
            let _ = tokio::time::timeout(ADMIN_PUBLIC_CONNECTION, converse(stream, router)).await;
            drop(permit);
        });
    }
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin, router: Router) {
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(ADMIN_HEAD_WAIT)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an admin connection ended");
    }
}

/// The socket's path, ours alone while this lives; the file is removed at the end.
struct Place {
    path: PathBuf,
    /// Locked: of two processes that start at once, one waits for nobody and fails.
    _lock: File,
}

impl Place {
    /// Makes the folder where it is missing, takes the lock, clears a dead process's socket away.
    fn take(path: &Path, private: bool) -> Result<Self, String> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        make_folder(folder, private)?;
        let lock_path = path.with_extension("lock");
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(|error| format!("{}: {error}", lock_path.display()))?;
        let running = || format!("tidegate is already running: its admin socket is {}", path.display());
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(running()),
            Err(std::fs::TryLockError::Error(error)) => {
                return Err(format!("{}: {error}", lock_path.display()));
            }
        }
        match std::fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("the admin socket {}: {error}", path.display())),
            Ok(found) if !found.file_type().is_socket() => {
                return Err(format!("{} is in the way of the admin socket and is none", path.display()));
            }
            Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => return Err(running()),
            Ok(_) => std::fs::remove_file(path)
                .map_err(|error| format!("the old admin socket {}: {error}", path.display()))?,
        }
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// With listed uids the socket itself is open to all, for they could not reach it otherwise; the
    /// peer's uid is the wall in both cases.
    fn open_to(&self, private: bool) -> Result<(), String> {
        let mode = if private { 0o600 } else { 0o666 };
        std::fs::set_permissions(&self.path, Permissions::from_mode(mode))
            .map_err(|error| format!("the admin socket {}: {error}", self.path.display()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The lock file stays: removing it would let a third process lock another file of that name.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn make_folder(folder: &Path, private: bool) -> Result<(), String> {
    let mode = if private { 0o700 } else { 0o711 };
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(folder)
        .map_err(|error| format!("the folder {} of the admin socket: {error}", folder.display()))?;
    let found = std::fs::metadata(folder)
        .map_err(|error| format!("the folder {} of the admin socket: {error}", folder.display()))?;
    let too_open = found.mode() & 0o777 & !mode;
    if too_open != 0 {
        return Err(format!(
            "the folder {} of the admin socket is open to others (mode {:03o}): make it {mode:03o}, or give the \
             socket a folder of its own",
            folder.display(),
            found.mode() & 0o777,
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixStream;

    use super::*;

    fn refusal(place: Result<Place, String>) -> String {
        place.err().expect("the place was given")
    }

    #[test]
    fn the_socket_of_a_dead_process_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/admin.sock");
        let first = Place::take(&path, true).unwrap();
        let socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(refusal(Place::take(&path, true)).contains("already running"), "it holds the lock");
        // A process that knows of no lock, and then its death: the lock goes, the socket file stays.
        first._lock.unlock().unwrap();
        assert!(refusal(Place::take(&path, true)).contains("already running"), "somebody answers there");
        drop(socket);
        assert!(path.exists());
        let second = Place::take(&path, true).unwrap();
        assert!(!path.exists());
        drop(second);
    }

    /// What a router answers to bytes on a connection.
    async fn answer(router: Router, request: &str) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let server = tokio::spawn(converse(theirs, router));
        ours.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        ours.read_to_string(&mut text).await.unwrap();
        server.await.unwrap();
        text
    }

    fn request(line: &str, body: &str) -> String {
        format!(
            "{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    #[tokio::test]
    async fn a_peer_that_may_not_come_in_hears_so_whatever_it_asks() {
        for line in ["GET /v1/status", "POST /v1/grants", "DELETE /nothing"] {
            let said = answer(router::refusing(4711), &request(line, "")).await;
            assert!(said.starts_with("HTTP/1.1 403") && said.contains("uid 4711 may not use"), "{said}");
        }
    }

    #[tokio::test]
    async fn requests_are_bounded_and_failures_are_json() {
        use crate::admin::answer::Body;
        use crate::admin::body::ExtendRequest;
        let router = Router::new()
            .route(
                "/x",
                axum::routing::post(|Body(x): Body<ExtendRequest>| async move { x.for_seconds.to_string() }),
            )
            .fallback(router::nothing_here)
            .method_not_allowed_fallback(router::wrong_method)
            .layer(axum::extract::DefaultBodyLimit::max(64));
        for (line, body, status, words) in [
            ("POST /x", r#"{"for_seconds": 7}"#.to_owned(), "200", "7"),
            ("POST /x", r#"{"for_seconds": 7, "more": 1}"#.to_owned(), "400", "unknown field `more`"),
            ("POST /x", String::new(), "400", "missing field `for_seconds`"),
            ("POST /x", "x".repeat(65), "413", "too long"),
            ("GET /x", String::new(), "405", "does not take GET"),
            ("GET /y", String::new(), "404", "nothing at /y"),
        ] {
            let said = answer(router.clone(), &request(line, &body)).await;
            assert!(said.starts_with(&format!("HTTP/1.1 {status}")) && said.contains(words), "{said}");
            let json = said.rsplit("\r\n\r\n").next().unwrap();
            assert!(status == "200" || json.starts_with("{\"error\":\""), "{json}");
        }
    }

    #[tokio::test]
    async fn who_asks_is_what_the_kernel_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let socket = UnixListener::bind(&path).unwrap();
        let ours = rustix::process::geteuid().as_raw();
        let whoami = |Extension(actor): Extension<crate::model::Actor>| async move {
            serde_json::to_string(&actor).unwrap()
        };
        let api = Router::new().route("/", axum::routing::get(whoami));
        let server = tokio::spawn(accept_local(socket, |_| true, api));
        let mut stream = UnixStream::connect(&path).await.unwrap();
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        stream.write_all(request("GET /", "").as_bytes()).await.unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        assert!(said.contains(&format!("{{\"local\":{{\"uid\":{ours}")), "{said}");
        server.abort();
    }

    #[tokio::test]
    async fn strangers_leave_room_for_administrators() {
        use std::sync::atomic::{AtomicBool, Ordering};
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let socket = UnixListener::bind(&path).unwrap();
        let may_enter = Arc::new(AtomicBool::new(false));
        let decision = may_enter.clone();
        let api = Router::new().route("/", axum::routing::get(|| async { "in" }));
        let server = tokio::spawn(accept_local(socket, move |_| decision.load(Ordering::SeqCst), api));
        let mut strangers = Vec::new();
        for _ in 0..2 * ADMIN_CONNECTIONS_MAX {
            strangers.push(UnixStream::connect(&path).await.unwrap());
            tokio::task::yield_now().await;
        }
        // The last of them has been seen: it is turned away, for there are too many of them.
        let last = strangers.last_mut().unwrap();
        let turned_away = tokio::time::timeout(ADMIN_STRANGER_WAIT / 2, last.read(&mut [0])).await;
        assert!(turned_away.is_ok(), "strangers wait for a place, and so would an administrator");
        may_enter.store(true, Ordering::SeqCst);
        let asked = async {
            let mut stream = UnixStream::connect(&path).await.unwrap();
            stream.write_all(request("GET /", "").as_bytes()).await.unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).await.unwrap();
            said
        };
        let said = tokio::time::timeout(ADMIN_STRANGER_WAIT / 2, asked).await.expect("no place is left");
        assert!(said.ends_with("in"), "{said}");
        // Nor does a stranger stay who says nothing.
        let first = tokio::time::timeout(2 * ADMIN_STRANGER_WAIT, strangers[0].read(&mut [0])).await;
        assert!(matches!(first, Ok(Ok(0) | Err(_))), "{first:?}");
        server.abort();
    }

    #[test]
    fn what_is_not_a_socket_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/admin.sock");
        make_folder(path.parent().unwrap(), true).unwrap();
        std::fs::write(&path, "precious").unwrap();
        assert!(refusal(Place::take(&path, true)).contains("is none"));
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn a_folder_that_others_may_enter_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let open = folder.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, Permissions::from_mode(0o755)).unwrap();
        let said = refusal(Place::take(&open.join("admin.sock"), true));
        assert!(said.contains("mode 755") && said.contains("make it 700"), "{said}");
        std::fs::set_permissions(&open, Permissions::from_mode(0o700)).unwrap();
        Place::take(&open.join("admin.sock"), true).unwrap();
    }
}
