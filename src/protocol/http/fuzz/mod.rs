//! For fuzzing: a small cluster that is known whole, the decision about a request for somebody who may do everything
//! with a part of it, and what a server would make of what is sent then ([`server`], which shares no code with the
//! walkers and looks in more places). Whatever that touches is granted, or it is a finding.

mod esql;
mod languages;
mod server;

use std::sync::OnceLock;

pub use esql::esql;

use super::search::Search;
use super::{Api, Asked, Bulk, Catalog, PROTOCOLS, Path, api, credentials};
use crate::grant::Scope;
use crate::model::{Reach, Touch, Wildcards};

/// What the grant covers: the names of [`server::is_granted`].
const GRANTED: [&str; 2] = ["granted-*", "mine"];

/// `GET /_alias` and `GET /_resolve/index/*` of the cluster that [`server`] knows.
const ALIASES: &[u8] = br#"{"granted-1":{"aliases":{"granted-all":{},"granted-mixed":{}}},
    "granted-2":{"aliases":{"granted-all":{},"mine":{"filter":{"term":{"a":1}}}}},
    "secret":{"aliases":{"granted-mixed":{},"theirs":{},"granted-veiled":{"is_hidden":true}}},
    "granted-own":{"aliases":{"granted-stream":{}}}}"#;
const INDICES: &[u8] = br#"{"indices":[{"name":"granted-1","attributes":["open"]},
    {"name":"granted-2","attributes":["closed"]},{"name":"secret","attributes":["open"]},
    {"name":"other","attributes":["open"]},{"name":".hidden","attributes":["open","hidden"]},
    {"name":".ds-granted-own-000001","attributes":["open","hidden"],"data_stream":"granted-own"},
    {"name":".ds-granted-ds-000001","attributes":["open","hidden"],"data_stream":"granted-ds"},
    {"name":"put-into","attributes":["open"],"data_stream":"granted-ds"}],
    "data_streams":[{"name":"granted-own","backing_indices":[".ds-granted-own-000001"]},
    {"name":"granted-ds","backing_indices":[".ds-granted-ds-000001","put-into"]}]}"#;

struct World {
    catalog: Catalog,
    scope: Scope,
}

/// What goes on of a request that was let in.
struct Sent {
    path: Path,
    body: Vec<u8>,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let catalog = Catalog::of_aliases(ALIASES).and_then(|catalog| catalog.with_indices(INDICES));
        World { catalog: catalog.unwrap_or_default(), scope: Scope::of(&GRANTED) }
    })
}

impl World {
    fn covers(&self, touch: &Touch) -> bool {
        match &touch.reach {
            Reach::Names(names) => names.iter().all(|name| self.scope.fits(name)),
            Reach::Everything(_) => false,
        }
    }

    /// The decision as `proxy::http` makes it, and what is sent.
    fn decide(&self, asked: &Asked, path: &Path, body: &[u8], wildcards: Wildcards) -> Option<Sent> {
        // Nobody has been given an id.
        if asked.ids().next().is_some() {
            return None;
        }
        // It could be the name of something that reads further.
        if asked.wants_indices() && !self.catalog.has(&asked.named().reach) {
            return None;
        }
        let touch = asked.touch();
        if self.covers(&touch) {
            let covered = self.covers(&self.catalog.resolve(&touch));
            let path = asked.with_parameters(path.clone());
            return covered.then(|| Sent { path, body: body.to_vec() });
        }
        if !asked.has_wildcards() || !self.covers(&asked.named()) {
            return None;
        }
        let narrowed = asked.narrowed(&self.catalog, wildcards, std::slice::from_ref(&self.scope)).ok()??;
        if !self.covers(&self.catalog.resolve(&narrowed.touch)) {
            return None;
        }
        let sent = narrowed.body(body).ok()?.unwrap_or_else(|| body.to_vec());
        Some(Sent { path: asked.with_parameters(narrowed.path(path).ok()?), body: sent })
    }
}

