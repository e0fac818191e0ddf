//! The real MariaDB server of the demo: found, made, started, filled.

pub mod client;
pub mod log;
pub mod story;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::process::Command;

use crate::cli::demo::certificates::Authority;
use crate::cli::demo::postgres::{Connectors, free_port, on_path};
use crate::cli::demo::stage::{Stage, private_file, random_text};
use crate::cli::failure::{Failure, Outcome};

use client::{Client, Way};

const START_WAIT: Duration = Duration::from_secs(60);

/// MariaDB's programs.
#[derive(Debug, Clone)]
pub struct Programs {
    server: PathBuf,
    install: PathBuf,
    pub client: PathBuf,
}

impl Programs {
    pub fn find() -> Outcome<Self> {
        let folders: Vec<_> = on_path().into_iter().chain(["/usr/sbin".into(), "/usr/bin".into()]).collect();
        let find = |name: &str| {
            let found = folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file());
            found.ok_or_else(|| {
                Failure::new(format!("{name} of MariaDB is not there"))
                    .hint("install it: apt install mariadb-server")
            })
        };
        Ok(Self { server: find("mariadbd")?, install: find("mariadb-install-db")?, client: find("mariadb")? })
    }
}

/// A running server.
pub struct Server {
    pub port: u16,
    pub version: String,
    /// Asks the server itself, past the proxy, as its superuser.
    pub superuser: Client,
    /// Every statement, by the server's own account.
    pub log: PathBuf,
    pub connectors: Connectors,
}

/// Makes a server's folder and starts it: TLS only, ed25519 only, every statement in its log.
pub async fn start(stage: &mut Stage, programs: &Programs, authority: &Authority) -> Outcome<Server> {
    let home = stage.private_folder("mariadb")?;
    let signed = authority.sign("MariaDB of the demo")?;
    for (name, text) in [("server.crt", &signed.certificate), ("server.key", &signed.key)] {
        private_file(&home.join(name), text)?;
        stage.hand_over(&home.join(name))?;
    }
    stage.hand_over(&home)?;
    install(stage, programs, &home).await?;
    let port = free_port()?;
    let (socket, log) = (home.join("socket"), home.join("statements.log"));
    let mut command = Command::new(&programs.server);
    let at = |name: &str, path: &Path| format!("--{name}={}", path.display());
    command
        .arg("--no-defaults")
        .arg(at("datadir", &home.join("data")))
        .arg(at("tmpdir", &home))
        .arg(at("socket", &socket))
        .arg(at("pid-file", &home.join("pid")))
        .arg(at("general-log-file", &log))
        .arg(at("ssl-cert", &home.join("server.crt")))
        .arg(at("ssl-key", &home.join("server.key")))
        .arg(format!("--port={port}"))
        .args(["--bind-address=127.0.0.1", "--require-secure-transport=ON", "--skip-name-resolve"])
        .args(["--plugin-load-add=auth_ed25519", "--general-log=ON", "--log-output=FILE"])
        // Where its own account of who is on which connection is.
        .arg("--performance-schema=ON")
        .args(["--innodb-buffer-pool-size=32M", "--innodb-flush-log-at-trx-commit=0", "--max-connections=30"])
        .current_dir(&home);
    as_account(stage, &mut command);
    stage.start("mariadb", &mut command, Signal::TERM)?;
    let superuser = Client::new(&programs.client, Way::Socket(socket));
    await_ready(stage, &superuser).await?;
    let version = superuser.value("SELECT VERSION()").await?;
    let connectors = fill(&superuser).await?;
    Ok(Server { port, version, superuser, log, connectors })
}

fn as_account(stage: &Stage, command: &mut Command) {
    for (key, _) in std::env::vars_os().filter(|(key, _)| is_ours(&key.to_string_lossy())) {
        command.env_remove(key);
    }
    command.env("LC_ALL", "C").env("TZ", "UTC").env("HOME", "/nonexistent");
    if let Some(account) = stage.account {
        command.uid(account.uid).gid(account.gid);
    }
}

