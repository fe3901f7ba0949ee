//! The state machine of a case, pure: (state, input) -> (state, actions). Time, the cluster and the
//! observers are inputs; whoever holds the machine carries out its actions and tells it what came
//! of them.
//!
//! Provision -> `SteadyState` -> for each block: check that nothing expected holds yet, change, watch,
//! prove again -> undo -> teardown. Whatever goes wrong leads to the undo.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::plan::{Act, Plan, Planned, timing_words};
use super::step::{Action, Input};
use super::tracker::{Seen, Tracker};
use super::verdict::{Findings, Slowest};
use crate::event::{ActionState, INTERRUPTED, Measured, Phase, Verdict, What};
use crate::fault::hides;

/// How long it may take until each expectation was observed once before a change.
const CHECK: Duration = Duration::from_mins(2);

#[derive(Debug, Clone, PartialEq)]
enum State {
    Provision,
    /// What the scenario needs is set up: the action of this number.
    SettingUp(usize),
    /// All that is expected of the steady state must hold at once; since when it is waited for.
    Steady {
        since: Duration,
    },
    /// Before a block's changes: each of these must be observed so often, and never hold.
    Checking {
        since: Duration,
        left: BTreeMap<usize, u8>,
    },
    /// The block's changes are carried out; the index of the one under way.
    Acting(usize),
    /// Time passes before the block's change of this index, until then.
    Waiting {
        next: usize,
        until: Duration,
    },
    /// One stage of the block.
    Watching(usize),
    /// After the block's stages: what is in place is proven again.
    Proving(BTreeSet<usize>),
    /// Somebody is asked whether to go on.
    Asking(stepping::Asked),
    /// Something went wrong: the objects concerned are written down before anything changes.
    Collecting,
    /// What is in place is taken back, the last first.
    Undoing,
    TearingDown,
    Ended,
}

/// Whether the case is to end before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ending {
    Not,
    CutShort,
    /// By the user, who does not want to wait.
    Interrupted,
}

/// What is known of an action that was begun and not taken back.
#[derive(Debug, Clone, Copy, Default)]
struct InPlace {
    issued: Option<Duration>,
    /// Since when it is being taken back.
    reverting: Option<Duration>,
}

/// A case under way. Deterministic: the same inputs at the same times give the same actions.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Machine {
    plan: Plan,
    state: State,
    block: usize,
    trackers: Vec<Tracker>,
    observed: BTreeSet<usize>,
    told: BTreeSet<usize>,
    in_place: BTreeMap<usize, InPlace>,
    /// When each of the block's changes was issued, by its index, and how long until it was proven.
    issued: BTreeMap<usize, Duration>,
    proven: BTreeMap<usize, Duration>,
    /// When the block's latest change was issued.
    latest: Option<Duration>,
    phase: Option<Phase>,
    /// What held before the block's first change was issued although it must not, and what was seen.
    early: BTreeMap<usize, String>,
    /// What somebody has left away by hand.
    left_away: Vec<String>,
    /// Whether a fault was issued.
    tampered: bool,
    ending: Ending,
    /// See [`Stands::replaceable`].
    replaceable: bool,
    /// Whether somebody is asked before each change.
    stepping: bool,
    /// For tests alone: a failure ends nothing.
    exhaustive: bool,
    findings: Findings,
    ttd: Slowest,
    ttr: Slowest,
    out: VecDeque<Action>,
}

impl Machine {
    /// A case that begins; its first actions are ready.
    pub fn new(plan: Plan) -> Self {
        let mut machine = Self {
            trackers: trackers(&plan),
            plan,
            state: State::Provision,
            block: 0,
            observed: BTreeSet::new(),
            told: BTreeSet::new(),
            in_place: BTreeMap::new(),
            issued: BTreeMap::new(),
            proven: BTreeMap::new(),
            latest: None,
            phase: None,
            early: BTreeMap::new(),
            left_away: vec![],
            tampered: false,
            ending: Ending::Not,
            replaceable: false,
            stepping: false,
            exhaustive: false,
            findings: Findings::default(),
            ttd: Slowest::default(),
            ttr: Slowest::default(),
            out: VecDeque::new(),
        };
        machine.enter_phase(Phase::Provision);
        machine.introduce();
        machine.out.push_back(Action::Provision);
        machine
    }

    /// The same, but a failure does not end it: each expectation of each block is judged, at its own
    /// deadline. For tests that show that each can fail.
    pub fn exhaustive(plan: Plan) -> Self {
        Self { exhaustive: true, ..Self::new(plan) }
    }

    /// The next thing to do, if there is one. Ask until there is none before the next input.
    pub fn next_action(&mut self) -> Option<Action> {
        self.out.pop_front()
    }

