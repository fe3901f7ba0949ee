//! A `kubectl` command on a node, of the cluster's version, as the administrator, against one
//! address. It knows nothing from earlier commands: discovery is not cached. Polled.

use std::convert::Infallible;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::OnceCell;

use super::said::{self, LIMIT, Wanted};
use super::{Look, Observation, Sink, poll_from, target};
use crate::cluster::client::Access;
use crate::cluster::{ClusterError, Command};
use crate::scenario::Kubectl;

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
        let (args, to) = (self.args.join(" "), target::words(&self.to));
        format!("kubectl {args} from {} to {to} {}", self.from, said::words(&self.said))
    }

    fn watch<'a>(
        &'a self,
        access: &'a Access,
        every: Duration,
        sink: Sink<'a>,
    ) -> BoxFuture<'a, Result<Infallible, ClusterError>> {
        Box::pin(async move {
            let known = OnceCell::new();
            let wanted = Wanted::of(&self.said)?;
            let node = &**access.node(self.from)?;
            let observe = || async {
                let to = match target::address(&self.to, access, &known).await? {
                    Ok(to) => to,
                    Err(why) => return Ok(Observation::nothing(why)),
                };
                let limit = LIMIT.as_secs().to_string();
                let cluster = access.cluster();
                let named =
                    cluster.host_name(to.ip()).map(|name| format!("--tls-server-name={name}"));
                let arguments = [format!("https://{to}"), limit].into_iter().chain(named);
                let command = Command::script(RUN, arguments.chain(self.args.iter().cloned()))
                    .stdin(cluster.admin_kubeconfig());
                wanted.observe(node, command).await
            };
            poll_from(node, every, sink, observe).await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
