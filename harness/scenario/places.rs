//! Reading several places: one node, a list of nodes, or every node of a role.

use super::NodeRef;
use super::problem::Finding;
use super::read::{Read, Reader};
use super::reference::{
    Field, MASTER, MASTER_KIND, NODE, NODE_KIND, Shape, WORKER_KIND, kind, one_of, some,
};
use super::tree::{Node, Value};

const ROLES: [(&str, Roles); 3] =
    [("masters", Roles::Masters), ("workers", Roles::Workers), ("nodes", Roles::Nodes)];

#[derive(Clone, Copy, PartialEq)]
enum Roles {
    Masters,
    Workers,
    Nodes,
}

/// Every node of a role, beside single ones.
pub(super) const EVERY: Field = kind(
    "every",
    "Every node of a role.",
    Shape::Words(&[("masters", ""), ("workers", ""), ("nodes", "masters and workers")]),
)
.examples(&["every: masters"]);

/// How [`nodes`] are written.
pub(super) const NODES: Shape = Shape::Shared(
    "nodes",
    &Shape::Either(&[
        one_of("a node, or every node of a role", &[MASTER_KIND, WORKER_KIND, NODE_KIND, EVERY]),
        some(&NODE),
    ]),
);

/// How [`masters`] are written.
pub(super) const MASTERS: Shape = Shape::Shared(
    "masters",
    &Shape::Either(&[
        Shape::OneOf {
            what: "a master, or every one",
            kinds: &[MASTER_KIND, NODE_KIND, EVERY],
            refused: &["worker"],
        },
        some(&MASTER),
    ]),
);

/// Nodes of any role: `{master: 3}`, `[{master: 1}, {worker: 1}]` or `{every: nodes}`.
pub(super) fn nodes(reader: &mut Reader, node: &Node) -> Option<Vec<NodeRef>> {
    places(reader, node, Reader::node)
}

/// Control-plane nodes: `{master: 3}`, `[{master: 1}, {master: 2}]` or `{every: masters}`.
pub(super) fn masters(reader: &mut Reader, node: &Node) -> Option<Vec<NodeRef>> {
    let found = reader.found();
    let places = places(reader, node, Reader::master)?;
    if reader.found() == found && places.iter().any(|place| matches!(place, NodeRef::Worker(_))) {
        return reader.wrong(
            node,
            "a worker runs no control-plane component",
            "write `{every: masters}`",
        );
    }
    Some(places)
}

/// Reports places among which is a worker, of a component of the control plane.
pub(super) fn of_component(
    reader: &mut Reader,
    node: &Node,
    component: &str,
    places: &[NodeRef],
) -> Option<()> {
    if places.iter().any(|place| matches!(place, NodeRef::Worker(_))) {
        let message = format!("{component} does not run on a worker");
        let help = "write a master, such as `{master: 1}`, or `{every: masters}`";
        return reader.wrong(node, message, help);
    }
    Some(())
}

fn places(reader: &mut Reader, node: &Node, one: Read<NodeRef>) -> Option<Vec<NodeRef>> {
    match &node.value {
        Value::List(items) if !items.is_empty() => {
            let mut places = vec![];
            for item in items {
                let Some(place) = one(reader, item) else { continue };
                if places.contains(&place) {
                    let finding = Finding::new(item.span, format!("{place} is listed twice"));
                    reader.report(finding.help("list each node once"));
                }
                places.push(place);
            }
            Some(places)
        }
        Value::List(_) => reader.wrong(node, "this list is empty", "list at least one node"),
        Value::Map(entries) => match entries.as_slice() {
            [entry] if entry.key == "every" => every(reader, &entry.value),
            [entry] if ["master", "worker", "node"].contains(&entry.key.as_str()) => {
                one(reader, node).map(|place| vec![place])
            }
            _ => reader.wrong(
                node,
                "this names no nodes",
                "write one, such as `{master: 1}`, a list of them, or `{every: masters}`",
            ),
        },
        _ => one(reader, node).map(|place| vec![place]),
    }
}

/// Reads the role after `every`. Nothing is reported if the cluster's own figures are wrong: that
/// was.
pub(super) fn every(reader: &mut Reader, node: &Node) -> Option<Vec<NodeRef>> {
    let roles = reader.word(node, &ROLES)?;
    let of = |count: Option<usize>, make: fn(usize) -> NodeRef| {
        count.map(|count| (1..=count).map(make).collect::<Vec<_>>())
    };
    let mut all = vec![];
    if roles != Roles::Workers {
        all.extend(of(reader.masters, NodeRef::Master)?);
    }
    if roles != Roles::Masters {
        all.extend(of(reader.workers, NodeRef::Worker)?);
    }
    if all.is_empty() {
        return reader.wrong(node, "the cluster has no workers", "set `spec.cluster.workers`");
    }
    Some(all)
}
