//! A key or an alarm of etcd, by etcd's own API, on the member's node with the member's certificate.
//! Polled.

use std::convert::Infallible;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures::future::BoxFuture;
use regex::Regex;
use serde_json::Value;

use super::{Look, Observation, Sink, brief, pattern, poll_from};
use crate::cluster::client::Access;
use crate::cluster::{ClusterError, Command};
use crate::scenario::{EtcdSide, EtcdState};

/// etcd is asked as its own health probes ask it. Nobody waits for a member that is not there.
const ETCDCTL: &str = "P=/etc/kubernetes/pki/etcd; exec etcdctl --cacert $P/ca.crt \
                       --cert $P/server.crt --key $P/server.key --dial-timeout 2s \
                       --command-timeout 5s -w json \"$@\"";

impl Look for EtcdState {
    fn wanted(&self) -> String {
        let is = if self.absent { "absent" } else { "present" };
        match &self.has {
            EtcdSide::Key { key, value: None } => {
                format!("etcd's key {key} on {} is {is}", self.on)
            }
            EtcdSide::Key { key, value: Some(value) } => {
                format!("etcd's key {key} on {} has a value that matches {value}", self.on)
            }
            EtcdSide::Alarm(alarm) => {
                format!("etcd's alarm {} is {is}, as {} tells", alarm.name(), self.on)
            }
        }
    }

    fn watch<'a>(
        &'a self,
        access: &'a Access,
        every: Duration,
        sink: Sink<'a>,
    ) -> BoxFuture<'a, Result<Infallible, ClusterError>> {
        Box::pin(async move {
            let node = access.node(self.on)?;
            let value = match &self.has {
                EtcdSide::Key { value: Some(value), .. } => Some(pattern(value)?),
                EtcdSide::Key { value: None, .. } | EtcdSide::Alarm(_) => None,
            };
            let args = match &self.has {
                // Linearizable reads, the default, would need a quorum.
                EtcdSide::Key { key, .. } => vec!["get", "--consistency=s", "--", key],
                EtcdSide::Alarm(_) => vec!["alarm", "list"],
            };
            let command = Command::script(ETCDCTL, args);
            poll_from(&**node, every, sink, || async {
                let output = node.run(command.clone()).await?;
                if output.code != 0 {
                    // Warnings of its client come first, the reason last.
                    let said = String::from_utf8_lossy(&output.stderr);
                    let reason = said.trim().lines().last().unwrap_or_default();
                    return Ok(Observation::nothing(brief(reason)));
                }
                let said = serde_json::from_slice(&output.stdout).map_err(|error| {
                    ClusterError::caused(format!("what etcdctl said: {}", output.text()), error)
                })?;
                Ok(judge(self, value.as_ref(), &said))
            })
            .await
        })
    }
}

/// What `etcdctl -w json` said, compared with what is wanted.
/// <https://github.com/etcd-io/etcd/blob/v3.6.5/api/etcdserverpb/rpc.proto>
fn judge(probe: &EtcdState, value: Option<&Regex>, said: &Value) -> Observation {
    match &probe.has {
        EtcdSide::Key { key, .. } => {
            let found = said["kvs"][0]["value"].as_str().map(|text| {
                let bytes = BASE64_STANDARD.decode(text).unwrap_or_default();
                String::from_utf8_lossy(&bytes).into_owned()
            });
            // A value of no length is left away.
            let found = found.or_else(|| said["kvs"][0]["key"].is_string().then(String::new));
            let Some(found) = found else {
                return Observation { holds: probe.absent, saw: format!("there is no {key}") };
            };
            let fits = value.is_none_or(|value| value.is_match(&found));
            Observation { holds: fits && !probe.absent, saw: format!("{key}: {}", plain(&found)) }
        }
        EtcdSide::Alarm(wanted) => {
            let alarms = said["alarms"].as_array().into_iter().flatten();
            let raised: Vec<&str> = alarms.map(|alarm| name(&alarm["alarm"])).collect();
            let saw = match raised.as_slice() {
                [] => "no alarm".to_owned(),
                raised => raised.join(", "),
            };
            Observation { holds: raised.contains(&wanted.name()) != probe.absent, saw }
        }
    }
}

/// An alarm's name, which JSON tells as its number or by its name.
fn name(alarm: &Value) -> &str {
    match (alarm.as_u64(), alarm.as_str()) {
        (Some(1), _) => "NOSPACE",
        (Some(2), _) => "CORRUPT",
        (_, Some(name)) => name,
        _ => "an unknown alarm",
    }
}

/// The beginning of a value, without what a terminal would take for commands.
fn plain(value: &str) -> String {
    const LONGEST: usize = 60;
    let shown = value.chars().take(LONGEST);
    shown.map(|char| if char.is_control() { '\u{b7}' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::scenario::{EtcdAlarm, NodeRef};

    fn probe(has: EtcdSide, absent: bool) -> EtcdState {
        EtcdState { on: NodeRef::Master(1), has, absent }
    }

    #[test]
    fn a_key_is_there_or_not_and_its_value_is_compared() {
        let key = |value: Option<&str>, absent| {
            let has = EtcdSide::Key { key: "/registry/a".into(), value: value.map(Into::into) };
            probe(has, absent)
        };
        let encoded = |text: &str| BASE64_STANDARD.encode(text);
        let there = json!({"kvs": [
            {"key": encoded("/registry/a"), "value": encoded("k8s:enc:x\n")},
        ]});
        let gone = json!({"header": {}});
        let empty = json!({"kvs": [{"key": encoded("/registry/a")}]});
        for (value, absent, said, holds) in [
            (None, false, &there, true),
            (None, true, &there, false),
            (None, false, &gone, false),
            (None, true, &gone, true),
            (None, false, &empty, true),
            (Some("^k8s:enc:"), false, &there, true),
            (Some("^k8s:nothing"), false, &there, false),
            (Some("^k8s:enc:"), false, &gone, false),
        ] {
            let wanted = key(value, absent);
            let pattern = value.map(|value| Regex::new(value).unwrap());
            assert_eq!(judge(&wanted, pattern.as_ref(), said).holds, holds, "{wanted:?} {said}");
        }
        let saw = judge(&key(None, false), None, &there).saw;
        assert_eq!(saw, "/registry/a: k8s:enc:x\u{b7}");
    }

    #[test]
    fn an_alarm_is_raised_or_not() {
        let alarm = |absent| probe(EtcdSide::Alarm(EtcdAlarm::NoSpace), absent);
        let raised = json!({"alarms": [{"memberID": 1, "alarm": 2}, {"memberID": 2, "alarm": 1}]});
        let other = json!({"alarms": [{"memberID": 1, "alarm": 2}]});
        let none = json!({"header": {}});
        for (absent, said, holds, saw) in [
            (false, &raised, true, "CORRUPT, NOSPACE"),
            (true, &raised, false, "CORRUPT, NOSPACE"),
            (false, &other, false, "CORRUPT"),
            (true, &none, true, "no alarm"),
        ] {
            let seen = judge(&alarm(absent), None, said);
            assert_eq!((seen.holds, &*seen.saw), (holds, saw), "{said}");
        }
    }
}
