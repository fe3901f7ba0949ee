//! The report that CI systems read.

use std::fmt::Write as _;

use quick_junit::{
    NonSuccessKind, Property, Report, SerializeError, TestCase, TestCaseStatus, TestSuite,
};

use super::case::{Case, cases};
use super::words;
use crate::event::{Event, Measured, Verdict};

/// A `JUnit` report: a test case `scenario::variant` for each case of the run. PASS is a success,
/// FAIL a failure, SKIP skipped, everything else an error. TTD and TTR are properties.
///
/// # Errors
/// If it can't be written as XML.
pub fn junit(events: &[Event]) -> Result<Vec<u8>, SerializeError> {
    let cases = cases(events);
    let mut suite = TestSuite::new("outage");
    suite.set_time(cases.iter().map(Case::took).sum());
    suite.add_test_cases(cases.iter().map(test_case));
    let mut report = Report::new("outage");
    report.set_time(events.iter().map(|event| event.at).max().unwrap_or_default());
    report.add_test_suite(suite);
    let mut xml = Vec::new();
    report.serialize(&mut xml)?;
    Ok(xml)
}

fn test_case(case: &Case) -> TestCase {
    let name = case.label().replacen('/', "::", 1);
    let mut test_case = TestCase::new(name, status(case));
    test_case.set_time(case.took());
    if let Some(info) = &case.info {
        test_case.set_classname(format!("{}.{}", info.provider, info.kubernetes));
        test_case.add_property(Property::new("provider", info.provider.as_str()));
        test_case.add_property(Property::new("kubernetes", info.kubernetes.as_str()));
        test_case.add_property(Property::new("scenario-sha256", info.scenario_sha256.as_str()));
        test_case.add_property(Property::new("seed", info.seed.to_string()));
        for (name, node) in &case.nodes {
            test_case.add_property(Property::new(format!("node-{name}"), node.as_str()));
        }
    }
    for (name, measured) in [("ttd", case.ttd), ("ttr", case.ttr)] {
        if let Some(Measured { time, uncertainty, resolution }) = measured {
            for (part, duration) in [
                ("seconds", time),
                ("uncertainty-seconds", uncertainty),
                ("resolution-seconds", resolution),
            ] {
                let value = format!("{:.6}", duration.as_secs_f64());
                test_case.add_property(Property::new(format!("{name}-{part}"), value));
            }
        }
    }
    test_case.set_system_out(output(case));
    test_case
}

fn status(case: &Case) -> TestCaseStatus {
    let mut status = match case.verdict {
        Some(Verdict::Pass) => return TestCaseStatus::success(),
        Some(Verdict::Skip) => TestCaseStatus::skipped(),
        Some(Verdict::Fail) => TestCaseStatus::non_success(NonSuccessKind::Failure),
        Some(Verdict::Invalid | Verdict::Inconclusive | Verdict::Dirty) | None => {
            TestCaseStatus::non_success(NonSuccessKind::Error)
        }
    };
    status.set_type(words::verdict(case.verdict));
    match case.verdict {
        None => status.set_message("the run was cut short"),
        Some(_) => status.set_message(case.reasons.join("\n")),
    };
    status
}

/// What happened, in words.
fn output(case: &Case) -> String {
    let mut out = String::new();
    for (name, does, states) in &case.actions {
        let states: Vec<_> = states.iter().map(words::action).collect();
        let _ = writeln!(out, "{name} ({does}): {}", states.join(", "));
    }
    for expectation in case.expectations.values() {
        let (phase, name) = (words::phase(expectation.phase), &expectation.name);
        let ended = expectation.outcome.as_ref().map_or("not ended".to_owned(), words::outcome);
        let _ = writeln!(out, "{phase}: {name} ({}): {ended}", expectation.timing);
    }
    for death in &case.deaths {
        let _ = writeln!(out, "{} died unasked: {}", death.process, death.status);
        for line in &death.log {
            let _ = writeln!(out, "| {line}");
        }
    }
    out
}
