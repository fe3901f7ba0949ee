//! A new line in a log, read on the node itself: containers' logs below `/var/log/pods`, the
//! kubelet's and the container runtime's as the node keeps them. Polled. What is there at the first
//! reading is old. Of several nodes each is read by itself: one that is off keeps no line of another from
//! being seen, but what must not come can't be told while one is.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use futures::future::{BoxFuture, try_join_all};
use regex::Regex;
use tokio::sync::Mutex;

use super::{Look, Observation, Sink, away, brief, pattern, poll};
use crate::cluster::client::Access;
use crate::cluster::{ClusterError, Command, Node, Service};
use crate::scenario::{LogLine, LogOf, nodes_in_words};

/// Each file and its size. A file that vanishes meanwhile is none.
const SIZES: &str = "stat -c '%s %n' $1 2>/dev/null; :";

/// So many bytes of a file, from one on.
const PART: &str = r#"tail -c +"$2" "$1" | head -c "$3""#;

/// More is not read at once; the rest comes with the next reading.
const MOST: u64 = 4 << 20;

impl Look for LogLine {
    fn wanted(&self) -> String {
        let of = name(&self.of);
        let new = if self.absent { "no new line" } else { "a new line" };
        let one = if self.absent || self.on.len() == 1 { "" } else { "one of " };
        format!("{new} of {of} on {one}{} that matches {}", nodes_in_words(&self.on), self.line)
    }

    fn watch<'a>(
        &'a self,
        access: &'a Access,
        every: Duration,
        sink: Sink<'a>,
    ) -> BoxFuture<'a, Result<Infallible, ClusterError>> {
        Box::pin(async move {
            let wanted = pattern(&self.line)?;
            let mut logs = vec![];
            for on in &self.on {
                let node = &**access.node(*on)?;
                logs.push((node, Mutex::new(Log::of(&self.of, node))));
            }
            let observe = || async {
                let read = logs.iter().map(|(node, log)| self.read(*node, log));
                Ok(judge(self.absent, &wanted, &try_join_all(read).await?))
            };
            poll(every, sink, observe).await
        })
    }
}

impl LogLine {
    /// What is new on a node.
    async fn read(&self, node: &dyn Node, log: &Mutex<Log>) -> Result<Read, ClusterError> {
        match log.lock().await.read(node).await {
            Err(error) => away(node).map(Read::Nothing).ok_or(error),
            Ok(None) => Ok(Read::NoLog(format!("{} has no log of {}", node.id(), name(&self.of)))),
            Ok(Some(text)) => Ok(Read::Lines(text)),
        }
    }
}

/// Whose log it is, in words.
fn name(of: &LogOf) -> &str {
    match of {
        LogOf::Component(component) => component.name(),
        LogOf::Pod(pod) => pod,
        LogOf::Kubelet => "the kubelet",
        LogOf::Containerd => "containerd",
    }
}

/// A log, and how far it was read.
enum Log {
    /// Of one of the node's services.
    Service(Service, Option<u64>),
    /// Of containers: their files, how far each was read, and whether they are those of pods that the
    /// scenario names.
    Containers { files: String, positions: Option<BTreeMap<String, u64>>, of_pods: bool },
}

/// What was read on a node.
enum Read {
    /// Whole lines.
    Lines(String),
    /// No pod that is wanted was there so far: of what it does not write nothing can be said.
    NoLog(String),
    /// Nothing can be read there; why.
    Nothing(String),
}

impl Log {
    fn of(of: &LogOf, node: &dyn Node) -> Self {
        // <https://github.com/kubernetes/kubernetes/blob/v1.34.4/pkg/kubelet/kuberuntime/helpers.go>
        let pods = |pod: &str, container: &str| {
            let files = format!("/var/log/pods/{pod}_*/{container}/*.log");
            // A component may well be gone: that is what its static pod is taken away for.
            let of_pods = matches!(of, LogOf::Pod(_));
            Self::Containers { files, positions: None, of_pods }
        };
        match of {
            LogOf::Kubelet => Self::Service(Service::Kubelet, None),
            LogOf::Containerd => Self::Service(Service::Containerd, None),
            LogOf::Pod(pod) => pods(&pod.replace('/', "_"), "*"),
            LogOf::Component(component) => {
                let name = component.name();
                pods(&format!("kube-system_{name}-{}", node.name()), name)
            }
        }
    }

