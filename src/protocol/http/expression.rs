//! Index expressions: what stands where several indices may be named, and which of them are sent under a grant.

use std::collections::BTreeSet;

use super::resolve::Catalog;
use super::{Wrong, names};
use crate::grant::Scope;
use crate::model::{Reach, limits, pattern};

/// `logs-1,metrics-*,-metrics-old`, with the rules by which its wildcards are read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Expression {
    parts: Vec<Part>,
    expand: Expand,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Name(String),
    Wildcard(String),
    /// What is taken away of what came before it: a name, or a wildcard.
    Without(String),
}

/// What wildcards stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Expand {
    pub kind: Kind,
    pub open: bool,
    pub closed: bool,
    pub hidden: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Indices, data streams, and aliases, which are what they stand for.
    Indices,
    /// Aliases alone.
    Aliases,
}

/// What an expression comes to under a grant.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// In the order of names. May be none.
    pub sent: BTreeSet<String>,
    /// All that must be covered for what the wildcards stand for.
    pub touched: BTreeSet<String>,
    /// Not everything that the wildcards match is covered; or one matches nothing, and could match what is not.
    pub partial: bool,
    /// How many of the names come from wildcards.
    pub found: usize,
}

/// More of them than what is looked for.
pub(super) const MANY: Wrong = Wrong::Bad("the request has too many different wildcards");

impl Part {
    fn is_looked_for(&self) -> bool {
        matches!(self, Self::Wildcard(_) | Self::Without(_))
    }
}

impl Expand {
    pub const OPEN: Self = Self { kind: Kind::Indices, open: true, closed: false, hidden: false };
    pub const EVERY: Self = Self { closed: true, hidden: true, ..Self::OPEN };

    /// `expand_wildcards`: open, closed, hidden, none or all, or several of them.
    pub fn said(self, text: &str) -> Result<Self, Wrong> {
        let mut said = Self { open: false, closed: false, hidden: false, ..self };
        for word in text.split(',') {
            match word.trim() {
                "open" => said.open = true,
                "closed" => said.closed = true,
                "hidden" => said.hidden = true,
                "none" => (said.open, said.closed, said.hidden) = (false, false, false),
                "all" => (said.open, said.closed, said.hidden) = (true, true, true),
                _ => return Err(Wrong::Bad("expand_wildcards must be open, closed, hidden, none or all")),
            }
        }
        Ok(said)
    }
}

impl Expression {
    /// All that there is.
    pub fn everything(expand: Expand) -> Self {
        Self { parts: vec![Part::Wildcard("*".into())], expand }
    }

    /// Reads one, and adds to `reach` what is named in it. `None`: that is all, or no look at the cluster helps.
    pub fn parse(text: &str, expand: Expand, reach: &mut Reach) -> Result<Option<Self>, Wrong> {
        Self::of(text.split(','), expand, reach)
    }

