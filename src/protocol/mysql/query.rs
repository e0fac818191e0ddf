//! The statements that scripts run, and what is known of a session when it is new.
//!
//! Nothing of a client's is part of a text but numbers and names that were checked: a stamp of ours, names of
//! variables and roles that the server itself told, quoted.

use std::sync::{Arc, Mutex, Weak};

use crate::protocol::session::Termination;

/// Variables that differ from one moment to the next, or from one connection to the next, by themselves; and those that
/// MariaDB lets every login set for the whole server (its replica's): by them one person could have the connections of
/// all others closed.
pub const VOLATILE: &[&str] = &[
    "error_count",
    "gtid_binlog_pos",
    "gtid_binlog_state",
    "gtid_current_pos",
    "gtid_executed",
    "gtid_owned",
    "gtid_purged",
    "gtid_slave_pos",
    "in_transaction",
    "last_gtid",
    "max_relay_log_size",
    "pseudo_thread_id",
    "rand_seed1",
    "rand_seed2",
    "sql_slave_skip_counter",
    "statement_id",
    "timestamp",
    "warning_count",
    "wsrep_gtid_seq_no",
];

/// What a server is, as far as texts hang on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Server {
    pub is_mariadb: bool,
    pub major: u32,
}

impl Server {
    pub fn new(version: &str, is_mariadb: bool) -> Self {
        // MariaDB puts this in front for the sake of old replicas.
        let version = version.strip_prefix("5.5.5-").filter(|_| is_mariadb).unwrap_or(version);
        let digits = version.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        Self { is_mariadb, major: digits.parse().unwrap_or(0) }
    }

    fn has_roles(self) -> bool {
        self.major >= 8
    }

    fn role(self) -> &'static str {
        if self.has_roles() { "CURRENT_ROLE()" } else { "NULL" }
    }
}

/// How a session was when it was new, and what it takes to see that it is so again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Baseline {
    /// Who we are there, with the host.
    pub account: String,
    /// Of all variables of the session, in the order of `variables`.
    pub hash: String,
    /// Of those that [`GLANCED`] names.
    pub glance: String,
    /// As the server said it; empty for none.
    pub role: String,
    /// The login may hold a lock that a reset leaves (MariaDB's `BACKUP LOCK`), or run in another resource group
    /// (MySQL).
    pub extras: bool,
    /// Whether small packets wait can be set for this connection (MariaDB's `tcp_nodelay`: not for a unix socket).
    pub socket: bool,
    pub variables: Arc<[Variable]>,
}

/// One variable of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Variable {
    pub name: String,
    /// It may be NULL, for all that is known.
    pub nullable: bool,
}

impl Baseline {
    pub fn to_text(&self) -> String {
        let Self { account, hash, glance, role, extras, socket, variables } = self;
        let names = variables.iter().map(|Variable { name, nullable }| match nullable {
            true => format!("{name}?"),
            false => name.clone(),
        });
        let names = names.collect::<Vec<_>>().join(",");
        let line = |text: &str| text.replace('\n', " ");
        let (account, role) = (line(account), line(role));
        let (extras, socket) = (u8::from(*extras), u8::from(*socket));
        format!("{account}\n{hash}\n{glance}\n{role}\n{extras}\n{socket}\n{names}")
    }

    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.splitn(7, '\n');
        let mut next = || lines.next().map(str::to_owned);
        let (account, hash, glance, role) = (next()?, next()?, next()?, next()?);
        let (extras, socket, names) = (next()? == "1", next()? == "1", next()?);
        let variables: Vec<Variable> = names
            .split(',')
            .map(|name| match name.strip_suffix('?') {
                Some(name) => Variable { name: name.to_owned(), nullable: true },
                None => Variable { name: name.to_owned(), nullable: false },
            })
            .filter(|variable| is_name(&variable.name))
            .collect();
        let known = ![&account, &hash, &glance].iter().any(|text| text.is_empty()) && !variables.is_empty();
        let variables = share(variables);
        known.then_some(Self { account, hash, glance, role, extras, socket, variables })
    }
}

/// All connections to one server have the same list of some kilobytes, so they have it together.
fn share(variables: Vec<Variable>) -> Arc<[Variable]> {
    static KNOWN: Mutex<Vec<Weak<[Variable]>>> = Mutex::new(Vec::new());
    let mut known = KNOWN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    known.retain(|list| list.strong_count() > 0);
    if let Some(list) = known.iter().filter_map(Weak::upgrade).find(|list| **list == *variables) {
        return list;
    }
    let list: Arc<[Variable]> = variables.into();
    known.push(Arc::downgrade(&list));
    list
}

