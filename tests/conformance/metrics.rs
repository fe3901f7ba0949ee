//! The addon metrics-server: `kubectl top`, and a `HorizontalPodAutoscaler`.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::Ctx;
use super::e2e_support::stage::Shared;
use super::e2e_support::{Failure, wait_for};

/// A pod's first figures come with the second scrape after its start, and one is made every 15 s;
/// the autoscaler looks every 15 s.
const LIMIT: Duration = Duration::from_mins(2);

pub async fn top_has_figures(ctx: &Ctx) -> Result<(), Failure> {
    let nodes: BTreeSet<String> =
        ctx.cluster.nodes().iter().map(|node| node.name().to_owned()).collect();
    // NAME CPU(cores) CPU(%) MEMORY(bytes) MEMORY(%)
    let top = ctx.kubectl(&["top", "nodes", "--no-headers"]).await?;
    let with_figures: BTreeSet<String> = top
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|words| words.len() == 5 && is_cpu(words[1]) && is_memory(words[3], 1))
        .map(|words| words[0].to_owned())
        .collect();
    assert_eq!(with_figures, nodes, "{top}");

    wait_for("kubectl top pods has figures of every running pod", LIMIT, async || {
        let running = ctx.get(&["pods", "-A", "--field-selector=status.phase=Running"]).await?;
        let name = |pod: &Value| {
            let text = |field: &str| pod["metadata"][field].as_str().unwrap_or("?").to_owned();
            (text("namespace"), text("name"))
        };
        let running: BTreeSet<_> =
            running["items"].as_array().into_iter().flatten().map(name).collect();
        // NAMESPACE NAME CPU(cores) MEMORY(bytes): a small pod takes less than one of these.
        let top = ctx.kubectl(&["top", "pods", "-A", "--no-headers"]).await?;
        let with_figures: BTreeSet<_> = top
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .filter(|words| words.len() == 4 && is_cpu(words[2]) && is_memory(words[3], 0))
            .map(|words| (words[0].to_owned(), words[1].to_owned()))
            .collect();
        let missing: Vec<_> = running.difference(&with_figures).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("none of {missing:?}: {top}").into()) }
    })
    .await
}

fn is_cpu(text: &str) -> bool {
    text.strip_suffix('m').is_some_and(|number| number.parse::<u64>().is_ok())
}

fn is_memory(text: &str, least: u64) -> bool {
    text.strip_suffix("Mi").is_some_and(|number| number.parse::<u64>().is_ok_and(|n| n >= least))
}

/// An autoscaler that may change nothing says that it has a valid metric, and which.
pub async fn autoscaler_has_metric(ctx: &Ctx) -> Result<(), Failure> {
    let autoscaler = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "minReplicas": 3, "maxReplicas": 3,
            "metrics": [{"type": "Resource", "resource": {
                "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50},
            }}],
        },
    });
    ctx.kubectl_in(&["apply", "-f", "-"], &autoscaler.to_string()).await?;
    let scales = wait_for("the autoscaler has a valid metric", LIMIT, async || {
        let status = ctx.get(&["hpa", "web"]).await?["status"].take();
        let active = status["conditions"].as_array().into_iter().flatten().any(|c| {
            (&c["type"], &c["status"], &c["reason"])
                == (&json!("ScalingActive"), &json!("True"), &json!("ValidMetricFound"))
        });
        let current = &status["currentMetrics"][0]["resource"]["current"]["averageUtilization"];
        if active && current.is_u64() { Ok(()) } else { Err(status.to_string().into()) }
    })
    .await;
    ctx.kubectl(&["delete", "hpa", "web"]).await?;
    scales
}
