//! A real `tidegate serve` of one test, driven through its own command line.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::Value;

use super::client::{Client, Error, Told, config};
use super::server::{LEVELS, Place, ROLE_PASSWORD, Server};
use super::wire::Wire;
use super::{PATIENCE, janitor, text, tls, wait_until, write_private};

/// What a test wants otherwise: lines of TOML for the place that the name says.
pub struct Options<'a> {
    /// Keys of `[audit]`.
    pub audit: &'a str,
    /// The log's level.
    pub log: &'a str,
    /// Keys of `[limits]`.
    pub limits: &'a str,
    /// Keys of `[target.pool]`.
    pub pool: &'a str,
    /// Keys of `[[target]]`, `tls` among them; the default is `verify-full`.
    pub target: &'a str,
    /// Whole tables at the end of the node file.
    pub node: &'a str,
    pub host: Option<&'a str>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self {
            audit: "sync_ms = 20",
            log: "info,tidegate=debug",
            limits: "",
            pool: "",
            target: "",
            node: "",
            host: None,
        }
    }
}

/// For `Options::node`: a listener at `Node::second_port` whose clients name the target.
pub const LISTENER_WITHOUT_TARGET: &str =
    "[[listener]]\naddress = \"127.0.0.1:SECOND\"\nprotocol = \"PROTOCOL\"\n";

/// Where the target `shop` leads: a database of its own on a real server, and a login of each connector.
pub trait Backend {
    const PROTOCOL: &'static str;
    fn port(&self) -> u16;
    fn database(&self) -> &str;
    /// The server's name of the connector of this level.
    fn role(&self, level: &str) -> String;
}

pub struct Node<P: Backend = Place> {
    pub place: P,
    pub port: u16,
    pub second_port: u16,
    pub admin_port: u16,
    pub folder: PathBuf,
    process: Mutex<Option<Child>>,
}

/// A user with a credential.
pub struct Person {
    pub name: String,
    pub secret: String,
    pub credential: String,
    pub(super) port: u16,
}

impl Person {
    pub fn config(&self) -> tokio_postgres::Config {
        config(self.port, &self.name, &self.secret, None)
    }

    pub fn login(&self) -> Client {
        self.try_login().unwrap_or_else(|error| panic!("{} is not let in: {error:?}", self.name))
    }

    pub fn try_login(&self) -> Result<Client, Error> {
        Client::connect(&self.config(), None)
    }

    /// What the person is told at a login that must fail.
    pub fn refused(&self) -> Told {
        refused(&self.config())
    }

    pub fn wire(&self, parameters: &[(&str, &str)]) -> Wire {
        Wire::login(self.port, &self.name, &self.secret, parameters)
            .map_err(|refused| refused.0)
            .unwrap_or_else(|told| panic!("{} is not let in: {told:?}", self.name))
    }

    /// A libpq connection string; `more` is appended.
    pub fn conninfo(&self, more: &str) -> String {
        format!("host=localhost hostaddr=127.0.0.1 port={} user={} {more}", self.port, self.name)
    }
}

pub fn refused(config: &tokio_postgres::Config) -> Told {
    match Client::connect(config, None) {
        Err(error) => Told::from(&error),
        Ok(_) => panic!("{:?} was let in", config.get_user()),
    }
}

impl Node {
    pub fn start(server: &'static Server) -> Self {
        Self::with(server.place(), Options::default())
    }
}

impl<P: Backend> Node<P> {
    pub fn with(place: P, options: Options<'_>) -> Self {
        let node = Self::prepare(place, options);
        node.resume();
        let applied = node.tg(&["apply", "target.toml"]);
        assert!(applied.status.success(), "apply: {}", text(&applied.stderr));
        node
    }

    /// Writes the files and starts nothing.
    pub fn prepare(place: P, options: Options<'_>) -> Self {
        let folder = janitor::new_folder("node");
        let [port, second_port, admin_port] = [(); 3].map(|()| janitor::free_port());
        tls::authority().write_certificate(&folder, "listener", tls::HOSTS);
        std::fs::write(folder.join("ca.pem"), &tls::authority().pem).expect("the authority");
        std::fs::create_dir(folder.join("secrets")).expect("a folder");
        std::fs::set_permissions(folder.join("secrets"), PermissionsExt::from_mode(0o700)).expect("its mode");
        let node = Self { place, port, second_port, admin_port, folder, process: Mutex::new(None) };
        LEVELS.iter().for_each(|level| node.write_secret(level, ROLE_PASSWORD));
        node.write("tidegate.toml", &node.node_file(&options));
        node.write("target.toml", &node.target_file(&options));
        node
    }

