//! Manages workers: how many are kept ready, and what happens to a command when its process ends.

use crate::command::Phase;
use crate::frame::{self, ShortText};
use crate::serve::{RUNNING, Server, WORKERS};
use crate::sys::Surroundings;
use crate::worker::{Kind, State, Worker};

/// Number of workers that are kept ready: at first, and at most. It doubles whenever a command finds none.
const KEPT: core::ops::RangeInclusive<usize> = 8..=(WORKERS - RUNNING);
/// Maximum number that start at once: running commands need the processor as well.
const AT_ONCE: usize = 2;
/// If less than 1/FEW of them is ready, more are started even while commands run.
const FEW: usize = 8;
/// Maximum number that may end in a row without a command.
const LOST: u32 = 16;
/// A text that proves that a worker can receive its text after its start, and the exit status of that text.
const PROOF: (&[u8], u32) = (b"exit 77\0", 77);

/// Whether workers can be started before their command.
#[derive(Clone, Copy, PartialEq)]
pub enum Early {
    /// Not known yet.
    Unproven,
    Can,
    Cannot,
}

impl Server {
    /// Returns the command of a worker.
    pub fn command_of(&self, at: usize) -> Option<usize> {
        match self.workers[at].as_ref()?.state {
            State::Running(command) | State::Ending(command, _) => Some(command),
            _ => None,
        }
    }

    /// Returns the worker that has a command and hasn't ended.
    pub fn worker_of(&self, command: usize) -> Option<usize> {
        let has = |worker: &Option<Worker>| {
            worker.as_ref().is_some_and(|worker| worker.state == State::Running(command))
        };
        self.workers.iter().position(has)
    }

    fn count(&self, state: State) -> usize {
        self.workers.iter().flatten().filter(|worker| worker.state == state).count()
    }

    /// Reports to the host that a command couldn't be started.
    pub fn refuse(&mut self, at: usize, why: &[u8]) {
        if let Some(command) = self.commands.0[at].take() {
            frame::append(&mut self.out, b'F', command.id, why);
        }
    }

    /// Reports to the host how a command ended.
    pub fn answer(&mut self, at: usize, status: u32) {
        self.tell_kernel();
        self.is_filling |= self.early == Early::Unproven;
        if let Some(command) = self.commands.0[at].take() {
            let mut line = ShortText::new().text(b"status ").number(status).text(b"\n");
            if command.request.sum {
                let [input, output] = command.sums;
                line = line.text(b"sum ").hex(input.value()).text(b" ").hex(output.value()).text(b"\n");
            }
            frame::append(&mut self.out, b'X', command.id, line.bytes());
        }
    }

    /// Answers once all output of a command is sent.
    pub fn answer_if_all_sent(&mut self, at: usize) {
        if let Some(worker) = &mut self.workers[at]
            && let State::Ending(command, status) = worker.state
            && worker.left == [0, 0]
        {
            for pipe in &mut worker.output {
                if let Some(pipe) = pipe.take() {
                    self.leftovers.keep(pipe);
                }
            }
            self.workers[at] = None;
            self.answer(command, status);
        }
    }

    /// Assigns waiting commands to workers.
    pub fn dispatch(&mut self) {
        let mut surroundings = None;
        while let Some(command) = self.commands.first_waiting()
            && self.commands.running() < RUNNING
        {
            let surroundings = surroundings.get_or_insert_with(Surroundings::here);
            if !self.give_to_ready(command, surroundings) {
                self.start_for(command);
            }
        }
    }

    /// Gives a command to a ready worker. Returns whether there was one, and the command is one that it can run.
    fn give_to_ready(&mut self, at: usize, surroundings: &Surroundings) -> bool {
        while let Some(command) = &mut self.commands.0[at]
            && self.early == Early::Can
            && command.can_come_later()
        {
            let is_ready =
                |worker: &Option<Worker>| worker.as_ref().is_some_and(|worker| worker.state == State::Ready);
            let Some(ready) = self.workers.iter().position(is_ready) else {
                self.kept = (self.kept * 2).min(*KEPT.end());
                break;
            };
            let Some(worker) = &mut self.workers[ready] else { break };
            if !worker.is_fresh(surroundings) {
                worker.kill();
                self.workers[ready] = None;
            } else if worker.begin(command.text.front(), command.request.input, self.underscore).is_err() {
                // It was killed, and the notice of its end has not arrived yet.
                self.lose(ready, true);
            } else {
                command.phase = Phase::Running;
                worker.state = State::Running(at);
                self.lost = 0;
                self.is_filling = false;
                self.write_input(ready);
                return true;
            }
        }
        false
    }

