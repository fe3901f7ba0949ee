//! The command line as far as it needs no cluster: what it says, and with which exit code.

// Helpers of tests are tests to us, but not to the lint.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

const SKIPPED: &str = "
apiVersion: outage/v1alpha1
kind: Scenario
metadata: {name: old, title: For versions that nobody can start}
spec:
  cluster: {masters: 1, workers: 0, versions: \"<1.25\"}
  steadyState:
  - {name: ready, probe: {health: {apiserver: {master: 1}, path: /readyz, is: ok}}, within: 9s}
  steps:
  - inject: {name: a, fault: {stop: {component: etcd, on: {master: 1}, signal: SIGKILL}}}
  - detect:
    - {name: failing, probe: {health: {apiserver: {master: 1}, path: /readyz, is: failing}}, within: 9s}
";

/// Exit code, standard output and standard error of `outage`, with a cache of its own.
fn outage(folder: &Path, arguments: &[&str], deny: Option<&str>) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outage"));
    command.args(arguments).current_dir(folder).env("OUTAGE_CACHE", folder.join("cache"));
    command.env_remove("OUTAGE_DENY_SKIPS").env("NO_COLOR", "1");
    if let Some(deny) = deny {
        command.env("OUTAGE_DENY_SKIPS", deny);
    }
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("old.yaml"), SKIPPED).unwrap();
    let bad = SKIPPED.replace("SIGKILL", "SIGKIL").replace("/readyz, is: ok", "/ready, is: ok");
    std::fs::write(folder.path().join("bad.yaml"), bad).unwrap();
    folder
}

#[test]
fn validate_shows_all_problems_of_all_files() {
    let folder = folder();
    let (code, out, err) =
        outage(folder.path(), &["validate", "bad.yaml", "old.yaml", "none.yaml", "nobody"], None);
    assert_eq!(code, 2);
    assert_eq!(out, "old.yaml: ok, default\n");
    for part in ["`/ready` is not a health endpoint", "`SIGKIL`", "none.yaml", "`nobody`"] {
        assert!(err.contains(part), "{part}: {err}");
    }
    assert_eq!(outage(folder.path(), &["validate", "stopped-apiserver"], None).0, 0);
}

#[test]
fn a_filter_that_matches_nothing_is_bad_usage() {
    let folder = folder();
    let run = ["run", "stopped-apiserver", "--variant", "lease-*", "--variant", "zzz"];
    let (code, _, err) = outage(folder.path(), &run, None);
    assert_eq!(code, 2);
    assert!(err.contains("no variant matches zzz; there are master-count-sigkill"), "{err}");
    assert_eq!(outage(folder.path(), &["explain", "old.yaml", "--variant", "x"], None).0, 2);
}

