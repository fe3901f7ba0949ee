//! Each rule of the verdicts by itself, with no cluster and no sleep.
//!
//! What fails when a rule of the experiment is broken, here and elsewhere:
//!
//! 1. Out of band; an API's error is data: `rooms_depend_on_each_other_in_one_direction` (tidy),
//!    `a_refused_connection_is_told_from_other_failures` (client), `each_state_is_told_from_the_others`
//!    (health); e2e, whose probes go on while an apiserver is down.
//! 2. Proof of effect, twice: `a_fault_that_is_not_proven…`, `a_fault_that_was_never_issued…`,
//!    `a_proof_lost_before_the_revert…`; e2e `without_the_injection_is_inconclusive`. Reverts:
//!    `a_revert_that_is_not_verified_is_dirty…`, `the_scripts_hold_a_process_down…` (stop).
//! 3. Undo before do: `the_inverse_is_on_disk_before_a_node_is_changed…` (tests/run.rs), the journal's
//!    own; `what_is_in_place_is_reverted_in_reverse_order…`, `an_interrupt_takes_back…` (tests/run.rs);
//!    `what_must_be_taken_back_in_order` (tests/scenario).
//! 4. One clock: `deadlines_count_from_the_issue…`, `times_count_from_the_last…`,
//!    `a_case_passes_with_everything…` (uncertainty, resolution), `the_resolution_is…` (tracker).
//! 5. Nothing for nothing: `a_detection_that_already_holds…`, `a_recovery_that_already_holds…`,
//!    `the_check_reaches…`, `a_detection_that_comes_true…` (2), `a_detection_that_came_true_for…`,
//!    `what_counts_from_its_first_look…` (all in checks), `what_is_under_way…` (tracker),
//!    `the_steady_state_holds_only_when_all…`, `no_pass_for_nothing`;
//!    `without_its_fault_each_detection_fails…` and e2e `…_with_only_the_proof`; a share's bounds (tally).
//! 6. Each apiserver by itself: e2e `stopped-apiserver`, in which one refuses, the balancer does not.
//! 7. Non-recovery is expected: `a_throughout_that_breaks…`; e2e `master-count-sigkill`.
//! 8. Last seen beside wanted: `a_failure_keeps_what_was_wanted…`, the snapshots of the reports.
//! 9. What ran: `the_json_report` (report), the conformance test's provenance.

use super::sim::*;
use super::*;
use crate::event::Outcome;
use crate::scenario::{
    Action as Change, Expectation, Fault, FileChange, Make, NodeRef, Scenario, Step,
};

#[test]
fn a_case_passes_with_everything_met_proven_and_reverted() {
    let mut sim = Sim::detected();
    sim.see(3, false);
    assert_eq!(sim.reverts(), [0]);
    sim.later(4);
    sim.see(3, true);
    sim.tell(Input::Reverted(0));
    assert_eq!(sim.finish(), (Verdict::Pass, vec![]));
    let (.., ttd, ttr) = sim.case_ended().unwrap();
    // Issued, proven 2 s later, seen by the observation that ended 3 s after the issue; the one
    // before had begun 1 s before the issue.
    let ttd = ttd.unwrap();
    assert_eq!((ttd.time, ttd.uncertainty, ttd.resolution), (secs(3), secs(2), secs(4)));
    assert_eq!(ttr.unwrap().time, secs(5));
    assert_eq!(sim.reverts(), [0], "reverted once");
}

#[test]
fn no_cluster_is_invalid() {
    let mut sim = Sim::new(simple());
    sim.tell(Input::ClusterFailed("no space".into()));
    let (verdict, reasons) = sim.ended();
    assert_eq!((verdict, reasons[0].as_str()), (Verdict::Invalid, "there is no cluster: no space"));
    assert!(sim.torn_down().is_none());
}

#[test]
fn a_steady_state_that_never_held_is_invalid_and_nothing_is_injected() {
    let mut sim = Sim::new(simple());
    sim.ready();
    sim.see(0, false);
    sim.later(10);
    assert!(!sim.wants(&Action::Inject(0)));
    assert_ends(&mut sim, Verdict::Invalid, "last seen: false");
}

