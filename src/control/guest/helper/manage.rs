//! Lanes come and go: which are kept, what becomes of a command when its worker or its shell ends.

use crate::command::Phase;
use crate::frame::{self, Line};
use crate::lane::{Lane, State, Word};
use crate::serve::{LANES, Server};

/// So many lanes without a command are kept after many ran at once.
const IDLE: usize = 8;

impl Server {
    /// The command that a lane has.
    pub fn running(&self, at: usize) -> Option<usize> {
        match self.lanes[at].as_ref()?.state {
            State::Running(command) | State::Ending(command, _) => Some(command),
            _ => None,
        }
    }

    /// The lane that has a command and hasn't heard of its end.
    pub fn lane_of(&self, command: usize) -> Option<usize> {
        let has =
            |lane: &Option<Lane>| lane.as_ref().is_some_and(|lane| lane.state == State::Running(command));
        self.lanes.iter().position(has)
    }

    pub fn ready_lane(&self) -> Option<usize> {
        let ready =
            |lane: &Option<Lane>| lane.as_ref().is_some_and(|lane| lane.state == State::Ready && !lane.spent);
        self.lanes.iter().position(ready)
    }

    /// Tells the host that a command couldn't be started.
    pub fn refuse(&mut self, at: usize, why: &[u8]) {
        if let Some(command) = self.commands.0[at].take() {
            frame::append(&mut self.out, b'F', command.id, why);
        }
    }

    /// Tells the host how a command ended.
    pub fn answer(&mut self, at: usize, status: u32) {
        if let Some(command) = self.commands.0[at].take() {
            let line = Line::new().text(b"status ").number(status).text(b"\n");
            frame::append(&mut self.out, b'X', command.id, line.bytes());
        }
    }

    /// Answers when nothing of a command's output is left, and sees what its lane is good for now.
    pub fn answer_if_all_sent(&mut self, at: usize) {
        let Some(lane) = &mut self.lanes[at] else { return };
        let State::Ending(command, status) = lane.state else { return };
        if lane.left != [0, 0] {
            return;
        }
        if lane.worker == 0 {
            lane.state = State::Resting;
            for pipe in &mut lane.output {
                if let Some(pipe) = pipe.take() {
                    self.leftovers.keep(pipe);
                }
            }
            lane.text = None;
            lane.stdin = None;
        } else if lane.spent {
            lane.state = State::Leaving;
            lane.signal(9);
        } else {
            lane.state = State::Ready;
        }
        if lane.shell == 0 {
            self.lanes[at] = None;
        }
        self.answer(command, status);
    }

    /// Takes what a lane's shell and worker say.
    pub fn listen(&mut self, at: usize) {
        let mut words = [const { None }; 8];
        let mut count = 0;
        let Some(lane) = &self.lanes[at] else { return };
        lane.listen(|word| {
            if count < words.len() {
                words[count] = Some(word);
                count += 1;
            }
        });
        for word in words.into_iter().flatten() {
            self.hear(at, &word);
        }
    }

    fn hear(&mut self, at: usize, word: &Word) {
        let Some(lane) = &mut self.lanes[at] else { return };
        match (word, lane.state) {
            (Word::Ready(group), State::Preparing) => lane.ready(*group),
            (Word::Stays(status), State::Running(command)) => lane.ended(command, *status),
            (Word::Ended(status), State::Running(command)) => {
                lane.worker = 0;
                lane.ended(command, *status);
            }
            (Word::Ended(_), State::Ending(..)) => lane.worker = 0,
            (Word::Ended(_), State::Ready | State::Leaving) => {
                lane.worker = 0;
                lane.state = State::Resting;
            }
            (Word::Ended(_), State::Preparing) => {
                lane.kill();
                self.lanes[at] = None;
                self.give_up(b"the shell that was to run it could not open its pipes");
                return;
            }
            _ => {}
        }
        self.answer_if_all_sent(at);
    }

    /// A lane's shell ended: by the hand of a command, or because it never could start.
    pub fn shell_ended(&mut self, pid: i32, status: i32) {
        let Some(at) = (0..LANES).find(|at| self.lanes[*at].as_ref().is_some_and(|lane| lane.shell == pid))
        else {
            return;
        };
        self.listen(at);
        let Some(lane) = &mut self.lanes[at] else { return };
        lane.shell = 0;
        match lane.state {
            State::Running(command) => {
                let signal = if status & 0x7f == 0 { 9 } else { status & 0x7f };
                lane.signal(signal);
                lane.worker = 0;
                lane.ended(command, 128 + signal as u32);
                self.answer_if_all_sent(at);
            }
            State::Ending(..) => {}
            state => {
                lane.kill();
                self.lanes[at] = None;
                if state == State::Preparing {
                    let bash = self.bash;
                    let line = Line::new().text(&bash[..bash.len() - 1]).text(b" could not be started");
                    self.give_up(line.bytes());
                }
            }
        }
    }

    /// No shell can be had: what waits is refused, and none is kept ready until the next command.
    fn give_up(&mut self, why: &[u8]) {
        self.spare = 0;
        while let Some(command) = self.commands.first_waiting() {
            self.refuse(command, why);
        }
    }

    /// Has lanes make new workers, starts lanes that are wanted, ends those that aren't.
    pub fn keep_lanes(&mut self) {
        let waiting = self.commands.waiting();
        if waiting > 0 || self.commands.0.iter().flatten().any(|command| command.phase == Phase::Running) {
            self.spare = 2;
        }
        let mut idle = self
            .lanes
            .iter()
            .flatten()
            .filter(|lane| !matches!(lane.state, State::Running(_) | State::Ending(..)))
            .count();
        for at in 0..LANES {
            let Some(lane) = &mut self.lanes[at] else { continue };
            if lane.state != State::Resting {
                continue;
            }
            if (idle > IDLE && idle > waiting) || lane.prepare().is_err() {
                lane.kill();
                self.lanes[at] = None;
                idle -= 1;
            }
        }
        while idle < waiting.max(self.spare) {
            let Some(at) = self.lanes.iter().position(Option::is_none) else { return };
            match Lane::start(self.bash, self.environment) {
                Ok(lane) => self.lanes[at] = Some(lane),
                Err(_) => {
                    if self.lanes.iter().all(Option::is_none) {
                        self.give_up(b"no process or no pipe could be had for it");
                    }
                    return;
                }
            }
            idle += 1;
        }
    }
}
