//! The main loop: receives frames, gives commands to workers, sends output and answers. It blocks in one place only.

use crate::begin::ring;
use crate::bytes::Bytes;
use crate::command::{COMMANDS, Commands};
use crate::frame::{self, Next};
use crate::kmsg::Kernel;
use crate::leftover::Leftovers;
use crate::manage::Early;
use crate::sys::{self, Environment, Fd, POLLIN, POLLOUT, Signals};
use crate::watch::{Source, Watch};
use crate::worker::{self, Worker};

/// Maximum number of commands that run at once; more wait.
pub const RUNNING: usize = 64;
/// Maximum number of workers, including those that are kept ready.
pub const WORKERS: usize = RUNNING + 32;
/// Interval in milliseconds after which a worker that has become bash is checked again: the kernel is still setting it
/// up.
const LOOK_AGAIN: usize = 2;
/// Milliseconds without a command or an answer before new workers are started. Earlier they would take the processor
/// from the commands.
const QUIET: usize = 20;
/// Time in which no worker is started beside the first command, in milliseconds. The host waits for its answer, and in
/// a guest that has just booted the first bash is the slowest step.
const FIRST_QUIET: usize = 500;
/// While this many bytes wait to be sent, no more output and frames are read.
const ENOUGH_WAITING: usize = 262144;

/// A read of fewer bytes usually means that the port is empty.
const PORT_PAGE: usize = 4096;

/// The state of the server.
pub struct Server {
    pub bash: &'static [u8],
    pub environment: Environment,
    /// Environment of workers that are started before their command.
    pub early_environment: Environment,
    /// Whether workers can be started early.
    pub early: Early,
    /// The first value of `$_` in a shell.
    pub underscore: &'static [u8],
    pub commands: Commands,
    pub workers: [Option<Worker>; WORKERS],
    /// Number of workers that are kept ready.
    pub kept: usize,
    /// Whether new workers are being started until there are enough.
    pub is_filling: bool,
    /// How many ended in a row without a command.
    pub lost: u32,
    pub leftovers: Leftovers,
    pub kernel: Kernel,
    /// Frames to be sent to the host.
    pub out: Bytes,
    /// The bell to ring when the first command has ended; empty afterwards.
    pub bell: &'static [u8],
}

/// Serves until the port ends, and returns the exit status.
///
/// `bell` is rung when the first command has ended, or if none comes; it may be empty.
pub fn serve(
    input: Fd,
    output: Option<Fd>,
    bash: &'static [u8],
    environment: Environment,
    bell: &'static [u8],
) -> i32 {
    let bash = if bash == b"\0" { found_bash(environment) } else { bash };
    sys::close_all_but(input.number());
    sys::leave_session();
    // An emulator caches translated code by address: with random addresses it translates bash again for each command.
    if sys::is_emulated() {
        sys::fix_addresses();
    }
    sys::ignore_broken_pipes();
    let Ok(signals) = Signals::new() else { return 71 };
    let early = worker::early_environment(environment);
    let mut server = Server {
        bash,
        environment,
        early_environment: early.unwrap_or(environment),
        early: if early.is_some() { Early::Unproven } else { Early::Cannot },
        underscore: environment.value(b"_").unwrap_or(b"bash"),
        commands: Commands([const { None }; COMMANDS]),
        workers: [const { None }; WORKERS],
        kept: Server::kept_at_first(),
        is_filling: false,
        lost: 0,
        leftovers: Leftovers::new(),
        kernel: Kernel::new(),
        out: Bytes::new(),
        bell,
    };
    let port_out = output.as_ref().unwrap_or(&input);
    for port in [&input, port_out] {
        if port.never_wait().is_err() || port.close_on_exec().is_err() {
            return 66;
        }
    }
    server.hello();
    let status = server.turn_until_end(&input, port_out, &signals);
    for worker in server.workers.iter().flatten() {
        worker.kill();
    }
    status
}

/// Returns the bash on PATH, as a C string; an empty one if there is none.
fn found_bash(environment: Environment) -> &'static [u8] {
    for folder in environment.value(b"PATH").unwrap_or(b"").split(|&byte| byte == b':') {
        let mut path = Bytes::new();
        for part in [folder, b"/bash\0"] {
            path.push(part);
        }
        if folder.first() == Some(&b'/') && sys::can_run(path.front()) {
            return path.leak();
        }
    }
    b"\0"
}

/// Reads up to the length of a frame: a port returns one page at a time. Returns whether it is still open.
fn read_port(input: &Fd, frames: &mut Bytes) -> Result<bool, isize> {
    let mut all = 0;
    loop {
        match input.read(&mut frames.room(frame::LONGEST)[..frame::LONGEST]) {
            Ok(0) => return Ok(all > 0),
            Ok(n) => {
                frames.filled(n);
                all += n;
                if n < PORT_PAGE || all >= frame::LONGEST {
                    return Ok(true);
                }
            }
            Err(sys::EAGAIN) => return Ok(true),
            Err(error) => return if all > 0 { Ok(true) } else { Err(error) },
        }
    }
}

impl Server {
    fn hello(&mut self) {
        let line = frame::ShortText::new().text(b"version 1\nway helper\nbash ");
        let line = line.text(&self.bash[..self.bash.len() - 1]).text(b"\n");
        frame::append(&mut self.out, b'H', 0, line.bytes());
    }