#[test]
fn a_fault_that_is_not_proven_is_inconclusive_and_reverted() {
    let mut sim = Sim::steady(simple());
    sim.see(1, false);
    sim.tell(Input::Issued(0));
    sim.tell(Input::Unproven(0, "it runs".into()));
    sim.tell(Input::Collected(Some("objects.yaml".into())));
    assert!(sim.wants(&Action::Emit(What::ObjectsKept { file: "objects.yaml".into() })));
    assert_eq!(sim.reverts(), [0]);
    assert_ends(&mut sim, Verdict::Inconclusive, "a is not proven: it runs");
}

#[test]
fn a_fault_that_was_never_issued_is_not_proven() {
    let mut sim = Sim::steady(simple());
    sim.see(1, false);
    sim.tell(Input::Proven(0, vec![]));
    assert_ends(&mut sim, Verdict::Inconclusive, "never issued");
}

#[test]
fn a_proof_lost_before_the_revert_is_inconclusive() {
    let mut sim = Sim::detecting(simple());
    sim.see(1, true);
    sim.see(2, true);
    sim.later(10);
    sim.see(2, true);
    sim.tell(Input::Unproven(0, "it runs again".into()));
    assert_ends(&mut sim, Verdict::Inconclusive, "a was lost: it runs again");
}

#[test]
fn a_detection_that_fails_is_told_from_a_lost_fault() {
    for (proven, verdict, reason) in [
        (Input::Proven(0, vec![]), Verdict::Fail, "\"seen\" within 10s"),
        (Input::Unproven(0, "gone".into()), Verdict::Inconclusive, "a was lost"),
    ] {
        let mut sim = Sim::detecting(simple());
        sim.see(2, true);
        sim.later(20);
        sim.see(2, true);
        sim.tell(proven);
        assert_ends(&mut sim, verdict, reason);
    }
}

#[test]
fn a_failure_keeps_what_was_wanted_and_last_seen_and_its_step_goes_on_to_its_end() {
    let mut sim = Sim::detecting(simple());
    sim.see(1, false);
    sim.see(2, true);
    sim.later(20);
    sim.see(2, true);
    let Some(Outcome::Failed { wanted, saw }) = sim.outcome(1) else { panic!("not failed") };
    assert_eq!(
        (wanted.as_str(), saw.as_str()),
        ("/readyz of master-1 is 200, within 10s", "false (7.0 s before the deadline)")
    );
    assert!(matches!(sim.outcome(2), Some(Outcome::Met { after: None, .. })));
    sim.tell(Input::Proven(0, vec![]));
    assert_eq!(sim.outcome(3), Some(Outcome::Dropped));
    let (verdict, _) = sim.finish();
    assert_eq!(verdict, Verdict::Fail);
    assert!(sim.case_ended().unwrap().2.is_none(), "no time to detect");
}

#[test]
fn a_throughout_that_breaks_or_is_never_observed_fails() {
    for broken in [true, false] {
        let mut sim = Sim::detecting(simple());
        sim.see(1, true);
        if broken {
            sim.see(2, false);
        }
        sim.later(20);
        sim.see(2, true);
        sim.tell(Input::Proven(0, vec![]));
        assert_ends(&mut sim, Verdict::Fail, "\"stays\" after 2s, throughout 5s");
    }
}

#[test]
fn what_is_wanted_in_a_window_alone_is_not_observed_before_it_opens() {
    let mut sim = Sim::steady(simple());
    sim.see(1, false);
    sim.tell(Input::Issued(0));
    assert!(!sim.wants(&Action::Observe(2)));
    assert_eq!(sim.machine.wake(), Some(sim.now + secs(2)), "also before the fault is proven");
    sim.later(2);
    assert!(sim.wants(&Action::Observe(2)));
    sim.see(2, true);
    sim.later(20);
    sim.see(2, true);
    sim.tell(Input::Proven(0, vec![]));
    assert!(matches!(sim.outcome(2), Some(Outcome::Met { .. })));
}

