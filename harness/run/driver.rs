//! Carries out what the state machine wants. One select loop puts everything that happens in a
//! row: answers of the work, observations, deaths, the user's interrupt, time.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::flags;
use super::journal::{Journal, journal_name};
use super::log::Log;
use super::machine::Machine;
use super::nodes::Chooser;
use super::objects;
use super::plan::Plan;
use super::step::{Action, Input, Reply, Stands};
use super::tracker::Seen;
use super::work::{Omit, Work, end, tear_down};
use crate::cluster::client::{Access, words};
use crate::cluster::{Cluster, ClusterError, DiedUnasked};
use crate::event::{CaseInfo, Event, Verdict, What};
use crate::probe::{self, Sighting};
use crate::scenario::Nodes;

/// Whether a case's cluster is left standing, by the verdict so far.
pub type Keep = Box<dyn FnOnce(Verdict) -> bool + Send>;

/// One case of a run: a variant of a scenario, once.
pub struct Case {
    /// Its index among the cases of the run.
    pub index: usize,
    /// What it is, for reports.
    pub info: CaseInfo,
    /// What it does; with any of the nodes that its names may stand for.
    pub plan: Plan,
    /// Chooses the nodes for the scenario's names once the cluster stands; nothing if it has none.
    pub chooser: Option<Chooser>,
    /// When the run began: the zero of all its events' times.
    pub began: Instant,
    /// Asked at the end whether the cluster is left standing; told the verdict so far.
    pub keep: Keep,
    /// Who is asked before each change of the cluster.
    pub ask: Option<Ask>,
    /// For tests alone: what is left out.
    pub omit: Omit,
}

/// Asks somebody whether to go on with what comes next, told in words, on this cluster.
#[derive(Clone)]
pub struct Ask(pub Arc<Asking>);

type Asking = dyn Fn(String, Arc<dyn Cluster>) -> BoxFuture<'static, Reply> + Send + Sync;

impl std::fmt::Debug for Ask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ask")
    }
}

/// A cluster that stands, from one case to the next.
#[derive(Debug)]
pub struct Held {
    cluster: Arc<dyn Cluster>,
    /// Where the logs of its components are, below the run's folder.
    logs: Option<String>,
    /// From its start on, so that no death goes unnoticed between two cases.
    deaths: broadcast::Receiver<DiedUnasked>,
    /// Whether it belongs to another process, so that no other takes its place.
    taken: bool,
    /// Whether a case ran on it.
    used: bool,
    /// Whether a case has left something behind that outlives its reverts.
    spent: bool,
}

impl Held {
    /// A cluster that was just made.
    pub fn new(cluster: Arc<dyn Cluster>, logs: Option<String>) -> Self {
        let deaths = cluster.deaths();
        Self { cluster, logs, deaths, taken: false, used: false, spent: false }
    }

    /// A cluster that another process holds.
    pub fn taken(cluster: Arc<dyn Cluster>, logs: Option<String>) -> Self {
        Self { taken: true, ..Self::new(cluster, logs) }
    }

    /// A case has left something behind.
    pub fn spend(&mut self) {
        self.spent = true;
    }

    /// Makes the cluster as good as new, if it is not, and waits until it is.
    ///
    /// # Errors
    /// If it can't be made so.
    pub async fn renew(&mut self) -> Result<(), ClusterError> {
        Access::new(Arc::clone(&self.cluster)).await?.renew(self.spent).await?;
        self.spent = false;
        Ok(())
    }

    /// The cluster.
    pub fn cluster(&self) -> &Arc<dyn Cluster> {
        &self.cluster
    }
}

/// What a case came to.
#[derive(Debug)]
pub struct Ended {
    /// Its verdict.
    pub verdict: Verdict,
    /// The cluster, if it was to be kept.
    pub cluster: Option<Held>,
}

