//! QEMU's end of a console line.

use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{RecvFlags, recv};
use tokio::net::UnixStream;
use tokio::sync::watch;

use super::{Exit, launch};
use crate::{Error, Result};

/// A copy of QEMU's end. The line stays open until this is dropped, so that another QEMU can replace one that
/// ends without the console noticing.
#[derive(Debug)]
pub(crate) struct LineEnd {
    end: OwnedFd,
    closed: watch::Sender<Option<Exit>>,
    halted: watch::Sender<Option<Error>>,
}

impl LineEnd {
    /// Returns this program's end of a new line, and QEMU's end.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`] when no descriptor is left.
    pub(crate) fn pair() -> Result<(UnixStream, Self)> {
        let (ours, theirs) = launch::pair()?;
        let (closed, halted) = (watch::Sender::new(None), watch::Sender::new(None));
        Ok((launch::ours(ours)?, Self { end: theirs.into(), closed, halted }))
    }

    /// Returns a descriptor for a QEMU.
    pub(super) fn descriptor(&self) -> Result<OwnedFd> {
        self.end.try_clone().map_err(|error| Error::io("copy a socket", &error))
    }

    /// Receives how the last QEMU on this line ended; `None` until then.
    pub(super) fn closed(&self) -> watch::Receiver<Option<Exit>> {
        self.closed.subscribe()
    }

    /// Sends why the QEMU on this line has stopped its guest; `None` while it has not.
    pub(super) fn halted(&self) -> watch::Sender<Option<Error>> {
        self.halted.clone()
    }

    /// Records that the last QEMU has ended.
    pub(super) fn close(self, exit: Exit) {
        self.closed.send_replace(Some(exit));
    }

    /// Discards what was typed and not read by a QEMU that has ended, so that the next one does not read it.
    pub(super) fn forget_what_was_typed(&self) {
        let mut typed = [0; 4096];
        while recv(self.end.as_fd(), &mut typed[..], RecvFlags::DONTWAIT).is_ok_and(|(count, _)| count > 0) {}
    }
}
