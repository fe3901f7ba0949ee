//! Medians and how sure they are.

use statrs::distribution::{Binomial, DiscreteCDF};

/// How sure an interval must be.
const CONFIDENCE: f64 = 0.95;

/// The median of some values, and the interval that holds the true one with 95 %.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// The median.
    pub median: f64,
    /// The interval; nothing for fewer than six values, which can't give one.
    pub interval: Option<(f64, f64)>,
}

/// Sums up values; nothing if there are none. The interval is made of order statistics, so it
/// assumes nothing of how the values are distributed: as many of them lie below the true median as
/// heads fall in that many throws of a coin.
pub fn summary(values: &[f64]) -> Option<Summary> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted.get((sorted.len().checked_sub(1)?) / 2)?, sorted[sorted.len() / 2]);
    let median = f64::midpoint(*low, high);
    Some(Summary {
        median,
        interval: cut(sorted.len()).map(|k| (sorted[k], sorted[sorted.len() - 1 - k])),
    })
}

/// How many of the smallest and of the largest of `count` values the interval may leave out.
fn cut(count: usize) -> Option<usize> {
    let coin = Binomial::new(0.5, u64::try_from(count).ok()?).ok()?;
    let sure = |left_out: &usize| {
        u64::try_from(*left_out).is_ok_and(|left_out| 1.0 - 2.0 * coin.cdf(left_out) >= CONFIDENCE)
    };
    (0..count / 2).take_while(sure).last()
}
