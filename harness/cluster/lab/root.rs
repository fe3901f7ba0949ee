//! File systems and network of the lab and of its nodes, made by their first processes.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{Pid, pivot_root};

use super::layout::{CONTROL, LabPaths, network};
use crate::cluster::agent::wire::NodeSpec;
use crate::cluster::agent::{Doing, SetupError, sys};

const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Builds the control room (a root of its own, with the lab's folder and what nodes are made of
/// under `/outage`) and moves into it. Nothing of the host's file system stays reachable but that.
pub(super) fn enter_control_root(paths: &LabPaths) -> Result<(), SetupError> {
    bind_flags("", "/", MsFlags::MS_REC | MsFlags::MS_PRIVATE)?;
    // The harness made it. Not again, since the lab may be gone already: nobody would remove it.
    let base = format!("{}/control", paths.folder);
    tmpfs(&base, "size=64m")?;
    let target = overlay(&base, &paths.node_root)?;
    pseudo_file_systems(&target, "/dev", "/sys/fs/cgroup")?;
    for (from, to) in
        [(paths.folder.as_str(), CONTROL.lab), (paths.node_root.as_str(), CONTROL.node_root)]
    {
        let to = format!("{target}{to}");
        make_dir(&to)?;
        bind(from, &to)?;
    }
    sys::make_read_only(&format!("{target}{}", CONTROL.node_root))
        .doing(|| "make the nodes' root read-only".into())?;
    let exe = format!("{target}{}", CONTROL.exe);
    File::create(&exe).doing(|| format!("create {exe}"))?;
    bind(&paths.exe, &exe)?;
    // Nodes take their cgroups and devices from here.
    for dir in [CONTROL.cgroup, CONTROL.dev] {
        make_dir(&format!("{target}{dir}"))?;
    }
    recursive_bind("/sys/fs/cgroup", &format!("{target}{}", CONTROL.cgroup))?;
    sys::make_read_only(&format!("{target}{}", CONTROL.cgroup))
        .doing(|| "make the cgroups read-only".into())?;
    recursive_bind(&format!("{target}/dev"), &format!("{target}{}", CONTROL.dev))?;
    enter(&target)
}

/// The network between nodes: a bridge whose address is every node's default route, and where
/// whatever is sent further disappears without an answer.
pub(super) fn control_network() -> Result<(), SetupError> {
    write_file("/proc/sys/net/ipv4/ip_forward", "0")?;
    ip(&network::control_batch())
}

/// Gives a node its disk: memory, kept as long as the lab lives.
pub(super) fn make_disk(node: &NodeSpec) -> Result<(), SetupError> {
    let base = node_folder(node);
    make_dir(&format!("{base}/disk"))?;
    tmpfs(&format!("{base}/disk"), &format!("mode=755,size={}", node.disk))
}

/// Gives a node that has just made its network namespace its end of a cable.
pub(super) fn connect_node(node: &NodeSpec, pid: Pid) -> Result<(), SetupError> {
    ip(&network::cable_batch(node, pid.as_raw()))
}

/// Takes the cable of a node away that lost its power. The kernel does so, too, but when it comes to
/// it (on a busy machine more than 30 s later), and until then the namespace without processes
/// refuses connections in the node's name.
pub(super) fn disconnect_node(pid: Pid) -> Result<(), SetupError> {
    ip(&network::uncable_batch(pid.as_raw()))
}

/// Lays out the node's machine from its disk and moves into it.
pub(super) fn enter_node_root(node: &NodeSpec) -> Result<(), SetupError> {
    ip(&node.network)?;
    batch("nft", &["-f", "-"], &network::node_rules())?;
    for (name, value) in network::SYSCTLS {
        write_file(&format!("/proc/sys/net/{name}"), value)?;
    }
    let base = node_folder(node);
    let target = overlay(&format!("{base}/disk"), CONTROL.node_root)?;
    pseudo_file_systems(&target, CONTROL.dev, CONTROL.cgroup)?;
    let containerd = format!("{target}/var/lib/containerd");
    make_dir(&containerd)?;
    bind(&format!("{base}/containerd"), &containerd)?;
    let pods = format!("{target}/var/log/pods");
    make_dir(&pods)?;
    bind(&format!("{base}/pods"), &pods)?;
    let binaries = format!("{target}/usr/local/bin");
    make_dir(&binaries)?;
    bind(&format!("{}/bin", CONTROL.lab), &binaries)?;
    sys::make_read_only(&binaries).doing(|| "make the binaries read-only".into())?;
    bind(CONTROL.exe, &format!("{binaries}/outage-runc"))?;
    write_file(
        &format!("{target}/etc/hosts"),
        &format!("127.0.0.1 localhost\n{} {}\n", network::address(node.number), node.name),
    )?;
    write_file(
        &format!("{target}/etc/resolv.conf"),
        &format!("nameserver {}\n", network::GATEWAY),
    )?;
    write_file(&format!("{target}/etc/hostname"), &format!("{}\n", node.name))?;
    // One machine-id a node, kept over power cycles.
    let id = format!("{:032x}", 0x6f75_7461_6765_u128 << 64 | u128::from(node.number));
    write_file(&format!("{target}/etc/machine-id"), &format!("{id}\n"))?;
    enter(&target)?;
    // The kubelet and containerd hand mounts on to pods.
    bind_flags("", "/", MsFlags::MS_REC | MsFlags::MS_SHARED)
}

fn node_folder(node: &NodeSpec) -> String {
    format!("{}/nodes/{}", CONTROL.lab, node.name)
}

/// A root over the shared read-only one, with its changes in `base`.
fn overlay(base: &str, lower: &str) -> Result<String, SetupError> {
    let target = format!("{base}/root");
    for dir in ["upper", "work", "root"] {
        make_dir(&format!("{base}/{dir}"))?;
    }
    let options = format!("lowerdir={lower},upperdir={base}/upper,workdir={base}/work,userxattr");
    mount(Some("overlay"), target.as_str(), Some("overlay"), MsFlags::empty(), Some(&*options))
        .doing(|| format!("mount an overlay ({options})"))?;
    Ok(target)
}

fn pseudo_file_systems(target: &str, dev: &str, cgroup: &str) -> Result<(), SetupError> {
    let nosuid = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    for (kind, at, flags, options) in [
        ("proc", "/proc", nosuid, ""),
        ("sysfs", "/sys", nosuid, ""),
        ("tmpfs", "/dev", MsFlags::MS_NOSUID, "mode=755,size=1m"),
        ("tmpfs", "/run", MsFlags::MS_NOSUID | MsFlags::MS_NODEV, "mode=755"),
        ("tmpfs", "/tmp", MsFlags::MS_NOSUID | MsFlags::MS_NODEV, "mode=1777"),
    ] {
        let at = format!("{target}{at}");
        make_dir(&at)?;
        mount(Some(kind), at.as_str(), Some(kind), flags, Some(options))
            .doing(|| format!("mount {kind} on {at}"))?;
    }
    // Settings of the kernel that no namespace holds are the host's.
    let sysctls = format!("{target}/proc/sys");
    bind(&sysctls, &sysctls)?;
    sys::make_read_only(&sysctls).doing(|| "make /proc/sys read-only".into())?;
    // By the mount, not by the file system, or privileged pods could not mount their own.
    sys::make_read_only(&format!("{target}/sys")).doing(|| "make /sys read-only".into())?;
    let net = format!("{target}/proc/sys/net");
    bind_flags("/proc/sys/net", &net, MsFlags::MS_BIND)?;
    recursive_bind(cgroup, &format!("{target}/sys/fs/cgroup"))?;
    sys::make_read_only(&format!("{target}/sys/fs/cgroup"))
        .doing(|| "make the cgroups read-only".into())?;
    for device in DEVICES {
        let at = format!("{target}/dev/{device}");
        File::create(&at).doing(|| format!("create {at}"))?;
        bind(&format!("{dev}/{device}"), &at)?;
    }
    for (link, to) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        std::os::unix::fs::symlink(to, format!("{target}/dev/{link}"))
            .doing(|| format!("link /dev/{link}"))?;
    }
    for (kind, at, options) in [
        ("devpts", "/dev/pts", "newinstance,ptmxmode=0666,mode=620"),
        ("tmpfs", "/dev/shm", "mode=1777"),
    ] {
        let at = format!("{target}{at}");
        make_dir(&at)?;
        mount(Some(kind), at.as_str(), Some(kind), MsFlags::MS_NOSUID, Some(options))
            .doing(|| format!("mount {kind} on {at}"))?;
    }
    Ok(())
}

