//! A health endpoint of one apiserver, asked directly from beside the cluster, on a connection of
//! its own each time. Polled.

use std::convert::Infallible;
use std::time::Duration;

use futures::future::BoxFuture;

use super::{Look, Observation, READ, Sink, poll};
use crate::cluster::ClusterError;
use crate::cluster::client::{Access, Answer, Vantage};
use crate::scenario::{Health, HealthState};

impl Look for Health {
    fn wanted(&self) -> String {
        let state = match self.is {
            HealthState::Ok => "is 200",
            HealthState::Failing => "answers with another status than 200",
            HealthState::Refused => "refuses the connection",
        };
        let check = self.check.as_ref().map(|c| format!(", check {c} failed")).unwrap_or_default();
        format!("{} of {} {state}{check}", self.path, self.apiserver)
    }

    fn watch<'a>(
        &'a self,
        access: &'a Access,
        every: Duration,
        sink: Sink<'a>,
    ) -> BoxFuture<'a, Result<Infallible, ClusterError>> {
        Box::pin(poll(every, sink, move || observe(self, access)))
    }
}

async fn observe(health: &Health, access: &Access) -> Result<Observation, ClusterError> {
    let to = access.apiserver(health.apiserver)?;
    let answer = access.get(Vantage::Beside, to, &health.path, READ).await?;
    Ok(judge(health.is, health.check.as_deref(), &answer))
}

fn judge(is: HealthState, check: Option<&str>, answer: &Answer) -> Observation {
    let names = |line: &str, check: &str| line.split_whitespace().next() == Some(check);
    let fails = |check: &str| answer.failed_checks().iter().any(|line| names(line, check));
    let holds = match (is, answer) {
        (HealthState::Ok, Answer::Status { code, .. }) => *code == 200,
        (HealthState::Failing, Answer::Status { code, .. }) => {
            *code != 200 && check.is_none_or(fails)
        }
        (HealthState::Refused, answer) => *answer == Answer::Refused,
        _ => false,
    };
    let saw = match answer {
        Answer::Status { code, .. } if *code != 200 => match answer.failed_checks() {
            checks if checks.is_empty() => code.to_string(),
            checks => format!("{code}: {}", checks.join(", ")),
        },
        other => other.to_string(),
    };
    Observation { holds, saw }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_is_told_from_the_others() {
        let status = |code| Answer::Status { code, body: String::new() };
        let answers = [
            status(200),
            status(500),
            Answer::Refused,
            Answer::TimedOut,
            Answer::Broken("x".into()),
        ];
        for (is, holds) in [
            (HealthState::Ok, [true, false, false, false, false]),
            (HealthState::Failing, [false, true, false, false, false]),
            (HealthState::Refused, [false, false, true, false, false]),
        ] {
            let judged = answers.each_ref().map(|answer| judge(is, None, answer).holds);
            assert_eq!(judged, holds, "{is:?}");
        }
    }

    #[test]
    fn a_failing_endpoint_names_its_failed_checks() {
        let body = "[+]ping ok\n[-]etcd failed: reason withheld\nreadyz check failed\n".to_owned();
        let answer = Answer::Status { code: 500, body };
        for (check, holds) in [
            (None, true),
            (Some("etcd"), true),
            (Some("etc"), false),
            (Some("ping"), false),
            (Some("etcd-readiness"), false),
        ] {
            let judged = judge(HealthState::Failing, check, &answer);
            assert_eq!(judged.holds, holds, "{check:?}");
            assert_eq!(judged.saw, "500: etcd failed: reason withheld");
        }
        assert!(!judge(HealthState::Failing, Some("etcd"), &Answer::Refused).holds);
    }
}
