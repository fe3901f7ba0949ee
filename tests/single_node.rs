//! One node of kind in a container of its own, without a cluster: its kubelet runs the pods in its
//! folder and knows no API. What works on a node's containers by their runtime is tried there in
//! seconds.

mod e2e_support;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use e2e_support::{Failure, kubernetes, run_on, supply, wait_for};
use futures::FutureExt;
use futures::future::BoxFuture;
use libtest_mimic::{Arguments, Failed, Trial};
use outage::cluster::client::{Access, words};
use outage::cluster::{
    Cluster, ClusterError, Command, DiedUnasked, Node, Output, Provider, Service,
};
use outage::fault;
use outage::scenario::{Component, ContainerNameTaken, Fault, NameHolder, NodeRef, Signal};
use serde_json::{Value, json};
use testcontainers::bollard::models::{HostConfig, Mount, MountType};
use testcontainers::core::{CgroupnsMode, WaitFor};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, GenericImage, ImageExt};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::broadcast;

/// For a container to start, or an etcd in it.
const SOON: Duration = Duration::from_mins(1);

const CONFIGURATION: &str = "/var/lib/kubelet/config.yaml";
const STANDALONE: &str = "/etc/systemd/system/kubelet.service.d/99-standalone.conf";

fn main() -> ExitCode {
    let mut args = Arguments::from_args();
    args.test_threads.get_or_insert(1);
    let trials = match e2e_support::lacks(Provider::Kind) {
        Some(why) => vec![e2e_support::skip("single_node".into(), why)],
        None => [
            ("name_taken_by_the_running_attempt", NameHolder::RunningAttempt),
            ("name_taken_by_a_stray_container", NameHolder::StrayContainer),
        ]
        .map(|(name, by)| Trial::test(name, move || tried(by)))
        .into(),
    };
    libtest_mimic::run(&args, trials).exit_code()
}

fn tried(by: NameHolder) -> Result<(), Failed> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(name_taken(by)).map_err(|failure| words(&*failure).into())
}

async fn name_taken(by: NameHolder) -> Result<(), Failure> {
    let single = Arc::new(Box::pin(Single::start()).await?);
    let access = Access::new(Arc::clone(&single) as Arc<dyn Cluster>).await?;
    let on = NodeRef::Master(1);
    let taken =
        Fault::ContainerNameTaken(ContainerNameTaken { component: Component::Etcd, on, by });
    let undo = fault::undo(&taken, &access).await?;
    let proof = async || fault::prove(&undo, &access).await;
    if let Ok(evidence) = proof().await? {
        return Err(format!("proven before it is injected: {evidence:?}").into());
    }
    fault::inject(&undo, &access, Box::new(|| {})).await?;
    let evidence = proof().await?.map_err(|why| format!("not proven: {why}"))?;
    println!("{}", evidence.join("\n"));
    let serves = etcd_serves(&*single.nodes[0]).await;
    match (by, serves) {
        (NameHolder::RunningAttempt, Err(why)) => return Err(why),
        (NameHolder::StrayContainer, Ok(())) => return Err("etcd serves".into()),
        _ => {}
    }
    fault::revert(&undo, &access).await?;
    if let Ok(evidence) = proof().await? {
        return Err(format!("proven after it was taken back: {evidence:?}").into());
    }
    wait_for("etcd serves again", SOON, async || etcd_serves(&*single.nodes[0]).await).await
}

async fn etcd_serves(node: &dyn Node) -> Result<(), Failure> {
    let get = ["etcdctl", "--command-timeout=2s", "get", "/"];
    run_on(node, Command::new(get)).await.map(drop)
}

/// A cluster of one node, and without an API.
#[derive(Debug)]
struct Single {
    nodes: Vec<Arc<dyn Node>>,
    deaths: broadcast::Sender<DiedUnasked>,
}

