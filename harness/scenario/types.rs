//! What a scenario says, after it was read and checked: plain data, no source positions.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fault::{
    Apply, CertificateChange, ClockShift, CommandFault, ContainerNameTaken, Degrade, Delete,
    FileChange, Freeze, FullDisk, Isolate, Kill, Limit, Patch, Pause, PowerOff, Program, Scale,
    TooManyOpenFiles, Traffic,
};
use super::probe::{
    CommandRun, EtcdState, EventSeen, Kubectl, Lease, LogLine, Metric, Object, Request, Target,
    Wanted, Writes, Written,
};
use super::{Addon, NamedNode, Version, Versions, Wait};

/// One documented incident as a test: a cluster, what must hold at first, and steps that break,
/// observe and mend it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scenario {
    /// Its name: lower-case letters, digits and dashes; unique among the built-in scenarios.
    pub name: String,
    /// One line for lists.
    pub title: String,
    /// What it teaches, in its own words, and what was measured.
    pub notes: String,
    /// Where the incident is documented: addresses, source files, report titles.
    pub references: Vec<String>,
    /// The cluster it needs.
    pub cluster: ClusterNeeds,
    /// Nodes that it names. The rest of this is read with one choice of nodes for these names.
    pub nodes: Vec<NamedNode>,
    /// Its variants, in order; never empty (a file without `variants` has one named `default`).
    pub variants: Vec<String>,
    /// Objects that are applied before anything is expected, in this order.
    pub setup: Vec<SetUp>,
    /// Expectations that must all hold before anything is injected.
    pub steady_state: Vec<Expectation>,
    /// The steps, carried out in order.
    pub steps: Vec<Step>,
}

/// The cluster a scenario needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClusterNeeds {
    /// The versions of Kubernetes that it is for: on others it is skipped.
    pub versions: Versions,
    /// Control-plane nodes: 1, 3 or 5.
    pub masters: usize,
    /// Worker nodes: 0 to 3.
    pub workers: usize,
    /// Departures from kubeadm's settings, in order.
    pub settings: Vec<Setting>,
    /// What is installed before the steady state, each once.
    pub addons: Vec<Addon>,
}

/// Flags of a control-plane component that differ from kubeadm's, on every master.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// Which variants it is for.
    pub only: Only,
    /// The component whose flags they are.
    pub component: Component,
    /// Flag name without dashes to its value.
    pub flags: BTreeMap<String, String>,
}

/// An object that a scenario needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SetUp {
    /// Which variants it is for.
    pub only: Only,
    /// Which versions of Kubernetes it is for.
    pub versions: Versions,
    /// What is applied.
    pub apply: Apply,
}

/// Which variants something is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub enum Only {
    /// Every variant: the file says nothing.
    #[default]
    All,
    /// The variants with these names (patterns such as `master-count-*` already resolved).
    These(Vec<String>),
}

impl Only {
    /// Whether the variant is among them.
    pub fn covers(&self, variant: &str) -> bool {
        match self {
            Self::All => true,
            Self::These(names) => names.iter().any(|name| name == variant),
        }
    }
}

/// A component of the control plane that runs as a static pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Component {
    /// The API server.
    KubeApiserver,
    /// The controller manager.
    KubeControllerManager,
    /// The scheduler.
    KubeScheduler,
    /// The stacked etcd member.
    Etcd,
}

impl Component {
    /// Its name in commands, manifests and pods.
    pub fn name(self) -> &'static str {
        match self {
            Self::KubeApiserver => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::KubeScheduler => "kube-scheduler",
            Self::Etcd => "etcd",
        }
    }

    /// The file with its static pod on a master.
    pub fn manifest(self) -> String {
        format!("/etc/kubernetes/manifests/{}.yaml", self.name())
    }
}

/// A node by role and index, counted from 1: written `{master: 3}` or `{worker: 1}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NodeRef {
    /// A control-plane node.
    Master(usize),
    /// A worker node.
    Worker(usize),
}

impl std::fmt::Display for NodeRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Master(index) => write!(f, "master-{index}"),
            Self::Worker(index) => write!(f, "worker-{index}"),
        }
    }
}

/// Nodes in words: `master-1, master-2 and worker-1`.
pub fn nodes_in_words(on: &[NodeRef]) -> String {
    let mut names: Vec<_> = on.iter().map(ToString::to_string).collect();
    let last = names.pop().unwrap_or_default();
    if names.is_empty() { last } else { format!("{} and {last}", names.join(", ")) }
}

/// One step of a scenario.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// Injects a fault; detection is timed from the moment it is issued.
    Inject(Action),
    /// Expectations while faults hold.
    Detect(Vec<Expectation>),
    /// Takes faults back; recovery is timed from the moment it is issued.
    Revert(Revert),
    /// Changes the cluster as the report's author did, with the faults still in place; recovery is
    /// timed from the moment it is issued. Undone at the end.
    Remedy(Action),
    /// Expectations after a revert or a remedy.
    Recover(Vec<Expectation>),
}

