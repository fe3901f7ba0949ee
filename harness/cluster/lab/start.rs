//! How a lab comes up: everything that need not wait starts at once, and each step waits for the
//! one event that it needs.

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures::future::{try_join, try_join_all, try_join3, try_join4};
use tokio::time::Instant;

use super::layout::network;
use super::node::LabNode;
use super::{KUBECONFIG, Lab, Machine, Options, config, pause_image, room, store};
use crate::assets::{Assets, Cache, Differences, Entry, Progress, differences};
use crate::cluster::agent::Program;
use crate::cluster::awaited::Awaited;
use crate::cluster::checked::{administrator, checked, refused, status};
use crate::cluster::client::{APISERVER_PORT, Access};
use crate::cluster::logs::{last_lines, log_streams};
use crate::cluster::{Cluster, ClusterError, Command, DiedUnasked, Node, Service};
use crate::scenario::NodeRef;

/// Time from one look at what is awaited to the next: haproxy tells nobody that it listens.
const PERIOD: Duration = Duration::from_millis(20);
/// A bound for what Kubernetes does by itself; measured: about 15 s on two cores.
const PATIENCE: Duration = Duration::from_secs(300);

/// The phases of `kubeadm init` that need no running cluster.
const OFFLINE: [&str; 5] = ["certs", "kubeconfig", "etcd", "control-plane", "kubelet-start"];
/// The phases that configure a running cluster.
const ONLINE: [&str; 4] = ["upload-config", "mark-control-plane", "bootstrap-token", "addon"];

const WAIT: &str = "wait-control-plane";

/// Where a master's kubelet finds its static pods.
const MANIFESTS: &str = "/etc/kubernetes/manifests";
/// Where those stay that need an apiserver, until there is one.
const HELD: &str = "/etc/kubernetes/held";

/// Lays a kubelet's client certificate where its kubeconfig names it in kubeadm's clusters. Had it only
/// the one in the kubeconfig, the kubelet would ask for another at its start, and again with that one
/// when the other has expired.
/// <https://github.com/kubernetes/kubernetes/blob/v1.34.4/cmd/kubeadm/app/cmd/phases/init/kubeletfinalize.go>
const FINALIZE_KUBELET: &str = r#"{
  config=/etc/kubernetes/kubelet.conf
  current=/var/lib/kubelet/pki/kubelet-client-current.pem
  first=kubelet-client-$(date +%Y-%m-%d-%H-%M-%S).pem
  mkdir -p /var/lib/kubelet/pki && ln -s $first $current && umask 077 &&
    sed -n 's/^ *client-certificate-data: //p' $config | base64 -d >$current &&
    sed -n 's/^ *client-key-data: //p' $config | base64 -d >>$current &&
    sed -i -E "s,client-(certificate|key)-data: .*,client-\1: $current," $config
}"#;

/// The phases of `kubeadm init`, in the words of `--skip-phases`.
struct Phases {
    /// All but those that need no running cluster.
    not_offline: String,
    /// All but those that configure a running cluster.
    not_online: String,
}

impl Phases {
    /// From what `kubeadm init --help` says: the phases differ by version, and kubeadm refuses to
    /// skip one that it does not know. They stand in a fenced block, sub-phases indented.
    fn read(help: &str) -> Self {
        let block = help.split("```").nth(1).unwrap_or_default();
        let mut names: Vec<&str> = block
            .lines()
            .filter(|line| line.starts_with(|first: char| first.is_ascii_lowercase()))
            .filter_map(|line| line.split_whitespace().next())
            .collect();
        // Every version has this phase; old ones hide it from their help.
        if !names.contains(&WAIT) {
            names.push(WAIT);
        }
        let but = |kept: &[&str]| {
            let skipped: Vec<&str> =
                names.iter().copied().filter(|name| !kept.contains(name)).collect();
            skipped.join(",")
        };
        Self { not_offline: but(&OFFLINE), not_online: but(&ONLINE) }
    }
}

