//! `traffic`: packets between two ends are dropped or rejected.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::places::{self, EVERY, NODES};
use super::super::probe::target::{NAMESPACED, service};
use super::super::read::{Fields, Read, Reader};
use super::super::reference::{
    Field, LINE, MASTER_KIND, NAME, NODE, NODE_KIND, Shape, WORKER_KIND, kind, map, one_of,
    optional, required, some,
};
use super::super::tree::{Node, Value};
use super::super::{Fault, NodeRef};
use super::program::{PROGRAM, Program, program};

/// See [`Fault::Traffic`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// The end on whose nodes the packets are caught: nodes or pods.
    pub from: TrafficEnd,
    /// The other end.
    pub to: TrafficEnd,
    /// What becomes of a packet.
    pub rule: TrafficRule,
    /// Ports of `to`; none: every port (a Service's, a component's or the load balancer's own).
    pub ports: Vec<u16>,
    /// Only this protocol.
    pub protocol: Option<Protocol>,
    /// Whether what `to` sends still arrives.
    pub one_way: bool,
}

/// An end of [`Traffic`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TrafficEnd {
    /// What runs in the network of these nodes themselves; their pods are not meant.
    Nodes(Vec<NodeRef>),
    /// The ports on which a program of these nodes serves.
    Component {
        /// Which.
        name: Program,
        /// On which nodes.
        on: Vec<NodeRef>,
    },
    /// The pods that have all these labels when the fault is injected.
    Pods {
        /// Their namespace.
        namespace: String,
        /// Label to its value.
        labels: BTreeMap<String, String>,
    },
    /// A Service, `namespace/name`: its virtual address, and the endpoints that it has when the
    /// fault is injected.
    Service(String),
    /// The load balancer before the apiservers: its address, and the port on which it serves.
    LoadBalancer,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TrafficRule {
    /// It vanishes: whoever waits runs into a time-out.
    Drop,
    /// Its sender is told: TCP by a reset, anything else by ICMP.
    Reject,
}

impl TrafficRule {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Reject => "reject",
        }
    }
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

const RULES: [(&str, TrafficRule); 2] =
    [("drop", TrafficRule::Drop), ("reject", TrafficRule::Reject)];

