//! Restores a machine to an earlier moment.

use std::fmt;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use nixvm_test_macros::tracked;
use tokio::sync::{Mutex, MutexGuard};

use crate::console::Watch;
use crate::machine::commands::channels::{Channels, HeldLog, OPEN, Open};
use crate::machine::lifecycle::boot::Origin;
use crate::machine::lifecycle::saved::Known;
use crate::machine::lifecycle::turn::{Paused, Turn};
use crate::machine::replay::answers::{Answers, Asking, Start, Writer};
use crate::machine::session::login::BROUGHT_BACK;
use crate::machine::session::phases::look_whether_up;
use crate::machine::system::history::History;
use crate::machine::{Life, Line, Machine};
use crate::mutex::lock;
use crate::network::Port;
use crate::qemu::{GoBack, Left, Moment, Qemu, RunDirectory};
use crate::{Error, ErrorKind, Event, Result};

/// A machine's state at one moment, made by [`Machine::snapshot`]. It is valid as long as the machine's disks exist:
/// after [`Machine::crash`], [`Machine::power_off`], [`Machine::start`] and [`Machine::reboot`], too.
pub struct Snapshot {
    number: usize,
    /// The machine that it belongs to.
    machine: Weak<RunDirectory>,
    /// None in a replay.
    moment: Option<Moment>,
    known: Known,
    /// Which system ran, and which one booted next.
    history: History,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It contains a password.
        f.debug_struct("Snapshot").field("number", &self.number).finish_non_exhaustive()
    }
}

/// A machine that is ready for a snapshot.
pub(super) struct Ready<'a> {
    machine: &'a Machine,
    life: &'a Life,
    number: usize,
    known: Known,
    _busy: (MutexGuard<'a, Open>, MutexGuard<'a, Line>, HeldLog<'a>, crate::machine::step::Step),
}

impl Ready<'_> {
    /// Writes the state. The machine is paused meanwhile. `None` in a replay.
    pub(super) async fn keep(&self) -> Result<Option<Moment>> {
        let mut moment = None;
        let keep = async {
            moment = Some(self.life.qemu.keep_moment(self.number, &self.machine.shared.run_dir).await?);
            Ok(())
        };
        self.life.answer_of_qemu(&format!("take snapshot {}", self.number), keep).await?;
        Ok(moment)
    }

    /// Returns the snapshot with the state that was written.
    pub(super) fn snapshot(self, moment: Option<Moment>) -> Snapshot {
        let shared = &self.machine.shared;
        let (machine, history) = (Arc::downgrade(&shared.run_dir), lock(&shared.history).clone());
        Snapshot { number: self.number, machine, moment, known: self.known, history }
    }
}

/// A machine at the moment of a snapshot. It does not run yet.
pub(super) struct Back<'a> {
    machine: &'a Machine,
    old: &'a Life,
    life: Life,
    history: History,
    how: How,
    line: Option<MutexGuard<'a, Line>>,
    _busy: (Option<MutexGuard<'a, Open>>, crate::machine::step::Step),
}

/// How a machine continues from a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// On the console that it has.
    Goes,
    /// It was off, and begins like a start.
    Starts,
    /// There is no machine.
    Replayed,
}

impl Back<'_> {
    /// Lets the machine run.
    pub(super) async fn go_on(&mut self) -> Result {
        let gone_on = match self.how {
            How::Replayed => Ok(()),
            How::Goes | How::Starts => self.life.qemu.go_on().await,
        };
        self.or_lost(gone_on)
    }

    /// Wakes the channels of the machine, which runs, and makes this its life.
    pub(super) async fn awaken(mut self) -> Result {
        if self.how != How::Replayed {
            let awake = self.life.channels.awaken(self.old.limit(OPEN)).await;
            self.or_lost(awake)?;
        }
        let Self { life, how, .. } = &self;
        if let (How::Starts, Answers::Written(writer)) = (*how, &life.answers) {
            let console = &life.console;
            let (speed, secrets, judged) = (life.speed.factor(), console.secrets(), console.judged());
            let standing = life.line.lock().await.standing(console);
            writer.started(Ok(Start { speed, secrets, judged, console: standing }), console);
        }
        let Self { machine, life, history, .. } = self;
        *lock(&machine.shared.life) = Arc::new(life);
        *lock(&machine.shared.history) = history;
        Ok(())
    }

    /// After an error, notes that the machine is off, if it is.
    fn or_lost(&mut self, outcome: Result) -> Result {
        if let (Err(_), Some(line)) = (&outcome, &mut self.line) {
            lost(self.old, line);
        }
        outcome
    }
}

