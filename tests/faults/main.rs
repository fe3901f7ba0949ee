//! Every fault on every provider's real cluster: not proven before it is injected, proven and proven
//! again while it is in place, no more after its revert; reverted twice, without an injection, and
//! after an injection that reached one of its places only. One cluster a provider serves all cases;
//! `cargo test --features e2e --test faults -- pause` runs those whose name contains `pause`.
//! `OUTAGE_KUBERNETES` chooses the version. On kind, of the faults that only run commands on nodes or ask
//! the API the first of each kind alone; `--include-ignored` runs all.

#[path = "../e2e_support/mod.rs"]
mod e2e_support;
mod objects;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use e2e_support::stage::{self, Shared};
use e2e_support::{Failure, Provider, wait_for, words};
use futures::{FutureExt, TryFutureExt};
use outage::cluster::client::{Access, Answer, Speech, Vantage};
use outage::cluster::{Cluster, DiedUnasked};
use outage::fault::{self, Undo};
use outage::scenario::NodeRef::{Master, Worker};
use outage::scenario::{
    Addon, CertificateChange, ClockShift, CommandFault, Component, Degradation, Degrade, Fault,
    FileChange, Freeze, FullDisk, Isolate, Issuer, KeyChange, Kill, Limit, Make, NodeRef, Pause,
    PowerOff, Program, Protocol, Resource, SettingsChange, Shift, Signal, Starts, Stop,
    TooManyOpenFiles, Traffic, TrafficEnd, TrafficRule, Validity,
};
use serde_json::Value;
use tokio::sync::broadcast;

/// For all control planes to be ready before the next case.
const CALM: Duration = Duration::from_mins(3);

/// `CoreDNS`.
fn dns() -> TrafficEnd {
    TrafficEnd::Pods {
        namespace: "kube-system".into(),
        labels: BTreeMap::from([("k8s-app".to_owned(), "kube-dns".to_owned())]),
    }
}

/// In this order: what disturbs more comes later.
fn cases() -> Vec<(&'static str, Fault)> {
    let masters = || vec![Master(1), Master(2), Master(3)];
    let static_pod = Program::Component;
    let kill = |component, on, signal| Fault::Kill(Kill { component, on, signal });
    let pause = |component, on| Fault::Pause(Pause { component, on });
    let nodes = |on: &[NodeRef]| TrafficEnd::Nodes(on.to_vec());
    let traffic =
        |from, to, rule| Traffic { from, to, rule, ports: vec![], protocol: None, one_way: false };
    let api = || TrafficEnd::Service("default/kubernetes".into());
    let etcd = |on| TrafficEnd::Component { name: static_pod(Component::Etcd), on: vec![on] };
    let (drop, reject) = (TrafficRule::Drop, TrafficRule::Reject);
    vec![
        (
            "traffic_between_nodes_is_dropped",
            Fault::Traffic(Traffic {
                ports: vec![10250],
                ..traffic(nodes(&[Master(1), Worker(1)]), nodes(&[Master(2)]), drop)
            }),
        ),
        (
            "traffic_to_a_service_is_dropped",
            Fault::Traffic(traffic(nodes(&[Worker(1)]), api(), drop)),
        ),
        (
            "traffic_to_a_service_is_rejected",
            Fault::Traffic(traffic(nodes(&[Worker(1)]), api(), reject)),
        ),
        (
            "traffic_to_the_load_balancer_is_dropped",
            Fault::Traffic(traffic(nodes(&[Worker(1)]), TrafficEnd::LoadBalancer, drop)),
        ),
        (
            "traffic_to_an_aggregated_api_is_dropped",
            Fault::Traffic(traffic(
                nodes(&[Master(3)]),
                TrafficEnd::Service("kube-system/metrics-server".into()),
                drop,
            )),
        ),
        ("traffic_from_pods_is_dropped", Fault::Traffic(traffic(dns(), api(), drop))),
        ("traffic_from_pods_is_rejected", Fault::Traffic(traffic(dns(), api(), reject))),
        (
            "traffic_to_pods_is_dropped_one_way",
            Fault::Traffic(Traffic {
                one_way: true,
                ports: vec![8080],
                protocol: Some(Protocol::Tcp),
                ..traffic(nodes(&[Master(1), Master(2)]), dns(), drop)
            }),
        ),
        (
            "datagrams_to_pods_are_dropped",
            Fault::Traffic(Traffic {
                ports: vec![53],
                protocol: Some(Protocol::Udp),
                ..traffic(nodes(&[Master(1)]), dns(), drop)
            }),
        ),
        (
            "traffic_to_the_own_etcd_is_rejected",
            Fault::Traffic(traffic(nodes(&[Master(3)]), etcd(Master(3)), reject)),
        ),
        ("a_paused_etcd", pause(static_pod(Component::Etcd), vec![Master(2)])),
        ("paused_schedulers", pause(static_pod(Component::KubeScheduler), masters())),
        ("a_paused_apiserver", pause(static_pod(Component::KubeApiserver), vec![Master(3)])),
        ("a_paused_kubelet", pause(Program::Kubelet, vec![Worker(1)])),
        ("a_paused_containerd", pause(Program::Containerd, vec![Worker(1)])),
        ("killed_schedulers", kill(static_pod(Component::KubeScheduler), masters(), Signal::Kill)),
        (
            "a_killed_apiserver",
            kill(static_pod(Component::KubeApiserver), vec![Master(1)], Signal::Kill),
        ),
        (
            "a_terminated_controller_manager",
            kill(static_pod(Component::KubeControllerManager), vec![Master(1)], Signal::Term),
        ),
        ("a_terminated_kube_proxy", kill(Program::KubeProxy, vec![Worker(1)], Signal::Term)),
        ("killed_kubelets", kill(Program::Kubelet, vec![Master(1), Worker(1)], Signal::Kill)),
        ("a_killed_containerd", kill(Program::Containerd, vec![Worker(1)], Signal::Kill)),
        ("isolated_nodes", Fault::Isolate(Isolate { on: vec![Worker(1), Master(3)] })),
        ("frozen_nodes", Fault::Freeze(Freeze { on: vec![Worker(1), Master(3)] })),
        ("nodes_without_power", Fault::PowerOff(PowerOff { on: vec![Worker(1), Master(3)] })),
    ]
}

