//! Finds trouble in a machine that no command of a scenario noticed: on its console, in the kernel log, among systemd's
//! units.
//!
//! The console and the kernel log are checked as they come (see [`crate::machine::checks::kernel_log`]), so a machine
//! may end in any way. Failed units are a state and not an event, so systemd is asked at the end of a scenario and
//! before [`Machine::power_off`], but only if that takes no login. The helper in the guest asks systemd itself: under
//! TCG, starting a program takes longer than a whole small scenario.
//!
//! A check that was incomplete is reported under its own name: no trouble seen is not the same as no trouble.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use crate::channel::{Progress, Request, Running, Shell, Way};
use crate::console::{Arrivals, Console};
use crate::machine::bus::dbus;
use crate::machine::checks::console_checks::{
    Finding, HUNG_TASK, INCOMPLETE_KERNEL_LOG, INCOMPLETE_TRANSCRIPT, UNANSWERED, check_console,
    is_the_kernels, same_record, stamp, unless_known,
};
use crate::machine::checks::kernel_log::{KernelLog, Noted, Telling};
use crate::machine::checks::stall;
use crate::machine::replay::answers::{Bytes, IN_PASSING};
use crate::machine::{Life, Machine};
use crate::mutex::lock;
use crate::{Error, ErrorKind, Result};

/// The limit for an answer, on a fast host. It is reached only when no answer comes.
const ANSWER: Duration = Duration::from_secs(10);

/// The limit for reading the last output of a QEMU that has ended.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Prints all records in the kernel's buffer, for a channel that only a shell serves. `dmesg` leaves out the records
/// from before a `dmesg --clear`, and the numbers. If dd ends for another reason than the end of the buffer, some
/// records are missing.
const KERNEL_LOG: &str = r#"{ e=$(LC_ALL=C dd if=/dev/kmsg bs=8192 iflag=nonblock 2>&1 >&3) || :; } 3>&1
case $e in *"Resource temporarily unavailable"*) ;; *) echo "$e" >&2; exit 1 ;; esac"#;

/// Units that fail after the boot print nothing on the console.
const FAILED_UNITS: &str =
    "[ ! -d /run/systemd/system ] || systemctl list-units --state=failed --plain --no-legend --no-pager";

/// Maximum size of an answer.
const LONGEST: usize = 64 << 20;

/// The socket on which systemd answers root without a bus (systemd(1)).
const SYSTEMD: &[u8] = b"/run/systemd/private";

/// All findings, allowed or not.
#[derive(Debug, Default, Clone)]
pub(crate) struct Trouble {
    /// On the consoles, since the machine's first start.
    pub(crate) on_console: Vec<Finding>,
    /// Only in the kernels' logs.
    pub(crate) in_kernel_log: Vec<Finding>,
    /// The units that are failed at the end.
    pub(crate) failed_units: Vec<String>,
    /// The units that were failed at the last look before the machine was started, rebooted or restored.
    failed_before: Vec<String>,
    /// Lines that report only that something took too long because of the host, with the reason.
    excused: Vec<(String, String)>,
    /// Checks that were incomplete.
    pub(crate) gaps: Vec<Gap>,
}

/// Trouble in the kernel log of a machine that is to be saved.
#[derive(Debug)]
pub(crate) struct BeforeSave {
    /// Something took too long, and the host did not cause it.
    pub(crate) stalls: Vec<String>,
    /// Other trouble, which was not judged before.
    pub(crate) others: Vec<String>,
}

/// Whether a machine is paused. QEMU is asked at most once per look at the machine, and only if it matters.
#[derive(Debug, Default)]
struct Standstill(OnceCell<bool>);

impl Standstill {
    async fn of(&self, life: &Life) -> bool {
        *self.0.get_or_init(|| life.stands_still()).await
    }
}

/// Whether the host caused a line.
enum Excuse {
    /// It did not, as far as is known.
    None,
    /// It did, which was already reported.
    Known,
    /// It did, for this reason.
    New(String),
}