/// Notes that a machine that could not go back is off, if it is.
fn lost(old: &Life, line: &mut Line) {
    if old.qemu.exit().borrow().is_some() {
        *line = Line::Lost("the machine is off, because a snapshot could not be restored".to_owned());
        old.stopped("could not go back to a snapshot");
    }
}

/// # Snapshots
impl Machine {
    /// Saves the machine's current state, to restore it later: RAM, disks, devices and logins. The machine is paused
    /// while the state is written. Channels of users other than root are opened again afterwards; commands that run on
    /// one end.
    ///
    /// A disk image of the format qcow2 stores its part of the snapshot itself; a raw one is copied.
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
    /// [`ErrorKind::Host`] when another QEMU could not resume from there (a TPM, a disk with `snapshot=on`),
    /// [`ErrorKind::Usage`] when the machine has no disk image of the format qcow2, [`ErrorKind::Qmp`] when it can't be
    /// saved: a shared folder, or, with QEMU's message, a full disk; [`ErrorKind::SessionEnded`] when it is off, or the
    /// state of its console is not known.
    #[tracked]
    pub async fn snapshot(&self) -> Result<Snapshot> {
        let turn = Arc::new(self.turn().await);
        let ready = turn.ready_for_snapshot().await?;
        let mut paused = Paused::of(vec![Arc::clone(&turn)], None);
        // It pauses the machine, and lets it continue.
        let moment = ready.keep().await;
        paused.done();
        Ok(ready.snapshot(moment?))
    }

    /// Restores the machine to a snapshot. Commands that have run since fail with [`ErrorKind::ChannelLost`]. Sessions
    /// begun since have ended, and [`Machine::session`] returns the session of the snapshot. The clock is corrected;
    /// the uptime is that of the snapshot.
    ///
    /// The machine continues in another QEMU with the disks and devices of the snapshot. Its console stays the same.
    /// The ports of this host that are forwarded now or were forwarded then are forwarded. A machine that is off is
    /// started from the snapshot, with a new console as after [`Machine::start`].
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a snapshot of another machine. After any other error the machine is off:
    /// [`ErrorKind::Qmp`] and [`ErrorKind::QemuGone`] with QEMU's message when it does not load the state,
    /// [`ErrorKind::Io`] when a disk image can't be restored, [`ErrorKind::Host`] when another program has taken a
    /// forwarded port.
    #[tracked]
    pub async fn restore(&self, snapshot: &Snapshot) -> Result {
        let turn = self.turn().await;
        let mut back = turn.go_back(snapshot).await?;
        back.go_on().await?;
        back.awaken().await
    }

    /// Whether the snapshot is one of this machine.
    pub(super) fn has_taken(&self, snapshot: &Snapshot) -> bool {
        Weak::ptr_eq(&snapshot.machine, &Arc::downgrade(&self.shared.run_dir))
    }
}

impl Turn {
    /// Prepares the machine for a snapshot. Nothing else happens on its console and its channels until the result is
    /// dropped.
    pub(super) async fn ready_for_snapshot(&self) -> Result<Ready<'_>> {
        let Self { machine, life, .. } = self;
        let mut open = life.channels.channels().await;
        let mut line = life.line.lock().await;
        line.settle().await;
        let number = machine.shared.snapshots.fetch_add(1, Ordering::Relaxed) + 1;
        let step = life.step(format!("take snapshot {number}"));
        let (channels, held) = life.while_it_runs(life.save_channels(&mut open)).await?;
        let known = life.known(&line, channels)?;
        let busy = (open, line, held, step);
        Ok(Ready { machine, life, number, known, _busy: busy })
    }

    /// Takes the machine to the snapshot. It does not run yet.
    pub(super) async fn go_back(&self, snapshot: &Snapshot) -> Result<Back<'_>> {
        let Self { machine, life: old, .. } = self;
        if !machine.has_taken(snapshot) {
            return Err(Error::new(ErrorKind::Usage, "this is a snapshot of another machine")
                .next_step("restore a snapshot that `snapshot()` of the same machine returned"));
        }
        // The restore discards the current log and units.
        machine.note_trouble_of_before().await;
        let step = old.step("go back to a snapshot");
        let history = snapshot.history.clone();
        if old.qemu.exit().borrow().is_some() {
            let (life, how) = machine.back_from_off(old, snapshot).await?;
            return Ok(Back { machine, old, life, history, how, line: None, _busy: (None, step) });
        }
        let mut channels = old.channels.channels().await;
        let mut line = old.line.lock().await;
        *line = Line::Lost(BROUGHT_BACK.to_owned());
        old.channels.leave(&mut channels, BROUGHT_BACK).await;
        let back = machine.back_from(old, snapshot).await;
        let (life, how) = back.inspect_err(|_| lost(old, &mut line))?;
        let busy = (Some(channels), step);
        Ok(Back { machine, old, life, history, how, line: Some(line), _busy: busy })
    }
}

