//! Packets between two ends are dropped or rejected by rules on the nodes where they start.
//!
//! Hit are packets, not connections: those that stand, too. Both ways means what `from` sends to
//! `to` and what comes back from there (by its ports, if the fault has ports); one way leaves what
//! comes back alone. A Service is its virtual address and the endpoints that it has when the fault is
//! injected: connections to the virtual address are caught wherever they would have ended, those to
//! the endpoints of later pods are not. A node is what runs in its own network; its pods are ends of
//! their own. The load balancer is an address on no node, or, where there is but one master, perhaps
//! that master's. `to: {component: …}` on the node itself covers its loopback address, by which
//! kubeadm's apiservers reach their etcd.
//!
//! What else it changes: a dropped datagram's sender on the node itself is told so by its own kernel
//! (`operation not permitted`).

pub(super) mod degrade;
mod ends;
mod rules;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::process::until;
use super::serving::{LOOK, Reply};
use super::{Issued, Primitive, Proof, all, each, nft, nodes, record, recorded, short_hash};
use crate::cluster::client::{Access, Vantage};
use crate::cluster::{ClusterError, Command, Output};
use crate::scenario::{NodeRef, Protocol, Traffic, TrafficEnd, TrafficRule};
use rules::{Source, Target};

/// Until the effect is seen; and as long again to take it away.
const CUT: Duration = Duration::from_secs(30);

/// What was before: nothing is changed but this table, and the ends are what they are when it is
/// put in place.
#[derive(Debug, Serialize, Deserialize)]
struct Before {
    table: String,
    sources: Vec<Source>,
    targets: Vec<Target>,
}

