//! `target check`: what a login's rights let people do past what its level says, and `--sql`: logins that may do
//! what their levels say and no more
//! (<https://dev.mysql.com/doc/refman/8.4/en/privileges-provided.html>,
//! <https://mariadb.com/docs/server/reference/sql-statements/account-management-sql-statements/grant>).

mod form;
mod grants;

pub(super) use form::form;

use grants::{Grant, Object};

use super::answer::Row;
use super::query::{Server, quoted};
use crate::protocol::session::{Check, Severity};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Topic {
    /// Lines of SHOW GRANTS.
    Grants,
    /// Settings of the server.
    Settings,
}

pub(super) const QUESTIONS: &[(Topic, &str)] = &[
    (Topic::Grants, "SHOW GRANTS"),
    (
        Topic::Settings,
        "SELECT CURRENT_USER(),@@GLOBAL.local_infile,@@GLOBAL.secure_file_priv,@@GLOBAL.init_connect,\
         @@GLOBAL.log_bin_trust_function_creators",
    ),
];

/// What the server answered.
#[derive(Debug, Default)]
pub(super) struct Facts {
    grants: Vec<Grant>,
    settings: Vec<Option<String>>,
    /// The rights of roles have been asked for.
    asked: bool,
}

impl Facts {
    pub fn add(&mut self, topic: Topic, rows: Vec<Row>) {
        match topic {
            Topic::Grants => {
                let lines = rows.into_iter().filter_map(|row| row.into_iter().next().flatten());
                for grant in lines.filter_map(|line| Grant::parse(&line)) {
                    if !self.grants.contains(&grant) {
                        self.grants.push(grant);
                    }
                }
            }
            Topic::Settings => self.settings = rows.into_iter().next().unwrap_or_default(),
        }
    }

    /// What the roles may that the login can take on, once.
    pub fn further_questions(&mut self, server: Server) -> Vec<String> {
        if std::mem::replace(&mut self.asked, true) {
            return Vec::new();
        }
        let roles: Vec<&str> =
            self.grants.iter().flat_map(|grant| &grant.roles).map(String::as_str).collect();
        match server.is_mariadb {
            true => roles.iter().map(|role| format!("SHOW GRANTS FOR {}", quoted(role))).collect(),
            false if roles.is_empty() => Vec::new(),
            false => {
                let roles: Vec<String> = roles
                    .iter()
                    .map(|role| match role.rsplit_once('@') {
                        Some((role, host)) => format!("{}@{}", quoted(role), quoted(host)),
                        None => quoted(role),
                    })
                    .collect();
                vec![format!("SHOW GRANTS FOR CURRENT_USER() USING {}", roles.join(","))]
            }
        }
    }

    fn setting(&self, at: usize) -> &str {
        self.settings.get(at).and_then(Option::as_deref).unwrap_or_default()
    }

    /// Whether the login has a right somewhere.
    fn find(&self, right: &str) -> Option<&Grant> {
        self.grants.iter().find(|grant| grant.has(right))
    }
}

