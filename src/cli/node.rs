//! `serve`, `status`, `reload`, `backup`.

use std::path::PathBuf;

use crate::admin::body::{BackupRequest, Done, ReasonRequest, Reloaded, Status};
use crate::cli::arguments::Place;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::{Table, counted, facts, or_dash, print, print_json};
use crate::cli::{Context, locate, serve, time};
use crate::proxy::ListenerTlsStatus;

pub fn serve(place: &Place) -> Outcome {
    let file = locate::node_file(place.config.as_deref())?;
    let config = locate::node_config(Some(&file))?;
    serve::serve(&file, config).map_err(Failure::from)
}

pub async fn reload(context: &Context) -> Outcome {
    let reloaded: Reloaded = context.client.post("/v1/reload", &ReasonRequest::default()).await?;
    if context.json {
        return print_json(&reloaded);
    }
    match reloaded.changed.as_slice() {
        [] => print("nothing changed\n"),
        changed => print(&changed.iter().map(|line| format!("~ {line}\n")).collect::<String>()),
    }
}

pub async fn backup(context: &Context, file: PathBuf) -> Outcome {
    let file = std::path::absolute(&file)
        .map_err(|error| Failure::new(format!("{} is no path: {error}", file.display())))?;
    let done: Done = context.client.post("/v1/backup", &BackupRequest { file }).await?;
    say(context, &done)
}

/// Prints that something was done.
pub fn say(context: &Context, done: &Done) -> Outcome {
    match context.json {
        true => print_json(done),
        false => print(&format!("{}\n", done.done)),
    }
}

pub async fn status(context: &Context) -> Outcome {
    let status: Status = context.client.get("/v1/status").await?;
    match context.json {
        true => print_json(&status),
        false => print(&render(&status)),
    }
}

fn render(status: &Status) -> String {
    let state = match (status.draining, status.problems.is_empty()) {
        (true, _) => "draining",
        (false, true) => "healthy",
        (false, false) => "not healthy",
    };
    let mut text = facts(&[
        ("version", status.version.clone()),
        ("state", state.to_owned()),
        ("started", time::show_both(status.started_at, status.now)),
        ("sessions", status.sessions.to_string()),
        (
            "resources",
            format!(
                "{}, {}, {} open",
                counted(status.targets, "target"),
                counted(status.users, "user"),
                counted(status.grants_open, "grant"),
            ),
        ),
        ("trail", status.trail.directory.display().to_string()),
    ]);
    for problem in &status.problems {
        text += &format!("problem: {problem}\n");
    }
    let mut table = Table::new(["LISTENER", "ADDRESS", "PROTOCOL", "TARGET", "TLS"]);
    for listener in &status.listeners {
        let tls = match listener.tls {
            ListenerTlsStatus::Off => "off",
            ListenerTlsStatus::Optional => "optional",
            ListenerTlsStatus::Require => "require",
        };
        table.row([
            listener.name.clone(),
            listener.address.to_string(),
            listener.protocol.clone(),
            or_dash(listener.target.as_ref()),
            tls.to_owned(),
        ]);
    }
    text + "\n" + &table.text()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_the_node_is_readable() {
        let status: Status = serde_json::from_value(serde_json::json!({
            "version": "0.1.0", "started_at": "2026-11-22T08:00:00Z", "now": "2026-11-22T09:30:00Z",
            "sessions": 3, "draining": false, "trail": {"failing": true, "directory": "/var/lib/tidegate/audit"},
            "listeners": [{"name": "pg", "address": "127.0.0.1:6432", "protocol": "postgres", "tls": "require"}],
            "targets": 1, "users": 2, "grants_open": 1, "problems": ["the audit trail cannot be written"],
        }))
        .unwrap();
        insta::assert_snapshot!(render(&status), @r"
        version:   0.1.0
        state:     not healthy
        started:   2026-11-22 08:00:00Z, 1h30m ago
        sessions:  3
        resources: 1 target, 2 users, 1 grant open
        trail:     /var/lib/tidegate/audit
        problem: the audit trail cannot be written

        LISTENER  ADDRESS         PROTOCOL  TARGET  TLS
        pg        127.0.0.1:6432  postgres  -       require
        ");
    }
}
