//! psql, as people run it: once for an answer, or as a session that stays open.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::unix::pipe;
use tokio::process::{Child, ChildStdin, Command};

use crate::cli::demo::say;
use crate::cli::failure::{Failure, Outcome};

/// Nothing in the demo takes longer, and what hangs is a failure.
const ANSWER_WAIT: Duration = Duration::from_secs(30);

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

/// What one run printed.
pub struct Printed {
    pub ok: bool,
    pub out: String,
    pub err: String,
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
        let output = tokio::time::timeout(ANSWER_WAIT, command.output())
            .await
            .map_err(|_| Failure::new("psql did not end"))?
            .map_err(|error| Failure::new(format!("psql does not start: {error}")))?;
        Ok(Printed {
            ok: output.status.success(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
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
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child =
            command.spawn().map_err(|error| Failure::new(format!("psql does not start: {error}")))?;
        if let Some(mut stdin) = child.stdin.take() {
            // Fails where psql has ended already; then its own words say why.
            let _ = stdin.write_all(sql.as_bytes()).await;
        }
        let output = tokio::time::timeout(ANSWER_WAIT, child.wait_with_output())
            .await
            .map_err(|_| Failure::new("psql did not end"))?
            .map_err(|error| Failure::new(format!("psql broke off: {error}")))?;
        match output.status.success() {
            true => Ok(()),
            false => {
                Err(Failure::new(format!("psql failed: {}", String::from_utf8_lossy(&output.stderr).trim())))
            }
        }
    }

    /// A session that stays open. What psql says to stdout and stderr comes as one stream, as on a
    /// terminal.
    pub fn open(&self, who: &str) -> Outcome<Session> {
        let broken = |error: std::io::Error| Failure::new(format!("psql does not start: {error}"));
        let (reader, writer) = std::io::pipe().map_err(broken)?;
        let mut command = self.command();
        command.stdin(Stdio::piped()).stdout(writer.try_clone().map_err(broken)?).stderr(writer);
        let mut child = command.spawn().map_err(broken)?;
        // Our copies of the pipe's writing end are in there: with them, the stream would never end.
        drop(command);
        let reader = pipe::Receiver::from_owned_fd(reader.into()).map_err(broken)?;
        let stdin = child.stdin.take();
        Ok(Session {
            prompt: format!("{who}=>"),
            child,
            stdin,
            output: BufReader::new(reader).lines(),
            asked: 0,
            sent: Vec::new(),
        })
    }
}

/// One person's psql.
pub struct Session {
    prompt: String,
    child: Child,
    stdin: Option<ChildStdin>,
    output: Lines<BufReader<pipe::Receiver>>,
    asked: u32,
    /// The statements so far, for comparing them with the trail.
    pub sent: Vec<String>,
}

impl Session {
    /// Runs a statement, shows it and what came of it.
    pub async fn run(&mut self, sql: &str) -> Outcome<Vec<String>> {
        say::command(&self.prompt, sql)?;
        self.sent.push(sql.to_owned());
        let lines = self.ask(sql).await?;
        say::output(lines.iter().map(String::as_str))?;
        Ok(lines)
    }

    /// Runs something of psql's own, such as `\x on`, without showing it.
    pub async fn set(&mut self, command: &str) -> Outcome {
        self.ask(command).await.map(drop)
    }

    /// Runs a statement that nobody is shown, and that does not count as one of the story.
    pub async fn ask(&mut self, input: &str) -> Outcome<Vec<String>> {
        self.asked += 1;
        let end = format!("end of answer {}", self.asked);
        self.write(&format!("{input}\n\\echo {end}\n")).await?;
        let mut lines = Vec::new();
        loop {
            match self.line().await? {
                Some(line) if line == end => break,
                Some(line) => lines.push(line),
                None => {
                    let said = lines.join(" / ");
                    return Err(Failure::new(format!("{} psql ended: {said}", self.prompt)));
                }
            }
        }
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        Ok(lines)
    }

    /// Sends a statement and does not wait for what comes of it.
    pub async fn begin(&mut self, sql: &str) -> Outcome {
        say::command(&self.prompt, sql)?;
        self.sent.push(sql.to_owned());
        self.write(&format!("{sql}\n")).await
    }

    /// Everything that psql says until it ends by itself.
    pub async fn last_words(&mut self) -> Outcome<Vec<String>> {
        let mut lines = Vec::new();
        while let Some(line) = self.line().await? {
            lines.push(line);
        }
        self.ended().await?;
        Ok(lines)
    }

    /// Leaves without tidying up; gives the statements of the session.
    pub async fn leave(mut self) -> Outcome<Vec<String>> {
        say::command(&self.prompt, "\\q")?;
        self.write("\\q\n").await?;
        while self.line().await?.is_some() {}
        self.ended().await?;
        Ok(self.sent)
    }

    /// The same, not shown.
    pub async fn leave_quietly(mut self) -> Outcome {
        self.stdin = None;
        while self.line().await?.is_some() {}
        self.ended().await
    }

    async fn ended(&mut self) -> Outcome {
        self.stdin = None;
        tokio::time::timeout(ANSWER_WAIT, self.child.wait())
            .await
            .map_err(|_| Failure::new("psql did not end"))?
            .map(drop)
            .map_err(|error| Failure::new(format!("psql was lost: {error}")))
    }

    async fn write(&mut self, text: &str) -> Outcome {
        let stdin = self.stdin.as_mut().ok_or_else(|| Failure::new("psql has been left"))?;
        stdin
            .write_all(text.as_bytes())
            .await
            .map_err(|error| Failure::new(format!("{} psql does not listen: {error}", self.prompt)))
    }

    async fn line(&mut self) -> Outcome<Option<String>> {
        tokio::time::timeout(ANSWER_WAIT, self.output.next_line())
            .await
            .map_err(|_| Failure::new(format!("{} psql gave no answer", self.prompt)))?
            .map_err(|error| Failure::new(format!("{} psql cannot be read: {error}", self.prompt)))
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
