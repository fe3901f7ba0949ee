//! The driver, with a cluster that is never made, and with one whose nodes only play along: what is on
//! disk when a node is first changed, and what becomes of a cluster that another case has used.

// Helpers of tests are tests to us, but not to the lint.
#![allow(clippy::unwrap_used)]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use outage::cluster::{Cluster, ClusterError, Command, DiedUnasked, Node, Output, Service};
use outage::event::{CaseInfo, Event, Verdict, What};
use outage::run::{Case, Ended, Held, Omit, Plan, outstanding, run_case};
use outage::scenario::{NodeRef, Signal, load};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

type Made = Result<Held, ClusterError>;

/// On a cluster whose only apiserver refuses connections all the time.
const SCENARIO: &str = "
apiVersion: outage/v1alpha1
kind: Scenario
metadata: {name: played, title: With nodes that play along}
spec:
  cluster: {masters: 1, workers: 0}
  steadyState:
  - &refused
    name: it refuses
    probe: {health: {apiserver: {master: 1}, path: /readyz, is: refused}}
    every: 20ms
    within: 1s
  steps:
  - inject: {name: stopped, fault: {stop: {component: etcd, on: {master: 1}, signal: SIGKILL}}}
  - detect:
    - name: it goes on to refuse
      probe: {health: {apiserver: {master: 1}, path: /readyz, is: refused}}
      every: 20ms
      throughout: 300ms
";

/// A case of it; without its steps if it only is about the cluster.
fn case(steps: bool) -> Case {
    let mut scenario = load("played.yaml", SCENARIO.as_bytes()).unwrap();
    if !steps {
        scenario.steps.clear();
    }
    let info = CaseInfo {
        scenario: "played".into(),
        variant: "default".into(),
        provider: "none".into(),
        kubernetes: "1.34.4".into(),
        repetition: 1,
        scenario_sha256: String::new(),
        kernel: String::new(),
        seed: 1,
    };
    let plan = Plan::new(&scenario, "default", [1, 34, 4], 0).unwrap();
    let (keep, omit) = (Box::new(|_| false), Omit::Nothing);
    Case { index: 3, info, plan, chooser: None, began: Instant::now(), keep, ask: None, omit }
}

/// A master with an etcd, in whose place scripts are answered.
#[derive(Debug)]
struct Played {
    journal: PathBuf,
    running: AtomicBool,
    /// What was outstanding in the journal when the node was first changed.
    outstanding_at_first_change: Mutex<Option<usize>>,
}

impl Played {
    fn answer(&self, script: &str) -> &'static str {
        if script.contains("pkill -STOP") {
            let written = outstanding::<serde_json::Value>(&self.journal).unwrap();
            self.outstanding_at_first_change.lock().unwrap().get_or_insert(written.len());
        }
        if script.contains("finish()") {
            self.running.store(false, Ordering::SeqCst);
        }
        if script.contains("pkill -KILL") {
            self.running.store(true, Ordering::SeqCst);
        }
        match script {
            _ if script.contains("cmdline") && self.running.load(Ordering::SeqCst) => {
                "12 S 77\netcd\n\n"
            }
            _ if script.contains("sha256sum") => "5a",
            _ => "",
        }
    }
}

impl Node for Played {
    fn id(&self) -> NodeRef {
        NodeRef::Master(1)
    }

    fn name(&self) -> &'static str {
        "master-1"
    }

    fn program(&self) -> &'static str {
        "outage"
    }

    fn address(&self) -> IpAddr {
        [127, 0, 0, 1].into()
    }

    fn run(&self, command: Command) -> BoxFuture<'_, Result<Output, ClusterError>> {
        let stdout = self.answer(&command.argv[2]).into();
        async { Ok(Output { code: 0, stdout, stderr: vec![] }) }.boxed()
    }

    fn connect(
        &self,
        _: SocketAddr,
        _: Duration,
    ) -> BoxFuture<'_, Result<io::Result<TcpStream>, ClusterError>> {
        async { Ok(Err(io::ErrorKind::ConnectionRefused.into())) }.boxed()
    }

    fn service(&self, _: Service, _: bool) -> BoxFuture<'_, Result<(), ClusterError>> {
        async { Ok(()) }.boxed()
    }

    fn kill(&self, _: Service, _: Signal) -> BoxFuture<'_, Result<(), ClusterError>> {
        async { Ok(()) }.boxed()
    }

    fn freeze(&self, _: bool) -> BoxFuture<'_, Result<(), ClusterError>> {
        async { Ok(()) }.boxed()
    }

    fn log(
        &self,
        _: Service,
        _: Option<u64>,
    ) -> BoxFuture<'_, Result<(Vec<u8>, u64), ClusterError>> {
        async { Ok((vec![], 0)) }.boxed()
    }

    fn frozen(&self) -> bool {
        false
    }

    fn powered(&self) -> bool {
        true
    }

    fn power(&self, _: bool) -> BoxFuture<'_, Result<(), ClusterError>> {
        async { Ok(()) }.boxed()
    }
}

