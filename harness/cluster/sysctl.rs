//! Settings of the kernel that are in a cluster's way.

use std::fmt;

/// A setting of the kernel, as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sysctl {
    /// Its name, such as `net.ipv4.ip_forward`.
    pub name: &'static str,
    /// What it should be.
    pub value: &'static str,
}

impl fmt::Display for Sysctl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sysctl -w {}={}", self.name, self.value)
    }
}

impl Sysctl {
    fn file(self) -> String {
        format!("/proc/sys/{}", self.name.replace('.', "/"))
    }

    /// What it is now; nothing: this kernel does not know it.
    pub fn now(self) -> Option<String> {
        std::fs::read_to_string(self.file()).ok().map(|text| text.trim().to_owned())
    }

    /// Changes it.
    ///
    /// # Errors
    /// Mostly because only root may.
    pub fn set(self) -> std::io::Result<()> {
        std::fs::write(self.file(), self.value)
    }
}

/// What to do about settings, in words.
pub fn mend(settings: &[Sysctl]) -> String {
    let commands = settings.iter().map(ToString::to_string).collect::<Vec<_>>();
    format!("mend it by: {}", commands.join("; "))
}