/// The variables that are looked at whenever a connection comes back, of those that a server has: those that a reset
/// treats one by one, and those that change what a statement means, what it does, or what the client is told of it. All
/// others are looked at now and then: see [`state`].
pub const GLANCED: &[&str] = &[
    "auto_increment_increment",
    "auto_increment_offset",
    "autocommit",
    "character_set_client",
    "character_set_collations",
    "character_set_connection",
    "character_set_database",
    "character_set_filesystem",
    "character_set_results",
    "check_constraint_checks",
    "collation_connection",
    "collation_database",
    "collation_server",
    "completion_type",
    "default_collation_for_utf8mb4",
    "default_master_connection",
    "default_storage_engine",
    "default_tmp_storage_engine",
    "div_precision_increment",
    "foreign_key_checks",
    "group_concat_max_len",
    "gtid_next",
    "insert_id",
    "last_insert_id",
    "lc_time_names",
    "low_priority_updates",
    "max_execution_time",
    "max_statement_time",
    "net_write_timeout",
    "old_mode",
    "optimizer_trace",
    "profiling",
    "pseudo_replica_mode",
    "pseudo_slave_mode",
    "resultset_metadata",
    "session_track_gtids",
    "session_track_schema",
    "session_track_state_change",
    "session_track_system_variables",
    "session_track_transaction_info",
    "skip_replication",
    "sql_auto_is_null",
    "sql_generate_invisible_primary_key",
    "sql_log_bin",
    "sql_mode",
    "sql_safe_updates",
    "sql_select_limit",
    "system_versioning_asof",
    "system_versioning_insert_history",
    "time_zone",
    "transaction_isolation",
    "transaction_read_only",
    "tx_isolation",
    "tx_read_only",
    "unique_checks",
    "updatable_views_with_limit",
];

/// A variable's name: of a component's it has a dot.
pub(super) fn is_name(name: &str) -> bool {
    let in_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'$');
    !name.is_empty() && name.len() <= 128 && name.bytes().all(in_name)
}

/// Whether a variable's value says something of the session's state.
pub(super) fn is_telling(name: &str) -> bool {
    is_name(name) && !VOLATILE.contains(&name)
}

/// Which connection it is, who we are there, the database, the role.
pub(super) fn identity(server: Server) -> String {
    format!("SELECT CONNECTION_ID(),CURRENT_USER(),DATABASE(),{}", server.role())
}
pub(super) const IDENTITY_COLUMNS: usize = 4;

/// The names of the session's variables, and whether each may be NULL: of the numbers none is. Whoever asks of all of
/// them for that pays twice.
pub(super) fn names(server: Server) -> &'static str {
    match server.is_mariadb {
        true => {
            "SELECT LOWER(VARIABLE_NAME),VARIABLE_TYPE NOT LIKE '%INT%' AND VARIABLE_TYPE NOT IN \
             ('BOOLEAN','DOUBLE','SET','FLAGSET') FROM information_schema.SYSTEM_VARIABLES WHERE VARIABLE_SCOPE<>'GLOBAL' \
             ORDER BY 1"
        }
        false => {
            "SELECT VARIABLE_NAME,DATA_TYPE NOT IN ('Integer','Boolean','Numeric','Set','Enumeration') \
             FROM performance_schema.variables_metadata WHERE VARIABLE_SCOPE<>'GLOBAL' ORDER BY 1"
        }
    }
}

/// The same where the server does not tell which are the session's: all of them, with their values.
pub(super) const ALL_NAMES: &str = "SHOW SESSION VARIABLES";

/// What a reset leaves and a login with rights of its own can have changed: refused to all others.
pub(super) fn extras(server: Server) -> &'static str {
    match server.is_mariadb {
        true => "BACKUP UNLOCK",
        false => "SET RESOURCE GROUP USR_default",
    }
}

/// A value that no session has by itself, for the reset to put back: one that does nothing is not taken for one that
/// found nothing to do. In letters that are the same in every character set that a client may speak.
pub const MARK: &str = "SET div_precision_increment=29";

/// Whether a connection takes it to have small packets wait, or not to.
pub(super) const SOCKET: &str = "SET tcp_nodelay=DEFAULT";