impl Lab {
    /// Starts a lab and waits until Kubernetes is up on every node: apiservers ready, nodes Ready,
    /// kube-proxy and `CoreDNS` running, addons serving. `say` is told how far it is.
    ///
    /// # Errors
    /// What could not be set up, with the last log lines of the program that failed. Nothing stays.
    pub async fn start(
        assets: Arc<Assets>,
        options: Options,
        say: &(dyn Fn(String) + Send + Sync),
    ) -> Result<Arc<Self>, ClusterError> {
        let cache = Cache::from_env()
            .map_err(|error| ClusterError::caused("find the cache folder", error))?;
        let differences = differences(&options.kubernetes)
            .map_err(|error| ClusterError::caused("choose a version", error))?;
        room::check(options.masters + options.workers)?;
        say("image store".into());
        let silent = Progress::silent();
        let images = store::image_store(&cache, &assets, &options, &silent).await?;
        let mut lab = Self::prepare(&assets, &options, say).await?;
        let (awaited, deadline) = (Awaited::default(), Instant::now() + PATIENCE);
        let logs = lab.all_logs();
        let late = || {
            let log = last_lines(&logs.join("master-1/kubelet.log")).join("\n");
            format!(
                "Kubernetes was not up within {PATIENCE:?}; the last lines of the first kubelet:\n{log}"
            )
        };
        let mut deaths = lab.deaths.subscribe();
        let machines = machines(&options);
        let up = lab.bring_up(&machines, differences, &images, &awaited, say);
        let up = awaited.until(deadline, late, up).await;
        let lab = Arc::new(lab);
        let result = match up {
            Ok(()) => tokio::select! {
                result = awaited.until(deadline, late, lab.await_kubernetes(&awaited, say)) => result,
                Ok(death) = deaths.recv() => Err(unasked(&death)),
            },
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            // The failure that led here is the one to report.
            let _ = lab.end().await;
            return Err(error);
        }
        Ok(lab)
    }

    async fn bring_up(
        &mut self,
        machines: &[Machine],
        differences: &Differences,
        images: &Entry,
        awaited: &Awaited,
        say: &(dyn Fn(String) + Send + Sync),
    ) -> Result<(), ClusterError> {
        self.make_binaries()?;
        let pki = self.certificate_authorities(machines, differences);
        let pause = pause_image(&self.assets)?;
        let booted = try_join_all(machines.iter().map(|machine| async {
            self.make_node_folders(machine, Some(images.path())).await?;
            let node = self.node(machine, machines)?;
            node.boot().await?;
            self.write_containerd_config(&node, &pause).await?;
            let script = "mkdir -p /etc/cni/net.d && cat > /etc/cni/net.d/10-outage.conflist";
            let cni = Command::script(script, [""; 0]).stdin(config::cni(machine));
            checked(&node, cni).await?;
            node.service(Service::Containerd, true).await?;
            Ok::<_, ClusterError>(Arc::new(node))
        }));
        let balancer = self.start_load_balancer(machines, awaited);
        let (pki, phases, nodes, balancer) =
            try_join4(pki, self.phases(), booted, balancer).await?;
        *self.balancer.lock().unwrap_or_else(PoisonError::into_inner) = Some(balancer);
        say(format!("{} nodes booted", nodes.len()));
        let setting_up = machines.iter().zip(&nodes).map(|(machine, node)| async {
            let folder = if machine.is_master() { "/etc/kubernetes/pki" } else { "/run/made/pki" };
            let kubeadm = config::kubeadm(&self.options, differences, machines, machine, folder);
            set_up(machine, node, &pki, &kubeadm, &phases).await
        });
        try_join_all(setting_up).await?;
        say("kubelets started".into());
        let first = nodes.first().ok_or_else(|| ClusterError::new("a lab needs a master"))?;
        self.kubeconfig = administrator(&**first).await?;
        self.keep_kubeconfig()
            .map_err(|error| ClusterError::caused("write the lab's kubeconfig", error))?;
        self.phases = phases.not_online;
        self.nodes = nodes.into_iter().map(|node| node as Arc<dyn Node>).collect();
        Ok(())
    }

    /// Writes the kubeconfig where the user alone can read it.
    fn keep_kubeconfig(&self) -> std::io::Result<()> {
        let path = self.folder().join(KUBECONFIG);
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(self.kubeconfig.as_bytes())
    }

