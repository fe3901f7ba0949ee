//! The text at the end of a run.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use owo_colors::{OwoColorize, Style};

use super::account::{Account, Taker};
use super::case::{Case, cases};
use super::repeated::{SPREAD, beside, by_provider, providers, repeated, spread};
use super::words;
use crate::event::{ActionState, Event, Outcome, Verdict};

const ORDER: [Verdict; 6] = [
    Verdict::Pass,
    Verdict::Fail,
    Verdict::Invalid,
    Verdict::Inconclusive,
    Verdict::Dirty,
    Verdict::Skip,
];

/// A table of the cases; for every one that is not PASS why, what was wanted and what was seen
/// last, deaths that nobody asked for, and where in the run's folder there is more; what repeated
/// cases came to; a line with totals.
pub fn text(events: &[Event], folder: Option<&Path>, colours: bool) -> String {
    let cases = cases(events);
    let mut out = table(&cases, colours);
    for case in &cases {
        if case.verdict != Some(Verdict::Pass) || !case.deaths.is_empty() {
            out.push('\n');
            details(&mut out, case, folder, colours);
        }
    }
    out += &side_by_side(&cases);
    out += &repetitions(&cases);
    out += &account(&cases);
    let _ = writeln!(out, "\n{}", totals(&cases));
    out
}

fn style(verdict: Option<Verdict>, colours: bool) -> Style {
    match verdict {
        _ if !colours => Style::new(),
        Some(Verdict::Pass) => Style::new().green(),
        Some(Verdict::Skip) => Style::new().yellow(),
        _ => Style::new().red().bold(),
    }
}

fn table(cases: &[Case], colours: bool) -> String {
    let mut rows =
        vec![["SCENARIO", "VARIANT", "CLUSTER", "VERDICT", "TTD", "TTR"].map(String::from)];
    rows.extend(cases.iter().map(row));
    let verdicts = std::iter::once(None).chain(cases.iter().map(|case| Some(case.verdict)));
    let mut out = String::new();
    for (row, verdict) in aligned(&rows).iter().zip(verdicts) {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            match verdict {
                Some(verdict) if column == 3 => {
                    let _ = write!(line, "{}  ", cell.style(style(verdict, colours)));
                }
                _ => line.extend([cell.as_str(), "  "]),
            }
        }
        out += line.trim_end();
        out.push('\n');
    }
    if cases.iter().any(|case| case.ttd.or(case.ttr).is_some()) {
        let _ = writeln!(out, "{}", words::MEASURED);
    }
    out
}

fn row(case: &Case) -> [String; 6] {
    let (scenario, variant, cluster) = case.info.as_ref().map_or_else(Default::default, |info| {
        let variant = match info.repetition {
            0 | 1 => info.variant.clone(),
            repetition => format!("{} #{repetition}", info.variant),
        };
        (info.scenario.clone(), variant, words::cluster(&info.provider, &info.kubernetes))
    });
    let (ttd, ttr) = (words::measured(case.ttd), words::measured(case.ttr));
    [scenario, variant, cluster, words::verdict(case.verdict), ttd, ttr]
}

fn details(out: &mut String, case: &Case, folder: Option<&Path>, colours: bool) {
    let verdict = words::verdict(case.verdict);
    let _ = writeln!(out, "{} {}", verdict.style(style(case.verdict, colours)), case.label());
    for reason in &case.reasons {
        let _ = writeln!(out, "  {}", words::printable(reason));
    }
    if let Some(info) = case.info.as_ref().filter(|_| !case.nodes.is_empty()) {
        let nodes = case.nodes.iter().map(|(name, node)| format!("{name} is {node}"));
        let nodes = nodes.collect::<Vec<_>>().join(", ");
        let _ = writeln!(out, "  with seed {} {nodes}", info.seed);
    }
    for expectation in case.expectations.values() {
        let Some(Outcome::Failed { wanted, saw }) = &expectation.outcome else { continue };
        let (name, timing) = (&expectation.name, &expectation.timing);
        let _ = writeln!(out, "  {}: {name} ({timing})", words::phase(expectation.phase));
        let _ = writeln!(out, "    wanted:    {}", words::printable(wanted));
        let _ = writeln!(out, "    last seen: {}", words::printable(saw));
    }
    for (name, does, states) in &case.actions {
        for state in states {
            if matches!(state, ActionState::Unproven { .. } | ActionState::NotReverted { .. }) {
                let state = words::printable(&words::action(state));
                let _ = writeln!(out, "  {name} ({does}): {state}");
            }
        }
    }
    for death in &case.deaths {
        let (process, status) = (&death.process, words::printable(&death.status));
        let _ = writeln!(out, "  {process} died unasked at {}: {status}", words::seconds(death.at));
        for line in &death.log {
            let _ = writeln!(out, "    | {}", words::printable(line));
        }
    }
    if let Some(folder) = folder.filter(|_| case.verdict != Some(Verdict::Skip)) {
        artefacts(out, case, folder);
    }
}

