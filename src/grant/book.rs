//! The decision of design 1.3, from memory: who gets in, under which grant, and how a session that
//! is in stands after a change or as time passes.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use super::admission::{Admission, Scope};
use super::fit::{Asked, Misfit, Want, misfit, used_up};
use crate::credential::{Identity, Proof};
use crate::model::limits::CREDENTIALS_PER_USER_MAX;
use crate::model::{
    Claim, Credential, CredentialId, EndCause, Grant, GrantId, Name, Refusal, Snapshot, Subject, Target,
    Time, Touch, User,
};

/// Everything that decides who may go where, indexed. Immutable: a change makes a new book.
///
/// Names and ids are unique in a snapshot; the store sees to that.
pub struct Book {
    snapshot: Snapshot,
    // Places in the lists of `snapshot`.
    users: HashMap<Name, usize>,
    targets: HashMap<Name, usize>,
    grants: HashMap<GrantId, usize>,
    credentials: HashMap<CredentialId, usize>,
    /// By their check code, for a proof that names nobody.
    credentials_by_check: HashMap<Vec<u8>, usize>,
    /// Those that end last come first.
    credentials_of: HashMap<Name, Vec<usize>>,
    given_to_user: HashMap<Name, ByTarget>,
    given_to_group: HashMap<Name, ByTarget>,
}

type ByTarget = HashMap<Name, Vec<usize>>;

/// What the client is told, and what the trail is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotAdmitted {
    pub refusal: Refusal,
    pub why: String,
}

/// How a live session stands with the book of now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Goes on; until when, which may have changed.
    Open {
        until: Time,
    },
    /// The grant ended and another admits the same claim at the same level.
    Moved(Box<Admission>),
    Ended(EndCause),
}

/// What [`Book::admit`] would say, and why, for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The grant that would be chosen; `None`: they would not get in.
    pub grant: Option<GrantId>,
    /// That grant's end. A session may end earlier, with its credential.
    pub until: Option<Time>,
    pub why: String,
    /// Each grant of theirs for this target, by id: its name and what it comes to.
    pub considered: Vec<(GrantId, Option<Name>, String)>,
}

/// The grants that are open for what is wanted, the chosen one first. Never empty.
struct Choice<'a> {
    grant: &'a Grant,
    others: Vec<&'a Grant>,
}

impl Book {
    pub fn new(snapshot: Snapshot) -> Self {
        let mut credentials_of: HashMap<Name, Vec<usize>> = HashMap::new();
        for (place, credential) in snapshot.credentials.iter().enumerate() {
            credentials_of.entry(credential.user.clone()).or_default().push(place);
        }
        for places in credentials_of.values_mut() {
            places.sort_by_key(|place| {
                let credential = &snapshot.credentials[*place];
                (Reverse(credential.window.end), credential.id)
            });
        }
        let (mut given_to_user, mut given_to_group) = (HashMap::new(), HashMap::new());
        for (place, grant) in snapshot.grants.iter().enumerate() {
            let (index, name): (&mut HashMap<Name, ByTarget>, _) = match &grant.subject {
                Subject::User(name) => (&mut given_to_user, name),
                Subject::Group(name) => (&mut given_to_group, name),
            };
            let by_target = index.entry(name.clone()).or_default();
            by_target.entry(grant.target.clone()).or_default().push(place);
        }
        Self {
            users: index(&snapshot.users, |user| user.name.clone()),
            targets: index(&snapshot.targets, |target| target.name.clone()),
            grants: index(&snapshot.grants, |grant| grant.id),
            credentials: index(&snapshot.credentials, |credential| credential.id),
            credentials_by_check: index(&snapshot.credentials, |credential| {
                credential.verifiers.check.clone()
            }),
            credentials_of,
            given_to_user,
            given_to_group,
            snapshot,
        }
    }

    /// The live credentials of a user, none for an unknown one, those that end last first, and at most
    /// [`CREDENTIALS_PER_USER_MAX`]. Cheap: login path.
    pub fn credentials(&self, user: &str, now: Time) -> Vec<&Credential> {
        if self.user(user).is_none() {
            return Vec::new();
        }
        let places = self.credentials_of.get(user).map_or(&[][..], Vec::as_slice);
        places
            .iter()
            .map(|place| &self.snapshot.credentials[*place])
            .filter(|credential| credential.is_live(now))
            .take(CREDENTIALS_PER_USER_MAX)
            .collect()
    }

