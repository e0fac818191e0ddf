//! `credential issue | list | revoke`.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::admin::body::{CredentialRequest, CredentialView, Done, IssuedCredential, ReasonRequest};
use crate::cli::arguments::CredentialCommand;
use crate::cli::client::escape;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::node::say;
use crate::cli::output::{Table, print, print_json, tell};
use crate::cli::{Context, time};
use crate::model::{Name, Time};

pub async fn run(context: &Context, command: CredentialCommand) -> Outcome {
    match command {
        CredentialCommand::Issue { user, seconds, out } => issue(context, user, seconds, out).await,
        CredentialCommand::List => {
            let credentials: Vec<CredentialView> = context.client.get("/v1/credentials").await?;
            match context.json {
                true => print_json(&credentials),
                false => print(&list(&credentials, Time::now())),
            }
        }
        CredentialCommand::Revoke { id, reason } => {
            let path = format!("/v1/credentials/{}/revoke", escape(&id));
            let done: Done = context.client.post(&path, &ReasonRequest { reason }).await?;
            say(context, &done)
        }
    }
}

async fn issue(context: &Context, user: Name, for_seconds: u64, out: Option<PathBuf>) -> Outcome {
    // The file first: a secret that cannot be kept is better not made.
    let file = out.as_deref().map(new_file).transpose()?;
    let request = CredentialRequest { user, for_seconds };
    let issued: IssuedCredential = match context.client.post("/v1/credentials", &request).await {
        Ok(issued) => issued,
        Err(failure) => {
            if let Some(path) = &out {
                // Made by us a moment ago, and empty.
                let _ = std::fs::remove_file(path);
            }
            return Err(failure);
        }
    };
    let until = time::show_both(issued.until, Time::now());
    tell(&format!("credential {} of {}, good until {until}", issued.id, issued.user));
    if let (Some(mut file), Some(path)) = (file, out) {
        file.write_all(format!("{}\n", issued.secret).as_bytes()).and_then(|()| file.sync_all()).map_err(
            |error| {
                Failure::new(format!("{} cannot be written: {error}", path.display()))
                    .hint(format!("tidegate credential revoke {} ends the lost one", issued.id))
            },
        )?;
        tell(&format!("its secret is in {}, readable by you alone", path.display()));
        return match context.json {
            true => print_json(&serde_json::json!({
                "id": issued.id, "user": issued.user, "until": issued.until, "file": path,
            })),
            false => Ok(()),
        };
    }
    tell("this is its secret, shown this once and kept nowhere:");
    match context.json {
        true => print_json(&issued),
        false => print(&format!("{}\n", issued.secret)),
    }
}

/// A file that was not there, readable by its owner only.
fn new_file(path: &Path) -> Outcome<std::fs::File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|error| {
        match error.kind() {
            io::ErrorKind::AlreadyExists => Failure::new(format!("{} is there already", path.display()))
                .hint("a secret is written to a new file only"),
            _ => Failure::new(format!("{} cannot be made: {error}", path.display())),
        }
    })
}

fn list(credentials: &[CredentialView], now: Time) -> String {
    let mut table = Table::new(["ID", "USER", "STATE", "UNTIL", "ISSUED BY"]);
    for credential in credentials {
        let end = credential.ended.as_ref().map_or(credential.window.end, |ended| ended.at);
        table.row([
            credential.id.to_string(),
            credential.user.to_string(),
            credential.state.as_str().to_owned(),
            time::show_both(end, now),
            credential.created_by.clone(),
        ]);
    }
    match table.is_empty() {
        true => "there is no credential; tidegate credential issue makes one\n".to_owned(),
        false => table.text(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn credentials_are_listed() {
        let credentials: Vec<CredentialView> = serde_json::from_value(serde_json::json!([{
            "id": "c-0000000000001", "user": "alice", "state": "open", "created_by": "root",
            "window": {"start": "2026-11-22T08:00:00Z", "end": "2026-11-22T16:00:00Z"},
        }]))
        .unwrap();
        insta::assert_snapshot!(list(&credentials, "2026-11-22T09:00:00Z".parse().unwrap()), @r"
        ID               USER   STATE  UNTIL                        ISSUED BY
        c-0000000000001  alice  open   2026-11-22 16:00:00Z, in 7h  root
        ");
    }

    #[test]
    fn a_secret_goes_to_a_new_private_file_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alice.secret");
        let file = new_file(&path).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(new_file(&path).unwrap_err().message.contains("is there already"));
    }
}
