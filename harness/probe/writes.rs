//! Writes through an apiserver: each creates one small object with a name of its own, on a
//! connection of its own, and is never repeated. Each is begun at its time, whether or not those
//! before it have ended, so that some are under way at any moment. What is acknowledged goes into
//! the ledger, for `written`. Polled.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Request, header};
use http_body_util::Full;
use regex::Regex;
use serde_json::json;
use tokio::sync::OnceCell;

use super::{Look, Observation, Sink, brief, paced, pattern, poll_from, target};
use crate::cluster::ClusterError;
use crate::cluster::client::{Access, Answer, Speech, Vantage};
use crate::cluster::ledger::NAMESPACE;
use crate::scenario::{Tally, Writes};

/// The time from the start of one write to the start of the next.
const PACE: Duration = Duration::from_millis(100);

/// The apiserver gives a write up after this long, as clients ask it to (by itself after 34 s), and
/// says so. Longer than etcd takes to give one up without its quorum, 7 s.
/// <https://github.com/kubernetes/apiserver/blob/v0.34.4/pkg/endpoints/handlers/create.go>
/// <https://github.com/etcd-io/etcd/blob/v3.6.5/server/config/config.go>
const GIVE_UP: &str = "timeout=8s";

/// A write without an answer after this long has failed; it may have been carried out.
const ATTEMPT: Duration = Duration::from_secs(10);

impl Look for Writes {
    fn wanted(&self) -> String {
        let (tally, to) = (self.failed.wanted(self.attempts), target::words(&self.to));
        let error = self.error.as_ref().map(|e| format!(", each with {e}")).unwrap_or_default();
        format!("{tally} writes from {} to {to} failed{error}", self.from)
    }

    fn watch<'a>(
        &'a self,
        access: &'a Access,
        every: Duration,
        sink: Sink<'a>,
    ) -> BoxFuture<'a, Result<Infallible, ClusterError>> {
        Box::pin(async move {
            let error = self.error.as_deref().map(pattern).transpose()?;
            let writer = Writer {
                access,
                from: Vantage::Node(self.from),
                known: OnceCell::new(),
                namespace: OnceCell::new(),
            };
            let observe = || async {
                let to = match target::address(&self.to, access, &writer.known).await? {
                    Ok(to) => to,
                    Err(why) => return Ok(Observation::nothing(why)),
                };
                if let Err(why) = writer.prepare(to).await? {
                    return Ok(Observation::nothing(format!("no namespace to write to: {why}")));
                }
                let answers = writer.write(to, self.attempts).await?;
                Ok(judge(self.failed, error.as_ref(), &answers))
            };
            poll_from(&**access.node(self.from)?, every, sink, observe).await
        })
    }
}

/// Acknowledged, or why not.
type Outcome = Result<(), String>;

struct Writer<'a> {
    access: &'a Access,
    from: Vantage,
    known: OnceCell<SocketAddr>,
    /// Set once the namespace is there.
    namespace: OnceCell<()>,
}

