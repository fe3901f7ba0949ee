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
mod fault;
mod history;
mod probe;
mod problem;
mod read;
mod tree;
mod types;

pub use addon::Addon;
pub use builtin::{BUILTIN, Builtin, UnknownBuiltin, builtin};
pub use fault::{
    Freeze, Isolate, Kill, Pause, PowerOff, Program, Protocol, Traffic, TrafficEnd, TrafficRule,
};
pub use problem::{LoadError, Problem};
pub use types::*;

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
    let text = as_text(name, text)?;
    let fail = |findings| LoadError::new(name, text, findings);
    let parsed = tree::parse(text).map_err(|finding| fail(vec![finding]))?;
    let mut reader = Reader::new(parsed.duplicate_keys);
    let scenario = document::scenario(&mut reader, &parsed.root);
    match (scenario, reader.into_findings()) {
        (Some(scenario), findings) if findings.is_empty() => Ok(scenario),
        (_, findings) => Err(fail(findings)),
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