    /// What was written since the reading before, in whole lines; no text the first time. Nothing if no
    /// pod that is wanted was there so far.
    async fn read(&mut self, node: &dyn Node) -> Result<Option<String>, ClusterError> {
        match self {
            Self::Service(service, position) => {
                let since = *position;
                let (bytes, end) = node.log(*service, since).await?;
                let (text, left) = whole_lines(&bytes);
                *position = Some(end - left);
                Ok(Some(text))
            }
            Self::Containers { files, positions, of_pods } => {
                let list = node.run(Command::script(SIZES, [files.as_str()])).await?;
                let sizes = sizes(&list.text());
                if *of_pods && none_so_far(positions.as_ref(), &sizes) {
                    *positions = Some(sizes);
                    return Ok(None);
                }
                let Some(positions) = positions else {
                    *positions = Some(sizes);
                    return Ok(Some(String::new()));
                };
                let mut all = String::new();
                for (file, from, length) in grown(positions, &sizes) {
                    let arguments = [file.clone(), (from + 1).to_string(), length.to_string()];
                    let part = node.run(Command::script(PART, arguments)).await?.stdout;
                    let (text, left) = whole_lines(&part);
                    positions.insert(file, from + part.len() as u64 - left);
                    all.extend(text.lines().map(|line| format!("{}\n", said(line))));
                }
                Ok(Some(all))
            }
        }
    }
}

fn sizes(list: &str) -> BTreeMap<String, u64> {
    let size = |line: &str| {
        let (size, file) = line.split_once(' ')?;
        Some((file.to_owned(), size.parse().ok()?))
    };
    list.lines().filter_map(size).collect()
}

/// Whether none of the files is there, nor was.
fn none_so_far(positions: Option<&BTreeMap<String, u64>>, sizes: &BTreeMap<String, u64>) -> bool {
    sizes.is_empty() && positions.is_none_or(BTreeMap::is_empty)
}

/// What of each file is to be read: from where, and how much. A file that is new or has become
/// shorter (it was rotated) is read from its start.
fn grown(
    positions: &BTreeMap<String, u64>,
    sizes: &BTreeMap<String, u64>,
) -> Vec<(String, u64, u64)> {
    let part = |(file, size): (&String, &u64)| {
        let from = positions.get(file).copied().filter(|from| from <= size).unwrap_or(0);
        (*size > from).then(|| (file.clone(), from, (size - from).min(MOST)))
    };
    sizes.iter().filter_map(part).collect()
}

/// The whole lines, and how many bytes of an unfinished one follow. A piece without any end of a
/// line is taken for a line once it is as long as can be.
fn whole_lines(bytes: &[u8]) -> (String, u64) {
    let end = match bytes.iter().rposition(|byte| *byte == b'\n') {
        Some(end) => end + 1,
        None if bytes.len() as u64 >= MOST => bytes.len(),
        None => 0,
    };
    (String::from_utf8_lossy(&bytes[..end]).into_owned(), (bytes.len() - end) as u64)
}

/// What the container wrote: the runtime puts time, stream and a tag before it.
/// <https://github.com/kubernetes/design-proposals-archive/blob/main/node/kubelet-cri-logging.md>
fn said(line: &str) -> &str {
    line.splitn(4, ' ').nth(3).unwrap_or(line)
}

