//! A machine with a clock, for its tests.

use super::*;
use crate::event::Outcome;
use crate::run::step::Stands;
use crate::run::tracker::Seen;
use crate::scenario::{
    Action as Change, ClusterNeeds, Component, Expectation, Fault, Health, HealthState, NodeRef,
    Nodes, Only, Probe, Program, Revert, Scenario, Signal, Step, Stop, Timing, Versions,
};

pub(super) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn expect(name: &str, timing: Timing) -> Expectation {
    let apiserver = NodeRef::Master(1);
    let health = Health { apiserver, path: "/readyz".into(), is: HealthState::Ok, check: None };
    let (only, versions) = (Only::All, Versions::All);
    let (probe, every) = (Probe::Health(health), secs(1));
    Expectation {
        name: name.into(),
        only,
        versions,
        probe,
        timing,
        every,
        from: None,
        waits_for: vec![],
    }
}

pub(super) fn within(name: &str) -> Expectation {
    expect(name, Timing::Within { deadline: secs(10), stable_for: Duration::ZERO })
}

pub(super) fn throughout(name: &str) -> Expectation {
    expect(name, Timing::Throughout { after: secs(2), window: secs(5) })
}

pub(super) fn change(name: &str) -> Change {
    let (component, on) = (Program::Component(Component::KubeApiserver), NodeRef::Master(3));
    let fault = Fault::Stop(Stop { component, on: vec![on], signal: Signal::Kill });
    let (only, versions) = (Only::All, Versions::All);
    let (after, repeat) = (Duration::ZERO, None);
    Change { name: name.into(), only, versions, fault, after, repeat }
}

pub(super) fn revert(names: &[&str]) -> Step {
    let actions = names.iter().map(ToString::to_string).collect();
    Step::Revert(Revert { only: Only::All, versions: Versions::All, actions })
}

pub(super) const VERSION: [u64; 3] = [1, 34, 4];

/// A scenario without steps.
pub(super) fn scenario() -> Scenario {
    let versions = Versions::All;
    Scenario {
        name: "test".into(),
        title: String::new(),
        notes: String::new(),
        references: vec![],
        cluster: ClusterNeeds {
            versions,
            masters: 3,
            workers: 1,
            settings: vec![],
            addons: vec![],
        },
        nodes: vec![],
        variants: vec!["default".into()],
        setup: vec![],
        steady_state: vec![],
        steps: vec![],
    }
}

pub(super) fn plan(steady: Vec<Expectation>, steps: Vec<Step>) -> Plan {
    let scenario = Scenario { steady_state: steady, steps, ..scenario() };
    Plan::new(&scenario, "default", VERSION, 0).unwrap()
}

/// Steady state 0; fault `a`; detection 1 (within), 2 (throughout); revert; recovery 3.
pub(super) fn simple() -> Plan {
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
pub(super) type CaseEnd = (Verdict, Vec<String>, Option<Measured>, Option<Measured>);

/// A machine with a clock, and a memory of what it wanted.
pub(super) struct Sim {
    pub(super) machine: Machine,
    pub(super) now: Duration,
    pub(super) wanted: Vec<Action>,
}

impl Sim {
    pub(super) fn new(plan: Plan) -> Self {
        Self::of(Machine::new(plan))
    }

    pub(super) fn of(machine: Machine) -> Self {
        let mut sim = Self { machine, now: Duration::ZERO, wanted: vec![] };
        sim.collect();
        sim
    }

    /// A case whose steady state held; it checks before its first block.
    pub(super) fn steady(plan: Plan) -> Self {
        let mut sim = Self::new(plan);
        sim.ready();
        sim.see(0, true);
        sim
    }

    /// The simple case up to its detection: the fault is proven, two seconds after it was issued.
    pub(super) fn detecting(plan: Plan) -> Self {
        let mut sim = Self::steady(plan);
        sim.see(1, false);
        sim.tell(Input::Issued(0));
        sim.later(2);
        sim.tell(Input::Proven(0, vec![]));
        sim
    }

    /// The simple case with its fault detected and proven again; it checks before its revert.
    pub(super) fn detected() -> Self {
        let mut sim = Self::detecting(simple());
        sim.see(1, true);
        sim.see(2, true);
        sim.later(10);
        sim.see(2, true);
        sim.tell(Input::Proven(0, vec![]));
        sim
    }

    pub(super) fn ready(&mut self) {
        self.stands(false);
    }

    /// The cluster stands, and another case has used it, or not.
    pub(super) fn stands(&mut self, reused: bool) {
        self.stands_as(reused, reused);
    }

    /// The same, of a cluster in whose place another is made, or not.
    pub(super) fn stands_as(&mut self, reused: bool, replaceable: bool) {
        let plan = self.machine.plan().clone();
        let (provenance, departures, logs, nodes) = (vec![], vec![], None, Nodes::new());
        let took = self.now;
        let flags = vec![];
        let stands =
            Stands { took, provenance, departures, flags, reused, replaceable, logs, nodes, plan };
        self.tell(Input::ClusterReady(Box::new(stands)));
    }

    pub(super) fn collect(&mut self) {
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
    pub(super) fn see(&mut self, id: usize, holds: bool) {
        let began = self.now;
        self.now += secs(1);
        let saw = format!("{holds}");
        let seen = Seen { holds, saw, began, ended: self.now, watched: false };
        self.tell(Input::Seen(id, seen));
    }

    /// The objects are written down; the reverts and the teardown succeed.
    pub(super) fn finish(&mut self) -> (Verdict, Vec<String>) {
        self.tell(Input::Collected(None));
        while let Some(action) = self.reverting() {
            self.tell(Input::Reverted(action));
        }
        self.tell(Input::TornDown(Ok(())));
        self.ended()
    }

    /// The action whose revert is wanted and not yet answered.
    pub(super) fn reverting(&self) -> Option<usize> {
        let in_place = &self.machine.in_place;
        in_place.iter().find(|(_, it)| it.reverting.is_some()).map(|(action, _)| *action)
    }

    /// The action whose injection or proof is wanted and not yet answered.
    pub(super) fn unproven(&self) -> Option<usize> {
        match &self.machine.state {
            State::Acting(index) => {
                match self.machine.plan.blocks[self.machine.block].acts.get(*index) {
                    Some(Act::Inject(action)) => Some(*action),
                    _ => None,
                }
            }
            State::Proving(left) => left.first().copied(),
            _ => None,
        }
    }

    pub(super) fn wants(&self, action: &Action) -> bool {
        self.wanted.contains(action)
    }

    /// The verdict with which the cluster was wanted to end.
    pub(super) fn torn_down(&self) -> Option<Verdict> {
        self.wanted.iter().find_map(|action| match action {
            Action::Teardown { so_far } => Some(*so_far),
            _ => None,
        })
    }

    pub(super) fn reverts(&self) -> Vec<usize> {
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

    pub(super) fn case_ended(&self) -> Option<CaseEnd> {
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
pub(super) fn assert_ends(sim: &mut Sim, verdict: Verdict, reason: &str) {
    let (found, reasons) = sim.finish();
    assert_eq!(found, verdict, "{reasons:?}");
    assert!(reasons.first().is_some_and(|first| first.contains(reason)), "{reasons:?}");
}
