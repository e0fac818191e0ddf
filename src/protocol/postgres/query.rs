//! The statements that scripts run, on a connection whose role, `search_path` and other settings may
//! have been chosen by an enemy. So: every function, type, relation and operator is named with its
//! schema (a test looks), nothing depends on how a literal is read, and nothing of a client's is part
//! of a text.
//!
//! Each gives rows of three texts: a topic, what it is about, a detail.

use std::sync::LazyLock;

use super::startup::is_setting_name;
use crate::protocol::session::Termination;

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
/// What of the database's history is seen, and whether the server only follows another one.
pub(super) const SNAPSHOT: &str = "snapshot";
pub(super) const APPLIED: &str = "applied";
pub(super) const APPLIED_DATABASE: &str = "applied to the database";
pub(super) const BACKEND: &str = "backend";
pub(super) const ENDED: &str = "ended";
pub(super) const SEEN: &str = "seen";

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

/// What of the role's settings, and of its own database's, was put on this very connection as it began, which is
/// what every reset goes back to. `SETTINGS` is a look at what they are a moment later. Settings of one's own
/// (`my.thing`) are in no view, and only a superuser may give them to a role or a database.
const APPLIED_SETTINGS: &str = "
SELECT CASE WHEN s.source {=} 'database' THEN 'applied to the database' ELSE 'applied' END, s.name, s.reset_val
FROM pg_catalog.pg_settings AS s
WHERE s.source {=} 'user' OR s.source {=} 'database user'
OR (s.source {=} 'database' AND EXISTS (SELECT FROM pg_catalog.pg_database AS d
  WHERE d.datname {=} pg_catalog.current_database() AND pg_catalog.pg_has_role(session_user, d.datdba, 'MEMBER')))";

/// Extensions and languages: two small tables.
const EXTENSIONS: &str = "
SELECT 'extension', e.extname::pg_catalog.text, '' FROM pg_catalog.pg_extension AS e
UNION ALL
SELECT 'language', l.lanname::pg_catalog.text, '' FROM pg_catalog.pg_language AS l";

/// Two texts: as long as the second is the same, nothing has been committed in between, so that no catalog has
/// changed. On a standby, which says so in the first, that does not follow: transactions that ended there are
/// not all told in it.
const HISTORY: &str =
    "pg_catalog.pg_is_in_recovery()::pg_catalog.text, pg_catalog.pg_current_snapshot()::pg_catalog.text";

const SNAPSHOTS: &str = "SELECT 'snapshot', pg_catalog.pg_current_snapshot()::pg_catalog.text, \
                         pg_catalog.pg_is_in_recovery()::pg_catalog.text";

/// Whether a server of this version tells its [`SNAPSHOTS`]: PostgreSQL 13 and newer. What keeps its history in
/// another way says so in its version, which is more than two numbers then.
pub(super) fn has_snapshots(version: &str) -> bool {
    let number = version.split(' ').next().and_then(|number| number.split_once('.'));
    let digits = |text: &str| text.parse::<u32>().ok();
    number.is_some_and(|(major, minor)| digits(major) >= Some(13) && digits(minor).is_some())
}

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

/// What the catalogs show of a session that is lost with its connection, each in stable words. Ours stand under
/// the name `tidegate:own` while this runs.
const PINNED: &str = "
SELECT 'acting', pg_catalog.current_setting('role'), ''
UNION ALL
SELECT 'prepared', CASE WHEN p.from_sql THEN 'sql' ELSE 'protocol' END, pg_catalog.count(*)::pg_catalog.text
FROM pg_catalog.pg_prepared_statement() AS p WHERE p.name {<>} 'tidegate:own' GROUP BY p.from_sql
UNION ALL
SELECT 'pin', 'a cursor', '' FROM pg_catalog.pg_cursor() AS p WHERE p.name {<>} 'tidegate:own'
UNION ALL
SELECT 'pin', 'a channel that is listened to', '' FROM pg_catalog.pg_listening_channels()
UNION ALL
SELECT 'pin', 'an advisory lock', '' FROM pg_catalog.pg_lock_status() AS l
WHERE l.locktype {=} 'advisory' AND l.pid {=} pg_catalog.pg_backend_pid()
UNION ALL
SELECT 'pin', 'a temporary object', '' WHERE EXISTS (
  SELECT FROM pg_catalog.pg_depend AS x
  WHERE x.refclassid {=} 'pg_catalog.pg_namespace'::pg_catalog.regclass
  AND x.refobjid {=} pg_catalog.pg_my_temp_schema())
