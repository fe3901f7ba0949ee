//! Whatever may happen, in whatever order: a PASS is never had for nothing, and nothing stays in
//! place unsaid.

use proptest::prelude::*;

use super::sim::{Sim, change, expect, plan, secs};
use super::*;
use crate::event::Outcome;
use crate::run::step::Reply;
use crate::run::tracker::Seen;
use crate::scenario::{Expectation, Only, Revert, Step, Timing, Versions};

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
                    Step::Revert(Revert { only: Only::All, versions: Versions::All, actions })
                }
            });
        }
        plan(steady, steps)
    })
}

/// What happens next: an answer to what is wanted, or something at random.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// The oldest open question is answered, well or badly.
    Answer(bool),
    /// An observation of one that is observed, or not.
    See {
        id: usize,
        holds: bool,
        took: u64,
    },
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
    /// Whether the first cluster was used by another case.
    reused: bool,
}

impl World {
    fn new(plan: Plan, reused: bool) -> Self {
        let (read, open) = (0, VecDeque::new());
        let (in_place, proven, injected) = Default::default();
        let mut world =
            Self { sim: Sim::new(plan), read, open, in_place, proven, injected, reused };
        world.listen();
        world
    }

    fn listen(&mut self) {
        for action in &self.sim.wanted[self.read..] {
            match action {
                Action::AbandonProvision => {
                    let is_making =
                        |open: &Action| matches!(open, Action::Provision | Action::Replace);
                    self.open.retain(|open| !is_making(open));
                }
                Action::Inject(id) => {
                    assert!(self.in_place.insert(*id), "{id} is injected twice");
                    self.injected.insert(*id);
                }
                Action::Revert(id) => assert!(self.in_place.contains(id), "{id} is not in place"),
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
            Action::Provision if well => self.sim.stands(self.reused),
            Action::Replace if well => self.sim.ready(),
            Action::Provision | Action::Replace | Action::AbandonProvision => {
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
            Action::Ask(_) => self.tell(Input::Replied(Reply::GoOn)),
            Action::Collect => self.tell(Input::Collected(well.then(String::new))),
            Action::Teardown { .. } => {
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
            4 if !self.open.iter().any(|open| matches!(open, Action::Teardown { .. })) => {
                Input::TornDown(Ok(()))
            }
            5 if [Action::Provision, Action::Replace, Action::AbandonProvision]
                .iter()
                .all(|making| !asked(making)) =>
            {
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
                let restarts = false;
                self.tell(Input::DiedUnasked { process, status, restarts, log: vec![] });
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
        reused in any::<bool>(),
        events in prop::collection::vec(any_event(), 0..200),
    ) {
        let mut world = World::new(plan, reused);
        for event in events {
            world.happen(event);
        }
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
    fn all_well_passes(plan in any_plan(), reused in any::<bool>()) {
        let mut world = World::new(plan, reused);
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
