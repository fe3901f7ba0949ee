//! What the tests of the scenario language share.

// Not every file of tests uses all of it.
#![allow(dead_code)]

use jsonschema::Validator;
use outage::scenario::load;
use serde_json::Value;

/// A small valid scenario, to be broken by each test in one way.
pub const SMALL: &str = "\
apiVersion: outage/v1alpha1
kind: Scenario
metadata:
  name: small
  title: The least that is a scenario
spec:
  cluster:
    masters: 3
    workers: 1
  steadyState:
  - name: it is ready
    probe:
      health: {apiserver: {master: 3}, path: /readyz, is: ok}
    within: 60s
  steps:
  - inject:
      name: stopped
      fault:
        stop: {component: kube-apiserver, on: {master: 3}, signal: SIGKILL}
  - detect:
    - name: it refuses connections
      probe:
        health: {apiserver: {master: 3}, path: /readyz, is: refused}
      within: 10s
  - revert:
      actions: [stopped]
  - recover:
    - name: it is ready again
      probe:
        health: {apiserver: {master: 3}, path: /readyz, is: ok}
      within: 60s
";

/// The small scenario with texts replaced, each of which must be there.
pub fn broken(replacements: &[(&str, &str)]) -> String {
    replacements.iter().fold(SMALL.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from:?} is not in the scenario");
        text.replacen(from, to, 1)
    })
}

/// What an editor or a log shows of a file.
pub fn said(text: impl AsRef<[u8]>) -> String {
    load("my.yaml", text.as_ref()).expect_err("no problem was found").plain()
}

/// A text in YAML as JSON, as an editor has it.
pub fn json(text: &str) -> Value {
    let options = serde_saphyr::options! { strict_booleans: true };
    serde_saphyr::from_str_with_options(text, options).unwrap()
}

/// The validator of a schema, which must be one itself.
pub fn validator(schema: &str) -> Validator {
    let schema = serde_json::from_str(schema).unwrap();
    jsonschema::draft7::meta::validate(&schema).unwrap();
    jsonschema::draft7::new(&schema).unwrap()
}

/// A file of the repository that is made here is as it would be made now. With `INSTA_UPDATE=always`,
/// as for snapshots, it is made anew.
pub fn current(path: &str, text: &str) {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var("INSTA_UPDATE").is_ok_and(|update| update == "always") {
        std::fs::write(&file, text).unwrap();
    }
    let there = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(there == text, "{path} is out of date: run INSTA_UPDATE=always cargo test");
}
