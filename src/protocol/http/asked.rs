//! What one request asks for: names, and places where wildcards stand, which are filled with names before it is sent;
//! and how much of the answer is for who asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::value::RawValue;

use super::api::Part;
use super::expression::{self, Expand, Expression, Outcome};
use super::ids::{Gives, IdAt, IdKind, Ids, raw_members};
use super::resolve::Catalog;
use super::routes::{ALIASES, OLD_ALIASES};
use super::{Actions, Counts, Path, Wrong, actions, esql, ids, names, tasks};
use crate::grant::Scope;
use crate::model::{AccessLevel, GrantId, Reach, Touch, Wildcards, limits};

/// A request that was read.
#[derive(Debug)]
pub struct Asked {
    pub(super) level: AccessLevel,
    /// What is named, and what no name says.
    pub(super) reach: Reach,
    pub(super) places: Vec<Place>,
    /// What stands in them, each once: a dashboard asks for the same many times.
    pub(super) expressions: BTreeSet<Arc<Expression>>,
    /// Sealed ids of what was begun before.
    pub(super) ids: Vec<Ids>,
    /// What the answer may hold the id of.
    pub(super) gives: Option<Gives>,
    /// The request closes what the ids are of.
    pub(super) closes: bool,
    /// See [`Asked::tasks`].
    pub(super) tasks: Option<&'static str>,
    /// Its ids are of tasks.
    pub(super) is_of_task: bool,
    /// It changes what goes on in the task that its id is of.
    pub(super) is_order: bool,
    /// What is said in the request that is sent, whatever the client says of that.
    pub(super) parameters: Vec<(&'static str, String)>,
    /// What the answer says of how much it is about.
    pub(super) counts: Option<Counts>,
    /// Those of a `_bulk`.
    pub(super) actions: Option<Actions>,
    /// What of the answer is shown. `None`: all of it, for the request named what it is about.
    pub(super) part: Option<Box<dyn Part>>,
    /// The body may hold logins: it is not written down.
    pub(super) is_secret: bool,
    /// Names that stand in a text of many words, or where no list of names says all, each by itself.
    pub(super) sources: BTreeSet<String>,
    /// See [`Asked::wants_indices`].
    pub(super) wants_indices: bool,
}

/// What a sealed id stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    pub grant: GrantId,
    pub kind: IdKind,
    /// What it touches; `None`: everything.
    pub names: Option<BTreeSet<String>>,
    /// As the target gave it.
    pub raw: String,
    /// Of a task: what its request was marked with, which another task that comes to the same id is not.
    pub mark: Option<String>,
}

/// What each expression of a request comes to.
type Outcomes<'a> = BTreeMap<&'a Expression, Outcome>;

/// Where an expression with wildcards stands.
#[derive(Debug)]
pub(super) struct Place {
    pub at: At,
    pub expression: Arc<Expression>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum At {
    /// A segment of the path.
    Segment(usize),
    /// There is no such segment yet: nothing was named.
    Missing(usize),
    /// The head of a search in a body of many, by the number of its line.
    Line(usize),
    /// A part of the text that the body's `query` is, from one byte to another.
    Text(usize, usize),
}

/// What a request with wildcards comes to.
#[derive(Debug, PartialEq, Eq)]
pub struct Narrowed {
    pub touch: Touch,
    filled: BTreeMap<At, Arc<Vec<String>>>,
}

impl Asked {
    pub(super) fn new(level: AccessLevel) -> Self {
        Self {
            level,
            reach: Reach::nothing(),
            places: Vec::new(),
            expressions: BTreeSet::new(),
            ids: Vec::new(),
            gives: None,
            closes: false,
            tasks: None,
            is_of_task: false,
            is_order: false,
            parameters: Vec::new(),
            counts: None,
            actions: None,
            part: None,
            is_secret: false,
            sources: BTreeSet::new(),
            wants_indices: false,
        }
    }

    pub(super) fn place(&mut self, at: At, expression: Option<Expression>) -> Result<(), Wrong> {
        let Some(expression) = expression else { return Ok(()) };
        if self.places.len() >= limits::HTTP_SEARCHES_MAX {
            return Err(Wrong::Bad("the body has too many searches with wildcards"));
        }
        let expression = match self.expressions.get(&expression) {
            Some(known) => known.clone(),
            None => {
                let expression = Arc::new(expression);
                self.expressions.insert(expression.clone());
                let wildness: usize = self.expressions.iter().map(|known| known.wildness()).sum();
                if wildness > limits::HTTP_WILDCARDS_MAX {
                    return Err(expression::MANY);
                }
                expression
            }
        };
        self.places.push(Place { at, expression });
        Ok(())
    }

    /// What it is about is said otherwise.
    pub(super) fn forget_places(&mut self) {
        self.places.clear();
        self.expressions.clear();
    }

    /// As it was said: a wildcard may stand for anything.
    pub fn touch(&self) -> Touch {
        let mut reach = self.reach.clone();
        if let Some(place) = self.places.first() {
            reach.everything(match place.at {
                At::Missing(_) => "a request that names no index",
                At::Segment(_) | At::Line(_) | At::Text(..) => "a wildcard",
            });
        }
        Touch::new(self.level.clone(), reach)
    }

    /// What is named, whatever the wildcards stand for.
    pub fn named(&self) -> Touch {
        Touch::new(self.level.clone(), self.reach.clone())
    }

    /// The sealed ids in it, in the order in which [`Asked::with_ids`] takes what they stand for.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.ids.iter().flat_map(|ids| &ids.sealed).map(String::as_str)
    }

    pub fn gives(&self) -> Option<Gives> {
        self.gives
    }

    /// Whether it closes what its ids are of.
    pub fn closes(&self) -> bool {
        self.closes
    }

