//! A shell script of the author's on a node. Polled.

use std::convert::Infallible;
use std::time::Duration;

use futures::future::BoxFuture;

use super::said::{self, LIMIT, Wanted};
use super::{Look, Sink, poll_from};
use crate::cluster::client::Access;
use crate::cluster::{ClusterError, Command};
use crate::scenario::CommandRun;

impl Look for CommandRun {
    fn wanted(&self) -> String {
        let script = Command::in_words(&self.run);
        format!("the script `{script}` on {} {}", self.on, said::words(&self.said))
    }

    fn watch<'a>(
        &'a self,
        access: &'a Access,
        every: Duration,
        sink: Sink<'a>,
    ) -> BoxFuture<'a, Result<Infallible, ClusterError>> {
        Box::pin(async move {
            let wanted = Wanted::of(&self.said)?;
            let node = access.node(self.on)?;
            let limit = LIMIT.as_secs().to_string();
            let command = Command::new(["timeout", &limit, "sh", "-c", &self.run]);
            poll_from(&**node, every, sink, || wanted.observe(&**node, command.clone())).await
        })
    }
}
