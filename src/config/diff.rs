//! The difference between what files say and what the store has (design 1.2).
//!
//! - What the files do not name is left alone. With `prune`, targets, users and *named* grants that they
//!   do not name are removed; a grant without a name was made by hand, no file could name it, and it stays
//!   (unless its user or target goes, which ends it).
//! - A grant is known by its name, or by its id where it has none. Its values change in place; what has
//!   ended stays ended, and a file that wants it open must use a new name.
//! - What the running system knows of a target (suspended, baseline) outlives the change.
//! - A login is never sent to a new address by accident: a target whose address changes names other
//!   secrets, or repeats the address in `secret_confirmed_for`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::resources::{GrantResource, Known, Resources, TargetResource};
use crate::model::{Change, EndCause, Ended, Grant, GrantId, Name, Snapshot, Target, Time, User};

/// What goes with the resources when they are applied.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// Remove what the resources do not name.
    pub prune: bool,
    pub at: Time,
    /// Who applies them, for new grants.
    pub by: &'a str,
    /// The protocols that are built in: [`super::protocols`].
    pub protocols: &'a [&'a str],
}

/// The changes that make the store say what `resources` say, in an order that can be applied; none where
/// it does already. The error has a sentence for each conflict.
pub fn diff(snapshot: &Snapshot, resources: &Resources, plan: &Plan<'_>) -> Result<Vec<Change>, Vec<String>> {
    resources.check(plan.protocols)?;
    let mut difference = Difference { snapshot, resources, plan, changes: Vec::new(), conflicts: Vec::new() };
    difference.names();
    difference.targets();
    difference.users();
    difference.grants();
    if plan.prune {
        difference.prune();
    }
    if difference.conflicts.is_empty() { Ok(difference.changes) } else { Err(difference.conflicts) }
}

struct Difference<'d> {
    snapshot: &'d Snapshot,
    resources: &'d Resources,
    plan: &'d Plan<'d>,
    changes: Vec<Change>,
    conflicts: Vec<String>,
}

impl Difference<'_> {
    /// Each grant names what there will be.
    fn names(&mut self) {
        let mut users: BTreeMap<&Name, &User> = BTreeMap::new();
        let mut targets: BTreeMap<&Name, &Target> = BTreeMap::new();
        if !self.plan.prune {
            users.extend(self.snapshot.users.iter().map(|user| (&user.name, user)));
            targets.extend(self.snapshot.targets.iter().map(|target| (&target.name, target)));
        }
        users.extend(self.resources.users.iter().map(|user| (&user.name, user)));
        targets
            .extend(self.resources.targets.iter().map(|resource| (&resource.target.name, &resource.target)));
        let users: Vec<User> = users.into_values().cloned().collect();
        let known = Known::of(&users, targets.into_values().cloned());
        for grant in &self.resources.grants {
            let checks = [
                known.subject(&grant.subject),
                known.target(&grant.target),
                known.level(&grant.target, &grant.level),
            ];
            let wrong = checks.into_iter().filter_map(Result::err);
            self.conflicts.extend(wrong.map(|what| format!("grant {}: {what}", grant.name)));
        }
    }

    fn targets(&mut self) {
        let known: HashMap<&Name, &Target> =
            self.snapshot.targets.iter().map(|target| (&target.name, target)).collect();
        for resource in &self.resources.targets {
            let mut target = resource.target.clone();
            target.suspended = None;
            target.remembered.clear();
            for connector in target.connectors.values_mut() {
                (connector.baseline, connector.suspended) = (None, None);
            }
            if let Some(before) = known.get(&target.name) {
                self.conflicts.extend(unconfirmed(before, resource));
                keep_runtime_state(before, &mut target);
                if **before == target {
                    continue;
                }
            }
            self.changes.push(Change::PutTarget { target: Box::new(target) });
        }
    }

    fn users(&mut self) {
        let known: HashMap<&Name, &User> =
            self.snapshot.users.iter().map(|user| (&user.name, user)).collect();
        for user in &self.resources.users {
            if known.get(&user.name) != Some(&user) {
                self.changes.push(Change::PutUser { user: user.clone() });
            }
        }
    }

    fn grants(&mut self) {
        let known: HashMap<Name, &Grant> = self
            .snapshot
            .grants
            .iter()
            .filter_map(|grant| Some((GrantResource::of(grant)?.name, grant)))
            .collect();
        let mut ids = Ids::new(self.plan.at, self.snapshot);
        for resource in &self.resources.grants {
            let over = resource.window.end <= self.plan.at;
            let put = match known.get(&resource.name) {
                // A window that is over opens nothing: the file keeps a record of it, no more.
                None if over => continue,
                None => new_grant(resource, ids.next(), self.plan),
                Some(Grant { ended: Some(_), .. }) if over => continue,
                Some(Grant { ended: Some(ended), .. }) => {
                    self.conflicts.push(format!(
                        "grant {}: it ended at {} ({}), and what has ended stays ended; give the grant a new name to open it \
                         again, or take it out of the file",
                        resource.name,
                        ended.at,
                        ended.cause.sentence(),
                    ));
                    continue;
                }
                Some(before) if GrantResource::of(before).as_ref() == Some(resource) => continue,
                // It ends by itself at any moment; nothing may reach past that.
                Some(before) if before.window.end <= self.plan.at => {
                    if !over {
                        self.conflicts.push(format!(
                            "grant {}: it expired at {}, and what has ended stays ended; give the grant a new name",
                            resource.name, before.window.end
                        ));
                    }
                    continue;
                }
                Some(before) => {
                    let new = new_grant(resource, before.id, self.plan);
                    let (created_at, created_by) = (before.created_at, before.created_by.clone());
                    Grant { name: before.name.clone(), created_at, created_by, ..new }
                }
            };
            self.changes.push(Change::PutGrant { grant: Box::new(put) });
        }
    }

    fn prune(&mut self) {
        let grants: HashSet<&Name> = self.resources.grants.iter().map(|grant| &grant.name).collect();
        let users: HashSet<&Name> = self.resources.users.iter().map(|user| &user.name).collect();
        let targets: HashSet<&Name> =
            self.resources.targets.iter().map(|resource| &resource.target.name).collect();
        let named = |grant: &&Grant| grant.name.as_ref().is_some_and(|name| !grants.contains(name));
        for grant in self.snapshot.grants.iter().filter(|grant| grant.ended.is_none()).filter(named) {
            let reason = Some("not in the files that were applied".to_owned());
            let ended = Ended { at: self.plan.at, cause: EndCause::Revoked, reason };
            self.changes.push(Change::EndGrant { id: grant.id, ended });
        }
        for user in self.snapshot.users.iter().filter(|user| !users.contains(&user.name)) {
            self.changes.push(Change::RemoveUser { name: user.name.clone() });
        }
        for target in self.snapshot.targets.iter().filter(|target| !targets.contains(&target.name)) {
            self.changes.push(Change::RemoveTarget { name: target.name.clone() });
        }
    }
}

