//! HTTPS over the cluster's own sockets: each apiserver is asked by itself, from beside the
//! cluster or from one of its nodes, and what the network answers is data.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::api::{GroupVersionKind, TypeMeta};
use kube::client::{Body, ClientBuilder, ConfigExt};
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::error::DiscoveryError;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls;

use super::awaited::Awaited;
use super::ledger::Ledger;
use super::{Cluster, ClusterError};
use crate::scenario::{Component, NodeRef, Program};

/// The port of every apiserver: kubeadm's default.
pub const APISERVER_PORT: u16 = 6443;

/// How long a connection to an apiserver may take to be accepted.
const CONNECT: Duration = Duration::from_secs(2);

/// A health endpoint's answer is a few kilobytes, `/metrics` a few megabytes.
const LONGEST_ANSWER: usize = 16 << 20;

/// Where a connection starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vantage {
    /// Beside the cluster, on no node.
    Beside,
    /// This node.
    Node(NodeRef),
}

/// How a server is spoken to.
#[derive(Debug, Clone)]
pub enum Speech {
    /// By TLS, its certificate verified against the cluster's CA for the address that is asked, or
    /// for its host's name.
    Verified,
    /// The same, without a certificate of one's own: as nobody, or by a token.
    Unidentified,
    /// By TLS, its certificate not verified: components without a certificate of the cluster's CA
    /// sign their own. Only for a node's own loopback, where nobody else can answer.
    SelfSigned,
    /// By TLS as somebody else, see [`Access::speech`].
    Own(Arc<rustls::ClientConfig>),
    /// Without TLS.
    Plain,
}

/// Who asks, by TLS.
#[derive(Debug, Clone, Copy)]
pub enum Identity<'a> {
    /// The cluster's administrator.
    Administrator,
    /// Whoever a certificate says, with its key, both as PEM.
    Certificate(&'a str, &'a str),
    /// Nobody.
    Nobody,
}

/// What came of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The server answered.
    Status {
        /// The status code.
        code: u16,
        /// The body, as text.
        body: String,
    },
    /// The connection was refused.
    Refused,
    /// No answer came in time.
    TimedOut,
    /// Something else went wrong: a reset connection, a certificate not to be trusted.
    Broken(String),
}

impl Answer {
    /// What a health endpoint says of each check that failed, such as `etcd failed: reason withheld`.
    /// <https://github.com/kubernetes/apiserver/blob/v0.34.4/pkg/server/healthz/healthz.go>
    pub fn failed_checks(&self) -> Vec<&str> {
        let Self::Status { body, .. } = self else { return vec![] };
        body.lines().filter_map(|line| line.strip_prefix("[-]")).collect()
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status { code, .. } => write!(f, "{code}"),
            Self::Refused => write!(f, "connection refused"),
            Self::TimedOut => write!(f, "no answer in time"),
            Self::Broken(why) => write!(f, "{why}"),
        }
    }
}

/// What the API calls a kind, by the `apiVersion` and the `kind` of a manifest.
///
/// # Errors
/// If there can be no such `apiVersion`.
pub fn gvk(api_version: &str, kind: &str) -> Result<GroupVersionKind, ClusterError> {
    let types = TypeMeta { api_version: api_version.to_owned(), kind: kind.to_owned() };
    GroupVersionKind::try_from(&types)
        .map_err(|e| ClusterError::caused(format!("apiVersion {api_version}"), e))
}

