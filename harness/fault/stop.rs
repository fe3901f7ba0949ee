//! A program's process dies by a signal and is held down until the revert, on several nodes at once if
//! the author wants it.
//!
//! The kubelet would restart a component, and would send SIGTERM itself if its manifest went away. So,
//! on the component's node: the kubelet is frozen (SIGSTOP), the manifest is moved out of the kubelet's
//! folder, the signal is sent, and only when the process is gone the kubelet goes on. It then finds
//! neither process nor manifest, and cleans up what is left of the pod.
//!
//! What else it changes: the kubelet of that node stands still from just before the signal to the
//! end of the process. For SIGKILL these are milliseconds. On SIGTERM an apiserver closes its port
//! and takes its address away at once, but its process waits up to 60 s for the watches of its
//! clients. Here it gets 20 s, then SIGKILL: the kubelet's own grace is 30 s, but a kubelet that
//! stands still for so long may be taken for dead (`--node-monitor-grace-period`, 40 s up to 1.31).
//! The pod's mirror in the API is deleted while the component is held down.
//!
//! The kubelet itself and containerd are kept by the node's init, which is told to keep them no more
//! as soon as SIGKILL was sent, before it would start them again. It stops a program by SIGTERM
//! itself, so that is all for this signal: another would cut the graceful end short. What such a
//! program has started goes on. A node that boots meanwhile starts the program, too, and the stop is
//! lost.
//!
//! Several at once on one node: a component comes back by its kubelet, and a kubelet without its
//! containerd ends at once. So a component can't be stopped where the kubelet or containerd is, nor
//! the kubelet where containerd is: it could not be brought back first. The other way round they can,
//! and then the last is to be brought back first, as at a run's end.

use std::time::Duration;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::process::{FREEZE, alive, checked, pattern, running, until};
use super::serving::{self, Reply};
use super::{Issued, Primitive, Proof, all, each, manifest, nodes, record, recorded};
use crate::cluster::client::Access;
use crate::cluster::{ClusterError, Command, Service};
use crate::scenario::{Component, NodeRef, Program, Signal, Stop};

/// How long a component's process may take from SIGTERM to its end.
const GRACE: Duration = Duration::from_secs(20);

/// From the signal to a port that refuses. The kernel takes a big process apart in milliseconds,
/// on a busy machine in seconds. An init that stops a program has a grace of its own.
const DEATH: Duration = Duration::from_secs(30);

/// The kubelet sees the manifest by inotify, at the latest when it lists its folder again
/// (`fileCheckFrequency`, 20 s), and waits for the old pod's end before it starts the new one.
const RETURN: Duration = Duration::from_secs(90);

/// The same for etcd. While a manifest is away, the kubelet deletes the pod's mirror in every
/// housekeeping (2 s), in the one loop in which it also takes manifests up. It asks its own apiserver
/// since 1.33 (kubeadm's `ControlPlaneKubeletLocalMode`), and one that has no etcd answers the
/// deletion after 34 s (`requestTimeoutUpperBound`); then the loop takes what is ready at random, the
/// manifest or the next housekeeping. So the manifest waits for 34 s, with even chances for 34 s
/// more, and so on, until the apiserver's liveness probe has failed for long enough (seen 125 to
/// 170 s after the stop) and deletions are refused at once: measured 12 to 125 s.
/// <https://github.com/kubernetes/kubernetes/blob/v1.34.4/pkg/kubelet/kubelet.go> (`syncLoopIteration`)
/// <https://github.com/kubernetes/kubernetes/blob/v1.34.4/pkg/kubelet/kubelet_pods.go>
/// (`HandlePodCleanups`)
/// <https://github.com/kubernetes/apiserver/blob/v0.34.4/pkg/endpoints/handlers/rest.go>
const RETURN_OF_ETCD: Duration = Duration::from_secs(240);

/// An init starts a program and waits until it says that it is up, up to a minute each; then it is to
/// answer.
const RETURN_OF_SERVICE: Duration = Duration::from_mins(2);

/// What was before on one node.
#[derive(Debug, Serialize, Deserialize)]
struct Before {
    /// On which node.
    on: NodeRef,
    /// Of a component's manifest, in hex, as `sha256sum` says it.
    sha256: Option<String>,
}

/// Who would bring the process back.
enum Keeper {
    /// The kubelet, by the manifest of this component.
    Kubelet(Component),
    /// The node's init, as this service.
    Init(Service),
}

/// Freezes the kubelet ($3) and takes the manifest ($1) away (to $2).
const HOLD: &str = r#"
set -eu
freeze "$3" || { echo "no kubelet to freeze" >&2; exit 1; }
mv "$1" "$2"
"#;

fn hold() -> String {
    format!("{FREEZE}{HOLD}")
}

