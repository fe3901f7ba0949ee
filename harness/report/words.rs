//! How things are said, the same in every report.

use std::time::Duration;

use crate::event::{ActionState, Measured, Outcome, Phase, Verdict};

/// `3 cases`.
pub(super) fn cases(count: usize) -> String {
    match count {
        0 => "no cases".to_owned(),
        1 => "1 case".to_owned(),
        count => format!("{count} cases"),
    }
}

/// `lab 1.34.4`.
pub(super) fn cluster(provider: &str, kubernetes: &str) -> String {
    format!("{provider} {kubernetes}")
}

/// `0.42 s`.
pub(super) fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

/// `0.42 s ±0.05 /0.10`: the time, from issued to proven, and the observation's resolution.
pub(super) fn measured(measured: Option<Measured>) -> String {
    measured.map_or("-".to_owned(), |Measured { time, uncertainty, resolution }| {
        let (uncertainty, resolution) = (uncertainty.as_secs_f64(), resolution.as_secs_f64());
        format!("{} ±{uncertainty:.2} /{resolution:.2}", seconds(time))
    })
}

/// What [`measured`] shows.
pub(super) const MEASURED: &str =
    "TTD, TTR: time ±(from issued to proven) /(resolution of the observation), in seconds";

pub(super) fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Provision => "provision",
        Phase::SteadyState => "steady state",
        Phase::Inject => "inject",
        Phase::Detect => "detect",
        Phase::Revert => "revert",
        Phase::Remedy => "remedy",
        Phase::Recover => "recover",
        Phase::Teardown => "teardown",
    }
}

pub(super) fn verdict(verdict: Option<Verdict>) -> String {
    verdict.map_or("UNFINISHED".to_owned(), |verdict| verdict.to_string())
}

/// How far an action is: `proven after 0.05 s (…)`.
pub(super) fn action(state: &ActionState) -> String {
    match state {
        ActionState::Issued => "issued".to_owned(),
        ActionState::Proven { took, evidence } => {
            format!("proven after {} ({})", seconds(*took), evidence.join("; "))
        }
        ActionState::Unproven { why } => format!("NOT PROVEN: {why}"),
        ActionState::Reverting => "reverting".to_owned(),
        ActionState::Reverted { took } => format!("reverted after {}", seconds(*took)),
        ActionState::NotReverted { why } => format!("NOT REVERTED: {why}"),
    }
}

/// How an expectation ended: `after 0.42 s: three addresses`.
pub(super) fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Met { after: Some(after), saw } => format!("after {}: {saw}", seconds(after.time)),
        Outcome::Met { after: None, saw } => format!("all the time: {saw}"),
        Outcome::Failed { wanted, saw } => format!("wanted: {wanted}; last seen: {saw}"),
        Outcome::Dropped => "given up".to_owned(),
    }
}

/// Text from elsewhere, without what a terminal would obey.
pub(super) fn printable(text: &str) -> String {
    console::strip_ansi_codes(text).replace(|char: char| char.is_control() && char != '\t', " ")
}
