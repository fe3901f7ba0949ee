//! A scenario told step by step, in words; nothing is run.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::plan::{Act, Plan, PlanError, Planned, Role, timing_words};
use crate::cluster::Command;
use crate::event::Phase;
use crate::scenario::{
    Fault, FileChange, Leaders, Make, Only, Scenario, Timing, Version, choices, named_in,
    node_words,
};

/// Tells the given variants as they would be carried out on this version of Kubernetes.
///
/// # Errors
/// If there is no such variant.
pub fn explain(
    scenario: &Scenario,
    variants: &[usize],
    version: Version,
) -> Result<String, PlanError> {
    let mut out = format!("{}: {}\n", scenario.name, scenario.title);
    paragraph(&mut out, &scenario.notes);
    for reference in &scenario.references {
        let _ = writeln!(out, "  see {reference}");
    }
    cluster(&mut out, scenario, version);
    for variant in variants {
        let name = scenario.variants.get(*variant).map_or("", String::as_str);
        let plan = Plan::new(scenario, name, version, 0)?;
        let _ = writeln!(out, "\n{}/{name}", scenario.name);
        let settings = scenario.cluster.settings.iter().filter(|set| set.only.covers(name));
        for setting in settings {
            let flags = setting.flags.iter().map(|(flag, value)| format!("--{flag}={value}"));
            let flags = flags.collect::<Vec<_>>().join(" ");
            let _ = writeln!(out, "  The cluster runs {} with {flags}", setting.component.name());
        }
        steps(&mut out, &plan);
    }
    Ok(out)
}

fn paragraph(out: &mut String, text: &str) {
    for line in text.trim_end().lines() {
        let _ = writeln!(out, "{}", format!("  {line}").trim_end());
    }
}

fn cluster(out: &mut String, scenario: &Scenario, version: Version) {
    let needs = &scenario.cluster;
    let (masters, workers) = (needs.masters, needs.workers);
    let s = |count: usize| if count == 1 { "" } else { "s" };
    let _ = writeln!(
        out,
        "\nOn {masters} master{} and {workers} worker{}; Kubernetes: {}",
        s(masters),
        s(workers),
        needs.versions
    );
    let [major, minor, patch] = version;
    let skipped = if needs.versions.covers(version) { "" } else { ", on which it is skipped" };
    let _ = writeln!(out, "Told here for {major}.{minor}.{patch}{skipped}");
    for node in &scenario.nodes {
        let only = match &node.only {
            Only::These(variants) => format!(" ({})", variants.join(", ")),
            Only::All => String::new(),
        };
        let _ = writeln!(out, "  {} is {node}{only}", node.name);
    }
    // The file was read with the first choice of the first variant.
    let first = scenario.variants.first().map_or("", String::as_str);
    let named = named_in(&scenario.nodes, first);
    if let Some(nodes) = choices(&named, masters, workers, &Leaders::new()).first()
        && !nodes.is_empty()
    {
        let _ = writeln!(out, "  Told here as if {}", node_words(nodes));
    }
}