/// Runs a case to its end, on `held` if it is given, which another case has used. `provision` makes
/// a cluster where there is none or that one is not in its steady state, and says how far it is
/// through the sender; events go to `events` and to `events.jsonl` in `folder`, the undo journal is
/// `undo-INDEX.jsonl` there. Cancelling `interrupt` ends the case early: what is in place is taken
/// back first.
///
/// Await it to the end: dropping the future leaves reverts undone (the journal says which).
///
/// # Errors
/// If the log or the journal can't be made in `folder`; nothing was begun then.
pub async fn run_case<P, F>(
    case: Case,
    held: Option<Held>,
    provision: P,
    events: mpsc::UnboundedSender<Event>,
    interrupt: CancellationToken,
    folder: &Path,
) -> io::Result<Ended>
where
    P: Fn(mpsc::UnboundedSender<String>) -> F,
    F: Future<Output = Result<Held, ClusterError>> + Send + 'static,
{
    let log = Log::open(folder, case.index, events)?;
    let journal = Journal::create(&folder.join(journal_name(case.index)))?;
    let (sender, messages) = mpsc::unbounded_channel();
    let (progress, progressed) = mpsc::unbounded_channel();
    let Case { index, info, plan, chooser, began, keep, ask, omit } = case;
    let plan = omit.left_of(plan);
    let machine = match omit {
        Omit::InjectionAndProof { .. } => Machine::exhaustive(plan),
        Omit::Nothing | Omit::Injection if ask.is_some() => Machine::new(plan).stepping(),
        Omit::Nothing | Omit::Injection => Machine::new(plan),
    };
    let driver = Driver {
        machine,
        now: began.elapsed(),
        began,
        omit,
        chooser: chooser.map(Arc::new),
        keep: Some(keep),
        kept: false,
        ask,
        objects: folder.join(format!("objects-{index}.yaml")),
        log,
        journal: Arc::new(Mutex::new(journal)),
        sender,
        progress,
        provision,
        provisioning: None,
        held,
        cluster: None,
        work: None,
        observers: BTreeMap::new(),
    };
    Ok(driver.run(info, messages, progressed, interrupt).await)
}

/// What a task tells the loop.
enum Message {
    Input(Input),
    Cluster(Result<Made, ClusterError>),
}

/// A cluster that stands, the way to work with it, and what is known of it.
type Made = Box<(Held, Access, Stands)>;

/// With the moment at which it was told.
type Messages<T> = mpsc::UnboundedReceiver<(Instant, T)>;

struct Driver<P> {
    machine: Machine,
    /// The time of the input that is being handled, since the run began.
    now: Duration,
    began: Instant,
    omit: Omit,
    chooser: Option<Arc<Chooser>>,
    keep: Option<Keep>,
    kept: bool,
    ask: Option<Ask>,
    /// Where the objects concerned go.
    objects: PathBuf,
    log: Log,
    journal: Arc<Mutex<Journal>>,
    sender: mpsc::UnboundedSender<(Instant, Message)>,
    progress: mpsc::UnboundedSender<String>,
    provision: P,
    provisioning: Option<AbortHandle>,
    /// A cluster to be used first.
    held: Option<Held>,
    cluster: Option<Held>,
    work: Option<Work>,
    observers: BTreeMap<usize, AbortOnDropHandle<()>>,
}

