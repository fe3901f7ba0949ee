//! Stops between the steps, for somebody who looks into the cluster meanwhile. A change and what is
//! expected of it are one piece: its times count from the change.

use std::time::Duration;

use super::{Ending, Machine, State};
use crate::event::INTERRUPTED;
use crate::run::plan::{Act, Plan, Role};
use crate::run::step::{Action, Reply};

/// What a question is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// The block's changes and what is expected of them.
    Block(usize),
    /// The undo of what is in place.
    Undo,
}

impl Machine {
    /// The same, but it asks before each change of the cluster.
    #[must_use]
    pub fn stepping(mut self) -> Self {
        self.stepping = true;
        self
    }

    /// Asks, if anybody is to be asked; whether it did.
    pub(super) fn asks(&mut self, asked: Asked) -> bool {
        if !self.stepping || self.ending == Ending::Interrupted {
            return false;
        }
        let next = match asked {
            Asked::Block(block) => words(&self.plan, block),
            Asked::Undo if self.in_place.is_empty() => return false,
            Asked::Undo => {
                let names = self.in_place.keys().rev().map(|id| &*self.plan.actions[*id].name);
                format!("  take back {}", names.collect::<Vec<_>>().join(", "))
            }
        };
        self.state = State::Asking(asked);
        self.out.push_back(Action::Ask(next));
        true
    }

    pub(super) fn replied(&mut self, now: Duration, reply: Reply) {
        let State::Asking(asked) = self.state else { return };
        match (reply, asked) {
            (Reply::GoOn, Asked::Block(block)) => self.begin_block(now, block),
            (Reply::Skip, Asked::Block(block)) => {
                let reason = format!("left away by hand: {}", words(&self.plan, block).trim());
                self.left_away.push(reason.replace("\n  ", "; "));
                self.enter_block(now, block + 1);
            }
            (Reply::Revert, Asked::Block(_)) => {
                self.cut_short(now, Ending::Interrupted, INTERRUPTED.to_owned());
            }
            // There is nothing else to go on with.
            (_, Asked::Undo) => self.take_back(now),
        }
    }
}

/// A block in words, a line for each change and expectation.
fn words(plan: &Plan, block: usize) -> String {
    let Some(block) = plan.blocks.get(block) else { return String::new() };
    let acts = block.acts.iter().map(|act| match act {
        Act::Inject(action) => {
            let planned = &plan.actions[*action];
            let verb = if planned.role == Role::Remedy { "remedy" } else { "inject" };
            format!("  {verb} {}: {}", planned.name, planned.does)
        }
        Act::Revert(action) => format!("  revert {}", plan.actions[*action].name),
        Act::Wait(time) => format!("  wait until {time:.1?} after the injection before"),
    });
    let expected = block.stages.iter().cloned().flatten();
    let expected = expected.map(|id| format!("  expect: {}", plan.expectations[id].name));
    acts.chain(expected).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::super::sim::*;
    use super::super::*;
    use crate::run::step::{Input, Reply};

    fn asked(sim: &Sim) -> Vec<&str> {
        let asks = sim.wanted.iter().filter_map(|wanted| match wanted {
            Action::Ask(next) => Some(next.as_str()),
            _ => None,
        });
        asks.collect()
    }

    /// The simple case, which asks before its first block.
    fn stepping() -> Sim {
        let mut sim = Sim::of(Machine::new(simple()).stepping());
        sim.ready();
        sim.see(0, true);
        sim
    }

    fn go_on(sim: &mut Sim) {
        sim.tell(Input::Replied(Reply::GoOn));
    }

    #[test]
    fn it_asks_before_each_block_and_passes_all_the_same() {
        let mut sim = stepping();
        assert_eq!(asked(&sim).len(), 1);
        assert!(asked(&sim)[0].contains("inject a"), "{:?}", asked(&sim));
        assert!(asked(&sim)[0].contains("expect: seen"), "{:?}", asked(&sim));
        go_on(&mut sim);
        sim.see(1, false);
        sim.tell(Input::Issued(0));
        sim.later(2);
        sim.tell(Input::Proven(0, vec![]));
        sim.see(1, true);
        sim.see(2, true);
        sim.later(10);
        sim.see(2, true);
        sim.tell(Input::Proven(0, vec![]));
        assert_eq!(asked(&sim).len(), 2);
        assert!(sim.reverts().is_empty());
        go_on(&mut sim);
        sim.see(3, false);
        sim.see(3, true);
        sim.tell(Input::Reverted(0));
        assert_eq!(sim.finish(), (Verdict::Pass, vec![]));
        assert_eq!(asked(&sim).len(), 2, "nothing was in place at the end");
    }

    #[test]
    fn what_is_skipped_makes_it_invalid() {
        let mut sim = stepping();
        sim.tell(Input::Replied(Reply::Skip));
        assert!(asked(&sim)[1].contains("revert a"), "{:?}", asked(&sim));
        sim.tell(Input::Replied(Reply::Skip));
        assert_ends(&mut sim, Verdict::Invalid, "left away by hand: inject a");
    }

    #[test]
    fn what_was_left_away_has_nothing_to_be_taken_back() {
        let mut sim = stepping();
        sim.tell(Input::Replied(Reply::Skip));
        go_on(&mut sim);
        sim.see(3, false);
        assert!(sim.reverts().is_empty());
        sim.see(3, true);
        assert_ends(&mut sim, Verdict::Invalid, "left away by hand: inject a");
    }

    #[test]
    fn it_asks_before_what_is_in_place_is_taken_back() {
        let mut sim = stepping();
        go_on(&mut sim);
        sim.see(1, false);
        sim.tell(Input::Issued(0));
        sim.tell(Input::Unproven(0, "no".into()));
        sim.tell(Input::Collected(None));
        assert_eq!(asked(&sim).last(), Some(&"  take back a"));
        assert!(sim.reverts().is_empty());
        go_on(&mut sim);
        assert_eq!(sim.reverts(), [0]);
        assert_ends(&mut sim, Verdict::Inconclusive, "not proven");
    }

    #[test]
    fn an_interrupt_and_a_revert_ask_nothing_more() {
        for end in [Input::Interrupted, Input::Replied(Reply::Revert)] {
            let mut sim = stepping();
            sim.tell(end);
            assert_eq!(asked(&sim).len(), 1);
            assert_ends(&mut sim, Verdict::Invalid, "interrupted");
        }
    }
}
