//! An expression over an object, or over several. That the scheduler's leader is not on master 3:
//!
//! ```yaml
//! object:
//!   apiVersion: coordination.k8s.io/v1
//!   kind: Lease
//!   namespace: kube-system
//!   name: kube-scheduler
//!   through: {master: 1}
//!   cel: '!object.spec.holderIdentity.startsWith(hosts["master-3"] + "_")'
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::expression::Expression;
use super::super::problem::Finding;
use super::super::read::{Fields, Reader};
use super::super::reference::{
    Field, LABELS, LINE, NAME, Rule, TEXT, kind, optional, required, ruled,
};
use super::super::suggest::nearest;
use super::super::tree::{Node, Value};
use super::super::{NodeRef, Nodes, Probe};
use super::THROUGH;

/// See [`Probe::Object`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// `apiVersion` of the kind, such as `v1` or `apps/v1`.
    pub api_version: String,
    /// The kind.
    pub kind: String,
    /// The namespace. Without one, a named object of a namespaced kind is in `default`, and several
    /// objects are those of all namespaces.
    pub namespace: Option<String>,
    /// The name of the one object; nothing: all objects, or those with the labels.
    pub name: Option<String>,
    /// Labels that the objects have.
    pub labels: BTreeMap<String, String>,
    /// A CEL expression over `object` (`null` if there is none) or `objects`, and over `nodes`, a
    /// map from `master-1`, and from the scenario's own names of nodes, to the node's name in
    /// Kubernetes, `hosts`, the same to its host name, and the times `since` and `now`.
    pub cel: String,
    /// The scenario's own names of nodes.
    pub named: Nodes,
    /// The apiserver that is asked, directly.
    pub through: NodeRef,
}

pub(super) const OBJECT: Field = kind(
    "object",
    "A CEL expression over any object, or over several.",
    ruled(
        &[
            required("apiVersion", "The `apiVersion`, such as `v1` or `apps/v1`.", LINE),
            required("kind", "The kind.", LINE),
            optional(
                "namespace",
                "The namespace. Without one, a named object of a namespaced kind is in `default`, \
                 and several objects are those of all namespaces.",
                NAME,
            ),
            optional(
                "name",
                "The name of the one `object`; without: all `objects`, or those with the labels.",
                LINE,
            ),
            optional("labels", "Labels that the objects have.", LABELS),
            required(
                "cel",
                "What must be true of `object` (`null` if there is none) or of the list `objects`. It \
                 also knows `nodes`, from `master-1` or a name of `spec.nodes` to the node's name in \
                 Kubernetes, `hosts`, the same to its host name, `since`, the time from which it is \
                 observed, and `now`, the time of the observation. Where there are no objects, \
                 `objects.all(…)` does not hold, unless the expression asks for `size(objects)`, too.",
                TEXT,
            ),
            THROUGH,
        ],
        &[Rule::NotBoth("name", "labels")],
    ),
)
.examples(&[
    "object: {apiVersion: v1, kind: Node, name: worker-1, cel: \"has(object.spec.unschedulable)\", through: {master: 1}}",
    "object: {apiVersion: v1, kind: Pod, namespace: kube-system, labels: {k8s-app: kube-dns}, cel: \"objects.all(pod, pod.status.phase == 'Running')\", through: {master: 1}}",
]);

pub(super) fn read(reader: &mut Reader, node: &Node) -> Option<Probe> {
    let mut fields = Fields::of(reader, node, "`object`")?;
    let api_version = fields.required(reader, "apiVersion", Reader::line);
    let kind = fields.required(reader, "kind", Reader::line);
    let namespace = fields.optional(reader, "namespace", Reader::name);
    let name = fields.optional(reader, "name", Reader::line);
    let labels_node = fields.get("labels");
    let labels = labels_node.and_then(|node| labels(reader, node)).unwrap_or_default();
    let through = fields.required(reader, "through", Reader::master);
    if let (Some(_), Some(node)) = (&name, labels_node) {
        let help = "a name for one `object`; labels for all `objects` that have them";
        reader.report(Finding::new(node.span, "`name` and `labels` exclude each other").help(help));
    }
    let cel = match fields.required_node(reader, "cel", Reader::text) {
        Some((text, node)) => expression(reader, node, text, name.is_some()),
        None => None,
    };
    fields.end(reader);
    Some(Probe::Object(Object {
        api_version: api_version?,
        kind: kind?,
        namespace,
        name,
        labels,
        cel: cel?,
        named: reader.nodes.clone().unwrap_or_default(),
        through: through?,
    }))
}

