//! The harness's end of the socket to a first process: requests, their answers, and the programs
//! that run behind it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::socket::{MsgFlags, Shutdown, shutdown};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::unix::pipe;
use tokio::net::{TcpSocket, TcpStream, UnixDatagram};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::sys;
use super::wire::{NodeSpec, Reply, Request, send};
use crate::cluster::{ClusterError, Command, Output};

/// How long a first process may take to make a socket, however short an attempt to connect may be.
const SOCKET: Duration = Duration::from_secs(10);

/// A connection to a first process. Closing it ends everything behind it.
#[derive(Debug)]
pub(in crate::cluster) struct Link {
    /// Whose first process, for messages.
    name: String,
    /// A socket that keeps message boundaries; tokio knows it by the type that works alike.
    socket: Arc<UnixDatagram>,
    next: AtomicU64,
    waiting: Arc<Waiting>,
    reader: tokio::task::JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Waiting {
    tables: Mutex<Tables>,
    /// Cancelled when the first process is gone, before anybody hears that a program ended by that.
    closed: CancellationToken,
}

#[derive(Debug, Default)]
struct Tables {
    answers: HashMap<u64, oneshot::Sender<Answer>>,
    exits: HashMap<u64, watch::Sender<Option<i32>>>,
    ready: Option<oneshot::Sender<Result<(), String>>>,
}

type Answer = Result<Option<OwnedFd>, String>;

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, reply: Reply, descriptors: Vec<OwnedFd>) {
        let mut tables = self.lock();
        match reply {
            Reply::Ready => {
                if let Some(ready) = tables.ready.take() {
                    let _ = ready.send(Ok(()));
                }
            }
            Reply::Failed { id: 0, why } => {
                if let Some(ready) = tables.ready.take() {
                    let _ = ready.send(Err(why));
                }
            }
            Reply::Started { id, .. } => tables.answer(id, Ok(None)),
            Reply::Socket { id } => tables.answer(id, Ok(descriptors.into_iter().next())),
            Reply::Failed { id, why } => tables.answer(id, Err(why)),
            Reply::Exited { id, code } => {
                if let Some(exit) = tables.exits.remove(&id) {
                    exit.send_replace(Some(code));
                }
            }
        }
    }

    fn close(&self) {
        let mut tables = self.lock();
        self.closed.cancel();
        tables.ready = None;
        tables.answers.clear();
        for (_, exit) in tables.exits.drain() {
            // Killed with its namespace.
            exit.send_replace(Some(137));
        }
    }
}

impl Tables {
    fn answer(&mut self, id: u64, answer: Answer) {
        if answer.is_err() {
            self.exits.remove(&id);
        }
        if let Some(waiting) = self.answers.remove(&id) {
            // Whoever asked may have been dropped.
            let _ = waiting.send(answer);
        }
    }
}

/// A program behind a link. Dropping it leaves the program running.
#[derive(Debug)]
pub(in crate::cluster) struct Program {
    id: u64,
    exit: watch::Receiver<Option<i32>>,
}

impl Program {
    /// Its exit code, when it has ended: 128 + n if signal n ended it.
    pub async fn wait(&self) -> i32 {
        match self.exit.clone().wait_for(Option::is_some).await {
            Ok(code) => code.unwrap_or(137),
            Err(_) => 137,
        }
    }

    /// Whether it has ended.
    pub fn ended(&self) -> bool {
        self.exit.borrow().is_some()
    }
}