/// Sends the signal ($2) to the process ($1), waits for its end, after $3 periods of 20 ms with
/// SIGKILL, and then lets the kubelet ($4) go on. It answers at once if the signal is SIGTERM. A
/// process is gone when its last thread is: the first may end before the others close its ports.
const SIGNAL: &str = r#"
pids=$(pgrep -f "$1") || { pkill -CONT -f "$4"; echo "no process to signal" >&2; exit 1; }
ended() {
    for pid in $pids; do
        case $(sed 's/.*) //' /proc/$pid/stat 2>/dev/null) in
            '') ;;
            Z*|X*) [ "$(ls /proc/$pid/task 2>/dev/null | wc -l)" -le 1 ] || return 1 ;;
            *) return 1 ;;
        esac
    done
}
finish() {
    left=$1
    until ended; do
        [ "$left" -ne 0 ] || kill -s KILL $pids
        sleep 0.02
        left=$((left - 1))
    done
    pkill -CONT -f "$2"
}
kill -s "$2" $pids
if [ "$2" = TERM ]; then finish "$3" "$4" >/dev/null 2>&1 & else finish "$3" "$4"; fi
"#;

/// Says whether the manifest ($1) is away and held ($2).
const HELD: &str = r#"[ ! -e "$1" ] && [ -e "$2" ]"#;

/// Brings the manifest back if it is held, after the end of what is left of the process ($4), and
/// lets the kubelet go on if it is frozen.
const RELEASE: &str = r#"
set -eu
if [ -e "$2" ]; then
    pkill -KILL -f "$4" || true
    while pgrep -f "$4" >/dev/null; do sleep 0.02; done
    mv "$2" "$1"
fi
pkill -CONT -f "$3" || { echo "no kubelet to wake" >&2; exit 1; }
sha256sum <"$1" | cut -d ' ' -f 1
"#;

/// Where a component's manifest is, where it is held (on the same file system, out of the kubelet's
/// sight), and the kubelet's pattern.
fn places(component: Component) -> [String; 3] {
    let held = format!("/etc/kubernetes/{}.yaml.outage-held", component.name());
    [manifest::path(component), held, pattern("kubelet")]
}

impl Stop {
    fn keeper(&self) -> Result<Keeper, ClusterError> {
        match self.component {
            Program::Component(component) => Ok(Keeper::Kubelet(component)),
            Program::Kubelet => Ok(Keeper::Init(Service::Kubelet)),
            Program::Containerd => Ok(Keeper::Init(Service::Containerd)),
            Program::KubeProxy => Err(ClusterError::new("kube-proxy can't be held down")),
        }
    }