fn new_grant(resource: &GrantResource, id: GrantId, plan: &Plan<'_>) -> Grant {
    Grant {
        id,
        name: Some(resource.name.clone()),
        subject: resource.subject.clone(),
        target: resource.target.clone(),
        level: resource.level.clone(),
        databases: resource.databases.clone(),
        window: resource.window,
        cidrs: resource.cidrs.clone(),
        sessions_max: resource.sessions_max,
        reason: resource.reason.clone(),
        created_at: plan.at,
        created_by: plan.by.to_owned(),
        ended: None,
    }
}

/// Why the target's logins may not go to its new address, if they may not.
fn unconfirmed(before: &Target, resource: &TargetResource) -> Option<String> {
    let after = &resource.target;
    if before.address == after.address || resource.secret_confirmed_for.as_ref() == Some(&after.address) {
        return None;
    }
    let known: BTreeSet<String> = logins(before).map(|(_, secret)| secret).collect();
    let (login, secret) = logins(after).find(|(_, secret)| known.contains(secret))?;
    Some(format!(
        "target {}: its address changes from {} to {} while {login} keeps the secret {secret}; name another secret, or add \
         secret_confirmed_for = \"{}\" to the target to send this login there",
        after.name, before.address, after.address, after.address
    ))
}

/// Every login of the target: what it is called, its secret.
fn logins(target: &Target) -> impl Iterator<Item = (String, String)> {
    let levels = target.connectors.iter().map(|(level, of)| (format!("level {level}"), of.secret.clone()));
    let upkeep = target.upstream.upkeep.iter().map(|upkeep| ("upkeep".to_owned(), upkeep.secret.clone()));
    levels.chain(upkeep)
}

/// Suspensions stay until somebody resumes, also those of a level that is taken away and comes back. A
/// baseline stays with the login that it was taken from: another server or another secret is another role.
fn keep_runtime_state(before: &Target, after: &mut Target) {
    after.suspended.clone_from(&before.suspended);
    let gone = before.remembered.iter().chain(&before.connectors);
    let gone = gone.filter(|(level, _)| !after.connectors.contains_key(level));
    let worth = gone.filter(|(_, known)| known.suspended.is_some() || known.baseline.is_some());
    after.remembered = worth.map(|(level, known)| (level.clone(), known.clone())).collect();
    if before.address != after.address {
        after.remembered.values_mut().for_each(|known| known.baseline = None);
    }
    for (level, connector) in &mut after.connectors {
        let known = before.connectors.get(level).or_else(|| before.remembered.get(level));
        let Some(known) = known else { continue };
        connector.suspended.clone_from(&known.suspended);
        if before.address == after.address && known.secret == connector.secret {
            connector.baseline.clone_from(&known.baseline);
        }
    }
}

/// Makes ids that the snapshot does not have: counted from a random start, for a file may bring more
/// grants in one millisecond than random bits alone keep apart.
struct Ids {
    at: Time,
    next: u32,
    taken: HashSet<GrantId>,
}

impl Ids {
    fn new(at: Time, snapshot: &Snapshot) -> Self {
        // Without randomness the ids are still new: they are compared with those that are there.
        let next = getrandom::u32().unwrap_or_default();
        Self { at, next, taken: snapshot.grants.iter().map(|grant| grant.id).collect() }
    }

    fn next(&mut self) -> GrantId {
        loop {
            self.next = self.next.wrapping_add(1);
            let id = GrantId::new(self.at, self.next);
            if self.taken.insert(id) {
                return id;
            }
        }
    }
}

#[cfg(test)]
mod tests;