    fn node(&self, machine: &Machine, machines: &[Machine]) -> Result<LabNode, ClusterError> {
        Ok(LabNode::new(
            machine.clone(),
            Self::spec(machine, machines),
            self.logs(machine),
            self.control()?,
            self.deaths.clone(),
            Arc::clone(&self.ending),
        ))
    }

    /// Has kubeadm make the authorities that all masters share, and the workers' kubeconfigs;
    /// returns them as a tar archive of `/etc/kubernetes`.
    async fn certificate_authorities(
        &self,
        machines: &[Machine],
        differences: &Differences,
    ) -> Result<Vec<u8>, ClusterError> {
        let first = machines.first().ok_or_else(|| ClusterError::new("a lab needs a master"))?;
        let config = config::kubeadm(&self.options, differences, machines, first, "/run/made/pki");
        let script = r#"
set -e
version=$1 endpoint=$2 address=$3; shift 3
kubeadm=/outage/lab/bin/kubeadm
mkdir -p /run/made/pki
cat > /run/kubeadm.yaml
pids=
for phase in ca front-proxy-ca etcd-ca sa; do
  # Old versions take no configuration for the service accounts' key.
  options="--config /run/kubeadm.yaml"
  if [ $phase = sa ] && ! $kubeadm init phase certs sa --help | grep -q -e --config; then
    options="--cert-dir /run/made/pki"
  fi
  $kubeadm init phase certs $phase $options 2>&1 &
  pids="$pids $!"
done
for pid in $pids; do wait $pid; done
for worker; do
  mkdir -p "/run/made/workers/$worker"
  $kubeadm init phase kubeconfig kubelet --node-name "$worker" --cert-dir /run/made/pki \
    --kubeconfig-dir "/run/made/workers/$worker" --kubernetes-version "$version" \
    --control-plane-endpoint "$endpoint" --apiserver-advertise-address "$address" 2>&1
  # This phase is a master's and may point to the apiserver beside it; a worker that joins is
  # pointed to the load balancer.
  sed -i "s,server: .*,server: https://$endpoint," "/run/made/workers/$worker/kubelet.conf"
done
"#;
        let mut args = vec![
            format!("v{}", self.options.kubernetes),
            format!("{}:{APISERVER_PORT}", network::LOAD_BALANCER),
            first.address().to_string(),
        ];
        let workers = machines.iter().filter(|machine| !machine.is_master());
        args.extend(workers.map(|machine| machine.name.clone()));
        let link = self.control()?;
        let command = Command::script(script, args).stdin(config).timeout(Duration::from_secs(120));
        let made = link.run(command).await?;
        if made.code != 0 {
            return Err(refused("kubeadm init phase certs", &made));
        }
        let archive = link.run(Command::new(["tar", "-C", "/run/made", "-c", "."])).await?;
        if archive.code == 0 { Ok(archive.stdout) } else { Err(refused("tar", &archive)) }
    }

    async fn phases(&self) -> Result<Phases, ClusterError> {
        let command = Command::new(["/outage/lab/bin/kubeadm", "init", "--help"]);
        let help = self.control()?.run(command).await?;
        Ok(Phases::read(&help.text()))
    }

    pub(super) async fn write_containerd_config(
        &self,
        node: &LabNode,
        pause: &str,
    ) -> Result<(), ClusterError> {
        let script = "mkdir -p /etc/containerd && cat > /etc/containerd/config.toml";
        let command = Command::script(script, [""; 0]).stdin(config::containerd(pause));
        checked(node, command).await.map(drop)
    }

