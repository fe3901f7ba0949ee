//! The name that the kubelet wants to give to a component's next container is taken, so the runtime
//! refuses to create it: `failed to reserve container name`.
//!
//! A container is called after its pod and its attempt. The kubelet numbers the next attempt after
//! the newest one that the runtime lists, by its time of creation
//! (<https://github.com/kubernetes/kubernetes/blob/v1.34.4/pkg/kubelet/kuberuntime/kuberuntime_container.go>,
//! `startContainer`, `getPodContainerStatuses`).
//!
//! By `runningAttempt`: the clock seems to have stepped back. The component is restarted once, so
//! that an attempt that has ended and a running one are there; then, while kubelet and containerd
//! are down, the ended one is dated an hour later than the running one in containerd's record. The
//! kubelet takes the ended one for the newest, and wants to start what runs already. The component
//! goes on serving.
//!
//! By `strayContainer`: a container of another pod is created, and never started, under the name of
//! the next attempt; then the running attempt is stopped. It carries the labels of another static
//! pod, else the kubelet would remove it or count it among the component's own. The component stays
//! down.
//!
//! Both are taken back as in the reports: the container is removed. A component that was down comes
//! back when the kubelet tries again, after pauses that double. What else it changes: the
//! component is restarted once before, or by, the injection; after it, one attempt more was made.

use std::time::Duration;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::process::{checked, running, until};
use super::runtime::{self, Container, RUNTIME};
use super::{Issued, Primitive, Proof, record, recorded, serving};
use crate::cluster::client::{Access, Answer};
use crate::cluster::{ClusterError, Command, Service};
use crate::scenario::{Component, ContainerNameTaken, NameHolder};

/// How long a component may take from SIGTERM to its end before the runtime kills it, in seconds.
const GRACE: &str = "5";

/// How long a component may take to be back. The kubelet tries again when 10, 20, 40, 80, 160 and
/// 300 s have passed since the end of the last attempt (`doBackOff` in
/// <https://github.com/kubernetes/kubernetes/blob/v1.34.4/pkg/kubelet/kuberuntime/kuberuntime_manager.go>),
/// then every 10 to 15 s; then the component starts.
const RETURN: Duration = Duration::from_mins(4);

/// How long the kubelet may take to try in vain: it looks at each pod at least once a minute.
const REFUSAL: Duration = Duration::from_secs(75);

/// How much later the ended attempt is dated, in nanoseconds: an hour. With less than ten minutes
/// the kubelet would take it for one that ended just now, and pause as after a crash.
const STEP: i64 = 3_600_000_000_000;

/// Marks the stray container.
const MARK: (&str, &str) = ("outage/fault", "container-name-taken");

/// The label with a container's name, which the kubelet puts on a component's containers.
const NAME_LABEL: &str = "io.kubernetes.container.name";

/// Creates a container in the sandbox $1 as $2 says, in a pod as $3 says. It is not started.
const CREATE: &str = r#"
set -eu
folder=$(mktemp -d -p /run)
printf '%s' "$2" >"$folder/container.json"
printf '%s' "$3" >"$folder/pod.json"
status=0
crictl --runtime-endpoint unix:///run/containerd/containerd.sock --timeout 10s \
    create "$1" "$folder/container.json" "$folder/pod.json" || status=$?
rm -r "$folder"
exit $status
"#;

/// The record that containerd keeps of the container $1, while it is down.
const READ_RECORD: &str = "cat /var/lib/containerd/*/containers/$1/status";

