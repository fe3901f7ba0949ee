//! What `docs/language.md` and `scenarios/` have of the reference.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use outage::scenario::reference::{Field, Found, Need, Shape, find};
use outage::scenario::{BUILTIN, Step, load};

use super::files;
use super::scenario_support::current;

const LANGUAGE: &str = include_str!("../../docs/language.md");

fn found(path: &str) -> Found {
    find(path).unwrap().into_iter().next().unwrap()
}

fn faults() -> Vec<Field> {
    found("spec.steps.inject.fault").field.shape.fields()
}

fn probes() -> Vec<Field> {
    found("spec.steadyState.probe").field.shape.fields()
}

/// A table of faults or of probes.
fn table(head: &str, kinds: &[Field]) -> String {
    let mut out = format!("| {head} | Fields |\n| --- | --- | --- |\n");
    for kind in kinds {
        let names = |required: bool| {
            let fields = kind.shape.fields();
            let fields = fields.iter().filter(|field| (field.need == Need::Required) == required);
            fields.map(|field| format!("`{}`", field.name)).collect::<Vec<_>>().join(", ")
        };
        let optional = names(false);
        let optional = if optional.is_empty() { optional } else { format!("; {optional}") };
        let about = kind.about.trim_end_matches('.');
        let _ = writeln!(out, "| `{}` | {about} | {}{optional} |", kind.name, names(true));
    }
    out
}

#[test]
fn the_tables_of_faults_and_probes_are_current() {
    let mut text = LANGUAGE.to_owned();
    for (what, head, kinds) in [
        ("faults", "Fault | What it does", faults()),
        ("probes", "Probe | What it looks at", probes()),
    ] {
        let mark = format!("<!-- {what}, made of the reference -->\n");
        let (before, rest) = text.split_once(&mark).unwrap();
        let after = rest.split_once("\n\n").unwrap().1;
        text = format!("{before}{mark}{}\n{after}", table(head, &kinds));
    }
    current("docs/language.md", &text);
}

#[test]
fn the_examples_of_faults_and_probes_are_those_of_the_reference() {
    for (mark, kinds) in
        [("<!-- one of each fault -->", faults()), ("<!-- one of each probe -->", probes())]
    {
        let block = LANGUAGE.split(mark).nth(1).unwrap().split("```").nth(1).unwrap();
        let lines = block.lines().filter_map(|line| line.strip_prefix("- "));
        let shown: BTreeSet<_> =
            lines.map(|line| line.split("  #").next().unwrap().trim()).collect();
        let examples: BTreeSet<_> = kinds.iter().flat_map(|kind| kind.examples).copied().collect();
        assert_eq!(shown, examples);
        for kind in kinds {
            assert!(!kind.examples.is_empty(), "{} has no example", kind.name);
        }
    }
}

#[test]
fn a_probe_s_own_period_is_what_is_said_of_it() {
    let about = found("spec.steadyState.every").field.about;
    let (hundred, half) =
        about.split_once("100ms for ").unwrap().1.split_once(", 500ms for ").unwrap();
    let mut seen = BTreeSet::new();
    for file in files() {
        let scenario = load("a.yaml", file.to_string().as_bytes()).unwrap();
        let steps = scenario.steps.iter().flat_map(|step| match step {
            Step::Detect(all) | Step::Recover(all) => all.as_slice(),
            _ => &[],
        });
        for expectation in scenario.steady_state.iter().chain(steps) {
            let probe = serde_json::to_value(&expectation.probe).unwrap();
            let name = format!("`{}`", probe.as_object().unwrap().keys().next().unwrap());
            let said = match (hundred.contains(&name), half.contains(&name)) {
                (true, _) => Duration::from_millis(100),
                (_, true) => Duration::from_millis(500),
                _ => Duration::from_secs(1),
            };
            // The example of `every`; elsewhere it is written as it would be without.
            if expectation.every == Duration::from_secs(2) {
                continue;
            }
            assert_eq!(expectation.every, said, "{name}");
            seen.insert(name);
        }
    }
    assert_eq!(seen.len(), probes().len(), "{seen:?}");
}

#[test]
fn each_fault_and_each_probe_has_an_example_that_runs() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/examples");
    let mut used = BTreeSet::new();
    let mut note = |what: serde_json::Value| used.extend(what.as_object().unwrap().keys().cloned());
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read(&path).unwrap();
        let scenario =
            load(&path.display().to_string(), &text).unwrap_or_else(|e| panic!("{}", e.plain()));
        assert_eq!(path.file_stem().unwrap().to_str(), Some(&*scenario.name));
        let mut expectations = scenario.steady_state;
        for step in scenario.steps {
            match step {
                Step::Inject(action) | Step::Remedy(action) => {
                    note(serde_json::to_value(action.fault).unwrap());
                }
                Step::Detect(all) | Step::Recover(all) => expectations.extend(all),
                Step::Revert(_) => {}
            }
        }
        for expectation in &expectations {
            note(serde_json::to_value(&expectation.probe).unwrap());
        }
    }
    let kinds: Vec<_> = faults().into_iter().chain(probes()).collect();
    let missing: Vec<_> =
        kinds.iter().map(|kind| kind.name).filter(|n| !used.contains(*n)).collect();
    assert!(missing.is_empty(), "no example of {missing:?}");
}

#[test]
fn shipped_scenarios_name_their_schema() {
    for builtin in BUILTIN {
        let line = builtin.text.lines().next().unwrap();
        let named = "# yaml-language-server: $schema=../docs/scenario.schema.json";
        assert_eq!(line, named, "{}", builtin.path);
    }
}

#[test]
fn a_field_is_told_in_words() {
    let mut out = String::new();
    for path in ["spec.steps.inject.traffic", "event", "steps.recover", "traffic.do", "spec.nodes"]
    {
        let _ = writeln!(out, "{}", found(path));
    }
    insta::assert_snapshot!(out);
    assert!(matches!(found("spec").field.shape, Shape::Map { .. }));
}

/// Each block is the steps of a scenario.
#[test]
fn the_recipes_are_steps() {
    let text = include_str!("../../docs/recipes.md");
    let blocks: Vec<_> =
        text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(blocks.len(), text.matches("\n## ").count());
    for block in blocks {
        let mut file = String::from(
            "apiVersion: outage/v1alpha1\nkind: Scenario\nmetadata: {name: a, title: A}\nspec:\n  \
             cluster: {masters: 3, workers: 1}\n  steadyState:\n  - name: a\n    probe:\n      \
             health: {apiserver: {master: 1}, path: /readyz, is: ok}\n    within: 30s\n  steps:\n",
        );
        block.lines().for_each(|line| file.extend(["  ", line, "\n"]));
        let loaded = load("recipe.yaml", file.as_bytes());
        assert!(loaded.is_ok(), "{block}\n{}", loaded.unwrap_err().plain());
    }
}
