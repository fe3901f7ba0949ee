//! `clock`: a program's process has another time than its node.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::places::NODES;
use super::super::read::{Fields, Read, Reader};
use super::super::reference::{DURATION, Field, kind, map, one_of, required};
use super::super::tree::{Node, Value};
use super::super::{Fault, NodeRef};
use super::program::{PROGRAM, Program, program_on};

/// Less can't be told from the second to which servers tell the time.
const LEAST: Duration = Duration::from_secs(10);

/// Certificates of kubeadm's authorities end after ten years.
const MOST: Duration = Duration::from_hours(24 * 365 * 11);

/// See [`Fault::Clock`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockShift {
    /// Whose clock.
    pub component: Program,
    /// On which nodes, on all at once.
    pub on: Vec<NodeRef>,
    /// How wrong it is.
    pub by: Shift,
}

/// How wrong a clock is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Shift {
    /// It shows a later time.
    Ahead(Duration),
    /// It shows an earlier time.
    Behind(Duration),
}

const SHIFTS: [(&str, Read<Shift>); 2] = [
    ("ahead", |reader, node| by(reader, node).map(Shift::Ahead)),
    ("behind", |reader, node| by(reader, node).map(Shift::Behind)),
];

pub(super) const CLOCK: Field = kind(
    "clock",
    "A program's process has another time than its node until the revert, as if its clock was set: \
     what it measures by time elapsed stays right.",
    map(&[
        required("component", "Whose clock.", PROGRAM),
        required("on", "On which nodes, on all at once; a component's are masters.", NODES),
        required(
            "by",
            "How wrong it is: 10 s to 11 years.",
            one_of(
                "a shift of a clock",
                &[
                    kind("ahead", "It shows a time so much later.", DURATION)
                        .examples(&["ahead: 400d"]),
                    kind("behind", "It shows a time so much earlier.", DURATION)
                        .examples(&["behind: 2h"]),
                ],
            ),
        ),
    ]),
)
.examples(&[
    "clock: {component: kube-apiserver, on: {master: 2}, by: {ahead: 400d}}",
    "clock: {component: kube-controller-manager, on: {every: masters}, by: {behind: 2h}}",
]);

pub(super) fn clock(reader: &mut Reader, node: &Node) -> Option<Fault> {
    let mut fields = Fields::of(reader, node, "`clock`")?;
    let (component, on) = program_on(reader, &mut fields);
    let by = fields.required(reader, "by", |reader, node| match &node.value {
        Value::Text(text) if humantime::parse_duration(text).is_ok() => {
            let help = format!("write `{{ahead: {text}}}` or `{{behind: {text}}}`");
            reader.wrong(node, "it is not said in which direction", help)
        }
        _ => reader.one_of(node, "a shift of a clock", &SHIFTS),
    });
    fields.end(reader);
    Some(Fault::Clock(ClockShift { component: component?, on: on?, by: by? }))
}

fn by(reader: &mut Reader, node: &Node) -> Option<Duration> {
    let by = reader.duration_up_to(node, MOST, "4015d")?;
    if by >= LEAST {
        return Some(by);
    }
    let help = "write at least `10s`: servers tell the time to the second";
    reader.wrong(node, "so small a shift can't be told", help)
}
