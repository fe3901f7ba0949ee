//! A file of a node is replaced, removed or made unreadable; back comes what was there, with its
//! mode and owner.
//!
//! It is replaced by a rename, so nobody reads half of it. A container into which the one file is
//! mounted, as kubeadm's kubeconfigs are, goes on with what it had until it is made anew. What the
//! component that reads the file does then is what a scenario is for.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::process::checked;
use super::{Issued, Primitive, Proof, all, in_turn, nodes, record, recorded};
use crate::cluster::client::Access;
use crate::cluster::{ClusterError, Command, Node};
use crate::scenario::{FileChange, Make, NodeRef};

/// All reading and writing on one node.
const LIMIT: Duration = Duration::from_secs(30);

/// The longest file that is kept for a revert.
const LONGEST: usize = 1 << 20;

/// A new file's mode.
const MODE: &str = "600";

/// What a path stands for, on one line; a file's bytes follow. Links are followed.
const READ: &str = r#"
set -eu
path=$(readlink -f -- "$1")
if [ -d "$path" ]; then
    echo folder
elif [ -e "$path" ]; then
    size=$(stat -c %s -- "$path")
    if [ "$size" -gt "$2" ]; then
        echo "it has $size bytes; at most $2 can be kept for the revert" >&2
        exit 1
    fi
    stat -c 'file %a %u %g' -- "$path"
    cat -- "$path"
else
    echo absent
fi
"#;

/// The kubelet reads no manifest whose name begins with a dot:
/// <https://github.com/kubernetes/kubernetes/blob/v1.34.4/pkg/kubelet/config/file.go>.
const WRITE: &str = r#"
set -eu
path=$(readlink -f -- "$1")
new=${path%/*}/.${path##*/}.outage-new
case $2 in
absent)
    if [ -d "$path" ]; then rmdir -- "$path"; else rm -f -- "$path"; fi
    ;;
folder)
    if [ ! -d "$path" ]; then
        rm -f -- "$path"
        mkdir -m 0 -- "$path"
    fi
    ;;
file)
    umask 077
    cat >"$new"
    chmod "$3" -- "$new"
    chown "$4" -- "$new"
    sync -- "$new"
    if [ -d "$path" ]; then rmdir -- "$path"; fi
    mv -f -- "$new" "$path"
    ;;
esac
"#;

/// What a path stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum State {
    /// Nothing.
    Absent,
    /// A folder.
    Folder,
    /// A file.
    File(Content),
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Content {
    /// Its bytes, in Base64.
    bytes: String,
    /// Its permissions in octal digits.
    mode: String,
    /// `user:group`, in numbers.
    owner: String,
}

impl Content {
    /// Its bytes.
    pub(super) fn bytes(&self) -> Result<Vec<u8>, ClusterError> {
        BASE64_STANDARD.decode(&self.bytes).map_err(|e| ClusterError::caused("a file's bytes", e))
    }

    /// The same file with other bytes.
    pub(super) fn with(&self, bytes: &[u8]) -> Self {
        Self { bytes: BASE64_STANDARD.encode(bytes), ..self.clone() }
    }

    /// A new file.
    fn new(bytes: &[u8]) -> Self {
        let (mode, owner) = (MODE.to_owned(), "0:0".to_owned());
        Self { bytes: BASE64_STANDARD.encode(bytes), mode, owner }
    }
}

/// One file that is to change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Change {
    /// Where.
    pub(super) on: NodeRef,
    /// Its path.
    pub(super) path: String,
    /// What is there.
    pub(super) was: State,
    /// What is to be there.
    pub(super) wanted: State,
}

/// What a path of a node stands for.
pub(super) async fn read(node: &dyn Node, path: &str) -> Result<State, ClusterError> {
    let command = Command::script(READ, [path, &LONGEST.to_string()]);
    let output = checked(node, command, &format!("read {path}")).await?;
    parse(&output.stdout)
        .ok_or_else(|| ClusterError::new(format!("what {path} on {} is can't be read", node.id())))
}

