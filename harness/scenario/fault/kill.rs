//! `kill`: a program's process dies once.

use serde::{Deserialize, Serialize};

use super::super::read::{Fields, Reader};
use super::super::tree::Node;
use super::super::{Fault, NodeRef, Signal};
use super::program::{Program, program};
use super::{places, signal};

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

pub(super) fn kill(reader: &mut Reader, node: &Node) -> Option<Fault> {
    let mut fields = Fields::of(reader, node, "`kill`")?;
    let component = fields.required(reader, "component", program);
    let on = fields.required(
        reader,
        "on",
        match component {
            Some(Program::Component(_)) => places::masters,
            _ => places::nodes,
        },
    );
    let signal = fields.required(reader, "signal", signal);
    fields.end(reader);
    Some(Fault::Kill(Kill { component: component?, on: on?, signal: signal? }))
}
