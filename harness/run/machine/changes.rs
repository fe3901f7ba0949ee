//! The changes of a block, one after another, with the times that pass between them.

use std::time::Duration;

use super::{Ending, InPlace, Machine, State};
use crate::event::{ActionState, Phase, What};
use crate::run::plan::{Act, Role};
use crate::run::step::Action;

impl Machine {
    pub(super) fn act(&mut self, now: Duration, index: usize) {
        let Some(act) = self.plan.blocks[self.block].acts.get(index).copied() else {
            return self.watch(now, 0);
        };
        self.state = State::Acting(index);
        match act {
            Act::Wait(time) => {
                let until = self.latest.unwrap_or(now) + time;
                if until > now {
                    let left = until.saturating_sub(now);
                    self.emit(What::Progress { text: format!("{left:.0?} until the next change") });
                }
                self.state = State::Waiting { next: index + 1, until };
            }
            Act::Inject(action) => {
                let remedy = self.plan.actions[action].role == Role::Remedy;
                self.enter_phase(if remedy { Phase::Remedy } else { Phase::Inject });
                self.in_place.insert(action, InPlace::default());
                self.out.push_back(Action::Inject(action));
            }
            // Its injection was left away by hand.
            Act::Revert(action) if !self.in_place.contains_key(&action) => {
                self.next_act(now, index);
            }
            Act::Revert(action) => {
                // Between two injections of the same it goes on.
                if !self.plan.blocks[self.block].injects_after(index, action) {
                    self.enter_phase(Phase::Revert);
                }
                self.revert(now, action);
                self.cause(now, index);
            }
        }
    }

    /// The change of this index is issued: the times of what it is the cause of count from here.
    fn cause(&mut self, now: Duration, index: usize) {
        self.issued.insert(index, now);
        let block = &self.plan.blocks[self.block];
        let first = block.stages.first().cloned().unwrap_or_default();
        for id in block.stages.iter().cloned().flatten() {
            if self.cause_of(id) == Some(index)
                && (first.contains(&id) || !self.trackers[id].is_throughout())
            {
                self.trackers[id].arm(now);
            }
        }
    }

    /// The index of the change that the times of an expectation of the block count from.
    pub(super) fn cause_of(&self, id: usize) -> Option<usize> {
        let block = self.plan.blocks.get(self.block)?;
        self.plan.expectations[id].from.or_else(|| block.cause())
    }

    pub(super) fn acting_on(&self, wanted: Act) -> Option<usize> {
        let State::Acting(index) = self.state else { return None };
        (self.plan.blocks[self.block].acts.get(index) == Some(&wanted)).then_some(index)
    }

    pub(super) fn was_issued(&mut self, now: Duration, action: usize) {
        let index = self.acting_on(Act::Inject(action));
        if index.is_none() && !self.sets_up(action) {
            return;
        }
        let Some(in_place) = self.in_place.get_mut(&action) else { return };
        if in_place.issued.replace(now).is_some() {
            return;
        }
        self.emit_action(action, ActionState::Issued);
        // What is set up is the cause of nothing.
        if let Some(index) = index {
            self.tampered = true;
            self.latest = Some(now);
            // Looking for the node, writing the inverse down: what came true meanwhile has another cause.
            let first = self.plan.blocks[self.block].changes().next();
            if first.is_some_and(|(first, _)| first == index) && !self.still_not_yet() {
                self.ending = self.ending.max(Ending::CutShort);
            }
            self.cause(now, index);
        }
    }

    pub(super) fn proven(&mut self, now: Duration, action: usize, evidence: Vec<String>) {
        let Some(in_place) = self.in_place.get(&action) else { return };
        let Some(issued) = in_place.issued else {
            return self.unproven(now, action, "it was never issued");
        };
        let took = now.saturating_sub(issued);
        if self.sets_up(action) {
            self.emit_action(action, ActionState::Proven { took, evidence });
            self.set_up(now, action + 1);
        } else if let Some(index) = self.acting_on(Act::Inject(action)) {
            self.proven.insert(index, took);
            self.emit_action(action, ActionState::Proven { took, evidence });
            self.next_act(now, index);
        } else if let State::Proving(left) = &mut self.state
            && left.remove(&action)
        {
            self.emit_action(action, ActionState::Proven { took, evidence });
        }
    }

    pub(super) fn unproven(&mut self, now: Duration, action: usize, why: &str) {
        if self.sets_up(action) {
            return self.is_not_set_up(now, action, why);
        }
        let name = self.plan.actions.get(action).map(|action| action.name.clone());
        let name = name.unwrap_or_default();
        let reason = if self.acting_on(Act::Inject(action)).is_some() {
            format!("{name} is not proven: {why}")
        } else if let State::Proving(left) = &mut self.state
            && left.remove(&action)
        {
            format!("{name} was lost: {why}")
        } else {
            return;
        };
        self.findings.inconclusive.push(reason);
        self.emit_action(action, ActionState::Unproven { why: why.to_owned() });
        if matches!(self.state, State::Acting(_)) {
            self.undo(now);
        }
    }

