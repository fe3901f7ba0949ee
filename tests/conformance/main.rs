//! What every provider's cluster must do in steady state, when a process is killed and when a
//! machine loses its power. One cluster a provider serves all cases; the names filter:
//! `cargo test --features e2e --test conformance -- etcd`. `OUTAGE_KUBERNETES` chooses the version.

mod death;
#[path = "../e2e_support/mod.rs"]
mod e2e_support;
mod metrics;
mod sizes;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use e2e_support::stage::{self, Before, CaseOf, Shared};
use e2e_support::{Failure, Made, Provider, masters, run_on, wait_for, words};
use futures::FutureExt;
use outage::cluster::client::{APISERVER_PORT, Access, Answer, Vantage};
use outage::cluster::{Cluster, Command, DiedUnasked, Node};
use outage::scenario::Addon;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::broadcast;

/// For what Kubernetes does by itself: scheduling, restarting a container.
const SOON: Duration = Duration::from_mins(1);
/// For a machine that boots: its static pods and the pods it had.
const BOOT: Duration = Duration::from_mins(3);

const NAME: &str = "web.default.svc.cluster.local";
const PORT: u16 = 8080;

/// In this order: the disturbing ones come last.
const CASES: [(&str, CaseOf<Ctx>); 14] = [
    ("kubernetes_service_lists_every_apiserver", |c| service_lists_apiservers(c).boxed_local()),
    ("etcd_members_are_healthy", |c| etcd_is_healthy(c).boxed_local()),
    ("pods_answer_across_nodes", |c| pods_answer(c).boxed_local()),
    ("service_answers_by_vip_from_nodes_and_pods", |c| service_answers_by_vip(c).boxed_local()),
    ("service_answers_by_name_from_nodes_and_pods", |c| service_answers_by_name(c).boxed_local()),
    ("logs_and_exec_work_on_every_node", |c| logs_and_exec(c).boxed_local()),
    ("top_has_figures_of_every_node_and_pod", |c| metrics::top_has_figures(c).boxed_local()),
    ("an_autoscaler_has_a_metric", |c| metrics::autoscaler_has_metric(c).boxed_local()),
    ("killed_scheduler_comes_back", |c| {
        killed_comes_back(c, "kube-scheduler", 10259).boxed_local()
    }),
    ("killed_apiserver_comes_back", |c| killed_comes_back(c, "kube-apiserver", 6443).boxed_local()),
    ("a_worker_that_dies_is_reported_and_boots_again", |c| death::machine_dies(c).boxed_local()),
    ("powered_off_worker_comes_back", |c| power_cycle(c, Role::Worker).boxed_local()),
    ("powered_off_master_comes_back_with_its_etcd", |c| power_cycle(c, Role::Master).boxed_local()),
    ("nothing_died_unasked", |c| async { nothing_died(c) }.boxed_local()),
];

#[derive(Clone, Copy, PartialEq)]
enum Role {
    Master,
    Worker,
}

fn main() -> ExitCode {
    let before = |provider| {
        let sizes = sizes::of(provider).iter();
        let case = sizes.map(|&(masters, workers)| -> (String, Before) {
            let comes_up = move || sizes::comes_up(provider, masters, workers).boxed_local();
            (format!("{masters}_masters_and_{workers}_workers_come_up"), Box::new(comes_up))
        });
        case.collect()
    };
    let cases = || {
        let cases =
            CASES.iter().map(|&(name, case)| -> (_, stage::Case<Ctx>) { (name, Box::new(case)) });
        cases.collect()
    };
    stage::run(before, cases, |_, _| false)
}

/// A cluster with the workload that the cases look at.
struct Ctx {
    provider: Provider,
    cluster: Arc<dyn Cluster>,
    access: Access,
    busybox: String,
    deaths: Mutex<broadcast::Receiver<DiedUnasked>>,
}