fn parse(output: &[u8]) -> Option<State> {
    let end = output.iter().position(|byte| *byte == b'\n')?;
    let head = std::str::from_utf8(&output[..end]).ok()?;
    match *head.split(' ').collect::<Vec<_>>() {
        ["absent"] => Some(State::Absent),
        ["folder"] => Some(State::Folder),
        ["file", mode, user, group] => {
            let (mode, owner) = (mode.to_owned(), format!("{user}:{group}"));
            let bytes = BASE64_STANDARD.encode(&output[end + 1..]);
            Some(State::File(Content { bytes, mode, owner }))
        }
        _ => None,
    }
}

/// The file at a path, which must be one.
pub(super) async fn file(node: &dyn Node, path: &str) -> Result<Content, ClusterError> {
    match read(node, path).await? {
        State::File(content) => Ok(content),
        State::Folder => Err(ClusterError::new(format!("{path} on {} is a folder", node.id()))),
        State::Absent => Err(ClusterError::new(format!("there is no {path} on {}", node.id()))),
    }
}

async fn write(node: &dyn Node, path: &str, state: &State) -> Result<(), ClusterError> {
    let command = match state {
        State::Absent => Command::script(WRITE, [path, "absent"]),
        State::Folder => Command::script(WRITE, [path, "folder"]),
        State::File(content) => {
            let arguments = [path, "file", &content.mode, &content.owner];
            Command::script(WRITE, arguments).stdin(content.bytes()?)
        }
    };
    checked(node, command, &format!("write {path}")).await.map(drop)
}

/// Makes the changes of a record, one after another.
pub(super) async fn change(
    changes: &Value,
    access: &Access,
    issued: Issued,
) -> Result<(), ClusterError> {
    let changes: Vec<Change> = recorded(changes)?;
    issued();
    for Change { on, path, wanted, .. } in &changes {
        write(&**access.node(*on)?, path, wanted).await?;
    }
    Ok(())
}

/// Whether each file of a record is as it is wanted.
pub(super) async fn prove(changes: &Value, access: &Access) -> Result<Proof, ClusterError> {
    let changes: Vec<Change> = recorded(changes)?;
    let mut proofs = Vec::new();
    for Change { on, path, wanted, .. } in &changes {
        let found = read(&**access.node(*on)?, path).await?;
        proofs.push(if found == *wanted {
            Ok(vec![match wanted {
                State::Absent => format!("{path} on {on} is not there"),
                State::Folder => format!("{path} on {on} is a folder, which nobody can read"),
                State::File(_) => format!("{path} on {on} has other content"),
            }])
        } else {
            Err(format!("{path} on {on} is not what was put there"))
        });
    }
    Ok(all(proofs))
}

/// Puts back what was there, the last change first, and reads it back.
pub(super) async fn restore(changes: &Value, access: &Access) -> Result<(), ClusterError> {
    let changes: Vec<Change> = recorded(changes)?;
    let mut restored = Ok(());
    // One that can't be put back keeps none of the others.
    for change in changes.iter().rev() {
        restored = restored.and(put_back(change, access).await);
    }
    restored
}

async fn put_back(change: &Change, access: &Access) -> Result<(), ClusterError> {
    let Change { on, path, was, .. } = change;
    let node = access.node(*on)?;
    if read(&**node, path).await? == *was {
        return Ok(());
    }
    write(&**node, path, was).await?;
    if read(&**node, path).await? == *was {
        return Ok(());
    }
    Err(ClusterError::new(format!("{path} on {on} was changed by another")))
}

impl FileChange {
    async fn plan(&self, on: NodeRef, access: &Access) -> Result<Change, ClusterError> {
        let (node, path) = (access.node(on)?, &self.path);
        let was = read(&**node, path).await?;
        if was == State::Folder {
            return Err(ClusterError::new(format!("{path} on {on} is a folder, not a file")));
        }
        let with = |bytes: &[u8]| match &was {
            State::File(content) => State::File(content.with(bytes)),
            State::Absent | State::Folder => State::File(Content::new(bytes)),
        };
        let wanted = match &self.make {
            Make::Absent => State::Absent,
            Make::Unreadable => State::Folder,
            Make::Content(text) => with(text.as_bytes()),
            Make::CopyOf(other) => with(&file(&**node, other).await?.bytes()?),
        };
        if was == wanted {
            return Err(ClusterError::new(format!("{path} on {on} is like that already")));
        }
        Ok(Change { on, path: path.clone(), was, wanted })
    }
}

