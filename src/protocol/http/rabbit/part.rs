//! What is shown of answers that tell of more than one vhost: the console and others ask for all queues there are, and
//! are shown those of the vhosts that the grant covers. What does not say its vhost is not shown.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::json;
use serde_json::value::RawValue;

use super::body::ACCOUNTS;
use crate::model::AccessLevel;
use crate::protocol::http::api::{self, Hidden, View, Viewer};
use crate::protocol::http::{Path, Wrong};

/// How an answer is narrowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// A file of the console. Whatever query it is asked with changes nothing.
    File,
    /// A list of things that say their vhost at this place.
    List {
        vhost: &'static [&'static str],
        instead: Option<Instead>,
    },
    /// One thing that says its vhost.
    One,
    /// A list of what belongs to one thing, each of which says its vhost.
    OfOne,
    Overview,
    Whoami,
    /// Accounts, without what their passwords could be guessed from.
    Users,
    /// Everything but the accounts.
    Definitions,
}

/// What is asked where the grant covers just one vhost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instead {
    pub path: &'static str,
    /// It gives pages as the list of everything does.
    pages: bool,
}

const VHOST: &[&str] = &["vhost"];

impl Part {
    /// By its name in the table. The outer `None`: there is no such.
    pub fn named(name: &'static str) -> Option<Option<Self>> {
        let (name, instead) = match name.split_once(['=', '~']) {
            Some((kind, path)) => (kind, Some(Instead { path, pages: name.contains('=') })),
            None => (name, None),
        };
        let part = match name {
            "whole" => return instead.is_none().then_some(None),
            "file" => Self::File,
            "list" => Self::List { vhost: VHOST, instead },
            "consumers" => Self::List { vhost: &["queue", "vhost"], instead },
            "vhosts" => Self::List { vhost: &["name"], instead },
            "one" => Self::One,
            "ofone" => Self::OfOne,
            "overview" => Self::Overview,
            "whoami" => Self::Whoami,
            "users" => Self::Users,
            "definitions" => Self::Definitions,
            _ => return None,
        };
        Some(Some(part))
    }
}

/// What is asked of a list besides what it is about, and done here instead: the server would count and cut what is not
/// shown.
const PAGING: [&str; 5] = ["page", "page_size", "name", "use_regex", "pagination"];

/// What of the overview is about no vhost. The totals, rates and numbers of things are of all vhosts together, and the
/// listeners are ways round the proxy.
const OVERVIEW: [&str; 18] = [
    "management_version",
    "rates_mode",
    "sample_retention_policies",
    "exchange_types",
    "product_version",
    "product_name",
    "rabbitmq_version",
    "cluster_name",
    "cluster_tags",
    "node_tags",
    "erlang_version",
    "erlang_full_version",
    "crypto_lib_version",
    "release_series_support_status",
    "disable_stats",
    "enable_queue_totals",
    "default_queue_type",
    "is_op_policy_updating_enabled",
];

/// What the server's console looks into without asking whether it is there.
const EMPTY: [&str; 3] = ["message_stats", "churn_rates", "queue_totals"];

impl api::Part for Part {
    fn every_status(&self) -> bool {
        false
    }

    fn view(&self, path: &Path, viewer: &Viewer<'_>) -> View {
        match self {
            Self::File => View::Instead(Path { segments: path.segments.clone(), query: Vec::new() }),
            Self::Whoami | Self::Users | Self::Definitions => View::Filtered(path.clone()),
            _ if viewer.sees_everything => View::Whole,
            Self::Overview => View::Filtered(path.clone()),
            Self::List { vhost, instead } => {
                let one =
                    instead.and_then(|instead| Some((filled(instead.path, viewer.only?)?, instead.pages)));
                let (segments, is_whole) = one.unwrap_or_else(|| (path.segments.clone(), false));
                let asked = Path { segments, query: path.query.clone() };
                if is_whole { View::Instead(asked) } else { View::Filtered(asking(&asked, vhost)) }
            }
            Self::One | Self::OfOne => View::Filtered(asking(path, VHOST)),
        }
    }

