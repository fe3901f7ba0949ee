//! The questions of `outage run --step`.

use std::io::{BufRead, IsTerminal, Write};
use std::sync::Arc;

use futures::FutureExt;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{getpgrp, tcsetpgrp};
use tokio::process::Command;
use tokio::sync::oneshot;

use super::program;
use crate::cluster::Cluster;
use crate::run::{Ask, Reply};

const ANSWERS: &str = concat!(
    "  Enter          go on\n",
    "  shell [NODE]   a shell on a node, master-1 if none is named; then asks again\n",
    "  skip           leave this away, and go on with what comes then; the verdict is INVALID\n",
    "  revert         take back what is in place, report and end",
);

/// What an answer asks for.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Reply(Reply),
    Shell(String),
    Unclear,
}

fn answer(line: &str) -> Answer {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        [] | ["go"] => Answer::Reply(Reply::GoOn),
        ["skip"] => Answer::Reply(Reply::Skip),
        ["revert"] => Answer::Reply(Reply::Revert),
        ["shell"] => Answer::Shell("master-1".to_owned()),
        ["shell", node] => Answer::Shell(node.to_owned()),
        _ => Answer::Unclear,
    }
}

/// Asks on the terminal, until the answer is one.
pub(super) fn ask() -> Ask {
    Ask(Arc::new(|next, cluster| asking(next, cluster).boxed()))
}

async fn asking(next: String, cluster: Arc<dyn Cluster>) -> Reply {
    eprintln!("\nnext:\n{next}\n{ANSWERS}");
    loop {
        // Whoever reads the questions may be gone; then there is no answer either.
        let _ = write!(std::io::stderr(), "> ").and_then(|()| std::io::stderr().flush());
        let Some(line) = line().await else {
            eprintln!("no more answers: what is in place is taken back");
            return Reply::Revert;
        };
        match answer(&line) {
            Answer::Reply(reply) => return reply,
            Answer::Shell(node) => shell(&*cluster, &node).await,
            Answer::Unclear => eprintln!("`{}` is none of:\n{ANSWERS}", line.trim()),
        }
    }
}

/// One line of the standard input; nothing at its end. A thread of its own reads it, which nobody waits
/// for when the run is interrupted meanwhile.
async fn line() -> Option<String> {
    let (sender, line) = oneshot::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let read = std::io::stdin().lock().read_line(&mut text);
        // The run may have been interrupted.
        let _ = sender.send(read.ok().filter(|read| *read > 0).map(|_| text));
    });
    line.await.ok().flatten()
}

/// A shell enters the namespaces of a node, which a process with several threads can't.
async fn shell(cluster: &dyn Cluster, node: &str) {
    let entered = async {
        let mut command = Command::new(program().map_err(|failure| failure.message)?);
        command.args(["shell", node, "--provider", cluster.provider()]);
        command.args(["--cluster", &cluster.name()]);
        command.status().await.map_err(|error| error.to_string())
    };
    if let Err(why) = entered.await {
        eprintln!("no shell: {why}");
    }
    take_terminal_back();
}

/// A shell makes itself the terminal's foreground, and can't give it back out of a node's namespaces:
/// there it does not see who had it. Until then nothing can be read here.
fn take_terminal_back() {
    let stdin = std::io::stdin();
    let mut stop = SigSet::empty();
    stop.add(Signal::SIGTTOU);
    // Who takes the terminal from the background is stopped by this signal, unless it is blocked.
    if stdin.is_terminal() && stop.thread_block().is_ok() {
        // Without a terminal to take there is none to read from either, which is seen then.
        let _ = tcsetpgrp(&stdin, getpgrp());
        let _ = stop.thread_unblock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_words() {
        for (line, expected) in [
            ("\n", Answer::Reply(Reply::GoOn)),
            ("skip\n", Answer::Reply(Reply::Skip)),
            (" revert ", Answer::Reply(Reply::Revert)),
            ("shell\n", Answer::Shell("master-1".into())),
            ("shell worker-1\n", Answer::Shell("worker-1".into())),
            ("shell a b\n", Answer::Unclear),
            ("what", Answer::Unclear),
        ] {
            assert_eq!(answer(line), expected, "{line:?}");
        }
    }
}
