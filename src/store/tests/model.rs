//! Any sequence of changes does in the store what it does in a model in memory.

use std::collections::BTreeMap;

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use super::*;
use crate::model::limits::CREDENTIALS_PER_USER_MAX;

#[derive(Clone, Default)]
struct Model {
    users: BTreeMap<Name, User>,
    targets: BTreeMap<Name, Target>,
    grants: BTreeMap<GrantId, Grant>,
    credentials: BTreeMap<CredentialId, Credential>,
}

impl Model {
    /// All of it or nothing. Whether it was all.
    fn apply(&mut self, changes: &[Change], at: Time) -> bool {
        let mut after = self.clone();
        let done = changes.iter().all(|change| after.change(change, at).is_some());
        if done {
            *self = after;
        }
        done
    }

    fn change(&mut self, change: &Change, at: Time) -> Option<()> {
        match change {
            Change::PutTarget { target } => {
                self.targets.insert(target.name.clone(), (**target).clone());
            }
            Change::RemoveTarget { name } => {
                self.targets.remove(name)?;
                let reason = Some("the target was removed".to_owned());
                self.end(
                    |grant| grant.target == *name,
                    &Ended { at, cause: EndCause::NoLongerMatches, reason },
                );
            }
            Change::SuspendTarget { name, reason } => {
                self.targets.get_mut(name)?.suspended = Some(reason.clone());
            }
            Change::ResumeTarget { name } => self.targets.get_mut(name)?.suspended = None,
            Change::SuspendLevel { target, level, reason } => {
                self.connector(target, level)?.suspended = Some(reason.clone());
            }
            Change::ResumeLevel { target, level } => {
                let connector = self.connector(target, level)?;
                (connector.suspended, connector.baseline) = (None, None);
            }
            Change::SetBaseline { target, level, fingerprint } => {
                self.connector(target, level)?.baseline = Some(fingerprint.clone());
            }
            Change::PutUser { user } => {
                self.users.insert(user.name.clone(), user.clone());
            }
            Change::RemoveUser { name } => {
                self.users.remove(name)?;
                let ended = Ended { at, cause: EndCause::UserRemoved, reason: None };
                self.end(|grant| grant.subject == Subject::User(name.clone()), &ended);
                let theirs = self.credentials.values_mut().filter(|one| one.user == *name);
                theirs.for_each(|one| one.ended = one.ended.take().or(Some(ended.clone())));
            }
            Change::PutGrant { grant } => self.put_grant(grant, at)?,
            Change::EndGrant { id, ended } => {
                let grant = self.grants.get_mut(id).filter(|grant| grant.ended.is_none())?;
                grant.ended = Some(ended.clone());
            }
            Change::ExtendGrant { id, end } => {
                let open = |grant: &&mut Grant| grant.ended.is_none() && at < grant.window.end;
                let grant = self.grants.get_mut(id).filter(open)?;
                (grant.window.end < *end).then_some(())?;
                grant.window.end = *end;
            }
            Change::AddCredential { credential } => {
                self.users.get(&credential.user)?;
                let live = |one: &&Credential| {
                    one.user == credential.user && one.ended.is_none() && at < one.window.end
                };
                let room = self.credentials.values().filter(live).count() < CREDENTIALS_PER_USER_MAX;
                (room && !self.credentials.contains_key(&credential.id)).then_some(())?;
                self.credentials.insert(credential.id, (**credential).clone());
            }
            Change::EndCredential { id, ended } => {
                let credential = self.credentials.get_mut(id).filter(|one| one.ended.is_none())?;
                credential.ended = Some(ended.clone());
            }
        }
        Some(())
    }

    fn put_grant(&mut self, grant: &Grant, at: Time) -> Option<()> {
        match self.grants.get(&grant.id) {
            Some(before) => {
                let open = before.ended.is_none() && at < before.window.end;
                (open && before.name == grant.name && before.created_at == grant.created_at).then_some(())?;
            }
            None => {
                let taken = self.grants.values().any(|one| one.name.is_some() && one.name == grant.name);
                (!taken).then_some(())?;
            }
        }
        let subject = match &grant.subject {
            Subject::User(name) => self.users.contains_key(name),
            Subject::Group(name) => self.users.values().any(|user| user.groups.contains(name)),
        };
        let level = self.targets.get(&grant.target)?.connectors.contains_key(&grant.level);
        let sane =
            grant.ended.is_none() && grant.window.start < grant.window.end && grant.sessions_max != Some(0);
        (subject && level && sane).then_some(())?;
        self.grants.insert(grant.id, grant.clone());
        Some(())
    }

    fn connector(&mut self, target: &Name, level: &AccessLevel) -> Option<&mut Connector> {
        self.targets.get_mut(target)?.connectors.get_mut(level)
    }

    fn end(&mut self, of: impl Fn(&Grant) -> bool, ended: &Ended) {
        let open = self.grants.values_mut().filter(|grant| grant.ended.is_none() && of(grant));
        open.for_each(|grant| grant.ended = Some(ended.clone()));
    }