impl Link {
    /// Takes over the harness's end of the socket, and waits until the first process has finished
    /// its set-up.
    pub async fn open(name: &str, socket: OwnedFd) -> Result<Self, ClusterError> {
        let broken = |error: std::io::Error| {
            ClusterError::caused(format!("open the control socket of {name}"), error)
        };
        nix::fcntl::fcntl(&socket, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))
            .map_err(|error| broken(error.into()))?;
        let socket = Arc::new(UnixDatagram::from_std(socket.into()).map_err(broken)?);
        let waiting = Arc::new(Waiting::default());
        let (ready, is_ready) = oneshot::channel();
        waiting.lock().ready = Some(ready);
        let reader = tokio::spawn(read_all(Arc::clone(&socket), Arc::clone(&waiting)));
        let link = Self { name: name.to_owned(), socket, next: AtomicU64::new(1), waiting, reader };
        match is_ready.await {
            Ok(Ok(())) => Ok(link),
            Ok(Err(why)) => Err(ClusterError::new(format!("{name} can't be set up: {why}"))),
            Err(_) => Err(ClusterError::new(format!("{name} ended during its set-up"))),
        }
    }

    /// Cancelled when the first process is gone, asked or not. A program that ends by that is told of
    /// later.
    pub fn closed(&self) -> CancellationToken {
        self.waiting.closed.clone()
    }

    /// Ends the first process, and with it everything behind the link.
    pub fn close(&self) {
        // Only fails when it is closed already.
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
    }

    /// Runs a command to its end, or to its time limit; dropping the future kills it.
    pub async fn run(&self, command: Command) -> Result<Output, ClusterError> {
        self.run_reading(command, None).await
    }

    /// The same, with a file as its standard input.
    pub async fn run_reading(
        &self,
        command: Command,
        input: Option<OwnedFd>,
    ) -> Result<Output, ClusterError> {
        let shown = command.argv.first().cloned().unwrap_or_default();
        let fail = |error: std::io::Error| {
            ClusterError::caused(format!("run {shown} on {}", self.name), error)
        };
        let (stdin_tx, stdin_rx) = pipe::pipe().map_err(fail)?;
        let (stdout_tx, mut stdout_rx) = pipe::pipe().map_err(fail)?;
        let (stderr_tx, mut stderr_rx) = pipe::pipe().map_err(fail)?;
        let streams = [
            match input {
                Some(file) => file,
                None => stdin_rx.into_blocking_fd().map_err(fail)?,
            },
            stdout_tx.into_blocking_fd().map_err(fail)?,
            stderr_tx.into_blocking_fd().map_err(fail)?,
        ];
        // Also a request that nobody has answered yet may be carried out.
        let id = self.next_id();
        let mut guard = KillOnDrop { link: self, id: Some(id) };
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let feed = async {
            let mut stdin = stdin_tx;
            if let Some(bytes) = command.stdin {
                // A command that ends without reading its input is its own business.
                let _ = stdin.write_all(&bytes).await;
            }
            drop(stdin);
        };
        let whole = async {
            let program = self.spawn_as(id, command.argv, streams).await?;
            // Programs that it left behind may hold the streams open: its exit is what counts.
            let collect = async {
                tokio::join!(
                    feed,
                    stdout_rx.read_to_end(&mut stdout),
                    stderr_rx.read_to_end(&mut stderr)
                )
            };
            Ok(tokio::select! {
                _ = collect => program.wait().await,
                code = program.wait() => code,
            })
        };
        let late = |_| {
            let (name, limit) = (&self.name, command.timeout);
            ClusterError::new(format!("{shown} on {name} did not end within {limit:?}"))
        };
        let code = tokio::time::timeout(command.timeout, whole).await.map_err(late).flatten()?;
        guard.id = None;
        drain(&stdout_rx, &mut stdout);
        drain(&stderr_rx, &mut stderr);
        Ok(Output { code, stdout, stderr })
    }

    /// Starts a program with these standard streams.
    pub async fn spawn(
        &self,
        argv: Vec<String>,
        streams: [OwnedFd; 3],
    ) -> Result<Program, ClusterError> {
        self.spawn_as(self.next_id(), argv, streams).await
    }

    async fn spawn_as(
        &self,
        id: u64,
        argv: Vec<String>,
        streams: [OwnedFd; 3],
    ) -> Result<Program, ClusterError> {
        let what = format!("start {}", argv.first().map_or("", String::as_str));
        let [stdin, stdout, stderr] = &streams;
        self.start(id, &what, &Request::Spawn { id, argv }, &[stdin, stdout, stderr]).await
    }

    fn next_id(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Boots a node whose first process serves `control`.
    pub async fn power_on(
        &self,
        node: NodeSpec,
        control: OwnedFd,
    ) -> Result<Program, ClusterError> {
        let id = self.next_id();
        let what = format!("boot {}", node.name);
        self.start(id, &what, &Request::PowerOn { id, node }, &[&control]).await
    }

    /// Sends a signal to a program's process group.
    pub fn signal(&self, program: &Program, signal: i32) {
        self.signal_id(program.id, signal);
    }

    /// Opens a TCP connection from the network namespace of the first process.
    pub async fn connect(
        &self,
        to: SocketAddr,
        timeout: Duration,
    ) -> Result<std::io::Result<TcpStream>, ClusterError> {
        let id = self.next_id();
        let (name, limit) = (&self.name, timeout.max(SOCKET));
        let late = |_| ClusterError::new(format!("{name} did not make a socket within {limit:?}"));
        let fd = tokio::time::timeout(limit, self.ask(id, &Request::Socket { id }, &[]))
            .await
            .map_err(late)
            .flatten()?
            .map_err(|why| ClusterError::new(format!("make a socket on {name}: {why}")))?;
        let Some(fd) = fd else {
            return Err(ClusterError::new(format!("{} sent no socket", self.name)));
        };
        let socket = TcpSocket::from_std_stream(std::net::TcpStream::from(fd));
        Ok(match tokio::time::timeout(timeout, socket.connect(to)).await {
            Ok(result) => result,
            Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
        })
    }

    async fn start(
        &self,
        id: u64,
        what: &str,
        request: &Request,
        descriptors: &[&OwnedFd],
    ) -> Result<Program, ClusterError> {
        let (sender, exit) = watch::channel(None);
        self.waiting.lock().exits.insert(id, sender);
        match self.ask(id, request, descriptors).await? {
            Ok(_) => Ok(Program { id, exit }),
            Err(why) => Err(ClusterError::new(format!("{what} on {}: {why}", self.name))),
        }
    }

    async fn ask(
        &self,
        id: u64,
        request: &Request,
        descriptors: &[&OwnedFd],
    ) -> Result<Answer, ClusterError> {
        let gone = || ClusterError::new(format!("{} is gone", self.name));
        let (answer, answered) = oneshot::channel();
        {
            let mut tables = self.waiting.lock();
            if self.waiting.closed.is_cancelled() {
                return Err(gone());
            }
            tables.answers.insert(id, answer);
        }
        let sent = self.socket.async_io(Interest::WRITABLE, || {
            send(self.socket.as_raw_fd(), request, descriptors, MsgFlags::MSG_DONTWAIT)
                .map_err(Into::into)
        });
        if let Err(error) = sent.await {
            self.waiting.lock().answers.remove(&id);
            let context = format!("ask the first process of {}", self.name);
            return Err(ClusterError::caused(context, error));
        }
        answered.await.map_err(|_| gone())
    }

    fn signal_id(&self, id: u64, signal: i32) {
        // If the first process is gone, so is the program.
        let request = Request::Signal { id, signal };
        let _ = send(self.socket.as_raw_fd(), &request, &[], MsgFlags::MSG_DONTWAIT);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.reader.abort();
        self.waiting.close();
    }
}

/// Takes what an ended program has left in a pipe. Not as tokio reads: it may not have heard yet that
/// there is something.
fn drain(pipe: &pipe::Receiver, into: &mut Vec<u8>) {
    /// All that a pipe holds: pipe(7).
    const CAPACITY: usize = 64 * 1024;
    let mut rest = vec![0; CAPACITY];
    if let Ok(length) = nix::unistd::read(pipe, &mut rest) {
        into.extend_from_slice(&rest[..length]);
    }
}

struct KillOnDrop<'a> {
    link: &'a Link,
    id: Option<u64>,
}

impl Drop for KillOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.link.signal_id(id, libc::SIGKILL);
        }
    }
}

async fn read_all(socket: Arc<UnixDatagram>, waiting: Arc<Waiting>) {
    let next =
        || sys::receive(socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT).map_err(std::io::Error::from);
    while let Ok((bytes, descriptors)) = socket.async_io(Interest::READABLE, next).await {
        if bytes.is_empty() {
            break;
        }
        if let Ok(reply) = serde_json::from_slice(&bytes) {
            waiting.take(reply, descriptors);
        }
    }
    waiting.close();
}
