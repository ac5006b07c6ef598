//! A running [`Machine`], and a [`Session`] of a user on its console.
//!
//! A machine is driven by its serial console, as a person would do it. Logging in answers `login: ` and `Password: `.
//! The user's own shell evaluates a command on the real terminal, so the command has the same environment as for a
//! person: a terminal for its output, the user's aliases and variables, and `cd` that lasts. Powering off is `sudo
//! poweroff`. Nothing is installed in the guest.
//!
//! ```no_run
//! # async fn example(machine: nixvm_test::machine::Machine) -> nixvm_test::Result {
//! let alice = machine.login("alice", "test").await?;
//! assert_eq!(alice.succeed("whoami").await?.text(), "alice\n");
//! machine.power_off().await
//! # }
//! ```
//!
//! # How a command's output is separated from everything else
//! One line is typed at the first prompt: a loop in the user's shell that evaluates what is sent to it and prints a
//! marker before and after (module `shell` has the line, `frame` the markers). So prompt, echo, line editor and line
//! length do not matter, and the output is exact: a command's output stands between two markers with a nonce that is
//! new for each command. Two changes by the terminal and the kernel are undone: the terminal's `\n` → `\r\n` (each
//! newline gets exactly one carriage return, so this is exact unless `onlcr` is turned off), and kernel records that
//! were printed during the command (they have their own form and timestamps: module `noise`).

mod bus;
mod checks;
mod command_text;
mod commands;
mod files;
mod hardware;
mod language;
mod lifecycle;
mod limit;
mod networks;
mod output;
mod paused;
mod replay;
mod screen;
mod seed;
mod services;
mod session;
mod step;
mod switch;
mod system;
mod waits;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::console::Console;
use crate::mutex::lock;
use crate::network::Port;
use crate::qemu::{Accelerator, Exit, Qemu, RunDirectory};
use crate::{Event, Events, Result, Speed};

pub(crate) use lifecycle::alone::Alone;
pub(crate) use lifecycle::boot::keep_as_it_comes;
pub(crate) use networks::{Addresses, Card, Networks, serve_dhcp};
pub(crate) use replay::answers::Replay;

use commands::channels::Channels;
use replay::answers::Answers;
use step::Step;

pub use crate::qemu::QmpEvent;
pub use checks::console_checks::{ConsoleCheck, Finding, check_console, console_checks};
pub use commands::invocation::{Invocation, Stream};
pub use commands::user::{Commands, User};
pub use hardware::devices::{DiskSource, PluggedDisk};
pub use hardware::group::Group;
pub use hardware::link_counts::LinkCounts;
pub use hardware::link_faults::LinkLatency;
pub use hardware::packet::{Packet, Protocol};
pub use hardware::scenario_network::{FrameCounts, Network};
pub use lifecycle::boot_times::BootTimes;
pub(crate) use lifecycle::boot_times::speed_of_boot;
pub(crate) use lifecycle::frozen::Frozen;
#[doc(hidden)]
pub use lifecycle::kept::Kept;
pub use lifecycle::network_snapshot::NetworkSnapshot;
#[doc(hidden)]
pub use lifecycle::options::MachineOptions;
pub(crate) use lifecycle::saved::{Loaded, TemplateLease};
pub(crate) use lifecycle::saved_together::{SavedTogether, run_together, save_together};
pub use lifecycle::snapshot::Snapshot;
pub use lifecycle::steps::start_all;
pub(crate) use lifecycle::trouble::Gap;
pub use output::Output;
pub(crate) use paused::{has_terminal, pause_at};
pub use session::Session;
pub(crate) use session::phases::{PROMPT, Phase, WORDS};
pub use session::raw_console::RawConsole;
pub use switch::difference::SystemDiff;
pub use switch::outcome::{Accounts, Outcome};
pub use switch::plan::Plan;
#[cfg(feature = "cli")]
pub(crate) use switch::reach::is_direct as boots_directly;
#[cfg(feature = "cli")]
pub(crate) use switch::survey::{CRASHES, FAILED, SNIPPETS, Survey};
pub use switch::{Action, Switch};
pub use system::System;

pub(crate) use seed::random_number;

use session::shell_line::ShellLine;

/// The default limit for a wait, on a fast host.
const WAIT: Duration = Duration::from_secs(300);

/// A virtual machine: one that runs, or one that can be started again.
///
/// Clones are handles to the same machine. The machine is killed at once, as if its plug were pulled, when the last
/// handle and the last [`Session`] are dropped. [`Machine::power_off`] ends it cleanly, and [`Machine::start`] boots it
/// again from the same disk.
#[derive(Debug, Clone)]
pub struct Machine {
    shared: Arc<Shared>,
    /// The default limit on a fast host for calls without their own limit.
    limit: Option<Duration>,
}

/// State that survives a restart of the machine.
#[derive(Debug)]
struct Shared {
    plan: lifecycle::boot::Plan,
    run_dir: Arc<RunDirectory>,
    life: std::sync::Mutex<Arc<Life>>,
    /// How many times it was started.
    begun: AtomicUsize,
    /// Trouble of earlier starts.
    trouble: std::sync::Mutex<lifecycle::trouble::Trouble>,
    /// How long its boot took, if that was asked before the power-off.
    boot_times: std::sync::Mutex<Option<BootTimes>>,
    /// Which system runs, and which one boots next.
    history: std::sync::Mutex<system::history::History>,
    /// How many snapshots were taken.
    snapshots: AtomicUsize,
    /// Held by the task that ends or begins a start.
    changing: Arc<Mutex<()>>,
    /// The template of a clone: locked, so that it is not deleted.
    _template: Option<File>,
}

