//! What people use with MySQL and MariaDB: drivers of four languages, the command line clients of three releases,
//! dumps, a load, and the own tests of Go's driver. Each runs directly at the server and through the proxy.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::{Mode, WITHOUT_DIRECT, client, installed, source};
use crate::support::mysql::{Place, Release, on_all_releases, shared};
use crate::support::server::ROLE_PASSWORD;
use crate::support::{Node, Options, PATIENCE, Person, field, text, tls, wait_until};

on_all_releases!(
    pymysql,
    mysql_connector_python,
    libmariadb,
    mysql2,
    connector_j,
    mariadb_connector_j,
    go_sql_driver,
    command_line_clients,
    command_line_clients_that_compress,
    ctrl_c_stops_the_statement,
    a_dump_is_the_same_and_comes_back,
    sysbench_runs_its_own_load,
    the_tests_of_go_s_driver_pass_as_they_do_directly,
);

/// One way to a database: around the proxy as the connector, or through it as a person.
struct Way {
    port: u16,
    user: String,
    password: String,
    database: String,
    folder: PathBuf,
}

impl Way {
    fn direct(node: &Node<Place>) -> Self {
        Self {
            port: node.place.port,
            user: node.place.role("admin"),
            password: ROLE_PASSWORD.into(),
            ..Self::through(node, "", "")
        }
    }

    fn proxied(node: &Node<Place>, person: &Person) -> Self {
        Self::through(node, &person.name, &person.secret)
    }

    fn through(node: &Node<Place>, user: &str, password: &str) -> Self {
        Self {
            port: node.port,
            user: user.into(),
            password: password.into(),
            database: node.place.database.clone(),
            folder: node.folder.clone(),
        }
    }

    /// In variables of our own, as there are none that all drivers read.
    fn set(&self, mode: Mode, command: &mut Command) {
        command
            .env("HOME", &self.folder)
            .env("DB_HOST", "localhost")
            .env("DB_PORT", self.port.to_string())
            .env("DB_USER", &self.user)
            .env("DB_PASSWORD", &self.password)
            .env("DB_NAME", &self.database);
        if mode == Mode::Tls {
            command.env("DB_CA", self.folder.join("ca.pem")).env("DB_STORE", self.folder.join("ca.p12"));
        }
    }

    /// What a program prints, which must succeed.
    fn output(&self, mode: Mode, mut command: Command) -> String {
        self.set(mode, &mut command);
        let what = format!("{:?} {mode:?}", command.get_args().collect::<Vec<_>>());
        let output = command.output().expect("timeout is part of coreutils");
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{what}: {}\n{out}{err}", output.status);
        out
    }

    /// A command line program's options.
    fn options(&self, release: Release, mode: Mode, program: PathBuf) -> Command {
        let mut command = client(program);
        command
            .args(["--protocol=tcp", "--host=localhost"])
            .arg(format!("--port={}", self.port))
            .arg(format!("--user={}", self.user))
            .arg(format!("--password={}", self.password));
        let ca = format!("--ssl-ca={}", self.folder.join("ca.pem").display());
        match (mode, release) {
            (Mode::Tls, Release::MySql9) => command.args([&ca, "--ssl-mode=VERIFY_IDENTITY"]),
            (Mode::Tls, _) => command.args([&ca, "--ssl-verify-server-cert"]),
            (_, Release::MySql9) => command.arg("--ssl-mode=DISABLED"),
            _ => command.arg("--skip-ssl"),
        };
        command
    }
}

/// A node and a person with as much right as the connector of the highest level.
fn node_and_admin(release: Release) -> (Node<Place>, Person) {
    let options = Options { pool: "size_max = 30\nwait_seconds_max = 30", log: "info", ..Options::default() };
    let node = Node::with(shared(release).place(), options);
    let person = node.user("alice");
    node.grant("alice", "admin", "1h", &["--database", "*"]);
    (node, person)
}

fn same_both_ways(release: Release, lines: usize, command: impl Fn() -> Command) {
    let (node, alice) = node_and_admin(release);
    let expected = Way::direct(&node).output(Mode::Plain, command());
    assert!(expected.lines().count() >= lines, "the program did too little:\n{expected}");
    for mode in WITHOUT_DIRECT {
        let seen = Way::proxied(&node, &alice).output(*mode, command());
        super::assert_same(&expected, &seen, *mode);
    }
    all_ended(&node);
    assert!(node.events("statement").len() > 20, "too few statements in the trail");
}

