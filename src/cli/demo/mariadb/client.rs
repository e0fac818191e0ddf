//! The `mariadb` command line, as people run it.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::cli::demo::session::{self, Printed, Session};
use crate::cli::failure::{Failure, Outcome};

const NAME: &str = "mariadb";

/// Where to and as whom.
#[derive(Clone)]
pub enum Way {
    /// The superuser, on this machine.
    Socket(PathBuf),
    Tcp {
        port: u16,
        user: String,
        password: String,
        root_certificate: PathBuf,
    },
}

#[derive(Clone)]
pub struct Client {
    program: PathBuf,
    way: Way,
}

impl Client {
    pub fn new(program: &Path, way: Way) -> Self {
        Self { program: program.to_owned(), way }
    }

    /// The password is in the environment, where only we can see it, never in an argument.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        for (key, _) in std::env::vars_os().filter(|(key, _)| super::is_ours(&key.to_string_lossy())) {
            command.env_remove(key);
        }
        command.arg("--no-defaults");
        match &self.way {
            Way::Socket(socket) => {
                command.arg(format!("--socket={}", socket.display())).arg("--user=root");
            }
            Way::Tcp { port, user, password, root_certificate } => {
                command
                    .args([
                        "--protocol=TCP",
                        "--host=localhost",
                        "--ssl-verify-server-cert",
                        "--database=shop",
                    ])
                    .arg(format!("--port={port}"))
                    .arg(format!("--user={user}"))
                    .arg(format!("--ssl-ca={}", root_certificate.display()))
                    .env("MYSQL_PWD", password);
            }
        }
        command
            .args(["--default-character-set=utf8mb4", "--connect-timeout=20"])
            .env("HOME", "/nonexistent")
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
        let printed = self.run(&["--batch", "--skip-column-names", "--execute", sql]).await?;
        match printed.ok {
            true => Ok(printed.out.trim().to_owned()),
            false => Err(Failure::new(format!("{NAME} failed: {}", printed.err.trim()))),
        }
    }

    /// Statements by way of stdin: they may hold passwords, which must not be arguments.
    pub async fn script(&self, sql: &str) -> Outcome {
        session::feed(NAME, self.command(), sql).await
    }

    /// A session that stays open, also after an error.
    pub fn open(&self, who: &str) -> Outcome<Session> {
        let mut command = self.command();
        command.args(["--force", "--unbuffered", "--table", "--skip-reconnect", "--silent"]);
        Session::open(NAME, command, format!("{who}>"), "\\! echo")
    }
}

/// The fields of a row that ends in `\G`: `name: value`.
pub fn vertical(lines: &[String]) -> Vec<(String, String)> {
    lines
        .iter()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vertical_rows_are_read() {
        let lines = ["*** 1. row ***", "   connection: 7", "     customer: NULL"].map(str::to_owned);
        assert_eq!(
            vertical(&lines),
            [("connection", "7"), ("customer", "NULL")].map(|(a, b)| (a.to_owned(), b.to_owned()))
        );
    }
}
