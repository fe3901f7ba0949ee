//! Changes to objects of the API.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::super::problem::Finding;
use super::super::read::{Fields, Reader};
use super::super::tree::{Node, Value};
use super::super::{Fault, NodeRef};

/// An object of the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRef {
    /// Its `apiVersion`, such as `v1` or `apps/v1`.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace, for a namespaced kind; nothing: `default`.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl std::fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ", self.kind)?;
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        write!(f, "{}", self.name)
    }
}

/// See [`Fault::Apply`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Apply {
    /// Which object the manifest is of.
    pub object: ObjectRef,
    /// The manifest.
    pub manifest: Json,
    /// The apiserver that is asked to; nothing: the first that answers.
    pub through: Option<NodeRef>,
}

/// See [`Fault::Patch`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patch {
    /// What is patched.
    pub object: ObjectRef,
    /// The fields that change.
    pub patch: Json,
    /// How they are merged.
    pub strategy: PatchStrategy,
    /// The apiserver that is asked to; nothing: the first that answers.
    pub through: Option<NodeRef>,
}

/// How a patch is merged into an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PatchStrategy {
    /// Maps are merged, a list is replaced by the list in the patch, `null` takes a field away
    /// (RFC 7386).
    Merge,
    /// As `merge`, but lists of Kubernetes' own kinds are merged by their keys, too.
    Strategic,
}

/// See [`Fault::Delete`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delete {
    /// What is deleted.
    pub object: ObjectRef,
    /// The apiserver that is asked to; nothing: the first that answers.
    pub through: Option<NodeRef>,
}

/// See [`Fault::Scale`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scale {
    /// What is scaled.
    pub object: ObjectRef,
    /// How many pods it is to have.
    pub replicas: i32,
    /// The apiserver that is asked to; nothing: the first that answers.
    pub through: Option<NodeRef>,
}

pub(super) fn apply(reader: &mut Reader, node: &Node) -> Option<Fault> {
    let mut fields = Fields::of(reader, node, "`apply`")?;
    let manifest = fields.required(reader, "manifest", manifest);
    let through = through(reader, &mut fields);
    fields.end(reader);
    let (object, manifest) = manifest?;
    Some(Fault::Apply(Apply { object, manifest, through: through? }))
}

pub(super) fn patch(reader: &mut Reader, node: &Node) -> Option<Fault> {
    const STRATEGIES: [(&str, PatchStrategy); 2] =
        [("merge", PatchStrategy::Merge), ("strategic", PatchStrategy::Strategic)];
    let mut fields = Fields::of(reader, node, "`patch`")?;
    let object = object(reader, &mut fields);
    let patch = fields.required(reader, "patch", changes);
    let strategy = match fields.get("strategy") {
        Some(node) => reader.word(node, &STRATEGIES),
        None => Some(PatchStrategy::Merge),
    };
    let through = through(reader, &mut fields);
    fields.end(reader);
    let (object, patch, strategy) = (object?, patch?, strategy?);
    Some(Fault::Patch(Patch { object, patch, strategy, through: through? }))
}

pub(super) fn delete(reader: &mut Reader, node: &Node) -> Option<Fault> {
    let mut fields = Fields::of(reader, node, "`delete`")?;
    let object = object(reader, &mut fields);
    let through = through(reader, &mut fields);
    fields.end(reader);
    Some(Fault::Delete(Delete { object: object?, through: through? }))
}

pub(super) fn scale(reader: &mut Reader, node: &Node) -> Option<Fault> {
    let mut fields = Fields::of(reader, node, "`scale`")?;
    let object = object(reader, &mut fields);
    let replicas = fields.required(reader, "replicas", |reader, node| {
        let count = reader.count(node, 0)?;
        i32::try_from(count).ok().or_else(|| {
            reader.wrong(node, format!("{count} is out of range"), "write fewer replicas")
        })
    });
    let through = through(reader, &mut fields);
    fields.end(reader);
    let (object, replicas) = (object?, replicas?);
    Some(Fault::Scale(Scale { object, replicas, through: through? }))
}

