//! HTTPS requests from a node, one after another, each on a connection of its own, as the
//! administrator and with the server's certificate verified. Polled.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::OnceCell;

use super::{Concerned, Look, Observation, Sink, poll, target};
use crate::cluster::ClusterError;
use crate::cluster::client::{Access, Answer, Vantage};
use crate::scenario::{Request, Tally};

/// A request without an answer after this long has failed.
const ATTEMPT: Duration = Duration::from_secs(5);

impl Look for Request {
    fn wanted(&self) -> String {
        let tally = self.failed.wanted(self.attempts);
        let to = target::words(&self.to);
        format!("{tally} requests of {} from {} to {to} failed", self.path, self.from)
    }

    fn concerned(&self) -> Vec<Concerned> {
        self.to.concerned()
    }

    fn watch<'a>(
        &'a self,
        access: &'a Access,
        every: Duration,
        sink: Sink<'a>,
    ) -> BoxFuture<'a, Result<Infallible, ClusterError>> {
        Box::pin(async move {
            let known = OnceCell::new();
            poll(every, sink, || observe(self, access, &known)).await
        })
    }
}

async fn observe(
    probe: &Request,
    access: &Access,
    known: &OnceCell<SocketAddr>,
) -> Result<Observation, ClusterError> {
    let to = match target::address(&probe.to, access, known).await? {
        Ok(to) => to,
        Err(why) => return Ok(Observation::nothing(why)),
    };
    let most = *probe.failed.accepts(probe.attempts).end();
    let mut counts = Counts::default();
    // More failures than may be can't hold any more: the rest would cost up to five seconds each.
    while counts.attempts < probe.attempts && counts.failed <= most {
        let from = Vantage::Node(probe.from);
        counts.add(&access.get(from, to, &probe.path, ATTEMPT).await?);
    }
    Ok(judge(probe.failed, probe.attempts, &counts))
}

#[derive(Debug, Default)]
struct Counts {
    attempts: u32,
    failed: u32,
    /// The last failure.
    failure: Option<String>,
    /// The last answer's status.
    status: Option<u16>,
}

impl Counts {
    fn add(&mut self, answer: &Answer) {
        self.attempts += 1;
        match answer {
            Answer::Status { code, .. } if *code < 500 => self.status = Some(*code),
            failure => {
                self.failed += 1;
                self.failure = Some(failure.to_string());
            }
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "of {} requests {} failed", self.attempts, self.failed)?;
        if let Some(why) = &self.failure {
            write!(f, ", the last with: {why}")?;
        }
        match self.status {
            Some(status) => write!(f, "; answered with {status}"),
            None => Ok(()),
        }
    }
}

fn judge(failed: Tally, attempts: u32, counts: &Counts) -> Observation {
    let holds = counts.attempts == attempts && failed.accepts(attempts).contains(&counts.failed);
    Observation { holds, saw: counts.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_answer_and_a_server_error_are_failures_and_a_client_error_is_an_answer() {
        let status = |code| Answer::Status { code, body: String::new() };
        for (answer, fails) in [
            (status(200), false),
            (status(404), false),
            (status(500), true),
            (status(503), true),
            (Answer::Refused, true),
            (Answer::TimedOut, true),
            (Answer::Broken("reset".into()), true),
        ] {
            let mut counts = Counts::default();
            counts.add(&answer);
            assert_eq!(judge(Tally::Count(0), 1, &counts).holds, !fails, "{answer}");
            assert_eq!(judge(Tally::Count(1), 1, &counts).holds, fails, "{answer}");
        }
    }

    #[test]
    fn an_observation_that_was_cut_short_does_not_hold() {
        let mut counts = Counts::default();
        counts.add(&Answer::Status { code: 200, body: String::new() });
        assert!(!judge(Tally::Count(0), 2, &counts).holds);
    }
}
