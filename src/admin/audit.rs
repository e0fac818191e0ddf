//! The trail, read: searched, followed, verified. Files are read on threads of their own, and no
//! faster than the reader takes the lines.

use std::io;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use tokio::sync::mpsc;

use crate::admin::Admin;
use crate::admin::answer::{Params, Problem};
use crate::admin::body::{SearchParams, TailParams};
use crate::model::SessionId;
use crate::model::limits::{ADMIN_STREAM_BYTES, ADMIN_STREAM_PENDING_MAX, AUDIT_LINES_SHOWN};
use crate::observe::{self, Follower, Query, Verified};

pub(super) async fn search(
    State(admin): State<Arc<Admin>>,
    Params(params): Params<SearchParams>,
) -> Result<Response, Problem> {
    let session = params.session.as_deref().map(str::parse::<SessionId>).transpose();
    let query = Query {
        user: params.user,
        session: session.map_err(|error| Problem::request(error.to_string()))?,
        target: params.target,
        event: params.event,
        table: params.table,
        verb: params.verb,
        text: params.text,
        since: params.since,
        until: params.until,
        limit: params.limit,
        newest_first: false,
    };
    flush(&admin).await;
    let directory = admin.audit_directory.clone();
    let (sender, receiver) = mpsc::channel(ADMIN_STREAM_PENDING_MAX);
    tokio::task::spawn_blocking(move || {
        let mut batch = Vec::with_capacity(ADMIN_STREAM_BYTES);
        let found = observe::search(&directory, &query, &mut |line| {
            batch.extend_from_slice(line.as_bytes());
            batch.push(b'\n');
            if batch.len() < ADMIN_STREAM_BYTES {
                return ControlFlow::Continue(());
            }
            // Waits for the reader; fails once it is gone.
            match sender.blocking_send(Ok(Bytes::from(std::mem::take(&mut batch)))) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        });
        let rest = found.map(|_| Bytes::from(batch));
        // A reader that is gone needs nothing more.
        let _ = sender.blocking_send(rest);
    });
    Ok(lines(receiver))
}

pub(super) async fn tail(
    State(admin): State<Arc<Admin>>,
    Params(params): Params<TailParams>,
) -> Result<Response, Problem> {
    flush(&admin).await;
    let directory = admin.audit_directory.clone();
    let count = params.lines.unwrap_or(AUDIT_LINES_SHOWN);
    if !params.follow {
        let found = tokio::task::spawn_blocking(move || observe::tail(&directory, count)).await;
        let mut text = String::new();
        for line in opened(found)? {
            text += &line;
            text.push('\n');
        }
        return Ok((CONTENT_TYPE, text).into_response());
    }
    let follower = tokio::task::spawn_blocking(move || Follower::open(&directory, count)).await;
    let (sender, receiver) = mpsc::channel(ADMIN_STREAM_PENDING_MAX);
    tokio::spawn(follow(opened(follower)?, sender));
    Ok(lines(receiver))
}

/// Passes lines on until the reader is gone.
async fn follow(mut follower: Follower, sender: mpsc::Sender<io::Result<Bytes>>) {
    loop {
        let line = tokio::select! {
            () = sender.closed() => return,
            line = follower.next() => line,
        };
        let failed = line.is_err();
        if sender.send(line.map(|line| Bytes::from(line + "\n"))).await.is_err() || failed {
            return;
        }
    }
}

pub(super) async fn verify(State(admin): State<Arc<Admin>>) -> Result<Json<Verified>, Problem> {
    flush(&admin).await;
    let directory = admin.audit_directory.clone();
    let verified = tokio::task::spawn_blocking(move || observe::verify(&directory)).await;
    verified
        .map_err(|_| Problem::internal("the check was interrupted"))?
        .map(Json)
        .map_err(|broken| Problem::refused(format!("the chain of the audit trail is broken: {broken}")))
}

/// What was done a moment ago is to be found. Where the trail fails, what is in the files is still
/// worth reading.
async fn flush(admin: &Admin) {
    if let Err(error) = admin.trail.flush().await {
        tracing::warn!(%error, "the audit trail is read as far as it is written");
    }
}

fn opened<T>(found: Result<io::Result<T>, tokio::task::JoinError>) -> Result<T, Problem> {
    found
        .map_err(|_| Problem::internal("the reading was interrupted"))?
        .map_err(|error| Problem::internal(format!("the audit trail cannot be read: {error}")))
}

const CONTENT_TYPE: [(header::HeaderName, &str); 1] = [(header::CONTENT_TYPE, "application/x-ndjson")];

fn lines(receiver: mpsc::Receiver<io::Result<Bytes>>) -> Response {
    (CONTENT_TYPE, Body::new(Lines(receiver))).into_response()
}

/// A body whose pieces come as they are found. An error ends the connection in the middle of the
/// answer, so that nobody takes what came for all there is.
struct Lines(mpsc::Receiver<io::Result<Bytes>>);

impl hyper::body::Body for Lines {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}
