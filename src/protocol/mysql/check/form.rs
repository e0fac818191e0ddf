//! `target check --sql`.

use super::super::query::{Server, quoted};
use super::Facts;
use crate::protocol::session::Logins;

/// What a login of a level may do in a database of its own.
fn rights(level: &str) -> (&'static str, &'static str) {
    match level {
        "read" => ("SELECT, SHOW VIEW", "reads, and nothing else"),
        "read_write" => (
            "SELECT, SHOW VIEW, INSERT, UPDATE, DELETE, CREATE TEMPORARY TABLES, LOCK TABLES",
            "reads and writes rows; add EXECUTE where procedures are to be called: they run with their maker's rights",
        ),
        "admin" => (
            "SELECT, SHOW VIEW, INSERT, UPDATE, DELETE, CREATE TEMPORARY TABLES, LOCK TABLES, EXECUTE, CREATE, DROP, \
             ALTER, INDEX, REFERENCES, CREATE VIEW, CREATE ROUTINE, ALTER ROUTINE, TRIGGER",
            "changes the structure too; not EVENT, whose code runs when nobody's grant is open",
        ),
        _ => ("SELECT, SHOW VIEW", "a level of your own: add what it is for"),
    }
}

/// SQL that makes logins which may do what their levels say and no more. To be read and then run by an administrator
/// of the server.
pub(in super::super) fn form(_: &Facts, logins: &Logins, database: &str, server: Server) -> String {
    let database = if database.is_empty() { "DATABASE" } else { database };
    let mut text = String::from(
        "-- Put passwords in, and the address of Tidegate in place of '%' where it is always the same.\n\
         -- Run as an administrator of the server; each statement may be run again.\n",
    );
    // MariaDB has no such clause.
    let keeps = if server.is_mariadb { "" } else { " PASSWORD REQUIRE CURRENT" };
    for (level, login) in &logins.levels {
        let account = format!("{}@'%'", quoted(login));
        let (rights, why) = rights(level);
        let limit = logins.connections;
        text.push_str(&format!(
            "\n-- {level}: {why}.\n\
             CREATE USER IF NOT EXISTS {account} IDENTIFIED BY 'PASSWORD';\n\
             ALTER USER {account} REQUIRE SSL WITH MAX_USER_CONNECTIONS {limit}{keeps};\n\
             REVOKE ALL PRIVILEGES, GRANT OPTION FROM {account};\n\
             GRANT {rights} ON {}.* TO {account};\n",
            quoted(database),
        ));
    }
    if let Some(login) = &logins.upkeep {
        let account = format!("{}@'%'", quoted(login));
        let right = if server.is_mariadb { "CONNECTION ADMIN" } else { "CONNECTION_ADMIN" };
        text.push_str(&format!(
            "\n-- upkeep: ends connections, and sees no data. Nobody is ever lent it.\n\
             CREATE USER IF NOT EXISTS {account} IDENTIFIED BY 'PASSWORD';\n\
             ALTER USER {account} REQUIRE SSL WITH MAX_USER_CONNECTIONS {}{keeps};\n\
             REVOKE ALL PRIVILEGES, GRANT OPTION FROM {account};\n\
             GRANT {right} ON *.* TO {account};\n",
            crate::model::limits::SPARE_CONNECTIONS,
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_level_gets_what_it_is_for() {
        let logins = Logins {
            levels: ["read", "read_write", "admin"]
                .map(|level| (level.to_owned(), format!("shop_{level}")))
                .into(),
            upkeep: Some("shop_upkeep".into()),
            connections: 25,
        };
        let mysql = form(&Facts::default(), &logins, "shop", Server { is_mariadb: false, major: 9 });
        insta::assert_snapshot!(mysql);
        let mariadb = form(&Facts::default(), &logins, "shop", Server { is_mariadb: true, major: 11 });
        assert!(mariadb.contains("CONNECTION ADMIN") && !mariadb.contains("REQUIRE CURRENT"));
    }
}
