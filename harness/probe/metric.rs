//! A metric of a process, asked directly: an apiserver at its own address, everything else from its
//! node's loopback. Polled. What the processes of several nodes tell is added up, once all have answered.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::future::{BoxFuture, try_join_all};
use http::Request;
use http_body_util::Full;
use tokio::time::Instant;

use super::{Look, Observation, READ, Sink, away, brief, poll};
use crate::cluster::ClusterError;
use crate::cluster::client::{Access, Answer, Vantage};
use crate::scenario::{Metric, MetricOf, MetricSide, NodeRef, Program, Wanted, nodes_in_words};

impl Look for Metric {
    fn wanted(&self) -> String {
        let Self { component, name, .. } = self;
        let on = nodes_in_words(&self.on);
        let labels = self.labels.iter().map(|(name, value)| format!("{name}={value:?}"));
        let labels = labels.collect::<Vec<_>>().join(",");
        let side = match self.side {
            MetricSide::Value => "",
            MetricSide::Increase => "the increase of ",
            MetricSide::Rate(_) => "the rate of ",
        };
        let wanted = words(self.wanted);
        format!("{side}{name}{{{labels}}} of {} on {on} is {wanted}", component.name())
    }

    fn watch<'a>(
        &'a self,
        access: &'a Access,
        every: Duration,
        sink: Sink<'a>,
    ) -> BoxFuture<'a, Result<Infallible, ClusterError>> {
        Box::pin(async move {
            let growth = Mutex::new(vec![Growth::default(); self.on.len()]);
            let observe = || async {
                loop {
                    let read = self.on.iter().map(|on| read(self, *on, access));
                    let values: Result<Vec<_>, _> = try_join_all(read).await?.into_iter().collect();
                    let values = match values {
                        Ok(values) => values,
                        Err(why) => return Ok(Observation::nothing(why)),
                    };
                    let known = {
                        let mut growth = growth.lock().unwrap_or_else(PoisonError::into_inner);
                        // A counter with labels appears with its first increment.
                        let numbers = values.iter().map(|value| value.unwrap_or(0.0));
                        let each = growth.iter_mut().zip(numbers);
                        match self.side {
                            MetricSide::Value => return Ok(judge(self.wanted, sum(values))),
                            MetricSide::Increase => {
                                Some(each.map(|(growth, number)| growth.add(number)).sum())
                            }
                            MetricSide::Rate(over) => {
                                let now = Instant::now();
                                each.map(|(growth, number)| growth.rate(now, number, over)).sum()
                            }
                        }
                    };
                    if known.is_some() {
                        return Ok(judge(self.wanted, known));
                    }
                    // A rate is known once it was observed for so long.
                    tokio::time::sleep(every).await;
                }
            };
            poll(every, sink, observe).await
        })
    }
}

/// What is there, added up; nothing if none is.
fn sum(values: impl IntoIterator<Item = Option<f64>>) -> Option<f64> {
    values.into_iter().flatten().reduce(|sum, value| sum + value)
}

/// The metric's value on a node; or why it could not be had.
async fn read(
    metric: &Metric,
    on: NodeRef,
    access: &Access,
) -> Result<Result<Option<f64>, String>, ClusterError> {
    Ok(match ask(metric, on, access).await? {
        Answer::Status { code: 200, body } => Ok(value(&body, &metric.name, &metric.labels)),
        Answer::Status { code, body } => Err(format!("{on}: {code}: {}", brief(&body))),
        other => Err(format!("{on}: {other}")),
    })
}

async fn ask(metric: &Metric, on: NodeRef, access: &Access) -> Result<Answer, ClusterError> {
    let program = match metric.component {
        MetricOf::Component(component) => Program::Component(component),
        MetricOf::Kubelet => Program::Kubelet,
        MetricOf::KubeProxy => Program::KubeProxy,
    };
    let Some((from, at, speech)) = access.metrics_of(program, on)? else {
        return Err(ClusterError::new(format!("{} serves no metrics", program.name())));
    };
    let request = Request::get("/metrics")
        .body(Full::default())
        .map_err(|e| ClusterError::caused("ask for metrics", e))?;
    let answer = access.ask(from, at, speech, request, READ).await;
    match away(&**access.node(on)?) {
        Some(why) if from != Vantage::Beside => Ok(Answer::Broken(why)),
        _ => answer,
    }
}

/// How much a number has grown. One that falls has begun anew at zero.
#[derive(Debug, Default, Clone)]
struct Growth {
    last: Option<f64>,
    grown: f64,
    /// How much it had grown, and when; as far back as a rate needs.
    past: VecDeque<(Instant, f64)>,
}

impl Growth {
    fn add(&mut self, value: f64) -> f64 {
        if let Some(last) = self.last.replace(value) {
            self.grown += if value < last { value } else { value - last };
        }
        self.grown
    }

    /// Adds what was seen now: the growth in a second over so long before it, or nothing if nothing
    /// was seen that long ago.
    fn rate(&mut self, now: Instant, value: f64, over: Duration) -> Option<f64> {
        let grown = self.add(value);
        self.past.push_back((now, grown));
        let age = |at: Instant| now.saturating_duration_since(at);
        while self.past.get(1).is_some_and(|(at, _)| age(*at) >= over) {
            self.past.pop_front();
        }
        let (first, before) = *self.past.front()?;
        (age(first) >= over).then(|| (grown - before) / age(first).as_secs_f64())
    }
}

