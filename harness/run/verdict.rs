//! What a case amounts to.

use crate::event::{Measured, Verdict};

/// All that speaks against a PASS, by the verdict it leads to.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) dirty: Vec<String>,
    pub(super) invalid: Vec<String>,
    pub(super) inconclusive: Vec<String>,
    pub(super) failed: Vec<String>,
}

impl Findings {
    /// A cluster that is not as it was outweighs everything, and what was not a proper experiment
    /// can't have failed.
    pub(super) fn verdict(&self) -> Verdict {
        if !self.dirty.is_empty() {
            Verdict::Dirty
        } else if !self.invalid.is_empty() {
            Verdict::Invalid
        } else if !self.inconclusive.is_empty() {
            Verdict::Inconclusive
        } else if !self.failed.is_empty() {
            Verdict::Fail
        } else {
            Verdict::Pass
        }
    }

    pub(super) fn is_clean(&self) -> bool {
        self.verdict() == Verdict::Pass
    }

    /// All of them, those of the verdict first.
    pub(super) fn reasons(&self) -> Vec<String> {
        let all = [&self.dirty, &self.invalid, &self.inconclusive, &self.failed];
        all.into_iter().flatten().cloned().collect()
    }
}

/// The time of the slowest of several expectations: all of them must have been met.
#[derive(Debug, Default)]
pub(super) struct Slowest(Vec<Option<Measured>>);

impl Slowest {
    /// Takes one in; nothing for one that was not met.
    pub(super) fn take(&mut self, measured: Option<Measured>) {
        self.0.push(measured);
    }

    /// The slowest, if there is one and every one was met.
    pub(super) fn measured(&self) -> Option<Measured> {
        let all: Option<Vec<Measured>> = self.0.iter().copied().collect();
        all?.into_iter().max_by_key(|measured| measured.time)
    }
}