/// Faults of files and settings, and commands.
fn cases_on_nodes() -> Vec<(&'static str, Fault)> {
    let masters = || vec![Master(1), Master(2), Master(3)];
    vec![
        (
            "schedulers_that_refuse_their_flags",
            Fault::Settings(SettingsChange {
                component: Component::KubeScheduler,
                on: vec![Master(2), Master(3)],
                flags: BTreeMap::from([("no-such-flag".to_owned(), vec!["1".to_owned()])]),
                starts: Starts::Not,
            }),
        ),
        (
            "a_removed_file",
            Fault::File(FileChange {
                path: "/etc/kubernetes/pki/sa.pub".into(),
                on: vec![Master(2), Master(3)],
                make: Make::Absent,
            }),
        ),
        (
            "an_unreadable_file",
            Fault::File(FileChange {
                path: "/etc/kubernetes/controller-manager.conf".into(),
                on: vec![Master(1), Master(3)],
                make: Make::Unreadable,
            }),
        ),
        (
            "a_file_with_the_content_of_another",
            Fault::File(FileChange {
                path: "/etc/kubernetes/pki/sa.pub".into(),
                on: masters(),
                make: Make::CopyOf("/etc/kubernetes/pki/ca.crt".into()),
            }),
        ),
        (
            "expired_certificates",
            Fault::Certificate(CertificateChange {
                validity: Some(Validity::Expired(Duration::from_hours(1))),
                ..CertificateChange::none("/etc/kubernetes/pki/front-proxy-client.crt", masters())
            }),
        ),
        (
            "a_certificate_in_a_kubeconfig_with_a_new_key",
            Fault::Certificate(CertificateChange {
                issuer: Some(Issuer::Stranger),
                key: KeyChange::New,
                ..CertificateChange::none("/etc/kubernetes/scheduler.conf", masters())
            }),
        ),
        (
            "a_kubelets_certificate_with_a_key_of_another",
            Fault::Certificate(CertificateChange {
                key: KeyChange::Mismatched,
                ..CertificateChange::none(
                    "/var/lib/kubelet/pki/kubelet-client-current.pem",
                    vec![Worker(1)],
                )
            }),
        ),
        (
            "commands",
            Fault::Command(CommandFault {
                on: vec![Master(1), Worker(1)],
                inject: "ip route add blackhole 192.0.2.0/24".into(),
                prove: "ip route show 192.0.2.0/24 | grep blackhole".into(),
                revert: "ip route del blackhole 192.0.2.0/24 2>/dev/null || true".into(),
                limit: Duration::from_secs(10),
            }),
        ),
    ]
}

