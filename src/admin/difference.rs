//! Changes in the form that a person reads: what is added, changed, removed, field by field.

use serde_json::{Map, Value};

use crate::admin::body::{Edit, EditKind, FieldEdit};
use crate::model::{Change, GrantId, Name, Snapshot};

/// What a list of changes does to the resources. Changes that are no resource of a file (credentials,
/// baselines) are left out.
pub(super) fn edits(snapshot: &Snapshot, changes: &[Change]) -> Vec<Edit> {
    changes.iter().filter_map(|change| edit(snapshot, change)).collect()
}

fn edit(snapshot: &Snapshot, change: &Change) -> Option<Edit> {
    // What is remembered of levels that are gone is no resource of a file either.
    let shown = |target: &crate::model::Target| {
        json(&crate::model::Target { remembered: Default::default(), ..target.clone() })
    };
    let target = |name: &Name| snapshot.targets.iter().find(|target| target.name == *name).map(shown);
    let user = |name: &Name| snapshot.users.iter().find(|user| user.name == *name).map(json);
    let grant = |id: GrantId| snapshot.grants.iter().find(|grant| grant.id == id);
    Some(match change {
        Change::PutTarget { target: new } => {
            compared("target", new.name.as_str(), target(&new.name), Some(shown(new)))
        }
        Change::RemoveTarget { name } => compared("target", name.as_str(), target(name), None),
        Change::PutUser { user: new } => {
            compared("user", new.name.as_str(), user(&new.name), Some(json(new)))
        }
        Change::RemoveUser { name } => compared("user", name.as_str(), user(name), None),
        Change::PutGrant { grant: new } => {
            compared("grant", &called(new), grant(new.id).map(json), Some(json(new)))
        }
        Change::EndGrant { id, .. } => {
            let known = grant(*id)?;
            compared("grant", &called(known), Some(json(known)), None)
        }
        Change::ExtendGrant { id, end } => {
            let known = grant(*id)?;
            let mut longer = known.clone();
            longer.window.end = *end;
            compared("grant", &called(known), Some(json(known)), Some(json(&longer)))
        }
        Change::SuspendTarget { .. }
        | Change::ResumeTarget { .. }
        | Change::SuspendLevel { .. }
        | Change::ResumeLevel { .. }
        | Change::SetBaseline { .. }
        | Change::AddCredential { .. }
        | Change::EndCredential { .. } => return None,
    })
}

fn called(grant: &crate::model::Grant) -> String {
    grant.name.as_ref().map_or_else(|| grant.id.to_string(), ToString::to_string)
}

fn json(value: &impl serde::Serialize) -> Value {
    // Types of the model: strings for keys, no number that JSON lacks.
    serde_json::to_value(value).unwrap_or(Value::Null)
}

fn compared(what: &str, name: &str, before: Option<Value>, after: Option<Value>) -> Edit {
    let kind = match (&before, &after) {
        (None, _) => EditKind::Added,
        (Some(_), Some(_)) => EditKind::Changed,
        (Some(_), None) => EditKind::Removed,
    };
    let mut fields = Vec::new();
    if let (Some(before), Some(after)) = (&before, &after) {
        compare("", before, after, &mut fields);
    }
    Edit { kind, what: what.to_owned(), name: name.to_owned(), before, after, fields }
}

/// Walks objects; anything else is one value. A field that is only on one side is compared with null.
fn compare(path: &str, before: &Value, after: &Value, fields: &mut Vec<FieldEdit>) {
    let empty = Map::new();
    let (old, new) = match (before, after) {
        (Value::Object(old), Value::Object(new)) => (old, new),
        (Value::Object(old), Value::Null) => (old, &empty),
        (Value::Null, Value::Object(new)) => (&empty, new),
        _ if before == after => return,
        _ => {
            let field = path.to_owned();
            fields.push(FieldEdit { field, before: before.clone(), after: after.clone() });
            return;
        }
    };
    let gone = new.keys().filter(|key| !old.contains_key(*key));
    for key in old.keys().chain(gone) {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let (before, after) = (old.get(key).unwrap_or(&Value::Null), new.get(key).unwrap_or(&Value::Null));
        compare(&path, before, after, fields);
    }
}

/// The resources as they would be after the changes: what a dry run asks a book about. What is stored
/// is the store's to say; nothing is decided from this.
pub(super) fn imagined(snapshot: &Snapshot, changes: &[Change]) -> Snapshot {
    let mut after = snapshot.clone();
    changes.iter().for_each(|change| imagine(&mut after, change));
    after
}