    fn node_file(&self, options: &Options<'_>) -> String {
        format!(
            "[[listener]]\naddress = \"127.0.0.1:{}\"\nprotocol = \"{}\"\ntarget = \"shop\"\ntls = \"optional\"\n\
             [tls]\ncertificate = \"listener.pem\"\nkey = \"listener.key\"\n\
             [store]\nurl = \"sqlite:state/tidegate.db\"\n[secret]\ndirectory = \"secrets\"\n\
             [audit]\ndirectory = \"state/audit\"\n{}\n\
             [admin]\nsocket = \"state/admin.sock\"\naddress = \"127.0.0.1:{}\"\n\
             [keys]\nfile = \"state/installation.key\"\n[log]\nlevel = \"{}\"\n\
             [limits]\n{}\n{}\n",
            self.port,
            P::PROTOCOL,
            options.audit,
            self.admin_port,
            options.log,
            options.limits,
            options.node.replace("SECOND", &self.second_port.to_string()).replace("PROTOCOL", P::PROTOCOL),
        )
    }

    pub fn target_file(&self, options: &Options<'_>) -> String {
        let host = options.host.unwrap_or("127.0.0.1");
        let tls = if options.target.contains("tls =") {
            ""
        } else {
            "tls = \"verify-full\"\ntls_ca = \"ca.pem\"\n"
        };
        let connectors: String = LEVELS
            .iter()
            .map(|level| format!("[target.connector.{level}]\nsecret = \"file:{level}.json\"\n"))
            .collect();
        format!(
            "[[target]]\nname = \"shop\"\nprotocol = \"{}\"\naddress = \"{host}:{}\"\ndatabase = \"{}\"\n{tls}{}\n\
             [target.pool]\n{}\n{connectors}",
            P::PROTOCOL,
            self.place.port(),
            self.place.database(),
            options.target,
            options.pool
        )
    }

    pub fn write(&self, file: &str, contents: &str) {
        std::fs::write(self.folder.join(file), contents).expect("a file of the node");
    }

    pub fn write_secret(&self, level: &str, password: &str) {
        let secret = serde_json::json!({ "username": self.place.role(level), "password": password });
        write_private(&self.folder.join(format!("secrets/{level}.json")), &secret.to_string());
    }

    fn process(&self) -> MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Starts it, again after `kill` or `terminate`.
    pub fn resume(&self) {
        let log = File::options().create(true).append(true).open(self.folder.join("log")).expect("a log");
        // With the signal ignored a file size limit is an error of the write, as a full disk is.
        let child = Command::new("sh")
            .args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"])
            .arg(program())
            .args(["serve", "--config", "tidegate.toml"])
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("tidegate runs");
        janitor::watch(child.id());
        *self.process() = Some(child);
        wait_until("the proxy listens", PATIENCE, || {
            if let Some(status) =
                self.process().as_mut().expect("just started").try_wait().expect("our child")
            {
                panic!("tidegate serve ended with {status}:\n{}", self.log());
            }
            std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok()
                && std::os::unix::net::UnixStream::connect(self.folder.join("state/admin.sock")).is_ok()
        });
    }

    pub fn pid(&self) -> u32 {
        self.process().as_ref().expect("it runs").id()
    }

