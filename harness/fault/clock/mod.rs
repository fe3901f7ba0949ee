//! A program's process has another time than its node until the revert, as if somebody had set the
//! clock: certificates and tokens look expired or not yet valid to it, and it writes wrong times.
//! What it measures by time elapsed (timeouts, and leases as clients of Kubernetes do) stays right.
//!
//! A node has no clock of its own: Linux gives namespaces of time for the clocks since boot, not for
//! the time of day. So the code by which the process asks the kernel is changed in its memory: the
//! `clock_gettime` of its vDSO (vdso(7)), which Go calls, as all these programs do. The process
//! stands still meanwhile, and no thread of it is in that code.
//!
//! A process that is started later has the right time, and so has whatever the process runs itself;
//! an injection that was lost so is no longer proven.
//! <https://github.com/golang/go/blob/go1.24.0/src/runtime/time_linux_amd64.s>

mod vdso;

use std::time::{Duration, SystemTime};

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::process::{ProcessId, alive, checked, go_on, running, until};
use super::serving::{self, LOOK};
use super::{Issued, Primitive, Proof, all, each, nodes, record, recorded};
use crate::cluster::client::{Access, Answer};
use crate::cluster::{ClusterError, Command, Node};
use crate::scenario::{ClockShift, NodeRef, Shift};
use vdso::Function;

/// Until a process is out of the code that is changed, and tells the other time.
const CHANGE: Duration = Duration::from_secs(20);

/// If it did not survive its time: until its successor answers.
const RETURN: Duration = Duration::from_mins(2);

/// Servers tell the time to the second, and looking takes time.
const TOLERANCE: Duration = Duration::from_secs(5);