/// Whatever is sent of this touches nothing that is not granted.
fn check_request(method: &str, path: &Path, body: &[u8]) {
    let Ok(routed) = Search.route(method, path) else { return };
    if !routed.takes_body() && !body.is_empty() {
        return;
    }
    let read = if routed.needs_body() { body } else { b"" };
    let Ok(asked) = routed.asked(read) else { return };
    for wildcards in [Wildcards::Narrow, Wildcards::Resolve] {
        let Some(sent) = world().decide(&asked, path, body, wildcards) else { continue };
        let target = Search.render(&sent.path);
        assert_eq!(Path::parse(&target).as_ref(), Ok(&sent.path), "it is read as it is sent");
        let touched = server::touched(method, &target, &sent.body);
        let strange: Vec<_> = touched.iter().filter(|name| !server::is_granted(name)).collect();
        assert!(
            strange.is_empty(),
            "{method} {target} touches {strange:?}; it was let in for {:?}",
            asked.touch()
        );
    }
}

/// A URL is read as servers read it, and written so that it is read the same again.
fn check_path(target: &str) -> Option<Path> {
    let path = Path::parse(target).ok()?;
    for (text, name) in [(target.to_owned(), "came"), (path.render(), "is sent"), (path.render_valued(), "x")]
    {
        let (segments, query) = server::split(&text);
        assert_eq!(segments, path.segments, "as it {name}");
        assert_eq!(query, path.query, "as it {name}");
        assert_eq!(Path::parse(&text).as_ref(), Ok(&path));
    }
    Some(path)
}

/// A method and a target; the routes of all APIs, and what is made of their wildcards.
pub fn route(data: &[u8]) {
    let Ok(line) = std::str::from_utf8(data) else { return };
    let (method, target) = line.split_once(' ').unwrap_or(("GET", line));
    let _ = credentials(target);
    let Some(path) = check_path(target) else { return };
    check_request(method, &path, b"");
    check_request(method, &path, b"{}");
    let Some(rabbit) = PROTOCOLS.iter().find_map(|entry| api(entry.name).filter(|api| !api.has_aliases()))
    else {
        return;
    };
    let asked = rabbit.route(method, &path).and_then(|routed| routed.asked(b""));
    if let (Ok(asked), Some(vhost)) = (asked, server::vhost(&rabbit.render(&path))) {
        let reach = asked.touch().reach;
        let named = matches!(&reach, Reach::Names(names) if names.contains(&vhost));
        assert!(named || matches!(reach, Reach::Everything(_)), "{method} {target} touches {vhost:?}");
    }
}

/// A request line, and a body of any kind behind it.
pub fn query(data: &[u8]) {
    let (line, body) = data.split_at(data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len()));
    let Ok(line) = std::str::from_utf8(line) else { return };
    let (method, target) = line.split_once(' ').unwrap_or(("POST", line));
    let Ok(path) = Path::parse(target) else { return };
    check_request(method, &path, body.get(1..).unwrap_or_default());
}

/// What is known of a `_bulk` when so much of it has come.
fn reach(bulk: &Bulk) -> Reach {
    bulk.touch().reach
}

