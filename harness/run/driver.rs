//! Carries out what the state machine wants. One select loop puts everything that happens in a
//! row: answers of the work, observations, deaths, the user's interrupt, time.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::journal::Journal;
use super::log::Log;
use super::machine::Machine;
use super::plan::Plan;
use super::step::{Action, Input};
use super::tracker::Seen;
use super::work::{Omit, Work, tear_down};
use crate::cluster::client::{Access, words};
use crate::cluster::{Cluster, ClusterError, DiedUnasked};
use crate::event::{CaseInfo, Event, Verdict, What};
use crate::probe::{self, Sighting};

/// One case of a run: a variant of a scenario, once.
#[derive(Debug)]
pub struct Case {
    /// Its index among the cases of the run.
    pub index: usize,
    /// What it is, for reports.
    pub info: CaseInfo,
    /// What it does.
    pub plan: Plan,
    /// When the run began: the zero of all its events' times.
    pub began: Instant,
    /// Whether the cluster is left standing at the end.
    pub keep: bool,
    /// For tests alone: what is left out.
    pub omit: Omit,
}

/// What a case came to.
#[derive(Debug)]
pub struct Ended {
    /// Its verdict.
    pub verdict: Verdict,
    /// The cluster, if it was to be kept.
    pub cluster: Option<Arc<dyn Cluster>>,
}

/// Runs a case to its end. `provision` makes the cluster, and says how far it is through the
/// sender; events go to `events` and to `events.jsonl` in `folder`, the undo journal is
/// `undo-INDEX.jsonl` there. Cancelling `interrupt` ends the case early: what is in place is taken
/// back first.
///
/// Await it to the end: dropping the future leaves reverts undone (the journal says which).
///
/// # Errors
/// If the log or the journal can't be made in `folder`; nothing was begun then.
pub async fn run_case<F>(
    case: Case,
    provision: impl FnOnce(mpsc::UnboundedSender<String>) -> F,
    events: mpsc::UnboundedSender<Event>,
    interrupt: CancellationToken,
    folder: &Path,
) -> io::Result<Ended>
where
    F: Future<Output = Result<Arc<dyn Cluster>, ClusterError>> + Send + 'static,
{
    let log = Log::open(folder, case.index, events)?;
    let journal = Journal::create(&folder.join(format!("undo-{}.jsonl", case.index)))?;
    let (sender, messages) = mpsc::unbounded_channel();
    let (progress, progressed) = mpsc::unbounded_channel();
    let driver = Driver {
        machine: Machine::new(case.plan.clone()),
        now: case.began.elapsed(),
        case,
        log,
        journal: Arc::new(Mutex::new(journal)),
        sender,
        provision: Some(provision(progress)),
        provisioning: None,
        cluster: None,
        work: None,
        observers: BTreeMap::new(),
    };
    Ok(driver.run(messages, progressed, interrupt).await)
}

/// What a task tells the loop.
enum Message {
    Input(Input),
    Cluster { took: Duration, made: Result<Made, ClusterError> },
}

/// A cluster that stands, and the way to work with it.
type Made = Box<(Arc<dyn Cluster>, Access)>;

/// With the moment at which it was told.
type Messages<T> = mpsc::UnboundedReceiver<(Instant, T)>;

struct Driver<F> {
    machine: Machine,
    /// The time of the input that is being handled, since the run began.
    now: Duration,
    case: Case,
    log: Log,
    journal: Arc<Mutex<Journal>>,
    sender: mpsc::UnboundedSender<(Instant, Message)>,
    provision: Option<F>,
    provisioning: Option<AbortHandle>,
    cluster: Option<Arc<dyn Cluster>>,
    work: Option<Work>,
    observers: BTreeMap<usize, AbortOnDropHandle<()>>,
}