impl<P, F> Driver<P>
where
    P: Fn(mpsc::UnboundedSender<String>) -> F,
    F: Future<Output = Result<Held, ClusterError>> + Send + 'static,
{
    async fn run(
        mut self,
        info: CaseInfo,
        mut messages: Messages<Message>,
        mut progress: mpsc::UnboundedReceiver<String>,
        interrupt: CancellationToken,
    ) -> Ended {
        self.log.write(self.now, What::CaseStarted(info));
        let mut interrupted = false;
        loop {
            while let Some(action) = self.machine.next_action() {
                self.carry_out(action);
            }
            if let Some(verdict) = self.machine.verdict() {
                let cluster = self.cluster.take().filter(|_| self.kept);
                return Ended { verdict, cluster };
            }
            let wake = self.machine.wake().map(|at| self.began + at);
            // In this order: what has happened counts before the time that has passed since.
            let (at, input) = tokio::select! {
                biased;
                Some((at, message)) = messages.recv() => match message {
                    Message::Input(input) => (at, input),
                    Message::Cluster(made) => (at, self.provisioned(made)),
                },
                died = next_death(self.cluster.as_mut()) => {
                    let DiedUnasked { process, status, log, restarts } = died;
                    (Instant::now(), Input::DiedUnasked { process, status, restarts, log })
                }
                () = interrupt.cancelled(), if !interrupted => {
                    interrupted = true;
                    (Instant::now(), Input::Interrupted)
                }
                Some(text) = progress.recv() => {
                    self.log.write(self.began.elapsed(), What::Progress { text });
                    continue;
                }
                () = sleep_until(wake) => (Instant::now(), Input::Tick),
            };
            self.now = self.now.max(at.saturating_duration_since(self.began));
            self.machine.handle(self.now, input);
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Emit(what) => self.log.write(self.now, what),
            Action::Provision | Action::Replace => self.provision(),
            Action::AbandonProvision => {
                if let Some(provisioning) = self.provisioning.take() {
                    provisioning.abort();
                }
            }
            Action::Observe(id) => self.observe(id),
            Action::StopObserving(id) => drop(self.observers.remove(&id)),
            Action::Inject(id) => self.inject(id),
            Action::Prove(id) => {
                let unproven = move |why| Input::Unproven(id, why);
                self.with_work(|work| work.prove(id), unproven);
            }
            Action::Revert(id) => {
                let not_reverted = move |why| Input::NotReverted(id, why);
                self.with_work(|work| work.revert(id), not_reverted);
            }
            Action::Ask(next) => self.ask(next),
            Action::Collect => self.collect(),
            Action::Teardown { so_far } => self.tear_down(so_far),
        }
    }

    /// Lets work run to its end in a task of its own, that nothing cancels; its answer, or that it
    /// died, comes as a message.
    fn spawn(
        &self,
        work: impl Future<Output = Message> + Send + 'static,
        died: impl FnOnce(String) -> Input + Send + 'static,
    ) -> AbortHandle {
        let task = tokio::spawn(work);
        let handle = task.abort_handle();
        let sender = self.sender.clone();
        tokio::spawn(async move {
            let message = task.await.unwrap_or_else(|why| Message::Input(died(why.to_string())));
            tell(&sender, message);
        });
        handle
    }

    fn with_work<W>(
        &self,
        work: impl FnOnce(Work) -> W,
        died: impl FnOnce(String) -> Input + Send + 'static,
    ) where
        W: Future<Output = Input> + Send + 'static,
    {
        if let Some(shared) = self.work.clone() {
            let work = work(shared);
            self.spawn(async move { Message::Input(work.await) }, died);
        } else {
            tell(&self.sender, Message::Input(died("there is no cluster".to_owned())));
        }
    }

    /// Takes the cluster that another case has left, or makes one after ending that.
    fn provision(&mut self) {
        let start = Instant::now();
        self.work = None;
        let spent = self.cluster.take();
        let held = self.held.take();
        let fresh = (self.provision)(self.progress.clone());
        let progress = self.progress.clone();
        let (chooser, omit) = (self.chooser.clone(), self.omit);
        let plan = self.machine.plan().clone();
        let making = async move {
            if let Some(spent) = spent {
                end(spent.cluster).await?;
            }
            if let Some(held) = held
                && let Some(held) = as_new(held, &progress).await?
            {
                match settle(&held, chooser.as_deref(), &plan, omit).await {
                    Ok(settled) => return Ok(stands(held, settled, start, true)),
                    Err(error) => replace(held, &error, &progress).await?,
                }
            }
            let held = fresh.await?;
            match settle(&held, chooser.as_deref(), &plan, omit).await {
                Ok(settled) => Ok(stands(held, settled, start, false)),
                Err(error) => Err(match end(held.cluster).await {
                    Ok(()) => error,
                    Err(also) => ClusterError::caused(words(&error), also),
                }),
            }
        };
        let making = async move { Message::Cluster(making.await) };
        self.provisioning = Some(self.spawn(making, Input::ClusterFailed));
    }

    fn provisioned(&mut self, made: Result<Made, ClusterError>) -> Input {
        let (mut held, access, stands) = match made {
            Ok(made) => *made,
            Err(error) => return Input::ClusterFailed(words(&error)),
        };
        held.used = true;
        self.cluster = Some(held);
        self.work = Some(Work {
            plan: Arc::new(stands.plan.clone()),
            access,
            journal: Arc::clone(&self.journal),
            undos: Arc::default(),
            omit: self.omit,
        });
        Input::ClusterReady(Box::new(stands))
    }

    /// Observes in a task of its own until it is told to stop, or the case ends.
    fn observe(&mut self, id: usize) {
        let Some(access) = self.work.as_ref().map(|work| work.access.clone()) else { return };
        let planned = &self.machine.plan().expectations[id];
        let (probe, every) = (planned.probe.clone(), planned.every);
        let (sender, began) = (self.sender.clone(), self.began);
        let observing = async move {
            let sink = |sighting: Sighting| {
                tell(&sender, Message::Input(Input::Seen(id, seen(sighting, began))));
            };
            let Err(error) = probe::watch(&probe, &access, every, &sink).await;
            tell(&sender, Message::Input(Input::ObserverFailed(id, words(&error))));
        };
        self.observers.insert(id, AbortOnDropHandle::new(tokio::spawn(observing)));
    }

    fn inject(&self, id: usize) {
        let sender = self.sender.clone();
        let issued = Box::new(move || tell(&sender, Message::Input(Input::Issued(id))));
        self.with_work(|work| work.inject(id, issued), move |why| Input::Unproven(id, why));
    }

    /// Lets somebody say whether to go on. Nobody to be asked wants it.
    fn ask(&self, next: String) {
        let (Some(ask), Some(held)) = (&self.ask, &self.cluster) else {
            return tell(&self.sender, Message::Input(Input::Replied(Reply::GoOn)));
        };
        let asking = (ask.0)(next, Arc::clone(&held.cluster));
        let asking = async move { Message::Input(Input::Replied(asking.await)) };
        self.spawn(asking, |_| Input::Replied(Reply::Revert));
    }

    /// Writes the objects concerned down, as far as that can be done in time.
    fn collect(&self) {
        let path = self.objects.clone();
        let collecting = |work: Work| async move {
            Input::Collected(objects::collect(&work.access, &work.plan, &path).await)
        };
        self.with_work(collecting, |_| Input::Collected(None));
    }

    fn tear_down(&mut self, so_far: Verdict) {
        self.kept = self.keep.take().is_some_and(|keep| keep(so_far));
        match &self.cluster {
            Some(held) if !self.kept => {
                let ending = tear_down(Arc::clone(&held.cluster));
                let died = |why| Input::TornDown(Err(why));
                self.spawn(async move { Message::Input(ending.await) }, died);
            }
            _ => tell(&self.sender, Message::Input(Input::TornDown(Ok(())))),
        }
    }
}

