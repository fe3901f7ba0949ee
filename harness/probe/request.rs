//! HTTPS requests from a node, one after another or at fixed times, each on a connection of its own: as
//! the administrator, as somebody in whose name it asks, by the token of a `ServiceAccount`, by a
//! certificate of a node, or as nobody. Polled.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use futures::future::BoxFuture;
use http_body_util::Full;
use hyper::body::Bytes;
use regex::Regex;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::{Concerned, Look, Observation, Sink, away, brief, paced, pattern, poll_from, target};
use crate::cluster::client::{Access, Answer, Identity, Speech, Vantage, words};
use crate::cluster::holder::{self, Holder};
use crate::cluster::{ClusterError, Command};
use crate::scenario::{Caller, Holding, Method, NodeRef, Request, Tally, User};

impl Look for Request {
    fn wanted(&self) -> String {
        let to = target::words(&self.to);
        let caller = match &self.caller {
            Caller::Administrator => String::new(),
            Caller::User(User { user, .. }) => format!(" as {user}"),
            Caller::ServiceAccount { name, issued_by } => {
                format!(" as the ServiceAccount {name} by a token of {issued_by}")
            }
            Caller::Certificate(Holding { path, on }) => format!(" by {path} of {on}"),
            Caller::Nobody => " as nobody".to_owned(),
        };
        let verified = if self.verify { "" } else { ", whatever its certificate," };
        let pace = self.pace.map(|pace| format!(", one each {pace:?},")).unwrap_or_default();
        let body = self.body.as_ref().map(|body| format!(" and a body that matches {body}"));
        let body = body.unwrap_or_default();
        let what = match self.method {
            Method::Get => self.path.clone(),
            method => format!("{} {}", method.name(), self.path),
        };
        let asked =
            format!("requests{pace} of {what} from {} to {to}{verified}{caller}", self.from);
        match self.failed {
            Tally::Count(0) => {
                format!("all {} {asked} are answered with {}{body}", self.attempts, self.statuses())
            }
            failed => {
                let tally = failed.wanted(self.attempts);
                let error = self.error.as_ref().map(|error| format!(", each with {error}"));
                let (statuses, error) = (self.statuses(), error.unwrap_or_default());
                format!("{tally} {asked} fail{error}: are not answered with {statuses}{body}")
            }
        }
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
            let wanted = Wanted {
                body: self.body.as_deref().map(pattern).transpose()?,
                error: self.error.as_deref().map(pattern).transpose()?,
            };
            let node = access.node(self.from)?;
            poll_from(&**node, every, sink, || observe(self, &wanted, access, &known)).await
        })
    }
}

impl Request {
    /// The statuses that are no failures, in words, and the time in which they must be there.
    fn statuses(&self) -> String {
        let within = match self.timeout {
            Request::TIMEOUT => String::new(),
            timeout => format!(" within {timeout:?}"),
        };
        if self.status.is_empty() {
            return format!("a status below 500{within}");
        }
        let statuses = self.status.iter().map(ToString::to_string).collect::<Vec<_>>();
        format!("{}{within}", statuses.join(" or "))
    }
}

/// What texts must match.
struct Wanted {
    /// That of an answer.
    body: Option<Regex>,
    /// The words of a failure.
    error: Option<Regex>,
}

async fn observe(
    probe: &Request,
    wanted: &Wanted,
    access: &Access,
    known: &OnceCell<SocketAddr>,
) -> Result<Observation, ClusterError> {
    let to = match target::address(&probe.to, access, known).await? {
        Ok(to) => to,
        Err(why) => return Ok(Observation::nothing(why)),
    };
    let (speech, token) = match caller(probe, access).await? {
        Ok(caller) => caller,
        Err(why) => return Ok(Observation::nothing(why)),
    };
    let ask = || async {
        let request = made(probe, token.as_deref())?;
        access.ask(Vantage::Node(probe.from), to, speech.clone(), request, probe.timeout).await
    };
    let mut counts = Counts::default();
    let mut count = |answer: &Answer| {
        counts.add(failure(probe, wanted.body.as_ref(), answer), answer, wanted.error.as_ref());
        counts.failed
    };
    if let Some(pace) = probe.pace {
        for answer in paced(pace, probe.attempts, ask).await? {
            count(&answer);
        }
        return Ok(judge(probe.failed, probe.attempts, &counts));
    }
    let most = *probe.failed.accepts(probe.attempts).end();
    // More failures than may be can't hold any more: the rest would cost up to their time-out each.
    for _ in 0..probe.attempts {
        if count(&ask().await?) > most {
            break;
        }
    }
    Ok(judge(probe.failed, probe.attempts, &counts))
}

