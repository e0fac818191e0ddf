//! `grant create | list | show | revoke | extend`.

use crate::admin::body::{AllParams, Done, ExtendRequest, GrantRequest, GrantView, ReasonRequest, State};
use crate::cli::arguments::{GrantArguments, GrantCommand};
use crate::cli::client::{escape, with_query};
use crate::cli::failure::Outcome;
use crate::cli::node::say;
use crate::cli::output::{Table, counted, facts, print, print_json};
use crate::cli::{Context, time};
use crate::model::{Databases, Subject, Time};

pub async fn run(context: &Context, command: GrantCommand) -> Outcome {
    match command {
        GrantCommand::Create(arguments) => {
            let grant: GrantView = context.client.post("/v1/grants", &request(*arguments)).await?;
            printed(context, &grant)
        }
        GrantCommand::List { all } => {
            let path = with_query("/v1/grants", &AllParams { all });
            let grants: Vec<GrantView> = context.client.get(&path).await?;
            match context.json {
                true => print_json(&grants),
                false => print(&list(&grants, Time::now())),
            }
        }
        GrantCommand::Show { id } => {
            let grant: GrantView = context.client.get(&format!("/v1/grants/{}", escape(&id))).await?;
            printed(context, &grant)
        }
        GrantCommand::Revoke { id, reason } => {
            let path = format!("/v1/grants/{}/revoke", escape(&id));
            let done: Done = context.client.post(&path, &ReasonRequest { reason }).await?;
            say(context, &done)
        }
        GrantCommand::Extend { id, seconds } => {
            let path = format!("/v1/grants/{}/extend", escape(&id));
            let request = ExtendRequest { for_seconds: seconds };
            let grant: GrantView = context.client.post(&path, &request).await?;
            printed(context, &grant)
        }
    }
}

fn request(arguments: GrantArguments) -> GrantRequest {
    GrantRequest {
        user: arguments.user,
        group: arguments.group,
        target: arguments.target,
        level: arguments.level,
        from: arguments.from,
        for_seconds: arguments.seconds,
        until: arguments.until,
        databases: arguments.databases,
        cidrs: arguments.cidrs,
        sessions: arguments.sessions,
        reason: arguments.reason,
    }
}

fn printed(context: &Context, grant: &GrantView) -> Outcome {
    match context.json {
        true => print_json(grant),
        false => print(&show(grant, Time::now())),
    }
}

fn subject(subject: &Subject) -> String {
    match subject {
        Subject::User(name) => name.to_string(),
        Subject::Group(name) => format!("group {name}"),
    }
}

fn databases(databases: &Databases) -> String {
    match databases {
        Databases::Default => "the default one".to_owned(),
        Databases::All => "all".to_owned(),
        Databases::Listed(names) => names.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
    }
}

/// When it is over, or was, or begins.
fn when(view: &GrantView, now: Time) -> String {
    let grant = &view.grant;
    match (&grant.ended, view.state) {
        (Some(ended), _) => format!("ended {}", time::show_both(ended.at, now)),
        (None, State::Pending) => format!("begins {}", time::show_both(grant.window.start, now)),
        (None, State::Expired) => format!("ended {}", time::show_both(grant.window.end, now)),
        (None, _) => format!("ends {}", time::show_both(grant.window.end, now)),
    }
}

fn list(grants: &[GrantView], now: Time) -> String {
    let mut table = Table::new(["ID", "NAME", "FOR", "TARGET", "LEVEL", "STATE", "WHEN", "SESSIONS"]);
    for view in grants {
        let grant = &view.grant;
        table.row([
            grant.id.to_string(),
            crate::cli::output::or_dash(grant.name.as_ref()),
            subject(&grant.subject),
            grant.target.to_string(),
            grant.level.to_string(),
            view.state.as_str().to_owned(),
            when(view, now),
            view.sessions.to_string(),
        ]);
    }
    match table.is_empty() {
        true => "there is no grant; tidegate grant create opens one\n".to_owned(),
        false => table.text(),
    }
}

fn show(view: &GrantView, now: Time) -> String {
    let grant = &view.grant;
    let ended = grant.ended.as_ref().map(|ended| {
        let reason = ended.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        format!("{}{reason}", ended.cause.sentence())
    });
    let cidrs: Vec<_> = grant.cidrs.iter().map(ToString::to_string).collect();
    facts(&[
        ("grant", grant.id.to_string()),
        ("name", grant.name.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("for", subject(&grant.subject)),
        ("target", grant.target.to_string()),
        ("level", grant.level.to_string()),
        ("databases", databases(&grant.databases)),
        ("from", time::show(grant.window.start)),
        ("until", time::show(grant.window.end)),
        ("state", format!("{}, {}", view.state.as_str(), when(view, now))),
        ("why", ended.unwrap_or_default()),
        ("networks", cidrs.join(", ")),
        ("limit", grant.sessions_max.map(|most| counted(most as usize, "session")).unwrap_or_default()),
        ("sessions", view.sessions.to_string()),
        ("reason", grant.reason.clone().unwrap_or_default()),
        ("created", format!("{} by {}", time::show(grant.created_at), grant.created_by)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(more: serde_json::Value) -> GrantView {
        let mut value = serde_json::json!({
            "id": "g-0000000000001", "subject": {"user": "alice"}, "target": "orders", "level": "read",
            "window": {"start": "2026-11-22T10:29:07Z", "end": "2026-11-22T10:31:07Z"},
            "created_at": "2026-11-22T10:29:07Z", "created_by": "root", "state": "open", "sessions": 1,
        });
        for (key, field) in more.as_object().unwrap() {
            value[key] = field.clone();
        }
        serde_json::from_value(value).unwrap()
    }

    fn now() -> Time {
        "2026-11-22T10:29:13Z".parse().unwrap()
    }

    #[test]
    fn grants_are_listed_with_their_end() {
        let ended = serde_json::json!({
            "id": "g-0000000000002", "subject": {"group": "backend"}, "name": "week-47", "state": "ended",
            "sessions": 0, "ended": {"at": "2026-11-22T10:29:10Z", "cause": "revoked", "reason": "done"},
        });
        insta::assert_snapshot!(list(&[view(serde_json::json!({})), view(ended)], now()), @r"
        ID               NAME     FOR            TARGET  LEVEL  STATE  WHEN                                 SESSIONS
        g-0000000000001  -        alice          orders  read   open   ends 2026-11-22 10:31:07Z, in 1m54s  1
        g-0000000000002  week-47  group backend  orders  read   ended  ended 2026-11-22 10:29:10Z, 3s ago   0
        ");
    }

    #[test]
    fn a_grant_is_shown_whole() {
        let more = serde_json::json!({
            "databases": {"listed": ["shop", "stock"]}, "cidrs": ["10.0.0.0/8"], "sessions_max": 3,
            "reason": "ticket 7",
        });
        insta::assert_snapshot!(show(&view(more), now()), @r"
        grant:     g-0000000000001
        for:       alice
        target:    orders
        level:     read
        databases: shop, stock
        from:      2026-11-22 10:29:07Z
        until:     2026-11-22 10:31:07Z
        state:     open, ends 2026-11-22 10:31:07Z, in 1m54s
        networks:  10.0.0.0/8
        limit:     3 sessions
        sessions:  1
        reason:    ticket 7
        created:   2026-11-22 10:29:07Z by root
        ");
    }
}