/// The way to work with a cluster, what is done on it, the nodes that the scenario's names stand for, and
/// what each program was started with.
type Settled = (Access, Plan, Nodes, Vec<(String, Vec<String>)>);

/// What a cluster that stands needs before the case begins.
async fn settle(
    held: &Held,
    chooser: Option<&Chooser>,
    plan: &Plan,
    omit: Omit,
) -> Result<Settled, ClusterError> {
    let access = Access::new(Arc::clone(&held.cluster)).await?;
    let (plan, nodes) = match chooser {
        Some(chooser) => chooser.choose(&access).await?,
        None => (plan.clone(), Nodes::new()),
    };
    let flags = flags::flags(&access).await?;
    Ok((access, omit.left_of(plan), nodes, flags))
}

fn stands(held: Held, settled: Settled, start: Instant, reused: bool) -> Made {
    let (access, plan, nodes, flags) = settled;
    let stands = Stands {
        took: start.elapsed(),
        provenance: held.cluster.provenance(),
        departures: held.cluster.departures(),
        flags,
        reused,
        replaceable: reused && !held.taken,
        logs: held.logs.clone(),
        nodes,
        plan,
    };
    Box::new((held, access, stands))
}

/// The cluster that another case has left, as good as new; nothing if it can't be made so: it was
/// ended then.
async fn as_new(
    mut held: Held,
    progress: &mpsc::UnboundedSender<String>,
) -> Result<Option<Held>, ClusterError> {
    if !held.used {
        return Ok(Some(held));
    }
    let spent = held.spent;
    match Box::pin(held.renew()).await {
        Ok(()) => {
            if spent {
                let text =
                    "the kubelets were started anew, and have forgotten what they backed off from";
                // Whoever listened may be gone.
                let _ = progress.send(text.to_owned());
            }
            Ok(Some(held))
        }
        Err(error) => replace(held, &error, progress).await.map(|()| None),
    }
}

/// Ends a cluster that can't be used again, and says why.
async fn replace(
    held: Held,
    error: &ClusterError,
    progress: &mpsc::UnboundedSender<String>,
) -> Result<(), ClusterError> {
    // Whoever listened may be gone.
    let _ = progress.send(format!("another cluster is made: {}", words(error)));
    end(held.cluster).await
}

/// Tells the loop. If it has ended, nobody waits for it.
fn tell(sender: &mpsc::UnboundedSender<(Instant, Message)>, message: Message) {
    let _ = sender.send((Instant::now(), message));
}

fn seen(sighting: Sighting, began: Instant) -> Seen {
    Seen {
        holds: sighting.observation.holds,
        saw: sighting.observation.saw,
        began: sighting.began.saturating_duration_since(began),
        ended: sighting.ended.saturating_duration_since(began),
        watched: sighting.watched,
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The next death in the cluster; for ever none while there is none, or nobody can tell.
async fn next_death(held: Option<&mut Held>) -> DiedUnasked {
    if let Some(held) = held {
        loop {
            match held.deaths.recv().await {
                Ok(died) => return died,
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => break,
            }
        }
    }
    std::future::pending().await
}
