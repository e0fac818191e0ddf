//! Lines of the trail in the form that people read: time, event, user, target, and what happened.

use std::collections::HashMap;

use serde_json::Value;

use crate::cli::output::{counted, plain};
use crate::cli::time;
use crate::model::Time;

/// A statement is shown up to here; `--json` has the whole.
const TEXT_CHARS_MAX: usize = 200;
/// Columns of lines that are printed one by one, before the widest is known.
const EVENT_WIDTH: usize = 14;
const NAME_WIDTH: usize = 8;

/// One line in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    time: Option<Time>,
    event: String,
    user: String,
    target: String,
    text: String,
    /// Session and number of a statement, by which its result finds it.
    statement: Option<(String, u64)>,
}

/// A line that is no JSON object is shown as it is.
pub fn read(line: &str) -> Row {
    let value: Value = serde_json::from_str(line).unwrap_or(Value::Null);
    if !value.is_object() {
        return Row {
            time: None,
            event: "unreadable".into(),
            user: String::new(),
            target: String::new(),
            text: shortened(line),
            statement: None,
        };
    }
    let event = text(&value, "event").to_owned();
    let user = match event.as_str() {
        "admin" => actor(&value["actor"]),
        _ => text(&value, "user").to_owned(),
    };
    let statement = match event.as_str() {
        "statement" | "result" => {
            Some((text(&value, "session").to_owned(), value["number"].as_u64().unwrap_or_default()))
        }
        _ => None,
    };
    Row {
        time: text(&value, "time").parse().ok(),
        user: plain(&user),
        target: plain(text(&value, "target")),
        text: words(&event, &value),
        event: plain(&event),
        statement,
    }
}

/// All lines at once: results stand with their statements, columns fit.
pub fn render(lines: &[Row]) -> String {
    let mut rows: Vec<Row> = Vec::with_capacity(lines.len());
    let mut open: HashMap<(String, u64), usize> = HashMap::new();
    for row in lines {
        if let Some(key) = &row.statement {
            if row.event == "result"
                && let Some(place) = open.remove(key)
            {
                let result = row.text.split_once(": ").map_or(row.text.as_str(), |(_, result)| result);
                rows[place].text += &format!("  → {result}");
                continue;
            }
            if row.event == "statement" {
                open.insert(key.clone(), rows.len());
            }
        }
        rows.push(row.clone());
    }
    let width =
        |field: fn(&Row) -> &str| rows.iter().map(|row| field(row).chars().count()).max().unwrap_or(0);
    let widths = (width(|row| &row.event), width(|row| &row.user), width(|row| &row.target));
    let mut printer = Printer { widths, day: String::new() };
    rows.iter().map(|row| printer.line(row)).collect()
}

/// Prints rows, a day's date above its first one.
pub struct Printer {
    widths: (usize, usize, usize),
    day: String,
}

impl Default for Printer {
    fn default() -> Self {
        Self { widths: (EVENT_WIDTH, NAME_WIDTH, NAME_WIDTH), day: String::new() }
    }
}

