//! Resource files: the difference shown, applied as one transaction, written back.

use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::{Extension, Json};

use crate::admin::Admin;
use crate::admin::answer::{Body, Problem};
use crate::admin::body::{ApplyAnswer, ApplyRequest, Edit};
use crate::admin::difference::{edits, imagined};
use crate::config::{self, Resources};
use crate::grant::Book;
use crate::identity::ChangeError;
use crate::model::{Actor, Change, SessionId, Snapshot, Time};

pub(super) async fn apply(
    State(admin): State<Arc<Admin>>,
    Extension(actor): Extension<Actor>,
    Body(request): Body<ApplyRequest>,
) -> Result<Json<ApplyAnswer>, Problem> {
    let now = admin.ledger.now();
    let ApplyRequest { resources, dry_run, prune } = request;
    if dry_run {
        let book = admin.ledger.book();
        let (_, shown) = plan(&admin, book.snapshot(), &resources, prune, now, &actor.to_string())
            .map_err(|why| Problem::from(ChangeError::Refused(why)))?;
        return Ok(Json(ApplyAnswer { changes: shown.edits, cut: shown.cut, applied: false }));
    }
    // The difference is taken again from the state that it is applied to.
    let shown = Arc::new(Mutex::new(Shown::default()));
    let closure = {
        let (admin, shown, by) = (Arc::clone(&admin), Arc::clone(&shown), actor.to_string());
        move |snapshot: &Snapshot| {
            let (changes, found) =
                plan(&admin, snapshot, &resources, prune, now, &by).map_err(ChangeError::Refused)?;
            *shown.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = found;
            Ok(changes)
        }
    };
    admin.change(&actor, "apply", None, closure).await?;
    let shown = std::mem::take(&mut *shown.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
    Ok(Json(ApplyAnswer { changes: shown.edits, cut: shown.cut, applied: true }))
}

#[derive(Default)]
struct Shown {
    edits: Vec<Edit>,
    cut: Vec<SessionId>,
}

fn plan(
    admin: &Admin,
    snapshot: &Snapshot,
    resources: &Resources,
    prune: bool,
    now: Time,
    by: &str,
) -> Result<(Vec<Change>, Shown), String> {
    let protocols = config::protocols();
    let asked = config::Plan { prune, at: now, by, protocols: &protocols };
    let changes = config::diff(snapshot, resources, &asked).map_err(|wrong| wrong.join("; "))?;
    let cut = match changes.is_empty() {
        true => Vec::new(),
        false => admin.registry.would_cut(&Book::new(imagined(snapshot, &changes)), admin.ledger.now()),
    };
    let shown = Shown { edits: edits(snapshot, &changes), cut };
    Ok((changes, shown))
}

pub(super) async fn export(State(admin): State<Arc<Admin>>) -> Json<Resources> {
    Json(Resources::from_snapshot(admin.ledger.book().snapshot()))
}
