//! What the kernel has logged, which is more than what it prints on a console: NixOS boots with
//! `loglevel=4`, and that a program crashed is no error of the kernel's (`KERN_INFO`).

use std::time::Duration;

use super::Machine;

/// For the kernel's log to be read, on a fast host.
const SOON: Duration = Duration::from_secs(5);

/// The kernel's log since it was booted, in the form of the console. `dmesg` asks the kernel itself, so it
/// needs no journal; the kernel's buffer may have lost the beginning.
const READ: &str = "dmesg 2>/dev/null | tail -c 1000000";

impl Machine {
    /// What the kernel has logged since it was booted, as far as the control channel is open: `None` where it
    /// is not, or nothing comes soon.
    pub(crate) async fn kernel_log(&self) -> Option<String> {
        if !self.answers_at_once() {
            return None;
        }
        let output = self.within(SOON).execute(READ).await.ok()?;
        output.success().then(|| output.text().to_owned())
    }

    /// Whether root can be asked without logging anybody in.
    pub(super) fn answers_at_once(&self) -> bool {
        let life = self.life();
        life.qemu.exit().borrow().is_none() && life.control.root().is_some()
    }
}
