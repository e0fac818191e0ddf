//! What a cluster has: its indices, its aliases, which are as granted as all that they stand for, and its data streams.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::expression::{Expand, Kind};
use super::names;
use crate::model::{Reach, Touch, pattern};

/// What names of a cluster stand for, as it said at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    aliases: BTreeMap<String, Alias>,
    /// `None`: the cluster does not say, so nobody knows what a wildcard stands for.
    indices: Option<BTreeMap<String, Index>>,
    /// Each data stream's indices.
    streams: BTreeMap<String, BTreeSet<String>>,
    /// Aliases that lead to the cluster's own accounts, and are not called so.
    veils: BTreeSet<String>,
    /// Their indices, as far as they are told.
    accounts: BTreeSet<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Alias {
    /// Indices, or data streams.
    stands_for: BTreeSet<String>,
    /// It has a filter or a routing, which the names behind it have not.
    narrows: bool,
    hidden: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Index {
    closed: bool,
    hidden: bool,
    /// The data stream that it belongs to.
    stream: Option<String>,
}

/// What one name is sent as, and all that must be covered for that.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Found {
    pub sent: String,
    pub touched: BTreeSet<String>,
}

/// `GET /_alias`: `{"INDEX": {"aliases": {"ALIAS": {…}}}}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    aliases: BTreeMap<String, AliasRules>,
}

#[derive(Deserialize)]
struct AliasRules {
    filter: Option<serde::de::IgnoredAny>,
    index_routing: Option<serde::de::IgnoredAny>,
    search_routing: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    is_hidden: bool,
}

/// `GET /_resolve/index/*`.
#[derive(Deserialize)]
struct Resolved {
    indices: Vec<ResolvedIndex>,
    data_streams: Vec<ResolvedStream>,
}

#[derive(Deserialize)]
struct ResolvedIndex {
    name: String,
    attributes: Vec<String>,
    data_stream: Option<String>,
}

#[derive(Deserialize)]
struct ResolvedStream {
    name: String,
    backing_indices: OneOrMore,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(BTreeSet<String>),
}

/// `GET /_cat/indices?format=json`.
#[derive(Deserialize)]
struct Row {
    index: String,
    status: String,
}

const STRANGE: &str = "the cluster's answer about its indices has another form";

