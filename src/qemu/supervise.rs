//! Starts a run script such that nothing of it outlives this process, and watches it end.
//!
//! Four nets, since none alone holds:
//! 1. The process group: the script gets a session of its own, so that its background helpers can be
//!    killed with it, and a ctrl-C on the terminal reaches only the runner, which decides.
//! 2. The parent-death signal, for the runner's SIGKILL. The kernel sends it when the *thread* that
//!    forked ends (prctl(2), PR_SET_PDEATHSIG), hence one thread that spawns and never ends.
//! 3. The mark in the environment, for helpers that left the group (see [`processes`]).
//! 4. The watchdog, which does 1 and 3 and removes the files when this process is gone.

use std::fs;
use std::io::{self, PipeReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, Weak, mpsc};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process_group, pidfd_open, waitid,
};
use tokio::sync::watch;

use super::line_end::LineEnd;
use super::output::{Output, Said};
use super::run_directory::{GROUP, RunDirectory};
use super::{Exit, processes};
use crate::Error;
use crate::mutex::{self, lock};

/// How long helpers may take to end by themselves after QEMU ended by itself (swtpm writes its state
/// then). Measured need: a few milliseconds.
const HELPERS_MAY_TAKE: Duration = Duration::from_millis(500);
/// A killed QEMU is gone after milliseconds, unless it hangs in the kernel on a dead disk.
const KILLED_WITHIN: Duration = Duration::from_secs(5);

/// Maximum number of reads for the output that is available.
const READS: usize = 64;

/// A running script, or what became of it. Dropping it kills the whole tree and waits until it is gone.
#[derive(Debug)]
pub(super) struct Supervised(Arc<RunningScript>);

#[derive(Debug)]
struct RunningScript {
    pid: Pid,
    state: Mutex<State>,
    ended: Condvar,
    killed: AtomicBool,
    exit: watch::Sender<Option<Exit>>,
    gone: watch::Sender<bool>,
    /// Where the script and QEMU write, and what they wrote. `None` of what is absent.
    output: Mutex<Option<(PipeReader, Output)>>,
    /// The console's line, which ends with QEMU unless another one takes it over.
    line: Mutex<Option<LineEnd>>,
    /// Tells the end of the line.
    closed: watch::Receiver<Option<Exit>>,
    /// Tells why the guest was stopped.
    halted: watch::Sender<Option<Error>>,
    /// The first line in which QEMU said that KVM fails.
    kvm: watch::Sender<Option<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Living,
    /// Reaped, helpers included: the process id may be somebody else's by now.
    Gone,
}

/// Starts `command` with `descriptors` (numbers stay as they are) under supervision. `line` is closed when it has ended.
///
/// The caller sets program, arguments and variables; stdin, output, session and mark are set here.
pub(super) async fn start(
    mut command: Command,
    descriptors: Vec<OwnedFd>,
    line: LineEnd,
    run: &RunDirectory,
) -> io::Result<Supervised> {
    let (output, output_writer) = io::pipe()?;
    command.stdin(Stdio::null()).stdout(output_writer.try_clone()?).stderr(output_writer);
    command.env(processes::MARK, run.mark());
    let runner = rustix::process::getpid();
    // SAFETY: the closure runs between fork and exec, where only async-signal-safe calls are allowed:
    // rustix makes bare system calls, and nothing in it allocates or locks.
    unsafe {
        command.pre_exec(move || {
            rustix::process::setsid()?;
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            if rustix::process::getppid() != Some(runner) {
                // The runner died before the signal was set: it will never come.
                return Err(io::ErrorKind::NotConnected.into());
            }
            for descriptor in &descriptors {
                // Close-on-exec goes only here, in the child: no other child of the runner gets them.
                rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::empty())?;
            }
            Ok(())
        });
    }
    let run_path = run.path().to_owned();
    let output_file = Output::new(&run.stderr());
    let mark = run.mark().to_owned();
    let (reply, started) = tokio::sync::oneshot::channel();
    spawner()?
        .send(Box::new(move || {
            let _ = reply.send(begin(command, line, &run_path, output, output_file, mark));
        }))
        .map_err(|_| io::Error::other("the thread that starts machines has ended"))?;
    started.await.map_err(|_| io::Error::other("the thread that starts machines has ended"))?
}