impl Primitive for FileChange {
    fn does(&self) -> String {
        let (path, on) = (&self.path, nodes(&self.on));
        match &self.make {
            Make::Absent => format!("remove {path} on {on}"),
            Make::Unreadable => format!("make {path} on {on} unreadable"),
            Make::Content(text) => format!("write {} bytes to {path} on {on}", text.len()),
            Make::CopyOf(other) => format!("copy {other} to {path} on {on}"),
        }
    }

    fn limit(&self) -> Duration {
        in_turn(LIMIT, &self.on)
    }

    fn before<'a>(&'a self, access: &'a Access) -> BoxFuture<'a, Result<Value, ClusterError>> {
        Box::pin(async {
            let mut changes = Vec::new();
            for on in &self.on {
                changes.push(self.plan(*on, access).await?);
            }
            record(&changes)
        })
    }

    fn inject<'a>(
        &'a self,
        before: &'a Value,
        access: &'a Access,
        issued: Issued,
    ) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(change(before, access, issued))
    }

    fn prove<'a>(
        &'a self,
        before: &'a Value,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<Proof, ClusterError>> {
        Box::pin(prove(before, access))
    }

    fn revert<'a>(
        &'a self,
        before: &'a Value,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(restore(before, access))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;
    use std::process::{Command, Stdio};

    use super::*;

    fn sh(script: &str, arguments: &[&str], input: &[u8]) -> Result<Vec<u8>, String> {
        use std::io::Write;
        let mut child = Command::new("sh")
            .args(["-c", script, "sh"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A script that reads nothing may have ended.
        let _ = child.stdin.take().unwrap().write_all(input);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        if output.status.success() { Ok(output.stdout) } else { Err(said) }
    }

    fn state(path: &Path) -> State {
        parse(&sh(READ, &[path.to_str().unwrap(), "100"], b"").unwrap()).unwrap()
    }

    fn put(path: &Path, state: &State) {
        let path = path.to_str().unwrap();
        match state {
            State::Absent => sh(WRITE, &[path, "absent"], b""),
            State::Folder => sh(WRITE, &[path, "folder"], b""),
            State::File(content) => {
                let arguments = [path, "file", &content.mode, &content.owner];
                sh(WRITE, &arguments, &content.bytes().unwrap())
            }
        }
        .unwrap();
    }

    #[test]
    fn each_state_is_reached_from_each_other_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a b");
        std::fs::write(&path, b"\xffold\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let State::File(old) = state(&path) else { panic!("it is a file") };
        assert_eq!((old.mode.as_str(), old.bytes().unwrap()), ("640", b"\xffold\n".to_vec()));
        let old = State::File(old);
        let new = match &old {
            State::File(content) => State::File(content.with(b"")),
            _ => unreachable!(),
        };
        let all = [&old, &State::Absent, &State::Folder, &new];
        for from in all {
            for to in all {
                for wanted in [from, to, to] {
                    put(&path, wanted);
                    assert_eq!(state(&path), *wanted, "from {from:?} to {to:?}");
                }
            }
        }
        put(&path, &old);
        let names: Vec<_> =
            folder.path().read_dir().unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["a b"]);
    }

    #[test]
    fn a_link_is_followed_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&path, "old").unwrap();
        symlink("file", &link).unwrap();
        let was = state(&link);
        put(&link, &State::Absent);
        assert!(!path.exists() && link.is_symlink());
        put(&link, &was);
        assert_eq!(std::fs::read_to_string(&link).unwrap(), "old");
        assert!(link.is_symlink());
    }

    #[test]
    fn what_is_too_long_to_keep_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("long");
        std::fs::write(&path, [b'x'; 101]).unwrap();
        let said = sh(READ, &[path.to_str().unwrap(), "100"], b"").unwrap_err();
        assert_eq!(said, "it has 101 bytes; at most 100 can be kept for the revert\n");
        assert!(sh(READ, &["/nowhere/at/all", "100"], b"").is_err());
    }
}