    fn parts(&self) -> Parts {
        (
            self.users.values().cloned().collect(),
            self.targets.values().cloned().collect(),
            self.grants.values().cloned().collect(),
            self.credentials.values().cloned().collect(),
        )
    }
}

// Few names and ids, so that changes meet each other.

fn person() -> impl Strategy<Value = Name> {
    prop_oneof![Just("alice"), Just("bob")].prop_map(name)
}

fn place() -> impl Strategy<Value = Name> {
    prop_oneof![3 => Just("orders"), 1 => Just("stock")].prop_map(name)
}

fn some_level() -> impl Strategy<Value = AccessLevel> {
    prop_oneof![3 => Just(AccessLevel::Read), 1 => Just(AccessLevel::Admin)]
}

fn some_ended() -> impl Strategy<Value = Ended> {
    (0..100i64, proptest::sample::select(EndCause::ALL.to_vec()))
        .prop_map(|(seconds, cause)| ended(seconds, cause))
}

fn some_grant() -> impl Strategy<Value = Grant> {
    let subject =
        prop_oneof![3 => person().prop_map(Subject::User), 1 => Just(Subject::Group(super::name("backend")))];
    let called = prop_oneof![Just(None), Just(Some("n1")), Just(Some("n2"))];
    let limit = proptest::sample::select(vec![None, Some(0), Some(3)]);
    (1..5u64, called, subject, place(), some_level(), -5..100i64, 0..60i64, limit).prop_map(
        |(id, called, subject, target, level, start, length, sessions_max)| Grant {
            target,
            level,
            window: Window { start: at(start), end: at(start + length) },
            sessions_max,
            ..grant(id, called, subject)
        },
    )
}

fn some_change() -> impl Strategy<Value = Change> {
    let put_target = (place(), btree_set(some_level(), 1..3), prop::option::of(Just("held".to_owned())));
    let groups = btree_set(Just(name("backend")), 0..2);
    let credential = (1..12u64, person(), -5..100i64, 1..60i64);
    let grant_id = || (1..5u64).prop_map(GrantId::from_u64);
    prop_oneof![
        3 => put_target.prop_map(|(of, levels, suspended)| {
            let levels: Vec<_> = levels.into_iter().collect();
            super::put_target(Target { suspended, ..target(of.as_str(), &levels) })
        }),
        1 => place().prop_map(|name| Change::RemoveTarget { name }),
        1 => place().prop_map(|name| Change::SuspendTarget { name, reason: "r".to_owned() }),
        1 => place().prop_map(|name| Change::ResumeTarget { name }),
        1 => (place(), some_level())
            .prop_map(|(target, level)| Change::SuspendLevel { target, level, reason: "r".to_owned() }),
        1 => (place(), some_level()).prop_map(|(target, level)| Change::ResumeLevel { target, level }),
        1 => (place(), some_level())
            .prop_map(|(target, level)| Change::SetBaseline { target, level, fingerprint: "f".to_owned() }),
        3 => (person(), groups).prop_map(|(name, groups)| put_user(User { name, groups })),
        1 => person().prop_map(|name| Change::RemoveUser { name }),
        6 => some_grant().prop_map(put_grant),
        2 => (grant_id(), some_ended()).prop_map(|(id, ended)| Change::EndGrant { id, ended }),
        2 => (grant_id(), 0..200i64).prop_map(|(id, end)| Change::ExtendGrant { id, end: at(end) }),
        4 => credential.prop_map(|(id, of, start, length)| {
            let window = Window { start: at(start), end: at(start + length) };
            add(Credential { window, ..super::credential(id, of.as_str()) })
        }),
        1 => ((1..12u64).prop_map(CredentialId::from_u64), some_ended())
            .prop_map(|(id, ended)| Change::EndCredential { id, ended }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn the_store_does_what_the_model_does(batches in vec(vec(some_change(), 1..4), 1..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(URL, folder.path()).await.unwrap();
            let mut model = Model::default();
            let start = [
                put_user(user("alice", &["backend"])),
                super::put_target(target("orders", &[AccessLevel::Read, AccessLevel::Admin])),
            ];
            let (mut accepted, batches) = (0, std::iter::once(start.to_vec()).chain(batches));
            for (step, changes) in batches.enumerate() {
                let now = at(step as i64);
                let expected = model.apply(&changes, now);
                accepted += usize::from(expected);
                match store.apply(&changes, now).await {
                    Ok(()) => prop_assert!(expected, "accepted: {:?}", changes),
                    Err(StoreError::Refused(why)) => prop_assert!(!expected, "refused: {}: {:?}", why, changes),
                    Err(error) => prop_assert!(false, "{}: {:?}", error, changes),
                }
                prop_assert_eq!(parts(store.snapshot().await.unwrap()), model.parts());
            }
            prop_assert!(accepted > 0);
            store.close().await;
            let again = Store::open(URL, folder.path()).await.unwrap();
            prop_assert_eq!(parts(again.snapshot().await.unwrap()), model.parts());
            Ok(())
        })?;
    }
}
