//! A place of its own for the harness, in which everything that it leaves is seen.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use outage::assets::{Cache, DEFAULT_KUBERNETES};

/// From one look at what is awaited to the next.
const PERIOD: Duration = Duration::from_millis(50);
/// For a small cluster to be up.
pub const UP: Duration = Duration::from_mins(3);
/// For everything to be gone.
pub const GONE: Duration = Duration::from_secs(20);

/// The user whom nothing belongs to.
const NOBODY: u32 = 65534;

/// What a test fails with.
pub type Failure = Box<dyn std::error::Error>;

/// A home, a folder for temporary files, a cache with what a cluster needs, and the program.
pub struct World {
    folder: tempfile::TempDir,
    user: Option<u32>,
}

impl World {
    /// For the user who runs the tests: the cache's entries are hard links.
    pub fn new() -> Result<Self, Failure> {
        Self::make(None)
    }

    /// For an ordinary user: everything is a copy of its own, since nobody may link files of
    /// somebody else (`fs.protected_hardlinks`).
    pub fn ordinary() -> Result<Self, Failure> {
        Self::make(Some(NOBODY))
    }

    fn make(user: Option<u32>) -> Result<Self, Failure> {
        let from = Cache::from_env()?.root().to_owned();
        // Beside the cache: hard links don't leave a file system.
        let beside = if user.is_none() { from.as_path() } else { Path::new("/var/tmp") };
        let folder = tempfile::Builder::new().prefix(".host-test-").tempdir_in(beside)?;
        let world = Self { folder, user };
        for name in ["home", "tmp", "cache", "bin"] {
            fs::create_dir(world.path(name))?;
        }
        fs::copy(env!("CARGO_BIN_EXE_outage"), world.path("bin/outage"))?;
        let version = DEFAULT_KUBERNETES;
        for (kind, prefix) in [
            ("kubernetes", version),
            ("images", version),
            ("image-store", version),
            ("etcd", ""),
            ("coredns", ""),
            ("cri-tools", ""),
            ("packages", ""),
        ] {
            let to = world.path("cache").join(kind);
            fs::create_dir(&to)?;
            for entry in fs::read_dir(from.join(kind))? {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                if !name.starts_with('.') && name.starts_with(prefix) {
                    let how = if user.is_none() { "-al" } else { "-a" };
                    done(Command::new("cp").arg(how).arg(entry.path()).arg(&to))?;
                }
            }
        }
        if let Some(user) = user {
            let owner = format!("{user}:{user}");
            done(Command::new("chown").args(["-R", &owner]).arg(world.folder.path()))?;
        }
        Ok(world)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The folders of labs.
    pub fn labs(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path("cache/labs")).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    }

    /// Fails if the harness left something in its home or among temporary files.
    pub fn untouched(&self) -> Result<(), Failure> {
        for name in ["home", "tmp"] {
            let left: Vec<_> = fs::read_dir(self.path(name))?.flatten().map(|e| e.path()).collect();
            if !left.is_empty() {
                return Err(format!("left behind: {left:?}").into());
            }
        }
        Ok(())
    }

    /// Starts `outage up` with one master.
    pub fn up(&self, log: &str) -> Result<Up, Failure> {
        let program = self.path("bin/outage");
        let mut command = match self.user {
            Some(user) => {
                let mut command = Command::new("setpriv");
                let id = user.to_string();
                command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]).arg(program);
                command
            }
            None => Command::new(program),
        };
        let log = self.path(log);
        let output = File::create(&log)?;
        let child = command
            .args(["up", "--masters", "1", "--workers", "0"])
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            .env("OUTAGE_CACHE", self.path("cache"))
            .current_dir(self.path("home"))
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        Ok(Up { child, log })
    }
}

fn done(command: &mut Command) -> Result<(), Failure> {
    let status = command.status()?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}").into()) }
}

/// A running `outage up`.
pub struct Up {
    child: Child,
    log: PathBuf,
}

/// The processes of a lab that a test may kill.
#[derive(Debug, Clone, Copy)]
pub enum Victim {
    /// The program that the user started.
    Harness,
    /// The process that waits for the lab's first one.
    Outer,
    /// The first process of the lab's PID namespace.
    Lab,
    /// The first process of a node.
    Node,
    /// The node's container runtime.
    Containerd,
    /// The node's kubelet.
    Kubelet,
}

