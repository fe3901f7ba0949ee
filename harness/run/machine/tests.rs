//! Each rule of the verdicts by itself, with no cluster and no sleep.

use super::*;
use crate::event::Outcome;
use crate::run::tracker::Seen;
use crate::scenario::{
    Action as Change, ClusterNeeds, Component, Expectation, Fault, Health, HealthState, NodeRef,
    Only, Probe, Revert, Scenario, Signal, Step, Stop, Timing,
};

pub(super) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn expect(name: &str, timing: Timing) -> Expectation {
    let apiserver = NodeRef::Master(1);
    let health = Health { apiserver, path: "/readyz".into(), is: HealthState::Ok };
    let (only, probe, every) = (Only::All, Probe::Health(health), secs(1));
    Expectation { name: name.into(), only, probe, timing, every }
}

fn within(name: &str) -> Expectation {
    expect(name, Timing::Within { deadline: secs(10), stable_for: Duration::ZERO })
}

fn throughout(name: &str) -> Expectation {
    expect(name, Timing::Throughout { after: secs(2), window: secs(5) })
}

pub(super) fn change(name: &str) -> Change {
    let (component, on) = (Component::KubeApiserver, NodeRef::Master(3));
    let fault = Fault::Stop(Stop { component, on: vec![on], signal: Signal::Kill });
    Change { name: name.into(), only: Only::All, fault }
}

fn revert(names: &[&str]) -> Step {
    let actions = names.iter().map(ToString::to_string).collect();
    Step::Revert(Revert { only: Only::All, actions })
}

pub(super) fn plan(steady: Vec<Expectation>, steps: Vec<Step>) -> Plan {
    let scenario = Scenario {
        name: "test".into(),
        title: String::new(),
        notes: String::new(),
        references: vec![],
        cluster: ClusterNeeds { masters: 3, workers: 1, settings: vec![], addons: vec![] },
        variants: vec!["default".into()],
        steady_state: steady,
        steps,
    };
    Plan::new(&scenario, "default").unwrap()
}

/// Steady state 0; fault `a`; detection 1 (within), 2 (throughout); revert; recovery 3.
fn simple() -> Plan {
    plan(
        vec![within("steady")],
        vec![
            Step::Inject(change("a")),
            Step::Detect(vec![within("seen"), throughout("stays")]),
            revert(&["a"]),
            Step::Recover(vec![within("back")]),
        ],
    )
}

/// Verdict, reasons, TTD, TTR.
type CaseEnd = (Verdict, Vec<String>, Option<Measured>, Option<Measured>);

/// A machine with a clock, and a memory of what it wanted.
pub(super) struct Sim {
    pub(super) machine: Machine,
    pub(super) now: Duration,
    pub(super) wanted: Vec<Action>,
}

impl Sim {
    pub(super) fn new(plan: Plan) -> Self {
        let mut sim = Self { machine: Machine::new(plan), now: Duration::ZERO, wanted: vec![] };
        sim.collect();
        sim
    }

    /// A case whose steady state held; it checks before its first block.
    fn steady(plan: Plan) -> Self {
        let mut sim = Self::new(plan);
        sim.ready();
        sim.see(0, true);
        sim
    }

    /// The simple case up to its detection: the fault is proven, two seconds after it was issued.
    fn detecting(plan: Plan) -> Self {
        let mut sim = Self::steady(plan);
        sim.see(1, false);
        sim.tell(Input::Issued(0));
        sim.later(2);
        sim.tell(Input::Proven(0, vec![]));
        sim
    }

    /// The simple case with its fault detected and proven again; it checks before its revert.
    fn detected() -> Self {
        let mut sim = Self::detecting(simple());
        sim.see(1, true);
        sim.see(2, true);
        sim.later(10);
        sim.tell(Input::Proven(0, vec![]));
        sim
    }

    pub(super) fn ready(&mut self) {
        let took = self.now;
        self.tell(Input::ClusterReady { took, provenance: vec![], departures: vec![] });
    }

    fn collect(&mut self) {
        while let Some(action) = self.machine.next_action() {
            self.wanted.push(action);
        }
    }

    pub(super) fn tell(&mut self, input: Input) {
        self.machine.handle(self.now, input);
        self.collect();
    }

    pub(super) fn later(&mut self, seconds: u64) {
        self.now += secs(seconds);
        self.tell(Input::Tick);
    }

    /// An observation that takes a second.
    fn see(&mut self, id: usize, holds: bool) {
        let began = self.now;
        self.now += secs(1);
        let saw = format!("{holds}");
        let seen = Seen { holds, saw, began, ended: self.now, watched: false };
        self.tell(Input::Seen(id, seen));
    }

