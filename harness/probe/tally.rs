//! How many of an observation's attempts must end in the counted way: a number, or a share as a
//! statistical statement.

use std::ops::RangeInclusive;

use statrs::distribution::{Binomial, DiscreteCDF};

use crate::scenario::Tally;

impl Tally {
    /// The counts out of `attempts` that are accepted. For a share: the two-sided interval of the
    /// exact binomial distribution that leaves at most half of the false-alarm probability beyond
    /// either end (Clopper and Pearson's tails, with the share given instead of sought).
    ///
    /// A share that is no probability accepts nothing.
    pub fn accepts(self, attempts: u32) -> RangeInclusive<u32> {
        match self {
            Self::Count(count) => count..=count,
            Self::AtMost(most) => 0..=most,
            Self::AtLeast(least) => least..=attempts,
            Self::Share { of, false_alarm } => {
                let Ok(binomial) = Binomial::new(of, u64::from(attempts)) else {
                    return RangeInclusive::new(1, 0);
                };
                let tail = false_alarm / 2.0;
                let below = |k: u32| k > 0 && binomial.cdf(u64::from(k) - 1) <= tail;
                let above = |k: u32| binomial.sf(u64::from(k)) <= tail;
                let lowest = (0..=attempts).rev().find(|k| below(*k)).unwrap_or(0);
                let highest = (0..=attempts).find(|k| above(*k)).unwrap_or(attempts);
                lowest..=highest
            }
        }
    }

    /// The same in words: `200 of 300`, `61 to 140 of 300 (a share of 0.33, false alarm 1e-6)`.
    pub fn wanted(self, attempts: u32) -> String {
        match self {
            Self::Count(0) => format!("none of {attempts}"),
            Self::Count(count) => format!("{count} of {attempts}"),
            Self::AtMost(most) => format!("at most {most} of {attempts}"),
            Self::AtLeast(least) => format!("at least {least} of {attempts}"),
            Self::Share { of, false_alarm } => {
                let range = self.accepts(attempts);
                format!(
                    "{} to {} of {attempts} (a share of {of}, false alarm {false_alarm:e})",
                    range.start(),
                    range.end()
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// P(X = k) for a small n, by the definition.
    fn exactly(n: u32, k: u32, share: f64) -> f64 {
        let choose: f64 = (0..k).map(|i| f64::from(n - i) / f64::from(k - i)).product();
        choose * share.powf(f64::from(k)) * (1.0 - share).powf(f64::from(n - k))
    }

    #[test]
    fn a_count_accepts_only_itself() {
        assert_eq!(Tally::Count(3).accepts(10), 3..=3);
        assert_eq!(Tally::Count(0).wanted(200), "none of 200");
    }

    #[test]
    fn bounds_accept_themselves() {
        assert_eq!(Tally::AtMost(3).accepts(10), 0..=3);
        assert_eq!(Tally::AtLeast(3).accepts(10), 3..=10);
        assert_eq!(Tally::AtMost(3).wanted(10), "at most 3 of 10");
        assert_eq!(Tally::AtLeast(3).wanted(10), "at least 3 of 10");
    }

    #[test]
    fn the_interval_is_the_narrowest_that_keeps_the_false_alarm_rate() {
        for (n, of, false_alarm) in
            [(10, 0.5, 0.05), (60, 1.0 / 3.0, 1e-3), (300, 0.3333, 1e-6), (20, 0.01, 0.01)]
        {
            let range = Tally::Share { of, false_alarm }.accepts(n);
            let below = |end: u32| (0..end).map(|k| exactly(n, k, of)).sum::<f64>();
            let above = |end: u32| (end + 1..=n).map(|k| exactly(n, k, of)).sum::<f64>();
            let tail = false_alarm / 2.0;
            let slack = tail * 1e-6;
            assert!(below(*range.start()) <= tail + slack, "{n} {of}: {range:?}");
            assert!(above(*range.end()) <= tail + slack, "{n} {of}: {range:?}");
            assert!(below(*range.start() + 1) > tail, "{n} {of}: {range:?} could be narrower");
            assert!(
                *range.end() == 0 || above(*range.end() - 1) > tail,
                "{n} {of}: {range:?} could be narrower"
            );
        }
    }

    #[test]
    fn known_intervals() {
        // Binomial(10, 1/2): P(X <= 1) = 11/1024 <= 0.025 < P(X <= 2) = 56/1024.
        assert_eq!(Tally::Share { of: 0.5, false_alarm: 0.05 }.accepts(10), 2..=8);
        let share = Tally::Share { of: 0.3333, false_alarm: 1e-6 };
        let range = share.accepts(300);
        assert!(!range.contains(&0) && range.contains(&100) && !range.contains(&200), "{range:?}");
        assert!(share.wanted(300).contains("of 300 (a share of 0.3333, false alarm 1e-6)"));
    }

    #[test]
    fn a_share_that_is_no_probability_accepts_nothing() {
        let range = Tally::Share { of: 1.5, false_alarm: 0.1 }.accepts(10);
        assert!((0..=10).all(|k| !range.contains(&k)));
    }
}