    fn turn_until_end(&mut self, input: &Fd, output: &Fd, signals: &Signals) -> i32 {
        let mut frames = Bytes::new();
        let mut watch = Watch::new();
        loop {
            if !self.flush(output) {
                return 0;
            }
            if self.is_filling || self.early != Early::Unproven {
                ring(core::mem::take(&mut self.bell));
            }
            // After the answers, since the next step forks.
            let is_full = self.keep_ready();
            self.watch(&mut watch, input, output, signals);
            let looks = self.workers.iter().flatten().any(Worker::is_looked_at);
            let quiet = if self.is_first_under_way() { FIRST_QUIET } else { QUIET };
            let limit =
                if looks { Some(LOOK_AGAIN) } else { (!is_full && !self.is_filling).then_some(quiet) };
            match sys::wait_for(&mut watch.watched[..watch.len], limit) {
                Ok(true) => {}
                Ok(false) => self.is_filling |= !looks,
                Err(_) => return 71,
            }
            self.look_at_starting();
            for at in 0..watch.len {
                if watch.watched[at].seen == 0 {
                    continue;
                }
                match watch.sources[at] {
                    Source::Output(worker, which) => self.read_output(worker, which),
                    Source::Text(worker) => self.send_text(worker),
                    Source::Input(worker) => self.write_input(worker),
                    Source::Leftover(at) => self.leftovers.read(at),
                    Source::Kernel => self.tell_kernel(),
                    Source::PortOut | Source::Born => {}
                    Source::Signals => {
                        if signals.asked_to_end() {
                            self.take_leave(output);
                            return 0;
                        }
                        while let Some((pid, status)) = sys::wait_any() {
                            self.child_ended(pid, status);
                        }
                    }
                    Source::PortIn => match read_port(input, &mut frames) {
                        Ok(false) => return 0,
                        Ok(true) => {
                            if !self.take_frames(&mut frames) {
                                return 65;
                            }
                        }
                        Err(_) => return 74,
                    },
                }
            }
            self.dispatch();
        }
    }

    fn watch(&self, watch: &mut Watch, input: &Fd, output: &Fd, signals: &Signals) {
        watch.clear();
        let room = self.out.len() < ENOUGH_WAITING;
        watch.add_workers(&self.workers, &self.commands, room);
        if room {
            watch.add(input.number(), POLLIN, Source::PortIn);
            if let Some(kernel) = self.kernel.number() {
                watch.add(kernel, POLLIN, Source::Kernel);
            }
        }
        if !self.out.is_empty() {
            watch.add(output.number(), POLLOUT, Source::PortOut);
        }
        watch.add(signals.number(), POLLIN, Source::Signals);
        watch.add_leftovers(&self.leftovers);
    }

    /// Writes what the port accepts now. Returns whether the other end is still there.
    pub fn flush(&mut self, output: &Fd) -> bool {
        while !self.out.is_empty() {
            match output.write(self.out.front()) {
                Ok(n) => self.out.consume(n),
                Err(sys::EAGAIN) => break,
                Err(_) => return false,
            }
        }
        true
    }

    /// Handles every complete frame. Returns whether they were valid.
    fn take_frames(&mut self, frames: &mut Bytes) -> bool {
        loop {
            match frame::next(frames.front()) {
                Next::More => return true,
                Next::Nonsense => return false,
                Next::Frame { kind, id, content, whole } => {
                    if !self.take(kind, id, &frames.front()[content]) {
                        return false;
                    }
                    frames.consume(whole);
                }
            }
        }
    }

    /// Reads a command's output once.
    fn read_output(&mut self, at: usize, which: usize) {
        let Some((command, Some(worker))) =
            self.command_of(at).map(|command| (command, &mut self.workers[at]))
        else {
            return;
        };
        let Some(command) = &mut self.commands.0[command] else { return };
        let Some(pipe) = &worker.output[which] else { return };
        let ending = worker.left[which] > 0;
        let most = if ending { worker.left[which] } else { frame::LONGEST };
        match frame::append_read(&mut self.out, [b'O', b'E'][which], command.id, pipe, most) {
            Ok(0) => {
                worker.output[which] = None;
                worker.left[which] = 0;
            }
            Ok(n) => {
                worker.left[which] = worker.left[which].saturating_sub(n);
                if command.request.sum && which == 0 {
                    let out = self.out.front();
                    command.sums[1].add(&out[out.len() - n..]);
                }
                if n == frame::LONGEST && !worker.wide[which] {
                    worker.wide[which] = true;
                    pipe.widen();
                }
            }
            Err(_) => worker.left[which] = 0,
        }
        self.answer_if_all_sent(at);
    }

    /// Gives a command more of its input. Input that its process refuses counts as taken.
    pub fn write_input(&mut self, at: usize) {
        let Some((command, Some(worker))) =
            self.command_of(at).map(|command| (command, &mut self.workers[at]))
        else {
            return;
        };
        let Some(command) = &mut self.commands.0[command] else { return };
        if worker.stdin.is_some() && !worker.check_begun() {
            return;
        }
        let taken = match worker.stdin.as_ref().map(|stdin| stdin.write(command.input.front())) {
            Some(Ok(n)) => {
                if command.request.sum {
                    command.sums[0].add(&command.input.front()[..n]);
                }
                n
            }
            Some(Err(sys::EAGAIN)) => 0,
            Some(Err(_)) | None => {
                worker.stdin = None;
                command.input.len()
            }
        };
        command.input.consume(taken);
        if !command.input.is_empty() && !worker.wide[2] {
            worker.wide[2] = true;
            if let Some(stdin) = &worker.stdin {
                stdin.widen();
            }
        }
        if taken > 0 {
            let line = frame::ShortText::new().number(taken as u32);
            frame::append(&mut self.out, b'A', command.id, line.bytes());
        }
        if command.input_ended && command.input.is_empty() {
            worker.stdin = None;
        }
    }

    fn send_text(&mut self, at: usize) {
        if let Some(command) = self.command_of(at)
            && let (Some(worker), Some(command)) = (&mut self.workers[at], &mut self.commands.0[command])
        {
            worker.send(&mut command.text);
        }
    }
}
