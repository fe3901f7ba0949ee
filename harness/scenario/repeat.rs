//! Reading how an action is repeated.

use super::read::{Fields, Reader};
use super::reference::{DURATION, Field, map, optional, required, whole};
use super::tree::Node;
use super::{Fault, Repeat};

pub(super) const REPEAT: Field = optional(
    "repeat",
    "Injects it again and again. Each time but the last it is taken back before the next; times \
     to detect count from the first.",
    map(&[
        required("times", "How often it is injected.", whole(2)),
        required("every", "The time from one injection to the next.", DURATION),
        optional(
            "lasts",
            "How long it stays; shorter than `every`. Not for `kill`, whose process comes back \
             by itself and is waited for.",
            DURATION,
        ),
        optional(
            "jitter",
            "By how much a time between two injections may be shorter or longer, by the seed.",
            DURATION,
        )
        .or("0s"),
    ]),
)
.examples(&[
    "repeat: {times: 5, every: 30s, lasts: 10s, jitter: 5s}",
    "repeat: {times: 3, every: 1m}",
]);

/// Reads how often a fault is injected, and when.
pub(super) fn repeat(reader: &mut Reader, node: &Node, fault: &Fault) -> Option<Repeat> {
    let mut fields = Fields::of(reader, node, "`repeat`")?;
    let times = fields.required(reader, "times", |reader, node| reader.count(node, 2));
    let every = fields.required(reader, "every", Reader::duration);
    let lasts = fields.perhaps(reader, "lasts", Reader::duration);
    let jitter = fields.optional(reader, "jitter", Reader::duration).unwrap_or_default();
    fields.end(reader);
    let (times, every, lasts) = (times?, every?, lasts?);
    match (fault, lasts) {
        (Fault::Kill(_), Some(_)) => {
            let help = "leave `lasts` away: a process that was killed comes back by itself";
            return reader.wrong(node, "`kill` does not last", help);
        }
        (Fault::Kill(_), None) | (_, Some(_)) => {}
        (_, None) => {
            let help = "add `lasts`, such as `lasts: 10s`";
            return reader.wrong(node, "it doesn't say how long it stays each time", help);
        }
    }
    if every <= jitter + lasts.unwrap_or_default() {
        let message = "one injection would not be over when the next is due";
        return reader.wrong(
            node,
            message,
            "write an `every` longer than `lasts` and `jitter` together",
        );
    }
    Some(Repeat { times, every, lasts, jitter })
}