/// Reads a map of words.
pub(super) fn labels(reader: &mut Reader, node: &Node) -> Option<BTreeMap<String, String>> {
    match &node.value {
        Value::Map(entries) if !entries.is_empty() => {
            // A label may well be empty.
            let texts = entries
                .iter()
                .filter_map(|entry| Some((entry.key.clone(), reader.line_or_empty(&entry.value)?)));
            Some(texts.collect())
        }
        Value::Map(_) => {
            reader.wrong(node, "no label is named", "write at least one, or leave the field away")
        }
        _ => reader.mistyped(node, "labels, such as `{component: etcd}`"),
    }
}

/// Checks a CEL expression, and that it speaks of what there is.
fn expression(reader: &mut Reader, node: &Node, text: String, one: bool) -> Option<String> {
    let compiled = match Expression::compile(&text) {
        Ok(compiled) => compiled,
        Err(errors) => {
            for (at, why) in errors {
                let (words, span) = place(node, &text, at);
                let message = format!("this is not CEL{words}: {why}");
                let help = if why.contains("token recognition error at: '=") {
                    "equality is written `==`"
                } else {
                    "see https://github.com/google/cel-spec/blob/master/doc/langdef.md"
                };
                reader.report(Finding::new(span, message).help(help));
            }
            return None;
        }
    };
    let subject = if one { "object" } else { "objects" };
    let known = [subject, "nodes", "hosts", "since", "now"];
    if let Some(unknown) = compiled.free().iter().find(|name| !known.contains(&name.as_str())) {
        let why = match (unknown.as_str(), one) {
            ("objects", true) => "; with `name` there is one `object`",
            ("object", false) => "; without `name` there are several `objects`",
            _ => "",
        };
        let help = format!(
            "allowed: `{subject}`; `nodes`, such as `nodes[\"master-1\"]`; `hosts`; `since`, the time \
             from which it is observed; `now`{why}"
        );
        return reader.wrong(node, format!("the expression knows no `{unknown}`"), help);
    }
    if !compiled.free().contains(subject) {
        let message = format!("the expression does not speak of `{subject}`");
        return reader.wrong(node, message, format!("write a condition on `{subject}`"));
    }
    if let Some(function) = compiled.unknown_function() {
        let help = "see https://github.com/google/cel-spec/blob/master/doc/langdef.md#list-of-standard-definitions";
        return reader.wrong(node, format!("CEL has no function `{function}`"), help);
    }
    nodes(reader, node, &compiled)?;
    Some(text)
}

/// Checks that the cluster has each node that an expression speaks of.
fn nodes(reader: &mut Reader, node: &Node, compiled: &Expression) -> Option<()> {
    // Where the cluster's figures or the names are wrong themselves, that is reported.
    let (Some(masters), Some(workers), Some(named)) =
        (reader.masters, reader.workers, &reader.nodes)
    else {
        return Some(());
    };
    let masters = (1..=masters).map(NodeRef::Master);
    let workers = (1..=workers).map(NodeRef::Worker);
    let numbered = masters.chain(workers).map(|node| node.to_string());
    let names: Vec<String> = numbered.chain(named.keys().cloned()).collect();
    for map in ["nodes", "hosts"] {
        let missing = compiled.keys(map).find(|key| !names.iter().any(|name| name == key));
        if let Some(key) = missing {
            let near = nearest(key, names.iter().map(String::as_str));
            let near = near.map_or(String::new(), |near| format!("did you mean `{near}`? "));
            let help = format!("{near}There are: `{}`", names.join("`, `"));
            let message = format!("`{map}` has no node `{key}`");
            return reader.wrong(node, message, help);
        }
    }
    Some(())
}

/// Where in the file a place of the expression is: just there, if the text stands in the file as it
/// is, in quotes or not; else the whole text, and the place in words.
fn place(node: &Node, text: &str, (line, column): (isize, isize)) -> (String, (usize, usize)) {
    let before: usize = usize::try_from(column).unwrap_or(0);
    let bytes = text.chars().take(before).map(char::len_utf8).sum::<usize>();
    let (start, length) = node.span;
    let quote = match length.checked_sub(text.len()) {
        Some(0) => Some(0),
        Some(2) => Some(1),
        _ => None,
    };
    match quote {
        Some(quote) if !text.contains('\n') => (String::new(), (start + quote + bytes, 1)),
        _ => (format!(" at line {line}, column {}", before + 1), node.span),
    }
}
