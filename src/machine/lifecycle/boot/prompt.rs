//! Follows a boot to its login prompt: its phases, its questions, and a silence that does not end.

use std::time::Duration;

use crate::stopped::Instant;

use super::last_line::{self, LastLine, Words};
use super::questions::{Questions, unknown};
use super::reasons::{consoles, initrd, reasons};
use crate::console::{Console, Mark, Pattern, Watch};
use crate::error::Doubt;
use crate::machine::Life;
use crate::machine::lifecycle::boot_times::speed_of_boot;
use crate::machine::session::phases::{Phases, has_a_beginning, login_prompt};
use crate::machine::session::shell_line::Secret;
use crate::machine::session::waiting::{ends_at_a_shell, is_logged_in_by_itself, prompt_of_a_shell};
use crate::qemu::{Qemu, Standstill, WATCHED, Work};
use crate::{Error, ErrorKind, Event, Events, Result, Speed};

/// After this silence, on a fast host, a guest at rest is given up, or asked by a press of Enter.
const SILENCE: Duration = Duration::from_secs(6);
/// The minimum on any host: a boot waits in real time as well, for a menu or for a slow disk.
const SILENCE_AT_LEAST: Duration = Duration::from_secs(30);
/// The limit for agetty to answer Enter, on a fast host.
const ANSWER: Duration = Duration::from_secs(2);
/// After this time, on a fast host, a last line that looks like a shell's prompt is asked by a press of Enter.
const SHELL: Duration = Duration::from_secs(3);
/// After this time, on a fast host, a last line that looks like a question is treated as one.
const QUESTION: Duration = Duration::from_millis(100);
/// On a fast host, a guest at rest asks for a secret that need not open a disk after this silence. Services print such
/// words as well, before a secret that they have made.
const SECRET: Duration = Duration::from_secs(5);
/// While KVM is not proven, the processors of a guest without any output are inspected after this time.
const FIRST_WORD: Duration = Duration::from_secs(2);
/// Where KVM hardly ever runs a guest, a guest without any output is given up after this time.
const FIRST_WORD_AT_MOST: Duration = Duration::from_secs(8);
/// How often a wait for the next phase checks how long the console has been quiet.
const LOOK: Duration = Duration::from_millis(500);

/// How many lines are searched for an automatic login. A greeting can be long.
const LINES: usize = 100;

/// How to make the kernel print what it does.
const TALK: &str = "boot it by hand with a verbose kernel: QEMU_KERNEL_PARAMS='console=ttyS0 loglevel=7' \
                    ./result/bin/run-*-vm -nographic";

/// A boot in progress.
pub(crate) struct Boot<'a> {
    pub(super) name: &'a str,
    pub(super) console: &'a Console,
    pub(super) qemu: &'a Qemu,
    pub(super) events: &'a Events,
    pub(super) started: Instant,
    pub(super) speed: Speed,
    /// The console's position when a reboot was requested.
    pub(super) asked_at: Option<Mark>,
    /// Set if the boot shows whether KVM runs this guest. The value tells whether a silent guest is given up early.
    pub(super) tried: Option<bool>,
    /// The passphrase for the machine's disks.
    pub(super) passphrase: Option<&'a Secret>,
}

/// A press of Enter.
struct Nudge {
    /// The console's position at that time.
    at: Mark,
    /// The deadline for the answer.
    no_answer: Instant,
    /// The last line at that time, if it looked like a shell's prompt.
    shell: Option<String>,
}

/// Whether a silent guest is busy.
#[derive(Default)]
struct Silence {
    work: Work,
    standstill: Standstill,
    /// The last result.
    busy: Option<bool>,
}

impl<'a> Boot<'a> {
    /// Creates the boot that begins now in a running machine. The console was at `asked_at` when the reboot was
    /// requested.
    pub(crate) fn of(life: &'a Life, asked_at: Mark, passphrase: Option<&'a Secret>) -> Self {
        let Life { name, console, qemu, events, speed, .. } = life;
        Self {
            name,
            console,
            qemu,
            events,
            started: Instant::now(),
            speed: *speed,
            asked_at: Some(asked_at),
            tried: None,
            passphrase,
        }
    }

