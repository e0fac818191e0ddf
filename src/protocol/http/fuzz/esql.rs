//! Queries in ES|QL: for fuzzing, and for comparing with the vendor's grammars.

use std::collections::BTreeSet;

use super::super::routes::Routed;
use super::{Asked, Path, check_request, world};
use crate::model::{Reach, Wildcards};

fn asked(path: &Path, body: &[u8]) -> Option<Asked> {
    Routed::of("POST", path).ok()?.asked(body).ok()
}

/// The names and wildcards that a query is read to have. `None`: it is refused, or only for who may read everything.
pub fn esql_names(text: &str) -> Option<BTreeSet<String>> {
    let body = serde_json::json!({"query": text}).to_string();
    let asked = asked(&Path::parse("/_query").ok()?, body.as_bytes())?;
    match asked.named().reach {
        Reach::Names(names) => Some(&names | &asked.wildcards()),
        Reach::Everything(_) => None,
    }
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
