//! `tooManyOpenFiles`: a program's process can open no file and accept no connection.

use serde::{Deserialize, Serialize};

use super::super::places::NODES;
use super::super::read::{Fields, Reader};
use super::super::reference::{Field, kind, map, required};
use super::super::tree::{Node, Value};
use super::super::{Fault, NodeRef};
use super::program::{PROGRAM, Program, program_on};

/// See [`Fault::TooManyOpenFiles`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TooManyOpenFiles {
    /// What can open none. Not etcd: it ends as soon as it can't list its log, which it does every 30 s
    /// (`purgeFile` in <https://github.com/etcd-io/etcd/blob/v3.6.5/server/etcdserver/server.go>).
    pub component: Program,
    /// On which nodes, on all at once.
    pub on: Vec<NodeRef>,
}

pub(super) const TOO_MANY_OPEN_FILES: Field = kind(
    "tooManyOpenFiles",
    "A program's process can open no file and accept no connection until the revert; it keeps \
     those that it has.",
    map(&[
        required("component", "What can open none; not etcd, which ends of it.", PROGRAM),
        required("on", "On which nodes, on all at once; a component's are masters.", NODES),
    ]),
)
.examples(&["tooManyOpenFiles: {component: kube-apiserver, on: {master: 2}}"]);

pub(super) fn too_many_open_files(reader: &mut Reader, node: &Node) -> Option<Fault> {
    let mut fields = Fields::of(reader, node, "`tooManyOpenFiles`")?;
    if let Some(node) = fields.get("component")
        && matches!(&node.value, Value::Text(text) if text == "etcd")
    {
        let help = "write a `kill` of etcd, or another component";
        return reader.wrong(node, "etcd ends by itself within 30 s if it can open no file", help);
    }
    let (component, on) = program_on(reader, &mut fields);
    fields.end(reader);
    Some(Fault::TooManyOpenFiles(TooManyOpenFiles { component: component?, on: on? }))
}
