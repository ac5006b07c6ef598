//! The dialogs at which a boot stops and waits for a person. They are recognised by the text that their programs print.
//!
//! Enter, and nearly every other key, is an answer to them: stage 1 of NixOS ignores the error at all keys except three. So
//! nothing is typed after one of them has appeared, and the boot fails with its text.

use crate::ErrorKind;

/// A dialog of a boot that has failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Dialog {
    /// Any of these texts at the start of a line means the dialog. A line of the kernel may tear a line of it.
    pub(super) words: &'static [&'static str],
    pub(super) kind: ErrorKind,
    /// What the guest did.
    pub(super) what: &'static str,
    pub(super) cause: &'static str,
    pub(super) next: &'static str,
}

const UNIT: &str = "a unit that the boot needs failed: often a mount in fileSystems";
const LOOK: &str = "look for FAILED in the transcript above the message";
const LOADER: &str = "the boot loader or the firmware found nothing that it can boot";
const DISK: &str = "check boot.loader of the configuration; a kept disk may belong to another configuration";

/// All known dialogs.
pub(super) static DIALOGS: [Dialog; 5] = [
    Dialog {
        // stage-1-init.sh of NixOS.
        words: &[
            "An error occurred in stage 1 of the boot process",
            "  r) to reboot immediately",
            "  *) to ignore the error and continue",
        ],
        kind: ErrorKind::EmergencyMode,
        what: "stage 1 of the guest's boot failed and asks what to do",
        cause: "a device of the root file system did not appear, or a check or a mount of it failed",
        next: "read the lines above the dialog, and compare them with fileSystems and boot.initrd of the \
            configuration",
    },
    Dialog {
        // systemd's sulogin-shell, before systemd 220, and dracut.
        words: &["You are in emergency mode", "Welcome to emergency mode!", "Entering emergency mode."],
        kind: ErrorKind::EmergencyMode,
        what: "the guest went into emergency mode",
        cause: UNIT,
        next: LOOK,
    },
    Dialog {
        words: &["You are in rescue mode", "Welcome to rescue mode!"],
        kind: ErrorKind::EmergencyMode,
        what: "the guest went into rescue mode",
        cause: "the kernel's command line has `single`, `rescue` or systemd.unit=rescue.target, or a \
            failed unit started rescue.target",
        next: "check boot.kernelParams and systemd.defaultUnit of the configuration",
    },
    Dialog {
        // sulogin of util-linux and of busybox.
        words: &[
            "Cannot open access to console, the root account is locked",
            "Give root password for ",
            "Press Enter for maintenance",
            "Press Enter for system maintenance",
        ],
        kind: ErrorKind::EmergencyMode,
        what: "the guest went into emergency mode",
        cause: UNIT,
        next: LOOK,
    },
    Dialog {
        // GRUB, the firmware's shell, and the initial ramdisks of other distributions.
        words: &[
            "grub rescue> ",
            "grub> ",
            "Shell> ",
            "No bootable device.",
            "You are now being dropped into an emergency shell.",
            "(initramfs) ",
        ],
        kind: ErrorKind::EmergencyMode,
        what: "the guest's boot ended at a repair prompt",
        cause: LOADER,
        next: DISK,
    },
];
