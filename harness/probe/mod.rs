//! Probes: one file an observation. A probe that fails to get an answer has seen something: an API
//! error is data. Only the harness's own failures are errors.
//!
//! In each file the condition is a pure function of what was seen, apart from the seeing.

mod command;
mod condition;
mod connect;
mod endpoints;
mod etcd;
mod event;
mod health;
mod kind;
mod kubectl;
mod lease;
mod log;
mod metric;
mod object;
mod request;
mod said;
mod tally;
mod target;
mod writes;
mod written;

use std::convert::Infallible;
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use futures::{Stream, StreamExt};
use regex::Regex;
use tokio::time::Instant;

use crate::cluster::client::Access;
use crate::cluster::{ClusterError, Node};
use crate::scenario::{ConditionSide, LeaseSide, MetricSide, Probe};

/// What a probe saw, and whether it was what the probe wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// Whether the condition holds.
    pub holds: bool,
    /// What was seen, in words.
    pub saw: String,
}

impl Observation {
    /// Nothing was learned that could meet a condition: the reason is what was seen.
    fn nothing(saw: impl Into<String>) -> Self {
        Self { holds: false, saw: saw.into() }
    }
}

/// An observation with its time on the monotonic clock.
#[derive(Debug, Clone)]
pub struct Sighting {
    /// When it began.
    pub began: Instant,
    /// When its result was known.
    pub ended: Instant,
    /// Whether it was told as it happened (a watch), so that its resolution is not the time since
    /// the observation before.
    pub watched: bool,
    /// The observation.
    pub observation: Observation,
}

/// Takes each sighting as it comes.
pub type Sink<'a> = &'a (dyn Fn(Sighting) + Send + Sync);

/// What a probe can do.
trait Look: Sync {
    /// What it wants to see, in words.
    fn wanted(&self) -> String;

    /// The objects that it looks at, for whoever looks into a failure.
    fn concerned(&self) -> Vec<Concerned> {
        vec![]
    }

    /// Observes, at once and then again and again, until the future is dropped; `every` is the
    /// time from the end of one observation to the start of the next.
    fn watch<'a>(
        &'a self,
        access: &'a Access,
        every: Duration,
        sink: Sink<'a>,
    ) -> BoxFuture<'a, Result<Infallible, ClusterError>>;
}

fn look(probe: &Probe) -> &dyn Look {
    match probe {
        Probe::Health(health) => health,
        Probe::Endpoints(endpoints) => endpoints,
        Probe::Connect(connect) => connect,
        Probe::Request(request) => request,
        Probe::Condition(condition) => condition,
        Probe::Object(object) => object,
        Probe::Lease(lease) => lease,
        Probe::Event(event) => event,
        Probe::Log(line) => line,
        Probe::Metric(metric) => metric,
        Probe::Etcd(etcd) => etcd,
        Probe::Kubectl(kubectl) => kubectl,
        Probe::Command(command) => command,
        Probe::Writes(writes) => writes,
        Probe::Written(written) => written,
    }
}

/// Objects that say more about what a probe saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concerned {
    /// Their `apiVersion`.
    pub api_version: String,
    /// Their kind.
    pub kind: String,
    /// Their namespace; nothing: every namespace, or a kind without.
    pub namespace: Option<String>,
    /// The one object's name; nothing: all of them.
    pub name: Option<String>,
}

impl std::fmt::Display for Concerned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.kind)?;
        match (&self.namespace, &self.name) {
            (Some(namespace), Some(name)) => write!(f, " {namespace}/{name}"),
            (None, Some(name)) => write!(f, " {name}"),
            (Some(namespace), None) => write!(f, "s in {namespace}"),
            (None, None) => f.write_str("s"),
        }
    }
}

/// The objects that the probe looks at.
pub fn concerned(probe: &Probe) -> Vec<Concerned> {
    look(probe).concerned()
}

