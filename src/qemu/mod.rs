//! QEMU: starts the run script of a built VM, speaks its control protocol, and makes sure that none of its
//! processes or files outlive this process. The guest's output is handled by the console.

mod absent;
pub mod accelerator;
mod cards;
mod causes;
mod disk;
mod dump;
mod exit;
mod halt;
mod hotplug;
mod kernel_line;
mod keyboard;
mod keys;
pub(crate) mod kvm_device;
mod launch;
mod line_end;
mod monitor;
mod network;
mod output;
mod plugged;
mod port_holder;
mod processes;
mod qmp;
mod reach;
mod resets;
mod run_directory;
mod screen;
mod set_aside;
mod snapshot;
mod standstill;
mod successor;
mod supervise;
mod template;
mod usb;
mod watchdog;
mod work;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;

pub use accelerator::Accelerator;
pub(crate) use cards::Cards;
pub(crate) use causes::line_about_kvm;
pub use disk::Disk;
pub use exit::Exit;
pub(crate) use hotplug::Connector;
pub(crate) use keys::Chord;
pub(crate) use launch::CHANNEL;
pub use launch::Launch;
pub(crate) use network::Protocol;
pub(crate) use port_holder::is_of_a_port;
pub(crate) use qmp::Shutdown;
pub use qmp::{Qmp, QmpEvent};
pub use run_directory::RunDirectory;
pub(crate) use run_directory::{
    base as runs_folder, keep_none as keep_no_run_directories,
    remove_all_of_this_process as remove_run_directories,
};
pub(crate) use screen::Format;
pub(crate) use set_aside::set_aside;
pub(crate) use snapshot::Moment;
pub(crate) use standstill::Standstill;
pub(crate) use successor::{GoBack, Left};
pub(crate) use template::{
    Memory, Resume, Saved, ToSave, changed_outside, foreseen, foreseen_reach, is_script_in_store, kvm_with,
    memory_size, suspicious, unfit,
};

use crate::error::Doubt;
use crate::mutex::lock;
use crate::{Error, ErrorKind, Result};
pub(crate) use supervise::kill_all;
pub(crate) use work::{WATCHED, Work};

use supervise::Supervised;

/// A running QEMU. Dropping it kills QEMU and everything that the run script started.
#[derive(Debug)]
pub struct Qemu {
    // The order matters: on drop the processes end before the lock on their disk image is released.
    supervised: Supervised,
    qmp: Qmp,
    accelerator: Accelerator,
    /// The guest's processor under KVM, if it differs from the run script's.
    cpu: Option<&'static str>,
    trouble: Arc<Mutex<Option<String>>>,
    /// The guest's resets since it came up.
    resets: Arc<resets::Resets>,
    disk: Mutex<Option<disk::Claim>>,
    /// Set for a machine that is to be saved.
    made: Option<Arc<template::Made>>,
    /// Held while a port is being forwarded.
    forwarding: tokio::sync::Mutex<()>,
}

impl Qemu {
    /// Returns the control connection.
    pub fn qmp(&self) -> &Qmp {
        &self.qmp
    }

    /// Returns the process id of the run script, which is QEMU's own because the script ends in `exec`.
    pub fn pid(&self) -> u32 {
        self.supervised.pid()
    }

    /// Returns why no other scenario may have such a machine beside this one, according to the process's
    /// command. Returns `None` if QEMU has just ended, which its users notice anyway.
    pub(crate) fn reach(&self) -> Option<String> {
        reach::in_command(&template::arguments(self.pid())?)
    }

    /// Receives when and how QEMU ends; `None` while it runs.
    pub fn exit(&self) -> watch::Receiver<Option<Exit>> {
        self.supervised.exit()
    }

    /// Receives how the machine's last QEMU ended; `None` while one runs. Unlike [`Qemu::exit`], it continues
    /// when another QEMU replaces this one.
    pub(crate) fn closed(&self) -> watch::Receiver<Option<Exit>> {
        self.supervised.closed()
    }

    /// Receives why QEMU has stopped its guest by itself, or that the guest is in a boot loop; `None` while
    /// it runs. Like [`Qemu::closed`], it continues when another QEMU replaces this one.
    pub(crate) fn halted(&self) -> watch::Receiver<Option<Error>> {
        self.supervised.halted().subscribe()
    }

    /// Returns how the machine's last QEMU ended, if none runs. If its successor was never started, the line
    /// was not told, so this also asks the process itself.
    pub(crate) fn off(&self) -> Option<Exit> {
        let closed = self.closed();
        let told = closed.borrow().clone();
        told.or_else(|| closed.has_changed().err().and_then(|_| self.exit().borrow().clone()))
    }

    /// Returns whether somebody on this host has ended QEMU, as far as it has said so.
    pub(crate) fn ended_by_host(&self) -> bool {
        self.qmp.said_of_its_end().is_some_and(|shutdown| !shutdown.by_guest)
    }