impl Catalog {
    /// Reads what it says of its aliases.
    pub fn of_aliases(answer: &[u8]) -> Result<Self, &'static str> {
        let said: BTreeMap<String, About> = serde_json::from_slice(answer).map_err(|_| STRANGE)?;
        let mut aliases: BTreeMap<String, Alias> = BTreeMap::new();
        for (index, about) in said {
            for (name, rules) in about.aliases {
                let alias = aliases.entry(name).or_default();
                alias.stands_for.insert(index.clone());
                let routed = rules.index_routing.is_some() || rules.search_routing.is_some();
                alias.narrows |= routed || rules.filter.is_some();
                alias.hidden |= rules.is_hidden;
            }
        }
        let leads = |alias: &Alias| alias.stands_for.iter().any(|behind| names::is_sealed(behind));
        let veils = aliases.iter().filter(|(name, alias)| !names::is_sealed(name) && leads(alias));
        let veils = veils.map(|(name, _)| name.clone()).collect();
        Ok(Self { aliases, veils, ..Self::default() })
    }

    /// Adds what it says of its indices and data streams.
    pub fn with_indices(mut self, answer: &[u8]) -> Result<Self, &'static str> {
        let said: Resolved = serde_json::from_slice(answer).map_err(|_| STRANGE)?;
        let has = |index: &ResolvedIndex, what| index.attributes.iter().any(|known| known == what);
        let index = |index: ResolvedIndex| {
            let (closed, hidden) = (has(&index, "closed"), has(&index, "hidden"));
            (index.name, Index { closed, hidden, stream: index.data_stream })
        };
        let accounts = said.indices.iter().filter(|index| names::is_sealed(&index.name));
        self.accounts = accounts.map(|index| index.name.clone()).collect();
        self.indices = Some(said.indices.into_iter().map(index).collect());
        let stream = |stream: ResolvedStream| match stream.backing_indices {
            OneOrMore::One(index) => (stream.name, BTreeSet::from([index])),
            OneOrMore::More(indices) => (stream.name, indices),
        };
        self.streams = said.data_streams.into_iter().map(stream).collect();
        Ok(self)
    }

    /// The same of a cluster that is too old for [`Catalog::with_indices`], and so has no data streams.
    pub fn with_rows(mut self, answer: &[u8]) -> Result<Self, &'static str> {
        let rows: Vec<Row> = serde_json::from_slice(answer).map_err(|_| STRANGE)?;
        let index = |row: Row| (row.index, Index { closed: row.status != "open", ..Index::default() });
        let accounts = rows.iter().filter(|row| names::is_sealed(&row.index));
        self.accounts = accounts.map(|row| row.index.clone()).collect();
        self.indices = Some(rows.into_iter().map(index).collect());
        Ok(self)
    }

    /// Whether all of these are there, so that what writes to them makes none of them.
    pub fn knows(&self, reach: &Reach) -> bool {
        let Reach::Names(names) = reach else { return false };
        let has = |name: &String| {
            let index = self.indices.as_ref().is_none_or(|indices| indices.contains_key(name));
            index || self.aliases.contains_key(name) || self.streams.contains_key(name)
        };
        names.iter().all(has)
    }

    /// Whether there is another name for the cluster's own accounts, or a wildcard could stand for them.
    pub(super) fn has_accounts(&self) -> bool {
        !self.veils.is_empty() || !self.accounts.is_empty()
    }

    /// Whether a name, or one of those that a text with wildcards fits, leads to the cluster's own accounts and does
    /// not say so.
    pub fn is_veil(&self, text: &str) -> bool {
        // What of an index is meant (`::data`) is no part of its name.
        let text = text.split_once("::").map_or(text, |(name, _)| name);
        let text = if text.contains('<') { Cow::Owned(names::undated(text)) } else { Cow::Borrowed(text) };
        let fits = |veil: &String| *veil == *text || text.contains('*') && pattern::matches(&text, veil);
        self.veils.iter().any(fits)
    }

    /// What of that a wildcard stands for. Of one for everything only aliases: its cluster knows what to keep from it.
    pub(super) fn accounts<'a>(&'a self, wildcard: &'a str, expand: Expand) -> impl Iterator<Item = &'a str> {
        let shown = move |name: &str, hidden: bool| {
            !hidden || expand.hidden || name.starts_with('.') && wildcard.starts_with('.')
        };
        let alias = move |name: &&String| {
            let hidden = self.aliases.get(*name).is_some_and(|alias| alias.hidden);
            pattern::matches(wildcard, name) && shown(name, hidden)
        };
        let index = move |name: &&String| {
            let known = self.indices.as_ref().and_then(|indices| indices.get(*name));
            pattern::matches(wildcard, name) && shown(name, known.is_some_and(|index| index.hidden))
        };
        let indices = self.accounts.iter().filter(move |name| !names::is_all(wildcard) && index(name));
        self.veils.iter().filter(alias).chain(indices).map(String::as_str)
    }

    /// Whether each of these is one of its indices, aliases or data streams, and so nothing else that could be called
    /// so.
    pub fn has(&self, reach: &Reach) -> bool {
        let Reach::Names(names) = reach else { return false };
        let index = |name: &String| self.indices.as_ref().is_some_and(|indices| indices.contains_key(name));
        let has =
            |name: &String| index(name) || self.aliases.contains_key(name) || self.streams.contains_key(name);
        names.iter().all(has)
    }

    pub fn knows_indices(&self) -> bool {
        self.indices.is_some()
    }

    /// The same touch with what its names stand for.
    pub fn resolve(&self, touch: &Touch) -> Touch {
        let Reach::Names(names) = &touch.reach else { return touch.clone() };
        let all: BTreeSet<String> = names.iter().flat_map(|name| self.behind(name)).collect();
        // Another name for them is no way to the cluster's accounts, whatever a grant covers.
        let reach = match all.iter().any(|name| names::is_sealed(name)) {
            true => Reach::Everything("the cluster's own accounts"),
            false => Reach::Names(all),
        };
        Touch { reach, ..touch.clone() }
    }

    /// What is behind a name, where that is something else.
    pub(super) fn stands_for(&self, name: &str) -> Vec<String> {
        self.behind(name).into_iter().filter(|behind| behind != name).collect()
    }

    /// A name, and what must be covered for it besides.
    fn behind(&self, name: &str) -> BTreeSet<String> {
        let mut all = BTreeSet::from([name.to_owned()]);
        let alias = self.aliases.get(name).map(|alias| &alias.stands_for);
        for behind in alias.into_iter().flatten() {
            all.extend(self.parts(behind));
        }
        all.extend(self.parts(name));
        all
    }

    /// What must be covered for an index or a data stream. An index that a stream made for itself, as its name shows,
    /// is covered with the stream; one that was put into it is not.
    fn parts(&self, name: &str) -> BTreeSet<String> {
        let own = |index: &str, stream: &str| {
            index.strip_prefix(".ds-").and_then(|rest| rest.strip_prefix(stream)?.strip_prefix('-')).is_some()
        };
        if let Some(indices) = self.streams.get(name) {
            let others = indices.iter().filter(|index| !own(index, name)).cloned();
            return others.chain([name.to_owned()]).collect();
        }
        let index = self.indices.as_ref().and_then(|indices| indices.get(name));
        match index.and_then(|index| index.stream.as_deref()) {
            Some(stream) if own(name, stream) => BTreeSet::from([stream.to_owned()]),
            _ => BTreeSet::from([name.to_owned()]),
        }
    }

    /// All that a wildcard stands for.
    pub(super) fn matches(&self, wildcard: &str, expand: Expand) -> Vec<Found> {
        // A name that begins with a dot is hidden to a wildcard that does not, where it is hidden at all.
        let shown = |name: &str, hidden: bool| {
            !hidden || expand.hidden || (name.starts_with('.') && wildcard.starts_with('.'))
        };
        let fits = |name: &str, hidden| pattern::matches(wildcard, name) && shown(name, hidden);
        let mut found = Vec::new();
        for (name, alias) in &self.aliases {
            if fits(name, alias.hidden) {
                self.alias(name, alias, expand, &mut found);
            }
        }
        if expand.kind == Kind::Aliases {
            return found;
        }
        for (name, index) in self.indices.iter().flatten() {
            if fits(name, index.hidden) && self.is_open_to(name, expand) {
                found.push(Found { sent: name.clone(), touched: self.parts(name) });
            }
        }
        for name in self.streams.keys() {
            if fits(name, false) && expand.open {
                found.push(Found { sent: name.clone(), touched: self.parts(name) });
            }
        }
        found
    }

    /// An alias that narrows keeps its name, others are what is behind them: a name that is put elsewhere in the
    /// meantime leads nowhere else.
    fn alias(&self, name: &str, alias: &Alias, expand: Expand, found: &mut Vec<Found>) {
        let touched = self.behind(name);
        if expand.kind == Kind::Aliases || alias.narrows {
            found.push(Found { sent: name.to_owned(), touched });
            return;
        }
        let open = alias.stands_for.iter().filter(|behind| self.is_open_to(behind, expand));
        found.extend(open.map(|behind| Found { sent: behind.clone(), touched: touched.clone() }));
    }

    /// Whether it is in a state that wildcards stand for.
    fn is_open_to(&self, name: &str, expand: Expand) -> bool {
        let index = self.indices.as_ref().and_then(|indices| indices.get(name));
        match index.is_some_and(|index| index.closed) {
            true => expand.closed,
            false => expand.open,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::AccessLevel;

    fn touch(names: &[&str]) -> Touch {
        let reach = Reach::Names(names.iter().map(|name| (*name).to_owned()).collect());
        Touch::new(AccessLevel::Read, reach)
    }

    #[test]
    fn an_alias_touches_what_it_stands_for() {
        let answer = br#"{"secret":{"aliases":{"logs-x":{},"b":{"filter":{}}}},"logs-1":{"aliases":{"b":{}}},
                          "plain":{"aliases":{}}}"#;
        let catalog = Catalog::of_aliases(answer).unwrap();
        assert!(!catalog.knows_indices());
        assert_eq!(catalog.resolve(&touch(&["logs-x"])), touch(&["logs-x", "secret"]));
        assert_eq!(catalog.resolve(&touch(&["b", "plain"])), touch(&["b", "logs-1", "plain", "secret"]));
        let all = Touch::new(AccessLevel::Read, Reach::Everything("_all"));
        assert_eq!(catalog.resolve(&all), all);
        let accounts = Catalog::of_aliases(br#"{".security-7":{"aliases":{".mine":{}}}}"#).unwrap();
        assert!(matches!(accounts.resolve(&touch(&[".mine"])).reach, Reach::Everything(_)));
        for strange in
            ["[]", "{\"a\":{}}", "{\"error\":{\"reason\":\"x\"},\"status\":403}", "{\"a\":{\"aliases\":[]}}"]
        {
            assert!(Catalog::of_aliases(strange.as_bytes()).is_err(), "{strange}");
        }
    }

    /// The form of OpenSearch 3.4 and Elasticsearch 7.9 to 9.
    const RESOLVED: &str = r#"{
        "indices":[{"name":"logs-1","aliases":["all"],"attributes":["open"]},
            {"name":"logs-2","attributes":["closed"]},{"name":"logs-3","attributes":["open","hidden"]},
            {"name":"secret","attributes":["open"]},{"name":".kibana","attributes":["hidden","open"]},
            {"name":".ds-logs-s-000001","attributes":["hidden","open"],"data_stream":"logs-s"},
            {"name":"old","attributes":["open"],"data_stream":"logs-t"}],
        "aliases":[{"name":"all","indices":["logs-1","secret"]}],
        "data_streams":[{"name":"logs-s","backing_indices":[".ds-logs-s-000001"],"timestamp_field":"@timestamp"},
            {"name":"logs-t","backing_indices":"old","timestamp_field":"@timestamp"}]}"#;
    const ALIASES: &str = r#"{"logs-1":{"aliases":{"all":{},"logs-mine":{"filter":{"term":{"a":1}}}}},
        "secret":{"aliases":{"all":{},"veiled":{"is_hidden":true}}},"logs-s":{"aliases":{"stream":{}}},
        "logs-2":{"aliases":{"routed":{"search_routing":"x"}}}}"#;

    fn catalog() -> Catalog {
        Catalog::of_aliases(ALIASES.as_bytes()).unwrap().with_indices(RESOLVED.as_bytes()).unwrap()
    }

    fn sent(wildcard: &str, expand: Expand) -> Vec<String> {
        let mut sent: Vec<_> =
            catalog().matches(wildcard, expand).into_iter().map(|found| found.sent).collect();
        sent.sort();
        sent.dedup();
        sent
    }

    #[test]
    fn a_wildcard_stands_for_open_indices_and_streams_and_what_aliases_stand_for() {
        let open = Expand::OPEN;
        assert_eq!(sent("logs-*", open), ["logs-1", "logs-mine", "logs-s", "logs-t"]);
        assert_eq!(sent("a*", open), ["logs-1", "secret"]);
        assert_eq!(sent("s*", open), ["logs-s", "secret"]);
        assert_eq!(sent("v*", open), Vec::<String>::new());
        assert_eq!(sent("r*", open), ["routed"]);
        assert_eq!(sent(".k*", open), [".kibana"], "a dot of its own shows it");
        let all = Expand { closed: true, hidden: true, ..open };
        assert_eq!(sent("logs-*", all), ["logs-1", "logs-2", "logs-3", "logs-mine", "logs-s", "logs-t"]);
        assert_eq!(sent("*ibana", all), [".kibana"]);
        let known = |names: &[&str]| catalog().knows(&touch(names).reach);
        assert!(known(&["logs-2", "all", "logs-s"]) && !known(&["logs-1", "logs-9"]));
        assert!(!catalog().knows(&Reach::Everything("_all")));
        assert_eq!(
            sent("*", Expand { kind: Kind::Aliases, ..open }),
            ["all", "logs-mine", "routed", "stream"]
        );
        assert_eq!(sent("*", Expand { open: false, ..open }), ["logs-mine", "routed"]);
    }

    #[test]
    fn what_must_be_covered_for_each() {
        let touched = |wildcard, sent: &str| {
            let all = Expand { hidden: true, ..Expand::OPEN };
            let found =
                catalog().matches(wildcard, all).into_iter().find(|found| found.sent == sent).unwrap();
            found.touched.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(touched("logs-1", "logs-1"), ["logs-1"]);
        assert_eq!(touched("all", "logs-1"), ["all", "logs-1", "secret"]);
        assert_eq!(touched("logs-mine", "logs-mine"), ["logs-1", "logs-mine"]);
        assert_eq!(touched("logs-s", "logs-s"), ["logs-s"]);
        assert_eq!(touched("logs-t", "logs-t"), ["logs-t", "old"], "an index that was put into it");
        assert_eq!(touched("stream", "logs-s"), ["logs-s", "stream"]);
        assert_eq!(touched(".ds-*", ".ds-logs-s-000001"), ["logs-s"]);
        assert_eq!(catalog().resolve(&touch(&["logs-t"])), touch(&["logs-t", "old"]));
        assert_eq!(
            catalog().resolve(&touch(&[".ds-logs-s-000001"])),
            touch(&[".ds-logs-s-000001", "logs-s"]),
            "a name that was said must be covered itself"
        );
    }

    #[test]
    fn another_name_for_the_accounts_is_known() {
        let aliases = br#"{".security-7":{"aliases":{".security":{"is_hidden":true},"people":{},"veiled":{"is_hidden":true}}},
            "logs-1":{"aliases":{"logs":{}}}}"#;
        let indices = br#"{"indices":[{"name":".security-7","attributes":["open","hidden"]},
            {"name":".opendistro_security","attributes":["open"]},{"name":"logs-1","attributes":["open"]}],
            "aliases":[],"data_streams":[]}"#;
        let catalog = Catalog::of_aliases(aliases).unwrap().with_indices(indices).unwrap();
        for (text, is_veil) in [
            ("people", true),
            ("peo*", true),
            ("veiled", true),
            ("logs", false),
            ("logs-*", false),
            (".security", false),
        ] {
            assert_eq!(catalog.is_veil(text), is_veil, "{text}");
        }
        let of = |wildcard: &'static str, expand| catalog.accounts(wildcard, expand).collect::<Vec<_>>();
        let every = Expand { hidden: true, ..Expand::OPEN };
        assert_eq!(of("*", Expand::OPEN), ["people"]);
        assert_eq!(of("*", every), ["people", "veiled"]);
        assert_eq!(of("log*", every), Vec::<&str>::new());
        assert_eq!(of("*y-7", every), [".security-7"]);
        assert_eq!(of("*y-7", Expand::OPEN), Vec::<&str>::new());
        assert_eq!(of("*_sec*", Expand::OPEN), [".opendistro_security"]);
        assert!(catalog.has_accounts() && !self::catalog().has_accounts());
    }

    #[test]
    fn an_old_cluster_says_it_in_rows() {
        let rows = r#"[{"index":"a","status":"open"},{"index":"b","status":"close"}]"#;
        let catalog = Catalog::of_aliases(b"{}").unwrap().with_rows(rows.as_bytes()).unwrap();
        let found = |expand| catalog.matches("*", expand).len();
        assert_eq!((found(Expand::OPEN), found(Expand { closed: true, ..Expand::OPEN })), (1, 2));
        for strange in ["{}", "[{\"index\":\"a\"}]", "[\"a\"]"] {
            assert!(Catalog::default().with_rows(strange.as_bytes()).is_err(), "{strange}");
            assert!(Catalog::default().with_indices(strange.as_bytes()).is_err(), "{strange}");
        }
        assert!(Catalog::default().with_indices(b"{\"took\":1}").is_err());
    }
}
