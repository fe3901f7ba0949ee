//! What a cluster has acknowledged, so that it can be asked for again.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Where what is written is.
pub const NAMESPACE: &str = "outage-writes";

/// Writes that were acknowledged, by name. Those that were not may be there or not.
#[derive(Debug)]
pub struct Ledger {
    /// Chosen at random: the cluster may hold what was written with an earlier ledger.
    series: u64,
    pages: Mutex<Pages>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { series: RandomState::new().build_hasher().finish(), pages: Mutex::default() }
    }
}

#[derive(Debug, Default)]
struct Pages {
    given: u64,
    acknowledged: BTreeSet<String>,
}

impl Ledger {
    /// A name for a write that no other write has, not even one of another ledger.
    pub fn name(&self) -> String {
        let mut pages = self.pages();
        pages.given += 1;
        format!("write-{:016x}-{}", self.series, pages.given)
    }

    /// The write with this name was acknowledged.
    pub fn acknowledged(&self, name: String) {
        self.pages().acknowledged.insert(name);
    }

    /// All writes that were acknowledged by now.
    pub fn all(&self) -> BTreeSet<String> {
        self.pages().acknowledged.clone()
    }

    /// A lock that outlives the panic of another task: what it guards is changed in one step.
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_ledgers_give_different_names() {
        assert_ne!(Ledger::default().name(), Ledger::default().name());
    }

    #[test]
    fn only_what_is_acknowledged_is_kept() {
        let ledger = Ledger::default();
        let names = [ledger.name(), ledger.name()];
        assert_ne!(names[0], names[1]);
        assert!(ledger.all().is_empty());
        ledger.acknowledged(names[1].clone());
        assert_eq!(ledger.all().into_iter().collect::<Vec<_>>(), names[1..]);
    }
}
