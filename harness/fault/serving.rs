//! Whether a program of a node does its work, seen from outside: who asks it gets an answer.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Proof;
use super::process::running;
use crate::cluster::client::{APISERVER_PORT, Access, Answer, Vantage};
use crate::cluster::{ClusterError, Command};
use crate::scenario::{Component, NodeRef, Program};

/// The kubelet's own port, on every address of a node.
pub(super) const KUBELET_PORT: u16 = 10250;

/// How long one look at a port may take, for the connection and again for the answer.
pub(super) const LOOK: Duration = Duration::from_secs(2);

/// Asks containerd by its socket, as the kubelet does.
const VERSION: &str = "timeout 2 ctr --connect-timeout 1s version >/dev/null 2>&1";

/// What came of asking a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    /// It answered, if only that it does not understand.
    Answers,
    /// The connection was accepted, by the kernel at least, and no answer came.
    Silent,
    /// The connection was refused.
    Refused,
    /// Nothing came back at all.
    Unanswered,
    /// Nobody on the network has the address any more.
    NoRoute,
    /// Something else.
    Broken(String),
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answers => write!(f, "it answers"),
            Self::Silent => write!(f, "it accepts connections and does not answer"),
            Self::Refused => write!(f, "connection refused"),
            Self::Unanswered => write!(f, "connection timed out"),
            Self::NoRoute => write!(f, "no route to host"),
            Self::Broken(why) => write!(f, "{why}"),
        }
    }
}

impl Reply {
    /// Whether no packet seems to arrive, or none to come back. On a network without routers a
    /// peer that does not even tell its hardware address is "no route to host" after a while.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self, Self::Unanswered | Self::NoRoute)
    }

    pub(super) fn of_connect(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::TimedOut => Self::Unanswered,
            io::ErrorKind::HostUnreachable => Self::NoRoute,
            _ => Self::Broken(error.to_string()),
        }
    }
}

/// The ports on which a program serves with kubeadm's defaults, the one that is asked first.
pub(super) fn ports(program: Program) -> &'static [u16] {
    match program {
        Program::Component(Component::KubeApiserver) => &[APISERVER_PORT],
        Program::Component(Component::Etcd) => &[2379, 2380],
        Program::Component(Component::KubeControllerManager) => &[10257],
        Program::Component(Component::KubeScheduler) => &[10259],
        Program::Kubelet => &[KUBELET_PORT],
        Program::KubeProxy => &[10256],
        Program::Containerd => &[],
    }
}

/// Where a program is asked, and from where that can be done: what listens on the node's loopback
/// address alone answers there only.
fn place(
    program: Program,
    on: NodeRef,
    access: &Access,
) -> Result<Option<(Vantage, SocketAddr)>, ClusterError> {
    let Some(port) = ports(program).first() else { return Ok(None) };
    let inside =
        [Component::KubeControllerManager, Component::KubeScheduler].map(Program::Component);
    Ok(Some(if inside.contains(&program) {
        (Vantage::Node(on), ([127, 0, 0, 1], *port).into())
    } else {
        (Vantage::Beside, (access.node(on)?.address(), *port).into())
    }))
}

/// Asks a program of a node; where, in words, and what came of it. containerd is asked by its
/// socket.
pub(super) async fn ask(
    program: Program,
    on: NodeRef,
    access: &Access,
) -> Result<(String, Reply), ClusterError> {
    if let Some((from, at)) = place(program, on, access)? {
        return Ok((at.to_string(), ask_at(from, at, access).await?));
    }
    let asked = access.node(on)?.run(Command::new(["sh", "-c", VERSION])).await?;
    let reply = match asked.code {
        0 => Reply::Answers,
        // timeout(1) says so, or ctr gave up first.
        _ if running(&**access.node(on)?, program.name()).await?.is_empty() => Reply::Refused,
        _ => Reply::Silent,
    };
    Ok((format!("the socket of containerd on {on}"), reply))
}

/// Opens a connection, and says something that no server leaves without an answer: one that wants
/// TLS says so in plain text or hangs up.
pub(super) async fn ask_at(
    from: Vantage,
    at: SocketAddr,
    access: &Access,
) -> Result<Reply, ClusterError> {
    let mut stream = match access.connect(from, at, LOOK).await? {
        Ok(stream) => stream,
        Err(error) => return Ok(Reply::of_connect(&error)),
    };
    let talk = async {
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
        stream.read(&mut [0; 64]).await
    };
    Ok(match tokio::time::timeout(LOOK, talk).await {
        Ok(Ok(_)) => Reply::Answers,
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => Reply::Answers,
        Ok(Err(error)) => Reply::Broken(error.to_string()),
        Err(_) => Reply::Silent,
    })
}

