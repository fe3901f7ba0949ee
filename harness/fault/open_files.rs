//! A program's process may open nothing more, neither file nor connection, until the revert: whatever
//! it tries says `too many open files`. It keeps what it has open, so those who are connected already
//! go on; the kernel accepts connections for it that it never takes.
//!
//! What else happens: the kubelet's liveness probe of a static pod fails, too, and after 80 to 120 s
//! the kubelet gives the process up, as with a pause. Then the limit is lost, which the proof says.
//! A program whose every caller is connected already seems well; so does one that was asked over a
//! connection that stood. Limits are those of setrlimit(2), `RLIMIT_NOFILE`.

use std::time::Duration;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::process::{ProcessId, alive, checked, running, until};
use super::serving::{self, Reply};
use super::{Issued, Primitive, Proof, all, each, nodes, record, recorded};
use crate::cluster::client::Access;
use crate::cluster::{ClusterError, Command, Node};
use crate::scenario::{NodeRef, TooManyOpenFiles};

/// Until a process with the limit takes no connection.
const EFFECT: Duration = Duration::from_secs(10);

/// Until it answers again; if it was killed in the meantime, until its successor does.
const RETURN: Duration = Duration::from_mins(2);

/// Fewer than standard input, output and error: whatever a process closes, it can't open another.
const NONE: u64 = 3;

/// The limit of the process $1 that it may not exceed, and that it may not raise.
const READ: &str = r#"prlimit --pid "$1" --nofile --noheadings --raw --output SOFT,HARD"#;

/// Sets the first of them to $2.
const SET: &str = r#"prlimit --pid "$1" --nofile="$2":"#;

/// A process and how many files it could open.
#[derive(Debug, Serialize, Deserialize)]
struct Before {
    on: NodeRef,
    process: ProcessId,
    soft: u64,
}

async fn limit_of(node: &dyn Node, process: ProcessId) -> Result<u64, ClusterError> {
    let read = Command::script(READ, [process.pid.to_string()]);
    let said = checked(node, read, "read the limit of open files").await?.text();
    let soft = said.split_whitespace().next().and_then(|soft| soft.parse().ok());
    soft.ok_or_else(|| ClusterError::new(format!("prlimit says `{said}`")))
}

async fn set(before: &Before, soft: u64, access: &Access) -> Result<(), ClusterError> {
    let set = Command::script(SET, [before.process.pid.to_string(), soft.to_string()]);
    let what = "set the limit of open files";
    checked(&**access.node(before.on)?, set, what).await.map(drop)
}

impl TooManyOpenFiles {
    async fn found(&self, on: NodeRef, access: &Access) -> Result<Vec<Before>, ClusterError> {
        let node = access.node(on)?;
        let mut found = vec![];
        for process in alive(&**node, self.component.name()).await? {
            let soft = limit_of(&**node, process).await?;
            if soft <= NONE {
                let (what, pid) = (self.component.name(), process.pid);
                let context = format!("process {pid} of {what} on {on} can open no files already");
                return Err(ClusterError::new(context));
            }
            found.push(Before { on, process, soft });
        }
        Ok(found)
    }

    async fn look(&self, before: &[Before], access: &Access) -> Result<Proof, ClusterError> {
        Ok(all(each(before.iter().map(|before| self.look_at(before, access))).await?))
    }

    async fn look_at(&self, before: &Before, access: &Access) -> Result<Proof, ClusterError> {
        let (what, on, pid) = (self.component.name(), before.on, before.process.pid);
        let node = access.node(on)?;
        if !running(&**node, what).await?.iter().any(|process| process.id == before.process) {
            return Ok(Err(format!("process {pid} of {what} on {on} is gone")));
        }
        let soft = limit_of(&**node, before.process).await?;
        if soft > NONE {
            return Ok(Err(format!("process {pid} of {what} on {on} may open {soft} files")));
        }
        let mut evidence = vec![format!("process {pid} of {what} on {on} may open no files")];
        match serving::ask(self.component, on, access).await? {
            (at, reply @ (Reply::Silent | Reply::Unanswered)) => {
                evidence.push(format!("{at}: {reply}"));
            }
            (at, reply) => return Ok(Err(format!("{at}: {reply}"))),
        }
        // A kubelet that gets no connection to its runtime still answers.
        Ok(serving::beside(self.component, on, access).await?.map(|beside| {
            evidence.push(beside);
            evidence
        }))
    }

    async fn take_back(&self, before: &Before, access: &Access) -> Result<(), ClusterError> {
        let node = access.node(before.on)?;
        let now = running(&**node, self.component.name()).await?;
        if now.iter().any(|process| process.id == before.process) {
            set(before, before.soft, access).await?;
            let soft = limit_of(&**node, before.process).await?;
            if soft != before.soft {
                let context = format!("the limit of open files is {soft}, not {}", before.soft);
                return Err(ClusterError::new(context));
            }
        }
        until(RETURN, || serving::missing(self.component, before.on, access)).await
    }
}

impl Primitive for TooManyOpenFiles {
    fn does(&self) -> String {
        format!("let {} on {} open no more files", self.component.name(), nodes(&self.on))
    }

    fn limit(&self) -> Duration {
        EFFECT + RETURN
    }

    fn before<'a>(
        &'a self,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<serde_json::Value, ClusterError>> {
        Box::pin(async {
            let found = each(self.on.iter().map(|on| self.found(*on, access))).await?;
            record(&found.into_iter().flatten().collect::<Vec<_>>())
        })
    }

    fn inject<'a>(
        &'a self,
        before: &'a serde_json::Value,
        access: &'a Access,
        issued: Issued,
    ) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(async {
            let before: Vec<Before> = recorded(before)?;
            issued();
            each(before.iter().map(|before| set(before, NONE, access))).await?;
            until(EFFECT, || async { Ok(self.look(&before, access).await?.err()) }).await
        })
    }

    fn prove<'a>(
        &'a self,
        before: &'a serde_json::Value,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<Proof, ClusterError>> {
        Box::pin(async {
            let before: Vec<Before> = recorded(before)?;
            self.look(&before, access).await
        })
    }

    fn revert<'a>(
        &'a self,
        before: &'a serde_json::Value,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(async {
            let before: Vec<Before> = recorded(before)?;
            each(before.iter().map(|before| self.take_back(before, access))).await.map(drop)
        })
    }
}