/// A `_bulk`: the size of the pieces in which it comes (1 to 128), and above that whether the path names an index.
pub fn bulk(data: &[u8]) {
    let Some((first, body)) = data.split_first() else { return };
    let (size, named) = (usize::from(first % 128) + 1, *first >= 128);
    let target = if named { "/granted-1/_bulk" } else { "/_bulk" };
    let Ok(path) = Path::parse(target) else { return };
    check_request("POST", &path, body);
    let begin = || Search.route("POST", &path).ok().and_then(|routed| routed.bulk().ok());
    let (Some(mut whole), Some(mut cut)) = (begin(), begin()) else { return };
    let all = whole.push(body).and_then(|()| whole.finish());
    let mut came = 0;
    for piece in body.chunks(size) {
        came += piece.len();
        if cut.push(piece).is_err() {
            assert!(all.is_err(), "in pieces it is refused, and whole it is not");
            return;
        }
        // What may go on by now touches nothing that is not known.
        let known = reach(&cut);
        let read = &body[..came - cut.unread()];
        if let Reach::Names(names) = &known {
            let touched = server::bulk_names(read, if named { &["granted-1"] } else { &[] });
            let strange: Vec<_> = touched.into_iter().filter(|name| !names.contains(name)).collect();
            assert!(strange.is_empty(), "{strange:?} may go on unknown");
        }
    }
    match (all, cut.finish()) {
        (Ok(whole), Ok(cut)) => assert_eq!(whole.touch(), cut.touch()),
        (whole, cut) => assert_eq!(whole.err(), cut.err()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The attempts of the live test, which do harm at real servers: where the body or the URL is what does it, the
    /// model of a server says so too.
    #[test]
    fn the_server_that_is_imagined_is_no_kinder_than_real_ones() {
        let attempts = include_str!("../../../../tests/live/http_bypasses.txt");
        let mut lines = attempts.lines().map(|line| line.replace("logs", "granted")).peekable();
        let (mut seen, mut missed) = (0, Vec::new());
        while let Some(line) = lines.next() {
            let Some((method, target)) = line.split_once(' ').filter(|(_, target)| target.starts_with('/'))
            else {
                continue;
            };
            let mut body = String::new();
            while let Some(next) = lines.next_if(|line| line.starts_with(['{', ' '])) {
                body += &format!("{next}\n");
            }
            if !(target.contains("secret") || body.contains("secret")) {
                continue;
            }
            seen += 1;
            if server::touched(method, target, body.as_bytes()).iter().all(|name| server::is_granted(name)) {
                missed.push(format!("{method} {target} {body}"));
            }
        }
        assert!(seen > 130, "{seen}");
        assert!(missed.is_empty(), "{} of {seen}:\n{}", missed.len(), missed.join("\n"));
    }

    /// What fuzzing begins with holds by itself.
    #[test]
    fn the_corpus_holds() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        let holds = |target: &str, run: fn(&[u8])| {
            let files = std::fs::read_dir(folder.join(target)).unwrap();
            let count = files.map(|file| run(&std::fs::read(file.unwrap().path()).unwrap())).count();
            assert!(count > 10, "{target}: {count}");
        };
        holds("http_route", route);
        holds("http_query", query);
        holds("http_bulk", bulk);
        holds("esql", esql);
    }

    #[test]
    fn much_of_what_is_asked_is_let_in_and_looked_at() {
        for line in [
            "GET /_search",
            "GET /granted-*,-granted-1/_count",
            "GET /mine/_search\n{\"query\":{\"terms\":{\"u\":{\"index\":\"granted-1\",\"id\":\"1\",\"path\":\"p\"}}}}",
            "POST /_msearch\n{}\n{}\n{\"index\":[\"granted-1\",\"s*\"]}\n{}\n",
            "POST /_mget\n{\"docs\":[{\"_index\":\"granted-1\",\"_id\":\"1\"}]}",
            "POST /_aliases\n{\"actions\":[{\"add\":{\"index\":\"granted-1\",\"alias\":\"granted-new\"}}]}",
            "POST /_reindex\n{\"source\":{\"index\":\"granted-1\"},\"dest\":{\"index\":\"granted-9\"}}",
            "PUT /granted-9\n{\"aliases\":{\"granted-new\":{}},\"settings\":{\"index\":{\"number_of_shards\":1}}}",
            "GET /_cat/indices?help",
            "GET /_cat/aliases",
            "GET /granted-own/_search",
            "POST /_query\n{\"query\":\"FROM granted-*, (FROM mine) | LOOKUP JOIN granted-1 ON a\"}",
            "POST /granted-*/_eql/search\n{\"query\":\"any where true\"}",
            "DELETE /granted-1/_alias/granted-new",
        ] {
            query(line.as_bytes());
            let (head, body) = line.split_once('\n').unwrap_or((line, ""));
            let (method, target) = head.split_once(' ').unwrap();
            let path = Path::parse(target).unwrap();
            let asked = Search.route(method, &path).unwrap().asked(body.as_bytes()).unwrap();
            assert!(world().decide(&asked, &path, body.as_bytes(), Wildcards::Narrow).is_some(), "{line}");
        }
        for line in [
            "GET /granted-mixed/_search",
            "GET /granted-veiled/_search",
            "GET /granted-ds/_search",
            "GET /secret/_search",
            "POST /_query\n{\"query\":\"FROM secret\"}",
            "POST /_query\n{\"query\":\"FROM granted-1 | LOOKUP JOIN secret ON a\"}",
            "GET /granted-1/_alias/theirs,granted-1\n{}",
            "POST /_reindex\n{\"source\":{\"index\":\"secret\"},\"dest\":{\"index\":\"granted-9\"}}",
        ] {
            query(line.as_bytes());
        }
        bulk(b"\x00{\"index\":{\"_index\":\"granted-1\"}}\n{}\n");
        bulk(b"\x87{\"delete\":{}}\n{\"index\":{\"_index\":\"secret\"}}\n{}\n");
        route(b"GET /api/queues/%2F/a%2Fb");
        route(b"GET /granted-*,s%2A/_search?expand_wildcards=all");
    }
}
