//! `kill`: a program's process dies once.

use serde::{Deserialize, Serialize};

use super::super::places::NODES;
use super::super::read::{Fields, Reader};
use super::super::reference::{Field, kind, map, required};
use super::super::tree::Node;
use super::super::{Fault, NodeRef, Signal};
use super::program::{PROGRAM, Program, program_on};
use super::{SIGNAL, signal};

/// See [`Fault::Kill`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kill {
    /// What is killed.
    pub component: Program,
    /// On which nodes, on all at once.
    pub on: Vec<NodeRef>,
    /// How its process dies.
    pub signal: Signal,
}

pub(super) const KILL: Field = kind(
    "kill",
    "A program dies once; its supervisor brings it back.",
    map(&[
        required("component", "What is killed.", PROGRAM),
        required("on", "On which nodes, on all at once; a component's are masters.", NODES),
        required("signal", "How its process dies.", SIGNAL),
    ]),
)
.examples(&["kill: {component: kubelet, on: {worker: 1}, signal: SIGTERM}"]);

pub(super) fn kill(reader: &mut Reader, node: &Node) -> Option<Fault> {
    let mut fields = Fields::of(reader, node, "`kill`")?;
    let (component, on) = program_on(reader, &mut fields);
    let signal = fields.required(reader, "signal", signal);
    fields.end(reader);
    Some(Fault::Kill(Kill { component: component?, on: on?, signal: signal? }))
}
