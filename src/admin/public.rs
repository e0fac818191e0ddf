//! The TCP admin address: `/metrics` and `/health`, nothing else.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::admin::Admin;
use crate::admin::body::Health;
use crate::admin::router::{nothing_here, wrong_method};

pub(super) fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/health", get(health))
        .with_state(admin)
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, admin.metrics.render()).into_response()
}

async fn health(State(admin): State<Arc<Admin>>) -> Response {
    let reasons = unhealthy(&admin);
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(Health { healthy: reasons.is_empty(), reasons })).into_response()
}

/// Why this node should get no new sessions now, a sentence each.
pub(super) fn unhealthy(admin: &Admin) -> Vec<String> {
    let mut reasons = Vec::new();
    if admin.node.draining() {
        reasons.push("draining: the node is shutting down".to_owned());
    }
    if *admin.trail.failed().borrow() {
        reasons.push("the audit trail cannot be written".to_owned());
    }
    reasons.extend(admin.node.status().problems);
    reasons
}
