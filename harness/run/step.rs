//! What goes into the state machine and what comes out of it.

use std::time::Duration;

use super::plan::Plan;
use super::tracker::Seen;
use crate::event::{Verdict, What};
use crate::scenario::Nodes;

/// A cluster that stands, and what is known now that it does.
#[derive(Debug, Clone, PartialEq)]
pub struct Stands {
    /// How long it took.
    pub took: Duration,
    /// See [`What::ClusterReady`].
    pub provenance: Vec<(String, String)>,
    /// See [`What::ClusterReady`].
    pub departures: Vec<String>,
    /// See [`What::ClusterReady`].
    pub flags: Vec<(String, Vec<String>)>,
    /// Whether a case before this one ran on it.
    pub reused: bool,
    /// Whether a fresh one is made if it is not in its steady state: then that says nothing of the case.
    pub replaceable: bool,
    /// See [`What::ClusterReady`].
    pub logs: Option<String>,
    /// The nodes that the scenario's names stand for.
    pub nodes: Nodes,
    /// The case's plan with these nodes.
    pub plan: Plan,
}

/// What is to be done with what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// It is done.
    GoOn,
    /// It is left away; the case is INVALID then.
    Skip,
    /// The case ends: what is in place is taken back.
    Revert,
}

/// What happens to the machine.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The cluster stands.
    ClusterReady(Box<Stands>),
    /// The cluster could not be made, or was given up; why.
    ClusterFailed(String),
    /// An expectation's probe was observed.
    Seen(usize, Seen),
    /// An expectation can't be observed any more: the harness failed; why.
    ObserverFailed(usize, String),
    /// An action's injecting command is about to be issued.
    Issued(usize),
    /// An action's effect is proven, at first or again.
    Proven(usize, Vec<String>),
    /// An action's effect is not proven, or not any more, or it could not be injected; why.
    Unproven(usize, String),
    /// An action was taken back and that was verified.
    Reverted(usize),
    /// An action could not be taken back, or that could not be verified; why.
    NotReverted(usize, String),
    /// The objects concerned were written to this file, or could not be.
    Collected(Option<String>),
    /// The cluster has ended or was handed on, or why it could not.
    TornDown(Result<(), String>),
    /// A process of the cluster died although nobody asked for it.
    DiedUnasked {
        /// Which.
        process: String,
        /// Its exit status in words.
        status: String,
        /// Whether the node's init starts it again.
        restarts: bool,
        /// Its last log lines.
        log: Vec<String>,
    },
    /// What somebody wants who was asked.
    Replied(Reply),
    /// The user wants it to end.
    Interrupted,
    /// Time has passed: the moment of [`super::Machine::wake`].
    Tick,
}

/// What the machine wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Ask somebody whether to go on with this; answered by `Replied`.
    Ask(String),
    /// Make the cluster; answered by `ClusterReady` or `ClusterFailed`.
    Provision,
    /// Give the making of the cluster up; answered likewise.
    AbandonProvision,
    /// End the cluster, which another case has used, and make a fresh one; answered likewise.
    Replace,
    /// Begin to observe an expectation's probe.
    Observe(usize),
    /// End that.
    StopObserving(usize),
    /// Write down the inverse, inject, prove; answered by `Issued` and `Proven`, or by `Unproven`.
    Inject(usize),
    /// Prove again; answered by `Proven` or `Unproven`.
    Prove(usize),
    /// Take back and verify; answered by `Reverted` or `NotReverted`.
    Revert(usize),
    /// Write down the objects concerned; answered by `Collected`.
    Collect,
    /// End the cluster, or hand it on; answered by `TornDown`.
    Teardown {
        /// The verdict, unless the teardown goes wrong.
        so_far: Verdict,
    },
    /// Write an event down.
    Emit(What),
}