const PROTOCOLS: [(&str, Protocol); 2] = [("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];

const ENDS: [(&str, Read<TrafficEnd>); 8] = [
    ("master", nodes_without_name),
    ("worker", nodes_without_name),
    ("node", nodes_without_name),
    ("every", |reader, node| places::every(reader, node).map(TrafficEnd::Nodes)),
    ("component", component),
    ("pod", pods),
    ("service", |reader, node| service(reader, node).map(TrafficEnd::Service)),
    ("loadBalancer", |reader, node| match node.value {
        Value::Null => Some(TrafficEnd::LoadBalancer),
        _ => reader.wrong(node, "`loadBalancer` takes no value", "write `to: loadBalancer`"),
    }),
];

/// The pods with all these labels.
const POD: Field = kind(
    "pod",
    "The pods that have all these labels when the fault is injected.",
    map(&[
        required("namespace", "Their namespace.", NAME),
        required(
            "labels",
            "Each label with its value.",
            Shape::Named { of: &LINE, names: "", count: (1, usize::MAX) },
        ),
    ]),
)
.examples(&["pod: {namespace: kube-system, labels: {k8s-app: kube-dns}}"]);

/// How the end is written at which packets are caught.
pub(super) const FROM: Shape = Shape::Either(&[
    Shape::OneOf {
        what: "nodes or pods",
        kinds: &[MASTER_KIND, WORKER_KIND, NODE_KIND, EVERY, POD],
        refused: &["component", "service", "loadBalancer"],
    },
    some(&NODE),
]);

/// How the other end is written.
pub(super) const TO: Shape = Shape::Either(&[
    one_of(
        "an end of traffic",
        &[
            MASTER_KIND,
            WORKER_KIND,
            NODE_KIND,
            EVERY,
            kind(
                "component",
                "The ports on which a program of these nodes serves.",
                map(&[
                    required("name", "Which program; containerd serves no port.", PROGRAM),
                    required("on", "On which nodes; a component's are masters.", NODES),
                ]),
            )
            .examples(&["component: {name: kube-apiserver, on: {master: 1}}"]),
            POD,
            kind(
                "service",
                "A Service, `namespace/name`: its virtual address, and the endpoints that it has \
                 when the fault is injected.",
                NAMESPACED,
            )
            .examples(&["service: kube-system/kube-dns"]),
            kind(
                "loadBalancer",
                "The load balancer before the apiservers: its address, and the port on which it \
                 serves.",
                Shape::Nothing,
            ),
        ],
    ),
    some(&NODE),
]);

pub(super) const TRAFFIC: Field = kind(
    "traffic",
    "Packets between two ends are dropped or rejected until the revert, those of established \
     connections too.",
    map(&[
        required("from", "The end on whose nodes the packets are caught: nodes or pods.", FROM),
        required("to", "The other end.", TO),
        required(
            "do",
            "What becomes of a packet.",
            Shape::Words(&[
                ("drop", "It vanishes: whoever waits runs into a time-out."),
                ("reject", "Its sender is told: TCP by a reset, anything else by ICMP."),
            ]),
        ),
        optional(
            "ports",
            "Ports of `to`; without: every port, or its own of a Service, a component or the load balancer.",
            some(&Shape::Whole { least: 1, most: 65535 }),
        ),
        optional(
            "protocol",
            "Only this protocol; without: any.",
            Shape::Words(&[("tcp", ""), ("udp", "")]),
        ),
        optional("oneWay", "Whether what `to` sends still arrives.", Shape::Bool).or("false"),
    ]),
)
.examples(&[
    "traffic: {from: {master: 3}, to: {service: kube-system/kube-dns}, do: drop}",
    "traffic: {from: {worker: 1}, to: loadBalancer, do: drop}",
    "traffic: {from: {every: workers}, to: {component: {name: kube-apiserver, on: {master: 1}}}, do: reject, ports: [6443], protocol: tcp, oneWay: true}",
]);

pub(super) fn traffic(reader: &mut Reader, node: &Node) -> Option<Fault> {
    let mut fields = Fields::of(reader, node, "`traffic`")?;
    let from = fields.required(reader, "from", from);
    let to = fields.required(reader, "to", end);
    let rule = fields.required(reader, "do", |reader, node| reader.word(node, &RULES));
    let ports = fields.get("ports").map(|node| reader.some(node, port));
    let protocol =
        fields.optional(reader, "protocol", |reader, node| reader.word(node, &PROTOCOLS));
    let one_way = fields.optional(reader, "oneWay", Reader::boolean);
    fields.end(reader);
    Some(Fault::Traffic(Traffic {
        from: from?,
        to: to?,
        rule: rule?,
        ports: ports.unwrap_or(Some(vec![]))?,
        protocol,
        one_way: one_way.unwrap_or(false),
    }))
}

/// Where packets are caught can only be where they start: on nodes or in pods.
pub(super) fn from(reader: &mut Reader, node: &Node) -> Option<TrafficEnd> {
    match end(reader, node)? {
        TrafficEnd::Component { .. } => reader.wrong(
            node,
            "packets don't tell which program of a node sent them",
            "write the node, such as `from: {master: 1}`, and the component that it reaches as `to`",
        ),
        TrafficEnd::Service(_) => reader.wrong(
            node,
            "a Service sends nothing",
            "write the pods behind it, such as \
             `from: {pod: {namespace: default, labels: {app: web}}}`",
        ),
        TrafficEnd::LoadBalancer => reader.wrong(
            node,
            "the load balancer is no node of the cluster",
            "write the nodes or pods that connect to it, such as `from: {worker: 1}`, and \
             `to: loadBalancer`",
        ),
        end => Some(end),
    }
}

/// Reads an end of traffic.
pub(super) fn end(reader: &mut Reader, node: &Node) -> Option<TrafficEnd> {
    match &node.value {
        Value::List(_) => places::nodes(reader, node).map(TrafficEnd::Nodes),
        Value::Map(entries)
            if entries.len() == 1
                && ["master", "worker", "node"].contains(&entries[0].key.as_str()) =>
        {
            places::nodes(reader, node).map(TrafficEnd::Nodes)
        }
        _ => reader.one_of(node, "an end of traffic", &ENDS),
    }
}

/// A plain `master`, `worker` or `node`, without its number or name.
fn nodes_without_name(reader: &mut Reader, node: &Node) -> Option<TrafficEnd> {
    reader.wrong(node, "this names no node", "write which one, such as `{master: 1}`")
}

fn component(reader: &mut Reader, node: &Node) -> Option<TrafficEnd> {
    let mut fields = Fields::of(reader, node, "`component`")?;
    let name = fields.required(reader, "name", |reader, node| match program(reader, node)? {
        Program::Containerd => reader.wrong(
            node,
            "containerd serves no port",
            "write a component that is reached by the network, such as `etcd`",
        ),
        name => Some(name),
    });
    let on = fields.required(
        reader,
        "on",
        match name {
            Some(Program::Component(_)) => places::masters,
            _ => places::nodes,
        },
    );
    fields.end(reader);
    Some(TrafficEnd::Component { name: name?, on: on? })
}

fn pods(reader: &mut Reader, node: &Node) -> Option<TrafficEnd> {
    let mut fields = Fields::of(reader, node, "`pod`")?;
    let namespace = fields.required(reader, "namespace", Reader::name);
    let labels = fields.required(reader, "labels", |reader, node| {
        let Value::Map(entries) = &node.value else {
            return reader.mistyped(node, "labels, such as `{app: web}`");
        };
        if entries.is_empty() {
            return reader.wrong(
                node,
                "no label is given",
                "write at least one, such as `app: web`",
            );
        }
        let text = |reader: &mut Reader, node| reader.line(node);
        let labels = entries
            .iter()
            .map(|entry| text(reader, &entry.value).map(|value| (entry.key.clone(), value)));
        labels.collect::<Vec<_>>().into_iter().collect::<Option<BTreeMap<_, _>>>()
    });
    fields.end(reader);
    Some(TrafficEnd::Pods { namespace: namespace?, labels: labels? })
}

/// Reads a port.
pub(super) fn port(reader: &mut Reader, node: &Node) -> Option<u16> {
    match u16::try_from(reader.count(node, 0)?) {
        Ok(port) if port > 0 => Some(port),
        _ => reader.wrong(node, "there is no such port", "write a number from 1 to 65535"),
    }
}
