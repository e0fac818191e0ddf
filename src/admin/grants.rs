//! Grants: created, seen, revoked, extended. What is checked here is what a person typed; that no
//! other path opens a door is the book's to know.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};

use crate::admin::Admin;
use crate::admin::answer::{Body, Key, Params, Problem};
use crate::admin::body::{self, AllParams, Done, ExtendRequest, GrantRequest, GrantView, ReasonRequest};
use crate::admin::credentials::end_after;
use crate::identity::ChangeError;
use crate::model::limits::{ACCESS_SECONDS_MAX, DATABASE_CHARS_MAX, GRANT_LIST_MAX, REASON_CHARS_MAX};
use crate::model::{Actor, Change, Databases, Ended, Grant, GrantId, Snapshot, Subject, Time, Window};
use crate::proxy::SessionInfo;

/// A start that is this little in the past is a slow request, not a mistake.
const PAST_SECONDS_MAX: i64 = 60;

pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    Params(params): Params<AllParams>,
) -> Json<Vec<GrantView>> {
    let book = admin.ledger.book();
    let (sessions, now) = (admin.registry.list(), admin.ledger.now());
    let mut views: Vec<_> = book
        .snapshot()
        .grants
        .iter()
        .map(|grant| view(grant, &sessions, now))
        .filter(|view| params.all || view.state.is_live())
        .collect();
    views.sort_by_key(|view| view.grant.id);
    Json(views)
}

pub(super) async fn show(State(admin): State<Arc<Admin>>, key: Key) -> Result<Json<GrantView>, Problem> {
    let book = admin.ledger.book();
    let now = admin.ledger.now();
    let grant = find(book.snapshot(), &key.0, now)?;
    Ok(Json(view(grant, &admin.registry.list(), now)))
}

fn view(grant: &Grant, sessions: &[SessionInfo], now: Time) -> GrantView {
    GrantView {
        grant: grant.clone(),
        state: body::State::of(&grant.window, grant.ended.as_ref(), now),
        sessions: sessions.iter().filter(|session| session.grant == grant.id).count(),
    }
}

/// By id, or by name: the live one of that name, else the one that ended last.
fn find<'a>(snapshot: &'a Snapshot, key: &str, now: Time) -> Result<&'a Grant, Problem> {
    let by_id = key.parse::<GrantId>().ok();
    let named = |grant: &&Grant| grant.name.as_ref().is_some_and(|name| name.as_str() == key);
    let live = |grant: &Grant| body::State::of(&grant.window, grant.ended.as_ref(), now).is_live();
    snapshot
        .grants
        .iter()
        .find(|grant| Some(grant.id) == by_id)
        .or_else(|| snapshot.grants.iter().filter(named).max_by_key(|grant| (live(grant), grant.id)))
        .ok_or_else(|| {
            Problem::not_found(format!("there is no grant {key:?}"))
                .hint("tidegate grant list --all shows ids and names")
        })
}

pub(super) async fn create(
    State(admin): State<Arc<Admin>>,
    Extension(actor): Extension<Actor>,
    Body(request): Body<GrantRequest>,
) -> Result<Json<GrantView>, Problem> {
    let now = admin.ledger.now();
    let grant = draft(request, now, GrantId::new(now, random()?), actor.to_string())?;
    let (created, reason) = (grant.clone(), grant.reason.clone());
    admin
        .change(&actor, "grant.create", reason, move |snapshot| {
            fits(&grant, snapshot).map_err(ChangeError::Refused)?;
            Ok(vec![Change::PutGrant { grant: Box::new(grant) }])
        })
        .await?;
    Ok(Json(view(&created, &admin.registry.list(), now)))
}

/// The grant that a request describes; checks all that can be checked without the resources.
fn draft(request: GrantRequest, now: Time, id: GrantId, created_by: String) -> Result<Grant, Problem> {
    let subject = match (request.user, request.group) {
        (Some(user), None) => Subject::User(user),
        (None, Some(group)) => Subject::Group(group),
        _ => return Err(Problem::request("a grant is given to a user or to a group: name one of the two")),
    };
    let window = window(now, request.from, request.for_seconds, request.until)?;
    if request.cidrs.len() > GRANT_LIST_MAX {
        return Err(Problem::request(format!("a grant lists at most {GRANT_LIST_MAX} networks")));
    }
    if request.sessions == Some(0) {
        return Err(Problem::request("a grant with no session at all opens nothing: allow at least 1"));
    }
    Ok(Grant {
        id,
        name: None,
        subject,
        target: request.target,
        level: request.level,
        databases: databases(request.databases)?,
        window,
        cidrs: request.cidrs,
        sessions_max: request.sessions,
        reason: check_reason(request.reason)?,
        created_at: now,
        created_by,
        ended: None,
    })
}

