//! The undo journal: what must be taken back lies on disk, synced, before anything is changed. What a
//! killed run leaves goes with its cluster; the journal says what that was.
//!
//! One JSON object a line: `{"undo":[0,…]}` when something will be changed, `{"done":0}` when it was
//! taken back and that was verified.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Line<T> {
    Undo(usize, T),
    Done(usize),
}

/// The name of a case's journal in the run's folder.
pub(super) fn journal_name(case: usize) -> String {
    format!("undo-{case}.jsonl")
}

/// The case whose journal has this name.
pub(super) fn journal_of(name: &str) -> Option<usize> {
    name.strip_prefix("undo-")?.strip_suffix(".jsonl")?.parse().ok()
}

/// An undo journal that is open for writing.
#[derive(Debug)]
pub struct Journal {
    file: File,
}

impl Journal {
    /// Makes an empty journal, synced together with its folder.
    ///
    /// # Errors
    /// If there is one already (it must be carried out, not overwritten), or the disk's.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create_new(true).open(path)?;
        file.sync_all()?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(Self { file })
    }

    /// Writes down how to take `id` back. When this returns, it is on disk.
    ///
    /// # Errors
    /// The disk's: nothing may be changed then.
    pub fn record<T: Serialize>(&mut self, id: usize, undo: &T) -> io::Result<()> {
        self.write(&Line::Undo(id, undo))
    }

    /// Marks `id` as taken back.
    ///
    /// # Errors
    /// The disk's: `id` stays outstanding then.
    pub fn done(&mut self, id: usize) -> io::Result<()> {
        self.write(&Line::<()>::Done(id))
    }

    fn write<T: Serialize>(&mut self, line: &Line<T>) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        let end = self.file.metadata()?.len();
        if let Err(error) = self.file.write_all(&text) {
            self.file.set_len(end)?; // What follows must not stand on a torn line.
            return Err(error);
        }
        self.file.sync_data()
    }
}

/// What a journal leaves to be taken back, the last first. A torn last line is what a killed writer
/// leaves, and nothing was changed yet on its account.
///
/// # Errors
/// If the journal can't be read, or another line than the last is broken.
pub fn outstanding<T: DeserializeOwned>(path: &Path) -> io::Result<Vec<(usize, T)>> {
    let text = std::fs::read(path)?;
    let mut left: Vec<(usize, T)> = Vec::new();
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        if !line.ends_with(b"\n") {
            break;
        }
        match serde_json::from_slice(line)? {
            Line::Undo(id, undo) => left.push((id, undo)),
            Line::Done(done) => left.retain(|(id, _)| *id != done),
        }
    }
    left.reverse();
    Ok(left)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A folder of the test's own, removed with it.
    struct Folder(std::path::PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("outage-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn journal(&self) -> std::path::PathBuf {
            self.0.join("undo.jsonl")
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn left(path: &Path) -> Vec<(usize, String)> {
        outstanding(path).unwrap()
    }

    #[test]
    fn what_is_not_done_is_left_in_reverse_order() {
        let folder = Folder::new("journal-order");
        let mut journal = Journal::create(&folder.journal()).unwrap();
        for (id, undo) in ["a", "b", "c"].into_iter().enumerate() {
            journal.record(id, &undo).unwrap();
        }
        journal.done(1).unwrap();
        assert_eq!(left(&folder.journal()), [(2, "c".to_owned()), (0, "a".to_owned())]);
    }

    #[test]
    fn a_journal_is_never_overwritten() {
        let folder = Folder::new("journal-twice");
        Journal::create(&folder.journal()).unwrap();
        let again = Journal::create(&folder.journal()).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn a_broken_line_in_the_middle_is_an_error() {
        let folder = Folder::new("journal-broken");
        std::fs::write(folder.journal(), "{\"undo\":[0,\"a\"]}\nrubbish\n{\"done\":0}\n").unwrap();
        assert!(outstanding::<String>(&folder.journal()).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        /// However much of it was written when the writer was killed, every whole line counts.
        #[test]
        fn a_torn_journal_keeps_its_whole_lines(cut in 0..200_usize) {
            let folder = Folder::new(&format!("journal-torn-{cut}"));
            let mut journal = Journal::create(&folder.journal()).unwrap();
            (0..5).for_each(|id| journal.record(id, &"undo\n").unwrap());
            let whole = std::fs::read(folder.journal()).unwrap();
            let kept = &whole[..cut.min(whole.len())];
            std::fs::write(folder.journal(), kept).unwrap();
            let lines = String::from_utf8_lossy(kept).matches('\n').count();
            prop_assert_eq!(left(&folder.journal()).len(), lines);
        }
    }
}
