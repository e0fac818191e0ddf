use std::collections::BTreeSet;

use super::{AccessLevel, GrantId};

/// What one request takes and touches, where the proxy itself authorizes (Elasticsearch, OpenSearch).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touch {
    /// The least that it takes.
    pub level: AccessLevel,
    pub reach: Reach,
    /// The grant that it must be, where it goes on with something that was begun under one.
    pub grant: Option<GrantId>,
}

impl Touch {
    /// Under any grant.
    pub fn new(level: AccessLevel, reach: Reach) -> Self {
        Self { level, reach, grant: None }
    }
}

/// What is touched, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// These, and nothing else. May be none.
    Names(BTreeSet<String>),
    /// What no list of names can say, for this reason. Only a grant for everything covers it.
    Everything(&'static str),
}

impl Reach {
    pub fn nothing() -> Self {
        Self::Names(BTreeSet::new())
    }

    pub fn add(&mut self, name: &str) {
        if let Self::Names(names) = self {
            names.insert(name.to_owned());
        }
    }

    /// The first reason stays.
    pub fn everything(&mut self, why: &'static str) {
        if let Self::Names(_) = self {
            *self = Self::Everything(why);
        }
    }
}
