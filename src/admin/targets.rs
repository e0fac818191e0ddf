//! Targets: seen, suspended, resumed, checked.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};

use crate::admin::Admin;
use crate::admin::answer::{Body, Key, Problem};
use crate::admin::body::{Done, ReasonRequest, ResumeRequest, TargetView};
use crate::admin::grants::check_reason;
use crate::identity::ChangeError;
use crate::model::{Actor, Change, Name, Target};
use crate::proxy::{LevelTrouble, SessionInfo, TargetChecks};

pub(super) async fn list(State(admin): State<Arc<Admin>>) -> Json<Vec<TargetView>> {
    let book = admin.ledger.book();
    let (sessions, troubles) = (admin.registry.list(), admin.node.status().troubles);
    let targets = book.snapshot().targets.iter();
    let mut views: Vec<_> = targets.map(|target| view(target, &sessions, &troubles)).collect();
    views.sort_by(|a, b| a.target.name.cmp(&b.target.name));
    Json(views)
}

pub(super) async fn show(State(admin): State<Arc<Admin>>, key: Key) -> Result<Json<TargetView>, Problem> {
    let name = key.name()?;
    let book = admin.ledger.book();
    let target = book.target(name.as_str()).ok_or_else(|| unknown(&name))?;
    Ok(Json(view(target, &admin.registry.list(), &admin.node.status().troubles)))
}

/// A target as administrators see it: secret references by name, nothing of their content.
fn view(target: &Target, sessions: &[SessionInfo], troubles: &[LevelTrouble]) -> TargetView {
    let mut target = target.clone();
    target.connectors.values_mut().for_each(|connector| connector.baseline = None);
    target.remembered.clear();
    let troubles = troubles.iter().filter(|trouble| trouble.target == target.name);
    let troubles = troubles.map(|trouble| (trouble.level.clone(), trouble.what.clone())).collect();
    let sessions = sessions.iter().filter(|session| session.target == target.name).count();
    TargetView { target, sessions, troubles }
}

pub(super) fn unknown(name: &Name) -> Problem {
    Problem::not_found(format!("there is no target {name}")).hint("tidegate target list shows the targets")
}

fn is_there(admin: &Admin, name: &Name) -> Result<(), Problem> {
    admin.ledger.book().target(name.as_str()).map(drop).ok_or_else(|| unknown(name))
}

pub(super) async fn suspend(
    State(admin): State<Arc<Admin>>,
    Extension(actor): Extension<Actor>,
    key: Key,
    Body(request): Body<ReasonRequest>,
) -> Result<Json<Done>, Problem> {
    let name = key.name()?;
    is_there(&admin, &name)?;
    let reason = check_reason(request.reason)?
        .ok_or_else(|| Problem::request("suspending a target needs a reason: people will ask"))?;
    let done = Done { done: format!("the target {name} is suspended; its sessions are being cut") };
    let plan = {
        let reason = reason.clone();
        move |snapshot: &crate::model::Snapshot| {
            let target = snapshot.targets.iter().find(|target| target.name == name);
            match target.map(|target| target.suspended.as_deref()) {
                None => Err(ChangeError::Refused(format!("there is no target {name}"))),
                Some(Some(why)) => {
                    Err(ChangeError::Refused(format!("the target {name} is suspended already: {why}")))
                }
                Some(None) => Ok(vec![Change::SuspendTarget { name, reason }]),
            }
        }
    };
    admin.take_away(&actor, "target.suspend", Some(reason), plan).await?;
    Ok(Json(done))
}

pub(super) async fn resume(
    State(admin): State<Arc<Admin>>,
    Extension(actor): Extension<Actor>,
    key: Key,
    Body(request): Body<ResumeRequest>,
) -> Result<Json<Done>, Problem> {
    let name = key.name()?;
    is_there(&admin, &name)?;
    let done = match &request.level {
        None => format!("the target {name} is resumed"),
        Some(level) => format!("the level {level} of {name} is resumed"),
    };
    let plan = move |snapshot: &crate::model::Snapshot| {
        let target = snapshot.targets.iter().find(|target| target.name == name);
        let target = target.ok_or_else(|| ChangeError::Refused(format!("there is no target {name}")))?;
        resumption(target, request).map(|change| vec![change]).map_err(ChangeError::Refused)
    };
    admin.change(&actor, "target.resume", None, plan).await?;
    Ok(Json(Done { done }))
}

fn resumption(target: &Target, request: ResumeRequest) -> Result<Change, String> {
    let name = target.name.clone();
    match request.level {
        None if target.suspended.is_some() => Ok(Change::ResumeTarget { name }),
        None => {
            let levels: Vec<_> = target
                .connectors
                .iter()
                .filter(|(_, connector)| connector.suspended.is_some())
                .map(|(level, _)| level.as_str())
                .collect();
            match levels.as_slice() {
                [] => Err(format!("the target {name} is not suspended")),
                levels => Err(format!(
                    "the target {name} is not suspended, but its level {} is: name it with --level",
                    levels.join(", ")
                )),
            }
        }
        Some(level) => match target.connectors.get(&level) {
            None => Err(format!("the target {name} has no level {level}")),
            Some(connector) if connector.suspended.is_none() => {
                Err(format!("the level {level} of {name} is not suspended"))
            }
            Some(_) => Ok(Change::ResumeLevel { target: name, level }),
        },
    }
}

pub(super) async fn check(
    State(admin): State<Arc<Admin>>,
    Extension(actor): Extension<Actor>,
    key: Key,
) -> Result<Json<TargetChecks>, Problem> {
    let name = key.name()?;
    is_there(&admin, &name)?;
    admin.note(&actor, "target.check", name.to_string(), None)?;
    admin.node.check_target(&name).await.map(Json).map_err(Problem::unavailable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(suspended: Option<&str>, level: Option<&str>) -> Target {
        serde_json::from_value(serde_json::json!({
            "name": "orders", "protocol": "postgres", "address": "127.0.0.1:5432", "suspended": suspended,
            "connectors": {"read": {"secret": "file:a.json", "baseline": "x", "suspended": level}},
        }))
        .unwrap()
    }

    #[test]
    fn a_view_shows_no_fingerprint() {
        let text = serde_json::to_string(&view(&target(None, None), &[], &[])).unwrap();
        assert!(text.contains("file:a.json") && !text.contains("baseline"), "{text}");
    }

    #[test]
    fn only_what_is_suspended_is_resumed() {
        let whole = || ResumeRequest::default();
        let read = || ResumeRequest { level: Some("read".parse().unwrap()) };
        assert!(resumption(&target(Some("x"), None), whole()).is_ok());
        assert!(resumption(&target(None, Some("x")), read()).is_ok());
        assert!(resumption(&target(None, None), whole()).unwrap_err().contains("not suspended"));
        assert!(resumption(&target(None, Some("x")), whole()).unwrap_err().contains("--level"));
        assert!(resumption(&target(None, None), read()).unwrap_err().contains("not suspended"));
        let admin = ResumeRequest { level: Some("admin".parse().unwrap()) };
        assert!(resumption(&target(None, None), admin).unwrap_err().contains("no level"));
    }
}
