//! A scenario's variant as the state machine carries it out: expectations and actions by number,
//! steps gathered into blocks.

use std::ops::Range;
use std::time::Duration;

use super::draw::fraction;
use crate::event::{Phase, Wait};
use crate::scenario::{
    self, Action, Expectation, Fault, Probe, Repeat, Scenario, Step, Timing, Version,
};
use crate::{fault, probe};

/// What one variant of a scenario does.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Every expectation of the variant; its index is its number in events.
    pub expectations: Vec<Planned>,
    /// Every fault and remedy of the variant, in the order in which they are injected.
    pub actions: Vec<PlannedAction>,
    /// Those of the actions that set up what the scenario needs, before the steady state.
    pub setup: Range<usize>,
    /// The expectations of the steady state.
    pub steady: Range<usize>,
    /// What comes after it.
    pub blocks: Vec<Block>,
}

/// An expectation of a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// Its phase: `SteadyState`, `Detect` or `Recover`.
    pub phase: Phase,
    /// Its name.
    pub name: String,
    /// Its probe.
    pub probe: Probe,
    /// When it must hold.
    pub timing: Timing,
    /// The probe's period.
    pub every: Duration,
    /// The change that its times count from, by its index in the block; nothing: [`Block::cause`].
    pub from: Option<usize>,
    /// Whether nothing is lost if it is first observed when its window opens.
    pub late: bool,
    /// Whether its probe counts from its first look on, which never holds.
    pub counts: bool,
    /// Whether each observation tells only what is new since the one before.
    pub news: bool,
    /// What is wanted, in words.
    pub wanted: String,
    /// What its time is spent on.
    pub waits: Vec<Wait>,
}

/// A fault or remedy of a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedAction {
    /// Its name in the scenario.
    pub name: String,
    /// What it does, in words.
    pub does: String,
    /// The change itself.
    pub fault: Fault,
    /// What it is for.
    pub role: Role,
}

/// What an action is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The scenario needs it.
    Setup,
    /// It breaks something.
    Fault,
    /// It mends something.
    Remedy,
}

/// Steps that change the cluster, one after another, and then the steps that expect something of
/// it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Block {
    /// The changes.
    pub acts: Vec<Act>,
    /// For each `detect` or `recover` step its expectations.
    pub stages: Vec<Range<usize>>,
}

/// A change: an action, by its number, is injected or taken back. Or time passes before one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Injects it.
    Inject(usize),
    /// Takes it back.
    Revert(usize),
    /// So much time passes since the injection before it in the block was issued; since now, if there
    /// is none.
    Wait(Duration),
}

impl Block {
    /// What is changed, without the times between, each with its index among the acts.
    pub fn changes(&self) -> impl Iterator<Item = (usize, Act)> {
        let acts = self.acts.iter().copied().enumerate();
        acts.filter(|(_, act)| !matches!(act, Act::Wait(_)))
    }

    /// The change that the times of what is expected count from: the last one; of one that is repeated
    /// the first.
    pub fn cause(&self) -> Option<usize> {
        let (last, act) = self.changes().last()?;
        let first =
            self.changes().find(|(_, other)| *other == act && matches!(act, Act::Inject(_)));
        Some(first.map_or(last, |(first, _)| first))
    }

    /// Whether the action is injected again after the act of this index.
    pub fn injects_after(&self, index: usize, action: usize) -> bool {
        self.acts.iter().skip(index + 1).any(|act| *act == Act::Inject(action))
    }
}

/// Why a scenario's variant can't be planned. A scenario that was validated has none of these.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The scenario has no such variant.
    #[error("there is no variant {0}")]
    UnknownVariant(String),
    /// A revert names an action that is not in place then.
    #[error("revert of {0}, which is not in place then")]
    NotInPlace(String),
    /// Times count from an action that is not changed just before.
    #[error("times count from {0}, which is not changed just before")]
    NotJustBefore(String),
}

/// A variant and a version.
type At<'a> = (&'a str, Version);

