//! What is left to chance, the same with the same seed.

use sha2::{Digest, Sha256};

use crate::event::CaseInfo;

/// A number for one case, the same whenever the case and the run's seed are the same.
pub fn draw(info: &CaseInfo) -> u64 {
    let CaseInfo { seed, scenario, variant, repetition, .. } = info;
    hashed(&format!("{seed} {scenario} {variant} {repetition}"))
}

/// One of so many, by a case's number.
pub(super) fn index(draw: u64, count: usize) -> usize {
    let count = u64::try_from(count).unwrap_or(u64::MAX).max(1);
    usize::try_from(draw % count).unwrap_or(0)
}

/// A number from 0 to 1, the same from the same text.
pub(super) fn fraction(text: &str) -> f64 {
    let number = hashed(text) >> 32;
    f64::from(u32::try_from(number).unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}

fn hashed(text: &str) -> u64 {
    let hash = Sha256::digest(text.as_bytes());
    hash.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(seed: u64, repetition: usize) -> CaseInfo {
        CaseInfo {
            scenario: "s".into(),
            variant: "v".into(),
            provider: "lab".into(),
            kubernetes: "1.34.4".into(),
            repetition,
            scenario_sha256: String::new(),
            kernel: String::new(),
            seed,
        }
    }

    #[test]
    fn a_case_is_drawn_alike_with_the_same_seed_and_not_with_others() {
        assert_eq!(draw(&info(1, 1)), draw(&info(1, 1)));
        let drawn: std::collections::BTreeSet<u64> =
            (0..20).flat_map(|seed| (1..6).map(move |n| draw(&info(seed, n)))).collect();
        assert_eq!(drawn.len(), 100);
        let mut counts = [0; 3];
        for draw in drawn {
            counts[index(draw, 3)] += 1;
        }
        assert!(counts.iter().all(|count| *count > 15), "{counts:?}");
    }
}