/// What a reset leaves as it is.
///
/// - The state behind `RAND()` is no setting: whoever has seen enough numbers knows those of the next person. So it is
///   given a number of our own for each of its two words.
/// - The character set is the server's then, or that of the login. For a baseline it only matters that it is always the
///   same; ours is that of statements of ours.
/// - What a session has set of its socket. A reset puts the variables back and leaves the socket as it was, which no
///   variable shows: it takes a `SET` to have the one follow the other.
/// - How MySQL planned statements, which has their texts: it forgets that as the setting is set.
pub(super) fn undo(server: Server, random: u64, socket: bool) -> String {
    // The server takes each modulo 2^30 - 1.
    let (one, two) = (random as u32 & 0x3fff_ffff, (random >> 32) as u32 & 0x3fff_ffff);
    let mut text = format!(
        "SET rand_seed1={one:010},rand_seed2={two:010},character_set_client={COLLATION},\
         character_set_results={COLLATION},collation_connection={COLLATION},\
         net_write_timeout=@@GLOBAL.net_write_timeout,net_retry_count=@@GLOBAL.net_retry_count"
    );
    if socket {
        text.push_str(",tcp_nodelay=DEFAULT");
    }
    if !server.is_mariadb {
        text.push_str(",optimizer_trace_offset=@@GLOBAL.optimizer_trace_offset");
    }
    text
}

/// The collation that our own statements are in: everywhere the same number, and its letters are those of UTF-8.
const COLLATION: u16 = 45;

/// Statements and results in the collation of this number, as a handshake with it would have it; `None`: of a
/// character set that no client may speak. Behind another assignment.
pub(super) fn collation(server: Server, number: u16) -> Option<String> {
    if !server.is_mariadb {
        return Some(format!(
            "character_set_client={number},character_set_results={number},collation_connection={number}"
        ));
    }
    // A number stands for that very collation; the name of a character set for what the server makes of it.
    let (name, first, _) =
        CHARACTER_SETS.iter().find(|(_, first, others)| *first == number || others.contains(&number))?;
    Some(match *first == number {
        true => format!("NAMES {name}"),
        false => format!("NAMES {name},collation_connection={number}"),
    })
}

/// Of MariaDB, those that a client may speak: the name, its first collation, and the others that a handshake can
/// say, which has one byte for them.
const CHARACTER_SETS: &[(&str, u16, &[u16])] = &[
    ("big5", 1, &[84]),
    ("dec8", 3, &[69]),
    ("cp850", 4, &[80]),
    ("hp8", 6, &[72]),
    ("koi8r", 7, &[74]),
    ("latin1", 8, &[5, 15, 31, 47, 48, 49, 94]),
    ("latin2", 9, &[2, 21, 27, 77]),
    ("swe7", 10, &[82]),
    ("ascii", 11, &[65]),
    ("ujis", 12, &[91]),
    ("sjis", 13, &[88]),
    ("hebrew", 16, &[71]),
    ("tis620", 18, &[89]),
    ("euckr", 19, &[85]),
    ("koi8u", 22, &[75]),
    ("gb2312", 24, &[86]),
    ("greek", 25, &[70]),
    ("cp1250", 26, &[34, 44, 66, 99]),
    ("gbk", 28, &[87]),
    ("latin5", 30, &[78]),
    ("armscii8", 32, &[64]),
    (
        "utf8mb3",
        33,
        &[
            83, 192, 193, 194, 195, 196, 197, 198, 199, 200, 201, 202, 203, 204, 205, 206, 207, 208, 209,
            210, 211, 212, 213, 214, 215, 223,
        ],
    ),
    ("cp866", 36, &[68]),
    ("keybcs2", 37, &[73]),
    ("macce", 38, &[43]),
    ("macroman", 39, &[53]),
    ("cp852", 40, &[81]),
    ("latin7", 41, &[20, 42, 79]),
    (
        "utf8mb4",
        45,
        &[
            46, 224, 225, 226, 227, 228, 229, 230, 231, 232, 233, 234, 235, 236, 237, 238, 239, 240, 241,
            242, 243, 244, 245, 246, 247, 255,
        ],
    ),
    ("cp1251", 51, &[14, 23, 50, 52]),
    ("cp1256", 57, &[67]),
    ("cp1257", 59, &[29, 58]),
    ("binary", 63, &[]),
    ("geostd8", 92, &[93]),
    ("cp932", 95, &[96]),
    ("eucjpms", 97, &[98]),
];

/// As of who names none.
pub(super) const SERVER_COLLATION: &str = "character_set_client=@@GLOBAL.character_set_client,\
     character_set_results=@@GLOBAL.character_set_results,collation_connection=@@GLOBAL.collation_connection";

/// Back to the roles that the login began with.
pub(super) fn role(server: Server, baseline: &Baseline) -> Option<String> {
    match (server.has_roles(), server.is_mariadb) {
        (false, _) => None,
        (true, false) => Some("SET ROLE DEFAULT".into()),
        (true, true) if baseline.role.is_empty() => Some("SET ROLE NONE".into()),
        (true, true) => Some(format!("SET ROLE {}", quoted(&baseline.role))),
    }
}