    /// The actions of the tasks as which the target goes on with this when its connection is closed. `None`: it stops
    /// by itself, or cannot be stopped.
    pub fn tasks(&self) -> Option<&'static str> {
        self.tasks
    }

    /// The target that is sent: with what the proxy says in it.
    pub fn with_parameters(&self, mut path: Path) -> Path {
        for (name, value) in &self.parameters {
            match path.query.iter_mut().find(|(known, _)| known == name) {
                Some((_, said)) => said.clone_from(value),
                None => path.query.push(((*name).to_owned(), value.clone())),
            }
        }
        path
    }

    pub fn counts(&self) -> Option<Counts> {
        self.counts
    }

    /// The actions of a `_bulk` that was read whole.
    pub fn take_actions(&mut self) -> Option<Actions> {
        self.actions.take()
    }

    /// What of the answer is shown. `None`: all of it. `opened`: what its ids stand for.
    pub fn take_part(&mut self, opened: &[Opened]) -> Option<Box<dyn Part>> {
        let Some(task) = self.task(opened) else { return self.part.take() };
        let sealed = self.ids().next()?.to_owned();
        Some(Box::new(tasks::Shown { task, sealed }))
    }

    /// The task that it asks for. `None`: it is about none.
    fn task(&self, opened: &[Opened]) -> Option<tasks::Task> {
        let ([one], true) = (opened, self.is_of_task) else { return None };
        Some(tasks::Task { id: one.raw.clone(), mark: one.mark.clone()? })
    }

    /// The task that it gives an order to, which must be the one that is meant still when that is sent.
    pub fn ordered(&self, opened: &[Opened]) -> Option<tasks::Task> {
        self.task(opened).filter(|_| self.is_order)
    }

    /// Whether the body may hold logins, and is not written down.
    pub fn is_secret(&self) -> bool {
        self.is_secret
    }

    /// Whether each name must be of an index, an alias or a data stream: what else could be called so reads further.
    pub fn wants_indices(&self) -> bool {
        self.wants_indices
    }

    /// What it touches with what its ids stand for: under the grant under which all of that was begun.
    pub fn touch_of(&self, opened: &[Opened]) -> Result<Touch, Wrong> {
        let mut touch = self.touch();
        if self.is_of_task && opened.len() != 1 {
            return Err(Wrong::Bad("one task at a time"));
        }
        for one in opened {
            if self.is_of_task != (one.kind == IdKind::Task) {
                return Err(Wrong::Denied("an id is of something else than what is asked for"));
            }
            match &one.names {
                Some(names) => names.iter().for_each(|name| touch.reach.add(name)),
                None => touch.reach.everything("what was begun under a grant for everything"),
            }
            if touch.grant.is_some_and(|grant| grant != one.grant) {
                return Err(Wrong::Bad("the ids were given under several grants"));
            }
            touch.grant = Some(one.grant);
        }
        Ok(touch)
    }

    /// The target and the body that are sent: with what the ids stand for. `None` for the body: as it came.
    pub fn with_ids(
        &self,
        path: &Path,
        body: &[u8],
        opened: &[Opened],
    ) -> Result<(Path, Option<Vec<u8>>), Wrong> {
        const WRONG: Wrong = Wrong::Bad("the ids of the request cannot be read");
        let (mut path, mut sent) = (path.clone(), None::<Vec<u8>>);
        let mut opened = opened.iter().map(|one| one.raw.as_str());
        for ids in &self.ids {
            let raw: Vec<&str> = opened.by_ref().take(ids.sealed.len()).collect();
            if raw.len() != ids.sealed.len() {
                return Err(WRONG);
            }
            match ids.at {
                IdAt::Segment(place) => *path.segments.get_mut(place).ok_or(WRONG)? = raw.join(","),
                IdAt::Query(place) => path.query.get_mut(place).ok_or(WRONG)?.1 = raw.join(","),
                IdAt::Body(_) => {
                    sent = Some(ids::put(sent.as_deref().unwrap_or(body), ids, &raw).ok_or(WRONG)?)
                }
            }
        }
        Ok((path, sent))
    }

    pub fn has_wildcards(&self) -> bool {
        !self.places.is_empty()
    }

    /// Whether it may be about indices, so that their aliases matter to who may do everything.
    pub fn may_name(&self, path: &Path, body: &[u8]) -> bool {
        match &self.reach {
            Reach::Names(names) => !names.is_empty() || self.has_wildcards(),
            Reach::Everything(_) => {
                !body.is_empty()
                    || !self.sources.is_empty()
                    || path.segments.first().is_some_and(|first| !first.starts_with('_'))
            }
        }
    }

    /// Whether it reaches the cluster's own accounts by another name, for who may do everything. Where no list of names
    /// says what it touches, no text in it may be such a name.
    pub fn leads_to_accounts(&self, catalog: &Catalog, path: &Path, body: &[u8]) -> bool {
        if !catalog.has_accounts() {
            return false;
        }
        // A name may stand in a text of more words, such as a query in a language.
        let ends = |c: char| c.is_whitespace() || matches!(c, ',' | '|' | '(' | ')' | '=' | '"' | '\'');
        let veils = |text: &str| {
            let mut parts = text.split(ends).map(|part| part.trim_start_matches('-'));
            parts.any(|part| {
                let stands_for = |part: &str| catalog.accounts(part, Expand::EVERY).next().is_some();
                !names::is_all(part) && (catalog.is_veil(part) || part.contains('*') && stands_for(part))
            })
        };
        let named = match &self.reach {
            Reach::Names(names) => names.iter().any(|name| catalog.is_veil(name)),
            Reach::Everything(_) => {
                path.segments.iter().any(|segment| veils(segment)) || actions::texts(body, &veils)
            }
        };
        let said = self.sources.iter().any(|name| catalog.is_veil(name));
        named || said || self.expressions.iter().any(|expression| expression.leads_to_accounts(catalog))
    }

    /// The wildcards, as they were said.
    pub fn wildcards(&self) -> BTreeSet<String> {
        self.expressions.iter().flat_map(|expression| expression.wildcards()).map(str::to_owned).collect()
    }

    /// What is sent for the wildcards, under the scope that covers most of what they stand for; of several the first.
    /// `None`: none of the scopes does. An error: it is more than what is looked up for one request.
    pub fn narrowed(
        &self,
        catalog: &Catalog,
        wildcards: Wildcards,
        scopes: &[Scope],
    ) -> Result<Option<Narrowed>, Wrong> {
        let mut best: Option<(usize, Outcomes<'_>)> = None;
        for scope in scopes {
            let outcomes = self.under(catalog, scope)?;
            if wildcards == Wildcards::Resolve && outcomes.values().any(|outcome| outcome.partial) {
                continue;
            }
            let found = outcomes.values().map(|outcome| outcome.found).sum();
            if best.as_ref().is_none_or(|(most, _)| found > *most) {
                best = Some((found, outcomes));
            }
        }
        Ok(best.and_then(|(_, outcomes)| self.filled(outcomes)))
    }

    /// What each expression comes to under a grant for this.
    fn under(&self, catalog: &Catalog, scope: &Scope) -> Result<Outcomes<'_>, Wrong> {
        let (mut outcomes, mut names) = (Outcomes::new(), 0);
        for expression in &self.expressions {
            let outcome = expression.under(catalog, scope);
            names += outcome.sent.len();
            if names > limits::HTTP_NAMES_MAX {
                return Err(Wrong::Bad("the wildcards stand for too many indices: name fewer"));
            }
            outcomes.insert(expression, outcome);
        }
        Ok(outcomes)
    }

    fn filled(&self, outcomes: Outcomes<'_>) -> Option<Narrowed> {
        let mut touch = self.named();
        let mut names: BTreeMap<&Expression, Arc<Vec<String>>> = BTreeMap::new();
        // A list that means nothing to a URL may mean something to a language.
        let is_url = !self.places.iter().any(|place| matches!(place.at, At::Text(..)));
        for (expression, outcome) in outcomes {
            outcome.touched.iter().for_each(|name| touch.reach.add(name));
            let sent = match outcome.sent.is_empty() {
                false => outcome.sent.into_iter().collect(),
                // What only reads finds nothing; what does more is not done to nothing.
                true if self.level == AccessLevel::Read && is_url => expression.nothing(),
                true => return None,
            };
            names.insert(expression, Arc::new(sent));
        }
        let names = |place: &Place| Some((place.at, names.get(&*place.expression)?.clone()));
        Some(Narrowed { touch, filled: self.places.iter().map(names).collect::<Option<_>>()? })
    }
}