#[test]
fn deadlines_count_from_the_issue_not_from_the_proof() {
    let mut sim = Sim::steady(simple());
    sim.see(1, false);
    sim.tell(Input::Issued(0));
    sim.later(11);
    sim.tell(Input::Proven(0, vec![]));
    sim.see(1, true);
    sim.see(2, true);
    sim.later(20);
    assert!(matches!(sim.outcome(1), Some(Outcome::Failed { .. })));
}

#[test]
fn a_revert_that_is_not_verified_is_dirty_whatever_else() {
    let mut sim = Sim::detected();
    sim.see(3, false);
    sim.tell(Input::NotReverted(0, "the manifest differs".into()));
    sim.tell(Input::Collected(None));
    assert_eq!(sim.reverts(), [0, 0], "tried once more at the end");
    assert_ends(&mut sim, Verdict::Dirty, "the revert of a is not verified: the manifest differs");

    let mut sim = Sim::detecting(simple());
    sim.tell(Input::Interrupted);
    sim.tell(Input::NotReverted(0, "no answer".into()));
    assert_eq!(sim.reverts(), [0]);
    assert_ends(&mut sim, Verdict::Dirty, "no answer");
}

#[test]
fn a_cluster_that_does_not_end_is_dirty() {
    let mut sim = Sim::steady(simple());
    sim.tell(Input::Interrupted);
    sim.tell(Input::TornDown(Err("busy".into())));
    assert_eq!(sim.ended().0, Verdict::Dirty);
}

#[test]
fn an_interrupt_reverts_and_is_invalid() {
    let mut sim = Sim::detecting(simple());
    sim.tell(Input::Interrupted);
    assert_eq!(sim.reverts(), [0]);
    assert_ends(&mut sim, Verdict::Invalid, "interrupted");
}

#[test]
fn an_interrupt_waits_for_a_change_under_way() {
    let mut sim = Sim::steady(simple());
    sim.see(1, false);
    sim.tell(Input::Issued(0));
    sim.tell(Input::Interrupted);
    assert_eq!(sim.reverts(), [0; 0]);
    sim.tell(Input::Proven(0, vec![]));
    assert_eq!(sim.reverts(), [0]);
    assert_ends(&mut sim, Verdict::Invalid, "interrupted");
}

#[test]
fn an_interrupt_while_provisioning_gives_the_cluster_up() {
    let mut sim = Sim::new(simple());
    sim.tell(Input::Interrupted);
    sim.tell(Input::Interrupted);
    let given_up = sim.wanted.iter().filter(|a| **a == Action::AbandonProvision).count();
    assert_eq!(given_up, 1);
    sim.ready(); // It stood already.
    assert_eq!(sim.torn_down(), Some(Verdict::Invalid));
    assert_ends(&mut sim, Verdict::Invalid, "interrupted");
}

fn died(process: &str, restarts: bool) -> Input {
    let (process, status) = (process.to_owned(), "exit 1".to_owned());
    Input::DiedUnasked { process, status, restarts, log: vec![] }
}

#[test]
fn what_is_started_again_may_die_of_a_fault_but_not_before_it() {
    let mut sim = Sim::steady(simple());
    sim.tell(died("kubelet", true));
    sim.tell(Input::Collected(None));
    assert_ends(&mut sim, Verdict::Invalid, "kubelet died unasked: exit 1");
    let mut sim = Sim::detecting(simple());
    sim.tell(died("kubelet", true));
    sim.see(1, true);
    sim.see(2, true);
    sim.later(10);
    sim.see(2, true);
    sim.tell(Input::Proven(0, vec![]));
    sim.see(3, false);
    sim.tell(Input::Reverted(0));
    sim.tell(died("kubelet", true));
    sim.see(3, true);
    assert_eq!(sim.finish(), (Verdict::Pass, vec![]));
}

#[test]
fn a_death_unasked_and_a_blind_observer_are_invalid() {
    for (input, reason) in [
        (
            died("the first process of master-1", false),
            "the first process of master-1 died unasked: exit 1",
        ),
        (Input::ObserverFailed(1, "no node".into()), "\"seen\" can't be observed: no node"),
    ] {
        let mut sim = Sim::detecting(simple());
        sim.tell(input);
        sim.tell(Input::Collected(None));
        assert_eq!(sim.reverts(), [0]);
        assert_ends(&mut sim, Verdict::Invalid, reason);
    }
}

