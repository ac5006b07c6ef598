//! Explains why no login prompt came, with the console's messages and the relevant kernel parameters.

use crate::qemu::Qemu;
use crate::secrets;

/// Maximum number of console lines that are quoted.
const QUOTED: usize = 8;
/// Messages of systemd and of NixOS's stage 1 about failures.
const FAILURES: [&str; 12] = [
    "[FAILED]",
    "[DEPEND]",
    "[ TIME ]",
    "Timed out waiting for",
    "timed out",
    "Dependency failed for",
    "Failed to start",
    "Failed with result",
    "Start request repeated too quickly",
    "fsck finished, rebooting...",
    "has unrepaired errors",
    "Failed to mount",
];
/// Parts of messages about what a login prompt on the console depends on.
const OF_THE_CONSOLE: [&str; 3] = ["ttys0", "getty", "fsck finished, rebooting"];

/// Returns the console lines that report failures: those about its login prompt, otherwise the last ones of all.
/// Secrets are masked. Each line is there once, with its count.
pub(super) fn reasons(text: &str) -> Vec<String> {
    let fails = |line: &&str| FAILURES.iter().any(|words| line.contains(words));
    let lines: Vec<&str> = text.lines().map(str::trim).filter(fails).collect();
    let of_the_console = |line: &&&str| {
        let line = line.to_ascii_lowercase();
        OF_THE_CONSOLE.iter().any(|words| line.contains(words))
    };
    let telling: Vec<&str> = lines.iter().filter(of_the_console).copied().collect();
    let lines = if telling.is_empty() { lines } else { telling };
    let mut counted: Vec<(String, usize)> = Vec::new();
    for line in lines {
        let shown: String = secrets::line(line).chars().take(200).collect();
        match counted.iter_mut().find(|(known, _)| *known == shown) {
            Some((_, times)) => *times += 1,
            None => counted.push((shown, 1)),
        }
    }
    counted.drain(..counted.len().saturating_sub(QUOTED));
    let with_times = |(line, times)| if times == 1 { line } else { format!("{line} ({times} times)") };
    counted.into_iter().map(with_times).collect()
}

/// Describes the consoles that the kernel was given, and what is attached to each. `line` has the kernel's parameters,
/// if QEMU passes them.
pub(super) fn consoles(line: Option<&str>) -> String {
    let Some(line) = line else {
        return "the kernel's parameters are in a boot loader (boot.kernelParams); ttyS0 is the first \
            serial port, which nixvm-test reads"
            .to_owned();
    };
    let given: Vec<&str> = line.split_whitespace().filter_map(|word| word.strip_prefix("console=")).collect();
    let Some(last) = given.last() else {
        return "the kernel's command line has no console=; ttyS0 is the first serial port, which nixvm-test reads"
            .to_owned();
    };
    let each: Vec<String> =
        given.iter().map(|console| format!("console={console}: {}", what_sits_at(console))).collect();
    let last = secrets::line(device(last));
    secrets::lines(&format!(
        "{}\nthe last one, {last}, is /dev/console, where systemd prints",
        each.join("\n")
    ))
}

fn device(console: &str) -> &str {
    console.split(',').next().unwrap_or(console)
}

fn what_sits_at(console: &str) -> &'static str {
    match device(console) {
        "ttyS0" => "the first serial port, which nixvm-test reads",
        port if port.starts_with("ttyS") || port.starts_with("ttyAMA") => {
            "a serial port that nixvm-test does not read"
        }
        port if port.starts_with("hvc") => "a virtio console, which nixvm-test does not read",
        screen if screen.starts_with("tty") => "the screen",
        _ => "something that nixvm-test does not read",
    }
}

/// Returns the size of the initial ramdisk, if it is so large that unpacking takes the kernel some time.
pub(super) fn initrd(qemu: &Qemu) -> Option<String> {
    let size = qemu.initrd_size()?;
    said_of_initrd(size)
}

fn said_of_initrd(bytes: u64) -> Option<String> {
    /// NixOS's own, without further modules, has 10 to 20 MiB.
    const LARGE: u64 = 32 << 20;
    (bytes >= LARGE).then(|| {
        let size = bytes >> 20;
        format!(
            "the kernel unpacks the initial ramdisk ({size} MiB compressed) and prints nothing \
            meanwhile at loglevel=4"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_console_says_of_its_getty_comes_before_other_failures() {
        let text = "[FAILED] Failed to start Web.\n[ TIME ] Timed out waiting for device /dev/ttyS0.\n\
                    [DEPEND] Dependency failed for Serial Getty on ttyS0.\n[  OK  ] Reached target Multi-User System.\n";
        assert_eq!(
            reasons(text),
            [
                "[ TIME ] Timed out waiting for device /dev/ttyS0.",
                "[DEPEND] Dependency failed for Serial Getty on ttyS0."
            ]
        );
        assert_eq!(reasons("[FAILED] Failed to start Web.\nother\n"), ["[FAILED] Failed to start Web."]);
        let kernel = "[   92.1] systemd[1]: dev-ttyS0.device: Job dev-ttyS0.device/start timed out.\n";
        assert_eq!(reasons(kernel).len(), 1);
        assert!(reasons("[  OK  ] Started Serial Getty on ttyS0.\n").is_empty());
        let again = "checking /dev/vda...\nfsck finished, rebooting...\n";
        assert_eq!(reasons(&again.repeat(3)), ["fsck finished, rebooting... (3 times)"]);
        let many: String = (0..100).map(|number| format!("[FAILED] Failed to start {number}.\n")).collect();
        assert_eq!(reasons(&many).len(), QUOTED);
    }

    #[test]
    fn the_consoles_of_the_kernel_are_named_with_what_sits_there() {
        let given =
            consoles(Some("loglevel=4 console=tty0 console=ttyS0,115200n8 console=ttyS1 console=hvc0"));
        for words in [
            "console=tty0: the screen",
            "console=ttyS0,115200n8: the first serial port, which nixvm-test reads",
            "console=ttyS1: a serial port that nixvm-test does not read",
            "the last one, hvc0, is /dev/console",
        ] {
            assert!(given.contains(words), "{words:?} is not in {given}");
        }
        assert!(consoles(Some("loglevel=4")).contains("no console="));
        assert!(consoles(None).contains("boot loader"));
    }

    #[test]
    fn a_large_initial_ramdisk_is_named_with_its_size() {
        assert!(said_of_initrd(312 << 20).unwrap().contains("312 MiB"));
        assert_eq!(said_of_initrd(15 << 20), None);
    }
}