/// Rights that lead out of what any level is for.
const ESCAPES: &[(&[&str], &str)] = &[
    (
        &["SUPER"],
        "it may change the server's variables, end anybody's connection and write where others may only read",
    ),
    (&["FILE"], "it may read and write files of the server's machine (LOAD DATA INFILE, INTO OUTFILE)"),
    (&["CREATE USER"], "it may make and change logins, which then reach the server past Tidegate"),
    (&["ROLE_ADMIN"], "it may give roles to any login"),
    (
        &["SYSTEM_USER"],
        "it may change the server's own accounts, and nobody without this right may end its connections",
    ),
    (
        &["SET USER", "SET_USER_ID", "SET_ANY_DEFINER", "ALLOW_NONEXISTENT_DEFINER"],
        "it may write code that runs with the rights of any account",
    ),
    (
        &["REPLICATION SLAVE", "REPLICATION REPLICA"],
        "it may read every change of every database from the binary log",
    ),
    (
        &["BINLOG REPLAY", "REPLICATION_APPLIER"],
        "it may write any change to any table as if a replica applied it",
    ),
    (
        &[
            "BINLOG_ADMIN",
            "BINLOG ADMIN",
            "REPLICATION_SLAVE_ADMIN",
            "REPLICATION SLAVE ADMIN",
            "REPLICATION MASTER ADMIN",
            "GROUP_REPLICATION_ADMIN",
        ],
        "it may turn replication or the binary log of its changes off",
    ),
    (&["CLONE_ADMIN", "BACKUP_ADMIN"], "it may copy the whole server or hold a lock on all of it"),
    (&["SHUTDOWN"], "it may stop the server"),
    (
        &["CONNECTION_ADMIN", "CONNECTION ADMIN"],
        "it may end the connections of others and gets in where the server is full",
    ),
    (&["PROCESS"], "it may read what everybody on the server runs, with all that is in the texts"),
    (&["RELOAD"], "it may lock the whole server, and flush logs and rights (FLUSH …)"),
    (
        &[
            "SYSTEM_VARIABLES_ADMIN",
            "PERSIST_RO_VARIABLES_ADMIN",
            "READ_ONLY ADMIN",
            "ENCRYPTION_KEY_ADMIN",
            "INNODB_REDO_LOG_ENABLE",
            "TABLE_ENCRYPTION_ADMIN",
            "SERVICE_CONNECTION_ADMIN",
        ],
        "it may change how the server runs for everybody",
    ),
    (
        &["SESSION_VARIABLES_ADMIN", "SENSITIVE_VARIABLES_OBSERVER"],
        "it may set what is kept from ordinary sessions, such as that its changes are not in the binary log",
    ),
    (
        &[
            "AUDIT_ADMIN",
            "AUDIT_ABORT_EXEMPT",
            "FIREWALL_ADMIN",
            "FIREWALL_EXEMPT",
            "PASSWORDLESS_USER_ADMIN",
            "AUTHENTICATION_POLICY_ADMIN",
        ],
        "it may turn the server's own protections off",
    ),
    (
        &["RESOURCE_GROUP_ADMIN", "RESOURCE_GROUP_USER"],
        "it may move connections into other resource groups, which a client's own reset does not undo",
    ),
    (&["FEDERATED ADMIN"], "it may make the server connect to others"),
    (&["PROXY"], "it may act as another account"),
];

/// Rights that make code or data that stays when the session is over.
const LASTING: &[(&[&str], &str)] = &[
    (&["EVENT"], "it may leave code that runs by itself later, when nobody's grant is open"),
    (&["TRIGGER"], "it may leave code that runs when others write to a table"),
    (
        &["CREATE ROUTINE", "ALTER ROUTINE"],
        "it may leave functions and procedures that run with this login's rights for whoever calls them",
    ),
];

const WRITES: &[&str] = &["INSERT", "UPDATE", "DELETE"];
const STRUCTURE: &[&str] =
    &["CREATE", "DROP", "ALTER", "INDEX", "REFERENCES", "CREATE VIEW", "CREATE TABLESPACE", "DELETE HISTORY"];