    /// What the machine carries out.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The verdict, once the case has ended.
    pub fn verdict(&self) -> Option<Verdict> {
        (self.state == State::Ended).then(|| self.findings.verdict())
    }

    /// When [`Input::Tick`] is due, if no other input comes before.
    pub fn wake(&self) -> Option<Duration> {
        let of = |ids: &mut dyn Iterator<Item = usize>| {
            ids.filter_map(|id| self.trackers[id].wake()).min()
        };
        match &self.state {
            State::Steady { since } => {
                of(&mut self.plan.steady.clone()).or_else(|| Some(self.steady_limit(*since)))
            }
            State::Checking { since, .. } => Some(*since + CHECK),
            State::Acting(_) => self.opens(),
            State::Waiting { until, .. } => self.opens().into_iter().chain([*until]).min(),
            State::Watching(stage) => {
                self.opens().into_iter().chain(of(&mut self.stage(*stage))).min()
            }
            _ => None,
        }
    }

    /// Takes an input in that happened at `now`, the time since the run began, which never goes
    /// back. Inputs that answer no action are ignored.
    pub fn handle(&mut self, now: Duration, input: Input) {
        match input {
            Input::ClusterReady(stands) => self.cluster_ready(now, *stands),
            Input::ClusterFailed(why) => self.cluster_failed(&why),
            Input::Seen(id, seen) => self.seen(id, &seen),
            Input::ObserverFailed(id, why) => self.observer_failed(now, id, &why),
            Input::Issued(action) => self.was_issued(now, action),
            Input::Proven(action, evidence) => self.proven(now, action, evidence),
            Input::Unproven(action, why) => self.unproven(now, action, &why),
            Input::Reverted(action) => self.reverted(now, action),
            Input::NotReverted(action, why) => self.not_reverted(now, action, &why),
            Input::Collected(file) => self.collected(now, file),
            Input::TornDown(result) => self.torn_down(result),
            Input::DiedUnasked { process, status, restarts, log } => {
                let reason = format!("{process} died unasked: {status}");
                self.emit(What::DiedUnasked { process, status, log });
                // A kubelet that can't start may be what a fault is for.
                if !(restarts && self.tampered) {
                    self.cut_short(now, Ending::CutShort, reason);
                }
            }
            Input::Replied(reply) => self.replied(now, reply),
            Input::Interrupted => {
                self.cut_short(now, Ending::Interrupted, INTERRUPTED.to_owned());
            }
            Input::Tick => {}
        }
        self.advance(now);
    }

    // Before a block's changes

    fn enter_block(&mut self, now: Duration, block: usize) {
        let there = block < self.plan.blocks.len();
        if !(there && self.asks(stepping::Asked::Block(block))) {
            self.begin_block(now, block);
        }
    }

    fn begin_block(&mut self, now: Duration, block: usize) {
        self.block = block;
        self.issued.clear();
        self.proven.clear();
        self.latest = None;
        self.early.clear();
        let Some(entered) = self.plan.blocks.get(block) else { return self.undo(now) };
        let observers = entered.stages.iter().cloned().flatten();
        let observers = observers.filter(|id| !self.plan.expectations[*id].late);
        let not_yet = match entered.acts[..] {
            [] => vec![],
            _ => self.plan.not_yet(block),
        };
        for id in observers.chain(not_yet.clone()).collect::<Vec<_>>() {
            self.observe(id);
        }
        let looks = |id: usize| (id, if self.plan.expectations[id].counts { 2 } else { 1 });
        self.state = State::Checking { since: now, left: not_yet.into_iter().map(looks).collect() };
    }

    /// Before the block's first change is issued: what must not hold yet, and was seen.
    fn check(&mut self, id: usize, seen: &Seen) {
        match &mut self.state {
            State::Checking { since, left } if seen.began >= *since => {
                if let Some(looks) = left.get_mut(&id) {
                    *looks -= 1;
                    if *looks == 0 {
                        left.remove(&id);
                    }
                }
            }
            State::Acting(_) | State::Waiting { .. } if self.issued.is_empty() => {}
            _ => return,
        }
        // That it held counts, also if it does not any more.
        if seen.holds && !self.plan.blocks[self.block].acts.is_empty() {
            self.early.entry(id).or_insert_with(|| seen.saw.clone());
        }
    }

    fn already_holds(&mut self, id: usize, saw: &str) {
        let name = &self.plan.expectations[id].name;
        let first = self.plan.blocks[self.block].changes().next();
        let before = match first {
            Some((_, Act::Revert(action))) => {
                format!("the revert of {}", self.plan.actions[action].name)
            }
            Some((_, Act::Inject(action))) => self.plan.actions[action].name.clone(),
            Some((_, Act::Wait(_))) | None => "anything was changed".to_owned(),
        };
        let reason = format!("\"{name}\" already holds before {before}: {saw}");
        self.findings.invalid.push(reason);
    }