fn begin(
    mut command: Command,
    line: LineEnd,
    run_path: &Path,
    output: PipeReader,
    output_file: Output,
    mark: String,
) -> io::Result<Supervised> {
    if ENDING.load(Ordering::SeqCst) {
        return Err(io::Error::other("this process is ending, and starts no machine"));
    }
    // A read that waits would hold the lock of the output.
    rustix::io::ioctl_fionbio(&output, true)?;
    let mut child = command.spawn()?;
    // Closes this process's copies of the pipe's writing end and of the descriptors: their other ends
    // must see the end of the line when QEMU ends.
    drop(command);
    let pid = Pid::from_child(&child);
    let group_file = run_path.join(GROUP);
    if let Err(error) = fs::write(&group_file, format!("{}\n", pid.as_raw_pid())) {
        // The mark still finds every process; only helpers that wipe their environment would stay.
        tracing::debug!(%error, "no group file");
    }
    let ends = output.try_clone()?;
    let shared = Arc::new(RunningScript {
        pid,
        state: Mutex::new(State::Living),
        ended: Condvar::new(),
        killed: AtomicBool::new(false),
        exit: watch::Sender::new(None),
        gone: watch::Sender::new(false),
        output: Mutex::new(Some((output, output_file))),
        closed: line.closed(),
        halted: line.halted(),
        kvm: watch::Sender::new(None),
        line: Mutex::new(Some(line)),
    });
    lock(&LIVING).push(Arc::downgrade(&shared));
    // `kill_all` may have looked before this machine was in the list.
    if ENDING.load(Ordering::SeqCst) {
        shared.kill();
    }
    let supervised = Supervised(Arc::clone(&shared));
    let thread = std::thread::Builder::new().name(format!("qemu {pid:?}")).stack_size(128 * 1024);
    let watched = Watched { shared: Arc::clone(&shared), output: ends, mark, group_file };
    // The child goes through a slot, so that it isn't lost when the thread can't be made.
    let slot = Arc::new(Mutex::new(Some(child)));
    let for_thread = Arc::clone(&slot);
    if let Err(error) = thread.spawn(move || {
        if let Some(child) = lock(&for_thread).take() {
            watched.watch(child);
        }
    }) {
        if let Some(left) = lock(&slot).take() {
            child = left;
            let _ = kill_process_group(pid, Signal::KILL);
            let _ = child.wait();
            *lock(&shared.state) = State::Gone;
        }
        return Err(error);
    }
    Ok(supervised)
}

impl Supervised {
    /// Of nothing at all. It ends when it is told to.
    pub(super) fn absent() -> Self {
        let exit = watch::Sender::new(None);
        Self(Arc::new(RunningScript {
            // Never signalled: there is nothing that lives.
            pid: rustix::process::getpid(),
            state: Mutex::new(State::Gone),
            ended: Condvar::new(),
            killed: AtomicBool::new(false),
            closed: exit.subscribe(),
            halted: watch::Sender::new(None),
            kvm: watch::Sender::new(None),
            exit,
            gone: watch::Sender::new(true),
            output: Mutex::default(),
            line: Mutex::default(),
        }))
    }

    /// Has what is absent end by itself.
    pub(super) fn set_ended(&self, in_good_order: bool) {
        self.0
            .absent_ends(ExitStatus::from_raw(if in_good_order { 0 } else { Signal::KILL.as_raw() }), false);
    }

    pub(super) fn pid(&self) -> u32 {
        self.0.pid.as_raw_pid().unsigned_abs()
    }

    pub(super) fn exit(&self) -> watch::Receiver<Option<Exit>> {
        self.0.exit.subscribe()
    }

    /// Tells the end of the console's line: that of the last QEMU which has it.
    pub(super) fn closed(&self) -> watch::Receiver<Option<Exit>> {
        self.0.closed.clone()
    }

    /// Tells why the guest on the console's line was stopped. Like the line, it passes from one QEMU to the next.
    pub(super) fn halted(&self) -> watch::Sender<Option<Error>> {
        self.0.halted.clone()
    }

    /// Holds the first line in which it said that KVM fails.
    pub(super) fn kvm(&self) -> watch::Receiver<Option<String>> {
        self.0.kvm.subscribe()
    }

    /// Gives the console's line away, to the QEMU that takes the place of this one. `None` when this one has ended.
    pub(super) fn give_line(&self) -> Option<LineEnd> {
        lock(&self.0.line).take()
    }

    /// The end of what was written so far, safe to print.
    pub(super) fn said(&self) -> Said {
        self.0.said()
    }

    /// QEMU has answered: what the run script wrote is told from what QEMU writes.
    pub(super) fn qemu_runs(&self) {
        // What the script wrote may not be read yet.
        self.0.drain();
        if let Some((_, output)) = &mut *lock(&self.0.output) {
            output.qemu_runs();
        }
    }

    /// Kills the whole tree and waits until it is gone, at most 5 s.
    pub(super) async fn kill(&self) {
        self.0.kill();
        if !self.gone(KILLED_WITHIN).await {
            tracing::debug!(pid = self.pid(), "killed, but still running");
        }
    }

