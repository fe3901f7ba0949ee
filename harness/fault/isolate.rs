//! A machine is cut off from the network between nodes, both ways, its pods with it; inside it all
//! goes on. Packets vanish at its network interface, as behind a switch that filters: programs on
//! both sides see silence. (A pulled cable would say "no route to host" after a while; so does
//! `powerOff`.)
//!
//! What else it changes: nothing. The rules are in a netdev table: an `output` rule would tell the
//! sender of a datagram at once.

use std::time::Duration;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::process::{checked, until};
use super::serving::{self, KUBELET_PORT, Reply};
use super::{Issued, Primitive, Proof, all, each, nft, nodes, record, recorded};
use crate::cluster::client::{Access, Vantage};
use crate::cluster::{ClusterError, Command};
use crate::scenario::{Isolate, NodeRef, Program};

/// Until the silence is seen, or its end.
const CUT: Duration = Duration::from_secs(30);

const TABLE: &str = "netdev outage_isolate";

/// Says which interface has the node's address ($1).
const INTERFACE: &str = r#"ip -o address show | grep -F " $1/" | head -n 1 | cut -d ' ' -f 2"#;

/// What was before on one node.
#[derive(Debug, Serialize, Deserialize)]
struct Before {
    on: NodeRef,
    interface: String,
}

impl Isolate {
    async fn interface(on: NodeRef, access: &Access) -> Result<Before, ClusterError> {
        let node = access.node(on)?;
        nft::absent(&**node, TABLE).await?;
        let find = Command::script(INTERFACE, [node.address().to_string()]);
        let interface = checked(&**node, find, "find the network interface").await?.text();
        if interface.is_empty() {
            let address = node.address();
            return Err(ClusterError::new(format!("no interface of {on} has {address}")));
        }
        if let Some(missing) = Self::unreached(on, access).await? {
            return Err(ClusterError::new(format!("{on} can't be seen to be cut off: {missing}")));
        }
        Ok(Before { on, interface })
    }

    async fn unreached(on: NodeRef, access: &Access) -> Result<Option<String>, ClusterError> {
        let (at, reply) = serving::ask(Program::Kubelet, on, access).await?;
        let missing = format!("the kubelet of {on}, asked at {at}: {reply}");
        Ok((reply != Reply::Answers).then_some(missing))
    }

    async fn look(&self, access: &Access) -> Result<Proof, ClusterError> {
        let mut parts = each(self.on.iter().map(|on| self.look_at(*on, access))).await?;
        parts.push(serving::elsewhere(&self.on, access).await?);
        Ok(all(parts))
    }

    async fn look_at(&self, on: NodeRef, access: &Access) -> Result<Proof, ClusterError> {
        let node = access.node(on)?;
        let Some(earlier) = nft::packets(&**node, TABLE).await? else {
            return Ok(Err(format!("{on} has no table {TABLE}")));
        };
        let (at, reply) = serving::ask(Program::Kubelet, on, access).await?;
        if !reply.is_lost() {
            return Ok(Err(format!("the kubelet of {on}, asked at {at}: {reply}")));
        }
        let mut evidence = vec![format!("the kubelet of {on}, asked at {at}: {reply}")];
        let mut peers = access.cluster().nodes().iter();
        if let Some(peer) = peers.find(|peer| peer.id() != on) {
            let at = (peer.address(), KUBELET_PORT).into();
            let reply = serving::ask_at(Vantage::Node(on), at, access).await?;
            if !reply.is_lost() {
                return Ok(Err(format!("{on} still asks {at}: {reply}")));
            }
            evidence.push(format!("{at}, asked from {on}: {reply}"));
        }
        let met = nft::packets(&**node, TABLE).await?.unwrap_or(0).saturating_sub(earlier);
        if met == 0 {
            return Ok(Err(format!("the rules on {on} met no packet")));
        }
        evidence.push(format!("the rules on {on} met {met} packets"));
        let own = ([127, 0, 0, 1], KUBELET_PORT).into();
        match serving::ask_at(Vantage::Node(on), own, access).await? {
            Reply::Answers => evidence.push(format!("inside {on}, its kubelet answers at {own}")),
            reply => return Ok(Err(format!("inside {on}, its kubelet at {own}: {reply}"))),
        }
        Ok(Ok(evidence))
    }

    async fn join(on: NodeRef, access: &Access) -> Result<(), ClusterError> {
        let node = access.node(on)?;
        if !node.powered() {
            // Its rules went with the power.
            return Ok(());
        }
        nft::take_away(&**node, TABLE).await?;
        until(CUT, || Self::unreached(on, access)).await
    }
}

/// ARP passes, so that peers go on sending.
fn chains(interface: &str) -> String {
    let chain = |hook: &str| {
        format!(
            "chain {hook} {{ type filter hook {hook} device \"{interface}\" priority 0; \
             meta protocol {{ ip, ip6 }} counter drop; }}\n"
        )
    };
    chain("ingress") + &chain("egress")
}

impl Primitive for Isolate {
    fn does(&self) -> String {
        format!("cut {} off from the network", nodes(&self.on))
    }

    fn limit(&self) -> Duration {
        CUT * 2
    }

    fn before<'a>(
        &'a self,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<serde_json::Value, ClusterError>> {
        Box::pin(async {
            record(&each(self.on.iter().map(|on| Self::interface(*on, access))).await?)
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
            each(before.iter().map(|before| async {
                let node = access.node(before.on)?;
                nft::put(&**node, TABLE, &chains(&before.interface)).await
            }))
            .await?;
            until(CUT, || async { Ok(self.look(access).await?.err()) }).await
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
        Box::pin(async { each(self.on.iter().map(|on| Self::join(*on, access))).await.map(drop) })
    }
}