    /// The live credential that has this check code. The code is a keyed hash of the secret, so how long the search
    /// takes says nothing of a secret.
    pub fn credential_by_check(&self, check: &[u8], now: Time) -> Option<&Credential> {
        let credential = &self.snapshot.credentials[*self.credentials_by_check.get(check)?];
        (credential.is_live(now) && self.user(credential.user.as_str()).is_some()).then_some(credential)
    }

    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.get(name).map(|place| &self.snapshot.users[*place])
    }

    pub fn target(&self, name: &str) -> Option<&Target> {
        self.targets.get(name).map(|place| &self.snapshot.targets[*place])
    }

    pub fn grant(&self, id: GrantId) -> Option<&Grant> {
        self.grants.get(&id).map(|place| &self.snapshot.grants[*place])
    }

    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The decision of design 1.3. `sessions` counts the live sessions of a grant.
    ///
    /// Whoever asks is who proved it: the name in the claim must be the same and decides nothing.
    pub fn admit(
        &self,
        identity: &Identity,
        claim: &Claim,
        now: Time,
        sessions: &dyn Fn(GrantId) -> u32,
    ) -> Result<Admission, NotAdmitted> {
        self.admit_touch(identity, claim, None, now, sessions)
    }

    /// The same for one request, where the proxy authorizes: among the grants that cover what it touches the lowest
    /// level that is enough wins.
    pub fn admit_request(
        &self,
        identity: &Identity,
        claim: &Claim,
        touch: Touch,
        now: Time,
        sessions: &dyn Fn(GrantId) -> u32,
    ) -> Result<Admission, NotAdmitted> {
        self.admit_touch(identity, claim, Some(Arc::new(touch)), now, sessions)
    }

    /// What each grant covers that is open for a request that touches this, the one that would be chosen first.
    pub fn scopes(
        &self,
        identity: &Identity,
        claim: &Claim,
        touch: &Touch,
        now: Time,
        sessions: &dyn Fn(GrantId) -> u32,
    ) -> Vec<Scope> {
        let asked = Asked { touch: Some(touch), ..Asked::from(claim) };
        let Some(want) = self.want(&asked).ok().filter(|want| want.user.name == *identity.user()) else {
            return Vec::new();
        };
        let Ok(choice) = self.choose(&want, now, sessions, |_| true) else { return Vec::new() };
        let open = std::iter::once(choice.grant).chain(choice.others);
        open.map(|grant| Scope::new(&grant.databases, want.database)).collect()
    }

    fn admit_touch(
        &self,
        identity: &Identity,
        claim: &Claim,
        touch: Option<Arc<Touch>>,
        now: Time,
        sessions: &dyn Fn(GrantId) -> u32,
    ) -> Result<Admission, NotAdmitted> {
        let not_granted = |why: String| NotAdmitted { refusal: Refusal::NotGranted, why };
        if *identity.user() != claim.user {
            return Err(not_granted(format!("{} claims to be {}", identity.user(), claim.user)));
        }
        let asked = Asked { touch: touch.as_deref(), ..Asked::from(claim) };
        let want = self.want(&asked).map_err(not_granted)?;
        // It was live when the proof was checked; a revocation may have come in between.
        let proven_until = self.proof_end(want.user, identity.proof(), now).map_err(|cause| NotAdmitted {
            refusal: Refusal::BadCredentials,
            why: cause.sentence().to_owned(),
        })?;
        let choice = self.choose(&want, now, sessions, |_| true);
        let choice = choice.map_err(|nearest| not_granted(describe(nearest, &want)))?;
        let proof = (want.user, identity.proof(), proven_until);
        let database = want.database;
        Ok(admission(choice, proof, claim, database, claim.peer, touch.clone()))
    }

    /// Looks at a live session again, after a change or when time passed.
    ///
    /// Its user and its proof come first: without them nothing moves. Then its grant, as at the
    /// door but without the count of sessions, for it has its place. Where the grant does not fit any
    /// more, the session moves to another that admits the same at the same level, that has a free
    /// place, and that was open already when this one ended: a gap in time is an end.
    pub fn recheck(&self, admission: &Admission, now: Time, sessions: &dyn Fn(GrantId) -> u32) -> Standing {
        let Some(user) = self.user(admission.user.as_str()) else {
            return Standing::Ended(EndCause::UserRemoved);
        };
        let proven_until = match self.proof_end(user, &admission.proof, now) {
            Ok(end) => end,
            Err(cause) => return Standing::Ended(cause),
        };
        let want = Want {
            user,
            target_name: admission.target.as_str(),
            target: self.target(admission.target.as_str()),
            level: Some(&admission.level),
            // The one that it is in, even where the target's default one has changed since.
            database: admission.database.as_deref(),
            peer: Some(admission.peer),
            touch: admission.touch.as_deref(),
        };
        let (cause, ended_at) = match self.grant(admission.grant) {
            Some(grant) => match misfit(grant, &want, now) {
                None => return Standing::Open { until: grant.window.end.min(proven_until) },
                Some(misfit) => (misfit.cause(), closed_at(grant)),
            },
            // It ended so long ago that it is not in the snapshot any more, or it was deleted.
            None if admission.until <= now => (EndCause::Expired, admission.until),
            None => (EndCause::Revoked, now),
        };
        let since = ended_at.min(now);
        let follows = |grant: &Grant| grant.window.start <= since;
        match self.choose(&want, now, sessions, follows) {
            Ok(choice) => {
                let database = admission.database.as_deref();
                let proof = (user, &admission.proof, proven_until);
                let touch = admission.touch.clone();
                let moved = self::admission(choice, proof, &admission.claim, database, admission.peer, touch);
                Standing::Moved(Box::new(moved))
            }
            Err(_) => Standing::Ended(cause),
        }
    }

    /// What would be said to whoever asks for this, without a proof of who they are: for the operator
    /// only. The same code decides as in [`Book::admit`].
    pub fn explain(&self, asked: &Asked<'_>, now: Time, sessions: &dyn Fn(GrantId) -> u32) -> Explanation {
        let want = match self.want(asked) {
            Ok(want) => want,
            Err(why) => return Explanation { grant: None, until: None, why, considered: Vec::new() },
        };
        let choice = self.choose(&want, now, sessions, |_| true);
        let chosen = choice.as_ref().ok().map(|choice| choice.grant);
        let mut considered: Vec<_> = self
            .given(want.user, want.target_name)
            .map(|grant| {
                let verdict = match hindrance(grant, &want, now, sessions) {
                    Some(misfit) => misfit.to_string(),
                    None => open_verdict(grant, &want, chosen),
                };
                (grant.id, grant.name.clone(), verdict)
            })
            .collect();
        considered.sort_by_key(|(id, ..)| *id);
        let why = match choice {
            Ok(choice) => format!("{} lets them in until {}", label(choice.grant), choice.grant.window.end),
            Err(nearest) => describe(nearest, &want),
        };
        Explanation {
            grant: chosen.map(|grant| grant.id),
            until: chosen.map(|grant| grant.window.end),
            why,
            considered,
        }
    }

    /// Open grants and credentials whose end is not after `now`: their end is to be stored.
    pub fn due(&self, now: Time) -> (Vec<GrantId>, Vec<CredentialId>) {
        let grants = self.snapshot.grants.iter();
        let grants = grants.filter(|grant| grant.ended.is_none() && grant.window.end <= now);
        let credentials = self.snapshot.credentials.iter();
        let credentials =
            credentials.filter(|credential| credential.ended.is_none() && credential.window.end <= now);
        (grants.map(|grant| grant.id).collect(), credentials.map(|credential| credential.id).collect())
    }

    /// Looks up what is asked for. An error says what is not there.
    fn want<'a>(&'a self, asked: &Asked<'a>) -> Result<Want<'a>, String> {
        let user = self.user(asked.user).ok_or_else(|| format!("there is no user {:?}", asked.user))?;
        let target = self.target(asked.target);
        let default = target.and_then(|target| target.database.as_deref());
        Ok(Want {
            user,
            target_name: asked.target,
            target,
            level: asked.level,
            database: asked.database.or(default),
            peer: asked.peer,
            touch: asked.touch,
        })
    }

    /// All grants of a user for a target: their own and their groups', open or not.
    fn given<'a>(&'a self, user: &'a User, target: &'a str) -> impl Iterator<Item = &'a Grant> {
        let own = self.given_to_user.get(&user.name);
        let groups = user.groups.iter().filter_map(|group| self.given_to_group.get(group));
        own.into_iter()
            .chain(groups)
            .filter_map(move |by_target| by_target.get(target))
            .flatten()
            .map(|place| &self.snapshot.grants[*place])
    }

    /// The lowest level wins, then the latest end, then the id. An error is the grant that came
    /// nearest, with what it lacks; `None` where there is no grant at all.
    fn choose<'a>(
        &'a self,
        want: &Want<'a>,
        now: Time,
        sessions: &dyn Fn(GrantId) -> u32,
        eligible: impl Fn(&Grant) -> bool,
    ) -> Result<Choice<'a>, Option<(&'a Grant, Misfit<'a>)>> {
        let mut open = Vec::new();
        let mut nearest: Option<(&Grant, Misfit<'_>)> = None;
        for grant in self.given(want.user, want.target_name).filter(|grant| eligible(grant)) {
            match hindrance(grant, want, now, sessions) {
                None => open.push(grant),
                Some(misfit) => {
                    let key =
                        |grant: &Grant, misfit: &Misfit<'_>| (misfit.rank(), closed_at(grant), grant.id);
                    if nearest.as_ref().is_none_or(|(other, known)| key(grant, &misfit) > key(other, known)) {
                        nearest = Some((grant, misfit));
                    }
                }
            }
        }
        open.sort_by_key(|grant| (&grant.level, Reverse(grant.window.end), grant.id));
        let mut open = open.into_iter();
        match open.next() {
            Some(grant) => Ok(Choice { grant, others: open.collect() }),
            None => Err(nearest),
        }
    }

    /// Until when a proof holds, if it holds now; otherwise what a session of it is told.
    fn proof_end(&self, user: &User, proof: &Proof, now: Time) -> Result<Time, EndCause> {
        match proof {
            Proof::Credential(id) => Ok(self.live_credential(user, *id, now)?.window.end),
            Proof::Certificate(certificate) if certificate.window.contains(now) => Ok(certificate.window.end),
            Proof::Certificate(_) => Err(EndCause::CredentialEnded),
        }
    }

    /// The credential, if it is this user's and live; otherwise what a session of it is told.
    fn live_credential(&self, user: &User, id: CredentialId, now: Time) -> Result<&Credential, EndCause> {
        let credential = self.credentials.get(&id).map(|place| &self.snapshot.credentials[*place]);
        let credential = credential.filter(|credential| credential.user == user.name);
        let credential = credential.ok_or(EndCause::CredentialEnded)?;
        match &credential.ended {
            // The user was removed, and somebody of the same name has been added since.
            Some(ended) if ended.cause == EndCause::UserRemoved => Err(EndCause::UserRemoved),
            None if credential.window.contains(now) => Ok(credential),
            _ => Err(EndCause::CredentialEnded),
        }
    }
}