fn window(
    now: Time,
    from: Option<Time>,
    for_seconds: Option<u64>,
    until: Option<Time>,
) -> Result<Window, Problem> {
    let start = from.unwrap_or(floor(now));
    if start.as_second() < now.as_second() - PAST_SECONDS_MAX {
        return Err(Problem::request(format!("the grant would begin in the past, at {start}; now is {now}")));
    }
    if start.as_second() > now.as_second().saturating_add(ACCESS_SECONDS_MAX) {
        return Err(Problem::request("the grant would begin more than a year from now"));
    }
    let end = match (for_seconds, until) {
        (Some(seconds), None) => match from {
            Some(start) => end_after(start, seconds, "a grant")?,
            None => end_from_now(now, seconds, "a grant")?,
        },
        (None, Some(end)) => end,
        _ => {
            return Err(Problem::request(
                "a grant needs an end: for how long, or until when, one of the two",
            ));
        }
    };
    if end <= start {
        return Err(Problem::request(format!("the grant would end, at {end}, before it begins, at {start}")));
    }
    if end <= now {
        return Err(Problem::request(format!(
            "the grant would be over already: it ends at {end}, now is {now}"
        )));
    }
    if end.as_second() - start.as_second() > ACCESS_SECONDS_MAX {
        let days = ACCESS_SECONDS_MAX / 86_400;
        return Err(Problem::request(format!("a grant may last {days} days at most")));
    }
    Ok(Window { start, end })
}

/// Ids and the trail have the exact time; windows are whole seconds, never shorter than asked for.
pub(super) fn floor(now: Time) -> Time {
    Time::from_second(now.as_second()).unwrap_or(now)
}

fn ceiling(now: Time) -> Time {
    let below = floor(now);
    if below == now { now } else { below.checked_add(jiff::SignedDuration::from_secs(1)).unwrap_or(now) }
}

/// The end of what begins now and lasts so many seconds.
pub(super) fn end_from_now(now: Time, seconds: u64, what: &str) -> Result<Time, Problem> {
    end_after(ceiling(now), seconds, what)
}

fn databases(names: Vec<String>) -> Result<Databases, Problem> {
    if names.iter().any(|name| name == "*") {
        return match names.len() {
            1 => Ok(Databases::All),
            _ => Err(Problem::request("'*' means all databases: it stands alone")),
        };
    }
    if names.len() > GRANT_LIST_MAX {
        return Err(Problem::request(format!("a grant lists at most {GRANT_LIST_MAX} databases")));
    }
    if let Some(bad) = names.iter().find(|name| name.is_empty() || name.chars().count() > DATABASE_CHARS_MAX)
    {
        return Err(Problem::request(format!("{bad:?} is no database name")));
    }
    Ok(match names.is_empty() {
        true => Databases::Default,
        false => Databases::Listed(names.into_iter().collect::<BTreeSet<_>>()),
    })
}

/// Whether everything that the grant names is there.
fn fits(grant: &Grant, snapshot: &Snapshot) -> Result<(), String> {
    match &grant.subject {
        Subject::User(name) if !snapshot.users.iter().any(|user| user.name == *name) => {
            return Err(format!("there is no user {name}"));
        }
        Subject::Group(name) if !snapshot.users.iter().any(|user| user.groups.contains(name)) => {
            return Err(format!("there is no group {name}: no user is in it"));
        }
        _ => {}
    }
    let target = snapshot.targets.iter().find(|target| target.name == grant.target);
    let target = target.ok_or_else(|| format!("there is no target {}", grant.target))?;
    if !target.connectors.contains_key(&grant.level) {
        let levels: Vec<_> = target.connectors.keys().map(|level| level.as_str()).collect();
        return Err(format!(
            "the target {} has no level {}: it has {}",
            target.name,
            grant.level,
            levels.join(", ")
        ));
    }
    if grant.databases == Databases::Default && target.database.is_none() {
        return Err(format!(
            "the target {} has no default database: say which ones the grant covers",
            target.name
        ));
    }
    Ok(())
}

pub(super) async fn revoke(
    State(admin): State<Arc<Admin>>,
    Extension(actor): Extension<Actor>,
    key: Key,
    Body(request): Body<ReasonRequest>,
) -> Result<Json<Done>, Problem> {
    let id = find(admin.ledger.book().snapshot(), &key.0, admin.ledger.now())?.id;
    let plan = move |snapshot: &Snapshot, ended: Ended| {
        live(snapshot, id, ended.at)?;
        Ok(Change::EndGrant { id, ended })
    };
    admin.revoke(&actor, "grant.revoke", &format!("the grant {id}"), request, plan).await
}