UNION ALL
SELECT CASE WHEN s.vartype {=} 'real' THEN 'real' ELSE 'setting' END, s.name, s.setting
FROM pg_catalog.pg_show_all_settings() AS s WHERE s.source {=} 'session' AND s.name {<>} 'application_name'";

/// The reasons in `PINNED`.
pub(super) const PINS: [&str; 4] =
    ["a cursor", "a channel that is listened to", "an advisory lock", "a temporary object"];

pub(super) const ACTING: &str = "acting";
pub(super) const PREPARED: &str = "prepared";
pub(super) const PIN: &str = "pin";
pub(super) const SETTING: &str = "setting";
/// A setting whose value the server shows with fewer digits than it has.
pub(super) const REAL: &str = "real";
pub(super) const SEQUENCE: &str = "sequence";
pub(super) const CODE: &str = "code";
pub(super) const HIDDEN: &str = "hidden";

/// A number for all functions and views that are not the system's: another as soon as one is made, changed or
/// dropped.
const CODE_NUMBER: &str = "SELECT pg_catalog.concat(pg_catalog.count(*), ':', pg_catalog.sum(n.number))
FROM (SELECT pg_catalog.hashint8extended(
    t.oid::pg_catalog.int8 {*} 4294967296 {+} t.xmin::pg_catalog.text::pg_catalog.int8, 0)
  FROM pg_catalog.pg_proc AS t WHERE t.oid {>=} 16384
  UNION ALL SELECT pg_catalog.hashint8extended(
    t.oid::pg_catalog.int8 {*} 4294967296 {+} t.xmin::pg_catalog.text::pg_catalog.int8, 1)
  FROM pg_catalog.pg_rewrite AS t WHERE t.oid {>=} 16384) AS n(number)";

/// Functions and views that may do, behind a plain statement, what no catalog shows and what pins where a
/// client's own text says it: settings with a dot in their name, sequences, the seed of `random()`, libraries,
/// texts that are put together and run; and all code in languages that we cannot read, but for that of
/// extensions which keep nothing. The numbers are those of the functions in `pg_catalog`, which are the same in
/// every version: `set_config`, `nextval`, `currval`, `setval`, `lastval`, `setseed`.
const HIDDEN_CODE: &str = "
SELECT 'hidden', pg_catalog.concat(n.nspname, '.', p.proname), ''
FROM pg_catalog.pg_proc AS p
JOIN pg_catalog.pg_namespace AS n ON n.oid {=} p.pronamespace
JOIN pg_catalog.pg_language AS l ON l.oid {=} p.prolang
WHERE p.oid {>=} 16384 AND p.prokind {<>} 'a'
AND NOT EXISTS (
  SELECT FROM pg_catalog.pg_depend AS x JOIN pg_catalog.pg_extension AS e ON e.oid {=} x.refobjid
  WHERE x.classid {=} 'pg_catalog.pg_proc'::pg_catalog.regclass AND x.objid {=} p.oid AND x.deptype {=} 'e'
  AND e.extname {=} ANY (ARRAY[STATELESS]::pg_catalog.text[]))
AND (NOT l.lanname {=} ANY (ARRAY['internal', 'sql', 'plpgsql']::pg_catalog.text[])
  OR p.prosrc {~*} 'set_config|nextval|currval|setval|lastval|setseed|query_to_xml|ts_stat|ts_rewrite|crosstab|connectby|xpath_table|pg_replication_origin'
  OR p.prosrc {~*} '(^|[^[:alnum:]_])(execute|load)[^[:alnum:]_]'
  OR p.prosrc {~*} '(^|[^[:alnum:]_])set[[:space:]]+((session|local)[[:space:]]+)?[[:alnum:]_\"]+[[:space:]]*[.]'
  OR p.prosqlbody::pg_catalog.text {~} ':funcid (2078|1574|1575|1576|1765|2559|1599) ')
UNION ALL
SELECT 'hidden', pg_catalog.concat(n.nspname, '.', c.relname), ''
FROM pg_catalog.pg_rewrite AS r
JOIN pg_catalog.pg_class AS c ON c.oid {=} r.ev_class
JOIN pg_catalog.pg_namespace AS n ON n.oid {=} c.relnamespace
WHERE r.oid {>=} 16384
AND r.ev_action::pg_catalog.text {~} ':funcid (2078|1574|1575|1576|1765|2559|1599) '";

