//! The table of routes, and the route of a request.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use super::body::Kind;
use super::part::Part;
use crate::model::{AccessLevel, Reach, Time, Touch};
use crate::protocol::http::api;
use crate::protocol::http::{Asked, Bulk, Counts, Path, Several, Wrong};

const TABLE: &str = include_str!("../rabbit.routes");

/// A request whose route is known.
#[derive(Debug)]
pub(super) struct Routed {
    route: &'static Route,
    reach: Reach,
}

/// One line of the table.
#[derive(Debug)]
struct Route {
    methods: Vec<&'static str>,
    segments: Vec<&'static str>,
    does: Does,
}

#[derive(Debug)]
enum Does {
    Pass {
        level: AccessLevel,
        from: From,
        body: Kind,
        part: Option<Part>,
        parameters: BTreeSet<&'static str>,
        counts: Option<Counts>,
    },
    Refuse(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Nothing,
    Vhost,
    Everything,
}

impl Routed {
    pub fn of(method: &str, path: &Path) -> Result<Self, Wrong> {
        let fits = |route: &&'static Route| route.methods.contains(&method) && route.matches(path);
        let route = table().iter().find(fits);
        let route = route.ok_or(Wrong::Denied("this route is none of those that the proxy knows"))?;
        let (from, part, parameters) = match &route.does {
            Does::Pass { from, part, parameters, .. } => (*from, part, parameters),
            Does::Refuse(why) => return Err(Wrong::Denied(why)),
        };
        let unknown = |(name, _): &(String, String)| !parameters.contains(name.as_str());
        if *part != Some(Part::File) && path.query.iter().any(unknown) {
            return Err(Wrong::Denied(
                "a query parameter is none of those that the proxy knows for this route",
            ));
        }
        let mut reach = Reach::nothing();
        match from {
            From::Nothing => {}
            From::Everything => reach.everything("something of the whole cluster"),
            From::Vhost => {
                let place = route.segments.iter().position(|segment| *segment == "{vhost}");
                let vhost = place.and_then(|place| path.segments.get(place));
                reach.add(vhost.ok_or(Wrong::Denied("this route names no vhost"))?);
            }
        }
        Ok(Self { route, reach })
    }

    /// What is refused takes most.
    fn level(&self) -> AccessLevel {
        match &self.route.does {
            Does::Pass { level, .. } => level.clone(),
            Does::Refuse(_) => AccessLevel::Admin,
        }
    }

    fn body(&self) -> Kind {
        match self.route.does {
            Does::Pass { body, .. } => body,
            Does::Refuse(_) => Kind::None,
        }
    }
}

impl api::Routed for Routed {
    fn dated(&self, _: &[u8], _: Time) -> Option<Result<Vec<u8>, Wrong>> {
        None
    }

    fn takes_body(&self) -> bool {
        self.body() != Kind::None
    }

    fn needs_body(&self) -> bool {
        self.takes_body()
    }

    fn named(&self) -> Touch {
        Touch::new(self.level(), self.reach.clone())
    }

    fn bulk(self: Box<Self>) -> Result<Bulk, Box<dyn api::Routed>> {
        Err(self)
    }

    fn several(self: Box<Self>) -> Result<Several, Box<dyn api::Routed>> {
        Err(self)
    }

    fn asked(mut self: Box<Self>, body: &[u8]) -> Result<Asked, Wrong> {
        let Does::Pass { level, part, counts, .. } = &self.route.does else {
            return Err(Wrong::Denied("this route is refused"));
        };
        let kind = self.body();
        kind.walk(body, &mut self.reach)?;
        let part = part.clone().map(|part| Box::new(part) as Box<dyn api::Part>);
        let asked = Asked::new(level.clone());
        Ok(Asked { reach: self.reach, part, is_secret: kind.is_secret(), counts: *counts, ..asked })
    }
}

impl Route {
    fn matches(&self, path: &Path) -> bool {
        let fits = |(known, said): (&&str, &String)| match *known {
            "{file}" => is_file(said),
            known => known.starts_with('{') || known == said,
        };
        self.segments.len() == path.segments.len() && self.segments.iter().zip(&path.segments).all(fits)
    }
}

/// A name that leads nowhere else.
fn is_file(name: &str) -> bool {
    !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

/// A line that is not right is left out, so that nothing can be asked by it; a test reads all of them.
fn table() -> &'static [Route] {
    static ROUTES: OnceLock<Vec<Route>> = OnceLock::new();
    ROUTES.get_or_init(|| {
        let mut groups: BTreeMap<&str, BTreeSet<&'static str>> = BTreeMap::new();
        let mut routes = Vec::new();
        for line in lines() {
            let words: Vec<&'static str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["params", group, "=", names @ ..] => groups.entry(group).or_default().extend(names),
                ["route", rest @ ..] => routes.extend(route(rest, &groups)),
                ["refused", methods, path, _, ..] => routes.extend(refused(line, methods, path)),
                _ => {}
            }
        }
        routes
    })
}