#[test]
fn what_is_in_place_is_reverted_in_reverse_order_one_after_another() {
    let steps = vec![
        Step::Inject(change("a")),
        Step::Inject(change("b")),
        Step::Detect(vec![within("seen")]),
        Step::Remedy(change("c")),
        Step::Recover(vec![within("back")]),
    ];
    let mut sim = Sim::detecting(plan(vec![within("steady")], steps));
    assert!(sim.outcome(1).is_none());
    sim.tell(Input::Issued(1));
    sim.tell(Input::Proven(1, vec![]));
    sim.see(1, true);
    for action in [0, 1] {
        sim.tell(Input::Proven(action, vec![]));
    }
    assert!(!sim.wants(&Action::Inject(2)), "the remedy waits for the check of the recovery");
    sim.see(2, false);
    sim.tell(Input::Issued(2));
    sim.tell(Input::Proven(2, vec![]));
    sim.see(2, true);
    for action in [0, 1, 2] {
        sim.tell(Input::Proven(action, vec![]));
    }
    assert_eq!(sim.reverts(), [2], "the next only when the one before is verified");
    assert_eq!(sim.finish(), (Verdict::Pass, vec![]));
    assert_eq!(sim.reverts(), [2, 1, 0]);
    assert!(sim.case_ended().unwrap().3.is_some(), "a remedy's recovery is timed, too");
}

#[test]
fn what_a_later_fault_changes_again_is_proven_again_once_that_is_taken_back() {
    let file = |name: &str| {
        let on = vec![NodeRef::Master(1)];
        let fault = Fault::File(FileChange { path: "/a".into(), on, make: Make::Absent });
        Step::Inject(Change { fault, ..change(name) })
    };
    let seen = Step::Detect(vec![within("seen")]);
    let back = Step::Recover(vec![within("back")]);
    let steps = vec![file("a"), file("b"), seen, revert(&["b"]), back];
    let mut sim = Sim::detecting(plan(vec![within("steady")], steps));
    sim.tell(Input::Issued(1));
    sim.tell(Input::Proven(1, vec![]));
    sim.see(1, true);
    let proofs = |sim: &Sim| -> Vec<_> {
        let proof = |wanted: &_| if let Action::Prove(id) = wanted { Some(*id) } else { None };
        sim.wanted.iter().filter_map(proof).collect()
    };
    assert_eq!(proofs(&sim), vec![1]);
    sim.tell(Input::Proven(1, vec![]));
    sim.see(2, false);
    sim.tell(Input::Reverted(1));
    sim.see(2, true);
    assert_eq!(proofs(&sim), vec![1, 0]);
    sim.tell(Input::Proven(0, vec![]));
    assert_eq!(sim.finish(), (Verdict::Pass, vec![]));
}

#[test]
fn times_count_from_the_last_of_several_faults() {
    let steps = vec![
        Step::Inject(change("a")),
        Step::Inject(change("b")),
        Step::Detect(vec![within("seen")]),
    ];
    let mut sim = Sim::detecting(plan(vec![within("steady")], steps));
    sim.see(1, true); // Between the two: it does not count.
    sim.later(30);
    sim.tell(Input::Issued(1));
    sim.tell(Input::Proven(1, vec![]));
    sim.see(1, true);
    for action in [0, 1] {
        sim.tell(Input::Proven(action, vec![]));
    }
    assert_eq!(sim.finish().0, Verdict::Pass);
    assert_eq!(sim.case_ended().unwrap().2.unwrap().time, secs(1));
}

#[test]
fn a_later_steps_window_opens_with_the_step_and_its_deadline_counts_from_the_issue() {
    let steps = vec![
        Step::Inject(change("a")),
        Step::Detect(vec![within("seen")]),
        Step::Detect(vec![throughout("stays"), within("seen too")]),
    ];
    let mut sim = Sim::steady(plan(vec![within("steady")], steps));
    sim.see(1, false);
    assert!(!sim.wants(&Action::Inject(0)), "detection of later steps is checked, too");
    sim.see(3, false);
    sim.tell(Input::Issued(0));
    sim.tell(Input::Proven(0, vec![]));
    sim.later(7);
    sim.see(2, false); // Would be in the window, did it count from the issue.
    sim.see(3, true);
    sim.see(1, true);
    sim.later(2);
    sim.see(2, true);
    sim.later(5);
    sim.see(2, true);
    sim.tell(Input::Proven(0, vec![]));
    assert_eq!(sim.finish(), (Verdict::Pass, vec![]));
    assert_eq!(sim.case_ended().unwrap().2.unwrap().time, secs(10), "the latest of them");
}