impl Excuse {
    /// Returns the excuse of a console line. Its time is requested only if it matters.
    fn of(finding: &Finding, kernel: &KernelLog, came: impl FnOnce() -> Option<Instant>) -> Self {
        if finding.check != HUNG_TASK {
            return Self::None;
        }
        let noted = kernel.noted();
        if noted.is_excused(&finding.line) {
            return Self::Known;
        }
        // The kernel's own log was judged with it.
        if noted.findings().iter().any(|known| same_record(&known.line, &finding.line)) {
            return Self::None;
        }
        // Without proof that the host caused it, the guest is blamed.
        let Some(came) = came() else { return Self::None };
        let host = kernel.host();
        host.look();
        host.during(stall::span(&finding.line), came).map_or(Self::None, Self::New)
    }
}

/// The times of console lines. The transcript is read for them once, and only on request.
struct Came<'a> {
    console: &'a Console,
    arrivals: Option<Option<Arrivals>>,
}

impl<'a> Came<'a> {
    fn on(console: &'a Console) -> Self {
        Self { console, arrivals: None }
    }

    fn came(&mut self, line: &str) -> Option<Instant> {
        self.arrivals.get_or_insert_with(|| self.console.arrivals()).as_mut()?.of(stamp(line)?)
    }
}

/// A check that was incomplete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gap {
    /// The name by which it is allowed.
    pub(crate) check: &'static str,
    pub(crate) why: String,
}

/// The result of a look at the kernel log, as recorded.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Looked {
    noted: Noted,
    /// Why it is unknown whether that is all.
    unanswered: Option<String>,
}

impl Machine {
    /// Returns all trouble up to now.
    pub(crate) async fn trouble(&self) -> Result<Trouble> {
        self.note_trouble().await;
        let mut trouble = self.noted(|noted| noted.clone());
        let current = std::mem::take(&mut trouble.failed_units);
        trouble.failed_units = std::mem::take(&mut trouble.failed_before);
        trouble.failed_units.extend(current);
        trouble.failed_units.sort_unstable();
        trouble.failed_units.dedup();
        let life = self.life();
        life.look_at_console(&mut trouble).await;
        for (line, why) in &trouble.excused {
            life.events
                .note(format!("{}: this does not fail the scenario, because {why}: {line}", life.name));
        }
        trouble.in_kernel_log = unless_known(trouble.in_kernel_log, &trouble.on_console);
        // A panicked kernel does not answer, and the console has its messages.
        if trouble.on_console.iter().any(|finding| finding.check == "kernel panic") {
            trouble.gaps.retain(|gap| gap.check != UNANSWERED);
        }
        Ok(trouble)
    }

    /// Stores the current findings: the machine is about to shut down for good, or the scenario is over.
    pub(crate) async fn note_trouble(&self) {
        let (life, standstill) = (self.life(), Standstill::default());
        tokio::join!(self.note_kernel_log(&life, &standstill), self.note_failed_units(&life, &standstill));
    }

    /// Stores the current findings permanently: the machine is about to be restored to a moment where they do not show.
    pub(crate) async fn note_trouble_of_before(&self) {
        let (life, standstill) = (self.life(), Standstill::default());
        self.note_kernel_log(&life, &standstill).await;
        if !standstill.of(&life).await {
            self.note_failed_units(&life, &standstill).await;
        }
        self.noted(Trouble::keep_as_failed_before);
    }

    /// Stores the findings in the kernel log.
    async fn note_kernel_log(&self, life: &Life, standstill: &Standstill) {
        let question = format!("{IN_PASSING}what the kernel logged");
        let (noted, unanswered) =
            match life.answer(&question, async { Ok(life.look_at_kernel_log(standstill).await) }).await {
                Ok(Looked { noted, unanswered }) => (noted, unanswered),
                // A record from before this question existed.
                Err(error) if error.kind() == ErrorKind::NotRecorded => return,
                Err(error) => (Noted::default(), Some(error.summary().to_owned())),
            };
        self.noted(|trouble| {
            for finding in noted.findings() {
                if trouble.in_kernel_log.iter().all(|known| known.line != finding.line) {
                    trouble.in_kernel_log.push(finding);
                }
            }
            for (line, why) in noted.excused() {
                trouble.excuse(line, why);
            }
            let incomplete = noted.incomplete().iter().map(|why| (INCOMPLETE_KERNEL_LOG, why.clone()));
            for (check, why) in incomplete.chain(unanswered.map(|why| (UNANSWERED, why))) {
                trouble.note_gap(check, why);
            }
        });
    }

