//! Why a login would be let in or not, from the book's own mouth.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use crate::admin::Admin;
use crate::admin::answer::{Body, Problem};
use crate::admin::body::{Considered, ExplainAnswer, ExplainRequest};
use crate::grant::Asked;

pub(super) async fn explain(
    State(admin): State<Arc<Admin>>,
    Body(request): Body<ExplainRequest>,
) -> Result<Json<ExplainAnswer>, Problem> {
    let at = request.at.unwrap_or_else(|| admin.ledger.now());
    let asked = Asked {
        user: request.user.as_str(),
        target: request.target.as_str(),
        level: request.level.as_ref(),
        database: request.database.as_deref(),
        peer: request.from,
    };
    let sessions = admin.registry.list();
    let count = |grant| {
        let live = sessions.iter().filter(|session| session.grant == grant).count();
        u32::try_from(live).unwrap_or(u32::MAX)
    };
    let book = admin.ledger.book();
    let said = book.explain(&asked, at, &count);
    let level = said.grant.and_then(|id| {
        book.snapshot().grants.iter().find(|grant| grant.id == id).map(|grant| grant.level.clone())
    });
    let considered =
        said.considered.into_iter().map(|(grant, name, verdict)| Considered { grant, name, verdict });
    Ok(Json(ExplainAnswer {
        allowed: said.grant.is_some(),
        grant: said.grant,
        level,
        until: said.until,
        why: said.why,
        considered: considered.collect(),
    }))
}
