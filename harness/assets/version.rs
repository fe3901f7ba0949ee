//! Kubernetes versions, and what differs between them beside what their own kubeadm knows.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The Kubernetes version that is used when none is named.
pub const DEFAULT_KUBERNETES: &str = "1.34.4";

/// The metrics-server version that is used with every Kubernetes version.
pub const METRICS_SERVER: &str = "0.9.0";

/// The cri-tools version that is used with every Kubernetes version: crictl speaks CRI v1, as every
/// kubelet and containerd do that can be started.
pub const CRI_TOOLS: &str = "1.30.0";

/// The version of kind. The last whose load balancer is haproxy, which the distribution has; newer
/// ones want envoy.
pub const KIND: &str = "0.31.0";

/// A released Kubernetes version, such as 1.34.4. Pre-releases are not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KubernetesVersion {
    /// Always 1 so far.
    pub major: u64,
    /// The minor version, which decides what differs.
    pub minor: u64,
    /// The patch release.
    pub patch: u64,
}

/// Why a text is not a usable Kubernetes version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// The text does not have the form of a version.
    #[error(
        "`{text}` is not a Kubernetes version: three numbers are wanted, such as {DEFAULT_KUBERNETES} or v{DEFAULT_KUBERNETES}"
    )]
    Malformed {
        /// What was given.
        text: String,
    },
    /// The version is older than any that can be started.
    #[error("Kubernetes {version} can't be started: the oldest that can is {OLDEST}")]
    TooOld {
        /// What was given.
        version: KubernetesVersion,
    },
}

const OLDEST: &str = "1.25.0";

impl FromStr for KubernetesVersion {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || VersionError::Malformed { text: text.to_owned() };
        let mut numbers = text.strip_prefix('v').unwrap_or(text).split('.').map(|n| {
            // `u64::from_str` takes a plus sign, and 1.034.4 would be a second spelling.
            let plain = n.bytes().all(|b| b.is_ascii_digit()) && (n == "0" || !n.starts_with('0'));
            n.parse().ok().filter(|_| plain).ok_or_else(malformed)
        });
        let mut next = || numbers.next().ok_or_else(malformed)?;
        let version = Self { major: next()?, minor: next()?, patch: next()? };
        if numbers.next().is_some() {
            return Err(malformed());
        }
        Ok(version)
    }
}

impl TryFrom<String> for KubernetesVersion {
    type Error = VersionError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<KubernetesVersion> for String {
    fn from(version: KubernetesVersion) -> Self {
        version.to_string()
    }
}

impl fmt::Display for KubernetesVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// The configuration API of kubeadm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KubeadmApi {
    /// `kubeadm.k8s.io/v1beta3`: extra arguments are a map.
    V1beta3,
    /// `kubeadm.k8s.io/v1beta4`: extra arguments are a list of names and values.
    V1beta4,
}

impl fmt::Display for KubeadmApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1beta3 => "kubeadm.k8s.io/v1beta3",
            Self::V1beta4 => "kubeadm.k8s.io/v1beta4",
        })
    }
}

/// What differs between minor versions beside what their kubeadm knows.
#[derive(Debug, PartialEq, Eq)]
pub struct Differences {
    /// The first minor version that this holds for; it holds until the next row's.
    pub since_minor: u64,
    /// The configuration API to speak to kubeadm: the newest that it has.
    pub kubeadm_api: KubeadmApi,
    /// The etcd version to run, without a `v`: of the minor version that kubeadm's flags are for.
    pub etcd: &'static str,
    /// The `CoreDNS` version to run, without a `v`.
    pub coredns: &'static str,
    /// Whether the `KubeletConfiguration` has `failCgroupV1`, which must be off on hosts with
    /// cgroup v1.
    pub fail_cgroup_v1: bool,
}

/// One row for each minor version with which something changed.
static DIFFERENCES: [Differences; 3] = [
    Differences {
        since_minor: 25,
        kubeadm_api: KubeadmApi::V1beta3,
        etcd: "3.5.35",
        coredns: "1.12.1",
        fail_cgroup_v1: false,
    },
    Differences {
        since_minor: 31,
        kubeadm_api: KubeadmApi::V1beta4,
        etcd: "3.5.35",
        coredns: "1.12.1",
        fail_cgroup_v1: true,
    },
    Differences {
        since_minor: 34,
        kubeadm_api: KubeadmApi::V1beta4,
        etcd: "3.6.5",
        coredns: "1.12.1",
        fail_cgroup_v1: true,
    },
];

/// What is to be done differently for this version.
///
/// A minor version newer than the table gets the newest row.
///
/// # Errors
/// [`VersionError::TooOld`] below 1.25.
pub fn differences(version: &KubernetesVersion) -> Result<&'static Differences, VersionError> {
    DIFFERENCES
        .iter()
        .rev()
        .find(|row| version.major >= 1 && version.minor >= row.since_minor)
        .ok_or(VersionError::TooOld { version: *version })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn version(text: &str) -> KubernetesVersion {
        text.parse().expect("a version")
    }

    #[test]
    fn both_spellings_are_taken() {
        assert_eq!(version("v1.34.4"), version("1.34.4"));
        assert_eq!(version("v1.34.4").to_string(), "1.34.4");
    }

    #[test]
    fn what_is_no_version_is_named() {
        for text in ["", "1.34", "1.34.4.1", "1.34.4-rc.1", "vv1.34.4", "1.+3.4", "1.034.4", "1..4"]
        {
            let error = text.parse::<KubernetesVersion>().expect_err(text);
            assert!(error.to_string().contains(&format!("`{text}`")), "{error}");
        }
    }

    #[test]
    fn versions_are_ordered_by_number() {
        assert!(version("1.9.10") < version("1.10.2"));
        assert!(version("1.34.4") < version("1.34.10"));
    }

    #[test]
    fn each_minor_version_has_its_row() {
        let row = |text: &str| differences(&version(text)).expect("a row");
        assert_eq!(row("1.30.14").kubeadm_api, KubeadmApi::V1beta3);
        assert_eq!(row("1.31.0").kubeadm_api, KubeadmApi::V1beta4);
        assert!(row("1.33.9").etcd.starts_with("3.5."));
        assert!(row(DEFAULT_KUBERNETES).etcd.starts_with("3.6."));
        assert_eq!(row("1.99.0"), row("1.34.0"));
        assert!(differences(&version("1.24.17")).is_err());
    }

    proptest! {
        #[test]
        fn every_version_survives_the_round_trip(major in 0u64.., minor in 0u64.., patch in 0u64..) {
            let version = KubernetesVersion { major, minor, patch };
            prop_assert_eq!(version.to_string().parse(), Ok(version));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".*") {
            let _ = text.parse::<KubernetesVersion>();
        }
    }
}
