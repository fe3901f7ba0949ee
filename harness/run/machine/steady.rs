//! How a case begins: a cluster that stands, and its steady state, in which all that is expected must
//! hold at one moment.

use std::time::Duration;

use super::{Ending, Machine, State, trackers};
use crate::event::{Phase, What};
use crate::run::step::{Action, Stands};
use crate::scenario::NodeRef;

impl Machine {
    pub(super) fn cluster_failed(&mut self, why: &str) {
        if self.state == State::Provision {
            if self.ending == Ending::Not {
                self.findings.invalid.push(format!("there is no cluster: {why}"));
            }
            self.end();
        }
    }

    pub(super) fn cluster_ready(&mut self, now: Duration, stands: Stands) {
        if self.state != State::Provision {
            return;
        }
        let Stands { took, provenance, departures, flags, reused, replaceable, logs, nodes, plan } =
            stands;
        self.emit(What::ClusterReady { took, provenance, departures, flags, reused, logs });
        if !nodes.is_empty() {
            let named = |(name, node): (String, NodeRef)| (name, node.to_string());
            self.emit(What::NodesChosen { nodes: nodes.into_iter().map(named).collect() });
        }
        self.replaceable = replaceable;
        if self.plan != plan {
            self.plan = plan;
            self.introduce();
        }
        self.trackers = trackers(&self.plan);
        self.set_up(now, 0);
    }

    pub(super) fn enter_steady_state(&mut self, now: Duration) {
        self.state = State::Steady { since: now };
        for id in self.plan.steady.clone() {
            self.trackers[id].arm(now);
            self.observe(id);
        }
    }

    /// When what has held once must hold together with the rest.
    pub(super) fn steady_limit(&self, since: Duration) -> Duration {
        let limits = self.plan.steady.clone().map(|id| self.trackers[id].limit());
        since + limits.max().unwrap_or_default() + Duration::from_nanos(1)
    }

    /// Leaves the steady state when everything holds at once, or something does not in time.
    pub(super) fn steady(&mut self, now: Duration, since: Duration) {
        let ids = self.plan.steady.clone();
        let mut failed = self.failed_among(ids.clone());
        if failed.is_empty() {
            if !self.all_over(ids.clone()) {
                return;
            }
            let apart: Vec<_> = ids.filter(|id| !self.trackers[*id].holds()).collect();
            if !apart.is_empty() && now < self.steady_limit(since) {
                return;
            }
            failed.extend(apart.into_iter().map(|id| {
                let (name, saw) =
                    (&self.plan.expectations[id].name, self.trackers[id].saw_latest());
                format!("\"{name}\" held, but not together with the rest; last seen: {saw}")
            }));
        }
        self.leave_steady_state(now, failed);
    }

    fn leave_steady_state(&mut self, now: Duration, failed: Vec<String>) {
        if failed.is_empty() {
            self.tell(self.plan.steady.clone());
            return self.enter_block(now, 0);
        }
        if self.replaceable {
            return self.replace(&failed.join("; "));
        }
        self.tell(self.plan.steady.clone());
        self.findings.invalid.extend(failed.into_iter().map(|why| format!("steady state: {why}")));
        self.undo(now);
    }

    /// The cluster that another case has left behind is not as it should be: this says nothing of
    /// this case, which begins once more.
    fn replace(&mut self, why: &str) {
        let text =
            format!("a fresh cluster is made, as this one is not in its steady state: {why}");
        self.emit(What::Progress { text });
        for id in self.observed.clone() {
            self.stop_observing(id);
        }
        // What was set up ends with its cluster.
        self.in_place.clear();
        self.state = State::Provision;
        self.enter_phase(Phase::Provision);
        self.out.push_back(Action::Replace);
    }
}
