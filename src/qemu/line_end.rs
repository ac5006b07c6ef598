//! QEMU's end of a console's line.

use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{RecvFlags, recv};
use tokio::net::UnixStream;
use tokio::sync::watch;

use super::{Exit, launch};
use crate::{Error, Result};

/// A copy of the end that QEMU has. The line stays open as long as this lives, so that another QEMU can take the place of
/// one that ends: whoever reads the console does not notice.
#[derive(Debug)]
pub(crate) struct LineEnd {
    end: OwnedFd,
    closed: watch::Sender<Option<Exit>>,
    halted: watch::Sender<Option<Error>>,
}

impl LineEnd {
    /// Our end of a new line, and QEMU's.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`] when no descriptor is left.
    pub(crate) fn pair() -> Result<(UnixStream, Self)> {
        let (ours, theirs) = launch::pair()?;
        let (closed, halted) = (watch::Sender::new(None), watch::Sender::new(None));
        Ok((launch::ours(ours)?, Self { end: theirs.into(), closed, halted }))
    }

    /// The descriptor that a QEMU gets.
    pub(super) fn descriptor(&self) -> Result<OwnedFd> {
        self.end.try_clone().map_err(|error| Error::io("copy a socket", &error))
    }

    /// Tells how the last QEMU on this line ended; holds `None` until then.
    pub(super) fn closed(&self) -> watch::Receiver<Option<Exit>> {
        self.closed.subscribe()
    }

    /// Tells why the QEMU on this line has stopped its guest; holds `None` while it has not.
    pub(super) fn halted(&self) -> watch::Sender<Option<Error>> {
        self.halted.clone()
    }

    /// The last QEMU has ended.
    pub(super) fn close(self, exit: Exit) {
        self.closed.send_replace(Some(exit));
    }

    /// Takes out what was typed and not read by a QEMU that has ended: the next one is not to read it.
    pub(super) fn forget_what_was_typed(&self) {
        let mut typed = [0; 4096];
        while recv(self.end.as_fd(), &mut typed[..], RecvFlags::DONTWAIT).is_ok_and(|(count, _)| count > 0) {}
    }
}
