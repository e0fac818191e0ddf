//! PostgreSQL's own tools, of the distribution and of PostgreSQL 18, and pgcli.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{
    ALL_MODES, Mode, WITHOUT_DIRECT, Way, all_given_back, assert_same, client, installed, node_and_admin,
    same_both_ways, source,
};
use crate::support::{PATIENCE, Server, Version, on_both_servers, text};

on_both_servers!(
    psql_of_the_distribution,
    psql_18,
    pgcli,
    a_dump_is_the_same_and_comes_back,
    pgbench_runs_its_own_load,
);

/// A program of the distribution's PostgreSQL, which is 15 on Debian 12.
pub fn distribution(program: &str) -> PathBuf {
    let bin = std::env::var_os("TIDEGATE_TEST_PG15_BIN").expect("run these tests with scripts/test live");
    let file = Path::new(&bin).join(program);
    if file.exists() { file } else { program.into() }
}

fn psql(program: PathBuf, script: &str) -> Command {
    let mut command = client(program);
    command.args(["-X", "-v", "VERBOSITY=verbose", "-f"]).arg(source(&format!("psql/{script}.sql")));
    command
}

fn psql_of_the_distribution(server: &'static Server) {
    same_both_ways(server, WITHOUT_DIRECT, 100, || psql(distribution("psql"), "script"));
}

fn psql_18(server: &'static Server) {
    same_both_ways(server, ALL_MODES, 100, || psql(installed("pg18/psql"), "script"));
    same_both_ways(server, ALL_MODES, 20, || psql(installed("pg18/psql"), "pipelines"));
}

fn pgcli(server: &'static Server) {
    let command = || {
        let mut command = client(installed("python/bin/pgcli"));
        command.args(["--no-password", "--less-chatty", "--row-limit", "0"]);
        for words in ["\\timing off", "select id, name from items order by id limit 3", "\\d items", "\\dn"] {
            command.args(["-c", words]);
        }
        command
    };
    let (node, alice) = node_and_admin(server);
    let tidy = |output: String| -> String {
        output.lines().filter(|line| !line.starts_with("Time:")).map(|line| format!("{line}\n")).collect()
    };
    let expected = tidy(Way::direct(&node, "admin").output(Mode::Plain, command()));
    assert!(expected.contains("item 3"), "{expected}");
    for mode in ALL_MODES {
        assert_same(&expected, &tidy(Way::proxied(&node, &alice).output(*mode, command())), *mode);
    }
}

/// Newer servers refuse older dump programs, and write a random word into each dump.
fn pg_dump() -> Command {
    let mut command = client(installed("pg18/pg_dump"));
    command.args(["--restrict-key", "same"]);
    command
}