impl Narrowed {
    /// The target that is sent; the error says why it cannot be.
    pub fn path(&self, path: &Path) -> Result<Path, &'static str> {
        let mut path = path.clone();
        for (at, names) in &self.filled {
            match at {
                At::Segment(place) => {
                    if let Some(segment) = path.segments.get_mut(*place) {
                        *segment = names.join(",");
                    }
                }
                At::Missing(place) => {
                    path.segments.insert((*place).min(path.segments.len()), names.join(","));
                    if let Some(word) = path.segments.last_mut().filter(|word| *word == OLD_ALIASES) {
                        *word = ALIASES.to_owned();
                    }
                }
                At::Line(_) | At::Text(..) => {}
            }
        }
        // The line has a method and a version besides.
        match path.render().len() + "DELETE  HTTP/1.1".len() <= limits::HTTP_LINE_BYTES_MAX {
            true => Ok(path),
            false => Err("the wildcards stand for more indices than a URL can name (4 kB): name fewer"),
        }
    }

    /// The body that is sent. `None`: as it came.
    pub fn body(&self, body: &[u8]) -> Result<Option<Vec<u8>>, &'static str> {
        if self.filled.keys().any(|at| matches!(at, At::Text(..))) {
            return self.text(body).map(Some);
        }
        let Some(mut lines) = self.lines() else { return Ok(None) };
        let mut rest = body;
        while !rest.is_empty() {
            rest = lines.write(rest)?;
        }
        Ok(Some(lines.sent))
    }

    /// What writes a body of many searches, line by line. `None`: it is none of those, or goes as it came.
    pub fn lines(&self) -> Option<NarrowedLines<'_>> {
        let has_lines = self.filled.keys().any(|at| matches!(at, At::Line(_)));
        has_lines.then_some(NarrowedLines { narrowed: self, number: 0, sent: Vec::new() })
    }

    /// The body with names in the text of its query.
    fn text(&self, body: &[u8]) -> Result<Vec<u8>, &'static str> {
        const WRONG: &str = "the query cannot be written with the names that its wildcards stand for";
        let mut members = raw_members(body).ok_or(WRONG)?;
        let mut text = query(&members).ok_or(WRONG)?;
        // From behind, so that what stands ahead stays where it is.
        for (at, names) in self.filled.iter().rev() {
            let At::Text(start, end) = *at else { return Err(WRONG) };
            let names: Option<Vec<String>> = names.iter().map(|name| esql::spelt(name)).collect();
            let is_there = text.is_char_boundary(start) && text.is_char_boundary(end) && start < end;
            let names = names.filter(|names| !names.is_empty() && is_there).ok_or(WRONG)?;
            // `FROM*` is two words, and would be one with a name behind it.
            let is_glued = text[..start].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            text.replace_range(start..end, &names.join(", "));
            if is_glued {
                text.insert(start, ' ');
            }
            if text.len() > limits::HTTP_QUERY_BYTES_MAX {
                return Err("the wildcards stand for more indices than a query can name: name fewer");
            }
        }
        let text = serde_json::value::to_raw_value(&text).map_err(|_| WRONG)?;
        members.insert("query".into(), &text);
        serde_json::to_vec(&members).map_err(|_| WRONG)
    }
}

