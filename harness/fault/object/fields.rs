//! Objects as fields: what a change sets, whether it is there, and how it is taken back field by
//! field, so that what others changed meanwhile stays.

use serde_json::{Map, Value};

/// A manifest's fields without those that say which object it is.
pub(in crate::fault) fn without_identity(manifest: &Value) -> Value {
    let mut fields = manifest.clone();
    if let Some(map) = fields.as_object_mut() {
        map.remove("apiVersion");
        map.remove("kind");
    }
    if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("name");
        metadata.remove("namespace");
    }
    fields
}

/// Where an object is not as a change sets it, in words. Of a list each item must be there, with
/// at least its fields: the API adds defaults, and others may add items.
pub(in crate::fault) fn differs(change: &Value, object: &Value) -> Option<String> {
    difference("", change, Some(object))
}

fn difference(path: &str, wanted: &Value, found: Option<&Value>) -> Option<String> {
    let absent = || format!("{path} is not set");
    match wanted {
        Value::Null => match found {
            None | Some(Value::Null) => None,
            Some(found) => Some(format!("{path} is {found}, not taken away")),
        },
        // What has no content may be left out.
        Value::Object(fields) => fields.iter().find_map(|(name, wanted)| {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            difference(&path, wanted, found.and_then(|found| found.get(name)))
        }),
        Value::Array(items) => {
            let found = found.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let missing = items.iter().find(|wanted| {
                !found.iter().any(|found| difference(path, wanted, Some(found)).is_none())
            })?;
            Some(format!("{path} has no {missing}"))
        }
        wanted => match found {
            None => Some(absent()),
            Some(found) => (found != wanted).then(|| format!("{path} is {found}, not {wanted}")),
        },
    }
}

/// The merge patch that gives each field of a change the value that it had before. A list comes
/// back as a whole. A map that was not there goes with its last field.
pub(super) fn restoring(change: &Value, before: &Value, now: &Value) -> Value {
    let Value::Object(change) = change else { return before.clone() };
    let mut patch = Map::new();
    for (name, changed) in change {
        let (before, now) = (before.get(name), now.get(name));
        let both_maps = changed.is_object() && now.is_some_and(Value::is_object);
        let restored = match before {
            Some(before) if both_maps && before.is_object() => {
                restoring(changed, before, now.unwrap_or(&Value::Null))
            }
            None if both_maps => {
                let now = now.unwrap_or(&Value::Null);
                let patch = restoring(changed, &Value::Null, now);
                let left = merged(now, &patch);
                if left.as_object().is_some_and(Map::is_empty) { Value::Null } else { patch }
            }
            before => before.cloned().unwrap_or(Value::Null),
        };
        patch.insert(name.clone(), restored);
    }
    Value::Object(patch)
}

/// A value with a merge patch applied (RFC 7386).
pub(in crate::fault) fn merged(value: &Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut fields = value.as_object().cloned().unwrap_or_default();
    for (name, change) in patch {
        if change.is_null() {
            fields.remove(name);
        } else {
            let value = merged(fields.get(name).unwrap_or(&Value::Null), change);
            fields.insert(name.clone(), value);
        }
    }
    Value::Object(fields)
}

/// An object as it is to be created once more: without what the API gives it.
pub(super) fn anew(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in [
            "creationTimestamp",
            "deletionGracePeriodSeconds",
            "deletionTimestamp",
            "generation",
            "managedFields",
            "resourceVersion",
            "selfLink",
            "uid",
        ] {
            metadata.remove(field);
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_change_is_there_if_each_of_its_fields_is() {
        let object = json!({
            "metadata": {"labels": {"a": "1", "b": "2"}},
            "spec": {"replicas": 3, "ports": [{"port": 1, "protocol": "TCP"}, {"port": 2}]},
        });
        for (change, wanted) in [
            (json!({"spec": {"replicas": 3}}), None),
            (json!({"spec": {"replicas": 0}}), Some("spec.replicas is 3, not 0")),
            (json!({"spec": {"paused": true}}), Some("spec.paused is not set")),
            (json!({"spec": {"paused": null, "strategy": {}}}), None),
            (
                json!({"metadata": {"labels": {"a": null}}}),
                Some("metadata.labels.a is \"1\", not taken away"),
            ),
            (json!({"spec": {"ports": [{"port": 2}, {"port": 1}]}}), None),
            (json!({"spec": {"ports": [{"port": 3}]}}), Some("spec.ports has no {\"port\":3}")),
            (json!({"data": {"x": "y"}}), Some("data.x is not set")),
        ] {
            assert_eq!(differs(&change, &object).as_deref(), wanted, "{change}");
        }
    }

    #[test]
    fn fields_come_back_and_what_others_changed_stays() {
        let before = json!({
            "metadata": {"labels": {"a": "1"}},
            "spec": {"replicas": 3, "args": ["x"], "template": {"image": "i"}},
        });
        let change = json!({
            "metadata": {"labels": {"a": "2", "new": "n"}, "annotations": {"k": "v"}},
            "spec": {"replicas": 0, "args": ["y"], "template": null, "other": {"deep": {"x": 1}}},
        });
        let mut now = merged(&before, &change);
        now["metadata"]["labels"]["theirs"] = json!("t");
        now["status"] = json!({"ready": 1});
        let patch = restoring(&change, &before, &now);
        let after = merged(&now, &patch);
        assert_eq!(
            after,
            json!({
                "metadata": {"labels": {"a": "1", "theirs": "t"}},
                "spec": {"replicas": 3, "args": ["x"], "template": {"image": "i"}},
                "status": {"ready": 1},
            })
        );
        // Once more there is nothing to do.
        assert_eq!(merged(&after, &restoring(&change, &before, &after)), after);
    }

    #[test]
    fn a_map_that_was_not_there_stays_if_others_use_it() {
        let before = json!({"metadata": {}});
        let change = json!({"metadata": {"annotations": {"mine": "m"}}});
        let now = json!({"metadata": {"annotations": {"mine": "m", "theirs": "t"}}});
        let after = merged(&now, &restoring(&change, &before, &now));
        assert_eq!(after, json!({"metadata": {"annotations": {"theirs": "t"}}}));
    }

    #[test]
    fn an_object_that_is_created_anew_has_nothing_that_the_api_gives() {
        let object = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": "n", "uid": "u", "resourceVersion": "1", "labels": {"a": "b"}},
            "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
        });
        assert_eq!(
            anew(&object),
            json!({
                "apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": "n", "labels": {"a": "b"}},
                "spec": {"finalizers": ["kubernetes"]},
            })
        );
        assert_eq!(
            without_identity(&object),
            json!({
                "metadata": {"uid": "u", "resourceVersion": "1", "labels": {"a": "b"}},
                "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
            })
        );
    }
}
