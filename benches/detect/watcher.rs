//! Starts observers in the networks of a lab that this process holds, and takes in what they say.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use outage::cluster::Cluster;
use outage::cluster::client::APISERVER_PORT;
use outage::scenario::NodeRef;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;

use crate::Failure;
use crate::observer::{Look, Orders, READY, Seen};

/// From where to which apiserver an observer looks.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    /// The node; nothing: beside the cluster.
    pub from: Option<NodeRef>,
    /// The master whose apiserver is looked at.
    pub to: NodeRef,
}

/// A running observer. It ends with this.
#[derive(Debug)]
pub struct Watcher {
    child: Child,
    input: ChildStdin,
    saw: JoinHandle<Result<Vec<Seen>, Failure>>,
}

impl Watcher {
    /// Starts one, and waits until it has looked.
    pub async fn start(
        cluster: &(dyn Cluster + 'static),
        way: Way,
        look: Look,
    ) -> Result<Self, Failure> {
        let node = |id| cluster.node(id).ok_or_else(|| format!("the cluster has no {id}"));
        let master = node(way.to)?;
        let (room, processes) = lab().ok_or("this process holds no lab")?;
        let process = |name: &str| {
            let found = processes.iter().find(|(of, _)| of == name);
            found.map(|(_, pid)| pid.clone()).ok_or_else(|| format!("{name} has no process"))
        };
        let master_process = process(master.name())?;
        let pki = Path::new("/proc").join(&master_process).join("root/etc/kubernetes/pki");
        let pem = |name: &str| fs::read_to_string(pki.join(name));
        let certificate = pem("apiserver-kubelet-client.crt")?;
        let identity = certificate + &pem("apiserver-kubelet-client.key")?;
        let to = (master.address(), APISERVER_PORT).into();
        let orders = Orders { to, look, ca: pem("ca.crt")?, identity };
        let target = match way.from {
            Some(from) => process(node(from)?.name())?,
            None => room,
        };
        let mut child = Command::new("nsenter")
            .args(["--preserve-credentials", "--user", "--net", "--target", &target])
            .arg(std::env::current_exe()?)
            .arg("--observe")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut input = child.stdin.take().ok_or("no input")?;
        input.write_all((serde_json::to_string(&orders)? + "\n").as_bytes()).await?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        match lines.next_line().await? {
            Some(line) if line == READY => {}
            other => return Err(format!("an observer said {other:?}").into()),
        }
        let saw = tokio::spawn(take(lines));
        Ok(Self { child, input, saw })
    }

    /// Ends it; everything that it saw.
    pub async fn end(mut self) -> Result<Vec<Seen>, Failure> {
        drop(self.input);
        let status = self.child.wait().await?;
        let saw = self.saw.await??;
        if status.success() { Ok(saw) } else { Err(format!("an observer ended: {status}").into()) }
    }
}

async fn take(mut lines: Lines<BufReader<ChildStdout>>) -> Result<Vec<Seen>, Failure> {
    let mut saw = Vec::new();
    while let Some(line) = lines.next_line().await? {
        saw.push(serde_json::from_str(&line)?);
    }
    Ok(saw)
}

/// The first process of the lab that this process holds, and those of its nodes with their names.
fn lab() -> Option<(String, Vec<(String, String)>)> {
    let inits = children("self").into_iter().flat_map(|outer| children(&outer));
    inits.into_iter().find_map(|init| {
        let nodes = children(&init).into_iter().filter_map(|pid| {
            // Other programs of the lab share its root, which has no such file.
            let name = fs::read_to_string(format!("/proc/{pid}/root/etc/hostname")).ok()?;
            Some((name.trim().to_owned(), pid))
        });
        let nodes: Vec<(String, String)> = nodes.collect();
        nodes.iter().any(|(name, _)| name == "master-1").then_some((init, nodes))
    })
}

/// The children of all threads of a process.
fn children(pid: &str) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.map(|thread| fs::read_to_string(thread.path().join("children")));
    let numbers = |list: String| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    lists.flatten().flat_map(numbers).collect()
}
