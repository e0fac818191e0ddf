//! Real MariaDB and MySQL servers, private to this run, and a hand-made client.

pub mod wire;

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use super::node::{Backend, Node, Person};
use super::server::{LEVELS, ROLE_PASSWORD, as_server, own};
use super::{PATIENCE, Told, janitor, tls, wait_until};
pub use wire::{Answer, Login, Wire};

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// MariaDB 10.11 on Debian 12.
    Distribution,
    MariaDb11,
    MySql9,
}

impl Release {
    pub fn is_mariadb(self) -> bool {
        self != Self::MySql9
    }

    /// A missing server fails the tests and never skips them.
    pub fn bin(self) -> PathBuf {
        let variable = match self {
            Self::Distribution => "TIDEGATE_TEST_MARIADB10_BIN",
            Self::MariaDb11 => "TIDEGATE_TEST_MARIADB11_BIN",
            Self::MySql9 => "TIDEGATE_TEST_MYSQL9_BIN",
        };
        let Some(bin) = std::env::var_os(variable).map(PathBuf::from) else {
            panic!(
                "{variable} does not say where the server's programs are: run these tests with scripts/test live"
            );
        };
        assert!(bin.join("server").exists(), "no server in {variable}={}: run scripts/setup", bin.display());
        bin
    }

    /// The command line client of this release.
    pub fn client(self) -> PathBuf {
        self.bin().join(if self.is_mariadb() { "mariadb" } else { "mysql" })
    }

    pub fn dump(self) -> PathBuf {
        self.bin().join(if self.is_mariadb() { "mariadb-dump" } else { "mysqldump" })
    }

    /// An initialised data folder, made once per run; servers get copies.
    fn template(self) -> &'static Path {
        static TEMPLATES: [OnceLock<PathBuf>; 3] = [const { OnceLock::new() }; 3];
        TEMPLATES[self as usize].get_or_init(|| {
            let folder = janitor::new_folder("template");
            own(&folder);
            let mut initialise = as_server(&self.bin().join("initialise"));
            let made = initialise.arg(folder.join("data")).env("TMPDIR", &folder).output();
            let made = made.expect("it runs");
            let said = [made.stdout, made.stderr].concat();
            assert!(made.status.success(), "initialise: {}", String::from_utf8_lossy(&said));
            folder.join("data")
        })
    }
}

pub struct Server {
    pub release: Release,
    pub port: u16,
    folder: PathBuf,
    options: Vec<String>,
    process: Mutex<Option<Child>>,
}

/// One server of each release, shared by all tests of a run; each test has databases and logins of its own.
pub fn shared(release: Release) -> &'static Server {
    static SERVERS: [OnceLock<Server>; 3] = [const { OnceLock::new() }; 3];
    SERVERS[release as usize].get_or_init(|| Server::start(release, &[]))
}

impl Server {
    /// With these options on top of the common ones.
    pub fn start(release: Release, options: &[&str]) -> Self {
        let folder = janitor::new_folder("my");
        own(&folder);
        let copied =
            as_server(Path::new("cp")).arg("-a").args([release.template(), &folder.join("data")]).status();
        assert!(copied.expect("cp runs").success(), "the template cannot be copied");
        tls::authority().write_certificate(&folder, "server", tls::HOSTS);
        std::fs::write(folder.join("ca.pem"), &tls::authority().pem).expect("the authority");
        ["server.pem", "server.key", "ca.pem"].iter().for_each(|file| own(&folder.join(file)));
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let server = Self { release, port: janitor::free_port(), folder, options, process: Mutex::new(None) };
        server.resume();
        server
    }

