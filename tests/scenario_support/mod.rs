//! What the tests of the scenario language share.

use outage::scenario::load;

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