impl Plan {
    /// Plans one variant of a scenario on one version of Kubernetes. The seed decides how long times with
    /// a jitter are.
    ///
    /// # Errors
    /// If there is no such variant, or a revert names an action that was not injected before it.
    pub fn new(
        scenario: &Scenario,
        variant: &str,
        version: Version,
        seed: u64,
    ) -> Result<Self, PlanError> {
        let at = (variant, version);
        if !scenario.variants.iter().any(|name| name == variant) {
            return Err(PlanError::UnknownVariant(variant.to_owned()));
        }
        let mut plan = Self {
            expectations: vec![],
            actions: vec![],
            setup: 0..0,
            steady: 0..0,
            blocks: vec![],
        };
        for set_up in &scenario.setup {
            if set_up.only.covers(variant) && set_up.versions.covers(version) {
                let name = set_up.apply.object.to_string();
                plan.action(&name, &Fault::Apply(set_up.apply.clone()), Role::Setup);
            }
        }
        plan.setup = 0..plan.actions.len();
        plan.steady = plan.expect(Phase::SteadyState, &scenario.steady_state, at);
        let mut in_place = Vec::new();
        for step in &scenario.steps {
            match step {
                Step::Inject(action) | Step::Remedy(action) if action.covers(variant, version) => {
                    let remedy = matches!(step, Step::Remedy(_));
                    let role = if remedy { Role::Remedy } else { Role::Fault };
                    let act = plan.action(&action.name, &action.fault, role);
                    in_place.push(act);
                    plan.changing_block().acts.extend(acts(action, act, seed));
                }
                Step::Revert(revert) if revert.covers(variant, version) => {
                    let named = plan.named(&revert.actions, &in_place)?;
                    in_place.retain(|action| !named.contains(action));
                    plan.changing_block().acts.extend(named.into_iter().map(Act::Revert));
                }
                Step::Detect(expectations) => plan.stage(Phase::Detect, expectations, at)?,
                Step::Recover(expectations) => plan.stage(Phase::Recover, expectations, at)?,
                Step::Inject(_) | Step::Remedy(_) | Step::Revert(_) => {}
            }
        }
        Ok(plan)
    }

    fn expect(
        &mut self,
        phase: Phase,
        all: &[Expectation],
        (variant, version): At,
    ) -> Range<usize> {
        let start = self.expectations.len();
        let covered = all.iter().filter(|expectation| expectation.covers(variant, version));
        self.expectations.extend(covered.map(|expectation| Planned {
            phase,
            name: expectation.name.clone(),
            probe: expectation.probe.clone(),
            timing: expectation.timing,
            every: expectation.every,
            from: None,
            late: matches!(expectation.timing, Timing::Throughout { .. })
                && probe::stands_alone(&expectation.probe),
            counts: probe::counts(&expectation.probe),
            news: probe::tells_news(&expectation.probe),
            wanted: probe::wanted(&expectation.probe),
            waits: waits(expectation),
        }));
        start..self.expectations.len()
    }

    fn action(&mut self, name: &str, fault: &Fault, role: Role) -> usize {
        let (name, does, fault) = (name.to_owned(), fault::does(fault), fault.clone());
        self.actions.push(PlannedAction { name, does, fault, role });
        self.actions.len() - 1
    }

    /// The numbers of the named actions, the last injected first.
    fn named(&self, names: &[String], in_place: &[usize]) -> Result<Vec<usize>, PlanError> {
        let of = |name: &String| {
            let found = in_place.iter().find(|action| self.actions[**action].name == *name);
            found.copied().ok_or_else(|| PlanError::NotInPlace(name.clone()))
        };
        let mut actions = names.iter().map(of).collect::<Result<Vec<_>, _>>()?;
        actions.sort_unstable_by(|a, b| b.cmp(a));
        actions.dedup();
        Ok(actions)
    }

    /// The block that the next change belongs to: a new one after each that expects something.
    fn changing_block(&mut self) -> &mut Block {
        if self.blocks.last().is_none_or(|block| !block.stages.is_empty()) {
            self.blocks.push(Block::default());
        }
        let last = self.blocks.len() - 1;
        &mut self.blocks[last]
    }

    fn stage(&mut self, phase: Phase, all: &[Expectation], at: At) -> Result<(), PlanError> {
        let stage = self.expect(phase, all, at);
        if stage.is_empty() {
            return Ok(());
        }
        if self.blocks.is_empty() {
            self.blocks.push(Block::default());
        }
        let Some(block) = self.blocks.last_mut() else { return Ok(()) };
        let covered = all.iter().filter(|expectation| expectation.covers(at.0, at.1));
        for (id, expectation) in stage.clone().zip(covered) {
            let Some(from) = &expectation.from else { continue };
            let found = block.changes().find(|(_, act)| match act {
                Act::Inject(action) | Act::Revert(action) => self.actions[*action].name == *from,
                Act::Wait(_) => false,
            });
            let (index, _) = found.ok_or_else(|| PlanError::NotJustBefore(from.clone()))?;
            self.expectations[id].from = Some(index);
        }
        block.stages.push(stage);
        Ok(())
    }

