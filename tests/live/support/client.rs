//! Clients as people use them: tokio-postgres and psql, with TLS and without.

use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Config, NoTls, SimpleQueryMessage};

use super::{PATIENCE, block, runtime, tls, wait_until};

pub type Error = tokio_postgres::Error;
/// Rows of text, as the simple protocol gives them.
pub type Rows = Vec<Vec<Option<String>>>;

pub fn config(port: u16, user: &str, password: &str, database: Option<&str>) -> Config {
    let mut config = Config::new();
    config
        .host("127.0.0.1")
        .port(port)
        .user(user)
        .password(password)
        .connect_timeout(Duration::from_secs(20));
    if let Some(database) = database {
        config.dbname(database);
    }
    config
}

/// A tokio-postgres client whose calls block.
pub struct Client {
    pub inner: Arc<tokio_postgres::Client>,
    shared: Arc<Shared>,
    connection: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    notifications: Mutex<Vec<(String, String)>>,
    end: OnceLock<Result<(), Told>>,
}

/// An error as the client was told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Empty where the connection broke without a word.
    pub code: String,
    pub message: String,
}

impl From<&Error> for Told {
    fn from(error: &Error) -> Self {
        match error.as_db_error() {
            Some(told) => Self { code: told.code().code().into(), message: told.message().into() },
            None => Self { code: String::new(), message: error.to_string() },
        }
    }
}

impl Client {
    /// With TLS where an authority to believe is given.
    pub fn connect(config: &Config, authority: Option<&tls::Authority>) -> Result<Self, Error> {
        let shared = Arc::new(Shared::default());
        let mut config = config.clone();
        block(async {
            match authority {
                Some(authority) => {
                    let connector = tls::Connector(tls::client_config(authority));
                    config.ssl_mode(tokio_postgres::config::SslMode::Require);
                    let (client, connection) = config.connect(connector).await?;
                    Ok(Self::spawn(client, connection, shared))
                }
                None => {
                    config.ssl_mode(tokio_postgres::config::SslMode::Disable);
                    let (client, connection) = config.connect(NoTls).await?;
                    Ok(Self::spawn(client, connection, shared))
                }
            }
        })
    }

    fn spawn<S, T>(
        client: tokio_postgres::Client,
        mut connection: tokio_postgres::Connection<S, T>,
        shared: Arc<Shared>,
    ) -> Self
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
        T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let kept = shared.clone();
        let connection = runtime().spawn(async move {
            let end = loop {
                match std::future::poll_fn(|cx| connection.poll_message(cx)).await {
                    Some(Ok(AsyncMessage::Notification(n))) => {
                        kept.notifications
                            .lock()
                            .expect("whole")
                            .push((n.channel().into(), n.payload().into()));
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => break Err(Told::from(&error)),
                    None => break Ok(()),
                }
            };
            let _ = kept.end.set(end);
        });
        Self { inner: Arc::new(client), shared, connection }
    }

    pub fn rows(&self, sql: &str) -> Result<Rows, Error> {
        block(rows(&self.inner, sql))
    }

    /// The first value of the first row, as text; empty for null.
    pub fn one(&self, sql: &str) -> String {
        let rows = self.rows(sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let row = rows.into_iter().next().unwrap_or_else(|| panic!("no row: {sql}"));
        row.into_iter().next().flatten().unwrap_or_default()
    }

    pub fn run(&self, sql: &str) {
        block(self.inner.batch_execute(sql)).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// The error that a statement must meet.
    pub fn told(&self, sql: &str) -> Told {
        match self.rows(sql) {
            Err(error) => Told::from(&error),
            Ok(rows) => panic!("{sql} gave {rows:?} and no error"),
        }
    }

    /// Runs a statement in the background.
    pub fn start(&self, sql: &str) -> Pending {
        let (client, sql) = (self.inner.clone(), sql.to_owned());
        Pending(runtime().spawn(async move { rows(&client, &sql).await }))
    }

    pub fn backend_pid(&self) -> String {
        self.one("select pg_backend_pid()")
    }

    pub fn notifications(&self) -> Vec<(String, String)> {
        self.shared.notifications.lock().expect("whole").clone()
    }

    /// What the client was told when the connection ended outside of an answer; waits for the end.
    pub fn end(&self) -> Result<(), Told> {
        wait_until("the client's connection ends", PATIENCE, || self.shared.end.get().is_some());
        self.shared.end.get().expect("just waited for").clone()
    }

    pub fn is_open(&self) -> bool {
        self.shared.end.get().is_none()
    }

    /// Says goodbye and waits until the socket is closed.
    pub fn close(self) {
        drop(self.inner);
        let _ = block(async { tokio::time::timeout(PATIENCE, self.connection).await });
    }
}

pub struct Pending(JoinHandle<Result<Rows, Error>>);

impl Pending {
    pub fn wait(self) -> Result<Rows, Error> {
        let done = block(async { tokio::time::timeout(PATIENCE, self.0).await });
        done.expect("an answer in time").expect("no panic")
    }

    pub fn told(self) -> Told {
        match self.wait() {
            Err(error) => Told::from(&error),
            Ok(rows) => panic!("{rows:?} and no error"),
        }
    }
}

async fn rows(client: &tokio_postgres::Client, sql: &str) -> Result<Rows, Error> {
    let messages = client.simple_query(sql).await?;
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect()),
        _ => None,
    });
    Ok(rows.collect())
}

pub fn code_of(error: &Error) -> &str {
    error.code().map_or("", SqlState::code)
}

/// Runs psql without any settings of the person who runs the tests. `conninfo` is a libpq string.
pub fn psql(conninfo: &str, password: &str, args: &[&str]) -> Output {
    psql_command(conninfo, password, args).output().expect("psql is installed: scripts/setup")
}

pub fn psql_command(conninfo: &str, password: &str, args: &[&str]) -> Command {
    let mut command = Command::new("psql");
    command
        .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-d", conninfo])
        .args(args)
        .env("PGPASSWORD", password)
        .env("PGCONNECT_TIMEOUT", "20")
        .stdin(Stdio::null());
    for name in
        ["PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGSSLMODE", "PGOPTIONS", "PGAPPNAME", "PGSERVICE"]
    {
        command.env_remove(name);
    }
    command
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
