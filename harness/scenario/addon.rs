//! Addons: what is installed in a cluster before its steady state.

use serde::{Deserialize, Serialize};

use super::problem::Finding;
use super::read::Reader;
use super::reference::{Field, Shape, list, optional};
use super::tree::Node;

/// Something installed in the cluster before its steady state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Addon {
    /// metrics-server, by its own manifests: serves the API `metrics.k8s.io` through the aggregator.
    MetricsServer,
}

impl Addon {
    /// Every addon, by the name that an author gives it.
    pub const ALL: [(&'static str, Self); 1] = [("metrics-server", Self::MetricsServer)];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::MetricsServer => "metrics-server",
        }
    }
}

/// How they are written.
pub(super) const ADDONS: Field = optional(
    "addons",
    "What is installed in the cluster before its steady state, each once.",
    list(&Shape::Words(&[(
        "metrics-server",
        "Serves the API `metrics.k8s.io` through the aggregator, by its own manifests.",
    )])),
)
.or("[]")
.examples(&["addons: [metrics-server]"]);

/// Reads a list of addons, none of them twice.
pub(super) fn addons(reader: &mut Reader, node: &Node) -> Option<Vec<Addon>> {
    let mut addons = vec![];
    let read = reader.list(node, |reader, node| Some((reader.word(node, &Addon::ALL)?, node.span)));
    for (addon, span) in read? {
        if addons.contains(&addon) {
            let message = format!("the addon `{}` is listed twice", addon.name());
            reader.report(Finding::new(span, message).help("list each addon once"));
        } else {
            addons.push(addon);
        }
    }
    Some(addons)
}
