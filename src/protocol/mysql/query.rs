//! The statements that scripts run, and what is known of a session when it is new.
//!
//! Nothing of a client's is part of a text but numbers and names that were checked: a stamp of ours, names of
//! variables and roles that the server itself told, quoted.

use crate::protocol::session::Termination;

/// Variables that differ from one moment to the next, or from one connection to the next, by themselves.
const VOLATILE: &[&str] = &[
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
    "pseudo_thread_id",
    "rand_seed1",
    "rand_seed2",
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
    /// Of all variables of the session, in the order of `names`.
    pub hash: String,
    /// As the server said it; empty for none.
    pub role: String,
    /// The login may hold a lock that a reset leaves (MariaDB's `BACKUP LOCK`), or run in another resource group
    /// (MySQL).
    pub extras: bool,
    pub names: Vec<String>,
}

impl Baseline {
    pub fn to_text(&self) -> String {
        let Self { hash, role, extras, names } = self;
        format!("{hash}\n{}\n{}\n{}", role.replace('\n', " "), u8::from(*extras), names.join(","))
    }

    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.splitn(4, '\n');
        let mut next = || lines.next().map(str::to_owned);
        let (hash, role, extras, names) = (next()?, next()?, next()?, next()?);
        let names: Vec<String> = names.split(',').filter(|name| is_name(name)).map(str::to_owned).collect();
        (!hash.is_empty() && !names.is_empty()).then(|| Self { hash, role, extras: extras == "1", names })
    }
}

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

/// The names of the session's variables.
pub(super) fn names(server: Server) -> &'static str {
    match server.is_mariadb {
        true => {
            "SELECT LOWER(VARIABLE_NAME) FROM information_schema.SYSTEM_VARIABLES WHERE VARIABLE_SCOPE<>'GLOBAL' \
             ORDER BY 1"
        }
        false => {
            "SELECT VARIABLE_NAME FROM performance_schema.variables_metadata WHERE VARIABLE_SCOPE<>'GLOBAL' ORDER BY 1"
        }
    }
}

/// The same where the server does not tell which are the session's: all of them.
pub(super) const ALL_NAMES: &str = "SHOW SESSION VARIABLES";

/// What a reset leaves and a login with rights of its own can have changed: refused to all others.
pub(super) fn extras(server: Server) -> &'static str {
    match server.is_mariadb {
        true => "BACKUP UNLOCK",
        false => "SET RESOURCE GROUP USR_default",
    }
}

/// What has MySQL forget how statements were planned, which has their texts; the reset itself leaves it there.
pub(super) fn forget(server: Server) -> Option<&'static str> {
    (!server.is_mariadb).then_some("SET optimizer_trace_offset=@@GLOBAL.optimizer_trace_offset")
}

/// A number of our own for each of the two words behind `RAND()`. The text is always of the same length.
pub(super) fn reseed(random: u64) -> String {
    // The server takes each modulo 2^30 - 1.
    let (one, two) = (random as u32 & 0x3fff_ffff, (random >> 32) as u32 & 0x3fff_ffff);
    format!("SET rand_seed1={one:010},rand_seed2={two:010}")
}

/// The collation that our own statements are in: everywhere the same number, and its letters are those of UTF-8.
const COLLATION: u16 = 45;

/// Statements and results in the collation of this number, as a handshake with it would have it; `None`: of a
/// character set that no client may speak.
pub(super) fn collation(server: Server, number: u16) -> Option<String> {
    if !server.is_mariadb {
        return Some(format!(
            "SET character_set_client={number},character_set_results={number},collation_connection={number}"
        ));
    }
    // A number stands for that very collation; the name of a character set for what the server makes of it.
    let (name, first, _) =
        CHARACTER_SETS.iter().find(|(_, first, others)| *first == number || others.contains(&number))?;
    Some(match *first == number {
        true => format!("SET NAMES {name}"),
        false => format!("SET NAMES {name},collation_connection={number}"),
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

/// The same for statements of ours: for a baseline it only matters that it is always the same.
///
/// And what a session has set of its socket. A reset puts the variables back and leaves the socket as it was, which no
/// variable shows: it takes a `SET` to have the one follow the other.
pub(super) fn own_collation() -> String {
    format!(
        "SET character_set_client={COLLATION},character_set_results={COLLATION},collation_connection={COLLATION},\
         net_write_timeout=@@GLOBAL.net_write_timeout,net_retry_count=@@GLOBAL.net_retry_count\
         /*M!100400 ,tcp_nodelay=DEFAULT*/"
    )
}

/// As of who names none.
pub(super) const SERVER_COLLATION: &str = "SET character_set_client=@@GLOBAL.character_set_client,\
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

/// One row of how the session is: its identity, what may be left, and a hash of all of its variables.
pub(super) fn state<'a>(server: Server, names: impl Iterator<Item = &'a str>) -> String {
    let mut text = identity(server);
    text.push_str(",@tidegate IS NULL,");
    // Texts of statements, of which no reset takes them out of sight.
    text.push_str(match server.is_mariadb {
        true => "NOT EXISTS(SELECT * FROM information_schema.PROFILING)",
        false => "1",
    });
    text.push_str(",SHA2(CONCAT_WS(CHAR(0)");
    for name in names {
        text.push_str(",IFNULL(@@");
        text.push_str(name);
        text.push_str(",'')");
    }
    text.push_str("),256)");
    text
}
pub(super) const STATE_COLUMNS: usize = IDENTITY_COLUMNS + 3;

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
        let baseline = Baseline {
            hash: "ab".into(),
            role: "a`b".into(),
            extras: true,
            names: vec!["autocommit".into(), "validate.x".into()],
        };
        assert_eq!(Baseline::parse(&baseline.to_text()), Some(baseline.clone()));
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
        let set = "SET character_set_client=255,character_set_results=255,collation_connection=255";
        assert_eq!(collation(mysql, 255).unwrap(), set);
        assert_eq!(collation(mariadb, 45).unwrap(), "SET NAMES utf8mb4");
        assert_eq!(collation(mariadb, 224).unwrap(), "SET NAMES utf8mb4,collation_connection=224");
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
        let text = state(Server { is_mariadb: false, major: 9 }, ["a", "b"].into_iter());
        assert!(text.ends_with("SHA2(CONCAT_WS(CHAR(0),IFNULL(@@a,''),IFNULL(@@b,'')),256)"), "{text}");
    }
}