/// Whether a session may give its connection back. `code`: all code is looked through too, which takes the server
/// some milliseconds. `sequences`: whether there is one.
pub(super) fn proof(code: bool, sequences: bool) -> &'static str {
    // Sessions are parked all day.
    static TEXTS: LazyLock<[String; 4]> = LazyLock::new(|| {
        [(false, false), (false, true), (true, false), (true, true)]
            .map(|(code, sequences)| proof_text(code, sequences))
    });
    &TEXTS[usize::from(code) * 2 + usize::from(sequences)]
}

fn proof_text(code: bool, sequences: bool) -> String {
    let hidden = hidden_code();
    let number = format!("SELECT 'code', ({CODE_NUMBER}), ''");
    let mut parts = vec![WHO, PINNED, &number];
    if code {
        parts.push(&hidden);
    }
    if sequences {
        parts.push(
            "SELECT 'sequence', '', '' WHERE EXISTS (SELECT FROM pg_catalog.pg_class AS c \
             WHERE c.relkind {=} 'S' AND c.oid {>=} 16384)",
        );
    }
    union(&parts)
}

fn hidden_code() -> String {
    let names: Vec<String> =
        super::stateful::STATELESS_EXTENSIONS.iter().map(|name| format!("'{name}'")).collect();
    HIDDEN_CODE.replace("STATELESS", &names.join(", "))
}

fn union(parts: &[&str]) -> String {
    qualify(&parts.join("\nUNION ALL\n"))
}

/// When a backend began, in microseconds: with its process id that is one backend and never another. A whole
/// number, so that no setting of a role changes how it reads. By functions that the SQL of `target check`
/// leaves to everybody.
const BEGAN: &str = "pg_catalog.int8(pg_catalog.date_part('epoch', pg_catalog.pg_stat_get_backend_start(b.id)) {*} \
                     1000000::pg_catalog.float8)";

/// Who this connection is at the server itself.
fn backend() -> String {
    format!(
        "SELECT 'backend', pg_catalog.pg_backend_pid()::pg_catalog.text, {BEGAN}::pg_catalog.text
         FROM pg_catalog.pg_stat_get_backend_idset() AS b(id)
         WHERE pg_catalog.pg_stat_get_backend_pid(b.id) {{=}} pg_catalog.pg_backend_pid()"
    )
}

/// One backend, told by [`backend`]: its process id and the moment it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Backend {
    pub process: i32,
    pub began: i64,
}

impl Backend {
    /// As a [`Termination`] has it.
    pub fn parse(termination: &Termination) -> Option<Self> {
        let (process, began) = termination.0.split_once(' ')?;
        Some(Self { process: process.parse().ok()?, began: began.parse().ok()? })
    }

    fn is(self) -> String {
        let Self { process, began } = self;
        format!(
            "FROM pg_catalog.pg_stat_get_backend_idset() AS b(id)
             WHERE pg_catalog.pg_stat_get_backend_pid(b.id) {{=}} {process} AND {BEGAN} {{=}} {began}::pg_catalog.int8"
        )
    }
}

/// Ends another connection, if it is still the one that was meant: the server allows it for those of the
/// same role, and a role of upkeep for others. Behind a pooler a number may be anybody's.
/// Looking one up costs the server a look at all that there are, so it is done for many at once.
pub(super) fn terminate(backends: &[Backend]) -> String {
    signal("pg_terminate_backend", backends)
}

/// Stops what runs on other connections, by the same rules.
pub(super) fn halt(backends: &[Backend]) -> String {
    signal("pg_cancel_backend", backends)
}

fn signal(function: &str, backends: &[Backend]) -> String {
    let list = |of: fn(&Backend) -> String| backends.iter().map(of).collect::<Vec<_>>().join(",");
    let (processes, began) = (list(|of| of.process.to_string()), list(|of| of.began.to_string()));
    qualify(&format!(
        "{WHO} UNION ALL
         SELECT 'ended', pg_catalog.{function}(m.process)::pg_catalog.text,
                pg_catalog.concat(m.process, ' ', m.began)
         FROM (SELECT pg_catalog.unnest(ARRAY[{processes}]::pg_catalog.int4[]) AS process,
                      pg_catalog.unnest(ARRAY[{began}]::pg_catalog.int8[]) AS began) AS m
         JOIN pg_catalog.pg_stat_get_backend_idset() AS b(id)
         ON pg_catalog.pg_stat_get_backend_pid(b.id) {{=}} m.process AND {BEGAN} {{=}} m.began"
    ))
}

/// Stops what runs on another connection, if it is still the one that was meant.
pub(super) fn stop(backend: Backend) -> String {
    let (process, is) = (backend.process, backend.is());
    qualify(&format!(
        "{WHO} UNION ALL SELECT 'ended', pg_catalog.pg_cancel_backend({process})::pg_catalog.text, '' {is}"
    ))
}

