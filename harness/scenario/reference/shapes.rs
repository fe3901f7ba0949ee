//! What is written alike in many places: texts, durations, nodes. See `read.rs`, which reads it.

use super::{Field, Shape, kind, optional, some, text, whole};

/// A text of one line.
pub(in crate::scenario) const LINE: Shape = text("a line of text", r"^.*\S.*$");

/// A text that is not empty.
pub(in crate::scenario) const TEXT: Shape = text("a text", r"\S");

/// A text that may be empty.
pub(in crate::scenario) const EMPTY: Shape = text("a text, in quotes", "^.*$");

/// What a DNS label looks like.
pub(in crate::scenario) const LABEL: &str = "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$";

/// A name as Kubernetes has them.
pub(in crate::scenario) const NAME: Shape =
    Shape::Shared("name", &text("a name of lower-case letters, digits and dashes", LABEL));

/// A duration.
pub(in crate::scenario) const DURATION: Shape =
    text("a duration such as `30s`", r"^\s*[0-9][0-9A-Za-zµ. ]*[A-Za-zµ]\s*$");

/// A regular expression.
pub(in crate::scenario) const PATTERN: Shape = text("a regular expression", r"^.*\S.*$");

/// The names of flags.
const FLAG: &str = "^[A-Za-z0-9_.][A-Za-z0-9_.-]*$";

/// Flags with their values.
pub(in crate::scenario) const FLAGS: Shape =
    Shape::Named { of: &EMPTY, names: FLAG, count: (1, usize::MAX) };

/// Flags with their values, several, or `null`.
pub(in crate::scenario) const CHANGED_FLAGS: Shape = Shape::Named {
    of: &Shape::Either(&[EMPTY, some(&EMPTY), Shape::Nothing]),
    names: FLAG,
    count: (1, usize::MAX),
};

/// Labels with their values.
pub(in crate::scenario) const LABELS: Shape =
    Shape::Named { of: &EMPTY, names: "", count: (1, usize::MAX) };

pub(in crate::scenario) const MASTER_KIND: Field =
    kind("master", "A master, by its number.", whole(1)).examples(&["master: 3"]);
pub(in crate::scenario) const WORKER_KIND: Field =
    kind("worker", "A worker, by its number.", whole(1)).examples(&["worker: 1"]);
pub(in crate::scenario) const NODE_KIND: Field =
    kind("node", "A node by its name in `spec.nodes`.", LINE).examples(&["node: lost"]);

/// A node.
pub(in crate::scenario) const NODE: Shape = Shape::Shared(
    "node",
    &Shape::OneOf { what: "a node", kinds: &[MASTER_KIND, WORKER_KIND, NODE_KIND], refused: &[] },
);

/// A node of the control plane.
pub(in crate::scenario) const MASTER: Shape = Shape::Shared(
    "master",
    &Shape::OneOf { what: "a node", kinds: &[MASTER_KIND, NODE_KIND], refused: &["worker"] },
);

/// The variants that something is for.
pub(in crate::scenario) const ONLY: Field = optional(
    "only",
    "The variants that it is for; `*` stands for any characters; without: all.",
    some(&text("a variant, such as `lease-*`", r"^.*\S.*$")),
)
.examples(&["only: [lease-*]"]);