/// What is held down.
fn cases_of_stops() -> Vec<(&'static str, Fault)> {
    let stop = |component, on, signal| Fault::Stop(Stop { component, on, signal });
    let apiserver = Program::Component(Component::KubeApiserver);
    vec![
        ("two_stopped_apiservers", stop(apiserver, vec![Master(2), Master(3)], Signal::Kill)),
        ("a_stopped_kubelet", stop(Program::Kubelet, vec![Worker(1)], Signal::Kill)),
        (
            "stopped_containerds",
            stop(Program::Containerd, vec![Worker(1), Master(3)], Signal::Term),
        ),
    ]
}

/// Faults of connections.
fn cases_of_connections() -> Vec<(&'static str, Fault)> {
    let degrade_from = |from, to, ports, by| Fault::Degrade(Degrade { from, to, ports, by });
    let degrade = |from, to, ports, by| degrade_from(TrafficEnd::Nodes(from), to, ports, by);
    let etcd = |on| TrafficEnd::Component { name: Program::Component(Component::Etcd), on };
    let delay = Degradation::Delay(Duration::from_millis(300));
    vec![
        (
            "delayed_connections_to_etcd",
            degrade(vec![Master(1), Master(2)], etcd(vec![Master(2), Master(3)]), vec![], delay),
        ),
        (
            "delayed_connections_to_a_service",
            degrade(
                vec![Master(3), Worker(1)],
                TrafficEnd::Service("kube-system/metrics-server".into()),
                vec![],
                delay,
            ),
        ),
        (
            "delayed_connections_of_pods",
            degrade_from(dns(), TrafficEnd::Service("default/kubernetes".into()), vec![], delay),
        ),
        (
            "thin_connections_to_apiservers",
            degrade(
                vec![Worker(1)],
                TrafficEnd::Nodes(vec![Master(1), Master(2)]),
                vec![6443],
                Degradation::Bandwidth(20_000),
            ),
        ),
        (
            "connections_that_are_reset",
            degrade(
                vec![Worker(1), Master(1)],
                TrafficEnd::Nodes(vec![Master(2)]),
                vec![10250],
                Degradation::ResetAfter(1000),
            ),
        ),
        (
            "corrupt_connections_to_apiservers",
            degrade(
                vec![Worker(1)],
                TrafficEnd::Service("default/kubernetes".into()),
                vec![],
                Degradation::CorruptAfter(1000),
            ),
        ),
    ]
}

/// Faults of what a process gets from its kernel.
fn cases_of_processes() -> Vec<(&'static str, Fault)> {
    let masters = || vec![Master(1), Master(2), Master(3)];
    let static_pod = Program::Component;
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    let clock = |component, on, by| Fault::Clock(ClockShift { component, on, by });
    let files = |component, on| Fault::TooManyOpenFiles(TooManyOpenFiles { component, on });
    let limit = |component, on, to| Fault::Limit(Limit { component, on, to });
    let (ahead, behind) = (Shift::Ahead(hours(400 * 24)), Shift::Behind(hours(2)));
    vec![
        ("clocks_of_schedulers", clock(static_pod(Component::KubeScheduler), masters(), ahead)),
        ("a_clock_of_etcd", clock(static_pod(Component::Etcd), vec![Master(2)], behind)),
        (
            "a_clock_of_an_apiserver",
            clock(static_pod(Component::KubeApiserver), vec![Master(3)], ahead),
        ),
        ("clocks_of_kubelets", clock(Program::Kubelet, vec![Master(1), Worker(1)], behind)),
        ("a_clock_of_containerd", clock(Program::Containerd, vec![Worker(1)], ahead)),
        ("a_clock_of_kube_proxy", clock(Program::KubeProxy, vec![Worker(1)], behind)),
        (
            "too_many_open_files_of_controller_managers",
            files(static_pod(Component::KubeControllerManager), masters()),
        ),
        (
            "too_many_open_files_of_apiservers",
            files(static_pod(Component::KubeApiserver), vec![Master(2), Master(3)]),
        ),
        ("too_many_open_files_of_kubelets", files(Program::Kubelet, vec![Master(1), Worker(1)])),
        (
            "apiservers_with_little_of_a_cpu",
            limit(
                static_pod(Component::KubeApiserver),
                vec![Master(2), Master(3)],
                Resource::Cpu(30),
            ),
        ),
        (
            "a_kubelet_with_little_of_a_cpu",
            limit(Program::Kubelet, vec![Worker(1)], Resource::Cpu(10)),
        ),
        ("a_full_disk", Fault::FullDisk(FullDisk { on: vec![Master(1)] })),
        (
            "a_scheduler_with_little_memory",
            limit(static_pod(Component::KubeScheduler), vec![Master(2)], Resource::Memory(8 << 20)),
        ),
    ]
}