    /// Starts it again after `stop`.
    pub fn resume(&self) {
        let file = |name: &str| self.folder.join(name).display().to_string();
        let log = File::options().create(true).append(true).open(file("log")).expect("the server's log");
        let mut command = as_server(&self.release.bin().join("server"));
        command
            .arg(format!("--datadir={}", file("data")))
            .arg(format!("--port={}", self.port))
            .arg(format!("--socket={}", file("socket")))
            .arg(format!("--pid-file={}", file("pid")))
            .arg(format!("--general-log-file={}", file("general")))
            .arg(format!("--ssl-ca={}", file("ca.pem")))
            .arg(format!("--ssl-cert={}", file("server.pem")))
            .arg(format!("--ssl-key={}", file("server.key")))
            .args(["--bind-address=127.0.0.1", "--skip-name-resolve", "--general-log=1", "--skip-log-bin"])
            .args(["--innodb-flush-log-at-trx-commit=2", "--innodb-buffer-pool-size=64M"])
            .args(["--max-connections=300", "--max-allowed-packet=64M", "--local-infile=1"])
            .args(["--default-time-zone=+00:00", "--innodb-lock-wait-timeout=20", "--event-scheduler=OFF"]);
        match self.release {
            Release::Distribution => command.arg("--plugin-load-add=auth_ed25519"),
            Release::MariaDb11 => {
                command.args(["--plugin-load-add=auth_ed25519", "--plugin-load-add=auth_parsec"])
            }
            Release::MySql9 => command.arg("--mysqlx=OFF"),
        };
        if self.release.is_mariadb() {
            // In the server's own process, which need not be root for a password that is no account's of the machine.
            command.args(["--plugin-load-add=auth_pam_v1", "--pam-use-cleartext-plugin=ON"]);
        }
        let child = command
            .args(&self.options)
            // MariaDB clears its temporary folder as it starts, of what other servers have there too.
            .env("TMPDIR", &self.folder)
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("the server runs");
        janitor::watch(child.id());
        *self.process.lock().expect("nobody panics with it") = Some(child);
        wait_until("the server answers", Duration::from_secs(60), || {
            let mut process = self.process.lock().expect("nobody panics with it");
            if let Some(status) = process.as_mut().expect("just started").try_wait().expect("our child") {
                panic!("the server ended with {status}:\n{}", self.log());
            }
            drop(process);
            Wire::root(&self.folder.join("socket")).is_ok()
        });
    }

    /// As if the machine had died: sessions end in the middle of what they do.
    pub fn stop_immediately(&self) {
        let mut process = self.process.lock().expect("nobody panics with it");
        let Some(mut child) = process.take() else { return };
        let _ = child.kill();
        child.wait().expect("it ends");
        janitor::forget(child.id());
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.folder.join("log")).unwrap_or_default()).into_owned()
    }

    /// Everything that clients have said to it.
    pub fn general_log(&self) -> String {
        let log = std::fs::read(self.folder.join("general")).expect("the log of what is said");
        String::from_utf8_lossy(&log).into_owned()
    }

    /// The superuser, around the proxy.
    pub fn root(&self) -> Wire {
        Wire::root(&self.folder.join("socket")).unwrap_or_else(|told| panic!("root is not let in: {told:?}"))
    }

    /// A new database and its three connectors.
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

/// A database of one test, and the logins of its connectors: `DATABASE_read`, `_read_write`, `_admin`.
pub struct Place {
    server: Whole,
    pub database: String,
    root: OnceLock<Mutex<Wire>>,
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
    const PROTOCOL: &'static str = "mysql";

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

impl Place {
    /// On a server of its own, which this test may kill.
    pub fn alone(release: Release, options: &[&str]) -> Self {
        Self::new(Whole::Own(Arc::new(Server::start(release, options))))
    }

    /// Another database on the same server.
    pub fn sibling(&self) -> Self {
        Self::new(self.server.clone())
    }

