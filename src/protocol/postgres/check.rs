//! `target check`: what a connector's rights allow, judged for the access level that it serves. The
//! connector's rights are the wall between people and the data, so this looks for the holes in it.

use super::query::{DATABASE_SETTING, ROLE_SETTING};
use super::script::Row;
use crate::protocol::session::{Check, Severity};

/// Findings of one kind that are named; of more, only the number is said.
const NAMED_MAX: usize = 20;

/// How a right came about: `owner`, or `public`, `direct` or both as the object's own list says, or
/// empty (by way of another role). `$acl` gives `grantee` and `privilege_type`.
macro_rules! via {
    ($owner:literal, $acl:expr, $rights:literal) => {
        concat!(
            "CASE WHEN ",
            $owner,
            " {=} me.oid THEN 'owner' ELSE ",
            via!(@ "0", "public", $acl, $rights),
            " {||} ",
            via!(@ "me.oid", "direct", $acl, $rights),
            " END"
        )
    };
    (@ $grantee:literal, $word:literal, $acl:expr, $rights:literal) => {
        concat!(
            "CASE WHEN EXISTS (SELECT FROM ", $acl, " AS a WHERE a.grantee {=} ", $grantee,
            " AND a.privilege_type {=} ANY (ARRAY[", $rights, "]::pg_catalog.text[])) THEN '", $word,
            "' ELSE '' END"
        )
    };
}

/// A relation's own list, and those of its columns.
macro_rules! relation_acl {
    () => {
        "(SELECT r.grantee, r.privilege_type FROM pg_catalog.aclexplode(c.relacl) AS r UNION ALL
          SELECT t.grantee, t.privilege_type FROM pg_catalog.pg_attribute AS f
          CROSS JOIN LATERAL pg_catalog.aclexplode(f.attacl) AS t WHERE f.attrelid {=} c.oid)"
    };
}

/// Name with schema, quoted for SQL.
macro_rules! path {
    ($schema:literal, $name:literal) => {
        concat!(
            "pg_catalog.quote_ident(",
            $schema,
            "::pg_catalog.text) {||} '.' {||} pg_catalog.quote_ident(",
            $name,
            "::pg_catalog.text)"
        )
    };
}

/// Schemas of people, not of the system.
macro_rules! own_schema {
    ($schema:literal) => {
        concat!(
            "pg_catalog.left(",
            $schema,
            "::pg_catalog.text, 3) {<>} 'pg_' AND ",
            $schema,
            " {<>} 'information_schema'"
        )
    };
}

/// Asked at every level. Lists that could be long are cut one above what is named.
pub(super) const QUERIES: [&str; 12] = [
    "SELECT 'version', pg_catalog.current_setting('server_version_num'), ''",
    "SELECT 'attribute', a.name, '' FROM pg_catalog.pg_roles AS me
     CROSS JOIN LATERAL (VALUES ('superuser', me.rolsuper), ('createrole', me.rolcreaterole),
       ('createdb', me.rolcreatedb), ('replication', me.rolreplication), ('bypassrls', me.rolbypassrls))
       AS a(name, held)
     WHERE me.rolname {=} session_user AND a.held",
    "SELECT 'expires', me.rolvaliduntil::pg_catalog.text, '' FROM pg_catalog.pg_roles AS me
     WHERE me.rolname {=} session_user AND pg_catalog.isfinite(me.rolvaliduntil)",
    "(SELECT 'member', r.rolname::pg_catalog.text, CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_auth_members AS m
       WHERE m.roleid {=} r.oid AND m.member {=} me.oid) THEN 'direct' ELSE '' END
     FROM pg_catalog.pg_roles AS me CROSS JOIN pg_catalog.pg_roles AS r
     WHERE me.rolname {=} session_user AND NOT me.rolsuper AND r.oid {<>} me.oid
     AND pg_catalog.pg_has_role(me.oid, r.oid, 'MEMBER') LIMIT 200)",
    concat!(
        "(SELECT 'schema', n.nspname::pg_catalog.text, ",
        via!("n.nspowner", "pg_catalog.aclexplode(n.nspacl)", "'CREATE'"),
        " FROM pg_catalog.pg_roles AS me CROSS JOIN pg_catalog.pg_namespace AS n
         WHERE me.rolname {=} session_user AND NOT me.rolsuper AND ", own_schema!("n.nspname"),
        " AND pg_catalog.has_schema_privilege(me.oid, n.oid, 'CREATE') LIMIT 200)"
    ),
    concat!(
        "SELECT 'create', d.datname::pg_catalog.text, ",
        via!("d.datdba", "pg_catalog.aclexplode(d.datacl)", "'CREATE'"),
        " FROM pg_catalog.pg_roles AS me CROSS JOIN pg_catalog.pg_database AS d
         WHERE me.rolname {=} session_user AND NOT me.rolsuper AND d.datname {=} pg_catalog.current_database()
         AND pg_catalog.has_database_privilege(me.oid, d.oid, 'CREATE')"
    ),
    concat!(
        "(SELECT 'owned', ", path!("n.nspname", "c.relname"), ", ''
         FROM pg_catalog.pg_roles AS me JOIN pg_catalog.pg_class AS c ON c.relowner {=} me.oid
         JOIN pg_catalog.pg_namespace AS n ON n.oid {=} c.relnamespace
         WHERE me.rolname {=} session_user AND ", own_schema!("n.nspname"),
        " AND c.relkind {=} ANY (ARRAY['r', 'p', 'v', 'm', 'f', 'S']::pg_catalog.\"char\"[]) LIMIT 200)"
    ),
    concat!(
        "(SELECT 'owned', ", path!("n.nspname", "p.proname"), " {||} '()', ''
         FROM pg_catalog.pg_roles AS me JOIN pg_catalog.pg_proc AS p ON p.proowner {=} me.oid
         JOIN pg_catalog.pg_namespace AS n ON n.oid {=} p.pronamespace
         WHERE me.rolname {=} session_user AND ", own_schema!("n.nspname"), " LIMIT 200)"
    ),
    concat!(
        "(SELECT 'definer', ", path!("n.nspname", "p.proname"), " {||} '('
         {||} pg_catalog.oidvectortypes(p.proargtypes) {||} ')', o.rolname::pg_catalog.text
         FROM pg_catalog.pg_roles AS me CROSS JOIN pg_catalog.pg_proc AS p
         JOIN pg_catalog.pg_namespace AS n ON n.oid {=} p.pronamespace
         JOIN pg_catalog.pg_roles AS o ON o.oid {=} p.proowner
         WHERE me.rolname {=} session_user AND NOT me.rolsuper AND p.prosecdef AND p.proowner {<>} me.oid AND ",
        own_schema!("n.nspname"),
        " AND pg_catalog.has_function_privilege(me.oid, p.oid, 'EXECUTE') LIMIT 200)"
    ),
    // Functions of the system by which people under one role reach each other, or the machine.
    "SELECT 'function', p.proname::pg_catalog.text,
     'pg_catalog.' {||} p.proname::pg_catalog.text {||} '(' {||} pg_catalog.oidvectortypes(p.proargtypes) {||} ')'
     FROM pg_catalog.pg_roles AS me CROSS JOIN pg_catalog.pg_proc AS p
     WHERE me.rolname {=} session_user AND NOT me.rolsuper
     AND p.pronamespace {=} 'pg_catalog'::pg_catalog.regnamespace
     AND p.proname {=} ANY (ARRAY['pg_terminate_backend', 'pg_cancel_backend', 'pg_stat_get_activity',
       'pg_stat_get_backend_activity', 'lo_create', 'lo_creat', 'lo_from_bytea', 'lo_import', 'lo_export',
       'pg_read_file', 'pg_read_binary_file', 'pg_ls_dir', 'pg_stat_file']::pg_catalog.name[])
     AND pg_catalog.has_function_privilege(me.oid, p.oid, 'EXECUTE')",
    "(SELECT 'prepared', x.gid, x.database::pg_catalog.text FROM pg_catalog.pg_prepared_xacts AS x
     WHERE x.owner {=} session_user LIMIT 200)",
    "SELECT 'untrusted', l.lanname::pg_catalog.text, '' FROM pg_catalog.pg_language AS l
     WHERE l.lanispl AND NOT l.lanpltrusted",
];

