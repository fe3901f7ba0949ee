//! Changes to objects of the API.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::super::problem::Finding;
use super::super::read::{Fields, Reader};
use super::super::reference::{
    Field, LINE, MASTER, NAME, Shape, kind, map, optional, required, text,
};
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
    /// As how many objects it is applied: with `-1`, `-2` and so on after the name; nothing: as the one
    /// that it names.
    pub count: Option<u32>,
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

/// How the fields are written that say which object is meant.
const API_VERSION: Field = required(
    "apiVersion",
    "The object's `apiVersion`, such as `v1` or `apps/v1`.",
    text("`v1`, or `GROUP/VERSION`", "^[^/]+(/[^/]+)?$"),
);
const KIND: Field = required("kind", "The object's kind.", LINE);
const NAMESPACE: Field =
    optional("namespace", "Its namespace; without, for a namespaced kind: `default`.", NAME);
const OBJECT_NAME: Field = required("name", "The object's name.", LINE);

/// How it is written which apiserver is asked.
const THROUGH: Field =
    optional("through", "The apiserver that is asked to; without: the first that answers.", MASTER);

/// How a manifest is written.
pub(in super::super) const MANIFEST: Shape = Shape::Map {
    fields: &[
        API_VERSION,
        KIND,
        required(
            "metadata",
            "What names it; labels and whatever else an object's metadata has.",
            Shape::Map { fields: &[NAMESPACE, OBJECT_NAME], rules: &[], open: true },
        ),
    ],
    rules: &[],
    open: true,
};

/// How it is written as how many objects a manifest is applied.
pub(in super::super) const COUNT: Field = optional(
    "count",
    "As how many objects it is applied: with `-1`, `-2` and so on after the name; without: as the one that \
     it names.",
    Shape::Whole { least: 1, most: MOST },
);

pub(super) const APPLY: Field = kind(
    "apply",
    "An object of the API is applied by server-side apply: created, or those of its fields changed \
     that the manifest has. Reverted to what was there, field by field.",
    map(&[
        required(
            "manifest",
            "The object, as it is written for kubectl; without `status`.",
            MANIFEST,
        ),
        COUNT,
        THROUGH,
    ]),
)
.examples(&[
    "apply: {manifest: {apiVersion: v1, kind: Namespace, metadata: {name: doomed}}, through: {master: 1}}",
    "apply: {manifest: {apiVersion: v1, kind: ConfigMap, metadata: {name: filler}, data: {a: b}}, count: 100}",
]);

/// An apiserver takes some hundreds of objects a second from one client.
const MOST: u32 = 10_000;

pub(super) fn apply(reader: &mut Reader, node: &Node) -> Option<Fault> {
    let mut fields = Fields::of(reader, node, "`apply`")?;
    let manifest = fields.required(reader, "manifest", manifest);
    let count = fields.perhaps(reader, "count", count);
    let through = fields.perhaps(reader, "through", Reader::master);
    fields.end(reader);
    let (object, manifest) = manifest?;
    Some(Fault::Apply(Apply { object, manifest, count: count?, through: through? }))
}

pub(super) const PATCH: Field = kind(
    "patch",
    "Fields of an object of the API change. Reverted to what was there, field by field.",
    map(&[
        API_VERSION,
        KIND,
        NAMESPACE,
        OBJECT_NAME,
        required(
            "patch",
            "The fields that change, with their values; `null` takes a field away.",
            Shape::Named { of: &Shape::Any, names: "", count: (1, usize::MAX) },
        ),
        optional(
            "strategy",
            "How they are merged.",
            Shape::Words(&[
                ("merge", "Maps are merged, a list is replaced by the list in the patch (RFC 7386)."),
                (
                    "strategic",
                    "As `merge`, but lists of Kubernetes' own kinds are merged by their keys, too.",
                ),
            ]),
        )
        .or("merge"),
        THROUGH,
    ]),
)
.examples(&[
    "patch: {apiVersion: apps/v1, kind: Deployment, namespace: kube-system, name: coredns, patch: {spec: {paused: true}}}",
]);

pub(super) fn patch(reader: &mut Reader, node: &Node) -> Option<Fault> {
    const STRATEGIES: [(&str, PatchStrategy); 2] =
        [("merge", PatchStrategy::Merge), ("strategic", PatchStrategy::Strategic)];
    let mut fields = Fields::of(reader, node, "`patch`")?;
    let object = object(reader, &mut fields);
    let patch = fields.required(reader, "patch", changes).map(|patch| match &object {
        Some(object) => stored(object, patch),
        None => patch,
    });
    let strategy = match fields.get("strategy") {
        Some(node) => reader.word(node, &STRATEGIES),
        None => Some(PatchStrategy::Merge),
    };
    let through = fields.perhaps(reader, "through", Reader::master);
    fields.end(reader);
    let (object, patch, strategy) = (object?, patch?, strategy?);
    Some(Fault::Patch(Patch { object, patch, strategy, through: through? }))
}

pub(super) const DELETE: Field = kind(
    "delete",
    "An object of the API is deleted. Reverted to what was there.",
    map(&[API_VERSION, KIND, NAMESPACE, OBJECT_NAME, THROUGH]),
)
.examples(&["delete: {apiVersion: v1, kind: Service, namespace: kube-system, name: kube-dns}"]);

pub(super) fn delete(reader: &mut Reader, node: &Node) -> Option<Fault> {
    let mut fields = Fields::of(reader, node, "`delete`")?;
    let object = object(reader, &mut fields);
    let through = fields.perhaps(reader, "through", Reader::master);
    fields.end(reader);
    Some(Fault::Delete(Delete { object: object?, through: through? }))
}