/// A body of many searches with names in the place of wildcards, as far as it is written.
#[derive(Debug)]
pub struct NarrowedLines<'a> {
    narrowed: &'a Narrowed,
    number: usize,
    pub sent: Vec<u8>,
}

impl NarrowedLines<'_> {
    /// Writes the first line of what is left of the body. What is left behind it.
    pub fn write<'b>(&mut self, rest: &'b [u8]) -> Result<&'b [u8], &'static str> {
        let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
        let (line, rest) = rest.split_at(end);
        match self.narrowed.filled.get(&At::Line(self.number)) {
            Some(names) => self.sent.extend(head(line, names).ok_or("a head of _msearch cannot be read")?),
            None => self.sent.extend_from_slice(line),
        }
        self.number += 1;
        match self.sent.len() <= limits::HTTP_BODY_BYTES_MAX {
            true => Ok(rest),
            false => Err("the wildcards stand for more indices than a body can name: name fewer"),
        }
    }
}

/// The text of a query, as its body spells it.
fn query(members: &BTreeMap<String, &RawValue>) -> Option<String> {
    serde_json::from_str(members.get("query")?.get()).ok()
}

/// A head of `_msearch` with these indices.
fn head(line: &[u8], names: &[String]) -> Option<Vec<u8>> {
    let mut members = raw_members(line)?;
    let index = serde_json::value::to_raw_value(names).ok()?;
    members.insert("index".into(), &index);
    let mut sent = serde_json::to_vec(&members).ok()?;
    sent.push(b'\n');
    Some(sent)
}

