//! TCP connections from nodes or pods to an end are led through a proxy on the node, which delays or
//! throttles them, resets them, or changes bytes of them.
//!
//! The kernel hands new connections to the proxy (destination NAT, before kube-proxy's); those that
//! stand are reset, so that whoever needs one makes another. The proxy goes on to where the connection
//! was to go, from the same node. The ends are those of `traffic`; IPv4 alone.
//!
//! What else it changes: a connect succeeds as soon as the proxy has it, so a server that is gone
//! refuses by a reset after it; and who is reached from a pod sees the node's address. Taken back, every
//! connection through the proxy ends.

pub(in crate::fault) mod proxy;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::rules::{Source, Target};
use super::{Pair, ends, from_pod, pairs, reply_to_pod, sender};
use crate::cluster::ClusterError;
use crate::cluster::client::{Access, Vantage};
use crate::fault::helper::Helper;
use crate::fault::nft::{self, PRIORITY};
use crate::fault::process::until;
use crate::fault::serving::{self, LOOK, Reply};
use crate::fault::{Issued, Primitive, Proof, all, each, record, recorded, short_hash};
use crate::scenario::{Degradation, Degrade, NodeRef, Protocol, Traffic, TrafficRule};
use proxy::{MARK, Orders};

/// Until the effect is seen; and as long again to take it away.
const LED: Duration = Duration::from_secs(30);

/// Until a proxy has shown what it does to a connection.
const SHOWN: Duration = Duration::from_secs(15);

/// How much more than must pass is read at most until that is seen, in bytes.
const MORE: usize = 1 << 20;

/// Below the ports of connections that a node makes itself, and of `NodePort`s.
const PORTS: std::ops::Range<u16> = 20_000..30_000;

/// Marks connections that were handed over.
const HANDED: u32 = 0x2000_0000;

/// What was before: nothing is changed but one table and one process a node.
#[derive(Debug, Serialize, Deserialize)]
struct Before {
    /// Of the proxy and its table.
    name: String,
    port: u16,
    sources: Vec<Source>,
    targets: Vec<Target>,
}

/// Says something to $0, port $1, that no server leaves without an answer, and how many microseconds that
/// took, for bash.
const QUESTION: &str = r#"
start=$EPOCHREALTIME
exec 3<>"/dev/tcp/$0/$1" || exit
printf 'GET / HTTP/1.0\r\n\r\n' >&3
head -c 1 <&3 >/dev/null 2>&1
end=$EPOCHREALTIME
echo $((${end/[.,]/} - ${start/[.,]/}))
"#;

impl Before {
    fn table(&self) -> String {
        format!("inet {}", self.name)
    }

    fn proxy(&self) -> Helper<'_> {
        Helper { argument: proxy::ARGUMENT, name: &self.name }
    }

    fn pairs(&self) -> Vec<Pair<'_>> {
        pairs(&self.sources, &self.targets)
    }
}

/// Rules that hand connections over. What pods send is caught where it comes to the node, and what comes
/// back to them where it goes on to them, from another node or from this one.
fn chains(source: &Source, targets: &[Target], proxy: SocketAddr) -> String {
    let targets: Vec<_> = targets.iter().filter(|target| target.is_for(source)).collect();
    let each = |text: &dyn Fn(&str, &str, &str) -> String| {
        let rule = |target: &&Target| {
            let address = target.address;
            let ports = target.ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let port = |side: &str| match ports.as_str() {
                "" => "meta l4proto tcp".to_owned(),
                ports => format!("tcp {side} {{ {ports} }}"),
            };
            text(&address.to_string(), &port("dport"), &port("sport"))
        };
        targets.iter().map(rule).collect::<String>()
    };
    let pods: Vec<_> =
        source.pods.iter().filter(|pod| pod.is_ipv4()).map(IpAddr::to_string).collect();
    let of_pods = |side: &str| match &*pods {
        [] => String::new(),
        pods => format!("ip {side} {{ {} }} ", pods.join(", ")),
    };
    let (from, back) = (of_pods("saddr"), of_pods("daddr"));
    // The proxy's own connections are left alone, also what comes back by them.
    let own = format!("meta mark {MARK:#x} ct mark set {MARK:#x} accept\n");
    let handed = each(&|to, dport, _| {
        let new = format!("meta mark != {MARK:#x} {from}ip daddr {to} {dport}");
        format!("{new} counter ct mark set {HANDED:#x} dnat ip to {proxy}\n")
    });
    // What the other end connects to itself is not meant.
    let stands = |way| format!("ct direction {way} ct mark != {{ {MARK:#x}, {HANDED:#x} }}");
    let (sent, comes) = (stands("original"), stands("reply"));
    let standing =
        each(&|to, dport, _| format!("{sent} {from}ip daddr {to} {dport} reject with tcp reset\n"));
    let coming = each(&|to, _, sport| {
        format!("{comes} {back}ip saddr {to} {sport} tcp flags & rst == 0 reject with tcp reset\n")
    });
    let chain = |name: &str, kind: &str, hook: &str, priority: i32, rules: &str| {
        format!("chain {name} {{\ntype {kind} hook {hook} priority {priority};\n{rules}}}\n")
    };
    let (sent_at, comes_at): (_, &[_]) = match *pods {
        [] => ("output", &[("coming", "input")]),
        _ => ("prerouting", &[("coming", "forward"), ("coming_from_node", "output")]),
    };
    let coming = comes_at.iter().map(|(name, hook)| chain(name, "filter", hook, 0, &coming));
    chain("own", "filter", "output", PRIORITY - 5, &own)
        + &chain("handed", "nat", sent_at, PRIORITY, &handed)
        + &chain("standing", "filter", sent_at, 0, &standing)
        + &coming.collect::<String>()
}

