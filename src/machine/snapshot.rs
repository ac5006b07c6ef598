//! Back to an earlier moment of the same machine.

use std::sync::atomic::Ordering;

use super::control::SavedControl;
use super::saved::Known;
use super::{Line, Machine};
use crate::{Error, ErrorKind, Result};

/// A moment of a machine, made by [`Machine::snapshot`]. It goes with the machine, and with its QEMU: not after
/// [`Machine::crash`] or [`Machine::power_off`].
#[derive(Debug)]
pub struct Snapshot {
    tag: String,
    /// The QEMU that has it.
    qemu: u32,
    known: Known,
}

impl Machine {
    /// Keeps this moment, to come back to: RAM, disks, devices, who is logged in. The machine stands still while it is
    /// written. Channels of users other than root are opened anew afterwards; commands that run on one end.
    ///
    /// ```no_run
    /// # async fn example(machine: nixvm_test::machine::Machine) -> nixvm_test::Result {
    /// let before = machine.snapshot().await?;
    /// machine.succeed("rm -rf /home/alice").await?;
    /// machine.restore(&before).await?;
    /// machine.succeed("ls /home/alice").await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Qmp`] with QEMU's words when it can't be saved: a shared folder, a disk image that is no qcow2, a
    /// full disk; [`ErrorKind::SessionEnded`] when it is off, or nobody knows what its console does.
    pub async fn snapshot(&self) -> Result<Snapshot> {
        let _changing = self.shared.changing.lock().await;
        let life = self.life();
        let line = life.line.lock().await;
        let number = self.shared.snapshots.fetch_add(1, Ordering::Relaxed) + 1;
        let _step = life.step(format!("take snapshot {number}"));
        let control: SavedControl = life.save_control().await?;
        let known = life.known(&line, control)?;
        let tag = format!("nixvm{number}");
        life.answer(&format!("take snapshot {number}"), life.qemu.keep_moment(&tag)).await?;
        Ok(Snapshot { tag, qemu: life.qemu.pid(), known })
    }

    /// Brings the machine back to the moment of a snapshot. What ran since fails with
    /// [`ErrorKind::ChannelLost`]; sessions of since are over, and [`Machine::session`] gives the one of that
    /// moment. The clock is put right.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a snapshot of another machine or an earlier start of it, and [`ErrorKind::Qmp`] with
    /// QEMU's words.
    pub async fn restore(&self, snapshot: &Snapshot) -> Result {
        let _changing = self.shared.changing.lock().await;
        let life = self.life();
        if snapshot.qemu != life.qemu.pid() {
            return Err(Error::new(
                ErrorKind::Usage,
                "this is a snapshot of another machine, or of an earlier start of this one",
            ));
        }
        let _step = life.step("go back to a snapshot");
        let mut line = life.line.lock().await;
        *line = Line::Lost("the machine was brought back to an earlier moment".to_owned());
        life.control.leave("the machine was brought back to an earlier moment").await;
        let going_back = async {
            life.qemu.back_to_moment(&snapshot.tag).await?;
            life.console.skip();
            Ok(())
        };
        life.answer_on_console(&format!("go back to {}", snapshot.tag), going_back).await?;
        life.control.take_up(&life.name, &snapshot.known.control).await?;
        *line = snapshot.known.line();
        Ok(())
    }
}
