//! A command-line client, as people run it: once for an answer, or as a session that stays open.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::unix::pipe;
use tokio::process::{Child, ChildStdin, Command};

use crate::cli::demo::say;
use crate::cli::failure::{Failure, Outcome};

/// Nothing in the demo takes longer, and what hangs is a failure.
const ANSWER_WAIT: Duration = Duration::from_secs(30);

/// What one run printed.
pub struct Printed {
    pub ok: bool,
    pub out: String,
    pub err: String,
}

pub async fn run(name: &str, mut command: Command) -> Outcome<Printed> {
    let output = tokio::time::timeout(ANSWER_WAIT, command.output())
        .await
        .map_err(|_| Failure::new(format!("{name} did not end")))?
        .map_err(|error| Failure::new(format!("{name} does not start: {error}")))?;
    Ok(Printed {
        ok: output.status.success(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Runs what it is given by way of stdin: it may hold passwords, which must not be arguments.
pub async fn feed(name: &str, mut command: Command, sql: &str) -> Outcome {
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child =
        command.spawn().map_err(|error| Failure::new(format!("{name} does not start: {error}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        // Fails where it has ended already; then its own words say why.
        let _ = stdin.write_all(sql.as_bytes()).await;
    }
    let output = tokio::time::timeout(ANSWER_WAIT, child.wait_with_output())
        .await
        .map_err(|_| Failure::new(format!("{name} did not end")))?
        .map_err(|error| Failure::new(format!("{name} broke off: {error}")))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            Err(Failure::new(format!("{name} failed: {}", String::from_utf8_lossy(&output.stderr).trim())))
        }
    }
}

/// One person's client.
pub struct Session {
    name: &'static str,
    prompt: String,
    /// What makes the client print a line of ours.
    echo: &'static str,
    child: Child,
    stdin: Option<ChildStdin>,
    output: Lines<BufReader<pipe::Receiver>>,
    asked: u32,
    /// The statements so far, for comparing them with the trail.
    pub sent: Vec<String>,
}

impl Session {
    /// What the client says to stdout and stderr comes as one stream, as on a terminal.
    pub fn open(
        name: &'static str,
        mut command: Command,
        prompt: String,
        echo: &'static str,
    ) -> Outcome<Self> {
        let broken = |error: std::io::Error| Failure::new(format!("{name} does not start: {error}"));
        let (reader, writer) = std::io::pipe().map_err(broken)?;
        command.stdin(Stdio::piped()).stdout(writer.try_clone().map_err(broken)?).stderr(writer);
        let mut child = command.spawn().map_err(broken)?;
        // Our copies of the pipe's writing end are in there: with them, the stream would never end.
        drop(command);
        let reader = pipe::Receiver::from_owned_fd(reader.into()).map_err(broken)?;
        let stdin = child.stdin.take();
        let output = BufReader::new(reader).lines();
        Ok(Self { name, prompt, echo, child, stdin, output, asked: 0, sent: Vec::new() })
    }

    /// Runs a statement, shows it and what came of it.
    pub async fn run(&mut self, sql: &str) -> Outcome<Vec<String>> {
        say::command(&self.prompt, sql)?;
        self.sent.push(sql.to_owned());
        let lines = self.ask(sql).await?;
        say::output(lines.iter().map(String::as_str))?;
        Ok(lines)
    }

    /// Runs something of the client's own, such as `\x on`, without showing it.
    pub async fn set(&mut self, command: &str) -> Outcome {
        self.ask(command).await.map(drop)
    }

    /// Runs a statement that nobody is shown, and that does not count as one of the story.
    pub async fn ask(&mut self, input: &str) -> Outcome<Vec<String>> {
        self.asked += 1;
        let end = format!("end of answer {}", self.asked);
        self.write(&format!("{input}\n{} {end}\n", self.echo)).await?;
        let mut lines = Vec::new();
        loop {
            match self.line().await? {
                Some(line) if line == end => break,
                Some(line) => lines.push(line),
                None => {
                    let said = lines.join(" / ");
                    return Err(Failure::new(format!("{} {} ended: {said}", self.prompt, self.name)));
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

    /// Everything that the client says until it ends by itself.
    pub async fn last_words(&mut self) -> Outcome<Vec<String>> {
        let mut lines = Vec::new();
        while let Some(line) = self.line().await? {
            lines.push(line);
        }
        self.ended().await?;
        Ok(lines)
    }

    /// What came of what was begun, from a client that goes on after an error; then leaves.
    pub async fn last_answer(mut self) -> Outcome<Vec<String>> {
        let lines = self.ask("").await?;
        self.leave_quietly().await?;
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
            .map_err(|_| Failure::new(format!("{} did not end", self.name)))?
            .map(drop)
            .map_err(|error| Failure::new(format!("{} was lost: {error}", self.name)))
    }

    async fn write(&mut self, text: &str) -> Outcome {
        let stdin =
            self.stdin.as_mut().ok_or_else(|| Failure::new(format!("{} has been left", self.name)))?;
        stdin
            .write_all(text.as_bytes())
            .await
            .map_err(|error| Failure::new(format!("{} {} does not listen: {error}", self.prompt, self.name)))
    }

    async fn line(&mut self) -> Outcome<Option<String>> {
        tokio::time::timeout(ANSWER_WAIT, self.output.next_line())
            .await
            .map_err(|_| Failure::new(format!("{} {} gave no answer", self.prompt, self.name)))?
            .map_err(|error| Failure::new(format!("{} {} cannot be read: {error}", self.prompt, self.name)))
    }
}