impl<F> Driver<F>
where
    F: Future<Output = Result<Arc<dyn Cluster>, ClusterError>> + Send + 'static,
{
    async fn run(
        mut self,
        mut messages: Messages<Message>,
        mut progress: mpsc::UnboundedReceiver<String>,
        interrupt: CancellationToken,
    ) -> Ended {
        self.log.write(self.now, What::CaseStarted(self.case.info.clone()));
        let mut deaths = None;
        let mut interrupted = false;
        loop {
            while let Some(action) = self.machine.next_action() {
                self.carry_out(action);
            }
            if let Some(verdict) = self.machine.verdict() {
                let cluster = self.cluster.take().filter(|_| self.case.keep);
                return Ended { verdict, cluster };
            }
            let wake = self.machine.wake().map(|at| self.case.began + at);
            // In this order: what has happened counts before the time that has passed since.
            let (at, input) = tokio::select! {
                biased;
                Some((at, message)) = messages.recv() => match message {
                    Message::Input(input) => (at, input),
                    Message::Cluster { took, made } => {
                        (at, self.provisioned(took, made, &mut deaths))
                    }
                },
                died = next_death(&mut deaths) => {
                    let DiedUnasked { process, status, log } = died;
                    (Instant::now(), Input::DiedUnasked { process, status, log })
                }
                () = interrupt.cancelled(), if !interrupted => {
                    interrupted = true;
                    (Instant::now(), Input::Interrupted)
                }
                Some(text) = progress.recv() => {
                    self.log.write(self.case.began.elapsed(), What::Progress { text });
                    continue;
                }
                () = sleep_until(wake) => (Instant::now(), Input::Tick),
            };
            self.now = self.now.max(at.saturating_duration_since(self.case.began));
            self.machine.handle(self.now, input);
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Emit(what) => self.log.write(self.now, what),
            Action::Provision => self.provision(),
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
            Action::Teardown => self.tear_down(),
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

    fn provision(&mut self) {
        let Some(provision) = self.provision.take() else { return };
        let start = Instant::now();
        let making = async move {
            let made = async {
                let cluster = provision.await?;
                match Access::new(Arc::clone(&cluster)).await {
                    Ok(access) => Ok(Box::new((cluster, access))),
                    Err(error) => {
                        cluster.delete().await?;
                        Err(error)
                    }
                }
            };
            Message::Cluster { made: made.await, took: start.elapsed() }
        };
        self.provisioning = Some(self.spawn(making, Input::ClusterFailed));
    }

    fn provisioned(
        &mut self,
        took: Duration,
        made: Result<Made, ClusterError>,
        deaths: &mut Option<broadcast::Receiver<DiedUnasked>>,
    ) -> Input {
        let (cluster, access) = match made {
            Ok(made) => *made,
            Err(error) => return Input::ClusterFailed(words(&error)),
        };
        *deaths = Some(cluster.deaths());
        let (provenance, departures) = (cluster.provenance(), cluster.departures());
        self.cluster = Some(cluster);
        self.work = Some(Work {
            plan: Arc::new(self.case.plan.clone()),
            access,
            journal: Arc::clone(&self.journal),
            undos: Arc::default(),
            omit: self.case.omit,
        });
        Input::ClusterReady { took, provenance, departures }
    }

    /// Observes in a task of its own until it is told to stop, or the case ends.
    fn observe(&mut self, id: usize) {
        let Some(access) = self.work.as_ref().map(|work| work.access.clone()) else { return };
        let planned = &self.case.plan.expectations[id];
        let (probe, every) = (planned.probe.clone(), planned.every);
        let (sender, began) = (self.sender.clone(), self.case.began);
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

    fn tear_down(&self) {
        match &self.cluster {
            Some(cluster) if !self.case.keep => {
                let ending = tear_down(Arc::clone(cluster));
                let died = |why| Input::TornDown(Err(why));
                self.spawn(async move { Message::Input(ending.await) }, died);
            }
            _ => tell(&self.sender, Message::Input(Input::TornDown(Ok(())))),
        }
    }
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

/// The next death; for ever none once nobody can tell of any.
async fn next_death(deaths: &mut Option<broadcast::Receiver<DiedUnasked>>) -> DiedUnasked {
    while let Some(receiver) = deaths {
        match receiver.recv().await {
            Ok(died) => return died,
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => *deaths = None,
        }
    }
    std::future::pending().await
}
