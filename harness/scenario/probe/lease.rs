//! Who holds a Lease, and how often that has changed. That the scheduler's leader is on master 2:
//!
//! ```yaml
//! lease: {name: kube-scheduler, heldBy: {master: 2}, through: {master: 1}}
//! ```

use serde::{Deserialize, Serialize};

use super::super::read::{Fields, Reader};
use super::super::reference::{
    Field, LINE, NAME, NODE, Rule, Shape, kind, optional, required, ruled,
};
use super::super::tree::{Node, Value};
use super::super::{NodeRef, Probe};
use super::{THROUGH, Wanted, metric};

/// See [`Probe::Lease`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lease {
    /// Its namespace.
    pub namespace: String,
    /// Its name: `kube-scheduler`, `kube-controller-manager`, or a node's in `kube-node-lease`.
    pub name: String,
    /// What it must be like.
    pub is: LeaseSide,
    /// The apiserver that is asked, directly.
    pub through: NodeRef,
}

/// What is expected of a Lease.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LeaseSide {
    /// Who holds it: a process of this node; nothing: nobody, as it was given back or is not there.
    HeldBy(Option<NodeRef>),
    /// How often it has had another holder since the observation began.
    Changes(Wanted),
}

/// Where the Leases of the control plane are.
const NAMESPACE: &str = "kube-system";

pub(super) const LEASE: Field = kind(
    "lease",
    "Who holds a Lease, or how often that has changed.",
    ruled(
        &[
            optional("namespace", "Its namespace.", NAME).or("kube-system"),
            required(
                "name",
                "Its name: `kube-scheduler`, `kube-controller-manager`, or in the namespace \
                 `kube-node-lease` a node's.",
                LINE,
            ),
            optional(
                "heldBy",
                "The node whose process holds it; `nobody` if it was given back, or is not there.",
                Shape::Either(&[Shape::Just("nobody"), NODE]),
            ),
            optional(
                "changes",
                "How often it must have had another holder since the observation began.",
                metric::COUNT,
            ),
            THROUGH,
        ],
        &[Rule::One(&["heldBy", "changes"])],
    ),
)
.examples(&[
    "lease: {name: kube-scheduler, heldBy: {master: 2}, through: {master: 1}}",
    "lease: {name: kube-controller-manager, changes: {atLeast: 1}, through: {master: 1}}",
]);

pub(super) fn read(reader: &mut Reader, node: &Node) -> Option<Probe> {
    let mut fields = Fields::of(reader, node, "`lease`")?;
    let namespace = fields.perhaps(reader, "namespace", Reader::name);
    let name = fields.required(reader, "name", Reader::line);
    let is = side(reader, &mut fields);
    let through = fields.required(reader, "through", Reader::master);
    fields.end(reader);
    Some(Probe::Lease(Lease {
        namespace: namespace?.unwrap_or_else(|| NAMESPACE.to_owned()),
        name: name?,
        is: is?,
        through: through?,
    }))
}

fn side(reader: &mut Reader, fields: &mut Fields) -> Option<LeaseSide> {
    match (fields.get("heldBy"), fields.get("changes")) {
        (Some(node), None) => match &node.value {
            Value::Text(text) if text == "nobody" => Some(LeaseSide::HeldBy(None)),
            Value::Text(text) => {
                let help = format!("{}, or `nobody`", reader.node_meant(text));
                reader.wrong(node, format!("`{text}` is not a node"), help)
            }
            _ => reader.node(node).map(|node| LeaseSide::HeldBy(Some(node))),
        },
        (None, Some(node)) => metric::changes(reader, node).map(LeaseSide::Changes),
        (Some(_), Some(node)) => {
            let help = "write an expectation for each";
            reader.wrong(node, "`changes` and `heldBy` exclude each other", help)
        }
        (None, None) => {
            let help = "add `heldBy: {master: 2}` or `changes: {atLeast: 1}`";
            fields.lacks(reader, "nothing is expected of the Lease", help);
            None
        }
    }
}
