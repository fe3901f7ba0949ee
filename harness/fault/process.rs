//! The processes of a program on a node, by their command lines.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cluster::{ClusterError, Command, Node, Output};

/// For `pgrep -f`: the command line of a program that was started by its name or its path.
pub(super) fn pattern(program: &str) -> String {
    format!("^(/[^ ]*/)?{program}( |$)")
}

/// Each process as its id, state and start, then its arguments a line each, then an empty line. One
/// that ends between the commands, or has ended and was not waited for, has no arguments. In `stat`
/// the state comes after the name in brackets, the start 19 fields later: proc(5).
const RUNNING: &str = r#"
for pid in $(pgrep -f "$1"); do
    set -- "$1" $(sed 's/.*) //' /proc/"$pid"/stat 2>/dev/null)
    arguments=$(tr '\0' '\n' 2>/dev/null </proc/"$pid"/cmdline) || continue
    [ -z "$arguments" ] || printf '%s %s %s\n%s\n\n' "$pid" "$2" "${21}" "$arguments"
done
"#;

/// Before a script: `freeze PATTERN` stops processes, if there are any, and returns once each of their
/// threads stands still. A signal that was sent is not yet obeyed: on a busy machine a kubelet was seen
/// to end a component 0.3 s after its SIGSTOP, because the manifest was gone.
pub(super) const FREEZE: &str = r#"
freeze() {
    pkill -STOP -f "$1" || return 1
    threads=$(pgrep -f "$1" | sed 's|.*|/proc/&/task/*/stat|')
    while cat $threads 2>/dev/null </dev/null | sed 's/.*) //' | grep -q '^[^TZX]'; do sleep 0.01; done
}
"#;

/// One process for good: ids are used again, but not at the same time of the node's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProcessId {
    pub(super) pid: u32,
    /// When it started, in ticks since the machine's boot.
    pub(super) started: u64,
}

/// A running process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) id: ProcessId,
    /// Its state as proc(5) names it; `T`: stopped.
    pub(super) state: char,
    pub(super) argv: Vec<String>,
}

/// The processes on a node of the program with this name.
pub(super) async fn running(node: &dyn Node, program: &str) -> Result<Vec<Process>, ClusterError> {
    let listing = Command::script(RUNNING, [pattern(program)]);
    Ok(parse(&checked(node, listing, "list processes").await?.text()))
}

/// The processes of a program that must run on a node.
pub(super) async fn alive(node: &dyn Node, program: &str) -> Result<Vec<ProcessId>, ClusterError> {
    let ids: Vec<_> = running(node, program).await?.iter().map(|process| process.id).collect();
    if ids.is_empty() {
        return Err(ClusterError::new(format!("there is no {program} on {}", node.id())));
    }
    Ok(ids)
}

fn parse(listing: &str) -> Vec<Process> {
    listing
        .split("\n\n")
        .filter_map(|block| {
            let mut lines = block.lines();
            let mut head = lines.next()?.split(' ');
            let pid = head.next()?.parse().ok()?;
            let state = head.next()?.chars().next()?;
            let id = ProcessId { pid, started: head.next()?.parse().ok()? };
            Some(Process { id, state, argv: lines.map(Into::into).collect() })
        })
        .collect()
}

/// Runs a command that must succeed.
pub(super) async fn checked(
    node: &dyn Node,
    command: Command,
    what: &str,
) -> Result<Output, ClusterError> {
    let output = node.run(command).await?;
    if output.code == 0 {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let (code, id) = (output.code, node.id());
    Err(ClusterError::new(format!("{what} on {id}: exit code {code}: {said}")))
}

/// Until a component that its kubelet restarts answers again, which the back-off delays by up to 5 min
/// (`MaxContainerBackOff`).
/// <https://github.com/kubernetes/kubernetes/blob/v1.34.4/pkg/kubelet/kubelet.go>
pub(super) const RETURN_FROM_BACK_OFF: Duration = Duration::from_secs(5 * 60 + 30);

/// Lets the processes of a program go on that were stopped, if there are any left.
pub(super) async fn go_on(node: &dyn Node, program: &str) -> Result<(), ClusterError> {
    let wake = Command::script(r#"pkill -CONT -f "$1" || [ $? = 1 ]"#, [pattern(program)]);
    checked(node, wake, "let the process go on").await.map(drop)
}

/// How often a condition on a node is looked at while it is waited for.
const PERIOD: Duration = Duration::from_millis(200);

/// Asks every 200 ms until nothing is missing any more.
///
/// # Errors
/// What was missing last, after `limit`; or the asking's own error.
pub(super) async fn until<Fut>(
    limit: Duration,
    mut missing: impl FnMut() -> Fut,
) -> Result<(), ClusterError>
where
    Fut: Future<Output = Result<Option<String>, ClusterError>>,
{
    let start = tokio::time::Instant::now();
    while let Some(what) = missing().await? {
        if start.elapsed() >= limit {
            return Err(ClusterError::new(format!("{what} after {limit:?}")));
        }
        tokio::time::sleep(PERIOD).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_read_by_blocks() {
        let listing = "12 S 77\nkube-apiserver\n--a=b c\n\n13 T 78\n/usr/bin/kube-apiserver";
        let process = |pid, state, started, words: &[&str]| Process {
            id: ProcessId { pid, started },
            state,
            argv: words.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(
            parse(listing),
            [
                process(12, 'S', 77, &["kube-apiserver", "--a=b c"]),
                process(13, 'T', 78, &["/usr/bin/kube-apiserver"]),
            ]
        );
        assert_eq!(parse(""), []);
    }

    #[test]
    fn the_listing_script_finds_a_process_by_its_command_line() {
        let mut child = std::process::Command::new("sleep").arg("4242.5").spawn().unwrap();
        let script = |program: &str| {
            let arguments = ["-c", RUNNING, "sh", &pattern(program)];
            let output = std::process::Command::new("sh").args(arguments).output().unwrap();
            parse(String::from_utf8(output.stdout).unwrap().trim())
        };
        let find = || script("sleep").into_iter().find(|process| process.id.pid == child.id());
        let found = find();
        let others = script("leep");
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        let pid = child.id().to_string();
        let stopped = std::process::Command::new("kill").args(["-STOP", &pid]).status().unwrap();
        let mut state = 'S';
        for _ in 0..1000 {
            state = find().unwrap().state;
            if state == 'T' {
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let found = found.unwrap();
        assert_eq!(found.argv, ["sleep", "4242.5"]);
        assert_eq!(stat.split(' ').nth(21).unwrap(), found.id.started.to_string());
        assert!(stopped.success());
        assert_eq!(state, 'T');
        assert!(others.iter().all(|process| process.argv[0] != "sleep"), "{others:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_with_what_was_missing() {
        let mut left = 3;
        until(Duration::from_secs(1), || {
            left -= 1;
            std::future::ready(Ok((left > 0).then(|| "it".to_owned())))
        })
        .await
        .unwrap();
        let never = || std::future::ready(Ok(Some("it is missing".to_owned())));
        let error = until(Duration::from_secs(1), never).await.unwrap_err();
        assert_eq!(error.to_string(), "it is missing after 1s");
    }
}
