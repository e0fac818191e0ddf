//! The table of routes, and the route of a request.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use super::asked::{Asked, At};
use super::body::{Kind, Place};
use super::expression::{self, Expand, Expression};
use super::ids::{self, Gives, IdAt, IdKind, Ids};
use super::{Bulk, Counts, Path, Several, Wrong, dates, names};
use crate::model::{AccessLevel, Time, Touch};

const TABLE: &str = include_str!("elastic.routes");
const REFUSED: &str = include_str!("elastic.refused");

/// One line of the table.
#[derive(Debug)]
pub struct Route {
    methods: Vec<&'static str>,
    segments: Vec<&'static str>,
    level: AccessLevel,
    from: From,
    body: Kind,
    parameters: BTreeSet<&'static str>,
    /// The kind of an id that the answer holds, and the member that it is.
    gives: Option<(Option<IdKind>, &'static str)>,
    /// It closes what the ids are of.
    closes: bool,
    /// What the cluster's tasks of it are called, where it goes on with it unasked.
    tasks: Option<&'static str>,
    /// What they are called where it is answered before it is done, because it was asked so.
    detached: Option<&'static str>,
    /// Its ids are of tasks.
    is_of_task: bool,
    counts: Option<Counts>,
    /// What would show where the cluster's nodes are: columns of a table, or places in an answer.
    hides: BTreeSet<&'static str>,
    /// Columns of a table that are shown to who names none; empty: those of the cluster.
    shows: Vec<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Nothing,
    Path,
    /// An expression, and what its wildcards stand for if nothing else is said.
    Several(Expand),
    Everything,
    /// What sealed ids stand for: in the path, in a parameter, in the body.
    Ids,
}

/// A request whose route is known; what its body touches may be still to be found.
#[derive(Debug)]
pub struct Routed {
    route: &'static Route,
    asked: Asked,
    /// What the path names, and a body may leave out.
    index: Option<String>,
    expand: Expand,
}

impl Routed {
    pub fn of(method: &str, path: &Path) -> Result<Self, Wrong> {
        let route = Route::of(method, path);
        let route = route.ok_or_else(|| Wrong::Denied(why_refused(method, path)))?;
        if path.query.iter().any(|(name, _)| !route.parameters.contains(name.as_str())) {
            return Err(Wrong::Denied(
                "a query parameter is none of those that the proxy knows for this route",
            ));
        }
        let mut asked = Asked::new(route.level.clone());
        for (known, said) in route.segments.iter().zip(&path.segments) {
            match *known {
                "{target}" => names::name(said, &mut asked.reach)?,
                // Where any word may stand, the cluster's accounts may not.
                _ if route.from == From::Everything => names::unsealed(said)?,
                _ => {}
            }
        }
        let place = route.place();
        let text = place.and_then(|place| path.segments.get(place)).ok_or(Wrong::Denied(NAMELESS));
        match route.from {
            From::Nothing => {}
            From::Path => names::expression(text?, &mut asked.reach)?,
            From::Several(expand) => {
                let expression = Expression::parse(text?, expand.with(path)?, &mut asked.reach)?;
                asked.place(At::Segment(place.unwrap_or_default()), expression)?;
            }
            From::Everything => match route.twin() {
                // With a name it would not be answered.
                Some(_) if is_help(path) => {}
                Some((place, expand)) => {
                    asked.place(At::Missing(place), Some(Expression::everything(expand.with(path)?)))?;
                }
                None => asked.reach.everything("a request that names no index"),
            },
            From::Ids => asked.ids.extend(route.ids(path)),
        }
        asked.gives = route.gives(path)?;
        asked.closes = route.closes;
        asked.tasks = route.tasks;
        asked.is_of_task = route.is_of_task;
        asked.is_order = route.is_of_task && method != "GET";
        if route.is_detached(path)? {
            asked.tasks = route.detached;
        }
        asked.counts = route.counts;
        asked.parameters.extend(route.hiding(path)?);
        let expand = Expand::OPEN.with(path)?;
        let index = place.and_then(|place| path.segments.get(place)).cloned();
        Ok(Self { route, asked, index, expand })
    }