/// What MariaDB's programs take for settings.
fn is_ours(key: &str) -> bool {
    key.starts_with("MYSQL_") || key.starts_with("MARIADB_")
}

async fn install(stage: &Stage, programs: &Programs, home: &Path) -> Outcome {
    let mut command = Command::new(&programs.install);
    command
        .arg("--no-defaults")
        .arg(format!("--datadir={}", home.join("data").display()))
        .args(["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"])
        .args(["--skip-log-bin", "--innodb-buffer-pool-size=32M"])
        .current_dir(home)
        .kill_on_drop(true);
    as_account(stage, &mut command);
    let made = command
        .output()
        .await
        .map_err(|error| Failure::new(format!("mariadb-install-db does not start: {error}")))?;
    match made.status.success() {
        true => Ok(()),
        false => Err(Failure::new(format!(
            "mariadb-install-db failed: {}",
            String::from_utf8_lossy(&made.stderr).lines().last().unwrap_or_default()
        ))),
    }
}

async fn await_ready(stage: &mut Stage, superuser: &Client) -> Outcome {
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
const MY_SESSION: &str = "CREATE PROCEDURE my_session() SQL SECURITY INVOKER BEGIN
  DECLARE notes, prepared INT DEFAULT 1;
  BEGIN
    DECLARE CONTINUE HANDLER FOR 1146 SET notes = 0;
    SELECT COUNT(*) INTO notes FROM note;
  END;
  BEGIN
    DECLARE CONTINUE HANDLER FOR 1243 SET prepared = 0;
    EXECUTE greeting;
  END;
  SELECT CONNECTION_ID() AS connection, CURRENT_USER() AS user, CURRENT_ROLE() AS role,
    notes AS temporary_tables, prepared AS prepared_statements, @customer AS customer,
    @@lock_wait_timeout AS lock_wait_timeout, IS_USED_LOCK('price list') = CONNECTION_ID() AS has_lock,
    @@in_transaction AS open_transaction, (SELECT COUNT(*) FROM product WHERE id = 99) AS uncommitted_row;
END";

/// The database `shop`, and the connectors' accounts with just the rights that they need.
async fn fill(superuser: &Client) -> Outcome<Connectors> {
    let connectors =
        vec![("read", "tg_orders_read", random_text()?), ("read_write", "tg_orders_rw", random_text()?)];
    // A log is no place for passwords.
    let mut text = String::from("SET sql_log_off = 1;\n");
    for (_, user, password) in &connectors {
        text += &format!(
            "CREATE USER {user}@'127.0.0.1' IDENTIFIED VIA ed25519 USING PASSWORD('{password}') REQUIRE SSL;\n"
        );
    }
    text += &format!(
        "SET sql_log_off = 0;\nCREATE DATABASE shop;\nUSE shop;\n\
         CREATE TABLE product (id INT PRIMARY KEY, name VARCHAR(50) NOT NULL, price DECIMAL(8, 2) NOT NULL);\n\
         INSERT INTO product VALUES (1, 'lamp', 39.90), (2, 'chair', 79.00), (3, 'table', 249.00);\n\
         delimiter //\n{MY_SESSION}//\ndelimiter ;\n\
         CREATE ROLE auditor;\n\
         GRANT auditor TO tg_orders_rw@'127.0.0.1';\n\
         GRANT SELECT ON shop.* TO auditor;\n\
         GRANT SELECT, EXECUTE ON shop.* TO tg_orders_read@'127.0.0.1';\n\
         GRANT SELECT, EXECUTE, INSERT, UPDATE, DELETE, CREATE TEMPORARY TABLES ON shop.* \
         TO tg_orders_rw@'127.0.0.1';\n"
    );
    superuser.script(&text).await?;
    Ok(connectors)
}
