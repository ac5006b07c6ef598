//! The steps, in order.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use super::boot::{Boot, How, NOT_STARTED, Until};
use super::clones::{self, Went};
use super::host::Host;
use super::load::Load;
use super::sector::{self, FIRST_CPU, LEAST, Ran, Runs, Try};
use super::{Found, Run, ram};
use crate::doctor::State;
use crate::qemu::{Accelerator, accelerator, kvm_device, kvm_with};
use crate::{Result, threads};

const DEVICE: &str = "/dev/kvm";
/// The limit for the VM's boot under KVM.
const BOOT: Duration = Duration::from_secs(40);
/// The limit for its kernel to find its processors.
const KERNEL: Duration = Duration::from_secs(12);
/// The limit for a guest's first byte.
const FIRST_BYTE: Duration = Duration::from_secs(12);
/// KVM counts as slower than TCG if a boot takes longer by this.
const SLOWER: Duration = Duration::from_secs(1);
const NOT_BOOTED: &str = "the VM does not boot under KVM";

impl Run<'_> {
    pub(super) async fn all(&mut self) -> Result {
        let load = Load::now();
        // Earlier findings must not influence the new ones, and wrong ones are removed.
        let forgotten = accelerator::forget()?;
        match self.device().await {
            Some(program) => {
                self.host();
                self.sector(&program).await;
                self.kernel().await;
                self.processors().await;
                self.clones().await?;
                self.memory().await?;
                self.console(&program).await;
                self.limits(&load);
                self.emulated().await;
            }
            None => self.memory().await?,
        }
        let forgotten = format!(
            "{forgotten} findings of earlier runs forgotten: the next boot of each VM tries KVM again"
        );
        self.note("findings", "earlier findings about KVM", Instant::now(), Found::ok(forgotten));
        let verdict = self.facts.verdict();
        self.note("verdict", format!("KVM for {}", self.vm.name()), Instant::now(), verdict);
        Ok(())
    }

    /// Tries the device with the VM's own QEMU. Returns that QEMU, unless KVM can't be used at all.
    async fn device(&mut self) -> Option<PathBuf> {
        let begun = Instant::now();
        let script = std::fs::read_to_string(self.vm.script()).unwrap_or_default();
        let program = accelerator::program_in(&script);
        let tried = format!("open {DEVICE}, KVM_GET_API_VERSION, KVM_CREATE_VM");
        let refused = match (kvm_device::refusal(Path::new(DEVICE)), &program) {
            (_, Some(program)) if emulated_here(program).is_some() => emulated_here(program)
                .map(|why| (why, "build the VM for this host's own architecture".to_owned())),
            (Some(refusal), _) => Some((refusal.why, refusal.fix)),
            (None, None) => Some((
                "not tried: the QEMU of the run script is not on this host".to_owned(),
                "install QEMU, or build the VM with a real nixpkgs, which brings its own".to_owned(),
            )),
            (None, Some(program)) => refused_by(program).await,
        };
        let found = match (&refused, &program) {
            (Some((why, fix)), _) => Found::bad(State::Warning, why, fix),
            (None, Some(program)) => {
                Found::ok(format!("it opens, and {} created a machine with it", program.display()))
            }
            (None, None) => return None,
        };
        self.note("device", tried, begun, found);
        self.facts.refused = refused;
        program.filter(|_| self.facts.refused.is_none())
    }

    fn host(&mut self) {
        let begun = Instant::now();
        let host = Host::look();
        let found = match host.known_trouble() {
            Some((trouble, fix)) => {
                Found::bad(State::Warning, format!("{}; {trouble}", host.describe()), fix)
            }
            None => Found::ok(host.describe()),
        };
        self.note("host", "kind of KVM, nesting, kernel", begun, found);
    }

    /// Runs a guest of a few bytes, with fewer and fewer processor features until it runs.
    async fn sector(&mut self, program: &Path) {
        if !cfg!(target_arch = "x86_64") {
            return self.not_tried("sector", "a guest of a few bytes", "there is none for this architecture");
        }
        let end = self.end(sector::LIMIT);
        let runs = sector::with_less_and_less(program, end, |tried| self.note_try(program, tried)).await;
        match runs {
            Runs::With(cpu) => self.facts.cpu = Some(cpu.to_owned()),
            Runs::No(why) => self.facts.no_cpu = why,
            Runs::NoQemu => self.facts.no_cpu = Some(no_program(program)),
        }
    }

    fn note_try(&mut self, program: &Path, tried: &Try) {
        let Try { cpu, begun, ran } = tried;
        let title = format!("a guest of a few bytes with -cpu {cpu}");
        let found = match ran {
            Some(Ran::Yes) => Found::ok("it runs"),
            Some(Ran::No(why)) => {
                let fix = "a host that is a virtual machine may lack features that KVM reports: the next try uses fewer";
                Found::bad(State::Warning, why, fix)
            }
            Some(Ran::NoQemu) => Found::bad(State::Warning, no_program(program), "build the VM again"),
            None => return self.not_tried("sector", title, "no time is left for it"),
        };
        self.note("sector", title, *begun, found);
    }

    fn how(&self, accelerator: Accelerator, processors: Option<u32>) -> How<'_> {
        let cpu =
            self.facts.cpu.as_deref().filter(|cpu| *cpu != FIRST_CPU && accelerator == Accelerator::Kvm);
        How { vm: self.vm, accelerator, cpu, processors }
    }

    fn keep(&mut self, title: &str, boot: &Boot) {
        self.log
            .push_str(&format!("== QEMU: {title}\n{}\n== console: {title}\n{}\n", boot.log, boot.console));
    }

    async fn kernel(&mut self) {
        let tried = "the VM to its login prompt under KVM";
        if self.facts.no_cpu.is_some() {
            return self.not_tried("kernel", tried, "not even a guest of a few bytes runs");
        }
        if !self.has_time(LEAST, "kernel", tried) {
            return;
        }
        let begun = Instant::now();
        let boot = self.how(Accelerator::Kvm, None).boot(Until::Prompt, self.end(BOOT)).await;
        self.keep("KVM", &boot);
        if boot.why.as_deref() == Some(NOT_STARTED) {
            return self.not_tried("kernel", tried, NOT_STARTED);
        }
        if boot.cut_off.is_some() && boot.at(Until::Init).is_some() && boot.at(Until::Prompt).is_none() {
            // It runs, but is slow.
            return self.not_tried("kernel", tried, &format!("{}; then the time was up", reached(&boot)));
        }
        let outcome = match (boot.at(Until::Prompt), &boot.why) {
            (Some(at), _) => Ok(at),
            (None, Some(why)) if boot.cut_off.is_some() => Err(format!("{why}, and {}", reached(&boot))),
            (None, why) => Err(why.clone().unwrap_or_else(|| "it stopped".to_owned())),
        };
        let found = match &outcome {
            Ok(_) => Found::ok(reached(&boot)),
            Err(why) => Found::bad(
                State::Warning,
                if boot.cut_off.is_some() { why.clone() } else { format!("{}; {why}", reached(&boot)) },
                "machines are emulated here; attach the file below to a bug report",
            ),
        };
        self.facts.kernel = Some(outcome);
        self.note("kernel", tried, begun, found);
    }

    /// Checks whether several processors come up, and what the kernel complains about.
    async fn processors(&mut self) {
        const COMPLAINTS: [&str; 5] = ["WARNING:", "soft lockup", "rcu_", "unstable", "BUG:"];
        let tried = "2 and 4 processors";
        if !self.facts.is_usable() {
            return self.not_tried("processors", tried, NOT_BOOTED);
        }
        for count in [2, 4] {
            let tried = format!("{count} processors");
            if !self.has_time(LEAST, "processors", &tried) {
                return;
            }
            let begun = Instant::now();
            let boot = self.how(Accelerator::Kvm, Some(count)).boot(Until::Init, self.end(KERNEL)).await;
            self.keep(&tried, &boot);
            let all = format!("{count} CPUs");
            let up = boot.console.lines().find(|line| line.contains("Brought up"));
            let complaint = boot.console.lines().find(|line| COMPLAINTS.iter().any(|its| line.contains(its)));
            let found = match (up, complaint, &boot.why) {
                (_, _, Some(why)) => Found::bad(State::Warning, why, "set virtualisation.cores = 1"),
                (_, Some(line), None) => Found::bad(State::Warning, line.trim(), "look at the file below"),
                (Some(line), None, None) if !line.contains(&all) => {
                    Found::bad(State::Warning, line.trim(), "set virtualisation.cores = 1")
                }
                (Some(_), None, None) => Found::ok(format!("all come up; {}", reached(&boot))),
                (None, None, None) => {
                    Found::ok(format!("{}; the kernel does not mention its processors", reached(&boot)))
                }
            };
            self.note("processors", tried, begun, found);
        }
    }

    async fn clones(&mut self) -> Result {
        let tried = "save, clone, clone of a clone";
        if !self.facts.is_usable() {
            self.not_tried("clones", tried, NOT_BOOTED);
            return Ok(());
        }
        let needed = match &self.facts.kernel {
            Some(Ok(at)) => *at + LEAST,
            _ => LEAST,
        };
        if !self.has_time(needed, "clones", tried) {
            return Ok(());
        }
        let begun = Instant::now();
        let cache = crate::cache::dir()?;
        let folder = tempfile::Builder::new().prefix("doctor-").tempdir_in(&cache);
        let folder =
            folder.map_err(|error| crate::Error::io(format_args!("use {}", cache.display()), &error))?;
        let outcome = timeout_at(self.deadline, clones::tried(self.vm, folder.path())).await;
        let found = match outcome {
            Ok(Ok(Went::Well(times))) => Found::ok(times),
            Ok(Ok(Went::Not(why))) => Found::bad(
                State::Warning,
                format!("machines of this VM are not cloned: {why}"),
                "each scenario boots its machines; see the book's page on templates",
            ),
            Ok(Err(error)) => {
                self.log.push_str(&format!("== clones\n{error}\n"));
                self.facts.no_clones = Some(error.summary().to_owned());
                Found::bad(
                    State::Warning,
                    error.summary(),
                    "each scenario boots its machines; look at the file below",
                )
            }
            Err(_) => {
                self.not_tried("clones", tried, "started, but not finished within the minute");
                return Ok(());
            }
        };
        self.note("clones", tried, begun, found);
        Ok(())
    }

    async fn memory(&mut self) -> Result {
        let tried = "the file system of the cache folder";
        if !self.has_time(LEAST, "memory", tried) {
            return Ok(());
        }
        let (begun, cache) = (Instant::now(), crate::cache::dir()?);
        let looked = threads::aside(move || ram::look(&cache));
        let found = match timeout(self.left(KERNEL), looked).await {
            Ok(Ok(Ok(found))) => match found.trouble {
                Some(trouble) => Found::bad(
                    State::Warning,
                    format!("{}; {trouble}", found.line),
                    "set NIXVM_CACHE_DIR to a folder on a disk of this host",
                ),
                None => Found::ok(found.line),
            },
            Ok(Ok(Err(error))) => {
                Found::bad(State::Warning, error.to_string(), "set NIXVM_CACHE_DIR to another disk")
            }
            _ => Found::bad(
                State::Warning,
                "it takes too long to write 128 MiB",
                "set NIXVM_CACHE_DIR to another disk",
            ),
        };
        self.note("memory", tried, begun, found);
        Ok(())
    }

    async fn console(&mut self, program: &Path) {
        let tried = "bytes to ttyS0";
        let Some(cpu) = self.facts.cpu.clone() else {
            return self.not_tried("console", tried, "not even a guest of a few bytes runs");
        };
        if !self.has_time(LEAST, "console", tried) {
            return;
        }
        let begun = Instant::now();
        let found = match Box::pin(sector::rate(program, "kvm", &cpu, self.left(FIRST_BYTE))).await {
            // Each byte causes one exit from the guest.
            Ok(rate) => Found::ok(format!("{:.0} kB/s; each byte is one exit from the guest", rate / 1e3)),
            Err(why) => Found::bad(State::Warning, why, "look at QEMU's message"),
        };
        self.note("console", tried, begun, found);
        self.not_tried("console", "the control channel and round trips", "no user is logged in");
    }

    fn limits(&mut self, before: &Load) {
        let begun = Instant::now();
        let load = Load::now().since(before);
        let found = match &self.facts.kernel {
            Some(Ok(at)) => {
                format!("limits are multiplied by {:.1}; {load}", crate::machine::speed_of_boot(*at).factor())
            }
            _ => load.to_string(),
        };
        let found = match load.trouble() {
            Some(trouble) => Found::bad(
                State::Warning,
                format!("{found}: {trouble}"),
                "give this host more of its processors",
            ),
            None => Found::ok(found),
        };
        self.note("limits", "time that this host lost", begun, found);
        self.not_tried(
            "limits",
            "a stop job of 30 s, a silent boot of 15 s",
            "they would take most of the minute",
        );
    }

    /// Boots the same VM without KVM for the remaining time. KVM has to be faster.
    async fn emulated(&mut self) {
        let tried = "the VM under TCG";
        if !self.has_time(LEAST * 2, "emulated", tried) {
            return;
        }
        let begun = Instant::now();
        let boot = self.how(Accelerator::Tcg, None).boot(Until::Prompt, self.deadline).await;
        self.keep("TCG", &boot);
        if boot.cut_off.is_some() && boot.at(Until::Kernel).is_none() {
            return self.not_tried(
                "emulated",
                tried,
                &format!("started; {}, when the minute was over", reached(&boot)),
            );
        }
        let under_kvm = match &self.facts.kernel {
            Some(Ok(at)) => Some(*at),
            _ => None,
        };
        let found = match (boot.at(Until::Prompt), boot.at(Until::Kernel), under_kvm) {
            (Some(at), _, Some(kvm)) if kvm > at + SLOWER => Found::bad(
                State::Warning,
                format!("{}: KVM is slower", reached(&boot)),
                "set NIXVM_ACCELERATOR=tcg",
            ),
            (Some(_), ..) => Found::ok(reached(&boot)),
            (None, Some(_), _) => Found::ok(format!("{}; then the minute was over", reached(&boot))),
            (None, None, _) => Found::bad(
                State::Warning,
                boot.why.clone().unwrap_or_else(|| reached(&boot)),
                "the VM may not boot at all: nixvm-test shell shows it",
            ),
        };
        self.note("emulated", tried, begun, found);
    }
}

