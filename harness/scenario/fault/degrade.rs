//! `degrade`: TCP connections between two ends are slow, thin or broken.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::Fault;
use super::super::read::{Fields, Read, Reader};
use super::super::reference::{
    DURATION, Field, Shape, kind, map, one_of, optional, required, some, whole,
};
use super::super::tree::Node;
use super::traffic::{FROM, TO, TrafficEnd, end, from, port};

/// Longer than what waits for an answer.
const LONGEST: Duration = Duration::from_mins(1);

/// See [`Fault::Degrade`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Degrade {
    /// Whose connections are meant: those of nodes or of pods.
    pub from: TrafficEnd,
    /// Where these connections lead.
    pub to: TrafficEnd,
    /// Ports of `to`; none: every port (a Service's, a component's or the load balancer's own).
    pub ports: Vec<u16>,
    /// What becomes of a connection.
    pub by: Degradation,
}

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Degradation {
    /// What is sent arrives so much later, either way.
    Delay(Duration),
    /// So many bytes a second pass, either way.
    Bandwidth(u32),
    /// It is reset when so many bytes have passed, both ways together.
    ResetAfter(u32),
    /// Once so many bytes have passed, both ways together, some are changed.
    CorruptAfter(u32),
}

const DEGRADATIONS: [(&str, Read<Degradation>); 4] = [
    ("delay", |reader, node| {
        let delay = reader.duration_up_to(node, LONGEST, "1m")?;
        if delay.is_zero() {
            return reader.wrong(node, "this delays nothing", "write a delay such as `200ms`");
        }
        Some(Degradation::Delay(delay))
    }),
    ("bandwidth", |reader, node| reader.count(node, 1).map(Degradation::Bandwidth)),
    ("resetAfter", |reader, node| reader.count(node, 0).map(Degradation::ResetAfter)),
    ("corruptAfter", |reader, node| reader.count(node, 0).map(Degradation::CorruptAfter)),
];

pub(super) const DEGRADE: Field = kind(
    "degrade",
    "TCP connections from nodes or pods are slow, thin or broken until the revert: they are led through \
     a proxy on the node. Those that stand are reset.",
    map(&[
        required("from", "Whose connections are meant: those of nodes or of pods.", FROM),
        required("to", "Where these connections lead.", TO),
        required(
            "by",
            "What becomes of a connection.",
            one_of(
                "a degradation",
                &[
                    kind("delay", "What is sent arrives so much later, either way; up to a minute.", DURATION)
                        .examples(&["delay: 200ms"]),
                    kind("bandwidth", "So many bytes a second pass, either way.", whole(1))
                        .examples(&["bandwidth: 10000"]),
                    kind(
                        "resetAfter",
                        "It is reset when so many bytes have passed, both ways together.",
                        whole(0),
                    )
                    .examples(&["resetAfter: 20000"]),
                    kind(
                        "corruptAfter",
                        "Once so many bytes have passed, both ways together, some are changed: TLS \
                         notices, and ends it.",
                        whole(0),
                    )
                    .examples(&["corruptAfter: 20000"]),
                ],
            ),
        ),
        optional(
            "ports",
            "Ports of `to`; without: every port, or its own of a Service, a component or the load balancer.",
            some(&Shape::Whole { least: 1, most: 65535 }),
        ),
    ]),
)
.examples(&[
    "degrade: {from: {master: 3}, to: {component: {name: etcd, on: [{master: 1}, {master: 2}]}}, by: {delay: 200ms}}",
    "degrade: {from: {worker: 1}, to: {every: masters}, ports: [6443], by: {resetAfter: 20000}}",
    "degrade: {from: {worker: 1}, to: loadBalancer, by: {bandwidth: 10000}}",
    "degrade: {from: {pod: {namespace: kube-system, labels: {k8s-app: kube-dns}}}, to: {service: default/kubernetes}, by: {corruptAfter: 20000}}",
]);

pub(super) fn degrade(reader: &mut Reader, node: &Node) -> Option<Fault> {
    let mut fields = Fields::of(reader, node, "`degrade`")?;
    let from = fields.required(reader, "from", from);
    let to = fields.required(reader, "to", end);
    let by = fields
        .required(reader, "by", |reader, node| reader.one_of(node, "a degradation", &DEGRADATIONS));
    let ports = fields.perhaps(reader, "ports", |reader, node| reader.some(node, port));
    fields.end(reader);
    let (from, to, by, ports) = (from?, to?, by?, ports?.unwrap_or_default());
    Some(Fault::Degrade(Degrade { from, to, ports, by }))
}
