//! What a run's folder holds of an earlier run that another one goes on with.

use std::fs;
use std::path::Path;

use super::journal::journal_of;
use crate::event::{CaseInfo, Event, What, was_interrupted};

/// The cases of an earlier run in the same folder.
#[derive(Debug, Clone, Default)]
pub struct Past {
    ended: Vec<CaseInfo>,
    next_index: usize,
    seed: Option<u64>,
}

impl Past {
    /// What these events tell, and the undo journals in the run's folder: one is made before its case's
    /// first event.
    pub fn new(events: &[Event], folder: &Path) -> Self {
        let mut past = Self { next_index: journals(folder), ..Self::default() };
        let mut begun = std::collections::BTreeMap::new();
        for event in events {
            past.next_index = past.next_index.max(event.case + 1);
            match &event.what {
                What::CaseStarted(info) => {
                    past.seed = Some(info.seed);
                    begun.insert(event.case, info.clone());
                }
                What::CaseEnded { verdict, reasons, .. }
                    if !was_interrupted(Some(*verdict), reasons) =>
                {
                    past.ended.extend(begun.remove(&event.case));
                }
                _ => {}
            }
        }
        past
    }

    /// The seed of the earlier run.
    pub fn seed(&self) -> Option<u64> {
        self.seed
    }

    /// Whether this case was carried out to its end.
    pub(super) fn has(&self, info: &CaseInfo) -> bool {
        self.ended.iter().any(|ended| ended.repetition == info.repetition && alike(ended, info))
    }

    /// The repetition that this case has not been carried out in yet.
    pub(super) fn next_repetition(&self, info: &CaseInfo) -> usize {
        let alike = self.ended.iter().filter(|ended| alike(ended, info));
        alike.map(|ended| ended.repetition).max().unwrap_or(0) + 1
    }

    /// The first index that no case has had.
    pub(super) fn next_index(&self) -> usize {
        self.next_index
    }
}

/// The first index from which on the folder has no undo journal.
fn journals(folder: &Path) -> usize {
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter_map(|name| Some(journal_of(&name)? + 1)).max().unwrap_or(0)
}

/// Whether two cases differ in their repetition alone. A scenario that was changed since is another.
fn alike(one: &CaseInfo, other: &CaseInfo) -> bool {
    let key = |info: &CaseInfo| {
        let CaseInfo { scenario, variant, provider, kubernetes, scenario_sha256, .. } = info;
        [scenario, variant, provider, kubernetes, scenario_sha256].map(String::clone)
    };
    key(one) == key(other)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::event::{INTERRUPTED, Verdict};

    fn info(variant: &str, repetition: usize) -> CaseInfo {
        CaseInfo {
            scenario: "s".into(),
            variant: variant.into(),
            provider: "lab".into(),
            kubernetes: "1.34.4".into(),
            repetition,
            scenario_sha256: "5a".into(),
            kernel: "6".into(),
            seed: 7,
        }
    }

    #[test]
    fn cases_that_ended_count_and_those_that_did_not_are_run_again() {
        let event = |case, what| Event { at: Duration::ZERO, case, what };
        let end = What::CaseEnded { verdict: Verdict::Fail, reasons: vec![], ttd: None, ttr: None };
        let cut_short = What::CaseEnded {
            verdict: Verdict::Invalid,
            reasons: vec![INTERRUPTED.into()],
            ttd: None,
            ttr: None,
        };
        let mut events = vec![
            event(0, What::CaseStarted(info("a", 1))),
            event(1, What::CaseStarted(info("a", 2))),
            event(0, end),
        ];
        let folder = tempfile::tempdir().unwrap();
        let past = Past::new(&events, folder.path());
        events.push(event(1, cut_short));
        assert!(!Past::new(&events, folder.path()).has(&info("a", 2)), "the user ended it");
        // A case that was killed before its first event.
        fs::write(folder.path().join("undo-7.jsonl"), "").unwrap();
        assert_eq!(Past::new(&events, folder.path()).next_index(), 8);
        assert!(past.has(&info("a", 1)));
        assert!(!past.has(&info("a", 2)) && !past.has(&info("b", 1)));
        assert!(!past.has(&CaseInfo { scenario_sha256: "other".into(), ..info("a", 1) }));
        assert!(past.has(&CaseInfo { kernel: "7".into(), seed: 8, ..info("a", 1) }));
        assert_eq!((past.next_repetition(&info("a", 0)), past.next_index()), (2, 2));
        assert_eq!(past.seed(), Some(7));
    }
}
