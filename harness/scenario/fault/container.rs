//! A container's name that is taken.

use serde::{Deserialize, Serialize};

use super::super::read::{Fields, Reader};
use super::super::reference::{Field, MASTER, Shape, kind, map, required};
use super::super::tree::Node;
use super::super::{Component, Fault, NodeRef};
use super::{COMPONENT, component};

/// See [`Fault::ContainerNameTaken`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerNameTaken {
    /// Whose container can't be created.
    pub component: Component,
    /// On which master.
    pub on: NodeRef,
    /// Who has the name.
    pub by: NameHolder,
}

/// Who has the name that the kubelet wants to give to a component's next container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NameHolder {
    /// The running container: the one before it looks newer, as after a step back of the clock, so
    /// the kubelet wants to create the running one once more.
    RunningAttempt,
    /// A container that nobody knows of, while none of the component's runs.
    StrayContainer,
}

const HOLDERS: [(&str, NameHolder); 2] = [
    ("runningAttempt", NameHolder::RunningAttempt),
    ("strayContainer", NameHolder::StrayContainer),
];

pub(super) const CONTAINER_NAME_TAKEN: Field = kind(
    "containerNameTaken",
    "The name of the component's next container is taken, so that the kubelet can't create it.",
    map(&[
        required("component", "Whose container can't be created.", COMPONENT),
        required("on", "On which master.", MASTER),
        required(
            "by",
            "Who has the name.",
            Shape::Words(&[
                (
                    "runningAttempt",
                    "The running container: the one before it looks newer, as after a step back of \
                     the clock, so the kubelet wants to create the running one once more.",
                ),
                (
                    "strayContainer",
                    "A container that nobody knows of, while none of the component's runs.",
                ),
            ]),
        ),
    ]),
)
.examples(&[
    "containerNameTaken: {component: kube-apiserver, on: {master: 3}, by: runningAttempt}",
]);

pub(super) fn container_name_taken(reader: &mut Reader, node: &Node) -> Option<Fault> {
    let mut fields = Fields::of(reader, node, "`containerNameTaken`")?;
    let component = fields.required(reader, "component", component);
    let on = fields.required(reader, "on", Reader::master);
    let by = fields.required(reader, "by", |reader, node| reader.word(node, &HOLDERS));
    fields.end(reader);
    let (component, on, by) = (component?, on?, by?);
    Some(Fault::ContainerNameTaken(ContainerNameTaken { component, on, by }))
}
