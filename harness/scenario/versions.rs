//! Ranges of Kubernetes versions, so that one file states what 1.28.2 does and what 1.28.3 does.

use std::fmt;

use serde::Serialize;

use super::read::Reader;
use super::reference::{Field, Shape, optional, some, text};
use super::tree::{Node, Value};

/// Major, minor, patch.
pub type Version = [u64; 3];

/// The versions of Kubernetes that something is for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub enum Versions {
    /// Every version: the file says nothing.
    #[default]
    All,
    /// Those of any of these ranges.
    In(Vec<VersionRange>),
}

/// A range such as `>=1.28.0 <1.28.3`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VersionRange {
    /// As it was written.
    text: String,
    /// The first version in it.
    from: Version,
    /// The first version after it.
    to: Version,
}

const FIRST: Version = [0; 3];
const NONE_AFTER: Version = [u64::MAX; 3];

const HELP: &str = "write `>=`, `>`, `<=`, `<` or `=` before each version, such as \
                    `\">=1.28.0 <1.28.3\"`; for several ranges, a list of them";

impl Versions {
    /// Whether the version is among them.
    pub fn covers(&self, version: Version) -> bool {
        match self {
            Self::All => true,
            Self::In(ranges) => {
                ranges.iter().any(|range| range.from <= version && version < range.to)
            }
        }
    }

    /// Whether some version is among both.
    fn meets(&self, other: &Self) -> bool {
        let bounds = [self.bounds(), other.bounds(), vec![FIRST]].concat();
        bounds.iter().any(|version| self.covers(*version) && other.covers(*version))
    }

    /// The versions at which it begins or ceases to cover.
    pub(super) fn bounds(&self) -> Vec<Version> {
        match self {
            Self::All => vec![],
            Self::In(ranges) => {
                let bounds = ranges.iter().flat_map(|range| [range.from, range.to]);
                bounds.filter(|bound| *bound != NONE_AFTER).collect()
            }
        }
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("every version"),
            Self::In(ranges) => {
                let texts: Vec<_> = ranges.iter().map(|range| range.text.as_str()).collect();
                f.write_str(&texts.join(" or "))
            }
        }
    }
}

const RANGE: Shape = text("a range of versions", r"^(\s*(>=|>|<=|<|=)v*[0-9.]+)+\s*$");

/// How versions are written.
pub(super) const VERSIONS: Field = optional(
    "versions",
    "The versions of Kubernetes that it is for: one range, or a list of them; without: all.",
    Shape::Shared("versions", &Shape::Either(&[RANGE, some(&RANGE)])),
)
.examples(&["versions: \">=1.28.0 <1.28.3\""]);

/// Reads a range or a list of ranges.
pub(super) fn versions(reader: &mut Reader, node: &Node) -> Option<Versions> {
    let ranges = match &node.value {
        Value::List(_) => reader.some(node, range)?,
        Value::Text(_) => vec![range(reader, node)?],
        _ => return reader.mistyped(node, "a range of versions, such as `\">=1.28.0 <1.28.3\"`"),
    };
    let versions = Versions::In(ranges);
    if reader.versions == Versions::All || versions.meets(&reader.versions) {
        return Some(versions);
    }
    let message = format!("the scenario is for {} only, so this is never done", reader.versions);
    reader.wrong(node, message, "see `spec.cluster.versions`")
}

fn range(reader: &mut Reader, node: &Node) -> Option<VersionRange> {
    let text = reader.line(node)?;
    let mut range = VersionRange { text: text.clone(), from: FIRST, to: NONE_AFTER };
    for word in text.split_whitespace() {
        match comparison(word) {
            Ok((from, to)) => {
                range.from = range.from.max(from);
                range.to = range.to.min(to);
            }
            Err(why) => return reader.wrong(node, why, HELP),
        }
    }
    if range.from >= range.to {
        let message = format!("no version is in `{text}`");
        return reader.wrong(node, message, "the lower bound must be below the upper one");
    }
    Some(range)
}

/// What one comparison allows: from a version, up to but without another. `1.28` stands for all of
/// its patch releases.
fn comparison(word: &str) -> Result<(Version, Version), String> {
    let digits = word.find(|char: char| char.is_ascii_digit() || char == 'v').unwrap_or(word.len());
    let (operator, version) = word.split_at(digits);
    let malformed = || format!("`{word}` is not a comparison with a version");
    let numbers: Option<Vec<u64>> =
        version.trim_start_matches('v').split('.').map(number).collect();
    let (first, after) = match numbers.as_deref() {
        Some([major, minor]) => ([*major, *minor, 0], [*major, *minor + 1, 0]),
        Some([major, minor, patch]) => ([*major, *minor, *patch], [*major, *minor, *patch + 1]),
        _ => return Err(malformed()),
    };
    match operator {
        ">=" => Ok((first, NONE_AFTER)),
        ">" => Ok((after, NONE_AFTER)),
        "<" => Ok((FIRST, first)),
        "<=" => Ok((FIRST, after)),
        "=" => Ok((first, after)),
        _ => Err(malformed()),
    }
}

fn number(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && text.len() < 10;
    text.parse().ok().filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operator_with_two_and_three_numbers() {
        for (word, from, to) in [
            (">=1.28.3", [1, 28, 3], NONE_AFTER),
            (">1.28.3", [1, 28, 4], NONE_AFTER),
            ("<1.28.3", FIRST, [1, 28, 3]),
            ("<=1.28.3", FIRST, [1, 28, 4]),
            ("=1.28.3", [1, 28, 3], [1, 28, 4]),
            (">=1.28", [1, 28, 0], NONE_AFTER),
            (">1.28", [1, 29, 0], NONE_AFTER),
            ("<1.28", FIRST, [1, 28, 0]),
            ("<=1.28", FIRST, [1, 29, 0]),
            ("=v1.28", [1, 28, 0], [1, 29, 0]),
        ] {
            assert_eq!(comparison(word), Ok((from, to)), "{word}");
        }
        for word in ["1.28.3", "~1.28", ">=1", ">=1.28.3.4", ">= 1.28", "=>1.28", ">=1.x", "<", ""]
        {
            assert!(comparison(word).is_err(), "{word}");
        }
    }

    #[test]
    fn a_fix_that_was_backported_takes_several_ranges() {
        let range = |text: &str, from, to| VersionRange { text: text.into(), from, to };
        let fixed = Versions::In(vec![
            range(">=1.27.7 <1.28.0", [1, 27, 7], [1, 28, 0]),
            range(">=1.28.3", [1, 28, 3], NONE_AFTER),
        ]);
        let covered = [[1, 27, 6], [1, 27, 7], [1, 28, 2], [1, 28, 3], [1, 34, 0]];
        assert_eq!(covered.map(|version| fixed.covers(version)), [false, true, false, true, true]);
        assert_eq!(fixed.to_string(), ">=1.27.7 <1.28.0 or >=1.28.3");
        assert_eq!(fixed.bounds(), [[1, 27, 7], [1, 28, 0], [1, 28, 3]]);
    }
}