fn main() -> ExitCode {
    stage::run(
        |_| vec![],
        all,
        |provider, name| provider.name() == "kind" && alike_everywhere().contains(&name),
    )
}

/// Those beside the first of each kind that reach a node by its commands alone, or the API: whoever provides
/// it makes no difference.
fn alike_everywhere() -> Vec<&'static str> {
    let beside_the_first = |cases: Vec<(&'static str, Fault)>| {
        cases.into_iter().skip(1).map(|(name, _)| name).collect::<Vec<_>>()
    };
    let of_nodes = [cases_on_nodes(), cases_of_processes(), cases_of_connections()];
    let of_nodes = of_nodes.into_iter().flat_map(beside_the_first);
    let objects = objects::CASES.iter().map(|(name, _)| *name);
    // The names of containers are the runtime's, which differs.
    let objects = objects.skip(1).filter(|name| !name.starts_with("name_taken"));
    of_nodes.chain(objects).collect()
}

fn all() -> Vec<(&'static str, stage::Case<Ctx>)> {
    let mut all: Vec<(_, stage::Case<Ctx>)> = Vec::new();
    // First those of container names: they wait for the kubelet's next attempt, and each restart of an
    // apiserver before doubles its back-off.
    for (name, case) in objects::CASES {
        all.push((name, Box::new(move |c| c.calm().and_then(move |()| case(c)).boxed_local())));
    }
    let faults =
        [cases_on_nodes(), cases_of_processes(), cases_of_connections(), cases_of_stops(), cases()];
    for (name, fault) in faults.into_iter().flatten() {
        all.push((name, Box::new(|c| async move { c.exercise(&fault).await }.boxed_local())));
    }
    all.push(("nothing_died_unasked", Box::new(|c| async { c.nothing_died() }.boxed_local())));
    all
}

struct Ctx {
    cluster: Arc<dyn Cluster>,
    access: Access,
    deaths: Mutex<broadcast::Receiver<DiedUnasked>>,
}

impl Shared for Ctx {
    async fn new(provider: Provider) -> Result<Self, Failure> {
        let cluster = provider.make((3, 1), &[Addon::MetricsServer]).await?.cluster;
        let deaths = Mutex::new(cluster.deaths());
        let access = Access::new(Arc::clone(&cluster)).await?;
        Ok(Self { cluster, access, deaths })
    }

    fn cluster(&self) -> &dyn Cluster {
        &*self.cluster
    }
}

impl Ctx {
    async fn exercise(&self, fault: &Fault) -> Result<(), Failure> {
        self.calm().await?;
        eprintln!("{}", fault::does(fault));
        let idle = self.undo(fault).await?;
        let result = self.life(fault, &idle).await;
        if result.is_err() {
            // Or it would befall the next case.
            self.revert(&idle, "what is left").await?;
        }
        result
    }

    /// The whole life of a fault, and what may go wrong in it.
    async fn life(&self, fault: &Fault, idle: &Undo) -> Result<(), Failure> {
        self.proven(idle, false, "before it is injected").await?;
        self.revert(idle, "a fault that was never injected").await?;
        self.proven(idle, false, "after the revert of nothing").await?;

        let half = half(&self.undo(fault).await?)?;
        self.inject(&half).await?;
        self.revert(idle, "a fault that is in place in part").await?;
        self.calm().await?;
        if !is_kill(fault) {
            self.proven(&half, false, "after the revert of a part").await?;
        }

        let undo = self.undo(fault).await?;
        self.inject(&undo).await?;
        self.proven(&undo, true, "in place").await?;
        self.proven(&undo, true, "still in place").await?;
        self.revert(&undo, "in place").await?;
        if !is_kill(fault) {
            self.proven(&undo, false, "after its revert").await?;
        }
        self.revert(&undo, "once more").await
    }