/// Where in the run's folder there is more about a case.
fn artefacts(out: &mut String, case: &Case, folder: &Path) {
    let timeline = Some(timeline_name(case.index));
    for (what, name) in
        [("timeline", &timeline), ("component logs", &case.logs), ("objects", &case.objects)]
    {
        if let Some(name) = name {
            let _ = writeln!(out, "  {:<16}{}", format!("{what}:"), folder.join(name).display());
        }
    }
}

/// The file with a case's timeline in the run's folder.
pub fn timeline_name(case: usize) -> String {
    format!("timeline-{case}.txt")
}

/// A table of what was run more than once, if anything was.
fn repetitions(cases: &[Case]) -> String {
    let groups = repeated(cases);
    if groups.is_empty() {
        return String::new();
    }
    let mut rows = vec![["SCENARIO", "VARIANT", "CLUSTER", "PASS", "TTD", "TTR"].map(String::from)];
    rows.extend(groups.into_iter().map(|group| {
        let cluster = words::cluster(&group.provider, &group.kubernetes);
        let passed = format!("{} of {}", group.passed, group.cases);
        let (ttd, ttr) = (spread(group.ttd), spread(group.ttr));
        [group.scenario, group.variant, cluster, passed, ttd, ttr]
    }));
    let mut out = "\nrepeated:\n".to_owned();
    write_rows(&mut out, &rows);
    let _ = writeln!(out, "{SPREAD}");
    out
}

/// What several providers' clusters made of the same variants, if there are several.
fn side_by_side(cases: &[Case]) -> String {
    let variants = by_provider(cases);
    let Some(first) = variants.first() else { return String::new() };
    let mut out = format!("\n{}:\n", providers(first));
    let mut rows = vec![["SCENARIO", "VARIANT", "PASS", "TTD", "TTR", ""].map(String::from)];
    rows.extend(variants.iter().map(|groups| beside(groups)));
    write_rows(&mut out, &rows);
    out
}

/// Whose the time of all cases was, and which timers of Kubernetes were waited for.
fn account(cases: &[Case]) -> String {
    let mut account = Account::default();
    for case in cases {
        account.add(&case.account);
    }
    let all: Duration = account.parts().map(|(.., took)| took).sum();
    if all.is_zero() {
        return String::new();
    }
    let mut out = format!("\nwhere the time of {} went:\n", words::cases(cases.len()));
    for taker in [Taker::Start, Taker::Timer, Taker::Window, Taker::Own] {
        let parts = || account.parts().filter(|(by, ..)| *by == taker);
        let took: Duration = parts().map(|(.., took)| took).sum();
        let percent = 100.0 * took.as_secs_f64() / all.as_secs_f64();
        let took = words::seconds(took);
        let _ = writeln!(out, "  {:<10}{took:>10}  {percent:3.0} %", taker.words());
        for (_, what, took) in parts() {
            let _ = writeln!(out, "  {:>20}  {}", words::seconds(took), words::printable(what));
        }
    }
    out
}

/// A line a row, its cells as wide as their columns.
fn write_rows(out: &mut String, rows: &[[String; 6]]) {
    for row in aligned(rows) {
        *out += row.join("  ").trim_end();
        out.push('\n');
    }
}

/// Each cell as wide as its column.
fn aligned(rows: &[[String; 6]]) -> Vec<[String; 6]> {
    let widths: [usize; 6] = std::array::from_fn(|column| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
    });
    let pad = |row: &[String; 6]| {
        std::array::from_fn(|column| {
            let width = widths[column];
            format!("{:width$}", row[column])
        })
    };
    rows.iter().map(pad).collect()
}

/// `5 cases: 3 PASS, 2 FAIL`.
fn totals(cases: &[Case]) -> String {
    let counted = ORDER.map(Some).into_iter().chain([None]).filter_map(|verdict| {
        let count = cases.iter().filter(|case| case.verdict == verdict).count();
        (count > 0).then(|| format!("{count} {}", words::verdict(verdict)))
    });
    let counted = counted.collect::<Vec<_>>().join(", ");
    match words::cases(cases.len()) {
        none if cases.is_empty() => none,
        some => format!("{some}: {counted}"),
    }
}
