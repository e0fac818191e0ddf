//! The node itself: its state, reload, backup.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};

use crate::admin::Admin;
use crate::admin::answer::{Body, Problem};
use crate::admin::body::{self, BackupRequest, Done, Reloaded, Status, TrailStatus};
use crate::admin::public::unhealthy;
use crate::model::Actor;

pub(super) async fn status(State(admin): State<Arc<Admin>>) -> Json<Status> {
    let (node, trail) = (admin.node.status(), admin.trail.status());
    let book = admin.ledger.book();
    let snapshot = book.snapshot();
    let now = admin.ledger.now();
    let is_open = |grant: &&crate::model::Grant| {
        body::State::of(&grant.window, grant.ended.as_ref(), now) == body::State::Open
    };
    let mut problems = unhealthy(&admin);
    match admin.ledger.unstored() {
        0 => {}
        count => problems.push(format!(
            "{count} revocations (or the like) are in force but not stored: a restart would undo them; see the log"
        )),
    }
    Json(Status {
        version: node.version,
        started_at: node.started_at,
        now,
        sessions: admin.registry.list().len(),
        draining: admin.node.draining(),
        trail: TrailStatus {
            directory: admin.audit_directory.clone(),
            failed: trail.failed,
            lines: trail.lines,
            backlog_bytes: trail.backlog_bytes,
            dropped: trail.dropped,
        },
        listeners: node.listeners,
        targets: snapshot.targets.len(),
        users: snapshot.users.len(),
        grants_open: snapshot.grants.iter().filter(is_open).count(),
        problems,
    })
}

pub(super) async fn reload(
    State(admin): State<Arc<Admin>>,
    Extension(actor): Extension<Actor>,
) -> Result<Json<Reloaded>, Problem> {
    admin.note(&actor, "node.reload", "node".to_owned(), None)?;
    let task = {
        let admin = Arc::clone(&admin);
        tokio::spawn(async move { admin.node.reload().await })
    };
    let done = task.await.map_err(|_| Problem::internal("the reload was interrupted; look at the log"))?;
    let changed =
        done.map_err(|why| Problem::refused(why).hint("nothing changed: the node goes on as it was"))?;
    Ok(Json(Reloaded { changed }))
}

pub(super) async fn backup(
    State(admin): State<Arc<Admin>>,
    Extension(actor): Extension<Actor>,
    Body(request): Body<BackupRequest>,
) -> Result<Json<Done>, Problem> {
    if !request.file.is_absolute() {
        return Err(Problem::request("the backup's file must be an absolute path"));
    }
    let file = request.file.display().to_string();
    admin.note(&actor, "store.backup", file.clone(), None)?;
    admin.ledger.store().backup(&request.file).await?;
    Ok(Json(Done { done: format!("the store is copied to {file}") }))
}
