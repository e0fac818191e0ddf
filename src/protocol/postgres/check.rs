//! `target check`: what a connector's rights allow, judged for the access level that it serves. The
//! connector's rights are the wall between people and the data, so this looks for the holes in it.

mod catalog;
mod form;

use super::query::{DATABASE_SETTING, EXTENSION, HIDDEN, ROLE_SETTING};
use super::script::Row;
use crate::protocol::session::{Check, Severity};
pub(super) use catalog::{catalog, outline};
pub(super) use form::form;

/// Findings of one kind that are named; of more, only the number is said.
const NAMED_MAX: usize = 20;

/// Turns rows into findings, the gravest first.
pub(super) fn judge(rows: &[Row], level: &str, user: &str, stateful: &[String]) -> Vec<Check> {
    let mut judge = Judge { rows, level, role: quote(user), checks: Vec::new() };
    judge.role();
    judge.memberships();
    judge.creation();
    judge.writing();
    judge.ownership();
    judge.functions();
    judge.neighbours();
    judge.leftovers(stateful);
    judge.checks.sort_by_key(|check| std::cmp::Reverse(check.severity));
    judge.checks
}

struct Judge<'a> {
    rows: &'a [Row],
    level: &'a str,
    role: String,
    checks: Vec<Check>,
}