pub(super) async fn extend(
    State(admin): State<Arc<Admin>>,
    Extension(actor): Extension<Actor>,
    key: Key,
    Body(request): Body<ExtendRequest>,
) -> Result<Json<GrantView>, Problem> {
    let now = admin.ledger.now();
    let grant = find(admin.ledger.book().snapshot(), &key.0, now)?.clone();
    let id = grant.id;
    let changes = admin
        .change(&actor, "grant.extend", None, move |snapshot| {
            let grant = live(snapshot, id, now).map_err(ChangeError::Refused)?;
            let end = extended(grant, request.for_seconds, now).map_err(ChangeError::Refused)?;
            Ok(vec![Change::ExtendGrant { id, end }])
        })
        .await?;
    let mut grant = grant;
    if let [Change::ExtendGrant { end, .. }] = changes.as_slice() {
        grant.window.end = *end;
    }
    Ok(Json(view(&grant, &admin.registry.list(), now)))
}

/// So many seconds after its present end.
fn extended(grant: &Grant, seconds: u64, now: Time) -> Result<Time, String> {
    let days = ACCESS_SECONDS_MAX / 86_400;
    let too_long = || format!("a grant may not end more than {days} days from now");
    if seconds == 0 {
        return Err("an extension needs a duration of at least a second".into());
    }
    let seconds = i64::try_from(seconds).map_err(|_| too_long())?;
    let end =
        grant.window.end.checked_add(jiff::SignedDuration::from_secs(seconds)).map_err(|_| too_long())?;
    match end.as_second() - now.as_second() > ACCESS_SECONDS_MAX {
        true => Err(too_long()),
        false => Ok(end),
    }
}

/// The grant, where it has not ended; otherwise when it did and why.
fn live(snapshot: &Snapshot, id: GrantId, now: Time) -> Result<&Grant, String> {
    let grant = snapshot.grants.iter().find(|grant| grant.id == id);
    let grant = grant.ok_or_else(|| format!("there is no grant {id}"))?;
    match &grant.ended {
        Some(ended) => Err(format!(
            "the grant {id} ended already, at {}: {}{}",
            ended.at,
            ended.cause.sentence(),
            ended.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default(),
        )),
        None if grant.window.end <= now => {
            Err(format!("the grant {id} ended already, at {}: it has expired", grant.window.end))
        }
        None => Ok(grant),
    }
}

/// Reasons are shown to people at their terminals, so they are one line of plain text.
pub(super) fn check_reason(reason: Option<String>) -> Result<Option<String>, Problem> {
    match reason {
        Some(text) if text.chars().count() > REASON_CHARS_MAX => {
            Err(Problem::request(format!("a reason has at most {REASON_CHARS_MAX} characters")))
        }
        Some(text) if text.chars().any(char::is_control) => {
            Err(Problem::request("a reason is one line of plain text"))
        }
        Some(text) if text.trim().is_empty() => Ok(None),
        other => Ok(other),
    }
}

