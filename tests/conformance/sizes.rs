//! Other numbers of nodes than three masters and a worker.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use outage::scenario::NodeRef;
use serde_json::json;

use super::e2e_support::stage::Shared;
use super::e2e_support::{Failure, Provider, wait_for};
use super::{
    Ctx, PORT, SOON, etcd_is_healthy, fetch, masters, nothing_died, service_lists_apiservers,
};

/// Masters and workers of a lab: the extremes of both, and a few between.
const LAB: [(usize, usize); 4] = [(1, 0), (1, 2), (3, 0), (5, 3)];

/// kind itself is tried with more, elsewhere. With one master it has no load balancer.
const KIND: [(usize, usize); 1] = [(1, 0)];

/// The sizes that are tried.
pub fn of(provider: Provider) -> &'static [(usize, usize)] {
    if provider.name() == "lab" { &LAB } else { &KIND }
}

/// A cluster of this size comes up as one does, and has pods on every node that takes them.
pub async fn comes_up(provider: Provider, masters: usize, workers: usize) -> Result<(), Failure> {
    let ctx = Ctx::over(provider, (masters, workers), &[]).await?;
    let looked = async {
        nodes_are_ready(&ctx, masters, workers).await?;
        service_lists_apiservers(&ctx).await?;
        wait_for("etcd's pods are in the API", SOON, async || etcd_has_pods(&ctx).await).await?;
        etcd_is_healthy(&ctx).await?;
        pods_answer(&ctx).await?;
        nothing_died(&ctx)
    };
    let looked = looked.await;
    ctx.cluster.delete().await?;
    looked
}

async fn nodes_are_ready(ctx: &Ctx, masters: usize, workers: usize) -> Result<(), Failure> {
    let refs = (1..=masters).map(NodeRef::Master).chain((1..=workers).map(NodeRef::Worker));
    let ids: Vec<NodeRef> = ctx.cluster.nodes().iter().map(|node| node.id()).collect();
    assert_eq!(ids, refs.collect::<Vec<_>>());
    let wanted: BTreeSet<String> =
        ctx.cluster.nodes().iter().map(|node| node.name().to_owned()).collect();
    let nodes = ctx.get(&["nodes"]).await?;
    let ready = nodes["items"].as_array().into_iter().flatten().filter(|node| {
        let conditions = node["status"]["conditions"].as_array().into_iter().flatten();
        conditions.into_iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
    });
    let ready: BTreeSet<String> =
        ready.filter_map(|node| node["metadata"]["name"].as_str().map(str::to_owned)).collect();
    assert_eq!(ready, wanted);
    Ok(())
}

/// `kubectl exec` finds a static pod by its mirror in the API, which an old kubelet (seen on 1.25)
/// makes seconds after the pod serves.
async fn etcd_has_pods(ctx: &Ctx) -> Result<(), Failure> {
    let pods = ctx.get(&["pods", "-n", "kube-system", "-l", "component=etcd"]).await?;
    let there: BTreeSet<&str> = pods["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|pod| pod["spec"]["nodeName"].as_str())
        .collect();
    let masters = masters(&*ctx.cluster);
    let missing: Vec<&str> =
        masters.iter().map(|node| node.name()).filter(|name| !there.contains(name)).collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("none on {missing:?}").into()) }
}

/// A pod without tolerations runs on each worker, or without workers on each master, and answers
/// all nodes.
async fn pods_answer(ctx: &Ctx) -> Result<(), Failure> {
    let script =
        format!("mkdir /www && hostname > /www/index.html && exec httpd -f -p {PORT} -h /www");
    let set = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"name": "plain", "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": {"app": "plain"}},
            "template": {"metadata": {"labels": {"app": "plain"}}, "spec": {
                "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "busybox", "image": ctx.busybox, "command": ["sh", "-c", script],
                    "readinessProbe": {
                        "httpGet": {"path": "/", "port": PORT}, "periodSeconds": 1,
                    },
                }],
            }},
        },
    });
    ctx.kubectl_in(&["apply", "-f", "-"], &set.to_string()).await?;
    let names = |wanted: fn(&NodeRef) -> bool| -> BTreeSet<String> {
        let nodes = ctx.cluster.nodes().iter().filter(|node| wanted(&node.id()));
        nodes.map(|node| node.name().to_owned()).collect()
    };
    let workers = names(|id| matches!(id, NodeRef::Worker(_)));
    let wanted = if workers.is_empty() { names(|_| true) } else { workers };
    let pods = wait_for("a ready pod on every node that takes any", SOON, async || {
        let pods = ctx.pods("plain").await?;
        let on: BTreeSet<String> = pods.iter().map(|pod| pod.node.clone()).collect();
        if on == wanted { Ok(pods) } else { Err(format!("{pods:?}").into()) }
    })
    .await?;
    for pod in &pods {
        for node in ctx.cluster.nodes() {
            let answer = fetch(&**node, SocketAddr::new(pod.ip, PORT)).await?;
            assert_eq!(answer, pod.name, "from {}", node.name());
        }
    }
    Ok(())
}
