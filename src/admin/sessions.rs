//! Sessions: the living ones from the registry, the others from the store's history.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};

use crate::admin::Admin;
use crate::admin::answer::{Body, Key, Params, Problem};
use crate::admin::body::{AllParams, Done, ReasonRequest, SessionView};
use crate::admin::grants::check_reason;
use crate::model::limits::SESSION_HISTORY_MAX;
use crate::model::{Actor, SessionId};
use crate::proxy::SessionInfo;
use crate::store::SessionRow;

pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    Params(params): Params<AllParams>,
) -> Result<Json<Vec<SessionView>>, Problem> {
    let mut views: Vec<_> = admin.registry.list().into_iter().map(live).collect();
    if params.all {
        let rows = admin.ledger.store().sessions(SESSION_HISTORY_MAX).await?;
        let known: std::collections::HashSet<_> = views.iter().map(|view| view.session).collect();
        views.extend(rows.into_iter().filter(|row| !known.contains(&row.session)).map(past));
    }
    views.sort_by_key(|view| view.session);
    Ok(Json(views))
}

pub(super) async fn show(State(admin): State<Arc<Admin>>, key: Key) -> Result<Json<SessionView>, Problem> {
    let id = parse(&key)?;
    if let Some(info) = admin.registry.list().into_iter().find(|info| info.session == id) {
        return Ok(Json(live(info)));
    }
    let row = admin.ledger.store().session(id).await?.ok_or_else(|| unknown(id))?;
    Ok(Json(past(row)))
}

pub(super) async fn kill(
    State(admin): State<Arc<Admin>>,
    Extension(actor): Extension<Actor>,
    key: Key,
    Body(request): Body<ReasonRequest>,
) -> Result<Json<Done>, Problem> {
    let id = parse(&key)?;
    let reason = check_reason(request.reason)?;
    if !admin.registry.list().iter().any(|info| info.session == id) {
        return Err(match admin.ledger.store().session(id).await? {
            Some(_) => Problem::refused(format!("the session {id} has ended already")),
            None => unknown(id),
        });
    }
    admin.note(&actor, "session.kill", id.to_string(), reason)?;
    match admin.registry.kill(id) {
        true => Ok(Json(Done { done: format!("the session {id} is being cut") })),
        false => Err(Problem::refused(format!("the session {id} has ended already"))),
    }
}

fn parse(key: &Key) -> Result<SessionId, Problem> {
    key.0.parse().map_err(|error: crate::model::IdError| Problem::request(error.to_string()))
}

fn unknown(id: SessionId) -> Problem {
    Problem::not_found(format!("there is no session {id}")).hint("tidegate session list --all shows them")
}

fn live(info: SessionInfo) -> SessionView {
    SessionView {
        session: info.session,
        live: true,
        user: info.user,
        target: info.target,
        level: info.level,
        grant: info.grant,
        database: info.database,
        peer: info.peer,
        protocol: info.protocol,
        started_at: info.started_at,
        until: Some(info.until),
        state: info.state,
        pinned: info.pinned,
        ended_at: None,
        code: None,
        statements: info.statements,
        bytes_up: info.bytes_up,
        bytes_down: info.bytes_down,
        upstream: info.upstream,
    }
}

fn past(row: SessionRow) -> SessionView {
    SessionView {
        session: row.session,
        live: false,
        user: row.user,
        target: row.target,
        level: row.level,
        grant: row.grant,
        database: row.database,
        peer: row.peer,
        protocol: row.protocol,
        started_at: row.started_at,
        until: None,
        // A row without an end whose session is not live is about to get one.
        state: row.how.unwrap_or_else(|| "ending".to_owned()),
        pinned: None,
        ended_at: row.ended_at,
        code: row.code,
        statements: row.statements,
        bytes_up: row.bytes_up,
        bytes_down: row.bytes_down,
        upstream: None,
    }
}
