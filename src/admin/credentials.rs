//! Credentials: issued once, seen without anything that checks proofs, revoked.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use jiff::SignedDuration;

use crate::admin::Admin;
use crate::admin::answer::{Body, Key, Problem};
use crate::admin::body::{self, CredentialRequest, CredentialView, Done, IssuedCredential, ReasonRequest};
use crate::admin::grants::{end_from_now, floor, random};
use crate::admin::users;
use crate::identity::ChangeError;
use crate::model::limits::{ACCESS_SECONDS_MAX, CREDENTIALS_PER_USER_MAX};
use crate::model::{Actor, Change, Credential, CredentialId, Ended, Name, Snapshot, Time, Verifiers, Window};

pub(super) async fn list(State(admin): State<Arc<Admin>>) -> Json<Vec<CredentialView>> {
    let book = admin.ledger.book();
    let now = admin.ledger.now();
    let mut views: Vec<_> = book.snapshot().credentials.iter().map(|known| view(known, now)).collect();
    views.sort_by_key(|view| view.id);
    Json(views)
}

fn view(credential: &Credential, now: Time) -> CredentialView {
    CredentialView {
        id: credential.id,
        user: credential.user.clone(),
        window: credential.window,
        state: body::State::of(&credential.window, credential.ended.as_ref(), now),
        created_by: credential.created_by.clone(),
        ended: credential.ended.clone(),
    }
}

/// The secret is in this answer and nowhere else.
pub(super) async fn issue(
    State(admin): State<Arc<Admin>>,
    Extension(actor): Extension<Actor>,
    Body(request): Body<CredentialRequest>,
) -> Result<Json<IssuedCredential>, Problem> {
    users::find(admin.ledger.book().snapshot(), &request.user)?;
    let now = admin.ledger.now();
    let end = end_from_now(now, request.for_seconds, "a credential")?;
    let window = Window { start: floor(now), end };
    let id = CredentialId::new(now, random()?);
    let (secret, verifiers) = admin
        .keys
        .issue(&request.user)
        .map_err(|error| Problem::internal(format!("no random bits for a secret: {error}")))?;
    let (user, created_by) = (request.user.clone(), actor.to_string());
    admin
        .change(&actor, "credential.issue", None, move |snapshot| {
            addition(snapshot, id, &user, window, verifiers, created_by).map_err(ChangeError::Refused)
        })
        .await?;
    let secret = secret.to_string();
    Ok(Json(IssuedCredential { id, user: request.user, until: window.end, secret }))
}

fn addition(
    snapshot: &Snapshot,
    id: CredentialId,
    user: &Name,
    window: Window,
    verifiers: Verifiers,
    created_by: String,
) -> Result<Vec<Change>, String> {
    if !snapshot.users.iter().any(|known| known.name == *user) {
        return Err(format!("there is no user {user}"));
    }
    let live = |known: &&Credential| {
        known.user == *user && body::State::of(&known.window, known.ended.as_ref(), window.start).is_live()
    };
    if snapshot.credentials.iter().filter(live).count() >= CREDENTIALS_PER_USER_MAX {
        return Err(format!(
            "{user} has {CREDENTIALS_PER_USER_MAX} live credentials, which is the most: revoke one first"
        ));
    }
    let credential = Credential { id, user: user.clone(), window, verifiers, created_by, ended: None };
    Ok(vec![Change::AddCredential { credential: Box::new(credential) }])
}

pub(super) async fn revoke(
    State(admin): State<Arc<Admin>>,
    Extension(actor): Extension<Actor>,
    key: Key,
    Body(request): Body<ReasonRequest>,
) -> Result<Json<Done>, Problem> {
    let id: CredentialId = key.0.parse().map_err(|error| Problem::request(format!("{error}")))?;
    let user = {
        let book = admin.ledger.book();
        let known = book.snapshot().credentials.iter().find(|known| known.id == id);
        known.map(|known| known.user.clone()).ok_or_else(|| {
            Problem::not_found(format!("there is no credential {id}"))
                .hint("tidegate credential list shows them")
        })?
    };
    let plan = move |snapshot: &Snapshot, ended| revocation(snapshot, id, ended);
    admin.revoke(&actor, "credential.revoke", &format!("the credential {id} of {user}"), request, plan).await
}

