//! A scenario to start from.

use super::{Problem, load};

/// Where the name stands in it.
const NAME: &str = "NAME";

/// A commented scenario with this name, that can be run.
///
/// # Errors
/// If it can't be a scenario's name.
pub fn template(name: &str) -> Result<String, Problem> {
    let named = |name: &str| include_str!("template.yaml").replacen(NAME, name, 1);
    let is_read = |text: &str| load(name, text.as_bytes());
    let plain = named(name);
    // Some names are words of YAML: `null`, `7`. And what is no name may be anything in YAML.
    let quoted = named(&serde_json::Value::from(name).to_string());
    let is_plain = is_read(&plain).is_ok_and(|scenario| scenario.name == name);
    match is_read(&quoted) {
        Ok(_) if is_plain => Ok(plain),
        Ok(_) => Ok(quoted),
        Err(error) => match error.problems().first() {
            Some(problem) => Err(problem.clone()),
            None => Ok(quoted),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_makes_a_scenario() {
        for name in ["a", "my-incident", "null", "7", "1e3", "true", "name"] {
            let text = template(name).unwrap();
            assert_eq!(load("a.yaml", text.as_bytes()).unwrap().name, name);
        }
        assert!(template("my-incident").unwrap().contains("\n  name: my-incident  #"));
    }

    #[test]
    fn what_is_no_name_is_refused_with_one_that_is() {
        let problem = template("My Incident").unwrap_err();
        assert_eq!(problem.message, "`My Incident` is not a name");
        assert!(problem.help.unwrap().ends_with("such as `my-incident`"));
        for name in ["", " ", "a: b", "a\nspec:", "-a", "../a", "a.b", "\u{e4}", "# a", "{a}"] {
            assert!(template(name).is_err(), "{name:?}");
        }
    }
}
