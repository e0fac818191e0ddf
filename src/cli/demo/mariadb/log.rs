//! MariaDB's own log of statements (`general_log`), for comparing it with the trail.

use std::collections::HashMap;

use crate::cli::demo::evidence::{Said, normal};
use crate::protocol::mysql::RESET_MARK;

/// The statements of one person: those of a connection from the moment that it bears the person's name. Says the line
/// that gave it the name, too.
pub fn in_server_log(log: &str, user: &str) -> (Vec<Said>, Option<String>) {
    let mut found: Vec<Said> = Vec::new();
    let mut example = None;
    // Who is on which connection.
    let mut bearers: HashMap<u64, String> = HashMap::new();
    let mut inside = false;
    for line in log.lines() {
        let Some((connection, command, text)) = entry(line) else {
            // The rest of a statement of several lines.
            if let Some(last) = found.last_mut().filter(|_| inside) {
                last.text += "\n";
                last.text += line;
            }
            continue;
        };
        inside = false;
        if let Some(session) = stamp(text, user).filter(|_| command == "Query") {
            bearers.insert(connection, session);
            example = example.or_else(|| Some(line.trim().replace('\t', " ")));
            continue;
        }
        // What follows is the proxy's own, or another person's.
        if matches!(command, "Init DB" | "Connect" | "Quit") || text.starts_with("SET @tidegate") {
            bearers.remove(&connection);
        }
        // What a statement prepares or executes is logged once more.
        if command != "Query" {
            continue;
        }
        let Some(session) = bearers.get(&connection) else { continue };
        if is_upkeep(text) {
            continue;
        }
        found.push(Said { session: session.clone(), text: text.to_owned() });
        inside = true;
    }
    for said in &mut found {
        said.text = normal(&said.text);
    }
    (found, example)
}

/// Connection, command and text of a line that begins an entry: time or blanks, number, command, tab, text.
fn entry(line: &str) -> Option<(u64, &str, &str)> {
    let (time, rest) = line.split_once('\t')?;
    let rest = if time.is_empty() { rest.strip_prefix('\t')? } else { rest };
    let (numbered, text) = rest.split_once('\t')?;
    let (number, command) = numbered.trim_start().split_once(' ')?;
    Some((number.parse().ok()?, command, text))
}

/// The session that a stamp of this user names.
fn stamp(text: &str, user: &str) -> Option<String> {
    let (_, rest) = text.strip_prefix("SET @tidegate")?.split_once(&format!("{user}/"))?;
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(rest.len());
    Some(rest[..end].to_owned())
}

/// What the proxy itself asks while a connection bears a person's name.
fn is_upkeep(text: &str) -> bool {
    text.starts_with("SELECT CONNECTION_ID(),CURRENT_USER(),DATABASE(),")
        || text == RESET_MARK
        || normal(text) == "ROLLBACK"
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
261128 21:00:00\t     4 Connect\ttg_orders_rw@127.0.0.1 on shop using SSL/TLS
\t\t     4 Query\tSET @tidegate='alice/s-1'
\t\t     4 Query\tSELECT CONNECTION_ID(),CURRENT_USER(),DATABASE(),CURRENT_ROLE()
\t\t     4 Query\tSELECT a
FROM b
\t\t     5 Query\tSELECT 2
\t\t     4 Query\tSELECT 3
\t\t     4 Query\tSET div_precision_increment=29
\t\t     4 Query\tROLLBACK
\t\t     4 Init DB\tshop
\t\t     4 Query\tSET ROLE NONE
\t\t     4 Query\tSET @tidegate='bob/s-2'
\t\t     4 Query\tSELECT 4
";

    #[test]
    fn a_person_is_found_in_the_servers_own_log() {
        let said = |session: &str, text: &str| Said { session: session.to_owned(), text: text.to_owned() };
        let (found, example) = in_server_log(LOG, "alice");
        assert_eq!(found, [said("s-1", "SELECT a\nFROM b"), said("s-1", "SELECT 3")]);
        assert_eq!(example.as_deref(), Some("4 Query SET @tidegate='alice/s-1'"));
        assert_eq!(in_server_log(LOG, "bob").0, [said("s-2", "SELECT 4")]);
        assert_eq!(in_server_log(LOG, "carol"), (vec![], None));
    }
}
