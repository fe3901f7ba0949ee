//! `pause`: a program's process stands still.

use serde::{Deserialize, Serialize};

use super::super::places::NODES;
use super::super::read::{Fields, Reader};
use super::super::reference::{Field, kind, map, required};
use super::super::tree::Node;
use super::super::{Fault, NodeRef};
use super::program::{PROGRAM, Program, program_on};

/// See [`Fault::Pause`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// What is paused.
    pub component: Program,
    /// On which nodes, on all at once.
    pub on: Vec<NodeRef>,
}

pub(super) const PAUSE: Field = kind(
    "pause",
    "A program's process stands still until the revert.",
    map(&[
        required("component", "What is paused.", PROGRAM),
        required("on", "On which nodes, on all at once; a component's are masters.", NODES),
    ]),
)
.examples(&["pause: {component: etcd, on: [{master: 1}, {master: 2}]}"]);

pub(super) fn pause(reader: &mut Reader, node: &Node) -> Option<Fault> {
    let mut fields = Fields::of(reader, node, "`pause`")?;
    let (component, on) = program_on(reader, &mut fields);
    fields.end(reader);
    Some(Fault::Pause(Pause { component: component?, on: on? }))
}
