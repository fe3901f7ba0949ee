//! The rules of `traffic`, as text, from what its ends have turned out to be. Pure.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::super::nft::PRIORITY;
use crate::scenario::{NodeRef, Protocol, Traffic, TrafficRule};

/// A node on which packets are caught.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Source {
    pub(super) on: NodeRef,
    /// The pods on it that are meant; none: what runs in the node's own network.
    pub(super) pods: Vec<IpAddr>,
}

/// An address that packets are kept from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Target {
    pub(super) address: IpAddr,
    /// On these ports; none: on any.
    pub(super) ports: Vec<u16>,
    /// The port on which the effect is looked for.
    pub(super) look: u16,
    /// Only as seen from this node: its loopback address.
    pub(super) inside: Option<NodeRef>,
    /// Not as seen from this node: a node is not cut off from itself.
    pub(super) outside: Option<NodeRef>,
}

impl Target {
    /// Whether what runs on this node is kept from it.
    pub(super) fn is_for(&self, source: &Source) -> bool {
        let inside = self.inside.is_none_or(|on| on == source.on && source.pods.is_empty());
        inside && self.outside.is_none_or(|on| on != source.on || !source.pods.is_empty())
    }

    /// Whether a connection to this place would be hit.
    pub(super) fn hits(&self, at: SocketAddr) -> bool {
        self.address == at.ip() && (self.ports.is_empty() || self.ports.contains(&at.port()))
    }
}

/// The chains for one node. What is sent is caught where its sender's addresses still stand, before
/// a Service's address is translated. What comes back is caught where it is delivered, and has the
/// address of the endpoint then.
pub(super) fn chains(traffic: &Traffic, source: &Source, targets: &[Target]) -> String {
    let mut sent = String::new();
    let mut answered = String::new();
    for target in targets.iter().filter(|target| target.is_for(source)) {
        for (ours, theirs) in sides(source, target.address) {
            let rule = |text: &mut String, side: &str, way: Way| {
                for tail in tails(traffic, &target.ports, way) {
                    // Writing to a String can't fail.
                    let _ = writeln!(text, "{side}{tail}");
                }
            };
            rule(&mut sent, &format!("{}{}", ours.sent, theirs.sent), Way::Sent);
            if !traffic.one_way {
                rule(
                    &mut answered,
                    &format!("{}{}", ours.answered, theirs.answered),
                    Way::Answered,
                );
            }
        }
    }
    let chain = |name: &str, hook: &str, rules: &str| {
        format!("chain {name} {{\ntype filter hook {hook} priority {PRIORITY};\n{rules}}}\n")
    };
    if source.pods.is_empty() {
        chain("sent", "output", &sent) + &chain("answered", "input", &answered)
    } else {
        chain("sent", "prerouting", &sent)
            + &chain("answered", "forward", &answered)
            + &chain("answered_by_node", "output", &answered)
    }
}

/// A packet's direction.
#[derive(Clone, Copy)]
enum Way {
    Sent,
    Answered,
}

/// The condition on an address, in either direction.
struct Side {
    sent: String,
    answered: String,
}

/// For each sender (pods, or the node itself, which needs no condition) the conditions on both ends.
fn sides(source: &Source, target: IpAddr) -> Vec<(Side, Side)> {
    let ours = |pod: &IpAddr| Side {
        sent: format!("{} saddr {pod} ", family(*pod)),
        answered: format!("{} daddr {pod} ", family(*pod)),
    };
    let theirs = || Side {
        sent: format!("{} daddr {target} ", family(target)),
        answered: format!("{} saddr {target} ", family(target)),
    };
    if source.pods.is_empty() {
        return vec![(Side { sent: String::new(), answered: String::new() }, theirs())];
    }
    let same = source.pods.iter().filter(|pod| pod.is_ipv4() == target.is_ipv4());
    same.map(|pod| (ours(pod), theirs())).collect()
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "ip" } else { "ip6" }
}

