//! Ways to end a machine, from the polite to the certain.

use std::time::Duration;

use super::shell_line::Ended;
use super::{Life, Line, Machine};
use crate::Result;

/// For the guest to shut down once it was asked, on a fast host.
const SHUTDOWN: Duration = Duration::from_secs(20);
/// For QEMU to end once it was told to.
const QUIT: Duration = Duration::from_secs(5);

impl Machine {
    /// Powers the machine off, as a person would: `sudo poweroff` in the open session (`poweroff` for
    /// root); then by the power button (ACPI), then by ending QEMU over its control protocol, then by
    /// SIGKILL, each when the one before did nothing within its limit. An event says which it took.
    ///
    /// # Errors
    /// [`crate::ErrorKind::QemuGone`] when QEMU had ended before, other than by a power-off.
    pub async fn power_off(&self) -> Result {
        self.note_trouble().await;
        self.note_boot_times().await;
        let life = self.life();
        let mut line = life.line.lock().await;
        if let Some(exit) = life.qemu.exit().borrow().as_ref() {
            if exit.status.success() {
                return Ok(());
            }
            return Err(exit.error(format_args!("{}: QEMU had ended before", life.name)));
        }
        let _step = life.step("power off");
        let (how, tried): (String, Vec<String>) = life
            .answer("power off", async {
                let mut tried = Vec::new();
                let how = life.shut_down(&mut line, &mut tried).await;
                Ok((how.to_owned(), tried))
            })
            .await?;
        *line = Line::Lost("the machine was powered off".to_owned());
        let tried = if tried.is_empty() {
            String::new()
        } else {
            format!(" (after {} did nothing)", tried.join(", "))
        };
        life.stopped(format!("powered off by {how}{tried}"));
        Ok(())
    }

    /// Ends the machine at once, as by pulling the plug; what the guest had not written to its disk is
    /// lost.
    pub async fn stop(&self) {
        self.life().pull_the_plug("stopped").await;
    }
}

impl Life {
    /// Ends QEMU; gives what did it, and in `tried` what did not.
    async fn shut_down(&self, line: &mut Line, tried: &mut Vec<String>) -> &'static str {
        let limit = self.limit(SHUTDOWN);
        if let Line::Shell(shell) = line {
            let (command, name) = if shell.user() == "root" {
                ("poweroff", "poweroff")
            } else {
                ("sudo poweroff", "sudo poweroff")
            };
            match shell.run(self, command, limit).await {
                // The shell may answer before the machine goes down, or go down with it.
                Ok(Ended::Done(collector)) if collector.status() != Some(0) => {
                    tried.push(format!("{name} (status {})", collector.status().unwrap_or(-1)));
                }
                _ if self.gone_within(limit).await => return name,
                _ => tried.push(name.to_owned()),
            }
        }
        if self.qemu.qmp().execute("system_powerdown", None, QUIT).await.is_ok()
            && self.gone_within(limit).await
        {
            return "the power button (ACPI)";
        }
        tried.push("the power button (ACPI)".to_owned());
        // QEMU may end before it answers.
        let _ = self.qemu.qmp().execute("quit", None, QUIT).await;
        if self.gone_within(QUIT).await {
            return "QMP quit";
        }
        tried.push("QMP quit".to_owned());
        self.qemu.kill().await;
        "SIGKILL"
    }
}