    /// Waits until helpers are gone, too, at most for `limit`. Whether they are.
    ///
    /// Until then its thread kills each process with the mark: another QEMU in the same run directory, too.
    pub(super) async fn gone(&self, limit: Duration) -> bool {
        let mut gone = self.0.gone.subscribe();
        crate::stopped::timeout(limit, gone.wait_for(|gone| *gone)).await.is_ok()
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.0.kill();
        // Waits so that the caller may remove its files.
        if !self.0.wait_gone(Instant::now() + KILLED_WITHIN) {
            tracing::debug!(pid = self.pid(), "killed, but still running");
        }
    }
}

impl RunningScript {
    fn kill(&self) {
        let state = lock(&self.state);
        if *state == State::Living {
            self.killed.store(true, Ordering::Relaxed);
            let _ = kill_process_group(self.pid, Signal::KILL);
        } else {
            self.absent_ends(ExitStatus::from_raw(Signal::KILL.as_raw()), true);
        }
    }

    /// What was there has told how it ended; what never was has not.
    fn absent_ends(&self, status: ExitStatus, killed: bool) {
        self.exit.send_if_modified(|exit| {
            let absent = exit.is_none();
            exit.get_or_insert_with(|| Exit { status, stderr: String::new(), script: String::new(), killed });
            absent
        });
    }

    fn said(&self) -> Said {
        lock(&self.output).as_ref().map(|(_, output)| output.said()).unwrap_or_default()
    }

    /// Takes the output that is there; false when no writer is left. The number of reads is limited,
    /// and the lock is free between them, so that a script that prints forever blocks no other thread.
    fn drain(&self) -> bool {
        (0..READS).find_map(|_| self.read()).unwrap_or(true)
    }

    /// Reads once; whether a writer is left, where there is nothing more to read.
    fn read(&self) -> Option<bool> {
        let mut held = lock(&self.output);
        let Some((pipe, output)) = &mut *held else { return Some(false) };
        let mut buffer = [0; 8192];
        match pipe.read(&mut buffer) {
            Ok(0) => return Some(false),
            Ok(read) => output.push(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Some(error.kind() == io::ErrorKind::WouldBlock),
        }
        if let Some(line) = output.kvm() {
            self.kvm
                .send_if_modified(|known| known.is_none().then(|| *known = Some(line.to_owned())).is_some());
        }
        None
    }

    fn wait_gone(&self, until: Instant) -> bool {
        let mut state = lock(&self.state);
        while *state != State::Gone {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = mutex::wait(&self.ended, state, left);
        }
        true
    }
}

/// What the thread of one machine works with.
struct Watched {
    shared: Arc<RunningScript>,
    /// To wait for output.
    output: PipeReader,
    mark: String,
    group_file: PathBuf,
}

impl Watched {
    fn watch(self, mut child: Child) {
        // Absent before Linux 5.3 and under some container profiles: then the end is looked for.
        let pidfd = pidfd_open(self.shared.pid, PidfdFlags::empty()).ok();
        let mut output_open = true;
        let status = loop {
            if let Some(status) = ended(self.shared.pid) {
                break status;
            }
            let mut wanted = Vec::with_capacity(2);
            if output_open {
                wanted.push(PollFd::new(&self.output, PollFlags::IN));
            }
            if let Some(pidfd) = &pidfd {
                wanted.push(PollFd::new(pidfd, PollFlags::IN));
            }
            let looking = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
            let _ = poll(&mut wanted, if pidfd.is_some() { None } else { Some(&looking) });
            output_open = output_open && self.shared.drain();
        };
        self.shared.drain();
        let said = self.shared.said();
        let script = if said.has_run() { String::new() } else { said.script() };
        let killed = self.shared.killed.load(Ordering::Relaxed);
        let mut exit = Exit { status, stderr: said.qemu().to_owned(), script, killed };
        if let Some(refused) = said.refused().filter(|_| !status.success()) {
            exit.with_words(refused, said.has_run());
        }
        let line = lock(&self.shared.line).take();
        // Before the line closes: who learns of the end by the line may ask at once how it ended.
        self.shared.exit.send_replace(Some(exit.clone()));
        if let Some(line) = line {
            line.close(exit);
        }
        self.end_helpers();
        let mut state = lock(&self.shared.state);
        // Only now: as long as the leader is not reaped, no other process can get its id or its group's.
        let _ = child.wait();
        let _ = fs::remove_file(&self.group_file);
        *state = State::Gone;
        drop(state);
        self.shared.ended.notify_all();
        self.shared.gone.send_replace(true);
        let shared = Arc::as_ptr(&self.shared);
        lock(&LIVING).retain(|living| living.as_ptr() != shared && living.strong_count() > 0);
    }