/// What the probe wants to see, in words; for a share, with the interval and the sample size.
pub fn wanted(probe: &Probe) -> String {
    look(probe).wanted()
}

/// Whether each observation stands for itself, so that who needs none before a certain time need not
/// begin earlier: others watch from an event on, or are the load that they judge.
pub fn stands_alone(probe: &Probe) -> bool {
    matches!(probe, Probe::Health(_) | Probe::Connect(_) | Probe::Request(_))
}

/// Whether the probe tells what is new since its first look, so that this look alone says nothing of
/// what happens all the time.
pub fn counts(probe: &Probe) -> bool {
    match probe {
        Probe::Log(line) => !line.absent,
        Probe::Event(event) => !event.absent,
        Probe::Metric(metric) => matches!(metric.side, MetricSide::Increase),
        Probe::Condition(condition) => matches!(condition.is, ConditionSide::Changes(_)),
        Probe::Lease(lease) => matches!(lease.is, LeaseSide::Changes(_)),
        _ => false,
    }
}

/// Whether each observation tells only what is new since the one before: what one saw, no other sees
/// again.
pub fn tells_news(probe: &Probe) -> bool {
    matches!(probe, Probe::Log(_) | Probe::Event(_))
}

/// Observes, at once and then again and again, until the future is dropped. `every` is the time
/// from the end of one observation to the start of the next; what can be watched is, and is read
/// again at `every` while no watch stands, and each second beside one that does.
///
/// # Errors
/// Only the harness's own: what Kubernetes and the network answer is an observation.
pub async fn watch(
    probe: &Probe,
    access: &Access,
    every: Duration,
    sink: Sink<'_>,
) -> Result<Infallible, ClusterError> {
    look(probe).watch(access, every, sink).await
}

/// Observes by asking again and again.
async fn poll<F, Fut>(
    every: Duration,
    sink: Sink<'_>,
    mut observe: F,
) -> Result<Infallible, ClusterError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Observation, ClusterError>>,
{
    loop {
        let began = Instant::now();
        let observation = observe().await?;
        sink(Sighting { began, ended: Instant::now(), watched: false, observation });
        tokio::time::sleep(every).await;
    }
}

/// Why nothing can be seen from a node: it is off, or stands still.
fn away(node: &dyn Node) -> Option<String> {
    if !node.powered() {
        Some(format!("{} is off", node.id()))
    } else if node.frozen() {
        Some(format!("{} stands still", node.id()))
    } else {
        None
    }
}

/// Observes from a node by asking again and again; while it is off or stands still, nothing is seen.
async fn poll_from<F, Fut>(
    node: &dyn Node,
    every: Duration,
    sink: Sink<'_>,
    observe: F,
) -> Result<Infallible, ClusterError>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<Observation, ClusterError>>,
{
    let observe = &observe;
    let looking = || async move {
        if let Some(why) = away(node) {
            return Ok(Observation::nothing(why));
        }
        let found = observe().await;
        match away(node) {
            Some(why) if found.is_err() => Ok(Observation::nothing(why)),
            _ => found,
        }
    };
    poll(every, sink, looking).await
}

/// Begins something so many times, at this pace, whether or not what was begun before has ended; what came
/// of each.
async fn paced<T, Fut>(
    pace: Duration,
    count: u32,
    begin: impl Fn() -> Fut,
) -> Result<Vec<T>, ClusterError>
where
    Fut: Future<Output = Result<T, ClusterError>>,
{
    let begin = &begin;
    let at = |index: u32| async move {
        tokio::time::sleep(pace * index).await;
        begin().await
    };
    join_all((0..count).map(at)).await.into_iter().collect()
}

/// How often what is watched is read anew.
const BESIDE_WATCH: Duration = Duration::from_secs(1);

