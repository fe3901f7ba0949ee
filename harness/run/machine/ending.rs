//! How a case ends: whatever is in place is taken back, the last first, each verified before the
//! next, and then the cluster ends.

use std::time::Duration;

use super::stepping::Asked;
use super::{Ending, Machine, State};
use crate::event::{ActionState, Phase, What};
use crate::run::plan::Act;
use crate::run::step::Action;

impl Machine {
    /// Something ends the case early: at once, unless a change is under way, which is waited for.
    pub(super) fn cut_short(&mut self, now: Duration, ending: Ending, reason: String) {
        if matches!(self.state, State::TearingDown | State::Ended) {
            return;
        }
        let first = self.ending == Ending::Not;
        self.ending = self.ending.max(ending);
        self.findings.invalid.push(reason);
        match self.state {
            State::Provision if first => self.out.push_back(Action::AbandonProvision),
            State::Collecting if self.ending == Ending::Interrupted => self.begin_undo(now),
            State::Provision
            | State::SettingUp(_)
            | State::Acting(_)
            | State::Collecting
            | State::Undoing => {}
            _ => self.undo(now),
        }
    }

    pub(super) fn undo(&mut self, now: Duration) {
        self.enter_phase(Phase::Teardown);
        for id in self.observed.clone() {
            self.stop_observing(id);
        }
        for tracker in &mut self.trackers {
            tracker.give_up();
        }
        self.tell(0..self.trackers.len());
        let clean = self.findings.is_clean();
        self.findings.invalid.append(&mut self.left_away);
        if clean || self.ending == Ending::Interrupted {
            return self.begin_undo(now);
        }
        self.state = State::Collecting;
        self.out.push_back(Action::Collect);
    }

    pub(super) fn collected(&mut self, now: Duration, file: Option<String>) {
        if let Some(file) = file
            && self.state != State::Ended
        {
            self.emit(What::ObjectsKept { file });
        }
        if self.state == State::Collecting {
            self.begin_undo(now);
        }
    }

    fn begin_undo(&mut self, now: Duration) {
        if !self.asks(Asked::Undo) {
            self.take_back(now);
        }
    }

    pub(super) fn take_back(&mut self, now: Duration) {
        self.state = State::Undoing;
        self.undo_next(now);
    }

    fn undo_next(&mut self, now: Duration) {
        let waiting = self.in_place.values().any(|in_place| in_place.reverting.is_some());
        if waiting {
            return;
        }
        let last = self.in_place.keys().next_back().copied();
        if let Some(action) = last {
            self.revert(now, action);
        } else {
            self.state = State::TearingDown;
            self.out.push_back(Action::Teardown { so_far: self.findings.verdict() });
        }
    }

    pub(super) fn revert(&mut self, now: Duration, action: usize) {
        if let Some(in_place) = self.in_place.get_mut(&action) {
            in_place.reverting = Some(now);
            self.emit_action(action, ActionState::Reverting);
            self.out.push_back(Action::Revert(action));
        }
    }

    /// The action that is being taken back is done with; since when it was, if it is one.
    fn revert_ended(&mut self, action: usize) -> Option<Duration> {
        self.in_place.get_mut(&action).and_then(|in_place| in_place.reverting.take())
    }

    pub(super) fn reverted(&mut self, now: Duration, action: usize) {
        let Some(since) = self.revert_ended(action) else { return };
        self.in_place.remove(&action);
        let took = now.saturating_sub(since);
        self.emit_action(action, ActionState::Reverted { took });
        if let Some(index) = self.acting_on(Act::Revert(action)) {
            self.proven.insert(index, took);
            self.next_act(now, index);
        } else {
            self.undo_next(now);
        }
    }

    pub(super) fn not_reverted(&mut self, now: Duration, action: usize, why: &str) {
        if self.revert_ended(action).is_none() {
            return;
        }
        let name = &self.plan.actions[action].name;
        self.findings.dirty.push(format!("the revert of {name} is not verified: {why}"));
        self.emit_action(action, ActionState::NotReverted { why: why.to_owned() });
        if self.acting_on(Act::Revert(action)).is_some() {
            self.undo(now); // It is tried once more there.
        } else {
            self.in_place.remove(&action);
            self.undo_next(now);
        }
    }

    pub(super) fn torn_down(&mut self, result: Result<(), String>) {
        if self.state != State::TearingDown {
            return;
        }
        if let Err(why) = result {
            self.findings.dirty.push(format!("the cluster could not be ended: {why}"));
        }
        self.end();
    }

    pub(super) fn end(&mut self) {
        for tracker in &mut self.trackers {
            tracker.give_up();
        }
        self.tell(0..self.trackers.len());
        self.state = State::Ended;
        let (verdict, reasons) = (self.findings.verdict(), self.findings.reasons());
        let (ttd, ttr) = (self.ttd.measured(), self.ttr.measured());
        self.emit(What::CaseEnded { verdict, reasons, ttd, ttr });
    }
}
