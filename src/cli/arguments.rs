//! The command line (design 1.4). Passwords are never arguments: other users of a machine see those.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::cli::time::{parse_duration, parse_future, parse_past, parse_time};
use crate::model::{AccessLevel, Name, Time};

/// A database access proxy: people log in as themselves, time-boxed grants open the way.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, max_term_width = 100)]
pub struct Arguments {
    #[command(flatten)]
    pub place: Place,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Clone, Args)]
pub struct Place {
    /// The admin socket; without it the node file says where it is.
    #[arg(long, global = true, env = "TIDEGATE_SOCKET", value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// The node file; without it ./tidegate.toml, then /etc/tidegate/tidegate.toml.
    #[arg(long, global = true, env = "TIDEGATE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON, for programs.
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the proxy.
    Serve,
    /// Check the node file, and resource files, without a server.
    Check {
        #[arg(value_name = "RESOURCES")]
        files: Vec<PathBuf>,
    },
    /// Read the node file and the certificates again, without dropping a session.
    Reload,
    /// What the node is doing.
    Status,
    /// Make the resources what the files say: shows the difference, then applies it.
    Apply {
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Show the difference and change nothing.
        #[arg(long)]
        dry_run: bool,
        /// Also remove what the files do not name.
        #[arg(long)]
        prune: bool,
    },
    /// Print the resources as a resource file.
    Export,
    /// Copy the store, consistently, while it is in use.
    Backup { file: PathBuf },
    /// Databases behind the proxy.
    #[command(subcommand)]
    Target(TargetCommand),
    /// People and programs.
    #[command(subcommand)]
    User(UserCommand),
    /// The secrets that users log in with.
    #[command(subcommand)]
    Credential(CredentialCommand),
    /// Who may go where, until when.
    #[command(subcommand)]
    Grant(GrantCommand),
    /// Who is connected, and who was.
    #[command(subcommand)]
    Session(SessionCommand),
    /// What was done.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Print the ready lines with which clients reach a target.
    Connect {
        target: Name,
        /// Who will log in.
        #[arg(long)]
        user: Option<Name>,
        /// The access level to ask for.
        #[arg(long)]
        level: Option<AccessLevel>,
        #[arg(long)]
        database: Option<String>,
    },
    /// Why a login would be let in, or not.
    Explain {
        #[arg(long)]
        user: Name,
        #[arg(long)]
        target: Name,
        #[arg(long)]
        level: Option<AccessLevel>,
        #[arg(long)]
        database: Option<String>,
        /// Where the client comes from.
        #[arg(long, value_name = "ADDRESS")]
        from: Option<IpAddr>,
        /// When: a time, or a duration from now.
        #[arg(long, value_name = "TIME", value_parser = parse_future)]
        at: Option<Time>,
        /// One request of Elasticsearch's, OpenSearch's or RabbitMQ's API: 'POST /_msearch'.
        #[arg(long, value_name = "METHOD TARGET", conflicts_with = "database")]
        request: Option<String>,
        /// The file with the request's body.
        #[arg(long, value_name = "FILE", requires = "request")]
        body: Option<PathBuf>,
    },
    /// See it work, on a real database server in a temporary folder.
    Demo(DemoArguments),
}

