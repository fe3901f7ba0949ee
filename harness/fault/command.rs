//! Shell scripts of the author's, on one node after another: what breaks, what proves it, what mends
//! it.
//!
//! What the revert may rely on and what it leaves is the author's to say; here is checked that the
//! proof fails before, succeeds while it is in place, and fails again after.

use std::time::Duration;

use futures::future::BoxFuture;

use super::process::checked;
use super::{Issued, Primitive, Proof, all, in_turn, nodes, record};
use crate::cluster::client::Access;
use crate::cluster::{ClusterError, Command, Output};
use crate::scenario::{CommandFault, NodeRef};

impl CommandFault {
    fn script(&self, text: &str) -> Command {
        Command::script(text, [""; 0]).timeout(self.limit)
    }

    async fn look_on(&self, on: NodeRef, access: &Access) -> Result<Proof, ClusterError> {
        let node = access.node(on)?;
        let said = node.run(self.script(&self.prove)).await?;
        let words = words(&said);
        Ok(match said.code {
            0 => Ok(vec![format!("the proof on {on} succeeds{words}")]),
            code => Err(format!("the proof on {on} fails with exit code {code}{words}")),
        })
    }

    async fn mend_on(&self, on: NodeRef, access: &Access) -> Result<(), ClusterError> {
        checked(&**access.node(on)?, self.script(&self.revert), "the script that reverts").await?;
        match self.look_on(on, access).await? {
            Err(_) => Ok(()),
            Ok(evidence) => {
                let evidence = evidence.concat();
                Err(ClusterError::new(format!("after the script that reverts, {evidence}")))
            }
        }
    }
}

/// The last line that a script wrote, if it wrote any.
fn words(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    let text = String::from_utf8_lossy(&both);
    let last = text.lines().map(str::trim).rfind(|line| !line.is_empty());
    last.map(|line| format!(": {line}")).unwrap_or_default()
}

impl Primitive for CommandFault {
    fn does(&self) -> String {
        format!("run on {}: {}", nodes(&self.on), Command::in_words(&self.inject))
    }

    fn limit(&self) -> Duration {
        (in_turn(self.limit, &self.on) + self.limit) * 2
    }

    fn before<'a>(
        &'a self,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<serde_json::Value, ClusterError>> {
        Box::pin(async {
            for on in &self.on {
                if let Ok(evidence) = self.look_on(*on, access).await? {
                    let evidence = evidence.concat();
                    return Err(ClusterError::new(format!(
                        "before anything is broken, {evidence}"
                    )));
                }
            }
            record(&())
        })
    }

    fn inject<'a>(
        &'a self,
        _before: &'a serde_json::Value,
        access: &'a Access,
        issued: Issued,
    ) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(async {
            issued();
            for on in &self.on {
                let node = access.node(*on)?;
                checked(&**node, self.script(&self.inject), "the script that injects").await?;
            }
            Ok(())
        })
    }

    fn prove<'a>(
        &'a self,
        _before: &'a serde_json::Value,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<Proof, ClusterError>> {
        Box::pin(async {
            let mut proofs = Vec::new();
            for on in &self.on {
                proofs.push(self.look_on(*on, access).await?);
            }
            Ok(all(proofs))
        })
    }

    fn revert<'a>(
        &'a self,
        _before: &'a serde_json::Value,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(async {
            let mut first = Ok(());
            for on in self.on.iter().rev() {
                first = first.and(self.mend_on(*on, access).await);
            }
            first
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_script_said_last_is_told() {
        let output = |stdout: &str, stderr: &str| Output {
            code: 1,
            stdout: stdout.into(),
            stderr: stderr.into(),
        };
        assert_eq!(words(&output("a\nb\n\n", "")), ": b");
        assert_eq!(words(&output("a\n", "worse\n")), ": worse");
        assert_eq!(words(&output("\n", "")), "");
    }
}