    /// Whether what must not hold before the block's first change never did since it was looked at.
    fn still_not_yet(&mut self) -> bool {
        let not_yet = self.plan.not_yet(self.block);
        let mut early = std::mem::take(&mut self.early);
        early.retain(|id, _| not_yet.contains(id));
        for (id, saw) in &early {
            self.already_holds(*id, saw);
        }
        early.is_empty()
    }

    fn leave_check(&mut self, now: Duration) {
        let State::Checking { since, left } = &self.state else { return };
        let (since, left) = (*since, left.clone());
        if !self.still_not_yet() {
            self.undo(now);
        } else if left.is_empty() {
            self.act(now, 0);
        } else if now >= since + CHECK {
            for id in left.into_keys() {
                let name = &self.plan.expectations[id].name;
                let reason = format!("\"{name}\" could not be observed before its cause");
                self.findings.invalid.push(reason);
            }
            self.undo(now);
        }
    }

    // Expectations

    fn stage(&self, stage: usize) -> std::ops::Range<usize> {
        let block = self.plan.blocks.get(self.block);
        block.and_then(|block| block.stages.get(stage)).cloned().unwrap_or_default()
    }

    fn watch(&mut self, now: Duration, stage: usize) {
        let ids = self.stage(stage);
        self.state = State::Watching(stage);
        if let Some(first) = ids.clone().next() {
            self.enter_phase(self.plan.expectations[first].phase);
        }
        for id in ids {
            if self.trackers[id].is_unarmed() {
                self.trackers[id].arm(now);
            }
        }
    }

    fn seen(&mut self, id: usize, seen: &Seen) {
        if !self.observed.contains(&id) {
            return;
        }
        if self.trackers[id].see(seen) {
            let (holds, saw) = (seen.holds, seen.saw.clone());
            self.emit(What::Observed { id, holds, saw });
        }
        self.check(id, seen);
    }

    fn observer_failed(&mut self, now: Duration, id: usize, why: &str) {
        if self.observed.contains(&id) {
            let name = self.plan.expectations[id].name.clone();
            self.cut_short(now, Ending::CutShort, format!("\"{name}\" can't be observed: {why}"));
        }
    }

    fn leave_stage(&mut self, now: Duration, stage: usize) {
        let failed = self.failed_among(self.stage(stage));
        let stages = self.plan.blocks[self.block].stages.len();
        let goes_on = failed.is_empty() || self.exhaustive;
        self.findings.failed.extend(failed);
        if goes_on && stage + 1 < stages {
            return self.watch(now, stage + 1);
        }
        let in_place = self.in_place.keys().copied();
        let in_place: Vec<_> = in_place.filter(|id| !self.plan.setup.contains(id)).collect();
        // What a later fault changes again can't be seen until that is taken back.
        let fault = |action: usize| &self.plan.actions[action].fault;
        let hidden = |action| {
            in_place.iter().any(|later| *later > action && hides(fault(*later), fault(action)))
        };
        let seen: BTreeSet<_> =
            in_place.iter().copied().filter(|action| !hidden(*action)).collect();
        self.out.extend(seen.iter().map(|action| Action::Prove(*action)));
        self.state = State::Proving(seen);
    }

    fn leave_block(&mut self, now: Duration) {
        if self.findings.is_clean() || (self.exhaustive && self.findings.verdict() == Verdict::Fail)
        {
            for id in self.observed.clone() {
                self.stop_observing(id);
            }
            self.enter_block(now, self.block + 1);
        } else {
            self.undo(now);
        }
    }

    /// Why the failed ones of these failed.
    fn failed_among(&self, ids: std::ops::Range<usize>) -> Vec<String> {
        let failed = ids.filter(|id| self.trackers[*id].has_failed());
        let why = |id: usize| {
            let planned = &self.plan.expectations[id];
            let (timing, saw) = (timing_words(planned.timing), self.trackers[id].saw());
            format!("\"{}\" {timing}: wanted {}; last seen: {saw}", planned.name, planned.wanted)
        };
        failed.map(why).collect()
    }

    /// Tells how those of these that have ended did, and measures.
    fn tell(&mut self, ids: impl Iterator<Item = usize>) {
        for id in ids {
            if !self.trackers[id].is_over() || !self.told.insert(id) {
                continue;
            }
            let after = self.measure(id);
            if let Some(outcome) = self.trackers[id].outcome(after) {
                self.emit(What::ExpectationEnded { id, outcome });
            }
            self.stop_observing(id);
        }
    }

