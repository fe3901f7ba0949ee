//! What people and programs are told of a run: a text, `JUnit`, JSON, and a view while it goes on.
//! Made from the events alone, so that it can be made again later.

mod account;
mod case;
mod json;
mod junit;
mod live;
mod markdown;
mod repeated;
mod text;
mod words;

use std::io::IsTerminal;

pub use account::{Account, Taker};
pub use case::{Case, Death, ExpectationRecord, cases};
pub use json::{SCHEMA, json};
pub use junit::junit;
pub use live::{Live, timeline};
pub use markdown::markdown;
pub use text::{text, timeline_name};

use crate::event::{Event, Verdict};

/// The exit code that a run's verdicts ask for: 0 if every case that was carried out is PASS, 1
/// for any other verdict (and for a case that never ended), 3 if nothing was carried out. A SKIP is
/// as bad as another verdict if skips are denied.
pub fn exit_code(events: &[Event], deny_skips: bool) -> u8 {
    let verdicts: Vec<_> = cases(events).iter().map(|case| case.verdict).collect();
    if deny_skips && verdicts.contains(&Some(Verdict::Skip)) {
        return 1;
    }
    match verdicts.iter().all(|verdict| matches!(verdict, Some(Verdict::Pass | Verdict::Skip))) {
        false => 1,
        true if verdicts.contains(&Some(Verdict::Pass)) => 0,
        true => 3,
    }
}

/// The numbers of the cases that were carried out, but are not PASS.
pub fn not_passed(events: &[Event]) -> Vec<usize> {
    let bad = |case: &Case| !matches!(case.verdict, Some(Verdict::Pass | Verdict::Skip));
    cases(events).iter().filter(|case| bad(case)).map(|case| case.index).collect()
}

/// Whether to write colours there: only on a terminal, and not if `NO_COLOR` is set to anything
/// (<https://no-color.org>).
pub fn colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