/// Every session has ended, and nothing goes on at the server.
fn all_ended(node: &Node<Place>) {
    wait_until("all sessions have ended, in the trail too", PATIENCE, || {
        let sessions = |event: &str| -> BTreeSet<String> {
            node.events(event).iter().map(|line| field(line, "session")).collect()
        };
        node.sessions().is_empty() && sessions("session_start").is_subset(&sessions("session_end"))
    });
    node.place.wait_quiet(PATIENCE);
}

fn python(program: &str) -> Command {
    let mut command = client(installed("python/bin/python"));
    command.arg("-B").arg(source(&format!("python/{program}.py")));
    command
}

fn pymysql(release: Release) {
    same_both_ways(release, 30, || python("with_pymysql"));
}

fn mysql_connector_python(release: Release) {
    same_both_ways(release, 35, || python("with_mysql_connector"));
}

fn libmariadb(release: Release) {
    same_both_ways(release, 50, || python("with_libmariadb"));
}

fn mysql2(release: Release) {
    same_both_ways(release, 35, || {
        let mut command = client("node");
        command.arg(source("node/with_mysql2.js")).env("NODE_PATH", installed("node/node_modules"));
        command
    });
}

fn java(driver: &str) -> Command {
    let folder = installed("java");
    let mut command = client("sh");
    // Connector/J believes a store and no PEM.
    let script = "set -e; [ -z \"$DB_STORE\" ] || [ -e \"$DB_STORE\" ] || keytool -importcert -noprompt -alias ca \
                  -file \"$DB_CA\" -keystore \"$DB_STORE\" -storetype PKCS12 -storepass changeit 2>/dev/null; \
                  exec java -XX:TieredStopAtLevel=1 -Xmx512m -cp \"$1:$1/$2.jar\" WithMysql \"$2\"";
    command.args(["-c", script, "sh"]).arg(folder).arg(driver);
    command
}

/// MariaDB 10 calls itself 5.5.5 for the sake of old replicas, which this driver takes for its version.
fn connector_j(release: Release) {
    same_both_ways(release, 55, || java("mysql"));
}

fn mariadb_connector_j(release: Release) {
    same_both_ways(release, 55, || java("mariadb"));
}

fn go_sql_driver(release: Release) {
    same_both_ways(release, 35, || {
        let mut command = client(installed("go/clients"));
        command.arg("mysql");
        command
    });
}

const CLIENTS: [Release; 3] = [Release::Distribution, Release::MariaDb11, Release::MySql9];

/// MariaDB's of two releases, and MySQL's.
fn command_line_clients(release: Release) {
    let (node, alice) = node_and_admin(release);
    let script = std::fs::File::open(source("mysql/script.sql"));
    for of in CLIENTS {
        let run = |way: &Way, mode: Mode| {
            node.place.run(&format!("drop table if exists {}.work", node.place.database));
            let mut command = way.options(of, mode, of.client());
            command.args(["--force", "--table", "-vv", &way.database]);
            // A collation that only MySQL has is told otherwise by MariaDB 11 when it is set behind the login.
            if (of, release) != (Release::MySql9, Release::MariaDb11) {
                command.arg("--column-type-info");
            }
            command.stdin(script.as_ref().expect("the script").try_clone().expect("a handle"));
            let rewind = &mut script.as_ref().expect("the script");
            std::io::Seek::rewind(rewind).expect("a file");
            let output = command.stderr(Stdio::piped()).output().expect("timeout is part of coreutils");
            // Answers and errors in the order of each.
            format!("{}{}", text(&output.stdout), text(&output.stderr))
        };
        let expected = run(&Way::direct(&node), Mode::Tls);
        assert!(expected.lines().count() > 300, "the client did too little:\n{expected}");
        for mode in WITHOUT_DIRECT {
            super::assert_same(&expected, &run(&Way::proxied(&node, &alice), *mode), *mode);
        }
    }
    all_ended(&node);
}

