//! Faults of objects of the API: what they share. Each asks one apiserver, is proven through
//! another one where there is one, and is taken back through whichever answers.
//!
//! A revert goes in steps: look, do what is missing, look again. So it need not know how far an
//! injection, or an earlier revert, has come.

mod apply;
mod delete;
pub(super) mod fields;
mod patch;
mod scale;

use std::time::Duration;

use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use kube::discovery::{self, Scope};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use super::process::until;
use crate::cluster::ClusterError;
use crate::cluster::client::{Access, gvk, words};
use crate::scenario::{NodeRef, ObjectRef};

/// How long one request may take.
const ANSWER: Duration = Duration::from_secs(5);

/// How long requests are repeated that another try may serve.
const PATIENCE: Duration = Duration::from_secs(20);

/// From one try to the next.
const PERIOD: Duration = Duration::from_millis(200);

/// How long a revert may take: the end of a namespace among them, whose controller's pause before it
/// tries again doubles up to a minute
/// (<https://github.com/kubernetes/kubernetes/blob/v1.34.4/pkg/controller/namespace/namespace_controller.go>),
/// when each apiserver has learnt that an aggregated API is back, after up to another minute
/// (<https://github.com/kubernetes/kube-aggregator/blob/v0.34.4/pkg/apiserver/handler_discovery.go>).
const BACK: Duration = Duration::from_mins(5);

/// How long a fault of an object may take.
const LIMIT: Duration = Duration::from_mins(6);

/// Who owns the fields that an apply sets.
const MANAGER: &str = "outage";

/// What was before.
#[derive(Debug, Serialize, Deserialize)]
struct Before {
    /// The object, if there was one.
    object: Option<Value>,
}

/// A kind of object as one apiserver serves it.
struct Door {
    master: NodeRef,
    client: kube::Client,
    api: Api<DynamicObject>,
}

impl Door {
    /// Asks one apiserver what the kind's plural is and whether it has namespaces. Only the kind's
    /// own group is asked for: another one may be just what is broken.
    async fn open(
        access: &Access,
        master: NodeRef,
        object: &ObjectRef,
    ) -> Result<Self, ClusterError> {
        let client = access.kube(master)?;
        let gvk = gvk(&object.api_version, &object.kind)?;
        let what = format!("ask {master} for {} of {}", object.kind, object.api_version);
        let (resource, capabilities) = ask(&what, discovery::pinned_kind(&client, &gvk)).await?;
        let api = match capabilities.scope {
            Scope::Cluster => Api::all_with(client.clone(), &resource),
            Scope::Namespaced => Api::namespaced_with(client.clone(), namespace(object), &resource),
        };
        Ok(Self { master, client, api })
    }

    /// Through the apiserver that the file names, or else the first that answers.
    async fn to(
        access: &Access,
        object: &ObjectRef,
        through: Option<NodeRef>,
    ) -> Result<Self, ClusterError> {
        let masters = through.map_or_else(|| masters(access), |master| vec![master]);
        Self::first(access, object, masters, false).await
    }

    /// Through another apiserver than the one that was asked to change something, if one can read the
    /// object: which one can't may be just what is broken.
    async fn beside(
        access: &Access,
        object: &ObjectRef,
        through: Option<NodeRef>,
    ) -> Result<Self, ClusterError> {
        let mut masters = masters(access);
        masters.reverse();
        // Stable: the others stay in their order.
        masters.sort_by_key(|master| Some(*master) == through);
        Self::first(access, object, masters, true).await
    }

