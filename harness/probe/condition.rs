//! A condition in the status of any object, as one apiserver tells it. Watched, so that no
//! transition is missed, and read anew at the probe's period.

use std::convert::Infallible;
use std::time::Duration;

use futures::future::BoxFuture;
use kube::api::DynamicObject;
use kube::runtime::{WatchStreamExt, watcher};

use super::{Concerned, Look, Observation, Sink, kind, listen, read, revision};
use crate::cluster::ClusterError;
use crate::cluster::client::Access;
use crate::scenario::Condition;

impl Look for Condition {
    fn wanted(&self) -> String {
        let Self { kind, name, condition, status, through, .. } = self;
        let reason = self.reason.as_ref().map(|r| format!(" because of {r}")).unwrap_or_default();
        format!("condition {condition} of {kind} {name} is {status}{reason}, as {through} tells")
    }

    fn concerned(&self) -> Vec<Concerned> {
        vec![Concerned {
            api_version: self.api_version.clone(),
            kind: self.kind.clone(),
            namespace: self.namespace.clone(),
            name: Some(self.name.clone()),
        }]
    }

    fn watch<'a>(
        &'a self,
        access: &'a Access,
        every: Duration,
        sink: Sink<'a>,
    ) -> BoxFuture<'a, Result<Infallible, ClusterError>> {
        Box::pin(async move {
            let Self { api_version, kind, namespace, through, .. } = self;
            let kind = kind::find(access, *through, (api_version, kind), every, sink).await?;
            let api = kind.within(namespace.as_deref().unwrap_or("default"));
            let changes = watcher::watch_object(api.clone(), &self.name).default_backoff();
            let judge = |object: &Option<DynamicObject>| judge(self, object.as_ref());
            listen(every, sink, || read(api.get_opt(&self.name)), changes, apply, judge).await
        })
    }
}

/// Takes a change in, unless something newer is known; whether anything changed. A deletion
/// carries no revision: should it be an older one, the next reading corrects it.
fn apply(state: &mut Option<DynamicObject>, change: Option<DynamicObject>) -> bool {
    let at = |object: &Option<DynamicObject>| object.as_ref().map(|o| revision(&o.metadata));
    let newer = match (at(state), at(&change)) {
        (Some(known), Some(new)) => new > known,
        (known, new) => known.is_some() != new.is_some(),
    };
    if newer {
        *state = change;
    }
    newer
}

fn judge(wanted: &Condition, object: Option<&DynamicObject>) -> Observation {
    let Condition { kind, name, condition, .. } = wanted;
    let Some(object) = object else {
        return Observation::nothing(format!("there is no {kind} {name}"));
    };
    let conditions = object.data.pointer("/status/conditions").and_then(|list| list.as_array());
    let of_type = |entry: &&serde_json::Value| entry["type"].as_str() == Some(condition.as_str());
    let Some(found) = conditions.into_iter().flatten().find(of_type) else {
        return Observation::nothing(format!("{kind} {name} has no condition {condition}"));
    };
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    let (status, reason, message) = (text("status"), text("reason"), text("message"));
    let holds = status == wanted.status && wanted.reason.as_ref().is_none_or(|r| *r == reason);
    let mut saw = format!("{condition} is {status}");
    for (mark, text) in [(" ", reason), (": ", message)] {
        if !text.is_empty() {
            saw.push_str(mark);
            saw.push_str(&text);
        }
    }
    Observation { holds, saw }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::scenario::NodeRef;

    fn wanted(reason: Option<&str>) -> Condition {
        Condition {
            api_version: "apiregistration.k8s.io/v1".into(),
            kind: "APIService".into(),
            namespace: None,
            name: "v1beta1.metrics.k8s.io".into(),
            condition: "Available".into(),
            status: "False".into(),
            reason: reason.map(Into::into),
            through: NodeRef::Master(1),
        }
    }

    fn object(revision: u32, conditions: &serde_json::Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": "x", "resourceVersion": revision.to_string()},
            "status": {"conditions": conditions},
        }))
        .unwrap()
    }

    #[test]
    fn status_and_reason_must_be_as_wanted() {
        let available = |status: &str| {
            object(
                1,
                &json!([
                    {"type": "Other", "status": "False"},
                    {"type": "Available", "status": status, "reason": "MissingEndpoints", "message": "m"},
                ]),
            )
        };
        for (reason, status, holds) in [
            (None, "False", true),
            (None, "True", false),
            (Some("MissingEndpoints"), "False", true),
            (Some("FailedDiscoveryCheck"), "False", false),
        ] {
            assert_eq!(judge(&wanted(reason), Some(&available(status))).holds, holds);
        }
        let saw = judge(&wanted(None), Some(&available("False"))).saw;
        assert_eq!(saw, "Available is False MissingEndpoints: m");
    }

    #[test]
    fn no_object_and_no_condition_meet_nothing() {
        assert!(!judge(&wanted(None), None).holds);
        assert!(!judge(&wanted(None), Some(&object(1, &json!([])))).holds);
        assert!(!judge(&wanted(None), Some(&object(1, &json!(null)))).holds);
    }

    #[test]
    fn only_newer_objects_change_the_state() {
        let mut state = Some(object(5, &json!([])));
        assert!(!apply(&mut state, Some(object(5, &json!([])))));
        assert!(!apply(&mut state, Some(object(4, &json!([])))));
        assert!(apply(&mut state, Some(object(10, &json!([])))));
        assert!(apply(&mut state, None));
        assert!(!apply(&mut state, None));
        assert!(apply(&mut state, Some(object(11, &json!([])))));
    }
}