impl Judge<'_> {
    fn is_read(&self) -> bool {
        self.level == "read"
    }

    fn add(&mut self, severity: Severity, what: impl Into<String>, sql: Option<String>) {
        self.checks.push(Check { severity, what: what.into(), sql });
    }

    fn rows(&self, topic: &'static str) -> Vec<Row> {
        self.rows.iter().filter(|row| row.topic == topic).cloned().collect()
    }

    /// What the role itself is.
    fn role(&mut self) {
        for row in self.rows("attribute") {
            let (severity, what) = match row.subject.as_str() {
                "superuser" => (
                    Severity::Danger,
                    "is a superuser: no right stops it, files and programs of the server are open to it",
                ),
                "createrole" => (Severity::Danger, "may create roles and change those of others"),
                "replication" => (Severity::Danger, "may replicate, so it reads all data of all databases"),
                "bypassrls" => (Severity::Warning, "is exempt from row level security"),
                _ => (Severity::Warning, "may create databases"),
            };
            let sql = format!("ALTER ROLE {} NO{};", self.role, row.subject.to_uppercase());
            self.add(severity, format!("the connector {what}"), Some(sql));
        }
        for row in self.rows("expires") {
            let what = format!("the connector's password expires: {}", row.subject);
            self.add(
                Severity::Warning,
                what,
                Some(format!("ALTER ROLE {} VALID UNTIL 'infinity';", self.role)),
            );
        }
        if !self.rows("unlimited").is_empty() {
            let what = "the connector may open any number of connections; a CONNECTION LIMIT a little above the pool's \
                        size_max keeps a stolen login from taking them all";
            self.add(Severity::Note, what, None);
        }
    }

    fn memberships(&mut self) {
        for row in self.rows("member") {
            let (severity, what) = match row.subject.as_str() {
                "pg_create_subscription" => {
                    (Severity::Danger, "may have the server connect to others and take their changes over")
                }
                "pg_execute_server_program" => (Severity::Danger, "may run programs on the server's machine"),
                "pg_read_server_files" => (Severity::Danger, "may read files of the server's machine"),
                "pg_write_server_files" => (Severity::Danger, "may write files of the server's machine"),
                "pg_write_all_data" if self.is_read() => {
                    (Severity::Danger, "may write all data, and its level is read")
                }
                "pg_signal_backend" => {
                    (Severity::Warning, "may end the sessions and statements of other roles")
                }
                "pg_read_all_stats" | "pg_monitor" => {
                    (Severity::Warning, "sees the statements of other roles")
                }
                "pg_read_all_data" => {
                    (Severity::Note, "may read all data, also what was meant for other levels")
                }
                "pg_maintain" if self.is_read() => {
                    (Severity::Warning, "may lock, rebuild and vacuum all tables, and its level is read")
                }
                "pg_read_all_settings" | "pg_stat_scan_tables" | "pg_maintain" | "pg_checkpoint" => {
                    (Severity::Note, "has the rights of a role of the system")
                }
                // The owner of what an administrator is to change.
                _ if self.level == "admin" => {
                    (Severity::Note, "may take on another role and all that it may do")
                }
                _ => (Severity::Warning, "may take on another role and all that it may do"),
            };
            let member = quote(&row.subject);
            let sql = (row.detail == "direct").then(|| format!("REVOKE {member} FROM {};", self.role));
            self.add(severity, format!("the connector {what}: it is a member of {member}"), sql);
        }
        for row in self.rows("gives") {
            let given = quote(&row.subject);
            let what = format!(
                "the connector may give the role {given} to others (ADMIN OPTION), also to logins of its own"
            );
            let sql = format!("REVOKE ADMIN OPTION FOR {given} FROM {};", self.role);
            self.add(Severity::Danger, what, Some(sql));
        }
    }

    /// Rights to make new things.
    fn creation(&mut self) {
        let severity = match self.level {
            "read" => Severity::Danger,
            "admin" => Severity::Note,
            _ => Severity::Warning,
        };
        for row in self.rows("schema") {
            let schema = quote(&row.subject);
            let what = format!("the connector may create tables and functions in the schema {schema}");
            self.add(severity, what, self.revoke("CREATE", &format!("SCHEMA {schema}"), &row.detail));
        }
        for row in self.rows("create") {
            let database = quote(&row.subject);
            let what = format!(
                "the connector may create schemas and install trusted extensions in the database {database}"
            );
            self.add(severity, what, self.revoke("CREATE", &format!("DATABASE {database}"), &row.detail));
        }
        for row in self.rows("temporary") {
            let what = format!(
                "the connector may make temporary tables in the database {}: dropped by each reset, but a full disk is \
                 everybody's; REVOKE TEMPORARY takes it away from all roles that have it from PUBLIC",
                quote(&row.subject)
            );
            self.add(Severity::Note, what, None);
        }
    }

    /// Rights to change data where the level is `read`, and to have others change it.
    fn writing(&mut self) {
        if self.level != "admin" {
            for (row, more) in named(self.rows("trigger")) {
                let what = format!(
                    "the connector may put triggers on {}: code that runs with the rights of whoever writes there{more}",
                    row.subject
                );
                let sql = self.revoke("TRIGGER", &format!("TABLE {}", row.subject), &row.detail);
                self.add(Severity::Danger, what, sql);
            }
        }
        if !self.is_read() {
            return;
        }
        for row in self.rows("future") {
            let (maker, schema) = (quote(&row.subject), quote(&row.detail));
            let (place, inside) = match row.detail.is_empty() {
                true => (String::new(), String::new()),
                false => (format!(" in the schema {schema}"), format!(" IN SCHEMA {schema}")),
            };
            let what = format!(
                "tables that {maker} makes{place} will be the connector's to write to, and its level is read"
            );
            let sql = format!(
                "ALTER DEFAULT PRIVILEGES FOR ROLE {maker}{inside} REVOKE INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER ON \
                 TABLES FROM PUBLIC, {};",
                self.role
            );
            self.add(Severity::Danger, what, Some(sql));
        }
        let objects = self.rows("large_object");
        if !objects.is_empty() {
            let what = format!(
                "the connector may write to large objects, and its level is read: {}",
                list(&objects)
            );
            self.add(Severity::Warning, what, None);
        }
        for (row, more) in named(self.rows("write")) {
            let what = format!("the connector may write to {}, and its level is read{more}", row.subject);
            let rights = "INSERT, UPDATE, DELETE, TRUNCATE";
            self.add(
                Severity::Danger,
                what,
                self.revoke(rights, &format!("TABLE {}", row.subject), &row.detail),
            );
        }
        for (row, more) in named(self.rows("sequence")) {
            let what = format!(
                "the connector may advance the sequence {}, and its level is read{more}",
                row.subject
            );
            self.add(
                Severity::Warning,
                what,
                self.revoke("USAGE, UPDATE", &format!("SEQUENCE {}", row.subject), &row.detail),
            );
        }
    }

    fn ownership(&mut self) {
        let severity = match self.level {
            "read" => Severity::Danger,
            "admin" => Severity::Note,
            _ => Severity::Warning,
        };
        let owned = self.rows("owned");
        if !owned.is_empty() {
            let what = format!("the connector owns {}: an owner changes, drops and grants", list(&owned));
            self.add(severity, what, Some(format!("REASSIGN OWNED BY {} TO CURRENT_USER;", self.role)));
        }
    }

    fn functions(&mut self) {
        self.calls();
        for row in self.rows("function") {
            let (severity, what) = match row.subject.as_str() {
                "pg_terminate_backend" | "pg_cancel_backend" => (
                    Severity::Note,
                    "people under this connector can end each other's sessions and statements",
                ),
                "pg_stat_get_activity" | "pg_stat_get_backend_activity" => {
                    (Severity::Note, "people under this connector see each other's running statements")
                }
                "lo_create" | "lo_creat" | "lo_from_bytea" if self.is_read() => {
                    (Severity::Warning, "the connector may write large objects, and its level is read")
                }
                "lo_create" | "lo_creat" | "lo_from_bytea" => continue,
                "pg_reload_conf" | "pg_promote" | "pg_rotate_logfile" => {
                    (Severity::Danger, "the connector may act on the server as a whole")
                }
                _ => (Severity::Danger, "the connector may reach files of the server's machine"),
            };
            // Granted to everybody from the start; a superuser and the owner do not need it. Of what neighbours can
            // do to each other the trial says whether it matters, and `form` closes it for all levels.
            let sql = (severity != Severity::Note)
                .then(|| format!("REVOKE EXECUTE ON FUNCTION {} FROM PUBLIC, {};", row.detail, self.role));
            self.add(severity, format!("{what} ({})", row.subject), sql);
        }
    }

    /// Functions that people have made, and other servers.
    fn calls(&mut self) {
        for (topic, severity, what) in [
            ("definer", Severity::Warning, "a function that acts with its owner's rights (SECURITY DEFINER)"),
            (
                "untrusted_call",
                Severity::Warning,
                "a function in an untrusted language, which acts on the server's machine",
            ),
            (
                "dblink",
                Severity::Danger,
                "a function that connects to any server, this one too, past Tidegate",
            ),
        ] {
            for (row, more) in named(self.rows(topic)) {
                let owner = match row.detail.is_empty() {
                    true => String::new(),
                    false => format!(" [{}]", row.detail),
                };
                let what = format!("the connector may call {what}: {}{owner}{more}", row.subject);
                let sql = format!("REVOKE EXECUTE ON FUNCTION {} FROM PUBLIC, {};", row.subject, self.role);
                self.add(severity, what, Some(sql));
            }
        }
        for row in self.rows("mapping") {
            let server = quote(&row.subject);
            let what = format!("the connector is logged in at the foreign server {server} by a user mapping");
            let whose = if row.detail.is_empty() { &self.role } else { &row.detail };
            let sql = format!("DROP USER MAPPING IF EXISTS FOR {whose} SERVER {server};");
            self.add(Severity::Warning, what, Some(sql));
        }
        for row in self.rows("server") {
            let server = quote(&row.subject);
            let what =
                format!("the connector may make user mappings and tables of the foreign server {server}");
            let sql = self.revoke("USAGE", &format!("FOREIGN SERVER {server}"), &row.detail);
            self.add(Severity::Warning, what, sql);
        }
        for row in self.rows("parameter") {
            let (severity, what) = match row.detail.as_str() {
                "SET" => (Severity::Warning, "may set the parameter"),
                _ => (Severity::Danger, "may change for the whole server the parameter"),
            };
            let sql =
                format!("REVOKE {} ON PARAMETER {} FROM PUBLIC, {};", row.detail, row.subject, self.role);
            self.add(severity, format!("the connector {what} {}", row.subject), Some(sql));
        }
    }

    /// What the server's own design lets people under one role do to each other.
    fn neighbours(&mut self) {
        let settings = self.rows(ROLE_SETTING).len() + self.rows(DATABASE_SETTING).len();
        self.add(
            Severity::Note,
            format!(
                "people under this connector can give it settings of its own (ALTER ROLE CURRENT_USER SET; it has \
                 {settings} now): one that was not known suspends the level"
            ),
            None,
        );
        self.add(
            Severity::Note,
            "people under this connector can change its password (ALTER ROLE CURRENT_USER PASSWORD), and who knows it gets \
             past Tidegate: let pg_hba.conf admit it from the proxy only, or with a client certificate",
            None,
        );
        if self.rows(EXTENSION).iter().any(|row| row.subject == "pg_stat_statements") {
            let what =
                "pg_stat_statements shows people under this connector the texts of each other's statements";
            self.add(Severity::Note, what, None);
        }
        for row in self.rows("event_trigger") {
            let what = format!("the event trigger {} runs code at {}", quote(&row.subject), row.detail);
            self.add(Severity::Note, what, None);
        }
        if let Some(row) = self.rows("version").first()
            && row.subject.parse::<u32>().is_ok_and(|version| version < 140_000)
        {
            self.add(
                Severity::Warning,
                "the server is older than PostgreSQL 14: a statement whose client is gone runs on to its end",
                None,
            );
        }
    }

    /// What outlives a session.
    fn leftovers(&mut self, stateful: &[String]) {
        let hidden = self.rows(HIDDEN);
        if !hidden.is_empty() {
            let what = format!(
                "functions and views that may change settings, sequences or other state behind a plain statement, so that \
                 idle sessions keep their connections, unless the target's park_accepts has \"functions\": {}",
                list(&hidden)
            );
            self.add(Severity::Note, what, None);
        }
        for name in stateful {
            let what = format!(
                "{name} may keep state that no reset clears, so connections are reused by the same person only, until \
                 the target's accept_extensions names it"
            );
            self.add(Severity::Warning, what, None);
        }
        for row in self.rows("untrusted") {
            let what = format!(
                "the untrusted language {} is installed: its functions act on the server's machine",
                quote(&row.subject)
            );
            self.add(Severity::Note, what, None);
        }
        for row in self.rows("prepared") {
            let what = format!(
                "a prepared transaction is left in the database {}: it holds its locks until somebody ends it",
                quote(&row.detail)
            );
            self.add(Severity::Warning, what, Some(format!("ROLLBACK PREPARED {};", literal(&row.subject))));
        }
    }

    /// Takes a right back where it was given: from everybody, or from the connector.
    fn revoke(&self, rights: &str, object: &str, via: &str) -> Option<String> {
        let from = match via {
            "owner" => return Some(format!("REASSIGN OWNED BY {} TO CURRENT_USER;", self.role)),
            "public" => "PUBLIC".to_owned(),
            "direct" => self.role.clone(),
            "publicdirect" => format!("PUBLIC, {}", self.role),
            _ => return None,
        };
        Some(format!("REVOKE {rights} ON {object} FROM {from};"))
    }
}

/// The first few, the last of which says how many more there are.
fn named(rows: Vec<Row>) -> Vec<(Row, String)> {
    let more = rows.len().saturating_sub(NAMED_MAX);
    let last = rows.len().min(NAMED_MAX).saturating_sub(1);
    let say = |at: usize| if more > 0 && at == last { format!(" (and {more} more)") } else { String::new() };
    rows.into_iter().take(NAMED_MAX).enumerate().map(|(at, row)| (row, say(at))).collect()
}

fn list(rows: &[Row]) -> String {
    let mut names: Vec<&str> = rows.iter().map(|row| row.subject.as_str()).collect();
    names.sort_unstable();
    let more = names.len().saturating_sub(NAMED_MAX);
    names.truncate(NAMED_MAX);
    match more {
        0 => names.join(", "),
        _ => format!("{} and {more} more", names.join(", ")),
    }
}

/// An identifier for SQL.
fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text for SQL, however the server reads backslashes.
fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    match quoted.contains('\\') {
        true => format!("E'{}'", quoted.replace('\\', "\\\\")),
        false => format!("'{quoted}'"),
    }
}