    pub fn of<'a>(
        texts: impl Iterator<Item = &'a str> + Clone,
        expand: Expand,
        reach: &mut Reach,
    ) -> Result<Option<Self>, Wrong> {
        let alone = texts.clone().count() == 1;
        let mut parts = Vec::new();
        let mut wild = 0;
        for text in texts {
            // What it is without its sign must be right by itself.
            let (taken_away, name) = match text.strip_prefix('-').filter(|_| wild > 0) {
                Some(name) => (true, name),
                None => (false, text),
            };
            let part = match names::shape(name)? {
                names::Shape::Name if taken_away => Part::Without(name.into()),
                names::Shape::Wildcard if taken_away => Part::Without(name.into()),
                names::Shape::Name => {
                    reach.add(name);
                    Part::Name(name.into())
                }
                names::Shape::Wildcard => Part::Wildcard(name.into()),
                names::Shape::All if alone => Part::Wildcard("*".into()),
                names::Shape::All => {
                    reach.everything("_all beside others");
                    return Ok(None);
                }
                names::Shape::Elsewhere(why) => {
                    reach.everything(why);
                    return Ok(None);
                }
            };
            wild += usize::from(part.is_looked_for());
            if wild > limits::HTTP_WILDCARDS_MAX {
                return Err(MANY);
            }
            parts.push(part);
        }
        Ok((wild > 0).then_some(Self { parts, expand }))
    }

    /// What is sent under a grant for it. What is named plainly is sent, whoever asks; of what the wildcards stand for,
    /// what the grant covers.
    pub fn under(&self, catalog: &Catalog, scope: &Scope) -> Outcome {
        let mut outcome = Outcome::default();
        let mut names = BTreeSet::new();
        let mut found = BTreeSet::new();
        for part in &self.parts {
            match part {
                Part::Name(name) => drop(names.insert(name.clone())),
                Part::Wildcard(wildcard) => {
                    let matched = catalog.matches(wildcard, self.expand);
                    outcome.partial |= matched.is_empty() && !scope.fits(wildcard);
                    found.extend(matched);
                }
                Part::Without(text) => {
                    let matched = catalog.matches(text, self.expand);
                    let matched: BTreeSet<&str> = matched.iter().map(|one| one.sent.as_str()).collect();
                    let gone = |name: &str| name == text || matched.contains(name);
                    found.retain(|one| !gone(&one.sent));
                    names.retain(|name| !gone(name));
                }
            }
        }
        for one in found {
            match one.touched.iter().all(|name| scope.fits(name) && !names::is_sealed(name)) {
                true => {
                    outcome.found += usize::from(outcome.sent.insert(one.sent));
                    outcome.touched.extend(one.touched);
                }
                false => outcome.partial = true,
            }
        }
        outcome.sent.extend(names);
        outcome
    }

    /// Whether its wildcards stand for a name that leads to the cluster's own accounts. A list of aliases tells of no
    /// more than what they are called.
    pub fn leads_to_accounts(&self, catalog: &Catalog) -> bool {
        let mut found = BTreeSet::new();
        for part in &self.parts {
            match part {
                Part::Name(name) => drop(catalog.is_veil(name).then(|| found.insert(name.as_str()))),
                Part::Wildcard(wildcard) => found.extend(catalog.accounts(wildcard, self.expand)),
                Part::Without(text) => found.retain(|name| !pattern::matches(text, name)),
            }
        }
        self.expand.kind == Kind::Indices && !found.is_empty()
    }

    /// What is sent where nothing is left: a list that means nothing, whatever there is, to each server.
    pub fn nothing(&self) -> Vec<String> {
        match self.expand.kind {
            Kind::Indices => vec!["*".into(), "-*".into()],
            // No alias may have this in its name.
            Kind::Aliases => vec!["\"".into()],
        }
    }

    /// How many of its parts are looked for among all names of the cluster.
    pub fn wildness(&self) -> usize {
        self.parts.iter().filter(|part| part.is_looked_for()).count()
    }

    /// Its wildcards, as they were said.
    pub fn wildcards(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Wildcard(text) => Some(text.as_str()),
            Part::Name(_) | Part::Without(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<(Option<Expression>, Reach), Wrong> {
        let mut reach = Reach::nothing();
        Expression::parse(text, Expand::OPEN, &mut reach).map(|expression| (expression, reach))
    }

    fn names(names: &[&str]) -> Reach {
        Reach::Names(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn an_expression_has_names_wildcards_and_what_is_taken_away() {
        use Part::{Name, Wildcard, Without};
        for (text, parts, named) in [
            ("a,b", None, names(&["a", "b"])),
            ("_all", Some(vec![Wildcard("*".into())]), names(&[])),
            ("*", Some(vec![Wildcard("*".into())]), names(&[])),
            ("a,b-*", Some(vec![Name("a".into()), Wildcard("b-*".into())]), names(&["a"])),
            (
                "b-*,-b-1,-*x,.c*",
                Some(vec![
                    Wildcard("b-*".into()),
                    Without("b-1".into()),
                    Without("*x".into()),
                    Wildcard(".c*".into()),
                ]),
                names(&[]),
            ),
        ] {
            let (expression, reach) = parse(text).unwrap();
            assert_eq!((expression.map(|expression| expression.parts), reach), (parts, named), "{text}");
        }
        // A cluster takes a minus ahead of every wildcard for a part of a name; it is none.
        for elsewhere in [
            "-a",
            "-*",
            "a,-b",
            "<a-{now/d}>",
            "a*,<b>",
            "c:a",
            "c:*",
            "*:a",
            "a*,_all",
            "a::failures",
            "a*,-c:b",
        ] {
            let (expression, reach) = parse(elsewhere).unwrap();
            assert!(expression.is_none() && matches!(reach, Reach::Everything(_)), "{elsewhere}");
        }
        for bad in
            ["", "*,", ",*", "*,-", "_*", "+*", "a*,b c", "a*,b?", "*,-_x", "*/x", "%2a*", "*\"", "*,-*#"]
        {
            assert!(matches!(parse(bad), Err(Wrong::Bad(_))), "{bad}");
        }
        for sealed in ["*.security", ".security*", "*,-.security-7", "a*.SECURITY*"] {
            assert!(matches!(parse(sealed), Err(Wrong::Denied(_))), "{sealed}");
        }
    }

    #[test]
    fn states_are_said_as_the_cluster_reads_them() {
        let said = |text: &str| Expand::OPEN.said(text).map(|said| (said.open, said.closed, said.hidden));
        assert_eq!(said("open,hidden"), Ok((true, false, true)));
        assert_eq!(said("closed"), Ok((false, true, false)));
        assert_eq!(said("all"), Ok((true, true, true)));
        assert_eq!(said("none"), Ok((false, false, false)));
        assert!(said("").is_err() && said("open,x").is_err() && said("OPEN").is_err());
    }

    fn catalog() -> Catalog {
        let aliases = br#"{"logs-1":{"aliases":{"logs-all":{},"mixed":{}}},"secret":{"aliases":{"mixed":{}}},
            ".security-7":{"aliases":{"logs-sec":{}}}}"#;
        let indices =
            br#"{"indices":[{"name":"logs-1","attributes":["open"]},{"name":"logs-2","attributes":["open"]},
            {"name":"secret","attributes":["open"]},{"name":".security-7","attributes":["open","hidden"]}],
            "aliases":[],"data_streams":[]}"#;
        Catalog::of_aliases(aliases).unwrap().with_indices(indices).unwrap()
    }

    fn under(text: &str, scope: &[&str]) -> (Vec<String>, bool) {
        let expression = parse(text).unwrap().0.unwrap();
        let outcome = expression.under(&catalog(), &Scope::of(scope));
        (outcome.sent.into_iter().collect(), outcome.partial)
    }

    #[test]
    fn what_is_covered_is_sent() {
        let sent = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let logs = &["logs-*"][..];
        assert_eq!(under("logs-1*", logs), (sent(&["logs-1"]), false));
        assert_eq!(under("*", logs), (sent(&["logs-1", "logs-2"]), true), "there is more");
        assert_eq!(under("*,-secret", &["logs-*", "mixed"]), (sent(&["logs-1", "logs-2"]), true));
        assert_eq!(under("l*,-logs-sec", logs), (sent(&["logs-1", "logs-2"]), false));
        assert_eq!(under("*,-logs-1", logs).0, sent(&["logs-2"]));
        assert_eq!(under("*,-*", logs), (sent(&[]), false));
        assert_eq!(under("mix*", logs), (sent(&[]), true), "an alias is as granted as all behind it");
        assert_eq!(under("mix*", &["mixed", "logs-1", "secret"]), (sent(&["logs-1", "secret"]), false));
        // Whether there is something or not: what is not covered is answered alike.
        assert_eq!(under("sec*", logs), (sent(&[]), true));
        assert_eq!(under("sed*", logs), (sent(&[]), true));
        assert_eq!(under("logs-9*", logs), (sent(&[]), false), "all that it could match is covered");
        // The cluster's own accounts are behind no wildcard.
        assert_eq!(under(".*", &[".*", "logs-*"]).0, sent(&[]));
        assert_eq!(under("logs-s*", &[".*", "logs-*"]).0, sent(&[]));
    }
}
