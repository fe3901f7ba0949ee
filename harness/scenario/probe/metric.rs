//! A metric of a component.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::places::{self, NODES};
use super::super::read::{Fields, Read, Reader};
use super::super::reference::{
    DURATION, Field, LABELS, Rule, Shape, kind, one_of, optional, required, ruled, text,
};
use super::super::tree::{Node, Value};
use super::super::{Component, NodeRef, Probe};
use super::object::labels;

/// See [`Probe::Metric`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// Who tells.
    pub component: MetricOf,
    /// On which nodes; what they tell is added up.
    pub on: Vec<NodeRef>,
    /// The metric's name, as it stands in the text: with `_total`, `_bucket` or `_count`.
    pub name: String,
    /// Labels that a series has; several series are added up.
    pub labels: BTreeMap<String, String>,
    /// What is looked at.
    pub side: MetricSide,
    /// What it must be.
    pub wanted: Wanted,
}

/// Who tells of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MetricOf {
    /// A component of the control plane.
    Component(Component),
    /// The kubelet.
    Kubelet,
    /// kube-proxy.
    KubeProxy,
}

impl MetricOf {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Component(component) => component.name(),
            Self::Kubelet => "kubelet",
            Self::KubeProxy => "kube-proxy",
        }
    }
}

/// What of a metric is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MetricSide {
    /// Its value.
    Value,
    /// How much it has grown since the observation began; a counter that begins anew counts on.
    Increase,
    /// How much it grows in a second, over so long before each observation.
    Rate(Duration),
}

/// What a number must be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Wanted {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
    /// Just this.
    Equals(f64),
    /// No series has the name and the labels.
    Absent,
}

/// Over how long a rate is measured if nothing is written.
const OVER: Duration = Duration::from_secs(10);

const SOURCES: [(&str, MetricOf); 6] = [
    ("kube-apiserver", MetricOf::Component(Component::KubeApiserver)),
    ("kube-controller-manager", MetricOf::Component(Component::KubeControllerManager)),
    ("kube-scheduler", MetricOf::Component(Component::KubeScheduler)),
    ("etcd", MetricOf::Component(Component::Etcd)),
    ("kubelet", MetricOf::Kubelet),
    ("kube-proxy", MetricOf::KubeProxy),
];

const WANTED: [(&str, Read<Wanted>); 4] = [
    ("atLeast", |reader, node| number(reader, node).map(Wanted::AtLeast)),
    ("atMost", |reader, node| number(reader, node).map(Wanted::AtMost)),
    ("equals", |reader, node| number(reader, node).map(Wanted::Equals)),
    ("absent", |reader, node| match node.value {
        Value::Null => Some(Wanted::Absent),
        _ => reader.wrong(node, "`absent` takes no value", "write `value: absent`"),
    }),
];

/// Reads what a number must be.
pub(super) fn number_wanted(reader: &mut Reader, node: &Node) -> Option<Wanted> {
    reader.one_of(node, "a comparison", &WANTED)
}

/// Reads how often something must have changed.
pub(super) fn changes(reader: &mut Reader, node: &Node) -> Option<Wanted> {
    match number_wanted(reader, node)? {
        Wanted::Absent => {
            reader.wrong(node, "a count is never absent", "write `changes: {equals: 0}`")
        }
        wanted => Some(wanted),
    }
}

const AT_LEAST: Field = kind("atLeast", "This or more.", Shape::Number).examples(&["atLeast: 1"]);
const AT_MOST: Field = kind("atMost", "This or less.", Shape::Number).examples(&["atMost: 0.5"]);
const EQUALS: Field = kind("equals", "Just this.", Shape::Number).examples(&["equals: 0"]);
const ABSENT: Field = kind("absent", "No series has the name and the labels.", Shape::Nothing);

/// How it is written what a number must be that is always there.
pub(super) const COUNT: Shape = Shape::OneOf {
    what: "a comparison",
    kinds: &[AT_LEAST, AT_MOST, EQUALS],
    refused: &["absent"],
};

