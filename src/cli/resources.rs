//! `check`, `apply`, `export`: files of configuration.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::admin::body::{ApplyAnswer, ApplyRequest, Edit, EditKind};
use crate::cli::arguments::Place;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::{counted, facts, plain, print, print_json, tell};
use crate::cli::{Context, locate};
use crate::config::{self, Known, ListenerTls, Mistake, NodeConfig, Resources, Surroundings};

/// Checks the node file and resource files together, without a server. Every mistake is printed.
pub fn check(place: &Place, files: &[PathBuf]) -> Outcome {
    let path = locate::node_file(place.config.as_deref())?;
    let node = NodeConfig::check(&path);
    let known = Known::default();
    let around =
        Surroundings { protocols: config::protocols(), known: Some(&known), node: node.as_ref().ok() };
    let resources = Resources::load_with(files, &around);
    let mut mistakes: Vec<Mistake> = Vec::new();
    mistakes.extend(node.as_ref().err().into_iter().flatten().cloned());
    mistakes.extend(resources.as_ref().err().into_iter().flatten().cloned());
    if place.json {
        let said: Vec<_> = mistakes
            .iter()
            .map(|m| json!({"file": m.file, "line": m.line, "key": m.key, "what": m.what}))
            .collect();
        print_json(&json!({"right": mistakes.is_empty(), "mistakes": said}))?;
    } else if let (Ok(node), Ok(resources)) = (&node, &resources) {
        print(&understood(node, resources, files.is_empty()))?;
    }
    if mistakes.is_empty() {
        return Ok(());
    }
    for mistake in &mistakes {
        tell(&format!("error: {mistake}"));
    }
    Err(Failure::silent())
}

fn understood(node: &NodeConfig, resources: &Resources, no_files: bool) -> String {
    let mut lines: Vec<(&str, String)> = Vec::new();
    for listener in &node.listeners {
        let tls = match listener.tls {
            ListenerTls::Off => "no TLS",
            ListenerTls::Optional => "TLS if the client wants it",
            ListenerTls::Require => "TLS required",
        };
        let target =
            listener.target.as_ref().map_or("any target".to_owned(), |name| format!("target {name}"));
        lines.push(("listener", format!("{} {}, {target}, {tls}", listener.protocol, listener.address)));
    }
    lines.push(("store", node.store_url.clone()));
    lines.push(("secrets", node.secret_directory.display().to_string()));
    lines.push(("audit", node.audit.directory.display().to_string()));
    lines.push(("admin socket", node.admin.socket.display().to_string()));
    lines.push((
        "metrics",
        node.admin.address.map(|address| format!("http://{address}/metrics")).unwrap_or_default(),
    ));
    if !no_files {
        lines.push((
            "resources",
            format!(
                "{}, {}, {}",
                counted(resources.targets.len(), "target"),
                counted(resources.users.len(), "user"),
                counted(resources.grants.len(), "grant"),
            ),
        ));
    }
    facts(&lines) + "all is right\n"
}

/// Shows the difference, then makes it so.
pub async fn apply(context: &Context, files: &[PathBuf], dry_run: bool, prune: bool) -> Outcome {
    // What the store has, the server knows: names are checked there.
    let around = Surroundings { protocols: config::protocols(), known: None, node: None };
    let resources = Resources::load_with(files, &around).map_err(|mistakes| {
        let lines: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        Failure::new(lines.join("\nerror: ")).hint("nothing was applied")
    })?;
    let mut request = ApplyRequest { resources, dry_run: true, prune };
    let planned: ApplyAnswer = context.client.post("/v1/apply", &request).await?;
    if dry_run || planned.changes.is_empty() {
        return match context.json {
            true => print_json(&planned),
            false => print(&(difference(&planned) + &summary(&planned))),
        };
    }
    if !context.json {
        print(&difference(&planned))?;
    }
    request.dry_run = false;
    let applied: ApplyAnswer = context.client.post("/v1/apply", &request).await?;
    if context.json {
        return print_json(&applied);
    }
    if applied.changes != planned.changes {
        print(&format!(
            "somebody else changed something meanwhile; what was applied:\n{}",
            difference(&applied)
        ))?;
    }
    print(&summary(&applied))
}