impl Expand {
    /// With what a parameter says of it.
    pub(super) fn with(self, path: &Path) -> Result<Self, Wrong> {
        path.parameter("expand_wildcards").map_or(Ok(self), |text| self.said(text))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::routes::Routed;
    use super::*;

    fn asked(line: &str, body: &str) -> Result<(Path, Asked), Wrong> {
        let (method, target) = line.split_once(' ').unwrap();
        let path = Path::parse(target).map_err(Wrong::Bad)?;
        let asked = Routed::of(method, &path)?.asked(body.as_bytes())?;
        Ok((path, asked))
    }

    /// The request as it is sent for who has this scope, if it is.
    fn sent(line: &str, body: &str, wildcards: Wildcards, scopes: &[&[&str]]) -> Option<(String, String)> {
        let (path, asked) = asked(line, body).unwrap();
        let scopes: Vec<_> = scopes.iter().map(|names| Scope::of(names)).collect();
        let narrowed = asked.narrowed(&catalog(), wildcards, &scopes).unwrap()?;
        let sent = narrowed.body(body.as_bytes()).unwrap().unwrap_or_else(|| body.as_bytes().to_vec());
        Some((narrowed.path(&path).unwrap().render(), String::from_utf8(sent).unwrap()))
    }

    fn catalog() -> Catalog {
        let aliases = br#"{"logs-1":{"aliases":{"logs-all":{},"x":{}}},"secret":{"aliases":{"x":{}}},
            "logs-2":{"aliases":{}}}"#;
        let indices =
            br#"{"indices":[{"name":"logs-1","attributes":["open"]},{"name":"logs-2","attributes":["open"]},
            {"name":"secret","attributes":["open"]},{"name":"metrics","attributes":["open"]}],
            "aliases":[],"data_streams":[]}"#;
        Catalog::of_aliases(aliases).unwrap().with_indices(indices).unwrap()
    }

    #[test]
    fn another_name_for_the_accounts_is_no_way_to_them() {
        let aliases = br#"{".security-7":{"aliases":{"people":{}}},"logs-1":{"aliases":{"logs":{}}}}"#;
        let indices =
            br#"{"indices":[{"name":".security-7","attributes":["open"]}],"aliases":[],"data_streams":[]}"#;
        let veiled = Catalog::of_aliases(aliases).unwrap().with_indices(indices).unwrap();
        let lookup = r#"{"query":{"terms":{"u":{"index":"people","id":"1","path":"p"}}}}"#;
        let wrapped = r#"{"query":{"bool":{"must":[{"wrapper":{"query":"e30="}},{"terms":{"u":{"index":"p\u0065ople"}}}]}}}"#;
        for (line, body, leads) in [
            ("GET /people/_search", "", true),
            ("GET /logs,people/_search", "", true),
            ("GET /peo*/_search", "", true),
            ("GET /*/_search", "", true),
            ("GET /_search", "", true),
            ("GET /*,-people/_search", "", false),
            ("GET /logs/_search", "", false),
            ("GET /logs-*/_search", "", false),
            ("GET /_cat/aliases", "", false),
            ("POST /logs/_search", lookup, true),
            ("POST /logs/_search", wrapped, true),
            ("POST /people/_search", r#"{"query":{"wrapper":{"query":"e30="}}}"#, true),
            ("POST /logs/_search", r#"{"query":{"wrapper":{"query":"e30="}}}"#, false),
            ("POST /_msearch", "{\"index\":\"logs\"}\n{}\n{\"index\":\"peop*\"}\n{}\n", true),
            ("POST /_bulk", "{\"index\":{\"_index\":\"people\"}}\n{}\n", true),
            ("POST /_search/template", r#"{"source":{"query":{"terms":{"a":{"index":"people"}}}}}"#, true),
            ("PUT /_cluster/settings", r#"{"persistent":{}}"#, false),
            ("GET /%3Cpeople%3E/_search", "", true),
            ("GET /%3Cpeo%7Bnow%7Bd%7D%7D%3E/_search", "", true),
            ("GET /%3Clogs-%7Bnow%2Fd%7D%3E/_search", "", false),
            ("GET /people::data/_search", "", true),
            ("POST /_reindex", r#"{"source":{"index":"*rity-*"},"dest":{"index":"logs"}}"#, true),
        ] {
            let (path, asked) = asked(line, body).unwrap();
            assert_eq!(asked.leads_to_accounts(&veiled, &path, body.as_bytes()), leads, "{line} {body}");
            assert!(!asked.leads_to_accounts(&catalog(), &path, body.as_bytes()), "{line} {body}");
            assert!(!leads || asked.may_name(&path, body.as_bytes()), "{line}");
        }
        // A long body is not in memory any more: what its actions name is known.
        for pipeline in ["", r#","pipeline":"p""#] {
            let body = format!(
                "{{\"index\":{{\"_index\":\"people\"}}}}\n{{}}\n{{\"index\":{{\"_index\":\"logs\"{pipeline}}}}}\n{{}}\n"
            );
            let (path, asked) = asked("POST /_bulk", &body).unwrap();
            assert!(asked.may_name(&path, b"") && asked.leads_to_accounts(&veiled, &path, b""), "{body}");
            // No view can be written to.
            assert!(!asked.wants_indices(), "{body}");
        }
        let (path, asked) = asked("GET /_cluster/settings", "").unwrap();
        assert!(!asked.may_name(&path, b""));
    }

    #[test]
    fn names_are_put_where_wildcards_stood() {
        let narrow = |line| sent(line, "", Wildcards::Narrow, &[&["logs-*"]]).map(|sent| sent.0);
        for (line, target) in [
            ("GET /_search?size=1", "/logs-1,logs-2/_search?size=1"),
            ("GET /_all/_search", "/logs-1,logs-2/_search"),
            ("GET /*/_count", "/logs-1,logs-2/_count"),
            ("GET /*,-logs-1/_count", "/logs-2/_count"),
            ("GET /logs-1,l*/_count", "/logs-1,logs-2/_count"),
            ("GET /sec*/_search", "/*,-*/_search"),
            ("GET /_cat/indices?v", "/_cat/indices/logs-1,logs-2?v"),
            ("GET /_cat/indices/s*", "/_cat/indices/*,-*"),
            ("GET /_cat/shards", "/_cat/shards/logs-1,logs-2"),
            ("GET /_cat/aliases", "/_cat/aliases/logs-all"),
            ("GET /_cat/aliases/x*", "/_cat/aliases/%22"),
            ("GET /_cat/aliases?help", "/_cat/aliases?help"),
            ("GET /_cat/indices?help=true", "/_cat/indices?help=true"),
            ("GET /_cat/indices?help=false", "/_cat/indices/logs-1,logs-2?help=false"),
            ("GET /_alias", "/logs-1,logs-2/_alias"),
            ("GET /_aliases?pretty=true", "/logs-1,logs-2/_alias?pretty=true"),
            ("GET /_alias/l*", "/_alias/logs-all"),
            ("GET /*/_alias/x", "/logs-1,logs-2/_alias/x"),
            ("GET /_mapping", "/logs-1,logs-2/_mapping"),
            ("GET /_settings", "/logs-1,logs-2/_settings"),
            ("GET /_stats?level=shards", "/logs-1,logs-2/_stats?level=shards"),
            ("GET /_cluster/health?level=indices", "/_cluster/health/logs-1,logs-2?level=indices"),
            ("GET /_resolve/index/*", "/_resolve/index/logs-1,logs-2"),
            ("GET /_field_caps?fields=*", "/logs-1,logs-2/_field_caps?fields=*"),
            ("POST /*/_refresh", "/logs-1,logs-2/_refresh"),
        ] {
            assert_eq!(narrow(line).as_deref(), Some(target), "{line}");
        }
        assert_eq!(narrow("POST /s*/_refresh"), None, "what changes something is not done to nothing");
        // Of several grants, the one that covers most of it.
        let two = |line| sent(line, "", Wildcards::Narrow, &[&["metrics"], &["logs-*"]]).map(|sent| sent.0);
        assert_eq!(two("GET /_search").as_deref(), Some("/logs-1,logs-2/_search"));
        assert_eq!(two("GET /m*/_search").as_deref(), Some("/metrics/_search"));
        let resolve =
            |line, scopes: &[&[&str]]| sent(line, "", Wildcards::Resolve, scopes).map(|sent| sent.0);
        assert_eq!(
            resolve("GET /logs-*/_search", &[&["m*"], &["logs-*"]]).as_deref(),
            Some("/logs-1,logs-2/_search")
        );
        assert_eq!(resolve("GET /_search", &[&["logs-*"]]), None);
        assert_eq!(
            resolve("GET /*/_search", &[&["logs-*", "metrics", "secret", "x"]]).as_deref(),
            Some("/logs-1,logs-2,metrics,secret/_search")
        );
        assert_eq!(resolve("GET /sec*/_search", &[&["logs-*"]]), None);
        assert_eq!(resolve("GET /sed*/_search", &[&["logs-*"]]), None, "alike whether there is one or not");
        assert_eq!(resolve("GET /logs-9*/_search", &[&["logs-*"]]).as_deref(), Some("/*,-*/_search"));
    }

    #[test]
    fn heads_of_many_searches_are_filled_one_by_one() {
        let body = "{\"preference\":\"x\",\"ignore_unavailable\":true}\n{\"size\":1}\n\
                    {\"index\":\"l*,-logs-1\"}\n{}\n{\"index\":[\"logs-1\",\"sec*\"]}\n{}\n{\"index\":\"logs-1\"}\n{}\n\
                    {\"index\":\"s*\"}\n{}\n";
        let (target, sent) = sent("POST /_msearch", body, Wildcards::Narrow, &[&["logs-*"]]).unwrap();
        assert_eq!(target, "/_msearch");
        assert_eq!(
            sent,
            "{\"ignore_unavailable\":true,\"index\":[\"logs-1\",\"logs-2\"],\"preference\":\"x\"}\n{\"size\":1}\n\
             {\"index\":[\"logs-2\"]}\n{}\n{\"index\":[\"logs-1\"]}\n{}\n{\"index\":\"logs-1\"}\n{}\n\
             {\"index\":[\"*\",\"-*\"]}\n{}\n"
        );
        let body = "{}\n{}\n{\"index\":\"m*\"}\n{}\n";
        let (target, sent) =
            super::tests::sent("POST /l*/_msearch", body, Wildcards::Narrow, &[&["logs-*"]]).unwrap();
        assert_eq!(
            (target.as_str(), sent.as_str()),
            ("/logs-1,logs-2/_msearch", "{}\n{}\n{\"index\":[\"*\",\"-*\"]}\n{}\n")
        );
    }

    fn opened(grant: u64, names: Option<&[&str]>, raw: &str) -> Opened {
        let names = names.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        Opened { grant: GrantId::from_u64(grant), kind: IdKind::Scroll, names, raw: raw.into(), mark: None }
    }

    /// The ids of a request, and what is sent with `raw` in their place.
    fn with_raw(line: &str, body: &str) -> Result<(Vec<String>, String, String), Wrong> {
        let (path, asked) = asked(line, body)?;
        let ids: Vec<_> = asked.ids().map(str::to_owned).collect();
        let opened: Vec<_> = ids.iter().map(|_| opened(1, Some(&["logs-1"]), "raw")).collect();
        let (sent, sent_body) = asked.with_ids(&path, body.as_bytes(), &opened)?;
        let sent_body = sent_body.unwrap_or_else(|| body.as_bytes().to_vec());
        Ok((ids, sent.render(), String::from_utf8(sent_body).unwrap()))
    }

    #[test]
    fn ids_are_found_wherever_they_stand() {
        for (line, body, ids, sent, sent_body) in [
            (
                "POST /_search/scroll",
                r#"{"scroll_id":"a"}"#,
                &["a"][..],
                "/_search/scroll",
                r#"{"scroll_id":"raw"}"#,
            ),
            ("GET /_search/scroll/a?scroll=1m", "", &["a"], "/_search/scroll/raw?scroll=1m", ""),
            ("GET /_search/scroll?scroll_id=a", "", &["a"], "/_search/scroll?scroll_id=raw", ""),
            ("DELETE /_search/scroll/a,b", "", &["a", "b"], "/_search/scroll/raw,raw", ""),
            (
                "DELETE /_search/scroll",
                r#"{"scroll_id":["a","b"]}"#,
                &["a", "b"],
                "/_search/scroll",
                r#"{"scroll_id":["raw","raw"]}"#,
            ),
            ("DELETE /_pit", r#"{"id":"a"}"#, &["a"], "/_pit", r#"{"id":"raw"}"#),
            (
                "DELETE /_search/point_in_time",
                r#"{"pit_id":["a"]}"#,
                &["a"],
                "/_search/point_in_time",
                r#"{"pit_id":["raw"]}"#,
            ),
            ("GET /_search", r#"{"pit":{"id":"a"}}"#, &["a"], "/_search", r#"{"pit":{"id":"raw"}}"#),
            ("GET /_async_search/a", "", &["a"], "/_async_search/raw", ""),
        ] {
            let found = with_raw(line, body).unwrap();
            let ids = ids.iter().map(|id| (*id).to_owned()).collect();
            assert_eq!(found, (ids, sent.to_owned(), sent_body.to_owned()), "{line} {body}");
        }
        for (line, body) in [
            ("POST /_search/scroll", ""),
            ("POST /_search/scroll", "{}"),
            ("POST /_search/scroll", r#"{"scroll_id":["a"]}"#),
            ("POST /_search/scroll", r#"{"scroll_id":"a","index":"secret"}"#),
            ("POST /_search/scroll", r#"{"scroll_id":"a","scroll_id":"b"}"#),
            ("POST /_search/scroll?scroll_id=b", r#"{"scroll_id":"a"}"#),
            ("GET /_search/scroll/a?scroll_id=b", ""),
            ("DELETE /_search/scroll/a?scroll_id=b", ""),
            ("DELETE /_search/scroll", r#"{"scroll_id":[]}"#),
            ("DELETE /_search/scroll", r#"{"scroll_id":[1]}"#),
            ("DELETE /_pit", "{}"),
            ("DELETE /_pit", r#"{"id":"a","pit_id":"b"}"#),
            ("POST /_search", r#"{"pit":"a"}"#),
            ("POST /_search", r#"{"pit":{"id":["a"]}}"#),
            ("POST /_search", r#"{"pit":{"keep_alive":"1m"}}"#),
            ("POST /_search", r#"{"pit":{"id":"a","index":"secret"}}"#),
            ("POST /_search", r#"{"pit":{"id":"a","keep_alive":"long"}}"#),
            ("POST /_search?scroll=1m", r#"{"pit":{"id":"a"}}"#),
            ("POST /secret/_search", r#"{"pit":{"id":"a"}}"#),
            ("POST /s*/_search", r#"{"pit":{"id":"a"}}"#),
            ("POST /_msearch", "{}\n{\"pit\":{\"id\":\"a\"}}\n"),
            ("POST /_async_search", r#"{"pit":{"id":"a"}}"#),
        ] {
            assert!(with_raw(line, body).is_err(), "{line} {body}");
        }
    }

    #[test]
    fn what_was_begun_goes_on_under_its_grant_for_its_names() {
        let (_, asked) = asked("POST /_search", r#"{"pit":{"id":"a"},"query":{"match_all":{}}}"#).unwrap();
        let touch = asked.touch_of(&[opened(7, Some(&["logs-1", "x"]), "raw")]).unwrap();
        assert_eq!(touch.grant, Some(GrantId::from_u64(7)));
        assert_eq!(touch.reach, Reach::Names(["logs-1".to_owned(), "x".to_owned()].into()));
        assert!(!asked.has_wildcards());
        let everything = asked.touch_of(&[opened(7, None, "raw")]).unwrap();
        assert!(matches!(everything.reach, Reach::Everything(_)));
        // What a query looks up besides is touched as well.
        let lookup = r#"{"pit":{"id":"a"},"query":{"terms":{"f":{"index":"secret","id":"1","path":"p"}}}}"#;
        let (_, asked) = super::tests::asked("POST /_search", lookup).unwrap();
        let touch = asked.touch_of(&[opened(7, Some(&["logs-1"]), "raw")]).unwrap();
        assert_eq!(touch.reach, Reach::Names(["logs-1".to_owned(), "secret".to_owned()].into()));
        let (_, asked) = super::tests::asked("DELETE /_search/scroll/a,b", "").unwrap();
        assert!(asked.closes() && asked.gives().is_none());
        assert!(asked.touch_of(&[opened(7, None, "x"), opened(8, None, "y")]).is_err());
    }

    #[test]
    fn a_url_that_would_be_too_long_is_not_sent() {
        let indices: Vec<_> = (0..300)
            .map(|n| format!("{{\"name\":\"logs-2026.11.29-{n:03}\",\"attributes\":[\"open\"]}}"))
            .collect();
        let indices = format!("{{\"indices\":[{}],\"data_streams\":[]}}", indices.join(","));
        let catalog = Catalog::default().with_indices(indices.as_bytes()).unwrap();
        let (path, asked) = asked("GET /logs-*/_search", "").unwrap();
        let narrowed =
            asked.narrowed(&catalog, Wildcards::Narrow, &[Scope::of(&["logs-*"])]).unwrap().unwrap();
        assert!(narrowed.path(&path).unwrap_err().contains("more indices than a URL can name"));
    }

    fn indices(count: usize) -> Catalog {
        let indices: Vec<_> =
            (0..count).map(|n| format!("{{\"name\":\"logs-{n:06}\",\"attributes\":[\"open\"]}}")).collect();
        let indices = format!("{{\"indices\":[{}],\"data_streams\":[]}}", indices.join(","));
        Catalog::default().with_indices(indices.as_bytes()).unwrap()
    }

    /// However little it takes to ask for it, what wildcards cost is bounded.
    #[test]
    fn wildcards_do_not_grow_without_bounds() {
        let many = |count| "{}\n{}\n".repeat(count);
        let (_, same) = asked("POST /_msearch", &many(limits::HTTP_SEARCHES_MAX)).unwrap();
        assert_eq!((same.places.len(), same.expressions.len()), (limits::HTTP_SEARCHES_MAX, 1));
        assert!(asked("POST /_msearch", &many(limits::HTTP_SEARCHES_MAX + 1)).is_err());
        let heads = |count| {
            let head = |n| format!("{{\"index\":\"logs-{n}*\"}}\n{{}}\n");
            (0..count).map(head).collect::<String>()
        };
        assert!(asked("POST /_msearch", &heads(limits::HTTP_WILDCARDS_MAX)).is_ok());
        assert!(asked("POST /_msearch", &heads(limits::HTTP_WILDCARDS_MAX + 1)).is_err());
        let pairs = |count| format!("GET /{}/_search", vec!["*,-x"; count].join(","));
        assert!(asked(&pairs(limits::HTTP_WILDCARDS_MAX / 2), "").is_ok());
        assert!(asked(&pairs(limits::HTTP_WILDCARDS_MAX / 2 + 1), "").is_err());
        let logs = [Scope::of(&["logs-*"])];
        let narrowed = |asked: &Asked, count| asked.narrowed(&indices(count), Wildcards::Narrow, &logs);
        assert!(narrowed(&same, limits::HTTP_NAMES_MAX).is_ok());
        assert!(narrowed(&same, limits::HTTP_NAMES_MAX + 1).is_err());
        let body = many(limits::HTTP_SEARCHES_MAX);
        let sent = |count| narrowed(&same, count).unwrap().unwrap().body(body.as_bytes());
        assert!(sent(50).is_ok_and(|body| body.is_some()));
        assert!(sent(500).unwrap_err().contains("more indices than a body can name"));
    }

    /// What a cluster would touch for an expression that is sent: the indices that hold the documents.
    fn touched(world: &World, expression: &str) -> BTreeSet<String> {
        let mut touched = BTreeSet::new();
        for name in expression.split(',') {
            if name == "*" {
                touched.extend(world.indices.iter().cloned());
            } else if name == "-*" {
                touched.clear();
            } else {
                assert!(!name.contains('*') && !name.starts_with('-'), "{expression}");
                touched.extend(world.behind(name));
            }
        }
        touched
    }

    /// Indices; aliases and data streams with the places of what is behind them.
    #[derive(Debug, Clone)]
    struct World {
        indices: Vec<String>,
        aliases: BTreeMap<String, (BTreeSet<usize>, bool)>,
        streams: BTreeMap<String, BTreeSet<usize>>,
    }

    impl World {
        fn behind(&self, name: &str) -> BTreeSet<String> {
            let at = |places: &BTreeSet<usize>| -> BTreeSet<String> {
                places.iter().filter_map(|place| self.indices.get(*place)).cloned().collect()
            };
            let index = self.indices.iter().filter(|index| *index == name).cloned().collect();
            match (self.aliases.get(name), self.streams.get(name)) {
                (Some((places, _)), _) => at(places),
                (None, Some(places)) => &at(places) | &BTreeSet::from([own(name)]),
                (None, None) => index,
            }
        }

        fn catalog(&self) -> Catalog {
            let mut about: BTreeMap<&str, serde_json::Map<String, serde_json::Value>> =
                self.indices.iter().map(|index| (index.as_str(), Default::default())).collect();
            for (alias, (places, filtered)) in &self.aliases {
                let rules = if *filtered { serde_json::json!({"filter": {}}) } else { serde_json::json!({}) };
                for place in places {
                    let Some(index) = self.indices.get(*place) else { continue };
                    about.get_mut(index.as_str()).unwrap().insert(alias.clone(), rules.clone());
                }
            }
            let about: BTreeMap<_, _> = about
                .into_iter()
                .map(|(index, aliases)| (index, serde_json::json!({"aliases": aliases})))
                .collect();
            let of =
                |index: usize| self.streams.iter().find(|(_, of)| of.contains(&index)).map(|(name, _)| name);
            let mut indices: Vec<_> = self.indices.iter().enumerate()
                .map(|(place, name)| serde_json::json!({"name": name, "attributes": ["open"], "data_stream": of(place)}))
                .collect();
            let mut streams = Vec::new();
            for (stream, places) in &self.streams {
                let own = own(stream);
                indices.push(
                    serde_json::json!({"name": own, "attributes": ["open", "hidden"], "data_stream": stream}),
                );
                let backing: Vec<_> =
                    places.iter().filter_map(|place| self.indices.get(*place)).chain([&own]).collect();
                streams.push(serde_json::json!({"name": stream, "backing_indices": backing}));
            }
            let resolved = serde_json::json!({"indices": indices, "aliases": [], "data_streams": streams});
            Catalog::of_aliases(&serde_json::to_vec(&about).unwrap())
                .unwrap()
                .with_indices(&serde_json::to_vec(&resolved).unwrap())
                .unwrap()
        }
    }

    /// The index that a stream makes for itself.
    fn own(stream: &str) -> String {
        format!(".ds-{stream}-000001")
    }

    fn world() -> impl Strategy<Value = World> {
        let places = || proptest::collection::btree_set(0..5usize, 1..3);
        (
            proptest::collection::btree_set("[ab]{1,3}", 1..6),
            proptest::collection::btree_map("[ab]{1,2}x", (places(), any::<bool>()), 0..4),
            proptest::collection::btree_map("[ab]{1,2}s", places(), 0..3),
        )
            .prop_map(|(indices, aliases, streams)| {
                // An index is in one stream at most.
                let mut taken = BTreeSet::new();
                let streams = streams
                    .into_iter()
                    .map(|(name, places)| {
                        (name, places.into_iter().filter(|place| taken.insert(*place)).collect())
                    })
                    .collect();
                World { indices: indices.into_iter().collect(), aliases, streams }
            })
    }

    proptest! {
        /// Whatever a cluster would touch for what is sent is granted, whatever was asked for.
        #[test]
        fn what_is_sent_touches_what_is_granted_and_no_more(
            world in world(),
            parts in proptest::collection::vec("-?[abxs*.]{1,4}", 1..4),
            patterns in proptest::collection::btree_set("\\.?[abxs*]{1,3}", 1..4),
            resolve in any::<bool>(),
            route in 0..3usize,
        ) {
            let patterns: Vec<&str> = patterns.iter().map(String::as_str).filter(|pattern| *pattern != "*").collect();
            let scope = Scope::of(&patterns);
            let expression = parts.join(",");
            let (line, body) = match route {
                0 => (format!("GET /{expression}/_search?expand_wildcards=all"), String::new()),
                1 => ("GET /_search?expand_wildcards=all".to_owned(), String::new()),
                _ => ("POST /_msearch?expand_wildcards=all".to_owned(), format!("{{\"index\":\"{expression}\"}}\n{{}}\n")),
            };
            // What is not known for parameter or grammar is refused before.
            let (line, body) = (line.replace("_msearch?expand_wildcards=all", "_msearch"), body);
            let Ok((path, asked)) = asked(&line, &body) else { return Ok(()) };
            let catalog = world.catalog();
            let mode = if resolve { Wildcards::Resolve } else { Wildcards::Narrow };
            let narrowed = asked.narrowed(&catalog, mode, std::slice::from_ref(&scope)).unwrap();
            let Some(narrowed) = narrowed else { return Ok(()) };
            // As a grant would decide on it.
            let Reach::Names(names) = catalog.resolve(&narrowed.touch).reach else { return Ok(()) };
            if !names.iter().all(|name| scope.fits(name)) {
                return Ok(());
            }
            let target = narrowed.path(&path).unwrap();
            let sent = match route {
                2 => {
                    let body = narrowed.body(body.as_bytes()).unwrap().unwrap_or_else(|| body.into_bytes());
                    let line = body.split(|b| *b == b'\n').next().unwrap();
                    let head: serde_json::Value = serde_json::from_slice(line).unwrap();
                    match &head["index"] {
                        serde_json::Value::String(text) => text.clone(),
                        list => {
                            let names = list.as_array().unwrap().iter();
                            names.map(|name| name.as_str().unwrap()).collect::<Vec<_>>().join(",")
                        }
                    }
                }
                _ => target.segments[0].clone(),
            };
            let granted = |index: &String| {
                let stream = world.streams.keys().find(|stream| own(stream) == *index);
                scope.fits(index) || stream.is_some_and(|stream| scope.fits(stream))
            };
            let touched = touched(&world, &sent);
            prop_assert!(touched.iter().all(granted), "{line} {body:?} -> {sent} touches {touched:?}", body = sent);
            // And nothing is left out that is granted and named by a single wildcard.
            if let (0, [part], Wildcards::Narrow) = (route, parts.as_slice(), mode)
                && part.contains('*')
            {
                for index in world.indices.iter().filter(|index| {
                    crate::model::pattern::matches(part, index) && scope.fits(index)
                }) {
                    prop_assert!(touched.contains(index), "{line} -> {sent} leaves out {index}");
                }
            }
        }
    }
}