/// A cluster with an administrator's credentials: what faults and probes work with.
#[derive(Clone)]
pub struct Access {
    cluster: Arc<dyn Cluster>,
    config: kube::Config,
    tls: Arc<rustls::ClientConfig>,
    /// The same without a certificate of its own.
    unidentified: Arc<rustls::ClientConfig>,
    /// The first without verification.
    trusting: Arc<rustls::ClientConfig>,
    ledger: Arc<Ledger>,
    /// What its waits are for.
    awaited: Awaited,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl Access {
    /// Reads the administrator's kubeconfig.
    ///
    /// # Errors
    /// If the kubeconfig or its certificates can't be used.
    pub async fn new(cluster: Arc<dyn Cluster>) -> Result<Self, ClusterError> {
        let unusable = |error| ClusterError::caused("the administrator's kubeconfig", error);
        let kubeconfig =
            Kubeconfig::from_yaml(cluster.admin_kubeconfig()).map_err(|e| unusable(Box::new(e)))?;
        let mut config =
            kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                .await
                .map_err(|e| unusable(Box::new(e)))?;
        // Nothing may stand between the harness and the one apiserver that is asked, and a 503 is
        // something to see, not to ask again about.
        config.proxy_url = None;
        config.default_retry = false;
        let tls = |config: &kube::Config| {
            let unusable = |e| ClusterError::caused("the administrator's certificates", e);
            config.rustls_client_config().map(Arc::new).map_err(unusable)
        };
        let mut unidentified = config.clone();
        unidentified.auth_info = AuthInfo::default();
        let mut trusting = config.clone();
        trusting.accept_invalid_certs = true;
        Ok(Self {
            tls: tls(&config)?,
            unidentified: tls(&unidentified)?,
            trusting: tls(&trusting)?,
            cluster,
            config,
            ledger: Arc::default(),
            awaited: Awaited::default(),
        })
    }

    /// The same, with its waits among these.
    pub(super) fn awaiting(self, awaited: &Awaited) -> Self {
        Self { awaited: awaited.clone(), ..self }
    }

    /// What its waits are for.
    pub(super) fn awaited(&self) -> &Awaited {
        &self.awaited
    }

    /// What the cluster has acknowledged so far, to whoever works with this access.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The cluster.
    pub fn cluster(&self) -> &(dyn Cluster + 'static) {
        &*self.cluster
    }

    /// A node of the cluster.
    ///
    /// # Errors
    /// If the cluster has no such node.
    pub fn node(&self, id: NodeRef) -> Result<&Arc<dyn super::Node>, ClusterError> {
        self.cluster().node(id).ok_or_else(|| ClusterError::new(format!("the cluster has no {id}")))
    }

    /// The masters, in order.
    pub fn masters(&self) -> impl Iterator<Item = &Arc<dyn super::Node>> {
        self.cluster.nodes().iter().filter(|node| matches!(node.id(), NodeRef::Master(_)))
    }

    /// The address of one master's apiserver.
    ///
    /// # Errors
    /// If the cluster has no such node.
    pub fn apiserver(&self, master: NodeRef) -> Result<SocketAddr, ClusterError> {
        Ok(SocketAddr::new(self.node(master)?.address(), APISERVER_PORT))
    }

    /// Where a program serves its metrics with kubeadm's defaults, from where that can be reached, and
    /// how it is spoken to: an apiserver at its own address, everything else on its node's loopback;
    /// containerd nowhere.
    ///
    /// # Errors
    /// If the cluster has no such node.
    pub fn metrics_of(
        &self,
        program: Program,
        on: NodeRef,
    ) -> Result<Option<(Vantage, SocketAddr, Speech)>, ClusterError> {
        let (port, speech) = match program {
            Program::Component(Component::KubeApiserver) => {
                return Ok(Some((Vantage::Beside, self.apiserver(on)?, Speech::Verified)));
            }
            // The port of clients wants a certificate of another CA.
            Program::Component(Component::Etcd) => (2381, Speech::Plain),
            Program::Component(Component::KubeControllerManager) => (10257, Speech::SelfSigned),
            Program::Component(Component::KubeScheduler) => (10259, Speech::SelfSigned),
            Program::Kubelet => (10250, Speech::SelfSigned),
            Program::KubeProxy => (10249, Speech::Plain),
            Program::Containerd => return Ok(None),
        };
        Ok(Some((Vantage::Node(on), ([127, 0, 0, 1], port).into(), speech)))
    }

    /// How a server is spoken to by TLS as somebody, its certificate verified or not.
    ///
    /// # Errors
    /// If the certificate and its key can't be used, or don't belong together.
    pub fn speech(&self, identity: Identity<'_>, verify: bool) -> Result<Speech, ClusterError> {
        match (identity, verify) {
            (Identity::Administrator, true) => return Ok(Speech::Verified),
            (Identity::Administrator, false) => return Ok(Speech::SelfSigned),
            (Identity::Nobody, true) => return Ok(Speech::Unidentified),
            _ => {}
        }
        let mut config = self.config.clone();
        config.accept_invalid_certs = !verify;
        config.auth_info = AuthInfo::default();
        if let Identity::Certificate(certificate, key) = identity {
            config.auth_info.client_certificate_data = Some(BASE64_STANDARD.encode(certificate));
            config.auth_info.client_key_data = Some(BASE64_STANDARD.encode(key).into());
        }
        let unusable = |e| ClusterError::caused("the certificate of whoever asks", e);
        Ok(Speech::Own(Arc::new(config.rustls_client_config().map_err(unusable)?)))
    }

    /// Opens a TCP connection. Results as in [`super::Node::connect`].
    ///
    /// # Errors
    /// If the harness can't try it.
    pub async fn connect(
        &self,
        from: Vantage,
        to: SocketAddr,
        timeout: Duration,
    ) -> Result<std::io::Result<TcpStream>, ClusterError> {
        match from {
            Vantage::Beside => self.cluster.connect(to, timeout).await,
            Vantage::Node(id) => self.node(id)?.connect(to, timeout).await,
        }
    }

    /// One GET as the administrator, on a connection of its own, with the server's certificate
    /// verified against the cluster's CA for the address that is asked.
    ///
    /// # Errors
    /// Only if the harness can't try it: a refused connection, a time-out and any status are
    /// [`Answer`]s.
    pub async fn get(
        &self,
        from: Vantage,
        to: SocketAddr,
        path: &str,
        limit: Duration,
    ) -> Result<Answer, ClusterError> {
        let request = Request::get(path).body(Full::default());
        let request = request.map_err(|e| ClusterError::caused(format!("ask for {path}"), e))?;
        self.ask(from, to, Speech::Verified, request, limit).await
    }

    /// One request on a connection of its own, by TLS as the administrator or as [`Speech`] says. It
    /// is never repeated.
    ///
    /// # Errors
    /// As [`Access::get`].
    pub async fn ask(
        &self,
        from: Vantage,
        to: SocketAddr,
        speech: Speech,
        request: Request<Full<Bytes>>,
        limit: Duration,
    ) -> Result<Answer, ClusterError> {
        let answer = self.respond(from, to, speech, request, limit).await?;
        Ok(answer.map_or_else(
            |other| other,
            |response| {
                let code = response.status().as_u16();
                Answer::Status { code, body: response.into_body() }
            },
        ))
    }

    /// What time a server tells in its answer to a GET of `/`, whatever else it says; by its own
    /// clock, to the second. The inner error is an answer without a date.
    ///
    /// # Errors
    /// As [`Access::get`].
    pub async fn date(
        &self,
        from: Vantage,
        to: SocketAddr,
        speech: Speech,
        limit: Duration,
    ) -> Result<Result<SystemTime, Answer>, ClusterError> {
        let request = Request::new(Full::default());
        let answer = self.respond(from, to, speech, request, limit).await?;
        Ok(answer.and_then(|response| {
            let date = response.headers().get(http::header::DATE).and_then(|it| it.to_str().ok());
            let date = date.and_then(|date| httpdate::parse_http_date(date).ok());
            date.ok_or_else(|| Answer::Broken("it tells no date".into()))
        }))
    }

    async fn respond(
        &self,
        from: Vantage,
        to: SocketAddr,
        speech: Speech,
        mut request: Request<Full<Bytes>>,
        limit: Duration,
    ) -> Result<Result<Response<String>, Answer>, ClusterError> {
        let host = http::HeaderValue::try_from(to.to_string())
            .map_err(|e| ClusterError::caused(format!("the address {to}"), e))?;
        request.headers_mut().insert(http::header::HOST, host);
        let asking = async {
            let stream = match self.connect(from, to, limit).await? {
                Ok(stream) => stream,
                Err(error) => return Ok(Err(answer_of(&error))),
            };
            let tls = match speech {
                Speech::Plain => return Ok(exchange(stream, request).await),
                Speech::Verified => &self.tls,
                Speech::Unidentified => &self.unidentified,
                Speech::SelfSigned => &self.trusting,
                Speech::Own(ref own) => own,
            };
            let name = match self.cluster.host_name(to.ip()) {
                None => ServerName::IpAddress(to.ip().into()),
                Some(name) => ServerName::try_from(name.to_owned())
                    .map_err(|e| ClusterError::caused(format!("the host name {name}"), e))?,
            };
            match TlsConnector::from(Arc::clone(tls)).connect(name, stream).await {
                Ok(stream) => Ok(exchange(stream, request).await),
                Err(error) => Ok(Err(answer_of(&error))),
            }
        };
        tokio::time::timeout(limit, asking).await.unwrap_or(Ok(Err(Answer::TimedOut)))
    }

    /// A Kubernetes client that asks this master's apiserver and no other, from beside the
    /// cluster. It never retries by itself.
    ///
    /// # Errors
    /// If the cluster has no such node.
    pub fn kube(&self, master: NodeRef) -> Result<kube::Client, ClusterError> {
        let to = self.apiserver(master)?;
        let unusable = |error| ClusterError::caused(format!("a client for {master}"), error);
        let mut config = self.config.clone();
        config.cluster_url = Uri::builder()
            .scheme("https")
            .authority(to.to_string())
            .path_and_query("/")
            .build()
            .map_err(|e| ClusterError::caused(format!("the address of {master}"), e))?;
        let cluster = Arc::clone(&self.cluster);
        let connector = tower::service_fn(move |_: Uri| {
            let cluster = Arc::clone(&cluster);
            async move {
                let answer = cluster.connect(to, CONNECT).await.map_err(std::io::Error::other)?;
                answer.map(TokioIo::new)
            }
        });
        let https = config.rustls_https_connector_with_connector(connector).map_err(unusable)?;
        let service = HyperClient::builder(TokioExecutor::new()).build::<_, Body>(https);
        Ok(ClientBuilder::new(service, config.default_namespace.clone())
            .with_layer(&config.base_uri_layer())
            .build())
    }
}

/// A request and its answer on a connection that stands.
async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Response<String>, Answer>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let broken = |error: &(dyn std::error::Error + 'static)| Answer::Broken(words(error));
    let (mut sender, connection) =
        match hyper::client::conn::http1::handshake(TokioIo::new(stream)).await {
            Ok(made) => made,
            Err(error) => return Err(broken(&error)),
        };
    let answering = async {
        let response = match sender.send_request(request).await {
            Ok(response) => response,
            Err(error) => return Err(broken(&error)),
        };
        let (head, body) = response.into_parts();
        match Limited::new(body, LONGEST_ANSWER).collect().await {
            Ok(body) => {
                let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
                Ok(Response::from_parts(head, body))
            }
            Err(error) => Err(broken(&*error)),
        }
    };
    // The connection does the reading and writing; it ends with the answer at the latest.
    let mut answering = std::pin::pin!(answering);
    tokio::select! {
        answer = &mut answering => answer,
        ended = connection => match ended {
            Ok(()) => answering.await,
            Err(error) => Err(broken(&error)),
        },
    }
}

/// What a failed connection says.
fn answer_of(error: &std::io::Error) -> Answer {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => Answer::Refused,
        std::io::ErrorKind::TimedOut => Answer::TimedOut,
        _ => Answer::Broken(words(error)),
    }
}

