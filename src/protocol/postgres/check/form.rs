//! `target check --sql`: the SQL that makes logins which may do what their levels say and no more, for one
//! database as it is now, and the lines of `pg_hba.conf` that admit them from the proxy only. To be read,
//! and then run by a superuser in that database; a second run changes nothing.

use super::super::script::Row;
use super::{literal, quote};
use crate::protocol::session::Logins;

/// Makes the text from what [`super::outline`] found.
pub(in super::super) fn form(rows: &[Row], logins: &Logins) -> String {
    let mut form = Form { rows, logins, text: String::new() };
    form.head();
    for (level, role) in &logins.levels {
        form.login(level, role);
    }
    form.upkeep();
    form.neighbours();
    form.line("COMMIT;");
    form.admittance();
    form.text
}

struct Form<'a> {
    rows: &'a [Row],
    logins: &'a Logins,
    text: String,
}

/// Functions that write large objects.
const LARGE_OBJECTS: &str = "pg_catalog.lo_creat(integer), pg_catalog.lo_create(oid), \
                             pg_catalog.lo_from_bytea(oid, bytea)";
/// Functions that show what others run.
const ACTIVITY: &str =
    "pg_catalog.pg_stat_get_activity(integer), pg_catalog.pg_stat_get_backend_activity(integer)";

impl Form<'_> {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn of<'s>(&'s self, topic: &'static str) -> impl Iterator<Item = &'s Row> {
        self.rows.iter().filter(move |row| row.topic == topic)
    }

    fn one(&self, topic: &'static str) -> &str {
        self.of(topic).next().map_or("", |row| row.subject.as_str())
    }

    fn head(&mut self) {
        let database = quote(self.one("in_database"));
        self.line(&format!(
            "-- Logins for Tidegate at the database {database}. Read this, then run it there as a superuser."
        ));
        self.line("-- Leave out the schemas that are nobody's business. Passwords: \\password ROLE in psql.");
        self.line("BEGIN;");
    }

    /// The roles of this level.
    fn roles(&self, level: &str) -> Vec<String> {
        self.logins.levels.iter().filter(|(known, _)| known == level).map(|(_, role)| quote(role)).collect()
    }

    fn login(&mut self, level: &str, name: &str) {
        let role = quote(name);
        let database = quote(self.one("in_database"));
        let connections = self.logins.connections;
        self.line(&format!("\n-- level {level}"));
        self.create(name);
        self.line(&format!(
            "ALTER ROLE {role} WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS NOINHERIT \
             CONNECTION LIMIT {connections};"
        ));
        self.line(&format!("GRANT CONNECT ON DATABASE {database} TO {role};"));
        let (schema, tables, sequences) = match level {
            "read" => ("USAGE", "SELECT", "SELECT"),
            "read_write" => ("USAGE", "SELECT, INSERT, UPDATE, DELETE", "USAGE, SELECT"),
            "admin" => ("USAGE, CREATE", "ALL", "ALL"),
            _ => {
                self.line("-- A level of your own making: give it here what it is for, and no more.");
                return;
            }
        };
        let schemas: Vec<String> = self.of("in_schema").map(|row| row.subject.clone()).collect();
        for name in &schemas {
            let place = quote(name);
            self.line(&format!("REVOKE ALL ON SCHEMA {place} FROM {role};"));
            self.line(&format!("REVOKE ALL ON ALL TABLES IN SCHEMA {place} FROM {role};"));
            self.line(&format!("REVOKE ALL ON ALL SEQUENCES IN SCHEMA {place} FROM {role};"));
            self.line(&format!("GRANT {schema} ON SCHEMA {place} TO {role};"));
            self.line(&format!("GRANT {tables} ON ALL TABLES IN SCHEMA {place} TO {role};"));
            self.line(&format!("GRANT {sequences} ON ALL SEQUENCES IN SCHEMA {place} TO {role};"));
            for maker in self.makers(name).into_iter().filter(|maker| *maker != role) {
                let future = format!("ALTER DEFAULT PRIVILEGES FOR ROLE {maker} IN SCHEMA {place}");
                for (kind, rights) in [("TABLES", tables), ("SEQUENCES", sequences)] {
                    self.line(&format!("{future} REVOKE ALL ON {kind} FROM {role};"));
                    self.line(&format!("{future} GRANT {rights} ON {kind} TO {role};"));
                }
            }
        }
        if level == "admin" {
            self.line("-- It changes and drops what it made itself. For the tables of others: GRANT their owner TO it, with care.");
            self.line("-- Schemas of its own, and with them trusted extensions, of which some keep state that no reset clears:");
            self.line(&format!("-- GRANT CREATE ON DATABASE {database} TO {role};"));
        }
    }

    fn create(&mut self, name: &str) {
        self.line(&format!(
            "DO $tidegate$ BEGIN IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {}) THEN CREATE ROLE {} \
             LOGIN; END IF; END $tidegate$;",
            literal(name),
            quote(name)
        ));
    }

    /// Who makes tables there: those who did, and the logins that may.
    fn makers(&self, schema: &str) -> Vec<String> {
        let mut makers: Vec<String> =
            self.of("maker").filter(|row| row.detail == schema).map(|row| quote(&row.subject)).collect();
        makers.extend(self.roles("admin"));
        makers.sort_unstable();
        makers.dedup();
        makers
    }

    fn upkeep(&mut self) {
        let Some(name) = self.logins.upkeep.as_deref() else { return };
        let (role, database) = (quote(name), quote(self.one("in_database")));
        self.line("\n-- upkeep: ends connections that do not stop when they are cut");
        self.create(name);
        self.line(&format!(
            "ALTER ROLE {role} WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS INHERIT \
             CONNECTION LIMIT {};",
            self.logins.connections
        ));
        self.line(&format!("GRANT CONNECT ON DATABASE {database} TO {role};"));
        self.line(&format!("GRANT pg_signal_backend, pg_read_all_stats TO {role};"));
    }

    /// What people under one login can do to each other.
    fn neighbours(&mut self) {
        self.line("\n-- What people under one login can do to each other: these functions are everybody's in this database.");
        self.line("-- Roles of yours that need them get them by name: GRANT EXECUTE ON FUNCTION … TO …");
        self.line(&format!("REVOKE EXECUTE ON FUNCTION {ACTIVITY} FROM PUBLIC;"));
        self.line(&format!("GRANT EXECUTE ON FUNCTION {ACTIVITY} TO pg_monitor;"));
        self.line("REVOKE EXECUTE ON FUNCTION pg_catalog.pg_cancel_backend(integer) FROM PUBLIC;");
        self.line("GRANT EXECUTE ON FUNCTION pg_catalog.pg_cancel_backend(integer) TO pg_signal_backend;");
        let version: u32 = self.one("version").parse().unwrap_or_default();
        let arguments = if version >= 140_000 { "integer, bigint" } else { "integer" };
        let end = format!("pg_catalog.pg_terminate_backend({arguments})");
        let open = if self.logins.upkeep.is_some() { "" } else { "-- " };
        if self.logins.upkeep.is_none() {
            self.line("-- With this function Tidegate ends what does not stop when a session is cut. Before it is closed the target");
            self.line("-- needs a login for that: [target.upkeep] secret = \"…\", then check again.");
        }
        self.line(&format!("{open}REVOKE EXECUTE ON FUNCTION {end} FROM PUBLIC;"));
        self.line(&format!("{open}GRANT EXECUTE ON FUNCTION {end} TO pg_signal_backend;"));
        self.line("\n-- Large objects are written by functions that are everybody's.");
        self.line(&format!("REVOKE EXECUTE ON FUNCTION {LARGE_OBJECTS} FROM PUBLIC;"));
        let writers = [self.roles("read_write"), self.roles("admin")].concat();
        if !writers.is_empty() {
            self.line(&format!("GRANT EXECUTE ON FUNCTION {LARGE_OBJECTS} TO {};", writers.join(", ")));
        }
    }

    /// Whoever uses a login can change its password, so the password must not be enough.
    fn admittance(&mut self) {
        let mut names: Vec<&str> = self.logins.levels.iter().map(|(_, role)| role.as_str()).collect();
        names.extend(self.logins.upkeep.as_deref());
        names.sort_unstable();
        names.dedup();
        let roles = names.into_iter().map(hba).collect::<Vec<_>>().join(",");
        let database = hba(self.one("in_database"));
        let from = match self.one("client") {
            "" => None,
            v6 if v6.contains(':') => Some(format!("{v6}/128")),
            v4 => Some(format!("{v4}/32")),
        };
        self.line("\n-- pg_hba.conf, ahead of the lines that are there; then SELECT pg_reload_conf(). Whoever uses a login can change");
        self.line(
            "-- its password: so it is let in from the proxy only, or with the proxy's client certificate.",
        );
        match from {
            Some(from) => {
                self.line(&format!("--   hostssl {database} {roles} {from} scram-sha-256"));
                self.line("-- or, wherever the proxy is (needs ssl_ca_file, and certificate and key in the secrets):");
                self.line(&format!(
                    "--   hostssl {database} {roles} all scram-sha-256 clientcert=verify-full"
                ));
                self.line("-- and behind it:");
                self.line(&format!("--   local all {roles} reject"));
            }
            None => self.line(&format!("--   local {database} {roles} peer map=tidegate")),
        }
        self.line(&format!("--   host all {roles} all reject"));
    }
}