/// A pod as the API shows it.
#[derive(Debug, Clone)]
struct Pod {
    name: String,
    uid: String,
    node: String,
    ip: IpAddr,
    restarts: u64,
}

impl Shared for Ctx {
    async fn new(provider: Provider) -> Result<Self, Failure> {
        let ctx = Self::over(provider, (3, 1), &[Addon::MetricsServer]).await?;
        // Not before, or a failure here would leave a cluster that nobody deletes.
        let ready = async {
            ctx.kubectl_in(&["apply", "-f", "-"], &ctx.workload()).await?;
            ctx.workload_runs(SOON).await
        };
        if let Err(failure) = ready.await {
            ctx.cluster.delete().await?;
            return Err(failure);
        }
        Ok(ctx)
    }

    fn cluster(&self) -> &dyn Cluster {
        &*self.cluster
    }
}

impl Ctx {
    /// A cluster without a workload.
    async fn over(
        provider: Provider,
        size: (usize, usize),
        addons: &[Addon],
    ) -> Result<Self, Failure> {
        let Made { cluster, busybox } = provider.make(size, addons).await?;
        let deaths = Mutex::new(cluster.deaths());
        let access = Access::new(Arc::clone(&cluster)).await?;
        Ok(Self { provider, cluster, access, busybox, deaths })
    }

    /// Three replicas on three nodes behind a Service, and on the network of every node a pod
    /// that looks names up as pods do.
    fn workload(&self) -> String {
        let container = |script: &str, ready: Value| {
            json!([{
                "name": "busybox", "image": self.busybox, "imagePullPolicy": "IfNotPresent",
                "command": ["sh", "-c", script], "readinessProbe": ready,
                // What the share in an autoscaler is of.
                "resources": {"requests": {"cpu": "10m"}},
            }])
        };
        let everywhere = json!([{"operator": "Exists", "effect": "NoSchedule"}]);
        let serve = format!(
            "mkdir -p /www && hostname > /www/index.html && echo serving $(hostname) && \
             exec httpd -f -p {PORT} -h /www"
        );
        let labels = |app: &str| json!({"app": app});
        let web = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {
                "replicas": 3, "selector": {"matchLabels": labels("web")},
                "template": {"metadata": {"labels": labels("web")}, "spec": {
                    "containers": container(&serve, json!({
                        "httpGet": {"path": "/", "port": PORT}, "periodSeconds": 1,
                    })),
                    "tolerations": everywhere,
                    "terminationGracePeriodSeconds": 0,
                    "topologySpreadConstraints": [{
                        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
                        "whenUnsatisfiable": "DoNotSchedule",
                        "labelSelector": {"matchLabels": labels("web")},
                    }],
                }},
            },
        });
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"selector": labels("web"), "ports": [{"port": PORT}]},
        });
        let nodes = json!({
            "apiVersion": "apps/v1", "kind": "DaemonSet",
            "metadata": {"name": "node", "namespace": "default"},
            "spec": {
                "selector": {"matchLabels": labels("node")},
                "template": {"metadata": {"labels": labels("node")}, "spec": {
                    "hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet",
                    "containers": container("echo serving $(hostname) && exec tail -f /dev/null",
                        Value::Null),
                    "tolerations": everywhere,
                    "terminationGracePeriodSeconds": 0,
                }},
            },
        });
        json!({"apiVersion": "v1", "kind": "List", "items": [web, service, nodes]}).to_string()
    }

    async fn workload_runs(&self, limit: Duration) -> Result<(), Failure> {
        let nodes = self.cluster.nodes().len();
        for (app, wanted) in [("web", 3), ("node", nodes)] {
            wait_for(&format!("{wanted} ready pods of {app}"), limit, async || {
                let pods = self.pods(app).await?;
                if pods.len() == wanted { Ok(()) } else { Err(format!("{pods:?}").into()) }
            })
            .await?;
        }
        Ok(())
    }

    /// The ready pods with this label.
    async fn pods(&self, app: &str) -> Result<Vec<Pod>, Failure> {
        let list = self.get(&["pods", "-l", &format!("app={app}")]).await?;
        let items = list["items"].as_array().into_iter().flatten();
        Ok(items.filter_map(ready_pod).collect())
    }

    async fn service_vip(&self) -> Result<SocketAddr, Failure> {
        let service = self.get(&["service", "web"]).await?;
        let address = service["spec"]["clusterIP"].as_str().unwrap_or_default();
        Ok(SocketAddr::new(address.parse()?, PORT))
    }

    async fn in_pod(&self, pod: &Pod, command: &[&str]) -> Result<String, Failure> {
        self.kubectl(&[&["exec", &pod.name, "--"], command].concat()).await
    }

    /// Runs etcdctl beside this master's etcd, asking no other member unless told so.
    async fn etcdctl(&self, master: &dyn Node, args: &[&str]) -> Result<String, Failure> {
        let pod = format!("etcd-{}", master.name());
        let pki = "/etc/kubernetes/pki/etcd";
        let (ca, cert) = (format!("--cacert={pki}/ca.crt"), format!("--cert={pki}/server.crt"));
        let key = format!("--key={pki}/server.key");
        let command = ["-n", "kube-system", "exec", &pod, "--", "etcdctl", &ca, &cert, &key];
        self.kubectl(&[&command[..], args].concat()).await
    }
}