/// What follows from the rights of a login for the level that it serves.
pub(super) fn judge(facts: &Facts, level: &str, user: &str, server: Server) -> Vec<Check> {
    let account = facts.setting(0);
    let account = if account.is_empty() { quoted(user) } else { account_of(account) };
    let mut found = Vec::new();
    let mut tell = |severity, what: String, sql: Option<String>| found.push(Check { severity, what, sql });
    let revoke = |right: &str, grant: &Grant| format!("REVOKE {right} ON {} FROM {account};", grant.object);
    if facts.grants.is_empty() {
        tell(Severity::Warning, "the server does not tell the login's rights (SHOW GRANTS)".into(), None);
    }
    if let Some(grant) = facts.grants.iter().find(|grant| grant.all && grant.object == Object::Everything) {
        let what =
            "the login has every right on the whole server: whatever is forbidden elsewhere, it may do";
        tell(
            Severity::Danger,
            what.into(),
            Some(revoke("ALL PRIVILEGES, GRANT OPTION", grant).replace(" ON *.*", "")),
        );
    }
    for (rights, what) in ESCAPES {
        for right in *rights {
            if let Some(grant) = facts.grants.iter().find(|grant| grant.names(right)) {
                tell(Severity::Danger, format!("{right}: {what}"), Some(revoke(right, grant)));
            }
        }
    }
    if let Some(grant) = facts.grants.iter().find(|grant| grant.with_grant) {
        let what =
            "GRANT OPTION: it may give its rights to other logins, also to ones that Tidegate does not know";
        tell(Severity::Danger, what.into(), Some(revoke("GRANT OPTION", grant)));
    }
    for right in ["INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "ALTER"] {
        let into_system = |grant: &&Grant| grant.has(right) && grant.object.covers("mysql");
        if let Some(grant) = facts.grants.iter().find(into_system) {
            let what =
                format!("{right} on the database mysql: it may write accounts and rights there itself");
            tell(Severity::Danger, what, Some(revoke(right, grant)));
            break;
        }
    }
    if let Some(grant) = facts.grants.iter().find(|grant| grant.has("SELECT") && grant.object.covers("mysql"))
    {
        let what = "SELECT on the database mysql: it may read the password hashes of all accounts";
        let mend = "grant it on the databases that the level is for";
        tell(Severity::Warning, format!("{what}; {mend}"), Some(revoke("SELECT", grant)));
    }
    by_level(facts, level, &revoke, &mut tell);
    for (rights, what) in LASTING {
        for right in *rights {
            if let Some(grant) = facts.find(right) {
                let severity =
                    if level == "admin" && *right != "EVENT" { Severity::Note } else { Severity::Warning };
                tell(severity, format!("{right}: {what}"), Some(revoke(right, grant)));
            }
        }
    }
    of_server(facts, &account, server, &mut tell);
    found
}

type Tell<'a> = &'a mut dyn FnMut(Severity, String, Option<String>);

/// What is too much for one level and the point of another.
fn by_level(facts: &Facts, level: &str, revoke: &dyn Fn(&str, &Grant) -> String, tell: Tell<'_>) {
    let writes = WRITES.iter().find_map(|right| facts.find(right).map(|grant| (*right, grant)));
    let structure = STRUCTURE.iter().find_map(|right| facts.find(right).map(|grant| (*right, grant)));
    match level {
        "read" => {
            for (right, grant) in writes.into_iter().chain(structure) {
                let what = format!("{right} on {}: the level read may change data", grant.object);
                tell(Severity::Danger, what, Some(revoke(right, grant)));
            }
            if let Some(grant) = facts.find("EXECUTE") {
                let what = "EXECUTE: procedures run with the rights of who made them, and may write";
                tell(Severity::Warning, what.into(), Some(revoke("EXECUTE", grant)));
            }
        }
        "read_write" => {
            if let Some((right, grant)) = structure {
                let what =
                    format!("{right} on {}: the level read_write may change the structure", grant.object);
                tell(Severity::Warning, what, Some(revoke(right, grant)));
            }
        }
        _ => {}
    }
    let global = facts
        .grants
        .iter()
        .find(|grant| !grant.all && grant.object == Object::Everything && !grant.is_empty());
    if let Some(grant) = global {
        let what = "rights on *.* cover every database, also those that no grant of Tidegate names";
        tell(Severity::Warning, what.into(), Some(format!("-- {}", grant.line())));
    }
}

/// What hangs on settings of the server.
fn of_server(facts: &Facts, account: &str, server: Server, tell: Tell<'_>) {
    if !server.is_mariadb && server.major >= 8 {
        let what = "people may change the login's own password, which locks Tidegate out; asking for the current one \
                    when it is changed prevents that";
        tell(Severity::Note, what.into(), Some(format!("ALTER USER {account} PASSWORD REQUIRE CURRENT;")));
    } else {
        let what = "people may change the login's own password, which locks Tidegate out: the server cannot forbid it";
        tell(Severity::Note, what.into(), None);
    }
    if !facts.setting(3).is_empty() {
        let what = "init_connect is set: what it does is undone by the reset between two people, and is then not done \
                    again; put it into the settings of the server";
        tell(Severity::Warning, what.into(), None);
    }
    if facts.setting(4) == "1" && facts.find("CREATE ROUTINE").is_some() {
        let what = "log_bin_trust_function_creators is on: functions need no further right to be made";
        tell(Severity::Note, what.into(), None);
    }
}

