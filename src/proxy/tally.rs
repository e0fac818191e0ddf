//! Refused logins of strangers: the first few of a source get a line of the trail each, the rest is counted, and
//! the counts are written at intervals. So nobody who cannot log in fills the disk, and nothing is lost in silence.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use crate::model::Event;
use crate::model::limits::{
    REFUSAL_SOURCES_MAX, REFUSALS_INTERVAL, REFUSALS_SHOWN, REFUSALS_SHOWN_PER_SOURCE,
};

/// By the code of the refusal.
type Counts = BTreeMap<&'static str, u64>;

#[derive(Default)]
pub(super) struct Tally(Mutex<Interval>);

/// What happened since the counts were last taken.
#[derive(Default)]
struct Interval {
    shown: u32,
    sources: HashMap<IpAddr, Source>,
    /// Of sources that there was no room for.
    others: Counts,
}

#[derive(Default)]
struct Source {
    shown: u32,
    counts: Counts,
}

impl Tally {
    /// Whether this refusal gets a line of its own; otherwise it has been counted.
    pub fn shows(&self, source: IpAddr, code: &'static str) -> bool {
        let mut interval = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Interval { shown, sources, others } = &mut *interval;
        if sources.len() >= REFUSAL_SOURCES_MAX && !sources.contains_key(&source) {
            *others.entry(code).or_insert(0) += 1;
            return false;
        }
        let source = sources.entry(source).or_default();
        if source.shown < REFUSALS_SHOWN_PER_SOURCE && *shown < REFUSALS_SHOWN {
            source.shown += 1;
            *shown += 1;
            return true;
        }
        *source.counts.entry(code).or_insert(0) += 1;
        false
    }

    /// Takes the counts: a line for each source that was counted. The next interval begins.
    pub fn take(&self) -> Vec<Event> {
        let interval = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut lines: Vec<_> =
            interval.sources.into_iter().map(|(address, source)| (Some(address), source.counts)).collect();
        lines.sort_by_key(|(address, _)| *address);
        lines.push((None, interval.others));
        lines.retain(|(_, counts)| !counts.is_empty());
        let line = |(address, codes): (Option<IpAddr>, Counts)| Event::LoginsRefused {
            source: address.map(|address| address.to_string()),
            count: codes.values().sum(),
            codes,
            seconds: REFUSALS_INTERVAL.as_secs(),
        };
        lines.into_iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(number).into()
    }

    fn lines(tally: &Tally) -> Vec<(Option<String>, u64)> {
        let each = tally.take().into_iter().map(|event| match event {
            Event::LoginsRefused { source, count, .. } => (source, count),
            other => panic!("{other:?}"),
        });
        each.collect()
    }

    #[test]
    fn a_source_has_some_lines_and_then_a_count() {
        let tally = Tally::default();
        let many = REFUSALS_SHOWN_PER_SOURCE;
        let shown = (0..many + 7).filter(|_| tally.shows(address(1), "TG001")).count();
        assert_eq!(shown, many as usize);
        assert!(tally.shows(address(2), "TG001"), "another source is not touched");
        assert!(!tally.shows(address(1), "TG020"));
        let Event::LoginsRefused { codes, .. } = &tally.take()[0] else { panic!() };
        assert_eq!(codes.iter().collect::<Vec<_>>(), [(&"TG001", &7), (&"TG020", &1)]);
        assert!(lines(&tally).is_empty());
        assert!(tally.shows(address(1), "TG001"), "each interval has its own lines");
    }

    #[test]
    fn many_sources_have_a_bound_together_and_every_refusal_is_in_a_line_or_a_count() {
        let tally = Tally::default();
        let sources = REFUSAL_SOURCES_MAX as u32 + 50;
        let mut shown = 0;
        for round in 0..3 {
            for source in 0..sources {
                shown += u64::from(tally.shows(address(source), "TG001"));
            }
            assert!(shown <= u64::from(REFUSALS_SHOWN), "round {round}");
        }
        let lines = lines(&tally);
        assert!(lines.len() <= REFUSAL_SOURCES_MAX + 1);
        assert_eq!(lines.last(), Some(&(None, 150)));
        assert_eq!(shown + lines.iter().map(|(_, count)| count).sum::<u64>(), u64::from(3 * sources));
    }
}
