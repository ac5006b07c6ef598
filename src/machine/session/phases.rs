//! Recognises the phases of a boot by the console's output.

use regex::bytes::Regex;

use crate::Result;
use crate::console::{Console, Pattern};
use crate::machine::session::noise::tolerant;
use crate::qemu::Qemu;

/// A phase of a boot that prints words of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// The kernel prints messages.
    Kernel,
    /// The first program runs: init of the initial ramdisk.
    Initrd,
    /// systemd starts services.
    Services,
}

/// The messages of a boot, in the order in which they can come, with the phase that each shows if systemd does not run
/// in the initial ramdisk. [`Phases`] handles the other case.
pub(crate) const WORDS: [(&str, Phase); 9] = [
    ("Linux version ", Phase::Kernel),
    ("Run /init as init process", Phase::Initrd),
    ("<<< NixOS Stage 1 >>>", Phase::Initrd),
    ("Running in init", Phase::Initrd),
    ("(Initrd)!", Phase::Initrd),
    (STAGE_2, Phase::Initrd),
    (SWITCHING, Phase::Initrd),
    (SYSTEMD, Phase::Services),
    ("[  OK  ]", Phase::Services),
];

const STAGE_2: &str = "<<< NixOS Stage 2 >>>";
/// The last message of systemd in an initial ramdisk.
const SWITCHING: &str = "systemd[1]: Switching root.";
/// The beginning of a line from systemd. It does not tell which of the two systemds printed it.
const SYSTEMD: &str = "systemd[";

/// The name of a phase's messages in errors.
const LATER: &str = "a later phase of the boot";

/// The phases that a boot has reached.
#[derive(Debug, Default)]
pub(crate) struct Phases {
    kernel: bool,
    initrd: bool,
    services: bool,
    /// systemd has reported that it runs in the initial ramdisk, and has not left it yet.
    in_initrd: bool,
    /// systemd has printed something, but not that it runs in the initial ramdisk.
    systemd: bool,
}

impl Phases {
    /// Returns the patterns to wait for. [`Phases::see`] takes an index into them.
    pub(crate) fn patterns() -> Result<Vec<Pattern>> {
        let words = WORDS.iter().map(|(words, _)| Pattern::from(*words).called(LATER));
        let mut patterns: Vec<Pattern> = words.collect();
        // systemd prints a greeting in the initial ramdisk, and again after it.
        patterns.push(Pattern::regex("(?m)^Welcome to [^\n]{1,200}?!")?.called(LATER));
        Ok(patterns)
    }

    /// Handles a found pattern, by its index and text. Returns the phase, if it begins here.
    pub(crate) fn see(&mut self, place: usize, found: &str) -> Option<&'static str> {
        let Some((words, phase)) = WORDS.get(place) else {
            // "NixOS 25.11 (Xantusia) (Initrd)", and "(Initramfs)" elsewhere.
            return match found.to_ascii_lowercase().contains("(init") {
                true => self.enter_initrd(),
                false => self.enter_services(),
            };
        };
        match (*phase, *words) {
            (Phase::Kernel, _) => begun(&mut self.kernel, "kernel"),
            // systemd of the initial ramdisk has ended.
            (_, STAGE_2 | SWITCHING) => {
                (self.in_initrd, self.systemd) = (false, false);
                self.not_later()
            }
            (Phase::Initrd, words) if words.contains("init process") || words.contains("Stage") => {
                self.not_later()
            }
            (Phase::Initrd, _) => self.enter_initrd(),
            (Phase::Services, SYSTEMD) => {
                self.systemd |= !self.in_initrd;
                None
            }
            (Phase::Services, _) if self.in_initrd => None,
            (Phase::Services, _) => self.enter_services(),
        }
    }

    /// Notes that systemd runs in the initial ramdisk.
    fn enter_initrd(&mut self) -> Option<&'static str> {
        if self.services {
            return None;
        }
        (self.in_initrd, self.systemd) = (true, false);
        self.not_later()
    }

    fn enter_services(&mut self) -> Option<&'static str> {
        self.in_initrd = false;
        begun(&mut self.services, "services")
    }

    fn not_later(&mut self) -> Option<&'static str> {
        if self.services { None } else { begun(&mut self.initrd, "initrd") }
    }

    /// Returns whether the kernel or a program that it starts has printed something.
    pub(crate) fn has_kernel(&self) -> bool {
        self.kernel || self.initrd || self.services || self.systemd
    }

    /// Returns whether systemd runs in the initial ramdisk.
    pub(crate) fn is_in_initrd(&self) -> bool {
        self.in_initrd
    }

    /// Returns whether systemd starts the services of the system, so that a login prompt or a shell may come.
    pub(crate) fn has_services(&self) -> bool {
        self.services || (self.systemd && !self.in_initrd)
    }
}

