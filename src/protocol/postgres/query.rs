//! The statements that scripts run, on a connection whose role, `search_path` and other settings may
//! have been chosen by an enemy. So: every function, type, relation and operator is named with its
//! schema (a test looks), nothing depends on how a literal is read, and nothing of a client's is part
//! of a text.
//!
//! Each gives rows of three texts: a topic, what it is about, a detail.

use super::startup::is_setting_name;

pub(super) const IDENTITY: &str = "identity";
pub(super) const ROLE_SETTING: &str = "role";
pub(super) const DATABASE_SETTING: &str = "database";
pub(super) const EXTENSION: &str = "extension";
pub(super) const LANGUAGE: &str = "language";
pub(super) const LIBRARY: &str = "library";
pub(super) const LEFTOVER: &str = "leftover";
/// Of a glance only: the temporary schema.
pub(super) const TEMPORARY: &str = "temporary";
pub(super) const REPORTED: &str = "reported";
pub(super) const APPLIED: &str = "applied";

/// For the whole session; values are bound.
pub(super) const SET_CONFIG: &str = "SELECT pg_catalog.set_config($1, $2, false)";

/// `{=}` and the like in the texts below stand for the operator of `pg_catalog`, whatever the
/// `search_path` says.
pub(super) fn qualify(text: &str) -> String {
    text.replace("{", "OPERATOR(pg_catalog.").replace("}", ")")
}

/// Who we are: the role that logged in, and the one that acts.
const WHO: &str =
    "SELECT 'identity'::pg_catalog.text, session_user::pg_catalog.text, current_user::pg_catalog.text";

/// What `ALTER ROLE CURRENT_USER SET` changes, in all databases, so that it is the same text seen from
/// each; and `ALTER DATABASE SET` where the role owns the database, since then it may do that too.
const SETTINGS: &str = "
SELECT CASE WHEN s.setrole {=} 0 THEN 'database' ELSE 'role' END,
  COALESCE((SELECT d.datname::pg_catalog.text FROM pg_catalog.pg_database AS d WHERE d.oid {=} s.setdatabase), ''),
  c.setting
FROM pg_catalog.pg_db_role_setting AS s CROSS JOIN LATERAL pg_catalog.unnest(s.setconfig) AS c(setting)
WHERE s.setrole {=} pg_catalog.to_regrole(pg_catalog.quote_ident(session_user::pg_catalog.text))
OR (s.setrole {=} 0 AND EXISTS (SELECT FROM pg_catalog.pg_database AS d
  WHERE d.oid {=} s.setdatabase AND pg_catalog.pg_has_role(session_user, d.datdba, 'MEMBER')))";

/// What of the role's settings was put on this very connection as it began, which is what every reset goes
/// back to. `SETTINGS` is a look at what they are a moment later.
const APPLIED_SETTINGS: &str = "
SELECT 'applied', s.name, s.reset_val FROM pg_catalog.pg_settings AS s
WHERE s.source {=} 'user' OR s.source {=} 'database user'";

/// Extensions and languages: two small tables.
const EXTENSIONS: &str = "
SELECT 'extension', e.extname::pg_catalog.text, '' FROM pg_catalog.pg_extension AS e
UNION ALL
SELECT 'language', l.lanname::pg_catalog.text, '' FROM pg_catalog.pg_language AS l";

/// C code that came with no extension. Objects of the system have oids below 16384, the language C
/// has 13. Looked for at login and not at each reset: only a superuser can add some.
const LIBRARIES: &str = "
SELECT DISTINCT 'library', COALESCE(p.probin, p.prosrc), ''
FROM pg_catalog.pg_proc AS p
WHERE p.oid {>=} 16384 AND p.prolang {=} 13 AND NOT EXISTS (
  SELECT FROM pg_catalog.pg_depend AS x
  WHERE x.classid {=} 'pg_catalog.pg_proc'::pg_catalog.regclass AND x.objid {=} p.oid AND x.deptype {=} 'e')";

