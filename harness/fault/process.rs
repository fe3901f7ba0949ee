//! The processes of a component on a node, by their command lines.

use std::time::Duration;

use crate::cluster::{ClusterError, Command, Node, Output};
use crate::scenario::Component;

/// For `pgrep -f`: the command line of a program that was started by its name or its path.
pub(super) fn pattern(program: &str) -> String {
    format!("^(/[^ ]*/)?{program}( |$)")
}

/// Each process as its id, then its arguments a line each, then an empty line. One that ends
/// between the two commands has no arguments.
const RUNNING: &str = r#"
for pid in $(pgrep -f "$1"); do
    arguments=$(tr '\0' '\n' 2>/dev/null </proc/"$pid"/cmdline) || continue
    [ -z "$arguments" ] || printf '%s\n%s\n\n' "$pid" "$arguments"
done
"#;

/// A running process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) argv: Vec<String>,
}

/// The component's processes on a node.
pub(super) async fn running(
    node: &dyn Node,
    component: Component,
) -> Result<Vec<Process>, ClusterError> {
    let listing = Command::script(RUNNING, [pattern(component.name())]);
    Ok(parse(&checked(node, listing, "list processes").await?.text()))
}

fn parse(listing: &str) -> Vec<Process> {
    listing
        .split("\n\n")
        .filter_map(|block| {
            let mut lines = block.lines();
            let pid = lines.next()?.parse().ok()?;
            Some(Process { pid, argv: lines.map(Into::into).collect() })
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
        let listing = "12\nkube-apiserver\n--a=b c\n\n13\n/usr/bin/kube-apiserver";
        let argv = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        assert_eq!(
            parse(listing),
            [
                Process { pid: 12, argv: argv(&["kube-apiserver", "--a=b c"]) },
                Process { pid: 13, argv: argv(&["/usr/bin/kube-apiserver"]) },
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
        let found = script("sleep").into_iter().find(|process| process.pid == child.id());
        let others = script("leep");
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found.unwrap().argv, ["sleep", "4242.5"]);
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