impl Degrade {
    /// The same ends as those of `traffic`.
    fn traffic(&self) -> Traffic {
        Traffic {
            from: self.from.clone(),
            to: self.to.clone(),
            rule: TrafficRule::Drop,
            ports: self.ports.clone(),
            protocol: Some(Protocol::Tcp),
            one_way: false,
        }
    }

    async fn resolve(&self, access: &Access) -> Result<Before, ClusterError> {
        let traffic = self.traffic();
        let number = short_hash(self)?;
        let (first, count) = (PORTS.start, u32::from(PORTS.end - PORTS.start));
        let port = first + u16::try_from(number % count).unwrap_or(0);
        let sources = ends::sources(&traffic, access).await?;
        let mut targets = ends::targets(&traffic, access).await?;
        targets.retain(|target| target.address.is_ipv4());
        let name = format!("outage_degrade_{number:08x}");
        let before = Before { name, port, sources, targets };
        for source in &before.sources {
            nft::absent(&**access.node(source.on)?, &before.table()).await?;
        }
        let pairs = before.pairs();
        if pairs.is_empty() {
            return Err(ClusterError::new("there is nothing between the two ends"));
        }
        each(pairs.iter().map(|pair| self.answers_in_time(pair, access))).await?;
        Ok(before)
    }

    /// Or the effect could not be told.
    async fn answers_in_time(
        &self,
        (source, pod, target): &Pair<'_>,
        access: &Access,
    ) -> Result<(), ClusterError> {
        let at = SocketAddr::new(target.address, target.look);
        let (reply, took) = ask(source.on, *pod, at, access).await?;
        let late = matches!(self.by, Degradation::Delay(delay) if took >= delay);
        if reply == Reply::Answers && !late {
            return Ok(());
        }
        let from = sender(source, *pod);
        let context = format!("before the fault, {at} from {from}: {reply} after {took:.1?}");
        Err(ClusterError::new(context))
    }

    async fn lead(
        &self,
        source: &Source,
        before: &Before,
        access: &Access,
    ) -> Result<(), ClusterError> {
        let node = access.node(source.on)?;
        let listen = SocketAddr::new(node.address(), before.port);
        let orders = Orders { name: before.name.clone(), listen, by: self.by };
        before.proxy().start(&**node, &orders).await?;
        until(LED, || async {
            let connected = access.connect(Vantage::Node(source.on), listen, LOOK).await?;
            Ok(connected.err().map(|error| format!("the proxy at {listen}: {error}")))
        })
        .await?;
        let chains = chains(source, &before.targets, listen);
        nft::put(&**node, &before.table(), &chains).await
    }

    async fn look(&self, before: &Before, access: &Access) -> Result<Proof, ClusterError> {
        let looks = before.sources.iter().map(|source| self.look_at(source.on, before, access));
        Ok(all(each(looks).await?))
    }

