//! A node of a lab: a first process in namespaces of its own, and the programs it keeps running.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, RwLock, broadcast};

use super::layout::network;
use super::{Machine, config};
use crate::cluster::agent::wire::{self, NodeSpec};
use crate::cluster::agent::{Link, Program};
use crate::cluster::checked::status;
use crate::cluster::logs::{last_lines, log_streams, read_since};
use crate::cluster::{ClusterError, Command, DiedUnasked, Node, Output, Service};
use crate::scenario::{NodeRef, Signal};

/// A node of a lab.
#[derive(Debug)]
pub(super) struct LabNode {
    machine: Machine,
    spec: NodeSpec,
    /// Where its programs' output goes, on the host.
    logs: PathBuf,
    lab: Arc<Link>,
    deaths: broadcast::Sender<DiedUnasked>,
    /// Set once the whole lab is told to end.
    ending: Arc<AtomicBool>,
    /// The running machine; nothing while the power is off.
    machine_on: RwLock<Option<Arc<Running>>>,
    /// Held while the power changes.
    switching: Mutex<()>,
}

#[derive(Debug)]
struct Running {
    /// The machine's name.
    name: String,
    logs: PathBuf,
    deaths: broadcast::Sender<DiedUnasked>,
    ending: Arc<AtomicBool>,
    link: Link,
    /// The node's first process, as the lab's first process started it.
    init: Program,
    /// Set when the power is cut.
    asked: AtomicBool,
    frozen: AtomicBool,
    services: Mutex<Vec<(Service, Arc<Supervised>)>>,
}

/// A program that should run until it is told to stop.
#[derive(Debug)]
struct Supervised {
    program: Program,
    asked: AtomicBool,
}

impl LabNode {
    pub fn new(
        machine: Machine,
        spec: NodeSpec,
        logs: PathBuf,
        lab: Arc<Link>,
        deaths: broadcast::Sender<DiedUnasked>,
        ending: Arc<AtomicBool>,
    ) -> Self {
        Self {
            machine,
            spec,
            logs,
            lab,
            deaths,
            ending,
            machine_on: RwLock::new(None),
            switching: Mutex::new(()),
        }
    }

    /// Boots the machine without starting its services.
    pub async fn boot(&self) -> Result<(), ClusterError> {
        let (ours, theirs) = wire::pair().map_err(|error| {
            ClusterError::caused(format!("make a socket for {}", self.machine.name), error)
        })?;
        let init = self.lab.power_on(self.spec.clone(), theirs).await?;
        let link = Link::open(&self.machine.name, ours).await?;
        let running = Arc::new(Running {
            name: self.machine.name.clone(),
            logs: self.logs.clone(),
            deaths: self.deaths.clone(),
            ending: Arc::clone(&self.ending),
            link,
            init,
            asked: AtomicBool::new(false),
            frozen: AtomicBool::new(false),
            services: Mutex::default(),
        });
        self.watch(Arc::clone(&running));
        *self.machine_on.write().await = Some(running);
        Ok(())
    }

    /// Reports the death of the machine, unless somebody asked for it, or the whole lab died.
    fn watch(&self, machine: Arc<Running>) {
        let (deaths, ending) = (self.deaths.clone(), Arc::clone(&self.ending));
        let (lab, process) = (self.lab.closed(), format!("the first process of {}", self.name()));
        tokio::spawn(async move {
            let code = machine.init.wait().await;
            let asked = machine.asked.load(Ordering::SeqCst) || ending.load(Ordering::SeqCst);
            if !asked && !lab.is_cancelled() {
                // Nobody may be listening.
                let status = status(code);
                let _ = deaths.send(DiedUnasked { process, status, log: vec![], restarts: false });
            }
        });
    }

    /// Runs a command with a file as its standard input.
    pub async fn run_reading(
        &self,
        command: Command,
        input: OwnedFd,
    ) -> Result<Output, ClusterError> {
        self.on().await?.link.run_reading(command, Some(input)).await
    }

    /// Boots the machine, and starts containerd and the kubelet from what is on its disk.
    async fn boot_with_services(&self) -> Result<(), ClusterError> {
        self.boot().await?;
        self.set_service(Service::Containerd, true).await?;
        self.set_service(Service::Kubelet, true).await
    }

    async fn on(&self) -> Result<Arc<Running>, ClusterError> {
        match &*self.machine_on.read().await {
            Some(machine) if !machine.init.ended() => Ok(Arc::clone(machine)),
            Some(_) => Err(ClusterError::new(format!("{} died", self.machine.name))),
            None => Err(ClusterError::new(format!("{} is powered off", self.machine.name))),
        }
    }

    async fn set_service(&self, service: Service, run: bool) -> Result<(), ClusterError> {
        self.on().await?.set_service(service, run).await
    }

