//! A shell script on a node.

use serde::{Deserialize, Serialize};

use super::super::read::{Fields, Reader};
use super::super::reference::{Field, NODE, TEXT, kind, required, ruled};
use super::super::tree::Node;
use super::super::{NodeRef, Probe};
use super::said::{EXIT_CODE, SAID, STDERR, STDOUT, Said, said};

/// See [`Probe::Command`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandRun {
    /// The node on which it runs.
    pub on: NodeRef,
    /// The shell script. It must change nothing.
    pub run: String,
    /// What it must say.
    pub said: Said,
}

pub(super) const COMMAND: Field = kind(
    "command",
    "The exit code and the output of a shell script on a node, which must change nothing.",
    ruled(
        &[
            required("on", "The node on which it runs.", NODE),
            required("run", "The script, for `sh`; it is ended after 30 s.", TEXT),
            EXIT_CODE,
            STDOUT,
            STDERR,
        ],
        &[SAID],
    ),
)
.examples(&[
    "command: {on: {master: 1}, run: \"test -e /etc/kubernetes/pki/sa.pub\", exitCode: 0}",
]);

pub(super) fn read(reader: &mut Reader, node: &Node) -> Option<Probe> {
    let mut fields = Fields::of(reader, node, "`command`")?;
    let on = fields.required(reader, "on", Reader::node);
    let run = fields.required(reader, "run", Reader::text);
    let said = said(reader, &mut fields);
    fields.end(reader);
    Some(Probe::Command(CommandRun { on: on?, run: run?, said: said? }))
}
