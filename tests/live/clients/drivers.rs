//! Drivers of five languages, by the programs in `tests/clients`.

use std::process::Command;

use super::{ALL_MODES, WITHOUT_DIRECT, client, installed, same_both_ways, source};
use crate::support::{Server, on_both_servers};

on_both_servers!(psycopg3, psycopg2, asyncpg, node_postgres, postgres_js, pgjdbc, pgx, lib_pq);

fn python(program: &str) -> Command {
    let mut command = client(installed("python/bin/python"));
    command.arg("-B").arg(source(&format!("python/{program}.py")));
    command
}

/// libpq 18 inside.
fn psycopg3(server: &'static Server) {
    same_both_ways(server, ALL_MODES, 40, || python("with_psycopg3"));
}

/// libpq 17 inside.
fn psycopg2(server: &'static Server) {
    same_both_ways(server, ALL_MODES, 25, || python("with_psycopg2"));
}

fn asyncpg(server: &'static Server) {
    same_both_ways(server, ALL_MODES, 20, || python("with_asyncpg"));
}

fn javascript(program: &str) -> Command {
    let mut command = client("node");
    command.arg(source(&format!("node/{program}.js"))).env("NODE_PATH", installed("node/node_modules"));
    command
}

fn node_postgres(server: &'static Server) {
    same_both_ways(server, ALL_MODES, 25, || javascript("with_pg"));
}

fn postgres_js(server: &'static Server) {
    same_both_ways(server, WITHOUT_DIRECT, 12, || javascript("with_postgres_js"));
}

fn java(program: &str) -> Command {
    let mut command = client("java");
    let folder = installed("java");
    let path = format!("{0}:{0}/postgresql.jar", folder.display());
    // A short life: compiling harder would not pay.
    command.args(["-XX:TieredStopAtLevel=1", "-Xmx512m", "-cp", &path, program]);
    command
}

fn pgjdbc(server: &'static Server) {
    same_both_ways(server, ALL_MODES, 50, || java("WithJdbc"));
}

fn go(driver: &str) -> Command {
    let mut command = client(installed("go/clients"));
    command.arg(driver);
    command
}

fn pgx(server: &'static Server) {
    same_both_ways(server, ALL_MODES, 80, || go("pgx"));
}

/// Its `sslnegotiation=direct` names no protocol (ALPN), which PostgreSQL turns away, and so do we.
fn lib_pq(server: &'static Server) {
    same_both_ways(server, WITHOUT_DIRECT, 30, || go("pq"));
}