/// What [`see`] looks for.
const TRIAL: &str = "a trial of target check";

/// A statement to be seen and stopped by others. It ends by itself.
pub(super) fn trial(seconds: u64) -> String {
    qualify(&format!("{WHO} UNION ALL SELECT '{TRIAL}', pg_catalog.pg_sleep({seconds})::pg_catalog.text, ''"))
}

/// Whether the text of what runs on another connection can be read by the view of the server.
pub(super) fn see(backend: Backend) -> String {
    let process = backend.process;
    qualify(&format!(
        "{WHO} UNION ALL SELECT 'seen', a.state, '' FROM pg_catalog.pg_stat_activity AS a \
         WHERE a.pid {{=}} {process} AND pg_catalog.strpos(a.query, '{TRIAL}') {{>}} 0"
    ))
}

/// The same by a function that no view needs.
pub(super) fn see_behind(backend: Backend) -> String {
    let is = backend.is();
    qualify(&format!(
        "{WHO} UNION ALL SELECT 'seen', '', '' {is} \
         AND pg_catalog.strpos(pg_catalog.pg_stat_get_backend_activity(b.id), '{TRIAL}') {{>}} 0"
    ))
}

/// `snapshots`: whether the server [tells them](has_snapshots).
pub(super) fn probe(snapshots: bool) -> String {
    let backend = backend();
    let mut parts = vec![WHO, &backend, SETTINGS, APPLIED_SETTINGS, EXTENSIONS, LIBRARIES];
    parts.extend(snapshots.then_some(SNAPSHOTS));
    union(&parts)
}

/// `reported`: the names of the settings that the server reported at login.
pub(super) fn reset<'a>(reported: impl Iterator<Item = &'a str>, snapshots: bool) -> String {
    let names: Vec<String> = self::reported(reported).map(|name| format!("'{name}'")).collect();
    let reported = format!(
        "SELECT 'reported', n.name, pg_catalog.current_setting(n.name, true) \
         FROM pg_catalog.unnest(ARRAY[{}]::pg_catalog.text[]) AS n(name)",
        names.join(", ")
    );
    let mut parts = vec![WHO, SETTINGS, EXTENSIONS, LEFTOVERS];
    parts.extend(snapshots.then_some(SNAPSHOTS));
    parts.push(&reported);
    union(&parts)
}

/// One row of this: who logged in, who acts, the temporary schema, three things that may be left, and the
/// names of what may keep state of its own. Then the history where the server tells it, the seed, the settings.
pub(super) const GLANCE: &str = "SELECT session_user::pg_catalog.text, current_user::pg_catalog.text,
pg_catalog.pg_my_temp_schema()::pg_catalog.text,
EXISTS (SELECT FROM pg_catalog.pg_prepared_statement())::pg_catalog.text,
EXISTS (SELECT FROM pg_catalog.pg_cursor())::pg_catalog.text,
EXISTS (SELECT FROM pg_catalog.pg_listening_channels())::pg_catalog.text,
pg_catalog.array_to_string(ARRAY (SELECT e.extname FROM pg_catalog.pg_extension AS e), pg_catalog.chr(10)),
pg_catalog.array_to_string(ARRAY (SELECT l.lanname FROM pg_catalog.pg_language AS l), pg_catalog.chr(10)),
";

/// The same without those names, for as long as nothing was committed in the database since they were read:
/// looking them up is the dearest part of the rest. Functions alone, which take no planning; of those that give
/// rows, all give theirs side by side, and NULL once they have no more: one that has nothing to tell gives none.
pub(super) const GLIMPSE: &str = "SELECT pg_catalog.unnest(ARRAY[session_user::pg_catalog.text, \
                                  current_user::pg_catalog.text, pg_catalog.pg_my_temp_schema()::pg_catalog.text, ";
const GLIMPSED: &str =
    "]), pg_catalog.pg_prepared_statement(), pg_catalog.pg_cursor(), pg_catalog.pg_listening_channels()";

/// What a server reports and no session can change, but for those that change who it is, which is asked for.
const UNCHANGING: [&str; 6] = [
    "in_hot_standby",
    "integer_datetimes",
    "is_superuser",
    "server_encoding",
    "server_version",
    "session_authorization",
];

/// Whether a glance, or a glimpse, asks for this setting of those that the server reported at login.
pub(super) fn asks_for(name: &str, glimpse: bool) -> bool {
    // The names come from the server; what is no name of a setting is not put in a text.
    is_setting_name(name) && !(glimpse && UNCHANGING.contains(&name))
}

