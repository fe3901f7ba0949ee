//! Where the time of a run went: every second of it, and whose it was.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::event::{Outcome, Wait};

/// Who took the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Taker {
    /// The start of a cluster or of a component.
    Start,
    /// A documented timer of Kubernetes.
    Timer,
    /// A window in which the scenario wants something to go on.
    Window,
    /// The harness: everything that nothing else accounts for.
    Own,
}

impl Taker {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Timer => "timer",
            Self::Window => "window",
            Self::Own => "own work",
        }
    }
}

/// Every second of a case so far, none of them twice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    until: Duration,
    /// By who took it and, in words, for what.
    spent: BTreeMap<(Taker, String), Duration>,
}

impl Account {
    /// The case begins.
    pub(super) fn open(&mut self, at: Duration) {
        self.until = at;
    }

    /// The time since what was accounted for last belongs to this.
    pub(super) fn to(&mut self, at: Duration, taker: Taker, what: &str) {
        let took = at.saturating_sub(self.until);
        self.until = self.until.max(at);
        if !took.is_zero() {
            *self.spent.entry((taker, what.to_owned())).or_default() += took;
        }
    }

    /// The time since then was spent on an expectation that has come to its end: on what it says that
    /// it waits for, each timer for no longer than it lasts, and the rest is own work.
    pub(super) fn waited(&mut self, at: Duration, waits: &[Wait], outcome: &Outcome) {
        if !matches!(outcome, Outcome::Dropped) {
            for wait in waits {
                match wait {
                    Wait::Window => self.to(at, Taker::Window, "what must go on"),
                    Wait::Start { of } => self.to(at, Taker::Start, of),
                    Wait::Timer { name, lasts, source } => {
                        let what = format!("{name}, {lasts:?}: {source}");
                        self.to(at.min(self.until + *lasts), Taker::Timer, &what);
                    }
                }
            }
        }
        self.to(at, Taker::Own, "not accounted for by a timer or a start");
    }

    /// Takes the account of another case in.
    pub(super) fn add(&mut self, other: &Self) {
        for (key, took) in &other.spent {
            *self.spent.entry(key.clone()).or_default() += *took;
        }
    }

    /// Each part: who took how long, and for what.
    pub fn parts(&self) -> impl Iterator<Item = (Taker, &str, Duration)> {
        self.spent.iter().map(|((taker, what), took)| (*taker, what.as_str(), *took))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn met() -> Outcome {
        Outcome::Met { after: None, saw: String::new() }
    }

    #[test]
    fn a_timer_takes_no_longer_than_it_lasts_and_the_rest_is_own_work() {
        let timer = |name: &str, lasts| Wait::Timer {
            name: name.into(),
            lasts: secs(lasts),
            source: "s".into(),
        };
        let mut account = Account::default();
        account.open(secs(100));
        account.to(secs(103), Taker::Start, "cluster");
        account.waited(secs(120), &[timer("lease", 10), timer("round", 5)], &met());
        account.waited(secs(121), &[timer("lease", 10)], &met());
        account.waited(secs(125), &[Wait::Start { of: "etcd".into() }], &met());
        account.waited(secs(130), &[Wait::Window], &met());
        account.waited(secs(131), &[Wait::Window], &Outcome::Dropped);
        let parts: Vec<_> =
            account.parts().map(|(taker, what, took)| (taker, what, took.as_secs())).collect();
        let own = "not accounted for by a timer or a start";
        assert_eq!(
            parts,
            [
                (Taker::Start, "cluster", 3),
                (Taker::Start, "etcd", 4),
                (Taker::Timer, "lease, 10s: s", 11),
                (Taker::Timer, "round, 5s: s", 5),
                (Taker::Window, "what must go on", 5),
                (Taker::Own, own, 3),
            ]
        );
        assert_eq!(account.parts().map(|part| part.2).sum::<Duration>(), secs(31));
    }
}