fn imagine(after: &mut Snapshot, change: &Change) {
    match change {
        Change::PutTarget { target } => {
            after.targets.retain(|known| known.name != target.name);
            after.targets.push((**target).clone());
        }
        Change::RemoveTarget { name } => after.targets.retain(|known| known.name != *name),
        Change::PutUser { user } => {
            after.users.retain(|known| known.name != user.name);
            after.users.push(user.clone());
        }
        Change::RemoveUser { name } => {
            after.users.retain(|known| known.name != *name);
            after.credentials.retain(|known| known.user != *name);
        }
        Change::PutGrant { grant } => {
            after.grants.retain(|known| known.id != grant.id);
            after.grants.push((**grant).clone());
        }
        Change::EndGrant { id, ended } => {
            let grant = after.grants.iter_mut().find(|known| known.id == *id);
            grant.into_iter().for_each(|grant| grant.ended = Some(ended.clone()));
        }
        Change::ExtendGrant { id, end } => {
            let grant = after.grants.iter_mut().find(|known| known.id == *id);
            grant.into_iter().for_each(|grant| grant.window.end = *end);
        }
        // Not what resource files change.
        Change::SuspendTarget { .. }
        | Change::ResumeTarget { .. }
        | Change::SuspendLevel { .. }
        | Change::ResumeLevel { .. }
        | Change::SetBaseline { .. }
        | Change::AddCredential { .. }
        | Change::EndCredential { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Target, User};
    use serde_json::json;

    fn target(size: u32, levels: &[&str]) -> Target {
        let connectors: Map<_, _> =
            levels.iter().map(|level| ((*level).to_owned(), json!({"secret": "file:a"}))).collect();
        serde_json::from_value(json!({
            "name": "orders", "protocol": "postgres", "address": "a:1",
            "pool": {"size_max": size}, "connectors": connectors,
        }))
        .unwrap()
    }

    #[test]
    fn a_change_is_said_field_by_field() {
        let snapshot = Snapshot { targets: vec![target(5, &["read"])], ..Snapshot::default() };
        let new = Change::PutTarget { target: Box::new(target(7, &["read", "admin"])) };
        let edits = edits(&snapshot, &[new]);
        let [edit] = edits.as_slice() else { panic!("{edits:?}") };
        assert_eq!(
            (edit.kind, edit.what.as_str(), edit.name.as_str()),
            (EditKind::Changed, "target", "orders")
        );
        let said: Vec<_> =
            edit.fields.iter().map(|f| format!("{} {} {}", f.field, f.before, f.after)).collect();
        assert_eq!(said, ["connectors.admin.secret null \"file:a\"", "pool.size_max 5 7"]);
    }

    #[test]
    fn what_would_be_is_what_the_changes_say() {
        let grant: crate::model::Grant = serde_json::from_value(json!({
            "id": "g-0000000000001", "subject": {"user": "bob"}, "target": "orders", "level": "read",
            "window": {"start": "2026-11-22T08:00:00Z", "end": "2026-11-22T09:00:00Z"},
            "created_at": "2026-11-22T08:00:00Z", "created_by": "root",
        }))
        .unwrap();
        let bob: User = serde_json::from_value(json!({"name": "bob"})).unwrap();
        let (id, name) = (grant.id, bob.name.clone());
        let before = imagined(
            &Snapshot::default(),
            &[
                Change::PutTarget { target: Box::new(target(5, &["read"])) },
                Change::PutTarget { target: Box::new(target(7, &["read"])) },
                Change::PutUser { user: bob },
                Change::PutGrant { grant: Box::new(grant) },
            ],
        );
        assert_eq!((before.targets.len(), before.targets[0].pool.size_max), (1, 7));
        let ended = crate::model::Ended {
            at: "2026-11-22T08:30:00Z".parse().unwrap(),
            cause: crate::model::EndCause::Revoked,
            reason: None,
        };
        let after = imagined(
            &before,
            &[
                Change::EndGrant { id, ended: ended.clone() },
                Change::RemoveUser { name },
                Change::RemoveTarget { name: before.targets[0].name.clone() },
            ],
        );
        assert_eq!(after.grants[0].ended, Some(ended));
        assert!(after.users.is_empty() && after.targets.is_empty());
        assert_eq!(before.users.len(), 1, "the present one is left alone");
    }

    #[test]
    fn what_comes_and_goes_has_one_side() {
        let bob: User = serde_json::from_value(json!({"name": "bob"})).unwrap();
        let snapshot = Snapshot { users: vec![bob.clone()], ..Snapshot::default() };
        let alice: User = serde_json::from_value(json!({"name": "alice"})).unwrap();
        let changes = [Change::PutUser { user: alice }, Change::RemoveUser { name: bob.name }];
        let kinds: Vec<_> = edits(&snapshot, &changes)
            .iter()
            .map(|edit| (edit.kind, edit.before.is_some(), edit.after.is_some()))
            .collect();
        assert_eq!(kinds, [(EditKind::Added, false, true), (EditKind::Removed, true, false)]);
    }
}