/// Replaces it in one step.
const WRITE_RECORD: &str = r#"
set -eu
record=$(echo /var/lib/containerd/*/containers/"$1"/status)
cat >"$record.outage-new"
sync "$record.outage-new"
mv "$record.outage-new" "$record"
"#;

/// What was before.
#[derive(Debug, Serialize, Deserialize)]
struct Before {
    /// The attempt that ran.
    attempt: u64,
}

fn is_stray(container: &Container) -> bool {
    container.labels.get(MARK.0).is_some_and(|value| value == MARK.1)
}

/// Containerd's record of a container, dated later than `running`.
fn dated_after(record: &str, running: &Container) -> Result<String, ClusterError> {
    let unknown = |error| ClusterError::caused("containerd's record of a container", error);
    let mut record: Value = serde_json::from_str(record).map_err(unknown)?;
    let created = record["CreatedAt"].as_i64();
    let created = created.ok_or_else(|| ClusterError::new("a record without a date"))?;
    let later = running.created - created + STEP;
    for field in ["CreatedAt", "StartedAt", "FinishedAt"] {
        if let Some(time) = record[field].as_i64().filter(|time| *time != 0) {
            record[field] = (time + later).into();
        }
    }
    Ok(record.to_string())
}

impl ContainerNameTaken {
    async fn crictl(&self, arguments: &[&str], access: &Access) -> Result<String, ClusterError> {
        runtime::crictl(&**access.node(self.on)?, arguments).await
    }

    /// The component's containers, the running and the ended ones, and a stray one.
    async fn containers(&self, access: &Access) -> Result<Vec<Container>, ClusterError> {
        runtime::containers(&**access.node(self.on)?, self.component).await
    }

    /// The only one that runs.
    fn running(&self, all: &[Container]) -> Result<Container, ClusterError> {
        let (what, on) = (self.component.name(), self.on);
        let mut running = all.iter().filter(|container| container.runs);
        match (running.next(), running.next()) {
            (Some(container), None) => Ok(container.clone()),
            (None, _) => Err(ClusterError::new(format!("no container of {what} runs on {on}"))),
            _ => Err(ClusterError::new(format!("several containers of {what} run on {on}"))),
        }
    }

    async fn found(&self, access: &Access) -> Result<Before, ClusterError> {
        let all = self.containers(access).await?;
        let running = self.running(&all)?;
        if all.iter().any(|other| is_stray(other) || other.created > running.created) {
            let (what, on) = (self.component.name(), self.on);
            let context = format!("a name of {what} on {on} is already taken");
            return Err(ClusterError::new(context));
        }
        Ok(Before { attempt: running.attempt })
    }

    async fn take(&self, access: &Access, issued: Issued) -> Result<(), ClusterError> {
        let running = self.running(&self.containers(access).await?)?;
        match self.by {
            NameHolder::RunningAttempt => self.step_clock(&running, access, issued).await?,
            NameHolder::StrayContainer => self.stray(&running, access, issued).await?,
        }
        until(REFUSAL, || async { Ok(self.look(access).await?.err()) }).await
    }

    /// Restarts the component, and dates the attempt that ended later than the one that runs then.
    async fn step_clock(
        &self,
        first: &Container,
        access: &Access,
        issued: Issued,
    ) -> Result<(), ClusterError> {
        let node = access.node(self.on)?;
        self.crictl(&["stop", "--timeout", GRACE, &first.id], access).await?;
        self.returned(access).await?;
        // On a busy machine an attempt may fail in between.
        let all = self.containers(access).await?;
        let second = self.running(&all)?;
        let Some(ended) = all.iter().find(|one| one.attempt + 1 == second.attempt) else {
            let (what, on) = (self.component.name(), self.on);
            let context = format!("the attempt of {what} on {on} before the running one is gone");
            return Err(ClusterError::new(context));
        };
        node.service(Service::Kubelet, false).await?;
        node.service(Service::Containerd, false).await?;
        let read = Command::script(READ_RECORD, [&ended.id]);
        let record = checked(&**node, read, "read a container's record").await?.text();
        let write = Command::script(WRITE_RECORD, [&ended.id]);
        let write = write.stdin(dated_after(&record, &second)?);
        checked(&**node, write, "date a container later").await?;
        issued();
        self.serve(access).await
    }

    /// Starts what was stopped. Containerd accepts connections before it has read its records, and
    /// until then says `server is not initialized yet`.
    async fn serve(&self, access: &Access) -> Result<(), ClusterError> {
        let node = access.node(self.on)?;
        node.service(Service::Containerd, true).await?;
        node.service(Service::Kubelet, true).await?;
        until(RUNTIME, || async { Ok(self.containers(access).await.err().map(|e| e.to_string())) })
            .await
    }

    /// Takes the name of the next attempt, and stops the one that runs.
    async fn stray(
        &self,
        running: &Container,
        access: &Access,
        issued: Issued,
    ) -> Result<(), ClusterError> {
        let said = self.crictl(&["pods", "--output", "json"], access).await?;
        let said: Value = serde_json::from_str(&said)
            .map_err(|error| ClusterError::caused("what crictl says of pods", error))?;
        let pods = said["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        let own = pods.iter().find(|pod| pod["id"] == running.sandbox.as_str());
        // A static pod of another component, which lives as long as its manifest is there.
        let other = pods.iter().find(|pod| {
            pod["state"] == "SANDBOX_READY"
                && pod["labels"]["tier"] == "control-plane"
                && pod["labels"]["component"] != self.component.name()
        });
        let (Some(own), Some(other)) = (own, other) else {
            let context = format!("no two static pods run on {}", self.on);
            return Err(ClusterError::new(context));
        };
        let container = json!({
            "metadata": {"name": self.component.name(), "attempt": running.attempt + 1},
            "image": {"image": running.image},
            "command": [self.component.name()],
            "labels": {
                (MARK.0): MARK.1,
                (NAME_LABEL): "stray",
                "io.kubernetes.pod.name": "stray",
                "io.kubernetes.pod.namespace": other["metadata"]["namespace"],
                "io.kubernetes.pod.uid": other["metadata"]["uid"],
            },
            "annotations": {"io.kubernetes.container.restartCount": "0"},
            "linux": {},
        });
        let pod = json!({"metadata": own["metadata"]});
        let arguments = [running.sandbox.clone(), container.to_string(), pod.to_string()];
        let create = Command::script(CREATE, arguments).timeout(RUNTIME);
        checked(&**access.node(self.on)?, create, "create a stray container").await?;
        issued();
        self.crictl(&["stop", "--timeout", GRACE, &running.id], access).await.map(drop)
    }

    async fn look(&self, access: &Access) -> Result<Proof, ClusterError> {
        let all = self.containers(access).await?;
        match self.by {
            NameHolder::RunningAttempt => self.look_beside(&all, access).await,
            NameHolder::StrayContainer => self.look_down(&all, access).await,
        }
    }

    /// An ended attempt looks newer than the running one, the kubelet is refused, and the component
    /// serves.
    async fn look_beside(&self, all: &[Container], access: &Access) -> Result<Proof, ClusterError> {
        let (what, on) = (self.component.name(), self.on);
        let running = match self.running(all) {
            Ok(running) => running,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let newer = |other: &&Container| !other.runs && other.created > running.created;
        let Some(ended) = all.iter().find(newer) else {
            return Ok(Err(format!("no ended attempt of {what} on {on} looks newer")));
        };
        let Some(refusal) = self.refusal(&running, access).await? else {
            return Ok(Err(format!("the kubelet of {on} was not refused a name yet")));
        };
        if let Some(why) = serving::unready(self.component, self.on, access).await? {
            return Ok(Err(why));
        }
        Ok(Ok(vec![
            format!("attempt {} of {what} ended and looks newer", ended.attempt),
            format!("attempt {} runs and is ready", running.attempt),
            format!("the kubelet says: {refusal}"),
        ]))
    }

    /// A stray container has the name, the kubelet is refused, and the component is down.
    async fn look_down(&self, all: &[Container], access: &Access) -> Result<Proof, ClusterError> {
        let (what, on) = (self.component.name(), self.on);
        let Some(stray) = all.iter().find(|container| is_stray(container)) else {
            return Ok(Err(format!("no stray container on {on} has a name of {what}")));
        };
        if let Some(process) = running(&**access.node(on)?, self.component.name()).await?.first() {
            return Ok(Err(format!("{what} runs on {on} as process {}", process.id.pid)));
        }
        let Some(refusal) = self.refusal(stray, access).await? else {
            return Ok(Err(format!("the kubelet of {on} was not refused a name yet")));
        };
        let mut evidence = vec![
            format!("a stray container has the name of attempt {} of {what}", stray.attempt),
            format!("no process {what} on {on}"),
            format!("the kubelet says: {refusal}"),
        ];
        if self.component == Component::KubeApiserver {
            match serving::ready(self.on, access).await? {
                Answer::Refused => evidence.push("its port refuses connections".to_owned()),
                other => return Ok(Err(format!("its port does not refuse: {other}"))),
            }
        }
        Ok(Ok(evidence))
    }

    /// What the kubelet said last of a name that this container has.
    async fn refusal(
        &self,
        holder: &Container,
        access: &Access,
    ) -> Result<Option<String>, ClusterError> {
        let (log, _) = access.node(self.on)?.log(Service::Kubelet, Some(0)).await?;
        Ok(refused(&String::from_utf8_lossy(&log), &holder.id))
    }

    /// Waits until just one container of the component runs, is its newest, and does its work.
    async fn returned(&self, access: &Access) -> Result<(), ClusterError> {
        until(RETURN, || async {
            let all = self.containers(access).await?;
            let running = match self.running(&all) {
                Ok(running) => running,
                Err(error) => return Ok(Some(error.to_string())),
            };
            if all.iter().any(|other| is_stray(other) || other.created > running.created) {
                let what = self.component.name();
                return Ok(Some(format!("a name of {what} on {} is taken", self.on)));
            }
            serving::unready(self.component, self.on, access).await
        })
        .await
    }

    async fn free(&self, before: Before, access: &Access) -> Result<(), ClusterError> {
        self.serve(access).await?;
        let all = self.containers(access).await?;
        let holds = |container: &&Container| match self.by {
            // What ended since; nothing without the restart.
            NameHolder::RunningAttempt => !container.runs && container.attempt >= before.attempt,
            NameHolder::StrayContainer => is_stray(container),
        };
        for container in all.iter().filter(holds) {
            self.crictl(&["rm", "--force", &container.id], access).await?;
        }
        self.returned(access).await
    }
}

/// The last refusal in a kubelet's log because of this container. Some versions of containerd add to
/// the text at its end.
fn refused(log: &str, holder: &str) -> Option<String> {
    let refusal = |line: &str| {
        let line = line.replace('\\', "");
        let text = &line[line.find("failed to reserve container name")?..];
        let reserved = format!("is reserved for \"{holder}\"");
        text.contains(&reserved).then(|| text.split("\"\" ").next().unwrap_or_default().to_owned())
    };
    log.lines().rev().find_map(refusal)
}

impl Primitive for ContainerNameTaken {
    fn does(&self) -> String {
        let (what, on) = (self.component.name(), self.on);
        let by = match self.by {
            NameHolder::RunningAttempt => "its running attempt, an ended one looking newer",
            NameHolder::StrayContainer => "a stray container",
        };
        format!("take the name of the next container of {what} on {on} by {by}")
    }

    fn limit(&self) -> Duration {
        RETURN + REFUSAL + RUNTIME
    }

    fn before<'a>(
        &'a self,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<serde_json::Value, ClusterError>> {
        Box::pin(async { record(&self.found(access).await?) })
    }

    fn inject<'a>(
        &'a self,
        _: &'a serde_json::Value,
        access: &'a Access,
        issued: Issued,
    ) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(self.take(access, issued))
    }

    fn prove<'a>(
        &'a self,
        _: &'a serde_json::Value,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<Proof, ClusterError>> {
        Box::pin(self.look(access))
    }

    fn revert<'a>(
        &'a self,
        before: &'a serde_json::Value,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(async { self.free(recorded(before)?, access).await })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_dated_an_hour_after_the_running_attempt() {
        let running = &Container { created: 900, ..Container::default() };
        let record = r#"{"Version":"v1","CreatedAt":100,"StartedAt":150,"FinishedAt":0}"#;
        let dated: Value = serde_json::from_str(&dated_after(record, running).unwrap()).unwrap();
        assert_eq!(dated["CreatedAt"], 900 + STEP);
        assert_eq!(dated["StartedAt"], 950 + STEP);
        assert_eq!(dated["FinishedAt"], 0);
        assert!(dated_after("{}", running).is_err());
    }

    #[test]
    fn the_refusal_is_found_in_the_line_that_a_kubelet_writes() {
        let line = r#"E1121 07:26:21.209439 393 pod_workers.go:1324] "Error syncing pod, skipping" err="failed to \"StartContainer\" for \"kube-apiserver\" with CreateContainerError: \"failed to reserve container name \\\"x_2\\\": name \\\"x_2\\\" is reserved for \\\"3bbc\\\"\"" pod="kube-system/kube-apiserver-master-3""#;
        let log = format!("before\n{line}\nafter");
        let wanted = r#"failed to reserve container name "x_2": name "x_2" is reserved for "3bbc""#;
        assert_eq!(refused(&log, "3bbc").unwrap(), wanted);
        assert_eq!(refused(&log, "3bb"), None);
        assert_eq!(refused("", "3bbc"), None);
    }
}