    /// Waits for Kubernetes, letting the load balancer go on and starting the controllers and
    /// kubeadm's addons as soon as they can work.
    async fn await_kubernetes(
        self: &Arc<Self>,
        awaited: &Awaited,
        say: &(dyn Fn(String) + Send + Sync),
    ) -> Result<(), ClusterError> {
        let access = Access::new(Arc::clone(self) as Arc<dyn Cluster>).await?.awaiting(awaited);
        self.start_controllers(&access).await?;
        self.resume_load_balancer()?;
        say("load balancer serves".into());
        let addons = self.addons();
        let ready = async {
            let masters = access.masters();
            let waits = masters.map(|master| access.await_apiserver(master.id(), "/readyz"));
            try_join_all(waits).await?;
            say(format!("{0} of {0} apiservers ready", self.options.masters));
            Ok(())
        };
        let nodes = async {
            access.await_nodes().await?;
            say(format!("{0} of {0} nodes Ready", self.nodes.len()));
            Ok(())
        };
        try_join3(addons, ready, nodes).await?;
        access.await_kube_proxy().await?;
        access.await_services().await?;
        say("kube-proxy running".into());
        let coredns = async {
            self.add_coredns().await?;
            access.await_coredns().await?;
            say("CoreDNS running".into());
            Ok(())
        };
        let addons = try_join_all(self.options.addons.iter().map(|addon| async {
            self.add(*addon).await?;
            access.await_addon(*addon).await?;
            say(format!("{} serving", addon.name()));
            Ok(())
        }));
        try_join(coredns, addons).await.map(drop)
    }

    /// Gives each master's kubelet the manifests that were held back when the apiserver beside it
    /// can be worked with. Asked earlier, the controller manager and the scheduler are refused and
    /// try again seconds later, or end and are restarted with growing pauses.
    async fn start_controllers(&self, access: &Access) -> Result<(), ClusterError> {
        let starts = access.masters().map(|master| async move {
            access.await_apiserver(master.id(), "/healthz").await?;
            let script = format!("mv {HELD}/* {MANIFESTS}/ && rmdir {HELD}");
            checked(&**master, Command::script(&script, [""; 0])).await
        });
        try_join_all(starts).await.map(drop)
    }

    /// Starts the load balancer and stops it (SIGSTOP) as soon as it listens. From then on the
    /// kernel accepts connections, and they wait: a kubelet that was refused for some seconds would
    /// ask again only after some more. So ask the workers' kubelets, and those of masters before
    /// 1.33; since then a master's asks the apiserver beside it (`ControlPlaneKubeletLocalMode`).
    /// No kubelet is started anew for being refused: for ten seconds after its start it waits a
    /// random time before it first asks a pod whether it is ready (`run` in
    /// pkg/kubelet/prober/worker.go).
    async fn start_load_balancer(
        &self,
        machines: &[Machine],
        awaited: &Awaited,
    ) -> Result<Arc<Program>, ClusterError> {
        let link = self.control()?;
        let text = config::haproxy(machines.iter().filter(|machine| machine.is_master()));
        let script = "cat > /run/haproxy.cfg";
        let wrote = link.run(Command::script(script, [""; 0]).stdin(text)).await?;
        if wrote.code != 0 {
            return Err(refused("write haproxy.cfg", &wrote));
        }
        let logs = self.all_logs();
        std::fs::create_dir_all(&logs)
            .map_err(|error| ClusterError::caused(format!("make {}", logs.display()), error))?;
        let log = logs.join("haproxy.log");
        let argv = ["haproxy", "-W", "-db", "-f", "/run/haproxy.cfg"].map(str::to_owned);
        let program = Arc::new(link.spawn(argv.into(), log_streams(&log)?).await?);
        let (watched, shown) = (Arc::clone(&program), log.clone());
        let (deaths, ending) = (self.deaths.clone(), Arc::clone(&self.ending));
        let lab = link.closed();
        tokio::spawn(async move {
            let code = watched.wait().await;
            if !ending.load(Ordering::SeqCst) && !lab.is_cancelled() {
                // Nobody may be listening.
                let _ = deaths.send(DiedUnasked {
                    process: "haproxy beside the cluster".into(),
                    status: status(code),
                    log: last_lines(&log),
                    restarts: false,
                });
            }
        });
        let address = SocketAddr::new(network::LOAD_BALANCER.into(), APISERVER_PORT);
        while let Err(error) = link.connect(address, Duration::from_secs(1)).await? {
            awaited.saw("haproxy", error.to_string());
            if program.ended() {
                let lines = last_lines(&shown).join("\n");
                return Err(ClusterError::new(format!("haproxy does not start: {lines}")));
            }
            tokio::time::sleep(PERIOD).await;
        }
        awaited.came("haproxy");
        link.signal(&program, libc::SIGSTOP);
        Ok(program)
    }

