//! Making a cluster as good as new for the next case.
//!
//! What outlives the revert of a fault is in the kubelets: each remembers how long to wait before it
//! starts a container again that has ended, twice as long each time, for ten minutes. It does so in
//! memory alone, so a kubelet that is started anew has forgotten it.
//! <https://github.com/kubernetes/kubernetes/blob/v1.34.4/pkg/kubelet/kubelet.go> (`crashLoopBackOff`)
//!
//! A kubelet that is started anew takes a container with a readiness probe for not ready until it has
//! probed it once, and tells the API so; until then metrics-server, for one, has no endpoint.
//! <https://github.com/kubernetes/kubernetes/blob/v1.34.4/pkg/kubelet/prober/prober_manager.go>
//! (`UpdatePodStatus`) So its own count of probes is waited for.
//!
//! What clients of the case wrote is deleted.
//!
//! Also where nothing has to be renewed a node may still count as lost whose kubelet could not tell the
//! API for a while that it is there: that is waited for.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{try_join, try_join_all};
use k8s_openapi::api::core::v1 as k8s;
use kube::api::{Api, DeleteParams, ListParams};
use tokio::time::Instant;

use super::client::{Access, Answer, Vantage};
use super::ledger::NAMESPACE;
use super::ready::{FIRST, PERIOD};
use super::watch::await_objects;
use super::{ClusterError, Node, Service};

/// What all of it may take: a kubelet of Kubernetes 1.34 is up within 3 s, and a probe has a period of
/// ten seconds, of which a part is waited for at random. One that is not started anew, and whose apiserver
/// was away for half a minute, reads its node again after up to a minute (a reflector's pauses grow to 30 s,
/// to which chance adds as much), finds that it counts as lost, and tells otherwise ten seconds later.
/// <https://github.com/kubernetes/client-go/blob/v0.34.4/tools/cache/reflector.go>
///
/// A kubelet that goes while it ends a container leaves it with a SIGTERM alone, as containerd gives up with
/// its caller: an apiserver then answers what it has begun, for up to a minute, before it is started again.
/// <https://github.com/containerd/containerd/blob/v2.1.4/internal/cri/server/container_stop.go>
/// (`stopContainer`)
const LIMIT: Duration = Duration::from_mins(2);

impl Access {
    /// Deletes what was written, and waits until all is ready that is when a cluster was just made. If it
    /// is `spent`, starts every kubelet anew before, and waits until each has found every pod ready that
    /// is probed.
    ///
    /// # Errors
    /// If that is not so within two minutes. The cluster is not as good as new then.
    pub async fn renew(&self, spent: bool) -> Result<(), ClusterError> {
        let renewed = async {
            let anew = async { if spent { self.start_kubelets_anew().await } else { Ok(()) } };
            try_join(anew, self.delete_writes()).await?;
            self.await_nodes().await?;
            self.await_kube_proxy().await?;
            self.await_coredns().await
        };
        let late = || format!("it was not as good as new within {LIMIT:?}");
        self.awaited().until(Instant::now() + LIMIT, late, renewed).await
    }

    async fn delete_writes(&self) -> Result<(), ClusterError> {
        let namespaces = Api::<k8s::Namespace>::all(self.kube(FIRST)?);
        match namespaces.delete(NAMESPACE, &DeleteParams::default()).await {
            Ok(_) => {
                let gone = |found: &[Arc<k8s::Namespace>]| {
                    let Some(namespace) = found.first() else { return Ok(()) };
                    Err(left(namespace))
                };
                let what = format!("the end of the namespace {NAMESPACE}");
                await_objects(self.awaited(), &what, namespaces, Some(NAMESPACE), gone).await
            }
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(ClusterError::caused("delete what was written", error)),
        }
    }

    async fn start_kubelets_anew(&self) -> Result<(), ClusterError> {
        let nodes = || self.cluster().nodes().iter();
        for run in [false, true] {
            try_join_all(nodes().map(|node| node.service(Service::Kubelet, run))).await?;
        }
        try_join_all(nodes().map(|node| self.await_probes(&**node))).await.map(drop)
    }

    /// Waits until the kubelet of a node has found each of its pods ready that it probes.
    async fn await_probes(&self, node: &dyn Node) -> Result<(), ClusterError> {
        let address = self.apiserver(FIRST)?;
        let path = format!("/api/v1/nodes/{}/proxy/metrics/probes", node.name());
        let what = format!("readiness of the pods on {}", node.name());
        loop {
            let limit = Duration::from_secs(2);
            let seen = match self.get(Vantage::Beside, address, &path, limit).await? {
                Answer::Status { code: 200, body } => {
                    let mut pods = self.probed(node).await?;
                    pods.retain(|pod| !found_ready(&body, pod));
                    if pods.is_empty() {
                        self.awaited().came(&what);
                        return Ok(());
                    }
                    format!("not yet found ready: {}", pods.join(", "))
                }
                answer => answer.to_string(),
            };
            self.awaited().saw(&what, seen);
            // A kubelet's metrics can't be watched.
            tokio::time::sleep(PERIOD * 5).await;
        }
    }

    /// The names of a node's pods whose readiness is probed.
    async fn probed(&self, node: &dyn Node) -> Result<Vec<String>, ClusterError> {
        let pods = Api::<k8s::Pod>::all(self.kube(FIRST)?);
        let of_node = ListParams::default().fields(&format!("spec.nodeName={}", node.name()));
        let pods = pods.list(&of_node).await;
        let pods = pods.map_err(|error| ClusterError::caused("list the pods of a node", error))?;
        let probed = pods.items.into_iter().filter(|pod| {
            let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
            let stays = pod.metadata.deletion_timestamp.is_none();
            stays && containers.into_iter().any(|container| container.readiness_probe.is_some())
        });
        Ok(probed.filter_map(|pod| pod.metadata.name).collect())
    }
}

/// What a namespace that is being deleted says is left in it.
fn left(namespace: &k8s::Namespace) -> String {
    let status = namespace.status.iter();
    let conditions = status.flat_map(|status| status.conditions.iter().flatten());
    let said = conditions.filter(|condition| condition.status == "True");
    let said: Vec<&str> = said.filter_map(|condition| condition.message.as_deref()).collect();
    if said.is_empty() { "it is there".into() } else { said.join("; ") }
}

/// Whether a kubelet counts a successful readiness probe of this pod, since its start.
fn found_ready(metrics: &str, pod: &str) -> bool {
    let labels = [
        r#"probe_type="Readiness""#.into(),
        r#"result="successful""#.into(),
        format!("pod=\"{pod}\""),
    ];
    metrics.lines().any(|line| {
        line.starts_with("prober_probe_total{") && labels.iter().all(|label| line.contains(label))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_successful_probe_of_readiness_of_the_pod_itself_counts() {
        let line = |kind: &str, pod: &str, result: &str| {
            format!(
                "# TYPE prober_probe_total counter\nprober_probe_total{{container=\"c\",namespace=\"n\",\
                 pod=\"{pod}\",pod_uid=\"u\",probe_type=\"{kind}\",result=\"{result}\"}} 1\n"
            )
        };
        assert!(found_ready(&line("Readiness", "web", "successful"), "web"));
        assert!(!found_ready(&line("Readiness", "web-2", "successful"), "web"));
        assert!(!found_ready(&line("Readiness", "web", "failed"), "web"));
        assert!(!found_ready(&line("Liveness", "web", "successful"), "web"));
    }
}