    async fn look_at(
        &self,
        on: NodeRef,
        before: &Before,
        access: &Access,
    ) -> Result<Proof, ClusterError> {
        let node = access.node(on)?;
        let Some(earlier) = nft::packets(&**node, &before.table()).await? else {
            return Ok(Err(format!("{on} has no table {}", before.table())));
        };
        let proxies = before.proxy().count(&**node).await?;
        if proxies != 1 {
            return Ok(Err(format!("{proxies} proxies run on {on}")));
        }
        let pairs: Vec<_> = before.pairs().into_iter().filter(|(of, ..)| of.on == on).collect();
        let parts = each(pairs.iter().map(|pair| self.look_between(pair, access))).await?;
        let met = nft::packets(&**node, &before.table()).await?.unwrap_or(0);
        let met = met.saturating_sub(earlier);
        let handed = if met == 0 {
            Err(format!("no connection was led through the proxy on {on}"))
        } else {
            Ok(vec![format!("the proxy on {on} was given {met} connections")])
        };
        let shown = self.shown_by_proxy(on, before, access).await?;
        Ok(all(parts.into_iter().chain([handed, shown])))
    }

    /// What the proxy on a node does to connections. Servers say too little to whoever only looks for it to
    /// be seen in their answers, so the proxy itself is asked, which sends as much as is wanted.
    async fn shown_by_proxy(
        &self,
        on: NodeRef,
        before: &Before,
        access: &Access,
    ) -> Result<Proof, ClusterError> {
        let at = SocketAddr::new(access.node(on)?.address(), before.port);
        let mut stream = match access.connect(Vantage::Node(on), at, LOOK).await? {
            Ok(stream) => stream,
            Err(error) => return Ok(Err(format!("the proxy on {on}: {error}"))),
        };
        let shown = tokio::time::timeout(SHOWN, effect(&mut stream, self.by)).await;
        Ok(match shown {
            Ok(Ok(said)) => Ok(vec![format!("the proxy on {on} {said}")]),
            Ok(Err(said)) => Err(format!("the proxy on {on} {said}")),
            Err(_) => Err(format!("the proxy on {on} has shown nothing within {SHOWN:?}")),
        })
    }

    async fn look_between(
        &self,
        (source, pod, target): &Pair<'_>,
        access: &Access,
    ) -> Result<Proof, ClusterError> {
        let at = SocketAddr::new(target.address, target.look);
        let (reply, took) = ask(source.on, *pod, at, access).await?;
        let said = format!("{at} from {}: {reply} after {took:.1?}", sender(source, *pod));
        let shows = match self.by {
            // Whoever looks does not wait for so long.
            Degradation::Delay(delay) if 2 * delay >= LOOK => took >= delay.min(LOOK),
            Degradation::Delay(delay) => reply == Reply::Answers && took >= delay,
            _ => reply == Reply::Answers,
        };
        Ok(if shows { Ok(vec![said]) } else { Err(said) })
    }

    async fn release(
        &self,
        on: NodeRef,
        before: &Before,
        access: &Access,
    ) -> Result<(), ClusterError> {
        let node = access.node(on)?;
        if !node.powered() {
            // Its rules and processes went with the power.
            return Ok(());
        }
        nft::take_away(&**node, &before.table()).await?;
        before.proxy().end(&**node).await
    }
}

/// What becomes of a connection to the proxy itself, which sends zeros to who asks.
async fn effect(stream: &mut TcpStream, by: Degradation) -> Result<String, String> {
    let start = Instant::now();
    stream.write_all(b"?").await.map_err(|error| error.to_string())?;
    let most = |bytes: u32| bytes as usize + MORE;
    match by {
        // Seen by each answer.
        Degradation::Delay(_) => Ok("serves".to_owned()),
        Degradation::Bandwidth(rate) => {
            let wanted = (rate as usize * 3 / 10).clamp(1, MORE);
            let (passed, ..) = zeros(stream, wanted).await;
            let took = start.elapsed();
            #[expect(clippy::cast_precision_loss, reason = "at most 1 MiB")]
            let least = Duration::from_secs_f64(0.9 * wanted as f64 / f64::from(rate));
            let said = format!("lets {passed} bytes pass in {took:.1?}");
            if passed >= wanted && took >= least { Ok(said) } else { Err(said) }
        }
        Degradation::ResetAfter(bytes) => {
            let (passed, _, end) = zeros(stream, most(bytes)).await;
            let reset = end.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionReset);
            let said = format!("resets a connection after {passed} bytes");
            if reset { Ok(said) } else { Err(format!("lets {passed} bytes pass")) }
        }
        Degradation::CorruptAfter(bytes) => {
            let (passed, changed, _) = zeros(stream, most(bytes)).await;
            let said = format!("changed {changed} of {passed} bytes");
            if changed > 0 { Ok(said) } else { Err(said) }
        }
    }
}

