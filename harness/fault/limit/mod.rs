//! A program gets less of a CPU or of memory than it needs, until the revert; so does whatever takes
//! its process's place.
//!
//! A keeper on the node does what the kernel does for a container with limits, so that it is the same
//! on every provider, and no manifest changes: it stops a process (SIGSTOP) that has used its part of
//! a tenth of a second until the next, and kills one (SIGKILL) that takes too much memory. It looks
//! every 5 ms and every 100 ms.
//!
//! What else it changes: a component that is too slow fails its kubelet's probes, which restarts it;
//! what is killed is restarted after a back-off, which doubles up to 5 min. The kubelet tells exit code
//! 137 of a process that was killed, but not `OOMKilled`: that, containerd reads from its cgroup.

pub(super) mod keeper;

use std::time::Duration;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::helper::Helper;
use super::process::{RETURN_FROM_BACK_OFF, alive, checked, go_on, until};
use super::serving;
use super::{Issued, Primitive, Proof, all, each, nodes, record, recorded, short_hash};
use crate::cluster::client::Access;
use crate::cluster::{ClusterError, Command};
use crate::scenario::{Limit, NodeRef, Resource};
use keeper::{Done, Orders, PERIOD};

/// Until a program meets its limit: each does something every few seconds.
const EFFECT: Duration = Duration::from_secs(30);

/// The same once more, for a proof, which takes half a minute at most.
const AGAIN: Duration = Duration::from_secs(20);

/// The name of the keeper, the same on each node.
#[derive(Debug, Serialize, Deserialize)]
struct Before {
    name: String,
}

impl Before {
    fn keeper(&self) -> Helper<'_> {
        Helper { argument: keeper::ARGUMENT, name: &self.name }
    }

    /// What the keeper did.
    fn file(&self) -> String {
        format!("/run/{}.json", self.name)
    }

    /// What the keeper on a node did so far.
    async fn done(&self, on: NodeRef, access: &Access) -> Result<Done, ClusterError> {
        let read = Command::script(r#"cat "$1" 2>/dev/null || true"#, [self.file()]);
        let said = checked(&**access.node(on)?, read, "ask a keeper what it did").await?.text();
        if said.is_empty() {
            return Ok(Done::default());
        }
        serde_json::from_str(&said)
            .map_err(|error| ClusterError::caused(format!("a keeper says `{said}`"), error))
    }
}

impl Limit {
    async fn start(
        &self,
        on: NodeRef,
        before: &Before,
        access: &Access,
    ) -> Result<(), ClusterError> {
        let (name, program) = (before.name.clone(), self.component.name().to_owned());
        let orders = Orders { name, program, to: self.to, file: before.file().into() };
        before.keeper().start(&**access.node(on)?, &orders).await
    }

    async fn look(&self, before: &Before, access: &Access) -> Result<Proof, ClusterError> {
        Ok(all(each(self.on.iter().map(|on| self.look_on(*on, before, access))).await?))
    }

    /// Whether it has an effect, and not only had one: a program that is made to wait is so once more.
    async fn look_again(
        &self,
        on: NodeRef,
        before: &Before,
        access: &Access,
    ) -> Result<Proof, ClusterError> {
        let first = self.look_on(on, before, access).await?;
        let (Ok(_), Resource::Cpu(_)) = (&first, self.to) else { return Ok(first) };
        let waited = before.done(on, access).await?.waited;
        let again = until(AGAIN, || async {
            let now = before.done(on, access).await?.waited;
            Ok((now == waited).then(|| "nothing has to wait any more".to_owned()))
        });
        if let Err(error) = again.await {
            return Ok(Err(format!("{} on {on}: {error}", self.component.name())));
        }
        self.look_on(on, before, access).await
    }

    async fn look_on(
        &self,
        on: NodeRef,
        before: &Before,
        access: &Access,
    ) -> Result<Proof, ClusterError> {
        let (what, node) = (self.component.name(), access.node(on)?);
        let keepers = before.keeper().count(&**node).await?;
        if keepers != 1 {
            return Ok(Err(format!("{keepers} keepers of this limit run on {on}")));
        }
        let done = before.done(on, access).await?;
        Ok(match self.to {
            Resource::Cpu(_) if done.waited > 0 => Ok(vec![format!(
                "{what} on {on} was made to wait in {} of {} periods of {PERIOD:?}",
                done.waited, done.periods
            )]),
            Resource::Cpu(_) => Err(format!("{what} on {on} has not used its {} yet", self.to)),
            Resource::Memory(_) if done.killed > 0 => Ok(vec![format!(
                "{what} on {on} took {} MiB, times killed: {}",
                done.took >> 20,
                done.killed
            )]),
            Resource::Memory(_) => Err(format!("{what} on {on} takes no more than {}", self.to)),
        })
    }

    async fn release(
        &self,
        on: NodeRef,
        before: &Before,
        access: &Access,
    ) -> Result<(), ClusterError> {
        let node = access.node(on)?;
        if !node.powered() {
            // Its processes went with the power.
            return Ok(());
        }
        before.keeper().end(&**node).await?;
        go_on(&**node, self.component.name()).await?;
        until(RETURN_FROM_BACK_OFF, || serving::missing(self.component, on, access)).await
    }
}

impl Primitive for Limit {
    fn does(&self) -> String {
        let (what, on, to) = (self.component.name(), nodes(&self.on), self.to);
        match to {
            Resource::Cpu(_) => format!("limit {what} on {on} to {to} of a CPU"),
            Resource::Memory(_) => format!("limit {what} on {on} to {to} of memory"),
        }
    }

    fn limit(&self) -> Duration {
        EFFECT + RETURN_FROM_BACK_OFF
    }

    fn before<'a>(
        &'a self,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<serde_json::Value, ClusterError>> {
        Box::pin(async {
            let before = Before { name: format!("outage_limit_{:08x}", short_hash(self)?) };
            for on in &self.on {
                let node = access.node(*on)?;
                alive(&**node, self.component.name()).await?;
                if before.keeper().count(&**node).await? > 0 {
                    let context =
                        format!("{} on {on} is limited so already", self.component.name());
                    return Err(ClusterError::new(context));
                }
            }
            record(&before)
        })
    }

    fn inject<'a>(
        &'a self,
        before: &'a serde_json::Value,
        access: &'a Access,
        issued: Issued,
    ) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(async {
            let before: Before = recorded(before)?;
            issued();
            each(self.on.iter().map(|on| self.start(*on, &before, access))).await?;
            until(EFFECT, || async { Ok(self.look(&before, access).await?.err()) }).await
        })
    }

    fn prove<'a>(
        &'a self,
        before: &'a serde_json::Value,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<Proof, ClusterError>> {
        Box::pin(async {
            let before: Before = recorded(before)?;
            Ok(all(each(self.on.iter().map(|on| self.look_again(*on, &before, access))).await?))
        })
    }

    fn revert<'a>(
        &'a self,
        before: &'a serde_json::Value,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(async {
            let before: Before = recorded(before)?;
            each(self.on.iter().map(|on| self.release(*on, &before, access))).await.map(drop)
        })
    }
}
