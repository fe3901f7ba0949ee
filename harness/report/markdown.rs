//! What was measured, as tables in Markdown: for pages that tell of several runs.

use std::fmt::Write as _;

use super::case::{Case, ExpectationRecord};
use super::repeated::{Spread, beside, by_provider, providers};
use super::words;
use crate::event::{Outcome, Phase, Verdict};

/// A table of what several providers made of the same variants, if there are several. Then for each
/// variant that was carried out a heading and a table, in the order of their first cases: a
/// line for each detection and recovery expectation, a column for each kind of cluster. Of repeated
/// cases the median, the least and the most are told.
pub fn markdown(cases: &[Case]) -> String {
    let mut out = side_by_side(cases);
    let run: Vec<&Case> = cases.iter().filter(|case| case.verdict != Some(Verdict::Skip)).collect();
    for scenario in
        distinct(run.iter().filter_map(|case| Some(case.info.as_ref()?.scenario.as_str())))
    {
        let _ = writeln!(out, "\n## {scenario}");
        let of_it: Vec<&Case> = run.iter().copied().filter(|c| named(c).0 == scenario).collect();
        for variant in distinct(of_it.iter().map(|case| named(case).1)) {
            let of_it: Vec<&Case> =
                of_it.iter().copied().filter(|case| named(case).1 == variant).collect();
            let _ = writeln!(out, "\n### {variant}\n\n{}", table(&of_it));
        }
    }
    out
}

fn side_by_side(cases: &[Case]) -> String {
    let variants = by_provider(cases);
    let Some(first) = variants.first() else { return String::new() };
    let of = providers(first);
    let mut out = format!("\n| Scenario | Variant | PASS, {of} | TTD | TTR | |\n");
    let _ = writeln!(out, "| --- | --- | --- | --- | --- | --- |");
    for groups in &variants {
        let _ = writeln!(out, "| {} |", beside(groups).join(" | "));
    }
    out
}

/// A case's scenario and variant.
fn named(case: &Case) -> (&str, &str) {
    case.info.as_ref().map_or(("", ""), |info| (&info.scenario, &info.variant))
}

fn cluster(case: &Case) -> String {
    case.info
        .as_ref()
        .map(|info| words::cluster(&info.provider, &info.kubernetes))
        .unwrap_or_default()
}

fn distinct<T: PartialEq>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut seen = vec![];
    for one in all {
        if !seen.contains(&one) {
            seen.push(one);
        }
    }
    seen
}

/// The cases of one variant.
fn table(cases: &[&Case]) -> String {
    let clusters = distinct(cases.iter().map(|case| cluster(case)));
    let on = |of: &str| -> Vec<&Case> {
        cases.iter().copied().filter(|case| cluster(case) == *of).collect()
    };
    let lines =
        distinct(cases.iter().flat_map(|case| lines(case).into_iter().map(|(line, _)| line)));
    let mut out = format!("| Phase | Expectation | {} |\n", clusters.join(" | "));
    let _ = writeln!(out, "| --- | --- |{}", " --- |".repeat(clusters.len()));
    let verdicts: Vec<_> = clusters.iter().map(|cluster| passed(&on(cluster))).collect();
    let _ = writeln!(out, "| | | {} |", verdicts.join(" | "));
    for line in lines {
        let cells = clusters.iter().map(|cluster| cell(&on(cluster), line));
        let (phase, name, _) = line;
        let cells = cells.collect::<Vec<_>>().join(" | ");
        let name = words::printable(name).replace('|', "\\|");
        let _ = writeln!(out, "| {} | {name} | {cells} |", words::phase(phase));
    }
    out.trim_end().to_owned()
}

/// A phase, a name, and which of those of this name it is.
type Line<'a> = (Phase, &'a str, usize);