fn index<T, K: Hash + Eq>(list: &[T], key: impl Fn(&T) -> K) -> HashMap<K, usize> {
    list.iter().enumerate().map(|(place, item)| (key(item), place)).collect()
}

/// Why a grant does not let one more session in.
fn hindrance<'a>(
    grant: &'a Grant,
    want: &Want<'a>,
    now: Time,
    sessions: &dyn Fn(GrantId) -> u32,
) -> Option<Misfit<'a>> {
    misfit(grant, want, now).or_else(|| used_up(grant, sessions))
}

/// When a grant ends or ended.
fn closed_at(grant: &Grant) -> Time {
    grant.ended.as_ref().map_or(grant.window.end, |ended| ended.at.min(grant.window.end))
}

fn admission(
    choice: Choice<'_>,
    (user, proof, proven_until): (&User, &Proof, Time),
    claim: &Claim,
    database: Option<&str>,
    peer: std::net::IpAddr,
    touch: Option<Arc<Touch>>,
) -> Admission {
    let Choice { grant, others } = choice;
    Admission {
        user: user.name.clone(),
        proof: proof.clone(),
        target: grant.target.clone(),
        level: grant.level.clone(),
        grant: grant.id,
        database: database.map(str::to_owned),
        scope: Scope::new(&grant.databases, database),
        peer,
        claim: claim.clone(),
        touch,
        until: grant.window.end.min(proven_until),
        others: others.iter().map(|grant| (grant.level.clone(), grant.window.end)).collect(),
    }
}