fn lines() -> impl Iterator<Item = &'static str> {
    TABLE.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn segments(path: &'static str) -> Option<Vec<&'static str>> {
    Some(path.strip_prefix('/')?.split('/').filter(|segment| !segment.is_empty()).collect())
}

fn refused(line: &'static str, methods: &'static str, path: &'static str) -> Option<Route> {
    let (_, why) = line.split_once(path)?;
    Some(Route {
        methods: methods.split(',').collect(),
        segments: segments(path)?,
        does: Does::Refuse(why.trim()),
    })
}

fn route(words: &[&'static str], groups: &BTreeMap<&str, BTreeSet<&'static str>>) -> Option<Route> {
    let [methods, path, level, from, body, part, known @ ..] = words else { return None };
    let (mut parameters, mut counts) = (BTreeSet::new(), None);
    for group in known {
        match group.strip_prefix("counts=") {
            Some(what) => counts = Some(Counts::named(what)?),
            None => parameters.extend(groups.get(group)?),
        }
    }
    let level: AccessLevel = level.parse().ok()?;
    let from = match *from {
        "none" => From::Nothing,
        "vhost" => From::Vhost,
        "all" => From::Everything,
        _ => return None,
    };
    Some(Route {
        methods: methods.split(',').collect(),
        segments: segments(path)?,
        does: Does::Pass {
            level: Some(level).filter(AccessLevel::is_ordered)?,
            from,
            body: Kind::named(body)?,
            part: Part::named(part)?,
            parameters,
            counts,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::api::Routed as _;
    use super::*;

    #[test]
    fn every_line_of_the_table_is_right() {
        let is_line = |line: &&str| line.starts_with("route ") || line.starts_with("refused ");
        assert_eq!(table().len(), lines().filter(is_line).count());
        assert!(lines().all(|line| is_line(&line) || line.starts_with("params ")));
        for route in table() {
            let vhosts = route.segments.iter().filter(|segment| **segment == "{vhost}").count();
            let words = ["GET", "HEAD", "PUT", "POST", "DELETE"];
            assert!(route.methods.iter().all(|method| words.contains(method)), "{route:?}");
            let Does::Pass { level, from, body, part, .. } = &route.does else { continue };
            assert!(*from != From::Vhost || vhosts == 1, "{route:?}");
            assert!(*from != From::Nothing || vhosts == 0, "{route:?}");
            let api = route.segments.first() == Some(&"api");
            let changes = route.methods.iter().any(|method| !["GET", "HEAD"].contains(method));
            // Whatever is asked of the whole server, and does not take a grant for it, is narrowed.
            let general = ["cluster-name", "extensions"];
            let harmless = route.segments.get(1).is_some_and(|second| general.contains(second));
            assert!(!api || *from != From::Nothing || part.is_some() || harmless, "{route:?}");
            let is_file = *part == Some(Part::File);
            assert!(part.is_none() || is_file || route.methods == ["GET"], "{route:?}");
            // Nothing of a file's name can be a vhost, and nothing of the API is a file.
            assert_eq!(is_file, !api || route.segments == ["api", "index.html"], "{route:?}");
            assert!(!changes || *from != From::Nothing, "{route:?}");
            assert!(changes || *level != AccessLevel::ReadWrite, "{route:?}");
            assert!(!changes || *level != AccessLevel::Read, "{route:?}");
            assert!(api || (*body == Kind::None && *level == AccessLevel::Read && !changes), "{route:?}");
            if let Some(Part::List { instead: Some(instead), .. }) = part {
                let target = Path::parse(&instead.path.replace("{vhost}", "x")).unwrap();
                let other = Routed::of("GET", &target).unwrap();
                assert!(
                    matches!(other.route.does, Does::Pass { from: From::Vhost, part: None, .. }),
                    "{route:?}"
                );
                let Does::Pass { parameters: theirs, .. } = &other.route.does else { panic!() };
                let Does::Pass { parameters: ours, .. } = &route.does else { panic!() };
                assert_eq!(theirs, ours, "{route:?}");
            }
        }
    }

    fn asked(method: &str, target: &str, body: &str) -> Result<Touch, Wrong> {
        let routed = Routed::of(method, &Path::parse(target).map_err(Wrong::Bad)?)?;
        Box::new(routed).asked(body.as_bytes()).map(|asked| asked.touch())
    }

    fn names(names: &[&str]) -> Reach {
        Reach::Names(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn a_request_takes_the_level_and_the_vhost_of_its_route() {
        let all = || Reach::Everything("something of the whole cluster");
        for (method, target, body, level, reach) in [
            ("GET", "/", "", "read", names(&[])),
            ("GET", "/js/tmpl/queue.ejs?0.93501", "", "read", names(&[])),
            ("GET", "/api/whoami", "", "read", names(&[])),
            ("GET", "/api/queues?page=1&page_size=100&name=&use_regex=false", "", "read", names(&[])),
            ("GET", "/api/queues/%2F", "", "read", names(&["/"])),
            ("GET", "/api/queues/%2f/a%2Fb", "", "read", names(&["/"])),
            ("GET", "/api/queues/te%20am%2F%C3%BC/q?lengths_age=60", "", "read", names(&["te am/ü"])),
            ("GET", "/api/vhosts/a%252Fb/connections", "", "read", names(&["a%2Fb"])),
            (
                "POST",
                "/api/queues/team/q/get",
                r#"{"vhost":"team","count":1}"#,
                "read_write",
                names(&["team"]),
            ),
            (
                "POST",
                "/api/exchanges/team/amq.default/publish",
                r#"{"payload":"a"}"#,
                "read_write",
                names(&["team"]),
            ),
            (
                "POST",
                "/api/exchanges/team/x/publish",
                r#"{"vhost":"b"}"#,
                "read_write",
                names(&["b", "team"]),
            ),
            ("PUT", "/api/queues/team/q", "{}", "admin", names(&["team"])),
            ("DELETE", "/api/queues/team/q?if-empty=true", r#"{"mode":"delete"}"#, "admin", names(&["team"])),
            ("DELETE", "/api/queues/team/q/contents", "", "admin", names(&["team"])),
            ("POST", "/api/bindings/team/e/x/q/q", "", "admin", names(&["team"])),
            ("PUT", "/api/policies/team/p", "", "admin", names(&["team"])),
            ("PUT", "/api/vhosts/team", "", "admin", all()),
            ("GET", "/api/parameters/shovel/team", "", "admin", all()),
            ("GET", "/api/nodes", "", "read", all()),
            ("GET", "/api/definitions/team", "", "admin", all()),
            ("GET", "/api/users", "", "admin", all()),
            ("DELETE", "/api/connections/x", "", "admin", all()),
        ] {
            let touch = asked(method, target, body).unwrap();
            assert_eq!((touch.level.as_str(), touch.reach), (level, reach), "{method} {target}");
        }
    }

    #[test]
    fn bodies_with_logins_in_them_are_not_written_down() {
        let is_secret = |method: &str, target: &str| {
            let routed = Routed::of(method, &Path::parse(target).unwrap()).unwrap();
            Box::new(routed).asked(b"{}").unwrap().is_secret()
        };
        for target in ["/api/parameters/shovel/team/s", "/api/global-parameters/x"] {
            assert!(is_secret("PUT", target), "{target}");
        }
        assert!(is_secret("POST", "/api/definitions") && is_secret("POST", "/api/definitions/team"));
        assert!(!is_secret("PUT", "/api/queues/team/q") && !is_secret("PUT", "/api/vhosts/team"));
    }

    #[test]
    fn what_is_not_in_the_table_is_refused() {
        for (method, target) in [
            ("GET", "/api"),
            ("GET", "/api/queues/"),
            ("GET", "/api//queues"),
            ("GET", "/api/queues/team/../other"),
            ("GET", "/api/queues/team/%2e%2e/other"),
            ("GET", "/api/queues/a+b"),
            ("GET", "/api%2Fqueues"),
            ("GET", "/API/queues"),
            ("get", "/api/queues"),
            ("HEAD", "/api/queues"),
            ("OPTIONS", "/api/queues"),
            ("GET", "/api/queues?vhost=other"),
            ("GET", "/api/queues/team?auth=x"),
            ("GET", "/api/definitions?download=x&auth=y"),
            ("GET", "/js/..%2F..%2Fx"),
            ("GET", "/js/.hidden"),
            ("GET", "/js/a%2Fb"),
            ("GET", "/metrics"),
            ("PUT", "/api/users/alice"),
            ("POST", "/api/users/bulk-delete"),
            ("PUT", "/api/permissions/team/alice"),
            ("DELETE", "/api/topic-permissions/team/alice/x"),
            ("POST", "/api/login"),
            ("PUT", "/api/traces/team/x"),
            ("GET", "/api/trace-files"),
            ("GET", "/api/top/a/b"),
        ] {
            assert!(asked(method, target, "").is_err(), "{method} {target}");
        }
        let Err(Wrong::Denied(why)) = asked("PUT", "/api/users/alice", "") else { panic!() };
        assert_eq!(why, "the cluster's own accounts are not changed through the proxy");
    }
}