/// Makes `target` the root and lets go of the old one.
fn enter(target: &str) -> Result<(), SetupError> {
    std::env::set_current_dir(target).doing(|| format!("enter {target}"))?;
    pivot_root(".", ".").doing(|| format!("make {target} the root"))?;
    umount2(".", MntFlags::MNT_DETACH).doing(|| "let go of the old root".into())?;
    std::env::set_current_dir("/").doing(|| "enter the new root".into())
}

fn tmpfs(at: &str, options: &str) -> Result<(), SetupError> {
    mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), Some(options))
        .doing(|| format!("mount a tmpfs on {at}"))
}

fn bind(from: &str, to: &str) -> Result<(), SetupError> {
    bind_flags(from, to, MsFlags::MS_BIND)
}

fn recursive_bind(from: &str, to: &str) -> Result<(), SetupError> {
    bind_flags(from, to, MsFlags::MS_BIND | MsFlags::MS_REC)
}

fn bind_flags(from: &str, to: &str, flags: MsFlags) -> Result<(), SetupError> {
    mount(Some(from), to, None::<&str>, flags, None::<&str>)
        .doing(|| format!("mount {from} on {to} ({flags:?})"))
}

fn make_dir(path: &str) -> Result<(), SetupError> {
    fs::create_dir_all(Path::new(path)).doing(|| format!("create {path}"))
}

fn write_file(path: &str, text: &str) -> Result<(), SetupError> {
    fs::write(path, text).doing(|| format!("write {path}"))
}

/// Runs lines of `ip -batch` in this network namespace.
fn ip(lines: &str) -> Result<(), SetupError> {
    batch("ip", &["-batch", "-"], lines)
}

/// Runs a program of the packages that reads what to do from its standard input.
fn batch(program: &str, args: &[&str], lines: &str) -> Result<(), SetupError> {
    let mut child = Command::new(format!("/usr/sbin/{program}"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .doing(|| format!("start {program}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(lines.as_bytes()).doing(|| format!("write to {program}"))?;
    }
    let output = child.wait_with_output().doing(|| format!("wait for {program}"))?;
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(SetupError(format!("{program}: {}", why.trim())))
}