/// Why a program does not run and answer; nothing if it does.
pub(super) async fn missing(
    program: Program,
    on: NodeRef,
    access: &Access,
) -> Result<Option<String>, ClusterError> {
    let what = program.name();
    if running(&**access.node(on)?, what).await?.is_empty() {
        return Ok(Some(format!("no {what} runs on {on}")));
    }
    let (at, reply) = ask(program, on, access).await?;
    Ok((reply != Reply::Answers).then(|| format!("{what} on {on}, asked at {at}: {reply}")))
}

/// The control path of a fault that hits one program: another one on its node still answers.
pub(super) async fn beside(
    program: Program,
    on: NodeRef,
    access: &Access,
) -> Result<Result<String, String>, ClusterError> {
    one_answers(others(program), on, access).await
}

/// Programs beside this one that every node has, in the order in which they are asked: another fault
/// may have stopped the kubelet.
pub(super) fn others(program: Program) -> &'static [Program] {
    match program {
        Program::Kubelet => &[Program::KubeProxy],
        Program::KubeProxy => &[Program::Kubelet],
        _ => &[Program::Kubelet, Program::KubeProxy],
    }
}

/// Whether one of several programs answers, as a control path: in words, or why the last does not.
pub(super) async fn one_answers(
    others: &[Program],
    on: NodeRef,
    access: &Access,
) -> Result<Result<String, String>, ClusterError> {
    let mut last = format!("nothing else runs on {on}");
    for other in others {
        let what = other.name();
        match ask(*other, on, access).await? {
            (at, Reply::Answers) => return Ok(Ok(format!("{what} beside it answers at {at}"))),
            (at, reply) => last = format!("{what} beside it, asked at {at}: {reply}"),
        }
    }
    Ok(Err(last))
}

/// The control path of a fault that hits whole nodes: the kubelet of another still answers. Nothing
/// if all are hit.
pub(super) async fn elsewhere(hit: &[NodeRef], access: &Access) -> Result<Proof, ClusterError> {
    let nodes = access.cluster().nodes().iter();
    let mut last = Ok(vec![]);
    // Another fault may have stopped one.
    for other in nodes.filter(|node| !hit.contains(&node.id()) && node.powered()) {
        let (at, reply) = ask(Program::Kubelet, other.id(), access).await?;
        let said = format!("the kubelet of {}", other.id());
        if reply == Reply::Answers {
            return Ok(Ok(vec![format!("{said} answers at {at}")]));
        }
        last = Err(format!("{said}, asked at {at}: {reply}"));
    }
    Ok(last)
}

/// What a master's apiserver says of its readiness.
pub(super) async fn ready(on: NodeRef, access: &Access) -> Result<Answer, ClusterError> {
    access.get(Vantage::Beside, access.apiserver(on)?, "/readyz", LOOK).await
}

/// The names of the checks that fail, if the answer has any.
fn failing(answer: &Answer) -> String {
    let checks = answer.failed_checks().into_iter().filter_map(|line| line.split(' ').next());
    match checks.collect::<Vec<_>>().as_slice() {
        [] => String::new(),
        checks => format!(", failing: {}", checks.join(", ")),
    }
}

/// Why a component that runs can't do its work yet. An apiserver says so itself.
pub(super) async fn unready(
    component: Component,
    on: NodeRef,
    access: &Access,
) -> Result<Option<String>, ClusterError> {
    if component != Component::KubeApiserver {
        return Ok(None);
    }
    Ok(match ready(on, access).await? {
        Answer::Status { code: 200, .. } => None,
        other => Some(format!("/readyz of {on} is not 200 but: {other}{}", failing(&other))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_is_told_from_what_is_refused() {
        let reply = |code| Reply::of_connect(&io::Error::from_raw_os_error(code));
        assert!(reply(libc::ETIMEDOUT).is_lost());
        assert!(reply(libc::EHOSTUNREACH).is_lost());
        assert_eq!(reply(libc::ECONNREFUSED), Reply::Refused);
        assert!(!reply(libc::ECONNREFUSED).is_lost());
        assert!(!reply(libc::ENETUNREACH).is_lost());
    }
}
