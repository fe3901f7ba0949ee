//! What has a process of its own on a node.

use serde::{Deserialize, Serialize};

use super::super::read::{Fields, Reader};
use super::super::reference::Shape;
use super::super::tree::Node;
use super::super::{Component, NodeRef};
use super::places;

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

const PROGRAMS: [(&str, Program); 7] = [
    ("kube-apiserver", Program::Component(Component::KubeApiserver)),
    ("kube-controller-manager", Program::Component(Component::KubeControllerManager)),
    ("kube-scheduler", Program::Component(Component::KubeScheduler)),
    ("etcd", Program::Component(Component::Etcd)),
    ("kubelet", Program::Kubelet),
    ("containerd", Program::Containerd),
    ("kube-proxy", Program::KubeProxy),
];

/// How a program is written.
pub(super) const PROGRAM: Shape = Shape::Words(&[
    ("kube-apiserver", ""),
    ("kube-controller-manager", ""),
    ("kube-scheduler", ""),
    ("etcd", ""),
    ("kubelet", ""),
    ("containerd", ""),
    ("kube-proxy", ""),
]);

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

/// Reads `component` and `on`, which are both required: a component's nodes are masters.
pub(super) fn program_on(
    reader: &mut Reader,
    fields: &mut Fields,
) -> (Option<Program>, Option<Vec<NodeRef>>) {
    let component = fields.required(reader, "component", program);
    let places = match component {
        Some(Program::Component(_)) => places::masters,
        _ => places::nodes,
    };
    (component, fields.required(reader, "on", places))
}