    async fn kill_service(&self, service: Service, signal: Signal) -> Result<(), ClusterError> {
        let machine = self.on().await?;
        let services = machine.services.lock().await;
        let found =
            services.iter().find(|(of, running)| *of == service && !running.program.ended());
        let Some((_, killed)) = found.cloned() else {
            let name = &self.machine.name;
            return Err(ClusterError::new(format!("{service:?} does not run on {name}")));
        };
        drop(services);
        killed.asked.store(true, Ordering::SeqCst);
        let signal = match signal {
            Signal::Kill => libc::SIGKILL,
            Signal::Term => libc::SIGTERM,
        };
        machine.link.signal(&killed.program, signal);
        Ok(())
    }

    async fn switch(&self, on: bool) -> Result<(), ClusterError> {
        let _switching = self.switching.lock().await;
        if !on {
            let Some(machine) = self.machine_on.write().await.take() else { return Ok(()) };
            machine.asked.store(true, Ordering::SeqCst);
            for (_, supervised) in machine.services.lock().await.iter() {
                supervised.asked.store(true, Ordering::SeqCst);
            }
            // A first process ignores signals, but not SIGKILL from an outer PID namespace.
            self.lab.signal(&machine.init, libc::SIGKILL);
            machine.init.wait().await;
            return Ok(());
        }
        if self.powered() {
            return Ok(());
        }
        self.boot_with_services().await
    }
}

/// The file, on the host, that a service's output goes to.
fn log_of(logs: &Path, service: Service) -> PathBuf {
    logs.join(match service {
        Service::Containerd => "containerd.log",
        Service::Kubelet => "kubelet.log",
    })
}

impl Running {
    async fn set_service(
        self: &Arc<Self>,
        service: Service,
        run: bool,
    ) -> Result<(), ClusterError> {
        let mut services = self.services.lock().await;
        let at = services.iter().position(|(of, _)| *of == service);
        if !run {
            if let Some(at) = at {
                let (_, supervised) = services.remove(at);
                supervised.asked.store(true, Ordering::SeqCst);
                Self::end(&self.link, &supervised).await;
            }
            return Ok(());
        }
        if let Some(at) = at {
            if !services[at].1.program.ended() {
                return Ok(());
            }
            services.remove(at);
        }
        let supervised = self.start_service(service).await?;
        services.push((service, supervised));
        drop(services);
        if service == Service::Containerd {
            self.await_containerd().await?;
        }
        Ok(())
    }

    /// TERM, and KILL if that does not end it within ten seconds, as systemd would.
    async fn end(link: &Link, supervised: &Supervised) {
        let program = &supervised.program;
        link.signal(program, libc::SIGTERM);
        // A paused process ends only once it goes on.
        link.signal(program, libc::SIGCONT);
        if tokio::time::timeout(Duration::from_secs(10), program.wait()).await.is_err() {
            link.signal(program, libc::SIGKILL);
            program.wait().await;
        }
    }

    async fn start_service(
        self: &Arc<Self>,
        service: Service,
    ) -> Result<Arc<Supervised>, ClusterError> {
        let (name, argv): (_, Vec<String>) = match service {
            Service::Containerd => ("containerd", vec!["containerd".into()]),
            Service::Kubelet => ("kubelet", vec!["sh".into(), "-c".into(), config::KUBELET.into()]),
        };
        let log = log_of(&self.logs, service);
        let streams = log_streams(&log)?;
        let program = self.link.spawn(argv, streams).await?;
        let supervised = Arc::new(Supervised { program, asked: AtomicBool::new(false) });
        let (machine, watched) = (Arc::clone(self), Arc::clone(&supervised));
        tokio::spawn(async move {
            let code = watched.program.wait().await;
            // What dies with its machine is neither reported by itself nor started again.
            if machine.ending.load(Ordering::SeqCst) || machine.link.closed().is_cancelled() {
                return;
            }
            if !watched.asked.load(Ordering::SeqCst) {
                // Nobody may be listening.
                let _ = machine.deaths.send(DiedUnasked {
                    process: format!("{name} on {}", machine.name),
                    status: status(code),
                    log: last_lines(&log),
                    restarts: true,
                });
            }
            machine.restart(service, &watched).await;
        });
        Ok(supervised)
    }

    /// Waits until containerd answers a kubelet. It serves its socket before it has read its records,
    /// and refuses every call until then (`checkInitialized` in
    /// <https://github.com/containerd/containerd/blob/v1.6.20/pkg/cri/instrument/instrumented_service.go>);
    /// a kubelet that starts meanwhile asks for the version once, and ends.
    async fn await_containerd(&self) -> Result<(), ClusterError> {
        let script = "for i in $(seq 400); do [ -S /run/containerd/containerd.sock ] && \
                      why=$(crictl --runtime-endpoint unix:///run/containerd/containerd.sock \
                      --timeout 5s version 2>&1 >/dev/null) && exit 0; sleep 0.02; done; \
                      printf %s \"$why\"; exit 1";
        let command = Command::script(script, [""; 0]).timeout(Duration::from_secs(60));
        let output = self.link.run(command).await?;
        if output.code == 0 {
            return Ok(());
        }
        let (name, said) = (&self.name, output.text());
        let lines = last_lines(&log_of(&self.logs, Service::Containerd)).join("\n");
        Err(ClusterError::new(format!("containerd on {name} does not serve: {said}\n{lines}")))
    }