    /// Returns whether the boot began before this wait did. QEMU's reset event comes over a different connection than
    /// the console's output, and can arrive late in a busy process.
    fn began_before(&self) -> bool {
        let said = self.asked_at.map(|mark| self.console.text_since(mark).text);
        said.is_some_and(|said| has_a_beginning(&said))
    }

    /// Waits for the login prompt. Returns the host's speed as measured by the boot.
    ///
    /// The wait fails at once at a dialog or an unanswered question. It also fails when a guest at rest is silent for 6
    /// s × the host's factor, but at least 30 s, and after `limit`, also for a guest that computes for ever and prints
    /// nothing.
    pub(crate) async fn to_login_prompt(&self, limit: Duration) -> Result<Speed> {
        let silence = self.speed.scale_to_at_least(SILENCE, SILENCE_AT_LEAST);
        let mut patterns: Vec<Pattern> = vec![login_prompt()?];
        patterns.extend(Phases::patterns()?);
        self.phase("firmware");
        let mut phases = Phases::default();
        let mut questions = Questions::of(self.console, self.passphrase, self.asked_at);
        let mut nudged: Option<Nudge> = None;
        // Where the words of a login prompt have come, and may be a prompt.
        let mut last_line: Option<LastLine> = None;
        let mut torn = false;
        let (mut first_word, mut still) = (Standstill::default(), Silence::default());
        let up_at = loop {
            let rest = limit.saturating_sub(self.started.elapsed());
            let look = if last_line.is_some() { last_line::LOOK } else { LOOK };
            match self.console.expect_any(&patterns, look.min(rest)).await {
                Ok((0, _)) => {
                    last_line.get_or_insert_with(LastLine::new);
                }
                Ok((pattern, found)) => {
                    if let Some(phase) = phases.see(pattern - 1, &found.text()) {
                        self.phase(phase);
                    }
                }
                Err(error) if error.kind() != ErrorKind::Timeout => {
                    return Err(self.explained(error).took(self.started.elapsed(), limit));
                }
                Err(_) if self.started.elapsed() >= limit => {
                    let question = unknown(&questions.said());
                    return Err(self.too_late(still.busy, question).took(self.started.elapsed(), limit));
                }
                Err(_) => {
                    if let Some(line) = &mut last_line {
                        let rest = self.speed.scale(QUESTION);
                        let since = self.asked_at.unwrap_or(Mark::BEGINNING);
                        match line.look(self.console, since, rest, self.speed.factor()) {
                            Words::Unknown => continue,
                            Words::Prompt(since) => break since,
                            Words::Other { torn: is_torn } => (last_line, torn) = (None, is_torn),
                        }
                    }
                    if let Some(hasty) = self.tried
                        && self.console.written() == 0
                        && self.started.elapsed() >= FIRST_WORD
                    {
                        if let Some((spent, place)) = first_word.look(self.qemu).await {
                            return Err(self.stands_still(spent, &place));
                        }
                        if hasty && self.started.elapsed() >= FIRST_WORD_AT_MOST {
                            return Err(self.no_word_yet());
                        }
                    }
                    let quiet = self.console.quiet_for();
                    let is_sure =
                        quiet >= silence || (quiet >= self.speed.scale(SECRET) && still.busy == Some(false));
                    if quiet >= self.speed.scale(QUESTION)
                        && questions.look(is_sure).await.map_err(|error| self.named(error))?
                    {
                        nudged = None;
                        continue;
                    }
                    if quiet + WATCHED >= silence || nudged.is_some() || questions.is_in_doubt() {
                        still.look(self).await?;
                    } else {
                        still = Silence::default();
                    }
                    let may_be_up = phases.has_services() || (self.began_before() && !phases.is_in_initrd());
                    let Some(nudge) = &nudged else {
                        // A getty may log a user in without printing anything.
                        let shell = prompt_of_a_shell(&self.console.tail(1)).filter(|_| may_be_up);
                        let is_shell = shell.is_some();
                        let soon = is_shell || torn;
                        let asks = quiet >= if soon { self.speed.scale(SHELL) } else { silence };
                        let rests = still.busy == Some(false);
                        if !asks || (!soon && still.busy.is_none()) {
                            continue;
                        }
                        if !is_shell && let Some(question) = unknown(&questions.said()) {
                            if rests {
                                return Err(self.named(question));
                            }
                            // A guest that computes may print its result behind this. If it is a question, any key answers
                            // it.
                            continue;
                        }
                        if may_be_up {
                            // agetty and shells print their prompt again: another message may have torn it. Before they
                            // run, Enter would answer an unknown question.
                            let patience = if soon { silence } else { self.speed.scale(ANSWER) };
                            torn = false;
                            let no_answer = Instant::now() + patience;
                            nudged = Some(Nudge { at: self.console.mark(), no_answer, shell });
                            self.console.send(b"\r").await?;
                        } else if rests {
                            return Err(self.silent(&phases, silence));
                        }
                        continue;
                    };
                    if quiet < self.speed.scale(ANSWER) {
                        continue;
                    }
                    let answer = self.console.text_since(nudge.at).text;
                    if may_be_up && ends_at_a_shell(&answer) && self.is_the_same_shell(nudge) {
                        break Instant::now();
                    } else if !answer.trim().is_empty() {
                        nudged = None;
                    } else if Instant::now() >= nudge.no_answer && still.busy == Some(false) {
                        return Err(self.silent(&phases, silence));
                    }
                }
            }
        };
        // The silence behind a prompt is not a part of the boot.
        let took = up_at.saturating_duration_since(self.started);
        self.phase_at("login prompt", took);
        self.console.set_watch(Watch::Session);
        Ok(speed_of_boot(took))
    }

