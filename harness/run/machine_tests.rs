//! Each rule of the verdicts by itself, with no cluster and no sleep; then all of them against
//! whatever may happen.

use proptest::prelude::*;

use super::*;
use crate::event::Outcome;
use crate::run::tracker::Seen;
use crate::scenario::{
    Action as Change, ClusterNeeds, Component, Expectation, Fault, Health, HealthState, NodeRef,
    Only, Probe, Revert, Scenario, Signal, Step, Stop, Timing,
};

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn expect(name: &str, timing: Timing) -> Expectation {
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

fn change(name: &str) -> Change {
    let (component, on) = (Component::KubeApiserver, NodeRef::Master(3));
    let fault = Fault::Stop(Stop { component, on, signal: Signal::Kill });
    Change { name: name.into(), only: Only::All, fault }
}

fn revert(names: &[&str]) -> Step {
    let actions = names.iter().map(ToString::to_string).collect();
    Step::Revert(Revert { only: Only::All, actions })
}

fn plan(steady: Vec<Expectation>, steps: Vec<Step>) -> Plan {
    let scenario = Scenario {
        name: "test".into(),
        title: String::new(),
        notes: String::new(),
        references: vec![],
        cluster: ClusterNeeds { masters: 3, workers: 1, settings: vec![] },
        variants: vec!["default".into()],
        steady_state: steady,
        steps,
    };
    Plan::new(&scenario, "default").unwrap()
}

/// Steady state 0; fault `a`; detection 1 (within), 2 (throughout); revert; recovery 3.
fn simple() -> Plan {
    plan(vec![within("steady")], vec![
        Step::Inject(change("a")),
        Step::Detect(vec![within("seen"), throughout("stays")]),
        revert(&["a"]),
        Step::Recover(vec![within("back")]),
    ])
}

/// A machine with a clock, and a memory of what it wanted.
struct Sim {
    machine: Machine,
    now: Duration,
    wanted: Vec<Action>,
}

impl Sim {
    fn new(plan: Plan) -> Self {
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

    fn ready(&mut self) {
        let took = self.now;
        self.tell(Input::ClusterReady { took, provenance: vec![], departures: vec![] });
    }

    fn collect(&mut self) {
        while let Some(action) = self.machine.next_action() {
            self.wanted.push(action);
        }
    }

    fn tell(&mut self, input: Input) {
        self.machine.handle(self.now, input);
        self.collect();
    }

    fn later(&mut self, seconds: u64) {
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

    fn outcome(&self, wanted: usize) -> Option<Outcome> {
        self.wanted.iter().find_map(|action| match action {
            Action::Emit(What::ExpectationEnded { id, outcome }) if *id == wanted => {
                Some(outcome.clone())
            }
            _ => None,
        })
    }

    fn case_ended(&self) -> Option<(Verdict, Vec<String>, Option<Measured>, Option<Measured>)> {
        self.wanted.iter().find_map(|action| match action {
            Action::Emit(What::CaseEnded { verdict, reasons, ttd, ttr }) => {
                Some((*verdict, reasons.clone(), *ttd, *ttr))
            }
            _ => None,
        })
    }

    fn ended(&self) -> (Verdict, Vec<String>) {
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
    let old = Seen { holds: false, saw: String::new(), began: now - secs(1), ended: now, watched: false };
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
    assert_eq!((wanted.as_str(), saw.as_str()), ("/readyz of master-1 is 200, within 10s", "false"));
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
    [0, 1].into_iter().for_each(|action| sim.tell(Input::Proven(action, vec![])));
    assert!(!sim.wants(&Action::Inject(2)), "the remedy waits for the check of the recovery");
    sim.see(2, false);
    sim.tell(Input::Issued(2));
    sim.tell(Input::Proven(2, vec![]));
    sim.see(2, true);
    [0, 1, 2].into_iter().for_each(|action| sim.tell(Input::Proven(action, vec![])));
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
    [0, 1].into_iter().for_each(|action| sim.tell(Input::Proven(action, vec![])));
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
    let plan = plan(vec![], vec![
        Step::Inject(change("a")),
        Step::Detect(vec![within("0"), throughout("1")]),
        Step::Inject(change("b")),
        Step::Detect(vec![within("2")]),
        revert(&["a", "b"]),
        Step::Recover(vec![within("3")]),
    ]);
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
        cluster: ClusterNeeds { masters: 1, workers: 0, settings: vec![] },
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

// Whatever happens

fn any_timing() -> impl Strategy<Value = Timing> {
    prop_oneof![
        (1..20_u64, 0..3_u64)
            .prop_map(|(d, s)| Timing::Within { deadline: secs(d), stable_for: secs(s) }),
        (0..5_u64, 1..10_u64)
            .prop_map(|(a, w)| Timing::Throughout { after: secs(a), window: secs(w) }),
    ]
}

fn any_expectations() -> impl Strategy<Value = Vec<Expectation>> {
    prop::collection::vec(any_timing().prop_map(|timing| expect("it", timing)), 0..3)
}

fn any_plan() -> impl Strategy<Value = Plan> {
    let step = (0..5_u8, any_expectations());
    (any_expectations(), prop::collection::vec(step, 0..7)).prop_map(|(steady, kinds)| {
        let mut in_place: Vec<String> = vec![];
        let mut steps = vec![];
        for (index, (kind, expectations)) in kinds.into_iter().enumerate() {
            let name = format!("action {index}");
            steps.push(match kind {
                0 | 1 => {
                    in_place.push(name.clone());
                    let change = change(&name);
                    if kind == 0 { Step::Inject(change) } else { Step::Remedy(change) }
                }
                2 => Step::Detect(expectations),
                3 => Step::Recover(expectations),
                _ => {
                    let actions = in_place.split_off(in_place.len().saturating_sub(2));
                    Step::Revert(Revert { only: Only::All, actions })
                }
            });
        }
        plan(steady, steps)
    })
}

/// What happens next: an answer to what is wanted, or something at random.
#[derive(Debug, Clone)]
enum Event {
    /// The oldest open question is answered, well or badly.
    Answer(bool),
    /// An observation of one that is observed, or not.
    See { id: usize, holds: bool, took: u64 },
    Later(u64),
    Interrupt,
    Death,
    Blind(usize),
    /// An answer to nothing.
    Stray(usize, u8),
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => prop::bool::weighted(0.95).prop_map(Event::Answer),
        16 => (0..12_usize, any::<bool>(), 0..3_u64)
            .prop_map(|(id, holds, took)| Event::See { id, holds, took }),
        4 => (0..15_u64).prop_map(Event::Later),
        1 => (0..40_u8).prop_map(|n| if n == 0 { Event::Interrupt } else { Event::Later(1) }),
        1 => (0..40_u8).prop_map(|n| if n == 0 { Event::Death } else { Event::Later(0) }),
        1 => (0..100_usize).prop_map(Event::Blind),
        2 => (0..5_usize, 0..8_u8).prop_map(|(id, kind)| Event::Stray(id, kind)),
    ]
}

/// The world as the machine sees it: what it asked for, and what is true.
struct World {
    sim: Sim,
    read: usize,
    open: VecDeque<Action>,
    in_place: BTreeSet<usize>,
    proven: BTreeSet<usize>,
    injected: BTreeSet<usize>,
}

impl World {
    fn new(plan: Plan) -> Self {
        let (read, open) = (0, VecDeque::new());
        let (in_place, proven, injected) = Default::default();
        let mut world = Self { sim: Sim::new(plan), read, open, in_place, proven, injected };
        world.listen();
        world
    }

    fn listen(&mut self) {
        for action in &self.sim.wanted[self.read..] {
            match action {
                Action::Emit(_) | Action::Observe(_) | Action::StopObserving(_) => {}
                Action::AbandonProvision => self.open.retain(|open| *open != Action::Provision),
                _ => {}
            }
            match action {
                Action::Inject(id) => {
                    assert!(self.in_place.insert(*id), "{id} is injected twice");
                    self.injected.insert(*id);
                }
                Action::Revert(id) => assert!(self.in_place.contains(id), "{id} is not in place"),
                Action::Teardown => {}
                _ => {}
            }
            if !matches!(action, Action::Emit(_) | Action::Observe(_) | Action::StopObserving(_)) {
                self.open.push_back(action.clone());
            }
        }
        self.read = self.sim.wanted.len();
    }

    fn tell(&mut self, input: Input) {
        self.sim.tell(input);
        self.listen();
    }

    fn answer(&mut self, well: bool) -> bool {
        let Some(action) = self.open.pop_front() else { return false };
        match action {
            Action::Provision if well => self.sim.ready(),
            Action::Provision | Action::AbandonProvision => {
                self.sim.tell(Input::ClusterFailed("no".into()));
            }
            Action::Inject(id) if well => {
                self.tell(Input::Issued(id));
                self.proven.insert(id);
                self.tell(Input::Proven(id, vec![]));
            }
            Action::Prove(id) if well => self.tell(Input::Proven(id, vec![])),
            Action::Inject(id) | Action::Prove(id) => {
                self.proven.remove(&id);
                self.tell(Input::Unproven(id, "no".into()));
            }
            Action::Revert(id) if well => {
                self.in_place.remove(&id);
                self.tell(Input::Reverted(id));
            }
            Action::Revert(id) => self.tell(Input::NotReverted(id, "no".into())),
            Action::Teardown => {
                self.tell(Input::TornDown(if well { Ok(()) } else { Err("no".into()) }));
            }
            Action::Emit(_) | Action::Observe(_) | Action::StopObserving(_) => {}
        }
        self.listen();
        true
    }

    /// An answer to a question that was not asked, or was answered.
    fn stray(&mut self, id: usize, kind: u8) {
        let asked = |wanted: &Action| self.open.contains(wanted);
        let input = match kind {
            0 if !asked(&Action::Inject(id)) => Input::Issued(id),
            1 if !asked(&Action::Inject(id)) && !asked(&Action::Prove(id)) => {
                Input::Proven(id, vec![])
            }
            2 if !asked(&Action::Revert(id)) => Input::Reverted(id),
            3 if !asked(&Action::Revert(id)) => Input::NotReverted(id, "stray".into()),
            4 if !asked(&Action::Teardown) => Input::TornDown(Ok(())),
            5 if !asked(&Action::Provision) && !asked(&Action::AbandonProvision) => {
                Input::ClusterFailed("stray".into())
            }
            _ => Input::Tick,
        };
        self.tell(input);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Answer(well) => drop(self.answer(well)),
            Event::See { id, holds, took } => {
                let began = self.sim.now;
                self.sim.now += secs(took);
                let (saw, ended) = (String::new(), self.sim.now);
                self.tell(Input::Seen(id, Seen { holds, saw, began, ended, watched: took == 0 }));
            }
            Event::Later(seconds) => {
                self.sim.later(seconds);
                self.listen();
            }
            Event::Interrupt => self.tell(Input::Interrupted),
            Event::Death => {
                let (process, status) = ("kubelet".into(), "exit 1".into());
                self.tell(Input::DiedUnasked { process, status, log: vec![] });
            }
            Event::Blind(id) => self.tell(Input::ObserverFailed(id, "no".into())),
            Event::Stray(id, kind) => self.stray(id, kind),
        }
    }

    /// From now on every question is answered well and time passes: the case must end.
    fn drain(&mut self) {
        for _ in 0..1000 {
            if self.sim.machine.verdict().is_some() {
                return;
            }
            if !self.answer(true) {
                let wake = self.sim.machine.wake().expect("nothing is waited for");
                self.sim.now = self.sim.now.max(wake);
                self.tell(Input::Tick);
            }
        }
        panic!("the case does not end: {:?}", self.sim.machine.state);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever happens: the case ends, what was injected is reverted or the verdict is DIRTY, and
    /// a PASS has every expectation met, every injection proven, every revert verified.
    #[test]
    fn no_pass_for_nothing(
        plan in any_plan(),
        events in prop::collection::vec(any_event(), 0..200),
    ) {
        let mut world = World::new(plan);
        events.into_iter().for_each(|event| world.happen(event));
        world.drain();
        let (verdict, reasons) = world.sim.ended();
        prop_assert!(world.in_place.is_empty() || verdict == Verdict::Dirty, "{reasons:?}");
        prop_assert_eq!(verdict == Verdict::Pass, reasons.is_empty());
        let expectations = 0..world.sim.machine.plan().expectations.len();
        prop_assert!(expectations.clone().all(|id| world.sim.outcome(id).is_some()));
        if verdict == Verdict::Pass {
            let met = |id| matches!(world.sim.outcome(id), Some(Outcome::Met { .. }));
            prop_assert!(expectations.clone().all(met));
            prop_assert_eq!(world.injected.len(), world.sim.machine.plan().actions.len());
            prop_assert_eq!(&world.proven, &world.injected);
        }
        world.sim.tell(Input::Interrupted);
        prop_assert_eq!(world.sim.ended().0, verdict, "an ended case stays as it is");
    }

    /// A case in which everything goes well passes: the property above is not empty.
    #[test]
    fn all_well_passes(plan in any_plan()) {
        let mut world = World::new(plan);
        for _ in 0..2000 {
            if world.sim.machine.verdict().is_some() {
                break;
            }
            if world.answer(true) {
                continue;
            }
            let before = matches!(world.sim.machine.state, State::Checking { .. });
            for id in world.sim.machine.observed.clone() {
                let throughout = world.sim.machine.trackers[id].is_throughout();
                world.happen(Event::See { id, holds: !before || throughout, took: 0 });
            }
            world.happen(Event::Later(1));
        }
        prop_assert_eq!(world.sim.ended(), (Verdict::Pass, vec![]));
    }
}