    /// As the journal would give it back.
    async fn undo(&self, fault: &Fault) -> Result<Undo, Failure> {
        // A path through a Service or to a program that was just restarted may need a moment.
        let undo =
            wait_for("the undo record", CALM, async || Ok(fault::undo(fault, &self.access).await?))
                .await?;
        Ok(serde_json::from_str(&serde_json::to_string(&undo)?)?)
    }

    async fn inject(&self, undo: &Undo) -> Result<(), Failure> {
        let issued = Arc::new(AtomicBool::new(false));
        let tell = Arc::clone(&issued);
        let issue = Box::new(move || tell.store(true, Ordering::SeqCst));
        let limit = fault::limit(&undo.fault);
        tokio::time::timeout(limit, fault::inject(undo, &self.access, issue)).await??;
        if issued.load(Ordering::SeqCst) { Ok(()) } else { Err("it was never issued".into()) }
    }

    async fn proven(&self, undo: &Undo, wanted: bool, when: &str) -> Result<(), Failure> {
        let proof = fault::prove(undo, &self.access).await?;
        eprintln!("  {when}: {proof:?}");
        if proof.is_ok() == wanted { Ok(()) } else { Err(format!("{when}: {proof:?}").into()) }
    }

    async fn revert(&self, undo: &Undo, what: &str) -> Result<(), Failure> {
        let limit = fault::limit(&undo.fault);
        tokio::time::timeout(limit, fault::revert(undo, &self.access))
            .await?
            .map_err(|error| format!("revert of {what}: {}", words(&error.into())).into())
    }

    /// Waits until each apiserver is ready, and the controller managers and schedulers serve again:
    /// without an apiserver they lose their Leases, and end.
    async fn calm(&self) -> Result<(), Failure> {
        wait_for("ready control planes", CALM, async || {
            for master in self.access.masters() {
                let id = master.id();
                let apiserver = self.access.apiserver(id)?;
                self.answers((Vantage::Beside, apiserver), "/readyz", Speech::Verified).await?;
                for port in [10257, 10259] {
                    let at = (Vantage::Node(id), ([127, 0, 0, 1], port).into());
                    self.answers(at, "/healthz", Speech::SelfSigned).await?;
                }
            }
            Ok(())
        })
        .await
    }

    async fn answers(
        &self,
        (from, at): (Vantage, SocketAddr),
        path: &str,
        speech: Speech,
    ) -> Result<(), Failure> {
        let request = http::Request::get(path).body(http_body_util::Full::default())?;
        match self.access.ask(from, at, speech, request, Duration::from_secs(5)).await? {
            Answer::Status { code: 200, .. } => Ok(()),
            other => Err(format!("{at}{path}, asked from {from:?}: {other}").into()),
        }
    }

    fn nothing_died(&self) -> Result<(), Failure> {
        let mut deaths = self.deaths.lock().unwrap_or_else(PoisonError::into_inner);
        match deaths.try_recv() {
            Ok(death) => {
                let log = death.log.join("\n");
                Err(format!("{} died: {}\n{log}", death.process, death.status).into())
            }
            Err(_) => Ok(()),
        }
    }
}

/// Once killed, a process stays gone.
fn is_kill(fault: &Fault) -> bool {
    matches!(fault, Fault::Kill(_))
}

/// The same fault on the first of its places alone.
fn half(undo: &Undo) -> Result<Undo, Failure> {
    fn first(list: Option<&mut Value>) {
        if let Some(list) = list.and_then(Value::as_array_mut) {
            list.truncate(1);
        }
    }
    let mut value = serde_json::to_value(undo)?;
    let fault = value["fault"].as_object_mut().ok_or("a fault is an object")?;
    for fields in fault.values_mut() {
        first(fields.get_mut("on"));
    }
    first(value.pointer_mut("/before"));
    first(value.pointer_mut("/before/sources"));
    Ok(serde_json::from_value(value)?)
}
