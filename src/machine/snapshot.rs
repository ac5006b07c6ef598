//! Back to an earlier moment of the same machine.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::{Line, Machine};
use crate::{Error, ErrorKind, Result};

/// A moment of a machine, made by [`Machine::snapshot`]. It goes with the machine.
#[derive(Debug)]
pub struct Snapshot {
    folder: PathBuf,
    number: usize,
}

impl Machine {
    /// Keeps this moment, to come back to: RAM, disks, devices, who is logged in. The machine stands still while it is
    /// written, about a second for each 500 MiB of RAM that it uses. Its channels for users other than
    /// root are opened anew afterwards; commands that run in the foreground of one end.
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
    /// [`ErrorKind::Usage`] with the reason when it can't be saved (a shared folder, a TPM);
    /// [`ErrorKind::SessionEnded`] when it is off, or nobody knows what its console does; [`ErrorKind::Io`] and
    /// [`ErrorKind::Qmp`] when it can't be written.
    pub async fn snapshot(&self) -> Result<Snapshot> {
        let _changing = self.shared.changing.lock().await;
        let life = self.life();
        let line = life.line.lock().await;
        life.step("take a snapshot");
        let number = self.shared.snapshots.fetch_add(1, Ordering::Relaxed) + 1;
        let folder = self.shared.run_dir.tmp().join(format!("snapshot.{number}"));
        fs::create_dir(&folder)
            .map_err(|error| Error::io(format_args!("make {}", folder.display()), &error))?;
        let control = life.save_control().await?;
        let known = life.known(&line, control)?;
        life.qemu.snapshot(&self.shared.run_dir, &folder).await?;
        life.write_known(&known, &folder)?;
        Ok(Snapshot { folder, number })
    }

    /// Brings the machine back to the moment of a snapshot of it. Sessions of since are over;
    /// [`Machine::session`] gives the one of that moment. The clock is put right.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a snapshot of another machine, and whatever keeps QEMU from going on from it: the
    /// machine is off then.
    pub async fn restore(&self, snapshot: &Snapshot) -> Result {
        let _changing = self.shared.changing.lock().await;
        if !snapshot.folder.starts_with(self.shared.run_dir.path()) {
            return Err(Error::new(ErrorKind::Usage, "this is a snapshot of another machine"));
        }
        let old = self.life();
        old.step(format!("go back to snapshot {}", snapshot.number));
        old.qemu.kill().await;
        *old.line.lock().await = Line::Lost("the machine was brought back to an earlier moment".to_owned());
        old.qemu.clear_away().await;
        let begun = self.shared.begun.fetch_add(1, Ordering::Relaxed) + 1;
        let transcript = self.shared.run_dir.transcript().with_file_name(format!("transcript.{begun}"));
        let run_dir = &self.shared.run_dir;
        let life = self.shared.plan.resume(run_dir, transcript, &snapshot.folder, None).await?;
        *self.shared.life.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(life);
        Ok(())
    }
}
