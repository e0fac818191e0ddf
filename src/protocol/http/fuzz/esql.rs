//! Queries in ES|QL, for fuzzing.

use super::super::routes::Routed;
use super::{Asked, Path, check_request, world};
use crate::model::Wildcards;

fn asked(path: &Path, body: &[u8]) -> Option<Asked> {
    Routed::of("POST", path).ok()?.asked(body).ok()
}

/// A query: whatever is sent of it touches nothing that is not granted, and nothing in that is left to be looked for.
pub fn esql(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(path) = Path::parse("/_query") else { return };
    let body = serde_json::json!({"query": text}).to_string();
    check_request("POST", &path, body.as_bytes());
    let Some(first) = asked(&path, body.as_bytes()).filter(Asked::has_wildcards) else { return };
    let Some(sent) = world().decide(&first, &path, body.as_bytes(), Wildcards::Narrow) else { return };
    let again = asked(&sent.path, &sent.body);
    assert!(again.is_some_and(|again| !again.has_wildcards()), "{text}");
}