/// Runs the script $4 for bash inside a pod's network namespace, which containerd keeps under this path:
/// of the pod that has the address $1, with $2 and $3. 124: timeout(1) had to end it.
const FROM_POD: &str = r#"
for space in /var/run/netns/*; do
    nsenter --net="$space" ip -o address show | grep -qF " $1/" || continue
    exec nsenter --net="$space" timeout 2 bash -c "$4" "$2" "$3"
done
echo "no network namespace has $1" >&2
exit 99
"#;

/// A connection to $0, port $1, for bash.
const CONNECTION: &str = r#"exec 3<>"/dev/tcp/$0/$1""#;

/// A datagram to $0, port $1, for bash.
const DATAGRAM: &str = r#"echo >"/dev/udp/$0/$1""#;

impl Traffic {
    /// So that several of them can be in place at once.
    fn table(&self) -> Result<String, ClusterError> {
        let short = format!("{:08x}", short_hash(self)?);
        Ok(format!("inet outage_traffic_{short}"))
    }

    async fn resolve(&self, access: &Access) -> Result<Before, ClusterError> {
        let table = self.table()?;
        let sources = ends::sources(self, access).await?;
        let targets = ends::targets(self, access).await?;
        let before = Before { table, sources, targets };
        for source in &before.sources {
            nft::absent(&**access.node(source.on)?, &before.table).await?;
        }
        if before.pairs().is_empty() {
            return Err(ClusterError::new("there is nothing between the two ends"));
        }
        if self.protocol != Some(Protocol::Udp) {
            let pairs = before.pairs();
            each(pairs.iter().map(|pair| self.passes(pair, access))).await?;
        }
        Ok(before)
    }

    /// Fails if the way is already as the fault would make it: the proof would be of nothing.
    async fn passes(
        &self,
        (source, from, target): &Pair<'_>,
        access: &Access,
    ) -> Result<(), ClusterError> {
        let at = (target.address, target.look).into();
        let reply = connect(source, *from, at, access).await?;
        if self.shows(&reply) {
            let from = sender(source, *from);
            return Err(ClusterError::new(format!("before the fault, {at} from {from}: {reply}")));
        }
        Ok(())
    }

    /// Whether this is the effect.
    fn shows(&self, reply: &Reply) -> bool {
        match self.rule {
            TrafficRule::Drop => *reply == Reply::Unanswered,
            TrafficRule::Reject => *reply == Reply::Refused,
        }
    }

    async fn look(&self, before: &Before, access: &Access) -> Result<Proof, ClusterError> {
        let looks = before.sources.iter().map(|source| self.look_at(source, before, access));
        Ok(all(each(looks).await?))
    }

    async fn look_at(
        &self,
        source: &Source,
        before: &Before,
        access: &Access,
    ) -> Result<Proof, ClusterError> {
        let (node, on) = (access.node(source.on)?, source.on);
        let Some(earlier) = nft::packets(&**node, &before.table).await? else {
            return Ok(Err(format!("{on} has no table {}", before.table)));
        };
        let pairs: Vec<_> =
            before.pairs().into_iter().filter(|(of, ..)| of.on == source.on).collect();
        let parts = each(pairs.iter().map(|pair| self.look_between(pair, before, access))).await?;
        let met = nft::packets(&**node, &before.table).await?.unwrap_or(0).saturating_sub(earlier);
        let counted = if met == 0 {
            Err(format!("the rules on {on} met no packet"))
        } else {
            Ok(vec![format!("the rules on {on} met {met} packets")])
        };
        Ok(all(parts.into_iter().chain([counted])))
    }

    async fn look_between(
        &self,
        (source, from, target): &Pair<'_>,
        before: &Before,
        access: &Access,
    ) -> Result<Proof, ClusterError> {
        let at = SocketAddr::new(target.address, target.look);
        let said = sender(source, *from);
        if self.protocol == Some(Protocol::Udp) {
            let send = match from {
                Some(pod) => from_pod(*pod, at, DATAGRAM),
                None => Command::new([
                    "bash",
                    "-c",
                    DATAGRAM,
                    &at.ip().to_string(),
                    &at.port().to_string(),
                ]),
            };
            // What became of it, the counter tells.
            access.node(source.on)?.run(send).await?;
            return Ok(Ok(vec![]));
        }
        let reply = connect(source, *from, at, access).await?;
        if !self.shows(&reply) {
            return Ok(Err(format!("{at} from {said}: {reply}")));
        }
        let mut evidence = vec![format!("{at} from {said}: {reply}")];
        let hit = |at: &SocketAddr| {
            before.targets.iter().any(|target| target.is_for(source) && target.hits(*at))
        };
        let mut unreached = None;
        // Another fault may have stopped a kubelet.
        for beside in ends::candidates(source, access).into_iter().filter(|at| !hit(at)) {
            match connect(source, *from, beside, access).await? {
                Reply::Answers => {
                    evidence.push(format!("{beside} beside it is reached"));
                    return Ok(Ok(evidence));
                }
                reply => unreached = Some(format!("{beside} beside it, from {said}: {reply}")),
            }
        }
        Ok(unreached.map_or(Ok(evidence), Err))
    }
}

/// Has a script for bash do something with an address, from inside a pod on the node that it is run on.
fn from_pod(pod: IpAddr, at: SocketAddr, script: &str) -> Command {
    let (ip, port) = (at.ip().to_string(), at.port().to_string());
    Command::script(FROM_POD, [&pod.to_string(), &ip, &port, script])
}

/// What became of that, unless the script itself says more.
fn reply_to_pod(output: &Output, on: NodeRef) -> Result<Reply, ClusterError> {
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    match output.code {
        0 => Ok(Reply::Answers),
        124 => Ok(Reply::Unanswered),
        99 => Err(ClusterError::new(format!("{said} on {on}"))),
        _ if said.contains("Connection refused") => Ok(Reply::Refused),
        _ => Ok(Reply::Broken(said)),
    }
}

/// Each sender on a node (a pod, or the node itself), with each address that is for it.
fn pairs<'a>(sources: &'a [Source], targets: &'a [Target]) -> Vec<Pair<'a>> {
    let mut pairs = vec![];
    for source in sources {
        for target in targets.iter().filter(|target| target.is_for(source)) {
            if source.pods.is_empty() {
                pairs.push((source, None, target));
            }
            let same = |pod: &&IpAddr| pod.is_ipv4() == target.address.is_ipv4();
            pairs.extend(source.pods.iter().filter(same).map(|pod| (source, Some(*pod), target)));
        }
    }
    pairs
}

/// A sender and what it is kept from.
type Pair<'a> = (&'a Source, Option<IpAddr>, &'a Target);

impl Before {
    async fn release(&self, on: NodeRef, access: &Access) -> Result<(), ClusterError> {
        let node = access.node(on)?;
        if !node.powered() {
            // Its rules went with the power.
            return Ok(());
        }
        nft::take_away(&**node, &self.table).await
    }

    fn pairs(&self) -> Vec<Pair<'_>> {
        pairs(&self.sources, &self.targets)
    }
}

fn sender(source: &Source, pod: Option<IpAddr>) -> String {
    match pod {
        Some(pod) => format!("pod {pod} on {}", source.on),
        None => source.on.to_string(),
    }
}

/// Opens a connection from a node or from a pod on it. One that is accepted counts as an answer.
async fn connect(
    source: &Source,
    pod: Option<IpAddr>,
    at: SocketAddr,
    access: &Access,
) -> Result<Reply, ClusterError> {
    let Some(pod) = pod else {
        return Ok(match access.connect(Vantage::Node(source.on), at, LOOK).await? {
            Ok(_) => Reply::Answers,
            Err(error) => Reply::of_connect(&error),
        });
    };
    let output = access.node(source.on)?.run(from_pod(pod, at, CONNECTION)).await?;
    reply_to_pod(&output, source.on)
}

fn end(end: &TrafficEnd) -> String {
    match end {
        TrafficEnd::Nodes(on) => nodes(on),
        TrafficEnd::Component { name, on } => format!("{} on {}", name.name(), nodes(on)),
        TrafficEnd::Pods { namespace, labels } => {
            let labels: Vec<_> =
                labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("pods {} in {namespace}", labels.join(","))
        }
        TrafficEnd::Service(name) => format!("service {name}"),
        TrafficEnd::LoadBalancer => "the load balancer".to_owned(),
    }
}

impl Primitive for Traffic {
    fn does(&self) -> String {
        let (rule, from, to) = (self.rule.name(), end(&self.from), end(&self.to));
        let ways = if self.one_way { "to" } else { "to and back from" };
        let what = self.protocol.map_or("traffic", Protocol::name);
        let ports = match &*self.ports {
            [] => String::new(),
            [port] => format!(", port {port}"),
            ports => {
                let ports: Vec<_> = ports.iter().map(ToString::to_string).collect();
                format!(", ports {}", ports.join(", "))
            }
        };
        format!("{rule} {what} from {from} {ways} {to}{ports}")
    }

    fn limit(&self) -> Duration {
        CUT * 2
    }

    fn before<'a>(
        &'a self,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<serde_json::Value, ClusterError>> {
        Box::pin(async { record(&self.resolve(access).await?) })
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
            each(before.sources.iter().map(|source| async {
                let chains = rules::chains(self, source, &before.targets);
                nft::put(&**access.node(source.on)?, &before.table, &chains).await
            }))
            .await?;
            until(CUT, || async { Ok(self.look(&before, access).await?.err()) }).await
        })
    }

    fn prove<'a>(
        &'a self,
        before: &'a serde_json::Value,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<Proof, ClusterError>> {
        Box::pin(async {
            let before: Before = recorded(before)?;
            self.look(&before, access).await
        })
    }

    fn revert<'a>(
        &'a self,
        before: &'a serde_json::Value,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(async {
            let before: Before = recorded(before)?;
            each(before.sources.iter().map(|source| before.release(source.on, access)))
                .await
                .map(drop)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_does_is_said_in_words() {
        let mut traffic = Traffic {
            from: TrafficEnd::Nodes(vec![NodeRef::Master(3)]),
            to: TrafficEnd::Service("kube-system/metrics-server".into()),
            rule: TrafficRule::Drop,
            ports: vec![],
            protocol: None,
            one_way: false,
        };
        let service = "service kube-system/metrics-server";
        assert_eq!(
            traffic.does(),
            format!("drop traffic from master-3 to and back from {service}")
        );
        let to = std::mem::replace(&mut traffic.to, TrafficEnd::LoadBalancer);
        let said = "drop traffic from master-3 to and back from the load balancer";
        assert_eq!(traffic.does(), said);
        traffic.to = to;
        traffic.ports = vec![443, 80];
        traffic.protocol = Some(Protocol::Tcp);
        traffic.one_way = true;
        assert_eq!(traffic.does(), format!("drop tcp from master-3 to {service}, ports 443, 80"));
    }

    #[test]
    fn other_traffic_has_another_table() {
        let traffic = |one_way| Traffic {
            from: TrafficEnd::Nodes(vec![NodeRef::Master(3)]),
            to: TrafficEnd::Nodes(vec![NodeRef::Master(1)]),
            rule: TrafficRule::Drop,
            ports: vec![],
            protocol: None,
            one_way,
        };
        assert_ne!(traffic(true).table().unwrap(), traffic(false).table().unwrap());
        assert_eq!(traffic(true).table().unwrap(), traffic(true).table().unwrap());
    }
}
