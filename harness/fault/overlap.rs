//! Faults that change again what an earlier one changed.

use serde_json::Value;

use super::object::fields::{differs, merged, without_identity};
use crate::scenario::{Fault, NodeRef, ObjectRef};

/// Whether the later fault changes again what the earlier one changed, so that the earlier one can't
/// be proven while the later one is in place: the same file, the same flag, the same field.
pub fn hides(later: &Fault, earlier: &Fault) -> bool {
    let is_file = |fault: &Fault| matches!(fault, Fault::File(_) | Fault::Certificate(_));
    if is_file(later) && is_file(earlier) {
        let files = later.files();
        return earlier.files().iter().any(|file| files.contains(file));
    }
    if let (Some((object, change)), Some((earlier_object, earlier_change))) =
        (fields(later), fields(earlier))
    {
        return object == earlier_object
            && differs(&earlier_change, &merged(&earlier_change, &change)).is_some();
    }
    match (later, earlier) {
        (Fault::Settings(later), Fault::Settings(earlier)) => {
            let other = |(flag, value)| earlier.flags.get(flag).is_some_and(|set| set != value);
            later.component == earlier.component
                && meet(&later.on, &earlier.on)
                && later.flags.iter().any(other)
        }
        (Fault::Delete(delete), earlier) => {
            fields(earlier).is_some_and(|(object, _)| *object == delete.object)
        }
        _ => false,
    }
}

/// The object of a fault that changes fields, and these.
fn fields(fault: &Fault) -> Option<(&ObjectRef, Value)> {
    match fault {
        Fault::Apply(apply) if apply.count.is_none() => {
            Some((&apply.object, without_identity(&apply.manifest)))
        }
        Fault::Patch(patch) => Some((&patch.object, patch.patch.clone())),
        _ => None,
    }
}

fn meet(on: &[NodeRef], other: &[NodeRef]) -> bool {
    on.iter().any(|node| other.contains(node))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::scenario::NodeRef::Master;
    use crate::scenario::{
        CertificateChange, Component, FileChange, KeyChange, Make, Patch, PatchStrategy,
        SettingsChange, Starts,
    };

    #[test]
    fn a_file_is_hidden_by_another_change_of_it_on_a_node() {
        let file = |path: &str, on: &[NodeRef]| {
            let make = Make::Absent;
            Fault::File(FileChange { path: path.into(), on: on.to_vec(), make })
        };
        let first = file("/a", &[Master(1), Master(2)]);
        assert!(hides(&file("/a", &[Master(2)]), &first));
        assert!(!hides(&file("/a", &[Master(3)]), &first));
        assert!(!hides(&file("/b", &[Master(2)]), &first));
        let mut certificate = CertificateChange::none("/a.crt", vec![Master(1)]);
        assert!(!hides(&file("/a.key", &[Master(1)]), &Fault::Certificate(certificate.clone())));
        certificate.key = KeyChange::New;
        assert!(hides(&file("/a.key", &[Master(1)]), &Fault::Certificate(certificate)));
    }

    #[test]
    fn fields_are_hidden_by_other_values_alone() {
        let patch = |name: &str, patch: Value| {
            let object = ObjectRef {
                api_version: "v1".into(),
                kind: "A".into(),
                namespace: None,
                name: name.into(),
            };
            Fault::Patch(Patch { object, patch, strategy: PatchStrategy::Merge, through: None })
        };
        let first = patch("a", json!({"spec": {"a": 1, "b": 2}}));
        assert!(hides(&patch("a", json!({"spec": {"a": 2}})), &first));
        assert!(hides(&patch("a", json!({"spec": null})), &first));
        assert!(!hides(&patch("a", json!({"spec": {"a": 1, "c": 3}})), &first));
        assert!(!hides(&patch("b", json!({"spec": {"a": 2}})), &first));
    }

    #[test]
    fn flags_are_hidden_by_other_values_alone() {
        let set = |value: &str, on| {
            let flags = BTreeMap::from([("v".to_owned(), vec![value.to_owned()])]);
            let component = Component::Etcd;
            Fault::Settings(SettingsChange {
                component,
                on: vec![on],
                flags,
                starts: Starts::Ready,
            })
        };
        assert!(hides(&set("2", Master(1)), &set("4", Master(1))));
        assert!(!hides(&set("4", Master(1)), &set("4", Master(1))));
        assert!(!hides(&set("2", Master(2)), &set("4", Master(1))));
    }
}