    fn absent(&self) -> Option<(u16, &'static str)> {
        match self {
            Self::One => Some((404, NOT_THERE)),
            // Of a connection that is not there it fails with 500, and one that is may have no channels.
            Self::OfOne => Some((200, "[]")),
            _ => None,
        }
    }

    fn show(&self, path: &Path, viewer: &Viewer<'_>, answer: &[u8]) -> Result<Vec<u8>, Hidden> {
        let columns = path.parameter("columns");
        match self {
            Self::File => Ok(answer.to_vec()),
            Self::List { vhost, .. } => {
                let mut items = list(answer)?;
                items.retain(|item| item.says(vhost).is_some_and(|vhost| (viewer.covers)(&vhost)));
                items.iter_mut().for_each(|item| item.leave_out(vhost, columns));
                page(path, items)
            }
            Self::One => {
                let mut item: Members<'_> = serde_json::from_slice(answer).map_err(|_| Hidden::Strange)?;
                let covered = item.says(VHOST).is_some_and(|vhost| (viewer.covers)(&vhost));
                item.leave_out(VHOST, columns);
                match covered {
                    true => Ok(item.write()),
                    false => Err(Hidden::NotThere),
                }
            }
            Self::OfOne => {
                let mut items = list(answer)?;
                items.retain(|item| item.says(VHOST).is_some_and(|vhost| (viewer.covers)(&vhost)));
                items.iter_mut().for_each(|item| item.leave_out(VHOST, columns));
                match items.is_empty() {
                    true => Err(Hidden::NotThere),
                    false => Ok(written(&items)),
                }
            }
            Self::Overview => overview(answer),
            Self::Whoami => whoami(answer, viewer),
            Self::Users => match answer.trim_ascii_start().first() {
                Some(b'[') => {
                    let mut users = list(answer)?;
                    users.iter_mut().for_each(|user| user.0.retain(|(name, _)| !is_secret(name)));
                    page(path, users)
                }
                _ => kept(answer, |name| !is_secret(name)),
            },
            Self::Definitions => kept(answer, |name| !ACCOUNTS.contains(&name)),
        }
    }
}

/// The server's own words.
const NOT_THERE: &str = r#"{"error":"Object Not Found","reason":"Not Found"}"#;

fn is_secret(name: &str) -> bool {
    name.contains("password") || name == "hashing_algorithm"
}

/// The segments of a pattern of the table, with the vhost in its place. `None`: no path names such a vhost.
fn filled(pattern: &str, vhost: &str) -> Option<Vec<String>> {
    if matches!(vhost, "" | "." | "..") || vhost.contains(char::is_control) {
        return None;
    }
    let parts = pattern.split('/').filter(|part| !part.is_empty());
    Some(parts.map(|part| if part == "{vhost}" { vhost } else { part }.to_owned()).collect())
}

/// The same question, such that each answer says its vhost, and all of them come.
fn asking(path: &Path, vhost: &[&str]) -> Path {
    let mut path = path.clone();
    path.query.retain(|(name, _)| !PAGING.contains(&name.as_str()));
    if let Some((_, columns)) = path.query.iter_mut().find(|(name, _)| name == "columns") {
        let wanted = vhost.join(".");
        if !columns.split(',').any(|column| column == wanted) {
            let comma = if columns.is_empty() { "" } else { "," };
            *columns = format!("{columns}{comma}{wanted}");
        }
    }
    path
}

