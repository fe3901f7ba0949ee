//! TCP connects from a node, one after another, counted by outcome. Polled.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::OnceCell;

use super::{Concerned, Look, Observation, Sink, poll_from, target};
use crate::cluster::ClusterError;
use crate::cluster::client::{Access, Vantage};
use crate::scenario::{Connect, Tally};

/// How long one connect may take.
const ATTEMPT: Duration = Duration::from_secs(1);

/// An observation in which so many attempts ended neither accepted nor refused can't hold any
/// more; it is not worth a second for each of the rest.
const HOPELESS: u32 = 3;

impl Look for Connect {
    fn wanted(&self) -> String {
        let tally = self.refused.wanted(self.attempts);
        let to = target::words(&self.to);
        format!("{tally} connects from {} to {to} refused, the others accepted", self.from)
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
            let node = access.node(self.from)?;
            poll_from(&**node, every, sink, || observe(self, access, &known)).await
        })
    }
}

async fn observe(
    probe: &Connect,
    access: &Access,
    known: &OnceCell<SocketAddr>,
) -> Result<Observation, ClusterError> {
    let to = match target::address(&probe.to, access, known).await? {
        Ok(to) => to,
        Err(why) => return Ok(Observation::nothing(why)),
    };
    let mut counts = Counts::default();
    while counts.attempts < probe.attempts && counts.lost() < HOPELESS {
        let answer = access.connect(Vantage::Node(probe.from), to, ATTEMPT).await?;
        counts.add(&answer);
    }
    Ok(judge(probe.refused, probe.attempts, &counts))
}

#[derive(Debug, Default)]
struct Counts {
    attempts: u32,
    accepted: u32,
    refused: u32,
    timed_out: u32,
    /// Neither of these, with the last reason.
    other: Option<String>,
}

impl Counts {
    fn add<T>(&mut self, answer: &io::Result<T>) {
        self.attempts += 1;
        match answer {
            Ok(_) => self.accepted += 1,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => self.refused += 1,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => self.timed_out += 1,
            Err(error) => self.other = Some(error.to_string()),
        }
    }

    fn lost(&self) -> u32 {
        self.attempts - self.accepted - self.refused
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "of {} connects {} refused, {} accepted",
            self.attempts, self.refused, self.accepted
        )?;
        if self.timed_out > 0 {
            write!(f, ", {} timed out after {ATTEMPT:?}", self.timed_out)?;
        }
        match &self.other {
            Some(why) => write!(f, ", {} otherwise ({why})", self.lost() - self.timed_out),
            None => Ok(()),
        }
    }
}

/// It holds if the refused are as many as wanted and all others were accepted: that nothing was
/// refused says nothing when nothing came through.
fn judge(refused: Tally, attempts: u32, counts: &Counts) -> Observation {
    let complete = counts.attempts == attempts && counts.lost() == 0;
    let holds = complete && refused.accepts(attempts).contains(&counts.refused);
    Observation { holds, saw: counts.to_string() }
}

#[cfg(test)]
mod tests {
    use io::ErrorKind::{ConnectionRefused, NetworkUnreachable, TimedOut};

    use super::*;

    fn counts(accepted: usize, errors: &[io::ErrorKind]) -> Counts {
        let mut counts = Counts::default();
        (0..accepted).for_each(|_| counts.add(&Ok(())));
        for kind in errors {
            counts.add::<()>(&Err((*kind).into()));
        }
        counts
    }

    #[test]
    fn refused_connects_are_counted_and_lost_ones_never_hold() {
        let none = Tally::Count(0);
        let some = Tally::Share { of: 0.5, false_alarm: 0.05 };
        for (wanted, accepted, errors, holds) in [
            (none, 10, vec![], true),
            (none, 9, vec![ConnectionRefused], false),
            (none, 9, vec![TimedOut], false),
            (none, 9, vec![NetworkUnreachable], false),
            (none, 9, vec![], false), // one is missing
            (Tally::Count(1), 9, vec![ConnectionRefused], true),
            (some, 5, vec![ConnectionRefused; 5], true),
            (some, 10, vec![], false),
            (some, 0, vec![ConnectionRefused; 10], false),
            (some, 4, [vec![ConnectionRefused; 5], vec![TimedOut]].concat(), false),
        ] {
            let judged = judge(wanted, 10, &counts(accepted, &errors));
            assert_eq!(judged.holds, holds, "{wanted:?}: {}", judged.saw);
        }
    }

    #[test]
    fn outcomes_are_told_apart_in_words() {
        let counts = counts(1, &[ConnectionRefused, TimedOut, NetworkUnreachable]);
        assert_eq!(
            counts.to_string(),
            "of 4 connects 1 refused, 1 accepted, 1 timed out after 1s, \
             1 otherwise (network unreachable)"
        );
    }
}