/// Returns why this QEMU can't create a machine with KVM, and what to do.
async fn refused_by(program: &Path) -> Option<(String, String)> {
    let asked = program.to_owned();
    let said = threads::aside(move || kvm_with(&asked)).await;
    let why = said.map_err(|error| error.to_string()).flatten().err()?;
    Some(match kvm_device::refusal_in(&why, Path::new(DEVICE)) {
        Some(refusal) => (format!("{} ({why})", refusal.why), refusal.fix),
        None => (format!("QEMU refuses it: {why}"), "look at QEMU's message".to_owned()),
    })
}

fn no_program(program: &Path) -> String {
    format!("there is no {}", program.display())
}

/// Returns why this QEMU's guests can't run on this host's processor.
fn emulated_here(program: &Path) -> Option<String> {
    let name = program.file_name()?.to_str()?;
    let guest = name.trim_start_matches('.').strip_prefix("qemu-system-")?.trim_end_matches("-wrapped");
    let here = std::env::consts::ARCH;
    // A 64-bit processor also runs 32-bit guests.
    let same = guest == here || (guest, here) == ("i386", "x86_64") || (guest, here) == ("arm", "aarch64");
    (!same).then(|| format!("guests for {guest} are emulated on {here}"))
}

/// Describes how far a boot got, with times.
fn reached(boot: &Boot) -> String {
    let names = [(Until::Kernel, "kernel"), (Until::Init, "first program"), (Until::Prompt, "login prompt")];
    let parts: Vec<String> = names
        .iter()
        .filter_map(|(until, name)| Some(format!("{name} after {:.1} s", boot.at(*until)?.as_secs_f64())))
        .collect();
    match (parts.is_empty(), boot.last_line()) {
        (false, _) => parts.join(", "),
        (true, Some(line)) => format!("its last line: {line}"),
        (true, None) => "its console printed nothing".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_of_another_architecture_are_emulated() {
        let here = std::env::consts::ARCH;
        assert_eq!(emulated_here(Path::new(&format!("/q/bin/qemu-system-{here}"))), None);
        assert_eq!(emulated_here(Path::new(&format!("/q/bin/.qemu-system-{here}-wrapped"))), None);
        assert_eq!(emulated_here(Path::new("/q/bin/qemu-kvm")), None);
        let why = emulated_here(Path::new("/q/bin/qemu-system-riscv64")).unwrap();
        assert_eq!(why, format!("guests for riscv64 are emulated on {here}"));
    }
}
