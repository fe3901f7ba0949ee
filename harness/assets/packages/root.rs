//! A root directory made of unpacked packages.

use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use crate::assets::error::{AssetError, checked, io_error};

/// The top of every distribution that is supported: /usr is merged.
const LINKS: &[(&str, &str)] =
    &[("bin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib64"), ("sbin", "usr/sbin")];
const DIRECTORIES: &[&str] = &[
    "dev",
    "etc",
    "mnt",
    "opt",
    "proc",
    "root",
    "run",
    "sys",
    "tmp",
    "usr/bin",
    "usr/lib",
    "usr/lib64",
    "usr/sbin",
    "var/lib",
    "var/log",
    "var/tmp",
];

/// Only documentation; a third of the size.
const LEFT_OUT: &[&str] = &[
    "--exclude=./usr/share/doc/*",
    "--exclude=./usr/share/man/*",
    "--exclude=./usr/share/info/*",
    "--exclude=./usr/share/locale/*",
    "--exclude=./usr/share/lintian/*",
];

/// What maintainer scripts would have linked: where they may have put it, and to what.
const ALTERNATIVES: &[(&str, &str)] = &[
    ("usr/bin/awk", "mawk"),
    ("usr/bin/sh", "dash"),
    ("usr/sbin/ip6tables", "xtables-nft-multi"),
    ("usr/sbin/ip6tables-restore", "xtables-nft-multi"),
    ("usr/sbin/ip6tables-save", "xtables-nft-multi"),
    ("usr/sbin/iptables", "xtables-nft-multi"),
    ("usr/sbin/iptables-restore", "xtables-nft-multi"),
    ("usr/sbin/iptables-save", "xtables-nft-multi"),
];

/// One user, who is root; names are looked up in the hosts file, then by DNS.
const FILES: &[(&str, &str)] = &[
    ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    ("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n",
    ),
];

/// Makes the directories and links that packages take for granted.
pub(super) fn lay_out(root: &Path) -> Result<(), AssetError> {
    for name in DIRECTORIES {
        let path = root.join(name);
        std::fs::create_dir_all(&path).map_err(io_error("create", &path))?;
    }
    for (name, target) in LINKS {
        let path = root.join(name);
        symlink(target, &path).map_err(io_error("link", &path))?;
    }
    Ok(())
}

/// Unpacks one package: every file is this user's, none is setuid.
pub(super) async fn unpack(package: &Path, root: &Path) -> Result<(), AssetError> {
    let spawn = |command: &mut Command, name: &str| {
        command
            .kill_on_drop(true)
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| AssetError::Spawn { command: name.to_owned(), source })
    };
    let mut reader = spawn(
        Command::new("dpkg-deb").arg("--fsys-tarfile").arg(package).stdout(Stdio::piped()),
        "dpkg-deb",
    )?;
    let broken = io_error("unpack", package);
    let Some(archive) = reader.stdout.take() else {
        return Err(broken(io::ErrorKind::BrokenPipe.into()));
    };
    let archive: Stdio = archive.try_into().map_err(broken)?;
    let writer = spawn(
        Command::new("tar")
            .args(["-x", "--keep-directory-symlink", "--no-same-owner", "--no-same-permissions"])
            .args(LEFT_OUT)
            .arg("-C")
            .arg(root)
            .stdin(archive),
        "tar",
    )?;
    let (read, written) = tokio::try_join!(reader.wait_with_output(), writer.wait_with_output())
        .map_err(io_error("unpack", package))?;
    checked("tar", written)?;
    checked("dpkg-deb", read).map(drop)
}

/// Does what maintainer scripts would do, and looks whether all is there.
pub(super) fn finish(root: &Path, needs: &[&str]) -> Result<(), AssetError> {
    for (name, target) in ALTERNATIVES {
        let path = root.join(name);
        let beside = path.with_file_name(target);
        if beside.symlink_metadata().is_ok() && path.symlink_metadata().is_err() {
            symlink(target, &path).map_err(io_error("link", &path))?;
        }
    }
    for (name, text) in FILES {
        let path = root.join(name);
        std::fs::write(&path, text).map_err(io_error("write", &path))?;
    }
    for name in ["tmp", "var/tmp"] {
        let path = root.join(name);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o1777))
            .map_err(io_error("open up", &path))?;
    }
    for name in needs {
        let path = root.join(name);
        path.metadata().map_err(io_error("find what a node needs:", &path))?;
    }
    Ok(())
}
