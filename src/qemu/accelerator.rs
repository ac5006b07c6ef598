//! What executes the guest's instructions.

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// The host's processor, through /dev/kvm.
    Kvm,
    /// QEMU's translator: works everywhere, about ten times slower.
    Tcg,
}

impl Accelerator {
    /// As QEMU calls it: "kvm" or "tcg".
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

impl std::fmt::Display for Accelerator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