    /// Returns an error unless QEMU, which has ended as `exit` says, ended as its guest wanted: in good order, and not
    /// because somebody on this host ended it. QEMU's exit status is 0 after SIGTERM, too.
    pub(crate) async fn went_down(
        &self,
        exit: &Exit,
        summary: impl std::fmt::Display,
    ) -> Result<Option<Shutdown>> {
        if !exit.status.success() {
            return Err(exit.error(summary));
        }
        let shutdown = self.qmp.shutdown(LAST_WORDS).await;
        match shutdown {
            Some(Shutdown { by_guest: false, reason }) => {
                Err(exit.error(format_args!("{summary} ({reason})")).likely_cause(match reason.as_str() {
                    "host-signal" => "somebody on this host ended QEMU with a signal, such as SIGTERM",
                    "host-qmp-quit" => "somebody ended QEMU with its command `quit`",
                    _ => "somebody on this host ended QEMU",
                }))
            }
            shutdown => Ok(shutdown),
        }
    }

    /// Kills QEMU with all its helpers, and returns when they are gone, or after 5 s.
    pub async fn kill(&self) {
        self.supervised.kill().await;
    }

    /// Waits after the end until nothing is left of QEMU, so that another one may use the run directory and
    /// the disk image.
    ///
    /// # Errors
    /// [`ErrorKind::Host`] when something is left of it after a minute.
    pub(crate) async fn clear_away(&self) -> Result {
        self.cleared_within(CLEARED).await?;
        lock(&self.disk).take();
        Ok(())
    }

    /// Waits until nothing is left of a QEMU that has ended or was killed.
    async fn cleared_within(&self, limit: Duration) -> Result {
        if self.supervised.gone(limit).await {
            return Ok(());
        }
        let pid = self.pid();
        let summary =
            format!("the previous QEMU has not ended, so another one can't replace it (process {pid})");
        Err(Error::new(ErrorKind::Host, summary)
            .likely_cause("it hangs in the kernel on a disk that does not answer, or the host is overloaded")
            .next_step(format!("check its state: `ps -o stat,wchan,args -p {pid}`")))
    }

    /// Returns the last lines that QEMU wrote to stdout and stderr, and what it reported about the host's disk.
    /// There are no control characters, and at most 40 lines.
    pub fn stderr_tail(&self) -> String {
        let trouble = lock(&self.trouble).clone();
        let tail = self.supervised.said().qemu().to_owned();
        match trouble {
            Some(trouble) if tail.is_empty() => trouble,
            Some(trouble) => format!("{tail}\n{trouble}"),
            None => tail,
        }
    }

    /// Returns how much CPU time QEMU has used; zero if it is gone.
    pub(crate) fn processor_time(&self) -> Duration {
        processes::time_of_process(self.pid()).unwrap_or_default()
    }

    /// Returns the accelerator.
    pub fn accelerator(&self) -> Accelerator {
        self.accelerator
    }

    /// Returns the guest's processor under KVM, if it differs from the run script's.
    pub(crate) fn cpu(&self) -> Option<&'static str> {
        self.cpu
    }

    /// Adds to the error of a failed trial whether KVM of this host may be the cause.
    pub(crate) fn doubted(&self, error: Error) -> Error {
        let tail = self.stderr_tail();
        let said = causes::about_kvm_in(&tail);
        let exit = self.exit().borrow().as_ref().and_then(Exit::doubt);
        let error = match said {
            Some((line, _)) => error.section(exit::STDERR, line),
            None => error,
        };
        let silent = || {
            use ErrorKind::{BootLoop, BootStalled, GuestStopped, NoLoginPrompt, Timeout};
            matches!(error.kind(), BootLoop | BootStalled | GuestStopped | NoLoginPrompt | Timeout)
                .then_some(Doubt::Suspected)
        };
        let doubt = said.and_then(|(_, cause)| cause.kvm).or(exit).or(error.doubt()).or_else(silent);
        error.doubted(doubt)
    }

    /// Ends a machine whose boot does not count, and restores its disk. Returns whether it can boot again.
    pub(crate) async fn undo(&self) -> bool {
        self.kill().await;
        let claim = lock(&self.disk).take();
        if let Err(error) = self.clear_away().await {
            tracing::debug!(%error, "could not undo a boot that does not count");
            return false;
        }
        match claim {
            Some(mut claim) => claim.put_back().await,
            None => true,
        }
    }

    /// Records that the boot counts, so that its disk is not restored any more.
    pub(crate) fn confirm_boot(&self) {
        if let Some(claim) = &mut *lock(&self.disk) {
            claim.confirm_boot();
        }
    }
}

/// The limit for QEMU's answer to a command that takes no time.
const QMP_LIMIT: Duration = Duration::from_secs(30);
/// The limit for the rest of what a QEMU that has ended said: its helpers may hold its connection open.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// The limit for a QEMU and its helpers to be gone before another one replaces them. A loaded host may need
/// long.
const CLEARED: Duration = Duration::from_secs(60);

#[cfg(test)]
pub(crate) mod tests;