    fn new(server: Whole) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let database = format!("shop{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let place = Self { server, database, root: OnceLock::new() };
        let [read, write, admin] = LEVELS.map(|level| place.role(level));
        let database = &place.database;
        place.run(&format!("create database {database} character set utf8mb4"));
        for role in [&read, &write, &admin] {
            place.run(&format!("create user {role}@'%' identified by '{ROLE_PASSWORD}'"));
        }
        let mut root = place.master();
        root.run(&format!("use {database}"));
        root.run("create table items (id int primary key, name varchar(100))");
        root.run(
            "insert into items with recursive n (i) as (select 1 union all select i + 1 from n where i < 1000) \
             select i, concat('item ', i) from n",
        );
        root.run(&format!("grant select on {database}.* to {read}@'%'"));
        root.run(&format!(
            "grant select, insert, update, delete, create temporary tables, lock tables, execute on {database}.* \
             to {write}@'%'"
        ));
        root.run(&format!("grant all on {database}.* to {admin}@'%'"));
        drop(root);
        // A server that knows a password asks no more for it in clear or by its key.
        for role in [&read, &write, &admin] {
            place.login(role, ROLE_PASSWORD).expect("a connector logs in").goodbye();
        }
        place
    }

    pub fn role(&self, level: &str) -> String {
        format!("{}_{level}", self.database)
    }

    /// Around the proxy, with TLS.
    pub fn login(&self, user: &str, password: &str) -> Result<Wire, Told> {
        let login = Login { user, password, database: Some(&self.database), tls: true, ..Login::default() };
        Wire::login(self.port, &login).map_err(|refused| refused.0)
    }

    /// The superuser in this database, around the proxy.
    pub fn master(&self) -> MutexGuard<'_, Wire> {
        let root = self.root.get_or_init(|| Mutex::new(self.root()));
        root.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The value of a query of the superuser, as text.
    pub fn ask(&self, sql: &str) -> String {
        let said = self.master().ask(sql);
        assert!(!said.starts_with("error"), "{sql}: {said}");
        said
    }

    pub fn run(&self, sql: &str) {
        self.master().run(sql);
    }

    /// Connections of this place's connectors for which this holds.
    pub fn count(&self, condition: &str) -> u32 {
        let count = self.ask(&format!(
            "select count(*) from information_schema.processlist where user like '{}\\_%' and ({condition})",
            self.database
        ));
        count.parse().expect("a number")
    }

    fn busy(&self) -> u32 {
        let transactions = format!(
            "select count(*) from information_schema.innodb_trx t join information_schema.processlist p \
             on p.id = t.trx_mysql_thread_id where p.user like '{}\\_%'",
            self.database
        );
        self.count("command <> 'Sleep'") + self.ask(&transactions).parse::<u32>().expect("a number")
    }

    /// Waits until the connectors have nothing running or open: no statement, no transaction.
    pub fn wait_quiet(&self, within: Duration) {
        wait_until("nothing runs at the server", within, || self.busy() == 0);
    }

    /// Waits until a statement whose text holds `part` runs.
    pub fn wait_running(&self, part: &str) {
        let condition = format!("command <> 'Sleep' and info like '%{part}%'");
        wait_until("the statement runs at the server", PATIENCE, || self.count(&condition) > 0);
    }
}

impl Node<Place> {
    pub fn mysql(release: Release) -> Self {
        Self::with(shared(release).place(), super::Options::default())
    }
}

impl Person {
    /// Logs in by hand; the login name may be another than the person's.
    pub fn mysql(&self, login: &Login<'_>) -> Result<Wire, Told> {
        let user = if login.user.is_empty() { &self.name } else { login.user };
        let password = if login.password.is_empty() { &self.secret } else { login.password };
        let login = Login { user, password, ..login.clone() };
        Wire::login(self.port, &login).map_err(|refused| refused.0)
    }

    pub fn mysql_login(&self) -> Wire {
        self.mysql(&Login::default()).unwrap_or_else(|told| panic!("{} is not let in: {told:?}", self.name))
    }
}

/// Runs each of these tests on all servers: as `on_mariadb_10::NAME` and so on.
macro_rules! on_all_releases {
    ($($name:ident),* $(,)?) => {
        mod on_mariadb_10 {
            $(#[test] fn $name() { super::$name(crate::support::mysql::Release::Distribution); })*
        }
        mod on_mariadb_11 {
            $(#[test] fn $name() { super::$name(crate::support::mysql::Release::MariaDb11); })*
        }
        mod on_mysql_9 {
            $(#[test] fn $name() { super::$name(crate::support::mysql::Release::MySql9); })*
        }
    };
}
pub(crate) use on_all_releases;
