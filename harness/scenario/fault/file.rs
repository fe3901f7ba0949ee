//! `file`: a file of a node is replaced, removed or made unreadable.

use serde::{Deserialize, Serialize};

use super::super::places::{self, NODES};
use super::super::read::{Fields, Read, Reader};
use super::super::reference::{Field, Shape, kind, map, one_of, required, text};
use super::super::tree::{Node, Value};
use super::super::{Fault, NodeRef};

/// See [`Fault::File`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// The file, from the node's root.
    pub path: String,
    /// On which nodes, on one after another.
    pub on: Vec<NodeRef>,
    /// What becomes of it.
    pub make: Make,
}

/// What becomes of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Make {
    /// It is not there.
    Absent,
    /// It can't be read, not by root either: a folder has its name.
    Unreadable,
    /// It has this content.
    Content(String),
    /// It has the content of another file of the same node.
    CopyOf(String),
}

const MAKES: [(&str, Read<Make>); 4] = [
    ("absent", |reader, node| plain(reader, node, Make::Absent)),
    ("unreadable", |reader, node| plain(reader, node, Make::Unreadable)),
    ("content", |reader, node| match &node.value {
        Value::Text(text) => Some(Make::Content(text.clone())),
        _ => reader.mistyped(node, "the file's content as a text"),
    }),
    ("copyOf", |reader, node| path(reader, node).map(Make::CopyOf)),
];

/// How the path of a file is written.
pub(in super::super) const PATH: Shape = text(
    "the whole path of a file, such as `/etc/kubernetes/pki/ca.crt`",
    r"^(/(?!\.{1,2}(/|$))[^/]+)+$",
);

pub(super) const FILE: Field = kind(
    "file",
    "A file of a node is replaced, removed or made unreadable until the revert.",
    map(&[
        required("path", "The file, from the node's root; links are followed.", PATH),
        required("on", "On which nodes, on one after another.", NODES),
        required(
            "make",
            "What becomes of it.",
            one_of(
                "what becomes of the file",
                &[
                    kind("absent", "It is not there.", Shape::Nothing),
                    kind(
                        "unreadable",
                        "It can't be read, not by root either: a folder has its name.",
                        Shape::Nothing,
                    ),
                    kind("content", "It has this content.", text("a text", ""))
                        .examples(&["content: rubbish"]),
                    kind("copyOf", "It has the content of another file of the same node.", PATH)
                        .examples(&["copyOf: /etc/kubernetes/pki/sa.key"]),
                ],
            ),
        ),
    ]),
)
.examples(&[
    "file: {path: /etc/kubernetes/pki/sa.pub, on: {master: 3}, make: absent}",
    "file: {path: /etc/kubernetes/controller-manager.conf, on: {master: 1}, make: unreadable}",
    "file: {path: /etc/kubernetes/pki/sa.key, on: {master: 1}, make: {content: rubbish}}",
    "file: {path: /etc/kubernetes/pki/apiserver.key, on: {every: masters}, make: {copyOf: /etc/kubernetes/pki/sa.key}}",
]);

pub(super) fn file(reader: &mut Reader, node: &Node) -> Option<Fault> {
    let mut fields = Fields::of(reader, node, "`file`")?;
    let path = fields.required(reader, "path", path);
    let on = fields.required(reader, "on", places::nodes);
    let make = fields.required_node(reader, "make", |reader, node| {
        reader.one_of(node, "what becomes of the file", &MAKES)
    });
    fields.end(reader);
    let (path, on, (make, node)) = (path?, on?, make?);
    if make == Make::CopyOf(path.clone()) {
        return reader.wrong(node, "this is the file itself", "name another file of the node");
    }
    Some(Fault::File(FileChange { path, on, make }))
}

fn plain(reader: &mut Reader, node: &Node, make: Make) -> Option<Make> {
    match node.value {
        Value::Null => Some(make),
        _ => reader.wrong(node, "this takes no value", "write the word alone: `make: absent`"),
    }
}

/// Reads the path of a file from the node's root.
pub(in super::super) fn path(reader: &mut Reader, node: &Node) -> Option<String> {
    let path = reader.line(node)?;
    let fits = |part: &str| !part.is_empty() && part != "." && part != "..";
    match path.strip_prefix('/') {
        Some(rest) if rest.split('/').all(fits) => Some(path),
        _ => reader.wrong(
            node,
            format!("`{path}` is not the whole path of a file"),
            "write it from the node's root, such as `/etc/kubernetes/pki/ca.crt`",
        ),
    }
}