    /// Stores which units are failed by now.
    async fn note_failed_units(&self, life: &Life, standstill: &Standstill) {
        let failed = match life.is_running_well(standstill).await {
            true => Ok(Some(String::new())),
            false => life.failed_units(standstill).await,
        };
        match failed {
            Ok(Some(list)) => {
                let names = list.lines().filter_map(|line| line.split_whitespace().next());
                self.noted(|noted| noted.failed_units = names.map(str::to_owned).collect());
            }
            // There is no channel to ask, or the machine is shutting down.
            Ok(None) => {}
            Err(error) if error.kind() == ErrorKind::NotRecorded || life.goes_down() => {}
            Err(error) => self.noted(|noted| {
                let why = format!("systemd did not say which units have failed: {}", error.summary());
                noted.note_gap(UNANSWERED, why);
            }),
        }
    }

    /// Stores the findings of a life that is over.
    pub(in crate::machine) async fn note_life(&self, life: &Life) {
        self.note_kernel_log(life, &Standstill::default()).await;
        let mut shown = Trouble::default();
        life.look_at_console(&mut shown).await;
        self.noted(|noted| {
            noted.on_console.append(&mut shown.on_console);
            shown.excused.drain(..).for_each(|(line, why)| noted.excuse(&line, &why));
            shown.gaps.drain(..).for_each(|gap| noted.note_gap(gap.check, gap.why));
            noted.keep_as_failed_before();
        });
    }

    fn noted<T>(&self, act: impl FnOnce(&mut Trouble) -> T) -> T {
        act(&mut lock(&self.shared.trouble))
    }
}

/// The machine is asked to shut down, and its log was read before. If it keeps running, that was not the end of the
/// log.
pub(crate) struct AskedToGoDown(pub(crate) Arc<Life>);

impl Drop for AskedToGoDown {
    fn drop(&mut self) {
        if !self.0.is_off() {
            self.0.channels.kernel().reopen();
        }
    }
}

impl Trouble {
    fn keep_as_failed_before(&mut self) {
        self.failed_before.append(&mut self.failed_units);
    }

    fn excuse(&mut self, line: &str, why: &str) {
        if self.excused.iter().all(|(known, _)| !same_record(known, line)) {
            self.excused.push((line.to_owned(), why.to_owned()));
        }
    }

    fn note_gap(&mut self, check: &'static str, why: String) {
        let gap = Gap { check, why };
        if !self.gaps.contains(&gap) {
            self.gaps.push(gap);
        }
    }
}

impl Life {
    /// Adds the findings on the console.
    async fn look_at_console(&self, trouble: &mut Trouble) {
        if self.is_off() && self.replay().is_none() {
            self.console.read_to_the_end(self.limit(LAST_WORDS)).await;
        }
        match self.console.log_that_is_left() {
            Ok((log, why)) => {
                let mut when = Came::on(&self.console);
                for finding in check_console(&log, &[]) {
                    if self.is_judged(&finding) {
                        continue;
                    }
                    match Excuse::of(&finding, self.channels.kernel(), || when.came(&finding.line)) {
                        Excuse::None => trouble.on_console.push(finding),
                        Excuse::Known => {}
                        Excuse::New(why) => trouble.excuse(&finding.line, &why),
                    }
                }
                if let Some(why) = why {
                    trouble.note_gap(INCOMPLETE_TRANSCRIPT, why);
                }
            }
            Err(error) => trouble.note_gap(INCOMPLETE_TRANSCRIPT, error.summary().to_owned()),
        }
    }

    /// Returns whether a line was already reported to the caller for whom this machine's template was made.
    fn is_judged(&self, finding: &Finding) -> bool {
        finding.number <= self.console.judged() && is_the_kernels(finding)
    }

