//! What Kubernetes spends the time on that an expectation waits: so that a report can say of every
//! second whose it was.

use std::time::Duration;

use serde::Serialize;

use super::read::{Fields, Reader};
use super::reference::{DURATION, Field, LINE, kind, map, one_of, optional, required, some};
use super::tree::Node;

/// Something that an expectation waits for, and that nobody here can make faster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Wait {
    /// A documented timer of Kubernetes.
    Timer {
        /// What it is, with the name of its constant or flag upstream.
        name: String,
        /// The longest that it lasts.
        lasts: Duration,
        /// Where upstream says so.
        source: String,
    },
    /// The start of a component, by its name; however long it takes.
    Start(String),
}

/// How they are written.
pub(super) const WAITS_FOR: Field = optional(
    "waitsFor",
    "What Kubernetes spends the time on until then, for the account of a run's seconds.",
    some(&one_of(
        "what is waited for",
        &[
            kind(
                "timer",
                "A documented timer of Kubernetes.",
                map(&[
                    required(
                        "name",
                        "What it is, with the name of its constant or flag upstream.",
                        LINE,
                    ),
                    required("lasts", "The longest that it lasts.", DURATION),
                    required("source", "Where upstream says so.", LINE),
                ]),
            )
            .examples(&[
                "timer: {name: the lease of its address, lasts: 15s, source: \"https://kubernetes.io\"}",
            ]),
            kind("start", "The start of a component, by its name; however long it takes.", LINE)
                .examples(&["start: kube-apiserver"]),
        ],
    )),
)
.examples(&["waitsFor: [{start: kube-apiserver}]"]);

/// Reads a list of them: `[{timer: {name: …, lasts: 15s, source: …}}, {start: kube-apiserver}]`.
pub(super) fn waits(reader: &mut Reader, node: &Node) -> Option<Vec<Wait>> {
    reader.some(node, |reader, node| {
        reader.one_of(node, "what is waited for", &[("timer", timer), ("start", start)])
    })
}

fn timer(reader: &mut Reader, node: &Node) -> Option<Wait> {
    let mut fields = Fields::of(reader, node, "`timer`")?;
    let name = fields.required(reader, "name", Reader::line);
    let lasts = fields.required(reader, "lasts", Reader::duration);
    let source = fields.required(reader, "source", Reader::line);
    fields.end(reader);
    Some(Wait::Timer { name: name?, lasts: lasts?, source: source? })
}

fn start(reader: &mut Reader, node: &Node) -> Option<Wait> {
    reader.line(node).map(Wait::Start)
}