    /// Whether a shell has answered Enter with its prompt: with the same one as before, since a progress in percent ends like
    /// a prompt as well. A prompt may tell the time; where somebody was logged in without being asked, it is one.
    fn is_the_same_shell(&self, nudge: &Nudge) -> bool {
        let is_same = prompt_of_a_shell(&self.console.tail(1)) == nudge.shell && nudge.shell.is_some();
        is_same || is_logged_in_by_itself(&self.console.tail(LINES))
    }

    fn phase(&self, phase: &str) {
        self.phase_at(phase, self.started.elapsed());
    }

    fn phase_at(&self, phase: &str, at: Duration) {
        let (machine, phase) = (self.name.to_owned(), phase.to_owned());
        self.events.send(Event::Phase { machine, phase, at });
    }

    fn report(&self, kind: ErrorKind, summary: &str) -> Error {
        Error::new(kind, format!("{}: {summary}", self.name))
            .section("the console's last lines", self.console.tail(20))
    }

    /// Adds the machine's name to a question's error.
    fn named(&self, error: Error) -> Error {
        let summary = format!("{}: {}", self.name, error.summary());
        error.with_summary(summary).section("the console's last lines", self.console.tail(20))
    }

    /// Adds the console's messages about a failure before the restart.
    fn explained(&self, error: Error) -> Error {
        if error.kind() != ErrorKind::BootLoop {
            return error;
        }
        let said = reasons(&self.console.text_since(Mark::BEGINNING).text);
        match said.first() {
            Some(first) => {
                let cause = format!("the console says: {first}");
                error.section("the console's own reason", said.join("\n")).likely_cause(cause)
            }
            None => error,
        }
    }

    /// Returns the error for a guest that KVM does not get past one instruction.
    fn stands_still(&self, spent: Duration, place: &str) -> Error {
        let what = match self.console.written() {
            0 => "the machine printed nothing at all on its serial console, and its processor stands still",
            _ => "the boot stopped: the console fell silent, and the processor stands still",
        };
        let how = format!(
            "one instruction took {:.0} s of the host's processor time: {place}",
            spent.as_secs_f64()
        );
        self.report(ErrorKind::BootStalled, what).section("standstill", how)
    }

