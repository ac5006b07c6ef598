//! The loop: frames in, commands to lanes, output and answers out. It never waits but in one place.

use crate::bytes::Bytes;
use crate::command::{COMMANDS, Commands, Phase};
use crate::frame::{self, Next};
use crate::kmsg::Kernel;
use crate::lane::Lane;
use crate::leftover::Leftovers;
use crate::stem::Stem;
use crate::sys::{self, Environment, Fd, POLLIN, POLLOUT, Signals};
use crate::watch::{Source, Watch};

/// So many seconds a command waits while nothing happens and a new lane has not said a word: a shell that was killed
/// at its birth tells nobody.
const PATIENCE: usize = 3;

/// So many commands run at once; more wait.
pub const LANES: usize = 64;
/// No more output and frames are taken in while so much waits to go out.
const ENOUGH_WAITING: usize = 262144;

/// With less than this a port is empty, mostly.
const PORT_PAGE: usize = 4096;

/// All there is to know while serving.
pub struct Server {
    pub bash: &'static [u8],
    pub environment: Environment,
    /// Functions in the environment: any word can be one.
    pub functions: bool,
    pub commands: Commands,
    /// Where lanes come from, once there is one.
    pub stem: Option<Stem>,
    pub lanes: [Option<Lane>; LANES],
    /// Lanes that were killed while they made a worker, and where the next one goes.
    pub graves: [Option<Lane>; LANES],
    pub next_grave: usize,
    pub leftovers: Leftovers,
    pub kernel: Kernel,
    /// Frames on their way to the host.
    pub out: Bytes,
    /// So many lanes are kept ready.
    pub spare: usize,
    /// So many commands at most waited or ran at once.
    pub most: usize,
}

/// Serves until the port ends; the exit status.
pub fn serve(input: Fd, output: Option<Fd>, bash: &'static [u8], environment: Environment) -> i32 {
    sys::ignore_broken_pipes();
    let Ok(signals) = Signals::new() else { return 71 };
    let mut server = Server {
        bash,
        environment,
        functions: environment.has_prefix(b"BASH_FUNC_"),
        commands: Commands([const { None }; COMMANDS]),
        stem: None,
        lanes: [const { None }; LANES],
        graves: [const { None }; LANES],
        next_grave: 0,
        leftovers: Leftovers::new(),
        kernel: Kernel::new(),
        out: Bytes::new(),
        spare: 1,
        most: 0,
    };
    let port_out = output.as_ref().unwrap_or(&input);
    for port in [&input, port_out] {
        if port.never_wait().is_err() || port.close_on_exec().is_err() {
            return 66;
        }
    }
    server.hello();
    let status = server.turn_until_end(&input, port_out, &signals);
    for lane in server.lanes.iter().flatten() {
        lane.kill();
    }
    if let Some(stem) = &server.stem {
        stem.kill();
    }
    status
}

/// Reads what is there, up to the length of a frame: a port gives a page at a time. Whether it goes on.
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
        let line = frame::Line::new().text(b"version 1\nway helper\nbash ");
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
            // After the answers: what comes next may cost a fork.
            self.keep_lanes();
            self.watch(&mut watch, input, output, signals);
            let limit = self.waits_for_the_silent().then_some(PATIENCE);
            match sys::wait_for(&mut watch.watched[..watch.len], limit) {
                Ok(true) => {}
                Ok(false) => {
                    self.lose_the_silent();
                    continue;
                }
                Err(_) => return 71,
            }
            for at in 0..watch.len {
                if watch.watched[at].seen == 0 {
                    continue;
                }
                match watch.sources[at] {
                    Source::Output(lane, which) => self.read_output(lane, which),
                    Source::Words(lane) => self.listen(lane),
                    Source::Text(lane) => self.send_text(lane),
                    Source::Input(lane) => self.write_input(lane),
                    Source::Leftover(at) => self.leftovers.read(at),
                    Source::PortOut => {}
                    Source::Kernel => self.tell_kernel(),
                    Source::Signals => {
                        if signals.asked_to_end() {
                            self.take_leave(output);
                            return 0;
                        }
                        while let Some(pid) = sys::wait_any() {
                            self.child_ended(pid);
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
        watch.add_lanes(&self.lanes, &self.commands, room);
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

    /// Writes what the port takes now. Whether there is still somebody at the other end.
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

    /// Handles every whole frame. Whether they were frames.
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
        let Some((command, Some(lane))) = self.running(at).map(|command| (command, &mut self.lanes[at]))
        else {
            return;
        };
        let Some(command) = &mut self.commands.0[command] else { return };
        let Some(pipe) = &lane.output[which] else { return };
        let ending = lane.left[which] > 0;
        let most = if ending { lane.left[which] } else { frame::LONGEST };
        match frame::append_read(&mut self.out, [b'O', b'E'][which], command.id, pipe, most) {
            Ok(0) => {
                lane.output[which] = None;
                lane.left[which] = 0;
            }
            Ok(n) => {
                lane.left[which] = lane.left[which].saturating_sub(n);
                if command.request.sum && which == 0 {
                    let out = self.out.front();
                    command.sums[1].add(&out[out.len() - n..]);
                }
                if n == frame::LONGEST && !lane.wide[which] {
                    lane.wide[which] = true;
                    pipe.widen();
                }
            }
            Err(_) => lane.left[which] = 0,
        }
        self.answer_if_all_sent(at);
    }

    /// Gives a command more of its input. What its process doesn't want any more counts as taken.
    pub fn write_input(&mut self, at: usize) {
        let Some((command, Some(lane))) = self.running(at).map(|command| (command, &mut self.lanes[at]))
        else {
            return;
        };
        let Some(command) = &mut self.commands.0[command] else { return };
        let taken = match lane.stdin.as_ref().map(|stdin| stdin.write(command.input.front())) {
            Some(Ok(n)) => {
                if command.request.sum {
                    command.sums[0].add(&command.input.front()[..n]);
                }
                n
            }
            Some(Err(sys::EAGAIN)) => 0,
            Some(Err(_)) | None => {
                lane.stdin = None;
                command.input.len()
            }
        };
        command.input.consume(taken);
        if !command.input.is_empty() && !lane.wide[2] {
            lane.wide[2] = true;
            if let Some(stdin) = &lane.stdin {
                stdin.widen();
            }
        }
        if taken > 0 {
            let line = frame::Line::new().number(taken as u32);
            frame::append(&mut self.out, b'A', command.id, line.bytes());
        }
        if command.input_ended && command.input.is_empty() {
            lane.stdin = None;
        }
    }

    fn send_text(&mut self, at: usize) {
        if let Some(command) = self.running(at)
            && let (Some(lane), Some(command)) = (&mut self.lanes[at], &mut self.commands.0[command])
        {
            lane.send(&mut command.text);
        }
    }

    /// Gives waiting commands to lanes that are ready.
    fn dispatch(&mut self) {
        while let Some(command) = self.commands.first_waiting()
            && let Some(at) = self.ready_lane()
        {
            self.give(command, at);
        }
    }

    fn give(&mut self, at: usize, lane: usize) {
        let (Some(command), Some(lane)) = (&mut self.commands.0[at], &mut self.lanes[lane]) else { return };
        command.phase = Phase::Running;
        lane.state = crate::lane::State::Running(at);
        lane.send(&mut command.text);
        if command.request.input && command.input_ended && command.input.is_empty() {
            lane.stdin = None;
        }
    }
}
