//! What two faults change and put back as it was, so that the one that came last must go first.

use serde_json::{Value, json};

use super::{Fault, KeyChange, NodeRef, ObjectRef, Program};

impl Fault {
    /// The files of nodes that it changes and puts back as a whole; of certificates with the key, where
    /// that is a new one.
    pub(crate) fn files(&self) -> Vec<(String, NodeRef)> {
        let (paths, on) = match self {
            Self::File(change) => (vec![change.path.clone()], &change.on),
            Self::Certificate(change) if change.key == KeyChange::Same => {
                (vec![change.path.clone()], &change.on)
            }
            Self::Certificate(change) => {
                let stem = change.path.strip_suffix(".crt").unwrap_or(&change.path);
                (vec![change.path.clone(), format!("{stem}.key")], &change.on)
            }
            Self::Settings(change) => (vec![change.component.manifest()], &change.on),
            Self::Stop(stop) => match &stop.component {
                Program::Component(component) => (vec![component.manifest()], &stop.on),
                _ => return vec![],
            },
            _ => return vec![],
        };
        let of_node =
            |on: &NodeRef| paths.iter().map(|path| (path.clone(), *on)).collect::<Vec<_>>();
        on.iter().flat_map(of_node).collect()
    }

    /// The object whose fields it changes, and these.
    fn fields(&self) -> Option<(&ObjectRef, Value)> {
        match self {
            Self::Apply(apply) if apply.count.is_none() => {
                let mut fields = apply.manifest.clone();
                for (of, name) in [
                    ("", "apiVersion"),
                    ("", "kind"),
                    ("/metadata", "name"),
                    ("/metadata", "namespace"),
                ] {
                    let map = fields.pointer_mut(of).and_then(Value::as_object_mut);
                    map.and_then(|map| map.remove(name));
                }
                Some((&apply.object, fields))
            }
            Self::Patch(patch) => Some((&patch.object, patch.patch.clone())),
            Self::Scale(scale) => {
                Some((&scale.object, json!({"spec": {"replicas": scale.replicas}})))
            }
            // Every field.
            Self::Delete(delete) => Some((&delete.object, Value::Null)),
            _ => None,
        }
    }
}

/// What both faults put back as they found it, in words: the earlier one must not be taken back before
/// the later one, or its change comes back with that.
pub(super) fn both_put_back(earlier: &Fault, later: &Fault) -> Option<String> {
    if let (Some((object, fields)), Some((other, others))) = (earlier.fields(), later.fields()) {
        return (object == other && meet(&fields, &others)).then(|| object.to_string());
    }
    let files = later.files();
    let shared = earlier.files().into_iter().find(|file| files.contains(file));
    shared.map(|(path, on)| format!("{path} on {on}"))
}

/// Whether both have a value for a field.
fn meet(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            one.iter().any(|(name, one)| other.get(name).is_some_and(|other| meet(one, other)))
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_meet_where_both_set_one() {
        let first = json!({"spec": {"a": 1, "b": {"c": 2}}});
        for (other, wanted) in [
            (json!({"spec": {"a": 2}}), true),
            (json!({"spec": {"b": {"d": 2}}}), false),
            (json!({"spec": {"b": null}}), true),
            (json!({"data": {"a": 1}}), false),
            (Value::Null, true),
        ] {
            assert_eq!(meet(&first, &other), wanted, "{other}");
        }
    }
}
