//! `user list | show | add | remove`.

use crate::admin::body::{Done, UserRequest, UserView};
use crate::cli::Context;
use crate::cli::arguments::UserCommand;
use crate::cli::failure::Outcome;
use crate::cli::node::say;
use crate::cli::output::{Table, facts, print, print_json};
use crate::model::Name;

pub async fn run(context: &Context, command: UserCommand) -> Outcome {
    match command {
        UserCommand::List => {
            let users: Vec<UserView> = context.client.get("/v1/users").await?;
            match context.json {
                true => print_json(&users),
                false => print(&list(&users)),
            }
        }
        UserCommand::Show { name } => {
            let user: UserView = context.client.get(&format!("/v1/users/{name}")).await?;
            match context.json {
                true => print_json(&user),
                false => print(&show(&user)),
            }
        }
        UserCommand::Add { name, groups } => {
            let request = UserRequest { name, groups: groups.into_iter().collect() };
            let user: UserView = context.client.post("/v1/users", &request).await?;
            match context.json {
                true => print_json(&user),
                false => print(&format!("the user {} is added\n", user.name)),
            }
        }
        UserCommand::Remove { name } => {
            let done: Done = context.client.delete(&format!("/v1/users/{name}")).await?;
            say(context, &done)
        }
    }
}

fn groups(user: &UserView) -> String {
    user.groups.iter().map(Name::as_str).collect::<Vec<_>>().join(",")
}

fn list(users: &[UserView]) -> String {
    let mut table = Table::new(["NAME", "GROUPS", "CREDENTIALS", "OPEN GRANTS", "SESSIONS"]);
    for user in users {
        let groups = if user.groups.is_empty() { "-".to_owned() } else { groups(user) };
        table.row([
            user.name.to_string(),
            groups,
            user.credentials.to_string(),
            user.grants.to_string(),
            user.sessions.to_string(),
        ]);
    }
    match table.is_empty() {
        true => "there is no user; tidegate user add NAME makes one\n".to_owned(),
        false => table.text(),
    }
}

fn show(user: &UserView) -> String {
    facts(&[
        ("name", user.name.to_string()),
        ("groups", groups(user)),
        ("live credentials", user.credentials.to_string()),
        ("open grants", user.grants.to_string()),
        ("sessions", user.sessions.to_string()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_listed() {
        let users: Vec<UserView> = serde_json::from_value(serde_json::json!([
            {"name": "alice", "groups": ["backend", "oncall"], "credentials": 1, "grants": 2, "sessions": 0},
            {"name": "bob", "groups": [], "credentials": 0, "grants": 0, "sessions": 0},
        ]))
        .unwrap();
        insta::assert_snapshot!(list(&users), @r"
        NAME   GROUPS          CREDENTIALS  OPEN GRANTS  SESSIONS
        alice  backend,oncall  1            2            0
        bob    -               0            0            0
        ");
        assert!(show(&users[0]).contains("live credentials: 1\n"));
    }
}