/// An object as it came: its members in their order, each as its bytes.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Members<'a> {
    fn member(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    /// The text at this place.
    fn says(&self, place: &[&str]) -> Option<String> {
        let (first, rest) = place.split_first()?;
        let value = self.member(first)?.get();
        match rest {
            [] => serde_json::from_str(value).ok(),
            rest => serde_json::from_str::<Members<'_>>(value).ok()?.says(rest),
        }
    }

    /// Takes away what only we have asked for.
    fn leave_out(&mut self, place: &[&str], columns: Option<&str>) {
        let (Some(first), Some(columns)) = (place.first(), columns) else { return };
        if !columns.split(',').any(|column| column.split('.').next() == Some(first)) {
            self.0.retain(|(name, _)| name != first);
        }
    }

    fn write(&self) -> Vec<u8> {
        let mut text = Vec::new();
        self.write_to(&mut text);
        text
    }

    fn write_to(&self, text: &mut Vec<u8>) {
        text.push(b'{');
        for (place, (name, value)) in self.0.iter().enumerate() {
            if place > 0 {
                text.push(b',');
            }
            text.extend_from_slice(serde_json::Value::from(name.as_str()).to_string().as_bytes());
            text.push(b':');
            text.extend_from_slice(value.get().as_bytes());
        }
        text.push(b'}');
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Read;

        impl<'de> Visitor<'de> for Read {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members: Vec<(String, &RawValue)> = Vec::new();
                while let Some((name, value)) = map.next_entry()? {
                    if members.iter().any(|(known, _)| *known == name) {
                        return Err(serde::de::Error::custom("a name twice"));
                    }
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }

        from.deserialize_map(Read)
    }
}

fn list(answer: &[u8]) -> Result<Vec<Members<'_>>, Hidden> {
    serde_json::from_slice(answer).map_err(|_| Hidden::Strange)
}

/// The members that may be told.
fn kept(answer: &[u8], shown: impl Fn(&str) -> bool) -> Result<Vec<u8>, Hidden> {
    let mut members: Members<'_> = serde_json::from_slice(answer).map_err(|_| Hidden::Strange)?;
    members.0.retain(|(name, _)| shown(name));
    Ok(members.write())
}

fn written(items: &[Members<'_>]) -> Vec<u8> {
    let mut text = vec![b'['];
    for (place, item) in items.iter().enumerate() {
        if place > 0 {
            text.push(b',');
        }
        item.write_to(&mut text);
    }
    text.push(b']');
    text
}

/// The list, or the page of it that was asked for, as the server counts and names it.
fn page(path: &Path, items: Vec<Members<'_>>) -> Result<Vec<u8>, Hidden> {
    /// Of the server.
    const SIZE: usize = 100;
    const SIZE_MAX: usize = 500;
    let bad = |what| Hidden::Wrong(Wrong::Bad(what));
    let number = |name: &str, default: usize| match path.parameter(name) {
        None => Ok(default),
        Some(text) => {
            text.parse().ok().filter(|number| *number > 0).ok_or(bad("page and page_size are numbers from 1"))
        }
    };
    if path.parameter("page").is_none() {
        return Ok(written(&items));
    }
    let (page, size) = (number("page", 1)?, number("page_size", SIZE)?);
    if size > SIZE_MAX {
        return Err(bad("page_size is 500 at most"));
    }
    let total = items.len();
    let wanted = path.parameter("name").unwrap_or_default().to_lowercase();
    if !wanted.is_empty() && path.parameter("use_regex") == Some("true") {
        return Err(bad("a regular expression for names is taken in one vhost only: choose one"));
    }
    let fits = |item: &Members<'_>| {
        wanted.is_empty() || item.says(&["name"]).is_some_and(|name| name.to_lowercase().contains(&wanted))
    };
    let items: Vec<_> = items.into_iter().filter(fits).collect();
    let (filtered, pages) = (items.len(), items.len().div_ceil(size));
    if page > pages.max(1) {
        return Err(bad("the page is out of range"));
    }
    let first = (page - 1) * size;
    let shown = &items[first..filtered.min(first + size)];
    let mut text =
        format!("{{\"filtered_count\":{filtered},\"item_count\":{},\"items\":", shown.len()).into_bytes();
    text.extend(written(shown));
    let rest =
        format!(",\"page\":{page},\"page_count\":{pages},\"page_size\":{size},\"total_count\":{total}}}");
    text.extend(rest.into_bytes());
    Ok(text)
}