    /// Lets the load balancer serve what waits and what comes.
    fn resume_load_balancer(&self) -> Result<(), ClusterError> {
        let balancer = self.balancer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(program) = balancer.as_ref() {
            self.control()?.signal(program, libc::SIGCONT);
        }
        Ok(())
    }

    /// kubeadm's phases that talk to the cluster: its configuration, the masters' label and taint,
    /// kube-proxy, but not yet `CoreDNS`.
    async fn addons(&self) -> Result<(), ClusterError> {
        let config = ["--config", "/etc/kubernetes/kubeadm.yaml"];
        let mut masters = self.nodes.iter().filter(|node| matches!(node.id(), NodeRef::Master(_)));
        let Some(first) = masters.next() else { return Ok(()) };
        let skip = format!("--skip-phases={},addon/coredns", self.phases);
        let argv = ["kubeadm", "init", &skip].into_iter().chain(config);
        checked(&**first, Command::new(argv).timeout(PATIENCE)).await?;
        let marks = masters.map(|master| {
            let argv = ["kubeadm", "init", "phase", "mark-control-plane"].into_iter().chain(config);
            checked(&**master, Command::new(argv).timeout(PATIENCE))
        });
        try_join_all(marks).await.map(drop)
    }

    /// Adds `CoreDNS` when Services are reachable: one that is asked too early whether it is ready
    /// is asked again ten seconds later.
    async fn add_coredns(&self) -> Result<(), ClusterError> {
        let Some(first) = self.nodes.first() else { return Ok(()) };
        let phase = ["kubeadm", "init", "phase", "addon", "coredns"];
        let argv = phase.into_iter().chain(["--config", "/etc/kubernetes/kubeadm.yaml"]);
        checked(&**first, Command::new(argv).timeout(PATIENCE)).await.map(drop)
    }
}

/// Lays out a node that was just booted, by kubeadm, and starts its services.
async fn set_up(
    machine: &Machine,
    node: &LabNode,
    pki: &[u8],
    kubeadm: &str,
    phases: &Phases,
) -> Result<(), ClusterError> {
    let script = r#"
set -e
mkdir -p /run/made /etc/kubernetes/manifests /etc/kubernetes/pki
tar -C /run/made -x
printf %s "$2" > /run/kubeadm.yaml
if [ "$1" = master ]; then
  cp -r /run/made/pki /etc/kubernetes/
  cp /run/kubeadm.yaml /etc/kubernetes/
else
  cp /run/made/pki/ca.crt /etc/kubernetes/pki/
  cp "/run/made/workers/$(uname -n)/kubelet.conf" /etc/kubernetes/
fi
"#;
    let role = if machine.is_master() { "master" } else { "worker" };
    let args = [role, kubeadm];
    checked(node, Command::script(script, args).stdin(pki)).await?;
    let (phases, hold) = if machine.is_master() {
        let phases = format!("kubeadm init --skip-phases={}", phases.not_offline);
        (phases, format!("mkdir {HELD} && mv {MANIFESTS}/kube-[cs]*.yaml {HELD}/"))
    } else {
        // It reads the authorities' keys, which a worker does not keep.
        ("kubeadm init phase kubelet-start".into(), "true".into())
    };
    // kubeadm drops empty lists, and old kubelets take `none` only with cgroups.
    let script = format!(
        "{phases} --config /run/kubeadm.yaml && {hold} && rm -rf /run/made && sed -i \
         -e s,/run/made/pki,/etc/kubernetes/pki, \
         -e '/^enforceNodeAllocatable:/{{N;s/.*/enforceNodeAllocatable: []/}}' \
         /var/lib/kubelet/config.yaml && {FINALIZE_KUBELET}"
    );
    let command = Command::script(&script, [""; 0]).timeout(PATIENCE);
    checked(node, command).await?;
    node.service(Service::Kubelet, true).await
}

fn machines(options: &Options) -> Vec<Machine> {
    let masters = (1..=options.masters).map(NodeRef::Master);
    let workers = (1..=options.workers).map(NodeRef::Worker);
    masters.chain(workers).map(Machine::new).collect()
}

fn unasked(death: &DiedUnasked) -> ClusterError {
    let log = death.log.join("\n");
    ClusterError::new(format!("{} died unasked: {}\n{log}", death.process, death.status))
}