impl Single {
    /// A node whose kubelet runs etcd, and a pod beside it.
    async fn start() -> Result<Self, Failure> {
        let supplies = supply(Provider::Kind, false).await?;
        let image = |part: &str| {
            let mut names = supplies.assets.images().iter().map(|image| image.reference.clone());
            names.find(|name| name.contains(part)).ok_or_else(|| format!("no image {part}"))
        };
        let image_name = "outage/kind-node";
        let container = GenericImage::new(image_name, &format!("v{}", kubernetes()))
            .with_wait_for(WaitFor::Nothing)
            .with_privileged(true)
            .with_cgroupns_mode(CgroupnsMode::Private)
            .with_host_config_modifier(as_kind_does)
            .start()
            .await?;
        let node = Arc::new(Container { name: container.id().to_owned(), _container: container });
        let up = Command::new(["systemctl", "is-active", "containerd"]);
        wait_for("containerd runs", SOON, async || run_on(&*node, up.clone()).await).await?;
        let etcd = [
            "etcd",
            "--data-dir=/var/lib/etcd",
            "--listen-client-urls=http://127.0.0.1:2379",
            "--advertise-client-urls=http://127.0.0.1:2379",
        ];
        let sleeps = ["sleep", "100000"];
        for (path, text) in [
            (CONFIGURATION, configuration().to_string()),
            (
                STANDALONE,
                format!(
                    "[Service]\nExecStart=\nExecStart=/usr/bin/kubelet --config={CONFIGURATION}\n"
                ),
            ),
            ("/etc/kubernetes/manifests/etcd.yaml", pod("etcd", &image("/etcd:")?, &etcd)),
            // A name is taken by a container of another pod.
            ("/etc/kubernetes/manifests/other.yaml", pod("other", &image("/busybox:")?, &sleeps)),
        ] {
            let script = r#"mkdir -p "$(dirname "$1")" && cat >"$1""#;
            run_on(&*node, Command::script(script, [path]).stdin(text)).await?;
        }
        let restart = "systemctl daemon-reload && systemctl restart kubelet";
        run_on(&*node, Command::script(restart, [""; 0]).timeout(SOON)).await?;
        wait_for("etcd serves", SOON, async || etcd_serves(&*node).await).await?;
        let (deaths, _) = broadcast::channel(1);
        Ok(Self { nodes: vec![node], deaths })
    }
}

/// What kind gives its nodes beside all privileges.
fn as_kind_does(config: &mut HostConfig) {
    let mount = |typ, target: &str| Mount {
        typ: Some(typ),
        target: Some(target.to_owned()),
        ..Mount::default()
    };
    config.mounts.get_or_insert_default().extend([
        mount(MountType::TMPFS, "/tmp"),
        mount(MountType::TMPFS, "/run"),
        // Overlays can't be stacked upon the container's own.
        mount(MountType::VOLUME, "/var"),
    ]);
}

fn configuration() -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "staticPodPath": "/etc/kubernetes/manifests",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "systemd",
        "cgroupRoot": "/kubelet",
        "failCgroupV1": false,
        "failSwapOn": false,
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"nodefs.available": "0%", "imagefs.available": "0%"},
    })
}

fn pod(name: &str, image: &str, command: &[&str]) -> String {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "kube-system",
            "labels": {"component": name, "tier": "control-plane"},
        },
        "spec": {
            "hostNetwork": true,
            "containers": [{
                "name": name, "image": image, "imagePullPolicy": "Never", "command": command,
            }],
        },
    })
    .to_string()
}

impl Cluster for Single {
    fn provider(&self) -> &'static str {
        "single node"
    }

    fn name(&self) -> String {
        "single node".into()
    }

    fn nodes(&self) -> &[Arc<dyn Node>] {
        &self.nodes
    }

    fn load_balancer(&self) -> SocketAddr {
        ([127, 0, 0, 1], 6443).into()
    }

    /// There is no API.
    fn admin_kubeconfig(&self) -> &'static str {
        "{apiVersion: v1, kind: Config, current-context: a, \
         clusters: [{name: a, cluster: {server: 'https://127.0.0.1:6443', insecure-skip-tls-verify: true}}], \
         contexts: [{name: a, context: {cluster: a, user: a}}], users: [{name: a, user: {token: t}}]}"
    }

    fn connect(
        &self,
        _: SocketAddr,
        _: Duration,
    ) -> BoxFuture<'_, Result<io::Result<TcpStream>, ClusterError>> {
        async { Ok(Err(io::ErrorKind::ConnectionRefused.into())) }.boxed()
    }

    fn provenance(&self) -> Vec<(String, String)> {
        vec![]
    }

    fn departures(&self) -> Vec<String> {
        vec![]
    }

    fn deaths(&self) -> broadcast::Receiver<DiedUnasked> {
        self.deaths.subscribe()
    }

    fn delete(&self) -> BoxFuture<'_, Result<(), ClusterError>> {
        async { Ok(()) }.boxed()
    }
}

