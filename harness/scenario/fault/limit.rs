//! `limit`: a program gets less of a CPU, or of memory, than it needs.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::super::places::NODES;
use super::super::read::{Fields, Read, Reader};
use super::super::reference::{Field, Shape, kind, map, one_of, required};
use super::super::tree::{Node, Value};
use super::super::{Fault, NodeRef};
use super::program::{PROGRAM, Program, program_on};

/// See [`Fault::Limit`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// What gets less.
    pub component: Program,
    /// On which nodes, on all at once.
    pub on: Vec<NodeRef>,
    /// What it gets.
    pub to: Resource,
}

/// So much of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Resource {
    /// Thousandths of one CPU: as with a container's limit, its process is made to wait once it has
    /// used up its part of a tenth of a second.
    Cpu(u32),
    /// Resident memory in bytes: a process that takes more is killed.
    Memory(u64),
}

/// As it is written.
impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu(thousandths) => write!(f, "{thousandths}m"),
            Self::Memory(bytes) => {
                let fits = |(_, unit): &&(&str, u64)| bytes % unit == 0;
                let (name, unit) = UNITS.iter().find(fits).unwrap_or(&("", 1));
                write!(f, "{}{name}", bytes / unit)
            }
        }
    }
}

/// The largest first.
const UNITS: [(&str, u64); 3] = [("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)];

const RESOURCES: [(&str, Read<Resource>); 2] = [
    ("cpu", |reader, node| {
        let of = |text: &str| text.strip_suffix('m').and_then(whole);
        quantity(reader, node, "thousandths of a CPU, such as `50m`", of)
            .and_then(|number| u32::try_from(number).ok())
            .map(Resource::Cpu)
    }),
    ("memory", |reader, node| {
        let of = |text: &str| {
            let (name, unit) = UNITS.iter().find(|(name, _)| text.ends_with(name))?;
            whole(text.strip_suffix(name)?)?.checked_mul(*unit)
        };
        quantity(reader, node, "memory, such as `64Mi`", of).map(Resource::Memory)
    }),
];

/// A number above 0 of up to nine digits.
fn whole(text: &str) -> Option<u64> {
    let fits = (1..=9).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| fits && *number > 0)
}

/// Reads a quantity by `of`.
fn quantity(
    reader: &mut Reader,
    node: &Node,
    what: &str,
    of: impl Fn(&str) -> Option<u64>,
) -> Option<u64> {
    let written = match &node.value {
        Value::Text(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        _ => return reader.mistyped(node, what),
    };
    let found = of(&written);
    if found.is_none() {
        return reader.wrong(node, format!("`{written}` is no limit"), format!("write {what}"));
    }
    found
}

pub(super) const LIMIT: Field = kind(
    "limit",
    "A program gets less of a CPU or of memory than it needs, until the revert; so does whatever \
     takes its process's place.",
    map(&[
        required("component", "What gets less.", PROGRAM),
        required("on", "On which nodes, on all at once; a component's are masters.", NODES),
        required(
            "to",
            "What it gets.",
            one_of(
                "a resource",
                &[
                    kind(
                        "cpu",
                        "Thousandths of one CPU, as a container's limit: it is made to wait once it \
                         has used up its part of a tenth of a second.",
                        Shape::Text {
                            what: "thousandths of a CPU, such as `50m`",
                            pattern: "^0*[1-9][0-9]*m$",
                        },
                    )
                    .examples(&["cpu: 50m"]),
                    kind(
                        "memory",
                        "Resident memory: a process that takes more is killed by SIGKILL.",
                        Shape::Text {
                            what: "memory, such as `64Mi`",
                            pattern: "^0*[1-9][0-9]*[KMG]i$",
                        },
                    )
                    .examples(&["memory: 64Mi"]),
                ],
            ),
        ),
    ]),
)
.examples(&[
    "limit: {component: kube-apiserver, on: {master: 3}, to: {cpu: 50m}}",
    "limit: {component: kube-scheduler, on: {every: masters}, to: {memory: 16Mi}}",
]);

pub(super) fn limit(reader: &mut Reader, node: &Node) -> Option<Fault> {
    let mut fields = Fields::of(reader, node, "`limit`")?;
    let (component, on) = program_on(reader, &mut fields);
    let to =
        fields.required(reader, "to", |reader, node| reader.one_of(node, "a resource", &RESOURCES));
    fields.end(reader);
    Some(Fault::Limit(Limit { component: component?, on: on?, to: to? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_told_as_it_is_written() {
        let told = [Resource::Cpu(50), Resource::Memory(64 << 20), Resource::Memory(3 << 9)];
        assert_eq!(told.map(|resource| resource.to_string()), ["50m", "64Mi", "1536"]);
    }
}
