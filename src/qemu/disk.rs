//! Which disk image a machine runs on.

use std::path::PathBuf;

use super::RunDirectory;
use crate::{Events, Result, build::BuiltVm};

/// The disk image of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Disk {
    /// A new image in the run directory: every run starts from the same state.
    #[default]
    Fresh,
    /// An image that stays from run to run, as the run script by itself has it.
    Kept {
        /// The image; made by the first run.
        image: PathBuf,
        /// What to do when the configuration has changed since.
        policy: KeepPolicy,
    },
}

/// What to do with a kept image that belongs to an older state of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeepPolicy {
    /// Start on a fresh image, and say so; the old one is renamed to `IMAGE.old`.
    #[default]
    Renew,
    /// Refuse.
    Strict,
}

/// A disk image that one machine may write to, for as long as this lives.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) image: PathBuf,
}

impl Disk {
    pub(super) fn claim(&self, _vm: &BuiltVm, run: &RunDirectory, _events: &Events) -> Result<Claim> {
        Ok(match self {
            Self::Fresh => Claim { image: run.disk() },
            Self::Kept { image, .. } => Claim { image: image.clone() },
        })
    }
}

impl Claim {
    pub(super) fn started(&mut self) -> Result {
        Ok(())
    }
}
