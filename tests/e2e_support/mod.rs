//! What the tests on real clusters share: the providers, and waiting for conditions.

// Each test binary uses a part of it.
#![allow(dead_code)]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use outage::assets::{Cache, DEFAULT_KUBERNETES, Fetcher, Progress, Sources, Wanted};
use outage::cluster::{Cluster, ClusterOptions, Command, Node};
use outage::scenario::NodeRef;
use tokio::time::Instant;

/// What a test fails with.
pub type Failure = Box<dyn Error + Send + Sync>;

/// From one look at what is awaited to the next.
pub const PERIOD: Duration = Duration::from_millis(200);

/// A cluster and what of its assets a test needs.
pub struct Made {
    /// The cluster.
    pub cluster: Arc<dyn Cluster>,
    /// The reference of an image with busybox, which every node has.
    pub busybox: String,
}

/// Something that makes clusters of three masters and one worker.
#[derive(Clone, Copy)]
pub struct Provider {
    /// The first part of its cases' names.
    pub name: &'static str,
    /// Makes one.
    pub make: fn() -> LocalBoxFuture<'static, Result<Made, Failure>>,
}

/// Every provider.
pub const PROVIDERS: [Provider; 1] = [Provider { name: "lab", make: || make_lab().boxed_local() }];

/// The version to test: `OUTAGE_KUBERNETES`, else the default.
pub fn kubernetes() -> String {
    std::env::var("OUTAGE_KUBERNETES").unwrap_or_else(|_| DEFAULT_KUBERNETES.to_string())
}

async fn make_lab() -> Result<Made, Failure> {
    let kubernetes = kubernetes().parse()?;
    let progress = Progress::silent();
    let fetcher = Fetcher::new(Cache::from_env()?, Sources::from_env(), progress.clone())?;
    let assets = Arc::new(fetcher.fetch(&Wanted { kubernetes, metrics_server: false }).await?);
    let images = assets.images().iter().map(|image| image.reference.clone());
    let busybox = images.into_iter().find(|name| name.contains("/busybox:"));
    let options = ClusterOptions {
        kubernetes,
        masters: 3,
        workers: 1,
        settings: vec![],
        program: env!("CARGO_BIN_EXE_outage").into(),
        logs: None,
    };
    let began = Instant::now();
    let say = move |text: String| eprintln!("{:6.2} s  {text}", began.elapsed().as_secs_f64());
    let cluster = outage::cluster::Provider::Lab.create(assets, options, &progress, &say).await?;
    Ok(Made { cluster, busybox: busybox.ok_or("the assets hold no busybox")? })
}

/// Waits until `look` finds what it looks for, and returns that.
///
/// # Errors
/// After `limit`, with what it found last instead.
pub async fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let deadline = Instant::now() + limit;
    let mut last = "nothing: the first look did not end".to_owned();
    loop {
        match tokio::time::timeout_at(deadline, look()).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(failure)) => last = outage::cluster::client::words(&*failure),
            Err(_) => {}
        }
        if Instant::now() + PERIOD >= deadline {
            return Err(format!("{what}: not within {limit:?}; last seen: {last}").into());
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// Runs a command on a node that must succeed; its standard output, trimmed.
pub async fn run_on(node: &dyn Node, command: Command) -> Result<String, Failure> {
    let shown = command.argv.join(" ");
    let shown: String = shown.chars().take(200).collect();
    let output = node.run(command).await?;
    if output.code == 0 {
        return Ok(output.text());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let (name, code) = (node.name(), output.code);
    Err(format!("{shown} on {name}: exit code {code}: {} {}", output.text(), errors.trim()).into())
}

/// Runs kubectl as the administrator on this node, a master.
pub async fn kubectl_on(
    node: &dyn Node,
    args: &[&str],
    stdin: Option<&str>,
) -> Result<String, Failure> {
    let script = r#"KUBECONFIG=/etc/kubernetes/admin.conf exec kubectl "$@""#;
    let mut command = Command::script(script, args.iter().copied());
    command = command.timeout(Duration::from_secs(20));
    if let Some(text) = stdin {
        command = command.stdin(text);
    }
    run_on(node, command).await
}

/// The masters of a cluster, in order.
pub fn masters(cluster: &dyn Cluster) -> Vec<Arc<dyn Node>> {
    let nodes = cluster.nodes().iter();
    nodes.filter(|node| matches!(node.id(), NodeRef::Master(_))).map(Arc::clone).collect()
}
