//! A new event about an object.

use serde::{Deserialize, Serialize};

use super::super::read::{Fields, Reader};
use super::super::reference::{
    Field, LINE, MASTER, NAME, NODE, PATTERN, Rule, Shape, kind, map, optional, required, ruled,
};
use super::super::tree::{Node, Value};
use super::super::{Component, NodeRef, Probe, fault};
use super::{IS, THROUGH, absent, pattern};

/// See [`Probe::Event`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventSeen {
    /// What it is about.
    pub involved: Involved,
    /// Its reason.
    pub reason: Option<String>,
    /// Its type: `Normal` or `Warning`.
    pub kind: Option<String>,
    /// A regular expression that its message matches.
    pub message: Option<String>,
    /// Whether no such event may come.
    pub absent: bool,
    /// The apiserver that is asked, directly.
    pub through: NodeRef,
}

/// What an event is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Involved {
    /// An object.
    Object {
        /// Its kind.
        kind: String,
        /// Its name; `*` stands for anything.
        name: String,
        /// Its namespace; nothing: `default`, where events about objects without one are.
        namespace: Option<String>,
    },
    /// The static pod of a component on a master.
    Component {
        /// Which component.
        component: Component,
        /// Which master.
        on: NodeRef,
    },
    /// A node.
    Node(NodeRef),
}

/// How it is written what an event is about.
const INVOLVED: Shape = Shape::Either(&[
    map(&[
        required("kind", "The kind of the object.", LINE),
        required("name", "The name of the object; `*` stands for anything.", LINE),
        optional(
            "namespace",
            "Its namespace; without: `default`, where events about objects without one are.",
            NAME,
        ),
    ]),
    map(&[
        required("component", "The static pod of this component.", fault::COMPONENT),
        required("on", "On which master.", MASTER),
    ]),
    map(&[required("node", "A node.", NODE)]),
]);

pub(super) const EVENT: Field = kind(
    "event",
    "An event about an object since the observation began.",
    ruled(
        &[
            required("involved", "What it is about.", INVOLVED),
            optional("reason", "Its reason.", LINE),
            optional("type", "Its type.", Shape::Words(&[("Normal", ""), ("Warning", "")])),
            optional("message", "What its message matches.", PATTERN),
            IS,
            THROUGH,
        ],
        &[Rule::Some(&["reason", "type", "message"])],
    ),
)
.examples(&[
    "event: {involved: {component: etcd, on: {master: 1}}, type: Warning, reason: Unhealthy, message: \"probe failed\", through: {master: 2}}",
    "event: {involved: {kind: Pod, name: \"coredns-*\", namespace: kube-system}, reason: Killing, is: absent, through: {master: 1}}",
    "event: {involved: {node: {worker: 1}}, reason: NodeNotReady, through: {master: 1}}",
]);

pub(super) fn read(reader: &mut Reader, node: &Node) -> Option<Probe> {
    const TYPES: [(&str, &str); 2] = [("Normal", "Normal"), ("Warning", "Warning")];
    let mut fields = Fields::of(reader, node, "`event`")?;
    let involved = fields.required(reader, "involved", involved);
    let reason = fields.optional(reader, "reason", Reader::line);
    let kind = fields.optional(reader, "type", |reader, node| reader.word(node, &TYPES));
    let message = fields.optional(reader, "message", pattern);
    let absent = absent(reader, &mut fields);
    let through = fields.required(reader, "through", Reader::master);
    let unsaid = ["reason", "type", "message"].iter().all(|name| fields.get(name).is_none());
    fields.end(reader);
    if unsaid {
        let help = "add `reason`, `type` or `message`, such as `reason: Unhealthy`";
        return reader.wrong(node, "nothing is expected of the event", help);
    }
    Some(Probe::Event(EventSeen {
        involved: involved?,
        reason,
        kind: kind.map(str::to_owned),
        message,
        absent,
        through: through?,
    }))
}

fn involved(reader: &mut Reader, node: &Node) -> Option<Involved> {
    let mut fields = Fields::of(reader, node, "`involved`")?;
    let has =
        |name: &str| matches!(&node.value, Value::Map(all) if all.iter().any(|e| e.key == name));
    let involved = if has("component") {
        let component = fields.required(reader, "component", fault::component);
        let on = fields.required(reader, "on", Reader::master);
        component.zip(on).map(|(component, on)| Involved::Component { component, on })
    } else if has("node") {
        fields.required(reader, "node", Reader::node).map(Involved::Node)
    } else {
        let kind = fields.required(reader, "kind", Reader::line);
        let name = fields.required(reader, "name", Reader::line);
        let namespace = fields.optional(reader, "namespace", Reader::name);
        kind.zip(name).map(|(kind, name)| Involved::Object { kind, name, namespace })
    };
    fields.end(reader);
    involved
}
