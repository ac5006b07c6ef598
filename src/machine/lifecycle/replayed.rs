//! A machine that answers from a record: see [`crate::machine::replay::answers`].

use std::os::unix::net::UnixStream as StdStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::console::Watch;
use crate::machine::commands::channels::Channels;
use crate::machine::lifecycle::boot::{Origin, Plan};
use crate::machine::replay::answers::{Answers, LONGEST_WAIT, Replay, Standing};
use crate::machine::session::shell_line::ShellLine;
use crate::machine::{Life, Line, Machine, MachineOptions};
use crate::qemu::{Qemu, RunDirectory};
use crate::{Error, Event, Result, Speed};

/// A scenario that polls has got all answers long before.
const LONGEST_RETRY: Duration = Duration::from_secs(5);
/// The pause between two retries: nothing changes meanwhile.
const PAUSE: Duration = Duration::from_millis(1);

impl Machine {
    /// Returns a machine that answers as `replay` did. `password` is the password of the user who was logged in when it
    /// began, if it is known.
    ///
    /// # Errors
    /// What kept it from starting when it was recorded; [`crate::ErrorKind::Io`] when there are no files or
    /// descriptors left.
    pub(crate) async fn replayed(
        replay: Arc<Replay>,
        options: MachineOptions,
        password: Option<&str>,
    ) -> Result<Self> {
        let plan = Plan::made_of(Origin::Record(Arc::clone(&replay)), options);
        let run_dir = Arc::new(RunDirectory::create()?);
        let life = plan.begin_replay(&replay, &run_dir, run_dir.transcript(), password).await?;
        Ok(Self::living(plan, run_dir, life, None))
    }
}

impl Plan {
    /// Begins the next start in the record. `password` is the password of the user who is logged in at that time.
    pub(in crate::machine) async fn begin_replay(
        &self,
        replay: &Arc<Replay>,
        run_dir: &Arc<RunDirectory>,
        transcript: PathBuf,
        password: Option<&str>,
    ) -> Result<Life> {
        let start = replay.start()?;
        let (name, events) = (self.name.clone(), self.events.clone());
        let speed = Speed::new(start.speed);
        let (qemu, stream) = Qemu::absent(&name, &events).await?;
        // The name is not opened.
        let (line, _) = StdStream::pair().map_err(|error| Error::io("make a socket pair", &error))?;
        let channels = Channels::new(line, self.shell_channel)?;
        let console = self.attach(&qemu, stream, transcript, speed, Vec::new())?;
        console.limit_waits(LONGEST_WAIT);
        // The boot is over, regardless of its output.
        console.set_watch(Watch::Off);
        replay.up(&start, &console);
        console.set_judged(start.judged);
        console.set_watch(Watch::Session);
        events.send(Event::Phase { machine: name.clone(), phase: "replayed".to_owned(), at: Duration::ZERO });
        let line = match start.console {
            Standing::AtLogin => Line::AtLogin,
            // The record is not trusted: it may have any name here.
            Standing::Shell { user, language, secret } => {
                if let (Some(number), Some(password)) = (secret, password) {
                    replay.know_as(number, password, &console);
                }
                Line::Shell(ShellLine::replayed(&crate::text::line(&user), language))
            }
        };
        let (qemu, line, _run_dir) = (Arc::new(qemu), Mutex::new(line), Arc::clone(run_dir));
        let answers = Answers::Read(Arc::clone(replay));
        let ports = Vec::new();
        Ok(Life { name, console, qemu, events, speed, channels, line, answers, ports, _run_dir })
    }
}

impl Life {
    /// Returns the pause between retries, and the limit for all of them: time does not pass in a replay.
    pub(crate) fn patience(&self, pause: Duration, limit: Duration) -> (Duration, Duration) {
        match self.replay() {
            Some(_) => (PAUSE.min(pause), LONGEST_RETRY.min(limit)),
            None => (pause, limit),
        }
    }
}

#[cfg(test)]
mod tests;
