//! Lanes come and go: which are kept, what becomes of a command when its worker or its shell ends.

use crate::command::Phase;
use crate::frame::{self, Line};
use crate::lane::{Lane, State, Word};
use crate::serve::{LANES, Server};
use crate::stem::Stem;

/// So many lanes without a command are kept at least, and at most after many ran at once.
const IDLE: core::ops::RangeInclusive<usize> = 8..=32;
/// So many workers are made at once while no command waits for one: forks would hold up what still runs.
const AT_ONCE: usize = 2;
const SIGKILL: i32 = 9;

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

    /// A lane that can have a command now.
    pub fn ready_lane(&mut self) -> Option<usize> {
        for at in 0..LANES {
            let Some(lane) = &self.lanes[at] else { continue };
            if lane.state != State::Ready || lane.spent {
                continue;
            }
            if lane.is_alive() {
                return Some(at);
            }
            self.shell_ended(at);
        }
        None
    }

    /// Tells the host that a command couldn't be started.
    pub fn refuse(&mut self, at: usize, why: &[u8]) {
        if let Some(command) = self.commands.0[at].take() {
            frame::append(&mut self.out, b'F', command.id, why);
        }
    }

    /// Tells the host how a command ended.
    pub fn answer(&mut self, at: usize, status: u32) {
        self.tell_kernel();
        if let Some(command) = self.commands.0[at].take() {
            let mut line = Line::new().text(b"status ").number(status).text(b"\n");
            if command.request.sum {
                let [input, output] = command.sums;
                line = line.text(b"sum ").hex(input.value()).text(b" ").hex(output.value()).text(b"\n");
            }
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
        let goes_on = lane.listen(|word| {
            if count < words.len() {
                words[count] = Some(word);
                count += 1;
            }
        });
        for word in words.into_iter().flatten() {
            self.hear(at, &word);
        }
        if !goes_on {
            self.shell_ended(at);
        }
    }

    fn hear(&mut self, at: usize, word: &Word) {
        let Some(lane) = &mut self.lanes[at] else { return };
        match (word, lane.state) {
            (Word::Shell(pid), _) => {
                lane.introduced(*pid);
                if let Some(stem) = &mut self.stem {
                    stem.proven = true;
                }
            }
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

    /// A lane's shell ended, by the hand of a command: what ran is killed.
    fn shell_ended(&mut self, at: usize) {
        let Some(lane) = &mut self.lanes[at] else { return };
        lane.shell = 0;
        match lane.state {
            State::Running(command) => {
                lane.signal(SIGKILL);
                lane.worker = 0;
                lane.ended(command, 128 + SIGKILL as u32);
                self.answer_if_all_sent(at);
            }
            State::Ending(..) => lane.worker = 0,
            _ => {
                lane.kill();
                // A worker that it had just forked opens its pipes by their numbers. They must not be others'
                // by then.
                if lane.state == State::Preparing {
                    self.graves[self.next_grave] = self.lanes[at].take();
                    self.next_grave = (self.next_grave + 1) % LANES;
                }
                self.lanes[at] = None;
            }
        }
    }

    /// A child of ours ended, a stem: it may not have come to fork all lanes.
    pub fn child_ended(&mut self, pid: i32) {
        for lane in &mut self.lanes {
            if let Some(lane) = lane
                && lane.is_silent()
                && lane.stem == pid
            {
                lane.lost = true;
            }
        }
        // Another may have taken its place already.
        let stem = self.stem.take_if(|stem| stem.shell == pid);
        if stem.is_some_and(|stem| !stem.proven) {
            let bash = self.bash;
            let line = Line::new().text(&bash[..bash.len() - 1]).text(b" could not be started");
            self.give_up(line.bytes());
        }
    }

    /// Whether a command waits, and a lane that was ordered has not said a word yet.
    pub fn waits_for_the_silent(&self) -> bool {
        self.commands.waiting() > 0 && self.lanes.iter().flatten().any(|lane| lane.is_silent() && !lane.lost)
    }

    /// They were killed at their birth, or the stem is stopped: others are ordered, of another stem.
    pub fn lose_the_silent(&mut self) {
        for lane in self.lanes.iter_mut().flatten() {
            lane.lost |= lane.is_silent();
        }
        if let Some(stem) = self.stem.take() {
            stem.kill();
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
        let running =
            self.commands.0.iter().flatten().filter(|command| command.phase == Phase::Running).count();
        if waiting + running > 0 {
            self.spare = 2;
        }
        self.most = self.most.max(waiting + running);
        let kept = self.most.clamp(*IDLE.start(), *IDLE.end());
        let mut idle = self
            .lanes
            .iter()
            .flatten()
            .filter(|lane| !lane.lost && !matches!(lane.state, State::Running(_) | State::Ending(..)))
            .count();
        let mut preparing =
            self.lanes.iter().flatten().filter(|lane| !lane.lost && lane.state == State::Preparing).count();
        for at in 0..LANES {
            let Some(lane) = &mut self.lanes[at] else { continue };
            if lane.state != State::Resting {
                continue;
            }
            if (idle > kept && idle > waiting)
                || (preparing < waiting.max(AT_ONCE) && lane.prepare().is_err())
            {
                lane.kill();
                self.lanes[at] = None;
                idle -= 1;
            } else if lane.state == State::Preparing {
                preparing += 1;
            }
        }
        while idle < waiting.max(self.spare) {
            let lost = |lane: &Option<Lane>| lane.as_ref().is_some_and(|lane| lane.lost);
            let free = self.lanes.iter().position(Option::is_none);
            let Some(at) = free.or_else(|| self.lanes.iter().position(lost)) else { return };
            match self.new_lane() {
                Ok(lane) => self.lanes[at] = Some(lane),
                Err(_) => {
                    if self.lanes.iter().flatten().all(|lane| lane.lost) {
                        self.give_up(b"no process or no pipe could be had for it");
                    }
                    return;
                }
            }
            idle += 1;
        }
    }

    /// Has the stem fork one; a new stem where there is none, or none any more.
    fn new_lane(&mut self) -> Result<Lane, isize> {
        if let Some(lane) = self.stem.as_ref().and_then(|stem| Lane::start(stem).ok()) {
            return Ok(lane);
        }
        let stem = Stem::start(self.bash, self.environment)?;
        Lane::start(self.stem.insert(stem))
    }
}