/// The role that the next login begins with, where a role is set by its name: the login itself may have chosen
/// another.
pub(super) fn default_role(server: Server) -> Option<&'static str> {
    server
        .is_mariadb
        .then_some("SELECT ROLE_NAME FROM information_schema.APPLICABLE_ROLES WHERE IS_DEFAULT='YES'")
}

/// A name in backticks.
pub(super) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Texts of statements that were profiled, of which no reset takes them out of sight: rows, where there are any. MySQL
/// clears them.
pub(super) fn profiles(server: Server) -> Option<&'static str> {
    server.is_mariadb.then_some("SHOW PROFILES")
}

/// One row of how the session is: its identity, whether a variable of ours is left, a hash of the variables that
/// [`GLANCED`] names, and, `thoroughly`, one of all.
///
/// Why the glance is enough where the thorough look is only taken of connections that are made, once a second of those
/// that come back, and of one that the pool owes a look (`pool::look`): both servers keep a session's variables in
/// one structure, and `COM_RESET_CONNECTION` assigns the global one to it as a whole (MySQL and MariaDB:
/// `THD::init`, `plugin_thdvar_init`), so they are put back together or not at all. That it happened on this
/// connection is seen by the members of that structure that the glance looks at, one of which ([`MARK`]) we have set to
/// what no session has. What is kept elsewhere and put back by statements of its own (last ids, what is tracked,
/// isolation, character sets, the replica's) is in the glance itself.
///
/// What the glance does not show: a variable outside of that structure that nobody here knows of (a plugin's with a
/// store of its own, or one of a later version), left by somebody within the second before the next thorough look. It
/// would be about how much memory or time something takes, for whatever changes what a statement means is glanced at;
/// and the next look closes the connection. What a session leaves beside its variables neither of the two shows: that
/// is what the table in `script.rs` is about.
pub(super) fn state(server: Server, variables: &[Variable], thoroughly: bool) -> String {
    let mut text = identity(server);
    text.push_str(",@tidegate IS NULL,");
    let glanced = variables.iter().filter(|variable| GLANCED.contains(&variable.name.as_str()));
    put_hash(&mut text, glanced);
    text.push(',');
    match thoroughly {
        true => put_hash(&mut text, variables.iter()),
        false => text.push_str("NULL"),
    }
    text
}
pub(super) const STATE_COLUMNS: usize = IDENTITY_COLUMNS + 3;

fn put_hash<'a>(text: &mut String, variables: impl Iterator<Item = &'a Variable>) {
    text.push_str("SHA2(CONCAT_WS(CHAR(0)");
    for Variable { name, nullable } in variables {
        text.push_str(if *nullable { ",IFNULL(@@" } else { ",@@" });
        text.push_str(name);
        text.push_str(if *nullable { ",'')" } else { "" });
    }
    // Of none at all there is something to hash.
    text.push_str(",''),256)");
}

/// Another connection, by the number that it has for itself.
fn number(of: &Termination) -> Option<u64> {
    of.0.parse().ok()
}

/// Ends another connection: the server allows it for those of the same user, and a login of upkeep for others.
pub(super) fn terminate(of: &Termination) -> Option<String> {
    number(of).map(|number| format!("KILL CONNECTION {number}"))
}

/// Stops what runs on another connection.
pub(super) fn stop(of: &Termination) -> Option<String> {
    number(of).map(|number| format!("KILL QUERY {number}"))
}

/// What [`see`] looks for.
const TRIAL: &str = "a trial of target check";

/// A statement to be seen and stopped by others. It ends by itself. One that is stopped says so by its value.
pub(super) fn trial(seconds: u64) -> String {
    format!("SELECT '{TRIAL}',SLEEP({seconds})")
}

/// Whether the text of what runs on another connection can be read by the list of the server's connections.
pub(super) fn see(of: &Termination) -> Option<String> {
    number(of).map(|number| {
        format!(
            "SELECT ID FROM information_schema.PROCESSLIST WHERE ID={number} AND LOCATE('{TRIAL}',INFO)>0"
        )
    })
}