/// An error and its causes on one line, none of them twice.
pub fn words(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let told = error.downcast_ref::<kube::Error>().and_then(told);
        // What was told needs no causes.
        next = if told.is_some() { None } else { error.source() };
        let said = told.unwrap_or_else(|| error.to_string());
        if text.is_empty() {
            text = said;
        } else if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
    }
    text
}

/// What the API answered, where the library's own rendering of it is made for its authors.
fn told(error: &kube::Error) -> Option<String> {
    match error {
        kube::Error::Api(status) => {
            let said = [&status.message, &status.reason].map(|text| text.trim());
            let said = said.into_iter().find(|text| !text.is_empty()).unwrap_or("no reason given");
            // An answer that is no status says it itself: `404 page not found`.
            let code = status.code.to_string();
            Some(if said.starts_with(&code) { said.to_owned() } else { format!("{said} ({code})") })
        }
        kube::Error::Discovery(DiscoveryError::MissingKind(kind)) => {
            // GroupVersionKind { group: "apps", version: "v1", kind: "Deployment" }
            let parts: Vec<&str> = kind.split('"').skip(1).step_by(2).collect();
            let [group, version, kind] = parts[..] else { return None };
            let group = if group.is_empty() { String::new() } else { format!("{group}/") };
            Some(format!("the API has no kind {kind} in {group}{version}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn a_refused_connection_is_told_from_other_failures() {
        use std::io::{Error, ErrorKind};
        assert_eq!(answer_of(&Error::from(ErrorKind::ConnectionRefused)), Answer::Refused);
        assert_eq!(answer_of(&Error::from(ErrorKind::TimedOut)), Answer::TimedOut);
        assert!(matches!(answer_of(&Error::from(ErrorKind::ConnectionReset)), Answer::Broken(_)));
    }

    #[test]
    fn causes_are_said_once() {
        let inner = ClusterError::caused("outer", ClusterError::new("inner"));
        assert_eq!(words(&inner), "outer: inner");
        let echo = ClusterError::caused("outer: inner", ClusterError::new("inner"));
        assert_eq!(words(&echo), "outer: inner");
    }

    #[test]
    fn what_the_api_answers_is_said_as_the_api_says_it() {
        let status = |message: &str, reason: &str, code| {
            kube::Error::Api(Status::failure(message, reason).with_code(code).boxed())
        };
        let missing = |group: &str, kind: &str| {
            let kind = GroupVersionKind::gvk(group, "v1", kind);
            kube::Error::Discovery(DiscoveryError::MissingKind(format!("{kind:?}")))
        };
        for (error, wanted) in [
            (status("services \"a\" not found", "NotFound", 404), "services \"a\" not found (404)"),
            (status("404 page not found", "unparsed", 404), "404 page not found"),
            (status("", "Forbidden", 403), "Forbidden (403)"),
            (status("", "", 500), "no reason given (500)"),
            (missing("", "Deployment"), "the API has no kind Deployment in v1"),
            (missing("apps", "Pod"), "the API has no kind Pod in apps/v1"),
        ] {
            assert_eq!(words(&error), wanted);
            let wanted = format!("read it: {wanted}");
            assert_eq!(words(&ClusterError::caused("read it", error)), wanted);
        }
    }
}
