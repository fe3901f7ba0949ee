//! A component runs with changed flags: its static pod manifest is replaced on one node after
//! another, and the next node's turn comes when the component is back on the one before.
//!
//! Or an apiserver runs with them and is not ready (`starts: unready`): it waits for something that
//! never comes. Its kubelet ends it after minutes, and starts it again.
//!
//! Or it refuses them (`starts: false`): on each node it must then have ended by itself, and not run,
//! before the next node's turn comes. The kubelet starts it again and again, after pauses that
//! double.
//!
//! What else it changes: each node's component is down for the seconds of its restart.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::process::{running, until};
use super::{Issued, Primitive, Proof, all, in_turn, manifest, record, recorded, runtime, serving};
use crate::cluster::client::Access;
use crate::cluster::{ClusterError, Node};
use crate::scenario::{NodeRef, SettingsChange, Starts};

/// How long one node may take: the graceful end of the old process, the start of the new one.
const RESTART: Duration = Duration::from_mins(2);

/// How long an attempt that a component makes with flags that it refuses may last.
const ATTEMPT: Duration = Duration::from_secs(15);

/// What was before on a node. They stand in the order in which they are changed.
#[derive(Debug, Serialize, Deserialize)]
struct Before {
    on: NodeRef,
    /// The manifest.
    manifest: String,
    /// The ids of the component's containers.
    containers: Vec<String>,
}

impl SettingsChange {
    async fn found(&self, access: &Access) -> Result<Vec<Before>, ClusterError> {
        let mut nodes = Vec::new();
        for id in &self.on {
            let node = access.node(*id)?;
            let text = manifest::read(&**node, self.component).await?;
            let edited = manifest::edit(&text, self.component, &self.flags)?;
            let command = |text: &str| manifest::command(text, self.component);
            if command(&text)? == command(&edited)? {
                let what = self.component.name();
                return Err(ClusterError::new(format!("{what} on {id} already runs so")));
            }
            let containers = runtime::containers(&**node, self.component).await?;
            let containers = containers.into_iter().map(|container| container.id).collect();
            nodes.push(Before { on: *id, manifest: text, containers });
        }
        Ok(nodes)
    }

    async fn change(
        &self,
        before: &[Before],
        access: &Access,
        issued: Issued,
    ) -> Result<(), ClusterError> {
        let mut issued = Some(issued);
        for before in before {
            let node = access.node(before.on)?;
            let text = manifest::read(&**node, self.component).await?;
            let edited = manifest::edit(&text, self.component, &self.flags)?;
            if let Some(issued) = issued.take() {
                issued();
            }
            if self.starts == Starts::Ready {
                let placed = self.place(before.on, &edited, access).await;
                placed.map_err(|error| {
                    let hint =
                        "if that is the incident, write `starts: unready` or `starts: false`";
                    ClusterError::caused(hint, error)
                })?;
                continue;
            }
            manifest::replace(&**node, self.component, &edited).await?;
            until(RESTART, || async { Ok(self.look_on(before, access).await?.err()) }).await?;
        }
        Ok(())
    }

    /// Puts the manifest in place if it is not, and waits until the component runs as it says.
    async fn place(&self, id: NodeRef, text: &str, access: &Access) -> Result<(), ClusterError> {
        let node = access.node(id)?;
        if manifest::read(&**node, self.component).await.ok().as_deref() != Some(text) {
            manifest::replace(&**node, self.component, text).await?;
        }
        let wanted = manifest::command(text, self.component)?;
        until(RESTART, || async {
            let processes = running(&**node, self.component.name()).await?;
            if let [process] = &*processes
                && process.argv == wanted
            {
                return serving::unready(self.component, id, access).await;
            }
            let what = self.component.name();
            Ok(Some(format!("{what} on {id} does not run as its manifest says")))
        })
        .await?;
        let found = manifest::read(&**node, self.component).await?;
        if found == text {
            return Ok(());
        }
        let what = self.component.name();
        Err(ClusterError::new(format!("the manifest of {what} on {id} was changed by another")))
    }

    async fn look(&self, before: &[Before], access: &Access) -> Result<Proof, ClusterError> {
        let mut parts = Vec::new();
        for before in before {
            parts.push(self.look_on(before, access).await?);
        }
        Ok(all(parts))
    }

    /// Whether the component makes of the flags what it should.
    async fn look_on(&self, before: &Before, access: &Access) -> Result<Proof, ClusterError> {
        match self.starts {
            Starts::Ready => self.runs(before.on, &**access.node(before.on)?).await,
            Starts::Unready => self.is_unready(before.on, access).await,
            Starts::Not => self.refuses(before, access).await,
        }
    }

    /// Whether the component runs with the flags.
    async fn runs(&self, id: NodeRef, node: &dyn Node) -> Result<Proof, ClusterError> {
        let what = self.component.name();
        let processes = running(node, what).await?;
        let [process] = &*processes else {
            return Ok(Err(format!("{} processes {what} on {id}", processes.len())));
        };
        if let Some(difference) = difference(&process.argv, &self.flags) {
            return Ok(Err(format!("{what} on {id} runs {difference}")));
        }
        Ok(Ok(vec![format!("{what} on {id} runs {}", words(&self.flags))]))
    }

    /// Whether the component runs with the flags, and is not ready.
    async fn is_unready(&self, on: NodeRef, access: &Access) -> Result<Proof, ClusterError> {
        let runs = self.runs(on, &**access.node(on)?).await?;
        let Ok(mut evidence) = runs else { return Ok(runs) };
        match serving::unready(self.component, on, access).await? {
            Some(why) => {
                evidence.push(why);
                Ok(Ok(evidence))
            }
            None => Ok(Err(format!("{} on {on} is ready", self.component.name()))),
        }
    }