/// Reads which apiserver is asked, if the file says it.
#[expect(clippy::option_option, reason = "read or not; then said or not")]
fn through(reader: &mut Reader, fields: &mut Fields) -> Option<Option<NodeRef>> {
    match fields.get("through") {
        Some(node) => reader.master(node).map(Some),
        None => Some(None),
    }
}

/// Reads the fields that say which object is meant.
fn object(reader: &mut Reader, fields: &mut Fields) -> Option<ObjectRef> {
    let api_version = fields.required(reader, "apiVersion", api_version);
    let kind = fields.required(reader, "kind", Reader::line);
    let namespace = match fields.get("namespace") {
        Some(node) => reader.name(node).map(Some),
        None => Some(None),
    };
    let name = fields.required(reader, "name", Reader::line);
    Some(ObjectRef { api_version: api_version?, kind: kind?, namespace: namespace?, name: name? })
}

fn api_version(reader: &mut Reader, node: &Node) -> Option<String> {
    let version = reader.line(node)?;
    let parts: Vec<_> = version.split('/').collect();
    if parts.len() <= 2 && parts.iter().all(|part| !part.is_empty()) {
        return Some(version);
    }
    let message = format!("`{version}` is not an apiVersion");
    reader.wrong(node, message, "write `v1`, or `GROUP/VERSION` such as `apps/v1`")
}

/// Reads a manifest: any map that says which one object it is of.
fn manifest(reader: &mut Reader, node: &Node) -> Option<(ObjectRef, Json)> {
    let mut fields = Fields::of(reader, node, "a manifest")?;
    let api_version = fields.required(reader, "apiVersion", api_version);
    let kind = fields.required_node(reader, "kind", Reader::line);
    let names = fields.required(reader, "metadata", |reader, node| {
        let mut fields = Fields::of(reader, node, "`metadata`")?;
        let name = fields.required(reader, "name", Reader::line);
        let namespace = match fields.get("namespace") {
            Some(node) => reader.name(node).map(Some),
            None => Some(None),
        };
        Some((name?, namespace?))
    });
    if let Some(status) = fields.get("status") {
        let finding = Finding::new(status.span, "a status can't be applied");
        reader.report(finding.help("controllers write it; take `status` away"));
        return None;
    }
    let (api_version, (kind, kind_node), (name, namespace)) = (api_version?, kind?, names?);
    if kind == "List" {
        return reader.wrong(kind_node, "a list is many objects", "apply each by itself");
    }
    Some((ObjectRef { api_version, kind, namespace, name }, node.json()))
}

/// The first key of a strategic patch that is not a field: `$patch` and its like.
fn directive(patch: &Json) -> Option<&str> {
    match patch {
        Json::Object(fields) => fields.iter().find_map(|(name, value)| {
            if name.starts_with('$') { Some(name.as_str()) } else { directive(value) }
        }),
        Json::Array(items) => items.iter().find_map(directive),
        _ => None,
    }
}

/// Reads what a patch changes.
fn changes(reader: &mut Reader, node: &Node) -> Option<Json> {
    match &node.value {
        Value::Map(entries) if entries.is_empty() => {
            reader.wrong(node, "this patch changes nothing", "write the fields that change")
        }
        Value::Map(_) => {
            let patch = node.json();
            for path in ["/apiVersion", "/kind", "/metadata/name", "/metadata/namespace"] {
                if patch.pointer(path).is_some() {
                    let field = path.trim_start_matches('/').replace('/', ".");
                    let message = format!("`{field}` of an object can't change");
                    return reader.wrong(node, message, format!("take `{field}` away"));
                }
            }
            if let Some(directive) = directive(&patch) {
                let message = format!("`{directive}` is a directive, not a field");
                let help = "write the fields themselves: only these can be proven and taken back";
                return reader.wrong(node, message, help);
            }
            Some(patch)
        }
        _ => reader.mistyped(node, "the fields that change, such as `{spec: {replicas: 0}}`"),
    }
}