/// A grant as an operator knows it.
fn label(grant: &Grant) -> String {
    match &grant.name {
        Some(name) => format!("grant {name} ({})", grant.id),
        None => format!("grant {}", grant.id),
    }
}

/// Why nobody gets in, by the grant that came nearest.
fn describe(nearest: Option<(&Grant, Misfit<'_>)>, want: &Want<'_>) -> String {
    let (user, target) = (&want.user.name, want.target_name);
    match nearest {
        Some((_, Misfit::NoTarget)) => format!("there is no target {target:?}"),
        Some((grant, misfit)) => format!("{} {misfit}", label(grant)),
        None if want.target.is_none() => format!("there is no target {target:?}"),
        None => format!("{user} has no grant for the target {target}"),
    }
}

fn open_verdict(grant: &Grant, want: &Want<'_>, chosen: Option<&Grant>) -> String {
    let mut verdict = if chosen.is_some_and(|chosen| chosen.id == grant.id) {
        format!("lets them in until {}", grant.window.end)
    } else {
        format!("is open too, level {}, until {}", grant.level, grant.window.end)
    };
    if want.peer.is_none() && !grant.cidrs.is_empty() {
        let from: Vec<String> = grant.cidrs.iter().map(ToString::to_string).collect();
        verdict.push_str(&format!(", from {} only", from.join(", ")));
    }
    verdict
}
