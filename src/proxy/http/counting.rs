//! How much a request is about, for its line in the trail: what its answer says, and the actions of a `_bulk`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::protocol::http::{Actions, Catalog, Counter, Counts};

/// The actions of a `_bulk`, told by what reads it. One that is streamed counts those that have been sent.
#[derive(Debug, Clone, Default)]
pub(super) struct Told(Arc<Mutex<Actions>>);

impl Told {
    pub fn tell(&self, actions: &Actions) {
        self.lock().clone_from(actions);
    }

    fn lock(&self) -> MutexGuard<'_, Actions> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
pub(super) struct Counting {
    counts: Option<Counts>,
    counter: Option<Counter>,
    actions: Option<Told>,
}

impl Counting {
    pub fn new(counts: Option<Counts>) -> Self {
        Self { counts, ..Self::default() }
    }

    /// With the actions of a body that was read whole, and what their names stand for where that was looked up.
    pub fn with_actions(mut self, mut actions: Actions, catalog: Option<&Catalog>) -> Self {
        if let Some(catalog) = catalog {
            actions.resolve(catalog);
        }
        let told = Told::default();
        told.tell(&actions);
        self.actions = Some(told);
        self
    }

    /// With those of a body that is read as it comes.
    pub fn with_told(mut self, told: Told) -> Self {
        self.actions = Some(told);
        self
    }

    /// The answer begins, which may say how much it is about.
    pub fn begin(&mut self) {
        let deletes = self.actions.as_ref().is_some_and(|told| told.lock().deletes());
        self.counter = self.counts.and_then(|counts| Counter::new(counts, !deletes));
    }

    pub fn push(&mut self, part: &[u8]) {
        if let Some(counter) = &mut self.counter {
            counter.push(part);
        }
    }

    /// For the line in the trail: the number, and more members of it, without braces. What the answer does not say is
    /// not counted, and has no `counted`.
    pub fn said(&self, status: u16, is_whole: bool) -> (u64, String) {
        let actions = self.actions.as_ref().map(Told::lock);
        let asked = actions.as_ref().map_or(0, |actions| actions.count());
        let (rows, is_counted, at_least) = match (self.counts, &self.counter) {
            // The status says it all.
            (Some(Counts::One), _) => {
                let is_done = (200..300).contains(&status);
                (u64::from(is_done), is_done || status == 404, false)
            }
            (_, Some(counter)) => match counter.counted(asked, is_whole) {
                Some(counted) => (counted.rows, true, counted.at_least),
                None => (0, false, false),
            },
            _ => (0, false, false),
        };
        let mut more = String::new();
        if let Some(counts) = self.counts.filter(|_| is_counted) {
            more.push_str("\"counted\":\"");
            more.push_str(counts.what());
            more.push('"');
        }
        if at_least {
            more.push_str(",\"at_least\":true");
        }
        if let Some(actions) = actions {
            more.push_str(if more.is_empty() { "" } else { "," });
            more.push_str(&actions.members());
        }
        (rows, more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(counts: Counts, status: u16, answer: &str) -> (u64, String) {
        let mut counting = Counting::new(Some(counts));
        counting.begin();
        counting.push(answer.as_bytes());
        counting.said(status, true)
    }

    #[test]
    fn what_is_not_said_is_not_counted() {
        let counted = |rows, what: &str| (rows, format!("\"counted\":\"{what}\""));
        assert_eq!(said(Counts::One, 200, "{}"), counted(1, "documents"));
        assert_eq!(said(Counts::One, 404, "{}"), counted(0, "documents"));
        assert_eq!(said(Counts::One, 500, "{}"), (0, String::new()));
        assert_eq!(said(Counts::Hits, 200, r#"{"hits":{"total":4}}"#), counted(4, "hits"));
        assert_eq!(said(Counts::Hits, 200, r#"{"took":4}"#), (0, String::new()));
        let more = said(Counts::Hits, 200, r#"{"hits":{"total":{"value":4,"relation":"gte"}}}"#);
        assert_eq!(more, (4, "\"counted\":\"hits\",\"at_least\":true".to_owned()));
        // An answer that is not looked into.
        assert_eq!(Counting::new(Some(Counts::Hits)).said(200, true), (0, String::new()));
        assert_eq!(Counting::default().said(200, true), (0, String::new()));
        let actions = Counting::new(Some(Counts::Actions)).with_actions(Actions::default(), None);
        assert_eq!(actions.said(413, true), (0, "\"actions\":{}".to_owned()));
    }
}
