//! A `kubectl` command.

use serde::{Deserialize, Serialize};

use super::super::problem::Finding;
use super::super::read::{Fields, Reader};
use super::super::reference::{Field, LINE, NODE, kind, required, ruled, some};
use super::super::tree::{Node, Value};
use super::super::{NodeRef, Probe};
use super::said::{EXIT_CODE, SAID, STDERR, STDOUT, Said, said};
use super::target::{TARGET, Target, target};

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
    /// What it must say.
    pub said: Said,
}

pub(super) const KUBECTL: Field = kind(
    "kubectl",
    "The exit code and the output of the real kubectl, through one apiserver.",
    ruled(
        &[
            required("from", "The node on which it runs.", NODE),
            required("to", "The apiserver that it asks.", TARGET),
            required("args", "Its arguments, without `kubectl` itself.", some(&LINE)),
            EXIT_CODE,
            STDOUT,
            STDERR,
        ],
        &[SAID],
    ),
)
.examples(&[
    "kubectl: {from: {worker: 1}, to: {apiserver: {master: 1}}, args: [top, nodes], exitCode: 1, stderr: not available}",
]);

pub(super) fn read(reader: &mut Reader, node: &Node) -> Option<Probe> {
    let mut fields = Fields::of(reader, node, "`kubectl`")?;
    let from = fields.required(reader, "from", Reader::node);
    let to = fields.required(reader, "to", target);
    let args = fields.required(reader, "args", |reader, node| {
        let first = match &node.value {
            Value::List(items) => items.first(),
            _ => Some(node),
        };
        if let Some(Node { value: Value::Text(word), span }) = first
            && (word == "kubectl"
                || word.starts_with("kubectl ")
                || (word.contains(' ') && matches!(node.value, Value::List(_))))
        {
            let words: Vec<_> = word.split(' ').filter(|word| *word != "kubectl").collect();
            let finding = Finding::new(*span, format!("`{word}` is no argument of kubectl"));
            let help = match words.as_slice() {
                [] => "leave it away: it is what is called".to_owned(),
                words if matches!(node.value, Value::Text(_)) => {
                    format!("write `args: [{}]`", words.join(", "))
                }
                words => format!("write `args: [{}, …]`", words.join(", ")),
            };
            reader.report(finding.help(help));
            return None;
        }
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
    let said = said(reader, &mut fields);
    fields.end(reader);
    Some(Probe::Kubectl(Kubectl { from: from?, to: to?, args: args?, said: said? }))
}