/// A name for `pg_hba.conf`. Quoted, `all` and `+group` are names like others.
fn hba(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(topic: &'static str, subject: &str, detail: &str) -> Row {
        Row { topic: topic.into(), subject: subject.into(), detail: detail.into() }
    }

    fn logins(upkeep: Option<&str>) -> Logins {
        let levels = [("read", "r"), ("admin", "a\"b"), ("reporting", "x")];
        Logins {
            levels: levels.map(|(level, role)| (level.to_owned(), role.to_owned())).to_vec(),
            upkeep: upkeep.map(str::to_owned),
            connections: 25,
        }
    }

    #[test]
    fn each_level_gets_its_own() {
        let rows = [
            row("version", "150018", ""),
            row("in_database", "shop", ""),
            row("client", "10.0.0.5", ""),
            row("in_schema", "public", ""),
            row("maker", "shop owner", "public"),
        ];
        insta::assert_snapshot!(form(&rows, &logins(Some("u"))));
        let without = form(&rows, &logins(None));
        assert!(
            without
                .contains("-- REVOKE EXECUTE ON FUNCTION pg_catalog.pg_terminate_backend(integer, bigint)")
        );
        let unix = form(&[row("in_database", "shop", "")], &logins(None));
        assert!(unix.contains("--   local \"shop\" \"a\"\"b\",\"r\",\"x\" peer map=tidegate"), "{unix}");
        assert!(form(&[row("client", "::1", "")], &logins(None)).contains("::1/128"));
    }
}