    /// The expectations that must not hold yet just before a block's changes: each `within` of the
    /// block itself, and, as long as faults are only added, each `within` of the detection that
    /// follows.
    pub fn not_yet(&self, block: usize) -> Vec<usize> {
        let adds = |block: &Block| {
            block.changes().all(|(index, act)| match act {
                Act::Revert(action) => block.injects_after(index, action),
                act => self.is_fault(act),
            })
        };
        let mut ids = Vec::new();
        for (index, later) in self.blocks.iter().enumerate().skip(block) {
            if index > block && !(adds(&self.blocks[block]) && adds(later)) {
                break;
            }
            let expected = later.stages.iter().cloned().flatten();
            ids.extend(expected.filter(|id| {
                let planned = &self.expectations[*id];
                let counts = index == block || planned.phase == Phase::Detect;
                counts && matches!(planned.timing, Timing::Within { .. })
            }));
        }
        ids
    }

    /// The plan without remedies and without recovery: all that is left to expect is what faults
    /// cause. No detection is waited for longer than `at_most`.
    #[must_use]
    pub fn detection_alone(mut self, at_most: Option<Duration>) -> Self {
        let at_most = at_most.unwrap_or(Duration::MAX);
        let detections = self.expectations.iter_mut().filter(|one| one.phase == Phase::Detect);
        for planned in detections {
            match &mut planned.timing {
                Timing::Within { deadline, .. } => *deadline = at_most.min(*deadline),
                Timing::Throughout { after, window } => {
                    (*after, *window) = (at_most.min(*after), at_most.min(*window));
                }
            }
        }
        for block in &mut self.blocks {
            let is_remedy = |act: &Act| match act {
                Act::Inject(action) | Act::Revert(action) => {
                    self.actions[*action].role == Role::Remedy
                }
                Act::Wait(_) => false,
            };
            block.acts.retain(|act| !is_remedy(act));
            let detects =
                |stage: &Range<usize>| self.expectations[stage.start].phase == Phase::Detect;
            block.stages.retain(detects);
        }
        self
    }

    fn is_fault(&self, act: Act) -> bool {
        matches!(act, Act::Inject(action) if self.actions[action].role == Role::Fault)
    }
}

/// What is done for an action: it is injected, perhaps after a while, and perhaps again and again.
fn acts(action: &Action, number: usize, seed: u64) -> Vec<Act> {
    let mut acts = Vec::new();
    if !action.after.is_zero() {
        acts.push(Act::Wait(action.after));
    }
    acts.push(Act::Inject(number));
    if let Some(Repeat { times, every, lasts, jitter }) = action.repeat {
        for again in 1..times {
            let drawn = jitter.mul_f64(2.0 * fraction(&format!("{seed} {} {again}", action.name)));
            acts.extend(lasts.map(Act::Wait));
            let wait = Act::Wait((every + drawn).saturating_sub(jitter));
            acts.extend([Act::Revert(number), wait, Act::Inject(number)]);
        }
    }
    acts
}

/// What an expectation's time is spent on: what the file says, then its window.
fn waits(expectation: &Expectation) -> Vec<Wait> {
    let said = expectation.waits_for.iter().cloned().map(|wait| match wait {
        scenario::Wait::Timer { name, lasts, source } => Wait::Timer { name, lasts, source },
        scenario::Wait::Start(of) => Wait::Start { of },
    });
    let window = matches!(expectation.timing, Timing::Throughout { .. }).then_some(Wait::Window);
    said.chain(window).collect()
}

/// An expectation's timing in words: `within 30s, stable for 3s`.
pub fn timing_words(timing: Timing) -> String {
    match timing {
        Timing::Within { deadline, stable_for } if stable_for.is_zero() => {
            format!("within {deadline:?}")
        }
        Timing::Within { deadline, stable_for } => {
            format!("within {deadline:?}, stable for {stable_for:?}")
        }
        Timing::Throughout { after, window } if after.is_zero() => format!("throughout {window:?}"),
        Timing::Throughout { after, window } => format!("after {after:?}, throughout {window:?}"),
    }
}
