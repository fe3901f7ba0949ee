//! Reading what is set up before anything is expected: objects that a scenario needs.

use super::fault::{COUNT, MANIFEST, count, manifest};
use super::read::{Fields, Reader};
use super::reference::{Field, ONLY, list, map, optional, required};
use super::tree::Node;
use super::versions::{VERSIONS, versions};
use super::{Apply, SetUp};

pub(super) const SETUP: Field = optional(
    "setup",
    "Objects that the scenario needs, applied one after another before the steady state is looked at, and \
     taken back at the end, the last first. They are no faults: nobody looks again whether they are still \
     there.",
    list(&map(&[ONLY, VERSIONS, required("manifest", "The object, as it is written for kubectl; without `status`.", MANIFEST), COUNT])),
)
.or("[]")
.examples(&[
    "setup: [{manifest: {apiVersion: v1, kind: Namespace, metadata: {name: shop}}}]",
]);

/// Reads one object that is set up.
pub(super) fn set_up(reader: &mut Reader, node: &Node) -> Option<SetUp> {
    let mut fields = Fields::of(reader, node, "what is set up")?;
    if let (Some(kind), None) = (fields.beside("kind"), fields.get("manifest")) {
        let help = "put it under `manifest:`, indented";
        return reader.wrong(kind, "this is a manifest itself", help);
    }
    let only = fields.optional(reader, "only", Reader::only).unwrap_or_default();
    let versions = fields.optional(reader, "versions", versions).unwrap_or_default();
    let manifest = fields.required(reader, "manifest", manifest);
    let count = fields.perhaps(reader, "count", count);
    fields.end(reader);
    let (object, manifest) = manifest?;
    let apply = Apply { object, manifest, count: count?, through: None };
    Some(SetUp { only, versions, apply })
}