/// The same by what the server writes down of statements.
pub(super) fn see_behind(of: &Termination) -> Option<String> {
    number(of).map(|number| {
        format!(
            "SELECT PROCESSLIST_ID FROM performance_schema.threads WHERE PROCESSLIST_ID={number} \
             AND LOCATE('{TRIAL}',PROCESSLIST_INFO)>0"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_with_and_without_what_stands_before_it() {
        let server = |version: &str, is_mariadb| Server::new(version, is_mariadb).major;
        assert_eq!(server("5.5.5-10.11.6-MariaDB", true), 10);
        assert_eq!(server("11.8.2-MariaDB", true), 11);
        assert_eq!(server("8.4.0", false), 8);
        assert_eq!(server("5.7.44-log", false), 5);
        assert_eq!(server("", false), 0);
    }

    #[test]
    fn a_baseline_survives_as_text() {
        let variable = |name: &str, nullable| Variable { name: name.into(), nullable };
        let baseline = Baseline {
            account: "conn@10.%".into(),
            hash: "ab".into(),
            glance: "cd".into(),
            role: "a`b".into(),
            extras: true,
            socket: false,
            variables: [variable("autocommit", false), variable("validate.x", true)].into(),
        };
        let [one, other] = [(); 2].map(|()| Baseline::parse(&baseline.to_text()).unwrap());
        assert_eq!(one, baseline);
        assert!(Arc::ptr_eq(&one.variables, &other.variables), "one list for both");
        assert_eq!(Baseline::parse(""), None);
        let mariadb = Server { is_mariadb: true, major: 11 };
        assert_eq!(role(mariadb, &baseline).unwrap(), "SET ROLE `a``b`");
        assert_eq!(role(mariadb, &Baseline::default()).unwrap(), "SET ROLE NONE");
        assert_eq!(role(Server { is_mariadb: false, major: 5 }, &baseline), None);
    }

    #[test]
    fn a_collation_is_set_as_a_handshake_would() {
        let mysql = Server { is_mariadb: false, major: 9 };
        let mariadb = Server { is_mariadb: true, major: 11 };
        let set = "character_set_client=255,character_set_results=255,collation_connection=255";
        assert_eq!(collation(mysql, 255).unwrap(), set);
        assert_eq!(collation(mariadb, 45).unwrap(), "NAMES utf8mb4");
        assert_eq!(collation(mariadb, 224).unwrap(), "NAMES utf8mb4,collation_connection=224");
        assert_eq!(collation(mariadb, 35), None, "ucs2");
        let mut all: Vec<u16> = CHARACTER_SETS
            .iter()
            .flat_map(|(_, first, others)| others.iter().chain([first]))
            .copied()
            .collect();
        all.sort_unstable();
        let count = all.len();
        all.dedup();
        assert_eq!(all.len(), count, "each number stands for one");
    }

    #[test]
    fn only_names_get_into_a_text() {
        assert!(is_telling("sql_mode") && is_telling("mysqlx.a_b"));
        assert!(!is_telling("timestamp"));
        for bad in ["", "a b", "a'b", "a,b", "a;b", "a`"] {
            assert!(!is_name(bad), "{bad}");
        }
        let variable = |name: &str, nullable| Variable { name: name.into(), nullable };
        let all = [variable("a", false), variable("b", true), variable("sql_mode", false)];
        let mysql = Server { is_mariadb: false, major: 9 };
        let glance = ",@tidegate IS NULL,SHA2(CONCAT_WS(CHAR(0),@@sql_mode,''),256),";
        let text = state(mysql, &all, true);
        let rest = "SHA2(CONCAT_WS(CHAR(0),@@a,IFNULL(@@b,''),@@sql_mode,''),256)";
        assert!(text.ends_with(&format!("{glance}{rest}")), "{text}");
        let text = state(mysql, &all, false);
        assert!(text.ends_with(&format!("{glance}NULL")), "{text}");
    }

    #[test]
    fn what_is_glanced_at_is_told_by_the_reset() {
        assert!(GLANCED.is_sorted() && GLANCED.iter().all(|name| is_telling(name)));
        let marked = MARK.strip_prefix("SET ").and_then(|text| text.split_once('=')).unwrap().0;
        assert!(GLANCED.contains(&marked));
    }

    #[test]
    fn the_undoing_follows_what_the_connection_takes() {
        let mysql = undo(Server { is_mariadb: false, major: 9 }, u64::MAX, false);
        assert!(mysql.ends_with(",optimizer_trace_offset=@@GLOBAL.optimizer_trace_offset"), "{mysql}");
        assert!(mysql.starts_with("SET rand_seed1=1073741823,rand_seed2=1073741823,"), "{mysql}");
        let mariadb = Server { is_mariadb: true, major: 11 };
        assert!(undo(mariadb, 7, true).ends_with(",tcp_nodelay=DEFAULT"));
        assert!(undo(mariadb, 7, false).ends_with("=@@GLOBAL.net_retry_count"));
        assert!(undo(mariadb, 7, false).starts_with("SET rand_seed1=0000000007,rand_seed2=0000000000,"));
    }
}