pub(super) const SCALE: Field = kind(
    "scale",
    "A workload gets another number of pods, by its `scale` subresource, until the revert.",
    map(&[
        API_VERSION,
        KIND,
        NAMESPACE,
        OBJECT_NAME,
        required(
            "replicas",
            "How many pods it is to have.",
            Shape::Whole { least: 0, most: i32::MAX.unsigned_abs() },
        ),
        THROUGH,
    ]),
)
.examples(&[
    "scale: {apiVersion: apps/v1, kind: Deployment, namespace: kube-system, name: coredns, replicas: 0}",
]);

pub(super) fn scale(reader: &mut Reader, node: &Node) -> Option<Fault> {
    let mut fields = Fields::of(reader, node, "`scale`")?;
    let object = object(reader, &mut fields);
    let replicas = fields.required(reader, "replicas", |reader, node| {
        let count = reader.count(node, 0)?;
        i32::try_from(count).ok().or_else(|| {
            reader.wrong(node, format!("{count} is out of range"), "write fewer replicas")
        })
    });
    let through = fields.perhaps(reader, "through", Reader::master);
    fields.end(reader);
    let (object, replicas) = (object?, replicas?);
    Some(Fault::Scale(Scale { object, replicas, through: through? }))
}

/// Reads the fields that say which object is meant.
fn object(reader: &mut Reader, fields: &mut Fields) -> Option<ObjectRef> {
    let api_version = fields.required(reader, "apiVersion", api_version);
    let kind = fields.required(reader, "kind", Reader::line);
    let namespace = fields.perhaps(reader, "namespace", Reader::name);
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

/// Reads as how many objects a manifest is applied.
pub(in super::super) fn count(reader: &mut Reader, node: &Node) -> Option<u32> {
    match reader.count(node, 1)? {
        count @ ..=MOST => Some(count),
        count => {
            let help = format!("write at most `{MOST}`");
            reader.wrong(node, format!("{count} objects are too many"), help)
        }
    }
}

/// Reads a manifest: any map that says which one object it is of.
pub(in super::super) fn manifest(reader: &mut Reader, node: &Node) -> Option<(ObjectRef, Json)> {
    let mut fields = Fields::of(reader, node, "a manifest")?;
    let api_version = fields.required(reader, "apiVersion", api_version);
    let kind = fields.required_node(reader, "kind", Reader::line);
    let names = fields.required(reader, "metadata", |reader, node| {
        let mut fields = Fields::of(reader, node, "`metadata`")?;
        let name = fields.required(reader, "name", Reader::line);
        let namespace = fields.perhaps(reader, "namespace", Reader::name);
        fields.open_end(reader);
        Some((name?, namespace?))
    });
    if let Some(status) = fields.get("status") {
        let finding = Finding::new(status.span, "a status can't be applied");
        reader.report(finding.help("controllers write it; take `status` away"));
        return None;
    }
    fields.open_end(reader);
    let (api_version, (kind, kind_node), (name, namespace)) = (api_version?, kind?, names?);
    if kind == "List" {
        return reader.wrong(kind_node, "a list is many objects", "apply each by itself");
    }
    let object = ObjectRef { api_version, kind, namespace, name };
    let manifest = stored(&object, node.json());
    Some((object, manifest))
}

/// The fields as the API tells them: the texts of a Secret's `stringData` are in its `data`, and can
/// be proven and taken back there alone.
/// <https://github.com/kubernetes/kubernetes/blob/v1.34.4/pkg/apis/core/v1/conversion.go>
fn stored(object: &ObjectRef, mut fields: Json) -> Json {
    if (object.api_version.as_str(), object.kind.as_str()) != ("v1", "Secret") {
        return fields;
    }
    let texts = fields.get("stringData").and_then(Json::as_object);
    let Some(texts) = texts.filter(|texts| texts.values().all(Json::is_string)).cloned() else {
        return fields; // What it is instead, the API refuses.
    };
    let encoded = texts.iter().map(|(name, text)| {
        let bytes = text.as_str().unwrap_or_default().as_bytes();
        (name.clone(), Json::from(BASE64_STANDARD.encode(bytes)))
    });
    match fields.get_mut("data").map(Json::as_object_mut) {
        Some(Some(data)) => data.extend(encoded),
        Some(None) => return fields,
        None => fields["data"] = encoded.collect(),
    }
    if let Some(fields) = fields.as_object_mut() {
        fields.remove("stringData");
    }
    fields
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_secret_s_texts_are_where_the_api_tells_them() {
        let object = |kind: &str| ObjectRef {
            api_version: "v1".into(),
            kind: kind.into(),
            namespace: None,
            name: "a".into(),
        };
        let text = json!({"stringData": {"a": "b"}});
        assert_eq!(stored(&object("Secret"), text.clone()), json!({"data": {"a": "Yg=="}}));
        assert_eq!(stored(&object("ConfigMap"), text.clone()), text);
        let both = json!({"data": {"a": "YQ==", "c": "Yw=="}, "stringData": {"a": "b"}});
        let wanted = json!({"data": {"a": "Yg==", "c": "Yw=="}});
        assert_eq!(stored(&object("Secret"), both), wanted);
        let wrong = json!({"stringData": {"a": 1}});
        assert_eq!(stored(&object("Secret"), wrong.clone()), wrong);
    }
}