    /// The change of this index is done: the next one, unless the case is to end.
    pub(super) fn next_act(&mut self, now: Duration, index: usize) {
        if self.ending == Ending::Not {
            self.act(now, index + 1);
        } else {
            self.undo(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sim::*;
    use super::super::*;
    use crate::event::Outcome;
    use crate::run::step::Input;
    use crate::scenario::{Action as Change, Expectation, Repeat, Step};

    fn repeated() -> Plan {
        let (times, every, lasts, jitter) = (2, secs(10), Some(secs(4)), Duration::ZERO);
        let repeat = Some(Repeat { times, every, lasts, jitter });
        plan(
            vec![within("steady")],
            vec![
                Step::Inject(Change { repeat, ..change("a") }),
                Step::Inject(Change { after: secs(20), ..change("b") }),
                Step::Detect(vec![within("seen")]),
            ],
        )
    }

    #[test]
    fn a_repeated_fault_is_taken_back_between_and_another_waits_for_its_time() {
        let [inject, revert] = [Act::Inject(0), Act::Revert(0)];
        let [lasts, every, after] = [4, 10, 20].map(|seconds| Act::Wait(secs(seconds)));
        let acts = [inject, lasts, revert, every, inject, after, Act::Inject(1)];
        assert_eq!(repeated().blocks[0].acts, acts);
    }

    #[test]
    fn times_between_changes_count_from_the_injection_before() {
        let mut sim = Sim::steady(repeated());
        sim.see(1, false);
        let injections = |sim: &Sim| {
            sim.wanted.iter().filter(|wanted| matches!(wanted, Action::Inject(_))).count()
        };
        sim.tell(Input::Issued(0));
        sim.later(1);
        sim.tell(Input::Proven(0, vec![]));
        sim.later(2);
        assert!(sim.reverts().is_empty());
        sim.later(1);
        assert_eq!(sim.reverts(), [0]);
        sim.tell(Input::Reverted(0));
        sim.later(5);
        assert_eq!(injections(&sim), 1);
        sim.later(1);
        assert_eq!(injections(&sim), 2);
        sim.tell(Input::Issued(0));
        sim.tell(Input::Proven(0, vec![]));
        sim.later(19);
        assert_eq!(injections(&sim), 2);
        sim.later(1);
        assert_eq!(injections(&sim), 3);
        sim.tell(Input::Issued(1));
        sim.tell(Input::Proven(1, vec![]));
        sim.see(1, true);
        sim.tell(Input::Proven(0, vec![]));
        sim.tell(Input::Proven(1, vec![]));
        assert_eq!(sim.finish(), (Verdict::Pass, vec![]));
    }

    #[test]
    fn times_to_detect_a_repeated_fault_count_from_the_first() {
        let mut plan = repeated();
        plan.blocks[0].acts.truncate(5);
        let mut sim = Sim::steady(plan);
        sim.see(1, false);
        sim.tell(Input::Issued(0));
        sim.later(1);
        sim.tell(Input::Proven(0, vec![]));
        sim.later(3);
        sim.tell(Input::Reverted(0));
        sim.see(1, true);
        sim.later(5);
        sim.tell(Input::Issued(0));
        sim.tell(Input::Proven(0, vec![]));
        sim.tell(Input::Proven(0, vec![]));
        assert_eq!(sim.finish(), (Verdict::Pass, vec![]));
        let (.., ttd, _) = sim.case_ended().unwrap();
        let ttd = ttd.unwrap();
        assert_eq!((ttd.time, ttd.uncertainty), (secs(5), secs(1)));
    }

    #[test]
    fn times_count_from_the_change_that_is_named() {
        let named = Expectation { from: Some("a".into()), ..within("seen") };
        let steps = vec![
            Step::Inject(change("a")),
            Step::Inject(change("b")),
            Step::Detect(vec![named, within("last")]),
        ];
        let mut sim = Sim::steady(plan(vec![within("steady")], steps));
        sim.see(1, false);
        sim.see(2, false);
        sim.tell(Input::Issued(0));
        sim.later(1);
        sim.tell(Input::Proven(0, vec![]));
        sim.later(4);
        sim.tell(Input::Issued(1));
        sim.tell(Input::Proven(1, vec![]));
        sim.see(1, true);
        sim.see(2, true);
        let time = |sim: &Sim, id| match sim.outcome(id) {
            Some(Outcome::Met { after: Some(after), .. }) => (after.time, after.uncertainty),
            other => panic!("{other:?}"),
        };
        assert_eq!(time(&sim, 1), (secs(6), secs(1)));
        assert_eq!(time(&sim, 2), (secs(2), secs(0)));
    }

    #[test]
    fn an_interrupt_does_not_wait_for_the_next_time() {
        let mut sim = Sim::steady(repeated());
        sim.see(1, false);
        sim.tell(Input::Issued(0));
        sim.tell(Input::Proven(0, vec![]));
        sim.tell(Input::Interrupted);
        assert_eq!(sim.reverts(), [0]);
        assert_ends(&mut sim, Verdict::Invalid, "interrupted");
    }

    #[test]
    fn a_jitter_is_within_its_bounds_and_the_same_for_the_same_seed() {
        let (times, every, lasts, jitter) = (9, secs(10), None, secs(3));
        let action = Change { repeat: Some(Repeat { times, every, lasts, jitter }), ..change("a") };
        let acts = |seed| {
            let scenario = crate::scenario::Scenario {
                steps: vec![Step::Inject(action.clone()), Step::Detect(vec![within("seen")])],
                ..scenario()
            };
            Plan::new(&scenario, "default", VERSION, seed).unwrap().blocks[0].acts.clone()
        };
        let waits = |seed| -> Vec<Duration> {
            let wait = |act| match act {
                Act::Wait(time) => Some(time),
                _ => None,
            };
            acts(seed).into_iter().filter_map(wait).collect()
        };
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2));
        assert_eq!(waits(1).len(), 8);
        assert!(waits(1).iter().all(|wait| (secs(7)..=secs(13)).contains(wait)), "{:?}", waits(1));
    }
}