/// A named change to the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Action {
    /// Its name, unique within each variant; `revert` refers to it.
    pub name: String,
    /// Which variants it is for.
    pub only: Only,
    /// Which versions of Kubernetes it is for.
    pub versions: Versions,
    /// How long after the injection before it in a row of changes it follows; zero: at once.
    pub after: Duration,
    /// Whether it is injected again and again.
    pub repeat: Option<Repeat>,
    /// What it does.
    pub fault: Fault,
}

/// How an action is repeated: each time but the last it is taken back before the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Repeat {
    /// How often it is injected: two or more.
    pub times: u32,
    /// The time from one injection to the next, or more if the revert takes longer.
    pub every: Duration,
    /// How long it stays; nothing for what happens once and is only waited for.
    pub lasts: Option<Duration>,
    /// By how much a time between two injections may be shorter or longer, by the seed.
    pub jitter: Duration,
}

impl Action {
    /// Whether it belongs to this variant on this version.
    pub fn covers(&self, variant: &str, version: Version) -> bool {
        self.only.covers(variant) && self.versions.covers(version)
    }
}

/// Faults to take back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Revert {
    /// Which variants it is for.
    pub only: Only,
    /// Which versions of Kubernetes it is for.
    pub versions: Versions,
    /// Names of actions of earlier steps, reverted in reverse order.
    pub actions: Vec<String>,
}

impl Revert {
    /// Whether it belongs to this variant on this version.
    pub fn covers(&self, variant: &str, version: Version) -> bool {
        self.only.covers(variant) && self.versions.covers(version)
    }
}

/// A change that can be proven and taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Fault {
    /// The program's process dies by the signal and is held down until the revert.
    Stop(Stop),
    /// The component runs with changed flags, one node after another.
    Settings(SettingsChange),
    /// The name of the component's next container is taken, so that the kubelet can't create it.
    ContainerNameTaken(ContainerNameTaken),
    /// An object is applied by server-side apply: created, or those of its fields changed that the
    /// manifest has.
    Apply(Apply),
    /// Fields of an object change.
    Patch(Patch),
    /// An object is deleted.
    Delete(Delete),
    /// A workload gets another number of pods, by its `scale` subresource.
    Scale(Scale),
    /// The program's process dies once; its supervisor brings it back.
    Kill(Kill),
    /// The program's process stands still until the revert.
    Pause(Pause),
    /// The program's process has another time than its node until the revert.
    Clock(ClockShift),
    /// The program's process can open no file and accept no connection until the revert.
    TooManyOpenFiles(TooManyOpenFiles),
    /// The program gets less of a CPU or of memory than it needs until the revert.
    Limit(Limit),
    /// The disk of a master's etcd is full until the revert.
    FullDisk(FullDisk),
    /// The machine loses its power until the revert.
    PowerOff(PowerOff),
    /// Every process of the machine stands still until the revert.
    Freeze(Freeze),
    /// The machine is cut off from the network between nodes until the revert.
    Isolate(Isolate),
    /// Packets between two ends are dropped or rejected until the revert.
    Traffic(Traffic),
    /// TCP connections between two ends are slow, thin or broken until the revert.
    Degrade(Degrade),
    /// A file of a node is replaced, removed or made unreadable.
    File(FileChange),
    /// A certificate of a node is issued anew, with parts of it changed.
    Certificate(CertificateChange),
    /// A shell script of the author's breaks something on a node; others prove and mend it.
    Command(CommandFault),
}

/// See [`Fault::Stop`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// What is stopped; not kube-proxy, a pod that can't be held down.
    pub component: Program,
    /// On which nodes, on all at once.
    pub on: Vec<NodeRef>,
    /// How its process dies.
    pub signal: Signal,
}

/// A signal that ends a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Signal {
    /// At once, without a chance to clean up.
    #[serde(rename = "SIGKILL")]
    Kill,
    /// Asks for a graceful end.
    #[serde(rename = "SIGTERM")]
    Term,
}

impl Signal {
    /// Its name as `kill -s` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "KILL",
            Self::Term => "TERM",
        }
    }
}

/// See [`Fault::Settings`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingsChange {
    /// Whose flags.
    pub component: Component,
    /// On which masters, in this order.
    pub on: Vec<NodeRef>,
    /// Flag name without dashes to its new values, for each of which it is given; none (`null` in the
    /// file) take the flag away.
    pub flags: BTreeMap<String, Vec<String>>,
    /// What the component makes of them.
    pub starts: Starts,
}

/// What a component makes of its flags.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Starts {
    /// It runs, and an apiserver is ready.
    #[default]
    Ready,
    /// An apiserver that runs and is not ready.
    Unready,
    /// It refuses them: it starts, and ends by itself.
    Not,
}

