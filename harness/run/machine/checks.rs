//! What must not hold yet before a change.

use super::sim::*;
use super::*;
use crate::scenario::Step;

#[test]
fn a_detection_that_already_holds_before_the_fault_is_invalid() {
    let mut sim = Sim::steady(simple());
    sim.see(2, true); // `throughout`: exempt.
    assert!(!sim.wants(&Action::Inject(0)), "not before each `within` was observed");
    sim.see(1, true);
    assert!(!sim.wants(&Action::Inject(0)));
    assert_ends(&mut sim, Verdict::Invalid, "\"seen\" already holds before a");
}

#[test]
fn a_detection_that_comes_true_before_the_fault_is_issued_is_invalid() {
    let mut sim = Sim::steady(simple());
    sim.see(1, false);
    assert!(sim.wants(&Action::Inject(0)));
    sim.see(1, true);
    sim.tell(Input::Issued(0));
    sim.tell(Input::Proven(0, vec![]));
    assert_ends(&mut sim, Verdict::Invalid, "\"seen\" already holds before a");
    assert_eq!(sim.reverts(), [0]);
}

#[test]
fn a_detection_that_comes_true_while_others_are_checked_is_invalid() {
    let detect = Step::Detect(vec![within("seen"), within("slow")]);
    let mut sim =
        Sim::steady(plan(vec![within("steady")], vec![Step::Inject(change("a")), detect]));
    sim.see(1, false);
    sim.see(1, true);
    sim.see(2, false);
    assert!(!sim.wants(&Action::Inject(0)));
    assert_ends(&mut sim, Verdict::Invalid, "\"seen\" already holds before a");
}

#[test]
fn an_observation_from_before_the_check_does_not_count_for_it() {
    let mut sim = Sim::steady(simple());
    let now = sim.now;
    let began = now.saturating_sub(secs(1));
    let old = Seen { holds: false, saw: String::new(), began, ended: now, watched: false };
    sim.tell(Input::Seen(1, old));
    assert!(!sim.wants(&Action::Inject(0)));
    sim.see(1, false);
    assert!(sim.wants(&Action::Inject(0)));
}

#[test]
fn a_detection_that_came_true_for_a_moment_while_others_are_checked_is_invalid() {
    let steps = vec![Step::Inject(change("a")), Step::Detect(vec![within("one"), within("two")])];
    let mut sim = Sim::steady(plan(vec![within("steady")], steps));
    sim.see(1, false);
    sim.see(1, true);
    sim.see(1, false);
    sim.see(2, false);
    assert!(!sim.wants(&Action::Inject(0)));
    assert_ends(&mut sim, Verdict::Invalid, "\"one\" already holds before a");
}

#[test]
fn what_counts_from_its_first_look_is_looked_at_twice_before_the_fault() {
    let mut plan = simple();
    plan.expectations[1].counts = true;
    let mut sim = Sim::steady(plan);
    sim.see(1, false);
    assert!(!sim.wants(&Action::Inject(0)));
    sim.see(1, false);
    assert!(sim.wants(&Action::Inject(0)));
}

#[test]
fn a_detection_that_can_not_be_observed_before_the_fault_is_invalid() {
    let mut sim = Sim::steady(simple());
    sim.later(120);
    assert!(!sim.wants(&Action::Inject(0)));
    assert_ends(&mut sim, Verdict::Invalid, "\"seen\" could not be observed");
}

#[test]
fn a_recovery_that_already_holds_before_the_revert_is_invalid() {
    let mut sim = Sim::detected();
    sim.see(3, true);
    assert_eq!(sim.reverts(), [0; 0], "not before the objects concerned are written down");
    assert_ends(&mut sim, Verdict::Invalid, "\"back\" already holds before the revert of a");
    assert_eq!(sim.reverts(), [0]);
}
