//! Boots the VM under a given accelerator, and records how far it gets, and when.

use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use super::words::{ended, telling};
use crate::BuiltVm;
use crate::machine::{PROMPT, Phase, WORDS};
use crate::qemu::{Accelerator, Launch, Qemu, RunDirectory, Standstill};
use crate::{Error, Events};

/// How much of the beginning of the console is kept, in bytes. The kernel's output is there.
const KEPT: usize = 256 << 10;
/// The longest mark, in bytes.
const LONGEST_MARK: usize = 64;
/// How long before the deadline a boot is ended.
const LEFT: Duration = Duration::from_millis(500);
/// The limit for QEMU's answers and last words.
const ANSWER: Duration = Duration::from_secs(2);

/// The limit for the kernel's first line under KVM, so that TCG gets the rest of the time.
const FIRST_LINE: Duration = Duration::from_secs(20);
/// The interval of the checks whether a silent guest makes no progress.
const LOOK: Duration = Duration::from_millis(500);

/// The reason if nothing was booted, which says nothing about KVM.
pub(super) const NOT_STARTED: &str = "the run script has not started QEMU in time";

/// How a VM is booted.
#[derive(Debug, Clone, Copy)]
pub(super) struct How<'a> {
    pub(super) vm: &'a BuiltVm,
    pub(super) accelerator: Accelerator,
    /// The value of `-cpu`; `None` for the run script's.
    pub(super) cpu: Option<&'a str>,
    /// The number of processors; `None` for the run script's.
    pub(super) processors: Option<u32>,
}

/// How far to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Until {
    /// The kernel has printed something.
    Kernel,
    /// The kernel starts the first program.
    Init,
    /// A login prompt.
    Prompt,
}

/// How far a boot got.
#[derive(Debug, Default)]
pub(super) struct Boot {
    /// What was reached, and how long after QEMU's start.
    pub(super) reached: Vec<(Until, Duration)>,
    /// Why it stopped, if it did not reach its goal.
    pub(super) why: Option<String>,
    /// How long it ran, if it was ended by its deadline.
    pub(super) cut_off: Option<Duration>,
    /// The output of the console.
    pub(super) console: String,
    /// QEMU's events and messages.
    pub(super) log: String,
}

impl Boot {
    /// Returns when `until` was reached.
    pub(super) fn at(&self, until: Until) -> Option<Duration> {
        self.reached.iter().find(|(its, _)| *its == until).map(|(_, at)| *at)
    }

    /// Returns the last line of the console, without control characters.
    pub(super) fn last_line(&self) -> Option<String> {
        Some(telling(&self.console)).filter(|line| !line.is_empty())
    }
}

impl How<'_> {
    /// Boots the VM, and ends it afterwards.
    pub(super) async fn boot(self, until: Until, deadline: Instant) -> Boot {
        match timeout_at(deadline, Box::pin(self.begun(until, deadline))).await {
            Ok(Ok(boot)) => boot,
            Ok(Err(error)) => {
                let said: Vec<&str> = error.sections().map(|(_, body)| body).collect();
                let said = said.join("\n");
                let words = if said.is_empty() { error.summary().to_owned() } else { telling(&said) };
                Boot { why: Some(words), log: error.to_string(), ..Boot::default() }
            }
            Err(_) => Boot { why: Some(NOT_STARTED.to_owned()), ..Boot::default() },
        }
    }

    async fn begun(self, until: Until, deadline: Instant) -> Result<Boot, Error> {
        let run = RunDirectory::create()?;
        let mut launch = Launch::new(self.vm, "doctor", &run, Events::none());
        launch.accelerator = self.accelerator;
        launch.limit = deadline.saturating_duration_since(Instant::now());
        // The kernel prints from its first instructions on, and prints everything.
        launch.kernel_params = ["earlyprintk=ttyS0,115200", "ignore_loglevel"].map(str::to_owned).to_vec();
        launch.options = vec!["-no-reboot".to_owned()];
        if let Some(cpu) = self.cpu {
            launch.options.extend(["-cpu".to_owned(), cpu.to_owned()]);
        }
        if let Some(processors) = self.processors {
            launch.options.extend(["-smp".to_owned(), processors.to_string()]);
        }
        let (qemu, mut console) = Qemu::launch(launch).await?;
        let begun = Instant::now();
        let mut events = qemu.qmp().events();
        let (mut boot, mut heard) = (Boot::default(), Heard::default());
        let mut buffer = [0; 16 << 10];
        // A little before the caller gives up, so that nothing that was received is lost.
        let end = deadline.checked_sub(LEFT).unwrap_or(deadline);
        let (mut standstill, mut looks) = (Standstill::default(), interval(LOOK));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // An event from before the subscription is lost, so this asks for the state.
        let mut look = stopped(&qemu).await;
        while boot.at(until).is_none() && look.is_none() {
            let speaks = self.accelerator == Accelerator::Tcg || boot.at(Until::Kernel).is_some();
            let end = if speaks { end } else { end.min(begun + FIRST_LINE) };
            tokio::select! {
                read = console.read(&mut buffer) => match read {
                    Ok(read @ 1..) => {
                        heard.push(&buffer[..read], begun.elapsed(), &mut boot.reached);
                    }
                    _ => look = Some(last_words(&qemu).await),
                },
                event = events.recv() => match event {
                    Ok(event) => {
                        boot.log.push_str(&format!("{:.1} s {} {}\n", begun.elapsed().as_secs_f64(), event.name, event.data));
                        if event.name == "STOP" {
                            look = stopped(&qemu).await;
                        }
                    }
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => look = Some(last_words(&qemu).await),
                },
                _ = looks.tick(), if self.accelerator == Accelerator::Kvm && heard.kept.is_empty() => {
                    if let Some((spent, place)) = standstill.look(&qemu).await {
                        let spent = spent.as_secs_f64();
                        look = Some(format!("its processor makes no progress: one instruction took {spent:.0} s of the host's time ({place})"));
                    }
                }
                () = tokio::time::sleep_until(end) => {
                    let ran = begun.elapsed();
                    look = Some(format!("it was ended after {:.0} s", ran.as_secs_f64()));
                    boot.cut_off = Some(ran);
                }
            }
        }
        boot.why = look;
        boot.log.push_str(&qemu.stderr_tail());
        boot.console = String::from_utf8_lossy(&heard.kept).into_owned();
        qemu.kill().await;
        Ok(boot)
    }
}

