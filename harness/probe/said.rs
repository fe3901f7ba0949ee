//! What a command said, and whether that was wanted.

use std::time::Duration;

use regex::Regex;

use super::{Observation, brief, pattern};
use crate::cluster::{ClusterError, Command, Node, Output};
use crate::scenario::Said;

/// `timeout`'s exit code when it had to end the command.
const ENDED: i32 = 124;

/// What is wanted, in words.
pub(super) fn words(said: &Said) -> String {
    let mut wants = Vec::new();
    wants.extend(said.exit_code.map(|code| format!("exits with {code}")));
    wants.extend(said.stdout.as_ref().map(|text| format!("prints {text}")));
    wants.extend(said.stderr.as_ref().map(|text| format!("complains with {text}")));
    wants.join(" and ")
}

/// A command that goes on for longer is ended by `timeout`.
pub(super) const LIMIT: Duration = Duration::from_secs(30);

/// What is wanted, ready to be compared with.
pub(super) struct Wanted {
    exit_code: Option<i32>,
    stdout: Option<Regex>,
    stderr: Option<Regex>,
}

impl Wanted {
    pub(super) fn of(said: &Said) -> Result<Self, ClusterError> {
        Ok(Self {
            exit_code: said.exit_code,
            stdout: said.stdout.as_deref().map(pattern).transpose()?,
            stderr: said.stderr.as_deref().map(pattern).transpose()?,
        })
    }

    /// Runs a command on a node, if it is on.
    pub(super) async fn observe(
        &self,
        node: &dyn Node,
        command: Command,
    ) -> Result<Observation, ClusterError> {
        if !node.powered() {
            return Ok(Observation::nothing(format!("{} is off", node.id())));
        }
        Ok(self.judge(&node.run(command.timeout(LIMIT * 2)).await?))
    }

    fn judge(&self, output: &Output) -> Observation {
        let fits = |wanted: &Option<Regex>, bytes: &[u8]| {
            wanted.as_ref().is_none_or(|wanted| wanted.is_match(&String::from_utf8_lossy(bytes)))
        };
        let holds = output.code != ENDED
            && self.exit_code.is_none_or(|code| code == output.code)
            && fits(&self.stdout, &output.stdout)
            && fits(&self.stderr, &output.stderr);
        let stderr = String::from_utf8_lossy(&output.stderr);
        let said = match brief(&stderr) {
            said if said.is_empty() => brief(&output.text()),
            said => said,
        };
        let saw = match (output.code, said.is_empty()) {
            (ENDED, _) => format!("no end after {LIMIT:?}"),
            (code, true) => format!("exit code {code}"),
            (code, false) => format!("exit code {code}: {said}"),
        };
        Observation { holds, saw }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(code: i32, stdout: &str, stderr: &str) -> Output {
        Output { code, stdout: stdout.into(), stderr: stderr.into() }
    }

    #[test]
    fn everything_that_is_given_must_fit() {
        let wanted = |exit_code, stdout: &str, stderr: &str| Wanted {
            exit_code,
            stdout: (!stdout.is_empty()).then(|| Regex::new(stdout).unwrap()),
            stderr: (!stderr.is_empty()).then(|| Regex::new(stderr).unwrap()),
        };
        let refused = output(1, "", "error: Metrics API not available\nmore");
        for (wanted, output, holds) in [
            (wanted(Some(0), "", ""), output(0, "x", ""), true),
            (wanted(Some(0), "", ""), refused.clone(), false),
            (wanted(Some(1), "", "Metrics API not"), refused.clone(), true),
            (wanted(None, "", "(?m)^more$"), refused.clone(), true),
            (wanted(None, "^node/a", ""), output(0, "node/a\nnode/b\n", ""), true),
            (wanted(None, "^node/b", ""), output(0, "node/a\nnode/b\n", ""), false),
            (wanted(Some(124), "", ""), output(124, "", ""), false),
        ] {
            assert_eq!(wanted.judge(&output).holds, holds, "{output:?}");
        }
        let saw = |output: &Output| wanted(Some(0), "", "").judge(output).saw;
        assert_eq!(saw(&refused), "exit code 1: error: Metrics API not available");
        assert_eq!(saw(&output(0, "a\nb", "")), "exit code 0: a");
        assert_eq!(saw(&output(0, "", "")), "exit code 0");
        assert_eq!(saw(&output(124, "", "")), "no end after 30s");
    }
}
