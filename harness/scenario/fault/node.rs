//! `powerOff`, `freeze`, `isolate` and `fullDisk`: what befalls a whole machine.

use serde::{Deserialize, Serialize};

use super::super::places::{self, MASTERS, NODES};
use super::super::read::{Fields, Read, Reader};
use super::super::reference::{Field, kind, map, required};
use super::super::tree::Node;
use super::super::{Fault, NodeRef};

/// See [`Fault::PowerOff`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PowerOff {
    /// Which nodes, all at once.
    pub on: Vec<NodeRef>,
}

/// See [`Fault::Freeze`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    /// Which nodes, all at once.
    pub on: Vec<NodeRef>,
}

/// See [`Fault::Isolate`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Isolate {
    /// Which nodes, all at once; each is cut off from the others, too.
    pub on: Vec<NodeRef>,
}

/// See [`Fault::FullDisk`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FullDisk {
    /// Which masters, all at once.
    pub on: Vec<NodeRef>,
}

pub(super) const FULL_DISK: Field = kind(
    "fullDisk",
    "The disk of a master's etcd is full until the revert; etcd is restarted on it.",
    map(&[required("on", "Which masters, all at once.", MASTERS)]),
)
.examples(&["fullDisk: {on: {master: 2}}"]);

pub(super) fn full_disk(reader: &mut Reader, node: &Node) -> Option<Fault> {
    on(reader, node, "`fullDisk`", places::masters).map(|on| Fault::FullDisk(FullDisk { on }))
}

pub(super) const POWER_OFF: Field = kind(
    "powerOff",
    "Machines lose their power until the revert; their disks stay.",
    map(&[required("on", "Which nodes, all at once.", NODES)]),
)
.examples(&["powerOff: {on: {master: 3}}"]);

pub(super) fn power_off(reader: &mut Reader, node: &Node) -> Option<Fault> {
    on(reader, node, "`powerOff`", places::nodes).map(|on| Fault::PowerOff(PowerOff { on }))
}

pub(super) const FREEZE: Field = kind(
    "freeze",
    "Every process of machines stands still until the revert.",
    map(&[required("on", "Which nodes, all at once.", NODES)]),
)
.examples(&["freeze: {on: {worker: 1}}"]);

pub(super) fn freeze(reader: &mut Reader, node: &Node) -> Option<Fault> {
    on(reader, node, "`freeze`", places::nodes).map(|on| Fault::Freeze(Freeze { on }))
}

pub(super) const ISOLATE: Field = kind(
    "isolate",
    "Machines are cut off from the network between nodes until the revert.",
    map(&[required(
        "on",
        "Which nodes, all at once; each is cut off from the others, too.",
        NODES,
    )]),
)
.examples(&["isolate: {on: {master: 2}}"]);

pub(super) fn isolate(reader: &mut Reader, node: &Node) -> Option<Fault> {
    on(reader, node, "`isolate`", places::nodes).map(|on| Fault::Isolate(Isolate { on }))
}

fn on(
    reader: &mut Reader,
    node: &Node,
    what: &str,
    places: Read<Vec<NodeRef>>,
) -> Option<Vec<NodeRef>> {
    let mut fields = Fields::of(reader, node, what)?;
    let on = fields.required(reader, "on", places);
    fields.end(reader);
    on
}