/// Zlib, and zstd where a client knows it; with TLS and without.
fn command_line_clients_that_compress(release: Release) {
    let (node, alice) = node_and_admin(release);
    let ways = [
        (Release::Distribution, "--compress"),
        (Release::MariaDb11, "--compress"),
        (Release::MySql9, "--compression-algorithms=zlib"),
        (Release::MySql9, "--compression-algorithms=zstd"),
    ];
    let question = "select id, repeat(sha2(id, 256), 500) from items order by id; select sha2(repeat('x', 20000000), 256)";
    let run = |way: &Way, of: Release, mode: Mode, words: &[&str]| {
        let mut command = way.options(of, mode, of.client());
        command.args(words).args([&way.database, "--batch", "--execute", question]);
        way.output(mode, command)
    };
    let expected = run(&Way::direct(&node), Release::Distribution, Mode::Tls, &[]);
    assert!(expected.len() > 30_000_000, "{}", expected.len());
    for (of, word) in ways {
        for mode in WITHOUT_DIRECT {
            let seen = run(&Way::proxied(&node, &alice), of, *mode, &[word]);
            assert!(expected == seen, "{of:?} {word} {mode:?}: {} bytes", seen.len());
        }
    }
    all_ended(&node);
}

/// The client logs in once more and says KILL QUERY with the number that it was told.
fn ctrl_c_stops_the_statement(release: Release) {
    let (node, alice) = node_and_admin(release);
    let way = Way::proxied(&node, &alice);
    for (of, mode) in [
        (Release::Distribution, Mode::Plain),
        (Release::MariaDb11, Mode::Tls),
        (Release::MySql9, Mode::Tls),
        (Release::MySql9, Mode::Plain),
    ] {
        let mut command = way.options(of, mode, of.client());
        let long = "select sum(a.id * b.id + c.id * d.id) from items a, items b, items c, items d";
        command.args([way.database.as_str(), "-e", long]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("timeout runs");
        node.place.wait_running("a.id * b.id");
        // `timeout` passes the signal on.
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("our child");
        let ended = child.wait_with_output().expect("it ends");
        let said = text(&ended.stderr);
        assert!(said.contains("ERROR 1317 (70100)"), "{of:?} {mode:?}: {said}");
        node.place.wait_quiet(PATIENCE);
    }
}

fn a_dump_is_the_same_and_comes_back(release: Release) {
    let (node, alice) = node_and_admin(release);
    node.place.run(
        "create table parts (id int auto_increment primary key, item int, at datetime(3), data blob, \
         foreign key (item) references items (id))",
    );
    node.place.run(
        "insert into parts (item, at, data) select id, '2026-01-01 00:00:00.5', unhex(repeat(sha2(id, 256), 20)) from items",
    );
    let dump = |way: &Way, mode: Mode| {
        let mut command = way.options(release, mode, release.dump());
        command.args(["--skip-dump-date", "--hex-blob", "--no-tablespaces", &way.database]);
        if release == Release::MySql9 {
            command.args(["--set-gtid-purged=OFF", "--column-statistics=0"]);
        }
        way.output(mode, command)
    };
    // With the host in its head, which is the same, and the port not.
    let (direct, proxied) = (Way::direct(&node), Way::proxied(&node, &alice));
    let expected = dump(&direct, Mode::Tls);
    assert!(expected.len() > 1_000_000, "{}", expected.len());
    for mode in WITHOUT_DIRECT {
        super::assert_same(&expected, &dump(&proxied, *mode), *mode);
    }
    let file = node.folder.join("dump.sql");
    std::fs::write(&file, &expected).expect("the dump");
    node.place.run("delete from parts where id < 500");
    let mut restore = proxied.options(release, Mode::Tls, release.client());
    restore.arg(&proxied.database).stdin(std::fs::File::open(&file).expect("the dump"));
    proxied.output(Mode::Tls, restore);
    super::assert_same(&expected, &dump(&direct, Mode::Tls), Mode::Tls);
    all_ended(&node);
}

fn sysbench_runs_its_own_load(release: Release) {
    let (node, alice) = node_and_admin(release);
    let way = Way::proxied(&node, &alice);
    // It looks for these names where it is started, and shows a certificate whether one is asked for or not.
    tls::authority().write_certificate(&way.folder, "client", &["alice"]);
    for (from, to) in
        [("client.pem", "client-cert.pem"), ("client.key", "client-key.pem"), ("ca.pem", "cacert.pem")]
    {
        std::fs::copy(way.folder.join(from), way.folder.join(to)).expect("a file");
    }
    let sysbench = |arguments: &[&str]| {
        let mut command = client("sysbench");
        command
            .current_dir(&way.folder)
            .args(["oltp_read_write", "--tables=2", "--table-size=500", "--mysql-host=127.0.0.1"])
            .arg(format!("--mysql-port={}", way.port))
            .arg(format!("--mysql-user={}", way.user))
            .arg(format!("--mysql-password={}", way.password))
            .arg(format!("--mysql-db={}", way.database))
            .args(arguments);
        way.output(Mode::Plain, command)
    };
    sysbench(&["prepare"]);
    for more in [
        &["--db-ps-mode=auto"][..],
        &["--db-ps-mode=disable"],
        &["--mysql-ssl=on"],
        &["--mysql-compression=on"],
        &["--mysql-ssl=on", "--mysql-compression=on", "--db-ps-mode=disable"],
    ] {
        let common = ["--threads=4", "--events=80", "--time=0", "--mysql-ignore-errors=all"];
        let done = sysbench(&[&common, more, &["run"]].concat());
        assert!(done.contains("total number of events:              80"), "{done}");
    }
    sysbench(&["cleanup"]);
    let with_tls = node.events("session_start").iter().filter(|line| line["tls"] == true).count();
    assert!(with_tls >= 8, "{with_tls}");
    all_ended(&node);
}

/// Tests that need not come to the same, each of which passes directly where it does not skip itself: why.
const KNOWN: [(&str, &str); 5] = [
    (
        "TestConnectionAttributes",
        "the server is shown the attributes of its connector and not those of a client",
    ),
    // They count on an INSERT to go on whose client has hung up.
    ("TestContextCancelExec", STOPPED),
    ("TestContextCancelQuery", STOPPED),
    ("TestContextCancelStmtExec", STOPPED),
    ("TestContextCancelStmtQuery", STOPPED),
];
const STOPPED: &str = "the statement of somebody who vanishes is stopped at the server";

/// Not asked for: it wants a server that nothing listens at, and waits.
const SKIPPED: &str = "TestConnectorReturnsTimeout";

fn suite(way: &Way) -> BTreeMap<String, String> {
    let folder = installed("go/mysql");
    let mut command = client(folder.join("suite.test"));
    command
        .current_dir(&folder)
        .args(["-test.v", "-test.timeout=300s", "-test.skip", SKIPPED])
        .env("HOME", &way.folder)
        .env("MYSQL_TEST_USER", &way.user)
        .env("MYSQL_TEST_PASS", &way.password)
        .env("MYSQL_TEST_PROT", "tcp")
        .env("MYSQL_TEST_ADDR", format!("localhost:{}", way.port))
        .env("MYSQL_TEST_DBNAME", &way.database);
    let output = command.output().expect("timeout is part of coreutils");
    let said = text(&output.stdout);
    let results: BTreeMap<String, String> = said
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("--- "))
        .filter_map(|line| {
            let (result, name) = line.split_once(": ")?;
            Some((name.split_whitespace().next()?.to_owned(), result.to_owned()))
        })
        .collect();
    assert!(results.len() > 100, "few tests ran: {said}{}", text(&output.stderr));
    // What a failed test said, for whoever has to look.
    for (name, _) in results.iter().filter(|(_, result)| *result == "FAIL") {
        let lines =
            said.lines().skip_while(|line| !(line.starts_with("===") && line.ends_with(name.as_str())));
        eprintln!("{name}: {:#?}", lines.skip(1).take(12).collect::<Vec<_>>());
    }
    results
}

fn the_tests_of_go_s_driver_pass_as_they_do_directly(release: Release) {
    let (node, alice) = node_and_admin(release);
    let (direct, proxied) = (suite(&Way::direct(&node)), suite(&Way::proxied(&node, &alice)));
    let known = |name: &str| KNOWN.iter().any(|(known, _)| name.split('/').next() == Some(known));
    let differs = |(name, result): &(&String, &String)| proxied.get(*name) != Some(result) && !known(name);
    let wrong: Vec<_> =
        direct.iter().filter(differs).map(|(name, was)| (name, was, proxied.get(name))).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let failed: Vec<_> = direct.iter().filter(|(_, result)| *result == "FAIL").collect();
    assert!(failed.is_empty(), "directly: {failed:#?}");
    let passed = proxied.values().filter(|result| *result == "PASS").count();
    assert!(passed >= 160, "only {passed} tests passed");
    all_ended(&node);
}