/// What a case expected, with the line that it stands in.
fn lines(case: &Case) -> Vec<(Line<'_>, &ExpectationRecord)> {
    let mut lines: Vec<(Line<'_>, &ExpectationRecord)> = vec![];
    for record in case.expectations.values() {
        let (phase, name) = (record.phase, record.name.as_str());
        if matches!(phase, Phase::Detect | Phase::Recover) {
            let alike = lines.iter().filter(|((p, n, _), _)| (*p, *n) == (phase, name)).count();
            lines.push(((phase, name, alike), record));
        }
    }
    lines
}

/// `3 of 3 PASS`.
fn passed(cases: &[&Case]) -> String {
    let passed = cases.iter().filter(|case| case.verdict == Some(Verdict::Pass)).count();
    format!("{passed} of {} PASS", cases.len())
}

/// What became of one expectation in the cases on one kind of cluster.
fn cell(cases: &[&Case], line: Line) -> String {
    let of_case = |case: &&Case| {
        let (_, record) = lines(case).into_iter().find(|(of, _)| *of == line)?;
        // What was given up was not judged.
        record.outcome.clone().filter(|outcome| *outcome != Outcome::Dropped)
    };
    let outcomes: Vec<Outcome> = cases.iter().filter_map(of_case).collect();
    let times: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            Outcome::Met { after, .. } => *after,
            _ => None,
        })
        .collect();
    let met = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Met { .. })).count();
    let what = match Spread::of(times.into_iter()) {
        Some(spread) => spread.said(),
        None if met > 0 => "all the time".to_owned(),
        None if outcomes.is_empty() => return "-".to_owned(),
        None => return "not met".to_owned(),
    };
    if met == outcomes.len() { what } else { format!("{met} of {}: {what}", outcomes.len()) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::event::{CaseInfo, Measured};

    fn case(provider: &str, repetition: usize, outcomes: [Outcome; 2]) -> Case {
        let passed = outcomes.iter().all(|outcome| matches!(outcome, Outcome::Met { .. }));
        let record = |(at, (phase, outcome))| {
            let record = ExpectationRecord {
                phase,
                name: format!("a|{at}"),
                timing: String::new(),
                wanted: String::new(),
                every: Duration::ZERO,
                waits: vec![],
                observed: None,
                outcome: Some(outcome),
            };
            (at, record)
        };
        let info = CaseInfo {
            scenario: "s".into(),
            variant: "v".into(),
            provider: provider.into(),
            kubernetes: "1.34.4".into(),
            repetition,
            scenario_sha256: String::new(),
            kernel: String::new(),
            seed: 1,
        };
        let phases = [Phase::Detect, Phase::Recover].into_iter().zip(outcomes);
        Case {
            info: Some(info),
            verdict: Some(if passed { Verdict::Pass } else { Verdict::Fail }),
            expectations: phases.enumerate().map(record).collect(),
            ..Case::default()
        }
    }

    #[test]
    fn each_expectation_has_a_line_and_each_kind_of_cluster_a_column() {
        let after = |seconds| {
            let (time, zero) = (Duration::from_secs(seconds), Duration::ZERO);
            let after = Measured { time, uncertainty: zero, resolution: zero };
            Outcome::Met { after: Some(after), saw: String::new() }
        };
        let all = || Outcome::Met { after: None, saw: String::new() };
        let failed = || Outcome::Failed { wanted: String::new(), saw: String::new() };
        let cases = [
            case("lab", 1, [after(1), all()]),
            case("lab", 2, [after(2), all()]),
            case("lab", 3, [after(4), failed()]),
            case("kind", 1, [failed(), Outcome::Dropped]),
        ];
        assert_eq!(
            markdown(&cases),
            "
| Scenario | Variant | PASS, lab / kind | TTD | TTR | |
| --- | --- | --- | --- | --- | --- |
| s | v | 2 of 3 / 0 of 1 | - / - | - / - |  |

## s

### v

| Phase | Expectation | lab 1.34.4 | kind 1.34.4 |
| --- | --- | --- | --- |
| | | 2 of 3 PASS | 0 of 1 PASS |
| detect | a\\|0 | 2.00 s (1.00 … 4.00) | not met |
| recover | a\\|1 | 2 of 3: all the time | - |
"
        );
    }
}
