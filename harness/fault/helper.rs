//! A copy of this very program that does a fault's work on a node until it is killed.

use std::convert::Infallible;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::process::{checked, until};
use crate::cluster::{ClusterError, Command, Node};

/// Until one that was killed is gone.
const END: Duration = Duration::from_secs(30);

/// Starts the program $1 as $2 with its orders $3, unless one with the name $4 runs already.
const START: &str = r#"
if ! pgrep -f "^[^ ]* $2 .*$4" >/dev/null; then
    setsid "$1" "$2" "$3" </dev/null >/run/"$4".log 2>&1 &
fi
"#;

/// Kills it, and takes its files away.
const KILL: &str = r#"
pkill -KILL -f "^[^ ]* $1 .*$2" || [ $? = 1 ]
rm -f /run/"$2".*
"#;

/// How many run.
const COUNT: &str = r#"pgrep -c -f "^[^ ]* $1 .*$2" || [ $? = 1 ]"#;

/// What one is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Helper<'a> {
    /// The first argument, by which the program is told what to be.
    pub(super) argument: &'a str,
    /// What its orders contain and those of no other: by it this one is found again.
    pub(super) name: &'a str,
}

/// Does the work of a helper by its orders until this program is killed, if it was started with this
/// argument.
pub(super) fn stand_in<O, Fut>(argument: &str, work: impl FnOnce(O) -> Fut) -> Option<ExitCode>
where
    O: DeserializeOwned,
    Fut: Future<Output = io::Result<Infallible>>,
{
    let mut arguments = std::env::args().skip(1);
    if arguments.next()? != argument {
        return None;
    }
    let orders = arguments.next().and_then(|text| serde_json::from_str(&text).ok());
    let Some(orders) = orders else { return Some(ExitCode::from(2)) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Err(error) = runtime.and_then(|runtime| runtime.block_on(work(orders)));
    eprintln!("{error}");
    Some(ExitCode::FAILURE)
}

impl Helper<'_> {
    /// Starts it unless it runs. What it says is in `/run/NAME.log`; what else it writes is beside that,
    /// under its name.
    pub(super) async fn start(
        self,
        node: &dyn Node,
        orders: &impl Serialize,
    ) -> Result<(), ClusterError> {
        let orders = serde_json::to_string(orders)
            .map_err(|error| ClusterError::caused("write a helper's orders", error))?;
        let start = Command::script(START, [node.program(), self.argument, &orders, self.name]);
        checked(node, start, &format!("start {}", self.argument)).await.map(drop)
    }

    /// How many of it run.
    pub(super) async fn count(self, node: &dyn Node) -> Result<usize, ClusterError> {
        let count = Command::script(COUNT, [self.argument, self.name]);
        let said = checked(node, count, &format!("look for {}", self.argument)).await?.text();
        said.parse().map_err(|error| ClusterError::caused(format!("pgrep says `{said}`"), error))
    }

    /// Kills it, and waits until it is gone.
    pub(super) async fn end(self, node: &dyn Node) -> Result<(), ClusterError> {
        let kill = Command::script(KILL, [self.argument, self.name]);
        checked(node, kill, &format!("end {}", self.argument)).await?;
        until(END, || async {
            let left = self.count(node).await?;
            Ok((left > 0).then(|| format!("{left} of {} run on {}", self.argument, node.id())))
        })
        .await
    }
}