    /// Whether the component was started with the flags, ended by itself, and does not run. An
    /// attempt that is under way is waited for.
    async fn refuses(&self, before: &Before, access: &Access) -> Result<Proof, ClusterError> {
        let (what, on) = (self.component.name(), before.on);
        let node = access.node(on)?;
        let command =
            manifest::command(&manifest::read(&**node, self.component).await?, self.component)?;
        if let Some(difference) = difference(&command, &self.flags) {
            return Ok(Err(format!("the manifest of {what} on {on} is {difference}")));
        }
        // While the kubelet makes the next attempt, the one before may be gone already.
        let attempts = AtomicUsize::new(0);
        let looked = until(ATTEMPT, || async {
            if let Some(process) = running(&**node, what).await?.into_iter().next() {
                return Ok(Some(format!("{what} on {on} runs as process {}", process.id.pid)));
            }
            let containers = runtime::containers(&**node, self.component).await?;
            let ended = containers.iter().filter(|one| one.ended);
            let count = ended.filter(|one| !before.containers.contains(&one.id)).count();
            attempts.store(count, Ordering::Relaxed);
            let flags = words(&self.flags);
            Ok((count == 0).then(|| format!("{what} on {on} was not yet started {flags}")))
        });
        if let Err(error) = looked.await {
            return Ok(Err(error.to_string()));
        }
        Ok(Ok(vec![format!(
            "{what} on {on} does not run: started {} it ended by itself, attempts: {}",
            words(&self.flags),
            attempts.into_inner()
        )]))
    }

    async fn restore(&self, before: &[Before], access: &Access) -> Result<(), ClusterError> {
        let mut restored = Ok(());
        // One that can't be put back keeps none of the others.
        for before in before.iter().rev() {
            restored = restored.and(self.place(before.on, &before.manifest, access).await);
        }
        restored
    }
}

/// In which flag a command line differs, in words.
fn difference(argv: &[String], flags: &BTreeMap<String, Vec<String>>) -> Option<String> {
    flags.iter().find_map(|(flag, values)| {
        let found = argv.iter().filter(|argument| manifest::sets(argument, flag)).cloned();
        let found: Vec<_> = found.collect();
        (!manifest::arguments(flag, values).eq(found.iter().cloned())).then(|| said(flag, &found))
    })
}

fn words(flags: &BTreeMap<String, Vec<String>>) -> String {
    let word = |(flag, values): (&String, &Vec<String>)| {
        said(flag, &manifest::arguments(flag, values).collect::<Vec<_>>())
    };
    flags.iter().map(word).collect::<Vec<_>>().join(" and ")
}

/// With which arguments a flag is set, in words.
fn said(flag: &str, arguments: &[String]) -> String {
    match arguments {
        [] => format!("without --{flag}"),
        arguments => format!("with {}", arguments.join(" ")),
    }
}

impl Primitive for SettingsChange {
    fn does(&self) -> String {
        let nodes = self.on.iter().map(ToString::to_string).collect::<Vec<_>>().join(", then ");
        let refuses = match self.starts {
            Starts::Ready => "",
            Starts::Unready => ", with which it is not ready",
            Starts::Not => ", which it refuses",
        };
        format!("run {} on {nodes} {}{refuses}", self.component.name(), words(&self.flags))
    }

    fn limit(&self) -> Duration {
        in_turn(RESTART, &self.on) + RESTART
    }

    /// For the kubelet a changed manifest is another pod: it counts no restart.
    fn spends(&self) -> bool {
        false
    }

    fn before<'a>(
        &'a self,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<serde_json::Value, ClusterError>> {
        Box::pin(async { record(&self.found(access).await?) })
    }

    fn inject<'a>(
        &'a self,
        before: &'a serde_json::Value,
        access: &'a Access,
        issued: Issued,
    ) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(async { self.change(&recorded::<Vec<_>>(before)?, access, issued).await })
    }

    fn prove<'a>(
        &'a self,
        before: &'a serde_json::Value,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<Proof, ClusterError>> {
        Box::pin(async { self.look(&recorded::<Vec<_>>(before)?, access).await })
    }

    fn revert<'a>(
        &'a self,
        before: &'a serde_json::Value,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(async { self.restore(&recorded::<Vec<_>>(before)?, access).await })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_compared_flag_by_flag() {
        let argv = ["kube-apiserver", "--a=1", "--bc=2"].map(Into::into);
        let flags = |pairs: &[(&str, &[&str])]| {
            let values = |of: &[&str]| of.iter().map(ToString::to_string).collect();
            pairs.iter().map(|(flag, of)| ((*flag).to_owned(), values(of))).collect()
        };
        let difference = |pairs| difference(&argv, &flags(pairs));
        assert_eq!(difference(&[("a", &["1"]), ("b", &[])]), None);
        assert_eq!(difference(&[("a", &["2"])]), Some("with --a=1".into()));
        assert_eq!(difference(&[("a", &["1", "2"])]), Some("with --a=1".into()));
        assert_eq!(difference(&[("a", &[])]), Some("with --a=1".into()));
        assert_eq!(difference(&[("b", &["2"])]), Some("without --b".into()));
        let flags = flags(&[("a", &["1", "2"]), ("b", &[])]);
        assert_eq!(words(&flags), "with --a=1 --a=2 and without --b");
    }
}
