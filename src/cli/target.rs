//! `target list | show | suspend | resume | check`.

use crate::admin::body::{Done, ReasonRequest, ResumeRequest, TargetView};
use crate::cli::Context;
use crate::cli::arguments::TargetCommand;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::node::say;
use crate::cli::output::{Table, facts, or_dash, plain, print, print_json};
use crate::model::{Name, TlsMode};
use crate::protocol::session::Severity;
use crate::proxy::{LevelChecks, TargetChecks};

pub async fn run(context: &Context, command: TargetCommand) -> Outcome {
    match command {
        TargetCommand::List => {
            let targets: Vec<TargetView> = context.client.get("/v1/targets").await?;
            match context.json {
                true => print_json(&targets),
                false => print(&list(&targets)),
            }
        }
        TargetCommand::Show { name } => {
            let target: TargetView = context.client.get(&format!("/v1/targets/{name}")).await?;
            match context.json {
                true => print_json(&target),
                false => print(&show(&target)),
            }
        }
        TargetCommand::Suspend { name, reason } => {
            let request = ReasonRequest { reason: Some(reason) };
            let done: Done = context.client.post(&format!("/v1/targets/{name}/suspend"), &request).await?;
            say(context, &done)
        }
        TargetCommand::Resume { name, level } => {
            let request = ResumeRequest { level };
            let done: Done = context.client.post(&format!("/v1/targets/{name}/resume"), &request).await?;
            say(context, &done)
        }
        TargetCommand::Check { name, sql } => check(context, &name, sql).await,
    }
}

fn list(targets: &[TargetView]) -> String {
    let mut table = Table::new(["NAME", "PROTOCOL", "ADDRESS", "DATABASE", "LEVELS", "SESSIONS", "STATE"]);
    for view in targets {
        let TargetView { target, sessions, .. } = view;
        let levels: Vec<_> = target.connectors.keys().map(|level| level.as_str()).collect();
        table.row([
            target.name.to_string(),
            target.protocol.clone(),
            target.address.clone(),
            or_dash(target.database.as_ref()),
            levels.join(","),
            sessions.to_string(),
            state(view),
        ]);
    }
    match table.is_empty() {
        true => "there is no target; a resource file adds one: tidegate apply FILE\n".to_owned(),
        false => table.text(),
    }
}

fn state(view: &TargetView) -> String {
    let target = &view.target;
    if let Some(why) = &target.suspended {
        return format!("suspended: {why}");
    }
    let levels = target.connectors.iter().filter(|(_, connector)| connector.suspended.is_some());
    let levels: Vec<_> = levels.map(|(level, _)| level.as_str()).collect();
    let refused: Vec<_> = view.troubles.keys().map(|level| level.as_str()).collect();
    match (levels.as_slice(), refused.as_slice()) {
        ([], []) => "ready".to_owned(),
        (levels, []) => format!("suspended at {}", levels.join(", ")),
        ([], refused) => format!("login refused at {}", refused.join(", ")),
        (levels, refused) => {
            format!("suspended at {}; login refused at {}", levels.join(", "), refused.join(", "))
        }
    }
}

fn show(view: &TargetView) -> String {
    let target = &view.target;
    let join = |names: Vec<&str>| names.join(", ");
    let pool = &target.pool;
    let mut text = facts(&[
        ("name", target.name.to_string()),
        ("protocol", target.protocol.clone()),
        ("address", target.address.clone()),
        ("database", target.database.clone().unwrap_or_default()),
        ("tls", tls(target.tls).to_owned()),
        ("tls_ca", target.tls_ca.clone().unwrap_or_default()),
        ("upkeep", target.upstream.upkeep.as_ref().map(|upkeep| upkeep.secret.clone()).unwrap_or_default()),
        ("details", target.details.clone()),
        ("owners", join(target.owners.iter().map(Name::as_str).collect())),
        ("accepted extensions", join(target.accept_extensions.iter().map(String::as_str).collect())),
        (
            "pool",
            format!(
                "at most {}, {} kept warm, {} s wait, {} waiting, {} s old, {} s idle",
                pool.size_max,
                pool.warm_min,
                pool.wait_seconds_max,
                pool.waiting_max,
                pool.age_seconds_max,
                pool.idle_seconds_max
            ),
        ),
        ("sessions", view.sessions.to_string()),
        ("state", state(view)),
    ]);
    let mut table = Table::new(["LEVEL", "SECRET", "STATE"]);
    for (level, connector) in &target.connectors {
        let state = match (&connector.suspended, view.troubles.get(level)) {
            (Some(why), _) => format!("suspended: {why}"),
            (None, Some(what)) => plain(what).to_string(),
            (None, None) => "ready".to_owned(),
        };
        table.row([level.to_string(), connector.secret.clone(), state]);
    }
    text.push('\n');
    text + &table.text()
}