    /// Starts a program again that has ended, unless it was stopped, somebody else has started it or the
    /// machine is gone.
    fn restart<'a>(
        self: &'a Arc<Self>,
        service: Service,
        ended: &'a Arc<Supervised>,
    ) -> BoxFuture<'a, ()> {
        let again = async move {
            tokio::time::sleep(pause(service)).await;
            let mut services = self.services.lock().await;
            let is_it = |(_, running): &(Service, Arc<_>)| Arc::ptr_eq(running, ended);
            let Some(place) = services.iter().position(is_it) else { return };
            if self.init.ended() || self.ending.load(Ordering::SeqCst) {
                return;
            }
            match self.start_service(service).await {
                Ok(supervised) => services[place].1 = supervised,
                Err(error) => {
                    // Nobody may be listening.
                    let _ = self.deaths.send(DiedUnasked {
                        process: format!("{service:?} on {}", self.name),
                        status: format!("could not be started again: {error}"),
                        log: vec![],
                        restarts: false,
                    });
                }
            }
        };
        again.boxed()
    }
}

/// systemd's `RestartSec` in the units of the kubelet's package and of containerd.
/// <https://github.com/containerd/containerd/blob/v1.6.20/containerd.service>
fn pause(service: Service) -> Duration {
    match service {
        Service::Kubelet => Duration::from_secs(10),
        Service::Containerd => Duration::from_secs(5),
    }
}

impl Node for LabNode {
    fn id(&self) -> NodeRef {
        self.machine.id
    }

    fn name(&self) -> &str {
        &self.machine.name
    }

    /// The node's first process is this program.
    fn program(&self) -> &'static str {
        "/proc/1/exe"
    }

    fn address(&self) -> IpAddr {
        network::address(self.machine.number).into()
    }

    fn run(&self, command: Command) -> BoxFuture<'_, Result<Output, ClusterError>> {
        async move { self.on().await?.link.run(command).await }.boxed()
    }

    fn connect(
        &self,
        to: SocketAddr,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<std::io::Result<TcpStream>, ClusterError>> {
        async move { self.on().await?.link.connect(to, timeout).await }.boxed()
    }

    fn service(&self, service: Service, run: bool) -> BoxFuture<'_, Result<(), ClusterError>> {
        self.set_service(service, run).boxed()
    }

    fn log(
        &self,
        service: Service,
        since: Option<u64>,
    ) -> BoxFuture<'_, Result<(Vec<u8>, u64), ClusterError>> {
        read_since(log_of(&self.logs, service), since).boxed()
    }

    fn kill(&self, service: Service, signal: Signal) -> BoxFuture<'_, Result<(), ClusterError>> {
        self.kill_service(service, signal).boxed()
    }

    /// The node's first process is the lab's, not the machine's: it goes on, and so does what it
    /// is asked to run.
    fn freeze(&self, frozen: bool) -> BoxFuture<'_, Result<(), ClusterError>> {
        async move {
            // One call to the kernel for all processes of the namespace but the caller and the
            // first: kill(2). Nothing can fork past it.
            let script = r#"kill -s "$1" -- -1"#;
            let signal = if frozen { "STOP" } else { "CONT" };
            let machine = self.on().await?;
            machine.frozen.store(true, Ordering::SeqCst);
            let output = machine.link.run(Command::script(script, [signal])).await?;
            if output.code == 0 {
                machine.frozen.store(frozen, Ordering::SeqCst);
                return Ok(());
            }
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            let context = format!("SIG{signal} to all of {}: {said}", self.machine.name);
            Err(ClusterError::new(context))
        }
        .boxed()
    }

    fn frozen(&self) -> bool {
        let machine = self.machine_on.try_read();
        let frozen = |machine: &Arc<Running>| machine.frozen.load(Ordering::SeqCst);
        machine.is_ok_and(|machine| machine.as_ref().is_some_and(frozen))
    }

    fn powered(&self) -> bool {
        match self.machine_on.try_read() {
            Ok(machine) => machine.as_ref().is_some_and(|machine| !machine.init.ended()),
            // The power is changing just now.
            Err(_) => false,
        }
    }

    fn power(&self, on: bool) -> BoxFuture<'_, Result<(), ClusterError>> {
        self.switch(on).boxed()
    }
}
