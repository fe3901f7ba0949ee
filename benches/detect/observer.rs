//! The independent observer: a process of its own in a network namespace of the lab, that looks at
//! one thing every 10 ms by sockets and requests of its own. A look does not wait for the one
//! before it, so that a silent server is looked at as often as one that answers; but an apiserver
//! that is only slow is not buried under looks: of those at its objects few may be under way.

use std::io::{BufRead, Read};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use reqwest::{Certificate, Client, Identity};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::MissedTickBehavior;

use crate::Failure;

/// From the start of one look to the start of the next.
pub const PERIOD: Duration = Duration::from_millis(10);

/// Said after the first look.
pub const READY: &str = "ready";

/// After so long a look has no answer: what the probe `request` takes for a failure.
const LIMIT: Duration = Duration::from_secs(5);

/// Looks under way at most: all of [`LIMIT`] where silence is looked for, few elsewhere.
fn most(look: &Look) -> usize {
    match look {
        Look::Refused | Look::Failed(_) => 500,
        Look::Says(..) | Look::Lacks(..) => 4,
    }
}

/// What an observer is told, on its standard input.
#[derive(Debug, Serialize, Deserialize)]
pub struct Orders {
    /// Where to look.
    pub to: SocketAddr,
    /// What for.
    pub look: Look,
    /// The cluster's CA, as PEM.
    pub ca: String,
    /// An administrator's certificate and key, as PEM.
    pub identity: String,
}

/// What is looked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Look {
    /// A TCP connection is refused.
    Refused,
    /// A GET of this path fails, or has no answer in time.
    Failed(String),
    /// A GET of this path has this status, and this text in its answer.
    Says(String, u16, String),
    /// A GET of each of these paths has an answer, and none has this text in it.
    Lacks(Vec<String>, String),
}

/// One look that saw what was looked for; times in nanoseconds of the monotonic clock.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Seen {
    /// When the look before it began.
    pub previous: u64,
    /// When it began.
    pub began: u64,
    /// When its result was known.
    pub ended: u64,
}

/// The monotonic clock, which all processes share, in nanoseconds.
pub fn now() -> Result<u64, Failure> {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    Ok(u64::try_from(Duration::from(time).as_nanos())?)
}

/// Looks until the standard input is closed, and says each look that saw what was looked for.
pub async fn observe() -> Result<(), Failure> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let Orders { to, look, ca, identity } = serde_json::from_str(&line)?;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder()
        .no_proxy()
        .timeout(LIMIT)
        .tls_certs_only([Certificate::from_pem(ca.as_bytes())?])
        .identity(Identity::from_pem(identity.as_bytes())?)
        .build()?;
    let mut closed = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0]));
    let mut ticker = tokio::time::interval(PERIOD);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut previous = now()?;
    sees(&client, to, &look).await;
    println!("{READY}");
    let places = Arc::new(Semaphore::new(most(&look)));
    loop {
        tokio::select! {
            _ = ticker.tick() => {}
            _ = &mut closed => return Ok(()),
        }
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let began = now()?;
        let (client, look) = (client.clone(), look.clone());
        tokio::spawn(async move {
            if sees(&client, to, &look).await
                && let Ok(ended) = now()
                && let Ok(line) = serde_json::to_string(&Seen { previous, began, ended })
            {
                println!("{line}");
            }
            drop(place);
        });
        previous = began;
    }
}

async fn sees(client: &Client, to: SocketAddr, look: &Look) -> bool {
    match look {
        Look::Refused => {
            let answer = tokio::time::timeout(LIMIT, TcpStream::connect(to)).await;
            let refused = std::io::ErrorKind::ConnectionRefused;
            answer.is_ok_and(|answer| answer.is_err_and(|error| error.kind() == refused))
        }
        Look::Failed(path) => get(client, to, path).await.is_none_or(|(code, _)| code >= 500),
        Look::Says(path, status, text) => {
            let answer = get(client, to, path).await;
            answer.is_some_and(|(code, body)| code == *status && body.contains(text))
        }
        Look::Lacks(paths, text) => {
            let lacks = paths.iter().map(|path| async move {
                let answer = get(client, to, path).await;
                answer.is_some_and(|(code, body)| code == 200 && !body.contains(text))
            });
            futures::future::join_all(lacks).await.into_iter().all(|lacks| lacks)
        }
    }
}

/// The status and the body of an answer, if there is one.
async fn get(client: &Client, to: SocketAddr, path: &str) -> Option<(u16, String)> {
    let answer = client.get(format!("https://{to}{path}")).send().await.ok()?;
    Some((answer.status().as_u16(), answer.text().await.ok()?))
}
