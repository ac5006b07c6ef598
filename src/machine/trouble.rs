//! Trouble in a machine that no command of a scenario noticed: on its console, in the kernel's log, among
//! systemd's units.
//!
//! The kernel logs more than it prints on a console: NixOS boots with `loglevel=4`, and that a program
//! crashed is no error of the kernel's (`KERN_INFO`). Its log goes with it, so it is read at the end and
//! before a machine goes down. It is asked for only where that takes no login, and an answer that does not
//! come soon is done without. The helper in the guest asks kernel and systemd itself: under TCG the start of a program
//! takes longer than all of a small scenario.

use std::time::Duration;

use super::answers::{Bytes, IN_PASSING};
use super::console_checks::{Finding, check_console, unless_known};
use super::{Life, Machine, dbus};
use crate::Result;
use crate::control::{Progress, Request, Running, Shell, Way};
use crate::mutex::lock;

/// For an answer, on a fast host.
const SOON: Duration = Duration::from_secs(2);

/// The kernel's log since it was booted, in the form of the console. `dmesg` asks the kernel itself, so it
/// needs no journal; the kernel's buffer may have lost the beginning.
const KERNEL_LOG: &str = "dmesg 2>/dev/null | tail -c 1000000";

/// Units that failed after the boot print nothing on the console.
const FAILED_UNITS: &str = "systemctl list-units --state=failed --plain --no-legend --no-pager";

/// Where systemd answers root without a bus (systemd(1)).
const SYSTEMD: &[u8] = b"/run/systemd/private";

/// What was found, whether it is allowed or not.
#[derive(Debug, Default, Clone)]
pub(crate) struct Trouble {
    /// On the consoles, since the machine was started first.
    pub(crate) on_console: Vec<Finding>,
    /// In the kernels' logs alone.
    pub(crate) in_kernel_log: Vec<Finding>,
    /// The units that have failed at the end.
    pub(crate) failed_units: Vec<String>,
}

impl Machine {
    /// All the trouble there was up to now.
    pub(crate) async fn trouble(&self) -> Result<Trouble> {
        self.note_trouble().await;
        let mut trouble = self.noted(|noted| noted.clone());
        trouble.on_console.extend(check_console(&self.get_console_log()?, &[]));
        trouble.in_kernel_log = unless_known(trouble.in_kernel_log, &trouble.on_console);
        Ok(trouble)
    }

    /// Keeps in mind what is found now: the machine is about to go down for good, or the scenario is over.
    pub(super) async fn note_trouble(&self) {
        tokio::join!(self.note_kernel_log(), self.note_failed_units());
    }

    /// Keeps in mind what the kernel's log shows.
    pub(super) async fn note_kernel_log(&self) {
        let life = self.life();
        let log = match life.question("the kernel's log", b"log").await {
            Some(log) => Some(as_on_a_console(&String::from_utf8_lossy(&log))),
            None => life.ask(KERNEL_LOG).await,
        };
        if let Some(log) = log {
            let found = check_console(&log, &[]);
            self.noted(|noted| {
                noted.in_kernel_log.retain(|known| found.iter().all(|finding| finding.line != known.line));
                noted.in_kernel_log.extend(found);
            });
        }
    }

    /// Keeps in mind which units have failed; those of before count no more.
    async fn note_failed_units(&self) {
        let life = self.life();
        if life.is_running_well().await {
            return self.noted(|noted| noted.failed_units.clear());
        }
        if let Some(list) = life.ask(FAILED_UNITS).await {
            let names = list.lines().filter_map(|line| line.split_whitespace().next());
            self.noted(|noted| noted.failed_units = names.map(str::to_owned).collect());
        }
    }

    /// Keeps in mind what the console of a life shows that is over.
    pub(super) fn note_console(&self, life: &Life) {
        // A transcript that can't be read is an error of the run directory's, and no trouble in the machine.
        let found = check_console(&life.console.log().unwrap_or_default(), &[]);
        self.noted(|noted| {
            noted.on_console.extend(found);
            noted.failed_units.clear();
        });
    }

