//! Ends what a test run started and removes its folder, however the run ends: the shared servers live
//! in statics, which are never dropped, and a run may be killed.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

/// Reads `pid N` and `gone N` until its input ends, which it does when this process does. SIGQUIT is
/// PostgreSQL's immediate shutdown.
const SCRIPT: &str = r#"
trap "" INT TERM HUP
declare -A pids
while read -r word pid; do
    case $word in pid) pids[$pid]=1 ;; gone) unset "pids[$pid]" ;; esac
done
[ ${#pids[@]} = 0 ] || { kill -QUIT "${!pids[@]}"; sleep 0.5; kill -KILL "${!pids[@]}"; }
rm -rf "$1"
"#;

struct Janitor {
    folder: PathBuf,
    input: Mutex<ChildStdin>,
    /// Outlives this process, so nobody waits for it.
    _child: Child,
}

fn janitor() -> &'static Janitor {
    static JANITOR: OnceLock<Janitor> = OnceLock::new();
    JANITOR.get_or_init(|| {
        // Short, because paths of Unix sockets may have 107 bytes only.
        let folder = std::env::temp_dir().join(format!("tg-live-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for this run");
        std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o755)).expect("its mode");
        let mut child = Command::new("bash")
            .args(["-c", SCRIPT, "janitor"])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("bash is on every Debian");
        let input = Mutex::new(child.stdin.take().expect("its input is a pipe"));
        Janitor { folder, input, _child: child }
    })
}

/// The folder of this run; the tests and the servers may both look into it.
pub fn folder() -> &'static Path {
    &janitor().folder
}

/// A new folder of this name and a number below it.
pub fn new_folder(name: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    let path = folder().join(format!("{name}{}", COUNT.fetch_add(1, Ordering::Relaxed)));
    std::fs::create_dir(&path).expect("a new folder");
    path
}

pub fn watch(pid: u32) {
    tell("pid", pid);
}

pub fn forget(pid: u32) {
    tell("gone", pid);
}

fn tell(word: &str, pid: u32) {
    let mut input = janitor().input.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    writeln!(input, "{word} {pid}").expect("the janitor listens");
}

/// A free port of 127.0.0.1 that is given out once in this run and lies below the ports that the kernel
/// gives to outgoing connections.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let count = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 20_000 + ((std::process::id() as u16).wrapping_mul(97).wrapping_add(count)) % 12_000;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
