//! What was sent, what the trail says, and what the database server's own log says: three accounts of
//! the same statements, compared.

use serde_json::Value;

/// One statement of one session, as somebody recorded it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub session: String,
    pub text: String,
}

/// Without what a client may or may not send along.
pub fn normal(text: &str) -> String {
    text.trim().trim_end_matches("\\G").trim_end_matches(';').trim_end().to_owned()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// The statements in lines of the trail, in order.
pub fn in_trail(lines: &[Value]) -> Vec<Said> {
    lines
        .iter()
        .filter(|line| line["event"] == "statement")
        .map(|line| Said { session: text(line, "session").to_owned(), text: normal(text(line, "text")) })
        .collect()
}

/// Whether the trail holds exactly what was sent, in order; otherwise the first difference.
pub fn same_as_sent(trail: &[Said], sent: &[String]) -> Result<(), String> {
    for (number, (said, sent)) in trail.iter().zip(sent).enumerate() {
        let sent = normal(sent);
        if said.text != sent {
            return Err(format!("statement {} was {sent:?}, the trail has {:?}", number + 1, said.text));
        }
    }
    match trail.len() == sent.len() {
        true => Ok(()),
        false => Err(format!("{} statements were sent, the trail has {}", sent.len(), trail.len())),
    }
}

/// The result line of a statement: rows and duration in microseconds, where it succeeded.
pub fn result_of<'a>(lines: &'a [Value], statement: &str) -> Option<&'a Value> {
    let wanted = normal(statement);
    let found =
        lines.iter().find(|line| line["event"] == "statement" && normal(text(line, "text")) == wanted)?;
    lines.iter().find(|line| {
        line["event"] == "result" && line["session"] == found["session"] && line["number"] == found["number"]
    })
}

/// The statements of one person in the server's log: those of lines whose application name begins with
/// the person's, a line that begins with a tab being the rest of the one before. Says one such line too.
pub fn in_server_log(log: &str, user: &str) -> (Vec<Said>, Option<String>) {
    let stamp = format!(" app={user}/");
    let mut found: Vec<Said> = Vec::new();
    let mut example = None;
    let mut inside = false;
    for line in log.lines() {
        if let Some(rest) = line.strip_prefix('\t') {
            if let Some(last) = found.last_mut().filter(|_| inside) {
                last.text += "\n";
                last.text += rest;
            }
            continue;
        }
        inside = false;
        let Some((_, rest)) = line.split_once(&stamp) else { continue };
        let Some((name, message)) = rest.split_once(" LOG:  ") else { continue };
        let Some(sql) = logged_statement(message) else { continue };
        let session = name.split(' ').next().unwrap_or_default().to_owned();
        found.push(Said { session, text: sql.to_owned() });
        example = example.or_else(|| (!is_upkeep(sql)).then(|| line.to_owned()));
        inside = true;
    }
    found.retain(|said| !is_upkeep(&said.text));
    for said in &mut found {
        said.text = normal(&said.text);
    }
    (found, example)
}

fn logged_statement(message: &str) -> Option<&str> {
    if let Some(sql) = message.strip_prefix("statement: ") {
        return Some(sql);
    }
    message.strip_prefix("execute ")?.split_once(": ").map(|(_, sql)| sql)
}

/// What the proxy itself runs while a connection still carries a person's name: its reset. Nothing of
/// the story looks like that.
fn is_upkeep(sql: &str) -> bool {
    matches!(normal(sql).as_str(), "ROLLBACK" | "DISCARD ALL") || sql.contains("pg_catalog.")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LOG: &str = "\
2026-11-22 10:00:00.000 UTC [7] app=alice/s-1 psql LOG:  statement: SELECT 1;
2026-11-22 10:00:00.000 UTC [7] app=bob/s-2 psql LOG:  statement: SELECT 2;
2026-11-22 10:00:00.000 UTC [7] app=alice/s-1 psql LOG:  statement: SELECT a
\tFROM b;
2026-11-22 10:00:00.000 UTC [7] app=alice/s-1 psql ERROR:  relation \"b\" does not exist
2026-11-22 10:00:00.000 UTC [7] app=alice/s-1 psql LOG:  statement: DISCARD ALL
2026-11-22 10:00:00.000 UTC [7] app=tidegate LOG:  execute <unnamed>:
\tSELECT pg_catalog.now()
";

    fn said(session: &str, text: &str) -> Said {
        Said { session: session.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn a_person_is_found_in_the_servers_own_log() {
        let (found, example) = in_server_log(LOG, "alice");
        assert_eq!(found, [said("s-1", "SELECT 1"), said("s-1", "SELECT a\nFROM b")]);
        assert!(example.unwrap().ends_with("SELECT 1;"));
        assert_eq!(in_server_log(LOG, "carol"), (vec![], None));
    }

    #[test]
    fn differences_are_found() {
        let lines = [
            json!({"event": "statement", "session": "s-1", "number": 1, "text": "SELECT 1;"}),
            json!({"event": "result", "session": "s-1", "number": 1, "rows": 1}),
        ];
        let trail = in_trail(&lines);
        assert_eq!(trail, [said("s-1", "SELECT 1")]);
        assert_eq!(same_as_sent(&trail, &["SELECT 1".to_owned()]), Ok(()));
        assert!(same_as_sent(&trail, &["SELECT 2".to_owned()]).unwrap_err().contains("SELECT 2"));
        assert!(same_as_sent(&trail, &[]).unwrap_err().contains("0 statements"));
        assert_eq!(result_of(&lines, "SELECT 1").unwrap()["rows"], 1);
        assert!(result_of(&lines, "SELECT 2").is_none());
    }
}