/// What is needed of a pod, if it is ready and not being deleted.
fn ready_pod(pod: &Value) -> Option<Pod> {
    let conditions = pod["status"]["conditions"].as_array()?;
    let ready = conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
    if !ready || !pod["metadata"]["deletionTimestamp"].is_null() {
        return None;
    }
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Some(Pod {
        name: text(&pod["metadata"]["name"])?,
        uid: text(&pod["metadata"]["uid"])?,
        node: text(&pod["spec"]["nodeName"])?,
        ip: pod["status"]["podIP"].as_str()?.parse().ok()?,
        restarts: pod["status"]["containerStatuses"][0]["restartCount"].as_u64()?,
    })
}

/// The body of `GET /` over a connection from this node.
async fn fetch(node: &dyn Node, from: SocketAddr) -> Result<String, Failure> {
    let limit = Duration::from_secs(3);
    let mut stream = node.connect(from, limit).await??;
    let exchange = async {
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = tokio::time::timeout(limit, exchange).await??;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no end of the headers")?;
    if head.contains(" 200 ") { Ok(body.trim().into()) } else { Err(head.to_owned().into()) }
}

/// Asks until every replica has answered.
async fn all_answer(
    from: &str,
    pods: &[Pod],
    mut ask: impl AsyncFnMut() -> Result<String, Failure>,
) -> Result<(), Failure> {
    // One replica is missed by all of them with a probability of 3 · (2/3)^60 < 10^-10.
    const TRIES: usize = 60;
    // A node's kube-proxy hears of a new endpoint a moment later, and looks once a second at most.
    // <https://github.com/kubernetes/kubernetes/blob/v1.34.4/pkg/proxy/apis/config/v1alpha1/defaults.go>
    const HEARD: Duration = Duration::from_secs(10);
    let (start, mut tries) = (Instant::now(), 0);
    let mut missing: BTreeSet<&str> = pods.iter().map(|pod| pod.name.as_str()).collect();
    while tries < TRIES || start.elapsed() < HEARD {
        tries += 1;
        let answer = ask().await.map_err(|failure| format!("from {from}: {}", words(&failure)))?;
        if !pods.iter().any(|pod| pod.name == answer) {
            return Err(format!("from {from}: `{answer}` answered, which is no replica").into());
        }
        missing.remove(answer.as_str());
        if missing.is_empty() {
            return Ok(());
        }
    }
    Err(format!("from {from}: {missing:?} never answered {tries} requests").into())
}

async fn service_lists_apiservers(ctx: &Ctx) -> Result<(), Failure> {
    let wanted: BTreeSet<String> =
        masters(&*ctx.cluster).iter().map(|master| master.address().to_string()).collect();
    let addresses = |list: &Value, key: &str| -> BTreeSet<String> {
        let lists = list[key].as_array().into_iter().flatten();
        let of = lists.flat_map(|entry| entry["addresses"].as_array().into_iter().flatten());
        of.filter_map(|a| a["ip"].as_str().or(a.as_str()).map(str::to_owned)).collect()
    };
    wait_for("the address of every apiserver", SOON, async || {
        let endpoints = addresses(&ctx.get(&["endpoints", "kubernetes"]).await?, "subsets");
        let slice = addresses(&ctx.get(&["endpointslice", "kubernetes"]).await?, "endpoints");
        if endpoints == wanted && slice == wanted {
            return Ok(());
        }
        Err(format!("Endpoints {endpoints:?}, EndpointSlice {slice:?}").into())
    })
    .await
}

async fn etcd_is_healthy(ctx: &Ctx) -> Result<(), Failure> {
    let masters = masters(&*ctx.cluster);
    let listed = ctx.etcdctl(&*masters[0], &["member", "list"]).await?;
    let started = listed.lines().filter(|line| line.contains(", started, ")).count();
    if started != masters.len() {
        return Err(format!("{} members wanted: {listed}", masters.len()).into());
    }
    for master in &masters {
        let health = ctx.etcdctl(&**master, &["endpoint", "health"]).await;
        health.map_err(|failure| format!("{}: {}", master.name(), words(&failure)))?;
    }
    Ok(())
}

async fn pods_answer(ctx: &Ctx) -> Result<(), Failure> {
    let pods = ctx.pods("web").await?;
    let on: BTreeSet<&str> = pods.iter().map(|pod| pod.node.as_str()).collect();
    if on.len() != 3 {
        return Err(format!("the replicas are not on three nodes: {pods:?}").into());
    }
    for to in &pods {
        let address = SocketAddr::new(to.ip, PORT);
        for node in ctx.cluster.nodes() {
            let answer = fetch(&**node, address).await;
            let answer =
                answer.map_err(|e| format!("{} to {}: {}", node.name(), to.name, words(&e)))?;
            is_from(&answer, to, node.name())?;
        }
        for from in &pods {
            let url = format!("http://{address}/");
            let answer = ctx.in_pod(from, &["timeout", "5", "wget", "-qO-", &url]).await?;
            is_from(&answer, to, &from.name)?;
        }
    }
    Ok(())
}

async fn service_answers_by_vip(ctx: &Ctx) -> Result<(), Failure> {
    let (pods, vip) = (ctx.pods("web").await?, ctx.service_vip().await?);
    for node in ctx.cluster.nodes() {
        all_answer(node.name(), &pods, async || fetch(&**node, vip).await).await?;
    }
    by_wget(ctx, &pods, &pods, &format!("http://{vip}/")).await
}

async fn service_answers_by_name(ctx: &Ctx) -> Result<(), Failure> {
    let (pods, on_nodes) = (ctx.pods("web").await?, ctx.pods("node").await?);
    let from = [&pods[..], &on_nodes[..]].concat();
    by_wget(ctx, &from, &pods, &format!("http://{NAME}:{PORT}/")).await?;
    // By the search list of the pod's resolv.conf, too.
    by_wget(ctx, &from, &pods, &format!("http://web:{PORT}/")).await
}

fn is_from(answer: &str, pod: &Pod, asked_from: &str) -> Result<(), Failure> {
    if answer == pod.name {
        return Ok(());
    }
    Err(format!("{} answered {asked_from}: `{answer}`", pod.name).into())
}

/// Lets every pod of `from` fetch this. (Debian's static busybox dies of wget's `-T`.)
async fn by_wget(ctx: &Ctx, from: &[Pod], pods: &[Pod], url: &str) -> Result<(), Failure> {
    for pod in from {
        let place = format!("{} on {}", pod.name, pod.node);
        // One exec for many requests: each costs a few hundred milliseconds.
        let script = "for i in 1 2 3 4 5 6 7 8 9 10; do timeout 5 wget -qO- \"$1\" || exit 1; done";
        let mut answers = Vec::new();
        all_answer(&place, pods, async || {
            if answers.is_empty() {
                let text = ctx.in_pod(pod, &["sh", "-c", script, "sh", url]).await?;
                answers = text.lines().map(str::to_owned).collect();
            }
            answers.pop().ok_or_else(|| "an empty answer".into())
        })
        .await?;
    }
    Ok(())
}

async fn logs_and_exec(ctx: &Ctx) -> Result<(), Failure> {
    for pod in ctx.pods("web").await?.iter().chain(&ctx.pods("node").await?) {
        // A pod on its node's network has the node's host name.
        let host = if pod.name.starts_with("node-") {
            let node = ctx.cluster.nodes().iter().find(|node| node.name() == pod.node);
            host_name(&**node.ok_or("no such node")?).await?
        } else {
            pod.name.clone()
        };
        let logs = ctx.kubectl(&["logs", &pod.name]).await?;
        assert_eq!(logs, format!("serving {host}"));
        assert_eq!(ctx.in_pod(pod, &["hostname"]).await?, host);
    }
    Ok(())
}

/// The name that a machine has for itself.
async fn host_name(node: &dyn Node) -> Result<String, Failure> {
    run_on(node, Command::new(["cat", "/proc/sys/kernel/hostname"])).await
}

/// Kills a component on the second master; its kubelet must bring it back.
async fn killed_comes_back(ctx: &Ctx, component: &str, port: u16) -> Result<(), Failure> {
    let node = Arc::clone(&masters(&*ctx.cluster)[1]);
    let pod = format!("{component}-{}", node.name());
    let look = async || {
        let pod = ctx.get(&["-n", "kube-system", "pod", &pod]).await?;
        ready_pod(&pod).ok_or_else(|| format!("{}", pod["status"]["containerStatuses"]).into())
    };
    let before = wait_for(&format!("{pod} is ready"), SOON, look).await?;
    let script = r#"
for process in /proc/[0-9]*; do
  program=$(readlink "$process/exe") || continue
  [ "${program##*/}" = "$1" ] && kill -KILL "${process#/proc/}" && killed=yes
done
[ "$killed" = yes ]
"#;
    run_on(&*node, Command::script(script, [component])).await?;
    wait_for(&format!("{pod} is restarted and ready"), SOON, async || {
        let now = look().await?;
        if now.restarts > before.restarts { Ok(()) } else { Err(format!("{now:?}").into()) }
    })
    .await?;
    let local = SocketAddr::new(IpAddr::from([127, 0, 0, 1]), port);
    node.connect(local, Duration::from_secs(2)).await??;
    if component == "kube-apiserver" {
        apiserver_ready(ctx, &*node).await?;
    }
    Ok(())
}

async fn apiserver_ready(ctx: &Ctx, node: &dyn Node) -> Result<(), Failure> {
    let address = SocketAddr::new(node.address(), APISERVER_PORT);
    wait_for(&format!("readyz of {}", node.name()), SOON, async || {
        let limit = Duration::from_secs(3);
        match ctx.access.get(Vantage::Beside, address, "/readyz", limit).await? {
            Answer::Status { code: 200, .. } => Ok(()),
            answer => Err(format!("{answer:?}").into()),
        }
    })
    .await
}

/// Cuts the power of the last machine of a role, proves it, and gives it back.
async fn power_cycle(ctx: &Ctx, role: Role) -> Result<(), Failure> {
    let masters = masters(&*ctx.cluster);
    let node = match role {
        Role::Master => masters.last(),
        Role::Worker => ctx.cluster.nodes().last(),
    };
    let node = Arc::clone(node.ok_or("no such node")?);
    let (name, address) = (node.name().to_owned(), node.address());
    let before = node_pods(ctx, &name).await?;
    let key = format!("/outage/{name}");
    if role == Role::Master {
        ctx.etcdctl(&*masters[0], &["put", &key, "before"]).await?;
    }
    let disk = "stat -c %i /var/lib/kubelet/config.yaml; stat -c %i /var/lib/etcd/member/snap/db \
                2>/dev/null; sha256sum /etc/kubernetes/kubelet.conf";
    let was = run_on(&*node, Command::script(disk, [""; 0])).await?;

    node.power(false).await?;
    assert!(!node.powered());
    let kubelet = SocketAddr::new(address, 10250);
    let open = ctx.cluster.connect(kubelet, Duration::from_secs(1)).await?;
    assert!(open.is_err(), "{name}'s kubelet answers without power");
    let balancer = ctx.cluster.load_balancer();
    for other in ctx.cluster.nodes().iter().filter(|other| other.name() != name) {
        let open = other.connect(balancer, Duration::from_secs(1)).await?;
        open.map_err(|why| format!("{} to the load balancer: {why}", other.name()))?;
    }
    if role == Role::Master {
        wait_for("two etcd members take a write", SOON, async || {
            ctx.etcdctl(&*masters[0], &["put", &format!("{key}/off"), "off"]).await
        })
        .await?;
    }
    node.power(true).await?;
    assert!(node.powered());

    let now = run_on(&*node, Command::script(disk, [""; 0])).await?;
    assert_eq!(now, was, "the disk of {name} is another");
    wait_for(&format!("every pod of {name} runs again"), BOOT, async || {
        let now = node_pods(ctx, &name).await?;
        let again = |pod: &Pod| now.iter().any(|p| p.uid == pod.uid && p.restarts > pod.restarts);
        let missing: Vec<&Pod> = before.iter().filter(|pod| !again(pod)).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("not {missing:?} in {now:?}").into()) }
    })
    .await?;
    wait_for(&format!("{name} is Ready at its address"), SOON, async || {
        let object = ctx.get(&["node", &name]).await?;
        let status = &object["status"];
        let ready = status["conditions"].as_array().into_iter().flatten();
        let ready = ready.into_iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
        let same = status["addresses"].as_array().into_iter().flatten();
        let same = same.into_iter().any(|a| a["address"] == address.to_string().as_str());
        if ready && same { Ok(()) } else { Err(status.to_string().into()) }
    })
    .await?;
    if role == Role::Master {
        apiserver_ready(ctx, &*node).await?;
        etcd_is_healthy(ctx).await?;
        let read = ["get", "--consistency=s", "--print-value-only", "--prefix", &key];
        let kept = ctx.etcdctl(&*node, &read).await?;
        assert_eq!(kept, "before\noff", "what {name}'s etcd member holds by itself");
        service_lists_apiservers(ctx).await?;
    }
    ctx.workload_runs(BOOT).await?;
    // Endpoints and pod addresses may have changed: a look at the network as a whole.
    wait_for("every replica answers from everywhere", SOON, async || {
        pods_answer(ctx).await?;
        service_answers_by_vip(ctx).await
    })
    .await?;
    service_answers_by_name(ctx).await?;
    logs_and_exec(ctx).await
}

/// The ready pods on this node, in all namespaces.
async fn node_pods(ctx: &Ctx, node: &str) -> Result<Vec<Pod>, Failure> {
    let field = format!("spec.nodeName={node}");
    let list = ctx.get(&["pods", "-A", "--field-selector", &field]).await?;
    Ok(list["items"].as_array().into_iter().flatten().filter_map(ready_pod).collect())
}

fn nothing_died(ctx: &Ctx) -> Result<(), Failure> {
    let mut deaths = ctx.deaths.lock().unwrap_or_else(PoisonError::into_inner);
    match deaths.try_recv() {
        Err(broadcast::error::TryRecvError::Empty) => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}