impl Machine {
    /// Creates the life that resumes at the snapshot, on the console of the old one.
    async fn back_from(&self, old: &Life, snapshot: &Snapshot) -> Result<(Life, How)> {
        let (ours, theirs) = StdStream::pair().map_err(|error| Error::io("make a socket pair", &error))?;
        let (mut qemu, mut ports) = (None, Vec::new());
        let going_back = async {
            let left = old.qemu.leave().await?;
            let (at_moment, plugged) = self.at_moment(snapshot, left, theirs).await?;
            ports = plugged;
            // A later panic does not count any more.
            old.console.set_watch(Watch::Boot);
            old.console.set_watch(Watch::Session);
            old.console.skip();
            look_whether_up(&at_moment, &old.console);
            at_moment.came_up();
            qemu = Some(Arc::new(at_moment));
            Ok(())
        };
        let question = format!("go back to nixvm{}", snapshot.number);
        let asking = Asking { on_console: true, secret: None };
        old.answer_of_qemu_as(&question, asking, going_back).await?;
        // In a replay there is no moment, and the record continues to answer.
        let how = if qemu.is_none() { How::Replayed } else { How::Goes };
        let qemu = qemu.unwrap_or_else(|| Arc::clone(&old.qemu));
        let channels = self.control_of(ours, snapshot, &qemu).await?;
        let life = Life {
            name: old.name.clone(),
            console: old.console.clone(),
            qemu,
            events: old.events.clone(),
            speed: old.speed,
            channels,
            line: Mutex::new(snapshot.known.line()),
            answers: old.answers.clone(),
            ports,
            _run_dir: Arc::clone(&self.shared.run_dir),
        };
        Ok((life, how))
    }

    /// Creates the life of a machine that was off: it begins like a start.
    async fn back_from_off(&self, old: &Life, snapshot: &Snapshot) -> Result<(Life, How)> {
        let plan = &self.shared.plan;
        let run_dir = &self.shared.run_dir;
        old.lose(BROUGHT_BACK).await;
        self.note_life(old).await;
        let transcript = self.next_transcript();
        if let Origin::Record(replay) = &plan.origin {
            let life = plan.begin_replay(replay, run_dir, transcript, snapshot.known.password()).await?;
            return Ok((life, How::Replayed));
        }
        let (ours, theirs) = StdStream::pair().map_err(|error| Error::io("make a socket pair", &error))?;
        let (stream, left) = old.qemu.left().await?;
        let (qemu, ports) = self.at_moment(snapshot, left, theirs).await?;
        let qemu = Arc::new(qemu);
        old.events.send(Event::MachineStarted { machine: old.name.clone(), pid: qemu.pid() });
        let console = plan.attach(&qemu, stream, transcript, old.speed, Vec::new())?;
        console.set_watch(Watch::Session);
        qemu.came_up();
        if let Some(password) = snapshot.known.password() {
            console.mask(password);
        }
        let channels = self.control_of(ours, snapshot, &qemu).await?;
        let writer = Writer::open(&run_dir.answers());
        if let Answers::Written(before) = &old.answers {
            writer.keep_with(before);
        }
        let life = Life {
            name: old.name.clone(),
            console,
            qemu,
            events: old.events.clone(),
            speed: old.speed,
            channels,
            line: Mutex::new(snapshot.known.line()),
            answers: Answers::Written(writer),
            ports,
            _run_dir: Arc::clone(run_dir),
        };
        Ok((life, How::Starts))
    }

    async fn at_moment(
        &self,
        snapshot: &Snapshot,
        left: Left,
        channel: StdStream,
    ) -> Result<(Qemu, Vec<Port>)> {
        let Some(moment) = &snapshot.moment else {
            return Err(Error::new(ErrorKind::Usage, "this is a snapshot of a machine that was replayed"));
        };
        let Self { shared, .. } = self;
        let (machine, run_dir, events) = (self.name(), &*shared.run_dir, shared.plan.events.clone());
        let (cards, ports) = shared.plan.plug()?;
        let cards = cards.into_sockets();
        let back = GoBack { moment, machine, run_dir, left, channel: channel.into(), cards, events };
        Ok((Qemu::at_moment(back).await?, ports))
    }

    async fn control_of(&self, ours: StdStream, snapshot: &Snapshot, qemu: &Qemu) -> Result<Channels> {
        let speed = snapshot.known.speed();
        let shell_only = self.shared.plan.shell_channel;
        let channels =
            Channels::resume(ours, shell_only, self.name(), &snapshot.known.channels, false).await?;
        channels.follow(qemu, speed);
        Ok(channels)
    }
}