    /// Starts a worker for a command.
    fn start_for(&mut self, at: usize) {
        let Some(free) = self.workers.iter().position(Option::is_none) else { return };
        let Some(command) = &mut self.commands.0[at] else { return };
        let input = command.request.input;
        let started = command.with_arguments(|kind| Worker::start(self.bash, self.environment, &kind, input));
        match started {
            Ok(mut worker) => {
                command.phase = Phase::Running;
                worker.state = State::Running(at);
                worker.send(&mut command.text);
                self.workers[free] = Some(worker);
                self.write_input(free);
            }
            Err(error) => {
                let line =
                    ShortText::new().text(b"the guest could not make a process or a pipe for it (error ");
                let line = line.number(error.unsigned_abs() as u32).text(b")");
                self.refuse(at, line.bytes());
            }
        }
    }

    /// Handles a worker without a command that has become useless.
    fn lose(&mut self, at: usize, was_killed: bool) {
        if let Some(worker) = self.workers[at].take() {
            worker.kill();
            self.lost += u32::from(!was_killed);
            if self.lost == LOST || worker.state == State::Proving {
                self.early = Early::Cannot;
            }
        }
    }

    /// Handles the end of a child process.
    pub fn child_ended(&mut self, pid: i32, status: u32) {
        let is_it = |worker: &Option<Worker>| worker.as_ref().is_some_and(|worker| worker.pid == pid);
        let Some(at) = self.workers.iter().position(is_it) else { return };
        let Some(worker) = &mut self.workers[at] else { return };
        match worker.state {
            State::Running(place) => {
                if let Some(error) = worker.could_not_start() {
                    self.workers[at] = None;
                    let path = &self.bash[..self.bash.len() - 1];
                    let line = ShortText::new().text(path).text(b" could not be started (error ");
                    let line = line.number(error).text(b")");
                    return self.refuse(place, line.bytes());
                }
                if !worker.check_begun()
                    && let Some(command) = &mut self.commands.0[place]
                    && !command.signalled
                {
                    command.phase = Phase::Waiting;
                    self.workers[at] = None;
                    return;
                }
                worker.ended(place, status);
                self.answer_if_all_sent(at);
            }
            State::Proving => {
                self.workers[at] = None;
                self.early = if status == PROOF.1 { Early::Can } else { Early::Cannot };
            }
            _ => self.lose(at, status > 128),
        }
    }

    /// Checks whether workers have become bash.
    pub fn look_at_starting(&mut self) {
        for at in 0..WORKERS {
            let Some(worker) = &mut self.workers[at] else { continue };
            if worker.state != State::Starting {
                continue;
            }
            if !worker.look() {
                self.lose(at, false);
            } else if worker.state == State::Ready && self.early == Early::Unproven {
                worker.state = State::Proving;
                if worker.begin(PROOF.0, false, b"").is_err() {
                    self.lose(at, false);
                }
            }
        }
    }

    /// Marks all ready workers as started before the moment that this guest continues from.
    pub fn mark_as_copies(&mut self) {
        for worker in self.workers.iter_mut().flatten() {
            worker.is_copy = true;
        }
    }

    /// Starts workers while too few are ready. Returns whether there are enough, or can be none.
    pub fn keep_ready(&mut self) -> bool {
        if self.early == Early::Cannot {
            return true;
        }
        let ready = self.count(State::Ready);
        let mut starting = self.count(State::Starting) + self.count(State::Proving);
        let (wanted, at_once) = match self.early {
            Early::Can => (self.kept, AT_ONCE),
            _ => (1, 1),
        };
        if ready + starting >= wanted {
            self.is_filling = false;
            return true;
        }
        let is_enough = self.early == Early::Unproven || ready + starting > wanted / FEW;
        if is_enough && !self.is_filling {
            return false;
        }
        while starting < at_once && ready + starting < wanted {
            let Some(free) = self.workers.iter().position(Option::is_none) else { return true };
            match Worker::start(self.bash, self.early_environment, &Kind::Early, false) {
                Ok(worker) => self.workers[free] = Some(worker),
                // There is no free process or pipe; the next command will report it.
                Err(_) => return true,
            }
            starting += 1;
        }
        ready + starting >= wanted
    }

    /// Returns whether a command runs while no worker was ready yet.
    pub fn is_first_under_way(&self) -> bool {
        self.early == Early::Unproven && self.commands.running() > 0
    }

    /// Returns how many are kept at first.
    pub const fn kept_at_first() -> usize {
        *KEPT.start()
    }
}
