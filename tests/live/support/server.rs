//! Real PostgreSQL servers, private to this run.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use super::client::{Client, config};
use super::node::Backend;
use super::{janitor, tls, wait_until, write_private};

const SUPERUSER_PASSWORD: &str = "a superuser of tests";

/// Which server's binaries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// The distribution's: 15 on Debian 12.
    Distribution,
    Newest,
}

impl Version {
    /// A missing server fails the tests and never skips them.
    fn bin(self) -> PathBuf {
        let variable = match self {
            Self::Distribution => "TIDEGATE_TEST_PG15_BIN",
            Self::Newest => "TIDEGATE_TEST_PG18_BIN",
        };
        let Some(bin) = std::env::var_os(variable).map(PathBuf::from) else {
            panic!(
                "{variable} does not say where the server's programs are: run these tests with scripts/test live"
            );
        };
        assert!(
            bin.join("postgres").exists(),
            "no postgres in {variable}={}: run scripts/setup",
            bin.display()
        );
        bin
    }

    /// An initialised data folder, made once per run; servers get copies.
    fn template(self) -> &'static Path {
        static TEMPLATES: [OnceLock<PathBuf>; 2] = [OnceLock::new(), OnceLock::new()];
        TEMPLATES[self as usize].get_or_init(|| {
            let folder = janitor::new_folder("template");
            let password = folder.join("password");
            write_private(&password, SUPERUSER_PASSWORD);
            own(&folder);
            own(&password);
            let made = as_server(&self.bin().join("initdb"))
                .args(["-U", "postgres", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "-N"])
                .arg(format!("--pwfile={}", password.display()))
                .arg("-D")
                .arg(folder.join("data"))
                .output()
                .expect("initdb runs");
            assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
            folder.join("data")
        })
    }
}

/// PostgreSQL refuses to run as root.
fn server_ids() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").expect("the list of users");
    let line = users.lines().find(|line| line.starts_with("postgres:"));
    let fields: Vec<&str> =
        line.expect("a user postgres, as we are root: scripts/setup").split(':').collect();
    Some((fields[2].parse().expect("a uid"), fields[3].parse().expect("a gid")))
}

pub fn as_server(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/").stdin(Stdio::null()).env_remove("PGPORT").env_remove("PGHOST");
    if let Some((uid, gid)) = server_ids() {
        command.uid(uid).gid(gid);
    }
    command
}

pub fn own(path: &Path) {
    if let Some((uid, gid)) = server_ids() {
        std::os::unix::fs::chown(path, Some(uid), Some(gid)).expect("root may change owners");
    }
}

pub struct Server {
    pub version: Version,
    pub port: u16,
    folder: PathBuf,
    process: Mutex<Option<Child>>,
}

/// What differs from the shared servers.
#[derive(Default)]
pub struct Options<'a> {
    /// Lines of `pg_hba.conf` ahead of the common ones.
    pub hba: &'a str,
    /// Lines of `postgresql.conf`.
    pub settings: &'a str,
}

/// One server of each version, shared by all tests of a run; each test has databases and roles of its own.
pub fn shared(version: Version) -> &'static Server {
    static SERVERS: [OnceLock<Server>; 2] = [OnceLock::new(), OnceLock::new()];
    SERVERS[version as usize].get_or_init(|| Server::start(version, Options::default()))
}

impl Server {
    pub fn start(version: Version, options: Options<'_>) -> Self {
        let folder = janitor::new_folder("pg");
        own(&folder);
        let data = folder.join("data");
        let copied = as_server(Path::new("cp")).arg("-a").args([version.template(), &data]).status();
        assert!(copied.expect("cp runs").success(), "the template cannot be copied");
        tls::authority().write_certificate(&folder, "server", tls::HOSTS);
        let port = janitor::free_port();
        let settings = format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{folder}'\n\
             fsync = off\nsynchronous_commit = off\nshared_buffers = 64MB\nmax_connections = 300\n\
             max_prepared_transactions = 20\n\
             ssl = on\nssl_cert_file = '{folder}/server.pem'\nssl_key_file = '{folder}/server.key'\n\
             log_statement = 'all'\nlog_line_prefix = '%m [%p] %a %d '\nautovacuum = off\n{}\n",
            options.settings,
            folder = folder.display(),
        );
        let hba = format!("{}\nhost all all 127.0.0.1/32 scram-sha-256\n", options.hba);
        for (file, text) in [("postgresql.auto.conf", settings), ("pg_hba.conf", hba)] {
            std::fs::write(data.join(file), text).expect("the server's configuration");
        }
        ["server.pem", "server.key"].iter().for_each(|file| own(&folder.join(file)));
        let server = Self { version, port, folder, process: Mutex::new(None) };
        server.resume();
        server
    }

    /// Starts it again after `stop`.
    pub fn resume(&self) {
        let log = File::options().create(true).append(true).open(self.log_file()).expect("the server's log");
        let child = as_server(&self.version.bin().join("postgres"))
            .arg("-D")
            .arg(self.folder.join("data"))
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("postgres runs");
        janitor::watch(child.id());
        *self.process.lock().expect("nobody panics with it") = Some(child);
        let config = self.superuser("postgres");
        wait_until("the server answers", Duration::from_secs(60), || Client::connect(&config, None).is_ok());
    }

    /// Like `pg_ctl stop -m immediate`: sessions end in the middle of what they do.
    pub fn stop_immediately(&self) {
        let mut process = self.process.lock().expect("nobody panics with it");
        let Some(mut child) = process.take() else { return };
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::QUIT).expect("it is our child");
        child.wait().expect("it ends");
        janitor::forget(child.id());
    }

    /// Has the server show another certificate from now on.
    pub fn replace_certificate(&self, authority: &tls::Authority, hosts: &[&str]) {
        authority.write_certificate(&self.folder, "server", hosts);
        self.admin("postgres").run("select pg_reload_conf()");
        // The postmaster reads it again when the signal reaches it.
        let config = self.superuser("postgres");
        wait_until("the new certificate is shown", Duration::from_secs(30), || {
            Client::connect(&config, Some(authority)).is_err()
        });
    }

    /// Where its data, its unix socket and its log are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn log_file(&self) -> PathBuf {
        self.folder.join("log")
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log_file()).expect("the server's log")).into_owned()
    }

    pub fn superuser(&self, database: &str) -> tokio_postgres::Config {
        config(self.port, "postgres", SUPERUSER_PASSWORD, Some(database))
    }

    /// A superuser who goes around the proxy.
    pub fn admin(&self, database: &str) -> Client {
        Client::connect(&self.superuser(database), None).expect("the superuser logs in")
    }

    /// A new database and its three connector roles.
    pub fn place(&'static self) -> Place {
        Place::new(Whole::Shared(self))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop_immediately();
    }
}