    /// Whether there may be a body at all.
    pub fn takes_body(&self) -> bool {
        self.route.body != Kind::None
    }

    /// Whether the body must be read before it is known what the request touches.
    pub fn needs_body(&self) -> bool {
        !matches!(self.route.body, Kind::None | Kind::Opaque)
    }

    /// Whether its body is read as it comes, by what [`Self::bulk`] gives.
    pub fn is_bulk(&self) -> bool {
        self.route.body == Kind::Bulk
    }

    pub fn bulk(self) -> Bulk {
        Bulk::new(self.asked, self.index)
    }

    /// Whether its body is read search by search, by what [`Self::several`] gives.
    pub fn is_several(&self) -> bool {
        self.route.body == Kind::Msearch
    }

    pub fn several(self) -> Several {
        let place = self.names();
        Several::new(self.asked, place)
    }

    /// What is known of names that a body leaves out.
    fn names(&self) -> Place {
        Place { named: self.index.is_some(), expand: self.expand }
    }

    /// What is touched whatever the body says.
    pub fn named(&self) -> Touch {
        self.asked.named()
    }

    /// The body with names in the place of dates: heads of many searches are made anew, other bodies go as they came.
    pub fn dated(&self, body: &[u8], now: Time) -> Result<Option<Vec<u8>>, Wrong> {
        if self.route.body == Kind::Msearch { dates::heads(body, now) } else { Ok(None) }
    }

    /// What the request asks for. `body`: all of it where it is needed, else nothing.
    pub fn asked(mut self, body: &[u8]) -> Result<Asked, Wrong> {
        if self.is_bulk() {
            let mut bulk = self.bulk();
            bulk.push(body)?;
            return bulk.finish();
        }
        if self.is_several() {
            return self.several().whole(body);
        }
        let place = self.names();
        self.route.body.walk(body, place, &mut self.asked)?;
        if self.route.from == From::Ids && self.asked.ids.len() != 1 {
            return Err(Wrong::Bad("ids must be said in one place: all of them at once is nobody's here"));
        }
        Ok(self.asked)
    }
}

/// What columns a table has is asked, and nothing that would be in it.
fn is_help(path: &Path) -> bool {
    let table = path.segments.first().is_some_and(|first| first == "_cat");
    table && path.parameter("help").is_some_and(|said| said.is_empty() || said == "true")
}

const NAMELESS: &str = "this route names no index";
/// What an index is called besides, and the name of that route which has no form with names in it.
pub(super) const ALIASES: &str = "_alias";
pub(super) const OLD_ALIASES: &str = "_aliases";
/// Where names stand in a path.
const NAMES: [&str; 2] = ["{index}", "{alias}"];
/// Where dates may stand in them.
const DATED: [&str; 2] = ["{index}", "{target}"];

impl Route {
    fn of(method: &str, path: &Path) -> Option<&'static Self> {
        table().iter().find(|route| route.methods.contains(&method) && route.matches(path))
    }

    /// What begins with an underscore is a word of the API and no name.
    fn matches(&self, path: &Path) -> bool {
        let fits = |(known, said): (&&str, &String)| match known.starts_with('{') {
            true => {
                !(NAMES.contains(known) || *known == "{target}") || !said.starts_with('_') || said == "_all"
            }
            false => *known == said,
        };
        self.segments.len() == path.segments.len() && self.segments.iter().zip(&path.segments).all(fits)
    }

    /// Which segment names.
    fn place(&self) -> Option<usize> {
        self.segments.iter().position(|segment| NAMES.contains(segment))
    }

    /// The sealed ids in a path, and those in a parameter.
    fn ids(&self, path: &Path) -> impl Iterator<Item = Ids> {
        let all = |text: &str| text.split(',').map(str::to_owned).collect();
        let segment = self.segments.iter().position(|segment| *segment == "{ids}");
        let segment = segment.and_then(|place| {
            Some(Ids { at: IdAt::Segment(place), sealed: all(path.segments.get(place)?), listed: true })
        });
        let parameter = path.query.iter().position(|(name, _)| name == "scroll_id");
        let parameter = parameter.and_then(|place| {
            Some(Ids { at: IdAt::Query(place), sealed: all(&path.query.get(place)?.1), listed: true })
        });
        segment.into_iter().chain(parameter)
    }

