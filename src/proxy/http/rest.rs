//! What a client still sends of a body when its request is refused.

use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::EXPECT;
use hyper::http::request::Parts;

use crate::model::limits;

/// The body of a request.
pub(super) struct Rest {
    /// What is left of it. `None`: it has gone somewhere else.
    pub body: Option<Incoming>,
    /// It has been asked for.
    pub is_begun: bool,
}

/// Whether all of the body has come, so that there may be another request behind it. Of a longer one more is read for a
/// while behind the answer: closing a socket with bytes in it would destroy the answer. Not cancel safe: what was read
/// is lost.
pub(super) async fn skip(head: &Parts, rest: Rest) -> bool {
    let Rest { body: Some(mut body), is_begun } = rest else { return true };
    if body.is_end_stream() {
        return true;
    }
    // Who waits to be asked for it (RFC 9110, section 10.1.1) is not asked.
    if head.headers.contains_key(EXPECT) && !is_begun {
        return false;
    }
    let little = read(&mut body, limits::HTTP_SKIPPED_BYTES_MAX);
    if let Ok(Some(())) = tokio::time::timeout(limits::CUT_FLUSH, little).await {
        return true;
    }
    tokio::spawn(async move {
        let _ = tokio::time::timeout(limits::HTTP_SKIP_WAIT, read(&mut body, usize::MAX)).await;
    });
    false
}

/// Whether a body that was announced has come to its end with nothing in it: some clients (Kibana's console) announce
/// one with every request, in chunks. Not cancel safe: what was read is lost.
pub(super) async fn is_empty(head: &Parts, rest: &mut Rest) -> bool {
    // Who waits to be asked for it has something to say.
    let Some(body) = rest.body.as_mut().filter(|_| !head.headers.contains_key(EXPECT)) else { return false };
    rest.is_begun = true;
    let nothing = tokio::time::timeout(limits::HTTP_SKIP_WAIT, read(body, 0));
    let is_empty = matches!(nothing.await, Ok(Some(())));
    if is_empty {
        rest.body = None;
    }
    is_empty
}

/// `None`: it is longer, or broken.
async fn read(body: &mut Incoming, most: usize) -> Option<()> {
    let mut left = most;
    while let Some(frame) = body.frame().await {
        let length = frame.ok()?.data_ref().map_or(0, bytes::Bytes::len);
        left = left.checked_sub(length)?;
    }
    Some(())
}