fn overview(answer: &[u8]) -> Result<Vec<u8>, Hidden> {
    let empty = serde_json::value::to_raw_value(&json!({})).map_err(|_| Hidden::Strange)?;
    let mut members: Members<'_> = serde_json::from_slice(answer).map_err(|_| Hidden::Strange)?;
    for (name, value) in &mut members.0 {
        if EMPTY.contains(&name.as_str()) {
            *value = &empty;
        }
    }
    members.0.retain(|(name, _)| OVERVIEW.contains(&name.as_str()) || EMPTY.contains(&name.as_str()));
    Ok(members.write())
}

/// Who one is here. The tags say what the console offers; what one may do is the grant's matter.
fn whoami(answer: &[u8], viewer: &Viewer<'_>) -> Result<Vec<u8>, Hidden> {
    let theirs: serde_json::Value = serde_json::from_slice(answer).map_err(|_| Hidden::Strange)?;
    let tags = match viewer.level {
        AccessLevel::Admin if viewer.sees_everything => theirs["tags"].clone(),
        level => {
            let policies = if *level == AccessLevel::Admin {
                &["management", "policymaker"][..]
            } else {
                &["management"]
            };
            match theirs["tags"].is_string() {
                true => policies.join(",").into(),
                false => policies.into(),
            }
        }
    };
    let mut ours = json!({"name": viewer.user, "tags": tags});
    if let Some(timeout) = theirs.get("login_session_timeout") {
        ours["login_session_timeout"] = timeout.clone();
    }
    Ok(ours.to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::api::Part as _;
    use super::*;

    fn part(name: &'static str) -> Part {
        Part::named(name).unwrap().unwrap()
    }

    fn path(target: &str) -> Path {
        Path::parse(target).unwrap()
    }

    fn team(name: &str) -> bool {
        name == "team" || name == "te/am"
    }

    fn viewer(level: &AccessLevel) -> Viewer<'_> {
        Viewer { user: "alice", level, sees_everything: false, only: None, covers: &team }
    }

    fn shown(name: &'static str, target: &str, answer: &str) -> Result<String, Hidden> {
        let shown = part(name).show(&path(target), &viewer(&AccessLevel::Read), answer.as_bytes());
        shown.map(|bytes| String::from_utf8(bytes).unwrap())
    }

    const QUEUES: &str = r#"[{"name":"a","vhost":"other","messages":1},{"name":"b","vhost":"team","x":[1.50,{}]},
        {"name":"c","vhost":"te\/am"},{"name":"d"},{"name":"e","vhost":7},{"name":"f","vhost":["team"]}]"#;

    #[test]
    fn lists_show_what_is_covered_and_says_so() {
        assert_eq!(
            shown("list", "/api/queues", QUEUES).unwrap(),
            r#"[{"name":"b","vhost":"team","x":[1.50,{}]},{"name":"c","vhost":"te\/am"}]"#
        );
        assert_eq!(shown("list", "/api/queues", "[]").unwrap(), "[]");
        let consumers = r#"[{"queue":{"name":"q","vhost":"team"}},{"queue":{"vhost":"other"},"vhost":"team"},{"vhost":"team"}]"#;
        assert_eq!(
            shown("consumers", "/api/consumers", consumers).unwrap(),
            r#"[{"queue":{"name":"q","vhost":"team"}}]"#
        );
        assert_eq!(
            shown("vhosts", "/api/vhosts", r#"[{"name":"other"},{"name":"team"}]"#).unwrap(),
            r#"[{"name":"team"}]"#
        );
        for strange in ["", "{}", "[1]", "[{}", r#"[{"vhost":"team","vhost":"other"}]"#, "null", "[]x"] {
            assert_eq!(shown("list", "/api/queues", strange), Err(Hidden::Strange), "{strange}");
        }
    }

    #[test]
    fn one_thing_of_another_vhost_is_not_there() {
        assert_eq!(
            shown("one", "/api/channels/c", r#"{"vhost":"team","a":1}"#).unwrap(),
            r#"{"vhost":"team","a":1}"#
        );
        assert_eq!(
            shown("one", "/api/channels/c?columns=a", r#"{"vhost":"team","a":1}"#).unwrap(),
            r#"{"a":1}"#
        );
        for hidden in [r#"{"vhost":"other"}"#, "{}", r#"{"vhost":null}"#] {
            assert_eq!(shown("one", "/api/channels/c", hidden), Err(Hidden::NotThere), "{hidden}");
            let all = format!("[{hidden}]");
            assert_eq!(shown("ofone", "/api/connections/c/channels", &all), Err(Hidden::NotThere), "{all}");
        }
        assert_eq!(shown("ofone", "/api/connections/c/channels", "[]"), Err(Hidden::NotThere));
        assert_eq!(
            shown("ofone", "/api/connections/c/channels?columns=a", r#"[{"vhost":"team","a":1}]"#).unwrap(),
            r#"[{"a":1}]"#
        );
        assert_eq!(shown("ofone", "/api/connections/c/channels", "{}"), Err(Hidden::Strange));
        assert_eq!(shown("one", "/api/channels/c", "[]"), Err(Hidden::Strange));
    }

    #[test]
    fn pages_count_what_is_shown() {
        let names = |target: &str| {
            let all: Vec<_> = (0..7)
                .map(|n| json!({"name": format!("Q{n}"), "vhost": if n < 5 { "team" } else { "other" }}))
                .collect();
            shown("list", target, &json!(all).to_string())
        };
        let json = |text: String| serde_json::from_str::<serde_json::Value>(&text).unwrap();
        let first = json(names("/api/queues?page=1&page_size=2&name=&use_regex=false").unwrap());
        assert_eq!(first["items"], json!([{"name":"Q0","vhost":"team"},{"name":"Q1","vhost":"team"}]));
        assert_eq!(
            (&first["total_count"], &first["filtered_count"], &first["page_count"]),
            (&json!(5), &json!(5), &json!(3))
        );
        let last = json(names("/api/queues?page=3&page_size=2").unwrap());
        assert_eq!((&last["item_count"], &last["page"]), (&json!(1), &json!(3)));
        let named = json(names("/api/queues?page=1&name=q4").unwrap());
        assert_eq!(
            (&named["filtered_count"], &named["total_count"], &named["page_size"]),
            (&json!(1), &json!(5), &json!(100))
        );
        assert_eq!(json(names("/api/queues?page=1&name=zz").unwrap())["items"], json!([]));
        for bad in [
            "page=0",
            "page=x",
            "page=4&page_size=2",
            "page=1&page_size=501",
            "page=1&name=a&use_regex=true",
            "page=1&page_size=-1",
        ] {
            assert!(
                matches!(names(&format!("/api/queues?{bad}")), Err(Hidden::Wrong(Wrong::Bad(_)))),
                "{bad}"
            );
        }
    }

    #[test]
    fn what_is_asked_instead() {
        let view = |name, target: &str, viewer: &Viewer<'_>| match part(name).view(&path(target), viewer) {
            View::Whole => "whole".to_owned(),
            View::Instead(path) => format!("instead {}", path.render()),
            View::Filtered(path) => format!("filtered {}", path.render()),
        };
        let level = AccessLevel::Admin;
        let some = viewer(&level);
        let one = Viewer { only: Some("te/am ü"), ..viewer(&level) };
        let all = Viewer { sees_everything: true, ..viewer(&level) };
        let list = "list=/api/vhosts/{vhost}/channels";
        let target = "/api/channels?page=1&sort=name&columns=name,node&use_regex=false";
        assert_eq!(view(list, target, &some), "filtered /api/channels?sort=name&columns=name,node,vhost");
        assert_eq!(
            view(list, target, &one),
            "instead /api/vhosts/te%2Fam%20%C3%BC/channels?page=1&sort=name&columns=name,node&use_regex=false"
        );
        assert_eq!(
            view("list~/api/vhosts/{vhost}/channels", target, &one),
            "filtered /api/vhosts/te%2Fam%20%C3%BC/channels?sort=name&columns=name,node,vhost"
        );
        assert_eq!(view(list, target, &all), "whole");
        for only in [".", "..", "a\nb", ""] {
            let strange = Viewer { only: Some(only), ..viewer(&level) };
            assert!(view(list, target, &strange).starts_with("filtered"), "{only:?}");
        }
        assert_eq!(
            view("consumers", "/api/consumers?columns=a", &some),
            "filtered /api/consumers?columns=a,queue.vhost"
        );
        assert_eq!(
            view("list", "/api/connections/x/channels?columns=", &one),
            "filtered /api/connections/x/channels?columns=vhost"
        );
        assert_eq!(
            view("one", "/api/channels/x?columns=vhost", &one),
            "filtered /api/channels/x?columns=vhost"
        );
        for (name, target) in
            [("whoami", "/api/whoami"), ("users", "/api/users"), ("definitions", "/api/definitions")]
        {
            assert_eq!(view(name, target, &all), format!("filtered {target}"));
        }
        assert_eq!(view("file", "/js/tmpl/a.ejs?0.123", &one), "instead /js/tmpl/a.ejs");
        assert_eq!(view("overview", "/api/overview", &all), "whole");
        assert_eq!(view("overview", "/api/overview", &one), "filtered /api/overview");
    }

    #[test]
    fn the_overview_tells_of_no_vhost() {
        let answer = r#"{"rates_mode":"basic","object_totals":{"queues":7},"queue_totals":{"messages":9},"listeners":[1],
            "node":"a","contexts":[],"message_stats":{"publish":4},"new_member":5,"cluster_name":"c"}"#;
        assert_eq!(
            shown("overview", "/api/overview", answer).unwrap(),
            r#"{"rates_mode":"basic","queue_totals":{},"message_stats":{},"cluster_name":"c"}"#
        );
    }

    #[test]
    fn one_is_the_person_and_not_the_connector() {
        let theirs = r#"{"name":"connector","tags":["administrator"],"is_internal_user":true,"login_session_timeout":5}"#;
        let of = |viewer: &Viewer<'_>, theirs: &str| {
            let shown = part("whoami").show(&path("/api/whoami"), viewer, theirs.as_bytes()).unwrap();
            serde_json::from_slice::<serde_json::Value>(&shown).unwrap()
        };
        let (read, admin) = (AccessLevel::Read, AccessLevel::Admin);
        assert_eq!(
            of(&viewer(&read), theirs),
            json!({"name":"alice","tags":["management"],"login_session_timeout":5})
        );
        assert_eq!(
            of(&viewer(&admin), r#"{"name":"c","tags":"monitoring"}"#),
            json!({"name":"alice","tags":"management,policymaker"})
        );
        let all = Viewer { sees_everything: true, ..viewer(&admin) };
        assert_eq!(of(&all, theirs)["tags"], json!(["administrator"]));
    }

    #[test]
    fn accounts_keep_their_secrets() {
        let user = r#"{"name":"a","password_hash":"x","hashing_algorithm":"y","tags":[]}"#;
        assert_eq!(shown("users", "/api/users/a", user).unwrap(), r#"{"name":"a","tags":[]}"#);
        assert_eq!(
            shown("users", "/api/users", &format!("[{user}]")).unwrap(),
            r#"[{"name":"a","tags":[]}]"#
        );
        let definitions = r#"{"users":[1],"queues":[],"permissions":[],"topic_permissions":[],"vhosts":[2]}"#;
        assert_eq!(
            shown("definitions", "/api/definitions", definitions).unwrap(),
            r#"{"queues":[],"vhosts":[2]}"#
        );
    }
}
