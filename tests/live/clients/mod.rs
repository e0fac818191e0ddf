//! Real clients: each program runs directly at the server and through the proxy, in every way of
//! connecting that it knows, and must see the same.

mod drivers;
mod graphical;
mod lines;
mod mysql;
mod mysql_lines;
mod pgx_suite;
mod tools;

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::support::server::ROLE_PASSWORD;
use crate::support::{Node, Options, PATIENCE, Person, Server, text, wait_until};

/// How a client reaches a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Plain,
    /// `sslmode=verify-full` after an SSLRequest.
    Tls,
    /// `sslnegotiation=direct`: TLS from the first byte.
    DirectTls,
}

pub const ALL_MODES: &[Mode] = &[Mode::Plain, Mode::Tls, Mode::DirectTls];
/// For clients that know no `sslnegotiation=direct`.
pub const WITHOUT_DIRECT: &[Mode] = &[Mode::Plain, Mode::Tls];

/// Where the clients are; a missing one fails the tests and never skips them.
pub fn installed(path: &str) -> PathBuf {
    let Some(folder) = std::env::var_os("TIDEGATE_TEST_CLIENTS") else {
        panic!(
            "TIDEGATE_TEST_CLIENTS does not say where the clients are: run these tests with scripts/test live"
        );
    };
    let file = PathBuf::from(folder).join(path);
    assert!(file.exists(), "no {}: run scripts/setup", file.display());
    file
}

/// A file below `tests/clients`.
pub fn source(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(path)
}

/// Seconds after which a client that hangs is ended.
const CLIENT_SECONDS_MAX: &str = "420";

/// A program with nothing of the environment of who runs the tests that could change what it does.
pub fn client(program: impl Into<PathBuf>) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", CLIENT_SECONDS_MAX]).arg(program.into()).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if ["PG", "MYSQL", "MARIADB"].iter().any(|prefix| name_text.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command
}

/// One way to a database: around the proxy as the connector, or through it as a person.
pub struct Way {
    pub port: u16,
    pub user: String,
    pub password: String,
    pub database: String,
    authority: PathBuf,
    pub home: PathBuf,
}

impl Way {
    /// Around the proxy, as the role of this level.
    pub fn direct(node: &Node, level: &str) -> Self {
        Self {
            port: node.place.port,
            user: node.place.role(level),
            password: ROLE_PASSWORD.into(),
            ..Self::through(node, "", "")
        }
    }

    pub fn proxied(node: &Node, person: &Person) -> Self {
        Self::through(node, &person.name, &person.secret)
    }

    fn through(node: &Node, user: &str, password: &str) -> Self {
        Self {
            port: node.port,
            user: user.into(),
            password: password.into(),
            database: node.place.database.clone(),
            authority: node.folder.join("ca.pem"),
            home: node.folder.clone(),
        }
    }

    /// libpq's environment, which most drivers read.
    pub fn set(&self, mode: Mode, command: &mut Command) {
        command
            .env("HOME", &self.home)
            .env("PGHOST", "localhost")
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", &self.user)
            .env("PGPASSWORD", &self.password)
            .env("PGDATABASE", &self.database)
            .env("PGCONNECT_TIMEOUT", "30");
        match mode {
            Mode::Plain => command.env("PGSSLMODE", "disable"),
            Mode::Tls | Mode::DirectTls => {
                command.env("PGSSLMODE", "verify-full").env("PGSSLROOTCERT", &self.authority)
            }
        };
        if mode == Mode::DirectTls {
            command.env("PGSSLNEGOTIATION", "direct");
        }
    }

    /// The same as a connection string.
    pub fn conninfo(&self, mode: Mode) -> String {
        let Self { port, user, password, database, authority, .. } = self;
        let start = format!("host=localhost port={port} user={user} password='{password}' dbname={database}");
        match mode {
            Mode::Plain => format!("{start} sslmode=disable"),
            _ => format!("{start} sslmode=verify-full sslrootcert={}", authority.display()),
        }
    }

    pub fn run(&self, mode: Mode, mut command: Command) -> Output {
        self.set(mode, &mut command);
        command.output().expect("timeout is part of coreutils")
    }

    /// What a program prints, which must succeed.
    pub fn output(&self, mode: Mode, command: Command) -> String {
        let what = format!("{:?} {mode:?}", command.get_args().collect::<Vec<_>>());
        let output = self.run(mode, command);
        assert!(
            output.status.success(),
            "{what}: {}\n{}{}",
            output.status,
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout)
    }
}

/// A node and a person with as much right as the connector of the highest level.
pub fn node_and_admin(server: &'static Server) -> (Node, Person) {
    // A session that is never parked is told its server's process id, as drivers expect.
    let options = Options {
        pool: "size_max = 20\nwait_seconds_max = 30",
        log: "info",
        target: "park = \"never\"",
        ..Options::default()
    };
    let node = Node::with(server.place(), options);
    let alice = node.person("alice", "admin");
    (node, alice)
}

/// Runs the program once around the proxy and once through it in each mode: what it prints must be the
/// same, must be at least `lines`, and the proxy must get every connection back clean.
pub fn same_both_ways(server: &'static Server, modes: &[Mode], lines: usize, command: impl Fn() -> Command) {
    let (node, alice) = node_and_admin(server);
    let expected = Way::direct(&node, "admin").output(Mode::Plain, command());
    assert!(expected.lines().count() >= lines, "the program did too little:\n{expected}");
    for mode in modes {
        let seen = Way::proxied(&node, &alice).output(*mode, command());
        assert_same(&expected, &seen, *mode);
    }
    all_given_back(&node);
    assert!(node.events("statement").len() > 10 * modes.len(), "too few statements in the trail");
}

pub fn assert_same(expected: &str, seen: &str, mode: Mode) {
    for (number, (one, other)) in expected.lines().zip(seen.lines()).enumerate() {
        assert_eq!(one, other, "line {} differs through the proxy ({mode:?})", number + 1);
    }
    assert_eq!(expected.lines().count(), seen.lines().count(), "through the proxy ({mode:?}):\n{seen}");
}

/// Every session ends of itself, and no connection had to be thrown away.
pub fn all_given_back(node: &Node) {
    wait_until("all sessions have ended", PATIENCE, || {
        node.events("session_end").len() == node.events("session_start").len() && node.sessions().is_empty()
    });
    for end in node.events("session_end") {
        assert_eq!((&end["how"], &end["reused"]), (&"close".into(), &true.into()), "{end}");
    }
    node.place.wait_quiet(PATIENCE);
}
