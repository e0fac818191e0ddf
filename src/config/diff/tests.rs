use super::*;
use crate::model::{AccessLevel, Connector, Databases, PoolSettings, Subject, TlsMode, Window};

fn at(seconds: i64) -> Time {
    Time::from_second(4_000_000_000 + seconds).unwrap()
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn user(text: &str, groups: &[&str]) -> User {
    User { name: name(text), groups: groups.iter().map(|group| name(group)).collect() }
}

fn target(text: &str, address: &str, secrets: &[(AccessLevel, &str)]) -> Target {
    let connector = |secret: &str| Connector { secret: secret.to_owned(), baseline: None, suspended: None };
    Target {
        name: name(text),
        protocol: "postgres".to_owned(),
        address: address.to_owned(),
        database: None,
        tls: TlsMode::Require,
        tls_ca: None,
        upstream: Default::default(),
        details: String::new(),
        owners: BTreeSet::new(),
        connectors: secrets.iter().map(|(level, secret)| (level.clone(), connector(secret))).collect(),
        pool: PoolSettings::default(),
        remembered: Default::default(),
        accept_extensions: BTreeSet::new(),
        park: Default::default(),
        park_accepts: Default::default(),
        bodies: Default::default(),
        suspended: None,
    }
}

fn orders() -> Target {
    target(
        "orders",
        "db:5432",
        &[(AccessLevel::Read, "file:read.json"), (AccessLevel::ReadWrite, "file:rw.json")],
    )
}

fn as_resource(target: Target) -> TargetResource {
    TargetResource { target, secret_confirmed_for: None }
}

fn week(text: &str, from: i64, until: i64) -> GrantResource {
    GrantResource {
        name: name(text),
        subject: Subject::User(name("alice")),
        target: name("orders"),
        level: AccessLevel::Read,
        databases: Databases::Default,
        window: Window { start: at(from), end: at(until) },
        cidrs: Vec::new(),
        sessions_max: None,
        reason: None,
    }
}

fn resources() -> Resources {
    Resources {
        targets: vec![as_resource(orders())],
        users: vec![user("alice", &["backend"])],
        grants: vec![week("week-1", 0, 1_000)],
    }
}

fn plan(seconds: i64) -> Plan<'static> {
    Plan { prune: false, at: at(seconds), by: "uid 1000", protocols: &["postgres"] }
}

/// Puts what is put and ends what is ended, as the store does.
fn applied(snapshot: &Snapshot, changes: &[Change]) -> Snapshot {
    let mut after = snapshot.clone();
    for change in changes {
        match change {
            Change::PutTarget { target } => {
                after.targets.retain(|known| known.name != target.name);
                after.targets.push((**target).clone());
            }
            Change::PutUser { user } => {
                after.users.retain(|known| known.name != user.name);
                after.users.push(user.clone());
            }
            Change::PutGrant { grant } => {
                after.grants.retain(|known| known.id != grant.id);
                after.grants.push((**grant).clone());
            }
            Change::EndGrant { id, ended } => {
                after
                    .grants
                    .iter_mut()
                    .filter(|grant| grant.id == *id)
                    .for_each(|grant| grant.ended = Some(ended.clone()));
            }
            Change::RemoveUser { name } => after.users.retain(|user| user.name != *name),
            Change::RemoveTarget { name } => after.targets.retain(|target| target.name != *name),
            other => panic!("an apply does not {other:?}"),
        }
    }
    after
}

fn stored() -> Snapshot {
    applied(&Snapshot::default(), &diff(&Snapshot::default(), &resources(), &plan(1)).unwrap())
}

#[test]
fn a_second_run_changes_nothing() {
    let changes = diff(&Snapshot::default(), &resources(), &plan(1)).unwrap();
    assert!(matches!(
        changes.as_slice(),
        [Change::PutTarget { .. }, Change::PutUser { .. }, Change::PutGrant { .. }]
    ));
    let Change::PutGrant { grant } = &changes[2] else { panic!() };
    assert_eq!(
        (grant.name.clone(), grant.created_at, grant.created_by.as_str()),
        (Some(name("week-1")), at(1), "uid 1000")
    );
    for prune in [false, true] {
        assert_eq!(diff(&stored(), &resources(), &Plan { prune, ..plan(2) }), Ok(vec![]));
    }
}