/// A cluster of that node; its kubelet answers, everything else refuses, or is silent.
#[derive(Debug)]
struct Stage {
    nodes: Vec<Arc<dyn Node>>,
    silent: bool,
    kubelet: TcpListener,
    deleted: AtomicUsize,
    deaths: broadcast::Sender<DiedUnasked>,
}

impl Stage {
    async fn new(folder: &Path, silent: bool) -> (Arc<Self>, Arc<Played>) {
        let node = Arc::new(Played {
            journal: folder.join("undo-3.jsonl"),
            running: true.into(),
            outstanding_at_first_change: Mutex::default(),
        });
        let kubelet = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let nodes: Vec<Arc<dyn Node>> = vec![Arc::clone(&node) as Arc<dyn Node>];
        let (deaths, _) = broadcast::channel(1);
        (Arc::new(Self { nodes, silent, kubelet, deleted: AtomicUsize::new(0), deaths }), node)
    }
}

impl Cluster for Stage {
    fn provider(&self) -> &'static str {
        "played"
    }

    fn name(&self) -> String {
        "played".into()
    }

    fn nodes(&self) -> &[Arc<dyn Node>] {
        &self.nodes
    }

    fn load_balancer(&self) -> SocketAddr {
        ([127, 0, 0, 1], 6443).into()
    }

    fn admin_kubeconfig(&self) -> &'static str {
        "{apiVersion: v1, kind: Config, current-context: a, \
         clusters: [{name: a, cluster: {server: 'https://127.0.0.1:6443', insecure-skip-tls-verify: true}}], \
         contexts: [{name: a, context: {cluster: a, user: a}}], users: [{name: a, user: {token: t}}]}"
    }

    fn connect(
        &self,
        to: SocketAddr,
        _: Duration,
    ) -> BoxFuture<'_, Result<io::Result<TcpStream>, ClusterError>> {
        async move {
            Ok(match to.port() {
                10250 => {
                    // It hangs up on whoever does not speak TLS.
                    let caller = TcpStream::connect(self.kubelet.local_addr().unwrap());
                    tokio::join!(caller, self.kubelet.accept()).0
                }
                _ if self.silent => Err(io::ErrorKind::TimedOut.into()),
                _ => Err(io::ErrorKind::ConnectionRefused.into()),
            })
        }
        .boxed()
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
        self.deleted.fetch_add(1, Ordering::SeqCst);
        async { Ok(()) }.boxed()
    }
}