/// Asked where the level is `read`: rights to write.
pub(super) const READ_QUERIES: [&str; 2] = [
    concat!(
        "(SELECT 'write', ",
        path!("n.nspname", "c.relname"),
        ", ",
        via!("c.relowner", relation_acl!(), "'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE'"),
        " FROM pg_catalog.pg_roles AS me CROSS JOIN pg_catalog.pg_class AS c
         JOIN pg_catalog.pg_namespace AS n ON n.oid {=} c.relnamespace
         WHERE me.rolname {=} session_user AND NOT me.rolsuper AND c.relowner {<>} me.oid AND ",
        own_schema!("n.nspname"),
        " AND c.relkind {=} ANY (ARRAY['r', 'p', 'v', 'm', 'f']::pg_catalog.\"char\"[])
         AND (pg_catalog.has_table_privilege(me.oid, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
           OR pg_catalog.has_any_column_privilege(me.oid, c.oid, 'INSERT, UPDATE')) LIMIT 200)"
    ),
    concat!(
        "(SELECT 'sequence', ",
        path!("n.nspname", "c.relname"),
        ", ",
        via!("c.relowner", relation_acl!(), "'USAGE', 'UPDATE'"),
        " FROM pg_catalog.pg_roles AS me CROSS JOIN pg_catalog.pg_class AS c
         JOIN pg_catalog.pg_namespace AS n ON n.oid {=} c.relnamespace
         WHERE me.rolname {=} session_user AND NOT me.rolsuper AND c.relowner {<>} me.oid AND ",
        own_schema!("n.nspname"),
        " AND c.relkind {=} 'S' AND pg_catalog.has_sequence_privilege(me.oid, c.oid, 'USAGE, UPDATE') LIMIT 200)"
    ),
];

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
    }

    fn memberships(&mut self) {
        for row in self.rows("member") {
            let (severity, what) = match row.subject.as_str() {
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
                "pg_read_all_data" | "pg_read_all_settings" | "pg_stat_scan_tables" => {
                    (Severity::Note, "has the rights of a role of the system")
                }
                _ => (Severity::Warning, "may take on another role and all that it may do"),
            };
            let member = quote(&row.subject);
            let sql = (row.detail == "direct").then(|| format!("REVOKE {member} FROM {};", self.role));
            self.add(severity, format!("the connector {what}: it is a member of {member}"), sql);
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
    }

    /// Rights to change data, where the level is `read`.
    fn writing(&mut self) {
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
        let definer = self.rows("definer");
        if !definer.is_empty() {
            let what = format!(
                "the connector may call functions that act with their owner's rights (SECURITY DEFINER): {}",
                list(&definer)
            );
            self.add(Severity::Warning, what, None);
        }
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
                _ => (Severity::Danger, "the connector may reach files of the server's machine"),
            };
            // Granted to everybody from the start; a superuser and the owner do not need it.
            let sql = format!("REVOKE EXECUTE ON FUNCTION {} FROM PUBLIC, {};", row.detail, self.role);
            self.add(severity, format!("{what} ({})", row.subject), Some(sql));
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
