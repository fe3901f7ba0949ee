//! What is being done to get the assets, as events, and how a person sees them.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// One thing that happened while assets were looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Something that takes time began.
    Started {
        /// Which task; later events name it.
        task: u64,
        /// What is being done, such as `kubernetes 1.34.4: building 7 commands with go1.26.8`.
        what: String,
    },
    /// A transfer advanced.
    Bytes {
        /// Which task.
        task: u64,
        /// Bytes so far.
        done: u64,
        /// Bytes in all, as far as is known.
        total: u64,
    },
    /// A task came to its next step.
    Step {
        /// Which task.
        task: u64,
        /// The step.
        text: String,
    },
    /// A task ended.
    Finished {
        /// Which task.
        task: u64,
        /// From its start to its end.
        took: Duration,
        /// `false` when it failed or was given up.
        done: bool,
    },
    /// Something that a person should know, such as a source that is passed over.
    Notice(String),
    /// Something that is wrong, such as a checksum that does not fit.
    Warning(String),
}

/// Where events go. Clones report to the same place.
#[derive(Debug, Clone)]
pub struct Progress {
    events: Option<UnboundedSender<Event>>,
    next: Arc<AtomicU64>,
}

impl Progress {
    /// Nobody looks.
    pub fn silent() -> Self {
        Self { events: None, next: Arc::default() }
    }

    /// The events can be received. The channel ends when the last clone is dropped.
    pub fn channel() -> (Self, UnboundedReceiver<Event>) {
        let (sender, receiver) = unbounded_channel();
        let progress = Self { events: Some(sender), next: Arc::default() };
        (progress, receiver)
    }

    /// Begins something that takes time.
    pub fn task(&self, what: impl Into<String>) -> Task {
        let task = self.next.fetch_add(1, Ordering::Relaxed);
        self.send(Event::Started { task, what: what.into() });
        Task { progress: self.clone(), number: task, began: Instant::now(), done: false }
    }

    /// Says something that a person should know.
    pub fn notice(&self, text: impl Into<String>) {
        self.send(Event::Notice(text.into()));
    }

    /// Says that something is wrong.
    pub fn warning(&self, text: impl Into<String>) {
        self.send(Event::Warning(text.into()));
    }

    fn send(&self, event: Event) {
        if let Some(events) = &self.events {
            // A receiver that has gone away does not matter to the work.
            let _ = events.send(event);
        }
    }
}

/// Something that takes time. Dropped without [`Task::finish`], it counts as failed.
#[derive(Debug)]
pub struct Task {
    progress: Progress,
    number: u64,
    began: Instant,
    done: bool,
}

impl Task {
    /// Says how far a transfer is.
    pub fn bytes(&self, done: u64, total: u64) {
        self.progress.send(Event::Bytes { task: self.number, done, total });
    }

    /// Says which step is being done.
    pub fn step(&self, text: impl Into<String>) {
        self.progress.send(Event::Step { task: self.number, text: text.into() });
    }

    /// Ends it well.
    pub fn finish(mut self) {
        self.done = true;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.progress.send(Event::Finished {
            task: self.number,
            took: self.began.elapsed(),
            done: self.done,
        });
    }
}

/// Shows events on standard error until the channel ends: bars on a terminal, else lines.
pub async fn show(mut events: UnboundedReceiver<Event>) {
    let mut bars = Bars::default();
    let mut lines = Lines::default();
    let terminal = std::io::stderr().is_terminal();
    while let Some(event) = events.recv().await {
        if terminal {
            bars.show(&event);
        } else if let Some(line) = lines.line(&event, Instant::now()) {
            // Standard error may have been closed; the work goes on.
            let _ = writeln!(std::io::stderr(), "assets: {line}");
        }
    }
}

#[derive(Default)]
struct Bars {
    all: MultiProgress,
    tasks: HashMap<u64, (ProgressBar, String)>,
}

