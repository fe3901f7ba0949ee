//! Which case is next: shared by workers that each have at most one cluster.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::cluster::ClusterOptions;

/// A case that was not begun yet.
#[derive(Debug, Clone)]
pub(super) struct Job {
    /// Among the cases of the run.
    pub(super) index: usize,
    /// The scenario, among those that were chosen.
    pub(super) chosen: usize,
    /// Among the scenario's variants.
    pub(super) variant: usize,
    /// Counted from 1.
    pub(super) repetition: usize,
    /// The cluster that it needs.
    pub(super) options: ClusterOptions,
}

/// The cases that nobody has begun yet.
#[derive(Debug)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    jobs: VecDeque<Job>,
    /// What is begun once more when all are done, as long as nothing stops the run.
    rounds: Vec<Job>,
    next_index: usize,
    stopped: bool,
}

impl Queue {
    /// With `rounds`, the same jobs come again and again, with the next repetition each time.
    pub(super) fn new(jobs: Vec<Job>, rounds: bool) -> Self {
        let next_index = jobs.iter().map(|job| job.index + 1).max().unwrap_or(0);
        let rounds = if rounds { jobs.clone() } else { vec![] };
        let inner = Inner { jobs: jobs.into(), rounds, next_index, stopped: false };
        Self { inner: Mutex::new(inner) }
    }

    /// The next case for a cluster like this; nothing if none of those left needs one.
    pub(super) fn take_fitting(&self, options: &ClusterOptions) -> Option<Job> {
        let mut inner = self.lock();
        inner.refill();
        let at = inner.jobs.iter().position(|job| job.options.fit(options))?;
        inner.jobs.remove(at)
    }

    /// The next case.
    pub(super) fn take(&self) -> Option<Job> {
        let mut inner = self.lock();
        inner.refill();
        inner.jobs.pop_front()
    }

    /// Nothing more is begun.
    pub(super) fn stop(&self) {
        let mut inner = self.lock();
        inner.stopped = true;
        inner.jobs.clear();
    }

    /// Whether nothing is left to be begun.
    pub(super) fn is_empty(&self) -> bool {
        let mut inner = self.lock();
        inner.refill();
        inner.jobs.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn refill(&mut self) {
        if self.stopped || !self.jobs.is_empty() {
            return;
        }
        for job in &mut self.rounds {
            // Those of the first round were given out as they are.
            job.repetition += 1;
            job.index = self.next_index;
            self.next_index += 1;
            self.jobs.push_back(job.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assets::KubernetesVersion;

    fn job(index: usize, workers: usize) -> Job {
        let options = ClusterOptions {
            kubernetes: KubernetesVersion { major: 1, minor: 34, patch: 4 },
            masters: 3,
            workers,
            settings: vec![],
            addons: vec![],
            program: "outage".into(),
            logs: None,
        };
        Job { index, chosen: 0, variant: 0, repetition: 1, options }
    }

    #[test]
    fn a_cluster_is_given_to_a_case_that_needs_one_like_it() {
        let queue = Queue::new(vec![job(0, 1), job(1, 2), job(2, 1)], false);
        let first = queue.take().unwrap();
        assert_eq!(first.index, 0);
        assert_eq!(queue.take_fitting(&first.options).unwrap().index, 2);
        assert!(queue.take_fitting(&first.options).is_none());
        assert_eq!(queue.take().unwrap().index, 1);
        assert!(queue.take().is_none() && queue.is_empty());
    }

    #[test]
    fn rounds_go_on_until_they_are_stopped() {
        let queue = Queue::new(vec![job(4, 1), job(5, 1)], true);
        let taken: Vec<_> = (0..5).map(|_| queue.take().unwrap()).collect();
        let indices: Vec<_> = taken.iter().map(|job| (job.index, job.repetition)).collect();
        assert_eq!(indices, [(4, 1), (5, 1), (6, 2), (7, 2), (8, 3)]);
        assert!(!queue.is_empty());
        queue.stop();
        assert!(queue.take().is_none() && queue.is_empty());
    }
}