    /// What the answer to this may hold the id of. An answer is asked for whole then: an id that is left out of it
    /// would be open and nobody could close it.
    fn gives(&self, path: &Path) -> Result<Option<Gives>, Wrong> {
        // It would leave out by what a task is known.
        if self.is_of_task && path.parameter("filter_path").is_some() {
            return Err(Wrong::Bad("what is said of a task is said whole: leave filter_path out"));
        }
        let (kind, member) = match (self.gives, path.parameter("scroll")) {
            (Some(gives), _) => gives,
            (None, Some(_)) => (Some(IdKind::Scroll), "_scroll_id"),
            (None, None) if self.is_detached(path)? => (Some(IdKind::Task), "task"),
            (None, None) => return Ok(None),
        };
        let leaves_out = |paths: &str| {
            let mut paths = paths.split(',').map(str::trim);
            !paths.clone().any(|path| path == member) || paths.any(|path| path.starts_with('-'))
        };
        if path.parameter("filter_path").is_some_and(leaves_out) {
            return Err(Wrong::Bad("filter_path leaves out the id"));
        }
        let keep = path.parameter("scroll").or(path.parameter("keep_alive")).map(ids::keep).transpose()?;
        Ok(Some(Gives { kind, member, keep }))
    }

    /// Whether it is answered with the id of a task before it is done.
    fn is_detached(&self, path: &Path) -> Result<bool, Wrong> {
        match path.parameter("wait_for_completion").filter(|_| self.detached.is_some()) {
            None | Some("" | "true") => Ok(false),
            Some("false") => Ok(true),
            Some(_) => Err(Wrong::Bad("wait_for_completion must be true or false")),
        }
    }

    /// The parameter by which the cluster leaves out where its nodes are.
    fn hiding(&self, path: &Path) -> Result<Option<(&'static str, String)>, Wrong> {
        const SHOWN: Wrong = Wrong::Denied(
            "a column may show the addresses of the cluster's nodes: name others, without ip, host and wildcards",
        );
        if self.hides.is_empty() {
            return Ok(None);
        }
        if self.segments.first() != Some(&"_cat") {
            // What is left out is so before what is asked for is looked for.
            let left_out = self.hides.iter().map(|place| format!("-{place}"));
            let said = path.parameter("filter_path").filter(|said| !said.trim().is_empty());
            let all: Vec<String> = said.map(str::to_owned).into_iter().chain(left_out).collect();
            return Ok(Some(("filter_path", all.join(","))));
        }
        match path.parameter("h") {
            Some(said) => {
                let shows = |name: &str| {
                    let name = name.trim().to_ascii_lowercase();
                    name.contains('*') || self.hides.contains(name.as_str())
                };
                if said.split(',').any(shows) { Err(SHOWN) } else { Ok(None) }
            }
            None if is_help(path) || self.shows.is_empty() => Ok(None),
            None => Ok(Some(("h", self.shows.join(",")))),
        }
    }

    /// The same route with names in it: where they stand, and what their wildcards stand for.
    fn twin(&self) -> Option<(usize, Expand)> {
        let own = self.segments.iter().map(|word| if *word == OLD_ALIASES { ALIASES } else { *word });
        let own: Vec<&str> = own.collect();
        table().iter().find_map(|route| {
            let (place, From::Several(expand)) = (route.place()?, route.from) else { return None };
            let mut without = route.segments.clone();
            without.remove(place);
            (without == own
                && route.level == self.level
                && self.methods.iter().all(|method| route.methods.contains(method)))
            .then_some((place, expand))
        })
    }
}

/// A line that is not right is left out, so that nothing can be asked by it; a test reads all of them.
fn table() -> &'static [Route] {
    static ROUTES: OnceLock<Vec<Route>> = OnceLock::new();
    ROUTES.get_or_init(|| {
        let mut groups: BTreeMap<&str, Vec<&'static str>> = BTreeMap::new();
        let mut routes = Vec::new();
        for line in lines() {
            let words: Vec<&'static str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["params" | "columns" | "places", group, "=", names @ ..] => {
                    groups.entry(group).or_default().extend(names);
                }
                ["route", rest @ ..] => routes.extend(route(rest, &groups)),
                _ => {}
            }
        }
        routes
    })
}

