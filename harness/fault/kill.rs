//! A program's process dies once by a signal; its supervisor brings it back: the kubelet, or the
//! node's init for the kubelet itself and containerd.
//!
//! Proven is that the very process that ran before is gone (by its id and the time of its start),
//! so the proof stays true when another runs in its place. What else it changes: nothing; but the
//! kubelet counts restarts, and waits before it restarts again what dies often (10 s and more,
//! doubled each time).

use std::time::Duration;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::process::{ProcessId, alive, checked, running, until};
use super::serving::{self, Reply};
use super::{Issued, Primitive, Proof, all, each, nodes, record, recorded};
use crate::cluster::client::Access;
use crate::cluster::{ClusterError, Command, Service};
use crate::scenario::{Kill, NodeRef, Program, Signal};

/// From the signal to the end. An apiserver waits up to 60 s for its clients' watches on SIGTERM,
/// but closes its port at once.
const DEATH: Duration = Duration::from_secs(30);

/// The restart: at once by the kubelet, unless it has begun to back off; 10 s by an init.
const RETURN: Duration = Duration::from_mins(2);

/// What was before on one node.
#[derive(Debug, Serialize, Deserialize)]
struct Before {
    on: NodeRef,
    processes: Vec<ProcessId>,
    /// Whether it can be seen to drain, as it did not refuse connections: one that has only just started
    /// refuses them as well as one that is about to end.
    drains: bool,
}

impl Kill {
    async fn processes(&self, on: NodeRef, access: &Access) -> Result<Before, ClusterError> {
        let processes = alive(&**access.node(on)?, self.component.name()).await?;
        let drains = self.signal == Signal::Term
            && serving::ask(self.component, on, access).await?.1 != Reply::Refused;
        Ok(Before { on, processes, drains })
    }

    async fn send(&self, before: &Before, access: &Access) -> Result<(), ClusterError> {
        let node = access.node(before.on)?;
        match self.component {
            Program::Kubelet => return node.kill(Service::Kubelet, self.signal).await,
            Program::Containerd => return node.kill(Service::Containerd, self.signal).await,
            Program::Component(_) | Program::KubeProxy => {}
        }
        let pids = before.processes.iter().map(|process| process.pid.to_string());
        let argv = ["kill", "-s", self.signal.name()].into_iter().map(Into::into).chain(pids);
        checked(&**node, Command::new::<String>(argv), "send the signal").await.map(drop)
    }

    async fn look(&self, before: &[Before], access: &Access) -> Result<Proof, ClusterError> {
        Ok(all(each(before.iter().map(|before| self.look_on(before, access))).await?))
    }

    async fn look_on(&self, before: &Before, access: &Access) -> Result<Proof, ClusterError> {
        let (what, on) = (self.component.name(), before.on);
        let now = running(&**access.node(on)?, what).await?;
        let is_old = |process: &&super::process::Process| before.processes.contains(&process.id);
        if let Some(old) = now.iter().find(is_old) {
            let pid = old.id.pid;
            if before.drains
                && let (at, Reply::Refused) = serving::ask(self.component, on, access).await?
            {
                return Ok(Ok(vec![format!(
                    "process {pid} of {what} on {on} is draining, {at} refuses connections"
                )]));
            }
            return Ok(Err(format!("process {pid} of {what} on {on} still runs")));
        }
        let pids = before.processes.iter().map(|process| process.pid.to_string());
        let gone = pids.collect::<Vec<_>>().join(", ");
        let instead = match now.first() {
            Some(process) => format!("process {} runs in its place", process.id.pid),
            None => "none runs in its place yet".to_owned(),
        };
        Ok(Ok(vec![format!("process {gone} of {what} on {on} is gone, {instead}")]))
    }

    async fn back(&self, on: NodeRef, access: &Access) -> Result<(), ClusterError> {
        let node = access.node(on)?;
        match self.component {
            Program::Kubelet => node.service(Service::Kubelet, true).await?,
            Program::Containerd => node.service(Service::Containerd, true).await?,
            Program::Component(_) | Program::KubeProxy => {}
        }
        until(RETURN, || serving::missing(self.component, on, access)).await
    }
}

impl Primitive for Kill {
    fn does(&self) -> String {
        let on = nodes(&self.on);
        format!("kill {} on {on} by SIG{}", self.component.name(), self.signal.name())
    }

    fn limit(&self) -> Duration {
        DEATH + RETURN
    }

    fn before<'a>(
        &'a self,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<serde_json::Value, ClusterError>> {
        Box::pin(async {
            record(&each(self.on.iter().map(|on| self.processes(*on, access))).await?)
        })
    }

    fn inject<'a>(
        &'a self,
        before: &'a serde_json::Value,
        access: &'a Access,
        issued: Issued,
    ) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(async {
            let before: Vec<Before> = recorded(before)?;
            issued();
            each(before.iter().map(|before| self.send(before, access))).await?;
            until(DEATH, || async { Ok(self.look(&before, access).await?.err()) }).await
        })
    }

    fn prove<'a>(
        &'a self,
        before: &'a serde_json::Value,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<Proof, ClusterError>> {
        Box::pin(async {
            let before: Vec<Before> = recorded(before)?;
            self.look(&before, access).await
        })
    }

    fn revert<'a>(
        &'a self,
        _before: &'a serde_json::Value,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(async { each(self.on.iter().map(|on| self.back(*on, access))).await.map(drop) })
    }
}