/// What was read on all nodes together.
fn judge(absent: bool, wanted: &Regex, nodes: &[Read]) -> Observation {
    let line = nodes.iter().find_map(|read| match read {
        Read::Lines(text) => text.lines().rfind(|line| wanted.is_match(line)),
        Read::NoLog(_) | Read::Nothing(_) => None,
    });
    if let Some(line) = line {
        return Observation { holds: !absent, saw: brief(line) };
    }
    // Where a pod has a log, other nodes may have none of it.
    let some_log = nodes.iter().any(|read| matches!(read, Read::Lines(_)));
    let unknown = nodes.iter().find_map(|read| match read {
        Read::Nothing(why) => Some(why),
        Read::NoLog(why) if !some_log => Some(why),
        Read::Lines(_) | Read::NoLog(_) => None,
    });
    match unknown {
        Some(why) => Observation::nothing(why),
        None => Observation { holds: absent, saw: "no such line".to_owned() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(positions: &[(&str, u64)]) -> BTreeMap<String, u64> {
        positions.iter().map(|(file, at)| ((*file).to_owned(), *at)).collect()
    }

    #[test]
    fn only_what_has_grown_is_read() {
        let known = at(&[("a", 10), ("b", 10), ("c", 10), ("gone", 5)]);
        let sizes = sizes("10 a\n15 b\n4 c\n7 d\n0 e\nnonsense\n");
        let expected = [("b", 10, 5), ("c", 0, 4), ("d", 0, 7)];
        assert_eq!(grown(&known, &sizes), expected.map(|(f, from, n)| (f.to_owned(), from, n)));
        assert_eq!(grown(&at(&[]), &at(&[("a", u64::MAX)])), [("a".to_owned(), 0, MOST)]);
    }

    #[test]
    fn a_pod_that_was_never_there_is_told_from_one_that_is_gone() {
        let (none, some) = (at(&[]), at(&[("a", 0)]));
        assert!(none_so_far(None, &none) && none_so_far(Some(&none), &none));
        assert!(!none_so_far(None, &some) && !none_so_far(Some(&none), &some));
        assert!(!none_so_far(Some(&some), &none));
        // What comes later is read from its start.
        assert_eq!(grown(&none, &at(&[("a", 3)])), [("a".to_owned(), 0, 3)]);
    }

    #[test]
    fn an_unfinished_line_waits() {
        assert_eq!(whole_lines(b"a\nb\nrest"), ("a\nb\n".to_owned(), 4));
        assert_eq!(whole_lines(b"rest"), (String::new(), 4));
        assert_eq!(whole_lines(b""), (String::new(), 0));
    }

    #[test]
    fn the_last_line_that_matches_is_seen() {
        let wanted = Regex::new("lost (the )?leader").unwrap();
        let text = format!(
            "{}\nlost leader 1\nlost the leader 2\nend",
            said("t stderr F {\"msg\": \"x y\"}")
        );
        assert!(text.starts_with("{\"msg\": \"x y\"}"));
        for (absent, text, holds, saw) in [
            (false, text.as_str(), true, "lost the leader 2"),
            (true, &text, false, "lost the leader 2"),
            (false, "end", false, "no such line"),
            (true, "end", true, "no such line"),
            (true, "", true, "no such line"),
        ] {
            let judged = judge(absent, &wanted, &[Read::Lines(text.to_owned())]);
            assert_eq!((judged.holds, judged.saw.as_str()), (holds, saw));
        }
    }

    #[test]
    fn a_line_on_one_node_suffices_and_one_that_must_not_come_is_looked_for_on_all() {
        let wanted = Regex::new("lost").unwrap();
        let lines = |text: &str| Read::Lines(text.to_owned());
        let (none, off) = (|| Read::NoLog("no log".to_owned()), || Read::Nothing("off".to_owned()));
        for (nodes, saw, present, absent) in [
            (vec![lines("lost 1"), lines("end")], "lost 1", true, false),
            (vec![off(), none(), lines("lost 1")], "lost 1", true, false),
            (vec![lines("end"), lines("")], "no such line", false, true),
            (vec![none(), lines("")], "no such line", false, true),
            (vec![none(), none()], "no log", false, false),
            (vec![lines(""), off()], "off", false, false),
        ] {
            let judged = [false, true].map(|absent| judge(absent, &wanted, &nodes));
            assert_eq!(judged.each_ref().map(|judged| judged.saw.as_str()), [saw, saw]);
            assert_eq!(judged.map(|judged| judged.holds), [present, absent]);
        }
    }

    #[test]
    fn the_scripts_read_parts_of_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap().to_owned();
        std::fs::write(folder.path().join("0.log"), "one\ntwo\n").unwrap();
        let sh = |script: &str, arguments: &[&str]| {
            let mut shell = std::process::Command::new("sh");
            let output = shell.args(["-c", script, "sh"]).args(arguments).output().unwrap();
            assert!(output.status.success());
            String::from_utf8(output.stdout).unwrap()
        };
        let file = format!("{path}/0.log");
        assert_eq!(sizes(&sh(SIZES, &[&format!("{path}/*.log")])), at(&[(&file, 8)]));
        assert_eq!(sh(SIZES, &[&format!("{path}/*.none")]), "");
        assert_eq!(sh(PART, &[&file, "5", "3"]), "two");
    }
}