/// How whoever asks speaks, and the token that it shows; or why it can't.
async fn caller(
    probe: &Request,
    access: &Access,
) -> Result<Result<(Speech, Option<String>), String>, ClusterError> {
    let speech = |identity| access.speech(identity, probe.verify);
    Ok(match &probe.caller {
        Caller::Administrator | Caller::User(_) => Ok((speech(Identity::Administrator)?, None)),
        Caller::Nobody => Ok((speech(Identity::Nobody)?, None)),
        Caller::ServiceAccount { name, issued_by } => {
            match token(name, *issued_by, access).await? {
                Ok(token) => Ok((speech(Identity::Nobody)?, Some(token))),
                Err(why) => Err(why),
            }
        }
        Caller::Certificate(holding) => match identity(holding, access).await? {
            // A certificate and a key that don't belong together are something to see.
            Ok((certificate, key)) => {
                let speech = speech(Identity::Certificate(&certificate, &key));
                speech.map(|speech| (speech, None)).map_err(|error| words(&error))
            }
            Err(why) => Err(why),
        },
    })
}

/// The certificate and the key that a file of a node holds now, as PEM; or why there are none.
async fn identity(
    Holding { path, on }: &Holding,
    access: &Access,
) -> Result<Result<(String, String), String>, ClusterError> {
    let node = access.node(*on)?;
    if let Some(why) = away(&**node) {
        return Ok(Err(why));
    }
    let read = async |path: &str| {
        let output = node.run(Command::new(["cat", "--", path])).await?;
        Ok::<_, ClusterError>(if output.code == 0 {
            Ok(output.stdout)
        } else {
            Err(brief(&String::from_utf8_lossy(&output.stderr)))
        })
    };
    let unusable = |error: holder::Error| format!("{path} on {on}: {error}");
    let bytes = match read(path).await? {
        Ok(bytes) => bytes,
        Err(why) => return Ok(Err(why)),
    };
    let holder = match Holder::of(&bytes) {
        Ok(holder) => holder,
        Err(error) => return Ok(Err(unusable(error))),
    };
    let beside = match holder.key_beside(path) {
        Some(path) => match read(&path).await? {
            Ok(bytes) => Some(bytes),
            Err(why) => return Ok(Err(why)),
        },
        None => None,
    };
    Ok(holder.identity(beside.as_deref()).map_err(unusable))
}

/// Where the request goes: whatever would change something of the API goes there as a dry run.
/// <https://kubernetes.io/docs/reference/using-api/api-concepts/#dry-run>
fn uri(probe: &Request) -> Cow<'_, str> {
    let path = &probe.path;
    let is_of_api = path.starts_with("/api/") || path.starts_with("/apis/");
    if probe.method == Method::Get || !is_of_api {
        return path.into();
    }
    let and = if path.contains('?') { '&' } else { '?' };
    format!("{path}{and}dryRun=All").into()
}

/// The request, as whoever is to ask.
/// <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#user-impersonation>
fn made(probe: &Request, token: Option<&str>) -> Result<http::Request<Full<Bytes>>, ClusterError> {
    let mut request = http::Request::builder().method(probe.method.name()).uri(&*uri(probe));
    if let Caller::User(User { user, groups }) = &probe.caller {
        request = request.header("Impersonate-User", user);
        for group in groups {
            request = request.header("Impersonate-Group", group);
        }
    }
    if let Some(token) = token {
        request = request.header(http::header::AUTHORIZATION, format!("Bearer {token}"));
    }
    if probe.content.is_some() {
        let of = match probe.method {
            Method::Patch => "application/merge-patch+json",
            _ => "application/json",
        };
        request = request.header(http::header::CONTENT_TYPE, of);
    }
    let content = probe.content.as_ref().map(ToString::to_string).unwrap_or_default();
    let unfit = |e| ClusterError::caused(format!("a request of {}", probe.path), e);
    request.body(Full::from(content)).map_err(unfit)
}

