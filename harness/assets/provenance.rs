//! Where a file came from.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What a report says of one file or package: which it is, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The name of the binary, the distribution package, or the image reference.
    pub name: String,
    /// Its version, without a `v`. For a file of a named folder: what it says of itself.
    pub version: String,
    /// SHA-256 of the file, the `.deb` or the archive, in lower-case hexadecimal.
    pub sha256: String,
    /// Where it came from.
    pub origin: Origin,
}

/// Where a file came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Origin {
    /// Found in the folder that the user named.
    Folder {
        /// The file.
        path: PathBuf,
    },
    /// The official release, verified by its published checksum.
    Download {
        /// What was downloaded: the file, or the archive that it was in.
        url: String,
    },
    /// Built on this machine from the Go module proxy.
    Built {
        /// The module that holds the command.
        module: String,
        /// With which Go, such as `go1.26.8`.
        toolchain: String,
    },
    /// Taken from a Go module, verified by Go against the checksum database.
    Module {
        /// The module with its version.
        module: String,
    },
    /// A package of the distribution, verified by apt.
    Package {
        /// The distribution's codename, such as `bookworm`.
        distribution: String,
    },
    /// Made from other files here.
    Packed,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder { path } => write!(f, "{}", path.display()),
            Self::Download { url } => f.write_str(url),
            Self::Built { module, toolchain } => write!(f, "built from {module} with {toolchain}"),
            Self::Module { module } => write!(f, "from the Go module {module}"),
            Self::Package { distribution } => write!(f, "package of {distribution}"),
            Self::Packed => f.write_str("packed here"),
        }
    }
}
