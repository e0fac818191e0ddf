//! Elasticsearch and OpenSearch, of which one table knows what both have.

use super::api::{Api, Routed};
use super::{Answer, Asked, Bulk, ContentType, Path, Several, Wrong, head, refusal, routes};
use crate::model::{Refusal, Time, Touch};

pub(super) struct Search;

impl Api for Search {
    fn route(&self, method: &str, path: &Path) -> Result<Box<dyn Routed>, Wrong> {
        Ok(Box::new(routes::Routed::of(method, path)?))
    }

    fn dated(&self, method: &str, path: &Path, now: Time) -> Option<Result<Path, Wrong>> {
        routes::dated(method, path, now).transpose()
    }

    fn render(&self, path: &Path) -> String {
        path.render()
    }

    fn said_to_anybody(&self, _: &str, _: &str) -> Option<&'static str> {
        None
    }

    fn answer(&self, refusal: &Refusal) -> Answer {
        refusal::answer(refusal)
    }

    fn has_aliases(&self) -> bool {
        true
    }

    fn reads(&self, content_type: &str) -> bool {
        ContentType::parse(content_type).is_some()
    }

    fn sent_on(&self) -> &'static [&'static str] {
        &head::SENT_ON
    }

    fn told(&self) -> &'static [&'static str] {
        &head::TOLD
    }

    /// The official clients take the answer of nobody else.
    fn marks(&self) -> &'static [(&'static str, &'static str)] {
        &[("x-elastic-product", "Elasticsearch")]
    }

    fn probe(&self) -> &'static str {
        "/"
    }

    fn goes_on_with(&self) -> Vec<&'static str> {
        routes::actions().collect()
    }

    fn says_login_failed(&self, _: &[u8]) -> bool {
        true
    }
}

impl Routed for routes::Routed {
    fn takes_body(&self) -> bool {
        Self::takes_body(self)
    }

    fn needs_body(&self) -> bool {
        Self::needs_body(self)
    }

    fn named(&self) -> Touch {
        Self::named(self)
    }

    fn bulk(self: Box<Self>) -> Result<Bulk, Box<dyn Routed>> {
        match self.is_bulk() {
            true => Ok(Self::bulk(*self)),
            false => Err(self),
        }
    }

    fn several(self: Box<Self>) -> Result<Several, Box<dyn Routed>> {
        match self.is_several() {
            true => Ok(Self::several(*self)),
            false => Err(self),
        }
    }

    fn dated(&self, body: &[u8], now: Time) -> Option<Result<Vec<u8>, Wrong>> {
        Self::dated(self, body, now).transpose()
    }

    fn asked(self: Box<Self>, body: &[u8]) -> Result<Asked, Wrong> {
        Self::asked(*self, body)
    }
}