/// The output of a console.
#[derive(Debug, Default)]
struct Heard {
    /// The beginning of the output.
    kept: Vec<u8>,
    /// The end of the output, where a mark may have begun.
    tail: Vec<u8>,
}

impl Heard {
    fn push(&mut self, bytes: &[u8], now: Duration, reached: &mut Vec<(Until, Duration)>) {
        let room = KEPT.saturating_sub(self.kept.len()).min(bytes.len());
        self.kept.extend_from_slice(&bytes[..room]);
        self.tail.extend_from_slice(bytes);
        let text = String::from_utf8_lossy(&self.tail);
        let phase = WORDS.iter().filter(|(words, _)| text.contains(words)).map(|(_, phase)| *phase).max();
        for (mark, is_reached) in [
            (Until::Kernel, phase.is_some()),
            (Until::Init, phase > Some(Phase::Kernel)),
            (Until::Prompt, text.contains(PROMPT)),
        ] {
            if is_reached && !reached.iter().any(|(its, _)| *its == mark) {
                reached.push((mark, now));
            }
        }
        self.tail.drain(..self.tail.len().saturating_sub(LONGEST_MARK));
    }
}

/// Returns why the guest is stopped, or `None` if it runs.
async fn stopped(qemu: &Qemu) -> Option<String> {
    let status = qemu.qmp().execute("query-status", None, ANSWER).await.ok()?;
    match status["status"].as_str() {
        Some("running" | "prelaunch") | None => None,
        Some("internal-error") => Some(ended(None, &qemu.stderr_tail())),
        Some(other) => Some(format!("the guest is stopped ({})", crate::text::line(other))),
    }
}

async fn last_words(qemu: &Qemu) -> String {
    let mut exit = qemu.exit();
    match tokio::time::timeout(ANSWER, exit.wait_for(Option::is_some)).await {
        // What QEMU says before its greeting counts as the run script's.
        Ok(Ok(exit)) => exit.as_ref().map_or_else(String::new, |exit| {
            ended(Some(exit.status), &format!("{}\n{}", exit.script, exit.stderr))
        }),
        _ => "QEMU closed the console".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reached_is_noted_once_wherever_the_console_is_cut() {
        let console = b"SeaBIOS\r\n[    0.000000] Linux version 6.12\r\n[    1.0] Run /init as init process\r\n\r\nnixos login: ";
        for cut in 0..console.len() {
            let (mut reached, mut heard) = (Vec::new(), Heard::default());
            for (second, part) in [&console[..cut], &console[cut..]].into_iter().enumerate() {
                heard.push(part, Duration::from_secs(second as u64), &mut reached);
            }
            assert_eq!(heard.kept, console);
            let order: Vec<Until> = reached.iter().map(|(mark, _)| *mark).collect();
            assert_eq!(order, [Until::Kernel, Until::Init, Until::Prompt], "cut at {cut}");
        }
    }
}
