//! The scenarios that come with the program.

use super::suggest::nearest;

/// A scenario that comes with the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Builtin {
    /// Its name, which is also its file's.
    pub name: &'static str,
    /// Its file's path in the repository, for messages.
    pub path: &'static str,
    /// Its file.
    pub text: &'static str,
}

macro_rules! builtin {
    ($name:literal) => {
        Builtin {
            name: $name,
            path: concat!("scenarios/", $name, ".yaml"),
            text: include_str!(concat!("../../scenarios/", $name, ".yaml")),
        }
    };
}

/// The scenarios that come with the program, in the order of lists: every file in `scenarios/`.
pub const BUILTIN: &[Builtin] = &[
    builtin!("admission-webhook-down"),
    builtin!("apiserver-clock-ahead"),
    builtin!("bad-front-proxy-certificate"),
    builtin!("container-name-taken"),
    builtin!("conversion-webhook-down"),
    builtin!("dead-metrics-server"),
    builtin!("encryption-keys-differ"),
    builtin!("etcd-member-down"),
    builtin!("etcd-name-taken"),
    builtin!("etcd-space-exceeded"),
    builtin!("master-lost"),
    builtin!("metrics-server-unreachable"),
    builtin!("restart-behind-a-blackhole"),
    builtin!("scheduler-lease-seized"),
    builtin!("service-account-keys-differ"),
    builtin!("stopped-apiserver"),
];

/// There is no such built-in scenario.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no built-in scenario is called `{name}`{}", self.near.map_or(String::new(), |near| format!("; did you mean `{near}`?")))]
pub struct UnknownBuiltin {
    /// What was asked for.
    pub name: String,
    /// What was probably meant.
    pub near: Option<&'static str>,
}

/// Finds a built-in scenario by its name.
///
/// # Errors
/// If there is none of this name: with the nearest one, if one is near.
pub fn builtin(name: &str) -> Result<&'static Builtin, UnknownBuiltin> {
    BUILTIN.iter().find(|builtin| builtin.name == name).ok_or_else(|| UnknownBuiltin {
        name: name.to_owned(),
        near: nearest(name, BUILTIN.iter().map(|builtin| builtin.name)),
    })
}
