//! What a command must say.

use serde::{Deserialize, Serialize};

use super::super::read::{Fields, Reader};
use super::super::reference::{Field, PATTERN, Rule, Shape, optional};
use super::pattern;

/// What is expected of a command: at least one of these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// What its exit code must be, if that is expected.
    pub exit_code: Option<i32>,
    /// A regular expression that its standard output must match.
    pub stdout: Option<String>,
    /// A regular expression that its standard error must match.
    pub stderr: Option<String>,
}

pub(super) const EXIT_CODE: Field =
    optional("exitCode", "What its exit code must be.", Shape::Whole { least: 0, most: 255 });
pub(super) const STDOUT: Field =
    optional("stdout", "What its standard output must match.", PATTERN);
pub(super) const STDERR: Field = optional("stderr", "What its standard error must match.", PATTERN);

/// Something is expected.
pub(super) const SAID: Rule = Rule::Some(&["exitCode", "stdout", "stderr"]);

/// Reads the fields that say it.
pub(super) fn said(reader: &mut Reader, fields: &mut Fields) -> Option<Said> {
    let exit_code = fields.optional(reader, "exitCode", |reader, node| {
        let code = reader.count(node, 0)?;
        match u8::try_from(code) {
            Ok(code) => Some(i32::from(code)),
            Err(_) => reader.wrong(node, format!("{code} is no exit code"), "write 0 to 255"),
        }
    });
    let stdout = fields.optional(reader, "stdout", pattern);
    let stderr = fields.optional(reader, "stderr", pattern);
    if ["exitCode", "stdout", "stderr"].iter().all(|name| fields.get(name).is_none()) {
        let help = "add `exitCode`, `stdout` or `stderr`, such as `exitCode: 0`";
        fields.lacks(reader, "nothing is expected of the command", help);
        return None;
    }
    Some(Said { exit_code, stdout, stderr })
}
