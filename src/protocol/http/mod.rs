//! HTTP APIs where the proxy itself authorizes: Elasticsearch and OpenSearch, of which one table knows what both have,
//! and RabbitMQ's management API (`rabbit/`). What differs between them is [`Api`].
//!
//! ```text
//! request line --Path::parse--> Api::route (its table) --body, if it is read--> Asked --> Book::admit_request
//! ```
//!
//! What holds: whatever index (or vhost) a target would touch for the request that is sent on is in its [`Touch`], or
//! the touch is everything, which only a grant for everything covers. What cannot be read with certainty is refused: an
//! unknown route, parameter or member, a name twice in an object, a URL that two programs could read in two ways.
//!
//! Wildcards are not sent: they become names, by what the cluster has ([`Catalog`]) and what the grant covers
//! ([`Narrowed`]). Nor are the cluster's ids given out: they are sealed, and opened again ([`Opened`]).
//!
//! Not here, and so refused: SQL, PPL, snapshots, everything of the cluster's security and of its
//! nodes. `elastic.refused` says why, for each that is published.

mod actions;
mod api;
mod asked;
mod body;
mod bulk;
mod count;
mod dates;
mod esql;
mod expression;
#[cfg(any(test, feature = "testing"))]
pub mod fuzz;
mod head;
mod ids;
mod json;
mod names;
mod path;
mod query;
mod rabbit;
mod refusal;
mod resolve;
mod routes;
mod scan;
mod search;
mod several;
pub mod tasks;
#[cfg(test)]
mod tests;

use crate::model::Refusal;
use crate::protocol::label::Label;
use crate::protocol::{Entry, http};

pub use api::{Api, Hidden, Part, Routed, View, Viewer};
pub use asked::{Asked, Narrowed, NarrowedLines, Opened};
pub use bulk::{Actions, Bulk};
pub use count::{Counted, Counter, Counts};
pub use head::{ContentType, Credentials, Login, credentials};
pub use ids::{Gives, IdKind};
pub use path::Path;
pub use refusal::Answer;
pub use resolve::Catalog;
pub use scan::Scanner;
pub use several::Several;

/// What is known of each of these APIs.
pub const PROTOCOLS: &[Entry] =
    &[entry("elasticsearch", 9_200), entry("opensearch", 9_200), entry("rabbitmq", 15_672)];

/// The API that a protocol of [`PROTOCOLS`] is; `None`: it is another protocol.
pub fn api(protocol: &str) -> Option<&'static dyn Api> {
    match protocol {
        "elasticsearch" | "opensearch" => Some(&search::Search),
        "rabbitmq" => Some(&rabbit::Rabbit),
        _ => None,
    }
}

const fn entry(name: &'static str, port: u16) -> Entry {
    Entry {
        name,
        port,
        alpn: &[b"h2", b"http/1.1"],
        socket_name: None,
        greets: false,
        describe_parameters: http::describe_parameters,
        label_statement: http::label_statement,
    }
}

/// A request has no bound values.
fn describe_parameters(_: &crate::model::Parameters<'_>) -> Vec<serde_json::Value> {
    Vec::new()
}

/// A request is a command, which has no label: its method and path say what it does.
fn label_statement(_: &[u8], _: bool) -> Label {
    Label::default()
}

/// Why a request is not even looked at with a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// It is not what the API says that it must be, or could be read in two ways.
    Bad(&'static str),
    /// Whatever it is, nobody may do it here.
    Denied(&'static str),
}

impl From<Wrong> for Refusal {
    fn from(wrong: Wrong) -> Self {
        match wrong {
            Wrong::Bad(what) => Self::ProtocolViolation(what),
            Wrong::Denied(what) => Self::OperationDenied(what),
        }
    }
}

/// What is sent for wildcards reads as what was filled in, and is covered.
#[cfg(any(test, feature = "testing"))]
fn fuzz_narrowed(path: &Path, asked: &Asked, body: &[u8]) {
    const INDICES: &[u8] =
        br#"{"indices":[{"name":"a","attributes":["open"]},{"name":"ab","attributes":["closed"]},
        {"name":"secret","attributes":["open"]}],"data_streams":[]}"#;
    let Ok(catalog) = Catalog::default().with_indices(INDICES) else { return };
    let scope = crate::grant::Scope::of(&["a*"]);
    let narrowed = asked.narrowed(&catalog, crate::model::Wildcards::Narrow, std::slice::from_ref(&scope));
    let Ok(Some(narrowed)) = narrowed else { return };
    if asked.has_wildcards()
        && let crate::model::Reach::Names(names) = &narrowed.touch.reach
    {
        let said = asked.named().reach;
        let is_said =
            |name: &String| matches!(&said, crate::model::Reach::Names(said) if said.contains(name));
        assert!(names.iter().all(|name| is_said(name) || scope.fits(name)));
    }
    if let Ok(sent) = narrowed.path(path) {
        assert_eq!(Path::parse(&sent.render()).as_ref(), Ok(&sent));
    }
    assert!(narrowed.body(body).is_ok());
}

/// For fuzzing: nothing panics, and what is sent on reads as what was authorized.
#[cfg(any(test, feature = "testing"))]
pub fn fuzz_http(data: &[u8]) {
    let (head, body) = data.split_at(data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len()));
    let Ok(head) = std::str::from_utf8(head) else { return };
    let (method, target) = head.split_once(' ').unwrap_or(("POST", head));
    let Ok(path) = Path::parse(target) else { return };
    assert_eq!(Path::parse(&path.render()).as_ref(), Ok(&path));
    let body = body.get(1..).unwrap_or_default();
    for api in PROTOCOLS.iter().filter_map(|entry| api(entry.name)) {
        if let Some(Ok(dated)) = api.dated(method, &path, crate::model::Time::UNIX_EPOCH)
            && api.route(method, &dated).is_ok()
        {
            assert_eq!(Path::parse(&dated.render()).as_ref(), Ok(&dated));
        }
        if let Ok(asked) = api.route(method, &path).and_then(|routed| routed.asked(body)) {
            fuzz_narrowed(&path, &asked, body);
        }
    }
    let _ = credentials(target);
}
