//! A program's process stands still (SIGSTOP) until the revert: the kernel still accepts connections
//! for it, and nobody answers.
//!
//! What else happens: the kubelet's liveness probe of a static pod fails, too. With kubeadm's figures
//! (eight failures, 10 s apart, each after up to 15 s) the kubelet gives the process up after 80 to
//! 120 s, and starts another 30 s later. Then the pause is lost, which the proof says: it looks for
//! the very process that was stopped. A kubelet or containerd that is paused has no such watcher in
//! the node.
//! <https://github.com/kubernetes/kubernetes/blob/v1.34.4/cmd/kubeadm/app/util/staticpod/utils.go>

use std::time::Duration;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::process::{ProcessId, alive, checked, go_on, running, until};
use super::serving::{self, Reply};
use super::{Issued, Primitive, Proof, all, each, nodes, record, recorded};
use crate::cluster::client::Access;
use crate::cluster::{ClusterError, Command};
use crate::scenario::{NodeRef, Pause};

/// Until a stopped process is seen to be.
const STOP: Duration = Duration::from_secs(10);

/// Until it answers again; if it was killed in the meantime, until its successor does.
const RETURN: Duration = Duration::from_mins(2);

/// What was before on one node.
#[derive(Debug, Serialize, Deserialize)]
struct Before {
    on: NodeRef,
    processes: Vec<ProcessId>,
}

impl Pause {
    async fn processes(&self, on: NodeRef, access: &Access) -> Result<Before, ClusterError> {
        let processes = alive(&**access.node(on)?, self.component.name()).await?;
        Ok(Before { on, processes })
    }

    async fn stop(before: &Before, access: &Access) -> Result<(), ClusterError> {
        let pids = before.processes.iter().map(|process| process.pid.to_string());
        let argv = ["kill", "-s", "STOP"].into_iter().map(Into::into).chain(pids);
        let node = access.node(before.on)?;
        checked(&**node, Command::new::<String>(argv), "pause the process").await.map(drop)
    }

    async fn look(&self, before: &[Before], access: &Access) -> Result<Proof, ClusterError> {
        Ok(all(each(before.iter().map(|before| self.look_on(before, access))).await?))
    }

    async fn look_on(&self, before: &Before, access: &Access) -> Result<Proof, ClusterError> {
        let (what, on) = (self.component.name(), before.on);
        let now = running(&**access.node(on)?, what).await?;
        let mut evidence = vec![];
        for id in &before.processes {
            match now.iter().find(|process| process.id == *id) {
                Some(process) if process.state == 'T' => {
                    evidence.push(format!("process {} of {what} on {on} is stopped", id.pid));
                }
                Some(process) => {
                    let (pid, state) = (id.pid, process.state);
                    return Ok(Err(format!("process {pid} of {what} on {on} is in state {state}")));
                }
                None => {
                    let pid = id.pid;
                    return Ok(Err(format!("process {pid} of {what} on {on} is gone")));
                }
            }
        }
        match serving::ask(self.component, on, access).await? {
            // Once the queue of connections that nobody takes is full, further ones get no answer.
            (at, reply @ (Reply::Silent | Reply::Unanswered)) => {
                evidence.push(format!("{at}: {reply}"));
            }
            (at, reply) => return Ok(Err(format!("{at}: {reply}"))),
        }
        // A paused runtime has no effect on what runs; a kubelet that waits for it still answers.
        Ok(serving::beside(self.component, on, access).await?.map(|beside| {
            evidence.push(beside);
            evidence
        }))
    }

    async fn go_on(&self, on: NodeRef, access: &Access) -> Result<(), ClusterError> {
        // It may have been killed since.
        go_on(&**access.node(on)?, self.component.name()).await?;
        until(RETURN, || serving::missing(self.component, on, access)).await
    }
}

impl Primitive for Pause {
    fn does(&self) -> String {
        format!("pause {} on {}", self.component.name(), nodes(&self.on))
    }

    fn limit(&self) -> Duration {
        STOP + RETURN
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
            each(before.iter().map(|before| Self::stop(before, access))).await?;
            until(STOP, || async { Ok(self.look(&before, access).await?.err()) }).await
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
        Box::pin(async { each(self.on.iter().map(|on| self.go_on(*on, access))).await.map(drop) })
    }
}