impl Writer<'_> {
    /// Makes the namespace, unless it is there.
    async fn prepare(&self, to: SocketAddr) -> Result<Outcome, ClusterError> {
        if self.namespace.initialized() {
            return Ok(Ok(()));
        }
        let namespace = json!({"metadata": {"name": NAMESPACE}});
        let answer = self.post(to, "/api/v1/namespaces", &namespace).await?;
        let made = match answer {
            Answer::Status { code: 409, .. } => Ok(()),
            answer => outcome(&answer),
        };
        if made.is_ok() {
            // Set by this observer alone.
            let _ = self.namespace.set(());
        }
        Ok(made)
    }

    /// So many writes, and what came of each.
    async fn write(&self, to: SocketAddr, count: u32) -> Result<Vec<Outcome>, ClusterError> {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/configmaps");
        let write = || async {
            let name = self.access.ledger().name();
            let answer = self.post(to, &path, &json!({"metadata": {"name": name}})).await?;
            let outcome = outcome(&answer);
            if outcome.is_ok() {
                self.access.ledger().acknowledged(name);
            }
            Ok(outcome)
        };
        paced(PACE, count, write).await
    }

    async fn post(
        &self,
        to: SocketAddr,
        path: &str,
        object: &serde_json::Value,
    ) -> Result<Answer, ClusterError> {
        let request = Request::post(format!("{path}?{GIVE_UP}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::from(object.to_string()))
            .map_err(|e| ClusterError::caused("make a write", e))?;
        self.access.ask(self.from, to, Speech::Verified, request, ATTEMPT).await
    }
}

/// Only a created object is an acknowledged write.
fn outcome(answer: &Answer) -> Outcome {
    match answer {
        Answer::Status { code: 201, .. } => Ok(()),
        Answer::Status { code, body } => {
            let status = serde_json::from_str::<serde_json::Value>(body).unwrap_or_default();
            let message = status["message"].as_str().unwrap_or(body);
            Err(format!("{code}: {}", brief(message)))
        }
        other => Err(other.to_string()),
    }
}

fn judge(failed: Tally, error: Option<&Regex>, outcomes: &[Outcome]) -> Observation {
    let attempts = u32::try_from(outcomes.len()).unwrap_or(u32::MAX);
    let failures: Vec<&String> =
        outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    let count = u32::try_from(failures.len()).unwrap_or(u32::MAX);
    let unclear = failures.iter().find(|why| error.is_some_and(|error| !error.is_match(why)));
    let holds = failed.accepts(attempts).contains(&count) && unclear.is_none();
    let last = unclear.or(failures.last()).copied();
    Observation { holds, saw: Saw { attempts, count, last }.to_string() }
}

/// The outcomes in words.
struct Saw<'a> {
    attempts: u32,
    count: u32,
    /// A failure's words.
    last: Option<&'a String>,
}

impl fmt::Display for Saw<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "of {} writes {} failed", self.attempts, self.count)?;
        match self.last {
            Some(why) => write!(f, ", one with: {why}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_created_object_is_acknowledged() {
        let status = |code, body: &str| Answer::Status { code, body: body.into() };
        let message = r#"{"kind": "Status", "message": "etcdserver: request timed out"}"#;
        for (answer, expected) in [
            (status(201, "{}"), Ok(())),
            (status(200, "{}"), Err("200: {}")),
            (status(500, message), Err("500: etcdserver: request timed out")),
            (status(503, "busy\nmore"), Err("503: busy")),
            (Answer::TimedOut, Err("no answer in time")),
            (Answer::Refused, Err("connection refused")),
        ] {
            assert_eq!(outcome(&answer), expected.map_err(str::to_owned), "{answer}");
        }
    }

    #[test]
    fn failures_are_counted_and_each_must_be_clear() {
        let fail = |why: &str| Err(why.to_owned());
        let (ok, clear, unclear) = (Ok(()), fail("500: etcdserver: x"), fail("no answer in time"));
        let etcd = Regex::new("etcdserver:").unwrap();
        for (failed, error, outcomes, holds) in [
            (0, None, vec![ok.clone(), ok.clone()], true),
            (0, None, vec![ok.clone(), clear.clone()], false),
            (2, None, vec![clear.clone(), unclear.clone()], true),
            (2, Some(&etcd), vec![clear.clone(), clear.clone()], true),
            (2, Some(&etcd), vec![clear.clone(), unclear.clone()], false),
            (2, Some(&etcd), vec![clear.clone(), ok.clone()], false),
            (1, Some(&etcd), vec![clear.clone(), ok.clone()], true),
        ] {
            let judged = judge(Tally::Count(failed), error, &outcomes);
            assert_eq!(judged.holds, holds, "{}", judged.saw);
        }
        let saw = judge(Tally::Count(2), Some(&etcd), &[unclear, clear]).saw;
        assert_eq!(saw, "of 2 writes 2 failed, one with: no answer in time");
    }
}
