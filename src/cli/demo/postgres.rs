//! The real PostgreSQL server of the demo: found, made, started, filled.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::process::Command;

use crate::cli::demo::certificates::Authority;
use crate::cli::demo::psql::{Login, Psql};
use crate::cli::demo::stage::{Stage, failed, private_file, random_text};
use crate::cli::failure::{Failure, Outcome};

const START_WAIT: Duration = Duration::from_secs(60);
const DEBIAN: &str = "/usr/lib/postgresql";

/// Where PostgreSQL's programs are.
#[derive(Debug, Clone)]
pub struct Programs {
    folder: PathBuf,
    pub psql: PathBuf,
}

impl Programs {
    /// In the folder that is named, else the newest of Debian's, else on the PATH.
    pub fn find(named: Option<&Path>) -> Outcome<Self> {
        let folder = match named {
            Some(folder) => Some(folder.to_owned()).filter(|folder| has_server(folder)),
            None => debian(Path::new(DEBIAN)).or_else(|| on_path().into_iter().find(|path| has_server(path))),
        };
        let folder = folder.ok_or_else(|| {
            let place = named.map_or("here".to_owned(), |folder| format!("in {}", folder.display()));
            Failure::new(format!("there is no PostgreSQL server {place}: initdb and postgres are needed"))
                .hint("install it (apt install postgresql), or name its folder with --postgres-bin DIR")
        })?;
        let psql = std::iter::once(folder.clone())
            .chain(on_path())
            .map(|folder| folder.join("psql"))
            .find(|path| path.is_file())
            .ok_or_else(|| {
                Failure::new("psql is not there").hint("install it: apt install postgresql-client")
            })?;
        Ok(Self { folder, psql })
    }

    fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

fn has_server(folder: &Path) -> bool {
    folder.join("initdb").is_file() && folder.join("postgres").is_file()
}

fn debian(root: &Path) -> Option<PathBuf> {
    let versions = std::fs::read_dir(root).ok()?.filter_map(Result::ok);
    versions
        .filter_map(|entry| {
            let version: u32 = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .filter(|(_, folder)| has_server(folder))
        .max()
        .map(|(_, folder)| folder)
}

pub fn on_path() -> Vec<PathBuf> {
    std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default()
}

/// Level, login, password.
pub type Connectors = Vec<(&'static str, &'static str, String)>;

/// A running server.
pub struct Server {
    pub port: u16,
    pub version: String,
    /// Asks the server itself, past the proxy, as its superuser.
    pub superuser: Psql,
    pub connectors: Connectors,
}

/// Makes a database cluster and starts it: TLS only, SCRAM only, every statement in its log.
pub async fn start(stage: &mut Stage, programs: &Programs, authority: &Authority) -> Outcome<Server> {
    let home = stage.private_folder("postgres")?;
    let password = random_text()?;
    let signed = authority.sign("PostgreSQL of the demo")?;
    for (name, text) in
        [("password", &password), ("server.crt", &signed.certificate), ("server.key", &signed.key)]
    {
        private_file(&home.join(name), text)?;
        stage.hand_over(&home.join(name))?;
    }
    stage.hand_over(&home)?;
    make_cluster(stage, programs, &home).await?;
    let port = free_port()?;
    configure(&home, port)?;
    let mut command = Command::new(programs.program("postgres"));
    command.arg("-D").arg(home.join("data")).current_dir(&home);
    as_account(stage, &mut command);
    stage.start("postgres", &mut command, Signal::INT)?;
    let superuser = Psql::new(
        &programs.psql,
        Login {
            port,
            user: "postgres".to_owned(),
            password,
            database: "postgres".to_owned(),
            root_certificate: stage.path("ca.pem"),
        },
    );
    await_ready(stage, &superuser).await?;
    let version = superuser.value("SHOW server_version").await?;
    let connectors = fill(&superuser).await?;
    Ok(Server { port, version, superuser: superuser.at("shop"), connectors })
}

fn as_account(stage: &Stage, command: &mut Command) {
    for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("PG")) {
        command.env_remove(key);
    }
    command.env("LC_ALL", "C").env("TZ", "UTC");
    if let Some(account) = stage.account {
        command.uid(account.uid).gid(account.gid);
    }
}

async fn make_cluster(stage: &Stage, programs: &Programs, home: &Path) -> Outcome {
    let mut command = Command::new(programs.program("initdb"));
    command
        .arg("--pgdata")
        .arg(home.join("data"))
        .arg(format!("--pwfile={}", home.join("password").display()))
        .args(["--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"])
        .current_dir(home)
        .kill_on_drop(true);
    as_account(stage, &mut command);
    let made =
        command.output().await.map_err(|error| Failure::new(format!("initdb does not start: {error}")))?;
    match made.status.success() {
        true => Ok(()),
        false => Err(Failure::new(format!(
            "initdb failed: {}",
            String::from_utf8_lossy(&made.stderr).lines().last().unwrap_or_default()
        ))),
    }
}

fn configure(home: &Path, port: u16) -> Outcome {
    let settings = format!(
        "\nlisten_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = ''\n\
         ssl = on\nssl_cert_file = '{home}/server.crt'\nssl_key_file = '{home}/server.key'\n\
         password_encryption = 'scram-sha-256'\nmax_connections = 20\nshared_buffers = '16MB'\n\
         fsync = off\nlog_destination = 'stderr'\nlogging_collector = off\nlog_statement = 'all'\n\
         log_line_prefix = '%m [%p] app=%a '\nlog_timezone = 'UTC'\ntimezone = 'UTC'\n",
        home = home.display(),
    );
    let file = home.join("data/postgresql.conf");
    let mut text = std::fs::read_to_string(&file).map_err(|error| failed(&file, &error))?;
    text += &settings;
    // Written over, not anew: the file stays the server's own.
    std::fs::write(&file, text).map_err(|error| failed(&file, &error))?;
    let file = home.join("data/pg_hba.conf");
    std::fs::write(&file, "hostssl all all 127.0.0.1/32 scram-sha-256\n")
        .map_err(|error| failed(&file, &error))
}

async fn await_ready(stage: &mut Stage, superuser: &Psql) -> Outcome {
    let begun = Instant::now();
    loop {
        stage.all_run()?;
        match superuser.value("SELECT 1").await {
            Ok(_) => return Ok(()),
            Err(failure) if begun.elapsed() > START_WAIT => return Err(failure),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// What a session of somebody would show if it had left something behind.
const MY_SESSION: &str = "CREATE VIEW my_session AS SELECT
  pg_backend_pid() AS backend_pid, current_user::text AS role,
  (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()) AS temporary_tables,
  (SELECT count(*) FROM pg_prepared_statements) AS prepared_statements,
  current_setting('statement_timeout') AS statement_timeout,
  current_setting('shop.customer', true) AS shop_customer,
  (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())
    AS advisory_locks,
  (SELECT count(*) FROM pg_listening_channels()) AS listening_channels,
  pg_current_xact_id_if_assigned() IS NOT NULL AS open_transaction,
  (SELECT count(*) FROM product WHERE id = 99) AS uncommitted_row";

/// The database `shop`, and the connectors' roles with just the rights that they need.
async fn fill(superuser: &Psql) -> Outcome<Connectors> {
    let connectors =
        vec![("read", "tg_orders_read", random_text()?), ("read_write", "tg_orders_rw", random_text()?)];
    let mut roles = String::new();
    for (_, role, password) in &connectors {
        roles += &format!("CREATE ROLE {role} LOGIN NOINHERIT PASSWORD '{password}';\n");
    }
    superuser.script(&format!("SET log_statement = 'none';\n{roles}CREATE DATABASE shop;\n")).await?;
    let shop = superuser.at("shop");
    shop.script(&format!(
        "CREATE TABLE product (id int PRIMARY KEY, name text NOT NULL, price numeric(8, 2) NOT NULL);\n\
         INSERT INTO product VALUES (1, 'lamp', 39.90), (2, 'chair', 79.00), (3, 'table', 249.00);\n\
         {MY_SESSION};\n\
         CREATE ROLE auditor;\n\
         GRANT auditor TO tg_orders_rw;\n\
         GRANT SELECT ON product, my_session TO tg_orders_read, tg_orders_rw, auditor;\n\
         GRANT INSERT, UPDATE, DELETE ON product TO tg_orders_rw, auditor;\n"
    ))
    .await?;
    Ok(connectors)
}

/// A port that was free a moment ago.
pub fn free_port() -> Outcome<u16> {
    std::net::TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| Failure::new(format!("no port of 127.0.0.1 is free: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_is_taken() {
        let root = tempfile::tempdir().unwrap();
        for version in ["9", "15", "18", "common"] {
            let folder = root.path().join(version).join("bin");
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("initdb"), "").unwrap();
            if version != "18" {
                std::fs::write(folder.join("postgres"), "").unwrap();
            }
        }
        assert_eq!(debian(root.path()), Some(root.path().join("15/bin")));
        assert!(Programs::find(Some(root.path())).unwrap_err().hint.unwrap().contains("--postgres-bin"));
    }
}