/// `user@host` as the server says it, in quotes.
fn account_of(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((user, host)) => format!("{}@{}", quoted(user), quoted(host)),
        None => quoted(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(lines: &[&str]) -> Facts {
        let mut facts = Facts::default();
        facts.add(Topic::Grants, lines.iter().map(|line| vec![Some((*line).to_owned())]).collect());
        let settings = ["conn@%", "1", "", "", "0"].map(|text| Some(text.to_owned())).to_vec();
        facts.add(Topic::Settings, vec![settings]);
        facts
    }

    const MYSQL: Server = Server { is_mariadb: false, major: 9 };
    const MARIADB: Server = Server { is_mariadb: true, major: 11 };

    fn judged(lines: &[&str], level: &str) -> Vec<(Severity, String)> {
        judge(&facts(lines), level, "conn", MARIADB)
            .into_iter()
            .map(|check| (check.severity, check.what))
            .collect()
    }

    #[test]
    fn a_narrow_login_is_well_made() {
        let read = judged(
            &[
                "GRANT USAGE ON *.* TO `conn`@`%` IDENTIFIED BY PASSWORD '*x'",
                "GRANT SELECT, SHOW VIEW ON `shop`.* TO `conn`@`%`",
            ],
            "read",
        );
        assert_eq!(read.len(), 1, "{read:?}");
        assert_eq!(read[0].0, Severity::Note);
    }

    #[test]
    fn each_way_out_is_named() {
        let worst = |lines: &[&str], level: &str| judged(lines, level).into_iter().max().unwrap();
        for (line, level, word) in [
            ("GRANT SELECT, FILE ON *.* TO `conn`@`%`", "admin", "FILE"),
            ("GRANT SUPER ON *.* TO `conn`@`%`", "admin", "SUPER"),
            ("GRANT SELECT ON `shop`.* TO `conn`@`%` WITH GRANT OPTION", "admin", "GRANT OPTION"),
            ("GRANT SELECT, INSERT ON `shop`.* TO `conn`@`%`", "read", "INSERT"),
            ("GRANT UPDATE (a, b) ON `shop`.`t` TO `conn`@`%`", "read", "UPDATE"),
            ("GRANT INSERT ON `mysql`.* TO `conn`@`%`", "admin", "mysql"),
            ("GRANT ALL PRIVILEGES ON *.* TO `conn`@`%`", "admin", "every right"),
            ("GRANT SET USER, BINLOG REPLAY ON *.* TO `conn`@`%`", "admin", "SET USER"),
            ("GRANT PROXY ON ''@'%' TO 'conn'@'%'", "admin", "PROXY"),
        ] {
            let found = judged(&[line], level);
            let named =
                found.iter().any(|(severity, what)| *severity == Severity::Danger && what.contains(word));
            assert!(named, "{line}: {found:?}");
        }
        assert_eq!(worst(&["GRANT SELECT ON *.* TO `conn`@`%`"], "read").0, Severity::Warning);
        assert_eq!(worst(&["GRANT ALL PRIVILEGES ON `shop`.* TO `conn`@`%`"], "read").0, Severity::Danger);
        assert_eq!(worst(&["GRANT ALL PRIVILEGES ON `shop`.* TO `conn`@`%`"], "admin").0, Severity::Warning);
    }

    #[test]
    fn what_mends_it_names_the_account() {
        let checks = judge(&facts(&["GRANT FILE ON *.* TO `conn`@`%`"]), "read", "conn", MYSQL);
        let sql = checks.iter().find(|check| check.what.starts_with("FILE")).unwrap().sql.clone();
        assert_eq!(sql.unwrap(), "REVOKE FILE ON *.* FROM `conn`@`%`;");
    }

    #[test]
    fn the_rights_of_roles_are_asked_for_once() {
        let mut facts = facts(&["GRANT `r1`@`%`,`r2`@`%` TO `conn`@`%`"]);
        assert_eq!(
            facts.further_questions(MYSQL),
            ["SHOW GRANTS FOR CURRENT_USER() USING `r1`@`%`,`r2`@`%`"]
        );
        assert!(facts.further_questions(MYSQL).is_empty());
        let mut facts = super::tests::facts(&["GRANT `r1` TO `conn`@`%`"]);
        assert_eq!(facts.further_questions(MARIADB), ["SHOW GRANTS FOR `r1`"]);
    }
}