fn tls(mode: TlsMode) -> &'static str {
    match mode {
        TlsMode::Disable => "disable",
        TlsMode::Allow => "allow",
        TlsMode::Prefer => "prefer",
        TlsMode::Require => "require",
        TlsMode::VerifyCa => "verify-ca",
        TlsMode::VerifyFull => "verify-full",
    }
}

/// Exit code 1 where something dangerous was found, or a level could not be looked at, so that a script can
/// tell.
async fn check(context: &Context, name: &Name, sql: bool) -> Outcome {
    let found: TargetChecks =
        context.client.post(&format!("/v1/targets/{name}/check"), &ReasonRequest::default()).await?;
    let levels = &found.levels;
    match (context.json, sql) {
        (true, _) => print_json(&found)?,
        (false, true) => print(&(mending(levels) + &found.form))?,
        (false, false) => print(&findings(levels))?,
    }
    if let Some(level) = levels.iter().find(|level| level.failed.is_some()) {
        return Err(Failure::new(format!("the level {} of {name} could not be looked at", level.level)));
    }
    let danger = |level: &LevelChecks| level.checks.iter().any(|check| check.severity == Severity::Danger);
    match levels.iter().any(danger) {
        true => Err(Failure::new(format!("{name} has connectors whose rights are dangerous"))
            .hint(format!("tidegate target check {name} --sql prints what mends it"))),
        false => Ok(()),
    }
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Note => "note",
        Severity::Warning => "warning",
        Severity::Danger => "danger",
    }
}

fn findings(levels: &[LevelChecks]) -> String {
    let mut text = String::new();
    for level in levels {
        let mut checks: Vec<_> = level.checks.iter().collect();
        checks.sort_by_key(|check| std::cmp::Reverse(check.severity));
        if let Some(why) = &level.failed {
            text += &format!("{}: could not be looked at: {}\n", level.level, plain(why));
            continue;
        }
        text += &match checks.len() {
            0 => format!("{}: nothing to complain about\n", level.level),
            _ => format!("{}:\n", level.level),
        };
        for check in checks {
            text += &format!("  {:<8} {}\n", severity(check.severity), plain(&check.what));
        }
    }
    text
}

/// Only the SQL, to be read and then piped into psql: what takes back the rights that were found.
fn mending(levels: &[LevelChecks]) -> String {
    let mut text = String::new();
    for level in levels {
        for check in &level.checks {
            if let Some(sql) = &check.sql {
                text += &format!("-- {}: {}\n{sql}\n", level.level, plain(&check.what));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> TargetView {
        serde_json::from_value(serde_json::json!({
            "name": "orders", "protocol": "postgres", "address": "127.0.0.1:5432", "database": "shop",
            "details": "Questions: #data", "sessions": 2,
            "connectors": {"read": {"secret": "file:r.json"}, "read_write": {"secret": "file:w.json", "suspended": "settings differ"}},
            "troubles": {"read": "the target refuses the login: 28P01"},
        }))
        .unwrap()
    }

    #[test]
    fn targets_are_listed() {
        insta::assert_snapshot!(list(&[view()]), @r"
        NAME    PROTOCOL  ADDRESS         DATABASE  LEVELS           SESSIONS  STATE
        orders  postgres  127.0.0.1:5432  shop      read,read_write  2         suspended at read_write; login refused at read
        ");
        assert!(list(&[]).contains("tidegate apply"));
    }

    #[test]
    fn a_target_is_shown_whole() {
        insta::assert_snapshot!(show(&view()), @r"
        name:                orders
        protocol:            postgres
        address:             127.0.0.1:5432
        database:            shop
        tls:                 verify-full
        details:             Questions: #data
        pool:                at most 20, 0 kept warm, 10 s wait, 1000 waiting, 3600 s old, 600 s idle
        sessions:            2
        state:               suspended at read_write; login refused at read

        LEVEL       SECRET       STATE
        read        file:r.json  the target refuses the login: 28P01
        read_write  file:w.json  suspended: settings differ
        ");
    }

    #[test]
    fn findings_come_worst_first_and_sql_alone() {
        let levels: Vec<LevelChecks> = serde_json::from_value(serde_json::json!([
            {"level": "read", "checks": [
                {"severity": "note", "what": "plpgsql is there"},
                {"severity": "danger", "what": "the role is a superuser", "sql": "ALTER ROLE r NOSUPERUSER;"},
            ]},
            {"level": "admin", "checks": []},
            {"level": "reporting", "checks": [], "failed": "no answer"},
        ]))
        .unwrap();
        insta::assert_snapshot!(findings(&levels), @r"
        read:
          danger   the role is a superuser
          note     plpgsql is there
        admin: nothing to complain about
        reporting: could not be looked at: no answer
        ");
        assert_eq!(mending(&levels), "-- read: the role is a superuser\nALTER ROLE r NOSUPERUSER;\n");
    }
}