/// A container as a node: commands, services and their logs.
#[derive(Debug)]
struct Container {
    name: String,
    /// Removed with this.
    _container: ContainerAsync<GenericImage>,
}

impl Container {
    async fn exec(&self, command: Command) -> Result<Output, ClusterError> {
        let failed = |error: io::Error| ClusterError::caused("run docker exec", error);
        let mut docker = tokio::process::Command::new("docker");
        docker.args(["exec", "--interactive", &self.name]).args(&command.argv);
        docker.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = docker.kill_on_drop(true).spawn().map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            // Whoever reads nothing closes it early.
            let _ = stdin.write_all(command.stdin.as_deref().unwrap_or_default()).await;
        }
        let output = tokio::time::timeout(command.timeout, child.wait_with_output())
            .await
            .map_err(|_| ClusterError::new(format!("{:?} took too long", command.argv)))?
            .map_err(failed)?;
        let code = output.status.code().unwrap_or(-1);
        Ok(Output { code, stdout: output.stdout, stderr: output.stderr })
    }

    async fn systemctl(&self, verb: &str, service: Service) -> Result<(), ClusterError> {
        let command = Command::new(["systemctl", verb, unit(service)]).timeout(SOON);
        let output = self.exec(command).await?;
        match output.code {
            0 => Ok(()),
            _ => Err(ClusterError::new(String::from_utf8_lossy(&output.stderr))),
        }
    }
}

fn unit(service: Service) -> &'static str {
    match service {
        Service::Kubelet => "kubelet",
        Service::Containerd => "containerd",
    }
}

/// What nothing here asks for.
fn no<T>() -> BoxFuture<'static, Result<T, ClusterError>>
where
    T: Send + 'static,
{
    async { Err(ClusterError::new("a single node can't do that")) }.boxed()
}

impl Node for Container {
    fn id(&self) -> NodeRef {
        NodeRef::Master(1)
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn program(&self) -> &'static str {
        "outage"
    }

    fn address(&self) -> IpAddr {
        [127, 0, 0, 1].into()
    }

    fn run(&self, command: Command) -> BoxFuture<'_, Result<Output, ClusterError>> {
        self.exec(command).boxed()
    }

    fn connect(
        &self,
        _: SocketAddr,
        _: Duration,
    ) -> BoxFuture<'_, Result<io::Result<TcpStream>, ClusterError>> {
        no()
    }

    fn service(&self, service: Service, run: bool) -> BoxFuture<'_, Result<(), ClusterError>> {
        self.systemctl(if run { "start" } else { "stop" }, service).boxed()
    }

    fn log(
        &self,
        service: Service,
        since: Option<u64>,
    ) -> BoxFuture<'_, Result<(Vec<u8>, u64), ClusterError>> {
        async move {
            let read = ["journalctl", "--output=cat", "--no-pager", "--unit", unit(service)];
            let mut all = self.exec(Command::new(read)).await?.stdout;
            let length = all.len();
            let from = since.map_or(length, |since| usize::try_from(since).unwrap_or(length));
            Ok((all.split_off(from.min(length)), length as u64))
        }
        .boxed()
    }

    fn kill(&self, _: Service, _: Signal) -> BoxFuture<'_, Result<(), ClusterError>> {
        no()
    }

    fn freeze(&self, _: bool) -> BoxFuture<'_, Result<(), ClusterError>> {
        no()
    }

    fn frozen(&self) -> bool {
        false
    }

    fn powered(&self) -> bool {
        true
    }

    fn power(&self, _: bool) -> BoxFuture<'_, Result<(), ClusterError>> {
        no()
    }
}