    /// What must run on the node to bring it back.
    fn needs(&self) -> &'static [Program] {
        match self.component {
            Program::Component(_) | Program::KubeProxy => &[Program::Kubelet, Program::Containerd],
            Program::Kubelet => &[Program::Containerd],
            Program::Containerd => &[],
        }
    }

    /// How long it may take from the manifest's return, or from the order to the init, to the process.
    fn returns_within(&self) -> Duration {
        match self.component {
            Program::Component(Component::Etcd) => RETURN_OF_ETCD,
            Program::Component(_) => RETURN,
            _ => RETURN_OF_SERVICE,
        }
    }

    async fn found(&self, on: NodeRef, access: &Access) -> Result<Before, ClusterError> {
        let node = access.node(on)?;
        for program in self.needs().iter().chain([&self.component]) {
            alive(&**node, program.name()).await?;
        }
        let Keeper::Kubelet(component) = self.keeper()? else {
            return Ok(Before { on, sha256: None });
        };
        let [manifest, ..] = places(component);
        let hash = Command::script(r#"sha256sum <"$1" | cut -d ' ' -f 1"#, [manifest]);
        let sha256 = checked(&**node, hash, "hash the manifest").await?.text();
        Ok(Before { on, sha256: Some(sha256) })
    }

    async fn kill(&self, access: &Access, issued: Issued) -> Result<(), ClusterError> {
        match self.keeper()? {
            Keeper::Kubelet(component) => {
                each(self.on.iter().map(|on| async {
                    let hold = Command::script(&hold(), places(component));
                    checked(&**access.node(*on)?, hold, "hold the manifest").await
                }))
                .await?;
                issued();
                each(self.on.iter().map(|on| self.signal_on(component, *on, access))).await?;
            }
            Keeper::Init(service) => {
                issued();
                each(self.on.iter().map(|on| self.end_on(service, *on, access))).await?;
            }
        }
        until(DEATH, || async { Ok(self.look(access).await?.err()) }).await
    }

    async fn signal_on(
        &self,
        component: Component,
        on: NodeRef,
        access: &Access,
    ) -> Result<(), ClusterError> {
        let [.., kubelet] = places(component);
        let process = pattern(component.name());
        let periods = (GRACE.as_millis() / 20).to_string();
        let signal = self.signal.name().to_owned();
        let kill = Command::script(SIGNAL, [process, signal, periods, kubelet]).timeout(DEATH);
        checked(&**access.node(on)?, kill, "send the signal").await.map(drop)
    }

    async fn end_on(
        &self,
        service: Service,
        on: NodeRef,
        access: &Access,
    ) -> Result<(), ClusterError> {
        let node = access.node(on)?;
        if self.signal == Signal::Kill {
            node.kill(service, self.signal).await?;
        }
        node.service(service, false).await
    }

    async fn look(&self, access: &Access) -> Result<Proof, ClusterError> {
        Ok(all(each(self.on.iter().map(|on| self.look_on(*on, access))).await?))
    }

    async fn look_on(&self, on: NodeRef, access: &Access) -> Result<Proof, ClusterError> {
        let node = access.node(on)?;
        let what = self.component.name();
        let keeper = self.keeper()?;
        // The kubelet stands still until a component's process has ended.
        let (mut process, others) = match (running(&**node, what).await?.first(), &keeper) {
            (None, _) => (format!("no process {what} on {on}"), serving::others(self.component)),
            (Some(process), Keeper::Kubelet(_)) if self.signal == Signal::Term => {
                let draining = format!("process {} of {what} on {on} is draining", process.id.pid);
                (draining, &[Program::Containerd][..])
            }
            (Some(process), _) => {
                return Ok(Err(format!("{what} runs on {on} as process {}", process.id.pid)));
            }
        };
        if let Keeper::Kubelet(component) = keeper {
            let held = node.run(Command::script(HELD, places(component))).await?.code == 0;
            if !held {
                return Ok(Err(format!("the manifest of {what} on {on} is not held")));
            }
            process += ", its manifest is held";
        }
        let refuses = match serving::ask(self.component, on, access).await? {
            (at, Reply::Refused) => format!("{at} refuses connections"),
            (at, other) => return Ok(Err(format!("{at} does not refuse: {other}"))),
        };
        let beside = serving::one_answers(others, on, access).await?;
        Ok(beside.map(|beside| vec![process, refuses, beside]))
    }

    async fn release(&self, before: &Before, access: &Access) -> Result<(), ClusterError> {
        match (self.keeper()?, &before.sha256) {
            (Keeper::Kubelet(component), Some(sha256)) => {
                self.give_back(component, before.on, sha256, access).await
            }
            (Keeper::Kubelet(_), None) => {
                Err(ClusterError::new("the undo record has no hash of the manifest"))
            }
            (Keeper::Init(service), _) => {
                access.node(before.on)?.service(service, true).await?;
                let missing = || serving::missing(self.component, before.on, access);
                until(self.returns_within(), missing).await
            }
        }
    }

    /// Gives the kubelet the manifest back, which must be the same.
    async fn give_back(
        &self,
        component: Component,
        on: NodeRef,
        sha256: &str,
        access: &Access,
    ) -> Result<(), ClusterError> {
        let what = component.name();
        let node = access.node(on)?;
        let arguments = places(component).into_iter().chain([pattern(what)]);
        let release = Command::script(RELEASE, arguments).timeout(DEATH);
        let found = checked(&**node, release, "bring the manifest back").await?.text();
        if found != sha256 {
            let context = format!("the manifest of {what} on {on} is {found}, was {sha256}");
            return Err(ClusterError::new(context));
        }
        until(self.returns_within(), || async {
            let back = !running(&**node, what).await?.is_empty();
            Ok((!back).then(|| format!("{what} does not run again on {on}")))
        })
        .await
    }
}

impl Primitive for Stop {
    fn does(&self) -> String {
        let on = nodes(&self.on);
        format!("stop {} on {on} by SIG{}", self.component.name(), self.signal.name())
    }

    fn limit(&self) -> Duration {
        DEATH + self.returns_within()
    }

    /// The kubelet takes the pod apart with its manifest, and counts no restart of one that comes
    /// back: of five stops of an apiserver within four minutes on one cluster (1.34.4), the last was
    /// as soon ready again as the first. But the apiserver beside a stopped etcd is restarted by its
    /// kubelet, which remembers that in its back-off. And what a node's containers were meanwhile
    /// without their kubelet or runtime, nobody knows.
    fn spends(&self) -> bool {
        match self.component {
            Program::Component(component) => component == Component::Etcd,
            _ => true,
        }
    }

