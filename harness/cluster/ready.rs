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
        loop {
            let limit = Duration::from_secs(2);
            let answer = self.get(Vantage::Beside, address, path, limit).await?;
            if matches!(answer, Answer::Status { code: 200, .. }) {
                return Ok(());
            }
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
        await_objects(nodes, None, |nodes| nodes.iter().filter(ready).count() == all).await
    }

    /// Waits until kube-proxy is ready on every node.
    pub(super) async fn await_kube_proxy(&self) -> Result<(), ClusterError> {
        let all = self.cluster().nodes().len();
        let sets = Api::<DaemonSet>::namespaced(self.kube(FIRST)?, "kube-system");
        await_objects(sets, Some("kube-proxy"), |sets| {
            let ready = sets.first().and_then(|set| set.status.as_ref()).map(|s| s.number_ready);
            ready.is_some_and(|ready| usize::try_from(ready) == Ok(all))
        })
        .await
    }

    /// Waits until every node translates the apiservers' Service.
    pub(super) async fn await_services(&self) -> Result<(), ClusterError> {
        let reach = self.cluster().nodes().iter().map(|node| async {
            let limit = Duration::from_secs(2);
            while node.connect(KUBERNETES.into(), limit).await?.is_err() {
                tokio::time::sleep(PERIOD).await;
            }
            Ok(())
        });
        try_join_all(reach).await.map(drop)
    }

    /// Waits until every replica of `CoreDNS` is ready.
    pub(super) async fn await_coredns(&self) -> Result<(), ClusterError> {
        let deployments = Api::<Deployment>::namespaced(self.kube(FIRST)?, "kube-system");
        await_objects(deployments, Some("coredns"), |found| {
            found.first().is_some_and(|deployment| {
                let wanted = deployment.spec.replicas;
                let ready = deployment.status.as_ref().and_then(|status| status.ready_replicas);
                ready.is_some() && ready == wanted
            })
        })
        .await
    }

    /// Waits until one apiserver's answer to a GET satisfies a condition.
    async fn await_json(
        &self,
        through: NodeRef,
        path: &str,
        holds: impl Fn(&serde_json::Value) -> bool,
    ) -> Result<(), ClusterError> {
        let address = self.apiserver(through)?;
        loop {
            let limit = Duration::from_secs(2);
            let answer = self.get(Vantage::Beside, address, path, limit).await?;
            if let Answer::Status { code: 200, body } = answer
                && serde_json::from_str(&body).is_ok_and(|value| holds(&value))
            {
                return Ok(());
            }
            tokio::time::sleep(PERIOD * 5).await;
        }
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
        await_objects(services, Some("v1beta1.metrics.k8s.io"), |found| {
            let status = found.first().and_then(|service| service.status.as_ref());
            let conditions = status.iter().flat_map(|status| status.conditions.iter().flatten());
            conditions.into_iter().any(|c| c.type_ == "Available" && c.status == "True")
        })
        .await?;
        // These can't be watched.
        let path = "/apis/metrics.k8s.io/v1beta1/nodes";
        let serves = self.masters().map(|master| {
            self.await_json(master.id(), path, |metrics| {
                metrics["items"].as_array().is_some_and(|items| items.len() == nodes)
            })
        });
        try_join_all(serves).await.map(drop)
    }
}