impl Printer {
    pub fn line(&mut self, row: &Row) -> String {
        let mut line = String::new();
        let stamp = row.time.map(time::show_millis).unwrap_or_default();
        let (day, clock) = stamp.split_once(' ').unwrap_or(("", "-"));
        if !day.is_empty() && day != self.day {
            line += &format!("{day}\n");
            self.day = day.to_owned();
        }
        let (event, user, target) = self.widths;
        line += &format!(
            "{clock:<13}  {:<event$}  {:<user$}  {:<target$}  {}",
            row.event, row.user, row.target, row.text
        );
        line.truncate(line.trim_end().len());
        line + "\n"
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_default()
}

fn shortened(text: &str) -> String {
    let line = plain(text);
    match line.char_indices().nth(TEXT_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn actor(actor: &Value) -> String {
    match actor {
        Value::String(name) if name == "proxy" => "tidegate".to_owned(),
        other => {
            let local = &other["local"];
            match local["name"].as_str() {
                Some(name) => name.to_owned(),
                None => format!("uid {}", local["uid"]),
            }
        }
    }
}

/// Parts that are there, with commas.
fn joined<const N: usize>(parts: [String; N]) -> String {
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

/// `label value` where there is a value.
fn labelled(label: &str, value: &str) -> String {
    if value.is_empty() { String::new() } else { format!("{label} {}", plain(value)) }
}

/// `5 TG001, 2 TG020`.
fn codes(counts: &Value) -> String {
    let counts = counts.as_object().into_iter().flatten();
    counts.map(|(code, count)| format!("{count} {}", plain(code))).collect::<Vec<_>>().join(", ")
}

fn words(event: &str, value: &Value) -> String {
    let get = |key| text(value, key);
    match event {
        "node_start" => labelled("version", get("version")),
        "node_stop" => format!("{} cut", counted(number(value, "sessions_cut") as usize, "session")),
        "journal_recovered" => {
            format!("{} of the last process", counted(number(value, "records") as usize, "record"))
        }
        "login_accepted" => joined([
            plain(get("level")),
            labelled("grant", get("grant")),
            labelled("database", get("database")),
            labelled("from", get("peer")),
            labelled("via", get("via")),
            labelled("certificate", value["certificate"]["serial"].as_str().unwrap_or_default()),
            if value["tls"] == true { "TLS".to_owned() } else { "no TLS".to_owned() },
            settings(&value["settings"]),
        ]),
        "login_refused" => joined([
            format!("{} {}", plain(get("code")), plain(get("why"))),
            labelled("from", get("peer")),
            labelled("via", get("via")),
            if value["authenticated"] == true { String::new() } else { "name not proven".to_owned() },
        ]),
        "logins_refused" => joined([
            format!("{} more", number(value, "count")),
            codes(&value["codes"]),
            labelled("from", if get("source").is_empty() { "many sources" } else { get("source") }),
        ]),
        "session_start" => joined([
            plain(get("session")),
            labelled("upstream", get("upstream")),
            labelled("level", get("level")),
            format!("waited {} ms", number(value, "wait_ms")),
        ]),
        "session_end" => session_end(value),
        "session_parked" => format!("gave back {}", plain(get("upstream"))),
        "session_resumed" => format!("goes on with {}", plain(get("upstream"))),
        "session_moved" => format!("from grant {} to {}", plain(get("from")), plain(get("to"))),
        "cancel" => joined([
            labelled("session", get("session")),
            labelled("from", get("peer")),
            if value["sent"] == true { "sent".to_owned() } else { "nothing to cancel".to_owned() },
        ]),
        "kill" => joined([
            format!("number {}", number(value, "number")),
            if value["ends"] == true { "the session".to_owned() } else { "its statement".to_owned() },
            match value["meant"].is_string() {
                true => labelled("of session", get("meant")),
                false => "none of theirs".to_owned(),
            },
        ]),
        "admin" => {
            let reason = labelled("because", get("reason"));
            joined([format!("{} {}", plain(get("action")), plain(get("object"))), reason])
        }
        "alarm" => shortened(get("what")),
        "statement" => statement(value),
        "result" => format!("#{}: {}", number(value, "number"), result(value)),
        "file" => {
            let cut = if value["whole"] == false { ", not to its end" } else { "" };
            let (bytes, hash) = (number(value, "bytes"), plain(get("sha256")));
            format!(
                "#{}: {} bytes of {}, sha256 {hash}{cut}",
                number(value, "number"),
                bytes,
                shortened(get("name"))
            )
        }
        "prepare" => format!("{}: {}{}", plain(get("name")), shortened(get("text")), label(value)),
        _ => others(value),
    }
}

/// What the client set from the start.
fn settings(value: &Value) -> String {
    let all = value.as_object().into_iter().flatten();
    let shown: Vec<_> =
        all.map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default())).collect();
    if shown.is_empty() { String::new() } else { format!("with {}", shortened(&shown.join(" "))) }
}

fn session_end(value: &Value) -> String {
    let code = text(value, "code");
    let how = joined([format!("{} {}", plain(text(value, "how")), plain(code)).trim_end().to_owned()]);
    let why = text(value, "why");
    let told = match value["error_delivered"].as_bool() {
        Some(true) => "the client was told",
        Some(false) => "the client could not be told",
        None => "",
    };
    let seconds = value["seconds"].as_f64().unwrap_or_default();
    joined([
        if why.is_empty() { how } else { format!("{how}: {}", plain(why)) },
        counted(number(value, "statements") as usize, "statement"),
        time::measured((seconds * 1e6) as u64),
        told.to_owned(),
    ])
}

fn statement(value: &Value) -> String {
    let mut line = format!("#{} {}", number(value, "number"), shortened(text(value, "text")));
    if let Some(parameters) = value["parameters"].as_array().filter(|all| !all.is_empty()) {
        let shown: Vec<_> = parameters.iter().map(parameter).collect();
        line += &format!("  [{}]", shortened(&shown.join(", ")));
    }
    line + &label(value)
}

/// What the statement does to which tables, where its text does not say so by itself: `{DELETE, writes
/// orders, reads items}`.
fn label(value: &Value) -> String {
    let names = |key: &str| {
        let all = value[key].as_array().into_iter().flatten().filter_map(Value::as_str);
        all.map(plain).collect::<Vec<_>>().join(" ")
    };
    let (verbs, reads, writes) = (names("verbs"), names("reads"), names("writes"));
    if reads.is_empty() && writes.is_empty() && !verbs.contains(' ') && value["label"].is_null() {
        return String::new();
    }
    let why = labelled("label:", text(value, "label"));
    let parts = joined([verbs, labelled("writes", &writes), labelled("reads", &reads), why]);
    format!("  {{{}}}", shortened(&parts))
}

fn parameter(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::String(text) => format!("'{}'", shortened(text)),
        other => other.to_string(),
    }
}

fn result(value: &Value) -> String {
    let took = time::measured(number(value, "duration_us"));
    let sqlstate = text(value, "sqlstate");
    if !sqlstate.is_empty() {
        return joined([format!("failed with {}", plain(sqlstate)), actions(value), took]);
    }
    let tag = text(value, "tag");
    let counted_as = text(value, "counted");
    if !counted_as.is_empty() || value["actions"].is_object() {
        return joined([plain(tag), documents(value, counted_as), actions(value), took]);
    }
    match tag.starts_with("SELECT ") || tag.starts_with("FETCH ") {
        true => format!("{}, {took}", counted(number(value, "rows") as usize, "row")),
        false if tag.is_empty() => took,
        false => format!("{}, {took}", plain(tag)),
    }
}

/// `12 hits`, of an answer that says so.
fn documents(value: &Value, what: &str) -> String {
    if what.is_empty() {
        return String::new();
    }
    let or_more = if value["at_least"] == true { " or more" } else { "" };
    format!("{}{or_more}", counted(number(value, "rows") as usize, plain(what).trim_end_matches('s')))
}

/// What a `_bulk` asks for: `index 5 logs-1, delete 1 logs-2`.
fn actions(value: &Value) -> String {
    let mut all: Vec<String> = Vec::new();
    for (action, indices) in value["actions"].as_object().into_iter().flatten() {
        for (index, count) in indices.as_object().into_iter().flatten() {
            let behind = value["stands_for"][index].as_array().into_iter().flatten();
            let behind: Vec<_> = behind.filter_map(Value::as_str).map(plain).collect();
            let behind = if behind.is_empty() { String::new() } else { format!(" ({})", behind.join(" ")) };
            all.push(format!("{} {count} {}{behind}", plain(action), plain(index)));
        }
    }
    let others = value["actions_of_others"].as_object().into_iter().flatten();
    all.extend(others.map(|(action, count)| format!("{} {count} others", plain(action))));
    if all.is_empty() { String::new() } else { format!("[{}]", shortened(&all.join(", "))) }
}

/// An event that this version does not know: its own fields, as they are.
fn others(value: &Value) -> String {
    let known = ["seq", "time", "event", "user", "target", "chain"];
    let fields = value.as_object().into_iter().flatten();
    let shown: Vec<_> = fields
        .filter(|(key, _)| !known.contains(&key.as_str()))
        .map(|(key, value)| format!("{}={}", plain(key), shortened(&value.to_string())))
        .collect();
    shown.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(lines: &[&str]) -> Vec<Row> {
        lines.iter().map(|line| read(line)).collect()
    }

    const LINES: [&str; 9] = [
        r#"{"seq":1,"time":"2026-11-22T10:29:01.5Z","event":"admin","actor":{"local":{"uid":0,"name":"root"}},"action":"grant.create","object":"g-0000000000001","reason":"ticket 7","chain":"00"}"#,
        r#"{"seq":2,"time":"2026-11-22T10:29:02.5Z","event":"login_accepted","session":"s-0000000000001","user":"alice","target":"orders","level":"read","grant":"g-0000000000001","database":"shop","peer":"127.0.0.1:5","protocol":"postgres","tls":true,"credential":"c-0000000000001","others":0,"settings":{"application_name":"psql","search_path":"a"}}"#,
        r#"{"seq":3,"time":"2026-11-22T10:29:03Z","event":"statement","session":"s-0000000000001","user":"alice","target":"orders","number":1,"kind":"simple","text":"SELECT *\n  FROM product"}"#,
        r#"{"seq":4,"time":"2026-11-22T10:29:03.1Z","event":"result","session":"s-0000000000001","user":"alice","target":"orders","number":1,"tag":"SELECT 42","rows":42,"bytes_up":1,"bytes_down":2,"duration_us":3100}"#,
        r#"{"seq":5,"time":"2026-11-22T10:29:04Z","event":"statement","session":"s-0000000000001","user":"alice","target":"orders","number":2,"kind":"extended","text":"select $1, $2 from a","parameters":[5,"x"],"verbs":["SELECT"],"reads":["a"]}"#,
        r#"{"seq":6,"time":"2026-11-22T10:29:05Z","event":"result","session":"s-0000000000001","user":"alice","target":"orders","number":2,"tag":"","rows":0,"duration_us":900,"sqlstate":"57P01"}"#,
        r#"{"seq":7,"time":"2026-11-23T00:00:00Z","event":"session_end","session":"s-0000000000001","user":"alice","target":"orders","grant":"g-0000000000001","how":"cut","code":"TG004","why":"the grant was revoked","error_delivered":true,"statements":2,"bytes_up":1,"bytes_down":2,"seconds":1.5,"reused":false}"#,
        r#"{"seq":8,"time":"2026-11-23T00:00:01Z","event":"login_refused","session":"s-0000000000002","peer":"127.0.0.1:6","protocol":"postgres","user":"bob","target":"orders","authenticated":true,"code":"TG002","why":"no grant"}"#,
        r#"{"seq":9,"time":"2026-11-23T00:00:02Z","event":"novelty","what":"a\u001b[2Jb"}"#,
    ];

    #[test]
    fn results_stand_with_their_statements() {
        insta::assert_snapshot!(render(&rows(&LINES)), @r#"
        2026-11-22
        10:29:01.500Z  admin           root           grant.create g-0000000000001, because ticket 7
        10:29:02.500Z  login_accepted  alice  orders  read, grant g-0000000000001, database shop, from 127.0.0.1:5, TLS, with application_name=psql search_path=a
        10:29:03.000Z  statement       alice  orders  #1 SELECT * FROM product  → 42 rows, 3.1 ms
        10:29:04.000Z  statement       alice  orders  #2 select $1, $2 from a  [5, 'x']  {SELECT, reads a}  → failed with 57P01, 900 µs
        2026-11-23
        00:00:00.000Z  session_end     alice  orders  cut TG004: the grant was revoked, 2 statements, 1.50 s, the client was told
        00:00:01.000Z  login_refused   bob    orders  TG002 no grant, from 127.0.0.1:6
        00:00:02.000Z  novelty                        what="a\u001b[2Jb"
        "#);
    }

    #[test]
    fn counted_refusals_are_one_line() {
        let line = r#"{"seq":1,"time":"2026-11-22T10:29:01Z","event":"logins_refused","source":"192.0.2.7","count":7,"codes":{"TG001":5,"TG020":2},"seconds":60}"#;
        let text = render(&rows(&[line]));
        assert!(text.ends_with("7 more, 5 TG001, 2 TG020, from 192.0.2.7\n"), "{text}");
    }

    #[test]
    fn what_a_request_is_about_is_shown() {
        for (members, shown) in [
            (r#""rows":12,"counted":"hits""#, "200, 12 hits, 3.1 ms"),
            (r#""rows":1,"counted":"documents""#, "200, 1 document, 3.1 ms"),
            (r#""rows":10000,"counted":"hits","at_least":true"#, "200, 10000 hits or more, 3.1 ms"),
            (r#""rows":0"#, "200, 3.1 ms"),
            (
                r#""rows":7,"counted":"documents","actions":{"delete":{"b":1},"index":{"a\u001b":5}},"actions_of_others":{"index":1},"stands_for":{"b":["b-1","b-2"]}"#,
                "200, 7 documents, [delete 1 b (b-1 b-2), index 5 a\\x1b, index 1 others], 3.1 ms",
            ),
            (
                r#""rows":0,"actions":{"index":{"a":5}},"sqlstate":"unfinished""#,
                "failed with unfinished, [index 5 a], 3.1 ms",
            ),
        ] {
            let line = format!(r#"{{"event":"result","number":1,"tag":"200","duration_us":3100,{members}}}"#);
            assert_eq!(read(&line).text, format!("#1: {shown}"));
        }
    }

    #[test]
    fn a_result_without_its_statement_stands_alone() {
        let text = render(&rows(&LINES[3..4]));
        assert!(text.contains("result  alice  orders  #1: 42 rows, 3.1 ms"), "{text}");
        let mut printer = Printer::default();
        let line = printer.line(&read(LINES[3]));
        assert!(line.starts_with("2026-11-22\n10:29:03.100Z  result          alice     orders"), "{line}");
        assert!(!printer.line(&read(LINES[3])).contains("2026-11-22"), "the date is there once");
    }

    #[test]
    fn damaged_lines_and_long_texts_are_shown_safely() {
        assert_eq!(read("not\u{1b} json").text, "not\\x1b json");
        let long = format!(r#"{{"event":"statement","number":1,"text":"{}"}}"#, "é".repeat(500));
        let row = read(&long);
        assert_eq!(row.text.chars().filter(|c| *c == 'é').count(), TEXT_CHARS_MAX);
        assert!(row.text.ends_with('…'));
    }
}