/// A token of a `ServiceAccount`, which this master's apiserver issues; or why there is none.
/// <https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-request-v1/>
async fn token(
    account: &str,
    issued_by: NodeRef,
    access: &Access,
) -> Result<Result<String, String>, ClusterError> {
    let (namespace, name) = account.split_once('/').unwrap_or(("default", account));
    let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token");
    let body = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        // The shortest that is issued.
        "spec": {"expirationSeconds": 600},
    });
    let request = http::Request::post(&path)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(Full::from(body.to_string()));
    let request = request.map_err(|e| ClusterError::caused(format!("a request of {path}"), e))?;
    let at = access.apiserver(issued_by)?;
    let answer =
        access.ask(Vantage::Beside, at, Speech::Verified, request, Request::TIMEOUT).await?;
    let issued = match &answer {
        Answer::Status { code: 201, body } => serde_json::from_str(body).ok(),
        _ => None,
    };
    let token = issued.as_ref().and_then(|issued: &Value| issued["status"]["token"].as_str());
    Ok(token
        .map(str::to_owned)
        .ok_or_else(|| format!("{issued_by} issues no token of {account}: {answer}")))
}

/// Why an answer is none, if it is none.
fn failure(probe: &Request, body: Option<&Regex>, answer: &Answer) -> Option<String> {
    let Answer::Status { code, body: said } = answer else { return Some(answer.to_string()) };
    let expected = match probe.status.as_slice() {
        [] => *code < 500,
        listed => listed.contains(code),
    };
    if !expected {
        return Some(match said_by(said) {
            said if said.is_empty() => code.to_string(),
            said => format!("{code}: {said}"),
        });
    }
    body.is_some_and(|body| !body.is_match(said))
        .then(|| format!("{code} with the body {}", brief(said)))
}

/// The message of a `Status` of the API; any other JSON is not for people.
/// <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/>
fn said_by(body: &str) -> String {
    if !body.trim_start().starts_with('{') {
        return brief(body);
    }
    let status: Option<Value> = serde_json::from_str(body).ok();
    brief(status.as_ref().and_then(|status| status["message"].as_str()).unwrap_or_default())
}

#[derive(Debug, Default)]
struct Counts {
    attempts: u32,
    failed: u32,
    /// The last failure.
    failure: Option<String>,
    /// The first failure with other words than wanted.
    other: Option<String>,
    /// The last answer's status.
    status: Option<u16>,
}

impl Counts {
    fn add(&mut self, failure: Option<String>, answer: &Answer, error: Option<&Regex>) {
        self.attempts += 1;
        match (failure, answer) {
            (Some(why), _) => {
                self.failed += 1;
                if self.other.is_none() && error.is_some_and(|error| !error.is_match(&why)) {
                    self.other = Some(why.clone());
                }
                self.failure = Some(why);
            }
            (None, Answer::Status { code, .. }) => self.status = Some(*code),
            (None, _) => {}
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "of {} requests {} answered as wanted",
            self.attempts,
            self.attempts - self.failed
        )?;
        if let Some(status) = self.status {
            write!(f, ", with {status}")?;
        }
        match (&self.other, &self.failure) {
            (Some(why), _) => write!(f, "; {} failed, one of them with: {why}", self.failed),
            (None, Some(why)) => write!(f, "; {} failed, the last with: {why}", self.failed),
            (None, None) => Ok(()),
        }
    }
}

