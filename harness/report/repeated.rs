//! What the repetitions of a variant came to together.

use std::time::Duration;

use super::case::Case;
use super::words;
use crate::event::{CaseInfo, Measured, Verdict};

/// The cases of one variant on one kind of cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Repeated {
    pub(super) scenario: String,
    pub(super) variant: String,
    pub(super) provider: String,
    pub(super) kubernetes: String,
    /// How many there are, unfinished and skipped ones included.
    pub(super) cases: usize,
    /// How many of them are PASS.
    pub(super) passed: usize,
    pub(super) ttd: Option<Spread>,
    pub(super) ttr: Option<Spread>,
}

/// What [`Spread::said`] shows.
pub(super) const SPREAD: &str = "TTD, TTR: median (least … most), in seconds";

/// How measured times are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spread {
    pub(super) median: Duration,
    pub(super) least: Duration,
    pub(super) most: Duration,
}

impl Spread {
    pub(super) fn of(measured: impl Iterator<Item = Measured>) -> Option<Self> {
        let mut times: Vec<Duration> = measured.map(|measured| measured.time).collect();
        times.sort_unstable();
        let (least, most) = (*times.first()?, *times.last()?);
        let middle = times.len() / 2;
        let median = match times.len() % 2 {
            0 => (times[middle - 1] + times[middle]) / 2,
            _ => times[middle],
        };
        Some(Self { median, least, most })
    }

    /// `0.42 s (0.40 … 0.51)`: the median, the least and the most, if they differ.
    pub(super) fn said(self) -> String {
        let median = words::seconds(self.median);
        if self.least == self.most {
            return median;
        }
        let (least, most) = (self.least.as_secs_f64(), self.most.as_secs_f64());
        format!("{median} ({least:.2} … {most:.2})")
    }
}

/// Every variant that was run more than once on one kind of cluster, in the order of their first
/// cases.
pub(super) fn repeated(cases: &[Case]) -> Vec<Repeated> {
    variants(cases).into_iter().filter(|group| group.cases > 1).collect()
}

/// Every variant that was run by several providers: what it came to by each.
pub(super) fn by_provider(cases: &[Case]) -> Vec<Vec<Repeated>> {
    let mut all: Vec<Vec<Repeated>> = vec![];
    let alike = |a: &Repeated, b: &Repeated| {
        (&a.scenario, &a.variant, &a.kubernetes) == (&b.scenario, &b.variant, &b.kubernetes)
    };
    for group in variants(cases) {
        match all.iter_mut().find(|known| known.first().is_some_and(|first| alike(first, &group))) {
            Some(known) => known.push(group),
            None => all.push(vec![group]),
        }
    }
    all.into_iter().filter(|known| known.len() > 1).collect()
}

/// `lab / kind`.
pub(super) fn providers(groups: &[Repeated]) -> String {
    join(groups, |group| group.provider.clone())
}

/// What several providers' clusters made of one variant, the figures of all in one cell: its scenario and
/// its name, how often it passed, TTD, TTR, and whether the verdicts differ.
pub(super) fn beside(groups: &[Repeated]) -> [String; 6] {
    let (scenario, variant) = groups
        .first()
        .map(|group| (group.scenario.clone(), group.variant.clone()))
        .unwrap_or_default();
    let all = |group: &Repeated| group.passed == group.cases;
    let agree = groups.iter().all(all) || !groups.iter().any(all);
    let passed = join(groups, |group| format!("{} of {}", group.passed, group.cases));
    let differ = if agree { "" } else { "they differ" };
    let ttd = join(groups, |group| spread(group.ttd));
    let ttr = join(groups, |group| spread(group.ttr));
    [scenario, variant, passed, ttd, ttr, differ.to_owned()]
}

fn join(groups: &[Repeated], cell: fn(&Repeated) -> String) -> String {
    groups.iter().map(cell).collect::<Vec<_>>().join(" / ")
}

/// A spread in a table.
pub(super) fn spread(spread: Option<Spread>) -> String {
    spread.map_or("-".to_owned(), Spread::said)
}

/// Every variant on each kind of cluster, in the order of their first cases.
fn variants(cases: &[Case]) -> Vec<Repeated> {
    let mut groups: Vec<(&CaseInfo, Vec<&Case>)> = vec![];
    let alike = |a: &CaseInfo, b: &CaseInfo| {
        (&a.scenario, &a.variant, &a.provider, &a.kubernetes)
            == (&b.scenario, &b.variant, &b.provider, &b.kubernetes)
    };
    for case in cases {
        let Some(info) = &case.info else { continue };
        match groups.iter_mut().find(|(known, _)| alike(known, info)) {
            Some((_, group)) => group.push(case),
            None => groups.push((info, vec![case])),
        }
    }
    let of = |(info, group): (&CaseInfo, Vec<&Case>)| Repeated {
        scenario: info.scenario.clone(),
        variant: info.variant.clone(),
        provider: info.provider.clone(),
        kubernetes: info.kubernetes.clone(),
        cases: group.len(),
        passed: group.iter().filter(|case| case.verdict == Some(Verdict::Pass)).count(),
        ttd: Spread::of(group.iter().filter_map(|case| case.ttd)),
        ttr: Spread::of(group.iter().filter_map(|case| case.ttr)),
    };
    groups.into_iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_lies_between_the_middle_ones() {
        let spread = |seconds: &[u64]| {
            let zero = Duration::ZERO;
            let measured = |seconds: &u64| Measured {
                time: Duration::from_secs(*seconds),
                uncertainty: zero,
                resolution: zero,
            };
            let spread = Spread::of(seconds.iter().map(measured))?;
            Some([spread.median, spread.least, spread.most].map(|time| time.as_secs()))
        };
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[3]), Some([3, 3, 3]));
        assert_eq!(spread(&[9, 1, 4]), Some([4, 1, 9]));
        assert_eq!(spread(&[9, 1, 4, 6]), Some([5, 1, 9]));
    }
}