fn a_dump_is_the_same_and_comes_back(server: &'static Server) {
    let (node, alice) = node_and_admin(server);
    let owner = node.place.role("admin");
    node.place.master().run(&format!(
        "alter table items owner to {owner};
         create table parts (id int references items, at timestamptz default now(), data bytea, words text[]);
         insert into parts select i, '2026-01-01', decode(repeat(md5(i::text), 40), 'hex'), array['a', null, E'\\\\t']
             from generate_series(1, 1000) i;
         create view seen as select name from items; create sequence numbers start 42;
         create function twice(int) returns int language sql as 'select $1 * 2';
         alter table parts owner to {owner}; alter view seen owner to {owner};
         alter sequence numbers owner to {owner}; alter function twice owner to {owner}"
    ));
    let (direct, proxied) = (Way::direct(&node, "admin"), Way::proxied(&node, &alice));
    let expected = direct.output(Mode::Plain, pg_dump());
    assert!(expected.lines().count() > 2_000);
    for mode in ALL_MODES {
        assert_same(&expected, &proxied.output(*mode, pg_dump()), *mode);
    }
    if server.version == Version::Distribution {
        let old = || client(distribution("pg_dump"));
        let without_keys = |text: String| -> String {
            let lines = text.lines().filter(|line| !line.contains("restrict "));
            lines.map(|line| format!("{line}\n")).collect()
        };
        let expected = without_keys(direct.output(Mode::Plain, old()));
        assert_same(&expected, &without_keys(proxied.output(Mode::Tls, old())), Mode::Tls);
    }
    let file = node.folder.join("dump");
    // A newer pg_restore sets what an older server does not know.
    let tool = |name: &str| match server.version {
        Version::Distribution => client(distribution(name)),
        Version::Newest => client(installed(&format!("pg18/{name}"))),
    };
    let mut dump = tool("pg_dump");
    dump.args(["--format=custom", "--file"]).arg(&file);
    proxied.output(Mode::Tls, dump);
    let mut restore = tool("pg_restore");
    restore
        .args(["--clean", "--if-exists", "--no-acl", "--jobs=2", "--dbname", &proxied.database])
        .arg(&file);
    let content = || {
        let mut dump = pg_dump();
        dump.arg("--no-acl");
        // Some builds of servers mark a column with the number of the transaction that made it.
        let text = direct.output(Mode::Plain, dump);
        let lines = text.lines().filter(|line| !line.contains("(pg_attver="));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    let before = content();
    node.place.master().run("delete from parts where id < 500; drop view seen");
    proxied.output(Mode::Tls, restore);
    assert_same(&before, &content(), Mode::Tls);
    all_given_back(&node);
}

fn pgbench_runs_its_own_load(server: &'static Server) {
    let (node, alice) = node_and_admin(server);
    let way = Way::proxied(&node, &alice);
    let pgbench = |arguments: &[&str]| {
        let mut command = client(distribution("pgbench"));
        command.args(arguments);
        command
    };
    way.output(Mode::Plain, pgbench(&["-i", "-q", "-I", "dtgvpf"]));
    let mut transactions = 0;
    for (mode, protocol) in
        [(Mode::Plain, "simple"), (Mode::Tls, "extended"), (Mode::Plain, "prepared"), (Mode::Tls, "prepared")]
    {
        let done = way.output(mode, pgbench(&["-n", "-c", "4", "-j", "2", "-t", "40", "-M", protocol]));
        assert!(done.contains("number of transactions actually processed: 160/160"), "{done}");
        assert!(done.contains("number of failed transactions: 0 "), "{done}");
        transactions += 160;
    }
    // A pipeline, and a connection per transaction.
    let script = source("pgbench/pipeline.sql").display().to_string();
    for (script, more) in [(&script[..], ["-M", "extended"]), ("select-only", ["-C", "-n"])] {
        let builtin = if script.starts_with('/') { "-f" } else { "-b" };
        let done =
            way.output(Mode::Tls, pgbench(&["-n", "-c", "3", "-t", "20", builtin, script, more[0], more[1]]));
        assert!(done.contains("actually processed: 60/60"), "{done}");
    }
    assert_eq!(node.place.ask("select count(*) from pgbench_history"), transactions.to_string());
    let sums =
        "select (select sum(bbalance) from pgbench_branches) = (select sum(delta) from pgbench_history)
        and (select sum(abalance) from pgbench_accounts) = (select sum(tbalance) from pgbench_tellers)";
    assert_eq!(node.place.ask(sums), "t");
    all_given_back(&node);
}

/// libpq 18 speaks 3.2 when it is told to, and reports what it got.
#[test]
fn libpq_18_asks_for_protocol_3_2() {
    let (node, alice) = node_and_admin(crate::support::shared(Version::Newest));
    let way = Way::proxied(&node, &alice);
    for mode in ALL_MODES {
        let mut command = client(installed("pg18/psql"));
        let wanted = "max_protocol_version=3.2 min_protocol_version=3.2";
        command.args(["-XAtq", "-d", wanted, "-c", "\\conninfo", "-c", "select 'in'"]);
        let seen = way.output(*mode, command);
        assert!(seen.contains("Protocol Version|3.2") && seen.ends_with("in\n"), "{seen}");
        // Its Ctrl-C, whose key is longer here, over a connection as secure as the first.
        let mut command = client(installed("pg18/psql"));
        command.args(["-XAtq", "-d", wanted, "-c", "select pg_sleep(60)"]);
        way.set(*mode, &mut command);
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("timeout runs");
        node.place.wait_running("pg_sleep(60)");
        // `timeout` passes the signal on.
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("our child");
        let ended = child.wait_with_output().expect("psql ends");
        let said = text(&ended.stderr);
        assert!(said.contains("canceling statement due to user request"), "{said}");
        node.place.wait_quiet(PATIENCE);
    }
}