fn revocation(snapshot: &Snapshot, id: CredentialId, ended: Ended) -> Result<Change, String> {
    let known = snapshot.credentials.iter().find(|known| known.id == id);
    let known = known.ok_or_else(|| format!("there is no credential {id}"))?;
    match &known.ended {
        Some(before) => Err(format!("the credential {id} ended already, at {}", before.at)),
        None if known.window.end <= ended.at => {
            Err(format!("the credential {id} ended already, at {}", known.window.end))
        }
        None => Ok(Change::EndCredential { id, ended }),
    }
}

/// `start` and so many seconds; a sane maximum keeps "for ever" out.
pub(super) fn end_after(start: Time, seconds: u64, what: &str) -> Result<Time, Problem> {
    match i64::try_from(seconds) {
        Ok(seconds @ 1..=ACCESS_SECONDS_MAX) => start
            .checked_add(SignedDuration::from_secs(seconds))
            .map_err(|_| Problem::request(format!("{what} cannot end that late"))),
        Ok(0) => Err(Problem::request(format!("{what} needs a duration of at least a second"))),
        _ => Err(Problem::request(format!("{what} may last {} days at most", ACCESS_SECONDS_MAX / 86_400))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EndCause, User};

    fn now() -> Time {
        "2026-11-22T08:00:00Z".parse().unwrap()
    }

    fn verifiers() -> Verifiers {
        serde_json::from_value(serde_json::json!({
            "scram_stored_key": [1], "scram_server_key": [2], "caching_sha2": [3], "ed25519": [4],
            "parsec": [5], "check": [77, 99],
        }))
        .unwrap()
    }

    fn snapshot(credentials: usize) -> Snapshot {
        let alice = Name::parse("alice").unwrap();
        let window = Window { start: now(), end: end_after(now(), 60, "").unwrap() };
        let mut snapshot = Snapshot {
            users: vec![User { name: alice.clone(), groups: Default::default() }],
            ..Default::default()
        };
        for number in 0..credentials {
            let id = CredentialId::from_u64(number as u64);
            let mut changes = addition(&snapshot, id, &alice, window, verifiers(), "root".into()).unwrap();
            let Some(Change::AddCredential { credential }) = changes.pop() else { panic!("{changes:?}") };
            snapshot.credentials.push(*credential);
        }
        snapshot
    }

    #[test]
    fn a_user_has_a_bounded_number_of_live_credentials() {
        let alice = Name::parse("alice").unwrap();
        let mut full = snapshot(CREDENTIALS_PER_USER_MAX);
        let window = full.credentials[0].window;
        let id = CredentialId::from_u64(99);
        let add = |snapshot: &Snapshot| addition(snapshot, id, &alice, window, verifiers(), "root".into());
        assert!(add(&full).unwrap_err().contains("revoke one first"));
        full.credentials[3].ended = Some(Ended { at: now(), cause: EndCause::Revoked, reason: None });
        assert!(add(&full).is_ok());
        let bob = Name::parse("bob").unwrap();
        assert!(
            addition(&full, id, &bob, window, verifiers(), "root".into()).unwrap_err().contains("no user")
        );
    }

    #[test]
    fn a_credential_is_revoked_once() {
        let mut known = snapshot(1);
        let id = known.credentials[0].id;
        let revoked = |at, reason| Ended { at, cause: EndCause::Revoked, reason };
        let change = revocation(&known, id, revoked(now(), Some("lost".into()))).unwrap();
        let Change::EndCredential { ended, .. } = &change else { panic!("{change:?}") };
        assert_eq!((ended.cause, ended.reason.as_deref()), (EndCause::Revoked, Some("lost")));
        known.credentials[0].ended = Some(ended.clone());
        assert!(revocation(&known, id, revoked(now(), None)).unwrap_err().contains("ended already"));
        let late = end_after(now(), 61, "").unwrap();
        assert!(revocation(&snapshot(1), id, revoked(late, None)).unwrap_err().contains("ended already"));
    }

    #[test]
    fn views_show_no_verifier() {
        let text = serde_json::to_string(&view(&snapshot(1).credentials[0], now())).unwrap();
        assert!(!text.contains("77") && !text.contains("verifiers"), "{text}");
    }

    #[test]
    fn durations_are_bounded() {
        assert!(end_after(now(), 0, "it").is_err());
        assert!(end_after(now(), u64::MAX, "it").is_err());
        assert!(end_after(now(), ACCESS_SECONDS_MAX as u64 + 1, "it").is_err());
        assert_eq!(end_after(now(), 60, "it").unwrap(), "2026-11-22T08:01:00Z".parse().unwrap());
    }
}