/// The sum of the series with this name and these labels, if there is one.
fn value(text: &str, name: &str, labels: &BTreeMap<String, String>) -> Option<f64> {
    let series = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let (found, rest) = match rest.strip_prefix('{') {
            Some(rest) => series_labels(rest)?,
            None => (BTreeMap::new(), rest),
        };
        let number = rest.strip_prefix(' ')?.split(' ').next()?.parse::<f64>().ok()?;
        labels.iter().all(|(name, value)| found.get(name) == Some(value)).then_some(number)
    });
    sum(series.map(Some))
}

/// The labels of a series up to the closing brace, and what follows.
/// <https://github.com/prometheus/docs/blob/main/docs/instrumenting/exposition_formats.md>
fn series_labels(mut text: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        text = text.trim_start_matches([',', ' ']);
        if let Some(rest) = text.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, rest) = text.split_once("=\"")?;
        let mut value = String::new();
        let mut chars = rest.char_indices();
        let end = loop {
            match chars.next()? {
                (at, '"') => break at + 1,
                (_, '\\') => match chars.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, char) => value.push(char),
            }
        };
        labels.insert(name.to_owned(), value);
        text = &rest[end..];
    }
}

/// What a number must be, in words.
pub(super) fn words(wanted: Wanted) -> String {
    match wanted {
        Wanted::AtLeast(number) => format!("at least {number}"),
        Wanted::AtMost(number) => format!("at most {number}"),
        Wanted::Equals(number) => number.to_string(),
        Wanted::Absent => "absent".to_owned(),
    }
}

/// Whether a number is as it must be.
#[expect(clippy::float_cmp, reason = "what is written is compared with what is told")]
pub(super) fn judge(wanted: Wanted, number: Option<f64>) -> Observation {
    let holds = match (wanted, number) {
        (Wanted::Absent, number) => number.is_none(),
        (_, None) => false,
        (Wanted::AtLeast(least), Some(number)) => number >= least,
        (Wanted::AtMost(most), Some(number)) => number <= most,
        (Wanted::Equals(just), Some(number)) => number == just,
    };
    Observation { holds, saw: number.map_or_else(|| "absent".to_owned(), |n| n.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# HELP a_total Help.
# TYPE a_total counter
a_total 7
a_totals 9
b{name=\"x\",reason=\"one\"} 1
b{name=\"x\",reason=\"a \\\"quoted\\\", {braced} \\\\ one\"} 2.5
b{name=\"y\", reason=\"\",} 4 1700000000000
c{le=\"+Inf\"} 1e+03
d +Inf
";

    #[test]
    fn series_are_chosen_by_name_and_labels_and_added_up() {
        let value = |name: &str, labels: &[(&str, &str)]| {
            let labels = labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            value(TEXT, name, &labels)
        };
        assert_eq!(value("a_total", &[]), Some(7.0));
        assert_eq!(value("a_tot", &[]), None);
        assert_eq!(value("b", &[]), Some(7.5));
        assert_eq!(value("b", &[("name", "x")]), Some(3.5));
        assert_eq!(value("b", &[("name", "y"), ("reason", "")]), Some(4.0));
        assert_eq!(value("b", &[("reason", "a \"quoted\", {braced} \\ one")]), Some(2.5));
        assert_eq!(value("b", &[("name", "z")]), None);
        assert_eq!(value("c", &[("le", "+Inf")]), Some(1000.0));
        assert_eq!(value("d", &[]), Some(f64::INFINITY));
    }

    #[test]
    fn what_several_tell_is_added_up_if_one_tells() {
        assert_eq!(sum([None, Some(1.0), Some(2.5)]), Some(3.5));
        assert_eq!(sum([None, None]), None);
    }

    #[test]
    fn broken_text_has_no_value() {
        for text in ["a{", "a{x", "a{x=\"", "a{x=\"\\", "a{x=\"y\"", "a{x=\"y\"} z", "a", "a "] {
            assert_eq!(value(text, "a", &BTreeMap::new()), None, "{text}");
        }
    }

    #[test]
    fn a_rate_is_known_once_it_was_observed_for_long_enough() {
        let (mut growth, start) = (Growth::default(), Instant::now());
        let mut rate = |second, value| {
            growth.rate(start + Duration::from_secs(second), value, Duration::from_secs(10))
        };
        assert_eq!([rate(0, 100.0), rate(9, 118.0)], [None, None]);
        assert_eq!(rate(10, 120.0), Some(2.0));
        // The counter began anew at some time.
        assert_eq!(rate(20, 10.0), Some(1.0));
        assert_eq!(growth.past.len(), 2);
    }

    #[test]
    fn growth_counts_on_when_a_counter_begins_anew() {
        let mut growth = Growth::default();
        let grown = [5.0, 5.0, 7.0, 1.0, 2.0].map(|value| growth.add(value).to_string());
        assert_eq!(grown, ["0", "0", "2", "3", "4"]);
    }

    #[test]
    fn comparisons() {
        for (wanted, number, holds) in [
            (Wanted::AtLeast(2.0), Some(2.0), true),
            (Wanted::AtLeast(2.0), Some(1.9), false),
            (Wanted::AtMost(2.0), Some(2.0), true),
            (Wanted::AtMost(2.0), Some(2.1), false),
            (Wanted::Equals(1.0), Some(1.0), true),
            (Wanted::Equals(1.0), Some(0.0), false),
            (Wanted::AtMost(2.0), None, false),
            (Wanted::AtLeast(0.0), Some(f64::NAN), false),
            (Wanted::Absent, None, true),
            (Wanted::Absent, Some(0.0), false),
        ] {
            assert_eq!(judge(wanted, number).holds, holds, "{wanted:?} {number:?}");
        }
    }
}