    fn end_helpers(&self) {
        let leader = Some(self.shared.pid);
        let until = Instant::now() + HELPERS_MAY_TAKE;
        while !self.shared.killed.load(Ordering::Relaxed) && Instant::now() < until {
            if processes::marked(&self.mark).iter().all(|pid| Some(*pid) == leader) {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // Again and again: a helper may be forking meanwhile, and killed ones need a moment to be gone.
        for _ in 0..200 {
            let _ = kill_process_group(self.shared.pid, Signal::KILL);
            if !processes::kill_marked(&self.mark, leader) && !processes::group_lives(self.shared.pid) {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The status of a child that ended, without reaping it.
fn ended(pid: Pid) -> Option<ExitStatus> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    match waitid(WaitId::Pid(pid), options) {
        Ok(Some(status)) => Some(exit_status(&status)),
        Ok(None) | Err(rustix::io::Errno::INTR) => None,
        // Somebody else in this process reaped it (a wait(-1), SIGCHLD ignored): gone all the same.
        Err(_) => Some(ExitStatus::from_raw(0)),
    }
}

fn exit_status(status: &WaitIdStatus) -> ExitStatus {
    // The encoding of wait(2): signal in the low seven bits, 0x80 for a core dump, else code << 8.
    let core = if status.dumped() { 0x80 } else { 0 };
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => ExitStatus::from_raw((code & 0xff) << 8),
        (None, Some(signal)) => ExitStatus::from_raw(signal | core),
        (None, None) => ExitStatus::from_raw(0),
    }
}

static LIVING: Mutex<Vec<Weak<RunningScript>>> = Mutex::new(Vec::new());

/// Whether this process ends its machines, and starts no more.
static ENDING: AtomicBool = AtomicBool::new(false);

/// Kills every machine of this process and waits until all are gone, at most for `limit`. No machine starts after that.
pub(crate) fn kill_all(limit: Duration) {
    ENDING.store(true, Ordering::SeqCst);
    let living: Vec<_> = lock(&LIVING).iter().filter_map(Weak::upgrade).collect();
    for shared in &living {
        shared.kill();
    }
    let until = Instant::now() + limit;
    for shared in &living {
        shared.wait_gone(until);
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// The thread that forks, and lives as long as the process.
fn spawner() -> io::Result<mpsc::Sender<Job>> {
    static SPAWNER: OnceLock<Mutex<Option<mpsc::Sender<Job>>>> = OnceLock::new();
    let mut spawner = lock(SPAWNER.get_or_init(Mutex::default));
    if let Some(sender) = &*spawner {
        return Ok(sender.clone());
    }
    let (sender, jobs) = mpsc::channel::<Job>();
    std::thread::Builder::new().name("qemu spawner".to_owned()).spawn(move || {
        for job in jobs {
            job();
        }
    })?;
    Ok(spawner.insert(sender).clone())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn one_look_at_the_output_of_a_script_that_prints_without_an_end_has_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let (pipe, mut flood) = io::pipe().unwrap();
        // A pipe holds more than the reads of one look take, where the kernel lets it.
        let held = rustix::pipe::fcntl_setpipe_size(&flood, 1 << 20).unwrap_or(0);
        rustix::io::ioctl_fionbio(&pipe, true).unwrap();
        rustix::io::ioctl_fionbio(&flood, true).unwrap();
        let written = std::iter::from_fn(|| flood.write(&[b'x'; 4096]).ok()).sum::<usize>();
        let script = RunningScript {
            pid: rustix::process::getpid(),
            state: Mutex::new(State::Gone),
            ended: Condvar::new(),
            killed: AtomicBool::new(false),
            exit: watch::Sender::new(None),
            gone: watch::Sender::new(true),
            output: Mutex::new(Some((pipe, Output::new(&folder.path().join("output"))))),
            line: Mutex::new(None),
            closed: watch::channel(None).1,
            halted: watch::Sender::new(None),
            kvm: watch::Sender::new(None),
        };
        assert!(script.drain(), "its writer is there");
        if held >= 1 << 20 {
            let left =
                lock(&script.output).as_ref().map(|(pipe, _)| rustix::io::ioctl_fionread(pipe).unwrap());
            assert_eq!(left, Some((written - READS * 8192) as u64));
        }
        drop(flood);
        let most = 3 * written / (READS * 8192) + 2;
        assert!((0..most).any(|_| !script.drain()), "and then the rest is taken");
    }
}
