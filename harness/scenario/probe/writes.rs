//! Writes, and whether what was acknowledged is there.

use serde::{Deserialize, Serialize};

use super::super::read::{Fields, Reader};
use super::super::tree::Node;
use super::super::{NodeRef, Probe, Tally};
use super::target::{Target, target};
use super::{attempts, pattern, tally};

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

pub(super) fn read(reader: &mut Reader, node: &Node) -> Option<Probe> {
    let mut fields = Fields::of(reader, node, "`writes`")?;
    let from = fields.required(reader, "from", Reader::node);
    let to = fields.required(reader, "to", target);
    let attempts = fields.required(reader, "attempts", attempts);
    let failed = tally(reader, &mut fields, "failed", attempts);
    let error_node = fields.get("error");
    let error = error_node.and_then(|node| pattern(reader, node));
    fields.end(reader);
    let failed = failed?;
    if let (Some(node), Tally::Count(0)) = (error_node, failed) {
        let help = "leave `error` away, or expect failures: `failed: {count: 10}`";
        return reader.wrong(node, "without failures there is no error", help);
    }
    reader.writes = true;
    Some(Probe::Writes(Writes { from: from?, to: to?, attempts: attempts?, failed, error }))
}

pub(super) fn read_written(reader: &mut Reader, node: &Node) -> Option<Probe> {
    let mut fields = Fields::of(reader, node, "`written`")?;
    let through = fields.required(reader, "through", Reader::master);
    fields.end(reader);
    reader.written.get_or_insert(node.span);
    Some(Probe::Written(Written { through: through? }))
}
