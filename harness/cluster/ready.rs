//! Waiting for Kubernetes to be up, whoever made the cluster.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1 as k8s;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::Api;

use super::ClusterError;
use super::client::{Access, Answer, Vantage};
use super::watch::await_objects;
use crate::scenario::{Addon, NodeRef};

/// Whose apiserver is asked for what all of them know.
pub(super) const FIRST: NodeRef = NodeRef::Master(1);

/// The virtual address of the apiservers' own Service, the first of the range, and its port.
const KUBERNETES: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 96, 0, 1), 443);

/// Time from one look at what is awaited to the next. Neither a health endpoint nor a node's
/// translation of a Service can be watched.
pub(super) const PERIOD: Duration = Duration::from_millis(20);

impl Access {
    /// Waits until one master's apiserver says 200.
    pub(super) async fn await_apiserver(
        &self,
        master: NodeRef,
        path: &str,
    ) -> Result<(), ClusterError> {
        let address = self.apiserver(master)?;
        let what = format!("{path} of the apiserver on {master}");
        loop {
            let limit = Duration::from_secs(2);
            let answer = self.get(Vantage::Beside, address, path, limit).await?;
            if matches!(answer, Answer::Status { code: 200, .. }) {
                self.awaited().came(&what);
                return Ok(());
            }
            let mut seen = vec![answer.to_string()];
            seen.extend(answer.failed_checks().into_iter().map(str::to_owned));
            self.awaited().saw(&what, seen.join(", "));
            tokio::time::sleep(PERIOD).await;
        }
    }

    /// Waits until every node is Ready.
    pub(super) async fn await_nodes(&self) -> Result<(), ClusterError> {
        // A watch that is made too early is made again only after a pause.
        self.await_apiserver(FIRST, "/readyz").await?;
        let ready = |node: &&Arc<k8s::Node>| {
            let conditions =
                node.status.iter().flat_map(|status| status.conditions.iter().flatten());
            conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True")
        };
        let all = self.cluster().nodes().len();
        let nodes = Api::all(self.kube(FIRST)?);
        let holds = |nodes: &[Arc<k8s::Node>]| {
            let ready: Vec<_> = nodes.iter().filter(ready).collect();
            counted(ready.len(), all, || {
                let names = ready.iter().filter_map(|node| node.metadata.name.as_deref());
                format!("Ready are {}", names.collect::<Vec<_>>().join(", "))
            })
        };
        await_objects(self.awaited(), "every node Ready", nodes, None, holds).await
    }

    /// Waits until kube-proxy is ready on every node.
    pub(super) async fn await_kube_proxy(&self) -> Result<(), ClusterError> {
        let all = self.cluster().nodes().len();
        let sets = Api::<DaemonSet>::namespaced(self.kube(FIRST)?, "kube-system");
        let holds = |sets: &[Arc<DaemonSet>]| {
            let ready = sets.first().and_then(|set| set.status.as_ref()).map(|s| s.number_ready);
            let ready = ready.and_then(|ready| usize::try_from(ready).ok()).unwrap_or_default();
            counted(ready, all, || "ready by its DaemonSet".into())
        };
        await_objects(self.awaited(), "kube-proxy", sets, Some("kube-proxy"), holds).await
    }

    /// Waits until every node translates the apiservers' Service.
    pub(super) async fn await_services(&self) -> Result<(), ClusterError> {
        let reach = self.cluster().nodes().iter().map(|node| async {
            let limit = Duration::from_secs(2);
            let what = format!("the apiservers' Service from {}", node.name());
            while let Err(error) = node.connect(KUBERNETES.into(), limit).await? {
                self.awaited().saw(&what, error.to_string());
                tokio::time::sleep(PERIOD).await;
            }
            self.awaited().came(&what);
            Ok(())
        });
        try_join_all(reach).await.map(drop)
    }

    /// Waits until every replica of `CoreDNS` is ready.
    pub(super) async fn await_coredns(&self) -> Result<(), ClusterError> {
        let deployments = Api::<Deployment>::namespaced(self.kube(FIRST)?, "kube-system");
        let holds = |found: &[Arc<Deployment>]| -> Result<(), String> {
            let deployment = found.first().ok_or("there is no such Deployment")?;
            let wanted = deployment.spec.replicas;
            let ready = deployment.status.as_ref().and_then(|status| status.ready_replicas);
            if ready.is_some() && ready == wanted {
                return Ok(());
            }
            Err(format!("{} of {} replicas ready", ready.unwrap_or(0), wanted.unwrap_or(1)))
        };
        await_objects(self.awaited(), "CoreDNS", deployments, Some("coredns"), holds).await
    }

    /// Waits until one apiserver's answer to a GET satisfies a condition, which else says what it
    /// sees.
    async fn await_json(
        &self,
        through: NodeRef,
        path: &str,
        holds: impl Fn(&serde_json::Value) -> Result<(), String>,
    ) -> Result<(), ClusterError> {
        let address = self.apiserver(through)?;
        let what = format!("{path} through {through}");
        loop {
            let limit = Duration::from_secs(2);
            let seen = match self.get(Vantage::Beside, address, path, limit).await? {
                Answer::Status { code: 200, body } => match serde_json::from_str(&body) {
                    Ok(value) => holds(&value),
                    Err(error) => Err(error.to_string()),
                },
                answer => Err(answer.to_string()),
            };
            match seen {
                Ok(()) => break self.awaited().came(&what),
                Err(seen) => self.awaited().saw(&what, seen),
            }
            tokio::time::sleep(PERIOD * 5).await;
        }
        Ok(())
    }

    /// Waits until an addon serves through every apiserver.
    pub(super) async fn await_addon(&self, addon: Addon) -> Result<(), ClusterError> {
        match addon {
            Addon::MetricsServer => self.await_metrics().await,
        }
    }

    /// The `APIService` is Available, and there are figures of every node: metrics-server has scraped
    /// each twice, since CPU is a difference.
    async fn await_metrics(&self) -> Result<(), ClusterError> {
        let nodes = self.cluster().nodes().len();
        let services = Api::<APIService>::all(self.kube(FIRST)?);
        let available = |found: &[Arc<APIService>]| -> Result<(), String> {
            let status = found.first().and_then(|service| service.status.as_ref());
            let mut conditions =
                status.iter().flat_map(|status| status.conditions.iter().flatten());
            let condition = conditions.find(|condition| condition.type_ == "Available");
            let condition = condition.ok_or("it has no such condition")?;
            if condition.status == "True" {
                return Ok(());
            }
            Err(condition.message.clone().unwrap_or_default())
        };
        let name = "v1beta1.metrics.k8s.io";
        let what = format!("APIService {name} Available");
        await_objects(self.awaited(), &what, services, Some(name), available).await?;
        // These can't be watched.
        let path = "/apis/metrics.k8s.io/v1beta1/nodes";
        let serves = self.masters().map(|master| {
            self.await_json(master.id(), path, |metrics| {
                let figures = metrics["items"].as_array().map_or(0, Vec::len);
                counted(figures, nodes, || "nodes with figures".into())
            })
        });
        try_join_all(serves).await.map(drop)
    }
}

/// Whether these are all, else how many there are, and more about them.
fn counted(some: usize, all: usize, more: impl FnOnce() -> String) -> Result<(), String> {
    if some == all { Ok(()) } else { Err(format!("{some} of {all}, {}", more())) }
}