/// The path with names in the place of dates, where the names of indices stand.
pub(super) fn dated(method: &str, path: &Path, now: Time) -> Result<Option<Path>, Wrong> {
    let Some(route) = Route::of(method, path) else { return Ok(None) };
    let is_name = |place: usize| route.segments.get(place).is_some_and(|known| DATED.contains(known));
    dates::path(path, is_name, now)
}

/// The actions of all tasks that a cluster may go on with for us.
pub(super) fn actions() -> impl Iterator<Item = &'static str> {
    table().iter().flat_map(|route| [route.tasks, route.detached]).flatten()
}

/// For the person who asks: why a route that is published is not served.
fn why_refused(method: &str, path: &Path) -> &'static str {
    let mut why = "";
    for line in REFUSED.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix("because ") {
            Some(reason) => why = reason,
            None if is_refused(line, method, &path.segments) => return why,
            None => {}
        }
    }
    "this route is none of those that the proxy knows"
}

fn is_refused(line: &str, method: &str, said: &[String]) -> bool {
    let Some((methods, pattern)) = line.split_once(' ') else { return false };
    let (pattern, all) = pattern.strip_suffix("/**").map_or((pattern, false), |pattern| (pattern, true));
    let known: Vec<&str> = pattern.split('/').skip(1).collect();
    let fits = |(known, said): (&&str, &String)| match known.starts_with('{') {
        true => !said.starts_with('_'),
        false => known == said,
    };
    (methods == "*" || methods.split(',').any(|known| known == method))
        && (known.len() == said.len() || all && known.len() < said.len())
        && known.iter().zip(said).all(fits)
}