    /// Memory of the proxy that is its own and in use now.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("Linux says it");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// How far the proxy's files may grow, in bytes or `unlimited`.
    pub fn limit_files(&self, bytes: &str) {
        let mut prlimit = Command::new("prlimit");
        prlimit.args(["--pid", &self.pid().to_string(), &format!("--fsize={bytes}:")]);
        assert!(prlimit.status().expect("prlimit is part of util-linux").success());
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid() as i32).expect("a pid");
        rustix::process::kill_process(pid, signal).expect("it is our child");
    }

    /// `kill -9`: no goodbye to anybody.
    pub fn kill(&self) {
        if let Some(mut child) = self.process().take() {
            let _ = child.kill();
            let _ = child.wait();
            janitor::forget(child.id());
        }
    }

    /// Waits for the process to end by itself; its exit code.
    pub fn wait_ended(&self, within: Duration) -> Option<i32> {
        let mut child = self.process().take().expect("it runs");
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = child.try_wait().expect("our child") {
                janitor::forget(child.id());
                return status.code();
            }
            if Instant::now() > deadline {
                *self.process() = Some(child);
                panic!("the proxy does not end");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    // -----------------------------------------------------------------------------------------
    // The command line

    /// Runs the command line against this node.
    pub fn tg(&self, args: &[&str]) -> Output {
        tidegate(&self.folder, args)
    }

    /// The same, must succeed; its output.
    pub fn done(&self, args: &[&str]) -> String {
        let output = self.tg(args);
        assert!(
            output.status.success(),
            "tidegate {args:?}: {}{}",
            text(&output.stderr),
            text(&output.stdout)
        );
        text(&output.stdout)
    }

    /// The same with `--json`.
    pub fn json(&self, args: &[&str]) -> Value {
        let output = self.done(&[args, &["--json"]].concat());
        serde_json::from_str(&output).unwrap_or_else(|error| panic!("tidegate {args:?}: {error} in {output}"))
    }

    pub fn user(&self, name: &str) -> Person {
        self.done(&["user", "add", name]);
        self.credential(name, "8h")
    }

    pub fn credential(&self, name: &str, lasts: &str) -> Person {
        let issued = self.json(&["credential", "issue", "--user", name, "--for", lasts]);
        Person {
            name: name.into(),
            secret: field(&issued, "secret"),
            credential: field(&issued, "id"),
            port: self.port,
        }
    }

    /// The new grant's id.
    pub fn grant(&self, user: &str, level: &str, lasts: &str, more: &[&str]) -> String {
        let args = ["grant", "create", "--user", user, "--target", "shop", "--level", level, "--for", lasts];
        field(&self.json(&[&args[..], more].concat()), "id")
    }

    /// A user with a credential and a grant of an hour.
    pub fn person(&self, name: &str, level: &str) -> Person {
        let person = self.user(name);
        self.grant(name, level, "1h", &[]);
        person
    }

    /// Somebody new with a grant to read.
    pub fn credential_of_new_person(&self) -> Person {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        self.person(&format!("person{}", COUNT.fetch_add(1, Ordering::Relaxed)), "read")
    }

    /// Live sessions.
    pub fn sessions(&self) -> Vec<Value> {
        match self.json(&["session", "list"]) {
            Value::Array(sessions) => sessions,
            other => panic!("a list of sessions was expected: {other}"),
        }
    }

    pub fn session_of(&self, user: &str) -> String {
        let sessions = self.sessions();
        let session = sessions.iter().find(|session| session["user"] == user);
        field(session.unwrap_or_else(|| panic!("no session of {user} in {sessions:?}")), "session")
    }

    // -----------------------------------------------------------------------------------------
    // The trail

    /// Every line that is in the audit files now.
    pub fn trail(&self) -> Vec<Value> {
        self.trail_about("")
    }

    /// Those of them that hold this text: much faster where the trail is long.
    pub fn trail_about(&self, text: &str) -> Vec<Value> {
        let folder = self.folder.join("state/audit");
        let mut files: Vec<_> =
            std::fs::read_dir(folder).expect("the audit folder").flatten().map(|e| e.path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
        files.sort();
        let lines = files
            .iter()
            .map(|path| std::fs::read_to_string(path).expect("an audit file"))
            .collect::<String>();
        // The last line may be half written while we read.
        let lines = lines.split_inclusive('\n').filter(|line| line.contains(text));
        lines.filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    pub fn events(&self, event: &str) -> Vec<Value> {
        self.trail_about(event).into_iter().filter(|line| line["event"] == event).collect()
    }

    /// Waits for a line; gives the first that fits.
    pub fn wait_event(&self, event: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let mut found = None;
        wait_until(&format!("a fitting {event} is in the trail"), PATIENCE, || {
            found = self.events(event).into_iter().find(|line| fits(line));
            found.is_some()
        });
        found.expect("just waited for")
    }

    /// Waits for the end of a session of this id.
    pub fn wait_end_of(&self, session: &str) -> Value {
        let mut found = None;
        wait_until(&format!("the end of {session} is in the trail"), PATIENCE, || {
            let lines = self.trail_about(session).into_iter();
            found = lines.rev().find(|line| line["event"] == "session_end" && line["session"] == session);
            found.is_some()
        });
        found.expect("just waited for")
    }

    /// Waits for the line of an administrative change of `object`, which is named with its kind in front.
    pub fn wait_admin(&self, action: &str, object: &str) -> Value {
        let named = |line: &Value| line["object"].as_str().is_some_and(|text| text.ends_with(object));
        self.wait_event("admin", |line| line["action"] == action && named(line))
    }

    /// Waits for the statement with exactly this text.
    pub fn wait_statement(&self, sql: &str) -> Value {
        self.wait_event("statement", |line| line["text"] == sql)
    }

    /// Waits for the result that belongs to a statement's line.
    pub fn result_of(&self, statement: &Value) -> Value {
        self.wait_event("result", |line| {
            line["session"] == statement["session"] && line["number"] == statement["number"]
        })
    }

    /// A GET from the admin address.
    pub fn http(&self, path: &str) -> String {
        use std::io::{Read, Write};
        let mut socket =
            std::net::TcpStream::connect(("127.0.0.1", self.admin_port)).expect("the admin address");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        write!(socket, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .expect("it reads");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("it answers");
        answer
    }
}

impl<P: Backend> Drop for Node<P> {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!(
                "--- the end of the proxy's log\n{}",
                lines[lines.len().saturating_sub(40)..].join("\n")
            );
        }
    }
}

/// The program that was built with the tests, or another build of it.
fn program() -> std::ffi::OsString {
    std::env::var_os("TIDEGATE_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_tidegate").into())
}

/// Runs the program in `folder`, whatever a person's environment says.
pub fn tidegate(folder: &Path, args: &[&str]) -> Output {
    Command::new(program())
        .args(args)
        .current_dir(folder)
        .env_remove("TIDEGATE_SOCKET")
        .env_remove("TIDEGATE_CONFIG")
        .stdin(Stdio::null())
        .output()
        .expect("tidegate runs")
}

/// A string member, which must be there.
pub fn field(value: &Value, name: &str) -> String {
    match &value[name] {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        other => panic!("{name} is {other} in {value}"),
    }
}
