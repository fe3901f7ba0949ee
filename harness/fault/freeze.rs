//! Every process of a machine stands still until the revert, as in a virtual machine that is paused:
//! its kernel still accepts connections, and nobody answers.
//!
//! What else it changes: after the revert each process finds that time has passed. Leases have run
//! out, so controllers that were leaders end and are restarted. A process of the node that another
//! fault had paused goes on with the rest.

use std::time::Duration;

use futures::future::BoxFuture;

use super::process::until;
use super::serving::{self, Reply};
use super::{Issued, Primitive, Proof, all, each, nodes, record};
use crate::cluster::ClusterError;
use crate::cluster::client::Access;
use crate::scenario::{Freeze, NodeRef, Program};

/// Until nobody answers any more.
const STOP: Duration = Duration::from_secs(10);

/// Until the kubelet answers again.
const THAW: Duration = Duration::from_mins(1);

impl Freeze {
    async fn look(&self, access: &Access) -> Result<Proof, ClusterError> {
        let mut parts = each(self.on.iter().map(|on| Self::look_at(*on, access))).await?;
        parts.push(serving::elsewhere(&self.on, access).await?);
        Ok(all(parts))
    }

    async fn look_at(on: NodeRef, access: &Access) -> Result<Proof, ClusterError> {
        let (at, reply) = serving::ask(Program::Kubelet, on, access).await?;
        // Once the queue of connections that nobody takes is full, further ones get no answer.
        if matches!(reply, Reply::Silent | Reply::Unanswered) {
            return Ok(Ok(vec![format!("the kubelet of {on}, asked at {at}: {reply}")]));
        }
        Ok(Err(format!("the kubelet of {on}, asked at {at}: {reply}")))
    }

    async fn thaw(on: NodeRef, access: &Access) -> Result<(), ClusterError> {
        access.node(on)?.freeze(false).await?;
        until(THAW, || async {
            let (at, reply) = serving::ask(Program::Kubelet, on, access).await?;
            let missing = format!("the kubelet of {on}, asked at {at}: {reply}");
            Ok((reply != Reply::Answers).then_some(missing))
        })
        .await
    }
}

impl Primitive for Freeze {
    fn does(&self) -> String {
        format!("freeze {}", nodes(&self.on))
    }

    fn limit(&self) -> Duration {
        STOP + THAW
    }

    fn before<'a>(
        &'a self,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<serde_json::Value, ClusterError>> {
        Box::pin(async {
            for on in &self.on {
                let (at, reply) = serving::ask(Program::Kubelet, *on, access).await?;
                if reply != Reply::Answers {
                    let what =
                        format!("{on} can't be seen to freeze: its kubelet at {at}: {reply}");
                    return Err(ClusterError::new(what));
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
            each(self.on.iter().map(|on| async { access.node(*on)?.freeze(true).await })).await?;
            until(STOP, || async { Ok(self.look(access).await?.err()) }).await
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
        Box::pin(async { each(self.on.iter().map(|on| Self::thaw(*on, access))).await.map(drop) })
    }
}