impl Up {
    /// Waits until it has said this.
    pub fn says(&mut self, text: &str) -> Result<(), Failure> {
        wait(UP, || {
            let said = self.said();
            if said.contains(text) {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("it ended without saying `{text}`: {status}: {said}"));
            }
            Err(format!("`{text}` wanted, said: {said}"))
        })
    }

    /// What it has said so far.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or_default()
    }

    /// The user namespace of the lab: whoever lives in it belongs to the lab.
    pub fn namespace(&self) -> Result<PathBuf, Failure> {
        let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/user"));
        let found = of(&self.victim(Victim::Outer)?.to_string())?;
        // It starts in the host's.
        if found == of("self")? { Err("the lab has no namespace yet".into()) } else { Ok(found) }
    }

    /// The number of one of its processes, as the host sees it.
    pub fn victim(&self, victim: Victim) -> Result<i32, Failure> {
        let parents = parents();
        let child = |of: i32| {
            let mut all = parents.iter().filter(|(_, parent)| **parent == of);
            all.find(|(pid, _)| stands_in(**pid)).map(|(pid, _)| *pid)
        };
        let outer = || child(self.pid());
        let lab = || outer().and_then(child);
        let node = || lab().and_then(child);
        let service = |of: i32, name: &str| {
            let mut all = parents.iter().filter(|(_, parent)| **parent == of);
            all.find(|(pid, _)| is_called(**pid, name)).map(|(pid, _)| *pid)
        };
        let found = match victim {
            Victim::Harness => Some(self.pid()),
            Victim::Outer => outer(),
            Victim::Lab => lab(),
            Victim::Node => node(),
            Victim::Containerd => node().and_then(|node| service(node, "containerd")),
            Victim::Kubelet => node().and_then(|node| service(node, "kubelet")),
        };
        found.ok_or_else(|| format!("no process {victim:?} under {}", self.pid()).into())
    }

    /// Sends a signal to one of its processes.
    pub fn signal(&self, victim: Victim, signal: Signal) -> Result<(), Failure> {
        Ok(kill(Pid::from_raw(self.victim(victim)?), signal)?)
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> Result<ExitStatus, Failure> {
        let child = &mut self.child;
        wait(GONE, || child.try_wait().ok().flatten().ok_or_else(|| "it still runs".to_owned()))
    }
}

impl Drop for Up {
    /// A failed test leaves nothing running either.
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether this process is one of the first processes.
fn stands_in(pid: i32) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).any(|word| word == outage::cluster::lab::INIT_ARGUMENT.as_bytes())
}

fn is_called(pid: i32, name: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|own| own.trim() == name)
}

/// Each process's parent.
fn parents() -> BTreeMap<i32, i32> {
    let parent = |pid: i32| -> Option<(i32, i32)> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name may hold anything, but is the last thing in parentheses.
        let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?;
        Some((pid, parent.parse().ok()?))
    };
    processes().into_iter().filter_map(parent).collect()
}

fn processes() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Waits until no process lives in this user namespace.
pub fn nobody_in(namespace: &Path) -> Result<(), Failure> {
    wait(GONE, || {
        let lives = |pid: &i32| {
            // A dead one that its parent has not looked at yet runs nothing and holds nothing.
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let dead = stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'));
            let of = fs::read_link(format!("/proc/{pid}/ns/user"));
            !dead && of.is_ok_and(|of| of == namespace)
        };
        let left: Vec<String> = processes()
            .iter()
            .filter(|pid| lives(pid))
            .map(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default())
            .collect();
        if left.is_empty() { Ok(()) } else { Err(format!("still running: {left:?}")) }
    })
}

/// Waits until `look` finds what it looks for.
pub fn wait<T>(limit: Duration, mut look: impl FnMut() -> Result<T, String>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let deadline = Instant::now() + limit;
    runtime.block_on(async {
        loop {
            match look() {
                Ok(found) => return Ok(found),
                Err(seen) if Instant::now() >= deadline => {
                    return Err(format!("not within {limit:?}: {seen}").into());
                }
                Err(_) => tokio::time::sleep(PERIOD).await,
            }
        }
    })
}

/// Whether SIGKILL ended it.
pub fn killed(status: ExitStatus) -> bool {
    status.signal() == Some(Signal::SIGKILL as i32)
}