/// `+` added, `~` changed, `-` removed.
fn difference(answer: &ApplyAnswer) -> String {
    let mut text: String = answer.changes.iter().map(edit).collect();
    if !answer.cut.is_empty() {
        let sessions: Vec<_> = answer.cut.iter().map(ToString::to_string).collect();
        text += &format!("! cuts {}: {}\n", counted(sessions.len(), "session"), sessions.join(" "));
    }
    text
}

fn edit(edit: &Edit) -> String {
    let name = plain(&edit.name);
    match edit.kind {
        EditKind::Removed => format!("- {} {name}\n", edit.what),
        EditKind::Added => {
            let mut text = format!("+ {} {name}\n", edit.what);
            let fields = edit.after.as_ref().and_then(Value::as_object);
            for (field, value) in fields.into_iter().flatten().filter(|(field, _)| is_shown(field)) {
                text += &format!("+   {field} = {}\n", short(value));
            }
            text
        }
        EditKind::Changed => {
            let mut text = format!("~ {} {name}\n", edit.what);
            for field in &edit.fields {
                text += &format!("~   {}: {} → {}\n", field.field, short(&field.before), short(&field.after));
            }
            text
        }
    }
}

/// Not what the headline says, and not what nobody wrote.
fn is_shown(field: &str) -> bool {
    !matches!(field, "name" | "id" | "created_at" | "created_by" | "pool")
}

/// A JSON value as a person would write it.
fn short(value: &Value) -> String {
    match value {
        Value::Null => "(none)".to_owned(),
        Value::String(text) => plain(text),
        Value::Array(items) => items.iter().map(short).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => {
            let inner = fields.iter().map(|(key, value)| match value {
                Value::Object(_) => format!("{key} ({})", short(value)),
                _ => format!("{key} {}", short(value)),
            });
            inner.collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

fn summary(answer: &ApplyAnswer) -> String {
    let count = |kind| answer.changes.iter().filter(|edit| edit.kind == kind).count();
    let counts = format!(
        "{} added, {} changed, {} removed",
        count(EditKind::Added),
        count(EditKind::Changed),
        count(EditKind::Removed)
    );
    match (answer.changes.is_empty(), answer.applied) {
        (true, _) => "nothing to change\n".to_owned(),
        (false, true) => format!("applied: {counts}\n"),
        (false, false) => format!("not applied: {counts}\n"),
    }
}

pub async fn export(context: &Context) -> Outcome {
    let resources: Resources = context.client.get("/v1/export").await?;
    match context.json {
        true => print_json(&resources),
        false => print(&config::render(&resources)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_reads_like_one() {
        let answer: ApplyAnswer = serde_json::from_value(json!({
            "changes": [
                {"kind": "added", "what": "user", "name": "alice",
                 "after": {"name": "alice", "groups": ["backend", "oncall"]}},
                {"kind": "added", "what": "target", "name": "stock", "after": {
                    "name": "stock", "protocol": "postgres", "address": "db:5432", "tls": "verify-full",
                    "connectors": {"read": {"secret": "file:r.json"}}, "pool": {"size_max": 20}}},
                {"kind": "changed", "what": "target", "name": "orders", "fields": [
                    {"field": "database", "before": null, "after": "shop"},
                    {"field": "pool.size_max", "before": 20, "after": 5}]},
                {"kind": "removed", "what": "grant", "name": "week-46"},
            ],
            "cut": ["s-0000000000001"], "applied": false,
        }))
        .unwrap();
        insta::assert_snapshot!(difference(&answer) + &summary(&answer), @r"
        + user alice
        +   groups = backend, oncall
        + target stock
        +   address = db:5432
        +   connectors = read (secret file:r.json)
        +   protocol = postgres
        +   tls = verify-full
        ~ target orders
        ~   database: (none) → shop
        ~   pool.size_max: 20 → 5
        - grant week-46
        ! cuts 1 session: s-0000000000001
        not applied: 2 added, 1 changed, 1 removed
        ");
        let nothing = ApplyAnswer { changes: vec![], cut: vec![], applied: false };
        assert_eq!(summary(&nothing), "nothing to change\n");
    }
}