    async fn first(
        access: &Access,
        object: &ObjectRef,
        masters: Vec<NodeRef>,
        reads: bool,
    ) -> Result<Self, ClusterError> {
        let mut last = ClusterError::new("the cluster has no master");
        for master in masters {
            let opened = async {
                let door = Self::open(access, master, object).await?;
                if reads {
                    let what = format!("read {object} through {master}");
                    ask(&what, door.api.get_opt(&object.name)).await?;
                }
                Ok(door)
            };
            match opened.await {
                Ok(door) => return Ok(door),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The object as JSON, if there is one.
    async fn get(&self, object: &ObjectRef) -> Result<Option<Value>, ClusterError> {
        let what = format!("read {object} through {}", self.master);
        let found = insist(&what, || self.api.get_opt(&object.name)).await?;
        let json = found.map(serde_json::to_value).transpose();
        json.map_err(|error| ClusterError::caused(what, error))
    }

    /// Deletes just this object, not another that took its place.
    async fn delete(&self, object: &ObjectRef, found: &Value) -> Result<(), ClusterError> {
        let uid = found.pointer("/metadata/uid").and_then(Value::as_str).map(Into::into);
        let preconditions = Preconditions { uid, resource_version: None };
        let parameters = DeleteParams::background().preconditions(preconditions);
        let what = format!("delete {object} through {}", self.master);
        ask(&what, self.api.delete(&object.name, &parameters)).await.map(drop)
    }
}

/// Until an apiserver has learnt of a kind whose definition was applied just before.
const LEARNT: Duration = Duration::from_secs(10);

/// Waits until each apiserver that answers serves the object's kind. Only what a definition may have
/// brought is asked for.
async fn learnt(access: &Access, object: &ObjectRef) -> Result<(), ClusterError> {
    let group = object.api_version.split_once('/').map_or("", |(group, _)| group);
    if !group.contains('.') || group.ends_with(".k8s.io") {
        return Ok(());
    }
    let (start, gvk) = (Instant::now(), gvk(&object.api_version, &object.kind)?);
    for master in masters(access) {
        let client = access.kube(master)?;
        while start.elapsed() < LEARNT {
            match tokio::time::timeout(ANSWER, discovery::pinned_kind(&client, &gvk)).await {
                Ok(Err(kube::Error::Discovery(_))) => {}
                Ok(Err(kube::Error::Api(status))) if status.code == 404 => {}
                _ => break, // Whatever else is wrong, the request itself will tell.
            }
            tokio::time::sleep(PERIOD).await;
        }
    }
    Ok(())
}

fn masters(access: &Access) -> Vec<NodeRef> {
    access.masters().map(|node| node.id()).collect()
}

fn namespace(object: &ObjectRef) -> &str {
    object.namespace.as_deref().unwrap_or("default")
}

fn words_of_through(through: Option<NodeRef>) -> String {
    through.map(|master| format!(" through {master}")).unwrap_or_default()
}

/// One request, bounded.
async fn ask<T>(
    what: &str,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, ClusterError> {
    match tokio::time::timeout(ANSWER, request).await {
        Ok(answer) => answer.map_err(|error| ClusterError::caused(what, error)),
        Err(_) => Err(ClusterError::new(format!("{what}: no answer in {ANSWER:?}"))),
    }
}

/// A request that must be served, repeated for a while where another try may be.
async fn insist<T, F>(what: &str, mut request: impl FnMut() -> F) -> Result<T, ClusterError>
where
    F: Future<Output = kube::Result<T>>,
{
    let start = Instant::now();
    loop {
        let answer = tokio::time::timeout(ANSWER, request()).await;
        let failure = match answer {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) if is_final(&error) => return Err(ClusterError::caused(what, error)),
            Ok(Err(error)) => ClusterError::caused(what, error),
            Err(_) => ClusterError::new(format!("{what}: no answer in {ANSWER:?}")),
        };
        if start.elapsed() >= PATIENCE {
            return Err(failure);
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// What the API says of a manifest with fields that its kind does not have, with a code that is none
/// of a bad request.
/// <https://github.com/kubernetes/kubernetes/blob/v1.34.4/staging/src/k8s.io/apimachinery/pkg/util/managedfields/internal/structuredmerge.go>
const BAD_MANIFEST: [&str; 2] =
    ["failed to create typed patch object", "field not declared in schema"];

/// Whether the same request would be answered the same way again.
fn is_final(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) if status.code == 409 => status.reason == "AlreadyExists",
        kube::Error::Api(status) if status.code == 500 => {
            BAD_MANIFEST.iter().any(|said| status.message.contains(said))
        }
        kube::Error::Api(status) => status.code < 500 && status.code != 429,
        _ => false,
    }
}

/// Whether an object is marked for deletion, and what holds it, in words.
fn deleting(object: &Value) -> Option<String> {
    let since = object.pointer("/metadata/deletionTimestamp")?.as_str()?;
    let mut said = format!("is being deleted since {since}");
    for path in ["/metadata/finalizers", "/spec/finalizers"] {
        let names = object.pointer(path).and_then(Value::as_array).into_iter().flatten();
        let names: Vec<_> = names.filter_map(Value::as_str).collect();
        if !names.is_empty() {
            said.push_str(", held by ");
            said.push_str(&names.join(", "));
        }
    }
    Some(said)
}

/// Takes steps through whichever apiserver answers, until nothing is missing.
async fn by_any<F>(
    access: &Access,
    object: &ObjectRef,
    step: impl Fn(Door) -> F,
) -> Result<(), ClusterError>
where
    F: Future<Output = Result<Option<String>, ClusterError>>,
{
    until(BACK, || async {
        let mut missing = None;
        for master in masters(access) {
            let tried = async { step(Door::open(access, master, object).await?).await };
            match tried.await {
                Ok(left) => return Ok(left),
                Err(error) => missing = Some(words(&error)),
            }
        }
        Ok(missing)
    })
    .await
}

/// Brings an object back to what it was, as far as `change` concerns it.
async fn bring_back(
    access: &Access,
    object: &ObjectRef,
    before: &Before,
    change: &Value,
) -> Result<(), ClusterError> {
    let step = |door: Door| async move { back(&door, object, before, change).await };
    by_any(access, object, step).await
}

/// One step of it; what is still missing after it, as far as it is known.
async fn back(
    door: &Door,
    object: &ObjectRef,
    before: &Before,
    change: &Value,
) -> Result<Option<String>, ClusterError> {
    let now = door.get(object).await?;
    match (&before.object, now) {
        (None, None) => Ok(None),
        (None, Some(now)) => {
            if let Some(held) = deleting(&now) {
                return Ok(Some(format!("{object} {held}")));
            }
            door.delete(object, &now).await?;
            Ok(Some(format!("{object} is still there")))
        }
        (Some(before), None) => {
            let what = format!("create {object} through {}", door.master);
            let anew: DynamicObject = serde_json::from_value(fields::anew(before))
                .map_err(|error| ClusterError::caused(what.clone(), error))?;
            ask(&what, door.api.create(&PostParams::default(), &anew)).await?;
            Ok(Some(format!("{object} is not there again")))
        }
        (Some(before), Some(now)) => {
            if let Some(held) = deleting(&now) {
                return Ok(Some(format!("{object} {held}")));
            }
            let patch = fields::restoring(change, before, &now);
            if fields::merged(&now, &patch) == now {
                return Ok(None);
            }
            let what = format!("restore {object} through {}", door.master);
            let parameters =
                PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
            ask(&what, door.api.patch(&object.name, &parameters, &Patch::Merge(&patch))).await?;
            Ok(Some(format!("{object} is not as it was")))
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_may_pass_is_asked_again() {
        let bad = "failed to create typed patch object (/a; /v1, Kind=Namespace): .spec.x: field not \
                   declared in schema";
        for (code, message, reason, wanted) in [
            (409, "no", "Conflict", false),
            (409, "no", "AlreadyExists", true),
            (429, "no", "TooManyRequests", false),
            (500, "no", "InternalError", false),
            (500, bad, "", true),
            (503, "no", "ServiceUnavailable", false),
            (400, "no", "BadRequest", true),
            (401, "no", "Unauthorized", true),
            (403, "no", "Forbidden", true),
            (404, "no", "NotFound", true),
            (422, "no", "Invalid", true),
        ] {
            let error = Status::failure(message, reason).with_code(code);
            let error = kube::Error::Api(error.boxed());
            assert_eq!(is_final(&error), wanted, "{code} {reason}");
        }
    }

    #[test]
    fn what_holds_an_object_is_said() {
        assert_eq!(deleting(&json!({"metadata": {"finalizers": ["x"]}})), None);
        let held = json!({
            "metadata": {"deletionTimestamp": "then", "finalizers": ["a/b"]},
            "spec": {"finalizers": ["kubernetes"]},
        });
        let wanted = "is being deleted since then, held by a/b, held by kubernetes";
        assert_eq!(deleting(&held).unwrap(), wanted);
    }
}