    /// Returns the kernel's messages of a machine that is to be saved. Afterwards the host's influence up to now is
    /// settled: clones are not checked for it.
    pub(crate) async fn look_before_save(&self) -> Result<BeforeSave> {
        if self.channels.root().is_some_and(|root| root.way() == Way::Shell) {
            // Otherwise it would be read in each clone.
            self.look_at_kernel_log(&Standstill::default()).await;
        }
        let (log, _) = self.console.log_that_is_left()?;
        let kernel = self.channels.kernel();
        let mut excused = Vec::new();
        let mut when = Came::on(&self.console);
        let (mut stalls, mut others) = (Vec::new(), Vec::new());
        let on_console = check_console(&log, &[]);
        for finding in on_console.into_iter().filter(|finding| !self.is_judged(finding)) {
            match Excuse::of(&finding, kernel, || when.came(&finding.line)) {
                Excuse::None if is_the_kernels(&finding) => others.push(finding),
                Excuse::None | Excuse::Known => {}
                Excuse::New(_) => excused.push(finding.line),
            }
        }
        kernel.add_judged(excused.into_iter());
        others.extend(unless_known(kernel.noted().findings(), &others));
        others.retain(|finding| {
            let is_stall = finding.check == HUNG_TASK;
            if is_stall {
                stalls.push(finding.line.clone());
            }
            !is_stall
        });
        Ok(BeforeSave { stalls, others: others.into_iter().map(|finding| finding.line).collect() })
    }

    /// Returns the findings of the kernel log, after everything logged up to now was delivered.
    async fn look_at_kernel_log(&self, standstill: &Standstill) -> Looked {
        let kernel = self.channels.kernel();
        let unanswered = match self.channels.root().filter(|_| !self.is_off()) {
            None => self.why_log_is_cut_off().await,
            Some(channel) if channel.way() == Way::Shell => match self.asked_at_once(KERNEL_LOG).await {
                Ok(log) => {
                    kernel.take_all(log.unwrap_or_default().as_bytes());
                    None
                }
                Err(error) => Some(format!("the kernel's log could not be read: {}", error.summary())),
            },
            // A stalled machine logs nothing and does not answer.
            Some(_) if standstill.of(self).await => None,
            // The answer comes after everything that was logged before.
            Some(channel) => match channel.ping(self.limit(ANSWER)).await {
                Ok(_) => None,
                Err(_) if channel.lost().is_some() => self.why_log_is_cut_off().await,
                Err(error) => Some(format!("the kernel's log could not be read: {}", error.summary())),
            },
        };
        Looked { noted: kernel.noted(), unanswered }
    }

    /// Returns why the log may have continued after the delivered part, if no channel is open.
    async fn why_log_is_cut_off(&self) -> Option<String> {
        let kernel = self.channels.kernel();
        let over = kernel.is_over(self.limit(LAST_WORDS)).await;
        let why = match kernel.telling() {
            Telling::NotBegun | Telling::Ended | Telling::Read => return None,
            Telling::UnderWay if !over => "the last data of the control channel was not read in time",
            // It was delivered up to the machine's end.
            Telling::UnderWay | Telling::BrokenOff if self.is_off() && !kernel.is_cut_off() => return None,
            Telling::UnderWay | Telling::BrokenOff => {
                "the control channel was lost, and later messages of the kernel were not read"
            }
            Telling::OnRequest => {
                "only a shell serves the control channel, and it was lost before the kernel's log was read"
            }
        };
        Some(why.to_owned())
    }

    fn is_off(&self) -> bool {
        self.qemu.exit().borrow().is_some()
    }

    /// Returns whether the machine is off, or its helper was asked to end because it is shutting down.
    fn goes_down(&self) -> bool {
        let told_to_the_end = || matches!(self.channels.kernel().telling(), Telling::Ended | Telling::Read);
        self.is_off() || (self.channels.root().is_none() && told_to_the_end())
    }

    /// Notes whether the kernel log ended early, because the machine is about to be killed. A log without a channel is
    /// incomplete.
    pub(crate) async fn note_whether_log_is_told(&self) {
        if !self.is_off() && self.channels.root().is_none() {
            let kernel = self.channels.kernel();
            kernel.is_over(self.limit(LAST_WORDS)).await;
            kernel.note_untold();
        }
    }

    /// Returns the failed units, as systemctl lists them; `None` if root can't be asked at once.
    async fn failed_units(&self, standstill: &Standstill) -> Result<Option<String>> {
        if self.channels.root().is_some() && standstill.of(self).await {
            return Err(Error::new(ErrorKind::Timeout, format!("{}: its processors are stopped", self.name)));
        }
        self.ask(FAILED_UNITS).await
    }

