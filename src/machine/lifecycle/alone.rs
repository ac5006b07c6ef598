//! Runs machines that reach others in one scenario at a time.
//!
//! If a configuration's network leads to a multicast group, a bridge or a switch, that network is shared by all
//! scenarios that use the configuration: two of them at the same time would receive each other's frames. So a scenario
//! with such a machine holds a per-user lock, which all of its machines share. Machines of another scenario in the same
//! process do not share it. Machines without a scenario share the lock of their process.

use std::fs::File;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use crate::file_lock::{self, Mode};
use crate::mutex::lock;
use crate::{Error, Events, Result};

const LOCK: &str = "alone.lock";
/// The limit for all earlier scenarios with such machines.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// The right to run machines that reach others. It holds as long as this or a clone of it lives.
#[derive(Debug, Clone)]
pub(crate) struct Alone(Arc<File>);

type OfProcess = Option<(Option<String>, Weak<File>)>;

/// The right that machines of this process took on their own, and their scenario, if any.
static OF_PROCESS: Mutex<OfProcess> = Mutex::new(None);
/// Held while asking: two machines of this process must not wait for each other.
static ASKING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

impl Alone {
    /// Waits until no other scenario of this user has such machines. `why` describes what these machines reach.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Timeout`] after an hour, with the holder of the lock; [`crate::ErrorKind::Io`].
    pub(crate) async fn wait(why: &str, events: &Events) -> Result<Self> {
        let file = open()?;
        let waiting = |by: &str| {
            events.note(format!(
                "waiting until {by} is done: one scenario at a time runs such a machine ({why})"
            ));
        };
        let locked = file_lock::lock(&file, Mode::Exclusive, LONGEST, waiting).await;
        locked.map_err(|failed| failed.error("be the only scenario with machines that reach others"))?;
        Ok(Self(Arc::new(file)))
    }

    /// Returns the right for machines of this process that have no scenario.
    ///
    /// # Errors
    /// Those of [`Alone::wait`].
    pub(crate) async fn of_process(why: &str, events: &Events) -> Result<Self> {
        let _asking = ASKING.lock().await;
        if let Some(held) = held(&lock(&OF_PROCESS), None) {
            return Ok(held);
        }
        let alone = Self::wait(why, events).await?;
        alone.share(&mut lock(&OF_PROCESS), None);
        Ok(alone)
    }

    /// Takes the right without waiting, for a machine that already runs. The other machines of `scenario` share it.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Host`] when another scenario has such machines, in this process or in another one.
    pub(crate) fn at_once(machine: &str, scenario: Option<&str>, why: &str) -> Result<Self> {
        // Locked until the end: two machines of one scenario must not refuse each other.
        let mut of_process = lock(&OF_PROCESS);
        if let Some(held) = held(&of_process, scenario) {
            return Ok(held);
        }
        let file = open()?;
        match file_lock::try_lock(&file, Mode::Exclusive) {
            Ok(true) => {
                let alone = Self(Arc::new(file));
                alone.share(&mut of_process, scenario);
                Ok(alone)
            }
            Ok(false) => Err(Error::new(
                crate::ErrorKind::Host,
                format!(
                    "{machine} reaches other machines, and {} has such a machine now",
                    file_lock::holders(&file)
                ),
            )
            .section("what it reaches", why)
            .likely_cause(
                "the run script does not show that option, so this machine did not wait for the \
                other one",
            )
            .next_step(
                "move the option to virtualisation.qemu.options or QEMU_OPTS, or run one scenario \
                at a time (--jobs 1)",
            )),
            Err(error) => Err(Error::io("lock the file for machines that reach others", &error)),
        }
    }

    fn share(&self, of_process: &mut OfProcess, scenario: Option<&str>) {
        *of_process = Some((scenario.map(str::to_owned), Arc::downgrade(&self.0)));
    }
}

/// Returns the right that `scenario` already has. Two scenarios of one process reach each other just as those of two
/// processes do.
fn held(of_process: &OfProcess, scenario: Option<&str>) -> Option<Alone> {
    let (_, file) = of_process.as_ref().filter(|(owner, _)| owner.as_deref() == scenario)?;
    file.upgrade().map(Alone)
}

fn open() -> Result<File> {
    let path = crate::cache::dir()?.join(LOCK);
    file_lock::open(&path).map_err(|error| Error::io(format_args!("open {}", path.display()), &error))
}