fn steps(out: &mut String, plan: &Plan) {
    let mut number = 0;
    let mut step = |out: &mut String, text: &str| {
        number += 1;
        let _ = writeln!(out, "  {number}. {text}");
    };
    for planned in &plan.actions[plan.setup.clone()] {
        step(out, &format!("Set up {}: {}", planned.name, planned.does));
        content(out, &planned.fault);
    }
    step(out, "The steady state holds, all of it at one moment, or the case is INVALID:");
    expectations(out, plan, plan.steady.clone(), |_| String::new());
    let mut in_place = BTreeSet::new();
    for (index, block) in plan.blocks.iter().enumerate() {
        let not_yet = plan.not_yet(index);
        if !block.acts.is_empty() && !not_yet.is_empty() {
            step(out, "None of this holds yet, or the case is INVALID:");
            for id in not_yet {
                let _ = writeln!(out, "     - {}", plan.expectations[id].name);
            }
        }
        for act in &block.acts {
            let (verb, action) = match act {
                Act::Inject(action) => {
                    in_place.insert(*action);
                    let remedy = plan.actions[*action].role == Role::Remedy;
                    (if remedy { "Remedy" } else { "Inject" }, *action)
                }
                Act::Revert(action) => {
                    in_place.remove(action);
                    ("Take back", *action)
                }
                Act::Wait(time) => {
                    step(out, &format!("Wait until {time:.1?} after the injection before it"));
                    continue;
                }
            };
            let planned = &plan.actions[action];
            let does = match (&planned.fault, act) {
                (Fault::Command(command), Act::Revert(_)) => {
                    format!(": run {}", Command::in_words(&command.revert))
                }
                (_, Act::Revert(_)) => String::new(),
                _ => format!(": {}", planned.does),
            };
            step(out, &format!("{verb} `{}`{does}", planned.name));
            if matches!(act, Act::Inject(_)) {
                content(out, &planned.fault);
            }
        }
        for (index, stage) in block.stages.iter().enumerate() {
            let phase = stage.clone().next().map(|id| plan.expectations[id].phase);
            step(out, if phase == Some(Phase::Detect) { "Detect:" } else { "Recover:" });
            let name = |action: usize| &*plan.actions[action].name;
            expectations(out, plan, stage.clone(), |planned| {
                let from = planned.from.and_then(|from| block.acts.get(from));
                match from {
                    Some(Act::Inject(action) | Act::Revert(action)) => {
                        format!("`{}`", name(*action))
                    }
                    _ if index > 0 && matches!(planned.timing, Timing::Throughout { .. }) => {
                        "the start of the step".to_owned()
                    }
                    _ => "the change".to_owned(),
                }
            });
        }
        if !block.stages.is_empty() && !in_place.is_empty() {
            step(out, "What is in place is proven again, or the case is INCONCLUSIVE");
        }
    }
    if !(in_place.is_empty() && plan.setup.is_empty()) {
        step(out, "What is still in place is taken back, the last first, and each is verified");
    }
}

/// What a fault writes into an object or a file, and by what its author has it proven.
fn content(out: &mut String, fault: &Fault) {
    // Whatever was read as YAML can be written as such.
    let yaml = |written| serde_saphyr::to_string(written).unwrap_or_default();
    let text = match fault {
        Fault::Apply(apply) => yaml(&apply.manifest),
        Fault::Patch(patch) => yaml(&patch.patch),
        Fault::File(FileChange { make: Make::Content(text), .. }) => text.clone(),
        Fault::Command(command) => {
            format!("proven by {}", Command::in_words(&command.prove))
        }
        _ => return,
    };
    for line in text.lines() {
        let _ = writeln!(out, "     | {line}");
    }
}

/// Expectations with their timing, each with what its times count from.
fn expectations(
    out: &mut String,
    plan: &Plan,
    ids: std::ops::Range<usize>,
    cause: impl Fn(&Planned) -> String,
) {
    for planned in &plan.expectations[ids] {
        let cause = cause(planned);
        let timing = match (planned.phase, planned.timing) {
            (Phase::SteadyState, timing) => timing_words(timing),
            (_, Timing::Within { deadline, stable_for }) if stable_for.is_zero() => {
                format!("within {deadline:?} of {cause}")
            }
            (_, Timing::Within { deadline, stable_for }) => {
                format!("within {deadline:?} of {cause}, and then for {stable_for:?}")
            }
            (_, Timing::Throughout { after, window }) if after.is_zero() => {
                format!("throughout {window:?}, from {cause} on")
            }
            (_, Timing::Throughout { after, window }) => {
                format!("throughout {window:?}, from {after:?} after {cause} on")
            }
        };
        let _ = writeln!(out, "     - {}: {timing}", planned.name);
        let _ = writeln!(out, "       {}", planned.wanted);
    }
}