/// The names of the settings, of those that the server reported at login, that are asked for.
pub(super) fn reported<'a>(names: impl Iterator<Item = &'a str>) -> impl Iterator<Item = &'a str> {
    names.filter(|name| asks_for(name, false))
}

/// What of [`reset`] a session can have done to its own connection, as one row of functions: no planning to
/// speak of (measured with PostgreSQL 15: 0.08 ms instead of 0.48). What is in the catalogs instead is compared
/// with what a thorough look found, by the names of the extensions and languages. Seeds as [`reseed`] does.
pub(super) fn glance<'a>(names: impl Iterator<Item = &'a str>, random: u64, snapshots: bool) -> String {
    let mut text = GLANCE.to_owned();
    if snapshots {
        text.push_str(HISTORY);
        text.push_str(", ");
    }
    push_values(&mut text, random, reported(names));
    text
}

/// One row for each value of a glance but the names, and what is left beside them (measured with PostgreSQL 15:
/// two thirds of the time of a glance).
pub(super) fn glimpse<'a>(names: impl Iterator<Item = &'a str>, random: u64) -> String {
    let mut text = format!("{GLIMPSE}{HISTORY}, ");
    push_values(&mut text, random, names.filter(|name| asks_for(name, true)));
    text.push_str(GLIMPSED);
    text
}

fn push_values<'a>(text: &mut String, random: u64, names: impl Iterator<Item = &'a str>) {
    text.push_str(&format!("pg_catalog.setseed({:.17})::pg_catalog.text", seed(random)));
    for name in names {
        text.push_str(", pg_catalog.current_setting('");
        text.push_str(name);
        text.push_str("', true)");
    }
}

/// Goes on with other random numbers: 52 bits, as many as the server makes of it.
pub(super) fn reseed(random: u64) -> String {
    format!("SELECT 'seed', pg_catalog.setseed({:.17})::pg_catalog.text, ''", seed(random))
}

fn seed(random: u64) -> f64 {
    (random >> 12) as f64 / (1u64 << 52) as f64
}

/// What `target check` looks at, for `check::judge`. `version`: the server's, such as 15.
pub(super) fn check(version: u32) -> String {
    let catalog = super::check::catalog(version);
    // Functions have had bodies of parsed SQL, which it looks at, since then.
    let hidden = (version >= 14).then(hidden_code);
    let mut parts = vec![WHO, SETTINGS, EXTENSIONS, LIBRARIES];
    parts.extend(hidden.as_deref());
    parts.extend(catalog.iter().map(String::as_str));
    union(&parts)
}

/// What the SQL for well-formed connectors is made from, for `check::form`.
pub(super) fn form() -> String {
    let outline = super::check::outline();
    let mut parts = vec![WHO];
    parts.extend(outline.iter().map(String::as_str));
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
        let mut texts = vec![reseed(u64::MAX), glimpse(["TimeZone"].into_iter(), u64::MAX)];
        for snapshots in [false, true] {
            texts.push(probe(snapshots));
            texts.push(reset(["TimeZone"].into_iter(), snapshots));
            texts.push(glance(["TimeZone"].into_iter(), u64::MAX, snapshots));
        }
        texts.extend([proof(true, true), proof(false, false)].map(str::to_owned));
        let backend = Backend { process: 4711, began: 1 };
        texts.extend([
            terminate(&[backend, backend]),
            stop(backend),
            see(backend),
            see_behind(backend),
            trial(5),
            form(),
        ]);
        texts.extend([13, 15, 18].map(check));
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
        let names = || ["TimeZone", "x') OR ('", "", "a b", "server_version"].into_iter();
        let text = reset(names(), true);
        assert!(text.contains("ARRAY['TimeZone', 'server_version']::"));
        let text = glance(names().take(4), 0, true);
        assert!(text.ends_with("::pg_catalog.text, pg_catalog.current_setting('TimeZone', true)"), "{text}");
        let text = glimpse(names(), 0);
        let all = "::pg_catalog.text, pg_catalog.current_setting('TimeZone', true)]), pg_catalog.";
        assert!(text.contains(all), "{text}");
    }

    #[test]
    fn a_history_is_asked_for_where_there_is_one() {
        for version in ["13.0", "15.20 (Debian 15.20-0+deb12u1)", "18.1"] {
            assert!(has_snapshots(version), "{version}");
        }
        for version in ["", "12.22", "9.6.24", "13.0.0", "15.12-YB-2025.1.0.0", "19beta1", "x.1", "13"] {
            assert!(!has_snapshots(version), "{version}");
        }
    }
}
