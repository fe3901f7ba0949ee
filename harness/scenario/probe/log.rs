//! A new line in a log.

use serde::{Deserialize, Serialize};

use super::super::read::{Fields, Read, Reader};
use super::super::tree::Node;
use super::super::{Component, NodeRef, Probe, fault};
use super::{absent, namespaced, pattern};

/// See [`Probe::Log`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Whose log.
    pub of: LogOf,
    /// On which node.
    pub on: NodeRef,
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
    ("component", |reader, node| fault::component(reader, node).map(LogOf::Component)),
    ("pod", |reader, node| namespaced(reader, node, true).map(LogOf::Pod)),
    ("service", |reader, node| {
        reader.word(node, &[("kubelet", 0), ("containerd", 1)]).map(|which| match which {
            0 => LogOf::Kubelet,
            _ => LogOf::Containerd,
        })
    }),
];

pub(super) fn read(reader: &mut Reader, node: &Node) -> Option<Probe> {
    let mut fields = Fields::of(reader, node, "`log`")?;
    let of = fields.required(reader, "of", |reader, node| reader.one_of(node, "a log", &LOGS));
    let on = fields.required_node(reader, "on", Reader::node);
    let line = fields.required(reader, "line", pattern);
    let absent = absent(reader, &mut fields);
    fields.end(reader);
    let (of, (on, on_node)) = (of?, on?);
    if let (LogOf::Component(component), NodeRef::Worker(_)) = (&of, on) {
        let message = format!("{} does not run on a worker", component.name());
        return reader.wrong(on_node, message, "write a master, such as `{master: 1}`");
    }
    Some(Probe::Log(LogLine { of, on, line: line?, absent }))
}