/// What follows the addresses: protocol, ports, and what becomes of the packet.
fn tails(traffic: &Traffic, ports: &[u16], way: Way) -> Vec<String> {
    let protocols: &[Option<Protocol>] = match traffic.protocol {
        Some(Protocol::Tcp) => &[Some(Protocol::Tcp)],
        Some(Protocol::Udp) => &[Some(Protocol::Udp)],
        None if ports.is_empty() => &[None],
        None => &[Some(Protocol::Tcp), Some(Protocol::Udp)],
    };
    // The reset that tells a sender of the node comes to it as if the other end had sent it.
    let (port, reset) = match way {
        Way::Sent => ("dport", "counter reject with tcp reset"),
        Way::Answered => ("sport", "tcp flags & rst == 0 counter reject with tcp reset"),
    };
    let list = ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut tails = vec![];
    for protocol in protocols {
        let condition = match protocol {
            Some(protocol) if ports.is_empty() => format!("meta l4proto {} ", protocol.name()),
            Some(protocol) => format!("{} {port} {{ {list} }} ", protocol.name()),
            None => String::new(),
        };
        match (traffic.rule, protocol) {
            (TrafficRule::Drop, _) => tails.push(format!("{condition}counter drop")),
            (TrafficRule::Reject, Some(Protocol::Tcp)) => {
                tails.push(format!("{condition}{reset}"));
            }
            (TrafficRule::Reject, Some(Protocol::Udp)) => {
                tails.push(format!("{condition}counter reject"));
            }
            (TrafficRule::Reject, None) => {
                tails.push(format!("meta l4proto tcp {reset}"));
                tails.push("meta l4proto != tcp counter reject".to_owned());
            }
        }
    }
    tails
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::TrafficEnd;

    fn traffic(rule: TrafficRule, protocol: Option<Protocol>, one_way: bool) -> Traffic {
        let end = TrafficEnd::Nodes(vec![]);
        Traffic { from: end.clone(), to: end, rule, ports: vec![], protocol, one_way }
    }

    fn target(address: &str, ports: &[u16]) -> Target {
        let address = address.parse().unwrap();
        Target { address, ports: ports.into(), look: 1, inside: None, outside: None }
    }

    fn node(pods: &[&str]) -> Source {
        let pods = pods.iter().map(|pod| pod.parse().unwrap()).collect();
        Source { on: NodeRef::Master(3), pods }
    }

    #[test]
    fn a_node_is_kept_from_a_port_both_ways() {
        let traffic = traffic(TrafficRule::Drop, Some(Protocol::Tcp), false);
        let chains = chains(&traffic, &node(&[]), &[target("10.0.0.1", &[2379, 2380])]);
        insta::assert_snapshot!(chains, @r"
        chain sent {
        type filter hook output priority -150;
        ip daddr 10.0.0.1 tcp dport { 2379, 2380 } counter drop
        }
        chain answered {
        type filter hook input priority -150;
        ip saddr 10.0.0.1 tcp sport { 2379, 2380 } counter drop
        }
        ");
    }

    #[test]
    fn pods_are_kept_from_an_address_one_way() {
        let traffic = traffic(TrafficRule::Reject, None, true);
        let targets = [target("10.0.0.1", &[]), target("fd00::1", &[53])];
        let chains = chains(&traffic, &node(&["10.1.0.1", "10.1.0.2", "fd01::1"]), &targets);
        insta::assert_snapshot!(chains, @r"
        chain sent {
        type filter hook prerouting priority -150;
        ip saddr 10.1.0.1 ip daddr 10.0.0.1 meta l4proto tcp counter reject with tcp reset
        ip saddr 10.1.0.1 ip daddr 10.0.0.1 meta l4proto != tcp counter reject
        ip saddr 10.1.0.2 ip daddr 10.0.0.1 meta l4proto tcp counter reject with tcp reset
        ip saddr 10.1.0.2 ip daddr 10.0.0.1 meta l4proto != tcp counter reject
        ip6 saddr fd01::1 ip6 daddr fd00::1 tcp dport { 53 } counter reject with tcp reset
        ip6 saddr fd01::1 ip6 daddr fd00::1 udp dport { 53 } counter reject
        }
        chain answered {
        type filter hook forward priority -150;
        }
        chain answered_by_node {
        type filter hook output priority -150;
        }
        ");
    }

    #[test]
    fn the_reset_that_tells_the_sender_reaches_it() {
        let traffic = traffic(TrafficRule::Reject, Some(Protocol::Tcp), false);
        let chains = chains(&traffic, &node(&[]), &[target("10.0.0.1", &[443])]);
        insta::assert_snapshot!(chains, @r"
        chain sent {
        type filter hook output priority -150;
        ip daddr 10.0.0.1 tcp dport { 443 } counter reject with tcp reset
        }
        chain answered {
        type filter hook input priority -150;
        ip saddr 10.0.0.1 tcp sport { 443 } tcp flags & rst == 0 counter reject with tcp reset
        }
        ");
    }

    #[test]
    fn a_node_is_not_cut_off_from_itself_and_loopback_is_its_own() {
        let on = NodeRef::Master(3);
        let own = Target { outside: Some(on), ..target("10.0.0.3", &[]) };
        let loopback = Target { inside: Some(on), ..target("127.0.0.1", &[]) };
        let other = Source { on: NodeRef::Master(1), pods: vec![] };
        assert!(!own.is_for(&node(&[])) && own.is_for(&other) && own.is_for(&node(&["10.1.0.1"])));
        assert!(loopback.is_for(&node(&[])) && !loopback.is_for(&other));
        assert!(!loopback.is_for(&node(&["10.1.0.1"])));
    }

    #[test]
    fn what_would_be_hit_is_known() {
        let at = |text: &str| text.parse().unwrap();
        assert!(target("10.0.0.1", &[80]).hits(at("10.0.0.1:80")));
        assert!(!target("10.0.0.1", &[80]).hits(at("10.0.0.1:81")));
        assert!(target("10.0.0.1", &[]).hits(at("10.0.0.1:81")));
        assert!(!target("10.0.0.1", &[]).hits(at("10.0.0.2:81")));
    }
}
