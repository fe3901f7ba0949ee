//! A new line in a log.

use serde::{Deserialize, Serialize};

use super::super::places::{self, NODES};
use super::super::read::{Fields, Read, Reader};
use super::super::reference::{Field, PATTERN, Shape, kind, map, one_of, required, text};
use super::super::tree::{Node, Value};
use super::super::{Component, NodeRef, Probe, fault};
use super::{IS, absent, namespaced, pattern};

/// See [`Probe::Log`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Whose log.
    pub of: LogOf,
    /// On which nodes. A line on one of them suffices; one that must not come comes on none.
    pub on: Vec<NodeRef>,
    /// A regular expression that the line matches.
    pub line: String,
    /// Whether no such line may come.
    pub absent: bool,
}

/// Whose log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LogOf {
    /// A component's, of its static pod.
    Component(Component),
    /// That of all containers of a pod, `namespace/name`; `*` stands for anything.
    Pod(String),
    /// The kubelet's.
    Kubelet,
    /// The container runtime's.
    Containerd,
}

const LOGS: [(&str, Read<LogOf>); 3] = [
    ("component", |reader, node| {
        if let Value::Text(text) = &node.value
            && is_service(text)
        {
            let help = format!("write `{{service: {text}}}`");
            return reader.wrong(node, format!("{text} is not a static pod"), help);
        }
        fault::component(reader, node).map(LogOf::Component)
    }),
    ("pod", |reader, node| namespaced(reader, node, true).map(LogOf::Pod)),
    ("service", |reader, node| {
        reader.word(node, &SERVICES).map(|which| match which {
            0 => LogOf::Kubelet,
            _ => LogOf::Containerd,
        })
    }),
];

const SERVICES: [(&str, u8); 2] = [("kubelet", 0), ("containerd", 1)];

fn is_service(name: &str) -> bool {
    SERVICES.iter().any(|(service, _)| *service == name)
}

/// How it is written whose log it is.
const OF: Shape = one_of(
    "a log",
    &[
        kind("component", "A component's, of its static pod.", fault::COMPONENT)
            .examples(&["component: kube-apiserver"]),
        kind(
            "pod",
            "That of all containers of a pod, `namespace/name`; `*` stands for anything.",
            text("`namespace/name`", "^[-a-z0-9.*]+/[-a-z0-9.*]+$"),
        )
        .examples(&["pod: \"kube-system/coredns-*\""]),
        kind(
            "service",
            "A program's that is no pod.",
            Shape::Words(&[("kubelet", ""), ("containerd", "")]),
        )
        .examples(&["service: kubelet"]),
    ],
);

pub(super) const LOG: Field = kind(
    "log",
    "A line in the log of a component, a pod, the kubelet or containerd, since the observation began.",
    map(&[
        required("of", "Whose log.", OF),
        required(
            "on",
            "On which nodes: a line on one of them suffices, an absent one comes on none. A component's are masters.",
            NODES,
        ),
        required("line", "What the line matches.", PATTERN),
        IS,
    ]),
)
.examples(&[
    "log: {of: {component: kube-apiserver}, on: {master: 3}, line: \"connection refused\"}",
    "log: {of: {pod: \"kube-system/coredns-*\"}, on: {worker: 1}, line: \"SERVFAIL\", is: absent}",
    "log: {of: {service: kubelet}, on: {master: 3}, line: \"failed to reserve container name\"}",
    "log: {of: {component: kube-controller-manager}, on: {every: masters}, line: \"failed to renew lease\"}",
]);

pub(super) fn read(reader: &mut Reader, node: &Node) -> Option<Probe> {
    let mut fields = Fields::of(reader, node, "`log`")?;
    let of = fields.required(reader, "of", |reader, node| match &node.value {
        Value::Text(text) => {
            let of = if is_service(text) { "service" } else { "component" };
            reader.wrong(node, "it is not said what this is", format!("write `{{{of}: {text}}}`"))
        }
        _ => reader.one_of(node, "a log", &LOGS),
    });
    let on = fields.required_node(reader, "on", places::nodes);
    let line = fields.required(reader, "line", pattern);
    let absent = absent(reader, &mut fields);
    fields.end(reader);
    let (of, (on, on_node)) = (of?, on?);
    if let LogOf::Component(component) = &of {
        places::of_component(reader, on_node, component.name(), &on)?;
    }
    Some(Probe::Log(LogLine { of, on, line: line?, absent }))
}