fn judge(failed: Tally, attempts: u32, counts: &Counts) -> Observation {
    let holds = counts.attempts == attempts
        && failed.accepts(attempts).contains(&counts.failed)
        && counts.other.is_none();
    Observation { holds, saw: counts.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Target;

    fn request(status: &[u16], body: Option<&str>) -> Request {
        Request {
            from: NodeRef::Worker(1),
            to: Target::LoadBalancer,
            path: "/apis".into(),
            method: Method::Get,
            content: None,
            caller: Caller::User(User {
                user: "jane".into(),
                groups: vec!["a".into(), "b".into()],
            }),
            status: status.to_vec(),
            body: body.map(Into::into),
            attempts: 1,
            failed: Tally::Count(0),
            error: None,
            pace: None,
            timeout: Request::TIMEOUT,
            verify: true,
        }
    }

    #[test]
    fn the_statuses_and_the_body_decide_what_is_a_failure() {
        let status = |code, body: &str| Answer::Status { code, body: body.into() };
        let some = Some("\"jane\"");
        for (statuses, body, answer, fails) in [
            (&[][..], None, status(200, ""), false),
            (&[], None, status(404, ""), false),
            (&[], None, status(500, ""), true),
            (&[], None, status(503, ""), true),
            (&[], None, Answer::Refused, true),
            (&[], None, Answer::TimedOut, true),
            (&[], None, Answer::Broken("reset".into()), true),
            (&[200], None, status(200, ""), false),
            (&[200], None, status(404, ""), true),
            (&[200, 403], None, status(403, ""), false),
            (&[503], None, status(503, ""), false),
            (&[503], None, Answer::Refused, true),
            (&[], some, status(200, "{\"user\": \"jane\"}"), false),
            (&[], some, status(200, "{\"user\": \"joe\"}"), true),
            (&[200], some, status(403, "\"jane\""), true),
        ] {
            let body = body.map(|body| pattern(body).unwrap());
            let failure = failure(&request(statuses, None), body.as_ref(), &answer);
            let mut counts = Counts::default();
            counts.add(failure, &answer, None);
            assert_eq!(judge(Tally::Count(0), 1, &counts).holds, !fails, "{statuses:?} {answer}");
            assert_eq!(judge(Tally::Count(1), 1, &counts).holds, fails, "{statuses:?} {answer}");
        }
    }

    #[test]
    fn somebody_else_is_named_in_headers() {
        let made = made(&request(&[], None), None).unwrap();
        assert_eq!(made.headers()["impersonate-user"], "jane");
        let groups = made.headers().get_all("impersonate-group");
        assert_eq!(groups.iter().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn what_would_change_something_is_a_dry_run() {
        let content = json!({"a": 1});
        let asked = |method, path: &str, content: Option<&Value>| {
            let (path, content) = (path.into(), content.cloned());
            made(&Request { path, method, content, ..request(&[], None) }, None).unwrap()
        };
        for (method, path, wanted) in [
            (Method::Get, "/api/v1/pods", "/api/v1/pods"),
            (Method::Post, "/api/v1/pods", "/api/v1/pods?dryRun=All"),
            (Method::Delete, "/apis/a/v1/b?c=d", "/apis/a/v1/b?c=d&dryRun=All"),
            (Method::Post, "/v3/kv/range", "/v3/kv/range"),
        ] {
            let asked = asked(method, path, None);
            assert_eq!(
                (asked.uri().to_string().as_str(), asked.method().as_str()),
                (wanted, method.name())
            );
            assert!(!asked.headers().contains_key("content-type"));
        }
        for (method, of) in
            [(Method::Put, "application/json"), (Method::Patch, "application/merge-patch+json")]
        {
            assert_eq!(asked(method, "/api/v1/pods", Some(&content)).headers()["content-type"], of);
        }
    }

    #[test]
    fn a_token_is_shown_as_such() {
        let nobody = Request { caller: Caller::Nobody, ..request(&[], None) };
        let headers = made(&nobody, Some("t")).unwrap().headers().clone();
        assert_eq!(headers["authorization"], "Bearer t");
        assert!(!headers.contains_key("impersonate-user"));
    }

    #[test]
    fn an_observation_that_was_cut_short_does_not_hold() {
        let mut counts = Counts::default();
        counts.add(None, &Answer::Status { code: 200, body: String::new() }, None);
        assert!(!judge(Tally::Count(0), 2, &counts).holds);
    }

    #[test]
    fn each_failure_has_the_words_that_are_wanted() {
        let status = |code, body: &str| Answer::Status { code, body: body.into() };
        let json = r#"{"kind": "Status", "message": "Unauthorized"}"#;
        let wanted = pattern("^401: Unauthorized").unwrap();
        for (answers, holds) in [
            ([status(401, json), status(401, json)], true),
            ([status(401, json), status(401, "{}")], false),
            ([Answer::Refused, status(401, json)], false),
        ] {
            let mut counts = Counts::default();
            for answer in &answers {
                let failure = failure(&request(&[200], None), None, answer);
                counts.add(failure, answer, Some(&wanted));
            }
            assert_eq!(judge(Tally::Count(2), 2, &counts).holds, holds, "{counts}");
        }
    }
}