#[derive(Clone)]
enum Whole {
    Shared(&'static Server),
    Own(Arc<Server>),
}

/// A database of one test, and the roles of its connectors: `DATABASE_read`, `_read_write`, `_admin`.
pub struct Place {
    server: Whole,
    pub database: String,
    admin: OnceLock<Client>,
}

impl std::ops::Deref for Place {
    type Target = Server;
    fn deref(&self) -> &Server {
        match &self.server {
            Whole::Shared(server) => server,
            Whole::Own(server) => server,
        }
    }
}

impl Backend for Place {
    const PROTOCOL: &'static str = "postgres";

    fn port(&self) -> u16 {
        self.port
    }

    fn database(&self) -> &str {
        &self.database
    }

    fn role(&self, level: &str) -> String {
        Self::role(self, level)
    }
}

pub const ROLE_PASSWORD: &str = "only the proxy knows";
pub const LEVELS: [&str; 3] = ["read", "read_write", "admin"];

impl Place {
    /// On a server of its own, which this test may kill.
    pub fn alone(version: Version, options: Options<'_>) -> Self {
        Self::new(Whole::Own(Arc::new(Server::start(version, options))))
    }

    /// Another database on the same server.
    pub fn sibling(&self) -> Self {
        Self::new(self.server.clone())
    }

    fn new(server: Whole) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let database = format!("shop{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let place = Self { server, database, admin: OnceLock::new() };
        let master = place.admin("postgres");
        for level in LEVELS {
            let role = place.role(level);
            master.run(&format!("create role {role} login password '{ROLE_PASSWORD}'"));
        }
        master.run(&format!("create database {}", place.database));
        let [read, write, owner] = LEVELS.map(|level| place.role(level));
        place.master().run(&format!(
            "create table items (id int primary key, name text);
             insert into items select i, 'item ' || i from generate_series(1, 1000) i;
             grant select on items to {read};
             grant select, insert, update, delete on items to {write};
             grant all on items to {owner};
             grant create, usage on schema public to {write}, {owner}"
        ));
        place
    }

    pub fn role(&self, level: &str) -> String {
        format!("{}_{level}", self.database)
    }

    /// A superuser in this database, around the proxy.
    pub fn master(&self) -> &Client {
        self.admin.get_or_init(|| self.admin(&self.database))
    }

    /// The value of a query of the superuser, as text.
    pub fn ask(&self, sql: &str) -> String {
        self.master().one(sql)
    }

    /// Backends of connectors in this database that run something right now, `condition` and all.
    pub fn count(&self, condition: &str) -> u32 {
        let count = self.ask(&format!(
            "select count(*) from pg_stat_activity where datname = '{}' and usename <> 'postgres' and ({condition})",
            self.database
        ));
        count.parse().expect("a number")
    }

    /// Waits until the connectors have nothing running or open: no statement, no transaction.
    pub fn wait_quiet(&self, within: Duration) {
        wait_until("nothing runs at the server", within, || self.count("state <> 'idle'") == 0);
    }

    /// The same, but for `others` that go on.
    pub fn wait_quiet_but(&self, others: u32, within: Duration) {
        wait_until("nothing more runs at the server", within, || self.count("state <> 'idle'") <= others);
    }

    /// Waits until a statement whose text holds `part` runs.
    pub fn wait_running(&self, part: &str) {
        let condition = format!("state = 'active' and query like '%{part}%'");
        wait_until("the statement runs at the server", super::PATIENCE, || self.count(&condition) > 0);
    }
}
