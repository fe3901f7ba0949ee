//! The event log: each event goes to whoever listens and, a line each, to the run's folder.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use super::folder::EVENTS;
use crate::event::{Event, What};

/// Where the events of one case go.
#[derive(Debug)]
pub(super) struct Log {
    case: usize,
    file: File,
    listener: UnboundedSender<Event>,
    broken: bool,
}

impl Log {
    /// Appends to `events.jsonl` in the folder; cases that run side by side may share it.
    pub(super) fn open(
        folder: &Path,
        case: usize,
        listener: UnboundedSender<Event>,
    ) -> io::Result<Self> {
        let path = folder.join(EVENTS);
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        Ok(Self { case, file, listener, broken: false })
    }

    /// Writes an event down. A full disk must not keep a run from its reverts: it is said once.
    pub(super) fn write(&mut self, at: Duration, what: What) {
        let event = Event { at, case: self.case, what };
        if let Err(error) = self.append(&event)
            && !std::mem::replace(&mut self.broken, true)
        {
            tracing::error!(%error, "the event log can't be written; events are missing from it");
        }
        // A listener that is gone does not end a run.
        let _ = self.listener.send(event);
    }

    /// One write a line, so that lines of several cases don't mix.
    fn append(&mut self, event: &Event) -> io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        self.file.write_all(&line)
    }
}