fn folder(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("outage-run-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// Runs a case; its end, and its events as they were told and as they were written.
async fn carry_out<F>(
    (case, held): (Case, Option<Held>),
    folder: &Path,
    provision: impl Fn(mpsc::UnboundedSender<String>) -> F,
    interrupt: CancellationToken,
) -> (Ended, Vec<What>)
where
    F: Future<Output = Made> + Send + 'static,
{
    let (sender, mut events) = mpsc::unbounded_channel();
    let ended = run_case(case, held, provision, sender, interrupt, folder).await.unwrap();
    let mut told: Vec<Event> = vec![];
    while let Some(event) = events.recv().await {
        told.push(event);
    }
    let text = std::fs::read_to_string(folder.join("events.jsonl")).unwrap();
    let written: Vec<Event> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(told, written);
    assert!(told.iter().all(|event| event.case == 3));
    std::fs::remove_dir_all(folder).unwrap();
    (ended, told.into_iter().map(|event| event.what).collect())
}

/// Runs a case whose cluster is never made.
async fn run<F>(
    name: &str,
    provision: impl Fn(mpsc::UnboundedSender<String>) -> F,
    interrupt: CancellationToken,
) -> (Verdict, Vec<What>)
where
    F: Future<Output = Made> + Send + 'static,
{
    let (ended, events) = carry_out((case(false), None), &folder(name), provision, interrupt).await;
    assert!(ended.cluster.is_none());
    (ended.verdict, events)
}

#[tokio::test]
async fn the_inverse_is_on_disk_before_a_node_is_changed_and_done_after_the_revert() {
    let folder = folder("journal");
    let (stage, node) = Stage::new(&folder, false).await;
    let held = Held::new(Arc::clone(&stage) as Arc<dyn Cluster>, None);
    let never = |_| std::future::pending::<Made>();
    let interrupt = CancellationToken::new();
    let (ended, events) = carry_out((case(true), Some(held)), &folder, never, interrupt).await;
    assert_eq!(ended.verdict, Verdict::Pass, "{events:?}");
    assert_eq!(*node.outstanding_at_first_change.lock().unwrap(), Some(1));
    assert!(node.running.load(Ordering::SeqCst), "it is reverted");
    assert_eq!(stage.deleted.load(Ordering::SeqCst), 1);
    let reused = events.iter().any(|what| matches!(what, What::ClusterReady { reused: true, .. }));
    assert!(reused);
}

#[tokio::test]
async fn an_interrupt_takes_back_what_is_in_place() {
    let folder = folder("taken-back");
    let (stage, node) = Stage::new(&folder, false).await;
    let held = Held::new(Arc::clone(&stage) as Arc<dyn Cluster>, None);
    let interrupt = CancellationToken::new();
    let (cancel, watched) = (interrupt.clone(), Arc::clone(&node));
    tokio::spawn(async move {
        while watched.running.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    });
    let never = |_| std::future::pending::<Made>();
    let (ended, _) = carry_out((case(true), Some(held)), &folder, never, interrupt).await;
    assert_eq!(ended.verdict, Verdict::Invalid);
    assert!(node.running.load(Ordering::SeqCst), "it is reverted");
    assert_eq!(stage.deleted.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_cluster_of_another_case_that_is_not_steady_is_ended_and_a_fresh_one_is_kept() {
    let folder = folder("fresh");
    let (worn, _) = Stage::new(&folder, true).await;
    let (fresh, _) = Stage::new(&folder, false).await;
    let held = Held::new(Arc::clone(&worn) as Arc<dyn Cluster>, None);
    let made = Arc::clone(&fresh);
    let provision = move |_| {
        let cluster = Arc::clone(&made) as Arc<dyn Cluster>;
        async { Ok(Held::new(cluster, Some("logs-3".into()))) }
    };
    let keep = Box::new(|so_far| so_far == Verdict::Pass);
    let case = Case { keep, ..case(false) };
    let interrupt = CancellationToken::new();
    let (ended, events) = carry_out((case, Some(held)), &folder, provision, interrupt).await;
    assert_eq!(ended.verdict, Verdict::Pass, "{events:?}");
    assert!(ended.cluster.is_some(), "it was to be kept");
    assert_eq!(worn.deleted.load(Ordering::SeqCst), 1);
    assert_eq!(fresh.deleted.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_cluster_that_is_not_made_makes_the_case_invalid() {
    let provision = |progress: mpsc::UnboundedSender<String>| async move {
        progress.send("trying".into()).unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        Err(ClusterError::new("no space"))
    };
    let (verdict, events) = run("failed", provision, CancellationToken::new()).await;
    assert_eq!(verdict, Verdict::Invalid);
    assert!(matches!(events.first(), Some(What::CaseStarted(_))));
    assert!(events.contains(&What::Progress { text: "trying".into() }));
    let Some(What::CaseEnded { reasons, .. }) = events.last() else { panic!("{events:?}") };
    assert_eq!(*reasons, ["there is no cluster: no space"]);
}

#[tokio::test]
async fn an_interrupt_gives_the_cluster_up_and_a_panic_is_said() {
    let interrupt = CancellationToken::new();
    interrupt.cancel();
    let (verdict, events) = run("interrupted", |_| std::future::pending::<Made>(), interrupt).await;
    assert_eq!(verdict, Verdict::Invalid);
    let Some(What::CaseEnded { reasons, .. }) = events.last() else { panic!("{events:?}") };
    assert_eq!(*reasons, ["interrupted"]);

    let provision = |_| async { panic!("a bug") };
    let (verdict, _) = run("panicked", provision, CancellationToken::new()).await;
    assert_eq!(verdict, Verdict::Invalid);
}