fn lines() -> impl Iterator<Item = &'static str> {
    TABLE.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn route(words: &[&'static str], groups: &BTreeMap<&str, Vec<&'static str>>) -> Option<Route> {
    let [methods, path, level, from, body, known @ ..] = words else { return None };
    let mut parameters: BTreeSet<_> = groups.get("common")?.iter().copied().collect();
    let (mut hides, mut shows) = (BTreeSet::new(), Vec::new());
    let (mut gives, mut closes, mut tasks, mut counts) = (None, false, None, None);
    let (mut detached, mut is_of_task) = (None, false);
    for group in known {
        match group.split_once('=') {
            Some(("gives", given)) => {
                gives = Some(given.split_once(':').and_then(|(kind, member)| Some((id_kind(kind)?, member)))?)
            }
            Some(("task", actions)) => tasks = Some(actions),
            Some(("detached", actions)) => detached = Some(actions),
            Some(("hides", what)) => hides.extend(groups.get(what)?),
            Some(("shows", what)) => shows.extend(groups.get(what)?),
            Some(("counts", what)) => counts = Some(Counts::named(what)?),
            Some(_) => return None,
            None if *group == "oftask" => is_of_task = true,
            None if *group == "closes" => closes = true,
            None => parameters.extend(groups.get(group)?),
        }
    }
    let level: AccessLevel = level.parse().ok()?;
    Some(Route {
        methods: methods.split(',').collect(),
        segments: path.strip_prefix('/')?.split('/').filter(|segment| !segment.is_empty()).collect(),
        level: Some(level).filter(AccessLevel::is_ordered)?,
        from: match *from {
            "none" => From::Nothing,
            "path" => From::Path,
            "open" => From::Several(Expand::OPEN),
            "both" => From::Several(Expand { closed: true, ..Expand::OPEN }),
            "every" => From::Several(Expand::EVERY),
            "aliases" => From::Several(Expand { kind: expression::Kind::Aliases, ..Expand::EVERY }),
            "all" => From::Everything,
            "ids" => From::Ids,
            _ => return None,
        },
        body: Kind::named(body)?,
        parameters,
        gives,
        closes,
        tasks,
        detached,
        is_of_task,
        counts,
        hides,
        shows,
    })
}

fn id_kind(name: &str) -> Option<Option<IdKind>> {
    Some(match name {
        "scroll" => Some(IdKind::Scroll),
        "pit" => Some(IdKind::Pit),
        "point_in_time" => Some(IdKind::PointInTime),
        "async" => Some(IdKind::Async),
        "eql" => Some(IdKind::Eql),
        "esql" => Some(IdKind::Esql),
        "same" => None,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Reach;

    #[test]
    fn every_line_of_the_table_is_right() {
        let count = lines().filter(|line| line.starts_with("route ")).count();
        assert_eq!(table().len(), count);
        // A group is of one kind.
        let groups = lines().filter_map(|line| line.split_once(" = ")).map(|(group, _)| group);
        let kinds: BTreeSet<(&str, &str)> = groups.filter_map(|group| group.split_once(' ')).collect();
        let names: BTreeSet<&str> = kinds.iter().map(|(_, name)| *name).collect();
        assert_eq!(names.len(), kinds.len());
        let words = ["route ", "params ", "columns ", "places "];
        assert!(lines().all(|line| words.iter().any(|word| line.starts_with(word))));
        for route in table() {
            let names = route.segments.iter().filter(|segment| NAMES.contains(segment)).count();
            let named = matches!(route.from, From::Path | From::Several(_));
            assert_eq!(names, usize::from(named), "{route:?}");
            // What is not a name in the path must be a word that no index can be called, or stand behind one.
            let mut literal = false;
            for segment in &route.segments {
                let word = !segment.starts_with('{');
                assert!(!word || literal || segment.starts_with('_'), "{route:?}");
                let known = ["{index}", "{alias}", "{target}", "{id}", "{ids}"].contains(segment);
                assert!(word || known, "{route:?}");
                literal = word || *segment == "{ids}";
            }
            // What is shown is not what is hidden.
            assert!(!route.shows.iter().any(|column| route.hides.contains(column)), "{route:?}");
            // A second name is one in any case.
            assert!(!route.segments.contains(&"{target}") || route.from == From::Path, "{route:?}");
            // Nothing that must be found in a body may be left out.
            let by_body = matches!(
                route.body,
                Kind::Bulk
                    | Kind::Msearch
                    | Kind::Mget
                    | Kind::ManyVectors
                    | Kind::Reindex
                    | Kind::Aliases
                    | Kind::Esql
            );
            // What only a grant for everything covers is looked at for the cluster's own accounts.
            assert!(route.from != From::Everything || route.body != Kind::Opaque, "{route:?}");
            assert!(route.from != From::Nothing || by_body || route.segments.is_empty(), "{route:?}");
            assert!(
                route.methods.iter().all(|method| ["GET", "HEAD", "PUT", "POST", "DELETE"].contains(method))
            );
        }
    }

    fn touch(method: &str, target: &str, body: &str) -> Result<Touch, Wrong> {
        Ok(Routed::of(method, &Path::parse(target).unwrap())?.asked(body.as_bytes())?.touch())
    }

    fn names(names: &[&str]) -> Reach {
        Reach::Names(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn a_request_takes_the_level_and_the_names_of_its_route() {
        for (method, target, level, reach) in [
            ("GET", "/", "read", names(&[])),
            ("HEAD", "/logs", "read", names(&["logs"])),
            ("GET", "/logs/_doc/a%2Fb", "read", names(&["logs"])),
            ("GET", "/a,b/_search?size=1", "read", names(&["a", "b"])),
            ("POST", "/logs/_doc", "read_write", names(&["logs"])),
            ("DELETE", "/logs", "admin", names(&["logs"])),
            ("PUT", "/logs/_mapping", "admin", names(&["logs"])),
            ("GET", "/_search", "read", Reach::Everything("a request that names no index")),
            ("GET", "/_mapping", "read", Reach::Everything("a request that names no index")),
            ("GET", "/_alias", "read", Reach::Everything("a request that names no index")),
            ("GET", "/logs/_alias", "read", names(&["logs"])),
            ("PUT", "/logs/_alias/new", "admin", names(&["logs", "new"])),
            ("POST", "/logs/_clone/new", "admin", names(&["logs", "new"])),
            ("GET", "/_data_stream/logs", "read", names(&["logs"])),
            ("GET", "/_data_stream/_stats", "read", Reach::Everything("a request that names no index")),
            ("GET", "/_all/_search", "read", Reach::Everything("a wildcard")),
            ("DELETE", "/lo*", "admin", Reach::Everything("a wildcard")),
            ("GET", "/a,-b/_count", "read", Reach::Everything("an exclusion")),
            (
                "GET",
                "/%3Clogs-%7Bnow%2Fd%7D%3E/_search",
                "read",
                Reach::Everything("a date in an index name"),
            ),
            ("GET", "/far:logs/_search", "read", Reach::Everything("the name of another cluster")),
        ] {
            let touch = touch(method, target, "").unwrap();
            assert_eq!((touch.level.as_str(), touch.reach), (level, reach), "{method} {target}");
        }
    }

    #[test]
    fn what_a_cluster_goes_on_with_is_known() {
        let tasks = |method, target, body: &str| {
            let asked =
                Routed::of(method, &Path::parse(target).unwrap()).unwrap().asked(body.as_bytes()).unwrap();
            asked.tasks()
        };
        for (method, target, body, actions) in [
            ("POST", "/a/_delete_by_query", "{}", Some("indices:data/write/delete/byquery")),
            ("POST", "/a/_update_by_query", "{}", Some("indices:data/write/update/byquery")),
            (
                "POST",
                "/_reindex",
                r#"{"source":{"index":"a"},"dest":{"index":"b"}}"#,
                Some("indices:data/write/reindex"),
            ),
            ("GET", "/a/_count", "", Some("indices:data/read/search")),
            ("GET", "/_search/scroll/x", "", Some("indices:data/read/scroll")),
            (
                "POST",
                "/a/_delete_by_query?wait_for_completion=false",
                "{}",
                Some("indices:data/write/delete/byquery"),
            ),
            ("POST", "/a/_forcemerge?wait_for_completion=false", "", Some("indices:admin/forcemerge")),
            ("POST", "/a/_forcemerge", "", None),
            ("POST", "/a/_forcemerge?wait_for_completion", "", None),
            ("GET", "/a/_search", "", None),
            ("DELETE", "/_search/scroll/x", "", None),
        ] {
            assert_eq!(tasks(method, target, body), actions, "{method} {target}");
        }
        let plain =
            |action: &str| action.bytes().all(|byte| byte.is_ascii_lowercase() || b":/_".contains(&byte));
        let mut actions = actions().flat_map(|list| list.split(','));
        assert!(actions.all(|action| action.starts_with("indices:") && plain(action)));
    }

    #[test]
    fn who_asks_is_told_why_a_route_is_refused() {
        for (method, target, why) in [
            ("GET", "/_nodes/http", "the addresses of the cluster's nodes"),
            ("GET", "/_security", "the cluster's own accounts"),
            ("POST", "/_sql/translate", "its language"),
            ("GET", "/_search/point_in_time/_all", "all of them at once"),
            ("PUT", "/logs/thing/1", "types of documents"),
            ("GET", "/_cat/tasks", "what runs may be another"),
            ("GET", "/_plugins/_ppl", "this route is none"),
            ("POST", "/_cat/tasks", "this route is none"),
            ("GET", "/logs/_unheard_of", "this route is none"),
        ] {
            let refused = touch(method, target, "").unwrap_err();
            assert!(matches!(refused, Wrong::Denied(said) if said.starts_with(why)), "{target}: {refused:?}");
        }
    }

    #[test]
    fn nobody_is_shown_where_the_nodes_are() {
        let sent = |target: &str| {
            let path = Path::parse(target).unwrap();
            Routed::of("GET", &path)?.asked(b"").map(|asked| asked.with_parameters(path).render())
        };
        for (target, shown) in [
            ("/_cat/shards/a", "/_cat/shards/a?h=index,shard,prirep,state,docs,store,dataset,node"),
            ("/_cat/shards/a?v&h=index,node", "/_cat/shards/a?v&h=index,node"),
            ("/_cat/shards/a?help", "/_cat/shards/a?help"),
            ("/_cat/indices/a", "/_cat/indices/a"),
            ("/_cat/indices/a?h=h,i", "/_cat/indices/a?h=h,i"),
            ("/_cat/thread_pool", "/_cat/thread_pool"),
            ("/a/_mapping", "/a/_mapping"),
            (
                "/a/_shard_stores?filter_path=indices.a.shards&status=all",
                "/a/_shard_stores?filter_path=indices.a.shards,-**.stores.*.transport_address&status=all",
            ),
            ("/a/_shard_stores?filter_path=", "/a/_shard_stores?filter_path=-**.stores.*.transport_address"),
            ("/a/_shard_stores", "/a/_shard_stores?filter_path=-**.stores.*.transport_address"),
        ] {
            assert_eq!(sent(target).as_deref(), Ok(shown), "{target}");
        }
        for target in [
            "/_cat/shards/a?h=index,ip",
            "/_cat/shards?h=IP",
            "/_cat/shards?h=*",
            "/_cat/segments?h=i*",
            "/_cat/recovery?h=index,%20thost",
            "/_cat/recovery/a?h=source_host",
            "/_cat/allocation?h=h",
            "/_cat/thread_pool?h=i",
            "/_cat/thread_pool/search?h=node_name,port",
            "/_cat/master?h=host",
            "/_cat/fielddata?h=ip",
        ] {
            assert!(matches!(sent(target), Err(Wrong::Denied(_))), "{target}");
        }
    }

    #[test]
    fn what_is_not_in_the_table_is_refused() {
        for (method, target) in [
            ("DELETE", "/_search"),
            ("DELETE", "/_all/_doc/1/x"),
            ("GET", "/logs/type/1"),
            ("GET", "/_reindex"),
            ("POST", "/logs/_update_by_query?wait_for_completion=no"),
            ("POST", "/logs/_update_by_query?wait_for_completion=false&filter_path=took"),
            ("POST", "/logs/_search?wait_for_completion=false"),
            ("GET", "/_tasks/a?filter_path=completed"),
            ("GET", "/_tasks/a?nodes=b"),
            ("POST", "/_tasks/_cancel"),
            ("POST", "/_tasks/a/_cancel?actions=*"),
            ("POST", "/_tasks?actions=*"),
            ("GET", "/_reindex/a"),
            ("GET", "/_search/scroll"),
            ("DELETE", "/_search/scroll"),
            ("DELETE", "/_pit"),
            ("DELETE", "/_search/point_in_time"),
            ("GET", "/_search/point_in_time/_all"),
            ("DELETE", "/_search/point_in_time/_all"),
            ("POST", "/.security-7/_search/template"),
            ("POST", "/_sql"),
            ("GET", "/_query"),
            ("PUT", "/_query/view/logs-1"),
            ("GET", "/_query/queries"),
            ("POST", "/_query?pragma=x"),
            ("POST", "/_query/async?format=csv"),
            ("POST", "/_eql/search"),
            ("POST", "/logs/_eql/search?filter_path=hits"),
            ("GET", "/_sql?sql=x"),
            ("POST", "/_plugins/_sql"),
            ("POST", "/_opendistro/_sql"),
            ("POST", "/_plugins/_ppl"),
            ("GET", "/_security/user"),
            ("GET", "/_plugins/_security/api/internalusers"),
            ("GET", "/_nodes/http"),
            ("GET", "/_tasks"),
            ("PUT", "/_snapshot/x"),
            ("TRACE", "/logs"),
            ("get", "/logs"),
            ("GET", "/logs/_search?scroll=forever"),
            ("GET", "/logs/_search?scroll=1m&filter_path=hits"),
            ("GET", "/logs/_search?scroll=1m&filter_path=_scroll_id,-_scroll_id"),
            ("GET", "/logs/_search?scroll=1m&filter_path=_scroll_id,%20-*"),
            ("POST", "/logs/_pit?keep_alive=1m&filter_path=id,-id"),
            ("GET", "/logs/_search?source=%7B%7D"),
            ("GET", "/logs/_search?index=secret"),
            ("POST", "/_bulk?pipeline=x"),
            ("GET", "/_security"),
            ("GET", "/.security-7/_search"),
            ("GET", "/logs/_doc/1?_SOURCE=a"),
        ] {
            assert!(touch(method, target, "").is_err(), "{method} {target}");
        }
    }
}