/// What `DISCARD ALL` must have cleared. Whatever is in the temporary schema depends on it. Prepared
/// transactions are not among it: they belong to no session, like a table (`check` shows them).
///
/// The functions behind the views, which are planned much faster: planning is most of what a reset costs
/// (measured with PostgreSQL 15: some 1.2 ms, and twice that with the views).
const LEFTOVERS: &str = "
SELECT 'leftover', 'a prepared statement', '' FROM pg_catalog.pg_prepared_statement()
UNION ALL
SELECT 'leftover', 'a cursor', '' FROM pg_catalog.pg_cursor()
UNION ALL
SELECT 'leftover', 'a channel that is listened to', '' FROM pg_catalog.pg_listening_channels()
UNION ALL
SELECT 'leftover', 'an advisory lock', '' FROM pg_catalog.pg_lock_status() AS l
WHERE l.locktype {=} 'advisory' AND l.pid {=} pg_catalog.pg_backend_pid()
UNION ALL
SELECT 'leftover', 'a temporary object', '' FROM pg_catalog.pg_depend AS x
WHERE x.refclassid {=} 'pg_catalog.pg_namespace'::pg_catalog.regclass
AND x.refobjid {=} pg_catalog.pg_my_temp_schema()";

fn union(parts: &[&str]) -> String {
    qualify(&parts.join("\nUNION ALL\n"))
}

/// Ends another connection: the server allows it for those of the same role.
pub(super) fn terminate(process: i32) -> String {
    qualify(&format!(
        "{WHO} UNION ALL SELECT 'terminated', pg_catalog.pg_terminate_backend({process})::pg_catalog.text, ''"
    ))
}

pub(super) fn identity() -> String {
    WHO.to_owned()
}

pub(super) fn probe() -> String {
    union(&[WHO, SETTINGS, APPLIED_SETTINGS, EXTENSIONS, LIBRARIES])
}

/// `reported`: the names of the settings that the server reported at login.
pub(super) fn reset<'a>(reported: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = self::reported(reported).map(|name| format!("'{name}'")).collect();
    let reported = format!(
        "SELECT 'reported', n.name, pg_catalog.current_setting(n.name, true) \
         FROM pg_catalog.unnest(ARRAY[{}]::pg_catalog.text[]) AS n(name)",
        names.join(", ")
    );
    union(&[WHO, SETTINGS, EXTENSIONS, LEFTOVERS, &reported])
}

/// One row of this: who logged in, who acts, the temporary schema, three things that may be left, and the
/// names of what may keep state of its own. [`GLANCED`] columns.
const GLANCE: &str = "SELECT session_user::pg_catalog.text, current_user::pg_catalog.text,
pg_catalog.pg_my_temp_schema()::pg_catalog.text,
EXISTS (SELECT FROM pg_catalog.pg_prepared_statement())::pg_catalog.text,
EXISTS (SELECT FROM pg_catalog.pg_cursor())::pg_catalog.text,
EXISTS (SELECT FROM pg_catalog.pg_listening_channels())::pg_catalog.text,
pg_catalog.array_to_string(ARRAY (SELECT e.extname FROM pg_catalog.pg_extension AS e), pg_catalog.chr(10)),
pg_catalog.array_to_string(ARRAY (SELECT l.lanname FROM pg_catalog.pg_language AS l), pg_catalog.chr(10)),
";

/// Columns of a glance ahead of the settings: those of `GLANCE` and the seed's.
pub(super) const GLANCED: usize = 9;

/// The names of the settings, of those that the server reported at login, that are asked for.
pub(super) fn reported<'a>(names: impl Iterator<Item = &'a str>) -> impl Iterator<Item = &'a str> {
    // The names come from the server; what is no name of a setting is not put in a text.
    names.filter(|name| is_setting_name(name))
}

/// What of [`reset`] a session can have done to its own connection, as one row of functions: no planning to
/// speak of (measured with PostgreSQL 15: 0.08 ms instead of 0.48). What is in the catalogs instead is compared
/// with what a thorough look found, by the names of the extensions and languages. Seeds as [`reseed`] does.
pub(super) fn glance<'a>(names: impl Iterator<Item = &'a str>, random: u64) -> String {
    let mut text = format!("{GLANCE}pg_catalog.setseed({:.17})::pg_catalog.text", seed(random));
    for name in reported(names) {
        text.push_str(", pg_catalog.current_setting('");
        text.push_str(name);
        text.push_str("', true)");
    }
    text
}