pub(super) const METRIC: Field = kind(
    "metric",
    "A metric's value, its increase since the observation began, or its rate.",
    ruled(
        &[
            required(
                "component",
                "Who tells.",
                Shape::Words(&[
                    ("kube-apiserver", ""),
                    ("kube-controller-manager", ""),
                    ("kube-scheduler", ""),
                    ("etcd", ""),
                    ("kubelet", ""),
                    ("kube-proxy", ""),
                ]),
            ),
            required(
                "on",
                "On which nodes; what several tell is added up. A component's are masters.",
                NODES,
            ),
            required(
                "name",
                "The metric's name, as it stands in the text: with `_total`, `_bucket` or `_count`.",
                text("the name of a metric", "^[A-Za-z0-9_:]+$"),
            ),
            optional("labels", "Labels that a series has; several series are added up.", LABELS),
            optional(
                "value",
                "What its value must be.",
                one_of("a comparison", &[AT_LEAST, AT_MOST, EQUALS, ABSENT]),
            ),
            optional(
                "increase",
                "How much it must have grown since the observation began; a counter that begins anew \
                 counts on.",
                COUNT,
            ),
            optional("rate", "How much it must grow in a second.", COUNT),
            optional("over", "Over how long before each observation; only of a `rate`.", DURATION)
                .or("10s"),
        ],
        &[Rule::One(&["value", "increase", "rate"]), Rule::With("over", "rate")],
    ),
)
.examples(&[
    "metric: {component: etcd, on: {master: 1}, name: etcd_server_has_leader, value: {equals: 0}}",
    "metric: {component: kube-apiserver, on: {master: 1}, name: apiserver_request_total, labels: {code: \"503\"}, increase: {atLeast: 1}}",
    "metric: {component: kube-scheduler, on: {every: masters}, name: leader_election_master_status, value: {equals: 1}}",
    "metric: {component: kube-apiserver, on: {master: 1}, name: apiserver_request_total, labels: {code: \"503\"}, rate: {atMost: 0.5}, over: 30s}",
]);

pub(super) fn read(reader: &mut Reader, node: &Node) -> Option<Probe> {
    let mut fields = Fields::of(reader, node, "`metric`")?;
    let component =
        fields.required(reader, "component", |reader, node| reader.word(node, &SOURCES));
    let on = fields.required_node(reader, "on", places::nodes);
    let name = fields.required(reader, "name", |reader, node| {
        let name = reader.line(node)?;
        if name.chars().all(|char| char.is_ascii_alphanumeric() || "_:".contains(char)) {
            return Some(name);
        }
        let help = "write the name alone; labels stand in `labels: {name: value}`";
        reader.wrong(node, format!("`{name}` is not the name of a metric"), help)
    });
    let labels = fields.optional(reader, "labels", labels).unwrap_or_default();
    let judged = side(reader, &mut fields);
    fields.end(reader);
    let (component, (on, on_node)) = (component?, on?);
    if let MetricOf::Component(component) = component {
        places::of_component(reader, on_node, component.name(), &on)?;
    }
    let (side, wanted) = judged?;
    Some(Probe::Metric(Metric { component, on, name: name?, labels, side, wanted }))
}

/// Reads what of a metric is looked at, and what it must be.
fn side(reader: &mut Reader, fields: &mut Fields) -> Option<(MetricSide, Wanted)> {
    const SIDES: [&str; 3] = ["value", "increase", "rate"];
    let over = fields.get("over").map(|node| (node, reader.duration(node)));
    let written: Vec<_> =
        SIDES.iter().filter_map(|name| fields.get(name).map(|node| (*name, node))).collect();
    let (name, node) = match written[..] {
        [] => {
            let help = "add `value`, `increase` or `rate`, such as `increase: {atLeast: 1}`";
            fields.lacks(reader, "nothing is expected of the metric", help);
            return None;
        }
        [one] => one,
        [(one, _), (other, node), ..] => {
            let message = format!("`{one}` and `{other}` exclude each other");
            return reader.wrong(node, message, "write an expectation for each");
        }
    };
    let wanted = number_wanted(reader, node)?;
    if name != "value" && wanted == Wanted::Absent {
        let help = format!("write `value: absent`, or `{name}: {{equals: 0}}`");
        return reader.wrong(node, format!("what is absent has no {name}"), help);
    }
    let side = match (name, over) {
        ("rate", over) => MetricSide::Rate(over.map_or(Some(OVER), |(_, over)| over)?),
        (_, Some((node, _))) => {
            return reader.wrong(node, "only a `rate` is measured over a time", "take `over` away");
        }
        ("increase", None) => MetricSide::Increase,
        _ => MetricSide::Value,
    };
    Some((side, wanted))
}

#[expect(clippy::cast_precision_loss, reason = "what is compared with is floating, too")]
fn number(reader: &mut Reader, node: &Node) -> Option<f64> {
    match node.value {
        Value::Integer(number) => Some(number as f64),
        Value::Float(number) => Some(number),
        _ => reader.mistyped(node, "a number"),
    }
}
