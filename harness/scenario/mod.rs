//! What an author writes: the scenario language, its reading and its checks. Depends on no other
//! room.
//!
//! A file is read in three steps: [`load`] looks at the bytes, `tree` turns YAML into values that
//! know where they stand, and `document` with `fault` and `probe` turns these into the checked
//! types. Only the first two stop at their first problem; after that every field and every list
//! item is read by itself and all problems come together.

mod addon;
mod builtin;
mod document;
mod expression;
mod fault;
mod history;
mod nodes;
mod overlap;
mod places;
mod probe;
mod problem;
mod read;
pub mod reference;
mod repeat;
mod setup;
mod suggest;
mod template;
mod tree;
mod types;
mod versions;
mod waits;

pub use addon::Addon;
pub use builtin::{BUILTIN, Builtin, UnknownBuiltin, builtin};
pub use expression::Expression;
pub use fault::*;
pub use nodes::{
    Leaders, Led, NamedNode, Nodes, Pick, choices, led, named_in, words as node_words,
};
pub use probe::*;
pub use problem::{LoadError, Problem};
pub use template::template;
pub use types::*;
pub use versions::{Version, VersionRange, Versions};
pub use waits::Wait;

use problem::Finding;
use read::Reader;
pub use read::matches;

/// The largest file that is read. The largest scenario has a few kilobytes.
const MAX_BYTES: usize = 1024 * 1024;

/// Reads and checks a scenario. `name` stands for the file in messages.
///
/// # Errors
/// All problems of the file at once. Those of its form (size, encoding, YAML syntax) stop the
/// reading and come alone.
pub fn load(name: &str, text: &[u8]) -> Result<Scenario, LoadError> {
    let (text, root) = parse(name, text)?;
    let first = Reading::new(&root, None);
    let mut rest = first.choices.iter().skip(1);
    let when = |findings: Vec<Finding>, nodes| {
        findings.into_iter().map(|finding| finding.when(&nodes::words(nodes))).collect()
    };
    if !first.findings.is_empty() {
        // What is wrong with any nodes has nothing to do with them.
        let is_good = |nodes: &Nodes| Reading::new(&root, Some(nodes.clone())).findings.is_empty();
        let findings = if rest.any(is_good) {
            when(first.findings, &first.choices[0])
        } else {
            first.findings
        };
        return Err(LoadError::new(name, text, findings));
    }
    for nodes in rest {
        let findings = Reading::new(&root, Some(nodes.clone())).findings;
        if !findings.is_empty() {
            return Err(LoadError::new(name, text, when(findings, nodes)));
        }
    }
    first.scenario(name, text)
}

/// Reads a scenario that [`load`] accepted, with the nodes that were chosen for its names.
///
/// # Errors
/// As [`load`].
pub fn load_with(name: &str, text: &[u8], nodes: Nodes) -> Result<Scenario, LoadError> {
    let (text, root) = parse(name, text)?;
    Reading::new(&root, Some(nodes)).scenario(name, text)
}

/// The file's text and its values, with the problems of its form.
fn parse<'a>(name: &str, text: &'a [u8]) -> Result<(&'a str, tree::Parsed), LoadError> {
    let text = as_text(name, text)?;
    let parsed = tree::parse(text).map_err(|finding| LoadError::new(name, text, vec![finding]))?;
    Ok((text, parsed))
}

/// One reading of a file, with one choice of nodes for its names.
struct Reading {
    scenario: Option<Scenario>,
    findings: Vec<Finding>,
    /// The choices that there are; the first was taken if none was given.
    choices: Vec<Nodes>,
}

impl Reading {
    fn new(parsed: &tree::Parsed, nodes: Option<Nodes>) -> Self {
        let mut reader = Reader::new(parsed.duplicate_keys.clone(), nodes);
        let scenario = document::scenario(&mut reader, &parsed.root);
        let (findings, choices) = reader.end();
        Self { scenario, findings, choices }
    }

    fn scenario(self, name: &str, text: &str) -> Result<Scenario, LoadError> {
        let fail = |findings| LoadError::new(name, text, findings);
        match self.scenario {
            Some(scenario) if self.findings.is_empty() => Ok(scenario),
            _ => Err(fail(self.findings)),
        }
    }
}

/// The file as text without a byte order mark, if it can be a scenario at all.
fn as_text<'a>(name: &str, bytes: &'a [u8]) -> Result<&'a str, LoadError> {
    if bytes.len() > MAX_BYTES {
        let finding = Finding::new(
            (0, 0),
            format!("the file has {} bytes; a scenario has at most {MAX_BYTES}", bytes.len()),
        );
        return Err(LoadError::new(name, "", vec![finding.help("is this a scenario?")]));
    }
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let (text, bad) = match std::str::from_utf8(bytes) {
        Ok(text) => (text, text.find(is_binary)),
        Err(error) => {
            let valid = std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default();
            (valid, valid.find(is_binary).or(Some(valid.len())))
        }
    };
    let Some(at) = bad else { return Ok(text) };
    let finding = Finding::new((at, 0), "this is not text")
        .help("a scenario is YAML in UTF-8, without control characters");
    // What comes before is text; what comes after may be anything and is not shown.
    Err(LoadError::new(name, &text[..at], vec![finding]))
}

fn is_binary(char: char) -> bool {
    char.is_control() && !matches!(char, '\n' | '\r' | '\t')
}