/// Reads zeros: how many bytes came, how many of them were something else, and why no more came.
async fn zeros(stream: &mut TcpStream, wanted: usize) -> (usize, usize, Option<io::Error>) {
    let (mut passed, mut changed) = (0, 0);
    let mut buffer = vec![0; 16 << 10];
    while passed < wanted {
        match stream.read(&mut buffer).await {
            Ok(0) => break,
            Ok(count) => {
                passed += count;
                changed += buffer[..count].iter().filter(|byte| **byte != 0).count();
            }
            Err(error) => return (passed, changed, Some(error)),
        }
    }
    (passed, changed, None)
}

/// Asks from a node, or from a pod on it, and says how long the answer took.
async fn ask(
    on: NodeRef,
    pod: Option<IpAddr>,
    at: SocketAddr,
    access: &Access,
) -> Result<(Reply, Duration), ClusterError> {
    let start = Instant::now();
    let Some(pod) = pod else {
        let reply = serving::ask_at(Vantage::Node(on), at, access).await?;
        return Ok((reply, start.elapsed()));
    };
    let output = access.node(on)?.run(from_pod(pod, at, QUESTION)).await?;
    // To find the pod's network takes longer than a near server's answer. Who gave none tells no time.
    let took = output.text().parse().map_or_else(|_| start.elapsed(), Duration::from_micros);
    Ok((reply_to_pod(&output, on)?, took))
}

impl Primitive for Degrade {
    fn does(&self) -> String {
        let by = match self.by {
            Degradation::Delay(delay) => {
                format!("delay connections by {} either way", humantime::format_duration(delay))
            }
            Degradation::Bandwidth(rate) => format!("let connections pass {rate} bytes a second"),
            Degradation::ResetAfter(bytes) => format!("reset connections after {bytes} bytes"),
            Degradation::CorruptAfter(bytes) => format!("corrupt connections after {bytes} bytes"),
        };
        format!("{by}, from {} to {}", super::end(&self.from), super::end(&self.to))
    }

    fn limit(&self) -> Duration {
        LED * 3
    }

    fn before<'a>(
        &'a self,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<serde_json::Value, ClusterError>> {
        Box::pin(async { record(&self.resolve(access).await?) })
    }

    fn inject<'a>(
        &'a self,
        before: &'a serde_json::Value,
        access: &'a Access,
        issued: Issued,
    ) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(async {
            let before: Before = recorded(before)?;
            issued();
            each(before.sources.iter().map(|source| self.lead(source, &before, access))).await?;
            until(LED, || async { Ok(self.look(&before, access).await?.err()) }).await
        })
    }

    fn prove<'a>(
        &'a self,
        before: &'a serde_json::Value,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<Proof, ClusterError>> {
        Box::pin(async {
            let before: Before = recorded(before)?;
            self.look(&before, access).await
        })
    }

    fn revert<'a>(
        &'a self,
        before: &'a serde_json::Value,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<(), ClusterError>> {
        Box::pin(async {
            let before: Before = recorded(before)?;
            let places =
                before.sources.iter().map(|source| self.release(source.on, &before, access));
            each(places).await.map(drop)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_handed_over_and_those_that_stand_are_reset() {
        let target = |address: &str, ports: &[u16], inside| Target {
            address: address.parse().unwrap(),
            ports: ports.into(),
            look: 1,
            inside,
            outside: None,
        };
        let source = Source { on: NodeRef::Master(3), pods: vec![] };
        let targets = [
            target("10.0.0.1", &[2379, 2380], None),
            target("10.0.0.2", &[], None),
            target("127.0.0.1", &[2379], Some(NodeRef::Master(1))),
        ];
        let proxy = ([10, 0, 0, 3], 20_001).into();
        insta::assert_snapshot!(chains(&source, &targets, proxy));
        let pods = ["10.244.13.2", "10.244.13.3"].map(|pod| pod.parse().unwrap());
        let source = Source { pods: pods.into(), ..source };
        insta::assert_snapshot!(chains(&source, &targets, proxy));
    }
}