#[test]
fn what_is_exported_changes_nothing_when_it_is_applied() {
    let mut snapshot = stored();
    // One made by hand has no name; it is known by its id.
    let by_hand = Grant { id: GrantId::from_u64(77), name: None, ..snapshot.grants[0].clone() };
    snapshot.grants.push(by_hand);
    let exported = Resources::from_snapshot(&snapshot);
    assert_eq!(exported.grants[1].name, name(&GrantId::from_u64(77).to_string()));
    for prune in [false, true] {
        assert_eq!(diff(&snapshot, &exported, &Plan { prune, ..plan(2) }), Ok(vec![]));
    }
    let mut edited = exported;
    edited.grants[1].reason = Some("longer".to_owned());
    let changes = diff(&snapshot, &edited, &plan(2)).unwrap();
    let [Change::PutGrant { grant }] = changes.as_slice() else { panic!("{changes:?}") };
    assert_eq!((grant.id, grant.name.clone()), (GrantId::from_u64(77), None));
}

#[test]
fn a_changed_grant_keeps_its_id_and_its_origin() {
    let snapshot = stored();
    let mut changed = resources();
    changed.grants[0].window.end = at(2_000);
    changed.grants[0].level = AccessLevel::ReadWrite;
    let changes = diff(&snapshot, &changed, &Plan { by: "uid 7", ..plan(5) }).unwrap();
    let [Change::PutGrant { grant }] = changes.as_slice() else { panic!("{changes:?}") };
    let before = &snapshot.grants[0];
    let expected = Grant {
        level: AccessLevel::ReadWrite,
        window: Window { start: at(0), end: at(2_000) },
        ..before.clone()
    };
    assert_eq!(**grant, expected);
}

#[test]
fn what_has_ended_is_not_opened_again() {
    let end = |cause, seconds| {
        let mut snapshot = stored();
        snapshot.grants[0].ended = Some(Ended { at: at(seconds), cause, reason: None });
        snapshot
    };
    let revoked = end(EndCause::Revoked, 10);
    let said = diff(&revoked, &resources(), &plan(20)).unwrap_err();
    assert_eq!(said.len(), 1);
    assert!(
        said[0].starts_with("grant week-1: it ended at") && said[0].contains("(the grant was revoked)"),
        "{said:?}"
    );
    // Once its window is over it opens nothing, and may stay in the file.
    assert_eq!(diff(&revoked, &resources(), &plan(1_000)), Ok(vec![]));
    assert_eq!(diff(&end(EndCause::Expired, 1_000), &resources(), &plan(1_001)), Ok(vec![]));
    let mut longer = resources();
    longer.grants[0].window.end = at(5_000);
    for snapshot in [end(EndCause::Expired, 1_000), stored()] {
        let said = diff(&snapshot, &longer, &plan(1_001)).unwrap_err();
        assert!(said.len() == 1 && said[0].contains("what has ended stays ended"), "{said:?}");
    }
    // A name that the store has forgotten, with a window that is over.
    let mut old = stored();
    old.grants.clear();
    assert_eq!(diff(&old, &resources(), &plan(1_001)), Ok(vec![]));
}

#[test]
fn runtime_state_outlives_an_apply() {
    let mut snapshot = stored();
    snapshot.targets[0].suspended = Some("upgrade".to_owned());
    let connector = snapshot.targets[0].connectors.get_mut(&AccessLevel::Read).unwrap();
    (connector.baseline, connector.suspended) = (Some("f1".to_owned()), Some("differs".to_owned()));
    assert_eq!(diff(&snapshot, &resources(), &plan(2)), Ok(vec![]));

    let mut changed = resources();
    changed.targets[0].target.details = "new".to_owned();
    // And none of it can be brought in by the resources.
    changed.targets[0].target.suspended = Some("mine".to_owned());
    changed.targets[0].target.connectors.get_mut(&AccessLevel::ReadWrite).unwrap().baseline =
        Some("mine".to_owned());
    let changes = diff(&snapshot, &changed, &plan(2)).unwrap();
    let [Change::PutTarget { target }] = changes.as_slice() else { panic!("{changes:?}") };
    assert_eq!(**target, Target { details: "new".to_owned(), ..snapshot.targets[0].clone() });

    changed.targets[0].target.connectors.get_mut(&AccessLevel::Read).unwrap().secret =
        "file:new.json".to_owned();
    let changes = diff(&snapshot, &changed, &plan(2)).unwrap();
    let [Change::PutTarget { target }] = changes.as_slice() else { panic!("{changes:?}") };
    let connector = &target.connectors[&AccessLevel::Read];
    assert_eq!((&connector.baseline, connector.suspended.as_deref()), (&None, Some("differs")));
}

