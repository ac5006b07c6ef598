//! What tells one boot of this host from another: what is known of a host, or of files after a crash, holds for one boot.

/// The kernel's own word for this boot of this host (random(4)); empty where /proc does not tell it.
pub(crate) fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
