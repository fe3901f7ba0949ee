//! A machine loses its power: every process ends at once and nothing is synced, its disk stays. The
//! revert gives the power back, and the node boots from its disk.
//!
//! Proven from beside the cluster: nothing comes back from the node's address any more. What else it
//! changes: nothing; what the cluster does about it is what is to be seen.

use std::time::Duration;

use futures::future::BoxFuture;

use super::process::{running, until};
use super::serving::{self, Reply};
use super::{Issued, Primitive, Proof, all, each, nodes, record};
use crate::cluster::client::Access;
use crate::cluster::{ClusterError, Command, Service};
use crate::scenario::{NodeRef, PowerOff, Program};

/// Until nothing comes back from the node.
const OFF: Duration = Duration::from_secs(30);

/// Until the node's kubelet answers and has started its static pods. Its container runtime has to
/// clean up what the loss of power left.
const BOOT: Duration = Duration::from_mins(3);

/// The names of the static pods' components, as their manifests are called.
const STATIC: &str =
    "cd /etc/kubernetes/manifests 2>/dev/null || exit 0; ls | sed -n 's/\\.yaml$//p'";

impl PowerOff {
    async fn look(&self, access: &Access) -> Result<Proof, ClusterError> {
        let mut parts = each(self.on.iter().map(|on| Self::look_at(*on, access))).await?;
        parts.push(serving::elsewhere(&self.on, access).await?);
        Ok(all(parts))
    }

    async fn look_at(on: NodeRef, access: &Access) -> Result<Proof, ClusterError> {
        if access.node(on)?.powered() {
            return Ok(Err(format!("{on} is on")));
        }
        let (at, reply) = serving::ask(Program::Kubelet, on, access).await?;
        if reply.is_lost() {
            return Ok(Ok(vec![format!("{on} is off, {at}: {reply}")]));
        }
        Ok(Err(format!("{on} is off, but {at}: {reply}")))
    }

    async fn boot(on: NodeRef, access: &Access) -> Result<(), ClusterError> {
        let node = access.node(on)?;
        node.power(true).await?;
        // If an earlier boot ended half-way.
        node.service(Service::Containerd, true).await?;
        node.service(Service::Kubelet, true).await?;
        until(BOOT, || async {
            let (at, reply) = serving::ask(Program::Kubelet, on, access).await?;
            if reply != Reply::Answers {
                return Ok(Some(format!("the kubelet of {on}, asked at {at}: {reply}")));
            }
            let components = node.run(Command::new(["sh", "-c", STATIC])).await?.text();
            for component in components.lines() {
                if running(&**node, component).await?.is_empty() {
                    return Ok(Some(format!("no {component} runs on {on}")));
                }
            }
            Ok(None)
        })
        .await
    }
}

impl Primitive for PowerOff {
    fn does(&self) -> String {
        format!("power {} off", nodes(&self.on))
    }

    fn limit(&self) -> Duration {
        OFF + BOOT
    }

    fn before<'a>(
        &'a self,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<serde_json::Value, ClusterError>> {
        Box::pin(async {
            for on in &self.on {
                if !access.node(*on)?.powered() {
                    return Err(ClusterError::new(format!("{on} is off already")));
                }
            }
            record(&())
        })
    }

    fn inject<'a>(
        &'a self,
        _before: &'a serde_json::Value,
        access: &'a Access,
        issued: Issued,
    ) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(async {
            issued();
            each(self.on.iter().map(|on| async { access.node(*on)?.power(false).await })).await?;
            until(OFF, || async { Ok(self.look(access).await?.err()) }).await
        })
    }

    fn prove<'a>(
        &'a self,
        _before: &'a serde_json::Value,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<Proof, ClusterError>> {
        Box::pin(self.look(access))
    }

    fn revert<'a>(
        &'a self,
        _before: &'a serde_json::Value,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(async { each(self.on.iter().map(|on| Self::boot(*on, access))).await.map(drop) })
    }
}
