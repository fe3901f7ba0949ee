//! A `kubectl` command.

use serde::{Deserialize, Serialize};

use super::super::read::{Fields, Reader};
use super::super::tree::Node;
use super::super::{NodeRef, Probe};
use super::pattern;
use super::target::{Target, target};

/// Flags that the probe gives itself.
const OURS: [&str; 4] = ["--kubeconfig", "--server", "-s", "--cache-dir"];

/// See [`Probe::Kubectl`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kubectl {
    /// The node on which it runs.
    pub from: NodeRef,
    /// The apiserver that it asks.
    pub to: Target,
    /// Its arguments.
    pub args: Vec<String>,
    /// What its exit code must be, if that is expected.
    pub exit_code: Option<i32>,
    /// A regular expression that its standard output must match.
    pub stdout: Option<String>,
    /// A regular expression that its standard error must match.
    pub stderr: Option<String>,
}

pub(super) fn read(reader: &mut Reader, node: &Node) -> Option<Probe> {
    let mut fields = Fields::of(reader, node, "`kubectl`")?;
    let from = fields.required(reader, "from", Reader::node);
    let to = fields.required(reader, "to", target);
    let args = fields.required(reader, "args", |reader, node| {
        reader.some(node, |reader, node| {
            let argument = reader.line(node)?;
            let flag = argument.split('=').next().unwrap_or_default();
            if OURS.contains(&flag) {
                let message = format!("`{flag}` can't be chosen here");
                return reader.wrong(node, message, "`to` says which apiserver is asked");
            }
            Some(argument)
        })
    });
    let exit_code = fields.optional(reader, "exitCode", |reader, node| {
        let code = reader.count(node, 0)?;
        match u8::try_from(code) {
            Ok(code) => Some(i32::from(code)),
            Err(_) => reader.wrong(node, format!("{code} is no exit code"), "write 0 to 255"),
        }
    });
    let stdout = fields.optional(reader, "stdout", pattern);
    let stderr = fields.optional(reader, "stderr", pattern);
    let unsaid = ["exitCode", "stdout", "stderr"].iter().all(|name| fields.get(name).is_none());
    fields.end(reader);
    if unsaid {
        let help = "add `exitCode`, `stdout` or `stderr`, such as `exitCode: 0`";
        return reader.wrong(node, "nothing is expected of the command", help);
    }
    Some(Probe::Kubectl(Kubectl { from: from?, to: to?, args: args?, exit_code, stdout, stderr }))
}
