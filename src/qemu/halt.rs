//! A guest that QEMU has stopped by itself: KVM can't run it any further, its disk fails, or its kernel
//! panicked.
//!
//! QEMU does not end then. It sends `STOP`, as it does after a command that stops the guest, and only its
//! status shows the reason (qapi/run-state.json, `RunState`). The guest prints nothing any more, so code that
//! waits for its output has to be notified.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use super::causes::likely_cause;
use super::qmp::QmpEvent;
use super::resets::Resets;
use super::supervise::Supervised;
use super::{Accelerator, Exit, QMP_LIMIT, Qemu, Qmp};
use crate::mutex::lock;
use crate::{Error, ErrorKind, Events, Result};

/// QEMU writes the reason before it reports that it has stopped the guest, but another thread reads it. This
/// is how long to wait for that thread.
const LAST_WORDS: Duration = Duration::from_secs(1);

impl Qemu {
    /// Asks QEMU whether and why it has stopped the guest by itself.
    ///
    /// # Errors
    /// Those of [`Qmp::execute`].
    pub(crate) async fn look_whether_halted(&self) -> Result<Option<Error>> {
        let (trouble, resets) = (Arc::clone(&self.trouble), Arc::clone(&self.resets));
        let guest = Guest::of(&self.supervised, self.accelerator, trouble, resets);
        let halted = guest.asked(&self.qmp).await?;
        guest.set_halted(halted.clone());
        Ok(halted)
    }
}

/// What is known about a guest, and who is notified.
pub(super) struct Guest {
    accelerator: Accelerator,
    halted: watch::Sender<Option<Error>>,
    /// QEMU's message about KVM.
    kvm: watch::Receiver<Option<String>>,
    /// QEMU's message about the disk.
    trouble: Arc<Mutex<Option<String>>>,
    resets: Arc<Resets>,
}

impl Guest {
    pub(super) fn of(
        supervised: &Supervised,
        accelerator: Accelerator,
        trouble: Arc<Mutex<Option<String>>>,
        resets: Arc<Resets>,
    ) -> Self {
        Self { accelerator, halted: supervised.halted(), kvm: supervised.kvm(), trouble, resets }
    }

    /// From now on, until QEMU ends, notifies those who wait for the guest if QEMU stops it or if it is in a
    /// boot loop. Also sends notes about the host's disk, a watchdog or a panic.
    pub(super) fn follow(
        self,
        mut exit: watch::Receiver<Option<Exit>>,
        qmp: &Qmp,
        machine: &str,
        events: &Events,
    ) {
        // An earlier state on this line was about another guest.
        self.halted.send_replace(None);
        let listening = self.listen(qmp.another(), machine.to_owned(), events.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = listening => {}
                _ = exit.wait_for(Option::is_some) => {}
            }
        });
    }

    async fn listen(self, qmp: Qmp, machine: String, events: Events) {
        let mut from_qemu = qmp.events();
        let note = |text: &str| events.note(format!("{machine}: {text}"));
        // The guest may have been stopped before this task was listening.
        let mut look = true;
        loop {
            if look && let Ok(Some(why)) = self.asked(&qmp).await {
                note(&said(&why));
                self.set_halted(Some(why));
            }
            let event = match from_qemu.recv().await {
                Ok(event) => event,
                Err(RecvError::Lagged(_)) => {
                    look = true;
                    continue;
                }
                Err(RecvError::Closed) => return,
            };
            look = event.name == "STOP";
            match event.name.as_str() {
                "RESUME" => self.set_halted(None),
                "BLOCK_IO_ERROR" => {
                    let text = disk_trouble(&event);
                    if lock(&self.trouble).replace(text.to_owned()).is_none() {
                        note(text);
                    }
                }
                "RESET" => {
                    if let Some(why) = self.resets.another(event.data["guest"] == true, event.at) {
                        note(why.summary());
                        self.set_halted(Some(why));
                    }
                }
                "WATCHDOG" => note(&format!(
                    "the guest's watchdog timed out: {}",
                    event.data["action"].as_str().unwrap_or("it fired")
                )),
                "GUEST_PANICKED" => note("the guest's kernel reports a panic"),
                _ => {}
            }
        }
    }

    /// Sets whether the guest is stopped.
    fn set_halted(&self, halted: Option<Error>) {
        self.halted.send_if_modified(|known| {
            // A boot loop is another matter, which QEMU's status does not change.
            let others = known.as_ref().is_some_and(|known| known.kind() == ErrorKind::BootLoop);
            let changes = !others && known.is_some() != halted.is_some();
            if changes {
                *known = halted;
            }
            changes
        });
    }

    /// Asks QEMU whether and why it has stopped the guest by itself.
    async fn asked(&self, qmp: &Qmp) -> Result<Option<Error>> {
        let status = qmp.execute("query-status", None, QMP_LIMIT).await?;
        Ok(match status["status"].as_str() {
            Some("internal-error") => Some(self.failed().await),
            Some("io-error") => {
                let error = Error::new(
                    ErrorKind::DiskError,
                    "QEMU stopped the guest, because a disk image can't be read or written",
                );
                let words = lock(&self.trouble).clone();
                Some(explained(error, words.as_deref()))
            }
            Some("guest-panicked") => Some(Error::new(
                ErrorKind::KernelPanic,
                "the guest's kernel panicked, and QEMU stopped the guest",
            )),
            Some("watchdog") => Some(
                Error::new(ErrorKind::GuestStopped, "QEMU stopped the guest, because its watchdog timed out")
                    .likely_cause("the guest hangs, or the service that feeds the watchdog ended"),
            ),
            _ => None,
        })
    }

    async fn failed(&self) -> Error {
        let mut kvm = self.kvm.clone();
        let words = crate::stopped::timeout(LAST_WORDS, kvm.wait_for(Option::is_some)).await;
        let words = words.ok().and_then(Result::ok).and_then(|words| words.clone());
        let what = match (&words, self.accelerator) {
            (Some(words), _) => words,
            (None, Accelerator::Kvm) => "KVM could not run it any further",
            (None, Accelerator::Tcg) => "an internal error",
        };
        let error = Error::new(ErrorKind::GuestStopped, format!("QEMU stopped the guest: {what}"));
        explained(error, words.as_deref())
    }
}

/// Adds the meaning of QEMU's message to an error.
fn explained(error: Error, words: Option<&str>) -> Error {
    match words.and_then(likely_cause) {
        Some(cause) => error.likely_cause(cause.means).next_step(cause.next),
        None => error,
    }
}

/// Describes an error in one line, for a note.
fn said(why: &Error) -> String {
    match why.advice() {
        (Some(cause), _) => format!("{} ({cause})", why.summary()),
        (None, _) => why.summary().to_owned(),
    }
}

/// Describes an error of the disk. With `werror=report`, as in the run script, a full host disk causes I/O
/// errors in the guest, and the host learns of it only by this event.
fn disk_trouble(event: &QmpEvent) -> &'static str {
    match (&event.data["nospace"], &event.data["action"]) {
        (Value::Bool(true), Value::String(action)) if action == "stop" => {
            "No space left on device: the host's disk is full, and the guest is stopped"
        }
        (Value::Bool(true), _) => {
            "No space left on device: the host's disk is full, the guest gets I/O errors"
        }
        (_, Value::String(action)) if action == "stop" => {
            "an error on the disk image, and the guest is stopped"
        }
        _ => "an error on the disk image: the guest gets I/O errors",
    }
}

#[cfg(test)]
mod tests;