/// Bits that tell ids of one millisecond apart.
pub(super) fn random() -> Result<u32, Problem> {
    getrandom::u32().map_err(|error| Problem::internal(format!("no random bits: {error}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::EndCause;
    use crate::model::Name;

    fn now() -> Time {
        "2026-11-22T08:00:00Z".parse().unwrap()
    }

    fn request(more: serde_json::Value) -> GrantRequest {
        let mut value = json!({"user": "alice", "target": "orders", "level": "read", "for_seconds": 120});
        for (key, field) in more.as_object().unwrap() {
            value[key] = field.clone();
        }
        serde_json::from_value(value).unwrap()
    }

    fn drafted(more: serde_json::Value) -> Result<Grant, String> {
        draft(request(more), now(), GrantId::from_u64(7), "root".into())
            .map_err(|problem| format!("{problem:?}"))
    }

    fn snapshot() -> Snapshot {
        Snapshot {
            users: serde_json::from_value(json!([{"name": "alice", "groups": ["backend"]}])).unwrap(),
            targets: serde_json::from_value(json!([{
                "name": "orders", "protocol": "postgres", "address": "127.0.0.1:1", "database": "shop",
                "connectors": {"read": {"secret": "file:a"}, "read_write": {"secret": "file:b"}},
            }]))
            .unwrap(),
            ..Default::default()
        }
    }

    #[test]
    fn a_grant_lasts_as_long_as_was_asked_for() {
        let grant = drafted(json!({})).unwrap();
        assert_eq!(grant.window.start, now());
        assert_eq!(grant.window.end, "2026-11-22T08:02:00Z".parse().unwrap());
        assert_eq!(grant.databases, Databases::Default);
        let until = json!({"for_seconds": null, "until": "2026-11-23T00:00:00Z", "databases": ["*"]});
        let grant = drafted(until).unwrap();
        assert_eq!(grant.window.end, "2026-11-23T00:00:00Z".parse().unwrap());
        assert_eq!(grant.databases, Databases::All);
    }

    #[test]
    fn windows_are_whole_seconds_and_never_shorter_than_asked_for() {
        let odd: Time = "2026-11-22T08:00:00.4Z".parse().unwrap();
        let window = window(odd, None, Some(120), None).unwrap();
        assert_eq!(window.start, now());
        assert_eq!(window.end, "2026-11-22T08:02:01Z".parse().unwrap());
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_reason() {
        let year = ACCESS_SECONDS_MAX as u64 + 1;
        for (more, expected) in [
            (json!({"group": "backend"}), "one of the two"),
            (json!({"user": null}), "one of the two"),
            (json!({"from": "2026-11-22T07:00:00Z"}), "in the past"),
            (json!({"from": "2029-11-22T07:00:00Z"}), "more than a year"),
            (json!({"until": "2026-11-23T00:00:00Z"}), "one of the two"),
            (json!({"for_seconds": null}), "one of the two"),
            (json!({"for_seconds": 0}), "at least a second"),
            (json!({"for_seconds": year}), "days at most"),
            (json!({"for_seconds": null, "until": "2026-11-22T08:00:00Z"}), "before it begins"),
            (json!({"for_seconds": null, "until": "2028-11-22T08:00:00Z"}), "days at most"),
            (json!({"databases": ["*", "shop"]}), "stands alone"),
            (json!({"databases": [""]}), "no database name"),
            (json!({"sessions": 0}), "at least 1"),
            (json!({"reason": "a\u{1b}[2J"}), "plain text"),
            (json!({"reason": "x".repeat(REASON_CHARS_MAX + 1)}), "at most"),
        ] {
            let said = drafted(more.clone()).expect_err(&more.to_string());
            assert!(said.contains(expected), "{more}: {said}");
        }
    }

    #[test]
    fn a_grant_names_only_what_is_there() {
        let check = |more| fits(&drafted(more).unwrap(), &snapshot());
        assert_eq!(check(json!({})), Ok(()));
        assert_eq!(check(json!({"user": null, "group": "backend", "level": "read_write"})), Ok(()));
        assert!(check(json!({"user": "bob"})).unwrap_err().contains("no user bob"));
        assert!(check(json!({"user": null, "group": "x"})).unwrap_err().contains("no group x"));
        assert!(check(json!({"target": "x"})).unwrap_err().contains("no target x"));
        assert!(check(json!({"level": "admin"})).unwrap_err().contains("it has read, read_write"));
        let mut without = snapshot();
        without.targets[0].database = None;
        assert!(fits(&drafted(json!({})).unwrap(), &without).unwrap_err().contains("no default database"));
        assert_eq!(fits(&drafted(json!({"databases": ["shop"]})).unwrap(), &without), Ok(()));
    }

    #[test]
    fn only_a_live_grant_is_revoked_or_extended() {
        let mut known = snapshot();
        known.grants.push(drafted(json!({})).unwrap());
        let id = known.grants[0].id;
        assert!(live(&known, id, now()).is_ok());
        assert_eq!(
            extended(&known.grants[0], 60, now()).unwrap(),
            "2026-11-22T08:03:00Z".parse::<Time>().unwrap()
        );
        assert!(extended(&known.grants[0], u64::MAX, now()).is_err());
        assert!(extended(&known.grants[0], ACCESS_SECONDS_MAX as u64, now()).is_err());
        assert!(live(&known, id, "2026-11-22T08:02:00Z".parse().unwrap()).unwrap_err().contains("expired"));
        known.grants[0].ended =
            Some(Ended { at: now(), cause: EndCause::Revoked, reason: Some("leaving".into()) });
        let said = live(&known, id, now()).unwrap_err();
        assert!(said.contains("2026-11-22T08:00:00Z") && said.contains("revoked (leaving)"), "{said}");
    }

    #[test]
    fn a_name_means_the_live_grant_of_that_name() {
        let mut known = snapshot();
        for number in [1, 2, 3] {
            let mut grant = drafted(json!({})).unwrap();
            grant.id = GrantId::from_u64(number);
            grant.name = Some(Name::parse("week").unwrap());
            grant.ended = (number != 2).then(|| Ended { at: now(), cause: EndCause::Revoked, reason: None });
            known.grants.push(grant);
        }
        assert_eq!(find(&known, "week", now()).unwrap().id, GrantId::from_u64(2));
        let third = GrantId::from_u64(3);
        assert_eq!(find(&known, &third.to_string(), now()).unwrap().id, third);
        assert!(find(&known, "other", now()).is_err());
    }
}