#[test]
fn skips_show_their_reason_count_once_and_can_be_denied() {
    let folder = folder();
    let run = ["run", "old.yaml", "--repeat", "2", "--resume", "kept"];
    let (code, out, _) = outage(folder.path(), &run, None);
    assert_eq!(code, 3, "nothing was carried out");
    let reason = "the scenario is for Kubernetes <1.25, not for 1.34.4";
    assert!(out.contains(reason) && out.contains("\n2 cases: 2 SKIP\n"), "{out}");

    let (_, again, err) = outage(folder.path(), &run, None);
    assert_eq!(again, out, "what ended is not repeated");
    assert_eq!(err, "");
    assert_eq!(outage(folder.path(), &[&run[..], &["--deny-skips"]].concat(), None).0, 1);
    assert_eq!(outage(folder.path(), &run, Some("1")).0, 1);
    assert_eq!(outage(folder.path(), &run, Some("0")).0, 3);

    let (code, report, _) = outage(folder.path(), &["report", "kept"], None);
    assert_eq!(code, 3);
    assert!(out.starts_with(&report), "the report made later is the same:\n{report}");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let folder = folder();
    for arguments in [
        &["list"][..],
        &["schema"],
        &["explain", "on"],
        &["explain", "stopped-apiserver"],
        &["validate", "stopped-apiserver"],
        &["completion", "bash"],
        &["new", "mine"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_outage"));
        command.args(arguments).current_dir(folder.path()).stdout(writer);
        let output = command.output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*err), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn a_report_of_nothing_is_bad_usage() {
    let folder = folder();
    let (code, _, err) = outage(folder.path(), &["report"], None);
    assert_eq!((code, err.as_str()), (2, "outage: there is no run yet\n"));
    let (code, _, err) = outage(folder.path(), &["report", "."], None);
    assert_eq!((code, err.as_str()), (2, "outage: there are no events in .\n"));
}

#[test]
fn a_scenario_goes_before_a_field_in_what_is_explained() {
    let folder = folder();
    let explain = |what: &str| outage(folder.path(), &["explain", what], None);
    assert!(explain("stopped-apiserver").1.starts_with("stopped-apiserver: A stopped apiserver"));
    let (code, out, _) = explain("traffic");
    assert_eq!(code, 0);
    assert!(out.starts_with("spec.steps.inject.fault.traffic: a map\n"), "{out}");
    let (code, out, _) = explain("on");
    assert_eq!(code, 0);
    assert!(out.contains("\n  spec.steps.inject.fault.stop.on\n      On which nodes"), "{out}");
    // A file that is there is a scenario, whatever its name.
    std::fs::rename(folder.path().join("old.yaml"), folder.path().join("spec.cluster")).unwrap();
    assert!(explain("spec.cluster").1.starts_with("old: "));
    for (wrong, said) in [
        (
            "spec.cluster.setings",
            "scenarios have no field `spec.cluster.setings`; did you mean `spec.cluster.settings`?",
        ),
        (
            "stoped-apiserver",
            "no built-in scenario is called `stoped-apiserver`; did you mean `stopped-apiserver`?",
        ),
        ("none.yaml", "can't read none.yaml: "),
        (
            "zzzzzz",
            "no built-in scenario and no field is called `zzzzzz`; see `outage list` and `outage explain spec`",
        ),
    ] {
        let (code, out, err) = explain(wrong);
        assert_eq!((code, out.as_str()), (2, ""));
        assert!(err.starts_with(&format!("outage: {said}")), "{err}");
    }
    let variant = ["explain", "traffic", "--variant", "a"];
    assert_eq!(outage(folder.path(), &variant, None).0, 2);
}

#[test]
fn a_new_scenario_is_valid_and_overwrites_nothing() {
    let folder = folder();
    let new = |arguments: &[&str]| outage(folder.path(), &[&["new"], arguments].concat(), None);
    let (code, out, err) = new(&["my-incident"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let commands: Vec<_> = out.lines().filter_map(|line| line.strip_prefix("  outage ")).collect();
    assert_eq!(commands.len(), 3, "{out}");
    for (command, name) in commands.iter().zip(["validate", "explain", "run"]) {
        assert!(command.starts_with(&format!("{name} ./my-incident.yaml ")), "{command}");
    }
    for command in ["validate", "explain"] {
        assert_eq!(outage(folder.path(), &[command, "./my-incident.yaml"], None).0, 0);
    }
    let path = folder.path().join("my-incident.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("# yaml-language-server: $schema=scenario.schema.json\n"));
    std::fs::write(&path, "mine").unwrap();
    let (code, _, err) = new(&["my-incident"]);
    assert_eq!(code, 2);
    assert!(err.contains("./my-incident.yaml is there already"), "{err}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");

    let (code, out, _) = new(&["other", "--output", "an other"]);
    assert_eq!(code, 0);
    assert!(out.contains("outage run './an other' "), "{out}");
    for name in ["My Incident", "../a", "stopped-apiserver", ""] {
        let (code, _, err) = new(&[name]);
        assert_eq!(code, 2, "{err}");
    }
    assert_eq!(new(&["a", "--output", "none/a.yaml"]).0, 1);
    assert!(!folder.path().join("stopped-apiserver.yaml").exists());
}

#[test]
fn the_schema_and_completions_are_printed() {
    let folder = folder();
    let (code, out, _) = outage(folder.path(), &["schema"], None);
    assert_eq!((code, out), (0, outage::scenario::reference::schema()));
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (code, out, _) = outage(folder.path(), &["completion", shell], None);
        assert_eq!(code, 0);
        assert!(out.contains("validate"), "{shell}");
        assert_eq!(out.contains("restart-behind-a-blackhole"), shell == "bash");
    }
    assert_eq!(outage(folder.path(), &["completion", "tcsh"], None).0, 2);
}

#[test]
fn a_cluster_that_cannot_be_removed_hinders_no_other() {
    let folder = folder();
    let cache = folder.path().join("cache");
    for left in ["labs/lab-x/logs", "kind-clusters/left-1/shared", "kind-clusters/left-2/shared"] {
        std::fs::create_dir_all(cache.join(left)).unwrap();
        std::fs::write(cache.join(left).with_file_name("lock"), "").unwrap();
    }
    // There is no engine on this path.
    let mut reap = Command::new(env!("CARGO_BIN_EXE_outage"));
    reap.arg("reap").env("OUTAGE_CACHE", &cache).env("PATH", &cache);
    let output = reap.output().unwrap();
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("removed: lab lab-x"), "{said}");
    assert!(["left-1", "left-2"].iter().all(|name| said.contains(name)), "{said}");
    assert!(!cache.join("labs/lab-x").exists());
}
