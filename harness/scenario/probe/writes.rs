//! Writes, and whether what was acknowledged is there.

use serde::{Deserialize, Serialize};

use super::super::read::{Fields, Reader};
use super::super::reference::{Field, NODE, PATTERN, kind, map, optional, required, whole};
use super::super::tree::Node;
use super::super::{NodeRef, Probe, Tally};
use super::target::{TARGET, Target, target};
use super::{TALLY, THROUGH, attempts, error, tally};

/// See [`Probe::Writes`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Writes {
    /// The node that writes.
    pub from: NodeRef,
    /// Through which apiserver.
    pub to: Target,
    /// Writes per observation, each begun at its time, whether or not those before have ended.
    pub attempts: u32,
    /// How many must fail: not be acknowledged.
    pub failed: Tally,
    /// A regular expression that the words of each failure must match.
    pub error: Option<String>,
}

/// See [`Probe::Written`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// The apiserver that is asked, directly.
    pub through: NodeRef,
}

pub(super) const WRITES: Field = kind(
    "writes",
    "Writes at fixed times, counted by acknowledgement; what is acknowledged is remembered.",
    map(&[
        required("from", "The node that writes.", NODE),
        required("to", "Through what: an apiserver, or what leads to one.", TARGET),
        required(
            "attempts",
            "Writes per observation, each begun at its time, whether or not those before have ended.",
            whole(1),
        ),
        required("failed", "How many must fail: not be acknowledged.", TALLY),
        optional("error", "What the words of each failure must match.", PATTERN),
    ]),
)
.examples(&["writes: {from: {worker: 1}, to: loadBalancer, attempts: 10, failed: {count: 0}}"]);

pub(super) fn read(reader: &mut Reader, node: &Node) -> Option<Probe> {
    let mut fields = Fields::of(reader, node, "`writes`")?;
    let from = fields.required(reader, "from", Reader::node);
    let to = fields.required(reader, "to", target);
    let attempts = fields.required(reader, "attempts", attempts);
    let failed = tally(reader, &mut fields, "failed", attempts);
    let error = error(reader, &mut fields, failed);
    fields.end(reader);
    reader.writes = true;
    Some(Probe::Writes(Writes {
        from: from?,
        to: to?,
        attempts: attempts?,
        failed: failed?,
        error: error?,
    }))
}

pub(super) const WRITTEN: Field = kind(
    "written",
    "Whether every acknowledged write of the probe `writes` is still there.",
    map(&[THROUGH]),
)
.examples(&["written: {through: {master: 1}}"]);

pub(super) fn read_written(reader: &mut Reader, node: &Node) -> Option<Probe> {
    let mut fields = Fields::of(reader, node, "`written`")?;
    let through = fields.required(reader, "through", Reader::master);
    fields.end(reader);
    reader.written.get_or_insert(node.span);
    Some(Probe::Written(Written { through: through? }))
}