/// A machine from the start of its QEMU to the end of it.
#[derive(Debug)]
struct Life {
    name: String,
    console: Console,
    qemu: Arc<Qemu>,
    events: Events,
    speed: Speed,
    channels: Channels,
    /// The console's user, and whether a command is running.
    line: Mutex<Line>,
    /// Records the answers, or replays them.
    answers: Answers,
    /// Where its cards are plugged in, in their order.
    ports: Vec<Port>,
    /// Must be last: dropping it deletes the files of the fields above.
    _run_dir: Arc<RunDirectory>,
}

/// The state of the console's other end.
#[derive(Debug)]
enum Line {
    /// The login prompt is waiting.
    AtLogin,
    /// A user is logged in.
    Shell(ShellLine),
    /// The machine is off, or the console can't be used any more, for this reason.
    Lost(String),
}

/// # Name, console and limits
impl Machine {
    /// Returns the machine's name: the name of the scenario's parameter.
    pub fn name(&self) -> &str {
        &self.shared.plan.name
    }

    /// Returns the serial console, for what [`Session`] does not cover: programs that ask questions, menus. While a
    /// session is open, its shell serves commands; input typed here goes to that loop or to the running program.
    /// [`Machine::start`] creates a new console, [`Machine::restore`] only if the machine was off.
    pub fn console(&self) -> Console {
        self.life().console.clone()
    }

    /// Returns QEMU: its control protocol, its process id. It runs as long as this is held, unless a method of the
    /// machine ends it. [`Machine::start`] and [`Machine::restore`] create a new one.
    #[doc(hidden)]
    pub fn qemu(&self) -> Arc<Qemu> {
        Arc::clone(&self.life().qemu)
    }

    /// Returns how many times slower than hardware virtualization this machine runs. Limits are scaled by it.
    pub fn speed(&self) -> Speed {
        self.life().speed
    }

    /// Returns the accelerator; `None` in a replay.
    pub(crate) fn accelerator(&self) -> Option<Accelerator> {
        let life = self.life();
        life.replay().is_none().then(|| life.qemu.accelerator())
    }

    /// Prints a note about this machine on its own line.
    pub(crate) fn note(&self, text: String) {
        let life = self.life();
        life.events.note(format!("{}: {text}", life.name));
    }

    /// Returns the directory with this machine's transcripts. It is removed with the machine unless it is kept.
    pub fn run_directory(&self) -> &Path {
        self.shared.run_dir.path()
    }

    /// Returns the path of the file of recorded answers.
    pub(crate) fn answers(&self) -> PathBuf {
        self.shared.run_dir.answers()
    }

    /// Writes its answers to the record as well, as they come.
    pub(crate) fn keep_answers(&self, keeper: &crate::record::Keeper) {
        if let Answers::Written(writer) = &self.life().answers {
            writer.keep(self.name(), &self.answers(), keeper);
        }
    }

    /// Keeps the run directory (its transcripts and QEMU's messages) after the machine ends.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`] when it can't be marked as kept.
    pub fn keep_run_directory(&self) -> Result {
        self.shared.run_dir.keep()
    }

    /// Returns the same machine with another time limit for each command and wait. The limit is for a fast host and is
    /// scaled by [`Speed`].
    ///
    /// ```no_run
    /// # async fn example(machine: nixvm_test::machine::Machine) -> nixvm_test::Result {
    /// use std::time::Duration;
    /// machine.within(Duration::from_secs(10)).wait_for_shutdown().await?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn within(&self, limit: Duration) -> Self {
        Self { limit: Some(limit), ..self.clone() }
    }

    fn life(&self) -> Arc<Life> {
        Arc::clone(&lock(&self.shared.life))
    }
}

impl Line {
    /// Waits for a command on the console that ends by itself.
    async fn settle(&mut self) {
        if let Self::Shell(shell) = self {
            shell.settle().await;
        }
    }
}

impl Life {
    /// Begins a step, which ends when the returned value is dropped.
    fn step(&self, text: impl AsRef<str>) -> Step {
        Step::begin(&self.name, &self.events, "", text.as_ref())
    }

    /// Begins a step that is described by our own words, such as a user's name, followed by the scenario's text.
    fn step_with(&self, own: &str, text: &str) -> Step {
        Step::begin(&self.name, &self.events, own, text)
    }

    fn stopped(&self, how: impl Into<String>) {
        self.events.send(Event::MachineStopped { machine: self.name.clone(), how: how.into() });
    }

    fn limit(&self, on_a_fast_host: Duration) -> Duration {
        self.speed.scale(on_a_fast_host)
    }

    /// Waits until the machine's QEMU has ended, and returns how; `None` if it still runs after `limit`.
    async fn gone_within(&self, limit: Duration) -> Option<Exit> {
        // A machine that is restored to a snapshot continues although that QEMU exits.
        let (mut closed, mut exit) = (self.qemu.closed(), self.qemu.exit());
        let gone = async {
            let _ = closed.wait_for(Option::is_some).await;
            let _ = exit.wait_for(Option::is_some).await;
        };
        crate::stopped::timeout(limit, gone).await.ok()?;
        self.qemu.off()
    }
}
