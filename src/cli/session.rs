//! `session list | show | kill`.

use crate::admin::body::{AllParams, Done, ReasonRequest, SessionView};
use crate::cli::arguments::SessionCommand;
use crate::cli::client::{escape, with_query};
use crate::cli::failure::Outcome;
use crate::cli::node::say;
use crate::cli::output::{Table, facts, or_dash, print, print_json};
use crate::cli::{Context, time};
use crate::model::Time;

pub async fn run(context: &Context, command: SessionCommand) -> Outcome {
    match command {
        SessionCommand::List { all } => {
            let path = with_query("/v1/sessions", &AllParams { all });
            let sessions: Vec<SessionView> = context.client.get(&path).await?;
            match context.json {
                true => print_json(&sessions),
                false => print(&list(&sessions, Time::now())),
            }
        }
        SessionCommand::Show { id } => {
            let session: SessionView = context.client.get(&format!("/v1/sessions/{}", escape(&id))).await?;
            match context.json {
                true => print_json(&session),
                false => print(&show(&session, Time::now())),
            }
        }
        SessionCommand::Kill { id, reason } => {
            let path = format!("/v1/sessions/{}/kill", escape(&id));
            let done: Done = context.client.post(&path, &ReasonRequest { reason }).await?;
            say(context, &done)
        }
    }
}

fn state(session: &SessionView) -> String {
    match (&session.code, &session.pinned) {
        (Some(code), _) => format!("{} {code}", session.state),
        (None, Some(why)) => format!("{}: {why}", session.state),
        (None, None) => session.state.clone(),
    }
}

/// How long it has lasted, or did.
fn lasting(session: &SessionView, now: Time) -> String {
    let end = session.ended_at.unwrap_or(now);
    time::span((end.as_second() - session.started_at.as_second()).max(0).unsigned_abs())
}

fn list(sessions: &[SessionView], now: Time) -> String {
    let mut table =
        Table::new(["SESSION", "USER", "TARGET", "LEVEL", "STATE", "STARTED", "FOR", "ENDS", "STATEMENTS"]);
    for session in sessions {
        table.row([
            session.session.to_string(),
            session.user.to_string(),
            session.target.to_string(),
            session.level.to_string(),
            state(session),
            time::show(session.started_at),
            lasting(session, now),
            or_dash(session.until.map(|until| time::relative(until, now))),
            session.statements.to_string(),
        ]);
    }
    match table.is_empty() {
        true => "nobody is connected; tidegate session list --all shows who was\n".to_owned(),
        false => table.text(),
    }
}

fn show(session: &SessionView, now: Time) -> String {
    facts(&[
        ("session", session.session.to_string()),
        ("user", session.user.to_string()),
        ("target", session.target.to_string()),
        ("level", session.level.to_string()),
        ("database", session.database.clone().unwrap_or_default()),
        ("grant", session.grant.to_string()),
        ("from", session.peer.clone()),
        ("protocol", session.protocol.clone()),
        ("upstream", session.upstream.clone().unwrap_or_default()),
        ("state", state(session)),
        ("started", time::show_both(session.started_at, now)),
        ("ended", session.ended_at.map(|at| time::show_both(at, now)).unwrap_or_default()),
        ("ends", session.until.map(|until| time::show_both(until, now)).unwrap_or_default()),
        ("lasting", lasting(session, now)),
        ("statements", session.statements.to_string()),
        ("bytes", format!("{} up, {} down", session.bytes_up, session.bytes_down)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_listed() {
        let sessions: Vec<SessionView> = serde_json::from_value(serde_json::json!([
            {"session": "s-0000000000001", "live": false, "user": "alice", "target": "orders", "level": "read",
             "grant": "g-0000000000001", "peer": "127.0.0.1:5", "protocol": "postgres", "state": "cut",
             "code": "TG004", "started_at": "2026-11-22T10:00:00Z", "ended_at": "2026-11-22T10:01:30Z",
             "statements": 4, "bytes_up": 10, "bytes_down": 20},
            {"session": "s-0000000000002", "live": true, "user": "bob", "target": "orders", "level": "read",
             "grant": "g-0000000000002", "peer": "127.0.0.1:6", "protocol": "postgres", "state": "idle",
             "started_at": "2026-11-22T10:29:00Z", "until": "2026-11-22T11:29:13Z", "upstream": "4711",
             "statements": 1, "bytes_up": 1, "bytes_down": 2},
        ]))
        .unwrap();
        let now = "2026-11-22T10:29:13Z".parse().unwrap();
        insta::assert_snapshot!(list(&sessions, now), @r"
        SESSION          USER   TARGET  LEVEL  STATE      STARTED               FOR    ENDS   STATEMENTS
        s-0000000000001  alice  orders  read   cut TG004  2026-11-22 10:00:00Z  1m30s  -      4
        s-0000000000002  bob    orders  read   idle       2026-11-22 10:29:00Z  13s    in 1h  1
        ");
        insta::assert_snapshot!(show(&sessions[1], now), @r"
        session:    s-0000000000002
        user:       bob
        target:     orders
        level:      read
        grant:      g-0000000000002
        from:       127.0.0.1:6
        protocol:   postgres
        upstream:   4711
        state:      idle
        started:    2026-11-22 10:29:00Z, 13s ago
        ends:       2026-11-22 11:29:13Z, in 1h
        lasting:    13s
        statements: 1
        bytes:      1 up, 2 down
        ");
    }
}