impl Bars {
    fn show(&mut self, event: &Event) {
        match event {
            Event::Started { task, what } => {
                let bar = self.all.add(ProgressBar::new_spinner());
                bar.set_message(what.clone());
                bar.enable_steady_tick(Duration::from_millis(120));
                self.tasks.insert(*task, (bar, what.clone()));
            }
            Event::Bytes { task, done, total } => {
                if let Some((bar, _)) = self.tasks.get(task) {
                    if bar.length().is_none() {
                        bar.set_style(transfer_style());
                    }
                    bar.set_length(*total);
                    bar.set_position(*done);
                }
            }
            Event::Step { task, text } => {
                if let Some((bar, what)) = self.tasks.get(task) {
                    bar.set_message(format!("{what}: {text}"));
                }
            }
            Event::Finished { task, took, done } => {
                if let Some((bar, what)) = self.tasks.remove(task) {
                    bar.finish_and_clear();
                    self.print(&ended(&what, *took, *done));
                }
            }
            Event::Notice(text) => self.print(text),
            Event::Warning(text) => self.print(&format!("warning: {text}")),
        }
    }

    fn print(&self, line: &str) {
        // A terminal that has gone away does not matter to the work.
        let _ = self.all.println(format!("assets: {line}"));
    }
}

fn transfer_style() -> ProgressStyle {
    ProgressStyle::with_template(
        "{spinner} {msg} {bar:24} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}",
    )
    .unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn ended(what: &str, took: Duration, done: bool) -> String {
    let outcome = if done { "done in" } else { "given up after" };
    format!("{what}: {outcome} {:.1} s", took.as_secs_f64())
}

/// How long a task that only advances is silent in a log.
const QUIET: Duration = Duration::from_secs(15);

#[derive(Default)]
struct Lines {
    tasks: HashMap<u64, (String, Instant)>,
}

impl Lines {
    fn line(&mut self, event: &Event, now: Instant) -> Option<String> {
        match event {
            Event::Started { task, what } => {
                self.tasks.insert(*task, (what.clone(), now));
                Some(format!("{what} ..."))
            }
            Event::Bytes { task, done, total } => {
                self.advanced(*task, now, || format!("{} of {} MiB", done >> 20, total >> 20))
            }
            Event::Step { task, text } => self.advanced(*task, now, || text.clone()),
            Event::Finished { task, took, done } => {
                let (what, _) = self.tasks.remove(task)?;
                Some(ended(&what, *took, *done))
            }
            Event::Notice(text) => Some(text.clone()),
            Event::Warning(text) => Some(format!("warning: {text}")),
        }
    }

    fn advanced(&mut self, task: u64, now: Instant, text: impl Fn() -> String) -> Option<String> {
        let (what, last) = self.tasks.get_mut(&task)?;
        if now.duration_since(*last) < QUIET {
            return None;
        }
        *last = now;
        Some(format!("{what}: {}", text()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_has_the_start_the_end_and_a_sign_of_life_in_between() {
        let mut lines = Lines::default();
        let start = Instant::now();
        let started = Event::Started { task: 0, what: "etcd 3.6.5: building".into() };
        let step = Event::Step { task: 0, text: "net/http".into() };
        let finished = Event::Finished { task: 0, took: Duration::from_secs(95), done: true };
        let mut at = |event, seconds| lines.line(event, start + Duration::from_secs(seconds));
        assert_eq!(at(&started, 0).as_deref(), Some("etcd 3.6.5: building ..."));
        assert_eq!(at(&step, 1), None);
        assert_eq!(at(&step, 16).as_deref(), Some("etcd 3.6.5: building: net/http"));
        assert_eq!(at(&step, 17), None);
        assert_eq!(at(&finished, 95).as_deref(), Some("etcd 3.6.5: building: done in 95.0 s"));
    }

    #[test]
    fn a_task_that_is_dropped_counts_as_given_up() {
        let (progress, mut events) = Progress::channel();
        drop(progress.task("x"));
        progress.task("y").finish();
        let mut ends = Vec::new();
        while let Ok(event) = events.try_recv() {
            if let Event::Finished { done, .. } = event {
                ends.push(done);
            }
        }
        assert_eq!(ends, [false, true]);
    }
}
