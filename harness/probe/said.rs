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

    /// Runs a command on a node.
    pub(super) async fn observe(
        &self,
        node: &dyn Node,
        command: Command,
    ) -> Result<Observation, ClusterError> {
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
        let saw = match (output.code, self.told(output, fits(&self.stdout, &output.stdout))) {
            (ENDED, _) => format!("no end after {LIMIT:?}"),
            (code, None) => format!("exit code {code}"),
            (code, Some(told)) => format!("exit code {code}: {told}"),
        };
        Observation { holds, saw }
    }

    /// What of the output is worth a word: of what is wanted the first that is not so, or else what
    /// says most about the exit code.
    fn told(&self, output: &Output, stdout_fits: bool) -> Option<String> {
        let [stdout, stderr] =
            [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
        // What is printed begins with what it is about; complaints end with the reason.
        let stdout = line(&stdout, self.stdout.as_ref(), stdout.lines());
        let stderr = line(&stderr, self.stderr.as_ref(), stderr.lines().rev());
        let stdout_first = match (&self.stdout, &self.stderr) {
            (Some(_), Some(_)) => !stdout_fits,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => output.code == 0 && !stdout.is_empty(),
        };
        let (first, other, lacks) = if stdout_first {
            (stdout, stderr, "nothing printed, but complained: ")
        } else {
            (stderr, stdout, "no complaint, but printed: ")
        };
        match (first.is_empty(), other.is_empty()) {
            (false, _) => Some(first),
            (true, true) => None,
            (true, false) if self.stdout.is_none() && self.stderr.is_none() => Some(other),
            (true, false) => Some(format!("{lacks}{other}")),
        }
    }
}

/// The line that matches what is wanted; if there is none, the first of these with anything in it.
fn line<'a>(
    text: &str,
    wanted: Option<&Regex>,
    mut others: impl Iterator<Item = &'a str>,
) -> String {
    let matched = wanted.and_then(|wanted| wanted.find(text)).map(|found| {
        let start = text[..found.start()].rfind('\n').map_or(0, |end| end + 1);
        &text[start..]
    });
    let other = || others.find(|line| !line.trim().is_empty());
    brief(matched.filter(|line| !line.trim().is_empty()).or_else(other).unwrap_or_default())
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
        let refused = output(1, "", "more\nerror: Metrics API not available\n");
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

    #[test]
    fn what_is_told_is_what_was_wanted() {
        let pattern = |text: &str| Some(Regex::new(text).unwrap());
        let warned = output(0, "b\n", "Warning: old\n");
        let logs = output(1, "", "Found 2 pods\nyou must be logged in\nbye\n");
        for (stdout, stderr, output, saw) in [
            (pattern("a"), None, &warned, "exit code 0: b"),
            (None, pattern("a"), &warned, "exit code 0: Warning: old"),
            (pattern("a"), pattern("Warning"), &warned, "exit code 0: b"),
            (pattern("b"), pattern("a"), &warned, "exit code 0: Warning: old"),
            (None, None, &warned, "exit code 0: b"),
            (None, None, &output(1, "b", "error"), "exit code 1: error"),
            (None, None, &output(1, "b", ""), "exit code 1: b"),
            (
                pattern("a"),
                None,
                &output(1, "", "error"),
                "exit code 1: nothing printed, but complained: error",
            ),
            (None, pattern("a"), &output(0, "b", ""), "exit code 0: no complaint, but printed: b"),
            (pattern("a"), None, &output(0, "", ""), "exit code 0"),
            // The line that was looked for, not the first.
            (None, pattern("logged in"), &logs, "exit code 1: you must be logged in"),
            (pattern("(?m)^c$"), None, &output(0, "a\nb\nc\n", ""), "exit code 0: c"),
        ] {
            let wanted = Wanted { exit_code: None, stdout, stderr };
            assert_eq!(wanted.judge(output).saw, saw);
        }
    }
}
