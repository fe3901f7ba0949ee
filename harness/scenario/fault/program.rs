//! What has a process of its own on a node.

use serde::{Deserialize, Serialize};

use super::super::places;
use super::super::read::{Fields, Read, Reader};
use super::super::reference::Shape;
use super::super::tree::{Node, Value};
use super::super::{Component, NodeRef};

/// A program of a node, supervised by the kubelet or, the kubelet itself and containerd, by the
/// node's init.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Program {
    /// A component of the control plane; only on masters.
    Component(Component),
    /// The kubelet.
    Kubelet,
    /// The container runtime.
    Containerd,
    /// kube-proxy, a pod of a `DaemonSet`.
    KubeProxy,
}

/// The last is the one that can't be held down.
const PROGRAMS: [(&str, Program); 7] = [
    ("kube-apiserver", Program::Component(Component::KubeApiserver)),
    ("kube-controller-manager", Program::Component(Component::KubeControllerManager)),
    ("kube-scheduler", Program::Component(Component::KubeScheduler)),
    ("etcd", Program::Component(Component::Etcd)),
    ("kubelet", Program::Kubelet),
    ("containerd", Program::Containerd),
    ("kube-proxy", Program::KubeProxy),
];

/// Their names as the reference has them.
const WORDS: [(&str, &str); 7] = [
    ("kube-apiserver", ""),
    ("kube-controller-manager", ""),
    ("kube-scheduler", ""),
    ("etcd", ""),
    ("kubelet", ""),
    ("containerd", ""),
    ("kube-proxy", ""),
];

/// How many of them can be held down.
const STOPPABLE: usize = PROGRAMS.len() - 1;

/// How a program is written.
pub(super) const PROGRAM: Shape = Shape::Words(&WORDS);

/// How one is written that can be held down.
pub(super) const STOPPABLE_PROGRAM: Shape = Shape::Words(WORDS.split_at(STOPPABLE).0);

impl Program {
    /// Its name, also that of its process.
    pub fn name(self) -> &'static str {
        match self {
            Self::Component(component) => component.name(),
            Self::Kubelet => "kubelet",
            Self::Containerd => "containerd",
            Self::KubeProxy => "kube-proxy",
        }
    }
}

/// Reads a program's name.
pub(super) fn program(reader: &mut Reader, node: &Node) -> Option<Program> {
    reader.word(node, &PROGRAMS)
}

/// Reads the name of a program that can be held down.
pub(super) fn stoppable(reader: &mut Reader, node: &Node) -> Option<Program> {
    if matches!(&node.value, Value::Text(text) if text == "kube-proxy") {
        let help = "write a `kill` or a `pause` of it, or stop another, such as `kubelet`";
        return reader.wrong(node, "kube-proxy, a pod of a DaemonSet, can't be held down", help);
    }
    reader.word(node, &PROGRAMS[..STOPPABLE])
}

/// Reads `component` and `on`, which are both required: a component's nodes are masters.
pub(super) fn program_on(
    reader: &mut Reader,
    fields: &mut Fields,
) -> (Option<Program>, Option<Vec<NodeRef>>) {
    one_on(reader, fields, program)
}

/// The same, with `component` read by `read`.
pub(super) fn one_on(
    reader: &mut Reader,
    fields: &mut Fields,
    read: Read<Program>,
) -> (Option<Program>, Option<Vec<NodeRef>>) {
    let component = fields.required(reader, "component", read);
    let places = match component {
        Some(Program::Component(_)) => places::masters,
        _ => places::nodes,
    };
    (component, fields.required(reader, "on", places))
}
