//! A condition in the status of any object, as one apiserver tells it. Watched, so that no
//! transition is missed, and read anew at the probe's period.

use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use kube::api::DynamicObject;
use kube::runtime::{WatchStreamExt, watcher};

use super::{
    Changes, Concerned, Look, Observation, Sink, kind, listen, metric, newer, pattern, read,
};
use crate::cluster::ClusterError;
use crate::cluster::client::Access;
use crate::scenario::{Condition, ConditionSide};

impl Look for Condition {
    fn wanted(&self) -> String {
        let Self { condition, through, .. } = self;
        let of: String = self.concerned().iter().map(ToString::to_string).collect();
        let wanted = match &self.is {
            ConditionSide::State { status, reason, message } => {
                let reason = reason.as_ref().map(|r| format!(" because of {r}"));
                let message = message.as_ref().map(|m| format!(" with {m}"));
                [format!("is {status}"), reason.unwrap_or_default(), message.unwrap_or_default()]
                    .concat()
            }
            ConditionSide::Changes(wanted) => format!("changes {} times", metric::words(*wanted)),
        };
        format!("condition {condition} of {of} {wanted}, as {through} tells")
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
            let judge = judge(self)?;
            let judge = |object: &Option<DynamicObject>| judge(object.as_ref());
            listen(every, sink, || read(api.get_opt(&self.name)), changes, newer, judge).await
        })
    }
}

/// The status of the condition, its reason and its message; or why there is none.
fn found(wanted: &Condition, object: Option<&DynamicObject>) -> Result<[String; 3], String> {
    let Condition { kind, name, condition, .. } = wanted;
    let Some(object) = object else { return Err(format!("there is no {kind} {name}")) };
    let conditions = object.data.pointer("/status/conditions").and_then(|list| list.as_array());
    let of_type = |entry: &&serde_json::Value| entry["type"].as_str() == Some(condition.as_str());
    let Some(found) = conditions.into_iter().flatten().find(of_type) else {
        return Err(format!("{kind} {name} has no condition {condition}"));
    };
    Ok(["status", "reason", "message"].map(|f| found[f].as_str().unwrap_or_default().to_owned()))
}

/// What is to be made of one state of the object after another.
fn judge(
    wanted: &Condition,
) -> Result<impl Fn(Option<&DynamicObject>) -> Observation, ClusterError> {
    let message = match &wanted.is {
        ConditionSide::State { message: Some(message), .. } => Some(pattern(message)?),
        ConditionSide::State { .. } | ConditionSide::Changes(_) => None,
    };
    let seen = Mutex::new(Changes::default());
    Ok(move |object: Option<&DynamicObject>| {
        let [status, reason, said] = match found(wanted, object) {
            Ok(found) => found,
            Err(why) => return Observation::nothing(why),
        };
        let changes = {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.see(&status);
            seen.count
        };
        let mut saw = format!("{} is {status}", wanted.condition);
        for (mark, text) in [(" ", &reason), (": ", &said)] {
            if !text.is_empty() {
                saw.push_str(mark);
                saw.push_str(text);
            }
        }
        match &wanted.is {
            ConditionSide::State { status: s, reason: r, .. } => {
                let fits = message.as_ref().is_none_or(|message| message.is_match(&said));
                let holds = *s == status && r.as_ref().is_none_or(|r| *r == reason) && fits;
                Observation { holds, saw }
            }
            ConditionSide::Changes(wanted) => {
                let holds = metric::judge(*wanted, Some(changes.into())).holds;
                Observation { holds, saw: format!("{changes} changes; {saw}") }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::scenario::{NodeRef, Wanted};

    fn wanted(reason: Option<&str>) -> Condition {
        Condition {
            api_version: "apiregistration.k8s.io/v1".into(),
            kind: "APIService".into(),
            namespace: None,
            name: "v1beta1.metrics.k8s.io".into(),
            condition: "Available".into(),
            is: ConditionSide::State {
                status: "False".into(),
                reason: reason.map(Into::into),
                message: None,
            },
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
            assert_eq!(judge(&wanted(reason)).unwrap()(Some(&available(status))).holds, holds);
        }
        let saw = judge(&wanted(None)).unwrap()(Some(&available("False"))).saw;
        assert_eq!(saw, "Available is False MissingEndpoints: m");
    }

    #[test]
    fn the_message_is_compared_too() {
        let said = |text: &str| {
            let text = text.to_owned();
            object(1, &json!([{"type": "Available", "status": "False", "message": text}]))
        };
        let wanted = Condition {
            is: ConditionSide::State {
                status: "False".into(),
                reason: None,
                message: Some("Client.Timeout|deadline".into()),
            },
            ..wanted(None)
        };
        let judge = judge(&wanted).unwrap();
        assert!(judge(Some(&said("x: Client.Timeout exceeded"))).holds);
        assert!(!judge(Some(&said("bad status: 403"))).holds);
    }

    #[test]
    fn changes_of_the_status_are_counted() {
        let is = ConditionSide::Changes(Wanted::AtLeast(2.0));
        let wanted = Condition { is, ..wanted(None) };
        let judge = judge(&wanted).unwrap();
        let see = |status: &str, reason: &str| {
            let status = json!([{"type": "Available", "status": status, "reason": reason}]);
            judge(Some(&object(1, &status)))
        };
        assert!(!see("True", "a").holds);
        assert!(!see("False", "a").holds);
        // Another reason is no change of the status.
        assert!(!see("False", "b").holds);
        let last = see("True", "a");
        assert!(last.holds);
        assert_eq!(last.saw, "2 changes; Available is True a");
    }

    #[test]
    fn no_object_and_no_condition_meet_nothing() {
        let wanted = wanted(None);
        let judge = judge(&wanted).unwrap();
        assert!(!judge(None).holds);
        assert!(!judge(Some(&object(1, &json!([])))).holds);
        assert!(!judge(Some(&object(1, &json!(null)))).holds);
    }

    #[test]
    fn only_newer_objects_change_the_state() {
        let mut state = Some(object(5, &json!([])));
        assert!(!newer(&mut state, Some(object(5, &json!([])))));
        assert!(!newer(&mut state, Some(object(4, &json!([])))));
        assert!(newer(&mut state, Some(object(10, &json!([])))));
        assert!(newer(&mut state, None));
        assert!(!newer(&mut state, None));
        assert!(newer(&mut state, Some(object(11, &json!([])))));
    }
}
