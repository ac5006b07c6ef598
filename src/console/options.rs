//! The options for attaching a console: what is watched for, where its output goes, and how much of it is
//! kept.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

use tokio::sync::watch;

use super::watch::Watch;
use crate::{Error, Events, Speed};

/// Resolves when the other end of the line has ended, with what is known about it: the exit status and the
/// last lines of QEMU's stderr.
pub type Closed = Pin<Box<dyn Future<Output = String> + Send>>;

/// The options for attaching a console.
pub struct ConsoleOptions {
    /// The machine's name, for errors. Default: `console`.
    pub name: String,
    /// The path of the transcript. `FILE.times` beside it holds when the bytes arrived. Existing files are
    /// overwritten. Default: no transcript.
    pub transcript: Option<PathBuf>,
    /// Resolves when QEMU has ended. Default: only the end of the line counts.
    pub closed: Option<Closed>,
    /// Holds why the guest is stopped, while it is. Every wait then fails with this error. Default: never.
    pub halted: Option<watch::Receiver<Option<Error>>>,
    /// What is watched for from the start. Default: [`Watch::Boot`].
    pub watch: Watch,
    /// How fast guests run on this host, which scales the console's own limits. Default: as fast as possible.
    pub speed: Speed,
    /// Where a full disk is reported. Default: nowhere.
    pub events: Events,
    /// The console's earlier output, if the machine was restored from a saved moment. It begins the
    /// transcript, and is skipped by waits. Default: nothing.
    pub past: Vec<u8>,
    /// How many bytes of text, and of raw bytes, are kept for matching; at least 4 KiB. Up to twice as much
    /// of each is held. Default: 1 MiB.
    pub window: usize,
}

impl Default for ConsoleOptions {
    fn default() -> Self {
        Self {
            name: "console".to_owned(),
            transcript: None,
            closed: None,
            halted: None,
            watch: Watch::Boot,
            speed: Speed::new(1.0),
            events: Events::none(),
            past: Vec::new(),
            window: 1 << 20,
        }
    }
}
