//! The examples in the documentation are read like any scenario.

use outage::scenario::load;

use super::{broken, said};

/// The items of a list in `docs/language.md`, one a line, that follows this comment.
fn documented(comment: &str) -> Vec<String> {
    let text = include_str!("../../docs/language.md");
    let block = text.split(comment).nth(1).unwrap().split("```").nth(1).unwrap();
    let items = block.lines().filter_map(|line| line.strip_prefix("- "));
    items.map(|item| item.split("  #").next().unwrap().trim().to_owned()).collect()
}

#[test]
fn each_fault_and_probe_has_an_example_in_the_documentation_that_loads() {
    let fault = "stop: {component: kube-apiserver, on: {master: 3}, signal: SIGKILL}";
    let probe = "health: {apiserver: {master: 3}, path: /readyz, is: refused}";
    let writes = "writes: {from: {worker: 1}, to: loadBalancer, attempts: 1, failed: {count: 0}}";
    for (comment, place) in [("one of each fault", fault), ("one of each probe", probe)] {
        let examples = documented(&format!("<!-- {comment} -->"));
        for example in &examples {
            // What was written can only be read where something writes.
            let text = if example.starts_with("written") {
                let both = "\n      within: 10s\n    - name: there\n      probe:\n        ";
                broken(&[(place, &format!("{writes}{both}{example}"))])
            } else {
                broken(&[(place, example)])
            };
            load("my.yaml", text.as_bytes()).unwrap_or_else(|e| panic!("{example}: {}", e.plain()));
        }
        let said = said(broken(&[(place, "nothing: {}")]));
        let help = said.split("llowed: ").nth(1).unwrap().lines().next().unwrap();
        for name in help.split('`').skip(1).step_by(2) {
            let there = examples.iter().any(|example| example.starts_with(&format!("{name}:")));
            assert!(there, "{name} has no example in docs/language.md");
        }
    }
}
