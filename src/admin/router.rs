//! The paths of the API.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};

use crate::admin::answer::Problem;
use crate::admin::{
    Admin, apply, audit, connect, credentials, explain, grants, node, sessions, targets, users,
};
use crate::model::limits::{ADMIN_APPLY_BYTES_MAX, ADMIN_BODY_BYTES_MAX, ADMIN_REQUEST_WAIT};

/// Everything; the caller adds who is asking as an `Extension<Actor>`.
pub(super) fn api(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/v1/status", get(node::status))
        .route("/v1/reload", post(node::reload))
        .route("/v1/backup", post(node::backup))
        .route("/v1/apply", post(apply::apply).layer(DefaultBodyLimit::max(ADMIN_APPLY_BYTES_MAX)))
        .route("/v1/export", get(apply::export))
        .route("/v1/connect", get(connect::connect))
        .route("/v1/explain", post(explain::explain))
        .route("/v1/targets", get(targets::list))
        .route("/v1/targets/{name}", get(targets::show))
        .route("/v1/targets/{name}/suspend", post(targets::suspend))
        .route("/v1/targets/{name}/resume", post(targets::resume))
        .route("/v1/targets/{name}/check", post(targets::check))
        .route("/v1/users", get(users::list).post(users::add))
        .route("/v1/users/{name}", get(users::show))
        .route("/v1/users/{name}", delete(users::remove))
        .route("/v1/credentials", get(credentials::list).post(credentials::issue))
        .route("/v1/credentials/{id}/revoke", post(credentials::revoke))
        .route("/v1/grants", get(grants::list).post(grants::create))
        .route("/v1/grants/{id}", get(grants::show))
        .route("/v1/grants/{id}/revoke", post(grants::revoke))
        .route("/v1/grants/{id}/extend", post(grants::extend))
        .route("/v1/sessions", get(sessions::list))
        .route("/v1/sessions/{id}", get(sessions::show))
        .route("/v1/sessions/{id}/kill", post(sessions::kill))
        .route("/v1/audit/search", get(audit::search))
        .route("/v1/audit/tail", get(audit::tail))
        .route("/v1/audit/verify", get(audit::verify))
        .with_state(admin)
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(ADMIN_BODY_BYTES_MAX))
        .layer(middleware::from_fn(bounded))
}

/// What a peer gets that may not use the socket: the same words whatever it asks.
pub(super) fn refusing(uid: u32) -> Router {
    Router::new().fallback(move || async move {
        Problem::forbidden(format!("uid {uid} may not use this socket"))
            .hint("the node file's [admin] uids lists who may, besides root and the server's own user")
    })
}

/// An answer begins within a bound. What a dropped handler had begun to change is carried on by its
/// own task.
async fn bounded(request: Request, next: Next) -> Response {
    match tokio::time::timeout(ADMIN_REQUEST_WAIT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::timeout(format!("no answer within {} seconds", ADMIN_REQUEST_WAIT.as_secs()))
            .into_response(),
    }
}

pub(super) async fn nothing_here(request: Request) -> Problem {
    Problem::not_found(format!("there is nothing at {}", request.uri().path()))
}

pub(super) async fn wrong_method(request: Request) -> Problem {
    Problem::method(format!("{} does not take {}", request.uri().path(), request.method()))
}