    /// The reverts and the teardown succeed.
    fn finish(&mut self) -> (Verdict, Vec<String>) {
        while let Some(action) = self.reverting() {
            self.tell(Input::Reverted(action));
        }
        self.tell(Input::TornDown(Ok(())));
        self.ended()
    }

    /// The action whose revert is wanted and not yet answered.
    fn reverting(&self) -> Option<usize> {
        let in_place = &self.machine.in_place;
        in_place.iter().find(|(_, it)| it.reverting.is_some()).map(|(action, _)| *action)
    }

    fn wants(&self, action: &Action) -> bool {
        self.wanted.contains(action)
    }

    fn reverts(&self) -> Vec<usize> {
        let of = |action: &Action| match action {
            Action::Revert(action) => Some(*action),
            _ => None,
        };
        self.wanted.iter().filter_map(of).collect()
    }

    pub(super) fn outcome(&self, wanted: usize) -> Option<Outcome> {
        self.wanted.iter().find_map(|action| match action {
            Action::Emit(What::ExpectationEnded { id, outcome }) if *id == wanted => {
                Some(outcome.clone())
            }
            _ => None,
        })
    }

    fn case_ended(&self) -> Option<CaseEnd> {
        self.wanted.iter().find_map(|action| match action {
            Action::Emit(What::CaseEnded { verdict, reasons, ttd, ttr }) => {
                Some((*verdict, reasons.clone(), *ttd, *ttr))
            }
            _ => None,
        })
    }

    pub(super) fn ended(&self) -> (Verdict, Vec<String>) {
        let (verdict, reasons, ..) = self.case_ended().expect("the case has not ended");
        assert_eq!(self.machine.verdict(), Some(verdict));
        (verdict, reasons)
    }
}

#[track_caller]
fn assert_ends(sim: &mut Sim, verdict: Verdict, reason: &str) {
    let (found, reasons) = sim.finish();
    assert_eq!(found, verdict, "{reasons:?}");
    assert!(reasons.first().is_some_and(|first| first.contains(reason)), "{reasons:?}");
}

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
    assert!(!sim.wants(&Action::Teardown));
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
fn a_detection_that_already_holds_before_the_fault_is_invalid() {
    let mut sim = Sim::steady(simple());
    sim.see(2, true); // `throughout`: exempt.
    assert!(!sim.wants(&Action::Inject(0)), "not before each `within` was observed");
    sim.see(1, true);
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
    assert_ends(&mut sim, Verdict::Invalid, "\"back\" already holds before the revert of a");
    assert_eq!(sim.reverts(), [0]);
}

#[test]
fn a_fault_that_is_not_proven_is_inconclusive_and_reverted() {
    let mut sim = Sim::steady(simple());
    sim.see(1, false);
    sim.tell(Input::Issued(0));
    sim.tell(Input::Unproven(0, "it runs".into()));
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
    let Some(Outcome::Failed { wanted, saw }) = sim.outcome(1) else { panic!("not failed") };
    assert_eq!(
        (wanted.as_str(), saw.as_str()),
        ("/readyz of master-1 is 200, within 10s", "false")
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
        sim.tell(Input::Proven(0, vec![]));
        assert_ends(&mut sim, Verdict::Fail, "\"stays\" after 2s, throughout 5s");
    }
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
    assert!(sim.wants(&Action::Teardown));
    assert_ends(&mut sim, Verdict::Invalid, "interrupted");
}

#[test]
fn a_death_unasked_and_a_blind_observer_are_invalid() {
    let died =
        Input::DiedUnasked { process: "kubelet".into(), status: "exit 1".into(), log: vec![] };
    for (input, reason) in [
        (died, "kubelet died unasked: exit 1"),
        (Input::ObserverFailed(1, "no node".into()), "\"seen\" can't be observed: no node"),
    ] {
        let mut sim = Sim::detecting(simple());
        sim.tell(input);
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
    let mut scenario = Scenario {
        name: "test".into(),
        title: String::new(),
        notes: String::new(),
        references: vec![],
        cluster: ClusterNeeds { masters: 1, workers: 0, settings: vec![], addons: vec![] },
        variants: vec!["default".into()],
        steady_state: vec![],
        steps: vec![Step::Inject(change("a")), revert(&["a"]), revert(&["a"])],
    };
    let of = |scenario: &Scenario, variant| Plan::new(scenario, variant).map(drop);
    assert_eq!(of(&scenario, "default"), Err(PlanError::NotInPlace("a".into())));
    assert_eq!(of(&scenario, "other"), Err(PlanError::UnknownVariant("other".into())));
    scenario.steps.pop();
    assert_eq!(of(&scenario, "default"), Ok(()));
}