/// Goes on with other random numbers: 52 bits, as many as the server makes of it.
pub(super) fn reseed(random: u64) -> String {
    format!("SELECT 'seed', pg_catalog.setseed({:.17})::pg_catalog.text, ''", seed(random))
}

fn seed(random: u64) -> f64 {
    (random >> 12) as f64 / (1u64 << 52) as f64
}

/// What `target check` looks at, for `check::judge`.
pub(super) fn check(level: &str) -> String {
    let mut parts = vec![WHO, SETTINGS, EXTENSIONS, LIBRARIES];
    parts.extend(super::check::QUERIES);
    if level == "read" {
        parts.extend(super::check::READ_QUERIES);
    }
    union(&parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Grammar words that are followed by a parenthesis, and our own aliases with columns.
    const WORDS: [&str; 13] = [
        "ANY", "ARRAY", "AS", "COALESCE", "EXISTS", "IN", "LATERAL", "OPERATOR", "VALUES", "WHEN", "AND",
        "c", "n",
    ];

    fn assert_qualified(text: &str) {
        let rest = text.replace("OPERATOR(pg_catalog.", "(");
        for (at, _) in text.match_indices('(') {
            let before = &text[..at];
            let name = before
                .rsplit(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.')))
                .next()
                .unwrap();
            let alias = name.len() == 1 || name.is_empty();
            assert!(alias || name.starts_with("pg_catalog.") || WORDS.contains(&name), "{name:?} in {text}");
        }
        for operator in
            ["= ", " <", "> ", "||", "~", " IN ", "LIKE", "BETWEEN", "DISTINCT FROM", "USING", "NULLIF"]
        {
            for (at, _) in rest.match_indices(operator) {
                assert!(
                    rest[..at].ends_with("(pg_catalog.") || rest[..at].ends_with('('),
                    "{operator} in {rest}"
                );
            }
        }
        for keyword in ["FROM ", "JOIN "] {
            for (at, _) in text.match_indices(keyword) {
                let what = text[at + keyword.len()..].trim_start();
                let fine = ["pg_catalog.", "(", "LATERAL"].iter().any(|start| what.starts_with(start));
                assert!(fine, "{what}");
            }
        }
        for (at, _) in text.match_indices("::") {
            assert!(text[at + 2..].starts_with("pg_catalog."), "{}", &text[at..]);
        }
        assert!(!text.contains('\\') && !text.contains('{') && !text.contains('}'));
    }

    #[test]
    fn every_name_has_its_schema() {
        let mut texts = vec![identity(), probe(), reset(["TimeZone"].into_iter()), SET_CONFIG.to_owned()];
        texts.push(reseed(u64::MAX));
        texts.push(glance(["TimeZone"].into_iter(), u64::MAX));
        texts.push(terminate(4711));
        texts.extend(["read", "read_write", "admin"].map(check));
        for text in texts {
            assert_qualified(&text);
        }
    }

    #[test]
    fn a_seed_is_one_that_the_server_takes() {
        for (random, seed) in [(0, "0.00000000000000000"), (1 << 63, "0.50000000000000000")] {
            assert!(reseed(random).contains(&format!("setseed({seed})")), "{}", reseed(random));
        }
        assert!(reseed(u64::MAX).contains("setseed(0.99999999999999978)"), "{}", reseed(u64::MAX));
    }

    #[test]
    fn a_name_that_is_none_is_not_put_in_a_text() {
        let text = reset(["TimeZone", "x') OR ('", "", "a b"].into_iter());
        assert!(text.contains("ARRAY['TimeZone']::"));
        let text = glance(["TimeZone", "x') OR ('", "", "a b"].into_iter(), 0);
        assert!(text.ends_with("::pg_catalog.text, pg_catalog.current_setting('TimeZone', true)"), "{text}");
    }
}