    fn measure(&mut self, id: usize) -> Option<Measured> {
        if self.trackers[id].is_throughout() {
            return None;
        }
        let cause = self.cause_of(id)?;
        let issued = *self.issued.get(&cause)?;
        let proven = self.proven.get(&cause).copied().unwrap_or_default();
        let measured = self.trackers[id].met().map(|held| {
            let time = held.at.saturating_sub(issued);
            // What is seen before the proof is complete is uncertain by no more than itself.
            let uncertainty = proven.min(time);
            Measured { time, uncertainty, resolution: held.resolution }
        });
        let slowest = match self.plan.expectations[id].phase {
            Phase::Detect => &mut self.ttd,
            Phase::Recover => &mut self.ttr,
            _ => return None,
        };
        slowest.take(measured);
        measured
    }

    // What time alone moves on

    /// Goes on wherever nothing more is waited for.
    fn advance(&mut self, now: Duration) {
        loop {
            let before = (self.state.clone(), self.block);
            self.pass(now);
            match &self.state {
                State::Steady { since } => self.steady(now, *since),
                State::Checking { .. } => self.leave_check(now),
                State::Waiting { next, until } if *until <= now => {
                    let next = *next;
                    self.act(now, next);
                }
                State::Watching(stage) => {
                    let stage = *stage;
                    self.tell(self.plan.blocks[self.block].stages.clone().into_iter().flatten());
                    if self.all_over(self.stage(stage)) {
                        self.leave_stage(now, stage);
                    }
                }
                State::Proving(left) if left.is_empty() => self.leave_block(now),
                _ => {}
            }
            if before == (self.state.clone(), self.block) {
                return;
            }
        }
    }

    /// Lets time pass for what is expected now.
    fn pass(&mut self, now: Duration) {
        if matches!(
            self.state,
            State::Steady { .. } | State::Acting(_) | State::Waiting { .. } | State::Watching(_)
        ) {
            self.trackers.iter_mut().for_each(|tracker| tracker.pass(now));
        }
        for (id, _) in self.late().filter(|(_, opens)| *opens <= now).collect::<Vec<_>>() {
            self.observe(id);
        }
    }

    /// What is not observed before its window opens, and when that is.
    fn late(&self) -> impl Iterator<Item = (usize, Duration)> {
        let stage = match self.state {
            State::Acting(_) | State::Waiting { .. } => Some(0),
            State::Watching(stage) => Some(stage),
            _ => None,
        };
        let ids = stage.and_then(|stage| self.plan.blocks[self.block].stages.get(stage).cloned());
        let unseen = ids.into_iter().flatten().filter(|id| !self.observed.contains(id));
        unseen.filter_map(|id| self.trackers[id].opens().map(|opens| (id, opens)))
    }

    /// When the next of these begins.
    fn opens(&self) -> Option<Duration> {
        self.late().map(|(_, opens)| opens).min()
    }

    fn all_over(&self, mut ids: std::ops::Range<usize>) -> bool {
        ids.all(|id| self.trackers[id].is_over())
    }

    fn observe(&mut self, id: usize) {
        if !self.observed.insert(id) {
            return;
        }
        self.out.push_back(Action::Observe(id));
    }

    fn stop_observing(&mut self, id: usize) {
        if self.observed.remove(&id) {
            self.out.push_back(Action::StopObserving(id));
        }
    }

    fn enter_phase(&mut self, phase: Phase) {
        if self.phase.replace(phase) != Some(phase) {
            self.emit(What::Phase { phase });
        }
    }

    fn introduce(&mut self) {
        for (id, planned) in self.plan.expectations.iter().enumerate() {
            let (name, timing) = (planned.name.clone(), timing_words(planned.timing));
            let Planned { phase, wanted, every, waits, .. } = planned.clone();
            let added = What::ExpectationAdded { id, phase, name, timing, wanted, every, waits };
            self.out.push_back(Action::Emit(added));
        }
    }

    fn emit(&mut self, what: What) {
        self.out.push_back(Action::Emit(what));
    }

    fn emit_action(&mut self, action: usize, state: ActionState) {
        if let Some(planned) = self.plan.actions.get(action) {
            let (name, does) = (planned.name.clone(), planned.does.clone());
            self.emit(What::Action { name, does, state });
        }
    }
}

fn trackers(plan: &Plan) -> Vec<Tracker> {
    let new =
        |planned: &Planned| Tracker::new(planned.timing, planned.news, planned.wanted.clone());
    plan.expectations.iter().map(new).collect()
}

mod changes;
#[cfg(test)]
mod checks;
mod ending;
#[cfg(test)]
mod properties;
mod setup;
#[cfg(test)]
mod sim;
mod steady;
mod stepping;
#[cfg(test)]
mod tests;