#[test]
fn the_check_reaches_to_the_next_revert_or_remedy() {
    let plan = plan(
        vec![],
        vec![
            Step::Inject(change("a")),
            Step::Detect(vec![within("0"), throughout("1")]),
            Step::Inject(change("b")),
            Step::Detect(vec![within("2")]),
            revert(&["a", "b"]),
            Step::Recover(vec![within("3")]),
        ],
    );
    let not_yet: Vec<_> = (0..3).map(|block| plan.not_yet(block)).collect();
    assert_eq!(not_yet, [vec![0, 2], vec![2], vec![3]]);
    assert_eq!(plan.blocks[2].acts, [Act::Revert(1), Act::Revert(0)]);
}

#[test]
fn a_revert_of_what_is_not_in_place_and_an_unknown_variant_are_errors() {
    use super::super::plan::PlanError;
    let steps = vec![Step::Inject(change("a")), revert(&["a"]), revert(&["a"])];
    let mut scenario = Scenario { steps, ..scenario() };
    let of = |scenario: &Scenario, variant| Plan::new(scenario, variant, VERSION, 0).map(drop);
    assert_eq!(of(&scenario, "default"), Err(PlanError::NotInPlace("a".into())));
    assert_eq!(of(&scenario, "other"), Err(PlanError::UnknownVariant("other".into())));
    scenario.steps.pop();
    assert_eq!(of(&scenario, "default"), Ok(()));
}

#[test]
fn the_steady_state_holds_only_when_all_of_it_holds_at_one_moment() {
    let two = || plan(vec![within("one"), within("two")], vec![]);
    let mut sim = Sim::new(two());
    sim.ready();
    sim.see(0, true);
    sim.see(0, false);
    sim.see(1, true);
    assert!(sim.outcome(1).is_none(), "the first has held, but does not hold now");
    sim.see(0, true);
    assert_eq!(sim.finish(), (Verdict::Pass, vec![]));

    let mut sim = Sim::new(two());
    sim.ready();
    sim.see(0, true);
    sim.see(0, false);
    sim.see(1, true);
    sim.later(10);
    assert_ends(&mut sim, Verdict::Invalid, "\"one\" held, but not together with the rest");
}

#[test]
fn a_reused_cluster_without_its_steady_state_is_replaced_and_the_case_begins_again() {
    let mut sim = Sim::new(simple());
    sim.stands(true);
    sim.see(0, false);
    sim.later(10);
    assert!(sim.wants(&Action::Replace) && sim.outcome(0).is_none());
    sim.ready();
    sim.see(0, true);
    sim.see(1, false);
    assert!(sim.wants(&Action::Inject(0)));

    // Once only: the fresh one's steady state counts.
    let mut sim = Sim::new(simple());
    sim.stands(true);
    sim.later(11);
    sim.ready();
    sim.later(11);
    assert_ends(&mut sim, Verdict::Invalid, "steady state: \"steady\"");
    assert_eq!(sim.wanted.iter().filter(|action| **action == Action::Replace).count(), 1);
}

#[test]
fn no_other_takes_the_place_of_a_cluster_that_another_process_holds() {
    let mut sim = Sim::new(simple());
    sim.stands_as(true, false);
    sim.see(0, false);
    sim.later(10);
    assert_ends(&mut sim, Verdict::Invalid, "steady state: \"steady\"");
    assert!(!sim.wants(&Action::Replace));
}