/// Returns the phase the first time it begins.
fn begun(known: &mut bool, phase: &'static str) -> Option<&'static str> {
    (!std::mem::replace(known, true)).then_some(phase)
}

/// agetty's question.
pub(crate) const PROMPT: &str = "login: ";

/// Returns whether a text has what only the beginning of a boot prints.
pub(crate) fn has_a_beginning(text: &str) -> bool {
    WORDS.iter().any(|(words, phase)| *phase < Phase::Services && text.contains(words))
}

/// Returns a pattern for agetty's prompt, even with a kernel record inside.
pub(crate) fn login_prompt() -> Result<Pattern> {
    Ok(Pattern::regex(&prompt())?.called("the login prompt"))
}

fn prompt() -> String {
    format!("(?m)(?:^| ){}", tolerant(PROMPT))
}

/// Looks at the console at a reset: a guest that showed a login prompt had come up.
pub(crate) fn look_whether_up(qemu: &Qemu, console: &Console) {
    let (weak, mut since) = (console.downgrade(), console.mark());
    let Ok(prompt) = Regex::new(&prompt()) else { return };
    qemu.look_whether_up(move || {
        weak.upgrade().is_some_and(|console| {
            let from = std::mem::replace(&mut since, console.mark());
            prompt.is_match(console.text_since(from).text.as_bytes())
        })
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the phases of a boot that prints these lines, in order.
    fn phases(lines: &str) -> (Vec<&'static str>, Phases) {
        let (mut phases, mut reached) = (Phases::default(), Vec::new());
        for line in lines.lines() {
            let words = WORDS.iter().enumerate().filter(|(_, (words, _))| line.contains(words));
            let mut places: Vec<(usize, &str)> = words.map(|(place, (words, _))| (place, *words)).collect();
            // The match that ends first is found first.
            places.sort_by_key(|(_, words)| line.find(words).map(|at| at + words.len()));
            if line.starts_with("Welcome to ") {
                places.push((WORDS.len(), line));
            }
            reached.extend(places.into_iter().filter_map(|(place, found)| phases.see(place, found)));
        }
        (reached, phases)
    }

    #[test]
    fn the_services_of_a_systemd_initrd_are_not_those_of_the_system() {
        let initrd = "[    0.000000] Linux version 6.12.58\n[    1.2] Run /init as init process\n\
                      [    1.3] systemd[1]: systemd 258.2 running in system mode (+PAM)\n\
                      [    1.3] systemd[1]: Detected virtualization qemu.\n\
                      [    1.3] systemd[1]: Running in initrd.\n\
                      Welcome to NixOS 25.11 (Xantusia) (Initrd)!\n\
                      [  OK  ] Created slice Slice /system/systemd-cryptsetup.\n[  OK  ] Reached target Swaps.\n\
                      [    2.0] systemd[1]: Starting systemd-journald...\n";
        let (reached, at) = phases(initrd);
        assert_eq!(reached, ["kernel", "initrd"]);
        assert!(!at.has_services(), "nobody can log in there");
        let system = "[    4.0] systemd[1]: Switching root.\n[    4.5] systemd[1]: Detected virtualization qemu.\n\
                      Welcome to NixOS 25.11 (Xantusia)!\n[  OK  ] Reached target Swaps.\n";
        let (reached, at) = phases(&format!("{initrd}{system}"));
        assert_eq!(reached, ["kernel", "initrd", "services"]);
        assert!(at.has_services());
        // NixOS's loglevel=4: the kernel prints none of its own lines, and none of systemd's.
        let quiet = |text: &str| -> String {
            text.lines().filter(|line| !line.starts_with("[    ")).map(|line| format!("{line}\n")).collect()
        };
        assert_eq!(phases(&quiet(&format!("{initrd}{system}"))).0, ["initrd", "services"]);
        assert!(!phases(&quiet(initrd)).1.has_services());
    }

    #[test]
    fn the_services_behind_a_scripted_stage_1_are_known_by_any_word() {
        let stages = "<<< NixOS Stage 1 >>>\nrunning udev...\n<<< NixOS Stage 2 >>>\nstarting systemd...\n";
        for services in ["Welcome to NixOS 23.11 (Tapir)!\n", "[  OK  ] Created slice Slice /system/getty.\n"]
        {
            assert_eq!(phases(&format!("{stages}{services}")).0, ["initrd", "services"]);
        }
        // systemd.show_status=no: only the kernel log shows it.
        let (_, at) = phases(&format!("{stages}[    3.1] systemd[1]: Hostname set to <nixos>.\n"));
        assert!(at.has_services());
    }
}