/// Where the vDSO of the process $1 begins, on a line; then its bytes.
const READ: &str = r#"
set -eu
range=$(awk '$NF == "[vdso]" { print $1 }' /proc/"$1"/maps)
start=$((0x${range%-*}))
end=$((0x${range#*-}))
echo "$start"
dd if=/proc/"$1"/mem bs=4096 skip=$((start / 4096)) count=$(((end - start) / 4096)) status=none
"#;

/// Puts what it reads at the address $2 of the process $1, while it stands still and no thread of it
/// is between there and $3. A thread that still runs has no address to tell.
const WRITE: &str = r#"
set -eu
pid=$1
stopped=$(sed 's/.*) \(.\).*/\1/' /proc/"$pid"/stat)
go_on() { [ "$stopped" = T ] || kill -CONT "$pid"; }
trap go_on EXIT
deadline=$(($(date +%s) + 12))
while [ "$(date +%s)" -lt "$deadline" ]; do
    kill -STOP "$pid"
    busy=
    for task in /proc/"$pid"/task/*; do
        at=$(cat "$task"/syscall)
        at=${at##* }
        case $at in
        0x*) [ $((at)) -lt "$2" ] || [ $((at)) -ge "$3" ] || busy=yes ;;
        *) busy=yes ;;
        esac
    done
    if [ -z "$busy" ]; then
        dd of=/proc/"$pid"/mem bs=1 seek="$2" conv=notrunc status=none
        exit
    fi
    go_on
    sleep 0.01
done
echo "a thread never left the code that tells the time" >&2
exit 1
"#;

/// A process, and the code that tells it the time.
#[derive(Debug, Serialize, Deserialize)]
struct Before {
    on: NodeRef,
    process: ProcessId,
    function: Function,
}

async fn function(node: &dyn Node, process: ProcessId) -> Result<Function, ClusterError> {
    let read = Command::script(READ, [process.pid.to_string()]);
    let output = checked(node, read, "read the code that tells the time").await?;
    let unknown = || ClusterError::new("a process without a vDSO");
    let end = output.stdout.iter().position(|byte| *byte == b'\n').ok_or_else(unknown)?;
    let (start, image) = (&output.stdout[..end], &output.stdout[end + 1..]);
    let start = str::from_utf8(start).ok().and_then(|start| start.parse().ok());
    Function::find(start.ok_or_else(unknown)?, image)
        .map_err(|error| ClusterError::caused("the code that tells the time", error))
}

async fn write(before: &Before, code: &[u8], access: &Access) -> Result<(), ClusterError> {
    let function = &before.function;
    let arguments = [
        before.process.pid.to_string(),
        function.address.to_string(),
        (function.address + function.length).to_string(),
    ];
    let write = Command::script(WRITE, arguments).stdin(code).timeout(CHANGE);
    let what = "change the code that tells the time";
    checked(&**access.node(before.on)?, write, what).await.map(drop)
}

#[expect(clippy::disallowed_methods, reason = "a server tells the time of day")]
fn now() -> SystemTime {
    SystemTime::now()
}

/// How much a date differs from a time, in words, and whether it is by about this much.
fn compare(date: SystemTime, now: SystemTime, by: Shift) -> Result<String, String> {
    let told = match now.duration_since(date) {
        Ok(behind) => Shift::Behind(behind),
        Err(ahead) => Shift::Ahead(ahead.duration()),
    };
    let near = match (told, by) {
        (Shift::Ahead(told), Shift::Ahead(by)) | (Shift::Behind(told), Shift::Behind(by)) => {
            told.abs_diff(by) <= TOLERANCE
        }
        _ => false,
    };
    if near { Ok(in_words(told)) } else { Err(in_words(told)) }
}

fn in_words(shift: Shift) -> String {
    match shift {
        Shift::Ahead(by) => format!("{} ahead", whole(by)),
        Shift::Behind(by) => format!("{} behind", whole(by)),
    }
}

/// In whole seconds, the largest unit a day: `400d 2h`.
fn whole(duration: Duration) -> String {
    const DAY: u64 = 24 * 3600;
    let (days, rest) = (duration.as_secs() / DAY, Duration::from_secs(duration.as_secs() % DAY));
    match (days, rest) {
        (0, rest) => humantime::format_duration(rest).to_string(),
        (days, Duration::ZERO) => format!("{days}d"),
        (days, rest) => format!("{days}d {}", humantime::format_duration(rest)),
    }
}

impl ClockShift {
    fn code(&self) -> Vec<u8> {
        let seconds = |by: Duration| i64::try_from(by.as_secs()).unwrap_or(i64::MAX);
        vdso::shifted(match self.by {
            Shift::Ahead(by) => seconds(by),
            Shift::Behind(by) => -seconds(by),
        })
    }

    async fn found(&self, on: NodeRef, access: &Access) -> Result<Vec<Before>, ClusterError> {
        let node = access.node(on)?;
        let mut found = vec![];
        for process in alive(&**node, self.component.name()).await? {
            let function = function(&**node, process).await?;
            if function.is_shifted() {
                let (what, pid) = (self.component.name(), process.pid);
                let context = format!("process {pid} of {what} on {on} has another time already");
                return Err(ClusterError::new(context));
            }
            found.push(Before { on, process, function });
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
        if !function(&**node, before.process).await?.code.starts_with(&self.code()) {
            return Ok(Err(format!("process {pid} of {what} on {on} has the time of its node")));
        }
        let mut evidence = vec![format!("process {pid} of {what} on {on} is told another time")];
        // Whoever serves metrics tells the time with every answer.
        if let Some((from, at, speech)) = access.metrics_of(self.component, on)? {
            let said = match access.date(from, at, speech, LOOK).await? {
                Ok(date) => compare(date, now(), self.by),
                Err(Answer::Status { code, .. }) => Err(format!("{code}")),
                Err(other) => Err(other.to_string()),
            };
            match said {
                Ok(said) => evidence.push(format!("the time that {at} tells is {said}")),
                Err(said) => return Ok(Err(format!("the time that {at} tells is {said}"))),
            }
        }
        Ok(serving::beside(self.component, on, access).await?.map(|beside| {
            evidence.push(beside);
            evidence
        }))
    }

    async fn take_back(&self, before: &Before, access: &Access) -> Result<(), ClusterError> {
        let node = access.node(before.on)?;
        let now = running(&**node, self.component.name()).await?;
        if now.iter().any(|process| process.id == before.process) {
            let changed = self.code().len();
            write(before, &before.function.code[..changed], access).await?;
            // One that was stopped when the injection was broken off stands still ever since.
            go_on(&**node, self.component.name()).await?;
            if function(&**node, before.process).await?.code != before.function.code {
                let context = "the code that tells the time is not what it was";
                return Err(ClusterError::new(context));
            }
        }
        until(RETURN, || serving::missing(self.component, before.on, access)).await
    }
}

impl Primitive for ClockShift {
    fn does(&self) -> String {
        let (what, on) = (self.component.name(), nodes(&self.on));
        format!("set the clock of {what} on {on} {}", in_words(self.by))
    }

    fn limit(&self) -> Duration {
        CHANGE + CHANGE + RETURN
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
            let code = self.code();
            issued();
            each(before.iter().map(|before| write(before, &code, access))).await?;
            until(CHANGE, || async { Ok(self.look(&before, access).await?.err()) }).await
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_compared_with_the_shift() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(10_000_000);
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        let ahead = Shift::Ahead(minutes(60));
        assert_eq!(compare(now + minutes(60), now, ahead), Ok("1h ahead".to_owned()));
        let late = now + minutes(60) - Duration::from_millis(4900);
        assert_eq!(compare(late, now, ahead), Ok("59m 55s ahead".to_owned()));
        assert_eq!(compare(now - minutes(60), now, ahead), Err("1h behind".to_owned()));
        assert_eq!(compare(now, now, ahead), Err("0s behind".to_owned()));
        assert_eq!(whole(minutes(3 * 24 * 60)), "3d");
        assert_eq!(whole(minutes(3 * 24 * 60 + 90)), "3d 1h 30m");
        let behind = Shift::Behind(minutes(2));
        assert_eq!(compare(now - minutes(2), now, behind), Ok("2m behind".to_owned()));
    }
}
