//! `command`: a shell script of the author's, with its own proof and its own revert.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::places::{self, NODES};
use super::super::read::{Fields, Reader};
use super::super::reference::{DURATION, Field, TEXT, kind, map, optional, required};
use super::super::tree::Node;
use super::super::{Fault, NodeRef};

/// See [`Fault::Command`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandFault {
    /// On which nodes, on one after another.
    pub on: Vec<NodeRef>,
    /// The shell script that breaks something.
    pub inject: String,
    /// A shell script that changes nothing, and succeeds if and only if it is broken.
    pub prove: String,
    /// The shell script that mends it, also if it is broken in part or not at all.
    pub revert: String,
    /// How long each of them may take.
    pub limit: Duration,
}

/// How long a script may take if the file doesn't say.
const LIMIT: Duration = Duration::from_secs(30);

/// A script that runs for longer hangs.
const LONGEST: Duration = Duration::from_mins(10);

pub(super) const COMMAND: Field = kind(
    "command",
    "Shell scripts of your own, for what nothing else can do: one breaks, one proves, one mends.",
    map(&[
        required("on", "On which nodes, on one after another.", NODES),
        required("inject", "The script that breaks something.", TEXT),
        required(
            "prove",
            "A script that changes nothing, and succeeds if and only if it is broken.",
            TEXT,
        ),
        required(
            "revert",
            "The script that mends it, also if it is broken in part or not at all.",
            TEXT,
        ),
        optional("limit", "How long each of them may take, at most `10m`.", DURATION).or("30s"),
    ]),
)
.examples(&[
    "command: {on: {worker: 1}, inject: ip route add blackhole 192.0.2.0/24, prove: ip route | grep -q 192.0.2, revert: ip route del blackhole 192.0.2.0/24 || true, limit: 10s}",
]);

pub(super) fn command(reader: &mut Reader, node: &Node) -> Option<Fault> {
    let mut fields = Fields::of(reader, node, "`command`")?;
    let on = fields.required(reader, "on", places::nodes);
    let [inject, prove, revert] =
        ["inject", "prove", "revert"].map(|name| fields.required(reader, name, Reader::text));
    let limit = match fields.get("limit") {
        Some(node) => match reader.duration(node) {
            Some(limit) if limit.is_zero() || limit > LONGEST => reader.wrong(
                node,
                "no script may take so long",
                "write more than nothing and at most `10m`",
            ),
            limit => limit,
        },
        None => Some(LIMIT),
    };
    fields.end(reader);
    Some(Fault::Command(CommandFault {
        on: on?,
        inject: inject?,
        prove: prove?,
        revert: revert?,
        limit: limit?,
    }))
}