/// Observes by watching: each change is seen as it comes. Everything is read anew each second, so
/// that a watch that has silently died is not taken for a state that stays, and at `every` where it
/// could not be read or the watch is broken. A change does not wait for a reading that is under way,
/// which may be slow; that is begun again then, as it may be older than the change.
async fn listen<S, C, E, Fut>(
    every: Duration,
    sink: Sink<'_>,
    mut read: impl FnMut() -> Fut,
    changes: impl Stream<Item = Result<C, E>>,
    apply: impl Fn(&mut S, C) -> bool,
    judge: impl Fn(&S) -> Observation,
) -> Result<Infallible, ClusterError>
where
    Fut: Future<Output = Result<S, String>>,
{
    let mut changes = std::pin::pin!(changes.fuse());
    let mut state: Option<S> = None;
    let mut watching = false;
    // Whether the change is news, and if so, what is known now.
    let take = |state: &mut Option<S>, watching: &mut bool, change: Result<C, E>| {
        let now = Instant::now();
        *watching = change.is_ok();
        let Ok(change) = change else { return false };
        let Some(state) = state else { return true };
        let news = apply(state, change);
        if news {
            let observation = judge(state);
            sink(Sighting { began: now, ended: now, watched: true, observation });
        }
        news
    };
    loop {
        let (began, found) = 'reading: loop {
            let began = Instant::now();
            let mut reading = std::pin::pin!(read());
            loop {
                tokio::select! {
                    biased;
                    found = &mut reading => break 'reading (began, found),
                    Some(change) = changes.next() => {
                        if take(&mut state, &mut watching, change) {
                            break;
                        }
                    }
                }
            }
        };
        let observation = match &found {
            Ok(state) => judge(state),
            Err(why) => Observation::nothing(why),
        };
        let ended = Instant::now();
        sink(Sighting { began, ended, watched: false, observation });
        state = found.ok();
        loop {
            let pause = if watching && state.is_some() { every.max(BESIDE_WATCH) } else { every };
            tokio::select! {
                () = tokio::time::sleep_until(ended + pause) => break,
                Some(change) = changes.next() => {
                    take(&mut state, &mut watching, change);
                }
            }
        }
    }
}

/// How old an object is, as far as that can be told: etcd's revision at its last change.
/// <https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions>
fn revision(metadata: &kube::api::ObjectMeta) -> u64 {
    metadata.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Takes a change of one object in, unless something newer is known; whether anything changed. A deletion
/// carries no revision: should it be an older one, the next reading corrects it.
fn newer<K: kube::Resource>(state: &mut Option<K>, change: Option<K>) -> bool {
    let at = |object: &Option<K>| object.as_ref().map(|object| revision(object.meta()));
    let newer = match (at(state), at(&change)) {
        (Some(known), Some(new)) => new > known,
        (known, new) => known.is_some() != new.is_some(),
    };
    if newer {
        *state = change;
    }
    newer
}

/// How often something has changed.
#[derive(Debug, Default)]
struct Changes {
    last: Option<String>,
    count: u32,
}

impl Changes {
    fn see(&mut self, now: &str) {
        if self.last.replace(now.to_owned()).is_some_and(|last| last != now) {
            self.count += 1;
        }
    }
}

/// How long a read of the API may take.
const READ: Duration = Duration::from_secs(5);

/// One read of the API, bounded, its failure in words.
async fn read<T>(reading: impl Future<Output = kube::Result<T>>) -> Result<T, String> {
    match tokio::time::timeout(READ, reading).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(crate::cluster::client::words(&error)),
        Err(_) => Err(format!("no answer in {READ:?}")),
    }
}

/// A regular expression that a scenario's reading has checked.
fn pattern(text: &str) -> Result<Regex, ClusterError> {
    Regex::new(text).map_err(|e| ClusterError::caused(format!("the pattern {text}"), e))
}

