//! Identifies a boot of this host. Findings about the host, and about files after a crash, hold for one boot.

/// Returns the kernel's identifier of this boot (random(4)), or an empty text if /proc does not show it.
pub(crate) fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