#[derive(Debug, Args)]
pub struct DemoArguments {
    /// Run through and stop, instead of staying up for you to connect.
    #[arg(long)]
    pub once: bool,
    /// The server that the story is told on.
    #[arg(long, value_enum, default_value_t = DemoTarget::Postgres)]
    pub target: DemoTarget,
    /// The folder of initdb, postgres and psql.
    #[arg(long, value_name = "DIR")]
    pub postgres_bin: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DemoTarget {
    Postgres,
    Mariadb,
}

#[derive(Debug, Subcommand)]
pub enum TargetCommand {
    List,
    Show {
        name: Name,
    },
    /// Cut the target's sessions and let nobody in until it is resumed.
    Suspend {
        name: Name,
        #[arg(long)]
        reason: String,
    },
    /// Let people in again.
    Resume {
        name: Name,
        /// Only this level, which an alarm suspended.
        #[arg(long)]
        level: Option<AccessLevel>,
    },
    /// Connect at each level and look at what the connector's rights allow.
    Check {
        name: Name,
        /// Print only the SQL that mends what was found.
        #[arg(long)]
        sql: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum UserCommand {
    List,
    Show {
        name: Name,
    },
    Add {
        name: Name,
        /// May be repeated.
        #[arg(long = "group", value_name = "GROUP")]
        groups: Vec<Name>,
    },
    /// Remove a user and every credential of theirs; their sessions are cut.
    Remove {
        name: Name,
    },
}

#[derive(Debug, Subcommand)]
pub enum CredentialCommand {
    /// Make a secret. It is printed once, alone on stdout, and kept nowhere.
    Issue {
        #[arg(long)]
        user: Name,
        /// How long it is good for, such as 8h.
        #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
        seconds: u64,
        /// Write the secret to a new file that only you can read, instead.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    List,
    /// End a credential; its sessions are cut.
    Revoke {
        id: String,
        #[arg(long)]
        reason: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum GrantCommand {
    Create(Box<GrantArguments>),
    List {
        /// Those that have ended too.
        #[arg(long)]
        all: bool,
    },
    Show {
        /// Its id, or its name.
        id: String,
    },
    /// End a grant; its sessions are cut.
    Revoke {
        id: String,
        #[arg(long)]
        reason: Option<String>,
    },
    /// Let a grant end later.
    Extend {
        id: String,
        /// How much later, such as 1h.
        #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
        seconds: u64,
    },
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("subject").required(true)))]
#[command(group(clap::ArgGroup::new("end").required(true)))]
pub struct GrantArguments {
    #[arg(long, group = "subject")]
    pub user: Option<Name>,
    #[arg(long, group = "subject")]
    pub group: Option<Name>,
    #[arg(long)]
    pub target: Name,
    #[arg(long)]
    pub level: AccessLevel,
    /// How long, such as 2h.
    #[arg(long = "for", group = "end", value_name = "DURATION", value_parser = parse_duration)]
    pub seconds: Option<u64>,
    /// Until when, such as 2026-11-22T18:00:00Z.
    #[arg(long, group = "end", value_name = "TIME", value_parser = parse_time)]
    pub until: Option<Time>,
    /// From when: a time, or a duration from now. Without it: at once.
    #[arg(long, value_name = "TIME", value_parser = parse_future)]
    pub from: Option<Time>,
    /// May be repeated; '*' is all. Without it: the target's default one.
    #[arg(long = "database", value_name = "DATABASE")]
    pub databases: Vec<String>,
    /// Where the client may come from, such as 10.0.0.0/8. May be repeated.
    #[arg(long = "cidr", value_name = "CIDR")]
    pub cidrs: Vec<ipnet::IpNet>,
    /// How many sessions at once, all people together.
    #[arg(long, value_name = "N")]
    pub sessions: Option<u32>,
    #[arg(long)]
    pub reason: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum SessionCommand {
    List {
        /// Those of the history too.
        #[arg(long)]
        all: bool,
    },
    Show {
        id: String,
    },
    /// Cut a session.
    Kill {
        id: String,
        #[arg(long)]
        reason: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// The last lines, and with -f those to come.
    Tail {
        #[arg(short, long)]
        follow: bool,
        #[arg(short = 'n', long, default_value_t = 20, value_name = "N")]
        lines: usize,
    },
    /// Lines that match everything that is asked for, oldest first.
    Search(Box<SearchArguments>),
    /// Check the trail's chain from its first line to its last.
    Verify,
}

#[derive(Debug, Args)]
pub struct SearchArguments {
    #[arg(long)]
    pub user: Option<String>,
    #[arg(long)]
    pub session: Option<String>,
    #[arg(long)]
    pub target: Option<String>,
    /// Such as statement, result, login_refused, session_end, admin.
    #[arg(long)]
    pub event: Option<String>,
    /// A table that the statement reads or writes, with or without its schema.
    #[arg(long)]
    pub table: Option<String>,
    /// Such as SELECT, DELETE, COPY; or unparsed, or skipped.
    #[arg(long)]
    pub verb: Option<String>,
    /// A part of a statement.
    #[arg(long)]
    pub text: Option<String>,
    /// A time, or so long ago, such as 15m.
    #[arg(long, value_name = "TIME", value_parser = parse_past)]
    pub since: Option<Time>,
    /// A time, or so long ago.
    #[arg(long, value_name = "TIME", value_parser = parse_past)]
    pub until: Option<Time>,
    /// The most lines.
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn refused(line: &str) -> String {
        Arguments::try_parse_from(line.split(' ')).expect_err(line).to_string()
    }

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_grant_needs_one_subject_and_one_end() {
        let line = "tidegate grant create --target orders --level read";
        assert!(Arguments::try_parse_from(format!("{line} --user alice --for 2h").split(' ')).is_ok());
        assert!(
            Arguments::try_parse_from(format!("{line} --group x --until 2026-11-22T18:00:00Z").split(' '))
                .is_ok()
        );
        assert!(refused(&format!("{line} --for 2h")).contains("--user"));
        assert!(refused(&format!("{line} --user a --group b --for 2h")).contains("cannot be used with"));
        assert!(refused(&format!("{line} --user a")).contains("--for"));
        assert!(refused(&format!("{line} --user a --for 2")).contains("is no duration"));
    }

    #[test]
    fn global_options_may_come_last() {
        let line = "tidegate session list --json --socket a.sock";
        let parsed = Arguments::try_parse_from(line.split(' ')).unwrap();
        assert!(parsed.place.json);
        assert_eq!(parsed.place.socket, Some("a.sock".into()));
    }
}
