//! What the trail says of an administrative change: the object, how it was, how it will be.

use serde_json::Value;

use crate::model::{Change, Snapshot};

type Described = (String, Option<Value>, Option<Value>);

pub(super) fn describe(change: &Change, snapshot: &Snapshot) -> Described {
    let grant = |id| snapshot.grants.iter().find(|grant| grant.id == id);
    let target = |name: &crate::model::Name| snapshot.targets.iter().find(|target| &target.name == name);
    let user = |name: &crate::model::Name| snapshot.users.iter().find(|user| &user.name == name);
    let value = |change: &Change| serde_json::to_value(change).ok();
    match change {
        Change::PutTarget { target: after } => {
            (format!("target {}", after.name), target(&after.name).and_then(json), json(after))
        }
        Change::RemoveTarget { name } => (format!("target {name}"), target(name).and_then(json), None),
        Change::SuspendTarget { name, .. } | Change::ResumeTarget { name } => {
            let before = target(name).map(|target| serde_json::json!({ "suspended": target.suspended }));
            (format!("target {name}"), before, value(change))
        }
        Change::SuspendLevel { target: name, level, .. }
        | Change::ResumeLevel { target: name, level }
        | Change::SetBaseline { target: name, level, .. } => {
            let before = target(name).and_then(|target| target.connectors.get(level)).and_then(json);
            (format!("target {name} level {level}"), before, value(change))
        }
        Change::PutUser { user: after } => {
            (format!("user {}", after.name), user(&after.name).and_then(json), json(after))
        }
        Change::RemoveUser { name } => (format!("user {name}"), user(name).and_then(json), None),
        Change::PutGrant { grant: after } => {
            (format!("grant {}", after.id), grant(after.id).and_then(json), json(after))
        }
        Change::EndGrant { id, .. } | Change::ExtendGrant { id, .. } => {
            (format!("grant {id}"), grant(*id).and_then(json), value(change))
        }
        Change::AddCredential { credential } => {
            (format!("credential {} of {}", credential.id, credential.user), None, value(change))
        }
        Change::EndCredential { id, .. } => {
            let before = snapshot.credentials.iter().find(|credential| &credential.id == id).map(|known| {
                serde_json::json!({ "id": known.id, "user": known.user, "window": known.window, "ended": known.ended })
            });
            (format!("credential {id}"), before, value(change))
        }
    }
}

/// Credentials never pass through here: their verifiers stay out of the trail.
fn json(resource: &impl serde::Serialize) -> Option<Value> {
    serde_json::to_value(resource).ok()
}