    /// Returns the error for a guest without any output, where KVM hardly ever runs a guest.
    fn no_word_yet(&self) -> Error {
        let seconds = FIRST_WORD_AT_MOST.as_secs();
        let what = format!(
            "the machine printed nothing at all on its serial console within {seconds} s, and the KVM of this \
             host (kvm_pvm) rarely runs a guest"
        );
        self.report(ErrorKind::BootStalled, &what).doubted(Some(Doubt::Hasty))
    }

    /// Returns the error for a boot that reached the limit. `busy` tells whether a silent guest is busy, if that is
    /// known. `question` is what it may have asked.
    fn too_late(&self, busy: Option<bool>, question: Option<Error>) -> Error {
        let what = "the login prompt did not come";
        if busy != Some(true) {
            return self.report(ErrorKind::Timeout, &format!("{what}: the machine was still booting"));
        }
        let quiet = self.console.quiet_for().as_secs_f64();
        let what =
            format!("{what}: the machine has said nothing for {quiet:.0} s, and its processor is busy");
        let error = self.report(ErrorKind::Timeout, &what);
        if let Some(question) = question {
            return error.likely_cause(format!("{}; nothing was typed", question.summary()));
        }
        error
            .likely_cause(format!(
                "it computes without output, or it hangs in a loop{}",
                initrd(self.qemu).map_or_else(String::new, |initrd| format!("; {initrd}"))
            ))
            .next_step(TALK)
    }

    /// Returns the error for a guest at rest that was silent, even after Enter was pressed, with the likely reason.
    fn silent(&self, phases: &Phases, silence: Duration) -> Error {
        let quiet = format!(
            "nothing came for {:.0} s, and the machine's processors are at rest",
            silence.as_secs_f64()
        );
        let given = consoles(self.qemu.kernel_line().as_deref());
        let said = reasons(&self.console.text_since(Mark::BEGINNING).text);
        let initrd = initrd(self.qemu).map_or_else(String::new, |initrd| format!("; {initrd}"));
        let says = said.first().map(|first| format!("the console says: {first}"));
        let or = |guess: String| says.clone().unwrap_or(guess);
        let (kind, what, cause, next) = if self.console.written() == 0 {
            let what = "the machine printed nothing at all on its serial console";
            let cause = format!(
                "the kernel does not use ttyS0 as a console, or it hangs before its first line{initrd}"
            );
            (ErrorKind::BootStalled, what, cause, TALK.to_owned())
        } else if phases.has_services() || self.began_before() {
            let what = "the machine booted, but no login prompt came on its serial console";
            let cause = or("no getty runs on ttyS0: systemd starts serial-getty@ttyS0 where ttyS0 is a console of the kernel, unless \
                            that unit is disabled, masked or failed"
                .to_owned());
            let next = "look for systemd.services.\"serial-getty@ttyS0\", console= in boot.kernelParams \
                and the console's \
                        lines about ttyS0";
            (ErrorKind::NoLoginPrompt, what, cause, next.to_owned())
        } else if phases.has_kernel() {
            let what = "the boot stopped: the kernel started, and then the console fell silent";
            let cause = or(format!("the kernel or the initial ramdisk hangs{initrd}"));
            (ErrorKind::BootStalled, what, cause, TALK.to_owned())
        } else {
            let what = "the boot stopped before the kernel's first line";
            let cause = or(format!(
                "the firmware found nothing to boot, or the kernel says nothing on ttyS0{initrd}"
            ));
            (ErrorKind::BootStalled, what, cause, TALK.to_owned())
        };
        self.report(kind, what)
            .section("the console's own reason", said.join("\n"))
            .section("consoles", given)
            .section("silence", quiet)
            .likely_cause(cause)
            .next_step(next)
    }
}

impl Silence {
    /// Checks whether the guest is busy.
    async fn look(&mut self, boot: &Boot<'_>) -> Result {
        if let Some(busy) = self.work.look(boot.qemu).await {
            self.busy = Some(busy);
        }
        if self.busy == Some(true)
            && let Some((spent, place)) = self.standstill.look(boot.qemu).await
        {
            return Err(boot.stands_still(spent, &place));
        }
        Ok(())
    }
}
