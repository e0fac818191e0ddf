//! One table of all that was measured.

use std::fmt::Write as _;

use crate::work::Run;

pub struct Report {
    names: Vec<&'static str>,
    versions: String,
    rows: String,
    busy_before: (u64, u64),
}

/// The least, the median and the greatest.
pub fn spread(values: impl Iterator<Item = f64>) -> Option<[f64; 3]> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    Some([*values.first()?, values[values.len() / 2], *values.last()?])
}

impl Report {
    pub fn new(names: Vec<&'static str>, versions: String) -> Self {
        Self { names, versions, rows: String::new(), busy_before: stolen() }
    }

    fn cells(&mut self, title: &str, cells: impl Iterator<Item = Option<String>>) {
        let cells: Vec<String> = cells.map(|cell| cell.unwrap_or_default()).collect();
        let row = format!("| {title} | {} |\n", cells.join(" | "));
        // Seen as it comes: a whole run takes minutes.
        eprint!("{row}");
        self.rows.push_str(&row);
    }

    pub fn row(&mut self, title: &str, cells: Vec<Option<f64>>, decimals: usize) {
        self.cells(title, cells.into_iter().map(|cell| cell.map(|value| format!("{value:.decimals$}"))));
    }

    /// CPU seconds of the proxies for so many units: the median, least and greatest in brackets.
    pub fn costs(&mut self, title: &str, runs: &[Vec<Run>], per: f64) {
        let cells = runs.iter().enumerate().map(|(at, runs)| {
            let [least, middle, most] = spread(runs.iter().map(|run| run.cost(per)))?;
            (at > 0).then(|| format!("{middle:.3} ({least:.3}–{most:.3})"))
        });
        self.cells(title, cells.collect::<Vec<_>>().into_iter());
    }

    /// Rates as ratios to the direct connection's of the same round, whose own rate is told.
    pub fn ratios(&mut self, title: &str, runs: &[Vec<Run>]) {
        let direct = &runs[0];
        let cells = runs.iter().enumerate().map(|(at, runs)| {
            let ratios = runs.iter().zip(direct).map(|(run, direct)| run.rate() / direct.rate());
            let [least, middle, most] = spread(ratios)?;
            let [_, rate, _] = spread(runs.iter().map(Run::rate))?;
            Some(match at {
                0 if rate > 1e6 => format!("{:.0} MB/s", rate / 1e6),
                0 => format!("{rate:.0}/s"),
                _ => format!("{middle:.2} ({least:.2}–{most:.2})"),
            })
        });
        self.cells(title, cells.collect::<Vec<_>>().into_iter());
    }

    /// Times above those of the direct connection in the same round, which are told themselves.
    pub fn added(&mut self, title: &str, runs: &[Vec<Run>]) {
        let direct = &runs[0];
        let cells = runs.iter().enumerate().map(|(at, runs)| {
            let added = runs.iter().zip(direct).map(|(run, direct)| run.middle - direct.middle);
            let [least, middle, most] = spread(added)?;
            let [_, own, _] = spread(runs.iter().map(|run| run.middle))?;
            Some(if at == 0 {
                format!("p50 {own:.0}")
            } else {
                format!("{middle:.0} ({least:.0}–{most:.0})")
            })
        });
        self.cells(title, cells.collect::<Vec<_>>().into_iter());
    }

    pub fn finish(&self, how: &str) -> String {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let (stolen, all) = stolen();
        let share = (stolen - self.busy_before.0) as f64 / (all - self.busy_before.1).max(1) as f64 * 100.0;
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').take(3).collect::<Vec<_>>().join(" ");
        let mut page = format!(
            "{}. {cores} cores shared by client, proxy and server; loopback; {how}. Medians, in brackets the least and \
             the greatest. While it ran the machine took {share:.1} % of the cores' time away; load at the end: {load}.\n\n",
            self.versions
        );
        writeln!(page, "| | {} |\n|---|{}", self.names.join(" | "), "---|".repeat(self.names.len()))
            .expect("a string grows");
        page + &self.rows
    }
}

/// Ticks of all cores that a hypervisor gave to others, and all ticks.
fn stolen() -> (u64, u64) {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
    (ticks.get(7).copied().unwrap_or_default(), ticks.iter().take(8).sum())
}

/// Puts a section into the page, between its marks.
pub fn write(section: &str, text: &str) {
    let (file, begin, end) =
        (crate::page(), format!("<!-- {section} -->\n"), format!("<!-- end of {section} -->"));
    let page = std::fs::read_to_string(&file).expect("the page is there");
    let (head, rest) = page.split_once(&begin).expect("the section begins somewhere");
    let (_, tail) = rest.split_once(&end).expect("and ends");
    std::fs::write(&file, format!("{head}{begin}\n{text}\n{end}{tail}")).expect("the page is written");
}