#[test]
fn a_login_does_not_follow_an_address_by_accident() {
    let snapshot = stored();
    let mut moved = resources();
    moved.targets[0].target.address = "evil:5432".to_owned();
    let said = diff(&snapshot, &moved, &plan(2)).unwrap_err();
    assert_eq!(
        said,
        [
            "target orders: its address changes from db:5432 to evil:5432 while level read keeps the secret file:read.json; name \
          another secret, or add secret_confirmed_for = \"evil:5432\" to the target to send this login there"
        ]
    );
    // Under another level it is the same login.
    let swapped = [(AccessLevel::Read, "file:rw.json"), (AccessLevel::ReadWrite, "file:new.json")];
    moved.targets[0].target = target("orders", "evil:5432", &swapped);
    assert!(diff(&snapshot, &moved, &plan(2)).unwrap_err()[0].contains("keeps the secret file:rw.json"));
    let fresh = [(AccessLevel::Read, "file:r2.json")];
    moved.targets[0].target = target("orders", "new:5432", &fresh);
    assert!(diff(&snapshot, &moved, &plan(2)).is_ok());
    moved.targets[0] = TargetResource {
        target: Target { address: "new:5432".to_owned(), ..orders() },
        secret_confirmed_for: Some("new:5432".to_owned()),
    };
    let changes = diff(&snapshot, &moved, &plan(2)).unwrap();
    assert_eq!(changes.len(), 1);
    assert_eq!(diff(&applied(&snapshot, &changes), &moved, &plan(3)), Ok(vec![]));
    // A confirmation for somewhere else is none.
    moved.targets[0].target.address = "third:5432".to_owned();
    assert!(diff(&snapshot, &moved, &plan(2)).is_err());
}

#[test]
fn prune_removes_what_is_not_named_and_nothing_else() {
    let mut snapshot = stored();
    snapshot.users.push(user("bob", &[]));
    snapshot.targets.push(target("old", "db:1", &[(AccessLevel::Read, "file:old.json")]));
    let first = snapshot.grants[0].clone();
    let live = |id, called: Option<&str>| Grant {
        id: GrantId::from_u64(id),
        name: called.map(name),
        ..first.clone()
    };
    let past = Ended { at: at(1), cause: EndCause::Revoked, reason: None };
    snapshot.grants.extend([
        live(2, Some("gone")),
        live(3, None),
        Grant { ended: Some(past), ..live(4, Some("ended")) },
    ]);
    assert_eq!(diff(&snapshot, &resources(), &plan(2)), Ok(vec![]));
    let changes = diff(&snapshot, &resources(), &Plan { prune: true, ..plan(2) }).unwrap();
    let [
        Change::EndGrant { id, ended },
        Change::RemoveUser { name: user },
        Change::RemoveTarget { name: target },
    ] = changes.as_slice()
    else {
        panic!("{changes:?}")
    };
    assert_eq!((id.as_u64(), ended.cause, ended.at), (2, EndCause::Revoked, at(2)));
    assert_eq!((user.as_str(), target.as_str()), ("bob", "old"));
    let after = applied(&snapshot, &changes);
    assert_eq!(diff(&after, &resources(), &Plan { prune: true, ..plan(3) }), Ok(vec![]));
    // Nothing may lean on what is about to go.
    let mut leaning = resources();
    leaning.grants[0].target = name("old");
    assert!(diff(&snapshot, &leaning, &plan(2)).is_ok());
    let said = diff(&snapshot, &leaning, &Plan { prune: true, ..plan(2) }).unwrap_err();
    assert_eq!(said, ["grant week-1: there is no target old; add a [[target]] of that name"]);
}

#[test]
fn names_must_be_there_after_the_change() {
    let snapshot = stored();
    let group = |grant: &mut GrantResource| grant.subject = Subject::Group(name("backend"));
    let mut other = Resources { grants: vec![week("g", 0, 10)], ..Resources::default() };
    group(&mut other.grants[0]);
    assert!(diff(&snapshot, &other, &plan(2)).is_ok(), "alice is in it, in the store");
    // The same run takes her out.
    other.users = vec![user("alice", &[])];
    let said = diff(&snapshot, &other, &plan(2)).unwrap_err();
    assert_eq!(said, ["grant g: no user is in a group backend; add it to the groups of a [[user]]"]);
    other = Resources {
        grants: vec![GrantResource { level: AccessLevel::Admin, ..week("g", 0, 10) }],
        ..Resources::default()
    };
    let said = diff(&snapshot, &other, &plan(2)).unwrap_err();
    assert_eq!(said, ["grant g: target orders has no connector for admin; it has read and read_write"]);
}