/// A probe, the condition on what it sees, and a deadline.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Expectation {
    /// What is expected, in words.
    pub name: String,
    /// Which variants it is for.
    pub only: Only,
    /// Which versions of Kubernetes it is for.
    pub versions: Versions,
    /// The observation and its condition.
    pub probe: Probe,
    /// When it must hold.
    pub timing: Timing,
    /// Time from the end of one observation to the start of the next, where the probe polls.
    pub every: Duration,
    /// The action that its times count from, of those that are injected or reverted just before; nothing:
    /// the last.
    pub from: Option<String>,
    /// What Kubernetes spends the time on until then.
    pub waits_for: Vec<Wait>,
}

impl Expectation {
    /// Whether it belongs to this variant on this version.
    pub fn covers(&self, variant: &str, version: Version) -> bool {
        self.only.covers(variant) && self.versions.covers(version)
    }
}

/// When an expectation must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Timing {
    /// It must begin to hold at most this long after the injection (or the revert) was issued, and
    /// then hold for `stable_for`.
    Within {
        /// The deadline.
        deadline: Duration,
        /// How long it must go on holding; zero: one observation is enough.
        stable_for: Duration,
    },
    /// It must hold at every observation of a window.
    Throughout {
        /// When the window opens. In the first step after a change it counts from that change's
        /// issue, so that what goes on meanwhile is seen; in a later one from the end of the step
        /// before.
        after: Duration,
        /// How long the window is.
        window: Duration,
    },
}

/// An observation with the condition that makes it hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Probe {
    /// A health endpoint of one apiserver, asked directly.
    Health(Health),
    /// The addresses behind a Service, in its Endpoints and in its `EndpointSlice`s.
    Endpoints(Endpoints),
    /// TCP connects from a node, counted by outcome.
    Connect(Connect),
    /// HTTPS requests from a node, counted by outcome.
    Request(Request),
    /// A condition in an object's status.
    Condition(Condition),
    /// An expression over an object, or over several.
    Object(Object),
    /// Who holds a Lease, or how often that has changed.
    Lease(Lease),
    /// A new event about an object.
    Event(EventSeen),
    /// A new line in a log.
    Log(LogLine),
    /// A metric of a component.
    Metric(Metric),
    /// A key or an alarm of etcd.
    Etcd(EtcdState),
    /// A `kubectl` command.
    Kubectl(Kubectl),
    /// A shell script on a node.
    Command(CommandRun),
    /// Writes through an apiserver, counted by outcome; what is acknowledged is remembered.
    Writes(Writes),
    /// Whether every write that was acknowledged is there.
    Written(Written),
}

/// See [`Probe::Health`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Whose apiserver.
    pub apiserver: NodeRef,
    /// `/readyz`, `/livez` or `/healthz`, also with a named check such as `/readyz/etcd`.
    pub path: String,
    /// What it must say.
    pub is: HealthState,
    /// A check that must be among those that fail.
    pub check: Option<String>,
}

/// What a health endpoint says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HealthState {
    /// 200.
    Ok,
    /// Any other status.
    Failing,
    /// The connection is refused.
    Refused,
}

/// See [`Probe::Endpoints`]. Both sources must say the same for the probe to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// `namespace/name` of the Service.
    pub service: String,
    /// The apiserver that is asked, directly.
    pub through: NodeRef,
    /// Nodes whose address must be listed.
    pub contain: Vec<NodeRef>,
    /// Nodes whose address must not be listed.
    pub lack: Vec<NodeRef>,
}

/// See [`Probe::Connect`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Connect {
    /// The node that connects.
    pub from: NodeRef,
    /// Where to.
    pub to: Target,
    /// Connects per observation, one after another.
    pub attempts: u32,
    /// How many must be refused. All others must be accepted: one that times out or ends in any
    /// other way keeps the observation from holding.
    pub refused: Tally,
}

/// How many of an observation's attempts must end in the counted way.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Tally {
    /// Just so many.
    Count(u32),
    /// So many or fewer.
    AtMost(u32),
    /// So many or more.
    AtLeast(u32),
    /// A share, as a statistical statement: the count lies in the two-sided interval that a
    /// binomial with this share leaves with at most the given probability.
    Share {
        /// The share, more than 0 and less than 1.
        of: f64,
        /// The probability that one observation of a true share falls outside the interval.
        false_alarm: f64,
    },
}

/// See [`Probe::Condition`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// `apiVersion` of the object, such as `v1` or `apps/v1`.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace, for a namespaced kind.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// The condition's type.
    pub condition: String,
    /// What is looked at, and what it must be.
    pub is: ConditionSide,
    /// The apiserver that is asked, directly.
    pub through: NodeRef,
}

/// What of a condition is looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ConditionSide {
    /// What it says.
    State {
        /// What its status must be.
        status: String,
        /// What its reason must be, if that is expected too.
        reason: Option<String>,
        /// A regular expression that its message must match, if that is expected too.
        message: Option<String>,
    },
    /// How often its status has changed since the observation began.
    Changes(Wanted),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_listed_in_words() {
        let on = [NodeRef::Master(1), NodeRef::Master(2), NodeRef::Worker(1)];
        assert_eq!(nodes_in_words(&on), "master-1, master-2 and worker-1");
        assert_eq!(nodes_in_words(&on[..1]), "master-1");
    }
}
