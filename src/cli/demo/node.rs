//! Tidegate itself in the demo: its files, `serve` as a process, and commands as people type them.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::process::Command;

use crate::cli::demo::certificates::Authority;
use crate::cli::demo::postgres::{Connectors, free_port};
use crate::cli::demo::psql::{Login, Psql};
use crate::cli::demo::say;
use crate::cli::demo::stage::{Stage, failed, private_file, public_file};
use crate::cli::failure::{Failure, Outcome};

const START_WAIT: Duration = Duration::from_secs(30);
const COMMAND_WAIT: Duration = Duration::from_secs(60);

/// The running proxy.
pub struct Node {
    pub program: PathBuf,
    pub config: PathBuf,
    pub port: u16,
    protocol: &'static str,
    pub root_certificate: PathBuf,
    /// Where people's secrets are written.
    people: PathBuf,
    /// Where commands are run.
    folder: PathBuf,
}

/// What a command printed.
pub struct Printed {
    pub ok: bool,
    pub out: String,
    pub err: String,
}

/// The database server that it stands in front of.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    pub protocol: &'static str,
    pub port: u16,
    pub connectors: &'a Connectors,
}

/// Writes the node file, the resource file and the secrets, and starts `tidegate serve`.
pub async fn start(stage: &mut Stage, authority: &Authority, target: Target<'_>) -> Outcome<Node> {
    let home = stage.private_folder("tidegate")?;
    let people = stage.private_folder("people")?;
    stage.private_folder("tidegate/tls")?;
    stage.private_folder("tidegate/secrets")?;
    let signed = authority.sign("Tidegate of the demo")?;
    let chain = signed.certificate + &authority.certificate;
    public_file(&home.join("tls/server.pem"), &chain)?;
    private_file(&home.join("tls/server.key"), &signed.key)?;
    public_file(&home.join("tls/ca.pem"), &authority.certificate)?;
    for (level, role, password) in target.connectors {
        let secret = serde_json::json!({"username": role, "password": password}).to_string();
        private_file(&home.join(format!("secrets/orders-{level}.json")), &secret)?;
    }
    let port = free_port()?;
    let config = home.join("tidegate.toml");
    private_file(&config, &node_file(target.protocol, port))?;
    private_file(&home.join("orders.toml"), &resource_file(target.protocol, target.port, 1))?;
    let program = std::env::current_exe()
        .map_err(|error| Failure::new(format!("this program does not know where it is: {error}")))?;
    let node = Node {
        program,
        config,
        port,
        protocol: target.protocol,
        root_certificate: stage.path("ca.pem"),
        people,
        folder: stage.folder.clone(),
    };
    let mut serve = node.command(&["serve"]);
    stage.start("tidegate", &mut serve, Signal::TERM)?;
    let begun = Instant::now();
    while !node.quietly(&["status"]).await?.ok {
        stage.all_run()?;
        if begun.elapsed() > START_WAIT {
            return Err(Failure::new("tidegate serve does not answer on its admin socket"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(node)
}

fn node_file(protocol: &str, port: u16) -> String {
    format!(
        "[[listener]]\nname = \"shop\"\naddress = \"127.0.0.1:{port}\"\nprotocol = \"{protocol}\"\n\
         target = \"orders\"\ntls = \"require\"\n\n\
         [tls]\ncertificate = \"tls/server.pem\"\nkey = \"tls/server.key\"\n\n\
         [limits]\ndrain_seconds = 2\n"
    )
}

/// With one pooled connection for each level, two people must get the same one.
fn resource_file(protocol: &str, server_port: u16, connections: u32) -> String {
    format!(
        "[[target]]\nname = \"orders\"\nprotocol = \"{protocol}\"\naddress = \"127.0.0.1:{server_port}\"\n\
         database = \"shop\"\ntls = \"verify-full\"\ntls_ca = \"tls/ca.pem\"\n\
         details = \"The shop's orders. Questions: #data\"\n\n\
         [target.pool]\nsize_max = {connections}\n\n\
         [target.connector.read]\nsecret = \"file:orders-read.json\"\n\n\
         [target.connector.read_write]\nsecret = \"file:orders-read_write.json\"\n\n\
         [[user]]\nname = \"alice\"\ngroups = [\"backend\"]\n\n\
         [[user]]\nname = \"bob\"\ngroups = [\"backend\"]\n"
    )
}

impl Node {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env_remove("TIDEGATE_SOCKET")
            .env("TIDEGATE_CONFIG", &self.config)
            .env("NO_COLOR", "1")
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .process_group(0)
            .kill_on_drop(true);
        command
    }

    pub async fn quietly(&self, arguments: &[&str]) -> Outcome<Printed> {
        let output = tokio::time::timeout(COMMAND_WAIT, self.command(arguments).output())
            .await
            .map_err(|_| Failure::new(format!("tidegate {} did not end", arguments.join(" "))))?
            .map_err(|error| Failure::new(format!("tidegate does not start: {error}")))?;
        Ok(Printed {
            ok: output.status.success(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Shows a command and runs it; it must succeed.
    pub async fn run(&self, arguments: &[&str]) -> Outcome<Printed> {
        say::command("$", &typed(arguments))?;
        let printed = self.quietly(arguments).await?;
        say::output(printed.err.lines())?;
        say::output(printed.out.lines())?;
        say::expect(printed.ok, &format!("tidegate {} to succeed", arguments.join(" ")), printed.err.trim())?;
        Ok(printed)
    }

    /// Says where it runs, makes the target known and gives two people credentials.
    pub async fn introduce(&self, stage: &Stage) -> Outcome {
        say::line(&format!(
            "Tidegate runs on 127.0.0.1:{} with its store, its trail and its secrets in {}.",
            self.port,
            stage.path("tidegate").display()
        ))?;
        say::command("$", &format!("cd {}", stage.folder.display()))?;
        say::command("$", &format!("export TIDEGATE_CONFIG={}", self.config.display()))?;
        self.run(&["apply", "tidegate/orders.toml"]).await?;
        for user in ["alice", "bob"] {
            let secret = format!("people/{user}.secret");
            self.run(&["credential", "issue", "--user", user, "--for", "8h", "--out", &secret]).await?;
        }
        Ok(())
    }

    /// Creates a grant and gives its id.
    pub async fn grant(&self, user: &str, level: &str, duration: &str) -> Outcome<String> {
        let of = ["--user", user, "--target", "orders", "--level", level, "--for", duration];
        let printed = self.run(&[&["grant", "create"], &of[..]].concat()).await?;
        let id = printed.out.split_whitespace().find(|word| word.starts_with("g-"));
        id.map(str::to_owned).ok_or_else(|| Failure::new("grant create printed no id"))
    }

    /// What `connect` prints for alice.
    pub async fn ready_lines(&self) -> Outcome {
        let lines = self.quietly(&["connect", "orders", "--user", "alice"]).await?;
        say::expect(lines.ok, "tidegate connect to succeed", lines.err.trim())?;
        say::command("$", "tidegate connect orders --user alice")?;
        say::ready(lines.out.trim_end())
    }

    /// Lines for who looks after it.
    pub fn administer(&self) -> Outcome {
        say::line("\nAnd as the administrator:")?;
        say::ready(&format!(
            "export TIDEGATE_CONFIG={}\n{program} session list\n{program} audit tail -f\n{program} grant list",
            self.config.display(),
            program = self.program.display(),
        ))
    }

    /// JSON lines of the trail.
    pub async fn trail(&self, arguments: &[&str]) -> Outcome<Vec<serde_json::Value>> {
        let all = [&["audit", "search", "--json"], arguments].concat();
        let printed = self.quietly(&all).await?;
        say::expect(printed.ok, "the trail to be readable", printed.err.trim())?;
        printed
            .out
            .lines()
            .map(|line| {
                serde_json::from_str(line)
                    .map_err(|error| Failure::new(format!("a trail line is no JSON: {error}")))
            })
            .collect()
    }

    /// Lets the resource file say that the pool may have more connections.
    pub fn widen(&self, server_port: u16) -> Outcome {
        let file = self.config.with_file_name("orders.toml");
        std::fs::write(&file, resource_file(self.protocol, server_port, 5))
            .map_err(|error| failed(&file, &error))
    }

    /// What a person was issued.
    pub fn secret(&self, user: &str) -> Outcome<String> {
        let path = self.people.join(format!("{user}.secret"));
        std::fs::read_to_string(&path)
            .map(|text| text.trim().to_owned())
            .map_err(|error| failed(&path, &error))
    }

    /// A file for a person alone.
    pub fn private_file(&self, name: &str, text: &str) -> Outcome<PathBuf> {
        let path = self.people.join(name);
        private_file(&path, text)?;
        Ok(path)
    }

    /// A psql of a person, by way of the proxy.
    pub fn psql(&self, program: &Path, user: &str) -> Outcome<Psql> {
        let password = self.secret(user)?;
        Ok(Psql::new(
            program,
            Login {
                port: self.port,
                user: user.to_owned(),
                password,
                database: "shop".to_owned(),
                root_certificate: self.root_certificate.clone(),
            },
        ))
    }

    /// The connection string of libpq for a person.
    pub fn connection(&self, user: &str) -> String {
        format!(
            "host=localhost port={} dbname=shop user={user} sslmode=verify-full sslrootcert={}",
            self.port,
            self.root_certificate.display()
        )
    }

    /// A password file of libpq for a person, so that the ready line needs no typing.
    pub fn password_file(&self, user: &str) -> Outcome<PathBuf> {
        let secret = self.secret(user)?;
        self.private_file(&format!("{user}.pgpass"), &format!("*:{}:*:{user}:{secret}\n", self.port))
    }
}

/// As it would be typed.
fn typed(arguments: &[&str]) -> String {
    let mut line = "tidegate".to_owned();
    for argument in arguments {
        line.push(' ');
        match argument.contains([' ', '*', '$']) {
            true => line += &format!("'{argument}'"),
            false => line += argument,
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Known, NodeConfig, Resources, Surroundings, protocols};

    #[test]
    fn the_files_of_the_demo_are_right() {
        for protocol in protocols() {
            let folder = tempfile::tempdir().unwrap();
            let node = folder.path().join("tidegate.toml");
            std::fs::write(&node, node_file(protocol, 6432)).unwrap();
            NodeConfig::load(&node).unwrap();
            let resources = folder.path().join("orders.toml");
            std::fs::write(&resources, resource_file(protocol, 5432, 1)).unwrap();
            let known = Known::default();
            let around = Surroundings { protocols: protocols(), known: Some(&known), node: None };
            let read = Resources::load_with(&[resources], &around).unwrap();
            assert_eq!(read.targets[0].target.pool.size_max, 1);
            assert_eq!((read.targets.len(), read.users.len()), (1, 2));
        }
    }

    #[test]
    fn commands_are_shown_as_they_would_be_typed() {
        assert_eq!(
            typed(&["grant", "revoke", "g-1", "--reason", "too slow"]),
            "tidegate grant revoke g-1 --reason 'too slow'"
        );
    }
}
