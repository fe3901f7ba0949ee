//! A `kubectl` command on a node, of the cluster's version, as the administrator, against one
//! address. It knows nothing from earlier commands: discovery is not cached. Polled.

use std::convert::Infallible;
use std::time::Duration;

use futures::future::BoxFuture;
use regex::Regex;
use tokio::sync::OnceCell;

use super::{Look, Observation, Sink, brief, pattern, poll, target};
use crate::cluster::client::Access;
use crate::cluster::{ClusterError, Command, Output};
use crate::scenario::Kubectl;

/// A command that goes on for longer is ended.
const LIMIT: Duration = Duration::from_secs(30);

/// `timeout`'s exit code when it had to end the command.
const ENDED: i32 = 124;

const RUN: &str = r#"
umask 077
folder=$(mktemp -d) || exit
trap 'rm -rf "$folder"' EXIT
cat >"$folder/config"
server=$1 limit=$2
shift 2
timeout "$limit" kubectl --kubeconfig "$folder/config" --cache-dir "$folder/cache" \
    --server "$server" "$@"
"#;

impl Look for Kubectl {
    fn wanted(&self) -> String {
        let mut wants = Vec::new();
        wants.extend(self.exit_code.map(|code| format!("exits with {code}")));
        wants.extend(self.stdout.as_ref().map(|text| format!("prints {text}")));
        wants.extend(self.stderr.as_ref().map(|text| format!("complains with {text}")));
        let (args, to) = (self.args.join(" "), target::words(&self.to));
        format!("kubectl {args} from {} to {to} {}", self.from, wants.join(" and "))
    }

    fn watch<'a>(
        &'a self,
        access: &'a Access,
        every: Duration,
        sink: Sink<'a>,
    ) -> BoxFuture<'a, Result<Infallible, ClusterError>> {
        Box::pin(async move {
            let known = OnceCell::new();
            let wanted = Wanted {
                exit_code: self.exit_code,
                stdout: self.stdout.as_deref().map(pattern).transpose()?,
                stderr: self.stderr.as_deref().map(pattern).transpose()?,
            };
            let observe = || async {
                let to = match target::address(&self.to, access, &known).await? {
                    Ok(to) => to,
                    Err(why) => return Ok(Observation::nothing(why)),
                };
                let node = access.node(self.from)?;
                if !node.powered() {
                    return Ok(Observation::nothing(format!("{} is off", self.from)));
                }
                let limit = LIMIT.as_secs().to_string();
                let arguments = [format!("https://{to}"), limit].into_iter();
                let command = Command::script(RUN, arguments.chain(self.args.iter().cloned()))
                    .stdin(access.cluster().admin_kubeconfig())
                    .timeout(LIMIT * 2);
                Ok(judge(&wanted, &node.run(command).await?))
            };
            poll(every, sink, observe).await
        })
    }
}

struct Wanted {
    exit_code: Option<i32>,
    stdout: Option<Regex>,
    stderr: Option<Regex>,
}

fn judge(wanted: &Wanted, output: &Output) -> Observation {
    let fits = |wanted: &Option<Regex>, bytes: &[u8]| {
        wanted.as_ref().is_none_or(|wanted| wanted.is_match(&String::from_utf8_lossy(bytes)))
    };
    let holds = output.code != ENDED
        && wanted.exit_code.is_none_or(|code| code == output.code)
        && fits(&wanted.stdout, &output.stdout)
        && fits(&wanted.stderr, &output.stderr);
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
            assert_eq!(judge(&wanted, &output).holds, holds, "{output:?}");
        }
        let saw = |output: &Output| judge(&wanted(Some(0), "", ""), output).saw;
        assert_eq!(saw(&refused), "exit code 1: error: Metrics API not available");
        assert_eq!(saw(&output(0, "a\nb", "")), "exit code 0: a");
        assert_eq!(saw(&output(0, "", "")), "exit code 0");
        assert_eq!(saw(&output(124, "", "")), "no end after 30s");
    }

    #[test]
    fn the_script_hands_its_arguments_on_and_leaves_nothing() {
        use std::io::Write;
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let fake = folder.path().join("kubectl");
        let script = "#!/bin/sh\ncat \"$2\"; shift 4; printf '%s|' \"$@\"; exit 7\n";
        std::fs::write(&fake, script).unwrap();
        std::fs::set_permissions(&fake, PermissionsExt::from_mode(0o755)).unwrap();
        let temporary = folder.path().join("temporary");
        std::fs::create_dir(&temporary).unwrap();
        let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
        let mut child = std::process::Command::new("sh")
            .args(["-c", RUN, "sh", "https://a:1", "30", "get", "a b"])
            .env("PATH", path)
            .env("TMPDIR", &temporary)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(b"config:").unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(7));
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(said, "config:--server|https://a:1|get|a b|");
        assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0);
    }
}