#[test]
fn an_interrupt_does_not_wait_for_the_objects_concerned() {
    let mut sim = Sim::detecting(simple());
    sim.tell(Input::ObserverFailed(1, "no node".into()));
    assert!(sim.wants(&Action::Collect));
    assert_eq!(sim.reverts(), [0; 0]);
    sim.tell(Input::Interrupted);
    assert_eq!(sim.reverts(), [0]);
    sim.tell(Input::Collected(None));
    assert_eq!(sim.reverts(), [0], "an answer that comes late changes nothing");
    assert_ends(&mut sim, Verdict::Invalid, "can't be observed");
}

#[test]
fn the_teardown_tells_whether_the_cluster_may_be_used_again() {
    let mut sim = Sim::detected();
    sim.see(3, false);
    sim.tell(Input::Reverted(0));
    sim.see(3, true);
    assert_eq!(sim.torn_down(), Some(Verdict::Pass));

    let mut sim = Sim::detecting(simple());
    sim.later(20);
    sim.see(2, true);
    sim.tell(Input::Proven(0, vec![]));
    sim.finish();
    assert_eq!(sim.torn_down(), Some(Verdict::Fail));
}

#[test]
fn without_its_fault_each_detection_fails_by_itself_in_every_step_and_block() {
    let steps = vec![
        Step::Inject(change("a")),
        Step::Detect(vec![within("1"), throughout("2")]),
        Step::Detect(vec![within("3")]),
        Step::Remedy(change("r")),
        Step::Recover(vec![within("4")]),
        revert(&["a"]),
        Step::Inject(change("b")),
        Step::Detect(vec![within("5")]),
    ];
    let plan = plan(vec![within("0")], steps).detection_alone(None);
    let mut sim = Sim::of(Machine::exhaustive(plan));
    sim.ready();
    sim.see(0, true);
    for _ in 0..20 {
        for id in sim.machine.observed.clone() {
            sim.see(id, false);
        }
        while let Some(action) = sim.unproven() {
            sim.tell(Input::Issued(action));
            sim.tell(Input::Proven(action, vec![]));
        }
        while let Some(action) = sim.reverting() {
            sim.tell(Input::Reverted(action));
        }
        sim.later(1);
    }
    let failed = |id| matches!(sim.outcome(id), Some(Outcome::Failed { .. }));
    assert!([1, 2, 3, 5].into_iter().all(failed), "{:?}", sim.wanted);
    assert_eq!(sim.outcome(4), Some(Outcome::Dropped), "it is not detection");
    assert!(!sim.wants(&Action::Inject(1)), "the remedy is left out");
    assert_eq!(sim.finish().0, Verdict::Fail);
}

#[test]
fn versions_decide_what_is_expected_and_done() {
    let range = |text: &str| {
        let file = format!(
            "apiVersion: outage/v1alpha1\nkind: Scenario\nmetadata: {{name: a, title: t}}\nspec:\n  \
             cluster: {{masters: 1, workers: 0, versions: \"{text}\"}}\n  steadyState: [{{name: r, \
             probe: {{health: {{apiserver: {{master: 1}}, path: /readyz, is: ok}}}}, within: 9s}}]\n  \
             steps:\n  - inject: {{name: a, fault: {{stop: {{component: etcd, on: {{master: 1}}, \
             signal: SIGKILL}}}}}}\n  - detect: [{{name: d, probe: {{health: {{apiserver: {{master: 1}}, \
             path: /readyz, is: failing}}}}, within: 9s}}]\n"
        );
        crate::scenario::load("t", file.as_bytes()).unwrap().cluster.versions
    };
    let old = Expectation { versions: range("<1.28.3"), ..within("old") };
    let new = Expectation { versions: range(">=1.28.3"), ..within("new") };
    let only_new = Change { versions: range(">=1.28.3"), ..change("b") };
    let steps =
        vec![Step::Inject(change("a")), Step::Inject(only_new), Step::Detect(vec![old, new])];
    let scenario = Scenario { steps, ..scenario() };
    let of = |version| {
        let plan = Plan::new(&scenario, "default", version, 0).unwrap();
        let names = plan.expectations.iter().map(|planned| planned.name.clone());
        (names.collect::<Vec<_>>(), plan.actions.len())
    };
    assert_eq!(of([1, 28, 2]), (vec!["old".to_owned()], 1));
    assert_eq!(of([1, 28, 3]), (vec!["new".to_owned()], 2));
}