    fn before<'a>(
        &'a self,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<serde_json::Value, ClusterError>> {
        Box::pin(async { record(&each(self.on.iter().map(|on| self.found(*on, access))).await?) })
    }

    fn inject<'a>(
        &'a self,
        _before: &'a serde_json::Value,
        access: &'a Access,
        issued: Issued,
    ) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(self.kill(access, issued))
    }

    fn prove<'a>(
        &'a self,
        _before: &'a serde_json::Value,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<Proof, ClusterError>> {
        Box::pin(self.look(access))
    }

    fn revert<'a>(
        &'a self,
        before: &'a serde_json::Value,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(async {
            let before: Vec<Before> = recorded(before)?;
            each(before.iter().map(|before| self.release(before, access))).await.map(drop)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command as Process};

    use super::*;

    /// A process under a name that no other process on the machine has. It ends with the test,
    /// however that ends.
    struct Named(Child);

    impl Named {
        fn new(name: &str) -> Self {
            let start = format!("exec -a {name} sleep 4242");
            Self(Process::new("bash").args(["-c", &start]).spawn().unwrap())
        }

        fn state(&self) -> String {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
            stat.rsplit(") ").next().unwrap().chars().take(1).collect()
        }
    }

    impl Drop for Named {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn sh(script: &str, arguments: &[&str]) -> (bool, String) {
        let output =
            Process::new("sh").args(["-c", script, "sh"]).args(arguments).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Until the shell has become what it is to be.
    fn appears(pattern: &str) {
        let once = r#"n=500; until pgrep -f "$1" || [ $n = 0 ]; do n=$((n-1)); sleep 0.02; done"#;
        assert_ne!(sh(once, &[pattern]).1, "");
    }

    fn stop(component: Program) -> Stop {
        Stop { component, on: vec![NodeRef::Master(1)], signal: Signal::Kill }
    }

    #[test]
    fn a_program_is_kept_by_the_kubelet_or_by_the_init_of_its_node() {
        let kubelet = stop(Program::Kubelet);
        assert_eq!(kubelet.does(), "stop kubelet on master-1 by SIGKILL");
        assert!(matches!(kubelet.keeper(), Ok(Keeper::Init(Service::Kubelet))));
        assert!(kubelet.spends());
        let etcd = stop(Program::Component(Component::Etcd));
        assert!(matches!(etcd.keeper(), Ok(Keeper::Kubelet(Component::Etcd))));
        assert!(stop(Program::KubeProxy).keeper().is_err());
    }

    #[test]
    fn what_brings_a_program_back_is_stopped_after_it() {
        let scheduler = stop(Program::Component(Component::KubeScheduler));
        let [kubelet, containerd] = [Program::Kubelet, Program::Containerd].map(stop);
        assert_eq!(scheduler.needs(), [Program::Kubelet, Program::Containerd]);
        assert_eq!(kubelet.needs(), [Program::Containerd]);
        assert!(containerd.needs().is_empty());
    }

    #[test]
    fn etcd_may_take_longer_to_return_and_leaves_a_back_off_behind() {
        let [etcd, apiserver] =
            [Component::Etcd, Component::KubeApiserver].map(Program::Component).map(stop);
        assert!(etcd.spends() && !apiserver.spends());
        // Six times in a row the next housekeeping, each until the apiserver gives up.
        assert!(etcd.limit() > Duration::from_secs(34) * 7);
        assert!(apiserver.limit() < etcd.limit());
    }

    #[test]
    fn the_scripts_hold_a_process_down_and_bring_everything_back() {
        let id = std::process::id();
        let folder = std::env::temp_dir().join(format!("outage-stop-{id}"));
        std::fs::create_dir_all(&folder).unwrap();
        let at = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        let (manifest, held) = (at("manifest"), at("held"));
        std::fs::write(&manifest, "pod").unwrap();
        let names = [format!("outage-kubelet-{id}"), format!("outage-component-{id}")];
        let [kubelet_pattern, component_pattern] = names.each_ref().map(|name| pattern(name));
        let [kubelet, mut component] = names.each_ref().map(|name| Named::new(name));
        appears(&kubelet_pattern);
        appears(&component_pattern);

        let places = [manifest.as_str(), &held, &kubelet_pattern];
        assert!(!sh(HELD, &places).0, "nothing is held at first");
        assert!(sh(&hold(), &places).0);
        assert_eq!(kubelet.state(), "T");
        assert!(sh(HELD, &places).0);
        assert!(sh(SIGNAL, &[&component_pattern, "KILL", "100", &kubelet_pattern]).0);
        assert_eq!(component.state(), "Z");
        assert_ne!(kubelet.state(), "T", "the kubelet goes on");

        // Reverted twice, the second time with nothing to do; the hash is that of `pod`.
        let hash = sh("printf pod | sha256sum | cut -d ' ' -f 1", &[]).1;
        component.0.wait().unwrap();
        let places = [manifest.as_str(), &held, &kubelet_pattern, &component_pattern];
        let released = [sh(RELEASE, &places), sh(RELEASE, &places)];
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(released, [(true, hash.clone()), (true, hash)]);
    }
}