    fn noted<T>(&self, act: impl FnOnce(&mut Trouble) -> T) -> T {
        act(&mut lock(&self.shared.trouble))
    }
}

impl Life {
    /// What root's `command` prints; `None` where root can't be asked at once, it fails or takes too long.
    pub(super) async fn ask(&self, command: &str) -> Option<String> {
        if self.qemu.exit().borrow().is_some() {
            return None;
        }
        let ask = async { Ok(self.asked_at_once(command).await) };
        self.answer(&format!("{IN_PASSING}{command}"), ask).await.ok()?
    }

    async fn asked_at_once(&self, command: &str) -> Option<String> {
        // Not by way of `channel`, which would open one that is lost.
        let channel = self.control.root()?;
        let _step = self.step(format!("root: {command}"));
        let request = Request { text: command.to_owned(), shell: Shell::Bash, stdin: false, sum: false };
        let asking = async { printed(channel.run(request).await.ok()?).await };
        let answer = tokio::time::timeout(self.limit(SOON), asking).await.ok()??;
        Some(String::from_utf8_lossy(&answer).into_owned())
    }

    /// What the helper in the guest knows without starting a program; `None` as for [`Life::ask`], and where no helper
    /// serves the channel.
    async fn question(&self, named: &str, question: &[u8]) -> Option<Vec<u8>> {
        let ask = async {
            let channel = self.control.root().filter(|root| root.way() == Way::Helper)?;
            let asking = async { printed(channel.ask(question).await.ok()?).await };
            tokio::time::timeout(self.limit(SOON), asking).await.ok()?.map(Bytes)
        };
        self.answer(&format!("{IN_PASSING}{named}"), async { Ok(ask.await) }).await.ok()?.map(|bytes| bytes.0)
    }

    /// Whether systemd says that all is well: neither is anything under way, nor has a unit failed.
    async fn is_running_well(&self) -> bool {
        let mut question = [b"dbus ", SYSTEMD, b"\0", dbus::HELLO].concat();
        let call = dbus::Call {
            destination: "org.freedesktop.systemd1",
            path: "/org/freedesktop/systemd1",
            interface: "org.freedesktop.DBus.Properties",
            member: "Get",
            arguments: &["org.freedesktop.systemd1.Manager", "SystemState"],
        };
        call.write(1, &mut question);
        let Some(answer) = self.question("the state of the system", &question).await else { return false };
        let mut left = &answer[..];
        while let Ok(Some((incoming, length))) = dbus::read(left) {
            if let dbus::Incoming::Answer { text, .. } = incoming {
                return text == "running";
            }
            left = &left[length..];
        }
        false
    }
}

/// The output of what succeeds.
async fn printed(mut running: Running) -> Option<Vec<u8>> {
    let mut printed = Vec::new();
    loop {
        match running.next().await.ok()? {
            Progress::Stdout(bytes) => printed.extend(bytes),
            Progress::Stderr(_) => {}
            Progress::Exit(0) => return Some(printed),
            Progress::Exit(_) => return None,
        }
    }
}

/// The kernel's log without the levels that syslog(2) puts before each line.
fn as_on_a_console(log: &str) -> String {
    let lines = log.lines().map(|line| match line.strip_prefix('<').and_then(|rest| rest.split_once('>')) {
        Some((level, rest)) if level.bytes().all(|byte| byte.is_ascii_digit()) => rest,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_taken_off_the_kernels_lines() {
        let log = "<6>[    0.000000] Linux version 6\n<4>[    1.5] a: <b> c\nno level\n<x>[ 2.0] d\n";
        assert_eq!(
            as_on_a_console(log),
            "[    0.000000] Linux version 6\n[    1.5] a: <b> c\nno level\n<x>[ 2.0] d"
        );
    }
}
