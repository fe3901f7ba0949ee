//! What a scenario needs is set up, one object after another, before its steady state is looked at. It is
//! taken back at the end like everything else; nobody proves it again.

use std::time::Duration;

use super::{Ending, InPlace, Machine, State};
use crate::event::{ActionState, Phase};
use crate::run::step::Action;

impl Machine {
    /// Sets the action of this number up; after the last comes the steady state.
    pub(super) fn set_up(&mut self, now: Duration, action: usize) {
        if self.ending != Ending::Not {
            return self.undo(now);
        }
        self.enter_phase(Phase::SteadyState);
        if !self.plan.setup.contains(&action) {
            return self.enter_steady_state(now);
        }
        self.state = State::SettingUp(action);
        self.in_place.insert(action, InPlace::default());
        self.out.push_back(Action::Inject(action));
    }

    /// Whether it is set up just now.
    pub(super) fn sets_up(&self, action: usize) -> bool {
        self.state == State::SettingUp(action)
    }

    pub(super) fn is_not_set_up(&mut self, now: Duration, action: usize, why: &str) {
        let name = &self.plan.actions[action].name;
        self.findings.invalid.push(format!("{name} could not be set up: {why}"));
        self.emit_action(action, ActionState::Unproven { why: why.to_owned() });
        self.undo(now);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::sim::*;
    use super::super::*;
    use crate::run::step::Input;
    use crate::scenario::{Apply, ObjectRef, Only, Scenario, SetUp, Step, Versions};

    /// Setup 0 and 1, then fault 2, detected by expectation 0.
    fn needing() -> Plan {
        let set_up = |name: &str| {
            let object = ObjectRef {
                api_version: "v1".into(),
                kind: "Namespace".into(),
                namespace: None,
                name: name.into(),
            };
            let apply = Apply { object, manifest: json!({}), count: None, through: None };
            SetUp { only: Only::All, versions: Versions::All, apply }
        };
        let scenario = Scenario {
            setup: vec![set_up("one"), set_up("two")],
            steps: vec![Step::Inject(change("a")), Step::Detect(vec![within("seen")])],
            ..scenario()
        };
        Plan::new(&scenario, "default", VERSION, 0).unwrap()
    }

    fn injected(sim: &Sim) -> Vec<usize> {
        let of = |action: &Action| match action {
            Action::Inject(action) => Some(*action),
            _ => None,
        };
        sim.wanted.iter().filter_map(of).collect()
    }

    fn well(sim: &mut Sim, action: usize) {
        sim.tell(Input::Issued(action));
        sim.tell(Input::Proven(action, vec![]));
    }

    #[test]
    fn it_comes_before_the_steady_state_and_is_taken_back_last() {
        let mut sim = Sim::new(needing());
        sim.ready();
        assert_eq!(injected(&sim), [0]);
        well(&mut sim, 0);
        assert_eq!(injected(&sim), [0, 1]);
        assert!(!sim.wants(&Action::Observe(0)));
        well(&mut sim, 1);
        sim.see(0, false);
        well(&mut sim, 2);
        sim.see(0, true);
        // The fault alone is proven again.
        assert!(sim.wants(&Action::Prove(2)));
        assert!(!sim.wants(&Action::Prove(0)) && !sim.wants(&Action::Prove(1)));
        sim.tell(Input::Proven(2, vec![]));
        assert_eq!(sim.finish(), (Verdict::Pass, vec![]));
        assert_eq!(sim.reverts(), [2, 1, 0]);
    }

    #[test]
    fn what_can_not_be_set_up_is_invalid_and_the_rest_is_taken_back() {
        let mut sim = Sim::new(needing());
        sim.ready();
        well(&mut sim, 0);
        sim.tell(Input::Unproven(1, "forbidden".into()));
        assert_ends(&mut sim, Verdict::Invalid, "Namespace two could not be set up: forbidden");
        assert_eq!(sim.reverts(), [1, 0]);
    }

    #[test]
    fn an_interrupt_waits_for_what_is_being_set_up() {
        let mut sim = Sim::new(needing());
        sim.ready();
        sim.tell(Input::Interrupted);
        assert!(sim.reverts().is_empty());
        well(&mut sim, 0);
        assert_eq!(injected(&sim), [0]);
        assert_ends(&mut sim, Verdict::Invalid, "interrupted");
        assert_eq!(sim.reverts(), [0]);
    }

    #[test]
    fn without_the_injections_it_is_set_up_all_the_same() {
        let plan = needing().detection_alone(None);
        assert_eq!(plan.setup, 0..2);
    }
}