#[test]
fn resources_from_elsewhere_are_checked_like_files() {
    let mut wrong = resources();
    wrong.targets[0].target.address = "db".to_owned();
    wrong.targets[0].target.protocol = "mysql".to_owned();
    wrong.targets[0].target.connectors.get_mut(&AccessLevel::Read).unwrap().secret = "hunter2".to_owned();
    wrong.grants[0].window.end = at(-5);
    wrong.users.push(user("alice", &[]));
    let said = diff(&Snapshot::default(), &wrong, &plan(1)).unwrap_err();
    assert!(!said.iter().any(|one| one.contains("hunter2")), "{said:?}");
    for (one, expected) in said.iter().zip([
        "user alice is named twice",
        "target orders: protocol: not a protocol",
        "target orders: address: must be host:port",
        "target orders: read: not a reference to a secret",
        "grant week-1: until: must be later",
    ]) {
        assert!(one.starts_with(expected), "{one}");
    }
    assert_eq!(said.len(), 5);
    let json = serde_json::to_string(&resources()).unwrap();
    assert_eq!(serde_json::from_str::<Resources>(&json).unwrap(), resources());
    assert!(serde_json::from_str::<Resources>(r#"{"target": []}"#).is_err());
}

#[test]
fn many_grants_in_one_moment_have_ids_of_their_own() {
    let mut many = resources();
    many.grants = (0..5_000).map(|number| week(&format!("g-{number}"), 0, 1_000)).collect();
    let changes = diff(&Snapshot::default(), &many, &plan(1)).unwrap();
    let ids: HashSet<_> = changes
        .iter()
        .filter_map(|change| match change {
            Change::PutGrant { grant } => Some(grant.id),
            _ => None,
        })
        .collect();
    assert_eq!(ids.len(), 5_000);
}

#[test]
fn a_level_that_comes_back_is_still_suspended() {
    let mut snapshot = stored();
    let level = snapshot.targets[0].connectors.keys().next().cloned().unwrap();
    let connector = snapshot.targets[0].connectors.get_mut(&level).unwrap();
    (connector.baseline, connector.suspended) = (Some("role".into()), Some("alarm".into()));
    let other: AccessLevel = "other".parse().unwrap();
    let without = |address: &str| {
        let mut files = resources();
        files.grants.clear();
        let target = &mut files.targets[0].target;
        let connector = target.connectors.remove(&level).unwrap();
        let secret = "file:other.json".to_owned();
        target.connectors.insert(other.clone(), Connector { secret, ..connector });
        target.address = address.to_owned();
        files.targets[0].secret_confirmed_for = Some(address.to_owned());
        files
    };
    let put = |snapshot: &Snapshot, files: &Resources| {
        let changes = diff(snapshot, files, &plan(2)).unwrap();
        let [Change::PutTarget { target }] = changes.as_slice() else { panic!("{changes:?}") };
        Snapshot { targets: vec![(**target).clone()], ..snapshot.clone() }
    };
    let address = snapshot.targets[0].address.clone();
    let gone = put(&snapshot, &without(&address));
    assert!(!gone.targets[0].connectors.contains_key(&level));
    let files = without(&address);
    assert_eq!(diff(&gone, &files, &plan(3)), Ok(vec![]), "a second run changes nothing");
    let mut back = resources();
    back.grants.clear();
    let again = put(&gone, &back);
    let connector = &again.targets[0].connectors[&level];
    assert_eq!(
        (connector.baseline.as_deref(), connector.suspended.as_deref()),
        (Some("role"), Some("alarm"))
    );
    assert!(!again.targets[0].remembered.contains_key(&level));
    // At another address it is another role.
    let moved = put(&gone, &without("elsewhere:5432"));
    assert_eq!(moved.targets[0].remembered[&level].baseline, None);
    assert!(Resources::from_snapshot(&gone).targets[0].target.remembered.is_empty(), "not a part of files");
}
