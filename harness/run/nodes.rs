//! Which nodes a scenario's names stand for in one case.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::draw::index;
use super::plan::Plan;
use crate::cluster::client::{Access, Answer, Vantage};
use crate::cluster::{ClusterError, Node, leads_from};
use crate::scenario::{self, Leaders, Led, NamedNode, NodeRef, Nodes, Version};

/// How long it may take until one member leads: an election takes seconds.
const ELECTION: Duration = Duration::from_secs(30);

/// Where a member serves its metrics, on its node alone.
const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2381);

/// How long a member, or an apiserver, may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// No answer is longer, in bytes.
const LONGEST: u64 = 16 << 20;

/// From one look to the next.
const PERIOD: Duration = Duration::from_millis(200);

/// Chooses the nodes for the names in a scenario.
#[derive(Debug, Clone)]
pub struct Chooser {
    /// The scenario's file in messages.
    pub file: String,
    /// Its bytes, which were read and found to be good.
    pub text: Arc<[u8]>,
    /// The variant to plan.
    pub variant: String,
    /// The version of Kubernetes to plan for.
    pub version: Version,
    /// What is said of the names in this variant.
    pub named: Vec<NamedNode>,
    /// Decides between several choices; see [`draw`](super::draw).
    pub draw: u64,
}

impl Chooser {
    /// Chooses, and plans the case with these nodes.
    ///
    /// # Errors
    /// If nobody leads what somebody must lead, or the cluster has too few nodes.
    pub(super) async fn choose(&self, access: &Access) -> Result<(Plan, Nodes), ClusterError> {
        let mut leaders = Leaders::new();
        for led in scenario::led(&self.named) {
            leaders.insert(led, leader(led, access).await?);
        }
        let all = access.cluster().nodes().len();
        let masters = access.masters().count();
        let mut choices = scenario::choices(&self.named, masters, all - masters, &leaders);
        if choices.is_empty() {
            return Err(ClusterError::new("the cluster has no nodes for the scenario's names"));
        }
        let nodes = choices.swap_remove(index(self.draw, choices.len()));
        let unplanned = |error| ClusterError::caused("plan the case with its nodes", error);
        let chosen = scenario::load_with(&self.file, &self.text, nodes.clone())
            .map_err(|error| unplanned(error.plain().into()))?;
        let plan = Plan::new(&chosen, &self.variant, self.version, self.draw)
            .map_err(|error| unplanned(Box::<dyn std::error::Error + Send + Sync>::from(error)))?;
        Ok((plan, nodes))
    }
}

/// The master that leads it, once exactly one does.
async fn leader(led: Led, access: &Access) -> Result<NodeRef, ClusterError> {
    let start = Instant::now();
    loop {
        let leaders = match led {
            Led::Etcd => etcd_leaders(access).await?,
            _ => holders(led, access).await?,
        };
        if let [leader] = leaders[..] {
            return Ok(leader);
        }
        if start.elapsed() >= ELECTION {
            let said = leaders.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let said = if said.is_empty() { "none" } else { &said };
            let what = led.name();
            let context = format!("one master must lead {what}; after {ELECTION:?} it is {said}");
            return Err(ClusterError::new(context));
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// The masters whose etcd members say that they lead.
async fn etcd_leaders(access: &Access) -> Result<Vec<NodeRef>, ClusterError> {
    let mut leaders = vec![];
    for master in access.masters() {
        if leads(&**master).await? {
            leaders.push(master.id());
        }
    }
    Ok(leaders)
}

/// The masters whose components hold the Lease, as the apiservers tell it.
async fn holders(led: Led, access: &Access) -> Result<Vec<NodeRef>, ClusterError> {
    let path = format!("/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/{}", led.name());
    let mut holders = vec![];
    for master in access.masters() {
        let at = access.apiserver(master.id())?;
        if let Answer::Status { code: 200, body } =
            access.get(Vantage::Beside, at, &path, ANSWER).await?
        {
            let holds = |one: &&Arc<dyn Node>| holds(&body, one.host_name());
            holders.extend(access.masters().find(holds).map(|holder| holder.id()));
        }
    }
    holders.sort();
    holders.dedup();
    Ok(holders)
}

/// Whether a Lease is held by a component of this host.
fn holds(lease: &str, host: &str) -> bool {
    let lease: Value = serde_json::from_str(lease).unwrap_or_default();
    leads_from(host, lease["spec"]["holderIdentity"].as_str().unwrap_or_default())
}

/// Asks a member where kubeadm has it serve its metrics.
/// <https://github.com/kubernetes/kubernetes/blob/v1.34.4/cmd/kubeadm/app/phases/etcd/local.go>
async fn leads(master: &dyn Node) -> Result<bool, ClusterError> {
    let Ok(mut stream) = master.connect(METRICS, ANSWER).await? else { return Ok(false) };
    let mut answer = vec![];
    let asking = async {
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
        stream.take(LONGEST).read_to_end(&mut answer).await
    };
    // A member that does not answer in full does not say that it leads.
    let answered = timeout(ANSWER, asking).await.is_ok_and(|read| read.is_ok());
    Ok(answered && says_leader(&String::from_utf8_lossy(&answer)))
}

fn says_leader(metrics: &str) -> bool {
    metrics.lines().any(|line| line == "etcd_server_is_leader 1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leader_says_so_in_its_metrics() {
        let metrics = |leader| {
            format!("# TYPE etcd_server_is_leader gauge\netcd_server_is_leader {leader}\n")
        };
        assert!(says_leader(&metrics(1)));
        assert!(!says_leader(&metrics(0)));
        assert!(!says_leader(""));
    }

    #[test]
    fn the_holder_of_a_lease_is_told_by_its_hosts_name() {
        let lease = r#"{"spec": {"holderIdentity": "master-1_a3f4"}}"#;
        assert!(holds(lease, "master-1"));
        assert!(!holds(lease, "master-2") && !holds(lease, "master"));
        assert!(!holds(r#"{"spec": {"holderIdentity": ""}}"#, "") && !holds("", "master-1"));
    }
}
