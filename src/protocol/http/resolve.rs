//! Aliases: a name may stand for others, and is only as granted as all of them.

use std::collections::{BTreeMap, BTreeSet};

use super::json::Json;
use crate::model::{Reach, Touch};

/// What each alias of a cluster stands for, as `GET /_alias` says it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Aliases(BTreeMap<String, BTreeSet<String>>);

impl Aliases {
    /// Reads the answer: `{"INDEX": {"aliases": {"ALIAS": {…}}}}`.
    pub fn parse(answer: &[u8]) -> Result<Self, &'static str> {
        const STRANGE: &str = "the cluster's answer about its aliases has another form";
        let json = Json::parse(answer)?;
        let mut aliases: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (index, about) in json.object().ok_or(STRANGE)? {
            let about = about.object().and_then(|about| about.get("aliases")).ok_or(STRANGE)?;
            for alias in about.object().ok_or(STRANGE)?.keys() {
                aliases.entry(alias.clone()).or_default().insert(index.clone());
            }
        }
        Ok(Self(aliases))
    }

    /// The same touch with what its aliases stand for.
    pub fn resolve(&self, touch: &Touch) -> Touch {
        let Reach::Names(names) = &touch.reach else { return touch.clone() };
        let behind = names.iter().filter_map(|name| self.0.get(name)).flatten();
        let all = names.iter().chain(behind).cloned().collect();
        Touch { level: touch.level.clone(), reach: Reach::Names(all) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::AccessLevel;

    #[test]
    fn an_alias_touches_what_it_stands_for() {
        let answer = br#"{"secret":{"aliases":{"logs-x":{},"b":{"filter":{}}}},"logs-1":{"aliases":{"b":{}}},
                          "plain":{"aliases":{}}}"#;
        let aliases = Aliases::parse(answer).unwrap();
        let touch = |names: &[&str]| Touch {
            level: AccessLevel::Read,
            reach: Reach::Names(names.iter().map(|name| (*name).to_owned()).collect()),
        };
        assert_eq!(aliases.resolve(&touch(&["logs-x"])), touch(&["logs-x", "secret"]));
        assert_eq!(aliases.resolve(&touch(&["b", "plain"])), touch(&["b", "logs-1", "plain", "secret"]));
        let all = Touch { level: AccessLevel::Read, reach: Reach::Everything("_all") };
        assert_eq!(aliases.resolve(&all), all);
        for strange in
            ["[]", "{\"a\":{}}", "{\"error\":{\"reason\":\"x\"},\"status\":403}", "{\"a\":{\"aliases\":[]}}"]
        {
            assert!(Aliases::parse(strange.as_bytes()).is_err(), "{strange}");
        }
    }
}
