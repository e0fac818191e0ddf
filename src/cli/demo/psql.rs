//! psql, as people run it: once for an answer, or as a session that stays open.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::cli::demo::session::{self, Printed, Session};
use crate::cli::failure::{Failure, Outcome};

const NAME: &str = "psql";

/// Where to and as whom.
#[derive(Clone)]
pub struct Login {
    pub port: u16,
    pub user: String,
    pub password: String,
    pub database: String,
    pub root_certificate: PathBuf,
}

#[derive(Clone)]
pub struct Psql {
    program: PathBuf,
    login: Login,
}

impl Psql {
    pub fn new(program: &Path, login: Login) -> Self {
        Self { program: program.to_owned(), login }
    }

    /// The same login at another database.
    pub fn at(&self, database: &str) -> Self {
        let mut other = self.clone();
        other.login.database = database.to_owned();
        other
    }

    /// The password is in the environment, where only we can see it, never in an argument.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("PG")) {
            command.env_remove(key);
        }
        command
            .args(["-X", "-P", "pager=off"])
            .env("PGHOST", "localhost")
            .env("PGPORT", self.login.port.to_string())
            .env("PGUSER", &self.login.user)
            .env("PGPASSWORD", &self.login.password)
            .env("PGDATABASE", &self.login.database)
            .env("PGSSLMODE", "verify-full")
            .env("PGSSLROOTCERT", &self.login.root_certificate)
            // Nothing of the user's own: a client certificate in ~/.postgresql would be used.
            .env("HOME", "/nonexistent")
            .env("PGSSLCERT", "/nonexistent/postgresql.crt")
            .env("PGCONNECT_TIMEOUT", "20")
            .env("PGCLIENTENCODING", "UTF8")
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .process_group(0)
            .kill_on_drop(true);
        command
    }

    pub async fn run(&self, arguments: &[&str]) -> Outcome<Printed> {
        let mut command = self.command();
        command.args(arguments);
        session::run(NAME, command).await
    }

    /// One value, nothing shown.
    pub async fn value(&self, sql: &str) -> Outcome<String> {
        let printed = self.run(&["-A", "-t", "-c", sql]).await?;
        match printed.ok {
            true => Ok(printed.out.trim().to_owned()),
            false => Err(Failure::new(format!("psql failed: {}", printed.err.trim()))),
        }
    }

    /// Statements by way of stdin: they may hold passwords, which must not be arguments.
    pub async fn script(&self, sql: &str) -> Outcome {
        let mut command = self.command();
        command.args(["-q", "-v", "ON_ERROR_STOP=1", "-f", "-"]);
        session::feed(NAME, command, sql).await
    }

    /// A session that stays open.
    pub fn open(&self, who: &str) -> Outcome<Session> {
        Session::open(NAME, self.command(), format!("{who}=>"), "\\echo")
    }
}

/// The fields of psql's expanded display: `name | value`.
pub fn expanded(lines: &[String]) -> Vec<(String, String)> {
    lines
        .iter()
        .filter_map(|line| line.split_once('|'))
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expanded_rows_are_read() {
        let lines = ["-[ RECORD 1 ]---+---", "backend_pid | 4711", "shop_customer | "].map(str::to_owned);
        assert_eq!(
            expanded(&lines),
            [("backend_pid", "4711"), ("shop_customer", "")].map(|(a, b)| (a.to_owned(), b.to_owned()))
        );
    }
}
