//! What is waited for just now, and what was last seen of it: for the message when the time is up.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::{Instant, timeout_at};

use super::ClusterError;

/// What several waits at once are for. Copies are of the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Awaited(Arc<Mutex<BTreeMap<String, String>>>);

impl Awaited {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `what` is awaited, and this was last seen of it.
    pub fn saw(&self, what: &str, seen: impl Into<String>) {
        self.lock().insert(what.to_owned(), seen.into());
    }

    /// `what` is there: nobody waits for it any more.
    pub fn came(&self, what: &str) {
        self.lock().remove(what);
    }

    /// What `work` comes to.
    ///
    /// # Errors
    /// Its own, or at the deadline: `late`, what was awaited then, and what was last seen of it.
    pub async fn until<T>(
        &self,
        deadline: Instant,
        late: impl FnOnce() -> String,
        work: impl Future<Output = Result<T, ClusterError>>,
    ) -> Result<T, ClusterError> {
        timeout_at(deadline, work).await.unwrap_or_else(|_| {
            let mut lines = vec![late()];
            let seen = |(what, seen): (&String, &String)| format!("still awaited: {what}: {seen}");
            lines.extend(self.lock().iter().map(seen));
            Err(ClusterError::new(lines.join("\n")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_deadline_tells_what_was_awaited_and_last_seen() {
        let awaited = Awaited::default();
        let work = async {
            awaited.saw("etcd", "refused");
            awaited.saw("nodes", "2 of 3 Ready");
            awaited.saw("nodes", "3 of 3 Ready");
            awaited.came("nodes");
            std::future::pending::<Result<(), ClusterError>>().await
        };
        let late = || "it was not up".to_owned();
        let error = awaited.until(Instant::now(), late, work).await.unwrap_err().to_string();
        assert_eq!(error, "it was not up\nstill awaited: etcd: refused");
    }
}
