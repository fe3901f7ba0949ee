//! A workload gets another number of pods, by its `scale` subresource, which every kind that can be
//! scaled has. It is in place when its controller has seen it and so many pods are there, those
//! that are ending among them.

use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::autoscaling::v1::Scale as Scaling;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Door, LIMIT, MANAGER, ask, by_any, insist, namespace, words_of_through};
use crate::cluster::ClusterError;
use crate::cluster::client::Access;
use crate::fault::process::until;
use crate::fault::{Issued, Primitive, Proof, record, recorded};
use crate::scenario::Scale;

/// How long pods may take to come or to go: 30 s of grace, and as much for a busy machine.
const SCALED: Duration = Duration::from_secs(75);

/// What was before.
#[derive(Debug, Serialize, Deserialize)]
struct Before {
    replicas: i32,
}

/// How many pods are wanted, and how many the controller counts.
fn replicas(scale: &Scaling) -> (i32, i32) {
    let wanted = scale.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0);
    (wanted, scale.status.as_ref().map_or(0, |status| status.replicas))
}

impl Scale {
    async fn scaling(&self, door: &Door) -> Result<Scaling, ClusterError> {
        let what = format!("read the scale of {} through {}", self.object, door.master);
        insist(&what, || door.api.get_scale(&self.object.name)).await
    }

    async fn found(&self, access: &Access) -> Result<Before, ClusterError> {
        let door = Door::to(access, &self.object, self.through).await?;
        let (replicas, _) = replicas(&self.scaling(&door).await?);
        if replicas == self.replicas {
            let context = format!("{} already has {replicas} replicas", self.object);
            return Err(ClusterError::new(context));
        }
        Ok(Before { replicas })
    }

    async fn scale(&self, access: &Access, issued: Issued) -> Result<(), ClusterError> {
        let door = Door::to(access, &self.object, self.through).await?;
        let what = format!("scale {} through {}", self.object, door.master);
        issued();
        insist(&what, || self.set(&door, self.replicas)).await?;
        until(SCALED, || async { Ok(self.look(access).await?.err()) }).await
    }

    async fn set(&self, door: &Door, replicas: i32) -> kube::Result<Scaling> {
        let parameters =
            PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        door.api.patch_scale(&self.object.name, &parameters, &patch).await
    }

    async fn look(&self, access: &Access) -> Result<Proof, ClusterError> {
        let door = Door::beside(access, &self.object, self.through).await?;
        let (object, master) = (&self.object, door.master);
        let scaling = self.scaling(&door).await?;
        let (wanted, counted) = replicas(&scaling);
        if (wanted, counted) != (self.replicas, self.replicas) {
            let said = format!("{object} has {counted} pods and wants {wanted}");
            return Ok(Err(format!("{said}, as {master} tells")));
        }
        let mut evidence = vec![format!("{object} has {counted} pods, as {master} tells")];
        if let Some(selector) = scaling.status.and_then(|status| status.selector) {
            let pods: Api<Pod> = Api::namespaced(door.client.clone(), namespace(object));
            let what = format!("list the pods of {object} through {master}");
            let labels = ListParams::default().labels(&selector);
            let pods = insist(&what, || pods.list_metadata(&labels)).await?;
            let names: Vec<_> = pods.items.iter().map(ResourceExt::name_any).collect();
            if usize::try_from(self.replicas) != Ok(names.len()) {
                let names = names.join(", ");
                return Ok(Err(format!("the pods of {object} are, as {master} tells: {names}")));
            }
            evidence.push(format!("{} pods match {selector}", names.len()));
        }
        Ok(Ok(evidence))
    }

    async fn restore(&self, before: &Before, door: Door) -> Result<Option<String>, ClusterError> {
        let (object, wanted) = (&self.object, before.replicas);
        let (set, counted) = replicas(&self.scaling(&door).await?);
        if set != wanted {
            let what = format!("scale {object} back through {}", door.master);
            ask(&what, self.set(&door, wanted)).await?;
        }
        Ok((counted != wanted).then(|| format!("{object} has {counted} pods, not {wanted}")))
    }
}

impl Primitive for Scale {
    fn does(&self) -> String {
        format!("scale {} to {}{}", self.object, self.replicas, words_of_through(self.through))
    }

    fn limit(&self) -> Duration {
        LIMIT
    }

    fn before<'a>(
        &'a self,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<serde_json::Value, ClusterError>> {
        Box::pin(async { record(&self.found(access).await?) })
    }

    fn inject<'a>(
        &'a self,
        _: &'a serde_json::Value,
        access: &'a Access,
        issued: Issued,
    ) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(self.scale(access, issued))
    }

    fn prove<'a>(
        &'a self,
        _: &'a serde_json::Value,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<Proof, ClusterError>> {
        Box::pin(self.look(access))
    }

    fn revert<'a>(
        &'a self,
        before: &'a serde_json::Value,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(async {
            let before: Before = recorded(before)?;
            let before = &before;
            by_any(access, &self.object, |door| self.restore(before, door)).await
        })
    }
}