/// A text's beginning, on one line.
fn brief(text: &str) -> String {
    const LONGEST: usize = 200;
    let line = text.trim().lines().next().unwrap_or_default();
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn number(value: u32) -> Observation {
        Observation { holds: value > 1, saw: value.to_string() }
    }

    /// What is seen within 2.5 s of watching at a period of 0.3 s: when, whether by the watch, what.
    async fn seen(
        changes: impl IntoIterator<Item = Result<u32, ()>>,
        mut reads: Vec<Result<u32, String>>,
    ) -> Vec<(u128, bool, String)> {
        let (all, start) = (Mutex::new(Vec::new()), Instant::now());
        let sink = |s: Sighting| {
            all.lock().unwrap().push(((s.ended - start).as_millis(), s.watched, s.observation.saw));
        };
        let changes = futures::stream::iter(changes).chain(futures::stream::pending());
        let listening = listen(
            Duration::from_millis(300),
            &sink,
            || std::future::ready(reads.pop().unwrap_or(Ok(9))),
            changes,
            |state, change| std::mem::replace(state, change) != change,
            |state| number(*state),
        );
        let _ = tokio::time::timeout(Duration::from_millis(2500), listening).await;
        all.into_inner().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn changes_are_seen_as_they_come_and_everything_is_read_again() {
        let reads = vec![Ok(7), Err("gone".to_owned()), Ok(1)];
        let expected = [
            (0, false, "1"),
            (0, true, "2"),
            (0, true, "3"),
            (1000, false, "gone"),
            (1300, false, "7"),
            (2300, false, "9"),
        ];
        let expected = expected.map(|(at, watched, saw)| (at, watched, saw.to_owned()));
        assert_eq!(seen([Ok(2), Ok(2), Ok(3)], reads).await, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_watch_the_period_is_kept() {
        let times = |seen: Vec<(u128, bool, String)>| seen.iter().map(|s| s.0).collect::<Vec<_>>();
        let every = [0, 300, 600, 900, 1200, 1500, 1800, 2100, 2400];
        assert_eq!(times(seen([], vec![]).await), every);
        assert_eq!(times(seen([Ok(9), Err(())], vec![]).await), every);
        assert_eq!(times(seen([Err(()), Ok(9)], vec![]).await), [0, 1000, 2000]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_does_not_wait_for_a_slow_reading_and_is_not_undone_by_it() {
        let seen = Mutex::new(Vec::new());
        let start = Instant::now();
        let sink = |s: Sighting| {
            let at = (s.ended - start).as_millis();
            seen.lock().unwrap().push((at, s.watched, s.observation.saw));
        };
        let mut reads = vec![(3, 0), (1, 2000), (1, 0)];
        let read = || {
            let (value, takes) = reads.pop().unwrap_or((3, 0));
            async move {
                tokio::time::sleep(Duration::from_millis(takes)).await;
                Ok(value)
            }
        };
        // It comes while the second reading is under way, which began before and tells what was.
        let changes = Box::pin(futures::stream::once(async {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            Ok::<u32, ()>(3)
        }));
        let changes = changes.chain(futures::stream::pending());
        let apply = |state: &mut u32, change| std::mem::replace(state, change) != change;
        let listening =
            listen(Duration::from_secs(1), &sink, read, changes, apply, |state| number(*state));
        let _ = tokio::time::timeout(Duration::from_millis(2200), listening).await;
        let expected = [(0, false, "1"), (1500, true, "3"), (1500, false, "3")];
        assert_eq!(*seen.lock().unwrap(), expected.map(|(at, w, s)| (at, w, s.to_owned())));
    }

    #[tokio::test(start_paused = true)]
    async fn polling_keeps_its_period() {
        let seen = Mutex::new(Vec::new());
        let start = Instant::now();
        let sink = |s: Sighting| seen.lock().unwrap().push((s.began - start).as_secs());
        let polling = poll(Duration::from_secs(2), &sink, || std::future::ready(Ok(number(1))));
        let _ = tokio::time::timeout(Duration::from_secs(5), polling).await;
        assert_eq!(*seen.lock().unwrap(), [0, 2, 4]);
    }
}
