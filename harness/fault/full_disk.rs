//! The disk of a master's etcd is full until the revert: not a byte more can be written.
//!
//! A node's own disk can't be filled, as on some providers it is the host's. So etcd's data move to a
//! file system of their own in memory, which has no room but for them and a file that fills the rest.
//! The kubelet is frozen meanwhile, or it would start etcd in between.
//!
//! What else it changes: etcd's process is killed and comes back by its kubelet, after the back-off if
//! it dies again, as it does as soon as it saves a snapshot or its database has to grow (the file of its
//! log has room for 64 MB). Taken back, it is killed once more, and its data move to where they were, with
//! what was written meanwhile. A node that loses its power before loses that.

use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::Value;

use super::process::{FREEZE, RETURN_FROM_BACK_OFF, alive, checked, pattern, until};
use super::serving;
use super::{Issued, Primitive, Proof, all, each, nodes, record};
use crate::cluster::client::Access;
use crate::cluster::{ClusterError, Command};
use crate::scenario::{Component, FullDisk, NodeRef, Program};

/// For the data to be copied, 100 MiB and more of them.
const MOVE: Duration = Duration::from_mins(2);

const ETCD: Program = Program::Component(Component::Etcd);

/// Where kubeadm has etcd's data.
const DATA: &str = "/var/lib/etcd";

/// Where the small file system is.
const SMALL: &str = "/run/outage-full-disk";

/// Freezes the kubelet ($3), ends etcd ($4), moves its data ($1) into a file system ($2) just as large,
/// and fills that. What etcd has allocated for later goes first: it would make it anew at its start,
/// and there would be room in between. No file has holes after it, as `cp` makes them of pages of zeros:
/// etcd maps its database, and to read a hole takes a page of such a file system (SIGBUS if it has none).
const FILL: &str = r#"
set -eu
freeze "$3"
pkill -KILL -f "$4" || true
while pgrep -f "$4" >/dev/null; do sleep 0.02; done
rm -f "$1"/member/wal/*.tmp
mkdir -p "$2"
mount -t tmpfs -o mode=700,size=$(($(du -sk --apparent-size "$1" | cut -f 1) + 1024))k outage "$2"
cp -a --sparse=never "$1"/. "$2"
mount --bind "$2" "$1"
: >"$2"/ballast
dd if=/dev/zero of="$2"/ballast bs=4k 2>/dev/null || true
pkill -CONT -f "$3"
"#;

/// Moves the data back, if that is where they are, whatever was done of it before. What fills the disk
/// is there as soon as etcd may have written to it.
const EMPTY: &str = r#"
set -eu
freeze "$3" || true
if mountpoint -q "$2"; then
    pkill -KILL -f "$4" || true
    while pgrep -f "$4" >/dev/null; do sleep 0.02; done
    if mountpoint -q "$1"; then umount "$1"; fi
    if [ -e "$2"/ballast ]; then
        rm -rf "$1"/member.outage
        cp -a "$2"/member "$1"/member.outage
        rm -rf "$1"/member
        mv "$1"/member.outage "$1"/member
    fi
    umount "$2"
fi
if [ -d "$2" ]; then rmdir "$2"; fi
pkill -CONT -f "$3"
"#;

/// Says why the disk of the data ($1, $2) is not full; nothing if it is. etcd gives the rest of its log
/// back for some milliseconds when it starts, so room counts only if it is still there a second later.
const LOOK: &str = r#"
mountpoint -q "$1" && mountpoint -q "$2" || { echo "it is as large as ever"; exit; }
for _ in 1 2 3 4 5 6; do
    said=$(dd if=/dev/zero of="$2"/more bs=4k count=1 2>&1) && said="there is room"
    rm -f "$2"/more
    [ "$said" = "there is room" ] || break
    sleep 0.2
done
case $said in *"No space left on device"*) ;; *) echo "$said" ;; esac
"#;

fn script(text: &str) -> Command {
    let arguments = [DATA.to_owned(), SMALL.to_owned(), pattern("kubelet"), pattern(ETCD.name())];
    Command::script(&format!("{FREEZE}{text}"), arguments).timeout(MOVE)
}

async fn fill(on: NodeRef, access: &Access) -> Result<(), ClusterError> {
    checked(&**access.node(on)?, script(FILL), "fill the disk").await.map(drop)
}

async fn look(on: NodeRef, access: &Access) -> Result<Proof, ClusterError> {
    let said = checked(&**access.node(on)?, script(LOOK), "look at the disk").await?.text();
    Ok(match said.as_str() {
        "" => Ok(vec![format!("the disk of etcd on {on}: no space left on device")]),
        why => Err(format!("the disk of etcd on {on}: {why}")),
    })
}

async fn empty(on: NodeRef, access: &Access) -> Result<(), ClusterError> {
    let node = access.node(on)?;
    if !node.powered() {
        return Ok(()); // What was in memory went with the power.
    }
    checked(&**node, script(EMPTY), "give the disk back").await?;
    until(RETURN_FROM_BACK_OFF, || serving::missing(ETCD, on, access)).await
}

impl Primitive for FullDisk {
    fn does(&self) -> String {
        format!("fill the disk of etcd on {}", nodes(&self.on))
    }

    fn limit(&self) -> Duration {
        MOVE + RETURN_FROM_BACK_OFF
    }

    fn before<'a>(&'a self, access: &'a Access) -> BoxFuture<'a, Result<Value, ClusterError>> {
        Box::pin(async {
            for on in &self.on {
                let node = access.node(*on)?;
                for program in [Program::Kubelet, ETCD] {
                    alive(&**node, program.name()).await?;
                }
                if look(*on, access).await?.is_ok() {
                    let context = format!("the disk of etcd on {on} is full already");
                    return Err(ClusterError::new(context));
                }
            }
            record(&())
        })
    }

    fn inject<'a>(
        &'a self,
        _before: &'a Value,
        access: &'a Access,
        issued: Issued,
    ) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(async {
            issued();
            each(self.on.iter().map(|on| fill(*on, access))).await.map(drop)
        })
    }

    fn prove<'a>(
        &'a self,
        _before: &'a Value,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<Proof, ClusterError>> {
        Box::pin(async { Ok(all(each(self.on.iter().map(|on| look(*on, access))).await?)) })
    }

    fn revert<'a>(
        &'a self,
        _before: &'a Value,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(async { each(self.on.iter().map(|on| empty(*on, access))).await.map(drop) })
    }
}