    /// Returns the output of root's `command`; `None` if root can't be asked at once.
    ///
    /// # Errors
    /// The command fails, or takes too long.
    pub(crate) async fn ask(&self, command: &str) -> Result<Option<String>> {
        if self.is_off() {
            return Ok(None);
        }
        self.answer(&format!("{IN_PASSING}{command}"), self.asked_at_once(command)).await
    }

    async fn asked_at_once(&self, command: &str) -> Result<Option<String>> {
        // Not through `channel`, which would open a channel that is lost.
        let Some(channel) = self.channels.root() else { return Ok(None) };
        let _step = self.step_with("root: ", command);
        let limit = self.limit(ANSWER);
        let request = Request { text: command.to_owned(), shell: Shell::Bash, stdin: false, sum: false };
        let asking = async { printed(channel.run(request).await?).await };
        let answer = crate::stopped::timeout(limit, asking).await.map_err(|_| {
            Error::new(ErrorKind::Timeout, format!("{}: `{command}` did not end in time", self.name))
                .took(limit, limit)
        })??;
        Ok(Some(String::from_utf8_lossy(&answer).into_owned()))
    }

    /// Returns what the helper in the guest knows without starting a program; `None` if it can't be asked, has no
    /// answer or takes too long, and if no helper serves the channel.
    async fn question(&self, named: &str, question: &[u8]) -> Option<Vec<u8>> {
        let ask = async {
            let channel = self.channels.root().filter(|root| root.way() == Way::Helper)?;
            let asking = async { printed(channel.ask(question).await.ok()?).await.ok() };
            crate::stopped::timeout(self.limit(ANSWER), asking).await.ok()?.map(Bytes)
        };
        self.answer(&format!("{IN_PASSING}{named}"), async { Ok(ask.await) }).await.ok()?.map(|bytes| bytes.0)
    }

    /// Returns whether systemd reports that all is well: no jobs are running, and no unit has failed.
    async fn is_running_well(&self, standstill: &Standstill) -> bool {
        if self.channels.root().is_some() && standstill.of(self).await {
            return false;
        }
        let mut question = [b"dbus ", SYSTEMD, b"\0", dbus::HELLO].concat();
        let call = dbus::Call {
            destination: "org.freedesktop.systemd1",
            path: "/org/freedesktop/systemd1",
            interface: "org.freedesktop.DBus.Properties",
            member: "Get",
            arguments: &["org.freedesktop.systemd1.Manager", "SystemState"],
            flags: &[],
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

/// Returns the output of a command that succeeds.
async fn printed(mut running: Running) -> Result<Vec<u8>> {
    let mut printed = Vec::new();
    loop {
        match running.next().await? {
            Progress::Stdout(bytes) if printed.len() + bytes.len() <= LONGEST => printed.extend(bytes),
            Progress::Stdout(_) => {
                return Err(Error::new(ErrorKind::Incomplete, "the answer is longer than 64 MiB"));
            }
            Progress::Stderr(_) => {}
            Progress::Exit(0) => return Ok(printed),
            Progress::Exit(status) => {
                return Err(Error::new(
                    ErrorKind::CommandFailed,
                    format!("the command ended with status {status}"),
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::checks::console_checks::check_called;

    #[test]
    fn a_stall_that_only_the_console_shows_is_the_hosts_where_the_host_was_busy_then() {
        let kernel = KernelLog::default();
        kernel.host().pretend_suspended(Duration::from_secs(300));
        let excused = |line: &str, ago: Option<u64>| {
            let check = check_called(HUNG_TASK).unwrap();
            let (meaning, line) = (check.meaning(), line.to_owned());
            let finding = Finding { check: HUNG_TASK, meaning, line, number: 1 };
            let came = ago.and_then(|ago| Instant::now().checked_sub(Duration::from_secs(ago)));
            matches!(Excuse::of(&finding, &kernel, || came), Excuse::New(_))
        };
        let soft = "[   99.000001] watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [sh:9]";
        let hung = "[  499.000001] INFO: task sync:812 blocked for more than 122 seconds.";
        assert!(excused(soft, Some(299)));
        // The host was busy earlier, and the guest hangs now.
        assert!(!excused(soft, Some(0)) && !excused(hung, Some(0)));
        assert!(!excused(soft, Some(200)) && excused(hung, Some(200)));
        assert!(!excused(soft, Some(320)), "the host was busy only later");
        assert!(!excused(soft, None), "nobody knows when it came");
    }
}
